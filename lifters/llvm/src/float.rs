//! Floating point with x86's results: no fast-math flags anywhere, the rounding mode is the host's current one.
//!
//! On x86-64 the plain operations are the guest's own. AArch64 differs where a result is a NaN: it prefers
//! signalling operands and its default NaN is positive, so NaN results are redone there, out of the way of
//! ordinary ones (Intel SDM vol. 1, 4.8.3.5 and table 4-7; Arm ARM, A1.5.5).
//!
//! LLVM folds an operation on constants as in round-to-nearest, with NaNs of its own and without raising flags,
//! while the guest may have chosen another rounding mode. It takes `x` for `x * 1.0`, which doesn't quiet a signalling
//! NaN, and a known NaN for any operation with it. It also drops operations whose result nothing uses, moves them to where
//! it is used, and makes quiet comparisons of signalling ones; but the guest may read the exception flags. So what can be
//! rounded, quieted or raise a flag is one of LLVM's *constrained* operations, or assembly that [`crate::ir::Ir::raising_asm`]
//! keeps in its place. Constrained operations aren't enough for sums and differences: `a + -b` still becomes `a - b`, which
//! gives a NaN `b` the other sign, and zero minus zero a positive zero, which is negative in round-down mode. Only conversions
//! that are always exact are left for folding.
//!
//! Nor are they enough where an instruction rounds by a mode of its own: LLVM 22 makes one instruction of such an operation and
//! the insertion of its result into a vector, at the insertion's place, which may be behind the change of the mode. So a region
//! that has such instructions has none of these operations.
//!
//! What LLVM may still do on x86-64: commute a multiplication of two NaNs. As assembly it would have no operand in memory,
//! which made a matrix product a seventh slower. So only its first operand goes through an empty piece of assembly, and it
//! is the second, as in the guest's code, that may stay in memory.

use inkwell::FloatPredicate;
use inkwell::values::{BasicValueEnum, FloatValue, InstructionOpcode as Op, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_abi::state::Helper;
use xlate_x86::emitter::{
    Compare, FBin, FPred, Fma, Fty, Read, Round, Rounding, Ty, VTy, fma_by_helper, vfma_by_helper,
};
use xlate_x86::interpreter::float::Operation;

use crate::emitter::Llvm;
use crate::ir::Likely;

/// An operation's name in both hosts' instructions; MIN and MAX are others on AArch64.
fn name(op: FBin) -> &'static str {
    match op {
        FBin::Add => "add",
        FBin::Sub => "sub",
        FBin::Mul => "mul",
        FBin::Div => "div",
        FBin::Min => "min",
        FBin::Max => "max",
    }
}

/// The name of a fused multiplication and addition in x86's instructions.
fn fused_name(op: Fma) -> &'static str {
    match op {
        Fma::Add => "fmadd",
        Fma::Sub => "fmsub",
        Fma::NegatedAdd => "fnmadd",
        Fma::NegatedSub => "fnmsub",
        Fma::AddSub => "fmaddsub",
        Fma::SubAdd => "fmsubadd",
    }
}

/// Constraints of assembly for a value that stays in x86-64's vector register.
const VECTOR_REGISTER: &str = "=x,0";

/// The bit that makes a NaN quiet, and the NaN that an invalid operation gives.
fn quiet_and_indefinite(ty: Fty) -> (u64, u64) {
    match ty {
        Fty::F32 => (1 << 22, 0xffc0_0000),
        Fty::F64 => (1 << 51, 0xfff8_0000_0000_0000),
    }
}

impl<'c> Llvm<'c> {
    fn float(&self, ty: Fty, v: IntValue<'c>) -> FloatValue<'c> {
        self.ir.int_to_float_bits(v, ty)
    }

    // ---- scalars -----------------------------------------------------------------------------------

    pub fn float_bin(&mut self, op: FBin, ty: Fty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let (x, y) = (self.float(ty, a), self.float(ty, b));
        let name = name(op);
        if self.arch == Arch::Aarch64 {
            if matches!(op, FBin::Min | FBin::Max) {
                let r = self.arm_extremum(op, &[x.into(), y.into()]);
                return self.ir.float_to_int_bits(r.into_float_value(), ty);
            }
            let r = self.arm_instruction(name, &[x.into(), y.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x, y]);
        }
        let r = match op {
            FBin::Mul | FBin::Div if !self.static_rounding => {
                let x = self.ir.empty_asm(x, VECTOR_REGISTER);
                self.ir.constrained(&format!("f{name}"), &[x.get_type()], &[x, y.into()])
            }
            _ => self.x86_instruction(name, &[x.into(), y.into()]),
        };
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// An instruction's suffix on x86-64, such as `sd`.
    fn x86_suffix(&self, operand: BasicValueEnum<'c>) -> String {
        let (shape, bits) = match operand {
            BasicValueEnum::VectorValue(v) => ('p', self.vec_bits(v) / v.get_type().get_size()),
            scalar => ('s', scalar.into_float_value().get_type().get_bit_width()),
        };
        format!("{shape}{}", if bits == 32 { 's' } else { 'd' })
    }

    /// An instruction of x86's with two operands, scalars or vectors that fit into a register. VEX of three bytes, for
    /// LLVM's assembler swaps the operands of what commutes but for NaNs if that saves a byte.
    fn x86_instruction(&self, name: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        self.x86_instruction_by(name, "", operands)
    }

    /// The root of a vector's lanes, by an instruction that stays in its place.
    fn x86_root(&self, operand: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let v = if self.has("avx") { "v" } else { "" };
        let text = format!("{v}sqrt{} $1, $0", self.x86_suffix(operand));
        self.ir.raising_asm(operand.get_type(), &text, "=x,x", &[operand])
    }

    /// The same with an immediate before the operands, as in `$$3, `.
    fn x86_instruction_by(&self, name: &str, by: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let suffix = self.x86_suffix(operands[0]);
        let (text, constraints) = if self.has("avx") {
            (format!("{{vex3}} v{name}{suffix} {by}$2, $1, $0"), "=x,x,x")
        } else {
            (format!("{name}{suffix} {by}$2, $0"), "=x,0,x")
        };
        self.ir.raising_asm(operands[0].get_type(), &text, constraints, operands)
    }

    /// An instruction of AArch64's on scalars or on vectors that fit into a register.
    fn arm_instruction(&self, name: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let form = self.arm_form(operands[0]);
        let places: Vec<_> = (0..=operands.len()).map(|n| form.replace('N', &n.to_string())).collect();
        let constraints = format!("=w{}", ",w".repeat(operands.len()));
        let text = format!("f{name} {}", places.join(", "));
        self.ir.raising_asm(operands[0].get_type(), &text, &constraints, operands)
    }

    /// How AArch64's assembler wants an operand of this type, N being its number.
    fn arm_form(&self, operand: BasicValueEnum<'c>) -> String {
        let letter = |bits| if bits == 32 { 's' } else { 'd' };
        match operand {
            BasicValueEnum::FloatValue(x) => format!("${{N:{}}}", letter(x.get_type().get_bit_width())),
            BasicValueEnum::VectorValue(v) => {
                let lanes = v.get_type().get_size();
                format!("$N.{lanes}{}", letter(self.vec_bits(v) / lanes))
            }
            other => unreachable!("{other:?} is no operand of floating point's"),
        }
    }

    /// All ones where the first of two operands is greater, or at least equal, or equal: AArch64's comparisons, of which the
    /// first two raise the invalid flag for any NaN, the last for signalling ones (Arm ARM, FPCompareGT and its like).
    fn arm_mask(&self, pred: FPred, a: BasicValueEnum<'c>, b: BasicValueEnum<'c>) -> (BasicValueEnum<'c>, bool) {
        match pred {
            FPred::OEQ => (self.arm_instruction("cmeq", &[a, b]), false),
            FPred::OLT => (self.arm_instruction("cmgt", &[b, a]), false),
            FPred::OLE => (self.arm_instruction("cmge", &[b, a]), false),
            FPred::UNE => (self.arm_instruction("cmeq", &[a, b]), true),
            FPred::UGE => (self.arm_instruction("cmgt", &[b, a]), true),
            FPred::UGT => (self.arm_instruction("cmge", &[b, a]), true),
            FPred::OGT => (self.arm_instruction("cmgt", &[a, b]), false),
            FPred::OGE => (self.arm_instruction("cmge", &[a, b]), false),
            FPred::ULE => (self.arm_instruction("cmgt", &[a, b]), true),
            FPred::ULT => (self.arm_instruction("cmge", &[a, b]), true),
            other => unreachable!("{other:?} is made otherwise"),
        }
    }

    /// MINSS and MAXSS, scalars or vectors that fit into a register: the second operand unless the comparison holds, which
    /// raises the invalid flag for any NaN. Where the host flushes operands, it compares the result, too, as zero, of which
    /// then nothing but the sign is left.
    fn arm_extremum(&self, op: FBin, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let text = match operands[0] {
            BasicValueEnum::VectorValue(v) => {
                let lanes = v.get_type().get_size();
                let (shape, (x, y)) =
                    (if lanes == 4 { "4s" } else { "2d" }, if op == FBin::Min { (2, 1) } else { (1, 2) });
                format!(
                    "fcmgt $0.{shape}, ${x}.{shape}, ${y}.{shape}\n\tbsl $0.16b, $1.16b, $2.16b\n\t\
                     fcmeq v31.{shape}, $0.{shape}, #0.0\n\tushr v31.{shape}, v31.{shape}, #1\n\t\
                     bic $0.16b, $0.16b, v31.16b"
                )
            }
            scalar => {
                let letter = if scalar.into_float_value().get_type().get_bit_width() == 32 { 's' } else { 'd' };
                let (condition, l) = (if op == FBin::Min { "mi" } else { "gt" }, letter);
                format!(
                    "fcmpe ${{1:{l}}}, ${{2:{l}}}\n\tfcsel ${{0:{l}}}, ${{1:{l}}}, ${{2:{l}}}, {condition}\n\t\
                     fcmeq {l}31, ${{0:{l}}}, #0.0\n\tushr d31, d31, #1\n\tbic $0.8b, $0.8b, v31.8b"
                )
            }
        };
        self.ir.raising_asm(operands[0].get_type(), &text, "=&w,w,w,~{v31},~{cc}", operands)
    }

    pub fn float_sqrt(&mut self, ty: Fty, a: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.arm_instruction("sqrt", &[x.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x]);
        }
        if self.static_rounding {
            return self.float_helper(Operation::Sqrt(ty), ty.ty(), [a, a]);
        }
        let r = self.ir.constrained("sqrt", &[x.get_type().into()], &[x.into()]);
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::fma`].
    pub fn float_fma(&mut self, op: Fma, ty: Fty, operands: [IntValue<'c>; 3]) -> IntValue<'c> {
        if !self.fuses() {
            return fma_by_helper(self, op, ty, operands.map(Into::into)).int;
        }
        let [x, y, z] = operands.map(|v| self.float(ty, v).into());
        let r = self.x86_fma(op, &[z, x, y]);
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// Whether the host has the guest's instructions.
    fn fuses(&self) -> bool {
        self.arch == Arch::X86_64 && self.has("fma")
    }

    /// The second operand times the third is added to the first; scalars or vectors that fit into a register. The form of the
    /// instruction decides between NaNs, so it is the same for all of the guest's.
    fn x86_fma(&self, op: Fma, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let text = format!("v{}231{} $3, $2, $0", fused_name(op), self.x86_suffix(operands[0]));
        self.ir.raising_asm(operands[0].get_type(), &text, "=x,0,x,x", operands)
    }

    /// The bits of AArch64's result; a NaN as x86 makes it of these operands.
    fn with_x86_nan(&mut self, ty: Fty, r: FloatValue<'c>, operands: &[FloatValue<'c>]) -> IntValue<'c> {
        let ir = &self.ir;
        if let Some(unmended) = &mut self.unmended {
            unmended.result(self.ip, r.into());
            return ir.float_to_int_bits(r, ty);
        }
        let (redo, join) = (ir.block("nan"), ir.block(""));
        let is_nan = ir.fcmp(FloatPredicate::UNO, r, r);
        ir.cond_br(is_nan, redo, join, Likely::Never);
        let from = ir.here();
        ir.at_end(redo);
        let (quiet, indefinite) = quiet_and_indefinite(ty);
        // Opaque, so that this stays off the way of ordinary results instead of becoming a chain of selections there.
        let quiet = ir.empty_asm(ir.int(ty.ty(), quiet), "=r,0").into_int_value();
        let nan = operands.iter().rev().fold(ir.int(ty.ty(), indefinite), |other, &f| {
            let is_nan = ir.fcmp(FloatPredicate::UNO, f, f);
            ir.select(is_nan, ir.op(Op::Or, ir.float_to_int_bits(f, ty), quiet), other)
        });
        let nan = self.float(ty, nan);
        ir.br(join);
        ir.at_end(join);
        let phi = ir.b.build_phi(r.get_type(), "").expect("positioned");
        phi.add_incoming(&[(&r, from), (&nan, redo)]);
        ir.float_to_int_bits(phi.as_basic_value().into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::fcompare`].
    pub fn float_compare(
        &self,
        signals: bool,
        read: Read,
        ty: Fty,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> Compare<IntValue<'c>> {
        let (x, y) = (self.float(ty, a), self.float(ty, b));
        match self.arch {
            Arch::X86_64 => self.x86_compare(signals, read, x, y),
            Arch::Aarch64 => self.arm_compare(signals, x, y),
        }
    }

    /// One comparison is made in any case: that of what is probably read. The other ones are if they are read, and raise
    /// no flag that it hasn't raised.
    fn x86_compare(&self, signals: bool, read: Read, x: FloatValue<'c>, y: FloatValue<'c>) -> Compare<IntValue<'c>> {
        let compare = |which: Option<Read>, predicate| {
            if which == Some(read) {
                self.ir.constrained_fcmp(signals, predicate, "fpexcept.strict", x, y)
            } else {
                self.ir.constrained_fcmp(false, predicate, "fpexcept.maytrap", x, y)
            }
        };
        Compare {
            carry: compare(Some(Read::Carry), "ult"),
            zero: compare(None, "ueq"),
            unordered: compare(Some(Read::Unordered), "uno"),
            above: compare(Some(Read::Above), "ogt"),
        }
    }

    /// An instruction for the exception flags; and LLVM's comparisons, which it makes as it likes.
    fn arm_compare(&self, signals: bool, x: FloatValue<'c>, y: FloatValue<'c>) -> Compare<IntValue<'c>> {
        let form = self.arm_form(x.into());
        let e = if signals { "e" } else { "" };
        let text = format!("fcmp{e} {}, {}", form.replace('N', "0"), form.replace('N', "1"));
        self.ir.raise_by_asm(&text, "w,w,~{cc}", &[x.into(), y.into()]);
        let compare = |p| self.ir.fcmp(p, x, y);
        Compare {
            carry: compare(FloatPredicate::ULT),
            zero: compare(FloatPredicate::UEQ),
            unordered: compare(FloatPredicate::UNO),
            above: compare(FloatPredicate::OGT),
        }
    }

    /// Whether the host has instructions for a comparison: before AVX, x86-64 has eight, and AArch64 none for those that
    /// signal where the others don't.
    fn compares(&self, pred: FPred) -> bool {
        let also_arms = [FPred::OGT, FPred::OGE, FPred::ULT, FPred::ULE];
        match self.arch {
            Arch::X86_64 => pred.is_legacy() || self.has("avx"),
            Arch::Aarch64 => pred.is_legacy() || also_arms.contains(&pred),
        }
    }

    /// [`xlate_x86::Emitter::fmask`].
    pub fn float_mask(&mut self, pred: FPred, ty: Fty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        if !self.compares(pred) {
            return self.float_helper(Operation::Mask(pred, ty), ty.ty(), [a, b]);
        }
        let (x, y) = (self.float(ty, a).into(), self.float(ty, b).into());
        let bits = |mask: BasicValueEnum<'c>| self.ir.float_to_int_bits(mask.into_float_value(), ty);
        if self.arch == Arch::X86_64 {
            let by = format!("$${}, ", pred.number());
            return bits(self.x86_instruction_by("cmp", &by, &[x, y]));
        }
        if matches!(pred, FPred::UNO | FPred::ORD) {
            let [x, y] = [x, y].map(|v| bits(self.arm_mask(FPred::OEQ, v, v).0));
            let ordered = self.ir.op(Op::And, x, y);
            return if pred == FPred::ORD { ordered } else { self.int_inverted(ty, ordered) };
        }
        let (mask, inverted) = self.arm_mask(pred, x, y);
        if inverted { self.int_inverted(ty, bits(mask)) } else { bits(mask) }
    }

    fn int_inverted(&self, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        self.ir.op(Op::Xor, v, self.ir.int(ty.ty(), u64::MAX))
    }

    pub fn float_resize(&mut self, from: Fty, to: Fty, v: IntValue<'c>) -> IntValue<'c> {
        if self.static_rounding && from != to {
            return self.float_helper(Operation::Convert(from, to), to.ty(), [v, v]);
        }
        let x = self.float(from, v);
        let wanted = self.ir.float_type(to);
        let r = match (from, to) {
            (Fty::F32, Fty::F64) => self.ir.constrained("fpext", &[wanted.into(), x.get_type().into()], &[x.into()]),
            (Fty::F64, Fty::F32) => self.ir.constrained("fptrunc", &[wanted.into(), x.get_type().into()], &[x.into()]),
            _ => return v,
        };
        self.ir.float_to_int_bits(r.into_float_value(), to)
    }

    /// Only 32 bits in a double are always exact.
    pub fn float_from_int(&mut self, from: Ty, to: Fty, v: IntValue<'c>) -> IntValue<'c> {
        if self.static_rounding && (from, to) != (Ty::I32, Fty::F64) {
            return self.float_helper(Operation::FromInt(from, to), to.ty(), [v, v]);
        }
        let wanted = self.ir.float_type(to);
        let r = match (from, to) {
            (Ty::I32, Fty::F64) => self.ir.cast(Op::SIToFP, v, wanted),
            _ => self.ir.constrained("sitofp", &[wanted.into(), v.get_type().into()], &[v.into()]),
        };
        self.ir.float_to_int_bits(r.into_float_value(), to)
    }

    pub fn float_convert_to_int(&self, round: Round, from: Fty, to: Ty, v: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(from, v);
        match self.arch {
            Arch::X86_64 => self.x86_convert(round, to, x),
            Arch::Aarch64 => self.arm_convert(round, from, to, x),
        }
    }

    /// x86's own conversions, as LLVM's are undefined out of range.
    fn x86_convert(&self, round: Round, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let v = if self.has("avx") { "v" } else { "" };
        let t = if round == Round::Truncate { "t" } else { "" };
        let text = format!("{v}cvt{t}{}2si $1, $0", self.x86_suffix(x.into()));
        self.ir.raising_asm(self.ir.int_type(to), &text, "=r,x", &[x.into()]).into_int_value()
    }

    /// AArch64's truncation saturates, which is x86's result but for NaNs and what is too large: those give the integer
    /// indefinite, which what is too small saturates to anyway. It raises the same flags. Where the current mode rounds,
    /// the flag for an inexact result isn't raised for what doesn't fit.
    fn arm_convert(&self, round: Round, from: Fty, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let ir = &self.ir;
        let integral = match round {
            Round::Truncate => x,
            Round::Current => self.arm_instruction("rinti", &[x.into()]).into_float_value(),
        };
        let (r, d) = (if to == Ty::I64 { 'x' } else { 'w' }, if from == Fty::F64 { 'd' } else { 's' });
        let text = format!("fcvtzs ${{0:{r}}}, ${{1:{d}}}");
        let saturated = ir.raising_asm(ir.int_type(to), &text, "=r,w", &[integral.into()]).into_int_value();
        let limit = x.get_type().const_float((1u128 << (to.bits() - 1)) as f64);
        let fits = ir.fcmp(FloatPredicate::OLT, integral, limit);
        if round == Round::Current {
            self.arm_raise_inexact(x, integral, to);
        }
        ir.select(fits, saturated, ir.int(to, 1 << (to.bits() - 1)))
    }

    /// Raises the inexact flag if `integral`, which fits into an integer, isn't `x` itself.
    fn arm_raise_inexact(&self, x: FloatValue<'c>, integral: FloatValue<'c>, to: Ty) {
        let ir = &self.ir;
        let limit = (1u128 << (to.bits() - 1)) as f64;
        let constant = |v| x.get_type().const_float(v);
        let below = ir.fcmp(FloatPredicate::OLT, integral, constant(limit));
        let above = ir.fcmp(FloatPredicate::OGE, integral, constant(-limit));
        let fits = ir.op(Op::And, below, above);
        let x = ir.b.build_select(fits, x, constant(0.0), "").expect("of one type").into_float_value();
        self.arm_instruction("rintx", &[x.into()]);
    }

    pub fn float_round(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(ty, v);
        let r = match self.arch {
            // Without SSE4.1 an x86-64 host has no instruction for it.
            Arch::X86_64 if !self.has("sse4.1") => {
                return self.float_helper(Operation::Round(mode, inexact, ty), ty.ty(), [v, v]);
            }
            Arch::X86_64 => {
                let by = format!("$${}, ", mode as u32 | if inexact { 0 } else { 8 });
                let (text, suffix) = (if self.has("avx") { "v" } else { "" }, self.x86_suffix(x.into()));
                let operands = if self.has("avx") { "$1, $1, $0" } else { "$1, $0" };
                let text = format!("{text}round{suffix} {by}{operands}");
                self.ir.raising_asm(x.get_type(), &text, "=x,x", &[x.into()])
            }
            Arch::Aarch64 => self.arm_round(mode, inexact, x),
        };
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// Only FRINTX raises the inexact flag, and it does so in every mode.
    fn arm_round(&self, mode: Rounding, inexact: bool, x: FloatValue<'c>) -> BasicValueEnum<'c> {
        let name = match mode {
            Rounding::Current if inexact => "rintx",
            Rounding::Current => "rinti",
            Rounding::Nearest => "rintn",
            Rounding::Down => "rintm",
            Rounding::Up => "rintp",
            Rounding::Zero => "rintz",
        };
        if inexact && mode != Rounding::Current {
            self.arm_instruction("rintx", &[x.into()]);
        }
        self.arm_instruction(name, &[x.into()])
    }

    /// An operation that the runtime performs.
    fn float_helper(&mut self, operation: Operation, ty: Ty, operands: [IntValue<'c>; 2]) -> IntValue<'c> {
        let wide = |v: IntValue<'c>| if v.get_type().get_bit_width() == 64 { v } else { self.ir.zext(v, Ty::I64) };
        let [a, b] = operands.map(wide);
        let request = self.ir.i64(operation.request());
        let r = self.helper(Helper::Float, &[request.into(), a.into(), b.into()]).int;
        if ty == Ty::I64 { r } else { self.ir.trunc(r, ty) }
    }

    /// Whether there is a NaN among results, scalars and lanes.
    pub fn any_nan(&self, results: &[BasicValueEnum<'c>]) -> IntValue<'c> {
        let mut scalars = Vec::new();
        let mut vectors: Vec<VectorValue<'c>> = Vec::new();
        for result in results {
            match result {
                BasicValueEnum::VectorValue(v) => match vectors.iter_mut().find(|w| w.get_type() == v.get_type()) {
                    Some(w) => *w = self.ir.vintrinsic("llvm.maximum", &[v.get_type().into()], *w, *v),
                    None => vectors.push(*v),
                },
                scalar => scalars.push(scalar.into_float_value()),
            }
        }
        scalars.extend(vectors.into_iter().map(|v| self.largest(v)));
        // A comparison looks at two.
        scalars.sort_by_key(|x| x.get_type().get_bit_width());
        let of_one_type = scalars.chunk_by(|a, b| a.get_type() == b.get_type());
        let pairs = of_one_type.flat_map(|xs| xs.chunks(2));
        let nan = |pair: &[FloatValue<'c>]| self.ir.fcmp(FloatPredicate::UNO, pair[0], pair[pair.len() - 1]);
        let any = pairs.map(nan).reduce(|a, b| self.ir.op(Op::Or, a, b));
        any.expect("a chain has an end")
    }

    // ---- lanes -------------------------------------------------------------------------------------

    fn float_lanes(&self, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.as_vec(v, self.ir.vec_type(ty))
    }

    pub fn float_lanes_bin(&mut self, op: FBin, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let (a, b) = (self.float_lanes(ty, a), self.float_lanes(ty, b));
        let name = name(op);
        match op {
            FBin::Min | FBin::Max if self.arch == Arch::Aarch64 => {
                self.in_registers(&[a, b], &|parts| self.arm_extremum(op, parts))
            }
            _ if self.arch == Arch::Aarch64 => {
                let r = self.in_registers(&[a, b], &|parts| self.arm_instruction(name, parts));
                self.lanes_with_x86_nan(ty, r, &[a, b])
            }
            FBin::Mul | FBin::Div if !self.static_rounding => {
                let a = self.in_registers(&[a], &|parts| self.ir.empty_asm(parts[0], VECTOR_REGISTER));
                let r = self.ir.constrained(&format!("f{name}"), &[a.get_type().into()], &[a.into(), b.into()]);
                r.into_vector_value()
            }
            _ => self.in_registers(&[a, b], &|parts| self.x86_instruction(name, parts)),
        }
    }

    pub fn float_lanes_sqrt(&mut self, ty: VTy, a: VectorValue<'c>) -> VectorValue<'c> {
        let a = self.float_lanes(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.in_registers(&[a], &|parts| self.arm_instruction("sqrt", parts));
            return self.lanes_with_x86_nan(ty, r, &[a]);
        }
        if self.static_rounding {
            return self.in_registers(&[a], &|parts| self.x86_root(parts[0]));
        }
        self.ir.constrained("sqrt", &[a.get_type().into()], &[a.into()]).into_vector_value()
    }

    /// [`xlate_x86::Emitter::vfma`].
    pub fn float_lanes_fma(&mut self, op: Fma, ty: VTy, operands: [VectorValue<'c>; 3]) -> VectorValue<'c> {
        // Scalars in a vector have a shape of their own, and halves are lanes of integers.
        if !self.fuses() || ty.bits < 128 || ty.lane.fty().is_none() {
            return vfma_by_helper(self, op, ty, operands);
        }
        let [x, y, z] = operands.map(|v| self.float_lanes(ty, v));
        self.in_registers(&[z, x, y], &|parts| self.x86_fma(op, parts))
    }

    /// An instruction on vectors of any width, in parts that fit into the host's registers.
    fn in_registers(
        &self,
        operands: &[VectorValue<'c>],
        instruction: &dyn Fn(&[BasicValueEnum<'c>]) -> BasicValueEnum<'c>,
    ) -> VectorValue<'c> {
        let register = if self.arch == Arch::X86_64 && self.has("avx") { 256 } else { 128 };
        if self.vec_bits(operands[0]) <= register {
            let operands: Vec<_> = operands.iter().map(|v| (*v).into()).collect();
            return instruction(&operands).into_vector_value();
        }
        let lanes = operands[0].get_type().get_size();
        let half = |from| {
            let parts: Vec<_> = operands.iter().map(|v| self.ir.shuffle(*v, *v, from..from + lanes / 2)).collect();
            self.in_registers(&parts, instruction)
        };
        let (low, high) = (half(0), half(lanes / 2));
        self.ir.shuffle(low, high, 0..lanes)
    }

    /// The largest lane; a NaN if any is one. One instruction finds it (Arm ARM, FMAXV and FMAXP).
    fn largest(&self, v: VectorValue<'c>) -> FloatValue<'c> {
        let largest = self.ir.intrinsic("llvm.vector.reduce.fmaximum", &[v.get_type().into()], &[v.into()]);
        largest.expect("a float").into_float_value()
    }

    pub fn float_lanes_cmp(&mut self, pred: FPred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        if !self.compares(pred) {
            return self.float_lanes_cmp_by_helper(pred, ty, a, b);
        }
        let (a, b) = (self.float_lanes(ty, a), self.float_lanes(ty, b));
        if self.arch == Arch::X86_64 {
            let by = format!("$${}, ", pred.number());
            return self.in_registers(&[a, b], &|parts| self.x86_instruction_by("cmp", &by, parts));
        }
        let ints = self.ir.int_vec_type(ty);
        let mask = |pred, a, b| {
            let mask = self.in_registers(&[a, b], &|parts| self.arm_mask(pred, parts[0], parts[1]).0);
            self.ir.as_vec(mask, ints)
        };
        let ones = self.ir.splat_const(ty, u64::MAX);
        let r = match pred {
            FPred::UNO | FPred::ORD => self.ir.vop(Op::And, mask(FPred::OEQ, a, a), mask(FPred::OEQ, b, b)),
            _ => mask(pred, a, b),
        };
        let inverted = matches!(pred, FPred::UNO | FPred::UNE | FPred::UGE | FPred::UGT | FPred::ULE | FPred::ULT);
        if inverted { self.ir.vop(Op::Xor, r, ones) } else { r }
    }

    fn float_lanes_cmp_by_helper(
        &mut self,
        pred: FPred,
        ty: VTy,
        a: VectorValue<'c>,
        b: VectorValue<'c>,
    ) -> VectorValue<'c> {
        let f = ty.lane.fty().expect("float lanes");
        let ints = self.ir.int_vec_type(ty);
        let (a, b) = (self.ir.as_vec(a, ints), self.ir.as_vec(b, ints));
        (0..ty.lanes()).fold(a, |r, n| {
            let operands = [a, b].map(|v| self.ir.extract(v, n).into_int_value());
            let mask = self.float_helper(Operation::Mask(pred, f), f.ty(), operands);
            self.ir.insert(r, n, BasicValueEnum::from(mask))
        })
    }

    /// As for scalars: when any lane is a NaN, all such lanes are redone.
    fn lanes_with_x86_nan(&mut self, ty: VTy, r: VectorValue<'c>, operands: &[VectorValue<'c>]) -> VectorValue<'c> {
        let ir = &self.ir;
        if let Some(unmended) = &mut self.unmended {
            unmended.result(self.ip, r.into());
            return r;
        }
        let (redo, join) = (ir.block("nan"), ir.block(""));
        let is_nan = |v| ir.vfcmp(FloatPredicate::UNO, v, v);
        let largest = self.largest(r);
        let any = ir.fcmp(FloatPredicate::UNO, largest, largest);
        ir.cond_br(any, redo, join, Likely::Never);
        let from = ir.here();
        ir.at_end(redo);
        let nans = is_nan(r);
        let f = ty.lane.fty().expect("float lanes");
        let (quiet, indefinite) = quiet_and_indefinite(f);
        let ints = ir.int_vec_type(ty);
        // As for scalars.
        let quiet = ir.empty_asm(ir.int(f.ty(), quiet), "=r,0").into_int_value();
        let quiet = ir.as_vec(self.lanes_splat(ty, quiet), ints);
        let nan = operands.iter().rev().fold(ir.splat_const(ty, indefinite), |other, &v| {
            let quieted = ir.vop(Op::Or, ir.as_vec(v, ints), quiet);
            ir.vselect(is_nan(v), quieted, other)
        });
        let nan = ir.as_vec(nan, ir.vec_type(ty));
        let fixed = ir.vselect(nans, nan, r);
        ir.br(join);
        ir.at_end(join);
        let phi = ir.b.build_phi(r.get_type(), "").expect("positioned");
        phi.add_incoming(&[(&r, from), (&fixed, redo)]);
        phi.as_basic_value().into_vector_value()
    }
}

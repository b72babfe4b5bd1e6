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

mod convert;
mod convert_lanes;
mod fma;
mod lanes;
mod nan;
mod scalar;

use inkwell::values::{BasicValueEnum, FloatValue, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_abi::state::Helper;
use xlate_x86::emitter::{FBin, FPred, Fty, Ty, VTy};
use xlate_x86::interpreter::float::Operation;

use crate::emitter::Llvm;

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

/// Constraints of assembly for a value that stays in x86-64's vector register. LLVM takes `v` for the registers that the host
/// has for this width, and `x` for the first sixteen, which are all that VEX can name.
const VECTOR_REGISTER: &str = "=v,0";

impl<'c> Llvm<'c> {
    /// The bits as a number.
    fn float(&self, ty: Fty, v: IntValue<'c>) -> FloatValue<'c> {
        self.ir.int_to_float_bits(v, ty)
    }

    /// An instruction's suffix on x86-64, such as `sd`.
    fn x86_suffix(&self, operand: BasicValueEnum<'c>) -> String {
        let (shape, bits) = match operand {
            BasicValueEnum::VectorValue(v) => ('p', self.vec_bits(v) / v.get_type().get_size()),
            scalar => ('s', scalar.into_float_value().get_type().get_bit_width()),
        };
        format!("{shape}{}", if bits == 32 { 's' } else { 'd' })
    }

    /// An instruction of x86's with two operands, scalars or vectors that fit into a register. By EVEX where it may name more
    /// registers, otherwise VEX of three bytes: LLVM's assembler would swap the operands of what commutes but for NaNs if that
    /// saves a byte.
    fn x86_instruction(&self, name: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let operand = operands[0];
        if !self.has_avx512("avx512f", self.bits(operand)) {
            return self.vex_instruction(name, "", operands);
        }
        let text = format!("{{evex}} v{name}{} $2, $1, $0", self.x86_suffix(operand));
        self.ir.raising_asm(operand.get_type(), &text, "=v,v,v", operands)
    }

    /// One that has no EVEX form of the kind, with an immediate before the operands, as in `$$3, `.
    fn vex_instruction(&self, name: &str, by: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let suffix = self.x86_suffix(operands[0]);
        let (text, constraints) = if self.has("avx") {
            (format!("{{vex3}} v{name}{suffix} {by}$2, $1, $0"), "=x,x,x")
        } else {
            (format!("{name}{suffix} {by}$2, $0"), "=x,0,x")
        };
        self.ir.raising_asm(operands[0].get_type(), &text, constraints, operands)
    }

    /// The root of a vector's lanes, by an instruction that stays in its place.
    fn x86_root(&self, operand: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let v = if self.has("avx") { "v" } else { "" };
        let text = format!("{v}sqrt{} $1, $0", self.x86_suffix(operand));
        self.ir.raising_asm(operand.get_type(), &text, "=v,v", &[operand])
    }

    fn bits(&self, operand: BasicValueEnum<'c>) -> u32 {
        match operand {
            BasicValueEnum::VectorValue(v) => self.vec_bits(v),
            scalar => scalar.into_float_value().get_type().get_bit_width(),
        }
    }

    /// An instruction of AVX-512's that gives a bit for each lane, in a mask register, which has eight bits or more.
    pub fn x86_mask(
        &self,
        lanes: u32,
        text: &str,
        constraints: &str,
        operands: &[BasicValueEnum<'c>],
    ) -> VectorValue<'c> {
        let t = self.ir.cx.bool_type().vec_type(lanes.max(8));
        let mask = self.ir.raising_asm(t, text, &format!("=k,{constraints}"), operands).into_vector_value();
        if lanes < 8 { self.ir.shuffle(mask, mask, 0..lanes) } else { mask }
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

    /// Whether the host has instructions for a comparison: before AVX, x86-64 has eight, and AArch64 none for those that
    /// signal where the others don't.
    fn compares(&self, pred: FPred) -> bool {
        let also_arms = [FPred::OGT, FPred::OGE, FPred::ULT, FPred::ULE];
        match self.arch {
            Arch::X86_64 => pred.is_legacy() || self.has("avx"),
            Arch::Aarch64 => pred.is_legacy() || also_arms.contains(&pred),
        }
    }

    /// An operation that the runtime performs.
    fn float_helper(&mut self, operation: Operation, ty: Ty, operands: [IntValue<'c>; 2]) -> IntValue<'c> {
        let wide = |v: IntValue<'c>| if v.get_type().get_bit_width() == 64 { v } else { self.ir.zext(v, Ty::I64) };
        let [a, b] = operands.map(wide);
        let request = self.ir.i64(operation.request());
        let r = self.helper(Helper::Float, &[request.into(), a.into(), b.into()]).int;
        if ty == Ty::I64 { r } else { self.ir.trunc(r, ty) }
    }

    fn float_lanes(&self, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.as_vec(v, self.ir.vec_type(ty))
    }

    /// A vector in other registers of AArch64's.
    pub fn copied(&self, v: VectorValue<'c>) -> VectorValue<'c> {
        self.in_registers(&[v], &|parts| self.ir.raising_asm(parts[0].get_type(), "mov $0.16b, $1.16b", "=w,w", parts))
    }

    /// An instruction on vectors of any width, in parts that fit into the host's registers.
    fn in_registers(
        &self,
        operands: &[VectorValue<'c>],
        instruction: &dyn Fn(&[BasicValueEnum<'c>]) -> BasicValueEnum<'c>,
    ) -> VectorValue<'c> {
        self.in_parts(self.register_bits(), operands, instruction)
    }

    /// The same in parts of at most so many bits.
    fn in_parts(
        &self,
        most: u32,
        operands: &[VectorValue<'c>],
        instruction: &dyn Fn(&[BasicValueEnum<'c>]) -> BasicValueEnum<'c>,
    ) -> VectorValue<'c> {
        if self.vec_bits(operands[0]) <= most {
            let operands: Vec<_> = operands.iter().map(|v| (*v).into()).collect();
            return instruction(&operands).into_vector_value();
        }
        let lanes = operands[0].get_type().get_size();
        let half = |from| {
            let parts: Vec<_> = operands.iter().map(|v| self.ir.shuffle(*v, *v, from..from + lanes / 2)).collect();
            self.in_parts(most, &parts, instruction)
        };
        let (low, high) = (half(0), half(lanes / 2));
        self.ir.shuffle(low, high, 0..lanes)
    }
}

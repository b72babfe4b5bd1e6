//! Floating point with x86's results: no fast-math flags anywhere, the rounding mode is the host's current one.
//!
//! On x86-64 the plain operations are the guest's own. AArch64 differs where a result is a NaN: it prefers
//! signalling operands and its default NaN is positive, so NaN results are redone there, out of the way of
//! ordinary ones (Intel SDM vol. 1, 4.8.3.5 and table 4-7; Arm ARM, A1.5.5).
//!
//! LLVM folds an operation on constants as in round-to-nearest, with NaNs of its own and without raising flags,
//! while the guest may have chosen another rounding mode. It takes `x` for `x * 1.0`, which doesn't quiet a signalling
//! NaN, and a known NaN for any operation with it. So what can be rounded or quieted is one of LLVM's *constrained*
//! operations. These aren't enough for sums and differences: `a + -b` still becomes `a - b`, which gives a NaN `b` the
//! other sign, and zero minus zero a positive zero, which is negative in round-down mode. On x86-64 both are assembly; on
//! AArch64 all operations are whose NaNs are redone. Comparisons, and conversions that are always exact, are left for folding.
//!
//! What LLVM may still do on x86-64: commute a multiplication of two NaNs. As assembly it would have no operand in memory,
//! which made a matrix product a seventh slower. So only its first operand goes through an empty piece of assembly, and it
//! is the second, as in the guest's code, that may stay in memory.

use inkwell::FloatPredicate;
use inkwell::values::{BasicValue, BasicValueEnum, FloatValue, InstructionOpcode as Op, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_abi::state::Helper;
use xlate_x86::emitter::{FBin, FPred, Fty, Round, Rounding, Ty, VTy};

use crate::emitter::Llvm;
use crate::ir::Likely;

/// An operation's name in both hosts' instructions and in LLVM's; none if AArch64's does something else.
fn name(op: FBin) -> Option<&'static str> {
    match op {
        FBin::Add => Some("add"),
        FBin::Sub => Some("sub"),
        FBin::Mul => Some("mul"),
        FBin::Div => Some("div"),
        FBin::Min | FBin::Max => None,
    }
}

/// Constraints of assembly for a value that stays in x86-64's vector register.
const VECTOR_REGISTER: &str = "=x,0";

fn predicate(p: FPred) -> FloatPredicate {
    match p {
        FPred::Oeq => FloatPredicate::OEQ,
        FPred::Olt => FloatPredicate::OLT,
        FPred::Ole => FloatPredicate::OLE,
        FPred::Une => FloatPredicate::UNE,
        FPred::Uge => FloatPredicate::UGE,
        FPred::Ugt => FloatPredicate::UGT,
        FPred::Uno => FloatPredicate::UNO,
        FPred::Ord => FloatPredicate::ORD,
    }
}

/// MINSS and MAXSS give the second operand unless the comparison holds.
fn choice(op: FBin) -> FloatPredicate {
    match op {
        FBin::Min => FloatPredicate::OLT,
        _ => FloatPredicate::OGT,
    }
}

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
        let Some(name) = name(op) else {
            let first = self.ir.fcmp(choice(op), x, y);
            let r = self.ir.b.build_select(first, x, y, "").expect("positioned");
            return self.ir.float_to_int_bits(r.into_float_value(), ty);
        };
        if self.arch == Arch::Aarch64 {
            let r = self.arm_instruction(name, &[x.into(), y.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x, y]);
        }
        let r = match op {
            FBin::Add | FBin::Sub => self.x86_instruction(name, &[x.into(), y.into()]),
            _ => {
                let x = self.ir.empty_asm(x, VECTOR_REGISTER);
                self.ir.constrained(&format!("f{name}"), &[x.get_type()], &[x, y.into()])
            }
        };
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// An instruction of x86's with two operands, scalars or vectors that fit into a register. VEX of three bytes, for
    /// LLVM's assembler swaps the operands of what commutes but for NaNs if that saves a byte.
    fn x86_instruction(&self, name: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let (shape, bits) = match operands[0] {
            BasicValueEnum::VectorValue(v) => ('p', self.vec_bits(v) / v.get_type().get_size()),
            scalar => ('s', scalar.into_float_value().get_type().get_bit_width()),
        };
        let letter = if bits == 32 { 's' } else { 'd' };
        let (text, constraints) = if self.has("avx") {
            (format!("{{vex3}} v{name}{shape}{letter} $2, $1, $0"), "=x,x,x")
        } else {
            (format!("{name}{shape}{letter} $2, $0"), "=x,0,x")
        };
        self.ir.asm(&text, constraints, operands)
    }

    /// An instruction of AArch64's on scalars or on vectors that fit into a register.
    fn arm_instruction(&self, name: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let letter = |bits| if bits == 32 { 's' } else { 'd' };
        let form = match operands[0] {
            BasicValueEnum::FloatValue(x) => format!("${{N:{}}}", letter(x.get_type().get_bit_width())),
            BasicValueEnum::VectorValue(v) => {
                let lanes = v.get_type().get_size();
                format!("$N.{lanes}{}", letter(self.vec_bits(v) / lanes))
            }
            other => unreachable!("{other:?} is no operand of floating point's"),
        };
        let places: Vec<_> = (0..=operands.len()).map(|n| form.replace('N', &n.to_string())).collect();
        let constraints = format!("=w{}", ",w".repeat(operands.len()));
        self.ir.asm(&format!("f{name} {}", places.join(", ")), &constraints, operands)
    }

    pub fn float_sqrt(&mut self, ty: Fty, a: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.arm_instruction("sqrt", &[x.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x]);
        }
        let r = self.ir.constrained("sqrt", &[x.get_type().into()], &[x.into()]);
        self.ir.float_to_int_bits(r.into_float_value(), ty)
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

    pub fn float_cmp(&self, pred: FPred, ty: Fty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.ir.fcmp(predicate(pred), self.float(ty, a), self.float(ty, b))
    }

    pub fn float_resize(&self, from: Fty, to: Fty, v: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(from, v);
        let wanted = self.ir.float_type(to);
        let r = match (from, to) {
            (Fty::F32, Fty::F64) => self.ir.cast(Op::FPExt, x, wanted),
            (Fty::F64, Fty::F32) => self.ir.constrained("fptrunc", &[wanted.into(), x.get_type().into()], &[x.into()]),
            _ => return v,
        };
        self.ir.float_to_int_bits(r.into_float_value(), to)
    }

    /// Only 32 bits in a double are always exact.
    pub fn float_from_int(&self, from: Ty, to: Fty, v: IntValue<'c>) -> IntValue<'c> {
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
            Arch::X86_64 => self.x86_convert(round, from, to, x),
            Arch::Aarch64 => self.saturating_convert(round, to, x),
        }
    }

    /// x86's own conversions, as LLVM's are undefined out of range.
    fn x86_convert(&self, round: Round, from: Fty, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let name = match (round, from, to) {
            (Round::Current, Fty::F32, Ty::I32) => "llvm.x86.sse.cvtss2si",
            (Round::Current, Fty::F32, _) => "llvm.x86.sse.cvtss2si64",
            (Round::Current, Fty::F64, Ty::I32) => "llvm.x86.sse2.cvtsd2si",
            (Round::Current, Fty::F64, _) => "llvm.x86.sse2.cvtsd2si64",
            (Round::Truncate, Fty::F32, Ty::I32) => "llvm.x86.sse.cvttss2si",
            (Round::Truncate, Fty::F32, _) => "llvm.x86.sse.cvttss2si64",
            (Round::Truncate, Fty::F64, Ty::I32) => "llvm.x86.sse2.cvttsd2si",
            (Round::Truncate, Fty::F64, _) => "llvm.x86.sse2.cvttsd2si64",
        };
        let lanes = 128 / from.ty().bits();
        let vector = self.ir.float_type(from).vec_type(lanes).get_poison();
        let vector = self.ir.insert(vector, 0, x.as_basic_value_enum());
        self.ir.intrinsic(name, &[], &[vector.into()]).expect("an integer").into_int_value()
    }

    /// The saturated result is x86's but for NaNs and what is too large: those give the integer indefinite,
    /// which what is too small saturates to anyway.
    fn saturating_convert(&self, round: Round, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let ir = &self.ir;
        let x = match round {
            Round::Truncate => x,
            Round::Current => ir.constrained("rint", &[x.get_type().into()], &[x.into()]).into_float_value(),
        };
        let limit = x.get_type().const_float((1u128 << (to.bits() - 1)) as f64);
        let fits = ir.fcmp(FloatPredicate::OLT, x, limit);
        let saturated = ir
            .intrinsic("llvm.fptosi.sat", &[ir.int_type(to).into(), x.get_type().into()], &[x.into()])
            .expect("an integer")
            .into_int_value();
        ir.select(fits, saturated, ir.int(to, 1 << (to.bits() - 1)))
    }

    /// Without SSE4.1 an x86-64 host has no instruction for it, and LLVM would call a library.
    pub fn float_round(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        if self.arch == Arch::X86_64 && !self.has("sse4.1") {
            return self.helper_round(mode, inexact, ty, v);
        }
        let x = self.float(ty, v);
        let overloads = [x.get_type().into()];
        let intrinsic = |name| self.ir.intrinsic(name, &overloads, &[x.into()]).expect("a float");
        let r = match mode {
            Rounding::Nearest => intrinsic("llvm.roundeven"),
            Rounding::Down => intrinsic("llvm.floor"),
            Rounding::Up => intrinsic("llvm.ceil"),
            Rounding::Zero => intrinsic("llvm.trunc"),
            Rounding::Current => self.ir.constrained("nearbyint", &overloads, &[x.into()]),
        };
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    fn helper_round(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        let helper = match ty {
            Fty::F32 => Helper::RoundF32,
            Fty::F64 => Helper::RoundF64,
        };
        let mode = self.ir.i64(mode as u64 | u64::from(inexact) << 3);
        let wide = if ty == Fty::F32 { self.ir.zext(v, Ty::I64) } else { v };
        let r = self.helper(helper, &[wide.into(), mode.into()]).int;
        if ty == Fty::F32 { self.ir.trunc(r, Ty::I32) } else { r }
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
        match name(op) {
            Some(name) if self.arch == Arch::Aarch64 => {
                let r = self.in_registers(&[a, b], &|parts| self.arm_instruction(name, parts));
                self.lanes_with_x86_nan(ty, r, &[a, b])
            }
            Some(name) if matches!(op, FBin::Add | FBin::Sub) => {
                self.in_registers(&[a, b], &|parts| self.x86_instruction(name, parts))
            }
            Some(name) => {
                let a = self.in_registers(&[a], &|parts| self.ir.empty_asm(parts[0], VECTOR_REGISTER));
                let r = self.ir.constrained(&format!("f{name}"), &[a.get_type().into()], &[a.into(), b.into()]);
                r.into_vector_value()
            }
            None => {
                let first = self.ir.vfcmp(choice(op), a, b);
                self.ir.vselect(first, a, b)
            }
        }
    }

    pub fn float_lanes_sqrt(&mut self, ty: VTy, a: VectorValue<'c>) -> VectorValue<'c> {
        let a = self.float_lanes(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.in_registers(&[a], &|parts| self.arm_instruction("sqrt", parts));
            return self.lanes_with_x86_nan(ty, r, &[a]);
        }
        self.ir.constrained("sqrt", &[a.get_type().into()], &[a.into()]).into_vector_value()
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

    pub fn float_lanes_cmp(&self, pred: FPred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let (a, b) = (self.float_lanes(ty, a), self.float_lanes(ty, b));
        let c = self.ir.vfcmp(predicate(pred), a, b);
        self.lanes_mask(ty, c)
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

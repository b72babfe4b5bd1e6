//! Conversions, and rounding to integral values.

use inkwell::FloatPredicate;
use inkwell::values::{BasicValueEnum, FloatValue, InstructionOpcode as Op, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Fty, Round, Rounding, Ty, VTy, round_by_lanes};
use xlate_x86::interpreter::float::Operation;

use crate::emitter::Llvm;

impl<'c> Llvm<'c> {
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
    pub(super) fn x86_convert(&self, round: Round, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let v = if self.has("avx") { "v" } else { "" };
        let t = if round == Round::Truncate { "t" } else { "" };
        let text = format!("{v}cvt{t}{}2si $1, $0", self.x86_suffix(x.into()));
        self.ir.raising_asm(self.ir.int_type(to), &text, "=r,x", &[x.into()]).into_int_value()
    }

    /// AArch64's truncation saturates, which is x86's result but for NaNs and what is too large: those give the integer
    /// indefinite, which what is too small saturates to anyway. It raises the same flags. Where the current mode rounds,
    /// the flag for an inexact result isn't raised for what doesn't fit.
    pub(super) fn arm_convert(&self, round: Round, from: Fty, to: Ty, x: FloatValue<'c>) -> IntValue<'c> {
        let ir = &self.ir;
        let integral = match round {
            Round::Truncate => x,
            Round::Current => self.arm_instruction("rinti", &[x.into()]).into_float_value(),
        };
        let (r, d) = (if to == Ty::I64 { 'x' } else { 'w' }, if from == Fty::F64 { 'd' } else { 's' });
        let text = format!("fcvtzs ${{0:{r}}}, ${{1:{d}}}");
        let saturated = ir.raising_asm(ir.int_type(to), &text, "=r,w", &[integral.into()]).into_int_value();
        let limit = x.get_type().const_float((1u128 << (to.bits() - 1)) as f64);
        let fits = self.arm_holds(FloatPredicate::OLT, integral, limit);
        if round == Round::Current {
            self.arm_raise_inexact(x, integral, to);
        }
        ir.select(fits, saturated, ir.int(to, 1 << (to.bits() - 1)))
    }

    /// Raises the inexact flag if `integral`, which fits into an integer, isn't `x` itself.
    pub(super) fn arm_raise_inexact(&self, x: FloatValue<'c>, integral: FloatValue<'c>, to: Ty) {
        let ir = &self.ir;
        let limit = (1u128 << (to.bits() - 1)) as f64;
        let constant = |v| x.get_type().const_float(v);
        let below = self.arm_holds(FloatPredicate::OLT, integral, constant(limit));
        let above = self.arm_holds(FloatPredicate::OGE, integral, constant(-limit));
        let fits = ir.op(Op::And, below, above);
        let x = ir.b.build_select(fits, x, constant(0.0), "").expect("of one type").into_float_value();
        self.arm_instruction("rintx", &[x.into()]);
    }

    pub fn float_round(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        if !self.rounds() {
            return self.float_helper(Operation::Round(mode, inexact, ty), ty.ty(), [v, v]);
        }
        let r = self.rounded(mode, inexact, self.float(ty, v).into());
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::vfround`].
    pub fn float_lanes_round(&mut self, mode: Rounding, inexact: bool, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        if !self.rounds() {
            return round_by_lanes(self, mode, inexact, ty, v);
        }
        let v = self.float_lanes(ty, v);
        self.in_registers(&[v], &|parts| self.rounded(mode, inexact, parts[0]))
    }

    /// Whether the host has instructions for it: x86-64 has them since SSE4.1.
    fn rounds(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has("sse4.1")
    }

    /// A scalar, or a vector that fits into a register.
    fn rounded(&self, mode: Rounding, inexact: bool, x: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        match self.arch {
            Arch::X86_64 => self.x86_round(mode, inexact, x),
            Arch::Aarch64 => self.arm_round(mode, inexact, x),
        }
    }

    /// VRNDSCALEPS without digits behind the point is VROUNDPS for EVEX.
    fn x86_round(&self, mode: Rounding, inexact: bool, x: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let by = mode as u32 | if inexact { 0 } else { 8 };
        let scalar = if matches!(x, BasicValueEnum::VectorValue(_)) { "" } else { "$1, " };
        let (name, scalar, constraints) = match () {
            () if self.has_avx512("avx512f", self.bits(x)) => ("vrndscale", scalar, "=v,v"),
            () if self.has("avx") => ("vround", scalar, "=x,x"),
            () => ("round", "", "=x,x"),
        };
        let text = format!("{name}{} $${by}, {scalar}$1, $0", self.x86_suffix(x));
        self.ir.raising_asm(x.get_type(), &text, constraints, &[x])
    }

    /// Only FRINTX raises the inexact flag, and it does so in every mode.
    pub(super) fn arm_round(&self, mode: Rounding, inexact: bool, x: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let name = match mode {
            Rounding::Current if inexact => "rintx",
            Rounding::Current => "rinti",
            Rounding::Nearest => "rintn",
            Rounding::Down => "rintm",
            Rounding::Up => "rintp",
            Rounding::Zero => "rintz",
        };
        if inexact && mode != Rounding::Current {
            self.arm_instruction("rintx", &[x]);
        }
        self.arm_instruction(name, &[x])
    }
}

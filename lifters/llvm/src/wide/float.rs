//! Floating-point operations that emitters don't have by name, by x86-64's instructions for them: those run in the guest's modes,
//! so their results and flags are the guest's. Each stays where it stands.

use inkwell::IntPredicate;
use inkwell::values::{BasicValueEnum, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Fma, Lane, Round, VTy};
use xlate_x86::wide::float::{Conversion, Op};

use crate::emitter::Llvm;

/// An instruction that takes each lane by itself.
struct Instruction {
    /// Without the suffix for its format.
    name: &'static str,
    /// The extension it came with for singles and doubles; halves have one for all.
    extension: &'static str,
    operands: usize,
    has_immediate: bool,
}

fn instruction(op: Op, ty: VTy) -> Option<Instruction> {
    let of = |name, extension, operands, has_immediate| Instruction { name, extension, operands, has_immediate };
    Some(match op {
        Op::RoundScaled => of("rndscale", "avx512f", 1, true),
        Op::Reduce => of("reduce", "avx512dq", 1, true),
        Op::Exponent => of("getexp", "avx512f", 1, false),
        Op::Significand => of("getmant", "avx512f", 1, true),
        Op::Scale => of("scalef", "avx512f", 2, false),
        Op::Range => of("range", "avx512dq", 2, true),
        Op::Add => of("add", "avx512f", 2, false),
        Op::Subtract => of("sub", "avx512f", 2, false),
        Op::Multiply => of("mul", "avx512f", 2, false),
        Op::Divide => of("div", "avx512f", 2, false),
        Op::Minimum => of("min", "avx512f", 2, false),
        Op::Maximum => of("max", "avx512f", 2, false),
        Op::SquareRoot => of("sqrt", "avx512f", 1, false),
        // Those of halves have names of their own.
        Op::Reciprocal => of(if ty.lane.fty().is_some() { "rcp14" } else { "rcp" }, "avx512f", 1, false),
        Op::ReciprocalRoot => of(if ty.lane.fty().is_some() { "rsqrt14" } else { "rsqrt" }, "avx512f", 1, false),
        Op::Classify => of("fpclass", "avx512dq", 1, true),
        Op::Compare => of("cmp", "avx512f", 2, true),
        _ => return None,
    })
}

/// The shape of the registers that an operation's operands are in.
fn register(ty: VTy) -> VTy {
    VTy { bits: ty.bits.max(128), ..ty }
}

/// The suffix for a format, for scalars if the shape has less than 128 bits.
fn suffix(ty: VTy) -> &'static str {
    match (ty.bits < 128, ty.lane) {
        (true, Lane::F32) => "ss",
        (true, Lane::F64) => "sd",
        (true, _) => "sh",
        (false, Lane::F32) => "ps",
        (false, Lane::F64) => "pd",
        (false, _) => "ph",
    }
}

impl<'c> Llvm<'c> {
    pub(super) fn wide_float(
        &self,
        op: Op,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<VectorValue<'c>> {
        match op {
            Op::Convert | Op::Truncate => {
                let round = if op == Op::Convert { Round::Current } else { Round::Truncate };
                return self.float_lanes_convert(Conversion::of_immediate(immediate, round), ty.lanes(), operands[0]);
            }
            _ if self.arch != Arch::X86_64 => return None,
            Op::OfHalf | Op::ToHalf | Op::ToBrain => return self.short_conversion(op, ty, operands[0], immediate),
            Op::BrainProducts => {
                let has = self.has_avx512("avx512bf16", ty.bits);
                return has.then(|| self.float_instruction(ty, "vdpbf16ps $3, $2, $0", "=v,0,v,v", operands));
            }
            Op::FixUp => return self.fix_up(ty, operands, immediate),
            Op::MultiplyAdd => return self.half_fma(Fma::ALL[usize::from(immediate)], ty, operands),
            _ => {}
        }
        self.complex_product(op, ty, operands).or_else(|| {
            let (text, operands) = self.float_text(op, ty, operands, immediate)?;
            let constraints = if operands.len() == 1 { "=v,v" } else { "=v,v,v" };
            Some(self.float_instruction(ty, &text, constraints, operands))
        })
    }

    /// The same for an operation that gives bits.
    pub(super) fn wide_float_bits(
        &self,
        op: Op,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<IntValue<'c>> {
        if self.arch != Arch::X86_64 {
            return None;
        }
        let (text, operands) = self.float_text(op, ty, operands, immediate)?;
        let constraints = if operands.len() == 1 { "v" } else { "v,v" };
        let mask = self.x86_mask(ty.lanes(), &text, constraints, &self.in_lanes(ty, operands));
        Some(self.bits_of_lanes(mask))
    }

    /// What an operation that takes each lane by itself is called, with its operands, if the host has it. The rest of a scalar's
    /// register comes from the first operand, which is zero there.
    fn float_text<'v>(
        &self,
        op: Op,
        ty: VTy,
        operands: &'v [VectorValue<'c>],
        immediate: u8,
    ) -> Option<(String, &'v [VectorValue<'c>])> {
        let i = instruction(op, ty)?;
        if !self.has_format(ty, i.extension) {
            return None;
        }
        let by = if i.has_immediate { format!("$${immediate}, ") } else { String::new() };
        let scalar = ty.bits < 128 && i.operands == 1 && op != Op::Classify;
        let sources = match i.operands {
            1 if scalar => "$1, $1",
            1 => "$1",
            _ => "$2, $1",
        };
        Some((format!("v{}{} {by}{sources}, $0", i.name, suffix(ty)), &operands[..i.operands]))
    }

    /// Whether the host has this extension for lanes of a format, halves with one of their own.
    fn has_format(&self, ty: VTy, extension: &str) -> bool {
        let extension = if ty.lane.fty().is_some() { extension } else { "avx512fp16" };
        self.has_avx512(extension, register(ty).bits)
    }

    fn in_lanes(&self, ty: VTy, operands: &[VectorValue<'c>]) -> Vec<BasicValueEnum<'c>> {
        let t = self.ir.vec_type(register(ty));
        operands.iter().map(|v| self.ir.as_vec(*v, t).into()).collect()
    }

    fn float_instruction(
        &self,
        ty: VTy,
        text: &str,
        constraints: &str,
        operands: &[VectorValue<'c>],
    ) -> VectorValue<'c> {
        let operands = self.in_lanes(ty, operands);
        self.ir.raising_asm(operands[0].get_type(), text, constraints, &operands).into_vector_value()
    }

    /// Between singles and the short formats.
    fn short_conversion(&self, op: Op, ty: VTy, v: VectorValue<'c>, immediate: u8) -> Option<VectorValue<'c>> {
        let singles = (ty.lanes() * 32).max(128);
        let has = match op {
            Op::ToBrain => self.has_avx512("avx512bf16", singles),
            _ if singles == 512 => self.has("avx512f"),
            _ => self.has("f16c"),
        };
        let text = match op {
            Op::OfHalf => "vcvtph2ps $1, $0".to_owned(),
            Op::ToHalf => format!("vcvtps2ph $${immediate}, $1, $0"),
            _ => "vcvtneps2bf16 $1, $0".to_owned(),
        };
        has.then(|| {
            let t = self.ir.vec_type(register(ty));
            self.ir.raising_asm(t, &text, "=v,v", &[v.into()]).into_vector_value()
        })
    }

    /// Exceptions are raised where the fourth operand isn't zero: in the other lanes, which nobody wants, nothing is done.
    fn fix_up(&self, ty: VTy, operands: &[VectorValue<'c>], immediate: u8) -> Option<VectorValue<'c>> {
        let &[old, v, table, raises] = operands else { unreachable!("VFIXUPIMM has four operands") };
        if !self.has_format(ty, "avx512f") {
            return None;
        }
        let text = format!("vfixupimm{} $${immediate}, $3, $2, $0", suffix(ty));
        let mut operands = self.in_lanes(ty, &[old, v, table]);
        let t = operands[0].get_type();
        let raises = self.ir.as_vec(raises, self.ir.int_vec_type(register(ty)));
        let r = if raises.is_const() {
            self.ir.raising_asm(t, &text, "=v,0,v,v", &operands)
        } else {
            operands.push(self.mask_operand(raises).into());
            self.ir.raising_asm(t, &format!("{text} {{$4}}"), "=v,0,v,v,^Yk", &operands)
        };
        let r = r.into_vector_value();
        Some(if ty.bits < 128 { self.first_lanes(ty.lane, 1, 128, r) } else { r })
    }

    /// The lanes that aren't zero, in a mask register, which has eight bits or more.
    fn mask_operand(&self, v: VectorValue<'c>) -> VectorValue<'c> {
        let mask = self.ir.vicmp(IntPredicate::NE, v, v.get_type().const_zero());
        let lanes = mask.get_type().get_size();
        if lanes >= 8 {
            return mask;
        }
        self.ir.shuffle(mask, mask.get_type().const_zero(), (0..8).map(|n| n.min(lanes)))
    }

    fn half_fma(&self, op: Fma, ty: VTy, operands: &[VectorValue<'c>]) -> Option<VectorValue<'c>> {
        let &[x, y, z] = operands else { unreachable!("a fused operation has three operands") };
        if ty.lane.fty().is_some() || !self.has_format(ty, "") {
            return None;
        }
        Some(self.x86_fma_of(op, suffix(ty), &self.in_lanes(ty, &[z, x, y])).into_vector_value())
    }

    /// Processors refuse these if the result's register is one of the factors'.
    fn complex_product(&self, op: Op, ty: VTy, operands: &[VectorValue<'c>]) -> Option<VectorValue<'c>> {
        let (name, adds) = match op {
            Op::ComplexMultiply => ("fmulc", false),
            Op::ComplexMultiplyConjugate => ("fcmulc", false),
            Op::ComplexMultiplyAdd => ("fmaddc", true),
            Op::ComplexMultiplyConjugateAdd => ("fcmaddc", true),
            _ => return None,
        };
        let &[a, b, sum] = operands else { unreachable!("all of them are given three operands") };
        if !self.has_format(ty, "") {
            return None;
        }
        let name = format!("v{name}{}", suffix(ty));
        Some(if adds {
            self.float_instruction(ty, &format!("{name} $3, $2, $0"), "=&v,0,v,v", &[sum, a, b])
        } else {
            self.float_instruction(ty, &format!("{name} $2, $1, $0"), "=&v,v,v", &[a, b])
        })
    }
}

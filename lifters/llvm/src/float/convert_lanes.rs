//! Conversions of vectors, by the host's instructions for them. Integers that don't fit are the integer indefinite (SDM vol. 1,
//! table 4-3), which AArch64's instructions saturate instead.

use inkwell::types::VectorType;
use inkwell::values::{BasicValueEnum, InstructionOpcode as Op, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{FPred, Lane, Round, VTy};
use xlate_x86::wide::float::{Conversion, Element};

use crate::emitter::Llvm;

/// An element's name in x86's instructions.
fn x86_name(element: Element) -> &'static str {
    match element {
        Element::I16 => "w",
        Element::U16 => "uw",
        Element::I32 => "dq",
        Element::U32 => "udq",
        Element::I64 => "qq",
        Element::U64 => "uqq",
        Element::Half => "ph",
        Element::Single => "ps",
        Element::Double => "pd",
    }
}

/// The extension of AVX-512 that a conversion came with; `None` if it is older.
fn extension(from: Element, to: Element) -> Option<&'static str> {
    let either = |elements: &[Element]| elements.contains(&from) || elements.contains(&to);
    match () {
        () if either(&[Element::Half]) => Some("avx512fp16"),
        () if either(&[Element::I64, Element::U64]) => Some("avx512dq"),
        () if either(&[Element::U32]) => Some("avx512f"),
        () => None,
    }
}

fn lanes_of(lane: Lane, lanes: u32) -> VTy {
    VTy { lane, bits: lanes * lane.ty().bits() }
}

impl<'c> Llvm<'c> {
    /// [`xlate_x86::Emitter::vconvert`], where the host has instructions for it.
    pub fn float_lanes_convert(&self, c: Conversion, lanes: u32, v: VectorValue<'c>) -> Option<VectorValue<'c>> {
        if (c.from, c.to) == (Element::I32, Element::Double) {
            // Always exact.
            return Some(self.cast_lanes(Op::SIToFP, c, lanes, v));
        }
        match self.arch {
            Arch::X86_64 => self.x86_convert_lanes(c, lanes, v),
            Arch::Aarch64 => self.arm_convert_lanes(c, lanes, v),
        }
    }

    /// The first lanes of a vector as one of so many bits, zeros above them.
    pub fn first_lanes(&self, lane: Lane, lanes: u32, bits: u32, v: VectorValue<'c>) -> VectorValue<'c> {
        let from = VTy { lane, bits: self.vec_bits(v) };
        let v = self.ir.as_vec(v, self.ir.vec_type(from));
        let all = bits / lane.ty().bits();
        if from.lanes() == all && lanes == all {
            return v;
        }
        let place = |n| if n < lanes { n } else { from.lanes() };
        self.ir.shuffle(v, v.get_type().const_zero(), (0..all).map(place))
    }

    /// A conversion by LLVM.
    fn cast_lanes(&self, op: Op, c: Conversion, lanes: u32, v: VectorValue<'c>) -> VectorValue<'c> {
        let source = lanes_of(c.from.lane(), lanes);
        let v = self.first_lanes(source.lane, lanes, source.bits, v);
        let to = lanes_of(c.to.lane(), lanes);
        let r = self.ir.vcast(op, v, self.ir.vec_type(to));
        self.first_lanes(to.lane, lanes, to.bits.max(128), r)
    }

    // ---- x86-64 ------------------------------------------------------------------------------------

    fn x86_convert_lanes(&self, c: Conversion, lanes: u32, v: VectorValue<'c>) -> Option<VectorValue<'c>> {
        let widest = c.from.ty().bits().max(c.to.ty().bits());
        let bits = (lanes * widest).max(128);
        if bits > self.register_bits() {
            return self.convert_halves(c, lanes, v);
        }
        if let Some(extension) = extension(c.from, c.to)
            && !self.has_avx512(extension, bits)
        {
            return None;
        }
        // Lanes of the source that the instruction converts, but nobody wants, are zeros: those raise no flags.
        let count = bits / widest;
        let source = VTy { lane: c.from.lane(), bits: (count * c.from.ty().bits()).max(128) };
        let wanted = if lanes == count { source.lanes().min(self.vec_bits(v) / c.from.ty().bits()) } else { lanes };
        let v = self.first_lanes(source.lane, wanted, source.bits, v);
        let to = VTy { lane: c.to.lane(), bits: (count * c.to.ty().bits()).max(128) };
        let text = format!("{} $1, $0", self.x86_conversion(c));
        Some(self.ir.raising_asm(self.ir.vec_type(to), &text, "=v,v", &[v.into()]).into_vector_value())
    }

    fn x86_conversion(&self, c: Conversion) -> String {
        let v = if self.has("avx") { "v" } else { "" };
        let t = if c.round == Round::Truncate { "t" } else { "" };
        // The names without it are of F16C's conversions.
        let x = if matches!((c.from, c.to), (Element::Half, Element::Single) | (Element::Single, Element::Half)) {
            "x"
        } else {
            ""
        };
        format!("{v}cvt{t}{}2{}{x}", x86_name(c.from), x86_name(c.to))
    }

    /// Each half of the lanes by itself.
    fn convert_halves(&self, c: Conversion, lanes: u32, v: VectorValue<'c>) -> Option<VectorValue<'c>> {
        let (half, from) = (lanes / 2, VTy { lane: c.from.lane(), bits: self.vec_bits(v) });
        let v = self.ir.as_vec(v, self.ir.vec_type(from));
        let low = self.float_lanes_convert(c, half, self.ir.shuffle(v, v, 0..half))?;
        let high = self.float_lanes_convert(c, half, self.ir.shuffle(v, v, half..lanes))?;
        let there = low.get_type().get_size();
        Some(self.ir.shuffle(low, high, (0..half).chain(there..there + half)))
    }

    // ---- AArch64 -----------------------------------------------------------------------------------

    fn arm_convert_lanes(&self, c: Conversion, lanes: u32, v: VectorValue<'c>) -> Option<VectorValue<'c>> {
        use Element::{Double, I32, I64, Single, U32, U64};
        let r = match (c.from, c.to) {
            // Always exact.
            (U32, Double) => self.cast_lanes(Op::UIToFP, c, lanes, v),
            (I32, Single) | (I64, Double) => self.arm_alike(c, lanes, v, &|x| self.arm_of_integers(c, "scvtf", x)),
            (U32, Single) | (U64, Double) => self.arm_alike(c, lanes, v, &|x| self.arm_of_integers(c, "ucvtf", x)),
            (Single, I32 | U32) | (Double, I64 | U64) => self.arm_alike(c, lanes, v, &|x| self.arm_to_integers(c, x)),
            (Single, I64 | U64) if lanes > 1 => {
                // A double has all digits, and is a NaN or too large where the single is.
                let doubles = self.arm_convert_lanes(Conversion { to: Double, ..c }, lanes, v)?;
                self.arm_convert_lanes(Conversion { from: Double, ..c }, lanes, doubles)?
            }
            (Single, Double) if lanes > 1 => self.arm_by_pairs(c, lanes, v, "fcvtl $0.2d, $1.2s"),
            (Double, Single) if lanes > 1 => self.arm_by_pairs(c, lanes, v, "fcvtn $0.2s, $1.2d"),
            _ => return None,
        };
        Some(r)
    }

    /// A conversion to lanes of the same width, by registers.
    fn arm_alike(
        &self,
        c: Conversion,
        lanes: u32,
        v: VectorValue<'c>,
        instruction: &dyn Fn(BasicValueEnum<'c>) -> BasicValueEnum<'c>,
    ) -> VectorValue<'c> {
        let v = self.first_lanes(c.from.lane(), lanes, lanes_of(c.from.lane(), lanes).bits.max(128), v);
        self.in_registers(&[v], &|parts| instruction(parts[0]))
    }

    fn arm_of_integers(&self, c: Conversion, name: &str, x: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let form = self.arm_form(x);
        let text = format!("{name} {}, {}", form.replace('N', "0"), form.replace('N', "1"));
        let t = self.ir.vec_type(VTy::x128(c.to.lane()));
        self.ir.raising_asm(t, &text, "=w,w", &[x])
    }

    /// As for scalars. What is unsigned saturates to the integer indefinite where it is too large, but not where it is too small.
    /// The comparisons raise flags, too, so they stay where they are.
    fn arm_to_integers(&self, c: Conversion, x: BasicValueEnum<'c>) -> BasicValueEnum<'c> {
        let (ir, to) = (&self.ir, VTy::x128(c.to.lane()));
        let integral = match c.round {
            Round::Truncate => x,
            Round::Current => self.arm_instruction("rinti", &[x]),
        };
        let name = if is_signed(c.to) { "cvtzs" } else { "cvtzu" };
        let saturated = self.integer_lanes(to, self.arm_instruction(name, &[integral]));
        if c.round == Round::Current {
            self.arm_raise_inexact_lanes(c, x, integral);
        }
        let sign = 1 << (to.lane.ty().bits() - 1);
        let (pred, than, indefinite) =
            if is_signed(c.to) { (FPred::OLT, sign as f64, sign) } else { (FPred::OGT, -1.0, u64::MAX) };
        let fits = self.integer_lanes(to, self.arm_mask(pred, integral, all(x, than)).0);
        let misfits = ir.vop(Op::Xor, fits, ir.splat_const(to, u64::MAX));
        let kept = ir.vop(Op::And, saturated, fits);
        ir.vop(Op::Or, kept, ir.vop(Op::And, misfits, ir.splat_const(to, indefinite))).into()
    }

    /// Raises the inexact flag if an `integral` number that fits isn't the one of `x` itself.
    fn arm_raise_inexact_lanes(&self, c: Conversion, x: BasicValueEnum<'c>, integral: BasicValueEnum<'c>) {
        let (ir, ty) = (&self.ir, VTy::x128(c.from.lane()));
        let limit = (1u128 << (c.to.ty().bits() - u32::from(is_signed(c.to)))) as f64;
        let least = if is_signed(c.to) { -limit } else { 0.0 };
        let below = self.integer_lanes(ty, self.arm_mask(FPred::OLT, integral, all(x, limit)).0);
        let above = self.integer_lanes(ty, self.arm_mask(FPred::OGE, integral, all(x, least)).0);
        let fits = ir.vop(Op::And, below, above);
        // Zero elsewhere.
        let x = ir.vop(Op::And, self.integer_lanes(ty, x), fits);
        self.arm_instruction("rintx", &[ir.as_vec(x, ir.vec_type(ty)).into()]);
    }

    fn integer_lanes(&self, ty: VTy, v: BasicValueEnum<'c>) -> VectorValue<'c> {
        self.ir.as_vec(v.into_vector_value(), self.ir.int_vec_type(ty))
    }

    /// Between formats, two lanes by an instruction.
    fn arm_by_pairs(&self, c: Conversion, lanes: u32, v: VectorValue<'c>, text: &str) -> VectorValue<'c> {
        let source = lanes_of(c.from.lane(), lanes);
        let v = self.first_lanes(source.lane, lanes, source.bits, v);
        let pair = self.ir.vec_type(lanes_of(c.to.lane(), 2));
        let convert = |n| {
            let x = self.ir.shuffle(v, v, n..n + 2);
            self.ir.raising_asm(pair, text, "=w,w", &[x.into()]).into_vector_value()
        };
        let r = self.joined((0..lanes).step_by(2).map(convert).collect());
        self.first_lanes(c.to.lane(), lanes, lanes_of(c.to.lane(), lanes).bits.max(128), r)
    }

    /// Vectors of one type, as many as a power of two, as one.
    fn joined(&self, mut parts: Vec<VectorValue<'c>>) -> VectorValue<'c> {
        while parts.len() > 1 {
            let join = |two: &[VectorValue<'c>]| self.ir.shuffle(two[0], two[1], 0..2 * two[0].get_type().get_size());
            parts = parts.chunks(2).map(join).collect();
        }
        parts[0]
    }
}

fn is_signed(element: Element) -> bool {
    matches!(element, Element::I16 | Element::I32 | Element::I64)
}

/// A number in all lanes of a vector like this one.
fn all<'c>(like: BasicValueEnum<'c>, number: f64) -> BasicValueEnum<'c> {
    let like = like.into_vector_value().get_type();
    let lane = like.get_element_type().into_float_type().const_float(number);
    VectorType::const_vector(&vec![lane; like.get_size() as usize]).into()
}

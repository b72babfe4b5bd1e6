//! Operations by integer lanes.

use super::{Operands, operations};
use crate::emitter::{Lane, Ty, VTy};
use crate::interpreter::{V, signed};

operations! {
    /// An operation by integer lanes.
    Op {
        /// VPSLLVD and its like: each lane by its own count; counts beyond the width give zero (or the sign).
        ShiftLeft,
        ShiftRight,
        ShiftRightSigned,
        /// VPROLVD and its like: the counts modulo the width.
        RotateLeft,
        RotateRight,
        /// VPSHLDVD and VPSHRDVD: the first operand's lanes by the third one's counts modulo the width, the second one's bits
        /// coming in.
        FunnelLeft,
        FunnelRight,
        /// VPMULTISHIFTQB: the eight bits of the second operand's quadword from the place on that the first one's byte names.
        UnalignedBytes,
        /// VPLZCNTD.
        LeadingZeros,
        /// VPOPCNTB: the bits that are set.
        Ones,
        /// VPCONFLICTD: the lower lanes that are equal.
        Conflicts,
        /// VPSHUFBITQMB, as bits: those of the first operand's quadwords that the second one's bytes name.
        SelectBits,
        /// VP2INTERSECTD, as bits: the lanes of the first operand that the second one has, too, and, from
        /// [`Self::SECOND_OF_INTERSECTION`] on, those of the second one that the first one has.
        Intersection,
        /// VDBPSADBW: sums of absolute differences of four bytes; the immediate orders the second operand's doublewords.
        SlidingDifferences,
        /// VPDPBUSD and its like: the products of the second and third operand's lanes, added up in doublewords and to the
        /// first operand. The immediate is made of [`Self::FIRST_SIGNED`] and so on.
        DotProduct,
        /// VPMADD52LUQ: the lower half of the second and third operand's product of 52 bits each, or the upper one
        /// ([`Self::UPPER_PRODUCT`]), added to the first operand.
        MultiplyAdd52,
    }
}

/// The immediates.
impl Op {
    /// The first factor is signed.
    pub const FIRST_SIGNED: u8 = 1;
    /// The second factor is signed.
    pub const SECOND_SIGNED: u8 = 2;
    /// The sum is the nearest one that there is room for: a signed one if a factor is.
    pub const SATURATED: u8 = 4;
    /// The product's upper half is wanted.
    pub const UPPER_PRODUCT: u8 = 1;
    /// The place of an intersection's second mask.
    pub const SECOND_OF_INTERSECTION: u8 = 32;
}

impl Op {
    pub fn result_bits(self, ty: VTy) -> u32 {
        ty.bits
    }

    pub fn perform(self, o: &Operands<'_>) -> V {
        match self {
            Self::ShiftLeft | Self::ShiftRight | Self::ShiftRightSigned => self.shift(o),
            Self::RotateLeft | Self::RotateRight | Self::FunnelLeft | Self::FunnelRight => self.rotate(o),
            Self::UnalignedBytes => by_quadword(o, |places, v, n| v.rotate_right(byte(places, n).into())),
            Self::LeadingZeros => each(o, |x, bits| x.leading_zeros() - (64 - bits)),
            Self::Ones => each(o, |x, _| x.count_ones()),
            Self::Conflicts => V::from_lanes(o.ty, |n| below(o, n)),
            Self::SelectBits => select_bits(o),
            Self::Intersection => intersection(o),
            Self::SlidingDifferences => sliding_differences(o),
            Self::DotProduct => dot_product(o),
            Self::MultiplyAdd52 => multiply_add_52(o),
        }
    }

    fn shift(self, o: &Operands<'_>) -> V {
        let width = u64::from(o.ty.lane.ty().bits());
        V::from_lanes(o.ty, |n| {
            let (x, count) = (o.v[0].lane(o.ty, n), o.v[1].lane(o.ty, n));
            match self {
                Self::ShiftRightSigned => (signed(o.ty.lane.ty(), x) >> count.min(width - 1)) as u64,
                _ if count >= width => 0,
                Self::ShiftLeft => x << count,
                _ => x >> count,
            }
        })
    }

    /// A rotate brings in the lane's own bits.
    fn rotate(self, o: &Operands<'_>) -> V {
        let width = u64::from(o.ty.lane.ty().bits());
        let (others, counts) = match self {
            Self::RotateLeft | Self::RotateRight => (o.v[0], o.v[1]),
            _ => (o.v[1], o.v[2]),
        };
        V::from_lanes(o.ty, |n| {
            let (x, y, count) = (o.v[0].lane(o.ty, n), others.lane(o.ty, n), counts.lane(o.ty, n) % width);
            match self {
                _ if count == 0 => x,
                Self::RotateLeft | Self::FunnelLeft => x << count | y >> (width - count),
                _ => x >> count | y << (width - count),
            }
        })
    }
}

/// One operand's lanes, of so many bits.
fn each(o: &Operands<'_>, f: impl Fn(u64, u32) -> u32) -> V {
    V::from_lanes(o.ty, |n| f(o.v[0].lane(o.ty, n), o.ty.lane.ty().bits()).into())
}

fn byte(quadword: u64, n: u32) -> u8 {
    quadword.to_le_bytes()[n as usize]
}

/// Bytes, each the low one of what the function makes of the two operands' quadwords and the byte's place in them.
fn by_quadword(o: &Operands<'_>, f: impl Fn(u64, u64, u32) -> u64) -> V {
    let quadwords = VTy { lane: Lane::I64, ..o.ty };
    V::from_lanes(VTy { lane: Lane::I8, ..o.ty }, |n| {
        let [a, b] = [0, 1].map(|operand| o.v[operand].lane(quadwords, n / 8));
        f(a, b, n % 8)
    })
}

/// The lanes before one that equal it.
fn below(o: &Operands<'_>, n: u32) -> u64 {
    let x = o.v[0].lane(o.ty, n);
    (0..n).filter(|m| o.v[0].lane(o.ty, *m) == x).map(|m| 1 << m).sum()
}

/// A vector that is the bits of a mask.
fn mask(bits: impl Iterator<Item = bool>) -> V {
    let bits = bits.enumerate().fold(0u64, |all, (n, bit)| all | u64::from(bit) << n);
    V::from_bytes(&bits.to_le_bytes())
}

fn select_bits(o: &Operands<'_>) -> V {
    let chosen = by_quadword(o, |v, places, n| v >> (byte(places, n) & 63) & 1);
    mask(chosen.0.into_iter().map(|bit| bit == 1))
}

fn intersection(o: &Operands<'_>) -> V {
    let lanes = |operand: usize| (0..o.ty.lanes()).map(move |n| o.v[operand].lane(o.ty, n));
    let common = |own: usize, other: usize| lanes(own).map(move |x| lanes(other).any(|y| x == y));
    let room = usize::from(Op::SECOND_OF_INTERSECTION);
    mask(common(0, 1).chain(core::iter::repeat(false)).take(room).chain(common(1, 0)))
}

/// In each quadword, words 0 and 1 are about its first four bytes, 2 and 3 about the others; the bytes that they are
/// compared with begin at byte 0 to 3 (SDM vol. 2, VDBPSADBW).
fn sliding_differences(o: &Operands<'_>) -> V {
    let (a, b) = (o.v[0], o.v[1]);
    let reordered = |n: u32| {
        let (block, place) = (n & !15, n & 15);
        let doubleword = o.immediate >> (place / 4 * 2) & 3;
        b.0[block as usize + usize::from(doubleword) * 4 + place as usize % 4]
    };
    V::from_lanes(VTy { lane: Lane::I16, ..o.ty }, |n| {
        let (quadword, word) = (n / 4 * 8, n % 4);
        let difference = |k: u32| a.0[(quadword + word / 2 * 4 + k) as usize].abs_diff(reordered(quadword + word + k));
        (0..4).map(|k| u64::from(difference(k))).sum()
    })
}

fn dot_product(o: &Operands<'_>) -> V {
    let factors = 32 / o.ty.lane.ty().bits();
    let number = |ty: Ty, is_signed: bool, bits: u64| if is_signed { signed(ty, bits) } else { bits as i64 };
    let [a_signed, b_signed] = [Op::FIRST_SIGNED, Op::SECOND_SIGNED].map(|flag| o.immediate & flag != 0);
    let sum_signed = a_signed || b_signed;
    let (least, most) = if sum_signed { (i32::MIN.into(), i32::MAX.into()) } else { (0, u32::MAX.into()) };
    let doublewords = VTy { lane: Lane::I32, ..o.ty };
    V::from_lanes(doublewords, |n| {
        let product = |k: u32| {
            let factor =
                |operand: usize, signed| number(o.ty.lane.ty(), signed, o.v[operand].lane(o.ty, factors * n + k));
            factor(1, a_signed) * factor(2, b_signed)
        };
        let sum = number(Ty::I32, sum_signed, o.v[0].lane(doublewords, n)) + (0..factors).map(product).sum::<i64>();
        (if o.immediate & Op::SATURATED != 0 { sum.clamp(least, most) } else { sum }) as u64
    })
}

fn multiply_add_52(o: &Operands<'_>) -> V {
    const MASK: u64 = u64::MAX >> 12;
    V::from_lanes(o.ty, |n| {
        let [sum, a, b] = [0, 1, 2].map(|operand| o.v[operand].lane(o.ty, n));
        let product = u128::from(a & MASK) * u128::from(b & MASK);
        let half = if o.immediate & Op::UPPER_PRODUCT != 0 { product >> 52 } else { product };
        sum.wrapping_add(half as u64 & MASK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn performed(op: Op, lane: Lane, v: [&[u8]; 3], immediate: u8) -> V {
        let v = v.map(V::from_bytes);
        let v = [&v[0], &v[1], &v[2], &V::ZERO];
        op.perform(&Operands { ty: VTy::x128(lane), mxcsr: 0x1f80, v, immediate })
    }

    fn doublewords<const N: usize>(v: [u32; N]) -> Vec<u8> {
        v.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn bits(v: V) -> u64 {
        v.lane(VTy::x128(Lane::I64), 0)
    }

    /// VP2INTERSECTD, which few processors have.
    #[test]
    fn intersections() {
        let (a, b) = (doublewords([7, 1, 7, 9]), doublewords([5, 7, 8, 1]));
        let both = bits(performed(Op::Intersection, Lane::I32, [&a, &b, &[]], 0));
        assert_eq!(both, 0b0111 | 0b1010 << Op::SECOND_OF_INTERSECTION);
        let both = bits(performed(Op::Intersection, Lane::I64, [&a, &a, &[]], 0));
        assert_eq!(both, 0b11 | 0b11 << Op::SECOND_OF_INTERSECTION);
    }

    /// The combinations of signs beyond VPDPBUSD's and VPDPWSSD's, which newer processors have.
    #[test]
    fn dot_products_by_signs() {
        let dot = |lane, to: u32, a: [u8; 4], b: [u8; 4], how| {
            performed(Op::DotProduct, lane, [&to.to_le_bytes(), &a, &b], how).lane(VTy::x128(Lane::I32), 0) as u32
        };
        let (a, b) = ([0xff, 2, 0, 0], [0xfe, 3, 0, 0]);
        assert_eq!(dot(Lane::I8, 10, a, b, 0), 10 + 255 * 254 + 6);
        assert_eq!(dot(Lane::I8, 10, a, b, Op::FIRST_SIGNED) as i32, 10 - 254 + 6);
        assert_eq!(dot(Lane::I8, 10, a, b, Op::SECOND_SIGNED) as i32, 10 - 2 * 255 + 6);
        assert_eq!(dot(Lane::I8, 10, a, b, Op::FIRST_SIGNED | Op::SECOND_SIGNED), 10 + 2 + 6);
        let (a, b) = ([0xff, 0xff, 2, 0], [0xfe, 0xff, 3, 0]);
        assert_eq!(dot(Lane::I16, 10, a, b, 0), 10u32.wrapping_add(0xffff * 0xfffe).wrapping_add(6));
        assert_eq!(dot(Lane::I16, 10, a, b, Op::FIRST_SIGNED) as i32, 10 - 0xfffe + 6);
        assert_eq!(dot(Lane::I16, 10, a, b, Op::SECOND_SIGNED) as i32, 10 - 2 * 0xffff + 6);
        // The nearest sum: an unsigned one if no factor is signed.
        let most = [0xff; 4];
        assert_eq!(dot(Lane::I16, 10, most, most, Op::SATURATED), u32::MAX);
        assert_eq!(dot(Lane::I8, u32::MAX - 5, most, most, Op::SATURATED), u32::MAX);
        assert_eq!(dot(Lane::I8, i32::MAX as u32, [0x7f; 4], most, Op::FIRST_SIGNED | Op::SATURATED), i32::MAX as u32);
        assert_eq!(dot(Lane::I8, i32::MIN as u32, most, most, Op::FIRST_SIGNED | Op::SATURATED), i32::MIN as u32);
        assert_eq!(dot(Lane::I16, i32::MIN as u32, most, most, Op::SECOND_SIGNED | Op::SATURATED), i32::MIN as u32);
    }
}

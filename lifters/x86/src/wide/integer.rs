//! Operations by integer lanes.

use super::{Operands, operations};
use crate::emitter::VTy;
use crate::interpreter::V;

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
        /// VPLZCNTD.
        LeadingZeros,
        /// VPOPCNTB: the bits that are set.
        Ones,
        /// VPCONFLICTD: the lower lanes that are equal.
        Conflicts,
        /// VPTERNLOGD: each bit by the immediate, at the place that the three operands' bits make.
        TernaryLogic,
    }
}

impl Op {
    pub fn result_bits(self, ty: VTy) -> u32 {
        ty.bits
    }

    pub fn perform(self, o: &Operands<'_>) -> V {
        let (ty, [a, b, c, _]) = (o.ty, o.v);
        let width = u64::from(ty.lane.ty().bits());
        let spare = 64 - width as u32;
        let each = |f: &dyn Fn(u64, u64) -> u64| V::from_lanes(ty, |n| f(a.lane(ty, n), b.lane(ty, n)));
        match self {
            Self::ShiftLeft => each(&|x, count| if count < width { x << count } else { 0 }),
            Self::ShiftRight => each(&|x, count| if count < width { x >> count } else { 0 }),
            Self::ShiftRightSigned => each(&|x, count| ((x << spare) as i64 >> spare >> count.min(width - 1)) as u64),
            Self::RotateLeft => each(&|x, count| rotated(x, width, count % width)),
            Self::RotateRight => each(&|x, count| rotated(x, width, width - count % width)),
            Self::LeadingZeros => each(&|x, _| u64::from(x.leading_zeros() - spare)),
            Self::Ones => each(&|x, _| u64::from(x.count_ones())),
            Self::Conflicts => V::from_lanes(ty, |n| {
                (0..n).filter(|below| a.lane(ty, *below) == a.lane(ty, n)).map(|below| 1 << below).sum()
            }),
            Self::TernaryLogic => V(core::array::from_fn(|n| ternary(o.immediate, [a.0[n], b.0[n], c.0[n]]))),
        }
    }
}

/// `x`, of so many bits, rotated to the left by up to its width.
fn rotated(x: u64, width: u64, count: u64) -> u64 {
    if count == 0 || count == width { x } else { x << count | x >> (width - count) }
}

fn ternary(table: u8, [a, b, c]: [u8; 3]) -> u8 {
    (0..8).filter(|place| table >> place & 1 == 1).fold(0, |r, place: u8| {
        let term = |v: u8, bit: u8| if place >> bit & 1 == 1 { v } else { !v };
        r | term(a, 2) & term(b, 1) & term(c, 0)
    })
}

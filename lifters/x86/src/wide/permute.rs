//! Operations that move lanes to where a vector or a mask tells.

use super::{Operands, operations};
use crate::emitter::{Lane, VTy};
use crate::interpreter::V;

operations! {
    /// An operation that moves lanes.
    Op {
        /// VPERMD and its like: lane `n` of the first operand is at the place that lane `n` of the second names, modulo the
        /// number of lanes.
        Permute,
        /// VPERMI2D: the same of two tables, the first and the third operand.
        PermuteTwo,
        /// VPERMILPS: the same within each 128 bits; the immediate tells from which bit of the second's lanes on.
        PermuteInBlocks,
        /// VPCOMPRESSD: the lanes of the first operand that the second's bits name, side by side, the third's lanes above.
        Compress,
        /// VPEXPANDD: the first operand's first lanes where the second's bits are set, zero elsewhere.
        Expand,
    }
}

impl Op {
    pub fn perform(self, o: &Operands<'_>) -> V {
        let (ty, [a, b, c, _]) = (o.ty, o.v);
        let lanes = ty.lanes();
        match self {
            Self::Permute => V::from_lanes(ty, |n| a.lane(ty, b.lane(ty, n) as u32 % lanes)),
            Self::PermuteTwo => V::from_lanes(ty, |n| {
                let index = b.lane(ty, n) as u32;
                let table = if index / lanes % 2 == 1 { c } else { a };
                table.lane(ty, index % lanes)
            }),
            Self::PermuteInBlocks => {
                let per_block = 128 / ty.lane.ty().bits();
                V::from_lanes(ty, |n| {
                    let index = (b.lane(ty, n) >> o.immediate) as u32;
                    a.lane(ty, n / per_block * per_block + index % per_block)
                })
            }
            Self::Compress => {
                let mut named = set_bits(b, lanes);
                V::from_lanes(ty, |n| named.next().map_or_else(|| c.lane(ty, n), |from| a.lane(ty, from)))
            }
            Self::Expand => {
                let mut r = V::ZERO;
                set_bits(b, lanes).zip(0..).for_each(|(to, from)| r.set_lane(ty, to, a.lane(ty, from)));
                r
            }
        }
    }
}

/// The places of the bits that are set among the low `lanes` of an operand.
fn set_bits(v: &V, lanes: u32) -> impl Iterator<Item = u32> {
    let bits = v.lane(VTy::x128(Lane::I64), 0);
    (0..lanes).filter(move |n| bits >> n & 1 == 1)
}

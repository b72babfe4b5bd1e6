//! Operations that move lanes to where a vector or a mask tells.

use super::{Operands, operations};
use crate::interpreter::V;

operations! {
    /// An operation that moves lanes.
    Op {
        /// VPERMD and its like: lane `n` of the first operand is at the place that lane `n` of the second names, modulo the
        /// number of lanes.
        Permute,
        /// VPERMI2D: the same of two tables, the first and the third operand.
        PermuteTwo,
    }
}

impl Op {
    pub fn perform(self, o: &Operands<'_>) -> V {
        let (ty, [table, index, high, _]) = (o.ty, o.v);
        let lanes = ty.lanes();
        let from = |index: u64| {
            let n = index as u32 % lanes;
            if self == Self::PermuteTwo && index as u32 / lanes % 2 == 1 { high.lane(ty, n) } else { table.lane(ty, n) }
        };
        V::from_lanes(ty, |n| from(index.lane(ty, n)))
    }
}

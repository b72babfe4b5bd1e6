//! Floating-point operations beyond those that every emitter has.

use super::{Operands, operations};
use crate::emitter::VTy;
use crate::interpreter::V;

operations! {
    /// A floating-point operation.
    Op {
        /// VFMADD and its like: the first operand times the second, plus the third, rounded once. The immediate's bit 0
        /// negates the product, bit 1 the third operand; bit 2 has bit 1 the other way round in odd lanes.
        MultiplyAdd,
    }
}

impl Op {
    pub fn result_bits(self, ty: VTy) -> u32 {
        ty.bits
    }

    pub fn perform(self, _o: &Operands<'_>) -> V {
        todo!("{self:?}")
    }
}

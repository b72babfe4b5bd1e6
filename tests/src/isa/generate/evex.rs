//! What EVEX adds to an instruction: opmask, zeroing, broadcast, embedded rounding and the suppression of exceptions
//! (Intel SDM vol. 2, 2.7).

use iced_x86::{EncodingKind, Instruction, OpCodeInfo, OpKind, Register, RoundingControl};

use super::super::values::Rng;
use super::registers::nth;

/// Adds what the form allows.
pub fn decorate(i: &mut Instruction, info: &OpCodeInfo, rng: &mut Rng) {
    if info.encoding() != EncodingKind::EVEX {
        return;
    }
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    if info.require_op_mask_register() || info.can_use_op_mask_register() && rng.chance(65) {
        i.set_op_mask(nth(Register::K1, rng.below(7)));
        // Memory is never zeroed.
        if info.can_use_zeroing_masking() && i.op0_kind() != OpKind::Memory && rng.chance(45) {
            i.set_zeroing_masking(true);
        }
    }
    if memory {
        i.set_is_broadcast(info.can_broadcast() && rng.chance(40));
    } else if info.can_use_rounding_control() && rng.chance(50) {
        use RoundingControl::*;
        i.set_rounding_control(rng.pick(&[RoundToNearest, RoundDown, RoundUp, RoundTowardZero]));
    } else if info.can_suppress_all_exceptions() && !info.can_use_rounding_control() && rng.chance(40) {
        i.set_suppress_all_exceptions(true);
    }
}

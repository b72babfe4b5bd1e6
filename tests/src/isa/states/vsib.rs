//! Gathers and scatters: base and indexes that mostly hit the data area, and masks that leave out those that don't.

use iced_x86::{Instruction, OpKind, Register, UsedMemory};

use super::super::arena::{DATA, DATA_LEN};
use super::super::case::State;
use super::super::values::{Rng, integer, lane, set_lane};
use super::set_register;

/// Elements may lie this far from the base's target.
const REACH: u64 = 0x380;

/// Sets base and indexes.
pub fn point(state: &mut State, i: &Instruction, m: &UsedMemory, rng: &mut Rng) {
    let segment = match m.segment() {
        Register::FS => state.fs_base,
        Register::GS => state.gs_base,
        _ => 0,
    };
    let middle = DATA + 0x400 + rng.below(DATA_LEN as u64 - 0x800);
    if m.base() != Register::None {
        set_register(state, m.base(), middle.wrapping_sub(segment).wrapping_sub(m.displacement()), rng);
    }
    let bits = m.vsib_size() as usize * 8;
    let scale = m.scale() as u64;
    // Elements that overlap, which a scatter writes in order, or all over.
    let reach = if rng.chance(25) { 4 } else { REACH / scale };
    let number = m.index().number();
    let mut lost = 0;
    for n in 0..512 / bits {
        let wild = rng.chance(3);
        let index = match rng.below(3) {
            _ if !wild => rng.below(2 * reach).wrapping_sub(reach),
            0 => integer(rng),
            // Just before the area or behind it.
            1 => (DATA + DATA_LEN as u64).wrapping_sub(middle + rng.below(8)) / scale,
            _ => (DATA.wrapping_sub(middle + rng.below(8)) as i64 / scale as i64) as u64,
        };
        set_lane(&mut state.vec[number], bits, n, index);
        lost |= u64::from(wild) << n;
    }
    if lost != 0 && rng.chance(50) {
        leave_out(state, i, lost);
    }
}

/// Clears the mask's bits of these elements.
fn leave_out(state: &mut State, i: &Instruction, lost: u64) {
    if i.has_op_mask() {
        state.k[i.op_mask().number()] &= !lost;
    } else if i.op_count() == 3 && i.op2_kind() == OpKind::Register {
        // VEX: the sign bits of the last operand.
        let bits = i.memory_size().size() * 8;
        let mask = &mut state.vec[i.op2_register().number()];
        for n in (0..512 / bits).filter(|n| lost >> n & 1 != 0) {
            let value = lane(mask, bits, n) & !(1 << (bits - 1));
            set_lane(mask, bits, n, value);
        }
    }
}

//! Memory operands of which a mask leaves out lanes: what those lanes would touch need not be there.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

use super::super::arena::{DATA, DATA_LEN};
use super::super::case::State;
use super::super::values::{Rng, lane, set_lane};

/// Where the mask is: the opmask, or the sign bits of a vector register.
enum Mask {
    Opmask(usize),
    Signs(usize),
}

fn mask(i: &Instruction) -> Option<Mask> {
    use Mnemonic::*;
    if i.has_op_mask() && i.code().op_code().encoding() == EncodingKind::EVEX {
        return Some(Mask::Opmask(i.op_mask().number()));
    }
    match i.mnemonic() {
        Vmaskmovps | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq => Some(Mask::Signs(i.op1_register().number())),
        _ => None,
    }
}

/// Across an end of the data area, in a part of the cases.
pub fn target(i: &Instruction, size: u64, rng: &mut Rng) -> Option<u64> {
    mask(i).filter(|_| rng.chance(25))?;
    let element = i.memory_size().element_size().max(1) as u64;
    let behind = rng.below(size + 1) / element * element;
    // Before the area only a store faults.
    let before = i.op0_kind() == OpKind::Memory && rng.chance(50);
    Some(if before { DATA - behind } else { DATA + DATA_LEN as u64 - behind })
}

/// In half of the cases in which the operand reaches beyond the area, leaves out just the lanes there.
pub fn keep_inside(i: &Instruction, at: u64, state: &mut State, rng: &mut Rng) {
    let Some(mask) = mask(i) else { return };
    let element = i.memory_size().element_size().max(1);
    let lanes = (i.memory_size().size() / element).min(64);
    let outside = |n: &usize| {
        let first = at.wrapping_add((n * element) as u64);
        first < DATA || first.wrapping_add(element as u64) > DATA + DATA_LEN as u64
    };
    let lost: Vec<usize> = (0..lanes).filter(outside).collect();
    if lost.is_empty() || lost.len() == lanes && i.op0_kind() != OpKind::Memory || rng.chance(50) {
        return;
    }
    match mask {
        Mask::Opmask(k) => lost.iter().for_each(|n| state.k[k] &= !(1 << n)),
        Mask::Signs(v) => {
            let bits = element * 8;
            for n in lost {
                let value = lane(&state.vec[v], bits, n) & !(1 << (bits - 1));
                set_lane(&mut state.vec[v], bits, n, value);
            }
        }
    }
}

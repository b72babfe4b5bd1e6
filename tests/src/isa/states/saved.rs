//! Areas of XSAVE and XRSTOR.

use iced_x86::{Instruction, Mnemonic};
use xlate_abi::state::{RAX, RDX};

use super::super::case::{Memory, State};
use super::super::values::{self, Rng};
use super::super::x87_states;
use super::{mxcsr, operand_address, random_bytes};

/// The components that cases have: x87, SSE, AVX, opmask and both parts of AVX-512.
const COMPONENTS: u64 = 0xe7;
/// Components that this CPU may have and no guest has: protection keys, AMX, APX. A header that names them is sound only here.
const NOT_GUESTS: u64 = 1 << 9 | 1 << 17 | 1 << 18 | 1 << 19;
/// A component that no CPU has.
const NOBODYS: u64 = 1 << 62;
/// The size of an area of all [`COMPONENTS`].
const SIZE: u64 = 2752;
/// The format's bit in XCOMP_BV (Intel SDM vol. 1, 13.4.2).
const COMPACTED: u64 = 1 << 63;

fn is_extended(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64 | Xrstor | Xrstor64)
}

/// The size of an instruction's area, if it has one whose size isn't the instruction's alone.
pub fn size(i: &Instruction) -> Option<u64> {
    is_extended(i).then_some(SIZE)
}

/// Chooses the components, and makes an area that can be restored in most cases.
pub fn relate(i: &Instruction, state: &mut State, memory: &mut Memory, rng: &mut Rng) {
    if !is_extended(i) {
        return;
    }
    state.gpr[RAX] = state.gpr[RAX] & !0xffff_ffff | values::integer(rng) & COMPONENTS;
    state.gpr[RDX] &= !0xffff_ffff;
    let Some(at) = operand_address(i, state) else { return };
    let x = x87_states::unit(rng);
    let control = [x.control.to_le_bytes(), x.status.to_le_bytes(), [x.tag, 0], x.opcode.to_le_bytes()].concat();
    let mut header = [0u64; 8];
    header[0] = rng.next_u64() & COMPONENTS;
    if rng.chance(40) {
        header[1] = COMPACTED | header[0] | rng.next_u64() & COMPONENTS;
    }
    if rng.chance(5) {
        let bit = 1 << rng.below(64);
        header[rng.below(8) as usize] |= if bit & NOT_GUESTS != 0 { NOBODYS } else { bit };
    }
    let lanes = Some(values::Lanes::Bits);
    memory.patches.push((at, random_bytes(SIZE as usize, lanes, rng)));
    memory.patches.push((at, control));
    memory.patches.push((at + 8, x.instruction.to_le_bytes().to_vec()));
    memory.patches.push((at + 16, x.operand.to_le_bytes().to_vec()));
    memory.patches.push((at + 24, mxcsr(rng).to_le_bytes().to_vec()));
    memory.patches.push((at + 512, header.iter().flat_map(|w| w.to_le_bytes()).collect()));
}

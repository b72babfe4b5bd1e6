//! Memory operands.

use iced_x86::{EncodingKind, Instruction, OpCodeOperandKind as K, OpKind, Register};

use super::super::arena;
use super::super::states::saved;
use super::super::values::{Rng, integer};
use super::registers::nth;
use super::set_kind;

/// `moffs`: an absolute address in the instruction.
pub fn offset(i: &mut Instruction, n: u32, rng: &mut Rng) {
    set_kind(i, n, OpKind::Memory);
    i.set_memory_displ_size(rng.pick(&[4, 8, 8]));
    i.set_memory_displacement64(arena::target(rng, 8, false) & 0xffff_ffff);
}

/// A ModRM memory operand of any form (Intel SDM vol. 2, tables 2-2 and 2-3).
pub fn any(i: &mut Instruction, n: u32, rng: &mut Rng) {
    set_kind(i, n, OpKind::Memory);
    // Where an area goes on that wraps round at 4 GB is left to each CPU.
    let narrow = rng.chance(12) && saved::size(i).is_none();
    let first = if narrow { Register::EAX } else { Register::RAX };
    let width = if narrow { 4 } else { 8 };
    let index = |rng: &mut Rng| loop {
        let r = rng.below(16);
        if r != 4 {
            break nth(first, r);
        }
    };
    let absolute = arena::target(rng, 16, false) & 0x7fff_ffff;
    match rng.below(10) {
        0 => {
            i.set_memory_base(if narrow { Register::EIP } else { Register::RIP });
            displace(i, width, arena::DATA + absolute % arena::DATA_LEN as u64);
        }
        1 => displace(i, width, absolute),
        2 => {
            i.set_memory_index(index(rng));
            i.set_memory_index_scale(1 << rng.below(4));
            displace(i, width, displacement32(rng));
        }
        3 | 4 => {
            i.set_memory_base(nth(first, rng.below(16)));
            i.set_memory_index(index(rng));
            i.set_memory_index_scale(1 << rng.below(4));
            displace_any(i, width, rng);
        }
        _ => {
            i.set_memory_base(nth(first, rng.below(16)));
            displace_any(i, width, rng);
        }
    }
    if narrow {
        i.set_memory_displacement64(i.memory_displacement64() & 0xffff_ffff);
    }
}

pub fn displace(i: &mut Instruction, size: u32, displacement: u64) {
    i.set_memory_displ_size(size);
    i.set_memory_displacement64(displacement);
}

fn displacement32(rng: &mut Rng) -> u64 {
    integer(rng) as i32 as u64
}

fn displace_any(i: &mut Instruction, width: u32, rng: &mut Rng) {
    match rng.below(3) {
        0 => displace(i, 0, 0),
        // EVEX counts in units of the operand's size or its elements'; what isn't a multiple gets 32 bits.
        1 if is_evex(i) => {
            let unit = rng.pick(&[1, 2, 4, 8, 16, 32, 64]);
            displace(i, 1, (integer(rng) as i8 as i64 * unit) as u64);
        }
        1 => displace(i, 1, integer(rng) as i8 as u64),
        _ => displace(i, width, displacement32(rng)),
    }
}

fn is_evex(i: &Instruction) -> bool {
    i.code().op_code().encoding() == EncodingKind::EVEX
}

/// The class of the index registers of a gather or scatter.
pub fn vector_index(kind: K) -> Option<Register> {
    Some(match kind {
        K::mem_vsib32x | K::mem_vsib64x => Register::XMM0,
        K::mem_vsib32y | K::mem_vsib64y => Register::YMM0,
        K::mem_vsib32z | K::mem_vsib64z => Register::ZMM0,
        _ => return None,
    })
}

/// A memory operand with a vector of indexes (Intel SDM vol. 2, 2.3.12). Without a base the displacement points into the
/// data area, because the indexes can't do it alone.
pub fn vsib(i: &mut Instruction, n: u32, kind: K, rng: &mut Rng) -> Option<()> {
    set_kind(i, n, OpKind::Memory);
    let narrow = rng.chance(12);
    let (first, width) = if narrow { (Register::EAX, 4) } else { (Register::RAX, 8) };
    i.set_memory_index(nth(vector_index(kind)?, rng.below(if is_evex(i) { 32 } else { 16 })));
    i.set_memory_index_scale(1 << rng.below(4));
    if rng.chance(12) {
        displace(i, width, arena::DATA + 0x400 + rng.below(0x1800));
    } else {
        i.set_memory_base(nth(first, rng.below(16)));
        displace_any(i, width, rng);
    }
    if narrow {
        i.set_memory_displacement64(i.memory_displacement64() & 0xffff_ffff);
    }
    Some(())
}

//! MMX, SSE and their successors (Intel SDM vol. 1, chapters 9 to 12), in their legacy encoding.
//!
//! One file for each chapter of the manual's instruction summary (SDM vol. 1, 5.4 to 5.10). The functions take
//! width, sources and the fate of the upper bits from the instruction ([`operands`]), so that one function
//! serves the MMX, the SSE and, as far as their meaning is the same, the VEX form.

mod compare;
mod convert;
mod data_movement;
mod float;
mod integer;
mod operands;
mod shuffle;
mod sse3;
mod sse4;
mod sse4a;
mod ssse3;
mod state;
mod strings;

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind};

use crate::emitter::Emitter;
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    if code.encoding() != EncodingKind::Legacy {
        return None;
    }
    let files = [
        data_movement::lookup::<E>,
        integer::lookup::<E>,
        shuffle::lookup::<E>,
        float::lookup::<E>,
        compare::lookup::<E>,
        convert::lookup::<E>,
        state::lookup::<E>,
        sse3::lookup::<E>,
        ssse3::lookup::<E>,
        sse4::lookup::<E>,
        sse4a::lookup::<E>,
        strings::lookup::<E>,
    ];
    files.into_iter().find_map(|file| file(code))
}

/// What a family's function is called with, for the tables.
type L<'a, 'e, E> = &'a mut Lifter<'e, E>;
type I<'a> = &'a Instruction;

/// Whether an instruction of this chapter uses the x87 unit's registers as MMX registers: CVTPI2PD and its like don't
/// where their operand is in memory.
pub fn uses_mmx(i: &Instruction) -> bool {
    let names_one = |n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm();
    (0..i.op_count()).any(names_one) || i.mnemonic() == Mnemonic::Emms
}

//! MMX, SSE, AVX and AVX-512 (Intel SDM vol. 1, chapters 9 to 15).
//!
//! The files follow the manual's instruction summary (SDM vol. 1, 5.4 to 5.10). The functions take width, sources, the write
//! mask and the fate of the upper bits from the instruction ([`operands`]), so that one function serves the MMX, the SSE and,
//! as far as their meaning is the same, the VEX and EVEX forms.

mod compare;
mod convert;
mod crypto;
mod data_movement;
mod float;
mod fma;
pub mod gather;
mod half;
mod integer;
pub mod memory;
mod narrow;
mod operands;
mod opmask;
mod parts;
mod permute;
mod products;
mod round;
mod shifts;
mod shuffle;
mod special;
mod sse3;
mod sse4;
mod sse4a;
mod ssse3;
mod state;
mod strings;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, RoundingControl};
use xlate_abi::state::Helper;

use crate::emitter::{Emitter, Rounding, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    let files = [
        data_movement::lookup::<E>,
        integer::lookup::<E>,
        shifts::lookup::<E>,
        products::lookup::<E>,
        opmask::lookup::<E>,
        shuffle::lookup::<E>,
        permute::lookup::<E>,
        parts::lookup::<E>,
        narrow::lookup::<E>,
        gather::lookup::<E>,
        crypto::lookup::<E>,
        float::lookup::<E>,
        fma::lookup::<E>,
        half::lookup::<E>,
        round::lookup::<E>,
        special::lookup::<E>,
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

/// Whether an instruction rounds as it says itself, or suppresses all exceptions.
pub fn rounds_statically(i: &Instruction) -> bool {
    i.rounding_control() != RoundingControl::None || i.suppress_all_exceptions()
}

/// Carries such an instruction out.
pub fn with_static_rounding<E: Emitter>(l: L<E>, i: I, meaning: Semantics<E>) {
    let mode = match i.rounding_control() {
        RoundingControl::RoundToNearest => Rounding::Nearest,
        RoundingControl::RoundDown => Rounding::Down,
        RoundingControl::RoundUp => Rounding::Up,
        RoundingControl::RoundTowardZero => Rounding::Zero,
        RoundingControl::None => Rounding::Current,
    };
    let mode = l.imm(Ty::I64, mode as u64);
    l.call_helper(Helper::BeginStaticRounding, &[mode]);
    meaning(l, i);
    l.call_helper(Helper::EndStaticRounding, &[]);
}

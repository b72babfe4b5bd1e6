//! Which instructions have a meaning here, and where it is written.
//!
//! Each chapter of the instruction set is a module with a `lookup` of one line an instruction; this module
//! asks them in turn. `None` means "not implemented": such an instruction ends its block and is reported by
//! name, bytes and address.

use iced_x86::{Code, Instruction};

use crate::emitter::Emitter;
use crate::lifter::Lifter;
use crate::{arithmetic, control, data_movement, sse};

/// An instruction's meaning for one engine.
pub type Semantics<E> = fn(&mut Lifter<'_, E>, &Instruction);

/// The meaning of an instruction code, if it is implemented.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    let chapters = [data_movement::lookup::<E>, arithmetic::lookup::<E>, control::lookup::<E>, sse::lookup::<E>];
    chapters.into_iter().find_map(|chapter| chapter(code))
}

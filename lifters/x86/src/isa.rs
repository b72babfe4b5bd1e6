//! Which instructions have a meaning here, and where it is written.
//!
//! Each chapter of the instruction set is a module with a `lookup` of one line an instruction. `None` means
//! "not implemented": such an instruction ends its block and is reported by name, bytes and address.

use std::sync::OnceLock;

use iced_x86::{Code, CpuidFeature, DecoderOptions, Instruction};

use crate::emitter::Emitter;
use crate::interpreter::Interpreter;
use crate::lifter::Lifter;
use crate::{
    arithmetic, bit, control, data_movement, exchange, flag_control, logic, segments, shift, string, system, vector,
    x87, xsave,
};

/// An instruction's meaning for one engine.
pub type Semantics<E> = fn(&mut Lifter<'_, E>, &Instruction);

/// A chapter's table: the meaning of an instruction code, if the chapter has it.
type Chapter<E> = fn(Code) -> Option<Semantics<E>>;

const CHAPTERS: usize = 14;

fn chapters<E: Emitter>() -> [Chapter<E>; CHAPTERS] {
    [
        data_movement::lookup::<E>,
        exchange::lookup::<E>,
        arithmetic::lookup::<E>,
        logic::lookup::<E>,
        shift::lookup::<E>,
        bit::lookup::<E>,
        string::lookup::<E>,
        control::lookup::<E>,
        flag_control::lookup::<E>,
        system::lookup::<E>,
        segments::lookup::<E>,
        xsave::lookup::<E>,
        vector::lookup::<E>,
        x87::lookup::<E>,
    ]
}

/// The places of some chapters in the table, from its end.
const X87: u8 = CHAPTERS as u8 - 1;
const VECTOR: u8 = X87 - 1;
const SYSTEM: u8 = VECTOR - 3;

/// A code that no chapter has.
const NOT_IMPLEMENTED: u8 = u8::MAX;

/// The chapter of each instruction code. Which chapter that is doesn't depend on the emitter; the interpreter is
/// asked because it is always there.
fn chapter_of(code: Code) -> u8 {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let chapters = chapters::<Interpreter>();
        let find = |code| chapters.iter().position(|chapter| chapter(code).is_some());
        Code::values().map(|code| find(code).map_or(NOT_IMPLEMENTED, |n| n as u8)).collect()
    });
    table[code as usize]
}

/// The meaning of an instruction code, if it is implemented.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    match chapter_of(code) {
        NOT_IMPLEMENTED => None,
        n => chapters::<E>()[usize::from(n)](code),
    }
}

/// Whether an instruction raises #UD here whatever its operands are, because a program has no use of it.
pub fn is_undefined(code: Code) -> bool {
    system::is_undefined(code)
}

/// The meaning of an instruction, if it is implemented.
pub fn semantics<E: Emitter>(i: &Instruction) -> Option<Semantics<E>> {
    match chapter_of(i.code()) {
        VECTOR if vector::uses_mmx(i) => Some(after_waiting),
        VECTOR if vector::rounds_statically(i) => Some(with_static_rounding),
        _ => lookup(i.code()),
    }
}

/// MMX instructions raise pending x87 exceptions before anything else (SDM vol. 1, 9.5.1 and vol. 3, 12.4).
fn after_waiting<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    x87::wait(l);
    let meaning = lookup::<E>(i.code()).expect("it was found by its code");
    meaning(l, i);
}

/// EVEX instructions may say how they round, and then, or if they say so, raise no exceptions (SDM vol. 2, 2.7.8).
fn with_static_rounding<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let meaning = lookup::<E>(i.code()).expect("it was found by its code");
    vector::with_static_rounding(l, i, meaning);
}

/// Whether it is an instruction of the x87 chapter.
pub fn is_x87(code: Code) -> bool {
    chapter_of(code) == X87
}

/// Whether an instruction always raises an exception in a program: #GP because it is privileged, or #UD.
pub fn always_traps(code: Code) -> bool {
    // The chapter is at hand where instructions are decoded.
    chapter_of(code) == SYSTEM && (system::is_privileged(code) || system::is_undefined(code))
}

/// Whether an instruction code has a meaning; cheaper than [`lookup`].
pub fn is_implemented(code: Code) -> bool {
    chapter_of(code) != NOT_IMPLEMENTED
}

/// The feature sets, each once, that some instruction needs which isn't implemented. Codes that exist only outside 64-bit mode
/// count too unless they share their mnemonic with others; iced-x86's encoding tables know the modes, but take milliseconds to
/// build, and this is asked at every guest's start.
pub fn missing_features() -> &'static [&'static [CpuidFeature]] {
    static SETS: OnceLock<Vec<&'static [CpuidFeature]>> = OnceLock::new();
    SETS.get_or_init(|| {
        let missing = Code::values().filter(|code| !is_implemented(*code));
        // Codes of the same set share one list, and mostly stand together.
        let mut sets: Vec<_> = missing.map(Code::cpuid_features).collect();
        sets.dedup_by_key(|set| set.as_ptr());
        sets.sort_unstable_by_key(|set| set.as_ptr());
        sets.dedup_by_key(|set| set.as_ptr());
        sets
    })
}

/// Every instruction code that exists for user programs in 64-bit mode, and whether it is implemented.
pub fn codes() -> impl Iterator<Item = (Code, bool)> {
    Code::values()
        .filter(|code| {
            let info = code.op_code();
            info.is_instruction() && info.mode64() && info.cpl3() && info.decoder_option() == DecoderOptions::NONE
        })
        .map(|code| (code, is_implemented(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_are_at_their_places() {
        assert_eq!(chapter_of(Code::Hlt), SYSTEM);
        assert_eq!(chapter_of(Code::Addps_xmm_xmmm128), VECTOR);
        assert_eq!(chapter_of(Code::Fadd_m32fp), X87);
    }
}

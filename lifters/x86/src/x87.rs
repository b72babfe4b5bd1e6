//! x87: control and status (Intel SDM vol. 1, 5.2.7 and 8.1).

use core::mem::offset_of;

use iced_x86::{Code, Instruction, Mnemonic};
use xlate_abi::state::{CpuState, X87State};

use crate::emitter::{Bin, Emitter, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Fnstcw => |l, i| store_word(l, i, FCW),
        Fldcw => |l, i| {
            let v = l.read(i, 0);
            l.e.state_store(Ty::I16, FCW, v);
        },
        Fnstsw => |l, i| store_word(l, i, FSW),
        Fnclex => fnclex,
        Fninit => fninit,
        // Exceptions are only raised where they happen, so there is never one to wait for.
        Wait => |_, _| {},
        _ => return None,
    })
}

const FCW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fcw);
const FSW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fsw);
const FTW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, ftw);
const FOP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fop);
const FIP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fip);
const FDP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fdp);

fn store_word<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, field: usize) {
    let v = l.e.state_load(Ty::I16, field);
    l.write(i, 0, v);
}

/// Clears the exception flags, SF, ES and B.
fn fnclex<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let v = l.e.state_load(Ty::I16, FSW);
    let v = l.bin_imm(Bin::And, Ty::I16, v, 0x7f00);
    l.e.state_store(Ty::I16, FSW, v);
}

/// All registers empty, all exceptions masked, 64-bit precision, round to nearest (SDM vol. 2, FINIT).
fn fninit<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    for (ty, field, value) in [
        (Ty::I16, FCW, 0x037f),
        (Ty::I16, FSW, 0),
        (Ty::I8, FTW, 0),
        (Ty::I16, FOP, 0),
        (Ty::I64, FIP, 0),
        (Ty::I64, FDP, 0),
    ] {
        let v = l.imm(ty, value);
        l.e.state_store(ty, field, v);
    }
}

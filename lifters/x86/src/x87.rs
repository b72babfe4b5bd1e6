//! x87: control, status and environment (Intel SDM vol. 1, 5.2.7 and 8.1); the register stack is in [`stack`].

pub mod environment;
mod soft;
mod stack;
mod transcendental;
pub mod unit;

use core::mem::offset_of;

use iced_x86::{Code, Instruction, Mnemonic};
use xlate_abi::state::{CpuState, Helper, Trap, X87State};

use crate::emitter::{Bin, Emitter, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;
use environment::Form;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Fnstcw => |l, i| store_word(l, i, FCW),
        Fldcw => fldcw,
        Fnstsw => |l, i| store_word(l, i, FSW),
        Fnclex => fnclex,
        Fninit => fninit,
        Fnstenv | Fnsave => store_environment,
        Fldenv | Frstor => load_environment,
        Wait => |l, _| wait(l),
        // Of the 8087 and the 80287; since the 80387 they do nothing (SDM vol. 3, 23.18.6.7).
        Fneni | Fndisi | Fnsetpm => |_, _| {},
        _ => return stack::lookup(code),
    })
}

const FCW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fcw);
const FSW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fsw);
const FTW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, ftw);
const FOP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fop);
const FIP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fip);
const FDP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fdp);

/// Reserved bits of the control word (SDM vol. 1, 8.1.5): bit 6 reads as one, the others as zero.
const RESERVED_ONE: u64 = 1 << 6;
const RESERVED_ZERO: u64 = 0xe080;

/// ES in the status word.
const ERROR_SUMMARY: u32 = 7;

/// Raises #MF if an unmasked exception is pending: an instruction raises it not where it arises but before the next
/// one that waits, whatever that one's own operands would do (SDM vol. 1, 8.7).
pub fn wait<E: Emitter>(l: &mut Lifter<'_, E>) {
    let status = l.e.state_load(Ty::I16, FSW);
    let pending = l.bit(Ty::I16, status, ERROR_SUMMARY);
    l.trap_if(pending, Trap::X87);
}

/// FLDCW, by [`X87State::set_control`].
fn fldcw<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    wait(l);
    let v = l.read(i, 0);
    let v = l.bin_imm(Bin::And, Ty::I16, v, !RESERVED_ZERO);
    let fcw = l.bin_imm(Bin::Or, Ty::I16, v, RESERVED_ONE);
    l.e.state_store(Ty::I16, FCW, fcw);
    let fsw = l.e.state_load(Ty::I16, FSW);
    let unmasked = l.bin_imm(Bin::Xor, Ty::I16, fcw, X87State::EXCEPTIONS.into());
    let pending = l.bin(Bin::And, Ty::I16, fsw, unmasked);
    let pending = l.bin_imm(Bin::And, Ty::I16, pending, X87State::EXCEPTIONS.into());
    let pending = l.cmp_imm(Pred::Ne, Ty::I16, pending, 0);
    // It has waited, so nothing was pending: ES and B are clear.
    let [summary, none] = [X87State::SUMMARY, 0].map(|bits| l.imm(Ty::I16, bits.into()));
    let summary = l.e.select(Ty::I16, pending, summary, none);
    let fsw = l.bin(Bin::Or, Ty::I16, fsw, summary);
    l.e.state_store(Ty::I16, FSW, fsw);
}

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

/// The helpers' arguments: the address and the form of the memory operand.
fn area<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> [E::Val; 2] {
    use Code::*;
    let form = Form {
        narrow: matches!(i.code(), Fnstenv_m14byte | Fldenv_m14byte | Fnsave_m94byte | Frstor_m94byte),
        registers: matches!(i.mnemonic(), Mnemonic::Fnsave | Mnemonic::Frstor),
    };
    [l.ea(i), l.imm(Ty::I64, form.encode())]
}

fn store_environment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let args = area(l, i);
    l.call_helper(Helper::X87Store, &args);
}

fn load_environment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    wait(l);
    let args = area(l, i);
    l.call_helper(Helper::X87Load, &args);
}

//! Binary arithmetic (Intel SDM vol. 1, 5.1.2).

use iced_x86::{Code, Instruction, Mnemonic};

use crate::emitter::{Bin, Emitter};
use crate::isa::Semantics;
use crate::lifter::{FlagOp, Lifter, STATUS};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    Some(match code.mnemonic() {
        Mnemonic::Add => add,
        Mnemonic::Cmp => cmp,
        _ => return None,
    })
}

fn add<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 0);
    let b = l.read(i, 1);
    let r = l.bin(Bin::Add, ty, a, b);
    l.write(i, 0, r);
    l.set_flags(FlagOp::Add, ty, [a, b, r], None, STATUS);
}

fn cmp<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 0);
    let b = l.read(i, 1);
    let r = l.bin(Bin::Sub, ty, a, b);
    l.set_flags(FlagOp::Sub, ty, [a, b, r], None, STATUS);
}

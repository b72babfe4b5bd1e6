//! Logical instructions (Intel SDM vol. 1, 5.1.4) and ANDN.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use crate::emitter::{Bin, Emitter, Rmw, Ty, Un};
use crate::isa::Semantics;
use crate::lifter::{Lifter, Place};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        And => |l, i| logic(l, i, Bin::And, Rmw::And),
        Or => |l, i| logic(l, i, Bin::Or, Rmw::Or),
        Xor => |l, i| logic(l, i, Bin::Xor, Rmw::Xor),
        Not => not,
        Test => test,
        Andn => andn,
        _ => return None,
    })
}

#[inline(always)]
pub fn logic<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Bin, rmw: Rmw) {
    let ty = l.ty(i, 0);
    if op == Bin::Xor && same_register(i) {
        // The zeroing idiom depends on nothing.
        let zero = l.imm(ty, 0);
        l.write(i, 0, zero);
        return l.set_flags_logic(ty, zero);
    }
    let place = l.place(i, 0);
    let b = l.read(i, 1);
    let r = match place {
        Place::Mem(ty, addr) if i.has_lock_prefix() => {
            let old = l.atomic_rmw(rmw, ty, addr, b);
            l.bin(op, ty, old, b)
        }
        _ => {
            let a = l.get(place);
            let r = l.bin(op, ty, a, b);
            l.put(place, r);
            r
        }
    };
    l.set_flags_logic(ty, r);
}

fn same_register(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Register && i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register()
}

fn not<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let place = l.place(i, 0);
    match place {
        Place::Mem(ty, addr) if i.has_lock_prefix() => {
            let ones = l.imm(ty, u64::MAX);
            l.atomic_rmw(Rmw::Xor, ty, addr, ones);
        }
        _ => {
            let ty: Ty = l.ty(i, 0);
            let a = l.get(place);
            let r = l.e.un(Un::Not, ty, a);
            l.put(place, r);
        }
    }
}

#[inline(always)]
pub fn test<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 0);
    let r = if same_register(i) {
        a
    } else {
        let b = l.read(i, 1);
        l.bin(Bin::And, ty, a, b)
    };
    l.set_flags_logic(ty, r);
}

fn andn<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let b = l.read(i, 2);
    let not_a = l.e.un(Un::Not, ty, a);
    let r = l.bin(Bin::And, ty, not_a, b);
    l.write(i, 0, r);
    l.set_flags_logic(ty, r);
}

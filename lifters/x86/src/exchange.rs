//! Exchanges: XCHG, XADD, CMPXCHG and its wide forms (Intel SDM vol. 1, 5.1.1).

use iced_x86::{Code, Instruction, Mnemonic, Register, RflagsBits};
use xlate_abi::state::{RAX, RBX, RCX, RDX};

use crate::emitter::{Bin, CondOp, Emitter, Flag, Pred, Rmw, Ty};
use crate::isa::Semantics;
use crate::lifter::{FlagOp, Lifter, Place, STATUS};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Xchg => xchg,
        Xadd => xadd,
        Cmpxchg => cmpxchg,
        Cmpxchg8b => cmpxchg8b,
        Cmpxchg16b => cmpxchg16b,
        _ => return None,
    })
}

/// With memory it locks, prefix or not (SDM vol. 2, XCHG).
fn xchg<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let place = l.place(i, 0);
    let b = l.read(i, 1);
    let a = match place {
        Place::Mem(ty, addr) => l.atomic_rmw(Rmw::Xchg, ty, addr, b),
        Place::Reg(r) => {
            let a = l.reg(r);
            l.set_reg(r, b);
            a
        }
    };
    l.write(i, 1, a);
}

/// The old destination goes to the source first: with equal registers the sum stays (SDM vol. 2, XADD).
fn xadd<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let b = l.read(i, 1);
    let (a, r) = match place {
        Place::Mem(ty, addr) if i.has_lock_prefix() => {
            let a = l.atomic_rmw(Rmw::Add, ty, addr, b);
            let r = l.bin(Bin::Add, ty, a, b);
            l.write(i, 1, a);
            (a, r)
        }
        Place::Mem(..) => {
            let a = l.get(place);
            let r = l.bin(Bin::Add, ty, a, b);
            l.put(place, r);
            l.write(i, 1, a);
            (a, r)
        }
        Place::Reg(_) => {
            let a = l.get(place);
            let r = l.bin(Bin::Add, ty, a, b);
            l.write(i, 1, a);
            l.put(place, r);
            (a, r)
        }
    };
    l.set_flags(FlagOp::Add, ty, [a, b, r], None, STATUS);
}

fn accumulator(ty: Ty) -> Register {
    match ty {
        Ty::I8 => Register::AL,
        Ty::I16 => Register::AX,
        Ty::I32 => Register::EAX,
        Ty::I64 => Register::RAX,
    }
}

/// Memory is written even where the comparison fails (SDM vol. 2, CMPXCHG), so a read-only page faults.
fn cmpxchg<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let expected = l.reg(accumulator(ty));
    let new = l.read(i, 1);
    let old = match place {
        Place::Mem(ty, addr) if i.has_lock_prefix() => l.cmpxchg(ty, addr, expected, new),
        Place::Mem(ty, addr) => {
            let old = l.load(ty, addr);
            let equal = l.e.cmp(Pred::Eq, ty, expected, old);
            let v = l.e.select(ty, equal, new, old);
            l.store(ty, addr, v);
            old
        }
        Place::Reg(r) => {
            // Where the comparison fails, processors leave even the upper half of a 32-bit destination.
            let old = l.reg(r);
            let differs = l.e.cmp(Pred::Ne, ty, expected, old);
            set_unless(l, differs, r, new);
            old
        }
    };
    let equal = l.e.cmp(Pred::Eq, ty, expected, old);
    set_unless(l, equal, accumulator(ty), old);
    let r = l.bin(Bin::Sub, ty, expected, old);
    l.set_flags(FlagOp::Sub, ty, [expected, old, r], None, STATUS);
}

/// Writes a register where the condition doesn't hold, and leaves all 64 bits of it where it does.
fn set_unless<E: Emitter>(l: &mut Lifter<'_, E>, c: E::Cond, r: Register, v: E::Val) {
    let n = r.full_register().number();
    let before = l.e.gpr(n);
    l.set_reg(r, v);
    let after = l.e.gpr(n);
    let v = l.e.select(Ty::I64, c, before, after);
    l.e.set_gpr(n, v);
}

fn set_zf<E: Emitter>(l: &mut Lifter<'_, E>, zf: E::Cond) {
    if l.is_live(RflagsBits::ZF) {
        l.set_flag(Flag::Zf, zf);
    }
}

/// High and low registers as one 64-bit value.
fn pair<E: Emitter>(l: &mut Lifter<'_, E>, high: Register, low: Register) -> E::Val {
    let (high, low) = (l.reg(high), l.reg(low));
    let high = l.zcast(Ty::I32, Ty::I64, high);
    let low = l.zcast(Ty::I32, Ty::I64, low);
    let high = l.bin_imm(Bin::Shl, Ty::I64, high, 32);
    l.bin(Bin::Or, Ty::I64, high, low)
}

fn cmpxchg8b<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let addr = l.ea(i);
    let expected = pair(l, Register::EDX, Register::EAX);
    let new = pair(l, Register::ECX, Register::EBX);
    let old = if i.has_lock_prefix() {
        l.cmpxchg(Ty::I64, addr, expected, new)
    } else {
        let old = l.load(Ty::I64, addr);
        let equal = l.e.cmp(Pred::Eq, Ty::I64, expected, old);
        let v = l.e.select(Ty::I64, equal, new, old);
        l.store(Ty::I64, addr, v);
        old
    };
    let equal = l.e.cmp(Pred::Eq, Ty::I64, expected, old);
    let low = l.zcast(Ty::I64, Ty::I32, old);
    let high = l.bin_imm(Bin::Lshr, Ty::I64, old, 32);
    let high = l.zcast(Ty::I64, Ty::I32, high);
    set_unless(l, equal, Register::EAX, low);
    set_unless(l, equal, Register::EDX, high);
    set_zf(l, equal);
}

fn cmpxchg16b<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let addr = l.ea(i);
    let expected = [l.e.gpr(RAX), l.e.gpr(RDX)];
    let new = [l.e.gpr(RBX), l.e.gpr(RCX)];
    let old = l.cmpxchg16(addr, expected, new);
    let low = l.e.cmp(Pred::Eq, Ty::I64, expected[0], old[0]);
    let high = l.e.cmp(Pred::Eq, Ty::I64, expected[1], old[1]);
    let equal = l.e.cond_op(CondOp::And, low, high);
    l.e.set_gpr(RAX, old[0]);
    l.e.set_gpr(RDX, old[1]);
    set_zf(l, equal);
}

//! Binary arithmetic (Intel SDM vol. 1, 5.1.2): addition, subtraction, multiplication. Division is in
//! [`crate::division`].

use iced_x86::{Code, Instruction, Mnemonic, Register, RflagsBits};

use crate::emitter::{Bin, Emitter, Flag, Pred, Rmw, Ty, Un};
use crate::isa::Semantics;
use crate::lifter::{FlagOp, Lifter, Place, STATUS};
use crate::{decode, division};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Add => |l, i| add_sub(l, i, FlagOp::Add, false),
        Adc => |l, i| add_sub(l, i, FlagOp::Add, true),
        Sub => |l, i| add_sub(l, i, FlagOp::Sub, false),
        Sbb => |l, i| add_sub(l, i, FlagOp::Sub, true),
        Cmp => cmp,
        Inc => |l, i| step(l, i, FlagOp::Add),
        Dec => |l, i| step(l, i, FlagOp::Sub),
        Neg => neg,
        Adcx => |l, i| add_one_flag(l, i, Flag::Cf),
        Adox => |l, i| add_one_flag(l, i, Flag::Of),
        Mul => |l, i| mul_accumulator(l, i, false),
        Imul if is_accumulator_imul(code) => |l, i| mul_accumulator(l, i, true),
        Imul => imul,
        Mulx => mulx,
        Div => division::div,
        Idiv => division::idiv,
        _ => return None,
    })
}

fn is_accumulator_imul(code: Code) -> bool {
    matches!(code, Code::Imul_rm8 | Code::Imul_rm16 | Code::Imul_rm32 | Code::Imul_rm64)
}

fn bin_of(op: FlagOp) -> Bin {
    match op {
        FlagOp::Add => Bin::Add,
        FlagOp::Sub => Bin::Sub,
        FlagOp::Logic | FlagOp::Compare => unreachable!("arithmetic only"),
    }
}

fn rmw_of(op: FlagOp) -> Rmw {
    match op {
        FlagOp::Add => Rmw::Add,
        FlagOp::Sub => Rmw::Sub,
        FlagOp::Logic | FlagOp::Compare => unreachable!("arithmetic only"),
    }
}

/// ADD, ADC, SUB, SBB.
#[inline(always)]
pub fn add_sub<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: FlagOp, with_carry: bool) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let b = l.read(i, 1);
    let carry = with_carry.then(|| l.flag(Flag::Cf));
    let addend = match carry {
        Some(c) => {
            let c = l.e.cond_to_int(ty, c);
            l.bin(Bin::Add, ty, b, c)
        }
        None => b,
    };
    let (a, r) = update(l, i, place, op, ty, addend);
    l.set_flags(op, ty, [a, b, r], carry, STATUS);
}

/// `place op= addend`, atomically under LOCK; gives the old value and the new one.
#[inline(always)]
fn update<E: Emitter>(
    l: &mut Lifter<'_, E>,
    i: &Instruction,
    place: Place<E>,
    op: FlagOp,
    ty: Ty,
    addend: E::Val,
) -> (E::Val, E::Val) {
    match place {
        Place::Mem(ty, addr) if i.has_lock_prefix() => {
            let a = l.atomic_rmw(rmw_of(op), ty, addr, addend);
            (a, l.bin(bin_of(op), ty, a, addend))
        }
        _ => {
            let a = l.get(place);
            let r = l.bin(bin_of(op), ty, a, addend);
            l.put(place, r);
            (a, r)
        }
    }
}

#[inline(always)]
pub fn cmp<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 0);
    let b = l.read(i, 1);
    let r = l.bin(Bin::Sub, ty, a, b);
    l.set_flags(FlagOp::Sub, ty, [a, b, r], None, STATUS);
}

/// INC and DEC leave CF.
fn step<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: FlagOp) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let one = l.imm(ty, 1);
    let (a, r) = update(l, i, place, op, ty, one);
    l.set_flags_but_carry(op, ty, [a, one, r], |l| l.flag(Flag::Cf));
}

fn neg<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let zero = l.imm(ty, 0);
    let a = l.get(place);
    let r = l.e.un(Un::Neg, ty, a);
    if !decode::retries(i) {
        l.put(place, r);
        return l.set_flags(FlagOp::Sub, ty, [zero, a, r], None, STATUS);
    }
    // No read-modify-write negates: one attempt, and the block goes to itself where another thread came between.
    let Place::Mem(ty, addr) = place else {
        unreachable!("LOCK has a memory operand");
    };
    let seen = l.cmpxchg(ty, addr, a, r);
    l.set_flags(FlagOp::Sub, ty, [zero, a, r], None, STATUS);
    let failed = l.e.cmp(Pred::Ne, ty, seen, a);
    l.branch(failed, i.ip(), i.next_ip());
}

/// ADCX and ADOX: addition with carry in and out through one flag.
fn add_one_flag<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, flag: Flag) {
    let ty = l.ty(i, 0);
    let b = l.read(i, 1);
    let a = l.read(i, 0);
    let carry = l.flag(flag);
    let sum = l.bin(Bin::Add, ty, a, b);
    let c = l.e.cond_to_int(ty, carry);
    let r = l.bin(Bin::Add, ty, sum, c);
    l.write(i, 0, r);
    let out = l.carry_out(ty, a, r, carry);
    l.set_flag(flag, out);
}

/// The accumulator, its extension, and both together for AX.
fn accumulator(ty: Ty) -> (Register, Register) {
    match ty {
        Ty::I8 => (Register::AL, Register::AH),
        Ty::I16 => (Register::AX, Register::DX),
        Ty::I32 => (Register::EAX, Register::EDX),
        Ty::I64 => (Register::RAX, Register::RDX),
    }
}

/// MUL and IMUL of the accumulator: the full product into rDX:rAX.
fn mul_accumulator<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, signed: bool) {
    let ty = l.ty(i, 0);
    let (low_reg, high_reg) = accumulator(ty);
    let b = l.read(i, 0);
    let a = l.reg(low_reg);
    let (low, high) = l.e.mul_wide(signed, ty, a, b);
    l.set_reg(low_reg, low);
    l.set_reg(high_reg, high);
    set_product_flags(l, ty, low, high, signed);
}

/// CF and OF where the high half says more than the low one; the others are undefined.
fn set_product_flags<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, low: E::Val, high: E::Val, signed: bool) {
    if !l.is_live(RflagsBits::CF | RflagsBits::OF) {
        return;
    }
    let plain = if signed { l.bin_imm(Bin::Ashr, ty, low, u64::from(ty.bits()) - 1) } else { l.imm(ty, 0) };
    let wide = l.e.cmp(Pred::Ne, ty, high, plain);
    l.set_flag(Flag::Cf, wide);
    l.set_flag(Flag::Of, wide);
}

/// IMUL with two or three operands: the product cut to the operand size.
fn imul<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let first = i.op_count() - 2;
    let a = l.read(i, first);
    let b = l.read(i, first + 1);
    if !l.is_live(RflagsBits::CF | RflagsBits::OF) {
        let r = l.bin(Bin::Mul, ty, a, b);
        return l.write(i, 0, r);
    }
    let (low, high) = l.e.mul_wide(true, ty, a, b);
    l.write(i, 0, low);
    set_product_flags(l, ty, low, high, true);
}

/// The high half wins where both destinations are the same register (SDM vol. 2, MULX).
fn mulx<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let b = l.read(i, 2);
    let a = l.reg(accumulator(ty).1);
    let (low, high) = l.e.mul_wide(false, ty, a, b);
    l.write(i, 1, low);
    l.write(i, 0, high);
}

//! DIV and IDIV (Intel SDM vol. 2): #DE where the divisor is zero or the quotient doesn't fit.
//!
//! The dividend has twice the operand's width. Up to 32 bits that is one 64-bit division. The 64-bit forms divide
//! 128 bits by a helper only where the high half isn't a plain extension of the low one, which compilers
//! never produce outside of multi-precision arithmetic: after `xor edx, edx` or `cqo` the test folds away.

use iced_x86::{Instruction, Register};
use xlate_abi::state::{Helper, RAX, RDX, Trap};

use crate::emitter::{Bin, CondOp, Emitter, Pred, Ty, Un};
use crate::lifter::Lifter;

pub fn div<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let divisor = l.read(i, 0);
    trap_on_zero(l, ty, divisor);
    if ty == Ty::I64 {
        return div64(l, divisor);
    }
    let (wide, dividend) = dividend(l, ty, false);
    let divisor = l.zcast(ty, wide, divisor);
    let q = l.bin(Bin::Udiv, wide, dividend, divisor);
    let too_big = l.cmp_imm(Pred::Ugt, wide, q, ty.mask());
    l.trap_if(too_big, Trap::Divide);
    let r = l.bin(Bin::Urem, wide, dividend, divisor);
    set_results(l, ty, wide, q, r);
}

pub fn idiv<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let divisor = l.read(i, 0);
    trap_on_zero(l, ty, divisor);
    if ty == Ty::I64 {
        return idiv64(l, divisor);
    }
    let (wide, dividend) = dividend(l, ty, true);
    let divisor = l.scast(ty, wide, divisor);
    if ty == Ty::I32 {
        trap_on_overflow(l, wide, dividend, divisor);
    }
    let q = l.bin(Bin::Sdiv, wide, dividend, divisor);
    let low = l.zcast(wide, ty, q);
    let fits = l.scast(ty, wide, low);
    let too_big = l.e.cmp(Pred::Ne, wide, q, fits);
    l.trap_if(too_big, Trap::Divide);
    let r = l.bin(Bin::Srem, wide, dividend, divisor);
    set_results(l, ty, wide, q, r);
}

fn trap_on_zero<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, divisor: E::Val) {
    let zero = l.cmp_imm(Pred::Eq, ty, divisor, 0);
    l.trap_if(zero, Trap::Divide);
}

/// The one quotient that `ty` can't hold: that of its smallest value and -1.
fn trap_on_overflow<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, dividend: E::Val, divisor: E::Val) {
    let smallest = l.cmp_imm(Pred::Eq, ty, dividend, 1 << (ty.bits() - 1));
    let minus_one = l.cmp_imm(Pred::Eq, ty, divisor, u64::MAX);
    let overflow = l.e.cond_op(CondOp::And, smallest, minus_one);
    l.trap_if(overflow, Trap::Divide);
}

/// The double-width dividend of an operand up to 32 bits, and the type it is divided in: one that holds every
/// quotient but that of the smallest 64-bit value and -1.
fn dividend<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, signed: bool) -> (Ty, E::Val) {
    let wide = if ty == Ty::I8 { Ty::I32 } else { Ty::I64 };
    if ty == Ty::I8 {
        let ax = l.reg(Register::AX);
        let v = if signed { l.scast(Ty::I16, wide, ax) } else { l.zcast(Ty::I16, wide, ax) };
        return (wide, v);
    }
    let (low, high) = (l.e.gpr(RAX), l.e.gpr(RDX));
    let low = l.zcast(Ty::I64, ty, low);
    let high = l.zcast(Ty::I64, ty, high);
    let low = l.zcast(ty, wide, low);
    let high = if signed { l.scast(ty, wide, high) } else { l.zcast(ty, wide, high) };
    let high = l.bin_imm(Bin::Shl, wide, high, u64::from(ty.bits()));
    (wide, l.bin(Bin::Or, wide, high, low))
}

fn set_results<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, wide: Ty, q: E::Val, r: E::Val) {
    let (q_reg, r_reg) = match ty {
        Ty::I8 => (Register::AL, Register::AH),
        Ty::I16 => (Register::AX, Register::DX),
        Ty::I32 => (Register::EAX, Register::EDX),
        Ty::I64 => (Register::RAX, Register::RDX),
    };
    let q = l.zcast(wide, ty, q);
    let r = l.zcast(wide, ty, r);
    l.set_reg(q_reg, q);
    l.set_reg(r_reg, r);
}

fn div64<E: Emitter>(l: &mut Lifter<'_, E>, divisor: E::Val) {
    let (low, high) = (l.e.gpr(RAX), l.e.gpr(RDX));
    let plain = l.cmp_imm(Pred::Eq, Ty::I64, high, 0);
    let [q, r] = l.if_else(
        plain,
        [Ty::I64; 2],
        |l| [l.bin(Bin::Udiv, Ty::I64, low, divisor), l.bin(Bin::Urem, Ty::I64, low, divisor)],
        |l| {
            let too_big = l.e.cmp(Pred::Uge, Ty::I64, high, divisor);
            l.trap_if(too_big, Trap::Divide);
            divide_wide(l, low, high, divisor)
        },
    );
    set_results(l, Ty::I64, Ty::I64, q, r);
}

fn divide_wide<E: Emitter>(l: &mut Lifter<'_, E>, low: E::Val, high: E::Val, divisor: E::Val) -> [E::Val; 2] {
    [Helper::UdivWide, Helper::UremWide].map(|h| l.call_helper(h, &[low, high, divisor]))
}

fn idiv64<E: Emitter>(l: &mut Lifter<'_, E>, divisor: E::Val) {
    let (low, high) = (l.e.gpr(RAX), l.e.gpr(RDX));
    let extension = l.bin_imm(Bin::Ashr, Ty::I64, low, 63);
    let plain = l.e.cmp(Pred::Eq, Ty::I64, high, extension);
    let [q, r] = l.if_else(
        plain,
        [Ty::I64; 2],
        |l| {
            trap_on_overflow(l, Ty::I64, low, divisor);
            [l.bin(Bin::Sdiv, Ty::I64, low, divisor), l.bin(Bin::Srem, Ty::I64, low, divisor)]
        },
        |l| idiv_wide(l, low, high, divisor),
    );
    set_results(l, Ty::I64, Ty::I64, q, r);
}

/// By magnitudes: the unsigned quotient fits 64 bits where the high half is below the divisor, and then fits signed
/// where it is at most 2^63 - 1, or 2^63 for a negative one.
fn idiv_wide<E: Emitter>(l: &mut Lifter<'_, E>, low: E::Val, high: E::Val, divisor: E::Val) -> [E::Val; 2] {
    let ty = Ty::I64;
    let sign = l.bin_imm(Bin::Ashr, ty, high, 63);
    let divisor_sign = l.bin_imm(Bin::Ashr, ty, divisor, 63);
    let quotient_sign = l.bin(Bin::Xor, ty, sign, divisor_sign);
    let negative = l.cmp_imm(Pred::Slt, ty, sign, 0);
    let (low_abs, borrow) = {
        let negated = l.e.un(Un::Neg, ty, low);
        let nonzero = l.cmp_imm(Pred::Ne, ty, low, 0);
        let borrow = l.e.cond_to_int(ty, nonzero);
        (l.e.select(ty, negative, negated, low), borrow)
    };
    let high_abs = {
        let negated = l.e.un(Un::Neg, ty, high);
        let negated = l.bin(Bin::Sub, ty, negated, borrow);
        l.e.select(ty, negative, negated, high)
    };
    let divisor_abs = apply_sign(l, divisor, divisor_sign);
    let too_big = l.e.cmp(Pred::Uge, ty, high_abs, divisor_abs);
    l.trap_if(too_big, Trap::Divide);
    let [q, r] = divide_wide(l, low_abs, high_abs, divisor_abs);
    // 2^63 - 1 for a positive quotient, one more for a negative one.
    let limit = l.imm(ty, i64::MAX as u64);
    let limit = l.bin(Bin::Sub, ty, limit, quotient_sign);
    let too_big = l.e.cmp(Pred::Ugt, ty, q, limit);
    l.trap_if(too_big, Trap::Divide);
    [apply_sign(l, q, quotient_sign), apply_sign(l, r, sign)]
}

/// `v`, negated where `sign` is all ones (it is zero otherwise).
fn apply_sign<E: Emitter>(l: &mut Lifter<'_, E>, v: E::Val, sign: E::Val) -> E::Val {
    let flipped = l.bin(Bin::Xor, Ty::I64, v, sign);
    l.bin(Bin::Sub, Ty::I64, flipped, sign)
}

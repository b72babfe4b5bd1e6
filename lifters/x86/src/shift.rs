//! Shifts and rotates (Intel SDM vol. 1, 5.1.5), and BMI2's forms without flags.
//!
//! Counts are taken modulo 32, or 64 for 64-bit operands. A count of zero leaves every flag as it is; where that is
//! only known at run time, each flag is selected. OF is defined for a count of one only; for the others it is
//! mostly what the formula for that count gives, for RCL, RCR, SHLD and SHRD (as Intel's processors have it) of the operand
//! as it was.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, RflagsBits};

use crate::decode::Flags;
use crate::emitter::{Bin, Emitter, Flag, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::{FlagOp, Lifter, STATUS};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Shl | Sal => |l, i| shift(l, i, Bin::Shl),
        Shr => |l, i| shift(l, i, Bin::Lshr),
        Sar => |l, i| shift(l, i, Bin::Ashr),
        Rol => |l, i| rotate(l, i, Bin::RotL),
        Ror => |l, i| rotate(l, i, Bin::RotR),
        Rcl => |l, i| rotate_carry(l, i, true),
        Rcr => |l, i| rotate_carry(l, i, false),
        Shld => |l, i| shift_double(l, i, true),
        Shrd => |l, i| shift_double(l, i, false),
        Shlx => |l, i| shift_plain(l, i, Bin::Shl),
        Shrx => |l, i| shift_plain(l, i, Bin::Lshr),
        Sarx => |l, i| shift_plain(l, i, Bin::Ashr),
        Rorx => |l, i| shift_plain(l, i, Bin::RotR),
        _ => return None,
    })
}

/// ZF, SF and PF by the result, with AF, which no shift defines.
const BY_RESULT: Flags = RflagsBits::ZF | RflagsBits::SF | RflagsBits::PF | RflagsBits::AF;

/// A masked shift count.
enum Count<E: Emitter> {
    Known(u64),
    /// A value of the type in which the operation is done, and whether it is zero.
    Unknown(E::Val, E::Cond),
}

/// Operand `op` as a count for `ty`, given in `work`.
fn count<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: u32, ty: Ty, work: Ty) -> Count<E> {
    let mask = if ty == Ty::I64 { 63 } else { 31 };
    if i.op_kind(op) != OpKind::Register {
        return Count::Known(i.immediate(op) & mask);
    }
    let r = i.op_register(op);
    let from = crate::lifter::gpr_of(r).1;
    let v = l.reg(r);
    let v = l.zcast(from, work, v);
    let v = l.bin_imm(Bin::And, work, v, mask);
    let zero = l.cmp_imm(Pred::Eq, work, v, 0);
    Count::Unknown(v, zero)
}

impl<E: Emitter> Count<E> {
    fn value(&self, l: &mut Lifter<'_, E>, work: Ty) -> E::Val {
        match *self {
            Count::Known(n) => l.imm(work, n),
            Count::Unknown(v, _) => v,
        }
    }

    /// A flag that the instruction defines: unchanged where the count is zero.
    fn set_flag(&self, l: &mut Lifter<'_, E>, flag: Flag, new: impl FnOnce(&mut Lifter<'_, E>) -> E::Cond) {
        if !l.is_live(crate::lifter::flag_bit(flag)) {
            return;
        }
        let mut c = new(l);
        if let Count::Unknown(_, zero) = *self {
            let old = l.flag(flag);
            c = l.cond_select(zero, old, c);
        }
        l.set_flag(flag, c);
    }

    /// ZF, SF and PF by the result; unchanged where the count is zero.
    fn set_by_result(&self, l: &mut Lifter<'_, E>, ty: Ty, r: E::Val) {
        let Count::Unknown(_, zero) = *self else {
            return l.set_flags(FlagOp::Logic, ty, [r, r, r], None, BY_RESULT);
        };
        self.set_flag(l, Flag::Zf, |l| l.cmp_imm(Pred::Eq, ty, r, 0));
        self.set_flag(l, Flag::Sf, |l| l.cmp_imm(Pred::Slt, ty, r, 0));
        if l.is_live(RflagsBits::PF) {
            let old = l.parity_byte();
            let new = l.zcast(ty, Ty::I8, r);
            let byte = l.e.select(Ty::I8, zero, old, new);
            l.set_parity(byte);
        }
    }
}

/// The type a shift is done in: counts reach 31, so narrow operands are extended.
fn work_ty(ty: Ty) -> Ty {
    ty.max(Ty::I32)
}

fn sign_bit<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, v: E::Val) -> E::Cond {
    l.cmp_imm(Pred::Slt, ty, v, 0)
}

/// Bit `n mod width` of a value.
fn bit_at<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, v: E::Val, n: E::Val) -> E::Cond {
    let n = l.bin_imm(Bin::And, ty, n, u64::from(ty.bits()) - 1);
    let shifted = l.bin(Bin::Lshr, ty, v, n);
    l.bit(ty, shifted, 0)
}

/// SHL, SHR, SAR.
#[inline(always)]
pub fn shift<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Bin) {
    let ty = l.ty(i, 0);
    let work = work_ty(ty);
    let place = l.place(i, 0);
    let count = count(l, i, 1, ty, work);
    let a = l.get(place);
    let wide = if op == Bin::Ashr { l.scast(ty, work, a) } else { l.zcast(ty, work, a) };
    let n = count.value(l, work);
    let wide_r = l.bin(op, work, wide, n);
    let r = l.zcast(work, ty, wide_r);
    l.put(place, r);
    if let Count::Known(0) = count {
        return;
    }
    // OF before CF before the rest: each may read flags that a later one replaces.
    let carry = |l: &mut Lifter<'_, E>| match op {
        Bin::Shl if ty < work => l.bit(work, wide_r, ty.bits()),
        Bin::Shl => {
            // The last bit shifted out: bit width - n.
            let zero = l.imm(work, 0);
            let place = l.bin(Bin::Sub, work, zero, n);
            bit_at(l, work, wide, place)
        }
        _ => {
            let place = l.bin_imm(Bin::Sub, work, n, 1);
            bit_at(l, work, wide, place)
        }
    };
    match (&count, op) {
        // The last step is the sum of two equal operands: AF is undefined. OF is that of the sum, whatever the count; the manual
        // leaves it open for others than one, and processors have it so.
        (Count::Known(n), Bin::Shl) => {
            let half = l.bin_imm(Bin::Shl, work, wide, n - 1);
            let half = l.zcast(work, ty, half);
            return l.set_flags(FlagOp::Add, ty, [half, half, r], None, STATUS);
        }
        (Count::Known(1), Bin::Lshr) | (Count::Unknown(..), _) => {}
        // OF is undefined behind other counts than one, and SAR clears it then.
        (Count::Known(_), _) => return l.set_flags_but_carry(FlagOp::Logic, ty, [r, r, r], carry),
    }
    count.set_flag(l, Flag::Of, |l| match op {
        Bin::Shl => {
            let sign = sign_bit(l, ty, r);
            let carry = carry(l);
            l.e.cond_op(crate::emitter::CondOp::Xor, sign, carry)
        }
        Bin::Lshr => sign_bit(l, ty, a),
        _ => l.e.bconst(false),
    });
    count.set_flag(l, Flag::Cf, carry);
    count.set_by_result(l, ty, r);
}

/// ROL and ROR; only CF and OF change.
fn rotate<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Bin) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    // The count masked to 31 or 63 says whether flags change; what is left of it modulo the width, how far.
    let count = count(l, i, 1, ty, ty);
    let a = l.get(place);
    let n = count.value(l, ty);
    let n = match count {
        Count::Known(n) => l.imm(ty, n % u64::from(ty.bits())),
        Count::Unknown(..) => l.bin_imm(Bin::And, ty, n, u64::from(ty.bits()) - 1),
    };
    let r = l.bin(op, ty, a, n);
    l.put(place, r);
    if let Count::Known(0) = count {
        return;
    }
    let top = ty.bits() - 1;
    let carry = |l: &mut Lifter<'_, E>| match op {
        Bin::RotL => l.bit(ty, r, 0),
        _ => l.bit(ty, r, top),
    };
    count.set_flag(l, Flag::Of, |l| {
        let sign = l.bit(ty, r, top);
        let other = match op {
            Bin::RotL => l.bit(ty, r, 0),
            _ => l.bit(ty, r, top - 1),
        };
        l.e.cond_op(crate::emitter::CondOp::Xor, sign, other)
    });
    count.set_flag(l, Flag::Cf, carry);
}

/// RCL and RCR: a rotation of the operand with CF as one bit more.
fn rotate_carry<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, left: bool) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    // A multiple of width + 1 counts as zero.
    let count = match count(l, i, 1, ty, Ty::I64) {
        Count::Known(n) => Count::Known(reduced(ty, n)),
        Count::Unknown(v, _) if ty < Ty::I32 => {
            let n = l.bin_imm(Bin::Urem, Ty::I64, v, u64::from(ty.bits()) + 1);
            let zero = l.cmp_imm(Pred::Eq, Ty::I64, n, 0);
            Count::Unknown(n, zero)
        }
        unknown => unknown,
    };
    let a = l.get(place);
    let carry_in = l.flag(Flag::Cf);
    let n = count.value(l, Ty::I64);
    let (r, carry_out) = if ty == Ty::I64 {
        rotate_carry_64(l, a, carry_in, n, left)
    } else {
        rotate_carry_narrow(l, ty, a, carry_in, n, left)
    };
    l.put(place, r);
    if let Count::Known(0) = count {
        return;
    }
    let top = ty.bits() - 1;
    count.set_flag(l, Flag::Of, |l| {
        let sign = l.bit(ty, a, top);
        let next = if left { l.bit(ty, a, top - 1) } else { carry_in };
        l.e.cond_op(crate::emitter::CondOp::Xor, sign, next)
    });
    count.set_flag(l, Flag::Cf, |_| carry_out);
}

/// A masked count modulo the number of bits that RCL and RCR rotate.
fn reduced(ty: Ty, n: u64) -> u64 {
    n % (u64::from(ty.bits()) + 1)
}

/// In 64 bits, where operand and carry fit side by side.
fn rotate_carry_narrow<E: Emitter>(
    l: &mut Lifter<'_, E>,
    ty: Ty,
    a: E::Val,
    carry: E::Cond,
    n: E::Val,
    left: bool,
) -> (E::Val, E::Cond) {
    let wide = Ty::I64;
    let width = u64::from(ty.bits());
    let a = l.zcast(ty, wide, a);
    let c = l.e.cond_to_int(wide, carry);
    let c = l.bin_imm(Bin::Shl, wide, c, width);
    let x = l.bin(Bin::Or, wide, a, c);
    let all = l.imm(wide, width + 1);
    let back = l.bin(Bin::Sub, wide, all, n);
    let (forth, back) = if left {
        (l.bin(Bin::Shl, wide, x, n), l.bin(Bin::Lshr, wide, x, back))
    } else {
        (l.bin(Bin::Lshr, wide, x, n), l.bin(Bin::Shl, wide, x, back))
    };
    let r = l.bin(Bin::Or, wide, forth, back);
    let out = l.bit(wide, r, ty.bits());
    (l.zcast(wide, ty, r), out)
}

/// In three pieces. Shifts by 64 - n and 65 - n are split so that a count of zero needs no case of its own.
fn rotate_carry_64<E: Emitter>(
    l: &mut Lifter<'_, E>,
    a: E::Val,
    carry: E::Cond,
    n: E::Val,
    left: bool,
) -> (E::Val, E::Cond) {
    let ty = Ty::I64;
    let (forth, back) = if left { (Bin::Shl, Bin::Lshr) } else { (Bin::Lshr, Bin::Shl) };
    let rest = l.bin_imm(Bin::Xor, ty, n, 63);
    let moved = l.bin(forth, ty, a, n);
    let wrapped = l.bin_imm(back, ty, a, 2);
    let wrapped = l.bin(back, ty, wrapped, rest);
    let c = l.e.cond_to_int(ty, carry);
    let c = if left {
        let c = l.bin(Bin::Shl, ty, c, n);
        l.bin_imm(Bin::Lshr, ty, c, 1)
    } else {
        let c = l.bin_imm(Bin::Shl, ty, c, 1);
        l.bin(Bin::Shl, ty, c, rest)
    };
    let r = l.bin(Bin::Or, ty, moved, wrapped);
    let r = l.bin(Bin::Or, ty, r, c);
    let place = if left {
        let zero = l.imm(ty, 0);
        l.bin(Bin::Sub, ty, zero, n)
    } else {
        l.bin_imm(Bin::Sub, ty, n, 1)
    };
    let shifted_out = bit_at(l, ty, a, place);
    let unmoved = l.cmp_imm(Pred::Eq, ty, n, 0);
    (r, l.cond_select(unmoved, carry, shifted_out))
}

/// SHLD and SHRD: the destination shifted, filled from the source.
fn shift_double<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, left: bool) {
    let ty = l.ty(i, 0);
    let place = l.place(i, 0);
    let count = count(l, i, 2, ty, Ty::I64);
    let b = l.read(i, 1);
    let a = l.get(place);
    let n = count.value(l, Ty::I64);
    let (r, carry) = match ty {
        Ty::I64 => shift_double_64(l, a, b, n, left),
        _ => shift_double_narrow(l, ty, a, b, n, left),
    };
    l.put(place, r);
    if let Count::Known(0) = count {
        return;
    }
    count.set_flag(l, Flag::Of, |l| {
        let top = ty.bits() - 1;
        let sign = l.bit(ty, a, top);
        let next = if left { l.bit(ty, a, top - 1) } else { l.bit(ty, b, 0) };
        l.e.cond_op(crate::emitter::CondOp::Xor, sign, next)
    });
    count.set_flag(l, Flag::Cf, |_| carry);
    count.set_by_result(l, ty, r);
}

/// The place of the last bit that leaves `width` bits shifted by `n`.
fn last_out<E: Emitter>(l: &mut Lifter<'_, E>, width: u64, n: E::Val, left: bool) -> E::Val {
    if left {
        let width = l.imm(Ty::I64, width);
        l.bin(Bin::Sub, Ty::I64, width, n)
    } else {
        l.bin_imm(Bin::Sub, Ty::I64, n, 1)
    }
}

fn shift_double_64<E: Emitter>(
    l: &mut Lifter<'_, E>,
    a: E::Val,
    b: E::Val,
    n: E::Val,
    left: bool,
) -> (E::Val, E::Cond) {
    let (forth, back) = if left { (Bin::Shl, Bin::Lshr) } else { (Bin::Lshr, Bin::Shl) };
    let rest = l.bin_imm(Bin::Xor, Ty::I64, n, 63);
    let moved = l.bin(forth, Ty::I64, a, n);
    let fill = l.bin_imm(back, Ty::I64, b, 1);
    let fill = l.bin(back, Ty::I64, fill, rest);
    let place = last_out(l, 64, n, left);
    let carry = bit_at(l, Ty::I64, a, place);
    (l.bin(Bin::Or, Ty::I64, moved, fill), carry)
}

/// In 64 bits, where the operands fit side by side. For 16-bit operands the destination follows once more: the manual leaves
/// counts above 16 undefined, and Intel's processors go on so.
fn shift_double_narrow<E: Emitter>(
    l: &mut Lifter<'_, E>,
    ty: Ty,
    a: E::Val,
    b: E::Val,
    n: E::Val,
    left: bool,
) -> (E::Val, E::Cond) {
    let wide = Ty::I64;
    let width = u64::from(ty.bits());
    let a = l.zcast(ty, wide, a);
    let b = l.zcast(ty, wide, b);
    let parts: &[E::Val] = match (ty, left) {
        (Ty::I16, _) => &[a, b, a],
        (_, true) => &[a, b],
        (_, false) => &[b, a],
    };
    let mut x = parts[0];
    for part in &parts[1..] {
        x = l.bin_imm(Bin::Shl, wide, x, width);
        x = l.bin(Bin::Or, wide, x, *part);
    }
    let all = width * parts.len() as u64;
    let place = last_out(l, all, n, left);
    let carry = bit_at(l, wide, x, place);
    let r = if left {
        let r = l.bin(Bin::Shl, wide, x, n);
        l.bin_imm(Bin::Lshr, wide, r, all - width)
    } else {
        l.bin(Bin::Lshr, wide, x, n)
    };
    (l.zcast(wide, ty, r), carry)
}

/// SHLX, SHRX, SARX, RORX.
fn shift_plain<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Bin) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let count = count(l, i, 2, ty, ty);
    let n = count.value(l, ty);
    let r = l.bin(op, ty, a, n);
    l.write(i, 0, r);
}

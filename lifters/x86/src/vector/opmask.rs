//! The mask registers' own instructions, moves between masks and vectors, and blends by masks (SDM vol. 1, 15.6 and 5.19;
//! vol. 2, KADDW and following).

use iced_x86::{Code, Mnemonic, OpKind};

use super::operands::{bits_of, lanes, shape, upper};
use super::sse4::set_zero_and_carry;
use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Pred, Ty, VTy};
use crate::isa::Semantics;
use crate::lifter::gpr_of;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    logic(code).or_else(|| moves(code)).or_else(|| tests(code)).or_else(|| vectors(code))
}

fn logic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Kaddb => |l, i| two(l, i, Ty::I8, add),
        Kaddw => |l, i| two(l, i, Ty::I16, add),
        Kaddd => |l, i| two(l, i, Ty::I32, add),
        Kaddq => |l, i| two(l, i, Ty::I64, add),
        Kandb => |l, i| two(l, i, Ty::I8, and),
        Kandw => |l, i| two(l, i, Ty::I16, and),
        Kandd => |l, i| two(l, i, Ty::I32, and),
        Kandq => |l, i| two(l, i, Ty::I64, and),
        Kandnb => |l, i| two(l, i, Ty::I8, and_not),
        Kandnw => |l, i| two(l, i, Ty::I16, and_not),
        Kandnd => |l, i| two(l, i, Ty::I32, and_not),
        Kandnq => |l, i| two(l, i, Ty::I64, and_not),
        Korb => |l, i| two(l, i, Ty::I8, or),
        Korw => |l, i| two(l, i, Ty::I16, or),
        Kord => |l, i| two(l, i, Ty::I32, or),
        Korq => |l, i| two(l, i, Ty::I64, or),
        Kxorb => |l, i| two(l, i, Ty::I8, xor),
        Kxorw => |l, i| two(l, i, Ty::I16, xor),
        Kxord => |l, i| two(l, i, Ty::I32, xor),
        Kxorq => |l, i| two(l, i, Ty::I64, xor),
        Kxnorb => |l, i| two(l, i, Ty::I8, xnor),
        Kxnorw => |l, i| two(l, i, Ty::I16, xnor),
        Kxnord => |l, i| two(l, i, Ty::I32, xnor),
        Kxnorq => |l, i| two(l, i, Ty::I64, xnor),
        Knotb => |l, i| not(l, i, Ty::I8),
        Knotw => |l, i| not(l, i, Ty::I16),
        Knotd => |l, i| not(l, i, Ty::I32),
        Knotq => |l, i| not(l, i, Ty::I64),
        _ => return None,
    };
    Some(f)
}

fn moves<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Kmovb => |l, i| kmov(l, i, Ty::I8),
        Kmovw => |l, i| kmov(l, i, Ty::I16),
        Kmovd => |l, i| kmov(l, i, Ty::I32),
        Kmovq => |l, i| kmov(l, i, Ty::I64),
        Kunpckbw => |l, i| unpack(l, i, Ty::I8),
        Kunpckwd => |l, i| unpack(l, i, Ty::I16),
        Kunpckdq => |l, i| unpack(l, i, Ty::I32),
        Kshiftlb => |l, i| shift(l, i, Ty::I8, Bin::Shl),
        Kshiftlw => |l, i| shift(l, i, Ty::I16, Bin::Shl),
        Kshiftld => |l, i| shift(l, i, Ty::I32, Bin::Shl),
        Kshiftlq => |l, i| shift(l, i, Ty::I64, Bin::Shl),
        Kshiftrb => |l, i| shift(l, i, Ty::I8, Bin::Lshr),
        Kshiftrw => |l, i| shift(l, i, Ty::I16, Bin::Lshr),
        Kshiftrd => |l, i| shift(l, i, Ty::I32, Bin::Lshr),
        Kshiftrq => |l, i| shift(l, i, Ty::I64, Bin::Lshr),
        _ => return None,
    };
    Some(f)
}

fn tests<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Kortestb => |l, i| kortest(l, i, Ty::I8),
        Kortestw => |l, i| kortest(l, i, Ty::I16),
        Kortestd => |l, i| kortest(l, i, Ty::I32),
        Kortestq => |l, i| kortest(l, i, Ty::I64),
        Ktestb => |l, i| ktest(l, i, Ty::I8),
        Ktestw => |l, i| ktest(l, i, Ty::I16),
        Ktestd => |l, i| ktest(l, i, Ty::I32),
        Ktestq => |l, i| ktest(l, i, Ty::I64),
        _ => return None,
    };
    Some(f)
}

fn vectors<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpmovm2b => |l, i| to_vector(l, i, Lane::I8),
        Vpmovm2w => |l, i| to_vector(l, i, Lane::I16),
        Vpmovm2d => |l, i| to_vector(l, i, Lane::I32),
        Vpmovm2q => |l, i| to_vector(l, i, Lane::I64),
        Vpmovb2m => |l, i| signs(l, i, Lane::I8),
        Vpmovw2m => |l, i| signs(l, i, Lane::I16),
        Vpmovd2m => |l, i| signs(l, i, Lane::I32),
        Vpmovq2m => |l, i| signs(l, i, Lane::I64),
        Vpbroadcastmb2q => |l, i| broadcast(l, i, Ty::I8, Lane::I64),
        Vpbroadcastmw2d => |l, i| broadcast(l, i, Ty::I16, Lane::I32),
        Vpblendmb => |l, i| blend(l, i, Lane::I8),
        Vpblendmw => |l, i| blend(l, i, Lane::I16),
        Vpblendmd | Vblendmps => |l, i| blend(l, i, Lane::I32),
        Vpblendmq | Vblendmpd => |l, i| blend(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

/// An operand that is a mask register, all its bits.
fn mask<E: Emitter>(l: L<E>, i: I, op: u32) -> E::Val {
    l.e.mask_register(i.op_register(op).number())
}

/// The bits of this width of an operand that is a mask register.
fn low_bits<E: Emitter>(l: L<E>, i: I, op: u32, ty: Ty) -> E::Val {
    let v = mask(l, i, op);
    cut(l, ty, v)
}

fn cut<E: Emitter>(l: L<E>, ty: Ty, v: E::Val) -> E::Val {
    if ty == Ty::I64 { v } else { l.bin_imm(Bin::And, Ty::I64, v, ty.mask()) }
}

/// Writes the first operand, a mask register, the bits above this width being zero.
fn set<E: Emitter>(l: L<E>, i: I, ty: Ty, v: E::Val) {
    let v = cut(l, ty, v);
    l.e.set_mask_register(i.op0_register().number(), v);
}

fn inverted<E: Emitter>(l: L<E>, v: E::Val) -> E::Val {
    l.bin_imm(Bin::Xor, Ty::I64, v, u64::MAX)
}

fn add<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    l.bin(Bin::Add, Ty::I64, a, b)
}

fn and<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    l.bin(Bin::And, Ty::I64, a, b)
}

fn and_not<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    let a = inverted(l, a);
    and(l, a, b)
}

fn or<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    l.bin(Bin::Or, Ty::I64, a, b)
}

fn xor<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    l.bin(Bin::Xor, Ty::I64, a, b)
}

fn xnor<E: Emitter>(l: L<E>, a: E::Val, b: E::Val) -> E::Val {
    let a = inverted(l, a);
    xor(l, a, b)
}

fn two<E: Emitter>(l: L<E>, i: I, ty: Ty, op: fn(L<E>, E::Val, E::Val) -> E::Val) {
    let (a, b) = (mask(l, i, 1), mask(l, i, 2));
    let r = op(l, a, b);
    set(l, i, ty, r);
}

fn not<E: Emitter>(l: L<E>, i: I, ty: Ty) {
    let v = mask(l, i, 1);
    let r = inverted(l, v);
    set(l, i, ty, r);
}

/// KMOVW and its like: one operand is a mask register, the other one, too, or a general-purpose register, or memory.
fn kmov<E: Emitter>(l: L<E>, i: I, ty: Ty) {
    let v = if i.op1_kind() == OpKind::Memory {
        let addr = l.ea(i);
        let v = l.load(ty, addr);
        l.zcast(ty, Ty::I64, v)
    } else if i.op1_register().is_k() {
        low_bits(l, i, 1, ty)
    } else {
        let r = i.op1_register();
        let v = l.reg(r);
        l.zcast(gpr_of(r).1, Ty::I64, v)
    };
    if i.op0_kind() == OpKind::Memory {
        let addr = l.ea(i);
        let v = l.zcast(Ty::I64, ty, v);
        l.store(ty, addr, v);
    } else if i.op0_register().is_k() {
        set(l, i, ty, v);
    } else {
        let r = i.op0_register();
        let v = l.zcast(Ty::I64, gpr_of(r).1, v);
        l.set_reg(r, v);
    }
}

/// KUNPCKBW and its like: a half of each source, the first one's above.
fn unpack<E: Emitter>(l: L<E>, i: I, half: Ty) {
    let (high, low) = (low_bits(l, i, 1, half), low_bits(l, i, 2, half));
    let high = l.bin_imm(Bin::Shl, Ty::I64, high, half.bits().into());
    let r = or(l, high, low);
    l.e.set_mask_register(i.op0_register().number(), r);
}

/// KSHIFTLW and its like: nothing is left by counts from the width on.
fn shift<E: Emitter>(l: L<E>, i: I, ty: Ty, op: Bin) {
    let count = i.immediate(2);
    let r = if count < u64::from(ty.bits()) {
        let v = low_bits(l, i, 1, ty);
        l.bin_imm(op, Ty::I64, v, count)
    } else {
        l.imm(Ty::I64, 0)
    };
    set(l, i, ty, r);
}

/// ZF: neither has a bit; CF: together they have all.
fn kortest<E: Emitter>(l: L<E>, i: I, ty: Ty) {
    let (a, b) = (low_bits(l, i, 0, ty), low_bits(l, i, 1, ty));
    let either = or(l, a, b);
    let zf = l.cmp_imm(Pred::Eq, Ty::I64, either, 0);
    let cf = l.cmp_imm(Pred::Eq, Ty::I64, either, ty.mask());
    set_zero_and_carry(l, zf, cf);
}

/// ZF: no bit in common; CF: the second operand has no bit that the first lacks.
fn ktest<E: Emitter>(l: L<E>, i: I, ty: Ty) {
    let (a, b) = (mask(l, i, 0), low_bits(l, i, 1, ty));
    let common = and(l, a, b);
    let beyond = and_not(l, a, b);
    let zf = l.cmp_imm(Pred::Eq, Ty::I64, common, 0);
    let cf = l.cmp_imm(Pred::Eq, Ty::I64, beyond, 0);
    set_zero_and_carry(l, zf, cf);
}

/// VPMOVM2B and its like: all ones in the lanes whose bit is set.
fn to_vector<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let bits = mask(l, i, 1);
    let m = l.e.mask_of_bits(ty.lanes(), bits);
    let (ones, zero) = (l.ones(ty.bits), l.zero(ty.bits));
    let r = l.e.vselect(ty, m, ones, zero);
    l.set_vector(i, lane, r);
}

/// VPMOVB2M and its like: the lanes' sign bits.
fn signs<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.vector(i, 1);
    let bits = l.e.movmask(VTy { lane, bits: bits_of(i.op1_register()) }, v);
    l.set_mask_bits(i, bits);
}

/// VPBROADCASTMB2Q and VPBROADCASTMW2D: the mask's low bits in every lane.
fn broadcast<E: Emitter>(l: L<E>, i: I, from: Ty, lane: Lane) {
    let bits = low_bits(l, i, 1, from);
    let bits = l.zcast(Ty::I64, lane.ty(), bits);
    let r = l.e.splat(shape(i, lane), bits);
    l.set_vector(i, lane, r);
}

/// VPBLENDMB and its like: the mask chooses between the sources, and so isn't a write mask. Lanes of the first one may be
/// zeros instead.
fn blend<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_masked_vectors(i, lanes(i, lane));
    let ty = shape(i, lane);
    let r = match l.write_mask(i, ty.lanes()) {
        Some(m) => {
            let rest = if i.zeroing_masking() { l.zero(ty.bits) } else { a };
            l.e.vselect(ty, m, b, rest)
        }
        None => b,
    };
    l.set_vreg(i.op0_register(), r, upper(i));
}

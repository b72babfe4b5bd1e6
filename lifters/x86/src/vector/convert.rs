//! Conversions between integers and floats and between float formats (SDM vol. 1, 5.4.1.6, 5.5.1.6, 5.5.2, 5.5.3, 14.4 and
//! 15.3).

use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::operands::{bits_of, last_source, operand_bits, shape, width};
use super::{I, L};
use crate::emitter::{Emitter, Fty, Lane, Round, Ty, VTy, convert_element};
use crate::isa::Semantics;
use crate::lifter::gpr_of;
use crate::wide::Wide;
use crate::wide::float::{Conversion, Element, Op};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    of_scalar(code).or_else(|| of_vector(code)).or_else(|| newer(code))
}

fn of_scalar<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Element::{Double, Single};
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Cvtsi2ss | Vcvtsi2ss => |l, i| from_integer(l, i, Signed::Yes, Single),
        Vcvtusi2ss => |l, i| from_integer(l, i, Signed::No, Single),
        Cvtss2si | Vcvtss2si => |l, i| to_integer(l, i, Single, Signed::Yes, Round::Current),
        Vcvtss2usi => |l, i| to_integer(l, i, Single, Signed::No, Round::Current),
        Cvttss2si | Vcvttss2si => |l, i| to_integer(l, i, Single, Signed::Yes, Round::Truncate),
        Vcvttss2usi => |l, i| to_integer(l, i, Single, Signed::No, Round::Truncate),
        Cvtsi2sd | Vcvtsi2sd => |l, i| from_integer(l, i, Signed::Yes, Double),
        Vcvtusi2sd => |l, i| from_integer(l, i, Signed::No, Double),
        Cvtsd2si | Vcvtsd2si => |l, i| to_integer(l, i, Double, Signed::Yes, Round::Current),
        Vcvtsd2usi => |l, i| to_integer(l, i, Double, Signed::No, Round::Current),
        Cvttsd2si | Vcvttsd2si => |l, i| to_integer(l, i, Double, Signed::Yes, Round::Truncate),
        Vcvttsd2usi => |l, i| to_integer(l, i, Double, Signed::No, Round::Truncate),
        Cvtss2sd | Vcvtss2sd => |l, i| scalar_format(l, i, Single, Double),
        Cvtsd2ss | Vcvtsd2ss => |l, i| scalar_format(l, i, Double, Single),
        _ => return None,
    };
    Some(f)
}

fn of_vector<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Element::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Cvtps2pd | Vcvtps2pd => |l, i| packed(l, i, Single, Double, Round::Current),
        Cvtpd2ps | Vcvtpd2ps => |l, i| packed(l, i, Double, Single, Round::Current),
        Cvtdq2ps | Vcvtdq2ps => |l, i| packed(l, i, I32, Single, Round::Current),
        Cvtdq2pd | Cvtpi2pd | Vcvtdq2pd => |l, i| packed(l, i, I32, Double, Round::Current),
        Cvtps2dq | Cvtps2pi | Vcvtps2dq => |l, i| packed(l, i, Single, I32, Round::Current),
        Cvtpd2dq | Cvtpd2pi | Vcvtpd2dq => |l, i| packed(l, i, Double, I32, Round::Current),
        Cvttps2dq | Cvttps2pi | Vcvttps2dq => |l, i| packed(l, i, Single, I32, Round::Truncate),
        Cvttpd2dq | Cvttpd2pi | Vcvttpd2dq => |l, i| packed(l, i, Double, I32, Round::Truncate),
        Cvtpi2ps => cvtpi2ps,
        _ => return None,
    };
    Some(f)
}

/// AVX-512's and those of the short formats.
fn newer<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Element::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vcvtudq2ps => |l, i| packed(l, i, U32, Single, Round::Current),
        Vcvtudq2pd => |l, i| packed(l, i, U32, Double, Round::Current),
        Vcvtps2udq => |l, i| packed(l, i, Single, U32, Round::Current),
        Vcvtpd2udq => |l, i| packed(l, i, Double, U32, Round::Current),
        Vcvttps2udq => |l, i| packed(l, i, Single, U32, Round::Truncate),
        Vcvttpd2udq => |l, i| packed(l, i, Double, U32, Round::Truncate),
        Vcvtqq2ps => |l, i| packed(l, i, I64, Single, Round::Current),
        Vcvtqq2pd => |l, i| packed(l, i, I64, Double, Round::Current),
        Vcvtps2qq => |l, i| packed(l, i, Single, I64, Round::Current),
        Vcvtpd2qq => |l, i| packed(l, i, Double, I64, Round::Current),
        Vcvttps2qq => |l, i| packed(l, i, Single, I64, Round::Truncate),
        Vcvttpd2qq => |l, i| packed(l, i, Double, I64, Round::Truncate),
        Vcvtuqq2ps => |l, i| packed(l, i, U64, Single, Round::Current),
        Vcvtuqq2pd => |l, i| packed(l, i, U64, Double, Round::Current),
        Vcvtps2uqq => |l, i| packed(l, i, Single, U64, Round::Current),
        Vcvtpd2uqq => |l, i| packed(l, i, Double, U64, Round::Current),
        Vcvttps2uqq => |l, i| packed(l, i, Single, U64, Round::Truncate),
        Vcvttpd2uqq => |l, i| packed(l, i, Double, U64, Round::Truncate),
        Vcvtph2ps => of_halves,
        Vcvtps2ph => to_halves,
        Vcvtneps2bf16 => to_brain,
        Vcvtne2ps2bf16 => two_to_brain,
        Vdpbf16ps => brain_products,
        _ => return None,
    };
    Some(f)
}

/// Whether an integer is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Yes,
    No,
}

/// What a general-purpose register of this width holds.
fn integer(ty: Ty, signed: Signed) -> Element {
    match (ty, signed) {
        (Ty::I64, Signed::Yes) => Element::I64,
        (Ty::I64, Signed::No) => Element::U64,
        (_, Signed::Yes) => Element::I32,
        (_, Signed::No) => Element::U32,
    }
}

pub(super) fn from_integer<E: Emitter>(l: L<E>, i: I, signed: Signed, to: Element) {
    let op = last_source(i);
    let from = integer(l.ty(i, op), signed);
    let v = l.read(i, op);
    let r = convert_element(l.e, Conversion { from, to, round: Round::Current }, v);
    l.set_scalar(i, to.lane(), r);
}

pub(super) fn to_integer<E: Emitter>(l: L<E>, i: I, from: Element, signed: Signed, round: Round) {
    let v = l.scalar(i, 1, from.lane());
    let r = i.op0_register();
    let v = convert_element(l.e, Conversion { from, to: integer(gpr_of(r).1, signed), round }, v);
    l.set_reg(r, v);
}

pub(super) fn scalar_format<E: Emitter>(l: L<E>, i: I, from: Element, to: Element) {
    let v = l.calm_scalar(i, last_source(i), from.lane());
    let r = convert_element(l.e, Conversion { from, to, round: Round::Current }, v);
    l.set_scalar(i, to.lane(), r);
}

/// How many elements a conversion has: as many as the wider ones give.
fn elements(i: I, from: Ty, to: Ty) -> u32 {
    // An MMX result has two, though it is worked on in 128 bits.
    if i.op0_register().is_mm() {
        2
    } else if from.bits() > to.bits() {
        operand_bits(i, last_source(i)) / from.bits()
    } else {
        width(i) / to.bits()
    }
}

/// What remains of a result with fewer elements than the register is zero.
pub(super) fn packed<E: Emitter>(l: L<E>, i: I, from: Element, to: Element, round: Round) {
    let op = last_source(i);
    let elements = elements(i, from.ty(), to.ty());
    let source = VTy { lane: from.lane(), bits: operand_bits(i, op) };
    let v = l.masked_vector(i, op, elements);
    let v = l.calm(i, source, v);
    let r = l.e.vconvert(Conversion { from, to, round }, elements, (source.bits, v));
    if i.op0_register().is_mm() {
        return l.set_vector(i, to.lane(), r);
    }
    l.enter_mmx_for(i, op);
    l.set_narrow(i, to.lane(), elements, r);
}

/// CVTPI2PS leaves the high half of its destination.
fn cvtpi2ps<E: Emitter>(l: L<E>, i: I) {
    let v = l.vector(i, 1);
    let mut r = l.vector(i, 0);
    for n in 0..2 {
        let x = l.e.extract(VTy::x128(Lane::I32), v, n);
        let x = l.e.int_to_float(Ty::I32, Fty::F32, x);
        r = l.e.insert(VTy::x128(Lane::F32), r, n, x);
    }
    l.enter_mmx_for(i, 1);
    l.set_vector(i, Lane::F32, r);
}

// ---- short formats ---------------------------------------------------------------------------------------------

fn of_halves<E: Emitter>(l: L<E>, i: I) {
    let ty = shape(i, Lane::F32);
    let source = VTy { lane: Lane::I16, bits: operand_bits(i, 1) };
    let v = l.masked_vector(i, 1, ty.lanes());
    let v = l.calm(i, source, v);
    let r = l.e.wide(Wide::Float(Op::OfHalf), ty, &[(source.bits, v)], 0);
    l.set_vector(i, Lane::F32, r);
}

/// VCVTPS2PH, to a register or memory.
fn to_halves<E: Emitter>(l: L<E>, i: I) {
    let source = VTy { lane: Lane::F32, bits: bits_of(i.op1_register()) };
    let elements = source.lanes();
    let v = l.vector(i, 1);
    let v = l.calm(i, source, v);
    let ty = VTy { lane: Lane::I16, bits: elements * 16 };
    let r = l.e.wide(Wide::Float(Op::ToHalf), ty, &[(source.bits, v)], i.immediate8());
    if i.op0_kind() == OpKind::Register {
        return l.set_narrow(i, Lane::I16, elements, r);
    }
    l.e.raise_exceptions();
    if ty.bits == 64 && i.op_mask() == Register::None {
        let addr = l.ea(i);
        let low = l.low(Lane::I64, r);
        return l.store(Ty::I64, addr, low);
    }
    l.put_vector(i, Lane::I16, r);
}

fn to_brain<E: Emitter>(l: L<E>, i: I) {
    let elements = elements(i, Ty::I32, Ty::I16);
    let v = l.masked_vector(i, 1, elements);
    let r = brain(l, VTy { lane: Lane::F32, bits: operand_bits(i, 1) }, v);
    l.set_narrow(i, Lane::I16, elements, r);
}

/// The brain floats of singles.
fn brain<E: Emitter>(l: L<E>, source: VTy, v: E::Vec) -> E::Vec {
    let ty = VTy { lane: Lane::I16, bits: source.bits / 2 };
    l.e.wide(Wide::Float(Op::ToBrain), ty, &[(source.bits, v)], 0)
}

/// The second source's come first.
fn two_to_brain<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let (source, ty) = (shape(i, Lane::F32), shape(i, Lane::I16));
    let [low, high] = [b, a].map(|v| {
        let r = brain(l, source, v);
        l.e.resize(r, (ty.bits / 2).max(128), ty.bits)
    });
    let n = ty.lanes();
    let indices: Vec<u8> = (0..n).map(|k| if k < n / 2 { k } else { n + k - n / 2 } as u8).collect();
    let r = l.e.shuffle(ty, low, high, &indices);
    l.set_vector(i, Lane::I16, r);
}

fn brain_products<E: Emitter>(l: L<E>, i: I) {
    let ty = shape(i, Lane::F32);
    let sums = l.vector(i, 0);
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let operands = [sums, a, b].map(|v| (ty.bits, v));
    let r = l.e.wide(Wide::Float(Op::BrainProducts), ty, &operands, 0);
    l.set_vector(i, Lane::F32, r);
}

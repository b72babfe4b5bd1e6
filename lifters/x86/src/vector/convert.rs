//! Conversions between integers and floats and between float formats (SDM vol. 1, 5.4.1.6, 5.5.1.6, 5.5.2, 5.5.3).

use iced_x86::{Code, Mnemonic};

use super::operands::{float_lane, last_source, width};
use super::{I, L};
use crate::emitter::{Emitter, Fty, Lane, Round, Ty, VTy};
use crate::isa::Semantics;
use crate::lifter::gpr_of;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Cvtsi2ss => |l, i| from_integer(l, i, Fty::F32),
        Cvtsi2sd => |l, i| from_integer(l, i, Fty::F64),
        Cvtss2si => |l, i| to_integer(l, i, Fty::F32, Round::Current),
        Cvtsd2si => |l, i| to_integer(l, i, Fty::F64, Round::Current),
        Cvttss2si => |l, i| to_integer(l, i, Fty::F32, Round::Truncate),
        Cvttsd2si => |l, i| to_integer(l, i, Fty::F64, Round::Truncate),
        Cvtss2sd => |l, i| scalar_format(l, i, Fty::F32, Fty::F64),
        Cvtsd2ss => |l, i| scalar_format(l, i, Fty::F64, Fty::F32),
        Cvtps2pd => |l, i| packed(l, i, Lane::F32, Lane::F64, Round::Current),
        Cvtpd2ps => |l, i| packed(l, i, Lane::F64, Lane::F32, Round::Current),
        Cvtdq2ps => |l, i| packed(l, i, Lane::I32, Lane::F32, Round::Current),
        Cvtdq2pd | Cvtpi2pd => |l, i| packed(l, i, Lane::I32, Lane::F64, Round::Current),
        Cvtps2dq | Cvtps2pi => |l, i| packed(l, i, Lane::F32, Lane::I32, Round::Current),
        Cvttps2dq | Cvttps2pi => |l, i| packed(l, i, Lane::F32, Lane::I32, Round::Truncate),
        Cvtpd2dq | Cvtpd2pi => |l, i| packed(l, i, Lane::F64, Lane::I32, Round::Current),
        Cvttpd2dq | Cvttpd2pi => |l, i| packed(l, i, Lane::F64, Lane::I32, Round::Truncate),
        Cvtpi2ps => cvtpi2ps,
        _ => return None,
    };
    Some(f)
}

fn from_integer<E: Emitter>(l: L<E>, i: I, to: Fty) {
    let op = last_source(i);
    let ty = l.ty(i, op);
    let v = l.read(i, op);
    let r = l.e.int_to_float(ty, to, v);
    l.set_scalar(i, float_lane(to), r);
}

fn to_integer<E: Emitter>(l: L<E>, i: I, from: Fty, round: Round) {
    let v = l.scalar(i, 1, float_lane(from));
    let r = i.op0_register();
    let v = l.e.float_to_int(round, from, gpr_of(r).1, v);
    l.set_reg(r, v);
}

fn scalar_format<E: Emitter>(l: L<E>, i: I, from: Fty, to: Fty) {
    let v = l.scalar(i, last_source(i), float_lane(from));
    let r = l.e.float_to_float(from, to, v);
    l.set_scalar(i, float_lane(to), r);
}

/// One element; between lanes of which at least one is a float's.
fn element<E: Emitter>(l: L<E>, from: Lane, to: Lane, round: Round, v: E::Val) -> E::Val {
    match (from.fty(), to.fty()) {
        (Some(from), Some(to)) => l.e.float_to_float(from, to, v),
        (Some(from), None) => l.e.float_to_int(round, from, Ty::I32, v),
        (None, Some(to)) => l.e.int_to_float(Ty::I32, to, v),
        (None, None) => unreachable!("the table has no conversion between integers"),
    }
}

/// As many elements as the wider lanes give; what remains of a narrower result is zero.
fn packed<E: Emitter>(l: L<E>, i: I, from: Lane, to: Lane, round: Round) {
    let v = l.vector(i, last_source(i));
    let bits = width(i);
    let widest = from.ty().bits().max(to.ty().bits());
    let mut r = l.zero(bits);
    // An MMX result has two elements, though it is worked on in 128 bits.
    let elements = if i.op0_register().is_mm() { 2 } else { bits / widest };
    for n in 0..elements {
        let x = l.e.extract(VTy { lane: from, bits }, v, n);
        let y = element(l, from, to, round, x);
        r = l.e.insert(VTy { lane: to, bits }, r, n, y);
    }
    l.enter_mmx_for(i, last_source(i));
    l.set_vector(i, to, r);
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

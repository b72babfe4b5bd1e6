//! Products that are added to the destination: VNNI and IFMA (SDM vol. 1, 5.19; vol. 2, VPDPBUSD and VPMADD52LUQ).

use iced_x86::{Code, Mnemonic};

use super::operands::shape;
use super::ssse3::byte_pairs;
use super::{I, L};
use crate::emitter::{Emitter, Lane, VBin, VTy};
use crate::isa::Semantics;
use crate::wide::{Wide, integer::Op};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    wrapping(code).or_else(|| saturating(code))
}

fn wrapping<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpdpbssd => |l, i| add(l, i, Lane::I32, |l, i, v| bytes(l, i, v, [true, true])),
        Vpdpbsud => |l, i| add(l, i, Lane::I32, |l, i, v| bytes(l, i, v, [true, false])),
        Vpdpbusd => |l, i| add(l, i, Lane::I32, |l, i, v| bytes(l, i, v, [false, true])),
        Vpdpbuud => |l, i| add(l, i, Lane::I32, |l, i, v| bytes(l, i, v, [false, false])),
        Vpdpwssd => |l, i| add(l, i, Lane::I32, signed_words),
        Vpdpwsud => |l, i| add(l, i, Lane::I32, |l, i, v| dot(l, i, v, Lane::I16, Op::FIRST_SIGNED)),
        Vpdpwusd => |l, i| add(l, i, Lane::I32, |l, i, v| dot(l, i, v, Lane::I16, Op::SECOND_SIGNED)),
        Vpdpwuud => |l, i| add(l, i, Lane::I32, |l, i, v| dot(l, i, v, Lane::I16, 0)),
        Vpmadd52luq => |l, i| add(l, i, Lane::I64, |l, i, v| ifma(l, i, v, 0)),
        Vpmadd52huq => |l, i| add(l, i, Lane::I64, |l, i, v| ifma(l, i, v, Op::UPPER_PRODUCT)),
        _ => return None,
    };
    Some(f)
}

fn saturating<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    const BOTH_SIGNED: u8 = Op::FIRST_SIGNED | Op::SECOND_SIGNED;
    let f: Semantics<E> = match code.mnemonic() {
        Vpdpbssds => |l, i| saturated(l, i, Lane::I8, BOTH_SIGNED),
        Vpdpbsuds => |l, i| saturated(l, i, Lane::I8, Op::FIRST_SIGNED),
        Vpdpbusds => |l, i| saturated(l, i, Lane::I8, Op::SECOND_SIGNED),
        Vpdpbuuds => |l, i| saturated(l, i, Lane::I8, 0),
        Vpdpwssds => |l, i| saturated(l, i, Lane::I16, BOTH_SIGNED),
        Vpdpwsuds => |l, i| saturated(l, i, Lane::I16, Op::FIRST_SIGNED),
        Vpdpwusds => |l, i| saturated(l, i, Lane::I16, Op::SECOND_SIGNED),
        Vpdpwuuds => |l, i| saturated(l, i, Lane::I16, 0),
        _ => return None,
    };
    Some(f)
}

/// An instruction whose destination is its first source; the function gets all three.
fn add<E: Emitter>(l: L<E>, i: I, lane: Lane, sum: impl FnOnce(L<E>, I, [E::Vec; 3]) -> E::Vec) {
    let (to, a) = (l.vector(i, 0), l.vector(i, 1));
    let b = l.masked_vector(i, 2, shape(i, lane).lanes());
    let r = sum(l, i, [to, a, b]);
    l.set_vector(i, lane, r);
}

/// Adds four products of bytes, each source's being signed or not. A word holds any byte, and a doubleword two products.
fn bytes<E: Emitter>(l: L<E>, i: I, [to, a, b]: [E::Vec; 3], [a_signed, b_signed]: [bool; 2]) -> E::Vec {
    let (words, doublewords) = (shape(i, Lane::I16), shape(i, Lane::I32));
    let a = byte_pairs(l, words, a, a_signed);
    let b = byte_pairs(l, words, b, b_signed);
    let even = l.e.madd_i16(words.bits, a[0], b[0]);
    let odd = l.e.madd_i16(words.bits, a[1], b[1]);
    let products = l.e.vbin(VBin::Add, doublewords, even, odd);
    l.e.vbin(VBin::Add, doublewords, to, products)
}

fn signed_words<E: Emitter>(l: L<E>, i: I, [to, a, b]: [E::Vec; 3]) -> E::Vec {
    let ty = shape(i, Lane::I32);
    let products = l.e.madd_i16(ty.bits, a, b);
    l.e.vbin(VBin::Add, ty, to, products)
}

fn saturated<E: Emitter>(l: L<E>, i: I, factor: Lane, signs: u8) {
    add(l, i, Lane::I32, |l, i, v| dot(l, i, v, factor, signs | Op::SATURATED));
}

/// Adds the products of factors of this width in each doubleword; `how` is made of constants of [`Op`].
fn dot<E: Emitter>(l: L<E>, i: I, v: [E::Vec; 3], factor: Lane, how: u8) -> E::Vec {
    wide(l, Op::DotProduct, shape(i, factor), v, how)
}

fn ifma<E: Emitter>(l: L<E>, i: I, v: [E::Vec; 3], how: u8) -> E::Vec {
    wide(l, Op::MultiplyAdd52, shape(i, Lane::I64), v, how)
}

fn wide<E: Emitter>(l: L<E>, op: Op, ty: VTy, v: [E::Vec; 3], immediate: u8) -> E::Vec {
    l.e.wide(Wide::Integer(op), ty, &v.map(|v| (ty.bits, v)), immediate)
}

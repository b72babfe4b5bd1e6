//! SSSE3 (SDM vol. 1, 5.8) and its instructions' later forms: byte shuffles, horizontal integer arithmetic, signs.

use iced_x86::{Code, Mnemonic};

use super::integer::{two, whole};
use super::operands::{lanes, last_source, shape, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane, Ty, VBin, VShift, VTy};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pshufb | Vpshufb => pshufb,
        Palignr | Vpalignr => palignr,
        Phaddw | Vphaddw => |l, i| horizontal(l, i, VBin::Add, Lane::I16),
        Phaddd | Vphaddd => |l, i| horizontal(l, i, VBin::Add, Lane::I32),
        Phaddsw | Vphaddsw => |l, i| horizontal(l, i, VBin::AddSatS, Lane::I16),
        Phsubw | Vphsubw => |l, i| horizontal(l, i, VBin::Sub, Lane::I16),
        Phsubd | Vphsubd => |l, i| horizontal(l, i, VBin::Sub, Lane::I32),
        Phsubsw | Vphsubsw => |l, i| horizontal(l, i, VBin::SubSatS, Lane::I16),
        Pmaddubsw | Vpmaddubsw => |l, i| whole(l, i, Lane::I16, pmaddubsw),
        Pmulhrsw | Vpmulhrsw => |l, i| two(l, i, Lane::I16, pmulhrsw),
        Psignb | Vpsignb => |l, i| sign(l, i, Lane::I8),
        Psignw | Vpsignw => |l, i| sign(l, i, Lane::I16),
        Psignd | Vpsignd => |l, i| sign(l, i, Lane::I32),
        Pabsb | Vpabsb => |l, i| abs(l, i, Lane::I8),
        Pabsw | Vpabsw => |l, i| abs(l, i, Lane::I16),
        Pabsd | Vpabsd => |l, i| abs(l, i, Lane::I32),
        Vpabsq => |l, i| abs(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

/// Both MMX sources in one vector, the first one low.
fn joined<E: Emitter>(l: L<E>, low: E::Vec, high: E::Vec) -> E::Vec {
    l.e.shuffle(VTy::x128(Lane::I64), low, high, &[0, 2])
}

/// `v op n` in every lane, for a shift.
fn shifted<E: Emitter>(l: L<E>, op: VShift, ty: VTy, v: E::Vec, n: u64) -> E::Vec {
    let n = l.imm(Ty::I64, n);
    l.e.vshift(op, ty, v, n)
}

fn splat<E: Emitter>(l: L<E>, ty: VTy, x: u64) -> E::Vec {
    let x = l.imm(ty.lane.ty(), x);
    l.e.splat(ty, x)
}

fn pshufb<E: Emitter>(l: L<E>, i: I) {
    let (table, mut index) = l.two_vectors(i);
    if i.op0_register().is_mm() {
        // Eight bytes to choose from: bit 3 doesn't count.
        let relevant = splat(l, VTy::x128(Lane::I8), 0x87);
        index = l.e.vbin(VBin::And, VTy::x128(Lane::I8), index, relevant);
    }
    let r = l.e.byte_shuffle(width(i), table, index);
    l.set_vector(i, Lane::I8, r);
}

/// The two sources, the first one high, shifted right by whole bytes, zeros coming in.
fn palignr<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let n = i.immediate(i.op_count() - 1) as u32;
    let zero = l.zero(width(i));
    let (low, high, n) = match (i.op0_register().is_mm(), n) {
        (true, 0..16) => (joined(l, b, a), zero, n),
        (false, 0..16) => (b, a, n),
        (false, 16..32) => (a, zero, n - 16),
        _ => (zero, zero, 0),
    };
    let r = l.shuffle_blocks(shape(i, Lane::I8), low, high, |_, j| j + n);
    l.set_vector(i, Lane::I8, r);
}

/// Adjacent pairs of the first source, then of the second.
fn horizontal<E: Emitter>(l: L<E>, i: I, op: VBin, lane: Lane) {
    let (mut a, mut b) = l.two_vectors(i);
    if i.op0_register().is_mm() {
        a = joined(l, a, b);
        b = a;
    }
    let ty = shape(i, lane);
    let even = l.shuffle_blocks(ty, a, b, |_, j| 2 * j);
    let odd = l.shuffle_blocks(ty, a, b, |_, j| 2 * j + 1);
    let r = l.e.vbin(op, ty, even, odd);
    l.set_vector(i, lane, r);
}

/// The even bytes and the odd ones, each as a word.
pub fn byte_pairs<E: Emitter>(l: L<E>, words: VTy, v: E::Vec, signed: bool) -> [E::Vec; 2] {
    if signed {
        let up = shifted(l, VShift::Shl, words, v, 8);
        return [up, v].map(|v| shifted(l, VShift::Ashr, words, v, 8));
    }
    let low_bytes = splat(l, words, 0xff);
    let even = l.e.vbin(VBin::And, words, v, low_bytes);
    [even, shifted(l, VShift::Lshr, words, v, 8)]
}

/// Products of unsigned and signed bytes, adjacent ones added with saturation. No product exceeds 16 bits.
fn pmaddubsw<E: Emitter>(l: L<E>, i: I, a: E::Vec, b: E::Vec) -> E::Vec {
    let words = shape(i, Lane::I16);
    let a = byte_pairs(l, words, a, false);
    let b = byte_pairs(l, words, b, true);
    let even = l.e.vbin(VBin::Mul, words, a[0], b[0]);
    let odd = l.e.vbin(VBin::Mul, words, a[1], b[1]);
    l.e.vbin(VBin::AddSatS, words, even, odd)
}

/// `(a * b + 2^14) >> 15`, which is the product's bits 15 and up, plus bit 14.
fn pmulhrsw<E: Emitter>(l: L<E>, i: I, a: E::Vec, b: E::Vec) -> E::Vec {
    let words = shape(i, Lane::I16);
    let high = l.e.vbin(VBin::MulHiS, words, a, b);
    let low = l.e.vbin(VBin::Mul, words, a, b);
    let high = shifted(l, VShift::Shl, words, high, 1);
    let bit15 = shifted(l, VShift::Lshr, words, low, 15);
    let truncated = l.e.vbin(VBin::Or, words, high, bit15);
    let bit14 = shifted(l, VShift::Shl, words, low, 1);
    let bit14 = shifted(l, VShift::Lshr, words, bit14, 15);
    l.e.vbin(VBin::Add, words, truncated, bit14)
}

/// The first source negated, zeroed or kept by the sign of the second.
fn sign<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, lane);
    let zero = l.zero(width(i));
    let negative = l.e.vbin(VBin::CmpGtS, ty, zero, b);
    let flipped = l.e.vbin(VBin::Xor, ty, a, negative);
    let negated = l.e.vbin(VBin::Sub, ty, flipped, negative);
    let none = l.e.vbin(VBin::CmpEq, ty, b, zero);
    let r = l.e.vbin(VBin::AndNot, ty, none, negated);
    l.set_vector(i, lane, r);
}

fn abs<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.masked_vector(i, last_source(i), lanes(i, lane));
    let ty = shape(i, lane);
    let zero = l.zero(width(i));
    let negated = l.e.vbin(VBin::Sub, ty, zero, v);
    let r = l.e.vbin(VBin::MaxS, ty, v, negated);
    l.set_vector(i, lane, r);
}

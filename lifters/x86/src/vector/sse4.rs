//! SSE4.1 and SSE4.2 but for the string comparisons (SDM vol. 1, 5.9 and 5.10), with their instructions' later forms. Element
//! extraction and insertion by byte, doubleword and quadword are with the shuffles, comparisons and extrema with the integers, rounding
//! and dot products in a file of their own.

use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::operands::{bits_of, is_legacy, lanes, last_source, shape, width};
use super::{I, L};
use crate::emitter::{Bin, Emitter, Flag, Lane, Pred, Ty, VBin, VTy};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    selection(code).or_else(|| extension(code)).or_else(|| arithmetic(code))
}

fn selection<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Blendps | Vblendps | Vpblendd => |l, i| blend(l, i, Lane::I32),
        Blendpd | Vblendpd => |l, i| blend(l, i, Lane::I64),
        Pblendw | Vpblendw => |l, i| blend(l, i, Lane::I16),
        Pblendvb | Vpblendvb => |l, i| blend_by_sign(l, i, Lane::I8),
        Blendvps | Vblendvps => |l, i| blend_by_sign(l, i, Lane::I32),
        Blendvpd | Vblendvpd => |l, i| blend_by_sign(l, i, Lane::I64),
        Ptest | Vptest => ptest,
        Vtestps => |l, i| test_signs(l, i, Lane::I32),
        Vtestpd => |l, i| test_signs(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn extension<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Lane::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pmovzxbw | Vpmovzxbw => |l, i| zero_extend(l, i, I8, I16),
        Pmovzxbd | Vpmovzxbd => |l, i| zero_extend(l, i, I8, I32),
        Pmovzxbq | Vpmovzxbq => |l, i| zero_extend(l, i, I8, I64),
        Pmovzxwd | Vpmovzxwd => |l, i| zero_extend(l, i, I16, I32),
        Pmovzxwq | Vpmovzxwq => |l, i| zero_extend(l, i, I16, I64),
        Pmovzxdq | Vpmovzxdq => |l, i| zero_extend(l, i, I32, I64),
        Pmovsxbw | Vpmovsxbw => |l, i| sign_extend(l, i, I8, I16),
        Pmovsxbd | Vpmovsxbd => |l, i| sign_extend(l, i, I8, I32),
        Pmovsxbq | Vpmovsxbq => |l, i| sign_extend(l, i, I8, I64),
        Pmovsxwd | Vpmovsxwd => |l, i| sign_extend(l, i, I16, I32),
        Pmovsxwq | Vpmovsxwq => |l, i| sign_extend(l, i, I16, I64),
        Pmovsxdq | Vpmovsxdq => |l, i| sign_extend(l, i, I32, I64),
        _ => return None,
    };
    Some(f)
}

fn arithmetic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Mpsadbw | Vmpsadbw => mpsadbw,
        Phminposuw | Vphminposuw => phminposuw,
        _ => return None,
    };
    Some(f)
}

fn immediate(i: I) -> u32 {
    i.immediate(i.op_count() - 1) as u32
}

/// Elements of the second source where the immediate's bit is set; 256-bit words repeat the eight bits.
fn blend<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let per_block = 128 / lane.ty().bits();
    let choice = immediate(i);
    let r = l.shuffle_blocks(shape(i, lane), a, b, |block, j| {
        let bit = (block * per_block + j) % 8;
        j + if choice >> bit & 1 == 1 { per_block } else { 0 }
    });
    l.set_vector(i, lane, r);
}

/// Elements of the second source where the mask's sign bit is set. The legacy encoding's mask is always XMM0, the other's the
/// last operand.
fn blend_by_sign<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let mask = l.vreg(if is_legacy(i) { Register::XMM0 } else { i.op_register(3) });
    let mask = signs(l, shape(i, lane), mask);
    let ty = shape(i, Lane::I64);
    let taken = l.e.vbin(VBin::And, ty, mask, b);
    let kept = l.e.vbin(VBin::AndNot, ty, mask, a);
    let r = l.e.vbin(VBin::Or, ty, taken, kept);
    l.set_vector(i, lane, r);
}

/// All ones in the lanes whose sign bit is set.
fn signs<E: Emitter>(l: L<E>, ty: VTy, v: E::Vec) -> E::Vec {
    let zero = l.zero(ty.bits);
    if ty.lane.ty() != Ty::I64 {
        return l.e.vbin(VBin::CmpGtS, ty, zero, v);
    }
    // The upper halves' signs, which every engine has at hand.
    let dwords = VTy { lane: Lane::I32, ..ty };
    let halves = l.e.vbin(VBin::CmpGtS, dwords, zero, v);
    l.shuffle_blocks(dwords, halves, halves, |_, j| j | 1)
}

/// ZF: no bit in common; CF: the second operand has no bit that the first lacks.
fn ptest<E: Emitter>(l: L<E>, i: I) {
    let a = l.vector(i, 0);
    let b = l.vector(i, 1);
    let ty = shape(i, Lane::I64);
    let common = l.e.vbin(VBin::And, ty, a, b);
    let beyond = l.e.vbin(VBin::AndNot, ty, a, b);
    let zf = is_zero(l, ty, common);
    let cf = is_zero(l, ty, beyond);
    set_zero_and_carry(l, zf, cf);
}

/// VTESTPS and VTESTPD: the same for the lanes' sign bits.
fn test_signs<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let a = l.vector(i, 0);
    let b = l.vector(i, 1);
    let ty = shape(i, lane);
    let [zf, cf] = [VBin::And, VBin::AndNot].map(|op| {
        let v = l.e.vbin(op, ty, a, b);
        let signs = l.e.movmask(ty, v);
        l.cmp_imm(Pred::Eq, Ty::I64, signs, 0)
    });
    set_zero_and_carry(l, zf, cf);
}

/// Sets ZF and CF and clears the other status flags.
pub fn set_zero_and_carry<E: Emitter>(l: L<E>, zf: E::Cond, cf: E::Cond) {
    let clear = l.e.bconst(false);
    l.set_flag(Flag::Zf, zf);
    l.set_flag(Flag::Cf, cf);
    let odd = l.imm(Ty::I8, 1);
    l.set_parity(odd);
    for flag in [Flag::Of, Flag::Sf, Flag::Af] {
        l.set_flag(flag, clear);
    }
}

fn is_zero<E: Emitter>(l: L<E>, ty: VTy, v: E::Vec) -> E::Cond {
    let mut all = l.e.extract(ty, v, 0);
    for n in 1..ty.lanes() {
        let x = l.e.extract(ty, v, n);
        all = l.bin(Bin::Or, Ty::I64, all, x);
    }
    l.cmp_imm(Pred::Eq, Ty::I64, all, 0)
}

/// How many narrow lanes make a wide one.
fn ratio(from: Lane, to: Lane) -> u32 {
    to.ty().bits() / from.ty().bits()
}

/// The low elements, each at the bottom of a wider lane, `filler`'s elements above it.
fn spread<E: Emitter>(l: L<E>, i: I, [from, to]: [Lane; 2], v: E::Vec, filler: E::Vec) -> E::Vec {
    let ty = shape(i, from);
    let ratio = ratio(from, to);
    let mut indices = [0; 64];
    for n in 0..ty.lanes() {
        let source = n / ratio + if n % ratio == 0 { 0 } else { ty.lanes() };
        indices[n as usize] = source as u8;
    }
    l.e.shuffle(ty, v, filler, &indices[..ty.lanes() as usize])
}

/// The source of a result with these lanes, as wide as the result.
fn narrow_source<E: Emitter>(l: L<E>, i: I, to: Lane) -> E::Vec {
    let op = last_source(i);
    let v = l.masked_vector(i, op, lanes(i, to));
    let bits = match i.op_kind(op) {
        OpKind::Register => bits_of(i.op_register(op)),
        _ => (i.memory_size().size() as u32 * 8).max(128),
    };
    if bits == width(i) { v } else { l.e.resize(v, bits, width(i)) }
}

fn zero_extend<E: Emitter>(l: L<E>, i: I, from: Lane, to: Lane) {
    let v = narrow_source(l, i, to);
    let zero = l.zero(width(i));
    let r = spread(l, i, [from, to], v, zero);
    l.set_vector(i, to, r);
}

fn sign_extend<E: Emitter>(l: L<E>, i: I, from: Lane, to: Lane) {
    let v = narrow_source(l, i, to);
    let negative = signs(l, shape(i, from), v);
    let r = spread(l, i, [from, to], v, negative);
    l.set_vector(i, to, r);
}

/// Sums of absolute differences of four bytes of the second source and each four adjacent ones of the first.
fn mpsadbw<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let (bytes, words) = (shape(i, Lane::I8), shape(i, Lane::I16));
    let zero = l.zero(width(i));
    // 256-bit forms have three bits for each half.
    let starts = |block: u32| {
        let bits = immediate(i) >> (3 * block);
        ((bits >> 2 & 1) * 4, (bits & 3) * 4)
    };
    let mut sums = zero;
    for k in 0..4 {
        // Byte lanes with a zero above each: words.
        let x = l.shuffle_blocks(bytes, a, zero, |block, j| match j % 2 {
            0 => starts(block).0 + j / 2 + k,
            _ => 16,
        });
        let y = l.shuffle_blocks(bytes, b, zero, |block, j| match j % 2 {
            0 => starts(block).1 + k,
            _ => 16,
        });
        let more = l.e.vbin(VBin::MaxS, words, x, y);
        let less = l.e.vbin(VBin::MinS, words, x, y);
        let difference = l.e.vbin(VBin::Sub, words, more, less);
        sums = l.e.vbin(VBin::Add, words, sums, difference);
    }
    l.set_vector(i, Lane::I16, sums);
}

/// The smallest of eight words and its place.
fn phminposuw<E: Emitter>(l: L<E>, i: I) {
    let v = l.vector(i, 1);
    let words = VTy::x128(Lane::I16);
    let mut least = l.e.extract(words, v, 0);
    let mut place = l.imm(Ty::I16, 0);
    for n in 1..8 {
        let x = l.e.extract(words, v, n);
        let here = l.imm(Ty::I16, n.into());
        let less = l.e.cmp(Pred::Ult, Ty::I16, x, least);
        least = l.e.select(Ty::I16, less, x, least);
        place = l.e.select(Ty::I16, less, here, place);
    }
    let r = l.zero_extended(Lane::I16, least);
    let r = l.e.insert(words, r, 1, place);
    l.set_vector(i, Lane::I16, r);
}

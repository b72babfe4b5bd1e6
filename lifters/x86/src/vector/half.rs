//! AVX512-FP16: halves, which are lanes of 16 bits to the emitters (SDM vol. 1, 15.5). All of it is calculated by
//! [`crate::wide::float`].

use iced_x86::{Code, Mnemonic};

use super::compare::{predicate, read};
use super::convert::{self, Signed};
use super::fma::{self, BY_132, BY_213, BY_231};
use super::operands::{bits_of, shape};
use super::special::{self, classify_packed, classify_scalar, packed_by_two, scalar_by_two};
use super::{I, L};
use crate::emitter::{Emitter, FPred, Fma, Fty, Lane, Round, VTy};
use crate::isa::Semantics;
use crate::wide::Wide;
use crate::wide::float::{Element, Op};

const LANE: Lane = Lane::I16;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    arithmetic(code)
        .or_else(|| fused(code))
        .or_else(|| complex(code))
        .or_else(|| comparison(code))
        .or_else(|| conversion(code))
        .or_else(|| scalar_conversion(code))
}

fn arithmetic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vaddph => |l, i| packed_by_two(l, i, Op::Add, LANE),
        Vaddsh => |l, i| scalar_by_two(l, i, Op::Add, LANE),
        Vsubph => |l, i| packed_by_two(l, i, Op::Subtract, LANE),
        Vsubsh => |l, i| scalar_by_two(l, i, Op::Subtract, LANE),
        Vmulph => |l, i| packed_by_two(l, i, Op::Multiply, LANE),
        Vmulsh => |l, i| scalar_by_two(l, i, Op::Multiply, LANE),
        Vdivph => |l, i| packed_by_two(l, i, Op::Divide, LANE),
        Vdivsh => |l, i| scalar_by_two(l, i, Op::Divide, LANE),
        Vminph => |l, i| packed_by_two(l, i, Op::Minimum, LANE),
        Vminsh => |l, i| scalar_by_two(l, i, Op::Minimum, LANE),
        Vmaxph => |l, i| packed_by_two(l, i, Op::Maximum, LANE),
        Vmaxsh => |l, i| scalar_by_two(l, i, Op::Maximum, LANE),
        Vscalefph => |l, i| packed_by_two(l, i, Op::Scale, LANE),
        Vscalefsh => |l, i| scalar_by_two(l, i, Op::Scale, LANE),
        Vsqrtph => |l, i| special::packed(l, i, Op::SquareRoot, LANE),
        Vsqrtsh => |l, i| special::scalar(l, i, Op::SquareRoot, LANE),
        Vgetexpph => |l, i| special::packed(l, i, Op::Exponent, LANE),
        Vgetexpsh => |l, i| special::scalar(l, i, Op::Exponent, LANE),
        Vgetmantph => |l, i| special::packed(l, i, Op::Significand, LANE),
        Vgetmantsh => |l, i| special::scalar(l, i, Op::Significand, LANE),
        Vreduceph => |l, i| special::packed(l, i, Op::Reduce, LANE),
        Vreducesh => |l, i| special::scalar(l, i, Op::Reduce, LANE),
        Vrndscaleph => |l, i| special::packed(l, i, Op::RoundScaled, LANE),
        Vrndscalesh => |l, i| special::scalar(l, i, Op::RoundScaled, LANE),
        Vrcpph => |l, i| special::packed(l, i, Op::Reciprocal, LANE),
        Vrcpsh => |l, i| special::scalar(l, i, Op::Reciprocal, LANE),
        Vrsqrtph => |l, i| special::packed(l, i, Op::ReciprocalRoot, LANE),
        Vrsqrtsh => |l, i| special::scalar(l, i, Op::ReciprocalRoot, LANE),
        _ => return None,
    };
    Some(f)
}

fn fused<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vfmadd132ph => |l, i| fma::packed(l, i, Fma::Add, BY_132, LANE),
        Vfmadd132sh => |l, i| fma::scalar(l, i, Fma::Add, BY_132, LANE),
        Vfmsub132ph => |l, i| fma::packed(l, i, Fma::Sub, BY_132, LANE),
        Vfmsub132sh => |l, i| fma::scalar(l, i, Fma::Sub, BY_132, LANE),
        Vfnmadd132ph => |l, i| fma::packed(l, i, Fma::NegatedAdd, BY_132, LANE),
        Vfnmadd132sh => |l, i| fma::scalar(l, i, Fma::NegatedAdd, BY_132, LANE),
        Vfnmsub132ph => |l, i| fma::packed(l, i, Fma::NegatedSub, BY_132, LANE),
        Vfnmsub132sh => |l, i| fma::scalar(l, i, Fma::NegatedSub, BY_132, LANE),
        Vfmaddsub132ph => |l, i| fma::packed(l, i, Fma::AddSub, BY_132, LANE),
        Vfmsubadd132ph => |l, i| fma::packed(l, i, Fma::SubAdd, BY_132, LANE),
        Vfmadd213ph => |l, i| fma::packed(l, i, Fma::Add, BY_213, LANE),
        Vfmadd213sh => |l, i| fma::scalar(l, i, Fma::Add, BY_213, LANE),
        Vfmsub213ph => |l, i| fma::packed(l, i, Fma::Sub, BY_213, LANE),
        Vfmsub213sh => |l, i| fma::scalar(l, i, Fma::Sub, BY_213, LANE),
        Vfnmadd213ph => |l, i| fma::packed(l, i, Fma::NegatedAdd, BY_213, LANE),
        Vfnmadd213sh => |l, i| fma::scalar(l, i, Fma::NegatedAdd, BY_213, LANE),
        Vfnmsub213ph => |l, i| fma::packed(l, i, Fma::NegatedSub, BY_213, LANE),
        Vfnmsub213sh => |l, i| fma::scalar(l, i, Fma::NegatedSub, BY_213, LANE),
        Vfmaddsub213ph => |l, i| fma::packed(l, i, Fma::AddSub, BY_213, LANE),
        Vfmsubadd213ph => |l, i| fma::packed(l, i, Fma::SubAdd, BY_213, LANE),
        Vfmadd231ph => |l, i| fma::packed(l, i, Fma::Add, BY_231, LANE),
        Vfmadd231sh => |l, i| fma::scalar(l, i, Fma::Add, BY_231, LANE),
        Vfmsub231ph => |l, i| fma::packed(l, i, Fma::Sub, BY_231, LANE),
        Vfmsub231sh => |l, i| fma::scalar(l, i, Fma::Sub, BY_231, LANE),
        Vfnmadd231ph => |l, i| fma::packed(l, i, Fma::NegatedAdd, BY_231, LANE),
        Vfnmadd231sh => |l, i| fma::scalar(l, i, Fma::NegatedAdd, BY_231, LANE),
        Vfnmsub231ph => |l, i| fma::packed(l, i, Fma::NegatedSub, BY_231, LANE),
        Vfnmsub231sh => |l, i| fma::scalar(l, i, Fma::NegatedSub, BY_231, LANE),
        Vfmaddsub231ph => |l, i| fma::packed(l, i, Fma::AddSub, BY_231, LANE),
        Vfmsubadd231ph => |l, i| fma::packed(l, i, Fma::SubAdd, BY_231, LANE),
        _ => return None,
    };
    Some(f)
}

fn complex<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vfmulcph => |l, i| complex_packed(l, i, Op::ComplexMultiply),
        Vfmulcsh => |l, i| complex_scalar(l, i, Op::ComplexMultiply),
        Vfcmulcph => |l, i| complex_packed(l, i, Op::ComplexMultiplyConjugate),
        Vfcmulcsh => |l, i| complex_scalar(l, i, Op::ComplexMultiplyConjugate),
        Vfmaddcph => |l, i| complex_packed(l, i, Op::ComplexMultiplyAdd),
        Vfmaddcsh => |l, i| complex_scalar(l, i, Op::ComplexMultiplyAdd),
        Vfcmaddcph => |l, i| complex_packed(l, i, Op::ComplexMultiplyConjugateAdd),
        Vfcmaddcsh => |l, i| complex_scalar(l, i, Op::ComplexMultiplyConjugateAdd),
        _ => return None,
    };
    Some(f)
}

fn comparison<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vcmpph => compare_packed,
        Vcmpsh => compare_scalar,
        Vcomish => |l, i| comis(l, i, FPred::OLT),
        Vucomish => |l, i| comis(l, i, FPred::OEQ),
        Vfpclassph => |l, i| classify_packed(l, i, LANE),
        Vfpclasssh => |l, i| classify_scalar(l, i, LANE),
        _ => return None,
    };
    Some(f)
}

fn conversion<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Element::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vcvtw2ph => |l, i| convert::packed(l, i, I16, Half, Round::Current),
        Vcvtph2w => |l, i| convert::packed(l, i, Half, I16, Round::Current),
        Vcvttph2w => |l, i| convert::packed(l, i, Half, I16, Round::Truncate),
        Vcvtuw2ph => |l, i| convert::packed(l, i, U16, Half, Round::Current),
        Vcvtph2uw => |l, i| convert::packed(l, i, Half, U16, Round::Current),
        Vcvttph2uw => |l, i| convert::packed(l, i, Half, U16, Round::Truncate),
        Vcvtdq2ph => |l, i| convert::packed(l, i, I32, Half, Round::Current),
        Vcvtph2dq => |l, i| convert::packed(l, i, Half, I32, Round::Current),
        Vcvttph2dq => |l, i| convert::packed(l, i, Half, I32, Round::Truncate),
        Vcvtudq2ph => |l, i| convert::packed(l, i, U32, Half, Round::Current),
        Vcvtph2udq => |l, i| convert::packed(l, i, Half, U32, Round::Current),
        Vcvttph2udq => |l, i| convert::packed(l, i, Half, U32, Round::Truncate),
        Vcvtqq2ph => |l, i| convert::packed(l, i, I64, Half, Round::Current),
        Vcvtph2qq => |l, i| convert::packed(l, i, Half, I64, Round::Current),
        Vcvttph2qq => |l, i| convert::packed(l, i, Half, I64, Round::Truncate),
        Vcvtuqq2ph => |l, i| convert::packed(l, i, U64, Half, Round::Current),
        Vcvtph2uqq => |l, i| convert::packed(l, i, Half, U64, Round::Current),
        Vcvttph2uqq => |l, i| convert::packed(l, i, Half, U64, Round::Truncate),
        Vcvtph2psx => |l, i| convert::packed(l, i, Half, Single, Round::Current),
        Vcvtps2phx => |l, i| convert::packed(l, i, Single, Half, Round::Current),
        Vcvtph2pd => |l, i| convert::packed(l, i, Half, Double, Round::Current),
        Vcvtpd2ph => |l, i| convert::packed(l, i, Double, Half, Round::Current),
        _ => return None,
    };
    Some(f)
}

fn scalar_conversion<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Element::{Double, Half, Single};
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vcvtsi2sh => |l, i| convert::from_integer(l, i, Signed::Yes, Half),
        Vcvtusi2sh => |l, i| convert::from_integer(l, i, Signed::No, Half),
        Vcvtsh2si => |l, i| convert::to_integer(l, i, Half, Signed::Yes, Round::Current),
        Vcvtsh2usi => |l, i| convert::to_integer(l, i, Half, Signed::No, Round::Current),
        Vcvttsh2si => |l, i| convert::to_integer(l, i, Half, Signed::Yes, Round::Truncate),
        Vcvttsh2usi => |l, i| convert::to_integer(l, i, Half, Signed::No, Round::Truncate),
        Vcvtsh2ss => |l, i| convert::scalar_format(l, i, Half, Single),
        Vcvtsh2sd => |l, i| convert::scalar_format(l, i, Half, Double),
        Vcvtss2sh => |l, i| convert::scalar_format(l, i, Single, Half),
        Vcvtsd2sh => |l, i| convert::scalar_format(l, i, Double, Half),
        _ => return None,
    };
    Some(f)
}

fn compare_packed<E: Emitter>(l: L<E>, i: I) {
    let ty = VTy { lane: LANE, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let operands = [a, b].map(|v| (ty.bits, l.calm(i, ty, v)));
    let r = l.e.wide_bits(Wide::Float(Op::Compare), ty, &operands, predicate(i).number());
    l.set_mask_bits(i, r);
}

fn compare_scalar<E: Emitter>(l: L<E>, i: I) {
    let b = l.calm_scalar(i, 2, LANE);
    let a = l.calm_scalar(i, 1, LANE);
    let r = compared(l, predicate(i), [a, b]);
    l.set_mask_bits(i, r);
}

/// Whether a comparison of scalars holds, as an I64.
fn compared<E: Emitter>(l: L<E>, pred: FPred, operands: [E::Val; 2]) -> E::Val {
    let operands = operands.map(|v| (128, l.zero_extended(LANE, v)));
    l.e.wide_bits(Wide::Float(Op::Compare), VTy { lane: LANE, bits: 16 }, &operands, pred.number())
}

/// The flags come from a comparison of singles, which raises nothing, and the exceptions from this predicate of halves.
fn comis<E: Emitter>(l: L<E>, i: I, raises: FPred) {
    let b = l.scalar(i, 1, LANE);
    let a = l.scalar(i, 0, LANE);
    compared(l, raises, [a, b]);
    let [a, b] = [a, b].map(|v| special::of_scalar_as(l, Op::OfHalf, [LANE, Lane::F32], v));
    let read = read(l);
    let compare = l.e.fcompare(false, read, Fty::F32, a, b);
    l.set_flags_compare(compare);
}

// ---- complex numbers -------------------------------------------------------------------------------------------

/// 1 + i.
const CALM: u64 = 0x3c00_3c00;

/// A complex number is a lane of 32 bits to the write mask. The manual lists exceptions; processors set their flags, but never
/// raise them (seen on a Xeon of the fourth generation).
fn complex_packed<E: Emitter>(l: L<E>, i: I, op: Op) {
    let (pairs, ty) = (shape(i, Lane::I32), shape(i, LANE));
    let operands = [1, 2, 0].map(|n| {
        let v = l.masked_vector(i, n, pairs.lanes());
        (ty.bits, calm(l, i, pairs, v))
    });
    let r = l.e.wide(Wide::Float(op), ty, &operands, 0);
    l.e.keep_exceptions();
    l.set_vector(i, Lane::I32, r);
}

fn calm<E: Emitter>(l: L<E>, i: I, pairs: VTy, v: E::Vec) -> E::Vec {
    let Some(m) = l.write_mask(i, pairs.lanes()) else { return v };
    let number = l.imm(pairs.lane.ty(), CALM);
    let calm = l.e.splat(pairs, number);
    l.e.vselect(pairs, m, v, calm)
}

fn complex_scalar<E: Emitter>(l: L<E>, i: I, op: Op) {
    let pairs = VTy::x128(Lane::I32);
    let operands = [1, 2, 0].map(|n| {
        let v = l.scalar(i, n, Lane::I32);
        let v = l.zero_extended(Lane::I32, v);
        (128, calm(l, i, pairs, v))
    });
    let r = l.e.wide(Wide::Float(op), VTy { lane: LANE, bits: 32 }, &operands, 0);
    l.e.keep_exceptions();
    let r = l.low(Lane::I32, r);
    l.set_scalar(i, Lane::I32, r);
}

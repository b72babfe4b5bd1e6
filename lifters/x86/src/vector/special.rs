//! AVX-512's operations on the parts and classes of floats, and its estimates (SDM vol. 1, 15.2 and 15.3).

use iced_x86::{Code, Mnemonic, OpKind};

use super::float::one_float_vector;
use super::operands::{last_source, operand_bits, shape, sources};
use super::{I, L};
use crate::emitter::{Emitter, Lane, VTy};
use crate::isa::Semantics;
use crate::wide::Wide;
use crate::wide::float::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    of_one(code).or_else(|| of_several(code))
}

fn of_one<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Lane::{F32, F64};
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vreduceps => |l, i| packed(l, i, Op::Reduce, F32),
        Vreducepd => |l, i| packed(l, i, Op::Reduce, F64),
        Vreducess => |l, i| scalar(l, i, Op::Reduce, F32),
        Vreducesd => |l, i| scalar(l, i, Op::Reduce, F64),
        Vgetexpps => |l, i| packed(l, i, Op::Exponent, F32),
        Vgetexppd => |l, i| packed(l, i, Op::Exponent, F64),
        Vgetexpss => |l, i| scalar(l, i, Op::Exponent, F32),
        Vgetexpsd => |l, i| scalar(l, i, Op::Exponent, F64),
        Vgetmantps => |l, i| packed(l, i, Op::Significand, F32),
        Vgetmantpd => |l, i| packed(l, i, Op::Significand, F64),
        Vgetmantss => |l, i| scalar(l, i, Op::Significand, F32),
        Vgetmantsd => |l, i| scalar(l, i, Op::Significand, F64),
        Vrcp14ps => |l, i| packed(l, i, Op::Reciprocal, F32),
        Vrcp14pd => |l, i| packed(l, i, Op::Reciprocal, F64),
        Vrcp14ss => |l, i| scalar(l, i, Op::Reciprocal, F32),
        Vrcp14sd => |l, i| scalar(l, i, Op::Reciprocal, F64),
        Vrsqrt14ps => |l, i| packed(l, i, Op::ReciprocalRoot, F32),
        Vrsqrt14pd => |l, i| packed(l, i, Op::ReciprocalRoot, F64),
        Vrsqrt14ss => |l, i| scalar(l, i, Op::ReciprocalRoot, F32),
        Vrsqrt14sd => |l, i| scalar(l, i, Op::ReciprocalRoot, F64),
        _ => return None,
    };
    Some(f)
}

fn of_several<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Lane::{F32, F64};
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vscalefps => |l, i| packed_by_two(l, i, Op::Scale, F32),
        Vscalefpd => |l, i| packed_by_two(l, i, Op::Scale, F64),
        Vscalefss => |l, i| scalar_by_two(l, i, Op::Scale, F32),
        Vscalefsd => |l, i| scalar_by_two(l, i, Op::Scale, F64),
        Vrangeps => |l, i| packed_by_two(l, i, Op::Range, F32),
        Vrangepd => |l, i| packed_by_two(l, i, Op::Range, F64),
        Vrangess => |l, i| scalar_by_two(l, i, Op::Range, F32),
        Vrangesd => |l, i| scalar_by_two(l, i, Op::Range, F64),
        Vfixupimmps => |l, i| fix_up_packed(l, i, F32),
        Vfixupimmpd => |l, i| fix_up_packed(l, i, F64),
        Vfixupimmss => |l, i| fix_up_scalar(l, i, F32),
        Vfixupimmsd => |l, i| fix_up_scalar(l, i, F64),
        Vfpclassps => |l, i| classify_packed(l, i, F32),
        Vfpclasspd => |l, i| classify_packed(l, i, F64),
        Vfpclassss => |l, i| classify_scalar(l, i, F32),
        Vfpclasssd => |l, i| classify_scalar(l, i, F64),
        _ => return None,
    };
    Some(f)
}

/// The immediate; 0 if the instruction has none.
fn immediate(i: I) -> u8 {
    let last = i.op_count() - 1;
    if i.op_kind(last) == OpKind::Immediate8 { i.immediate8() } else { 0 }
}

/// Of each lane of the only source.
pub(super) fn packed<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let ty = shape(i, lane);
    let v = one_float_vector(l, i, lane);
    let r = l.e.wide(Wide::Float(op), ty, &[(ty.bits, v)], immediate(i));
    l.set_vector(i, lane, r);
}

/// Of the low lane of the last source.
pub(super) fn scalar<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let v = l.calm_scalar(i, last_source(i), lane);
    let r = of_scalars(l, op, lane, &[v], immediate(i));
    l.set_scalar(i, lane, r);
}

/// An operation on scalars.
pub(super) fn of_scalars<E: Emitter>(l: L<E>, op: Op, lane: Lane, operands: &[E::Val], immediate: u8) -> E::Val {
    let operands: Vec<_> = operands.iter().map(|v| (128, l.zero_extended(lane, *v))).collect();
    let r = l.e.wide(Wide::Float(op), one(lane), &operands, immediate);
    l.low(lane, r)
}

/// An operation on a scalar that gives one of another lane.
pub(super) fn of_scalar_as<E: Emitter>(l: L<E>, op: Op, [from, to]: [Lane; 2], v: E::Val) -> E::Val {
    let v = l.zero_extended(from, v);
    let r = l.e.wide(Wide::Float(op), one(to), &[(128, v)], 0);
    l.low(to, r)
}

/// The shape of a scalar.
fn one(lane: Lane) -> VTy {
    VTy { lane, bits: lane.ty().bits() }
}

pub(super) fn packed_by_two<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let ty = shape(i, lane);
    let (a, b) = l.two_float_vectors(i, lane);
    let r = l.e.wide(Wide::Float(op), ty, &[(ty.bits, a), (ty.bits, b)], immediate(i));
    l.set_vector(i, lane, r);
}

pub(super) fn scalar_by_two<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let (a, b) = sources(i);
    let b = l.calm_scalar(i, b, lane);
    let a = l.calm_scalar(i, a, lane);
    let r = of_scalars(l, op, lane, &[a, b], immediate(i));
    l.set_scalar(i, lane, r);
}

fn fix_up_packed<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let table = l.masked_vector(i, 2, ty.lanes());
    let r = fixed_up(l, i, ty, ty, table);
    l.set_vector(i, lane, r);
}

fn fix_up_scalar<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let table = l.scalar(i, 2, lane);
    let table = l.zero_extended(lane, table);
    let r = fixed_up(l, i, VTy::x128(lane), one(lane), table);
    let r = l.low(lane, r);
    l.set_scalar(i, lane, r);
}

/// Exceptions are raised by classes, so there is no calm number: a fourth operand tells where they are.
fn fixed_up<E: Emitter>(l: L<E>, i: I, whole: VTy, ty: VTy, table: E::Vec) -> E::Vec {
    let old = l.vector(i, 0);
    let v = l.vector(i, 1);
    let ones = l.ones(whole.bits);
    let raises = match l.write_mask(i, whole.lanes()) {
        Some(m) => {
            let zero = l.zero(whole.bits);
            l.e.vselect(whole, m, ones, zero)
        }
        None => ones,
    };
    let operands = [old, v, table, raises].map(|v| (whole.bits, v));
    l.e.wide(Wide::Float(Op::FixUp), ty, &operands, immediate(i))
}

pub(super) fn classify_packed<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = VTy { lane, bits: operand_bits(i, 1) };
    let v = l.masked_vector(i, 1, ty.lanes());
    let r = l.e.wide_bits(Wide::Float(Op::Classify), ty, &[(ty.bits, v)], immediate(i));
    l.set_mask_bits(i, r);
}

pub(super) fn classify_scalar<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.scalar(i, 1, lane);
    let v = l.zero_extended(lane, v);
    let r = l.e.wide_bits(Wide::Float(Op::Classify), one(lane), &[(128, v)], immediate(i));
    l.set_mask_bits(i, r);
}

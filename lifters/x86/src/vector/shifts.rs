//! Shifts and rotates of integer lanes, and of all bytes (SDM vol. 1, 5.4.6, 5.6.3; AVX2's and AVX-512's: 5.16 and 5.19).

use iced_x86::{Code, Mnemonic, OpKind};

use super::integer::two;
use super::operands::{lanes, last_source, shape, sources, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane, Ty, VBin, VShift};
use crate::isa::Semantics;
use crate::wide::{Wide, integer::Op};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    by_one_count(code).or_else(|| by_counts(code)).or_else(|| of_two_lanes(code))
}

fn by_one_count<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Psllw | Vpsllw => |l, i| shift(l, i, VShift::Shl, Lane::I16),
        Pslld | Vpslld => |l, i| shift(l, i, VShift::Shl, Lane::I32),
        Psllq | Vpsllq => |l, i| shift(l, i, VShift::Shl, Lane::I64),
        Psrlw | Vpsrlw => |l, i| shift(l, i, VShift::Lshr, Lane::I16),
        Psrld | Vpsrld => |l, i| shift(l, i, VShift::Lshr, Lane::I32),
        Psrlq | Vpsrlq => |l, i| shift(l, i, VShift::Lshr, Lane::I64),
        Psraw | Vpsraw => |l, i| shift(l, i, VShift::Ashr, Lane::I16),
        Psrad | Vpsrad => |l, i| shift(l, i, VShift::Ashr, Lane::I32),
        Vpsraq => |l, i| shift(l, i, VShift::Ashr, Lane::I64),
        Pslldq | Vpslldq => |l, i| shift_bytes(l, i, true),
        Psrldq | Vpsrldq => |l, i| shift_bytes(l, i, false),
        Vprold => |l, i| rotate(l, i, Lane::I32, |count| count),
        Vprolq => |l, i| rotate(l, i, Lane::I64, |count| count),
        Vprord => |l, i| rotate(l, i, Lane::I32, u32::wrapping_neg),
        Vprorq => |l, i| rotate(l, i, Lane::I64, u32::wrapping_neg),
        _ => return None,
    };
    Some(f)
}

fn by_counts<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpsllvw => |l, i| each(l, i, Op::ShiftLeft, Lane::I16),
        Vpsllvd => |l, i| each(l, i, Op::ShiftLeft, Lane::I32),
        Vpsllvq => |l, i| each(l, i, Op::ShiftLeft, Lane::I64),
        Vpsrlvw => |l, i| each(l, i, Op::ShiftRight, Lane::I16),
        Vpsrlvd => |l, i| each(l, i, Op::ShiftRight, Lane::I32),
        Vpsrlvq => |l, i| each(l, i, Op::ShiftRight, Lane::I64),
        Vpsravw => |l, i| each(l, i, Op::ShiftRightSigned, Lane::I16),
        Vpsravd => |l, i| each(l, i, Op::ShiftRightSigned, Lane::I32),
        Vpsravq => |l, i| each(l, i, Op::ShiftRightSigned, Lane::I64),
        Vprolvd => |l, i| each(l, i, Op::RotateLeft, Lane::I32),
        Vprolvq => |l, i| each(l, i, Op::RotateLeft, Lane::I64),
        Vprorvd => |l, i| each(l, i, Op::RotateRight, Lane::I32),
        Vprorvq => |l, i| each(l, i, Op::RotateRight, Lane::I64),
        Vpmultishiftqb => vpmultishiftqb,
        _ => return None,
    };
    Some(f)
}

fn of_two_lanes<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpshldw => |l, i| funnel(l, i, [VShift::Shl, VShift::Lshr], Lane::I16),
        Vpshldd => |l, i| funnel(l, i, [VShift::Shl, VShift::Lshr], Lane::I32),
        Vpshldq => |l, i| funnel(l, i, [VShift::Shl, VShift::Lshr], Lane::I64),
        Vpshrdw => |l, i| funnel(l, i, [VShift::Lshr, VShift::Shl], Lane::I16),
        Vpshrdd => |l, i| funnel(l, i, [VShift::Lshr, VShift::Shl], Lane::I32),
        Vpshrdq => |l, i| funnel(l, i, [VShift::Lshr, VShift::Shl], Lane::I64),
        Vpshldvw => |l, i| funnel_each(l, i, Op::FunnelLeft, Lane::I16),
        Vpshldvd => |l, i| funnel_each(l, i, Op::FunnelLeft, Lane::I32),
        Vpshldvq => |l, i| funnel_each(l, i, Op::FunnelLeft, Lane::I64),
        Vpshrdvw => |l, i| funnel_each(l, i, Op::FunnelRight, Lane::I16),
        Vpshrdvd => |l, i| funnel_each(l, i, Op::FunnelRight, Lane::I32),
        Vpshrdvq => |l, i| funnel_each(l, i, Op::FunnelRight, Lane::I64),
        _ => return None,
    };
    Some(f)
}

/// Every lane by one count: an immediate, or the low 64 bits of the last source.
fn shift<E: Emitter>(l: L<E>, i: I, op: VShift, lane: Lane) {
    let (a, b) = sources(i);
    let v = l.masked_vector(i, a, lanes(i, lane));
    let count = if i.op_kind(b) == OpKind::Immediate8 {
        l.imm(Ty::I64, i.immediate(b))
    } else {
        // All 128 bits are accessed whatever the write mask is.
        let count = l.vector(i, last_source(i));
        l.low(Lane::I64, count)
    };
    let r = l.e.vshift(op, shape(i, lane), v, count);
    l.set_vector(i, lane, r);
}

/// PSLLDQ and PSRLDQ: whole bytes, zeros shifted in, each 128 bits by themselves.
fn shift_bytes<E: Emitter>(l: L<E>, i: I, left: bool) {
    let (a, count) = sources(i);
    let n = i.immediate(count).min(16) as u32;
    let v = l.vector(i, a);
    let zero = l.zero(width(i));
    let r = l.shuffle_blocks(shape(i, Lane::I8), v, zero, |_, j| match left {
        true if j < n => 16,
        true => j - n,
        false if j + n < 16 => j + n,
        false => 16,
    });
    l.set_vector(i, Lane::I8, r);
}

/// VPROLD and its like: `left` makes the count of a rotate to the left of the immediate.
fn rotate<E: Emitter>(l: L<E>, i: I, lane: Lane, left: fn(u32) -> u32) {
    let v = l.masked_vector(i, 1, lanes(i, lane));
    let count = left(i.immediate(2) as u32);
    let r = funnelled(l, i, [VShift::Shl, VShift::Lshr], lane, [v, v], count);
    l.set_vector(i, lane, r);
}

/// VPSHLDW and its like: the first source shifted, the bits coming in being the second one's.
fn funnel<E: Emitter>(l: L<E>, i: I, ops: [VShift; 2], lane: Lane) {
    let (a, b) = l.two_masked_vectors(i, lanes(i, lane));
    let r = funnelled(l, i, ops, lane, [a, b], i.immediate(3) as u32);
    l.set_vector(i, lane, r);
}

/// The first vector's lanes shifted by the first operation, the second one's by the opposite one into the bits that are left.
fn funnelled<E: Emitter>(l: L<E>, i: I, ops: [VShift; 2], lane: Lane, [a, b]: [E::Vec; 2], count: u32) -> E::Vec {
    let (ty, bits) = (shape(i, lane), lane.ty().bits());
    let count = count % bits;
    if count == 0 {
        return a;
    }
    let counts = [count, bits - count].map(|n| l.imm(Ty::I64, n.into()));
    let a = l.e.vshift(ops[0], ty, a, counts[0]);
    let b = l.e.vshift(ops[1], ty, b, counts[1]);
    l.e.vbin(VBin::Or, ty, a, b)
}

/// VPSLLVD and its like: every lane by its own count.
fn each<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    two(l, i, lane, |l, i, v, counts| {
        let ty = shape(i, lane);
        l.e.wide(Wide::Integer(op), ty, &[(ty.bits, v), (ty.bits, counts)], 0)
    });
}

/// VPSHLDVW and its like: the destination's lanes shifted each by its own count, the bits coming in being the first source's.
fn funnel_each<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let ty = shape(i, lane);
    let (a, b) = (l.vector(i, 0), l.vector(i, 1));
    let counts = l.masked_vector(i, 2, ty.lanes());
    let r = l.e.wide(Wide::Integer(op), ty, &[a, b, counts].map(|v| (ty.bits, v)), 0);
    l.set_vector(i, lane, r);
}

/// Bytes from anywhere in the second source's quadwords.
fn vpmultishiftqb<E: Emitter>(l: L<E>, i: I) {
    let ty = shape(i, Lane::I8);
    let (places, v) = l.two_vectors(i);
    let r = l.e.wide(Wide::Integer(Op::UnalignedBytes), ty, &[(ty.bits, places), (ty.bits, v)], 0);
    l.set_vector(i, Lane::I8, r);
}

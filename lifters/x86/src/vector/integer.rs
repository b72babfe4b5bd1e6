//! Packed integer arithmetic, comparison, logic and shifts (SDM vol. 1, 5.4.3 to 5.4.6, 5.5.3, 5.6.3), and
//! the bitwise operations on packed floats, which are the same.

use iced_x86::{Code, Mnemonic, OpKind};

use super::operands::{bits_of, lanes, last_source, shape, sources, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane, Pred, Ty, VBin, VShift, VTy};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    arithmetic(code)
        .or_else(|| saturating(code))
        .or_else(|| ordering(code))
        .or_else(|| logic(code))
        .or_else(|| shifts(code))
}

fn arithmetic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Paddb | Vpaddb => |l, i| lanewise(l, i, VBin::Add, Lane::I8),
        Paddw | Vpaddw => |l, i| lanewise(l, i, VBin::Add, Lane::I16),
        Paddd | Vpaddd => |l, i| lanewise(l, i, VBin::Add, Lane::I32),
        Paddq | Vpaddq => |l, i| lanewise(l, i, VBin::Add, Lane::I64),
        Psubb | Vpsubb => |l, i| lanewise(l, i, VBin::Sub, Lane::I8),
        Psubw | Vpsubw => |l, i| lanewise(l, i, VBin::Sub, Lane::I16),
        Psubd | Vpsubd => |l, i| lanewise(l, i, VBin::Sub, Lane::I32),
        Psubq | Vpsubq => |l, i| lanewise(l, i, VBin::Sub, Lane::I64),
        Pmullw | Vpmullw => |l, i| lanewise(l, i, VBin::Mul, Lane::I16),
        Pmulhw | Vpmulhw => |l, i| lanewise(l, i, VBin::MulHiS, Lane::I16),
        Pmulhuw | Vpmulhuw => |l, i| lanewise(l, i, VBin::MulHiU, Lane::I16),
        Pavgb | Vpavgb => |l, i| lanewise(l, i, VBin::AvgU, Lane::I8),
        Pavgw | Vpavgw => |l, i| lanewise(l, i, VBin::AvgU, Lane::I16),
        Pmulld | Vpmulld => |l, i| lanewise(l, i, VBin::Mul, Lane::I32),
        Pmuldq | Vpmuldq => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.mul_even(true, width(i), a, b)),
        Pmuludq | Vpmuludq => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.mul_even(false, width(i), a, b)),
        Pmaddwd | Vpmaddwd => |l, i| two(l, i, Lane::I32, |l, i, a, b| l.e.madd_i16(width(i), a, b)),
        Psadbw | Vpsadbw => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.sad_u8(width(i), a, b)),
        _ => return None,
    };
    Some(f)
}

fn saturating<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Paddsb | Vpaddsb => |l, i| lanewise(l, i, VBin::AddSatS, Lane::I8),
        Paddsw | Vpaddsw => |l, i| lanewise(l, i, VBin::AddSatS, Lane::I16),
        Paddusb | Vpaddusb => |l, i| lanewise(l, i, VBin::AddSatU, Lane::I8),
        Paddusw | Vpaddusw => |l, i| lanewise(l, i, VBin::AddSatU, Lane::I16),
        Psubsb | Vpsubsb => |l, i| lanewise(l, i, VBin::SubSatS, Lane::I8),
        Psubsw | Vpsubsw => |l, i| lanewise(l, i, VBin::SubSatS, Lane::I16),
        Psubusb | Vpsubusb => |l, i| lanewise(l, i, VBin::SubSatU, Lane::I8),
        Psubusw | Vpsubusw => |l, i| lanewise(l, i, VBin::SubSatU, Lane::I16),
        _ => return None,
    };
    Some(f)
}

fn ordering<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pcmpeqb | Vpcmpeqb => |l, i| compare(l, i, VBin::CmpEq, Lane::I8),
        Pcmpeqw | Vpcmpeqw => |l, i| compare(l, i, VBin::CmpEq, Lane::I16),
        Pcmpeqd | Vpcmpeqd => |l, i| compare(l, i, VBin::CmpEq, Lane::I32),
        Pcmpgtb | Vpcmpgtb => |l, i| compare(l, i, VBin::CmpGtS, Lane::I8),
        Pcmpgtw | Vpcmpgtw => |l, i| compare(l, i, VBin::CmpGtS, Lane::I16),
        Pcmpgtd | Vpcmpgtd => |l, i| compare(l, i, VBin::CmpGtS, Lane::I32),
        Pminub | Vpminub => |l, i| lanewise(l, i, VBin::MinU, Lane::I8),
        Pmaxub | Vpmaxub => |l, i| lanewise(l, i, VBin::MaxU, Lane::I8),
        Pcmpeqq | Vpcmpeqq => |l, i| compare(l, i, VBin::CmpEq, Lane::I64),
        Pcmpgtq | Vpcmpgtq => |l, i| compare(l, i, VBin::CmpGtS, Lane::I64),
        Pminsb | Vpminsb => |l, i| lanewise(l, i, VBin::MinS, Lane::I8),
        Pminsd | Vpminsd => |l, i| lanewise(l, i, VBin::MinS, Lane::I32),
        Pminuw | Vpminuw => |l, i| lanewise(l, i, VBin::MinU, Lane::I16),
        Pminud | Vpminud => |l, i| lanewise(l, i, VBin::MinU, Lane::I32),
        Pmaxsb | Vpmaxsb => |l, i| lanewise(l, i, VBin::MaxS, Lane::I8),
        Pmaxsd | Vpmaxsd => |l, i| lanewise(l, i, VBin::MaxS, Lane::I32),
        Pmaxuw | Vpmaxuw => |l, i| lanewise(l, i, VBin::MaxU, Lane::I16),
        Pmaxud | Vpmaxud => |l, i| lanewise(l, i, VBin::MaxU, Lane::I32),
        Pminsw | Vpminsw => |l, i| lanewise(l, i, VBin::MinS, Lane::I16),
        Pmaxsw | Vpmaxsw => |l, i| lanewise(l, i, VBin::MaxS, Lane::I16),
        _ => return None,
    };
    Some(f)
}

fn logic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pand | Andps | Andpd | Vpand | Vpandq | Vandpd => |l, i| lanewise(l, i, VBin::And, Lane::I64),
        Por | Orps | Orpd | Vpor | Vporq | Vorpd => |l, i| lanewise(l, i, VBin::Or, Lane::I64),
        Pxor | Xorps | Xorpd | Vpxor | Vpxorq | Vxorpd => |l, i| lanewise(l, i, VBin::Xor, Lane::I64),
        Pandn | Andnps | Andnpd | Vpandn | Vpandnq | Vandnpd => |l, i| lanewise(l, i, VBin::AndNot, Lane::I64),
        Vpandd | Vandps => |l, i| lanewise(l, i, VBin::And, Lane::I32),
        Vpord | Vorps => |l, i| lanewise(l, i, VBin::Or, Lane::I32),
        Vpxord | Vxorps => |l, i| lanewise(l, i, VBin::Xor, Lane::I32),
        Vpandnd | Vandnps => |l, i| lanewise(l, i, VBin::AndNot, Lane::I32),
        _ => return None,
    };
    Some(f)
}

fn shifts<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Psllw => |l, i| shift(l, i, VShift::Shl, Lane::I16),
        Pslld => |l, i| shift(l, i, VShift::Shl, Lane::I32),
        Psllq => |l, i| shift(l, i, VShift::Shl, Lane::I64),
        Psrlw => |l, i| shift(l, i, VShift::Lshr, Lane::I16),
        Psrld => |l, i| shift(l, i, VShift::Lshr, Lane::I32),
        Psrlq => |l, i| shift(l, i, VShift::Lshr, Lane::I64),
        Psraw => |l, i| shift(l, i, VShift::Ashr, Lane::I16),
        Psrad => |l, i| shift(l, i, VShift::Ashr, Lane::I32),
        Pslldq => |l, i| shift_bytes(l, i, true),
        Psrldq => |l, i| shift_bytes(l, i, false),
        _ => return None,
    };
    Some(f)
}

/// Instructions of two sources and one operation on them, whose results have these lanes.
pub fn two<E: Emitter>(l: L<E>, i: I, lane: Lane, op: impl FnOnce(L<E>, I, E::Vec, E::Vec) -> E::Vec) {
    let (a, b) = l.two_masked_vectors(i, lanes(i, lane));
    let r = op(l, i, a, b);
    l.set_vector(i, lane, r);
}

fn lanewise<E: Emitter>(l: L<E>, i: I, op: VBin, lane: Lane) {
    // The idiom for zero (and PCMPEQ's for ones): no dependency on the register's old value.
    if is_same_register(i) && matches!(op, VBin::Xor | VBin::CmpEq) {
        let constant = if op == VBin::Xor { l.zero(width(i)) } else { l.ones(width(i)) };
        return l.set_vector(i, lane, constant);
    }
    two(l, i, lane, |l, i, a, b| l.e.vbin(op, shape(i, lane), a, b));
}

/// A comparison: all ones in a vector's lanes, or, by EVEX, a mask.
fn compare<E: Emitter>(l: L<E>, i: I, op: VBin, lane: Lane) {
    if !i.op0_register().is_k() {
        return lanewise(l, i, op, lane);
    }
    let pred = if op == VBin::CmpEq { Pred::Eq } else { Pred::Sgt };
    compare_by(l, i, pred, lane);
}

fn compare_by<E: Emitter>(l: L<E>, i: I, pred: Pred, lane: Lane) {
    let ty = VTy { lane, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let m = l.e.vcompare(pred, ty, a, b);
    l.set_mask(i, ty.lanes(), m);
}

fn is_same_register(i: I) -> bool {
    let (a, b) = sources(i);
    i.op_kind(b) == OpKind::Register && i.op_register(a) == i.op_register(b)
}

/// Every lane by one count: an immediate, or the low 64 bits of the last source.
fn shift<E: Emitter>(l: L<E>, i: I, op: VShift, lane: Lane) {
    let (a, b) = sources(i);
    let v = l.vector(i, a);
    let count = if i.op_kind(b) == OpKind::Immediate8 {
        l.imm(Ty::I64, i.immediate(b))
    } else {
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

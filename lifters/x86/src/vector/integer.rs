//! Packed integer arithmetic, comparison and logic (SDM vol. 1, 5.4.3 to 5.4.5, 5.5.3, 5.6.3; AVX-512's: vol. 1, 5.19), and
//! the bitwise operations on packed floats, which are the same.

use iced_x86::{Code, Mnemonic, OpKind};

use super::operands::{bits_of, lanes, last_source, shape, sources, width};
use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Pred, Ty, VBin, VTy};
use crate::isa::Semantics;
use crate::wide::{Wide, integer::Op};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    arithmetic(code)
        .or_else(|| saturating(code))
        .or_else(|| ordering(code))
        .or_else(|| extrema(code))
        .or_else(|| to_mask(code))
        .or_else(|| logic(code))
        .or_else(|| bits(code))
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
        Vpmullq => |l, i| lanewise(l, i, VBin::Mul, Lane::I64),
        Pmuldq | Vpmuldq => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.mul_even(true, width(i), a, b)),
        Pmuludq | Vpmuludq => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.mul_even(false, width(i), a, b)),
        Pmaddwd | Vpmaddwd => |l, i| whole(l, i, Lane::I32, |l, i, a, b| l.e.madd_i16(width(i), a, b)),
        Psadbw | Vpsadbw => |l, i| two(l, i, Lane::I64, |l, i, a, b| l.e.sad_u8(width(i), a, b)),
        Vdbpsadbw => vdbpsadbw,
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
        Pcmpeqq | Vpcmpeqq => |l, i| compare(l, i, VBin::CmpEq, Lane::I64),
        Pcmpgtq | Vpcmpgtq => |l, i| compare(l, i, VBin::CmpGtS, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn extrema<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pminub | Vpminub => |l, i| lanewise(l, i, VBin::MinU, Lane::I8),
        Pmaxub | Vpmaxub => |l, i| lanewise(l, i, VBin::MaxU, Lane::I8),
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
        Vpminsq => |l, i| lanewise(l, i, VBin::MinS, Lane::I64),
        Vpminuq => |l, i| lanewise(l, i, VBin::MinU, Lane::I64),
        Vpmaxsq => |l, i| lanewise(l, i, VBin::MaxS, Lane::I64),
        Vpmaxuq => |l, i| lanewise(l, i, VBin::MaxU, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn to_mask<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpcmpb => |l, i| compare_as_told(l, i, Lane::I8, SIGNED),
        Vpcmpw => |l, i| compare_as_told(l, i, Lane::I16, SIGNED),
        Vpcmpd => |l, i| compare_as_told(l, i, Lane::I32, SIGNED),
        Vpcmpq => |l, i| compare_as_told(l, i, Lane::I64, SIGNED),
        Vpcmpub => |l, i| compare_as_told(l, i, Lane::I8, UNSIGNED),
        Vpcmpuw => |l, i| compare_as_told(l, i, Lane::I16, UNSIGNED),
        Vpcmpud => |l, i| compare_as_told(l, i, Lane::I32, UNSIGNED),
        Vpcmpuq => |l, i| compare_as_told(l, i, Lane::I64, UNSIGNED),
        Vptestmb => |l, i| test(l, i, Pred::Ne, Lane::I8),
        Vptestmw => |l, i| test(l, i, Pred::Ne, Lane::I16),
        Vptestmd => |l, i| test(l, i, Pred::Ne, Lane::I32),
        Vptestmq => |l, i| test(l, i, Pred::Ne, Lane::I64),
        Vptestnmb => |l, i| test(l, i, Pred::Eq, Lane::I8),
        Vptestnmw => |l, i| test(l, i, Pred::Eq, Lane::I16),
        Vptestnmd => |l, i| test(l, i, Pred::Eq, Lane::I32),
        Vptestnmq => |l, i| test(l, i, Pred::Eq, Lane::I64),
        Vpshufbitqmb => vpshufbitqmb,
        Vp2intersectd => |l, i| intersect(l, i, Lane::I32),
        Vp2intersectq => |l, i| intersect(l, i, Lane::I64),
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
        Vpternlogd => |l, i| ternary(l, i, Lane::I32),
        Vpternlogq => |l, i| ternary(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn bits<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vplzcntd => |l, i| one_by_one(l, i, Op::LeadingZeros, Lane::I32),
        Vplzcntq => |l, i| one_by_one(l, i, Op::LeadingZeros, Lane::I64),
        Vpopcntb => |l, i| one_by_one(l, i, Op::Ones, Lane::I8),
        Vpopcntw => |l, i| one_by_one(l, i, Op::Ones, Lane::I16),
        Vpopcntd => |l, i| one_by_one(l, i, Op::Ones, Lane::I32),
        Vpopcntq => |l, i| one_by_one(l, i, Op::Ones, Lane::I64),
        Vpconflictd => |l, i| conflicts(l, i, Lane::I32),
        Vpconflictq => |l, i| conflicts(l, i, Lane::I64),
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

/// The same where memory is accessed whatever the write mask is (exceptions of class E4NF in SDM vol. 2).
pub fn whole<E: Emitter>(l: L<E>, i: I, lane: Lane, op: impl FnOnce(L<E>, I, E::Vec, E::Vec) -> E::Vec) {
    let (a, b) = l.two_vectors(i);
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

/// The predicates of VPCMPB and of VPCMPUB by number, but for those that are always false and true.
type Predicates = [Option<Pred>; 8];

const SIGNED: Predicates =
    [Some(Pred::Eq), Some(Pred::Slt), Some(Pred::Sle), None, Some(Pred::Ne), Some(Pred::Sge), Some(Pred::Sgt), None];
const UNSIGNED: Predicates =
    [Some(Pred::Eq), Some(Pred::Ult), Some(Pred::Ule), None, Some(Pred::Ne), Some(Pred::Uge), Some(Pred::Ugt), None];

/// VPCMPB and its like: the immediate names the predicate.
fn compare_as_told<E: Emitter>(l: L<E>, i: I, lane: Lane, predicates: Predicates) {
    let number = i.immediate(3) as usize & 7;
    if let Some(pred) = predicates[number] {
        return compare_by(l, i, pred, lane);
    }
    let lanes = bits_of(i.op1_register()) / lane.ty().bits();
    // Memory is accessed all the same.
    l.masked_vector(i, 2, lanes);
    let all = if number == 7 { u64::MAX >> (64 - lanes) } else { 0 };
    let bits = l.imm(Ty::I64, all);
    l.set_mask_bits(i, bits);
}

/// VPTESTMB and its like: whether the sources have a bit in common, or have none.
fn test<E: Emitter>(l: L<E>, i: I, pred: Pred, lane: Lane) {
    let ty = VTy { lane, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let common = l.e.vbin(VBin::And, ty, a, b);
    let zero = l.zero(ty.bits);
    let m = l.e.vcompare(pred, ty, common, zero);
    l.set_mask(i, ty.lanes(), m);
}

/// A bit for each byte of the second source: that of the first one's quadword which the byte names.
fn vpshufbitqmb<E: Emitter>(l: L<E>, i: I) {
    let ty = VTy { lane: Lane::I8, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let bits = l.e.wide_bits(Wide::Integer(Op::SelectBits), ty, &[(ty.bits, a), (ty.bits, b)], 0);
    l.set_mask_bits(i, bits);
}

/// VP2INTERSECTD and VP2INTERSECTQ: the lanes of each source that the other has, too, in a pair of mask registers.
fn intersect<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = VTy { lane, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_vectors(i);
    let both = l.e.wide_bits(Wide::Integer(Op::Intersection), ty, &[(ty.bits, a), (ty.bits, b)], 0);
    let first = l.bin_imm(Bin::And, Ty::I64, both, u64::MAX >> (64 - ty.lanes()));
    let second = l.bin_imm(Bin::Lshr, Ty::I64, both, Op::SECOND_OF_INTERSECTION.into());
    let even = i.op0_register().number() & !1;
    l.e.set_mask_register(even, first);
    l.e.set_mask_register(even + 1, second);
}

/// A function of one source's lanes that has a body in Rust.
fn one_by_one<E: Emitter>(l: L<E>, i: I, op: Op, lane: Lane) {
    let ty = shape(i, lane);
    let v = l.masked_vector(i, last_source(i), ty.lanes());
    let r = l.e.wide(Wide::Integer(op), ty, &[(ty.bits, v)], 0);
    l.set_vector(i, lane, r);
}

/// VPCONFLICTD and VPCONFLICTQ: lanes that the write mask leaves out are compared with, too.
fn conflicts<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let v = l.vector(i, last_source(i));
    let r = l.e.wide(Wide::Integer(Op::Conflicts), ty, &[(ty.bits, v)], 0);
    l.set_vector(i, lane, r);
}

fn vdbpsadbw<E: Emitter>(l: L<E>, i: I) {
    let ty = shape(i, Lane::I16);
    let (a, b) = l.two_vectors(i);
    let order = i.immediate(3) as u8;
    let r = l.e.wide(Wide::Integer(Op::SlidingDifferences), ty, &[(ty.bits, a), (ty.bits, b)], order);
    l.set_vector(i, Lane::I16, r);
}

/// VPTERNLOGD and VPTERNLOGQ: each bit is the immediate's at the place that the three operands' bits make.
fn ternary<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let first_two = [l.vector(i, 0), l.vector(i, 1)];
    let third = l.masked_vector(i, 2, ty.lanes());
    let [clear, set] = by_third(i.immediate(3) as u8);
    // The function of the first two operands where the third is clear, inverted where it is set if the functions differ.
    let mut r = of_two(l, ty, clear, first_two);
    if clear != set {
        let differ = of_two(l, ty, clear ^ set, first_two);
        let inverted = l.e.vbin(VBin::And, ty, differ, third);
        r = l.e.vbin(VBin::Xor, ty, r, inverted);
    }
    l.set_vector(i, lane, r);
}

/// The functions of the first two operands that a table of three is where the third is clear and where it is set, as tables
/// of four bits.
fn by_third(table: u8) -> [u8; 2] {
    [0, 1].map(|third| (0..4).map(|place| (table >> (2 * place + third) & 1) << place).sum())
}

/// A function of two operands by its table; the first operand's bit is the upper one of a place.
fn of_two<E: Emitter>(l: L<E>, ty: VTy, table: u8, [a, b]: [E::Vec; 2]) -> E::Vec {
    if table & 1 == 1 {
        let inverse = of_two(l, ty, table ^ 15, [a, b]);
        let ones = l.ones(ty.bits);
        return l.e.vbin(VBin::Xor, ty, inverse, ones);
    }
    match table {
        0 => l.zero(ty.bits),
        0b0010 => l.e.vbin(VBin::AndNot, ty, a, b),
        0b0100 => l.e.vbin(VBin::AndNot, ty, b, a),
        0b0110 => l.e.vbin(VBin::Xor, ty, a, b),
        0b1000 => l.e.vbin(VBin::And, ty, a, b),
        0b1010 => b,
        0b1100 => a,
        _ => l.e.vbin(VBin::Or, ty, a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_three_as_two_of_two() {
        // All three set; the third; the first two differ and the third is clear.
        assert_eq!(by_third(0x80), [0, 0b1000]);
        assert_eq!(by_third(0xaa), [0, 0b1111]);
        assert_eq!(by_third(0b0001_0100), [0b0110, 0]);
    }
}

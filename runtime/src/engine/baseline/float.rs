//! Floating point of the baseline emitter.
//!
//! On x86-64 Cranelift's operations are the guest's own instructions, as long as the operands keep their order. It has none for
//! comparisons that signal, minima, conversions to integers and integral values that raise x86's exception flags and no
//! others. On AArch64 an instruction is right where its operands are zero, or so moderate that neither NaNs nor denormal numbers
//! come up; there it is used. Everything else calls tier 0's operation: this code runs for a while only.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use xlate_abi::state::Helper;
use xlate_x86::emitter::{Compare, FBin, FPred, Fty, Round, Rounding, Ty, VTy};
use xlate_x86::interpreter::float::Operation;

use super::emitter::{Baseline, int_type};
use super::vector::{self, Wide, cast, part_type};

/// Calls tier 0's operation on the bits of scalars.
fn call(e: &mut Baseline, operation: Operation, operands: [(Ty, Value); 2], to: Ty) -> Value {
    let request = e.word(operation.request());
    let [a, b] = operands.map(|(ty, v)| {
        let v = e.int(ty, v);
        e.widen(ty, v)
    });
    let r = e.pure_helper(Helper::Float, &[request, a, b]);
    if to == Ty::I64 { r } else { e.b.ins().ireduce(int_type(to), r) }
}

fn call_on_one(e: &mut Baseline, operation: Operation, from: Ty, v: Value, to: Ty) -> Value {
    call(e, operation, [(from, v); 2], to)
}

/// Exponents, biased: these and the ones between them.
type Exponents = (u64, u64);

/// The exponents of normal numbers, the bias, and the bits below the exponent.
fn exponents(ty: Fty) -> (Exponents, u64, u32) {
    match ty {
        Fty::F32 => ((1, 0xfe), 0x7f, 23),
        Fty::F64 => ((1, 0x7fe), 0x3ff, 52),
    }
}

/// Exponents of operands whose product or quotient is neither tiny nor too large.
fn moderate(ty: Fty) -> Exponents {
    let (_, bias, _) = exponents(ty);
    (bias / 2 + 1, bias + bias / 2 - 1)
}

/// Whether a number's exponent isn't one of these, or the number is negative where that counts, too.
fn is_beyond(e: &mut Baseline, ty: Fty, v: Value, (least, most): Exponents, signed: bool) -> Value {
    let (int, shift) = (int_type(ty.ty()), exponents(ty).2);
    let mut bits = e.int(ty.ty(), v);
    // The sign goes first; then what is left starts with the exponent.
    let (mut least, mut width) = (least << shift, (most + 1 - least) << shift);
    if !signed {
        let one = e.b.ins().iconst(int, 1);
        bits = e.b.ins().ishl(bits, one);
        (least, width) = (least << 1, width << 1);
    }
    let least = e.b.ins().iconst(int, as_signed(ty, least));
    let above = e.b.ins().isub(bits, least);
    let width = e.b.ins().iconst(int, as_signed(ty, width));
    e.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, above, width)
}

/// Whether a number is neither zero nor has one of these exponents.
fn is_beyond_nor_zero(e: &mut Baseline, ty: Fty, v: Value, within: Exponents) -> Value {
    let beyond = is_beyond(e, ty, v, within, false);
    let int = int_type(ty.ty());
    let bits = e.int(ty.ty(), v);
    let [one, zero] = [1, 0].map(|n| e.b.ins().iconst(int, n));
    // Without its sign. A comparison of numbers may take a denormal number for zero.
    let bits = e.b.ins().ishl(bits, one);
    let nonzero = e.b.ins().icmp(IntCC::NotEqual, bits, zero);
    e.b.ins().band(beyond, nonzero)
}

/// A constant's bits as Cranelift wants them: sign-extended.
fn as_signed(ty: Fty, bits: u64) -> i64 {
    match ty {
        Fty::F32 => i64::from(bits as u32 as i32),
        Fty::F64 => bits as i64,
    }
}

/// The host's instruction where no operand is `beyond`, tier 0's operation elsewhere.
fn own_unless(
    e: &mut Baseline,
    beyond: Value,
    to: Ty,
    operation: impl FnOnce(&mut Baseline) -> Value,
    own: impl FnOnce(&mut Baseline) -> Value,
) -> Value {
    e.either(int_type(to), beyond, operation, |e| {
        let r = own(e);
        e.int(to, r)
    })
}

/// Whether the host's instruction does what x86's does.
fn is_own(e: &Baseline, op: FBin) -> bool {
    e.host.x86 && !matches!(op, FBin::Min | FBin::Max)
}

fn own(e: &mut Baseline, op: FBin, a: Value, b: Value) -> Value {
    let ins = e.b.ins();
    match op {
        FBin::Add => ins.fadd(a, b),
        FBin::Sub => ins.fsub(a, b),
        FBin::Mul => ins.fmul(a, b),
        FBin::Div => ins.fdiv(a, b),
        FBin::Min | FBin::Max => unreachable!("no instruction of Cranelift's"),
    }
}

pub(super) fn bin(e: &mut Baseline, op: FBin, ty: Fty, a: Value, b: Value) -> Value {
    let slow = |e: &mut Baseline| call(e, Operation::Bin(op, ty), [(ty.ty(), a), (ty.ty(), b)], ty.ty());
    if is_own(e, op) {
        let (a, b) = (e.float(ty, a), e.float(ty, b));
        return own(e, op, a, b);
    }
    if matches!(op, FBin::Min | FBin::Max) {
        return slow(e);
    }
    // Zero over zero is a NaN.
    let [x, y] = match op {
        FBin::Div => [a, b].map(|v| is_beyond(e, ty, v, moderate(ty), false)),
        _ => [a, b].map(|v| is_beyond_nor_zero(e, ty, v, moderate(ty))),
    };
    let beyond = e.b.ins().bor(x, y);
    own_unless(e, beyond, ty.ty(), slow, |e| {
        let (a, b) = (e.float(ty, a), e.float(ty, b));
        own(e, op, a, b)
    })
}

pub(super) fn sqrt(e: &mut Baseline, ty: Fty, a: Value) -> Value {
    let own = |e: &mut Baseline| {
        let a = e.float(ty, a);
        e.b.ins().sqrt(a)
    };
    if e.host.x86 {
        return own(e);
    }
    let beyond = is_beyond(e, ty, a, exponents(ty).0, true);
    own_unless(e, beyond, ty.ty(), |e| call_on_one(e, Operation::Sqrt(ty), ty.ty(), a, ty.ty()), own)
}

pub(super) fn compare(e: &mut Baseline, signals: bool, ty: Fty, a: Value, b: Value) -> Compare<Value> {
    let slow = |e: &mut Baseline| call(e, Operation::Compare(signals, ty), [(ty.ty(), a), (ty.ty(), b)], Ty::I8);
    let bits = if e.host.x86 {
        slow(e)
    } else {
        let [x, y] = [a, b].map(|v| is_beyond_nor_zero(e, ty, v, exponents(ty).0));
        let beyond = e.b.ins().bor(x, y);
        e.either(types::I8, beyond, slow, |e| ordered(e, ty, a, b))
    };
    let mut bit = |n| {
        let bit = e.b.ins().ushr_imm_u(bits, n);
        e.b.ins().band_imm_u(bit, 1)
    };
    Compare { carry: bit(0), zero: bit(1), unordered: bit(2), above: bit(3) }
}

/// What [`Operation::Compare`] gives for numbers.
fn ordered(e: &mut Baseline, ty: Fty, a: Value, b: Value) -> Value {
    let (a, b) = (e.float(ty, a), e.float(ty, b));
    let less = e.b.ins().fcmp(FloatCC::LessThan, a, b);
    let equal = e.b.ins().fcmp(FloatCC::Equal, a, b);
    let above = e.b.ins().fcmp(FloatCC::GreaterThan, a, b);
    let [one, three] = [1, 3].map(|n| e.b.ins().iconst(types::I8, n));
    let equal = e.b.ins().ishl(equal, one);
    let above = e.b.ins().ishl(above, three);
    let either = e.b.ins().bor(less, equal);
    e.b.ins().bor(either, above)
}

pub(super) fn mask(e: &mut Baseline, pred: FPred, ty: Fty, a: Value, b: Value) -> Value {
    call(e, Operation::Mask(pred, ty), [(ty.ty(), a), (ty.ty(), b)], ty.ty())
}

pub(super) fn round(e: &mut Baseline, mode: Rounding, inexact: bool, ty: Fty, v: Value) -> Value {
    call_on_one(e, Operation::Round(mode, inexact, ty), ty.ty(), v, ty.ty())
}

pub(super) fn to_int(e: &mut Baseline, round: Round, from: Fty, to: Ty, v: Value) -> Value {
    let slow = |e: &mut Baseline| call_on_one(e, Operation::ToInt(round, from, to), from.ty(), v, to);
    if e.host.x86 || round == Round::Current {
        return slow(e);
    }
    // What is below one has no digits that remain, but is inexact.
    let (_, bias, _) = exponents(from);
    let beyond = is_beyond(e, from, v, (1, bias + u64::from(to.bits()) - 2), false);
    own_unless(e, beyond, to, slow, |e| {
        let v = e.float(from, v);
        e.b.ins().fcvt_to_sint_sat(int_type(to), v)
    })
}

pub(super) fn from_int(e: &mut Baseline, from: Ty, to: Fty, v: Value) -> Value {
    let mut v = e.int(from, v);
    if matches!(from, Ty::I8 | Ty::I16) {
        v = e.b.ins().sextend(types::I32, v);
    }
    let float = super::emitter::float_type(to);
    e.b.ins().fcvt_from_sint(float, v)
}

pub(super) fn convert(e: &mut Baseline, from: Fty, to: Fty, v: Value) -> Value {
    let own = |e: &mut Baseline| {
        let v = e.float(from, v);
        match (from, to) {
            (Fty::F32, Fty::F64) => e.b.ins().fpromote(types::F64, v),
            (Fty::F64, Fty::F32) => e.b.ins().fdemote(types::F32, v),
            _ => v,
        }
    };
    if e.host.x86 {
        return own(e);
    }
    let ((_, most), bias, _) = exponents(from);
    // Nothing that becomes tiny.
    let least = if from == Fty::F32 { 1 } else { bias - 120 };
    let beyond = is_beyond(e, from, v, (least, most), false);
    own_unless(e, beyond, to.ty(), |e| call_on_one(e, Operation::Convert(from, to), from.ty(), v, to.ty()), own)
}

fn format(ty: VTy) -> Fty {
    ty.lane.fty().expect("float lanes")
}

/// An operation of scalars on every lane.
fn lanewise(e: &mut Baseline, ty: VTy, a: Wide, b: Wide, f: impl Fn(&mut Baseline, Value, Value) -> Value) -> Wide {
    let mut r = a;
    for n in 0..ty.lanes() {
        let x = vector::extract(e, ty, a, n);
        let y = vector::extract(e, ty, b, n);
        let v = f(e, x, y);
        r = vector::insert(e, ty, r, n, v);
    }
    r
}

pub(super) fn vector_bin(e: &mut Baseline, op: FBin, ty: VTy, a: Wide, b: Wide) -> Wide {
    if !is_own(e, op) {
        return lanewise(e, ty, a, b, |e, a, b| bin(e, op, format(ty), a, b));
    }
    let t = part_type(ty.lane);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        own(e, op, a, b)
    })
}

pub(super) fn vector_sqrt(e: &mut Baseline, ty: VTy, a: Wide) -> Wide {
    if !e.host.x86 {
        return lanewise(e, ty, a, a, |e, a, _| sqrt(e, format(ty), a));
    }
    let t = part_type(ty.lane);
    a.map(|a| {
        let a = cast(e, t, a);
        e.b.ins().sqrt(a)
    })
}

pub(super) fn vector_mask(e: &mut Baseline, pred: FPred, ty: VTy, a: Wide, b: Wide) -> Wide {
    lanewise(e, ty, a, b, |e, a, b| mask(e, pred, format(ty), a, b))
}

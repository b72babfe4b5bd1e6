//! Floating point of the baseline emitter.
//!
//! On x86-64 Cranelift's operations are the guest's own instructions, as long as the operands keep their order. It has none for
//! comparisons that signal, minima, conversions to integers and integral values that raise x86's exception flags and no
//! others; and on AArch64 neither NaNs nor all flags are x86's. All these are calls of what tier 0 does: this code runs for
//! a while only.

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
    if !is_own(e, op) {
        return call(e, Operation::Bin(op, ty), [(ty.ty(), a), (ty.ty(), b)], ty.ty());
    }
    let (a, b) = (e.float(ty, a), e.float(ty, b));
    own(e, op, a, b)
}

pub(super) fn sqrt(e: &mut Baseline, ty: Fty, a: Value) -> Value {
    if !e.host.x86 {
        return call_on_one(e, Operation::Sqrt(ty), ty.ty(), a, ty.ty());
    }
    let a = e.float(ty, a);
    e.b.ins().sqrt(a)
}

pub(super) fn compare(e: &mut Baseline, signals: bool, ty: Fty, a: Value, b: Value) -> Compare<Value> {
    let bits = call(e, Operation::Compare(signals, ty), [(ty.ty(), a), (ty.ty(), b)], Ty::I8);
    let mut bit = |n| {
        let bit = e.b.ins().ushr_imm_u(bits, n);
        e.b.ins().band_imm_u(bit, 1)
    };
    Compare { carry: bit(0), zero: bit(1), unordered: bit(2), above: bit(3) }
}

pub(super) fn mask(e: &mut Baseline, pred: FPred, ty: Fty, a: Value, b: Value) -> Value {
    call(e, Operation::Mask(pred, ty), [(ty.ty(), a), (ty.ty(), b)], ty.ty())
}

pub(super) fn round(e: &mut Baseline, mode: Rounding, inexact: bool, ty: Fty, v: Value) -> Value {
    call_on_one(e, Operation::Round(mode, inexact, ty), ty.ty(), v, ty.ty())
}

pub(super) fn to_int(e: &mut Baseline, round: Round, from: Fty, to: Ty, v: Value) -> Value {
    call_on_one(e, Operation::ToInt(round, from, to), from.ty(), v, to)
}

pub(super) fn from_int(e: &mut Baseline, from: Ty, to: Fty, v: Value) -> Value {
    if !e.host.x86 {
        return call_on_one(e, Operation::FromInt(from, to), from, v, to.ty());
    }
    let v = e.int(from, v);
    let float = super::emitter::float_type(to);
    e.b.ins().fcvt_from_sint(float, v)
}

pub(super) fn convert(e: &mut Baseline, from: Fty, to: Fty, v: Value) -> Value {
    if !e.host.x86 {
        return call_on_one(e, Operation::Convert(from, to), from.ty(), v, to.ty());
    }
    let v = e.float(from, v);
    match (from, to) {
        (Fty::F32, Fty::F64) => e.b.ins().fpromote(types::F64, v),
        (Fty::F64, Fty::F32) => e.b.ins().fdemote(types::F32, v),
        _ => v,
    }
}

fn format(ty: VTy) -> Fty {
    ty.lane.fty().expect("float lanes")
}

/// An operation of scalars on every lane.
fn lanewise(e: &mut Baseline, operation: Operation, ty: VTy, a: Wide, b: Wide) -> Wide {
    let lane = ty.lane.ty();
    let mut r = a;
    for n in 0..ty.lanes() {
        let x = vector::extract(e, ty, a, n);
        let y = vector::extract(e, ty, b, n);
        let v = call(e, operation, [(lane, x), (lane, y)], lane);
        r = vector::insert(e, ty, r, n, v);
    }
    r
}

pub(super) fn vector_bin(e: &mut Baseline, op: FBin, ty: VTy, a: Wide, b: Wide) -> Wide {
    if !is_own(e, op) {
        return lanewise(e, Operation::Bin(op, format(ty)), ty, a, b);
    }
    let t = part_type(ty.lane);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        own(e, op, a, b)
    })
}

pub(super) fn vector_sqrt(e: &mut Baseline, ty: VTy, a: Wide) -> Wide {
    if !e.host.x86 {
        return lanewise(e, Operation::Sqrt(format(ty)), ty, a, a);
    }
    let t = part_type(ty.lane);
    a.map(|a| {
        let a = cast(e, t, a);
        e.b.ins().sqrt(a)
    })
}

pub(super) fn vector_mask(e: &mut Baseline, pred: FPred, ty: VTy, a: Wide, b: Wide) -> Wide {
    lanewise(e, Operation::Mask(pred, format(ty)), ty, a, b)
}

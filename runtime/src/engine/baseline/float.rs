//! Floating point of the baseline emitter.
//!
//! On x86-64 the host's operations are the guest's, as long as the operands keep their order. On AArch64 results
//! that are NaNs are put right: x86 takes the first NaN operand, quieted, and without one the *negative* default NaN
//! (Intel SDM vol. 1, table 4-7; Arm ARM A1.5.6 has a positive default and prefers signalling operands).

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use xlate_abi::state::Helper;
use xlate_x86::emitter::{FBin, FPred, Fty, Lane, Round, Ty, VTy};

use super::emitter::{Baseline, float_cc, int_type};
use super::vector::{self, Wide, cast, part_type};

/// The quiet bit and the real indefinite of a format.
fn nan_bits(ty: Fty) -> (u64, u64) {
    match ty {
        Fty::F32 => (1 << 22, 0xffc0_0000),
        Fty::F64 => (1 << 51, 0xfff8_0000_0000_0000),
    }
}

/// The comparison that makes MIN or MAX take its first operand.
fn takes_first(op: FBin) -> FloatCC {
    if op == FBin::Min { FloatCC::LessThan } else { FloatCC::GreaterThan }
}

pub(super) fn bin(e: &mut Baseline, op: FBin, ty: Fty, a: Value, b: Value) -> Value {
    let (a, b) = (e.float(ty, a), e.float(ty, b));
    let ins = e.b.ins();
    let r = match op {
        FBin::Add => ins.fadd(a, b),
        FBin::Sub => ins.fsub(a, b),
        FBin::Mul => ins.fmul(a, b),
        FBin::Div => ins.fdiv(a, b),
        FBin::Min | FBin::Max => {
            let first = ins.fcmp(takes_first(op), a, b);
            return e.b.ins().select(first, a, b);
        }
    };
    if e.host.x86 { r } else { repair(e, ty, r, a, b) }
}

pub(super) fn sqrt(e: &mut Baseline, ty: Fty, a: Value) -> Value {
    let a = e.float(ty, a);
    let r = e.b.ins().sqrt(a);
    if e.host.x86 { r } else { repair(e, ty, r, a, a) }
}

/// A scalar result with x86's NaN, as an integer.
fn repair(e: &mut Baseline, ty: Fty, r: Value, a: Value, b: Value) -> Value {
    let int = int_type(ty.ty());
    let (quiet, indefinite) = nan_bits(ty);
    let bits = [r, a, b].map(|v| e.int(ty.ty(), v));
    let quiet = e.b.ins().iconst(int, quiet as i64);
    let quiet_a = e.b.ins().bor(bits[1], quiet);
    let quiet_b = e.b.ins().bor(bits[2], quiet);
    let indefinite = e.b.ins().iconst(int, indefinite as i64);
    let unordered = |e: &mut Baseline, v| e.b.ins().fcmp(FloatCC::Unordered, v, v);
    let b_nan = unordered(e, b);
    let nan = e.b.ins().select(b_nan, quiet_b, indefinite);
    let a_nan = unordered(e, a);
    let nan = e.b.ins().select(a_nan, quiet_a, nan);
    let r_nan = unordered(e, r);
    e.b.ins().select(r_nan, nan, bits[0])
}

fn format(ty: VTy) -> Fty {
    ty.lane.fty().expect("float lanes")
}

pub(super) fn vector_bin(e: &mut Baseline, op: FBin, ty: VTy, a: Wide, b: Wide) -> Wide {
    let t = part_type(ty.lane);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        let ins = e.b.ins();
        let r = match op {
            FBin::Add => ins.fadd(a, b),
            FBin::Sub => ins.fsub(a, b),
            FBin::Mul => ins.fmul(a, b),
            FBin::Div => ins.fdiv(a, b),
            FBin::Min | FBin::Max => {
                let first = ins.fcmp(takes_first(op), a, b);
                let first = cast(e, t, first);
                return e.b.ins().bitselect(first, a, b);
            }
        };
        if e.host.x86 { r } else { vector_repair(e, ty, r, a, b) }
    })
}

pub(super) fn vector_sqrt(e: &mut Baseline, ty: VTy, a: Wide) -> Wide {
    let t = part_type(ty.lane);
    a.map(|a| {
        let a = cast(e, t, a);
        let r = e.b.ins().sqrt(a);
        if e.host.x86 { r } else { vector_repair(e, ty, r, a, a) }
    })
}

/// [`repair`] lane by lane.
fn vector_repair(e: &mut Baseline, ty: VTy, r: Value, a: Value, b: Value) -> Value {
    let (quiet, indefinite) = nan_bits(format(ty));
    let int = part_type(match format(ty) {
        Fty::F32 => Lane::I32,
        Fty::F64 => Lane::I64,
    });
    let constant = |e: &mut Baseline, bits| {
        let v = vector::lanes_of(e, ty.lane, bits);
        cast(e, int, v)
    };
    let quiet = constant(e, quiet);
    let indefinite = constant(e, indefinite);
    let unordered = |e: &mut Baseline, v| {
        let mask = e.b.ins().fcmp(FloatCC::Unordered, v, v);
        cast(e, int, mask)
    };
    let pick = |e: &mut Baseline, v, nan| {
        let mask = unordered(e, v);
        let bits = cast(e, int, v);
        let quieted = e.b.ins().bor(bits, quiet);
        e.b.ins().bitselect(mask, quieted, nan)
    };
    let nan = pick(e, b, indefinite);
    let nan = pick(e, a, nan);
    let mask = unordered(e, r);
    let bits = cast(e, int, r);
    e.b.ins().bitselect(mask, nan, bits)
}

pub(super) fn vector_cmp(e: &mut Baseline, pred: FPred, ty: VTy, a: Wide, b: Wide) -> Wide {
    let t = part_type(ty.lane);
    // AArch64's lanes have no comparison that holds for unordered operands but this one's opposite (Arm ARM, C3.5.12).
    let (pred, inverted) = match pred {
        FPred::Uge if !e.host.x86 => (FPred::Olt, true),
        FPred::Ugt if !e.host.x86 => (FPred::Ole, true),
        pred => (pred, false),
    };
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        let mask = e.b.ins().fcmp(float_cc(pred), a, b);
        if inverted { e.b.ins().bnot(mask) } else { mask }
    })
}

/// Float to integer: the rounding first (the current mode is the helper's business), then a conversion that
/// truncates, with the integer indefinite outside the range (Intel SDM vol. 1, 4.8.3.7).
pub(super) fn to_int(e: &mut Baseline, round: Round, from: Fty, to: Ty, v: Value) -> Value {
    let v = match round {
        Round::Truncate => e.float(from, v),
        Round::Current => rounded(e, from, v),
    };
    let int = int_type(to);
    let limit = 2f64.powi(to.bits() as i32 - 1);
    let (below, above) = (float_constant(e, from, -limit), float_constant(e, from, limit));
    let value = e.b.ins().fcvt_to_sint_sat(int, v);
    // Truncation brings everything above -limit - 1 into the range; an f32, and an f64 against 2^63, has no value
    // between -limit - 1 and -limit.
    let low = match (from, to) {
        (Fty::F64, Ty::I32) => {
            let edge = float_constant(e, from, -limit - 1.0);
            e.b.ins().fcmp(FloatCC::GreaterThan, v, edge)
        }
        _ => e.b.ins().fcmp(FloatCC::GreaterThanOrEqual, v, below),
    };
    let high = e.b.ins().fcmp(FloatCC::LessThan, v, above);
    let fits = e.b.ins().band(low, high);
    let indefinite = e.b.ins().iconst(int, (1u64 << (to.bits() - 1)) as i64);
    e.b.ins().select(fits, value, indefinite)
}

fn rounded(e: &mut Baseline, from: Fty, v: Value) -> Value {
    let bits = e.int(from.ty(), v);
    match from {
        Fty::F64 => {
            let r = e.pure_helper(Helper::RintF64, &[bits]);
            e.float(Fty::F64, r)
        }
        Fty::F32 => {
            let wide = e.b.ins().uextend(types::I64, bits);
            let r = e.pure_helper(Helper::RintF32, &[wide]);
            let r = e.b.ins().ireduce(types::I32, r);
            e.float(Fty::F32, r)
        }
    }
}

fn float_constant(e: &mut Baseline, ty: Fty, v: f64) -> Value {
    match ty {
        Fty::F32 => e.b.ins().f32const(v as f32),
        Fty::F64 => e.b.ins().f64const(v),
    }
}

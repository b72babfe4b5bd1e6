//! Floating-point arithmetic (SDM vol. 1, 5.4.1.2, 5.5.1.2, 5.6.1.2).
//!
//! The guest's rounding mode, FTZ and DAZ are those of the host's control register while guest code runs, so
//! nothing here mentions them.

use iced_x86::{Code, Mnemonic};

use super::operands::{float_lane, last_source, shape, sources};
use super::{I, L};
use crate::emitter::{Bin, Emitter, FBin, Fty, Lane, Pred, Ty};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    arithmetic(code).or_else(|| unary(code))
}

fn arithmetic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Addps | Vaddps => |l, i| packed(l, i, FBin::Add, Lane::F32),
        Addpd | Vaddpd => |l, i| packed(l, i, FBin::Add, Lane::F64),
        Addss | Vaddss => |l, i| scalar(l, i, FBin::Add, Lane::F32),
        Addsd | Vaddsd => |l, i| scalar(l, i, FBin::Add, Lane::F64),
        Subps | Vsubps => |l, i| packed(l, i, FBin::Sub, Lane::F32),
        Subpd | Vsubpd => |l, i| packed(l, i, FBin::Sub, Lane::F64),
        Subss | Vsubss => |l, i| scalar(l, i, FBin::Sub, Lane::F32),
        Subsd | Vsubsd => |l, i| scalar(l, i, FBin::Sub, Lane::F64),
        Mulps | Vmulps => |l, i| packed(l, i, FBin::Mul, Lane::F32),
        Mulpd | Vmulpd => |l, i| packed(l, i, FBin::Mul, Lane::F64),
        Mulss | Vmulss => |l, i| scalar(l, i, FBin::Mul, Lane::F32),
        Mulsd | Vmulsd => |l, i| scalar(l, i, FBin::Mul, Lane::F64),
        Divps | Vdivps => |l, i| packed(l, i, FBin::Div, Lane::F32),
        Divpd | Vdivpd => |l, i| packed(l, i, FBin::Div, Lane::F64),
        Divss | Vdivss => |l, i| scalar(l, i, FBin::Div, Lane::F32),
        Divsd | Vdivsd => |l, i| scalar(l, i, FBin::Div, Lane::F64),
        Minps | Vminps => |l, i| packed(l, i, FBin::Min, Lane::F32),
        Minpd | Vminpd => |l, i| packed(l, i, FBin::Min, Lane::F64),
        Minss | Vminss => |l, i| scalar(l, i, FBin::Min, Lane::F32),
        Minsd | Vminsd => |l, i| scalar(l, i, FBin::Min, Lane::F64),
        Maxps | Vmaxps => |l, i| packed(l, i, FBin::Max, Lane::F32),
        Maxpd | Vmaxpd => |l, i| packed(l, i, FBin::Max, Lane::F64),
        Maxss | Vmaxss => |l, i| scalar(l, i, FBin::Max, Lane::F32),
        Maxsd | Vmaxsd => |l, i| scalar(l, i, FBin::Max, Lane::F64),
        _ => return None,
    };
    Some(f)
}

fn unary<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Sqrtps | Vsqrtps => |l, i| packed_sqrt(l, i, Lane::F32),
        Sqrtpd | Vsqrtpd => |l, i| packed_sqrt(l, i, Lane::F64),
        Sqrtss | Vsqrtss => |l, i| scalar_sqrt(l, i, Fty::F32),
        Sqrtsd | Vsqrtsd => |l, i| scalar_sqrt(l, i, Fty::F64),
        Rcpps | Vrcpps => |l, i| packed_estimate(l, i, reciprocal),
        Rcpss | Vrcpss => |l, i| scalar_estimate(l, i, reciprocal),
        Rsqrtps | Vrsqrtps => |l, i| packed_estimate(l, i, reciprocal_root),
        Rsqrtss | Vrsqrtss => |l, i| scalar_estimate(l, i, reciprocal_root),
        _ => return None,
    };
    Some(f)
}

fn packed<E: Emitter>(l: L<E>, i: I, op: FBin, lane: Lane) {
    let (a, b) = l.two_float_vectors(i, lane);
    let r = l.e.vfbin(op, shape(i, lane), a, b);
    l.set_vector(i, lane, r);
}

fn scalar<E: Emitter>(l: L<E>, i: I, op: FBin, lane: Lane) {
    let (a, b) = sources(i);
    let b = l.calm_scalar(i, b, lane);
    let a = l.calm_scalar(i, a, lane);
    let r = l.e.fbin(op, float_type(lane), a, b);
    l.set_scalar(i, lane, r);
}

/// The only floating-point source of a packed instruction.
pub(super) fn one_float_vector<E: Emitter>(l: L<E>, i: I, lane: Lane) -> E::Vec {
    let ty = shape(i, lane);
    let v = l.masked_vector(i, last_source(i), ty.lanes());
    l.calm(i, ty, v)
}

fn float_type(lane: Lane) -> Fty {
    lane.fty().expect("called with float lanes only")
}

fn packed_sqrt<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = one_float_vector(l, i, lane);
    let r = l.e.vfsqrt(shape(i, lane), v);
    l.set_vector(i, lane, r);
}

fn scalar_sqrt<E: Emitter>(l: L<E>, i: I, ty: Fty) {
    let lane = float_lane(ty);
    let v = l.calm_scalar(i, last_source(i), lane);
    let r = l.e.fsqrt(ty, v);
    l.set_scalar(i, lane, r);
}

// ---- RCPPS and RSQRTPS -------------------------------------------------------------------------------------
//
// The manual bounds the relative error by 1.5 * 2^-12 and leaves the bits to the processor (SDM vol. 2, RCPPS).
// Here they are the true value rounded to 12 fraction bits, in integer arithmetic: the same on every host and
// engine, independent of the rounding mode, and without exception flags, as the manual demands.

type Estimate<E> = fn(L<E>, <E as Emitter>::Val) -> <E as Emitter>::Val;

fn scalar_estimate<E: Emitter>(l: L<E>, i: I, estimate: Estimate<E>) {
    let v = l.scalar(i, last_source(i), Lane::I32);
    let r = estimate(l, v);
    l.set_scalar(i, Lane::I32, r);
}

fn packed_estimate<E: Emitter>(l: L<E>, i: I, estimate: Estimate<E>) {
    let ty = shape(i, Lane::I32);
    let v = l.vector(i, last_source(i));
    let mut r = l.zero(ty.bits);
    for n in 0..ty.lanes() {
        let x = l.e.extract(ty, v, n);
        let y = estimate(l, x);
        r = l.e.insert(ty, r, n, y);
    }
    l.set_vector(i, Lane::I32, r);
}

const SIGN: u64 = 0x8000_0000;
const INFINITY: u64 = 0x7f80_0000;
const SMALLEST_NORMAL: u64 = 0x0080_0000;
const IMPLICIT: u64 = 1 << 23;
const QUIET: u64 = 1 << 22;
const DEFAULT_NAN: u64 = 0xffc0_0000;
/// Half a unit in the 12th fraction bit, and the fraction bits below it.
const HALF: u64 = 1 << 10;
const BELOW: u64 = (1 << 11) - 1;

/// A float's fields, for values that aren't special.
struct Parts<V> {
    magnitude: V,
    exponent: V,
    /// With the implicit bit.
    mantissa: V,
}

fn parts<E: Emitter>(l: L<E>, x: E::Val) -> Parts<E::Val> {
    let magnitude = l.bin_imm(Bin::And, Ty::I32, x, SIGN - 1);
    let exponent = l.bin_imm(Bin::Lshr, Ty::I32, magnitude, 23);
    let fraction = l.bin_imm(Bin::And, Ty::I32, magnitude, IMPLICIT - 1);
    let mantissa = l.bin_imm(Bin::Or, Ty::I32, fraction, IMPLICIT);
    Parts { magnitude, exponent, mantissa }
}

/// The bits of a float from a biased exponent, held negated and offset as `bias - e`, and a mantissa in
/// [2^23, 2^24] of which 12 fraction bits are kept; a mantissa of 2^24 carries into the exponent.
fn assemble<E: Emitter>(l: L<E>, bias: u64, e: E::Val, mantissa: E::Val) -> E::Val {
    let bias = l.imm(Ty::I32, bias - 1);
    let exponent = l.bin(Bin::Sub, Ty::I32, bias, e);
    let exponent = l.bin_imm(Bin::Shl, Ty::I32, exponent, 23);
    let up = l.bin_imm(Bin::Add, Ty::I32, mantissa, HALF);
    let rounded = l.bin_imm(Bin::And, Ty::I32, up, !BELOW);
    l.bin(Bin::Add, Ty::I32, exponent, rounded)
}

/// `special` if the 32-bit comparison holds.
fn unless<E: Emitter>(l: L<E>, r: E::Val, [a, b]: [E::Val; 2], pred: Pred, special: u64) -> E::Val {
    let c = l.e.cmp(pred, Ty::I32, a, b);
    let special = l.imm(Ty::I32, special);
    l.e.select(Ty::I32, c, special, r)
}

/// The quieted operand if it is a NaN.
fn propagate_nan<E: Emitter>(l: L<E>, r: E::Val, x: E::Val, magnitude: E::Val) -> E::Val {
    let quiet = l.bin_imm(Bin::Or, Ty::I32, x, QUIET);
    let nan = l.cmp_imm(Pred::Ugt, Ty::I32, magnitude, INFINITY);
    l.e.select(Ty::I32, nan, quiet, r)
}

/// 1/x of an f32: with x = m/2^23 * 2^(e-127), it is (2^47/m)/2^23 * 2^(253-e-127).
/// Denormal operands count as zero, tiny results become zero.
fn reciprocal<E: Emitter>(l: L<E>, x: E::Val) -> E::Val {
    let p = parts(l, x);
    let m = l.zcast(Ty::I32, Ty::I64, p.mantissa);
    let one = l.imm(Ty::I64, 1 << 47);
    let q = l.bin(Bin::Udiv, Ty::I64, one, m);
    let q = l.zcast(Ty::I64, Ty::I32, q);
    let r = assemble(l, 253, p.exponent, q);
    let smallest = l.imm(Ty::I32, SMALLEST_NORMAL);
    let r = unless(l, r, [r, smallest], Pred::Slt, 0);
    let infinity = l.imm(Ty::I32, INFINITY);
    let r = unless(l, r, [p.magnitude, infinity], Pred::Eq, 0);
    let r = unless(l, r, [p.magnitude, smallest], Pred::Ult, INFINITY);
    let sign = l.bin_imm(Bin::And, Ty::I32, x, SIGN);
    let r = l.bin(Bin::Or, Ty::I32, r, sign);
    propagate_nan(l, r, x, p.magnitude)
}

/// 1/sqrt(x) of an f32. With x = f * 2^(2h), f in [1, 4), it is 2g/2 * 2^-h for g = 1/sqrt(f) in (1/2, 1].
fn reciprocal_root<E: Emitter>(l: L<E>, x: E::Val) -> E::Val {
    let p = parts(l, x);
    // e - 127 is odd where e is even.
    let odd = l.bin_imm(Bin::And, Ty::I32, p.exponent, 1);
    let odd = l.bin_imm(Bin::Xor, Ty::I32, odd, 1);
    let f = l.bin(Bin::Shl, Ty::I32, p.mantissa, odd);
    let f = l.zcast(Ty::I32, Ty::I64, f);
    let f = l.bin_imm(Bin::Shl, Ty::I64, f, 7);
    let g = inverse_root(l, f);
    let mantissa = l.bin_imm(Bin::Lshr, Ty::I64, g, 6);
    let mantissa = l.zcast(Ty::I64, Ty::I32, mantissa);
    // h = (e + 1) / 2 - 64, and the result's biased exponent is 127 - 1 - h.
    let up = l.bin_imm(Bin::Add, Ty::I32, p.exponent, 1);
    let half = l.bin_imm(Bin::Lshr, Ty::I32, up, 1);
    let r = assemble(l, 190, half, mantissa);
    let infinity = l.imm(Ty::I32, INFINITY);
    let r = unless(l, r, [x, infinity], Pred::Eq, 0);
    let zero = l.imm(Ty::I32, 0);
    let r = unless(l, r, [x, zero], Pred::Slt, DEFAULT_NAN);
    let sign = l.bin_imm(Bin::And, Ty::I32, x, SIGN);
    let signed_infinity = l.bin_imm(Bin::Or, Ty::I32, sign, INFINITY);
    let is_zero = l.cmp_imm(Pred::Ult, Ty::I32, p.magnitude, SMALLEST_NORMAL);
    let r = l.e.select(Ty::I32, is_zero, signed_infinity, r);
    propagate_nan(l, r, x, p.magnitude)
}

/// 1/sqrt(f) for f in [1, 4), both with 30 fraction bits. Starts on a line that is at most 9% off; each of
/// Newton's steps y * (3 - f*y*y) / 2 takes a relative error d to 1.5 d^2: 1.2%, 0.03%, below 2^-22.
fn inverse_root<E: Emitter>(l: L<E>, f: E::Val) -> E::Val {
    let scaled = l.bin_imm(Bin::Mul, Ty::I64, f, (ONE30 as f64 / 6.0) as u64);
    let scaled = l.bin_imm(Bin::Lshr, Ty::I64, scaled, 30);
    let intercept = l.imm(Ty::I64, (ONE30 as f64 * 1.1) as u64);
    let mut y = l.bin(Bin::Sub, Ty::I64, intercept, scaled);
    for _ in 0..3 {
        let square = l.bin(Bin::Mul, Ty::I64, y, y);
        let square = l.bin_imm(Bin::Lshr, Ty::I64, square, 30);
        let product = l.bin(Bin::Mul, Ty::I64, f, square);
        let product = l.bin_imm(Bin::Lshr, Ty::I64, product, 30);
        let three = l.imm(Ty::I64, 3 * ONE30);
        let factor = l.bin(Bin::Sub, Ty::I64, three, product);
        let twice = l.bin(Bin::Mul, Ty::I64, y, factor);
        y = l.bin_imm(Bin::Lshr, Ty::I64, twice, 31);
    }
    y
}

const ONE30: u64 = 1 << 30;

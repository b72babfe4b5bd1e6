//! Floating point of the interpreter, on the host's unit in the guest's rounding mode, with x86's NaNs.
//!
//! Rust's operators may assume round-to-nearest when they are folded at compile time; here operands are never
//! constants, so the host's instruction runs in the mode its control register holds.

use crate::emitter::{FBin, FPred, Fty, Round, Ty};

const QUIET32: u32 = 1 << 22;
const QUIET64: u64 = 1 << 51;
/// The real indefinite (Intel SDM vol. 1, table 4-3).
const INDEFINITE32: u32 = 0xffc0_0000;
const INDEFINITE64: u64 = 0xfff8_0000_0000_0000;

macro_rules! format {
    ($name:ident, $float:ty, $bits:ty, $quiet:expr, $indefinite:expr) => {
        mod $name {
            use super::*;

            /// The NaN that an operation on these operands gives if its result is one (SDM vol. 1, table 4-7).
            fn nan_of(a: $float, b: $float) -> $bits {
                if a.is_nan() {
                    a.to_bits() | $quiet
                } else if b.is_nan() {
                    b.to_bits() | $quiet
                } else {
                    $indefinite
                }
            }

            pub fn bin(op: FBin, a: u64, b: u64) -> u64 {
                let (a, b) = (<$float>::from_bits(a as $bits), <$float>::from_bits(b as $bits));
                let r = match op {
                    FBin::Add => a + b,
                    FBin::Sub => a - b,
                    FBin::Mul => a * b,
                    FBin::Div => a / b,
                    FBin::Min => return if a < b { a } else { b }.to_bits().into(),
                    FBin::Max => return if a > b { a } else { b }.to_bits().into(),
                };
                u64::from(if r.is_nan() { nan_of(a, b) } else { r.to_bits() })
            }

            pub fn sqrt(a: u64) -> u64 {
                let a = <$float>::from_bits(a as $bits);
                let r = a.sqrt();
                u64::from(if r.is_nan() { nan_of(a, a) } else { r.to_bits() })
            }

            pub fn cmp(pred: FPred, a: u64, b: u64) -> bool {
                let (a, b) = (<$float>::from_bits(a as $bits), <$float>::from_bits(b as $bits));
                match pred {
                    FPred::Oeq => a == b,
                    FPred::Olt => a < b,
                    FPred::Ole => a <= b,
                    FPred::Une => a != b,
                    FPred::Uge => !(a < b),
                    FPred::Ugt => !(a <= b),
                    FPred::Uno => a.is_nan() || b.is_nan(),
                    FPred::Ord => !a.is_nan() && !b.is_nan(),
                }
            }
        }
    };
}

format!(single, f32, u32, QUIET32, INDEFINITE32);
format!(double, f64, u64, QUIET64, INDEFINITE64);

/// [`crate::Emitter::fbin`].
pub fn bin(op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    match ty {
        Fty::F32 => single::bin(op, a, b),
        Fty::F64 => double::bin(op, a, b),
    }
}

/// [`crate::Emitter::fsqrt`].
pub fn sqrt(ty: Fty, a: u64) -> u64 {
    match ty {
        Fty::F32 => single::sqrt(a),
        Fty::F64 => double::sqrt(a),
    }
}

/// [`crate::Emitter::fcmp`].
pub fn cmp(pred: FPred, ty: Fty, a: u64, b: u64) -> bool {
    match ty {
        Fty::F32 => single::cmp(pred, a, b),
        Fty::F64 => double::cmp(pred, a, b),
    }
}

/// [`crate::Emitter::float_to_int`].
pub fn to_int(round: Round, from: Fty, to: Ty, v: u64) -> u64 {
    // Exact: every f32 is an f64, and rounding to an integer gives the same integer in both.
    let v = match from {
        Fty::F32 => f64::from(f32::from_bits(v as u32)),
        Fty::F64 => f64::from_bits(v),
    };
    let v = match round {
        Round::Truncate => v.trunc(),
        Round::Current => rint(v),
    };
    let limit = (2.0f64).powi(to.bits() as i32 - 1);
    if v >= -limit && v < limit { v as i64 as u64 & to.mask() } else { 1 << (to.bits() - 1) }
}

/// Rounds to an integral value in the host's current mode.
#[cfg(target_arch = "x86_64")]
pub fn rint(v: f64) -> f64 {
    const INTEGRAL: f64 = 4_503_599_627_370_496.0; // 2^52: from here on every double is integral
    if !(v.abs() < INTEGRAL) {
        return v;
    }
    let r: f64;
    // SAFETY: SSE2 is part of x86-64; |v| < 2^52, so the conversion to a 64-bit integer is exact after rounding.
    unsafe {
        core::arch::asm!("cvtsd2si {i}, {v}", "cvtsi2sd {r}, {i}",
            i = out(reg) _, v = in(xmm_reg) v, r = out(xmm_reg) r, options(pure, nomem, nostack));
    }
    r.copysign(v)
}

/// Rounds to an integral value in the host's current mode.
#[cfg(target_arch = "aarch64")]
pub fn rint(v: f64) -> f64 {
    let r: f64;
    // SAFETY: a pure register operation of base ARMv8-A.
    unsafe { core::arch::asm!("frinti {r:d}, {v:d}", v = in(vreg) v, r = out(vreg) r, options(pure, nomem, nostack)) };
    r
}

/// [`crate::Emitter::float_to_float`].
pub fn convert(from: Fty, to: Fty, v: u64) -> u64 {
    match (from, to) {
        (Fty::F32, Fty::F64) => widen(v as u32),
        (Fty::F64, Fty::F32) => u64::from(narrow(v)),
        _ => v,
    }
}

fn widen(v: u32) -> u64 {
    let f = f32::from_bits(v);
    if f.is_nan() {
        let sign = u64::from(v >> 31) << 63;
        return sign | 0x7ff0_0000_0000_0000 | u64::from(v & 0x7f_ffff) << 29 | QUIET64;
    }
    f64::from(f).to_bits()
}

fn narrow(v: u64) -> u32 {
    let f = f64::from_bits(v);
    if f.is_nan() {
        return (v >> 32) as u32 & 0x8000_0000 | 0x7f80_0000 | (v >> 29) as u32 & 0x7f_ffff | QUIET32;
    }
    (f as f32).to_bits()
}

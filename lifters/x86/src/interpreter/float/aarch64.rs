//! On an AArch64 host: its own instructions, with x86's choice of NaNs and its integer indefinite.

use core::arch::asm;

use crate::emitter::{FBin, FPred, Fty, Round, Rounding, Ty};

/// One instruction on `s` or `d` registers by format: template, then operands as bits.
macro_rules! by_format {
    ($ty:expr, $template:literal, $a:expr, $b:expr) => {{
        let r: f64;
        let (a, b) = (f64::from_bits($a), f64::from_bits($b));
        // SAFETY: base ARMv8-A floating point on registers. Not `pure`: it depends on FPCR and changes FPSR.
        unsafe {
            match $ty {
                Fty::F32 => asm!(concat!($template, " {r:s}, {a:s}, {b:s}"), r = lateout(vreg) r, a = in(vreg) a,
                    b = in(vreg) b, options(nomem, nostack, preserves_flags)),
                Fty::F64 => asm!(concat!($template, " {r:d}, {a:d}, {b:d}"), r = lateout(vreg) r, a = in(vreg) a,
                    b = in(vreg) b, options(nomem, nostack, preserves_flags)),
            }
        }
        r.to_bits() & $ty.ty().mask()
    }};
    ($ty:expr, $template:literal, $a:expr) => {{
        let r: f64;
        let a = f64::from_bits($a);
        // SAFETY: as above.
        unsafe {
            match $ty {
                Fty::F32 => asm!(concat!($template, " {r:s}, {a:s}"), r = lateout(vreg) r, a = in(vreg) a,
                    options(nomem, nostack, preserves_flags)),
                Fty::F64 => asm!(concat!($template, " {r:d}, {a:d}"), r = lateout(vreg) r, a = in(vreg) a,
                    options(nomem, nostack, preserves_flags)),
            }
        }
        r.to_bits() & $ty.ty().mask()
    }};
}

/// Magnitude of infinity, the quiet bit and the real indefinite (SDM vol. 1, table 4-3) of a format.
const fn specials(ty: Fty) -> (u64, u64, u64) {
    match ty {
        Fty::F32 => (0x7f80_0000, 1 << 22, 0xffc0_0000),
        Fty::F64 => (0x7ff0_0000_0000_0000, 1 << 51, 0xfff8_0000_0000_0000),
    }
}

fn is_nan(ty: Fty, v: u64) -> bool {
    v & ty.ty().mask() >> 1 > specials(ty).0
}

/// The result itself, or the NaN that x86 gives for these operands (SDM vol. 1, table 4-7).
fn with_nan_of(ty: Fty, r: u64, a: u64, b: u64) -> u64 {
    let (_, quiet, indefinite) = specials(ty);
    if !is_nan(ty, r) {
        r
    } else if is_nan(ty, a) {
        a | quiet
    } else if is_nan(ty, b) {
        b | quiet
    } else {
        indefinite
    }
}

/// [`crate::Emitter::fbin`].
pub fn bin(op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    let r = match op {
        FBin::Add => by_format!(ty, "fadd", a, b),
        FBin::Sub => by_format!(ty, "fsub", a, b),
        FBin::Mul => by_format!(ty, "fmul", a, b),
        FBin::Div => by_format!(ty, "fdiv", a, b),
        FBin::Min => return if cmp(FPred::Olt, ty, a, b) { a } else { b },
        FBin::Max => return if cmp(FPred::Olt, ty, b, a) { a } else { b },
    };
    with_nan_of(ty, r, a, b)
}

/// [`crate::Emitter::fsqrt`].
pub fn sqrt(ty: Fty, a: u64) -> u64 {
    with_nan_of(ty, by_format!(ty, "fsqrt", a), a, a)
}

/// N, Z and V as a comparison leaves them: less, equal, unordered.
macro_rules! compare_flags {
    ($instruction:literal, $ty:expr, $a:expr, $b:expr) => {{
        let (less, equal, unordered): (u32, u32, u32);
        let (a, b) = (f64::from_bits($a), f64::from_bits($b));
        // SAFETY: a comparison of registers.
        unsafe {
            match $ty {
                Fty::F32 => asm!(concat!($instruction, " {a:s}, {b:s}"),
                    "cset {l:w}, mi", "cset {e:w}, eq", "cset {u:w}, vs", a = in(vreg) a, b = in(vreg) b,
                    l = lateout(reg) less, e = lateout(reg) equal, u = lateout(reg) unordered, options(nomem, nostack)),
                Fty::F64 => asm!(concat!($instruction, " {a:d}, {b:d}"),
                    "cset {l:w}, mi", "cset {e:w}, eq", "cset {u:w}, vs", a = in(vreg) a, b = in(vreg) b,
                    l = lateout(reg) less, e = lateout(reg) equal, u = lateout(reg) unordered, options(nomem, nostack)),
            }
        }
        [less != 0, equal != 0, unordered != 0]
    }};
}

fn holds(pred: FPred, [less, equal, unordered]: [bool; 3]) -> bool {
    match pred {
        FPred::Oeq => equal,
        FPred::Olt => less,
        FPred::Ole => less || equal,
        FPred::Une => !equal,
        FPred::Uge => !less,
        FPred::Ugt => !(less || equal),
        FPred::Uno => unordered,
        FPred::Ord => !unordered,
    }
}

/// [`crate::Emitter::fcmp`].
pub fn cmp(pred: FPred, ty: Fty, a: u64, b: u64) -> bool {
    match pred {
        FPred::Olt | FPred::Ole | FPred::Uge | FPred::Ugt => holds(pred, compare_flags!("fcmpe", ty, a, b)),
        _ => cmp_quiet(pred, ty, a, b),
    }
}

/// [`crate::Emitter::fcmp_quiet`].
pub fn cmp_quiet(pred: FPred, ty: Fty, a: u64, b: u64) -> bool {
    holds(pred, compare_flags!("fcmp", ty, a, b))
}

/// FCVTZS to 64 bits: saturating, zero for NaNs.
fn truncate(from: Fty, v: u64) -> i64 {
    let r: i64;
    let v = f64::from_bits(v);
    // SAFETY: a conversion between registers.
    unsafe {
        match from {
            Fty::F32 => asm!("fcvtzs {r:x}, {v:s}", r = lateout(reg) r, v = in(vreg) v,
                options(nomem, nostack, preserves_flags)),
            Fty::F64 => asm!("fcvtzs {r:x}, {v:d}", r = lateout(reg) r, v = in(vreg) v,
                options(nomem, nostack, preserves_flags)),
        }
    }
    r
}

/// [`crate::Emitter::float_to_int`].
pub fn to_int(mode: Round, from: Fty, to: Ty, v: u64) -> u64 {
    // FRINTX raises inexact as the conversion would have.
    let integral = match mode {
        Round::Current => by_format!(from, "frintx", v),
        Round::Truncate => v,
    };
    let r = truncate(from, integral);
    let limit = 1i64 << (to.bits() - 1).min(62);
    let fits = match to {
        // No float but 2^63 and above saturates to this.
        Ty::I64 => r != i64::MAX,
        _ => (-limit..limit).contains(&r),
    };
    if fits && !is_nan(from, v) { r as u64 & to.mask() } else { 1 << (to.bits() - 1) }
}

/// [`crate::Emitter::int_to_float`].
pub fn from_int(from: Ty, to: Fty, v: u64) -> u64 {
    let r: f64;
    let v = crate::interpreter::signed(from, v);
    // SAFETY: a conversion between registers.
    unsafe {
        match to {
            Fty::F32 => asm!("scvtf {r:s}, {v:x}", r = lateout(vreg) r, v = in(reg) v,
                options(nomem, nostack, preserves_flags)),
            Fty::F64 => asm!("scvtf {r:d}, {v:x}", r = lateout(vreg) r, v = in(reg) v,
                options(nomem, nostack, preserves_flags)),
        }
    }
    r.to_bits() & to.ty().mask()
}

/// [`crate::Emitter::float_to_float`]. With FPCR.DN clear, FCVT treats NaNs as x86 does.
pub fn convert(from: Fty, to: Fty, v: u64) -> u64 {
    let r: f64;
    let v = f64::from_bits(v);
    // SAFETY: a conversion between registers.
    unsafe {
        match (from, to) {
            (Fty::F32, Fty::F64) => asm!("fcvt {r:d}, {v:s}", r = lateout(vreg) r, v = in(vreg) v,
                options(nomem, nostack, preserves_flags)),
            (Fty::F64, Fty::F32) => asm!("fcvt {r:s}, {v:d}", r = lateout(vreg) r, v = in(vreg) v,
                options(nomem, nostack, preserves_flags)),
            _ => r = v,
        }
    }
    r.to_bits() & to.ty().mask()
}

/// [`crate::Emitter::fround`]. Only one of these instructions can raise the inexact flag.
pub fn round(mode: Rounding, inexact: bool, ty: Fty, v: u64) -> u64 {
    let r = match mode {
        Rounding::Current if inexact => by_format!(ty, "frintx", v),
        Rounding::Nearest => by_format!(ty, "frintn", v),
        Rounding::Down => by_format!(ty, "frintm", v),
        Rounding::Up => by_format!(ty, "frintp", v),
        Rounding::Zero => by_format!(ty, "frintz", v),
        Rounding::Current => by_format!(ty, "frinti", v),
    };
    with_nan_of(ty, r, v, v)
}

//! On an AArch64 host: its own instructions, with x86's choice of NaNs, its integer indefinite, its flushing and its
//! exception flags.
//!
//! The flags gather in FPSR, though not all of them are the instructions' own. FPSR's flag for a denormal operand (IDC), which
//! the host sets only where it flushes them, is set here. Underflow is told from the result before it is rounded, x86's from
//! the rounded one (Arm ARM, FPRoundBase; SDM vol. 1, 4.9.1.5): the results that may differ are calculated again with an
//! operand so much larger that nothing underflows. FPCR.FZ flushes operands and results. It is set where the guest flushes both
//! and all exceptions are masked ([`flushes`]); elsewhere what the guest flushes is flushed here.

use core::arch::asm;

use xlate_abi::state::mxcsr::{DAZ, DE, FTZ, IE, MASKS, OE, PE, UE, UM, ZE};

use super::soft::Format;
use super::{is_denormal, smallest_normal};
use crate::emitter::{Compare, FBin, FPred, Fty, Round, Rounding, Ty};

// ---- status ----------------------------------------------------------------------------------------------------

/// FPSR's exception flags (Arm ARM, C5.2.10).
const IOC: u64 = 1 << 0;
const DZC: u64 = 1 << 1;
const OFC: u64 = 1 << 2;
const UFC: u64 = 1 << 3;
const IXC: u64 = 1 << 4;
const IDC: u64 = 1 << 7;
const ALL: u64 = IOC | DZC | OFC | UFC | IXC | IDC;

const PAIRS: [(u32, u64); 6] = [(IE, IOC), (DE, IDC), (ZE, DZC), (OE, OFC), (UE, UFC), (PE, IXC)];

fn status() -> u64 {
    let fpsr: u64;
    // SAFETY: FPSR is a user-mode register of the floating-point unit.
    unsafe { asm!("mrs {}, fpsr", out(reg) fpsr, options(nomem, nostack, preserves_flags)) };
    fpsr
}

fn set_status(fpsr: u64) {
    // SAFETY: as in `status`.
    unsafe { asm!("msr fpsr, {}", in(reg) fpsr, options(nomem, nostack, preserves_flags)) };
}

fn set(flags: u64) {
    let held = status();
    if held & flags != flags {
        set_status(held | flags);
    }
}

/// Sets exception flags, as MXCSR has them. They mean what they do on the host.
pub fn raise(flags: u32) {
    set(PAIRS.iter().filter(|(from, _)| flags & from != 0).map(|(_, to)| to).sum());
}

/// Raises exception flags that were calculated while guest code runs by this MXCSR. Where the host flushes, its flags don't say
/// the same: then they go into MXCSR at once. Nobody looks for new ones there, because all exceptions are masked.
pub fn raise_in(mxcsr: &mut u32, flags: u32) {
    match flushes(*mxcsr) {
        _ if flags == 0 => {}
        true => *mxcsr |= flags,
        false => raise(flags),
    }
}

/// The exception flags raised, as MXCSR has them. Where the host flushes, its flag for denormal operands tells of that, which
/// x86 has no flag for, and a result that it flushes is inexact to x86 (SDM vol. 1, 10.2.3.3).
pub fn flags(mxcsr: u32) -> u32 {
    let fpsr = status();
    let raised = PAIRS.iter().filter(|(_, from)| fpsr & from != 0).map(|(to, _)| to).sum::<u32>();
    match raised {
        _ if !flushes(mxcsr) => raised,
        _ if raised & UE != 0 => raised & !DE | PE,
        _ => raised & !DE,
    }
}

/// Whether FPCR.FZ is set for this MXCSR: the host then flushes operands and results of single and double precision. Where an
/// exception isn't masked, it doesn't, so that each of its flags is the guest's.
pub fn flushes(mxcsr: u32) -> bool {
    const ALL: u32 = DAZ | FTZ | MASKS;
    mxcsr & ALL == ALL
}

/// The same; they are clear afterwards.
pub fn take_flags(mxcsr: u32) -> u32 {
    let raised = flags(mxcsr);
    set_status(status() & !ALL);
    raised
}

/// Whether tiny results become zeros: not where underflow isn't masked.
fn flushes_results(mxcsr: u32) -> bool {
    mxcsr & (FTZ | UM) == FTZ | UM
}

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

// ---- operands --------------------------------------------------------------------------------------------------

fn sign(ty: Fty, v: u64) -> u64 {
    v & (ty.ty().mask() >> 1) + 1
}

fn magnitude(ty: Fty, v: u64) -> u64 {
    v & ty.ty().mask() >> 1
}

/// An operand as the operation sees it: denormal ones may be zeros.
fn flushed(mxcsr: u32, ty: Fty, v: u64) -> u64 {
    if mxcsr & DAZ != 0 && is_denormal(ty, v) { sign(ty, v) } else { v }
}

/// Raises the flag for denormal operands, which NaNs keep from being looked at (SDM vol. 1, 4.9.2).
fn note_denormals(ty: Fty, operands: [u64; 2]) {
    if operands.iter().any(|v| is_denormal(ty, *v)) && !operands.iter().any(|v| is_nan(ty, *v)) {
        set(IDC);
    }
}

// ---- tiny results ----------------------------------------------------------------------------------------------

/// What an operand is multiplied with for its result not to underflow: 2^100.
const SCALE: u64 = 100;

fn scale(ty: Fty) -> u64 {
    match ty {
        Fty::F32 => (127 + SCALE) << 23,
        Fty::F64 => (1023 + SCALE) << 52,
    }
}

/// The smallest normal number's bits, times [`scale`].
fn scaled_smallest_normal(ty: Fty) -> u64 {
    smallest_normal(ty) * (1 + SCALE)
}

/// The result of an operation that is not above the smallest normal number. FPSR was `before` it; `again` gives the result,
/// and `scaled` what it would be if an operand were [`scale`] times larger.
fn settle_tiny(mxcsr: u32, ty: Fty, before: u64, again: impl FnOnce() -> u64, scaled: impl FnOnce() -> u64) -> u64 {
    set_status(0);
    let r = again();
    let raised = status() & ALL;
    let scaled = scaled();
    let tiny = magnitude(ty, scaled) < scaled_smallest_normal(ty);
    let (r, raised) = if !tiny {
        (sign(ty, scaled) | smallest_normal(ty), raised & !UFC)
    } else if flushes_results(mxcsr) {
        (sign(ty, r), raised | UFC | IXC)
    } else if raised & IXC != 0 {
        (r, raised | UFC)
    } else {
        (r, raised & !UFC)
    };
    set_status(before | raised);
    r
}

/// A tiny sum, which is exact.
fn settle_sum(mxcsr: u32, ty: Fty, r: u64) -> u64 {
    if is_denormal(ty, r) && flushes_results(mxcsr) {
        set(UFC | IXC);
        return sign(ty, r);
    }
    r
}

// ---- operations ------------------------------------------------------------------------------------------------

/// [`crate::Emitter::fbin`].
pub fn bin(mxcsr: u32, op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    let (a, b) = (flushed(mxcsr, ty, a), flushed(mxcsr, ty, b));
    match op {
        FBin::Min => return if mask(mxcsr, FPred::OLT, ty, a, b) != 0 { a } else { b },
        FBin::Max => return if mask(mxcsr, FPred::OLT, ty, b, a) != 0 { a } else { b },
        _ => {}
    }
    let before = status();
    let r = calculate(op, ty, a, b);
    if is_nan(ty, r) {
        return with_nan_of(ty, r, a, b);
    }
    // A division by zero comes before a denormal operand.
    if op != FBin::Div || magnitude(ty, b) != 0 {
        note_denormals(ty, [a, b]);
    }
    if magnitude(ty, r) > smallest_normal(ty) || is_exact_zero(op, ty, a, b) {
        return r;
    }
    if matches!(op, FBin::Add | FBin::Sub) {
        return settle_sum(mxcsr, ty, r);
    }
    let before = before | status() & IDC;
    settle_tiny(mxcsr, ty, before, || calculate(op, ty, a, b), || scaled(op, ty, a, b))
}

fn calculate(op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    match op {
        FBin::Add => by_format!(ty, "fadd", a, b),
        FBin::Sub => by_format!(ty, "fsub", a, b),
        FBin::Mul => by_format!(ty, "fmul", a, b),
        FBin::Div => by_format!(ty, "fdiv", a, b),
        FBin::Min | FBin::Max => unreachable!("they don't calculate"),
    }
}

/// Whether a product or quotient is zero because an operand is zero or infinite.
fn is_exact_zero(op: FBin, ty: Fty, a: u64, b: u64) -> bool {
    let (a, b) = (magnitude(ty, a), magnitude(ty, b));
    match op {
        FBin::Mul => a == 0 || b == 0,
        FBin::Div => a == 0 || b == specials(ty).0,
        _ => false,
    }
}

/// A tiny product or quotient times [`scale`]. The smaller factor is scaled, because it can't overflow.
fn scaled(op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    let up = |v| calculate(FBin::Mul, ty, v, scale(ty));
    if op == FBin::Mul && magnitude(ty, b) < magnitude(ty, a) {
        return calculate(op, ty, a, up(b));
    }
    calculate(op, ty, up(a), b)
}

/// A fused multiplication and addition is left to integer arithmetic, which has x86's NaNs and flags.
pub fn fma(_negates: [bool; 2], _ty: Fty, _operands: [u64; 3]) -> Option<u64> {
    None
}

/// VRCP14 and VRSQRT14, of which AArch64's own estimates have fewer bits.
pub fn estimate(_root: bool, _f: Format, _v: u64) -> Option<u64> {
    None
}

/// [`crate::Emitter::fsqrt`].
pub fn sqrt(mxcsr: u32, ty: Fty, a: u64) -> u64 {
    let a = flushed(mxcsr, ty, a);
    let r = by_format!(ty, "fsqrt", a);
    if is_nan(ty, r) {
        return with_nan_of(ty, r, a, a);
    }
    note_denormals(ty, [a, a]);
    r
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

/// Less, equal, unordered.
fn order(mxcsr: u32, signals: bool, ty: Fty, a: u64, b: u64) -> [bool; 3] {
    let (a, b) = (flushed(mxcsr, ty, a), flushed(mxcsr, ty, b));
    note_denormals(ty, [a, b]);
    if signals { compare_flags!("fcmpe", ty, a, b) } else { compare_flags!("fcmp", ty, a, b) }
}

/// [`crate::Emitter::fcompare`].
pub fn compare(mxcsr: u32, signals: bool, ty: Fty, a: u64, b: u64) -> Compare<bool> {
    let [less, equal, unordered] = order(mxcsr, signals, ty, a, b);
    let (carry, zero) = (less || unordered, equal || unordered);
    Compare { carry, zero, unordered, above: !carry && !zero }
}

/// [`crate::Emitter::fmask`].
pub fn mask(mxcsr: u32, pred: FPred, ty: Fty, a: u64, b: u64) -> u64 {
    let [less, equal, unordered] = order(mxcsr, pred.signals(), ty, a, b);
    let holds = pred.holds(less, equal, unordered);
    if holds { ty.ty().mask() } else { 0 }
}

// ---- conversions -----------------------------------------------------------------------------------------------

/// `$instruction` from a float to a general-purpose register: saturating, zero for NaNs.
macro_rules! truncate {
    ($form:literal, $from:expr, $v:expr) => {{
        let r: u64;
        let v = f64::from_bits($v);
        // SAFETY: a conversion between registers.
        unsafe {
            match $from {
                Fty::F32 => asm!(concat!("fcvtzs {r:", $form, "}, {v:s}"), r = lateout(reg) r, v = in(vreg) v,
                    options(nomem, nostack, preserves_flags)),
                Fty::F64 => asm!(concat!("fcvtzs {r:", $form, "}, {v:d}"), r = lateout(reg) r, v = in(vreg) v,
                    options(nomem, nostack, preserves_flags)),
            }
        }
        r
    }};
}

/// [`crate::Emitter::float_to_int`]. What is too small saturates to the integer indefinite.
pub fn to_int(mxcsr: u32, mode: Round, from: Fty, to: Ty, v: u64) -> u64 {
    let v = flushed(mxcsr, from, v);
    let integral = match mode {
        Round::Current => by_format!(from, "frinti", v),
        Round::Truncate => v,
    };
    let r = match to {
        Ty::I64 => truncate!("x", from, integral),
        _ => truncate!("w", from, integral) & 0xffff_ffff,
    };
    if !is_below(from, integral, to.bits() - 1) {
        return 1 << (to.bits() - 1);
    }
    let too_small =
        magnitude(from, integral) != magnitude(from, power_of_two(from, to.bits() - 1)) && r == 1 << (to.bits() - 1);
    if integral != v && !too_small {
        set(IXC);
    }
    r
}

/// The bits of 2^n.
fn power_of_two(ty: Fty, n: u32) -> u64 {
    match ty {
        Fty::F32 => u64::from(127 + n) << 23,
        Fty::F64 => u64::from(1023 + n) << 52,
    }
}

/// Whether these bits are a number below 2^n; no NaN is.
fn is_below(ty: Fty, v: u64, n: u32) -> bool {
    !is_nan(ty, v) && (sign(ty, v) != 0 || v < power_of_two(ty, n))
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
pub fn convert(mxcsr: u32, from: Fty, to: Fty, v: u64) -> u64 {
    let v = flushed(mxcsr, from, v);
    note_denormals(from, [v, v]);
    let before = status();
    let r = resize(from, to, v);
    let exact = (from, to) != (Fty::F64, Fty::F32) || magnitude(from, v) == 0;
    if exact || is_nan(to, r) || magnitude(to, r) > smallest_normal(to) {
        return r;
    }
    let scaled = || resize(from, to, calculate(FBin::Mul, from, v, scale(from)));
    settle_tiny(mxcsr, to, before, || resize(from, to, v), scaled)
}

fn resize(from: Fty, to: Fty, v: u64) -> u64 {
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

/// [`crate::Emitter::fround`]. Only FRINTX can raise the inexact flag, and it does so in every mode.
pub fn round(mxcsr: u32, mode: Rounding, inexact: bool, ty: Fty, v: u64) -> u64 {
    let v = flushed(mxcsr, ty, v);
    if inexact {
        let _ = by_format!(ty, "frintx", v);
    }
    let r = match mode {
        Rounding::Nearest => by_format!(ty, "frintn", v),
        Rounding::Down => by_format!(ty, "frintm", v),
        Rounding::Up => by_format!(ty, "frintp", v),
        Rounding::Zero => by_format!(ty, "frintz", v),
        Rounding::Current => by_format!(ty, "frinti", v),
    };
    with_nan_of(ty, r, v, v)
}

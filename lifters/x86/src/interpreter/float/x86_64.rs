//! On an x86-64 host each operation is the guest's own instruction, so results and sticky flags are exact.

use core::arch::asm;

use xlate_abi::state::mxcsr::FLAGS;

use super::soft::Format;
use crate::emitter::{Compare, FBin, FPred, Fty, Round, Rounding, Ty};

/// `$instruction r, b` on the low elements, r having been a.
macro_rules! two_operands {
    ($instruction:literal, $a:expr, $b:expr) => {{
        let mut r = f64::from_bits($a);
        // SAFETY: SSE2 arithmetic on registers; exceptions are masked or the guest's own.
        unsafe {
            asm!(concat!($instruction, " {r}, {b}"), r = inout(xmm_reg) r, b = in(xmm_reg) f64::from_bits($b),
                options(nomem, nostack, preserves_flags));
        }
        r.to_bits()
    }};
}

/// A scalar instruction by format: the first name is the single one.
macro_rules! by_format {
    ($ty:expr, $single:literal, $double:literal, $a:expr, $b:expr) => {
        match $ty {
            Fty::F32 => two_operands!($single, $a, $b) & 0xffff_ffff,
            Fty::F64 => two_operands!($double, $a, $b),
        }
    };
}

/// [`crate::Emitter::fbin`].
pub fn bin(_mxcsr: u32, op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    match op {
        FBin::Add => by_format!(ty, "addss", "addsd", a, b),
        FBin::Sub => by_format!(ty, "subss", "subsd", a, b),
        FBin::Mul => by_format!(ty, "mulss", "mulsd", a, b),
        FBin::Div => by_format!(ty, "divss", "divsd", a, b),
        FBin::Min => by_format!(ty, "minss", "minsd", a, b),
        FBin::Max => by_format!(ty, "maxss", "maxsd", a, b),
    }
}

/// [`crate::Emitter::fsqrt`].
pub fn sqrt(_mxcsr: u32, ty: Fty, a: u64) -> u64 {
    by_format!(ty, "sqrtss", "sqrtsd", a, a)
}

/// [`crate::Emitter::fmask`].
pub fn mask(mxcsr: u32, pred: FPred, ty: Fty, a: u64, b: u64) -> u64 {
    match pred {
        FPred::OEQ => by_format!(ty, "cmpeqss", "cmpeqsd", a, b),
        FPred::OLT => by_format!(ty, "cmpltss", "cmpltsd", a, b),
        FPred::OLE => by_format!(ty, "cmpless", "cmplesd", a, b),
        FPred::UNE => by_format!(ty, "cmpneqss", "cmpneqsd", a, b),
        FPred::UGE => by_format!(ty, "cmpnltss", "cmpnltsd", a, b),
        FPred::UGT => by_format!(ty, "cmpnless", "cmpnlesd", a, b),
        FPred::UNO => by_format!(ty, "cmpunordss", "cmpunordsd", a, b),
        FPred::ORD => by_format!(ty, "cmpordss", "cmpordsd", a, b),
        // The host may have these eight only.
        _ => {
            let c = compare(mxcsr, pred.signals(), ty, a, b);
            if pred.holds(c.carry && !c.zero, c.zero && !c.unordered, c.unordered) { ty.ty().mask() } else { 0 }
        }
    }
}

/// `$instruction r, x, y` with r = x * y + r, in its own signs.
macro_rules! three_operands {
    ($instruction:literal, $x:expr, $y:expr, $z:expr) => {{
        let mut r = f64::from_bits($z);
        // SAFETY: FMA, which the caller has found, on registers.
        unsafe {
            asm!(concat!($instruction, " {r}, {x}, {y}"), r = inout(xmm_reg) r, x = in(xmm_reg) f64::from_bits($x),
                y = in(xmm_reg) f64::from_bits($y), options(nomem, nostack, preserves_flags));
        }
        r.to_bits()
    }};
}

/// A fused multiplication and addition, with the product and the third operand negated or not, if the host has it.
pub fn fma(negates: [bool; 2], ty: Fty, [x, y, z]: [u64; 3]) -> Option<u64> {
    if !std::arch::is_x86_feature_detected!("fma") {
        return None;
    }
    let r = match (ty, negates) {
        (Fty::F32, [false, false]) => three_operands!("vfmadd231ss", x, y, z),
        (Fty::F32, [false, true]) => three_operands!("vfmsub231ss", x, y, z),
        (Fty::F32, [true, false]) => three_operands!("vfnmadd231ss", x, y, z),
        (Fty::F32, [true, true]) => three_operands!("vfnmsub231ss", x, y, z),
        (Fty::F64, [false, false]) => three_operands!("vfmadd231sd", x, y, z),
        (Fty::F64, [false, true]) => three_operands!("vfmsub231sd", x, y, z),
        (Fty::F64, [true, false]) => three_operands!("vfnmadd231sd", x, y, z),
        (Fty::F64, [true, true]) => three_operands!("vfnmsub231sd", x, y, z),
    };
    Some(r & ty.ty().mask())
}

/// VRCP14 of a number of this format, or VRSQRT14, if the host has it; of halves, VRCPPH and its like.
pub fn estimate(root: bool, f: Format, v: u64) -> Option<u64> {
    macro_rules! one_operand {
        ($instruction:literal) => {{
            let r: f64;
            // SAFETY: AVX-512, which is found below, on registers.
            unsafe {
                asm!(concat!($instruction, " {r}, {v}, {v}"), r = lateout(xmm_reg) r, v = in(xmm_reg) f64::from_bits(v),
                    options(nomem, nostack, preserves_flags));
            }
            r.to_bits()
        }};
    }
    let has = match f {
        Format::HALF => std::arch::is_x86_feature_detected!("avx512fp16"),
        _ => std::arch::is_x86_feature_detected!("avx512f"),
    };
    let r = match (f, root) {
        _ if !has => return None,
        (Format::HALF, false) => one_operand!("vrcpsh"),
        (Format::HALF, true) => one_operand!("vrsqrtsh"),
        (Format::SINGLE, false) => one_operand!("vrcp14ss"),
        (Format::SINGLE, true) => one_operand!("vrsqrt14ss"),
        (_, false) => one_operand!("vrcp14sd"),
        (_, true) => one_operand!("vrsqrt14sd"),
    };
    Some(r & u64::MAX >> (64 - f.width()))
}

/// CF, ZF and PF as `$instruction` leaves them.
macro_rules! compare_flags {
    ($instruction:literal, $a:expr, $b:expr) => {{
        let (carry, zero, parity): (u8, u8, u8);
        // SAFETY: a comparison of registers.
        unsafe {
            asm!(concat!($instruction, " {a}, {b}"), "setb {carry}", "sete {zero}", "setp {parity}",
                a = in(xmm_reg) f64::from_bits($a), b = in(xmm_reg) f64::from_bits($b), carry = out(reg_byte) carry,
                zero = out(reg_byte) zero, parity = out(reg_byte) parity, options(nomem, nostack));
        }
        [carry, zero, parity].map(|flag| flag != 0)
    }};
}

/// [`crate::Emitter::fcompare`].
pub fn compare(_mxcsr: u32, signals: bool, ty: Fty, a: u64, b: u64) -> Compare<bool> {
    let [carry, zero, unordered] = match (signals, ty) {
        (true, Fty::F32) => compare_flags!("comiss", a, b),
        (true, Fty::F64) => compare_flags!("comisd", a, b),
        (false, Fty::F32) => compare_flags!("ucomiss", a, b),
        (false, Fty::F64) => compare_flags!("ucomisd", a, b),
    };
    Compare { carry, zero, unordered, above: !carry && !zero }
}

/// `$instruction` from a float to a general-purpose register in the given template modifier's width.
macro_rules! float_to_register {
    ($instruction:literal, $modifier:literal, $v:expr) => {{
        let r: u64;
        // SAFETY: a conversion between registers.
        unsafe {
            asm!(concat!($instruction, " {r", $modifier, "}, {v}"), r = out(reg) r,
                v = in(xmm_reg) f64::from_bits($v), options(nomem, nostack, preserves_flags));
        }
        r
    }};
}

/// [`crate::Emitter::float_to_int`].
pub fn to_int(_mxcsr: u32, round: Round, from: Fty, to: Ty, v: u64) -> u64 {
    match (round, from, to) {
        (Round::Current, Fty::F32, Ty::I64) => float_to_register!("cvtss2si", ":r", v),
        (Round::Current, Fty::F64, Ty::I64) => float_to_register!("cvtsd2si", ":r", v),
        (Round::Truncate, Fty::F32, Ty::I64) => float_to_register!("cvttss2si", ":r", v),
        (Round::Truncate, Fty::F64, Ty::I64) => float_to_register!("cvttsd2si", ":r", v),
        (Round::Current, Fty::F32, _) => float_to_register!("cvtss2si", ":e", v),
        (Round::Current, Fty::F64, _) => float_to_register!("cvtsd2si", ":e", v),
        (Round::Truncate, Fty::F32, _) => float_to_register!("cvttss2si", ":e", v),
        (Round::Truncate, Fty::F64, _) => float_to_register!("cvttsd2si", ":e", v),
    }
}

/// `$instruction` from a general-purpose register, likewise.
macro_rules! register_to_float {
    ($instruction:literal, $modifier:literal, $v:expr) => {{
        let mut r = 0f64;
        // SAFETY: a conversion between registers.
        unsafe {
            asm!(concat!($instruction, " {r}, {v", $modifier, "}"), r = inout(xmm_reg) r, v = in(reg) $v,
                options(nomem, nostack, preserves_flags));
        }
        r.to_bits()
    }};
}

/// [`crate::Emitter::int_to_float`].
pub fn from_int(from: Ty, to: Fty, v: u64) -> u64 {
    match (from, to) {
        (Ty::I64, Fty::F32) => register_to_float!("cvtsi2ss", ":r", v),
        (Ty::I64, Fty::F64) => register_to_float!("cvtsi2sd", ":r", v),
        (_, Fty::F32) => register_to_float!("cvtsi2ss", ":e", v),
        (_, Fty::F64) => register_to_float!("cvtsi2sd", ":e", v),
    }
}

/// [`crate::Emitter::float_to_float`].
pub fn convert(_mxcsr: u32, from: Fty, to: Fty, v: u64) -> u64 {
    match (from, to) {
        (Fty::F32, Fty::F64) => two_operands!("cvtss2sd", 0, v),
        (Fty::F64, Fty::F32) => two_operands!("cvtsd2ss", 0, v),
        _ => v,
    }
}

/// ROUNDSS or ROUNDSD with this immediate.
fn integral<const IMMEDIATE: u8>(ty: Fty, v: u64) -> u64 {
    let mut r = f64::from_bits(v);
    // SAFETY: SSE4.1, which every x86-64 host of the last fifteen years has, on registers.
    unsafe {
        match ty {
            Fty::F32 => asm!("roundss {r}, {r}, {mode}", r = inout(xmm_reg) r, mode = const IMMEDIATE,
                options(nomem, nostack, preserves_flags)),
            Fty::F64 => asm!("roundsd {r}, {r}, {mode}", r = inout(xmm_reg) r, mode = const IMMEDIATE,
                options(nomem, nostack, preserves_flags)),
        }
    }
    r.to_bits() & ty.ty().mask()
}

/// [`crate::Emitter::fround`]. The immediate's bit 3 keeps it from raising the inexact flag.
pub fn round(_mxcsr: u32, mode: Rounding, inexact: bool, ty: Fty, v: u64) -> u64 {
    match (mode, inexact) {
        (Rounding::Nearest, true) => integral::<0>(ty, v),
        (Rounding::Down, true) => integral::<1>(ty, v),
        (Rounding::Up, true) => integral::<2>(ty, v),
        (Rounding::Zero, true) => integral::<3>(ty, v),
        (Rounding::Current, true) => integral::<4>(ty, v),
        (Rounding::Nearest, false) => integral::<8>(ty, v),
        (Rounding::Down, false) => integral::<9>(ty, v),
        (Rounding::Up, false) => integral::<10>(ty, v),
        (Rounding::Zero, false) => integral::<11>(ty, v),
        (Rounding::Current, false) => integral::<12>(ty, v),
    }
}

fn status() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: writes four bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
    mxcsr
}

fn set_status(mxcsr: u32) {
    // SAFETY: reads four bytes, of which none is reserved: they come from the register.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, readonly, preserves_flags)) };
}

/// Sets exception flags, as MXCSR has them.
pub fn raise(flags: u32) {
    let held = status();
    if held & flags != flags {
        set_status(held | flags);
    }
}

/// Raises exception flags that were calculated while guest code runs by this MXCSR.
pub fn raise_in(_mxcsr: &mut u32, flags: u32) {
    if flags != 0 {
        raise(flags);
    }
}

/// The exception flags raised, as MXCSR has them; they are clear afterwards.
pub fn take_flags(_mxcsr: u32) -> u32 {
    let held = status();
    if held & FLAGS != 0 {
        set_status(held & !FLAGS);
    }
    held & FLAGS
}

/// Runs something in the modes of an MXCSR; gives the exception flags that it raised, too.
#[cfg(test)]
pub fn in_mode(mxcsr: u32, f: impl FnOnce() -> Option<u64>) -> Option<(u64, u32)> {
    let before = status();
    set_status(mxcsr & !FLAGS);
    let r = f();
    let raised = status() & FLAGS;
    set_status(before);
    r.map(|r| (r, raised))
}

//! Floating point of the interpreter: x86's results and exception flags on the host's unit, in the guest's rounding mode,
//! which is the host's while guest code runs.
//!
//! Every operation is one host instruction that the compiler can neither fold, repeat, move nor run on the
//! side of a branch not taken: results depend on the control register and leave sticky flags, neither of
//! which Rust's operators know of. The operations take the guest's MXCSR for the modes that the host's unit may not have.
//! The flags that they raise gather in the host's status register.

#[cfg_attr(target_arch = "x86_64", path = "float/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "float/aarch64.rs")]
mod host;
mod operation;
pub mod soft;

use xlate_abi::state::mxcsr::{OE, OM, PE, UE, UM};

pub use host::{compare, estimate, from_int, mask, raise_in, round, sqrt, take_flags, to_int};
#[cfg(target_arch = "aarch64")]
pub use host::{flags, flushes};
pub use operation::Operation;

use crate::emitter::{FBin, Fma, Fty};
use soft::{Format, Unit};

/// [`crate::Emitter::fbin`].
pub fn bin(mxcsr: u32, op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
    let calculate = || host::bin(mxcsr, op, ty, a, b);
    if mxcsr & RANGE_MASKS == RANGE_MASKS || matches!(op, FBin::Min | FBin::Max) {
        return calculate();
    }
    out_of_range(mxcsr, ty, calculate, |r| is_inexact(mxcsr, op, ty, [a, b, r]))
}

/// [`crate::Emitter::fma`], in a lane of this number.
pub fn fma(mxcsr: u32, op: Fma, lane: u32, ty: Fty, operands: [u64; 3]) -> u64 {
    if mxcsr & RANGE_MASKS == RANGE_MASKS
        && let Some(r) = host::fma(op.negates(lane), ty, operands)
    {
        return r;
    }
    let mut unit = Unit::new(mxcsr);
    let r = unit.multiply_add(Format::of(ty), op, lane, operands);
    host::raise(unit.raised);
    r
}

/// [`crate::Emitter::float_to_float`].
pub fn convert(mxcsr: u32, from: Fty, to: Fty, v: u64) -> u64 {
    let convert = || host::convert(mxcsr, from, to, v);
    if mxcsr & RANGE_MASKS == RANGE_MASKS || (from, to) != (Fty::F64, Fty::F32) {
        return convert();
    }
    // The smaller format has 24 bits.
    let digits = significand(from, v);
    out_of_range(mxcsr, to, convert, |_| 64 - digits.leading_zeros() - digits.trailing_zeros() > 24)
}

// ---- overflow and underflow that aren't masked -----------------------------------------------------------------

/// The masks of the exceptions for results out of range.
const RANGE_MASKS: u32 = OM | UM;

/// Calculates where such an exception isn't masked, which it is on the host. Then every tiny result is an underflow, a
/// masked one only if it is inexact; and whether a result out of range is inexact is told as if there were more exponents
/// (Intel SDM vol. 1, 4.9.1.4 and 4.9.1.5).
fn out_of_range(mxcsr: u32, ty: Fty, calculate: impl FnOnce() -> u64, is_inexact: impl FnOnce(u64) -> bool) -> u64 {
    let before = host::take_flags(mxcsr);
    let r = calculate();
    let mut raised = host::take_flags(mxcsr);
    if is_denormal(ty, r) && mxcsr & UM == 0 {
        raised |= UE;
    }
    let unmasked = [(OE, OM), (UE, UM)].iter().any(|(flag, mask)| raised & flag != 0 && mxcsr & mask == 0);
    if unmasked {
        raised = if is_inexact(r) { raised | PE } else { raised & !PE };
        host::take_flags(mxcsr);
    }
    host::raise(before | raised);
    r
}

/// Whether a result `r` that is out of range would be inexact with any exponent.
fn is_inexact(mxcsr: u32, op: FBin, ty: Fty, [a, b, r]: [u64; 3]) -> bool {
    host::take_flags(mxcsr);
    let [a, b] = match op {
        // All digits of a tiny sum are there; and half of one that overflows doesn't.
        FBin::Add | FBin::Sub if is_denormal(ty, r) => return false,
        FBin::Add | FBin::Sub => [a, b].map(|v| host::bin(mxcsr, FBin::Mul, ty, v, half(ty))),
        _ => [a, b].map(|v| normalised(ty, v)),
    };
    host::bin(mxcsr, op, ty, a, b);
    host::take_flags(mxcsr) & PE != 0
}

fn half(ty: Fty) -> u64 {
    match ty {
        Fty::F32 => u64::from(0.5f32.to_bits()),
        Fty::F64 => 0.5f64.to_bits(),
    }
}

/// A number's digits as an integer.
fn significand(ty: Fty, v: u64) -> u64 {
    let fraction = v & (smallest_normal(ty) - 1);
    if is_denormal(ty, v) { fraction } else { fraction | smallest_normal(ty) }
}

/// The number between 1 and 2 with the same digits.
fn normalised(ty: Fty, v: u64) -> u64 {
    let digits = significand(ty, v);
    let digits = digits << (digits.leading_zeros() - smallest_normal(ty).leading_zeros());
    let one = match ty {
        Fty::F32 => u64::from(1f32.to_bits()),
        Fty::F64 => 1f64.to_bits(),
    };
    digits & (smallest_normal(ty) - 1) | one
}

// ---- formats ---------------------------------------------------------------------------------------------------

/// Whether these bits are a number without the implicit one, and not zero.
fn is_denormal(ty: Fty, v: u64) -> bool {
    let magnitude = v & ty.ty().mask() >> 1;
    magnitude != 0 && magnitude < smallest_normal(ty)
}

const fn smallest_normal(ty: Fty) -> u64 {
    match ty {
        Fty::F32 => 1 << 23,
        Fty::F64 => 1 << 52,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emitter::{Compare, FPred, Round, Rounding, Ty};

    const MASKED: u32 = xlate_abi::state::MXCSR_DEFAULT;
    const QNAN: u32 = 0x7fc0_1234;
    const SNAN: u32 = 0xff80_0042;
    const QUIETED: u32 = 0xffc0_0042;
    const INDEFINITE: u32 = 0xffc0_0000;

    fn single(op: FBin, a: u32, b: u32) -> u32 {
        bin(MASKED, op, Fty::F32, a.into(), b.into()) as u32
    }

    #[test]
    fn nans_follow_table_4_7() {
        let one = 1f32.to_bits();
        let inf = f32::INFINITY.to_bits();
        for op in [FBin::Add, FBin::Sub, FBin::Mul, FBin::Div] {
            assert_eq!(single(op, QNAN, SNAN), QNAN);
            assert_eq!(single(op, SNAN, QNAN), QUIETED);
            assert_eq!(single(op, one, SNAN), QUIETED);
            assert_eq!(single(op, one, QNAN), QNAN);
        }
        assert_eq!(single(FBin::Sub, inf, inf), INDEFINITE);
        assert_eq!(single(FBin::Mul, 0, inf), INDEFINITE);
        assert_eq!(single(FBin::Div, 0, 0), INDEFINITE);
        assert_eq!(sqrt(MASKED, Fty::F32, (-1f32).to_bits().into()) as u32, INDEFINITE);
        assert_eq!(sqrt(MASKED, Fty::F32, SNAN.into()) as u32, QUIETED);
        assert_eq!(sqrt(MASKED, Fty::F64, (-0f64).to_bits()), (-0f64).to_bits());
    }

    #[test]
    fn minimum_and_maximum_take_the_second_operand_in_doubt() {
        let (zero, minus) = (0, (-0f32).to_bits());
        for op in [FBin::Min, FBin::Max] {
            assert_eq!(single(op, zero, minus), minus);
            assert_eq!(single(op, minus, zero), zero);
            assert_eq!(single(op, QNAN, SNAN), SNAN);
            assert_eq!(single(op, zero, QNAN), QNAN);
        }
        let (one, two) = (1f64.to_bits(), 2f64.to_bits());
        assert_eq!(bin(MASKED, FBin::Min, Fty::F64, one, two), one);
        assert_eq!(bin(MASKED, FBin::Max, Fty::F64, one, two), two);
    }

    #[test]
    fn comparisons() {
        let (one, two, nan) = (1f64.to_bits(), 2f64.to_bits(), f64::NAN.to_bits());
        // Less, equal, greater, unordered.
        let pairs = [(one, two), (one, one), (two, one), (nan, one)];
        let expected = [
            (FPred::of_number(8), [false, true, false, true]),
            (FPred::ULT, [true, false, false, true]),
            (FPred::ULE, [true, true, false, true]),
            (FPred::of_number(11), [false; 4]),
            (FPred::of_number(12), [true, false, true, false]),
            (FPred::OGE, [false, true, true, false]),
            (FPred::OGT, [false, false, true, false]),
            (FPred::of_number(15), [true; 4]),
            (FPred::of_number(17), [true, false, false, false]),
            (FPred::OEQ, [false, true, false, false]),
            (FPred::OLT, [true, false, false, false]),
            (FPred::OLE, [true, true, false, false]),
            (FPred::UNE, [true, false, true, true]),
            (FPred::UGE, [false, true, true, true]),
            (FPred::UGT, [false, false, true, true]),
            (FPred::UNO, [false, false, false, true]),
            (FPred::ORD, [true, true, true, false]),
        ];
        for (pred, want) in expected {
            assert_eq!(pairs.map(|(a, b)| mask(MASKED, pred, Fty::F64, a, b) == u64::MAX), want, "{pred:?}");
        }
    }

    #[test]
    fn comparisons_give_flags() {
        let (one, two, nan) = (1f64.to_bits(), 2f64.to_bits(), f64::NAN.to_bits());
        let found = |a, b| [true, false].map(|signals| compare(MASKED, signals, Fty::F64, a, b));
        let flags = |carry, zero, unordered, above| [Compare { carry, zero, unordered, above }; 2];
        assert_eq!(found(one, two), flags(true, false, false, false));
        assert_eq!(found(one, one), flags(false, true, false, false));
        assert_eq!(found(two, one), flags(false, false, false, true));
        assert_eq!(found(nan, one), flags(true, true, true, false));
    }

    #[test]
    fn integers_that_do_not_fit_are_indefinite() {
        let int = |round, to, v: f64| to_int(MASKED, round, Fty::F64, to, v.to_bits());
        assert_eq!(int(Round::Truncate, Ty::I32, -2_147_483_648.9), 0x8000_0000);
        assert_eq!(int(Round::Truncate, Ty::I32, 2_147_483_647.9), 0x7fff_ffff);
        assert_eq!(int(Round::Current, Ty::I32, 2_147_483_647.9), 0x8000_0000);
        assert_eq!(int(Round::Truncate, Ty::I32, 1e300), 0x8000_0000);
        assert_eq!(int(Round::Truncate, Ty::I32, f64::NAN), 0x8000_0000);
        assert_eq!(int(Round::Truncate, Ty::I64, f64::NAN), 1 << 63);
        assert_eq!(int(Round::Current, Ty::I64, 9.3e18), 1 << 63);
        assert_eq!(int(Round::Current, Ty::I32, -2.5), 0xffff_fffe);
        assert_eq!(int(Round::Truncate, Ty::I64, -2.5), u64::MAX - 1);
    }

    #[test]
    fn formats_and_integers() {
        assert_eq!(convert(MASKED, Fty::F32, Fty::F64, SNAN.into()), 0xfff8_0008_4000_0000);
        assert_eq!(convert(MASKED, Fty::F64, Fty::F32, 0x7ff0_0000_2000_0000), 0x7fc0_0001);
        assert_eq!(convert(MASKED, Fty::F64, Fty::F32, 1.5f64.to_bits()), u64::from(1.5f32.to_bits()));
        assert_eq!(from_int(Ty::I32, Fty::F64, 0xffff_ffff), (-1f64).to_bits());
        assert_eq!(from_int(Ty::I64, Fty::F32, 3), u64::from(3f32.to_bits()));
    }

    #[test]
    fn integral_values() {
        let at = |mode, v: f64| f64::from_bits(round(MASKED, mode, false, Fty::F64, v.to_bits()));
        assert_eq!(at(Rounding::Nearest, 2.5), 2.0);
        assert_eq!(at(Rounding::Current, 3.5), 4.0);
        assert_eq!(at(Rounding::Down, -1.5), -2.0);
        assert_eq!(at(Rounding::Up, -1.5), -1.0);
        assert_eq!(at(Rounding::Zero, -1.5), -1.0);
        assert_eq!(round(MASKED, Rounding::Up, true, Fty::F32, (-0.5f32).to_bits().into()) as u32, 0x8000_0000);
        assert_eq!(round(MASKED, Rounding::Down, true, Fty::F32, SNAN.into()) as u32, QUIETED);
    }

    #[test]
    fn products_and_sums_are_rounded_once() {
        let f = |v: f32| u64::from(v.to_bits());
        let fused = |op, operands: [f32; 3]| f32::from_bits(fma(MASKED, op, 0, Fty::F32, operands.map(f)) as u32);
        let epsilon = f32::EPSILON;
        assert_eq!(fused(Fma::Add, [1.0 + epsilon, 1.0 - epsilon, -1.0]), -epsilon * epsilon);
        assert_eq!(fused(Fma::Sub, [2.0, 3.0, 1.0]), 5.0);
        assert_eq!(fused(Fma::NegatedAdd, [2.0, 3.0, 1.0]), -5.0);
        assert_eq!(fused(Fma::NegatedSub, [2.0, 3.0, 1.0]), -7.0);
        assert_eq!(fused(Fma::AddSub, [2.0, 3.0, 1.0]), 5.0);
        let nan = |operands: [u32; 3]| fma(MASKED, Fma::Add, 0, Fty::F32, operands.map(u64::from)) as u32;
        assert_eq!(nan([1f32.to_bits(), QNAN, SNAN]), QNAN);
        assert_eq!(nan([SNAN, QNAN, QNAN]), QUIETED);
        assert_eq!(nan([0, f32::INFINITY.to_bits(), 0]), INDEFINITE);
        assert_eq!(nan([0, f32::INFINITY.to_bits(), QNAN]), QNAN);
    }

    /// Numbers of all kinds, special ones often.
    #[cfg(target_arch = "x86_64")]
    fn numbers(f: Format, seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        core::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = state >> 7 ^ state >> 31 ^ state << 29;
            let middle = f.one() & !(f.quiet() * 2 - 1) | random & (f.quiet() * 2 - 1);
            let sign = if state >> 63 == 1 { f.sign() } else { 0 };
            sign | match state >> 40 & 15 {
                0 => 0,
                1 => f.infinity(),
                2 => f.infinity() | random & (f.quiet() * 2 - 1) | 1,
                3 | 4 => random & (f.quiet() * 2 - 1),
                5 => f.largest(),
                6..10 => middle + ((state >> 44 & 3) << f.fraction()),
                10..12 => f.magnitude(middle & !(f.quiet() - 1)),
                _ => f.magnitude(random),
            }
        })
    }

    /// What the integer arithmetic gives, in every mode, is what the host's instruction does.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn software_agrees_with_the_host() {
        let modes = [0, 1, 2, 3].map(|rounding| MASKED | rounding << 13);
        for ty in [Fty::F32, Fty::F64] {
            let f = Format::of(ty);
            let mut numbers = numbers(f, 1);
            let mut next = || numbers.next().expect("they never end");
            for n in 0..20_000 {
                let (operands, op) = ([next(), next(), next()], Fma::ALL[n % 4]);
                for mxcsr in
                    modes.into_iter().flat_map(|m| [m, m | xlate_abi::state::mxcsr::DAZ | xlate_abi::state::mxcsr::FTZ])
                {
                    agree(
                        mxcsr,
                        |unit| unit.multiply_add(f, op, 0, operands),
                        || host::fma(op.negates(0), ty, operands),
                    );
                    let [a, b, _] = operands;
                    agree(mxcsr, |unit| unit.root(f, a), || Some(host::sqrt(mxcsr, ty, a)));
                    for op in [FBin::Add, FBin::Sub, FBin::Mul, FBin::Div, FBin::Min, FBin::Max] {
                        agree(mxcsr, |unit| unit.binary(f, op, [a, b]), || Some(host::bin(mxcsr, op, ty, a, b)));
                    }
                }
            }
        }
    }

    /// Runs both in these modes.
    #[cfg(target_arch = "x86_64")]
    fn agree(mxcsr: u32, soft: impl FnOnce(&mut Unit) -> u64, own: impl FnOnce() -> Option<u64>) {
        let mut unit = Unit::new(mxcsr);
        let expected = soft(&mut unit);
        let Some((r, raised)) = host::in_mode(mxcsr, own) else { return };
        assert_eq!((expected, unit.raised), (r, raised), "in mode {mxcsr:#x}");
    }
}

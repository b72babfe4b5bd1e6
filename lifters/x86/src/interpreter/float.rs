//! Floating point of the interpreter: x86's results on the host's unit, in the guest's rounding mode, which is
//! the host's while guest code runs.
//!
//! Every operation is one host instruction that the compiler can neither fold, repeat, move nor run on the
//! side of a branch not taken: results depend on the control register and leave sticky flags, neither of
//! which Rust's operators know of.

#[cfg_attr(target_arch = "x86_64", path = "float/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "float/aarch64.rs")]
mod host;

pub use host::{bin, cmp, cmp_quiet, convert, from_int, round, sqrt, to_int};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emitter::{FBin, FPred, Fty, Round, Rounding, Ty};

    const QNAN: u32 = 0x7fc0_1234;
    const SNAN: u32 = 0xff80_0042;
    const QUIETED: u32 = 0xffc0_0042;
    const INDEFINITE: u32 = 0xffc0_0000;

    fn single(op: FBin, a: u32, b: u32) -> u32 {
        bin(op, Fty::F32, a.into(), b.into()) as u32
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
        assert_eq!(sqrt(Fty::F32, (-1f32).to_bits().into()) as u32, INDEFINITE);
        assert_eq!(sqrt(Fty::F32, SNAN.into()) as u32, QUIETED);
        assert_eq!(sqrt(Fty::F64, (-0f64).to_bits()), (-0f64).to_bits());
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
        assert_eq!(bin(FBin::Min, Fty::F64, one, two), one);
        assert_eq!(bin(FBin::Max, Fty::F64, one, two), two);
    }

    #[test]
    fn comparisons() {
        let (one, two, nan) = (1f64.to_bits(), 2f64.to_bits(), f64::NAN.to_bits());
        // Less, equal, greater, unordered.
        let pairs = [(one, two), (one, one), (two, one), (nan, one)];
        let expected = [
            (FPred::Oeq, [false, true, false, false]),
            (FPred::Olt, [true, false, false, false]),
            (FPred::Ole, [true, true, false, false]),
            (FPred::Une, [true, false, true, true]),
            (FPred::Uge, [false, true, true, true]),
            (FPred::Ugt, [false, false, true, true]),
            (FPred::Uno, [false, false, false, true]),
            (FPred::Ord, [true, true, true, false]),
        ];
        for (pred, want) in expected {
            assert_eq!(pairs.map(|(a, b)| cmp(pred, Fty::F64, a, b)), want, "{pred:?}");
            assert_eq!(pairs.map(|(a, b)| cmp_quiet(pred, Fty::F64, a, b)), want, "{pred:?}");
        }
    }

    #[test]
    fn integers_that_do_not_fit_are_indefinite() {
        let int = |round, to, v: f64| to_int(round, Fty::F64, to, v.to_bits());
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
        assert_eq!(convert(Fty::F32, Fty::F64, SNAN.into()), 0xfff8_0008_4000_0000);
        assert_eq!(convert(Fty::F64, Fty::F32, 0x7ff0_0000_2000_0000), 0x7fc0_0001);
        assert_eq!(convert(Fty::F64, Fty::F32, 1.5f64.to_bits()), u64::from(1.5f32.to_bits()));
        assert_eq!(from_int(Ty::I32, Fty::F64, 0xffff_ffff), (-1f64).to_bits());
        assert_eq!(from_int(Ty::I64, Fty::F32, 3), u64::from(3f32.to_bits()));
    }

    #[test]
    fn integral_values() {
        let at = |mode, v: f64| f64::from_bits(round(mode, false, Fty::F64, v.to_bits()));
        assert_eq!(at(Rounding::Nearest, 2.5), 2.0);
        assert_eq!(at(Rounding::Current, 3.5), 4.0);
        assert_eq!(at(Rounding::Down, -1.5), -2.0);
        assert_eq!(at(Rounding::Up, -1.5), -1.0);
        assert_eq!(at(Rounding::Zero, -1.5), -1.0);
        assert_eq!(round(Rounding::Up, true, Fty::F32, (-0.5f32).to_bits().into()) as u32, 0x8000_0000);
        assert_eq!(round(Rounding::Down, true, Fty::F32, SNAN.into()) as u32, QUIETED);
    }
}

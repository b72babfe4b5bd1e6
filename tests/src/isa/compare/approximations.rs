//! Instructions whose results are approximations: each CPU has its own within a bound.

use iced_x86::{Code, Mnemonic};

use crate::isa::case::{Case, Vector};
use crate::isa::values::lane;

/// Lane width and bound of the relative error.
fn bound(mnemonic: Mnemonic) -> Option<(usize, f64)> {
    use Mnemonic::*;
    Some(match mnemonic {
        // Intel SDM vol. 2, RCPPS: up to 1.5 * 2^-12.
        Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss => (32, 1.5 / 4096.0),
        // Intel SDM vol. 2, VRCP14PS: less than 2^-14.
        Vrcp14ps | Vrcp14ss | Vrsqrt14ps | Vrsqrt14ss => (32, 1.0 / 16384.0),
        // Intel SDM vol. 2, VRCPPH: less than 2^-11 + 2^-14.
        Vrcpph | Vrcpsh | Vrsqrtph | Vrsqrtsh => (16, 1.0 / 2048.0 + 1.0 / 16384.0),
        Vrcp14pd | Vrcp14sd | Vrsqrt14pd | Vrsqrt14sd => (64, 1.0 / 16384.0),
        _ => return None,
    })
}

/// Whether an instruction's results are the CPU's own.
pub fn is_approximate_code(code: Code) -> bool {
    bound(code.mnemonic()).is_some()
}

/// Whether two results differ by no more than twice the bound, in every lane of the target. In blocks nothing is near
/// enough: they have none of these instructions.
pub fn near_enough(case: &Case, target: usize, a: &Vector, b: &Vector) -> bool {
    let [i] = case.program.insns.as_slice() else { return false };
    let Some((bits, bound)) = bound(i.mnemonic()) else { return false };
    let value = |v: &Vector, n| match bits {
        16 => half(lane(v, 16, n)),
        32 => f64::from(f32::from_bits(lane(v, 32, n) as u32)),
        _ => f64::from_bits(lane(v, 64, n)),
    };
    i.op0_register().number() == target
        && (0..512 / bits).all(|n| {
            let (x, y) = (value(a, n), value(b, n));
            // Denormal halves have fewer digits than the bound asks for.
            let last = if bits == 16 { 2f64.powi(-24) } else { 0.0 };
            lane(a, bits, n) == lane(b, bits, n) || x.is_finite() && (x - y).abs() <= (x.abs() * bound * 2.0).max(last)
        })
}

/// A half-precision number by its bits.
fn half(bits: u64) -> f64 {
    let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f64);
    let magnitude = match exponent {
        0 => fraction / 1024.0 * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 & 1 != 0 { -magnitude } else { magnitude }
}

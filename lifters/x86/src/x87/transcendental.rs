//! The transcendental functions (Intel SDM vol. 1, 8.3.6 to 8.3.11): computed with 128 bits, rounded once.
//!
//! Processors are within one unit in the last place of the exact result, and so is this; where they aren't the same, the
//! last place and C1 differ. The trigonometric functions reduce their argument by processors' pi of 66 bits.

use super::soft::{Class, Env, F80, Number, flag};

/// `mantissa * 2^scale` with the mantissa's top bit set, or zero. What doesn't fit is cut off.
#[derive(Clone, Copy, Debug)]
struct Wide {
    negative: bool,
    scale: i32,
    mantissa: u128,
}

const fn positive(mantissa: u128, scale: i32) -> Wide {
    Wide { negative: false, scale, mantissa }
}

const ONE: Wide = positive(1 << 127, -127);
/// Just below one: the sum of one and a negative term that is too small to change it.
const BELOW_ONE: Wide = positive(u128::MAX, -128);
const LN_2: Wide = positive(0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af, -128);
/// 2 / ln(2).
const TWO_LOG2_E: Wide = positive(0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89, -126);
const PI: Wide = positive(0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1, -126);
/// Arc tangents of eighths.
const ATAN: [Wide; 9] = [
    positive(0, 0),
    positive(0xfead_d4d5_617b_6e32_c897_989f_3e88_8ef8, -131),
    positive(0xfadb_afc9_6406_eb15_6dc7_9ef5_f7a2_17e6, -130),
    positive(0xb7b0_ca0f_26f7_8473_8aa3_2122_dcfe_4483, -129),
    positive(0xed63_382b_0dda_7b45_6fe4_45ec_bc3a_8d03, -129),
    positive(0x8f00_5d5e_f7f5_9f9b_5c83_5e16_65c4_3748, -128),
    positive(0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9f, -128),
    positive(0xb805_3e2b_c231_9e73_cb2d_a552_10a4_443d, -128),
    positive(0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1, -128),
];

/// Pi cut off to 66 bits, in units of 2^-64; so it is also half of it in units of 2^-65.
const PI_66: u128 = 0x3_243f_6a88_85a3_08d3;
const HALF_PI_SCALE: i32 = -65;

/// Of the normal numbers.
const LEAST_EXPONENT: i32 = -16382;
/// Values below 2 to this exponent are as good as their sine, tangent and arc tangent.
const SMALL: i32 = -128;

impl Wide {
    fn is_small(self) -> bool {
        self.scale + 127 < SMALL
    }

    fn normal(negative: bool, mantissa: u128, scale: i32) -> Self {
        if mantissa == 0 {
            return Self { negative, mantissa, scale: 0 };
        }
        let zeros = mantissa.leading_zeros();
        Self { negative, mantissa: mantissa << zeros, scale: scale - zeros as i32 }
    }

    fn of(n: Number) -> Self {
        Self::normal(n.negative, n.mantissa.into(), n.scale)
    }

    fn int(v: i32) -> Self {
        Self::normal(v < 0, v.unsigned_abs().into(), 0)
    }

    fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    fn negated(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    /// Times 2^n.
    fn shifted(self, n: i32) -> Self {
        Self { scale: self.scale + n, ..self }
    }

    fn mul(self, by: Self) -> Self {
        let (a1, a0) = (self.mantissa >> 64, self.mantissa & u128::from(u64::MAX));
        let (b1, b0) = (by.mantissa >> 64, by.mantissa & u128::from(u64::MAX));
        let word = u128::from(u64::MAX);
        let middle = ((a0 * b0) >> 64) + ((a1 * b0) & word) + ((a0 * b1) & word);
        let high = a1 * b1 + ((a1 * b0) >> 64) + ((a0 * b1) >> 64) + (middle >> 64);
        let low = middle << 64;
        let negative = self.negative != by.negative;
        // The product of two normal mantissas has at most one leading zero.
        if high >> 127 == 0 && high != 0 {
            return Self { negative, mantissa: high << 1 | low >> 127, scale: self.scale + by.scale + 127 };
        }
        Self::normal(negative, high, self.scale + by.scale + 128)
    }

    /// Bit by bit: it is needed once in a function.
    fn div(self, by: Self) -> Self {
        let (mut rest, mut quotient) = (self.mantissa, 0u128);
        let mut scale = self.scale - by.scale;
        for bit in 0..129 {
            let carry = if bit == 0 { false } else { rest >> 127 != 0 };
            if bit != 0 {
                rest <<= 1;
            }
            let fits = carry || rest >= by.mantissa;
            if fits {
                rest = rest.wrapping_sub(by.mantissa);
            }
            if quotient >> 127 != 0 {
                break;
            }
            quotient = quotient << 1 | u128::from(fits);
            if bit != 0 {
                scale -= 1;
            }
        }
        Self::normal(self.negative != by.negative, quotient, scale)
    }

    fn div_int(self, by: u32) -> Self {
        let by = u128::from(by);
        let (quotient, rest) = (self.mantissa / by, self.mantissa % by);
        let more = (rest << 64) / by;
        let zeros = quotient.leading_zeros();
        let mantissa = if zeros == 0 { quotient } else { quotient << zeros | more >> (64 - zeros) };
        Self { mantissa, scale: self.scale - zeros as i32, ..self }
    }

    fn add(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() { other } else { self };
        }
        let (big, small) =
            if (self.scale, self.mantissa) >= (other.scale, other.mantissa) { (self, other) } else { (other, self) };
        let distance = (big.scale - small.scale) as u32;
        let aligned = if distance < 128 { small.mantissa >> distance } else { 0 };
        if big.negative != small.negative {
            return Self::normal(big.negative, big.mantissa - aligned, big.scale);
        }
        match big.mantissa.checked_add(aligned) {
            Some(sum) => Self { mantissa: sum, ..big },
            None => Self { mantissa: big.mantissa.wrapping_add(aligned) >> 1 | 1 << 127, scale: big.scale + 1, ..big },
        }
    }

    fn sub(self, other: Self) -> Self {
        self.add(other.negated())
    }

    /// `one + self * x` for a series; below one where the second term is negative but can't be seen.
    fn series(self, x: Self) -> Self {
        let term = self.mul(x);
        let sum = ONE.add(term);
        if term.negative && !term.is_zero() && sum.mantissa == ONE.mantissa && sum.scale == ONE.scale {
            return BELOW_ONE;
        }
        sum
    }
}

/// e^t - 1 for |t| below 0.7.
fn exp_minus_one(t: Wide) -> Wide {
    let sum = (2..40).rev().fold(ONE, |sum, n| sum.series(t.div_int(n)));
    t.mul(sum)
}

/// The sum of s^(2k+1) / (2k+1), or with alternating signs: the inverse hyperbolic and circular tangent, |s| below 0.18.
fn inverse_tangent(s: Wide, circular: bool) -> Wide {
    const TERMS: u32 = 28;
    let square = s.mul(s);
    let square = if circular { square.negated() } else { square };
    let last = ONE.div_int(2 * TERMS + 1);
    let sum = (1..TERMS).rev().fold(last, |sum, k| ONE.div_int(2 * k + 1).add(sum.mul(square)));
    s.mul(sum.series(square))
}

/// log2(1 + x) = 2 / ln(2) * artanh(x / (2 + x)), x between sqrt(1/2) - 1 and sqrt(2) - 1.
fn log2_one_plus(x: Wide) -> Wide {
    if x.is_zero() {
        return x;
    }
    let s = x.div(Wide::int(2).add(x));
    inverse_tangent(s, false).mul(TWO_LOG2_E)
}

/// log2 of a positive number.
fn log2(n: Number) -> Wide {
    // The first 64 bits of sqrt(2).
    const SQRT_2: u64 = 0xb504_f333_f9de_6484;
    let above = n.mantissa > SQRT_2;
    let exponent = n.scale + 63 + i32::from(above);
    let significand = Wide::normal(false, n.mantissa.into(), -63 - i32::from(above));
    Wide::int(exponent).add(log2_one_plus(significand.sub(ONE)))
}

/// The arc tangent of a value between zero and one.
fn arc_tangent(q: Wide) -> Wide {
    // The nearest eighth c: atan(q) = atan(c) + atan((q - c) / (1 + q * c)).
    let sixteenths = q.shifted(4);
    let whole = if sixteenths.scale <= -128 { 0 } else { (sixteenths.mantissa >> -sixteenths.scale) as u32 };
    let nearest = whole.div_ceil(2);
    if nearest == 0 {
        return inverse_tangent(q, true);
    }
    let c = Wide::int(nearest as i32).shifted(-3);
    let rest = q.sub(c).div(ONE.add(q.mul(c)));
    let correction = if rest.is_zero() { rest } else { inverse_tangent(rest, true) };
    ATAN[nearest as usize].add(correction)
}

/// Sine and cosine of an argument up to a quarter of pi.
fn sine_and_cosine(r: Wide) -> (Wide, Wide) {
    let square = r.mul(r).negated();
    let series = |first: u32| {
        (0..16).rev().fold(ONE, |sum, k| sum.series(square.div_int((first + 2 * k) * (first + 2 * k + 1))))
    };
    (r.mul(series(2)), series(1))
}

/// The argument less the nearest multiple of half of pi, and which multiple, modulo four. Less than 2^63.
fn reduced(n: Number) -> (Wide, u32) {
    let units = n.scale - HALF_PI_SCALE;
    if units < 0 {
        return (Wide::of(n), 0);
    }
    let argument = u128::from(n.mantissa) << units;
    let (mut multiple, rest) = ((argument / PI_66) as u32, argument % PI_66);
    let mut r = Wide::normal(n.negative, rest, HALF_PI_SCALE);
    if rest > PI_66 / 2 {
        multiple = multiple.wrapping_add(1);
        r = Wide::normal(!n.negative, PI_66 - rest, HALF_PI_SCALE);
    }
    let multiple = if n.negative { multiple.wrapping_neg() } else { multiple };
    (r, multiple & 3)
}

/// Which function of an angle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Angle {
    Sine,
    Cosine,
    Tangent,
}

impl F80 {
    fn rounded(env: &mut Env, v: Wide, exact: bool) -> Self {
        Self::rounded_fully(env, v.negative, v.scale, v.mantissa, !exact)
    }

    /// A value that isn't exact, but so near that processors don't round it.
    fn as_good_as(env: &mut Env, v: Wide) -> Self {
        let tiny = v.scale + 127 < LEAST_EXPONENT;
        env.flags |= flag::PRECISION | if tiny { flag::UNDERFLOW } else { 0 };
        Self::rounded(env, v, true)
    }

    /// 2^x - 1 (SDM vol. 2, F2XM1): |x| is at most one, or the result is undefined.
    pub fn exp2_minus_one(self, env: &mut Env) -> Self {
        if let Some(nan) = Self::special(env, self, self) {
            return nan;
        }
        match self.class() {
            Class::Zero => return self,
            Class::Infinity if self.negative => return Self::new(true, 0x3fff, 1 << 63),
            Class::Infinity => return self,
            _ => {}
        }
        Self::note_denormals(env, &[self]);
        let n = self.number();
        if n.scale + 63 >= 0 {
            // One itself; what is beyond stays as it is.
            let one = n.scale + 63 == 0 && n.mantissa == 1 << 63;
            return if one && self.negative { Self::new(true, 0x3ffe, 1 << 63) } else { self };
        }
        Self::rounded(env, exp_minus_one(Wide::of(n).mul(LN_2)), false)
    }

    /// y * log2(x) (SDM vol. 2, FYL2X).
    pub fn times_log2(self, env: &mut Env, x: Self) -> Self {
        if let Some(nan) = Self::special(env, self, x) {
            return nan;
        }
        let one = Self::new(false, 0x3fff, 1 << 63);
        match (self.class(), x.class()) {
            (y, Class::Zero) => {
                return match y {
                    Class::Zero => env.invalid(),
                    Class::Infinity => Self::infinity(!self.negative),
                    _ => {
                        env.flags |= flag::ZERO_DIVIDE;
                        Self::infinity(!self.negative)
                    }
                };
            }
            _ if x.negative => return env.invalid(),
            (Class::Zero, Class::Infinity) => return env.invalid(),
            (_, Class::Infinity) => {
                Self::note_denormals(env, &[self]);
                return Self::infinity(self.negative);
            }
            (Class::Infinity, _) if x == one => return env.invalid(),
            _ => {}
        }
        Self::note_denormals(env, &[self, x]);
        let log = log2(x.number());
        match self.class() {
            Class::Infinity => return Self::infinity(self.negative != log.negative),
            Class::Zero => return Self::zero(self.negative != log.negative),
            _ if log.is_zero() => return Self::zero(self.negative),
            _ => {}
        }
        // Processors call even the logarithm of a power of two inexact.
        let exact = x.number().mantissa == 1 << 63;
        env.flags |= flag::PRECISION;
        Self::rounded(env, Wide::of(self.number()).mul(log), exact)
    }

    /// y * log2(x + 1) (SDM vol. 2, FYL2XP1): |x| is below 1 - sqrt(1/2), or the result is undefined.
    pub fn times_log2_one_plus(self, env: &mut Env, x: Self) -> Self {
        if let Some(nan) = Self::special(env, self, x) {
            return nan;
        }
        match (self.class(), x.class()) {
            (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return env.invalid(),
            (_, Class::Infinity) if x.negative => return env.invalid(),
            (Class::Infinity, _) | (_, Class::Infinity) => {
                Self::note_denormals(env, &[self, x]);
                return Self::infinity(self.negative != x.negative);
            }
            (Class::Zero, _) | (_, Class::Zero) => {
                Self::note_denormals(env, &[self, x]);
                return Self::zero(self.negative != x.negative);
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, x]);
        let log = log2_one_plus(Wide::of(x.number()));
        Self::rounded(env, Wide::of(self.number()).mul(log), false)
    }

    /// The angle of the point (x, y) (SDM vol. 2, FPATAN).
    pub fn angle_of(self, env: &mut Env, x: Self) -> Self {
        if let Some(nan) = Self::special(env, self, x) {
            return nan;
        }
        Self::note_denormals(env, &[self, x]);
        let y = self;
        let whole = |env: &mut Env, v: Wide| Self::rounded(env, Wide { negative: y.negative, ..v }, false);
        let half = PI.shifted(-1);
        match (y.class(), x.class()) {
            (Class::Infinity, Class::Infinity) if x.negative => {
                return whole(env, half.add(PI.shifted(-2)));
            }
            (Class::Infinity, Class::Infinity) => return whole(env, PI.shifted(-2)),
            (Class::Zero, _) | (_, Class::Infinity) if x.negative => return whole(env, PI),
            (Class::Zero, _) | (_, Class::Infinity) => return Self::zero(y.negative),
            (Class::Infinity, _) | (_, Class::Zero) => return whole(env, half),
            _ => {}
        }
        let (ny, nx) =
            (Wide::of(Number { negative: false, ..y.number() }), Wide::of(Number { negative: false, ..x.number() }));
        let steep = (ny.scale, ny.mantissa) > (nx.scale, nx.mantissa);
        let quotient = if steep { nx.div(ny) } else { ny.div(nx) };
        let is_exact = nx.mantissa == ONE.mantissa;
        if is_exact && !steep && !x.negative && quotient.is_small() {
            return Self::as_good_as(env, Wide { negative: y.negative, ..quotient });
        }
        let angle = arc_tangent(quotient);
        let angle = match (steep, x.negative) {
            (false, false) => angle,
            (false, true) => PI.sub(angle),
            (true, false) => half.sub(angle),
            (true, true) => half.add(angle),
        };
        whole(env, angle)
    }

    /// A function of an angle in radians; `None` if it is 2^63 or more, and nothing is done (SDM vol. 2, FSIN ff.).
    pub fn of_angle(self, env: &mut Env, which: Angle) -> Option<Self> {
        if let Some(nan) = Self::special(env, self, self) {
            return Some(nan);
        }
        match self.class() {
            Class::Zero if which == Angle::Cosine => return Some(Self::new(false, 0x3fff, 1 << 63)),
            Class::Zero => return Some(self),
            Class::Infinity => return Some(env.invalid()),
            _ => {}
        }
        let n = self.number();
        if n.scale >= 0 {
            return None;
        }
        Self::note_denormals(env, &[self]);
        if Wide::of(n).is_small() {
            return Some(Self::as_good_as(env, if which == Angle::Cosine { ONE } else { Wide::of(n) }));
        }
        let (r, multiple) = reduced(n);
        let (sine, cosine) = sine_and_cosine(r);
        let signed = |v: Wide, negative: bool| if negative { v.negated() } else { v };
        let v = match which {
            Angle::Sine if multiple & 1 == 0 => signed(sine, multiple == 2),
            Angle::Sine => signed(cosine, multiple == 3),
            Angle::Cosine if multiple & 1 == 0 => signed(cosine, multiple == 2),
            Angle::Cosine => signed(sine, multiple == 1),
            Angle::Tangent if multiple & 1 == 0 => sine.div(cosine),
            Angle::Tangent => cosine.div(sine).negated(),
        };
        Some(Self::rounded(env, v, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        Env::new(0x37f)
    }

    fn of(v: f64) -> F80 {
        F80::from_f64(&mut env(), v.to_bits())
    }

    /// Within the last places of a double.
    fn near(v: F80, expected: f64) {
        let got = f64::from_bits(v.to_f64(&mut env()));
        assert!((got - expected).abs() <= expected.abs() * f64::EPSILON, "{got} is not {expected}");
    }

    #[test]
    fn functions_agree_with_doubles() {
        for v in [0.1, -0.3, 0.7, 1.5, -3.0, 40.0, 1e-9, 1e3] {
            let e = &mut env();
            near(of(v).of_angle(e, Angle::Sine).expect("small"), v.sin());
            near(of(v).of_angle(e, Angle::Cosine).expect("small"), v.cos());
            near(of(v).of_angle(e, Angle::Tangent).expect("small"), v.tan());
            near(of(v).angle_of(e, of(2.0)), v.atan2(2.0));
            near(of(2.0).angle_of(e, of(v)), 2f64.atan2(v));
            if v > 0.0 {
                near(of(3.0).times_log2(e, of(v)), 3.0 * v.log2());
            }
            if v.abs() < 0.29 {
                near(of(1.0).times_log2_one_plus(e, of(v)), v.ln_1p() / std::f64::consts::LN_2);
            }
            if v.abs() < 1.0 {
                near(of(v).exp2_minus_one(e), (v * std::f64::consts::LN_2).exp_m1());
            }
        }
    }

    #[test]
    fn all_64_bits_are_right() {
        let e = &mut env();
        let pi = of(0.0).angle_of(e, of(-1.0));
        assert_eq!((pi.exponent, pi.mantissa), (0x4000, 0xc90f_daa2_2168_c235));
        let e1 = of(1.0).times_log2(&mut env(), of(10.0));
        assert_eq!((e1.exponent, e1.mantissa), (0x4000, 0xd49a_784b_cd1b_8afe));
        let root = of(0.5).exp2_minus_one(&mut env());
        // sqrt(2) - 1.
        assert_eq!((root.exponent, root.mantissa), (0x3ffd, 0xd413_cccf_e779_9211));
    }

    #[test]
    fn small_arguments_are_results() {
        let least = F80::new(true, 0, 1 << 63);
        for control in [0x37f, 0xf7f] {
            let e = &mut Env::new(control);
            let expected = F80::new(true, 1, 1 << 63);
            assert_eq!(least.of_angle(e, Angle::Sine), Some(expected));
            assert_eq!(least.angle_of(e, of(1.0)), expected);
            assert_eq!((e.flags & (flag::UNDERFLOW | flag::PRECISION), e.rounded_up), (flag::PRECISION, false));
            assert_eq!(least.of_angle(e, Angle::Cosine), Some(of(1.0)));
            let denormal = F80::new(false, 0, 3);
            assert_eq!(denormal.of_angle(e, Angle::Tangent), Some(denormal));
            assert_ne!(e.flags & flag::UNDERFLOW, 0);
        }
    }

    #[test]
    fn large_angles_are_left_alone() {
        assert_eq!(of(1e19).of_angle(&mut env(), Angle::Sine), None);
    }
}

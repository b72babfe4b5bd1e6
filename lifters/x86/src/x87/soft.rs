//! 80-bit floating point in integer arithmetic (SDM vol. 1, 4.2.2, 4.8 and 8.2): every operation makes its exact
//! result, or enough of it and a sticky bit, and rounds once by the control word.

use core::cmp::Ordering;

use xlate_abi::state::{X87Reg, X87State};

/// Exception flags of the status word (SDM vol. 1, 8.1.3.3).
pub mod flag {
    pub const INVALID: u16 = 1 << 0;
    pub const DENORMAL: u16 = 1 << 1;
    pub const ZERO_DIVIDE: u16 = 1 << 2;
    pub const OVERFLOW: u16 = 1 << 3;
    pub const UNDERFLOW: u16 = 1 << 4;
    pub const PRECISION: u16 = 1 << 5;
    /// SF, which goes with [`INVALID`]: the stack over- or underflowed.
    pub const STACK: u16 = 1 << 6;
    /// What is found before an operation: if it isn't masked, the operation isn't carried out (SDM vol. 1, 8.6).
    pub const BEFORE: u16 = INVALID | DENORMAL | ZERO_DIVIDE | STACK;
}

/// A double extended value as its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct F80 {
    pub negative: bool,
    /// Biased by 16383.
    pub exponent: u16,
    /// With the explicit integer bit.
    pub mantissa: u64,
}

const INTEGER_BIT: u64 = 1 << 63;
const QUIET_BIT: u64 = 1 << 62;
const BIAS: i32 = 16383;
const TOP_EXPONENT: u16 = 0x7fff;

/// What kind of value the bits stand for (SDM vol. 1, table 8-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signalling,
    /// Pseudo-infinities, pseudo-NaNs and unnormals: invalid operands since the 387.
    Unsupported,
}

/// Rounding control (SDM vol. 1, table 4-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nearest,
    Down,
    Up,
    Zero,
}

/// What the control word asks for, and what an operation has to tell the status word.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    pub mode: Mode,
    /// Significant bits of arithmetic results: 24, 53 or 64.
    pub precision: u32,
    /// The exceptions that aren't masked.
    pub unmasked: u16,
    pub flags: u16,
    /// Whether the last rounding went away from zero (C1).
    pub rounded_up: bool,
}

impl Env {
    /// From the control word.
    pub fn new(control: u16) -> Self {
        let mode = [Mode::Nearest, Mode::Down, Mode::Up, Mode::Zero][usize::from(control >> 10 & 3)];
        let precision = [24, 64, 53, 64][usize::from(control >> 8 & 3)];
        Self { mode, precision, unmasked: !control & X87State::EXCEPTIONS, flags: 0, rounded_up: false }
    }

    fn traps(&self, exception: u16) -> bool {
        self.unmasked & exception != 0
    }

    pub(super) fn invalid(&mut self) -> F80 {
        self.flags |= flag::INVALID;
        F80::INDEFINITE
    }
}

/// A target format: significant bits and the range of unbiased exponents.
#[derive(Clone, Copy)]
struct Format {
    precision: u32,
    least: i32,
    most: i32,
    /// What is taken off the exponent of a result that overflows, and added where one underflows, if that exception isn't
    /// masked: the handler can tell from it what the result would have been (SDM vol. 1, 8.5.4 and 8.5.5). Nothing is stored
    /// in the formats of memory then.
    adjustment: Option<i32>,
}

const SINGLE: Format = Format { precision: 24, least: -126, most: 127, adjustment: None };
const DOUBLE: Format = Format { precision: 53, least: -1022, most: 1023, adjustment: None };

fn extended(precision: u32) -> Format {
    Format { precision, least: -16382, most: 16383, adjustment: Some(24576) }
}

/// A rounded magnitude; the mantissa's top bit is clear for denormals only.
enum Rounded {
    Zero,
    Finite { exponent: i32, mantissa: u64 },
    Infinity,
}

/// Shifts right; the second value tells whether a set bit was lost.
fn shift_right(v: u128, n: u32) -> (u128, bool) {
    match n {
        0 => (v, false),
        1..128 => (v >> n, v << (128 - n) != 0),
        _ => (0, v != 0),
    }
}

/// Rounds a magnitude with its top bit in bit 127 to `precision` bits; true if it went away from zero.
fn round_bits(env: &Env, negative: bool, m: u128, sticky: bool, precision: u32) -> (u128, bool, bool) {
    let dropped = 128 - precision;
    let rest = m & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let kept = m >> dropped;
    let inexact = rest != 0 || sticky;
    let up = match env.mode {
        Mode::Nearest => rest > half || rest == half && (sticky || kept & 1 == 1),
        Mode::Down => negative && inexact,
        Mode::Up => !negative && inexact,
        Mode::Zero => false,
    };
    (kept + u128::from(up), inexact, up)
}

/// Rounds `wide * 2^scale` (and a little more, if `sticky`) into a format. Tininess is detected after rounding.
fn round(env: &mut Env, to: Format, negative: bool, scale: i32, wide: u128, sticky: bool) -> Rounded {
    if wide == 0 {
        return Rounded::Zero;
    }
    let zeros = wide.leading_zeros();
    let (mut m, mut sticky) = (wide << zeros, sticky);
    let mut exponent = scale + 127 - zeros as i32;
    let mut tiny = false;
    if exponent < to.least {
        let (unbounded, ..) = round_bits(env, negative, m, sticky, to.precision);
        tiny = exponent + 1 < to.least || unbounded >> to.precision == 0;
        if tiny && env.traps(flag::UNDERFLOW) {
            env.flags |= flag::UNDERFLOW;
            let Some(adjustment) = to.adjustment else { return Rounded::Zero };
            exponent += adjustment;
            if exponent < to.least {
                // Only FSCALE gets there (SDM vol. 1, 8.5.5).
                env.flags |= flag::PRECISION;
                return Rounded::Zero;
            }
        }
    }
    if exponent < to.least {
        let (shifted, lost) = shift_right(m, (to.least - exponent) as u32);
        m = shifted;
        sticky |= lost;
        exponent = to.least;
    }
    let (mut kept, inexact, up) = round_bits(env, negative, m, sticky, to.precision);
    if kept >> to.precision != 0 {
        kept >>= 1;
        exponent += 1;
    }
    env.rounded_up = up;
    if inexact {
        env.flags |= flag::PRECISION | if tiny { flag::UNDERFLOW } else { 0 };
    }
    if exponent > to.most && env.traps(flag::OVERFLOW) {
        env.flags |= flag::OVERFLOW;
        exponent -= to.adjustment.unwrap_or_default();
        if exponent > to.most {
            // Likewise (8.5.4).
            env.flags |= flag::PRECISION;
            env.rounded_up = true;
            return Rounded::Infinity;
        }
    }
    if exponent > to.most {
        return overflow(env, to, negative);
    }
    if kept == 0 {
        return Rounded::Zero;
    }
    Rounded::Finite { exponent, mantissa: (kept << (64 - to.precision)) as u64 }
}

/// Infinity, or the largest finite value where the mode rounds towards zero (SDM vol. 1, table 4-10).
fn overflow(env: &mut Env, to: Format, negative: bool) -> Rounded {
    env.flags |= flag::OVERFLOW | flag::PRECISION;
    let infinite = match env.mode {
        Mode::Nearest => true,
        Mode::Down => negative,
        Mode::Up => !negative,
        Mode::Zero => false,
    };
    env.rounded_up = infinite;
    if infinite {
        return Rounded::Infinity;
    }
    Rounded::Finite { exponent: to.most, mantissa: u64::MAX << (64 - to.precision) }
}

/// A finite value as `mantissa * 2^scale` with the mantissa's top bit set.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub negative: bool,
    pub scale: i32,
    pub mantissa: u64,
}

impl F80 {
    /// The real indefinite (SDM vol. 1, table 4-3).
    pub const INDEFINITE: F80 = F80 { negative: true, exponent: TOP_EXPONENT, mantissa: INTEGER_BIT | QUIET_BIT };

    pub const fn new(negative: bool, exponent: u16, mantissa: u64) -> Self {
        Self { negative, exponent, mantissa }
    }

    pub const fn zero(negative: bool) -> Self {
        Self::new(negative, 0, 0)
    }

    pub const fn infinity(negative: bool) -> Self {
        Self::new(negative, TOP_EXPONENT, INTEGER_BIT)
    }

    pub fn from_register(r: &X87Reg) -> Self {
        let mut mantissa = [0; 8];
        mantissa.copy_from_slice(&r[..8]);
        Self::from_words(u64::from_le_bytes(mantissa), u16::from_le_bytes([r[8], r[9]]))
    }

    /// From the mantissa and the word of sign and exponent.
    pub fn from_words(mantissa: u64, top: u16) -> Self {
        Self::new(top >> 15 != 0, top & TOP_EXPONENT, mantissa)
    }

    /// Sign and exponent.
    pub fn top(self) -> u16 {
        u16::from(self.negative) << 15 | self.exponent
    }

    pub fn to_register(self) -> X87Reg {
        let mut r = [0; 16];
        r[..8].copy_from_slice(&self.mantissa.to_le_bytes());
        r[8..10].copy_from_slice(&self.top().to_le_bytes());
        r
    }

    pub fn class(self) -> Class {
        match (self.exponent, self.mantissa) {
            (0, 0) => Class::Zero,
            (0, _) => Class::Finite,
            (_, m) if m & INTEGER_BIT == 0 => Class::Unsupported,
            (TOP_EXPONENT, INTEGER_BIT) => Class::Infinity,
            (TOP_EXPONENT, m) if m & QUIET_BIT != 0 => Class::Quiet,
            (TOP_EXPONENT, _) => Class::Signalling,
            _ => Class::Finite,
        }
    }

    pub fn is_nan(self) -> bool {
        matches!(self.class(), Class::Quiet | Class::Signalling)
    }

    pub fn is_denormal(self) -> bool {
        self.exponent == 0 && self.mantissa != 0
    }

    /// What a load gives: NaNs become quiet, which is invalid for signalling ones.
    pub fn loaded(self, env: &mut Env) -> Self {
        if self.class() != Class::Signalling {
            return self;
        }
        env.flags |= flag::INVALID;
        self.quieted()
    }

    fn quieted(self) -> Self {
        Self { mantissa: self.mantissa | QUIET_BIT, ..self }
    }

    pub(super) fn number(self) -> Number {
        let zeros = self.mantissa.leading_zeros();
        let scale = i32::from(self.exponent.max(1)) - BIAS - 63 - zeros as i32;
        Number { negative: self.negative, scale, mantissa: self.mantissa << zeros }
    }

    fn from_rounded(negative: bool, r: Rounded) -> Self {
        match r {
            Rounded::Zero => Self::zero(negative),
            Rounded::Infinity => Self::infinity(negative),
            Rounded::Finite { exponent, mantissa } => {
                let biased = if mantissa & INTEGER_BIT == 0 { 0 } else { (exponent + BIAS) as u16 };
                Self::new(negative, biased, mantissa)
            }
        }
    }

    // ---- formats -----------------------------------------------------------------------------------

    /// From the bits of an IEEE format of `fraction` fraction bits. Signalling NaNs stay what they are.
    fn from_ieee(env: &mut Env, bits: u64, fraction: u32, exponent_bits: u32) -> Self {
        let negative = bits >> (fraction + exponent_bits) & 1 == 1;
        let exponent = bits >> fraction & ((1 << exponent_bits) - 1);
        let mantissa = (bits & ((1 << fraction) - 1)) << (63 - fraction);
        let top = (1u64 << exponent_bits) - 1;
        let bias = (top >> 1) as i32;
        match (exponent, mantissa) {
            (0, 0) => Self::zero(negative),
            (0, m) => {
                env.flags |= flag::DENORMAL;
                let zeros = m.leading_zeros();
                Self::new(negative, (BIAS + 1 - bias - zeros as i32) as u16, m << zeros)
            }
            (e, 0) if e == top => Self::infinity(negative),
            (e, m) if e == top => Self::new(negative, TOP_EXPONENT, m | INTEGER_BIT),
            (e, m) => Self::new(negative, (e as i32 - bias + BIAS) as u16, m | INTEGER_BIT),
        }
    }

    pub fn from_f32(env: &mut Env, bits: u32) -> Self {
        Self::from_ieee(env, bits.into(), 23, 8)
    }

    pub fn from_f64(env: &mut Env, bits: u64) -> Self {
        Self::from_ieee(env, bits, 52, 11)
    }

    pub fn from_int(v: i64) -> Self {
        let magnitude = v.unsigned_abs();
        if magnitude == 0 {
            return Self::zero(false);
        }
        let zeros = magnitude.leading_zeros();
        Self::new(v < 0, (BIAS + 63 - zeros as i32) as u16, magnitude << zeros)
    }

    fn to_ieee(self, env: &mut Env, to: Format) -> u64 {
        let fraction = to.precision - 1;
        let top = 2 * to.most as u64 + 1;
        let pack = |exponent: u64, mantissa: u64| {
            let sign = if self.negative { top + 1 } else { 0 };
            (sign | exponent) << fraction | (mantissa & !INTEGER_BIT) >> (63 - fraction)
        };
        match self.class() {
            Class::Zero => pack(0, 0),
            Class::Infinity => pack(top, 0),
            Class::Unsupported => {
                env.flags |= flag::INVALID;
                ((top + 1) | top) << fraction | 1 << (fraction - 1)
            }
            Class::Signalling => {
                env.flags |= flag::INVALID;
                pack(top, self.mantissa | QUIET_BIT)
            }
            Class::Quiet => pack(top, self.mantissa),
            Class::Finite => {
                let n = self.number();
                match round(env, to, n.negative, n.scale, n.mantissa.into(), false) {
                    Rounded::Zero => pack(0, 0),
                    Rounded::Infinity => pack(top, 0),
                    Rounded::Finite { mantissa, .. } if mantissa & INTEGER_BIT == 0 => pack(0, mantissa),
                    Rounded::Finite { exponent, mantissa } => pack((exponent + to.most) as u64, mantissa),
                }
            }
        }
    }

    pub fn to_f32(self, env: &mut Env) -> u32 {
        self.to_ieee(env, SINGLE) as u32
    }

    pub fn to_f64(self, env: &mut Env) -> u64 {
        self.to_ieee(env, DOUBLE)
    }

    /// To a signed integer of 16, 32 or 64 bits; the integer indefinite if it doesn't fit.
    pub fn to_int(self, env: &mut Env, bits: u32) -> i64 {
        let indefinite = i64::MIN >> (64 - bits);
        let refuse = |env: &mut Env| {
            env.flags |= flag::INVALID;
            env.rounded_up = false;
            indefinite
        };
        match self.class() {
            Class::Zero => 0,
            Class::Finite => {
                let before = *env;
                let Some(magnitude) = self.integral(env) else { return refuse(env) };
                let limit = 1u128 << (bits - 1);
                if magnitude > limit || magnitude == limit && !self.negative {
                    *env = before;
                    return refuse(env);
                }
                if self.negative { (magnitude as i128).wrapping_neg() as i64 } else { magnitude as i64 }
            }
            _ => refuse(env),
        }
    }

    /// The magnitude of a finite value rounded to an integer, if that has at most 64 bits.
    fn integral(self, env: &mut Env) -> Option<u128> {
        let n = self.number();
        if n.scale > 0 {
            return None;
        }
        // A half and more below it matter; bit 64 is the unit.
        let (m, lost) = shift_right(u128::from(n.mantissa) << 64, n.scale.unsigned_abs());
        let (integer, fraction) = (m >> 64, m as u64);
        let inexact = fraction != 0 || lost;
        let half = 1 << 63;
        let up = match env.mode {
            Mode::Nearest => fraction > half || fraction == half && (lost || integer & 1 == 1),
            Mode::Down => n.negative && inexact,
            Mode::Up => !n.negative && inexact,
            Mode::Zero => false,
        };
        if inexact {
            env.flags |= flag::PRECISION;
            env.rounded_up = up;
        }
        Some(integer + u128::from(up))
    }

    /// FRNDINT.
    pub fn round_to_integral(self, env: &mut Env) -> Self {
        match self.class() {
            Class::Unsupported => env.invalid(),
            Class::Signalling => {
                env.flags |= flag::INVALID;
                self.quieted()
            }
            Class::Finite => {
                if self.is_denormal() {
                    env.flags |= flag::DENORMAL;
                }
                let Some(magnitude) = self.integral(env) else { return self };
                let full = &mut Env { precision: 64, ..*env };
                Self::from_rounded(self.negative, round(full, extended(64), self.negative, 0, magnitude, false))
            }
            _ => self,
        }
    }

    // ---- arithmetic --------------------------------------------------------------------------------

    /// What an operation with a NaN or an unsupported operand gives (SDM vol. 1, table 4-7).
    pub(super) fn special(env: &mut Env, a: Self, b: Self) -> Option<Self> {
        if a.class() == Class::Unsupported || b.class() == Class::Unsupported {
            return Some(env.invalid());
        }
        if a.class() == Class::Signalling || b.class() == Class::Signalling {
            env.flags |= flag::INVALID;
        }
        let chosen = match (a.is_nan(), b.is_nan()) {
            (false, false) => return None,
            (true, false) => a,
            (false, true) => b,
            (true, true) => match (a.class(), b.class()) {
                (Class::Signalling, Class::Quiet) => b,
                (Class::Quiet, Class::Signalling) => a,
                _ => match a.quieted().mantissa.cmp(&b.quieted().mantissa) {
                    Ordering::Greater => a,
                    Ordering::Less => b,
                    Ordering::Equal if a.negative => b,
                    Ordering::Equal => a,
                },
            },
        };
        Some(chosen.quieted())
    }

    /// Marks denormal operands.
    pub(super) fn note_denormals(env: &mut Env, operands: &[Self]) {
        if operands.iter().any(|v| v.is_denormal()) {
            env.flags |= flag::DENORMAL;
        }
    }

    fn finish(env: &mut Env, negative: bool, scale: i32, wide: u128, sticky: bool) -> Self {
        let to = extended(env.precision);
        Self::from_rounded(negative, round(env, to, negative, scale, wide, sticky))
    }

    pub fn add(self, env: &mut Env, other: Self) -> Self {
        if let Some(nan) = Self::special(env, self, other) {
            return nan;
        }
        match (self.class(), other.class()) {
            (Class::Infinity, Class::Infinity) if self.negative != other.negative => return env.invalid(),
            (Class::Infinity, _) | (_, Class::Infinity) => {
                Self::note_denormals(env, &[self, other]);
                return if self.class() == Class::Infinity { self } else { other };
            }
            (Class::Zero, Class::Zero) => {
                let negative = if self.negative == other.negative { self.negative } else { env.mode == Mode::Down };
                return Self::zero(negative);
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, other]);
        if self.class() == Class::Zero || other.class() == Class::Zero {
            let n = if self.class() == Class::Zero { other.number() } else { self.number() };
            return Self::finish(env, n.negative, n.scale, n.mantissa.into(), false);
        }
        Self::add_numbers(env, self.number(), other.number())
    }

    /// The larger operand's mantissa stands in bits 62 to 125, the smaller one's is shifted down to it.
    fn add_numbers(env: &mut Env, a: Number, b: Number) -> Self {
        let (big, small) = if (a.scale, a.mantissa) >= (b.scale, b.mantissa) { (a, b) } else { (b, a) };
        let distance = (big.scale - small.scale) as u32;
        let wide = u128::from(big.mantissa) << 62;
        let (aligned, lost) = shift_right(u128::from(small.mantissa) << 62, distance);
        let sum = if big.negative == small.negative {
            wide + aligned
        } else {
            // What was lost makes the difference smaller: one less, and something above it.
            wide - aligned - u128::from(lost)
        };
        if sum == 0 {
            return Self::zero(env.mode == Mode::Down);
        }
        Self::finish(env, big.negative, big.scale - 62, sum, lost)
    }

    /// The sign changed, but for NaNs.
    pub fn negated_number(self) -> Self {
        if self.is_nan() { self } else { Self { negative: !self.negative, ..self } }
    }

    pub fn sub(self, env: &mut Env, other: Self) -> Self {
        self.add(env, other.negated_number())
    }

    pub fn mul(self, env: &mut Env, other: Self) -> Self {
        if let Some(nan) = Self::special(env, self, other) {
            return nan;
        }
        let negative = self.negative != other.negative;
        match (self.class(), other.class()) {
            (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return env.invalid(),
            (Class::Infinity, _) | (_, Class::Infinity) => {
                Self::note_denormals(env, &[self, other]);
                return Self::infinity(negative);
            }
            (Class::Zero, _) | (_, Class::Zero) => {
                Self::note_denormals(env, &[self, other]);
                return Self::zero(negative);
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, other]);
        let (a, b) = (self.number(), other.number());
        let product = u128::from(a.mantissa) * u128::from(b.mantissa);
        Self::finish(env, negative, a.scale + b.scale, product, false)
    }

    pub fn div(self, env: &mut Env, by: Self) -> Self {
        if let Some(nan) = Self::special(env, self, by) {
            return nan;
        }
        let negative = self.negative != by.negative;
        match (self.class(), by.class()) {
            (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => return env.invalid(),
            (Class::Infinity, _) => {
                Self::note_denormals(env, &[by]);
                return Self::infinity(negative);
            }
            (_, Class::Infinity) | (Class::Zero, _) => {
                Self::note_denormals(env, &[self, by]);
                return Self::zero(negative);
            }
            (_, Class::Zero) => {
                // It comes before the denormal operand (SDM vol. 1, 4.9.2).
                env.flags = env.flags & !flag::DENORMAL | flag::ZERO_DIVIDE;
                return Self::infinity(negative);
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, by]);
        let (a, b) = (self.number(), by.number());
        // 64 or so bits of the quotient, then 62 more: enough to round from.
        let (n, d) = (u128::from(a.mantissa) << 63, u128::from(b.mantissa));
        let rest = (n % d) << 62;
        let quotient = ((n / d) << 62) | (rest / d);
        Self::finish(env, negative, a.scale - b.scale - 125, quotient, rest % d != 0)
    }

    pub fn sqrt(self, env: &mut Env) -> Self {
        if let Some(nan) = Self::special(env, self, self) {
            return nan;
        }
        match self.class() {
            Class::Zero => return self,
            _ if self.negative => return env.invalid(),
            Class::Infinity => return self,
            _ => {}
        }
        Self::note_denormals(env, &[self]);
        let n = self.number();
        // An even scale, then two bits of the radicand for one of the root: 66 bits, and whether there is more.
        let odd = n.scale.rem_euclid(2) as u32;
        let mut radicand = u128::from(n.mantissa) << (62 + odd);
        let (mut root, mut rest) = (0u128, 0u128);
        for _ in 0..66 {
            rest = rest << 2 | radicand >> 126;
            radicand <<= 2;
            let trial = root << 2 | 1;
            root <<= 1;
            if rest >= trial {
                rest -= trial;
                root |= 1;
            }
        }
        // The radicand was mantissa * 2^(62 + odd), extended by 4 bits: its root has scale (scale - odd - 66) / 2.
        Self::finish(env, false, (n.scale - odd as i32 - 66) / 2, root, rest != 0)
    }

    /// Like `partial_cmp` of the values; `None` with a NaN or an unsupported operand.
    pub fn compare(self, other: Self) -> Option<Ordering> {
        let ordered = |v: Self| !v.is_nan() && v.class() != Class::Unsupported;
        if !ordered(self) || !ordered(other) {
            return None;
        }
        let key = |v: Self| {
            // A pseudo-denormal has exponent 0 and the value of exponent 1.
            let exponent = if v.mantissa & INTEGER_BIT != 0 { v.exponent.max(1) } else { v.exponent };
            let magnitude = i128::from(exponent) << 64 | i128::from(v.mantissa);
            if v.negative { -magnitude } else { magnitude }
        };
        Some(key(self).cmp(&key(other)))
    }

    /// FSCALE: times two to the power of `by`, cut to an integer.
    pub fn scale(self, env: &mut Env, by: Self) -> Self {
        if let Some(nan) = Self::special(env, self, by) {
            return nan;
        }
        match (self.class(), by.class()) {
            (Class::Zero, Class::Infinity) if !by.negative => return env.invalid(),
            (Class::Infinity, Class::Infinity) if by.negative => return env.invalid(),
            (Class::Zero | Class::Infinity, _) => {
                Self::note_denormals(env, &[by]);
                return self;
            }
            (_, Class::Infinity) => {
                Self::note_denormals(env, &[self]);
                return if by.negative { Self::zero(self.negative) } else { Self::infinity(self.negative) };
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, by]);
        let cut = &mut Env { mode: Mode::Zero, ..*env };
        // Beyond this any result over- or underflows.
        const LIMIT: i32 = 1 << 17;
        let exponent = match by.class() {
            Class::Zero => 0,
            _ => by.integral(cut).map_or(LIMIT, |m| m.min(LIMIT as u128) as i32),
        };
        let n = self.number();
        let scale = n.scale + if by.negative { -exponent } else { exponent };
        let to = extended(64);
        Self::from_rounded(n.negative, round(env, to, n.negative, scale, n.mantissa.into(), false))
    }

    /// FXTRACT: exponent and significand.
    pub fn extract(self, env: &mut Env) -> (Self, Self) {
        if let Some(nan) = Self::special(env, self, self) {
            return (nan, nan);
        }
        match self.class() {
            Class::Zero => {
                env.flags |= flag::ZERO_DIVIDE;
                (Self::infinity(true), self)
            }
            Class::Infinity => (Self::infinity(false), self),
            _ => {
                Self::note_denormals(env, &[self]);
                let n = self.number();
                (Self::from_int((n.scale + 63).into()), Self::new(self.negative, BIAS as u16, n.mantissa))
            }
        }
    }

    /// FPREM and FPREM1 (rounding the quotient to nearest): the remainder, and the quotient's low bits if the
    /// reduction is complete.
    pub fn remainder(self, env: &mut Env, by: Self, nearest: bool) -> (Self, Option<u64>) {
        if let Some(nan) = Self::special(env, self, by) {
            return (nan, Some(0));
        }
        match (self.class(), by.class()) {
            (Class::Infinity, _) | (_, Class::Zero) => return (env.invalid(), Some(0)),
            (Class::Zero, _) => {
                Self::note_denormals(env, &[by]);
                return (self, Some(0));
            }
            (_, Class::Infinity) => {
                Self::note_denormals(env, &[self]);
                let a = self.number();
                return (Self::exact(env, self.negative, a.scale, a.mantissa.into()), Some(0));
            }
            _ => {}
        }
        Self::note_denormals(env, &[self, by]);
        let (a, b) = (self.number(), by.number());
        let distance = a.scale - b.scale;
        if distance < -1 || distance < 0 && !nearest {
            // By way of its value, because a pseudo-denormal comes out as what it means.
            return (Self::exact(env, self.negative, a.scale, a.mantissa.into()), Some(0));
        }
        if distance >= 64 {
            // One step takes between 32 and 63 off the distance (SDM vol. 2, FPREM).
            let step = 32 + distance % 32;
            let rest = (u128::from(a.mantissa) << step) % u128::from(b.mantissa);
            return (Self::exact(env, self.negative, a.scale - step, rest), None);
        }
        Self::last_reduction(env, a, b, distance, nearest)
    }

    /// With the dividend less than 2^64 times the divisor, in units of half the divisor's last place.
    fn last_reduction(env: &mut Env, a: Number, b: Number, distance: i32, nearest: bool) -> (Self, Option<u64>) {
        let divisor = u128::from(b.mantissa) << 1;
        // By halves of the distance, so that nothing exceeds 128 bits.
        let (mut rest, mut quotient) = (u128::from(a.mantissa), 0u128);
        if distance < 0 {
            // distance is -1: the dividend's unit is half the divisor's.
        } else {
            rest <<= 1;
            for step in (0..=distance).rev() {
                quotient <<= 1;
                if step != distance {
                    rest <<= 1;
                }
                if rest >= divisor {
                    rest -= divisor;
                    quotient |= 1;
                }
            }
        }
        let mut negative = a.negative;
        if nearest && (rest * 2 > divisor || rest * 2 == divisor && quotient & 1 == 1) {
            rest = divisor - rest;
            quotient += 1;
            negative = !negative;
        }
        let negative = if rest == 0 { a.negative } else { negative };
        (Self::exact(env, negative, b.scale - 1, rest), Some(quotient as u64))
    }

    /// A value that is known to be representable in 64 bits.
    fn exact(env: &mut Env, negative: bool, scale: i32, m: u128) -> Self {
        Self::rounded_fully(env, negative, scale, m, false)
    }

    /// `m * 2^scale`, and a little more if `sticky`, rounded to 64 bits whatever the precision control.
    pub(super) fn rounded_fully(env: &mut Env, negative: bool, scale: i32, m: u128, sticky: bool) -> Self {
        Self::from_rounded(negative, round(env, extended(64), negative, scale, m, sticky))
    }

    // ---- packed decimal ----------------------------------------------------------------------------

    /// From 18 decimal digits, a nibble each, and a sign (SDM vol. 1, 4.7). Digits above nine count as what they are.
    pub fn from_decimal(low: u64, high: u16) -> Self {
        let nibble = |v: u64, n: u32| v >> (4 * n) & 0xf;
        let digits = (0..2).rev().map(|n| nibble(high.into(), n)).chain((0..16).rev().map(|n| nibble(low, n)));
        let magnitude = digits.fold(0u64, |sum, digit| sum * 10 + digit);
        Self { negative: high >> 15 != 0, ..Self::from_int(magnitude as i64) }
    }

    /// To 18 decimal digits and a sign; the decimal indefinite if it doesn't fit.
    pub fn to_decimal(self, env: &mut Env) -> (u64, u16) {
        const INDEFINITE: (u64, u16) = (0xc000_0000_0000_0000, 0xffff);
        let magnitude = match self.class() {
            Class::Zero => Some(0),
            Class::Finite => {
                let before = *env;
                let fits = self.integral(env).filter(|m| *m < 10u128.pow(18));
                if fits.is_none() {
                    *env = before;
                }
                fits
            }
            _ => None,
        };
        let Some(magnitude) = magnitude else {
            env.flags |= flag::INVALID;
            env.rounded_up = false;
            return INDEFINITE;
        };
        let digit = |n: u32| magnitude / 10u128.pow(n) % 10;
        let packed = (0..18).fold(0u128, |v, n| v | digit(n) << (4 * n));
        (packed as u64, (packed >> 64) as u16 | u16::from(self.negative) << 15)
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

    fn back(v: F80) -> f64 {
        f64::from_bits(v.to_f64(&mut env()))
    }

    #[test]
    fn arithmetic_agrees_with_doubles_where_those_are_exact() {
        let e = &mut env();
        assert_eq!(back(of(1.5).add(e, of(-0.25))), 1.25);
        assert_eq!(back(of(1e10).mul(e, of(-3.0))), -3e10);
        assert_eq!(back(of(7.0).div(e, of(2.0))), 3.5);
        assert_eq!(back(of(2.25).sqrt(e)), 1.5);
        assert_eq!(back(of(1e300).sub(e, of(1e300))), 0.0);
        assert_eq!(e.flags, 0);
    }

    #[test]
    fn rounding_happens_once_in_64_bits() {
        let e = &mut env();
        let third = of(1.0).div(e, of(3.0));
        assert_eq!((third.exponent, third.mantissa), (0x3ffd, 0xaaaa_aaaa_aaaa_aaab));
        assert_eq!((e.flags, e.rounded_up), (flag::PRECISION, true));
        let root = of(2.0).sqrt(&mut env());
        assert_eq!(root.mantissa, 0xb504_f333_f9de_6484);
    }

    #[test]
    fn precision_control_limits_results() {
        let single = &mut Env::new(0x07f);
        assert_eq!(of(1.0).div(single, of(3.0)).mantissa, 0xaaaa_ab00_0000_0000);
    }

    #[test]
    fn remainders() {
        let rest = |a, b, nearest| {
            let (r, q) = of(a).remainder(&mut env(), of(b), nearest);
            (back(r), q)
        };
        assert_eq!(rest(7.5, 2.0, false), (1.5, Some(3)));
        assert_eq!(rest(7.5, 2.0, true), (-0.5, Some(4)));
        assert_eq!(rest(-7.5, 2.0, false), (-1.5, Some(3)));
        assert_eq!(rest(1.5, 2.0, true), (-0.5, Some(1)));
        assert_eq!(rest(1e30, 7.0, false).1, None);
    }

    #[test]
    fn integers_and_their_limits() {
        let int = |v, bits| of(v).to_int(&mut env(), bits);
        assert_eq!(int(2.5, 16), 2);
        assert_eq!(int(-32768.4, 16), -32768);
        assert_eq!(int(32767.5, 16), -32768);
        assert_eq!(int(1e19, 64), i64::MIN);
        assert_eq!(F80::from_int(i64::MIN).to_int(&mut env(), 64), i64::MIN);
        assert_eq!(back(F80::from_int(-5)), -5.0);
    }
}

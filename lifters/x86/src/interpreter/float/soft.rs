//! Floating point in integer arithmetic: for formats and operations that the host's unit may lack. Results and exception
//! flags are x86's to the bit, also where overflow and underflow aren't masked (SDM vol. 1, 4.9.1): then every tiny result is
//! an underflow, and a result out of range is inexact if it would be with more exponents.

use core::cmp::Ordering;

use xlate_abi::state::mxcsr::{DAZ, DE, FTZ, IE, OE, OM, PE, UE, UM, ZE};

use crate::emitter::{FBin, FPred, Fma, Fty, Rounding};

/// A floating-point format of up to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    bits: u32,
    /// Bits of the fraction.
    fraction: u32,
}

impl Format {
    pub const HALF: Self = Self { bits: 16, fraction: 10 };
    pub const BFLOAT: Self = Self { bits: 16, fraction: 7 };
    pub const SINGLE: Self = Self { bits: 32, fraction: 23 };
    pub const DOUBLE: Self = Self { bits: 64, fraction: 52 };

    pub const fn of(ty: Fty) -> Self {
        match ty {
            Fty::F32 => Self::SINGLE,
            Fty::F64 => Self::DOUBLE,
        }
    }

    pub const fn width(self) -> u32 {
        self.bits
    }

    /// Bits of the fraction.
    pub const fn fraction(self) -> u32 {
        self.fraction
    }

    pub const fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }

    pub const fn magnitude(self, v: u64) -> u64 {
        v & (self.sign() - 1)
    }

    pub const fn is_negative(self, v: u64) -> bool {
        v & self.sign() != 0
    }

    const fn exponents(self) -> u64 {
        (1 << (self.bits - 1 - self.fraction)) - 1
    }

    pub const fn bias(self) -> i32 {
        (self.exponents() >> 1) as i32
    }

    pub const fn infinity(self) -> u64 {
        self.exponents() << self.fraction
    }

    pub const fn quiet(self) -> u64 {
        1 << (self.fraction - 1)
    }

    /// The NaN that an invalid operation gives (SDM vol. 1, table 4-3).
    pub const fn indefinite(self) -> u64 {
        self.sign() | self.infinity() | self.quiet()
    }

    /// The largest finite number.
    pub const fn largest(self) -> u64 {
        self.infinity() - 1
    }

    /// The bits of 2^n.
    pub const fn power_of_two(self, n: i32) -> u64 {
        ((n + self.bias()) as u64) << self.fraction
    }

    pub const fn one(self) -> u64 {
        self.power_of_two(0)
    }

    pub const fn is_nan(self, v: u64) -> bool {
        self.magnitude(v) > self.infinity()
    }

    pub const fn is_signalling(self, v: u64) -> bool {
        self.is_nan(v) && v & self.quiet() == 0
    }

    pub const fn is_infinite(self, v: u64) -> bool {
        self.magnitude(v) == self.infinity()
    }

    pub const fn is_zero(self, v: u64) -> bool {
        self.magnitude(v) == 0
    }

    pub const fn is_denormal(self, v: u64) -> bool {
        !self.is_zero(v) && self.magnitude(v) < 1 << self.fraction
    }

    /// A finite number that isn't zero, or `None`.
    pub const fn number(self, v: u64) -> Option<Number> {
        let magnitude = self.magnitude(v);
        if magnitude == 0 || magnitude >= self.infinity() {
            return None;
        }
        let fraction = magnitude & ((1 << self.fraction) - 1);
        let at_top = (fraction as u128) << (127 - self.fraction);
        let (exponent, significand) = match (magnitude >> self.fraction) as i32 {
            0 => (1, at_top),
            n => (n, at_top | 1 << 127),
        };
        Some(Number::new(self.is_negative(v), exponent - self.bias(), significand))
    }

    /// A NaN of this format, quieted, in another one: the payload's upper bits stay.
    pub const fn quieted_in(self, v: u64, to: Self) -> u64 {
        let fraction = v & ((1 << self.fraction) - 1);
        let fraction = if to.fraction < self.fraction {
            fraction >> (self.fraction - to.fraction)
        } else {
            fraction << (to.fraction - self.fraction)
        };
        let sign = if self.is_negative(v) { to.sign() } else { 0 };
        sign | to.infinity() | to.quiet() | fraction
    }
}

/// An integer's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    pub bits: u32,
    pub signed: bool,
}

/// A finite number that isn't zero: the significand, whose upper bit is set, is in units of 2^(exponent - 127).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    pub negative: bool,
    pub exponent: i32,
    pub significand: u128,
}

impl Number {
    /// With a significand that isn't zero.
    pub const fn new(negative: bool, exponent: i32, significand: u128) -> Self {
        let zeros = significand.leading_zeros();
        Self { negative, exponent: exponent - zeros as i32, significand: significand << zeros }
    }

    /// An integer that isn't zero.
    pub const fn of_integer(negative: bool, magnitude: u64) -> Self {
        Self::new(negative, 127, magnitude as u128)
    }

    fn product(self, other: Self) -> Self {
        // Neither significand has more than 64 bits, so all of the product is there.
        let significand = (self.significand >> 64) * (other.significand >> 64);
        Self::new(self.negative != other.negative, self.exponent + other.exponent + 1, significand)
    }

    fn quotient(self, by: Self) -> Self {
        let divisor = by.significand >> 64;
        let (quotient, rest) = (self.significand / divisor, self.significand % divisor);
        Self::new(self.negative != by.negative, self.exponent - by.exponent + 63, quotient | u128::from(rest != 0))
    }

    /// The root of the magnitude.
    fn root(self) -> Self {
        let odd = self.exponent.rem_euclid(2);
        let square = self.significand >> (1 - odd);
        let root = square.isqrt();
        let inexact = root * root != square;
        Self::new(false, (self.exponent - odd) / 2 + 64, root | u128::from(inexact))
    }

    /// The sum, of which any bits below stand for all that are lost; `None` if it is zero.
    pub fn sum(self, other: Self) -> Option<Self> {
        let (large, small) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // Room for a carry.
        let shift = (large.exponent - small.exponent) as u32 + 1;
        let (a, b) = (shifted(large.significand, 1), shifted(small.significand, shift));
        let exponent = large.exponent + 1;
        if large.negative == small.negative {
            return Some(Self::new(large.negative, exponent, a + b));
        }
        match a.cmp(&b) {
            Ordering::Equal => None,
            Ordering::Greater => Some(Self::new(large.negative, exponent, a - b)),
            Ordering::Less => Some(Self::new(small.negative, exponent, b - a)),
        }
    }

    /// The number rounded to a multiple of 2^-digits, and whether that changed it; `None` is zero.
    pub fn integral(self, mode: Rounding, digits: i32) -> (Option<Self>, bool) {
        // The unit of the significand's lowest bit is 2^(exponent - 127).
        let shift = 127 - digits - self.exponent;
        let Ok(shift) = u32::try_from(shift) else { return (Some(self), false) };
        let (kept, inexact) = shifted_by_mode(mode, self.negative, self.significand, shift);
        let rounded = (kept != 0).then(|| Self::new(self.negative, 127 - digits, kept));
        (rounded, inexact)
    }
}

/// Shifts to the right; the lowest bit also stands for all bits lost.
fn shifted(v: u128, shift: u32) -> u128 {
    match shift {
        0 => v,
        1..128 => v >> shift | u128::from(v << (128 - shift) != 0),
        _ => u128::from(v != 0),
    }
}

/// Shifts to the right and rounds; whether anything was lost.
fn shifted_by_mode(mode: Rounding, negative: bool, v: u128, shift: u32) -> (u128, bool) {
    const HALF: u128 = 1 << 127;
    let (kept, rest) = match shift {
        0 => (v, 0),
        1..128 => (v >> shift, v << (128 - shift)),
        128 => (0, v),
        _ => (0, 1),
    };
    let up = match mode {
        Rounding::Nearest => rest > HALF || rest == HALF && kept & 1 == 1,
        Rounding::Down => negative && rest != 0,
        Rounding::Up => !negative && rest != 0,
        Rounding::Zero => false,
        Rounding::Current => unreachable!("the mode is known"),
    };
    (kept + u128::from(up), rest != 0)
}

/// The modes that operations run in, and the flags they raise.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    mxcsr: u32,
    pub raised: u32,
    /// Halves are only stored: what is lost where there is no denormal number for it counts for arithmetic with halves alone,
    /// if underflow isn't masked. The manual doesn't tell; processors do so.
    pub stores_halves: bool,
}

impl Unit {
    /// In the modes of the guest's MXCSR.
    pub const fn new(mxcsr: u32) -> Self {
        Self { mxcsr, raised: 0, stores_halves: false }
    }

    /// One in the same modes that has raised nothing, and where overflow and underflow are masked.
    pub const fn with_masks(self) -> Self {
        Self::new(self.mxcsr | OM | UM)
    }

    /// Whether every tiny result is an underflow, not only an inexact one: where it isn't masked.
    pub const fn underflows_always(&self) -> bool {
        self.mxcsr & UM == 0
    }

    pub const fn raise(&mut self, flags: u32) {
        self.raised |= flags;
    }

    /// The rounding mode in MXCSR.
    pub const fn mode(&self) -> Rounding {
        match self.mxcsr >> 13 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }

    /// A mode by name.
    pub const fn mode_of(&self, mode: Rounding) -> Rounding {
        match mode {
            Rounding::Current => self.mode(),
            mode => mode,
        }
    }

    /// Half precision knows no flushing (SDM vol. 1, 15.5).
    fn flushes_operands(&self, f: Format) -> bool {
        self.mxcsr & DAZ != 0 && f != Format::HALF
    }

    fn flushes_results(&self, f: Format) -> bool {
        self.mxcsr & (FTZ | UM) == FTZ | UM && f != Format::HALF
    }

    /// An operand as operations see it: denormal ones may be zeros.
    pub fn flushed(&self, f: Format, v: u64) -> u64 {
        if f.is_denormal(v) && self.flushes_operands(f) { v & f.sign() } else { v }
    }

    /// A result as it is stored: denormal ones may be zeros.
    pub fn flushed_result(&self, f: Format, r: u64) -> u64 {
        if f.is_denormal(r) && self.flushes_results(f) { r & f.sign() } else { r }
    }

    /// The result of an invalid operation.
    pub const fn invalid(&mut self, f: Format) -> u64 {
        self.raise(IE);
        f.indefinite()
    }

    /// The first NaN of operands, quieted. A signalling one raises a flag.
    pub fn nan_of(&mut self, f: Format, operands: &[u64]) -> Option<u64> {
        if operands.iter().any(|v| f.is_signalling(*v)) {
            self.raise(IE);
        }
        operands.iter().find(|v| f.is_nan(**v)).map(|v| v | f.quiet())
    }

    /// Raises the flag for denormal operands.
    pub fn note_denormals(&mut self, f: Format, operands: &[u64]) {
        if operands.iter().any(|v| f.is_denormal(*v)) {
            self.raise(DE);
        }
    }

    /// A number in a format, by the rounding mode in MXCSR.
    pub fn rounded(&mut self, f: Format, x: Number) -> u64 {
        self.rounded_by(f, self.mode(), x)
    }

    /// The same by another one.
    pub fn rounded_by(&mut self, f: Format, mode: Rounding, x: Number) -> u64 {
        let sign = if x.negative { f.sign() } else { 0 };
        let (kept, inexact) = shifted_by_mode(mode, x.negative, x.significand, 127 - f.fraction);
        // The exponent's bits without the implicit one, which `kept` has, or twice that.
        let exponent = x.exponent + f.bias() - 1;
        let tiny = exponent < -1 || exponent == -1 && kept >> f.fraction < 2;
        if tiny {
            return sign | self.tiny(f, mode, x, inexact);
        }
        let magnitude = (i128::from(exponent) << f.fraction) + kept as i128;
        if magnitude >= i128::from(f.infinity()) {
            return sign | self.overflow(f, mode, x.negative, inexact);
        }
        if inexact {
            self.raise(PE);
        }
        sign | magnitude as u64
    }

    /// The magnitude of a result that is smaller than normal numbers, also if rounded; `inexact`: if there were more exponents.
    fn tiny(&mut self, f: Format, mode: Rounding, x: Number, inexact: bool) -> u64 {
        if self.flushes_results(f) {
            self.raise(UE | PE);
            return 0;
        }
        let shift = (127 - f.fraction).saturating_add_signed(1 - f.bias() - x.exponent);
        let (magnitude, changed) = shifted_by_mode(mode, x.negative, x.significand, shift);
        if self.underflows_always() {
            let loses = inexact || changed && f == Format::HALF && !self.stores_halves;
            self.raise(if loses { UE | PE } else { UE });
        } else if changed {
            self.raise(UE | PE);
        }
        magnitude as u64
    }

    fn overflow(&mut self, f: Format, mode: Rounding, negative: bool, inexact: bool) -> u64 {
        self.raise(if inexact || self.mxcsr & OM != 0 { OE | PE } else { OE });
        let to_infinity = match mode {
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
            _ => true,
        };
        if to_infinity { f.infinity() } else { f.largest() }
    }

    /// The sum of two zeros, or of two numbers that cancel each other.
    fn zero_sum(&self, f: Format, negative: [bool; 2]) -> u64 {
        let negative = if negative[0] == negative[1] { negative[0] } else { self.mode() == Rounding::Down };
        if negative { f.sign() } else { 0 }
    }

    /// An operation on two operands; minima and maxima are the second one if either is a NaN or both are zeros.
    pub fn binary(&mut self, f: Format, op: FBin, operands: [u64; 2]) -> u64 {
        let operands @ [a, b] = operands.map(|v| self.flushed(f, v));
        if let FBin::Min | FBin::Max = op {
            let operands = if op == FBin::Min { [a, b] } else { [b, a] };
            return if self.compare(f, FPred::OLT, operands) { a } else { b };
        }
        if let Some(nan) = self.nan_of(f, &operands) {
            return nan;
        }
        match op {
            FBin::Add => self.multiply_add(f, Fma::Add, 0, [a, f.one(), b]),
            FBin::Sub => self.multiply_add(f, Fma::Sub, 0, [a, f.one(), b]),
            FBin::Mul => self.product(f, operands),
            _ => self.quotient(f, operands),
        }
    }

    fn product(&mut self, f: Format, operands: [u64; 2]) -> u64 {
        let [a, b] = operands;
        let infinite = f.is_infinite(a) || f.is_infinite(b);
        if infinite && (f.is_zero(a) || f.is_zero(b)) {
            return self.invalid(f);
        }
        self.note_denormals(f, &operands);
        match f.number(a).zip(f.number(b)) {
            Some((x, y)) => self.rounded(f, x.product(y)),
            None => (a ^ b) & f.sign() | if infinite { f.infinity() } else { 0 },
        }
    }

    fn quotient(&mut self, f: Format, operands: [u64; 2]) -> u64 {
        let [a, b] = operands;
        let sign = (a ^ b) & f.sign();
        if f.is_zero(a) && f.is_zero(b) || f.is_infinite(a) && f.is_infinite(b) {
            return self.invalid(f);
        }
        // A division by zero comes before a denormal operand.
        if f.is_zero(b) && !f.is_infinite(a) {
            self.raise(ZE);
            return sign | f.infinity();
        }
        self.note_denormals(f, &operands);
        match f.number(a).zip(f.number(b)) {
            Some((x, y)) => self.rounded(f, x.quotient(y)),
            None => sign | if f.is_infinite(a) { f.infinity() } else { 0 },
        }
    }

    pub fn root(&mut self, f: Format, v: u64) -> u64 {
        let v = self.flushed(f, v);
        if let Some(nan) = self.nan_of(f, &[v]) {
            return nan;
        }
        if f.is_negative(v) && !f.is_zero(v) {
            return self.invalid(f);
        }
        self.note_denormals(f, &[v]);
        f.number(v).map_or(v, |x| self.rounded(f, x.root()))
    }

    /// A fused multiplication and addition in a lane of this number.
    pub fn multiply_add(&mut self, f: Format, op: Fma, lane: u32, operands: [u64; 3]) -> u64 {
        let operands = operands.map(|v| self.flushed(f, v));
        if let Some(nan) = self.nan_of(f, &operands) {
            return nan;
        }
        let [x, y, mut z] = operands;
        let [negates_product, negates_addend] = op.negates(lane);
        if negates_addend {
            z ^= f.sign();
        }
        let negative = f.is_negative(x) ^ f.is_negative(y) ^ negates_product;
        let sign = if negative { f.sign() } else { 0 };
        let infinite = f.is_infinite(x) || f.is_infinite(y);
        let opposite = infinite && f.is_infinite(z) && f.is_negative(z) != negative;
        if infinite && (f.is_zero(x) || f.is_zero(y)) || opposite {
            return self.invalid(f);
        }
        self.note_denormals(f, &operands);
        if infinite {
            return sign | f.infinity();
        }
        if f.is_infinite(z) {
            return z;
        }
        let product = f.number(x).zip(f.number(y)).map(|(x, y)| Number { negative, ..x.product(y) });
        let sum = match (product, f.number(z)) {
            (Some(a), Some(b)) => a.sum(b),
            (a, b) => a.or(b),
        };
        match sum {
            Some(sum) => self.rounded(f, sum),
            None => self.zero_sum(f, [negative, f.is_negative(z)]),
        }
    }

    /// Between formats. `notes`: raises the flag for a denormal operand.
    pub fn converted(&mut self, [from, to]: [Format; 2], mode: Rounding, notes: bool, v: u64) -> u64 {
        let v = self.flushed(from, v);
        if self.nan_of(from, &[v]).is_some() {
            return from.quieted_in(v, to);
        }
        if notes {
            self.note_denormals(from, &[v]);
        }
        match from.number(v) {
            Some(x) => self.rounded_by(to, mode, x),
            None => {
                let sign = if from.is_negative(v) { to.sign() } else { 0 };
                sign | if from.is_zero(v) { 0 } else { to.infinity() }
            }
        }
    }

    /// A float as an integer: the integer indefinite where it doesn't fit (SDM vol. 1, 4.2.3 and table 4-3).
    pub fn to_integer(&mut self, f: Format, mode: Rounding, to: Integer, v: u64) -> u64 {
        let Integer { bits, signed } = to;
        let v = self.flushed(f, v);
        if f.is_zero(v) {
            return 0;
        }
        let indefinite = if signed { 1 << (bits - 1) } else { u64::MAX >> (64 - bits) };
        let Some(x) = f.number(v).filter(|x| x.exponent < 64) else {
            self.raise(IE);
            return indefinite;
        };
        let (kept, inexact) = shifted_by_mode(mode, x.negative, x.significand, (127 - x.exponent) as u32);
        let limit = match (signed, x.negative) {
            (true, negative) => (1 << (bits - 1)) - u128::from(!negative),
            (false, true) => 0,
            (false, false) => (1 << bits) - 1,
        };
        if kept > limit {
            self.raise(IE);
            return indefinite;
        }
        if inexact {
            self.raise(PE);
        }
        let r = if x.negative { (kept as u64).wrapping_neg() } else { kept as u64 };
        r & u64::MAX >> (64 - bits)
    }

    /// An integer as a float.
    pub fn of_integer(&mut self, f: Format, from: Integer, v: u64) -> u64 {
        let spare = 64 - from.bits;
        let negative = from.signed && (v << spare) >> 63 == 1;
        let v = if from.signed { ((v << spare) as i64 >> spare).unsigned_abs() } else { v };
        if v == 0 {
            return 0;
        }
        let r = self.rounded(f, Number::of_integer(negative, v));
        // What is too large even for halves counts as inexact whether overflow is masked or not.
        if f.is_infinite(r) || f.magnitude(r) == f.largest() && self.raised & OE != 0 {
            self.raise(PE);
        }
        r
    }

    /// Whether a comparison holds.
    pub fn compare(&mut self, f: Format, pred: FPred, operands: [u64; 2]) -> bool {
        let [a, b] = operands.map(|v| self.flushed(f, v));
        if self.nan_of(f, &[a, b]).is_some() {
            if pred.signals() {
                self.raise(IE);
            }
            return pred.holds(false, false, true);
        }
        self.note_denormals(f, &[a, b]);
        let order = compared(f, a, b);
        pred.holds(order.is_lt(), order.is_eq(), false)
    }
}

/// The order of two operands that aren't NaNs; zeros are equal.
pub fn compared(f: Format, a: u64, b: u64) -> Ordering {
    let value = |v| {
        let magnitude = f.magnitude(v) as i64;
        if f.is_negative(v) { -magnitude } else { magnitude }
    };
    value(a).cmp(&value(b))
}

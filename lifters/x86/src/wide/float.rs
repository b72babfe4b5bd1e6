//! Floating-point operations beyond those that every emitter has: in integer arithmetic, the same on every host.

use xlate_abi::state::MXCSR_DEFAULT;
use xlate_abi::state::mxcsr::{DAZ, FTZ, IE, PE, UE, ZE};

use super::{Operands, operations};
use crate::emitter::{FBin, FPred, Fma, Lane, Round, Rounding, Ty, VTy};
use crate::interpreter::V;
use crate::interpreter::float;
use crate::interpreter::float::soft::{Format, Integer, Number, Unit, compared};

operations! {
    /// A floating-point operation.
    Op {
        /// VFMADD and its like ([`crate::Emitter::vfma`]): the immediate is an [`Fma`]'s number.
        MultiplyAdd,
        /// Lanes of one format as those of another: the immediate has the [`Element`] that they are in its low half, the one
        /// that they become in its high one. Rounded by MXCSR.
        Convert,
        /// The same, to integers, without what is behind the point.
        Truncate,
        /// VCVTPH2PS: halves as singles, of which denormal ones raise no flag.
        OfHalf,
        /// VCVTPS2PH: singles as halves, rounded as the immediate says.
        ToHalf,
        /// VCVTNEPS2BF16: singles as brain floats.
        ToBrain,
        /// VDPBF16PS: adds products of pairs of brain floats of the second and third operand to the singles of the first.
        BrainProducts,
        /// VRNDSCALE: rounded to as many binary digits behind the point as the immediate says.
        RoundScaled,
        /// VREDUCE: what that takes away.
        Reduce,
        /// VGETEXP: the exponent.
        Exponent,
        /// VGETMANT: the significand, in the interval and with the sign that the immediate tells.
        Significand,
        /// VSCALEF: the first operand times two to the power of the second's integral part.
        Scale,
        /// VRANGE: minima and maxima.
        Range,
        /// VFIXUPIMM: the second operand replaced by class as the third's lanes tell; the first is what was there before. A fourth
        /// operand's lanes are zero where nothing is raised and nobody looks at the result.
        FixUp,
        /// VFPCLASS: a bit for each lane that is of one of the immediate's classes.
        Classify,
        /// Arithmetic in formats that emitters don't know.
        Add,
        Subtract,
        Multiply,
        Divide,
        Minimum,
        Maximum,
        SquareRoot,
        /// VCMPPH: a bit for each lane where the comparison with the immediate's number holds.
        Compare,
        /// VFMULCPH: products of complex numbers, whose real parts are in even lanes, real parts first.
        ComplexMultiply,
        /// VFCMULCPH: with the second operand's conjugate.
        ComplexMultiplyConjugate,
        /// VFMADDCPH: the same plus the third operand.
        ComplexMultiplyAdd,
        ComplexMultiplyConjugateAdd,
        /// VRCP14: the host's, or rounded to nearest.
        Reciprocal,
        /// VRSQRT14: likewise, from a root of 32 bits.
        ReciprocalRoot,
    }
}

/// What a conversion's lanes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Half,
    Single,
    Double,
}

impl Element {
    const ALL: [Self; 9] =
        [Self::I16, Self::U16, Self::I32, Self::U32, Self::I64, Self::U64, Self::Half, Self::Single, Self::Double];

    fn of_number(n: u8) -> Self {
        Self::ALL[usize::from(n)]
    }

    /// The type its bits travel in.
    pub const fn ty(self) -> Ty {
        match self {
            Self::I16 | Self::U16 | Self::Half => Ty::I16,
            Self::I32 | Self::U32 | Self::Single => Ty::I32,
            Self::I64 | Self::U64 | Self::Double => Ty::I64,
        }
    }

    /// Lanes of it.
    pub const fn lane(self) -> Lane {
        match self {
            Self::Single => Lane::F32,
            Self::Double => Lane::F64,
            other => match other.ty() {
                Ty::I8 => Lane::I8,
                Ty::I16 => Lane::I16,
                Ty::I32 => Lane::I32,
                Ty::I64 => Lane::I64,
            },
        }
    }

    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Half => Some(Format::HALF),
            Self::Single => Some(Format::SINGLE),
            Self::Double => Some(Format::DOUBLE),
            _ => None,
        }
    }

    const fn integer(self) -> Integer {
        Integer { bits: self.ty().bits(), signed: matches!(self, Self::I16 | Self::I32 | Self::I64) }
    }
}

/// A conversion of elements, some or all of which are floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    pub from: Element,
    pub to: Element,
    /// How floats become integers.
    pub round: Round,
}

impl Conversion {
    /// What an operation's immediate names.
    pub fn of_immediate(immediate: u8, round: Round) -> Self {
        Self { from: Element::of_number(immediate & 15), to: Element::of_number(immediate >> 4), round }
    }

    /// The operation with its immediate.
    pub fn operation(self) -> (Op, u8) {
        let op = match self.round {
            Round::Current => Op::Convert,
            Round::Truncate => Op::Truncate,
        };
        (op, self.from as u8 | (self.to as u8) << 4)
    }
}

impl Op {
    pub fn result_bits(self, ty: VTy) -> u32 {
        ty.bits
    }

    /// Lanes are of `o.ty`; where an operation has several formats, it is the result's. As for [`super::Wide::perform`].
    pub fn perform(self, o: &Operands<'_>) -> (V, u32) {
        if self == Self::MultiplyAdd {
            return multiply_add(o);
        }
        let mut unit = Unit::new(o.mxcsr);
        let r = match self {
            Self::Convert => converted(&mut unit, o, Round::Current),
            Self::Truncate => converted(&mut unit, o, Round::Truncate),
            Self::OfHalf => V::from_lanes(o.ty, |n| {
                let v = o.v[0].lane(lanes_of(Lane::I16, o.ty), n);
                unit.converted([Format::HALF, Format::SINGLE], Rounding::Nearest, false, v)
            }),
            Self::ToHalf => to_half(&mut unit, o),
            Self::ToBrain => V::from_lanes(o.ty, |n| to_brain(o.v[0].lane(lanes_of(Lane::I32, o.ty), n))),
            Self::BrainProducts => V::from_lanes(o.ty, |n| brain_products(o, n)),
            Self::Classify => {
                let f = format(o.ty);
                bits(o, |n| is_of_class(unit.flushed(f, o.v[0].lane(o.ty, n)), f, o.immediate))
            }
            Self::Compare => {
                let (f, pred) = (format(o.ty), FPred::of_number(o.immediate));
                bits(o, |n| unit.compare(f, pred, [0, 1].map(|m: usize| o.v[m].lane(o.ty, n))))
            }
            Self::ComplexMultiply
            | Self::ComplexMultiplyConjugate
            | Self::ComplexMultiplyAdd
            | Self::ComplexMultiplyConjugateAdd => {
                unit = unit.with_masks();
                V::from_lanes(o.ty, |n| self.complex(&mut unit, o, n))
            }
            _ => V::from_lanes(o.ty, |n| self.lane(&mut unit, o, o.v.map(|v| v.lane(o.ty, n)))),
        };
        (r, unit.raised)
    }

    /// A lane of a product of complex numbers, of two multiplications that are rounded each: the real part of the second operand
    /// comes first.
    fn complex(self, unit: &mut Unit, o: &Operands<'_>, n: u32) -> u64 {
        let f = format(o.ty);
        let imaginary = n % 2 == 1;
        let at = |operand: usize, imaginary: bool| o.v[operand].lane(o.ty, n - n % 2 + u32::from(imaginary));
        let conjugates = matches!(self, Self::ComplexMultiplyConjugate | Self::ComplexMultiplyConjugateAdd);
        let adds = matches!(self, Self::ComplexMultiplyAdd | Self::ComplexMultiplyConjugateAdd);
        let first = if adds {
            unit.multiply_add(f, Fma::Add, 0, [at(0, imaginary), at(1, false), at(2, imaginary)])
        } else {
            unit.binary(f, FBin::Mul, [at(0, imaginary), at(1, false)])
        };
        let op = if imaginary == conjugates { Fma::NegatedAdd } else { Fma::Add };
        unit.multiply_add(f, op, 0, [at(0, !imaginary), at(1, true), first])
    }

    /// Operations that take each lane by itself, in one format.
    fn lane(self, unit: &mut Unit, o: &Operands<'_>, [a, b, c, d]: [u64; 4]) -> u64 {
        let (f, immediate) = (format(o.ty), o.immediate);
        match self {
            Self::Add => unit.binary(f, FBin::Add, [a, b]),
            Self::Subtract => unit.binary(f, FBin::Sub, [a, b]),
            Self::Multiply => unit.binary(f, FBin::Mul, [a, b]),
            Self::Divide => unit.binary(f, FBin::Div, [a, b]),
            Self::Minimum => unit.binary(f, FBin::Min, [a, b]),
            Self::Maximum => unit.binary(f, FBin::Max, [a, b]),
            Self::SquareRoot => unit.root(f, a),
            Self::RoundScaled => round_scaled(unit, f, immediate, a),
            Self::Reduce => reduced(unit, f, immediate, a),
            Self::Exponent => exponent(unit, f, a),
            Self::Significand => significand(unit, f, immediate, a),
            Self::Scale => scaled(unit, f, [a, b]),
            Self::Range => range(unit, f, immediate, [a, b]),
            Self::FixUp => fixed_up(unit, f, immediate, [a, b, c, d]),
            Self::Reciprocal => estimated(unit.with_masks(), f, a, false),
            Self::ReciprocalRoot => estimated(unit.with_masks(), f, a, true),
            other => unreachable!("{other:?} isn't lane by lane"),
        }
    }
}

/// A vector that begins with a bit for each lane.
fn bits(o: &Operands<'_>, mut f: impl FnMut(u32) -> bool) -> V {
    let bits = (0..o.ty.lanes()).map(|n| u64::from(f(n)) << n).sum();
    V::from_lanes(VTy { lane: Lane::I64, bits: 64 }, |_| bits)
}

/// Of halves, lanes of 16 bits, singles or doubles.
fn format(ty: VTy) -> Format {
    match ty.lane.ty() {
        Ty::I16 => Format::HALF,
        Ty::I32 => Format::SINGLE,
        _ => Format::DOUBLE,
    }
}

/// The shape of an operand with as many lanes.
fn lanes_of(lane: Lane, ty: VTy) -> VTy {
    VTy { lane, bits: ty.lanes() * lane.ty().bits() }
}

fn multiply_add(o: &Operands<'_>) -> (V, u32) {
    let op = Fma::ALL[usize::from(o.immediate)];
    let mut unit = Unit::new(o.mxcsr);
    let r = V::from_lanes(o.ty, |n| {
        let [a, b, c, _] = o.v.map(|v| v.lane(o.ty, n));
        match o.ty.lane.fty() {
            Some(f) => float::fma(o.mxcsr, op, n, f, [a, b, c]),
            None => unit.multiply_add(format(o.ty), op, n, [a, b, c]),
        }
    });
    (r, unit.raised)
}

// ---- conversions -----------------------------------------------------------------------------------------------

fn converted(unit: &mut Unit, o: &Operands<'_>, round: Round) -> V {
    let Conversion { from, to, .. } = Conversion::of_immediate(o.immediate, round);
    let source = lanes_of(from.lane(), o.ty);
    let mode = if round == Round::Truncate { Rounding::Zero } else { unit.mode() };
    V::from_lanes(o.ty, |n| {
        let v = o.v[0].lane(source, n);
        match (from.format(), to.format()) {
            (Some(from), Some(to)) => unit.converted([from, to], mode, true, v),
            (Some(from), None) => unit.to_integer(from, mode, to.integer(), v),
            (None, Some(to)) => unit.of_integer(to, from.integer(), v),
            (None, None) => unreachable!("no conversion between integers"),
        }
    })
}

/// The immediate's bit 2 selects MXCSR's mode, bits 0 and 1 another one.
fn mode_of(unit: &Unit, immediate: u8) -> Rounding {
    match immediate & 4 {
        0 => Rounding::ALL[usize::from(immediate & 3)],
        _ => unit.mode(),
    }
}

fn to_half(unit: &mut Unit, o: &Operands<'_>) -> V {
    let source = lanes_of(Lane::F32, o.ty);
    let mode = mode_of(unit, o.immediate);
    V::from_lanes(o.ty, |n| {
        let v = o.v[0].lane(source, n);
        // All of a denormal single is lost, which counts.
        unit.stores_halves = !Format::SINGLE.is_denormal(v);
        unit.converted([Format::SINGLE, Format::HALF], mode, true, v)
    })
}

/// To nearest, without denormal numbers, and without exceptions (SDM vol. 2, VCVTNEPS2BF16).
fn to_brain(v: u64) -> u64 {
    const F: Format = Format::SINGLE;
    if F.is_nan(v) {
        return F.quieted_in(v, Format::BFLOAT);
    }
    if F.is_denormal(v) {
        return (v & F.sign()) >> 16;
    }
    (v + 0x7fff + (v >> 16 & 1)) >> 16
}

/// The upper pair's product is added first, each rounded by itself, to nearest, without denormal numbers and exceptions (SDM
/// vol. 2, VDPBF16PS).
fn brain_products(o: &Operands<'_>, n: u32) -> u64 {
    const MODES: u32 = MXCSR_DEFAULT | DAZ | FTZ;
    let brains = lanes_of(Lane::I32, o.ty);
    let [sum, a, b] = [0, 1, 2].map(|m: usize| o.v[m].lane(brains, n));
    let mut unit = Unit::new(MODES);
    let upper = unit.multiply_add(Format::SINGLE, Fma::Add, 0, [a & 0xffff_0000, b & 0xffff_0000, sum]);
    unit.multiply_add(Format::SINGLE, Fma::Add, 0, [a << 16 & 0xffff_0000, b << 16 & 0xffff_0000, upper])
}

// ---- lane by lane ----------------------------------------------------------------------------------------------

/// The value of a number or zero.
fn packed(unit: &mut Unit, f: Format, negative: bool, x: Option<Number>) -> u64 {
    match x {
        Some(x) => unit.rounded(f, x),
        None if negative => f.sign(),
        None => 0,
    }
}

/// The immediate's upper half is the number of binary digits; bit 3 keeps the inexact flag from being raised.
fn round_scaled(unit: &mut Unit, f: Format, immediate: u8, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if let Some(nan) = unit.nan_of(f, &[v]) {
        return nan;
    }
    let Some(x) = f.number(v) else { return v };
    let (rounded, inexact) = x.integral(mode_of(unit, immediate), i32::from(immediate >> 4));
    // A multiple of a power of two is exact, but may be a denormal half.
    let r = packed(&mut Unit::new(MXCSR_DEFAULT), f, x.negative, rounded);
    if f.is_denormal(r) && (inexact || unit.underflows_always()) {
        unit.raise(UE);
    }
    if inexact && immediate & 8 == 0 {
        unit.raise(PE);
    }
    r
}

fn reduced(unit: &mut Unit, f: Format, immediate: u8, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if let Some(nan) = unit.nan_of(f, &[v]) {
        return nan;
    }
    let mode = mode_of(unit, immediate);
    let zero = if mode == Rounding::Down { f.sign() } else { 0 };
    if f.is_infinite(v) {
        return 0;
    }
    let Some(x) = f.number(v) else { return zero };
    let rest = match x.integral(mode, i32::from(immediate >> 4)).0 {
        Some(r) => x.sum(Number { negative: !r.negative, ..r }),
        None => Some(x),
    };
    // What is inexact is the difference, where a tiny number is rounded away from zero or flushed.
    let mut own = unit.with_masks();
    let r = rest.map_or(zero, |rest| own.rounded_by(f, mode, rest));
    if immediate & 8 == 0 {
        unit.raise(own.raised & PE);
    }
    r
}

fn exponent(unit: &mut Unit, f: Format, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if let Some(nan) = unit.nan_of(f, &[v]) {
        return nan;
    }
    unit.note_denormals(f, &[v]);
    match f.number(v) {
        None if f.is_zero(v) => f.sign() | f.infinity(),
        None => f.infinity(),
        Some(x) if x.exponent == 0 => 0,
        Some(x) => unit.rounded(f, Number::of_integer(x.exponent < 0, x.exponent.unsigned_abs().into())),
    }
}

/// The immediate's bits 0 and 1 name the interval, bit 2 clears the sign, bit 3 makes negative operands invalid.
fn significand(unit: &mut Unit, f: Format, immediate: u8, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if let Some(nan) = unit.nan_of(f, &[v]) {
        return nan;
    }
    let sign = if immediate & 4 != 0 { 0 } else { v & f.sign() };
    if f.is_negative(v) && immediate & 8 != 0 && !f.is_zero(v) {
        return unit.invalid(f);
    }
    let Some(x) = f.number(v) else { return sign | f.one() };
    unit.note_denormals(f, &[v]);
    let upper_half = x.significand >> 126 & 1 == 1;
    let halves = match immediate & 3 {
        0 => false,
        1 => x.exponent % 2 != 0,
        2 => true,
        _ => upper_half,
    };
    let exponent = if halves { -1 } else { 0 };
    sign | unit.rounded(f, Number { negative: false, exponent, ..x })
}

/// Larger powers of two take every number beyond all formats.
const POWERS: i64 = 1 << 16;

fn scaled(unit: &mut Unit, f: Format, operands: [u64; 2]) -> u64 {
    let operands @ [a, b] = operands.map(|v| unit.flushed(f, v));
    if let Some(nan) = unit.nan_of(f, &operands) {
        // A quiet NaN doesn't survive powers without bounds.
        let alone = f.is_nan(a) && !f.is_signalling(a) && f.is_infinite(b);
        return match alone {
            true if f.is_negative(b) => 0,
            true => f.infinity(),
            false => nan,
        };
    }
    unit.note_denormals(f, &[a]);
    if f.is_infinite(b) {
        let (lost, sign) = (f.is_negative(b), a & f.sign());
        return match f.number(a) {
            None if f.is_zero(a) != lost => unit.invalid(f),
            None => a,
            Some(_) if lost => sign,
            Some(_) => sign | f.infinity(),
        };
    }
    let Some(x) = f.number(a) else { return a };
    let power = f.number(b).map_or(0, floor);
    unit.rounded(f, Number { exponent: x.exponent + power.clamp(-POWERS, POWERS) as i32, ..x })
}

/// The integer that isn't larger, as far as it counts.
fn floor(x: Number) -> i64 {
    if x.exponent >= 32 {
        return if x.negative { -POWERS } else { POWERS };
    }
    match x.integral(Rounding::Down, 0).0 {
        Some(r) => {
            let magnitude = (r.significand >> (127 - r.exponent)) as i64;
            if r.negative { -magnitude } else { magnitude }
        }
        None => 0,
    }
}

/// The immediate's bit 0 asks for the maximum, bit 1 for that of magnitudes; bits 2 and 3 tell the sign.
fn range(unit: &mut Unit, f: Format, immediate: u8, operands: [u64; 2]) -> u64 {
    let operands @ [a, b] = operands.map(|v| unit.flushed(f, v));
    let signalling = operands.iter().any(|v| f.is_signalling(*v));
    if signalling {
        let first = operands.into_iter().find(|v| f.is_signalling(*v));
        unit.nan_of(f, &operands);
        return first.map_or(0, |v| v | f.quiet());
    }
    let chosen = match operands.map(|v| f.is_nan(v)) {
        [true, false] => b,
        [_, true] => a,
        [false, false] => {
            unit.note_denormals(f, &operands);
            nearer(f, immediate, a, b)
        }
    };
    let sign = match immediate >> 2 & 3 {
        0 => a & f.sign(),
        1 => chosen & f.sign(),
        2 => 0,
        _ => f.sign(),
    };
    f.magnitude(chosen) | sign
}

fn nearer(f: Format, immediate: u8, a: u64, b: u64) -> u64 {
    let by_magnitude = f.magnitude(a).cmp(&f.magnitude(b));
    // Equal magnitudes are told apart by their signs, so are zeros.
    let signs = f.is_negative(b).cmp(&f.is_negative(a));
    let order = if immediate & 2 != 0 { by_magnitude.then(signs) } else { compared(f, a, b).then(signs) };
    if (immediate & 1 == 0) == order.is_le() { a } else { b }
}

/// A lane's class, as VFIXUPIMM numbers them.
fn class(f: Format, v: u64) -> u32 {
    match v {
        _ if f.is_signalling(v) => 1,
        _ if f.is_nan(v) => 0,
        _ if f.is_zero(v) => 2,
        _ if v == f.one() => 3,
        _ if f.is_infinite(v) => {
            if f.is_negative(v) {
                4
            } else {
                5
            }
        }
        _ => {
            if f.is_negative(v) {
                6
            } else {
                7
            }
        }
    }
}

/// The immediate says for which classes an exception is raised: zero divide and invalid operation for zeros and for ones,
/// invalid operation for signalling NaNs, negative infinities, negative numbers and positive infinities.
fn fixed_up(unit: &mut Unit, f: Format, immediate: u8, [old, v, table, raises]: [u64; 4]) -> u64 {
    let v = unit.flushed(f, v);
    let class = class(f, v);
    let asked = |bit: u8, flag: u32| if immediate >> bit & 1 == 1 { flag } else { 0 };
    if raises != 0 {
        unit.raise(match class {
            1 => asked(4, IE),
            2 => asked(0, ZE) | asked(1, IE),
            3 => asked(2, ZE) | asked(3, IE),
            4 => asked(5, IE),
            5 => asked(7, IE),
            6 => asked(6, IE),
            _ => 0,
        });
    }
    let (sign, infinity) = (f.sign(), f.infinity());
    match table >> (4 * class) & 15 {
        0 => old,
        1 => v,
        2 => v | f.quiet() | infinity,
        3 => f.indefinite(),
        4 => sign | infinity,
        5 => infinity,
        6 => v & sign | infinity,
        7 => sign,
        8 => 0,
        9 => sign | f.one(),
        10 => f.one(),
        11 => f.power_of_two(-1),
        12 => constant(f, 90.0),
        13 => constant(f, core::f64::consts::FRAC_PI_2),
        14 => f.largest(),
        _ => sign | f.largest(),
    }
}

fn constant(f: Format, v: f64) -> u64 {
    let mut unit = Unit::new(MXCSR_DEFAULT);
    unit.converted([Format::DOUBLE, f], Rounding::Nearest, false, v.to_bits())
}

/// Whether a lane is of one of these classes: quiet NaN, the two zeros, the two infinities, denormal, negative, signalling NaN.
fn is_of_class(v: u64, f: Format, classes: u8) -> bool {
    let negative = f.is_negative(v);
    let [zero, infinite, denormal, nan] = [f.is_zero(v), f.is_infinite(v), f.is_denormal(v), f.is_nan(v)];
    let signalling = f.is_signalling(v);
    let is = [
        nan && !signalling,
        zero && !negative,
        zero && negative,
        infinite && !negative,
        infinite && negative,
        denormal,
        negative && !zero && !infinite && !nan,
        signalling,
    ];
    (0..8).any(|n| classes >> n & 1 == 1 && is[n])
}

/// The host's estimate of a reciprocal, or of that of a root, or the value itself rounded. Tiny results are flushed whether
/// underflow is masked or not, which the host's own modes don't show while it isn't.
fn estimated(unit: Unit, f: Format, v: u64, root: bool) -> u64 {
    match float::estimate(root, f, v) {
        Some(r) => unit.flushed_result(f, r),
        None if root => reciprocal_root(unit, f, v),
        None => reciprocal(unit, f, v),
    }
}

/// No flags are raised.
fn reciprocal(mut unit: Unit, f: Format, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if f.is_nan(v) {
        return v | f.quiet();
    }
    let sign = v & f.sign();
    match f.number(v) {
        None if f.is_zero(v) => sign | f.infinity(),
        None => sign,
        Some(x) => {
            let quotient = (1 << 127) / (x.significand >> 64);
            unit.rounded_by(f, Rounding::Nearest, Number::new(x.negative, -x.exponent, quotient << 63))
        }
    }
}

fn reciprocal_root(mut unit: Unit, f: Format, v: u64) -> u64 {
    let v = unit.flushed(f, v);
    if f.is_nan(v) {
        return v | f.quiet();
    }
    match f.number(v) {
        None if f.is_zero(v) => v | f.infinity(),
        _ if f.is_negative(v) => f.indefinite(),
        None => 0,
        Some(x) => {
            // Twice the significand where the exponent is odd.
            let odd = x.exponent.rem_euclid(2);
            let root = ((1 << (127 - odd)) / (x.significand >> 64)).isqrt();
            let exponent = -((x.exponent - odd) / 2);
            unit.rounded_by(f, Rounding::Nearest, Number::new(false, exponent, root << 95))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlate_abi::state::mxcsr::UM;

    #[test]
    fn tiny_estimates_are_flushed_whether_underflow_is_masked_or_not() {
        let large = 0xffe5_4321_cf00_0001u64;
        let v = V::from_bytes(&large.to_le_bytes());
        let reciprocal = |mxcsr| {
            let ty = VTy::x128(Lane::F64);
            let v = [&v, &V::ZERO, &V::ZERO, &V::ZERO];
            let (r, raised) = Op::Reciprocal.perform(&Operands { ty, mxcsr, v, immediate: 0 });
            (r.lane(ty, 0), raised)
        };
        let zero = 1 << 63;
        assert_eq!(reciprocal(MXCSR_DEFAULT | FTZ), (zero, 0));
        assert_eq!(reciprocal(MXCSR_DEFAULT & !UM | FTZ), (zero, 0));
        assert!(reciprocal(MXCSR_DEFAULT).0 > zero);
    }
}

//! Floating-point operations as requests of translated code that has no instructions for them.

use crate::emitter::{Compare, FBin, FPred, Fty, Round, Rounding, Ty};

/// An operation on one or two scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Bin(FBin, Fty),
    Sqrt(Fty),
    /// COMISS, or UCOMISS, which doesn't signal: bit 0 of the result is CF, bit 1 ZF, bit 2 PF; bit 3 says that the first
    /// operand is greater.
    Compare(bool, Fty),
    Mask(FPred, Fty),
    /// Raises the inexact flag or not.
    Round(Rounding, bool, Fty),
    ToInt(Round, Fty, Ty),
    FromInt(Ty, Fty),
    Convert(Fty, Fty),
}

const BIN: [FBin; 6] = [FBin::Add, FBin::Sub, FBin::Mul, FBin::Div, FBin::Min, FBin::Max];
const FORMATS: [Fty; 2] = [Fty::F32, Fty::F64];
const INTEGERS: [Ty; 4] = [Ty::I8, Ty::I16, Ty::I32, Ty::I64];
const ROUND: [Round; 2] = [Round::Current, Round::Truncate];
const BOOLS: [bool; 2] = [false, true];

impl Operation {
    /// The number by which code asks for it: a byte for the kind and one for each parameter.
    pub fn request(self) -> u64 {
        let [kind, a, b, c] = match self {
            Self::Bin(op, ty) => [0, op as u8, ty as u8, 0],
            Self::Sqrt(ty) => [1, ty as u8, 0, 0],
            Self::Compare(signals, ty) => [2, signals.into(), ty as u8, 0],
            Self::Mask(pred, ty) => [3, pred.number(), ty as u8, 0],
            Self::Round(mode, inexact, ty) => [4, mode as u8, inexact.into(), ty as u8],
            Self::ToInt(round, from, to) => [5, round as u8, from as u8, to as u8],
            Self::FromInt(from, to) => [6, from as u8, to as u8, 0],
            Self::Convert(from, to) => [7, from as u8, to as u8, 0],
        };
        u64::from(u32::from_le_bytes([kind, a, b, c]))
    }

    /// The operation of a number, if there is one.
    pub fn of_request(request: u64) -> Option<Self> {
        fn of<T: Copy>(all: &[T], n: u8) -> Option<T> {
            all.get(usize::from(n)).copied()
        }
        let [kind, a, b, c] = u32::try_from(request).ok()?.to_le_bytes();
        Some(match kind {
            0 => Self::Bin(of(&BIN, a)?, of(&FORMATS, b)?),
            1 => Self::Sqrt(of(&FORMATS, a)?),
            2 => Self::Compare(of(&BOOLS, a)?, of(&FORMATS, b)?),
            3 => Self::Mask((a < FPred::COUNT).then(|| FPred::of_number(a))?, of(&FORMATS, b)?),
            4 => Self::Round(of(&Rounding::ALL, a)?, of(&BOOLS, b)?, of(&FORMATS, c)?),
            5 => Self::ToInt(of(&ROUND, a)?, of(&FORMATS, b)?, of(&INTEGERS, c)?),
            6 => Self::FromInt(of(&INTEGERS, a)?, of(&FORMATS, b)?),
            7 => Self::Convert(of(&FORMATS, a)?, of(&FORMATS, b)?),
            _ => return None,
        })
    }

    /// Performs it by the modes in `mxcsr` and of the host's unit.
    pub fn perform(self, mxcsr: u32, a: u64, b: u64) -> u64 {
        match self {
            Self::Bin(op, ty) => super::bin(mxcsr, op, ty, a, b),
            Self::Sqrt(ty) => super::sqrt(mxcsr, ty, a),
            Self::Compare(signals, ty) => bits(super::compare(mxcsr, signals, ty, a, b)),
            Self::Mask(pred, ty) => super::mask(mxcsr, pred, ty, a, b),
            Self::Round(mode, inexact, ty) => super::round(mxcsr, mode, inexact, ty, a),
            Self::ToInt(round, from, to) => super::to_int(mxcsr, round, from, to, a),
            Self::FromInt(from, to) => super::from_int(from, to, a),
            Self::Convert(from, to) => super::convert(mxcsr, from, to, a),
        }
    }
}

fn bits(c: Compare<bool>) -> u64 {
    let conditions = [c.carry, c.zero, c.unordered, c.above];
    conditions.into_iter().enumerate().map(|(n, c)| u64::from(c) << n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_lead_back_to_their_operations() {
        let mut all = vec![];
        for ty in FORMATS {
            all.push(Operation::Sqrt(ty));
            all.extend(BIN.map(|op| Operation::Bin(op, ty)));
            all.extend(BOOLS.map(|signals| Operation::Compare(signals, ty)));
            all.extend((0..FPred::COUNT).map(|n| Operation::Mask(FPred::of_number(n), ty)));
            all.extend(Rounding::ALL.into_iter().flat_map(|mode| BOOLS.map(|b| Operation::Round(mode, b, ty))));
            all.extend(INTEGERS.into_iter().flat_map(|to| ROUND.map(|round| Operation::ToInt(round, ty, to))));
            all.extend(INTEGERS.map(|from| Operation::FromInt(from, ty)));
            all.extend(FORMATS.map(|to| Operation::Convert(ty, to)));
        }
        for operation in all {
            assert_eq!(Operation::of_request(operation.request()), Some(operation));
        }
        assert_eq!(Operation::of_request(8), None);
        assert_eq!(Operation::of_request(u64::MAX), None);
    }
}

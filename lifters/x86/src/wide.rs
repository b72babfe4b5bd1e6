//! Operations on whole vectors with a body in Rust. An engine calls it where it has no instruction of its own.
//!
//! The interpreter calls it directly. Translated code puts the operands into [`xlate_abi::state::CpuState::scratch`]
//! and calls the helper [`xlate_abi::state::Helper::Wide`] with a [`Wide::request`]; an emitter that has better overrides
//! [`crate::Emitter::wide`]. An operation of one lane (a scalar one) has a shape of one lane, such as 32 bits of F32: only
//! that lane of the operands is looked at, and the result is zero above it.

pub mod crypto;
pub mod float;
pub mod integer;
pub mod permute;

use xlate_abi::state::CpuState;

use crate::emitter::{Lane, VTy};
use crate::interpreter::V;
use crate::interpreter::float::raise_in;

/// An enumeration of operations with a list of all of them.
macro_rules! operations {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $operation:ident,)* }) => {
        $(#[$about])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$what])* $operation,)*
        }

        impl $name {
            /// By number.
            pub const ALL: &[Self] = &[$(Self::$operation,)*];
        }
    };
}
use operations;

/// An operation, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wide {
    Integer(integer::Op),
    Permute(permute::Op),
    Float(float::Op),
    Crypto(crypto::Op),
}

/// What an operation works on.
pub struct Operands<'v> {
    pub ty: VTy,
    /// The guest's MXCSR; its modes are the host's while this runs, as far as the host has them.
    pub mxcsr: u32,
    /// As many as the operation has; zero above their widths.
    pub v: [&'v V; 4],
    pub immediate: u8,
}

const LANES: [Lane; 6] = [Lane::I8, Lane::I16, Lane::I32, Lane::I64, Lane::F32, Lane::F64];

impl Wide {
    /// The number by which code asks for it: family, operation, lane, and the width in bytes.
    pub fn request(self, ty: VTy) -> u64 {
        let [family, op] = match self {
            Self::Integer(op) => [0, op as u8],
            Self::Permute(op) => [1, op as u8],
            Self::Float(op) => [2, op as u8],
            Self::Crypto(op) => [3, op as u8],
        };
        u64::from(u32::from_le_bytes([family, op, ty.lane as u8, (ty.bits / 8) as u8]))
    }

    /// The operation and shape of a number, if there is one.
    pub fn of_request(request: u64) -> Option<(Self, VTy)> {
        fn of<T: Copy>(all: &[T], n: u8) -> Option<T> {
            all.get(usize::from(n)).copied()
        }
        let [family, op, lane, bytes] = u32::try_from(request).ok()?.to_le_bytes();
        let op = match family {
            0 => Self::Integer(of(integer::Op::ALL, op)?),
            1 => Self::Permute(of(permute::Op::ALL, op)?),
            2 => Self::Float(of(float::Op::ALL, op)?),
            3 => Self::Crypto(of(crypto::Op::ALL, op)?),
            _ => return None,
        };
        let ty = VTy { lane: of(&LANES, lane)?, bits: u32::from(bytes) * 8 };
        (ty.bits <= 512 && ty.lanes() > 0).then_some((op, ty))
    }

    /// The width of the resulting vector: 128, 256 or 512.
    pub fn result_bits(self, ty: VTy) -> u32 {
        let bits = match self {
            Self::Integer(op) => op.result_bits(ty),
            Self::Float(op) => op.result_bits(ty),
            Self::Permute(_) | Self::Crypto(_) => ty.bits,
        };
        bits.max(128)
    }

    /// Performs it. Resulting bits are the low ones of the vector. The second value has the floating-point exception flags
    /// that the host doesn't know of, to be given to [`float::raise_in`](crate::interpreter::float::raise_in).
    pub fn perform(self, o: &Operands<'_>) -> (V, u32) {
        match self {
            Self::Integer(op) => (op.perform(o), 0),
            Self::Permute(op) => (op.perform(o), 0),
            Self::Float(op) => op.perform(o),
            Self::Crypto(op) => (op.perform(o), 0),
        }
    }
}

/// The helper [`xlate_abi::state::Helper::Wide`].
///
/// # Panics
/// On a request that no emitter makes.
pub extern "C" fn execute(state: &mut CpuState, request: u64, immediate: u64) -> u64 {
    let Some((op, ty)) = Wide::of_request(request) else { panic!("{request:#x} is no operation on vectors") };
    let v = state.scratch.each_ref().map(|bytes| V(*bytes));
    let operands = Operands { ty, mxcsr: state.mxcsr, v: v.each_ref(), immediate: immediate as u8 };
    let (result, raised) = op.perform(&operands);
    raise_in(&mut state.mxcsr, raised);
    state.scratch[0] = result.0;
    result.lane(VTy { lane: Lane::I64, bits: 64 }, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_lead_back_to_their_operations() {
        let all = (integer::Op::ALL.iter().map(|op| Wide::Integer(*op)))
            .chain(permute::Op::ALL.iter().map(|op| Wide::Permute(*op)))
            .chain(float::Op::ALL.iter().map(|op| Wide::Float(*op)))
            .chain(crypto::Op::ALL.iter().map(|op| Wide::Crypto(*op)));
        for op in all {
            for lane in LANES {
                for bits in [64, 128, 256, 512] {
                    let ty = VTy { lane, bits };
                    assert_eq!(Wide::of_request(op.request(ty)), Some((op, ty)));
                }
            }
        }
        assert_eq!(Wide::of_request(u64::MAX), None);
        assert_eq!(Wide::of_request(Wide::Integer(integer::Op::Ones).request(VTy::x128(Lane::I8)) & 0xffff), None);
    }
}

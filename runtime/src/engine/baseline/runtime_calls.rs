//! Guest memory accesses that baseline code leaves to functions: 16-byte compare-and-exchange, and atomic ones at
//! addresses the host has no instruction for.

use xlate_abi::state::CpuState;
use xlate_x86::Interpreter;
use xlate_x86::emitter::{Emitter, Rmw, Ty};

/// The entry point of `fn(state, addr)`: expected and new values in `scratch[0]`, the old one comes back there.
pub fn cmpxchg16() -> u64 {
    do_cmpxchg16 as *const () as u64
}

/// The entry point of `fn(state, addr, value) -> old`.
pub fn misaligned_rmw(op: Rmw, ty: Ty) -> u64 {
    macro_rules! by_type {
        ($op:expr) => {
            match ty {
                Ty::I8 => rmw::<{ $op as u8 }, 1> as *const (),
                Ty::I16 => rmw::<{ $op as u8 }, 2> as *const (),
                Ty::I32 => rmw::<{ $op as u8 }, 4> as *const (),
                Ty::I64 => rmw::<{ $op as u8 }, 8> as *const (),
            }
        };
    }
    let f = match op {
        Rmw::Add => by_type!(Rmw::Add),
        Rmw::Sub => by_type!(Rmw::Sub),
        Rmw::And => by_type!(Rmw::And),
        Rmw::Or => by_type!(Rmw::Or),
        Rmw::Xor => by_type!(Rmw::Xor),
        Rmw::Xchg => by_type!(Rmw::Xchg),
    };
    f as u64
}

/// The entry point of `fn(state, addr, expected, new) -> old`.
pub fn misaligned_cmpxchg(ty: Ty) -> u64 {
    let f = match ty {
        Ty::I8 => cmpxchg::<1> as *const (),
        Ty::I16 => cmpxchg::<2> as *const (),
        Ty::I32 => cmpxchg::<4> as *const (),
        Ty::I64 => cmpxchg::<8> as *const (),
    };
    f as u64
}

fn width(bytes: usize) -> Ty {
    Ty::from_bytes(bytes).expect("instantiated for 1, 2, 4 and 8 only")
}

fn op_of(number: u8) -> Rmw {
    [Rmw::Add, Rmw::Sub, Rmw::And, Rmw::Or, Rmw::Xor, Rmw::Xchg]
        .into_iter()
        .find(|op| *op as u8 == number)
        .expect("instantiated for the operations only")
}

extern "C" fn do_cmpxchg16(state: &mut CpuState, addr: u64) {
    let word = |state: &CpuState, n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&state.scratch[0][8 * n..][..8]);
        u64::from_le_bytes(bytes)
    };
    let w = [0, 1, 2, 3].map(|n| word(state, n));
    let old = Interpreter { state }.cmpxchg16(addr, [w[0], w[1]], [w[2], w[3]]);
    for (n, v) in old.into_iter().enumerate() {
        state.scratch[0][8 * n..][..8].copy_from_slice(&v.to_le_bytes());
    }
}

extern "C" fn rmw<const OP: u8, const BYTES: usize>(state: &mut CpuState, addr: u64, value: u64) -> u64 {
    Interpreter { state }.atomic_rmw(op_of(OP), width(BYTES), addr, value)
}

extern "C" fn cmpxchg<const BYTES: usize>(state: &mut CpuState, addr: u64, expected: u64, new: u64) -> u64 {
    Interpreter { state }.cmpxchg(width(BYTES), addr, expected, new)
}

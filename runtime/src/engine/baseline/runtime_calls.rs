//! Guest memory accesses that baseline code leaves to functions: 16-byte compare-and-exchange, and atomic ones at
//! addresses the host has no instruction for.

use xlate_abi::state::CpuState;
use xlate_x86::Interpreter;
use xlate_x86::emitter::{Emitter, Rmw, Ty};

/// One of the functions, by a number that stays the same from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(u32);

const TYPES: [Ty; 4] = [Ty::I8, Ty::I16, Ty::I32, Ty::I64];
const OPERATIONS: [Rmw; 6] = [Rmw::Add, Rmw::Sub, Rmw::And, Rmw::Or, Rmw::Xor, Rmw::Xchg];

/// Number of the first comparing exchange; one for each type.
const CMPXCHG: u32 = 1;
/// Number of the first read-modify-write; one for each operation and type.
const RMW: u32 = CMPXCHG + TYPES.len() as u32;

fn type_number(ty: Ty) -> u32 {
    ty.bytes().trailing_zeros()
}

impl Function {
    /// `fn(state, addr)`: expected and new values in `scratch[0]`, the old one comes back there.
    pub const CMPXCHG16: Self = Self(0);

    /// `fn(state, addr, value) -> old`.
    pub fn misaligned_rmw(op: Rmw, ty: Ty) -> Self {
        Self(RMW + op as u32 * TYPES.len() as u32 + type_number(ty))
    }

    /// `fn(state, addr, expected, new) -> old`.
    pub fn misaligned_cmpxchg(ty: Ty) -> Self {
        Self(CMPXCHG + type_number(ty))
    }

    pub fn number(self) -> u32 {
        self.0
    }

    /// The entry point of the function of a number, if there is one.
    pub fn address(number: u32) -> Option<u64> {
        let f = match number {
            0 => do_cmpxchg16 as *const (),
            CMPXCHG..RMW => cmpxchg_of(TYPES[(number - CMPXCHG) as usize]),
            _ => {
                let number = (number - RMW) as usize;
                rmw_of(*OPERATIONS.get(number / TYPES.len())?, TYPES[number % TYPES.len()])
            }
        };
        Some(f as u64)
    }
}

fn rmw_of(op: Rmw, ty: Ty) -> *const () {
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
    match op {
        Rmw::Add => by_type!(Rmw::Add),
        Rmw::Sub => by_type!(Rmw::Sub),
        Rmw::And => by_type!(Rmw::And),
        Rmw::Or => by_type!(Rmw::Or),
        Rmw::Xor => by_type!(Rmw::Xor),
        Rmw::Xchg => by_type!(Rmw::Xchg),
    }
}

fn cmpxchg_of(ty: Ty) -> *const () {
    match ty {
        Ty::I8 => cmpxchg::<1> as *const (),
        Ty::I16 => cmpxchg::<2> as *const (),
        Ty::I32 => cmpxchg::<4> as *const (),
        Ty::I64 => cmpxchg::<8> as *const (),
    }
}

fn width(bytes: usize) -> Ty {
    Ty::from_bytes(bytes).expect("instantiated for 1, 2, 4 and 8 only")
}

fn op_of(number: u8) -> Rmw {
    OPERATIONS.into_iter().find(|op| *op as u8 == number).expect("instantiated for the operations only")
}

extern "C" fn do_cmpxchg16(state: &mut CpuState, addr: u64) {
    let word = |state: &CpuState, n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&state.scratch[0][8 * n..][..8]);
        u64::from_le_bytes(bytes)
    };
    let w = [0, 1, 2, 3].map(|n| word(state, n));
    let old = Interpreter::on(state).cmpxchg16(addr, [w[0], w[1]], [w[2], w[3]]);
    for (n, v) in old.into_iter().enumerate() {
        state.scratch[0][8 * n..][..8].copy_from_slice(&v.to_le_bytes());
    }
}

extern "C" fn rmw<const OP: u8, const BYTES: usize>(state: &mut CpuState, addr: u64, value: u64) -> u64 {
    Interpreter::on(state).atomic_rmw(op_of(OP), width(BYTES), addr, value)
}

extern "C" fn cmpxchg<const BYTES: usize>(state: &mut CpuState, addr: u64, expected: u64, new: u64) -> u64 {
    Interpreter::on(state).cmpxchg(width(BYTES), addr, expected, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_a_number_of_its_own() {
        let mut all = vec![Function::CMPXCHG16];
        all.extend(TYPES.map(Function::misaligned_cmpxchg));
        all.extend(OPERATIONS.into_iter().flat_map(|op| TYPES.map(|ty| Function::misaligned_rmw(op, ty))));
        for (n, function) in all.iter().enumerate() {
            assert_eq!(function.number(), n as u32);
            assert!(Function::address(function.number()).is_some());
        }
        assert_eq!(Function::address(all.len() as u32), None);
        assert_eq!(Function::address(u32::MAX), None);
    }

    #[test]
    fn a_number_leads_to_its_function() {
        let mut state = CpuState::default();
        let mut cell = 0x11u64;
        let at = &raw mut cell as u64;
        let address = Function::address(Function::misaligned_rmw(Rmw::Sub, Ty::I64).number()).unwrap();
        // SAFETY: the entry point of a function of this type.
        let f: extern "C" fn(&mut CpuState, u64, u64) -> u64 = unsafe { core::mem::transmute(address) };
        assert_eq!((f(&mut state, at, 1), cell), (0x11, 0x10));
        let address = Function::address(Function::misaligned_cmpxchg(Ty::I8).number()).unwrap();
        // SAFETY: as above.
        let f: extern "C" fn(&mut CpuState, u64, u64, u64) -> u64 = unsafe { core::mem::transmute(address) };
        assert_eq!((f(&mut state, at, 0x10, 0x22), cell), (0x10, 0x22));
    }
}

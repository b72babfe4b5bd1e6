//! What tier 1's code refers to outside of itself: addresses of this process, filled in when the code is put in its
//! place. So code can be kept over runs.

use cranelift_codegen::ir::UserExternalName;
use serde::{Deserialize, Serialize};

use super::runtime_calls::Function;
use crate::engine::entry;

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Symbol {
    /// A link slot of the code's own, by its number.
    Slot(u32),
    /// The block's counter.
    Counter,
    /// The stubs of [`entry`].
    Promote,
    Safepoint,
    Continue,
    /// A function of [`super::runtime_calls`], by its number.
    Function(u32),
}

/// Eight bytes of code that hold a symbol's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    pub offset: u32,
    pub symbol: Symbol,
}

/// Bits of [`Symbol::number`] that a name's index takes.
const NUMBER_BITS: u32 = 24;

impl Symbol {
    /// Its name for Cranelift.
    pub(super) fn name(self) -> UserExternalName {
        let (namespace, index) = match self {
            Self::Slot(n) => (0, n),
            Self::Function(n) => (1, n),
            Self::Counter => (2, 0),
            Self::Promote => (2, 1),
            Self::Safepoint => (2, 2),
            Self::Continue => (2, 3),
        };
        UserExternalName { namespace, index }
    }

    /// The symbol of a name.
    pub(super) fn of(name: &UserExternalName) -> Option<Self> {
        Some(match (name.namespace, name.index) {
            (0, n) => Self::Slot(n),
            (1, n) => Self::Function(n),
            (2, 0) => Self::Counter,
            (2, 1) => Self::Promote,
            (2, 2) => Self::Safepoint,
            (2, 3) => Self::Continue,
            _ => return None,
        })
    }

    /// Its number in files.
    pub fn number(self) -> u32 {
        let name = self.name();
        name.namespace << NUMBER_BITS | name.index
    }

    /// The symbol of a number.
    pub fn numbered(number: u32) -> Option<Self> {
        let name = UserExternalName { namespace: number >> NUMBER_BITS, index: number & ((1 << NUMBER_BITS) - 1) };
        Self::of(&name)
    }

    /// Its address, where that is the same for all code of this process.
    fn common_address(self) -> Option<u64> {
        match self {
            Self::Slot(_) | Self::Counter => None,
            Self::Promote => Some(entry::promote_stub()),
            Self::Safepoint => Some(entry::safepoint_stub()),
            Self::Continue => Some(entry::continue_stub()),
            Self::Function(n) => Function::address(n),
        }
    }
}

/// Fills the addresses in. `slots` are those of the code's link slots. False if there is no such symbol, no address of it,
/// or no place for it: such code didn't come from this compiler.
#[must_use]
pub fn relocate(
    code: &mut [u8],
    mut relocations: impl Iterator<Item = Option<Relocation>>,
    slots: &[u64],
    counter: Option<u64>,
) -> bool {
    relocations.all(|relocation| {
        let Some(r) = relocation else { return false };
        let address = match r.symbol {
            Symbol::Slot(n) => slots.get(n as usize).copied(),
            Symbol::Counter => counter,
            other => other.common_address(),
        };
        let start = r.offset as usize;
        let place = start.checked_add(8).and_then(|end| code.get_mut(start..end));
        let (Some(address), Some(place)) = (address, place) else { return false };
        place.copy_from_slice(&address.to_le_bytes());
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_symbols() {
        use Symbol::*;
        for symbol in [Slot(0), Slot(7), Counter, Promote, Safepoint, Continue, Function(0), Function(9)] {
            assert_eq!(Symbol::of(&symbol.name()), Some(symbol));
            assert_eq!(Symbol::numbered(symbol.number()), Some(symbol));
        }
        assert_eq!(Symbol::of(&UserExternalName { namespace: 3, index: 0 }), None);
    }

    #[test]
    fn addresses_are_filled_in_where_they_belong() {
        let at = |offset, symbol| Some(Relocation { offset, symbol });
        let mut code = [0xcc; 20];
        let two = [at(1, Symbol::Slot(1)), at(12, Symbol::Counter)];
        assert!(relocate(&mut code, two.into_iter(), &[5, 6], Some(7)));
        assert_eq!(code[..12], [0xcc, 6, 0, 0, 0, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc]);
        assert_eq!(code[12..], [7, 0, 0, 0, 0, 0, 0, 0]);
        let none = at(0, Symbol::Function(1000));
        for wrong in [at(13, Symbol::Promote), at(u32::MAX, Symbol::Promote), at(0, Symbol::Slot(2)), none, None] {
            assert!(!relocate(&mut code, [wrong].into_iter(), &[5, 6], Some(7)));
        }
        assert!(!relocate(&mut code, [at(0, Symbol::Counter)].into_iter(), &[], None));
    }
}

//! Ciphers, hashes, carry-less products and Galois fields.

use super::{Operands, operations};
use crate::interpreter::V;

operations! {
    /// An operation of a cipher or hash.
    Op {
        /// AESENC: a round of encryption of the first operand, each 128 bits by themselves, with the second as the key.
        AesEncrypt,
    }
}

impl Op {
    pub fn perform(self, _o: &Operands<'_>) -> V {
        todo!("{self:?}")
    }
}

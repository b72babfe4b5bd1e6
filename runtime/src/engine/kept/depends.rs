//! Which guest memory decides what a block is compiled to: all that decoding it looks at, which is more than its own bytes,
//! because what flags are live after it is seen in the code there.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use xlate_abi::blocks::PAGE_LEN;
use xlate_abi::cache::checksum;
use xlate_x86::Block;
use xlate_x86::decode::CodeSource;

use crate::engine::fetch::is_fixed;
use crate::engine::{GuestCode, decode_fixed};

/// Guest memory, and the pages of it that were looked at.
struct Looked<'m> {
    memory: &'m dyn GuestCode,
    pages: RefCell<BTreeSet<u64>>,
}

impl CodeSource for Looked<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let last = pc.saturating_add(buffer.len().saturating_sub(1) as u64);
        // Where the code ends matters, too.
        self.pages.borrow_mut().extend((pc / PAGE_LEN..=last / PAGE_LEN).map(|page| page * PAGE_LEN));
        self.memory.fetch_fixed(pc, buffer)
    }

    fn fetch_ahead(&self, pc: u64, buffer: &mut [u8]) -> usize {
        if is_fixed(self.memory, pc) { self.fetch(pc, buffer) } else { 0 }
    }
}

/// Decodes the block at `pc`; gives the pages that this looked at, too.
pub fn decode_noting(pc: u64, precise: bool, memory: &dyn GuestCode) -> (Block, Vec<u64>) {
    let looked = Looked { memory, pages: RefCell::default() };
    let block = decode_fixed(&looked, pc, precise);
    (block, looked.pages.into_inner().into_iter().collect())
}

/// The sum of a page's executable bytes that the guest can't write to.
pub fn page_sum(address: u64, memory: &dyn GuestCode) -> u64 {
    let mut bytes = [0; PAGE_LEN as usize];
    let n = memory.fetch_fixed(address, &mut bytes);
    checksum(&bytes[..n])
}

/// Sums of pages that are as they are for a while.
#[derive(Default)]
pub struct Sums(HashMap<u64, u64>);

impl Sums {
    pub fn of(&mut self, address: u64, memory: &dyn GuestCode) -> u64 {
        *self.0.entry(address).or_insert_with(|| page_sum(address, memory))
    }
}

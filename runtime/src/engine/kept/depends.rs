//! Which guest memory decides what a block is compiled to: all that decoding it looks at, which is more than its own bytes,
//! for what flags are live behind it is seen in the code there.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use xlate_abi::blocks::PAGE_LEN;
use xlate_abi::cache::checksum;
use xlate_abi::protocol::FlagRule;
use xlate_x86::Block;
use xlate_x86::decode::{CodeSource, reads_flags};

use crate::engine::{GuestCode, decode_fixed, flags_are_used_across};

/// Guest memory, and the pages of it that were looked at.
struct Looked<'m> {
    memory: &'m dyn GuestCode,
    pages: RefCell<BTreeSet<u64>>,
}

impl CodeSource for Looked<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let last = pc.saturating_add(buffer.len().saturating_sub(1) as u64);
        // Where no code is any more decides, too.
        self.pages.borrow_mut().extend((pc / PAGE_LEN..=last / PAGE_LEN).map(|page| page * PAGE_LEN));
        self.memory.fetch_fixed(pc, buffer)
    }
}

/// Decodes the block of before once more; gives the pages that this looked at, and whether the block reads no flags
/// from before itself if that is asked. `None` if it has become another one, or shows that its rule about flags doesn't
/// hold.
pub fn pages_of(
    before: &Block,
    rule: FlagRule,
    precise: bool,
    ask: bool,
    memory: &dyn GuestCode,
) -> Option<(Vec<u64>, bool)> {
    let looked = Looked { memory, pages: RefCell::default() };
    let block = decode_fixed(rule, &looked, before.pc, precise);
    let shows = rule == FlagRule::Convention && flags_are_used_across(&block, |pc| reads_flags(&looked, pc));
    if shows || !same(&block, before) {
        return None;
    }
    let follows = ask && !reads_flags(&looked, before.pc);
    Some((looked.pages.into_inner().into_iter().collect(), follows))
}

fn same(a: &Block, b: &Block) -> bool {
    a.exit == b.exit
        && a.insns.len() == b.insns.len()
        && a.insns.iter().zip(&b.insns).all(|(a, b)| a.live() == b.live() && a.raw.eq_all_bits(&b.raw))
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

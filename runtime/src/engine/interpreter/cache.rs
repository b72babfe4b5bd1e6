//! The decoded cache: which decoded blocks the interpreter may run without asking the engine. The table of blocks keeps it
//! honest: a block that is dropped or gets better code leaves it.

use std::cell::Cell;

use super::decoded::DecodedBlock;

/// Blocks in the cache; a power of two. Python's start executes some 38,000 blocks, a tenth of them often.
const ENTRIES: usize = 1 << 16;

/// Decoded blocks by address. All null when empty, so that pages that are never used cost nothing. Cells, for a fault
/// handler removes blocks while the interpreter looks for others.
pub struct DecodedCache {
    entries: Box<[Cell<*const DecodedBlock>]>,
    /// Changes whenever a block is removed: what blocks remember of their successors is worth nothing then.
    epoch: Cell<u64>,
}

fn index(pc: u64) -> usize {
    (pc ^ pc >> 15) as usize & (ENTRIES - 1)
}

impl Default for DecodedCache {
    fn default() -> Self {
        // SAFETY: zeroes are null pointers.
        let entries = unsafe { Box::new_zeroed_slice(ENTRIES).assume_init() };
        Self { entries, epoch: Cell::new(1) }
    }
}

impl DecodedCache {
    /// Lets the interpreter run a block until it is removed.
    pub fn insert(&self, block: &DecodedBlock) {
        self.entries[index(block.block.pc)].set(block);
    }

    /// Removes the block at `pc`.
    pub fn remove(&self, pc: u64) {
        self.epoch.set(self.epoch.get() + 1);
        if self.get(pc).is_some() {
            self.entries[index(pc)].set(core::ptr::null());
        }
    }

    /// Removes all.
    pub fn clear(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
    }

    /// The block at `pc`, if the interpreter may run it.
    #[inline]
    pub fn get(&self, pc: u64) -> Option<*const DecodedBlock> {
        let block = self.entries[index(pc)].get();
        // SAFETY: what is in the cache lives: it is removed before it is dropped.
        (!block.is_null() && unsafe { (*block).block.pc } == pc).then_some(block)
    }

    /// The block at `pc`, which comes after another one. Most blocks are always followed by the same one or two.
    #[inline]
    pub(super) fn successor(&self, from: &DecodedBlock, pc: u64) -> Option<*const DecodedBlock> {
        let epoch = self.epoch.get();
        // SAFETY: what was in the cache in this epoch lives: nothing has been removed since.
        if let Some(block) = unsafe { from.successor(pc, epoch) } {
            return Some(block);
        }
        from.observe(pc);
        let block = self.get(pc)?;
        // SAFETY: what is in the cache lives.
        from.set_successor(unsafe { &*block }, epoch);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::interpreter::tests::decoded;

    #[test]
    fn blocks_are_there_until_removed_or_displaced() {
        let cache = DecodedCache::default();
        let a = decoded(0x1000);
        assert!(cache.get(0).is_none());
        cache.insert(&a);
        assert_eq!(cache.get(0x1000), Some(&raw const a));
        cache.remove(0x1000 + ENTRIES as u64);
        assert_eq!(cache.get(0x1000), Some(&raw const a));
        cache.remove(0x1000);
        assert!(cache.get(0x1000).is_none());
    }

    #[test]
    fn successors_are_remembered_until_one_is_removed() {
        let (a, b) = (decoded(0x1000), decoded(0x2000));
        let cache = DecodedCache::default();
        cache.insert(&b);
        assert_eq!(cache.successor(&a, 0x2000), Some(&raw const b));
        // Displaced, but not dropped.
        cache.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
        assert_eq!(cache.successor(&a, 0x2000), Some(&raw const b));
        cache.remove(0x2000);
        assert!(cache.successor(&a, 0x2000).is_none());
    }

    #[test]
    fn both_sides_of_a_branch_are_remembered() {
        let (from, behind, taken, other) = (decoded(0x1000), decoded(0x1002), decoded(0x2000), decoded(0x3000));
        let cache = DecodedCache::default();
        [&behind, &taken, &other].into_iter().for_each(|block| cache.insert(block));
        let follow = |cache: &DecodedCache| [0x1002, 0x2000].map(|pc| cache.successor(&from, pc));
        let both = [Some(&raw const behind), Some(&raw const taken)];
        assert_eq!(follow(&cache), both);
        assert_eq!(cache.successor(&from, 0x3000), Some(&raw const other));
        assert_eq!(follow(&cache), both);
        // Displaced, but not dropped.
        cache.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
        assert_eq!(follow(&cache), both);
        assert!(cache.successor(&from, 0x3000).is_none(), "elsewhere it led to 0x2000 the last time");
        cache.clear();
        assert_eq!(follow(&cache), [None, None]);
    }
}

//! Tier 0's own dispatcher: it goes from interpreted block to interpreted block without asking the engine, which would
//! look each of them up in several tables and switch the floating-point mode twice.
//!
//! What it may run by itself stands in [`Known`], a direct-mapped cache of decoded blocks that the table of blocks keeps
//! honest: a block that is dropped or gets better code leaves it. Blocks whose turn to be compiled has come, and all
//! that isn't there, go back to the engine.

use std::cell::Cell;

use xlate_abi::state::CpuState;
use xlate_x86::interpreter::{DecodedBlock, run_block_carefully, run_blocks};

use super::fpmode;

/// Blocks in the cache; a power of two. Python's start executes some 38,000 blocks, a tenth of them often.
const ENTRIES: usize = 1 << 16;

/// Blocks that are run before the engine gets to look for tier 2's answers.
const ROUND: u32 = 4096;

/// Decoded blocks by address. All null when empty, so that pages that are never used cost nothing. Cells, for a fault
/// handler forgets blocks while tier 0 looks for others.
pub struct Known {
    entries: Box<[Cell<*const DecodedBlock>]>,
    /// Changes whenever a block is forgotten: what blocks remember of their followers is worth nothing then.
    epoch: Cell<u64>,
}

fn index(pc: u64) -> usize {
    (pc ^ pc >> 15) as usize & (ENTRIES - 1)
}

impl Default for Known {
    fn default() -> Self {
        // SAFETY: zeroes are null pointers.
        let entries = unsafe { Box::new_zeroed_slice(ENTRIES).assume_init() };
        Self { entries, epoch: Cell::new(1) }
    }
}

impl Known {
    /// Lets tier 0 run a block until it is forgotten.
    pub fn insert(&self, block: &DecodedBlock) {
        self.entries[index(block.block.pc)].set(block);
    }

    /// Forgets the block at `pc`.
    pub fn forget(&self, pc: u64) {
        self.epoch.set(self.epoch.get() + 1);
        if self.get(pc).is_some() {
            self.entries[index(pc)].set(core::ptr::null());
        }
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
    }

    /// The block at `pc`, if tier 0 may run it.
    #[inline]
    pub fn get(&self, pc: u64) -> Option<*const DecodedBlock> {
        let block = self.entries[index(pc)].get();
        // SAFETY: what is known lives: it is forgotten before it is dropped.
        (!block.is_null() && unsafe { (*block).block.pc } == pc).then_some(block)
    }

    /// The block at `pc`, which was come to from another one. Most blocks are always followed by the same one or two.
    #[inline]
    fn behind(&self, from: &DecodedBlock, pc: u64) -> Option<*const DecodedBlock> {
        let epoch = self.epoch.get();
        // SAFETY: what was known in this epoch lives: nothing has been forgotten since.
        if let Some(block) = unsafe { from.follower(pc, epoch) } {
            return Some(block);
        }
        from.saw(pc);
        let block = self.get(pc)?;
        // SAFETY: what is known lives.
        from.set_follower(unsafe { &*block }, epoch);
        Some(block)
    }
}

/// A stay in tier 0.
pub struct Stay<'k> {
    first: *const DecodedBlock,
    /// None: the first block alone.
    known: Option<&'k Known>,
    /// Whether each instruction's floating-point exceptions are looked at; the host's exception flags are clear then.
    carefully: bool,
    /// Blocks run so far; for statistics: a fault in one of them may keep the last ones from being counted.
    pub blocks: u64,
}

impl<'k> Stay<'k> {
    /// Runs `first` and what follows.
    pub fn new(first: *const DecodedBlock, known: &'k Known) -> Self {
        Self { first, known: Some(known), carefully: false, blocks: 0 }
    }

    /// Runs one block.
    pub fn single(block: &DecodedBlock) -> Self {
        Self { first: block, known: None, carefully: false, blocks: 0 }
    }

    /// Runs one block as the guest's floating-point mode wants it.
    pub fn in_mode(block: &DecodedBlock, state: &mut CpuState) -> Self {
        let carefully = fpmode::wants_care(state.mxcsr);
        if carefully {
            state.mxcsr = fpmode::gather(state.mxcsr);
        }
        Self { carefully, ..Self::single(block) }
    }

    /// Interprets until a block leaves or the engine has to decide.
    ///
    /// # Safety
    /// As for [`run_blocks`]; the known blocks live as long as this runs, even if they are forgotten meanwhile.
    pub unsafe fn run(&mut self, state: &mut CpuState) {
        self.blocks = 1;
        if self.carefully {
            // SAFETY: the caller's contract.
            return unsafe { run_block_carefully(state, &*self.first) };
        }
        let mut left = ROUND;
        let (known, blocks) = (self.known, &mut self.blocks);
        let next = |from: &DecodedBlock, state: &CpuState| {
            left -= 1;
            if left == 0 || super::pending(state) {
                return None;
            }
            let block = known?.behind(from, state.rip)?;
            // SAFETY: what is known lives.
            let (runs, turn) = unsafe { (&(*block).runs, &(*block).turn) };
            if runs.get() >= turn.get() {
                return None;
            }
            runs.set(runs.get() + 1);
            *blocks += 1;
            Some(block)
        };
        // SAFETY: the caller's contract.
        unsafe { run_blocks(state, self.first, next) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlate_x86::decode::{SliceSource, decode_block};

    fn decoded(pc: u64) -> DecodedBlock {
        // jmp short to itself
        DecodedBlock::new(decode_block(&SliceSource { address: pc, bytes: &[0xeb, 0xfe] }, pc, 64, false))
    }

    #[test]
    fn blocks_are_known_until_forgotten_or_displaced() {
        let known = Known::default();
        let a = decoded(0x1000);
        assert!(known.get(0).is_none());
        known.insert(&a);
        assert_eq!(known.get(0x1000), Some(&raw const a));
        known.forget(0x1000 + ENTRIES as u64);
        assert_eq!(known.get(0x1000), Some(&raw const a));
        known.forget(0x1000);
        assert!(known.get(0x1000).is_none());
    }

    #[test]
    fn followers_are_remembered_until_one_is_forgotten() {
        let (a, b) = (decoded(0x1000), decoded(0x2000));
        let known = Known::default();
        known.insert(&b);
        assert_eq!(known.behind(&a, 0x2000), Some(&raw const b));
        // Displaced, but not dropped.
        known.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
        assert_eq!(known.behind(&a, 0x2000), Some(&raw const b));
        known.forget(0x2000);
        assert!(known.behind(&a, 0x2000).is_none());
    }

    #[test]
    fn both_sides_of_a_branch_are_remembered() {
        let (from, behind, taken, other) = (decoded(0x1000), decoded(0x1002), decoded(0x2000), decoded(0x3000));
        let known = Known::default();
        [&behind, &taken, &other].into_iter().for_each(|block| known.insert(block));
        let follow = |known: &Known| [0x1002, 0x2000].map(|pc| known.behind(&from, pc));
        let both = [Some(&raw const behind), Some(&raw const taken)];
        assert_eq!(follow(&known), both);
        assert_eq!(known.behind(&from, 0x3000), Some(&raw const other));
        assert_eq!(follow(&known), both);
        // Displaced, but not dropped.
        known.entries.iter().for_each(|entry| entry.set(core::ptr::null()));
        assert_eq!(follow(&known), both);
        assert!(known.behind(&from, 0x3000).is_none(), "elsewhere it led to 0x2000 the last time");
        known.clear();
        assert_eq!(follow(&known), [None, None]);
    }

    #[test]
    fn the_engine_gets_to_decide_at_the_limit() {
        let block = decoded(0x2000);
        let known = Known::default();
        known.insert(&block);
        let mut state = CpuState { rip: 0x2000, ..CpuState::default() };
        block.turn.set(7);
        let mut stay = Stay::new(&block, &known);
        // SAFETY: the block touches no memory and outlives the call.
        unsafe { stay.run(&mut state) };
        // The first execution is counted by who asked for it.
        assert_eq!((block.runs.get(), stay.blocks), (7, 8));
    }

    #[test]
    fn a_signal_ends_the_stay() {
        let block = decoded(0x2000);
        let known = Known::default();
        known.insert(&block);
        let mut state = CpuState { rip: 0x2000, pending: 1, ..CpuState::default() };
        let mut stay = Stay::new(&block, &known);
        // SAFETY: as above.
        unsafe { stay.run(&mut state) };
        assert_eq!(stay.blocks, 1);
    }
}

//! Tier 0: from interpreted block to interpreted block without asking the engine, which would look each of them up in several
//! tables and switch the floating-point mode twice.
//!
//! What it may run by itself stands in the [`DecodedCache`]. Blocks whose next tier is to be decided about, and all that isn't
//! there, go back to the engine.

mod cache;
mod decoded;

use xlate_abi::state::{CpuState, ExitReason};
use xlate_x86::interpreter::{execute, execute_carefully, until_raised};

use super::fpmode;
pub use cache::DecodedCache;
pub use decoded::DecodedBlock;

/// Blocks that are run before the engine gets to look for tier 2's answers.
const ROUND: u32 = 4096;

/// A run of the interpreter.
pub struct Run<'c> {
    first: *const DecodedBlock,
    /// None: the first block alone.
    cache: Option<&'c DecodedCache>,
    /// Whether each instruction's floating-point exceptions are looked at; the host's exception flags are clear then.
    carefully: bool,
    /// Blocks run so far; for statistics: a fault in one of them may keep the last ones from being counted.
    pub blocks: u64,
}

impl<'c> Run<'c> {
    /// Runs `first` and what follows.
    pub fn new(first: *const DecodedBlock, cache: &'c DecodedCache) -> Self {
        Self { first, cache: Some(cache), carefully: false, blocks: 0 }
    }

    /// Runs one block.
    pub fn single(block: &DecodedBlock) -> Self {
        Self { first: block, cache: None, carefully: false, blocks: 0 }
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
    /// As for [`execute`]; the cache's blocks live as long as this runs, even if they are removed meanwhile.
    pub unsafe fn run(&mut self, state: &mut CpuState) {
        self.blocks = 1;
        if self.carefully {
            // SAFETY: the caller's contract.
            return unsafe { run_carefully(state, &*self.first) };
        }
        let mut left = ROUND;
        let (cache, blocks) = (self.cache, &mut self.blocks);
        let next = |from: &DecodedBlock, state: &CpuState| {
            left -= 1;
            if left == 0 || super::pending(state) {
                return None;
            }
            let block = cache?.successor(from, state.rip)?;
            // SAFETY: what is in the cache lives.
            let (executions, next) = unsafe { (&(*block).executions, &(*block).next_promotion) };
            if executions.get() >= next.get() {
                return None;
            }
            executions.set(executions.get() + 1);
            *blocks += 1;
            Some(block)
        };
        // SAFETY: the caller's contract.
        unsafe { run_blocks(state, self.first, next) };
    }
}

/// Runs a block and then, as long as none leaves, the ones that `next` names for each and the state after it.
///
/// # Safety
/// As for [`execute`]; blocks that `next` gives live until it is asked again.
unsafe fn run_blocks(
    state: &mut CpuState,
    first: *const DecodedBlock,
    mut next: impl FnMut(&DecodedBlock, &CpuState) -> Option<*const DecodedBlock>,
) {
    state.exit_reason = ExitReason::Continue as u32;
    let state: *mut CpuState = state;
    until_raised(|| {
        let mut block = first;
        loop {
            // SAFETY: the caller keeps the block.
            let decoded = unsafe { &*block };
            decoded.fetch_successor();
            // SAFETY: the pointer comes from the exclusive borrow above, which nothing else uses meanwhile; and the caller's
            // contract.
            unsafe { execute(&mut *state, &decoded.block, decoded.open_end) };
            // SAFETY: as above.
            let state = unsafe { &*state };
            if state.exit_reason != ExitReason::Continue as u32 {
                break;
            }
            match next(decoded, state) {
                Some(following) => block = following,
                None => break,
            }
        }
    });
}

/// Runs one block while the guest has SSE exceptions unmasked.
///
/// # Safety
/// As for [`execute_carefully`].
unsafe fn run_carefully(state: &mut CpuState, decoded: &DecodedBlock) {
    state.exit_reason = ExitReason::Continue as u32;
    // SAFETY: the caller's contract.
    until_raised(|| unsafe { execute_carefully(state, &decoded.block, decoded.open_end) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlate_x86::decode::{SliceSource, decode_block};

    pub(super) fn decoded(pc: u64) -> DecodedBlock {
        // jmp short to itself
        DecodedBlock::new(decode_block(&SliceSource { address: pc, bytes: &[0xeb, 0xfe] }, pc, 64, false))
    }

    #[test]
    fn the_engine_gets_to_decide_at_the_limit() {
        let block = decoded(0x2000);
        let cache = DecodedCache::default();
        cache.insert(&block);
        let mut state = CpuState { rip: 0x2000, ..CpuState::default() };
        block.next_promotion.set(7);
        let mut run = Run::new(&block, &cache);
        // SAFETY: the block touches no memory and outlives the call.
        unsafe { run.run(&mut state) };
        // The first execution is counted by who asked for it.
        assert_eq!((block.executions.get(), run.blocks), (7, 8));
    }

    #[test]
    fn a_signal_ends_the_run() {
        let block = decoded(0x2000);
        let cache = DecodedCache::default();
        cache.insert(&block);
        let mut state = CpuState { rip: 0x2000, pending: 1, ..CpuState::default() };
        let mut run = Run::new(&block, &cache);
        // SAFETY: as above.
        unsafe { run.run(&mut state) };
        assert_eq!(run.blocks, 1);
    }
}

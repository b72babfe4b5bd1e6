//! Blocks as the interpreter runs them: decoded, with the counters that decide about their next tier.

use std::cell::{Cell, OnceCell, RefCell};

use xlate_x86::decode;
use xlate_x86::interpreter::has_open_end;
use xlate_x86::{Block, Insn};

/// A decoded block. With the two counts of an [`std::rc::Rc`] before it, it takes two lines of the cache (the
/// runtime's allocator aligns powers of two to their size): in the second stands what is needed to run it, in the first what
/// may come next.
#[repr(C)]
pub struct DecodedBlock {
    /// The block that comes next at its end, and the one that came elsewhere the last time; null where none is known.
    successors: [Cell<Successor>; 2],
    /// The epoch of the decoded cache in which they were found.
    epoch: Cell<u64>,
    /// The entry of the code that has taken its place for good; 0 while there is none.
    pub native: Cell<u64>,
    /// Executions so far.
    pub executions: Cell<u64>,
    /// After how many of them its next tier is decided about.
    pub next_promotion: Cell<u64>,
    pub block: Block,
    /// Where the indirect jump or call at its end was seen to lead.
    observed: OnceCell<Box<RefCell<Vec<u64>>>>,
    /// Which of the successors came last.
    last: Cell<u8>,
    /// Whether the block's end remains to be done after the last instruction.
    pub(super) open_end: bool,
    /// Whether it ends with an indirect jump or call.
    leads_anywhere: bool,
}

const _: () = assert!(size_of::<DecodedBlock>() + 2 * size_of::<usize>() == 128);

/// Targets that are remembered of one indirect jump.
const MOST_TARGETS: usize = 40;

/// A block that came after another one.
#[derive(Clone, Copy)]
struct Successor {
    block: *const DecodedBlock,
    /// Its instructions, to have them fetched before the block itself has come.
    insns: *const Insn,
}

impl Successor {
    const NONE: Self = Self { block: core::ptr::null(), insns: core::ptr::null() };
}

impl DecodedBlock {
    pub fn new(block: Block) -> Self {
        let open_end = has_open_end(&block);
        let leads_anywhere = block.insns.last().is_some_and(|i| decode::leads_anywhere(&i.raw));
        Self {
            successors: [const { Cell::new(Successor::NONE) }; 2],
            epoch: Cell::new(0),
            native: Cell::new(0),
            executions: Cell::new(0),
            next_promotion: Cell::new(u64::MAX),
            block,
            observed: OnceCell::new(),
            last: Cell::new(0),
            open_end,
            leads_anywhere,
        }
    }

    /// Which successor a block at `pc` would be.
    #[inline(always)]
    fn place_of(&self, pc: u64) -> usize {
        usize::from(pc != self.block.end())
    }

    /// The block at `pc` if it has come after this one in the same epoch.
    ///
    /// # Safety
    /// What was made a successor in this epoch lives.
    #[inline(always)]
    pub unsafe fn successor(&self, pc: u64, epoch: u64) -> Option<*const DecodedBlock> {
        if self.epoch.get() != epoch {
            return None;
        }
        let place = self.place_of(pc);
        let block = self.successors[place].get().block;
        // SAFETY: the caller's contract.
        if block.is_null() || unsafe { (*block).block.pc } != pc {
            return None;
        }
        self.last.set(place as u8);
        Some(block)
    }

    /// Remembers a block that has come after this one; what was found in other epochs is forgotten.
    pub fn set_successor(&self, successor: &DecodedBlock, epoch: u64) {
        if self.epoch.replace(epoch) != epoch {
            self.successors.iter().for_each(|place| place.set(Successor::NONE));
        }
        let place = self.place_of(successor.block.pc);
        self.successors[place].set(Successor { block: successor, insns: successor.block.insns.as_ptr() });
        self.last.set(place as u8);
    }

    /// Remembers where the block led, if it is one that may lead anywhere.
    pub fn observe(&self, pc: u64) {
        if !self.leads_anywhere {
            return;
        }
        let mut targets = self.observed.get_or_init(Box::default).borrow_mut();
        if targets.len() < MOST_TARGETS && !targets.contains(&pc) {
            targets.push(pc);
        }
    }

    /// Where the indirect jump or call at its end was seen to lead.
    pub fn observed_targets(&self) -> Vec<u64> {
        self.observed.get().map_or_else(Vec::new, |targets| targets.borrow().clone())
    }

    /// Whether the block ends with an indirect jump or call.
    pub fn leads_anywhere(&self) -> bool {
        self.leads_anywhere
    }
}

/// Cache lines of a block's instructions that are fetched ahead; the processor sees by itself where more are wanted.
const LINES_AHEAD: usize = 4;

impl DecodedBlock {
    /// Has the block that will probably be next on its way from memory while this one is executed: a program's start
    /// goes through more blocks than a cache holds.
    #[inline(always)]
    pub(super) fn fetch_successor(&self) {
        let next = self.successors[usize::from(self.last.get() & 1)].get();
        prefetch(next.block.cast());
        prefetch(next.block.cast::<u8>().wrapping_add(64));
        for line in 0..LINES_AHEAD {
            prefetch(next.insns.cast::<u8>().wrapping_add(64 * line));
        }
    }
}

/// Asks for a cache line; any address is allowed.
#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: likewise.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

//! Runs guest code: the tiers, the code they made, and the dispatcher that picks among them.

pub mod baseline;
pub mod entry;
pub mod fault;
pub mod fpmode;
pub mod helpers;
pub mod interpreter;
pub mod stats;
pub mod workbench;

mod background;
mod cache;
mod compile;
mod fetch;
mod kept;
mod launch;
mod pace;
mod pages;
mod perf_map;
mod promote;
mod step;
mod stored;
mod surroundings;
mod table;
mod tier2;
mod warm;
pub mod workers;

use std::rc::Rc;

use iced_x86::FlowControl;
use xlate_abi::state::{CpuState, ExitReason, LinkSlot, Trap};
use xlate_x86::decode::{CodeSource, MAX_BLOCK, SliceSource, calls_directly, decode_block, decode_mutable};
use xlate_x86::{Block, BlockEnd};

use crate::config::{Config, EngineChoice, StatsSink};
use crate::memory::{Memory, Mutability};
use background::Background;
use baseline::Compiler;
use cache::CodeCache;
use fetch::{Fetch, LookedAt, LookingAhead};
use interpreter::{DecodedBlock, Run};
use kept::Kept;
use pace::Pace;
use pages::Pages;
use perf_map::PerfMap;
use promote::Tier2;
pub use stats::Stats;
use stored::Stored;
use table::{Code, Entry, Link, Table};
pub use tier2::host_target;
use workers::Workers;

/// Why [`Engine::run`] came back. `rip` and all registers are precise in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `rip` is behind the `syscall` instruction; rcx and r11 are not set yet.
    Syscall,
    /// The same for `int 0x80`, a system call of 32-bit programs, which leaves rcx and r11 alone.
    LegacySyscall,
    /// An instruction was executed with TF set. `unfinished`: it is a repeated one that goes on.
    Stepped { unfinished: bool },
    /// The instruction at `rip` raised an exception of its own.
    Trap(Trap),
    /// The instruction at `rip` has no semantics yet.
    Unimplemented,
    /// Code at `rip` can't be fetched.
    FetchFault,
    /// A signal waits.
    Safepoint,
    /// A memory access of the instruction at `rip` faulted; `signal` keeps what the host said.
    HostFault,
}

impl Exit {
    /// What the kinds are called, by [`Exit::kind`].
    const NAMES: [&'static str; 8] = [
        "syscall",
        "trap",
        "unimplemented",
        "fetch fault",
        "safepoint",
        "memory fault",
        "32-bit syscall",
        "single step",
    ];

    fn kind(self) -> usize {
        match self {
            Self::Syscall => 0,
            Self::Trap(_) => 1,
            Self::Unimplemented => 2,
            Self::FetchFault => 3,
            Self::Safepoint => 4,
            Self::HostFault => 5,
            Self::LegacySyscall => 6,
            Self::Stepped { .. } => 7,
        }
    }
}

/// What the engine needs of the guest's memory.
pub trait GuestCode {
    /// Copies executable bytes at `addr`, as many as there are; 0 if a fetch there faults.
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize;
    /// The same as far as nothing changes them but a call of the guest's that concerns their mapping.
    fn fetch_fixed(&self, addr: u64, buffer: &mut [u8]) -> usize {
        self.fetch(addr, buffer)
    }
    /// What may change code in a range.
    fn mutability(&self, _start: u64, _end: u64) -> Mutability {
        Mutability::Fixed
    }
    /// Copies bytes at `addr` that the guest can read and nobody can write, as many as there are.
    fn constants(&self, _addr: u64, _buffer: &mut [u8]) -> usize {
        0
    }
    /// Makes writes to a range fault, because translations are made from it; false if that can't be done.
    fn watch_code(&self, _start: u64, _len: u64) -> bool {
        true
    }
    /// Lets writes to the watched page at `addr` through and notes it; false if it isn't watched. For a fault handler.
    fn open_code(&self, _addr: u64) -> bool {
        false
    }
    /// Whether pages were opened.
    fn has_opened(&self) -> bool {
        false
    }
    /// The opened pages, which aren't watched any more.
    fn take_opened(&self) -> Vec<u64> {
        Vec::new()
    }
}

impl GuestCode for Memory {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        Memory::fetch(self, addr, buffer)
    }

    fn constants(&self, addr: u64, buffer: &mut [u8]) -> usize {
        Memory::constants(self, addr, buffer)
    }

    fn fetch_fixed(&self, addr: u64, buffer: &mut [u8]) -> usize {
        Memory::fetch_fixed(self, addr, buffer)
    }

    fn mutability(&self, start: u64, end: u64) -> Mutability {
        Memory::mutability(self, start, end)
    }

    fn watch_code(&self, start: u64, len: u64) -> bool {
        Memory::watch_code(self, start, len)
    }

    fn open_code(&self, addr: u64) -> bool {
        Memory::open_code(self, addr)
    }

    fn has_opened(&self) -> bool {
        Memory::has_opened(self)
    }

    fn take_opened(&self) -> Vec<u64> {
        Memory::take_opened(self)
    }
}

/// Executions after which a block moves up; `u64::MAX` for never.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    baseline: u64,
    optimized: u64,
}

impl Thresholds {
    /// Counters cost time: blocks have them only where there is a tier 2 to promote them to.
    fn of(config: &Config, tier2: bool) -> Self {
        let baseline = match config.engine {
            EngineChoice::Interpreter => u64::MAX,
            EngineChoice::Baseline | EngineChoice::Optimized => 0,
            EngineChoice::Auto => u64::from(config.hot_baseline),
        };
        let optimized = match config.engine {
            EngineChoice::Auto if tier2 => u64::from(config.hot_optimized.max(1)),
            _ => u64::MAX,
        };
        Self { baseline, optimized }
    }
}

/// Bytes of an instruction at most (Intel SDM vol. 2, 2.3.11).
const LONGEST_INSTRUCTION: usize = 15;

/// Host stack that calls of translated code may fill before they are cut off: a guest that recurses a hundred thousand
/// levels deep fits.
const CALL_STACK: u64 = 4 << 20;

/// What [`Engine::before_vfork`] puts aside.
pub struct Parted {
    tier2: Option<promote::Tier2>,
    background: Option<Background>,
    kept: Option<Kept>,
    invalidations: u64,
}

/// All tiers.
pub struct Engine {
    thresholds: Thresholds,
    precise: bool,
    /// The last instruction has held off the exception that TF raises behind each ([`step`]).
    held_off: bool,
    table: Table,
    pages: Pages,
    /// Made when the first block is compiled, or the first piece of code is put in its place: what a program never gets
    /// to costs it nothing.
    compiler: Option<Compiler>,
    background: Option<Background>,
    pace: Pace,
    native: Option<CodeCache>,
    tier2: Option<Tier2>,
    /// What the guest's general-purpose registers held when a block was last promoted.
    registers: [u64; 16],
    stored: Option<Stored>,
    kept: Option<Kept>,
    /// Where kept code gets its addresses filled in.
    scratch: Vec<u8>,
    stats: Stats,
    perf_map: Option<PerfMap>,
}

/// How execution goes on at an address.
enum Step {
    Native(Code),
    /// A block that lives until the dispatcher frees what was dropped.
    Interpret(*const DecodedBlock),
    /// A block alone, in a floating-point mode that is tier 0's.
    Careful(Rc<DecodedBlock>),
    /// No block begins here.
    Nothing(BlockEnd),
}

/// How the dispatcher came to an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    /// From outside, or from tier 0.
    Fresh,
    /// Through a link slot of translated code.
    Link(*mut LinkSlot),
    /// By an indirect branch of translated code that the table didn't know.
    Lookup,
}

impl Engine {
    pub fn new(config: &Config) -> Self {
        let tier2 = Tier2::new(config);
        let thresholds = Thresholds::of(config, tier2.is_some());
        Self {
            thresholds,
            precise: false,
            held_off: false,
            table: Table::default(),
            pages: Pages::default(),
            compiler: None,
            background: if config.background && !config.wait {
                Background::new(thresholds.baseline, Workers::new(config))
            } else {
                None
            },
            pace: Pace::default(),
            native: None,
            tier2,
            registers: [0; 16],
            stored: None,
            kept: None,
            scratch: Vec::new(),
            stats: Stats::default(),
            perf_map: config.perf_map.clone().map(PerfMap::new),
        }
    }

    /// Runs guest code from `state.rip` until something needs the rest of the runtime.
    pub fn run(&mut self, state: &mut CpuState, memory: &dyn GuestCode) -> Exit {
        self.prepare_state(state, CALL_STACK);
        fpmode::load(state.mxcsr);
        let exit = self.dispatch(state, memory);
        state.mxcsr = fpmode::leave_guest(state.mxcsr);
        self.stats.exits[exit.kind()] += 1;
        exit
    }

    /// Sets the state's doors to the runtime. Code may use `stack` bytes of the host's stack from here on.
    fn prepare_state(&self, state: &mut CpuState, stack: u64) {
        let here = 0u8;
        state.stack_limit = (&raw const here as u64).saturating_sub(stack);
        state.helpers = helpers::table().as_ptr() as u64;
        state.lookup = self.table.lookup_address();
        state.exit_stub = entry::exit_stub();
        state.missed_stub = entry::missed_stub();
        state.link_stub = entry::link_stub();
    }

    fn dispatch(&mut self, state: &mut CpuState, memory: &dyn GuestCode) -> Exit {
        // Taken here, not in the caller: what the fault handler changes through this pointer is then known to be
        // reachable for the calls into guest code below.
        let _running = fault::Running::begin(self, state, memory);
        let mut via = Via::Fresh;
        self.take_code_writes(state, memory);
        self.collect_answers();
        loop {
            if pending(state) {
                return Exit::Safepoint;
            }
            if state.flags.are_watched() {
                match self.step_watched(state, memory) {
                    Some(exit) => return exit,
                    None => continue,
                }
            }
            let flushes = self.stats.cache_flushes;
            if self.pace.is_due(self.stats.blocks_interpreted) {
                self.poll_tier2();
                self.poll_background();
            }
            if flushes != self.stats.cache_flushes {
                // The slot that led here went with its code.
                via = Via::Fresh;
            }
            self.table.free_dropped();
            let step = match fpmode::wants_care(state.mxcsr) {
                false => self.step(state.rip, via, memory),
                true => self.careful_step(state.rip, memory),
            };
            match step {
                Step::Native(code) => {
                    // SAFETY: code of the block ABI, installed for this address; the state is prepared; what the
                    // guest touches is the guest's, and faults arrive in `fault::leave`.
                    unsafe { entry::enter(state, code.entry) };
                    via = Via::Lookup;
                }
                Step::Interpret(block) => {
                    let before = state.interpreted;
                    let mut run = Run::new(block, &self.table.decoded_cache);
                    // SAFETY: as above. Dropped blocks are freed only in this loop.
                    unsafe { entry::enter_interpreter(state, &mut run) };
                    self.stats.blocks_interpreted += run.blocks;
                    self.stats.instructions_interpreted += state.interpreted - before;
                    via = Via::Fresh;
                }
                Step::Careful(block) => {
                    let mut run = Run::in_mode(&block, state);
                    // SAFETY: as above.
                    unsafe { entry::enter_interpreter(state, &mut run) };
                    self.stats.blocks_interpreted += 1;
                    via = Via::Fresh;
                }
                Step::Nothing(end) => return end_at(state, end),
            }
            self.take_code_writes(state, memory);
            if fault::take_host_fault() {
                if self.code_is_gone(state.rip, memory) {
                    via = Via::Fresh;
                    continue;
                }
                return Exit::HostFault;
            }
            match ExitReason::from_u32(state.exit_reason) {
                Some(ExitReason::Continue) => {}
                // What waited was a write to code.
                Some(ExitReason::Safepoint) if !pending(state) => via = Via::Fresh,
                Some(ExitReason::Link) => {
                    let slot = state.link_slot as *mut LinkSlot;
                    // SAFETY: translated code names a slot of its own, which lives as long as the code.
                    state.rip = unsafe { (*slot).guest_pc };
                    via = Via::Link(slot);
                }
                Some(ExitReason::Promote) => {
                    self.registers = state.gpr;
                    self.promote(state.rip, memory);
                    via = Via::Fresh;
                }
                _ => {
                    return Exit::from_state(state).unwrap_or_else(|| {
                        unreachable!("code left with reason {} and argument {}", state.exit_reason, state.exit_arg)
                    });
                }
            }
        }
    }

    /// Decides which tier runs the code at `pc`, and connects the way that led here with it.
    fn step(&mut self, pc: u64, via: Via, memory: &dyn GuestCode) -> Step {
        let flushes = self.stats.cache_flushes;
        if via == Via::Lookup {
            self.stats.lookups_missed += 1;
        }
        if let Some(step) = self.cached_step(pc, via) {
            return step;
        }
        let code = match self.native_code(pc, memory) {
            Ok(code) => code,
            Err(step) => return step,
        };
        match via {
            // A flush on the way has freed the slot together with the code it belongs to.
            Via::Link(slot) if flushes == self.stats.cache_flushes => {
                // SAFETY: the slot's code is still there.
                unsafe { self.table.link(self.link_of(slot), code) };
            }
            Via::Lookup => self.table.publish(pc, code),
            _ => {}
        }
        Step::Native(code)
    }

    /// The block at `pc`, for tier 0 whatever other code there is for it.
    fn careful_step(&mut self, pc: u64, memory: &dyn GuestCode) -> Step {
        self.drop_if_stale(pc, memory);
        if self.table.block(pc).is_none()
            && let Err(end) = self.decode(pc, memory)
        {
            return Step::Nothing(end);
        }
        // None: the code there isn't what the block was made from.
        let block = self.decoded(pc, memory);
        Step::Careful(block.unwrap_or_else(|| Rc::new(DecodedBlock::new(self.decode_block(memory, pc).0))))
    }

    /// What to do at `pc` where the decoded cache has the block: most ways between translated code and tier 0 lead through such
    /// blocks, and a look into the tables takes longer than many of them.
    fn cached_step(&self, pc: u64, via: Via) -> Option<Step> {
        let block = self.table.decoded_cache.get(pc)?;
        // SAFETY: what is in the cache lives.
        let (executions, next, native) = unsafe { (&(*block).executions, &(*block).next_promotion, &(*block).native) };
        if executions.get() < next.get() {
            executions.set(executions.get() + 1);
            return Some(Step::Interpret(block));
        }
        // From elsewhere, what led here is to be linked first.
        (native.get() != 0 && via == Via::Fresh).then(|| Step::Native(Code::plain(native.get())))
    }

    /// Slots in code memory are tier 2's, tier 1 has its own elsewhere.
    fn link_of(&self, slot: *mut LinkSlot) -> Link {
        let passes = self.native.as_ref().is_some_and(|cache| cache.contains(slot as u64));
        Link { slot, passes }
    }

    /// Translated code for `pc`, made now if it is time; otherwise what to do instead.
    fn native_code(&mut self, pc: u64, memory: &dyn GuestCode) -> Result<Code, Step> {
        if let Some(code) = self.table.settled_code(pc) {
            return Ok(code);
        }
        self.drop_if_stale(pc, memory);
        if self.table.block(pc).is_none() {
            if let Some(code) = self.stored_region(pc, memory) {
                return Ok(code);
            }
            if let Some(entry) = self.kept_code(pc, memory) {
                return Ok(Code::plain(entry));
            }
            self.decode(pc, memory).map_err(Step::Nothing)?;
        }
        let entry = self.table.block(pc).expect("decoded just now");
        if let Some(native) = &entry.native {
            return Ok(Code::plain(native.entry));
        }
        if let Some(code) = self.region_at_once(pc, memory) {
            return Ok(code);
        }
        let entry = self.table.block(pc).expect("asking for a region removes no block");
        let decoded = Rc::clone(entry.decoded.as_ref().expect("only a block with code isn't decoded"));
        if decoded.executions.get() >= decoded.next_promotion.get()
            && let Some(entry) = self.baseline_code(pc, memory)
        {
            return Ok(Code::plain(entry));
        }
        let entry = self.table.block(pc).expect("compiling removes no block");
        decoded.executions.set(decoded.executions.get() + 1);
        // Blocks with a snapshot are compared with memory before each execution.
        if entry.snapshot.is_none() {
            self.table.decoded_cache.insert(&decoded);
        }
        Err(Step::Interpret(Rc::as_ptr(&decoded)))
    }

    /// Tier 1's code for a block whose turn has come, if it is made now: otherwise its next turn is set.
    fn baseline_code(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<u64> {
        if let Some(entry) = self.kept_code(pc, memory) {
            return Some(entry);
        }
        if self.ask_for_baseline(pc, memory) {
            return None;
        }
        let made = self.compile_baseline(pc);
        if made.is_none() {
            self.table.block(pc).expect("compiling removes no block").refuse();
        }
        made
    }

    /// What the known block at `pc` consists of: decoded now if its code came from an earlier run.
    fn decoded(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<Rc<DecodedBlock>> {
        let entry = self.table.block(pc)?;
        if let Some(decoded) = &entry.decoded {
            return Some(Rc::clone(decoded));
        }
        let (len, row) = (entry.len, entry.kept);
        let (block, looked_at) = self.decode_block(memory, pc);
        if block.len != len {
            return None;
        }
        let decoded = DecodedBlock::new(block);
        self.stats.blocks_decoded += 1;
        row.into_iter().flat_map(|row| self.kept_targets(row)).for_each(|target| decoded.observe(target));
        decoded.next_promotion.set(0);
        let decoded = Rc::new(decoded);
        self.table.block(pc)?.decoded = Some(Rc::clone(&decoded));
        self.depend_on(pc, &looked_at);
        Some(decoded)
    }

    /// Forgets a block whose bytes can't be watched if they are others now.
    fn drop_if_stale(&mut self, pc: u64, memory: &dyn GuestCode) {
        let Some(snapshot) = self.table.block(pc).and_then(|e| e.snapshot.as_deref()) else {
            return;
        };
        let mut now = vec![0; snapshot.len()];
        if memory.fetch(pc, &mut now) != snapshot.len() || *now != *snapshot {
            self.table.remove_block(pc);
        }
    }

    /// Whether a block whose bytes are compared with memory at its entry can't be read there any more.
    fn code_is_gone(&mut self, pc: u64, memory: &dyn GuestCode) -> bool {
        let Some(snapshot) = self.table.block(pc).and_then(|e| e.snapshot.as_deref()) else { return false };
        memory.fetch(pc, &mut vec![0; snapshot.len()]) != snapshot.len()
    }

    /// The block at `pc`, in memory that the guest can't write to, and the pages beside its own where code was looked at that
    /// follows; none begins there otherwise.
    fn fixed_block(&self, memory: &dyn GuestCode, pc: u64) -> Option<(Block, LookedAt)> {
        let source = LookingAhead::new(memory);
        let block = decode_fixed(&source, pc, self.precise);
        let looked_at = source.pages_beside(pc, block.end());
        (!block.is_empty() || block.exit != BlockEnd::FetchFault).then_some((block, looked_at))
    }

    /// The block at `pc`, likewise. Where the guest's stores may change it, it is one that lets them.
    fn decode_block(&self, memory: &dyn GuestCode, pc: u64) -> (Block, LookedAt) {
        let mutable = || (decode_mutable(&Fetch::new(memory), pc, MAX_BLOCK, false), LookedAt::new());
        self.fixed_block(memory, pc).unwrap_or_else(mutable)
    }

    /// The same, and watched; with its bytes if it has to be compared with them before each execution.
    fn watched_block(&self, memory: &dyn GuestCode, pc: u64) -> (Block, LookedAt, Option<Box<[u8]>>) {
        match self.fixed_block(memory, pc) {
            Some((block, looked_at)) => (block, looked_at, None),
            None => {
                let (block, snapshot) = self.mutable_block(memory, pc);
                (block, LookedAt::new(), snapshot)
            }
        }
    }

    /// Whether all writes to the code in a range are noticed.
    fn can_watch(&self, memory: &dyn GuestCode, start: u64, end: u64) -> bool {
        match memory.mutability(start, end) {
            Mutability::Fixed => true,
            Mutability::Watchable => !self.pages.is_volatile(start, end),
            Mutability::Shared => false,
        }
    }

    /// The block at `pc`, in memory that the guest's stores may change, and watched. Where it can't be, it ends behind each
    /// store and is compared with memory before each execution: with these bytes.
    fn mutable_block(&self, memory: &dyn GuestCode, pc: u64) -> (Block, Option<Box<[u8]>>) {
        if self.can_watch(memory, pc, pc + 1) {
            let block = decode_mutable(&Fetch::new(memory), pc, MAX_BLOCK, false);
            let (start, end) = (block.pc, block.end());
            if block.is_empty() || self.can_watch(memory, start, end) && memory.watch_code(start, end - start) {
                return (block, None);
            }
        }
        // Others may write at any moment: what is decoded is what was read.
        let mut bytes = vec![0; MAX_BLOCK * LONGEST_INSTRUCTION];
        let there = memory.fetch(pc, &mut bytes);
        let source = SliceSource { address: pc, bytes: &bytes[..there] };
        let block = decode_mutable(&source, pc, MAX_BLOCK, true);
        let snapshot = bytes[..block.len as usize].into();
        (block, Some(snapshot))
    }

    /// Has a block dropped with code that was looked at for it.
    fn depend_on(&mut self, pc: u64, looked_at: &[u64]) {
        for &page in looked_at {
            self.table.depends_on(pc, page);
        }
    }

    fn decode(&mut self, pc: u64, memory: &dyn GuestCode) -> Result<(), BlockEnd> {
        let (block, looked_at, snapshot) = self.watched_block(memory, pc);
        // Nothing is remembered about addresses without code: code may come to be there.
        if block.is_empty() {
            return Err(block.exit);
        }
        self.stats.blocks_decoded += 1;
        let calls = called(&block);
        let decoded = DecodedBlock::new(block);
        decoded.next_promotion.set(self.first_turn());
        self.table.insert_block(pc, Entry::decoded(Rc::new(decoded), snapshot), calls);
        self.depend_on(pc, &looked_at);
        Ok(())
    }

    /// Drops all translations made from the pages of this range of guest memory.
    pub fn invalidate(&mut self, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let size = crate::memory::host_page_size();
        let end = start.saturating_add(len).checked_next_multiple_of(size).unwrap_or(u64::MAX);
        let start = start & !(size - 1);
        self.stats.invalidations += 1;
        self.table.remove_range(start, end);
        if let Some(kept) = &mut self.kept {
            kept.invalidate(start, end);
        }
        if let Some(tier2) = &mut self.tier2 {
            tier2.outdate(start, end);
        }
    }

    /// Drops the translations of pages that were written to since the last look. Only while no translated code runs.
    pub fn drop_written(&mut self, memory: &dyn GuestCode) {
        for page in memory.take_opened() {
            self.stats.code_writes += 1;
            let page = self.pages.written(page);
            self.invalidate(page.start, page.end - page.start);
        }
    }

    fn take_code_writes(&mut self, state: &mut CpuState, memory: &dyn GuestCode) {
        if memory.has_opened() {
            self.drop_written(memory);
            fault::written_code_is_taken(state);
        }
    }

    /// A range will be written to at a time that nobody tells of: its pages aren't to be watched from now on.
    pub fn expect_writes(&mut self, start: u64, len: u64) {
        for page in self.pages.make_volatile(start, start.saturating_add(len)) {
            self.invalidate(page.start, page.end - page.start);
        }
    }

    /// Whether registers and flags must be precise at every access that may fault. Code that isn't is dropped when it
    /// has to be; precise code serves just as well where nobody asks for it any more.
    pub fn set_precise(&mut self, precise: bool) {
        if core::mem::replace(&mut self.precise, precise) || !precise {
            return;
        }
        self.table.clear();
        self.flush_cache();
        if let Some(tier2) = &mut self.tier2 {
            tier2.forget_requests();
        }
    }

    /// Whether all registers are those at a fault. (Tier 0's always are.)
    pub fn is_precise(&self) -> bool {
        self.precise
    }

    /// The guest instruction that translated code at a host address belongs to.
    fn guest_pc(&self, host: u64) -> Option<u64> {
        self.table.guest_pc(host)
    }

    fn flush_cache(&mut self) {
        self.table.forget_code();
        if let Some(cache) = &mut self.native {
            cache.clear();
            self.stats.cache_flushes += 1;
        }
    }

    /// In the child of a fork.
    pub fn after_fork_child(&mut self) {
        self.stats = Stats::default();
        if let Some(tier2) = &mut self.tier2 {
            tier2.forget_connection();
        }
        if let Some(background) = &mut self.background {
            background.after_fork_child();
        }
        if let Some(kept) = &mut self.kept {
            kept.after_fork_child();
        }
    }

    /// Before a child runs in this very memory (vfork) while we wait: what belongs to this process alone is put
    /// aside. The child uses the code there is and asks for no tier 2.
    pub fn before_vfork(&mut self) -> Parted {
        Parted {
            tier2: self.tier2.take(),
            background: self.background.take(),
            kept: self.kept.take(),
            invalidations: self.stats.invalidations,
        }
    }

    /// Afterwards. Nobody has told the requests that wait what the child changed in the meantime.
    pub fn after_vfork(&mut self, parted: Parted) {
        self.tier2 = parted.tier2;
        self.background = parted.background;
        self.kept = parted.kept;
        if parted.invalidations == self.stats.invalidations {
            return;
        }
        if let Some(tier2) = &mut self.tier2 {
            tier2.outdate(0, u64::MAX);
        }
        if let Some(kept) = &mut self.kept {
            kept.invalidate(0, u64::MAX);
        }
    }

    /// What each tier has done so far.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.links_patched = self.table.links_patched;
        stats
    }

    /// Before the process ends: prints the statistics and writes the map of the code, if they are wanted.
    pub fn finish(&mut self, config: &Config) {
        if let Some(map) = &self.perf_map {
            map.write();
        }
        match &config.stats {
            None => {}
            Some(StatsSink::Stderr) => eprint!("{}", self.stats()),
            Some(StatsSink::File(path)) => {
                if let Err(e) = std::fs::write(path, self.stats().to_string()) {
                    eprintln!("xlate: can't write the statistics to {}: {e}", path.display());
                }
            }
        }
    }
}

/// The block at `pc` in memory that the guest can't write to, as far as it is so.
fn decode_fixed(source: &dyn CodeSource, pc: u64, precise: bool) -> Block {
    let mut block = decode_block(source, pc, MAX_BLOCK, precise);
    // Other memory may begin here; what is there is looked at when execution gets to it.
    if block.exit == BlockEnd::FetchFault && !block.is_empty() {
        block.exit = BlockEnd::FallThrough;
    }
    block
}

/// The function that a block calls by its address.
fn called(block: &Block) -> Option<u64> {
    let last = block.insns.last().filter(|i| i.raw.flow_control() == FlowControl::Call)?;
    (block.exit == BlockEnd::Terminator && calls_directly(&last.raw)).then(|| last.raw.near_branch_target())
}

/// Exits for an address where no block begins.
fn end_at(state: &mut CpuState, end: BlockEnd) -> Exit {
    match end {
        BlockEnd::Unimplemented => {
            state.exit_reason = ExitReason::Unimplemented as u32;
            Exit::Unimplemented
        }
        BlockEnd::Invalid => Exit::Trap(Trap::InvalidOpcode),
        BlockEnd::FetchFault => Exit::FetchFault,
        BlockEnd::Terminator | BlockEnd::FallThrough => {
            unreachable!("a block with one of these ends has instructions")
        }
    }
}

/// `pending` as a signal handler may have changed it.
fn pending(state: &CpuState) -> bool {
    // SAFETY: a valid reference; volatile because the handler writes behind the compiler's back.
    unsafe { core::ptr::from_ref(&state.pending).read_volatile() != 0 }
}

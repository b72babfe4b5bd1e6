//! Runs guest code: the tiers, the code they made, and the dispatcher that picks among them.

pub mod cpuid;
pub mod entry;
pub mod fault;
pub mod fpmode;
pub mod helpers;

mod blocks;

use std::rc::Rc;

use xlate_abi::state::{CpuState, ExitReason, LOOKUP_ENTRIES, LookupEntry, Trap};
use xlate_x86::decode::{CodeSource, MAX_BLOCK, MAX_INSTRUCTION};
use xlate_x86::interpreter::DecodedBlock;
use xlate_x86::{BlockEnd, decode_block};

use crate::config::Config;
use crate::memory::Memory;
use blocks::Blocks;

/// Why [`Engine::run`] came back. `rip` and all registers are precise in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `rip` is behind the `syscall` instruction; rcx and r11 are not set yet.
    Syscall,
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

/// What the engine needs of the guest's memory.
pub trait GuestCode {
    /// Copies executable bytes at `addr`, as many as there are; 0 if a fetch there faults.
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize;
    /// Makes writes to a range fault, for translations are made from it.
    fn watch_code(&self, start: u64, len: u64);
    /// Ends the watch of the page at `addr`; false if there was none.
    fn unwatch_code(&self, addr: u64) -> bool;
}

impl GuestCode for Memory {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        Memory::fetch(self, addr, buffer)
    }

    fn watch_code(&self, start: u64, len: u64) {
        Memory::watch_code(self, start, len);
    }

    fn unwatch_code(&self, addr: u64) -> bool {
        Memory::unwatch_code(self, addr)
    }
}

/// Guest memory as the decoder reads it.
struct Fetch<'m>(&'m dyn GuestCode);

impl CodeSource for Fetch<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8; MAX_INSTRUCTION]) -> usize {
        self.0.fetch(pc, buffer)
    }
}

/// All tiers.
pub struct Engine {
    blocks: Blocks,
    lookup: Box<[LookupEntry; LOOKUP_ENTRIES]>,
}

impl Engine {
    pub fn new(_config: &Config) -> Self {
        Self { blocks: Blocks::default(), lookup: empty_lookup() }
    }

    /// Runs guest code from `state.rip` until something needs the rest of the runtime.
    pub fn run(&mut self, state: &mut CpuState, memory: &dyn GuestCode) -> Exit {
        self.prepare_state(state);
        fpmode::load(state.mxcsr);
        let exit = self.dispatch(state, memory);
        state.mxcsr = fpmode::store(state.mxcsr);
        fpmode::load_default();
        exit
    }

    fn prepare_state(&self, state: &mut CpuState) {
        state.helpers = helpers::table().as_ptr() as u64;
        state.lookup = self.lookup.as_ptr() as u64;
        state.exit_stub = entry::exit_stub();
        state.link_stub = entry::link_stub();
    }

    fn dispatch(&mut self, state: &mut CpuState, memory: &dyn GuestCode) -> Exit {
        // Taken here, not in the caller: what the fault handler changes through this pointer is then known to be
        // reachable for the calls into guest code below.
        let _running = fault::Running::begin(self, memory);
        loop {
            if pending(state) {
                return Exit::Safepoint;
            }
            let block = self.decoded(state.rip, memory);
            if block.block.is_empty() {
                return self.end_at(state, block.block.exit);
            }
            // SAFETY: identity mapping: what the guest touches is the guest's; faults arrive in `fault::leave`;
            // the state is prepared.
            unsafe { entry::enter_interpreter(state, &block) };
            if fault::take_host_fault() {
                return Exit::HostFault;
            }
            if let Some(exit) = Exit::from_state(state) {
                return exit;
            }
        }
    }

    /// Exits for an address where no block begins.
    fn end_at(&self, state: &mut CpuState, end: BlockEnd) -> Exit {
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

    /// The decoded block at `pc`, from the cache if it is there.
    fn decoded(&mut self, pc: u64, memory: &dyn GuestCode) -> Rc<DecodedBlock> {
        if let Some(block) = self.blocks.get(pc) {
            return block;
        }
        let block = decode_block(&Fetch(memory), pc, MAX_BLOCK, false);
        let block = Rc::new(DecodedBlock::new(block));
        // Nothing is remembered about addresses without code: code may come to be there.
        if !block.block.is_empty() {
            memory.watch_code(pc, block.block.end - pc);
            self.blocks.insert(Rc::clone(&block));
        }
        block
    }

    /// Drops all translations made from this range of guest memory.
    pub fn invalidate(&mut self, start: u64, len: u64) {
        self.blocks.remove_range(start, len);
    }

    /// A page was written to that translations are made from.
    fn code_written(&mut self, addr: u64) {
        self.invalidate(addr & !0xfff, 0x1000);
    }

    /// Whether registers must be precise at every access that may fault.
    pub fn set_precise(&mut self, _precise: bool) {}

    /// In the child of a fork.
    pub fn after_fork_child(&mut self) {}

    /// Before the process ends: prints the statistics if they are wanted.
    pub fn finish(&mut self, _config: &Config) {}
}

/// `pending` as a signal handler may have changed it.
fn pending(state: &CpuState) -> bool {
    // SAFETY: a valid reference; volatile because the handler writes behind the compiler's back.
    unsafe { core::ptr::from_ref(&state.pending).read_volatile() != 0 }
}

fn empty_lookup() -> Box<[LookupEntry; LOOKUP_ENTRIES]> {
    let empty = LookupEntry { guest_pc: u64::MAX, code: 0 };
    vec![empty; LOOKUP_ENTRIES].try_into().unwrap_or_else(|_| unreachable!("the vector has that length"))
}

//! Runs guest code: the seam between the tiers and the rest of the runtime.

pub mod fault;

use xlate_abi::state::{CpuState, Trap};

use crate::config::Config;
use crate::memory::Memory;

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

/// All tiers.
#[derive(Default)]
pub struct Engine {}

impl Engine {
    pub fn new(_config: &Config) -> Self {
        Self {}
    }

    /// Runs guest code from `state.rip` until something needs the rest of the runtime.
    pub fn run(&mut self, _state: &mut CpuState, _memory: &Memory) -> Exit {
        Exit::Unimplemented
    }

    /// Drops all translations made from this range of guest memory.
    pub fn invalidate(&mut self, _start: u64, _len: u64) {}

    /// Whether registers must be precise at every access that may fault.
    pub fn set_precise(&mut self, _precise: bool) {}

    /// In the child of a fork.
    pub fn after_fork_child(&mut self) {}

    /// Before the process ends: prints the statistics if they are wanted.
    pub fn finish(&mut self, _config: &Config) {}
}

//! Single blocks and blobs through the real trampoline, without a dispatcher: for differential tests.

use xlate_abi::protocol::Blob;
use xlate_abi::state::{CpuState, ExitReason, LinkSlot};
use xlate_x86::Block;

use super::baseline::Options;
use super::compile::CompileError;
use super::interpreter::{DecodedBlock, Run};
use super::{Engine, GuestCode, entry, fault, fpmode};
use crate::config::Config;

/// Host stack for calls: what a test's thread can spare.
const STACK: u64 = 256 << 10;

/// How a piece of code ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It left by itself; a linked exit counts as [`ExitReason::Continue`] with `rip` at its target.
    Left(ExitReason),
    /// A fault handler used [`fault::leave`]; `rip` is the faulting instruction.
    Faulted,
}

/// Code that can be run; valid until its workbench is cleared.
#[derive(Clone, Copy, Debug)]
pub struct Runnable {
    entry: u64,
}

/// Compiles and runs pieces of code one at a time.
pub struct Workbench {
    engine: Engine,
}

/// No page is ever watched here.
struct Unwatched;

impl GuestCode for Unwatched {
    fn fetch(&self, _addr: u64, _buffer: &mut [u8]) -> usize {
        0
    }
}

impl Default for Workbench {
    fn default() -> Self {
        Self { engine: Engine::new(&Config::default()) }
    }
}

impl Workbench {
    /// Forgets all code.
    pub fn clear(&mut self) {
        self.engine.flush_cache();
    }

    /// Compiles a block in tier 1. `precise`: flags are in the state at every access that may fault.
    pub fn compile(&mut self, block: &Block, precise: bool) -> Result<Runnable, CompileError> {
        let options = Options { precise, ..Options::default() };
        let code = self.engine.compile(block, options)?;
        let entry = self.engine.place(block.pc, code, 0)?.entry;
        Ok(Runnable { entry })
    }

    /// Puts a tier 2 blob into memory.
    pub fn install(&mut self, blob: &Blob) -> Result<Runnable, CompileError> {
        let entry = self.engine.place_blob(blob)?.entry;
        Ok(Runnable { entry })
    }

    /// Runs code on a state.
    ///
    /// # Safety
    /// The code was made by this workbench since it was last cleared. Its memory accesses happen as they are: the
    /// caller answers for the addresses, and has a handler where they may fault.
    pub unsafe fn run(&mut self, code: Runnable, state: &mut CpuState) -> Outcome {
        // SAFETY: the caller's contract; `within` has prepared the state.
        self.within(state, |state| unsafe { entry::enter(state, code.entry) })
    }

    /// Whether the mode of a state is tier 0's: the engine runs nothing else then.
    pub fn is_for_tier0(state: &CpuState) -> bool {
        fpmode::wants_care(state.mxcsr)
    }

    /// Runs a block in tier 0.
    ///
    /// # Safety
    /// As for [`Workbench::run`].
    pub unsafe fn interpret(&mut self, block: &DecodedBlock, state: &mut CpuState) -> Outcome {
        self.within(state, |state| {
            let mut run = Run::in_mode(block, state);
            // SAFETY: the caller's contract.
            unsafe { entry::enter_interpreter(state, &mut run) };
        })
    }

    fn within(&mut self, state: &mut CpuState, run: impl FnOnce(&mut CpuState)) -> Outcome {
        self.engine.prepare_state(state, STACK);
        let running = fault::Running::begin(&mut self.engine, state, &Unwatched);
        fpmode::load(state.mxcsr);
        run(state);
        state.mxcsr = fpmode::leave_guest(state.mxcsr);
        drop(running);
        if fault::take_host_fault() {
            return Outcome::Faulted;
        }
        let reason = ExitReason::from_u32(state.exit_reason).expect("code leaves with a reason");
        if reason != ExitReason::Link {
            return Outcome::Left(reason);
        }
        // SAFETY: code names a slot of its own, which lives until the workbench is cleared.
        state.rip = unsafe { (*(state.link_slot as *const LinkSlot)).guest_pc };
        Outcome::Left(ExitReason::Continue)
    }
}

//! The engines under test, behind one face: translate a program, then run it from a state until it is left.

mod baseline;
mod blocks;
mod interpreter;
#[cfg(feature = "llvm")]
mod optimized;
mod recorded;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xlate_abi::state::{CpuState, ExitReason, Trap};
use xlate_runtime::engine::workbench::Outcome as Left;

pub use blocks::reachable;
pub use recorded::Recorded;

use super::case::{Case, End, Fault, Outcome, Program, State, X87};
use super::excursion::{Called, Excursions};

/// Which engine, in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    Interpreter,
    Baseline,
    /// Flags are in the state at every access that may fault.
    BaselinePrecise,
    Optimized,
    /// Registers and flags are in the state at every access that may fault.
    OptimizedPrecise,
}

/// What of the state has to be right when an access faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtFaults {
    /// That it faulted, at that page.
    Kind,
    /// The address of the instruction, too.
    Address,
    /// Everything but the flags.
    Registers,
    Everything,
}

impl Kind {
    pub const ALL: &[Kind] = &[
        Kind::Interpreter,
        Kind::Baseline,
        Kind::BaselinePrecise,
        #[cfg(feature = "llvm")]
        Kind::Optimized,
        #[cfg(feature = "llvm")]
        Kind::OptimizedPrecise,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Interpreter => "interpreter",
            Kind::Baseline => "baseline",
            Kind::BaselinePrecise => "baseline-precise",
            Kind::Optimized => "optimized",
            Kind::OptimizedPrecise => "optimized-precise",
        }
    }

    pub fn at_faults(self) -> AtFaults {
        match self {
            Kind::Interpreter => AtFaults::Everything,
            Kind::Baseline => AtFaults::Registers,
            Kind::BaselinePrecise => AtFaults::Everything,
            Kind::Optimized => AtFaults::Kind,
            Kind::OptimizedPrecise => AtFaults::Everything,
        }
    }

    /// May return either payload where both operands of a multiplication are NaNs (the one licence of
    /// `xlate_x86::emitter`).
    pub fn picks_nan(self) -> bool {
        match self {
            Kind::Interpreter | Kind::Baseline | Kind::BaselinePrecise => false,
            Kind::Optimized | Kind::OptimizedPrecise => true,
        }
    }

    /// May lack the flag for denormal operands, and have the one for underflow if a result is tiny before it is rounded, and
    /// that for an invalid operation if zero times infinity is added to a quiet NaN: tier 2's licence on AArch64.
    pub fn adds_and_misses_flags(self) -> bool {
        cfg!(target_arch = "aarch64") && matches!(self, Kind::Optimized | Kind::OptimizedPrecise)
    }

    /// A new engine of this kind.
    pub fn create(self) -> Box<dyn Engine> {
        match self {
            Kind::Interpreter => Box::new(interpreter::Engine::default()),
            Kind::Baseline => Box::new(baseline::Engine::new(false)),
            Kind::BaselinePrecise => Box::new(baseline::Engine::new(true)),
            #[cfg(feature = "llvm")]
            Kind::Optimized => Box::new(optimized::Engine::new(false)),
            #[cfg(feature = "llvm")]
            Kind::OptimizedPrecise => Box::new(optimized::Engine::new(true)),
            #[cfg(not(feature = "llvm"))]
            Kind::Optimized | Kind::OptimizedPrecise => Box::new(Recorded::default()),
        }
    }
}

/// One way to run programs.
pub trait Engine {
    /// Translates the program; an error is a mismatch.
    fn load(&mut self, program: &Program) -> Result<(), String>;
    /// Runs the code at the state's `rip` until it leaves; `None` if the program has none there. May fault.
    fn step(&mut self, state: &mut CpuState) -> Option<Left>;
}

/// More steps than any case takes: a REP instruction is one block a step.
const MAX_STEPS: usize = 100_000;

/// Runs an already loaded program on a case's state; the data area has to be set up.
pub fn run(engine: &mut dyn Engine, case: &Case, excursions: &mut Excursions) -> Outcome {
    let mut state = Box::new(cpu_state(&case.state));
    let address = &raw mut *state;
    let mut last = None;
    // SAFETY: the state outlives the call, which is the only one to use it meanwhile.
    let called = excursions.call(address, &mut || {
        // SAFETY: as above; the closure runs within the call.
        let state = unsafe { &mut *address };
        for _ in 0..MAX_STEPS {
            last = engine.step(state);
            if !matches!(last, Some(Left::Left(ExitReason::Continue))) {
                return;
            }
        }
    });
    let end = match (called, last) {
        (Called::Panicked(message), _) => End::Failed(format!("panic: {message}")),
        (Called::Faulted(fault), _) => End::Fault(fault),
        (Called::Returned, Some(Left::Faulted)) => End::Failed("a fault that nothing raised".to_owned()),
        (Called::Returned, Some(Left::Left(reason))) => end_of(reason, &state),
        (Called::Returned, None) if case.program.contains(state.rip) => {
            End::Failed(format!("no code at {:#x}, inside the program", state.rip))
        }
        (Called::Returned, None) => End::Left,
    };
    Outcome { end, state: from_cpu_state(&state) }
}

fn end_of(reason: ExitReason, state: &CpuState) -> End {
    match reason {
        ExitReason::Trap => match Trap::from_u32(state.exit_arg) {
            Some(trap) => End::Fault(fault_of(trap)),
            None => End::Failed(format!("trap number {}", state.exit_arg)),
        },
        ExitReason::Syscall | ExitReason::LegacySyscall => End::Syscall,
        ExitReason::FetchFault => End::Left,
        reason => End::Failed(format!("left at {:#x} by {reason:?}", state.rip)),
    }
}

fn fault_of(trap: Trap) -> Fault {
    match trap {
        Trap::Divide => Fault::Divide,
        Trap::Debug => Fault::SingleStep,
        Trap::Breakpoint => Fault::Breakpoint,
        Trap::Overflow => Fault::Other(Trap::Overflow as u32),
        Trap::InvalidOpcode => Fault::InvalidOpcode,
        Trap::GeneralProtection | Trap::StackFault => Fault::GeneralProtection,
        Trap::X87 => Fault::X87,
        Trap::Alignment => Fault::Alignment,
        Trap::Simd => Fault::Simd,
    }
}

/// The engines' form of a state.
pub fn cpu_state(from: &State) -> CpuState {
    let mut state = CpuState {
        gpr: from.gpr,
        rip: from.rip,
        fs_base: from.fs_base,
        gs_base: from.gs_base,
        mxcsr: from.mxcsr,
        k: from.k,
        ..CpuState::default()
    };
    state.set_rflags(from.rflags);
    for (target, value) in state.x87.reg.iter_mut().zip(&from.x87.reg) {
        *target = value.to_le_bytes();
    }
    (state.x87.fcw, state.x87.fsw, state.x87.ftw) = (from.x87.control, from.x87.status, from.x87.tag);
    (state.x87.fop, state.x87.fip, state.x87.fdp) = (from.x87.opcode, from.x87.instruction, from.x87.operand);
    for (target, register) in state.vec.iter_mut().zip(&from.vec) {
        for (bytes, word) in target.chunks_exact_mut(8).zip(register) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    state
}

fn from_cpu_state(state: &CpuState) -> State {
    State {
        gpr: state.gpr,
        rip: state.rip,
        rflags: state.rflags(),
        vec: state.vec.map(|register| {
            std::array::from_fn(|i| u64::from_le_bytes(register[i * 8..][..8].try_into().expect("eight bytes")))
        }),
        k: state.k,
        mxcsr: state.mxcsr,
        x87: X87 {
            reg: state.x87.reg.map(u128::from_le_bytes),
            control: state.x87.fcw,
            status: state.x87.fsw,
            tag: state.x87.ftw,
            opcode: state.x87.fop,
            instruction: state.x87.fip,
            operand: state.x87.fdp,
        },
        fs_base: state.fs_base,
        gs_base: state.gs_base,
    }
}

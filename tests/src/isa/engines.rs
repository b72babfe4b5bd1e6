//! The engines under test, behind one face: translate a program, then run it from a state until it is left.

mod interpreter;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xlate_abi::state::{CpuState, ExitReason, Trap};

use xlate_runtime::engine::{entry, fpmode, helpers};

use super::case::{Case, End, Fault, Outcome, Program, State, X87};
use super::excursion::{Called, Excursions};

/// Which engine, in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    Interpreter,
}

impl Kind {
    pub const ALL: &[Kind] = &[Kind::Interpreter];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Interpreter => "interpreter",
        }
    }

    /// Registers, flags and rip must be exact when an access faults.
    pub fn precise_at_faults(self) -> bool {
        match self {
            Kind::Interpreter => true,
        }
    }

    /// A new engine of this kind.
    pub fn create(self) -> Box<dyn Engine> {
        match self {
            Kind::Interpreter => Box::new(interpreter::Engine::default()),
        }
    }
}

/// One way to run programs.
pub trait Engine {
    /// Translates the program; an error is a mismatch.
    fn load(&mut self, program: &Program) -> Result<(), String>;
    /// Runs the loaded program from the state until control leaves it or an exit says so. May fault.
    fn run(&mut self, state: &mut CpuState);
}

/// Runs an already loaded program on a case's state; the data area has to be set up.
pub fn run(engine: &mut dyn Engine, case: &Case, excursions: &mut Excursions) -> Outcome {
    let mut state = Box::new(cpu_state(&case.state));
    let called = excursions.call(&mut || {
        fpmode::load(state.mxcsr);
        engine.run(&mut state);
        state.mxcsr = fpmode::store(state.mxcsr);
    });
    let end = match called {
        Called::Returned => end_of(&state, &case.program),
        Called::Panicked(message) => End::Failed(format!("panic: {message}")),
        Called::Faulted(fault) => End::Fault(fault),
    };
    Outcome { end, state: from_cpu_state(&state) }
}

fn end_of(state: &CpuState, program: &Program) -> End {
    match ExitReason::from_u32(state.exit_reason) {
        Some(ExitReason::Trap) => match Trap::from_u32(state.exit_arg) {
            Some(trap) => End::Fault(fault_of(trap)),
            None => End::Failed(format!("trap number {}", state.exit_arg)),
        },
        Some(ExitReason::Syscall) => End::Syscall,
        Some(ExitReason::Unimplemented) => End::Failed("reported as not implemented".to_owned()),
        Some(_) if !program.contains(state.rip) => End::Left,
        Some(reason) => End::Failed(format!("stopped at {:#x} by {reason:?}", state.rip)),
        None => End::Failed(format!("exit reason {}", state.exit_reason)),
    }
}

fn fault_of(trap: Trap) -> Fault {
    match trap {
        Trap::Divide => Fault::Divide,
        Trap::SingleStep => Fault::SingleStep,
        Trap::Breakpoint => Fault::Breakpoint,
        Trap::InvalidOpcode => Fault::InvalidOpcode,
        Trap::GeneralProtection => Fault::GeneralProtection,
        Trap::X87 => Fault::X87,
        Trap::Alignment => Fault::Alignment,
        Trap::Simd => Fault::Simd,
    }
}

/// The engines' form of a state. Bits above the XMM registers are zero, as in the native run.
pub fn cpu_state(from: &State) -> CpuState {
    let mut state = CpuState {
        gpr: from.gpr,
        rip: from.rip,
        fs_base: from.fs_base,
        gs_base: from.gs_base,
        mxcsr: from.mxcsr,
        helpers: helpers::table().as_ptr() as u64,
        exit_stub: entry::exit_stub(),
        link_stub: entry::link_stub(),
        ..CpuState::default()
    };
    state.set_rflags(from.rflags);
    for (target, value) in state.x87.reg.iter_mut().zip(&from.x87.reg) {
        *target = value.to_le_bytes();
    }
    (state.x87.fcw, state.x87.fsw, state.x87.ftw) = (from.x87.control, from.x87.status, from.x87.tag);
    for (target, value) in state.vec.iter_mut().zip(&from.xmm) {
        target[..16].copy_from_slice(&value.to_le_bytes());
    }
    state
}

fn from_cpu_state(state: &CpuState) -> State {
    State {
        gpr: state.gpr,
        rip: state.rip,
        rflags: state.rflags(),
        xmm: std::array::from_fn(|i| u128::from_le_bytes(state.vec[i][..16].try_into().expect("sixteen bytes"))),
        mxcsr: state.mxcsr,
        x87: X87 {
            reg: state.x87.reg.map(u128::from_le_bytes),
            control: state.x87.fcw,
            status: state.x87.fsw,
            tag: state.x87.ftw,
        },
        fs_base: state.fs_base,
        gs_base: state.gs_base,
    }
}

//! Leaves the verifier's own context for another one and comes back whatever happens there: to run a case on the CPU,
//! or to call an engine that may fault.
//!
//! Both ways go through a signal handler. A breakpoint in [`enter`] raises SIGTRAP; the handler keeps the interrupted
//! context and puts the one wanted into the signal frame, so the kernel loads every register at once. The next
//! synchronous signal (a fault, or the breakpoint that stands behind every program) is the end: its frame holds the
//! result, and the context that was kept goes back in. Nothing in between can hurt more than memory.

#[cfg(target_arch = "aarch64")]
#[path = "excursion/aarch64.rs"]
mod host;
#[cfg(target_arch = "x86_64")]
#[path = "excursion/x86_64.rs"]
mod host;

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail};
use xlate_abi::state::CpuState;
use xlate_runtime::engine::fault;

use super::case::Fault;
#[cfg(target_arch = "x86_64")]
use super::case::{End, Extent, Outcome, State};

/// Where the handler stands between one signal and the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A signal now is a bug of the verifier: it dies by it.
    Home,
    Entering,
    Away,
}

/// What the handler works on.
struct Control {
    phase: Phase,
    home: host::Saved,
    wanted: host::Wanted,
    result: host::Captured,
    /// The state of the engine that is called; null outside.
    engine_state: *mut CpuState,
    /// The fault by which guest code in an engine ended.
    guest_fault: Option<Fault>,
}

struct Shared(UnsafeCell<Control>);

// SAFETY: the verifier's workers have one thread; the handler runs in it, and only while `enter` waits.
unsafe impl Sync for Shared {}

static CONTROL: Shared = Shared(UnsafeCell::new(Control {
    phase: Phase::Home,
    home: host::Saved::EMPTY,
    wanted: host::Wanted::EMPTY,
    result: host::Captured::EMPTY,
    engine_state: std::ptr::null_mut(),
    guest_fault: None,
}));

/// Stack of the signal handler, and of called functions.
const HANDLER_STACK: usize = 64 << 10;
const CALL_STACK: usize = 8 << 20;

/// The vector state of this machine.
#[cfg(target_arch = "x86_64")]
pub fn extent() -> Extent {
    host::xsave::extent()
}

/// Whether this machine's areas of XSAVE are those of the engines.
#[cfg(target_arch = "x86_64")]
pub fn has_intels_areas() -> bool {
    host::xsave::has_intels_areas()
}

/// Permission to go on excursions: the handlers are installed. One in a process.
pub struct Excursions {
    call_stack: Vec<u8>,
    _handler_stack: Vec<u8>,
}

/// How a called function ended.
#[derive(Debug)]
pub enum Called {
    Returned,
    Panicked(String),
    Faulted(Fault),
}

impl Excursions {
    /// Installs the handlers, for good.
    pub fn install() -> Result<Self> {
        let mut handler_stack = vec![0u8; HANDLER_STACK];
        let stack = libc::stack_t { ss_sp: handler_stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: HANDLER_STACK };
        // SAFETY: the stack lives as long as this value, which a worker keeps to its end.
        if unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) } != 0 {
            bail!("sigaltstack: {}", std::io::Error::last_os_error());
        }
        host::prepare();
        for signal in [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
            // SAFETY: all-zero is a valid sigaction; the handler is async-signal-safe.
            let r = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = host::entry();
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(signal, &action, std::ptr::null_mut())
            };
            if r != 0 {
                bail!("sigaction {signal}: {}", std::io::Error::last_os_error());
            }
        }
        // Panics of called functions are results, not messages.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !away() {
                told(info);
            }
        }));
        Ok(Self { call_stack: vec![0; CALL_STACK], _handler_stack: handler_stack })
    }

    /// Runs machine code at `state.rip` on the CPU until it traps. Code that belongs to no program is breakpoints.
    #[cfg(target_arch = "x86_64")]
    pub fn native(&mut self, state: &State) -> Outcome {
        // SAFETY: `enter` is the only user of the control block.
        let control = unsafe { &mut *CONTROL.0.get() };
        control.wanted = host::Wanted::guest(state);
        control.engine_state = std::ptr::null_mut();
        host::clear_id_flag();
        enter();
        Outcome { end: End::Fault(control.result.fault), state: control.result.state.clone() }
    }

    /// Calls a function on a stack of its own. It may change the floating-point modes: they are as before afterwards.
    /// Faults inside an engine's guest code leave it by the runtime's own way, with its state.
    pub fn call(&mut self, state: *mut CpuState, f: &mut dyn FnMut()) -> Called {
        let mut job = Job { f, panic: None, returned: false };
        let top = (self.call_stack.as_mut_ptr() as u64 + CALL_STACK as u64) & !63;
        // SAFETY: `enter` is the only user of the control block.
        let control = unsafe { &mut *CONTROL.0.get() };
        (control.engine_state, control.guest_fault) = (state, None);
        control.wanted = host::Wanted::call(run_job, &raw mut job as u64, top);
        enter();
        match job {
            Job { panic: Some(message), .. } => Called::Panicked(message),
            Job { returned: true, .. } => control.guest_fault.map_or(Called::Returned, Called::Faulted),
            _ => Called::Faulted(control.result.fault),
        }
    }
}

struct Job<'f> {
    f: &'f mut dyn FnMut(),
    panic: Option<String>,
    returned: bool,
}

/// First function on the other stack.
extern "C" fn run_job(job: *mut Job<'_>) -> ! {
    // SAFETY: `call` made it and waits for it.
    let job = unsafe { &mut *job };
    match catch_unwind(AssertUnwindSafe(|| (job.f)())) {
        Ok(()) => job.returned = true,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            job.panic = Some(text.unwrap_or_else(|| "a panic without a message".to_owned()));
        }
    }
    loop {
        host::breakpoint();
    }
}

/// Whether a called function is running.
fn away() -> bool {
    // SAFETY: single-threaded; nothing holds a reference to the phase while other code runs.
    unsafe { (*CONTROL.0.get()).phase == Phase::Away }
}

/// Goes to the wanted context and comes back with the result.
fn enter() {
    // SAFETY: single-threaded; the handler looks at the phase only after the breakpoint.
    unsafe { (*CONTROL.0.get()).phase = Phase::Entering };
    host::breakpoint();
}

/// The body of the handler.
///
/// # Safety
/// Called by the kernel on the alternate stack only, with a live signal frame.
unsafe fn handle(signal: i32, info: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    // SAFETY: the interrupted code is either inside `enter` or away.
    let control = unsafe { &mut *CONTROL.0.get() };
    match control.phase {
        Phase::Home => {
            // SAFETY: resets the disposition; the faulting instruction is run again and ends the process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Phase::Entering => {
            control.home.save(context);
            control.wanted.load_into(context);
            control.phase = Phase::Away;
        }
        Phase::Away => {
            control.result.capture(signal, info, context);
            if !control.engine_state.is_null() && fault::in_guest() && control.guest_fault.is_none() {
                control.guest_fault = Some(control.result.fault);
                // SAFETY: in a handler, with the engine running guest code on this state.
                unsafe { fault::leave(context, control.engine_state) };
                return;
            }
            control.home.restore(context);
            control.phase = Phase::Home;
        }
    }
}

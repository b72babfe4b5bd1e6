//! What the host's fault handler asks of the engine.
//!
//! The questions concern the thread's own run of guest code; [`Running`] records it while it lasts.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use xlate_abi::state::CpuState;

use super::{Engine, GuestCode, entry};

/// The run of guest code that this thread is in.
#[derive(Clone, Copy)]
struct Current {
    engine: *mut Engine,
    state: *mut CpuState,
    memory: *const dyn GuestCode,
}

thread_local! {
    // Constant initial values without destructors: plain thread-local storage, safe to touch in a handler.
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
    static HOST_FAULT: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as running guest code until it is dropped.
pub(super) struct Running(());

impl Running {
    pub(super) fn begin(engine: *mut Engine, state: *mut CpuState, memory: &dyn GuestCode) -> Self {
        let memory: *const (dyn GuestCode + '_) = memory;
        // SAFETY: only the lifetime changes; `Drop` forgets the pointer before the borrow ends.
        let memory: *const (dyn GuestCode + 'static) = unsafe { core::mem::transmute(memory) };
        CURRENT.set(Some(Current { engine, state, memory }));
        HOST_FAULT.set(false);
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Whether [`leave`] was used since the last question.
pub(super) fn take_host_fault() -> bool {
    HOST_FAULT.replace(false)
}

/// What `pending` holds beside other things while a write to code has not been looked at.
const CODE_WRITTEN: u32 = 2;

/// Whether the fault at `addr` was a write to a page that is protected because of its translations. If so the page is
/// writable again, and the access is to be retried: code that may run what was written leaves behind it, and the
/// dispatcher drops the translations.
pub fn code_write(addr: u64) -> bool {
    let Some(current) = CURRENT.get() else {
        return false;
    };
    // SAFETY: valid while `Running` lasts. The fault is synchronous and comes from guest code (the engine's own code
    // doesn't write to guest memory), so the structures are at rest.
    unsafe {
        if !(*current.memory).open_code(addr) {
            return false;
        }
        pending(current.state).fetch_or(CODE_WRITTEN, Ordering::SeqCst);
    }
    true
}

/// The dispatcher has looked at all writes to code.
pub(super) fn written_code_is_taken(state: &mut CpuState) {
    // SAFETY: an exclusive reference.
    unsafe { pending(state) }.fetch_and(!CODE_WRITTEN, Ordering::SeqCst);
}

/// The state's `pending`, which signal handlers change.
///
/// # Safety
/// The state is valid.
unsafe fn pending<'s>(state: *mut CpuState) -> &'s AtomicU32 {
    // SAFETY: the caller's contract; the word is aligned.
    unsafe { AtomicU32::from_ptr(&raw mut (*state).pending) }
}

/// Whether the thread is inside [`super::Engine::run`].
pub fn in_guest() -> bool {
    CURRENT.get().is_some()
}

/// Makes the interrupted host context return to the dispatcher with `Exit::HostFault`, `rip` precise.
///
/// # Safety
/// Only from a signal handler, while [`in_guest`]; `context` is the handler's own third argument.
pub unsafe fn leave(context: *mut libc::ucontext_t, state: *mut CpuState) {
    HOST_FAULT.set(true);
    if let Some(current) = CURRENT.get() {
        // SAFETY: valid while `Running` lasts; a synchronous fault of guest code finds the tables at rest. Elsewhere
        // (tier 0, helpers) `rip` is in the state already.
        unsafe {
            if let Some(pc) = (*current.engine).guest_pc(program_counter(context)) {
                (*state).rip = pc;
            }
        }
    }
    // SAFETY: the caller's contract; the exit stub needs nothing but the state pointer in its register.
    unsafe { redirect(context, entry::exit_stub(), state as u64) };
}

/// The interrupted host address.
///
/// # Safety
/// As for [`leave`].
unsafe fn program_counter(context: *mut libc::ucontext_t) -> u64 {
    // SAFETY: the caller's contract.
    let machine = unsafe { &(*context).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return machine.gregs[libc::REG_RIP as usize] as u64;
    #[cfg(target_arch = "aarch64")]
    return machine.pc;
}

/// Makes the context go on at the exit stub.
///
/// # Safety
/// As for [`leave`].
#[cfg(target_arch = "x86_64")]
unsafe fn redirect(context: *mut libc::ucontext_t, stub: u64, state: u64) {
    // SAFETY: the caller's contract.
    let gregs = unsafe { &mut (*context).uc_mcontext.gregs };
    gregs[libc::REG_RIP as usize] = stub as i64;
    gregs[libc::REG_RDI as usize] = state as i64;
}

/// Makes the context go on at the exit stub.
///
/// # Safety
/// As for [`leave`].
#[cfg(target_arch = "aarch64")]
unsafe fn redirect(context: *mut libc::ucontext_t, stub: u64, state: u64) {
    // SAFETY: the caller's contract.
    let machine = unsafe { &mut (*context).uc_mcontext };
    machine.pc = stub;
    machine.regs[2] = state;
}

//! What the host's fault handler asks of the engine.

use xlate_abi::state::CpuState;

/// Whether the fault at `addr` was a write to a page that is protected because of its translations; if so they
/// are dropped, the page is writable again and the access is to be retried.
pub fn code_write(_addr: u64) -> bool {
    false
}

/// Whether the thread is inside [`super::Engine::run`].
pub fn in_guest() -> bool {
    false
}

/// Makes the interrupted host context return to the dispatcher with `Exit::HostFault`, `rip` precise.
///
/// # Safety
/// Only from a signal handler, while [`in_guest`]; `context` is the handler's own third argument.
pub unsafe fn leave(_context: *mut libc::ucontext_t, _state: *mut CpuState) {}

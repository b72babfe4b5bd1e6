//! The host's side: dispositions, mask, the handler itself, and death.
//!
//! The only global state of the runtime: what a signal handler must reach without an argument.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, compiler_fence};

use std::sync::Once;

use xlate_abi::state::CpuState;

use super::{Action, Fault, Notice, SIGNALS, SYNCHRONOUS, SigInfo, VECTOR_PAGE_FAULT, mask_of, sa};
use crate::engine::fault as engine;
use crate::guarded;
use crate::guest::Guest;

/// The running guest's state; null before [`attach`].
static STATE: AtomicPtr<CpuState> = AtomicPtr::new(core::ptr::null_mut());

/// Room for signals taken and not yet fetched. One at a time, but for the synchronous ones, which another
/// process may send at any moment.
const RING: usize = 16;

struct Ring {
    slots: UnsafeCell<[MaybeUninit<SigInfo>; RING]>,
    written: AtomicU32,
    read: AtomicU32,
}

// SAFETY: one thread and its signal handlers use it; the handlers block all others while they write, and a slot
// is only reused after `read` has passed it.
unsafe impl Sync for Ring {}

static TAKEN: Ring =
    Ring { slots: UnsafeCell::new([MaybeUninit::uninit(); RING]), written: AtomicU32::new(0), read: AtomicU32::new(0) };

/// The fault that made translated code leave, until the loop has fetched it.
struct FaultSlot(UnsafeCell<Option<Fault>>);

// SAFETY: written by the handler of a synchronous fault while the thread is in guest code, read when it is not.
unsafe impl Sync for FaultSlot {}

static FAULT: FaultSlot = FaultSlot(UnsafeCell::new(None));

/// The kernel's `struct sigaction` (x86-64 and AArch64 have it alike).
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

// The C library's own signal functions hide two real-time signals that the guest's C library needs, so
// the system calls are made directly; x86-64 then needs a return of its own from handlers.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl xlate_signal_return", "xlate_signal_return:", "    mov eax, 15", "    syscall",);

// SAFETY: assembly of this module defines it so.
#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn xlate_signal_return();
}

/// arch/arm64/include/uapi/asm/signal.h.
#[cfg(target_arch = "aarch64")]
const SA_EXPOSE_TAGBITS: u64 = 0x800;

fn set_disposition(signal: i32, handler: usize, flags: u64) {
    #[cfg(target_arch = "x86_64")]
    let (flags, restorer) = (flags | sa::RESTORER, xlate_signal_return as *const () as usize);
    // A fault's address with its upper byte, which the processor ignores and x86-64 doesn't.
    #[cfg(target_arch = "aarch64")]
    let (flags, restorer) = (flags | SA_EXPOSE_TAGBITS, 0);
    let action = KernelAction { handler, flags, restorer, mask: u64::MAX };
    // SAFETY: the structure is the kernel's; the handler is `on_signal`, SIG_DFL or SIG_IGN.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, core::ptr::null_mut::<KernelAction>(), 8usize);
    }
}

/// Makes the host's disposition follow the guest's action.
pub(super) fn install(signal: i32, action: &Action) {
    let ours = on_signal as *const () as usize;
    if action.is_handler() || mask_of(signal) & SYNCHRONOUS != 0 {
        let flags = action.flags & (sa::NOCLDSTOP | sa::NOCLDWAIT);
        set_disposition(signal, ours, flags | sa::SIGINFO | sa::ONSTACK);
    } else {
        // SA_NOCLDWAIT has its effect on SIGCHLD whatever the handler is.
        set_disposition(signal, action.handler as usize, action.flags & (sa::NOCLDSTOP | sa::NOCLDWAIT));
    }
}

/// Sets a signal to be ignored on the host.
pub(super) fn ignore(signal: i32) {
    set_disposition(signal, libc::SIG_IGN, 0);
}

/// Whether the host ignores a signal (at start: what the parent left ignored).
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut old = MaybeUninit::<KernelAction>::zeroed();
    // SAFETY: the structure is the kernel's; zeroed if the call fails.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, core::ptr::null::<KernelAction>(), old.as_mut_ptr(), 8usize);
        old.assume_init().handler == libc::SIG_IGN
    }
}

fn sigprocmask(how: i32, set: Option<u64>) -> u64 {
    let new = set.unwrap_or(0);
    let new_ptr = set.map_or(core::ptr::null(), |_| &raw const new);
    let mut old = 0u64;
    // SAFETY: both pointers are null or valid for eight bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, new_ptr, &raw mut old, 8usize);
    }
    old
}

/// The host's mask.
pub(super) fn mask() -> u64 {
    sigprocmask(libc::SIG_BLOCK, None)
}

/// Sets the host's mask.
pub(super) fn set_mask(mask: u64) {
    sigprocmask(libc::SIG_SETMASK, Some(mask));
}

/// Signals that wait at the host.
pub(super) fn pending() -> u64 {
    let mut set = 0u64;
    // SAFETY: the pointer is valid for eight bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigpending, &raw mut set, 8usize);
    }
    set
}

/// Stops the process as SIGTSTP and its like do by default.
pub(super) fn stop() {
    // SAFETY: no memory is involved.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGSTOP);
    }
}

/// The flag that asks translated code to leave at its next safepoint.
fn flag(state: *mut CpuState) -> &'static AtomicU32 {
    // SAFETY: the state is a box that lives as long as the process; `pending` is an aligned u32 that handlers
    // change only through this atomic view.
    unsafe { AtomicU32::from_ptr(&raw mut (*state).pending) }
}

pub(super) fn raise_flag(state: &mut CpuState) {
    flag(state).store(1, Ordering::SeqCst);
}

pub(super) fn lower_flag(state: &mut CpuState) {
    flag(state).store(0, Ordering::SeqCst);
}

/// Fetches the next signal that the handler has taken.
pub(super) fn take() -> Option<SigInfo> {
    let read = TAKEN.read.load(Ordering::Relaxed);
    if read == TAKEN.written.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: the slot lies between `read` and `written`: it is initialised, and the handler doesn't write it
    // until `read` has passed.
    let info = unsafe { (*TAKEN.slots.get())[read as usize % RING].assume_init() };
    TAKEN.read.store(read.wrapping_add(1), Ordering::Release);
    Some(info)
}

/// Forgets the signals that were taken (in the child of a fork).
pub(super) fn discard_taken() {
    while take().is_some() {}
}

/// Fetches the host fault behind `Exit::HostFault`. `rip` is the guest's instruction that raised it.
pub fn take_host_fault(rip: u64) -> Option<Fault> {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the handler writes it only while guest code runs, not now.
    let mut fault = unsafe { (*FAULT.0.get()).take() }?;
    if matches!(fault.info.signal(), libc::SIGFPE | libc::SIGILL) {
        // These tell where the instruction is: the guest's, not the host's.
        fault.info = SigInfo::fault(fault.info.signal(), fault.info.code(), rip);
    }
    Some(fault)
}

const ALT_STACK_SIZE: usize = 64 * 1024;

/// Installs the handlers for faults, on a stack of their own: from here on guarded copies don't kill.
pub fn catch_faults() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let stack = Box::leak(vec![0u8; ALT_STACK_SIZE].into_boxed_slice());
        let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: ALT_STACK_SIZE };
        // SAFETY: the stack is leaked: it is valid for ever.
        unsafe {
            libc::sigaltstack(&stack, core::ptr::null_mut());
        }
        for signal in (1..=SIGNALS).filter(|&s| mask_of(s) & SYNCHRONOUS != 0) {
            install(signal, &Action::default());
        }
    });
}

/// Makes this guest the one that host signals concern, and installs the handlers it needs.
pub fn attach(guest: &mut Guest) {
    STATE.store(&raw mut *guest.state, Ordering::SeqCst);
    catch_faults();
    for signal in 1..=SIGNALS {
        let action = guest.signals.action(signal);
        if action.is_handler() {
            install(signal, &action);
        }
    }
    set_mask(guest.signals.mask() & !SYNCHRONOUS);
}

/// Ends the process by `signal`, so that its parent sees just that.
pub fn die_by(signal: i32) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    set_disposition(signal, libc::SIG_DFL, 0);
    // SAFETY: plain system calls on valid arguments. A core would be the translator's, not the guest's: none.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        set_mask(!mask_of(signal));
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
        libc::_exit(128 + signal)
    }
}

/// The handler of all signals that the host doesn't deal with by itself.
extern "C" fn on_signal(signal: i32, info: *mut SigInfo, context: *mut libc::ucontext_t) {
    // SAFETY: errno is this thread's; it is put back below for the code that was interrupted.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel hands valid structures to a SA_SIGINFO handler.
    let (info, context) = unsafe { (&*info, &mut *context) };
    // Kernel-made information has a positive code; what kill(2) and its like send has none.
    if mask_of(signal) & SYNCHRONOUS != 0 && info.code() > 0 {
        on_fault(signal, info, context);
    } else if let Some(notice) = Notice::decode(info) {
        notice.note();
        ask_for_safepoint(context);
    } else {
        on_asynchronous(info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Notes the signal and asks for a safepoint. Everything else stays blocked, in the kernel's good order, till then.
fn on_asynchronous(info: &SigInfo, context: &mut libc::ucontext_t) {
    let written = TAKEN.written.load(Ordering::Relaxed);
    if written.wrapping_sub(TAKEN.read.load(Ordering::Acquire)) < RING as u32 {
        // SAFETY: the slot is outside `read..written`, so nobody reads it; handlers don't nest.
        unsafe {
            (*TAKEN.slots.get())[written as usize % RING].write(*info);
        }
        TAKEN.written.store(written.wrapping_add(1), Ordering::Release);
    }
    set_context_mask(context, !SYNCHRONOUS);
    ask_for_safepoint(context);
}

/// Makes guest code leave soon, and a system call that isn't begun not begin.
fn ask_for_safepoint(context: &mut libc::ucontext_t) {
    let state = STATE.load(Ordering::Relaxed);
    if !state.is_null() {
        flag(state).store(1, Ordering::SeqCst);
    }
    if let Some(fixup) = guarded::fixup_interrupt(program_counter(context)) {
        set_program_counter(context, fixup);
    }
}

/// Sorts out a fault: a write to translated code, a guarded copy, the guest's own, or the translator's bug.
fn on_fault(signal: i32, info: &SigInfo, context: &mut libc::ucontext_t) {
    if signal == libc::SIGSEGV && engine::code_write(info.addr()) {
        return;
    }
    if let Some(fixup) = guarded::fixup_fault(program_counter(context)) {
        set_program_counter(context, fixup);
        return;
    }
    let state = STATE.load(Ordering::Relaxed);
    if !state.is_null() && engine::in_guest() {
        // SAFETY: the loop reads the slot only after guest code has been left.
        unsafe {
            *FAULT.0.get() = Some(describe(signal, info, context));
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: we are in a handler that interrupted guest code, with its context.
        unsafe { engine::leave(context, state) };
        return;
    }
    let pc = program_counter(context);
    eprintln!("xlate: internal error: {info:?} at host address {pc:#x}, outside of guest code; please report it");
    std::process::abort();
}

/// The guest's view of a host fault.
fn describe(signal: i32, info: &SigInfo, context: &libc::ucontext_t) -> Fault {
    let mut fault = Fault::exception(signal, info.code(), info.addr(), 0);
    (fault.trapno, fault.err) = trap_and_error(signal, info, context);
    if fault.trapno == VECTOR_PAGE_FAULT {
        fault.cr2 = info.addr();
    }
    fault
}

#[cfg(target_arch = "x86_64")]
fn trap_and_error(_: i32, _: &SigInfo, context: &libc::ucontext_t) -> (u64, u64) {
    let gregs = &context.uc_mcontext.gregs;
    (gregs[libc::REG_TRAPNO as usize] as u64, gregs[libc::REG_ERR as usize] as u64)
}

/// AArch64 tells in the syndrome register's record whether it was a write; the rest follows from the code.
#[cfg(target_arch = "aarch64")]
fn trap_and_error(signal: i32, info: &SigInfo, context: &libc::ucontext_t) -> (u64, u64) {
    let vector = match signal {
        libc::SIGFPE => 16,
        libc::SIGILL => 6,
        libc::SIGTRAP => 3,
        _ => VECTOR_PAGE_FAULT,
    };
    if vector != VECTOR_PAGE_FAULT {
        return (vector, 0);
    }
    const USER: u64 = 4;
    let present = u64::from(info.code() == super::code::SEGV_ACCERR);
    let write = u64::from(syndrome(context).is_some_and(|esr| esr & (1 << 6) != 0));
    (vector, USER | write << 1 | present)
}

/// ESR_EL1 from the context's extension records (arch/arm64/include/uapi/asm/sigcontext.h).
#[cfg(target_arch = "aarch64")]
fn syndrome(context: &libc::ucontext_t) -> Option<u64> {
    const ESR_MAGIC: u32 = 0x4553_5201;
    // mcontext: fault_address, regs[31], sp, pc, pstate; then, at 16, the records.
    const RECORDS: usize = (8 * 35usize).next_multiple_of(16);
    let base = (&raw const context.uc_mcontext).cast::<u8>();
    let mut at = RECORDS;
    while at + 16 <= size_of_val(&context.uc_mcontext) {
        // SAFETY: in bounds of the machine context, which the kernel has filled with records up to a zero one.
        let (magic, size, value) = unsafe {
            (
                base.add(at).cast::<u32>().read_unaligned(),
                base.add(at + 4).cast::<u32>().read_unaligned(),
                base.add(at + 8).cast::<u64>().read_unaligned(),
            )
        };
        match magic {
            ESR_MAGIC => return Some(value),
            0 => return None,
            _ => at += (size as usize).max(16),
        }
    }
    None
}

#[cfg(target_arch = "x86_64")]
fn program_counter(context: &libc::ucontext_t) -> u64 {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64
}

#[cfg(target_arch = "x86_64")]
fn set_program_counter(context: &mut libc::ucontext_t, pc: u64) {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as i64;
}

#[cfg(target_arch = "aarch64")]
fn program_counter(context: &libc::ucontext_t) -> u64 {
    context.uc_mcontext.pc
}

#[cfg(target_arch = "aarch64")]
fn set_program_counter(context: &mut libc::ucontext_t, pc: u64) {
    context.uc_mcontext.pc = pc;
}

/// Sets the mask that the interrupted code goes on with. The kernel reads the first 64 bits of it only.
fn set_context_mask(context: &mut libc::ucontext_t, mask: u64) {
    // SAFETY: sigset_t is longer than eight bytes and suitably aligned.
    unsafe {
        (&raw mut context.uc_sigmask).cast::<u64>().write(mask);
    }
}

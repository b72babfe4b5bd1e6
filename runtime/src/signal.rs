//! The guest's signals: actions, mask and queue, delivery as Linux does it on x86-64.
//!
//! The host's dispositions and mask mirror the guest's, so that the kernel does by itself what needs no guest
//! code: ignoring, stopping, default deaths, blocking, queueing. A host handler exists only where the guest has
//! one, and for the signals that faults raise ([`SYNCHRONOUS`]), which are never blocked on the host. The
//! handler takes one signal at a time: it notes it, blocks all others, and asks for a safepoint; [`Signals::deliver`] builds
//! the guest's frame there and opens the host's mask again.

mod exception;
mod frame;
mod host;
mod notice;

use std::collections::VecDeque;

use xlate_abi::state::{CpuState, Trap};

use crate::errno::Errno;
use crate::memory::Memory;

pub use exception::{View, is_canonical};
pub use frame::{FloatFormat, FrameError};
pub use host::{attach, catch_faults, die_by, take_host_fault};
pub use notice::Notice;

/// Number of signals (_NSIG).
pub const SIGNALS: i32 = 64;

/// Signals that a fault of the guest's own code can raise.
pub const SYNCHRONOUS: u64 = mask_of(libc::SIGSEGV)
    | mask_of(libc::SIGBUS)
    | mask_of(libc::SIGFPE)
    | mask_of(libc::SIGILL)
    | mask_of(libc::SIGTRAP);

/// A handler for one of these may look at the registers, so they must be precise at every access. The other
/// synchronous signals come from checks in translated code (a division by zero, an invalid instruction), which
/// leaves with all registers stored, precise or not: awk's handler for SIGFPE costs it nothing.
const PRECISE: u64 = mask_of(libc::SIGSEGV) | mask_of(libc::SIGBUS);

const UNBLOCKABLE: u64 = mask_of(libc::SIGKILL) | mask_of(libc::SIGSTOP);

/// What is ignored by default (signal(7)).
const IGNORED_BY_DEFAULT: u64 =
    mask_of(libc::SIGCHLD) | mask_of(libc::SIGCONT) | mask_of(libc::SIGURG) | mask_of(libc::SIGWINCH);
const STOPPING_BY_DEFAULT: u64 = mask_of(libc::SIGTSTP) | mask_of(libc::SIGTTIN) | mask_of(libc::SIGTTOU);

/// The signal's bit in a mask.
pub const fn mask_of(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Flags of an action (arch/x86/include/uapi/asm/signal.h; the same on all hosts, SA_RESTORER aside).
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// x86-64's `struct sigaction` as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

// SAFETY: four integers without padding.
unsafe impl crate::memory::Plain for Action {}

impl Action {
    fn is_handler(&self) -> bool {
        self.handler > SIG_IGN
    }
}

/// The alternate signal stack (sigaltstack(2)), x86-64's `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    pub sp: u64,
    pub flags: i32,
    pub _pad: u32,
    pub size: u64,
}

// SAFETY: integers; the padding is spelt out.
unsafe impl crate::memory::Plain for AltStack {}

const SS_ONSTACK: i32 = 1;
const SS_DISABLE: i32 = 2;
const SS_AUTODISARM: i32 = 1 << 31;
/// x86-64's MINSIGSTKSZ.
const MIN_ALT_STACK: u64 = 2048;

impl Default for AltStack {
    fn default() -> Self {
        Self { sp: 0, flags: SS_DISABLE, _pad: 0, size: 0 }
    }
}

impl AltStack {
    /// Whether a stack pointer is on this stack.
    fn holds(&self, sp: u64) -> bool {
        // sp - 1 so that an empty stack (sp at its end) counts, as in the kernel's on_sig_stack.
        self.flags & SS_DISABLE == 0 && self.flags & SS_AUTODISARM == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

/// `siginfo_t`: 128 bytes, of the same layout on both hosts.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct SigInfo(pub [u8; 128]);

// SAFETY: an array of bytes.
unsafe impl crate::memory::Plain for SigInfo {}

impl SigInfo {
    /// A synthetic one with a fault address (or zero).
    pub fn fault(signal: i32, code: i32, addr: u64) -> Self {
        let mut info = Self([0; 128]);
        info.0[0..4].copy_from_slice(&signal.to_le_bytes());
        info.0[8..12].copy_from_slice(&code.to_le_bytes());
        info.0[16..24].copy_from_slice(&addr.to_le_bytes());
        info
    }

    fn word(&self, at: usize) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        i32::from_le_bytes(bytes)
    }

    pub fn signal(&self) -> i32 {
        self.word(0)
    }

    pub fn code(&self) -> i32 {
        self.word(8)
    }

    /// si_addr.
    pub fn addr(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[16..24]);
        u64::from_le_bytes(bytes)
    }
}

impl std::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal {} code {} addr {:#x}", self.signal(), self.code(), self.addr())
    }
}

/// What raised a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An exception in front of an instruction, which is to be tried again: the saved flags have RF set (Intel SDM vol. 3,
    /// 19.3.1.1).
    Fault,
    /// An exception behind an instruction.
    Trap,
    /// None: it was sent, or Linux forces it.
    Sent,
}

/// A signal, with what the frame's sigcontext says about its exception.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub info: SigInfo,
    pub cause: Cause,
    /// x86 vector number.
    pub trapno: u64,
    /// x86 error code (of a page fault: bit 0 protection, bit 1 write, bit 2 user, bit 4 fetch).
    pub err: u64,
    pub cr2: u64,
}

/// x86 vectors that aren't a [`Trap`] of the guest's own making.
const VECTOR_PAGE_FAULT: u64 = 14;

/// Values of si_code (include/uapi/asm-generic/siginfo.h).
mod code {
    /// An exception without further detail.
    pub const KERNEL: i32 = 0x80;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
}

impl Fault {
    /// An exception of the fault class, without an error code.
    fn exception(signal: i32, code: i32, addr: u64, trapno: u64) -> Self {
        Self { info: SigInfo::fault(signal, code, addr), cause: Cause::Fault, trapno, err: 0, cr2: 0 }
    }

    /// A signal without an exception.
    fn sent(info: SigInfo) -> Self {
        Self { info, cause: Cause::Sent, trapno: 0, err: 0, cr2: 0 }
    }

    /// #GP for a selector that can't be loaded.
    fn of_selector(selector: u16) -> Self {
        let err = u64::from(selector & !3);
        Self { err, ..Self::exception(libc::SIGSEGV, code::KERNEL, 0, Trap::GeneralProtection as u64) }
    }

    /// SIGSEGV as Linux forces it for what it can't do for the program.
    fn forced() -> Self {
        Self::sent(SigInfo::fault(libc::SIGSEGV, code::KERNEL, 0))
    }

    /// An exception that an instruction raised by itself: signal and code as Linux's arch/x86/kernel/traps.c
    /// has them.
    pub fn trap(trap: Trap, state: &CpuState) -> Self {
        let rip = state.rip;
        let (signal, code, addr) = match trap {
            Trap::Divide => (libc::SIGFPE, code::FPE_INTDIV, rip),
            Trap::Debug => (libc::SIGTRAP, code::TRAP_BRKPT, rip),
            Trap::Breakpoint => (libc::SIGTRAP, code::KERNEL, 0),
            Trap::InvalidOpcode => (libc::SIGILL, code::ILL_ILLOPN, rip),
            Trap::GeneralProtection | Trap::Overflow => (libc::SIGSEGV, code::KERNEL, 0),
            Trap::StackFault => (libc::SIGBUS, code::KERNEL, 0),
            Trap::X87 => (libc::SIGFPE, x87_code(state), rip),
            Trap::Alignment => (libc::SIGBUS, code::BUS_ADRALN, 0),
            Trap::Simd => (libc::SIGFPE, simd_code(state), rip),
        };
        let cause = match trap {
            Trap::Debug | Trap::Breakpoint | Trap::Overflow => Cause::Trap,
            _ => Cause::Fault,
        };
        let err = if trap == Trap::GeneralProtection { state.error_code.into() } else { 0 };
        Self { cause, err, ..Self::exception(signal, code, addr, trap as u64) }
    }

    /// A write to where nothing is mapped.
    pub fn write(addr: u64) -> Self {
        Self { err: 6, cr2: addr, ..Self::exception(libc::SIGSEGV, code::SEGV_MAPERR, addr, VECTOR_PAGE_FAULT) }
    }

    /// The debug exception behind an instruction that was executed with TF set. `unfinished`: a repeated one that has only
    /// done a step, which is gone on with as after a fault.
    pub fn single_step(state: &CpuState, unfinished: bool) -> Self {
        let cause = if unfinished { Cause::Fault } else { Cause::Trap };
        Self { cause, ..Self::exception(libc::SIGTRAP, code::TRAP_TRACE, state.rip, Trap::Debug as u64) }
    }
}

/// What a frame's sigcontext says of an exception: Linux keeps the last one's, whatever signal the frame is for
/// (`thread_struct`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LastException {
    trapno: u64,
    err: u64,
    cr2: u64,
}

impl LastException {
    fn note(&mut self, fault: &Fault) {
        if fault.cause == Cause::Sent {
            return;
        }
        (self.trapno, self.err) = (fault.trapno, fault.err);
        if fault.trapno == VECTOR_PAGE_FAULT {
            self.cr2 = fault.cr2;
        }
    }
}

/// si_code of the unmasked exceptions in `flags` (x87 status and MXCSR have them at the same bits; the order is
/// that of Linux's fpu__exception_code).
fn float_code(flags: u32) -> i32 {
    match flags {
        f if f & 0x01 != 0 => code::FPE_FLTINV,
        f if f & 0x04 != 0 => code::FPE_FLTDIV,
        f if f & 0x08 != 0 => code::FPE_FLTOVF,
        f if f & 0x12 != 0 => code::FPE_FLTUND,
        f if f & 0x20 != 0 => code::FPE_FLTRES,
        _ => 0,
    }
}

fn x87_code(state: &CpuState) -> i32 {
    float_code(u32::from(state.x87.fsw & !state.x87.fcw & 0x3f))
}

fn simd_code(state: &CpuState) -> i32 {
    float_code(!(state.mxcsr >> 7) & state.mxcsr & 0x3f)
}

/// What came of delivering signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The guest goes on at the state's `rip`.
    Go,
    /// The guest dies of this signal.
    Death(i32),
}

/// How rt_sigprocmask(2) changes the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskChange {
    Block,
    Unblock,
    Set,
}

/// The guest's signal state.
#[derive(Clone)]
pub struct Signals {
    actions: [Action; SIGNALS as usize + 1],
    mask: u64,
    /// The mask to go back to once a call with a mask of its own (sigsuspend, ppoll) is over.
    saved_mask: Option<u64>,
    altstack: AltStack,
    /// Taken from the host and not yet delivered.
    queue: VecDeque<SigInfo>,
    /// The floating-point area of frames.
    float: FloatFormat,
    exception: LastException,
}

impl Signals {
    /// The state a process starts with: what its parent left ignored and blocked (execve(2)). Faults are caught
    /// from here on.
    pub fn inherited() -> Self {
        let mut actions = [Action::default(); SIGNALS as usize + 1];
        for signal in 1..=SIGNALS {
            if host::is_ignored(signal) {
                actions[signal as usize].handler = SIG_IGN;
            }
        }
        catch_faults();
        Self {
            actions,
            mask: host::mask(),
            saved_mask: None,
            altstack: AltStack::default(),
            queue: VecDeque::new(),
            float: FloatFormat::PLAIN,
            exception: LastException::default(),
        }
    }

    /// Sets what signal frames save: the state that the guest's processor has.
    pub fn set_float_format(&mut self, float: FloatFormat) {
        self.float = float;
    }

    /// The action of a signal (1 to [`SIGNALS`]).
    pub fn action(&self, signal: i32) -> Action {
        self.actions[signal as usize]
    }

    /// rt_sigaction(2): sets an action, on the host too, and returns the old one.
    pub fn set_action(&mut self, signal: i32, action: Option<Action>) -> Result<Action, Errno> {
        if !(1..=SIGNALS).contains(&signal) || (action.is_some() && mask_of(signal) & UNBLOCKABLE != 0) {
            return Err(Errno(libc::EINVAL));
        }
        let old = self.actions[signal as usize];
        if let Some(mut action) = action {
            action.mask &= !UNBLOCKABLE;
            self.actions[signal as usize] = action;
            host::install(signal, &action);
            if self.is_ignored(signal) {
                // POSIX: setting a pending signal to be ignored discards it.
                self.queue.retain(|info| info.signal() != signal);
            }
        }
        Ok(old)
    }

    fn is_ignored(&self, signal: i32) -> bool {
        match self.actions[signal as usize].handler {
            SIG_IGN => true,
            SIG_DFL => mask_of(signal) & IGNORED_BY_DEFAULT != 0,
            _ => false,
        }
    }

    /// The signals that are blocked, ignored and caught, as /proc/self/status has them.
    pub fn sets(&self) -> [u64; 3] {
        let with = |is: fn(&Action) -> bool| {
            (1..=SIGNALS).filter(|s| is(&self.actions[*s as usize])).fold(0, |set, s| set | mask_of(s))
        };
        [self.mask, with(|a| a.handler == SIG_IGN), with(Action::is_handler)]
    }

    /// Whether a handler may look at the registers at a faulting access (`Engine::set_precise`).
    pub fn needs_precision(&self) -> bool {
        (1..=SIGNALS).any(|s| mask_of(s) & PRECISE != 0 && self.actions[s as usize].is_handler())
    }

    /// The guest's mask of blocked signals.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// rt_sigprocmask(2): returns the old mask.
    pub fn change_mask(&mut self, change: MaskChange, set: u64, state: &mut CpuState) -> u64 {
        let old = self.mask;
        let new = match change {
            MaskChange::Block => old | set,
            MaskChange::Unblock => old & !set,
            MaskChange::Set => set,
        };
        self.set_mask(new);
        if self.next_deliverable().is_some() {
            host::raise_flag(state);
        }
        old
    }

    /// Sets the mask as it is, on the host too.
    pub fn set_mask(&mut self, mask: u64) {
        self.mask = mask & !UNBLOCKABLE;
        host::set_mask(self.mask & !SYNCHRONOUS);
    }

    /// A mask to hand to a host call that takes one (ppoll, pselect6, epoll_pwait, rt_sigsuspend): faults must
    /// stay open.
    pub fn host_mask(mask: u64) -> u64 {
        mask & !SYNCHRONOUS & !UNBLOCKABLE
    }

    /// A host call with a mask of its own is about to be made: handlers that run at its end run under that mask, and
    /// return to the present one. Delivery ends this state by itself.
    pub fn begin_temporary_mask(&mut self, mask: u64) {
        if self.saved_mask.is_none() {
            self.saved_mask = Some(self.mask);
        }
        self.mask = mask & !UNBLOCKABLE;
    }

    /// The signals that wait, blocked: those the host keeps and those kept here.
    pub fn pending(&mut self) -> u64 {
        self.take_from_host();
        self.queue.iter().fold(host::pending(), |set, info| set | mask_of(info.signal()))
    }

    /// Takes a waiting signal of `set` out of the queue kept here (rt_sigtimedwait(2) asks the host for the others).
    pub fn take_pending(&mut self, set: u64) -> Option<SigInfo> {
        self.take_from_host();
        let at = self.queue.iter().position(|info| mask_of(info.signal()) & set != 0)?;
        self.queue.remove(at)
    }

    /// sigaltstack(2), with the stack pointer of the call.
    pub fn set_altstack(&mut self, new: Option<AltStack>, sp: u64) -> Result<AltStack, Errno> {
        let mut old = self.altstack;
        if old.holds(sp) {
            old.flags |= SS_ONSTACK;
        }
        if let Some(mut new) = new {
            if old.flags & SS_ONSTACK != 0 {
                return Err(Errno(libc::EPERM));
            }
            match new.flags & !SS_AUTODISARM {
                SS_DISABLE => new = AltStack { flags: new.flags, ..AltStack::default() },
                0 | SS_ONSTACK if new.size < MIN_ALT_STACK => return Err(Errno(libc::ENOMEM)),
                0 | SS_ONSTACK => new.flags &= SS_AUTODISARM,
                _ => return Err(Errno(libc::EINVAL)),
            }
            self.altstack = new;
        }
        Ok(old)
    }

    /// For image restore: the alternate stack without its checks.
    pub fn restore_altstack(&mut self, stack: AltStack) {
        self.altstack = AltStack { flags: stack.flags & !SS_ONSTACK, ..stack };
    }

    /// Before the runtime execs itself: handlers become defaults by the exec itself; what stays over it (ignored
    /// signals and the mask) must be the guest's.
    pub fn before_exec(&self) {
        for signal in 1..=SIGNALS {
            if mask_of(signal) & SYNCHRONOUS != 0 && self.actions[signal as usize].handler == SIG_IGN {
                host::ignore(signal);
            }
        }
        host::set_mask(self.mask);
    }

    /// After an exec that failed.
    pub fn after_failed_exec(&self) {
        for signal in 1..=SIGNALS {
            if mask_of(signal) & SYNCHRONOUS != 0 {
                host::install(signal, &self.actions[signal as usize]);
            }
        }
        host::set_mask(self.mask & !SYNCHRONOUS);
    }

    /// In the child of a fork: signals that wait for the parent aren't the child's.
    pub fn after_fork_child(&mut self, state: &mut CpuState) {
        host::discard_taken();
        host::lower_flag(state);
        self.queue.clear();
        host::set_mask(self.mask & !SYNCHRONOUS);
    }

    /// Whether [`Signals::deliver`] has anything to do.
    pub fn wants_attention(&self, state: &CpuState) -> bool {
        state.pending != 0 || self.saved_mask.is_some()
    }

    /// Whether a system call that ended in EINTR is to be made again: not if a handler without SA_RESTART runs
    /// now, nor if the call (`automatic` false) never restarts under a handler. `disturbed` tells that it may have been
    /// a notice to the runtime.
    pub fn restarts_call(&mut self, automatic: bool, disturbed: bool) -> bool {
        self.take_from_host();
        match self.next_deliverable() {
            Some(at) => {
                let action = self.actions[self.queue[at].signal() as usize];
                !action.is_handler() || (automatic && action.flags & sa::RESTART != 0)
            }
            None => disturbed,
        }
    }

    fn take_from_host(&mut self) {
        while let Some(info) = host::take() {
            let signal = info.signal();
            // A standard signal waits only once (signal(7)).
            let standard = signal < 32;
            if !(standard && self.queue.iter().any(|i| i.signal() == signal)) {
                self.queue.push_back(info);
            }
        }
    }

    /// Position of the next signal that isn't blocked: synchronous ones first, then by number.
    fn next_deliverable(&self) -> Option<usize> {
        let open = |info: &&SigInfo| mask_of(info.signal()) & self.mask == 0;
        let rank = |info: &SigInfo| {
            let signal = info.signal();
            (mask_of(signal) & SYNCHRONOUS == 0, signal)
        };
        let best = self.queue.iter().filter(open).map(rank).min()?;
        self.queue.iter().position(|info| rank(info) == best)
    }

    /// Delivers everything that isn't blocked: builds frames, or tells that the guest dies.
    pub fn deliver(&mut self, state: &mut CpuState, memory: &Memory) -> Delivery {
        host::lower_flag(state);
        self.take_from_host();
        while let Some(at) = self.next_deliverable() {
            let Some(info) = self.queue.remove(at) else {
                break;
            };
            let delivery = self.handle(&Fault::sent(info), state, memory);
            if delivery != Delivery::Go {
                return delivery;
            }
        }
        if let Some(mask) = self.saved_mask.take() {
            self.mask = mask;
        }
        host::set_mask(self.mask & !SYNCHRONOUS);
        if self.next_deliverable().is_some() {
            host::raise_flag(state);
        }
        Delivery::Go
    }

    /// Delivers a synchronous exception: one that is blocked or ignored kills (Linux, force_sig_info_to_task).
    pub fn raise(&mut self, fault: Fault, state: &mut CpuState, memory: &Memory) -> Delivery {
        let signal = fault.info.signal();
        let action = self.actions[signal as usize];
        self.exception.note(&fault);
        if self.mask & mask_of(signal) != 0 || !action.is_handler() {
            return Delivery::Death(signal);
        }
        let delivery = self.handle(&fault, state, memory);
        host::set_mask(self.mask & !SYNCHRONOUS);
        delivery
    }

    /// Carries out a signal's action.
    fn handle(&mut self, fault: &Fault, state: &mut CpuState, memory: &Memory) -> Delivery {
        let signal = fault.info.signal();
        let action = self.actions[signal as usize];
        if self.is_ignored(signal) {
            return Delivery::Go;
        }
        if !action.is_handler() {
            if mask_of(signal) & STOPPING_BY_DEFAULT != 0 {
                host::stop();
                return Delivery::Go;
            }
            return Delivery::Death(signal);
        }
        tracing::debug!(signal, handler = format_args!("{:#x}", action.handler), "delivering");
        let frame = frame::Frame {
            fault,
            action: &action,
            mask: self.saved_mask.take().unwrap_or(self.mask),
            altstack: &mut self.altstack,
            float: self.float,
            exception: self.exception,
        };
        if frame.push(state, memory).is_err() {
            // Linux, signal_setup_done: no room for the frame is a SIGSEGV, for a SIGSEGV's own frame, death.
            if signal == libc::SIGSEGV {
                return Delivery::Death(signal);
            }
            return self.raise(Fault::forced(), state, memory);
        }
        self.mask |= action.mask;
        if action.flags & sa::NODEFER == 0 {
            self.mask |= mask_of(signal);
        }
        if action.flags & sa::RESETHAND != 0 {
            // Only the handler; flags and mask stay as they are (kernel/signal.c, get_signal).
            let default = Action { handler: Action::default().handler, ..action };
            self.actions[signal as usize] = default;
            host::install(signal, &default);
        }
        Delivery::Go
    }

    /// rt_sigreturn(2): takes back what the frame below the stack pointer holds. A frame that can't be read, or holds what the
    /// CPU doesn't take, gives a fault, which the caller raises.
    pub fn sigreturn(&mut self, state: &mut CpuState, memory: &Memory) -> Option<Fault> {
        let Ok(restored) = frame::pop(state, memory, &self.float) else { return Some(Fault::forced()) };
        self.mask = restored.mask & !UNBLOCKABLE;
        host::set_mask(self.mask & !SYNCHRONOUS);
        // As restore_altstack: errors in the frame's stack are ignored.
        self.set_altstack(restored.altstack, state.gpr[xlate_abi::state::RSP]).ok();
        if self.next_deliverable().is_some() {
            host::raise_flag(state);
        }
        restored.refused
    }
}

#[cfg(test)]
#[path = "signal/tests.rs"]
mod tests;

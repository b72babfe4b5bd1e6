//! Signal frames of AArch64 Linux (asm/sigcontext.h). Only calls: guest code can't run here by itself.

use libc::{siginfo_t, ucontext_t};

use super::super::case::Fault;

/// The context to come back to. The reserved area holds the vector registers and FPCR in records.
pub struct Saved {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    records: [u8; RECORDS],
}

const RECORDS: usize = 4096;

/// The function to call.
pub struct Wanted {
    function: u64,
    argument: u64,
    stack: u64,
}

/// What the signal at the end said.
pub struct Captured {
    pub fault: Fault,
}

/// Nothing to remember: thread-local data doesn't hang on a register that engines change.
pub fn prepare() {}

/// The handler's address for sigaction.
pub fn entry() -> usize {
    handler as *const () as usize
}

unsafe extern "C" fn handler(signal: i32, info: *mut siginfo_t, context: *mut ucontext_t) {
    // SAFETY: the kernel's own arguments.
    unsafe { super::handle(signal, &*info, &mut *context) };
}

/// The record area, which libc's definition keeps private: it ends the machine context.
fn records(context: &mut ucontext_t) -> &mut [u8; RECORDS] {
    let end = (&raw mut context.uc_mcontext).wrapping_add(1).cast::<u8>();
    // SAFETY: the last 4096 bytes of the machine context are its `__reserved` (asm/sigcontext.h).
    unsafe { &mut *end.wrapping_sub(RECORDS).cast() }
}

impl Saved {
    pub const EMPTY: Self = Self { regs: [0; 31], sp: 0, pc: 0, pstate: 0, records: [0; RECORDS] };

    pub fn save(&mut self, context: &mut ucontext_t) {
        let m = &context.uc_mcontext;
        (self.regs, self.sp, self.pc, self.pstate) = (m.regs, m.sp, m.pc, m.pstate);
        self.records = *records(context);
        // A breakpoint's frame points at it, not behind it.
        self.pc += 4;
    }

    pub fn restore(&self, context: &mut ucontext_t) {
        *records(context) = self.records;
        let m = &mut context.uc_mcontext;
        (m.regs, m.sp, m.pc, m.pstate) = (self.regs, self.sp, self.pc, self.pstate);
    }
}

impl Wanted {
    pub const EMPTY: Self = Self { function: 0, argument: 0, stack: 0 };

    /// A call of `f` with one argument on a stack that ends at `top` (a multiple of 16).
    pub fn call<T>(f: extern "C" fn(*mut T) -> !, argument: u64, top: u64) -> Self {
        Self { function: f as *const () as u64, argument, stack: top }
    }

    pub fn load_into(&self, context: &mut ucontext_t) {
        let m = &mut context.uc_mcontext;
        (m.pc, m.sp) = (self.function, self.stack);
        m.regs[0] = self.argument;
        // The end of the chain of frames (AAPCS64 6.4.6).
        (m.regs[29], m.regs[30]) = (0, 0);
    }
}

impl Captured {
    pub const EMPTY: Self = Self { fault: Fault::Other(0) };

    pub fn capture(&mut self, signal: i32, info: &siginfo_t, _context: &mut ucontext_t) {
        self.fault = match signal {
            // SAFETY: the kernel sets the address for this signal.
            libc::SIGSEGV => Fault::Page(unsafe { info.si_addr() } as u64),
            libc::SIGBUS => Fault::Alignment,
            libc::SIGFPE => Fault::Divide,
            libc::SIGILL => Fault::InvalidOpcode,
            libc::SIGTRAP => Fault::Breakpoint,
            n => Fault::Other(n as u32),
        };
    }
}

#[inline(always)]
pub fn breakpoint() {
    // SAFETY: the handler is installed; it comes back behind this with every register as it was.
    unsafe { core::arch::asm!("brk #0") };
}

//! The guest process: its parts, and the loop that runs it.

use xlate_abi::state::{CpuState, ExitReason, Trap};

use crate::config::Config;
use crate::engine::{Engine, Exit};
use crate::linux::{self, Convention, Kernel, Outcome};
use crate::memory::Memory;
use crate::processor::Processor;
use crate::signal::{self, Notice, Signals};

/// One guest process with its only thread.
pub struct Guest {
    pub state: Box<CpuState>,
    /// What CPUID tells. The state has its address while the guest runs.
    pub processor: Box<Processor>,
    pub engine: Engine,
    pub memory: Memory,
    pub signals: Signals,
    /// What the system calls keep between calls.
    pub kernel: Kernel,
    pub config: Config,
}

impl Guest {
    /// Runs the guest until it exits or dies by a signal; never returns.
    pub fn run(&mut self) -> ! {
        self.state.processor = &raw const *self.processor as u64;
        signal::attach(self);
        loop {
            let exit = self.engine.run(&mut self.state, &self.memory);
            self.handle(exit);
        }
    }

    fn handle(&mut self, exit: Exit) {
        match exit {
            Exit::Syscall => self.syscall(Convention::Native),
            Exit::LegacySyscall => self.syscall(Convention::Legacy),
            Exit::Safepoint => self.deliver(None),
            Exit::Trap(trap) => self.trap(trap),
            Exit::Unimplemented => {
                self.name_unimplemented();
                self.fault(signal::Fault::trap(Trap::InvalidOpcode, &self.state));
            }
            Exit::FetchFault => self.fetch_fault(),
            Exit::Stepped { unfinished } => self.fault(signal::Fault::single_step(&self.state, unfinished)),
            Exit::HostFault => {
                if let Some(fault) = signal::take_host_fault(self.state.rip) {
                    self.fault(self.view().data(fault));
                }
            }
        }
    }

    fn fetch_fault(&mut self) {
        // The code may be on a stack that has grown since.
        if self.memory.catch_up() {
            return;
        }
        match linux::vsyscall::emulate(self) {
            Some(Ok(())) => self.deliver(None),
            Some(Err(fault)) => self.fault(fault),
            None => self.fault(self.view().fetch()),
        }
    }

    /// What a fault is judged by.
    fn view(&self) -> signal::View<'_> {
        signal::View { state: &self.state, memory: &self.memory, precise: self.engine.is_precise() }
    }

    fn trap(&mut self, trap: Trap) {
        let fault = match trap {
            Trap::InvalidOpcode => self.view().undefined(),
            _ => signal::Fault::trap(trap, &self.state),
        };
        self.state.error_code = 0;
        self.fault(fault);
    }

    /// Delivers a synchronous exception.
    pub(crate) fn fault(&mut self, fault: signal::Fault) {
        tracing::debug!(?fault, rip = format_args!("{:#x}", self.state.rip), "guest fault");
        if let signal::Delivery::Death(signal) = self.signals.raise(fault, &mut self.state, &self.memory) {
            self.die(signal);
        }
    }

    /// Makes the system call the guest asks for, and delivers the signals that waited for its end.
    fn syscall(&mut self, convention: Convention) {
        match linux::dispatch(self, convention) {
            Outcome::Done => self.deliver(None),
            Outcome::Interrupted { restart } => self.deliver(Some(restart)),
            Outcome::RegistersReplaced => self.deliver(None),
            Outcome::Exited(status) => self.exit(status),
        }
    }

    /// Delivers the signals that wait. `interrupted` tells that they broke off a system call, and whether
    /// SA_RESTART makes that call again (signal(7), "Interruption of system calls").
    fn deliver(&mut self, interrupted: Option<bool>) {
        if !self.signals.wants_attention(&self.state) {
            return;
        }
        let disturbed = self.take_notices();
        if let Some(restart) = interrupted
            && self.signals.restarts_call(restart, disturbed)
        {
            linux::restart(self);
        }
        if let signal::Delivery::Death(signal) = self.signals.deliver(&mut self.state, &self.memory) {
            self.die(signal);
        }
    }

    /// The kernel or a device will write to this range at some time after the call. Where code may lie there, its pages
    /// aren't watched from now on, and blocks compare their bytes.
    pub(crate) fn expect_writes(&mut self, start: u64, len: u64) {
        if self.memory.executable_within(start, len) {
            self.memory.open(start, len);
            self.engine.expect_writes(start, len);
        }
    }

    /// Code in this range changes now, whatever its protection.
    pub(crate) fn code_changes(&mut self, start: u64, len: u64) {
        self.memory.open(start, len);
        self.engine.invalidate(start, len);
    }

    /// Does what other guests, which write to this one's memory, have asked for; says whether there was anything.
    fn take_notices(&mut self) -> bool {
        let mut taken = false;
        while let Some(notice) = Notice::take() {
            match notice {
                Notice::Written => self.code_changes(0, u64::MAX),
                Notice::WillBeWritten { start, len } => self.expect_writes(start, len),
            }
            taken = true;
        }
        taken
    }

    fn name_unimplemented(&self) {
        let rip = self.state.rip;
        let mut code = [0u8; 15];
        let len = self.memory.fetch(rip, &mut code);
        eprintln!("xlate: {}", describe_unimplemented(rip, &code[..len]));
    }

    /// At the program's end: fills the cache, as far as that is wanted.
    pub(crate) fn fill_cache(&mut self) {
        self.engine.drop_written(&self.memory);
        if self.config.warm {
            self.engine.warm_up(&self.memory);
        } else {
            self.engine.keep_blocks(&self.memory);
        }
    }

    /// What remains to be done before the process ends by itself: filling the cache, the statistics.
    pub fn finish(&mut self) {
        self.fill_cache();
        self.engine.finish(&self.config);
    }

    /// Ends the process with the guest's exit status.
    pub fn exit(&mut self, status: i32) -> ! {
        self.finish();
        // SAFETY: nothing of the process is used any more; no destructor needs to run.
        unsafe { libc::_exit(status) }
    }

    /// Ends the process by the signal the guest dies of.
    pub fn die(&mut self, signal: i32) -> ! {
        self.finish();
        signal::die_by(signal)
    }
}

/// The message for an instruction that has no semantics: its name, bytes and address.
fn describe_unimplemented(rip: u64, code: &[u8]) -> String {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter, Mnemonic};
    let mut decoder = Decoder::with_ip(64, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let bytes: Vec<String> = code[..instruction.len().min(code.len())].iter().map(|b| format!("{b:02x}")).collect();
    let mut text = String::new();
    IntelFormatter::new().format(&instruction, &mut text);
    let bytes = bytes.join(" ");
    let leaves_segment =
        matches!(instruction.mnemonic(), Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
    if leaves_segment || instruction.is_jmp_far_indirect() || instruction.is_call_far_indirect() {
        return format!(
            "{text}, bytes {bytes}, at {rip:#x}, leads to 32-bit code, which isn't translated; the program gets SIGILL"
        );
    }
    let code = instruction.code();
    let why = xlate_x86::unsupported::reason(code).map_or_else(String::new, |why| format!(" ({why})"));
    format!("instruction not implemented{why}: {code:?} ({text}), bytes {bytes}, at {rip:#x}; the program gets SIGILL")
}

impl Exit {
    /// The exit that translated code or the interpreter left in the state, for those that leave the engine.
    pub fn from_state(state: &CpuState) -> Option<Self> {
        Some(match ExitReason::from_u32(state.exit_reason)? {
            ExitReason::Syscall => Self::Syscall,
            ExitReason::LegacySyscall => Self::LegacySyscall,
            ExitReason::Safepoint => Self::Safepoint,
            ExitReason::Trap => Self::Trap(Trap::from_u32(state.exit_arg)?),
            ExitReason::Unimplemented => Self::Unimplemented,
            ExitReason::FetchFault => Self::FetchFault,
            ExitReason::Continue | ExitReason::Link | ExitReason::Promote => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unimplemented_instructions_are_named() {
        let message = describe_unimplemented(0x1000, &[0x0f, 0x31, 0x90]);
        assert_eq!(
            message,
            "instruction not implemented: Rdtsc (rdtsc), bytes 0f 31, at 0x1000; the program gets SIGILL"
        );
    }
}

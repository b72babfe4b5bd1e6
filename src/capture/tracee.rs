//! A process stopped by ptrace: system calls are run in it to ask what only it can ask, and whatever happens it
//! goes on from where it was, with its own registers, memory and signal mask.
//!
//! Signals are blocked in it meanwhile, so that none is delivered between two of our calls; one that was sent
//! waits, as it would for any blocked signal.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps, Process};
use xlate_abi::image::core_notes::Registers;
use xlate_abi::image::notes::{AlternateStack, IntervalTimer, PendingSignal, SignalAction, ThreadNote};

use super::error::CaptureError;
use super::sys::{self, Resume, Stop};

/// How long a process may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Polls of a stop before sleeping between them; most stops come within microseconds.
const EAGER_POLLS: u32 = 200;
/// The code segment of 64-bit user code (`__USER_CS`, `arch/x86/include/asm/segment.h`).
const USER_CS: u64 = 0x33;
/// The `syscall` instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Instructions that a vdso function may take; each is a few dozen, in a loop while the kernel updates its clock.
const VDSO_STEPS: u32 = 100_000;
const SIG_IGN: u64 = 1;
const SIGNALS: Range<i32> = 1..65;

/// System call numbers of x86-64 and their arguments' constants.
mod call {
    pub const BRK: u64 = 12;
    pub const RT_SIGACTION: u64 = 13;
    pub const GETITIMER: u64 = 36;
    pub const SIGALTSTACK: u64 = 131;
    pub const PRCTL: u64 = 157;
    pub const PR_GET_TID_ADDRESS: u64 = 40;
    /// Size of the kernel's sigset_t.
    pub const SIGSET_SIZE: u64 = 8;
}

/// Bytes of the tracee's memory that calls borrow for their results.
const SCRATCH_SIZE: usize = 64;

/// See the module.
pub struct Tracee {
    pid: Pid,
    memory: File,
    /// What it goes on with.
    registers: Registers,
    mask: u64,
    /// In a stop, so that ptrace's requests work.
    stopped: bool,
    /// Its registers are ours, at the exit of a system call.
    borrowed: bool,
    ended: bool,
    /// Address of a `syscall` instruction.
    gadget: Option<u64>,
    /// Memory that is overwritten now, with what belongs there.
    overwritten: Vec<(u64, Vec<u8>)>,
    scratch: Option<u64>,
    /// Signals that couldn't be blocked (SIGSTOP), to be sent again.
    deferred: Vec<i32>,
}

impl Tracee {
    /// Seizes the process and stops it; `seccomp` says whether calls in it must be exempted.
    pub fn stop(pid: Pid, seccomp: bool) -> Result<Self, CaptureError> {
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD;
        ptrace::seize(pid, options).map_err(|e| refused(pid, e))?;
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(&path).map_err(|error| CaptureError::Read {
            pid: pid.as_raw(),
            what: path,
            error,
        })?;
        let mut tracee = Self {
            pid,
            memory,
            registers: Registers::default(),
            mask: 0,
            stopped: false,
            borrowed: false,
            ended: false,
            gadget: None,
            overwritten: Vec::new(),
            scratch: None,
            deferred: Vec::new(),
        };
        tracee.interrupt()?;
        tracee.registers = sys::registers(pid).map_err(|e| tracee.failed("GETREGS", e))?;
        if tracee.registers.cs != USER_CS {
            // Nothing was changed in it yet.
            tracee.detach();
            return Err(CaptureError::Not64Bit(pid.as_raw()));
        }
        tracee.mask = sys::signal_mask(pid).map_err(|e| tracee.failed("GETSIGMASK", e))?;
        tracee.borrow(seccomp)?;
        Ok(tracee)
    }

    /// Makes it fit for calls of ours.
    fn borrow(&mut self, seccomp: bool) -> Result<(), CaptureError> {
        if seccomp {
            const SUSPEND_SECCOMP: i32 = 1 << 21;
            let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::from_bits_retain(SUSPEND_SECCOMP);
            ptrace::setoptions(self.pid, options).map_err(|_| CaptureError::Seccomp(self.pid.as_raw()))?;
        }
        // Not SIGTRAP: the kernel resets the action of a trap that is blocked.
        let all_but_trap = !(1 << (libc::SIGTRAP - 1));
        sys::set_signal_mask(self.pid, all_but_trap).map_err(|e| self.failed("SETSIGMASK", e))
    }

    /// Stops it by PTRACE_INTERRUPT, which changes nothing in it.
    fn interrupt(&mut self) -> Result<(), CaptureError> {
        ptrace::interrupt(self.pid).map_err(|e| self.failed("INTERRUPT", e))?;
        loop {
            match self.wait()? {
                Stop::Event => return Ok(()),
                // It was on its way to a handler already: let it go there first.
                Stop::Signal(signal) => self.resume(Resume::Continue, signal)?,
                _ => self.resume(Resume::Continue, 0)?,
            }
        }
    }

    fn wait(&mut self) -> Result<Stop, CaptureError> {
        let start = Instant::now();
        let mut polls = 0;
        loop {
            match sys::poll_stop(self.pid).map_err(|e| self.failed("wait", e))? {
                Some(Stop::Ended) => {
                    self.ended = true;
                    return Err(CaptureError::Ended(self.pid.as_raw()));
                }
                Some(stop) => {
                    self.stopped = true;
                    return Ok(stop);
                }
                None if start.elapsed() > STOP_TIMEOUT => return Err(self.does_not_stop()),
                None if polls < EAGER_POLLS => std::thread::yield_now(),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            polls += 1;
        }
    }

    fn does_not_stop(&self) -> CaptureError {
        let pid = self.pid.as_raw();
        let state = Process::new(pid).and_then(|p| p.status()).map_or_else(|e| e.to_string(), |s| s.state);
        CaptureError::DoesNotStop { pid, state }
    }

    fn resume(&mut self, how: Resume, signal: i32) -> Result<(), CaptureError> {
        self.stopped = false;
        sys::resume(self.pid, how, signal).map_err(|e| self.failed("resume", e))
    }

    /// Runs to the next stop at a system call; signals that come in spite of the mask wait.
    fn next_call_stop(&mut self) -> Result<(), CaptureError> {
        loop {
            self.resume(Resume::SystemCall, 0)?;
            match self.wait()? {
                Stop::SystemCall => return Ok(()),
                Stop::Signal(signal) => self.deferred.push(signal),
                Stop::Event | Stop::Ended => {}
            }
        }
    }

    /// Runs a system call in the process.
    fn call(&mut self, what: &'static str, number: u64, args: [u64; 4]) -> Result<u64, CaptureError> {
        let [rdi, rsi, rdx, r10] = args;
        let regs = Registers {
            rip: self.gadget()?,
            rax: number,
            rdi,
            rsi,
            rdx,
            r10,
            // No system call that the kernel would restart.
            orig_rax: u64::MAX,
            ..self.registers
        };
        self.borrowed = true;
        sys::set_registers(self.pid, &regs).map_err(|e| self.failed("SETREGS", e))?;
        self.next_call_stop()?;
        self.next_call_stop()?;
        let result = sys::registers(self.pid).map_err(|e| self.failed("GETREGS", e))?.rax;
        match result as i64 {
            error @ -4095..0 => {
                let errno = Errno::from_raw(-error as i32);
                Err(CaptureError::Call { pid: self.pid.as_raw(), what, errno })
            }
            _ => Ok(result),
        }
    }

    /// A call that reads and writes memory at an address, which stands for `input` and comes back as the result.
    fn call_with_memory(
        &mut self,
        what: &'static str,
        number: u64,
        input: &[u8],
        args: impl Fn(u64) -> [u64; 4],
    ) -> Result<[u8; SCRATCH_SIZE], CaptureError> {
        let address = self.scratch()?;
        let mut bytes = [0; SCRATCH_SIZE];
        bytes[..input.len()].copy_from_slice(input);
        self.overwrite(address, &bytes)?;
        let called = self.call(what, number, args(address));
        let read = self.read(address, &mut bytes);
        self.put_memory_back()?;
        called.and(read).map(|()| bytes)
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), CaptureError> {
        self.memory.read_exact_at(bytes, address).map_err(|e| self.memory_failed(address, e))
    }

    /// Writes to the process's memory, remembering what was there.
    fn overwrite(&mut self, address: u64, bytes: &[u8]) -> Result<(), CaptureError> {
        let mut old = vec![0; bytes.len()];
        self.read(address, &mut old)?;
        self.overwritten.push((address, old));
        self.memory.write_all_at(bytes, address).map_err(|e| self.memory_failed(address, e))
    }

    fn put_memory_back(&mut self) -> Result<(), CaptureError> {
        while let Some((address, bytes)) = self.overwritten.last() {
            self.memory.write_all_at(bytes, *address).map_err(|e| self.memory_failed(*address, e))?;
            self.overwritten.pop();
        }
        Ok(())
    }

    fn memory_failed(&self, address: u64, error: std::io::Error) -> CaptureError {
        CaptureError::Read { pid: self.pid.as_raw(), what: format!("memory at {address:#x}"), error }
    }

    fn failed(&self, what: &'static str, errno: Errno) -> CaptureError {
        CaptureError::Ptrace { pid: self.pid.as_raw(), what, errno }
    }

    fn maps(&self) -> Result<MemoryMaps, CaptureError> {
        let pid = self.pid.as_raw();
        Process::new(pid).and_then(|p| p.maps()).map_err(|error| CaptureError::Procfs { pid, what: "maps", error })
    }

    fn vdso(&self) -> Result<Option<Range<u64>>, CaptureError> {
        let maps = self.maps()?;
        let vdso = maps.iter().find(|m| m.pathname == MMapPath::Vdso);
        Ok(vdso.map(|m| m.address.0..m.address.1))
    }

    /// The vdso has a `syscall`; a process without one gets it written over its next instruction.
    fn gadget(&mut self) -> Result<u64, CaptureError> {
        if let Some(gadget) = self.gadget {
            return Ok(gadget);
        }
        let mut found = None;
        if let Some(vdso) = self.vdso()? {
            let mut code = vec![0; (vdso.end - vdso.start) as usize];
            self.read(vdso.start, &mut code)?;
            found = code.windows(2).position(|w| w == SYSCALL).map(|at| vdso.start + at as u64);
        }
        if let Some(gadget) = found {
            self.gadget = found;
            return Ok(gadget);
        }
        let address = self.registers.rip;
        if self.overwritten.iter().all(|(a, _)| *a != address) {
            self.overwrite(address, &SYSCALL)?;
        }
        Ok(address)
    }

    /// Writable private memory to lend to calls: its only thread stands still, so any will do.
    fn scratch(&mut self) -> Result<u64, CaptureError> {
        if let Some(scratch) = self.scratch {
            return Ok(scratch);
        }
        let wanted = MMPermissions::READ | MMPermissions::WRITE | MMPermissions::PRIVATE;
        let maps = self.maps()?;
        // A mapping of a file may reach beyond the file's end, where there is no memory.
        let place = maps
            .iter()
            .find(|m| m.perms.contains(wanted) && m.inode == 0)
            .ok_or(CaptureError::NoScratch(self.pid.as_raw()))?;
        Ok(*self.scratch.insert(place.address.0))
    }

    /// Steps it out of the vdso, whose data pages can't be carried.
    pub fn leave_vdso(&mut self) -> Result<(), CaptureError> {
        let Some(vdso) = self.vdso()?.filter(|v| v.contains(&self.registers.rip)) else {
            return Ok(());
        };
        let trap = self.signal_action(libc::SIGTRAP)?;
        self.settle()?;
        let mut steps = 0;
        while vdso.contains(&self.registers.rip) {
            if steps == VDSO_STEPS {
                return Err(CaptureError::StaysInVdso(self.pid.as_raw()));
            }
            steps += 1;
            self.resume(Resume::Step, 0)?;
            match self.wait()? {
                Stop::Signal(libc::SIGTRAP) => {}
                Stop::Signal(signal) => self.deferred.push(signal),
                _ => {}
            }
            self.registers = sys::registers(self.pid).map_err(|e| self.failed("GETREGS", e))?;
        }
        tracing::debug!(steps, "stepped out of the vdso");
        // A step's trap makes an ignored SIGTRAP default (`force_sig_info_to_task`).
        if trap.handler == SIG_IGN {
            self.set_signal_action(&trap)?;
        }
        Ok(())
    }

    /// Takes it from the exit of our last call to a stop from which the kernel itself restarts an
    /// interrupted system call, and gives back registers and memory. The signal mask stays ours.
    pub fn settle(&mut self) -> Result<(), CaptureError> {
        self.put_memory_back()?;
        if !self.borrowed {
            return Ok(());
        }
        ptrace::interrupt(self.pid).map_err(|e| self.failed("INTERRUPT", e))?;
        loop {
            self.resume(Resume::Continue, 0)?;
            match self.wait()? {
                Stop::Event => break,
                Stop::Signal(signal) => self.deferred.push(signal),
                Stop::SystemCall | Stop::Ended => {}
            }
        }
        sys::set_registers(self.pid, &self.registers).map_err(|e| self.failed("SETREGS", e))?;
        self.borrowed = false;
        Ok(())
    }

    /// Kills it where it stands.
    pub fn kill(mut self) -> Result<(), CaptureError> {
        ptrace::kill(self.pid).map_err(|e| self.failed("KILL", e))?;
        loop {
            match self.wait() {
                Err(CaptureError::Ended(_)) => return Ok(()),
                other => other.map(drop)?,
            }
        }
    }

    fn detach(&mut self) {
        if let Err(errno) = sys::resume(self.pid, Resume::Detach, 0) {
            tracing::warn!(pid = self.pid.as_raw(), %errno, "detaching");
        }
        self.ended = true;
        for signal in self.deferred.drain(..) {
            // SAFETY: kill takes numbers only. The process may have ended: then nobody misses the signal.
            unsafe { libc::kill(self.pid.as_raw(), signal) };
        }
    }

    pub fn registers(&self) -> Registers {
        self.registers
    }

    /// Its own blocked signals.
    pub fn signal_mask(&self) -> u64 {
        self.mask
    }

    pub fn xstate(&self) -> Result<Vec<u8>, CaptureError> {
        sys::xstate(self.pid).map_err(|e| self.failed("GETREGSET NT_X86_XSTATE", e))
    }

    fn pending_signals(&self) -> Result<Vec<PendingSignal>, CaptureError> {
        let mut all = Vec::new();
        for to_process in [false, true] {
            let infos = sys::pending_signals(self.pid, to_process).map_err(|e| self.failed("PEEKSIGINFO", e))?;
            all.extend(infos.into_iter().map(|siginfo| PendingSignal { to_process, siginfo }));
        }
        Ok(all)
    }

    /// All actions that aren't the default; procfs doesn't tell them.
    pub fn signal_actions(&mut self) -> Result<Vec<SignalAction>, CaptureError> {
        let mut actions = Vec::new();
        for signal in SIGNALS.filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
            let action = self.signal_action(signal)?;
            if action != (SignalAction { signal, ..SignalAction::default() }) {
                actions.push(action);
            }
        }
        Ok(actions)
    }

    /// The kernel's `struct sigaction` is handler, flags, restorer, mask.
    fn signal_action(&mut self, signal: i32) -> Result<SignalAction, CaptureError> {
        let bytes = self.call_with_memory("rt_sigaction", call::RT_SIGACTION, &[], |at| {
            [signal as u64, 0, at, call::SIGSET_SIZE]
        })?;
        let [handler, flags, restorer, mask] = words(&bytes);
        Ok(SignalAction { signal, handler, flags, restorer, mask })
    }

    fn set_signal_action(&mut self, a: &SignalAction) -> Result<(), CaptureError> {
        let input: Vec<u8> = [a.handler, a.flags, a.restorer, a.mask].iter().flat_map(|w| w.to_le_bytes()).collect();
        let args = |at| [a.signal as u64, at, 0, call::SIGSET_SIZE];
        self.call_with_memory("rt_sigaction", call::RT_SIGACTION, &input, args).map(drop)
    }

    pub fn altstack(&mut self) -> Result<AlternateStack, CaptureError> {
        let bytes = self.call_with_memory("sigaltstack", call::SIGALTSTACK, &[], |at| [0, at, 0, 0])?;
        let [address, flags, size] = words(&bytes);
        Ok(AlternateStack { address, flags: flags as i32, size })
    }

    /// Signals that wait, and timers that run, as they were at one moment. Timers go on while the process is stopped: where
    /// a signal has come meanwhile, both are read again. All signals are blocked, so there are only so many to come.
    pub fn signals_and_timers(&mut self) -> Result<(Vec<PendingSignal>, Vec<IntervalTimer>), CaptureError> {
        let mut pending = self.pending_signals()?;
        loop {
            let timers = self.interval_timers()?;
            let after = self.pending_signals()?;
            if after == pending {
                return Ok((pending, timers));
            }
            pending = after;
        }
    }

    /// Timers that run.
    fn interval_timers(&mut self) -> Result<Vec<IntervalTimer>, CaptureError> {
        let mut timers = Vec::new();
        for which in 0..3 {
            let bytes = self.call_with_memory("getitimer", call::GETITIMER, &[], |at| [which as u64, at, 0, 0])?;
            let [interval_s, interval_us, value_s, value_us] = words(&bytes);
            timers.extend(running_timer(which, value_s * 1_000_000 + value_us, interval_s * 1_000_000 + interval_us));
        }
        Ok(timers)
    }

    pub fn program_break(&mut self) -> Result<u64, CaptureError> {
        self.call("brk", call::BRK, [0; 4])
    }

    /// What the thread has registered.
    pub fn thread_note(&mut self) -> Result<ThreadNote, CaptureError> {
        let args = |at| [call::PR_GET_TID_ADDRESS, at, 0, 0];
        let clear_child_tid = match self.call_with_memory("prctl", call::PRCTL, &[], args) {
            Ok(bytes) => words::<1>(&bytes)[0],
            // A kernel built without CHECKPOINT_RESTORE doesn't tell; a last thread's is of no use to anybody.
            Err(CaptureError::Call { errno: Errno::EINVAL, .. }) => 0,
            Err(e) => return Err(e),
        };
        let (robust_list, robust_list_size) =
            sys::robust_list(self.pid).map_err(|e| self.failed("get_robust_list", e))?;
        Ok(ThreadNote {
            tid: self.pid.as_raw(),
            clear_child_tid,
            robust_list,
            robust_list_size,
            rseq: sys::rseq(self.pid),
            interrupted: None,
        })
    }
}

impl Drop for Tracee {
    /// Everything back as it was, and on it goes. (If it couldn't be stopped, the kernel detaches when xlate ends.)
    fn drop(&mut self) {
        if self.ended || !self.stopped {
            return;
        }
        let back = self
            .settle()
            .and_then(|()| sys::set_signal_mask(self.pid, self.mask).map_err(|e| self.failed("SETSIGMASK", e)));
        if let Err(error) = back {
            tracing::error!(pid = self.pid.as_raw(), %error, "putting the process back");
        }
        if !self.ended {
            self.detach();
        }
    }
}

/// Why PTRACE_SEIZE didn't work.
fn refused(pid: Pid, errno: Errno) -> CaptureError {
    match errno {
        Errno::ESRCH => CaptureError::NoSuchProcess(pid.as_raw()),
        Errno::EPERM | Errno::EACCES => CaptureError::NotPermitted(pid.as_raw()),
        errno => CaptureError::Ptrace { pid: pid.as_raw(), what: "SEIZE", errno },
    }
}

/// A timer as it is to be started again; `None` if it doesn't run. One that has expired stands still until its signal is
/// delivered, and only then begins its next interval (Linux, `posixtimer_rearm_itimer`): its time left is zero meanwhile.
fn running_timer(which: i32, value: u64, interval: u64) -> Option<IntervalTimer> {
    let value = if value == 0 { interval } else { value };
    (value != 0).then_some(IntervalTimer { which, value, interval })
}

/// The first words of a call's result.
fn words<const N: usize>(bytes: &[u8; SCRATCH_SIZE]) -> [u64; N] {
    std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|b| bytes[i * 8 + b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_timer_begins_its_next_interval() {
        let timer = |value, interval| Some(IntervalTimer { which: 0, value, interval });
        assert_eq!(running_timer(0, 0, 20_000), timer(20_000, 20_000));
        assert_eq!(running_timer(0, 7, 20_000), timer(7, 20_000));
        assert_eq!(running_timer(0, 7, 0), timer(7, 0));
        assert_eq!(running_timer(0, 0, 0), None);
    }
}

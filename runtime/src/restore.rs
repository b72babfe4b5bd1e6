//! Resumes a checkpoint image: memory, registers, descriptors, signals and the rest of what a process is, at the
//! addresses and numbers it had.
//!
//! The order matters: what can be refused (the image itself, memory, files) comes before what changes the process
//! for good. All host signals are blocked from the first step on; attaching the guest opens them as the guest has it.

mod files;
mod memory;
mod stack;
mod vdso;

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xlate_abi::image::notes::{
    InterruptedCall, IntervalTimer, Limit, PendingSignal, Process, Rseq, SignalAction, Timers,
};
use xlate_abi::image::{Image, ImageError, Thread};
use xlate_abi::state::{CpuState, RAX, segment};

use crate::config::Config;
use crate::engine::{Engine, helpers};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::linux::descriptors::Own;
use crate::linux::{Executable, Kernel, Pids, Program};
use crate::memory::{Limit as KeptLimit, Limits, MapError, Memory};
use crate::processor::Processor;
use crate::signal::{Action, AltStack, Signals};

/// Why an image can't be resumed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0}: {1}")]
    Image(String, ImageError),
    #[error("{0}: the image of a process with {1} threads; only single-threaded ones can be resumed so far")]
    Threads(String, usize),
    #[error("{0}: the image has no extended state (neither NT_X86_XSTATE nor NT_FPREGSET)")]
    NoXstate(String),
    #[error("{0}: the process has state in registers that xlate doesn't know: {1}")]
    UnknownState(String, String),
    #[error("{0}: it has memory where the translator lies")]
    Occupied(String),
    #[error("{0}: {1}")]
    Map(String, MapError),
    #[error("{image}: memory at {address:#x} can't be filled: {error}")]
    Fill { image: String, address: u64, error: io::Error },
    #[error("{image}: the mapping {start:#x}-{end:#x} needs the file {file}: {error}; put it back where it was")]
    MappedFile { image: String, start: u64, end: u64, file: String, error: io::Error },
    #[error("{image}: descriptor {number} needs {path}: {error}; put it back where it was")]
    OpenFile { image: String, number: i32, path: String, error: io::Error },
    #[error(
        "{image}: descriptor {number}: {path} had {then} bytes at the checkpoint and has {now} now; put back the file as it was"
    )]
    ChangedFile { image: String, number: i32, path: String, then: u64, now: u64 },
    #[error("{image}: its working directory {path}: {error}")]
    Directory { image: String, path: String, error: io::Error },
    #[error("{image}: {what}: {errno}")]
    System { image: String, what: &'static str, errno: Errno },
}

impl RestoreError {
    /// The translator's own exit status for this failure.
    pub fn status(&self) -> i32 {
        match self {
            Self::Image(_, ImageError::Io(e)) if e.kind() == io::ErrorKind::NotFound => 127,
            Self::System { .. } => 125,
            _ => 126,
        }
    }
}

/// The parts of a restore, and its name for messages.
struct Restore<'a> {
    name: String,
    file: Own<File>,
    image: Image,
    memory: &'a mut Memory,
}

/// Builds the guest that the image holds.
pub fn image(path: &Path, config: Config) -> Result<Guest, RestoreError> {
    let name = path.display().to_string();
    let failed = |e| RestoreError::Image(name.clone(), e);
    // Out of the way of the descriptors that the image brings.
    let file = File::open(path).and_then(Own::new).map_err(|e| failed(e.into()))?;
    let image = Image::read(&file.handle()).map_err(failed)?;
    let [thread] = image.threads.as_slice() else {
        return Err(RestoreError::Threads(name, image.threads.len()));
    };
    let thread = thread.clone();
    let own = crate::layout::own_area();
    let overlaps = || image.mappings().iter().any(|m| m.start < own.end && own.start < m.end);
    if cfg!(target_arch = "x86_64") && overlaps() {
        return Err(RestoreError::Occupied(name));
    }
    let mut memory = Memory::new();
    let mut restore = Restore { name, file, image, memory: &mut memory };
    let mut state = restore.registers(&thread)?;
    let processor = restore.processor(&config, &thread)?;
    block_signals();
    restore.map_memory()?;
    restore.replace_vdso();
    restore.neutralise_rseq(&thread, &mut state);
    let pids = restore.identity(&config, &thread)?;
    let program = restore.program();
    restore.reopen_files()?;
    let mut kernel = Kernel::new(pids, program);
    restore.register_thread(&thread, &mut kernel);
    kernel.cpu_before = restore.image.timers.as_ref().and_then(|timers| timers.cpu).unwrap_or_default();
    restore.limits();
    let mut signals = Signals::inherited();
    signals.set_float_format(processor.frames());
    restore.signals(&thread, &mut state, &mut signals);
    tracing::debug!(rip = format_args!("{:#x}", state.rip), "restored");
    let mut engine = Engine::new(&config);
    engine.set_precise(signals.needs_precision());
    engine.use_cache(&config, &std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    Ok(Guest { engine, state, processor, memory, signals, kernel, config })
}

impl Restore<'_> {
    /// All registers.
    fn registers(&self, thread: &Thread) -> Result<Box<CpuState>, RestoreError> {
        let mut state = Box::<CpuState>::default();
        let regs = &thread.status.registers;
        state.gpr = regs.by_encoding();
        state.rip = regs.rip;
        state.set_rflags(regs.eflags);
        state.fs_base = regs.fs_base;
        state.gs_base = regs.gs_base;
        let selectors =
            [(segment::ES, regs.es), (segment::DS, regs.ds), (segment::FS, regs.fs), (segment::GS, regs.gs)];
        selectors.into_iter().for_each(|(n, selector)| state.selectors[n] = selector as u16);
        let xsave = self.image.xsave(thread).ok_or_else(|| RestoreError::NoXstate(self.name.clone()))?;
        let unknown = xsave.unknown();
        if !unknown.is_empty() {
            return Err(RestoreError::UnknownState(self.name.clone(), unknown.join(", ")));
        }
        xsave.load(&mut state);
        state.timestamp_offset = timestamp_offset(self.image.timers.as_ref(), helpers::timestamp());
        Ok(state)
    }

    /// The processor that the process goes on with.
    fn processor(&self, config: &Config, thread: &Thread) -> Result<Box<Processor>, RestoreError> {
        let xsave = self.image.xsave(thread).ok_or_else(|| RestoreError::NoXstate(self.name.clone()))?;
        Ok(Box::new(Processor::of_image(config.cpu, &self.image, &xsave)))
    }

    /// Nobody updates the area any more: libc is told so, and asks for the processor number by a call.
    /// A critical section that the stop fell into is aborted, as the kernel would have done (rseq(2)).
    fn neutralise_rseq(&self, thread: &Thread, state: &mut CpuState) {
        /// RSEQ_CPU_ID_UNINITIALIZED.
        const UNINITIALIZED: u32 = u32::MAX;
        let Some(Rseq { address, .. }) = thread.note.as_ref().and_then(|n| n.rseq) else {
            return;
        };
        let aborted = self.rseq_abort(address, state.rip);
        if let Some(target) = aborted {
            state.rip = target;
        }
        // cpu_id_start, cpu_id; then the pointer to the critical section.
        let cleared = self.memory.write(address, &[0, UNINITIALIZED]);
        let cleared = cleared.and_then(|()| self.memory.write(address + 8, &0u64));
        if let Err(errno) = cleared {
            tracing::warn!(%errno, "the rseq area at {address:#x} isn't writable");
        }
    }

    /// Where the critical section around `rip`, if there is one, aborts to (`struct rseq_cs`).
    fn rseq_abort(&self, area: u64, rip: u64) -> Option<u64> {
        let section: u64 = self.memory.read(area + 8).ok().filter(|s| *s != 0)?;
        let [start, length, abort]: [u64; 3] = self.memory.read(section + 8).ok()?;
        (rip.wrapping_sub(start) < length).then_some(abort)
    }

    /// Working directory, umask, name; and the number the guest keeps.
    fn identity(&self, config: &Config, thread: &Thread) -> Result<Pids, RestoreError> {
        let guest = config.guest_pid.unwrap_or(thread.status.pid);
        let Some(process) = &self.image.process else {
            return Ok(Pids::resumed(guest));
        };
        let cwd = process_path(&process.cwd.0);
        std::env::set_current_dir(&cwd).map_err(|error| RestoreError::Directory {
            image: self.name.clone(),
            path: cwd.display().to_string(),
            error,
        })?;
        self.compare_user(process);
        let mut comm = process.comm.0.clone();
        comm.push(0);
        // SAFETY: a C string; the kernel takes its first 15 bytes. umask only takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, comm.as_ptr());
            libc::umask(process.umask as libc::mode_t);
        }
        Ok(Pids::resumed(guest))
    }

    fn compare_user(&self, process: &Process) {
        // SAFETY: geteuid has no preconditions.
        let now = unsafe { libc::geteuid() };
        if now != process.uids[1] {
            eprintln!(
                "xlate: warning: {}: the process ran as user {}, and goes on as user {now}",
                self.name, process.uids[1]
            );
        }
    }

    /// What /proc/self shows of it.
    fn program(&self) -> Program {
        let mut auxv = self.image.auxv.clone();
        auxv.push((0, 0));
        let found = stack::find_strings(&self.image, self.memory);
        let info = self.image.info.as_ref();
        let (args, env) = found.unwrap_or_else(|| {
            let words = info.map(|i| i.arguments.as_slice()).unwrap_or_default();
            (words.split(|b| *b == b' ').map(|w| process_path(w).into()).collect(), Vec::new())
        });
        let exe = self.image.process.as_ref().map(|p| process_path(&p.exe.0)).unwrap_or_default();
        Program { exe: Executable::Named(exe), args, env, strings: None, auxv }
    }

    /// What the thread has registered with the kernel: lists that the host's kernel can walk itself.
    fn register_thread(&self, thread: &Thread, kernel: &mut Kernel) {
        let Some(note) = &thread.note else { return };
        kernel.restore_robust_list(note.robust_list, note.robust_list_size);
        if note.clear_child_tid != 0 {
            // SAFETY: the kernel writes to the guest's word when the process ends, as the guest asked it to.
            unsafe { libc::syscall(libc::SYS_set_tid_address, note.clear_child_tid) };
        }
    }

    /// Limits within what this machine permits. Those on address space and data count for the guest's memory alone.
    fn limits(&mut self) {
        let mut kept = Limits::take_over();
        for limit in self.image.limits.iter().flat_map(|l| &l.limits) {
            match kept.kept(limit.resource as i32) {
                Some(own) => *own = KeptLimit { soft: limit.soft, hard: limit.hard },
                None => set_limit(limit),
            }
        }
        self.memory.set_limits(kept);
    }

    fn signals(&self, thread: &Thread, state: &mut CpuState, signals: &mut Signals) {
        let Some(image) = &self.image.signals else {
            signals.set_mask(thread.status.held);
            block_signals();
            return;
        };
        for a in &image.actions {
            let action = Action { handler: a.handler, flags: a.flags, restorer: a.restorer, mask: a.mask };
            if let Err(errno) = signals.set_action(a.signal, Some(action)) {
                tracing::warn!(%errno, signal = a.signal, "the image's action");
            }
        }
        let alt = image.altstack;
        signals.restore_altstack(AltStack { sp: alt.address, flags: alt.flags, size: alt.size, ..AltStack::default() });
        signals.set_mask(image.mask);
        block_signals();
        let call = thread.note.as_ref().and_then(|n| n.interrupted);
        if let Some(call) = call
            && fails_with_eintr(&call, &image.actions, first_deliverable(&image.pending, image.mask))
        {
            state.gpr[RAX] = Errno(libc::EINTR).to_result() as u64;
            state.rip += SYSCALL_LENGTH;
        }
        image.pending.iter().for_each(queue_signal);
        self.image.timers.iter().flat_map(|t| &t.interval).for_each(start_timer);
    }
}

/// What the host's time stamps lack to those that the process has seen: they never run backwards.
fn timestamp_offset(timers: Option<&Timers>, now: u64) -> u64 {
    timers.map_or(0, |timers| timers.timestamp.saturating_sub(now))
}

const SYSCALL_LENGTH: u64 = 2;

/// The lowest signal that waits and isn't blocked: its handler runs first.
fn first_deliverable(pending: &[PendingSignal], mask: u64) -> Option<i32> {
    let number = |p: &PendingSignal| p.siginfo.get(..4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    pending.iter().filter_map(number).filter(|s| (1..65).contains(s) && mask >> (s - 1) & 1 == 0).min()
}

/// Whether a handler that runs before the call is made again makes it fail instead, by the kernel's rules
/// (`handle_signal` in `arch/x86/kernel/signal.c`).
fn fails_with_eintr(call: &InterruptedCall, actions: &[SignalAction], signal: Option<i32>) -> bool {
    const ERESTARTSYS: i64 = -512;
    const ERESTARTNOINTR: i64 = -513;
    let Some(action) = actions.iter().find(|a| Some(a.signal) == signal && a.handler > libc::SIG_IGN as u64) else {
        return false;
    };
    match call.result {
        ERESTARTNOINTR => false,
        ERESTARTSYS => action.flags & libc::SA_RESTART as u64 == 0,
        _ => true,
    }
}

/// A path as the kernel has it.
fn process_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Blocks all signals on the host.
fn block_signals() {
    // SAFETY: an all-zero set is valid, and filled before use.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Sends a signal that waited when the process was captured; it waits again, blocked, until the guest is attached.
fn queue_signal(pending: &PendingSignal) {
    let Ok(mut info) = <[u8; 128]>::try_from(pending.siginfo.as_slice()) else {
        return;
    };
    let signal = i32::from_le_bytes([info[0], info[1], info[2], info[3]]);
    // SAFETY: rt_sigqueueinfo reads a siginfo of 128 bytes; to itself a process may send any.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), signal, info.as_mut_ptr()) };
    if result != 0 {
        eprintln!("xlate: warning: the pending signal {signal} couldn't be queued again: {}", Errno::last());
    }
}

fn start_timer(timer: &IntervalTimer) {
    let time = |us: u64| libc::timeval {
        tv_sec: (us / 1_000_000) as libc::time_t,
        tv_usec: (us % 1_000_000) as libc::suseconds_t,
    };
    let value = libc::itimerval { it_interval: time(timer.interval), it_value: time(timer.value) };
    // SAFETY: setitimer only reads the value. (Through syscall, for libc's type of `which` differs.)
    if unsafe { libc::syscall(libc::SYS_setitimer, timer.which, &raw const value, 0) } != 0 {
        eprintln!("xlate: warning: the interval timer {} couldn't be set: {}", timer.which, Errno::last());
    }
}

fn set_limit(limit: &Limit) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the current limit. (Through syscall, for libc's type of the resource differs.)
    let got = unsafe { libc::syscall(libc::SYS_prlimit64, 0, limit.resource, 0usize, &raw mut now) };
    if got != 0 {
        return;
    }
    let hard = limit.hard.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: limit.soft.min(hard), rlim_max: hard };
    // SAFETY: the kernel reads the new limit.
    let set = unsafe { libc::syscall(libc::SYS_prlimit64, 0, limit.resource, &raw const new, 0usize) };
    if set != 0 || new.rlim_cur < limit.soft {
        tracing::warn!(resource = limit.resource, wanted = limit.soft, got = new.rlim_cur, "limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(signal: i32) -> PendingSignal {
        let mut siginfo = vec![0; 128];
        siginfo[..4].copy_from_slice(&signal.to_le_bytes());
        PendingSignal { to_process: true, siginfo }
    }

    #[test]
    fn blocked_signals_are_not_deliverable() {
        let pending = [waiting(12), waiting(10)];
        assert_eq!(first_deliverable(&pending, 0), Some(10));
        assert_eq!(first_deliverable(&pending, 1 << 9), Some(12));
        assert_eq!(first_deliverable(&pending, u64::MAX), None);
        assert_eq!(first_deliverable(&[], 0), None);
    }

    #[test]
    fn a_handler_makes_a_call_fail_as_the_kernel_would() {
        let handler = |flags| SignalAction { signal: 10, handler: 0x1000, flags, ..SignalAction::default() };
        let (plain, restarting) = ([handler(0)], [handler(libc::SA_RESTART as u64)]);
        let call = |result| InterruptedCall { number: 0, result };
        assert!(fails_with_eintr(&call(-512), &plain, Some(10)));
        assert!(!fails_with_eintr(&call(-512), &restarting, Some(10)));
        assert!(!fails_with_eintr(&call(-513), &plain, Some(10)));
        assert!(fails_with_eintr(&call(-514), &restarting, Some(10)));
        assert!(fails_with_eintr(&call(-516), &restarting, Some(10)));
        assert!(!fails_with_eintr(&call(-514), &plain, None));
        assert!(!fails_with_eintr(&call(-514), &[], Some(10)));
    }

    #[test]
    fn time_stamps_never_run_backwards() {
        let timers = Timers { timestamp: 1000, ..Timers::default() };
        assert_eq!((timestamp_offset(Some(&timers), 10), timestamp_offset(Some(&timers), 2000)), (990, 0));
        assert_eq!(timestamp_offset(None, 10), 0);
    }
}

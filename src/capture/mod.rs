//! Captures a stopped process into an image: what `xlate checkpoint` does between stop and resume.
//!
//! - [`tracee`] stops the process, runs system calls in it and always puts it back as it was;
//! - [`facts`] reads what procfs and other system calls tell of it;
//! - [`descriptors`] its open files;
//! - [`memory`] its memory, into the image;
//! - [`translated`] tells processes that already run under translation;
//! - [`sys`] are the ptrace requests that nix doesn't have.

mod descriptors;
mod error;
mod facts;
mod memory;
mod sys;
mod tracee;
mod translated;

use std::io::{Seek, Write};

use nix::unistd::Pid;
use xlate_abi::image::core_notes::{self as core, OWNER_CORE, OWNER_LINUX};
use xlate_abi::image::notes::{self, InterruptedCall, XlateNote};
use xlate_abi::image::{ImageWriter, Note, encode_layout};

pub use error::CaptureError;
use facts::Facts;
use tracee::Tracee;

/// A process that is stopped for its capture; goes on, unharmed, when dropped.
pub struct Stopped {
    facts: Facts,
    tracee: Tracee,
    /// What a resumed process will lack.
    pub warnings: Vec<String>,
}

/// The kernel's results that ask for a restart (`include/linux/errno.h`); user code never sees them.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];
const SYSCALL_LENGTH: u64 = 2;

impl Stopped {
    /// Checks that the process can be captured and stops it.
    pub fn stop(pid: i32) -> Result<Self, CaptureError> {
        let facts = Facts::check(pid)?;
        let mut tracee = Tracee::stop(Pid::from_raw(pid), facts.seccomp())?;
        // Between the first look and the stop it may have made a thread.
        facts::check_single_threaded(pid)?;
        tracee.leave_vdso()?;
        Ok(Self { facts, tracee, warnings: Vec::new() })
    }

    /// Writes the image.
    pub fn write<F: Write + Seek>(&mut self, file: F) -> Result<F, CaptureError> {
        let mut notes = self.core_notes()?;
        notes.extend(self.xlate_notes()?);
        let mut writer = ImageWriter::new(file);
        let maps = self.facts.maps()?;
        memory::write(&self.facts, &maps, &mut writer)?;
        writer.finish(&notes).map_err(CaptureError::Write)
    }

    /// Ends the process, still stopped where it was captured.
    pub fn kill(self) -> Result<(), CaptureError> {
        self.tracee.kill()
    }

    /// Registers to resume with, and the system call that they restart.
    fn registers(&self) -> (core::Registers, Option<InterruptedCall>) {
        let mut regs = self.tracee.registers();
        let (number, result) = (regs.orig_rax, regs.rax as i64);
        if (number as i64) < 0 || !RESTARTS.contains(&result) {
            return (regs, None);
        }
        // As the kernel does it when no handler runs (`arch/x86/kernel/signal.c`). ERESTART_RESTARTBLOCK
        // (nanosleep, poll and futex with a time-out) would go on with the kernel's own record of what is left;
        // that can't be read, so the whole call starts anew: it may wait longer, never shorter.
        regs.rax = number;
        regs.rip -= SYSCALL_LENGTH;
        regs.orig_rax = u64::MAX;
        (regs, Some(InterruptedCall { number, result }))
    }

    /// The kernel's own kinds of notes, in the kernel's order.
    fn core_notes(&mut self) -> Result<Vec<Note>, CaptureError> {
        let note = |owner, kind, desc| Note { owner, kind, desc };
        let ids = self.facts.process()?;
        let status = core::Status {
            signal: 0,
            pending: self.facts.pending_mask()?,
            held: self.tracee.signal_mask(),
            pid: ids.pid,
            ppid: ids.ppid,
            pgid: ids.pgid,
            sid: ids.sid,
            registers: self.registers().0,
        };
        let xstate = self.tracee.xstate()?;
        let files = core::encode_files(&self.facts.mapped_files()?);
        Ok(vec![
            note(OWNER_CORE, core::NT_PRSTATUS, status.encode()),
            note(OWNER_CORE, core::NT_PRPSINFO, self.facts.process_info(&ids)?.encode()),
            note(OWNER_CORE, core::NT_SIGINFO, vec![0; sys::SIGINFO_SIZE]),
            note(OWNER_CORE, core::NT_AUXV, self.facts.auxv()?),
            note(OWNER_CORE, core::NT_FILE, files),
            note(OWNER_CORE, core::NT_FPREGSET, xstate[..512].to_vec()),
            note(OWNER_LINUX, core::NT_X86_XSAVE_LAYOUT, encode_layout(&sys::xsave_layout(&xstate))),
            note(OWNER_LINUX, core::NT_X86_XSTATE, xstate),
        ])
    }

    fn xlate_notes(&mut self) -> Result<Vec<Note>, CaptureError> {
        let (descriptors, warnings) = descriptors::read(&self.facts)?;
        self.warnings.extend(warnings);
        self.warnings.extend(self.facts.warnings()?);
        let maps = self.facts.maps()?;
        let mut thread = self.tracee.thread_note()?;
        let ids = self.facts.process()?;
        thread.tid = ids.pid;
        thread.interrupted = self.registers().1;
        let actions = self.tracee.signal_actions()?;
        let altstack = self.tracee.altstack()?;
        let (pending, interval) = self.tracee.signals_and_timers()?;
        let signals = notes::Signals { actions, mask: self.tracee.signal_mask(), pending, altstack };
        let memory = notes::Memory {
            brk_start: self.facts.brk_start()?,
            brk: self.tracee.program_break()?,
            mappings: memory::mappings(&maps, &mut self.warnings),
        };
        let timers = notes::Timers { interval, cpu: Some(self.facts.cpu_times()?), timestamp: sys::timestamp() };
        // Memory is read next: nothing of ours may be in it.
        self.tracee.settle()?;
        let limits = notes::Limits { limits: self.facts.limits()? };
        Ok(vec![
            xlate_note(&thread)?,
            xlate_note(&ids)?,
            xlate_note(&memory)?,
            xlate_note(&descriptors)?,
            xlate_note(&signals)?,
            xlate_note(&limits)?,
            xlate_note(&timers)?,
        ])
    }
}

fn xlate_note<T: XlateNote>(note: &T) -> Result<Note, CaptureError> {
    let desc = note.encode().map_err(|e| CaptureError::Write(e.into()))?;
    Ok(Note { owner: notes::OWNER, kind: T::TYPE, desc })
}

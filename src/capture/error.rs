//! Why a process can't be captured; each message names the process and says what to do.

use std::io;

use nix::errno::Errno;
use procfs::ProcError;
use thiserror::Error;

use crate::status::{CommandError, Status};

#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("process {0}: there is none with this pid")]
    NoSuchProcess(i32),
    #[error("process {0} ended while it was being captured")]
    Ended(i32),
    #[error(
        "process {0}: not permitted to trace it; run xlate as its user or as root (and see /proc/sys/kernel/yama/ptrace_scope)"
    )]
    NotPermitted(i32),
    #[error("process {0} is xlate itself; name the process to checkpoint")]
    Myself(i32),
    #[error("process {pid} is a thread of process {tgid}; checkpoint {tgid}")]
    IsThread { pid: i32, tgid: i32 },
    #[error("process {pid} ({name}) is a kernel thread, which has no memory to capture")]
    KernelThread { pid: i32, name: String },
    #[error("process {pid} ({name}) is a zombie: it has ended and waits for its parent {ppid} to notice")]
    Zombie { pid: i32, name: String, ppid: i32 },
    #[error("process {pid} is already traced by process {tracer}; detach that debugger first")]
    AlreadyTraced { pid: i32, tracer: i32 },
    #[error("process {pid} ({name}) has {threads} threads; only single-threaded processes can be captured so far")]
    Threads { pid: i32, name: String, threads: u64 },
    #[error(
        "process {pid} ({name}) runs under xlate already; a translated process can't be captured so far, and goes on as it is"
    )]
    Translated { pid: i32, name: String },
    #[error("process {0} is a 32-bit process; only 64-bit x86-64 ones can be captured")]
    Not64Bit(i32),
    #[error("process {0} runs under seccomp, which forbids the calls that capture makes in it; run xlate as root")]
    Seccomp(i32),
    #[error("process {pid} doesn't stop (state {state}): it is held in the kernel; try again when that has ended")]
    DoesNotStop { pid: i32, state: String },
    #[error("process {0} doesn't leave the vdso's code")]
    StaysInVdso(i32),
    #[error("process {0} has no writable private memory")]
    NoScratch(i32),
    #[error("process {pid}: {what} failed in it: {errno}")]
    Call { pid: i32, what: &'static str, errno: Errno },
    #[error("process {pid}: ptrace {what}: {errno}")]
    Ptrace { pid: i32, what: &'static str, errno: Errno },
    #[error("process {pid}: {what}: {error}")]
    Procfs { pid: i32, what: &'static str, error: ProcError },
    #[error("process {pid}: {what}: {error}")]
    Read { pid: i32, what: String, error: io::Error },
    #[error("interrupted by a signal; no image was made, and process {0} goes on")]
    Interrupted(i32),
    #[error("the image can't be written: {0}")]
    Write(io::Error),
}

impl From<CaptureError> for CommandError {
    fn from(error: CaptureError) -> Self {
        let status = match &error {
            CaptureError::NoSuchProcess(_) | CaptureError::Ended(_) => Status::NotFound,
            CaptureError::Call { .. }
            | CaptureError::Ptrace { .. }
            | CaptureError::Procfs { .. }
            | CaptureError::Read { .. }
            | CaptureError::Interrupted(_)
            | CaptureError::Write(_) => Status::Failed,
            _ => Status::Unusable,
        };
        Self::new(status, error)
    }
}

//! Processes that help the guest's process: one writes its code to the cache, one compiles for tier 1. They run this program
//! again, and are started by the translator service as its children.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use xlate_abi::names;
use xlate_abi::protocol::{Request, Worker};

use super::{background, kept, launch, tier2};
use crate::config::Config;

/// The nice value of work that isn't urgent.
const NICE: i32 = 5;
/// CPU seconds it may take.
const CPU_LIMIT: u64 = 60;

/// What a worker does with its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A run's handover: keeps its code.
    Keep,
    /// A socket with blocks: compiles them.
    Tier1,
}

impl Work {
    const NAMES: [(&'static str, Self); 2] = [("keep", Self::Keep), ("tier1", Self::Tier1)];

    /// The option's value for it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, work)| *work == self).map_or("", |(name, _)| name)
    }

    /// The work of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, work)| *work)
    }

    /// What the process is called.
    fn process_name(self) -> &'static CStr {
        match self {
            Self::Keep => names::KEEPER,
            Self::Tier1 => names::TIER1,
        }
    }

    /// Names the process, and has one that isn't urgent step back behind the service's other work. It is ended if it takes
    /// too long, because others wait for it.
    fn prepare_process(self) {
        // SAFETY: a C string; failing changes nothing but what others read.
        unsafe { libc::prctl(libc::PR_SET_NAME, self.process_name().as_ptr()) };
        if self == Self::Keep {
            launch::step_back(NICE);
            let limit = libc::rlimit { rlim_cur: CPU_LIMIT, rlim_max: CPU_LIMIT };
            // SAFETY: reads the limit.
            unsafe { libc::setrlimit(libc::RLIMIT_CPU, &limit) };
        }
    }

    /// Does the work; the exit status.
    pub fn run(self) -> i32 {
        self.prepare_process();
        let outcome = match self {
            Self::Keep => kept::handover::work(File::from(stdin())),
            Self::Tier1 => background::work(&stdin()),
        };
        match outcome {
            Ok(()) => 0,
            Err(error) => {
                tracing::warn!(work = self.name(), %error, "a worker");
                1
            }
        }
    }
}

/// The descriptor that the work came by.
fn stdin() -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: a worker's standard input is its own, and used once.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(libc::STDIN_FILENO) }
}

/// How workers are started from this process.
#[derive(Clone)]
pub struct Workers {
    xlate: PathBuf,
    socket: Option<PathBuf>,
    /// The command line but for the work's name.
    command: Vec<Vec<u8>>,
}

impl Workers {
    /// None where the `xlate` command, which the service is part of, isn't known.
    pub fn new(config: &Config) -> Option<Self> {
        let mut command: Vec<Vec<u8>> = config.exec_prefix.iter().map(|word| word.clone().into_bytes()).collect();
        command.push(config.runtime_path().as_os_str().as_bytes().to_vec());
        Some(Self { xlate: config.xlate.clone()?, socket: config.service.clone(), command })
    }

    /// Has a worker started that gets this descriptor. Whether it comes to that shows later, if at all. Nobody waits for a
    /// service that is just being started: the error is `WouldBlock` then.
    pub fn start(&self, work: Work, key: Option<u64>, input: BorrowedFd<'_>) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => launch::socket_path(&self.xlate)?,
        };
        let mut command = self.command.clone();
        command.push(format!("--work={}", work.name()).into_bytes());
        let worker = Worker { command, key };
        match UnixStream::connect(&socket) {
            Ok(stream) => hand_over(&stream, worker, input),
            Err(_) => launch::start_service(&self.xlate, &socket, Some((&worker, input.as_raw_fd()))),
        }
    }
}

/// Sends the order with its descriptor: far less than a socket has room for.
fn hand_over(stream: &UnixStream, worker: Worker, input: BorrowedFd<'_>) -> io::Result<()> {
    let message = tier2::message(&Request::Work(worker)).map_err(io::Error::other)?;
    let descriptors = [input.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&message)], &rights, flags, None)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_have_names() {
        for work in [Work::Keep, Work::Tier1] {
            assert_eq!(Work::named(work.name()), Some(work));
        }
        assert_eq!(Work::named("other"), None);
    }
}

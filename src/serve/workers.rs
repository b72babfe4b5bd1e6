//! Workers: processes that work for guests and are this service's children, so that it reaps them and not the guests'
//! parents or init. A worker ends by itself when its input does, and may outlive the service.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use xlate_abi::protocol::Worker;

use super::lock;

/// Starts workers.
#[derive(Default)]
pub struct Workers {
    /// Held while a worker with a key runs: one at a time.
    alone: Mutex<()>,
    /// Keys of workers that wait for their turn.
    waiting: Mutex<HashSet<u64>>,
}

impl Workers {
    /// Runs a worker to its end, unless one like it waits already.
    pub fn run(&self, worker: &Worker, input: OwnedFd) {
        let _alone = match worker.key {
            Some(key) if !lock(&self.waiting).insert(key) => return tracing::debug!(key, "a worker too many"),
            Some(key) => {
                let alone = lock(&self.alone);
                lock(&self.waiting).remove(&key);
                Some(alone)
            }
            None => None,
        };
        let words: Vec<&OsStr> = worker.command.iter().map(|word| OsStr::from_bytes(word)).collect();
        match execute(&words, input) {
            Ok(()) => tracing::debug!(?words, "a worker has ended"),
            Err(error) => tracing::warn!(?words, %error, "a worker"),
        }
    }
}

fn execute(words: &[&OsStr], input: OwnedFd) -> io::Result<()> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(input).stdout(Stdio::null()).current_dir("/");
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_reads_what_came_with_its_order() {
        use std::io::{Seek, Write};
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(b"work").unwrap();
        input.rewind().unwrap();
        let script = format!("cat > {}", copy.display());
        let command = ["sh", "-c", &script].map(|word| word.as_bytes().to_vec()).to_vec();
        Workers::default().run(&Worker { command, key: Some(1) }, input.into());
        assert_eq!(std::fs::read(&copy).unwrap(), b"work");
    }

    #[test]
    fn one_worker_of_a_key_waits_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let script = format!("echo >> {}", ran.display());
        let command = ["sh", "-c", &script].map(|word| word.as_bytes().to_vec()).to_vec();
        let workers = Workers::default();
        let run = |key| workers.run(&Worker { command: command.clone(), key }, tempfile::tempfile().unwrap().into());
        let others = lock(&workers.alone);
        std::thread::scope(|scope| {
            scope.spawn(|| run(Some(1)));
            while lock(&workers.waiting).is_empty() {
                std::thread::yield_now();
            }
            run(Some(1));
            assert!(!ran.exists(), "one is too many, and the other one waits");
            run(None);
            assert_eq!(std::fs::read(&ran).unwrap().len(), 1, "this one needn't wait");
            drop(others);
        });
        assert_eq!(std::fs::read(&ran).unwrap().len(), 2);
        run(Some(1));
        assert_eq!(std::fs::read(&ran).unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_run_is_an_error() {
        let input = || tempfile::tempfile().unwrap().into();
        assert!(execute(&[], input()).is_err());
        assert!(execute(&[OsStr::new("/nonexistent")], input()).is_err());
        assert!(execute(&[OsStr::new("false")], input()).is_err());
        assert!(execute(&[OsStr::new("true")], input()).is_ok());
    }
}

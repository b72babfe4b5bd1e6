//! Exit statuses of the `xlate` command itself, and the error that carries one to `main`.
//!
//! They follow the convention of `env`, `nohup` and the shell, so that they don't shadow a guest's own:
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done |
//! | 125 | wrong usage, or xlate's own failure (an output that can't be written, a full disk) |
//! | 126 | found, but can't be used: not traceable, not x86-64, several threads, a damaged image |
//! | 127 | not found: no such process, no such file |
//!
//! `xlate run` otherwise ends with the guest's own status, or dies by the guest's signal.

use std::process::ExitCode;

/// Exit statuses for failures; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Failed = 125,
    Unusable = 126,
    NotFound = 127,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

/// Why a subcommand failed, and with which exit status.
#[derive(Debug)]
pub struct CommandError {
    pub status: Status,
    pub error: anyhow::Error,
}

impl CommandError {
    pub fn new(status: Status, error: impl Into<anyhow::Error>) -> Self {
        Self { status, error: error.into() }
    }
}

/// What has no status of its own is xlate's own failure.
impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Status::Failed, error)
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::new(Status::Failed, error)
    }
}

/// What every subcommand returns.
pub type CommandResult = Result<ExitCode, CommandError>;

//! `xlate serve`: becomes `xlate-serve`, the program beside this one that has LLVM in it.
//!
//! LLVM's shared library takes some ten milliseconds to load and relocate. The command is a program of its own, so
//! that `xlate run` doesn't pay for what only the service needs.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::status::CommandResult;

/// Compiles hot regions for runtimes (`xlate run` starts it as needed).
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Unix socket to listen on; made here, removed at the end.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Compilations at a time (default: one less than there are processors, for the guest runs, too).
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Ends when there has been no client for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub idle: u64,
}

/// The service's program; it stands beside the command.
const SERVICE: &str = "xlate-serve";

/// Becomes the service; returns only on failure.
pub fn run(args: &Args, log: Option<&str>) -> CommandResult {
    let service = std::env::current_exe().context("this command's own path")?.with_file_name(SERVICE);
    let mut command = Command::new(&service);
    command.arg("--socket").arg(&args.socket).arg("--idle").arg(args.idle.to_string());
    if let Some(jobs) = args.jobs {
        command.arg("--jobs").arg(jobs.to_string());
    }
    if let Some(filter) = log {
        command.arg("--log").arg(filter);
    }
    let error = command.exec();
    Err(anyhow::Error::new(error)
        .context(format!("{} can't be executed; `cargo build --release` builds it", service.display()))
        .into())
}

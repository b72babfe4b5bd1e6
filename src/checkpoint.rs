//! `xlate checkpoint`: writes a running process into an image file. The process goes on (or is killed) only
//! after its capture; the file appears under its final name only when it is whole.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tempfile::NamedTempFile;

use crate::capture::{CaptureError, Stopped};
use crate::status::{CommandError, CommandResult, Status};

/// Writes a running process (single-threaded, 64-bit) into an image that `xlate run` resumes.
///
/// By default the process goes on afterwards. Its open pipes and sockets can't be carried and are named.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The process.
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// The image file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Lets the process go on afterwards; the default.
    #[arg(long, conflicts_with = "kill")]
    leave_running: bool,
    /// Kills the process once its image is safely on disk; it doesn't run in between.
    #[arg(long)]
    kill: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> CommandResult {
    let signals = hold_signals()?;
    let result = checkpoint(args);
    drop(signals);
    for warning in result? {
        eprintln!("xlate: warning: process {}: {warning}", args.pid);
    }
    Ok(ExitCode::SUCCESS)
}

fn checkpoint(args: &Args) -> Result<Vec<String>, CommandError> {
    let temporary = temporary_beside(&args.output)?;
    let mut stopped = Stopped::stop(args.pid)?;
    let writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let written = stopped.write(writer).and_then(|w| {
        let flushed = w.into_inner().map_err(io::IntoInnerError::into_error);
        flushed.map_err(CaptureError::Write)
    });
    written.map_err(|e| name_file(e, &args.output))?;
    let warnings = std::mem::take(&mut stopped.warnings);
    if args.kill {
        publish(temporary, &args.output)?;
        stopped.kill()?;
    } else {
        drop(stopped);
        publish(temporary, &args.output)?;
    }
    Ok(warnings)
}

/// While the process is stopped a signal to xlate must not end it in the middle; capture looks for them.
fn hold_signals() -> Result<HeldSignals, CommandError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        set.add(signal);
    }
    let old = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).context("blocking signals")?;
    Ok(HeldSignals(old))
}

struct HeldSignals(SigSet);

impl Drop for HeldSignals {
    fn drop(&mut self) {
        if let Err(error) = self.0.thread_set_mask() {
            tracing::warn!(%error, "unblocking signals");
        }
    }
}

/// A file that vanishes unless it is published; in the same directory, so that a rename can do that.
fn temporary_beside(output: &Path) -> Result<NamedTempFile, CommandError> {
    let unwritable = |e: anyhow::Error| CommandError::new(Status::Failed, e);
    let Some(name) = output.file_name().filter(|_| !output.is_dir()) else {
        return Err(unwritable(anyhow::anyhow!("{}: not a name for an image file", output.display())));
    };
    let dir = output.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!(".{}.", name.display());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempfile_in(dir)
        .with_context(|| format!("{}: the image can't be written there", output.display()))
        .map_err(unwritable)
}

/// Puts the finished image under its name, durably.
fn publish(temporary: NamedTempFile, output: &Path) -> Result<(), CommandError> {
    let context = || format!("{}: the image can't be written", output.display());
    temporary.as_file().sync_all().with_context(context)?;
    temporary.persist(output).map_err(|e| e.error).with_context(context)?;
    let dir = output.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).with_context(context)?;
    Ok(())
}

/// A failed write concerns the file, any other failure the process.
fn name_file(error: CaptureError, output: &Path) -> CommandError {
    match error {
        CaptureError::Write(e) => {
            let advice = match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space or choose another disk",
                _ => "",
            };
            let message = format!("{}: the image can't be written: {e}{advice}", output.display());
            CommandError::new(Status::Failed, anyhow::anyhow!(message))
        }
        other => other.into(),
    }
}

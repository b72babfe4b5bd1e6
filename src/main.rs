//! Command line of `xlate`: subcommands, logging, exit statuses (see [`xlate::status`]).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
#[cfg(target_arch = "x86_64")]
use xlate::checkpoint;
use xlate::status::{CommandResult, Status};
use xlate::{bench, cache, inspect, isa, logging, run, serve};

/// Checkpoints running x86-64 Linux processes and resumes them, translated, on AArch64 or x86-64.
#[derive(Parser)]
#[command(name = "xlate", version, after_help = EXIT_STATUSES)]
struct Cli {
    /// What to log, to stderr: a level or a tracing filter (`debug`, `xlate::translate=trace`); silent by default.
    #[arg(long, global = true, env = "XLATE_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUSES: &str = "Exit statuses: 0 done; 125 wrong usage or xlate's own failure; \
126 found but can't be used (not traceable, not x86-64, damaged image); 127 no such process or file. \
`xlate run` otherwise ends as the guest does.";

#[derive(Subcommand)]
enum Command {
    #[cfg(target_arch = "x86_64")]
    Checkpoint(checkpoint::Args),
    Inspect(inspect::Args),
    Isa(isa::Args),
    Run(run::Args),
    Serve(serve::Args),
    Bench(bench::Args),
    Cache(cache::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    if let Err(e) = logging::start(cli.log.as_deref()) {
        eprintln!("xlate: {e}");
        return Status::Failed.into();
    }
    match dispatch(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("xlate: {:#}", e.error);
            e.status.into()
        }
    }
}

fn dispatch(cli: Cli) -> CommandResult {
    match cli.command {
        Command::Bench(args) => bench::run(args),
        Command::Cache(args) => cache::run(args),
        #[cfg(target_arch = "x86_64")]
        Command::Checkpoint(args) => checkpoint::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Isa(args) => isa::run(&args),
        Command::Run(args) => run::run(args, cli.log.as_deref()),
        Command::Serve(args) => serve::run(&args, cli.log.as_deref()),
    }
}

/// Help and version go to stdout with status 0, everything else is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() { Status::Failed.into() } else { ExitCode::SUCCESS }
}

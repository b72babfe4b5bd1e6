//! `xlate-compile`: the compiler as a program of its own, the only one that loads LLVM. `xlate serve` starts it.

use std::process::ExitCode;

use clap::Parser;
use xlate::status::Status;
use xlate::{compiler, logging};
use xlate_abi::names::COMPILER;

/// Compiles regions for `xlate serve`, which starts it: orders come on standard input, answers go to standard output.
#[derive(Parser)]
#[command(name = COMPILER, version)]
struct Cli {
    /// What to log, to stderr: a level or a tracing filter; silent by default.
    #[arg(long, env = "XLATE_LOG", value_name = "FILTER")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Status::Failed.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = logging::start(cli.log.as_deref()).map_err(anyhow::Error::msg).and_then(|()| compiler::run());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}: {e:#}", COMPILER);
            Status::Failed.into()
        }
    }
}

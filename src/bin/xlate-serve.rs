//! `xlate-serve`: the translator service as a program of its own, the only one that loads LLVM. Runtimes start it, and
//! `xlate serve` becomes it.

use std::process::ExitCode;

use clap::Parser;
use xlate::status::Status;
use xlate::{logging, serve, service};

#[derive(Parser)]
#[command(name = "xlate-serve", version)]
struct Cli {
    /// What to log, to stderr: a level or a tracing filter; silent by default.
    #[arg(long, env = "XLATE_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(flatten)]
    args: service::Args,
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
    if let Err(e) = logging::start(cli.log.as_deref()) {
        eprintln!("xlate: {e}");
        return Status::Failed.into();
    }
    serve::run(&cli.args).unwrap_or_else(|e| {
        eprintln!("xlate: {:#}", e.error);
        e.status.into()
    })
}

//! Compares every implemented instruction with this machine's CPU, on every engine. See `xlate_tests::isa`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use xlate_tests::isa::campaign::{Options, supervisor, worker};
use xlate_tests::isa::engines::Kind;
use xlate_tests::isa::{explain, recorder};

/// Native differential verification of the instruction set.
#[derive(Parser)]
struct Arguments {
    /// Stop after this many seconds.
    #[arg(long, conflicts_with = "rounds")]
    seconds: Option<u64>,
    /// Stop after this many rounds: programs of each instruction.
    #[arg(long)]
    rounds: Option<u64>,
    /// Only instructions whose iced-x86 code name contains this, such as `Add_` or `Cvt`.
    #[arg(long)]
    filter: Option<String>,
    /// Only blocks of several instructions.
    #[arg(long)]
    blocks: bool,
    /// Only run the CPU, with every instruction that it has, implemented or not, and say how each ends.
    #[arg(long, conflicts_with_all = ["blocks", "record", "engine"])]
    native_only: bool,
    /// Only these engines.
    #[arg(long, value_enum, value_delimiter = ',')]
    engine: Vec<Kind>,
    /// Where the random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// States for each program.
    #[arg(long, default_value_t = 10)]
    states: u64,
    /// Worker processes; one for each processor by default.
    #[arg(long)]
    jobs: Option<u64>,
    /// Only print what LLVM makes of these bytes of code, in hexadecimal, precise and not.
    #[arg(long, value_name = "BYTES")]
    explain: Option<String>,
    /// Record the cases of --rounds rounds, with code for AArch64, for `replay-isa`.
    #[arg(long, value_name = "FILE", requires = "rounds")]
    record: Option<PathBuf>,
    /// Run as a worker (internal).
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(assignment) = &arguments.worker {
        let assignment = serde_json::from_str(assignment).context("--worker takes an assignment in JSON")?;
        worker::work(&assignment)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(bytes) = &arguments.explain {
        explain::print(bytes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let options = Options {
        seed: arguments.seed,
        seconds: if arguments.rounds.is_some() { None } else { Some(arguments.seconds.unwrap_or(60)) },
        rounds: arguments.rounds,
        filter: arguments.filter,
        engines: match arguments.engine {
            _ if arguments.native_only => Vec::new(),
            none if none.is_empty() => Kind::ALL.to_vec(),
            chosen => chosen,
        },
        blocks_only: arguments.blocks,
        native_only: arguments.native_only,
        states: arguments.states,
        jobs: arguments.jobs.unwrap_or(processors).max(1),
    };
    if let (Some(path), Some(rounds)) = (&arguments.record, arguments.rounds) {
        let file = File::create(path).with_context(|| format!("can't create {}", path.display()))?;
        let mut to = BufWriter::new(file);
        let cases = recorder::record(&options, rounds, &mut to)?;
        to.flush().with_context(|| format!("can't write {}", path.display()))?;
        println!("{cases} cases recorded in {}; seed {}", path.display(), options.seed);
        return Ok(ExitCode::SUCCESS);
    }
    println!("seed {}", options.seed);
    let summary = supervisor::run(&std::env::current_exe()?, &options)?;
    print!("{summary}");
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

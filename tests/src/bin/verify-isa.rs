//! Compares every implemented instruction with this machine's CPU, on every engine. See `xlate_tests::isa`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use xlate_tests::isa::campaign::{Options, supervisor, worker};
use xlate_tests::isa::corpus::Corpus;
use xlate_tests::isa::engines::Kind;
use xlate_tests::isa::wrong::Wrong;
use xlate_tests::isa::{explain, recorder, replay};

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
    /// Make this mistake on purpose, in the engines or, with --native-only, in the CPU's outcomes: the run has to fail.
    #[arg(long, value_enum)]
    wrong: Option<Wrong>,
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
    /// Record the cases of --rounds rounds, or of the corpus, with code for AArch64, for `replay-isa`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write a corpus of AVX-512 instructions, or of those that --filter names: --rounds programs of each, with the
    /// outcomes of --states states.
    #[arg(long, value_name = "FILE", requires = "rounds", conflicts_with = "record")]
    write_corpus: Option<PathBuf>,
    /// Compare the engines with a corpus instead of this CPU; with --record make a record of it.
    #[arg(long, value_name = "FILE", conflicts_with = "write_corpus")]
    corpus: Option<PathBuf>,
    /// Run as a worker (internal).
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path).with_context(|| format!("can't create {}", path.display()))?))
}

fn read_corpus(path: &Path) -> Result<Corpus> {
    let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    Corpus::read_from(&mut BufReader::new(file)).with_context(|| path.display().to_string())
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
        wrong: arguments.wrong,
        states: arguments.states,
        jobs: arguments.jobs.unwrap_or(processors).max(1),
    };
    let corpus = arguments.corpus.as_deref().map(read_corpus).transpose()?;
    if let Some(path) = &arguments.record {
        let mut to = create(path)?;
        let cases = match (&corpus, arguments.rounds) {
            (Some(corpus), _) => recorder::record_corpus(corpus, &mut to)?,
            (None, Some(rounds)) => recorder::record(&options, rounds, &mut to)?,
            (None, None) => bail!("--record needs --rounds or --corpus"),
        };
        to.flush().with_context(|| format!("can't write {}", path.display()))?;
        println!("{cases} cases recorded in {}; seed {}", path.display(), options.seed);
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(path), Some(rounds)) = (&arguments.write_corpus, arguments.rounds) {
        let corpus = recorder::corpus(&options, rounds)?;
        let mut to = create(path)?;
        corpus.write_to(&mut to)?;
        to.flush().with_context(|| format!("can't write {}", path.display()))?;
        println!("{} programs in {}; seed {}", corpus.entries.len(), path.display(), options.seed);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(corpus) = &corpus {
        let summary = replay::replay_corpus(corpus, &options.engines)?;
        print!("{summary}");
        return Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("seed {}", options.seed);
    let summary = supervisor::run(&std::env::current_exe()?, &options)?;
    print!("{summary}");
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

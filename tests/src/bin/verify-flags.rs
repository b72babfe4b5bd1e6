//! Compares random programs that pass status flags over transfers with this machine's CPU, in every mix of tiers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use xlate_tests::flags_programs::{Shape, build};
use xlate_tests::guest::{ARM_MODES, MODES, Mode, OPTIMIZED, Shown, differs, native};

/// Compares random programs that pass status flags over transfers with this machine's CPU, in every mix of tiers.
#[derive(Parser)]
struct Arguments {
    /// Seed of the first program; each has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Programs.
    #[arg(long, default_value_t = 10)]
    programs: u64,
    /// Cases in each program.
    #[arg(long, default_value_t = 100)]
    cases: u64,
    /// The first one's number.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Rounds of each case.
    #[arg(long, default_value_t = 400)]
    rounds: u64,
    /// Ends after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only modes with this in their names.
    #[arg(long, default_value = "")]
    mode: String,
    /// Runs on AArch64, under emulation.
    #[arg(long)]
    aarch64: bool,
    /// Keeps the programs here, and what the CPU did.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Takes programs and results from here: for a machine that can't run them itself.
    #[arg(long, value_name = "DIR", conflicts_with = "record")]
    replay: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let modes: Vec<Mode> = if arguments.aarch64 { ARM_MODES.to_vec() } else { [&MODES[..], &OPTIMIZED].concat() };
    let modes: Vec<Mode> = modes.into_iter().filter(|mode| mode.name.contains(&arguments.mode)).collect();
    if modes.is_empty() {
        bail!("no mode has {:?} in its name", arguments.mode);
    }
    let temporary = tempfile::tempdir()?;
    let folder = arguments.record.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(folder)?;
    let (start, limit) = (Instant::now(), arguments.seconds.map(Duration::from_secs));
    let (mut compared, mut failed) = (0, 0);
    for job in jobs(&arguments)? {
        if limit.is_some_and(|limit| start.elapsed() > limit) {
            break;
        }
        let (program, expected) = job.done(&arguments, folder)?;
        for mode in modes.iter().filter(|_| arguments.record.is_none()) {
            compared += 1;
            if let Some(difference) = differs(mode, &program, &[], &expected) {
                println!("{}: {difference}", program.display());
                failed += 1;
            }
        }
    }
    if arguments.record.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{compared} runs compared in {} modes, {failed} differ", modes.len());
    Ok(if failed == 0 && compared > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A program to be compared.
enum Job {
    /// Made by this seed.
    Seed(u64),
    /// Found in a record.
    Recorded(PathBuf),
}

fn jobs(arguments: &Arguments) -> Result<Vec<Job>> {
    let Some(folder) = &arguments.replay else {
        let seeds = arguments.seed..arguments.seed + arguments.programs;
        return Ok(seeds.map(Job::Seed).collect());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == RESULTS) {
            found.push(Job::Recorded(path.with_extension("")));
        }
    }
    Ok(found)
}

/// A file beside each recorded program: how it ended, and what it wrote.
const RESULTS: &str = "results";

impl Job {
    /// The program, and what the CPU does with it.
    fn done(self, arguments: &Arguments, folder: &Path) -> Result<(PathBuf, Shown)> {
        match self {
            Self::Seed(seed) => {
                let shape = Shape { first: arguments.first, cases: arguments.cases, rounds: arguments.rounds };
                let program = build(seed, shape, folder);
                let shown = native(&program, &[]);
                if arguments.record.is_some() {
                    fs::write(program.with_extension(RESULTS), format!("{}\n{}", shown.end, shown.stdout))?;
                }
                Ok((program, shown))
            }
            Self::Recorded(program) => {
                let text = fs::read_to_string(program.with_extension(RESULTS))?;
                let (end, stdout) = text.split_once('\n').context("a record begins with the end's number")?;
                Ok((program, Shown { end: end.parse()?, stdout: stdout.to_owned() }))
            }
        }
    }
}

//! `xlate bench`: the benchmark programs under native execution, every installed QEMU, and xlate's own levels,
//! in turn within one run, so that the ratios hold while the machine's speed drifts.
//!
//! [`set`] says what there is to run, [`engines`] how, [`workload`] makes programs and inputs, [`measure`] does one
//! run; [`report`], [`chart`] and [`targets`] tell what came of it.

mod chart;
mod engines;
mod measure;
mod report;
pub mod set;
mod statistics;
mod targets;
mod workload;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::status::{CommandResult, Status};
use engines::{Cache, Choice, Engine};
use measure::{Shown, Streams};
use report::{Measured, Outcome, Report, Row};
use set::{Benchmark, Group};
use statistics::{Sample, Times};
use targets::Verdict;
use workload::Prepared;

/// Measures programs natively, under QEMU and at xlate's levels, in turn, as ratios to native.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Groups (compute, vectors, programs, startup, published, all) and single benchmarks; the published table by default.
    #[arg(value_name = "GROUP|NAME")]
    what: Vec<String>,
    /// The engines beside native.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_values_t = [Choice::Qemu, Choice::O0, Choice::O1, Choice::O2, Choice::Warm], value_enum)]
    engines: Vec<Choice>,
    /// Rounds; start-up takes four times as many.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Small sizes: shows that everything works, not how fast it is.
    #[arg(long)]
    small: bool,
    /// Prints JSON instead of the tables, or writes it to FILE beside them.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    json: Option<Option<PathBuf>>,
    /// Draws the ratios as a bar chart.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Holds the figures against the project's targets; the exit status is 1 if one is missed.
    #[arg(long)]
    check: bool,
    /// Reports an earlier run from its JSON instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "engines", "runs", "small", "sources", "limit"])]
    from: Option<PathBuf>,
    /// The folder of the benchmarks' sources; C programs are compiled with gcc -O2.
    #[arg(long, value_name = "DIR", default_value = "tests/guests")]
    sources: PathBuf,
    /// Ends a run that takes longer: it counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,
}

/// Start-up is short and its spread large.
const STARTUP_ROUNDS: u32 = 4;

/// Unmeasured runs that fill a warm cache. The second finds the first's regions and goes on from there.
const WARM_UP_RUNS: u32 = 2;

/// Between two runs: what the last one has left to a compiler in the background doesn't disturb the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the subcommand.
pub fn run(args: Args) -> CommandResult {
    let report = match &args.from {
        Some(path) => load(path)?,
        None => measure_all(&args)?,
    };
    show(&report, &args)?;
    if !report.failures().is_empty() {
        return Ok(Status::Failed.into());
    }
    let missed = args.check && !print_targets(&report, args.json == Some(None));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn load(path: &Path) -> anyhow::Result<Report> {
    let text = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not the JSON of a benchmark run", path.display()))
}

fn show(report: &Report, args: &Args) -> anyhow::Result<()> {
    let write = |path: &Path, content: &str| {
        fs::write(path, content).with_context(|| format!("can't write {}", path.display()))
    };
    if let Some(path) = &args.svg {
        write(path, &chart::svg(report))?;
    }
    let json = || {
        serde_json::to_string_pretty(report).map(|mut text| {
            text.push('\n');
            text
        })
    };
    match &args.json {
        Some(None) => print!("{}", json()?),
        Some(Some(path)) => {
            write(path, &json()?)?;
            print!("{}", report.text());
        }
        None => print!("{}", report.text()),
    }
    Ok(())
}

/// Prints each target and whether it is met (beside JSON: to stderr); false if one is missed.
fn print_targets(report: &Report, to_stderr: bool) -> bool {
    let targets = targets::check(report);
    for target in &targets {
        if to_stderr {
            eprintln!("{target}");
        } else {
            println!("{target}");
        }
    }
    targets.iter().all(|t| t.verdict != Verdict::Missed)
}

/// One run of the benchmarks.
struct Session<'a> {
    args: &'a Args,
    engines: Vec<Engine>,
    work: tempfile::TempDir,
    /// Empty caches that were given out.
    colds: Cell<u32>,
    bar: ProgressBar,
}

fn measure_all(args: &Args) -> anyhow::Result<Report> {
    let chosen = set::choose(&args.what)?;
    let (engines, mut missing) = engines::engines(&args.engines)?;
    let work = tempfile::tempdir().context("a temporary folder for the benchmark programs")?;
    let rounds: u32 = chosen.iter().map(|b| rounds(b, args.runs)).sum();
    let bar = progress(u64::from(rounds) * engines.len() as u64);
    let session = Session { args, engines, work, colds: Cell::new(0), bar };
    let mut rows = Vec::new();
    for benchmark in chosen {
        match workload::prepare(benchmark, args.small, &args.sources, session.work.path())? {
            Some(prepared) => rows.push(session.benchmark(benchmark, &prepared)?),
            None => missing.push(program_name(benchmark)),
        }
    }
    session.bar.finish_and_clear();
    let engines = session.engines.iter().map(|e| e.name.clone()).collect();
    Ok(Report { runs: args.runs, small: args.small, engines, missing, rows, means: BTreeMap::new() }.with_means())
}

fn rounds(benchmark: &Benchmark, runs: u32) -> u32 {
    if benchmark.group == Group::Startup { runs * STARTUP_ROUNDS } else { runs }
}

fn program_name(benchmark: &Benchmark) -> String {
    match benchmark.program {
        set::Program::Installed(name) => format!("{name} ({})", benchmark.name),
        set::Program::Compiled => benchmark.name.to_owned(),
        set::Program::CompiledFor(_, level) => {
            format!("a processor with {} ({})", level.options().join(" "), benchmark.name)
        }
    }
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// The engines of a round, by number: who comes behind a pause, or behind a run that leaves the machine warm, has another
/// time, so each round begins with another engine, and every other one goes backwards. The first begins with the native
/// run, which the others are compared with.
fn order(round: usize, engines: usize) -> impl Iterator<Item = usize> {
    (0..engines).map(move |n| {
        if round.is_multiple_of(2) { (round / 2 + n) % engines } else { (round / 2 + engines - n) % engines }
    })
}

/// What the rounds of one benchmark have found about one engine so far.
enum Found {
    Samples(Vec<Sample>),
    /// It takes no part in further rounds.
    Failed(String),
}

impl Session<'_> {
    /// All engines in turn, round by round.
    fn benchmark(&self, benchmark: &Benchmark, prepared: &Prepared) -> anyhow::Result<Row> {
        let streams = Streams::new(self.work.path(), &prepared.output);
        let mut native: Option<Shown> = None;
        let mut found: Vec<Found> = self.engines.iter().map(|_| Found::Samples(Vec::new())).collect();
        for round in 0..rounds(benchmark, self.args.runs) {
            for n in order(round as usize, self.engines.len()) {
                let (engine, found) = (&self.engines[n], &mut found[n]);
                self.bar.set_message(format!("{}: {}", benchmark.name, engine.name));
                self.bar.inc(1);
                let Found::Samples(samples) = found else { continue };
                if round == 0 && engine.cache == Cache::Warm {
                    self.warm_up(engine, benchmark, prepared, &streams)?;
                }
                match self.run(engine, benchmark, prepared, &streams, native.as_ref())? {
                    Ok((sample, shown)) => {
                        native.get_or_insert(shown);
                        samples.push(sample);
                    }
                    Err(error) => *found = Found::Failed(error),
                }
            }
        }
        let peaks = self.peaks(benchmark, prepared, &streams, &mut found)?;
        Ok(self.row(benchmark, prepared, found, &peaks))
    }

    /// One run, checked against the native one; the inner error is the engine's.
    fn run(
        &self,
        engine: &Engine,
        benchmark: &Benchmark,
        prepared: &Prepared,
        streams: &Streams,
        native: Option<&Shown>,
    ) -> anyhow::Result<Result<(Sample, Shown), String>> {
        let mut command = self.command(engine, benchmark, prepared);
        let limit = Duration::from_secs(self.args.limit);
        let outcome = measure::time(&mut command, streams, limit);
        std::thread::sleep(PAUSE);
        measure::wait_for_background();
        Ok(match outcome {
            Ok((sample, shown)) => match native.and_then(|n| shown.difference(n)) {
                Some(difference) => Err(difference),
                None => Ok((sample, shown)),
            },
            // Without a native run there is nothing to compare with.
            Err(e) if engine.name == "native" => return Err(e.context(format!("{} natively", benchmark.name))),
            Err(e) => Err(format!("{e:#}")),
        })
    }

    /// The engine's command line, its cache in the state that belongs to it.
    fn command(&self, engine: &Engine, benchmark: &Benchmark, prepared: &Prepared) -> Command {
        let folder = match engine.cache {
            Cache::Warm => self.work.path().join(format!("warm-{}", benchmark.name)),
            Cache::Cold => self.empty_cache(),
            // Nobody looks at it.
            Cache::None => self.work.path().to_owned(),
        };
        engine.command(&prepared.program, &prepared.arguments, &folder)
    }

    /// Where no cache is yet: a new place each time, for the service may still be writing to the last one.
    fn empty_cache(&self) -> PathBuf {
        let place = |n: u32| self.work.path().join(format!("cold-{n}"));
        let n = self.colds.get() + 1;
        self.colds.set(n);
        // What can't be removed now goes with the temporary folder.
        let _ = fs::remove_dir_all(place(n - 1));
        place(n)
    }

    /// Fills the engine's cache; a failure will show in the measured run.
    fn warm_up(
        &self,
        engine: &Engine,
        benchmark: &Benchmark,
        prepared: &Prepared,
        streams: &Streams,
    ) -> anyhow::Result<()> {
        for _ in 0..WARM_UP_RUNS {
            if let Err(error) = self.run(engine, benchmark, prepared, streams, None)? {
                tracing::debug!(engine = engine.name, benchmark = benchmark.name, error, "warm-up run");
            }
        }
        Ok(())
    }

    /// Peak memory by engine, for programs that do next to nothing: what the engine itself needs.
    fn peaks(
        &self,
        benchmark: &Benchmark,
        prepared: &Prepared,
        streams: &Streams,
        found: &mut [Found],
    ) -> anyhow::Result<Vec<Option<u64>>> {
        let mut peaks = vec![None; found.len()];
        if benchmark.group != Group::Startup {
            return Ok(peaks);
        }
        for ((engine, found), peak) in self.engines.iter().zip(found).zip(&mut peaks) {
            if matches!(found, Found::Samples(_)) {
                let mut command = self.command(engine, benchmark, prepared);
                match measure::peak_kib(&mut command, streams) {
                    Ok(kib) => *peak = Some(kib),
                    Err(error) => *found = Found::Failed(format!("{error:#}")),
                }
            }
        }
        Ok(peaks)
    }

    fn row(&self, benchmark: &Benchmark, prepared: &Prepared, found: Vec<Found>, peaks: &[Option<u64>]) -> Row {
        let native = match &found[0] {
            Found::Samples(samples) => samples.clone(),
            Found::Failed(_) => Vec::new(),
        };
        let outcome = |(found, peak): (Found, &Option<u64>)| match found {
            Found::Samples(s) => Outcome::Measured(Measured { times: Times::of(&s, &native), peak_kib: *peak }),
            Found::Failed(error) => Outcome::Failed { error },
        };
        let outcomes = found.into_iter().zip(peaks).map(outcome);
        let words = std::iter::once(prepared.program.clone().into_os_string()).chain(prepared.arguments.clone());
        Row {
            name: benchmark.name.to_owned(),
            group: benchmark.group,
            published: benchmark.published,
            command: words.map(|w: OsString| w.to_string_lossy().into_owned()).collect(),
            outcomes: self.engines.iter().map(|e| e.name.clone()).zip(outcomes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_runs_once_a_round_and_none_is_always_first() {
        let rounds: Vec<Vec<usize>> = (0..8).map(|round| order(round, 4).collect()).collect();
        assert_eq!(rounds[0], [0, 1, 2, 3]);
        assert_eq!(rounds[1], [0, 3, 2, 1]);
        assert_eq!(rounds[2], [1, 2, 3, 0]);
        for round in &rounds {
            assert_eq!(round.iter().copied().collect::<std::collections::BTreeSet<_>>().len(), 4);
        }
        for place in 0..4 {
            let there: Vec<usize> = rounds.iter().map(|round| round[place]).collect();
            assert!((0..4).all(|engine| there.iter().filter(|n| **n == engine).count() == 2), "{there:?}");
        }
    }
}

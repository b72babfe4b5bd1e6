//! `xlate bench`: the benchmark programs under native execution, every installed QEMU, and xlate's own levels,
//! in turn within one run, so that the ratios hold while the machine's speed drifts.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::status::{CommandError, CommandResult};

/// Measures guest programs: native, QEMU, and xlate's levels, as ratios to native.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Programs to measure (default: the published table: memory division fileout).
    #[arg(value_name = "PROGRAM")]
    programs: Vec<String>,
    /// Measure every benchmark program there is.
    #[arg(long, conflicts_with = "programs")]
    all: bool,
    /// Runs of each program in each way.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Prints JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// The folder of the benchmark sources; they are compiled with gcc -O2.
    #[arg(long, value_name = "DIR", default_value = "tests/guests")]
    sources: PathBuf,
}

/// The benchmark programs with arguments that take a few tenths of a second natively; the published table first.
const PROGRAMS: [(&str, &str); 15] = [
    ("memory", "20"),
    ("division", "40000000"),
    ("fileout", "2000000"),
    ("sieve", "60"),
    ("matmul", "60"),
    ("nbody", "2000000"),
    ("qsort", "10"),
    ("hashmap", "30000000"),
    ("fib", "38"),
    ("bytecode", "10000000"),
    ("mandelbrot", "1000"),
    ("sha256", "500000"),
    ("crc", "200"),
    ("strings", "40000"),
    ("chase", "20000000"),
];

/// Rows of the published table.
const PUBLISHED: usize = 3;

/// Programs of QEMU's user mode that may be installed.
const EMULATORS: [&str; 2] = ["qemu-x86_64", "qemu-x86_64-static"];

/// One way of running a program: its name, and the words before the program's own.
struct Engine {
    name: String,
    prefix: Vec<PathBuf>,
}

/// What is reported.
#[derive(Debug, Serialize)]
struct Report {
    runs: u32,
    /// Emulators that were looked for and aren't installed.
    missing: Vec<String>,
    programs: Vec<ProgramReport>,
}

#[derive(Debug, Serialize)]
struct ProgramReport {
    name: String,
    argument: String,
    engines: BTreeMap<String, Times>,
}

/// Wall-clock times of one program in one way, in seconds; `ratio` is the median of the ratios to the native
/// run of the same round.
#[derive(Debug, Serialize)]
struct Times {
    median: f64,
    min: f64,
    max: f64,
    ratio: f64,
}

/// Runs the subcommand.
pub fn run(args: Args) -> CommandResult {
    let chosen = choose(&args)?;
    let (engines, missing) = engines()?;
    let work = tempfile::tempdir().context("a temporary folder for the benchmark programs")?;
    let bar = progress(chosen.len() as u64 * u64::from(args.runs) * engines.len() as u64, args.json);
    let mut programs = Vec::new();
    for (name, argument) in chosen {
        let program = compile(&args.sources, name, work.path())?;
        programs.push(measure(name, argument, &program, &engines, args.runs, work.path(), &bar)?);
    }
    bar.finish_and_clear();
    let report = Report { runs: args.runs, missing, programs };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print_table(&report, &engines);
    }
    Ok(ExitCode::SUCCESS)
}

fn choose(args: &Args) -> Result<Vec<(&'static str, &'static str)>, CommandError> {
    if args.all {
        return Ok(PROGRAMS.to_vec());
    }
    if args.programs.is_empty() {
        return Ok(PROGRAMS[..PUBLISHED].to_vec());
    }
    let known = || PROGRAMS.map(|(n, _)| n).join(" ");
    let find = |wanted: &String| PROGRAMS.iter().find(|(n, _)| n == wanted).copied();
    args.programs
        .iter()
        .map(|w| find(w).with_context(|| format!("{w}: no such benchmark; there are: {}", known())))
        .collect::<Result<_, _>>()
        .map_err(CommandError::from)
}

/// The ways of running, native first, and the emulators that are missing.
fn engines() -> Result<(Vec<Engine>, Vec<String>), CommandError> {
    let own = std::env::current_exe()?;
    let level = |opt: &str| Engine {
        name: format!("xlate {opt}"),
        prefix: vec![own.clone(), "run".into(), format!("--opt={opt}").into()],
    };
    let mut engines = vec![Engine { name: "native".into(), prefix: Vec::new() }];
    let (mut missing, mut versions) = (Vec::new(), Vec::new());
    for emulator in EMULATORS {
        match version(emulator) {
            // The static and the dynamic package of one release are one emulator.
            Some(v) if versions.contains(&v) => {}
            Some(v) => {
                engines.push(Engine { name: format!("qemu {v}"), prefix: vec![emulator.into()] });
                versions.push(v);
            }
            None => missing.push(emulator.to_owned()),
        }
    }
    if !versions.is_empty() {
        missing.clear();
    }
    engines.extend(["O0", "O2"].map(level));
    Ok((engines, missing))
}

/// `qemu-x86_64 version 7.2.22 (Debian …)`: the third word.
fn version(emulator: &str) -> Option<String> {
    let output = Command::new(emulator).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).map(str::to_owned)
}

fn compile(sources: &Path, name: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let source = sources.join(format!("{name}.c"));
    if !source.is_file() {
        bail!("{}: no such file; name the folder of the benchmark sources with --sources", source.display());
    }
    let program = into.join(name);
    let status = Command::new("gcc").args(["-O2", "-o"]).arg(&program).arg(&source).arg("-lm").status();
    match status {
        Ok(s) if s.success() => Ok(program),
        Ok(s) => bail!("gcc can't compile {}: {s}", source.display()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!("gcc: not found; install it to compile the benchmarks"),
        Err(e) => Err(e).context("gcc"),
    }
}

fn progress(length: u64, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// All engines in turn, round by round; output must be the native one every time.
fn measure(
    name: &str,
    argument: &str,
    program: &Path,
    engines: &[Engine],
    runs: u32,
    work: &Path,
    bar: &ProgressBar,
) -> anyhow::Result<ProgramReport> {
    let mut seconds = vec![Vec::new(); engines.len()];
    let mut expected: Option<Vec<u8>> = None;
    for _ in 0..runs {
        for (engine, seconds) in engines.iter().zip(&mut seconds) {
            bar.set_message(format!("{name}: {}", engine.name));
            let (time, output) = time(engine, program, argument, work)?;
            if *expected.get_or_insert_with(|| output.clone()) != output {
                bail!("{name} under {} gives another output than natively: the times would mean nothing", engine.name);
            }
            seconds.push(time.as_secs_f64());
            bar.inc(1);
        }
    }
    let native = seconds[0].clone();
    let engines = engines.iter().zip(seconds).map(|(e, s)| (e.name.clone(), Times::of(&s, &native))).collect();
    Ok(ProgramReport { name: name.to_owned(), argument: argument.to_owned(), engines })
}

fn time(engine: &Engine, program: &Path, argument: &str, work: &Path) -> anyhow::Result<(Duration, Vec<u8>)> {
    let mut words = engine.prefix.iter().map(PathBuf::as_path).chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words).arg(argument).arg(work.join("output")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let start = Instant::now();
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let elapsed = start.elapsed();
    if !output.status.success() {
        let how = match output.status.signal() {
            Some(signal) => format!("died by signal {signal}"),
            None => format!("ended with {}", output.status),
        };
        bail!("{} under {}: {how}", program.display(), engine.name);
    }
    Ok((elapsed, output.stdout))
}

impl Times {
    fn of(seconds: &[f64], native: &[f64]) -> Self {
        let ratios: Vec<f64> = seconds.iter().zip(native).map(|(s, n)| s / n).collect();
        let fold = |f: fn(f64, f64) -> f64| seconds.iter().copied().reduce(f).unwrap_or(f64::NAN);
        Self { median: median(seconds), min: fold(f64::min), max: fold(f64::max), ratio: median(&ratios) }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn print_table(report: &Report, engines: &[Engine]) {
    println!("time over native: median of {} runs' ratios (native: median seconds, min to max)", report.runs);
    print!("{:<12}", "");
    engines.iter().for_each(|e| print!("{:>24}", e.name));
    println!();
    for program in &report.programs {
        print!("{:<12}", program.name);
        for engine in engines {
            let t = &program.engines[&engine.name];
            let spread = format!("({:.2}-{:.2} s)", t.min, t.max);
            let cell = if engine.prefix.is_empty() {
                format!("{:.3} s {spread}", t.median)
            } else {
                format!("{:.2} {spread}", t.ratio)
            };
            print!("{cell:>24}");
        }
        println!();
    }
    if report.programs.len() > 1 {
        print!("{:<12}", "geom. mean");
        for engine in engines {
            let logs: f64 = report.programs.iter().map(|p| p.engines[&engine.name].ratio.ln()).sum();
            let mean = (logs / report.programs.len() as f64).exp();
            print!("{mean:>24.2}");
        }
        println!();
    }
    for emulator in &report.missing {
        println!("{emulator} is not installed: no figures for it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let t = Times::of(&[2.0, 40.0, 6.0], &[1.0, 20.0, 2.0]);
        assert_eq!((t.ratio, t.min, t.max), (2.0, 2.0, 40.0));
    }
}

//! Counts the AArch64 instructions that compute programs and vector code execute: compiled for AArch64, and translated. See
//! `xlate_tests::arm_cost` and `scripts/arm-cost.sh`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Serialize;
use xlate::bench::set;
use xlate_tests::arm_cost::{CodeMap, Cost, Counts, classify, means, table};
use xlate_tests::guest::root;

/// Executed AArch64 instructions, translated over native, once warm.
#[derive(Parser)]
struct Arguments {
    /// Programs and groups of them: compute, v2, v3, v4 (default: all of them).
    programs: Vec<String>,
    /// Prints JSON instead of the table, or writes it to FILE beside it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    json: Option<Option<PathBuf>>,
    /// The level of the translated runs.
    #[arg(long, default_value = "O2")]
    opt: String,
    /// The folder of the xlate command.
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin: PathBuf,
}

/// Programs of `xlate bench` with two problem sizes each: many million instructions between them, so that warming up weighs
/// little. Floats take the emulator long.
const PROGRAMS: [(&str, [&str; 2]); 33] = [
    ("memory", ["4", "8"]),
    ("division", ["5000000", "10000000"]),
    ("fileout", ["150000", "300000"]),
    ("sieve", ["10", "20"]),
    ("matmul", ["6", "12"]),
    ("nbody", ["250000", "500000"]),
    ("qsort", ["2", "4"]),
    ("hashmap", ["4000000", "8000000"]),
    ("fib", ["33", "35"]),
    ("bytecode", ["1200000", "2400000"]),
    ("mandelbrot", ["400", "560"]),
    ("sha256", ["50000", "100000"]),
    ("crc", ["30", "60"]),
    ("strings", ["5000", "10000"]),
    ("chase", ["20000000", "40000000"]),
    ("dot-v2", ["5000", "10000"]),
    ("dot-v3", ["5000", "10000"]),
    ("dot-v4", ["5000", "10000"]),
    ("product-v2", ["30", "60"]),
    ("product-v3", ["30", "60"]),
    ("product-v4", ["30", "60"]),
    ("sha256-v2", ["20000", "40000"]),
    ("sha256-v3", ["20000", "40000"]),
    ("sha256-v4", ["20000", "40000"]),
    ("gcm-v2", ["700", "1400"]),
    ("gcm-v3", ["700", "1400"]),
    ("gcm-v4", ["700", "1400"]),
    ("copy-v2", ["700000", "1400000"]),
    ("copy-v3", ["700000", "1400000"]),
    ("copy-v4", ["700000", "1400000"]),
    ("length-v2", ["700000", "1400000"]),
    ("length-v3", ["700000", "1400000"]),
    ("length-v4", ["700000", "1400000"]),
];

/// The options for the native kind, which has AArch64's instructions for ciphers.
const NATIVE: &[&str] = &["-O2", "-static", "-march=armv8-a+crypto"];

/// A program and how the kind for x86-64 is built.
#[derive(Clone)]
struct Program {
    name: &'static str,
    group: &'static str,
    source: String,
    options: &'static [&'static str],
    sizes: [&'static str; 2],
}

impl Program {
    fn of((name, sizes): (&'static str, [&'static str; 2])) -> Self {
        let benchmark = set::BENCHMARKS.iter().find(|b| b.name == name).expect("it is in xlate bench's set");
        match benchmark.program {
            set::Program::CompiledFor(source, level) => {
                Self { name, group: level.name(), source: source.to_owned(), options: level.options(), sizes }
            }
            _ => Self { name, group: "compute", source: format!("{name}.c"), options: &[], sizes },
        }
    }
}

/// The processor that `xlate run --target=aarch64` has emulated.
const EMULATOR: [&str; 3] = ["qemu-aarch64", "-cpu", "max"];

#[derive(Serialize)]
struct Report<'a> {
    programs: &'a [Cost],
    /// By group, over the programs that didn't fail.
    means: BTreeMap<&'a str, f64>,
    failed: &'a [String],
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let work = tempfile::tempdir().context("a temporary folder")?;
    let bench = Bench::new(&arguments, work.path())?;
    let mut costs = Vec::new();
    let mut failed = Vec::new();
    for program in choose(&arguments.programs)? {
        eprintln!("arm-cost: {}", program.name);
        match bench.cost(&program) {
            Ok(cost) => costs.push(cost),
            Err(error) => failed.push(format!("{}: {error:#}", program.name)),
        }
    }
    let json = serde_json::to_string_pretty(&Report { programs: &costs, means: means(&costs), failed: &failed })?;
    match &arguments.json {
        Some(None) => println!("{json}"),
        Some(Some(path)) => {
            fs::write(path, json + "\n").with_context(|| format!("can't write {}", path.display()))?;
            print!("{}", table(&costs));
        }
        None => print!("{}", table(&costs)),
    }
    failed.iter().for_each(|f| eprintln!("arm-cost: FAILED: {f}"));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(names: &[String]) -> Result<Vec<Program>> {
    let programs = PROGRAMS.map(Program::of);
    let is_meant = |p: &Program, name: &str| name == p.name || name == p.group;
    if let Some(unknown) = names.iter().find(|n| !programs.iter().any(|p| is_meant(p, n))) {
        let known = programs.map(|p| p.name).join(" ");
        bail!("{unknown}: no such program; there are the groups compute, v2, v3 and v4, and {known}");
    }
    Ok(programs.into_iter().filter(|p| names.is_empty() || names.iter().any(|n| is_meant(p, n))).collect())
}

struct Bench<'a> {
    xlate: PathBuf,
    opt: &'a str,
    plugin: PathBuf,
    work: &'a Path,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a Arguments, work: &'a Path) -> Result<Self> {
        let xlate = fs::canonicalize(arguments.bin.join("xlate")).with_context(|| {
            format!("no xlate in {}: build it, or name its folder by --bin", arguments.bin.display())
        })?;
        let plugin = work.join("count.so");
        let source = root().join("tests/arm-cost/count.c");
        compile("gcc", &["-O2", "-shared", "-fPIC", "-fvisibility=hidden"], &source, &plugin)?;
        Ok(Self { xlate, opt: &arguments.opt, plugin, work })
    }

    fn cost(&self, program: &Program) -> Result<Cost> {
        let &Program { name, group, sizes, .. } = program;
        let source = root().join("tests/guests").join(&program.source);
        let (arm, x86) = (self.work.join(format!("{name}.arm")), self.work.join(format!("{name}.x86")));
        compile("aarch64-linux-gnu-gcc", NATIVE, &source, &arm)?;
        compile("gcc", &[&["-O2", "-static"], program.options].concat(), &source, &x86)?;
        fs::create_dir_all(self.maps()).context("a folder for the map of translated code")?;
        self.warm_up(&x86, sizes[1])?;
        let mut native = [0; 2];
        let mut translated = [Counts::default(); 2];
        for (i, size) in sizes.into_iter().enumerate() {
            native[i] = self.native(&arm, size)?;
            translated[i] = self.translated(&x86, size)?;
        }
        ensure!(native[0] < native[1], "the larger problem takes no more instructions natively");
        Ok(Cost::of([name, group], sizes.map(str::to_owned), native, translated))
    }

    /// The program compiled for AArch64.
    fn native(&self, program: &Path, size: &str) -> Result<u64> {
        let mut command = Command::new(EMULATOR[0]);
        command.args(&EMULATOR[1..]).arg(program);
        let (_, counts) = self.counted(&mut command, size)?;
        Ok(classify(&counts, &CodeMap::default())?.total())
    }

    /// The program compiled for x86-64, translated; its output must be what this machine's own processor gives.
    fn translated(&self, program: &Path, size: &str) -> Result<Counts> {
        let expected = output(Command::new(program).arg(size).arg(self.work.join("output")))?;
        let maps = self.maps();
        // A failed run leaves its folder.
        if maps.exists() {
            fs::remove_dir_all(&maps).context("can't remove the map of translated code")?;
        }
        fs::create_dir(&maps).context("a folder for the map of translated code")?;
        let mut command = self.xlate(program);
        let (shown, counts) = self.counted(&mut command, size)?;
        ensure!(shown == expected, "the translated program's output differs from the native one's");
        Ok(classify(&counts, &CodeMap::parse(&only_file(&maps)?)?)?)
    }

    fn maps(&self) -> PathBuf {
        self.work.join("maps")
    }

    /// The command that runs a program translated, with a cache that belongs to this program alone.
    fn xlate(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.xlate);
        command.args(["run", "--target=aarch64", "--opt", self.opt, "--perf-map"]).arg(self.maps());
        command.arg("--cache").arg(program.with_extension("cache")).arg(program);
        command
    }

    /// Unmeasured runs that fill the cache; where they fail, so will the measured one, and say why.
    fn warm_up(&self, program: &Path, size: &str) -> Result<()> {
        for _ in 0..2 {
            let mut command = self.xlate(program);
            command.arg(size).arg(self.work.join("output")).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().context("xlate")?;
        }
        Ok(())
    }

    /// Runs under the plugin; gives standard output and the counts.
    fn counted(&self, command: &mut Command, size: &str) -> Result<(Vec<u8>, String)> {
        let counts = self.work.join("counts");
        let mut plugin = OsString::from(&self.plugin);
        plugin.push(",out=");
        plugin.push(&counts);
        command.arg(size).arg(self.work.join("output")).env("QEMU_PLUGIN", plugin);
        let shown = output(command)?;
        let text = fs::read_to_string(&counts).context("the plugin has written no counts")?;
        fs::remove_file(&counts).context("can't remove the counts")?;
        Ok((shown, text))
    }
}

fn compile(compiler: &str, flags: &[&str], source: &Path, program: &Path) -> Result<()> {
    let status = Command::new(compiler).args(flags).arg("-o").arg(program).arg(source).arg("-lm").status();
    let status = status.with_context(|| format!("{compiler} (scripts/setup.sh installs it)"))?;
    ensure!(status.success(), "{compiler} can't compile {}", source.display());
    Ok(())
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{:?} ended with {}", command.get_program(), output.status);
    Ok(output.stdout)
}

fn only_file(folder: &Path) -> Result<String> {
    let mut files = fs::read_dir(folder)?;
    let file = files.next().context("the runtime has written no map of its code")??;
    ensure!(files.next().is_none(), "several maps of translated code: the program has several processes");
    Ok(fs::read_to_string(file.path())?)
}

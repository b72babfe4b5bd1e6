//! Counts the AArch64 instructions that the compute programs execute: compiled for AArch64, and translated. See
//! `xlate_tests::arm_cost` and `scripts/arm-cost.sh`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Serialize;
use xlate_tests::arm_cost::{CodeMap, Cost, Counts, classify, mean, table};
use xlate_tests::guest::root;

/// Executed AArch64 instructions, translated over native, once warm.
#[derive(Parser)]
struct Arguments {
    /// Programs (default: all of them).
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

/// The compute programs with two problem sizes each: some hundred million instructions between them, so that warming
/// up weighs little.
const PROGRAMS: [(&str, [&str; 2]); 15] = [
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
];

/// The processor that `xlate run --target=aarch64` has emulated.
const EMULATOR: [&str; 3] = ["qemu-aarch64", "-cpu", "max"];

#[derive(Serialize)]
struct Report<'a> {
    programs: &'a [Cost],
    /// Over the programs that didn't fail.
    mean: Option<f64>,
    failed: &'a [String],
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let work = tempfile::tempdir().context("a temporary folder")?;
    let bench = Bench::new(&arguments, work.path())?;
    let mut costs = Vec::new();
    let mut failed = Vec::new();
    for (name, sizes) in choose(&arguments.programs)? {
        eprintln!("arm-cost: {name}");
        match bench.cost(name, sizes) {
            Ok(cost) => costs.push(cost),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    let json = serde_json::to_string_pretty(&Report { programs: &costs, mean: mean(&costs), failed: &failed })?;
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

fn choose(names: &[String]) -> Result<Vec<(&'static str, [&'static str; 2])>> {
    if let Some(unknown) = names.iter().find(|n| !PROGRAMS.iter().any(|(p, _)| p == n)) {
        bail!("{unknown}: no such program; there are: {}", PROGRAMS.map(|(p, _)| p).join(" "));
    }
    Ok(PROGRAMS.into_iter().filter(|(p, _)| names.is_empty() || names.iter().any(|n| n == p)).collect())
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

    fn cost(&self, name: &str, sizes: [&str; 2]) -> Result<Cost> {
        let source = root().join("tests/guests").join(format!("{name}.c"));
        let (arm, x86) = (self.work.join(format!("{name}.arm")), self.work.join(format!("{name}.x86")));
        compile("aarch64-linux-gnu-gcc", &["-O2", "-static"], &source, &arm)?;
        compile("gcc", &["-O2", "-static"], &source, &x86)?;
        fs::create_dir_all(self.maps()).context("a folder for the map of translated code")?;
        self.warm_up(&x86, sizes[1])?;
        let mut native = [0; 2];
        let mut translated = [Counts::default(); 2];
        for (i, size) in sizes.into_iter().enumerate() {
            native[i] = self.native(&arm, size)?;
            translated[i] = self.translated(&x86, size)?;
        }
        ensure!(native[0] < native[1], "the larger problem takes no more instructions natively");
        Ok(Cost::of(name, sizes.map(str::to_owned), native, translated))
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

//! `xlate run`: decides whether it was given an image or a program, finds the runtime for the target
//! and becomes it by `execve`, so that pid, terminal, exit status and death by signal are the guest's own.
//!
//! What the options mean is the runtime's business; they are passed on as they are.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use thiserror::Error;

use crate::cache::CacheArgs;
use crate::status::{CommandError, CommandResult, Status};

/// Resumes a checkpoint image, or runs an x86-64 program, under translation.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How far to optimise: O0 baseline only, O1 single blocks, O2 superblocks and loops, O3 costlier passes too.
    #[arg(long, value_enum, default_value = "O2", ignore_case = true)]
    opt: Opt,
    /// Which tiers run: all by hotness (auto), one alone, or tier 2 from the first execution (optimized).
    #[arg(long, value_enum, default_value = "auto")]
    engine: Engine,
    /// Sets a variable in the guest's environment (programs only: an image has its own).
    #[arg(short = 'E', value_name = "VAR=VALUE", value_parser = variable)]
    env: Vec<OsString>,
    /// Prints what each tier did when the guest ends, to stderr or to FILE.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    stats: Option<Option<PathBuf>>,
    /// When the guest ends, writes perf-PID.map to DIR: where each tier's code lies, for `perf` (it looks in /tmp).
    #[arg(long, value_name = "DIR")]
    perf_map: Option<PathBuf>,
    /// The processor whose features the guest sees: x86-64-v1 to v4 or a processor's name; all that is implemented by default.
    #[arg(long, value_name = "NAME")]
    cpu: Option<OsString>,
    /// The processor to run on; another one than this machine's goes through its emulator (for development).
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// Executions of a block before tier 1 translates it while the guest waits. (In the background, after an eighth of them.)
    #[arg(long, value_name = "N")]
    hot_baseline: Option<u64>,
    /// Lets tier 1 work in the guest's own process only, not in the background.
    #[arg(long)]
    no_background: bool,
    /// Executions of a block before tier 2 is asked for its region.
    #[arg(long, value_name = "N")]
    hot_optimized: Option<u64>,
    /// Lets the guest wait for each region it asks for: what gets optimised depends on the guest alone then.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Keeps no translated code over runs and uses none: as `--cache=off`.
    #[arg(long, conflicts_with = "warm")]
    no_cache: bool,
    /// At its end, waits until everything that ran often is compiled and kept (see `xlate cache warm`).
    #[arg(long)]
    warm: bool,
    #[command(flatten)]
    guest: GuestWords,
}

/// What is to run: options of several subcommands.
#[derive(clap::Args, Clone, Debug)]
pub struct GuestWords {
    /// An image made by `xlate checkpoint` (or a core file), or a program as a shell would find it; then the program's
    /// arguments, whatever they look like.
    // One list and not a word and a list: only from the first word of a trailing list on does clap leave `--` and
    // what looks like its own options alone.
    #[arg(value_names = ["IMAGE|PROGRAM", "ARGS"], trailing_var_arg = true, required = true, num_args = 1..)]
    words: Vec<OsString>,
}

impl GuestWords {
    /// The image or program, and its arguments.
    pub fn split(&self) -> (&OsStr, &[OsString]) {
        self.words.split_first().map_or((OsStr::new(""), &[]), |(guest, args)| (guest.as_os_str(), args))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
enum Opt {
    O0,
    O1,
    O2,
    O3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Auto,
    Interpreter,
    Baseline,
    Optimized,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Target {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Target {
    /// The machine this command was built for.
    const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };
}

fn variable(text: &str) -> Result<OsString, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.into()),
        _ => Err("expected VAR=VALUE".to_owned()),
    }
}

/// What the file to run is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ET_CORE: a checkpoint.
    Image,
    /// An x86-64 executable, or a `#!` script.
    Program,
}

/// Why a file can't be run.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("{0}: not found; it is neither a file here nor a program in PATH")]
    NotFound(String),
    #[error("{0}: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0}: neither a checkpoint image nor an x86-64 program (no ELF file and no #! script)")]
    NotElf(String),
    #[error("{0}: an ELF file for another machine ({1}); xlate runs 64-bit x86-64 ones")]
    OtherMachine(String, String),
    #[error("{0}: an ELF file of type {1}, which can't be run")]
    OtherType(String, u16),
    #[error("{0}: not executable; `chmod +x` it if it is a program")]
    NotExecutable(String),
    #[error("{0} is an image: it takes no arguments and no -E, for the checkpoint has both already")]
    ImageWithArguments(String),
    #[error(
        "no {name} beside {}, in ../lib/xlate or in ${variable}; build it with {build}", beside.display()
    )]
    NoRuntime { name: &'static str, beside: PathBuf, variable: &'static str, build: &'static str },
    #[error("--target={0:?}: no way from this machine to that one")]
    NoEmulation(Target),
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let status = match &error {
            RunError::NotFound(_) => Status::NotFound,
            RunError::Unreadable(_, e) if e.kind() == std::io::ErrorKind::NotFound => Status::NotFound,
            RunError::ImageWithArguments(_) | RunError::NoRuntime { .. } | RunError::NoEmulation(_) => Status::Failed,
            _ => Status::Unusable,
        };
        Self::new(status, error)
    }
}

/// Runs the subcommand; returns only on failure.
pub fn run(args: Args, log: Option<&str>) -> CommandResult {
    let (guest, words) = args.guest.split();
    let path = find(guest)?;
    let kind = classify(&path)?;
    if kind == Kind::Image && !(words.is_empty() && args.env.is_empty()) {
        return Err(RunError::ImageWithArguments(name(&path)).into());
    }
    let launcher = Launcher::find(args.target.unwrap_or(Target::HOST))?;
    let command = command_line(&args, log, &launcher, &path, kind)?;
    tracing::debug!(?command, "becoming the runtime");
    #[cfg(target_arch = "x86_64")]
    if launcher.prefix.is_empty() {
        return become_runtime(&launcher.runtime, &command[1..]);
    }
    exec(&command)
}

/// Replaces this process by the runtime in its place, which saves it an `execve` of its own.
#[cfg(target_arch = "x86_64")]
fn become_runtime(runtime: &Path, args: &[OsString]) -> CommandResult {
    let Err(error) = xlate_abi::start::become_placed(runtime, args, xlate_abi::start::Place::Top);
    Err(CommandError::new(Status::Failed, error))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Finds the file as a shell would, save that a name without a slash that is a checkpoint image in the
/// working directory is that image.
fn find(guest: &OsStr) -> Result<PathBuf, RunError> {
    let plain = Path::new(guest);
    if guest.as_bytes().contains(&b'/') {
        return Ok(plain.to_owned());
    }
    if matches!(classify(plain), Ok(Kind::Image)) {
        return Ok(plain.to_owned());
    }
    if let Some(found) = search_path(guest) {
        return Ok(found);
    }
    // A file that is here but no program gets the message about what it is, not "not found".
    if plain.is_file() {
        return Ok(Path::new(".").join(plain));
    }
    Err(RunError::NotFound(guest.display().to_string()))
}

fn search_path(program: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|p| p.metadata().is_ok_and(|m| m.is_file() && is_executable(&m)))
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

/// What a file is, by its first bytes and (for programs) its mode.
pub fn classify(path: &Path) -> Result<Kind, RunError> {
    let unreadable = |e| RunError::Unreadable(name(path), e);
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut head = Vec::new();
    file.by_ref().take(20).read_to_end(&mut head).map_err(unreadable)?;
    let kind = classify_head(&head, path)?;
    if kind == Kind::Program && !is_executable(&metadata) {
        return Err(RunError::NotExecutable(name(path)));
    }
    Ok(kind)
}

/// Reads the fields of the ELF header that decide (gABI, "ELF Header").
fn classify_head(head: &[u8], path: &Path) -> Result<Kind, RunError> {
    use goblin::elf::header::*;
    if head.starts_with(b"#!") {
        return Ok(Kind::Program);
    }
    let [0x7f, b'E', b'L', b'F', class, data, ..] = *head else {
        return Err(RunError::NotElf(name(path)));
    };
    let half = |at: usize| head.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (Some(kind), Some(machine)) = (half(16), half(18)) else {
        return Err(RunError::NotElf(name(path)));
    };
    if data != ELFDATA2LSB || machine != EM_X86_64 || class != ELFCLASS64 {
        let machine = if data == ELFDATA2LSB { machine_to_str(machine) } else { "big-endian" };
        return Err(RunError::OtherMachine(name(path), machine.to_owned()));
    }
    match kind {
        ET_CORE => Ok(Kind::Image),
        ET_EXEC | ET_DYN => Ok(Kind::Program),
        other => Err(RunError::OtherType(name(path), other)),
    }
}

/// How to start the runtime of a target: the emulator's words, if one is needed, and the binary.
struct Launcher {
    prefix: Vec<OsString>,
    runtime: PathBuf,
}

/// Where the AArch64 runtime is on a development machine: the cross build stands beside the native one.
const CROSS_BUILD: &str = "../aarch64-unknown-linux-gnu/release";
const RUNTIME: &str = "xlate-runtime";

impl Launcher {
    fn find(target: Target) -> Result<Self, RunError> {
        let here = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
        if target == Target::HOST {
            let places = [here.join(RUNTIME), here.join("../lib/xlate").join(RUNTIME)];
            return Ok(Self {
                prefix: Vec::new(),
                runtime: pick("XLATE_RUNTIME", &places, here, "`cargo build --release -p xlate-runtime`")?,
            });
        }
        if target != Target::Aarch64 {
            return Err(RunError::NoEmulation(target));
        }
        let emulator =
            search_path(OsStr::new("qemu-aarch64")).ok_or_else(|| RunError::NotFound("qemu-aarch64".to_owned()))?;
        let places = [here.join(CROSS_BUILD).join(RUNTIME), here.join("../lib/xlate/aarch64").join(RUNTIME)];
        Ok(Self {
            prefix: vec![emulator.into(), "-cpu".into(), "max".into()],
            runtime: pick(
                "XLATE_RUNTIME_AARCH64",
                &places,
                here,
                "`cargo build --release --target aarch64-unknown-linux-gnu -p xlate-runtime`",
            )?,
        })
    }
}

/// The runtime named by the environment variable, else the first that is there.
fn pick(variable: &'static str, places: &[PathBuf], beside: PathBuf, build: &'static str) -> Result<PathBuf, RunError> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named
        .iter()
        .chain(places)
        .find(|p| p.is_file())
        .map(|p| p.canonicalize().unwrap_or_else(|_| p.clone()))
        .ok_or(RunError::NoRuntime { name: RUNTIME, beside, variable, build })
}

/// The whole command line of the runtime.
fn command_line(
    args: &Args,
    log: Option<&str>,
    launcher: &Launcher,
    path: &Path,
    kind: Kind,
) -> Result<Vec<OsString>, CommandError> {
    let mut command = launcher.prefix.clone();
    command.push(launcher.runtime.clone().into());
    push_value(&mut command, "--opt", &args.opt);
    push_value(&mut command, "--engine", &args.engine);
    match &args.stats {
        None => {}
        Some(None) => command.push("--stats".into()),
        Some(Some(file)) => command.push(option("stats", file.as_os_str())),
    }
    if let Some(directory) = &args.perf_map {
        command.push(option("perf-map", std::path::absolute(directory)?.as_os_str()));
    }
    for (flag, value) in [("hot-baseline", args.hot_baseline), ("hot-optimized", args.hot_optimized)] {
        if let Some(n) = value {
            command.push(option(flag, OsStr::new(&n.to_string())));
        }
    }
    if let Some(cpu) = &args.cpu {
        command.push(option("cpu", cpu));
    }
    if args.no_background {
        command.push("--background=no".into());
    }
    if args.wait {
        command.push("--wait=yes".into());
    }
    if let Some(filter) = log {
        command.push(option("log", OsStr::new(filter)));
    }
    if !launcher.prefix.is_empty() {
        let prefix = launcher.prefix.join(OsStr::new(" "));
        command.push(option("exec-prefix", &prefix));
    }
    if let Some(folder) = args.cache.folder()?.filter(|_| !args.no_cache) {
        command.push(option("cache", folder.as_os_str()));
        command.push(option("cache-limit", OsStr::new(&args.cache.cache_limit.to_string())));
    }
    if args.warm {
        command.push("--warm=yes".into());
    }
    command.push(option("xlate", std::env::current_exe()?.as_os_str()));
    for variable in &args.env {
        command.push("-E".into());
        command.push(variable.clone());
    }
    match kind {
        Kind::Image => {
            command.push("--image".into());
            command.push(path.into());
        }
        Kind::Program => {
            let (guest, words) = args.guest.split();
            command.push(option("argv0", guest));
            command.push("--".into());
            command.push(path.into());
            command.extend(words.iter().cloned());
        }
    }
    Ok(command)
}

fn push_value(command: &mut Vec<OsString>, flag: &str, value: &impl ValueEnum) {
    if let Some(possible) = value.to_possible_value() {
        command.push(format!("{flag}={}", possible.get_name()).into());
    }
}

fn option(flag: &str, value: &OsStr) -> OsString {
    let mut text = OsString::from(format!("--{flag}="));
    text.push(value);
    text
}

/// Replaces this process; comes back only with the reason why not.
fn exec(command: &[OsString]) -> CommandResult {
    let words = command
        .iter()
        .map(|w| CString::new(w.clone().into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::from)?;
    let Err(errno) = nix::unistd::execv(&words[0], &words);
    let program = words[0].to_string_lossy().into_owned();
    Err(CommandError::new(Status::Failed, anyhow::anyhow!("{program}: can't be executed: {errno}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(class: u8, data: u8, kind: u16, machine: u16) -> Vec<u8> {
        let mut h = vec![0x7f, b'E', b'L', b'F', class, data, 1, 0];
        h.resize(16, 0);
        h.extend(kind.to_le_bytes());
        h.extend(machine.to_le_bytes());
        h
    }

    fn classified(bytes: &[u8]) -> Result<Kind, RunError> {
        classify_head(bytes, Path::new("f"))
    }

    #[test]
    fn content_decides_between_image_and_program() {
        assert_eq!(classified(&head(2, 1, 4, 62)).unwrap(), Kind::Image);
        assert_eq!(classified(&head(2, 1, 2, 62)).unwrap(), Kind::Program);
        assert_eq!(classified(&head(2, 1, 3, 62)).unwrap(), Kind::Program);
        assert_eq!(classified(b"#!/bin/sh\n").unwrap(), Kind::Program);
    }

    #[test]
    fn other_files_are_named() {
        let of = |bytes: &[u8]| classified(bytes).unwrap_err();
        assert!(matches!(of(b"plain text"), RunError::NotElf(_)));
        assert!(matches!(of(b""), RunError::NotElf(_)));
        assert!(matches!(of(b"\x7fELF\x02\x01"), RunError::NotElf(_)));
        assert!(matches!(of(&head(2, 1, 2, 183)), RunError::OtherMachine(..)));
        assert!(matches!(of(&head(1, 1, 2, 3)), RunError::OtherMachine(..)));
        assert!(matches!(of(&head(2, 2, 2, 62)), RunError::OtherMachine(..)));
        assert!(matches!(of(&head(2, 1, 1, 62)), RunError::OtherType(_, 1)));
    }

    /// The options that stand before the program, with the words from the program on.
    fn parsed(words: &[&str]) -> Result<(Args, Vec<OsString>), clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"run").chain(words))?;
        let words = line.args.guest.words.clone();
        Ok((line.args, words))
    }

    #[test]
    fn words_after_the_program_are_its_own() {
        for words in
            [&["p"][..], &["p", "-E", "foo"], &["p", "--help"], &["p", "-h", "--opt=O1"], &["p", "--", "--", "x"]]
        {
            let (args, kept) = parsed(words).unwrap();
            assert_eq!((args.opt, args.env.len()), (Opt::O2, 0));
            assert_eq!(kept, words);
        }
        let (args, kept) = parsed(&["--opt=O3", "-E", "A=b", "--", "p", "--opt=O1", "--", "-E"]).unwrap();
        assert_eq!((args.opt, args.env), (Opt::O3, vec!["A=b".into()]));
        assert_eq!(kept, ["p", "--opt=O1", "--", "-E"]);
        let (_, kept) = parsed(&["--", "-p", "x"]).unwrap();
        assert_eq!(kept, ["-p", "x"], "a name that begins with a dash");
    }

    #[test]
    fn wrong_options_before_the_program_are_refused() {
        use clap::error::ErrorKind;
        let of = |words: &[&str]| parsed(words).unwrap_err().kind();
        assert_eq!(of(&["--optt=O1", "p"]), ErrorKind::UnknownArgument);
        assert_eq!(of(&["-x", "p"]), ErrorKind::UnknownArgument);
        assert_eq!(of(&["--opt=O9", "p"]), ErrorKind::InvalidValue);
        assert_eq!(of(&["--help", "p"]), ErrorKind::DisplayHelp);
        assert_eq!(of(&["--opt=O1"]), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn variables_need_a_name() {
        assert!(variable("A=b=c").is_ok());
        assert!(variable("=b").is_err());
        assert!(variable("A").is_err());
    }
}

//! The options of `xlate-runtime`: one table from which parsing, help and the command line of an exec'd
//! successor are made.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use xlate_abi::image::notes::CpuTimes;
use xlate_abi::protocol::OptLevel;
use xlate_abi::start::Place;

use crate::engine::workers::Work;
use crate::linux::cpu_time;
use crate::processor::{self, Model};

/// Which tiers may run (`--engine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// All of them, by hotness.
    Auto,
    /// Tier 0 only.
    Interpreter,
    /// Tier 1 from the first execution, no tier 2.
    Baseline,
    /// Tier 2 from the first execution, waiting for the service's answer.
    Optimized,
}

/// Where `--stats` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsSink {
    Stderr,
    File(PathBuf),
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A program with its arguments; the first word is the path or the name to look up in `PATH`.
    Program(Vec<OsString>),
    /// A checkpoint image.
    Image(PathBuf),
    /// Print the translator's own memory map and check it against where guests live.
    LayoutTest,
    /// Work for another process's guest, as the service starts it.
    Work(Work),
}

/// All options of one run. Those that concern the translator go on to exec'd successors
/// ([`Config::successor_args`]); those that describe the first program (`-E`, `--argv0`, `--guest-pid`) don't.
#[derive(Clone, Debug)]
pub struct Config {
    pub opt: OptLevel,
    pub engine: EngineChoice,
    /// Socket of the translator service; without one there is no tier 2.
    pub service: Option<PathBuf>,
    pub stats: Option<StatsSink>,
    /// Directory for `perf-PID.map`, which says where each tier's code lies.
    pub perf_map: Option<PathBuf>,
    /// A `tracing` filter; silent without one.
    pub log: Option<String>,
    /// `VAR=VALUE` or `VAR` (unset) changes to the environment of the first program.
    pub env: Vec<OsString>,
    pub argv0: Option<OsString>,
    /// The process number the guest believes to have (resumed images).
    pub guest_pid: Option<i32>,
    /// CPU time that the guest has used before its resume (its exec'd successors go on counting).
    pub cpu_before: CpuTimes,
    /// The limits on descriptors that the guest has, where they were raised for its start.
    pub descriptors: Option<(u64, u64)>,
    /// Words put before the runtime's own path when it execs itself (an emulator's command line).
    pub exec_prefix: Vec<String>,
    /// The `xlate` command, to restart the service.
    pub xlate: Option<PathBuf>,
    /// Folder of the regions that are kept over runs; without one nothing is kept.
    pub cache: Option<PathBuf>,
    /// Bytes that folder may take.
    pub cache_limit: u64,
    /// At the end, waits until everything that ran often is compiled (`xlate cache warm`).
    pub warm: bool,
    /// The guest waits for each region it asks for.
    pub wait: bool,
    /// The processor whose features the guest sees, as far as they are implemented; all of these without one.
    pub cpu: Option<&'static Model>,
    /// Executions after which a block gets tier 1 code.
    pub hot_baseline: u32,
    /// Tier 1 may work in another process, too.
    pub background: bool,
    /// Executions after which a block is sent to tier 2.
    pub hot_optimized: u32,
    /// Set by the layout stage: the runtime's own executable (`/proc/self/exe` is the dynamic loader then) and the
    /// process attributes to give back to the guest.
    pub placed: Option<Placed>,
    /// Set after an exec of the guest's: what the runtime of the program before leaves to this one.
    pub handed: Option<Handed>,
    pub subject: Subject,
}

/// What an exec hands over (hidden option `--handed=PROGRAM,ENVIRONMENT,RIGHTS,TASK/ASKED`): descriptors, for a name may
/// lead elsewhere or nowhere by now, and the guest's environment isn't to be the translator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// The program, opened to be executed.
    pub program: RawFd,
    /// A file with the guest's environment: strings that each end in a zero.
    pub environment: RawFd,
    /// Linux would give the program more rights than its caller has.
    pub gains_rights: bool,
    /// The process's name, which never has a slash.
    pub task_name: OsString,
    /// The program's name as it was asked for (AT_EXECFN).
    pub asked: OsString,
}

impl Handed {
    fn parse(value: &OsStr) -> Option<Self> {
        let mut parts = value.as_bytes().splitn(4, |&b| b == b',');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<RawFd>().ok();
        let (program, environment, rights) = (number()?, number()?, number()?);
        let names = parts.next()?;
        let slash = names.iter().position(|&b| b == b'/')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let (task_name, asked) = (text(&names[..slash]), text(&names[slash + 1..]));
        Some(Self { program, environment, gains_rights: rights != 0, task_name, asked })
    }

    fn value(&self) -> OsString {
        let rights = u8::from(self.gains_rights);
        let mut text = OsString::from(format!("{},{},{rights},", self.program, self.environment));
        text.push(&self.task_name);
        text.push("/");
        text.push(&self.asked);
        text
    }
}

/// The program that takes this one's place, for [`Config::successor_args`].
#[derive(Debug)]
pub struct Successor<'a> {
    /// Where its file is, for those who look at the process from outside.
    pub program: &'a Path,
    /// All its arguments; there is at least one.
    pub args: &'a [OsString],
    /// Options for what the process keeps.
    pub kept: Vec<(&'static str, OsString)>,
    pub handed: Handed,
}

/// What the first stage of the layout hands to the second (hidden option `--placed=SOFT,PERSONALITY,PLACE,PATH`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Soft RLIMIT_STACK before the change.
    pub stack_limit: u64,
    /// Personality before the change.
    pub personality: u32,
    /// Where the runtime was to come to lie.
    pub place: Place,
    pub runtime: PathBuf,
}

/// An option value that isn't one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--{option}={value}: {expected}")]
    Value { option: &'static str, value: String, expected: String },
    #[error("{0}")]
    Usage(String),
    /// `--help`: not a failure.
    #[error("{0}")]
    Help(String),
}

/// The default of `--hot-baseline`. Compiling a block costs as much as interpreting it several hundred times.
///
/// Measured as CPU time of `python3 -c pass` without tier 2 and without the background (of 38,000 blocks decoded, so many are compiled), on a busy
/// two-core machine: 8: 1.33 s (17,264 compiled); 128: 1.14 s (5,494); 256: 1.07 s (3,680); 512: 0.89 s (2,063);
/// 1024: 0.82 s (1,038); 2048: 0.90 s (513). `bash -c true`: 64: 90 ms; 256: 79 ms; 1024: 62 ms; 4096: 75 ms. A loop that
/// runs for long is through its first thousand rounds in less than a millisecond.
const HOT_BASELINE: u32 = 1024;

/// Executions in tier 1 before tier 2 is asked. A region costs its compiler tens of milliseconds, a block's execution in
/// tier 1 some nanoseconds more; a loop gets there at once, and what a program does only at its start never: LLVM, once
/// started, takes time from the guest even on another processor.
///
/// Measured once each with 16,000, 128,000 and 512,000 as time over native of a first run: sqlite3 6.6, 5.6, 4.4, perl
/// 8.4, 5.7, 6.6, of a second one: sqlite3 2.4, 2.5, 3.3, perl 2.0, 2.5, 3.3. `python3 -c pass` asks for 8 regions, none,
/// none.
const HOT_OPTIMIZED: u32 = 128_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            opt: OptLevel::O2,
            engine: EngineChoice::Auto,
            service: None,
            stats: None,
            perf_map: None,
            log: None,
            env: Vec::new(),
            argv0: None,
            guest_pid: None,
            cpu_before: CpuTimes::default(),
            descriptors: None,
            exec_prefix: Vec::new(),
            xlate: None,
            cache: None,
            cache_limit: 1 << 30,
            warm: false,
            wait: false,
            cpu: None,
            background: true,
            hot_baseline: HOT_BASELINE,
            hot_optimized: HOT_OPTIMIZED,
            placed: None,
            handed: None,
            subject: Subject::Program(Vec::new()),
        }
    }
}

/// One row of the option table.
struct Row {
    name: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
    expected: fn() -> String,
    /// Takes the value over; `None` if it isn't one.
    set: fn(&mut Config, &OsStr) -> Option<()>,
    /// The value for a successor, if it differs from the default.
    get: fn(&Config) -> Option<OsString>,
}

fn text(value: &OsStr) -> Option<&str> {
    value.to_str()
}

fn opt_level(value: &OsStr) -> Option<OptLevel> {
    Some(match text(value)? {
        "O0" => OptLevel::O0,
        "O1" => OptLevel::O1,
        "O2" => OptLevel::O2,
        "O3" => OptLevel::O3,
        _ => return None,
    })
}

fn engine_choice(value: &OsStr) -> Option<EngineChoice> {
    Some(match text(value)? {
        "auto" => EngineChoice::Auto,
        "interpreter" => EngineChoice::Interpreter,
        "baseline" => EngineChoice::Baseline,
        "optimized" => EngineChoice::Optimized,
        _ => return None,
    })
}

fn engine_name(choice: EngineChoice) -> &'static str {
    match choice {
        EngineChoice::Auto => "auto",
        EngineChoice::Interpreter => "interpreter",
        EngineChoice::Baseline => "baseline",
        EngineChoice::Optimized => "optimized",
    }
}

fn placed(value: &OsStr) -> Option<Placed> {
    let mut parts = value.as_bytes().splitn(4, |&b| b == b',');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let stack_limit = word()?.parse().ok()?;
    let personality = word()?.parse().ok()?;
    let place = Place::named(word()?)?;
    let runtime = PathBuf::from(OsString::from_vec(parts.next()?.to_vec()));
    Some(Placed { stack_limit, personality, place, runtime })
}

fn nothing(_: &Config) -> Option<OsString> {
    None
}

const ANY: &str = "a value is needed";
const NUMBER: &str = "a number is needed";

const TABLE: &[Row] = &[
    Row {
        name: "opt",
        short: None,
        value: "LEVEL",
        help: "Optimisation level: O0 (baseline only), O1, O2 (default), O3",
        expected: || "one of O0, O1, O2, O3 is needed".into(),
        set: |c, v| opt_level(v).map(|level| c.opt = level),
        get: |c| Some(format!("{:?}", c.opt).into()),
    },
    Row {
        name: "engine",
        short: None,
        value: "ENGINE",
        help: "Which tiers run: auto (default), interpreter, baseline, optimized",
        expected: || "one of auto, interpreter, baseline, optimized is needed".into(),
        set: |c, v| engine_choice(v).map(|engine| c.engine = engine),
        get: |c| Some(engine_name(c.engine).into()),
    },
    Row {
        name: "service",
        short: None,
        value: "SOCKET",
        help: "Socket of the translator service (xlate serve); without it there is no tier 2",
        expected: || ANY.into(),
        set: |c, v| {
            c.service = Some(v.into());
            Some(())
        },
        get: |c| c.service.clone().map(Into::into),
    },
    Row {
        name: "stats",
        short: None,
        value: "FILE",
        help: "Print what each tier did when the guest ends, to stderr or to FILE",
        expected: || ANY.into(),
        set: |c, v| {
            c.stats = Some(if v.is_empty() { StatsSink::Stderr } else { StatsSink::File(v.into()) });
            Some(())
        },
        get: |c| {
            c.stats.as_ref().map(|sink| match sink {
                StatsSink::Stderr => OsString::new(),
                StatsSink::File(path) => path.clone().into(),
            })
        },
    },
    Row {
        name: "perf-map",
        short: None,
        value: "DIR",
        help: "When the guest ends, write perf-PID.map there: where each tier's code lies (perf looks in /tmp)",
        expected: || ANY.into(),
        set: |c, v| {
            c.perf_map = Some(v.into());
            Some(())
        },
        get: |c| c.perf_map.clone().map(Into::into),
    },
    Row {
        name: "log",
        short: None,
        value: "FILTER",
        help: "What to log on stderr, as a tracing filter (debug, xlate_runtime::signal=trace); silent by default",
        expected: || "a filter is needed".into(),
        set: |c, v| text(v).map(|filter| c.log = Some(filter.to_owned())),
        get: |c| c.log.clone().map(Into::into),
    },
    Row {
        name: "env",
        short: Some('E'),
        value: "VAR=VALUE",
        help: "Set (VAR=VALUE) or unset (VAR) a variable of the program's environment; may be repeated",
        expected: || "VAR=VALUE or VAR is needed".into(),
        set: |c, v| (!v.is_empty() && v.as_bytes()[0] != b'=').then(|| c.env.push(v.to_owned())),
        get: nothing,
    },
    Row {
        name: "argv0",
        short: None,
        value: "NAME",
        help: "The program's argv[0], where it differs from its path",
        expected: || ANY.into(),
        set: |c, v| {
            c.argv0 = Some(v.to_owned());
            Some(())
        },
        get: nothing,
    },
    Row {
        name: "guest-pid",
        short: None,
        value: "PID",
        help: "The process number the guest is to see as its own",
        expected: || NUMBER.into(),
        set: |c, v| text(v)?.parse().ok().map(|pid| c.guest_pid = Some(pid)),
        get: nothing,
    },
    Row {
        name: "cpu-before",
        short: None,
        value: "NANOSECONDS",
        help: "CPU time that the guest has used before: user, system, its children's user, its children's system",
        expected: || "four numbers separated by commas are needed".into(),
        set: |c, v| cpu_time::parse(text(v)?).map(|times| c.cpu_before = times),
        get: nothing,
    },
    Row {
        name: "descriptors",
        short: None,
        value: "SOFT,HARD",
        help: "",
        expected: || "only the runtime itself passes this option".into(),
        set: |c, v| {
            let (soft, hard) = text(v)?.split_once(',')?;
            c.descriptors = Some((soft.parse().ok()?, hard.parse().ok()?));
            Some(())
        },
        get: nothing,
    },
    Row {
        name: "exec-prefix",
        short: None,
        value: "WORDS",
        help: "Command line to put before the runtime when it execs itself, e.g. 'qemu-aarch64 -cpu max'",
        expected: || "words separated by blanks are needed".into(),
        set: |c, v| {
            text(v).map(|words| {
                c.exec_prefix = words.split_whitespace().map(str::to_owned).collect();
            })
        },
        get: |c| (!c.exec_prefix.is_empty()).then(|| c.exec_prefix.join(" ").into()),
    },
    Row {
        name: "xlate",
        short: None,
        value: "PATH",
        help: "The xlate command, to start the service again should it die",
        expected: || ANY.into(),
        set: |c, v| {
            c.xlate = Some(v.into());
            Some(())
        },
        get: |c| c.xlate.clone().map(Into::into),
    },
    Row {
        name: "cache",
        short: None,
        value: "DIR",
        help: "Folder of translated code that is kept over runs; without it nothing is kept",
        expected: || "an absolute path is needed".into(),
        set: |c, v| {
            let path = PathBuf::from(v);
            path.is_absolute().then(|| c.cache = Some(path))
        },
        get: |c| c.cache.clone().map(Into::into),
    },
    Row {
        name: "cache-limit",
        short: None,
        value: "BYTES",
        help: "Bytes that the folder may take (default 1 GiB); what was used longest ago goes first",
        expected: || NUMBER.into(),
        set: |c, v| text(v)?.parse().ok().map(|n| c.cache_limit = n),
        get: |c| (c.cache_limit != Config::default().cache_limit).then(|| c.cache_limit.to_string().into()),
    },
    Row {
        name: "warm",
        short: None,
        value: "yes|no",
        help: "At the end, wait until everything that ran often is compiled and kept",
        expected: || "yes or no is needed".into(),
        set: |c, v| yes_or_no(v).map(|yes| c.warm = yes),
        get: |c| c.warm.then(|| "yes".into()),
    },
    Row {
        name: "wait",
        short: None,
        value: "yes|no",
        help: "Wait for each region that is asked for: what is compiled depends on the guest alone then",
        expected: || "yes or no is needed".into(),
        set: |c, v| yes_or_no(v).map(|yes| c.wait = yes),
        get: |c| c.wait.then(|| "yes".into()),
    },
    Row {
        name: "cpu",
        short: None,
        value: "NAME",
        help: "The processor whose features the guest sees, as far as they are implemented (all of them by default)",
        expected: || format!("one of these is needed: {}", processor::names()),
        set: |c, v| processor::model(text(v)?).map(|model| c.cpu = Some(model)),
        get: |c| c.cpu.map(|model| model.name().into()),
    },
    Row {
        name: "background",
        short: None,
        value: "yes|no",
        help: "Have another process compile baseline code while the program goes on, if there is a processor for it",
        expected: || "yes or no is needed".into(),
        set: |c, v| yes_or_no(v).map(|yes| c.background = yes),
        get: |c| (!c.background).then(|| "no".into()),
    },
    Row {
        name: "hot-baseline",
        short: None,
        value: "N",
        help: "Executions after which a block gets baseline code at once; another process is asked for it after an eighth of them",
        expected: || NUMBER.into(),
        set: |c, v| text(v)?.parse().ok().map(|n| c.hot_baseline = n),
        get: |c| Some(c.hot_baseline.to_string().into()),
    },
    Row {
        name: "hot-optimized",
        short: None,
        value: "N",
        help: "Executions after which a block is sent to the optimiser",
        expected: || NUMBER.into(),
        set: |c, v| text(v)?.parse().ok().map(|n| c.hot_optimized = n),
        get: |c| Some(c.hot_optimized.to_string().into()),
    },
    Row {
        name: "placed",
        short: None,
        value: "STATE",
        help: "",
        expected: || "only the runtime itself passes this option".into(),
        set: |c, v| placed(v).map(|p| c.placed = Some(p)),
        get: nothing,
    },
    Row {
        name: "handed",
        short: None,
        value: "STATE",
        help: "",
        expected: || "only the runtime itself passes this option".into(),
        set: |c, v| Handed::parse(v).map(|h| c.handed = Some(h)),
        get: nothing,
    },
];

fn yes_or_no(v: &OsStr) -> Option<bool> {
    match text(v)? {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn command() -> Command {
    let mut command = Command::new("xlate-runtime")
        .about("Runs an x86-64 Linux program, or resumes a checkpoint image, under translation")
        .override_usage("xlate-runtime [OPTIONS] -- PROGRAM [ARGS]...\n       xlate-runtime [OPTIONS] --image FILE")
        .arg(
            Arg::new("image")
                .long("image")
                .value_name("FILE")
                .value_parser(clap::value_parser!(OsString))
                .help("Resume this checkpoint image"),
        )
        .arg(Arg::new("work").long("work").value_name("WORK").value_parser(["keep", "tier1"]).hide(true))
        .arg(Arg::new("self-test").long("self-test").value_name("TEST").value_parser(["layout"]).hide(true))
        .arg(
            Arg::new("program")
                .value_name("PROGRAM")
                .num_args(0..)
                .last(true)
                .value_parser(clap::value_parser!(OsString)),
        );
    for row in TABLE {
        let mut arg = Arg::new(row.name)
            .long(row.name)
            .value_name(row.value)
            .help(row.help)
            .hide(row.help.is_empty())
            .action(ArgAction::Append)
            .value_parser(clap::value_parser!(OsString));
        if row.name == "stats" {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("");
        }
        if let Some(short) = row.short {
            arg = arg.short(short);
        }
        command = command.arg(arg);
    }
    command
}

impl Config {
    /// Reads a command line (the first word is the command's own name).
    pub fn parse(args: &[OsString]) -> Result<Self, ConfigError> {
        let mut matches = command().try_get_matches_from(args).map_err(|e| {
            if e.use_stderr() { ConfigError::Usage(e.to_string()) } else { ConfigError::Help(e.to_string()) }
        })?;
        let mut config = Self::default();
        for row in TABLE {
            for value in matches.remove_many::<OsString>(row.name).into_iter().flatten() {
                (row.set)(&mut config, &value).ok_or_else(|| ConfigError::Value {
                    option: row.name,
                    value: value.to_string_lossy().into_owned(),
                    expected: (row.expected)(),
                })?;
            }
        }
        let image = matches.remove_one::<OsString>("image");
        let test = matches.remove_one::<String>("self-test");
        let work = matches.remove_one::<String>("work").as_deref().and_then(Work::named);
        let program: Vec<OsString> = matches.remove_many::<OsString>("program").into_iter().flatten().collect();
        config.subject = match (image, test, work, program.is_empty()) {
            (Some(image), None, None, true) => Subject::Image(image.into()),
            (None, Some(_), None, true) => Subject::LayoutTest,
            (None, None, Some(work), true) => Subject::Work(work),
            (None, None, None, false) => Subject::Program(program),
            _ => {
                return Err(ConfigError::Usage(
                    "give either -- PROGRAM [ARGS]... or --image FILE; see --help".to_owned(),
                ));
            }
        };
        Ok(config)
    }

    /// The runtime's own executable file.
    pub fn runtime_path(&self) -> PathBuf {
        match &self.placed {
            Some(placed) => placed.runtime.clone(),
            None => std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
        }
    }

    /// The command line with which this process is replaced by its successor: the word to exec comes first.
    pub fn successor_args(&self, successor: &Successor<'_>) -> Vec<OsString> {
        let mut line: Vec<OsString> = self.exec_prefix.iter().map(Into::into).collect();
        line.push(self.runtime_path().into());
        for row in TABLE {
            if let Some(value) = (row.get)(self) {
                line.push(option(row.name, &value));
            }
        }
        line.extend(successor.kept.iter().map(|(name, value)| option(name, value)));
        line.push(option("handed", &successor.handed.value()));
        line.push("--".into());
        line.push(successor.program.into());
        // All of them, argv[0] too: it may be as long as a word can be, so no option holds it.
        line.extend_from_slice(successor.args);
        line
    }
}

/// `--name=value` (or `--name` for an empty one where that is allowed).
pub(crate) fn option(name: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Config, ConfigError> {
        let args: Vec<OsString> =
            std::iter::once("xlate-runtime").chain(words.iter().copied()).map(Into::into).collect();
        Config::parse(&args)
    }

    #[test]
    fn program_and_options() {
        let c = parse(&["--opt=O0", "--engine=interpreter", "-E", "A=b", "--", "/bin/ls", "-la"]).unwrap();
        assert_eq!(c.opt, OptLevel::O0);
        assert_eq!(c.engine, EngineChoice::Interpreter);
        assert_eq!(c.env, [OsString::from("A=b")]);
        assert_eq!(c.subject, Subject::Program(vec!["/bin/ls".into(), "-la".into()]));
    }

    #[test]
    fn stats_with_and_without_file() {
        assert_eq!(parse(&["--stats", "--", "x"]).unwrap().stats, Some(StatsSink::Stderr));
        assert_eq!(parse(&["--stats=f", "--", "x"]).unwrap().stats, Some(StatsSink::File("f".into())));
    }

    #[test]
    fn wrong_values_are_named() {
        let message = parse(&["--opt=O9", "--", "x"]).unwrap_err().to_string();
        assert_eq!(message, "--opt=O9: one of O0, O1, O2, O3 is needed");
        let message = parse(&["--cpu=pentium", "--", "x"]).unwrap_err().to_string();
        assert!(message.starts_with("--cpu=pentium: one of these is needed: x86-64, v1, x86-64-v2,"), "{message}");
        assert!(parse(&[]).is_err());
        assert!(parse(&["--image", "f", "--", "x"]).is_err());
    }

    #[test]
    fn successor_gets_the_translators_options_only() {
        let c = parse(&[
            "--opt=O1",
            "--stats",
            "-E",
            "A=b",
            "--argv0=old",
            "--cpu=v2",
            "--exec-prefix=qemu-aarch64 -cpu max",
            "--placed=8388608,0,top,/opt/xlate-runtime",
            "--",
            "/bin/sh",
        ])
        .unwrap();
        let handed = Handed {
            program: 7,
            environment: 8,
            gains_rights: true,
            task_name: "a,b".into(),
            asked: "/dev/fd/5/a,b".into(),
        };
        let successor = Successor {
            program: Path::new("/bin/ls"),
            args: &["ls".into(), "-l".into(), "--".into(), "--help".into()],
            kept: vec![("guest-pid", "12".into())],
            handed: handed.clone(),
        };
        let line = c.successor_args(&successor);
        let words: Vec<&str> = line.iter().map(|w| w.to_str().unwrap()).collect();
        assert_eq!(words[..4], ["qemu-aarch64", "-cpu", "max", "/opt/xlate-runtime"]);
        let again = Config::parse(&line[3..]).unwrap();
        assert_eq!(again.opt, OptLevel::O1);
        assert_eq!(again.stats, Some(StatsSink::Stderr));
        assert_eq!((again.cpu, c.cpu.is_some()), (c.cpu, true));
        assert!(again.env.is_empty());
        assert_eq!(again.argv0, None);
        assert_eq!(again.exec_prefix, c.exec_prefix);
        assert_eq!((again.guest_pid, again.handed), (Some(12), Some(handed)));
        assert_eq!(again.subject, Subject::Program(["/bin/ls", "ls", "-l", "--", "--help"].map(Into::into).to_vec()));
    }
}

//! Guest programs for tests: compiled by gcc at test time, run natively and under every mix of tiers,
//! on this host and on the AArch64 runtime under emulation.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A way of running a guest: a name for messages, and the options of `xlate run` for it.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub name: &'static str,
    pub options: &'static [&'static str],
}

/// Every tier by itself, the normal mix, and the mix with all thresholds at one: what only works warm or only
/// works cold is broken.
pub const MODES: [Mode; 6] = [
    Mode { name: "interpreter", options: &["--engine=interpreter"] },
    Mode { name: "baseline", options: &["--engine=baseline"] },
    Mode { name: "O0", options: &["--opt=O0"] },
    Mode { name: "O2", options: &["--opt=O2"] },
    Mode { name: "eager", options: &["--opt=O2", "--hot-baseline=1", "--hot-optimized=1"] },
    Mode { name: "waiting", options: &["--opt=O2", "--hot-baseline=30", "--hot-optimized=300", "--wait"] },
];

/// Tier 2 from the first execution. Compiling all that runs once takes many seconds for a dynamic program's
/// start alone, so the guests run statically linked here.
pub const OPTIMIZED: [Mode; 1] = [Mode { name: "optimized", options: &["--engine=optimized"] }];

/// The same on AArch64; emulation is slow, so the plain tiers are covered by the mixes.
pub const ARM_MODES: [Mode; 4] = [
    Mode { name: "aarch64 interpreter", options: &["--target=aarch64", "--engine=interpreter"] },
    Mode { name: "aarch64 baseline", options: &["--target=aarch64", "--engine=baseline"] },
    Mode { name: "aarch64 eager", options: &["--target=aarch64", "--opt=O2", "--hot-baseline=1", "--hot-optimized=1"] },
    Mode {
        name: "aarch64 waiting",
        options: &["--target=aarch64", "--opt=O2", "--hot-baseline=30", "--hot-optimized=300", "--wait"],
    },
];

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

/// The built `xlate` command beside this program, or this test's own executable.
pub fn xlate() -> PathBuf {
    let me = std::env::current_exe().expect("a test has an executable");
    // Tests run from target/PROFILE/deps.
    let folders = me.ancestors().skip(1).take(2);
    let built = folders.map(|folder| folder.join("xlate")).find(|path| path.with_file_name("xlate-runtime").exists());
    built.filter(|path| path.exists()).unwrap_or_else(|| panic!("build first (scripts/build.sh): no xlate near {me:?}"))
}

/// Compiles `tests/{folder}/{name}.c` with `flags`, and gives the program's path. Rebuilt when the source changes.
pub fn compile(folder: &str, name: &str, flags: &[&str]) -> PathBuf {
    // Tests run side by side in one process, and two may want the same program.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COMPILING.lock();
    let source = root().join("tests").join(folder).join(format!("{name}.c"));
    let dir = root().join("target/guests");
    fs::create_dir_all(&dir).expect("target/ is writable");
    let suffix: String = flags.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    let program = dir.join(format!("{folder}-{name}-{suffix}"));
    let modified = |p: &Path| fs::metadata(p).and_then(|m| m.modified()).ok();
    if modified(&program) > modified(&source) {
        return program;
    }
    let fresh = dir.join(format!("{folder}-{name}-{suffix}.{}.tmp", std::process::id()));
    let status = Command::new("gcc").args(flags).arg("-o").arg(&fresh).arg(&source).arg("-lm").status();
    assert!(status.expect("gcc is installed by scripts/setup.sh").success(), "gcc {source:?}");
    fs::rename(&fresh, &program).expect("both are in one folder");
    program
}

/// What a run showed: standard output, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub stdout: String,
    /// Exit status, or the signal's number negated.
    pub end: i32,
}

impl Shown {
    fn of(output: &Output) -> Self {
        let end = output.status.code().unwrap_or_else(|| -output.status.signal().expect("it exited or was killed"));
        let text = String::from_utf8(output.stdout.clone());
        // So that no two outputs become equal.
        let stdout = text.unwrap_or_else(|e| e.as_bytes().escape_ascii().to_string());
        Self { stdout, end }
    }
}

/// Runs a command to its end, at most `limit` long; a run past the limit is killed and fails the test.
pub fn run(command: &mut Command, limit: Duration) -> (Shown, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = child.id();
    let start = Instant::now();
    let waiter = std::thread::spawn(move || {
        use std::io::Read;
        let mut err = String::new();
        let stderr = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let _ = stderr.expect("piped").read_to_string(&mut err);
            err
        });
        let mut out = Vec::new();
        let _ = child.stdout.take().expect("piped").read_to_end(&mut out);
        let status = child.wait().expect("it is our child");
        (Output { status, stdout: out, stderr: Vec::new() }, reader.join().expect("it only reads"))
    });
    while !waiter.is_finished() {
        if start.elapsed() > limit {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            panic!("{command:?} ran longer than {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let (output, stderr) = waiter.join().expect("it only reads");
    (Shown::of(&output), stderr)
}

/// A generous bound for one run; the point is that a hang fails, not how fast a run is.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What the program shows natively.
pub fn native(program: &Path, args: &[&str]) -> Shown {
    run(Command::new(program).args(args), LIMIT).0
}

/// Runs the program natively and in each mode, and compares what is shown.
pub fn same_in(modes: &[Mode], program: &Path, args: &[&str]) {
    let native = native(program, args);
    let failures: Vec<String> = modes.iter().filter_map(|mode| differs(mode, program, args, &native)).collect();
    assert!(failures.is_empty(), "{} {args:?}\n{}", program.display(), failures.join("\n"));
}

/// How what the program shows in a mode differs from this.
pub fn differs(mode: &Mode, program: &Path, args: &[&str], from: &Shown) -> Option<String> {
    differs_with(&["--no-cache"], mode, program, args, from)
}

/// The same with a cache in this folder, twice: what the first run has kept is there for the second one.
pub fn differs_warm(cache: &Path, mode: &Mode, program: &Path, args: &[&str], from: &Shown) -> Option<String> {
    let cache = format!("--cache={}", cache.display());
    let warm: [&[&str]; 2] = [&[&cache, "--warm"], &[&cache]];
    warm.into_iter().find_map(|options| differs_with(options, mode, program, args, from))
}

fn differs_with(options: &[&str], mode: &Mode, program: &Path, args: &[&str], from: &Shown) -> Option<String> {
    let mut command = Command::new(xlate());
    command.arg("run").args(options).args(mode.options).arg(program).args(args);
    let (shown, stderr) = run(&mut command, LIMIT);
    (shown != *from).then(|| difference(mode.name, from, &shown, &stderr))
}

/// What a reader needs of a difference: the ends, the first line that differs, and the messages.
fn difference(mode: &str, native: &Shown, shown: &Shown, stderr: &str) -> String {
    let line = native.stdout.lines().zip(shown.stdout.lines()).position(|(a, b)| a != b);
    let at = line.unwrap_or(native.stdout.lines().count().min(shown.stdout.lines().count()));
    let nth = |s: &str| s.lines().nth(at).unwrap_or("(no more)").to_owned();
    format!(
        "{mode}: ends with {} instead of {}; line {}: {:?} instead of {:?}; stderr: {}",
        shown.end,
        native.end,
        at + 1,
        nth(&shown.stdout),
        nth(&native.stdout),
        stderr.lines().take(6).collect::<Vec<_>>().join(" | "),
    )
}

/// Every region that is asked for is compiled: a refused one only costs time, which no output shows.
pub fn no_region_fails(mode: &Mode, program: &Path) {
    let stats = stats_in(mode, program, &[]);
    assert!(stats.contains(" 0 failed") && !stats.contains(" 0 installed"), "{}: {stats}", mode.name);
}

/// What `--stats` says of a run that shows the same as a native one.
fn stats_in(mode: &Mode, program: &Path, args: &[&str]) -> String {
    let (native, _) = run(Command::new(program).args(args), LIMIT);
    let mut command = Command::new(xlate());
    command.args(["run", "--no-cache", "--stats"]).args(mode.options).arg(program).args(args);
    let (shown, stats) = run(&mut command, LIMIT);
    assert_eq!(shown, native, "{}: {stats}", mode.name);
    stats
}

/// Two targets of indirect branches that want the same place of the table are both found without the dispatcher; three
/// aren't (which shows that they want the same).
pub fn two_targets_have_room(modes: &[Mode], program: &Path) {
    for mode in modes {
        let missed = ["2", "3"].map(|same| {
            let stats = stats_in(mode, program, &[same]);
            let (before, _) = stats.split_once(" lookups missed").expect("the dispatcher counts them");
            let number = before.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("no number of lookups in {stats}"))
        });
        // 192 targets and some of the C library's, and those that were called before they were hot.
        assert!(missed[0] < 5_000 && missed[1] > 40_000, "{}: {missed:?} lookups missed", mode.name);
    }
}

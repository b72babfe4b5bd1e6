//! One run of a program: how long it took, what it showed, and (traced, in a run of its own) its peak memory.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use xlate_abi::names;

use super::statistics::Sample;

/// The longest that work of earlier runs is waited for, and how often it is looked for.
const WORK_END: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Waits for what earlier runs have left to be done in the background: it would take time from the next one, and a warm
/// run wants it to be finished.
pub fn wait_for_background() {
    let start = Instant::now();
    while start.elapsed() < WORK_END {
        let busy = procfs::process::all_processes().is_ok_and(|mut all| all.any(|p| p.is_ok_and(|p| works(&p))));
        if !busy {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether a process keeps a run's code for later ones, or compiles just now. Idle compilers wait for orders.
fn works(process: &procfs::process::Process) -> bool {
    process.stat().is_ok_and(|stat| match &stat.comm[..] {
        name if name.as_bytes() == names::KEEPER.to_bytes() => stat.state != 'Z',
        names::COMPILER => stat.state == 'R',
        _ => false,
    })
}

/// What a run wrote; two runs that showed the same are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    stdout: Digest,
    /// The output file, if the program made one.
    output: Option<Digest>,
}

/// Enough to tell files apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digest {
    bytes: u64,
    hash: u64,
}

/// Where a run's streams and its output file are kept.
#[derive(Debug)]
pub struct Streams {
    stdout: PathBuf,
    stderr: PathBuf,
    output: PathBuf,
}

impl Streams {
    pub fn new(folder: &Path, output: &Path) -> Self {
        Self { stdout: folder.join("stdout"), stderr: folder.join("stderr"), output: output.to_owned() }
    }

    /// Empties all three and gives a command the first two. Files, not pipes: nobody has to read while the time runs.
    fn give(&self, command: &mut Command) -> anyhow::Result<()> {
        match fs::remove_file(&self.output) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).context("can't remove the last output"),
            _ => {}
        }
        let create = |path: &Path| File::create(path).with_context(|| format!("can't write {}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&self.stdout)?).stderr(create(&self.stderr)?);
        Ok(())
    }

    fn shown(&self) -> anyhow::Result<Shown> {
        let output = match digest(&self.output) {
            Ok(digest) => Some(digest),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).context("can't read the program's output file"),
        };
        Ok(Shown { stdout: digest(&self.stdout).context("can't read the program's standard output")?, output })
    }

    /// The first line of what the run complained about.
    fn complaint(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().next().map(|line| format!(" ({line})")).unwrap_or_default()
    }
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (DefaultHasher::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Digest { bytes, hash: hasher.finish() });
        }
        hasher.write(&buffer[..n]);
        bytes += n as u64;
    }
}

impl Shown {
    /// In what they differ.
    pub fn difference(&self, native: &Self) -> Option<String> {
        let stream = |name: &str, own: &Option<Digest>, native: &Option<Digest>| {
            let length = |d: &Option<Digest>| d.as_ref().map_or("none".to_owned(), |d| format!("{} bytes", d.bytes));
            (own != native)
                .then(|| format!("another {name} than natively: {} instead of {}", length(own), length(native)))
        };
        stream("standard output", &Some(self.stdout.clone()), &Some(native.stdout.clone()))
            .or_else(|| stream("output file", &self.output, &native.output))
    }
}

/// Variables that make what programs show repeatable.
const ENVIRONMENT: [(&str, &str); 3] = [("LC_ALL", "C"), ("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1")];

/// Runs a command to its end, at most `limit` long.
pub fn time(command: &mut Command, streams: &Streams, limit: Duration) -> anyhow::Result<(Sample, Shown)> {
    streams.give(command)?;
    command.envs(ENVIRONMENT);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
    let in_time = ended_within(&child, limit)?;
    let wall = start.elapsed().as_secs_f64();
    if !in_time {
        child.kill().context("can't end a run that is past its limit")?;
    }
    let (status, cpu) = reap(&child)?;
    if !in_time {
        bail!("not at its end after {} s", limit.as_secs());
    }
    if status != Ending::Exited(0) {
        bail!("{status}{}", streams.complaint());
    }
    Ok((Sample { wall, cpu }, streams.shown()?))
}

/// Waits for a child without reaping it; false if it runs longer.
fn ended_within(child: &Child, limit: Duration) -> anyhow::Result<bool> {
    // SAFETY: a plain system call; it gives a descriptor of our own or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("pidfd_open (Linux 5.3 or later is needed)");
    }
    // SAFETY: opened just now, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let timeout = PollTimeout::try_from(limit).context("the limit for one run is too long")?;
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(n) => return Ok(n > 0),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).context("can't wait for a run's end"),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Exited(i32),
    Killed(i32),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "ended with status {status}"),
            Self::Killed(signal) => write!(f, "died by signal {signal}"),
        }
    }
}

/// Takes a child's status and its processor time, in seconds.
fn reap(child: &Child) -> anyhow::Result<(Ending, f64)> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a value of its type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, not waited for yet; pointers to local variables.
    while unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    }
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    let ending = if libc::WIFEXITED(status) {
        Ending::Exited(libc::WEXITSTATUS(status))
    } else {
        Ending::Killed(libc::WTERMSIG(status))
    };
    Ok((ending, seconds(usage.ru_utime) + seconds(usage.ru_stime)))
}

/// Peak resident memory of the process that a command becomes, in KiB.
///
/// It is what `ru_maxrss` would say, save that the kernel lets that one begin with the peak of whoever called
/// `execve` (getrusage(2), setmax_mm_hiwater_rss): the benchmark's own, or that of the command before it became the
/// guest. So the process is stopped on its way out (PTRACE_EVENT_EXIT), where its last memory map still has its
/// high-water mark.
pub fn peak_kib(command: &mut Command, streams: &Streams) -> anyhow::Result<u64> {
    streams.give(command)?;
    command.envs(ENVIRONMENT);
    // SAFETY: one system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
    }
    let child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
    let pid = Pid::from_raw(child.id() as i32);
    waitpid(pid, None).context("the traced run doesn't start")?;
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACEEXIT | ptrace::Options::PTRACE_O_EXITKILL)?;
    ptrace::cont(pid, None)?;
    let mut peak = None;
    loop {
        match waitpid(pid, None).context("can't follow the traced run")? {
            WaitStatus::PtraceEvent(..) => {
                peak = Some(high_water(pid)?);
                ptrace::cont(pid, None)?;
            }
            // The stop behind each execve is no signal of the guest's.
            WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP) => ptrace::cont(pid, None)?,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal)?,
            WaitStatus::Exited(_, 0) => break,
            other => bail!("the traced run ended otherwise than in success: {other:?}{}", streams.complaint()),
        }
    }
    peak.context("the traced run ended without a last stop")
}

fn high_water(pid: Pid) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the status of the traced run")?;
    high_water_of(&status).context("no VmHWM in the status of the traced run")
}

/// `VmHWM:     9060 kB` (proc_pid_status(5)).
fn high_water_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, limit: Duration) -> anyhow::Result<(Sample, Shown)> {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let mut command = shell(script);
        command.current_dir(folder.path());
        time(&mut command, &Streams::new(folder.path(), &output), limit)
    }

    #[test]
    fn what_is_shown_is_compared_to_the_byte() {
        let shown = |script: &str| run(script, LIMIT).unwrap().1;
        let native = shown("echo abc; echo x > output");
        assert_eq!(shown("echo abc; echo x > output").difference(&native), None);
        let other = shown("echo abd; echo x > output").difference(&native).unwrap();
        assert!(other.starts_with("another standard output"), "{other}");
        let none = shown("echo abc").difference(&native).unwrap();
        assert_eq!(none, "another output file than natively: none instead of 2 bytes");
    }

    #[test]
    fn bad_endings_are_told_with_the_complaint() {
        let error = |script: &str| run(script, LIMIT).unwrap_err().to_string();
        assert_eq!(error("echo why >&2; exit 3"), "ended with status 3 (why)");
        assert_eq!(error("kill -9 $$"), "died by signal 9");
    }

    #[test]
    fn a_run_past_its_limit_is_ended() {
        let error = run("exec sleep 1000", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.starts_with("not at its end"), "{error}");
    }

    #[test]
    fn the_peak_is_the_last_programs_own() {
        let folder = tempfile::tempdir().unwrap();
        let streams = Streams::new(folder.path(), &folder.path().join("output"));
        let small = peak_kib(&mut shell("exec /bin/true"), &streams).unwrap();
        // Command line arguments count: their pages belong to the new map.
        let large = peak_kib(&mut shell("x=$(head -c 30000000 /dev/zero | tr '\\0' a); : $x"), &streams).unwrap();
        assert!(small > 0 && small < 20_000, "{small} KiB");
        assert!(large > small + 25_000, "{large} KiB");
        assert!(peak_kib(&mut shell("exit 1"), &streams).is_err());
    }

    #[test]
    fn the_high_water_mark_is_read_from_its_line() {
        assert_eq!(high_water_of("VmPeak:\t  1 kB\nVmHWM:\t    9060 kB\nVmRSS: 2 kB\n"), Some(9060));
        assert_eq!(high_water_of("VmPeak: 1 kB\n"), None);
    }
}

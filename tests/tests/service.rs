//! The translator service may die or be missing: the guest goes on in the baseline tier, one warning says so, and a
//! service that died is started again.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use xlate_tests::guest::{LIMIT, Shown, compile, run, xlate};

/// Programs of their own: a service listens for those that were started from its folder only.
fn installation(programs: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for program in programs {
        fs::copy(xlate().with_file_name(program), dir.path().join(program)).expect("built and copied");
    }
    dir
}

/// The service of this command, if there is one.
fn service_of(xlate: &Path) -> Option<Pid> {
    let serves = |process: &Path| {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let is_ours = fs::read_link(process.join("exe")).is_ok_and(|exe| exe == xlate);
        is_ours && words.split(|byte| *byte == 0).nth(1) == Some(b"serve")
    };
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    let found = processes.find(|process| serves(&process.path()))?;
    found.file_name().to_str()?.parse().ok().map(Pid::from_raw)
}

/// Waits for a service other than `but`.
fn wait_for(xlate: &Path, but: Option<Pid>) -> Pid {
    let start = Instant::now();
    loop {
        match service_of(xlate) {
            Some(pid) if Some(pid) != but => return pid,
            _ if start.elapsed() > LIMIT => panic!("no service of {} after {but:?}", xlate.display()),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Waits until the service attends to a client: it has a thread for each.
fn wait_for_client(service: Pid) {
    let start = Instant::now();
    let attends = || {
        let threads = fs::read_dir(format!("/proc/{service}/task")).expect("the service lives").flatten();
        threads.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok()).any(|name| name.trim() == "client")
    };
    while !attends() {
        assert!(start.elapsed() < LIMIT, "no client came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn guest() -> PathBuf {
    compile("guests", "qsort", &["-O2"])
}

const ROUNDS: &str = "60";

fn translated(dir: &Path) -> (Shown, String) {
    let mut command = Command::new(dir.join("xlate"));
    run(command.args(["run", "--no-cache"]).arg(guest()).arg(ROUNDS), LIMIT)
}

fn native() -> Shown {
    run(Command::new(guest()).arg(ROUNDS), LIMIT).0
}

/// Lines that warn of the service.
fn warnings(errors: &str) -> usize {
    errors.lines().filter(|line| line.contains("goes on in the baseline tier")).count()
}

#[test]
fn a_service_that_dies_is_started_again() {
    let dir = installation(&["xlate", "xlate-runtime", "xlate-compile"]);
    let service = dir.path().join("xlate");
    let path = dir.path().to_owned();
    let guest = std::thread::spawn(move || translated(&path));
    let first = wait_for(&service, None);
    wait_for_client(first);
    kill(first, Signal::SIGKILL).expect("it is ours");
    let second = wait_for(&service, Some(first));
    let (shown, errors) = guest.join().expect("it only waits");
    assert_eq!(shown, native());
    assert_eq!(warnings(&errors), 1, "{errors}");
    let _ = kill(second, Signal::SIGTERM);
}

#[test]
fn without_a_service_the_guest_goes_on() {
    let dir = installation(&["xlate", "xlate-runtime"]);
    let (shown, errors) = translated(dir.path());
    assert_eq!(shown, native());
    assert_eq!(warnings(&errors), 1, "{errors}");
}

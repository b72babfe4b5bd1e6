//! What a run leaves behind: no process that its parent or a container's init has to reap, and nothing that writes to a
//! folder which the user removes.

#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use xlate_tests::guest::{compile, xlate};

/// Runs `xlate run` so many times in a PID namespace whose first process reaps nobody; what other processes there are in the
/// end, by name and state. `None` where no such namespace can be made.
fn left_by(runs: u32, cache: &Path, program: &[&str]) -> Option<Vec<String>> {
    let init = compile("guests", "noreap", &["-O1"]);
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let output = command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(&init)
        .arg(runs.to_string())
        .arg(xlate())
        .args(["run", "--cache"])
        .arg(cache)
        .args(program)
        .output()
        .expect("util-linux is there");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if stderr.contains("unshare") {
        eprintln!("skipped: no PID namespace can be made here: {stderr}");
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// When each file of a folder was written last.
fn times(folder: &Path) -> BTreeMap<String, SystemTime> {
    let time = |entry: fs::DirEntry| entry.metadata().and_then(|m| m.modified()).expect("it is there");
    let entries = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is there"));
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), time(entry))).collect()
}

#[test]
fn an_init_that_reaps_nobody_has_no_zombies() {
    let cache = tempfile::tempdir().unwrap();
    let Some(left) = left_by(200, cache.path(), &["/bin/true"]) else { return };
    // The service itself ends when nobody has needed it for a while.
    let allowed = ["xlate S", "xlate Z"];
    assert!(left.len() <= 1 && left.iter().all(|process| allowed.contains(&process.as_str())), "{left:?}");
    let written = times(cache.path());
    assert!(!written.is_empty(), "something is kept");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(times(cache.path()), written, "nothing is written any more");
}

#[test]
fn a_run_with_hot_code_leaves_no_zombies() {
    let cache = tempfile::tempdir().unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    let Some(left) = left_by(3, cache.path(), &["/bin/bash", "-c", script]) else { return };
    let names: Vec<&str> = left.iter().filter(|process| process.ends_with('Z')).map(String::as_str).collect();
    assert!(names.len() <= 1 && names.iter().all(|process| *process == "xlate Z"), "{left:?}");
}

#[test]
fn a_folder_that_is_removed_after_a_run_stays_removed() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("home/cache");
    for _ in 0..10 {
        let status = Command::new(xlate()).args(["run", "--cache"]).arg(&cache).arg("/bin/true").status().unwrap();
        assert!(status.success());
        fs::remove_dir_all(home.path().join("home")).expect("nobody writes to it");
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!home.path().join("home").exists());
}

//! Guest programs under `xlate-runtime`, against the same programs run natively; what can't be run is named.
#![cfg(target_arch = "x86_64")]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RUNTIME: &str = env!("CARGO_BIN_EXE_xlate-runtime");
const ENGINES: [&str; 2] = ["--engine=interpreter", "--opt=O0"];

fn scratch() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name).with_extension("c");
    let program = scratch().join(format!("{name}{}", flags.concat()));
    let status = Command::new("gcc").args(["-O1", "-w"]).args(flags).arg("-o").args([&program, &source]).status();
    assert!(status.expect("gcc is installed by scripts/setup.sh").success(), "{name}");
    program
}

fn shown(output: &Output) -> (String, Option<i32>, Option<i32>) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code(), output.status.signal())
}

/// The guest gives the same output and ends the same way natively and here.
fn same(program: &Path) {
    let native = shown(&Command::new(program).output().unwrap());
    for engine in ENGINES {
        let output = Command::new(RUNTIME).args([engine, "--"]).arg(program).output().unwrap();
        let here = shown(&output);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(here, native, "{engine} {}\n{errors}", program.display());
    }
}

fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(RUNTIME).args(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn translator_leaves_the_guests_addresses_free() {
    let (status, errors) = refused(&["--self-test=layout"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
}

#[test]
fn faults() {
    same(&compile("faults", &[]));
}

#[test]
fn waiting() {
    same(&compile("waiting", &[]));
}

#[test]
fn maps() {
    for flags in [&[][..], &["-static"], &["-static-pie"], &["-no-pie"]] {
        same(&compile("maps", flags));
    }
}

#[test]
fn what_cannot_be_run_is_named() {
    let text = scratch().join("text");
    std::fs::write(&text, "just text\n").unwrap();
    Command::new("chmod").arg("+x").arg(&text).status().unwrap();
    let name = text.to_str().unwrap();
    let (status, message) = refused(&["--", name]);
    assert_eq!(status, Some(126));
    assert_eq!(message, format!("xlate: {name}: not an x86-64 ELF executable (it is: a text file)\n"));
    assert_eq!(refused(&["--", "/no/such/program"]).0, Some(127));
    assert_eq!(refused(&["--", "no-such-program"]).0, Some(127));
    assert_eq!(refused(&["--", "/etc/passwd"]).0, Some(126));
    assert_eq!(refused(&["--opt=O7", "--", "/bin/true"]).0, Some(125));
    assert_eq!(refused(&[]).0, Some(125));
}

#[test]
fn environment_and_argv0_are_exact() {
    let output = Command::new(RUNTIME)
        .args(["-E", "ADDED=1", "-E", "DROPPED", "--argv0=another", "--", "/bin/sh", "-c", "echo $0; env"])
        .env_clear()
        .env("DROPPED", "x")
        .env("KEPT", "y")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("PWD=") && !l.starts_with("_=")).collect();
    lines[1..].sort_unstable();
    assert_eq!(lines, ["another", "ADDED=1", "KEPT=y", "PATH=/usr/bin:/bin"]);
}

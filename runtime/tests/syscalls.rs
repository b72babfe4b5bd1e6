//! Families of system calls: guest programs print what each call gives, natively and translated, on this host and
//! on the AArch64 runtime under emulation.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How long a guest may take: nothing here computes.
const LIMIT: &str = "120";

/// Compiles `guests/NAME.c`.
fn compile(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name).with_extension("c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = if cfg!(target_arch = "x86_64") { "gcc" } else { "x86_64-linux-gnu-gcc" };
    let status = Command::new(compiler).args(["-O1", "-o"]).arg(&program).arg(source).status();
    assert!(status.expect("gcc is installed").success(), "{name}.c can't be compiled");
    program
}

/// What a run shows: output, errors, and how it ended.
fn shown(command: &mut Command) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = command.output().expect("the command exists");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // The emulator's own word on an abort that the guest means to make.
    let errors = text(&stderr).lines().filter(|line| !line.starts_with("qemu: uncaught target signal")).collect();
    (text(&stdout), errors, status.code())
}

/// `timeout` in front, so that a hang fails.
fn limited(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--foreground").arg(LIMIT).args(words);
    command
}

fn compare(name: &str, how: &str, native: &(String, String, Option<i32>), command: &mut Command) {
    let (out, err, status) = shown(command);
    for (n, (theirs, ours)) in native.0.lines().zip(out.lines()).enumerate() {
        assert_eq!(theirs, ours, "{name}, {how}, line {}; stderr: {err}", n + 1);
    }
    assert_eq!((out.lines().count(), &err, status), (native.0.lines().count(), &native.1, native.2), "{name}, {how}");
}

/// Runs the program natively and under each engine of this host, then of the emulated one.
fn same_as_native(name: &str) {
    let program = compile(name);
    let program = program.to_str().expect("a plain path");
    let native = shown(&mut limited(&[program]));
    let runtime = env!("CARGO_BIN_EXE_xlate-runtime");
    for engine in ["--engine=interpreter", "--engine=baseline", "--engine=auto"] {
        compare(name, engine, &native, &mut limited(&[runtime, engine, "--", program]));
    }
    let emulated =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/aarch64-unknown-linux-gnu/release/xlate-runtime");
    let emulator_works = Command::new("qemu-aarch64").arg("--version").output().is_ok();
    if !(cfg!(target_arch = "x86_64") && emulator_works && emulated.exists()) {
        eprintln!("skipped: no qemu-aarch64, or no AArch64 runtime at {}", emulated.display());
        return;
    }
    let emulated = emulated.to_str().expect("a plain path");
    let prefix = "--exec-prefix=qemu-aarch64 -cpu max";
    let words = ["qemu-aarch64", "-cpu", "max", emulated, prefix, "--", program];
    // User-mode emulation makes a fork of a vfork, which one of the programs can see.
    let native = shown(limited(&[program]).env("EMULATED", "1"));
    compare(name, "aarch64", &native, limited(&words).env("EMULATED", "1"));
}

macro_rules! guests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            same_as_native(stringify!($name));
        })*
    };
}

guests! { ipc legacy memory proc restart spawn }

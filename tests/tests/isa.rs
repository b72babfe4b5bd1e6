//! The quick part of the native differential verification: a program of every instruction, on every engine, here and,
//! from a record of what the CPU did, on AArch64 under emulation.

#![cfg(target_arch = "x86_64")]

use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_instruction_agrees_with_the_cpu() {
    let output = Command::new(env!("CARGO_BIN_EXE_verify-isa"))
        .args(["--rounds", "1", "--seed", "7"])
        .output()
        .expect("verify-isa starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_instruction_agrees_with_the_cpu_on_aarch64() {
    replays_on_aarch64(&["--rounds", "2", "--seed", "11", "--states", "10"]);
}

/// Runs of floating point have two versions in tier 2's code for AArch64.
#[test]
fn runs_of_floating_point_agree_with_the_cpu_on_aarch64() {
    for operands in ["ss_xmm", "sd_xmm", "ps_xmm", "pd_xmm"] {
        replays_on_aarch64(&["--rounds", "12", "--seed", "3", "--states", "20", "--blocks", "--filter", operands]);
    }
}

fn replays_on_aarch64(cases: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let record = folder.path().join("record");
    let recorder = Command::new(env!("CARGO_BIN_EXE_verify-isa"))
        .args(cases)
        .arg("--record")
        .arg(&record)
        .output()
        .expect("verify-isa starts");
    assert!(recorder.status.success(), "{}", String::from_utf8_lossy(&recorder.stderr));
    let replay = Command::new("qemu-aarch64")
        .args(["-cpu", "max"])
        .args([aarch64_program("replay-isa"), record])
        .output()
        .expect("qemu-aarch64 is installed by scripts/setup.sh");
    let text = String::from_utf8_lossy(&replay.stdout);
    assert!(replay.status.success(), "{text}\n{}", String::from_utf8_lossy(&replay.stderr));
    println!("{text}");
}

/// A program that scripts/build.sh has cross-built into this test's target folder.
fn aarch64_program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test has an executable");
    let target = me.ancestors().nth(3).expect("tests run from target/PROFILE/deps");
    let program = target.join("aarch64-unknown-linux-gnu/release").join(name);
    assert!(program.exists(), "build first (scripts/build.sh): no {}", program.display());
    program
}

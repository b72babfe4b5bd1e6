//! The quick part of the native differential verification: a program of every instruction, on every engine.

#![cfg(target_arch = "x86_64")]

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

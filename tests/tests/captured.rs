//! Processes that are captured as they are on a current processor: with values in all vector and mask registers, inside the C
//! library's vector code, and an interpreter in the middle of a computation. Nothing of the environment is changed for them.
//! Resumed in every mix of tiers on both hosts, they end as undisturbed ones.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use xlate_tests::guest::{ARM_MODES, LIMIT, MODES, Mode, compile, root, run, xlate};
use xlate_tests::native::{Native, inspect, message};

/// The bytes behind a function's address that are taken for its code.
const FUNCTION: u64 = 4096;

/// Waits until the guest has made the file "started", and gives the address in it.
fn wait_for_start(native: &Native) -> u64 {
    let start = Instant::now();
    while !native.path("started").exists() {
        assert!(start.elapsed() < LIMIT, "the guest doesn't start to work");
        std::thread::sleep(Duration::from_millis(2));
    }
    native.text("started").trim().parse().expect("an address")
}

/// Captures the guest where `is_there` finds its program counter.
fn capture(native: &mut Native, is_there: impl Fn(u64) -> bool) {
    for _ in 0..100 {
        let output = native.checkpoint(&[]);
        assert!(output.status.success(), "{}", message(&output));
        let image = inspect(&native.path("image"));
        let rip = image["threads"][0]["registers"]["rip"].as_u64().expect("an image has registers");
        if is_there(rip) {
            return;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    panic!("the guest was never found there");
}

/// What the guest prints if it goes on from the image in a mode, or natively without one.
fn resumed(native: &Native, mode: &Mode) -> (i32, String, String) {
    fs::write(native.path("stdout"), "").expect("writable");
    let mut command = Command::new(xlate());
    command.args(["run", "--no-cache"]).args(mode.options).arg(native.path("image"));
    let (shown, stderr) = run(&mut command, LIMIT);
    (shown.end, native.text("stdout"), stderr)
}

fn same_when_captured(modes: &[Mode], program: &Path, arguments: &[&str], is_there: impl Fn(u64, u64) -> bool) {
    let mut native = Native::start(program, arguments);
    let code = wait_for_start(&native);
    capture(&mut native, |rip| is_there(rip, code));
    fs::write(native.path("release"), "").expect("writable");
    assert_eq!(native.wait(), 0, "{arguments:?}, left running");
    let undisturbed = native.text("stdout");
    assert!(undisturbed.ends_with('\n'), "{undisturbed:?}");
    for mode in modes {
        let (end, stdout, stderr) = resumed(&native, mode);
        assert_eq!((end, &stdout), (0, &undisturbed), "{arguments:?}, {}: {stderr}", mode.name);
    }
}

/// The C program captured in this kind of work, resumed in all modes.
fn wide(kind: &str) {
    let modes = [&MODES[..], &ARM_MODES].concat();
    same_when_captured(&modes, &compile("guests", "wide", &["-O2"]), &[kind], within_function);
}

fn within_function(rip: u64, code: u64) -> bool {
    (code..code + FUNCTION).contains(&rip)
}

#[test]
fn values_in_all_vector_and_mask_registers_are_carried() {
    if !is_x86_feature_detected!("avx512bw") {
        return eprintln!("skipped: no AVX-512 here");
    }
    wide("registers");
}

#[test]
fn a_process_is_captured_inside_memmove() {
    wide("moves");
}

#[test]
fn a_process_is_captured_inside_strlen() {
    wide("lengths");
}

#[test]
fn an_interpreter_is_captured_half_way_through_a_computation() {
    let script = root().join("tests/programs/halfway.py");
    let script = script.to_str().expect("the project's path is UTF-8");
    // Not in those that compile all of an interpreter, and not interpreted under an emulator.
    let modes = [MODES[0], MODES[1], MODES[3], ARM_MODES[1], ARM_MODES[3]];
    same_when_captured(&modes, Path::new("/usr/bin/python3"), &[script], |_, _| true);
}

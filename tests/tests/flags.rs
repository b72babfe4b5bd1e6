//! Status flags over calls, returns, indirect branches and system calls: random programs against the CPU.
//! `verify-flags` does the same with more of them.

use std::path::Path;

use xlate_tests::flags_programs::{Shape, build};
use xlate_tests::guest::{ARM_MODES, MODES, Mode, OPTIMIZED, Shown, compile, differs, differs_warm, native, root};

/// Each block is compiled early, and regions are waited for.
const SOON: Mode = Mode { name: "soon", options: &["--opt=O2", "--hot-baseline=4", "--hot-optimized=16", "--wait"] };

fn compare(seed: u64, shape: Shape, differs: impl Fn(&Path, &Shown) -> Vec<String>) {
    let folder = root().join("target/guests");
    std::fs::create_dir_all(&folder).expect("target/ is writable");
    let program = build(seed, shape, &folder);
    let native = native(&program, &[]);
    assert_eq!((native.end, native.stdout.lines().count()), (0, shape.cases as usize), "the program itself fails");
    let differences = differs(&program, &native);
    assert!(differences.is_empty(), "{}\n{}", program.display(), differences.join("\n"));
}

#[test]
fn every_mode_passes_flags_on() {
    compare(1, Shape { first: 0, cases: 60, rounds: 400 }, |program, native| {
        MODES.iter().chain([&SOON]).filter_map(|mode| differs(mode, program, &[], native)).collect()
    });
}

#[test]
fn blocks_that_tier_2_has_from_the_first_execution_pass_flags_on() {
    compare(2, Shape { first: 0, cases: 8, rounds: 20 }, |program, native| {
        OPTIMIZED.iter().filter_map(|mode| differs(mode, program, &[], native)).collect()
    });
}

#[test]
fn kept_code_passes_flags_on() {
    compare(3, Shape { first: 0, cases: 20, rounds: 400 }, |program, native| {
        let cache = tempfile::tempdir().expect("a folder for temporary files");
        [MODES[3], SOON].iter().filter_map(|mode| differs_warm(cache.path(), mode, program, &[], native)).collect()
    });
}

#[test]
fn early_and_kept_code_of_a_program_passes_flags_on() {
    let program = compile("features", "crossings", &["-O2"]);
    let native = native(&program, &[]);
    assert_eq!(differs(&SOON, &program, &[], &native), None);
    let cache = tempfile::tempdir().expect("a folder for temporary files");
    assert_eq!(differs_warm(cache.path(), &SOON, &program, &[], &native), None);
}

#[test]
fn aarch64_passes_flags_on() {
    compare(4, Shape { first: 0, cases: 20, rounds: 400 }, |program, native| {
        ARM_MODES.iter().filter_map(|mode| differs(mode, program, &[], native)).collect()
    });
}

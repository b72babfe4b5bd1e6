//! The quick part of the native differential verification: a program of every instruction, on every engine, here and,
//! from a record of what the CPU did, on AArch64 under emulation.

#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_instruction_agrees_with_the_cpu() {
    verify(&["--rounds", "1", "--seed", "7"]);
}

#[test]
fn every_legacy_instruction_agrees_with_the_cpu_on_aarch64() {
    replays_on_aarch64(&["--rounds", "1", "--seed", "11", "--states", "10", "--filter", "!vex_"]);
}

/// There are twice as many, and each takes LLVM twice as long: fewer cases.
#[test]
fn every_instruction_by_vex_and_evex_agrees_with_the_cpu_on_aarch64() {
    replays_on_aarch64(&["--rounds", "1", "--seed", "11", "--states", "4", "--filter", "vex_"]);
}

/// What LLVM does to code for AArch64, and what few cases show: a load of which only one lane is used becomes narrower, and
/// comparisons move out of where exceptions are suppressed.
#[test]
fn loads_and_comparisons_stay_what_they_are_on_aarch64() {
    for (codes, states) in [("Vmovddup_ymm_ymmm256", "200"), ("Vcomis,_sae", "100"), ("Vcvttp,_sae", "30")] {
        replays_on_aarch64(&["--rounds", "4", "--seed", "5", "--states", states, "--filter", codes]);
    }
}

/// Implemented or not: so that the oracle is ready before an instruction is.
#[test]
fn every_instruction_of_this_cpu_has_programs() {
    let text = verify(&["--native-only", "--rounds", "1", "--states", "4"]);
    assert!(text.contains(" 0 workers lost"), "{text}");
}

/// The quick round finds each mistake, whichever instruction shows it.
#[test]
fn mistakes_made_on_purpose_are_found() {
    let mistakes =
        ["keeps-upper", "clears-upper", "zeroes-for-merge", "faults-masked", "swaps-daz-and-ftz", "misses-store-fault"];
    for wrong in mistakes {
        let output = verifier().args(["--native-only", "--rounds", "1", "--wrong", wrong]).output();
        let output = output.expect("verify-isa starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && text.contains("Instructions with mismatches"),
            "{wrong} isn't found: {text}"
        );
    }
    for wrong in ["clears-upper", "swaps-daz-and-ftz", "misses-store-fault"] {
        let output = verifier().args(["--engine", "interpreter", "--rounds", "1", "--wrong", wrong]).output();
        let output = output.expect("verify-isa starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("MISMATCH interpreter"), "{wrong} isn't found in the interpreter: {text}");
    }
}

#[test]
fn a_corpus_is_replayed_on_both_hosts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let (corpus, record) = (path("corpus"), path("record"));
    let filter = ["--filter", "Pshufb_xmm", "--states", "5"];
    verify(&[&["--write-corpus", &corpus, "--rounds", "3"], &filter[..]].concat());
    let text = verify(&["--corpus", &corpus]);
    assert!(text.contains("45 cases replayed"), "{text}");
    verify(&["--corpus", &corpus, "--record", &record]);
    let text = on_aarch64(Path::new(&record));
    assert!(text.contains("45 cases replayed"), "{text}");

    let mut damaged = std::fs::read(&corpus).expect("it was written");
    let seed = damaged.len() / 2;
    damaged[seed] ^= 1;
    std::fs::write(&corpus, damaged).expect("a temporary file");
    let output = verifier().args(["--corpus", &corpus]).output().expect("verify-isa starts");
    assert!(!output.status.success(), "a damaged corpus passes");
}

/// The corpus of the repository, which a CPU with AVX-512 has written, so that machines without it compare these instructions.
fn kept_corpus() -> String {
    let path = xlate_tests::guest::root().join("tests/corpus/avx512");
    path.into_os_string().into_string().expect("the project's path is UTF-8")
}

#[test]
fn the_kept_corpus_agrees() {
    let text = verify(&["--corpus", &kept_corpus()]);
    assert!(text.contains(" cases replayed"), "{text}");
}

#[test]
fn the_kept_corpus_agrees_on_aarch64() {
    replays_on_aarch64(&["--corpus", &kept_corpus()]);
}

/// Runs of floating point have two versions in tier 2's code for AArch64.
#[test]
fn runs_of_floating_point_agree_with_the_cpu_on_aarch64() {
    for operands in ["ss_xmm", "sd_xmm", "ps_xmm", "pd_xmm"] {
        replays_on_aarch64(&["--rounds", "2", "--seed", "3", "--states", "20", "--blocks", "--filter", operands]);
    }
}

fn replays_on_aarch64(cases: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let record = folder.path().join("record");
    let recorder = verifier().args(cases).arg("--record").arg(&record).output().expect("verify-isa starts");
    assert!(recorder.status.success(), "{}", String::from_utf8_lossy(&recorder.stderr));
    println!("{}", on_aarch64(&record));
}

/// What replaying a record says, without a mismatch.
fn on_aarch64(record: &Path) -> String {
    let replay = Command::new("qemu-aarch64")
        .args(["-cpu", "max"])
        .arg(aarch64_program("replay-isa"))
        .arg(record)
        .output()
        .expect("qemu-aarch64 is installed by scripts/setup.sh");
    let text = String::from_utf8_lossy(&replay.stdout);
    assert!(replay.status.success(), "{text}\n{}", String::from_utf8_lossy(&replay.stderr));
    text.into_owned()
}

fn verifier() -> Command {
    Command::new(env!("CARGO_BIN_EXE_verify-isa"))
}

/// What a run of the verifier says, that found nothing.
fn verify(arguments: &[&str]) -> String {
    let output = verifier().args(arguments).output().expect("verify-isa starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.into_owned()
}

/// A program that scripts/build.sh has cross-built into this test's target folder.
fn aarch64_program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test has an executable");
    let target = me.ancestors().nth(3).expect("tests run from target/PROFILE/deps");
    let program = target.join("aarch64-unknown-linux-gnu/release").join(name);
    assert!(program.exists(), "build first (scripts/build.sh): no {}", program.display());
    program
}

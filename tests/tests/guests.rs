//! Guest programs compiled at test time give the same output and end the same way natively and under every
//! mix of tiers. The compute programs run on small sizes: it is their code paths that count here.

use std::process::Command;
use std::time::Duration;

use xlate_tests::guest::{MODES, OPTIMIZED, compile, no_region_fails, run, same_in, two_targets_have_room, xlate};

/// One test a program: folder, name, arguments.
macro_rules! guests {
    ($($folder:ident $name:ident [$($arg:expr),*];)*) => {
        $(#[test]
        fn $name() {
            let program = compile(stringify!($folder), stringify!($name), &["-O2"]);
            same_in(&MODES, &program, &[$($arg),*]);
            let program = compile(stringify!($folder), stringify!($name), &["-O2", "-static"]);
            same_in(&OPTIMIZED, &program, &[$($arg),*]);
        })*
    };
}

guests! {
    guests memory ["1"];
    guests division ["20000"];
    guests fileout ["2000"];
    guests sieve ["1"];
    guests matmul ["1"];
    guests nbody ["2000"];
    guests qsort ["1"];
    guests hashmap ["50000"];
    guests fib ["20"];
    guests bytecode ["10000"];
    guests mandelbrot ["40"];
    guests sha256 ["500"];
    guests crc ["1"];
    guests strings ["50"];
    guests chase ["100000"];
    features control [];
    features files [];
    features floats [];
    features processes [];
    features selfmod [];
    features signals [];
    features flags [];
    features calls [];
    features switches [];
    features grows [];
    features checksums [];
    features x87 [];
    features migrate ["20"];
}

/// A static program, an unoptimised one, and a static PIE load as well as the dynamic ones.
#[test]
fn kinds_of_executable() {
    for flags in [&["-O0"][..], &["-O2", "-static"], &["-O2", "-static-pie"], &["-O2", "-no-pie"]] {
        same_in(&MODES, &compile("features", "control", flags), &[]);
    }
}

/// Baseline alone, all tiers with waiting, and tier 2 alone.
#[test]
fn targets_at_one_place_of_the_table() {
    let program = compile("features", "places", &["-O2"]);
    two_targets_have_room(&[MODES[1], MODES[5]], &program);
    let program = compile("features", "places", &["-O2", "-static"]);
    two_targets_have_room(&OPTIMIZED, &program);
}

/// LLVM ends its process over an instruction that it can't select.
#[test]
fn regions_of_host_instructions_are_compiled() {
    no_region_fails(&MODES[5], &compile("features", "checksums", &["-O2"]));
}

/// Flags that an indirect call doesn't keep are missed by name, in every tier; kept on demand, they are right.
#[test]
fn lost_flags_are_named() {
    let program = compile("features", "flags", &["-O2"]);
    let shown = |options: &[&str]| {
        let mut command = Command::new(xlate());
        run(command.arg("run").args(options).arg(&program).arg("lost"), Duration::from_secs(60))
    };
    for engine in ["--engine=interpreter", "--engine=baseline", "--engine=auto"] {
        let (end, errors) = shown(&[engine]);
        assert_eq!((end.end, end.stdout.as_str()), (125, ""), "{engine}");
        assert!(errors.contains("reads flags") && errors.contains("--flags=exact"), "{engine}: {errors}");
        let (end, _) = shown(&[engine, "--flags=exact"]);
        assert_eq!((end.end, end.stdout.as_str()), (0, "passed 2000\n"), "{engine}");
    }
}

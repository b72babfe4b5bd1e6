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
    features exceptions [];
    features selfmod [];
    features remapping ["doubled"];
    features patching ["1", "150"];
    features signals [];
    features flags [];
    features crossings [];
    features calls [];
    features switches [];
    features grows [];
    features checksums [];
    features x87 [];
    features migrate ["20"];
    features kernel_writes ["all"];
    features deep [];
    features moved [];
    features frames [];
    features titles ["one", "two"];
    features unused [];
}

/// What `patching` does above in small, with thousands of programs.
#[test]
#[ignore = "takes minutes: scripts/test.sh --full"]
fn patching_long() {
    let program = compile("features", "patching", &["-O2"]);
    for seed in ["11", "12", "13", "14"] {
        same_in(&MODES, &program, &[seed, "1000"]);
    }
}

/// Programs of many small pieces of code that are put in place one after the other: tier 2 from the first execution would
/// compile each of them and all around it again and again, so the eager mix stands for it.
macro_rules! pieces {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            same_in(&MODES, &compile("features", stringify!($name), &["-O2"]), &[]);
        })*
    };
}

pieces! {
    faults
    single_step
    alignment
    partial_stores
    encodings
    segments
    legacy_calls
}

/// Not with tier 2 from the first execution: these start other programs, dynamic ones, which would take minutes then.
macro_rules! programs_that_start_others {
    ($($name:ident [$($arg:expr),*];)*) => {
        $(#[test]
        fn $name() {
            same_in(&MODES, &compile("features", stringify!($name), &["-O2"]), &[$($arg),*]);
        })*
    };
}

programs_that_start_others! {
    processes [];
    stacks [];
    spaces ["all"];
    numbers [];
    identity [];
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

/// XSAVE and its kin, with all components that guests have.
#[test]
fn state() {
    let program = compile("features", "state", &["-O2"]);
    let mut which = Command::new(xlate());
    let (shown, _) =
        run(which.args(["run", "--no-cache"]).arg(&program).args(["0xe7", "which"]), Duration::from_secs(60));
    let components = shown.stdout.trim();
    assert!(components.parse().is_ok_and(|bits: u64| bits & 3 == 3), "{components}");
    same_in(&MODES, &program, &[components]);
}

/// A lower processor announces less, which is inherited over an exec; a name that nobody knows gets the known ones.
#[test]
fn processors_have_names() {
    let program = compile("features", "state", &["-O2"]);
    let on = |cpu: &str, words: &[&str]| {
        let mut command = Command::new(xlate());
        run(command.args(["run", "--no-cache", "--cpu", cpu]).args(words), Duration::from_secs(60))
    };
    let name = program.to_str().expect("its path is text");
    for cpu in ["v2", "nehalem"] {
        for words in [&[name, "3"][..], &["sh", "-c", &format!("{name} 3; exit $?")]] {
            let (shown, errors) = on(cpu, words);
            assert_eq!((shown.end, shown.stdout.as_str()), (1, "no XSAVE\n"), "{cpu} {words:?}: {errors}");
        }
    }
    let (shown, errors) = on("skylake", &[name, "3", "which"]);
    assert_eq!((shown.end, shown.stdout.as_str()), (0, "3\n"), "{errors}");
    let (shown, errors) = on("pentium", &[name]);
    assert_eq!((shown.end, errors.lines().count()), (125, 1), "{errors}");
    assert!(
        errors.contains("--cpu=pentium") && errors.contains("x86-64-v3, v3") && errors.contains("znver4"),
        "{errors}"
    );
}

/// LLVM ends its process over an instruction that it can't select.
#[test]
fn regions_of_host_instructions_are_compiled() {
    no_region_fails(&MODES[5], &compile("features", "checksums", &["-O2"]));
}

/// A transfer to 32-bit code, which isn't translated, is refused by name.
#[test]
fn code_of_32_bits_is_refused() {
    let program = compile("features", "legacy_code", &["-O2"]);
    for mode in MODES {
        let mut command = Command::new(xlate());
        let (shown, errors) =
            run(command.args(["run", "--no-cache"]).args(mode.options).arg(&program), Duration::from_secs(60));
        assert_eq!((shown.end, shown.stdout.as_str()), (0, "signal 4\n"), "{}", mode.name);
        assert!(errors.contains("ret far") && errors.contains("32-bit code"), "{}: {errors}", mode.name);
    }
}

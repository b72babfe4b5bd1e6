//! The guest programs on the AArch64 runtime under emulation, with the translator service running natively.

use xlate_tests::guest::{ARM_MODES, compile, no_region_fails, same_in, two_targets_have_room};

macro_rules! guests {
    ($($folder:ident $name:ident [$($arg:expr),*];)*) => {
        $(#[test]
        fn $name() {
            let program = compile(stringify!($folder), stringify!($name), &["-O2"]);
            same_in(&ARM_MODES, &program, &[$($arg),*]);
        })*
    };
}

guests! {
    guests division ["5000"];
    guests fileout ["500"];
    guests nbody ["200"];
    guests qsort ["1"];
    guests fib ["15"];
    guests bytecode ["1000"];
    guests sha256 ["50"];
    guests strings ["5"];
    features control [];
    features files [];
    features floats [];
    features exceptions ["without"];
    features processes [];
    features selfmod [];
    features remapping [];
    features patching ["2", "60"];
    features signals [];
    features flags [];
    features crossings [];
    features calls [];
    features switches [];
    features checksums [];
    features faults ["emulated"];
    features single_step [];
    features alignment [];
    features partial_stores ["without 16 bytes"];
    features encodings [];
    features segments [];
    features legacy_calls [];
    features x87 [];
    features migrate ["3"];
    features kernel_writes [];
    features deep [];
    features moved ["emulated"];
    features frames [];
    features unused [];
}

/// What `patching` does above in small, with hundreds of programs.
#[test]
#[ignore = "takes minutes: scripts/test.sh --full"]
fn patching_long() {
    let program = compile("features", "patching", &["-O2"]);
    same_in(&ARM_MODES, &program, &["21", "500"]);
}

/// Baseline alone, and all tiers with waiting.
#[test]
fn targets_at_one_place_of_the_table() {
    two_targets_have_room(&[ARM_MODES[1], ARM_MODES[3]], &compile("features", "places", &["-O2"]));
}

#[test]
fn regions_of_host_instructions_are_compiled() {
    no_region_fails(&ARM_MODES[3], &compile("features", "checksums", &["-O2"]));
}

//! Unmodified programs of the system give the same output and status as natively, under every mix of tiers.

use std::path::Path;

use xlate_tests::guest::{ARM_MODES, MODES, OPTIMIZED, same_in};

macro_rules! programs {
    ($($name:ident $path:literal [$($arg:expr),*];)*) => {
        $(#[test]
        fn $name() {
            same_in(&MODES, Path::new($path), &[$($arg),*]);
        })*
        mod aarch64 {
            use super::*;
            $(#[test]
            fn $name() {
                same_in(&ARM_MODES, Path::new($path), &[$($arg),*]);
            })*
        }
    };
}

programs! {
    true_ "/bin/true" [];
    false_ "/bin/false" [];
    echo "/bin/echo" ["one", "two"];
    // Not "/": the link count of /proc is the number of processes.
    ls "/bin/ls" ["-la", "/usr"];
    ls_missing "/bin/ls" ["/nonexistent"];
    sort "/bin/sort" ["-r", "/etc/passwd"];
    sha256sum "/usr/bin/sha256sum" ["/etc/services"];
    gzip "/bin/gzip" ["-9", "-n", "-c", "/etc/services"];
    awk "/usr/bin/awk" ["-F:", "{ n[length($1) % 5] += $3 / 3 } END { for (i = 0; i < 5; i++) printf \"%d %.3f\\n\", i, n[i] }", "/etc/passwd"];
    bash_pipeline "/bin/bash" ["-c", "for i in 1 2 3; do echo $i; done | sort -r"];
    bash_status "/bin/bash" ["-c", "(exit 3); echo $?; kill -TERM $$"];
    grep "/bin/grep" ["-c", "tcp", "/etc/services"];
    sed "/bin/sed" ["-n", "s/tcp/TCP/p", "/etc/services"];
    date "/bin/date" ["-u", "-d", "@86400", "+%F %T"];
    seq "/usr/bin/seq" ["-f", "%.2f", "1", "0.5", "5"];
}

/// Tier 2 from the first execution, on few programs: it compiles all of each one's start.
#[test]
fn optimized_from_the_first_execution() {
    same_in(&OPTIMIZED, Path::new("/bin/true"), &[]);
    same_in(&OPTIMIZED, Path::new("/bin/ls"), &["/etc"]);
}

/// LLVM takes ten milliseconds and more to load: only the compiler may need it.
#[test]
fn only_the_compiler_loads_llvm() {
    let needs_llvm = |program: &str| {
        let path = xlate_tests::guest::xlate().with_file_name(program);
        let output = std::process::Command::new("readelf").arg("-d").arg(&path).output();
        let text = output.expect("binutils are installed by scripts/setup.sh").stdout;
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("NEEDED"), "{path:?}: no dynamic section");
        text.contains("libLLVM")
    };
    let found = ["xlate", "xlate-runtime", "xlate-compile"].map(needs_llvm);
    assert_eq!(found, [false, false, true]);
}

//! Programs started under resource limits, soft and hard, and programs that lay out their address space by themselves: both
//! go as natively, wherever the translator lies.

use std::path::Path;
use std::process::Command;

use xlate_tests::guest::{LIMIT, MODES, Mode, Shown, compile, run, same_in, xlate};

/// What a shell says under these limits, and a program that it starts.
const SCRIPT: &str = "ulimit -Sa; ulimit -Ha; grep -v 'file\\|realtime' /proc/self/limits; echo done";

/// Arguments of the shell's ulimit: soft and hard at once unless it says otherwise.
const LIMITS: [&str; 15] = [
    "-s 8192",
    "-s 1024",
    "-s unlimited",
    "-Ss unlimited",
    "-Ss 65536",
    "-Ss 262144",
    "-v 524288",
    "-Sv 524288",
    "-v 1048576",
    "-d 262144",
    "-Sd 131072",
    "-l 0",
    "-n 64",
    "-Sn 16",
    "-c 0",
];

/// Runs the shell under a limit, by itself or under the translator.
fn limited(limit: &str, options: Option<&[&str]>) -> (Shown, String) {
    let translator = match options {
        None => String::new(),
        Some(options) => format!("{} run --no-cache {} ", xlate().display(), options.join(" ")),
    };
    // The first shell sets the limit; the second one is the program.
    let script = format!("ulimit {limit} || exit 77; exec {translator}/bin/sh -c \"$1\"");
    run(Command::new("sh").args(["-c", &script, "sh", SCRIPT]), LIMIT)
}

#[test]
fn limits_before_the_start_are_the_programs() {
    let mut failures = Vec::new();
    for limit in LIMITS {
        let (native, _) = limited(limit, None);
        if native.end == 77 {
            eprintln!("skipped: ulimit {limit} isn't permitted here");
            continue;
        }
        for options in [&[][..], &["--engine=interpreter"], &["--hot-baseline=1"]] {
            let (shown, errors) = limited(limit, Some(options));
            if shown != native {
                failures.push(format!(
                    "{limit} {options:?}: {} {:?}\n{}\ninstead of\n{}",
                    shown.end, errors, shown.stdout, native.stdout
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn limits_of_the_address_space_count_the_programs_memory() {
    let program = compile("features", "spaces", &["-O2"]);
    same_in(&[MODES[1], MODES[3], MODES[4]], &program, &["limits"]);
}

/// The translator's own memory is among none of what the sanitizers map.
#[test]
fn sanitizers_report_as_natively() {
    const FLAGS: [&str; 3] = ["-g", "-O0", "-fsanitize=address,undefined"];
    if !links(&FLAGS) {
        eprintln!("skipped: gcc has no sanitizers here");
        return;
    }
    let program = compile("features", "sanitized", &FLAGS);
    for (kind, report) in [
        ("n", ""),
        ("o", "ERROR: AddressSanitizer: heap-buffer-overflow"),
        ("f", "ERROR: AddressSanitizer: heap-use-after-free"),
        ("s", "runtime error: store to address"),
        ("i", "runtime error: signed integer overflow"),
    ] {
        let (native, errors) = run(sanitized(Command::new(&program)).arg(kind), LIMIT);
        assert!(errors.contains(report), "{kind}: {errors}");
        for Mode { name, options } in [MODES[1], MODES[3]] {
            let mut command = Command::new(xlate());
            command.args(["run", "--no-cache"]).args(options).arg(&program).arg(kind);
            let (shown, errors) = run(&mut sanitized(command), LIMIT);
            assert_eq!(shown, native, "{name} {kind}: {errors}");
            assert!(errors.contains(report), "{name} {kind}: {errors}");
            assert_eq!(errors.is_empty(), report.is_empty(), "{name} {kind}: {errors}");
        }
    }
}

/// Leaks are looked for by a process that traces this one, which a translated program refuses.
fn sanitized(mut command: Command) -> Command {
    command.env("ASAN_OPTIONS", "detect_leaks=0:color=never");
    command
}

/// Whether gcc can link with these flags.
fn links(flags: &[&str]) -> bool {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("links");
    let source = ["-x", "c", "/dev/null", "-Wl,--defsym=main=0", "-o"];
    let status = Command::new("gcc").args(flags).args(source).arg(&output).output();
    status.is_ok_and(|output| output.status.success())
}

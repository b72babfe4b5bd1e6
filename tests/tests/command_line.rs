//! What stands before the program is the command's, what stands after it the program's; and the exit statuses that tell
//! the command's own failures from the guest's.

use std::process::Command;

use xlate_tests::guest::{LIMIT, run, xlate};

/// Standard output, status and standard error of the command with these words.
fn shown(words: &[&str]) -> (String, i32, String) {
    let mut command = Command::new(xlate());
    let (shown, errors) = run(command.env("XLATE_CACHE", "off").args(words), LIMIT);
    (shown.stdout, shown.end, errors)
}

#[test]
fn words_after_the_program_reach_it() {
    let own = [
        &["-E", "foo"][..],
        &["--help"],
        &["-h"],
        &["--version"],
        &["--opt=O1"],
        &["--opt", "O9"],
        &["--", "x"],
        &["--", "--"],
        &["--stats"],
        &["--log=debug", "--cache=off", "--target=aarch64"],
        &["", "a b", "-"],
    ];
    // It takes all its arguments as they are.
    let print = ["/usr/bin/printf", "[%s]"];
    for words in own {
        let expected: String = words.iter().map(|word| format!("[{word}]")).collect();
        for before in [&["run"][..], &["run", "--opt=O0"], &["run", "--opt=O0", "-E", "A=b", "--"]] {
            let line = [before, &print, words].concat();
            assert_eq!(shown(&line), (expected.clone(), 0, String::new()), "{line:?}");
        }
    }
}

#[test]
fn options_before_the_program_are_the_commands() {
    let variable = shown(&["run", "-E", "A=b c", "/usr/bin/printenv", "A"]);
    assert_eq!((variable.0.as_str(), variable.1), ("b c\n", 0));
    let (_, status, errors) = shown(&["run", "--opt=O9", "/bin/true"]);
    assert!(status == 125 && errors.contains("O9") && errors.contains("--opt"), "{errors}");
    let (_, status, errors) = shown(&["run", "--optt=O1", "/bin/true"]);
    assert!(status == 125 && errors.contains("--optt"), "{errors}");
    let (_, status, errors) = shown(&["run", "--opt=O1"]);
    assert!(status == 125 && errors.contains("PROGRAM"), "{errors}");
    let (help, status, _) = shown(&["run", "--help"]);
    assert!(status == 0 && help.contains("--engine"), "{help}");
}

#[test]
fn warming_takes_its_words_likewise() {
    let folder = std::env::temp_dir().join(format!("xlate-words-{}", std::process::id()));
    let cache = format!("--cache={}", folder.display());
    for words in [&["-E", "x"][..], &["--", "--opt=O1"], &["--help"]] {
        let expected: String = words.iter().map(|word| format!("[{word}]")).collect();
        let line = [&["cache", "warm", &cache, "/usr/bin/printf", "[%s]"][..], words].concat();
        let (output, status, errors) = shown(&line);
        assert_eq!((output, status), (expected, 0), "{line:?}: {errors}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn statuses_are_those_of_a_shell() {
    let status = |words: &[&str]| shown(&[&["run"][..], words].concat()).1;
    assert_eq!(status(&["/bin/sh", "-c", "exit 7"]), 7);
    assert_eq!(status(&["/bin/sh", "-c", "kill -9 $$"]), -9);
    assert_eq!(status(&["/no/such/program"]), 127);
    assert_eq!(status(&["no-such-program-in-path"]), 127);
    assert_eq!(status(&["/etc/passwd"]), 126);
    assert_eq!(status(&["/etc"]), 126);
    // What a shell under translation says of the same: its execve is refused as natively.
    assert_eq!(status(&["/bin/sh", "-c", "/no/such/program"]), 127);
    assert_eq!(status(&["/bin/sh", "-c", "/etc/passwd"]), 126);
}

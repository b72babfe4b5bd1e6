//! Translated code kept over runs: the next run starts with it and needs no service, and nothing wrong or stale
//! ever comes from it.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use xlate_tests::guest::{LIMIT, compile, run, xlate};

/// A guest whose hot loop has `FACTOR` in its code: other programs of the same size at the same addresses.
const SOURCE: &str = "#include <stdio.h>
int main(void) {
    volatile unsigned n = 200000;
    unsigned x = 1;
    for (unsigned i = 0; i < n; i++) x = x * FACTOR + (x >> 7);
    printf(\"%u\\n\", x);
}
";

/// A folder with the program and its cache.
struct Place {
    dir: TempDir,
}

/// Changes a file's content.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

/// What a run showed, and its figures on the cache.
#[derive(Debug)]
struct Outcome {
    stdout: String,
    stderr: String,
    requested: u64,
    /// Those of them that are to take a smaller one's place.
    to_grow: u64,
    stored: u64,
    installed: u64,
    other: u64,
    damaged: u64,
    /// Blocks of tier 1 from earlier runs, those executed, and those compiled in this one.
    kept: u64,
    kept_installed: u64,
    compiled: u64,
}

impl Place {
    fn new(factor: u32) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a folder") };
        place.build(factor);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts another program under the same name.
    fn build(&self, factor: u32) {
        fs::write(self.path("guest.c"), SOURCE).expect("writable");
        let _ = fs::remove_file(self.path("guest"));
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-static", &format!("-DFACTOR={factor}u"), "-o"]);
        let status = gcc.arg(self.path("guest")).arg(self.path("guest.c")).status();
        assert!(status.expect("gcc is installed by scripts/setup.sh").success());
    }

    fn native(&self) -> String {
        run(&mut Command::new(self.path("guest")), LIMIT).0.stdout
    }

    fn run(&self, options: &[&str]) -> Outcome {
        self.run_guest(options, &[self.path("guest").to_str().expect("plain")])
    }

    fn run_guest(&self, options: &[&str], guest: &[&str]) -> Outcome {
        let stats = self.path("stats");
        let mut command = Command::new(xlate());
        command.args(["run", "--hot-optimized=500"]).arg(format!("--stats={}", stats.display()));
        command.arg("--cache").arg(self.path("cache")).args(options).args(guest);
        let (shown, stderr) = run(&mut command, LIMIT);
        assert_eq!(shown.end, 0, "{stderr}");
        let text = fs::read_to_string(&stats).expect("written at the end");
        let number = |what: &str| {
            let end = text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text}"));
            let word = text[..end].split_whitespace().next_back().map(|word| word.trim_start_matches('('));
            word.and_then(|n| n.parse().ok()).expect("a number stands before it")
        };
        Outcome {
            stdout: shown.stdout,
            stderr,
            requested: number(" regions requested"),
            to_grow: number(" to grow)"),
            stored: number(" regions stored"),
            installed: number(" taken from there,"),
            other: number(" not for this code"),
            damaged: number(" damaged"),
            kept: number(" blocks kept"),
            kept_installed: number(" taken from there; "),
            compiled: number(" blocks compiled"),
        }
    }

    /// The only file with regions of the cache.
    fn file(&self) -> PathBuf {
        let files = fs::read_dir(self.path("cache")).expect("there").map(|e| e.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "regions")).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn damage(&self, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file()).expect("readable");
        change(&mut bytes);
        fs::write(self.file(), bytes).expect("writable");
    }

    fn cache(&self, words: &[&str]) -> String {
        let mut command = Command::new(xlate());
        command.arg("cache").args(words).arg("--cache").arg(self.path("cache"));
        let (shown, stderr) = run(&mut command, LIMIT);
        assert_eq!(shown.end, 0, "{stderr}");
        shown.stdout
    }
}

/// A loop's later phases use other parts of it than the first, in which its region is formed.
#[test]
fn a_region_grows_once_for_what_it_leaves_for_and_is_kept_so() {
    let place = Place::new(3);
    let guest = compile("features", "grows", &["-O2"]);
    let guest = guest.to_str().expect("plain");
    let native = run(&mut Command::new(guest), LIMIT).0.stdout;
    let first = place.run_guest(&["--wait"], &[guest]);
    assert!(first.stdout == native && (1..=2).contains(&first.to_grow), "{first:?}");
    let second = place.run_guest(&["--wait"], &[guest]);
    assert_eq!((&second.stdout, second.requested, second.to_grow), (&native, 0, 0), "{second:?}");
}

#[test]
fn the_second_run_starts_with_its_hot_regions_and_without_a_service() {
    let place = Place::new(3);
    let first = place.run(&["--warm"]);
    assert!(first.requested > 0 && first.stored == 0, "{first:?}");
    for options in [&[][..], &["--engine=optimized"]] {
        let second = place.run(options);
        assert_eq!([&first.stdout, &second.stdout], [&place.native(); 2]);
        assert!(second.stored > 0 && second.installed > 0, "{second:?}");
        assert_eq!((second.other, second.damaged), (0, 0), "{second:?}");
        assert!(second.requested == 0 || !options.is_empty(), "{second:?}");
    }
    let off = place.run(&["--no-cache"]);
    assert_eq!((off.stored, off.stdout), (0, place.native()));
}

#[test]
fn later_runs_start_with_the_blocks_of_earlier_ones() {
    let place = Place::new(3);
    // What is compiled at the end of a run is kept by a process that nobody waits for.
    let run_until = |enough: &dyn Fn(&Outcome) -> bool| {
        for _ in 0..100 {
            let outcome = place.run(&["--opt=O0"]);
            assert_eq!((&outcome.stdout, outcome.damaged), (&place.native(), 0), "{outcome:?}");
            if enough(&outcome) {
                return outcome;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("not within 100 runs");
    };
    let second = run_until(&|o| o.kept > 0);
    assert!(second.kept_installed > 0, "{second:?}");
    // The second run has kept what was too rare for the first.
    let third = run_until(&|o| o.kept > second.kept);
    assert!(third.kept_installed > second.kept_installed && third.compiled == 0, "{third:?}");
}

#[test]
fn what_is_kept_can_be_seen_and_removed() {
    let place = Place::new(5);
    place.run(&["--warm"]);
    let report: Value = serde_json::from_str(&place.cache(&["stats", "--json"])).expect("JSON");
    let files = report["files"].as_array().expect("a list");
    let file = files.iter().find(|f| f["regions"].as_u64() > Some(0)).expect("the regions' file");
    assert!(files.iter().any(|f| f["blocks"].as_u64() > Some(0) && f["program"] == file["program"]), "{report}");
    assert_eq!(file["program"], place.path("guest").to_str().expect("plain"));
    assert!(report["regions"].as_u64() > Some(0) && report["regions"] == file["regions"], "{report}");
    assert!(file["damage"].is_null(), "{report}");
    assert!(place.cache(&["clear"]).contains("2 files removed"));
    let cleared = place.run(&[]);
    assert_eq!((cleared.stored, cleared.kept), (0, 0));
}

#[test]
fn a_program_that_changed_gets_no_stale_code() {
    let place = Place::new(3);
    place.run(&["--warm"]);
    let old = place.native();
    place.build(7);
    let changed = place.run(&["--warm"]);
    assert_ne!(place.native(), old, "the programs show different numbers");
    assert_eq!(changed.stdout, place.native());
    assert!(changed.other > 0, "the loop was looked at: {changed:?}");
    assert!(changed.kept > 0, "{changed:?}");
    place.build(3);
    let back = place.run(&[]);
    assert_eq!((back.stdout, back.requested), (old, 0), "both are kept");
}

#[test]
fn damage_is_ignored_and_mended() {
    let place = Place::new(3);
    let native = place.native();
    let whole = place.run(&["--warm"]);
    let sound = place.run(&[]);
    let records = 4096 + 1024 * 48;
    let damages: [Damage<'_>; 4] = [
        // Every record is another.
        &|bytes| bytes[records..].iter_mut().for_each(|b| *b ^= 0x55),
        // Every row is another.
        &|bytes| bytes[4096..records].iter_mut().filter(|b| **b != 0).for_each(|b| *b ^= 0x55),
        &|bytes| bytes.truncate(100),
        &|bytes| *bytes = b"something else altogether".to_vec(),
    ];
    for (n, damage) in damages.iter().enumerate() {
        place.damage(damage);
        let damaged = place.run(&["--warm"]);
        assert_eq!((&damaged.stdout, damaged.installed), (&native, 0), "{n}: {damaged:?}");
        assert!(damaged.requested > 0 && (damaged.damaged > 0) == (n == 0), "{n}: {damaged:?}");
        let mended = place.run(&[]);
        assert_eq!((&mended.stdout, mended.damaged, mended.requested), (&native, 0, 0), "{n}: {mended:?}");
        assert!(mended.installed >= sound.installed.min(1), "{n}: {mended:?}, {whole:?}");
    }
}

#[test]
fn an_unusable_folder_is_no_cache_and_no_noise() {
    let place = Place::new(3);
    fs::write(place.path("cache"), "a file").expect("writable");
    let outcome = place.run(&["--warm"]);
    assert_eq!((outcome.stdout, outcome.stderr), (place.native(), String::new()));
}

#[test]
fn children_have_caches_of_their_own_programs() {
    let place = Place::new(3);
    let guest = place.path("guest");
    let script = format!("{}; {}; echo end", guest.display(), guest.display());
    let bash = ["/bin/bash", "-c", &script];
    let first = place.run_guest(&["--warm"], &bash);
    let second = place.run_guest(&[], &bash);
    let shows = format!("{0}{0}end\n", place.native());
    assert_eq!([&first.stdout, &second.stdout], [&shows; 2]);
    let report: Value = serde_json::from_str(&place.cache(&["stats", "--json"])).expect("JSON");
    let programs: Vec<&str> =
        report["files"].as_array().expect("a list").iter().filter_map(|f| f["program"].as_str()).collect();
    for program in [guest.as_path(), &fs::canonicalize("/bin/bash").expect("there")] {
        assert!(programs.iter().any(|p| Path::new(p) == program), "{program:?} in {programs:?}");
    }
}

#[test]
fn the_folder_stays_within_its_limit() {
    let place = Place::new(3);
    let stale = place.path("cache").join("0-0.regions");
    fs::create_dir(place.path("cache")).expect("writable");
    fs::write(&stale, vec![1; 3 << 20]).expect("writable");
    let day_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(86400);
    fs::File::options().write(true).open(&stale).and_then(|f| f.set_modified(day_ago)).expect("ours");
    place.run(&["--warm", "--cache-limit=2M"]);
    assert!(!stale.exists(), "what was used longest ago has gone");
    assert!(place.run(&["--cache-limit=2M"]).installed > 0);
}

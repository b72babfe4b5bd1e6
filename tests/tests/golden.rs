//! Compares what tier 2 makes of idioms with the listings that are kept. `scripts/golden.sh` renews them.

#![cfg(feature = "llvm")]

use std::fs;

use xlate_tests::golden::{folder, listing, targets};

/// Set to have the listings written instead.
const RENEW: &str = "XLATE_RENEW_GOLDEN";

/// The line of each idiom, with its count.
fn counts(listing: &str) -> Vec<&str> {
    listing.lines().filter(|line| line.ends_with(" instructions")).collect()
}

#[test]
fn idioms_become_the_kept_code() {
    for (name, target) in targets() {
        let file = folder().join(format!("{name}.txt"));
        let made = listing(&target).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        if std::env::var_os(RENEW).is_some() {
            fs::write(&file, made).expect("the folder can be written to");
            continue;
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let changed: Vec<_> = counts(&made).into_iter().filter(|line| !counts(&kept).contains(line)).collect();
        assert!(
            made == kept,
            "the code of {} has changed. Now: {changed:#?}\n`scripts/golden.sh` renews the listings; `git diff tests/golden` shows \
             what has changed",
            file.display()
        );
    }
}

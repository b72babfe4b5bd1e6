//! What translated programs cost on AArch64, in executed instructions: whose they are, and how many a native program
//! needs for the same work. The counting itself is `tests/arm-cost/count.c`'s; `arm-cost` (the binary) runs it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Sub;

use serde::Serialize;

/// Executed instructions by who owns the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub tier2: u64,
    pub tier1: u64,
    /// Everything else: the dispatcher, the compiler, the interpreter, system calls, libraries.
    pub runtime: u64,
}

impl Counts {
    pub fn total(self) -> u64 {
        self.tier2 + self.tier1 + self.runtime
    }
}

/// What a larger problem needs beyond a smaller one.
impl Sub for Counts {
    type Output = Self;

    /// A smaller problem may need more of a part (a region that came later): that counts as none.
    fn sub(self, less: Self) -> Self {
        Self {
            tier2: self.tier2.saturating_sub(less.tier2),
            tier1: self.tier1.saturating_sub(less.tier1),
            runtime: self.runtime.saturating_sub(less.runtime),
        }
    }
}

/// A file that isn't what was expected.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("the map of translated code has a line \"{0}\", which isn't START SIZE TIER:PC")]
    Map(String),
    #[error("the counts have a line \"{0}\", which isn't ADDRESS COUNT")]
    Count(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Baseline,
    Optimized,
}

/// Which addresses hold which tier's code: what `xlate run --perf-map` writes.
#[derive(Debug, Default)]
pub struct CodeMap(BTreeMap<u64, (u64, Tier)>);

impl CodeMap {
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut map = Self::default();
        for line in text.lines() {
            let (start, len, tier) = piece(line).ok_or_else(|| FormatError::Map(line.to_owned()))?;
            map.insert(start, start + len, tier);
        }
        Ok(map)
    }

    /// The latest word about an address counts: what it overlaps was thrown away before.
    fn insert(&mut self, start: u64, end: u64, tier: Tier) {
        let overlapped: Vec<u64> =
            self.0.range(..end).rev().take_while(|(_, (e, _))| *e > start).map(|(s, _)| *s).collect();
        for old in overlapped {
            self.0.remove(&old);
        }
        self.0.insert(start, (end, tier));
    }

    fn owner(&self, address: u64) -> Option<Tier> {
        let (_, &(end, tier)) = self.0.range(..=address).next_back()?;
        (address < end).then_some(tier)
    }
}

/// `START SIZE tier1:PC`, in hexadecimal.
fn piece(line: &str) -> Option<(u64, u64, Tier)> {
    let mut words = line.split_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let len = u64::from_str_radix(words.next()?, 16).ok()?;
    let tier = match words.next()?.split_once(':')?.0 {
        "tier1" => Tier::Baseline,
        "tier2" => Tier::Optimized,
        _ => return None,
    };
    Some((start, len, tier))
}

/// Adds the plugin's counts up, by who owns the blocks.
pub fn classify(counts: &str, map: &CodeMap) -> Result<Counts, FormatError> {
    let mut sums = Counts::default();
    for line in counts.lines() {
        let parsed = line
            .split_once(' ')
            .and_then(|(address, count)| Some((u64::from_str_radix(address, 16).ok()?, count.parse::<u64>().ok()?)));
        let (address, count) = parsed.ok_or_else(|| FormatError::Count(line.to_owned()))?;
        match map.owner(address) {
            Some(Tier::Optimized) => sums.tier2 += count,
            Some(Tier::Baseline) => sums.tier1 += count,
            None => sums.runtime += count,
        }
    }
    Ok(sums)
}

/// One program at two problem sizes: compiled for AArch64, and translated.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    pub program: String,
    /// The programs that it has a mean with.
    pub group: String,
    pub arguments: [String; 2],
    pub native: [u64; 2],
    pub translated: [Counts; 2],
    /// The difference between the sizes, by owner: the steady state.
    pub slope: Counts,
    /// Translated over native, of the differences.
    pub ratio: f64,
}

impl Cost {
    pub fn of([program, group]: [&str; 2], arguments: [String; 2], native: [u64; 2], translated: [Counts; 2]) -> Self {
        let [small, large] = translated;
        let native_slope = native[1].saturating_sub(native[0]);
        // By totals: what moves from one owner to another between the runs must not count twice.
        let slope = large.total().saturating_sub(small.total());
        Self {
            program: program.to_owned(),
            group: group.to_owned(),
            arguments,
            native,
            translated,
            slope: large - small,
            ratio: slope as f64 / native_slope as f64,
        }
    }

    /// What the translated program needs apart from its work: starting, and translating.
    pub fn fixed(&self) -> f64 {
        self.translated[0].total() as f64 - self.ratio * self.native[0] as f64
    }
}

/// The geometric mean of the ratios, by group.
pub fn means(costs: &[Cost]) -> BTreeMap<&str, f64> {
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    costs.iter().for_each(|c| groups.entry(&c.group).or_default().push(c.ratio.ln()));
    let mean = |logs: Vec<f64>| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    groups.into_iter().map(|(group, logs)| (group, mean(logs))).collect()
}

/// Millions of instructions, ratios and shares.
pub fn table(costs: &[Cost]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "executed AArch64 instructions, in millions; slopes are between two problem sizes");
    let _ = writeln!(
        out,
        "{:<12}{:>14}{:>18}{:>8}{:>9}{:>8}{:>10}{:>14}{:>14}",
        "", "native slope", "translated slope", "ratio", "tier 2", "tier 1", "runtime", "fixed cost", "larger total"
    );
    let millions = |n: f64| n / 1e6;
    for c in costs {
        let share = |part: u64| format!("{:.1}%", 100.0 * part as f64 / c.slope.total().max(1) as f64);
        let native = (c.native[1].saturating_sub(c.native[0])) as f64;
        let _ = writeln!(
            out,
            "{:<12}{:>14.2}{:>18.2}{:>8.2}{:>9}{:>8}{:>10}{:>14.1}{:>14.1}",
            c.program,
            millions(native),
            millions(native * c.ratio),
            c.ratio,
            share(c.slope.tier2),
            share(c.slope.tier1),
            share(c.slope.runtime),
            millions(c.fixed()),
            millions(c.translated[1].total() as f64),
        );
    }
    for (group, mean) in means(costs) {
        let _ = writeln!(out, "{:<44}{mean:>8.2}", format!("geom. mean of {group}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tier2: u64, tier1: u64, runtime: u64) -> Counts {
        Counts { tier2, tier1, runtime }
    }

    #[test]
    fn blocks_belong_to_whose_range_they_start_in() {
        let map = CodeMap::parse("1000 40 tier1:401000\n1040 100 tier2:401000\n").unwrap();
        let sums = classify("1000 1\n103c 2\n1040 4\n113c 8\n1140 16\nfff 32\n", &map).unwrap();
        assert_eq!(sums, counts(12, 3, 48));
    }

    #[test]
    fn later_code_replaces_what_it_overlaps() {
        let map = CodeMap::parse("1000 40 tier1:1\n1040 40 tier1:2\n1080 40 tier1:3\n1020 40 tier2:4\n").unwrap();
        assert_eq!(map.owner(0x1000), None);
        assert_eq!(map.owner(0x1020), Some(Tier::Optimized));
        assert_eq!(map.owner(0x105c), Some(Tier::Optimized));
        assert_eq!(map.owner(0x1060), None);
        assert_eq!(map.owner(0x1080), Some(Tier::Baseline));
    }

    #[test]
    fn lines_that_make_no_sense_are_named() {
        assert!(matches!(CodeMap::parse("1000 40 tier3:1"), Err(FormatError::Map(line)) if line == "1000 40 tier3:1"));
        assert!(matches!(classify("1000", &CodeMap::default()), Err(FormatError::Count(line)) if line == "1000"));
    }

    #[test]
    fn the_ratio_is_of_the_differences_and_the_rest_is_fixed() {
        let cost =
            Cost::of(["p", "a"], ["1".into(), "2".into()], [100, 200], [counts(150, 10, 500), counts(300, 10, 500)]);
        assert_eq!((cost.ratio, cost.slope, cost.fixed()), (1.5, counts(150, 0, 0), 510.0));
        let other = Cost::of(["q", "a"], ["1".into(), "2".into()], [100, 200], [counts(600, 0, 0), counts(1200, 0, 0)]);
        let alone = Cost { group: "b".to_owned(), ..cost.clone() };
        let costs = [cost, other, alone];
        let means = means(&costs);
        assert!((means["a"] - 3.0).abs() < 1e-9 && (means["b"] - 1.5).abs() < 1e-9, "{means:?}");
    }

    #[test]
    fn a_part_that_shrinks_counts_as_none_but_not_in_the_total() {
        let cost = Cost::of(["p", "a"], ["1".into(), "2".into()], [0, 100], [counts(0, 100, 0), counts(250, 50, 0)]);
        assert_eq!((cost.slope, cost.ratio), (counts(250, 0, 0), 2.0));
    }
}

//! What the project wants to reach, held against a report (`--check`).

use std::fmt;

use super::report::{Report, Row};
use super::set::{BENCHMARKS, Group};
use super::statistics::geometric_mean;

/// Names of the engines the targets speak of.
pub const COLD: &str = "xlate O2";
pub const WARM: &str = "xlate O2 warm";

const COMPUTE_MEAN: f64 = 1.25;
const COMPUTE_WORST: f64 = 1.8;
const VECTORS_MEAN: f64 = 1.15;
const VECTORS_WORST: f64 = 1.6;
const OVER_EMULATOR: f64 = 5.0;
/// The published table: memory access, integer division, file output.
const PUBLISHED: [(&str, f64); 3] = [("memory", 1.1), ("division", 1.1), ("fileout", 1.3)];
const START_OVER_EMULATOR_COLD: f64 = 1.0;
const START_OVER_EMULATOR_WARM: f64 = 0.5;
const PEAK_ABOVE_NATIVE_MIB: f64 = 60.0;

/// Whether a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// The report lacks a figure it needs.
    Unknown,
}

/// One target and what was found.
#[derive(Clone, Debug)]
pub struct Target {
    pub wanted: String,
    pub found: String,
    pub verdict: Verdict,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Unknown => "not measured",
        };
        write!(f, "{verdict:<13} {}: {}", self.wanted, self.found)
    }
}

impl Target {
    fn at_most(wanted: String, limit: f64, found: Option<f64>) -> Self {
        let verdict = match found {
            None => Verdict::Unknown,
            Some(value) if value <= limit => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        Self { wanted, found: found.map_or("-".to_owned(), |v| format!("{v:.2}")), verdict }
    }
}

/// All targets.
pub fn check(report: &Report) -> Vec<Target> {
    let mut targets = own(report, Group::Compute, [COMPUTE_MEAN, COMPUTE_WORST]).to_vec();
    targets.extend(own(report, Group::Vectors, [VECTORS_MEAN, VECTORS_WORST]));
    for emulator in report.engines.iter().filter(|e| e.starts_with("qemu")) {
        targets.extend(against_emulator(report, emulator));
    }
    for (name, limit) in PUBLISHED {
        let ratio = report.row(name).and_then(|r| r.ratio(WARM));
        targets.push(Target::at_most(format!("{name} at most {limit}, warm"), limit, ratio));
    }
    targets.push(memory(report));
    targets
}

/// The ratios of a whole group: a mean over a part of it says nothing about the target.
fn whole(report: &Report, group: Group, engine: &str) -> Option<Vec<f64>> {
    let ratios = report.ratios(group, engine)?;
    (ratios.len() == BENCHMARKS.iter().filter(|b| b.group == group).count()).then_some(ratios)
}

/// A group's own ratios, warm: the mean and the worst.
fn own(report: &Report, group: Group, [mean_limit, worst_limit]: [f64; 2]) -> [Target; 2] {
    let name = group.name();
    let warm = whole(report, group, WARM);
    let mean = warm.as_deref().and_then(geometric_mean);
    let ratio = |row: &&Row| row.ratio(WARM).unwrap_or(f64::INFINITY);
    let worst = report.in_group(group).max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let mut worst_target = Target::at_most(
        format!("{name}, worst at most {worst_limit}, warm"),
        worst_limit,
        warm.and_then(|_| worst.and_then(|w| w.ratio(WARM))),
    );
    if let (Some(row), true) = (worst, worst_target.verdict != Verdict::Unknown) {
        worst_target.found = format!("{} ({})", worst_target.found, row.name);
    }
    let wanted = format!("{name}, geometric mean at most {mean_limit}, warm");
    [Target::at_most(wanted, mean_limit, mean), worst_target]
}

/// Speed-ups over one emulator: emulator's ratio over ours.
fn against_emulator(report: &Report, emulator: &str) -> Vec<Target> {
    let warm = whole(report, Group::Compute, WARM);
    let theirs = whole(report, Group::Compute, emulator);
    let gains: Option<Vec<f64>> = warm.zip(theirs).map(|(w, t)| t.iter().zip(w).map(|(t, w)| t / w).collect());
    let least = |wanted: String, limit: f64, found: Option<f64>| {
        let verdict = match found {
            None => Verdict::Unknown,
            Some(v) if v >= limit => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        Target { wanted, found: found.map_or("-".to_owned(), |v| format!("{v:.2}")), verdict }
    };
    let mean = gains.as_deref().and_then(geometric_mean);
    let smallest = gains.and_then(|g| g.into_iter().reduce(f64::min));
    let mut targets = vec![
        least(format!("compute, at least {OVER_EMULATOR} times as fast as {emulator}, warm"), OVER_EMULATOR, mean),
        least(format!("compute, each faster than {emulator}, warm"), 1.0, smallest),
    ];
    for benchmark in BENCHMARKS.iter().filter(|b| b.group == Group::Startup) {
        let row = report.row(benchmark.name);
        let over = |engine: &str| row.and_then(|r| Some(r.ratio(engine)? / r.ratio(emulator)?));
        for (engine, limit, how) in [(COLD, START_OVER_EMULATOR_COLD, "cold"), (WARM, START_OVER_EMULATOR_WARM, "warm")]
        {
            let wanted = format!("start of {}, at most {limit} of {emulator}'s time, {how}", benchmark.name);
            targets.push(Target::at_most(wanted, limit, over(engine)));
        }
    }
    targets
}

/// The larger of the cold and the warm run's peak.
fn memory(report: &Report) -> Target {
    let row = report.row("python3-pass");
    let peak = |engine: &str| row.and_then(|r| r.measured(engine)?.peak_kib).map(|kib| kib as f64 / 1024.0);
    let own = [COLD, WARM].into_iter().filter_map(peak).reduce(f64::max);
    let above = own.zip(peak("native")).map(|(own, native)| own - native);
    let wanted = format!("peak memory of python3-pass at most {PEAK_ABOVE_NATIVE_MIB} MiB above native");
    Target::at_most(wanted, PEAK_ABOVE_NATIVE_MIB, above)
}

#[cfg(test)]
mod tests {
    use super::super::report::Outcome;
    use super::super::report::tests::report;
    use super::*;

    /// All compute programs at these ratios.
    fn computed(warm: f64, qemu: f64) -> Report {
        let ratios = [("native", 1.0), ("qemu 7.2", qemu), (WARM, warm)];
        let rows: Vec<(&str, &[(&str, f64)])> =
            BENCHMARKS.iter().filter(|b| b.group == Group::Compute).map(|b| (b.name, &ratios[..])).collect();
        report(&rows)
    }

    fn verdict(report: &Report, start: &str) -> Verdict {
        let targets = check(report);
        let found: Vec<&Target> = targets.iter().filter(|t| t.wanted.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start}");
        found[0].verdict
    }

    #[test]
    fn what_is_fast_enough_is_met() {
        let r = computed(1.1, 6.0);
        for start in
            ["compute, geometric", "compute, worst", "compute, at least 5", "compute, each", "memory", "fileout"]
        {
            assert_eq!(verdict(&r, start), Verdict::Met, "{start}");
        }
    }

    #[test]
    fn what_is_too_slow_is_missed() {
        let r = computed(1.9, 1.8);
        for start in
            ["compute, geometric", "compute, worst", "compute, at least 5", "compute, each", "memory", "fileout"]
        {
            assert_eq!(verdict(&r, start), Verdict::Missed, "{start}");
        }
    }

    #[test]
    fn a_part_of_a_group_and_a_failure_decide_nothing() {
        let part = report(&[("memory", &[("native", 1.0), (WARM, 1.0)])]);
        assert_eq!(verdict(&part, "compute, geometric"), Verdict::Unknown);
        assert_eq!(verdict(&part, "memory"), Verdict::Met);
        let failed = report(&[("memory", &[("native", 1.0), (WARM, f64::NAN)])]);
        assert_eq!(verdict(&failed, "memory"), Verdict::Unknown);
    }

    #[test]
    fn start_up_is_held_against_the_emulator() {
        let r = report(&[("ls", &[("native", 1.0), ("qemu 7.2", 20.0), (COLD, 20.0), (WARM, 10.5)])]);
        assert_eq!(verdict(&r, "start of ls, at most 1 "), Verdict::Met);
        assert_eq!(verdict(&r, "start of ls, at most 0.5 "), Verdict::Missed);
        assert_eq!(verdict(&r, "start of true, at most 1 "), Verdict::Unknown);
    }

    #[test]
    fn memory_counts_above_native() {
        let mut r = report(&[("python3-pass", &[("native", 1.0), (COLD, 9.0), (WARM, 5.0)])]);
        for (engine, kib) in [("native", 10 << 10), (COLD, 70 << 10), (WARM, 40 << 10)] {
            let Some(Outcome::Measured(m)) = r.rows[0].outcomes.get_mut(engine) else { panic!("measured above") };
            m.peak_kib = Some(kib);
        }
        assert_eq!(verdict(&r, "peak memory"), Verdict::Met);
        let Some(Outcome::Measured(m)) = r.rows[0].outcomes.get_mut(WARM) else { panic!("measured above") };
        m.peak_kib = Some(71 << 10);
        assert_eq!(verdict(&r, "peak memory"), Verdict::Missed);
    }
}

//! What a benchmark run found, as data (JSON) and as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::set::Group;
use super::statistics::{Times, geometric_mean};

/// Everything one run of `xlate bench` measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub runs: u32,
    /// Small sizes: good for seeing that all works, not for conclusions.
    pub small: bool,
    /// In the order of measuring; native is the first.
    pub engines: Vec<String>,
    /// Emulators and programs that aren't installed, and processors that programs would need.
    pub missing: Vec<String>,
    #[serde(rename = "benchmarks")]
    pub rows: Vec<Row>,
    /// Geometric means of the ratios, by group and engine.
    pub means: BTreeMap<Group, BTreeMap<String, f64>>,
}

/// One benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub group: Group,
    pub published: bool,
    pub command: Vec<String>,
    /// By engine.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// A wrong result is a failure, not a time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Measured(Measured),
    Failed { error: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub times: Times,
    /// Peak resident memory of the guest's process, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_kib: Option<u64>,
}

impl Row {
    pub fn measured(&self, engine: &str) -> Option<&Measured> {
        match self.outcomes.get(engine)? {
            Outcome::Measured(m) => Some(m),
            Outcome::Failed { .. } => None,
        }
    }

    pub fn ratio(&self, engine: &str) -> Option<f64> {
        self.measured(engine).map(|m| m.times.ratio)
    }
}

impl Report {
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.name == name)
    }

    pub fn in_group(&self, group: Group) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |r| r.group == group)
    }

    /// The engine's ratios over a group; `None` if one benchmark of it has none.
    pub fn ratios(&self, group: Group, engine: &str) -> Option<Vec<f64>> {
        self.in_group(group).map(|r| r.ratio(engine)).collect()
    }

    /// Fills in the means.
    pub fn with_means(mut self) -> Self {
        for group in Group::ALL {
            let means: BTreeMap<String, f64> = self
                .engines
                .iter()
                .filter_map(|e| Some((e.clone(), geometric_mean(&self.ratios(group, e)?)?)))
                .collect();
            if !means.is_empty() {
                self.means.insert(group, means);
            }
        }
        self
    }

    /// Runs that gave a wrong result or none.
    pub fn failures(&self) -> Vec<String> {
        let of_row = |row: &Row| -> Vec<String> {
            let failed = |(engine, outcome): (&String, &Outcome)| match outcome {
                Outcome::Measured(_) => None,
                Outcome::Failed { error } => Some(format!("{} under {engine}: {error}", row.name)),
            };
            row.outcomes.iter().filter_map(failed).collect()
        };
        self.rows.iter().flat_map(of_row).collect()
    }

    /// The tables, and what there is to say beside them.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for group in Group::ALL {
            if self.in_group(group).next().is_some() {
                self.group_table(&mut out, group);
            }
        }
        self.memory_table(&mut out);
        for failure in self.failures() {
            let _ = writeln!(out, "FAILED: {failure}");
        }
        for missing in &self.missing {
            let _ = writeln!(out, "{missing} is missing here: no figures for it");
        }
        if self.small {
            let _ = writeln!(out, "small sizes: start-up and compile time outweigh the steady state");
        }
        out
    }

    fn group_table(&self, out: &mut String, group: Group) {
        let name = group.name();
        let _ = writeln!(out, "{name}: time over native, median (least-greatest) of the rounds; native in seconds");
        self.heading(out);
        for row in self.in_group(group) {
            let _ = write!(out, "{:<14}", row.name);
            for engine in &self.engines {
                let _ = write!(out, "{:>22}", cell(row.outcomes.get(engine), engine == "native"));
            }
            out.push('\n');
        }
        if let (Some(means), true) = (self.means.get(&group), self.in_group(group).count() > 1) {
            let _ = write!(out, "{:<14}", "geom. mean");
            for engine in &self.engines {
                let _ = write!(out, "{:>22}", means.get(engine).map_or("-".to_owned(), |m| figure(*m)));
            }
            out.push('\n');
        }
        out.push('\n');
    }

    fn heading(&self, out: &mut String) {
        let _ = write!(out, "{:<14}", "");
        for engine in &self.engines {
            let _ = write!(out, "{engine:>22}");
        }
        out.push('\n');
    }

    fn memory_table(&self, out: &mut String) {
        let peak = |row: &Row, engine: &String| row.measured(engine).and_then(|m| m.peak_kib);
        let rows: Vec<&Row> = self.rows.iter().filter(|r| self.engines.iter().any(|e| peak(r, e).is_some())).collect();
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(out, "peak resident memory of the guest's process, MiB");
        self.heading(out);
        for row in rows {
            let _ = write!(out, "{:<14}", row.name);
            for engine in &self.engines {
                let text = peak(row, engine).map_or("-".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
                let _ = write!(out, "{text:>22}");
            }
            out.push('\n');
        }
        out.push('\n');
    }
}

fn cell(outcome: Option<&Outcome>, native: bool) -> String {
    match outcome {
        None => "-".to_owned(),
        Some(Outcome::Failed { .. }) => "FAILED".to_owned(),
        Some(Outcome::Measured(Measured { times: t, .. })) if native => {
            format!("{:.3} ({:.3}-{:.3})", t.median, t.min, t.max)
        }
        Some(Outcome::Measured(Measured { times: t, .. })) => {
            format!("{} ({}-{})", figure(t.ratio), figure(t.ratio_min), figure(t.ratio_max))
        }
    }
}

/// Three digits or so: nobody reads the hundredths of a hundred.
pub fn figure(ratio: f64) -> String {
    match ratio {
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 10.0 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::set::BENCHMARKS;
    use super::*;

    /// An outcome of this ratio without spread; a NaN is a failure.
    fn outcome(ratio: f64) -> Outcome {
        if ratio.is_nan() {
            return Outcome::Failed { error: "another output".to_owned() };
        }
        let times = Times {
            median: ratio,
            min: ratio,
            max: ratio,
            cpu: ratio,
            ratio,
            ratio_min: ratio,
            ratio_max: ratio,
            cpu_ratio: ratio,
        };
        Outcome::Measured(Measured { times, peak_kib: None })
    }

    /// A report of these ratios by benchmark and engine.
    pub fn report(rows: &[(&str, &[(&str, f64)])]) -> Report {
        let row = |(name, ratios): &(&str, &[(&str, f64)])| Row {
            name: (*name).to_owned(),
            group: BENCHMARKS.iter().find(|b| b.name == *name).expect("a benchmark").group,
            published: false,
            command: Vec::new(),
            outcomes: ratios.iter().map(|(e, r)| ((*e).to_owned(), outcome(*r))).collect(),
        };
        let engines = rows[0].1.iter().map(|(e, _)| (*e).to_owned()).collect();
        let rows = rows.iter().map(row).collect();
        Report { runs: 1, small: false, engines, missing: Vec::new(), rows, means: BTreeMap::new() }.with_means()
    }

    #[test]
    fn a_group_with_a_failure_has_no_mean_and_the_failure_is_told() {
        let r = report(&[
            ("fib", &[("native", 1.0), ("xlate O0", 4.0), ("xlate O2", 2.0)]),
            ("crc", &[("native", 1.0), ("xlate O0", 1.0), ("xlate O2", f64::NAN)]),
        ]);
        assert_eq!(r.means[&Group::Compute]["xlate O0"], 2.0);
        assert!(!r.means[&Group::Compute].contains_key("xlate O2"));
        assert_eq!(r.failures(), ["crc under xlate O2: another output"]);
        assert!(r.text().contains("FAILED: crc under xlate O2: another output"));
    }

    #[test]
    fn large_ratios_have_fewer_decimals() {
        assert_eq!([1.234, 12.34, 123.4].map(figure), ["1.23", "12.3", "123"]);
    }

    #[test]
    fn json_and_back() {
        let r = report(&[("fib", &[("native", 1.0), ("xlate O2", f64::NAN)])]);
        let json = serde_json::to_string(&r).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back.row("fib").and_then(|r| r.ratio("native")), Some(1.0));
        assert_eq!(back.failures().len(), 1);
        assert_eq!(back.text(), r.text());
    }
}

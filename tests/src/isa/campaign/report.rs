//! Adds up the tasks' reports and prints the outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::supervisor::Event;
use super::{Options, Plan, Task};
use crate::isa::case::Extent;
use crate::isa::engines::Kind;
use crate::isa::exclusions;
use crate::isa::excursion::extent;

/// Fewer native cases than this are too few.
const ENOUGH: u64 = 200;
/// Under which blocks of several instructions are counted.
const BLOCKS: &str = "blocks";
/// Mismatches of one instruction that are printed in full.
const SHOWN: u64 = 3;

#[derive(Default)]
struct PerCode {
    cases: u64,
    compared: BTreeMap<Kind, u64>,
    mismatches: BTreeMap<Kind, u64>,
    ends: BTreeMap<String, u64>,
    encodable: bool,
}

/// All that came out.
pub struct Summary {
    plan: Plan,
    seed: u64,
    engines: Vec<Kind>,
    native_only: bool,
    codes: BTreeMap<String, PerCode>,
    lost: u64,
    started: Instant,
}

impl Summary {
    pub fn new(plan: Plan, options: &Options) -> Self {
        Self {
            plan,
            seed: options.seed,
            engines: options.engines.clone(),
            native_only: options.native_only,
            codes: BTreeMap::new(),
            lost: 0,
            started: Instant::now(),
        }
    }

    /// Takes one report in; failures are printed at once.
    pub fn record(&mut self, event: Event) {
        match event {
            Event::Done(n, report) => {
                let name = self.name(n);
                let entry = self.codes.entry(name.clone()).or_default();
                entry.cases += report.cases;
                for (end, count) in report.ends {
                    *entry.ends.entry(end).or_default() += count;
                }
                entry.encodable |= !report.unencodable;
                for (kind, count) in report.compared {
                    *entry.compared.entry(kind).or_default() += count;
                }
                for mismatch in report.mismatches {
                    let count = entry.mismatches.entry(mismatch.engine).or_default();
                    *count += 1;
                    if *count <= SHOWN && !mismatch.text.is_empty() {
                        println!("MISMATCH {} {name} (task {n})\n{}", mismatch.engine.name(), mismatch.text);
                    }
                }
            }
            Event::Lost(n, how) => {
                self.lost += 1;
                println!("LOST {} (task {n}): {how}\n", self.name(n));
            }
        }
    }

    fn name(&self, n: u64) -> String {
        match self.plan.task(n) {
            Some(Task::Single { code, .. }) => format!("{code:?}"),
            Some(Task::Block(_)) => BLOCKS.to_owned(),
            None => "nothing".to_owned(),
        }
    }

    fn total(&self, of: impl Fn(&PerCode) -> u64) -> u64 {
        self.codes.values().map(of).sum()
    }

    /// Instructions for which no program could be made.
    fn unencodable(&self) -> Vec<&str> {
        self.codes.iter().filter(|(_, c)| !c.encodable).map(|(name, _)| name.as_str()).collect()
    }

    /// Instructions that this CPU has and yet refuses: the programs made for them are wrong.
    fn refused(&self) -> Vec<&str> {
        let refused = |c: &PerCode| self.native_only && c.ends.contains_key("InvalidOpcode");
        let meant = |name: &str| exclusions::REFUSED.iter().any(|prefix| name.starts_with(prefix));
        self.codes.iter().filter(|(name, c)| refused(c) && !meant(name)).map(|(name, _)| name.as_str()).collect()
    }

    /// Instructions of which no case was run.
    fn not_run(&self) -> Vec<String> {
        let names = self.plan.single_codes().iter().map(|code| format!("{code:?}"));
        names.filter(|name| self.codes.get(name).is_none_or(|c| c.encodable && c.cases == 0)).collect()
    }

    /// No mismatch, no lost worker, nothing left out without a reason.
    pub fn is_clean(&self) -> bool {
        let mismatches = self.total(|c| c.mismatches.values().sum());
        let all_run = self.unencodable().is_empty() && self.not_run().is_empty() && self.refused().is_empty();
        mismatches == 0 && self.lost == 0 && all_run && self.total(|c| c.cases) > 0
    }

    /// How the cases of each instruction ended on the CPU.
    fn ends(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, c) in &self.codes {
            let ends: Vec<_> = c.ends.iter().map(|(end, n)| format!("{end} {n}")).collect();
            writeln!(f, "  {name}: {} cases: {}", c.cases, ends.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failing: Vec<_> = self.codes.iter().filter(|(_, c)| !c.mismatches.is_empty()).collect();
        if !failing.is_empty() {
            writeln!(f, "Instructions with mismatches:")?;
        }
        for (name, c) in &failing {
            let counts: Vec<_> = c.mismatches.iter().map(|(k, n)| format!("{} {n}", k.name())).collect();
            writeln!(f, "  {name}: {} of {} cases", counts.join(", "), c.cases)?;
        }
        if self.native_only {
            self.ends(f)?;
        }
        let few: Vec<_> = self.codes.iter().filter(|(n, c)| *n != BLOCKS && c.encodable && c.cases < ENOUGH).collect();
        if !few.is_empty() {
            let names: Vec<_> = few.iter().take(8).map(|(n, c)| format!("{n} {}", c.cases)).collect();
            let more = if few.len() > 8 { ", …" } else { "" };
            writeln!(f, "{} instructions with fewer than {ENOUGH} cases: {}{more}", few.len(), names.join(", "))?;
        }
        for name in self.unencodable() {
            writeln!(f, "no encoding could be made for {name}")?;
        }
        let not_run = self.not_run();
        if let Some(first) = not_run.first() {
            writeln!(f, "{} instructions of which no case was run: {first}, …", not_run.len())?;
        }
        for name in self.refused() {
            writeln!(f, "this CPU refuses {name}, whose programs should be valid")?;
        }
        let extent = extent();
        if extent != Extent::FULL {
            let (registers, bits) = (extent.registers, extent.words * 64);
            writeln!(f, "not compared: more than {registers} vector registers of {bits} bits, which this CPU lacks")?;
        }
        for (code, feature) in &self.plan.lacking {
            writeln!(f, "skipped: {code:?} ({feature} is missing from this CPU)")?;
        }
        for (code, reason) in &self.plan.excluded {
            writeln!(f, "excluded: {code:?} ({reason})")?;
        }
        for kind in &self.engines {
            let compared = self.total(|c| c.compared.get(kind).copied().unwrap_or(0));
            let wrong = self.total(|c| c.mismatches.get(kind).copied().unwrap_or(0));
            writeln!(f, "{:<18} {compared} cases compared, {wrong} mismatches", kind.name())?;
        }
        writeln!(
            f,
            "{} codes, {} native cases ({} of blocks), {} mismatches, {} workers lost; seed {}, {:.0} s",
            self.codes.keys().filter(|name| *name != BLOCKS).count(),
            self.total(|c| c.cases),
            self.codes.get(BLOCKS).map_or(0, |c| c.cases),
            self.total(|c| c.mismatches.values().sum()),
            self.lost,
            self.seed,
            self.started.elapsed().as_secs_f64()
        )
    }
}

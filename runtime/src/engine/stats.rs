//! What each tier did, for `--stats`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Exit;

/// Figures of one process.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub blocks_decoded: u64,
    pub blocks_interpreted: u64,
    pub instructions_interpreted: u64,
    pub baseline_blocks: u64,
    pub baseline_instructions: u64,
    pub baseline_bytes: u64,
    pub baseline_time: Duration,
    pub baseline_refused: u64,
    /// Of the compiled blocks, those that another process compiled.
    pub baseline_background: u64,
    pub regions_requested: u64,
    /// Those of them that are to take a smaller one's place.
    pub regions_to_grow: u64,
    pub regions_installed: u64,
    /// Regions that the service made smaller than it would have, for they took too long or the compiler died of
    /// them.
    pub regions_split: u64,
    pub region_instructions: u64,
    pub region_bytes: u64,
    /// The service's time over all installed regions.
    pub region_time: Duration,
    /// Time the guest stood still for answers (`--engine=optimized`).
    pub region_wait: Duration,
    /// Why regions were not installed, counted.
    pub region_failures: BTreeMap<String, u64>,
    /// Regions that earlier runs have left for this program.
    pub stored_rows: u64,
    pub stored_installed: u64,
    /// Times that one was looked at and memory held other code.
    pub stored_other: u64,
    pub stored_damaged: u64,
    /// Blocks whose code earlier runs have left, and those that were executed.
    pub kept_rows: u64,
    pub kept_installed: u64,
    /// Time for reading and installing them.
    pub stored_time: Duration,
    pub links_patched: u64,
    pub lookups_missed: u64,
    pub invalidations: u64,
    pub code_writes: u64,
    pub cache_flushes: u64,
    /// Exits of the engine, by [`Exit::kind`].
    pub(super) exits: [u64; Exit::NAMES.len()],
}

impl Stats {
    pub fn region_failed(&mut self, reason: &str) {
        *self.region_failures.entry(reason.to_owned()).or_default() += 1;
    }

    /// Regions that were asked for and not installed.
    pub fn regions_failed(&self) -> u64 {
        self.region_failures.values().sum()
    }
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "xlate: what each tier did")?;
        writeln!(
            f,
            "  interpreter: {} blocks run, {} instructions; {} blocks decoded",
            self.blocks_interpreted, self.instructions_interpreted, self.blocks_decoded
        )?;
        writeln!(
            f,
            "  baseline:    {} blocks compiled ({} in the background), {} instructions to {} bytes in {:.2} ms; {} refused",
            self.baseline_blocks,
            self.baseline_background,
            self.baseline_instructions,
            self.baseline_bytes,
            ms(self.baseline_time),
            self.baseline_refused
        )?;
        writeln!(
            f,
            "  optimized:   {} regions requested ({} to grow), {} installed, {} split, {} failed; {} instructions to {} bytes; \
             {:.2} ms in the service, {:.2} ms waited",
            self.regions_requested,
            self.regions_to_grow,
            self.regions_installed,
            self.regions_split,
            self.regions_failed(),
            self.region_instructions,
            self.region_bytes,
            ms(self.region_time),
            ms(self.region_wait)
        )?;
        for (reason, count) in &self.region_failures {
            writeln!(f, "    {count} x {reason}")?;
        }
        writeln!(
            f,
            "  cache:       {} regions stored, {} taken from there, {} not for this code; {} blocks kept, {} taken from there; \
             {} damaged; {:.2} ms",
            self.stored_rows,
            self.stored_installed,
            self.stored_other,
            self.kept_rows,
            self.kept_installed,
            self.stored_damaged,
            ms(self.stored_time)
        )?;
        writeln!(
            f,
            "  dispatcher:  {} links patched, {} lookups missed, {} invalidations, {} writes to code, {} cache flushes",
            self.links_patched, self.lookups_missed, self.invalidations, self.code_writes, self.cache_flushes
        )?;
        let kinds = Exit::NAMES.iter().zip(self.exits).filter(|(_, count)| *count > 0);
        let exits: Vec<String> = kinds.map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "  exits:       {}", exits.join(", "))
    }
}

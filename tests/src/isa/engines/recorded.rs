//! Tier 2 code that was compiled elsewhere.

use std::collections::HashMap;

use xlate_abi::protocol::Blob;
use xlate_abi::state::CpuState;
use xlate_runtime::engine::workbench::{Outcome, Runnable, Workbench};

use super::interpreter;
use crate::isa::case::Program;

pub struct Recorded {
    bench: Workbench,
    /// For modes that are tier 0's.
    tier0: interpreter::Engine,
    blobs: Vec<Blob>,
    regions: HashMap<u64, Runnable>,
}

impl Default for Recorded {
    fn default() -> Self {
        let bench = Workbench::default();
        Self { bench, tier0: interpreter::Engine::precise(), blobs: Vec::new(), regions: HashMap::new() }
    }
}

impl Recorded {
    /// The code of the program that is loaded next.
    pub fn set_blobs(&mut self, blobs: &[Blob]) {
        self.blobs = blobs.to_vec();
    }
}

impl super::Engine for Recorded {
    fn load(&mut self, program: &Program) -> Result<(), String> {
        self.regions.clear();
        self.bench.clear();
        self.tier0.load(program)?;
        for blob in &self.blobs {
            let code = self.bench.install(blob).map_err(|e| e.to_string())?;
            self.regions.insert(blob.entry_pc, code);
        }
        Ok(())
    }

    fn step(&mut self, state: &mut CpuState) -> Option<Outcome> {
        if Workbench::is_for_tier0(state) {
            return self.tier0.step(state);
        }
        let code = *self.regions.get(&state.rip)?;
        // SAFETY: installed since the bench was cleared; accesses as in tier 0.
        Some(unsafe { self.bench.run(code, state) })
    }
}

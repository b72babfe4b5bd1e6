//! Tier 2: LLVM. All blocks of a program are one region, so inner edges and loops are compiled as such; an entry in
//! the middle of it gets a region of its own.

use std::collections::HashMap;

use xlate_abi::protocol::{CodeOptions, OptLevel, Target};
use xlate_abi::state::CpuState;
use xlate_llvm::{Region, compile_region};
use xlate_runtime::engine::host_target;
use xlate_runtime::engine::workbench::{Outcome, Runnable, Workbench};

use super::blocks::reachable;
use super::interpreter;
use crate::isa::case::Program;

pub struct Engine {
    bench: Workbench,
    /// For modes that are tier 0's.
    tier0: interpreter::Engine,
    target: Target,
    regions: HashMap<u64, Runnable>,
    options: CodeOptions,
}

impl Engine {
    pub fn new(precise: bool) -> Self {
        Self {
            bench: Workbench::default(),
            tier0: interpreter::Engine::precise(),
            target: host_target(),
            regions: HashMap::new(),
            options: CodeOptions { opt: OptLevel::O2, precise, tso: false },
        }
    }
}

impl super::Engine for Engine {
    fn load(&mut self, program: &Program) -> Result<(), String> {
        self.regions.clear();
        self.bench.clear();
        self.tier0.load(program)?;
        let blocks = reachable(program, self.options.precise);
        for entry in blocks.iter().map(|b| b.pc) {
            let blob = compile_region(&Region::of(entry, blocks.iter().cloned()), &self.target, self.options)
                .map_err(|e| e.to_string())?;
            let code = self.bench.install(&blob).map_err(|e| e.to_string())?;
            self.regions.insert(entry, code);
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

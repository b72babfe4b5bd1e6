//! Tier 1: Cranelift, block by block.

use std::collections::HashMap;

use xlate_abi::state::CpuState;
use xlate_runtime::engine::workbench::{Outcome, Runnable, Workbench};

use super::blocks::reachable;
use super::interpreter;
use crate::isa::case::Program;

pub struct Engine {
    bench: Workbench,
    /// For modes that are tier 0's.
    tier0: interpreter::Engine,
    blocks: HashMap<u64, Runnable>,
    precise: bool,
}

impl Engine {
    pub fn new(precise: bool) -> Self {
        Self { bench: Workbench::default(), tier0: interpreter::Engine::precise(), blocks: HashMap::new(), precise }
    }
}

impl super::Engine for Engine {
    fn load(&mut self, program: &Program) -> Result<(), String> {
        self.blocks.clear();
        self.bench.clear();
        self.tier0.load(program)?;
        for block in reachable(program, self.precise) {
            let code = self.bench.compile(&block, self.precise).map_err(|e| e.to_string())?;
            self.blocks.insert(block.pc, code);
        }
        Ok(())
    }

    fn step(&mut self, state: &mut CpuState) -> Option<Outcome> {
        if Workbench::is_for_tier0(state) {
            return self.tier0.step(state);
        }
        let code = *self.blocks.get(&state.rip)?;
        // SAFETY: compiled since the bench was cleared; accesses as in tier 0.
        Some(unsafe { self.bench.run(code, state) })
    }
}

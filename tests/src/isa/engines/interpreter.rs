//! Tier 0.

use std::collections::HashMap;

use xlate_abi::state::CpuState;
use xlate_runtime::engine::interpreter::DecodedBlock;
use xlate_runtime::engine::workbench::{Outcome, Workbench};

use super::blocks::reachable;
use crate::isa::case::Program;

#[derive(Default)]
pub struct Engine {
    bench: Workbench,
    blocks: HashMap<u64, DecodedBlock>,
    precise: bool,
}

impl Engine {
    /// With all flags in the state at every access that may fault.
    pub fn precise() -> Self {
        Self { precise: true, ..Self::default() }
    }
}

impl super::Engine for Engine {
    fn load(&mut self, program: &Program) -> Result<(), String> {
        let blocks = reachable(program, self.precise).into_iter();
        self.blocks = blocks.map(|b| (b.pc, DecodedBlock::new(b))).collect();
        Ok(())
    }

    fn step(&mut self, state: &mut CpuState) -> Option<Outcome> {
        let block = self.blocks.get(&state.rip)?;
        // SAFETY: the case's accesses are meant to fault or to hit the data area; a handler is installed.
        Some(unsafe { self.bench.interpret(block, state) })
    }
}

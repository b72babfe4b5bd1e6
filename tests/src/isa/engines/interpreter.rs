//! Tier 0.

use std::collections::HashMap;

use xlate_abi::state::{CpuState, ExitReason};
use xlate_x86::decode::{MAX_BLOCK, SliceSource};
use xlate_x86::decode_block;
use xlate_x86::interpreter::{DecodedBlock, run_block};

use crate::isa::case::Program;

/// More blocks than any case runs: a REP instruction is one block a step.
const MAX_STEPS: usize = 100_000;

#[derive(Default)]
pub struct Engine {
    program: Option<Program>,
    blocks: HashMap<u64, DecodedBlock>,
}

impl super::Engine for Engine {
    fn load(&mut self, program: &Program) -> Result<(), String> {
        self.blocks.clear();
        self.program = Some(program.clone());
        Ok(())
    }

    fn run(&mut self, state: &mut CpuState) {
        let program = self.program.as_ref().expect("loaded");
        let source = SliceSource { address: program.address, bytes: &program.bytes };
        for _ in 0..MAX_STEPS {
            if !program.contains(state.rip) {
                return;
            }
            let block = self
                .blocks
                .entry(state.rip)
                .or_insert_with_key(|pc| DecodedBlock::new(decode_block(&source, *pc, MAX_BLOCK, false)));
            // SAFETY: the case's accesses are meant to fault or to hit the data area; the caller recovers.
            unsafe { run_block(state, block) };
            if state.exit_reason != ExitReason::Continue as u32 {
                return;
            }
        }
    }
}

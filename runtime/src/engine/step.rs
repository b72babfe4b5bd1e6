//! Instruction by instruction, while the guest's TF or AC is set.
//!
//! With TF, each instruction is followed by a debug exception (Intel SDM vol. 3, 19.3.1.4); with AC, each access is looked at
//! before (SDM vol. 3, 6.15, #AC). Both are so rare that no translated code knows of them: what sets them leaves to the
//! dispatcher, which runs tier 0 on blocks of one instruction until they are clear again. Nothing is kept of these blocks.

use iced_x86::Instruction;
use xlate_abi::state::{CpuState, FlagBytes, Trap};
use xlate_x86::accesses;
use xlate_x86::decode::{decode_block, repeats};
use xlate_x86::segments::{is_emulated_by_linux, loads_stack_segment};

use super::fetch::Fetch;
use super::interpreter::{DecodedBlock, Run};
use super::{Engine, Exit, GuestCode, end_at, entry, fault};

impl Engine {
    /// Runs the instruction at `rip`; says why, if that leaves the engine.
    pub(super) fn step_watched(&mut self, state: &mut CpuState, memory: &dyn GuestCode) -> Option<Exit> {
        let block = decode_block(&Fetch::new(memory), state.rip, 1, true);
        let Some(i) = block.insns.first().map(|insn| insn.raw) else {
            return Some(end_at(state, block.exit));
        };
        if state.flags.other & FlagBytes::AC != 0 && is_misaligned(&i, state) {
            return Some(Exit::Trap(Trap::Alignment));
        }
        let traps = state.flags.other & FlagBytes::TRAP != 0 && !self.holds_off(&i);
        let block = DecodedBlock::new(block);
        let mut run = Run::in_mode(&block, state);
        // SAFETY: the dispatcher's, who calls this: the state is prepared, and faults arrive in `fault::leave`.
        unsafe { entry::enter_interpreter(state, &mut run) };
        if fault::take_host_fault() {
            return Some(Exit::HostFault);
        }
        if let Some(exit) = Exit::from_state(state) {
            return Some(exit);
        }
        // What Linux carries out itself raises no debug exception; the next one comes after the next instruction.
        let traps = traps && !is_emulated_by_linux(&i);
        traps.then(|| Exit::Stepped { unfinished: repeats(&i) && state.rip == i.ip() })
    }

    /// Whether the instruction holds the debug exception off until the next one has ended. Of two in a row only the first
    /// does.
    fn holds_off(&mut self, i: &Instruction) -> bool {
        self.held_off = loads_stack_segment(i) && !self.held_off;
        self.held_off
    }
}

fn is_misaligned(i: &Instruction, state: &CpuState) -> bool {
    let nothing_to_do = repeats(i) && state.gpr[xlate_abi::state::RCX] == 0;
    !nothing_to_do && !is_emulated_by_linux(i) && accesses::of(i, state).iter().any(|a| a.start % a.alignment != 0)
}

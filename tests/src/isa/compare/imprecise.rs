//! What imprecise tier 2 code leaves open where the CPU faults in the middle of a block. It runs only while the guest has
//! no handler for the fault: nobody but the process that dies of it could see registers or memory then. (Memory that
//! others see makes the code ordered.)
//!
//! - A load whose value nothing uses is left out by the optimiser, and another one may come first: the end may be another
//!   fault, or none if the instruction at fault only loads. A store is never left out.
//! - Loads and stores of different bytes change places: of the block's stores any may be done.

use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use xlate_abi::state::RSP;

use super::faulting;
use crate::isa::case::{Case, End, Fault, Outcome};
use crate::isa::states::used_address;

/// The stack pointer moves by less than this in a block.
const STACK: u64 = 0x400;

/// Whether it is a fault of an access in the middle of a block.
pub fn applies(case: &Case, cpu: &Outcome) -> bool {
    case.program.insns.len() > 1 && matches!(cpu.end, End::Fault(Fault::Page(_) | Fault::GeneralProtection))
}

/// Whether an engine may end so where the CPU faulted.
pub fn may_end(case: &Case, cpu: &Outcome, engine: &End) -> bool {
    if !applies(case, cpu) {
        return false;
    }
    match engine {
        End::Fault(Fault::Page(_) | Fault::GeneralProtection) => true,
        End::Left | End::Fault(_) => {
            faulting(case, cpu).is_some_and(|i| stores(i, case).is_empty() || shifts_by_nothing(i))
        }
        _ => false,
    }
}

/// The bytes that the block's instructions store.
pub fn stored(case: &Case) -> Vec<Range<u64>> {
    case.program.insns.iter().flat_map(|i| stores(i, case)).collect()
}

/// Whether an instruction may shift or rotate memory by a count of zero: the engines store nothing then.
fn shifts_by_nothing(i: &Instruction) -> bool {
    use Mnemonic::*;
    let count = i.op_count().wrapping_sub(1);
    matches!(i.mnemonic(), Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd)
        && (i.op_kind(count) == OpKind::Register || i.immediate(count) & 31 == 0)
}

fn stores(i: &Instruction, case: &Case) -> Vec<Range<u64>> {
    use OpAccess::*;
    let mut factory = InstructionInfoFactory::new();
    let writes = |m: &&iced_x86::UsedMemory| matches!(m.access(), Write | CondWrite | ReadWrite | ReadCondWrite);
    let used = factory.info(i).used_memory();
    let places = used.iter().filter(writes).map(|m| {
        let size = m.memory_size().size() as u64;
        // Other registers that blocks address memory by stay as they are.
        if m.base() == Register::RSP {
            return case.state.gpr[RSP].wrapping_sub(STACK)..case.state.gpr[RSP].wrapping_add(STACK);
        }
        let at = used_address(m, &case.state);
        at..at.wrapping_add(size)
    });
    places.collect()
}

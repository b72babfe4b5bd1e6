//! What imprecise tier 2 code leaves open where the CPU faults. It runs only while the guest has no handler for the fault:
//! nobody but the process that dies of it could see registers or memory then. (Memory that others see makes the code
//! ordered.)
//!
//! - Another access may come first. So the end may be another fault, but it is one, also where nothing uses what is loaded.
//!   Three kinds of loads may be left out: under a mask, if nothing uses their value; those whose value the instruction's own
//!   immediate makes indifferent, such as a product with zero; and in a block those whose value other instructions make
//!   indifferent (CMOVB after an addition of zero), or which is needed only where the block is left early. So may double
//!   shifts by zero, and rotates by a multiple of what they go round. A store is never left out.
//! - It makes a load in parts, in any order, or of those bytes alone that are used: a load over two pages may fault on the
//!   other one, or not at all.
//! - Loads and stores of different bytes change places: of the block's stores any may be done.

use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use xlate_abi::state::RSP;

use super::faulting;
use crate::isa::arena::{DATA, DATA_LEN};
use crate::isa::case::{Case, End, Fault, Outcome};
use crate::isa::states::used_address;

/// The stack pointer moves by less than this in a block.
const STACK: u64 = 0x400;

/// Whether it is a fault of an access.
pub fn applies(cpu: &Outcome) -> bool {
    matches!(cpu.end, End::Fault(Fault::Page(_) | Fault::GeneralProtection))
}

/// Whether an engine may end so where the CPU faulted.
pub fn may_end(case: &Case, cpu: &Outcome, engine: &End) -> bool {
    if !applies(cpu) {
        return false;
    }
    match engine {
        End::Fault(ours @ (Fault::Page(_) | Fault::GeneralProtection)) => {
            let i = faulting(case, cpu);
            case.program.insns.len() > 1 || i.is_some_and(|i| may_fault_elsewhere(i, case, &cpu.end, ours))
        }
        End::Left | End::Fault(_) => faulting(case, cpu).is_some_and(|i| may_be_left_out(i, case)),
        _ => false,
    }
}

/// Whether the optimiser may see that a load's value is indifferent.
fn may_be_left_out(i: &Instruction, case: &Case) -> bool {
    use Mnemonic::{Rcl, Rcr, Rol, Ror, Shld, Shrd};
    use OpAccess::*;
    let last = i.op_count() - 1;
    let by_zero = |period: u32| {
        let count = u32::from(i.immediate8()) & if i.memory_size().size() == 8 { 63 } else { 31 };
        i.op_kind(last) == OpKind::Immediate8 && count.checked_rem(period) == Some(0)
    };
    let width = 8 * i.memory_size().size() as u32;
    match i.mnemonic() {
        Shld | Shrd => return by_zero(64),
        Rol | Ror => return by_zero(width),
        // Through CF.
        Rcl | Rcr => return by_zero(width + 1),
        _ => {}
    }
    let stores = !places(i, case, &[Write, CondWrite, ReadWrite, ReadCondWrite]).is_empty();
    let by_itself =
        i.op_mask() != Register::None || i.op_kind(last) != OpKind::Register && i.try_immediate(last).is_ok();
    let over_two_pages =
        places(i, case, &[Read, CondRead]).iter().any(|l| l.start >> 12 != l.end.wrapping_sub(1) >> 12);
    !stores && (by_itself || over_two_pages || case.program.insns.len() > 1)
}

/// Whether an instruction whose load faults may fault on another part of what it loads, or otherwise, its load being left out.
fn may_fault_elsewhere(i: &Instruction, case: &Case, cpu: &End, ours: &Fault) -> bool {
    // A load may wrap round.
    let is_in = |address: u64, load: &Range<u64>| address.wrapping_sub(load.start) < load.end.wrapping_sub(load.start);
    let loads = places(i, case, &[OpAccess::Read, OpAccess::CondRead]);
    loads.iter().any(|load| match (cpu, ours) {
        (End::Fault(Fault::Page(native)), Fault::Page(ours)) => is_in(*native, load) && is_in(*ours, load),
        (End::Fault(Fault::Page(native)), _) => is_in(*native, load),
        // A part of it has a canonical address.
        (_, Fault::Page(ours)) => is_in(*ours, load),
        _ => false,
    })
}

/// The bytes that the block's instructions store.
pub fn stored(case: &Case) -> Vec<Range<u64>> {
    use OpAccess::*;
    case.program.insns.iter().flat_map(|i| places(i, case, &[Write, CondWrite, ReadWrite, ReadCondWrite])).collect()
}

/// The bytes that an instruction accesses in one of these ways.
fn places(i: &Instruction, case: &Case, ways: &[OpAccess]) -> Vec<Range<u64>> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(i).used_memory();
    let places = used.iter().filter(|m| ways.contains(&m.access())).map(|m| {
        let size = m.memory_size().size() as u64;
        // Other registers that blocks address memory by stay as they are.
        if m.base() == Register::RSP {
            return case.state.gpr[RSP].wrapping_sub(STACK)..case.state.gpr[RSP].wrapping_add(STACK);
        }
        // A scatter's lanes may be anywhere.
        if m.index().is_vector_register() {
            return DATA..DATA + DATA_LEN as u64;
        }
        let at = used_address(m, &case.state);
        at..at.wrapping_add(size)
    });
    places.collect()
}

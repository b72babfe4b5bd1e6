//! Wrong meanings on purpose: what a mistake in an engine would make of a case. The tests show that the verifier finds
//! each of them.

use clap::ValueEnum;
use iced_x86::{EncodingKind, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use serde::{Deserialize, Serialize};
use xlate_abi::state::mxcsr;

use super::arena;
use super::case::{Case, End, Fault, Outcome};
use super::states::operand_address;
use super::values::{lane, set_lane};

/// A mistake that an engine could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Wrong {
    /// A VEX or EVEX instruction leaves the bits beyond its width as they were.
    KeepsUpper,
    /// A legacy instruction clears bits 128 and up.
    ClearsUpper,
    /// Lanes that are masked out become zero where they should stay.
    ZeroesForMerge,
    /// A lane that is masked out faults.
    FaultsMasked,
    /// DAZ is taken for FTZ, and FTZ for DAZ.
    SwapsDazAndFtz,
    /// A store that faults is left out, and the program goes on.
    MissesStoreFault,
}

impl Wrong {
    /// What the mistaken engine runs instead.
    pub fn before(self, case: &Case) -> Case {
        let mut case = case.clone();
        if self == Self::SwapsDazAndFtz {
            case.state.mxcsr = swapped(case.state.mxcsr);
        }
        case
    }

    /// Spoils a right outcome of what was run.
    pub fn after(self, case: &Case, outcome: &mut Outcome) {
        let [i] = case.program.insns.as_slice() else { return };
        match self {
            Self::KeepsUpper if is_vector(i) && i.code().op_code().encoding() != EncodingKind::Legacy => {
                let (n, words) = (i.op0_register().number(), i.op0_register().size() / 8);
                outcome.state.vec[n][words..].copy_from_slice(&case.state.vec[n][words..]);
            }
            Self::ClearsUpper if is_vector(i) && i.code().op_code().encoding() == EncodingKind::Legacy => {
                outcome.state.vec[i.op0_register().number()][2..].fill(0);
            }
            Self::ZeroesForMerge if is_vector(i) && i.has_op_mask() && i.merging_masking() => zero(i, outcome),
            Self::FaultsMasked => {
                if let Some(at) = outside(i, case).filter(|_| i.has_op_mask() && outcome.end == End::Left) {
                    *outcome = Outcome { end: End::Fault(Fault::Page(at)), state: case.state.clone() };
                }
            }
            Self::SwapsDazAndFtz => outcome.state.mxcsr = swapped(outcome.state.mxcsr),
            Self::MissesStoreFault if only_stores(i) && matches!(outcome.end, End::Fault(Fault::Page(_))) => {
                (outcome.end, outcome.state.rip) = (End::Left, case.program.end());
            }
            _ => {}
        }
    }
}

fn swapped(word: u32) -> u32 {
    let (daz, ftz) = (word & mxcsr::DAZ != 0, word & mxcsr::FTZ != 0);
    let others = word & !(mxcsr::DAZ | mxcsr::FTZ);
    others | if ftz { mxcsr::DAZ } else { 0 } | if daz { mxcsr::FTZ } else { 0 }
}

fn is_vector(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Register && i.op0_register().is_vector_register()
}

fn zero(i: &Instruction, outcome: &mut Outcome) {
    let bits = i.code().op_code().memory_size().element_size() * 8;
    let (n, mask) = (i.op0_register().number(), outcome.state.k[i.op_mask().number()]);
    if !matches!(bits, 8 | 16 | 32 | 64) {
        return;
    }
    for masked_out in (0..i.op0_register().size() * 8 / bits).filter(|l| lane(&[mask; 8], 1, *l) == 0) {
        set_lane(&mut outcome.state.vec[n], bits, masked_out, 0);
    }
}

/// An address of a memory operand that lies outside the data area.
fn outside(i: &Instruction, case: &Case) -> Option<u64> {
    if i.memory_index() != Register::None && i.memory_index().is_vector_register() {
        return None;
    }
    let at = operand_address(i, &case.state)?;
    let last = at.wrapping_add(i.memory_size().size() as u64).wrapping_sub(1);
    [at, last].into_iter().find(|at| !arena::in_data(*at, 1))
}

fn only_stores(i: &Instruction) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(i).used_memory();
    !used.is_empty() && used.iter().all(|m| matches!(m.access(), OpAccess::Write | OpAccess::CondWrite))
}

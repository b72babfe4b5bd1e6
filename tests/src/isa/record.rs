//! Recorded cases: programs, states and what the CPU made of them, to be replayed where there is no x86-64 CPU.
//!
//! A record also holds tier 2 code for AArch64, compiled where LLVM is: the replaying side has none.

use serde::{Deserialize, Serialize};
use xlate_abi::protocol::Blob;

use super::arena::{DATA, DATA_LEN};
use super::case::{Case, End, Memory, Outcome, Program, State};

/// The name of a recording that isn't of a single instruction.
pub const BLOCK: &str = "block";

/// A program with the CPU's results, and tier 2 code for each of its blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// The instruction's code, or [`BLOCK`].
    pub name: String,
    pub address: u64,
    pub bytes: Vec<u8>,
    pub blobs: Vec<Blob>,
    /// The same, precise.
    pub precise_blobs: Vec<Blob>,
    pub cases: Vec<Recorded>,
}

/// One state and its outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    state: State,
    background: Vec<u8>,
    patches: Vec<(u64, Vec<u8>)>,
    end: End,
    /// What the run changed, as indices and values.
    gpr: Vec<(u8, u64)>,
    /// Numbers of registers and words (eight to a register).
    vec: Vec<(u16, u64)>,
    k: Vec<(u8, u64)>,
    /// rip, rflags, mxcsr.
    control: (u64, u64, u32),
    bases: (u64, u64),
    x87: Option<super::case::X87>,
    /// Offsets in the data area and bytes.
    written: Vec<(u16, Vec<u8>)>,
    /// Its result may differ from the CPU's in the choice between two NaNs.
    pub picks_nan: bool,
}

impl Recorded {
    pub fn new(case: &Case, outcome: &Outcome, data: &[u8], picks_nan: bool) -> Self {
        let mut before = vec![0; DATA_LEN];
        case.memory.write_to(&mut before);
        Self {
            state: case.state.clone(),
            background: case.memory.background.to_vec(),
            patches: case.memory.patches.clone(),
            end: outcome.end.clone(),
            gpr: changes(&case.state.gpr, &outcome.state.gpr).map(|(n, v)| (n as u8, v)).collect(),
            vec: changes(case.state.vec.as_flattened(), outcome.state.vec.as_flattened())
                .map(|(n, v)| (n as u16, v))
                .collect(),
            k: changes(&case.state.k, &outcome.state.k).map(|(n, v)| (n as u8, v)).collect(),
            control: (outcome.state.rip, outcome.state.rflags, outcome.state.mxcsr),
            bases: (outcome.state.fs_base, outcome.state.gs_base),
            x87: (outcome.state.x87 != case.state.x87).then_some(outcome.state.x87),
            written: runs(&before, data),
            picks_nan,
        }
    }

    /// The case it was made of.
    pub fn case(&self, program: &Program) -> Case {
        let mut background = [0; 64];
        background.copy_from_slice(&self.background);
        let memory = Memory { background, patches: self.patches.clone() };
        Case { program: program.clone(), state: self.state.clone(), memory }
    }

    /// The CPU's outcome, the data area included.
    pub fn outcome(&self, case: &Case) -> (Outcome, Vec<u8>) {
        let mut state = self.state.clone();
        for (n, v) in &self.gpr {
            state.gpr[usize::from(*n)] = *v;
        }
        for (n, v) in &self.vec {
            state.vec.as_flattened_mut()[usize::from(*n)] = *v;
        }
        for (n, v) in &self.k {
            state.k[usize::from(*n)] = *v;
        }
        (state.rip, state.rflags, state.mxcsr) = self.control;
        (state.fs_base, state.gs_base) = self.bases;
        state.x87 = self.x87.unwrap_or(state.x87);
        let mut data = vec![0; DATA_LEN];
        case.memory.write_to(&mut data);
        for (at, bytes) in &self.written {
            data[usize::from(*at)..][..bytes.len()].copy_from_slice(bytes);
        }
        (Outcome { end: self.end.clone(), state }, data)
    }
}

/// The words that a run changed.
fn changes(before: &[u64], after: &[u64]) -> impl Iterator<Item = (usize, u64)> {
    before.iter().zip(after).enumerate().filter(|(_, (b, a))| b != a).map(|(n, (_, a))| (n, *a))
}

/// The stretches in which two areas differ, with the second one's bytes.
fn runs(before: &[u8], after: &[u8]) -> Vec<(u16, Vec<u8>)> {
    const { assert!(DATA_LEN <= 1 << 16 && DATA < 1 << 32) };
    let mut runs: Vec<(u16, Vec<u8>)> = Vec::new();
    for at in (0..after.len()).filter(|i| before[*i] != after[*i]) {
        match runs.last_mut() {
            Some((start, bytes)) if usize::from(*start) + bytes.len() == at => bytes.push(after[at]),
            _ => runs.push((at as u16, vec![after[at]])),
        }
    }
    runs
}

//! Recorded cases: programs, states and what the CPU made of them, to be replayed where there is no x86-64 CPU.
//!
//! A record also holds tier 2 code for AArch64, compiled where LLVM is: the replaying side has none.

use serde::{Deserialize, Serialize};
use xlate_abi::protocol::Blob;

use super::arena::{DATA, DATA_LEN};
use super::case::{Case, End, Memory, Outcome, Program, State, X87};

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
    delta: Delta,
    /// Its result may differ from the CPU's in the choice between NaNs.
    pub picks_nan: bool,
}

impl Recorded {
    pub fn new(case: &Case, delta: Delta, picks_nan: bool) -> Self {
        Self {
            state: case.state.clone(),
            background: case.memory.background.to_vec(),
            patches: case.memory.patches.clone(),
            delta,
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
        self.delta.apply(case)
    }
}

/// How a case ended, and what the run changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delta {
    end: End,
    /// Indices and values.
    gpr: Vec<(u8, u64)>,
    /// Offsets in the vector and mask registers, laid out one after the other, and bytes.
    vectors: Vec<(u16, Vec<u8>)>,
    /// rip, rflags, mxcsr.
    control: (u64, u64, u32),
    /// Segment bases and x87 unit, if changed.
    bases: Option<(u64, u64)>,
    x87: Option<X87>,
    /// Offsets in the data area and bytes.
    written: Vec<(u16, Vec<u8>)>,
}

impl Delta {
    pub fn new(case: &Case, outcome: &Outcome, data: &[u8]) -> Self {
        let (before, after) = (&case.state, &outcome.state);
        let mut memory = vec![0; DATA_LEN];
        case.memory.write_to(&mut memory);
        let gpr = before.gpr.iter().zip(&after.gpr).enumerate().filter(|(_, (b, a))| b != a);
        let bases = (after.fs_base, after.gs_base);
        Self {
            end: outcome.end.clone(),
            gpr: gpr.map(|(n, (_, a))| (n as u8, *a)).collect(),
            vectors: runs(&vector_bytes(before), &vector_bytes(after)),
            control: (after.rip, after.rflags, after.mxcsr),
            bases: (bases != (before.fs_base, before.gs_base)).then_some(bases),
            x87: (after.x87 != before.x87).then_some(after.x87),
            written: runs(&memory, data),
        }
    }

    /// The outcome of the case it was made of, the data area included.
    pub fn apply(&self, case: &Case) -> (Outcome, Vec<u8>) {
        let mut state = case.state.clone();
        for (n, v) in &self.gpr {
            state.gpr[usize::from(*n)] = *v;
        }
        let mut vectors = vector_bytes(&state);
        overlay(&mut vectors, &self.vectors);
        set_vector_bytes(&mut state, &vectors);
        (state.rip, state.rflags, state.mxcsr) = self.control;
        (state.fs_base, state.gs_base) = self.bases.unwrap_or((state.fs_base, state.gs_base));
        state.x87 = self.x87.unwrap_or(state.x87);
        let mut data = vec![0; DATA_LEN];
        case.memory.write_to(&mut data);
        overlay(&mut data, &self.written);
        (Outcome { end: self.end.clone(), state }, data)
    }
}

/// The vector and mask registers, one after the other.
fn vector_bytes(state: &State) -> Vec<u8> {
    state.vec.as_flattened().iter().chain(&state.k).flat_map(|word| word.to_le_bytes()).collect()
}

fn set_vector_bytes(state: &mut State, bytes: &[u8]) {
    let words = state.vec.as_flattened_mut().iter_mut().chain(&mut state.k);
    for (word, bytes) in words.zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
}

fn overlay(area: &mut [u8], runs: &[(u16, Vec<u8>)]) {
    for (at, bytes) in runs {
        area[usize::from(*at)..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// Equal bytes between two stretches that are cheaper to keep than a new stretch.
const GAP: usize = 3;

/// The stretches in which two areas differ, with the second one's bytes.
fn runs(before: &[u8], after: &[u8]) -> Vec<(u16, Vec<u8>)> {
    const { assert!(DATA_LEN <= 1 << 16 && DATA < 1 << 32) };
    let mut runs: Vec<(u16, Vec<u8>)> = Vec::new();
    for at in (0..after.len()).filter(|i| before[*i] != after[*i]) {
        match runs.last_mut() {
            Some((start, bytes)) if usize::from(*start) + bytes.len() + GAP >= at => {
                let end = usize::from(*start) + bytes.len();
                bytes.extend_from_slice(&after[end..=at]);
            }
            _ => runs.push((at as u16, vec![after[at]])),
        }
    }
    runs
}

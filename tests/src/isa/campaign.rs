//! Drives the verification: worker processes run tasks, the supervisor adds up what they report, starts a new worker
//! when one dies and names the case it died of.

pub mod report;
pub mod supervisor;
pub mod worker;

use std::collections::BTreeMap;

use iced_x86::Code;
use serde::{Deserialize, Serialize};
use xlate_x86::isa;

use super::engines::Kind;
use super::exclusions;
use super::wrong::Wrong;

/// What to verify.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    pub seed: u64,
    /// Stop at the first end of a task after this many seconds.
    pub seconds: Option<u64>,
    /// Stop after this many rounds; a round is one program of every instruction.
    pub rounds: Option<u64>,
    /// Only instructions whose code name contains this.
    pub filter: Option<String>,
    pub engines: Vec<Kind>,
    /// Only blocks of several instructions.
    pub blocks_only: bool,
    /// Only the CPU, with every instruction that it has: implemented ones and others.
    pub native_only: bool,
    /// A mistake made on purpose: in the engines, or in the CPU's own outcome if there are none.
    pub wrong: Option<Wrong>,
    /// States for each program.
    pub states: u64,
    pub jobs: u64,
}

/// One unit of work: a program with its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Single {
        code: Code,
        round: u64,
    },
    /// The n-th block of several instructions.
    Block(u64),
}

/// What is known of one mismatch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mismatch {
    pub engine: Kind,
    pub text: String,
}

/// The result of one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TaskReport {
    /// States run natively.
    pub cases: u64,
    /// Cases compared, for each engine.
    pub compared: Vec<(Kind, u64)>,
    pub mismatches: Vec<Mismatch>,
    /// How the native cases ended.
    pub ends: BTreeMap<String, u64>,
    /// No program could be made.
    pub unencodable: bool,
}

/// What a worker says to the supervisor, one JSON object a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    Start(u64),
    Done(u64, TaskReport),
    /// Only when tracing: what is about to be run.
    Step(String),
}

/// Whether the decoder ever gives this code. In 64-bit mode branches have no 16-bit form: the operand-size prefix is
/// ignored, as Intel's processors do (Intel SDM vol. 2, JMP). FINIT and its like are FWAIT and another instruction.
fn decodable(code: Code) -> bool {
    use Code::{Call_rm16, Jmp_rm16, Retnw, Retnw_imm16};
    use iced_x86::OpCodeOperandKind as K;
    let narrow = matches!(code, Call_rm16 | Jmp_rm16 | Retnw | Retnw_imm16);
    !narrow
        && !code.op_code().fwait()
        && !code.op_code().op_kinds().iter().any(|k| matches!(k, K::br16_1 | K::br16_2 | K::brdisp_2 | K::brdisp_4))
}

/// Whether a name has all parts of a filter, which commas separate, but for those that begin with `!`: none of these.
fn is_wanted(name: &str, filter: &str) -> bool {
    filter.split(',').all(|part| match part.strip_prefix('!') {
        Some(unwanted) => !name.contains(unwanted),
        None => name.contains(part),
    })
}

/// The implemented instructions, sorted into those that are compared and those that can't be.
pub struct Plan {
    pub codes: Vec<Code>,
    pub excluded: Vec<(Code, &'static str)>,
    pub lacking: Vec<(Code, String)>,
    /// Tasks in a round: single instructions and blocks.
    singles: u64,
    blocks: u64,
}

impl Plan {
    pub fn new(options: &Options) -> Self {
        let filter = options.filter.as_deref();
        let mut plan = Self { codes: Vec::new(), excluded: Vec::new(), lacking: Vec::new(), singles: 0, blocks: 0 };
        for (code, implemented) in isa::codes() {
            let wanted = filter.is_none_or(|f| is_wanted(&format!("{code:?}").to_lowercase(), &f.to_lowercase()));
            if !wanted || !implemented && !options.native_only || !decodable(code) {
                continue;
            }
            let unsafe_here = if implemented { None } else { exclusions::not_native(code) };
            if let Some(reason) = exclusions::reason(code).or(unsafe_here) {
                plan.excluded.push((code, reason));
            } else if let Some(feature) = exclusions::missing_feature(code) {
                plan.lacking.push((code, format!("{feature:?}")));
            } else {
                plan.codes.push(code);
            }
        }
        let codes = plan.codes.len() as u64;
        plan.singles = if options.blocks_only { 0 } else { codes };
        plan.blocks = codes.div_ceil(5);
        plan
    }

    /// The instructions that programs of their own are made for.
    pub fn single_codes(&self) -> &[Code] {
        if self.singles == 0 { &[] } else { &self.codes }
    }

    /// The `n`-th task, or `None` if there is nothing to do at all.
    pub fn task(&self, n: u64) -> Option<Task> {
        let len = self.singles + self.blocks;
        let (round, k) = (n.checked_div(len)?, n.checked_rem(len)?);
        Some(match k.checked_sub(self.singles) {
            None => Task::Single { code: self.codes[k as usize], round },
            Some(k) => Task::Block(round * self.blocks + k),
        })
    }

    /// Tasks in `rounds` rounds.
    pub fn tasks(&self, rounds: u64) -> u64 {
        (self.singles + self.blocks) * rounds
    }
}

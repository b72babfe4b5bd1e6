//! A worker process: runs every `jobs`-th task from a given one on and reports each on its standard output.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{Message, Mismatch, Options, Plan, Task, TaskReport};
use crate::isa::arena::{Arena, DATA_LEN};
use crate::isa::case::{Case, End, Fault, Outcome, Program, X87};
use crate::isa::compare;
use crate::isa::engines::{self, Engine, Kind};
use crate::isa::excursion::{Excursions, extent};
use crate::isa::shrink::shrink;
use crate::isa::values::Rng;
use crate::isa::wrong::Wrong;
use crate::isa::{generate, states};

/// Mismatches of one task that are shrunk and described; any more are of the same kind most likely.
const DESCRIBED: usize = 2;

/// A worker's share of the work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub options: Options,
    /// The first task, and the distance to the next.
    pub first: u64,
    pub stride: u64,
    /// One past the last task, if there is an end.
    pub end: Option<u64>,
    /// Seconds left.
    pub seconds: Option<f64>,
    /// Say what is run before running it.
    pub trace: bool,
}

/// The engines with what they run in.
pub struct Bench {
    arena: Arena,
    excursions: Excursions,
    engines: Vec<(Kind, Box<dyn Engine>)>,
    initial: Vec<u8>,
    native_data: Vec<u8>,
    trace: bool,
    wrong: Option<Wrong>,
}

/// Runs the assignment to its end.
pub fn work(assignment: &Assignment) -> Result<()> {
    let plan = Plan::new(&assignment.options);
    let mut bench = Bench::new(&assignment.options.engines)?;
    (bench.trace, bench.wrong) = (assignment.trace, assignment.options.wrong);
    let started = Instant::now();
    let limit = assignment.seconds.map(Duration::from_secs_f64);
    let mut n = assignment.first;
    while assignment.end.is_none_or(|end| n < end) && limit.is_none_or(|l| started.elapsed() < l) {
        let Some(task) = plan.task(n) else { break };
        say(&Message::Start(n))?;
        let report = bench.task(task, &plan, &assignment.options);
        say(&Message::Done(n, report))?;
        n += assignment.stride;
    }
    Ok(())
}

fn say(message: &Message) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    std::io::stdout().lock().write_all(line.as_bytes()).map_err(|e| anyhow!("the supervisor is gone: {e}"))
}

impl Bench {
    pub fn new(kinds: &[Kind]) -> Result<Self> {
        Ok(Self {
            arena: Arena::map()?,
            excursions: Excursions::install()?,
            engines: kinds.iter().map(|kind| (*kind, kind.create())).collect(),
            initial: vec![0; DATA_LEN],
            native_data: vec![0; DATA_LEN],
            trace: false,
            wrong: None,
        })
    }

    fn task(&mut self, task: Task, plan: &Plan, options: &Options) -> TaskReport {
        let unencodable = || TaskReport { unencodable: true, ..TaskReport::default() };
        match task {
            Task::Single { code, round } => {
                let mut rng = Rng::new(&[options.seed, code as u64, round]);
                let Some(program) = generate::single(code, &mut rng) else { return unencodable() };
                self.program(&program, &mut rng, options.states, &|r| limited(states::single(&program, r)))
            }
            Task::Block(n) => {
                let mut rng = Rng::new(&[options.seed, u64::MAX, n]);
                let Some(block) = generate::block(&plan.codes, &mut rng) else { return TaskReport::default() };
                self.program(&block.program, &mut rng, options.states, &|r| limited(states::block(&block, r)))
            }
        }
    }

    /// Runs a program from several states through everything.
    fn program(&mut self, program: &Program, rng: &mut Rng, count: u64, make: &dyn Fn(&mut Rng) -> Case) -> TaskReport {
        let mut report = TaskReport::default();
        let mut engines = std::mem::take(&mut self.engines);
        let mut usable = Vec::new();
        for (kind, engine) in &mut engines {
            self.step(|| format!("{} translates\n{}", kind.name(), program.listing()));
            match engine.load(program) {
                Ok(()) => usable.push((*kind, engine)),
                Err(message) => report.mismatches.push(Mismatch {
                    engine: *kind,
                    text: format!("{}  can't be translated: {message}\n", program.listing()),
                }),
            }
            report.compared.push((*kind, 0));
        }
        for _ in 0..count {
            let case = make(rng);
            let native = self.native(&case);
            report.cases += 1;
            *report.ends.entry(kind_of(&native.end)).or_default() += 1;
            if let Some(wrong) = self.wrong.filter(|_| usable.is_empty()) {
                let found = self.misled(&case, &native, wrong);
                let text = found.iter().map(|line| format!("    {line}\n")).collect();
                report.mismatches.extend((!found.is_empty()).then_some(Mismatch { engine: Kind::Interpreter, text }));
            }
            for (kind, engine) in &mut usable {
                let found = self.differences(&case, &native, *kind, engine.as_mut());
                let tally = report.compared.iter_mut().find(|(k, _)| k == kind).expect("listed above");
                tally.1 += 1;
                if found.is_empty() || self.is_licensed(&case, *kind) {
                    continue;
                }
                let described = report.mismatches.iter().filter(|m| m.engine == *kind && !m.text.is_empty()).count();
                let text = if described < DESCRIBED {
                    let text = self.describe(&case, *kind, engine.as_mut());
                    // Describing has loaded smaller programs and run other cases.
                    engine.load(program).expect("it was loaded before");
                    self.native(&case);
                    text
                } else {
                    String::new()
                };
                report.mismatches.push(Mismatch { engine: *kind, text });
            }
        }
        drop(usable);
        self.engines = engines;
        report
    }

    /// Whether a block's result may differ because a floating-point multiplication in it meets two NaNs in
    /// a lane: found out by running the block up to each of them on the CPU.
    pub fn is_licensed(&mut self, case: &Case, kind: Kind) -> bool {
        if !kind.picks_nan() || case.program.insns.len() == 1 {
            return false;
        }
        let kept = self.native_data.clone();
        let met = (0..case.program.insns.len()).any(|n| {
            let i = case.program.insns[n];
            if !compare::chooses(&i) {
                return false;
            }
            let len = (i.ip() - case.program.address) as usize;
            let Some(program) = Program::new(case.program.address, case.program.bytes[..len].to_vec()) else {
                return false;
            };
            let before = self.native(&Case { program, ..case.clone() });
            compare::meets_two(&i, &before.state, &self.native_data)
        });
        self.native_data = kept;
        met
    }

    /// The data area as the last native run left it.
    pub fn native_data(&self) -> &[u8] {
        &self.native_data
    }

    fn step(&self, what: impl FnOnce() -> String) {
        if self.trace {
            // The trace only serves to name a case; if the supervisor is gone there's no one to read it.
            let _ = say(&Message::Step(what()));
        }
    }

    /// Runs a case on the CPU; the data area's final content goes to `native_data`.
    pub fn native(&mut self, case: &Case) -> Outcome {
        self.step(|| format!("native run of\n{}{}", case.program.listing(), describe_state(case)));
        case.memory.write_to(&mut self.initial);
        self.arena.data().copy_from_slice(&self.initial);
        self.arena.place(case.program.address, &case.program.bytes);
        let mut outcome = self.excursions.native(&case.state);
        compare::normalise(&mut outcome, &case.program);
        self.native_data.copy_from_slice(self.arena.data());
        outcome
    }

    /// Runs a case, that has just been run natively, through an engine that has loaded its program.
    fn differences(&mut self, case: &Case, native: &Outcome, kind: Kind, engine: &mut dyn Engine) -> Vec<String> {
        self.step(|| format!("{} runs\n{}{}", kind.name(), case.program.listing(), describe_state(case)));
        self.arena.data().copy_from_slice(&self.initial);
        let mut run = |case: &Case, excursions: &mut Excursions| engines::run(engine, case, excursions);
        let outcome = match self.wrong {
            None => run(case, &mut self.excursions),
            Some(wrong) => {
                let mut outcome = run(&wrong.before(case), &mut self.excursions);
                wrong.after(case, &mut outcome);
                outcome
            }
        };
        compare::differences(case, (native, &self.native_data), (&outcome, self.arena.data()), kind)
    }

    /// Runs a case on the CPU with a mistake, as if that were an engine.
    fn misled(&mut self, case: &Case, native: &Outcome, wrong: Wrong) -> Vec<String> {
        let right = self.native_data.clone();
        let mut outcome = self.native(&wrong.before(case));
        wrong.after(case, &mut outcome);
        let data = std::mem::replace(&mut self.native_data, right);
        compare::differences(case, (native, &self.native_data), (&outcome, &data), Kind::Interpreter)
    }

    /// Shrinks a failing case and tells all about it.
    fn describe(&mut self, case: &Case, kind: Kind, engine: &mut dyn Engine) -> String {
        let mut loaded = case.program.bytes.clone();
        let mut differing = |candidate: &Case| {
            if loaded != candidate.program.bytes {
                loaded.clone_from(&candidate.program.bytes);
                if let Err(message) = engine.load(&candidate.program) {
                    return vec![message];
                }
            }
            let native = self.native(candidate);
            if self.is_licensed(candidate, kind) {
                return Vec::new();
            }
            let found = self.differences(candidate, &native, kind, engine);
            found.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        // A case that fails in another way is another mistake.
        let original = differing(case);
        let case = shrink(case.clone(), &mut |candidate| differing(candidate) == original);
        if engine.load(&case.program).is_err() {
            return format!("{}  can't be translated any more\n", case.program.listing());
        }
        let native = self.native(&case);
        let found = self.differences(&case, &native, kind, engine);
        let mut text = case.program.listing();
        text += &describe_state(&case);
        text += &format!("    native end: {:?}\n", native.end);
        for line in found {
            text += &format!("    {line}\n");
        }
        text
    }
}

/// A case without what this machine doesn't have.
pub fn limited(mut case: Case) -> Case {
    extent().limit(&mut case.state);
    case
}

/// An end without its details.
fn kind_of(end: &End) -> String {
    match end {
        End::Fault(Fault::Page(_)) => "Page".to_owned(),
        End::Fault(fault) => format!("{fault:?}"),
        end => format!("{end:?}"),
    }
}

/// The parts of a state that aren't zero.
fn describe_state(case: &Case) -> String {
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    let state = &case.state;
    let mut text = format!(
        "    from: rflags={:#x} mxcsr={:#x} fs={:#x} gs={:#x}",
        state.rflags, state.mxcsr, state.fs_base, state.gs_base
    );
    for (name, value) in NAMES.iter().zip(state.gpr).filter(|(_, v)| *v != 0) {
        text += &format!(" {name}={value:#x}");
    }
    for (n, value) in state.vec.iter().enumerate().filter(|(_, v)| **v != [0; 8]) {
        let words: String = value.iter().rev().skip_while(|w| **w == 0).map(|w| format!("_{w:016x}")).collect();
        text += &format!(" zmm{n}={}", &words[1..]);
    }
    for (n, value) in state.k.iter().enumerate().filter(|(_, v)| **v != 0) {
        text += &format!(" k{n}={value:#x}");
    }
    if state.x87 != X87::INITIAL {
        text += &format!(" {:x?}", state.x87);
    }
    text.push('\n');
    for i in &case.program.insns {
        let Some(at) = states::operand_address(i, state) else { continue };
        if let Some(bytes) = case.memory.read(at, i.memory_size().size().min(64)) {
            text += &format!("    memory at {at:#x}: {bytes:02x?}\n");
        }
    }
    text
}

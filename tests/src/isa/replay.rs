//! Replays recorded cases on this host: interpreter, baseline, and the tier 2 code in the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, bail};

use super::arena::Arena;
use super::case::Program;
use super::compare;
use super::corpus::Corpus;
use super::engines::{self, Engine, Kind, Recorded as RecordedCode};
use super::excursion::Excursions;
use super::record::{BLOCK, Recording};

/// Mismatches of each instruction and engine that are told in full.
const SHOWN: u64 = 2;

/// What came out.
#[derive(Default)]
pub struct Summary {
    pub programs: u64,
    pub cases: u64,
    /// By engine: compared, different. All of this host's are in it.
    pub engines: BTreeMap<&'static str, (u64, u64)>,
    codes: BTreeSet<String>,
    different: BTreeMap<(String, &'static str), u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (compared, different)) in &self.engines {
            writeln!(f, "{name:<18} {compared} cases compared, {different} mismatches")?;
        }
        writeln!(
            f,
            "{} codes, {} programs, {} cases replayed on {}, {} mismatches",
            self.codes(),
            self.programs,
            self.cases,
            std::env::consts::ARCH,
            self.mismatches()
        )
    }
}

impl Summary {
    /// Every engine ran something, and nothing differs.
    pub fn is_clean(&self) -> bool {
        self.engines.values().all(|(compared, different)| *compared > 0 && *different == 0)
    }

    /// Instruction codes that a program of their own was replayed for.
    pub fn codes(&self) -> usize {
        self.codes.len()
    }

    pub fn mismatches(&self) -> u64 {
        self.engines.values().map(|(_, different)| different).sum()
    }
}

/// What the recorded cases run in.
struct Replayer {
    arena: Arena,
    excursions: Excursions,
    engines: Vec<(Kind, Box<dyn Engine>)>,
    /// The record's tier 2 code is for AArch64: elsewhere there is none.
    recorded: Vec<(Kind, RecordedCode)>,
}

/// Replays a whole record; differences are printed.
pub fn replay(from: &mut dyn Read) -> Result<Summary> {
    let tier2: &[Kind] = if cfg!(target_arch = "aarch64") { &[Kind::Optimized, Kind::OptimizedPrecise] } else { &[] };
    let (mut replayer, mut summary) =
        Replayer::new(&[Kind::Interpreter, Kind::Baseline, Kind::BaselinePrecise], tier2)?;
    while let Some(recording) = next(from)? {
        replayer.one(&recording, &mut summary)?;
    }
    Ok(summary)
}

/// Replays a corpus on engines of this host; differences are printed.
pub fn replay_corpus(corpus: &Corpus, kinds: &[Kind]) -> Result<Summary> {
    let (mut replayer, mut summary) = Replayer::new(kinds, &[])?;
    for entry in &corpus.entries {
        replayer.one(&entry.recording()?, &mut summary)?;
    }
    Ok(summary)
}

fn next(from: &mut dyn Read) -> Result<Option<Recording>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e).context("reading the record"),
    }
    let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
    from.read_exact(&mut bytes).context("the record ends in the middle of a program")?;
    Ok(Some(postcard::from_bytes(&bytes).context("the record is damaged")?))
}

impl Replayer {
    /// With engines of this host, and others whose code is in the record.
    fn new(kinds: &[Kind], recorded: &[Kind]) -> Result<(Self, Summary)> {
        let replayer = Self {
            arena: Arena::map()?,
            excursions: Excursions::install()?,
            engines: kinds.iter().map(|k| (*k, k.create())).collect(),
            recorded: recorded.iter().map(|k| (*k, RecordedCode::default())).collect(),
        };
        let all = kinds.iter().chain(recorded);
        let summary = Summary { engines: all.map(|k| (k.name(), (0, 0))).collect(), ..Summary::default() };
        Ok((replayer, summary))
    }

    fn one(&mut self, recording: &Recording, summary: &mut Summary) -> Result<()> {
        let Some(program) = Program::new(recording.address, recording.bytes.clone()) else {
            bail!("the recorded program for {} doesn't decode", recording.name);
        };
        for ((_, engine), blobs) in self.recorded.iter_mut().zip([&recording.blobs, &recording.precise_blobs]) {
            engine.set_blobs(blobs);
        }
        let Self { arena, excursions, engines, recorded } = self;
        summary.programs += 1;
        summary.cases += recording.cases.len() as u64;
        if recording.name != BLOCK {
            summary.codes.insert(recording.name.clone());
        }
        let all = engines.iter_mut().map(|(k, e)| (*k, e.as_mut()));
        for (kind, engine) in all.chain(recorded.iter_mut().map(|(k, e)| (*k, e as &mut dyn Engine))) {
            // A compiler's panic has told about itself; this says what it was compiling.
            let loaded = catch_unwind(AssertUnwindSafe(|| engine.load(&program)));
            if let Err(message) = loaded.unwrap_or_else(|_| Err("the engine panics".to_owned())) {
                println!("MISMATCH {} {}\n{}    {message}", kind.name(), recording.name, program.listing());
                summary.engines.entry(kind.name()).or_default().1 += 1;
                continue;
            }
            for recorded in &recording.cases {
                let case = recorded.case(&program);
                let (outcome, data) = recorded.outcome(&case);
                case.memory.write_to(arena.data());
                let ours = engines::run(engine, &case, excursions);
                let found = compare::differences(&case, (&outcome, &data), (&ours, arena.data()), kind);
                let tally = summary.engines.entry(kind.name()).or_default();
                tally.0 += 1;
                if found.is_empty() || kind.picks_nan() && recorded.picks_nan {
                    continue;
                }
                tally.1 += 1;
                let count = summary.different.entry((recording.name.clone(), kind.name())).or_default();
                *count += 1;
                if *count <= SHOWN {
                    let lines: String = found.iter().map(|line| format!("    {line}\n")).collect();
                    println!(
                        "MISMATCH {} {}\n{}    from {:x?}",
                        kind.name(),
                        recording.name,
                        program.listing(),
                        case.state
                    );
                    println!("    native end: {:?}\n{lines}", outcome.end);
                }
            }
        }
        Ok(())
    }
}

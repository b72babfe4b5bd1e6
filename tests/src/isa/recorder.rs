//! Makes the record that is replayed on AArch64: see [`super::record`].

use std::io::Write;

use anyhow::{Context, Result, ensure};
use iced_x86::Code;
use xlate_abi::protocol::{Arch, Blob, CodeOptions, OptLevel, Target};
use xlate_llvm::{Region, compile_region};

use super::campaign::worker::{Bench, limited};
use super::campaign::{Options, Plan, Task};
use super::case::{Extent, Program};
use super::corpus::{Corpus, Entry, Known};
use super::engines::{Kind, reachable};
use super::excursion::extent;
use super::record::{BLOCK, Delta, Recorded, Recording};
use super::values::Rng;
use super::{generate, states};

/// Records every task of the options' rounds. Gives the number of cases.
pub fn record(options: &Options, rounds: u64, to: &mut dyn Write) -> Result<u64> {
    let plan = Plan::new(options);
    let mut bench = Bench::new(&[])?;
    let mut cases = 0;
    for n in 0..plan.tasks(rounds) {
        let Some(task) = plan.task(n) else { break };
        let Some(recording) = one(task, &plan, options, &mut bench)? else { continue };
        cases += recording.cases.len() as u64;
        write(&recording, to)?;
    }
    Ok(cases)
}

fn write(recording: &Recording, to: &mut dyn Write) -> Result<()> {
    let bytes = postcard::to_stdvec(recording)?;
    to.write_all(&(bytes.len() as u32).to_le_bytes())?;
    Ok(to.write_all(&bytes)?)
}

/// Makes a corpus of AVX-512 instructions, or of those that the options' filter names.
pub fn corpus(options: &Options, rounds: u64) -> Result<Corpus> {
    ensure!(extent() == Extent::FULL, "this CPU has no AVX-512: it can't write the corpus");
    let plan = Plan::new(options);
    let mut bench = Bench::new(&[])?;
    let mut corpus = Corpus::default();
    let wide = |code: &Code| code.cpuid_features().iter().any(|f| format!("{f:?}").starts_with("AVX512"));
    for code in plan.codes.iter().filter(|code| options.filter.is_some() || wide(code)) {
        for round in 0..rounds {
            let mut rng = Rng::new(&[options.seed, *code as u64, round]);
            let program = generate::single(*code, &mut rng).with_context(|| format!("no encoding for {code:?}"))?;
            let seed = rng.next_u64() as u32;
            let entry = Entry::new(format!("{code:?}"), &program, seed, options.states, &mut |case| {
                let outcome = bench.native(case);
                let delta = Delta::new(case, &outcome, bench.native_data());
                Known { delta, picks_nan: bench.is_licensed(case, Kind::Optimized) }
            });
            corpus.entries.push(entry?);
        }
    }
    ensure!(!corpus.entries.is_empty(), "no implemented instruction is meant");
    Ok(corpus)
}

/// Makes a record for AArch64 of a corpus. Needs no CPU that has the instructions. Gives the number of cases.
pub fn record_corpus(corpus: &Corpus, to: &mut dyn Write) -> Result<u64> {
    let mut cases = 0;
    for entry in &corpus.entries {
        let mut recording = entry.recording()?;
        let program = Program::new(recording.address, recording.bytes.clone()).context("it decoded before")?;
        (recording.blobs, recording.precise_blobs) = (compile(&program, false)?, compile(&program, true)?);
        cases += recording.cases.len() as u64;
        write(&recording, to)?;
    }
    Ok(cases)
}

/// `None` for a block that hardly any of the instructions can be in.
fn one(task: Task, plan: &Plan, options: &Options, bench: &mut Bench) -> Result<Option<Recording>> {
    let (name, program, mut rng, block) = match task {
        Task::Single { code, round } => {
            let mut rng = Rng::new(&[options.seed, code as u64, round]);
            let program = generate::single(code, &mut rng).with_context(|| format!("no encoding for {code:?}"))?;
            (format!("{code:?}"), program, rng, None)
        }
        Task::Block(n) => {
            let mut rng = Rng::new(&[options.seed, u64::MAX, n]);
            let Some(block) = generate::block(&plan.codes, &mut rng) else { return Ok(None) };
            (BLOCK.to_owned(), block.program.clone(), rng, Some(block))
        }
    };
    let cases = (0..options.states).map(|_| {
        let case = match &block {
            None => states::single(&program, &mut rng),
            Some(block) => states::block(block, &mut rng),
        };
        let case = limited(case);
        let outcome = bench.native(&case);
        let data = bench.native_data().to_vec();
        let picks_nan = bench.is_licensed(&case, Kind::Optimized);
        Recorded::new(&case, Delta::new(&case, &outcome, &data), picks_nan)
    });
    let cases = cases.collect();
    let (blobs, precise_blobs) = (compile(&program, false)?, compile(&program, true)?);
    let (address, bytes) = (program.address, program.bytes.clone());
    Ok(Some(Recording { name, address, bytes, blobs, precise_blobs, cases }))
}

/// Tier 2 code for AArch64, one blob for each block as the entry.
fn compile(program: &Program, precise: bool) -> Result<Vec<Blob>> {
    let target = Target { arch: Arch::Aarch64, cpu: String::new(), features: String::new() };
    let options = CodeOptions { opt: OptLevel::O2, precise, tso: false };
    let blocks = reachable(program, precise);
    let compile = |entry: u64| {
        compile_region(&Region::of(entry, blocks.iter().cloned()), &target, options)
            .with_context(|| format!("for AArch64:\n{}", program.listing()))
    };
    blocks.iter().map(|b| compile(b.pc)).collect()
}

//! A corpus: recorded outcomes of a CPU that has instructions which others lack, small enough to keep. A state is a
//! function of its seed, so only the seed is kept, and a hash that tells if the generator of states has become another.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::case::{Case, Program};
use super::record::{Delta, Recorded, Recording};
use super::states;
use super::values::Rng;

/// Changes whenever the form of the file does.
const FORM: u32 = 1;

/// Programs of one instruction each, with what the CPU made of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Corpus {
    form: u32,
    pub entries: Vec<Entry>,
}

impl Default for Corpus {
    fn default() -> Self {
        Self { form: FORM, entries: Vec::new() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The instruction's code.
    pub name: String,
    address: u64,
    bytes: Vec<u8>,
    known: Vec<Known>,
}

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    seed: u64,
    hash: u64,
    delta: Delta,
    picks_nan: bool,
}

/// The case of a program that belongs to a seed.
pub fn case(program: &Program, seed: u64) -> Case {
    states::single(program, &mut Rng::new(&[seed]))
}

impl Entry {
    pub fn new(name: String, program: &Program) -> Self {
        Self { name, address: program.address, bytes: program.bytes.clone(), known: Vec::new() }
    }

    /// Adds the case of a seed.
    pub fn add(&mut self, seed: u64, case: &Case, delta: Delta, picks_nan: bool) -> Result<()> {
        self.known.push(Known { seed, hash: hash(case)?, delta, picks_nan });
        Ok(())
    }

    /// The cases in full, without code of tier 2.
    pub fn recording(&self) -> Result<Recording> {
        let Some(program) = Program::new(self.address, self.bytes.clone()) else {
            bail!("the program for {} in the corpus doesn't decode", self.name);
        };
        let mut cases = Vec::new();
        for known in &self.known {
            let case = case(&program, known.seed);
            ensure!(
                hash(&case)? == known.hash,
                "the corpus is of another generator of states ({}): write it anew on a CPU that has the instructions",
                self.name
            );
            cases.push(Recorded::new(&case, known.delta.clone(), known.picks_nan));
        }
        let (blobs, precise_blobs) = (Vec::new(), Vec::new());
        Ok(Recording {
            name: self.name.clone(),
            address: self.address,
            bytes: self.bytes.clone(),
            blobs,
            precise_blobs,
            cases,
        })
    }
}

impl Corpus {
    pub fn write_to(&self, to: &mut dyn Write) -> Result<()> {
        to.write_all(&postcard::to_stdvec(self)?).context("can't write the corpus")
    }

    pub fn read_from(from: &mut dyn Read) -> Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).context("can't read the corpus")?;
        let corpus: Self = postcard::from_bytes(&bytes).context("this is no corpus, or a damaged one")?;
        ensure!(corpus.form == FORM, "the corpus has form {}, this program reads {FORM}", corpus.form);
        Ok(corpus)
    }
}

/// FNV-1a of a case's state and memory.
fn hash(case: &Case) -> Result<u64> {
    let bytes = postcard::to_stdvec(&(&case.state, case.memory.background.to_vec(), &case.memory.patches))?;
    Ok(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

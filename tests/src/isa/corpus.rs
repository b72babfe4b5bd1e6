//! A corpus: recorded outcomes of a CPU that has instructions which others lack, small enough to keep. A state is a
//! function of its seed, so only the seed is kept, and a hash that tells if the generator of states has become another.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use crc::Crc;
use serde::{Deserialize, Serialize};

use super::case::{Case, Program};
use super::record::{Delta, Recorded, Recording};
use super::states;
use super::values::Rng;

/// Changes whenever the form of the file does.
const FORM: u32 = 1;

/// Stands at the end of the file: not every damage would show as another outcome.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

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

/// A program and its cases: the `n`-th belongs to the seed and `n`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The instruction's code.
    name: String,
    address: u64,
    bytes: Vec<u8>,
    seed: u32,
    /// Of all cases.
    hash: u32,
    known: Vec<Known>,
}

/// The outcome of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known {
    pub delta: Delta,
    /// It may differ in the choice between NaNs.
    pub picks_nan: bool,
}

impl Entry {
    /// An entry of so many cases, each with the outcome that `run` finds.
    pub fn new(
        name: String,
        program: &Program,
        seed: u32,
        cases: u64,
        run: &mut dyn FnMut(&Case) -> Known,
    ) -> Result<Self> {
        let (mut hash, mut known) = (HASH_START, Vec::new());
        for case in cases_of(program, seed, cases) {
            hash = add_to_hash(hash, &case)?;
            known.push(run(&case));
        }
        Ok(Self { name, address: program.address, bytes: program.bytes.clone(), seed, hash: hash as u32, known })
    }

    /// The cases in full, without code of tier 2.
    pub fn recording(&self) -> Result<Recording> {
        let Some(program) = Program::new(self.address, self.bytes.clone()) else {
            bail!("the program for {} in the corpus doesn't decode", self.name);
        };
        let (mut hash, mut cases) = (HASH_START, Vec::new());
        for (case, known) in cases_of(&program, self.seed, self.known.len() as u64).zip(&self.known) {
            hash = add_to_hash(hash, &case)?;
            cases.push(Recorded::new(&case, known.delta.clone(), known.picks_nan));
        }
        ensure!(
            hash as u32 == self.hash,
            "the corpus is of another generator of states ({}): write it anew on a CPU that has the instructions",
            self.name
        );
        let (name, address, bytes) = (self.name.clone(), self.address, self.bytes.clone());
        Ok(Recording { name, address, bytes, blobs: Vec::new(), precise_blobs: Vec::new(), cases })
    }
}

fn cases_of(program: &Program, seed: u32, count: u64) -> impl Iterator<Item = Case> {
    (0..count).map(move |n| states::single(program, &mut Rng::new(&[u64::from(seed), n])))
}

impl Corpus {
    pub fn write_to(&self, to: &mut dyn Write) -> Result<()> {
        to.write_all(&postcard::to_stdvec_crc32(self, CHECKSUM.digest())?).context("can't write the corpus")
    }

    pub fn read_from(from: &mut dyn Read) -> Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).context("can't read the corpus")?;
        let corpus: Self =
            postcard::from_bytes_crc32(&bytes, CHECKSUM.digest()).context("this is no corpus, or a damaged one")?;
        ensure!(corpus.form == FORM, "the corpus has form {}, this program reads {FORM}", corpus.form);
        Ok(corpus)
    }
}

/// FNV-1a.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Adds a case's state and memory.
fn add_to_hash(hash: u64, case: &Case) -> Result<u64> {
    let bytes = postcard::to_stdvec(&(&case.state, case.memory.background.to_vec(), &case.memory.patches))?;
    Ok(bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

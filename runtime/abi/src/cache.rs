//! The persistent cache of translated code: the form of its files, which the service writes and the guest's process
//! reads.
//!
//! One file holds the regions of one program (`program`) for one *context*: the translator's build, the target
//! processor and the level of optimisation. It consists of
//!
//! | at | length | what |
//! |---|---|---|
//! | 0 | [`HEADER_LEN`] | [`Header`], with a checksum |
//! | [`HEADER_LEN`] | capacity × [`ROW_LEN`] | the index: [`Row`]s in the order of their making; unused ones are zero |
//! | behind | any | records, each where its row says: the guest's code and the [`Blob`] made from it |
//!
//! A file only grows: a record is written at its end, then its row into the first free place, both under an exclusive
//! lock of the file. What is to become smaller is written anew and takes the old one's place by `rename`. So a reader
//! needs no lock: a row that isn't complete has a wrong checksum, and a row is complete only after its record.
//! Nothing is trusted: headers, rows and records carry checksums, and a record is used only where guest memory
//! holds, byte by byte, what it was made from.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::protocol::{Blob, CodeBytes, CodeOptions};

/// Version of the form described here.
pub const VERSION: u32 = 4;
/// How the names of cache files end.
pub const SUFFIX: &str = ".regions";
/// How the names of half-written files begin; a rename takes them away.
pub const TEMPORARY: &str = ".xlate-new-";
pub const HEADER_LEN: usize = 4096;
pub const ROW_LEN: usize = 48;
/// Longest name of a program that a header keeps; longer ones lose their beginning.
const MAX_NAME: usize = 2048;
/// A row that claims a longer record is damaged.
const MAX_RECORD: u32 = 64 << 20;
/// An index can't be larger.
const MAX_CAPACITY: u32 = 1 << 20;
/// Regions kept for one address and one set of options: other libraries may have lain there in other runs.
pub const MAX_VARIANTS: usize = 4;

const MAGIC: [u8; 8] = *b"xlate-rg";
const FIXED: usize = 8 + 4 + 4 + 8 + 4;

/// Why a file, or a part of it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("not a cache file of this version")]
    Foreign,
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// The checksum of files' parts.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// What a file is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Hash of all that makes code fit or not: translator, target processor, optimisation.
    pub context: u64,
    /// The program's path, for reports.
    pub program: Vec<u8>,
    /// Rows that the index has room for.
    pub capacity: u32,
}

impl Header {
    pub fn new(context: u64, program: &[u8], capacity: u32) -> Self {
        let program = program[program.len().saturating_sub(MAX_NAME)..].to_vec();
        Self { context, program, capacity }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.capacity.to_le_bytes());
        bytes.extend(self.context.to_le_bytes());
        bytes.extend((self.program.len() as u32).to_le_bytes());
        bytes.extend(&self.program);
        bytes.resize(HEADER_LEN - 8, 0);
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(CacheError::Damaged("its header is cut off"))?;
        if bytes[..8] != MAGIC || word(bytes, 8) != VERSION {
            return Err(CacheError::Foreign);
        }
        if long(bytes, HEADER_LEN - 8) != checksum(&bytes[..HEADER_LEN - 8]) {
            return Err(CacheError::Damaged("its header's checksum is wrong"));
        }
        let capacity = word(bytes, 12);
        let program = bytes.get(FIXED..FIXED + word(bytes, 24) as usize);
        match program {
            Some(program) if capacity <= MAX_CAPACITY => {
                Ok(Self { context: long(bytes, 16), program: program.to_vec(), capacity })
            }
            _ => Err(CacheError::Damaged("its header makes no sense")),
        }
    }

    /// Where records begin.
    pub fn records_start(&self) -> u64 {
        (HEADER_LEN + self.capacity as usize * ROW_LEN) as u64
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

/// Which code a region is: [`Row::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    const PRECISE: u32 = 1;
    const TSO: u32 = 2;
    const UNPROFILED: u32 = 4;

    /// `profiled`: tier 1 had counted what runs often before the region was formed.
    pub fn new(options: CodeOptions, profiled: bool) -> Self {
        let bit = |on, bit| if on { bit } else { 0 };
        Self(bit(options.precise, Self::PRECISE) | bit(options.tso, Self::TSO) | bit(!profiled, Self::UNPROFILED))
    }

    /// Whether the code may be run under these options.
    pub fn serve(self, options: CodeOptions) -> bool {
        Self(self.0 & !Self::UNPROFILED) == Self::new(options, true)
    }

    pub fn is_profiled(self) -> bool {
        self.0 & Self::UNPROFILED == 0
    }
}

/// One region in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The region's entry.
    pub pc: u64,
    /// Where its record stands in the file.
    pub offset: u64,
    pub len: u32,
    pub flags: Flags,
    /// Hash of the guest's code it was made from.
    pub source: u64,
    /// The record's checksum.
    pub sum: u64,
}

impl Row {
    pub fn encode(&self) -> [u8; ROW_LEN] {
        let mut bytes = [0; ROW_LEN];
        bytes[..8].copy_from_slice(&self.pc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.flags.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.source.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sum.to_le_bytes());
        let sum = checksum(&bytes[..40]);
        bytes[40..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` for a damaged or half-written row.
    pub fn decode(bytes: &[u8; ROW_LEN]) -> Option<Self> {
        let row = Self {
            pc: long(bytes, 0),
            offset: long(bytes, 8),
            len: word(bytes, 16),
            flags: Flags(word(bytes, 20)),
            source: long(bytes, 24),
            sum: long(bytes, 32),
        };
        (long(bytes, 40) == checksum(&bytes[..40]) && row.len <= MAX_RECORD).then_some(row)
    }
}

/// A file's header and index.
#[derive(Clone, Debug)]
pub struct Index {
    pub header: Header,
    /// The intact rows, oldest first.
    pub rows: Vec<Row>,
    /// Rows in use, damaged ones included: the next one's number.
    pub used: u32,
}

/// Rows that are read at once: most indices are shorter.
const CHUNK: usize = 256;

impl Index {
    /// Reads header and index.
    pub fn read(file: &File) -> Result<Self, CacheError> {
        let mut buffer = vec![0; HEADER_LEN + CHUNK * ROW_LEN];
        let have = read_some(file, &mut buffer, 0)?;
        let header = Header::decode(&buffer[..have])?;
        let mut index = Self { header, rows: Vec::new(), used: 0 };
        let mut chunk = &buffer[HEADER_LEN..have];
        let mut next;
        loop {
            let room = (index.header.capacity - index.used) as usize;
            let (rows, _) = chunk.as_chunks::<ROW_LEN>();
            let rows = &rows[..rows.len().min(room)];
            if index.take(rows) < rows.len() || rows.len() < CHUNK {
                return Ok(index);
            }
            next = vec![0; CHUNK * ROW_LEN];
            let have = read_some(file, &mut next, index.next_row())?;
            chunk = &next[..have];
        }
    }

    /// Where the next row is to be written.
    pub fn next_row(&self) -> u64 {
        (HEADER_LEN + self.used as usize * ROW_LEN) as u64
    }

    /// Whether the index has no room left.
    pub fn is_full(&self) -> bool {
        self.used >= self.header.capacity
    }

    /// Takes rows over up to the first free one; says how many.
    fn take(&mut self, rows: &[[u8; ROW_LEN]]) -> usize {
        let used = rows.iter().take_while(|row| **row != [0; ROW_LEN]).count();
        self.used += used as u32;
        self.rows.extend(rows[..used].iter().filter_map(Row::decode));
        used
    }

    /// The rows that count, newest first: a later one stands for an earlier one of the same code, and only so many
    /// of one address are kept.
    pub fn live(&self) -> Vec<Row> {
        let mut seen: HashMap<(u64, Flags), Vec<u64>> = HashMap::new();
        let newest_first = self.rows.iter().rev();
        let counts = newest_first.filter(|row| {
            let variants = seen.entry((row.pc, row.flags)).or_default();
            let new = variants.len() < MAX_VARIANTS && !variants.contains(&row.source);
            variants.push(row.source);
            new
        });
        counts.copied().collect()
    }
}

fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Reads a row's record and checks that it is what was written.
pub fn read_record(file: &File, row: &Row) -> Result<Vec<u8>, CacheError> {
    let mut bytes = vec![0; row.len as usize];
    if read_some(file, &mut bytes, row.offset)? != bytes.len() {
        return Err(CacheError::Damaged("a record is cut off"));
    }
    if checksum(&bytes) != row.sum {
        return Err(CacheError::Damaged("a record's checksum is wrong"));
    }
    Ok(bytes)
}

/// A stretch of the guest's code, or of constants that it reads, in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code<'a> {
    pub address: u64,
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// What is kept of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// All guest code and constants that the translator looked at. It fits only where memory holds the same.
    #[serde(borrow)]
    pub code: Vec<Code<'a>>,
    pub blob: Blob,
}

impl<'a> Record<'a> {
    pub fn new(looked_at: impl IntoIterator<Item = &'a CodeBytes>, blob: Blob) -> Self {
        let code = looked_at.into_iter().map(|c| Code { address: c.address, bytes: &c.bytes }).collect();
        Self { code, blob }
    }

    pub fn encode(&self) -> Result<Vec<u8>, CacheError> {
        postcard::to_stdvec(self).map_err(|_| CacheError::Damaged("a record can't be encoded"))
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, CacheError> {
        postcard::from_bytes(bytes).map_err(|_| CacheError::Damaged("a record makes no sense"))
    }

    /// [`Row::source`].
    pub fn source(&self) -> u64 {
        let mut hasher = XxHash3_64::new();
        for code in &self.code {
            hasher.write(&code.address.to_le_bytes());
            hasher.write(&(code.bytes.len() as u64).to_le_bytes());
            hasher.write(code.bytes);
        }
        hasher.finish()
    }
}

#[cfg(test)]
#[path = "cache/tests.rs"]
mod tests;

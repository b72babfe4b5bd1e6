//! The persistent cache's second kind of file: tier 1's code of single blocks, which the guest's process both writes
//! and reads. The service has no part in it.
//!
//! One file holds the blocks of one program for one context, as [`crate::cache`] has them:
//!
//! | at | length | what |
//! |---|---|---|
//! | 0 | [`HEADER_LEN`] | magic number, version, context, length of the program's name, number of rows, checksums |
//! | behind | any | the program's path, for reports |
//! | behind | rows × [`ROW_LEN`] | the index: [`Row`]s in the order of their addresses |
//! | behind | any | records, each where its row says |
//!
//! A file is never changed: another takes its place by `rename`, so a reader needs no lock, and one that was mapped stays
//! as it is. The header's checksum covers header, name and index; each row has its record's.

use crate::cache::{CacheError, checksum};

/// Version of the form described here and of the records' content.
pub const VERSION: u32 = 1;
/// How the names of these files end.
pub const SUFFIX: &str = ".blocks";
pub const HEADER_LEN: usize = 48;
pub const ROW_LEN: usize = 24;

const MAGIC: [u8; 8] = *b"xlate-bk";
/// Where the header's own checksum stands.
const SUM: usize = HEADER_LEN - 8;

/// One block in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The block's address; blocks of other libraries may have lain there, too, so it isn't unique.
    pub pc: u64,
    /// Where its record stands in the file.
    pub offset: u32,
    pub len: u32,
    /// The record's checksum.
    pub sum: u64,
}

/// What a file begins with, found sound.
#[derive(Clone, Copy, Debug)]
pub struct Index<'f> {
    pub context: u64,
    pub program: &'f [u8],
    rows: &'f [u8],
    file: &'f [u8],
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

impl<'f> Index<'f> {
    /// Reads a file's index.
    pub fn read(file: &'f [u8]) -> Result<Self, CacheError> {
        let header = file.get(..HEADER_LEN).ok_or(CacheError::Damaged("its header is cut off"))?;
        if header[..8] != MAGIC || word(header, 8) != VERSION {
            return Err(CacheError::Foreign);
        }
        let (name, count) = (word(header, 12) as usize, word(header, 24) as usize);
        let rows = HEADER_LEN + name;
        let end = count.checked_mul(ROW_LEN).and_then(|len| rows.checked_add(len));
        let end = end.filter(|end| *end <= file.len()).ok_or(CacheError::Damaged("its index is cut off"))?;
        let behind = checksum(&file[HEADER_LEN..end]);
        if long(header, 32) != behind || long(header, SUM) != checksum(&header[..SUM]) {
            return Err(CacheError::Damaged("its index's checksum is wrong"));
        }
        Ok(Self { context: long(header, 16), program: &file[HEADER_LEN..rows], rows: &file[rows..end], file })
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.rows.len() / ROW_LEN
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row(&self, n: usize) -> Row {
        let at = n * ROW_LEN;
        Row {
            pc: long(self.rows, at),
            offset: word(self.rows, at + 8),
            len: word(self.rows, at + 12),
            sum: long(self.rows, at + 16),
        }
    }

    /// All rows, by address.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows_from(0)
    }

    /// The rows from one on.
    pub fn rows_from(&self, first: usize) -> impl Iterator<Item = Row> {
        (first..self.len()).map(|n| self.row(n))
    }

    /// A row's record; `None` if it is damaged.
    pub fn record(&self, row: &Row) -> Option<&'f [u8]> {
        let start = row.offset as usize;
        let record = self.file.get(start..start.checked_add(row.len as usize)?)?;
        (checksum(record) == row.sum).then_some(record)
    }
}

/// A whole file of these records, each with its block's address.
pub fn encode(context: u64, program: &[u8], records: &[(u64, &[u8])]) -> Vec<u8> {
    let mut order: Vec<&(u64, &[u8])> = records.iter().collect();
    order.sort_by_key(|(pc, _)| *pc);
    let start = HEADER_LEN + program.len() + order.len() * ROW_LEN;
    let mut file = vec![0; HEADER_LEN];
    file.reserve(start + records.iter().map(|(_, record)| record.len()).sum::<usize>());
    file.extend(program);
    let mut offset = start;
    for (pc, record) in &order {
        file.extend(pc.to_le_bytes());
        file.extend((offset as u32).to_le_bytes());
        file.extend((record.len() as u32).to_le_bytes());
        file.extend(checksum(record).to_le_bytes());
        offset += record.len();
    }
    let behind = checksum(&file[HEADER_LEN..]);
    file[..8].copy_from_slice(&MAGIC);
    file[8..12].copy_from_slice(&VERSION.to_le_bytes());
    file[12..16].copy_from_slice(&(program.len() as u32).to_le_bytes());
    file[16..24].copy_from_slice(&context.to_le_bytes());
    file[24..28].copy_from_slice(&(order.len() as u32).to_le_bytes());
    file[32..40].copy_from_slice(&behind.to_le_bytes());
    let sum = checksum(&file[..SUM]);
    file[SUM..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
    for (_, record) in order {
        file.extend(*record);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        encode(7, b"/bin/p", &[(0x30, b"three"), (0x10, b"one"), (0x30, b"other"), (0x20, b"")])
    }

    #[test]
    fn records_come_in_the_order_of_their_addresses() {
        let file = file();
        let index = Index::read(&file).unwrap();
        assert_eq!((index.context, index.program, index.len()), (7, &b"/bin/p"[..], 4));
        let all: Vec<(u64, &[u8])> = index.rows().map(|row| (row.pc, index.record(&row).unwrap())).collect();
        assert_eq!(all, [(0x10, &b"one"[..]), (0x20, b""), (0x30, b"three"), (0x30, b"other")]);
        assert!(index.rows_from(2).map(|row| row.pc).eq([0x30, 0x30]) && index.rows_from(4).next().is_none());
    }

    #[test]
    fn an_empty_file_is_sound() {
        let file = encode(1, b"", &[]);
        assert!(Index::read(&file).unwrap().is_empty());
    }

    #[test]
    fn damage_is_found() {
        let whole = file();
        let end = HEADER_LEN + 6 + 4 * ROW_LEN;
        for at in 0..end {
            let mut file = whole.clone();
            file[at] ^= 1;
            assert!(Index::read(&file).is_err(), "byte {at}");
        }
        for len in 0..end {
            assert!(Index::read(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut file = whole.clone();
        file[end] ^= 1;
        let index = Index::read(&file).unwrap();
        let damaged: Vec<u64> = index.rows().filter(|row| index.record(row).is_none()).map(|row| row.pc).collect();
        assert_eq!(damaged, [0x10]);
    }
}

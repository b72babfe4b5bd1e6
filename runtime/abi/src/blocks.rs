//! The persistent cache's second kind of file: tier 1's code of single blocks, which the guest's process both writes
//! and reads. The service has no part in it.
//!
//! One file holds the blocks of one program for one context, as [`crate::cache`] has them:
//!
//! | at | length | what |
//! |---|---|---|
//! | 0 | [`HEADER_LEN`] | magic number, version, context, length of the program's name, numbers of rows and pages, checksums |
//! | behind | any | the program's path, for reports |
//! | behind | pages × 16 | [`Page`]s in the order of their addresses |
//! | behind | rows × 24 | the index: [`Row`]s in the order of their addresses |
//! | behind | any | records, each where its row says |
//!
//! Pages tell what guest memory held when the code was made: a record names those that its block depends on by their
//! numbers (its form is the runtime's business), and its code fits where all of them are the same again.
//!
//! Everything is little-endian and read in place. A file is never changed: another takes its place by `rename`, so a
//! reader needs no lock, and one that was mapped stays as it is. The header's checksum covers header, name, pages and
//! index; each row has its record's.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::cache::{CacheError, checksum};

/// Version of the form described here and of the records' content.
pub const VERSION: u32 = 3;
/// How the names of these files end.
pub const SUFFIX: &str = ".blocks";
pub const HEADER_LEN: usize = size_of::<Header>();
/// Bytes of guest memory that one [`Page`] stands for, whatever the host's pages are.
pub const PAGE_LEN: u64 = 4096;

const MAGIC: [u8; 8] = *b"xlate-bk";
/// Where the header's own checksum stands.
const SUM: usize = HEADER_LEN - 8;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    name: U32,
    context: U64,
    rows: U32,
    pages: U32,
    /// Of what is between header and records.
    behind: U64,
    /// Of the header up to here.
    sum: U64,
}

/// Guest memory that code was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Page {
    /// A multiple of [`PAGE_LEN`]; not unique, for other libraries may have lain there, too.
    pub address: U64,
    /// Of its executable bytes.
    pub sum: U64,
}

/// One block in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Row {
    /// The block's address; not unique either.
    pub pc: U64,
    /// Where its record stands in the file.
    pub offset: U32,
    pub len: U32,
    /// The record's checksum.
    pub sum: U64,
}

/// What a file begins with, found sound.
#[derive(Clone, Copy, Debug)]
pub struct Index<'f> {
    pub context: u64,
    pub program: &'f [u8],
    /// By address.
    pub pages: &'f [Page],
    /// By address.
    pub rows: &'f [Row],
    file: &'f [u8],
}

impl<'f> Index<'f> {
    /// Reads a file's index.
    pub fn read(file: &'f [u8]) -> Result<Self, CacheError> {
        let (header, rest) = Header::ref_from_prefix(file).map_err(|_| CacheError::Damaged("its header is cut off"))?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(CacheError::Foreign);
        }
        let cut_off = CacheError::Damaged("its index is cut off");
        let parts = || {
            let (program, rest) = rest.split_at_checked(header.name.get() as usize)?;
            let (pages, rest) = <[Page]>::ref_from_prefix_with_elems(rest, header.pages.get() as usize).ok()?;
            let (rows, records) = <[Row]>::ref_from_prefix_with_elems(rest, header.rows.get() as usize).ok()?;
            Some((program, pages, rows, file.len() - records.len()))
        };
        let (program, pages, rows, end) = parts().ok_or(cut_off)?;
        if header.behind != checksum(&file[HEADER_LEN..end]) || header.sum != checksum(&file[..SUM]) {
            return Err(CacheError::Damaged("its index's checksum is wrong"));
        }
        Ok(Self { context: header.context.get(), program, pages, rows, file })
    }

    /// A row's record; `None` if it is damaged.
    pub fn record(&self, row: &Row) -> Option<&'f [u8]> {
        let start = row.offset.get() as usize;
        let record = self.file.get(start..start.checked_add(row.len.get() as usize)?)?;
        (row.sum == checksum(record)).then_some(record)
    }
}

/// A whole file of these pages, as (address, sum) in the order of the addresses, and these records, each with its
/// block's address.
pub fn encode(context: u64, program: &[u8], pages: &[(u64, u64)], records: &[(u64, &[u8])]) -> Vec<u8> {
    debug_assert!(pages.is_sorted());
    let mut order: Vec<&(u64, &[u8])> = records.iter().collect();
    order.sort_by_key(|(pc, _)| *pc);
    let mut offset = HEADER_LEN + program.len() + size_of_val(pages) + order.len() * size_of::<Row>();
    let mut file = vec![0; HEADER_LEN];
    file.reserve(offset + records.iter().map(|(_, record)| record.len()).sum::<usize>());
    file.extend(program);
    for &(address, sum) in pages {
        file.extend(Page { address: address.into(), sum: sum.into() }.as_bytes());
    }
    for (pc, record) in &order {
        let (at, len) = ((offset as u32).into(), (record.len() as u32).into());
        file.extend(Row { pc: (*pc).into(), offset: at, len, sum: checksum(record).into() }.as_bytes());
        offset += record.len();
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        name: (program.len() as u32).into(),
        context: context.into(),
        rows: (order.len() as u32).into(),
        pages: (pages.len() as u32).into(),
        behind: checksum(&file[HEADER_LEN..]).into(),
        sum: 0.into(),
    };
    header.sum = checksum(&header.as_bytes()[..SUM]).into();
    file[..HEADER_LEN].copy_from_slice(header.as_bytes());
    for (_, record) in order {
        file.extend(*record);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [(u64, u64); 2] = [(0, 77), (0x1000, 78)];

    fn file() -> Vec<u8> {
        encode(7, b"/bin/p", &PAGES, &[(0x30, b"three"), (0x10, b"one"), (0x30, b"other"), (0x20, b"")])
    }

    #[test]
    fn records_come_in_the_order_of_their_addresses() {
        let file = file();
        let index = Index::read(&file).unwrap();
        assert_eq!((index.context, index.program), (7, &b"/bin/p"[..]));
        assert!(index.pages.iter().map(|page| (page.address.get(), page.sum.get())).eq(PAGES));
        let all: Vec<(u64, &[u8])> = index.rows.iter().map(|row| (row.pc.get(), index.record(row).unwrap())).collect();
        assert_eq!(all, [(0x10, &b"one"[..]), (0x20, b""), (0x30, b"three"), (0x30, b"other")]);
    }

    #[test]
    fn an_empty_file_is_sound() {
        let file = encode(1, b"", &[], &[]);
        assert!(Index::read(&file).unwrap().rows.is_empty());
    }

    #[test]
    fn damage_is_found() {
        let whole = file();
        let end = HEADER_LEN + 6 + 2 * size_of::<Page>() + 4 * size_of::<Row>();
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
        let damaged: Vec<u64> =
            index.rows.iter().filter(|row| index.record(row).is_none()).map(|row| row.pc.get()).collect();
        assert_eq!(damaged, [0x10]);
    }
}

//! The form of cache files, and that no damage gets through.

use std::io::Write;

use super::*;
use crate::protocol::OptLevel;

const OPTIONS: CodeOptions = CodeOptions { opt: OptLevel::O2, precise: false, tso: false };

fn blob(entry_pc: u64) -> Blob {
    // From nothing, so that it doesn't matter which fields a blob has besides these.
    let mut blob: Blob = postcard::from_bytes(&[0; 64]).expect("zeroes are an empty blob");
    blob.entry_pc = entry_pc;
    blob.code = vec![0xc3; 100];
    blob
}

fn row(pc: u64, source: u64) -> Row {
    Row { pc, offset: 1, len: 2, flags: Flags::new(OPTIONS, true), source, sum: 3 }
}

/// A file with these rows' records, and an index for ten.
fn file_with(pcs: &[u64]) -> (File, Vec<u8>) {
    let header = Header::new(7, b"/bin/guest", 10);
    let mut index = header.encode();
    let mut records = Vec::new();
    for &pc in pcs {
        let code = [CodeBytes { address: pc, bytes: vec![0x90, 0xc3] }];
        let record = Record::new(&code, blob(pc));
        let bytes = record.encode().unwrap();
        let offset = header.records_start() + records.len() as u64;
        let flags = Flags::new(OPTIONS, true);
        let (len, source, sum) = (bytes.len() as u32, record.source(), checksum(&bytes));
        index.extend(Row { pc, offset, len, flags, source, sum }.encode());
        records.extend(bytes);
    }
    index.resize(header.records_start() as usize, 0);
    let bytes = [index, records].concat();
    (file_of(&bytes), bytes)
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All that can be read of a file: entries of the records that are intact.
fn readable(bytes: &[u8]) -> Result<Vec<u64>, CacheError> {
    let file = file_of(bytes);
    let index = Index::read(&file)?;
    let records = index.rows.iter().filter_map(|row| {
        let bytes = read_record(&file, row).ok()?;
        let record = Record::decode(&bytes).ok()?;
        assert_eq!(record.blob, blob(row.pc), "what is read is what was written");
        Some(row.pc)
    });
    Ok(records.collect())
}

#[test]
fn what_is_written_is_read() {
    let (file, bytes) = file_with(&[0x1000, 0x2000]);
    let index = Index::read(&file).unwrap();
    assert_eq!((index.header.context, index.header.program.as_slice()), (7, &b"/bin/guest"[..]));
    assert_eq!((index.used, index.rows.len(), index.is_full()), (2, 2, false));
    assert_eq!(readable(&bytes).unwrap(), [0x1000, 0x2000]);
}

#[test]
fn an_index_of_many_chunks_is_read_to_its_end() {
    let header = Header::new(1, b"p", 1000);
    let rows = (0..1000).flat_map(|n| row(n, 0).encode());
    let bytes: Vec<u8> = header.encode().into_iter().chain(rows).collect();
    let index = Index::read(&file_of(&bytes)).unwrap();
    assert_eq!(index.rows.iter().map(|r| r.pc).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
    assert!(index.is_full());
}

#[test]
fn no_flipped_byte_gets_through() {
    let (_, bytes) = file_with(&[0x1000, 0x2000]);
    let records = Header::new(7, b"", 10).records_start() as usize;
    let header = (0..64).chain(HEADER_LEN - 8..HEADER_LEN);
    let index = HEADER_LEN..HEADER_LEN + 2 * ROW_LEN;
    for at in header.chain(index).chain(records..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        match readable(&damaged) {
            Err(CacheError::Foreign | CacheError::Damaged(_)) => assert!(at < HEADER_LEN, "byte {at}"),
            Err(CacheError::Io(e)) => panic!("{e}"),
            Ok(entries) => assert_eq!(entries.len(), 1, "byte {at}"),
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_gives_what_is_whole() {
    let (_, bytes) = file_with(&[0x1000, 0x2000]);
    for len in (0..HEADER_LEN + 3 * ROW_LEN).step_by(8).chain(bytes.len() - 300..bytes.len()) {
        match readable(&bytes[..len]) {
            Err(_) => assert!(len < HEADER_LEN),
            Ok(entries) => assert!(entries.len() < 2, "{len}: {entries:?}"),
        }
    }
}

#[test]
fn foreign_files_and_other_versions_are_refused() {
    let (_, mut bytes) = file_with(&[0x1000]);
    assert!(matches!(readable(&[]), Err(CacheError::Damaged(_))));
    assert!(matches!(readable(&[b'#'; 8000]), Err(CacheError::Foreign)));
    bytes[8] += 1;
    assert!(matches!(readable(&bytes), Err(CacheError::Foreign)));
}

#[test]
fn later_rows_stand_for_earlier_ones_and_variants_are_few() {
    let (file, _) = file_with(&[]);
    let mut index = Index::read(&file).unwrap();
    index.rows = vec![row(1, 10), row(2, 20), row(1, 10)];
    assert_eq!(index.live().iter().map(|r| r.pc).collect::<Vec<_>>(), [1, 2]);
    index.rows = (0..10).map(|source| row(1, source)).collect();
    assert_eq!(index.live().iter().map(|r| r.source).collect::<Vec<_>>(), [9, 8, 7, 6]);
}

#[test]
fn flags_keep_options_apart() {
    let precise = CodeOptions { precise: true, ..OPTIONS };
    assert!(Flags::new(OPTIONS, false).serve(OPTIONS));
    assert!(!Flags::new(OPTIONS, true).serve(precise));
    assert!(!Flags::new(precise, true).serve(OPTIONS));
    assert!(!Flags::new(OPTIONS, false).is_profiled());
}

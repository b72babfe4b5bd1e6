//! Writing: twice the same, many at once, over damage, within bounds.

use xlate_abi::protocol::{CodeBytes, CodeOptions, OptLevel};

use super::*;

fn place(folder: &Path, limit: u64) -> KeepIn {
    let file = folder.join(format!("a{}", xlate_abi::cache::SUFFIX));
    KeepIn { file: file.as_os_str().as_bytes().to_vec(), context: 5, program: b"/bin/guest".to_vec(), limit }
}

fn request(entry: u64) -> CompileRequest {
    CompileRequest {
        id: 1,
        entry,
        target: xlate_llvm::host_target(),
        options: CodeOptions { opt: OptLevel::O2, precise: false, tso: false },
        grows: false,
        mutable: false,
        profile: Vec::new(),
        indirect: Vec::new(),
        code: vec![CodeBytes { address: entry, bytes: vec![0x90; 8] }],
        data: Vec::new(),
    }
}

fn blob(entry: u64, fill: u8) -> Blob {
    let mut blob: Blob = postcard::from_bytes(&[0; 64]).expect("zeroes are an empty blob");
    blob.entry_pc = entry;
    blob.code = vec![fill; 1000];
    blob
}

fn kept(place: &KeepIn) -> Vec<Row> {
    let file = File::open(path_of(place)).unwrap();
    let index = Index::read(&file).unwrap();
    let live = index.live();
    for row in &live {
        let bytes = read_record(&file, row).unwrap();
        let record = Record::decode(&bytes).unwrap();
        assert_eq!((record.blob.entry_pc, record.source()), (row.pc, row.source));
    }
    live
}

#[test]
fn the_same_translation_is_written_once_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 30);
    assert!(keep(&place, &request(0x1000), true, &blob(0x1000, 1)).unwrap() > 1000);
    let mut again = blob(0x1000, 1);
    again.compile_micros = 77;
    assert_eq!(keep(&place, &request(0x1000), true, &again).unwrap(), 0);
    assert!(keep(&place, &request(0x1000), true, &blob(0x1000, 2)).unwrap() > 1000);
    let live = kept(&place);
    assert_eq!(live.len(), 1);
    let file = File::open(path_of(&place)).unwrap();
    let bytes = read_record(&file, &live[0]).unwrap();
    assert_eq!(Record::decode(&bytes).unwrap().blob.code[0], 2);
}

#[test]
fn many_writers_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 30);
    // More than the first index holds, so that it is replaced while others write. A lock belongs to its open
    // file: threads exclude each other exactly as processes do.
    let writers = 4;
    let each = u64::from(FIRST_CAPACITY) / 2;
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let place = &place;
            scope.spawn(move || {
                for n in 0..each {
                    let entry = (writer * each + n) * 16;
                    keep(place, &request(entry), true, &blob(entry, 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(kept(&place).len() as u64, writers * each);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_damaged_or_foreign_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 30);
    for junk in [&b"#!/bin/sh\n"[..], &[0; 10000], &Header::new(6, b"/bin/guest", 4).encode()] {
        fs::write(path_of(&place), junk).unwrap();
        keep(&place, &request(0x1000), true, &blob(0x1000, 1)).unwrap();
        assert_eq!(kept(&place).len(), 1);
    }
}

#[test]
fn a_damaged_record_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 30);
    keep(&place, &request(0x1000), true, &blob(0x1000, 1)).unwrap();
    let at = kept(&place)[0].offset;
    let file = OpenOptions::new().write(true).open(path_of(&place)).unwrap();
    file.write_all_at(&[0xee; 8], at + 200).unwrap();
    assert!(keep(&place, &request(0x1000), true, &blob(0x1000, 1)).unwrap() > 0);
    kept(&place);
}

#[test]
fn a_program_keeps_to_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 2 << 20;
    let place = place(folder.path(), limit);
    for n in 0..1000 {
        keep(&place, &request(n * 16), true, &blob(n * 16, 1)).unwrap();
        assert!(fs::metadata(path_of(&place)).unwrap().len() <= limit / SHARE);
    }
    let live = kept(&place);
    assert!(live.len() > 100 && live.len() < 1000);
    assert_eq!(live[0].pc, 999 * 16, "the newest stay");
}

#[test]
fn an_unwritable_folder_is_an_error_and_no_more() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let place = place(&file.path().join("below"), 1 << 30);
    let error = keep(&place, &request(0x1000), true, &blob(0x1000, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

//! Images written and read back.

use std::fs::File;

use super::notes::{Limit, Limits, Process, ThreadNote, XlateNote};
use super::*;

fn page(byte: u8) -> Vec<u8> {
    vec![byte; PAGE as usize]
}

const RW: Access = Access { read: true, write: true, execute: false };

fn status_note() -> Note {
    Note {
        owner: core_notes::OWNER_CORE,
        kind: core_notes::NT_PRSTATUS,
        desc: core_notes::Status { pid: 77, ..Default::default() }.encode(),
    }
}

fn xlate_note<T: XlateNote>(note: &T) -> Note {
    Note { owner: notes::OWNER, kind: T::TYPE, desc: note.encode().unwrap() }
}

/// A region of 100 pages with contents in pages 0, 1, 5 and 90, and an untouched one.
fn write_sample(path: &std::path::Path) {
    let mut writer = ImageWriter::new(File::create(path).unwrap());
    writer.begin_region(0x10000, RW);
    writer.contents(0x10000, &[page(1), page(2)].concat()).unwrap();
    writer.contents(0x12000, &[page(0), page(0), page(0), page(5)].concat()).unwrap();
    writer.contents(0x10000 + 90 * PAGE, &page(90)).unwrap();
    writer.end_region(0x10000 + 100 * PAGE);
    writer.begin_region(0x1000_0000, RW);
    writer.end_region(0x2000_0000);
    assert_eq!(writer.stored_pages(), 4);
    let process = Process { pid: 77, comm: "x".into(), ..Process::default() };
    let limits = Limits { limits: vec![Limit { resource: 3, soft: 1, hard: 2 }] };
    let thread = ThreadNote { tid: 77, ..ThreadNote::default() };
    let notes = [status_note(), xlate_note(&thread), xlate_note(&process), xlate_note(&limits)];
    writer.finish(&notes).unwrap();
}

fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    write_sample(&path);
    (dir, path)
}

#[test]
fn regions_are_split_at_long_runs_of_zeros_and_trimmed() {
    let (_dir, path) = sample();
    let image = Image::read(&File::open(path).unwrap()).unwrap();
    let shape: Vec<_> = image.segments.iter().map(|s| (s.address, s.file_size / PAGE, s.memory_size / PAGE)).collect();
    let end_of_first = 0x10000 + 90 * PAGE;
    assert_eq!(shape, [(0x10000, 6, 90), (end_of_first, 1, 10), (0x1000_0000, 0, 0x10000)]);
    assert!(image.segments.iter().all(|s| s.file_offset % PAGE == 0));
    assert!(image.file_size < 16 * PAGE);
    assert_eq!(image.segments_within(0x10000, 0x10000 + 100 * PAGE).len(), 2);
}

#[test]
fn contents_are_at_their_offsets() {
    let (_dir, path) = sample();
    let image = Image::read(&File::open(&path).unwrap()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let at = |i: usize, n: u64| bytes[(image.segments[i].file_offset + n * PAGE) as usize];
    assert_eq!([at(0, 0), at(0, 1), at(0, 4), at(0, 5), at(1, 0)], [1, 2, 0, 5, 90]);
}

#[test]
fn notes_come_back() {
    let (_dir, path) = sample();
    let image = Image::read(&File::open(path).unwrap()).unwrap();
    assert_eq!(image.threads.len(), 1);
    assert_eq!(image.threads[0].status.pid, 77);
    assert_eq!(image.threads[0].note.as_ref().unwrap().tid, 77);
    assert_eq!(image.process.as_ref().unwrap().comm.text(), "x");
    assert_eq!(image.limits.as_ref().unwrap().limits[0].resource, 3);
    assert!(image.signals.is_none());
    assert!(image.is_plain_core());
    assert_eq!(image.mappings().len(), 3);
}

/// Wherever a file is cut, the reader says so and never panics.
#[test]
fn every_truncation_is_noticed() {
    let (_dir, path) = sample();
    let size = std::fs::metadata(&path).unwrap().len();
    for cut in (0..size).step_by(97) {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        write_sample(&path);
        file.set_len(cut).unwrap();
        let error = Image::read(&file).unwrap_err();
        match cut {
            0..4 => assert!(matches!(error, ImageError::NotACore), "{cut}: {error}"),
            _ => assert!(matches!(error, ImageError::Truncated { .. }), "{cut}: {error}"),
        }
    }
}

/// No flipped byte in headers or notes makes the reader panic.
#[test]
fn damage_never_panics() {
    let (_dir, path) = sample();
    let good = std::fs::read(&path).unwrap();
    let damaged = path.with_extension("damaged");
    let places = (0..64).chain(good.len() - 1200..good.len());
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 0x81;
        std::fs::write(&damaged, &bytes).unwrap();
        // Some flips are harmless (padding); only the absence of panics is asked.
        let _ = Image::read(&File::open(&damaged).unwrap()).map(|i| i.mappings());
    }
}

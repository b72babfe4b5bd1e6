//! Writing cache files ([`xlate_abi::cache`] describes them), many services at once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xlate_abi::cache::{CacheError, Flags, HEADER_LEN, Header, Index, Record, Row, checksum, read_record};
use xlate_abi::protocol::{Blob, CompileRequest, KeepIn};

/// Room for rows in a new file. The unused part is a hole and takes no space on disk.
const FIRST_CAPACITY: u32 = 1024;
/// One program's share of the folder: its file is rewritten without what it has least use for when it gets larger.
const SHARE: u64 = 4;
/// How often a file may be replaced by others between opening and locking it.
const ATTEMPTS: u32 = 16;

/// Why a region wasn't kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Record { path: PathBuf, source: CacheError },
    #[error("{}: other services keep replacing it", path.display())]
    Busy { path: PathBuf },
}

/// Where the file is.
pub fn path_of(place: &KeepIn) -> PathBuf {
    std::ffi::OsStr::from_bytes(&place.file).into()
}

/// Adds a region to its program's file; gives the bytes written (none if it is there already).
pub fn keep(place: &KeepIn, request: &CompileRequest, profiled: bool, blob: &Blob) -> Result<u64, StoreError> {
    let path = path_of(place);
    let record = Record::new(request.code.iter().chain(&request.data), blob.clone());
    let bytes = record.encode().map_err(|source| StoreError::Record { path: path.clone(), source })?;
    let row = Row {
        pc: blob.entry_pc,
        offset: 0,
        len: bytes.len() as u32,
        flags: Flags::new(request.options, profiled),
        source: record.source(),
        sum: checksum(&bytes),
    };
    add(place, &path, row, &bytes, blob).map_err(|failure| match failure {
        Failure::Io(source) => StoreError::Io { path, source },
        Failure::Busy => StoreError::Busy { path },
    })
}

/// Creates the file's folder, for this user alone.
pub fn make_folder(place: &KeepIn) -> io::Result<()> {
    let path = path_of(place);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(Path::new("/")))
}

enum Failure {
    Io(io::Error),
    Busy,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn add(place: &KeepIn, path: &Path, mut row: Row, bytes: &[u8], blob: &Blob) -> Result<u64, Failure> {
    for _ in 0..ATTEMPTS {
        let Some(file) = open_locked(path)? else {
            continue;
        };
        let index = match usable(&file, place)? {
            Some(index) => index,
            None => {
                replace(path, &Header::new(place.context, &place.program, FIRST_CAPACITY), &[], None)?;
                continue;
            }
        };
        if has(&file, &index, &row, blob) {
            return Ok(0);
        }
        let end = file.metadata()?.len().max(index.header.records_start());
        if index.is_full() || end + bytes.len() as u64 > place.limit / SHARE {
            if !shrink(path, &file, &index, place.limit / SHARE / 2, bytes.len() as u64)? {
                return Ok(0);
            }
            continue;
        }
        row.offset = end;
        return append(&file, &index, &row, bytes).map(|()| bytes.len() as u64);
    }
    Err(Failure::Busy)
}

/// Opens and locks the file that is there under this name once it is locked; nothing if another has taken its place
/// meanwhile. The lock ends with the descriptor.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.lock()?;
    let (ours, there) = (file.metadata()?, fs::metadata(path));
    let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(same.then_some(file))
}

/// The index, if the file is sound and what it should be.
fn usable(file: &File, place: &KeepIn) -> io::Result<Option<Index>> {
    match Index::read(file) {
        Ok(index) => {
            let expected = Header::new(place.context, &place.program, index.header.capacity);
            Ok((index.header == expected).then_some(index))
        }
        Err(CacheError::Io(e)) => Err(e),
        Err(CacheError::Foreign | CacheError::Damaged(_)) => Ok(None),
    }
}

/// Whether the newest region of this code has the very same translation, undamaged.
fn has(file: &File, index: &Index, row: &Row, blob: &Blob) -> bool {
    let same = |r: &&Row| (r.pc, r.flags, r.source) == (row.pc, row.flags, row.source);
    let Some(newest) = index.rows.iter().rev().find(same) else {
        return false;
    };
    let Ok(bytes) = read_record(file, newest) else {
        return false;
    };
    Record::decode(&bytes).is_ok_and(|record| {
        let known = &record.blob;
        Blob { compile_micros: blob.compile_micros, ..known.clone() } == *blob
    })
}

/// Writes a record at the end, then its row. What fails half-way leaves nothing behind that is referred to.
fn append(file: &File, index: &Index, row: &Row, bytes: &[u8]) -> Result<(), Failure> {
    let written =
        file.write_all_at(bytes, row.offset).and_then(|()| file.write_all_at(&row.encode(), index.next_row()));
    if written.is_err() {
        // Gives a full disk its space back; if that fails as well, the space is lost until the next rewrite.
        let _ = file.write_all_at(&[0; xlate_abi::cache::ROW_LEN], index.next_row());
        let _ = file.set_len(row.offset);
    }
    Ok(written?)
}

/// Rewrites the file with the newest regions that fit into `size` bytes and room for more rows. False if
/// `needed` bytes more would never fit.
fn shrink(path: &Path, file: &File, index: &Index, size: u64, needed: u64) -> Result<bool, Failure> {
    let mut room = size;
    let mut live = index.live();
    live.retain(|row| {
        let fits = u64::from(row.len) <= room;
        room -= if fits { u64::from(row.len) } else { room };
        fits
    });
    live.reverse();
    let capacity = (live.len() as u32 * 2).max(FIRST_CAPACITY);
    let header = Header { capacity, ..index.header.clone() };
    if header.records_start() + needed > size {
        return Ok(false);
    }
    replace(path, &header, &live, Some(file))?;
    Ok(true)
}

/// Puts a new file with these records of an old one under the name.
fn replace(path: &Path, header: &Header, rows: &[Row], old: Option<&File>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let new = tempfile::Builder::new().prefix(super::TEMPORARY).tempfile_in(folder)?;
    let file = new.as_file();
    file.write_all_at(&header.encode(), 0)?;
    file.set_len(header.records_start())?;
    let (mut offset, mut number) = (header.records_start(), 0u64);
    for row in rows {
        let Some(bytes) = old.and_then(|old| read_record(old, row).ok()) else {
            continue;
        };
        let row = Row { offset, ..*row };
        file.write_all_at(&bytes, offset)?;
        file.write_all_at(&row.encode(), HEADER_LEN as u64 + number * xlate_abi::cache::ROW_LEN as u64)?;
        offset += bytes.len() as u64;
        number += 1;
    }
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;

//! The cache's folder: where it is, what is in it, and that it stays within its bounds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use xlate_abi::blocks;
pub use xlate_abi::cache::TEMPORARY;
use xlate_abi::cache::{CacheError, Index, SUFFIX};

/// A half-written file so old belongs to a service that died.
const ABANDONED: Duration = Duration::from_secs(3600);

/// `$XDG_CACHE_HOME/xlate`, or `~/.cache/xlate`; nothing where neither is known.
pub fn default_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    // A relative one is to be ignored (XDG base directory specification).
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("xlate"))
}

/// A file in the folder.
#[derive(Clone, Debug)]
pub struct Found {
    pub path: PathBuf,
    /// Space on disk, bytes.
    pub size: u64,
    pub used: SystemTime,
    pub temporary: bool,
}

/// The cache's files; what else lies there isn't ours.
pub fn files(folder: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let temporary = name.starts_with(TEMPORARY);
        // One that went away meanwhile isn't there.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && (temporary || name.ends_with(SUFFIX) || name.ends_with(blocks::SUFFIX)) {
            let used = metadata.modified()?;
            found.push(Found { path: entry.path(), size: metadata.blocks() * 512, used, temporary });
        }
    }
    Ok(found)
}

/// Keeps the folder within `limit` bytes: what was used longest ago goes first, down to three quarters. Gives the
/// number of files that went.
pub fn bound(folder: &Path, limit: u64) -> io::Result<usize> {
    let mut found = files(folder)?;
    let now = SystemTime::now();
    let abandoned = |f: &Found| f.temporary && now.duration_since(f.used).is_ok_and(|age| age > ABANDONED);
    let mut removed = 0;
    for f in found.iter().filter(|f| abandoned(f)) {
        removed += remove(f)?;
    }
    found.retain(|f| !f.temporary);
    found.sort_by_key(|f| f.used);
    let mut total: u64 = found.iter().map(|f| f.size).sum();
    let goal = if total > limit { limit / 4 * 3 } else { limit };
    for f in &found {
        if total <= goal {
            break;
        }
        removed += remove(f)?;
        total -= f.size;
    }
    Ok(removed)
}

/// Removes a file; one that is gone already counts as nobody's work.
pub fn remove(found: &Found) -> io::Result<usize> {
    match fs::remove_file(&found.path) {
        Ok(()) => Ok(1),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
    }
}

/// What a report says of one file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    pub program: String,
    pub file: PathBuf,
    pub regions: usize,
    /// Blocks with code of tier 1.
    pub blocks: usize,
    /// Regions that newer ones stand for, or whose rows are damaged.
    pub unused: usize,
    pub bytes: u64,
    /// Seconds since its last use, to within an hour.
    pub idle_seconds: u64,
    /// Why it can't be used, if it can't.
    pub damage: Option<String>,
}

/// What a report says of the cache.
#[derive(Debug, Serialize)]
pub struct Report {
    pub folder: PathBuf,
    pub bytes: u64,
    pub regions: usize,
    pub blocks: usize,
    pub files: Vec<FileReport>,
}

/// Looks at all files of the folder.
pub fn report(folder: &Path) -> io::Result<Report> {
    let mut found = files(folder)?;
    found.sort_by_key(|f| std::cmp::Reverse(f.used));
    let files: Vec<FileReport> = found.iter().map(describe).collect();
    Ok(Report {
        folder: folder.to_owned(),
        bytes: files.iter().map(|f| f.bytes).sum(),
        regions: files.iter().map(|f| f.regions).sum(),
        blocks: files.iter().map(|f| f.blocks).sum(),
        files,
    })
}

fn describe(found: &Found) -> FileReport {
    let idle = SystemTime::now().duration_since(found.used).unwrap_or_default();
    let mut report = FileReport {
        program: String::new(),
        file: found.path.clone(),
        regions: 0,
        blocks: 0,
        unused: 0,
        bytes: found.size,
        idle_seconds: idle.as_secs(),
        damage: None,
    };
    let looked_at = if found.path.to_string_lossy().ends_with(blocks::SUFFIX) {
        describe_blocks(&mut report)
    } else {
        describe_regions(&mut report)
    };
    report.damage = looked_at.err().map(|error| error.to_string());
    report
}

fn describe_regions(report: &mut FileReport) -> Result<(), CacheError> {
    let index = Index::read(&File::open(&report.file)?)?;
    report.program = String::from_utf8_lossy(&index.header.program).into_owned();
    report.regions = index.live().len();
    report.unused = index.used as usize - report.regions;
    Ok(())
}

fn describe_blocks(report: &mut FileReport) -> Result<(), CacheError> {
    let file = fs::read(&report.file)?;
    let index = blocks::Index::read(&file)?;
    report.program = String::from_utf8_lossy(index.program).into_owned();
    report.blocks = index.rows.len();
    Ok(())
}

#[cfg(test)]
#[path = "folder/tests.rs"]
mod tests;

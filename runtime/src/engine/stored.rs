//! Regions from earlier runs: read from the program's cache file and installed where guest memory holds the code
//! they were made from, at the first execution of their entry. No service is needed for them.
//!
//! A cache that can't be used, for whatever reason, is no cache; the guest doesn't notice.

use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use xlate_abi::cache::{self, CacheError, Header, Index, Record, Row};
use xlate_abi::protocol::KeepIn;

use super::table::{AddressMap, Code};
use super::tier2::host_target;
use super::{Engine, GuestCode};
use crate::build_id;
use crate::config::Config;
use crate::linux::descriptors::Own;

/// The time of a file's last use is kept in its time of modification, to within so much.
const USE_GRAIN: Duration = Duration::from_secs(3600);

/// The regions of one program.
pub struct Stored {
    file: Own<File>,
    /// By entry; of one entry, newest first.
    rows: Vec<Row>,
    /// The first row of each entry.
    first: AddressMap<usize>,
}

/// Why a stored region wasn't taken.
enum Unfit {
    /// Guest memory holds other code.
    Other,
    Damaged(String),
}

impl From<CacheError> for Unfit {
    fn from(error: CacheError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The program's cache file in this configuration; `None` if there is to be none.
pub fn place(config: &Config, program: &Path) -> Option<KeepIn> {
    let folder = config.cache.as_deref()?;
    let context = match context(config) {
        Ok(context) => context,
        Err(error) => {
            tracing::warn!(%error, "no cache: the translator's own files can't be identified");
            return None;
        }
    };
    let program = program.as_os_str().as_bytes().to_vec();
    let name = format!("{context:016x}-{:016x}{}", cache::checksum(&program), cache::SUFFIX);
    let file = folder.join(name).as_os_str().as_bytes().to_vec();
    Some(KeepIn { file, context, program, limit: config.cache_limit })
}

/// Hash of all that decides whether code made earlier fits: both halves of the translator, processor, level.
fn context(config: &Config) -> std::io::Result<u64> {
    let mut parts = build_id::of(&config.runtime_path())?;
    if let Some(xlate) = &config.xlate {
        parts.extend(build_id::of(&super::launch::compiler_of(xlate))?);
    }
    let target = host_target();
    parts.extend(format!("{:?} {:?} {}", target, config.opt, cache::VERSION).into_bytes());
    Ok(cache::checksum(&parts))
}

impl Stored {
    /// Opens the file, if it is there, sound, and nobody else's.
    fn open(place: &KeepIn) -> Option<Self> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&place.file));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "nothing stored");
                return None;
            }
        };
        let found = file.metadata().ok().filter(is_ours);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "ignored: others can write to it");
        }
        let modified = found?.modified().ok()?;
        let index = match Index::read(&file) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignored");
                return None;
            }
        };
        let expected = Header::new(place.context, &place.program, index.header.capacity);
        if index.header != expected {
            tracing::warn!(path = %path.display(), "ignored: it is for another program");
            return None;
        }
        if SystemTime::now().duration_since(modified).is_ok_and(|age| age > USE_GRAIN) {
            // Failing means an earlier eviction at worst.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(Self::with(Own::new(file).ok()?, index.live()))
    }

    fn with(file: Own<File>, mut rows: Vec<Row>) -> Self {
        // Stable: they come newest first.
        rows.sort_by_key(|row| row.pc);
        let mut first = AddressMap::default();
        for (n, row) in rows.iter().enumerate() {
            first.entry(row.pc).or_insert(n);
        }
        Self { file, rows, first }
    }

    fn candidates(&self, pc: u64) -> &[Row] {
        let Some(&first) = self.first.get(&pc) else { return &[] };
        let rows = &self.rows[first..];
        let end = rows.iter().position(|row| row.pc != pc);
        &rows[..end.unwrap_or(rows.len())]
    }
}

/// What comes from the file is executed: only this user may have written it.
pub(super) fn is_ours(found: &Metadata) -> bool {
    // SAFETY: no arguments.
    let user = unsafe { libc::geteuid() };
    found.is_file() && found.uid() == user && found.permissions().mode() & 0o022 == 0
}

/// Whether guest memory holds exactly this, as code that the guest can't write to or as a constant.
fn holds(memory: &dyn GuestCode, address: u64, bytes: &[u8]) -> bool {
    let mut now = vec![0; bytes.len()];
    let there =
        memory.fetch_fixed(address, &mut now) == bytes.len() || memory.constants(address, &mut now) == bytes.len();
    there && now == bytes
}

impl Engine {
    /// Uses what earlier runs of this program have left, and leaves what this one makes.
    pub fn use_cache(&mut self, config: &Config, program: &Path) {
        let start = Instant::now();
        let Some(place) = place(config, program) else { return };
        self.use_kept(config, &place);
        if let Some(tier2) = &mut self.tier2 {
            self.stored = Stored::open(&place);
            tier2.keep_in(place);
        }
        self.stats.stored_rows = self.stored.as_ref().map_or(0, |s| s.rows.len() as u64);
        self.stats.stored_time += start.elapsed();
    }

    /// Installs the region that an earlier run has left for this entry, if it still fits; gives its code.
    pub(super) fn stored_region(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<Code> {
        let candidates = self.stored.as_ref()?.candidates(pc);
        if candidates.is_empty() {
            return None;
        }
        let start = Instant::now();
        let tier2 = self.tier2.as_ref()?;
        let (options, any) = (tier2.options(self.precise), tier2.is_synchronous());
        // What was formed without a profile (tier 2 from the first execution) would stay for good.
        let fitting = |row: &&Row| row.flags.serve(options) && (any || row.flags.is_profiled());
        let rows: Vec<Row> = candidates.iter().filter(fitting).copied().collect();
        let code = rows.iter().find_map(|row| self.install_stored(row, memory));
        self.stats.stored_time += start.elapsed();
        code
    }

    fn install_stored(&mut self, row: &Row, memory: &dyn GuestCode) -> Option<Code> {
        match self.try_stored(row, memory) {
            Ok(code) => Some(code),
            Err(Unfit::Other) => {
                self.stats.stored_other += 1;
                None
            }
            Err(Unfit::Damaged(error)) => {
                tracing::warn!(pc = format_args!("{:#x}", row.pc), error, "stored region ignored");
                self.stats.stored_damaged += 1;
                None
            }
        }
    }

    fn try_stored(&mut self, row: &Row, memory: &dyn GuestCode) -> Result<Code, Unfit> {
        let stored = self.stored.as_ref().ok_or(Unfit::Other)?;
        let bytes = cache::read_record(&stored.file.handle(), row)?;
        let record = Record::decode(&bytes)?;
        let blob = &record.blob;
        if !record.code.iter().all(|code| holds(memory, code.address, code.bytes)) {
            return Err(Unfit::Other);
        }
        self.add_region(row.pc, blob).map_err(|error| Unfit::Damaged(error.to_string()))?;
        self.stats.stored_installed += 1;
        self.table.code(row.pc).ok_or(Unfit::Other)
    }
}

#[cfg(test)]
#[path = "stored/tests.rs"]
mod tests;

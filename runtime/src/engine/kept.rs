//! Tier 1's code kept over runs: what a block was compiled to is found again by the block itself, its bytes and the
//! flags that are live in it, and put in its place before its first execution. So a program's second start neither
//! interprets nor compiles what the first one ran often.
//!
//! A run keeps what it has compiled. When it isn't the program's first, it also compiles what was too rare to pay
//! within the run. Both are done when the process has nothing else to do any more, in another one that the guest's
//! parent doesn't wait for. Files that can't be read or written are no files; the guest doesn't notice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use xlate_abi::blocks::{self, Index};
use xlate_abi::cache::TEMPORARY;
use xlate_abi::protocol::{KeepIn, PcMapRow};
use xlate_x86::Block;

use super::baseline::symbol::Relocation;
use super::baseline::{Code, Options};
use super::table::AddressMap;
use super::{Engine, GuestCode, launch, stored};
use crate::config::{Config, EngineChoice};

/// Executions that make a block worth compiling for the next run.
const WORTH: u64 = 16;
/// The same when the time doesn't matter (`xlate cache warm`).
const WORTH_WARM: u64 = 2;
/// New blocks below which a file isn't written anew: a process, and the child of a fork, of which there may be many.
const FEW: usize = 16;
const FEW_FORKED: usize = 64;
/// Most of a run's own code that is remembered, bytes. What goes on compiling has its hot code in tier 2.
const MOST_NEW: usize = 8 << 20;
/// A file's size at most.
const MOST_KEPT: usize = 32 << 20;
/// The priority of the process that does that.
const NICE: i32 = 10;
/// How long the compiling for the next run may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The blocks of one program.
pub struct Kept {
    place: KeepIn,
    path: PathBuf,
    /// What earlier runs have left.
    index: Option<Index<'static>>,
    /// The number of each address's first row.
    first: AddressMap<usize>,
    /// What this run has compiled: addresses and records.
    new: Vec<(u64, Vec<u8>)>,
    new_bytes: usize,
    /// In the child of a fork, which leaves what it has in common with its parent to that.
    forked: bool,
}

/// A block's code as it is kept.
#[derive(Serialize, Deserialize)]
struct Record<'r> {
    /// All that decides what the block is compiled to ([`key`]).
    key: &'r [u8],
    code: &'r [u8],
    align: u32,
    /// Offsets in the code, and in the block.
    pc_map: Vec<(u32, u32)>,
    relocations: Vec<Relocation>,
    slots: Vec<u64>,
}

/// What a block's code depends on, but for its address: how it is compiled, the flags that are live behind each
/// instruction (code behind the block decides that, too), and its bytes.
fn key(block: &Block, bytes: &[u8], precise: bool, counted: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + 5 * block.insns.len() + bytes.len());
    key.extend([u8::from(precise), u8::from(counted), block.exit as u8]);
    for insn in &block.insns {
        key.push(insn.raw.len() as u8);
        key.extend(insn.live.to_le_bytes());
    }
    key.extend(bytes);
    key
}

fn record(key: &[u8], pc: u64, code: &Code) -> Option<Vec<u8>> {
    let record = Record {
        key,
        code: &code.bytes,
        align: code.align,
        pc_map: code.pc_map.iter().map(|row| (row.host_offset, (row.guest_pc.wrapping_sub(pc)) as u32)).collect(),
        relocations: code.relocations.clone(),
        slots: code.slots.clone(),
    };
    postcard::to_stdvec(&record).ok()
}

/// The code of a record, if it is for this.
fn code_of(record: &[u8], pc: u64, key: &[u8]) -> Option<Code> {
    let record: Record<'_> = postcard::from_bytes(record).ok()?;
    let row = |&(host_offset, offset): &(u32, u32)| PcMapRow { host_offset, guest_pc: pc.wrapping_add(offset.into()) };
    (record.key == key && record.align.is_power_of_two()).then(|| Code {
        bytes: record.code.to_vec(),
        align: record.align,
        pc_map: record.pc_map.iter().map(row).collect(),
        relocations: record.relocations,
        slots: record.slots,
    })
}

/// The key of a record, for telling what is there already.
fn key_of(record: &[u8]) -> Option<&[u8]> {
    postcard::take_from_bytes(record).ok().map(|(key, _)| key)
}

impl Kept {
    /// The program's blocks: beside its regions.
    fn open(place: KeepIn) -> Self {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&place.file)).with_extension(&blocks::SUFFIX[1..]);
        let index = map(&path).and_then(|file| sound(&path, &place, Box::leak(Box::new(file))));
        let mut first = AddressMap::default();
        for (n, row) in index.iter().flat_map(Index::rows).enumerate() {
            first.entry(row.pc).or_insert(n);
        }
        Self { place, path, index, first, new: Vec::new(), new_bytes: 0, forked: false }
    }

    fn find(&self, pc: u64, key: &[u8]) -> Option<Code> {
        let index = self.index.as_ref()?;
        let rows = index.rows_from(*self.first.get(&pc)?).take_while(|row| row.pc == pc);
        rows.into_iter().find_map(|row| code_of(index.record(&row)?, pc, key))
    }

    fn has(&self, pc: u64) -> bool {
        self.first.contains_key(&pc)
    }

    fn add(&mut self, key: &[u8], pc: u64, code: &Code) {
        if self.new_bytes < MOST_NEW
            && let Some(record) = record(key, pc, code)
        {
            self.new_bytes += record.len();
            self.new.push((pc, record));
        }
    }

    /// In the child of a fork.
    pub fn after_fork_child(&mut self) {
        self.forked = true;
        self.new.clear();
        self.new_bytes = 0;
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Makes the folder.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder())
    }

    /// Adds the new blocks to the file as it is now.
    fn write(&self) -> io::Result<()> {
        let folder = self.folder();
        let file = map(&self.path);
        let before = file.as_deref().and_then(|file| sound(&self.path, &self.place, file));
        let records = merged(&self.new, before.as_ref());
        let bytes = blocks::encode(self.place.context, &self.place.program, &records);
        if occupied(folder)? + bytes.len() as u64 > self.place.limit {
            // Until the service has made room.
            return Ok(());
        }
        let name = format!("{TEMPORARY}{}", std::process::id());
        let temporary = folder.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let written = file.write_all(&bytes).and_then(|()| fs::rename(&temporary, &self.path));
        written.inspect_err(|_| {
            // It counts as abandoned later otherwise.
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// The file's content, if it is this user's alone.
fn map(path: &Path) -> Option<Mmap> {
    let file = File::open(path).ok()?;
    if !stored::is_ours(&file.metadata().ok()?) {
        tracing::warn!(path = %path.display(), "ignored: others can write to it");
        return None;
    }
    // SAFETY: such files are never changed, only replaced, and only this user could.
    unsafe { Mmap::map(&file) }.ok()
}

/// The file's index, if it is for this program.
fn sound<'f>(path: &Path, place: &KeepIn, file: &'f [u8]) -> Option<Index<'f>> {
    match Index::read(file) {
        Ok(index) if index.context == place.context && index.program == place.program => Some(index),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "ignored: it is for another program");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "ignored");
            None
        }
    }
}

/// The new records and, as far as there is room, those of before that aren't among them.
fn merged<'r>(new: &'r [(u64, Vec<u8>)], before: Option<&Index<'r>>) -> Vec<(u64, &'r [u8])> {
    let mut records: Vec<(u64, &[u8])> = new.iter().map(|(pc, record)| (*pc, &record[..])).collect();
    let known: std::collections::HashSet<(u64, &[u8])> =
        records.iter().filter_map(|(pc, record)| Some((*pc, key_of(record)?))).collect();
    let mut size: usize = records.iter().map(|(_, record)| record.len()).sum();
    for row in before.into_iter().flat_map(Index::rows) {
        let Some(record) = before.and_then(|index| index.record(&row)) else { continue };
        let is_new = key_of(record).is_some_and(|key| !known.contains(&(row.pc, key)));
        if is_new && size + record.len() <= MOST_KEPT {
            size += record.len();
            records.push((row.pc, record));
        }
    }
    records
}

/// Space that the folder's files take.
fn occupied(folder: &Path) -> io::Result<u64> {
    let sizes = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.blocks() * 512));
    Ok(sizes.sum())
}

/// In a process of its own: nothing it does is urgent, and nobody is to notice it.
fn step_back() {
    // SAFETY: plain system calls; failing changes nothing but how much others notice.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"xlate-keep".as_ptr());
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

impl Engine {
    /// Finds what earlier runs have left of tier 1.
    pub(super) fn use_kept(&mut self, config: &Config, place: &KeepIn) {
        if config.engine == EngineChoice::Auto {
            let kept = Kept::open(place.clone());
            self.stats.kept_rows = kept.index.map_or(0, |index| index.len() as u64);
            self.kept = Some(kept);
        }
    }

    /// Puts the code of an earlier run in its place for a block that was decoded just now; gives its entry.
    pub(super) fn kept_code(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<u64> {
        let kept = self.kept.as_ref().filter(|kept| kept.has(pc))?;
        let start = Instant::now();
        let entry = self.table.block(pc).filter(|entry| entry.snapshot.is_none())?;
        let decoded = Rc::clone(&entry.decoded);
        let key = key(&decoded.block, &bytes_of(&decoded.block, memory)?, self.precise, self.counts());
        let code = kept.find(pc, &key)?;
        // Its turn for tier 2 comes as if it had been interpreted first.
        let countdown = self.thresholds.optimized.saturating_add(self.thresholds.baseline);
        let native = self.make_room().and_then(|()| self.place(pc, code, countdown));
        self.stats.stored_time += start.elapsed();
        match native {
            Ok(native) => {
                self.stats.kept_installed += 1;
                let entry = native.entry;
                self.table.block(pc)?.native = Some(native);
                Some(entry)
            }
            Err(error) => {
                tracing::warn!(pc = format_args!("{pc:#x}"), %error, "kept block ignored");
                self.stats.stored_damaged += 1;
                None
            }
        }
    }

    /// Remembers what a block was compiled to.
    pub(super) fn keep_code(&mut self, block: &Block, options: Options<'_>, code: &Code, memory: &dyn GuestCode) {
        if options.check.is_none()
            && let Some(kept) = &mut self.kept
            && let Some(bytes) = bytes_of(block, memory)
        {
            kept.add(&key(block, &bytes, options.precise, options.counted), block.pc, code);
        }
    }

    /// At the end of the process: keeps what is worth it, without holding up whoever waits for the guest.
    pub fn keep_blocks(&mut self, memory: &dyn GuestCode) {
        let Some(kept) = &self.kept else { return };
        let first = kept.index.is_none();
        let (forked, new) = (kept.forked, kept.new.len());
        let worth = if first || forked { Vec::new() } else { self.uncompiled(WORTH) };
        let few = if forked { FEW_FORKED } else { FEW };
        // A first run leaves a file in any case, by which the second knows that it is one.
        if new + worth.len() < few && (forked || !first) {
            return;
        }
        // Here, not there: a folder that is removed meanwhile stays so.
        let prepared = self.kept.as_ref().map_or(Ok(()), Kept::prepare);
        let started = prepared.and_then(|()| {
            launch::detached(|| {
                step_back();
                self.compile_for_later(&worth, memory);
                if let Some(kept) = &self.kept {
                    // Nobody is left to be told.
                    let _ = kept.write();
                }
            })
        });
        if let Err(error) = started {
            tracing::debug!(%error, "nothing is kept");
        }
    }

    /// `xlate cache warm`: compiles and keeps all blocks that ran more than once, here and now.
    pub(super) fn warm_up_blocks(&mut self, memory: &dyn GuestCode) {
        if self.kept.is_none() {
            return;
        }
        let worth = self.uncompiled(WORTH_WARM);
        self.compile_for_later(&worth, memory);
        let Some(kept) = &mut self.kept else { return };
        if let Err(error) = kept.prepare().and_then(|()| kept.write()) {
            tracing::warn!(path = %kept.path.display(), %error, "the blocks' code isn't kept");
        }
        kept.new.clear();
    }

    /// Blocks without code of tier 1 that ran at least so often, the most often executed first.
    fn uncompiled(&mut self, executions: u64) -> Vec<u64> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        for pc in self.table.block_addresses() {
            let Some(entry) = self.table.block(pc) else { continue };
            let runs = entry.decoded.runs.get();
            if entry.native.is_none() && !entry.no_native && entry.snapshot.is_none() && runs >= executions {
                found.push((runs, pc));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, pc)| pc).collect()
    }

    fn compile_for_later(&mut self, worth: &[u64], memory: &dyn GuestCode) {
        let start = Instant::now();
        for &pc in worth {
            if start.elapsed() > PATIENCE {
                return;
            }
            let Some(decoded) = self.table.block(pc).map(|entry| Rc::clone(&entry.decoded)) else { continue };
            let options = Options { precise: self.precise, counted: self.counts(), check: None };
            if let Ok(code) = self.compile(&decoded.block, options) {
                self.keep_code(&decoded.block, options, &code, memory);
            }
        }
    }
}

/// A block's bytes in guest memory.
fn bytes_of(block: &Block, memory: &dyn GuestCode) -> Option<Vec<u8>> {
    let mut bytes = vec![0; block.len() as usize];
    (memory.fetch(block.pc, &mut bytes) == bytes.len()).then_some(bytes)
}

#[cfg(test)]
#[path = "kept/tests.rs"]
mod tests;

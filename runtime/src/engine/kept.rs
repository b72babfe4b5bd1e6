//! Tier 1's code kept over runs: a block's code is found again by its address, and put in its place before the block's
//! first execution. So a program's second start neither decodes nor interprets nor compiles what the first one ran often.
//!
//! What tells that it still fits are sums of the guest pages that the block depends on ([`depends`]). Each page is looked
//! at once, and again when a call of the guest's may have changed it. Code that the guest can write to isn't kept.
//!
//! A run keeps what it has compiled. When it isn't the program's first, all the rest is compiled, too, which was too rare
//! to pay within the run. Both are done after the run's end, by another process ([`handover`]). Files that can't be read or
//! written are treated as if they weren't there; the guest doesn't notice.

mod depends;
pub mod handover;
pub mod record;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use xlate_abi::blocks::{self, Index, Page};
use xlate_abi::cache::{TEMPORARY, checksum};
use xlate_abi::protocol::{CodeBytes, KeepIn};

use super::baseline::{Code, Options};
use super::compile::CompileError;
use super::interpreter::DecodedBlock;
use super::table::{AddressMap, Entry, GuestMap};
use super::workers::{Work, Workers};
use super::{Engine, GuestCode, called, stored};
use crate::config::{Config, EngineChoice};
use handover::{Handover, Uncompiled};
use record::{Facts, How, Record};

/// New blocks below which a file isn't written anew: a process, and the child of a fork, of which there may be many.
const FEW: usize = 16;
const FEW_FORKED: usize = 64;
/// Most of a run's own code that is remembered, bytes. What goes on compiling has its hot code in tier 2.
const MOST_NEW: usize = 16 << 20;
/// A file's size at most.
const MOST_KEPT: usize = 32 << 20;
/// How long `xlate cache warm` may take to compile the rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// The blocks of one program.
pub struct Kept {
    place: KeepIn,
    path: PathBuf,
    /// Who writes it; nobody where there is no service.
    workers: Option<Workers>,
    /// What earlier runs have left.
    index: Option<Index<'static>>,
    /// The number of each address's first row.
    first: AddressMap<u32>,
    /// What is known of each of the file's pages.
    pages: Vec<State>,
    /// What this run has compiled.
    new: Vec<New>,
    new_bytes: usize,
    /// In the child of a fork, which leaves what it has in common with its parent to that.
    forked: bool,
}

/// What is known of a page of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// Guest memory holds it, where only a call of the guest's can change it.
    Holds,
    Other,
}

/// A block compiled in this run.
struct New {
    how: How,
    decoded: Rc<DecodedBlock>,
    code: Code,
}

/// What a page held: its address and sum.
type Held = (u64, u64);

/// A record that has no pages' numbers yet.
struct Draft {
    pc: u64,
    how: How,
    pages: Vec<Held>,
    record: Vec<u8>,
}

impl New {
    /// As it is handed over.
    fn compiled(&self) -> Compiled<'_> {
        Compiled {
            pc: self.decoded.block.pc,
            how: self.how.bits(),
            fingerprint: handover::fingerprint(&self.decoded.block),
            seen: self.decoded.observed_targets(),
            code: Cow::Borrowed(&self.code),
        }
    }
}

/// A compiled block.
#[derive(Serialize, Deserialize)]
pub struct Compiled<'a> {
    pc: u64,
    /// [`How`]'s bits.
    how: u8,
    /// Of the block that the code was made from ([`handover::fingerprint`]).
    fingerprint: u64,
    /// Where the indirect jump or call at its end was seen to lead.
    seen: Vec<u64>,
    code: Cow<'a, Code>,
}

impl Compiled<'_> {
    /// What is to be written of it: nothing if the code that it was made from has changed since, or if a page that it depends
    /// on isn't fit to be depended on.
    fn draft(&self, memory: &dyn GuestCode, fit: &dyn Fn(u64) -> bool, sums: &mut depends::Sums) -> Option<Draft> {
        let how = How::from_bits_retain(self.how);
        let (block, pages) = depends::decode_noting(self.pc, how.contains(How::PRECISE), memory);
        if handover::fingerprint(&block) != self.fingerprint || !pages.iter().all(|page| fit(*page)) {
            return None;
        }
        let facts = Facts { how, len: block.len, calls: called(&block), seen: &self.seen, pages: pages.len() };
        let record = record::encode(self.pc, &self.code, &facts)?;
        let pages = pages.into_iter().map(|page| (page, sums.of(page, memory))).collect();
        Some(Draft { pc: self.pc, how, pages, record })
    }
}

/// Adds blocks to a program's file as it is now.
fn write<'a>(
    place: &KeepIn,
    blocks: impl Iterator<Item = &'a Compiled<'a>>,
    memory: &dyn GuestCode,
    fit: &dyn Fn(u64) -> bool,
) -> io::Result<()> {
    let path = path_of(place);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut sums = depends::Sums::default();
    let mut drafts: Vec<Draft> = blocks.filter_map(|block| block.draft(memory, fit, &mut sums)).collect();
    let file = map(&path);
    if let Some(before) = file.as_deref().and_then(|file| sound(&path, place, file)) {
        add_before(&mut drafts, &before);
    }
    let bytes = encode(place, drafts);
    if occupied(folder)? + bytes.len() as u64 > place.limit {
        // Until the service has made room.
        return Ok(());
    }
    replace(&path, &bytes)
}

/// Puts a file with this content under the name. It has no name until it is whole: who removes the folder meanwhile finds
/// it empty.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = folder.join(format!("{TEMPORARY}{}", std::process::id()));
    let unnamed = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(folder);
    match unnamed {
        Ok(mut file) => {
            file.write_all(bytes)?;
            name_file(&file, &temporary)?;
        }
        // File systems, and emulators, without such files.
        Err(error) if [Some(libc::EOPNOTSUPP), Some(libc::EISDIR)].contains(&error.raw_os_error()) => {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?
                .write_all(bytes)?;
        }
        Err(error) => return Err(error),
    }
    fs::rename(&temporary, path).inspect_err(|_| {
        // It counts as abandoned later otherwise.
        let _ = fs::remove_file(&temporary);
    })
}

/// Gives a file without a name one (linkat(2)).
fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
    let from = text(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes())?;
    let to = text(path.as_os_str().as_bytes())?;
    let follow = libc::AT_SYMLINK_FOLLOW;
    // SAFETY: two C strings.
    let linked = unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), follow) };
    if linked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a program's blocks are: beside its regions.
fn path_of(place: &KeepIn) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&place.file)).with_extension(&blocks::SUFFIX[1..])
}

impl Kept {
    /// The program's blocks.
    fn open(place: KeepIn, workers: Option<Workers>) -> Self {
        let path = path_of(&place);
        let index = map(&path).and_then(|file| sound(&path, &place, Box::leak(Box::new(file))));
        let (rows, pages) = index.map_or((&[][..], 0), |index| (index.rows, index.pages.len()));
        let mut first = AddressMap::default();
        first.reserve(rows.len());
        for (n, row) in rows.iter().enumerate() {
            first.entry(row.pc.get()).or_insert(n as u32);
        }
        let pages = vec![State::Unknown; pages];
        Self { place, path, workers, index, first, pages, new: Vec::new(), new_bytes: 0, forked: false }
    }

    /// The record of a block at `pc` that was compiled like this, where memory holds all that it depends on, and its
    /// row's number.
    fn find(&mut self, pc: u64, how: How, holds: &dyn Fn(&Page) -> bool) -> Option<(u32, Record<'static>)> {
        let first = *self.first.get(&pc)?;
        let index = self.index?;
        let rows = index.rows[first as usize..].iter().take_while(|row| row.pc == pc);
        (first..).zip(rows).find_map(|(n, row)| {
            let record = Record::read(index.record(row)?)?;
            (record.how() == how && self.all_hold(&record, index.pages, holds)).then_some((n, record))
        })
    }

    fn all_hold(&mut self, record: &Record<'_>, pages: &[Page], holds: &dyn Fn(&Page) -> bool) -> bool {
        record.pages.iter().all(|number| {
            let number = number.get() as usize;
            let (Some(page), Some(state)) = (pages.get(number), self.pages.get_mut(number)) else { return false };
            if *state == State::Unknown {
                *state = if holds(page) { State::Holds } else { State::Other };
            }
            *state == State::Holds
        })
    }

    /// Guest memory in a range may have changed.
    pub fn invalidate(&mut self, start: u64, end: u64) {
        let Some(index) = &self.index else { return };
        let from = index.pages.partition_point(|page| page.address.get() + blocks::PAGE_LEN <= start);
        let to = index.pages.partition_point(|page| page.address.get() < end);
        if from < to {
            self.pages[from..to].fill(State::Unknown);
        }
    }

    fn add(&mut self, new: New) {
        if self.new_bytes < MOST_NEW {
            self.new_bytes += new.code.bytes.len();
            self.new.push(new);
        }
    }

    /// In the child of a fork.
    pub fn after_fork_child(&mut self) {
        self.forked = true;
        self.new.clear();
        self.new_bytes = 0;
    }

    /// Makes the folder.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.path.parent().unwrap_or(Path::new("/")))
    }

    /// Adds the new blocks to the file, from within the run.
    fn write(&self, memory: &dyn GuestCode) -> io::Result<()> {
        let compiled: Vec<Compiled<'_>> = self.new.iter().map(New::compiled).collect();
        write(&self.place, compiled.iter(), memory, &|_| true)
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

/// Adds to the new records, as far as there is room, those of before that aren't among them.
fn add_before(drafts: &mut Vec<Draft>, before: &Index<'_>) {
    let known: HashSet<(u64, How, Vec<Held>)> =
        drafts.iter().map(|draft| (draft.pc, draft.how, draft.pages.clone())).collect();
    let mut size: usize = drafts.iter().map(|draft| draft.record.len()).sum();
    for row in before.rows {
        let Some(draft) = before.record(row).and_then(|bytes| draft_of(row.pc.get(), bytes, before)) else { continue };
        if size + draft.record.len() <= MOST_KEPT {
            let key = (draft.pc, draft.how, draft.pages);
            if !known.contains(&key) {
                size += draft.record.len();
                drafts.push(Draft { pages: key.2, ..draft });
            }
        }
    }
}

/// A record of a file, taken out of it.
fn draft_of(pc: u64, bytes: &[u8], index: &Index<'_>) -> Option<Draft> {
    let record = Record::read(bytes)?;
    let page = |number: usize| index.pages.get(number).map(|page| (page.address.get(), page.sum.get()));
    let pages = record.pages.iter().map(|number| page(number.get() as usize)).collect::<Option<_>>()?;
    Some(Draft { pc, how: record.how(), pages, record: bytes.to_vec() })
}

/// A file of these records.
fn encode(place: &KeepIn, mut drafts: Vec<Draft>) -> Vec<u8> {
    let mut numbers: BTreeMap<Held, u32> =
        drafts.iter().flat_map(|draft| &draft.pages).map(|page| (*page, 0)).collect();
    numbers.values_mut().zip(0..).for_each(|(number, n)| *number = n);
    for draft in &mut drafts {
        record::set_pages(&mut draft.record, draft.pages.iter().map(|page| numbers[page]));
    }
    let pages: Vec<Held> = numbers.into_keys().collect();
    let records: Vec<(u64, &[u8])> = drafts.iter().map(|draft| (draft.pc, &draft.record[..])).collect();
    blocks::encode(place.context, &place.program, &pages, &records)
}

/// Space that the folder's files take.
fn occupied(folder: &Path) -> io::Result<u64> {
    let sizes = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.blocks() * 512));
    Ok(sizes.sum())
}

impl Engine {
    /// Finds what earlier runs have left of tier 1.
    pub(super) fn use_kept(&mut self, config: &Config, place: &KeepIn) {
        if config.engine == EngineChoice::Auto {
            let kept = Kept::open(place.clone(), Workers::new(config));
            self.stats.kept_rows = kept.index.map_or(0, |index| index.rows.len() as u64);
            self.kept = Some(kept);
        }
    }

    /// Puts the code of an earlier run in its place for the block at `pc`, whether it was decoded or not; gives its entry.
    pub(super) fn kept_code(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<u64> {
        let how = How::of(Options { precise: self.precise, counted: self.counts(), check: None });
        // Code that the guest can write to is never kept.
        let holds = |page: &Page| page.sum == depends::page_sum(page.address.get(), memory);
        let (row, record) = self.kept.as_mut()?.find(pc, how, &holds)?;
        match self.install_kept(pc, row, &record) {
            Ok(entry) => {
                self.stats.kept_installed += 1;
                Some(entry)
            }
            Err(error) => {
                tracing::warn!(pc = format_args!("{pc:#x}"), %error, "kept block ignored");
                self.stats.stored_damaged += 1;
                None
            }
        }
    }

    fn install_kept(&mut self, pc: u64, row: u32, record: &Record<'static>) -> Result<u64, CompileError> {
        self.make_room()?;
        // Its turn for tier 2 comes as if it had been interpreted first.
        let countdown = self.thresholds.optimized.saturating_add(self.thresholds.baseline);
        let slots: Vec<u64> = record.slots.iter().map(|target| self.table.slot(target.get()) as u64).collect();
        let align = record.align().ok_or(CompileError::Relocation)?;
        let pcs = GuestMap::Kept { pc, rows: record.pc_map };
        let mut code = std::mem::take(&mut self.scratch);
        code.clear();
        code.extend_from_slice(record.code);
        let native = self.put(pc, &mut code, align, record.relocations(), &slots, pcs, countdown);
        self.scratch = code;
        let native = native?;
        let address = native.entry;
        match self.table.block(pc) {
            Some(entry) => entry.run_by(native),
            None => {
                let entry = Entry::kept(record.head.len.get(), native, row);
                self.table.insert_block(pc, entry, record.calls());
            }
        }
        self.look_as_before(pc, record);
        Ok(address)
    }

    /// Has a block dropped with the code by which it was settled what flags it keeps. Its pages are watched.
    fn look_as_before(&mut self, pc: u64, record: &Record<'_>) {
        let Some(index) = self.kept.as_ref().and_then(|kept| kept.index) else { return };
        let end = pc + u64::from(record.head.len.get());
        let addresses = record.pages.iter().filter_map(|n| Some(index.pages.get(n.get() as usize)?.address.get()));
        for page in addresses.filter(|page| page + blocks::PAGE_LEN <= pc || *page >= end) {
            self.table.depends_on(pc, page);
        }
    }

    /// Where an earlier run saw the block of a row lead.
    pub(super) fn kept_targets(&self, row: u32) -> Vec<u64> {
        let index = self.kept.as_ref().and_then(|kept| kept.index);
        let record = index.and_then(|index| Record::read(index.record(index.rows.get(row as usize)?)?));
        record.map_or_else(Vec::new, |record| record.seen.iter().map(|target| target.get()).collect())
    }

    /// Remembers what a block was compiled to.
    pub(super) fn keep_code(&mut self, decoded: &Rc<DecodedBlock>, options: Options<'_>, code: &Code) {
        let how = How::of(options);
        if !decoded.block.mutable
            && let Some(kept) = &mut self.kept
        {
            kept.add(New { how, decoded: Rc::clone(decoded), code: code.clone() });
        }
    }

    /// At the end of the process: has what is worth it kept, without holding up whoever waits for the guest.
    pub fn keep_blocks(&mut self, memory: &dyn GuestCode) {
        let Some(kept) = &self.kept else { return };
        let first = kept.index.is_none();
        let (forked, new) = (kept.forked, kept.new.len());
        let worth = if first || forked { Vec::new() } else { self.uncompiled() };
        let few = if forked { FEW_FORKED } else { FEW };
        // A first run leaves a file in any case, by which the second knows that it is one.
        if new + worth.len() < few && (forked || !first) {
            return;
        }
        if let Err(error) = self.hand_over(&worth, memory) {
            tracing::debug!(%error, "nothing is kept");
        }
    }

    /// Has a worker keep what this run has compiled, and compile the rest of what is worth it.
    fn hand_over(&mut self, worth: &[u64], memory: &dyn GuestCode) -> io::Result<()> {
        let handover = self.handover(worth, memory)?.write()?;
        let Some(Kept { workers: Some(workers), place, .. }) = &self.kept else {
            return Err(io::Error::other("there is no service"));
        };
        workers.start(Work::Keep, Some(checksum(&place.file)), handover.as_fd())
    }

    /// What a worker needs for that. Creates the folder, and the worker doesn't: if the user deletes it later, it isn't
    /// created again.
    fn handover(&mut self, worth: &[u64], memory: &dyn GuestCode) -> io::Result<Handover<'_>> {
        let how = How::of(Options { precise: self.precise, counted: self.counts(), check: None }).bits();
        let uncompiled = worth.iter().filter_map(|&pc| {
            let decoded = self.table.block(pc)?.decoded.as_ref()?;
            Some(Uncompiled { pc, seen: decoded.observed_targets() })
        });
        let uncompiled = uncompiled.collect();
        let pages = self.looked_at(memory);
        let kept = self.kept.as_ref().ok_or_else(|| io::Error::other("nothing is to be kept"))?;
        kept.prepare()?;
        let compiled = kept.new.iter().map(New::compiled).collect();
        Ok(Handover { place: Cow::Borrowed(&kept.place), compiled, uncompiled, how, pages })
    }

    /// The pages of fixed code that decoding has looked at, as they are now. Each has its neighbour with it: an instruction may
    /// have been looked for there.
    fn looked_at(&self, memory: &dyn GuestCode) -> Vec<CodeBytes> {
        let looked_at = self.table.looked_at().flat_map(|page| [page, page + blocks::PAGE_LEN]);
        let pages: BTreeSet<u64> = looked_at.collect();
        let read = |address| {
            let mut bytes = vec![0; blocks::PAGE_LEN as usize];
            let there = memory.fetch_fixed(address, &mut bytes);
            bytes.truncate(there);
            CodeBytes { address, bytes }
        };
        pages.into_iter().map(read).collect()
    }

    /// `xlate cache warm`: compiles and keeps all blocks, here and now.
    pub(super) fn warm_up_blocks(&mut self, memory: &dyn GuestCode) {
        if self.kept.is_none() {
            return;
        }
        let worth = self.uncompiled();
        self.compile_for_later(&worth);
        let Some(kept) = &mut self.kept else { return };
        if let Err(error) = kept.prepare().and_then(|()| kept.write(memory)) {
            tracing::warn!(path = %kept.path.display(), %error, "the blocks' code isn't kept");
        }
        kept.new.clear();
    }

    /// Blocks without code of tier 1, the most often executed first. Even what ran once is sooner put in its place than
    /// decoded and interpreted: a start of Python takes a fifth less time than with what ran 16 times.
    fn uncompiled(&mut self) -> Vec<u64> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        for pc in self.table.block_addresses() {
            let Some(entry) = self.table.block(pc) else { continue };
            let runs = entry.runs();
            let mutable = entry.decoded.as_ref().is_some_and(|decoded| decoded.block.mutable);
            if entry.native.is_none() && !entry.no_native && !mutable {
                found.push((runs, pc));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, pc)| pc).collect()
    }

    fn compile_for_later(&mut self, worth: &[u64]) {
        let start = Instant::now();
        for &pc in worth {
            if start.elapsed() > PATIENCE {
                return;
            }
            let Some(decoded) = self.table.block(pc).and_then(|entry| entry.decoded.clone()) else { continue };
            let options = Options { precise: self.precise, counted: self.counts(), check: None };
            if let Ok(code) = self.compile(&decoded.block, options) {
                self.keep_code(&decoded, options, &code);
            }
        }
    }
}

#[cfg(test)]
#[path = "kept/tests.rs"]
mod tests;

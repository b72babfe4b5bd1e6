//! Making code: compiles blocks in tier 1, and puts their code and tier 2's blobs into the cache.

use std::rc::Rc;

use xlate_abi::protocol::Blob;
use xlate_abi::state::LinkSlot;
use xlate_x86::Block;

use super::baseline::{BaselineError, Code, Compiler, Options};
use super::cache::{CacheError, CodeCache, Place};
use super::perf_map::Tier;
use super::table::{Code as EntryPoints, Counter, Native};
use super::{Engine, Thresholds, entry};

/// Code memory of one process.
const CACHE_SIZE: usize = 128 << 20;
/// Room that is kept for the next piece of code; one block's is far smaller.
const MARGIN: usize = 1 << 20;

/// Why tier 1 has no code for a block.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("the code cache has no room for {len} bytes")]
    Full { len: usize },
    #[error("malformed blob: {0}")]
    Blob(&'static str),
    #[error("can't write to the code cache: {0}")]
    Write(#[from] std::io::Error),
}

/// Whether blocks count their executions.
fn counted(thresholds: Thresholds) -> bool {
    thresholds.optimized != u64::MAX
}

impl Engine {
    /// Compiles the known block at `pc` and gives its entry; `None` if tier 1 refuses it.
    pub(super) fn compile_baseline(&mut self, pc: u64) -> Option<u64> {
        match self.try_baseline(pc) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::warn!(pc = format_args!("{pc:#x}"), %error, "no baseline code; interpreting");
                self.stats.baseline_refused += 1;
                None
            }
        }
    }

    fn try_baseline(&mut self, pc: u64) -> Result<u64, CompileError> {
        self.make_room()?;
        let entry = self.table.block(pc).expect("the caller has decoded it");
        let decoded = Rc::clone(&entry.decoded);
        let snapshot = entry.snapshot.clone();
        let counted = counted(self.thresholds) && snapshot.is_none();
        let mut counter = counted.then(|| Counter::new(self.thresholds.optimized));
        let options =
            Options { precise: self.precise, counter: counter.as_mut().map(Counter::cell), check: snapshot.as_deref() };
        let address = self.make_code(&decoded.block, options)?;
        let entry = self.table.block(pc).expect("still there");
        entry.native = Some(Native { entry: address, counter });
        Ok(address)
    }

    /// Compiles a block and puts its code into the cache; gives its entry.
    pub(super) fn make_code(&mut self, block: &Block, options: Options<'_>) -> Result<u64, CompileError> {
        self.native()?;
        let (compiler, _) = self.native.as_mut().expect("made above");
        let code = compiler.compile(block, options, &mut self.table)?;
        self.stats.baseline_blocks += 1;
        self.stats.baseline_instructions += block.insns.len() as u64;
        self.stats.baseline_bytes += code.bytes.len() as u64;
        self.stats.baseline_time += code.time;
        let len = code.bytes.len() as u64;
        let address = self.install(code)?;
        self.note_code(Tier::Baseline, address, len, block.pc);
        Ok(address)
    }

    /// Empties the cache when it is nearly full. Only while no translated code runs.
    pub(super) fn make_room(&mut self) -> Result<(), CompileError> {
        if self.native()?.1.free() < MARGIN {
            self.flush_cache();
        }
        Ok(())
    }

    /// The compiler and the code memory, made on first use.
    pub(super) fn native(&mut self) -> Result<&mut (Compiler, CodeCache), CompileError> {
        if self.native.is_none() {
            self.native = Some((Compiler::new()?, CodeCache::new(CACHE_SIZE)?));
        }
        Ok(self.native.as_mut().expect("made above"))
    }

    /// Puts code into the cache.
    fn install(&mut self, code: Code) -> Result<u64, CompileError> {
        let place = self.reserve(code.bytes.len(), code.align as usize)?;
        let (_, cache) = self.native()?;
        cache.write(place, &code.bytes)?;
        let end = place.address + place.len as u64;
        self.table.map_code(place.address, end, code.pc_map);
        Ok(place.address)
    }

    fn note_code(&mut self, tier: Tier, address: u64, len: u64, guest_pc: u64) {
        if let Some(map) = &mut self.perf_map {
            map.add(tier, address, len, guest_pc);
        }
    }

    fn reserve(&mut self, len: usize, align: usize) -> Result<Place, CompileError> {
        let (_, cache) = self.native()?;
        cache.reserve(len, align).ok_or(CompileError::Full { len })
    }

    /// Puts a blob's code and data into the cache, its slots unlinked; gives its entries.
    pub(super) fn place_blob(&mut self, blob: &Blob) -> Result<EntryPoints, CompileError> {
        let align = blob.data_align.max(16) as usize;
        let data = blob.code.len().next_multiple_of(align);
        let place = self.reserve(data + blob.data_len as usize, align)?;
        let (_, cache) = self.native()?;
        cache.write_blob(place, &blob.code, data)?;
        for slot in &blob.slots {
            let at = place.address + data as u64 + u64::from(slot.offset);
            if slot.offset as usize + size_of::<LinkSlot>() > blob.data_len as usize {
                return Err(CompileError::Blob("a link slot lies outside of its data"));
            }
            // SAFETY: inside the data of this place, which is writable and which no code uses yet.
            unsafe {
                (at as *mut LinkSlot).write(LinkSlot { code: entry::link_stub(), guest_pc: slot.guest_pc });
            }
        }
        if blob.entry_offset.max(blob.passed_offset) as usize >= blob.code.len() {
            return Err(CompileError::Blob("its entry lies outside of its code"));
        }
        let end = place.address + blob.code.len() as u64;
        self.table.map_code(place.address, end, blob.pc_map.clone());
        self.note_code(Tier::Optimized, place.address, blob.code.len() as u64, blob.entry_pc);
        let at = |offset: u32| place.address + u64::from(offset);
        Ok(EntryPoints { entry: at(blob.entry_offset), passed: at(blob.passed_offset) })
    }
}

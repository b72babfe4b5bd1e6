//! Making code: compiles blocks in tier 1, and puts their code and tier 2's blobs into the cache.

use std::rc::Rc;
use std::time::Instant;

use xlate_abi::protocol::Blob;
use xlate_abi::state::LinkSlot;
use xlate_x86::Block;

use super::baseline::symbol::{Relocation, Symbol, relocate};
use super::baseline::{BaselineError, Code, Compiler, Options};
use super::cache::{CacheError, CodeCache, Place};
use super::perf_map::Tier;
use super::table::{Code as EntryPoints, Counter, GuestMap, Native};
use super::{Engine, entry};

/// Code memory of one process.
const CACHE_SIZE: usize = 96 << 20;
/// Where the host limits the address space, at most this part of it (and one of `SMALLEST` at least): the rest is the
/// program's.
const CACHE_PART: u64 = 16;
const SMALLEST: u64 = 4 << 20;
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
    #[error("code that refers to what there is not")]
    Relocation,
    #[error("can't write to the code cache: {0}")]
    Write(#[from] std::io::Error),
}

/// How much code memory there may be.
fn cache_size() -> usize {
    let space = crate::memory::Limit::of_host(libc::RLIMIT_AS as libc::c_int).soft;
    let part = (space / CACHE_PART).max(SMALLEST).next_multiple_of(SMALLEST);
    usize::try_from(part).map_or(CACHE_SIZE, |part| part.min(CACHE_SIZE))
}

impl Engine {
    /// Whether blocks count their executions.
    pub(super) fn counts(&self) -> bool {
        self.thresholds.optimized != u64::MAX
    }

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
        let counts = self.counts();
        let entry = self.table.block(pc).expect("the caller has decoded it");
        let decoded = Rc::clone(entry.decoded.as_ref().expect("only a block with code isn't decoded"));
        let snapshot = entry.snapshot.clone();
        let options =
            Options { precise: self.precise, counted: counts && snapshot.is_none(), check: snapshot.as_deref() };
        let code = self.compile(&decoded.block, options)?;
        self.keep_code(&decoded, options, &code);
        self.note_baseline(&decoded.block, &code);
        let native = self.place(pc, code, self.thresholds.optimized)?;
        let address = native.entry;
        self.table.block(pc).expect("still there").run_by(native);
        Ok(address)
    }

    /// Counts a compiled block.
    pub(super) fn note_baseline(&mut self, block: &Block, code: &Code) {
        self.stats.baseline_blocks += 1;
        self.stats.baseline_instructions += block.insns.len() as u64;
        self.stats.baseline_bytes += code.bytes.len() as u64;
    }

    /// Compiles a block in tier 1.
    pub(super) fn compile(&mut self, block: &Block, options: Options<'_>) -> Result<Code, CompileError> {
        let start = Instant::now();
        if self.compiler.is_none() {
            self.compiler = Some(Compiler::new()?);
        }
        let code = self.compiler.as_mut().expect("made above").compile(block, options)?;
        self.stats.baseline_time += start.elapsed();
        Ok(code)
    }

    /// Puts the code of the block at `pc` into the cache. If it counts, it asks for promotion after so many executions.
    pub(super) fn place(&mut self, pc: u64, mut code: Code, executions: u64) -> Result<Native, CompileError> {
        let slots: Vec<u64> = code.slots.iter().map(|target| self.table.slot(*target) as u64).collect();
        let relocations = code.relocations.iter().copied().map(Some);
        self.put(pc, &mut code.bytes, code.align as usize, relocations, &slots, GuestMap::Made(code.pc_map), executions)
    }

    /// The same with what is to be filled in beside the code, and the addresses of its slots.
    #[expect(clippy::too_many_arguments, reason = "the parts of a piece of code, which lie in different places")]
    pub(super) fn put(
        &mut self,
        pc: u64,
        code: &mut [u8],
        align: usize,
        relocations: impl Iterator<Item = Option<Relocation>> + Clone,
        slots: &[u64],
        pcs: GuestMap,
        executions: u64,
    ) -> Result<Native, CompileError> {
        let counts = relocations.clone().flatten().any(|r| r.symbol == Symbol::Counter);
        let mut counter = counts.then(|| Box::new(Counter::new(executions)));
        let cell = counter.as_mut().map(|counter| counter.cell() as u64);
        if !relocate(code, relocations, slots, cell) {
            return Err(CompileError::Relocation);
        }
        let place = self.reserve(code.len(), align)?;
        self.native()?.write(place, code)?;
        let len = code.len() as u64;
        self.table.map_code(place.address, place.address + len, pcs);
        self.note_code(Tier::Baseline, place.address, len, pc);
        Ok(Native { entry: place.address, counter })
    }

    /// Empties the cache when it is nearly full. Only while no translated code runs.
    pub(super) fn make_room(&mut self) -> Result<(), CompileError> {
        if self.native()?.free() < MARGIN {
            self.flush_cache();
        }
        Ok(())
    }

    /// The code memory, made on first use.
    pub(super) fn native(&mut self) -> Result<&mut CodeCache, CompileError> {
        if self.native.is_none() {
            self.native = Some(CodeCache::new(cache_size())?);
        }
        Ok(self.native.as_mut().expect("made above"))
    }

    fn note_code(&mut self, tier: Tier, address: u64, len: u64, guest_pc: u64) {
        if let Some(map) = &mut self.perf_map {
            map.add(tier, address, len, guest_pc);
        }
    }

    fn reserve(&mut self, len: usize, align: usize) -> Result<Place, CompileError> {
        self.native()?.reserve(len, align).ok_or(CompileError::Full { len })
    }

    /// Puts a blob's code and data into the cache, its slots unlinked; gives its entries.
    pub(super) fn place_blob(&mut self, blob: &Blob) -> Result<EntryPoints, CompileError> {
        let align = blob.data_align.max(16) as usize;
        let data = blob.code.len().next_multiple_of(align);
        let place = self.reserve(data + blob.data_len as usize, align)?;
        self.native()?.write_blob(place, &blob.code, data)?;
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
        self.table.map_code(place.address, end, GuestMap::Made(blob.pc_map.clone()));
        self.note_code(Tier::Optimized, place.address, blob.code.len() as u64, blob.entry_pc);
        let at = |offset: u32| place.address + u64::from(offset);
        Ok(EntryPoints { entry: at(blob.entry_offset), passed: at(blob.passed_offset) })
    }
}

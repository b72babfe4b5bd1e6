//! What the dispatcher knows of guest code: blocks and regions by address and by page, the links that lead to them,
//! and which guest instruction a host address belongs to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use xlate_abi::protocol::{COLD_FRACTION, Formed, PcMapRow};
use xlate_abi::state::{LOOKUP_ENTRIES, LinkSlot, LookupEntry, lookup_index, second_place};

use super::entry;
use super::interpreter::{DecodedBlock, DecodedCache};
use super::kept::record::PcRow;

const PAGE_SHIFT: u32 = 12;

/// Hashes guest addresses: one multiplication, its high bits folded down.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        let product = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

pub type AddressMap<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;
pub type AddressSet = HashSet<u64, BuildHasherDefault<AddressHasher>>;

/// Where code is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// By the block ABI.
    pub entry: u64,
    /// By tier 2, with [`xlate_abi::state::PASSED`] registers at hand.
    pub passed: u64,
}

impl Code {
    /// Code that takes its registers from the state only.
    pub fn plain(entry: u64) -> Self {
        Self { entry, passed: entry }
    }
}

/// A linked slot, and whether it is tier 2's.
#[derive(Clone, Copy)]
pub struct Link {
    pub slot: *mut LinkSlot,
    pub passes: bool,
}

impl Link {
    /// # Safety
    /// The slot is one of code that hasn't been forgotten.
    unsafe fn lead_to(self, code: Code) {
        // SAFETY: the caller's contract.
        unsafe { (*self.slot).code = if self.passes { code.passed } else { code.entry } };
    }
}

/// Tier 1 code of a block.
pub struct Native {
    pub entry: u64,
    pub counter: Option<Box<Counter>>,
}

/// A cell that a block's code counts down at each entry; at zero it asks for promotion. Boxed where it is kept, for the
/// code holds its address.
pub struct Counter {
    left: u64,
    /// What the current countdown began with.
    round: u64,
    /// Executions in the countdowns before.
    before: u64,
}

/// A block that wasn't promoted asks again after so many executions at the least: asking leaves translated code.
const SHORTEST_ROUND: u64 = 4096;

impl Counter {
    pub fn new(threshold: u64) -> Self {
        Self { left: threshold, round: threshold, before: 0 }
    }

    pub fn cell(&mut self) -> *mut u64 {
        &raw mut self.left
    }

    /// Executions so far.
    pub fn count(&self) -> u64 {
        self.before + self.round.saturating_sub(self.left)
    }

    /// Begins the next countdown.
    pub fn restart(&mut self) {
        self.before = self.count();
        self.round = self.round.max(SHORTEST_ROUND);
        self.left = self.round;
    }
}

/// A block that was executed.
pub struct Entry {
    /// Its length in bytes.
    pub len: u32,
    /// What it consists of; none for a block whose code an earlier run has left, unless something has asked.
    pub decoded: Option<Rc<DecodedBlock>>,
    /// Code of tier 1: always there if it isn't decoded.
    pub native: Option<Native>,
    /// The row of the code that an earlier run has left.
    pub kept: Option<u32>,
    /// The bytes it was made from, when its page changes too often to be watched.
    pub snapshot: Option<Box<[u8]>>,
    /// Tier 1 or tier 2 have refused it: they aren't asked again.
    pub no_native: bool,
    pub no_region: bool,
    /// It was hot before, and a region from its function's entry on was asked for in its place.
    pub deferred: bool,
}

impl Entry {
    /// A block to be interpreted.
    pub fn decoded(decoded: Rc<DecodedBlock>, snapshot: Option<Box<[u8]>>) -> Self {
        Self {
            len: decoded.block.len,
            decoded: Some(decoded),
            native: None,
            kept: None,
            snapshot,
            no_native: false,
            no_region: false,
            deferred: false,
        }
    }

    /// A block with the code of an earlier run.
    pub fn kept(len: u32, native: Native, row: u32) -> Self {
        Self {
            len,
            decoded: None,
            native: Some(native),
            kept: Some(row),
            snapshot: None,
            no_native: false,
            no_region: false,
            deferred: false,
        }
    }

    /// The address behind it, if it begins at `pc`.
    pub fn end(&self, pc: u64) -> u64 {
        pc.saturating_add(self.len.into())
    }

    /// Lets it run by this code from now on.
    pub fn run_by(&mut self, native: Native) {
        if let Some(decoded) = &self.decoded {
            decoded.next_promotion.set(0);
            // What has a snapshot is compared with memory before each execution.
            decoded.native.set(if self.snapshot.is_none() { native.entry } else { 0 });
        }
        self.native = Some(native);
    }

    /// Its code is gone.
    fn forget_code(&mut self) {
        self.native = None;
        self.no_region = false;
        if let Some(decoded) = &self.decoded {
            decoded.native.set(0);
        }
    }

    /// Leaves it to tier 0 for ever.
    pub fn refuse(&mut self) {
        self.no_native = true;
        if let Some(decoded) = &self.decoded {
            decoded.next_promotion.set(u64::MAX);
        }
    }

    /// Executions in tier 0.
    pub fn runs(&self) -> u64 {
        self.decoded.as_ref().map_or(0, |decoded| decoded.executions.get())
    }
}

const _: () = assert!(size_of::<Entry>() <= 64);

/// Installed tier 2 code.
pub struct Region {
    pub code: Code,
    /// Guest code and data it was made from, as (address, length).
    pub source: Vec<(u64, u32)>,
    /// Bytes of code among these.
    pub size: u64,
    pub formed: Formed,
}

/// Guest pc by offset in a piece of code.
pub enum GuestMap {
    Made(Vec<PcMapRow>),
    /// Of a block of an earlier run, at `pc`.
    Kept {
        pc: u64,
        rows: &'static [PcRow],
    },
}

impl GuestMap {
    fn guest_pc(&self, offset: u32) -> Option<u64> {
        match self {
            Self::Made(rows) => {
                let behind = rows.partition_point(|row| row.host_offset <= offset);
                rows.get(behind.checked_sub(1)?).map(|row| row.guest_pc)
            }
            Self::Kept { pc, rows } => {
                let behind = rows.partition_point(|row| row.host.get() <= offset);
                rows.get(behind.checked_sub(1)?).map(|row| pc.wrapping_add(row.guest.get().into()))
            }
        }
    }
}

/// Guest pc by host address, for one piece of code.
struct Mapped {
    start: u64,
    end: u64,
    pcs: GuestMap,
}

/// How far a function's code may be behind its entry.
pub const LONGEST_FUNCTION: u64 = 1 << 16;

/// The dispatcher's knowledge.
#[derive(Default)]
pub struct Table {
    /// Boxed: a program's start has tens of thousands, and a map that grows moves all that it holds.
    blocks: AddressMap<Box<Entry>>,
    /// What known blocks call directly. What isn't called any more does no harm.
    functions: BTreeSet<u64>,
    regions: AddressMap<Region>,
    /// Entry addresses of the blocks and regions that have bytes in a page.
    by_page: AddressMap<Vec<u64>>,
    /// Blocks by pages that have no bytes of theirs, but code by which it was settled what flags they keep. What doesn't
    /// depend on it any more does no harm.
    looking: AddressMap<Vec<u64>>,
    /// All pages that were entered in these two so far.
    looked_at: AddressSet,
    links: Links,
    /// In the order of host addresses, for code memory is filled upwards.
    mapped: Vec<Mapped>,
    arena: Arena,
    /// What tier 0 may run by itself.
    pub decoded_cache: DecodedCache,
    /// Blocks that were dropped and may still be running.
    dropped: Vec<Rc<DecodedBlock>>,
    lookup: Lookup,
    pub links_patched: u64,
}

fn pages(start: u64, end: u64) -> core::ops::RangeInclusive<u64> {
    start >> PAGE_SHIFT..=end.saturating_sub(1).max(start) >> PAGE_SHIFT
}

impl Table {
    /// Address of the table for indirect branches; its value for `CpuState::lookup`.
    pub fn lookup_address(&self) -> u64 {
        self.lookup.address()
    }

    pub fn block(&mut self, pc: u64) -> Option<&mut Entry> {
        self.blocks.get_mut(&pc).map(|entry| &mut **entry)
    }

    pub fn known_block(&self, pc: u64) -> Option<&Entry> {
        self.blocks.get(&pc).map(|entry| &**entry)
    }

    pub fn has_region(&self, pc: u64) -> bool {
        self.regions.contains_key(&pc)
    }

    /// Where the known blocks begin.
    pub fn block_addresses(&self) -> Vec<u64> {
        self.blocks.keys().copied().collect()
    }

    /// Pages of guest code that blocks were made from, or depended on, those included that are forgotten by now.
    pub fn looked_at(&self) -> impl Iterator<Item = u64> {
        self.looked_at.iter().map(|page| page << PAGE_SHIFT)
    }

    /// The known blocks in the page of an address and the pages beside it.
    pub fn blocks_near(&self, pc: u64) -> Vec<u64> {
        let page = pc >> PAGE_SHIFT;
        let owners = (page.saturating_sub(1)..=page + 1).filter_map(|page| self.by_page.get(&page)).flatten();
        owners.copied().filter(|pc| self.blocks.contains_key(pc)).collect()
    }

    /// The entry of the function that `pc` presumably belongs to: the nearest address below it that a known block calls.
    pub fn function_of(&self, pc: u64) -> Option<u64> {
        self.functions.range(pc.saturating_sub(LONGEST_FUNCTION)..=pc).next_back().copied()
    }

    /// Bytes of guest code in the region that is entered at `pc`; 0 if there is none.
    pub fn region_size(&self, pc: u64) -> u64 {
        self.regions.get(&pc).map_or(0, |r| r.size)
    }

    /// What the regions were formed by that are entered near an address.
    pub fn formed_near(&self, pc: u64, distance: u64) -> impl Iterator<Item = &Formed> {
        let near = self.regions.iter().filter(move |(entry, _)| entry.abs_diff(pc) < distance);
        near.map(|(_, region)| &region.formed)
    }

    /// The region that a block is to become a part of that ran so many times: the largest that leaves for it, beside which
    /// it isn't cold, that hasn't grown yet, and that isn't entered inside one that has.
    pub fn region_to_grow(&self, exit: u64, count: u64) -> Option<u64> {
        let leaves = |region: &Region| !region.formed.grown && region.formed.exits.binary_search(&exit).is_ok();
        let is_cold = |entry: u64, region: &Region| {
            let counted = region.formed.profile.iter().find(|block| block.pc == entry);
            counted.is_some_and(|block| count < block.count / COLD_FRACTION)
        };
        let has = |region: &Region, pc: u64| region.source.iter().any(|&(start, _)| start == pc);
        let inside_another = |entry| self.regions.values().any(|region| region.formed.grown && has(region, entry));
        let regions = self
            .regions
            .iter()
            .filter(|(entry, region)| leaves(region) && !is_cold(**entry, region) && !inside_another(**entry));
        regions.map(|(entry, region)| (region.size, *entry)).max().map(|(_, entry)| entry)
    }

    /// A region was asked for again: whatever comes of it, it doesn't grow any more.
    pub fn has_grown(&mut self, entry: u64) {
        if let Some(region) = self.regions.get_mut(&entry) {
            region.formed.grown = true;
        }
    }

    /// Whether an address is one that known blocks call.
    pub fn is_function(&self, pc: u64) -> bool {
        self.functions.contains(&pc)
    }

    /// Where the parts of installed regions begin.
    pub fn region_parts(&self) -> impl Iterator<Item = u64> {
        self.regions.values().flat_map(|r| r.source.iter().map(|&(start, _)| start))
    }

    /// The best code for an address.
    pub fn code(&self, pc: u64) -> Option<Code> {
        if let Some(region) = self.regions.get(&pc) {
            return Some(region.code);
        }
        Some(Code::plain(self.blocks.get(&pc)?.native.as_ref()?.entry))
    }

    /// The best code for an address, if it needs no look at memory before it is executed. A block that another one has
    /// displaced among the known ones is known again.
    pub fn settled_code(&self, pc: u64) -> Option<Code> {
        if let Some(region) = self.regions.get(&pc) {
            return Some(region.code);
        }
        let entry = self.blocks.get(&pc).filter(|entry| entry.snapshot.is_none())?;
        let native = entry.native.as_ref()?;
        if let Some(decoded) = &entry.decoded {
            self.decoded_cache.insert(decoded);
        }
        Some(Code::plain(native.entry))
    }

    /// Takes a block over, which calls this function.
    pub fn insert_block(&mut self, pc: u64, entry: Entry, calls: Option<u64>) {
        self.functions.extend(calls);
        self.index(pc, pc, entry.end(pc), !self.regions.contains_key(&pc));
        // What tier 0 knows must live.
        if let Some(old) = self.blocks.insert(pc, Box::new(entry)) {
            self.decoded_cache.remove(pc);
            self.dropped.extend(old.decoded);
        }
    }

    /// Takes a region over; everything that led to its address leads to it from now on.
    pub fn insert_region(&mut self, pc: u64, region: Region) {
        for &(start, len) in &region.source {
            self.index(pc, start, start + u64::from(len), false);
        }
        self.relink(pc, region.code);
        self.decoded_cache.remove(pc);
        self.regions.insert(pc, region);
    }

    /// Has the block at `pc` dropped with what is in the page of an address.
    pub fn depends_on(&mut self, pc: u64, address: u64) {
        self.looked_at.insert(address >> PAGE_SHIFT);
        let looking = self.looking.entry(address >> PAGE_SHIFT).or_default();
        if !looking.contains(&pc) {
            looking.push(pc);
        }
    }

    /// Remembers that code at `start..end` of the host maps to guest addresses by `pcs`.
    pub fn map_code(&mut self, start: u64, end: u64, pcs: GuestMap) {
        debug_assert!(self.mapped.last().is_none_or(|last| last.end <= start));
        self.mapped.push(Mapped { start, end, pcs });
    }

    /// The guest instruction that a host address belongs to.
    pub fn guest_pc(&self, host: u64) -> Option<u64> {
        let n = self.mapped.partition_point(|m| m.end <= host);
        let m = self.mapped.get(n).filter(|m| m.start <= host)?;
        m.pcs.guest_pc((host - m.start) as u32)
    }

    /// Enters an address for the pages of a range. It isn't there yet if `is_new`.
    fn index(&mut self, pc: u64, start: u64, end: u64, is_new: bool) {
        for page in pages(start, end) {
            self.looked_at.insert(page);
            let owners = self.by_page.entry(page).or_default();
            if is_new || !owners.contains(&pc) {
                owners.push(pc);
            }
        }
    }

    // ---- links -------------------------------------------------------------------------------------

    /// Lets a slot lead to code from now on.
    ///
    /// # Safety
    /// The slot is one of code that hasn't been forgotten ([`Table::forget_code`]).
    pub unsafe fn link(&mut self, link: Link, code: Code) {
        // SAFETY: the caller's contract.
        let target = unsafe {
            link.lead_to(code);
            (*link.slot).guest_pc
        };
        self.links.insert(target, link);
        self.links_patched += 1;
    }

    /// Makes indirect branches to `pc` find this code.
    pub fn publish(&mut self, pc: u64, code: Code) {
        self.lookup.insert(pc, code);
    }

    /// Points everything that leads to `pc` at other code.
    fn relink(&mut self, pc: u64, code: Code) {
        for link in self.links.to(pc) {
            // SAFETY: slots stay valid until `forget_code`, which forgets the links too.
            unsafe { link.lead_to(code) };
            self.links_patched += 1;
        }
        if self.lookup.get(pc).is_some() {
            self.publish(pc, code);
        }
    }

    /// Points everything that leads to `pc` at the dispatcher.
    fn unlink(&mut self, pc: u64) {
        for link in self.links.to(pc) {
            // SAFETY: as in `relink`.
            unsafe { link.lead_to(Code::plain(entry::link_stub())) };
        }
        self.links.remove(pc);
        self.lookup.remove(pc);
    }

    // ---- forgetting --------------------------------------------------------------------------------

    /// Forgets the blocks and regions that have bytes in a range. Their code memory stays until
    /// [`Table::forget_code`], so it may be running.
    pub fn remove_range(&mut self, start: u64, end: u64) {
        let range = pages(start, end);
        let span = range.end() - range.start() + 1;
        let owners: Vec<u64> = if span > self.by_page.len() as u64 {
            let touched = self.by_page.iter().filter(|(p, _)| range.contains(p));
            touched.flat_map(|(_, pcs)| pcs).copied().collect()
        } else {
            let touched = range.filter_map(|page| self.by_page.get(&page));
            touched.flatten().copied().collect()
        };
        for pc in owners {
            self.remove_overlapping(pc, start, end);
        }
        self.remove_looking(pages(start, end));
    }

    /// Forgets the blocks that depend on code in these pages without having bytes there.
    fn remove_looking(&mut self, range: core::ops::RangeInclusive<u64>) {
        if self.looking.is_empty() {
            return;
        }
        let touched: Vec<u64> = self.looking.keys().copied().filter(|page| range.contains(page)).collect();
        for page in touched {
            for pc in self.looking.remove(&page).unwrap_or_default() {
                self.remove_block(pc);
            }
        }
    }

    fn remove_overlapping(&mut self, pc: u64, start: u64, end: u64) {
        let overlaps = |from: u64, to: u64| from < end && to > start;
        let region_hit = self.regions.get(&pc).is_some_and(|r| {
            let mut parts = r.source.iter();
            parts.any(|&(from, len)| overlaps(from, from + u64::from(len)))
        });
        if region_hit {
            self.remove_region(pc);
        }
        if self.blocks.get(&pc).is_some_and(|b| overlaps(pc, b.end(pc))) {
            self.remove_block(pc);
        }
    }

    /// Forgets a block; a region at its address stays.
    pub fn remove_block(&mut self, pc: u64) {
        let Some(entry) = self.blocks.remove(&pc) else {
            return;
        };
        self.decoded_cache.remove(pc);
        if !self.regions.contains_key(&pc) {
            self.unlink(pc);
            self.unindex(pc, pc, entry.end(pc));
        }
        self.dropped.extend(entry.decoded);
    }

    /// Frees what was dropped. No tier 0 code may be running.
    pub fn free_dropped(&mut self) {
        self.dropped.clear();
    }

    fn remove_region(&mut self, pc: u64) {
        let Some(region) = self.regions.remove(&pc) else {
            return;
        };
        self.unlink(pc);
        for (start, len) in region.source {
            self.unindex(pc, start, start + u64::from(len));
        }
        if let Some(entry) = self.blocks.get(&pc) {
            let end = entry.end(pc);
            self.index(pc, pc, end, false);
        }
    }

    fn unindex(&mut self, pc: u64, start: u64, end: u64) {
        for page in pages(start, end) {
            if let Some(owners) = self.by_page.get_mut(&page) {
                owners.retain(|owner| *owner != pc);
            }
        }
    }

    /// Forgets all translated code and its links; decoded blocks stay. No translated code may be running.
    pub fn forget_code(&mut self) {
        let code_only = self.blocks.iter().filter(|(_, entry)| entry.decoded.is_none()).map(|(pc, _)| *pc);
        for pc in code_only.collect::<Vec<_>>() {
            self.remove_block(pc);
        }
        for entry in self.blocks.values_mut() {
            entry.forget_code();
        }
        for pc in self.regions.keys().copied().collect::<Vec<_>>() {
            self.remove_region(pc);
        }
        self.links = Links::default();
        self.mapped.clear();
        self.arena = Arena::default();
        self.lookup.clear();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.forget_code();
        self.decoded_cache.clear();
        self.blocks.clear();
        self.by_page.clear();
        self.looking.clear();
    }
}

impl Table {
    /// A fresh slot for tier 1's code that leads to `target`, unlinked; it is never moved.
    pub fn slot(&mut self, target: u64) -> *mut LinkSlot {
        self.arena.slot(target)
    }
}

/// A line of the host's cache.
#[repr(C, align(64))]
struct Line([LookupEntry; 2]);

/// The table of indirect branches: a target is at its index or beside it.
struct Lookup {
    /// Its lines, and what alignment leaves over. It comes from the kernel as zeroes, which cost nothing before something
    /// is written to them; only so they do.
    memory: Box<[u64]>,
    /// Targets that came where two others were.
    displaced: usize,
}

/// An empty entry holds an address that belongs elsewhere, so that no branch finds it.
const fn empty(index: usize) -> LookupEntry {
    let guest_pc = if index | 1 == lookup_index(0) | 1 { 2 } else { 0 };
    LookupEntry { guest_pc, code: 0, passed: 0, _pad: 0 }
}

impl Default for Lookup {
    fn default() -> Self {
        let words = LOOKUP_ENTRIES * size_of::<LookupEntry>() / size_of::<u64>();
        let room = size_of::<Line>() / size_of::<u64>();
        let mut lookup = Self { memory: vec![0; words + room].into_boxed_slice(), displaced: 0 };
        let first = lookup_index(0);
        [first, second_place(first)].into_iter().for_each(|place| *lookup.entry_mut(place) = empty(place));
        lookup
    }
}

impl Lookup {
    fn lines(&self) -> &[Line] {
        // SAFETY: a line consists of words, and any value is one.
        unsafe { self.memory.align_to().1 }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as in `lines`.
        unsafe { self.memory.align_to_mut().1 }
    }

    fn address(&self) -> u64 {
        self.lines().as_ptr() as u64
    }

    fn entry(&self, place: usize) -> &LookupEntry {
        &self.lines()[place / 2].0[place % 2]
    }

    fn entry_mut(&mut self, place: usize) -> &mut LookupEntry {
        &mut self.lines_mut()[place / 2].0[place % 2]
    }

    /// Where a target is, if it is there.
    fn place_of(&self, pc: u64) -> Option<usize> {
        let first = lookup_index(pc);
        [first, second_place(first)].into_iter().find(|place| self.entry(*place).guest_pc == pc)
    }

    fn get(&self, pc: u64) -> Option<&LookupEntry> {
        self.place_of(pc).map(|place| self.entry(place))
    }

    /// In its first place if that is free, else in its second. Of three targets with the same two places now the one is
    /// displaced, now the other, so that the two that are needed oftenest are soon together.
    fn insert(&mut self, pc: u64, code: Code) {
        let first = lookup_index(pc);
        let places = [first, second_place(first)];
        let free = |place: &usize| self.entry(*place).guest_pc == empty(*place).guest_pc;
        let place = self.place_of(pc).or_else(|| places.into_iter().find(free)).unwrap_or_else(|| {
            self.displaced += 1;
            places[self.displaced % places.len()]
        });
        *self.entry_mut(place) = LookupEntry { guest_pc: pc, code: code.entry, passed: code.passed, _pad: 0 };
    }

    fn remove(&mut self, pc: u64) {
        if let Some(place) = self.place_of(pc) {
            *self.entry_mut(place) = empty(place);
        }
    }

    /// Its address stays the same.
    fn clear(&mut self) {
        for place in 0..LOOKUP_ENTRIES {
            let entry = self.entry_mut(place);
            if entry.guest_pc != empty(place).guest_pc {
                *entry = empty(place);
            }
        }
    }
}

/// Linked slots by the guest address they lead to: a list each, in one vector, for most have one or two.
#[derive(Default)]
struct Links {
    /// The number of each address's last link.
    last: AddressMap<u32>,
    /// Links, and the number of the one before for the same address.
    all: Vec<(Link, Option<u32>)>,
    /// Numbers of forgotten ones.
    free: Vec<u32>,
}

impl Links {
    fn insert(&mut self, target: u64, link: Link) {
        let n = self.free.pop().unwrap_or(self.all.len() as u32);
        let entry = (link, self.last.insert(target, n));
        match self.all.get_mut(n as usize) {
            Some(place) => *place = entry,
            None => self.all.push(entry),
        }
    }

    /// The links that lead to an address.
    fn to(&self, target: u64) -> impl Iterator<Item = Link> {
        let last = self.last.get(&target).copied();
        let numbers = std::iter::successors(last, |&n| self.all[n as usize].1);
        numbers.map(|n| self.all[n as usize].0)
    }

    /// Forgets the links that lead to an address.
    fn remove(&mut self, target: u64) {
        let mut next = self.last.remove(&target);
        while let Some(n) = next {
            self.free.push(n);
            next = self.all[n as usize].1;
        }
    }
}

const CHUNK: usize = 1024;

/// Memory of tier 1 link slots: never moved, freed as a whole.
#[derive(Default)]
struct Arena {
    chunks: Vec<Box<[LinkSlot; CHUNK]>>,
    used: usize,
}

impl Arena {
    fn slot(&mut self, target: u64) -> *mut LinkSlot {
        if self.used == self.chunks.len() * CHUNK {
            let unlinked = LinkSlot { code: entry::link_stub(), guest_pc: 0 };
            self.chunks.push(Box::new([unlinked; CHUNK]));
        }
        let chunk = self.chunks.last_mut().expect("pushed when none has room");
        let slot = &raw mut chunk[self.used % CHUNK];
        self.used += 1;
        // SAFETY: a slot of our own chunk, given out once.
        unsafe { (*slot).guest_pc = target };
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlate_abi::protocol::BlockProfile;
    use xlate_x86::decode::{SliceSource, decode_block};

    fn table_with(pc: u64, entry: u64) -> Table {
        let source = SliceSource { address: pc, bytes: &[0x01, 0xd8, 0x72, 0xfc] };
        let mut table = Table::default();
        let decoded = Rc::new(DecodedBlock::new(decode_block(&source, pc, 64, false)));
        let native = Some(Native { entry, counter: None });
        table.insert_block(pc, Entry { native, ..Entry::decoded(decoded, None) }, None);
        table
    }

    fn region(code: Code, formed: Formed) -> Region {
        Region { code, source: vec![(0x1000, 4)], size: 4, formed }
    }

    #[test]
    fn a_region_is_found_by_its_exits_until_it_has_grown() {
        let mut table = table_with(0x1000, 0x77);
        let profile = vec![BlockProfile { pc: 0x1000, count: 6400 }];
        let formed = Formed { exits: vec![0x1004, 0x1010], profile, ..Formed::default() };
        let grows = |table: &Table, exit| table.region_to_grow(exit, 100);
        table.insert_region(0x1000, region(Code::plain(0x99), formed.clone()));
        assert_eq!([100, 99].map(|count| table.region_to_grow(0x1004, count)), [Some(0x1000), None]);
        let both = vec![(0x1000, 4), (0x2000, 4)];
        let larger = Region { size: 8, source: both, ..region(Code::plain(0xaa), formed) };
        table.insert_region(0x2000, larger);
        assert_eq!([0x1004, 0x1008, 0x1010].map(|exit| grows(&table, exit)), [Some(0x2000), None, Some(0x2000)]);
        table.has_grown(0x2000);
        assert_eq!(grows(&table, 0x1004), None, "it has the other's entry inside");
        table.remove_range(0x2000, 0x2001);
        assert_eq!(grows(&table, 0x1004), Some(0x1000));
        table.has_grown(0x1000);
        assert_eq!(grows(&table, 0x1004), None);
    }

    #[test]
    fn links_follow_the_best_code() {
        let mut table = table_with(0x1000, 0x77);
        let slot = table.slot(0x1000);
        // SAFETY: the slot is the table's own.
        unsafe { table.link(Link { slot, passes: false }, Code::plain(0x77)) };
        let passing = table.slot(0x1000);
        // SAFETY: as above.
        unsafe { table.link(Link { slot: passing, passes: true }, Code::plain(0x77)) };
        table.publish(0x1000, Code::plain(0x77));
        let code = Code { entry: 0x99, passed: 0xaa };
        table.insert_region(0x1000, region(code, Formed::default()));
        // SAFETY: as above.
        assert_eq!(unsafe { ((*slot).code, (*passing).code) }, (0x99, 0xaa));
        let found = table.lookup.get(0x1000).map(|found| (found.code, found.passed));
        assert_eq!(found, Some((0x99, 0xaa)));
        assert_eq!(table.code(0x1000), Some(code));
        table.remove_range(0x1000, 0x1001);
        // SAFETY: as above.
        assert_eq!(unsafe { (*slot).code }, entry::link_stub());
        assert_eq!(table.code(0x1000), None);
        assert!(table.lookup.get(0x1000).is_none());
    }

    #[test]
    fn no_address_finds_an_empty_entry() {
        let mut lookup = Lookup::default();
        lookup.insert(0x1000, Code::plain(1));
        lookup.clear();
        let unused = Lookup::default();
        assert_eq!(unused.address() % 64, 0);
        for place in 0..LOOKUP_ENTRIES {
            for lookup in [&unused, &lookup] {
                let first = lookup_index(lookup.entry(place).guest_pc);
                assert!(place != first && place != second_place(first));
            }
        }
    }

    #[test]
    fn two_targets_of_one_index_are_found_and_a_third_displaces_only_one() {
        let mut at_one_index = (0x1_0000..).filter(|pc| lookup_index(*pc) == lookup_index(0x1_0000));
        let same: [u64; 3] = core::array::from_fn(|_| at_one_index.next().expect("there are many"));
        let mut lookup = Lookup::default();
        let code = |lookup: &Lookup, pc| lookup.get(pc).map(|found| found.code);
        lookup.insert(same[0], Code::plain(1));
        lookup.insert(same[1], Code::plain(2));
        lookup.insert(same[1], Code::plain(3));
        assert_eq!(same.map(|pc| code(&lookup, pc)), [Some(1), Some(3), None]);
        for (n, pc) in (4..).zip([same[2], same[0], same[1], same[2]]) {
            let before = same.map(|pc| code(&lookup, pc));
            lookup.insert(pc, Code::plain(n));
            assert_eq!(code(&lookup, pc), Some(n));
            assert_eq!(same.iter().filter(|pc| lookup.get(**pc).is_some()).count(), 2, "{before:?}");
        }
        same.iter().for_each(|pc| lookup.remove(*pc));
        assert!(same.iter().all(|pc| lookup.get(*pc).is_none()));
    }

    #[test]
    fn counters_go_on_counting_after_they_fired() {
        let mut counter = Counter::new(2);
        // SAFETY: the counter's own cell, as code would count it down.
        unsafe { *counter.cell() -= 2 };
        assert_eq!(counter.count(), 2);
        counter.restart();
        // SAFETY: as above.
        unsafe { *counter.cell() -= 5 };
        assert_eq!(counter.count(), 7);
    }

    #[test]
    fn ranges_hit_what_they_overlap_only() {
        let mut table = table_with(0x1ffe, 0x77);
        table.remove_range(0x1000, 0x1ffe);
        table.remove_range(0x2002, 0x9000);
        assert!(table.block(0x1ffe).is_some());
        table.remove_range(0x2001, 0x2002);
        assert!(table.block(0x1ffe).is_none());
    }

    #[test]
    fn host_addresses_map_to_instructions() {
        let mut table = Table::default();
        let rows = [(4, 0x10), (8, 0x13)].map(|(host_offset, guest_pc)| PcMapRow { host_offset, guest_pc });
        table.map_code(0x100, 0x110, GuestMap::Made(rows.to_vec()));
        let at = |host| table.guest_pc(host);
        assert_eq!([at(0x103), at(0x104), at(0x10f)], [None, Some(0x10), Some(0x13)]);
        assert_eq!(at(0x110), None);
    }
}

//! What changes the guest's map without a call, and what its size is limited by: mappings that grow downwards.
//!
//! The host's kernel extends them itself (MAP_GROWSDOWN), whoever touches the page below, guest code or a system call,
//! up to RLIMIT_STACK and the guard gap, all as it does for a native process. So what is noted here may be out of date; it is
//! brought up to date before it counts.

use super::{Backing, Memory, Region, STACK_GUARD_GAP, protect, unmap};
use crate::guarded;

/// How many bytes of the guest's address space are mapped: all, and those that count as data.
pub(super) type Bytes = (u64, u64);

impl Memory {
    /// Notes how far mappings have grown.
    pub fn catch_up(&mut self) -> bool {
        let mut changed = false;
        let mut next = self.growing.first().copied();
        while let Some(start) = next {
            changed |= self.catch_up_at(start);
            next = self.growing.range(start + 1..).next().copied();
        }
        changed
    }

    fn catch_up_at(&mut self, start: u64) -> bool {
        let floor = self.regions.range(..start).next_back().map_or(0, |(_, below)| below.end);
        let grown = self.lowest_mapped(floor, start);
        if grown == start {
            return false;
        }
        if let Some(region) = self.take(start) {
            self.put(Region { start: grown, ..region });
        }
        true
    }

    /// The guest's mappings as far as they have grown now.
    pub fn current_regions(&self) -> Vec<Region> {
        let mut floor = 0;
        let now = self.regions().map(|region| {
            let start = if region.grows { self.lowest_mapped(floor, region.start) } else { region.start };
            floor = region.end;
            Region { start, ..region.clone() }
        });
        now.collect()
    }

    /// Where the host's mapping that goes up to `end` begins, at `floor` or above.
    fn lowest_mapped(&self, floor: u64, end: u64) -> u64 {
        let mut low = end;
        let mut step = self.page;
        let mapped = |low: u64, step: u64| low.checked_sub(step).is_some_and(|at| at >= floor && is_mapped(at, step));
        while mapped(low, step) {
            low -= step;
            step *= 2;
        }
        while step > self.page {
            step /= 2;
            if mapped(low, step) {
                low -= step;
            }
        }
        low
    }

    /// Whether the host extends the mapping that begins at `start`, and knows of it. Under an emulator the kernel may extend
    /// what the emulator still holds for unmapped.
    pub fn grows_below(&mut self, start: u64) -> bool {
        crate::signal::catch_faults();
        let below = (start - 1) as *mut u8;
        // SAFETY: the byte lies below a mapping of the guest's and is nobody's or its; the write may fault.
        let clear = || unsafe { guarded::copy(below, [0].as_ptr(), 1) } == 0;
        let extends = clear();
        // SAFETY: a call that writes there, or fails.
        let grows = extends && unsafe { libc::getrandom(below.cast(), 1, 0) } == 1 && clear();
        if extends && !grows {
            // The page that the kernel has added, which nobody knows of.
            unmap(start - self.page, start).ok();
        }
        if !grows && let Some(region) = self.take(start) {
            self.put(Region { grows: false, ..region });
        }
        grows
    }

    /// Where the room ends that is kept free below a mapping.
    pub(super) fn room_below(&self, region: &Region) -> u64 {
        if !region.grows {
            return region.start;
        }
        let start = region.start.saturating_sub(STACK_GUARD_GAP);
        match region.backing {
            Backing::Named("[stack]") => start.min(region.end.saturating_sub(self.stack_room)),
            _ => start,
        }
    }

    /// The guest's bytes within a range.
    pub(super) fn bytes(&self, start: u64, end: u64) -> Bytes {
        self.overlapping(start, end).fold((0, 0), |(all, data), region| {
            let size = region.end.min(end) - region.start.max(start);
            (all + size, data + if region.is_data() { size } else { 0 })
        })
    }

    /// Whether so many bytes more are within RLIMIT_AS and RLIMIT_DATA (mm/vma.c, may_expand_vm); `replaced` go.
    pub(super) fn within_limits(&self, added: u64, is_data: bool, replaced: Bytes) -> bool {
        let limits = self.limits;
        if limits == super::Limits::NONE {
            return true;
        }
        let (all, data) = self.bytes(0, u64::MAX);
        let data = data - replaced.1 + added;
        // A soft limit of zero is one for the break alone.
        let data_fits = limits.data.allows(data) || (limits.data.soft == 0 && data <= limits.data.hard);
        limits.space.allows(all - replaced.0 + added) && (!is_data || data_fits)
    }

    /// The size of the guest's address space, of its data and of its stack, in bytes.
    pub fn sizes(&self) -> [u64; 3] {
        let regions = self.current_regions();
        let sum = |counts: fn(&Region) -> bool| regions.iter().filter(|r| counts(r)).map(|r| r.end - r.start).sum();
        [sum(|_| true), sum(Region::is_data), sum(|r| r.grows)]
    }

    /// Reads code that the guest may execute and not read. Nothing of the guest's runs while the pages are readable.
    pub(super) fn read_code(&self, addr: u64, buffer: &mut [u8]) -> usize {
        const ANY: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let Some(region) = self.region_at(addr).filter(|r| r.prot & ANY == libc::PROT_EXEC) else {
            return 0;
        };
        let len = buffer.len().min((region.end - addr) as usize);
        let start = self.page_down(addr);
        let end = (addr + len as u64).next_multiple_of(self.page);
        if protect(start, end, libc::PROT_READ).is_err() {
            return 0;
        }
        let done = self.read_some(addr, &mut buffer[..len]);
        // It can't fail where the call before didn't.
        let _ = protect(start, end, libc::PROT_NONE);
        done
    }
}

/// Whether the host has all pages of a range mapped.
fn is_mapped(start: u64, len: u64) -> bool {
    let page = super::host_page_size();
    let mut one = [0u8; 16];
    let mut many = Vec::new();
    let pages = (len / page) as usize;
    let resident = match one.get_mut(..pages) {
        Some(few) => few,
        None => {
            many.resize(pages, 0);
            &mut many[..]
        }
    };
    // SAFETY: a byte a page; mincore fails with ENOMEM where nothing is mapped.
    unsafe { libc::mincore(start as *mut libc::c_void, len as usize, resident.as_mut_ptr()) == 0 }
}

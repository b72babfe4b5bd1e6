//! The guest's address space: which mappings it has, where new ones go, and safe access to it.
//!
//! Guest addresses are host addresses. The guest never gets a page outside its own area, nothing of the
//! translator's is ever overwritten (fixed mappings reserve the free parts of their range with
//! MAP_FIXED_NOREPLACE first), and no guest page is executable for the host: guest code is data to us.

mod copy;
mod growth;
mod limits;
mod region;
mod watch;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

pub use copy::Plain;
pub use limits::{Limit, Limits};
pub use region::{Backing, InChild, Region};
pub use watch::Mutability;

use crate::errno::Errno;

/// End of an x86-64 process's address space (TASK_SIZE with 4-level tables).
pub const GUEST_END: u64 = 0x7fff_ffff_f000;
/// End of the initial stack. What is above it on x86-64 hosts is the translator's ([`crate::layout::own_area`]); with
/// address randomisation, Linux leaves as much and more there.
pub const STACK_TOP: u64 = 0x7fff_efff_f000;
/// What Linux keeps free below the stack's top at least, and below a stack at its limit (arch/x86/mm/mmap.c, mmap_base;
/// stack_guard_gap).
const STACK_ROOM: u64 = 128 << 20;
pub const STACK_GUARD_GAP: u64 = 1 << 20;
/// Where new mappings go when the guest asks for no address, top-down, for the default stack limit.
pub const MMAP_TOP: u64 = STACK_TOP - STACK_ROOM;
/// The most room that a stack gets.
const STACK_ROOM_MAX: u64 = 1 << 40;
/// Where position-independent executables go (Linux's ELF_ET_DYN_BASE without randomisation).
pub const PIE_BASE: u64 = 0x5555_5555_4000;
/// How often room for a mapping is looked for, each time with what was found to be in the way.
const ATTEMPTS: usize = 16;
/// How closely hidden mappings are looked at.
const HIDDEN_GRAIN: u64 = 1 << 20;
/// What a hidden mapping is called in messages.
const HIDDEN: &str = "emulator";
/// x86-64's page size; the host's must not be larger.
pub const GUEST_PAGE: u64 = 4096;

/// A guest page can't be had because something that isn't the guest's lies there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mapping {start:#x}-{end:#x} collides with the translator's own {own} at {own_start:#x}-{own_end:#x}")]
pub struct Conflict {
    pub start: u64,
    pub end: u64,
    pub own: String,
    pub own_start: u64,
    pub own_end: u64,
}

/// Why a mapping request of the loader or of image restore failed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("mapping {start:#x}-{end:#x}: {errno}")]
    System { start: u64, end: u64, errno: Errno },
}

impl From<MapError> for Errno {
    /// What the guest sees: a page it can't have looks like exhausted memory.
    fn from(error: MapError) -> Self {
        match error {
            MapError::Conflict(_) => Errno(libc::ENOMEM),
            MapError::System { errno, .. } => errno,
        }
    }
}

/// The arguments of mmap(2), in the host's numbering (x86-64 and AArch64 agree but for MAP_32BIT, which is
/// [`MapRequest::low`]).
#[derive(Clone, Debug, Default)]
pub struct MapRequest {
    pub addr: u64,
    pub len: u64,
    /// PROT_* as the guest asked, PROT_EXEC included.
    pub prot: i32,
    /// MAP_* without MAP_32BIT.
    pub flags: i32,
    pub fd: i32,
    pub offset: u64,
    /// MAP_32BIT: the first 2 GiB.
    pub low: bool,
}

impl MapRequest {
    /// Whether it counts against RLIMIT_DATA.
    fn is_data(&self) -> bool {
        let private = self.flags & libc::MAP_TYPE == libc::MAP_PRIVATE;
        private && self.flags & libc::MAP_GROWSDOWN == 0 && self.prot & libc::PROT_WRITE != 0
    }
}

/// The guest's mappings and program break.
pub struct Memory {
    page: u64,
    regions: BTreeMap<u64, Region>,
    /// What lies in the guest's area without being the guest's, as last seen (never mapped over).
    foreign: BTreeMap<u64, (u64, String)>,
    /// The same where /proc/self/maps doesn't say so: an emulator shows what it runs, and hides what it needs itself.
    hidden: BTreeMap<u64, u64>,
    brk_start: u64,
    brk: u64,
    /// Starts of the regions that grow.
    growing: BTreeSet<u64>,
    /// Where mappings without an address begin, top-down.
    mmap_top: u64,
    /// What is kept free for the stack.
    stack_room: u64,
    limits: Limits,
    /// READ_IMPLIES_EXEC of personality(2).
    read_implies_exec: bool,
    /// mlockall(2) with MCL_FUTURE.
    lock_future: bool,
    /// Pages that translations were made from.
    watched: RefCell<watch::Watched>,
}

/// The host page size at run time.
pub fn host_page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(GUEST_PAGE)
}

/// The addresses that are the translator's on an x86-64 host. On AArch64 it lies above all guests.
fn own_area() -> Option<Range<u64>> {
    cfg!(target_arch = "x86_64").then(crate::layout::own_area)
}

fn host_prot(prot: i32) -> i32 {
    // The host itself never executes it. What may be executed only isn't readable for the guest (a processor with
    // protection keys; mm/mmap.c, execute_only_pkey); code is read from there by [`Memory::read_code`].
    prot & (libc::PROT_READ | libc::PROT_WRITE)
}

fn system(start: u64, len: u64, errno: Errno) -> MapError {
    MapError::System { start, end: start.saturating_add(len), errno }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty guest address space.
    pub fn new() -> Self {
        Self {
            page: host_page_size(),
            regions: BTreeMap::new(),
            foreign: BTreeMap::new(),
            hidden: BTreeMap::new(),
            brk_start: 0,
            brk: 0,
            growing: BTreeSet::new(),
            mmap_top: MMAP_TOP,
            stack_room: STACK_ROOM,
            limits: Limits::NONE,
            read_implies_exec: false,
            lock_future: false,
            watched: RefCell::default(),
        }
    }

    /// The page size mappings are rounded to.
    pub fn page_size(&self) -> u64 {
        self.page
    }

    fn page_up(&self, value: u64) -> Option<u64> {
        Some(value.checked_add(self.page - 1)? & !(self.page - 1))
    }

    fn page_down(&self, value: u64) -> u64 {
        value & !(self.page - 1)
    }

    /// The guest's mappings by ascending address.
    pub fn regions(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.regions.values()
    }

    /// The mapping that holds `addr`.
    pub fn region_at(&self, addr: u64) -> Option<&Region> {
        let (_, region) = self.regions.range(..=addr).next_back()?;
        (addr < region.end).then_some(region)
    }

    /// The guest's protection (PROT_*) of the page at `addr`; `None` where nothing is mapped.
    pub fn protection(&self, addr: u64) -> Option<i32> {
        self.region_at(addr).map(|r| r.prot)
    }

    /// Whether the guest may execute the byte at `addr`.
    pub fn executable(&self, addr: u64) -> bool {
        self.protection(addr).is_some_and(|p| p & libc::PROT_EXEC != 0)
    }

    /// Reads code for decoding: as many bytes from `addr` as are executable and can be read, at most
    /// `buffer.len()`. Zero means that a fetch there faults.
    pub fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        self.read_where(addr, buffer, |region| region.prot & libc::PROT_EXEC != 0)
    }

    /// The same as far as nothing changes the code but a call of the guest's that concerns its mapping.
    pub fn fetch_fixed(&self, addr: u64, buffer: &mut [u8]) -> usize {
        self.read_where(addr, buffer, |region| {
            region.prot & libc::PROT_EXEC != 0 && region.mutability() == Mutability::Fixed
        })
    }

    /// Reads constants: as many bytes from `addr` as the guest can read and nobody can write, at most `buffer.len()`.
    pub fn constants(&self, addr: u64, buffer: &mut [u8]) -> usize {
        self.read_where(addr, buffer, |region| {
            region.prot & libc::PROT_READ != 0 && region.mutability() == Mutability::Fixed
        })
    }

    /// Reads from `addr` on, as far as the mappings are suitable.
    fn read_where(&self, addr: u64, buffer: &mut [u8], suits: impl Fn(&Region) -> bool) -> usize {
        let mut at = addr;
        let end = addr.saturating_add(buffer.len() as u64);
        while at < end {
            match self.region_at(at) {
                Some(r) if suits(r) => at = r.end,
                _ => break,
            }
        }
        let len = (at.min(end) - addr) as usize;
        let mut done = self.read_some(addr, &mut buffer[..len]);
        while done < len {
            match self.read_code(addr + done as u64, &mut buffer[done..len]) {
                0 => break,
                n => done += n,
            }
            done += self.read_some(addr + done as u64, &mut buffer[done..len]);
        }
        done
    }

    /// Whether no byte of the range belongs to the guest.
    fn is_free(&self, start: u64, end: u64) -> bool {
        let guest = self.overlapping(start, end).next().is_none();
        guest && self.foreign_in(start, end).is_none()
    }

    /// Whether a range goes over addresses that are the translator's: on AArch64 those above all guests.
    pub fn reaches_own(&self, start: u64, len: u64) -> bool {
        let end = start.saturating_add(len);
        end > GUEST_END || own_area().is_some_and(|own| start < own.end && own.start < end)
    }

    /// The highest mapping in the range, as far as is known, that isn't the guest's.
    fn foreign_in(&self, start: u64, end: u64) -> Option<(Range<u64>, &str)> {
        let listed = self.foreign.range(..end).next_back().map(|(at, (end, name))| (*at..*end, name.as_str()));
        let hidden = self.hidden.range(..end).next_back().map(|(at, end)| (*at..*end, HIDDEN));
        listed.into_iter().chain(hidden).find(|(range, _)| range.end > start)
    }

    fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Region> {
        let first = self.region_at(start).map_or(start, |r| r.start);
        self.regions.range(first..end).map(|(_, r)| r)
    }

    /// mmap(2) with the guest's arguments.
    pub fn mmap(&mut self, request: &MapRequest) -> Result<u64, MapError> {
        let bad = |errno| system(request.addr, request.len, Errno(errno));
        if request.flags & libc::MAP_ANONYMOUS == 0 && !is_open(request.fd) {
            return Err(bad(libc::EBADF));
        }
        let len = self.page_up(request.len).ok_or_else(|| bad(libc::ENOMEM))?;
        if len == 0 || request.offset & (self.page - 1) != 0 {
            return Err(bad(libc::EINVAL));
        }
        self.catch_up();
        let fixed = request.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0;
        if fixed {
            if request.addr.checked_add(len).is_none_or(|end| end > GUEST_END) {
                return Err(bad(libc::ENOMEM));
            }
            if request.addr & (self.page - 1) != 0 {
                return Err(bad(libc::EINVAL));
            }
            if request.flags & libc::MAP_FIXED_NOREPLACE != 0
                && self.overlapping(request.addr, request.addr.saturating_add(len)).next().is_some()
            {
                return Err(bad(libc::EEXIST));
            }
        }
        let replaced = if fixed { self.bytes(request.addr, request.addr.saturating_add(len)) } else { (0, 0) };
        if !self.within_limits(len, request.is_data(), replaced) {
            return Err(bad(libc::ENOMEM));
        }
        let start = if fixed {
            self.claim(request.addr, len)?;
            request.addr
        } else {
            self.place(request.addr, len, request.low)?
        };
        self.map_claimed(start, len, request)
    }

    /// Maps over a range that is claimed; a failure gives the newly claimed parts back.
    fn map_claimed(&mut self, start: u64, len: u64, request: &MapRequest) -> Result<u64, MapError> {
        let prot = self.with_implied_exec(request.prot);
        let lock = if self.lock_future { libc::MAP_LOCKED } else { 0 };
        let flags = request.flags & !libc::MAP_FIXED_NOREPLACE | libc::MAP_FIXED | lock;
        // SAFETY: the whole range was claimed for the guest, so nothing of the translator's is replaced.
        let result = unsafe {
            libc::mmap(
                start as *mut libc::c_void,
                len as usize,
                host_prot(prot),
                flags,
                request.fd,
                request.offset as libc::off_t,
            )
        };
        if result == libc::MAP_FAILED {
            let errno = Errno::last();
            self.release_unclaimed(start, start + len);
            return Err(system(start, len, errno));
        }
        let backing = if request.flags & libc::MAP_ANONYMOUS != 0 {
            Backing::Anonymous
        } else {
            Backing::of_descriptor(request.fd, request.offset)
        };
        self.record(Region {
            start,
            end: start + len,
            prot,
            shared: request.flags & libc::MAP_TYPE != libc::MAP_PRIVATE,
            grows: request.flags & libc::MAP_GROWSDOWN != 0,
            locked: flags & libc::MAP_LOCKED != 0,
            in_child: InChild::default(),
            backing,
        });
        Ok(start)
    }

    /// Maps anonymous private memory at exactly `start` under a name that /proc/self/maps shows (`[stack]`), with
    /// further flags.
    pub fn map_named(
        &mut self,
        start: u64,
        len: u64,
        prot: i32,
        flags: i32,
        name: &'static str,
    ) -> Result<(), MapError> {
        self.mmap(&MapRequest {
            addr: start,
            len,
            prot,
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | flags,
            fd: -1,
            ..MapRequest::default()
        })?;
        let end = start + self.page_up(len).unwrap_or(len);
        self.relabel(start, end, Backing::Named(name));
        Ok(())
    }

    /// Gives the mapping of exactly this range another origin: for image restore, where anonymous pages come
    /// from the image file and yet stay anonymous (or `[heap]`) to the guest.
    pub fn relabel(&mut self, start: u64, end: u64, backing: Backing) {
        let pieces = self.cut(start, end);
        for piece in pieces {
            let offset = piece.start - start;
            self.insert(Region { backing: backing.at(offset), ..piece });
        }
    }

    /// munmap(2). Only the guest's own mappings go; unmapped stretches in between are fine, as on Linux.
    /// Translations made from the range are to be dropped by the caller (`Engine::invalidate`).
    pub fn munmap(&mut self, start: u64, len: u64) -> Result<(), Errno> {
        let len = self.page_up(len).ok_or(Errno(libc::EINVAL))?;
        if len == 0 || start & (self.page - 1) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let end = start.checked_add(len).filter(|end| *end <= GUEST_END).ok_or(Errno(libc::EINVAL))?;
        self.catch_up();
        let pieces = self.cut(start, end);
        for piece in &pieces {
            unmap(piece.start, piece.end)?;
        }
        self.unwatch_range(start, end);
        Ok(())
    }

    /// mprotect(2). As with [`Memory::munmap`], the caller drops translations, from the address on that this gives.
    pub fn mprotect(&mut self, start: u64, len: u64, prot: i32) -> Result<u64, Errno> {
        /// It says that atomic operations work there, which they do.
        const PROT_SEM: i32 = 8;
        const ALL: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let grows_down = prot & libc::PROT_GROWSDOWN != 0;
        let prot = prot & !(libc::PROT_GROWSDOWN | PROT_SEM);
        if start & (self.page - 1) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        if len == 0 {
            return Ok(start);
        }
        let len = self.page_up(len).ok_or(Errno(libc::ENOMEM))?;
        let end = start.checked_add(len).ok_or(Errno(libc::ENOMEM))?;
        if prot & !ALL != 0 {
            return Err(Errno(libc::EINVAL));
        }
        self.catch_up();
        let start = if grows_down { self.start_of_growing(start)? } else { start };
        // Linux changes what comes before the first hole, then reports the hole.
        let mapped = self.mapped_up_to(start, end);
        if mapped > start {
            self.protect_mapped(start, mapped, self.with_implied_exec(prot))?;
        }
        if mapped < end {
            return Err(Errno(libc::ENOMEM));
        }
        Ok(start)
    }

    /// PROT_GROWSDOWN: the change begins where the mapping does.
    fn start_of_growing(&self, addr: u64) -> Result<u64, Errno> {
        let region = self.region_at(addr).ok_or(Errno(libc::ENOMEM))?;
        if region.grows { Ok(region.start) } else { Err(Errno(libc::EINVAL)) }
    }

    fn protect_mapped(&mut self, start: u64, end: u64, prot: i32) -> Result<(), Errno> {
        if prot & libc::PROT_WRITE != 0 && self.limits.data != Limit::NONE {
            let (_, data) = self.bytes(start, end);
            let becomes: u64 = self
                .overlapping(start, end)
                .filter(|r| !r.shared && !r.grows)
                .map(|r| r.end.min(end) - r.start.max(start))
                .sum();
            if becomes > data && !self.within_limits(becomes, true, (becomes, data)) {
                return Err(Errno(libc::ENOMEM));
            }
        }
        protect(start, end, host_prot(prot))?;
        self.unwatch_range(start, end);
        for piece in self.cut(start, end) {
            self.insert(Region { prot, ..piece });
        }
        Ok(())
    }

    fn mapped_up_to(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        while at < end {
            match self.region_at(at) {
                Some(region) => at = region.end,
                None => break,
            }
        }
        at.min(end)
    }

    /// Whether every byte of the range is mapped by the guest (with whatever protection).
    pub fn is_mapped(&self, start: u64, len: u64) -> bool {
        start.checked_add(len).is_some_and(|end| self.mapped_up_to(start, end) >= end)
    }

    /// mremap(2) with the guest's arguments. The caller drops translations of the old and new range.
    pub fn mremap(&mut self, old: u64, old_len: u64, new_len: u64, flags: i32, new: u64) -> Result<u64, Errno> {
        let old_len = self.page_up(old_len).ok_or(Errno(libc::EINVAL))?;
        let new_len = self.page_up(new_len).ok_or(Errno(libc::EINVAL))?;
        let may_move = flags & libc::MREMAP_MAYMOVE != 0;
        let fixed = flags & libc::MREMAP_FIXED != 0;
        if old & (self.page - 1) != 0 || new_len == 0 || (fixed && !may_move) {
            return Err(Errno(libc::EINVAL));
        }
        self.catch_up();
        let region = self.region_at(old).cloned().ok_or(Errno(libc::EFAULT))?;
        let keeps_old = flags & libc::MREMAP_DONTUNMAP != 0;
        if !fixed && !keeps_old && old_len != 0 && new_len <= old_len {
            // More than one mapping may go.
            if new_len < old_len {
                self.munmap(old + new_len, old_len - new_len)?;
            }
            return Ok(old);
        }
        if old.saturating_add(old_len) > region.end {
            return Err(Errno(libc::EFAULT));
        }
        let grown = if keeps_old || old_len == 0 { new_len } else { new_len.saturating_sub(old_len) };
        let replaced = if fixed { self.bytes(new, new.saturating_add(new_len)) } else { (0, 0) };
        if grown > 0 && !self.within_limits(grown, region.is_data(), replaced) {
            return Err(Errno(libc::ENOMEM));
        }
        // A watched page is a mapping of its own to the host, and its protection would move along.
        self.open(old, old_len);
        if !fixed && !keeps_old && old_len != 0 {
            if self.is_free(old + old_len, old + new_len)
                && old + new_len <= GUEST_END
                && host_remap(old, old_len, new_len, 0, 0).is_ok()
            {
                self.insert(Region {
                    start: old + old_len,
                    end: old + new_len,
                    backing: region.backing.at(old + old_len - region.start),
                    ..region
                });
                return Ok(old);
            }
            if !may_move {
                return Err(Errno(libc::ENOMEM));
            }
        }
        let target = if fixed {
            if new & (self.page - 1) != 0 || (new < old.saturating_add(old_len) && old < new.saturating_add(new_len)) {
                return Err(Errno(libc::EINVAL));
            }
            self.claim(new, new_len)?;
            new
        } else {
            self.place(new, new_len, false)?
        };
        let move_flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | (flags & libc::MREMAP_DONTUNMAP);
        if let Err(errno) = host_remap(old, old_len, new_len, move_flags, target) {
            self.release_unclaimed(target, target + new_len);
            return Err(errno);
        }
        self.unwatch_range(old, old + old_len);
        if !keeps_old && old_len != 0 {
            self.cut(old, old + old_len);
        }
        self.record(Region {
            start: target,
            end: target + new_len,
            backing: region.backing.at(old - region.start),
            ..region
        });
        Ok(target)
    }

    /// Sets where the heap begins (end of the executable's data), or, for a resumed image, where it has got to.
    pub fn set_brk(&mut self, start: u64, current: u64) {
        self.brk_start = start;
        self.brk = current;
    }

    /// The heap's beginning and current end.
    pub fn brk_range(&self) -> Range<u64> {
        self.brk_start..self.brk
    }

    /// brk(2): returns the new break, or the old one if it can't be changed.
    pub fn brk(&mut self, wanted: u64) -> u64 {
        if wanted < self.brk_start || wanted > GUEST_END {
            return self.brk;
        }
        let (Some(old), Some(new)) = (self.page_up(self.brk), self.page_up(wanted)) else {
            return self.brk;
        };
        let done = if new > old {
            self.is_free(old, new)
                && self.limits.data.allows(new - self.brk_start)
                && self.map_named(old, new - old, libc::PROT_READ | libc::PROT_WRITE, 0, "[heap]").is_ok()
        } else {
            new == old || self.munmap(new, old - new).is_ok()
        };
        if done {
            self.brk = wanted;
        }
        self.brk
    }

    /// Finds and claims room for a mapping without a fixed address, near `hint` if that is free.
    fn place(&mut self, hint: u64, len: u64, low: bool) -> Result<u64, MapError> {
        let hint = self.page_down(hint);
        if hint >= GUEST_PAGE
            && !low
            && hint.checked_add(len).is_some_and(|end| end <= GUEST_END)
            && self.is_free(hint, hint + len)
            && self.claim(hint, len).is_ok()
        {
            return Ok(hint);
        }
        // Another look with the foreign mappings known; they are few and rarely change.
        let mut conflict = None;
        for _ in 0..ATTEMPTS {
            // MAP_32BIT goes bottom-up (arch/x86/kernel/sys_x86_64.c).
            let gap = if low {
                self.gap_above(0x4000_0000, 0x8000_0000, len)
            } else {
                self.gap_below(self.mmap_top, 0x1_0000, len)
            };
            let Some(start) = gap else {
                break;
            };
            match self.claim(start, len) {
                Ok(()) => return Ok(start),
                Err(error) => conflict = Some(error),
            }
        }
        Err(conflict.unwrap_or_else(|| system(hint, len, Errno(libc::ENOMEM))))
    }

    /// The highest free range of `len` bytes in `bottom..top`.
    fn gap_below(&self, top: u64, bottom: u64, len: u64) -> Option<u64> {
        let mut ceiling = top;
        loop {
            let start = ceiling.checked_sub(len)?;
            if start < bottom {
                return None;
            }
            match self.blocker(start, ceiling) {
                None => return Some(start),
                Some(blocker) => ceiling = blocker.start,
            }
        }
    }

    /// The lowest free range of `len` bytes in `bottom..top`.
    fn gap_above(&self, bottom: u64, top: u64, len: u64) -> Option<u64> {
        let mut start = bottom;
        loop {
            let end = start.checked_add(len).filter(|end| *end <= top)?;
            match self.blocker(start, end) {
                None => return Some(start),
                Some(blocker) => start = blocker.end,
            }
        }
    }

    /// A range that isn't free, overlaps `start..end` and begins lowest. Below what grows there is its room to do so.
    fn blocker(&self, start: u64, end: u64) -> Option<Range<u64>> {
        let guest = self.regions.range(..end).next_back().map(|(_, r)| r.start..r.end);
        let foreign = self.foreign_in(start, end).map(|(range, _)| range);
        let rooms = self.growing.iter().filter_map(|at| self.regions.get(at)).map(|r| self.room_below(r)..r.end);
        let all = guest.into_iter().chain(foreign).chain(own_area()).chain(rooms);
        all.filter(|r| r.start < end && start < r.end).min_by_key(|r| r.start)
    }

    /// Makes sure that the whole range may be mapped over: what the guest doesn't have yet is reserved without
    /// replacing anything. On failure nothing stays reserved.
    fn claim(&mut self, start: u64, len: u64) -> Result<(), MapError> {
        let end = start
            .checked_add(len)
            .filter(|&end| end <= GUEST_END)
            .ok_or_else(|| system(start, len, Errno(libc::ENOMEM)))?;
        if own_area().is_some_and(|own| start < own.end && own.start < end) {
            return Err(self.conflict(start, end).into());
        }
        let mut reserved: Vec<Range<u64>> = Vec::new();
        for gap in self.gaps(start, end) {
            if let Err(errno) = reserve(gap.start, gap.end) {
                for range in reserved {
                    unmap(range.start, range.end).ok();
                }
                return Err(if errno.0 == libc::EEXIST {
                    self.look_for_foreign();
                    if self.foreign_in(gap.start, gap.end).is_none() {
                        self.look_for_hidden(gap.start, gap.end);
                    }
                    self.conflict(start, end).into()
                } else {
                    system(start, len, errno)
                });
            }
            reserved.push(gap);
        }
        Ok(())
    }

    /// Undoes a claim whose mapping failed: what isn't a guest region in the range is unmapped. (MAP_FIXED may
    /// have removed guest mappings on its way to the failure only where Linux would have, too.)
    fn release_unclaimed(&mut self, start: u64, end: u64) {
        for gap in self.gaps(start, end) {
            unmap(gap.start, gap.end).ok();
        }
    }

    /// The stretches of the range that no guest mapping covers.
    fn gaps(&self, start: u64, end: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = start;
        for region in self.overlapping(start, end) {
            if region.start > at {
                gaps.push(at..region.start);
            }
            at = region.end;
        }
        if at < end {
            gaps.push(at..end);
        }
        gaps
    }

    /// Names what isn't the guest's in the range.
    fn conflict(&self, start: u64, end: u64) -> Conflict {
        let (own, name) = self.foreign_in(start, end).unwrap_or_else(|| (own_area().unwrap_or_default(), "area"));
        Conflict { start, end, own: name.to_owned(), own_start: own.start, own_end: own.end }
    }

    /// Takes down what the host has mapped without it being the guest's.
    fn look_for_foreign(&mut self) {
        self.foreign.clear();
        for (range, name) in region::host_mappings() {
            if range.start >= GUEST_END {
                continue;
            }
            for gap in self.gaps(range.start, range.end.min(GUEST_END)) {
                self.foreign.insert(gap.start, (gap.end, name.clone()));
            }
        }
    }

    /// Takes down what can't be had in a range that nothing is listed in, as a whole where it is small.
    fn look_for_hidden(&mut self, start: u64, end: u64) {
        if reserve(start, end).is_ok() {
            unmap(start, end).ok();
        } else if end - start <= HIDDEN_GRAIN {
            self.hidden.insert(start, end);
        } else {
            let middle = self.page_down(start + (end - start) / 2);
            self.look_for_hidden(start, middle);
            self.look_for_hidden(middle, end);
        }
    }

    /// Enters a mapping that replaced whatever was in its range.
    fn record(&mut self, region: Region) {
        self.unwatch_range(region.start, region.end);
        self.cut(region.start, region.end);
        self.insert(region);
    }

    /// Takes the range out of the map and returns what was there.
    fn cut(&mut self, start: u64, end: u64) -> Vec<Region> {
        let hit: Vec<Region> = self.overlapping(start, end).cloned().collect();
        for region in &hit {
            self.take(region.start);
            if region.start < start {
                self.put(region.part(region.start, start));
            }
            if region.end > end {
                self.put(region.part(end, region.end));
            }
        }
        hit.iter().map(|r| r.part(r.start.max(start), r.end.min(end))).collect()
    }

    /// Enters a mapping into a free range, as one with its neighbours where they continue each other.
    fn insert(&mut self, mut region: Region) {
        if let Some(before) = self.regions.range(..region.start).next_back()
            && before.1.continues_into(&region)
        {
            let start = *before.0;
            if let Some(before) = self.take(start) {
                region = Region { end: region.end, ..before };
            }
        }
        if let Some(after) = self.regions.get(&region.end)
            && region.continues_into(after)
        {
            let end = after.end;
            self.take(region.end);
            region.end = end;
        }
        self.put(region);
    }

    /// Enters a region as it is.
    fn put(&mut self, region: Region) {
        if region.grows {
            self.growing.insert(region.start);
        }
        self.regions.insert(region.start, region);
    }

    /// Takes the region that begins here out of the map.
    fn take(&mut self, start: u64) -> Option<Region> {
        self.growing.remove(&start);
        self.regions.remove(&start)
    }

    /// mlock(2) and munlock(2), once the host has done it.
    pub fn note_locked(&mut self, start: u64, len: u64, locked: bool) {
        let start = self.page_down(start);
        let Some(end) = start.checked_add(len).and_then(|end| self.page_up(end)) else { return };
        for piece in self.cut(start, end) {
            self.insert(Region { locked, ..piece });
        }
    }

    /// madvise(2) about copies in children, once the host has done it.
    pub fn note_advice(&mut self, start: u64, len: u64, advice: i32) {
        let Some(end) = start.checked_add(len).and_then(|end| self.page_up(end)) else { return };
        if InChild::default().advised(advice).is_none() {
            return;
        }
        self.catch_up();
        for piece in self.cut(start, end) {
            let in_child = piece.in_child.advised(advice).unwrap_or(piece.in_child);
            self.insert(Region { in_child, ..piece });
        }
    }

    /// In a new process: what the advice for children leaves. Gives the ranges that aren't as in the parent; the caller drops
    /// their translations.
    pub fn become_child(&mut self) -> Vec<(u64, u64)> {
        let changed: Vec<Region> = self.regions().filter(|r| r.in_child != InChild::default()).cloned().collect();
        for region in changed.iter().filter(|r| r.in_child.missing) {
            self.cut(region.start, region.end);
            self.unwatch_range(region.start, region.end);
        }
        changed.iter().map(|r| (r.start, r.end - r.start)).collect()
    }

    /// Takes out of the map what the host has unmapped from `start` on, and gives the ranges.
    pub fn forget_unmapped(&mut self, start: u64) -> Vec<(u64, u64)> {
        let mut at = start;
        let mut gone = Vec::new();
        for (mapped, _) in region::host_mappings() {
            if at < mapped.start.min(GUEST_END) {
                gone.push((at, mapped.start.min(GUEST_END)));
            }
            at = at.max(mapped.end);
        }
        let cut: Vec<Region> = gone.into_iter().flat_map(|(from, to)| self.cut(from, to)).collect();
        for region in &cut {
            self.unwatch_range(region.start, region.end);
        }
        cut.iter().map(|r| (r.start, r.end - r.start)).collect()
    }

    /// Whether mappings that are made from now on are locked (MCL_FUTURE).
    pub fn lock_future(&mut self, lock: bool) {
        self.lock_future = lock;
    }

    /// Whether what may be read may be executed, from now on (READ_IMPLIES_EXEC of personality(2)).
    pub fn imply_exec(&mut self, implied: bool) {
        self.read_implies_exec = implied;
    }

    fn with_implied_exec(&self, prot: i32) -> i32 {
        let implied = self.read_implies_exec && prot & libc::PROT_READ != 0;
        if implied { prot | libc::PROT_EXEC } else { prot }
    }

    /// The limits that count for the guest's mappings.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Leaves room below the stack for a soft limit of so many bytes: new mappings are placed below that.
    pub fn leave_stack_room(&mut self, limit: u64) {
        self.stack_room = limit.saturating_add(STACK_GUARD_GAP).clamp(STACK_ROOM, STACK_ROOM_MAX);
        self.mmap_top = STACK_TOP - self.stack_room;
    }

    /// The room for the stack, the gap below it included.
    pub fn stack_room(&self) -> u64 {
        self.stack_room
    }
}

fn is_open(fd: i32) -> bool {
    // SAFETY: asks for a descriptor's flags.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

fn unmap(start: u64, end: u64) -> Result<(), Errno> {
    // SAFETY: only called for ranges that belong to the guest or were just reserved for it.
    let result = unsafe { libc::munmap(start as *mut libc::c_void, (end - start) as usize) };
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

fn protect(start: u64, end: u64, prot: i32) -> Result<(), Errno> {
    // SAFETY: only called for the guest's mappings, which no Rust object lives in.
    let result = unsafe { libc::mprotect(start as *mut libc::c_void, (end - start) as usize, prot) };
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// Maps inaccessible pages at exactly this range, or fails with EEXIST if anything is there.
fn reserve(start: u64, end: u64) -> Result<(), Errno> {
    let len = (end - start) as usize;
    // SAFETY: without MAP_FIXED nothing existing is replaced.
    let result = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if result == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    if result as u64 != start {
        // Kernels (and emulators) that don't know MAP_FIXED_NOREPLACE take the address as a hint.
        unmap(result as u64, result as u64 + len as u64).ok();
        return Err(Errno(libc::EEXIST));
    }
    Ok(())
}

fn host_remap(old: u64, old_len: u64, len: u64, flags: i32, new: u64) -> Result<(), Errno> {
    // SAFETY: the old range is the guest's, the new one (if any) was claimed for it.
    let result = unsafe {
        libc::mremap(old as *mut libc::c_void, old_len as usize, len as usize, flags, new as *mut libc::c_void)
    };
    if result == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;

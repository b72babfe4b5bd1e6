//! Pages that translations were made from: writes to them are noticed.
//!
//! A page that the guest can write to is write-protected on the host while there are translations of it. A write is let
//! through at once, and the page is noted as *opened*: the engine drops its translations as soon as it can.

use std::collections::BTreeSet;

use super::{Backing, Memory, Region, host_prot, protect};

/// What may change code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// Nothing but a call of the guest's that concerns its mapping.
    Fixed,
    /// The guest's writes to it, which can be noticed.
    Watchable,
    /// Writes that can't be noticed: through another mapping, to the mapped file, by another process, or to a stack that grows.
    Shared,
}

impl Region {
    /// What may change code in this mapping. A private mapping of a file counts as its own copy: who writes to a file
    /// while it is mapped so gets no promise from Linux either (mmap(2), MAP_PRIVATE).
    pub fn mutability(&self) -> Mutability {
        match () {
            // The host's kernel extends what grows with the protection of its lowest page, which a watch would change.
            () if self.shared || self.grows => Mutability::Shared,
            () if self.prot & libc::PROT_WRITE != 0 => Mutability::Watchable,
            () => Mutability::Fixed,
        }
    }
}

/// Opened pages that are noted one by one. More of them, before the engine looks, and all that are watched count as opened.
const NOTED: usize = 64;

/// The watched pages, and those among them that were opened.
pub struct Watched {
    pages: BTreeSet<u64>,
    opened: [u64; NOTED],
    /// The last one of them.
    last: u64,
    /// Pages that were opened, also if they are more than can be noted.
    count: usize,
}

impl Default for Watched {
    fn default() -> Self {
        Self { pages: BTreeSet::new(), opened: [0; NOTED], last: u64::MAX, count: 0 }
    }
}

impl Watched {
    /// Notes an opened page. It stays among the watched ones, so that this allocates and frees nothing.
    fn note(&mut self, page: u64) {
        if let Some(place) = self.opened.get_mut(self.count) {
            *place = page;
        }
        self.last = page;
        self.count += 1;
    }

    /// Whether the page is one that is opened: it faults for another reason than its watch. (Where more are open than are
    /// noted, this is only known of the last one, which is enough to end a repeated fault.)
    fn is_opened(&self, page: u64) -> bool {
        let noted = &self.opened[..self.count.min(NOTED)];
        self.count != 0 && (self.last == page || noted.contains(&page))
    }

    /// The opened pages, which are forgotten.
    fn take(&mut self) -> Vec<u64> {
        let opened = match self.opened.get(..core::mem::take(&mut self.count)) {
            Some(noted) => noted.to_vec(),
            None => self.pages.iter().copied().collect(),
        };
        for page in &opened {
            self.pages.remove(page);
        }
        opened
    }
}

impl Memory {
    /// What may change code in a range.
    pub fn mutability(&self, start: u64, end: u64) -> Mutability {
        let mut worst = Mutability::Fixed;
        for region in self.overlapping(start, end) {
            match region.mutability() {
                Mutability::Fixed => {}
                Mutability::Watchable => worst = Mutability::Watchable,
                Mutability::Shared => return Mutability::Shared,
            }
        }
        worst
    }

    /// Write-protects (on the host) the guest-writable pages of a range that is being translated, so that a
    /// write to them is noticed as a host fault. Pages the guest itself may not write need nothing. False if writes to some
    /// can't be noticed.
    pub fn watch_code(&self, start: u64, len: u64) -> bool {
        let first = self.page_down(start);
        (first..start.saturating_add(len)).step_by(self.page as usize).all(|page| self.watch_page(page))
    }

    fn watch_page(&self, page: u64) -> bool {
        let mutability = self.region_at(page).map_or(Mutability::Fixed, Region::mutability);
        if mutability == Mutability::Fixed || self.watched.borrow().pages.contains(&page) {
            return true;
        }
        let done = mutability == Mutability::Watchable && protect(page, page + self.page, libc::PROT_READ).is_ok();
        if done {
            self.watched.borrow_mut().pages.insert(page);
        }
        done
    }

    /// Makes the page at `addr` writable again and notes that; false if it isn't watched (a fault there is the guest's
    /// own). For a fault handler: takes no lock and allocates nothing.
    pub fn open_code(&self, addr: u64) -> bool {
        let page = self.page_down(addr);
        let Ok(mut watched) = self.watched.try_borrow_mut() else { return false };
        if !watched.pages.contains(&page) || watched.is_opened(page) {
            return false;
        }
        watched.note(page);
        self.protection(page).is_some_and(|p| protect(page, page + self.page, host_prot(p)).is_ok())
    }

    /// Whether any page is watched. If none is, writes need no care.
    #[inline]
    pub fn is_watching(&self) -> bool {
        !self.watched.borrow().pages.is_empty()
    }

    /// Opens the watched pages of a range, because the kernel or the runtime is about to write to it: a system call that
    /// met a protected page would fail after it has had its effect.
    pub fn open(&self, start: u64, len: u64) {
        if len == 0 || !self.is_watching() {
            return;
        }
        let range = self.page_down(start)..start.saturating_add(len);
        let pages: Vec<u64> = self.watched.borrow().pages.range(range).copied().collect();
        for page in pages {
            // One that can't be opened shows by the write's failing.
            self.open_code(page);
        }
    }

    /// Where code of a file is mapped, as (address, length).
    pub fn code_of_file(&self, device: u64, inode: u64) -> Vec<(u64, u64)> {
        let is_of_it = |region: &&Region| match region.backing {
            Backing::File { device: d, inode: i, .. } => (d, i) == (device, inode),
            Backing::Anonymous | Backing::Named(_) => false,
        };
        let code = self.regions().filter(|region| region.prot & libc::PROT_EXEC != 0).filter(is_of_it);
        code.map(|region| (region.start, region.end - region.start)).collect()
    }

    /// Whether code may lie in a range.
    pub fn executable_within(&self, start: u64, len: u64) -> bool {
        self.overlapping(start, start.saturating_add(len)).any(|region| region.prot & libc::PROT_EXEC != 0)
    }

    /// Whether pages were opened since [`Memory::take_opened`].
    #[inline]
    pub fn has_opened(&self) -> bool {
        self.watched.borrow().count != 0
    }

    /// The pages that were opened. They aren't watched any more.
    pub fn take_opened(&self) -> Vec<u64> {
        let opened = self.watched.borrow_mut().take();
        for &page in &opened {
            if let Some(prot) = self.protection(page) {
                // Of more pages than can be noted some are still protected. One that stays so shows by a fault.
                let _ = protect(page, page + self.page, host_prot(prot));
            }
        }
        opened
    }

    /// Ends the watch of the page at `addr` and makes it writable again; false if it wasn't watched. The caller drops its
    /// translations.
    pub fn unwatch_code(&self, addr: u64) -> bool {
        let page = self.page_down(addr);
        let watched = self.watched.borrow_mut().pages.remove(&page);
        watched && self.protection(page).is_some_and(|p| protect(page, page + self.page, host_prot(p)).is_ok())
    }

    /// The watched pages.
    pub fn watched_pages(&self) -> Vec<u64> {
        self.watched.borrow().pages.iter().copied().collect()
    }

    /// Forgets the watched pages of a range whose protection is another one now.
    pub(super) fn unwatch_range(&self, start: u64, end: u64) {
        let mut watched = self.watched.borrow_mut();
        if !watched.pages.is_empty() {
            watched.pages.retain(|page| !(start..end).contains(page));
        }
    }
}

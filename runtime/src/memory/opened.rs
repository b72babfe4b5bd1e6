//! Writes to watched pages that don't come from guest code: the kernel's (the results of system calls) and the runtime's.
//!
//! They can't be caught as faults, because a system call fails with EFAULT after it has had its effect. So the pages are
//! opened beforehand. The engine drops their translations before guest code runs again.

use super::Memory;

impl Memory {
    /// Whether any page is watched. If none is, writes need no care.
    #[inline]
    pub fn is_watching(&self) -> bool {
        !self.watched.borrow().is_empty()
    }

    /// Makes the watched pages of a range writable, because the kernel or the runtime is about to write to it.
    /// [`Memory::take_opened`] names them afterwards.
    pub fn open(&self, start: u64, len: u64) {
        if len == 0 || !self.is_watching() {
            return;
        }
        let range = self.page_down(start)..start.saturating_add(len);
        let pages: Vec<u64> = self.watched.borrow().range(range).copied().collect();
        for page in pages {
            self.unwatch_code(page);
            self.opened.borrow_mut().push(page);
        }
    }

    /// Whether code may lie in a range.
    pub fn executable_within(&self, start: u64, len: u64) -> bool {
        self.overlapping(start, start.saturating_add(len)).any(|region| region.prot & libc::PROT_EXEC != 0)
    }

    /// Makes the watched pages writable that other processes share, because the kernel is going to write to some of them
    /// when the process ends.
    pub fn open_shared(&self) {
        for page in self.watched_pages() {
            if self.region_at(page).is_some_and(|region| region.shared) {
                self.open(page, self.page);
            }
        }
    }

    /// The pages that were opened since the last question. What was translated from them is out of date.
    #[inline]
    pub fn take_opened(&self) -> Vec<u64> {
        // An empty vector takes no memory.
        self.opened.take()
    }
}

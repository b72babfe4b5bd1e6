//! Self-modifying code: how often each page that holds translated code was written to.
//!
//! A page is write-protected while there are translations of it; a write drops them. A page whose code keeps
//! changing is left writable instead, and its blocks compare their bytes at every entry.

use core::ops::Range;
use std::collections::HashMap;

/// Writes after which a page is no longer watched.
const VOLATILE: u32 = 8;

/// Write counts by page number.
#[derive(Default)]
pub struct Pages {
    writes: HashMap<u64, u32>,
}

fn page_size() -> u64 {
    crate::memory::host_page_size()
}

impl Pages {
    /// Counts a write to the page at `addr`; gives the page.
    pub fn written(&mut self, addr: u64) -> Range<u64> {
        let start = addr & !(page_size() - 1);
        *self.writes.entry(start).or_default() += 1;
        start..start + page_size()
    }

    /// Makes the pages of a range count as often changing; gives those that didn't before.
    pub fn make_volatile(&mut self, start: u64, end: u64) -> Vec<Range<u64>> {
        let first = start & !(page_size() - 1);
        let pages = (first..end).step_by(page_size() as usize);
        let quiet = pages.filter(|page| self.writes.insert(*page, VOLATILE).is_none_or(|writes| writes < VOLATILE));
        quiet.map(|page| page..page + page_size()).collect()
    }

    /// Whether a range of code touches a page that changes too often to be watched.
    pub fn is_volatile(&self, start: u64, end: u64) -> bool {
        let first = start & !(page_size() - 1);
        !self.writes.is_empty()
            && (first..end)
                .step_by(page_size() as usize)
                .any(|page| self.writes.get(&page).is_some_and(|&n| n >= VOLATILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_turns_volatile_after_repeated_writes() {
        let mut pages = Pages::default();
        let size = page_size();
        for _ in 0..VOLATILE {
            assert!(!pages.is_volatile(2 * size - 4, 2 * size + 4));
            assert_eq!(pages.written(2 * size + 5), 2 * size..3 * size);
        }
        assert!(pages.is_volatile(2 * size - 4, 2 * size + 4));
        assert!(!pages.is_volatile(size, 2 * size));
    }

    #[test]
    fn a_page_is_made_volatile_once() {
        let mut pages = Pages::default();
        let size = page_size();
        let mut made = |start, end| pages.make_volatile(start, end).iter().map(|page| page.start).collect::<Vec<_>>();
        assert_eq!(made(size + 8, 2 * size + 1), [size, 2 * size]);
        assert_eq!(made(size, 4 * size), [3 * size]);
        assert!(pages.is_volatile(size + 1, size + 2));
        assert!(!pages.is_volatile(4 * size, 5 * size));
    }
}

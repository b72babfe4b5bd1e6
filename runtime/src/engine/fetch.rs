//! How the decoder reads guest code.

use std::cell::RefCell;

use smallvec::SmallVec;
use xlate_x86::decode::CodeSource;

use super::GuestCode;
use crate::memory::host_page_size;

/// Guest memory as the decoder reads it: it soon comes back for what is just behind.
pub struct Fetch<'m> {
    memory: &'m dyn GuestCode,
    /// Only what the guest can't write to.
    fixed: bool,
    window: RefCell<Window>,
}

/// Bytes that were read at once.
struct Window {
    start: u64,
    bytes: [u8; 256],
    length: usize,
}

impl<'m> Fetch<'m> {
    pub fn new(memory: &'m dyn GuestCode) -> Self {
        Self { memory, fixed: false, window: RefCell::new(Window { start: 0, bytes: [0; 256], length: 0 }) }
    }

    /// Sees only code that nothing changes but a call of the guest's that concerns its mapping.
    pub fn fixed(memory: &'m dyn GuestCode) -> Self {
        Self { fixed: true, ..Self::new(memory) }
    }

    fn read(&self, pc: u64, buffer: &mut [u8]) -> usize {
        if self.fixed { self.memory.fetch_fixed(pc, buffer) } else { self.memory.fetch(pc, buffer) }
    }
}

impl CodeSource for Fetch<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let window = &mut *self.window.borrow_mut();
        let offset = pc.wrapping_sub(window.start) as usize;
        if let Some(there) = window.bytes[..window.length].get(offset..).and_then(|rest| rest.get(..buffer.len())) {
            buffer.copy_from_slice(there);
            return buffer.len();
        }
        if buffer.len() > window.bytes.len() {
            return self.read(pc, buffer);
        }
        window.start = pc;
        window.length = self.read(pc, &mut window.bytes);
        let n = window.length.min(buffer.len());
        buffer[..n].copy_from_slice(&window.bytes[..n]);
        n
    }
}

/// Fixed code, with a look at what may follow a block. The pages that are looked at are noted.
pub struct LookingAhead<'m> {
    memory: &'m dyn GuestCode,
    fetch: Fetch<'m>,
    pages: RefCell<LookedAt>,
}

/// Addresses of pages.
pub type LookedAt = SmallVec<[u64; 4]>;

impl<'m> LookingAhead<'m> {
    pub fn new(memory: &'m dyn GuestCode) -> Self {
        Self { memory, fetch: Fetch::fixed(memory), pages: RefCell::default() }
    }

    /// The pages that were looked at, but for those of the block itself.
    pub fn pages_beside(self, start: u64, end: u64) -> LookedAt {
        let mut pages = self.pages.into_inner();
        pages.retain(|page| *page + host_page_size() <= start || *page >= end);
        pages
    }

    /// Whether a page may be looked at.
    fn admits(&self, page: u64) -> bool {
        let mut pages = self.pages.borrow_mut();
        if pages.contains(&page) {
            return true;
        }
        let fixed = is_fixed(self.memory, page);
        if fixed {
            pages.push(page);
        }
        fixed
    }
}

impl CodeSource for LookingAhead<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        self.fetch.fetch(pc, buffer)
    }

    fn fetch_ahead(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let page = pc & !(host_page_size() - 1);
        if !self.admits(page) {
            return 0;
        }
        let n = (buffer.len() as u64).min(page + host_page_size() - pc) as usize;
        self.fetch.fetch(pc, &mut buffer[..n])
    }
}

/// Whether the guest can't write to the code at an address.
pub fn is_fixed(memory: &dyn GuestCode, address: u64) -> bool {
    memory.fetch_fixed(address, &mut [0]) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const START: u64 = 0x1000;

    /// 300 bytes that count, and how often they were read.
    struct Bytes(Cell<u32>);

    impl GuestCode for Bytes {
        fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
            self.0.set(self.0.get() + 1);
            let left = (START + 300).saturating_sub(addr) as usize;
            let n = if addr < START { 0 } else { left.min(buffer.len()) };
            buffer[..n].iter_mut().zip(addr - START..).for_each(|(byte, at)| *byte = at as u8);
            n
        }
    }

    #[test]
    fn what_was_read_is_not_read_again_and_nothing_is_cut() {
        let memory = Bytes(Cell::new(0));
        let fetch = Fetch::new(&memory);
        // Where, how much, how much of that there is, and reads so far.
        let cases =
            [(0, 96, 96, 1), (20, 96, 96, 1), (160, 96, 96, 1), (161, 96, 96, 2), (204, 96, 96, 2), (205, 96, 95, 3)];
        let ends = [(299, 15, 1, 4), (300, 15, 0, 5), (10, 96, 96, 6), (0, 280, 280, 7), (10, 280, 280, 8)];
        for (offset, wanted, there, reads) in cases.into_iter().chain(ends) {
            let mut buffer = vec![0; wanted];
            assert_eq!(fetch.fetch(START + offset, &mut buffer), there, "at {offset}");
            assert!(buffer[..there].iter().zip(offset..).all(|(byte, at)| *byte == at as u8), "at {offset}");
            assert_eq!(memory.0.get(), reads, "at {offset}");
        }
    }
}

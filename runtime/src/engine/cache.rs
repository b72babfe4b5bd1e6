//! Memory for translated code.
//!
//! One mapping, filled from its start and emptied as a whole. It is writable and executable at once where the host
//! allows it; otherwise pages are switched to writable while code is copied in, which is safe because no translated
//! code runs meanwhile (one thread). A second mapping of the same memory is not used: emulators keep running the
//! old code behind it.

use core::ptr::NonNull;

/// Why there is no memory for code.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("no {size} bytes of memory for translated code: {source}")]
    Map { size: usize, source: std::io::Error },
}

/// A stretch of the cache that code may be put into.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub address: u64,
    pub len: usize,
}

/// The code memory.
pub struct CodeCache {
    base: NonNull<u8>,
    size: usize,
    used: usize,
    /// Pages are executable but not writable outside of [`CodeCache::write`].
    exclusive: bool,
}

/// The start of the cache that consists of small pages: huge ones would cost short programs more than all their code.
const SMALL: usize = 2 << 20;

const RX: i32 = libc::PROT_READ | libc::PROT_EXEC;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn map(size: usize, protection: i32) -> Result<NonNull<u8>, std::io::Error> {
    // SAFETY: a fresh mapping; the address is a hint.
    let p = unsafe {
        libc::mmap(
            crate::layout::place_for_code(size),
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    match NonNull::new(p.cast::<u8>()) {
        Some(base) if p != libc::MAP_FAILED => Ok(base),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl CodeCache {
    /// Reserves memory for `size` bytes of code (a multiple of the page size).
    pub fn new(size: usize) -> Result<Self, CacheError> {
        let (base, exclusive) = match map(size, RX | RW) {
            Ok(base) => (base, false),
            // Hardened kernels refuse memory that is both (SELinux execmem).
            Err(_) => match map(size, RX) {
                Ok(base) => (base, true),
                Err(source) => return Err(CacheError::Map { size, source }),
            },
        };
        if let Some(large) = size.checked_sub(SMALL).filter(|_| !exclusive) {
            // SAFETY: the end of the new mapping. A hint: fewer faults and fewer misses of the instruction TLB.
            unsafe { libc::madvise(base.add(SMALL).as_ptr().cast(), large, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { base, size, used: 0, exclusive })
    }

    /// Takes `len` bytes at a multiple of `align` (a power of two); `None` when the cache is full.
    pub fn reserve(&mut self, len: usize, align: usize) -> Option<Place> {
        let base = self.base.as_ptr() as usize;
        let start = (base + self.used).next_multiple_of(align) - base;
        let end = start.checked_add(len)?;
        if end > self.size {
            return None;
        }
        self.used = end;
        Some(Place { address: (base + start) as u64, len })
    }

    /// Bytes that are left.
    pub fn free(&self) -> usize {
        self.size - self.used
    }

    /// Whether an address lies in code.
    pub fn contains(&self, address: u64) -> bool {
        let base = self.base.as_ptr() as u64;
        (base..base + self.used as u64).contains(&address)
    }

    /// Copies code to its place and makes it visible to instruction fetches.
    pub fn write(&mut self, place: Place, code: &[u8]) -> Result<(), std::io::Error> {
        assert!(code.len() <= place.len && self.contains(place.address));
        self.protect(place, RW)?;
        // SAFETY: the place was reserved from this mapping, is writable now, and nothing refers to its bytes.
        unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), place.address as *mut u8, code.len());
        }
        self.protect(place, RX)?;
        flush_instruction_cache(place.address, code.len());
        Ok(())
    }

    /// Copies a blob's code to the start of its place and zeroes the data behind it, from offset `data` on, which
    /// stays writable. Data that must not share a page with code begins at a multiple of the page size.
    pub fn write_blob(&mut self, place: Place, code: &[u8], data: usize) -> Result<(), std::io::Error> {
        let code_place = Place { address: place.address, len: data };
        let data_place = Place { address: place.address + data as u64, len: place.len - data };
        self.protect(data_place, RW)?;
        // SAFETY: part of the reserved place; nothing refers to its bytes.
        unsafe { core::ptr::write_bytes(data_place.address as *mut u8, 0, data_place.len) };
        self.write(code_place, code)?;
        if self.exclusive {
            // The next code must not take the last data page's write permission away.
            let end = place.address + place.len as u64 - self.base.as_ptr() as u64;
            let page = crate::memory::host_page_size();
            self.used = (end.next_multiple_of(page) as usize).min(self.size);
        }
        Ok(())
    }

    /// Switches the pages of a place, if this cache does that.
    fn protect(&self, place: Place, protection: i32) -> Result<(), std::io::Error> {
        if !self.exclusive {
            return Ok(());
        }
        let page = crate::memory::host_page_size();
        let start = place.address & !(page - 1);
        let len = place.address + place.len as u64 - start;
        // SAFETY: pages of this mapping; no translated code runs.
        let r = unsafe { libc::mprotect(start as *mut libc::c_void, len as usize, protection) };
        if r == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Forgets all code. Nothing may refer to it any more.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

impl Drop for CodeCache {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

/// Instruction fetches follow stores by themselves here (Intel SDM vol. 3, 11.6), once a jump has been taken.
#[cfg(target_arch = "x86_64")]
fn flush_instruction_cache(_address: u64, _len: usize) {}

/// Cleans the data cache to the point of unification and drops stale instructions (Arm ARM B2.7.4.2).
#[cfg(target_arch = "aarch64")]
fn flush_instruction_cache(address: u64, len: usize) {
    let ctr: u64;
    // SAFETY: CTR_EL0 is readable in user mode on Linux.
    unsafe { core::arch::asm!("mrs {}, ctr_el0", out(reg) ctr) };
    let lines = |log2_words: u64| {
        let line = 4u64 << log2_words;
        (address & !(line - 1)..address + len as u64).step_by(line as usize)
    };
    for line in lines(ctr >> 16 & 0xf) {
        // SAFETY: cache maintenance by address within memory of our own.
        unsafe { core::arch::asm!("dc cvau, {}", in(reg) line) };
    }
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ish") };
    for line in lines(ctr & 0xf) {
        // SAFETY: as above.
        unsafe { core::arch::asm!("ic ivau, {}", in(reg) line) };
    }
    // SAFETY: barriers.
    unsafe { core::arch::asm!("dsb ish", "isb") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_aligned_and_bounded() {
        let mut cache = CodeCache::new(1 << 16).unwrap();
        let a = cache.reserve(10, 16).unwrap();
        let b = cache.reserve(10, 4096).unwrap();
        assert_eq!((a.address % 16, b.address % 4096), (0, 0));
        assert!(b.address >= a.address + 10);
        assert!(cache.reserve(1 << 16, 16).is_none());
        assert!(cache.contains(b.address + 9) && !cache.contains(b.address + 10));
        cache.clear();
        assert_eq!(cache.reserve(10, 16).unwrap().address, a.address);
    }

    #[test]
    fn code_runs_after_it_was_written() {
        #[cfg(target_arch = "x86_64")]
        let codes = [[0xb8, 7, 0, 0, 0, 0xc3, 0x90, 0x90], [0xb8, 9, 0, 0, 0, 0xc3, 0x90, 0x90]];
        #[cfg(target_arch = "aarch64")]
        let codes = [0x5280_00e0u32, 0x5280_0120].map(|movz| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&movz.to_le_bytes());
            bytes[4..].copy_from_slice(&0xd65f_03c0u32.to_le_bytes());
            bytes
        });
        let mut cache = CodeCache::new(1 << 16).unwrap();
        let place = cache.reserve(8, 16).unwrap();
        for (code, want) in codes.iter().zip([7, 9]) {
            cache.write(place, code).unwrap();
            // SAFETY: the code above is `mov eax, N; ret`.
            let f: extern "C" fn() -> u32 = unsafe { core::mem::transmute(place.address) };
            assert_eq!(f(), want);
        }
    }
}

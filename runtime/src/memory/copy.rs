//! Reading and writing guest memory without trusting the guest's pointers: a bad address is an error, not a
//! fault.

use super::{GUEST_END, Memory, own_area};
use crate::errno::Errno;
use crate::guarded;

/// Types of which every bit pattern is a value and that have no padding: what system call structures are made of.
///
/// # Safety
/// The implementor must be such a type (`repr(C)`, no padding, no references, no niches).
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($t:ty),*) => {
        $(
            // SAFETY: primitive integers have neither padding nor invalid bit patterns.
            unsafe impl Plain for $t {}
        )*
    };
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, u128);

// SAFETY: an array of such a type has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

const FAULT: Errno = Errno(libc::EFAULT);

impl Memory {
    /// Whether the range can be the guest's at all: below the end of its address space and outside the
    /// translator's area. (Whether it is mapped shows when it is touched.)
    pub fn is_guest_range(addr: u64, len: u64) -> bool {
        let Some(end) = addr.checked_add(len) else {
            return false;
        };
        end <= GUEST_END && !own_area().is_some_and(|own| addr < own.end && own.start < end)
    }

    /// Reads as many bytes as can be read without a fault.
    pub fn read_some(&self, addr: u64, buffer: &mut [u8]) -> usize {
        if !Self::is_guest_range(addr, buffer.len() as u64) {
            return 0;
        }
        // SAFETY: `buffer` is ours and valid; the guest's side may fault.
        let left = unsafe { guarded::copy(buffer.as_mut_ptr(), addr as *const u8, buffer.len()) };
        buffer.len() - left
    }

    /// Reads exactly `buffer.len()` bytes of guest memory, or fails with EFAULT.
    pub fn read_guest(&self, addr: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        if self.read_some(addr, buffer) == buffer.len() { Ok(()) } else { Err(FAULT) }
    }

    /// Writes bytes to guest memory, or fails with EFAULT (some of them may have been written). It counts as a write to
    /// code where there is some.
    pub fn write_guest(&self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        if !Self::is_guest_range(addr, bytes.len() as u64) {
            return Err(FAULT);
        }
        self.open(addr, bytes.len() as u64);
        // SAFETY: the target lies in the guest's part of the address space, where no object of ours lives.
        let left = unsafe { guarded::copy(addr as *mut u8, bytes.as_ptr(), bytes.len()) };
        if left == 0 { Ok(()) } else { Err(FAULT) }
    }

    /// Reads one value.
    pub fn read<T: Plain>(&self, addr: u64) -> Result<T, Errno> {
        let mut value = core::mem::MaybeUninit::<T>::zeroed();
        // SAFETY: the slice covers exactly the value's bytes, which are initialised (to zero).
        let bytes = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
        self.read_guest(addr, bytes)?;
        // SAFETY: `Plain` types take every bit pattern.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes one value.
    pub fn write<T: Plain>(&self, addr: u64, value: &T) -> Result<(), Errno> {
        // SAFETY: `Plain` types have no padding, so all their bytes are initialised.
        let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
        self.write_guest(addr, bytes)
    }

    /// Reads a zero-terminated string of at most `max` bytes (without its zero); ENAMETOOLONG beyond that.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut at = addr;
        while text.len() <= max {
            // Up to the next page boundary, so that a string at the end of a mapping is read to its end.
            let mut chunk = [0u8; 256];
            let room = (self.page - (at & (self.page - 1))).min(chunk.len() as u64) as usize;
            let chunk = &mut chunk[..room];
            self.read_guest(at, chunk)?;
            if let Some(end) = chunk.iter().position(|&b| b == 0) {
                text.extend_from_slice(&chunk[..end]);
                return if text.len() <= max { Ok(text) } else { Err(Errno(libc::ENAMETOOLONG)) };
            }
            text.extend_from_slice(chunk);
            at += room as u64;
        }
        Err(Errno(libc::ENAMETOOLONG))
    }
}

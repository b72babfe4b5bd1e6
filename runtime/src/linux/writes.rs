//! What the kernel writes to guest memory in a system call, as each row of the table states it.
//!
//! Pages that translations were made from are write-protected on the host. A call that has to write to one would fail with
//! EFAULT, but after it has had its effect: the datagram is taken, the child is reaped. So these pages are opened before the
//! call, and what was translated from them is dropped ([`Memory::open`]). A statement may cover more than the kernel
//! writes, which costs translations, but not less.
//!
//! Left to others: writes that come later than the call ([`Guest::expect_writes`]), writes to memory that another process
//! has mapped, and /proc/PID/mem ([`super::memory_files`]).

mod special;

use super::{Args, table::Row};
use crate::guest::Guest;
use crate::memory::{Memory, Plain};

pub use special::*;

/// Something that a call may write to. Arguments are given by their numbers.
#[derive(Clone, Copy)]
pub enum Write {
    /// As many bytes as here, at the address in argument `at`.
    Fixed { at: usize, size: u64 },
    /// As many bytes as argument `len` says.
    Bytes { at: usize, len: usize },
    /// As many elements of `size` bytes as argument `count` says.
    Array { at: usize, count: usize, size: u64 },
    /// As many bits as argument `count` says, in whole words.
    Bits { at: usize, count: usize },
    /// As many bytes as the `socklen_t` at the address in argument `len` says, and this length itself.
    Sized { at: usize, len: usize },
    /// The buffers of an array of `struct iovec`.
    Vector { at: usize, count: usize },
    /// What several arguments tell together.
    Special(fn(&mut Call<'_>)),
}

/// What a call that writes nothing states.
pub const NONE: &[Write] = &[];

pub const fn fixed(at: usize, size: u64) -> Write {
    Write::Fixed { at, size }
}

pub const fn bytes(at: usize, len: usize) -> Write {
    Write::Bytes { at, len }
}

pub const fn array(at: usize, count: usize, size: u64) -> Write {
    Write::Array { at, count, size }
}

pub const fn bits(at: usize, count: usize) -> Write {
    Write::Bits { at, count }
}

pub const fn sized(at: usize, len: usize) -> Write {
    Write::Sized { at, len }
}

pub const fn vector(at: usize, count: usize) -> Write {
    Write::Vector { at, count }
}

pub const fn special(find: fn(&mut Call<'_>)) -> Write {
    Write::Special(find)
}

/// Sizes of x86-64's structures.
pub mod size {
    pub const INT: u64 = 4;
    pub const LONG: u64 = 8;
    pub const TWO_INTS: u64 = 8;
    pub const TIMESPEC: u64 = 16;
    pub const TIMEVAL: u64 = 16;
    pub const TIMEZONE: u64 = 8;
    pub const ITIMER: u64 = 32;
    pub const TIMEX: u64 = 208;
    pub const TMS: u64 = 32;
    pub const RUSAGE: u64 = 144;
    pub const RLIMIT: u64 = 16;
    pub const STAT: u64 = 144;
    pub const STATX: u64 = 256;
    pub const STATFS: u64 = 120;
    pub const CACHESTAT: u64 = 40;
    /// `struct file_handle` with the longest handle (MAX_HANDLE_SZ).
    pub const FILE_HANDLE: u64 = 8 + 128;
    /// The largest structure of quotactl(2), rounded up.
    pub const QUOTA: u64 = 512;
    pub const SIGSET: u64 = 8;
    pub const SIGACTION: u64 = 32;
    pub const SIGINFO: u64 = 128;
    pub const SIGALTSTACK: u64 = 24;
    pub const POLLFD: u64 = 8;
    pub const EPOLL_EVENT: u64 = 12;
    pub const MSGHDR: u64 = 56;
    pub const MMSGHDR: u64 = 64;
    /// The largest structure of shmctl(2), semctl(2) and msgctl(2), rounded up.
    pub const IPC: u64 = 128;
    pub const MQ_ATTR: u64 = 64;
    pub const IO_EVENT: u64 = 32;
    pub const UTSNAME: u64 = 390;
    pub const SYSINFO: u64 = 112;
    pub const CAP_HEADER: u64 = 8;
    pub const CAP_DATA: u64 = 24;
}

/// Most elements of a `struct iovec` array, and of a `struct mmsghdr` one (UIO_MAXIOV). With more, a call fails.
const MOST_BUFFERS: u64 = 1024;

/// A call whose writes are being found.
pub struct Call<'a> {
    pub memory: &'a Memory,
    pub args: &'a Args,
    found: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Call<'a> {
    pub fn new(memory: &'a Memory, args: &'a Args, found: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self { memory, args, found }
    }

    /// What a row states.
    pub fn find(&mut self, writes: &[Write]) {
        let arg = self.args.0;
        for write in writes {
            match *write {
                Write::Fixed { at, size } => self.add(arg[at], size),
                Write::Bytes { at, len } => self.add(arg[at], arg[len]),
                Write::Array { at, count, size } => self.add(arg[at], arg[count].saturating_mul(size)),
                Write::Bits { at, count } => self.add(arg[at], arg[count].div_ceil(64).saturating_mul(8)),
                Write::Sized { at, len } => self.sized(arg[at], arg[len]),
                Write::Vector { at, count } => self.vector(arg[at], arg[count]),
                Write::Special(find) => find(self),
            }
        }
    }

    /// Bytes at an address. None are written through a null pointer.
    fn add(&mut self, start: u64, len: u64) {
        if start != 0 && len != 0 {
            (self.found)(start, len);
        }
    }

    /// Reads what tells of further writes. Where that fails, so does the call.
    fn read<T: Plain>(&self, address: u64) -> Option<T> {
        self.memory.read(address).ok()
    }

    fn sized(&mut self, start: u64, len: u64) {
        if let Some(size) = self.read::<u32>(len) {
            self.add(start, size.into());
            self.add(len, size::INT);
        }
    }

    fn vector(&mut self, vector: u64, count: u64) {
        for [start, len] in buffers(self.memory, vector, count) {
            self.add(start, len);
        }
    }
}

/// The elements of an array of `struct iovec`: start and length. It ends early where it can't be read.
pub fn buffers(memory: &Memory, vector: u64, count: u64) -> impl Iterator<Item = [u64; 2]> {
    const IOVEC: u64 = 16;
    let known = if count <= MOST_BUFFERS { count } else { 0 };
    (0..known).map_while(move |n| memory.read(vector.wrapping_add(n * IOVEC)).ok())
}

/// The length of all buffers of an array of `struct iovec` together.
pub fn vector_len(memory: &Memory, vector: u64, count: u64) -> u64 {
    buffers(memory, vector, count).fold(0, |sum, [_, len]| sum.saturating_add(len))
}

/// Opens the watched pages that a call may write to.
#[inline]
pub fn open(guest: &Guest, row: &Row, args: &Args) {
    if !row.writes.is_empty() && guest.memory.is_watching() {
        open_found(&guest.memory, row.writes, args);
    }
}

#[cold]
fn open_found(memory: &Memory, writes: &[Write], args: &Args) {
    Call::new(memory, args, &mut |start, len| memory.open(start, len)).find(writes);
}

#[cfg(test)]
#[path = "writes/tests.rs"]
mod tests;

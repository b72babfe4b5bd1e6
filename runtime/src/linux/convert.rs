//! Layouts and constants that differ between x86-64 and AArch64, as pure conversions (compiled and tested on both).
//!
//! AArch64 uses the kernel's asm-generic layouts; x86-64 its own (arch/x86/include/uapi/asm).

use crate::memory::Plain;

/// Bits of open(2)'s flags that differ: (x86-64, AArch64). arch/arm64/include/uapi/asm/fcntl.h against
/// asm-generic/fcntl.h.
const OPEN_FLAGS: [(u64, u64); 4] = [
    (0o040000, 0o200000), // O_DIRECT
    (0o100000, 0o400000), // O_LARGEFILE
    (0o200000, 0o040000), // O_DIRECTORY
    (0o400000, 0o100000), // O_NOFOLLOW
];

fn map_bits(flags: u64, pairs: impl Iterator<Item = (u64, u64)>) -> u64 {
    let (mut from_all, mut result) = (0, 0);
    for (from, to) in pairs {
        from_all |= from;
        if flags & from != 0 {
            result |= to;
        }
    }
    result | (flags & !from_all)
}

/// Open flags of an x86-64 program, as AArch64 has them.
pub fn open_flags_to_aarch64(flags: u64) -> u64 {
    map_bits(flags, OPEN_FLAGS.into_iter())
}

/// The reverse.
pub fn open_flags_from_aarch64(flags: u64) -> u64 {
    map_bits(flags, OPEN_FLAGS.into_iter().map(|(x86, arm)| (arm, x86)))
}

/// The guest's open flags as the host's.
pub fn open_flags_to_host(flags: u64) -> u64 {
    if cfg!(target_arch = "aarch64") { open_flags_to_aarch64(flags) } else { flags }
}

/// The host's open flags as the guest's.
pub fn open_flags_from_host(flags: u64) -> u64 {
    if cfg!(target_arch = "aarch64") { open_flags_from_aarch64(flags) } else { flags }
}

/// `struct stat` of x86-64 (arch/x86/include/uapi/asm/stat.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatX86 {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad0: u32,
    pub rdev: u64,
    pub size: i64,
    pub blksize: i64,
    pub blocks: i64,
    pub atime: [i64; 2],
    pub mtime: [i64; 2],
    pub ctime: [i64; 2],
    pub unused: [i64; 3],
}

/// `struct stat` of AArch64 (include/uapi/asm-generic/stat.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatGeneric {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub pad1: u64,
    pub size: i64,
    pub blksize: i32,
    pub pad2: i32,
    pub blocks: i64,
    pub atime: [i64; 2],
    pub mtime: [i64; 2],
    pub ctime: [i64; 2],
    pub unused: [u32; 2],
}

impl From<&StatGeneric> for StatX86 {
    fn from(s: &StatGeneric) -> Self {
        Self {
            dev: s.dev,
            ino: s.ino,
            nlink: u64::from(s.nlink),
            mode: s.mode,
            uid: s.uid,
            gid: s.gid,
            pad0: 0,
            rdev: s.rdev,
            size: s.size,
            blksize: i64::from(s.blksize),
            blocks: s.blocks,
            atime: s.atime,
            mtime: s.mtime,
            ctime: s.ctime,
            unused: [0; 3],
        }
    }
}

// SAFETY: integers only, no implicit padding: sizes are asserted in the tests.
unsafe impl Plain for StatX86 {}
// SAFETY: as above.
unsafe impl Plain for StatGeneric {}

/// `struct epoll_event` of x86-64: packed, 12 bytes (include/uapi/linux/eventpoll.h, EPOLL_PACKED).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpollEventX86 {
    pub events: u32,
    pub data: u64,
}

/// `struct epoll_event` everywhere else: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpollEventGeneric {
    pub events: u32,
    pub pad: u32,
    pub data: u64,
}

impl From<&EpollEventGeneric> for EpollEventX86 {
    fn from(e: &EpollEventGeneric) -> Self {
        Self { events: e.events, data: e.data }
    }
}

impl From<&EpollEventX86> for EpollEventGeneric {
    fn from(e: &EpollEventX86) -> Self {
        Self { events: e.events, pad: 0, data: e.data }
    }
}

// SAFETY: integers only, packed.
unsafe impl Plain for EpollEventX86 {}
// SAFETY: integers only, the padding is a field.
unsafe impl Plain for EpollEventGeneric {}

/// `struct semid64_ds` of x86-64 (arch/x86/include/uapi/asm/sembuf.h); `perm` is `struct ipc64_perm`, the same on both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SemidX86 {
    pub perm: [u64; 6],
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused3: u64,
    pub unused4: u64,
}

/// `struct semid64_ds` of AArch64 (include/uapi/asm-generic/sembuf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SemidGeneric {
    pub perm: [u64; 6],
    pub otime: i64,
    pub ctime: i64,
    pub nsems: u64,
    pub unused3: u64,
    pub unused4: u64,
}

impl From<&SemidGeneric> for SemidX86 {
    fn from(s: &SemidGeneric) -> Self {
        Self { perm: s.perm, otime: s.otime, ctime: s.ctime, nsems: s.nsems, ..Self::default() }
    }
}

impl From<&SemidX86> for SemidGeneric {
    fn from(s: &SemidX86) -> Self {
        Self { perm: s.perm, otime: s.otime, ctime: s.ctime, nsems: s.nsems, ..Self::default() }
    }
}

// SAFETY: 64-bit integers only.
unsafe impl Plain for SemidX86 {}
// SAFETY: as above.
unsafe impl Plain for SemidGeneric {}

/// `struct timespec`, the same on both hosts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

/// `struct timeval`, the same on both hosts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

// SAFETY: 64-bit integers only.
unsafe impl Plain for Timespec {}
// SAFETY: as above.
unsafe impl Plain for Timeval {}

/// Repacks a buffer of `struct linux_dirent64` records as `struct linux_dirent` ones (getdents(2)), in place: those are
/// never longer: the type moves from byte 18 to the record's last byte, the name from 19 to 18.
/// Returns false if a record is damaged.
pub fn dirents_from_dirents64(buffer: &mut [u8]) -> bool {
    const HEAD: usize = 19;
    let mut at = 0;
    while at < buffer.len() {
        let Some(length) = buffer.get(at + 16..at + 18) else { return false };
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        if length <= HEAD || at + length > buffer.len() {
            return false;
        }
        let record = &mut buffer[at..at + length];
        let kind = record[18];
        record.copy_within(HEAD.., HEAD - 1);
        record[length - 1] = kind;
        at += length;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_there_and_back() {
        for bit in 0..32 {
            let flags = 1u64 << bit;
            assert_eq!(open_flags_from_aarch64(open_flags_to_aarch64(flags)), flags);
        }
        // O_WRONLY|O_CREAT|O_CLOEXEC is the same; O_TMPFILE contains O_DIRECTORY.
        assert_eq!(open_flags_to_aarch64(0o2000101), 0o2000101);
        assert_eq!(open_flags_to_aarch64(0o20200000), 0o20040000);
    }

    #[test]
    fn dirents_are_repacked() {
        let mut buffer = Vec::new();
        for (name, kind) in [(&b"a\0\0\0\0"[..], 4u8), (&b"file\0"[..], 8)] {
            let mut record = vec![1u8; 16];
            record.extend_from_slice(&24u16.to_ne_bytes());
            record.push(kind);
            record.extend_from_slice(name);
            assert_eq!(record.len(), 24);
            buffer.extend(record);
        }
        assert!(dirents_from_dirents64(&mut buffer));
        assert_eq!(&buffer[18..20], b"a\0");
        assert_eq!(buffer[23], 4);
        assert_eq!(&buffer[42..47], b"file\0");
        assert_eq!(buffer[47], 8);
        assert!(!dirents_from_dirents64(&mut buffer[..20]));
    }
}

//! One mapping of the guest, and what the host's own map says.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::Arc;

/// Where a mapping's contents come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    Anonymous,
    /// A special mapping, named as in /proc/self/maps: `[stack]`, `[heap]`.
    Named(&'static str),
    File {
        path: Arc<Path>,
        /// Offset of the mapping's first byte.
        offset: u64,
        device: u64,
        inode: u64,
    },
}

impl Backing {
    /// What a descriptor that is being mapped stands for.
    pub fn of_descriptor(fd: i32, offset: u64) -> Self {
        let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the structure is valid for the result, which is only read if the call succeeded.
        let (device, inode) = unsafe {
            if libc::fstat(fd, stat.as_mut_ptr()) == 0 {
                let stat = stat.assume_init();
                (stat.st_dev, stat.st_ino)
            } else {
                (0, 0)
            }
        };
        let path = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        Self::File { path: path.into(), offset, device, inode }
    }

    /// The backing of a part that begins `distance` bytes further on.
    pub(super) fn at(&self, distance: u64) -> Self {
        match self {
            Self::File { path, offset, device, inode } => {
                Self::File { path: path.clone(), offset: offset + distance, device: *device, inode: *inode }
            }
            other => other.clone(),
        }
    }
}

/// A mapping of the guest: page-aligned, uniform in protection and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    /// PROT_* as the guest set them (the host's never include PROT_EXEC).
    pub prot: i32,
    pub shared: bool,
    /// MAP_GROWSDOWN: the host's kernel extends it downwards where it is touched.
    pub grows: bool,
    /// mlock(2): a mapping of its own to the calls that want one mapping.
    pub locked: bool,
    pub in_child: InChild,
    pub backing: Backing,
}

/// What madvise(2) has asked for the copy of a mapping in a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InChild {
    /// MADV_DONTFORK: there is none.
    pub missing: bool,
    /// MADV_WIPEONFORK: it is empty.
    pub wiped: bool,
}

impl InChild {
    /// What it is after this advice; `None` if that is about something else.
    pub fn advised(self, advice: i32) -> Option<Self> {
        match advice {
            libc::MADV_DONTFORK => Some(Self { missing: true, ..self }),
            libc::MADV_DOFORK => Some(Self { missing: false, ..self }),
            libc::MADV_WIPEONFORK => Some(Self { wiped: true, ..self }),
            libc::MADV_KEEPONFORK => Some(Self { wiped: false, ..self }),
            _ => None,
        }
    }
}

impl Region {
    /// Whether it counts against RLIMIT_DATA (include/linux/mm.h, is_data_mapping).
    pub(super) fn is_data(&self) -> bool {
        self.prot & libc::PROT_WRITE != 0 && !self.shared && !self.grows
    }

    pub(super) fn part(&self, start: u64, end: u64) -> Self {
        Self { start, end, backing: self.backing.at(start - self.start), ..self.clone() }
    }

    /// Whether `next` begins where this ends and is the same kind of mapping, so that the two are one.
    pub(super) fn continues_into(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.shared == next.shared
            && !self.grows
            && !next.grows
            && self.locked == next.locked
            && self.in_child == next.in_child
            // Shared anonymous mappings are distinct objects even side by side.
            && !(self.shared && self.backing == Backing::Anonymous)
            && self.backing.at(self.end - self.start) == next.backing
    }
}

/// The host's mappings of this process with their names, ascending.
pub(super) fn host_mappings() -> Vec<(Range<u64>, String)> {
    let Ok(text) = fs::read("/proc/self/maps") else {
        return Vec::new();
    };
    text.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<(Range<u64>, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let name = words
        .nth(4)
        .map_or("anonymous memory", |name| Path::new(name).file_name().and_then(|n| n.to_str()).unwrap_or(name));
    Some((start..end, name.to_owned()))
}

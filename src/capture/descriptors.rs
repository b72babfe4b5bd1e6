//! Open descriptors: what each refers to, where it stands, and whether it can be carried.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::stat::{major, minor};
use nix::unistd::Pid;
use xlate_abi::image::notes::{Descriptor, DescriptorKind, Descriptors, Name};

use super::error::CaptureError;
use super::facts::Facts;
use super::sys;

/// O_CLOEXEC of x86-64, which fdinfo shows among the flags.
const O_CLOEXEC: u32 = 0o2000000;

/// All open descriptors, and a warning for each that can't be carried.
pub fn read(facts: &Facts) -> Result<(Descriptors, Vec<String>), CaptureError> {
    let dir = format!("/proc/{}/fd", facts.pid);
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| CaptureError::Read { pid: facts.pid, what, error }
    };
    let mut numbers = std::fs::read_dir(&dir)
        .map_err(failed(&dir))?
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().parse::<i32>().ok()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed(&dir))?;
    numbers.sort_unstable();
    let mut open = Vec::new();
    for number in numbers.into_iter().flatten() {
        let what = format!("descriptor {number}");
        open.push(read_one(facts.pid, number).map_err(failed(&what))?);
    }
    find_shared(facts.pid, &mut open);
    let warnings = open.iter().filter_map(warning).collect();
    Ok((Descriptors { open }, warnings))
}

fn warning(d: &Descriptor) -> Option<String> {
    let what = format!("descriptor {} ({})", d.number, d.path.text());
    match d.kind {
        kind if kind.is_carried() => None,
        _ if d.number <= 2 => Some(format!("{what} isn't carried: a resumed process takes the one it is started with")),
        _ => Some(format!("{what} isn't carried: a resumed process finds it closed")),
    }
}

fn read_one(pid: i32, number: i32) -> io::Result<Descriptor> {
    let link = format!("/proc/{pid}/fd/{number}");
    let path = std::fs::read_link(&link)?;
    // Through the link to the open file itself, whatever its name is now.
    let metadata = std::fs::metadata(&link)?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let field = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim())
    };
    let damaged = || io::Error::other(format!("fdinfo without position or flags: {info:?}"));
    let offset = field("pos:").and_then(|p| p.parse().ok()).ok_or_else(damaged)?;
    let flags = field("flags:").and_then(|f| u32::from_str_radix(f, 8).ok()).ok_or_else(damaged)?;
    Ok(Descriptor {
        number,
        kind: kind(&metadata),
        path: Name::from(path.as_os_str().as_bytes()),
        offset,
        flags: flags & !O_CLOEXEC,
        close_on_exec: flags & O_CLOEXEC != 0,
        size: if metadata.is_file() { metadata.len() } else { 0 },
        same_as: None,
    })
}

fn kind(metadata: &Metadata) -> DescriptorKind {
    let t = metadata.file_type();
    let named = metadata.nlink() > 0;
    if t.is_file() && named {
        DescriptorKind::Regular
    } else if t.is_dir() && named {
        DescriptorKind::Directory
    } else if t.is_fifo() {
        DescriptorKind::Pipe
    } else if t.is_socket() {
        DescriptorKind::Socket
    } else if t.is_char_device() {
        device(major(metadata.rdev()), minor(metadata.rdev()))
    } else {
        DescriptorKind::Other
    }
}

/// Character devices by number (Linux, `Documentation/admin-guide/devices.txt`).
fn device(major: u64, minor: u64) -> DescriptorKind {
    match (major, minor) {
        // null, zero, full, random, urandom
        (1, 3 | 5 | 7 | 8 | 9) => DescriptorKind::Device,
        // ptmx: the other end of a terminal, with a state of its own
        (5, 2) => DescriptorKind::Other,
        // virtual consoles and serial lines, /dev/tty and /dev/console, Unix98 pseudo-terminals, USB serial
        (4 | 5 | 136..=143 | 188, _) => DescriptorKind::Terminal,
        _ => DescriptorKind::Other,
    }
}

/// Finds descriptors made by dup, which share their offset.
fn find_shared(pid: i32, open: &mut [Descriptor]) {
    let mut by_path: HashMap<Name, Vec<i32>> = HashMap::new();
    for d in open {
        let firsts = by_path.entry(d.path.clone()).or_default();
        let same = |first: &&i32| sys::share_description(Pid::from_raw(pid), **first, d.number) == Some(true);
        d.same_as = firsts.iter().find(same).copied();
        if d.same_as.is_none() {
            firsts.push(d.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        assert_eq!(device(1, 3), DescriptorKind::Device);
        assert_eq!(device(136, 0), DescriptorKind::Terminal);
        assert_eq!(device(5, 2), DescriptorKind::Other);
        assert_eq!(device(10, 200), DescriptorKind::Other);
    }

    #[test]
    fn own_descriptors_are_read() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"12345").unwrap();
        let twin = file.as_file().try_clone().unwrap();
        let pid = std::process::id() as i32;
        let mut open = [file.as_file().as_raw_fd(), twin.as_raw_fd()].map(|n| read_one(pid, n).unwrap());
        open.sort_by_key(|d| d.number);
        find_shared(pid, &mut open);
        assert_eq!((open[0].kind, open[0].offset, open[0].size), (DescriptorKind::Regular, 5, 5));
        assert!(open[0].close_on_exec);
        assert_eq!(open[1].same_as, Some(open[0].number));
    }
}

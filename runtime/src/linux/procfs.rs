//! Files of /proc that are made up, for the host's would show the translator.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use syscalls::Sysno as HostSysno;

use super::convert::open_flags_to_host;
use super::{SysResult, call_now};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::memory::{Backing, Region};

/// A file that is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcFile {
    Auxv,
    Cmdline,
    Cpuinfo,
    Environ,
    Maps,
    Stat,
    Status,
}

impl ProcFile {
    /// The file of a process's folder with this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"auxv" => Self::Auxv,
            b"cmdline" => Self::Cmdline,
            b"environ" => Self::Environ,
            b"maps" => Self::Maps,
            b"stat" => Self::Stat,
            b"status" => Self::Status,
            _ => return None,
        })
    }

    /// What it says now.
    fn contents(self, guest: &Guest) -> Result<Vec<u8>, Errno> {
        let host_text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
        let pids = guest.kernel.pids;
        Ok(match self {
            Self::Auxv => guest
                .kernel
                .program
                .auxv
                .iter()
                .flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()])
                .flatten()
                .collect(),
            Self::Cmdline => terminated(&guest.kernel.program.args),
            Self::Environ => terminated(&guest.kernel.program.env),
            Self::Maps => guest.memory.regions().map(maps_line).collect::<String>().into_bytes(),
            Self::Stat => renumber_stat(&host_text("stat")?, pids.guest).into_bytes(),
            Self::Status => renumber_status(&host_text("status")?, pids.guest).into_bytes(),
            Self::Cpuinfo => super::cpuinfo::text().into_bytes(),
        })
    }
}

/// Strings with their terminating zeros, one after the other.
fn terminated(strings: &[std::ffi::OsString]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend_from_slice(string.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// A line of /proc/self/maps (fs/proc/task_mmu.c, show_map_vma): the name begins in column 74.
fn maps_line(region: &Region) -> String {
    let flag = |bit, letter| if region.prot & bit != 0 { letter } else { '-' };
    let (offset, device, inode) = match &region.backing {
        Backing::File { offset, device, inode, .. } => (*offset, *device, *inode),
        Backing::Anonymous | Backing::Named(_) => (0, 0, 0),
    };
    let mut line = format!(
        "{:08x}-{:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {inode} ",
        region.start,
        region.end,
        flag(libc::PROT_READ, 'r'),
        flag(libc::PROT_WRITE, 'w'),
        flag(libc::PROT_EXEC, 'x'),
        if region.shared { 's' } else { 'p' },
        libc::major(device),
        libc::minor(device),
    );
    let name = match &region.backing {
        Backing::File { path, .. } => path.to_string_lossy(),
        Backing::Named(name) => (*name).into(),
        Backing::Anonymous => "".into(),
    };
    if !name.is_empty() {
        // Infallible: writing to a string.
        let _ = write!(line, "{:width$}{name}", "", width = 73_usize.saturating_sub(line.len()));
    }
    line.push('\n');
    line
}

/// /proc/self/stat with the number the guest has.
fn renumber_stat(text: &str, pid: i32) -> String {
    match text.split_once(' ') {
        Some((_, rest)) => format!("{pid} {rest}"),
        None => text.to_owned(),
    }
}

/// /proc/self/status with the number the guest has.
fn renumber_status(text: &str, pid: i32) -> String {
    text.lines()
        .map(|line| match line.split_once(":\t") {
            Some((key @ ("Tgid" | "Pid"), _)) => format!("{key}:\t{pid}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// Opens a made-up file: its contents as they are now, read-only.
pub fn open(guest: &Guest, file: ProcFile, flags: u64) -> SysResult {
    if flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64 {
        return Err(Errno(libc::EACCES));
    }
    let contents = file.contents(guest)?;
    let memory = call_now(HostSysno::memfd_create, [c"proc".as_ptr() as u64, libc::MFD_CLOEXEC.into(), 0, 0, 0, 0])?;
    let opened = fill_and_reopen(memory, &contents, flags);
    call_now(HostSysno::close, [memory, 0, 0, 0, 0, 0])?;
    opened
}

fn fill_and_reopen(memory: u64, contents: &[u8], flags: u64) -> SysResult {
    let mut done = 0;
    while done < contents.len() {
        let rest = &contents[done..];
        let place = rest.as_ptr() as u64;
        done += call_now(HostSysno::write, [memory, place, rest.len() as u64, 0, 0, 0])? as usize;
    }
    call_now(HostSysno::fchmod, [memory, 0o444, 0, 0, 0, 0])?;
    let name = format!("/proc/self/fd/{memory}\0");
    let keep = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
    let flags = open_flags_to_host(flags) & keep;
    call_now(HostSysno::openat, [super::paths::AT_FDCWD, name.as_ptr() as u64, flags, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_maps_line_looks_like_the_kernels() {
        let mut region = Region {
            start: 0x5555_5555_4000,
            end: 0x5555_5555_6000,
            prot: libc::PROT_READ | libc::PROT_EXEC,
            shared: false,
            backing: Backing::File {
                path: Path::new("/usr/bin/cat").into(),
                offset: 0x2000,
                device: libc::makedev(0xfe, 1),
                inode: 1234,
            },
        };
        assert_eq!(
            maps_line(&region),
            "555555554000-555555556000 r-xp 00002000 fe:01 1234                       /usr/bin/cat\n"
        );
        region.backing = Backing::Anonymous;
        region.prot = 0;
        assert_eq!(maps_line(&region), "555555554000-555555556000 ---p 00000000 00:00 0 \n");
    }

    #[test]
    fn numbers_are_the_guests() {
        assert_eq!(renumber_stat("7 (a b) S 1", 100), "100 (a b) S 1");
        assert_eq!(
            renumber_status("Name:\tx\nTgid:\t7\nPid:\t7\nPPid:\t7\n", 100),
            "Name:\tx\nTgid:\t100\nPid:\t100\nPPid:\t7\n"
        );
    }
}

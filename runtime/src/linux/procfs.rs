//! Files of /proc that are made up, for the host's would show the translator.

use std::fmt::Write;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use syscalls::Sysno as HostSysno;

use super::convert::open_flags_to_host;
use super::descriptors::Own;
use super::kernel::Strings;
use super::{SysResult, call_now};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::memory::{Backing, Limit, Limits, Memory, Region};

/// A file that is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcFile {
    Auxv,
    Cmdline,
    Cpuinfo,
    Environ,
    Limits,
    Maps,
    Personality,
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
            b"limits" => Self::Limits,
            b"maps" => Self::Maps,
            b"personality" => Self::Personality,
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
            Self::Cmdline => match &guest.kernel.program.strings {
                Some(strings) => command_line(&guest.memory, strings),
                None => terminated(&guest.kernel.program.args),
            },
            Self::Environ => match &guest.kernel.program.strings {
                Some(strings) => bytes_of(&guest.memory, strings.environment.clone()),
                None => terminated(&guest.kernel.program.env),
            },
            Self::Limits => own_limits(&host_text("limits")?, &guest.memory.limits()).into_bytes(),
            Self::Maps => {
                let mut text: String = guest.memory.current_regions().iter().map(maps_line).collect();
                text.push_str(super::vsyscall::MAPS_LINE);
                text.into_bytes()
            }
            Self::Personality => format!("{:08x}\n", guest.kernel.personality()).into_bytes(),
            Self::Stat => renumber_stat(&host_text("stat")?, pids.guest).into_bytes(),
            Self::Status => own_status(&host_text("status")?, guest).into_bytes(),
            Self::Cpuinfo => super::cpuinfo::text(&guest.processor).into_bytes(),
        })
    }
}

/// What can be read of a range.
fn bytes_of(memory: &Memory, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let read = memory.read_some(range.start, &mut bytes);
    bytes.truncate(read);
    bytes
}

/// The arguments as they are now (fs/proc/base.c, get_mm_cmdline): where the zero at their end was overwritten, they are a
/// title, which ends at its first zero and may go on in the environment.
fn command_line(memory: &Memory, strings: &Strings) -> Vec<u8> {
    let arguments = bytes_of(memory, strings.arguments.clone());
    match arguments.last() {
        None | Some(0) => arguments,
        Some(_) => {
            let mut title = bytes_of(memory, strings.arguments.start..strings.environment.end);
            let end = title.iter().position(|byte| *byte == 0).map_or(title.len(), |zero| zero + 1);
            title.truncate(end);
            title
        }
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

/// /proc/self/status with what the guest has otherwise than the host's process.
fn own_status(text: &str, guest: &Guest) -> String {
    let pid = guest.kernel.pids.guest.to_string();
    let [blocked, ignored, caught] = guest.signals.sets().map(|set| format!("{set:016x}"));
    let [all, data, stack] = guest.memory.sizes().map(|size| format!("{:8} kB", size >> 10));
    replace_values(text, |key| {
        Some(match key {
            "Tgid" | "Pid" => &pid,
            "SigBlk" => &blocked,
            "SigIgn" => &ignored,
            "SigCgt" => &caught,
            "VmPeak" | "VmSize" => &all,
            "VmData" => &data,
            "VmStk" => &stack,
            _ => return None,
        })
    })
}

/// Lines of `key:<tab>value` with some of the values replaced.
fn replace_values<'a>(text: &str, value: impl Fn(&str) -> Option<&'a String>) -> String {
    text.lines()
        .map(|line| match line.split_once(":\t").and_then(|(key, _)| Some((key, value(key)?))) {
            Some((key, value)) => format!("{key}:\t{value}\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

/// /proc/self/limits with the limits that the guest's memory keeps (fs/proc/base.c, proc_pid_limits).
fn own_limits(text: &str, limits: &Limits) -> String {
    let number = |value: u64| if value == libc::RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() };
    let line = |name: &str, limit: Limit| {
        format!("{name:25} {:20} {:20} {:10}\n", number(limit.soft), number(limit.hard), "bytes")
    };
    text.lines()
        .map(|old| match old {
            _ if old.starts_with("Max address space") => line("Max address space", limits.space),
            _ if old.starts_with("Max data size") => line("Max data size", limits.data),
            _ => format!("{old}\n"),
        })
        .collect()
}

/// Opens a made-up file: its contents as they are now, read-only.
pub fn open(guest: &Guest, file: ProcFile, flags: u64) -> SysResult {
    if flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64 {
        return Err(Errno(libc::EACCES));
    }
    let contents = file.contents(guest)?;
    let kind = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
    let memory = call_now(HostSysno::memfd_create, [c"proc".as_ptr() as u64, kind, 0, 0, 0, 0])?;
    // SAFETY: made just now; nobody else knows it.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(memory as RawFd) });
    memory.write_all(&contents)?;
    call_now(HostSysno::fchmod, [memory.as_raw_fd() as u64, 0o444, 0, 0, 0, 0])?;
    let keep = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
    let flags = open_flags_to_host(flags) & keep;
    // Moved away, so that the guest gets the number that is its next.
    match Own::<File>::duplicate(memory.as_raw_fd()) {
        Ok(moved) => {
            drop(memory);
            reopen(moved.as_raw_fd(), flags)
        }
        Err(_) => seal(memory, flags),
    }
}

/// The file once more, read-only.
fn reopen(memory: RawFd, flags: u64) -> SysResult {
    let name = format!("/proc/self/fd/{memory}\0");
    call_now(HostSysno::openat, [super::paths::AT_FDCWD, name.as_ptr() as u64, flags, 0, 0, 0])
}

/// The guest has no other number: it gets this descriptor, through which nothing can be written any more.
fn seal(mut memory: File, flags: u64) -> SysResult {
    memory.rewind()?;
    let fd = memory.as_raw_fd() as u64;
    let seals = (libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL) as u64;
    call_now(HostSysno::fcntl, [fd, libc::F_ADD_SEALS as u64, seals, 0, 0, 0])?;
    let descriptor = if flags & libc::O_CLOEXEC as u64 != 0 { libc::FD_CLOEXEC } else { 0 };
    call_now(HostSysno::fcntl, [fd, libc::F_SETFD as u64, descriptor as u64, 0, 0, 0])?;
    Ok(memory.into_raw_fd() as u64)
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
            grows: false,
            locked: false,
            in_child: Default::default(),
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
        let pid = "100".to_owned();
        let status = replace_values("Name:\tx\nTgid:\t7\nPPid:\t7\n", |key| (key == "Tgid").then_some(&pid));
        assert_eq!(status, "Name:\tx\nTgid:\t100\nPPid:\t7\n");
    }

    #[test]
    fn limits_are_the_guests() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             unlimited            unlimited            bytes     \n\
                    Max address space         1                    unlimited            bytes     \n";
        let limits = Limits { space: Limit { soft: 512, hard: 1024 }, data: Limit::NONE };
        let expected = "Limit                     Soft Limit           Hard Limit           Units     \n\
                        Max data size             unlimited            unlimited            bytes     \n\
                        Max address space         512                  1024                 bytes     \n";
        assert_eq!(own_limits(text, &limits), expected);
    }
}

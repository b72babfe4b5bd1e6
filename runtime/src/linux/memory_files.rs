//! /proc/PID/mem: files whose positions are the addresses of a process. A write to the guest's own is a write to its
//! memory, and the kernel makes it whatever the pages' protection is (FOLL_FORCE): code that the guest can't write to itself,
//! and that isn't watched for that reason, changes this way.
//!
//! Such a file is recognised by what it is, not by the name it was opened with, because descriptors are also inherited,
//! received and reopened. To look at the file takes a call of its own. It is made only where the position is one that the
//! guest has mapped, or beyond what most files have. Not recognised is a write to another process's memory at a lower
//! address where this process has nothing mapped.

use syscalls::Sysno as HostSysno;

use super::{Args, SysResult, call, call_now, foreign, writes};
use crate::guest::Guest;
use crate::signal::Notice;

/// Nothing is mapped below (the default of vm.mmap_min_addr).
const LOWEST_ADDRESS: u64 = 0x1_0000;
/// Positions from here on are rare enough in other files.
const LARGE: u64 = 1 << 44;

/// Position that stands for the file's own (pwritev2(2)).
const CURRENT: u64 = u64::MAX;

/// A process's memory that a descriptor gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemoryOf {
    pid: i32,
}

pub(super) fn lseek(guest: &mut Guest, args: &Args) -> SysResult {
    let position = call(guest, HostSysno::lseek, args.0)?;
    if (position >= LARGE || may_be_address(guest, position)) && memory_of(args.int(0)).is_some() {
        guest.kernel.memory_files = true;
    }
    Ok(position)
}

pub(super) fn write(guest: &mut Guest, args: &Args) -> SysResult {
    if guest.kernel.memory_files {
        return write_to(guest, HostSysno::write, args, CURRENT, args.0[2]);
    }
    call(guest, HostSysno::write, args.0)
}

pub(super) fn writev(guest: &mut Guest, args: &Args) -> SysResult {
    if guest.kernel.memory_files {
        let len = writes::vector_len(&guest.memory, args.0[1], args.0[2]);
        return write_to(guest, HostSysno::writev, args, CURRENT, len);
    }
    call(guest, HostSysno::writev, args.0)
}

pub(super) fn pwrite64(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, _, len, position, ..] = args.0;
    if may_be_address(guest, position) {
        return write_to(guest, HostSysno::pwrite64, args, position, len);
    }
    call(guest, HostSysno::pwrite64, args.0)
}

pub(super) fn pwritev(guest: &mut Guest, args: &Args) -> SysResult {
    write_vector_at(guest, HostSysno::pwritev, args)
}

pub(super) fn pwritev2(guest: &mut Guest, args: &Args) -> SysResult {
    write_vector_at(guest, HostSysno::pwritev2, args)
}

fn write_vector_at(guest: &mut Guest, number: HostSysno, args: &Args) -> SysResult {
    let [_, vector, count, position, ..] = args.0;
    let at_own = position == CURRENT && guest.kernel.memory_files;
    if at_own || may_be_address(guest, position) {
        let len = writes::vector_len(&guest.memory, vector, count);
        return write_to(guest, number, args, position, len);
    }
    call(guest, number, args.0)
}

/// Whether a position may be an address in a process: in another one as well, at most of this one's.
fn may_be_address(guest: &Guest, position: u64) -> bool {
    position >= LARGE || (position >= LOWEST_ADDRESS && guest.memory.protection(position).is_some())
}

/// A write to a file that may be a process's memory.
fn write_to(guest: &mut Guest, number: HostSysno, args: &Args, position: u64, len: u64) -> SysResult {
    let Some(MemoryOf { pid }) = memory_of(args.int(0)) else {
        return call(guest, number, args.0);
    };
    let position = if position == CURRENT { position_of(args.int(0)) } else { Some(position) };
    if let Some(start) = position {
        // If it is another process's memory, translations are lost for nothing. But it is this one's, too, in the child
        // of a vfork.
        guest.code_changes(start, len);
    }
    let result = call(guest, number, args.0);
    if result.is_ok() && pid != guest.kernel.pids.host {
        foreign::tell(pid, Notice::Written);
    }
    result
}

fn position_of(fd: i32) -> Option<u64> {
    call_now(HostSysno::lseek, [fd as u64, 0, libc::SEEK_CUR as u64, 0, 0, 0]).ok()
}

/// The process whose memory a descriptor is, if it is one's.
fn memory_of(fd: i32) -> Option<MemoryOf> {
    let mut system = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the place is valid for the result.
    if unsafe { libc::fstatfs(fd, system.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded.
    if unsafe { system.assume_init() }.f_type != libc::PROC_SUPER_MAGIC {
        return None;
    }
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    process_in(name.to_str()?)
}

/// The process in the name that a memory file has: `/proc/PID/mem` or `/proc/PID/task/TID/mem`.
fn process_in(name: &str) -> Option<MemoryOf> {
    let parts: Vec<&str> = name.strip_suffix("/mem")?.rsplit('/').take(3).collect();
    let pid = match parts[..] {
        [_, "task", pid] => pid,
        [pid, ..] => pid,
        [] => return None,
    };
    Some(MemoryOf { pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn memory_is_told_from_other_files() {
        let open = |path: &str| std::fs::File::open(path).unwrap();
        let memory = open("/proc/thread-self/mem");
        let own = Some(MemoryOf { pid: std::process::id() as i32 });
        assert_eq!(memory_of(memory.as_raw_fd()), own);
        assert_eq!(memory_of(memory.try_clone().unwrap().as_raw_fd()), own);
        assert_eq!(memory_of(open(&format!("/proc/self/fd/{}", memory.as_raw_fd())).as_raw_fd()), own);
        assert_eq!(memory_of(open("/proc/self/maps").as_raw_fd()), None);
        assert_eq!(memory_of(open("/dev/null").as_raw_fd()), None);
        assert_eq!(memory_of(-1), None);
    }

    #[test]
    fn names_of_memory_files() {
        let of = |name| process_in(name).map(|memory| memory.pid);
        assert_eq!(of("/proc/12/mem"), Some(12));
        assert_eq!(of("/other/proc/12/task/13/mem"), Some(12));
        assert_eq!(of("/proc/12/maps"), None);
        assert_eq!(of("/mem"), None);
    }
}

//! /proc/PID/mem: files whose positions are the addresses of a process. A write to the guest's own is a write to its
//! memory, and the kernel makes it whatever the pages' protection is (FOLL_FORCE): code that the guest can't write to itself,
//! and that isn't watched for that reason, changes this way.
//!
//! Such a file is recognised by what it is, not by the name it was opened with, because descriptors are also inherited,
//! received and reopened. To look at the file takes a call of its own. It is made only where the position is an address
//! that the guest has mapped, which is rare in other files.

use std::os::unix::ffi::OsStrExt;

use syscalls::Sysno as HostSysno;

use super::{Args, SysResult, call, call_now, writes};
use crate::guest::Guest;

/// Nothing is mapped below (the default of vm.mmap_min_addr).
const LOWEST_ADDRESS: u64 = 0x1_0000;
/// Positions from here on are rare enough in other files. The guest may map the address later.
const LARGE: u64 = 1 << 32;

/// Position that stands for the file's own (pwritev2(2)).
const CURRENT: u64 = u64::MAX;

pub(super) fn lseek(guest: &mut Guest, args: &Args) -> SysResult {
    let position = call(guest, HostSysno::lseek, args.0)?;
    if (position >= LARGE || may_be_address(guest, position)) && is_memory(args.int(0)) {
        guest.kernel.memory_files = true;
    }
    Ok(position)
}

pub(super) fn write(guest: &mut Guest, args: &Args) -> SysResult {
    if guest.kernel.memory_files {
        before_write(guest, args.int(0), CURRENT, args.0[2]);
    }
    call(guest, HostSysno::write, args.0)
}

pub(super) fn writev(guest: &mut Guest, args: &Args) -> SysResult {
    if guest.kernel.memory_files {
        let len = writes::vector_len(&guest.memory, args.0[1], args.0[2]);
        before_write(guest, args.int(0), CURRENT, len);
    }
    call(guest, HostSysno::writev, args.0)
}

pub(super) fn pwrite64(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, _, len, position, ..] = args.0;
    if may_be_address(guest, position) {
        before_write(guest, args.int(0), position, len);
    }
    call(guest, HostSysno::pwrite64, args.0)
}

pub(super) fn pwritev(guest: &mut Guest, args: &Args) -> SysResult {
    before_pwritev(guest, args);
    call(guest, HostSysno::pwritev, args.0)
}

pub(super) fn pwritev2(guest: &mut Guest, args: &Args) -> SysResult {
    before_pwritev(guest, args);
    call(guest, HostSysno::pwritev2, args.0)
}

fn before_pwritev(guest: &mut Guest, args: &Args) {
    let [_, vector, count, position, ..] = args.0;
    let at_own = position == CURRENT && guest.kernel.memory_files;
    if at_own || may_be_address(guest, position) {
        let len = writes::vector_len(&guest.memory, vector, count);
        before_write(guest, args.int(0), position, len);
    }
}

/// A write fails at once where nothing is mapped.
fn may_be_address(guest: &Guest, position: u64) -> bool {
    position >= LOWEST_ADDRESS && guest.memory.protection(position).is_some()
}

/// Before a write to a file: where it is a process's memory, code changes. It is taken for the guest's own memory. If it is
/// another's, translations are lost for nothing.
fn before_write(guest: &mut Guest, fd: i32, position: u64, len: u64) {
    if !is_memory(fd) {
        return;
    }
    let position = if position == CURRENT { position_of(fd) } else { Some(position) };
    if let Some(start) = position {
        guest.code_changes(start, len);
    }
}

fn position_of(fd: i32) -> Option<u64> {
    call_now(HostSysno::lseek, [fd as u64, 0, libc::SEEK_CUR as u64, 0, 0, 0]).ok()
}

/// Whether a descriptor is a process's memory.
fn is_memory(fd: i32) -> bool {
    let mut system = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the place is valid for the result, which is looked at only if the call succeeded.
    let in_proc =
        unsafe { libc::fstatfs(fd, system.as_mut_ptr()) == 0 && system.assume_init().f_type == libc::PROC_SUPER_MAGIC };
    let name = |fd| std::fs::read_link(format!("/proc/self/fd/{fd}"));
    in_proc && name(fd).is_ok_and(|name| name.as_os_str().as_bytes().ends_with(b"/mem"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn memory_is_told_from_other_files() {
        let open = |path: &str| std::fs::File::open(path).unwrap();
        let memory = open("/proc/thread-self/mem");
        assert!(is_memory(memory.as_raw_fd()));
        assert!(is_memory(memory.try_clone().unwrap().as_raw_fd()));
        assert!(is_memory(open(&format!("/proc/self/fd/{}", memory.as_raw_fd())).as_raw_fd()));
        assert!(!is_memory(open("/proc/self/maps").as_raw_fd()));
        assert!(!is_memory(open("/dev/null").as_raw_fd()));
        assert!(!is_memory(-1));
    }
}

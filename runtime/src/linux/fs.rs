//! Files by name: calls AArch64 has only in their `*at` forms, layouts of `stat`, flags of `open`, and names in
//! /proc that the guest must see differently (through [`super::paths`]).

use std::os::unix::ffi::OsStringExt;

use syscalls::Sysno as HostSysno;

use super::convert::{StatGeneric, StatX86, dirents_from_dirents64, open_flags_to_host};
use super::paths::{self, AT_FDCWD, Located, Target, locate};
use super::{Args, SysResult, busy, call, procfs};
use crate::errno::Errno;
use crate::guest::Guest;

#[cfg(target_arch = "x86_64")]
const FSTATAT: HostSysno = HostSysno::newfstatat;
#[cfg(target_arch = "aarch64")]
const FSTATAT: HostSysno = HostSysno::fstatat;

const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
/// O_NOFOLLOW as the guest passes it.
const GUEST_O_NOFOLLOW: u64 = 0o400000;

/// A file that `look` finds has perhaps become shorter: code that was mapped behind its end is gone, from private mappings
/// as well.
fn shortened(guest: &mut Guest, look: impl FnOnce(*mut libc::stat) -> i32) {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // What can't be looked at is none of the files that are mapped: their number is never zero.
    look(stat.as_mut_ptr());
    // SAFETY: integers, which are zero where nothing was written.
    let stat = unsafe { stat.assume_init() };
    for (start, len) in guest.memory.code_of_file(stat.st_dev, stat.st_ino) {
        guest.engine.invalidate(start, len);
    }
}

fn shortened_descriptor(guest: &mut Guest, fd: u64) {
    // SAFETY: the place is valid for the result.
    shortened(guest, |stat| unsafe { libc::fstat(fd as i32, stat) });
}

pub(super) fn ftruncate(guest: &mut Guest, args: &Args) -> SysResult {
    let result = call(guest, HostSysno::ftruncate, args.0)?;
    shortened_descriptor(guest, args.0[0]);
    Ok(result)
}

pub(super) fn fallocate(guest: &mut Guest, args: &Args) -> SysResult {
    let result = call(guest, HostSysno::fallocate, args.0)?;
    shortened_descriptor(guest, args.0[0]);
    Ok(result)
}

fn open_at(guest: &mut Guest, directory: u64, path: u64, flags: u64, mode: u64) -> SysResult {
    if let Target::Generated(file, _) = paths::target(guest, directory as i32, path) {
        return procfs::open(guest, file, flags);
    }
    let at = locate(guest, directory, path, flags & GUEST_O_NOFOLLOW == 0)?;
    let host = open_flags_to_host(flags);
    if busy::opens_to_write(flags) && busy::is_executed(&at, flags & GUEST_O_NOFOLLOW == 0) {
        return Err(Errno(libc::ETXTBSY));
    }
    let fd = call(guest, HostSysno::openat, [at.directory, at.path, host, mode, 0, 0])?;
    if host & libc::O_TRUNC as u64 != 0 {
        shortened_descriptor(guest, fd);
    }
    Ok(fd)
}

pub(super) fn open(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, flags, mode, ..] = args.0;
    open_at(guest, AT_FDCWD, path, flags, mode)
}

pub(super) fn openat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, flags, mode, ..] = args.0;
    open_at(guest, directory, path, flags, mode)
}

pub(super) fn creat(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, mode, ..] = args.0;
    let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;
    open_at(guest, AT_FDCWD, path, flags, mode)
}

pub(super) fn truncate(guest: &mut Guest, args: &Args) -> SysResult {
    let at = locate(guest, AT_FDCWD, args.0[0], true)?;
    if busy::is_executed(&at, true) {
        return Err(Errno(libc::ETXTBSY));
    }
    let result = call(guest, HostSysno::truncate, [at.path, args.0[1], 0, 0, 0, 0])?;
    // SAFETY: the place is valid for the result; the kernel has just read the same path.
    shortened(guest, |stat| unsafe { libc::stat(at.path as *const libc::c_char, stat) });
    Ok(result)
}

pub(super) fn openat2(guest: &mut Guest, args: &Args) -> SysResult {
    const HOW: usize = 24;
    let [directory, path, how, size, ..] = args.0;
    if size as usize > HOW && cfg!(target_arch = "aarch64") {
        // A newer form than is known here may hold more that differs (openat2(2), "Extensibility").
        let mut rest = vec![0; (size as usize).min(4096) - HOW];
        guest.memory.read_guest(how + HOW as u64, &mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Errno(libc::E2BIG));
        }
    }
    if (size as usize) < HOW {
        return Err(Errno(libc::EINVAL));
    }
    let [flags, mode, resolve] = guest.memory.read::<[u64; 3]>(how)?;
    if resolve == 0
        && let Target::Generated(file, _) = paths::target(guest, directory as i32, path)
    {
        return procfs::open(guest, file, flags);
    }
    let follow = flags & GUEST_O_NOFOLLOW == 0;
    if busy::opens_to_write(flags) && busy::is_executed(&Located::as_given(directory, path), follow) {
        return Err(Errno(libc::ETXTBSY));
    }
    if cfg!(target_arch = "x86_64") {
        return call(guest, HostSysno::openat2, args.0);
    }
    let how = [open_flags_to_host(flags), mode, resolve];
    call(guest, HostSysno::openat2, [directory, path, how.as_ptr() as u64, HOW as u64, 0, 0])
}

pub(super) fn open_by_handle_at(guest: &mut Guest, args: &Args) -> SysResult {
    let [mount, handle, flags, ..] = args.0;
    let flags = open_flags_to_host(flags);
    call(guest, HostSysno::open_by_handle_at, [mount, handle, flags, 0, 0, 0])
}

/// Looks at a file; the host's answer goes to the guest's `buffer` in the guest's layout.
fn stat_at(guest: &Guest, directory: u64, path: u64, buffer: u64, flags: u64) -> SysResult {
    let at = locate(guest, directory, path, flags & NO_FOLLOW == 0)?;
    if cfg!(target_arch = "x86_64") {
        return call(guest, FSTATAT, [at.directory, at.path, buffer, flags, 0, 0]);
    }
    let mut stat = StatGeneric::default();
    let place = &raw mut stat as u64;
    call(guest, FSTATAT, [at.directory, at.path, place, flags, 0, 0])?;
    guest.memory.write(buffer, &StatX86::from(&stat))?;
    Ok(0)
}

pub(super) fn stat(guest: &mut Guest, args: &Args) -> SysResult {
    stat_at(guest, AT_FDCWD, args.0[0], args.0[1], 0)
}

pub(super) fn lstat(guest: &mut Guest, args: &Args) -> SysResult {
    stat_at(guest, AT_FDCWD, args.0[0], args.0[1], NO_FOLLOW)
}

pub(super) fn newfstatat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, buffer, flags, ..] = args.0;
    stat_at(guest, directory, path, buffer, flags)
}

pub(super) fn fstat(guest: &mut Guest, args: &Args) -> SysResult {
    let mut stat = StatGeneric::default();
    call(guest, HostSysno::fstat, [args.0[0], &raw mut stat as u64, 0, 0, 0, 0])?;
    guest.memory.write(args.0[1], &StatX86::from(&stat))?;
    Ok(0)
}

pub(super) fn statx(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, flags, mask, buffer, _] = args.0;
    let at = locate(guest, directory, path, flags & NO_FOLLOW == 0)?;
    call(guest, HostSysno::statx, [at.directory, at.path, flags, mask, buffer, 0])
}

pub(super) fn access(guest: &mut Guest, args: &Args) -> SysResult {
    let at = locate(guest, AT_FDCWD, args.0[0], true)?;
    call(guest, HostSysno::faccessat, [at.directory, at.path, args.0[1], 0, 0, 0])
}

pub(super) fn faccessat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, mode, ..] = args.0;
    let at = locate(guest, directory, path, true)?;
    call(guest, HostSysno::faccessat, [at.directory, at.path, mode, 0, 0, 0])
}

pub(super) fn faccessat2(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, mode, flags, ..] = args.0;
    let at = locate(guest, directory, path, flags & NO_FOLLOW == 0)?;
    call(guest, HostSysno::faccessat2, [at.directory, at.path, mode, flags, 0, 0])
}

fn read_link_at(guest: &Guest, directory: u64, path: u64, buffer: u64, size: u64) -> SysResult {
    if (size as i32) <= 0 {
        return Err(Errno(libc::EINVAL));
    }
    let text = match paths::target(guest, directory as i32, path) {
        Target::Exe(_) => guest.kernel.program.exe.shown()?.into_os_string().into_vec(),
        Target::Link(text) => text.into_bytes(),
        _ => {
            let at = locate(guest, directory, path, false)?;
            let args = [at.directory, at.path, buffer, size, 0, 0];
            return call(guest, HostSysno::readlinkat, args);
        }
    };
    // Cut short without a word, and without a terminating zero (readlink(2)).
    let text = &text[..text.len().min(size as usize)];
    guest.memory.write_guest(buffer, text)?;
    Ok(text.len() as u64)
}

pub(super) fn readlink(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, buffer, size, ..] = args.0;
    read_link_at(guest, AT_FDCWD, path, buffer, size)
}

pub(super) fn readlinkat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, buffer, size, ..] = args.0;
    read_link_at(guest, directory, path, buffer, size)
}

pub(super) fn getdents(guest: &mut Guest, args: &Args) -> SysResult {
    let [fd, buffer, size, ..] = args.0;
    let length = super::descriptors::getdents64(guest, &Args([fd, buffer, size, 0, 0, 0]))?;
    let mut records = vec![0; length as usize];
    guest.memory.read_guest(buffer, &mut records)?;
    if !dirents_from_dirents64(&mut records) {
        return Err(Errno(libc::EIO));
    }
    guest.memory.write_guest(buffer, &records)?;
    Ok(length)
}

pub(super) fn mkdir(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::mkdirat, [AT_FDCWD, args.0[0], args.0[1], 0, 0, 0])
}

pub(super) fn rmdir(guest: &mut Guest, args: &Args) -> SysResult {
    let flags = libc::AT_REMOVEDIR as u64;
    call(guest, HostSysno::unlinkat, [AT_FDCWD, args.0[0], flags, 0, 0, 0])
}

pub(super) fn mknod(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, mode, device, ..] = args.0;
    call(guest, HostSysno::mknodat, [AT_FDCWD, path, mode, device, 0, 0])
}

pub(super) fn link(guest: &mut Guest, args: &Args) -> SysResult {
    let [from, to, ..] = args.0;
    call(guest, HostSysno::linkat, [AT_FDCWD, from, AT_FDCWD, to, 0, 0])
}

pub(super) fn symlink(guest: &mut Guest, args: &Args) -> SysResult {
    let [text, path, ..] = args.0;
    call(guest, HostSysno::symlinkat, [text, AT_FDCWD, path, 0, 0, 0])
}

pub(super) fn unlink(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::unlinkat, [AT_FDCWD, args.0[0], 0, 0, 0, 0])
}

pub(super) fn rename(guest: &mut Guest, args: &Args) -> SysResult {
    let [from, to, ..] = args.0;
    // renameat2, for newer architectures lack renameat.
    call(guest, HostSysno::renameat2, [AT_FDCWD, from, AT_FDCWD, to, 0, 0])
}

pub(super) fn chmod(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::fchmodat, [AT_FDCWD, args.0[0], args.0[1], 0, 0, 0])
}

pub(super) fn chown(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, user, group, ..] = args.0;
    call(guest, HostSysno::fchownat, [AT_FDCWD, path, user, group, 0, 0])
}

pub(super) fn lchown(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, user, group, ..] = args.0;
    call(guest, HostSysno::fchownat, [AT_FDCWD, path, user, group, NO_FOLLOW, 0])
}

//! Calls that change the guest's memory map: the map itself is [`crate::memory`]'s; here arguments are taken apart
//! and translations made from the range are dropped.

use syscalls::Sysno as HostSysno;

use super::{Args, SysResult, call, writes};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::memory::MapRequest;

/// MAP_32BIT, which only x86-64 has.
const MAP_32BIT: u64 = 0x40;

pub(super) fn brk(guest: &mut Guest, args: &Args) -> SysResult {
    let old = guest.memory.brk(0);
    let new = guest.memory.brk(args.0[0]);
    if new < old {
        guest.engine.invalidate(new, old - new);
    }
    Ok(new)
}

pub(super) fn mmap(guest: &mut Guest, args: &Args) -> SysResult {
    let [addr, len, prot, flags, fd, offset] = args.0;
    let start = guest.memory.mmap(&MapRequest {
        addr,
        len,
        prot: prot as i32,
        flags: (flags & !MAP_32BIT) as i32,
        fd: fd as i32,
        offset,
        low: flags & MAP_32BIT != 0,
    })?;
    if flags & libc::MAP_FIXED as u64 != 0 {
        guest.engine.invalidate(start, len);
    }
    Ok(start)
}

pub(super) fn munmap(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    guest.memory.munmap(start, len)?;
    guest.engine.invalidate(start, len);
    Ok(0)
}

pub(super) fn mprotect(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    let result = guest.memory.mprotect(start, len, args.int(2));
    // Also after an error: what comes before a hole has been changed.
    let lowest = result.unwrap_or(start);
    guest.engine.invalidate(lowest, len.saturating_add(start - lowest));
    result.map(|_| 0)
}

/// With the default key -1 or 0 it is mprotect; no other key was ever allocated.
pub(super) fn pkey_mprotect(guest: &mut Guest, args: &Args) -> SysResult {
    match args.int(3) {
        -1 | 0 => mprotect(guest, args),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn mremap(guest: &mut Guest, args: &Args) -> SysResult {
    let [old, old_len, new_len, _, new, _] = args.0;
    let start = guest.memory.mremap(old, old_len, new_len, args.int(3), new)?;
    guest.engine.invalidate(old, old_len);
    guest.engine.invalidate(start, new_len);
    Ok(start)
}

pub(super) fn mlock(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    guest.memory.catch_up();
    let result = call(guest, HostSysno::mlock, args.0)?;
    guest.memory.note_locked(start, len, true);
    Ok(result)
}

pub(super) fn mlock2(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    guest.memory.catch_up();
    let result = call(guest, HostSysno::mlock2, args.0)?;
    guest.memory.note_locked(start, len, true);
    Ok(result)
}

pub(super) fn munlock(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    guest.memory.catch_up();
    let result = call(guest, HostSysno::munlock, args.0)?;
    guest.memory.note_locked(start, len, false);
    Ok(result)
}

/// The host's call would lock the translator's memory as well, code cache and all; so each of the guest's mappings is
/// locked by itself. What can't be (RLIMIT_MEMLOCK) fails with what mlock says of it.
pub(super) fn mlockall(guest: &mut Guest, args: &Args) -> SysResult {
    const CURRENT: i32 = libc::MCL_CURRENT;
    const FUTURE: i32 = libc::MCL_FUTURE;
    const ON_FAULT: i32 = libc::MCL_ONFAULT;
    let flags = args.int(0);
    if flags & (CURRENT | FUTURE) == 0 || flags & !(CURRENT | FUTURE | ON_FAULT) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    if flags & CURRENT != 0 {
        guest.memory.catch_up();
        let on_fault = if flags & ON_FAULT != 0 { u64::from(libc::MLOCK_ONFAULT) } else { 0 };
        let ranges: Vec<(u64, u64)> = guest.memory.regions().map(|r| (r.start, r.end - r.start)).collect();
        for (start, len) in ranges {
            match call(guest, HostSysno::mlock2, [start, len, on_fault, 0, 0, 0]) {
                // Pages that can't be brought in (without access, behind the end of a file) are no failure here.
                Ok(_) | Err(Errno(libc::EAGAIN)) => {}
                Err(Errno(libc::ENOMEM)) if guest.memory.protection(start) == Some(libc::PROT_NONE) => {}
                Err(error) => return Err(error),
            }
            guest.memory.note_locked(start, len, true);
        }
    }
    guest.memory.lock_future(flags & FUTURE != 0);
    Ok(0)
}

pub(super) fn munlockall(guest: &mut Guest, args: &Args) -> SysResult {
    guest.memory.catch_up();
    let result = call(guest, HostSysno::munlockall, args.0)?;
    guest.memory.lock_future(false);
    guest.memory.note_locked(0, crate::memory::GUEST_END, false);
    Ok(result)
}

pub(super) fn madvise(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, ..] = args.0;
    let advice = args.int(2);
    let result = if guest.memory.reaches_own(start, len) {
        advise_each(guest, args)
    } else {
        call(guest, HostSysno::madvise, args.0)
    };
    // Also after an error: what isn't a hole has been advised.
    if empties(advice) {
        guest.engine.invalidate(start, len);
    }
    if matches!(result, Ok(_) | Err(Errno(libc::ENOMEM))) {
        guest.memory.note_advice(start, len, advice);
    }
    result
}

/// madvise(2) over a range that the translator lies in, which is a hole to the guest: mapping by mapping of the guest's.
fn advise_each(guest: &mut Guest, args: &Args) -> SysResult {
    let [start, len, advice, ..] = args.0;
    let end = start.saturating_add(len);
    let ranges: Vec<(u64, u64)> = guest.memory.regions().map(|r| (r.start.max(start), r.end.min(end))).collect();
    for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
        call(guest, HostSysno::madvise, [from, to - from, advice, 0, 0, 0])?;
    }
    Err(Errno(libc::ENOMEM))
}

/// process_madvise(2): what is advised may be this process's own memory, and pages be emptied.
pub(super) fn process_madvise(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, vector, count, ..] = args.0;
    let result = call(guest, HostSysno::process_madvise, args.0);
    if empties(args.int(3)) {
        for [start, len] in writes::buffers(&guest.memory, vector, count).collect::<Vec<_>>() {
            guest.engine.invalidate(start, len);
        }
    }
    result
}

/// Whether the advice takes pages' content away.
fn empties(advice: i32) -> bool {
    /// Since Linux 6.13; `libc` has no name for it.
    const MADV_GUARD_INSTALL: i32 = 102;
    matches!(
        advice,
        libc::MADV_DONTNEED | libc::MADV_DONTNEED_LOCKED | libc::MADV_REMOVE | libc::MADV_FREE | MADV_GUARD_INSTALL
    )
}

/// The size of a System V shared memory segment.
fn segment_size(id: u64) -> Result<u64, Errno> {
    let mut description = std::mem::MaybeUninit::<libc::shmid_ds>::uninit();
    // SAFETY: the place is valid for the result, which is only looked at if the call succeeded.
    unsafe {
        if libc::shmctl(id as i32, libc::IPC_STAT, description.as_mut_ptr()) != 0 {
            return Err(Errno::last());
        }
        Ok(description.assume_init().shm_segsz as u64)
    }
}

/// Attaches over a mapping that the guest's map has placed, so that it lies where guests can reach it.
pub(super) fn shmat(guest: &mut Guest, args: &Args) -> SysResult {
    /// SHMLBA of x86-64: a page.
    const ALIGNMENT: u64 = 4096;
    let [id, wanted, ..] = args.0;
    let flags = args.int(2);
    let len = segment_size(id)?;
    let mut start = wanted;
    if flags & libc::SHM_RND != 0 {
        start &= !(ALIGNMENT - 1);
    }
    if start % ALIGNMENT != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let place = match (start, flags & libc::SHM_REMAP != 0) {
        (0, _) => 0,
        (_, true) => libc::MAP_FIXED,
        (_, false) => libc::MAP_FIXED_NOREPLACE,
    };
    let write = if flags & libc::SHM_RDONLY == 0 { libc::PROT_WRITE } else { 0 };
    let execute = if flags & libc::SHM_EXEC == 0 { 0 } else { libc::PROT_EXEC };
    let start = guest
        .memory
        .mmap(&MapRequest {
            addr: start,
            len,
            prot: libc::PROT_READ | write | execute,
            flags: libc::MAP_SHARED | libc::MAP_ANONYMOUS | place,
            fd: -1,
            ..MapRequest::default()
        })
        .map_err(|error| match Errno::from(error) {
            // What shmat says where mmap says "exists".
            Errno(libc::EEXIST) => Errno(libc::EINVAL),
            other => other,
        })?;
    let host_flags = (flags & libc::SHM_RDONLY) | libc::SHM_REMAP;
    match call(guest, HostSysno::shmat, [id, start, host_flags as u64, 0, 0, 0]) {
        Ok(at) => {
            guest.engine.invalidate(at, len);
            Ok(at)
        }
        Err(error) => {
            guest.memory.munmap(start, len)?;
            Err(error)
        }
    }
}

/// Detaches what of the segment still lies where it was attached (ipc/shm.c, ksys_shmdt): the host knows, after other mappings
/// were made over it or it was moved.
pub(super) fn shmdt(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::shmdt, args.0)?;
    for (start, len) in guest.memory.forget_unmapped(args.0[0]) {
        guest.engine.invalidate(start, len);
    }
    Ok(0)
}

//! Resource limits. Most are the host's. Those on address space and data are kept by [`crate::memory`], because the
//! translator's own memory counts against the host's; and the translator's descriptors give way to a higher limit on theirs.

use syscalls::Sysno as HostSysno;

use super::{Args, SysResult, call, descriptors};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::memory::Limit;

/// `struct rlimit64`: the soft and the hard limit.
type Pair = [u64; 2];

const NOFILE: i32 = libc::RLIMIT_NOFILE as i32;

pub(super) fn getrlimit(guest: &mut Guest, args: &Args) -> SysResult {
    let [resource, place, ..] = args.0;
    prlimit(guest, 0, resource as i32, 0, place)
}

pub(super) fn setrlimit(guest: &mut Guest, args: &Args) -> SysResult {
    let [resource, place, ..] = args.0;
    if place == 0 {
        return Err(Errno(libc::EFAULT));
    }
    prlimit(guest, 0, resource as i32, place, 0)
}

pub(super) fn prlimit64(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, resource, new, old, ..] = args.0;
    prlimit(guest, args.int(0), resource as i32, new, old)
}

/// prlimit(2). What another guest process keeps for itself shows as the host's.
fn prlimit(guest: &mut Guest, pid: i32, resource: i32, new: u64, old: u64) -> SysResult {
    let own = pid == 0 || pid == guest.kernel.pids.guest;
    let mut limits = guest.memory.limits();
    match limits.kept(resource) {
        Some(limit) if own => {
            let before = *limit;
            if new != 0 {
                let [soft, hard] = guest.memory.read::<Pair>(new)?;
                check(before, soft, hard)?;
                *limit = Limit { soft, hard };
            }
            if old != 0 {
                guest.memory.write::<Pair>(old, &[before.soft, before.hard])?;
            }
            guest.memory.set_limits(limits);
            Ok(0)
        }
        _ => {
            let host = guest.kernel.pids.to_host(pid) as u64;
            let result = call(guest, HostSysno::prlimit64, [host, resource as u64, new, old, 0, 0])?;
            if own && resource == NOFILE && new != 0 {
                descriptors::keep_apart();
            }
            Ok(result)
        }
    }
}

/// What the kernel refuses (kernel/sys.c, do_prlimit).
fn check(before: Limit, soft: u64, hard: u64) -> Result<(), Errno> {
    if soft > hard {
        return Err(Errno(libc::EINVAL));
    }
    if hard > before.hard && !may_raise() {
        return Err(Errno(libc::EPERM));
    }
    Ok(())
}

/// CAP_SYS_RESOURCE (capabilities(7)).
fn may_raise() -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_RESOURCE: u32 = 24;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; twice.
    let mut sets = [0u32; 6];
    // SAFETY: the structures are the kernel's, for the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    got == 0 && sets[0] >> SYS_RESOURCE & 1 == 1
}

//! Descriptors: closing and duplicating them, pipes and the other kinds that have no name; and keeping the
//! runtime's own descriptors (numbers from [`OWN_BASE`] on) out of the guest's sight.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use syscalls::Sysno as HostSysno;

use super::convert::{open_flags_from_host, open_flags_to_host};
use super::{Args, SysResult, call, call_now};
use crate::guest::Guest;

/// Where the runtime's own descriptors are moved to.
pub const OWN_BASE: RawFd = 1000;

/// The runtime's own descriptors; -1 is a free place. Process-wide, as descriptors are: the service's
/// connection and the log are opened far from the guest's kernel state.
static OWN: [AtomicI32; 16] = [const { AtomicI32::new(-1) }; 16];

/// The lowest of them that there ever was: most of the guest's are below, and need no search.
static LOWEST: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// A descriptor of the runtime's, moved out of the guest's way and hidden from it for as long as this lives.
#[derive(Debug)]
pub struct Own<T: AsRawFd>(T);

impl<T: AsRawFd + From<OwnedFd>> Own<T> {
    /// Moves `descriptor` to a number from [`OWN_BASE`] on (close-on-exec) and hides it.
    pub fn new(descriptor: T) -> io::Result<Self> {
        // SAFETY: duplicates a descriptor that is open.
        let moved = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, base()) };
        if moved < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `moved` was made above, and nobody else knows it.
        let own = T::from(unsafe { OwnedFd::from_raw_fd(moved) });
        let noted = OWN.iter().any(|place| exchange(place, -1, moved));
        if !noted {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        LOWEST.fetch_min(moved, Ordering::Relaxed);
        Ok(Self(own))
    }
}

fn exchange(place: &AtomicI32, old: RawFd, new: RawFd) -> bool {
    place.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

impl<T: AsRawFd> Drop for Own<T> {
    fn drop(&mut self) {
        let number = self.0.as_raw_fd();
        OWN.iter().any(|place| exchange(place, number, -1));
    }
}

impl<T: AsRawFd> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> DerefMut for Own<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// [`OWN_BASE`], or as near to it as the limit on descriptors permits.
fn base() -> RawFd {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let room = RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX);
    if known { OWN_BASE.min((room - OWN.len() as RawFd).max(0)) } else { OWN_BASE }
}

/// Whether this is a descriptor of the runtime.
pub fn is_own(fd: RawFd) -> bool {
    fd >= LOWEST.load(Ordering::Relaxed) && OWN.iter().any(|place| place.load(Ordering::Relaxed) == fd)
}

pub(super) fn close(guest: &mut Guest, args: &Args) -> SysResult {
    // Never interrupted half-way: after EINTR the descriptor would be closed already (close(2)).
    let _ = guest;
    call_now(HostSysno::close, args.0)
}

pub(super) fn close_range(guest: &mut Guest, args: &Args) -> SysResult {
    let (first, last) = (args.0[0] as u32, args.0[1] as u32);
    let mut own: Vec<u32> = OWN
        .iter()
        .filter_map(|place| u32::try_from(place.load(Ordering::Relaxed)).ok())
        .filter(|fd| (first..=last).contains(fd))
        .collect();
    own.sort_unstable();
    let flags = args.0[2];
    if own.is_empty() || flags & u64::from(libc::CLOSE_RANGE_CLOEXEC) != 0 {
        // The runtime's own are all close-on-exec already.
        return call(guest, HostSysno::close_range, args.0);
    }
    let mut start = first;
    for fd in own {
        if start < fd {
            call_now(HostSysno::close_range, [start.into(), (fd - 1).into(), flags, 0, 0, 0])?;
        }
        start = fd + 1;
    }
    if start > last {
        return Ok(0);
    }
    call_now(HostSysno::close_range, [start.into(), last.into(), flags, 0, 0, 0])
}

pub(super) fn dup2(guest: &mut Guest, args: &Args) -> SysResult {
    let [old, new, ..] = args.0;
    if args.int(0) == args.int(1) {
        // dup3 refuses what dup2 takes as a question (dup(2)).
        return call(guest, HostSysno::fcntl, [old, libc::F_GETFD as u64, 0, 0, 0, 0]).map(|_| new);
    }
    call(guest, HostSysno::dup3, [old, new, 0, 0, 0, 0])
}

pub(super) fn fcntl(guest: &mut Guest, args: &Args) -> SysResult {
    let mut host = args.0;
    match args.int(1) {
        libc::F_SETFL => {
            host[2] = open_flags_to_host(host[2]);
            call(guest, HostSysno::fcntl, host)
        }
        libc::F_GETFL => call(guest, HostSysno::fcntl, host).map(open_flags_from_host),
        libc::F_SETOWN => {
            host[2] = guest.kernel.pids.to_host(args.int(2)) as u64;
            call(guest, HostSysno::fcntl, host)
        }
        libc::F_GETOWN => {
            let pid = call(guest, HostSysno::fcntl, host)?;
            Ok(guest.kernel.pids.to_guest(pid as i32) as u64)
        }
        _ => call(guest, HostSysno::fcntl, host),
    }
}

pub(super) fn pipe(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::pipe2, [args.0[0], 0, 0, 0, 0, 0])
}

pub(super) fn pipe2(guest: &mut Guest, args: &Args) -> SysResult {
    let flags = open_flags_to_host(args.0[1]);
    call(guest, HostSysno::pipe2, [args.0[0], flags, 0, 0, 0, 0])
}

pub(super) fn eventfd(guest: &mut Guest, args: &Args) -> SysResult {
    call(guest, HostSysno::eventfd2, [args.0[0], 0, 0, 0, 0, 0])
}

pub(super) fn signalfd(guest: &mut Guest, args: &Args) -> SysResult {
    let [fd, mask, size, ..] = args.0;
    call(guest, HostSysno::signalfd4, [fd, mask, size, 0, 0, 0])
}

pub(super) fn inotify_init(guest: &mut Guest, _: &Args) -> SysResult {
    call(guest, HostSysno::inotify_init1, [0; 6])
}

pub(super) fn fanotify_init(guest: &mut Guest, args: &Args) -> SysResult {
    let event_flags = open_flags_to_host(args.0[1]);
    call(guest, HostSysno::fanotify_init, [args.0[0], event_flags, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_descriptors_are_hidden_until_closed() {
        let own = Own::new(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let number = own.as_raw_fd();
        assert!(number >= base());
        assert!(is_own(number));
        assert!(!is_own(0));
        drop(own);
        assert!(!is_own(number));
        // SAFETY: asks for a descriptor's flags.
        assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
    }
}

//! Waiting for descriptors: poll, select and epoll, with AArch64's missing forms, epoll's packed events, and
//! the signal masks that hold only while the call waits.

use syscalls::Sysno as HostSysno;

use super::convert::{EpollEventGeneric, EpollEventX86, Timespec, Timeval};
use super::{Args, SysResult, call, optional};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::signal::Signals;

/// Size of the kernel's `sigset_t`.
const SIGSET: u64 = 8;

/// A mask that a call sets while it waits, as the host call takes it: the address, or null for none.
struct TemporaryMask(Option<u64>);

impl TemporaryMask {
    /// Reads the guest's mask, and tells the guest's signal state that it holds from now on.
    fn begin(guest: &mut Guest, address: u64, size: u64) -> Result<Self, Errno> {
        if address != 0 && size != SIGSET {
            return Err(Errno(libc::EINVAL));
        }
        let mask = optional::<u64>(guest, address)?;
        if let Some(mask) = mask {
            guest.signals.begin_temporary_mask(mask);
        }
        Ok(Self(mask.map(Signals::host_mask)))
    }

    fn address(&self) -> u64 {
        self.0.as_ref().map_or(0, |mask| &raw const *mask as u64)
    }
}

/// A relative timeout in milliseconds; none is negative.
fn milliseconds(timeout: i32) -> Option<Timespec> {
    let timeout = i64::from(timeout);
    (timeout >= 0).then(|| Timespec { sec: timeout / 1000, nsec: timeout % 1000 * 1_000_000 })
}

fn address_of(timeout: &mut Option<Timespec>) -> u64 {
    timeout.as_mut().map_or(0, |t| &raw mut *t as u64)
}

pub(super) fn poll(guest: &mut Guest, args: &Args) -> SysResult {
    let [set, count, ..] = args.0;
    let mut timeout = milliseconds(args.int(2));
    call(guest, HostSysno::ppoll, [set, count, address_of(&mut timeout), 0, SIGSET, 0])
}

pub(super) fn ppoll(guest: &mut Guest, args: &Args) -> SysResult {
    let [set, count, timeout, mask, size, _] = args.0;
    let mask = TemporaryMask::begin(guest, mask, size)?;
    call(guest, HostSysno::ppoll, [set, count, timeout, mask.address(), SIGSET, 0])
}

pub(super) fn pause(guest: &mut Guest, _: &Args) -> SysResult {
    call(guest, HostSysno::ppoll, [0, 0, 0, 0, SIGSET, 0])
}

/// Unlike the C library's select, the kernel's leaves the remaining time in the timeout (select(2), "BUGS").
pub(super) fn select(guest: &mut Guest, args: &Args) -> SysResult {
    let [count, read, write, except, timeout, _] = args.0;
    let mut left = optional::<Timeval>(guest, timeout)?.map(whole_timespec).transpose()?;
    let host = [count, read, write, except, address_of(&mut left), 0];
    let result = call(guest, HostSysno::pselect6, host);
    if let Some(left) = left {
        let left = Timeval { sec: left.sec, usec: left.nsec / 1000 };
        // As in the kernel: a timeout that can't be written isn't an error.
        let _ = guest.memory.write(timeout, &left);
    }
    result
}

/// select(2) takes more than a second of microseconds (fs/select.c, kern_select).
fn whole_timespec(time: Timeval) -> Result<Timespec, Errno> {
    const MICROSECONDS: i64 = 1_000_000;
    let sec = time.sec.checked_add(time.usec / MICROSECONDS);
    match sec {
        Some(sec) if sec >= 0 && time.usec >= 0 => Ok(Timespec { sec, nsec: time.usec % MICROSECONDS * 1000 }),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn pselect6(guest: &mut Guest, args: &Args) -> SysResult {
    let [count, read, write, except, timeout, mask] = args.0;
    let [mask, size] = optional::<[u64; 2]>(guest, mask)?.unwrap_or_default();
    let mask = TemporaryMask::begin(guest, mask, size)?;
    let mask_and_size = [mask.address(), SIGSET];
    let mask_argument = &raw const mask_and_size as u64;
    call(guest, HostSysno::pselect6, [count, read, write, except, timeout, mask_argument])
}

pub(super) fn epoll_create(guest: &mut Guest, args: &Args) -> SysResult {
    if args.int(0) <= 0 {
        return Err(Errno(libc::EINVAL));
    }
    call(guest, HostSysno::epoll_create1, [0; 6])
}

pub(super) fn epoll_ctl(guest: &mut Guest, args: &Args) -> SysResult {
    let [epoll, operation, fd, event, ..] = args.0;
    if operation as i32 == libc::EPOLL_CTL_DEL {
        return call(guest, HostSysno::epoll_ctl, [epoll, operation, fd, 0, 0, 0]);
    }
    let event = EpollEventGeneric::from(&guest.memory.read::<EpollEventX86>(event)?);
    let place = &raw const event as u64;
    call(guest, HostSysno::epoll_ctl, [epoll, operation, fd, place, 0, 0])
}

/// What the kernel accepts as the number of events at most (EP_MAX_EVENTS).
const MAX_EVENTS: i32 = i32::MAX / size_of::<EpollEventX86>() as i32;

/// An epoll wait by `number`, with the host's own arguments behind the events.
fn epoll_wait_as(guest: &mut Guest, number: HostSysno, args: &Args, rest: [u64; 3]) -> SysResult {
    let [epoll, events, count, ..] = args.0;
    let [timeout, mask, size] = rest;
    if cfg!(target_arch = "x86_64") {
        return call(guest, number, [epoll, events, count, timeout, mask, size]);
    }
    if !(1..=MAX_EVENTS).contains(&args.int(2)) {
        return Err(Errno(libc::EINVAL));
    }
    // More than a few thousand at once is a way to say "all": the rest comes with the next call.
    let mut batch = vec![EpollEventGeneric::default(); (count as usize).min(4096)];
    let place = batch.as_mut_ptr() as u64;
    let ready = call(guest, number, [epoll, place, batch.len() as u64, timeout, mask, size])?;
    for (n, event) in batch[..ready as usize].iter().enumerate() {
        let place = events + (n * size_of::<EpollEventX86>()) as u64;
        guest.memory.write(place, &EpollEventX86::from(event))?;
    }
    Ok(ready)
}

pub(super) fn epoll_wait(guest: &mut Guest, args: &Args) -> SysResult {
    epoll_wait_as(guest, HostSysno::epoll_pwait, args, [args.0[3], 0, SIGSET])
}

pub(super) fn epoll_pwait(guest: &mut Guest, args: &Args) -> SysResult {
    let [.., timeout, mask, size] = args.0;
    let mask = TemporaryMask::begin(guest, mask, size)?;
    let rest = [timeout, mask.address(), SIGSET];
    epoll_wait_as(guest, HostSysno::epoll_pwait, args, rest)
}

pub(super) fn epoll_pwait2(guest: &mut Guest, args: &Args) -> SysResult {
    let [.., timeout, mask, size] = args.0;
    let mask = TemporaryMask::begin(guest, mask, size)?;
    let rest = [timeout, mask.address(), SIGSET];
    epoll_wait_as(guest, HostSysno::epoll_pwait2, args, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        assert_eq!(milliseconds(-1), None);
        assert_eq!(milliseconds(1500), Some(Timespec { sec: 1, nsec: 500_000_000 }));
        let whole = whole_timespec(Timeval { sec: 1, usec: 2_500_000 });
        assert_eq!(whole, Ok(Timespec { sec: 3, nsec: 500_000_000 }));
        assert!(whole_timespec(Timeval { sec: -1, usec: 0 }).is_err());
        assert!(whole_timespec(Timeval { sec: 0, usec: -1 }).is_err());
    }
}

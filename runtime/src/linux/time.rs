//! Calls about time that AArch64 has only in a newer form.

use syscalls::Sysno as HostSysno;

use super::convert::{Timespec, Timeval};
use super::{Args, SysResult, call, call_now};
use crate::errno::Errno;
use crate::guest::Guest;

const AT_FDCWD: u64 = libc::AT_FDCWD as i64 as u64;

pub(super) fn time(guest: &mut Guest, args: &Args) -> SysResult {
    let mut now = Timespec::default();
    call_now(HostSysno::clock_gettime, [libc::CLOCK_REALTIME_COARSE as u64, &raw mut now as u64, 0, 0, 0, 0])?;
    if args.0[0] != 0 {
        guest.memory.write(args.0[0], &now.sec)?;
    }
    Ok(now.sec as u64)
}

/// `alarm` is `setitimer(ITIMER_REAL)` in whole seconds; what remained of the old one is rounded
/// (kernel/time/itimer.c, alarm_setitimer).
pub(super) fn alarm(_: &mut Guest, args: &Args) -> SysResult {
    let seconds = i64::from(args.0[0] as u32);
    let new = [Timeval::default(), Timeval { sec: seconds, usec: 0 }];
    let mut old = [Timeval::default(); 2];
    call_now(HostSysno::setitimer, [libc::ITIMER_REAL as u64, new.as_ptr() as u64, old.as_mut_ptr() as u64, 0, 0, 0])?;
    Ok(rounded_seconds(old[1]))
}

/// To the nearest second, but a running timer never reads as none.
fn rounded_seconds(left: Timeval) -> u64 {
    let up = (left.sec == 0 && left.usec > 0) || left.usec >= 500_000;
    left.sec as u64 + u64::from(up)
}

/// Sets access and modification time of a path under `directory`.
fn set_times(guest: &Guest, directory: u64, path: u64, times: Option<[Timespec; 2]>) -> SysResult {
    let times = times.as_ref().map_or(0, |t| t.as_ptr() as u64);
    call(guest, HostSysno::utimensat, [directory, path, times, 0, 0, 0])
}

pub(super) fn utime(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, times, ..] = args.0;
    let times = super::optional::<[i64; 2]>(guest, times)?;
    let times = times.map(|t| t.map(|sec| Timespec { sec, nsec: 0 }));
    set_times(guest, AT_FDCWD, path, times)
}

/// Access and modification time as utimes(2) takes them; none stands for now.
fn file_times(guest: &Guest, address: u64) -> Result<Option<[Timespec; 2]>, Errno> {
    super::optional::<[Timeval; 2]>(guest, address)?.map(nanoseconds).transpose()
}

fn nanoseconds(times: [Timeval; 2]) -> Result<[Timespec; 2], Errno> {
    if times.iter().any(|t| !(0..1_000_000).contains(&t.usec)) {
        return Err(Errno(libc::EINVAL));
    }
    Ok(times.map(|t| Timespec { sec: t.sec, nsec: t.usec * 1000 }))
}

pub(super) fn utimes(guest: &mut Guest, args: &Args) -> SysResult {
    set_times(guest, AT_FDCWD, args.0[0], file_times(guest, args.0[1])?)
}

pub(super) fn futimesat(guest: &mut Guest, args: &Args) -> SysResult {
    set_times(guest, args.0[0], args.0[1], file_times(guest, args.0[2])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_of_an_alarm_is_rounded() {
        let seconds = |sec, usec| rounded_seconds(Timeval { sec, usec });
        assert_eq!(seconds(0, 0), 0);
        assert_eq!(seconds(0, 1), 1);
        assert_eq!(seconds(3, 499_999), 3);
        assert_eq!(seconds(3, 500_000), 4);
    }

    #[test]
    fn microseconds_have_a_range() {
        let at = |usec| Timeval { sec: 3, usec };
        assert_eq!(nanoseconds([at(0), at(1_000_000)]), Err(Errno(libc::EINVAL)));
        assert_eq!(nanoseconds([at(0), at(-1)]), Err(Errno(libc::EINVAL)));
        let times = nanoseconds([at(0), at(999_999)]).unwrap();
        assert_eq!(times[1], Timespec { sec: 3, nsec: 999_999_000 });
    }
}

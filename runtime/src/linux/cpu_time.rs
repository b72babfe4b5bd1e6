//! The guest's CPU clocks. A resumed process has used time before, which the host's kernel knows nothing of: what it
//! answers about this process is counted on from there.

use syscalls::Sysno as HostSysno;
use xlate_abi::image::notes::CpuTimes;

use super::convert::{Timespec, Timeval};
use super::{Args, SysResult, call};
use crate::guest::Guest;

const NANOSECONDS: u64 = 1_000_000_000;
/// USER_HZ: what times(2) counts in, on both hosts.
const TICKS: u64 = 100;

/// Parts of a dynamic clock's number (Linux, `include/linux/posix-timers_types.h`): the kind in the lowest bits, a
/// thread's or a process's, and the complement of whose it is above.
const CLOCK_OF_THREAD: i32 = 4;
const CLOCK_KIND: i32 = 3;
/// The kind that counts user time only, and the one that is no CPU clock: a descriptor's.
const CLOCK_OF_USER: i32 = 1;
const CLOCK_OF_DESCRIPTOR: i32 = 3;

/// Whether a clock counts the CPU time of this very process (its only thread included).
fn is_own_clock(clock: i32, own: i32) -> bool {
    match clock {
        libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID => true,
        0.. => false,
        dynamic => {
            let whose = !(dynamic >> 3);
            dynamic & CLOCK_KIND != CLOCK_OF_DESCRIPTOR && (whose == 0 || whose == own)
        }
    }
}

/// The host's number of a clock that the guest names by its own pid.
fn host_clock(guest: &Guest, clock: i32) -> i32 {
    if clock >= 0 || clock & CLOCK_KIND == CLOCK_OF_DESCRIPTOR {
        return clock;
    }
    let whose = guest.kernel.pids.to_host(!(clock >> 3));
    !whose << 3 | clock & (CLOCK_KIND | CLOCK_OF_THREAD)
}

pub(super) fn clock_gettime(guest: &mut Guest, args: &Args) -> SysResult {
    let clock = args.int(0);
    let own = is_own_clock(clock, guest.kernel.pids.guest);
    let mut host = args.0;
    host[0] = host_clock(guest, clock) as u64;
    let before = guest.kernel.cpu_before;
    if !own || before == CpuTimes::default() {
        return call(guest, HostSysno::clock_gettime, host);
    }
    let mut now = Timespec::default();
    host[1] = &raw mut now as u64;
    call(guest, HostSysno::clock_gettime, host)?;
    let counts_user_only = clock < 0 && clock & CLOCK_KIND == CLOCK_OF_USER;
    let system = if counts_user_only { 0 } else { before.system };
    let now = now.sec as u64 * NANOSECONDS + now.nsec as u64 + before.user + system;
    guest.memory.write(args.0[1], &Timespec { sec: (now / NANOSECONDS) as i64, nsec: (now % NANOSECONDS) as i64 })?;
    Ok(0)
}

/// Words of `struct rusage` on both hosts: user and system time, seconds and microseconds each, then fourteen counters.
type Usage = [i64; 18];

pub(super) fn getrusage(guest: &mut Guest, args: &Args) -> SysResult {
    let before = guest.kernel.cpu_before;
    if before == CpuTimes::default() {
        return call(guest, HostSysno::getrusage, args.0);
    }
    let (user, system) = match args.int(0) {
        libc::RUSAGE_CHILDREN => (before.children_user, before.children_system),
        _ => (before.user, before.system),
    };
    let mut usage: Usage = [0; 18];
    let mut host = args.0;
    host[1] = usage.as_mut_ptr() as u64;
    call(guest, HostSysno::getrusage, host)?;
    for (time, more) in usage.chunks_exact_mut(2).zip([user, system]) {
        let sum = later(Timeval { sec: time[0], usec: time[1] }, more);
        time.copy_from_slice(&[sum.sec, sum.usec]);
    }
    guest.memory.write(args.0[1], &usage)?;
    Ok(0)
}

fn later(time: Timeval, nanoseconds: u64) -> Timeval {
    let microseconds = time.sec as u64 * 1_000_000 + time.usec as u64 + nanoseconds / 1000;
    Timeval { sec: (microseconds / 1_000_000) as i64, usec: (microseconds % 1_000_000) as i64 }
}

pub(super) fn times(guest: &mut Guest, args: &Args) -> SysResult {
    let before = guest.kernel.cpu_before;
    let mut ticks = [0u64; 4];
    let place = if args.0[0] == 0 { 0 } else { &raw mut ticks as u64 };
    let elapsed = call(guest, HostSysno::times, [place, 0, 0, 0, 0, 0])?;
    if place != 0 {
        let parts = [before.user, before.system, before.children_user, before.children_system];
        let sum: [u64; 4] = std::array::from_fn(|n| ticks[n] + parts[n] / (NANOSECONDS / TICKS));
        guest.memory.write(args.0[0], &sum)?;
    }
    Ok(elapsed)
}

/// The times as an option's value, for the program that this process execs.
pub fn text(times: CpuTimes) -> String {
    format!("{},{},{},{}", times.user, times.system, times.children_user, times.children_system)
}

/// Reads such a value.
pub fn parse(text: &str) -> Option<CpuTimes> {
    let parts: Vec<u64> = text.split(',').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [user, system, children_user, children_system] = parts.try_into().ok()?;
    Some(CpuTimes { user, system, children_user, children_system })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clocks_of_this_process_are_its_own() {
        let process = |pid: i32| !pid << 3 | 2;
        let thread = |tid: i32| !tid << 3 | CLOCK_OF_THREAD | 2;
        assert!(is_own_clock(libc::CLOCK_PROCESS_CPUTIME_ID, 7));
        assert!(is_own_clock(libc::CLOCK_THREAD_CPUTIME_ID, 7));
        assert!(is_own_clock(process(7), 7) && is_own_clock(thread(7), 7) && is_own_clock(process(0), 7));
        assert!(!is_own_clock(process(8), 7));
        assert!(!is_own_clock(libc::CLOCK_MONOTONIC, 7));
        assert!(!is_own_clock(!7 << 3 | CLOCK_OF_DESCRIPTOR, 7));
    }

    #[test]
    fn times_add_up() {
        let sum = later(Timeval { sec: 1, usec: 999_999 }, 1_500_001_999);
        assert_eq!(sum, Timeval { sec: 3, usec: 500_000 });
    }

    #[test]
    fn times_are_handed_on() {
        let times = CpuTimes { user: 1, system: 2, children_user: 3, children_system: u64::MAX };
        assert_eq!(parse(&text(times)), Some(times));
        assert_eq!(parse("1,2,3"), None);
        assert_eq!(parse("1,2,3,x"), None);
    }
}

//! Descriptors: closing and duplicating them, pipes and the other kinds that have no name; and keeping the
//! runtime's own descriptors apart, so that the guest neither sees them nor finds their numbers taken.
//!
//! The runtime's own have numbers that the guest can't have: from its soft RLIMIT_NOFILE on (the kernel looks at the limit
//! only when a number is given out). Where that limit is so high that such numbers would make the kernel's table large, or
//! is the hard one and this user can't raise it, they lie among the guest's numbers, move on when the guest comes near, and
//! are given up for its last ones: a lost service or cache costs time, nothing else.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use syscalls::Sysno as HostSysno;

use super::convert::{open_flags_from_host, open_flags_to_host};
use super::{Args, SysResult, call, call_now};
use crate::guest::Guest;

/// Where the runtime's own descriptors are where the guest's limit is high.
pub const OWN_BASE: RawFd = 1000;
/// The highest limit of the guest's above which they are.
const LOW_LIMIT: u64 = 4096;
/// Numbers that are kept free between the guest's and the runtime's.
const MARGIN: RawFd = 64;

/// A free place in [`OWN`]; and one whose descriptor was given up.
const FREE: RawFd = -1;
const GIVEN_UP: RawFd = -2;

/// The runtime's own descriptors. Process-wide, as descriptors are: the service's connection and the log are opened
/// far from the guest's kernel state.
static OWN: [AtomicI32; 16] = [const { AtomicI32::new(FREE) }; 16];

/// The lowest of them that there ever was: most of the guest's are below, and need no search.
static LOWEST: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// A descriptor of the runtime's, moved out of the guest's way and hidden from it for as long as this lives. Its number
/// may change at any system call of the guest's.
#[derive(Debug)]
pub struct Own<T> {
    number: &'static AtomicI32,
    kind: PhantomData<T>,
}

impl<T: From<OwnedFd> + Into<OwnedFd>> Own<T> {
    /// Moves `descriptor` to a number of the runtime's (close-on-exec) and hides it.
    pub fn new(descriptor: T) -> io::Result<Self> {
        let descriptor: OwnedFd = descriptor.into();
        Self::duplicate(descriptor.as_raw_fd())
    }

    /// The runtime's own duplicate of a descriptor.
    pub fn duplicate(descriptor: RawFd) -> io::Result<Self> {
        let moved = duplicate_above(descriptor, base())?;
        let number = OWN.iter().find(|place| exchange(place, FREE, moved.as_raw_fd()));
        let number = number.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        LOWEST.fetch_min(moved.as_raw_fd(), Ordering::Relaxed);
        // The place owns it from here on.
        let _ = ManuallyDrop::new(moved);
        Ok(Self { number, kind: PhantomData })
    }

    /// The descriptor to work with, until the guest's next system call.
    pub fn handle(&self) -> ManuallyDrop<T> {
        // SAFETY: the number is open, or was given up, which calls answer with EBADF. It isn't closed by the result.
        ManuallyDrop::new(T::from(unsafe { OwnedFd::from_raw_fd(self.as_raw_fd()) }))
    }
}

impl<T> AsRawFd for Own<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.number.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        close_number(self.number.swap(FREE, Ordering::Relaxed));
    }
}

fn exchange(place: &AtomicI32, old: RawFd, new: RawFd) -> bool {
    place.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn close_number(number: RawFd) {
    if number >= 0 {
        // SAFETY: the runtime's own number, which nobody uses any more.
        unsafe { libc::close(number) };
    }
}

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit
}

/// The first number for the runtime's own.
fn base() -> RawFd {
    let soft = limit().rlim_cur;
    if soft < LOW_LIMIT { soft as RawFd } else { OWN_BASE }
}

/// The limit on descriptors, raised for numbers up to one, as far as this user may.
pub struct RaisedLimit(libc::rlimit);

impl RaisedLimit {
    pub fn to(number: RawFd) -> Self {
        let old = limit();
        let wanted = libc::rlim_t::try_from(number).unwrap_or(0).saturating_add(OWN.len() as libc::rlim_t);
        let [soft, hard] = [old.rlim_cur.max(wanted), old.rlim_max.max(wanted)];
        if old.rlim_cur < wanted && !set_limit(soft, hard) {
            set_limit(old.rlim_max, old.rlim_max);
        }
        Self(old)
    }

    /// What the limit was.
    pub(super) fn before(&self) -> (u64, u64) {
        (self.0.rlim_cur, self.0.rlim_max)
    }
}

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        set_limit(self.0.rlim_cur, self.0.rlim_max);
    }
}

/// Sets the limits on descriptors; false if this user may not.
fn set_limit(soft: u64, hard: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: setrlimit only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}

/// Gives the limit back that was raised for the start.
pub fn give_limit_back(soft: u64, hard: u64) {
    set_limit(soft, hard);
    keep_apart();
}

/// Duplicates a descriptor to a number from `lowest` on, or as near to it as the limit permits.
fn duplicate_above(fd: RawFd, lowest: RawFd) -> io::Result<OwnedFd> {
    let _raised = RaisedLimit::to(lowest);
    let room = RawFd::try_from(limit().rlim_cur).unwrap_or(RawFd::MAX);
    let lowest = lowest.min((room - OWN.len() as RawFd).max(0));
    // SAFETY: duplicates a descriptor; the result is new.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) {
            -1 => Err(io::Error::last_os_error()),
            moved => Ok(OwnedFd::from_raw_fd(moved)),
        }
    }
}

/// Whether this is a descriptor of the runtime.
pub fn is_own(fd: RawFd) -> bool {
    fd >= LOWEST.load(Ordering::Relaxed) && OWN.iter().any(|place| place.load(Ordering::Relaxed) == fd)
}

/// Moves the runtime's descriptors to numbers from `lowest` on.
fn move_above(lowest: RawFd) {
    for place in &OWN {
        let number = place.load(Ordering::Relaxed);
        if (0..lowest).contains(&number)
            && let Ok(moved) = duplicate_above(number, lowest)
        {
            place.store(moved.as_raw_fd(), Ordering::Relaxed);
            let _ = ManuallyDrop::new(moved);
            close_number(number);
        }
    }
    let numbers = OWN.iter().map(|place| place.load(Ordering::Relaxed)).filter(|number| *number >= 0);
    LOWEST.store(numbers.min().unwrap_or(RawFd::MAX), Ordering::Relaxed);
}

/// Whether the guest comes near the runtime's descriptors with this number.
fn is_near(number: RawFd) -> bool {
    number >= 0 && number.saturating_add(MARGIN) >= LOWEST.load(Ordering::Relaxed)
}

/// The guest got this number: the runtime's descriptors move away from it.
pub fn keep_above(number: RawFd) {
    if is_near(number) {
        move_above(number.saturating_mul(2).max(base()));
    }
}

/// The guest asks for this number, or for one from it on: the runtime's descriptors move away if its limit allows the number.
fn make_way(number: RawFd) {
    if is_near(number) && (number as u64) < limit().rlim_cur {
        keep_above(number);
    }
}

/// The guest's limit has changed.
pub(super) fn keep_apart() {
    move_above(base());
}

/// The guest has no number left: gives up the runtime's descriptors that take one. Says whether there were any.
pub(super) fn give_up() -> bool {
    give_up_from(0, limit().rlim_cur)
}

/// Gives up the runtime's descriptors with numbers in `first..end`.
fn give_up_from(first: RawFd, end: u64) -> bool {
    let mut any = false;
    for place in &OWN {
        let number = place.load(Ordering::Relaxed);
        if number >= first && (number as u64) < end && exchange(place, number, GIVEN_UP) {
            close_number(number);
            any = true;
        }
    }
    any
}

/// The numbers as they are, to be put back where another process has changed them in this one's memory (vfork).
pub(super) fn numbers() -> [RawFd; OWN.len()] {
    core::array::from_fn(|n| OWN[n].load(Ordering::Relaxed))
}

pub(super) fn put_back(numbers: [RawFd; OWN.len()]) {
    for (place, number) in OWN.iter().zip(numbers) {
        place.store(number, Ordering::Relaxed);
        if number >= 0 {
            LOWEST.fetch_min(number, Ordering::Relaxed);
        }
    }
}

/// The limit to exec under, and the guest's own, where so few numbers are free that a new program couldn't be started:
/// the runtime and its loader open files that the guest's program doesn't.
pub(super) fn room_for_start() -> Option<RaisedLimit> {
    const ENOUGH: RawFd = 16;
    let soft = RawFd::try_from(limit().rlim_cur).unwrap_or(RawFd::MAX);
    let is_free = |fd: RawFd| {
        // SAFETY: asks for a descriptor's flags.
        unsafe { libc::fcntl(fd, libc::F_GETFD) == -1 }
    };
    let free = (0..soft).filter(|fd| is_free(*fd)).take(ENOUGH as usize).count();
    (free < ENOUGH as usize).then(|| RaisedLimit::to(soft.saturating_add(2 * ENOUGH)))
}

/// Lists a folder, but for the runtime's own descriptors.
pub(super) fn getdents64(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, buffer, ..] = args.0;
    loop {
        let length = call(guest, HostSysno::getdents64, args.0)?;
        if length == 0 || !lists_descriptors(guest, args.int(0)) {
            return Ok(length);
        }
        let mut records = vec![0; length as usize];
        guest.memory.read_guest(buffer, &mut records)?;
        let left = without_own(&records);
        if !left.is_empty() {
            guest.memory.write_guest(buffer, &left)?;
            return Ok(left.len() as u64);
        }
    }
}

/// Whether this is the folder of the process's own descriptors.
fn lists_descriptors(guest: &Guest, fd: RawFd) -> bool {
    if LOWEST.load(Ordering::Relaxed) == RawFd::MAX {
        return false;
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{fd}")) else { return false };
    let own = format!("/proc/{}", guest.kernel.pids.host);
    path.starts_with(own) && (path.ends_with("fd") || path.ends_with("fdinfo"))
}

/// `struct linux_dirent64` records without those that are named like the runtime's descriptors.
fn without_own(records: &[u8]) -> Vec<u8> {
    /// Offsets of d_reclen and d_name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut left = Vec::with_capacity(records.len());
    let mut rest = records;
    while let Some(length) = rest.get(LENGTH..LENGTH + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]]))) {
        let Some((record, behind)) = rest.split_at_checked(length.max(NAME)) else { break };
        let name = record[NAME..].split(|b| *b == 0).next().unwrap_or_default();
        let number = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok());
        if !number.is_some_and(is_own) {
            left.extend_from_slice(record);
        }
        rest = behind;
    }
    left
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
    dup_to(guest, old, new, 0)
}

pub(super) fn dup3(guest: &mut Guest, args: &Args) -> SysResult {
    let [old, new, flags, ..] = args.0;
    dup_to(guest, old, new, flags)
}

/// A number that the guest chooses isn't the runtime's any more. (At its limit or above, the kernel refuses it.)
fn dup_to(guest: &Guest, old: u64, new: u64, flags: u64) -> SysResult {
    let number = new as RawFd;
    make_way(number);
    if is_own(number) && (number as u64) < limit().rlim_cur {
        give_up_from(number, number as u64 + 1);
    }
    call(guest, HostSysno::dup3, [old, new, flags, 0, 0, 0])
}

pub(super) fn fcntl(guest: &mut Guest, args: &Args) -> SysResult {
    let mut host = args.0;
    match args.int(1) {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            make_way(args.int(2));
            call(guest, HostSysno::fcntl, host)
        }
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
    fn own_descriptors_are_hidden_and_give_way() {
        let own = Own::new(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let number = own.as_raw_fd();
        assert!(number >= base());
        assert!(is_own(number) && !is_own(0));
        keep_above(number);
        let moved = own.as_raw_fd();
        assert!(moved >= number + MARGIN && is_own(moved) && !is_own(number));
        assert!(own.handle().metadata().is_ok());
        drop(own);
        assert!(!is_own(moved));
        // SAFETY: asks for a descriptor's flags.
        assert_eq!(unsafe { libc::fcntl(moved, libc::F_GETFD) }, -1);
    }

    #[test]
    fn own_descriptors_are_not_listed() {
        let own = Own::new(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let record = |name: &str| {
            let mut bytes = vec![0; 16];
            bytes.extend(32u16.to_le_bytes());
            bytes.push(libc::DT_LNK);
            bytes.extend(name.as_bytes());
            bytes.resize(32, 0);
            bytes
        };
        let (dot, zero) = (record("."), record("0"));
        let all = [&dot[..], &record(&own.as_raw_fd().to_string()), &zero].concat();
        assert_eq!(without_own(&all), [dot, zero].concat());
    }
}

//! Requests of ptrace(2) and other system calls that nix doesn't offer, each behind a safe function.

use std::ffi::c_void;
use std::io;
use std::mem::zeroed;

use nix::errno::Errno;
use nix::unistd::Pid;
use xlate_abi::image::XsaveComponent;
use xlate_abi::image::core_notes::{NT_X86_XSTATE, Registers};
use xlate_abi::image::notes::Rseq;

/// The kernel's `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;
/// Larger than any XSAVE area so far (AMX makes it 11 KiB).
const XSTATE_MAX: usize = 64 << 10;
/// Pending signals to ask for at once.
const PEEK_MAX: usize = 64;

/// Calls ptrace.
///
/// # Safety
/// `data` must be what the request needs: see ptrace(2).
unsafe fn request(request: u32, pid: Pid, addr: usize, data: *mut c_void) -> Result<i64, Errno> {
    // SAFETY: passed on to the caller.
    Errno::result(unsafe { libc::ptrace(request, pid.as_raw(), addr, data) })
}

/// All general registers.
pub fn registers(pid: Pid) -> Result<Registers, Errno> {
    let mut regs = Registers::default();
    // SAFETY: PTRACE_GETREGS fills a user_regs_struct, which Registers is.
    unsafe { request(libc::PTRACE_GETREGS, pid, 0, (&raw mut regs).cast()) }?;
    Ok(regs)
}

pub fn set_registers(pid: Pid, regs: &Registers) -> Result<(), Errno> {
    // SAFETY: PTRACE_SETREGS only reads a user_regs_struct.
    unsafe { request(libc::PTRACE_SETREGS, pid, 0, (&raw const *regs).cast_mut().cast()) }.map(drop)
}

/// The extended state in XSAVE's standard format.
pub fn xstate(pid: Pid) -> Result<Vec<u8>, Errno> {
    let mut area = vec![0u8; XSTATE_MAX];
    let mut iov = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
    // SAFETY: PTRACE_GETREGSET writes at most iov_len bytes at iov_base and sets iov_len.
    unsafe { request(libc::PTRACE_GETREGSET, pid, NT_X86_XSTATE as usize, (&raw mut iov).cast()) }?;
    area.truncate(iov.iov_len);
    Ok(area)
}

/// Where this CPU's XSAVE keeps the components that the area's XCR0 enables (CPUID leaf 0xd).
pub fn xsave_layout(xstate: &[u8]) -> Vec<XsaveComponent> {
    let xcr0 = xstate.get(464..472).map_or(0, |b| u64::from_le_bytes(std::array::from_fn(|i| b[i])));
    (2..63u32)
        .filter(|n| xcr0 >> n & 1 != 0)
        .map(|number| {
            let leaf = std::arch::x86_64::__cpuid_count(0xd, number);
            XsaveComponent { number, size: leaf.eax, offset: leaf.ebx, flags: leaf.ecx }
        })
        .collect()
}

/// The processor's time-stamp counter.
pub fn timestamp() -> u64 {
    // SAFETY: RDTSC is part of x86-64.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The blocked signals.
pub fn signal_mask(pid: Pid) -> Result<u64, Errno> {
    let mut mask = 0u64;
    // SAFETY: PTRACE_GETSIGMASK writes a kernel sigset of the size given in addr.
    unsafe { request(libc::PTRACE_GETSIGMASK, pid, size_of_val(&mask), (&raw mut mask).cast()) }?;
    Ok(mask)
}

pub fn set_signal_mask(pid: Pid, mask: u64) -> Result<(), Errno> {
    let mut mask = mask;
    // SAFETY: PTRACE_SETSIGMASK reads a kernel sigset of the size given in addr.
    unsafe { request(libc::PTRACE_SETSIGMASK, pid, size_of_val(&mask), (&raw mut mask).cast()) }.map(drop)
}

/// Signals that wait in the thread's queue, or in the process's.
pub fn pending_signals(pid: Pid, of_process: bool) -> Result<Vec<Vec<u8>>, Errno> {
    let mut all = Vec::new();
    loop {
        let mut args = libc::ptrace_peeksiginfo_args {
            off: all.len() as u64,
            flags: if of_process { libc::PTRACE_PEEKSIGINFO_SHARED } else { 0 },
            nr: PEEK_MAX as i32,
        };
        let mut infos = vec![0u8; PEEK_MAX * SIGINFO_SIZE];
        let addr = (&raw mut args) as usize;
        // SAFETY: PTRACE_PEEKSIGINFO reads the arguments at addr and writes at most `nr` siginfos.
        let count = unsafe { request(libc::PTRACE_PEEKSIGINFO, pid, addr, infos.as_mut_ptr().cast()) }?;
        all.extend(infos.chunks(SIGINFO_SIZE).take(count as usize).map(<[u8]>::to_vec));
        if (count as usize) < PEEK_MAX {
            return Ok(all);
        }
    }
}

/// The registered rseq area, if there is one (Linux 5.13 and later tell).
pub fn rseq(pid: Pid) -> Option<Rseq> {
    // SAFETY: an all-zero ptrace_rseq_configuration is valid.
    let mut conf: libc::ptrace_rseq_configuration = unsafe { zeroed() };
    let size = size_of_val(&conf);
    // SAFETY: PTRACE_GET_RSEQ_CONFIGURATION writes a struct of the size given in addr.
    unsafe { request(libc::PTRACE_GET_RSEQ_CONFIGURATION, pid, size, (&raw mut conf).cast()) }.ok()?;
    (conf.rseq_abi_pointer != 0).then_some(Rseq {
        address: conf.rseq_abi_pointer,
        size: conf.rseq_abi_size,
        signature: conf.signature,
        flags: conf.flags,
    })
}

/// get_robust_list(2): head and size.
pub fn robust_list(pid: Pid) -> Result<(u64, u64), Errno> {
    let (mut head, mut len) = (0u64, 0u64);
    // SAFETY: the kernel writes a pointer and a size_t.
    Errno::result(unsafe { libc::syscall(libc::SYS_get_robust_list, pid.as_raw(), &raw mut head, &raw mut len) })?;
    Ok((head, len))
}

/// A process's CPU time, nanoseconds: clock_getcpuclockid(3)'s clock.
pub fn cpu_clock(pid: Pid) -> Result<u64, Errno> {
    let mut clock = 0;
    // SAFETY: both functions write to a place of their result's type; the first returns an error number.
    match unsafe { libc::clock_getcpuclockid(pid.as_raw(), &raw mut clock) } {
        0 => {}
        errno => return Err(Errno::from_raw(errno)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Whether two descriptors of a process share one open file description; `None` where the kernel lacks kcmp(2).
pub fn share_description(pid: Pid, a: i32, b: i32) -> Option<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: kcmp takes numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid.as_raw(), pid.as_raw(), KCMP_FILE, a, b) };
    Errno::result(order).ok().map(|order| order == 0)
}

/// Whether a signal waits for xlate itself (capture runs with them blocked).
pub fn signal_waits() -> io::Result<bool> {
    // SAFETY: an all-zero sigset_t is valid.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: sigpending writes the set.
    Errno::result(unsafe { libc::sigpending(&raw mut set) })?;
    // SAFETY: the set was filled above.
    let waits = |signal| unsafe { libc::sigismember(&raw const set, signal) } == 1;
    Ok([libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].into_iter().any(waits))
}

/// How waiting for a tracee ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the entry to or the exit from a system call (PTRACE_O_TRACESYSGOOD).
    SystemCall,
    /// PTRACE_EVENT_STOP: by PTRACE_INTERRUPT, or stopped by job control.
    Event,
    /// About to be delivered this signal.
    Signal(i32),
    /// Exited or killed.
    Ended,
}

/// Asks, without waiting, whether the tracee has stopped.
pub fn poll_stop(pid: Pid) -> Result<Option<Stop>, Errno> {
    let mut status = 0;
    // SAFETY: waitpid writes the status.
    match Errno::result(unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) })? {
        0 => Ok(None),
        _ => Ok(Some(classify_stop(status))),
    }
}

fn classify_stop(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Ended;
    }
    let signal = libc::WSTOPSIG(status);
    if status >> 16 == libc::PTRACE_EVENT_STOP {
        Stop::Event
    } else if signal == libc::SIGTRAP | 0x80 {
        Stop::SystemCall
    } else {
        Stop::Signal(signal)
    }
}

/// A request that lets the tracee run, delivering `signal` (0: none).
#[derive(Clone, Copy, Debug)]
pub enum Resume {
    Continue,
    /// To the next entry to or exit from a system call.
    SystemCall,
    /// One instruction.
    Step,
    Detach,
}

pub fn resume(pid: Pid, how: Resume, signal: i32) -> Result<(), Errno> {
    let number = match how {
        Resume::Continue => libc::PTRACE_CONT,
        Resume::SystemCall => libc::PTRACE_SYSCALL,
        Resume::Step => libc::PTRACE_SINGLESTEP,
        Resume::Detach => libc::PTRACE_DETACH,
    };
    // SAFETY: these requests take a signal number as data.
    unsafe { request(number, pid, 0, signal as usize as *mut c_void) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        let stopped = |signal: i32, event: i32| event << 16 | signal << 8 | 0x7f;
        assert_eq!(classify_stop(stopped(libc::SIGTRAP | 0x80, 0)), Stop::SystemCall);
        assert_eq!(classify_stop(stopped(libc::SIGTRAP, 128)), Stop::Event);
        assert_eq!(classify_stop(stopped(libc::SIGSTOP, 128)), Stop::Event);
        assert_eq!(classify_stop(stopped(40, 0)), Stop::Signal(40));
        assert_eq!(classify_stop(0), Stop::Ended);
        assert_eq!(classify_stop(9), Stop::Ended);
    }
}

//! The guest's system calls: one table ([`table::TABLE`]), one file a family of handlers.
//!
//! Guest memory is mapped at its own addresses, so pointers go to the host kernel as they are, and a bad one
//! comes back as EFAULT. What is handled here is what an x86-64 kernel would answer differently: calls and
//! layouts AArch64 doesn't have, the process's memory map and identity, files in /proc that would show the
//! translator, and whatever signals interrupt.

mod busy;
pub mod convert;
pub mod cpu_time;
mod cpuinfo;
pub mod descriptors;
mod exec;
mod executable;
mod foreign;
mod fs;
mod kernel;
mod legacy;
mod limits;
mod memory;
mod memory_files;
mod misc;
mod paths;
mod poll;
mod process;
mod procfs;
pub mod signal;
pub mod table;
mod time;
pub mod vsyscall;
pub mod writes;

use std::sync::atomic::AtomicU32;

use syscalls::Sysno as HostSysno;
use xlate_abi::state::{CpuState, R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI};

pub use exec::read_strings;
pub use executable::Executable;
pub use kernel::{Kernel, Pids, Program, Strings};

use crate::errno::Errno;
use crate::guarded;
use crate::guest::Guest;
use crate::memory::Plain;
use table::{How, Restart, Row};

/// The six argument registers of a system call, in order (psABI, A.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `n` as the C `int` it is declared as.
    pub fn int(&self, n: usize) -> i32 {
        self.0[n] as i32
    }
}

/// What a call returns in rax, or the error.
pub type SysResult = Result<u64, Errno>;

/// How the guest goes on after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At `rip`, with the result in rax.
    Done,
    /// A signal interrupted the call: rax holds -EINTR and `rip` is behind the call. If no handler of the
    /// guest runs now, or if it was installed with SA_RESTART and `restart` is set, [`restart`] makes the call again.
    Interrupted { restart: bool },
    /// The handler has written all registers, rax among them.
    RegistersReplaced,
    /// Not at all: the guest has ended with this status.
    Exited(i32),
}

/// How a system call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// By SYSCALL.
    Native,
    /// By `int 0x80`, as in 32-bit programs.
    Legacy,
}

/// Serves the system call the guest's registers ask for; `rip` is already behind the instruction.
pub fn dispatch(guest: &mut Guest, convention: Convention) -> Outcome {
    // The kernel takes the number as an int (do_syscall_64).
    let number = guest.state.gpr[RAX] as u32;
    guest.kernel.number = number;
    match convention {
        Convention::Native => {
            let args = native_call(&mut guest.state);
            serve(guest, number, args)
        }
        Convention::Legacy => match legacy::call(guest) {
            Some((number, args)) => serve(guest, number, args),
            None => {
                guest.kernel.warn_unsupported_legacy(number);
                finish(guest, None, &Args([0; 6]), Err(Errno(libc::ENOSYS)))
            }
        },
    }
}

/// The arguments of SYSCALL, which leaves the return address in rcx and the flags in r11 (Intel SDM vol. 2, SYSCALL).
fn native_call(state: &mut CpuState) -> Args {
    let r = &mut state.gpr;
    let args = Args([r[RDI], r[RSI], r[RDX], r[R10], r[R8], r[R9]]);
    r[RCX] = state.rip;
    state.gpr[R11] = state.rflags();
    args
}

fn serve(guest: &mut Guest, number: u32, args: Args) -> Outcome {
    let Some(row) = table::row(number) else {
        guest.kernel.warn_unsupported(number);
        return finish(guest, None, &args, Err(Errno(libc::ENOSYS)));
    };
    if names_own_descriptor(row, &args) {
        return finish(guest, Some(row), &args, Err(Errno(libc::EBADF)));
    }
    writes::open(guest, row, &args);
    let serve = |guest: &mut Guest| match row.how {
        How::Pass(host) => pass(guest, row, host, &args),
        How::Call(handler) => handler(guest, &args),
        How::Refuse(error) => Err(error),
        How::Control(_) => unreachable!("served below"),
    };
    if let How::Control(handler) = row.how {
        log(row, &args, None);
        return handler(guest, &args);
    }
    let mut result = serve(guest);
    // A call that finds no number for a descriptor has had no effect.
    if result == Err(Errno(libc::EMFILE)) && descriptors::give_up() {
        result = serve(guest);
    }
    if let (true, Ok(number)) = (row.opens, result) {
        descriptors::keep_above(number as i32);
    }
    log(row, &args, Some(&result));
    finish(guest, Some(row), &args, result)
}

/// Makes the guest repeat the call it has just made.
pub fn restart(guest: &mut Guest) {
    // `syscall` is two bytes (0f 05), and so is `int 0x80` (cd 80).
    guest.state.rip = guest.state.rip.wrapping_sub(2);
    guest.state.gpr[RAX] = u64::from(guest.kernel.number);
}

/// Hands a call to the host's kernel, with the guest's number for its process exchanged for the host's.
fn pass(guest: &Guest, row: &Row, host: HostSysno, args: &Args) -> SysResult {
    let pids = guest.kernel.pids;
    let mut host_args = args.0;
    for n in bits(row.pids) {
        host_args[n] = i64::from(pids.to_host(args.int(n))) as u64;
    }
    let value = call(guest, host, host_args)?;
    if row.returns_pid {
        return Ok(pids.to_guest(value as i32) as u64);
    }
    Ok(value)
}

fn finish(guest: &mut Guest, row: Option<&Row>, args: &Args, result: SysResult) -> Outcome {
    match result {
        Ok(value) => guest.state.gpr[RAX] = value,
        // Nothing has happened yet: the signal comes first, then the call.
        Err(NOT_BEGUN) => restart(guest),
        Err(error) => {
            guest.state.gpr[RAX] = error.to_result() as u64;
            if error.0 == libc::EFAULT && guest.memory.is_watching() {
                tracing::debug!(number = guest.kernel.number, "EFAULT, with pages of code write-protected");
            }
            if error.0 == libc::EINTR {
                let restart = row.is_some_and(|row| restarts(row, args));
                return Outcome::Interrupted { restart };
            }
        }
    }
    Outcome::Done
}

/// Whether an interrupted call is made again after a handler with SA_RESTART (signal(7)).
fn restarts(row: &Row, args: &Args) -> bool {
    match row.restart {
        Restart::Automatic => true,
        Restart::Never => false,
        Restart::UnlessReceiveTimeout => !has_timeout(args.int(0), libc::SO_RCVTIMEO),
        Restart::UnlessSendTimeout => !has_timeout(args.int(0), libc::SO_SNDTIMEO),
        Restart::UnlessTimeout => args.0[3] == 0,
    }
}

/// Whether the descriptor is a socket for which this timeout is set.
fn has_timeout(fd: i32, option: i32) -> bool {
    let mut timeout = convert::Timeval::default();
    let mut size = size_of::<convert::Timeval>() as libc::socklen_t;
    // SAFETY: place and size are valid for the result.
    let known = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut timeout).cast(), &mut size) };
    known == 0 && timeout != convert::Timeval::default()
}

fn names_own_descriptor(row: &Row, args: &Args) -> bool {
    bits(row.descriptors).any(|n| descriptors::is_own(args.int(n)))
}

/// The numbers of the bits that are set.
fn bits(mut mask: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lowest < 8).then_some(lowest)
    })
}

#[inline]
fn log(row: &Row, args: &Args, result: Option<&SysResult>) {
    if tracing::enabled!(tracing::Level::TRACE) {
        write_log(row, args, result);
    }
}

#[cold]
fn write_log(row: &Row, args: &Args, result: Option<&SysResult>) {
    let list: Vec<String> = args.0[..usize::from(row.args)]
        .iter()
        .map(|a| if *a < 4096 { a.to_string() } else { format!("{a:#x}") })
        .collect();
    let list = list.join(", ");
    match result {
        None => tracing::trace!("{}({list})", row.number),
        Some(Ok(value)) => tracing::trace!("{}({list}) = {value:#x}", row.number),
        Some(Err(error)) => tracing::trace!("{}({list}) = -{} ({error})", row.number, error.0),
    }
}

/// The error of a call that wasn't begun, for a guest signal is waiting.
const NOT_BEGUN: Errno = Errno(-guarded::NOT_BEGUN as i32);

/// Splits a kernel result into value and error.
fn split(result: i64) -> SysResult {
    match result {
        -4095..=-1 => Err(Errno(-result as i32)),
        value => Ok(value as u64),
    }
}

/// Makes a host system call on the guest's behalf, unless a guest signal is waiting.
fn call(guest: &Guest, number: HostSysno, args: [u64; 6]) -> SysResult {
    // SAFETY: `pending` is an aligned word that lives as long as the state, and is otherwise only accessed
    // by this thread and its signal handlers.
    let pending = unsafe { AtomicU32::from_ptr((&raw const guest.state.pending).cast_mut()) };
    // SAFETY: rows and handlers pass on what concerns the guest only: its memory lies outside the
    // runtime's, and its descriptors have been told from the runtime's own.
    split(unsafe { guarded::syscall(pending, i64::from(number.id()), &args) })
}

/// Makes a host system call that neither blocks nor may be left out for a waiting signal.
fn call_now(number: HostSysno, args: [u64; 6]) -> SysResult {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    // SAFETY: as in `call`.
    split(unsafe { guarded::syscall(&NEVER, i64::from(number.id()), &args) })
}

/// Reads a structure the guest may leave out by passing a null pointer.
fn optional<T: Plain>(guest: &Guest, address: u64) -> Result<Option<T>, Errno> {
    if address == 0 {
        return Ok(None);
    }
    guest.memory.read(address).map(Some)
}

//! Processes: fork, vfork and clone, exit, and what a process is to itself (thread pointer, names, robust lists).

use syscalls::Sysno as HostSysno;
use xlate_abi::image::notes::CpuTimes;
use xlate_abi::state::{CpuState, RAX, RSP, segment};

use super::kernel::Pids;
use super::writes::size;
use super::{Args, Outcome, SysResult, call, descriptors};
use crate::engine::Parted;
use crate::errno::Errno;
use crate::guest::Guest;
use crate::memory::{GUEST_END, Limits};
use crate::signal::Signals;

pub(super) fn exit(_: &mut Guest, args: &Args) -> Outcome {
    Outcome::Exited(args.int(0) & 0xff)
}

const CSIGNAL: u64 = 0xff;
const CLONE_VM: u64 = libc::CLONE_VM as u64;
const CLONE_VFORK: u64 = libc::CLONE_VFORK as u64;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
const CLONE_SETTLS: u64 = libc::CLONE_SETTLS as u64;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
const CLONE_PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// What a new process is to be, however it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Request {
    /// CLONE_* without the signal.
    flags: u64,
    exit_signal: u64,
    /// The child's stack pointer; 0 for the parent's.
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    pidfd: u64,
    tls: u64,
}

pub(super) fn fork(guest: &mut Guest, _: &Args) -> SysResult {
    start(guest, &Request { exit_signal: libc::SIGCHLD as u64, ..Request::default() })
}

pub(super) fn vfork(guest: &mut Guest, _: &Args) -> SysResult {
    start(guest, &Request { flags: CLONE_VM | CLONE_VFORK, exit_signal: libc::SIGCHLD as u64, ..Request::default() })
}

/// clone(2), in x86-64's order of arguments.
pub(super) fn clone(guest: &mut Guest, args: &Args) -> SysResult {
    let [flags, stack, parent_tid, child_tid, tls, _] = args.0;
    // The old call has 32 bits of flags.
    let flags = u64::from(flags as u32);
    if flags & CLONE_PIDFD != 0 && flags & CLONE_PARENT_SETTID != 0 {
        return Err(Errno(libc::EINVAL));
    }
    start(
        guest,
        &Request {
            flags: flags & !CSIGNAL,
            exit_signal: flags & CSIGNAL,
            stack,
            parent_tid,
            child_tid,
            // The old call has the descriptor's place where the parent's tid goes (clone(2)).
            pidfd: parent_tid,
            tls,
        },
    )
}

/// `struct clone_args` up to its first published size (CLONE_ARGS_SIZE_VER0), then with the later fields.
const CLONE_ARGS: usize = 64;
const CLONE_ARGS_MAX: usize = 88;

pub(super) fn clone3(guest: &mut Guest, args: &Args) -> SysResult {
    let [address, size, ..] = args.0;
    if (size as usize) < CLONE_ARGS {
        return Err(Errno(libc::EINVAL));
    }
    if size as usize > CLONE_ARGS_MAX {
        return Err(Errno(libc::E2BIG));
    }
    let mut words = [0u64; CLONE_ARGS_MAX / 8];
    for (n, word) in words[..size as usize / 8].iter_mut().enumerate() {
        *word = guest.memory.read(address + n as u64 * 8)?;
    }
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, _, _] = words;
    if flags & CSIGNAL != 0 || exit_signal > CSIGNAL || (stack == 0) != (stack_size == 0) {
        return Err(Errno(libc::EINVAL));
    }
    if set_tid != 0 || flags & CLONE_INTO_CGROUP != 0 {
        // Only init systems and restorers choose numbers or groups; they have to expect a refusal.
        return Err(Errno(libc::EPERM));
    }
    let stack = stack + stack_size;
    start(guest, &Request { flags, exit_signal, stack, parent_tid, child_tid, pidfd, tls })
}

/// Starts a process; returns its number, or 0 in it.
fn start(guest: &mut Guest, request: &Request) -> SysResult {
    if request.flags & CLONE_THREAD != 0 || (request.flags & CLONE_VM != 0 && request.flags & CLONE_VFORK == 0) {
        guest.kernel.warn_threads();
        return Err(Errno(libc::ENOSYS));
    }
    if request.flags & CLONE_CLEAR_SIGHAND != 0 {
        // The guest's actions would have to be reset on both sides; the C library falls back by itself.
        return Err(Errno(libc::EINVAL));
    }
    if request.flags & CLONE_VM != 0 {
        return share(guest, request);
    }
    let child = call(guest, HostSysno::clone, host_clone_args(request))?;
    if child == 0 {
        guest.engine.after_fork_child();
        for (start, len) in guest.memory.become_child() {
            guest.engine.invalidate(start, len);
        }
        become_child(guest, request);
    }
    Ok(child)
}

/// Arguments of the host's clone for a child with memory of its own. The guest's thread pointer is not the host's.
fn host_clone_args(request: &Request) -> [u64; 6] {
    let flags = (request.flags & !CLONE_SETTLS) | request.exit_signal;
    let parent_tid = if request.flags & CLONE_PIDFD != 0 { request.pidfd } else { request.parent_tid };
    clone_order(flags, parent_tid, request.child_tid)
}

/// The order of clone's arguments is the host's own (clone(2), "C library/kernel differences").
fn clone_order(flags: u64, parent_tid: u64, child_tid: u64) -> [u64; 6] {
    if cfg!(target_arch = "aarch64") {
        [flags, 0, parent_tid, 0, child_tid, 0]
    } else {
        [flags, 0, parent_tid, child_tid, 0, 0]
    }
}

/// In a new process: it has another number, nothing pending, and perhaps a stack and thread pointer of its own.
fn become_child(guest: &mut Guest, request: &Request) {
    guest.kernel.pids = guest.kernel.pids.child();
    guest.kernel.robust_list = (0, 0);
    guest.kernel.cpu_before = CpuTimes::default();
    guest.signals.after_fork_child(&mut guest.state);
    if request.stack != 0 {
        guest.state.gpr[RSP] = request.stack;
    }
    if request.flags & CLONE_SETTLS != 0 {
        guest.state.fs_base = request.tls;
    }
}

/// What the child of a vfork changes in the shared memory although it isn't shared.
struct Private {
    state: Box<CpuState>,
    signals: Signals,
    pids: Pids,
    robust_list: (u64, u64),
    cpu_before: CpuTimes,
    number: u32,
    implied_exec: u32,
    limits: Limits,
    descriptors: [i32; 16],
    engine: Parted,
}

impl Private {
    fn take(guest: &mut Guest) -> Self {
        Self {
            state: guest.state.clone(),
            signals: guest.signals.clone(),
            pids: guest.kernel.pids,
            robust_list: guest.kernel.robust_list,
            cpu_before: guest.kernel.cpu_before,
            number: guest.kernel.number,
            implied_exec: guest.kernel.implied_exec,
            limits: guest.memory.limits(),
            descriptors: descriptors::numbers(),
            engine: guest.engine.before_vfork(),
        }
    }

    fn put_back(self, guest: &mut Guest) {
        // In place: the state's address is known to translated code and to the signal handlers.
        *guest.state = *self.state;
        guest.signals = self.signals;
        guest.kernel.pids = self.pids;
        guest.kernel.cpu_before = self.cpu_before;
        guest.kernel.robust_list = self.robust_list;
        guest.kernel.number = self.number;
        guest.kernel.implied_exec = self.implied_exec;
        guest.memory.imply_exec(self.implied_exec != 0);
        guest.memory.set_limits(self.limits);
        descriptors::put_back(self.descriptors);
        guest.kernel.exec = None;
        guest.engine.after_vfork(self.engine);
        // The child may have put its handlers, and with them the need, away.
        guest.engine.set_precise(guest.signals.needs_precision());
    }
}

/// Size of the stack that the runtime has in the child of a vfork.
const CHILD_STACK: usize = 8 << 20;

/// What the child is started with.
struct Handover<'a> {
    guest: &'a mut Guest,
    request: Request,
}

extern "C" fn vfork_child(handover: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent made it, and is suspended as long as we use it.
    let handover = unsafe { &mut *handover.cast::<Handover<'_>>() };
    become_child(handover.guest, &handover.request);
    handover.guest.state.gpr[RAX] = 0;
    handover.guest.run()
}

/// vfork(2) and posix_spawn(3): the child runs in the very memory of its parent, which waits until the child has
/// exec'd or exited. The runtime's own memory is shared likewise: code that the child translates stays.
fn share(guest: &mut Guest, request: &Request) -> SysResult {
    if request.flags & CLONE_CHILD_CLEARTID != 0 {
        guest.expect_writes(request.child_tid, size::INT);
    }
    let stack = memmap2::MmapOptions::new().len(CHILD_STACK).map_anon()?;
    // SAFETY: one past the end of the mapping, which is page-aligned.
    let top = unsafe { stack.as_ptr().add(stack.len()) }.cast_mut().cast();
    let private = Private::take(guest);
    let flags = (request.flags & !CLONE_SETTLS) | request.exit_signal;
    let parent_tid = if request.flags & CLONE_PIDFD != 0 { request.pidfd } else { request.parent_tid };
    let mut handover = Handover { guest: &mut *guest, request: *request };
    // SAFETY: the child has a stack of its own, and uses `guest` while we are suspended in the kernel; under an
    // emulator that makes a fork of it, it has a copy. It never returns from `vfork_child`.
    let child = unsafe {
        libc::clone(
            vfork_child,
            top,
            flags as i32,
            (&raw mut handover).cast(),
            parent_tid,
            std::ptr::null_mut::<libc::c_void>(),
            request.child_tid,
        )
    };
    let error = Errno::last();
    private.put_back(guest);
    if child < 0 { Err(error) } else { Ok(child as u64) }
}

/// waitid(2): what the second argument is depends on the first.
pub(super) fn waitid(guest: &mut Guest, args: &Args) -> SysResult {
    let mut host = args.0;
    if matches!(host[0] as u32, libc::P_PID | libc::P_PGID) {
        host[1] = guest.kernel.pids.to_host(args.int(1)) as u64;
    }
    call(guest, HostSysno::waitid, host)
}

/// The group of the calling process.
pub(super) fn getpgrp(guest: &mut Guest, _: &Args) -> SysResult {
    let group = call(guest, HostSysno::getpgid, [0; 6])?;
    Ok(guest.kernel.pids.to_guest(group as i32) as u64)
}

pub(super) fn set_tid_address(guest: &mut Guest, args: &Args) -> SysResult {
    // The host clears the guest's word itself when the process ends, if another one uses the memory.
    guest.expect_writes(args.0[0], size::INT);
    call(guest, HostSysno::set_tid_address, args.0)?;
    Ok(guest.kernel.pids.guest as u64)
}

/// Length of `struct robust_list_head`.
const ROBUST_HEAD: u64 = 24;

/// The list has the same layout on both hosts, so the host walks it itself; where it can't (an emulator), there
/// is nobody but this process to see the difference.
pub(super) fn set_robust_list(guest: &mut Guest, args: &Args) -> SysResult {
    let [head, len, ..] = args.0;
    if len != ROBUST_HEAD {
        return Err(Errno(libc::EINVAL));
    }
    match call(guest, HostSysno::set_robust_list, args.0) {
        Ok(_) | Err(Errno(libc::ENOSYS)) => {
            guest.kernel.robust_list = (head, len);
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn get_robust_list(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, head, len, ..] = args.0;
    let pid = args.int(0);
    if pid != 0 && pid != guest.kernel.pids.guest {
        return Err(Errno(libc::EPERM));
    }
    let (address, _) = guest.kernel.robust_list;
    guest.memory.write(len, &ROBUST_HEAD)?;
    guest.memory.write(head, &address)?;
    Ok(0)
}

/// arch_prctl(2): segment bases live in the CPU state; shadow stacks and the like aren't announced by CPUID.
pub(super) fn arch_prctl(guest: &mut Guest, args: &Args) -> SysResult {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    const ARCH_GET_CPUID: u64 = 0x1011;
    const ARCH_SET_CPUID: u64 = 0x1012;
    const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
    const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    /// The highest component that a program may have to ask for: AMX's tiles.
    const XTILEDATA: u64 = 18;
    let [code, value, ..] = args.0;
    match code {
        ARCH_SET_FS | ARCH_SET_GS if value >= GUEST_END => return Err(Errno(libc::EPERM)),
        ARCH_SET_FS => {
            // The selector becomes null with the base (arch/x86/kernel/process_64.c: do_arch_prctl_64).
            guest.state.fs_base = value;
            guest.state.selectors[segment::FS] = 0;
        }
        ARCH_SET_GS => {
            guest.state.gs_base = value;
            guest.state.selectors[segment::GS] = 0;
        }
        ARCH_GET_FS => guest.memory.write(value, &guest.state.fs_base)?,
        ARCH_GET_GS => guest.memory.write(value, &guest.state.gs_base)?,
        ARCH_GET_CPUID => return Ok(1),
        ARCH_SET_CPUID => return Err(Errno(libc::ENODEV)),
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => guest.memory.write(value, &guest.processor.xcr0())?,
        // arch/x86/kernel/fpu/xstate.c: xstate_request_perm.
        ARCH_REQ_XCOMP_PERM if value <= XTILEDATA => return Err(Errno(libc::EOPNOTSUPP)),
        _ => return Err(Errno(libc::EINVAL)),
    }
    Ok(0)
}

/// personality(2). READ_IMPLIES_EXEC is the guest's memory's; the host's kernel must not make the translator's
/// executable with it.
pub(super) fn personality(guest: &mut Guest, args: &Args) -> SysResult {
    const ASK: u32 = u32::MAX;
    const READ_IMPLIES_EXEC: u32 = libc::READ_IMPLIES_EXEC as u32;
    let old = guest.kernel.personality();
    let new = args.0[0] as u32;
    if new != ASK {
        call(guest, HostSysno::personality, [u64::from(new & !READ_IMPLIES_EXEC), 0, 0, 0, 0, 0])?;
        guest.memory.imply_exec(new & READ_IMPLIES_EXEC != 0);
        guest.kernel.implied_exec = new & READ_IMPLIES_EXEC;
    }
    Ok(u64::from(old))
}

/// prctl(2): what concerns the process goes to the host; what concerns its machine code or memory map doesn't.
pub(super) fn prctl(guest: &mut Guest, args: &Args) -> SysResult {
    const PR_GET_TSC: i32 = 25;
    const PR_SET_TSC: i32 = 26;
    const PR_TSC_ENABLE: i32 = 1;
    const PR_GET_SPECULATION_CTRL: i32 = 52;
    const PR_SET_SPECULATION_CTRL: i32 = 53;
    const PR_SET_IO_FLUSHER: i32 = 57;
    const PR_GET_IO_FLUSHER: i32 = 58;
    match args.int(0) {
        libc::PR_SET_PDEATHSIG
        | libc::PR_GET_PDEATHSIG
        | libc::PR_GET_DUMPABLE
        | libc::PR_SET_DUMPABLE
        | libc::PR_GET_KEEPCAPS
        | libc::PR_SET_KEEPCAPS
        | libc::PR_GET_TIMING
        | libc::PR_SET_TIMING
        | libc::PR_SET_NAME
        | libc::PR_GET_NAME
        | libc::PR_CAPBSET_READ
        | libc::PR_CAPBSET_DROP
        | libc::PR_GET_SECUREBITS
        | libc::PR_SET_SECUREBITS
        | libc::PR_SET_TIMERSLACK
        | libc::PR_GET_TIMERSLACK
        | libc::PR_MCE_KILL
        | libc::PR_MCE_KILL_GET
        | libc::PR_SET_CHILD_SUBREAPER
        | libc::PR_GET_CHILD_SUBREAPER
        | libc::PR_SET_NO_NEW_PRIVS
        | libc::PR_GET_NO_NEW_PRIVS
        | libc::PR_GET_TID_ADDRESS
        | libc::PR_SET_THP_DISABLE
        | libc::PR_GET_THP_DISABLE
        | libc::PR_CAP_AMBIENT
        | PR_GET_SPECULATION_CTRL
        | PR_SET_SPECULATION_CTRL
        | PR_SET_IO_FLUSHER
        | PR_GET_IO_FLUSHER
        | libc::PR_SET_PTRACER
        | libc::PR_SET_VMA => call(guest, HostSysno::prctl, args.0),
        PR_GET_TSC => {
            guest.memory.write(args.0[1], &PR_TSC_ENABLE)?;
            Ok(0)
        }
        PR_SET_TSC if args.int(1) == PR_TSC_ENABLE => Ok(0),
        // No filter is there, and none can be set: it would see the runtime's calls by the host's numbers.
        libc::PR_GET_SECCOMP => Ok(0),
        option => {
            tracing::debug!(option, "prctl refused");
            Err(Errno(libc::EINVAL))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_clone_never_gets_the_guests_thread_pointer() {
        let request = Request {
            flags: CLONE_SETTLS | CLONE_PARENT_SETTID,
            exit_signal: 17,
            parent_tid: 0x1000,
            child_tid: 0x2000,
            tls: 0x3000,
            ..Request::default()
        };
        let args = host_clone_args(&request);
        assert_eq!(args[0], CLONE_PARENT_SETTID | 17);
        assert_eq!(args[1], 0);
        assert_eq!(args[2], 0x1000);
        assert!(!args.contains(&0x3000));
    }
}

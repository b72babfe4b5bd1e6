//! The system calls about signals: arguments in and out; what they do is [`crate::signal`]'s.

use syscalls::Sysno as HostSysno;
use xlate_abi::state::RSP;

use super::{Args, Outcome, SysResult, call, optional};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::signal::{Action, AltStack, MaskChange, SigInfo, Signals};

/// Size of the kernel's `sigset_t`, which every call is told.
const SIGSET: u64 = 8;

fn check_size(size: u64) -> Result<(), Errno> {
    if size == SIGSET { Ok(()) } else { Err(Errno(libc::EINVAL)) }
}

pub(super) fn rt_sigaction(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, new, old, size, ..] = args.0;
    check_size(size)?;
    let action = optional::<Action>(guest, new)?;
    let previous = guest.signals.set_action(args.int(0), action)?;
    if action.is_some() {
        guest.engine.set_precise(guest.signals.needs_precision());
    }
    if old != 0 {
        guest.memory.write(old, &previous)?;
    }
    Ok(0)
}

pub(super) fn rt_sigprocmask(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, new, old, size, ..] = args.0;
    check_size(size)?;
    let mut previous = guest.signals.mask();
    if let Some(set) = optional::<u64>(guest, new)? {
        let change = match args.int(0) {
            libc::SIG_BLOCK => MaskChange::Block,
            libc::SIG_UNBLOCK => MaskChange::Unblock,
            libc::SIG_SETMASK => MaskChange::Set,
            _ => return Err(Errno(libc::EINVAL)),
        };
        previous = guest.signals.change_mask(change, set, &mut guest.state);
    }
    if old != 0 {
        guest.memory.write(old, &previous)?;
    }
    Ok(0)
}

pub(super) fn rt_sigpending(guest: &mut Guest, args: &Args) -> SysResult {
    let [set, size, ..] = args.0;
    // This call alone takes a shorter set (kernel/signal.c).
    if size > SIGSET {
        return Err(Errno(libc::EINVAL));
    }
    let pending = (guest.signals.pending() & guest.signals.mask()).to_le_bytes();
    guest.memory.write_guest(set, &pending[..size as usize])?;
    Ok(0)
}

pub(super) fn rt_sigtimedwait(guest: &mut Guest, args: &Args) -> SysResult {
    let [set, info, timeout, size, ..] = args.0;
    check_size(size)?;
    let set = guest.memory.read::<u64>(set)?;
    let taken = match guest.signals.take_pending(set) {
        Some(taken) => taken,
        None => wait_on_host(guest, set, timeout)?,
    };
    if info != 0 {
        guest.memory.write(info, &taken)?;
    }
    Ok(taken.signal() as u64)
}

fn wait_on_host(guest: &Guest, set: u64, timeout: u64) -> Result<SigInfo, Errno> {
    let set = Signals::host_mask(set);
    let mut taken = SigInfo([0; 128]);
    let (set, place) = (&raw const set as u64, &raw mut taken as u64);
    call(guest, HostSysno::rt_sigtimedwait, [set, place, timeout, SIGSET, 0, 0])?;
    Ok(taken)
}

pub(super) fn rt_sigsuspend(guest: &mut Guest, args: &Args) -> SysResult {
    let [mask, size, ..] = args.0;
    check_size(size)?;
    let mask = guest.memory.read::<u64>(mask)?;
    guest.signals.begin_temporary_mask(mask);
    let mask = Signals::host_mask(mask);
    call(guest, HostSysno::rt_sigsuspend, [&raw const mask as u64, SIGSET, 0, 0, 0, 0])
}

pub(super) fn sigaltstack(guest: &mut Guest, args: &Args) -> SysResult {
    let [new, old, ..] = args.0;
    let stack = optional::<AltStack>(guest, new)?;
    let previous = guest.signals.set_altstack(stack, guest.state.gpr[RSP])?;
    if old != 0 {
        guest.memory.write(old, &previous)?;
    }
    Ok(0)
}

pub(super) fn rt_sigreturn(guest: &mut Guest, _: &Args) -> Outcome {
    if let Some(fault) = guest.signals.sigreturn(&mut guest.state, &guest.memory) {
        guest.fault(fault);
    }
    Outcome::RegistersReplaced
}

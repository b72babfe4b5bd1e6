//! The vsyscall page: three functions at addresses that old programs have built in. No page is there; a call of it is
//! emulated, as Linux does it by default (arch/x86/entry/vsyscall/vsyscall_64.c, vsyscall=xonly).

use syscalls::Sysno as HostSysno;
use xlate_abi::state::{RAX, RDI, RDX, RSI, RSP};

use super::{Args, SysResult, call, time};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::signal::Fault;

/// The page's only line in /proc/self/maps.
pub(super) const MAPS_LINE: &str =
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

const GETTIMEOFDAY: u64 = 0xffff_ffff_ff60_0000;
const TIME: u64 = 0xffff_ffff_ff60_0400;
const GETCPU: u64 = 0xffff_ffff_ff60_0800;

/// Carries out the function that `rip` is the entry of, with its return. `None` if it is none, or the fault that it
/// raises instead.
pub fn emulate(guest: &mut Guest) -> Option<Result<(), Fault>> {
    let r = guest.state.gpr;
    let args = Args([r[RDI], r[RSI], r[RDX], 0, 0, 0]);
    let function: fn(&mut Guest, &Args) -> SysResult = match guest.state.rip {
        GETTIMEOFDAY => |guest, args| call(guest, HostSysno::gettimeofday, args.0),
        TIME => time::time,
        GETCPU => |guest, args| call(guest, HostSysno::getcpu, args.0),
        _ => return None,
    };
    // The return address comes first: without one, nothing happens.
    let Ok(caller) = guest.memory.read::<u64>(r[RSP]) else {
        return Some(Err(Fault::write(r[RSP])));
    };
    match function(guest, &args) {
        Err(super::NOT_BEGUN) => return Some(Ok(())),
        Err(Errno(libc::EFAULT)) => return Some(Err(Fault::write(bad_pointer(guest, &args)))),
        Err(error) => guest.state.gpr[RAX] = error.to_result() as u64,
        Ok(value) => guest.state.gpr[RAX] = value,
    }
    guest.state.rip = caller;
    guest.state.gpr[RSP] = r[RSP].wrapping_add(8);
    Some(Ok(()))
}

/// The first pointer that can't be written through.
fn bad_pointer(guest: &Guest, args: &Args) -> u64 {
    let writable = |at: u64| guest.memory.protection(at).is_some_and(|prot| prot & libc::PROT_WRITE != 0);
    args.0[..2].iter().copied().find(|at| *at != 0 && !writable(*at)).unwrap_or(args.0[0])
}

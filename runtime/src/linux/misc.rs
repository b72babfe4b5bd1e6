//! What the system says of itself, and System V semaphores' differing layout.

use syscalls::Sysno as HostSysno;

use super::convert::{SemidGeneric, SemidX86};
use super::{Args, SysResult, call, call_now, writes};
use crate::guest::Guest;

/// Length of each of the six strings of `struct new_utsname`.
const NAME: usize = 65;
/// Which of them is the machine.
const MACHINE: usize = 4;

pub(super) fn uname(guest: &mut Guest, args: &Args) -> SysResult {
    let mut names = [[0u8; NAME]; 6];
    call_now(HostSysno::uname, [names.as_mut_ptr() as u64, 0, 0, 0, 0, 0])?;
    names[MACHINE] = [0; NAME];
    names[MACHINE][..6].copy_from_slice(b"x86_64");
    guest.memory.write(args.0[0], &names)?;
    Ok(0)
}

/// io_submit(2): files that are read past the page cache are read by devices, when nobody tells.
pub(super) fn io_submit(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, count, list, ..] = args.0;
    for [start, len] in writes::submitted(&guest.memory, count, list) {
        guest.expect_writes(start, len);
    }
    call(guest, HostSysno::io_submit, args.0)
}

/// semctl(2): `semid64_ds` differs, and is passed by these commands (include/uapi/linux/sem.h).
pub(super) fn semctl(guest: &mut Guest, args: &Args) -> SysResult {
    const IPC_SET: i32 = 1;
    const IPC_STAT: i32 = 2;
    const SEM_STAT: i32 = 18;
    const SEM_STAT_ANY: i32 = 20;
    let [id, index, command, buffer, ..] = args.0;
    match args.int(2) {
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let mut status = SemidGeneric::default();
            let place = &raw mut status as u64;
            let result = call(guest, HostSysno::semctl, [id, index, command, place, 0, 0])?;
            guest.memory.write(buffer, &SemidX86::from(&status))?;
            Ok(result)
        }
        IPC_SET => {
            let status = SemidGeneric::from(&guest.memory.read::<SemidX86>(buffer)?);
            let place = &raw const status as u64;
            call(guest, HostSysno::semctl, [id, index, command, place, 0, 0])
        }
        _ => call(guest, HostSysno::semctl, args.0),
    }
}

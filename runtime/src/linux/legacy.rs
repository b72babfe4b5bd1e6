//! `int 0x80`: the system calls of 32-bit programs, which 64-bit ones can make as well (arch/x86/entry/entry_64_compat.S).
//!
//! Numbers and argument registers are the 32-bit kernel's, arguments have 32 bits. A call is served as its 64-bit namesake
//! where no argument is a structure that 32-bit programs lay out in another way; all others fail with ENOSYS, and a message
//! gives the number.

use syscalls::x86_64::Sysno;
use xlate_abi::state::{RBP, RBX, RCX, RDI, RDX, RSI};

use super::Args;
use crate::guest::Guest;

/// How a 32-bit argument becomes a 64-bit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Widen {
    /// All are unsigned, or the 64-bit call takes 32 bits of them by itself.
    Unsigned,
    /// Argument `n` is a `long`.
    Signed(usize),
    /// Arguments `n` and `n + 1` are the two halves of one.
    Pair(usize),
    /// The arguments of mmap(2); argument `n` is an offset in units of 4,096 bytes.
    Pages(usize),
    /// The arguments of clone(2): the last two are swapped.
    Clone,
    /// Without arguments: what the 64-bit call has besides is zero.
    None,
}

/// The call's 64-bit number and its arguments; none for calls that aren't there.
pub fn call(guest: &Guest) -> Option<(u32, Args)> {
    let gpr = &guest.state.gpr;
    let number = gpr[xlate_abi::state::RAX] as u32;
    let (call, widen) = row(number)?;
    let args = [RBX, RCX, RDX, RSI, RDI, RBP].map(|r| gpr[r] & 0xffff_ffff);
    Some((call.id() as u32, Args(widened(widen, args))))
}

fn widened(widen: Widen, mut args: [u64; 6]) -> [u64; 6] {
    match widen {
        Widen::Unsigned => {}
        Widen::Signed(n) => args[n] = i64::from(args[n] as i32) as u64,
        Widen::Pair(n) => {
            args[n] |= args[n + 1] << 32;
            args.copy_within(n + 2.., n + 1);
            args[5] = 0;
        }
        Widen::Pages(n) => {
            const MAP_32BIT: u64 = 0x40;
            args[n] <<= 12;
            // What is mapped has to have an address that fits a 32-bit register.
            args[3] |= MAP_32BIT;
        }
        Widen::Clone => args.swap(3, 4),
        Widen::None => args = [0; 6],
    }
    args
}

/// The 64-bit call for a 32-bit number (arch/x86/entry/syscalls/syscall_32.tbl).
fn row(number: u32) -> Option<(Sysno, Widen)> {
    use Sysno::*;
    let plain = |call| Some((call, Widen::Unsigned));
    match number {
        1 => plain(exit),
        2 => Some((fork, Widen::None)),
        3 => plain(read),
        4 => plain(write),
        5 => plain(open),
        6 => plain(close),
        8 => plain(creat),
        9 => plain(link),
        10 => plain(unlink),
        12 => plain(chdir),
        14 => plain(mknod),
        15 => plain(chmod),
        19 => Some((lseek, Widen::Signed(1))),
        20 => Some((getpid, Widen::None)),
        24 => Some((getuid, Widen::None)),
        27 => plain(alarm),
        29 => Some((pause, Widen::None)),
        33 => plain(access),
        36 => Some((sync, Widen::None)),
        37 => plain(kill),
        38 => plain(rename),
        39 => plain(mkdir),
        40 => plain(rmdir),
        41 => plain(dup),
        42 => plain(pipe),
        45 => plain(brk),
        47 => Some((getgid, Widen::None)),
        49 => Some((geteuid, Widen::None)),
        50 => Some((getegid, Widen::None)),
        57 => plain(setpgid),
        60 => plain(umask),
        61 => plain(chroot),
        63 => plain(dup2),
        64 => Some((getppid, Widen::None)),
        65 => Some((getpgrp, Widen::None)),
        66 => Some((setsid, Widen::None)),
        74 => plain(sethostname),
        83 => plain(symlink),
        85 => plain(readlink),
        91 => plain(munmap),
        92 => Some((truncate, Widen::Signed(1))),
        93 => Some((ftruncate, Widen::Signed(1))),
        94 => plain(fchmod),
        96 => plain(getpriority),
        97 => plain(setpriority),
        103 => plain(syslog),
        118 => plain(fsync),
        120 => Some((clone, Widen::Clone)),
        125 => plain(mprotect),
        132 => plain(getpgid),
        133 => plain(fchdir),
        143 => plain(flock),
        144 => plain(msync),
        147 => plain(getsid),
        148 => plain(fdatasync),
        150 => plain(mlock),
        151 => plain(munlock),
        152 => plain(mlockall),
        153 => Some((munlockall, Widen::None)),
        157 => plain(sched_getscheduler),
        158 => Some((sched_yield, Widen::None)),
        159 => plain(sched_get_priority_max),
        160 => plain(sched_get_priority_min),
        // struct pollfd has no pointers.
        168 => Some((poll, Widen::Signed(2))),
        172 => plain(prctl),
        180 => Some((pread64, Widen::Pair(3))),
        181 => Some((pwrite64, Widen::Pair(3))),
        183 => plain(getcwd),
        190 => Some((vfork, Widen::None)),
        192 => Some((mmap, Widen::Pages(5))),
        193 => Some((truncate, Widen::Pair(1))),
        194 => Some((ftruncate, Widen::Pair(1))),
        198 => plain(lchown),
        199 => Some((getuid, Widen::None)),
        200 => Some((getgid, Widen::None)),
        201 => Some((geteuid, Widen::None)),
        202 => Some((getegid, Widen::None)),
        203 => plain(setreuid),
        204 => plain(setregid),
        207 => plain(fchown),
        208 => plain(setresuid),
        210 => plain(setresgid),
        212 => plain(chown),
        213 => plain(setuid),
        214 => plain(setgid),
        218 => plain(mincore),
        219 => plain(madvise),
        224 => Some((gettid, Widen::None)),
        238 => plain(tkill),
        252 => plain(exit_group),
        254 => plain(epoll_create),
        258 => plain(set_tid_address),
        270 => plain(tgkill),
        291 => Some((inotify_init, Widen::None)),
        292 => plain(inotify_add_watch),
        293 => plain(inotify_rm_watch),
        295 => plain(openat),
        296 => plain(mkdirat),
        297 => plain(mknodat),
        298 => plain(fchownat),
        301 => plain(unlinkat),
        302 => plain(renameat),
        303 => plain(linkat),
        304 => plain(symlinkat),
        305 => plain(readlinkat),
        306 => plain(fchmodat),
        307 => plain(faccessat),
        310 => plain(unshare),
        318 => plain(getcpu),
        323 => plain(eventfd),
        328 => plain(eventfd2),
        329 => plain(epoll_create1),
        330 => plain(dup3),
        331 => plain(pipe2),
        332 => plain(inotify_init1),
        344 => plain(syncfs),
        353 => plain(renameat2),
        355 => plain(getrandom),
        356 => plain(memfd_create),
        375 => plain(membarrier),
        436 => plain(close_range),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_those_of_the_64_bit_call() {
        let args = [1, 0xffff_ffff, 2, 3, 4, 5];
        assert_eq!(widened(Widen::Unsigned, args), args);
        assert_eq!(widened(Widen::Signed(1), args), [1, u64::MAX, 2, 3, 4, 5]);
        assert_eq!(widened(Widen::Pair(3), args), [1, 0xffff_ffff, 2, 4 << 32 | 3, 5, 0]);
        assert_eq!(widened(Widen::Pages(5), args)[5], 5 << 12);
        assert_eq!(widened(Widen::Clone, args), [1, 0xffff_ffff, 2, 4, 3, 5]);
    }

    #[test]
    fn numbers_are_those_of_the_32_bit_table() {
        for (number, call) in [(1, Sysno::exit), (20, Sysno::getpid), (192, Sysno::mmap), (252, Sysno::exit_group)] {
            assert_eq!(row(number).map(|(call, _)| call), Some(call));
        }
        // stat(2) has a structure, and beyond the table there is nothing.
        assert!(row(106).is_none() && row(9999).is_none());
    }
}

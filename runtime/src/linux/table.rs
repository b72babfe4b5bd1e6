//! The table of system calls: one row a call, with how it is served.
//!
//! A call that takes the same arguments, with the same layouts and the same meaning, on x86-64 and AArch64 is
//! `pass!`ed to the host kernel as it is. One that only exists, or only looks, this way on x86-64 is `native!`:
//! passed on an x86-64 host, given to its handler on AArch64. `emulate!` has a handler on both. `refuse!` fails
//! on purpose, with the error of a kernel configured without the feature, and says why.
//! Each row also states what is written to guest memory ([`super::writes`]): `NONE` where nothing is.
//! A call without a row isn't supported: it is named in a warning, and fails with ENOSYS.

use syscalls::x86_64::Sysno;

use super::writes::{self, NONE, Write, array, bits, bytes, fixed, size, sized, special, vector};
use super::{Args, Outcome, SysResult};
use super::{
    cpu_time, descriptors, exec, foreign, fs, limits, memory, memory_files, misc, paths, poll, process, signal, time,
};
use crate::errno::Errno;
use crate::guest::Guest;
use syscalls::Sysno as HostSysno;

/// A handler that computes the call's result.
pub type Handler = fn(&mut Guest, &Args) -> SysResult;
/// A handler that decides by itself how the guest goes on.
pub type ControlHandler = fn(&mut Guest, &Args) -> Outcome;

/// How a call is served.
#[derive(Clone, Copy)]
pub enum How {
    /// By the host kernel, with the guest's arguments.
    Pass(HostSysno),
    /// By the runtime.
    Call(Handler),
    /// By the runtime, which also writes the registers (sigreturn) or never returns (exit).
    Control(ControlHandler),
    /// By this error.
    Refuse(Errno),
}

/// What becomes of a call that a signal interrupted and whose handler was installed with SA_RESTART
/// (signal(7), "Interruption of system calls and library functions by signal handlers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is made again.
    Automatic,
    /// It fails with EINTR all the same.
    Never,
    /// It is made again unless the socket that it receives from has a timeout (SO_RCVTIMEO).
    UnlessReceiveTimeout,
    /// Likewise for sending (SO_SNDTIMEO).
    UnlessSendTimeout,
    /// It is made again unless it has a timeout of its own as fourth argument.
    UnlessTimeout,
}

/// One system call.
pub struct Row {
    pub number: Sysno,
    /// Number of arguments, for the log.
    pub args: u8,
    /// What the kernel, or the handler, writes to guest memory.
    pub writes: &'static [Write],
    /// Bit N is set when argument N is a file descriptor: the runtime's own aren't there for the guest.
    pub descriptors: u8,
    /// Bit N is set when argument N is a process number (or a group's, or a session's), for `Pass` only.
    pub pids: u8,
    /// The result is a new descriptor.
    pub opens: bool,
    /// The result is a process number, for `Pass` only.
    pub returns_pid: bool,
    pub restart: Restart,
    pub how: How,
}

const ROW: Row = Row {
    number: Sysno::read,
    args: 0,
    writes: NONE,
    descriptors: 0,
    pids: 0,
    opens: false,
    returns_pid: false,
    restart: Restart::Automatic,
    how: How::Refuse(Errno(libc::ENOSYS)),
};

/// First argument is a descriptor; second; and so on.
const FD0: u8 = 1;
const FD1: u8 = 2;
const FD2: u8 = 4;
const FD4: u8 = 16;
/// First argument is a process number, or second.
const PID0: u8 = 1;
const PID1: u8 = 2;

macro_rules! pass {
    ($name:ident, $args:literal, $writes:expr $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, writes: $writes, how: How::Pass(HostSysno::$name), $($key: $value,)* ..ROW }
    };
}

macro_rules! native {
    ($name:ident, $args:literal, $writes:expr, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row {
            number: Sysno::$name,
            args: $args,
            writes: $writes,
            how: {
                // Named on both hosts, so that both compile it.
                let _on_aarch64: Handler = $handler;
                #[cfg(target_arch = "x86_64")]
                {
                    How::Pass(HostSysno::$name)
                }
                #[cfg(target_arch = "aarch64")]
                {
                    How::Call(_on_aarch64)
                }
            },
            $($key: $value,)*
            ..ROW
        }
    };
}

macro_rules! emulate {
    ($name:ident, $args:literal, $writes:expr, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, writes: $writes, how: How::Call($handler), $($key: $value,)* ..ROW }
    };
}

macro_rules! control {
    ($name:ident, $args:literal, $writes:expr, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, writes: $writes, how: How::Control($handler), $($key: $value,)* ..ROW }
    };
}

macro_rules! refuse {
    ($name:ident, $args:literal, $errno:ident) => {
        Row { number: Sysno::$name, args: $args, how: How::Refuse(Errno(libc::$errno)), ..ROW }
    };
}

/// All calls that are served.
pub static TABLE: &[Row] = &[
    // Reading and writing.
    pass!(read, 3, &[bytes(1, 2)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    emulate!(write, 3, NONE, memory_files::write, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(pread64, 4, &[bytes(1, 2)], descriptors: FD0),
    emulate!(pwrite64, 4, NONE, memory_files::pwrite64, descriptors: FD0),
    pass!(readv, 3, &[vector(1, 2)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    emulate!(writev, 3, NONE, memory_files::writev, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(preadv, 5, &[vector(1, 2)], descriptors: FD0),
    emulate!(pwritev, 5, NONE, memory_files::pwritev, descriptors: FD0),
    pass!(preadv2, 6, &[vector(1, 2)], descriptors: FD0),
    emulate!(pwritev2, 6, NONE, memory_files::pwritev2, descriptors: FD0),
    emulate!(lseek, 3, NONE, memory_files::lseek, descriptors: FD0),
    pass!(sendfile, 4, &[fixed(2, size::LONG)], descriptors: FD0 | FD1),
    pass!(splice, 6, &[fixed(1, size::LONG), fixed(3, size::LONG)], descriptors: FD0 | FD2),
    pass!(tee, 4, NONE, descriptors: FD0 | FD1),
    pass!(vmsplice, 4, &[vector(1, 2)], descriptors: FD0),
    pass!(copy_file_range, 6, &[fixed(1, size::LONG), fixed(3, size::LONG)], descriptors: FD0 | FD2),
    pass!(readahead, 3, NONE, descriptors: FD0),
    pass!(fadvise64, 4, NONE, descriptors: FD0),
    emulate!(fallocate, 4, NONE, fs::fallocate, descriptors: FD0),
    pass!(fsync, 1, NONE, descriptors: FD0),
    pass!(fdatasync, 1, NONE, descriptors: FD0),
    pass!(syncfs, 1, NONE, descriptors: FD0),
    pass!(sync_file_range, 4, NONE, descriptors: FD0),
    pass!(sync, 0, NONE),
    emulate!(ftruncate, 2, NONE, fs::ftruncate, descriptors: FD0),
    emulate!(truncate, 2, NONE, fs::truncate),
    pass!(cachestat, 4, &[fixed(2, size::CACHESTAT)], descriptors: FD0),
    // Descriptors.
    emulate!(close, 1, NONE, descriptors::close, descriptors: FD0),
    emulate!(close_range, 3, NONE, descriptors::close_range),
    pass!(dup, 1, NONE, descriptors: FD0, opens: true),
    emulate!(dup2, 2, NONE, descriptors::dup2, descriptors: FD0),
    emulate!(dup3, 3, NONE, descriptors::dup3, descriptors: FD0),
    emulate!(fcntl, 3, &[special(writes::fcntl)], descriptors::fcntl, descriptors: FD0, opens: true),
    pass!(flock, 2, NONE, descriptors: FD0),
    pass!(ioctl, 3, &[special(writes::ioctl)], descriptors: FD0),
    native!(pipe, 1, &[fixed(0, size::TWO_INTS)], descriptors::pipe),
    native!(pipe2, 2, &[fixed(0, size::TWO_INTS)], descriptors::pipe2),
    native!(eventfd, 1, NONE, descriptors::eventfd, opens: true),
    pass!(eventfd2, 2, NONE, opens: true),
    native!(signalfd, 3, NONE, descriptors::signalfd, opens: true),
    pass!(signalfd4, 4, NONE, opens: true),
    pass!(memfd_create, 2, NONE, opens: true),
    pass!(memfd_secret, 1, NONE, opens: true),
    native!(inotify_init, 0, NONE, descriptors::inotify_init, opens: true),
    pass!(inotify_init1, 1, NONE, opens: true),
    pass!(inotify_add_watch, 3, NONE, descriptors: FD0),
    pass!(inotify_rm_watch, 2, NONE, descriptors: FD0),
    native!(fanotify_init, 2, NONE, descriptors::fanotify_init, opens: true),
    pass!(fanotify_mark, 5, NONE, descriptors: FD0),
    // Files by name. Those that open or look at a file go through `paths`, for /proc/self and its like.
    emulate!(open, 3, NONE, fs::open, opens: true),
    emulate!(openat, 4, NONE, fs::openat, descriptors: FD0, opens: true),
    emulate!(openat2, 4, NONE, fs::openat2, descriptors: FD0, opens: true),
    emulate!(creat, 2, NONE, fs::creat, opens: true),
    pass!(name_to_handle_at, 5, &[fixed(2, size::FILE_HANDLE), fixed(3, size::LONG)], descriptors: FD0),
    native!(open_by_handle_at, 3, NONE, fs::open_by_handle_at, descriptors: FD0, opens: true),
    emulate!(stat, 2, &[fixed(1, size::STAT)], fs::stat),
    emulate!(lstat, 2, &[fixed(1, size::STAT)], fs::lstat),
    native!(fstat, 2, &[fixed(1, size::STAT)], fs::fstat, descriptors: FD0),
    emulate!(newfstatat, 4, &[fixed(2, size::STAT)], fs::newfstatat, descriptors: FD0),
    emulate!(statx, 5, &[fixed(4, size::STATX)], fs::statx, descriptors: FD0),
    emulate!(access, 2, NONE, fs::access),
    emulate!(faccessat, 3, NONE, fs::faccessat, descriptors: FD0),
    emulate!(faccessat2, 4, NONE, fs::faccessat2, descriptors: FD0),
    emulate!(readlink, 3, &[bytes(1, 2)], fs::readlink),
    emulate!(readlinkat, 4, &[bytes(2, 3)], fs::readlinkat, descriptors: FD0),
    pass!(statfs, 2, &[fixed(1, size::STATFS)]),
    pass!(fstatfs, 2, &[fixed(1, size::STATFS)], descriptors: FD0),
    emulate!(getdents64, 3, &[bytes(1, 2)], descriptors::getdents64, descriptors: FD0),
    emulate!(getdents, 3, &[bytes(1, 2)], fs::getdents, descriptors: FD0),
    pass!(getcwd, 2, &[bytes(0, 1)]),
    emulate!(chdir, 1, NONE, paths::chdir),
    pass!(fchdir, 1, NONE, descriptors: FD0),
    pass!(chroot, 1, NONE),
    native!(mkdir, 2, NONE, fs::mkdir),
    pass!(mkdirat, 3, NONE, descriptors: FD0),
    native!(rmdir, 1, NONE, fs::rmdir),
    native!(mknod, 3, NONE, fs::mknod),
    pass!(mknodat, 4, NONE, descriptors: FD0),
    native!(link, 2, NONE, fs::link),
    pass!(linkat, 5, NONE, descriptors: FD0 | FD2),
    native!(symlink, 2, NONE, fs::symlink),
    pass!(symlinkat, 3, NONE, descriptors: FD1),
    native!(unlink, 1, NONE, fs::unlink),
    pass!(unlinkat, 3, NONE, descriptors: FD0),
    native!(rename, 2, NONE, fs::rename),
    pass!(renameat, 4, NONE, descriptors: FD0 | FD2),
    pass!(renameat2, 5, NONE, descriptors: FD0 | FD2),
    native!(chmod, 2, NONE, fs::chmod),
    pass!(fchmod, 2, NONE, descriptors: FD0),
    pass!(fchmodat, 3, NONE, descriptors: FD0),
    pass!(fchmodat2, 4, NONE, descriptors: FD0),
    native!(chown, 3, NONE, fs::chown),
    native!(lchown, 3, NONE, fs::lchown),
    pass!(fchown, 3, NONE, descriptors: FD0),
    pass!(fchownat, 5, NONE, descriptors: FD0),
    pass!(umask, 1, NONE),
    native!(utime, 2, NONE, time::utime),
    native!(utimes, 2, NONE, time::utimes),
    native!(futimesat, 3, NONE, time::futimesat, descriptors: FD0),
    pass!(utimensat, 4, NONE, descriptors: FD0),
    pass!(setxattr, 5, NONE),
    pass!(lsetxattr, 5, NONE),
    pass!(fsetxattr, 5, NONE, descriptors: FD0),
    pass!(getxattr, 4, &[bytes(2, 3)]),
    pass!(lgetxattr, 4, &[bytes(2, 3)]),
    pass!(fgetxattr, 4, &[bytes(2, 3)], descriptors: FD0),
    pass!(listxattr, 3, &[bytes(1, 2)]),
    pass!(llistxattr, 3, &[bytes(1, 2)]),
    pass!(flistxattr, 3, &[bytes(1, 2)], descriptors: FD0),
    pass!(removexattr, 2, NONE),
    pass!(lremovexattr, 2, NONE),
    pass!(fremovexattr, 2, NONE, descriptors: FD0),
    pass!(setxattrat, 6, NONE, descriptors: FD0),
    pass!(getxattrat, 6, &[special(writes::getxattrat)], descriptors: FD0),
    pass!(listxattrat, 5, &[bytes(3, 4)], descriptors: FD0),
    pass!(removexattrat, 4, NONE, descriptors: FD0),
    pass!(mount, 5, NONE),
    pass!(umount2, 2, NONE),
    pass!(pivot_root, 2, NONE),
    pass!(open_tree, 3, NONE, descriptors: FD0, opens: true),
    pass!(move_mount, 5, NONE, descriptors: FD0 | FD2),
    pass!(fsopen, 2, NONE, opens: true),
    pass!(fsconfig, 5, NONE, descriptors: FD0),
    pass!(fsmount, 3, NONE, descriptors: FD0, opens: true),
    pass!(fspick, 3, NONE, descriptors: FD0, opens: true),
    pass!(mount_setattr, 5, NONE, descriptors: FD0),
    pass!(quotactl, 4, &[fixed(3, size::QUOTA)]),
    pass!(quotactl_fd, 4, &[fixed(3, size::QUOTA)], descriptors: FD0),
    pass!(landlock_create_ruleset, 3, NONE),
    pass!(landlock_add_rule, 4, NONE, descriptors: FD0),
    pass!(landlock_restrict_self, 2, NONE, descriptors: FD0),
    // Waiting for descriptors.
    native!(poll, 3, &[array(0, 1, size::POLLFD)], poll::poll, restart: Restart::Never),
    emulate!(ppoll, 5, &[array(0, 1, size::POLLFD), fixed(2, size::TIMESPEC)], poll::ppoll, restart: Restart::Never),
    native!(select, 5, &[bits(1, 0), bits(2, 0), bits(3, 0), fixed(4, size::TIMEVAL)], poll::select, restart: Restart::Never),
    emulate!(pselect6, 6, &[bits(1, 0), bits(2, 0), bits(3, 0), fixed(4, size::TIMESPEC)], poll::pselect6, restart: Restart::Never),
    native!(epoll_create, 1, NONE, poll::epoll_create, opens: true),
    pass!(epoll_create1, 1, NONE, opens: true),
    native!(epoll_ctl, 4, NONE, poll::epoll_ctl, descriptors: FD0 | FD2),
    native!(epoll_wait, 4, &[array(1, 2, size::EPOLL_EVENT)], poll::epoll_wait, descriptors: FD0, restart: Restart::Never),
    emulate!(epoll_pwait, 6, &[array(1, 2, size::EPOLL_EVENT)], poll::epoll_pwait, descriptors: FD0, restart: Restart::Never),
    emulate!(epoll_pwait2, 6, &[array(1, 2, size::EPOLL_EVENT)], poll::epoll_pwait2, descriptors: FD0, restart: Restart::Never),
    // Sockets.
    pass!(socket, 3, NONE, opens: true),
    pass!(socketpair, 4, &[fixed(3, size::TWO_INTS)]),
    pass!(bind, 3, NONE, descriptors: FD0),
    pass!(listen, 2, NONE, descriptors: FD0),
    pass!(connect, 3, NONE, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(accept, 3, &[sized(1, 2)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout, opens: true),
    pass!(accept4, 4, &[sized(1, 2)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout, opens: true),
    pass!(getsockname, 3, &[sized(1, 2)], descriptors: FD0),
    pass!(getpeername, 3, &[sized(1, 2)], descriptors: FD0),
    pass!(sendto, 6, NONE, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvfrom, 6, &[bytes(1, 2), sized(4, 5)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(sendmsg, 3, NONE, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvmsg, 3, &[special(writes::recvmsg)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(sendmmsg, 4, &[array(1, 2, size::MMSGHDR)], descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvmmsg, 5, &[special(writes::recvmmsg), fixed(4, size::TIMESPEC)], descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(setsockopt, 5, NONE, descriptors: FD0),
    pass!(getsockopt, 5, &[special(writes::getsockopt)], descriptors: FD0),
    pass!(shutdown, 2, NONE, descriptors: FD0),
    // Memory.
    emulate!(brk, 1, NONE, memory::brk),
    emulate!(mmap, 6, NONE, memory::mmap, descriptors: FD4),
    emulate!(munmap, 2, NONE, memory::munmap),
    emulate!(mprotect, 3, NONE, memory::mprotect),
    emulate!(pkey_mprotect, 4, NONE, memory::pkey_mprotect),
    emulate!(mremap, 5, NONE, memory::mremap),
    emulate!(madvise, 3, &[special(writes::madvise)], memory::madvise),
    emulate!(shmat, 3, NONE, memory::shmat),
    emulate!(shmdt, 1, NONE, memory::shmdt),
    pass!(msync, 3, NONE),
    pass!(mincore, 3, &[special(writes::mincore)]),
    emulate!(mlock, 2, NONE, memory::mlock),
    emulate!(mlock2, 3, NONE, memory::mlock2),
    emulate!(munlock, 2, NONE, memory::munlock),
    emulate!(munlockall, 0, NONE, memory::munlockall),
    emulate!(mlockall, 1, NONE, memory::mlockall),
    // Protection keys are announced by CPUID only where they are implemented; ENOSPC is "no key is free".
    refuse!(pkey_alloc, 2, ENOSPC),
    refuse!(pkey_free, 1, EINVAL),
    pass!(mbind, 6, NONE),
    pass!(get_mempolicy, 5, &[fixed(0, size::INT), bits(1, 2)]),
    pass!(set_mempolicy, 3, NONE),
    pass!(set_mempolicy_home_node, 4, NONE),
    pass!(migrate_pages, 4, NONE),
    pass!(move_pages, 6, &[array(4, 1, size::INT)]),
    // Processes and programs.
    control!(exit, 1, NONE, process::exit),
    control!(exit_group, 1, NONE, process::exit),
    emulate!(fork, 0, NONE, process::fork),
    emulate!(vfork, 0, NONE, process::vfork),
    emulate!(clone, 5, &[fixed(2, size::INT), fixed(3, size::INT)], process::clone),
    emulate!(clone3, 2, &[special(writes::clone3)], process::clone3),
    emulate!(execve, 3, NONE, exec::execve),
    emulate!(execveat, 5, NONE, exec::execveat, descriptors: FD0),
    pass!(wait4, 4, &[fixed(1, size::INT), fixed(3, size::RUSAGE)], pids: PID0),
    emulate!(waitid, 5, &[fixed(2, size::SIGINFO), fixed(4, size::RUSAGE)], process::waitid),
    pass!(getpid, 0, NONE, returns_pid: true),
    pass!(gettid, 0, NONE, returns_pid: true),
    pass!(getppid, 0, NONE, returns_pid: true),
    pass!(getpgid, 1, NONE, pids: PID0, returns_pid: true),
    emulate!(getpgrp, 0, NONE, process::getpgrp),
    pass!(setpgid, 2, NONE, pids: PID0 | PID1),
    pass!(getsid, 1, NONE, pids: PID0, returns_pid: true),
    pass!(setsid, 0, NONE, returns_pid: true),
    emulate!(set_tid_address, 1, NONE, process::set_tid_address),
    emulate!(set_robust_list, 2, NONE, process::set_robust_list),
    emulate!(get_robust_list, 3, &[fixed(1, size::LONG), fixed(2, size::LONG)], process::get_robust_list),
    // The kernel's rseq area would be registered for the runtime's thread and abort into guest code.
    refuse!(rseq, 4, ENOSYS),
    emulate!(arch_prctl, 2, &[special(writes::arch_prctl)], process::arch_prctl),
    emulate!(prctl, 5, &[special(writes::prctl)], process::prctl),
    emulate!(personality, 1, NONE, process::personality),
    pass!(pidfd_open, 2, NONE, pids: PID0, opens: true),
    pass!(pidfd_getfd, 3, NONE, descriptors: FD0, opens: true),
    pass!(pidfd_send_signal, 4, NONE, descriptors: FD0),
    pass!(process_vm_readv, 6, &[vector(1, 2)], pids: PID0),
    emulate!(process_vm_writev, 6, &[vector(3, 4)], foreign::process_vm_writev),
    emulate!(process_madvise, 5, &[vector(1, 2)], memory::process_madvise, descriptors: FD0),
    pass!(process_mrelease, 2, NONE, descriptors: FD0),
    pass!(kcmp, 5, NONE, pids: PID0 | PID1),
    pass!(futex, 6, &[special(writes::futex)], restart: Restart::UnlessTimeout),
    pass!(futex_waitv, 5, &[special(writes::futex_waitv)], restart: Restart::Never),
    pass!(membarrier, 3, NONE),
    pass!(unshare, 1, NONE),
    pass!(setns, 2, NONE, descriptors: FD0),
    // Ids and limits.
    pass!(getuid, 0, NONE),
    pass!(geteuid, 0, NONE),
    pass!(getgid, 0, NONE),
    pass!(getegid, 0, NONE),
    pass!(setuid, 1, NONE),
    pass!(setgid, 1, NONE),
    pass!(setreuid, 2, NONE),
    pass!(setregid, 2, NONE),
    pass!(setresuid, 3, NONE),
    pass!(setresgid, 3, NONE),
    pass!(getresuid, 3, &[fixed(0, size::INT), fixed(1, size::INT), fixed(2, size::INT)]),
    pass!(getresgid, 3, &[fixed(0, size::INT), fixed(1, size::INT), fixed(2, size::INT)]),
    pass!(setfsuid, 1, NONE),
    pass!(setfsgid, 1, NONE),
    pass!(getgroups, 2, &[array(1, 0, size::INT)]),
    pass!(setgroups, 2, NONE),
    pass!(capget, 2, &[fixed(0, size::CAP_HEADER), fixed(1, size::CAP_DATA)]),
    pass!(capset, 2, &[fixed(0, size::CAP_HEADER)]),
    emulate!(getrlimit, 2, &[fixed(1, size::RLIMIT)], limits::getrlimit),
    emulate!(setrlimit, 2, NONE, limits::setrlimit),
    emulate!(prlimit64, 4, &[fixed(3, size::RLIMIT)], limits::prlimit64),
    emulate!(getrusage, 2, &[fixed(1, size::RUSAGE)], cpu_time::getrusage),
    emulate!(times, 1, &[fixed(0, size::TMS)], cpu_time::times),
    pass!(getpriority, 2, NONE, pids: PID1),
    pass!(setpriority, 3, NONE, pids: PID1),
    pass!(ioprio_get, 2, NONE, pids: PID1),
    pass!(ioprio_set, 3, NONE, pids: PID1),
    pass!(acct, 1, NONE),
    // Scheduling.
    pass!(sched_yield, 0, NONE),
    pass!(sched_getaffinity, 3, &[bytes(2, 1)], pids: PID0),
    pass!(sched_setaffinity, 3, NONE, pids: PID0),
    pass!(sched_getparam, 2, &[fixed(1, size::INT)], pids: PID0),
    pass!(sched_setparam, 2, NONE, pids: PID0),
    pass!(sched_getscheduler, 1, NONE, pids: PID0),
    pass!(sched_setscheduler, 3, NONE, pids: PID0),
    pass!(sched_rr_get_interval, 2, &[fixed(1, size::TIMESPEC)], pids: PID0),
    pass!(sched_getattr, 4, &[bytes(1, 2)], pids: PID0),
    pass!(sched_setattr, 3, &[fixed(1, size::INT)], pids: PID0),
    pass!(sched_get_priority_max, 1, NONE),
    pass!(sched_get_priority_min, 1, NONE),
    pass!(getcpu, 3, &[fixed(0, size::INT), fixed(1, size::INT)]),
    // Signals.
    emulate!(rt_sigaction, 4, &[fixed(2, size::SIGACTION)], signal::rt_sigaction),
    emulate!(rt_sigprocmask, 4, &[fixed(2, size::SIGSET)], signal::rt_sigprocmask),
    emulate!(rt_sigpending, 2, &[bytes(0, 1)], signal::rt_sigpending),
    emulate!(rt_sigtimedwait, 4, &[fixed(1, size::SIGINFO)], signal::rt_sigtimedwait, restart: Restart::Never),
    emulate!(rt_sigsuspend, 2, NONE, signal::rt_sigsuspend, restart: Restart::Never),
    control!(rt_sigreturn, 0, NONE, signal::rt_sigreturn),
    emulate!(sigaltstack, 2, &[fixed(1, size::SIGALTSTACK)], signal::sigaltstack),
    pass!(kill, 2, NONE, pids: PID0),
    pass!(tkill, 2, NONE, pids: PID0),
    pass!(tgkill, 3, NONE, pids: PID0 | PID1),
    pass!(rt_sigqueueinfo, 3, NONE, pids: PID0),
    pass!(rt_tgsigqueueinfo, 4, NONE, pids: PID0 | PID1),
    native!(pause, 0, NONE, poll::pause, restart: Restart::Never),
    // Time.
    native!(time, 1, &[fixed(0, size::LONG)], time::time),
    pass!(gettimeofday, 2, &[fixed(0, size::TIMEVAL), fixed(1, size::TIMEZONE)]),
    pass!(settimeofday, 2, NONE),
    emulate!(clock_gettime, 2, &[fixed(1, size::TIMESPEC)], cpu_time::clock_gettime),
    pass!(clock_settime, 2, NONE),
    pass!(clock_getres, 2, &[fixed(1, size::TIMESPEC)]),
    pass!(clock_adjtime, 2, &[fixed(1, size::TIMEX)]),
    pass!(adjtimex, 1, &[fixed(0, size::TIMEX)]),
    pass!(nanosleep, 2, &[fixed(1, size::TIMESPEC)], restart: Restart::Never),
    pass!(clock_nanosleep, 4, &[fixed(3, size::TIMESPEC)], restart: Restart::Never),
    native!(alarm, 1, NONE, time::alarm),
    pass!(getitimer, 2, &[fixed(1, size::ITIMER)]),
    pass!(setitimer, 3, &[fixed(2, size::ITIMER)]),
    pass!(timer_create, 3, &[fixed(2, size::INT)]),
    pass!(timer_settime, 4, &[fixed(3, size::ITIMER)]),
    pass!(timer_gettime, 2, &[fixed(1, size::ITIMER)]),
    pass!(timer_getoverrun, 1, NONE),
    pass!(timer_delete, 1, NONE),
    pass!(timerfd_create, 2, NONE, opens: true),
    pass!(timerfd_settime, 4, &[fixed(3, size::ITIMER)], descriptors: FD0),
    pass!(timerfd_gettime, 2, &[fixed(1, size::ITIMER)], descriptors: FD0),
    // System V and POSIX interprocess communication.
    pass!(shmget, 3, NONE),
    pass!(shmctl, 3, &[fixed(2, size::IPC)]),
    pass!(semget, 3, NONE),
    pass!(semop, 3, NONE, restart: Restart::Never),
    pass!(semtimedop, 4, NONE, restart: Restart::Never),
    native!(semctl, 4, &[special(writes::semctl)], misc::semctl),
    pass!(msgget, 2, NONE),
    pass!(msgsnd, 4, NONE, restart: Restart::Never),
    pass!(msgrcv, 5, &[special(writes::msgrcv)], restart: Restart::Never),
    pass!(msgctl, 3, &[fixed(2, size::IPC)]),
    pass!(mq_open, 4, NONE, opens: true),
    pass!(mq_unlink, 1, NONE),
    pass!(mq_timedsend, 5, NONE, descriptors: FD0),
    pass!(mq_timedreceive, 5, &[bytes(1, 2), fixed(3, size::INT)], descriptors: FD0),
    pass!(mq_notify, 2, NONE, descriptors: FD0),
    pass!(mq_getsetattr, 3, &[fixed(2, size::MQ_ATTR)], descriptors: FD0),
    pass!(add_key, 5, NONE),
    pass!(request_key, 4, NONE),
    pass!(keyctl, 5, &[special(writes::keyctl)]),
    // Asynchronous input and output (the guest maps the ring itself; layouts agree).
    pass!(io_setup, 2, &[fixed(1, size::LONG)]),
    pass!(io_destroy, 1, NONE),
    emulate!(io_submit, 3, &[special(writes::io_submit)], misc::io_submit),
    pass!(io_cancel, 3, &[fixed(2, size::IO_EVENT)]),
    pass!(io_getevents, 5, &[array(3, 2, size::IO_EVENT)], restart: Restart::Never),
    // Its entries carry open flags, signal masks and descriptors past this table: answered as by a kernel
    // without it, for which every user has a fallback.
    refuse!(io_uring_setup, 2, ENOSYS),
    refuse!(io_uring_enter, 6, ENOSYS),
    refuse!(io_uring_register, 4, ENOSYS),
    // The system.
    native!(uname, 1, &[fixed(0, size::UTSNAME)], misc::uname),
    pass!(sysinfo, 1, &[fixed(0, size::SYSINFO)]),
    pass!(getrandom, 3, &[bytes(0, 1)]),
    pass!(syslog, 3, &[bytes(1, 2)]),
    pass!(sethostname, 2, NONE),
    pass!(setdomainname, 2, NONE),
    pass!(swapon, 2, NONE),
    pass!(swapoff, 1, NONE),
    pass!(vhangup, 0, NONE),
    // A filter sees the host's calls, the runtime's own among them, by the host's numbers.
    refuse!(seccomp, 3, EINVAL),
    // Nobody may be watched through a translator yet: registers, memory and calls would be the host's.
    refuse!(ptrace, 4, EPERM),
    refuse!(perf_event_open, 5, ENOSYS),
    refuse!(userfaultfd, 1, ENOSYS),
    refuse!(bpf, 3, EPERM),
    // Segments and ports: 64-bit programs of the last decades ask only to see them refused.
    refuse!(modify_ldt, 3, ENOSYS),
    refuse!(iopl, 1, EPERM),
    refuse!(ioperm, 3, EPERM),
];

/// Numbers above this one have no row.
const NUMBERS: usize = 480;
/// In `INDEX`: no row.
const ABSENT: u16 = u16::MAX;

static INDEX: [u16; NUMBERS] = index();

const fn index() -> [u16; NUMBERS] {
    let mut index = [ABSENT; NUMBERS];
    let mut row = 0;
    while row < TABLE.len() {
        let number = TABLE[row].number as usize;
        assert!(index[number] == ABSENT, "a system call has two rows");
        index[number] = row as u16;
        row += 1;
    }
    index
}

/// The row of an x86-64 system call number.
pub fn row(number: u32) -> Option<&'static Row> {
    let slot = *INDEX.get(number as usize)?;
    TABLE.get(usize::from(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_number() {
        assert_eq!(row(0).map(|r| r.number), Some(Sysno::read));
        assert_eq!(row(59).map(|r| r.number), Some(Sysno::execve));
        assert!(row(134).is_none(), "uselib isn't served");
        assert!(row(u32::MAX).is_none());
        assert!(row(NUMBERS as u32).is_none());
    }

    #[test]
    fn descriptor_arguments_exist() {
        for r in TABLE {
            assert!(r.args <= 6);
            assert_eq!(r.descriptors >> r.args, 0, "{}", r.number);
            assert_eq!(r.pids >> r.args, 0, "{}", r.number);
            let passed = matches!(r.how, How::Pass(_));
            assert!(passed || (r.pids == 0 && !r.returns_pid), "{}", r.number);
        }
    }
}

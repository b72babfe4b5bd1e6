//! The table of system calls: one row a call, with how it is served.
//!
//! A call that takes the same arguments, with the same layouts and the same meaning, on x86-64 and AArch64 is
//! `pass!`ed to the host kernel as it is. One that only exists, or only looks, this way on x86-64 is `native!`:
//! passed on an x86-64 host, given to its handler on AArch64. `emulate!` has a handler on both. `refuse!` fails
//! on purpose, with the error of a kernel configured without the feature, and says why.
//! A call without a row isn't supported: it is named in a warning, and fails with ENOSYS.

use syscalls::x86_64::Sysno;

use super::{Args, Outcome, SysResult};
use super::{cpu_time, descriptors, exec, fs, limits, memory, misc, paths, poll, process, signal, time};
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
    descriptors: 0,
    opens: false,
    pids: 0,
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
    ($name:ident, $args:literal $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, how: How::Pass(HostSysno::$name), $($key: $value,)* ..ROW }
    };
}

macro_rules! native {
    ($name:ident, $args:literal, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row {
            number: Sysno::$name,
            args: $args,
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
    ($name:ident, $args:literal, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, how: How::Call($handler), $($key: $value,)* ..ROW }
    };
}

macro_rules! control {
    ($name:ident, $args:literal, $handler:expr $(, $key:ident: $value:expr)*) => {
        Row { number: Sysno::$name, args: $args, how: How::Control($handler), $($key: $value,)* ..ROW }
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
    pass!(read, 3, descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(write, 3, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(pread64, 4, descriptors: FD0),
    pass!(pwrite64, 4, descriptors: FD0),
    pass!(readv, 3, descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(writev, 3, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(preadv, 5, descriptors: FD0),
    pass!(pwritev, 5, descriptors: FD0),
    pass!(preadv2, 6, descriptors: FD0),
    pass!(pwritev2, 6, descriptors: FD0),
    pass!(lseek, 3, descriptors: FD0),
    pass!(sendfile, 4, descriptors: FD0 | FD1),
    pass!(splice, 6, descriptors: FD0 | FD2),
    pass!(tee, 4, descriptors: FD0 | FD1),
    pass!(vmsplice, 4, descriptors: FD0),
    pass!(copy_file_range, 6, descriptors: FD0 | FD2),
    pass!(readahead, 3, descriptors: FD0),
    pass!(fadvise64, 4, descriptors: FD0),
    pass!(fallocate, 4, descriptors: FD0),
    pass!(fsync, 1, descriptors: FD0),
    pass!(fdatasync, 1, descriptors: FD0),
    pass!(syncfs, 1, descriptors: FD0),
    pass!(sync_file_range, 4, descriptors: FD0),
    pass!(sync, 0),
    pass!(ftruncate, 2, descriptors: FD0),
    pass!(truncate, 2),
    pass!(cachestat, 4, descriptors: FD0),
    // Descriptors.
    emulate!(close, 1, descriptors::close, descriptors: FD0),
    emulate!(close_range, 3, descriptors::close_range),
    pass!(dup, 1, descriptors: FD0, opens: true),
    emulate!(dup2, 2, descriptors::dup2, descriptors: FD0),
    emulate!(dup3, 3, descriptors::dup3, descriptors: FD0),
    emulate!(fcntl, 3, descriptors::fcntl, descriptors: FD0, opens: true),
    pass!(flock, 2, descriptors: FD0),
    pass!(ioctl, 3, descriptors: FD0),
    native!(pipe, 1, descriptors::pipe),
    native!(pipe2, 2, descriptors::pipe2),
    native!(eventfd, 1, descriptors::eventfd, opens: true),
    pass!(eventfd2, 2, opens: true),
    native!(signalfd, 3, descriptors::signalfd, opens: true),
    pass!(signalfd4, 4, opens: true),
    pass!(memfd_create, 2, opens: true),
    pass!(memfd_secret, 1, opens: true),
    native!(inotify_init, 0, descriptors::inotify_init, opens: true),
    pass!(inotify_init1, 1, opens: true),
    pass!(inotify_add_watch, 3, descriptors: FD0),
    pass!(inotify_rm_watch, 2, descriptors: FD0),
    native!(fanotify_init, 2, descriptors::fanotify_init, opens: true),
    pass!(fanotify_mark, 5, descriptors: FD0),
    // Files by name. Those that open or look at a file go through `paths`, for /proc/self and its like.
    emulate!(open, 3, fs::open, opens: true),
    emulate!(openat, 4, fs::openat, descriptors: FD0, opens: true),
    emulate!(openat2, 4, fs::openat2, descriptors: FD0, opens: true),
    emulate!(creat, 2, fs::creat, opens: true),
    pass!(name_to_handle_at, 5, descriptors: FD0),
    native!(open_by_handle_at, 3, fs::open_by_handle_at, descriptors: FD0, opens: true),
    emulate!(stat, 2, fs::stat),
    emulate!(lstat, 2, fs::lstat),
    native!(fstat, 2, fs::fstat, descriptors: FD0),
    emulate!(newfstatat, 4, fs::newfstatat, descriptors: FD0),
    emulate!(statx, 5, fs::statx, descriptors: FD0),
    emulate!(access, 2, fs::access),
    emulate!(faccessat, 3, fs::faccessat, descriptors: FD0),
    emulate!(faccessat2, 4, fs::faccessat2, descriptors: FD0),
    emulate!(readlink, 3, fs::readlink),
    emulate!(readlinkat, 4, fs::readlinkat, descriptors: FD0),
    pass!(statfs, 2),
    pass!(fstatfs, 2, descriptors: FD0),
    emulate!(getdents64, 3, descriptors::getdents64, descriptors: FD0),
    emulate!(getdents, 3, fs::getdents, descriptors: FD0),
    pass!(getcwd, 2),
    emulate!(chdir, 1, paths::chdir),
    pass!(fchdir, 1, descriptors: FD0),
    pass!(chroot, 1),
    native!(mkdir, 2, fs::mkdir),
    pass!(mkdirat, 3, descriptors: FD0),
    native!(rmdir, 1, fs::rmdir),
    native!(mknod, 3, fs::mknod),
    pass!(mknodat, 4, descriptors: FD0),
    native!(link, 2, fs::link),
    pass!(linkat, 5, descriptors: FD0 | FD2),
    native!(symlink, 2, fs::symlink),
    pass!(symlinkat, 3, descriptors: FD1),
    native!(unlink, 1, fs::unlink),
    pass!(unlinkat, 3, descriptors: FD0),
    native!(rename, 2, fs::rename),
    pass!(renameat, 4, descriptors: FD0 | FD2),
    pass!(renameat2, 5, descriptors: FD0 | FD2),
    native!(chmod, 2, fs::chmod),
    pass!(fchmod, 2, descriptors: FD0),
    pass!(fchmodat, 3, descriptors: FD0),
    pass!(fchmodat2, 4, descriptors: FD0),
    native!(chown, 3, fs::chown),
    native!(lchown, 3, fs::lchown),
    pass!(fchown, 3, descriptors: FD0),
    pass!(fchownat, 5, descriptors: FD0),
    pass!(umask, 1),
    native!(utime, 2, time::utime),
    native!(utimes, 2, time::utimes),
    native!(futimesat, 3, time::futimesat, descriptors: FD0),
    pass!(utimensat, 4, descriptors: FD0),
    pass!(setxattr, 5),
    pass!(lsetxattr, 5),
    pass!(fsetxattr, 5, descriptors: FD0),
    pass!(getxattr, 4),
    pass!(lgetxattr, 4),
    pass!(fgetxattr, 4, descriptors: FD0),
    pass!(listxattr, 3),
    pass!(llistxattr, 3),
    pass!(flistxattr, 3, descriptors: FD0),
    pass!(removexattr, 2),
    pass!(lremovexattr, 2),
    pass!(fremovexattr, 2, descriptors: FD0),
    pass!(setxattrat, 6, descriptors: FD0),
    pass!(getxattrat, 6, descriptors: FD0),
    pass!(listxattrat, 5, descriptors: FD0),
    pass!(removexattrat, 4, descriptors: FD0),
    pass!(mount, 5),
    pass!(umount2, 2),
    pass!(pivot_root, 2),
    pass!(open_tree, 3, descriptors: FD0, opens: true),
    pass!(move_mount, 5, descriptors: FD0 | FD2),
    pass!(fsopen, 2, opens: true),
    pass!(fsconfig, 5, descriptors: FD0),
    pass!(fsmount, 3, descriptors: FD0, opens: true),
    pass!(fspick, 3, descriptors: FD0, opens: true),
    pass!(mount_setattr, 5, descriptors: FD0),
    pass!(quotactl, 4),
    pass!(quotactl_fd, 4, descriptors: FD0),
    pass!(landlock_create_ruleset, 3),
    pass!(landlock_add_rule, 4, descriptors: FD0),
    pass!(landlock_restrict_self, 2, descriptors: FD0),
    // Waiting for descriptors.
    native!(poll, 3, poll::poll, restart: Restart::Never),
    emulate!(ppoll, 5, poll::ppoll, restart: Restart::Never),
    native!(select, 5, poll::select, restart: Restart::Never),
    emulate!(pselect6, 6, poll::pselect6, restart: Restart::Never),
    native!(epoll_create, 1, poll::epoll_create, opens: true),
    pass!(epoll_create1, 1, opens: true),
    native!(epoll_ctl, 4, poll::epoll_ctl, descriptors: FD0 | FD2),
    native!(epoll_wait, 4, poll::epoll_wait, descriptors: FD0, restart: Restart::Never),
    emulate!(epoll_pwait, 6, poll::epoll_pwait, descriptors: FD0, restart: Restart::Never),
    emulate!(epoll_pwait2, 6, poll::epoll_pwait2, descriptors: FD0, restart: Restart::Never),
    // Sockets.
    pass!(socket, 3, opens: true),
    pass!(socketpair, 4),
    pass!(bind, 3, descriptors: FD0),
    pass!(listen, 2, descriptors: FD0),
    pass!(connect, 3, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(accept, 3, descriptors: FD0, restart: Restart::UnlessReceiveTimeout, opens: true),
    pass!(accept4, 4, descriptors: FD0, restart: Restart::UnlessReceiveTimeout, opens: true),
    pass!(getsockname, 3, descriptors: FD0),
    pass!(getpeername, 3, descriptors: FD0),
    pass!(sendto, 6, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvfrom, 6, descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(sendmsg, 3, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvmsg, 3, descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(sendmmsg, 4, descriptors: FD0, restart: Restart::UnlessSendTimeout),
    pass!(recvmmsg, 5, descriptors: FD0, restart: Restart::UnlessReceiveTimeout),
    pass!(setsockopt, 5, descriptors: FD0),
    pass!(getsockopt, 5, descriptors: FD0),
    pass!(shutdown, 2, descriptors: FD0),
    // Memory.
    emulate!(brk, 1, memory::brk),
    emulate!(mmap, 6, memory::mmap, descriptors: FD4),
    emulate!(munmap, 2, memory::munmap),
    emulate!(mprotect, 3, memory::mprotect),
    emulate!(pkey_mprotect, 4, memory::pkey_mprotect),
    emulate!(mremap, 5, memory::mremap),
    emulate!(madvise, 3, memory::madvise),
    emulate!(shmat, 3, memory::shmat),
    emulate!(shmdt, 1, memory::shmdt),
    pass!(msync, 3),
    pass!(mincore, 3),
    emulate!(mlock, 2, memory::mlock),
    emulate!(mlock2, 3, memory::mlock2),
    emulate!(munlock, 2, memory::munlock),
    emulate!(munlockall, 0, memory::munlockall),
    emulate!(mlockall, 1, memory::mlockall),
    // Protection keys are announced by CPUID only where they are implemented; ENOSPC is "no key is free".
    refuse!(pkey_alloc, 2, ENOSPC),
    refuse!(pkey_free, 1, EINVAL),
    pass!(mbind, 6),
    pass!(get_mempolicy, 5),
    pass!(set_mempolicy, 3),
    pass!(set_mempolicy_home_node, 4),
    pass!(migrate_pages, 4),
    pass!(move_pages, 6),
    // Processes and programs.
    control!(exit, 1, process::exit),
    control!(exit_group, 1, process::exit),
    emulate!(fork, 0, process::fork),
    emulate!(vfork, 0, process::vfork),
    emulate!(clone, 5, process::clone),
    emulate!(clone3, 2, process::clone3),
    emulate!(execve, 3, exec::execve),
    emulate!(execveat, 5, exec::execveat, descriptors: FD0),
    pass!(wait4, 4, pids: PID0),
    emulate!(waitid, 5, process::waitid),
    pass!(getpid, 0, returns_pid: true),
    pass!(gettid, 0, returns_pid: true),
    pass!(getppid, 0, returns_pid: true),
    pass!(getpgid, 1, pids: PID0, returns_pid: true),
    emulate!(getpgrp, 0, process::getpgrp),
    pass!(setpgid, 2, pids: PID0 | PID1),
    pass!(getsid, 1, pids: PID0, returns_pid: true),
    pass!(setsid, 0, returns_pid: true),
    emulate!(set_tid_address, 1, process::set_tid_address),
    emulate!(set_robust_list, 2, process::set_robust_list),
    emulate!(get_robust_list, 3, process::get_robust_list),
    // The kernel's rseq area would be registered for the runtime's thread and abort into guest code.
    refuse!(rseq, 4, ENOSYS),
    emulate!(arch_prctl, 2, process::arch_prctl),
    emulate!(prctl, 5, process::prctl),
    emulate!(personality, 1, process::personality),
    pass!(pidfd_open, 2, pids: PID0, opens: true),
    pass!(pidfd_getfd, 3, descriptors: FD0, opens: true),
    pass!(pidfd_send_signal, 4, descriptors: FD0),
    pass!(process_vm_readv, 6, pids: PID0),
    pass!(process_vm_writev, 6, pids: PID0),
    pass!(process_madvise, 5, descriptors: FD0),
    pass!(process_mrelease, 2, descriptors: FD0),
    pass!(kcmp, 5, pids: PID0 | PID1),
    pass!(futex, 6, restart: Restart::UnlessTimeout),
    pass!(futex_waitv, 5, restart: Restart::Never),
    pass!(membarrier, 3),
    pass!(unshare, 1),
    pass!(setns, 2, descriptors: FD0),
    // Ids and limits.
    pass!(getuid, 0),
    pass!(geteuid, 0),
    pass!(getgid, 0),
    pass!(getegid, 0),
    pass!(setuid, 1),
    pass!(setgid, 1),
    pass!(setreuid, 2),
    pass!(setregid, 2),
    pass!(setresuid, 3),
    pass!(setresgid, 3),
    pass!(getresuid, 3),
    pass!(getresgid, 3),
    pass!(setfsuid, 1),
    pass!(setfsgid, 1),
    pass!(getgroups, 2),
    pass!(setgroups, 2),
    pass!(capget, 2),
    pass!(capset, 2),
    emulate!(getrlimit, 2, limits::getrlimit),
    emulate!(setrlimit, 2, limits::setrlimit),
    emulate!(prlimit64, 4, limits::prlimit64),
    emulate!(getrusage, 2, cpu_time::getrusage),
    emulate!(times, 1, cpu_time::times),
    pass!(getpriority, 2, pids: PID1),
    pass!(setpriority, 3, pids: PID1),
    pass!(ioprio_get, 2, pids: PID1),
    pass!(ioprio_set, 3, pids: PID1),
    pass!(acct, 1),
    // Scheduling.
    pass!(sched_yield, 0),
    pass!(sched_getaffinity, 3, pids: PID0),
    pass!(sched_setaffinity, 3, pids: PID0),
    pass!(sched_getparam, 2, pids: PID0),
    pass!(sched_setparam, 2, pids: PID0),
    pass!(sched_getscheduler, 1, pids: PID0),
    pass!(sched_setscheduler, 3, pids: PID0),
    pass!(sched_rr_get_interval, 2, pids: PID0),
    pass!(sched_getattr, 4, pids: PID0),
    pass!(sched_setattr, 3, pids: PID0),
    pass!(sched_get_priority_max, 1),
    pass!(sched_get_priority_min, 1),
    pass!(getcpu, 3),
    // Signals.
    emulate!(rt_sigaction, 4, signal::rt_sigaction),
    emulate!(rt_sigprocmask, 4, signal::rt_sigprocmask),
    emulate!(rt_sigpending, 2, signal::rt_sigpending),
    emulate!(rt_sigtimedwait, 4, signal::rt_sigtimedwait, restart: Restart::Never),
    emulate!(rt_sigsuspend, 2, signal::rt_sigsuspend, restart: Restart::Never),
    control!(rt_sigreturn, 0, signal::rt_sigreturn),
    emulate!(sigaltstack, 2, signal::sigaltstack),
    pass!(kill, 2, pids: PID0),
    pass!(tkill, 2, pids: PID0),
    pass!(tgkill, 3, pids: PID0 | PID1),
    pass!(rt_sigqueueinfo, 3, pids: PID0),
    pass!(rt_tgsigqueueinfo, 4, pids: PID0 | PID1),
    native!(pause, 0, poll::pause, restart: Restart::Never),
    // Time.
    native!(time, 1, time::time),
    pass!(gettimeofday, 2),
    pass!(settimeofday, 2),
    emulate!(clock_gettime, 2, cpu_time::clock_gettime),
    pass!(clock_settime, 2),
    pass!(clock_getres, 2),
    pass!(clock_adjtime, 2),
    pass!(adjtimex, 1),
    pass!(nanosleep, 2, restart: Restart::Never),
    pass!(clock_nanosleep, 4, restart: Restart::Never),
    native!(alarm, 1, time::alarm),
    pass!(getitimer, 2),
    pass!(setitimer, 3),
    pass!(timer_create, 3),
    pass!(timer_settime, 4),
    pass!(timer_gettime, 2),
    pass!(timer_getoverrun, 1),
    pass!(timer_delete, 1),
    pass!(timerfd_create, 2, opens: true),
    pass!(timerfd_settime, 4, descriptors: FD0),
    pass!(timerfd_gettime, 2, descriptors: FD0),
    // System V and POSIX interprocess communication.
    pass!(shmget, 3),
    pass!(shmctl, 3),
    pass!(semget, 3),
    pass!(semop, 3, restart: Restart::Never),
    pass!(semtimedop, 4, restart: Restart::Never),
    native!(semctl, 4, misc::semctl),
    pass!(msgget, 2),
    pass!(msgsnd, 4, restart: Restart::Never),
    pass!(msgrcv, 5, restart: Restart::Never),
    pass!(msgctl, 3),
    pass!(mq_open, 4, opens: true),
    pass!(mq_unlink, 1),
    pass!(mq_timedsend, 5, descriptors: FD0),
    pass!(mq_timedreceive, 5, descriptors: FD0),
    pass!(mq_notify, 2, descriptors: FD0),
    pass!(mq_getsetattr, 3, descriptors: FD0),
    pass!(add_key, 5),
    pass!(request_key, 4),
    pass!(keyctl, 5),
    // Asynchronous input and output (the guest maps the ring itself; layouts agree).
    pass!(io_setup, 2),
    pass!(io_destroy, 1),
    pass!(io_submit, 3),
    pass!(io_cancel, 3),
    pass!(io_getevents, 5, restart: Restart::Never),
    // Its entries carry open flags, signal masks and descriptors past this table: answered as by a kernel
    // without it, for which every user has a fallback.
    refuse!(io_uring_setup, 2, ENOSYS),
    refuse!(io_uring_enter, 6, ENOSYS),
    refuse!(io_uring_register, 4, ENOSYS),
    // The system.
    native!(uname, 1, misc::uname),
    pass!(sysinfo, 1),
    pass!(getrandom, 3),
    pass!(syslog, 3),
    pass!(sethostname, 2),
    pass!(setdomainname, 2),
    pass!(swapon, 2),
    pass!(swapoff, 1),
    pass!(vhangup, 0),
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

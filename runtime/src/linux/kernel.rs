//! What the guest's kernel would know of it, as far as the host's kernel knows otherwise.

use std::collections::HashSet;
use std::ffi::OsString;
use std::ops::Range;

use xlate_abi::image::notes::CpuTimes;

use super::executable::Executable;

/// The process's number as the guest knows it and as the host does. They differ after a migration;
/// a forked child gets the number the host gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids {
    pub guest: i32,
    pub host: i32,
    /// The same of the resumed process that this one descends from.
    ancestor: Option<(i32, i32)>,
}

impl Pids {
    /// A process that has the number the host gave it.
    pub fn own() -> Self {
        let pid = std::process::id() as i32;
        Self { guest: pid, host: pid, ancestor: None }
    }

    /// A resumed process, which keeps its old number.
    pub fn resumed(guest: i32) -> Self {
        Self { guest, ..Self::own() }
    }

    /// In a child of this process: it knows its parent by the parent's own number.
    pub fn child(self) -> Self {
        let differs = self.guest != self.host;
        Self { ancestor: if differs { Some((self.guest, self.host)) } else { self.ancestor }, ..Self::own() }
    }

    fn pairs(self) -> impl Iterator<Item = (i32, i32)> {
        std::iter::once((self.guest, self.host)).chain(self.ancestor)
    }

    /// A number the guest passes: of itself, its group or session (a leader's number), or of others.
    pub fn to_host(self, pid: i32) -> i32 {
        let known = |(guest, host): (i32, i32)| match pid {
            p if p == guest => Some(host),
            p if p == -guest => Some(-host),
            _ => None,
        };
        self.pairs().find_map(known).unwrap_or(pid)
    }

    /// A number the host returns.
    pub fn to_guest(self, pid: i32) -> i32 {
        self.pairs().find(|(_, host)| *host == pid).map_or(pid, |(guest, _)| guest)
    }
}

/// The places of the arguments and, right after them, of the environment: strings that each end in a zero. Programs overwrite
/// them (setproctitle(3)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strings {
    pub arguments: Range<u64>,
    pub environment: Range<u64>,
}

/// How the guest was started: what /proc/self/{exe,cmdline,environ,auxv} show.
#[derive(Debug)]
pub struct Program {
    pub exe: Executable,
    pub args: Vec<OsString>,
    pub env: Vec<OsString>,
    /// Where they are in memory; `None` if that isn't known.
    pub strings: Option<Strings>,
    /// The auxiliary vector as the guest got it, AT_NULL included.
    pub auxv: Vec<(u64, u64)>,
}

/// Kernel state of the guest that isn't in another part of it.
#[derive(Debug)]
pub struct Kernel {
    pub pids: Pids,
    pub program: Program,
    /// set_robust_list(2): address and length.
    pub(super) robust_list: (u64, u64),
    /// The exec that is being made: kept here and not by the call, for after a vfork the call never returns, and the
    /// parent frees it.
    pub(super) exec: Option<super::exec::Plan>,
    /// Writes at a file's position may go to a process's memory ([`super::memory_files`]).
    pub(super) memory_files: bool,
    /// CPU time that a resumed process has used before, on another machine perhaps.
    pub cpu_before: CpuTimes,
    /// Number of the system call that was made last, for its restart.
    pub(super) number: u32,
    /// READ_IMPLIES_EXEC, if it is set: all of the personality that isn't the host's. An exec clears it
    /// (arch/x86/kernel/process_64.c, set_personality_64bit).
    pub(super) implied_exec: u32,
    /// Unsupported calls that have been named.
    warned: HashSet<u32>,
    /// Threads have been said to be unsupported.
    warned_threads: bool,
}

impl Kernel {
    /// For a program that has just been loaded, or an image that is resumed under its old number.
    pub fn new(pids: Pids, program: Program) -> Self {
        Self {
            pids,
            program,
            robust_list: (0, 0),
            exec: None,
            memory_files: false,
            cpu_before: CpuTimes::default(),
            number: 0,
            implied_exec: 0,
            warned: HashSet::new(),
            warned_threads: false,
        }
    }

    /// The personality (personality(2)).
    pub(super) fn personality(&self) -> u32 {
        // SAFETY: only asks.
        let host = unsafe { libc::personality(libc::c_ulong::from(u32::MAX)) } as u32;
        host | self.implied_exec
    }

    /// For image restore: the robust list the thread had registered, which the host's kernel walks where it can.
    pub fn restore_robust_list(&mut self, head: u64, len: u64) {
        if head != 0 {
            // SAFETY: the kernel only notes the address, and checks what it reads there when the process ends.
            unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) };
            self.robust_list = (head, len);
        }
    }

    /// Names a system call that isn't supported, once.
    pub(super) fn warn_unsupported(&mut self, number: u32) {
        if self.warned.insert(number) {
            let name = syscalls::x86_64::Sysno::new(number as usize).map_or("unknown", |n| n.name());
            eprintln!("xlate: the guest's system call {number} ({name}) isn't supported; it fails with ENOSYS");
        }
    }

    /// The same for a call by `int 0x80`.
    pub(super) fn warn_unsupported_legacy(&mut self, number: u32) {
        // Apart from the numbers of the others.
        const LEGACY: u32 = 1 << 31;
        if self.warned.insert(number | LEGACY) {
            eprintln!(
                "xlate: the guest's 32-bit system call {number} (int 0x80) isn't supported; it fails with ENOSYS"
            );
        }
    }

    /// Says that threads aren't supported, once.
    pub(super) fn warn_threads(&mut self) {
        if !self.warned_threads {
            self.warned_threads = true;
            eprintln!(
                "xlate: the guest starts a thread (or a process that shares its memory), which isn't supported \
                 yet; the call fails with ENOSYS"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_number_is_translated() {
        let pids = Pids { guest: 100, host: 7, ancestor: None };
        assert_eq!(pids.to_host(100), 7);
        assert_eq!(pids.to_host(-100), -7);
        assert_eq!(pids.to_host(0), 0);
        assert_eq!(pids.to_host(-1), -1);
        assert_eq!(pids.to_host(8), 8);
        assert_eq!(pids.to_guest(7), 100);
        assert_eq!(pids.to_guest(8), 8);
    }

    #[test]
    fn a_child_knows_its_parent() {
        let child = Pids { guest: 100, host: 7, ancestor: None }.child();
        assert_eq!(child.guest, child.host);
        assert_eq!(child.to_guest(7), 100);
        assert_eq!(child.to_host(100), 7);
        assert_eq!(child.child().to_guest(7), 100, "and so does its own child");
        assert_eq!(Pids::own().child().ancestor, None);
    }
}

//! What procfs and prlimit tell of a process, and whether it can be captured at all.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::Pid;
use procfs::process::{LimitValue, MMPermissions, MMapPath, MemoryMap, MemoryMaps, Process, Status};
use procfs::{ProcError, ProcResult};
use xlate_abi::image::core_notes::{MappedFile, ProcessInfo};
use xlate_abi::image::notes::{self, Limit, Name};

use super::error::CaptureError;
use super::sys;
use super::translated::is_translated;

/// A process as procfs shows it.
pub struct Facts {
    pub pid: i32,
    process: Process,
    status: Status,
}

impl Facts {
    /// Finds the process and whatever forbids its capture.
    pub fn check(pid: i32) -> Result<Self, CaptureError> {
        if pid == std::process::id() as i32 {
            return Err(CaptureError::Myself(pid));
        }
        let missing = |e| match e {
            ProcError::NotFound(_) => CaptureError::NoSuchProcess(pid),
            error => CaptureError::Procfs { pid, what: "status", error },
        };
        let process = Process::new(pid).map_err(missing)?;
        let status = process.status().map_err(missing)?;
        check_status(pid, &status)?;
        if is_translated(&process) {
            return Err(CaptureError::Translated { pid, name: status.name });
        }
        check_threads(pid, &status)?;
        Ok(Self { pid, process, status })
    }

    /// Whether system calls of ours in the process must be exempted from its seccomp filter.
    pub fn seccomp(&self) -> bool {
        self.status.seccomp.is_some_and(|mode| mode != 0)
    }

    fn get<T>(&self, what: &'static str, result: ProcResult<T>) -> Result<T, CaptureError> {
        result.map_err(|error| CaptureError::Procfs { pid: self.pid, what, error })
    }

    fn read_error(&self, what: impl Into<String>) -> impl FnOnce(io::Error) -> CaptureError {
        let (pid, what) = (self.pid, what.into());
        move |error| CaptureError::Read { pid, what, error }
    }

    fn read_file(&self, name: &str) -> Result<Vec<u8>, CaptureError> {
        let path = format!("/proc/{}/{name}", self.pid);
        std::fs::read(&path).map_err(self.read_error(path))
    }

    fn link(&self, name: &str) -> Result<Name, CaptureError> {
        let path = format!("/proc/{}/{name}", self.pid);
        let target = std::fs::read_link(&path).map_err(self.read_error(path))?;
        Ok(Name::from(target.as_os_str().as_bytes()))
    }

    /// Mappings with their resident sizes.
    pub fn maps(&self) -> Result<MemoryMaps, CaptureError> {
        self.get("smaps", self.process.smaps())
    }

    /// Ids as the process itself sees them (innermost pid namespace), credentials and what it is called.
    pub fn process(&self) -> Result<notes::Process, CaptureError> {
        let s = &self.status;
        let stat = self.get("stat", self.process.stat())?;
        let inner = |ids: &Option<Vec<i32>>, outer| ids.as_ref().and_then(|v| v.last().copied()).unwrap_or(outer);
        let personality = self.read_file("personality")?;
        let personality = std::str::from_utf8(&personality).unwrap_or_default().trim();
        let comm = self.read_file("comm")?;
        Ok(notes::Process {
            pid: inner(&s.nspid, s.pid),
            ppid: s.ppid,
            pgid: inner(&s.nspgid, stat.pgrp),
            sid: inner(&s.nssid, stat.session),
            uids: [s.ruid, s.euid, s.suid, s.fuid],
            gids: [s.rgid, s.egid, s.sgid, s.fgid],
            groups: s.groups.clone(),
            comm: Name::from(comm.trim_ascii_end()),
            exe: self.link("exe")?,
            cwd: self.link("cwd")?,
            umask: s.umask.unwrap_or(0o022),
            personality: u32::from_str_radix(personality, 16).unwrap_or(0),
        })
    }

    pub fn process_info(&self, ids: &notes::Process) -> Result<ProcessInfo, CaptureError> {
        let stat = self.get("stat", self.process.stat())?;
        let mut arguments = self.read_file("cmdline")?;
        arguments.iter_mut().filter(|b| **b == 0).for_each(|b| *b = b' ');
        Ok(ProcessInfo {
            state: 0,
            letter: b'R',
            nice: stat.nice as i8,
            uid: self.status.ruid,
            gid: self.status.rgid,
            pid: ids.pid,
            ppid: ids.ppid,
            pgid: ids.pgid,
            sid: ids.sid,
            name: ids.comm.0.clone(),
            arguments: arguments.trim_ascii_end().to_vec(),
        })
    }

    /// The auxiliary vector as it stands in memory.
    pub fn auxv(&self) -> Result<Vec<u8>, CaptureError> {
        self.read_file("auxv")
    }

    /// Signals that wait for the thread or the process.
    pub fn pending_mask(&self) -> Result<u64, CaptureError> {
        let status = self.get("status", self.process.status())?;
        Ok(status.sigpnd | status.shdpnd)
    }

    /// Where the program break's heap starts.
    pub fn brk_start(&self) -> Result<u64, CaptureError> {
        let stat = self.get("stat", self.process.stat())?;
        Ok(stat.start_brk.unwrap_or(0))
    }

    /// All resource limits. Read from procfs, because prlimit(2) asks for CAP_SYS_RESOURCE where the process is another user's.
    pub fn limits(&self) -> Result<Vec<Limit>, CaptureError> {
        Ok(resource_limits(&self.get("limits", self.process.limits())?))
    }

    /// CPU time used so far. The clock is exact; how it divides into user and system time is known in ticks.
    pub fn cpu_times(&self) -> Result<notes::CpuTimes, CaptureError> {
        let stat = self.get("stat", self.process.stat())?;
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        let total = sys::cpu_clock(Pid::from_raw(self.pid)).map_err(|errno| CaptureError::Call {
            pid: self.pid,
            what: "clock_gettime",
            errno,
        })?;
        let user = (stat.utime * tick).min(total);
        let of_children = |ticks: i64| ticks.max(0) as u64 * tick;
        Ok(notes::CpuTimes {
            user,
            system: total - user,
            children_user: of_children(stat.cutime),
            children_system: of_children(stat.cstime),
        })
    }

    /// NT_FILE's rows.
    pub fn mapped_files(&self) -> Result<Vec<MappedFile>, CaptureError> {
        let maps = self.maps()?;
        Ok(maps
            .iter()
            .filter_map(|m| {
                let path = file_path(m)?.as_bytes().to_vec();
                Some(MappedFile { start: m.address.0, end: m.address.1, offset: m.offset, path })
            })
            .collect())
    }

    /// What isn't carried, besides descriptors.
    pub fn warnings(&self) -> Result<Vec<String>, CaptureError> {
        let mut warnings = Vec::new();
        if self.seccomp() {
            warnings.push("its seccomp filter isn't carried: it goes on without".to_owned());
        }
        // Kernels without CHECKPOINT_RESTORE have no such file.
        let timers = self.read_file("timers").unwrap_or_default();
        let timers = timers.split(|b| *b == b'\n').filter(|l| l.starts_with(b"ID:")).count();
        if timers > 0 {
            warnings.push(format!("{timers} POSIX timers (timer_create) aren't carried"));
        }
        let root = self.link("root")?;
        if root.0 != b"/" {
            warnings.push(format!("its root directory {} isn't carried (chroot)", root.text()));
        }
        warnings.extend(self.children()?);
        warnings.extend(self.locks()?);
        Ok(warnings)
    }

    /// Its children, which stay where they are.
    fn children(&self) -> Result<Vec<String>, CaptureError> {
        let task = self.get("task", self.process.task_from_tid(self.pid))?;
        // Kernels without CHECKPOINT_RESTORE have no such file: then all processes are asked for their parent.
        let children = match task.children() {
            Ok(children) => children.into_iter().map(|pid| pid as i32).collect(),
            Err(_) => self.children_by_parent()?,
        };
        let name = |pid: i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("its child {pid} ({}) isn't carried: a resumed process has no children", name.trim_end())
        };
        Ok(children.into_iter().map(name).collect())
    }

    fn children_by_parent(&self) -> Result<Vec<i32>, CaptureError> {
        let all = self.get("processes", procfs::process::all_processes())?;
        // One that has ended meanwhile is no child any more.
        let stats = all.filter_map(|process| process.ok()?.stat().ok());
        Ok(stats.filter(|stat| stat.ppid == self.pid).map(|stat| stat.pid).collect())
    }

    /// Its locks of files: advisory and mandatory ones, leases.
    fn locks(&self) -> Result<Vec<String>, CaptureError> {
        let dir = format!("/proc/{}/fdinfo", self.pid);
        let mut warnings = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(self.read_error(&dir))? {
            let entry = entry.map_err(self.read_error(&dir))?;
            let number = entry.file_name().to_string_lossy().into_owned();
            let info =
                std::fs::read_to_string(entry.path()).map_err(self.read_error(format!("descriptor {number}")))?;
            for lock in info.lines().filter_map(|line| line.strip_prefix("lock:")) {
                let path = self.link(&format!("fd/{number}"))?;
                let (kind, path) = (lock_kind(lock), path.text());
                warnings.push(format!(
                    "the {kind} on descriptor {number} ({path}) isn't carried: a resumed process doesn't hold it"
                ));
            }
        }
        warnings.sort();
        Ok(warnings)
    }
}

/// What a lock is called, from fdinfo's line (`1: POSIX  ADVISORY  WRITE 7 00:30:5 0 EOF`; proc_locks(5)).
fn lock_kind(line: &str) -> String {
    let mut words = line.split_whitespace().skip_while(|word| word.ends_with(':') || *word == "->");
    let kind = words.next().unwrap_or_default();
    let access = words.nth(1).unwrap_or_default().to_ascii_lowercase();
    match kind {
        "LEASE" | "DELEG" => format!("{access} lease"),
        "FLOCK" => format!("{access} lock (flock)"),
        "OFDLCK" => format!("{access} lock (F_OFD_SETLK)"),
        "POSIX" => format!("{access} lock (F_SETLK)"),
        other => format!("{access} lock ({other})"),
    }
}

/// The limits by their numbers on x86-64.
fn resource_limits(limits: &procfs::process::Limits) -> Vec<Limit> {
    let all = [
        limits.max_cpu_time,
        limits.max_file_size,
        limits.max_data_size,
        limits.max_stack_size,
        limits.max_core_file_size,
        limits.max_resident_set,
        limits.max_processes,
        limits.max_open_files,
        limits.max_locked_memory,
        limits.max_address_space,
        limits.max_file_locks,
        limits.max_pending_signals,
        limits.max_msgqueue_size,
        limits.max_nice_priority,
        limits.max_realtime_priority,
        limits.max_realtime_timeout,
    ];
    let value = |limit| match limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(value) => value,
    };
    let row = |(resource, l): (u32, procfs::process::Limit)| Limit {
        resource,
        soft: value(l.soft_limit),
        hard: value(l.hard_limit),
    };
    (0..).zip(all).map(row).collect()
}

fn check_status(pid: i32, status: &Status) -> Result<(), CaptureError> {
    let name = status.name.clone();
    if status.tgid != pid {
        return Err(CaptureError::IsThread { pid, tgid: status.tgid });
    }
    if status.state.starts_with(['Z', 'X']) {
        return Err(CaptureError::Zombie { pid, name, ppid: status.ppid });
    }
    if status.vmsize.is_none() {
        return Err(CaptureError::KernelThread { pid, name });
    }
    if status.tracerpid != 0 {
        return Err(CaptureError::AlreadyTraced { pid, tracer: status.tracerpid });
    }
    Ok(())
}

fn check_threads(pid: i32, status: &Status) -> Result<(), CaptureError> {
    match status.threads {
        1 => Ok(()),
        threads => Err(CaptureError::Threads { pid, name: status.name.clone(), threads }),
    }
}

/// Looks again, once the process stands still.
pub fn check_single_threaded(pid: i32) -> Result<(), CaptureError> {
    let status = Process::new(pid).and_then(|p| p.status()).map_err(|error| CaptureError::Procfs {
        pid,
        what: "status",
        error,
    })?;
    check_threads(pid, &status)
}

/// The file behind a mapping, if it is one.
pub fn file_path(map: &MemoryMap) -> Option<OsString> {
    match &map.pathname {
        MMapPath::Path(path) => Some(path.as_os_str().to_owned()),
        MMapPath::Vsys(key) => Some(format!("/SYSV{key:08x}").into()),
        _ => None,
    }
}

/// Whether a mapping is shared memory without a file to find it by: its contents must be in the image.
pub fn is_anonymous_shared(map: &MemoryMap) -> bool {
    let shared = map.perms.contains(MMPermissions::SHARED);
    let unnamed = match &map.pathname {
        MMapPath::Path(path) => is_deleted(path),
        MMapPath::Vsys(_) => true,
        _ => true,
    };
    shared && unnamed
}

/// The kernel marks a file without a name so.
pub fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b" (deleted)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_their_numbers() {
        let limits = resource_limits(&Process::myself().and_then(|p| p.limits()).unwrap());
        assert_eq!(limits.len(), 16);
        for limit in limits {
            let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: getrlimit writes the limit.
            assert_eq!(unsafe { libc::getrlimit64(limit.resource, &raw mut now) }, 0);
            assert_eq!((limit.soft, limit.hard), (now.rlim_cur, now.rlim_max), "{}", limit.resource);
        }
    }

    #[test]
    fn cpu_time_is_the_clock_s() {
        let facts = Process::myself().and_then(|process| Ok((process.status()?, process))).unwrap();
        let facts = Facts { pid: std::process::id() as i32, status: facts.0, process: facts.1 };
        let times = facts.cpu_times().unwrap();
        assert!(times.user + times.system > 0);
    }

    #[test]
    fn locks_are_called_by_how_they_were_made() {
        assert_eq!(lock_kind("\t1: POSIX  ADVISORY  WRITE 7 00:30:5 0 EOF"), "write lock (F_SETLK)");
        assert_eq!(lock_kind("1: FLOCK  ADVISORY  READ 7 00:30:5 0 EOF"), "read lock (flock)");
        assert_eq!(lock_kind("1: LEASE  ACTIVE    READ 7 00:30:5 0 EOF"), "read lease");
    }
}

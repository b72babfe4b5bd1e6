//! Starting the translator service as a process that the guest never sees: not its child, none of its descriptors,
//! no SIGCHLD.

use std::ffi::{CString, OsStr};
use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xlate_abi::names;
use xlate_abi::protocol::Worker;

/// The program that makes the code; it stands beside the command, which the service is part of.
pub fn compiler_of(xlate: &Path) -> PathBuf {
    xlate.with_file_name(names::COMPILER)
}

/// Where the service of this user for this build of its programs listens: one directory that only the user can
/// write to, for what comes from that socket is executed.
pub fn socket_path(xlate: &Path) -> io::Result<PathBuf> {
    // SAFETY: no arguments.
    let user = unsafe { libc::getuid() };
    let directory = PathBuf::from(format!("/tmp/xlate-{user}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&directory)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        let message = format!("{} isn't a directory of this user alone (mode 700)", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let mut hasher = DefaultHasher::new();
    for program in [xlate, &compiler_of(xlate)] {
        let build =
            std::fs::metadata(program).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
        (program, build.len(), build.mtime(), build.mtime_nsec(), build.ino()).hash(&mut hasher);
    }
    Ok(directory.join(format!("serve-{:016x}", hasher.finish())))
}

/// The descriptor by which a service gets its lock.
const LOCK: RawFd = 3;

/// Starts `xlate serve --socket SOCKET`, perhaps with a worker to begin with and the descriptor for that. The error is
/// `WouldBlock` while there is one that was started like this: it listens, or soon will.
pub fn start_service(xlate: &Path, socket: &Path, work: Option<(&Worker, RawFd)>) -> io::Result<()> {
    let lock = lock_for(socket)?;
    let mut words = vec![xlate.as_os_str(), OsStr::new("serve"), OsStr::new("--socket"), socket.as_os_str()];
    let lock_option = format!("--lock={LOCK}");
    words.push(OsStr::new(&lock_option));
    let key = work.and_then(|(worker, _)| worker.key).map(|key| format!("--key={key}"));
    words.extend(key.as_deref().map(OsStr::new));
    if let Some((worker, _)) = work {
        words.push(OsStr::new("--"));
        words.extend(worker.command.iter().map(|word| OsStr::from_bytes(word)));
    }
    let words: Vec<CString> = words.iter().map(|w| CString::new(w.as_bytes())).collect::<Result<_, _>>()?;
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
    argv.push(core::ptr::null());
    // A bare environment: the guest's own may be anything.
    let path = c"PATH=/usr/local/bin:/usr/bin:/bin";
    let envp = [path.as_ptr(), core::ptr::null()];
    detached([work.map(|(_, input)| input), Some(lock.as_raw_fd())], || {
        step_back(SERVICE_NICE);
        // SAFETY: null-terminated arrays of strings that live until the exec.
        unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
    })
}

/// Takes the lock that says that a service is there.
fn lock_for(socket: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).mode(0o600).open(socket.with_extension("lock"))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// How far the service steps back, and with it what compiles tier 1 for a guest: that is wanted at once. Its other children
/// step back further.
const SERVICE_NICE: i32 = 5;

/// Takes the processor only where the guest leaves it, in a process that works for it.
pub(super) fn step_back(by: i32) {
    // SAFETY: changes this process's priority, or nothing.
    unsafe { libc::nice(by) };
}

/// Forks with this exit signal, by the system call itself: no handlers run, nothing else is shared.
fn clone_process(exit_signal: i32) -> io::Result<i32> {
    // SAFETY: without CLONE_VM the child has memory of its own; zero arguments mean "none" on both hosts.
    let pid = unsafe { libc::syscall(libc::SYS_clone, exit_signal as u64, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pid as i32)
}

/// What the process in between and its child work on.
struct Job<F> {
    inherited: Inherited,
    work: Option<F>,
}

/// Descriptors that become the grandchild's standard input and [`LOCK`].
type Inherited = [Option<RawFd>; 2];

/// Size of the stack that they have; only touched pages cost anything.
const STACK: usize = 64 << 20;

/// Runs `work` in a grandchild that belongs to init, with no descriptors but the inherited ones, and default signals. Whoever is the machine's first process has to reap it: only the service is started like this.
///
/// The process in between shares this one's memory, as after vfork: copying the page tables of a large process takes
/// milliseconds, and is done once this way.
fn detached<F: FnOnce()>(inherited: Inherited, work: F) -> io::Result<()> {
    let mut stack = memmap2::MmapOptions::new().len(STACK).no_reserve_swap().map_anon()?;
    let mut job = Job { inherited, work: Some(work) };
    // SAFETY: plain system calls on local sets.
    let old = unsafe {
        let mut all: libc::sigset_t = core::mem::zeroed();
        libc::sigfillset(&mut all);
        let mut old: libc::sigset_t = core::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut old);
        old
    };
    let mut between = |exit_signal: i32| {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | exit_signal;
        let (top, job) = (stack.as_mut_ptr_range().end.cast(), (&raw mut job).cast());
        // SAFETY: a stack of its own and a job; both live until it has ended, for this process waits for that (CLONE_VFORK).
        let pid = unsafe { libc::clone(fork_again::<F>, top, flags, job) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((pid, exit_signal != 0))
    };
    // An exit signal of zero keeps the child out of the guest's SIGCHLD and wait calls. Emulators know only SIGCHLD.
    let outcome = between(0).or_else(|_| between(libc::SIGCHLD));
    let result = outcome.and_then(|(pid, signals)| reap(pid, signals));
    // SAFETY: restores the mask saved above.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &old, core::ptr::null_mut()) };
    result
}

/// The process in between: its child does the work, on a copy of this stack.
///
/// The guest's descriptors are closed here, before there is a child: once `detached` returns, no file is open any longer than
/// the guest has it open (locks go with them).
extern "C" fn fork_again<F: FnOnce()>(job: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `detached` passes a job of this type and waits. The descriptors are a copy for this process.
    unsafe { leave_descriptors((*job.cast::<Job<F>>()).inherited) };
    match clone_process(0).or_else(|_| clone_process(libc::SIGCHLD)) {
        Ok(0) => {
            // SAFETY: `detached` passes a job of this type; this process has a copy of it for itself.
            let job = unsafe { &mut *job.cast::<Job<F>>() };
            let work = job.work.take().expect("there is one child");
            stand_alone(work)
        }
        Ok(_) => exit_now(0),
        Err(_) => exit_now(1),
    }
}

/// Waits for the child in between; takes its SIGCHLD back if it sent one.
fn reap(pid: i32, signals: bool) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: our own child and a local variable.
    while unsafe { libc::waitpid(pid, &mut status, libc::__WALL) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if signals {
        // SAFETY: local sets; SIGCHLD is blocked now.
        unsafe {
            let mut set: libc::sigset_t = core::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(&set, core::ptr::null_mut(), &none);
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 { Ok(()) } else { Err(io::Error::other("can't fork")) }
}

fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process without touching anything it shares with its parent.
    unsafe { libc::_exit(status) }
}

/// Puts the inherited descriptors, or nothing, in their places, nothing in those of the other standard streams, and closes all
/// others.
///
/// # Safety
/// Nothing in this process uses them any more.
unsafe fn leave_descriptors([input, lock]: Inherited) {
    // SAFETY: plain system calls; the caller's contract.
    unsafe {
        // Out of the way of the numbers that they are to have.
        let [input, lock] = [input, lock].map(|fd| fd.map(|fd| libc::fcntl(fd, libc::F_DUPFD, LOCK + 1)));
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..LOCK {
            libc::dup2(null, fd);
        }
        if let Some(input) = input {
            libc::dup2(input, libc::STDIN_FILENO);
        }
        match lock {
            Some(lock) => {
                libc::dup2(lock, LOCK);
                close_from(LOCK as u32 + 1);
            }
            None => close_from(LOCK as u32),
        }
    }
}

/// In the grandchild: gets rid of the rest that is the guest's, then does its work.
fn stand_alone(work: impl FnOnce()) -> ! {
    // SAFETY: async-signal-safe system calls in a process with one thread; handlers end with the exec anyway, ignored
    // signals and the mask must be put back by hand.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut none: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, core::ptr::null_mut());
    }
    work();
    exit_now(127)
}

/// Closes all descriptors from `first` on.
///
/// # Safety
/// Nothing in this process uses them any more.
unsafe fn close_from(first: u32) {
    // SAFETY: the caller's contract.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) == 0 {
            return;
        }
        let mut limit: libc::rlimit = core::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for fd in first as i32..limit.rlim_cur.min(1 << 16) as i32 {
            libc::close(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_no_child_of_ours() {
        let mark = std::env::temp_dir().join(format!("xlate-launch-{}", std::process::id()));
        let path = CString::new(mark.as_os_str().as_bytes()).unwrap();
        detached([None; 2], || {
            // SAFETY: a valid path.
            unsafe { libc::mkdir(path.as_ptr(), 0o700) };
        })
        .unwrap();
        for _ in 0..200 {
            if mark.is_dir() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(mark.is_dir());
        std::fs::remove_dir(&mark).unwrap();
    }

    #[test]
    fn the_socket_lies_in_a_private_directory() {
        let folder = std::env::temp_dir().join(format!("xlate-socket-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let xlate = folder.join("xlate");
        std::fs::write(&xlate, "").unwrap();
        assert!(socket_path(&xlate).unwrap_err().to_string().contains("xlate-compile"), "it isn't there");
        std::fs::write(compiler_of(&xlate), "").unwrap();
        let path = socket_path(&xlate).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let directory = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(directory.mode() & 0o777, 0o700);
    }
}

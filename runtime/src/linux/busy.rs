//! Files of programs that run: they can't be opened to be written to (ETXTBSY).
//!
//! The kernel knows the executables of its processes (fs/exec.c, deny_write_access), and the guest's isn't one of them.
//! So each runtime holds a lock on its program's file, one that excludes nothing: a shared lock of the open file
//! description on the last byte that a file can have. Whoever is about to open a file to write asks whether somebody
//! holds that lock. Forked children share it, and it ends with the last of them.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use super::paths::Located;

/// The byte that is locked.
const MARK: libc::off_t = libc::off_t::MAX;

fn lock(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: MARK,
        l_len: 1,
        l_pid: 0,
    }
}

/// Says that the file is being executed, for as long as this open file lives. On a file system without locks nobody
/// gets to know.
pub fn mark(file: &File) {
    let lock = lock(libc::F_RDLCK);
    // SAFETY: `lock` is valid; the call never waits.
    unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock);
    }
}

/// Whether these flags of open(2) let the file be written to. (All of them have the same numbers on both hosts.)
pub fn opens_to_write(flags: u64) -> bool {
    let flags = flags as i32;
    let creates_another = flags & libc::O_CREAT != 0 && flags & libc::O_EXCL != 0;
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
    writes && !creates_another && flags & libc::O_PATH == 0
}

/// Whether a guest executes the file that is found there, and the caller might otherwise write to it.
pub fn is_executed(at: &Located, follow: bool) -> bool {
    let directory = at.directory as i32;
    let path = at.path as *const libc::c_char;
    let mut facts = std::mem::MaybeUninit::<libc::stat>::uninit();
    let no_follow = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // SAFETY: the kernel checks the path, which may be the guest's; the facts are looked at only if it found some.
    let mode = unsafe {
        match libc::syscall(libc::SYS_newfstatat, directory, path, facts.as_mut_ptr(), no_follow) {
            0 => facts.assume_init().st_mode,
            _ => return false,
        }
    };
    let may_be = mode & libc::S_IFMT == libc::S_IFREG && mode & 0o111 != 0;
    may_be && is_marked(directory, path, follow) && may_write(directory, path)
}

fn is_marked(directory: i32, path: *const libc::c_char, follow: bool) -> bool {
    let no_follow = if follow { 0 } else { libc::O_NOFOLLOW };
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY | no_follow;
    // SAFETY: as in `is_executed`.
    let fd = unsafe { libc::openat(directory, path, flags) };
    if fd < 0 {
        return false;
    }
    // SAFETY: the descriptor was just made.
    let file = unsafe { File::from_raw_fd(fd) };
    let mut lock = lock(libc::F_WRLCK);
    // SAFETY: `lock` is valid for question and answer.
    let known = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } == 0;
    known && i32::from(lock.l_type) == libc::F_RDLCK
}

/// Permission is looked at first: who may not write gets to know that.
fn may_write(directory: i32, path: *const libc::c_char) -> bool {
    // SAFETY: as in `is_executed`.
    unsafe { libc::faccessat(directory, path, libc::W_OK, libc::AT_EACCESS) == 0 }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    use super::super::paths::AT_FDCWD;
    use super::*;

    #[test]
    fn a_marked_file_is_executed_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("xlate-busy-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = CString::new(path.as_os_str().as_bytes()).unwrap();
        let at = || Located::as_given(AT_FDCWD, text.as_ptr() as u64);
        assert!(!is_executed(&at(), true));
        let file = File::open(&path).unwrap();
        mark(&file);
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(is_executed(&at(), true), "a duplicate shares the mark");
        drop(copy);
        assert!(!is_executed(&at(), true));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn flags_that_write() {
        let writes = |flags: i32| opens_to_write(flags as u64);
        assert!(writes(libc::O_WRONLY) && writes(libc::O_RDWR | libc::O_CREAT) && writes(libc::O_TRUNC));
        assert!(!writes(libc::O_RDONLY) && !writes(libc::O_PATH | libc::O_RDWR));
        assert!(!writes(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL), "it isn't there yet");
    }
}

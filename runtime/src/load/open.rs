//! Opening a file to execute it, with what the kernel makes sure of then (fs/exec.c, do_open_execat): that it is a
//! regular file, may be executed, doesn't lie on a file system mounted `noexec`, and that nobody is writing to it.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::errno::Errno;

/// What is executed.
#[derive(Debug)]
pub struct Program {
    /// Open for reading, close-on-exec.
    pub file: File,
    /// The program has the set-user-ID or set-group-ID bit and would get another user's or group's rights by it.
    pub gains_rights: bool,
}

/// Opens the file at `path`, relative to the directory `directory` (AT_FDCWD: the working directory).
pub fn at(directory: RawFd, path: &CStr, follow: bool) -> Result<Program, Errno> {
    let last = if follow { 0 } else { libc::O_NOFOLLOW };
    // SAFETY: `path` is a C string. O_PATH opens without asking the file, which may be a device.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC | last) };
    program(adopt(fd)?)
}

/// Opens what a descriptor stands for, whatever that one was opened for.
pub fn descriptor(fd: RawFd) -> Result<Program, Errno> {
    // SAFETY: asks for a descriptor's flags.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(Errno(libc::EBADF));
    }
    at(libc::AT_FDCWD, &link(fd), true)
}

/// Opens the file at `path`, relative to the working directory.
pub fn path(path: &Path) -> Result<Program, Errno> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::ENOENT))?;
    at(libc::AT_FDCWD, &text, true)
}

/// Turns a descriptor opened with O_PATH into a program.
fn program(found: File) -> Result<Program, Errno> {
    let metadata = found.metadata()?;
    if metadata.is_symlink() {
        return Err(Errno(libc::ELOOP));
    }
    if !metadata.is_file() {
        return Err(Errno(libc::EACCES));
    }
    let link = link(found.as_raw_fd());
    // SAFETY: `link` is a C string; the effective ids count, as for execve. Root may execute what anybody may.
    let allowed = unsafe { libc::faccessat(libc::AT_FDCWD, link.as_ptr(), libc::X_OK, libc::AT_EACCESS) } == 0;
    if !allowed || metadata.mode() & 0o111 == 0 || mount_flags(&found) & libc::ST_NOEXEC != 0 {
        return Err(Errno(libc::EACCES));
    }
    ask_kernel(found.as_raw_fd())?;
    // SAFETY: `link` is a C string.
    let file = adopt(unsafe { libc::open(link.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })?;
    Ok(Program { file, gains_rights: gains_rights(&found, &metadata) })
}

/// Lets the kernel go as far as opening the file for an execve that then fails for want of arguments: it knows of
/// writers and of security modules. Before Linux 6.9 the arguments come first, and under an emulator they do, too:
/// nothing is learnt there.
fn ask_kernel(fd: RawFd) -> Result<(), Errno> {
    const NO_ARGUMENTS: usize = 1;
    // SAFETY: the vector of arguments can't be read at address 1, so the call can't succeed.
    unsafe {
        libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), NO_ARGUMENTS, 0usize, libc::AT_EMPTY_PATH);
    }
    match Errno::last() {
        Errno(libc::EFAULT | libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}

/// How the file system that the file is on is mounted: ST_*.
fn mount_flags(file: &File) -> libc::c_ulong {
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the place is valid for the result, which is only looked at if the call succeeded.
    unsafe {
        match libc::fstatvfs(file.as_raw_fd(), facts.as_mut_ptr()) {
            0 => facts.assume_init().f_flag,
            _ => 0,
        }
    }
}

/// Whether Linux would change the process's ids or capabilities (execve(2)). What has root's rights already has all.
fn gains_rights(file: &File, metadata: &std::fs::Metadata) -> bool {
    // SAFETY: these calls only return the process's identity.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mode = metadata.mode();
    let group_bits = libc::S_ISGID | libc::S_IXGRP;
    let another_user = mode & libc::S_ISUID != 0 && metadata.uid() != uid;
    let another_group = mode & group_bits == group_bits && metadata.gid() != gid;
    let gains = another_user || another_group || (uid != 0 && has_capabilities(file));
    gains && mount_flags(file) & libc::ST_NOSUID == 0 && !keeps_rights()
}

fn has_capabilities(file: &File) -> bool {
    let link = link(file.as_raw_fd());
    // SAFETY: both names are C strings; the value isn't asked for.
    unsafe { libc::getxattr(link.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// PR_SET_NO_NEW_PRIVS: no exec changes this process's rights.
fn keeps_rights() -> bool {
    // SAFETY: asks for an attribute of the process.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// The name under which the kernel shows a descriptor of this process.
fn link(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

fn adopt(fd: RawFd) -> Result<File, Errno> {
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor was made by the caller, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Where an open file is, as the kernel shows it: with ` (deleted)` behind the name of one that is gone.
pub fn shown_path(file: &impl AsRawFd) -> io::Result<PathBuf> {
    std::fs::read_link(Path::new(std::ffi::OsStr::from_bytes(link(file.as_raw_fd()).as_bytes())))
}

/// The last component of an open file's name, whether the file is still there or not.
pub fn own_name(file: &File) -> io::Result<OsString> {
    let shown = shown_path(file)?;
    let name = shown.file_name().unwrap_or_default().as_bytes();
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    let is_there = std::fs::symlink_metadata(&shown).map(id).ok() == Some(id(file.metadata()?));
    let name = if is_there { name } else { name.strip_suffix(b" (deleted)").unwrap_or(name) };
    Ok(OsString::from_vec(name.to_vec()))
}

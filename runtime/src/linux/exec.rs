//! execve and execveat: the guest's next program runs under the runtime again, with the same options.
//!
//! What execve would refuse is refused here, while there is still a program to tell; then the runtime execs itself.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use xlate_abi::image::notes::CpuTimes;

use super::cpu_time;
use super::descriptors::{self, RaisedLimit};
use super::paths::{self, AT_FDCWD, Target};
use super::{Args, SysResult};
use crate::errno::Errno;
use crate::guest::Guest;

/// The vectors of an exec, as the host takes them.
#[derive(Debug)]
pub struct Plan {
    file: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Longest argument or variable (MAX_ARG_STRLEN, execve(2)).
const STRING_MAX: usize = 128 << 10;
/// Most of them together (a quarter of the default stack limit).
const TOTAL_MAX: usize = 2 << 20;
/// How often a script's interpreter may be a script (fs/exec.c).
const SCRIPT_DEPTH: usize = 5;

/// Reads a vector of strings that ends in a null pointer; a null vector is an empty one (as on Linux).
fn strings(guest: &Guest, vector: u64) -> Result<Vec<OsString>, Errno> {
    let mut list = Vec::new();
    let mut total = 0;
    if vector == 0 {
        return Ok(list);
    }
    loop {
        let pointer = guest.memory.read::<u64>(vector + 8 * list.len() as u64)?;
        if pointer == 0 {
            return Ok(list);
        }
        let too_long = |error| match error {
            Errno(libc::ENAMETOOLONG) => Errno(libc::E2BIG),
            other => other,
        };
        let text = guest.memory.read_cstr(pointer, STRING_MAX - 1).map_err(too_long)?;
        total += text.len() + 9;
        if total > TOTAL_MAX {
            return Err(Errno(libc::E2BIG));
        }
        list.push(OsString::from_vec(text));
    }
}

/// What the kernel would say to executing this file: the path, or for a script, its interpreter, must be an executable
/// regular file with a format that can be run here.
fn check(path: &Path, depth: usize) -> Result<(), Errno> {
    let meta = std::fs::metadata(path)?;
    let kind = meta.file_type();
    if kind.is_dir() || kind.is_fifo() || kind.is_socket() || !kind.is_file() {
        return Err(Errno(libc::EACCES));
    }
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::ENOENT))?;
    // SAFETY: `name` is a C string; the effective ids count, as for execve.
    let allowed = unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    // Root may always; but not if nobody may.
    if allowed != 0 || meta.mode() & 0o111 == 0 {
        return Err(Errno(libc::EACCES));
    }
    let mut head = Vec::with_capacity(256);
    std::fs::File::open(path)?.take(256).read_to_end(&mut head)?;
    match format_of(&head) {
        Format::Program => Ok(()),
        Format::Script(_) if depth == SCRIPT_DEPTH => Err(Errno(libc::ELOOP)),
        Format::Script(interpreter) => check(&interpreter, depth + 1),
        Format::Other => Err(Errno(libc::ENOEXEC)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Program,
    Script(PathBuf),
    Other,
}

/// Tells from its first bytes what a file is (fs/binfmt_elf.c, fs/binfmt_script.c).
fn format_of(head: &[u8]) -> Format {
    const EM_X86_64: [u8; 2] = 62u16.to_le_bytes();
    const CLASS64_LITTLE_ENDIAN: [u8; 2] = [2, 1];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let mut words = line.split(|b| *b == b' ' || *b == b'\t').filter(|w| !w.is_empty());
        return match words.next() {
            Some(word) => Format::Script(OsStr::from_bytes(word).into()),
            None => Format::Other,
        };
    }
    let is_elf = head.starts_with(b"\x7fELF") && head.get(4..6) == Some(&CLASS64_LITTLE_ENDIAN[..]);
    let executable = matches!(head.get(16..18), Some([2 | 3, 0]));
    if is_elf && executable && head.get(18..20) == Some(&EM_X86_64[..]) { Format::Program } else { Format::Other }
}

fn c_strings(list: Vec<OsString>) -> Result<Vec<CString>, Errno> {
    list.into_iter().map(|s| CString::new(s.into_vec()).map_err(|_| Errno(libc::EINVAL))).collect()
}

/// Where the words of an emulator's command line are looked for: the runtime's own PATH, for the guest may have changed its.
fn find_command(word: &OsStr) -> PathBuf {
    if word.as_bytes().contains(&b'/') {
        return word.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(word))
        .find(|path| path.is_file())
        .unwrap_or_else(|| word.into())
}

/// Checks the program and makes the vectors.
fn plan(guest: &Guest, program: &Path, argv: u64, envp: u64, room: Option<&RaisedLimit>) -> Result<Plan, Errno> {
    if program.as_os_str().is_empty() {
        return Err(Errno(libc::ENOENT));
    }
    let args = strings(guest, argv)?;
    let env = strings(guest, envp)?;
    match check(program, 0) {
        // No number is left to look at the file with, and this user can't raise the limit: the program's loader, which
        // comes to the same end natively, says so.
        Err(Errno(libc::EMFILE)) => {}
        checked => checked?,
    }
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.clone(), rest),
        // Linux gives such a program one empty argument.
        None => (OsString::new(), &[][..]),
    };
    let mut line = guest.config.successor_args(program, &name, rest);
    let pids = guest.kernel.pids;
    if pids.guest != pids.host {
        // An exec keeps the number, the resumed one too; options follow the runtime's own path.
        line.insert(guest.config.exec_prefix.len() + 1, format!("--guest-pid={}", pids.guest).into());
    }
    if guest.kernel.cpu_before != CpuTimes::default() {
        let before = cpu_time::text(guest.kernel.cpu_before);
        line.insert(guest.config.exec_prefix.len() + 1, format!("--cpu-before={before}").into());
    }
    if let Some((soft, hard)) = room.map(RaisedLimit::before) {
        line.insert(guest.config.exec_prefix.len() + 1, format!("--descriptors={soft},{hard}").into());
    }
    let file = find_command(&line[0]);
    Ok(Plan {
        file: CString::new(file.into_os_string().into_vec()).map_err(|_| Errno(libc::ENOENT))?,
        args: c_strings(line)?,
        env: c_strings(env)?,
    })
}

/// Replaces the process; returns only if that fails.
fn carry_out(guest: &mut Guest, plan: Plan) -> SysResult {
    guest.fill_cache();
    let plan = guest.kernel.exec.insert(plan);
    let vector = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (vector(&plan.args), vector(&plan.env));
    guest.signals.before_exec();
    guest.memory.limits().give_back();
    // SAFETY: both vectors end in null pointers, and their strings live in the plan.
    unsafe { libc::execve(plan.file.as_ptr(), args.as_ptr(), env.as_ptr()) };
    let error = Errno::last();
    guest.signals.after_failed_exec();
    guest.memory.limits().lift();
    guest.kernel.exec = None;
    Err(error)
}

/// The program at a path of the guest's; `/proc/self/exe` is its own.
fn program_at(guest: &Guest, directory: u64, path: u64) -> Result<PathBuf, Errno> {
    match paths::target(guest, directory as i32, path) {
        Target::Exe(_) => Ok(guest.kernel.program.exe.clone()),
        Target::Path(path) => Ok(OsStr::from_bytes(path.as_bytes()).into()),
        _ => {
            let path = guest.memory.read_cstr(path, libc::PATH_MAX as usize - 1)?;
            Ok(OsString::from_vec(path).into())
        }
    }
}

pub(super) fn execve(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, argv, envp, ..] = args.0;
    let room = descriptors::room_for_start();
    let program = program_at(guest, AT_FDCWD, path)?;
    let plan = plan(guest, &program, argv, envp, room.as_ref())?;
    carry_out(guest, plan)
}

pub(super) fn execveat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, argv, envp, flags, _] = args.0;
    let flags = flags as i32;
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let room = descriptors::room_for_start();
    let mut program = program_at(guest, directory, path)?;
    if program.as_os_str().is_empty() {
        if flags & libc::AT_EMPTY_PATH == 0 {
            return Err(Errno(libc::ENOENT));
        }
        program = open_file(directory as i32)?;
    } else if program.is_relative() && directory as i32 != libc::AT_FDCWD {
        program = PathBuf::from(format!("/proc/self/fd/{}", directory as i32)).join(program);
        program = program.canonicalize()?;
    }
    if flags & libc::AT_SYMLINK_NOFOLLOW != 0 && program.is_symlink() {
        return Err(Errno(libc::ELOOP));
    }
    let plan = plan(guest, &program, argv, envp, room.as_ref())?;
    carry_out(guest, plan)
}

/// The name of an open file that is to be executed. One without a name on disk is executed through the
/// descriptor, if that survives the exec (execveat(2), "BUGS": so do scripts on Linux).
fn open_file(fd: i32) -> Result<PathBuf, Errno> {
    let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let name = std::fs::read_link(&link).map_err(|_| Errno(libc::EBADF))?;
    if same_file(&name, &link) {
        return Ok(name);
    }
    // SAFETY: asks for a descriptor's flags.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno(libc::ENOENT));
    }
    Ok(link)
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some_and(|a| Some(a) == id(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(20, 0);
        elf[16] = 3;
        elf[18] = 62;
        assert_eq!(format_of(&elf), Format::Program);
        elf[18] = 183;
        assert_eq!(format_of(&elf), Format::Other, "AArch64");
        elf[18] = 62;
        elf[16] = 1;
        assert_eq!(format_of(&elf), Format::Other, "an object file");
        assert_eq!(format_of(b"#! /bin/sh -e\necho"), Format::Script("/bin/sh".into()));
        assert_eq!(format_of(b"#!\n"), Format::Other);
        assert_eq!(format_of(b""), Format::Other);
    }

    #[test]
    fn what_execve_refuses() {
        assert_eq!(check(Path::new("/"), 0), Err(Errno(libc::EACCES)));
        assert_eq!(check(Path::new("/etc/passwd"), 0), Err(Errno(libc::EACCES)));
        assert_eq!(check(Path::new("/no/such/file"), 0), Err(Errno(libc::ENOENT)));
    }
}

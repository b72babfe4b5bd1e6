//! execve and execveat: the guest's next program runs under the runtime again, with the same options.
//!
//! What execve would refuse is refused here, while there is still a program to tell; then the runtime execs itself. The
//! program that was found goes to the successor as an open descriptor, and so does the environment: the guest's
//! variables (`LD_PRELOAD`, say) are no business of the translator's own dynamic loader.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use xlate_abi::image::notes::CpuTimes;

use super::cpu_time;
use super::descriptors::{self, RaisedLimit};
use super::paths::{self, AT_FDCWD, Target};
use super::{Args, SysResult};
use crate::config::{Handed, Successor};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::load::{self, open};

/// The vectors of an exec, as the host takes them.
#[derive(Debug)]
pub struct Plan {
    file: CString,
    args: Vec<CString>,
    /// Descriptors that the successor inherits. Numbers only: the child of a vfork, which has descriptors of its
    /// own, leaves this plan to its parent.
    inherited: [RawFd; 2],
}

/// Asks only whether the file may be executed (execveat(2), since Linux 6.14).
const AT_EXECVE_CHECK: i32 = 0x10000;
/// Longest argument or variable, its zero included (MAX_ARG_STRLEN, execve(2)).
const STRING_MAX: usize = 128 << 10;
/// What arguments and environment may take at least, and at most (fs/exec.c, bprm_stack_limits).
const TOTAL_MIN: u64 = 128 << 10;
const TOTAL_MAX: u64 = 6 << 20;

/// A program by the name that the guest called it.
struct Asked {
    program: open::Program,
    /// The name for the program itself and for the interpreter of a script (AT_EXECFN).
    name: OsString,
    /// What the process is to be called.
    task_name: OsString,
    /// The next program can still open the file by that name.
    is_accessible: bool,
}

/// Finds and opens what is to be executed (fs/exec.c, alloc_bprm).
fn open(guest: &Guest, directory: i32, path: u64, flags: i32) -> Result<Asked, Errno> {
    let text = guest.memory.read_cstr(path, libc::PATH_MAX as usize - 1)?;
    if text.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
        return Err(Errno(libc::ENOENT));
    }
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | AT_EXECVE_CHECK) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let by_descriptor = directory != libc::AT_FDCWD && text.first() != Some(&b'/');
    let mut name = text.clone();
    if by_descriptor {
        let path = if text.is_empty() { Vec::new() } else { [b"/", &text[..]].concat() };
        name = [format!("/dev/fd/{directory}").as_bytes(), &path].concat();
    }
    let program = open_program(guest, directory, path, &text, flags)?;
    let task_name = if text.is_empty() {
        open::own_name(&program.file)?
    } else {
        let last = text.rsplit(|&b| b == b'/').next().unwrap_or_default();
        OsString::from_vec(last.to_vec())
    };
    let is_accessible = !(by_descriptor && closes_on_exec(directory));
    Ok(Asked { program, name: OsString::from_vec(name), task_name, is_accessible })
}

fn open_program(guest: &Guest, directory: i32, path: u64, text: &[u8], flags: i32) -> Result<open::Program, Errno> {
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    if text.is_empty() {
        return match directory {
            libc::AT_FDCWD => open::at(directory, c".", follow),
            descriptor => open::descriptor(descriptor),
        };
    }
    match paths::target(guest, directory, path) {
        Target::Exe(_) if follow => open::at(libc::AT_FDCWD, &paths::exe(guest)?, follow),
        Target::Exe(path) | Target::Path(path) | Target::Generated(_, path) => open::at(libc::AT_FDCWD, &path, follow),
        Target::AsGiven | Target::Link(_) => {
            let path = CString::new(text).map_err(|_| Errno(libc::ENOENT))?;
            open::at(directory, &path, follow)
        }
    }
}

fn closes_on_exec(fd: RawFd) -> bool {
    // SAFETY: asks for a descriptor's flags.
    unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

/// Arguments and environment.
struct Vectors {
    args: Vec<OsString>,
    env: Vec<OsString>,
}

impl Vectors {
    /// Reads both, within what the new program's stack may hold besides its name.
    fn read(guest: &Guest, name: &OsStr, argv: u64, envp: u64) -> Result<Self, Errno> {
        let (args, env) = (pointers(guest, argv)?, pointers(guest, envp)?);
        // There is one argument at least (see below).
        let pointers = 8 * (args.len().max(1) + env.len()) as u64;
        let room = strings_limit().checked_sub(pointers).filter(|&room| room != 0);
        let mut room = room.ok_or(Errno(libc::E2BIG))? as usize;
        let mut take = |text: &OsStr| {
            room = room.checked_sub(text.len() + 1).ok_or(Errno(libc::E2BIG))?;
            Ok(())
        };
        take(name)?;
        let env = strings(guest, &env, &mut take)?;
        let mut args = strings(guest, &args, &mut take)?;
        if args.is_empty() {
            // Linux gives such a program one empty argument, because many would otherwise read their environment instead.
            args.push(OsString::new());
        }
        Ok(Self { args, env })
    }
}

/// Bytes that arguments, environment and the pointers to them may take.
fn strings_limit() -> u64 {
    let mut stack = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `stack` is valid for the result.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut stack) } == 0;
    let quarter = if known { stack.rlim_cur / 4 } else { TOTAL_MAX };
    quarter.clamp(TOTAL_MIN, TOTAL_MAX)
}

/// Reads a vector of pointers that ends in a null pointer; a null vector is an empty one (as on Linux).
fn pointers(guest: &Guest, vector: u64) -> Result<Vec<u64>, Errno> {
    let mut list = Vec::new();
    if vector == 0 {
        return Ok(list);
    }
    loop {
        match guest.memory.read::<u64>(vector.wrapping_add(8 * list.len() as u64))? {
            0 => return Ok(list),
            _ if list.len() as u64 > TOTAL_MAX / 8 => return Err(Errno(libc::E2BIG)),
            pointer => list.push(pointer),
        }
    }
}

/// Reads the strings, each with `take`'s permission.
fn strings(
    guest: &Guest,
    pointers: &[u64],
    take: &mut impl FnMut(&OsStr) -> Result<(), Errno>,
) -> Result<Vec<OsString>, Errno> {
    let too_long = |error| match error {
        Errno(libc::ENAMETOOLONG) => Errno(libc::E2BIG),
        other => other,
    };
    let mut list = Vec::with_capacity(pointers.len());
    for &pointer in pointers {
        let text = OsString::from_vec(guest.memory.read_cstr(pointer, STRING_MAX - 1).map_err(too_long)?);
        take(&text)?;
        list.push(text);
    }
    Ok(list)
}

/// A file with strings, for [`read_strings`] in another process.
fn write_strings(strings: &[OsString]) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"environment".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor was just made.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let text: Vec<u8> = strings.iter().flat_map(|s| s.as_bytes().iter().copied().chain([0])).collect();
    file.write_all(&text)?;
    Ok(file.into())
}

/// Strings that each end in a zero, from the file's beginning.
pub fn read_strings(mut file: &File) -> io::Result<Vec<OsString>> {
    let mut text = Vec::new();
    io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut text)?;
    // The last zero ends a string, and begins none.
    Ok(match text.pop() {
        None => Vec::new(),
        Some(_) => text.split(|&b| b == 0).map(|s| OsString::from_vec(s.to_vec())).collect(),
    })
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

/// What the process keeps over an exec although the host's kernel doesn't know it, as options of the runtime. The limit of
/// descriptors was raised if `room` had to be made.
fn kept(guest: &Guest, room: Option<&RaisedLimit>) -> Vec<(&'static str, OsString)> {
    let mut kept = Vec::new();
    if let Some((soft, hard)) = room.map(RaisedLimit::before) {
        kept.push(("descriptors", format!("{soft},{hard}").into()));
    }
    let pids = guest.kernel.pids;
    if pids.guest != pids.host {
        kept.push(("guest-pid", pids.guest.to_string().into()));
    }
    if guest.kernel.cpu_before != CpuTimes::default() {
        kept.push(("cpu-before", cpu_time::text(guest.kernel.cpu_before).into()));
    }
    kept
}

/// Makes the vectors for the program that was found.
fn plan(
    guest: &Guest,
    asked: (OsString, OsString),
    found: load::Resolved,
    env: &[OsString],
    room: Option<&RaisedLimit>,
) -> Result<Plan, Errno> {
    let (task_name, asked) = asked;
    let shown = open::shown_path(&found.program.file)?;
    let environment = write_strings(env)?.into_raw_fd();
    let program = found.program.file.into_raw_fd();
    let handed = Handed { program, environment, gains_rights: found.program.gains_rights, task_name, asked };
    let successor = Successor { program: &shown, args: &found.args, kept: kept(guest, room), handed };
    let line = guest.config.successor_args(&successor);
    let file = find_command(&line[0]);
    Ok(Plan {
        file: CString::new(file.into_os_string().into_vec()).map_err(|_| Errno(libc::ENOENT))?,
        args: c_strings(line)?,
        inherited: [program, environment],
    })
}

/// Replaces the process; returns only if that fails.
fn carry_out(guest: &mut Guest, plan: Plan) -> SysResult {
    guest.fill_cache();
    let plan = guest.kernel.exec.insert(plan);
    let args: Vec<_> = plan.args.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    guest.signals.before_exec();
    guest.memory.limits().give_back();
    // SAFETY: the vector ends in a null pointer, and its strings live in the plan; the environment is the process's own.
    unsafe {
        for fd in plan.inherited {
            libc::fcntl(fd, libc::F_SETFD, 0);
        }
        libc::execve(plan.file.as_ptr(), args.as_ptr(), load::own_environment());
    }
    let error = Errno::last();
    guest.signals.after_failed_exec();
    guest.memory.limits().lift();
    if let Some(plan) = guest.kernel.exec.take() {
        for fd in plan.inherited {
            // SAFETY: the descriptor was made for this exec, and only the plan knew it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(error)
}

fn execute(guest: &mut Guest, directory: u64, path: u64, vectors: [u64; 2], flags: u64) -> SysResult {
    let room = descriptors::room_for_start();
    let asked = open(guest, directory as i32, path, flags as i32)?;
    let [argv, envp] = vectors;
    let vectors = Vectors::read(guest, &asked.name, argv, envp)?;
    if flags as i32 & AT_EXECVE_CHECK != 0 {
        return Ok(0);
    }
    let Asked { program, name, task_name, is_accessible } = asked;
    let path = is_accessible.then_some(Path::new(&name));
    let found = load::resolve(program, path, vectors.args).map_err(|error| {
        tracing::debug!(%error, "exec refused");
        error.errno()
    })?;
    let plan = plan(guest, (task_name, name), found, &vectors.env, room.as_ref())?;
    carry_out(guest, plan)
}

pub(super) fn execve(guest: &mut Guest, args: &Args) -> SysResult {
    let [path, argv, envp, ..] = args.0;
    execute(guest, AT_FDCWD, path, [argv, envp], 0)
}

pub(super) fn execveat(guest: &mut Guest, args: &Args) -> SysResult {
    let [directory, path, argv, envp, flags, _] = args.0;
    execute(guest, directory, path, [argv, envp], flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_their_file() {
        for strings in [&[][..], &[""], &["", ""], &["A=1", "", "B"]] {
            let strings: Vec<OsString> = strings.iter().map(OsString::from).collect();
            let file = File::from(write_strings(&strings).unwrap());
            assert_eq!(read_strings(&file).unwrap(), strings);
        }
    }
}

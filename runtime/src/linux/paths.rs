//! Names in /proc that would show the translator instead of the guest: which name stands for what.
//!
//! /proc/self/exe is the guest's program; some files are made up ([`super::procfs`]); after a migration
//! /proc/OLDPID is the process's own folder. All other names go to the host as they are.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use syscalls::Sysno as HostSysno;

use super::procfs::ProcFile;
use super::{Args, SysResult, call, descriptors};
use crate::errno::Errno;
use crate::guest::Guest;

/// AT_FDCWD as an argument register holds it.
pub const AT_FDCWD: u64 = libc::AT_FDCWD as i64 as u64;

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// What the host says.
    AsGiven,
    /// Another name on the host.
    Path(CString),
    /// The link to the guest's program; the name of the link itself on the host.
    Exe(CString),
    /// The link `self` or `thread-self` in /proc, with what it says.
    Link(String),
    /// A file that is made up; its name on the host.
    Generated(ProcFile, CString),
}

/// Finds out what the path at guest address `path`, relative to `directory`, stands for.
/// A path that can't be read is the host's to refuse.
pub fn target(guest: &Guest, directory: i32, path: u64) -> Target {
    let Ok(path) = guest.memory.read_cstr(path, libc::PATH_MAX as usize - 1) else {
        return Target::AsGiven;
    };
    let Some(path) = absolute(directory, &path) else { return Target::AsGiven };
    match classify(guest, &path) {
        Target::AsGiven => by_folder(&path).map_or(Target::AsGiven, |path| classify(guest, &path)),
        target => target,
    }
}

/// Whether a file of this name may be one of those that this module is about.
fn is_of_interest(name: &[u8]) -> bool {
    name == b"exe" || name == b"self" || ProcFile::named(name).is_some()
}

/// The path with its folder's real name, if that is in /proc: links and `..` lead there, too.
fn by_folder(path: &[u8]) -> Option<Vec<u8>> {
    let place = path.iter().rposition(|b| *b == b'/')?;
    let (folder, name) = (&path[..place], &path[place + 1..]);
    if !is_of_interest(name) {
        return None;
    }
    let real = std::fs::canonicalize(OsStr::from_bytes(folder)).ok()?;
    let mut whole = real.into_os_string().into_vec();
    whole.push(b'/');
    whole.extend_from_slice(name);
    (whole.starts_with(b"/proc/") && whole != path).then_some(whole)
}

/// The path from the root, if it may lead into /proc. Relative ones are looked at only if they end in a name of interest.
fn absolute(directory: i32, path: &[u8]) -> Option<Vec<u8>> {
    if path.first() == Some(&b'/') {
        return Some(path.to_vec());
    }
    let last = path.rsplit(|b| *b == b'/').next()?;
    if !is_of_interest(last) {
        return None;
    }
    let base = if directory == libc::AT_FDCWD {
        std::env::current_dir().ok()?
    } else {
        std::fs::read_link(format!("/proc/self/fd/{directory}")).ok()?
    };
    let mut whole = base.as_os_str().as_bytes().to_vec();
    whole.push(b'/');
    whole.extend_from_slice(path);
    Some(whole)
}

/// Splits an absolute path in /proc into its components below it.
fn below_proc(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    match parts.next()? {
        b"proc" => Some(parts.collect()),
        // A link to /proc/self/fd.
        b"dev" if parts.next()? == b"fd" => Some([b"self", &b"fd"[..]].into_iter().chain(parts).collect()),
        _ => None,
    }
}

fn classify(guest: &Guest, path: &[u8]) -> Target {
    let Some(parts) = below_proc(path) else {
        return Target::AsGiven;
    };
    let pids = guest.kernel.pids;
    match parts[..] {
        [b"self"] => return Target::Link(pids.guest.to_string()),
        [b"thread-self"] => return Target::Link(format!("{0}/task/{0}", pids.guest)),
        [b"cpuinfo"] => return generated(ProcFile::Cpuinfo, "/proc/cpuinfo".into()),
        _ => {}
    }
    let Some((who, rest)) = parts.split_first() else {
        return Target::AsGiven;
    };
    let is_number = |text: &[u8]| {
        let number = std::str::from_utf8(text).ok().and_then(|t| t.parse::<i32>().ok());
        number.is_some_and(|n| n == pids.guest || n == pids.host)
    };
    if !(*who == b"self" || *who == b"thread-self" || is_number(who)) {
        return Target::AsGiven;
    }
    // The only thread's folder has the same files.
    let rest = match rest {
        [b"task", thread, rest @ ..] if is_number(thread) => rest,
        rest => rest,
    };
    let mut host = format!("/proc/{}", pids.host).into_bytes();
    for part in rest {
        host.push(b'/');
        host.extend_from_slice(part);
    }
    match rest {
        [b"fd" | b"fdinfo", number, ..] if names_own(number) => {
            // A name that is never there, as the runtime's descriptors aren't for the guest.
            host.extend_from_slice(b".");
            path_or_given(host, Target::Path)
        }
        [b"exe"] => path_or_given(host, Target::Exe),
        [name] => match ProcFile::named(name) {
            Some(file) => generated(file, host),
            None => path_or_given(host, Target::Path),
        },
        _ if pids.guest == pids.host => Target::AsGiven,
        _ => path_or_given(host, Target::Path),
    }
}

/// Whether a descriptor's name is that of one of the runtime's own.
fn names_own(number: &[u8]) -> bool {
    std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).is_some_and(descriptors::is_own)
}

fn generated(file: ProcFile, host: Vec<u8>) -> Target {
    path_or_given(host, |path| Target::Generated(file, path))
}

fn path_or_given(path: Vec<u8>, make: impl FnOnce(CString) -> Target) -> Target {
    CString::new(path).map_or(Target::AsGiven, make)
}

/// The guest's program as a path for the host.
pub fn exe(guest: &Guest) -> Result<CString, Errno> {
    let path = guest.kernel.program.exe.host_path();
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::ENOENT))
}

/// A path argument for a host call.
pub struct Located {
    pub directory: u64,
    pub path: u64,
    _owner: Option<CString>,
}

impl Located {
    /// What the host finds under the guest's own argument.
    pub fn as_given(directory: u64, path: u64) -> Self {
        Self { directory, path, _owner: None }
    }
}

/// The path argument with which the host finds what the guest means; `follow` tells whether the call follows
/// a link at the path's end.
pub fn locate(guest: &Guest, directory: u64, path: u64, follow: bool) -> Result<Located, Errno> {
    let host = match target(guest, directory as i32, path) {
        Target::AsGiven | Target::Link(_) => {
            return Ok(Located::as_given(directory, path));
        }
        Target::Exe(_) if follow => exe(guest)?,
        Target::Path(path) | Target::Exe(path) | Target::Generated(_, path) => path,
    };
    Ok(Located { directory: AT_FDCWD, path: host.as_ptr() as u64, _owner: Some(host) })
}

pub(super) fn chdir(guest: &mut Guest, args: &Args) -> SysResult {
    let at = locate(guest, AT_FDCWD, args.0[0], true)?;
    call(guest, HostSysno::chdir, [at.path, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_below_proc() {
        assert_eq!(below_proc(b"//proc/./self//exe"), Some(vec![&b"self"[..], &b"exe"[..]]));
        assert_eq!(below_proc(b"/process/self"), None);
        assert_eq!(below_proc(b"/"), None);
    }

    #[test]
    fn ordinary_relative_paths_cost_nothing() {
        assert_eq!(absolute(libc::AT_FDCWD, b"some/file"), None);
        assert!(absolute(libc::AT_FDCWD, b"self/maps").is_some());
    }
}

//! How the runtime is started on x86-64, so that it comes to lie where guests ask for nothing: through the dynamic
//! loader, without address randomisation, and with the soft RLIMIT_STACK that puts the kernel's `mmap_base` there. The
//! command does it, and the runtime itself where it was started without (`runtime/src/layout.rs` says why it is done, and
//! does the rest).

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::container::{Container, Ctx};
use goblin::elf::Elf;
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};

/// The runtime can't be started there.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the stack limit for the translator's start: {0}")]
    StackLimit(io::Error),
    #[error("{}: the translator's own dynamic loader isn't known: {reason}", runtime.display())]
    Loader { runtime: PathBuf, reason: String },
    #[error("starting {} through {}: {error}", runtime.display(), loader.display())]
    Exec { runtime: PathBuf, loader: PathBuf, error: io::Error },
}

/// Where the runtime comes to lie. The kernel maps top-down from `mmap_base`, which is the end of the address space
/// without room for the stack: at least 128 MiB, and without its random part if address randomisation is off
/// (arch/x86/mm/mmap.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below 0x7fff_f7ff_f000, where no guest has anything.
    Top,
    /// Somewhere below that: for images that have memory at the top themselves.
    Random,
}

impl Place {
    const NAMES: [(Self, &'static str); 2] = [(Self::Top, "top"), (Self::Random, "random")];

    /// The place that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, own)| *own == name).map(|(place, _)| place)
    }

    fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(place, _)| *place == self).map_or("", |(_, name)| name)
    }

    fn personality(self, before: u32) -> u32 {
        const FIXED: u32 = libc::ADDR_NO_RANDOMIZE as u32;
        match self {
            Self::Top => before | FIXED,
            Self::Random => before & !FIXED,
        }
    }
}

/// The soft stack limit of the start. Any up to 127 MiB leaves `mmap_base` where it is; this one has room for long argument
/// lists, of which a quarter of the limit is taken (execve(2)).
const STACK_LIMIT: u64 = 64 << 20;

/// An executable's headers lie in so many bytes.
const HEADERS: usize = 4096;

/// The limits of the stack, in bytes.
pub fn stack_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the result.
    unsafe {
        libc::getrlimit(libc::RLIMIT_STACK, &mut limit);
    }
    limit
}

/// Sets the limits of the stack, in bytes.
pub fn set_stack_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: plain system call on a valid structure.
    match unsafe { libc::setrlimit(libc::RLIMIT_STACK, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// personality(2); 0xffffffff asks only.
pub fn personality(value: u32) -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::personality(libc::c_ulong::from(value)) as u32 }
}

/// Becomes the runtime with these arguments, in its place. It gets to know by `--placed` what was changed for that.
pub fn become_placed<'a>(
    runtime: &Path,
    args: impl IntoIterator<Item = &'a OsString>,
    place: Place,
) -> Result<Infallible, StartError> {
    let failed = |reason: String| StartError::Loader { runtime: runtime.to_owned(), reason };
    let loader = interpreter(runtime).map_err(|error| failed(error.to_string()))?;
    let loader = loader.ok_or_else(|| failed("the executable is linked statically".to_owned()))?;
    let (limit, before) = (stack_limit(), personality(u32::MAX));
    let mut placed = OsString::from(format!("--placed={},{before},{},", limit.rlim_cur, place.name()));
    placed.push(runtime);
    set_stack_limit(STACK_LIMIT.min(limit.rlim_max), limit.rlim_max).map_err(StartError::StackLimit)?;
    personality(place.personality(before));
    let error = Command::new(&loader).arg(runtime).arg(placed).args(args.into_iter().map(OsStr::new)).exec();
    // Nothing is left half-done.
    personality(before);
    let _ = set_stack_limit(limit.rlim_cur, limit.rlim_max);
    Err(StartError::Exec { runtime: runtime.to_owned(), loader, error })
}

/// The interpreter that an executable names in PT_INTERP.
fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    let invalid = |error: goblin::error::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let file = File::open(path)?;
    let mut bytes = [0; HEADERS];
    let n = file.read_at(&mut bytes, 0)?;
    let header = Elf::parse_header(&bytes[..n]).map_err(invalid)?;
    let context = Ctx::new(Container::Big, header.endianness().map_err(invalid)?);
    let (offset, count) = (header.e_phoff as usize, header.e_phnum.into());
    let headers = ProgramHeader::parse(&bytes[..n], offset, count, context).map_err(invalid)?;
    let Some(part) = headers.iter().find(|header| header.p_type == PT_INTERP) else { return Ok(None) };
    let mut name = vec![0; part.p_filesz as usize];
    file.read_exact_at(&mut name, part.p_offset)?;
    // It ends with a zero byte.
    name.pop();
    Ok(Some(PathBuf::from(OsString::from_vec(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names() {
        for (place, name) in Place::NAMES {
            assert_eq!((Place::named(name), place.name()), (Some(place), name));
        }
        assert_eq!(Place::named("bottom"), None);
    }

    #[test]
    fn an_executable_names_its_loader() {
        let own = std::env::current_exe().unwrap();
        let loader = interpreter(&own).unwrap().unwrap();
        assert!(loader.to_string_lossy().contains("ld-linux") && loader.exists(), "{}", loader.display());
        assert!(interpreter(Path::new("/dev/null")).is_err());
    }
}

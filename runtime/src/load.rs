//! Loads an x86-64 program the way Linux's binfmt_elf and binfmt_script do, at the addresses it would use with
//! address randomisation off: position-independent executables at 0x5555_5555_4000, the dynamic loader at the
//! top of the mmap area, the stack below 0x7fff_ffff_f000, the heap behind the executable.

mod elf;
mod stack;

pub(crate) use elf::Elf;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use xlate_abi::state::{CpuState, RSP};

use crate::config::{Config, Subject};
use crate::engine::Engine;
use crate::errno::Errno;
use crate::guest::Guest;
use crate::linux::{Kernel, Pids, Program, descriptors};
use crate::memory::{Limits, MapError, Memory};
use crate::signal::Signals;

/// Why a program can't be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}: {1}")]
    File(String, Errno),
    #[error("{0}: not found, neither as a path nor in PATH")]
    NotFound(String),
    #[error("{0}: not executable; `chmod +x` it if it is a program")]
    NotExecutable(String),
    #[error("{0}: not an x86-64 ELF executable (it is: {1})")]
    NotX86(String, String),
    #[error("{0}: damaged ELF file: {1}")]
    Damaged(String, &'static str),
    #[error("{0}: more than four #! scripts in a row")]
    ScriptDepth(String),
    #[error("{0}: its interpreter {1}: {2}")]
    Interpreter(String, String, Box<LoadError>),
    #[error("{0}: {1}")]
    Map(String, MapError),
    #[error("{0}: arguments and environment are too long for the stack")]
    ArgumentsTooLong(String),
}

impl LoadError {
    /// The translator's own exit status for this failure: as a shell's.
    pub fn status(&self) -> i32 {
        match self {
            Self::NotFound(_) | Self::File(_, Errno(libc::ENOENT | libc::ENOTDIR)) => 127,
            _ => 126,
        }
    }

    /// What execve(2) answers.
    pub fn errno(&self) -> Errno {
        match self {
            Self::File(_, errno) => *errno,
            Self::NotFound(_) => Errno(libc::ENOENT),
            Self::NotExecutable(_) => Errno(libc::EACCES),
            Self::NotX86(..) | Self::Damaged(..) => Errno(libc::ENOEXEC),
            Self::ScriptDepth(_) => Errno(libc::ELOOP),
            Self::Interpreter(_, _, inner) => match inner.errno() {
                Errno(libc::ENOEXEC) => Errno(libc::ELIBBAD),
                errno => errno,
            },
            Self::Map(..) => Errno(libc::ENOMEM),
            Self::ArgumentsTooLong(_) => Errno(libc::E2BIG),
        }
    }
}

/// A program that may be executed: what `execve` finds out before it gives the old one up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The ELF file: the program, or the interpreter of the script.
    pub path: PathBuf,
    /// All arguments, argv[0] included, with what `#!` lines put before them.
    pub args: Vec<OsString>,
}

/// Longest `#!` line (BINPRM_BUF_SIZE), and how many scripts may run each other.
const SCRIPT_LINE: usize = 256;
const SCRIPT_DEPTH: usize = 5;

/// Follows `#!` lines to an x86-64 ELF executable (binfmt_script), or says why there is none.
pub fn resolve(path: &Path, args: &[OsString]) -> Result<Resolved, LoadError> {
    let mut path = path.to_owned();
    let mut args = args.to_vec();
    for _ in 0..SCRIPT_DEPTH {
        let file = open_executable(&path)?;
        let head = elf::read_head(&file).map_err(|e| LoadError::File(name(&path), e.into()))?;
        let Some(line) = head.strip_prefix(b"#!") else {
            let image = Elf::parse(&file, &name(&path))?;
            if let Some(interpreter) = &image.interpreter {
                let wrap = |e| LoadError::Interpreter(name(&path), name(interpreter), Box::new(e));
                let file = open_executable(interpreter).map_err(wrap)?;
                Elf::parse(&file, &name(interpreter)).map_err(wrap)?;
            }
            return Ok(Resolved { path, args });
        };
        let (interpreter, argument) = parse_script(line)
            .ok_or_else(|| LoadError::NotX86(name(&path), "a #! script without interpreter".into()))?;
        // argv[0] gives way to the interpreter, its argument and the script's path.
        let mut new = vec![interpreter.as_os_str().to_owned()];
        new.extend(argument);
        new.push(path.clone().into());
        new.extend(args.into_iter().skip(1));
        args = new;
        path = interpreter;
    }
    Err(LoadError::ScriptDepth(name(&path)))
}

/// Takes a `#!` line apart: the interpreter and, as one word, the rest.
fn parse_script(line: &[u8]) -> Option<(PathBuf, Option<OsString>)> {
    let line = &line[..line.len().min(SCRIPT_LINE - 2)];
    let line = line.split(|&b| b == b'\n').next()?;
    let line = line.trim_ascii();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(end);
    if interpreter.is_empty() {
        return None;
    }
    let rest = rest.trim_ascii();
    let argument = (!rest.is_empty()).then(|| OsStr::from_bytes(rest).to_owned());
    Some((OsStr::from_bytes(interpreter).into(), argument))
}

/// Opens a file as execve(2) would: a regular one with permission to execute.
fn open_executable(path: &Path) -> Result<File, LoadError> {
    let failed = |e: io::Error| LoadError::File(name(path), e.into());
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(LoadError::File(name(path), Errno(libc::EISDIR)));
    }
    let text = c_path(path).ok_or_else(|| LoadError::File(name(path), Errno(libc::ENOENT)))?;
    // SAFETY: the path is a C string. The effective user's permission counts.
    let allowed = unsafe { libc::faccessat(libc::AT_FDCWD, text.as_ptr(), libc::X_OK, libc::AT_EACCESS) } == 0;
    if !metadata.is_file() || !allowed || metadata.permissions().mode() & 0o111 == 0 {
        return Err(LoadError::NotExecutable(name(path)));
    }
    File::open(path).map_err(failed)
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// The environment exactly as it was passed, entries without a `=` included.
pub fn environment() -> Vec<OsString> {
    let mut all = Vec::new();
    // SAFETY: `environ` is a null-terminated array of C strings, and nobody changes it meanwhile.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            all.push(OsString::from_vec(CStr::from_ptr(*at).to_bytes().to_vec()));
            at = at.add(1);
        }
    }
    all
}

/// Applies `-E VAR=VALUE` and `-E VAR`.
fn change_environment(env: &mut Vec<OsString>, changes: &[OsString]) {
    for change in changes {
        let bytes = change.as_bytes();
        let end = bytes.iter().position(|&b| b == b'=');
        let variable = &bytes[..end.unwrap_or(bytes.len())];
        let is_it = |entry: &OsString| {
            let entry = entry.as_bytes();
            entry.starts_with(variable) && entry.get(variable.len()) == Some(&b'=')
        };
        let place = env.iter().position(is_it);
        env.retain(|entry| !is_it(entry));
        if end.is_some() {
            let place = place.unwrap_or(env.len());
            env.insert(place, change.clone());
        }
    }
}

/// Finds a program by its path, or in `PATH` if its name has no slash.
fn find(program: &OsStr, env: &[OsString]) -> Result<PathBuf, LoadError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let path =
        env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=")).unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    std::env::split_paths(OsStr::from_bytes(path))
        .map(|dir| dir.join(program))
        .find(|candidate| open_executable(candidate).is_ok())
        .ok_or_else(|| LoadError::NotFound(program.to_string_lossy().into_owned()))
}

/// Makes the guest that the command line asks for.
pub fn program(config: Config) -> Result<Guest, LoadError> {
    let words = match &config.subject {
        Subject::Program(words) => words.clone(),
        _ => Vec::new(),
    };
    let mut env = environment();
    change_environment(&mut env, &config.env);
    let word = words.first().cloned().unwrap_or_default();
    let path = find(&word, &env)?;
    let mut args = words;
    if let (Some(first), Some(argv0)) = (args.first_mut(), &config.argv0) {
        first.clone_from(argv0);
    }
    let resolved = resolve(&path, &args)?;
    load(config, &path, &resolved, env)
}

/// Maps the executable, builds its stack and sets the registers as the kernel would.
fn load(config: Config, asked: &Path, resolved: &Resolved, env: Vec<OsString>) -> Result<Guest, LoadError> {
    let program_name = name(&resolved.path);
    let mut memory = Memory::new();
    memory.set_limits(Limits::take_over());
    memory.leave_stack_room(stack::limit());
    let mut state = Box::<CpuState>::default();
    let loaded = elf::load(&mut memory, &resolved.path)?;
    memory.set_brk(loaded.brk, loaded.brk);
    let layout = stack::Contents { loaded: &loaded, path: asked, args: &resolved.args, env: &env };
    let stack = layout.build(&mut memory, &program_name)?;
    state.gpr[RSP] = stack.pointer;
    state.rip = loaded.entry;
    set_thread_name(&resolved.path);
    let exe = std::fs::canonicalize(&resolved.path).unwrap_or_else(|_| resolved.path.clone());
    let program = Program { exe, args: resolved.args.clone(), env, auxv: stack.auxv };
    let pids = config.guest_pid.map_or_else(Pids::own, Pids::resumed);
    tracing::debug!(path = %program_name, entry = format_args!("{:#x}", loaded.entry), "loaded");
    let mut engine = Engine::new(&config);
    engine.use_cache(&config, &program.exe);
    if let Some((soft, hard)) = config.descriptors {
        descriptors::give_limit_back(soft, hard);
    }
    let mut kernel = Kernel::new(pids, program);
    kernel.cpu_before = config.cpu_before;
    Ok(Guest { engine, state, memory, signals: Signals::inherited(), kernel, config })
}

/// The process is called what the program's file is called, as after an execve (ps, /proc/PID/comm).
fn set_thread_name(path: &Path) {
    if let Some(text) = path.file_name().and_then(|n| CString::new(n.as_bytes()).ok()) {
        // SAFETY: a C string; the kernel takes its first 15 bytes.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, text.as_ptr());
        }
    }
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;

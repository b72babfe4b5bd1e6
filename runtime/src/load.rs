//! Loads an x86-64 program the way Linux's binfmt_elf and binfmt_script do, at fixed addresses that its address
//! randomisation might choose: position-independent executables at 0x5555_5555_4000, the dynamic loader at the top of the
//! mmap area with the vdso below it, the stack below 0x7fff_efff_f000 (`crate::memory::STACK_TOP`), the heap after the
//! executable.
//!
//! Finding out what a file is ([`resolve`]) stands apart from loading it, because execve(2) must have found all
//! that can be wrong while there is still a program to tell.

mod elf;
pub mod open;
mod script;
mod stack;

pub(crate) use elf::Elf;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use xlate_abi::state::{CpuState, RSP};

use crate::config::{Config, Handed, Subject};
use crate::engine::Engine;
use crate::errno::Errno;
use crate::guest::Guest;
use crate::linux::{Executable, Kernel, Pids, Program, descriptors};
use crate::memory::{Limits, MapError, Memory};
use crate::processor::Processor;
use crate::signal::Signals;
use open::Program as Opened;
use script::Script;

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
    #[error("{0}: not a regular file")]
    NotRegular(String),
    #[error("{0}: damaged ELF file: {1}")]
    Damaged(String, &'static str),
    /// As [`LoadError::Damaged`], but Linux finds it out only when the old program is gone.
    #[error("{0}: damaged ELF file: {1}")]
    Unmappable(String, &'static str),
    #[error("{0}: more than five #! scripts in a row")]
    ScriptDepth(String),
    #[error("{0}: a #! script without a name for the program that runs it")]
    ScriptUnnamed(String),
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
            Self::NotExecutable(_) | Self::NotRegular(_) => Errno(libc::EACCES),
            Self::NotX86(..) | Self::Damaged(..) | Self::Unmappable(..) => Errno(libc::ENOEXEC),
            Self::ScriptUnnamed(_) => Errno(libc::ENOENT),
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
#[derive(Debug)]
pub struct Resolved {
    /// The ELF file: the program, or the interpreter of the script.
    pub program: Opened,
    /// All arguments, argv[0] included, with what `#!` lines put before them.
    pub args: Vec<OsString>,
}

/// How many scripts may run each other (fs/exec.c, exec_binprm).
const SCRIPT_DEPTH: usize = 5;

/// Follows `#!` lines to an x86-64 ELF executable, or says why there is none. `path` is the name that the program was
/// asked for by; it is `None` if the interpreter of a script couldn't open it by that name any more.
pub fn resolve(opened: Opened, path: Option<&Path>, args: Vec<OsString>) -> Result<Resolved, LoadError> {
    let mut called: Option<PathBuf> = path.map(Path::to_owned);
    let (mut program, mut args) = (opened, args);
    for _ in 0..=SCRIPT_DEPTH {
        let file_name = called.as_deref().map_or_else(|| shown(&program.file), name);
        let (head, _) = elf::read_head(&program.file).map_err(|e| LoadError::File(file_name.clone(), e.into()))?;
        if !head.starts_with(b"#!") {
            check(&program.file, &file_name)?;
            return Ok(Resolved { program, args });
        }
        let script = Script::parse(&head)
            .ok_or_else(|| LoadError::NotX86(file_name.clone(), "a #! script without interpreter".into()))?;
        let path = called.ok_or(LoadError::ScriptUnnamed(file_name))?;
        // argv[0] gives way to the interpreter, its argument and the script's path.
        let first = [script.interpreter.clone().into_os_string()].into_iter().chain(script.argument);
        args = first.chain([path.into_os_string()]).chain(args.into_iter().skip(1)).collect();
        program = open_named(&script.interpreter)?;
        called = Some(script.interpreter);
    }
    Err(LoadError::ScriptDepth(called.as_deref().map_or_else(String::new, name)))
}

/// What binfmt_elf checks before the point of no return: the file's own headers, and those of its dynamic loader.
fn check(file: &File, file_name: &str) -> Result<(), LoadError> {
    let image = Elf::parse(file, file_name)?;
    if let Some(interpreter) = &image.interpreter {
        let wrap = |e| LoadError::Interpreter(file_name.to_owned(), name(interpreter), Box::new(e));
        let loader = open_named(interpreter).map_err(wrap)?;
        Elf::parse_loader(&loader.file, &name(interpreter)).map_err(wrap)?;
    }
    Ok(())
}

/// Opens a file as execve(2) would.
fn open_named(path: &Path) -> Result<Opened, LoadError> {
    open::path(path).map_err(|errno| match (errno, std::fs::metadata(path)) {
        (Errno(libc::EACCES), Ok(found)) if !found.is_file() => LoadError::NotRegular(name(path)),
        (Errno(libc::EACCES), Ok(_)) => LoadError::NotExecutable(name(path)),
        _ => LoadError::File(name(path), errno),
    })
}

/// An open file's path, for messages and for the cache.
fn shown(file: &File) -> String {
    open::shown_path(file).map_or_else(|_| "the program".to_owned(), |path| name(&path))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

// SAFETY: the C library defines it so (environ(7)).
unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// The process's own environment, as execve(2) takes it.
pub fn own_environment() -> *const *const libc::c_char {
    // SAFETY: the C library's variable, which is only changed while the process is placed.
    unsafe { environ }
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
        .find(|candidate| open_named(candidate).is_ok())
        .ok_or_else(|| LoadError::NotFound(program.to_string_lossy().into_owned()))
}

/// A program with all that it is started with.
struct Start {
    program: Opened,
    args: Vec<OsString>,
    env: Vec<OsString>,
    /// AT_EXECFN: the file as it was asked for (a script's own path).
    asked: OsString,
    /// The name of the process, of which the kernel takes 15 bytes.
    task_name: OsString,
}

/// Makes the guest that the command line asks for.
pub fn program(mut config: Config) -> Result<Guest, LoadError> {
    let words = match &config.subject {
        Subject::Program(words) => words.clone(),
        _ => Vec::new(),
    };
    let start = match config.handed.take() {
        Some(handed) => handed_over(handed, words)?,
        None => named(&config, words)?,
    };
    load(config, start)
}

/// The program of the command line that a user wrote.
fn named(config: &Config, words: Vec<OsString>) -> Result<Start, LoadError> {
    let mut env = environment();
    change_environment(&mut env, &config.env);
    let path = find(words.first().map_or(OsStr::new(""), OsString::as_os_str), &env)?;
    let resolved = resolve(open_named(&path)?, Some(&path), with_first(words, config))?;
    let task_name = path.file_name().unwrap_or_default().to_owned();
    Ok(Start { program: resolved.program, args: resolved.args, env, asked: path.into(), task_name })
}

/// The program that this process's last one has opened and resolved: only descriptors lead to it for sure. After its path
/// stand all of its arguments, argv[0] too.
fn handed_over(handed: Handed, words: Vec<OsString>) -> Result<Start, LoadError> {
    // SAFETY: the last program's runtime left these descriptors open for this, and nothing else knows them.
    let own = |fd| unsafe { File::from_raw_fd(fd) };
    let (file, env) = (own(handed.program), own(handed.environment));
    let failed = |e: std::io::Error| LoadError::File("the environment".to_owned(), e.into());
    let env = crate::linux::read_strings(&env).map_err(failed)?;
    let program = Opened { file, gains_rights: handed.gains_rights };
    let args = words.into_iter().skip(1).collect();
    Ok(Start { program, args, env, asked: handed.asked, task_name: handed.task_name })
}

/// The arguments: the first word is the program's path, and argv[0] unless that was given by itself.
fn with_first(mut words: Vec<OsString>, config: &Config) -> Vec<OsString> {
    if let (Some(first), Some(argv0)) = (words.first_mut(), &config.argv0) {
        first.clone_from(argv0);
    }
    words
}

/// Maps the executable, builds its stack and sets the registers as the kernel would.
fn load(config: Config, start: Start) -> Result<Guest, LoadError> {
    let Start { program, args, env, asked, task_name } = start;
    let file_name = shown(&program.file);
    if program.gains_rights {
        eprintln!(
            "xlate: {file_name} has a set-ID bit or capabilities, which have no effect here: it keeps the caller's rights"
        );
    }
    let mut memory = Memory::new();
    memory.set_limits(Limits::take_over());
    memory.leave_stack_room(stack::limit());
    let mut state = Box::<CpuState>::default();
    let loaded = elf::load(&mut memory, &program.file, &file_name)?;
    memory.set_brk(loaded.brk, loaded.brk);
    let processor = Box::new(Processor::new(config.cpu));
    let layout =
        stack::Contents { loaded: &loaded, path: Path::new(&asked), args: &args, env: &env, processor: &processor };
    let stack = layout.build(&mut memory, &file_name)?;
    state.gpr[RSP] = stack.pointer;
    state.rip = loaded.entry;
    set_task_name(&task_name);
    tracing::debug!(path = %file_name, entry = format_args!("{:#x}", loaded.entry), "loaded");
    let mut engine = Engine::new(&config);
    engine.use_cache(&config, Path::new(&file_name));
    let exe = Executable::running(&program.file).map_err(|e| LoadError::File(file_name, e.into()))?;
    if let Some((soft, hard)) = config.descriptors {
        descriptors::give_limit_back(soft, hard);
    }
    let program = Program { exe, args, env, strings: Some(stack.strings), auxv: stack.auxv };
    let pids = config.guest_pid.map_or_else(Pids::own, Pids::resumed);
    let mut kernel = Kernel::new(pids, program);
    kernel.cpu_before = config.cpu_before;
    let mut signals = Signals::inherited();
    signals.set_float_format(processor.frames());
    Ok(Guest { engine, state, processor, memory, signals, kernel, config })
}

/// The process is called what the file was called that was executed, a script's own name included (ps,
/// /proc/PID/comm).
fn set_task_name(task_name: &OsStr) {
    if let Ok(text) = CString::new(task_name.as_bytes()) {
        // SAFETY: a C string; the kernel takes its first 15 bytes.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, text.as_ptr());
        }
    }
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;

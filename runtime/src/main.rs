//! The `xlate-runtime` command: reads its options, gets out of the guest's addresses, and becomes the guest.
//!
//! It has no Rust `main`: the standard library's start-up would ignore SIGPIPE and install signal handlers, which
//! are the guest's to decide about.
#![no_main]

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;

use xlate_abi::marker::Marker;
use xlate_runtime::config::{Config, ConfigError, Subject};
use xlate_runtime::{layout, load, restore, signal};

/// The C library's allocator would use the program break, which is the guest's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells the capture of processes that this one runs a guest.
#[used]
#[unsafe(link_section = ".note.xlate")]
static MARKER: Marker = Marker::runtime();

/// The C library's mmap for all that is linked into this program, the allocator above all (`layout` says why), under
/// both its names: with 64-bit offsets they are one.
#[cfg(target_arch = "x86_64")]
macro_rules! replace_mmap {
    ($($name:ident)*) => {
        $(
            /// # Safety
            /// As for mmap(2).
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(
                at: *mut libc::c_void,
                len: usize,
                prot: libc::c_int,
                flags: libc::c_int,
                fd: libc::c_int,
                offset: libc::off_t,
            ) -> *mut libc::c_void {
                // SAFETY: the caller's contract.
                unsafe { layout::map(at, len, prot, flags, fd, offset) }
            }
        )*
    };
}

#[cfg(target_arch = "x86_64")]
replace_mmap! { mmap mmap64 }

/// The allocator reserves memory in pieces of 32 MiB and not of a gigabyte, so that the first one fits into the
/// translator's area and into a limit on address space.
#[cfg(target_arch = "x86_64")]
extern "C" fn reserve_small_arenas() {
    // SAFETY: mimalloc.h declares it so.
    unsafe extern "C" {
        fn mi_option_set(option: libc::c_int, value: libc::c_long);
    }
    /// `mi_option_arena_reserve`, in KiB (mimalloc.h).
    const ARENA_RESERVE: libc::c_int = 23;
    // SAFETY: sets a variable of the allocator's, before its first use.
    unsafe { mi_option_set(ARENA_RESERVE, 32 << 10) };
}

/// Runs before any other code of this program, so before the first allocation.
#[cfg(target_arch = "x86_64")]
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_ALL: extern "C" fn() = reserve_small_arenas;

/// Exit status for wrong usage and failures of the translator itself.
const FAILED: i32 = 125;

#[unsafe(no_mangle)]
extern "C" fn main(argc: libc::c_int, argv: *const *const libc::c_char) -> libc::c_int {
    let args: Vec<OsString> = (0..argc as usize)
        .map(|i| {
            // SAFETY: the C runtime hands over `argc` strings.
            let text = unsafe { CStr::from_ptr(*argv.add(i)) };
            OsString::from_vec(text.to_bytes().to_vec())
        })
        .collect();
    let config = match Config::parse(&args) {
        Ok(config) => config,
        Err(ConfigError::Help(text)) => {
            print!("{text}");
            return 0;
        }
        Err(error) => return fail(FAILED, &error),
    };
    if let Subject::Work(work) = config.subject {
        // It has no guest to get out of the way of.
        start_log(&config);
        return work.run();
    }
    match layout::settle(config, args, run) {
        Ok(never) => match never {},
        Err(error) => fail(FAILED, &error),
    }
}

fn fail(status: i32, error: &dyn std::fmt::Display) -> i32 {
    eprintln!("xlate: {error}");
    status
}

/// The process in its final place.
fn run(config: Config, args: Vec<OsString>) -> ! {
    start_log(&config);
    let follows_an_exec = config.handed.is_some();
    let status = match config.subject.clone() {
        Subject::Program(_) => match load::program(config) {
            Ok(mut guest) => guest.run(),
            Err(error) if follows_an_exec => {
                // The program that could be told is gone (fs/exec.c, bprm_execve).
                fail(error.status(), &error);
                signal::die_by(libc::SIGSEGV)
            }
            Err(error) => fail(error.status(), &error),
        },
        Subject::Image(image) => match restore::image(&image, config.clone()) {
            Ok(mut guest) => guest.run(),
            Err(restore::RestoreError::Occupied(_)) => match layout::move_away(&config, &args) {
                Ok(never) => match never {},
                Err(error) => fail(FAILED, &error),
            },
            Err(error) => fail(error.status(), &error),
        },
        Subject::LayoutTest => test_layout(),
        Subject::Work(_) => unreachable!("a worker isn't placed"),
    };
    std::process::exit(status)
}

fn start_log(config: &Config) {
    let Some(filter) = &config.log else {
        return;
    };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// `--self-test=layout`: prints the memory map; fails if anything of it lies where guests live.
fn test_layout() -> i32 {
    print!("{}", std::fs::read_to_string("/proc/self/maps").unwrap_or_default());
    let misplaced = layout::misplaced();
    for line in &misplaced {
        eprintln!("xlate: in the guest's way: {line}");
    }
    i32::from(!misplaced.is_empty())
}

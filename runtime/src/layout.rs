//! Gets the translator out of the addresses where guests live.
//!
//! On AArch64 there is nothing to do: the kernel puts a process above 0xaaaa_0000_0000, guests live below
//! 0x8000_0000_0000. On x86-64 the translator is started through the dynamic loader ([`xlate_abi::start`]), with a soft
//! RLIMIT_STACK of 64 TiB and without address randomisation: the kernel then leaves that much room below the stack, so
//! that the translator, its libraries, the vdso and every later mapping come to lie just below
//! 0x4000_0000_0000 ([`crate::memory::RUNTIME_AREA`]). What the kernel still puts among the guest's addresses is
//! the initial stack, so the translator moves to a stack of its own and unmaps that one, and the program break,
//! which nobody uses (the allocator, C code's included, never calls brk).

use std::ffi::OsString;
use std::io;

use crate::config::Config;

/// The translator can't be placed.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[cfg(target_arch = "x86_64")]
    #[error(transparent)]
    Start(#[from] xlate_abi::start::StartError),
    #[error("the translator's own executable isn't known: {0}")]
    Itself(io::Error),
    #[error(
        "the translator came to lie at {0:#x}, among the program's addresses; is it started through an emulator or with a changed loader?"
    )]
    NotPlaced(u64),
    #[error("a stack for the translator: {0}")]
    Stack(io::Error),
}

/// Size of the translator's own stack; only touched pages cost anything.
#[cfg(target_arch = "x86_64")]
const STACK_SIZE: usize = 64 << 20;

/// Places the process and goes on in `main` on a stack that isn't in the guest's way. `args` is the whole command
/// line, to start anew with.
pub fn settle(
    config: Config,
    args: &[OsString],
    main: fn(Config) -> !,
) -> Result<std::convert::Infallible, LayoutError> {
    #[cfg(target_arch = "x86_64")]
    {
        match config.placed.clone() {
            None => x86_64::restart(args),
            Some(placed) => x86_64::arrive(config, &placed, main),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = args;
        main(config)
    }
}

/// The translator's mappings that lie where guests live: none, if all is well. For the self-test.
pub fn misplaced() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines()
        .filter(|line| {
            let start = line.split('-').next().and_then(|s| u64::from_str_radix(s, 16).ok());
            start.is_some_and(in_the_way)
        })
        .map(str::to_owned)
        .collect()
}

/// Where mimalloc puts further arenas (MI_HINT_BASE to MI_HINT_MAX in its os.c). A guest gets there only by asking
/// for just these addresses, and is told then.
const ALLOCATOR_AREA: std::ops::Range<u64> = 0x0200_0000_0000..0x1f00_0000_0000;

/// Whether a mapping that begins here is in a guest's way. An AArch64 translator under emulation has low
/// addresses of its own, away from those that Linux uses on x86-64.
fn in_the_way(start: u64) -> bool {
    if ALLOCATOR_AREA.contains(&start) {
        false
    } else if cfg!(target_arch = "x86_64") {
        start < crate::memory::GUEST_END && !crate::memory::RUNTIME_AREA.contains(&start)
    } else {
        (0x5555_5555_4000..0x5600_0000_0000).contains(&start) || (0x7fff_0000_0000..0x8000_0000_0000).contains(&start)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::convert::Infallible;
    use std::ffi::{CString, OsString};
    use std::io;
    use std::os::unix::ffi::OsStringExt;

    use xlate_abi::start::{become_placed, personality, set_stack_limit, stack_limit};

    use super::{LayoutError, STACK_SIZE};
    use crate::config::{Config, Placed};
    use crate::memory::RUNTIME_AREA;

    /// First stage, where the command hasn't done it: starts this program anew in its place.
    pub fn restart(args: &[OsString]) -> Result<Infallible, LayoutError> {
        let runtime = std::env::current_exe().map_err(LayoutError::Itself)?;
        Ok(become_placed(&runtime, args.iter().skip(1))?)
    }

    /// Second stage: checks the placement, gives the process attributes back and leaves the initial stack.
    pub fn arrive(config: Config, placed: &Placed, main: fn(Config) -> !) -> Result<Infallible, LayoutError> {
        let here = arrive as *const () as u64;
        if !RUNTIME_AREA.contains(&here) {
            return Err(LayoutError::NotPlaced(here));
        }
        let limit = stack_limit();
        set_stack_limit(placed.stack_limit, limit.rlim_max).map_err(LayoutError::Stack)?;
        personality(placed.personality);
        move_environment();
        let top = own_stack().map_err(LayoutError::Stack)?;
        let start = Box::into_raw(Box::new(Start { config, main }));
        // SAFETY: the stack is mapped and unused; `on_own_stack` never returns to this one.
        unsafe {
            core::arch::asm!(
                "mov rsp, {top}",
                "xor ebp, ebp",
                "call {function}",
                "ud2",
                top = in(reg) top,
                function = sym on_own_stack,
                in("rdi") start,
                options(noreturn),
            )
        }
    }

    struct Start {
        config: Config,
        main: fn(Config) -> !,
    }

    extern "C" fn on_own_stack(start: *mut Start) -> ! {
        // SAFETY: `arrive` made it from a box and hands it over.
        let start = unsafe { Box::from_raw(start) };
        unmap_initial_stack();
        let Start { config, main } = *start;
        main(config)
    }

    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }

    /// The C library keeps pointers to the environment on the initial stack: they get a copy. (Its pointers to
    /// argv and the auxiliary vector are not used after start-up on x86-64.)
    fn move_environment() {
        let copy: Vec<*mut libc::c_char> = crate::load::environment()
            .into_iter()
            .filter_map(|entry| CString::new(entry.into_vec()).ok())
            .map(CString::into_raw)
            .chain([core::ptr::null_mut()])
            .collect();
        // SAFETY: there is one thread; the copy is leaked, so it outlives every reader.
        unsafe {
            environ = Box::leak(copy.into_boxed_slice()).as_mut_ptr();
        }
    }

    /// Maps the translator's stack with a guard page below; returns its top.
    fn own_stack() -> io::Result<u64> {
        // SAFETY: a new private mapping, replacing nothing.
        unsafe {
            let base = libc::mmap(
                core::ptr::null_mut(),
                STACK_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            );
            if base == libc::MAP_FAILED || libc::mprotect(base, 4096, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(base as u64 + STACK_SIZE as u64)
        }
    }

    fn unmap_initial_stack() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let range = maps.lines().find(|l| l.ends_with("[stack]")).and_then(|line| {
            let (start, end) = line.split_whitespace().next()?.split_once('-')?;
            Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
        });
        if let Some((start, end)) = range {
            // SAFETY: nothing points into the initial stack any more but what the C library reads at start-up.
            unsafe {
                libc::munmap(start as *mut libc::c_void, (end - start) as usize);
            }
        }
    }
}

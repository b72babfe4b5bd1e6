//! Gets the translator out of the addresses where guests live.
//!
//! On AArch64 there is nothing to do: the kernel puts a process above 0xaaaa_0000_0000, guests live below
//! 0x8000_0000_0000. On x86-64 the translator is started through the dynamic loader ([`xlate_abi::start`]), without address
//! randomisation: the kernel then puts it, its libraries, the vdso and later mappings where every native program has
//! its libraries, just below 0x7fff_f7ff_f000. The guest's stack and libraries come to lie below that ([`own_area`]), as they
//! would with address randomisation, which moves a stack down by up to 16 GiB: nobody may count on the addresses above his
//! own stack, and no shadow memory, heap or program is made for them. That needs no rights and no limits.
//!
//! The translator moves to a stack of its own in the room that the kernel keeps for the initial one, which goes. The program
//! break nobody uses (the allocator, C code's included, never calls brk). An image may have memory at the top itself,
//! for its process had a stack there: then the translator is started with address randomisation until it lies elsewhere.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::ops::Range;

use crate::config::Config;
use crate::memory::GUEST_END;

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
    #[error("without address randomisation here, the translator can't lie elsewhere than where the image has memory")]
    NotRandom,
    #[error("a stack for the translator: {0}")]
    Stack(io::Error),
}

/// Where the translator is on x86-64: the upper end of the address space, above the guest's stack.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub const TOP_AREA: Range<u64> = 0x7fff_f040_0000..GUEST_END;
/// Where it isn't there (an image has memory at the top itself, or a test runs as an ordinary process), the area is a
/// whole number of these, one on either side of the one that it lies in.
const NEIGHBOURHOOD: u64 = 256 << 20;

/// Part of [`TOP_AREA`] above the kernel's own choice of addresses: its room for the initial stack. The translator's
/// stack is at its start, the memory for translated code follows.
#[cfg(target_arch = "x86_64")]
const STACK_ROOM: u64 = 0x7fff_f800_0000;
/// Size of the translator's own stack; only touched pages cost anything.
#[cfg(target_arch = "x86_64")]
const STACK_SIZE: u64 = 16 << 20;
/// Where memory for translated code goes, as far as there is room up to the end of the area.
#[cfg(target_arch = "x86_64")]
const CODE: Range<u64> = STACK_ROOM + STACK_SIZE..GUEST_END & !0x1f_ffff;
/// Where mappings go that are too large for the area: away from where the guest's next ones would be placed.
#[cfg(target_arch = "x86_64")]
const OVERFLOW: Range<u64> = 0x7f5a_4000_0000..0x7f7a_4000_0000;

/// The addresses that are the translator's and never a guest's.
pub fn own_area() -> Range<u64> {
    let here = own_area as *const () as u64;
    if TOP_AREA.contains(&here) {
        return TOP_AREA;
    }
    let start = here & !(NEIGHBOURHOOD - 1);
    start - NEIGHBOURHOOD..start + 2 * NEIGHBOURHOOD
}

/// What goes on in the process's final place: with the options and the whole command line.
pub type Main = fn(Config, Vec<OsString>) -> !;

/// Places the process and goes on in `main` on a stack that isn't in the guest's way. `args` is the whole command
/// line, to start anew with.
pub fn settle(config: Config, args: Vec<OsString>, main: Main) -> Result<Infallible, LayoutError> {
    #[cfg(target_arch = "x86_64")]
    {
        match config.placed.clone() {
            None => x86_64::restart(&args),
            Some(placed) => x86_64::arrive(config, args, &placed, main),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        main(config, args)
    }
}

/// Starts the translator anew where it leaves the top of the address space to the image.
pub fn move_away(config: &Config, args: &[OsString]) -> Result<Infallible, LayoutError> {
    #[cfg(target_arch = "x86_64")]
    {
        use xlate_abi::start::{Place, become_placed};
        let again = config.placed.as_ref().is_some_and(|placed| placed.place == Place::Random);
        if again && own_area() == TOP_AREA {
            return Err(LayoutError::NotRandom);
        }
        let is_placed = |word: &&OsString| word.as_encoded_bytes().starts_with(b"--placed=");
        let rest = args.iter().skip(1).filter(|word| !is_placed(word));
        Ok(become_placed(&config.runtime_path(), rest, Place::Random)?)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (config, args);
        unreachable!("images have nothing above 0x8000_0000_0000")
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

/// Whether a mapping that begins here is in a guest's way. An AArch64 translator under emulation has low
/// addresses of its own, away from those that Linux uses on x86-64.
fn in_the_way(start: u64) -> bool {
    if cfg!(target_arch = "x86_64") {
        start < GUEST_END && !own_area().contains(&start)
    } else {
        (0x5555_5555_4000..0x5600_0000_0000).contains(&start) || (0x7fff_0000_0000..0x8000_0000_0000).contains(&start)
    }
}

/// Address for `size` bytes of translated code, or null for the kernel's choice.
pub fn place_for_code(size: usize) -> *mut libc::c_void {
    #[cfg(target_arch = "x86_64")]
    if own_area() == TOP_AREA && size as u64 <= CODE.end - CODE.start {
        return CODE.start as *mut libc::c_void;
    }
    let _ = size;
    core::ptr::null_mut()
}

#[cfg(target_arch = "x86_64")]
pub use x86_64::map;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::convert::Infallible;
    use std::ffi::{CString, OsString};
    use std::io;
    use std::os::unix::ffi::OsStringExt;

    use xlate_abi::start::{Place, become_placed, personality, set_stack_limit, stack_limit};

    use super::{LayoutError, Main, OVERFLOW, STACK_ROOM, STACK_SIZE, TOP_AREA, own_area};
    use crate::config::{Config, Placed};

    /// First stage, where the command hasn't done it: starts this program anew in its place.
    pub fn restart(args: &[OsString]) -> Result<Infallible, LayoutError> {
        let runtime = std::env::current_exe().map_err(LayoutError::Itself)?;
        Ok(become_placed(&runtime, args.iter().skip(1), Place::Top)?)
    }

    /// Second stage: checks the placement, gives the process attributes back and leaves the initial stack.
    pub fn arrive(config: Config, args: Vec<OsString>, placed: &Placed, main: Main) -> Result<Infallible, LayoutError> {
        let here = arrive as *const () as u64;
        if placed.place == Place::Top && !TOP_AREA.contains(&here) {
            return Err(LayoutError::NotPlaced(here));
        }
        let limit = stack_limit();
        set_stack_limit(placed.stack_limit, limit.rlim_max).map_err(LayoutError::Stack)?;
        personality(placed.personality & !(libc::READ_IMPLIES_EXEC as u32));
        move_environment();
        let top = own_stack().map_err(LayoutError::Stack)?;
        let start = Box::into_raw(Box::new(Start { config, args, main }));
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
        args: Vec<OsString>,
        main: Main,
    }

    extern "C" fn on_own_stack(start: *mut Start) -> ! {
        // SAFETY: `arrive` made it from a box and hands it over.
        let start = unsafe { Box::from_raw(start) };
        unmap_initial_stack();
        let Start { config, args, main } = *start;
        main(config, args)
    }

    // SAFETY: the C library defines it so (environ(7)).
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
        let place = if own_area() == TOP_AREA { STACK_ROOM } else { 0 };
        // SAFETY: a new private mapping, replacing nothing.
        unsafe {
            let base = libc::mmap(
                place as *mut libc::c_void,
                STACK_SIZE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            );
            if base == libc::MAP_FAILED || libc::mprotect(base, 4096, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(base as u64 + STACK_SIZE)
        }
    }

    /// mmap(2) for everything in this process that calls the C library's function: what has no fixed address comes to
    /// lie in [`own_area`], whatever the allocator's hints say.
    ///
    /// # Safety
    /// As for the system call.
    pub unsafe fn map(
        at: *mut libc::c_void,
        len: usize,
        prot: i32,
        flags: i32,
        fd: i32,
        offset: i64,
    ) -> *mut libc::c_void {
        let system = |at: u64, flags: i32| {
            // SAFETY: the caller's contract.
            unsafe { libc::syscall(libc::SYS_mmap, at, len, prot, flags, fd, offset) as u64 }
        };
        let fixed = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0;
        let area = own_area();
        let place = if fixed || area.contains(&(at as u64)) {
            system(at as u64, flags)
        } else if area != TOP_AREA {
            system(0, flags)
        } else {
            map_in_area(len, |at| system(at, if at == 0 { flags } else { flags | libc::MAP_FIXED_NOREPLACE }))
        };
        place as *mut libc::c_void
    }

    /// Finds room at the top. The kernel gives the highest there is, which may lie among the guest's mappings once the
    /// area is full. A heap's first part goes to the area's start, which has the alignment that allocators want.
    fn map_in_area(len: usize, map: impl Fn(u64) -> u64) -> u64 {
        const LARGE: usize = 32 << 20;
        const FAILED: u64 = u64::MAX;
        if len >= LARGE && map(TOP_AREA.start) == TOP_AREA.start {
            return TOP_AREA.start;
        }
        let place = map(0);
        if place == FAILED || TOP_AREA.contains(&place) {
            return place;
        }
        // SAFETY: just mapped, and known to nobody.
        unsafe { libc::munmap(place as *mut libc::c_void, len) };
        let step = len.next_multiple_of(LARGE);
        OVERFLOW.step_by(step).find(|at| map(*at) == *at).unwrap_or_else(|| map(0))
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

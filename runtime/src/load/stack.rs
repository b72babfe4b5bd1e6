//! The initial stack: strings, auxiliary vector, environment, arguments (x86-64 psABI, 3.4.1; binfmt_elf's
//! create_elf_tables).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::LoadError;
use super::elf::Loaded;
use crate::linux::Strings;
use crate::memory::{GUEST_PAGE, MapError, Memory, STACK_GUARD_GAP, STACK_TOP};
use crate::processor::Processor;

/// Types of auxiliary vector entries (include/uapi/linux/auxvec.h).
mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const RSEQ_FEATURE_SIZE: u64 = 27;
    pub const RSEQ_ALIGN: u64 = 28;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// The soft limit where there is none; and what the host's kernel needn't extend (an emulator doesn't) is mapped
/// at once, up to this size.
const DEFAULT_SIZE: u64 = 8 << 20;
/// What Linux maps below the arguments at first (fs/exec.c, setup_arg_pages).
const EXPAND: u64 = 128 << 10;
/// What arguments and environment may take at least, whatever the limit (fs/exec.c, bprm_stack_limits).
const ARGUMENTS: u64 = 128 << 10;

/// USER_HZ on x86-64.
const CLOCK_TICKS: u64 = 100;

/// Size and alignment of `struct rseq` up to its last field, as the kernel says them whether or not a thread can have
/// such an area (include/uapi/linux/rseq.h: up to mm_cid).
const RSEQ: (u64, u64) = (28, 32);

/// What goes onto the stack.
pub struct Contents<'a> {
    pub loaded: &'a Loaded,
    /// AT_EXECFN: the file as it was asked for (a script's own path).
    pub path: &'a Path,
    pub args: &'a [OsString],
    pub env: &'a [OsString],
    /// What AT_HWCAP and others tell of it.
    pub processor: &'a Processor,
}

/// A finished stack.
pub struct Stack {
    pub pointer: u64,
    pub strings: Strings,
    pub auxv: Vec<(u64, u64)>,
}

/// Grows downwards from the top.
struct Builder {
    top: u64,
    /// The stack's bytes in reverse order.
    reversed: Vec<u8>,
}

impl Builder {
    fn pointer(&self) -> u64 {
        self.top - self.reversed.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) -> u64 {
        self.reversed.extend(bytes.iter().rev());
        self.pointer()
    }

    fn string(&mut self, text: &[u8]) -> u64 {
        self.push(&[0]);
        self.push(text)
    }

    fn align(&mut self, alignment: u64) {
        while !self.pointer().is_multiple_of(alignment) {
            self.reversed.push(0);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.reversed.iter().rev().copied().collect()
    }
}

impl Contents<'_> {
    /// Maps the stack and fills it.
    pub fn build(&self, memory: &mut Memory, program: &str) -> Result<Stack, LoadError> {
        let limit = limit();
        let random = random_bytes();
        let (bytes, _) = self.lay_out(STACK_TOP, &random);
        // How many there may be is checked by the caller of execve(2); here they have to fit.
        if bytes.len() as u64 > limit.max(ARGUMENTS) - GUEST_PAGE {
            return Err(LoadError::ArgumentsTooLong(program.to_owned()));
        }
        let exec = if self.loaded.executable_stack { libc::PROT_EXEC } else { 0 };
        let protection = libc::PROT_READ | libc::PROT_WRITE | exec;
        let top = map_stack(memory, bytes.len() as u64, limit, protection);
        let top = top.map_err(|e| LoadError::Map(program.to_owned(), e))?;
        let (bytes, stack) = self.lay_out(top, &random);
        memory.write_guest(stack.pointer, &bytes).map_err(|errno| LoadError::File(program.to_owned(), errno))?;
        Ok(stack)
    }

    /// The bytes from the stack pointer up to `top`.
    fn lay_out(&self, top: u64, random: &[u8; 16]) -> (Vec<u8>, Stack) {
        let mut b = Builder { top, reversed: Vec::new() };
        b.push(&[0; 8]);
        let exec_name = b.string(self.path.as_os_str().as_bytes());
        // The last string is pushed first, so that the strings stand in order, arguments first.
        let mut env: Vec<u64> = self.env.iter().rev().map(|e| b.string(e.as_bytes())).collect();
        let mut args: Vec<u64> = self.args.iter().rev().map(|a| b.string(a.as_bytes())).collect();
        env.reverse();
        args.reverse();
        let args_end = env.first().copied().unwrap_or(exec_name);
        let args_start = args.first().copied().unwrap_or(args_end);
        let strings = Strings { arguments: args_start..args_end, environment: args_end..exec_name };
        b.align(16);
        let platform = b.string(b"x86_64");
        b.align(16);
        let random = b.push(random);
        let auxv = self.auxv(exec_name, platform, random);
        let mut words = vec![args.len() as u64];
        words.extend(&args);
        words.push(0);
        words.extend(&env);
        words.push(0);
        words.extend(auxv.iter().flat_map(|&(kind, value)| [kind, value]));
        if words.len() % 2 != 0 {
            // The stack pointer is a multiple of 16 at the entry, whatever the number of words.
            b.push(&[0; 8]);
        }
        let table: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let pointer = b.push(&table);
        (b.bytes(), Stack { pointer, strings, auxv })
    }

    fn auxv(&self, exec_name: u64, platform: u64, random: u64) -> Vec<(u64, u64)> {
        let loaded = self.loaded;
        // SAFETY: these calls only return the process's identity.
        let (uid, euid, gid, egid) = unsafe { (libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid()) };
        vec![
            (at::SYSINFO_EHDR, loaded.vdso),
            (at::MINSIGSTKSZ, self.processor.frames().frame_size_max()),
            (at::HWCAP, u64::from(self.processor.cpuid(1, 0)[3])),
            (at::PAGESZ, GUEST_PAGE),
            (at::CLKTCK, CLOCK_TICKS),
            (at::PHDR, loaded.headers),
            (at::PHENT, 56),
            (at::PHNUM, loaded.header_count),
            (at::BASE, loaded.loader_base),
            (at::FLAGS, 0),
            (at::ENTRY, loaded.program_entry),
            (at::UID, uid.into()),
            (at::EUID, euid.into()),
            (at::GID, gid.into()),
            (at::EGID, egid.into()),
            (at::SECURE, u64::from(uid != euid || gid != egid)),
            (at::RANDOM, random),
            (at::HWCAP2, self.processor.hwcap2()),
            (at::EXECFN, exec_name),
            (at::PLATFORM, platform),
            (at::RSEQ_FEATURE_SIZE, RSEQ.0),
            (at::RSEQ_ALIGN, RSEQ.1),
            (at::NULL, 0),
        ]
    }
}

/// Maps the stack for `contents` bytes and further ones below, which the host's kernel extends up to the limit. Where it
/// doesn't, all is mapped at once. Gives its top.
fn map_stack(memory: &mut Memory, contents: u64, limit: u64, protection: i32) -> Result<u64, MapError> {
    let page = memory.page_size();
    let first = (contents.next_multiple_of(page) + EXPAND).min(limit.next_multiple_of(page));
    let first = first.max(contents.next_multiple_of(page));
    let top = map_as_high(memory, first, protection, libc::MAP_GROWSDOWN)?;
    if memory.grows_below(top - first) {
        return Ok(top);
    }
    let unmapped = memory.munmap(top - first, first);
    unmapped.map_err(|errno| MapError::System { start: top - first, end: top, errno })?;
    let limit = if limit == libc::RLIM_INFINITY { DEFAULT_SIZE } else { limit };
    let size = limit.clamp(first, memory.stack_room() - STACK_GUARD_GAP) & !(page - 1);
    map_as_high(memory, size, protection, 0)
}

/// Maps the stack as high as there is room for it; gives its top. Under an emulator its highest place may be taken by the
/// emulator's own stack, which lies at random.
fn map_as_high(memory: &mut Memory, size: u64, protection: i32, flags: i32) -> Result<u64, MapError> {
    let room = memory.stack_room();
    let mut top = STACK_TOP;
    loop {
        match memory.map_named(top - size, size, protection, flags, "[stack]") {
            Ok(()) => return Ok(top),
            Err(MapError::Conflict(_)) if STACK_TOP - top + 2 * size <= room => top -= size,
            Err(error) => return Err(error),
        }
    }
}

/// The soft limit of the stack's size.
pub fn limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: DEFAULT_SIZE, rlim_max: 0 };
    // SAFETY: `limit` is valid for the result.
    unsafe {
        libc::getrlimit(libc::RLIMIT_STACK, &mut limit);
    }
    limit.rlim_cur
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // SAFETY: the buffer is 16 bytes long; requests up to 256 bytes are never cut short.
    unsafe {
        libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u64 {
        let mut w = [0; 8];
        w.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(w)
    }

    fn loaded() -> Loaded {
        Loaded {
            entry: 0x7000,
            program_entry: 0x1000,
            headers: 0x40,
            header_count: 9,
            loader_base: 0x6000,
            vdso: 0x9000,
            brk: 0,
            executable_stack: false,
        }
    }

    #[test]
    fn a_taken_place_is_passed_over() {
        let mut memory = Memory::new();
        let (size, protection) = (1 << 20, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a fresh mapping where nothing is; if something is there, all the better.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            libc::mmap((STACK_TOP - size) as *mut libc::c_void, size as usize, protection, flags, -1, 0);
        }
        let top = map_as_high(&mut memory, size, protection, 0).unwrap();
        assert!(top <= STACK_TOP - size, "{top:#x}");
        assert!(STACK_TOP - top + size <= memory.stack_room());
    }

    #[test]
    fn stack_is_as_the_psabi_says() {
        let (loaded, processor) = (loaded(), Processor::new(None));
        for count in 0..4 {
            let args: Vec<OsString> = (0..count).map(|i| format!("arg{i}").into()).collect();
            let env = vec![OsString::from("A=1"), OsString::from("BB=22")];
            let path = Path::new("/bin/prog");
            let contents = Contents { loaded: &loaded, path, args: &args, env: &env, processor: &processor };
            let (bytes, stack) = contents.lay_out(0x10000, &[7; 16]);
            assert_eq!(stack.pointer % 16, 0);
            assert_eq!(stack.pointer + bytes.len() as u64, 0x10000);
            assert_eq!(word(&bytes, 0), count as u64);
            let string = |address: u64| {
                let at = (address - stack.pointer) as usize;
                bytes[at..].split(|&b| b == 0).next().unwrap_or_default().to_vec()
            };
            for i in 0..count {
                assert_eq!(string(word(&bytes, 8 + 8 * i)), format!("arg{i}").as_bytes());
            }
            assert_eq!(word(&bytes, 8 + 8 * count), 0);
            let env_at = 16 + 8 * count;
            assert_eq!(string(word(&bytes, env_at)), b"A=1");
            assert_eq!(string(word(&bytes, env_at + 8)), b"BB=22");
            assert_eq!(word(&bytes, env_at + 16), 0);
            let auxv_at = env_at + 24;
            for (i, &(kind, value)) in stack.auxv.iter().enumerate() {
                assert_eq!(word(&bytes, auxv_at + 16 * i), kind);
                assert_eq!(word(&bytes, auxv_at + 16 * i + 8), value);
            }
            let value = |kind: u64| stack.auxv.iter().find(|e| e.0 == kind).unwrap().1;
            assert_eq!(string(value(at::EXECFN)), b"/bin/prog");
            assert_eq!(string(value(at::PLATFORM)), b"x86_64");
            let random = (value(at::RANDOM) - stack.pointer) as usize;
            assert_eq!(bytes[random..random + 16], [7; 16]);
            assert_eq!(stack.auxv.last(), Some(&(at::NULL, 0)));
            assert_eq!(value(at::ENTRY), 0x1000);
            assert_eq!(value(at::HWCAP2), 2, "FSGSBASE");
        }
    }
}

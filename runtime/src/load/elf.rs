//! Executables: what the file says, and its segments in memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goblin::elf::header::{EM_X86_64, ET_DYN, ET_EXEC, header64, machine_to_str};
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, program_header64};

use super::script::HEAD;
use super::{LoadError, name, open_named};
use crate::errno::Errno;
use crate::memory::{GUEST_PAGE, MapError, MapRequest, Memory, PIE_BASE};
use crate::vdso;

/// Most bytes that the program headers may take (fs/binfmt_elf.c, load_elf_phdrs).
const HEADERS_MAX: usize = 65536;

/// The part of an ELF file that loading needs.
pub struct Elf {
    pub entry: u64,
    /// ET_DYN: may go anywhere.
    pub relocatable: bool,
    pub headers: Vec<program_header64::ProgramHeader>,
    pub headers_offset: u64,
    pub interpreter: Option<PathBuf>,
    pub executable_stack: bool,
}

/// A program (with its dynamic loader, if it has one) in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Where execution begins: the dynamic loader's entry, or the program's.
    pub entry: u64,
    /// The program's own entry (AT_ENTRY).
    pub program_entry: u64,
    /// Address of the program headers (AT_PHDR), and their number.
    pub headers: u64,
    pub header_count: u64,
    /// Where the dynamic loader was mapped (AT_BASE); 0 without one.
    pub loader_base: u64,
    /// Where the vdso was mapped (AT_SYSINFO_EHDR).
    pub vdso: u64,
    /// Beginning of the heap.
    pub brk: u64,
    pub executable_stack: bool,
}

/// The first bytes of a file, followed by zeros if it has no more, and how many they are.
pub fn read_head(file: &File) -> io::Result<([u8; HEAD], usize)> {
    let mut head = [0; HEAD];
    let len = read_up_to(file, &mut head, 0)?;
    Ok((head, len))
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Says what a file is that isn't an x86-64 executable.
fn what_it_is(head: &[u8]) -> String {
    match head {
        [] => "an empty file".to_owned(),
        [0x7f, b'E', b'L', b'F', class, data, ..] => {
            let half = |at: usize| head.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
            match (class, data, half(18), half(16)) {
                (1, 1, ..) => format!("a 32-bit ELF file for {}", machine_to_str(half(18))),
                (2, 1, EM_X86_64, kind) => {
                    let kind = goblin::elf::header::et_to_str(kind);
                    format!("an x86-64 ELF file of type {kind}")
                }
                (2, 1, machine, _) => format!("an ELF file for {}", machine_to_str(machine)),
                _ => "an ELF file of another byte order or class".to_owned(),
            }
        }
        [b'M', b'Z', ..] => "a DOS or Windows program".to_owned(),
        [0xcf, 0xfa, 0xed, 0xfe, ..] => "a macOS program".to_owned(),
        _ if head.iter().all(|b| matches!(b, b'\t'..=b'\r' | b' '..=b'~' | 0x80..)) => "a text file".to_owned(),
        _ => "data".to_owned(),
    }
}

impl Elf {
    /// Reads header and program headers; `file_name` is for messages. What isn't right here is ENOEXEC to the caller of
    /// execve (fs/binfmt_elf.c, load_elf_binary up to begin_new_exec); what shows only when it is mapped comes too
    /// late for that.
    pub fn parse(file: &File, file_name: &str) -> Result<Self, LoadError> {
        let failed = |e: io::Error| LoadError::File(file_name.to_owned(), e.into());
        let damaged = |what| LoadError::Damaged(file_name.to_owned(), what);
        let (head, len) = read_head(file).map_err(failed)?;
        let mut fields = [0; header64::SIZEOF_EHDR];
        fields.copy_from_slice(&head[..header64::SIZEOF_EHDR]);
        let header = header64::Header::from_bytes(&fields);
        // The kernel looks at the machine alone, and takes the class and byte order for granted: every machine's files
        // have but one of each.
        let fits = header.e_ident[..6] == [0x7f, b'E', b'L', b'F', 2, 1]
            && header.e_machine == EM_X86_64
            && matches!(header.e_type, ET_EXEC | ET_DYN);
        if !fits {
            return Err(LoadError::NotX86(file_name.to_owned(), what_it_is(&head[..len])));
        }
        const ENTRY: usize = program_header64::SIZEOF_PHDR;
        let count = usize::from(header.e_phnum);
        if usize::from(header.e_phentsize) != ENTRY || count == 0 || count * ENTRY > HEADERS_MAX {
            return Err(damaged("no program headers of the right size"));
        }
        let mut table = vec![0; count * ENTRY];
        if read_up_to(file, &mut table, header.e_phoff).map_err(|_| damaged("its program headers can't be read"))?
            != table.len()
        {
            return Err(damaged("its program headers are cut off"));
        }
        let headers = program_header64::ProgramHeader::from_bytes(&table, count);
        let interpreter = match headers.iter().find(|h| h.p_type == PT_INTERP) {
            Some(h) => Some(read_interpreter(file, h, file_name)?),
            None => None,
        };
        let stack = headers.iter().rfind(|h| h.p_type == PT_GNU_STACK);
        Ok(Self {
            entry: header.e_entry,
            relocatable: header.e_type == ET_DYN,
            executable_stack: stack.is_some_and(|h| h.p_flags & PF_X != 0),
            headers_offset: header.e_phoff,
            headers,
            interpreter,
        })
    }

    /// Reads a dynamic loader's headers, which are nothing else; but its file must have room for the first of them.
    pub fn parse_loader(file: &File, file_name: &str) -> Result<Self, LoadError> {
        let (_, len) = read_head(file).map_err(|e| LoadError::File(file_name.to_owned(), e.into()))?;
        if len < header64::SIZEOF_EHDR {
            return Err(LoadError::File(file_name.to_owned(), Errno(libc::EIO)));
        }
        Self::parse(file, file_name)
    }

    fn segments(&self) -> impl Iterator<Item = &program_header64::ProgramHeader> {
        self.headers.iter().filter(|h| h.p_type == PT_LOAD)
    }

    /// Extent of all segments, page-aligned.
    fn span(&self) -> Option<(u64, u64)> {
        let start = self.segments().map(|h| page_down(h.p_vaddr)).min()?;
        let mut end = 0;
        for h in self.segments() {
            end = end.max(page_up(h.p_vaddr.checked_add(h.p_memsz)?)?);
        }
        (start < end).then_some((start, end))
    }

    /// Largest alignment a segment asks for.
    fn alignment(&self) -> u64 {
        self.segments().map(|h| h.p_align).filter(|a| a.is_power_of_two()).max().unwrap_or(1).max(GUEST_PAGE)
    }

    /// Address of the program headers before relocation (AT_PHDR): where the last segment that holds them has them.
    fn headers_address(&self) -> u64 {
        let offset = self.headers_offset;
        self.segments()
            .filter(|h| h.p_offset <= offset && offset < h.p_offset.saturating_add(h.p_filesz))
            .last()
            .map_or(0, |h| (offset - h.p_offset).wrapping_add(h.p_vaddr))
    }
}

/// The path in PT_INTERP, as far as its first zero.
fn read_interpreter(
    file: &File,
    header: &program_header64::ProgramHeader,
    file_name: &str,
) -> Result<PathBuf, LoadError> {
    let damaged = || LoadError::Damaged(file_name.to_owned(), "its PT_INTERP isn't a path");
    let len = usize::try_from(header.p_filesz).ok().filter(|l| (2..=libc::PATH_MAX as usize).contains(l));
    let mut text = vec![0; len.ok_or_else(damaged)?];
    let read = read_up_to(file, &mut text, header.p_offset);
    let read = read.map_err(|e| LoadError::File(file_name.to_owned(), e.into()))?;
    if read != text.len() {
        return Err(LoadError::File(file_name.to_owned(), Errno(libc::EIO)));
    }
    if text.pop() != Some(0) {
        return Err(damaged());
    }
    let path = text.split(|&b| b == 0).next().unwrap_or_default();
    Ok(Path::new(std::ffi::OsStr::from_bytes(path)).to_owned())
}

fn page_down(value: u64) -> u64 {
    value & !(GUEST_PAGE - 1)
}

fn page_up(value: u64) -> Option<u64> {
    Some(value.checked_add(GUEST_PAGE - 1)? & !(GUEST_PAGE - 1))
}

/// Where the heap begins if the program lies among the mappings and has no room behind it: not at the very place
/// of position-independent executables, so that nobody takes the one for the other.
const HEAP_OF_LOADERS: u64 = PIE_BASE + GUEST_PAGE;

/// The places of position-independent programs, from [`PIE_BASE`] up, and the steps between them.
const PIE_PLACES: u64 = 8;
const PIE_STEP: u64 = 64 << 30;

/// Loads a program and the dynamic loader it names.
pub fn load(memory: &mut Memory, file: &File, file_name: &str) -> Result<Loaded, LoadError> {
    let elf = Elf::parse(file, file_name)?;
    let (start, end) = span(&elf, file_name)?;
    let bias = match (elf.relocatable, &elf.interpreter) {
        (false, _) => 0,
        (true, Some(_)) => place_of_pie(memory, end - start, elf.alignment()).wrapping_sub(start),
        // A dynamic loader that is run by itself would be in the way of what it loads; a static program looks the same.
        (true, None) => room_for(memory, &elf, start..end, file_name)?,
    };
    map(memory, file, &elf, bias, file_name)?;
    let among_mappings = elf.relocatable && elf.interpreter.is_none();
    let mut loaded = Loaded {
        entry: elf.entry.wrapping_add(bias),
        program_entry: elf.entry.wrapping_add(bias),
        headers: elf.headers_address().wrapping_add(bias),
        header_count: elf.headers.len() as u64,
        loader_base: 0,
        vdso: 0,
        brk: if among_mappings { HEAP_OF_LOADERS } else { end.wrapping_add(bias) },
        executable_stack: elf.executable_stack,
    };
    if let Some(loader) = &elf.interpreter {
        let wrap = |e| LoadError::Interpreter(file_name.to_owned(), name(loader), Box::new(e));
        (loaded.loader_base, loaded.entry) = load_loader(memory, loader).map_err(wrap)?;
    }
    loaded.vdso = map_vdso(memory).map_err(|e| LoadError::Map(file_name.to_owned(), e))?;
    Ok(loaded)
}

/// Loads the dynamic loader where there is room below the stack; returns its base and entry.
fn load_loader(memory: &mut Memory, path: &Path) -> Result<(u64, u64), LoadError> {
    let file_name = name(path);
    let file = open_named(path)?.file;
    let elf = Elf::parse_loader(&file, &file_name)?;
    let (start, end) = span(&elf, &file_name)?;
    let bias = if elf.relocatable { room_for(memory, &elf, start..end, &file_name)? } else { 0 };
    map(memory, &file, &elf, bias, &file_name)?;
    Ok((bias, elf.entry.wrapping_add(bias)))
}

fn span(elf: &Elf, file_name: &str) -> Result<(u64, u64), LoadError> {
    elf.span().ok_or_else(|| LoadError::Unmappable(file_name.to_owned(), "its segments' addresses make no sense"))
}

/// What is to be added to the addresses of a file that may go anywhere.
fn room_for(memory: &mut Memory, elf: &Elf, span: Range<u64>, file_name: &str) -> Result<u64, LoadError> {
    let room = find_room(memory, span.end - span.start, elf.alignment());
    Ok(room.map_err(|e| LoadError::Map(file_name.to_owned(), e))?.wrapping_sub(span.start))
}

/// Finds room for so many bytes anywhere.
fn find_room(memory: &mut Memory, len: u64, alignment: u64) -> Result<u64, MapError> {
    Ok(try_room(memory, 0, len + alignment - GUEST_PAGE)?.next_multiple_of(alignment))
}

/// Where a position-independent program goes: to the usual place, or some way above it where an emulator lies there. If
/// no place is free, mapping it says what is in the way.
fn place_of_pie(memory: &mut Memory, len: u64, alignment: u64) -> u64 {
    let usual = PIE_BASE & !(alignment - 1);
    let step = PIE_STEP.max(alignment);
    let mut places = (0..PIE_PLACES).map(|n| usual + n * step);
    places.find(|&at| try_room(memory, at, len).is_ok()).unwrap_or(usual)
}

/// Tells whether there is room, here or, for 0, anywhere, by mapping and unmapping it: there is one thread.
fn try_room(memory: &mut Memory, addr: u64, len: u64) -> Result<u64, MapError> {
    let at = memory.mmap(&MapRequest {
        addr,
        len,
        prot: libc::PROT_NONE,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if addr == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE },
        fd: -1,
        ..MapRequest::default()
    })?;
    memory.munmap(at, len).map_err(|errno| MapError::System { start: at, end: at + len, errno })?;
    Ok(at)
}

/// Maps the vdso where there is room; returns its address.
fn map_vdso(memory: &mut Memory) -> Result<u64, MapError> {
    let image = vdso::image();
    let len = page_up(image.len() as u64).unwrap_or(GUEST_PAGE);
    let at = find_room(memory, len, GUEST_PAGE)?;
    let failed = |errno| MapError::System { start: at, end: at + len, errno };
    memory.map_named(at, len, libc::PROT_READ | libc::PROT_WRITE, 0, vdso::NAME)?;
    memory.write_guest(at, &image).map_err(failed)?;
    memory.mprotect(at, len, libc::PROT_READ | libc::PROT_EXEC).map_err(failed)?;
    Ok(at)
}

fn map(memory: &mut Memory, file: &File, elf: &Elf, bias: u64, file_name: &str) -> Result<(), LoadError> {
    for header in elf.segments() {
        if header.p_filesz > header.p_memsz {
            return Err(LoadError::Unmappable(file_name.to_owned(), "a segment is larger in the file than in memory"));
        }
        map_segment(memory, file, header, bias).map_err(|e| LoadError::Map(file_name.to_owned(), e))?;
    }
    Ok(())
}

/// PROT_* of a segment's PF_*.
fn protection(flags: u32) -> i32 {
    let bit = |pf: u32, prot: i32| if flags & pf != 0 { prot } else { 0 };
    bit(PF_R, libc::PROT_READ) | bit(PF_W, libc::PROT_WRITE) | bit(PF_X, libc::PROT_EXEC)
}

/// Maps one segment as fs/binfmt_elf.c's elf_load does: its bytes from the file; what is left of the last page is cleared
/// if the segment may be written to; whole pages beyond are zeros, and may be written to in any case.
fn map_segment(
    memory: &mut Memory,
    file: &File,
    header: &program_header64::ProgramHeader,
    bias: u64,
) -> Result<(), MapError> {
    let prot = protection(header.p_flags);
    let vaddr = header.p_vaddr.wrapping_add(bias);
    let start = page_down(vaddr);
    let invalid = MapError::System { start, end: vaddr, errno: Errno(libc::EINVAL) };
    // The span of all segments has been found to have an end.
    let (file_end, end) = (vaddr.wrapping_add(header.p_filesz), vaddr.wrapping_add(header.p_memsz));
    let whole = |at: u64| page_up(at).unwrap_or(u64::MAX);
    // Segments may share a page (the later one wins, as with the kernel's MAP_FIXED), so what the guest has is
    // replaced; what isn't the guest's never is.
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    let mut zero_from = start;
    if header.p_filesz != 0 {
        memory.mmap(&MapRequest {
            addr: start,
            len: file_end.wrapping_sub(start),
            prot,
            flags,
            fd: file.as_raw_fd(),
            offset: header.p_offset.checked_sub(vaddr - start).ok_or(invalid)?,
            ..MapRequest::default()
        })?;
        zero_from = whole(file_end);
        if end > file_end && prot & libc::PROT_WRITE != 0 {
            let zeros = vec![0; (zero_from - file_end) as usize];
            memory.write_guest(file_end, &zeros).map_err(|errno| MapError::System {
                start: file_end,
                end: zero_from,
                errno,
            })?;
        }
    }
    if end > file_end && whole(end) > zero_from {
        memory.mmap(&MapRequest {
            addr: zero_from,
            len: whole(end) - zero_from,
            prot: libc::PROT_READ | libc::PROT_WRITE | prot & libc::PROT_EXEC,
            flags: flags | libc::MAP_ANONYMOUS,
            fd: -1,
            ..MapRequest::default()
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_described() {
        assert_eq!(what_it_is(b""), "an empty file");
        assert_eq!(what_it_is(b"hello\n"), "a text file");
        assert_eq!(what_it_is(b"\0\x01\x02"), "data");
        let mut arm = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        arm.resize(64, 0);
        arm[16] = 2;
        arm[18] = 183;
        assert_eq!(what_it_is(&arm), "an ELF file for AARCH64");
    }
}

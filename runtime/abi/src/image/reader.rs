//! Reads an image's headers and notes (not the contents of memory) and checks them against the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use goblin::elf64::header::{Header, SIZEOF_EHDR};
use goblin::elf64::program_header::ProgramHeader;
use thiserror::Error;

use super::core_notes::{self as core, MappedFile, ProcessInfo, Status};
use super::notes::{
    self, Backing, Descriptors, Limits, MappingNote, Memory, Name, Process, Signals, ThreadNote, Timers, XlateNote,
};
use super::{Access, PAGE, Segment, Xsave, XsaveComponent, decode_layout};

/// Guest addresses end here: the lower half of x86-64's canonical addresses.
const ADDRESS_END: u64 = 1 << 47;
/// More notes than this are no notes.
const MAX_NOTES_SIZE: u64 = 1 << 30;
const AT_SYSINFO_EHDR: u64 = 33;

/// Why a file can't be read as an image.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("not a checkpoint image: no ELF core file")]
    NotACore,
    #[error("a core file of another machine ({0}); images are of 64-bit x86-64 processes")]
    OtherMachine(String),
    #[error("truncated: its {what} ends at byte {needed}, the file at {size}; copy or make it again")]
    Truncated { what: String, needed: u64, size: u64 },
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("damaged: its {note} note can't be read: {reason}")]
    DamagedNote { note: &'static str, reason: String },
    #[error("its {note} note has version {version}, this xlate reads {}; use the xlate that made it", notes::VERSION)]
    NoteVersion { note: &'static str, version: u32 },
}

/// One thread's registers and what it has registered.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    pub status: Status,
    /// NT_FPREGSET.
    pub fxsave: Vec<u8>,
    /// NT_X86_XSTATE.
    pub xstate: Vec<u8>,
    pub note: Option<ThreadNote>,
}

/// All of an image but the contents of memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Size of the file.
    pub file_size: u64,
    /// Sorted by address.
    pub segments: Vec<Segment>,
    pub threads: Vec<Thread>,
    pub layout: Option<Vec<XsaveComponent>>,
    pub info: Option<ProcessInfo>,
    pub auxv: Vec<(u64, u64)>,
    pub files: Vec<MappedFile>,
    pub process: Option<Process>,
    pub memory: Option<Memory>,
    pub descriptors: Option<Descriptors>,
    pub signals: Option<Signals>,
    pub limits: Option<Limits>,
    pub timers: Option<Timers>,
}

impl Image {
    /// Reads headers and notes.
    pub fn read(file: &File) -> Result<Self, ImageError> {
        let size = file.metadata()?.len();
        let header = read_header(file, size)?;
        let table_size = u64::from(header.e_phnum) * u64::from(header.e_phentsize);
        check_end(size, "table of segments", header.e_phoff, table_size)?;
        let table = read_at(file, header.e_phoff, table_size)?;
        let mut image = Self { file_size: size, ..Self::default() };
        for raw in ProgramHeader::from_bytes(&table, header.e_phnum.into()) {
            image.take_segment(file, &raw)?;
        }
        image.segments.sort_by_key(|s| s.address);
        image.check()?;
        Ok(image)
    }

    fn take_segment(&mut self, file: &File, raw: &ProgramHeader) -> Result<(), ImageError> {
        use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE};
        match raw.p_type {
            PT_NOTE => {
                check_end(self.file_size, "notes", raw.p_offset, raw.p_filesz)?;
                if raw.p_filesz > MAX_NOTES_SIZE {
                    let message = format!("{} bytes of notes", raw.p_filesz);
                    return Err(ImageError::Damaged(message));
                }
                let notes = read_at(file, raw.p_offset, raw.p_filesz)?;
                self.take_notes(&notes)
            }
            // The kernel dumps the vsyscall page at the top of the address space; nobody needs it.
            PT_LOAD if raw.p_vaddr >= ADDRESS_END || raw.p_memsz == 0 => Ok(()),
            PT_LOAD => {
                let what = format!("memory at {:#x}", raw.p_vaddr);
                check_end(self.file_size, &what, raw.p_offset, raw.p_filesz)?;
                self.segments.push(Segment {
                    address: raw.p_vaddr,
                    memory_size: raw.p_memsz,
                    file_offset: raw.p_offset,
                    file_size: raw.p_filesz,
                    access: Access {
                        read: raw.p_flags & PF_R != 0,
                        write: raw.p_flags & PF_W != 0,
                        execute: raw.p_flags & PF_X != 0,
                    },
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Walks the notes of one PT_NOTE.
    fn take_notes(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        while bytes.len() >= 12 {
            let field = |i: usize| core::long(bytes, i * 4) as usize;
            let (name_size, desc_size, kind) = (field(0), field(1), field(2) as u32);
            let desc_at = 12 + name_size.next_multiple_of(4);
            let end = desc_at + desc_size;
            if end > bytes.len() {
                let message = format!("a note of {desc_size} bytes runs over the end of the notes");
                return Err(ImageError::Damaged(message));
            }
            let owner = bytes[12..12 + name_size].split(|b| *b == 0).next();
            let desc = &bytes[desc_at..end];
            match owner {
                Some(b"CORE") => self.take_core(kind, desc)?,
                Some(b"LINUX") => self.take_linux(kind, desc)?,
                Some(b"XLATE") => self.take_xlate(kind, desc)?,
                _ => {}
            }
            bytes = &bytes[end.next_multiple_of(4).min(bytes.len())..];
        }
        Ok(())
    }

    fn take_core(&mut self, kind: u32, desc: &[u8]) -> Result<(), ImageError> {
        let damaged = |note| ImageError::DamagedNote { note, reason: format!("{} bytes", desc.len()) };
        match kind {
            core::NT_PRSTATUS => self
                .threads
                .push(Thread { status: Status::decode(desc).ok_or(damaged("NT_PRSTATUS"))?, ..Thread::default() }),
            core::NT_FPREGSET => self.last_thread("NT_FPREGSET")?.fxsave = desc.to_vec(),
            core::NT_PRPSINFO => {
                self.info = Some(ProcessInfo::decode(desc).ok_or(damaged("NT_PRPSINFO"))?);
            }
            core::NT_FILE => {
                self.files = core::decode_files(desc).ok_or(damaged("NT_FILE"))?;
            }
            core::NT_AUXV => {
                self.auxv = desc
                    .chunks_exact(16)
                    .map(|c| (core::word(c, 0), core::word(c, 8)))
                    .take_while(|(kind, _)| *kind != 0)
                    .collect();
            }
            _ => {}
        }
        Ok(())
    }

    fn take_linux(&mut self, kind: u32, desc: &[u8]) -> Result<(), ImageError> {
        match kind {
            core::NT_X86_XSTATE => self.last_thread("NT_X86_XSTATE")?.xstate = desc.to_vec(),
            core::NT_X86_XSAVE_LAYOUT => self.layout = Some(decode_layout(desc)),
            _ => {}
        }
        Ok(())
    }

    fn take_xlate(&mut self, kind: u32, desc: &[u8]) -> Result<(), ImageError> {
        match kind {
            Process::TYPE => self.process = Some(Process::decode(desc)?),
            Memory::TYPE => self.memory = Some(Memory::decode(desc)?),
            Descriptors::TYPE => self.descriptors = Some(Descriptors::decode(desc)?),
            Signals::TYPE => self.signals = Some(Signals::decode(desc)?),
            Limits::TYPE => self.limits = Some(Limits::decode(desc)?),
            ThreadNote::TYPE => {
                let note = ThreadNote::decode(desc)?;
                self.last_thread("thread")?.note = Some(note);
            }
            Timers::TYPE => self.timers = Some(Timers::decode(desc)?),
            // A later version's note that an older reader can do without.
            _ => {}
        }
        Ok(())
    }

    fn last_thread(&mut self, note: &'static str) -> Result<&mut Thread, ImageError> {
        self.threads
            .last_mut()
            .ok_or(ImageError::DamagedNote { note, reason: "it stands before any thread's NT_PRSTATUS".to_owned() })
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.threads.is_empty() {
            let message = "no NT_PRSTATUS note, so no registers".to_owned();
            return Err(ImageError::Damaged(message));
        }
        for s in &self.segments {
            let end = s.address.checked_add(s.memory_size);
            if s.address % PAGE != 0 || s.file_size > s.memory_size || end.is_none_or(|e| e > ADDRESS_END) {
                return Err(ImageError::Damaged(format!(
                    "the segment at {:#x}, {} bytes ({} stored)",
                    s.address, s.memory_size, s.file_size
                )));
            }
        }
        for pair in self.segments.windows(2) {
            if pair[0].end() > pair[1].address {
                return Err(ImageError::Damaged(format!(
                    "segments at {:#x} and {:#x} overlap",
                    pair[0].address, pair[1].address
                )));
            }
        }
        self.check_mappings()
    }

    fn check_mappings(&self) -> Result<(), ImageError> {
        let mut last = 0;
        for m in self.memory.iter().flat_map(|m| &m.mappings) {
            if m.start < last || m.end <= m.start || m.end > ADDRESS_END || (m.start | m.end) % PAGE != 0 {
                let message = format!("the mapping {:#x}-{:#x}", m.start, m.end);
                return Err(ImageError::Damaged(message));
            }
            last = m.end;
        }
        Ok(())
    }

    /// Whether this is a core by another tool: no word of xlate's own on its memory.
    pub fn is_plain_core(&self) -> bool {
        self.memory.is_none()
    }

    /// The extended state of a thread; `None` if there is neither NT_X86_XSTATE nor NT_FPREGSET.
    pub fn xsave<'a>(&'a self, thread: &'a Thread) -> Option<Xsave<'a>> {
        Xsave::new(&thread.xstate, self.layout.as_deref()).or_else(|| Xsave::new(&thread.fxsave, Some(&[])))
    }

    /// The address space: as noted, or, from a plain core, what its segments and NT_FILE tell.
    pub fn mappings(&self) -> Vec<MappingNote> {
        match &self.memory {
            Some(memory) => memory.mappings.clone(),
            None => self.segments.iter().map(|s| self.plain_mapping(s)).collect(),
        }
    }

    fn plain_mapping(&self, s: &Segment) -> MappingNote {
        let file = self.files.iter().find(|f| f.start <= s.address && s.address < f.end);
        let stack = self.threads.first().map_or(0, |t| t.status.registers.rsp);
        let vdso = self.auxv.iter().find(|(kind, _)| *kind == AT_SYSINFO_EHDR);
        let (backing, name) = if let Some(file) = file {
            (Backing::File, Name(file.path.clone()))
        } else if vdso.is_some_and(|(_, address)| *address == s.address) {
            (Backing::Vdso, Name::from("[vdso]"))
        } else if (s.address..s.end()).contains(&stack) {
            (Backing::Stack, Name::from("[stack]"))
        } else {
            (Backing::Anonymous, Name::default())
        };
        MappingNote {
            start: s.address,
            end: s.end(),
            access: s.access,
            shared: false,
            backing,
            offset: file.map_or(0, |f| f.offset + (s.address - f.start)),
            name,
        }
    }

    /// The segments within `start..end`, which must be a mapping's bounds.
    pub fn segments_within(&self, start: u64, end: u64) -> &[Segment] {
        let first = self.segments.partition_point(|s| s.address < start);
        let last = self.segments.partition_point(|s| s.address < end);
        &self.segments[first..last]
    }
}

fn read_header(file: &File, size: u64) -> Result<Header, ImageError> {
    use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_CORE, machine_to_str};
    let mut raw = [0; SIZEOF_EHDR];
    let available = size.min(raw.len() as u64) as usize;
    file.read_exact_at(&mut raw[..available], 0)?;
    if !raw.starts_with(ELFMAG) {
        return Err(ImageError::NotACore);
    }
    check_end(size, "header", 0, raw.len() as u64)?;
    let header = *Header::from_bytes(&raw);
    if raw[EI_DATA] != ELFDATA2LSB {
        return Err(ImageError::OtherMachine("big-endian".to_owned()));
    }
    if header.e_type != ET_CORE {
        return Err(ImageError::NotACore);
    }
    if header.e_machine != EM_X86_64 || raw[EI_CLASS] != ELFCLASS64 {
        let machine = machine_to_str(header.e_machine);
        return Err(ImageError::OtherMachine(machine.to_owned()));
    }
    if usize::from(header.e_phentsize) != size_of::<ProgramHeader>() || header.e_phnum == 0 {
        let message = format!("{} program headers of {} bytes", header.e_phnum, header.e_phentsize);
        return Err(ImageError::Damaged(message));
    }
    Ok(header)
}

fn check_end(size: u64, what: &str, offset: u64, len: u64) -> Result<(), ImageError> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        Some(needed) => Err(ImageError::Truncated { what: what.to_owned(), needed, size }),
        None => Err(ImageError::Damaged(format!("its {what} stands at byte {offset:#x}"))),
    }
}

fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

//! Writes an image in one pass over memory: contents first, notes and program headers last.

use std::io::{self, Seek, SeekFrom, Write};

use super::{Access, PAGE, Segment};

const HEADER_SIZE: u64 = 64;
const PROGRAM_HEADER_SIZE: u16 = 56;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum`'s largest plain value; PN_XNUM above it needs a section header.
const MAX_PROGRAM_HEADERS: usize = 0xfffe;

/// A run of zero pages at least this long ends a segment; a shorter one becomes a hole in the file, since
/// every segment costs a mapping on resume. Doubled each time so many segments have been made.
const HOLE_PAGES: u64 = 16;
const SEGMENTS_PER_DOUBLING: usize = 4096;

/// A note to write.
#[derive(Clone, Debug)]
pub struct Note {
    pub owner: &'static str,
    pub kind: u32,
    pub desc: Vec<u8>,
}

impl Note {
    /// `n_namesz`, `n_descsz`, `n_type`, name and descriptor, each padded to 4 bytes (gABI, "Note Section").
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.owner.len() as u32 + 1).to_le_bytes());
        out.extend((self.desc.len() as u32).to_le_bytes());
        out.extend(self.kind.to_le_bytes());
        out.extend(self.owner.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(&self.desc);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// Writes an image to `file`, which must be empty.
pub struct ImageWriter<F> {
    file: F,
    /// Where the file is positioned.
    position: u64,
    /// Where the next stored page goes.
    next: u64,
    segments: Vec<Segment>,
    region: Option<Region>,
    stored_pages: u64,
}

/// The region being written; its last segment is still growing.
struct Region {
    access: Access,
    segment: Segment,
}

impl<F: Write + Seek> ImageWriter<F> {
    pub fn new(file: F) -> Self {
        Self { file, position: 0, next: PAGE, segments: Vec::new(), region: None, stored_pages: 0 }
    }

    /// Pages of contents written so far.
    pub fn stored_pages(&self) -> u64 {
        self.stored_pages
    }

    /// Begins a region of memory at a page's address; regions come in the order of their addresses.
    pub fn begin_region(&mut self, start: u64, access: Access) {
        let segment = self.segment_at(start, access);
        self.region = Some(Region { access, segment });
    }

    fn segment_at(&self, address: u64, access: Access) -> Segment {
        Segment { address, memory_size: 0, file_offset: self.next, file_size: 0, access }
    }

    /// Takes whole pages of the current region, in the order of their addresses; what is left out is zero.
    pub fn contents(&mut self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let mut pages = bytes.chunks(PAGE as usize).enumerate().peekable();
        while let Some((first, page)) = pages.next() {
            if is_zero(page) {
                continue;
            }
            let mut run = page.len();
            while let Some((_, page)) = pages.next_if(|(_, page)| !is_zero(page)) {
                run += page.len();
            }
            let at = first * PAGE as usize;
            self.store(address + at as u64, &bytes[at..at + run])?;
        }
        Ok(())
    }

    /// Stores a run of pages that aren't zero.
    fn store(&mut self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let hole = HOLE_PAGES << (self.segments.len() / SEGMENTS_PER_DOUBLING).min(32);
        let Some(mut region) = self.region.take() else {
            return Err(io::Error::other("contents outside a region"));
        };
        let segment = &mut region.segment;
        let gap = address - (segment.address + segment.file_size);
        if gap >= hole * PAGE {
            segment.memory_size = address - segment.address;
            self.segments.push(*segment);
            *segment = self.segment_at(address, region.access);
        } else {
            segment.file_size += gap;
            self.next += gap;
        }
        segment.file_size += bytes.len() as u64;
        self.region = Some(region);
        self.write_at(self.next, bytes)?;
        self.next += bytes.len() as u64;
        self.stored_pages += bytes.len() as u64 / PAGE;
        Ok(())
    }

    /// Ends the current region.
    pub fn end_region(&mut self, end: u64) {
        if let Some(Region { mut segment, .. }) = self.region.take()
            && end > segment.address
        {
            segment.memory_size = end - segment.address;
            self.segments.push(segment);
        }
    }

    /// Writes notes, program headers and the file header, and gives the file back.
    pub fn finish(mut self, notes: &[Note]) -> io::Result<F> {
        if self.segments.len() >= MAX_PROGRAM_HEADERS {
            return Err(io::Error::other(format!(
                "the process has {} separate regions of memory; an image holds {MAX_PROGRAM_HEADERS}",
                self.segments.len()
            )));
        }
        let mut tail = Vec::new();
        for note in notes {
            note.encode(&mut tail);
        }
        let notes_at = self.next;
        let notes_size = tail.len() as u64;
        tail.resize(tail.len().next_multiple_of(8), 0);
        let headers_at = notes_at + tail.len() as u64;
        let notes_segment = Segment {
            address: 0,
            memory_size: 0,
            file_offset: notes_at,
            file_size: notes_size,
            access: Access::default(),
        };
        program_header(&mut tail, PT_NOTE, &notes_segment, 4);
        for segment in &self.segments {
            program_header(&mut tail, PT_LOAD, segment, PAGE);
        }
        let count = self.segments.len() as u16 + 1;
        self.write_at(notes_at, &tail)?;
        self.write_at(0, &file_header(headers_at, count))?;
        Ok(self.file)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.position != offset {
            self.file.seek(SeekFrom::Start(offset))?;
        }
        self.file.write_all(bytes)?;
        self.position = offset + bytes.len() as u64;
        Ok(())
    }
}

fn is_zero(page: &[u8]) -> bool {
    // SAFETY: every bit pattern is a valid u64, and align_to checks the alignment itself.
    let (before, words, after) = unsafe { page.align_to::<u64>() };
    words.iter().all(|w| *w == 0) && before.iter().chain(after).all(|b| *b == 0)
}

/// Elf64_Ehdr.
fn file_header(headers_at: u64, count: u16) -> Vec<u8> {
    let mut h = vec![0x7f, b'E', b'L', b'F'];
    let (class_64, little_endian, version, system_v) = (2, 1, 1, 0);
    h.extend([class_64, little_endian, version, system_v]);
    h.resize(16, 0);
    h.extend(ET_CORE.to_le_bytes());
    h.extend(EM_X86_64.to_le_bytes());
    h.extend(1u32.to_le_bytes());
    let (entry, section_headers) = (0u64, 0u64);
    h.extend(entry.to_le_bytes());
    h.extend(headers_at.to_le_bytes());
    h.extend(section_headers.to_le_bytes());
    let flags = 0u32;
    h.extend(flags.to_le_bytes());
    h.extend((HEADER_SIZE as u16).to_le_bytes());
    h.extend(PROGRAM_HEADER_SIZE.to_le_bytes());
    h.extend(count.to_le_bytes());
    // No section headers: their size, number and the index of their names.
    h.resize(HEADER_SIZE as usize, 0);
    h
}

/// Elf64_Phdr.
fn program_header(out: &mut Vec<u8>, kind: u32, s: &Segment, align: u64) {
    let flags = u32::from(s.access.execute) | u32::from(s.access.write) << 1 | u32::from(s.access.read) << 2;
    out.extend(kind.to_le_bytes());
    out.extend(flags.to_le_bytes());
    let physical = 0;
    for word in [s.file_offset, s.address, physical, s.file_size, s.memory_size, align] {
        out.extend(word.to_le_bytes());
    }
}

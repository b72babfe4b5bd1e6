//! Memory of an image: every mapping at its address, with the contents it had.
//!
//! Contents of mappings of files are mapped privately from the image. Anonymous memory (heap and stack among it)
//! is read in instead: it must stay anonymous to the host's kernel too, or MADV_DONTNEED would bring the image's
//! bytes back where the guest expects zeros, and mremap could not grow it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use xlate_abi::image::notes::{Backing as Origin, Limit, MappingNote};
use xlate_abi::image::{Access, Segment};

use super::{Restore, RestoreError, process_path};
use crate::memory::{Backing, MapRequest, STACK_GUARD_GAP};

/// Room below the stack for its growth if its limit doesn't say or says infinity; and the most that is given.
const DEFAULT_STACK: u64 = 8 << 20;
const MAX_STACK: u64 = 1 << 30;

fn prot(access: Access) -> i32 {
    let bit = |on: bool, bit: i32| if on { bit } else { 0 };
    bit(access.read, libc::PROT_READ) | bit(access.write, libc::PROT_WRITE) | bit(access.execute, libc::PROT_EXEC)
}

impl Restore<'_> {
    /// Maps everything.
    pub fn map_memory(&mut self) -> Result<(), RestoreError> {
        let mappings = self.image.mappings();
        let mut below = 0;
        for mapping in &mappings {
            match mapping.backing {
                // The kernel's data for its own vdso.
                Origin::Vvar => {}
                Origin::File if mapping.shared => self.map_shared_file(mapping)?,
                Origin::File => self.map_private_file(mapping)?,
                Origin::Stack => self.map_stack(mapping, below)?,
                Origin::Anonymous | Origin::Heap | Origin::Vdso => self.map_anonymous(mapping)?,
            }
            below = mapping.end;
        }
        if let Some(memory) = &self.image.memory {
            self.memory.set_brk(memory.brk_start, memory.brk);
        }
        Ok(())
    }

    fn map(&mut self, request: &MapRequest) -> Result<(), RestoreError> {
        let mapped = self.memory.mmap(request);
        mapped.map(drop).map_err(|e| RestoreError::Map(self.name.clone(), e))
    }

    fn segments(&self, m: &MappingNote) -> Vec<Segment> {
        self.image.segments_within(m.start, m.end).to_vec()
    }

    fn map_anonymous(&mut self, m: &MappingNote) -> Result<(), RestoreError> {
        let segments = self.segments(m);
        let filled = segments.iter().any(|s| s.file_size > 0);
        let kind = if m.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let grows = if m.backing == Origin::Stack { libc::MAP_GROWSDOWN } else { 0 };
        self.map(&MapRequest {
            addr: m.start,
            len: m.end - m.start,
            prot: if filled { libc::PROT_READ | libc::PROT_WRITE } else { prot(m.access) },
            flags: kind | grows | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
            fd: -1,
            ..MapRequest::default()
        })?;
        for segment in &segments {
            self.fill(segment)?;
        }
        if filled {
            self.protect(m)?;
        }
        let label = match m.backing {
            Origin::Heap => Some("[heap]"),
            Origin::Stack => Some("[stack]"),
            Origin::Vdso => Some("[vdso]"),
            _ => None,
        };
        if let Some(label) = label {
            self.memory.relabel(m.start, m.end, Backing::Named(label));
        }
        Ok(())
    }

    /// Reads a segment's contents to their place.
    fn fill(&self, s: &Segment) -> Result<(), RestoreError> {
        let mut done = 0;
        while done < s.file_size {
            let (at, offset) = (s.address + done, s.file_offset + done);
            // SAFETY: the kernel writes to the guest's mapping, which the caller has just made, and reports a
            // fault as EFAULT.
            let read = unsafe {
                let place = at as *mut libc::c_void;
                libc::pread(self.file.as_raw_fd(), place, (s.file_size - done) as usize, offset as libc::off_t)
            };
            match u64::try_from(read) {
                Ok(0) => return Err(self.fill_failed(at, io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => done += n,
                Err(_) => return Err(self.fill_failed(at, io::Error::last_os_error())),
            }
        }
        Ok(())
    }

    fn fill_failed(&self, address: u64, error: io::Error) -> RestoreError {
        RestoreError::Fill { image: self.name.clone(), address, error }
    }

    fn protect(&mut self, m: &MappingNote) -> Result<(), RestoreError> {
        let done = self.memory.mprotect(m.start, m.end - m.start, prot(m.access));
        done.map(drop).map_err(|errno| RestoreError::System { image: self.name.clone(), what: "mprotect", errno })
    }

    /// The stack, which the kernel lets grow. Where it doesn't (under an emulator), with the room to do so.
    fn map_stack(&mut self, m: &MappingNote, below: u64) -> Result<(), RestoreError> {
        let limit = self.stack_limit();
        self.memory.leave_stack_room(limit);
        self.map_anonymous(m)?;
        if self.memory.grows_below(m.start) {
            return Ok(());
        }
        let room = limit.clamp(m.end - m.start, MAX_STACK.max(m.end - m.start));
        let lowest = if below == 0 { 0 } else { below + STACK_GUARD_GAP };
        let start = (m.end - room).max(lowest).min(m.start);
        // Anew as a whole: the kernel keeps a gap free below what it lets grow.
        let unmapped = self.memory.munmap(m.start, m.end - m.start);
        unmapped.map_err(|errno| RestoreError::System { image: self.name.clone(), what: "munmap", errno })?;
        self.map_anonymous(&MappingNote { start, backing: Origin::Anonymous, ..m.clone() })?;
        self.memory.relabel(start, m.end, Backing::Named("[stack]"));
        Ok(())
    }

    fn stack_limit(&self) -> u64 {
        let is_stack = |l: &&Limit| l.resource == libc::RLIMIT_STACK;
        let noted = self.image.limits.iter().flat_map(|l| &l.limits).find(is_stack).map(|l| l.soft);
        noted.filter(|soft| *soft != u64::MAX).unwrap_or(DEFAULT_STACK) & !(xlate_abi::image::PAGE - 1)
    }

    /// A private mapping of a file: what the process saw is in the image, whatever became of the file.
    fn map_private_file(&mut self, m: &MappingNote) -> Result<(), RestoreError> {
        let plain = self.image.is_plain_core();
        let mut at = m.start;
        for s in self.segments(m) {
            self.map_rest(m, at, s.address, plain)?;
            at = s.address + self.map_stored(m, &s)?;
        }
        self.map_rest(m, at, m.end, plain)?;
        let path: &Path = &process_path(&m.name.0);
        let backing = Backing::File { path: path.into(), offset: m.offset, device: 0, inode: 0 };
        self.memory.relabel(m.start, m.end, backing);
        Ok(())
    }

    /// Maps a segment's contents from the image; returns their length.
    fn map_stored(&mut self, m: &MappingNote, s: &Segment) -> Result<u64, RestoreError> {
        let page = self.memory.page_size();
        let mappable = [s.address, s.file_offset, s.file_size].iter().all(|v| v % page == 0);
        if s.file_size == 0 {
            return Ok(0);
        }
        if mappable {
            self.map(&MapRequest {
                addr: s.address,
                len: s.file_size,
                prot: prot(m.access),
                flags: libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE,
                fd: self.file.as_raw_fd(),
                offset: s.file_offset,
                ..MapRequest::default()
            })?;
            return Ok(s.file_size);
        }
        // Another tool's core needn't align its contents to pages.
        let end = (s.address + s.file_size).next_multiple_of(page);
        self.map_anonymous(&MappingNote { start: s.address, end, backing: Origin::Anonymous, ..m.clone() })?;
        Ok(end - s.address)
    }

    /// Maps what the image doesn't store of a file's mapping: zeros; in a plain core, the file itself.
    fn map_rest(&mut self, m: &MappingNote, start: u64, end: u64, plain: bool) -> Result<(), RestoreError> {
        if start >= end {
            return Ok(());
        }
        let part = MappingNote { start, end, offset: m.offset + (start - m.start), ..m.clone() };
        if plain {
            return self.map_file(&part, libc::MAP_PRIVATE);
        }
        self.map(&MapRequest {
            addr: start,
            len: end - start,
            prot: prot(m.access),
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            fd: -1,
            ..MapRequest::default()
        })
    }

    /// A shared mapping is the file's own contents.
    fn map_shared_file(&mut self, m: &MappingNote) -> Result<(), RestoreError> {
        self.map_file(m, libc::MAP_SHARED)
    }

    fn map_file(&mut self, m: &MappingNote, kind: i32) -> Result<(), RestoreError> {
        let path = process_path(&m.name.0);
        let writes = m.access.write && kind == libc::MAP_SHARED;
        let file = File::options().read(true).write(writes).open(&path).map_err(|error| RestoreError::MappedFile {
            image: self.name.clone(),
            start: m.start,
            end: m.end,
            file: path.display().to_string(),
            error,
        })?;
        let fd: RawFd = file.as_raw_fd();
        self.map(&MapRequest {
            addr: m.start,
            len: m.end - m.start,
            prot: prot(m.access),
            flags: kind | libc::MAP_FIXED_NOREPLACE,
            fd,
            offset: m.offset,
            ..MapRequest::default()
        })
    }
}

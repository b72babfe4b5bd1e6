//! The stopped process's memory: which mappings there are, and their contents into the image.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;

use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};
use xlate_abi::image::notes::{Backing, MappingNote, Name};
use xlate_abi::image::{Access, ImageWriter, PAGE};

use super::error::CaptureError;
use super::facts::{Facts, file_path, is_anonymous_shared};
use super::sys;
use std::os::unix::ffi::OsStrExt;

/// Memory is read in pieces of this many pages.
const CHUNK_PAGES: u64 = 256;
/// Bits of a pagemap entry (Linux, `Documentation/admin-guide/mm/pagemap.rst`).
const PRESENT_OR_SWAPPED: u64 = 3 << 62;
/// User addresses end here; above is the vsyscall page.
const USER_END: u64 = 1 << 47;

/// The mappings to note; those that can't be carried whole get a warning.
pub fn mappings(maps: &MemoryMaps, warnings: &mut Vec<String>) -> Vec<MappingNote> {
    let noted: Vec<MappingNote> = maps.iter().filter(|m| m.address.0 < USER_END).map(note).collect();
    for m in maps.iter().filter(|m| m.address.0 < USER_END) {
        if matches!(&m.pathname, MMapPath::Path(path) if path.starts_with("/dev") && !is_anonymous_shared(m))
            && !is_memory_device(m)
        {
            warnings.push(format!("the mapping of a device at {:#x} isn't carried", m.address.0));
        }
        if is_anonymous_shared(m) {
            let name = file_path(m).map_or_else(String::new, |path| format!(" ({})", path.display()));
            warnings.push(format!(
                "the shared memory at {:#x}{name} is carried as a copy: a resumed process shares it with nobody else",
                m.address.0
            ));
        }
    }
    noted
}

/// `/dev/zero` and files in `/dev/shm` are plain memory.
fn is_memory_device(map: &MemoryMap) -> bool {
    matches!(&map.pathname, MMapPath::Path(p) if p.starts_with("/dev/shm") || p.starts_with("/dev/zero"))
}

fn note(map: &MemoryMap) -> MappingNote {
    let kernel_name = |name: &str| Name::from(format!("[{name}]").as_str());
    let (backing, name) = match &map.pathname {
        MMapPath::Heap => (Backing::Heap, kernel_name("heap")),
        MMapPath::Stack => (Backing::Stack, kernel_name("stack")),
        MMapPath::Vdso => (Backing::Vdso, kernel_name("vdso")),
        MMapPath::Vvar => (Backing::Vvar, kernel_name("vvar")),
        // vvar's siblings, by kernel version: [vvar_vclock], [vvar_timens] …
        MMapPath::Other(name) if name.starts_with("vvar") => (Backing::Vvar, kernel_name(name)),
        MMapPath::Other(name) => (Backing::Anonymous, kernel_name(name)),
        _ if is_anonymous_shared(map) => (Backing::Anonymous, Name::default()),
        _ => match file_path(map) {
            Some(path) => (Backing::File, Name::from(path.as_bytes())),
            None => (Backing::Anonymous, Name::default()),
        },
    };
    MappingNote {
        start: map.address.0,
        end: map.address.1,
        access: access(map.perms),
        shared: map.perms.contains(MMPermissions::SHARED),
        backing,
        offset: map.offset,
        name,
    }
}

fn access(perms: MMPermissions) -> Access {
    Access {
        read: perms.contains(MMPermissions::READ),
        write: perms.contains(MMPermissions::WRITE),
        execute: perms.contains(MMPermissions::EXECUTE),
    }
}

/// Where a mapping's contents are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// Not in the image: the file itself, or the kernel, has them.
    Elsewhere,
    /// Only pages the process has touched differ from zero.
    Touched,
    /// Any page.
    All,
}

fn contents(map: &MemoryMap, note: &MappingNote) -> Contents {
    let size_of = |field: &str| map.extension.map.get(field).copied().unwrap_or(u64::MAX);
    match note.backing {
        Backing::Vvar => Contents::Elsewhere,
        Backing::File if note.shared => Contents::Elsewhere,
        Backing::File | Backing::Vdso => Contents::All,
        _ if note.shared => Contents::All,
        // A reservation of terabytes costs nothing.
        _ if size_of("Rss") == 0 && size_of("Swap") == 0 => Contents::Elsewhere,
        _ => Contents::Touched,
    }
}

/// Writes all mappings and their contents.
pub fn write<F: Write + Seek>(
    facts: &Facts,
    maps: &MemoryMaps,
    writer: &mut ImageWriter<F>,
) -> Result<(), CaptureError> {
    let reader = Reader::open(facts.pid)?;
    for map in maps.iter().filter(|m| m.address.0 < USER_END) {
        let note = note(map);
        if note.backing == Backing::Vvar {
            continue;
        }
        writer.begin_region(note.start, note.access);
        reader.copy(&note, contents(map, &note), writer)?;
        writer.end_region(note.end);
    }
    tracing::debug!(pages = writer.stored_pages(), "memory written");
    Ok(())
}

/// Reads the process's memory.
struct Reader {
    pid: i32,
    memory: File,
    /// Says which pages were touched; absent, all are read.
    pagemap: Option<File>,
}

impl Reader {
    fn open(pid: i32) -> Result<Self, CaptureError> {
        let path = format!("/proc/{pid}/mem");
        let memory = File::open(&path).map_err(|error| CaptureError::Read { pid, what: path, error })?;
        Ok(Self { pid, memory, pagemap: File::open(format!("/proc/{pid}/pagemap")).ok() })
    }

    fn copy<F: Write + Seek>(
        &self,
        note: &MappingNote,
        contents: Contents,
        writer: &mut ImageWriter<F>,
    ) -> Result<(), CaptureError> {
        if contents == Contents::Elsewhere {
            return Ok(());
        }
        let mut buffer = vec![0; (CHUNK_PAGES * PAGE) as usize];
        for start in (note.start..note.end).step_by(buffer.len()) {
            if sys::signal_waits().map_err(CaptureError::Write)? {
                return Err(CaptureError::Interrupted(self.pid));
            }
            let pages = CHUNK_PAGES.min((note.end - start) / PAGE);
            if contents == Contents::Touched && !self.any_touched(start, pages) {
                continue;
            }
            let buffer = &mut buffer[..(pages * PAGE) as usize];
            self.read(note, start, buffer)?;
            writer.contents(start, buffer).map_err(CaptureError::Write)?;
        }
        Ok(())
    }

    fn any_touched(&self, start: u64, pages: u64) -> bool {
        let mut entries = [0u8; CHUNK_PAGES as usize * 8];
        let entries = &mut entries[..pages as usize * 8];
        let known = self.pagemap.as_ref().is_some_and(|p| p.read_exact_at(entries, start / PAGE * 8).is_ok());
        let touched = |e: &[u8]| u64::from_le_bytes(std::array::from_fn(|i| e[i])) & PRESENT_OR_SWAPPED != 0;
        !known || entries.chunks_exact(8).any(touched)
    }

    /// Reads a piece of memory; pages of a file's mapping beyond the file's end hold nothing.
    fn read(&self, note: &MappingNote, start: u64, buffer: &mut [u8]) -> Result<(), CaptureError> {
        if self.memory.read_exact_at(buffer, start).is_ok() {
            return Ok(());
        }
        for (i, page) in buffer.chunks_mut(PAGE as usize).enumerate() {
            let address = start + i as u64 * PAGE;
            match self.memory.read_exact_at(page, address) {
                Ok(()) => {}
                Err(e) if note.backing == Backing::File && is_beyond_file(&e) => page.fill(0),
                Err(error) => {
                    let what = format!("memory at {address:#x} ({})", note.name.text());
                    return Err(CaptureError::Read { pid: self.pid, what, error });
                }
            }
        }
        Ok(())
    }
}

/// What `/proc/PID/mem` says of a page that would raise SIGBUS.
fn is_beyond_file(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EFAULT))
}

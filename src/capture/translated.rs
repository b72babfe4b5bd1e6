//! Tells processes that already run under translation. Their memory is the translator's as much as the guest's, so a
//! capture like any other's would make an image of the translator and lose the guest.

use std::fs::File;
use std::os::unix::fs::FileExt;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::header64::Header;
use goblin::elf::program_header::{PT_LOAD, PT_NOTE, ProgramHeader};
use procfs::process::{MemoryMap, Process};
use xlate_abi::marker::Marker;

/// Bytes of a mapped file that hold its headers, and note segments that are looked at.
const HEADERS: usize = 4096;
/// The machines' byte order; the runtime may be another machine's program under an emulator.
const CONTEXT: Ctx = Ctx { container: Container::Big, le: Endian::Little };

/// Whether the process has the runtime's program mapped. What can't be read is no evidence: capture needs the same
/// permissions, and names them.
pub fn is_translated(process: &Process) -> bool {
    let (Ok(memory), Ok(maps)) = (File::open(format!("/proc/{}/mem", process.pid)), process.maps()) else {
        return false;
    };
    maps.iter().filter(|map| map.offset == 0).any(|map| has_marker(&memory, map).unwrap_or(false))
}

/// Looks for the marker in the file whose first page this mapping holds; `None` if that is no ELF file.
fn has_marker(memory: &File, map: &MemoryMap) -> Option<bool> {
    let start = map.address.0;
    let mut bytes = [0; HEADERS];
    memory.read_exact_at(&mut bytes, start).ok()?;
    if !bytes.starts_with(b"\x7fELF") {
        return None;
    }
    let header = Header::from_bytes(bytes.first_chunk()?);
    let segments = ProgramHeader::parse(&bytes, header.e_phoff as usize, usize::from(header.e_phnum), CONTEXT).ok()?;
    let base = segments.iter().find(|s| s.p_type == PT_LOAD)?.p_vaddr;
    let notes = segments.iter().filter(|s| s.p_type == PT_NOTE);
    Some(notes.filter_map(|note| read_notes(memory, start, base, note)).any(|notes| Marker::is_in(&notes)))
}

fn read_notes(memory: &File, start: u64, base: u64, note: &ProgramHeader) -> Option<Vec<u8>> {
    let mut notes = vec![0; usize::try_from(note.p_memsz).ok().filter(|len| *len <= HEADERS)?];
    let address = start.checked_add(note.p_vaddr.checked_sub(base)?)?;
    memory.read_exact_at(&mut notes, address).ok()?;
    Some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_translated() {
        assert!(!is_translated(&Process::myself().unwrap()));
    }
}

//! Which build a program of the translator's is: what it makes is kept over runs only for that very build.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use goblin::elf::header::header64::Header;
use goblin::elf::note::NT_GNU_BUILD_ID;
use goblin::elf::program_header::{PT_NOTE, program_header64::ProgramHeader};

/// Headers and notes stand in the first bytes of what linkers make.
const HEAD: usize = 8192;

/// Bytes that differ for every two builds that differ: the linker's hash of the file's content, or, for a file
/// that was linked without, its size, time and number.
pub fn of(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut head = vec![0; HEAD];
    let len = file.read_at(&mut head, 0)?;
    head.truncate(len);
    if let Some(id) = build_id(&head) {
        return Ok(id.to_vec());
    }
    let found = file.metadata()?;
    let numbers = [found.len(), found.mtime() as u64, found.mtime_nsec() as u64, found.ino()];
    Ok(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
}

/// The build id in an ELF file's first bytes.
fn build_id(head: &[u8]) -> Option<&[u8]> {
    let header = Header::parse(head).ok()?;
    let start = header.e_phoff as usize;
    let table = head.get(start..start + usize::from(header.e_phnum) * size_of::<ProgramHeader>())?;
    let headers = ProgramHeader::from_bytes(table, header.e_phnum.into());
    let mut notes = headers.iter().filter(|h| h.p_type == PT_NOTE);
    notes.find_map(|h| {
        let start = usize::try_from(h.p_offset).ok()?;
        find_note(head.get(start..start.checked_add(h.p_filesz as usize)?)?)
    })
}

/// Walks over notes (gABI, "Note Section"): sizes of name and description, type, then both, padded to four bytes.
fn find_note(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let word = |at: usize| notes.get(at..at + 4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")));
        let (name, description) = (word(0)? as usize, word(4)? as usize);
        let at = 12 + name.next_multiple_of(4);
        let id = notes.get(at..at.checked_add(description)?)?;
        if word(8)? == NT_GNU_BUILD_ID && notes.get(12..12 + name) == Some(b"GNU\0") {
            return Some(id);
        }
        notes = notes.get(at + description.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_walked_to_the_right_one() {
        let abi = [&4u32.to_le_bytes()[..], &6u32.to_le_bytes(), &1u32.to_le_bytes(), b"GNU\0", b"abcdef\0\0"];
        let id = [&4u32.to_le_bytes()[..], &5u32.to_le_bytes(), &3u32.to_le_bytes(), b"GNU\0", b"12345\0\0\0"];
        assert_eq!(find_note(&[abi.concat(), id.concat()].concat()), Some(&b"12345"[..]));
        assert_eq!(find_note(&abi.concat()), None);
        assert_eq!(find_note(&id.concat()[..14]), None);
    }

    #[test]
    fn a_file_without_one_still_has_an_identity() {
        let mine = of(Path::new("/proc/self/exe")).unwrap();
        let other = of(Path::new("/etc/passwd")).unwrap();
        assert!(mine.len() >= 16 && other.len() == 32 && mine != other);
    }
}

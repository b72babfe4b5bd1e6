//! How the runtime's processes are told from all others, whatever their programs are called: the runtime's ELF file has a
//! note of this owner and type, which is mapped with the file's first page.

/// The note's owner, with its end.
pub const OWNER: [u8; 6] = *b"XLATE\0";

/// The note's type: `XL`, then what it marks. (Types of the images' notes are near by, in files of another kind.)
pub const RUNTIME: u32 = 0x584c_1001;

/// The note as it stands in the ELF file (gABI, "Note Section"): sizes, type, owner, no descriptor.
#[repr(C, align(4))]
pub struct Marker {
    owner_len: u32,
    descriptor_len: u32,
    kind: u32,
    owner: [u8; 8],
}

impl Marker {
    /// The runtime's note, for a static of its binary in a section called `.note.*`.
    pub const fn runtime() -> Self {
        let mut owner = [0; 8];
        let mut n = 0;
        while n < OWNER.len() {
            owner[n] = OWNER[n];
            n += 1;
        }
        Self { owner_len: OWNER.len() as u32, descriptor_len: 0, kind: RUNTIME, owner }
    }

    /// Whether a note segment's bytes hold the runtime's note.
    pub fn is_in(notes: &[u8]) -> bool {
        let word = |at: usize| notes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let padded = |len: usize| len.next_multiple_of(4);
        let mut at = 0;
        while let (Some(owner), Some(descriptor), Some(kind)) = (word(at), word(at + 4), word(at + 8)) {
            if kind == RUNTIME as usize && notes.get(at + 12..at + 12 + owner) == Some(&OWNER) {
                return true;
            }
            at = at.saturating_add(12).saturating_add(padded(owner)).saturating_add(padded(descriptor));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [owner.len() as u32, descriptor.len() as u32, kind].map(u32::to_le_bytes).concat();
        for part in [owner, descriptor] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_note_is_found_among_others() {
        let before = note(b"GNU\0", 3, &[7; 20]);
        let ours = note(&OWNER, RUNTIME, &[]);
        assert!(Marker::is_in(&[before.clone(), ours.clone()].concat()));
        assert!(Marker::is_in(&ours));
        assert!(!Marker::is_in(&before));
        assert!(!Marker::is_in(&note(&OWNER, RUNTIME + 1, &[])));
        assert!(!Marker::is_in(&ours[..10]));
        assert!(!Marker::is_in(&note(b"XLATE", RUNTIME, &[])[..16]), "an owner without its end");
    }

    #[test]
    fn it_stands_as_a_note_does() {
        let marker = Marker::runtime();
        // SAFETY: four words and eight bytes, without padding.
        let bytes = unsafe { core::slice::from_raw_parts((&raw const marker).cast::<u8>(), size_of::<Marker>()) };
        assert_eq!(bytes, note(&OWNER, RUNTIME, &[]));
    }
}

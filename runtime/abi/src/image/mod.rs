//! Checkpoint images: ELF core files (ET_CORE) with notes of owner `XLATE` for what a core lacks.
//!
//! The file, from its start:
//! 1. the ELF64 header, EM_X86_64, in a page of its own;
//! 2. the contents of memory: page-aligned, in the order of their addresses; pages of zeros are left out
//!    (in the file's holes, or as `p_memsz > p_filesz`);
//! 3. the notes (one PT_NOTE);
//! 4. the program headers: the PT_NOTE, then PT_LOADs sorted by address. They stand last because the number of
//!    segments is known only when memory has been read; a file cut short has none and is recognised by that.
//!
//! Notes of the kernel's kinds are exactly those of `fs/binfmt_elf.c` ([`core_notes`]), so that `gdb -c`, `readelf -n` and other
//! core tools read an image, and a core by `gcore` or the kernel can be resumed with what it has.
//! The notes of owner `XLATE` are in [`notes`].

pub mod core_notes;
pub mod notes;
mod reader;
mod writer;
mod xstate;

pub use reader::{Image, ImageError, Thread};
pub use writer::{ImageWriter, Note};
pub use xstate::{Xsave, XsaveComponent, decode_layout, encode_layout};

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// x86-64's page size: image contents and addresses are multiples of it.
pub const PAGE: u64 = 4096;

/// What may be done with memory; guest execute permission is only the guest's, never the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Access {
    /// `rwx` with dashes, as `/proc/PID/maps` writes it.
    pub fn text(self) -> String {
        [(self.read, 'r'), (self.write, 'w'), (self.execute, 'x')]
            .map(|(on, c)| if on { c } else { '-' })
            .iter()
            .collect()
    }
}

/// A PT_LOAD: `file_size` bytes at `file_offset`, zeros up to `memory_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    pub memory_size: u64,
    pub file_offset: u64,
    pub file_size: u64,
    pub access: Access,
}

impl Segment {
    pub fn end(&self) -> u64 {
        self.address + self.memory_size
    }
}

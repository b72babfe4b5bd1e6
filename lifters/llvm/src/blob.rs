//! From LLVM's object file to a blob: sections laid out one behind another, relocations resolved.

use std::collections::HashMap;

use object::read::elf::ElfFile64;
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionIndex, SectionKind, SymbolIndex, elf,
};
use xlate_abi::protocol::{Blob, BlobSlot, Formed, PcMapRow};
use xlate_abi::state::LinkSlot;

use crate::CompileError;
use crate::emitter::PC_SECTION;
use crate::region::{ENTRY, FUNCTION, SLOTS};

type Elf<'d> = ElfFile64<'d, object::Endianness>;

/// Data begin on a page of their own, so that code pages can be shared and read-only.
const DATA_ALIGN: u64 = 4096;

/// Lays out the object; `slots` are the link slots' guest addresses.
pub fn from_object(bytes: &[u8], slots: &[u64]) -> Result<Blob, CompileError> {
    let object = Elf::parse(bytes)?;
    let mut layout = Layout::new(&object)?;
    layout.relocate(&object)?;
    let offset = |name: &str| {
        let symbol = object.symbol_by_name(name).ok_or_else(|| CompileError::UndefinedSymbol(name.to_owned()))?;
        Ok::<_, CompileError>(layout.symbol(&object, symbol.index())? as u32)
    };
    let (entry_offset, passed_offset) = (offset(ENTRY)?, offset(FUNCTION)?);
    let pc_map = layout.pc_map(&object)?;
    Ok(Blob {
        entry_pc: 0,
        code: layout.code,
        entry_offset,
        passed_offset,
        data_align: DATA_ALIGN as u32,
        data_len: (slots.len() * size_of::<LinkSlot>()) as u32,
        slots: slots
            .iter()
            .enumerate()
            .map(|(n, guest_pc)| BlobSlot { offset: (n * size_of::<LinkSlot>()) as u32, guest_pc: *guest_pc })
            .collect(),
        pc_map,
        source: Vec::new(),
        data: Vec::new(),
        formed: Formed::default(),
        guest_instructions: 0,
        compile_micros: 0,
    })
}

/// Code and constants at their offsets in the blob.
struct Layout {
    code: Vec<u8>,
    sections: HashMap<SectionIndex, u64>,
}

impl Layout {
    fn new(object: &Elf<'_>) -> Result<Self, CompileError> {
        let mut layout = Self { code: Vec::new(), sections: HashMap::new() };
        for section in object.sections() {
            if section.name() == Ok(PC_SECTION) {
                continue;
            }
            match section.kind() {
                // Relative read-only data (jump tables) come as such, too.
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => {
                    layout.append(&section)?;
                }
                SectionKind::Data | SectionKind::UninitializedData if section.size() > 0 => {
                    return Err(CompileError::Data(section.name()?.to_owned()));
                }
                _ => {}
            }
        }
        Ok(layout)
    }

    fn append<'d>(&mut self, section: &impl ObjectSection<'d>) -> Result<(), CompileError> {
        let align = section.align().max(1) as usize;
        self.code.resize(self.code.len().next_multiple_of(align), 0);
        self.sections.insert(section.index(), self.code.len() as u64);
        self.code.extend_from_slice(section.data()?);
        Ok(())
    }

    /// A symbol's offset in the blob; the link slots stand behind the code.
    fn symbol(&self, object: &Elf<'_>, index: SymbolIndex) -> Result<u64, CompileError> {
        let symbol = object.symbol_by_index(index)?;
        let name = symbol.name().unwrap_or_default();
        if name == SLOTS {
            return Ok((self.code.len() as u64).next_multiple_of(DATA_ALIGN));
        }
        symbol
            .section_index()
            .and_then(|s| self.sections.get(&s))
            .map(|base| base + symbol.address())
            .ok_or_else(|| CompileError::UndefinedSymbol(name.to_owned()))
    }

    /// Rows of [`PC_SECTION`]: a relocated distance of four bytes to the instruction, then the guest address.
    fn pc_map(&self, object: &Elf<'_>) -> Result<Vec<PcMapRow>, CompileError> {
        let Some(section) = object.section_by_name(PC_SECTION) else { return Ok(Vec::new()) };
        let data = section.data()?;
        let mut rows = Vec::new();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let place = self.symbol(object, symbol)? as i64 + relocation.addend();
            let at = offset as usize + 4;
            if let Some(pc) = data.get(at..at + 8) {
                let guest_pc = u64::from_le_bytes(pc.try_into().expect("eight bytes are eight bytes"));
                rows.push(PcMapRow { host_offset: place as u32, guest_pc });
            }
        }
        rows.sort_unstable_by_key(|r| (r.host_offset, r.guest_pc));
        rows.dedup_by_key(|r| r.host_offset);
        Ok(rows)
    }

    fn relocate(&mut self, object: &Elf<'_>) -> Result<(), CompileError> {
        for section in object.sections() {
            let Some(&base) = self.sections.get(&section.index()) else {
                continue;
            };
            for (offset, relocation) in section.relocations() {
                let place = base + offset;
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    unreachable!("an ELF file has ELF relocations");
                };
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Err(CompileError::Relocation { kind: r_type.0, offset: place });
                };
                let target = self.symbol(object, symbol)? as i64 + relocation.addend();
                let field = Field { code: &mut self.code, kind: r_type.0, place, distance: target - place as i64 };
                match object.architecture() {
                    object::Architecture::Aarch64 => field.aarch64()?,
                    _ => field.x86_64()?,
                }
            }
        }
        Ok(())
    }
}

/// One place to be patched. Everything is relative to it, so that the blob's address doesn't matter.
struct Field<'a> {
    code: &'a mut [u8],
    kind: u32,
    place: u64,
    distance: i64,
}

impl Field<'_> {
    fn unknown(&self) -> CompileError {
        CompileError::Relocation { kind: self.kind, offset: self.place }
    }

    fn word(&mut self) -> &mut [u8; 4] {
        let at = self.place as usize;
        (&mut self.code[at..at + 4]).try_into().expect("four bytes are four bytes")
    }

    /// The distance, if it fits in a signed field of so many bits.
    fn within(&self, bits: u32) -> Result<i64, CompileError> {
        if self.distance >> (bits - 1) == self.distance >> 63 {
            return Ok(self.distance);
        }
        Err(CompileError::OutOfReach { kind: self.kind, offset: self.place, distance: self.distance })
    }

    fn word_distance(mut self) -> Result<(), CompileError> {
        let d = self.within(32)? as i32;
        *self.word() = d.to_le_bytes();
        Ok(())
    }

    /// psABI for x86-64, table 4.9.
    fn x86_64(self) -> Result<(), CompileError> {
        match self.kind {
            k if k == elf::R_X86_64_PC32.0 || k == elf::R_X86_64_PLT32.0 => self.word_distance(),
            k if k == elf::R_X86_64_PC64.0 => {
                let at = self.place as usize;
                let d = self.distance;
                self.code[at..at + 8].copy_from_slice(&d.to_le_bytes());
                Ok(())
            }
            _ => Err(self.unknown()),
        }
    }

    /// ELF for the Arm 64-bit architecture, tables "Static data" to "Conditional branches".
    fn aarch64(self) -> Result<(), CompileError> {
        match self.kind {
            k if k == elf::R_AARCH64_PREL32.0 => self.word_distance(),
            k if k == elf::R_AARCH64_ADR_PREL_LO21.0 => {
                let d = self.within(21)? as u32;
                self.or((d & 3) << 29 | (d >> 2 & 0x7_ffff) << 5)
            }
            k if k == elf::R_AARCH64_LD_PREL_LO19.0 || k == elf::R_AARCH64_CONDBR19.0 => {
                let d = self.within(21)? as u32;
                self.or((d >> 2 & 0x7_ffff) << 5)
            }
            k if k == elf::R_AARCH64_TSTBR14.0 => {
                let d = self.within(16)? as u32;
                self.or((d >> 2 & 0x3fff) << 5)
            }
            k if k == elf::R_AARCH64_CALL26.0 || k == elf::R_AARCH64_JUMP26.0 => {
                let d = self.within(28)? as u32;
                self.or(d >> 2 & 0x3ff_ffff)
            }
            _ => Err(self.unknown()),
        }
    }

    /// Sets bits of the instruction, which the assembler left zero.
    fn or(mut self, bits: u32) -> Result<(), CompileError> {
        let word = self.word();
        *word = (u32::from_le_bytes(*word) | bits).to_le_bytes();
        Ok(())
    }
}

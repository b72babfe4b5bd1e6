//! A block's record in the file ([`xlate_abi::blocks`]): fixed fields followed by arrays, all read in place.

use bitflags::bitflags;
use xlate_abi::protocol::PcMapRow;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::engine::baseline::symbol::{Relocation, Symbol};
use crate::engine::baseline::{Code, Options};

bitflags! {
    /// How a block was compiled.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct How: u8 {
        const PRECISE = 1;
        const COUNTED = 2;
    }
}

impl How {
    pub fn of(options: Options<'_>) -> Self {
        let all = [(options.precise, Self::PRECISE), (options.counted, Self::COUNTED)];
        all.into_iter().filter_map(|(on, flag)| on.then_some(flag)).collect()
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Head {
    /// The function that the block calls; 0 for none.
    pub calls: U64,
    /// Bytes of guest code.
    pub len: U32,
    how: u8,
    /// The code's alignment, as a power of two.
    align: u8,
    _reserved: U16,
    pages: U16,
    relocations: U16,
    slots: U16,
    pc_map: U16,
    seen: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RelocationRow {
    offset: U32,
    symbol: U32,
}

/// Host to guest: offsets in the code and in the block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PcRow {
    pub host: U32,
    pub guest: U32,
}

/// A record's parts in the order in which they stand there.
#[derive(Clone, Copy)]
pub struct Record<'f> {
    pub head: &'f Head,
    /// Numbers of the file's pages that the block depends on.
    pub pages: &'f [U32],
    relocations: &'f [RelocationRow],
    /// Where the link slots lead to.
    pub slots: &'f [U64],
    pub pc_map: &'f [PcRow],
    /// Where the indirect jump or call at its end was seen to lead.
    pub seen: &'f [U64],
    pub code: &'f [u8],
}

/// What is known of a block besides its code.
pub struct Facts<'a> {
    pub how: How,
    pub len: u32,
    pub calls: Option<u64>,
    pub seen: &'a [u64],
    /// Pages that it depends on, whose numbers follow later ([`set_pages`]).
    pub pages: usize,
}

fn array<'f, T: FromBytes + KnownLayout + Immutable + Unaligned>(rest: &mut &'f [u8], count: U16) -> Option<&'f [T]> {
    let (found, behind) = <[T]>::ref_from_prefix_with_elems(rest, count.get().into()).ok()?;
    *rest = behind;
    Some(found)
}

impl<'f> Record<'f> {
    /// The parts of a record; `None` if they don't fit each other.
    pub fn read(bytes: &'f [u8]) -> Option<Self> {
        let (head, mut rest) = Head::ref_from_prefix(bytes).ok()?;
        Some(Self {
            head,
            pages: array(&mut rest, head.pages)?,
            relocations: array(&mut rest, head.relocations)?,
            slots: array(&mut rest, head.slots)?,
            pc_map: array(&mut rest, head.pc_map)?,
            seen: array(&mut rest, head.seen)?,
            code: rest,
        })
    }

    pub fn how(&self) -> How {
        How::from_bits_retain(self.head.how)
    }

    pub fn align(&self) -> Option<usize> {
        1usize.checked_shl(self.head.align.into())
    }

    pub fn calls(&self) -> Option<u64> {
        Some(self.head.calls.get()).filter(|function| *function != 0)
    }

    /// What is to be filled in; `None` for a symbol that doesn't exist.
    pub fn relocations(&self) -> impl Iterator<Item = Option<Relocation>> + Clone + use<'f> {
        self.relocations
            .iter()
            .map(|row| Some(Relocation { offset: row.offset.get(), symbol: Symbol::numbered(row.symbol.get())? }))
    }
}

/// A record of a block at `pc`, its pages' numbers still zero; `None` if its parts are too many for its fields.
pub fn encode(pc: u64, code: &Code, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let count = |n: usize| u16::try_from(n).ok().map(U16::new);
    let head = Head {
        calls: facts.calls.unwrap_or(0).into(),
        len: facts.len.into(),
        how: facts.how.bits(),
        align: u8::try_from(code.align.trailing_zeros()).ok()?,
        _reserved: 0.into(),
        pages: count(facts.pages)?,
        relocations: count(code.relocations.len())?,
        slots: count(code.slots.len())?,
        pc_map: count(code.pc_map.len())?,
        seen: count(facts.seen.len())?,
    };
    let mut record = head.as_bytes().to_vec();
    record.resize(record.len() + facts.pages * size_of::<U32>(), 0);
    for r in &code.relocations {
        record.extend(RelocationRow { offset: r.offset.into(), symbol: r.symbol.number().into() }.as_bytes());
    }
    record.extend(code.slots.iter().flat_map(|slot| slot.to_le_bytes()));
    for &PcMapRow { host_offset, guest_pc } in &code.pc_map {
        let guest = u32::try_from(guest_pc.checked_sub(pc)?).ok()?;
        record.extend(PcRow { host: host_offset.into(), guest: guest.into() }.as_bytes());
    }
    record.extend(facts.seen.iter().flat_map(|target| target.to_le_bytes()));
    record.extend(&code.bytes);
    Some(record)
}

/// Enters the numbers of the pages that a record depends on: as many as it has room for.
pub fn set_pages(record: &mut [u8], numbers: impl Iterator<Item = u32>) {
    let places = record[size_of::<Head>()..].chunks_exact_mut(size_of::<U32>());
    for (place, number) in places.zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

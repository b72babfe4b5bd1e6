//! The memory that cases run in: one code area and one data area at fixed low addresses, so that every addressing
//! form (32-bit absolute included) reaches them. Before the data area is a page of zeros that can only be read, so that
//! the fault of a store shows apart from that of a load; behind it is nothing.

use anyhow::{Context, Result, bail};

use super::values::Rng;

/// Where programs stand. Bytes that belong to no program are `int3`.
pub const CODE: u64 = 0x1000_0000;
pub const CODE_LEN: usize = 0x1_0000;
/// The length of the page before the data area.
pub const READ_ONLY_LEN: usize = 0x1000;
/// Where memory operands point.
pub const DATA: u64 = 0x2000_0000;
pub const DATA_LEN: usize = 0x2000;
const INT3: u8 = 0xcc;

/// The mapped areas of this process.
pub struct Arena {
    _private: (),
}

impl Arena {
    /// Maps both areas; there is one of them in a process.
    pub fn map() -> Result<Self> {
        use libc::{PROT_EXEC, PROT_READ, PROT_WRITE};
        map_at(CODE, CODE_LEN, PROT_READ | PROT_WRITE | PROT_EXEC).context("the code area")?;
        map_at(DATA, DATA_LEN, PROT_READ | PROT_WRITE).context("the data area")?;
        map_at(DATA - READ_ONLY_LEN as u64, READ_ONLY_LEN, PROT_READ).context("the page before the data area")?;
        let mut arena = Self { _private: () };
        arena.code().fill(INT3);
        Ok(arena)
    }

    fn code(&mut self) -> &mut [u8] {
        // SAFETY: mapped by `map`, borrowed exclusively through `self`, written only by programs otherwise.
        unsafe { std::slice::from_raw_parts_mut(CODE as *mut u8, CODE_LEN) }
    }

    /// The data area as it is now.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: as for `code`.
        unsafe { std::slice::from_raw_parts_mut(DATA as *mut u8, DATA_LEN) }
    }

    /// Puts a program's bytes in place. The rest is filled anew: a former case may have written there.
    pub fn place(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - CODE) as usize;
        self.code().fill(INT3);
        self.code()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn map_at(address: u64, len: usize, protection: i32) -> Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: nothing that exists is touched.
    let at = unsafe { libc::mmap(address as *mut _, len, protection, flags, -1, 0) };
    if at as u64 != address {
        bail!("no memory at {address:#x}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Whether an address lies in the code area.
pub fn in_code(address: u64) -> bool {
    (CODE..CODE + CODE_LEN as u64).contains(&address)
}

/// Whether `len` bytes at an address lie in the data area.
pub fn in_data(address: u64, len: u64) -> bool {
    address >= DATA && address.saturating_add(len) <= DATA + DATA_LEN as u64
}

/// Where to start a program: in the middle of the code area, at any alignment.
pub fn program_address(rng: &mut Rng) -> u64 {
    CODE + CODE_LEN as u64 / 2 + rng.below(0x1000)
}

/// An address for a memory operand of `size` bytes. Mostly inside and aligned, sometimes misaligned, across the page
/// boundary, across or before the start, across or behind the end, or nowhere.
pub fn target(rng: &mut Rng, size: u64, locked: bool) -> u64 {
    let size = size.max(1);
    let inside = 256 + rng.below(DATA_LEN as u64 - 512 - size.min(1024));
    let aligned = inside & !(size.next_power_of_two().min(64) - 1);
    let end = DATA + DATA_LEN as u64;
    match rng.below(100) {
        // A locked access across a cache line may be made a fault or be slowed down by the machine: not tested.
        _ if locked && rng.chance(95) => DATA + aligned,
        0..=69 => DATA + aligned,
        70..=87 => DATA + inside,
        88..=91 => DATA + 0x1000 - rng.below(size + 1),
        92..=95 if !locked => end - rng.below(size + 1),
        96 => DATA - size.min(READ_ONLY_LEN as u64),
        97 if !locked => DATA - rng.below(size + 1),
        98 => end + aligned,
        _ => rng.pick(&[0, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000, 0x1234_5678_9abc_def0]) & !63,
    }
}

/// An address within the code area for a transfer of control.
pub fn landing(rng: &mut Rng) -> u64 {
    CODE + rng.below(CODE_LEN as u64)
}

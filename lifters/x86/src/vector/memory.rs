//! Accesses to the lanes that a mask names, with the others left alone: a lane that isn't named doesn't fault (Intel SDM
//! vol. 2, 2.7.7, "Fault suppression").

use core::sync::atomic::{AtomicU8, Ordering};

use xlate_abi::state::CpuState;

use crate::emitter::{Lane, VTy};
use crate::interpreter::V;

const PAGE: u64 = 4096;

/// Loads lanes; zero in the others.
///
/// # Safety
/// The guest may access the named lanes at this address, or faults are handled.
pub unsafe fn load_lanes(ty: VTy, mask: u64, addr: u64) -> V {
    let size = u64::from(ty.lane.ty().bytes());
    if let Some((_, last)) = ends(addr, size, mask & u64::MAX >> (64 - ty.lanes())) {
        // SAFETY: the caller's contract.
        unsafe { require_canonical(last) };
    }
    let mut v = V::ZERO;
    for piece in pieces(size, mask & u64::MAX >> (64 - ty.lanes())) {
        // SAFETY: the caller's contract.
        let bytes = unsafe { load(addr.wrapping_add(piece.start), piece.size) }.to_le_bytes();
        v.0[piece.start as usize..][..piece.size as usize].copy_from_slice(&bytes[..piece.size as usize]);
    }
    v
}

/// Stores lanes, all or none.
///
/// # Safety
/// As for [`load_lanes`].
pub unsafe fn store_lanes(ty: VTy, mask: u64, addr: u64, v: &V) {
    let size = u64::from(ty.lane.ty().bytes());
    let mask = mask & u64::MAX >> (64 - ty.lanes());
    // SAFETY: the caller's contract.
    unsafe { require_pages(addr, size, mask) };
    for piece in pieces(size, mask) {
        let mut bytes = [0; 8];
        bytes[..piece.size as usize].copy_from_slice(&v.0[piece.start as usize..][..piece.size as usize]);
        // SAFETY: the caller's contract.
        unsafe { store(addr.wrapping_add(piece.start), piece.size, u64::from_le_bytes(bytes)) };
    }
}

/// Bytes of a vector that are accessed at once: whole lanes, at most eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    size: u64,
}

/// The named lanes in order, neighbours together.
fn pieces(lane: u64, mut mask: u64) -> impl Iterator<Item = Piece> {
    const LARGEST: u64 = 8;
    std::iter::from_fn(move || {
        let first = u64::from(mask.trailing_zeros());
        let run = u64::from((mask.checked_shr(first as u32)?).trailing_ones()) * lane;
        // The largest power of two that the run has.
        let size = 1 << run.min(LARGEST).ilog2();
        mask &= !(u64::MAX >> (64 - size / lane) << first);
        Some(Piece { start: first * lane, size })
    })
}

/// The first and the last byte that a mask names.
fn ends(addr: u64, size: u64, mask: u64) -> Option<(u64, u64)> {
    let last = u64::from(mask.checked_ilog2()?);
    let first = u64::from(mask.trailing_zeros());
    Some((addr.wrapping_add(first * size), addr.wrapping_add(last * size + size - 1)))
}

/// An access that ends beyond the canonical addresses raises #GP, whatever else is wrong with it.
///
/// # Safety
/// As for [`load_lanes`].
unsafe fn require_canonical(last: u64) {
    const SPARE: u32 = 16;
    if (last << SPARE) as i64 >> SPARE != last as i64 {
        // SAFETY: the caller's contract.
        unsafe { (last as *const u8).read_volatile() };
    }
}

/// Faults unless the named lanes can be stored, in the order of Intel's processors: they try the first byte and then the last
/// one. In a single page the first store tells.
///
/// # Safety
/// As for [`load_lanes`].
unsafe fn require_pages(addr: u64, size: u64, mask: u64) {
    let Some((first, last)) = ends(addr, size, mask) else { return };
    if first / PAGE == last / PAGE {
        return;
    }
    // SAFETY: the caller's contract.
    unsafe { require_canonical(last) };
    for byte in [first, last] {
        // An operand that no compiler knows: what changes nothing is made a load otherwise.
        let nothing = core::hint::black_box(0);
        // SAFETY: the caller's contract; a byte has no alignment.
        unsafe { AtomicU8::from_ptr(byte as *mut u8) }.fetch_or(nothing, Ordering::Relaxed);
    }
}

/// Loads one element of so many bytes.
///
/// # Safety
/// As for [`load_lanes`].
pub(super) unsafe fn load(addr: u64, size: u64) -> u64 {
    // SAFETY: the caller's contract.
    unsafe {
        match size {
            1 => u64::from((addr as *const u8).read_volatile()),
            2 => u64::from((addr as *const u16).read_unaligned()),
            4 => u64::from((addr as *const u32).read_unaligned()),
            _ => (addr as *const u64).read_unaligned(),
        }
    }
}

/// Stores one.
///
/// # Safety
/// As for [`load_lanes`].
pub(super) unsafe fn store(addr: u64, size: u64, v: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        match size {
            1 => (addr as *mut u8).write_volatile(v as u8),
            2 => (addr as *mut u16).write_unaligned(v as u16),
            4 => (addr as *mut u32).write_unaligned(v as u32),
            _ => (addr as *mut u64).write_unaligned(v),
        }
    }
}

/// Vectors of 512 bits in lanes of so many bytes, of which a mask names those that are there at all.
fn shape(bytes: u64) -> VTy {
    let lane = match bytes {
        1 => Lane::I8,
        2 => Lane::I16,
        4 => Lane::I32,
        _ => Lane::I64,
    };
    VTy { lane, bits: 512 }
}

/// The helper [`xlate_abi::state::Helper::LoadMasked`].
pub extern "C" fn load_masked(state: &mut CpuState, addr: u64, mask: u64, bytes: u64) -> u64 {
    // SAFETY: code calls it for an access of the guest's, whose faults are handled.
    state.scratch[0] = unsafe { load_lanes(shape(bytes), mask, addr) }.0;
    0
}

/// The helper [`xlate_abi::state::Helper::StoreMasked`].
pub extern "C" fn store_masked(state: &mut CpuState, addr: u64, mask: u64, bytes: u64) -> u64 {
    let v = V(state.scratch[0]);
    // SAFETY: as above.
    unsafe { store_lanes(shape(bytes), mask, addr, &v) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_lanes_are_accessed_together() {
        let of = |lane, mask| pieces(lane, mask).map(|p| (p.start, p.size)).collect::<Vec<_>>();
        assert_eq!(of(1, 0), []);
        assert_eq!(of(1, 0x7fff), [(0, 8), (8, 4), (12, 2), (14, 1)]);
        assert_eq!(of(1, 1 << 63 | 0b110), [(1, 2), (63, 1)]);
        assert_eq!(of(1, u64::MAX).len(), 8);
        assert_eq!(of(4, 0b1011), [(0, 8), (12, 4)]);
        assert_eq!(of(8, 0b101), [(0, 8), (16, 8)]);
    }
}

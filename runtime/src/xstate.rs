//! The x87, SSE and AVX state in the formats of FXSAVE and XSAVE (Intel SDM vol. 1, 10.5 and 13.4): signal
//! frames, checkpoint images and the instructions of these names all use them.

use xlate_abi::image::XsaveComponent;
use xlate_abi::state::{CpuState, MXCSR_DEFAULT, X87State};

/// Size of the legacy (FXSAVE) area.
pub const LEGACY_SIZE: usize = 512;
/// Size of the legacy area and the header.
pub const HEADED_SIZE: usize = AVX_OFFSET;

/// State components (XCR0 bits).
pub mod component {
    pub const X87: u64 = 1 << 0;
    pub const SSE: u64 = 1 << 1;
    pub const AVX: u64 = 1 << 2;
    pub const OPMASK: u64 = 1 << 5;
    pub const ZMM_HI256: u64 = 1 << 6;
    pub const HI16_ZMM: u64 = 1 << 7;
    /// The protection keys' register. It isn't kept; captured processes have it in their frames.
    pub const PKRU: u64 = 1 << 9;
    /// AVX-512's three, which come together.
    pub const AVX512: u64 = OPMASK | ZMM_HI256 | HI16_ZMM;
    /// All that is kept.
    pub const ALL: u64 = X87 | SSE | AVX | AVX512;
}

/// The components beyond the legacy area, in the order of their numbers, with their sizes.
pub const EXTENDED: [(u64, usize); 4] =
    [(component::AVX, 256), (component::OPMASK, 64), (component::ZMM_HI256, 512), (component::HI16_ZMM, 1024)];

/// Offset of the header: XSTATE_BV, then XCOMP_BV.
pub const HEADER: usize = LEGACY_SIZE;
/// Offset of the first component beyond the header, in both formats.
const AVX_OFFSET: usize = 576;
/// In XCOMP_BV: the area is compacted.
pub const COMPACTED: u64 = 1 << 63;

/// Parts of the legacy area (SDM vol. 1, 13.4.1): control words and pointers of the x87 unit, MXCSR and its mask, the x87
/// registers, the XMM registers.
const X87_CONTROL: core::ops::Range<usize> = 0..24;
const MXCSR: usize = 24;
const X87_REGISTERS: core::ops::Range<usize> = 32..160;
const XMM: core::ops::Range<usize> = 160..416;
const FIP: usize = 8;
const FDP: usize = 16;

/// Mask of the MXCSR bits that may be set.
pub const MXCSR_MASK: u32 = 0xffff;

/// Where AVX-512's components lie in the standard format. The architecture leaves that open: AMD's processors have no
/// gap for MPX. A captured process goes on with the places that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub opmask: usize,
    pub zmm_hi256: usize,
    pub hi16_zmm: usize,
}

impl Layout {
    /// Intel's.
    pub const INTEL: Self = Self { opmask: 1088, zmm_hi256: 1152, hi16_zmm: 1664 };

    /// That of the processor that an image comes from: Intel's for what it hadn't.
    pub fn of_image(components: &[XsaveComponent]) -> Self {
        let place = |bit: u64, otherwise: usize| {
            let found = components.iter().find(|c| bit.trailing_zeros() == c.number);
            found.map_or(otherwise, |c| c.offset as usize)
        };
        let Self { opmask, zmm_hi256, hi16_zmm } = Self::INTEL;
        Self {
            opmask: place(component::OPMASK, opmask),
            zmm_hi256: place(component::ZMM_HI256, zmm_hi256),
            hi16_zmm: place(component::HI16_ZMM, hi16_zmm),
        }
    }

    /// Whether each component has room at its place and none lies on another one.
    pub fn is_sound(&self) -> bool {
        let mut places = EXTENDED.map(|(bit, size)| (self.offset(bit), size));
        places.sort_unstable();
        let apart = places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
        apart && places[0].0 >= AVX_OFFSET && places[3].0 + places[3].1 <= 4096
    }

    /// Where a component of [`EXTENDED`] lies.
    pub fn offset(&self, bit: u64) -> usize {
        match bit {
            component::OPMASK => self.opmask,
            component::ZMM_HI256 => self.zmm_hi256,
            component::HI16_ZMM => self.hi16_zmm,
            _ => AVX_OFFSET,
        }
    }

    /// Size of the standard format's area that holds `components`.
    pub fn size(&self, components: u64) -> usize {
        let ends = EXTENDED.iter().filter(|(bit, _)| components & bit != 0).map(|(bit, size)| self.offset(*bit) + size);
        ends.max().unwrap_or(HEADED_SIZE)
    }
}

/// Where the components are in an area: in the standard format, or one after the other (SDM vol. 1, 13.4.3).
#[derive(Clone, Copy, Debug)]
pub enum Places<'l> {
    Standard(&'l Layout),
    /// The components of XCOMP_BV.
    Compacted(u64),
}

impl Places<'_> {
    /// Where a component of [`EXTENDED`] lies. (None of those kept is aligned in the compacted format.)
    fn offset(&self, bit: u64) -> usize {
        match self {
            Self::Standard(layout) => layout.offset(bit),
            Self::Compacted(components) => {
                let before = EXTENDED.iter().filter(|(other, _)| *other < bit && components & other != 0);
                AVX_OFFSET + before.map(|(_, size)| size).sum::<usize>()
            }
        }
    }

    /// The length of an area up to the end of the last of `components`.
    pub fn size(&self, components: u64) -> usize {
        let ends = EXTENDED.iter().filter(|(bit, _)| components & bit != 0).map(|(bit, size)| self.offset(*bit) + size);
        ends.max().unwrap_or(HEADED_SIZE)
    }
}

/// Size of the compacted area of `components`.
pub fn compacted_size(components: u64) -> usize {
    Places::Compacted(components).size(components)
}

fn take<const N: usize>(area: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&area[at..at + N]);
    bytes
}

/// x87 stack position `i` is physical register `(TOP + i) mod 8`.
fn physical(fsw: u16, i: usize) -> usize {
    (usize::from(fsw >> 11 & 7) + i) & 7
}

/// Writes `components` of the state through `put`, which gets offsets and bytes. `wide` is the form with REX.W: without, the
/// x87 unit's pointers have 32 bits, and their selectors (zero here) follow. Neither MXCSR nor the header is written.
pub fn write(state: &CpuState, components: u64, places: Places<'_>, wide: bool, mut put: impl FnMut(usize, &[u8])) {
    if components & component::X87 != 0 {
        let (control, registers) = x87_image(&state.x87, wide);
        put(X87_CONTROL.start, &control);
        put(X87_REGISTERS.start, &registers);
    }
    if components & component::SSE != 0 {
        let mut image = [0; XMM.end - XMM.start];
        image.chunks_exact_mut(16).zip(&state.vec).for_each(|(place, reg)| place.copy_from_slice(&reg[..16]));
        put(XMM.start, &image);
    }
    for (bit, size) in EXTENDED.into_iter().filter(|(bit, _)| components & bit != 0) {
        let mut image = [0; 1024];
        extended_image(state, bit, &mut image[..size]);
        put(places.offset(bit), &image[..size]);
    }
}

/// Writes MXCSR and its mask.
pub fn write_mxcsr(mxcsr: u32, mut put: impl FnMut(usize, &[u8])) {
    put(MXCSR, &(u64::from(mxcsr) | u64::from(MXCSR_MASK) << 32).to_le_bytes());
}

fn x87_image(x87: &X87State, wide: bool) -> ([u8; X87_CONTROL.end], [u8; 128]) {
    let mut control = [0; X87_CONTROL.end];
    control[0..2].copy_from_slice(&x87.fcw.to_le_bytes());
    control[2..4].copy_from_slice(&x87.fsw.to_le_bytes());
    control[4] = x87.ftw;
    control[6..8].copy_from_slice(&x87.fop.to_le_bytes());
    let n = if wide { 8 } else { 4 };
    control[FIP..][..n].copy_from_slice(&x87.fip.to_le_bytes()[..n]);
    control[FDP..][..n].copy_from_slice(&x87.fdp.to_le_bytes()[..n]);
    let mut registers = [0; 128];
    for (i, place) in registers.chunks_exact_mut(16).enumerate() {
        place[..10].copy_from_slice(&x87.reg[physical(x87.fsw, i)][..10]);
    }
    (control, registers)
}

/// The part of the vector registers that a component has of each: the registers, and the bytes of them.
fn part(bit: u64) -> (core::ops::Range<usize>, core::ops::Range<usize>) {
    match bit {
        component::AVX => (0..16, 16..32),
        component::ZMM_HI256 => (0..16, 32..64),
        _ => (16..32, 0..64),
    }
}

fn extended_image(state: &CpuState, bit: u64, image: &mut [u8]) {
    if bit == component::OPMASK {
        image.chunks_exact_mut(8).zip(state.k).for_each(|(place, k)| place.copy_from_slice(&k.to_le_bytes()));
        return;
    }
    let (registers, bytes) = part(bit);
    let places = image.chunks_exact_mut(bytes.len());
    places.zip(&state.vec[registers]).for_each(|(place, reg)| place.copy_from_slice(&reg[bytes.clone()]));
}

/// Takes over `components` but for MXCSR: from the area those that are `there`, the others become initial.
///
/// # Panics
/// If the area is shorter than what is there.
pub fn read(state: &mut CpuState, components: u64, there: u64, places: Places<'_>, wide: bool, area: &[u8]) {
    let chosen = |bit: u64| (components & bit != 0).then_some(there & bit != 0);
    match chosen(component::X87) {
        Some(true) => read_x87(&mut state.x87, area, wide),
        Some(false) => state.x87 = X87State::default(),
        None => {}
    }
    match chosen(component::SSE) {
        Some(true) => state.vec[..16].iter_mut().zip(area[XMM].chunks_exact(16)).for_each(|(reg, from)| {
            reg[..16].copy_from_slice(from);
        }),
        Some(false) => clear(&mut state.vec[..16], 0..16),
        None => {}
    }
    for (bit, size) in EXTENDED {
        match chosen(bit) {
            Some(true) => read_extended(state, bit, &area[places.offset(bit)..][..size]),
            Some(false) if bit == component::OPMASK => state.k = [0; 8],
            Some(false) => {
                let (registers, bytes) = part(bit);
                clear(&mut state.vec[registers], bytes);
            }
            None => {}
        }
    }
}

fn read_extended(state: &mut CpuState, bit: u64, image: &[u8]) {
    if bit == component::OPMASK {
        state.k.iter_mut().zip(image.chunks_exact(8)).for_each(|(k, from)| *k = u64::from_le_bytes(take(from, 0)));
        return;
    }
    let (registers, bytes) = part(bit);
    let images = image.chunks_exact(bytes.len());
    state.vec[registers].iter_mut().zip(images).for_each(|(reg, from)| reg[bytes.clone()].copy_from_slice(from));
}

fn read_x87(x87: &mut X87State, area: &[u8], wide: bool) {
    let pointer = |at: usize| match wide {
        true => u64::from_le_bytes(take(area, at)),
        false => u64::from(u32::from_le_bytes(take(area, at))),
    };
    x87.fsw = u16::from_le_bytes(take(area, 2));
    x87.set_control(u16::from_le_bytes(take(area, 0)));
    x87.ftw = area[4];
    x87.fop = u16::from_le_bytes(take(area, 6)) & X87State::OPCODE;
    // It is an address: processors extend the sign of the longest ones that there are (57 bits). FDP they take as it is.
    const UNUSED: u32 = 64 - 57;
    x87.fip = ((pointer(FIP) as i64) << UNUSED >> UNUSED) as u64;
    x87.fdp = pointer(FDP);
    for (i, from) in area[X87_REGISTERS].chunks_exact(16).enumerate() {
        let mut reg = [0; 16];
        reg[..10].copy_from_slice(&from[..10]);
        x87.reg[physical(x87.fsw, i)] = reg;
    }
}

/// MXCSR in an area.
pub fn mxcsr(area: &[u8]) -> u32 {
    u32::from_le_bytes(take(area, MXCSR))
}

fn clear(regs: &mut [[u8; 64]], part: core::ops::Range<usize>) {
    for reg in regs {
        reg[part.clone()].fill(0);
    }
}

/// The components that aren't in their initial state (XINUSE), by their values; MXCSR is no part of that (SDM vol. 1, 13.6).
pub fn in_use(state: &CpuState) -> u64 {
    let of = |bit: u64, used: bool| if used { bit } else { 0 };
    let is_set = |registers: core::ops::Range<usize>, bytes: core::ops::Range<usize>| {
        state.vec[registers].iter().any(|reg| reg[bytes.clone()].iter().any(|byte| *byte != 0))
    };
    let vectors = [component::AVX, component::ZMM_HI256, component::HI16_ZMM].into_iter().map(|bit| {
        let (registers, bytes) = part(bit);
        of(bit, is_set(registers, bytes))
    });
    of(component::X87, state.x87 != X87State::default())
        | of(component::SSE, is_set(0..16, 0..16))
        | of(component::OPMASK, state.k != [0; 8])
        | vectors.fold(0, |all, bit| all | bit)
}

/// Whether MXCSR has another value than the initial one.
pub fn changed_mxcsr(state: &CpuState) -> bool {
    state.mxcsr != MXCSR_DEFAULT
}

/// Writes the 64-bit FXSAVE format (REX.W form: instruction and data pointers are 64 bits wide). Bytes 416 and
/// on, which the instruction leaves alone, are left alone.
pub fn write_fxsave(state: &CpuState, area: &mut [u8; LEGACY_SIZE]) {
    let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
    let legacy = component::X87 | component::SSE;
    write(state, legacy, Places::Compacted(0), true, &mut put);
    write_mxcsr(state.mxcsr, &mut put);
}

/// Takes the state over from the 64-bit FXSAVE format. Reserved MXCSR bits are dropped: callers that must raise
/// #GP for them look first.
pub fn read_fxsave(state: &mut CpuState, area: &[u8; LEGACY_SIZE]) {
    let legacy = component::X87 | component::SSE;
    read(state, legacy, legacy, Places::Compacted(0), true, area);
    state.mxcsr = mxcsr(area) & MXCSR_MASK;
}

/// Writes the standard XSAVE format of `components` as XSAVE does, with a header of nothing but XSTATE_BV.
///
/// # Panics
/// If `area` is shorter than the layout's size.
pub fn write_xsave(state: &CpuState, components: u64, layout: &Layout, area: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
    put(HEADER, &[0; HEADED_SIZE - HEADER]);
    put(HEADER, &(in_use(state) & components).to_le_bytes());
    write(state, components, Places::Standard(layout), true, &mut put);
    write_mxcsr(state.mxcsr, &mut put);
}

/// Takes over `components` from the standard XSAVE format; those that XSTATE_BV says are in their initial state
/// are set to it.
///
/// # Panics
/// If `area` is shorter than the layout's size.
pub fn read_xsave(state: &mut CpuState, components: u64, layout: &Layout, area: &[u8]) {
    let there = u64::from_le_bytes(take(area, HEADER));
    read(state, components, there, Places::Standard(layout), true, area);
    // MXCSR belongs to SSE and AVX both and is loaded whatever XSTATE_BV says (SDM vol. 1, 13.8.1).
    if components & (component::SSE | component::AVX) != 0 {
        state.mxcsr = mxcsr(area) & MXCSR_MASK;
    }
}

/// What a signal handler starts with: the initial state of everything (Linux, fpu__clear_user_states).
pub fn reset(state: &mut CpuState) {
    let init = CpuState::default();
    state.x87 = init.x87;
    state.mxcsr = init.mxcsr;
    state.k = init.k;
    state.vec = init.vec;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CpuState {
        let mut state = CpuState::default();
        state.x87.fsw = 3 << 11;
        state.x87.ftw = 0b0000_1001;
        state.x87.fcw = 0x027f;
        state.x87.fip = 0x1234_5678_9abc;
        state.mxcsr = 0x1fa5;
        for (i, reg) in state.x87.reg.iter_mut().enumerate() {
            reg[..10].fill(i as u8 + 1);
        }
        for (i, reg) in state.vec.iter_mut().enumerate() {
            for (j, byte) in reg.iter_mut().enumerate() {
                *byte = (i * 64 + j) as u8;
            }
        }
        state.k = [1, 2, 3, 4, 5, 6, 7, 8];
        state
    }

    #[test]
    fn fxsave_is_in_stack_order() {
        let state = sample();
        let mut area = [0; LEGACY_SIZE];
        write_fxsave(&state, &mut area);
        // TOP is 3, so ST(0) is physical register 3.
        assert_eq!(area[32..42], [4; 10]);
        assert_eq!(area[4], 0b0000_1001);
        let mut back = CpuState::default();
        read_fxsave(&mut back, &area);
        assert_eq!(back.x87, state.x87);
        assert_eq!(back.mxcsr, state.mxcsr);
        assert_eq!(back.vec[7][..16], state.vec[7][..16]);
        assert_eq!(back.vec[7][16..], [0; 48]);
    }

    #[test]
    fn xsave_round_trip() {
        let state = sample();
        const AMD: Layout = Layout { opmask: 832, zmm_hi256: 896, hi16_zmm: 1408 };
        for (layout, size) in [(Layout::INTEL, 2688), (AMD, 2432)] {
            let mut area = vec![0; layout.size(component::ALL)];
            assert!(layout.is_sound() && area.len() == size);
            write_xsave(&state, component::ALL, &layout, &mut area);
            let mut back = CpuState::default();
            read_xsave(&mut back, component::ALL, &layout, &area);
            assert_eq!((back.vec, back.k, back.x87, back.mxcsr), (state.vec, state.k, state.x87, state.mxcsr));
        }
        assert!(!Layout { zmm_hi256: 1100, ..Layout::INTEL }.is_sound());
    }

    #[test]
    fn absent_components_are_reset() {
        let mut area = vec![0; Layout::INTEL.size(component::ALL)];
        write_xsave(&sample(), component::X87, &Layout::INTEL, &mut area);
        let mut back = sample();
        read_xsave(&mut back, component::ALL, &Layout::INTEL, &area);
        assert_eq!(back.vec, CpuState::default().vec);
        assert_eq!(back.k, [0; 8]);
        assert_eq!(back.x87, sample().x87);
    }
}

//! The x87, SSE and AVX state in the formats of FXSAVE and XSAVE (Intel SDM vol. 1, 10.5 and 13.4): signal
//! frames, checkpoint images and the instructions of these names all use them.

use xlate_abi::state::{CpuState, X87State};

/// Size of the legacy (FXSAVE) area.
pub const LEGACY_SIZE: usize = 512;
/// State components (XCR0 bits).
pub mod component {
    pub const X87: u64 = 1 << 0;
    pub const SSE: u64 = 1 << 1;
    pub const AVX: u64 = 1 << 2;
    pub const OPMASK: u64 = 1 << 5;
    pub const ZMM_HI256: u64 = 1 << 6;
    pub const HI16_ZMM: u64 = 1 << 7;
    /// What [`super::write_xsave`] and [`super::read_xsave`] know.
    pub const ALL: u64 = X87 | SSE | AVX | OPMASK | ZMM_HI256 | HI16_ZMM;
}

/// Offsets in the standard format beyond the 64-byte header, as Intel's processors report them in CPUID leaf 0xd, and
/// as the guest's CPUID has to. (The architecture leaves them open: AMD's processors have no gap for MPX, so that the
/// AVX-512 components of an image captured there lie elsewhere.)
const HEADER: usize = 512;
const AVX_OFFSET: usize = 576;
const OPMASK_OFFSET: usize = 1088;
const ZMM_HI256_OFFSET: usize = 1152;
const HI16_ZMM_OFFSET: usize = 1664;

/// Mask of the MXCSR bits that may be set.
pub const MXCSR_MASK: u32 = 0xffff;

fn put(area: &mut [u8], at: usize, bytes: &[u8]) {
    area[at..at + bytes.len()].copy_from_slice(bytes);
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

/// Writes the 64-bit FXSAVE format (REX.W form: instruction and data pointers are 64 bits wide). Bytes 416 and
/// on, which the instruction leaves alone, are left alone.
pub fn write_fxsave(state: &CpuState, area: &mut [u8; LEGACY_SIZE]) {
    let x87 = &state.x87;
    put(area, 0, &x87.fcw.to_le_bytes());
    put(area, 2, &x87.fsw.to_le_bytes());
    put(area, 4, &[x87.ftw, 0]);
    put(area, 6, &x87.fop.to_le_bytes());
    put(area, 8, &x87.fip.to_le_bytes());
    put(area, 16, &x87.fdp.to_le_bytes());
    put(area, 24, &state.mxcsr.to_le_bytes());
    put(area, 28, &MXCSR_MASK.to_le_bytes());
    for i in 0..8 {
        let reg = &x87.reg[physical(x87.fsw, i)];
        put(area, 32 + 16 * i, &reg[..10]);
        put(area, 42 + 16 * i, &[0; 6]);
    }
    for (i, reg) in state.vec[..16].iter().enumerate() {
        put(area, 160 + 16 * i, &reg[..16]);
    }
}

/// Takes the state over from the 64-bit FXSAVE format. Reserved MXCSR bits are dropped: callers that must raise
/// #GP for them look first.
pub fn read_fxsave(state: &mut CpuState, area: &[u8; LEGACY_SIZE]) {
    read_x87(state, area);
    read_mxcsr(state, area);
    read_xmm(state, area);
}

fn read_x87(state: &mut CpuState, area: &[u8]) {
    let x87 = &mut state.x87;
    x87.fsw = u16::from_le_bytes(take(area, 2));
    x87.set_control(u16::from_le_bytes(take(area, 0)));
    x87.ftw = area[4];
    x87.fop = u16::from_le_bytes(take(area, 6)) & X87State::OPCODE;
    x87.fip = u64::from_le_bytes(take(area, 8));
    x87.fdp = u64::from_le_bytes(take(area, 16));
    for i in 0..8 {
        let mut reg = [0; 16];
        reg[..10].copy_from_slice(&area[32 + 16 * i..42 + 16 * i]);
        x87.reg[physical(x87.fsw, i)] = reg;
    }
}

fn read_mxcsr(state: &mut CpuState, area: &[u8]) {
    state.mxcsr = u32::from_le_bytes(take(area, 24)) & MXCSR_MASK;
}

fn read_xmm(state: &mut CpuState, area: &[u8]) {
    for (i, reg) in state.vec[..16].iter_mut().enumerate() {
        reg[..16].copy_from_slice(&area[160 + 16 * i..176 + 16 * i]);
    }
}

/// Size of the standard-format XSAVE area that holds `components`.
pub fn xsave_size(components: u64) -> usize {
    use component::*;
    [
        (HI16_ZMM, HI16_ZMM_OFFSET + 1024),
        (ZMM_HI256, ZMM_HI256_OFFSET + 512),
        (OPMASK, OPMASK_OFFSET + 64),
        (AVX, AVX_OFFSET + 256),
    ]
    .into_iter()
    .find(|(bit, _)| components & bit != 0)
    .map_or(AVX_OFFSET, |(_, size)| size)
}

/// Writes the standard XSAVE format of `components` (XSTATE_BV says all of them are in use).
///
/// # Panics
/// If `area` is shorter than [`xsave_size`].
pub fn write_xsave(state: &CpuState, components: u64, area: &mut [u8]) {
    use component::*;
    let mut legacy = [0; LEGACY_SIZE];
    legacy.copy_from_slice(&area[..LEGACY_SIZE]);
    write_fxsave(state, &mut legacy);
    put(area, 0, &legacy);
    put(area, HEADER, &[0; 64]);
    put(area, HEADER, &components.to_le_bytes());
    if components & AVX != 0 {
        for (i, reg) in state.vec[..16].iter().enumerate() {
            put(area, AVX_OFFSET + 16 * i, &reg[16..32]);
        }
    }
    if components & OPMASK != 0 {
        for (i, k) in state.k.iter().enumerate() {
            put(area, OPMASK_OFFSET + 8 * i, &k.to_le_bytes());
        }
    }
    if components & ZMM_HI256 != 0 {
        for (i, reg) in state.vec[..16].iter().enumerate() {
            put(area, ZMM_HI256_OFFSET + 32 * i, &reg[32..]);
        }
    }
    if components & HI16_ZMM != 0 {
        for (i, reg) in state.vec[16..].iter().enumerate() {
            put(area, HI16_ZMM_OFFSET + 64 * i, reg);
        }
    }
}

/// Takes over `components` from the standard XSAVE format; those that XSTATE_BV says are in their initial state
/// are set to it.
///
/// # Panics
/// If `area` is shorter than [`xsave_size`].
pub fn read_xsave(state: &mut CpuState, components: u64, area: &[u8]) {
    use component::*;
    let present = u64::from_le_bytes(take(area, HEADER));
    let init = CpuState::default();
    let wanted = |bit: u64| components & bit != 0;
    let has = |bit: u64| present & bit != 0;
    if wanted(X87) {
        if has(X87) {
            read_x87(state, area);
        } else {
            state.x87 = init.x87;
        }
    }
    if wanted(SSE) {
        if has(SSE) {
            read_xmm(state, area);
        } else {
            clear(&mut state.vec[..16], 0..16);
        }
    }
    // MXCSR belongs to SSE and AVX both and is loaded whatever XSTATE_BV says (SDM vol. 1, 13.8.1).
    if wanted(SSE | AVX) {
        read_mxcsr(state, area);
    }
    if wanted(AVX) {
        clear(&mut state.vec[..16], 16..32);
        if has(AVX) {
            for (i, reg) in state.vec[..16].iter_mut().enumerate() {
                reg[16..32].copy_from_slice(&area[AVX_OFFSET + 16 * i..AVX_OFFSET + 16 * i + 16]);
            }
        }
    }
    if wanted(OPMASK) {
        for (i, k) in state.k.iter_mut().enumerate() {
            *k = if has(OPMASK) { u64::from_le_bytes(take(area, OPMASK_OFFSET + 8 * i)) } else { 0 };
        }
    }
    if wanted(ZMM_HI256) {
        clear(&mut state.vec[..16], 32..64);
        if has(ZMM_HI256) {
            for (i, reg) in state.vec[..16].iter_mut().enumerate() {
                let at = ZMM_HI256_OFFSET + 32 * i;
                reg[32..].copy_from_slice(&area[at..at + 32]);
            }
        }
    }
    if wanted(HI16_ZMM) {
        clear(&mut state.vec[16..], 0..64);
        if has(HI16_ZMM) {
            for (i, reg) in state.vec[16..].iter_mut().enumerate() {
                let at = HI16_ZMM_OFFSET + 64 * i;
                reg.copy_from_slice(&area[at..at + 64]);
            }
        }
    }
}

fn clear(regs: &mut [[u8; 64]], part: core::ops::Range<usize>) {
    for reg in regs {
        reg[part.clone()].fill(0);
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
        let mut area = vec![0; xsave_size(component::ALL)];
        assert_eq!(area.len(), 2688);
        write_xsave(&state, component::ALL, &mut area);
        let mut back = CpuState::default();
        read_xsave(&mut back, component::ALL, &area);
        assert_eq!(back.vec, state.vec);
        assert_eq!(back.k, state.k);
        assert_eq!(back.x87, state.x87);
    }

    #[test]
    fn absent_components_are_reset() {
        let mut area = vec![0; xsave_size(component::ALL)];
        write_xsave(&sample(), component::X87, &mut area);
        let mut back = sample();
        read_xsave(&mut back, component::ALL, &area);
        assert_eq!(back.vec, CpuState::default().vec);
        assert_eq!(back.k, [0; 8]);
        assert_eq!(back.x87, sample().x87);
    }
}

//! Gathers and scatters (SDM vol. 2, VPGATHERDD and VPSCATTERDD): lane by lane, from the lowest on. A lane that is done loses
//! its bit in the mask at once, so that the instruction goes on behind it when it is restarted after a fault. What else is to
//! be seen at a fault is as on Intel's processors: a VEX mask's lanes are all ones or zero, and registers are clear above the
//! width of the instruction, the destination as soon as a lane of it is written.

use core::mem::offset_of;
use core::sync::atomic::{Ordering, compiler_fence};

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, Helper};

use super::memory;
use super::{I, L};
use crate::emitter::{Emitter, Ty};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpgatherdd | Vpgatherdq | Vpgatherqd | Vpgatherqq | Vgatherdps | Vgatherdpd | Vgatherqps | Vgatherqpd => {
            |l, i| transfer(l, i, Helper::Gather)
        }
        Vpscatterdd | Vpscatterdq | Vpscatterqd | Vpscatterqq | Vscatterdps | Vscatterdpd | Vscatterqps
        | Vscatterqpd => |l, i| transfer(l, i, Helper::Scatter),
        _ => return None,
    };
    Some(f)
}

fn transfer<E: Emitter>(l: L<E>, i: I, helper: Helper) {
    let request = l.imm(Ty::I64, Request::of(i).word());
    let offset = l.offset(i);
    let segment = match i.memory_segment() {
        Register::FS => l.e.state_load(Ty::I64, offset_of!(CpuState, fs_base)),
        Register::GS => l.e.state_load(Ty::I64, offset_of!(CpuState, gs_base)),
        _ => l.imm(Ty::I64, 0),
    };
    for n in 0..i.op_count() {
        let r = i.op_register(n);
        if r.is_vector_register() {
            l.e.helper_uses_vector(r.number(), r.size() as u32 * 8, helper == Helper::Gather);
        }
    }
    let index = i.memory_index();
    l.e.helper_uses_vector(index.number(), index.size() as u32 * 8, false);
    l.call_helper(helper, &[request, offset, segment]);
}

/// What is gathered or scattered, and where its parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    /// Vector registers.
    data: u8,
    index: u8,
    /// A mask register, or the vector register whose lanes' signs are the mask.
    mask: u8,
    by_signs: bool,
    lanes: u8,
    /// Sizes of a lane in bytes.
    element: u8,
    index_size: u8,
    scale: u8,
    /// Addresses have 32 bits.
    narrow: bool,
}

const BY_SIGNS: u8 = 1;
const NARROW: u8 = 2;

impl Request {
    fn of(i: &Instruction) -> Self {
        let data = if i.op0_kind() == OpKind::Register { i.op0_register() } else { i.op1_register() };
        let by_signs = i.op_mask() == Register::None;
        let mask = if by_signs { i.op2_register() } else { i.op_mask() };
        let element = i.memory_size().size();
        let index_size = if i.is_vsib64() { 8 } else { 4 };
        let lanes = (data.size() / element).min(i.memory_index().size() / index_size);
        let base = i.memory_base();
        Self {
            data: data.number() as u8,
            index: i.memory_index().number() as u8,
            mask: mask.number() as u8,
            by_signs,
            lanes: lanes as u8,
            element: element as u8,
            index_size: index_size as u8,
            scale: i.memory_index_scale() as u8,
            narrow: base.is_gpr32() || base == Register::None && i.memory_displ_size() == 4,
        }
    }

    /// As the helpers' argument.
    fn word(self) -> u64 {
        let modes = if self.by_signs { BY_SIGNS } else { 0 } | if self.narrow { NARROW } else { 0 };
        let bytes = [self.data, self.index, self.mask, self.lanes, self.element, self.index_size, self.scale, modes];
        u64::from_le_bytes(bytes)
    }

    fn of_word(word: u64) -> Self {
        let [data, index, mask, lanes, element, index_size, scale, modes] = word.to_le_bytes();
        let (by_signs, narrow) = (modes & BY_SIGNS != 0, modes & NARROW != 0);
        Self { data, index, mask, by_signs, lanes, element, index_size, scale, narrow }
    }

    /// Where a lane of so many bytes stands in a vector register.
    fn lane(register: u8, lane: u8, size: u8) -> (usize, core::ops::Range<usize>) {
        let from = usize::from(lane) * usize::from(size);
        (register.into(), from..from + usize::from(size))
    }

    /// Whether the mask names a lane.
    fn names(self, state: &CpuState, lane: u8) -> bool {
        if !self.by_signs {
            return state.k[usize::from(self.mask)] >> lane & 1 == 1;
        }
        let (register, bytes) = Self::lane(self.mask, lane, self.element);
        state.vec[register][bytes.end - 1] >> 7 == 1
    }

    /// Takes a lane out of the mask.
    fn clear(self, state: &mut CpuState, lane: u8) {
        if !self.by_signs {
            state.k[usize::from(self.mask)] &= !(1 << lane);
            return;
        }
        let (register, bytes) = Self::lane(self.mask, lane, self.element);
        state.vec[register][bytes].fill(0);
    }

    /// The instruction's width in bytes.
    fn width(self) -> usize {
        usize::from(self.lanes) * usize::from(self.element.max(self.index_size))
    }

    /// Makes each lane of a mask of signs all ones or zero.
    fn spread_signs(self, state: &mut CpuState) {
        if !self.by_signs {
            return;
        }
        for lane in 0..(self.width() / usize::from(self.element)) as u8 {
            let byte = if self.names(state, lane) { 0xff } else { 0 };
            let (register, bytes) = Self::lane(self.mask, lane, self.element);
            state.vec[register][bytes].fill(byte);
        }
        state.vec[usize::from(self.mask)][self.width()..].fill(0);
    }

    fn address(self, state: &CpuState, lane: u8, offset: u64, segment: u64) -> u64 {
        let (register, bytes) = Self::lane(self.index, lane, self.index_size);
        let mut index = [0; 8];
        index[..bytes.len()].copy_from_slice(&state.vec[register][bytes]);
        let mut index = u64::from_le_bytes(index);
        if self.index_size == 4 {
            index = index as i32 as u64;
        }
        let sum = offset.wrapping_add(index.wrapping_mul(self.scale.into()));
        segment.wrapping_add(if self.narrow { sum & Ty::I32.mask() } else { sum })
    }

    /// Does something with each lane that the mask names, which has what it needs of the lanes before in the state.
    fn each(self, state: &mut CpuState, mut access: impl FnMut(&mut CpuState, u8)) {
        self.spread_signs(state);
        compiler_fence(Ordering::SeqCst);
        for lane in 0..self.lanes {
            if self.names(state, lane) {
                access(state, lane);
                self.clear(state, lane);
                // What is done is in the state if the next access faults.
                compiler_fence(Ordering::SeqCst);
            }
        }
        if self.by_signs {
            state.vec[usize::from(self.mask)].fill(0);
        } else {
            state.k[usize::from(self.mask)] = 0;
        }
    }
}

/// The helper [`xlate_abi::state::Helper::Gather`].
pub extern "C" fn gather(state: &mut CpuState, request: u64, offset: u64, segment: u64) -> u64 {
    let r = Request::of_word(request);
    r.each(state, |state, lane| {
        let addr = r.address(state, lane, offset, segment);
        // SAFETY: an access of the guest's, whose faults are handled.
        let v = unsafe { memory::load(addr, r.element.into()) };
        let (register, bytes) = Request::lane(r.data, lane, r.element);
        let from = v.to_le_bytes();
        state.vec[register][bytes.clone()].copy_from_slice(&from[..bytes.len()]);
        state.vec[register][r.width()..].fill(0);
    });
    let end = usize::from(r.lanes) * usize::from(r.element);
    state.vec[usize::from(r.data)][end..].fill(0);
    0
}

/// The helper [`xlate_abi::state::Helper::Scatter`].
pub extern "C" fn scatter(state: &mut CpuState, request: u64, offset: u64, segment: u64) -> u64 {
    let r = Request::of_word(request);
    r.each(state, |state, lane| {
        let addr = r.address(state, lane, offset, segment);
        let (register, bytes) = Request::lane(r.data, lane, r.element);
        let mut v = [0; 8];
        v[..bytes.len()].copy_from_slice(&state.vec[register][bytes]);
        // SAFETY: as above.
        unsafe { memory::store(addr, r.element.into(), u64::from_le_bytes(v)) };
    });
    0
}

/// The lane that a gather or scatter does next.
pub fn next_lane(i: &Instruction, state: &CpuState) -> Option<u8> {
    let r = Request::of(i);
    (0..r.lanes).find(|lane| r.names(state, *lane))
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn request(bytes: &[u8]) -> Request {
        let r = Request::of(&Decoder::new(64, bytes, DecoderOptions::NONE).decode());
        assert_eq!(Request::of_word(r.word()), r);
        r
    }

    #[test]
    fn requests_say_what_instructions_do() {
        // vpgatherqd xmm1, [rax+ymm2*4], xmm3
        let r = request(&[0xc4, 0xe2, 0x65, 0x91, 0x0c, 0x90]);
        assert_eq!((r.data, r.index, r.mask, r.by_signs), (1, 2, 3, true));
        assert_eq!((r.lanes, r.element, r.index_size, r.scale, r.narrow), (4, 4, 8, 4, false));
        // vscatterdpd [eax+ymm2*8] {k1}, zmm1
        let r = request(&[0x67, 0x62, 0xf2, 0xfd, 0x49, 0xa2, 0x0c, 0xd0]);
        assert_eq!((r.data, r.index, r.mask, r.by_signs), (1, 2, 1, false));
        assert_eq!((r.lanes, r.element, r.index_size, r.scale, r.narrow), (8, 8, 4, 8, true));
    }

    #[test]
    fn lanes_are_done_from_the_lowest_on() {
        let memory = [1u32, 2, 3, 4];
        let mut state = CpuState::default();
        for (lane, index) in [3u32, 2, 1, 0].into_iter().enumerate() {
            state.vec[2][4 * lane..][..4].copy_from_slice(&index.to_le_bytes());
        }
        (state.vec[1], state.k[1]) = ([0xff; 64], 0b1101);
        // vpgatherdd xmm1 {k1}, [rax+xmm2*4]
        let i = Decoder::new(64, &[0x62, 0xf2, 0x7d, 0x09, 0x90, 0x0c, 0x90], DecoderOptions::NONE).decode();
        assert_eq!(next_lane(&i, &state), Some(0));
        gather(&mut state, Request::of(&i).word(), memory.as_ptr() as u64, 0);
        let words: Vec<u32> = state.vec[1].as_chunks().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
        assert_eq!(words[..5], [4, u32::MAX, 2, 1, 0]);
        assert_eq!(state.k[1], 0);
    }
}

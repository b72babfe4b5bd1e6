//! SSE4A, which Intel's processors lack, by the words of the AMD APM (vol. 4, EXTRQ, INSERTQ, MOVNTSD, MOVNTSS).

use iced_x86::code_asm::*;
use xlate_abi::state::{CpuState, RDI};
use xlate_x86::decode::SliceSource;
use xlate_x86::decode_block;
use xlate_x86::interpreter::run_block;

const PC: u64 = 0x1000;
const LOW: u64 = 0xfedc_ba98_7654_3210;
const OTHER: u64 = 0x0123_4567_89ab_cdef;

fn quadword(state: &CpuState, register: usize, n: usize) -> u64 {
    u64::from_le_bytes(state.vec[register][8 * n..][..8].try_into().expect("8"))
}

/// The state after an instruction that has LOW in xmm1's low quadword, and OTHER and a field's length and place in xmm2.
fn run(
    field: (u8, u8),
    memory: &mut [u8; 8],
    code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Box<CpuState> {
    let mut a = CodeAssembler::new(64).expect("64-bit");
    code(&mut a).expect("encodes");
    let bytes = a.assemble(PC).expect("encodes");
    let block = decode_block(&SliceSource { address: PC, bytes: &bytes }, PC, 64, false);
    let mut state = Box::new(CpuState { rip: PC, ..CpuState::default() });
    state.gpr[RDI] = memory.as_mut_ptr() as u64;
    state.vec[1][..8].copy_from_slice(&LOW.to_le_bytes());
    state.vec[2][..8].copy_from_slice(&OTHER.to_le_bytes());
    state.vec[2][8..10].copy_from_slice(&[field.0, field.1]);
    state.vec[3][..2].copy_from_slice(&[field.0, field.1]);
    // SAFETY: the block accesses the eight bytes alone, and calls no helper.
    unsafe { run_block(&mut state, &block) };
    state
}

#[test]
fn fields_are_extracted() {
    let cases = [(8, 4, 0x21), (64, 0, LOW), (0, 0, LOW), (1, 63, 1), (16, 48, 0xfedc), (32, 20, 0xcba9_8765)];
    for (length, place, expected) in cases {
        let (l, p) = (u32::from(length), u32::from(place));
        let s = run((0, 0), &mut [0; 8], |a| a.extrq_3(xmm1, l, p));
        assert_eq!(quadword(&s, 1, 0), expected, "{length} bits at {place}");
        // Bits above the six of each number mean nothing.
        let s = run((length | 0x40, place | 0x80), &mut [0; 8], |a| a.extrq(xmm1, xmm3));
        assert_eq!(quadword(&s, 1, 0), expected, "{length} bits at {place}");
    }
}

#[test]
fn fields_are_inserted() {
    for (length, place, expected) in [
        (8, 4, 0xfedc_ba98_7654_3ef0),
        (0, 0, OTHER),
        (16, 48, 0xcdef_ba98_7654_3210),
        (1, 63, 0xfedc_ba98_7654_3210),
        (4, 0, 0xfedc_ba98_7654_321f),
    ] {
        let (l, p) = (u32::from(length), u32::from(place));
        let s = run((0, 0), &mut [0; 8], |a| a.insertq_4(xmm1, xmm2, l, p));
        assert_eq!(quadword(&s, 1, 0), expected, "{length} bits at {place}");
        let s = run((length, place), &mut [0; 8], |a| a.insertq(xmm1, xmm2));
        assert_eq!(quadword(&s, 1, 0), expected, "{length} bits at {place}");
    }
}

#[test]
fn scalars_are_stored() {
    let mut memory = [0xee; 8];
    run((0, 0), &mut memory, |a| a.movntss(dword_ptr(rdi), xmm1));
    assert_eq!(memory, [0x10, 0x32, 0x54, 0x76, 0xee, 0xee, 0xee, 0xee]);
    run((0, 0), &mut memory, |a| a.movntsd(qword_ptr(rdi), xmm1));
    assert_eq!(memory, LOW.to_le_bytes());
}

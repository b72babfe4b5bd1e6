//! Integer instructions of processors newer than those at hand, by the manual (Intel SDM vol. 2, VPDPB[SU,UU,SS]D[,S],
//! VPDPW[SU,US,UU]D[,S] and VP2INTERSECTD).

use xlate_abi::state::CpuState;
use xlate_x86::decode::SliceSource;
use xlate_x86::decode_block;
use xlate_x86::interpreter::run_block;

/// Runs one instruction.
fn run(bytes: &[u8], state: &mut CpuState) {
    let source = SliceSource { address: 0x1000, bytes };
    let block = decode_block(&source, 0x1000, 1, false);
    state.rip = 0x1000;
    // SAFETY: the instructions here access no memory and call no helper.
    unsafe { run_block(state, &block) };
    assert_eq!(state.rip, 0x1000 + bytes.len() as u64, "{bytes:x?}");
}

fn set(state: &mut CpuState, reg: usize, doublewords: [u32; 4]) {
    for (bytes, x) in state.vec[reg].chunks_mut(4).zip(doublewords) {
        bytes.copy_from_slice(&x.to_le_bytes());
    }
}

/// The low doubleword of xmm2 after an instruction on it, xmm3 and xmm4. By what VEX's prefix bits and the opcode are.
fn dot(prefix: u8, opcode: u8, [to, a, b]: [u32; 3]) -> u32 {
    let mut state = CpuState::default();
    for (reg, x) in [(2, to), (3, a), (4, b)] {
        set(&mut state, reg, [x; 4]);
    }
    state.vec[2][16..].fill(0xff);
    run(&[0xc4, 0xe2, 0x60 | prefix, opcode, 0xd4], &mut state);
    let (low, high) = state.vec[2].split_at(16);
    assert!(low.chunks(4).all(|x| x == &low[..4]) && high.iter().all(|x| *x == 0), "{:x?}", state.vec[2]);
    u32::from_le_bytes(low[..4].try_into().expect("four bytes"))
}

const NONE: u8 = 0;
const P66: u8 = 1;
const F3: u8 = 2;
const F2: u8 = 3;

#[test]
fn dot_products_of_bytes() {
    // -1 or 255, and 2, times -2 or 254, and 3.
    let operands = [10, 0x02ff, 0x03fe];
    let sums = [(F2, 10 + 2 + 6), (F3, 10 - 254 + 6), (P66, 10 - 510 + 6), (NONE, 10 + 255 * 254 + 6)];
    for (prefix, sum) in sums {
        assert_eq!(dot(prefix, 0x50, operands) as i32, sum, "{prefix}");
        assert_eq!(dot(prefix, 0x51, operands) as i32, sum, "{prefix}, saturated");
    }
    let (most, least) = (i32::MAX as u32, i32::MIN as u32);
    assert_eq!(dot(F2, 0x50, [most, 0xff, 0xff]), least, "wrapped");
    assert_eq!(dot(F2, 0x51, [most, 0xff, 0xff]), most);
    assert_eq!(dot(F3, 0x51, [least, 0xff, 0xff]), least);
    assert_eq!(dot(NONE, 0x50, [u32::MAX, 1, 1]), 0, "wrapped");
    assert_eq!(dot(NONE, 0x51, [u32::MAX, 1, 1]), u32::MAX);
}

#[test]
fn dot_products_of_words() {
    // -1 or 65535, and 2, times -2 or 65534, and 3.
    let operands = [10, 0x0002_ffff, 0x0003_fffe];
    let sums = [(F3, 16 - 0xfffe), (P66, 16 - 2 * 0xffff)];
    for (prefix, sum) in sums {
        assert_eq!(dot(prefix, 0xd2, operands) as i32, sum, "{prefix}");
        assert_eq!(dot(prefix, 0xd3, operands) as i32, sum, "{prefix}, saturated");
    }
    assert_eq!(dot(NONE, 0xd2, operands), 16 + 0xffff * 0xfffe);
    assert_eq!(dot(NONE, 0xd3, [0, u32::MAX, u32::MAX]), u32::MAX);
    assert_eq!(dot(F3, 0xd3, [i32::MIN as u32, 0xffff, 1]), i32::MIN as u32);
    assert_eq!(dot(P66, 0xd3, [i32::MAX as u32, 0xffff, 1]), i32::MAX as u32);
}

/// VP2INTERSECTD k2, xmm3, xmm4; the same by k3's number; VP2INTERSECTQ.
#[test]
fn intersections_go_to_a_pair_of_masks() {
    for (bytes, masks) in [
        ([0x62, 0xf2, 0x67, 0x08, 0x68, 0xd4], [0b0111, 0b1010]),
        ([0x62, 0xf2, 0x67, 0x08, 0x68, 0xdc], [0b0111, 0b1010]),
        ([0x62, 0xf2, 0xe7, 0x08, 0x68, 0xd4], [0b00, 0b00]),
    ] {
        let mut state = CpuState { k: [u64::MAX; 8], ..CpuState::default() };
        set(&mut state, 3, [7, 1, 7, 9]);
        set(&mut state, 4, [5, 7, 8, 1]);
        run(&bytes, &mut state);
        let [first, second] = masks;
        let rest = u64::MAX;
        assert_eq!(state.k, [rest, rest, first, second, rest, rest, rest, rest], "{bytes:x?}");
    }
}

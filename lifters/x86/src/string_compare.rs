//! The string comparisons of SSE4.2, as a helper of the runtime (SDM vol. 2, 4.1, "Imm8 control byte").

use xlate_abi::state::CpuState;

/// Set in the control word beside the immediate's bits: the lengths are given.
pub const EXPLICIT: u64 = 1 << 8;

/// Bits of the helper's answer; the index is above [`INDEX_SHIFT`].
pub const CF: u32 = 0;
pub const ZF: u32 = 1;
pub const SF: u32 = 2;
pub const OF: u32 = 3;
pub const INDEX_SHIFT: u64 = 8;

/// [`xlate_abi::state::Helper::StringCompare`]: operands in `scratch[0]` and `[1]`, the mask goes to `[2]`.
pub extern "C" fn string_compare(state: &mut CpuState, control: u64, first: u64, second: u64) -> u64 {
    let operand = |n: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&state.scratch[n][..16]);
        bytes
    };
    let (a, b) = (operand(0), operand(1));
    let format = Format { control: control as u8 };
    let lengths = if control & EXPLICIT != 0 {
        [format.given_length(first as i64), format.given_length(second as i64)]
    } else {
        [format.found_length(&a), format.found_length(&b)]
    };
    let bits = format.compare(&a, &b, lengths);
    state.scratch[2][..16].copy_from_slice(&format.mask(bits));
    let n = format.elements();
    let flag = |bit: u32, on: bool| u64::from(on) << bit;
    flag(CF, bits != 0)
        | flag(ZF, lengths[1] < n)
        | flag(SF, lengths[0] < n)
        | flag(OF, bits & 1 != 0)
        | format.index(bits) << INDEX_SHIFT
}

/// The control byte's fields.
#[derive(Clone, Copy)]
struct Format {
    control: u8,
}

impl Format {
    fn words(self) -> bool {
        self.control & 1 != 0
    }

    fn elements(self) -> usize {
        if self.words() { 8 } else { 16 }
    }

    fn signed(self) -> bool {
        self.control & 2 != 0
    }

    fn element(self, v: &[u8; 16], n: usize) -> i32 {
        match (self.words(), self.signed()) {
            (false, false) => v[n].into(),
            (false, true) => (v[n] as i8).into(),
            (true, false) => u16::from_le_bytes([v[2 * n], v[2 * n + 1]]).into(),
            (true, true) => i16::from_le_bytes([v[2 * n], v[2 * n + 1]]).into(),
        }
    }

    /// The magnitude of a given length, at most the number of elements.
    fn given_length(self, length: i64) -> usize {
        length.unsigned_abs().min(self.elements() as u64) as usize
    }

    /// Elements before the first zero.
    fn found_length(self, v: &[u8; 16]) -> usize {
        (0..self.elements()).find(|n| self.element(v, *n) == 0).unwrap_or(self.elements())
    }

    /// IntRes2: a bit an element of the second operand.
    fn compare(self, a: &[u8; 16], b: &[u8; 16], [a_len, b_len]: [usize; 2]) -> u32 {
        let n = self.elements();
        let (x, y) = (|k| self.element(a, k), |k| self.element(b, k));
        let found = |j: usize| match self.control >> 2 & 3 {
            // Equal any.
            0 => j < b_len && (0..a_len).any(|k| x(k) == y(j)),
            // Ranges: pairs of bounds. A range whose upper bound is missing holds nothing.
            1 => j < b_len && (0..a_len / 2).any(|k| x(2 * k) <= y(j) && y(j) <= x(2 * k + 1)),
            // Equal each: behind both ends counts as equal.
            2 if j >= a_len || j >= b_len => j >= a_len && j >= b_len,
            2 => x(j) == y(j),
            // Equal ordered: the first operand as a substring from here on, cut off at the second one's 16 bytes.
            _ => (0..a_len.min(n - j)).all(|k| j + k < b_len && x(k) == y(j + k)),
        };
        let raw = (0..n).filter(|j| found(*j)).fold(0, |bits, j| bits | 1 << j);
        let all = (1u32 << n) - 1;
        match self.control >> 4 & 3 {
            1 => raw ^ all,
            // Masked: only valid elements are inverted.
            3 => raw ^ ((1u32 << b_len) - 1),
            _ => raw,
        }
    }

    /// The lowest or highest set bit, or the number of elements.
    fn index(self, bits: u32) -> u64 {
        u64::from(match (bits, self.control & 0x40 != 0) {
            (0, _) => self.elements() as u32,
            (_, true) => bits.ilog2(),
            (_, false) => bits.trailing_zeros(),
        })
    }

    /// The bits themselves, or a mask of elements.
    fn mask(self, bits: u32) -> [u8; 16] {
        if self.control & 0x40 == 0 {
            return u128::from(bits).to_le_bytes();
        }
        let width = 16 / self.elements();
        core::array::from_fn(|n| if bits >> (n / width) & 1 == 1 { 0xff } else { 0 })
    }
}

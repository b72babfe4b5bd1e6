//! The comparisons inside SSE4.2's string instructions, as a helper of the runtime (SDM vol. 2, 4.1, "Imm8 control
//! byte"): IntRes1 of two operands. Lengths, polarity and flags are for [`crate::sse`] to compute in line.

use xlate_abi::state::CpuState;

/// Where the control word has each operand's valid elements, as a mask; below is the immediate.
pub const FIRST_VALID: u32 = 16;
pub const SECOND_VALID: u32 = 32;

/// [`xlate_abi::state::Helper::StringCompare`]: the operands in halves of 64 bits.
pub extern "C" fn string_compare(_: &mut CpuState, control: u64, a0: u64, a1: u64, b0: u64, b1: u64) -> u64 {
    let bytes = |low: u64, high: u64| (u128::from(low) | u128::from(high) << 64).to_le_bytes();
    let lengths = [FIRST_VALID, SECOND_VALID].map(|shift| ((control >> shift) as u16).trailing_ones() as usize);
    let format = Format { control: control as u8 };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the CPU has just been asked for it.
        return u64::from(unsafe { native::compare(format, bytes(a0, a1), bytes(b0, b1), lengths) });
    }
    u64::from(format.compare(&bytes(a0, a1), &bytes(b0, b1), lengths))
}

/// The control byte's fields.
#[derive(Clone, Copy)]
pub struct Format {
    pub control: u8,
}

impl Format {
    pub fn words(self) -> bool {
        self.control & 1 != 0
    }

    pub fn elements(self) -> u32 {
        if self.words() { 8 } else { 16 }
    }

    /// The aggregation "equal each".
    pub fn equal_each(self) -> bool {
        self.control & 0xc == 8
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

    /// IntRes1: a bit an element of the second operand.
    fn compare(self, a: &[u8; 16], b: &[u8; 16], [a_len, b_len]: [usize; 2]) -> u32 {
        if self.control & 0xd == 0 {
            return any_byte(&a[..a_len], &b[..b_len]);
        }
        let n = self.elements() as usize;
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
        (0..n).filter(|j| found(*j)).fold(0, |bits, j| bits | 1 << j)
    }
}

/// "Equal any" of bytes: the first operand as a set of 256 bits.
fn any_byte(set: &[u8], text: &[u8]) -> u32 {
    let mut members = [0u64; 4];
    for byte in set {
        members[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    let hit = |byte: &u8| (members[usize::from(byte >> 6)] >> (byte & 63) & 1) as u32;
    text.iter().enumerate().fold(0, |bits, (n, byte)| bits | hit(byte) << n)
}

#[cfg(target_arch = "x86_64")]
mod native {
    //! The host's own instruction, one function a format and aggregation: they are in its immediate.

    use core::arch::x86_64::{__m128i, _mm_cmpestrm, _mm_cvtsi128_si32};

    use super::Format;

    type Compare = unsafe fn(__m128i, i32, __m128i, i32) -> u32;

    #[target_feature(enable = "sse4.2")]
    fn one<const CONTROL: i32>(a: __m128i, a_len: i32, b: __m128i, b_len: i32) -> u32 {
        _mm_cvtsi128_si32(_mm_cmpestrm::<CONTROL>(a, a_len, b, b_len)) as u32
    }

    const ALL: [Compare; 16] = [
        one::<0>, one::<1>, one::<2>, one::<3>, one::<4>, one::<5>, one::<6>, one::<7>, one::<8>, one::<9>, one::<10>,
        one::<11>, one::<12>, one::<13>, one::<14>, one::<15>,
    ];

    #[target_feature(enable = "sse4.2")]
    pub fn compare(format: Format, a: [u8; 16], b: [u8; 16], lengths: [usize; 2]) -> u32 {
        // SAFETY: vectors are their bytes.
        let [a, b] = [a, b].map(|v| unsafe { core::mem::transmute::<[u8; 16], __m128i>(v) });
        let [a_len, b_len] = lengths.map(|n| n as i32);
        // SAFETY: this function demands the feature, too.
        unsafe { ALL[usize::from(format.control & 15)](a, a_len, b, b_len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_byte_of_a_set() {
        assert_eq!(any_byte(b"xz\xff", b"axbz\xff\x3f"), 0b01_1010);
        assert_eq!(any_byte(b"", b"abc"), 0);
    }

    /// Few values, so that elements are often equal.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn portable_comparisons_are_the_hosts() {
        if !std::arch::is_x86_feature_detected!("sse4.2") {
            return;
        }
        let mut seed = 7u64;
        let mut bytes = || {
            core::array::from_fn(|_| {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                [0, 1, 2, 0x80, 0xff][(seed >> 40) as usize % 5]
            })
        };
        for round in 0..20_000usize {
            let (a, b) = (bytes(), bytes());
            let format = Format { control: (round & 15) as u8 };
            let n = format.elements() as usize + 1;
            let lengths = [(round >> 4) % n, (round >> 8) % n];
            // SAFETY: the CPU has the feature.
            let host = unsafe { native::compare(format, a, b, lengths) };
            assert_eq!(format.compare(&a, &b, lengths), host, "{:#x} {a:x?} {b:x?} {lengths:?}", format.control);
        }
    }
}

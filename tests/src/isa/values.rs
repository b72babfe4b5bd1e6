//! Deterministic random numbers, and the operand values that tend to find mistakes.

use super::case::Vector;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable by anything, good enough for test data.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for each combination of these numbers.
    pub fn new(parts: &[u64]) -> Self {
        let mut rng = Self(0x243f_6a88_85a3_08d3);
        for part in parts {
            rng.0 ^= *part;
            rng.0 = rng.next_u64();
        }
        rng
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// An integer with a liking for the edges of all widths.
pub fn integer(rng: &mut Rng) -> u64 {
    let v = match rng.below(12) {
        0..=3 => rng.next_u64(),
        4 => rng.next_u64() & 0xffff_ffff,
        5 => rng.below(70),
        6 => 0u64.wrapping_sub(rng.below(70)),
        7 | 8 => (1u64 << rng.below(64)).wrapping_add(rng.below(3)).wrapping_sub(1),
        9 => !(1u64 << rng.below(64)),
        10 => u64::MAX >> rng.below(64),
        _ => rng.pick(&[
            0,
            1,
            u64::MAX,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 63,
            (1 << 63) - 1,
            0x0101_0101_0101_0101,
            0x8080_8080_8080_8080,
        ]),
    };
    // Sign extensions of narrow values, and equal narrow parts with different upper parts.
    match rng.below(16) {
        0 => v as u8 as i8 as u64,
        1 => v as u16 as i16 as u64,
        2 => v as u32 as i32 as u64,
        3 => v.rotate_right(32),
        _ => v,
    }
}

/// The bits of a single-precision number, special ones often.
pub fn single(rng: &mut Rng) -> u32 {
    const SPECIAL: &[u32] = &[
        0,
        0x8000_0000,
        1,
        0x8000_0001,
        0x007f_ffff,
        0x807f_ffff,
        0x0080_0000,
        0x8080_0000,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0xffc0_0000,
        0x7f80_0001,
        0xff80_0001,
        0x7fc1_2345,
        0xffe5_4321,
        0x7fa1_2345,
        0xff9a_bcde,
        0x3f80_0000,
        0xbf80_0000,
        0x4f00_0000,
        0xcf00_0000,
        0x4eff_ffff,
        0xcf00_0001,
        0x5f00_0000,
        0xdf00_0000,
        0x5eff_ffff,
        0x4b00_0000,
        0x4aff_ffff,
        0x3f00_0000,
        0xbf00_0000,
        0x3fc0_0000,
        0x4020_0000,
    ];
    match rng.below(10) {
        0..=3 => rng.pick(SPECIAL),
        4..=6 => rng.next_u64() as u32,
        7 => (integer(rng) as i32 as f32).to_bits(),
        // Near a half, where rounding to an integer decides.
        8 => ((rng.below(64) as f32 - 32.0) + rng.pick(&[0.5f32, -0.5, 0.25, 0.75])).to_bits(),
        _ => (1.0f32 + rng.below(1 << 20) as f32 / (1u32 << 20) as f32).to_bits(),
    }
}

/// The bits of a double-precision number, special ones often.
pub fn double(rng: &mut Rng) -> u64 {
    const SPECIAL: &[u64] = &[
        0,
        1 << 63,
        1,
        (1 << 63) | 1,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x8010_0000_0000_0000,
        0x7fef_ffff_ffff_ffff,
        0xffef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0xfff0_0000_0000_0001,
        0x7ff8_1234_5678_9abc,
        0xfffc_cba9_8765_4321,
        0x7ff4_1234_5678_9abc,
        0xfff3_cba9_8765_4321,
        0x3ff0_0000_0000_0000,
        0xbff0_0000_0000_0000,
        0x41df_ffff_ffc0_0000,
        0x41e0_0000_0000_0000,
        0xc1e0_0000_0000_0000,
        0xc1e0_0000_0020_0000,
        0xc1df_ffff_ffff_ffff,
        0x41df_ffff_ffff_ffff,
        0x43e0_0000_0000_0000,
        0xc3e0_0000_0000_0000,
        0x43df_ffff_ffff_ffff,
        0x3fe0_0000_0000_0000,
        0xbfe0_0000_0000_0000,
        0x3ff8_0000_0000_0000,
        0x4004_0000_0000_0000,
        0x4330_0000_0000_0000,
        0x47ef_ffff_e000_0000,
        0x47ef_ffff_f000_0000,
        0x36a0_0000_0000_0000,
        0x3690_0000_0000_0000,
    ];
    match rng.below(10) {
        0..=3 => rng.pick(SPECIAL),
        4..=5 => rng.next_u64(),
        6 => (integer(rng) as i64 as f64).to_bits(),
        // A value in the range of single precision, so that narrowing has something to round.
        7 => (f64::from(f32::from_bits(single(rng))).to_bits()) ^ (rng.next_u64() & 0x3fff_ffff),
        8 => ((rng.below(64) as f64 - 32.0) + rng.pick(&[0.5f64, -0.5, 0.25, 0.75])).to_bits(),
        _ => (1.0f64 + rng.next_u64() as f64 / u64::MAX as f64).to_bits(),
    }
}

/// The bits of a half-precision number, special ones often.
pub fn half(rng: &mut Rng) -> u16 {
    const SPECIAL: &[u16] = &[
        0, 1, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0x7e00, 0x7c01, 0x7e12, 0x7d34, 0x3c00, 0x3800, 0x3e00, 0x6400, 0x77ff,
        0x7800, 0x3bff, 0x3c01,
    ];
    let sign = rng.next_u64() as u16 & 0x8000;
    match rng.below(10) {
        0..=3 => rng.pick(SPECIAL) | sign,
        4..=6 => rng.next_u64() as u16,
        // Near one, and near a half of an integer.
        7 => 0x3c00 | rng.below(1 << 10) as u16 | sign,
        8 => (0x4800 + ((rng.below(64) as u16) << 5)) | sign,
        _ => rng.below(0x0800) as u16 | sign,
    }
}

/// What the lanes of a vector are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    Half,
    Single,
    Double,
    Byte,
    Word,
    Dword,
    Qword,
    Bits,
}

impl Lanes {
    pub fn any(rng: &mut Rng) -> Self {
        rng.pick(&[
            Lanes::Half,
            Lanes::Single,
            Lanes::Single,
            Lanes::Double,
            Lanes::Double,
            Lanes::Byte,
            Lanes::Word,
            Lanes::Dword,
            Lanes::Qword,
            Lanes::Bits,
        ])
    }
}

/// Sixteen bytes of such lanes.
pub fn vector(rng: &mut Rng, lanes: Lanes) -> u128 {
    let fill = |width: u32, rng: &mut Rng, lane: &dyn Fn(&mut Rng) -> u64| {
        let mask = u64::MAX >> (64 - width);
        (0..128 / width).fold(0u128, |v, i| v | u128::from(lane(rng) & mask) << (i * width))
    };
    match lanes {
        Lanes::Half => fill(16, rng, &|r| u64::from(half(r))),
        Lanes::Single => fill(32, rng, &|r| u64::from(single(r))),
        Lanes::Double => fill(64, rng, &double),
        Lanes::Byte => fill(8, rng, &integer),
        Lanes::Word => fill(16, rng, &integer),
        Lanes::Dword => fill(32, rng, &integer),
        Lanes::Qword => fill(64, rng, &integer),
        Lanes::Bits => match rng.below(4) {
            0 => 0,
            1 => u128::MAX,
            _ => u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()),
        },
    }
}

/// A vector register of such lanes; now and then with few different ones.
pub fn register(rng: &mut Rng, lanes: Lanes) -> Vector {
    let mut parts = [0; 4].map(|_: u128| vector(rng, lanes));
    if rng.chance(8) {
        parts = [parts[0]; 4];
    } else if rng.chance(4) {
        let mask = rng.pick(&[0x0303_0303_0303_0303_u64, 0x3_0000_0003, 3, 0x3_0003_0003_0003]);
        parts =
            parts.map(|_| 0).map(|_: u128| u128::from(rng.next_u64() & mask) << 64 | u128::from(rng.next_u64() & mask));
    }
    std::array::from_fn(|word| (parts[word / 2] >> (word % 2 * 64)) as u64)
}

/// An opmask: none, all, a few, most, one lane, the lowest ones, or any.
pub fn mask(rng: &mut Rng) -> u64 {
    let any = rng.next_u64();
    match rng.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => any & rng.next_u64() & rng.next_u64(),
        3 => any | rng.next_u64() | rng.next_u64(),
        4 => 1 << rng.below(64),
        5 => !(1 << rng.below(16)),
        6 => u64::MAX >> rng.below(64),
        // Upper bits that a narrow operation must ignore.
        7 => u64::MAX << rng.pick(&[2, 4, 8, 16, 32]),
        _ => any,
    }
}

/// The `n`-th lane of a register.
pub fn lane(v: &Vector, bits: usize, n: usize) -> u64 {
    let at = n * bits;
    v[at / 64] >> (at % 64) & (u64::MAX >> (64 - bits))
}

/// Sets the `n`-th lane of a register.
pub fn set_lane(v: &mut Vector, bits: usize, n: usize, value: u64) {
    let (word, shift) = (n * bits / 64, n * bits % 64);
    let mask = (u64::MAX >> (64 - bits)) << shift;
    v[word] = v[word] & !mask | value << shift & mask;
}

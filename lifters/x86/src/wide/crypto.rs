//! Ciphers (FIPS 197), hashes (FIPS 180-4), carry-less products and Galois fields. The operations are the instructions' of
//! the Intel SDM vol. 2; a word of a hash is a lane of 32 bits, the first one the highest.

use super::{Operands, operations};
use crate::emitter::{Lane, VTy};
use crate::interpreter::V;

operations! {
    /// An operation of a cipher or hash.
    Op {
        /// AESENC: a round of encryption of the first operand, each 128 bits by themselves, with the second as the key.
        AesEncrypt,
        AesEncryptLast,
        /// AESDEC, the same of decryption.
        AesDecrypt,
        AesDecryptLast,
        /// AESIMC.
        AesInverseMixColumns,
        /// AESKEYGENASSIST; the immediate is the round's constant.
        AesKeyAssist,
        /// PCLMULQDQ: bit 0 of the immediate names the half of the first operand, bit 4 that of the second.
        CarrylessMultiply,
        Sha1NextE,
        Sha1Schedule1,
        Sha1Schedule2,
        /// SHA1RNDS4; the immediate names the rounds' function and constant.
        Sha1Rounds,
        Sha256Schedule1,
        Sha256Schedule2,
        /// SHA256RNDS2; the third operand is XMM0.
        Sha256Rounds,
        /// GF2P8MULB.
        GaloisMultiply,
        /// GF2P8AFFINEQB: the second operand has the matrices, the immediate is the vector that is added.
        GaloisAffine,
        /// GF2P8AFFINEINVQB: the same of the inverse.
        GaloisAffineInverse,
    }
}

impl Op {
    pub fn perform(self, o: &Operands<'_>) -> V {
        let (ty, [a, b, c, _]) = (o.ty, o.v);
        match self {
            Self::AesEncrypt => {
                blocks(ty, |n| xor(mix(&substitute(&shift_rows(&block(a, n), 1), &SBOX), &MIX), block(b, n)))
            }
            Self::AesEncryptLast => blocks(ty, |n| xor(substitute(&shift_rows(&block(a, n), 1), &SBOX), block(b, n))),
            Self::AesDecrypt => blocks(ty, |n| {
                xor(mix(&substitute(&shift_rows(&block(a, n), 3), &INVERSE_SBOX), &INVERSE_MIX), block(b, n))
            }),
            Self::AesDecryptLast => {
                blocks(ty, |n| xor(substitute(&shift_rows(&block(a, n), 3), &INVERSE_SBOX), block(b, n)))
            }
            Self::AesInverseMixColumns => blocks(ty, |n| mix(&block(a, n), &INVERSE_MIX)),
            Self::AesKeyAssist => blocks(ty, |n| key_assist(&block(a, n), o.immediate)),
            Self::CarrylessMultiply => blocks(ty, |n| carryless_multiply(&block(a, n), &block(b, n), o.immediate)),
            Self::Sha1NextE => of_words(sha1_next_e(words(a), words(b))),
            Self::Sha1Schedule1 => of_words(sha1_schedule1(words(a), words(b))),
            Self::Sha1Schedule2 => of_words(sha1_schedule2(words(a), words(b))),
            Self::Sha1Rounds => of_words(sha1_rounds(words(a), words(b), o.immediate & 3)),
            Self::Sha256Schedule1 => of_words(sha256_schedule1(words(a), words(b))),
            Self::Sha256Schedule2 => of_words(sha256_schedule2(words(a), words(b))),
            Self::Sha256Rounds => of_words(sha256_rounds(words(a), words(b), words(c))),
            Self::GaloisMultiply => bytes(ty, |n| multiply(a.0[n], b.0[n])),
            Self::GaloisAffine => bytes(ty, |n| affine(&b.0[n & !7..][..8], a.0[n], o.immediate)),
            Self::GaloisAffineInverse => {
                bytes(ty, |n| affine(&b.0[n & !7..][..8], INVERSE[usize::from(a.0[n])], o.immediate))
            }
        }
    }
}

type Block = [u8; 16];

fn block(v: &V, n: usize) -> Block {
    v.0.as_chunks().0[n]
}

/// A vector by 128 bits.
fn blocks(ty: VTy, f: impl Fn(usize) -> Block) -> V {
    let mut v = V::ZERO;
    for (n, to) in v.0[..ty.bits as usize / 8].as_chunks_mut().0.iter_mut().enumerate() {
        *to = f(n);
    }
    v
}

/// A vector by bytes.
fn bytes(ty: VTy, f: impl Fn(usize) -> u8) -> V {
    let mut v = V::ZERO;
    v.0[..ty.bits as usize / 8].iter_mut().enumerate().for_each(|(n, to)| *to = f(n));
    v
}

// ---- the field of 256 elements -------------------------------------------------------------------------

/// The product modulo x^8 + x^4 + x^3 + x + 1.
const fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 == 0 { 0 } else { 0x1b };
        b >>= 1;
    }
    product
}

/// The inverse of each element; of zero, zero.
static INVERSE: [u8; 256] = inverses();

const fn inverses() -> [u8; 256] {
    let mut table = [0; 256];
    let (mut power, mut opposite) = (1u8, 1u8);
    // Three generates all elements but zero, and so does its inverse.
    loop {
        table[power as usize] = opposite;
        power = multiply(power, 3);
        opposite = multiply(opposite, 0xf6);
        if power == 1 {
            return table;
        }
    }
}

/// The product with a matrix of bits, whose last byte makes bit 0, and a sum.
fn affine(matrix: &[u8], x: u8, sum: u8) -> u8 {
    (0..8).fold(sum, |r, bit| r ^ ((matrix[7 - bit] & x).count_ones() as u8 & 1) << bit)
}

// ---- AES -----------------------------------------------------------------------------------------------

static SBOX: [u8; 256] = sbox();
static INVERSE_SBOX: [u8; 256] = inverse_sbox();

const fn sbox() -> [u8; 256] {
    let inverse = inverses();
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let x = inverse[n];
        let turned = x.rotate_left(1) ^ x.rotate_left(2) ^ x.rotate_left(3) ^ x.rotate_left(4);
        table[n] = x ^ turned ^ 0x63;
        n += 1;
    }
    table
}

const fn inverse_sbox() -> [u8; 256] {
    let forth = sbox();
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        table[forth[n] as usize] = n as u8;
        n += 1;
    }
    table
}

const MIX: [u8; 4] = [2, 3, 1, 1];
const INVERSE_MIX: [u8; 4] = [14, 11, 13, 9];

fn substitute(b: &Block, table: &[u8; 256]) -> Block {
    b.map(|x| table[usize::from(x)])
}

/// Row `n` turned by `n` times `by` columns.
fn shift_rows(b: &Block, by: usize) -> Block {
    core::array::from_fn(|n| b[(n + 4 * (n % 4) * by) % 16])
}

/// Each column times a polynomial.
fn mix(b: &Block, factors: &[u8; 4]) -> Block {
    core::array::from_fn(|n| {
        let (column, row) = (n & !3, n % 4);
        (0..4).fold(0, |sum, k| sum ^ multiply(b[column + (row + k) % 4], factors[k]))
    })
}

fn xor(a: Block, b: Block) -> Block {
    core::array::from_fn(|n| a[n] ^ b[n])
}

fn key_assist(b: &Block, constant: u8) -> Block {
    let s = substitute(b, &SBOX);
    let turned = |n: usize| [s[n + 1] ^ constant, s[n + 2], s[n + 3], s[n]];
    let plain = |n: usize| [s[n], s[n + 1], s[n + 2], s[n + 3]];
    let mut r = [0; 16];
    for (n, word) in [plain(4), turned(4), plain(12), turned(12)].into_iter().enumerate() {
        r[4 * n..][..4].copy_from_slice(&word);
    }
    r
}

fn carryless_multiply(a: &Block, b: &Block, halves: u8) -> Block {
    let half = |block: &Block, which: u8| u64::from_le_bytes(block.as_chunks().0[usize::from(which & 1)]);
    let (x, y) = (u128::from(half(a, halves)), half(b, halves >> 4));
    (0..64).filter(|n| y >> n & 1 == 1).fold(0, |sum, n| sum ^ x << n).to_le_bytes()
}

// ---- SHA -----------------------------------------------------------------------------------------------

/// The words of 128 bits, the highest one first.
type Words = [u32; 4];

const DWORDS: VTy = VTy::x128(Lane::I32);

fn words(v: &V) -> Words {
    core::array::from_fn(|n| v.lane(DWORDS, 3 - n as u32) as u32)
}

fn of_words(words: Words) -> V {
    V::from_lanes(DWORDS, |n| words[3 - n as usize].into())
}

fn sum<const N: usize>(terms: [u32; N]) -> u32 {
    terms.into_iter().fold(0, u32::wrapping_add)
}

fn choose(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ !x & z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ x & z ^ y & z
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

fn sha1_next_e(a: Words, b: Words) -> Words {
    [sum([b[0], a[0].rotate_left(30)]), b[1], b[2], b[3]]
}

fn sha1_schedule1(a: Words, b: Words) -> Words {
    [a[2] ^ a[0], a[3] ^ a[1], b[0] ^ a[2], b[1] ^ a[3]]
}

fn sha1_schedule2(a: Words, b: Words) -> Words {
    let first = (a[0] ^ b[1]).rotate_left(1);
    [first, (a[1] ^ b[2]).rotate_left(1), (a[2] ^ b[3]).rotate_left(1), (a[3] ^ first).rotate_left(1)]
}

fn sha1_rounds([mut a, mut b, mut c, mut d]: Words, schedule: Words, which: u8) -> Words {
    let (f, k): (fn(u32, u32, u32) -> u32, u32) = match which {
        0 => (choose, 0x5a82_7999),
        1 => (parity, 0x6ed9_eba1),
        2 => (majority, 0x8f1b_bcdc),
        _ => (parity, 0xca62_c1d6),
    };
    // The schedule's first word has the first round's E in it already.
    let mut e = 0;
    for w in schedule {
        let next = sum([f(b, c, d), a.rotate_left(5), w, e, k]);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    [a, b, c, d]
}

/// The XOR of three rotations to the right.
fn rotations(x: u32, [i, j, k]: [u32; 3]) -> u32 {
    x.rotate_right(i) ^ x.rotate_right(j) ^ x.rotate_right(k)
}

/// The same with a shift instead of the last.
fn with_shift(x: u32, [i, j, k]: [u32; 3]) -> u32 {
    x.rotate_right(i) ^ x.rotate_right(j) ^ x >> k
}

fn sha256_schedule1(a: Words, b: Words) -> Words {
    let term = |x| with_shift(x, [7, 18, 3]);
    [sum([a[0], term(b[3])]), sum([a[1], term(a[0])]), sum([a[2], term(a[1])]), sum([a[3], term(a[2])])]
}

fn sha256_schedule2(a: Words, b: Words) -> Words {
    let term = |x| with_shift(x, [17, 19, 10]);
    let (w16, w17) = (sum([a[3], term(b[1])]), sum([a[2], term(b[0])]));
    [sum([a[0], term(w17)]), sum([a[1], term(w16)]), w17, w16]
}

fn sha256_rounds([mut c, mut d, mut g, mut h]: Words, [mut a, mut b, mut e, mut f]: Words, schedule: Words) -> Words {
    for w in [schedule[3], schedule[2]] {
        let first = sum([choose(e, f, g), rotations(e, [6, 11, 25]), w, h]);
        let second = sum([majority(a, b, c), rotations(a, [2, 13, 22])]);
        (h, g, f, e) = (g, f, e, sum([first, d]));
        (d, c, b, a) = (c, b, a, sum([first, second]));
    }
    [a, b, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_inverses() {
        assert!((1..=255).all(|x| multiply(x, INVERSE[usize::from(x)]) == 1));
        assert_eq!(INVERSE[0], 0);
    }

    #[test]
    fn boxes_are_the_standards() {
        // FIPS 197, figures 7 and 14.
        assert_eq!([SBOX[0], SBOX[0x53], SBOX[0xff]], [0x63, 0xed, 0x16]);
        assert_eq!([INVERSE_SBOX[0], INVERSE_SBOX[0x53]], [0x52, 0x50]);
    }
}

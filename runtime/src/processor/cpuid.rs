//! What CPUID tells the guest: one table of features, each bound to the instructions it promises.
//!
//! A feature is announced when every 64-bit instruction that iced-x86 files under it has a meaning in
//! [`xlate_x86::isa`]; so announcement and implementation can't disagree. The psABI's baseline is always
//! announced: programs take it for granted (x86-64 psABI, 3.1.1, table 3.1).

use iced_x86::CpuidFeature;

use super::{Features, Processor};
use crate::xstate::{EXTENDED, HEADED_SIZE, compacted_size};

/// A feature bit: leaf, subleaf, register, number.
type Place = (u32, u32, Reg, u32);

/// The register of a leaf that holds a feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// A feature that is announced if it is implemented.
pub struct Feature {
    pub feature: CpuidFeature,
    /// What has to be announced, too.
    pub needs: &'static [CpuidFeature],
    /// The bits that announce it.
    places: &'static [Place],
}

const fn row(feature: CpuidFeature, needs: &'static [CpuidFeature], places: &'static [Place]) -> Feature {
    Feature { feature, needs, places }
}

const EXTENDED_FEATURES: u32 = 0x8000_0001;

/// The sets of instructions that every x86-64 processor has.
pub const BASELINE: &[CpuidFeature] = {
    use CpuidFeature::*;
    &[FPU, TSC, CX8, CMOV, MMX, FXSR, SSE, SSE2, SYSCALL]
};

/// Bits that are always set (Intel SDM vol. 2, CPUID, tables 3-10 and 3-11).
const ALWAYS: &[Place] = {
    use Reg::*;
    &[
        (1, 0, Edx, 0),                  // FPU
        (1, 0, Edx, 4),                  // TSC
        (1, 0, Edx, 8),                  // CX8
        (1, 0, Edx, 15),                 // CMOV
        (1, 0, Edx, 23),                 // MMX
        (1, 0, Edx, 24),                 // FXSR
        (1, 0, Edx, 25),                 // SSE
        (1, 0, Edx, 26),                 // SSE2
        (7, 0, Ebx, 6),                  // FDP_EXCPTN_ONLY
        (7, 0, Ebx, 9),                  // ERMS: REP MOVSB in bulk
        (7, 0, Ebx, 13),                 // no x87 CS and DS
        (EXTENDED_FEATURES, 0, Edx, 11), // SYSCALL
        (EXTENDED_FEATURES, 0, Edx, 20), // NX
        (EXTENDED_FEATURES, 0, Edx, 29), // long mode
    ]
};

/// The others, each after those that it needs (Intel SDM vol. 1, 14.3 and 15.2 to 15.4; AMD APM vol. 3, appendix E).
pub const FEATURES: &[Feature] = {
    use CpuidFeature::*;
    use Reg::*;
    &[
        row(CLFSH, &[], &[(1, 0, Edx, 19)]),
        row(SSE3, &[], &[(1, 0, Ecx, 0)]),
        row(PCLMULQDQ, &[], &[(1, 0, Ecx, 1)]),
        row(SSSE3, &[], &[(1, 0, Ecx, 9)]),
        // With LAHF in 64-bit mode, which has no feature here: both came with x86-64-v2.
        row(CMPXCHG16B, &[], &[(1, 0, Ecx, 13), (EXTENDED_FEATURES, 0, Ecx, 0)]),
        row(SSE4_1, &[], &[(1, 0, Ecx, 19)]),
        row(SSE4_2, &[], &[(1, 0, Ecx, 20)]),
        row(MOVBE, &[], &[(1, 0, Ecx, 22)]),
        row(POPCNT, &[], &[(1, 0, Ecx, 23)]),
        row(AES, &[], &[(1, 0, Ecx, 25)]),
        row(RDRAND, &[], &[(1, 0, Ecx, 30)]),
        // With OSXSAVE: the operating system uses it.
        row(XSAVE, &[], &[(1, 0, Ecx, 26), (1, 0, Ecx, 27)]),
        row(XSAVEOPT, &[XSAVE], &[(0xd, 1, Eax, 0)]),
        // With XGETBV for XINUSE, which came with it.
        row(XSAVEC, &[XSAVE], &[(0xd, 1, Eax, 1), (0xd, 1, Eax, 2)]),
        row(FSGSBASE, &[], &[(7, 0, Ebx, 0)]),
        row(BMI1, &[], &[(7, 0, Ebx, 3)]),
        row(BMI2, &[], &[(7, 0, Ebx, 8)]),
        row(RDSEED, &[], &[(7, 0, Ebx, 18)]),
        row(ADX, &[], &[(7, 0, Ebx, 19)]),
        row(CLFLUSHOPT, &[], &[(7, 0, Ebx, 23)]),
        row(CLWB, &[], &[(7, 0, Ebx, 24)]),
        row(SHA, &[], &[(7, 0, Ebx, 29)]),
        row(RDPID, &[], &[(7, 0, Ecx, 22)]),
        row(CLDEMOTE, &[], &[(7, 0, Ecx, 25)]),
        row(MOVDIRI, &[], &[(7, 0, Ecx, 27)]),
        row(MOVDIR64B, &[], &[(7, 0, Ecx, 28)]),
        row(SERIALIZE, &[], &[(7, 0, Edx, 14)]),
        row(LZCNT, &[], &[(EXTENDED_FEATURES, 0, Ecx, 5)]),
        row(SSE4A, &[SSE3], &[(EXTENDED_FEATURES, 0, Ecx, 6)]),
        row(PREFETCHW, &[], &[(EXTENDED_FEATURES, 0, Ecx, 8)]),
        row(RDTSCP, &[], &[(EXTENDED_FEATURES, 0, Edx, 27)]),
        row(AVX, &[XSAVE, SSE4_2], &[(1, 0, Ecx, 28)]),
        row(F16C, &[AVX], &[(1, 0, Ecx, 29)]),
        row(FMA, &[AVX], &[(1, 0, Ecx, 12)]),
        row(AVX2, &[AVX], &[(7, 0, Ebx, 5)]),
        row(AVX512F, &[AVX2, FMA, F16C], &[(7, 0, Ebx, 16)]),
        row(AVX512DQ, &[AVX512F], &[(7, 0, Ebx, 17)]),
        row(AVX512CD, &[AVX512F], &[(7, 0, Ebx, 28)]),
        row(AVX512BW, &[AVX512F], &[(7, 0, Ebx, 30)]),
        row(AVX512VL, &[AVX512F], &[(7, 0, Ebx, 31)]),
        row(AVX512_IFMA, &[AVX512F], &[(7, 0, Ebx, 21)]),
        row(AVX512_VBMI, &[AVX512F], &[(7, 0, Ecx, 1)]),
        row(AVX512_VBMI2, &[AVX512F], &[(7, 0, Ecx, 6)]),
        row(AVX512_VNNI, &[AVX512F], &[(7, 0, Ecx, 11)]),
        row(AVX512_BITALG, &[AVX512F], &[(7, 0, Ecx, 12)]),
        row(AVX512_VPOPCNTDQ, &[AVX512F], &[(7, 0, Ecx, 14)]),
        row(AVX512_BF16, &[AVX512F], &[(7, 1, Eax, 5)]),
        row(AVX512_FP16, &[AVX512BW], &[(7, 0, Edx, 23)]),
        row(GFNI, &[], &[(7, 0, Ecx, 8)]),
        row(VAES, &[AVX, AES], &[(7, 0, Ecx, 9)]),
        row(VPCLMULQDQ, &[AVX, PCLMULQDQ], &[(7, 0, Ecx, 10)]),
        row(AVX_VNNI, &[AVX2], &[(7, 1, Eax, 4)]),
        row(AVX_IFMA, &[AVX2], &[(7, 1, Eax, 23)]),
    ]
};

/// Leaves and subleaves of feature bits.
const LEAVES: [(u32, u32); 5] = [(1, 0), (7, 0), (7, 1), (0xd, 1), (EXTENDED_FEATURES, 0)];

/// Feature bits: the registers of each of [`LEAVES`].
pub type Bits = [[u32; 4]; LEAVES.len()];

/// The bits that announce features.
pub fn bits(features: &Features) -> Bits {
    let on = FEATURES.iter().filter(|row| features.has(row.feature)).flat_map(|row| row.places);
    let mut bits = Bits::default();
    for (leaf, subleaf, reg, bit) in ALWAYS.iter().chain(on) {
        let n = LEAVES.iter().position(|place| place == &(*leaf, *subleaf));
        bits[n.expect("each has its leaf in the list")][*reg as usize] |= 1 << bit;
    }
    bits
}

const VENDOR: &[u8; 12] = b"GenuineIntel";
const BRAND: &[u8; 48] = b"xlate virtual x86-64 processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HIGHEST: u32 = 0x0d;
const HIGHEST_EXTENDED: u32 = 0x8000_0008;

/// Family 6 and the model of the generation that brought the widest vectors to servers: Nehalem, Haswell, Ice Lake. Some
/// libraries, OpenBLAS among them, choose their code by the model, and take the oldest for one that they don't know.
const SIGNATURES: [(Option<CpuidFeature>, u32); 3] =
    [(Some(CpuidFeature::AVX512BW), 0x0006_06a6), (Some(CpuidFeature::AVX2), 0x0003_06f2), (None, 0x0001_06a5)];

fn word(text: &[u8], n: usize) -> u32 {
    u32::from_le_bytes([text[4 * n], text[4 * n + 1], text[4 * n + 2], text[4 * n + 3]])
}

/// One level of the deterministic cache description (leaf 4): type, level, KiB, ways; 64-byte lines.
fn cache(subleaf: u32) -> [u32; 4] {
    let (kind, level, kib, ways) = match subleaf {
        0 => (1, 1, 32, 8),
        1 => (2, 1, 32, 8),
        2 => (3, 2, 512, 8),
        3 => (3, 3, 8192, 16),
        _ => return [0; 4],
    };
    let sets = kib * 1024 / (64 * ways);
    [kind | level << 5 | 1 << 8, 63 | (ways - 1) << 22, sets - 1, 0]
}

impl Processor {
    /// CPUID: [eax, ebx, ecx, edx] of a leaf and subleaf. Leaves beyond the highest are zero.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let bits_of = |leaf, subleaf| {
            let n = LEAVES.iter().position(|place| *place == (leaf, subleaf));
            n.map_or([0; 4], |n| self.bits[n])
        };
        match leaf {
            0 => [HIGHEST, word(VENDOR, 0), word(VENDOR, 2), word(VENDOR, 1)],
            1 => {
                let f = bits_of(1, 0);
                // EBX: CLFLUSH lines of 8 * 8 bytes, one logical processor.
                [self.signature(), 8 << 8 | 1 << 16, f[2], f[3]]
            }
            // "Look at leaf 4" (descriptor 0xff), 64-byte prefetching.
            2 => [0x00ff_ff01, 0xf0, 0, 0],
            4 => cache(subleaf),
            7 if subleaf == 0 => {
                let [_, b, c, d] = bits_of(7, 0);
                // The highest subleaf.
                [1, b, c, d]
            }
            7 => bits_of(7, subleaf),
            0xd if self.has(CpuidFeature::XSAVE) => self.state_leaf(subleaf, bits_of(0xd, 1)),
            0x8000_0000 => [HIGHEST_EXTENDED, 0, 0, 0],
            EXTENDED_FEATURES => bits_of(EXTENDED_FEATURES, 0),
            0x8000_0002..=0x8000_0004 => {
                let n = (leaf - 0x8000_0002) as usize * 4;
                [0, 1, 2, 3].map(|k| word(BRAND, n + k))
            }
            // L2: 512 KiB, 8 ways (code 6), 64-byte lines.
            0x8000_0006 => [0, 0, 512 << 16 | 6 << 12 | 64, 0],
            // Invariant TSC.
            0x8000_0007 => [0, 0, 0, 1 << 8],
            // 48 bits of virtual and 46 of physical address.
            0x8000_0008 => [48 << 8 | 46, 0, 0, 0],
            _ => [0; 4],
        }
    }

    fn signature(&self) -> u32 {
        let found = SIGNATURES.iter().find(|(needs, _)| needs.is_none_or(|feature| self.has(feature)));
        found.expect("the last needs nothing").1
    }

    /// Leaf 0xd: the state's components (Intel SDM vol. 1, 13.2).
    fn state_leaf(&self, subleaf: u32, features: [u32; 4]) -> [u32; 4] {
        let xcr0 = self.xcr0();
        let size = self.layout().size(xcr0) as u32;
        match subleaf {
            0 => [xcr0 as u32, size, size, (xcr0 >> 32) as u32],
            1 if features[0] & XSAVEC != 0 => [features[0], compacted_size(xcr0) as u32, 0, 0],
            1 => features,
            _ => {
                let found = EXTENDED.iter().find(|(bit, _)| bit.trailing_zeros() == subleaf && xcr0 & bit != 0);
                found.map_or([0; 4], |(bit, size)| [*size as u32, self.layout().offset(*bit) as u32, 0, 0])
            }
        }
    }
}

/// Leaf 0xd, subleaf 1: XSAVEC is there.
const XSAVEC: u32 = 1 << 1;

const _: () = assert!(HEADED_SIZE == 576);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::{component, model};

    #[test]
    fn announced_features_have_their_bits() {
        let all = Processor::new(None);
        for row in FEATURES {
            for (leaf, subleaf, reg, bit) in row.places {
                let on = all.cpuid(*leaf, *subleaf)[*reg as usize] >> bit & 1 == 1;
                assert_eq!(on, all.has(row.feature), "{:?}", row.feature);
            }
        }
    }

    #[test]
    fn the_model_is_one_with_the_vectors_that_are_announced() {
        let of = |name| Processor::new(model(name)).cpuid(1, 0)[0];
        assert_eq!([of("v4"), of("v3"), of("v2")], [0x606a6, 0x306f2, 0x106a5]);
    }

    #[test]
    fn needs_stand_before_what_needs_them() {
        for (n, row) in FEATURES.iter().enumerate() {
            assert!(row.needs.iter().all(|need| FEATURES[..n].iter().any(|other| other.feature == *need)));
        }
    }

    #[test]
    fn state_is_as_the_features_are() {
        let all = Processor::new(None);
        let [low, size, largest, high] = all.cpuid(0xd, 0);
        assert_eq!((u64::from(low), high), (all.xcr0(), 0));
        assert_eq!((size, largest), (all.layout().size(all.xcr0()) as u32, size));
        assert_eq!(all.cpuid(1, 0)[2] >> 26 & 3, 3, "XSAVE and OSXSAVE");
        let without = Processor::new(model("nehalem"));
        assert_eq!(
            (without.cpuid(0xd, 0), without.cpuid(0xd, 1), without.cpuid(1, 0)[2] >> 26 & 3),
            ([0; 4], [0; 4], 0)
        );
        let of = |n| all.cpuid(0xd, n);
        let avx = if all.xcr0() & component::AVX != 0 { [256, 576, 0, 0] } else { [0; 4] };
        let upper = if all.xcr0() & component::HI16_ZMM != 0 { [1024, 1664, 0, 0] } else { [0; 4] };
        assert_eq!((of(2), of(3), of(7), of(9)), (avx, [0; 4], upper, [0; 4]));
    }

    #[test]
    fn caches_have_the_sizes_they_describe() {
        let leaf = |n| Processor::new(None).cpuid(4, n);
        let size = |n| {
            let [_, b, c, _] = leaf(n);
            ((b >> 22) + 1) * ((b & 0xfff) + 1) * (c + 1)
        };
        assert_eq!([size(0), size(2), size(3)], [32 << 10, 512 << 10, 8 << 20]);
        assert_eq!(leaf(4)[0], 0);
    }
}

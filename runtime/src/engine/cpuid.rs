//! What CPUID tells the guest: one table of features, each bound to the instructions it promises.
//!
//! A feature is announced when every 64-bit instruction that iced-x86 files under it has a meaning in
//! [`xlate_x86::isa`]; so announcement and implementation can't disagree. The psABI's baseline is always
//! announced: programs take it for granted (x86-64 psABI, 3.1.1, table 3.1).

use std::sync::OnceLock;

use iced_x86::CpuidFeature;
use xlate_x86::isa;

/// The register of a leaf that holds a feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    Ebx,
    Ecx,
    Edx,
}

/// When a feature is announced.
#[derive(Clone, Copy, Debug)]
enum When {
    /// Part of every x86-64 processor.
    Always,
    /// All instructions of this set are implemented.
    Implemented(CpuidFeature),
}

struct Feature {
    leaf: u32,
    reg: Reg,
    bit: u32,
    when: When,
}

const fn row(leaf: u32, reg: Reg, bit: u32, when: When) -> Feature {
    Feature { leaf, reg, bit, when }
}

const EXTENDED: u32 = 0x8000_0001;

/// Feature bits (Intel SDM vol. 2, CPUID, tables 3-10 and 3-11). XSAVE, OSXSAVE and AVX stay out until the state
/// they announce is kept.
const FEATURES: &[Feature] = {
    use CpuidFeature as F;
    use Reg::*;
    use When::*;
    &[
        row(1, Edx, 0, Always),                         // FPU
        row(1, Edx, 4, Always),                         // TSC
        row(1, Edx, 8, Always),                         // CX8
        row(1, Edx, 15, Always),                        // CMOV
        row(1, Edx, 19, Implemented(F::CLFSH)),         // CLFSH
        row(1, Edx, 23, Always),                        // MMX
        row(1, Edx, 24, Always),                        // FXSR
        row(1, Edx, 25, Always),                        // SSE
        row(1, Edx, 26, Always),                        // SSE2
        row(1, Ecx, 0, Implemented(F::SSE3)),           // SSE3
        row(1, Ecx, 1, Implemented(F::PCLMULQDQ)),      // PCLMULQDQ
        row(1, Ecx, 9, Implemented(F::SSSE3)),          // SSSE3
        row(1, Ecx, 13, Implemented(F::CMPXCHG16B)),    // CX16
        row(1, Ecx, 19, Implemented(F::SSE4_1)),        // SSE4.1
        row(1, Ecx, 20, Implemented(F::SSE4_2)),        // SSE4.2
        row(1, Ecx, 22, Implemented(F::MOVBE)),         // MOVBE
        row(1, Ecx, 23, Implemented(F::POPCNT)),        // POPCNT
        row(1, Ecx, 25, Implemented(F::AES)),           // AES
        row(1, Ecx, 30, Implemented(F::RDRAND)),        // RDRAND
        row(7, Ebx, 3, Implemented(F::BMI1)),           // BMI1
        row(7, Ebx, 6, Always),                         // FDP_EXCPTN_ONLY
        row(7, Ebx, 8, Implemented(F::BMI2)),           // BMI2
        row(7, Ebx, 9, Always),                         // ERMS: REP MOVSB in bulk
        row(7, Ebx, 13, Always),                        // no x87 CS and DS
        row(7, Ebx, 18, Implemented(F::RDSEED)),        // RDSEED
        row(7, Ebx, 19, Implemented(F::ADX)),           // ADX
        row(7, Ebx, 29, Implemented(F::SHA)),           // SHA
        row(EXTENDED, Ecx, 0, Always),                  // LAHF in 64-bit mode
        row(EXTENDED, Ecx, 5, Implemented(F::LZCNT)),   // ABM
        row(EXTENDED, Edx, 11, Always),                 // SYSCALL
        row(EXTENDED, Edx, 20, Always),                 // NX
        row(EXTENDED, Edx, 27, Implemented(F::RDTSCP)), // RDTSCP
        row(EXTENDED, Edx, 29, Always),                 // long mode
    ]
};

fn announced(when: When) -> bool {
    match when {
        When::Always => true,
        When::Implemented(set) => isa::implements(set),
    }
}

/// The features' bits by leaf and register.
fn feature_bits() -> &'static [(u32, [u32; 4])] {
    static BITS: OnceLock<[(u32, [u32; 4]); 3]> = OnceLock::new();
    BITS.get_or_init(|| {
        [1, 7, EXTENDED].map(|leaf| {
            let mut out = [0; 4];
            let on = FEATURES.iter().filter(|f| f.leaf == leaf && announced(f.when));
            for f in on {
                out[f.reg as usize + 1] |= 1 << f.bit;
            }
            (leaf, out)
        })
    })
}

fn bits_of(leaf: u32) -> [u32; 4] {
    feature_bits().iter().find(|(l, _)| *l == leaf).map_or([0; 4], |(_, bits)| *bits)
}

const VENDOR: &[u8; 12] = b"GenuineIntel";
const BRAND: &[u8; 48] = b"xlate virtual x86-64 processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HIGHEST: u32 = 0x0d;
const HIGHEST_EXTENDED: u32 = 0x8000_0008;
/// Family 6, model 0x1a, stepping 5: a generation whose tuning in C libraries needs no more than what is announced.
const SIGNATURE: u32 = 0x0001_06a5;

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

/// CPUID: [eax, ebx, ecx, edx] of a leaf and subleaf. Leaves beyond the highest are zero.
pub fn leaf(leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf {
        0 => [HIGHEST, word(VENDOR, 0), word(VENDOR, 2), word(VENDOR, 1)],
        1 => {
            let f = bits_of(1);
            // EBX: CLFLUSH lines of 8 * 8 bytes, one logical processor.
            [SIGNATURE, 8 << 8 | 1 << 16, f[2], f[3]]
        }
        // "Look at leaf 4" (descriptor 0xff), 64-byte prefetching.
        2 => [0x00ff_ff01, 0xf0, 0, 0],
        4 => cache(subleaf),
        7 if subleaf == 0 => bits_of(7),
        0x8000_0000 => [HIGHEST_EXTENDED, 0, 0, 0],
        EXTENDED => bits_of(EXTENDED),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_features_are_implemented() {
        for f in FEATURES {
            let [_, b, c, d] = leaf(f.leaf, 0);
            let on = [b, c, d][f.reg as usize] >> f.bit & 1 == 1;
            assert_eq!(on, announced(f.when), "leaf {:#x} bit {}", f.leaf, f.bit);
        }
    }

    #[test]
    fn nothing_beyond_the_kept_state_is_announced() {
        let [_, _, ecx, _] = leaf(1, 0);
        assert_eq!(ecx & (1 << 26 | 1 << 27 | 1 << 28), 0, "XSAVE, OSXSAVE, AVX");
    }

    #[test]
    fn caches_have_the_sizes_they_describe() {
        let size = |n| {
            let [_, b, c, _] = leaf(4, n);
            ((b >> 22) + 1) * ((b & 0xfff) + 1) * (c + 1)
        };
        assert_eq!([size(0), size(2), size(3)], [32 << 10, 512 << 10, 8 << 20]);
        assert_eq!(leaf(4, 4)[0], 0);
    }
}

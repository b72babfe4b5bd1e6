//! Which instruction sets this CPU has, by CPUID (Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::collections::HashMap;
use std::sync::OnceLock;

use iced_x86::CpuidFeature;

/// Where a feature is announced.
enum Announced {
    /// Every x86-64 processor has it, or ignores it where it doesn't.
    Always,
    /// Leaf, subleaf, register (EAX to EDX) and bit.
    Bit(u32, u32, usize, u32),
}

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// `None` for a feature that this list doesn't know: no instruction of it is run.
fn announced(feature: CpuidFeature) -> Option<Announced> {
    use Announced::*;
    use CpuidFeature::*;
    Some(match feature {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | CPUID | FPU | FPU287 | FPU387 | MSR | TSC
        | CX8 | CMOV | CLFSH | MMX | FXSR | SSE | SSE2 | SYSCALL | RDPMC | PAUSE | MULTIBYTENOP => Always,
        // Hints where they aren't there, or refused as everything unknown is.
        CET_IBT | CET_SS | CLDEMOTE | PREFETCHW | PREFETCHWT1 | PREFETCHITI => Always,
        SSE3 => Bit(1, 0, ECX, 0),
        PCLMULQDQ => Bit(1, 0, ECX, 1),
        MONITOR => Bit(1, 0, ECX, 3),
        SSSE3 => Bit(1, 0, ECX, 9),
        FMA => Bit(1, 0, ECX, 12),
        CMPXCHG16B => Bit(1, 0, ECX, 13),
        SSE4_1 => Bit(1, 0, ECX, 19),
        SSE4_2 => Bit(1, 0, ECX, 20),
        MOVBE => Bit(1, 0, ECX, 22),
        POPCNT => Bit(1, 0, ECX, 23),
        AES => Bit(1, 0, ECX, 25),
        XSAVE => Bit(1, 0, ECX, 27),
        AVX => Bit(1, 0, ECX, 28),
        F16C => Bit(1, 0, ECX, 29),
        CpuidFeature::RDRAND => Bit(1, 0, ECX, 30),
        SEP => Bit(1, 0, EDX, 11),
        FSGSBASE => Bit(7, 0, EBX, 0),
        BMI1 => Bit(7, 0, EBX, 3),
        HLE => Bit(7, 0, EBX, 4),
        AVX2 => Bit(7, 0, EBX, 5),
        BMI2 => Bit(7, 0, EBX, 8),
        RTM | HLE_or_RTM => Bit(7, 0, EBX, 11),
        MPX => Bit(7, 0, EBX, 14),
        AVX512F => Bit(7, 0, EBX, 16),
        AVX512DQ => Bit(7, 0, EBX, 17),
        CpuidFeature::RDSEED => Bit(7, 0, EBX, 18),
        ADX => Bit(7, 0, EBX, 19),
        AVX512_IFMA => Bit(7, 0, EBX, 21),
        PCOMMIT => Bit(7, 0, EBX, 22),
        CLFLUSHOPT => Bit(7, 0, EBX, 23),
        CLWB => Bit(7, 0, EBX, 24),
        AVX512PF => Bit(7, 0, EBX, 26),
        AVX512ER => Bit(7, 0, EBX, 27),
        AVX512CD => Bit(7, 0, EBX, 28),
        SHA => Bit(7, 0, EBX, 29),
        AVX512BW => Bit(7, 0, EBX, 30),
        AVX512VL => Bit(7, 0, EBX, 31),
        AVX512_VBMI => Bit(7, 0, ECX, 1),
        PKU => Bit(7, 0, ECX, 4),
        WAITPKG => Bit(7, 0, ECX, 5),
        AVX512_VBMI2 => Bit(7, 0, ECX, 6),
        GFNI => Bit(7, 0, ECX, 8),
        VAES => Bit(7, 0, ECX, 9),
        VPCLMULQDQ => Bit(7, 0, ECX, 10),
        AVX512_VNNI => Bit(7, 0, ECX, 11),
        AVX512_BITALG => Bit(7, 0, ECX, 12),
        AVX512_VPOPCNTDQ => Bit(7, 0, ECX, 14),
        RDPID => Bit(7, 0, ECX, 22),
        KL => Bit(7, 0, ECX, 23),
        MOVDIRI => Bit(7, 0, ECX, 27),
        MOVDIR64B => Bit(7, 0, ECX, 28),
        ENQCMD => Bit(7, 0, ECX, 29),
        AVX512_4VNNIW => Bit(7, 0, EDX, 2),
        AVX512_4FMAPS => Bit(7, 0, EDX, 3),
        UINTR => Bit(7, 0, EDX, 5),
        AVX512_VP2INTERSECT => Bit(7, 0, EDX, 8),
        SERIALIZE => Bit(7, 0, EDX, 14),
        TSXLDTRK => Bit(7, 0, EDX, 16),
        AMX_BF16 => Bit(7, 0, EDX, 22),
        AVX512_FP16 => Bit(7, 0, EDX, 23),
        AMX_TILE => Bit(7, 0, EDX, 24),
        AMX_INT8 => Bit(7, 0, EDX, 25),
        SHA512 => Bit(7, 1, EAX, 0),
        SM3 => Bit(7, 1, EAX, 1),
        SM4 => Bit(7, 1, EAX, 2),
        RAO_INT => Bit(7, 1, EAX, 3),
        AVX_VNNI => Bit(7, 1, EAX, 4),
        AVX512_BF16 => Bit(7, 1, EAX, 5),
        CMPCCXADD => Bit(7, 1, EAX, 7),
        AMX_FP16 => Bit(7, 1, EAX, 21),
        AVX_IFMA => Bit(7, 1, EAX, 23),
        AVX_VNNI_INT8 => Bit(7, 1, EDX, 4),
        AVX_NE_CONVERT => Bit(7, 1, EDX, 5),
        AMX_COMPLEX => Bit(7, 1, EDX, 8),
        AVX_VNNI_INT16 => Bit(7, 1, EDX, 10),
        XSAVEOPT => Bit(0xd, 1, EAX, 0),
        XSAVEC => Bit(0xd, 1, EAX, 1),
        PTWRITE => Bit(0x14, 0, EBX, 4),
        AESKLE => Bit(0x19, 0, EBX, 0),
        WIDE_KL => Bit(0x19, 0, EBX, 2),
        LZCNT => Bit(0x8000_0001, 0, ECX, 5),
        SSE4A => Bit(0x8000_0001, 0, ECX, 6),
        XOP => Bit(0x8000_0001, 0, ECX, 11),
        LWP => Bit(0x8000_0001, 0, ECX, 15),
        FMA4 => Bit(0x8000_0001, 0, ECX, 16),
        TBM => Bit(0x8000_0001, 0, ECX, 21),
        MONITORX => Bit(0x8000_0001, 0, ECX, 29),
        CpuidFeature::RDTSCP => Bit(0x8000_0001, 0, EDX, 27),
        D3NOWEXT => Bit(0x8000_0001, 0, EDX, 30),
        D3NOW => Bit(0x8000_0001, 0, EDX, 31),
        CLZERO => Bit(0x8000_0008, 0, EBX, 0),
        RDPRU => Bit(0x8000_0008, 0, EBX, 4),
        MCOMMIT => Bit(0x8000_0008, 0, EBX, 8),
        _ => return None,
    })
}

/// Whether this CPU has a feature, and the system has its registers switched on.
pub fn supported(feature: CpuidFeature) -> bool {
    let Some(announced) = announced(feature) else { return false };
    let Announced::Bit(leaf, subleaf, register, bit) = announced else { return true };
    leaves().get(&(leaf, subleaf)).is_some_and(|found| found[register] >> bit & 1 != 0) && switched_on(feature)
}

/// The leaves that features are announced in, as far as this CPU has them. They are read once: each costs an exit where
/// the machine is virtual.
fn leaves() -> &'static HashMap<(u32, u32), [u32; 4]> {
    const USED: [(u32, u32); 8] =
        [(1, 0), (7, 0), (7, 1), (0xd, 1), (0x14, 0), (0x19, 0), (0x8000_0001, 0), (0x8000_0008, 0)];
    static LEAVES: OnceLock<HashMap<(u32, u32), [u32; 4]>> = OnceLock::new();
    LEAVES.get_or_init(|| {
        let highest = |leaf: u32| __cpuid(leaf & 0x8000_0000).eax;
        // The number of leaf 7's subleaves is in its EAX. Beyond the end some processors give other leaves.
        let there = |(leaf, subleaf)| leaf <= highest(leaf) && (leaf != 7 || subleaf <= __cpuid_count(7, 0).eax);
        let read = |(leaf, subleaf)| {
            let found = __cpuid_count(leaf, subleaf);
            ((leaf, subleaf), [found.eax, found.ebx, found.ecx, found.edx])
        };
        USED.into_iter().filter(|l| there(*l)).map(read).collect()
    })
}

/// Instructions on ymm and zmm registers need these in XCR0 (Intel SDM vol. 1, 14.3 and 15.2).
fn switched_on(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    let extent = super::excursion::extent();
    let name = format!("{feature:?}");
    match feature {
        AVX | AVX2 | FMA | F16C | FMA4 | XOP | VAES | VPCLMULQDQ | SHA512 | SM3 | SM4 => extent.words >= 4,
        _ if name.starts_with("AVX512") => extent.words == 8,
        _ if name.starts_with("AVX_") => extent.words >= 4,
        _ => true,
    }
}

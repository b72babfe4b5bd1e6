//! What helpers touch in the CPU state and in memory.

use iced_x86::RflagsBits;
use xlate_abi::state::{Helper, RAX, RBX, RCX, RDI, RDX, RSI};

use super::AccessKind;
use crate::decode::Flags;
use crate::lifter::STATUS;

/// What a helper touches beside its arguments and result.
#[derive(Clone, Copy, Default)]
pub struct HelperEffects {
    pub gprs_read: u32,
    pub gprs_written: u32,
    pub flags_read: Flags,
    /// The lowest 128 bits of the first sixteen vector registers are loaded from memory, or stored there.
    pub vectors: Option<AccessKind>,
    /// Accesses to memory, and their widths in bytes; 0 where that depends.
    pub memory: &'static [(AccessKind, u32)],
}

const fn bits<const N: usize>(registers: [usize; N]) -> u32 {
    let (mut all, mut n) = (0, 0);
    while n < N {
        all |= 1 << registers[n];
        n += 1;
    }
    all
}

const NOTHING: HelperEffects =
    HelperEffects { gprs_read: 0, gprs_written: 0, flags_read: 0, vectors: None, memory: &[] };

/// The effects of a helper. Those that aren't pure read and write other fields of the CPU state, too.
pub fn effects(helper: Helper) -> HelperEffects {
    use AccessKind::{Load, Store};
    match helper {
        Helper::Cpuid => {
            HelperEffects { gprs_read: bits([RAX, RCX]), gprs_written: bits([RAX, RBX, RCX, RDX]), ..NOTHING }
        }
        Helper::Xgetbv => HelperEffects { gprs_read: bits([RCX]), gprs_written: bits([RAX, RDX]), ..NOTHING },
        Helper::Rdtsc => HelperEffects { gprs_written: bits([RAX, RDX]), ..NOTHING },
        Helper::Fxsave => HelperEffects { vectors: Some(Store), memory: &[(Store, 512)], ..NOTHING },
        Helper::Fxrstor => HelperEffects { vectors: Some(Load), memory: &[(Load, 512)], ..NOTHING },
        Helper::RepMovs => HelperEffects {
            gprs_read: bits([RSI, RDI, RCX]),
            gprs_written: bits([RSI, RDI, RCX]),
            flags_read: RflagsBits::DF,
            memory: &[(Load, 0), (Store, 0)],
            ..NOTHING
        },
        Helper::RepStos => HelperEffects {
            gprs_read: bits([RAX, RDI, RCX]),
            gprs_written: bits([RDI, RCX]),
            flags_read: RflagsBits::DF,
            memory: &[(Store, 0)],
            ..NOTHING
        },
        Helper::StatusBits => HelperEffects { flags_read: STATUS, ..NOTHING },
        Helper::X87Store => HelperEffects { memory: &[(Store, 0)], ..NOTHING },
        Helper::LoadMasked | Helper::Gather => HelperEffects { memory: &[(Load, 0)], ..NOTHING },
        Helper::StoreMasked | Helper::Scatter => HelperEffects { memory: &[(Store, 0)], ..NOTHING },
        Helper::Xsave => HelperEffects { memory: &[(Store, 0)], ..NOTHING },
        Helper::Xrstor => HelperEffects { memory: &[(Load, 0)], ..NOTHING },
        Helper::X87Load => HelperEffects { memory: &[(Load, 0)], ..NOTHING },
        Helper::LoadMxcsr
        | Helper::StoreMxcsr
        | Helper::UdivWide
        | Helper::UremWide
        | Helper::SdivWide
        | Helper::SremWide
        | Helper::Float
        | Helper::Crc32c
        | Helper::Random
        | Helper::ProcessorId
        | Helper::StringCompare
        | Helper::X87
        | Helper::SettleFlags
        | Helper::Wide
        | Helper::BeginStaticRounding
        | Helper::EndStaticRounding
        | Helper::Segment => NOTHING,
    }
}

/// Whether a helper loads MXCSR.
pub fn loads_mxcsr(helper: Helper) -> bool {
    matches!(helper, Helper::LoadMxcsr | Helper::Fxrstor | Helper::Xrstor)
}

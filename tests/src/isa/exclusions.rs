//! Implemented instructions that can't be compared with the CPU in a child process, each with its reason and the
//! place where it is tested instead; and the features this CPU may lack.

use iced_x86::{Code, CpuidFeature, Mnemonic, OpCodeOperandKind};
use xlate_x86::isa;

use super::{excursion, features};

/// Why an instruction is left out, if it is.
pub fn reason(code: Code) -> Option<&'static str> {
    Some(match code.mnemonic() {
        Mnemonic::Syscall => "leaves to the kernel; guest programs in tests/ make system calls in every mode",
        Mnemonic::Cpuid | Mnemonic::Xgetbv => {
            "announces what is implemented, not what this CPU has; unit tests of the helpers"
        }
        _ if code.cpuid_features().iter().any(is_xsave) && !excursion::has_intels_areas() => {
            "this CPU has other components or has them elsewhere; unit tests of the helpers, and tests/features/state.c"
        }
        Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdpid => {
            "never gives the same value twice; unit tests of the helpers"
        }
        Mnemonic::Rdrand | Mnemonic::Rdseed => "random; unit tests of the helpers",
        Mnemonic::Int1 => {
            "reported in front of or behind the instruction, depending on the hypervisor; unit tests of the lifter"
        }
        Mnemonic::Reservednop if is_register_prefetch(code) => {
            "AMD's processors refuse the register form, Intel's ignore it"
        }
        Mnemonic::Movsxd if code == Code::Movsxd_r16_rm16 => "Intel reads two bytes of memory, AMD four",
        Mnemonic::Lfs | Mnemonic::Lgs | Mnemonic::Lss => "loads a segment register; tests/features/segments.c",
        _ if loads_segment(code) => "loads a segment register; tests/features/segments.c",
        Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
            "may leave 64-bit mode; tests/features/segments.c"
        }
        _ if is_far_transfer(code) => "may leave 64-bit mode; tests/features/segments.c",
        Mnemonic::Lsl => "gives the processor's number for one selector; tests/features/segments.c",
        Mnemonic::Sgdt | Mnemonic::Sidt | Mnemonic::Smsw | Mnemonic::Sldt | Mnemonic::Str => {
            "carried out by Linux, whose faults are others; tests/features/segments.c"
        }
        _ if isa::is_undefined(code) => "may be there for other processors or hypervisors; tests/features/faults.c",
        // Ud0_r16_rm16 and its like are compared.
        Mnemonic::Ud0 if code == Code::Ud0 => "the form without a ModRM byte, which the decoder never gives",
        _ => return None,
    })
}

/// Instructions that the CPU refuses by definition, or because a program isn't allowed to use what they need.
pub const REFUSED: [&str; 7] = ["Ud0", "Ud1", "Ud2", "Incssp", "Rstorssp", "Saveprevssp", "Wrss"];

/// Why an instruction without a meaning here can't even be run on the CPU by itself.
pub fn not_native(code: Code) -> Option<&'static str> {
    Some(match code.mnemonic() {
        Mnemonic::Sysenter => "enters the kernel by 32-bit programs' way",
        Mnemonic::Wrpkru => "takes the verifier's own memory away",
        _ if code.op_code().op_kinds().iter().any(|k| is_tile(*k)) => "works on tiles, which cases don't have",
        _ if code.cpuid_features().contains(&CpuidFeature::AMX_TILE) => "works on tiles, which cases don't have",
        _ => return None,
    })
}

fn is_tile(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind::*;
    matches!(kind, tmm_reg | tmm_rm | tmm_vvvv)
}

fn is_xsave(feature: &CpuidFeature) -> bool {
    matches!(feature, CpuidFeature::XSAVE | CpuidFeature::XSAVEC | CpuidFeature::XSAVEOPT | CpuidFeature::XSAVES)
}

fn loads_segment(code: Code) -> bool {
    use Code::*;
    matches!(code, Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 | Popw_FS | Popq_FS | Popw_GS | Popq_GS)
}

fn is_far_transfer(code: Code) -> bool {
    use Code::*;
    matches!(code, Jmp_m1616 | Jmp_m1632 | Jmp_m1664 | Call_m1616 | Call_m1632 | Call_m1664)
}

/// 0F 0D, PREFETCHW and its like, with a register.
fn is_register_prefetch(code: Code) -> bool {
    matches!(code, Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D | Code::Reservednop_rm64_r64_0F0D)
}

/// A feature the instruction needs and this CPU doesn't have.
pub fn missing_feature(code: Code) -> Option<CpuidFeature> {
    code.cpuid_features().iter().copied().find(|f| !features::supported(*f))
}

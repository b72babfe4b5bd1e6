//! Why instructions have no meaning here: each that isn't planned has a reason. Programs that ask CPUID never meet them.

use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};

/// The reason why an instruction isn't implemented. `None`: not yet.
pub fn reason(code: Code) -> Option<&'static str> {
    if is_assemblers(code) {
        return Some("an assembler's name for WAIT and another instruction, which the decoder gives one by one");
    }
    if has_narrow_target(code) {
        return Some(
            "Intel's processors ignore the operand-size prefix of 64-bit mode's branches: the decoder never gives it",
        );
    }
    if code.encoding() == EncodingKind::MVEX {
        return Some("Xeon Phi's first generation only");
    }
    code.cpuid_features().iter().find_map(|feature| of_feature(*feature))
}

/// FCLEX and its like.
fn is_assemblers(code: Code) -> bool {
    use Mnemonic::*;
    matches!(code.mnemonic(), Fclex | Finit | Fsave | Fstcw | Fstenv | Fstsw | Feni | Fdisi | Fsetpm)
}

/// Near branches with a target of 16 bits.
fn has_narrow_target(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Call_rel16
            | Call_rm16
            | Jmp_rel8_16
            | Jmp_rel16
            | Jmp_rm16
            | Retnw
            | Retnw_imm16
            | Jecxz_rel8_16
            | Jrcxz_rel8_16
            | Loop_rel8_16_ECX
            | Loop_rel8_16_RCX
            | Loope_rel8_16_ECX
            | Loope_rel8_16_RCX
            | Loopne_rel8_16_ECX
            | Loopne_rel8_16_RCX
    ) || code.is_jcc_short_or_near() && format!("{code:?}").ends_with("16")
}

fn of_feature(feature: CpuidFeature) -> Option<&'static str> {
    use CpuidFeature::*;
    Some(match feature {
        D3NOW | D3NOWEXT | CYRIX_D3NOW => "3DNow!: removed from AMD's processors after 2010",
        FMA4 | XOP | TBM | LWP => "AMD's Bulldozer family only: removed from its successors",
        RTM | HLE | HLE_or_RTM | TSXLDTRK => "transactions: removed from processors; CPUID doesn't announce them",
        MPX => "removed from processors and from Linux",
        AVX512ER | AVX512PF | AVX512_4FMAPS | AVX512_4VNNIW | PREFETCHWT1 | KNC => "Xeon Phi only",
        AMX_TILE | AMX_INT8 | AMX_BF16 | AMX_FP16 | AMX_COMPLEX => {
            "beyond x86-64-v4: its tile registers aren't kept; CPUID doesn't announce it"
        }
        AVX512_VP2INTERSECT | AVX_NE_CONVERT | AVX_VNNI_INT8 | AVX_VNNI_INT16 | SHA512 | SM3 | SM4 | CMPCCXADD
        | RAO_INT => "beyond x86-64-v4; CPUID doesn't announce it",
        AESKLE | WIDE_KL | KL => {
            "needs a key that only the operating system can load, which Linux doesn't for programs"
        }
        CET_SS => "shadow stacks are off: it raises #UD",
        PKU => "protection keys are off: it raises #UD",
        UINTR => "user interrupts are off: it raises #UD",
        ENQCMD => "needs a device that the operating system has lent to the process; CPUID doesn't announce it",
        PTWRITE => "CPUID announces no processor trace: it raises #UD",
        CLZERO | MONITORX | RDPRU | MCOMMIT => "AMD's processors only; CPUID doesn't announce it",
        SEV_ES | SMX | SGX1 | VMX | SVM => "for hypervisors and firmware",
        PADLOCK_ACE | PADLOCK_PHE | PADLOCK_PMM | PADLOCK_RNG | PADLOCK_GMI | PADLOCK_UNDOC => {
            "VIA's and Zhaoxin's processors only"
        }
        CYRIX_FPU | CYRIX_SMM | CYRIX_SMINT | CYRIX_SHR | CYRIX_DDI | CYRIX_EMMI | CYRIX_DMI => {
            "processors without 64-bit mode only"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_by_what_it_is() {
        for code in [Code::Finit, Code::Jmp_rel16, Code::Xbegin_rel32, Code::XOP_Vfrczps_xmm_xmmm128, Code::Rdpkru] {
            assert!(reason(code).is_some(), "{code:?}");
        }
        assert!(reason(Code::Jne_rel16).is_some());
        for code in [Code::EVEX_Vpaddb_xmm_k1z_xmm_xmmm128, Code::VEX_Vaddps_xmm_xmm_xmmm128, Code::Jne_rel8_64] {
            assert_eq!(reason(code), None, "{code:?}");
        }
    }
}

//! Register operands: any of a class that the encoding can name.

use iced_x86::{EncodingKind, Instruction, OpCodeOperandKind as K, OpKind, Register};

use super::super::values::Rng;

/// The register at a distance from the first of its class.
pub fn nth(first: Register, n: u64) -> Register {
    Register::try_from(first as usize + n as usize).expect("register classes are contiguous")
}

/// Whether an operand of this kind is a register or memory.
pub fn or_memory(kind: K) -> bool {
    use K::*;
    matches!(
        kind,
        r8_or_mem
            | r16_or_mem
            | r32_or_mem
            | r64_or_mem
            | r32_or_mem_mpx
            | r64_or_mem_mpx
            | mm_or_mem
            | xmm_or_mem
            | ymm_or_mem
            | zmm_or_mem
            | bnd_or_mem_mpx
            | k_or_mem
    )
}

/// A register for operand `n`: now and then the one that an operand before it has.
pub fn any(i: &Instruction, n: u32, kind: K, rng: &mut Rng) -> Option<Register> {
    let evex = i.code().op_code().encoding() == EncodingKind::EVEX;
    let Some((first, count)) = class(kind, evex) else { return fixed(kind, rng) };
    let earlier = rng.below(u64::from(n.max(1))) as u32;
    if n > 0 && i.op_kind(earlier) == OpKind::Register && rng.chance(12) {
        let number = i.op_register(earlier).number() as u64;
        return Some(nth(first, number % count));
    }
    Some(match kind {
        // The first of a group of registers.
        K::xmmp3_vvvv | K::zmmp3_vvvv => nth(first, rng.below(count) & !3),
        K::kp1_reg => nth(first, rng.below(count) & !1),
        _ => nth(first, rng.below(count)),
    })
}

/// The first register of a class, and how many the encoding reaches.
fn class(kind: K, evex: bool) -> Option<(Register, u64)> {
    let vectors = if evex { 32 } else { 16 };
    Some(match kind {
        // AL…BH, SPL…R15B: twenty of them.
        K::r8_or_mem | K::r8_reg | K::r8_opcode => (Register::AL, 20),
        K::r16_or_mem | K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => (Register::AX, 16),
        K::r32_or_mem | K::r32_or_mem_mpx | K::r32_reg | K::r32_reg_mem | K::r32_rm | K::r32_opcode | K::r32_vvvv => {
            (Register::EAX, 16)
        }
        K::r64_or_mem | K::r64_or_mem_mpx | K::r64_reg | K::r64_reg_mem | K::r64_rm | K::r64_opcode | K::r64_vvvv => {
            (Register::RAX, 16)
        }
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmmp3_vvvv => (Register::XMM0, vectors),
        K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv => (Register::YMM0, vectors),
        K::zmm_or_mem | K::zmm_reg | K::zmm_rm | K::zmm_vvvv | K::zmmp3_vvvv => (Register::ZMM0, vectors),
        K::xmm_is4 | K::xmm_is5 => (Register::XMM0, 16),
        K::ymm_is4 | K::ymm_is5 => (Register::YMM0, 16),
        K::k_reg | K::k_rm | K::k_vvvv | K::k_or_mem | K::kp1_reg => (Register::K0, 8),
        K::bnd_reg | K::bnd_or_mem_mpx => (Register::BND0, 4),
        K::mm_or_mem | K::mm_reg | K::mm_rm => (Register::MM0, 8),
        _ => return None,
    })
}

fn fixed(kind: K, rng: &mut Rng) -> Option<Register> {
    Some(match kind {
        K::al => Register::AL,
        K::cl => Register::CL,
        K::ax => Register::AX,
        K::dx => Register::DX,
        K::eax => Register::EAX,
        K::rax => Register::RAX,
        K::st0 => Register::ST0,
        K::sti_opcode => nth(Register::ST0, rng.below(8)),
        K::fs => Register::FS,
        K::gs => Register::GS,
        K::seg_reg => nth(Register::ES, rng.below(6)),
        K::cr_reg => rng.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4, Register::CR8]),
        K::dr_reg => nth(Register::DR0, rng.below(8)),
        _ => return None,
    })
}

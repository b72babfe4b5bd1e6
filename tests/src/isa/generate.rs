//! Makes programs: every encoding form of one instruction code, from iced-x86's operand tables.

mod block;
mod prefixes;

use iced_x86::{Code, Encoder, Instruction, OpCodeOperandKind as K, OpKind, Register};

use super::arena;
use super::case::Program;
use super::values::{Rng, integer};

pub use block::{Block, block, is_well_defined};

/// How many operand choices are tried until one can be encoded (a high-byte register excludes REX, say).
const ATTEMPTS: usize = 60;

/// A program of this one instruction, at any place of the code area; `None` if it can't be encoded.
pub fn single(code: Code, rng: &mut Rng) -> Option<Program> {
    let address = arena::program_address(rng);
    (0..ATTEMPTS).find_map(|_| {
        let bytes = encode(&random_instruction(code, address, rng)?, address)?;
        if rng.chance(25) {
            let varied = prefixes::vary(&bytes, rng);
            if let Some(program) = Program::new(address, varied).filter(|p| is_only(p, code)) {
                return Some(program);
            }
        }
        Program::new(address, bytes).filter(|p| is_only(p, code))
    })
}

/// Whether it is the only instruction of a program that can be run.
fn is_only(program: &Program, code: Code) -> bool {
    program.insns.len() == 1 && program.insns[0].code() == code && lands(program)
}

/// Whether a jump, if it is one, lands on a breakpoint or on itself, and not in its own middle.
fn lands(program: &Program) -> bool {
    let i = &program.insns[0];
    i.op0_kind() != OpKind::NearBranch64 || !program.contains(i.near_branch64())
}

/// The instruction's bytes at an address.
pub fn encode(i: &Instruction, address: u64) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(64);
    encoder.encode(i, address).ok()?;
    Some(encoder.take_buffer())
}

/// The program of these instructions, at an address.
pub fn assemble(address: u64, insns: &[Instruction]) -> Option<Program> {
    let mut bytes = Vec::new();
    for i in insns {
        bytes.extend(encode(i, address + bytes.len() as u64)?);
    }
    Program::new(address, bytes)
}

/// Fills in every operand at random.
fn random_instruction(code: Code, address: u64, rng: &mut Rng) -> Option<Instruction> {
    let info = code.op_code();
    let mut i = Instruction::default();
    i.set_code(code);
    for n in 0..info.op_count() {
        operand(&mut i, n, info.op_kind(n), address, rng)?;
    }
    use iced_x86::Mnemonic::{Enter, Shld, Shrd};
    match code.mnemonic() {
        // Results of counts beyond the width are undefined (Intel SDM vol. 2, SHLD).
        Shld | Shrd
            if i.op2_kind() == OpKind::Immediate8
                && (i.op0_kind() != OpKind::Memory && i.op0_register().size() == 2
                    || i.op0_kind() == OpKind::Memory && i.memory_size().size() == 2) =>
        {
            i.set_immediate8(rng.below(17) as u8 | (rng.next_u64() as u8 & 0xe0));
        }
        // A frame that stays within the data area.
        Enter => i.set_immediate16(rng.below(200) as u16),
        _ => {}
    }
    if code == Code::Int_imm8 && i.immediate8() == 0x80 {
        // A system call of 32-bit programs, not the #GP of the other vectors.
        i.set_immediate8(0x81);
    }
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    if info.can_use_lock_prefix() && i.op0_kind() == OpKind::Memory && rng.chance(40) {
        i.set_has_lock_prefix(true);
    }
    if info.can_use_rep_prefix() && rng.chance(40) {
        i.set_has_rep_prefix(true);
    } else if info.can_use_repne_prefix() && i.is_string_instruction() && rng.chance(50) {
        i.set_has_repne_prefix(true);
    }
    let segmented = memory || (0..i.op_count()).any(|n| is_segmented(i.op_kind(n)));
    if segmented && rng.chance(15) {
        let segments = [Register::FS, Register::GS, Register::FS, Register::GS, Register::DS, Register::SS];
        i.set_segment_prefix(rng.pick(&segments));
    }
    Some(i)
}

/// String operands whose segment a prefix may change.
fn is_segmented(kind: OpKind) -> bool {
    use OpKind::*;
    matches!(kind, MemorySegSI | MemorySegESI | MemorySegRSI | MemorySegDI | MemorySegEDI | MemorySegRDI)
}

fn operand(i: &mut Instruction, n: u32, kind: K, address: u64, rng: &mut Rng) -> Option<()> {
    let register_form = rng.chance(45);
    match kind {
        K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem | K::mm_or_mem | K::xmm_or_mem | K::ymm_or_mem
            if !register_form =>
        {
            memory(i, n, rng)
        }
        K::mem => memory(i, n, rng),
        K::mem_offs => memory_offset(i, n, rng),
        K::seg_rSI => set_kind(i, n, rng.pick(&[OpKind::MemorySegRSI, OpKind::MemorySegRSI, OpKind::MemorySegESI])),
        K::es_rDI => set_kind(i, n, rng.pick(&[OpKind::MemoryESRDI, OpKind::MemoryESRDI, OpKind::MemoryESEDI])),
        K::seg_rDI => set_kind(i, n, rng.pick(&[OpKind::MemorySegRDI, OpKind::MemorySegRDI, OpKind::MemorySegEDI])),
        K::seg_rBX_al => {
            i.set_memory_base(rng.pick(&[Register::RBX, Register::EBX]));
            i.set_memory_index(Register::AL);
            set_kind(i, n, OpKind::Memory);
        }
        K::br64_1 | K::br64_4 => {
            let near = address + rng.below(240) - 118;
            let far = arena::landing(rng);
            let target = if kind == K::br64_1 || rng.chance(50) { near } else { far };
            i.set_near_branch64(target);
            set_kind(i, n, OpKind::NearBranch64);
        }
        _ => {
            if let Some(immediate) = immediate_kind(kind, n > 0 && i.op0_kind() == OpKind::Immediate16) {
                set_kind(i, n, immediate);
                i.set_immediate_u64(n, integer(rng));
                if kind == K::imm8_const_1 {
                    i.set_immediate_u64(n, 1);
                }
            } else {
                set_kind(i, n, OpKind::Register);
                i.set_op_register(n, register(kind, rng)?);
            }
        }
    }
    Some(())
}

fn set_kind(i: &mut Instruction, n: u32, kind: OpKind) {
    i.set_op_kind(n, kind);
}

/// `second`: behind another immediate (ENTER).
fn immediate_kind(kind: K, second: bool) -> Option<OpKind> {
    Some(match kind {
        K::imm8 if second => OpKind::Immediate8_2nd,
        K::imm8 | K::imm8_const_1 => OpKind::Immediate8,
        K::imm8sex16 => OpKind::Immediate8to16,
        K::imm8sex32 => OpKind::Immediate8to32,
        K::imm8sex64 => OpKind::Immediate8to64,
        K::imm16 => OpKind::Immediate16,
        K::imm32 => OpKind::Immediate32,
        K::imm32sex64 => OpKind::Immediate32to64,
        K::imm64 => OpKind::Immediate64,
        _ => return None,
    })
}

/// The register at a distance from the first of its class.
fn nth(first: Register, n: u64) -> Register {
    Register::try_from(first as usize + n as usize).expect("register classes are contiguous")
}

fn register(kind: K, rng: &mut Rng) -> Option<Register> {
    Some(match kind {
        // AL…BH, SPL…R15B: twenty of them.
        K::r8_or_mem | K::r8_reg | K::r8_opcode => nth(Register::AL, rng.below(20)),
        K::r16_or_mem | K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => nth(Register::AX, rng.below(16)),
        K::r32_or_mem | K::r32_reg | K::r32_reg_mem | K::r32_rm | K::r32_opcode | K::r32_vvvv => {
            nth(Register::EAX, rng.below(16))
        }
        K::r64_or_mem | K::r64_reg | K::r64_reg_mem | K::r64_rm | K::r64_opcode | K::r64_vvvv => {
            nth(Register::RAX, rng.below(16))
        }
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv => nth(Register::XMM0, rng.below(16)),
        K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv => nth(Register::YMM0, rng.below(16)),
        K::mm_or_mem | K::mm_reg | K::mm_rm => nth(Register::MM0, rng.below(8)),
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

/// `moffs`: an absolute address in the instruction.
fn memory_offset(i: &mut Instruction, n: u32, rng: &mut Rng) {
    set_kind(i, n, OpKind::Memory);
    i.set_memory_displ_size(rng.pick(&[4, 8, 8]));
    i.set_memory_displacement64(arena::target(rng, 8, false) & 0xffff_ffff);
}

/// A ModRM memory operand of any form (Intel SDM vol. 2, tables 2-2 and 2-3).
fn memory(i: &mut Instruction, n: u32, rng: &mut Rng) {
    set_kind(i, n, OpKind::Memory);
    let narrow = rng.chance(12);
    let first = if narrow { Register::EAX } else { Register::RAX };
    let width = if narrow { 4 } else { 8 };
    let index = |rng: &mut Rng| loop {
        let r = rng.below(16);
        if r != 4 {
            break nth(first, r);
        }
    };
    let absolute = arena::target(rng, 16, false) & 0x7fff_ffff;
    match rng.below(10) {
        0 => {
            i.set_memory_base(if narrow { Register::EIP } else { Register::RIP });
            displace(i, width, arena::DATA + absolute % arena::DATA_LEN as u64);
        }
        1 => displace(i, width, absolute),
        2 => {
            i.set_memory_index(index(rng));
            i.set_memory_index_scale(1 << rng.below(4));
            displace(i, width, displacement32(rng));
        }
        3 | 4 => {
            i.set_memory_base(nth(first, rng.below(16)));
            i.set_memory_index(index(rng));
            i.set_memory_index_scale(1 << rng.below(4));
            displace_any(i, width, rng);
        }
        _ => {
            i.set_memory_base(nth(first, rng.below(16)));
            displace_any(i, width, rng);
        }
    }
    if narrow {
        i.set_memory_displacement64(i.memory_displacement64() & 0xffff_ffff);
    }
}

fn displace(i: &mut Instruction, size: u32, displacement: u64) {
    i.set_memory_displ_size(size);
    i.set_memory_displacement64(displacement);
}

fn displacement32(rng: &mut Rng) -> u64 {
    integer(rng) as i32 as u64
}

fn displace_any(i: &mut Instruction, width: u32, rng: &mut Rng) {
    match rng.below(3) {
        0 => displace(i, 0, 0),
        1 => displace(i, 1, integer(rng) as i8 as u64),
        _ => displace(i, width, displacement32(rng)),
    }
}

//! Makes programs: every encoding form of one instruction code, from iced-x86's operand tables.

mod block;
mod evex;
mod memory;
mod prefixes;
mod registers;

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
        let bytes = encode_any(&random_instruction(code, address, rng)?, address, rng)?;
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

/// As [`encode`], with any value in the bits of VEX and EVEX prefixes that the instruction ignores, and in the longer form
/// of VEX prefixes now and then.
fn encode_any(i: &Instruction, address: u64, rng: &mut Rng) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(64);
    encoder.set_prevent_vex2(rng.chance(30));
    encoder.set_vex_wig(rng.below(2) as u32);
    encoder.set_vex_lig(rng.below(2) as u32);
    encoder.set_evex_wig(rng.below(2) as u32);
    encoder.set_evex_lig(rng.below(3) as u32);
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
    evex::decorate(&mut i, info, rng);
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
    match kind {
        _ if registers::or_memory(kind) && rng.chance(55) => memory::any(i, n, rng),
        K::mem | K::mem_mpx | K::mem_mib | K::sibmem => memory::any(i, n, rng),
        K::mem_offs => memory::offset(i, n, rng),
        _ if memory::vector_index(kind).is_some() => memory::vsib(i, n, kind, rng)?,
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
                match kind {
                    K::imm8_const_1 => i.set_immediate_u64(n, 1),
                    K::imm4_m2z => i.set_immediate_u64(n, rng.below(4)),
                    _ => {}
                }
            } else {
                set_kind(i, n, OpKind::Register);
                i.set_op_register(n, registers::any(i, n, kind, rng)?);
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
        K::imm8 | K::imm8_const_1 | K::imm4_m2z => OpKind::Immediate8,
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

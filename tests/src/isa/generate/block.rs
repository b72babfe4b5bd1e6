//! Straight-line programs of several instructions.
//!
//! Two registers and the stack pointer point into the data area and stay so: nothing else addresses memory, and no
//! instruction that writes them is taken. Flags and results that an instruction leaves undefined are never read.

use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpCodeOperandKind, OpKind, Register,
};

use super::memory::{displace, vector_index};
use super::{ATTEMPTS, assemble, random_instruction, set_kind};
use crate::isa::arena;
use crate::isa::case::Program;
use crate::isa::compare::{is_approximate_code, undefined_after};
use crate::isa::values::Rng;
use crate::isa::x87_states::is_transcendental;

/// Instructions in a block.
const LENGTHS: std::ops::RangeInclusive<u64> = 5..=30;

/// A program and the registers that point into the data area.
pub struct Block {
    pub program: Program,
    pub pointers: [Register; 2],
}

/// A block of these instructions; `None` if hardly any of them can be used in one.
pub fn block(codes: &[Code], rng: &mut Rng) -> Option<Block> {
    let address = arena::program_address(rng);
    let pointers = pointers(rng);
    let wanted = LENGTHS.start() + rng.below(LENGTHS.end() - LENGTHS.start() + 1);
    let mut insns = Vec::new();
    let mut undefined = 0;
    for _ in 0..wanted * 4 {
        if insns.len() as u64 == wanted {
            break;
        }
        let Some(i) = member(rng.pick(codes), pointers, rng) else { continue };
        if i.rflags_read() & undefined == 0 {
            undefined = undefined_after(&i, undefined);
            insns.push(i);
        }
    }
    if insns.len() < 2 {
        return None;
    }
    if let Some(last) = (0..ATTEMPTS).find_map(|_| terminator(rng.pick(codes), address, rng))
        && last.rflags_read() & undefined == 0
    {
        insns.push(last);
    }
    Some(Block { program: assemble(address, &insns)?, pointers })
}

/// Whether no instruction reads a flag that one before it left undefined.
pub fn is_well_defined(insns: &[Instruction]) -> bool {
    let mut undefined = 0;
    insns.iter().all(|i| {
        let good = i.rflags_read() & undefined == 0;
        undefined = undefined_after(i, undefined);
        good
    })
}

fn pointers(rng: &mut Rng) -> [Register; 2] {
    use Register::*;
    const FREE: [Register; 11] = [RBX, RBP, RSI, RDI, R8, R9, R10, R12, R13, R14, R15];
    loop {
        let pair = [rng.pick(&FREE), rng.pick(&FREE)];
        if pair[0] != pair[1] {
            return pair;
        }
    }
}

/// A jump, a conditional jump or a call to somewhere else.
fn terminator(code: Code, address: u64, rng: &mut Rng) -> Option<Instruction> {
    let near = [OpCodeOperandKind::br64_4];
    if code.op_code().op_kinds() != near || code.mnemonic() == Mnemonic::Xbegin {
        return None;
    }
    let mut i = Instruction::default();
    i.set_code(code);
    set_kind(&mut i, 0, OpKind::NearBranch64);
    // In front of the block: behind it, the block's own length isn't known yet.
    let target = arena::CODE + rng.below(address - arena::CODE - 16);
    i.set_near_branch64(target);
    Some(i)
}

/// An instruction that can stand in a block.
fn member(code: Code, pointers: [Register; 2], rng: &mut Rng) -> Option<Instruction> {
    if !suits(code) {
        return None;
    }
    // The address matters to jumps and rip-relative operands only, which blocks don't have.
    let mut i = random_instruction(code, arena::CODE, rng)?;
    if (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory) {
        aim(&mut i, pointers, rng);
    }
    i.set_has_rep_prefix(false);
    i.set_has_repne_prefix(false);
    let program = assemble(arena::CODE, &[i])?;
    let i = program.insns[0];
    (i.code() == code && keeps(&i, pointers)).then_some(i)
}

/// What a block can't have, for its place in the middle of one, its accesses, or its inexact results.
fn suits(code: Code) -> bool {
    use Mnemonic::*;
    let info = code.op_code();
    let excluded = matches!(
        code.mnemonic(),
        Enter
            | Leave
            | Popf
            | Popfd
            | Popfq
            | Xlatb
            | Maskmovq
            | Maskmovdqu
            | Vmaskmovdqu
            | Movdir64b
            | Stmxcsr
            | Ldmxcsr
            | Vstmxcsr
            | Vldmxcsr
            | Fnstenv
            | Fldenv
            | Fldcw
            | Fnstcw
            | Fnstsw
            | Movsxd
            | Emms
            | Clflush
            | Clflushopt
            | Clwb
    ) || is_transcendental(code.mnemonic());
    let strings = [OpCodeOperandKind::seg_rSI, OpCodeOperandKind::es_rDI, OpCodeOperandKind::mem_offs];
    let bit_string = matches!(code.mnemonic(), Bt | Bts | Btr | Btc);
    let wide_shift = matches!(code.mnemonic(), Shld | Shrd) && info.op_kinds().contains(&OpCodeOperandKind::cl);
    let indexes = info.op_kinds().iter().any(|k| vector_index(*k).is_some());
    // Refused without a shadow stack, and nothing but a hint in other cases.
    let shadow = code.cpuid_features().contains(&CpuidFeature::CET_SS);
    !excluded
        && !indexes
        && !shadow
        && !info.is_save_restore()
        && !is_approximate_code(code)
        && !bit_string
        && !wide_shift
        && code.flow_control() == FlowControl::Next
        && !info.is_privileged()
        && !info.op_kinds().iter().any(|k| strings.contains(k))
}

/// Points the memory operand near one of the registers.
fn aim(i: &mut Instruction, pointers: [Register; 2], rng: &mut Rng) {
    let aligned = rng.below(64) * 16;
    let alignment = (i.memory_size().size() as u64).clamp(16, 64);
    let aligned = if rng.chance(90) { aligned & !(alignment - 1) } else { aligned };
    let offset = if rng.chance(70) { aligned } else { aligned + rng.below(16) } as i64 - 512;
    // Locked accesses across a cache line aren't tested.
    let offset = if i.has_lock_prefix() { offset & !15 } else { offset };
    i.set_segment_prefix(Register::None);
    i.set_memory_index(Register::None);
    i.set_memory_base(rng.pick(&pointers));
    // One byte if it fits: for EVEX the encoder sees to that.
    let short = (-128..128).contains(&offset) || i.code().op_code().encoding() == EncodingKind::EVEX;
    displace(i, if short { 1 } else { 8 }, offset as u64);
}

/// Whether the pointers, and the stack pointer but for pushes and pops, stay as they are.
fn keeps(i: &Instruction, pointers: [Register; 2]) -> bool {
    let stack = i.is_stack_instruction()
        && (i.op0_kind() != OpKind::Register || i.op0_register().full_register() != Register::RSP);
    let mut factory = InstructionInfoFactory::new();
    factory.info(i).used_registers().iter().all(|used| {
        let full = used.register().full_register();
        let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        !writes || !pointers.contains(&full) && (stack || full != Register::RSP)
    })
}

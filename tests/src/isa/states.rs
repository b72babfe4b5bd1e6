//! Makes states for a program: registers, flags and memory, with the memory operands pointing where they can be seen.

mod masked;
pub(super) mod saved;
mod vsib;

use iced_x86::{CodeSize, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register, UsedMemory};
use xlate_abi::state::{RAX, RCX, RDX, mxcsr, rflags};
use xlate_x86::decode::repeats;
use xlate_x86::lifter::gpr_of;

use super::arena;
use super::case::{Case, Memory, Program, State, X87};
use super::generate::Block;
use super::values::{self, Lanes, Rng};
use super::x87_states;

/// A case of a program that is one instruction.
pub fn single(program: &Program, rng: &mut Rng) -> Case {
    let i = program.insns[0];
    let lanes = lanes_of(&i);
    let mut state = random_state(program.address, lanes, rng);
    let mut memory = random_memory(rng);
    tame_registers(&i, &mut state, rng);
    if faults_freely(&i) {
        // So that every address register reaches the data area.
        (state.fs_base, state.gs_base) = (0, 0);
    }
    let used = InstructionInfoFactory::new().info(&i).used_memory().to_vec();
    for operand in &used {
        if operand.vsib_size() != 0 {
            vsib::point(&mut state, &i, operand, rng);
            memory
                .patches
                .push((arena::DATA, (0..arena::DATA_LEN / 64).flat_map(|_| random_bytes(64, lanes, rng)).collect()));
            continue;
        }
        let size = operand.memory_size().size() as u64;
        let target = target(&i, operand, size, rng);
        let at = point(&mut state, operand, target, rng);
        if rng.chance(80) {
            memory.patches.push((at.wrapping_sub(16), random_bytes(96, lanes, rng)));
        }
        masked::keep_inside(&i, at, &mut state, rng);
    }
    relate_operands(&i, &used, &mut state, &mut memory, rng);
    if x87_states::uses_x87(program) {
        if let Some(at) = operand_address(&i, &state) {
            x87_states::operand(&i, at, &mut memory, rng);
        }
        state.x87 = x87_states::unit(rng);
    } else if rng.chance(4) {
        // MMX instructions wait for pending exceptions.
        state.x87 = X87 { reg: state.x87.reg, ..x87_states::unit(rng) };
    }
    tame_x87(&i, &mut state);
    Case { program: program.clone(), state, memory }
}

/// Whether it is left to each CPU which of an instruction's accesses fault: for masked-out bytes (Intel SDM vol. 2,
/// MASKMOVDQU), for the two bytes behind those that MOVSXD uses of 16 bits, and for FLDENV's last two, which are
/// reserved. Flushing a line that isn't there is an
/// error on the CPU, and nothing here: no program can mean it.
fn faults_freely(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Maskmovdqu | Vmaskmovdqu | Maskmovq | Movsxd | Fldenv | Clflush | Clflushopt | Clwb)
}

/// Where a memory operand is to point.
fn target(i: &Instruction, operand: &UsedMemory, size: u64, rng: &mut Rng) -> u64 {
    // Which of offset and linear address must be canonical is, in effect, left to each CPU.
    let masked = faults_freely(i);
    let segmented = matches!(operand.segment(), Register::FS | Register::GS);
    let size = saved::size(i).unwrap_or(size);
    loop {
        let target = match masked::target(i, size, rng) {
            Some(target) => target,
            None => arena::target(rng, size, i.has_lock_prefix()),
        };
        if masked && !arena::in_data(target, size.max(4)) || segmented && target >> 32 != 0 {
            continue;
        }
        return target;
    }
}

/// A case of a block.
pub fn block(block: &Block, rng: &mut Rng) -> Case {
    let program = &block.program;
    let mut state = random_state(program.address, None, rng);
    let mut memory = random_memory(rng);
    let middle = arena::DATA + arena::DATA_LEN as u64 / 2;
    let end = arena::DATA + arena::DATA_LEN as u64;
    for register in block.pointers {
        // Near the end now and then, so that an access in the middle of the block faults.
        let place = if rng.chance(8) { end - rng.below(8) * 16 } else { middle + rng.below(32) * 64 };
        state.gpr[gpr_of(register).0] = place;
        memory.patches.push((place - 512, (0..16).flat_map(|_| random_bytes(64, None, rng)).collect()));
    }
    state.gpr[xlate_abi::state::RSP] = middle - 0x800 + rng.below(64) * 8;
    if x87_states::uses_x87(program) {
        state.x87 = x87_states::unit(rng);
    }
    Case { program: program.clone(), state, memory }
}

/// RFLAGS.NT, which means nothing in 64-bit mode until IRET.
const NESTED_TASK: u64 = 1 << 14;

/// What an instruction takes the lanes of its memory operand for, if that is a kind of number.
fn lanes_of(i: &Instruction) -> Option<Lanes> {
    use iced_x86::MemorySize::*;
    Some(match i.code().op_code().memory_size().element_type() {
        Float16 => Lanes::Half,
        Float32 | BFloat16 => Lanes::Single,
        Float64 => Lanes::Double,
        _ => return None,
    })
}

/// Lanes that fit an instruction, or any.
fn pick_lanes(fitting: Option<Lanes>, rng: &mut Rng) -> Lanes {
    fitting.filter(|_| rng.chance(60)).unwrap_or_else(|| Lanes::any(rng))
}

/// Registers and flags: vectors fit the lanes, if there are any, more often than not.
pub fn random_state(rip: u64, fitting: Option<Lanes>, rng: &mut Rng) -> State {
    let lanes = pick_lanes(fitting, rng);
    let mixed = rng.chance(40);
    let mut state = State {
        gpr: std::array::from_fn(|_| values::integer(rng)),
        rip,
        rflags: rng.next_u64() & (rflags::STATUS | rflags::DF) | rflags::RESERVED_ONE | rflags::IF,
        vec: std::array::from_fn(|_| {
            let lanes = if mixed { pick_lanes(fitting, rng) } else { lanes };
            values::register(rng, lanes)
        }),
        k: std::array::from_fn(|_| values::mask(rng)),
        mxcsr: mxcsr(rng),
        x87: x87(rng, lanes),
        fs_base: arena::DATA + (values::integer(rng) & 0xfff),
        gs_base: values::integer(rng) & 0x3fff_ffff_ffff,
    };
    // Equal operands.
    for _ in 0..rng.below(3) {
        state.gpr[rng.below(16) as usize] = state.gpr[rng.below(16) as usize];
        state.vec[rng.below(32) as usize] = state.vec[rng.below(32) as usize];
    }
    state
}

/// Every rounding mode, operands and results flushed or not, any flags from before; mostly with all exceptions masked.
fn mxcsr(rng: &mut Rng) -> u32 {
    let rounding = if rng.chance(30) { rng.below(4) as u32 } else { 0 };
    let daz = if rng.chance(25) { mxcsr::DAZ } else { 0 };
    let ftz = if rng.chance(25) { mxcsr::FTZ } else { 0 };
    let flags = if rng.chance(50) { rng.next_u64() as u32 & mxcsr::FLAGS } else { 0 };
    let lowest = mxcsr::MASKS & mxcsr::MASKS.wrapping_neg();
    let masks = match rng.below(24) {
        0 => rng.next_u64() as u32 & mxcsr::MASKS,
        1 | 2 => mxcsr::MASKS & !(lowest << rng.below(6)),
        3 => 0,
        _ => mxcsr::MASKS,
    };
    masks | rounding << 13 | daz | ftz | flags
}

/// MMX registers, mostly as MMX code leaves them (Intel SDM vol. 1, 9.2.3: exponents all ones, top of stack 0), and
/// no x87 exception pending.
fn x87(rng: &mut Rng, lanes: Lanes) -> X87 {
    let mmx = rng.chance(70);
    let exponent = if mmx { 0xffff } else { rng.next_u64() & 0xffff };
    X87 {
        reg: std::array::from_fn(|_| {
            let low = values::vector(rng, lanes) as u64;
            u128::from(exponent) << 64 | u128::from(low)
        }),
        control: 0x37f,
        status: if mmx { 0 } else { (rng.below(8) as u16) << 11 },
        tag: if mmx { 0xff } else { rng.next_u64() as u8 },
        ..X87::INITIAL
    }
}

pub fn random_memory(rng: &mut Rng) -> Memory {
    let mut background = [0; 64];
    // Runs of few byte values make string comparisons go on for a while.
    match rng.below(4) {
        0 => background.fill(rng.next_u64() as u8),
        1 => background.iter_mut().for_each(|b| *b = rng.below(2) as u8),
        _ => background.copy_from_slice(&random_bytes(64, None, rng)),
    }
    Memory { background, patches: Vec::new() }
}

fn random_bytes(n: usize, fitting: Option<Lanes>, rng: &mut Rng) -> Vec<u8> {
    let lanes = pick_lanes(fitting, rng);
    (0..n / 16).flat_map(|_| values::vector(rng, lanes).to_le_bytes()).collect()
}

/// Keeps what steers an instruction in a range where it does something: counts and bit offsets.
fn tame_registers(i: &Instruction, state: &mut State, rng: &mut Rng) {
    use Mnemonic::*;
    let count = if rng.chance(95) { rng.below(40) } else { rng.below(3000) };
    if repeats(i) {
        let garbage = if address_size(i) == 4 { rng.next_u64() << 32 } else { 0 };
        state.gpr[RCX] = count | garbage;
        return;
    }
    match i.mnemonic() {
        Loop | Loope | Loopne | Jcxz | Jecxz | Jrcxz if rng.chance(70) => {
            state.gpr[RCX] = rng.below(3) | if rng.chance(30) { rng.next_u64() << 32 } else { 0 };
        }
        // The offset reaches beyond the operand: some 100 bytes to either side.
        // Results of counts beyond the width are undefined (Intel SDM vol. 2, SHLD).
        Shld | Shrd if i.op2_kind() == OpKind::Register && operand_size(i) == 2 => {
            state.gpr[RCX] = state.gpr[RCX] & !0x1f | rng.below(17);
        }
        Bt | Bts | Btr | Btc if i.op0_kind() == OpKind::Memory && i.op1_kind() == OpKind::Register => {
            let offset = rng.below(1600) as i64 - 800;
            let (n, ty, _) = gpr_of(i.op1_register());
            let keep = !ty.mask();
            state.gpr[n] = state.gpr[n] & keep | offset as u64 & ty.mask();
        }
        _ => {}
    }
}

/// Keeps operands where functions are defined. EMMS leaves the top of the stack alone on Intel's processors and clears it on AMD's.
fn tame_x87(i: &Instruction, state: &mut State) {
    x87_states::tame(i, &mut state.x87);
    if i.mnemonic() == Mnemonic::Emms {
        state.x87.status &= !(7 << 11);
    }
}

fn operand_size(i: &Instruction) -> usize {
    if i.op0_kind() == OpKind::Memory { i.memory_size().size() } else { i.op0_register().size() }
}

/// The address size of a string instruction's operands, in bytes.
fn address_size(i: &Instruction) -> u32 {
    use OpKind::*;
    let narrow = (0..i.op_count()).any(|n| matches!(i.op_kind(n), MemorySegESI | MemorySegEDI | MemoryESEDI));
    if narrow { 4 } else { 8 }
}

/// Sets the registers of a memory operand so that it points at `target`, as far as they allow; gives where it
/// points then.
pub fn point(state: &mut State, m: &UsedMemory, target: u64, rng: &mut Rng) -> u64 {
    let segment = match m.segment() {
        Register::FS => state.fs_base,
        Register::GS => state.gs_base,
        _ => 0,
    };
    let rest = target.wrapping_sub(segment).wrapping_sub(m.displacement());
    let scale = m.scale() as u64;
    let index_value = |state: &State| match m.index() {
        Register::None => 0,
        r => read_register(state, r).wrapping_mul(scale),
    };
    if m.base() != Register::None && !m.base().is_ip() {
        if m.index() != Register::None && m.index() != Register::AL && rng.chance(70) {
            let small = rng.below(64).wrapping_sub(rng.below(2) * 32);
            set_register(state, m.index(), small, rng);
        }
        let value = if m.base().full_register() == m.index().full_register() && m.index() != Register::AL {
            rest / (scale + 1)
        } else {
            rest.wrapping_sub(index_value(state))
        };
        set_register(state, m.base(), value, rng);
    } else if m.index() != Register::None {
        set_register(state, m.index(), rest / scale, rng);
    }
    let base = match m.base() {
        r if r == Register::None || r.is_ip() => 0,
        r => read_register(state, r),
    };
    let offset = base.wrapping_add(index_value(state)).wrapping_add(m.displacement());
    let narrow = m.base().size() == 4 || m.index().size() == 4;
    segment.wrapping_add(if narrow { offset & 0xffff_ffff } else { offset })
}

fn read_register(state: &State, r: Register) -> u64 {
    let (n, ty, high) = gpr_of(r);
    (state.gpr[n] >> if high { 8 } else { 0 }) & ty.mask()
}

/// More bytes than any generated program has: 30 instructions of at most 15 (Intel SDM vol. 2, 2.3.11), and a little.
const LONGEST_PROGRAM: u64 = 512;

/// Writes an address register; the upper half of a 32-bit one is garbage that must not matter.
fn set_register(state: &mut State, r: Register, value: u64, rng: &mut Rng) {
    let (n, ty, _) = gpr_of(r);
    let upper = if ty.bits() == 32 && rng.chance(60) { values::integer(rng) << 32 } else { 0 };
    state.gpr[n] = value & ty.mask() | upper;
}

/// An address for an instruction at a program's end to go to, outside the program: the middle of an instruction is code
/// for the CPU, but not for engines that know the program as a list of instructions.
fn landing(i: &Instruction, rng: &mut Rng) -> u64 {
    let program = i.ip() - LONGEST_PROGRAM..i.next_ip();
    loop {
        let at = arena::landing(rng);
        if !program.contains(&at) {
            return at;
        }
    }
}

/// Makes operands fit each other where random ones hardly ever would: quotients that don't overflow, comparands that
/// are equal, addresses to go to.
fn relate_operands(i: &Instruction, used: &[UsedMemory], state: &mut State, memory: &mut Memory, rng: &mut Rng) {
    use Mnemonic::*;
    match i.mnemonic() {
        Div | Idiv => relate_division(i, state, memory, rng),
        Cmpxchg | Cmpxchg8b | Cmpxchg16b if rng.chance(50) => relate_comparand(i, state, memory),
        Jmp | Call if i.op0_kind() != OpKind::NearBranch64 => {
            set_operand(i, state, memory, landing(i, rng));
        }
        Ret => {
            let bytes = landing(i, rng).to_le_bytes();
            memory.patches.push((state.gpr[xlate_abi::state::RSP], bytes.to_vec()));
        }
        // A single step or an alignment check would be the tracer's business, not the instruction's.
        Popf | Popfd | Popfq => {
            let value = rng.next_u64() & !(rflags::TF | rflags::AC | NESTED_TASK);
            memory.patches.push((state.gpr[xlate_abi::state::RSP], value.to_le_bytes().to_vec()));
        }
        Fxrstor | Fxrstor64 => {
            let Some(at) = operand_address(i, state).filter(|_| rng.chance(90)) else { return };
            // Any x87 state; an MXCSR that doesn't raise anything later (Intel SDM vol. 1, table 10-2).
            let x = x87_states::unit(rng);
            let control =
                [x.control.to_le_bytes(), x.status.to_le_bytes(), [x.tag, 0], x.opcode.to_le_bytes()].concat();
            memory.patches.push((at, random_bytes(512, None, rng)));
            memory.patches.push((at, control));
            // FIP and FDP: what isn't canonical becomes so, and for what width depends on the CPU.
            memory.patches.push((at + 8, x.instruction.to_le_bytes().to_vec()));
            memory.patches.push((at + 16, x.operand.to_le_bytes().to_vec()));
            memory.patches.push((at + 24, mxcsr(rng).to_le_bytes().to_vec()));
        }
        Ldmxcsr | Vldmxcsr => {
            let value = mxcsr(rng);
            if rng.chance(90)
                && let Some(at) = operand_address(i, state)
            {
                memory.patches.push((at, value.to_le_bytes().to_vec()));
            }
        }
        _ if i.code().op_code().is_save_restore() => saved::relate(i, state, memory, rng),
        _ => {}
    }
    let _ = used;
}

/// The address of the ModRM memory operand; none where a vector register has part of it.
pub fn operand_address(i: &Instruction, state: &State) -> Option<u64> {
    let n = (0..i.op_count()).find(|n| i.op_kind(*n) == OpKind::Memory)?;
    i.virtual_address(n, 0, |r, _, _| {
        Some(match r {
            Register::FS => state.fs_base,
            Register::GS => state.gs_base,
            r if r.is_segment_register() => 0,
            r if r.is_vector_register() => return None,
            r => read_register(state, r),
        })
    })
}

/// The address of a memory access that iced-x86 tells of.
pub fn used_address(m: &UsedMemory, state: &State) -> u64 {
    let segment = match m.segment() {
        Register::FS => state.fs_base,
        Register::GS => state.gs_base,
        _ => 0,
    };
    let value = |r| if r == Register::None || r == Register::RIP { 0 } else { read_register(state, r) };
    let index = value(m.index()).wrapping_mul(m.scale() as u64);
    let offset = value(m.base()).wrapping_add(index).wrapping_add(m.displacement());
    let offset = if m.address_size() == CodeSize::Code32 { offset & u64::from(u32::MAX) } else { offset };
    segment.wrapping_add(offset)
}

/// The value of operand 0 before the instruction.
fn operand_value(i: &Instruction, state: &State, memory: &Memory) -> Option<u64> {
    if i.op0_kind() == OpKind::Register {
        return Some(read_register(state, i.op0_register()));
    }
    let bytes = memory.read(operand_address(i, state)?, i.memory_size().size().min(8))?;
    Some(bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
}

fn set_operand(i: &Instruction, state: &mut State, memory: &mut Memory, value: u64) {
    if i.op0_kind() == OpKind::Register {
        state.gpr[gpr_of(i.op0_register()).0] = value;
    } else if let Some(at) = operand_address(i, state) {
        memory.patches.push((at, value.to_le_bytes().to_vec()));
    }
}

/// In most cases a dividend whose quotient fits, at the edge of fitting now and then.
fn relate_division(i: &Instruction, state: &mut State, memory: &Memory, rng: &mut Rng) {
    let Some(divisor) = operand_value(i, state, memory) else { return };
    if rng.chance(25) {
        return;
    }
    let bits = i.op0_register().size().max(i.memory_size().size()) as u32 * 8;
    let signed = i.mnemonic() == Mnemonic::Idiv;
    let shift = 64 - bits;
    let quotient = values::integer(rng);
    let dividend = if signed {
        let divisor = i128::from((divisor << shift) as i64 >> shift);
        let quotient = i128::from((quotient << shift) as i64 >> shift);
        let remainder = rng.next_u64() as i128 % divisor.max(1);
        (quotient * divisor + remainder) as u128
    } else {
        let divisor = u128::from(divisor);
        let quotient = u128::from(quotient << shift >> shift);
        quotient * divisor + u128::from(rng.next_u64()) % divisor.max(1)
    };
    let mask = u64::MAX >> shift;
    let (low, high) = (dividend as u64 & mask, (dividend >> bits) as u64 & mask);
    if bits == 8 {
        state.gpr[RAX] = state.gpr[RAX] & !0xffff | high << 8 | low;
    } else {
        state.gpr[RAX] = state.gpr[RAX] & !mask | low;
        state.gpr[RDX] = state.gpr[RDX] & !mask | high;
    }
}

fn relate_comparand(i: &Instruction, state: &mut State, memory: &Memory) {
    let size = i.memory_size().size();
    if i.op0_kind() == OpKind::Register {
        let v = read_register(state, i.op0_register());
        let (_, ty, _) = gpr_of(i.op0_register());
        state.gpr[RAX] = state.gpr[RAX] & !ty.mask() | v;
        return;
    }
    let Some(bytes) = operand_address(i, state).and_then(|at| memory.read(at, size)) else { return };
    let part = |b: &[u8]| b.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
    let merge =
        |old: u64, b: &[u8]| if b.len() == 8 { part(b) } else { old >> (b.len() * 8) << (b.len() * 8) | part(b) };
    if i.mnemonic() == Mnemonic::Cmpxchg {
        state.gpr[RAX] = merge(state.gpr[RAX], &bytes);
    } else {
        state.gpr[RAX] = merge(state.gpr[RAX], &bytes[..size / 2]);
        state.gpr[RDX] = merge(state.gpr[RDX], &bytes[size / 2..]);
    }
}

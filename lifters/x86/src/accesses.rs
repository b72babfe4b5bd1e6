//! What an instruction accesses in memory, and where, given the registers: for faults and alignment checks.

use iced_x86::{Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, Register, UsedMemory};
use xlate_abi::state::CpuState;

use crate::vector::gather::next_lane;

/// A memory operand, or what an instruction accesses implicitly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub start: u64,
    /// In bytes. A state's area counts as FXSAVE's.
    pub size: u64,
    /// It writes, maybe besides reading.
    pub writes: bool,
    pub in_stack_segment: bool,
    /// What the address is a multiple of where alignment is checked.
    pub alignment: u64,
}

impl Access {
    /// The address of the last byte.
    pub fn last(&self) -> u64 {
        self.start.wrapping_add(self.size - 1)
    }

    /// Whether this byte belongs to it.
    pub fn contains(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.start) < self.size
    }
}

/// What the instruction accesses with these registers: one step of it if it is repeated, the next lane if it is a gather or
/// scatter.
pub fn of(i: &Instruction, state: &CpuState) -> Vec<Access> {
    let mut factory = InstructionInfoFactory::new();
    factory
        .info(i)
        .used_memory()
        .iter()
        .filter(|m| !matches!(m.access(), OpAccess::None | OpAccess::NoMemAccess))
        .filter_map(|m| access(i, m, state))
        .collect()
}

fn access(i: &Instruction, m: &UsedMemory, state: &CpuState) -> Option<Access> {
    const LARGEST: u64 = 512;
    let lane = if m.index().is_vector_register() { next_lane(i, state)? } else { 0 };
    let start = m.virtual_address(lane.into(), |r, lane, size| {
        Some(if r.is_vector_register() { vector_lane(state, r, lane, size) } else { register(i, r, state) })
    })?;
    let writes =
        matches!(m.access(), OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite);
    let size = match kind(i, m).size() {
        0 => LARGEST,
        size => size as u64,
    };
    Some(Access { start, size, writes, in_stack_segment: is_in_stack_segment(m), alignment: alignment(i, m) })
}

/// An index of a gather or scatter.
fn vector_lane(state: &CpuState, r: Register, lane: usize, size: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&state.vec[r.number()][lane * size..][..size]);
    u64::from_le_bytes(bytes)
}

/// What is accessed: of a repeated instruction, one element.
fn kind(i: &Instruction, m: &UsedMemory) -> MemorySize {
    if i.is_string_instruction() { i.memory_size() } else { m.memory_size() }
}

fn register(i: &Instruction, r: Register, state: &CpuState) -> u64 {
    match r {
        Register::FS => state.fs_base,
        Register::GS => state.gs_base,
        Register::RIP | Register::EIP => i.next_ip(),
        r if r.is_gpr() => {
            let high = matches!(r, Register::AH | Register::CH | Register::DH | Register::BH);
            let v = state.gpr[r.full_register().number()] >> if high { 8 } else { 0 };
            v & u64::MAX >> (64 - 8 * r.size())
        }
        _ => 0,
    }
}

/// Whether an operand is in SS: by its base register, because the prefixes of the flat segments mean nothing (SDM vol. 1,
/// 3.7.4).
fn is_in_stack_segment(m: &UsedMemory) -> bool {
    !matches!(m.segment(), Register::FS | Register::GS)
        && matches!(m.base().full_register(), Register::RSP | Register::RBP)
}

/// SDM vol. 3, table 6-7. Vectors that may be anywhere aren't checked.
fn alignment(i: &Instruction, m: &UsedMemory) -> u64 {
    if matches!(i.mnemonic(), Mnemonic::Maskmovdqu | Mnemonic::Maskmovq) {
        return 8;
    }
    match kind(i, m) {
        MemorySize::Float80 | MemorySize::Bcd => 8,
        MemorySize::FpuEnv14 | MemorySize::FpuState94 => 2,
        MemorySize::FpuEnv28 | MemorySize::FpuState108 => 4,
        size => match size.size() {
            n @ (2 | 4 | 8) => n as u64,
            _ => 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};
    use xlate_abi::state::{RAX, RBP, RSP};

    fn decoded(bytes: &[u8]) -> Instruction {
        Decoder::new(64, bytes, DecoderOptions::NONE).decode()
    }

    #[test]
    fn the_stack_segment_goes_by_the_base() {
        let stack = |bytes: &[u8]| {
            of(&decoded(bytes), &CpuState::default()).iter().map(|a| a.in_stack_segment).collect::<Vec<_>>()
        };
        // mov ecx, [rbp]; the same with DS's prefix, with FS's; mov ecx, [r13]; [rax+rbp]; push rax; leave; lea.
        assert_eq!(stack(&[0x8b, 0x4d, 0]), [true]);
        assert_eq!(stack(&[0x3e, 0x8b, 0x4d, 0]), [true]);
        assert_eq!(stack(&[0x64, 0x8b, 0x4d, 0]), [false]);
        assert_eq!(stack(&[0x41, 0x8b, 0x4d, 0]), [false]);
        assert_eq!(stack(&[0x8b, 0x0c, 0x28]), [false]);
        assert_eq!(stack(&[0x50]), [true]);
        assert_eq!(stack(&[0xc9]), [true]);
        assert!(stack(&[0x48, 0x8d, 0x4d, 0]).is_empty());
    }

    #[test]
    fn addresses_come_from_the_registers() {
        let mut state = CpuState { fs_base: 0x7000, ..CpuState::default() };
        state.gpr[RAX] = 0x1_0000_0100;
        (state.gpr[RSP], state.gpr[RBP]) = (0x5000, 0x6000);
        let one = |bytes: &[u8]| {
            let a = of(&decoded(bytes), &state)[0];
            (a.start, a.size, a.writes, a.alignment)
        };
        // mov ecx, [rax+rax*2+1]; fs mov [eax], cx; push rax; fstp tbyte [rax]; movups [rax], xmm0; add [rax], ecx.
        assert_eq!(one(&[0x8b, 0x4c, 0x40, 1]), (0x3_0000_0301, 4, false, 4));
        assert_eq!(one(&[0x64, 0x67, 0x66, 0x89, 0x08]), (0x7100, 2, true, 2));
        assert_eq!(one(&[0x50]), (0x4ff8, 8, true, 8));
        assert_eq!(one(&[0xdb, 0x38]), (0x1_0000_0100, 10, true, 8));
        assert_eq!(one(&[0x0f, 0x11, 0x00]), (0x1_0000_0100, 16, true, 1));
        assert_eq!(one(&[0x01, 0x08]), (0x1_0000_0100, 4, true, 4));
        // rep stosw
        assert_eq!(one(&[0xf3, 0x66, 0xab]), (0, 2, true, 2));
    }
}

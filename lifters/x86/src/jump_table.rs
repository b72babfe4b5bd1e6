//! Jumps through a table in memory, as compilers make them of a `switch` or of labels as values: what a block's code
//! says of the table and its index.
//!
//! Followed are the few forms in use: an absolute address is loaded and jumped to (`jmp *table(,%rax,8)`, or by way of
//! a register), or a distance is loaded and added to an address (`movslq (%rdx,%rax,4),%rax; add %rdx,%rax; jmp *%rax`).

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::decode::{Block, BlockEnd};

/// An address: a constant, or a distance from what a register holds where the block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The general-purpose register's number.
    pub base: Option<usize>,
    pub offset: u64,
}

impl Place {
    const fn fixed(offset: u64) -> Self {
        Self { base: None, offset }
    }

    /// The address where the base register holds this.
    pub fn at(self, base: u64) -> u64 {
        match self.base {
            Some(_) => base.wrapping_add(self.offset),
            None => self.offset,
        }
    }
}

/// A load from a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    /// The address of the instruction.
    ip: u64,
    table: Place,
    index: usize,
}

/// What a block's last jump reads from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableJump {
    /// The address of the instruction that reads the entry.
    pub read_at: u64,
    /// The general-purpose register that holds the entry's index before it.
    pub index: usize,
    pub table: Place,
    /// What the entries are distances from, in signed 32 bits; else they are addresses, of 64.
    pub relative_to: Option<Place>,
    /// The general-purpose registers that hold the jump's target at the end, as a mask.
    pub holds: u16,
}

impl TableJump {
    /// The table that a block's end jumps through, if it does so in a form that is followed.
    pub fn of(block: &Block) -> Option<Self> {
        let last = block.insns.last().filter(|_| block.exit == BlockEnd::Terminator)?;
        if last.raw.flow_control() != FlowControl::IndirectBranch {
            return None;
        }
        let mut trace = Trace::new();
        let (before, jump) = block.insns.split_at(block.insns.len() - 1);
        before.iter().for_each(|insn| trace.follow(&insn.raw));
        let target = match jump[0].raw.op0_kind() {
            OpKind::Register => trace.register(jump[0].raw.op0_register())?,
            _ => trace.load(&jump[0].raw, 8).map(Value::Address)?,
        };
        let (load, relative_to) = match target {
            Value::Address(load) => (load, None),
            Value::Sum(load, from) => (load, Some(from)),
            _ => return None,
        };
        let holds = |n: &usize| trace.registers[*n] == target;
        let holds = (0..16).filter(holds).fold(0, |mask, n| mask | 1 << n);
        let found = Self { read_at: load.ip, index: load.index, table: load.table, relative_to, holds };
        found.has_one_base().then_some(found)
    }

    fn has_one_base(&self) -> bool {
        match (self.table.base, self.relative_to.and_then(|from| from.base)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    /// The register that addresses depend on: general-purpose, by number.
    pub fn base(&self) -> Option<usize> {
        self.table.base.or_else(|| self.relative_to?.base)
    }

    /// Bytes of an entry.
    pub fn entry_size(&self) -> usize {
        if self.relative_to.is_some() { 4 } else { 8 }
    }

    /// Where the entries of a table in memory lead; `base` is what the base register holds.
    pub fn targets(&self, base: u64, table: &[u8]) -> Vec<u64> {
        match self.relative_to {
            Some(from) => {
                let (entries, _) = table.as_chunks::<4>();
                let distance = |entry: &[u8; 4]| i64::from(i32::from_le_bytes(*entry)) as u64;
                entries.iter().map(|entry| from.at(base).wrapping_add(distance(entry))).collect()
            }
            None => table.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry)).collect(),
        }
    }
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Unknown,
    Place(Place),
    /// An entry of 64 bits.
    Address(Load),
    /// An entry of 32 bits, sign-extended.
    Distance(Load),
    Sum(Load, Place),
}

/// What the general-purpose registers hold on the way through a block.
struct Trace {
    registers: [Value; 16],
    factory: InstructionInfoFactory,
}

impl Trace {
    fn new() -> Self {
        let registers = core::array::from_fn(|n| Value::Place(Place { base: Some(n), offset: 0 }));
        Self { registers, factory: InstructionInfoFactory::new() }
    }

    fn register(&self, r: Register) -> Option<Value> {
        r.is_gpr64().then(|| self.registers[r.number()])
    }

    fn follow(&mut self, i: &Instruction) {
        let result = self.result(i);
        for used in self.factory.info(i).used_registers() {
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            let register = used.register().full_register();
            if written && register.is_gpr64() {
                self.registers[register.number()] = Value::Unknown;
            }
        }
        if let Some(value) = result {
            self.registers[i.op0_register().full_register().number()] = value;
        }
    }

    /// What an instruction leaves in its first operand, a register, where that is followed.
    fn result(&self, i: &Instruction) -> Option<Value> {
        let to = i.op0_register();
        if i.op0_kind() != OpKind::Register || !(to.is_gpr64() || to.is_gpr32()) {
            return None;
        }
        match (i.mnemonic(), i.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) if to.is_gpr64() => self.register(i.op1_register()),
            // Non-negative 32-bit constants, or 64-bit ones: both clear or fill the rest.
            (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64) => {
                Some(Value::Place(Place::fixed(i.immediate(1))))
            }
            (Mnemonic::Mov, OpKind::Memory) if to.is_gpr64() => self.load(i, 8).map(Value::Address),
            (Mnemonic::Movsxd, OpKind::Memory) if to.is_gpr64() => self.load(i, 4).map(Value::Distance),
            (Mnemonic::Lea, OpKind::Memory) if to.is_gpr64() && i.memory_index() == Register::None => {
                self.place(i).map(Value::Place)
            }
            (Mnemonic::Add, OpKind::Register) if to.is_gpr64() => {
                match (self.register(to)?, self.register(i.op1_register())?) {
                    (Value::Distance(load), Value::Place(from)) | (Value::Place(from), Value::Distance(load)) => {
                        Some(Value::Sum(load, from))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The entry of so many bytes that an instruction's memory operand stands for.
    fn load(&self, i: &Instruction, size: u32) -> Option<Load> {
        let index = i.memory_index();
        let scaled = i.memory_index_scale() == size && i.memory_size().size() == size as usize;
        if !index.is_gpr64() || !scaled {
            return None;
        }
        Some(Load { ip: i.ip(), table: self.place(i)?, index: index.number() })
    }

    /// The address of an instruction's memory operand without its index.
    fn place(&self, i: &Instruction) -> Option<Place> {
        if i.segment_prefix() != Register::None {
            return None;
        }
        let displacement = i.memory_displacement64();
        match i.memory_base() {
            // iced-x86 adds RIP to the displacement.
            Register::None | Register::RIP => Some(Place::fixed(displacement)),
            base => match self.register(base)? {
                Value::Place(p) => Some(Place { offset: p.offset.wrapping_add(displacement), ..p }),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{SliceSource, decode_block};

    const PC: u64 = 0x40_1000;

    fn of(code: &[u8]) -> Option<TableJump> {
        TableJump::of(&decode_block(&SliceSource { address: PC, bytes: code }, PC, 64, false))
    }

    const RAX: usize = 0;
    const RDX: usize = 2;

    #[test]
    fn distances_from_a_table_named_in_the_block() {
        // lea rdx, [rip+0x1000]; movsxd rax, [rdx+rax*4]; add rax, rdx; notrack jmp rax
        let code =
            [&[0x48, 0x8d, 0x15, 0x00, 0x10, 0, 0][..], &[0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xd0, 0x3e, 0xff, 0xe0]];
        let found = of(&code.concat()).expect("followed");
        let table = Place::fixed(PC + 7 + 0x1000);
        let expected = TableJump { read_at: PC + 7, index: RAX, table, relative_to: Some(table), holds: 1 << RAX };
        assert_eq!(found, expected);
        assert_eq!((found.base(), found.entry_size()), (None, 4));
        let entries = [(-0x10i32).to_le_bytes(), 0x20i32.to_le_bytes()].concat();
        assert_eq!(found.targets(0, &entries), [table.offset - 0x10, table.offset + 0x20]);
    }

    #[test]
    fn the_base_may_be_a_register_that_came_along() {
        // add rsi, 4; movsxd rcx, [rdx+rax*4-8]; add rdx, rcx; mov rdi, rdx; jmp rdi
        let code = [
            &[0x48, 0x83, 0xc6, 0x04, 0x48, 0x63, 0x4c, 0x82, 0xf8][..],
            &[0x48, 0x01, 0xca, 0x48, 0x89, 0xd7, 0xff, 0xe7],
        ];
        let found = of(&code.concat()).expect("followed");
        assert_eq!(found.table, Place { base: Some(RDX), offset: 8u64.wrapping_neg() });
        assert_eq!(found.relative_to, Some(Place { base: Some(RDX), offset: 0 }));
        assert_eq!((found.base(), found.holds), (Some(RDX), 1 << RDX | 1 << 7));
        assert_eq!(found.targets(0x1000, &0x30u32.to_le_bytes()), [0x1030]);
    }

    #[test]
    fn addresses_are_jumped_to_from_memory_or_a_register() {
        // jmp [rax*8+0x500000]
        let direct = of(&[0xff, 0x24, 0xc5, 0x00, 0x00, 0x50, 0x00]).expect("followed");
        let expected =
            TableJump { read_at: PC, index: RAX, table: Place::fixed(0x50_0000), relative_to: None, holds: 0 };
        assert_eq!(direct, expected);
        assert_eq!(direct.targets(0, &0x1234u64.to_le_bytes()), [0x1234]);
        // mov eax, eax; mov rax, [rdx+rax*8]; add rdx, 1; jmp rax
        let loaded = of(&[0x89, 0xc0, 0x48, 0x8b, 0x04, 0xc2, 0x48, 0x83, 0xc2, 0x01, 0xff, 0xe0]).expect("followed");
        assert_eq!((loaded.read_at, loaded.base(), loaded.holds), (PC + 2, Some(RDX), 1 << RAX));
    }

    #[test]
    fn what_is_not_followed_is_none() {
        let cases: [&[u8]; 8] = [
            // jmp rax
            &[0xff, 0xe0],
            // mov rax, [rdx+rax*4]; jmp rax: addresses overlap
            &[0x48, 0x8b, 0x04, 0x82, 0xff, 0xe0],
            // mov rdx, [rsp]; jmp [rdx+rax*8]: the table's address comes from memory
            &[0x48, 0x8b, 0x14, 0x24, 0xff, 0x24, 0xc2],
            // jmp fs:[rdx+rax*8]
            &[0x64, 0xff, 0x24, 0xc2],
            // movsxd rax, [rdx+rax*4]; add rax, rsi; jmp rax: two registers
            &[0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xf0, 0xff, 0xe0],
            // movsxd rax, [rdx+rax*4]; add rax, rdx; inc eax; jmp rax
            &[0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xd0, 0xff, 0xc0, 0xff, 0xe0],
            // mov rax, [rdx+rax*8]; mov al, 1; jmp rax
            &[0x48, 0x8b, 0x04, 0xc2, 0xb0, 0x01, 0xff, 0xe0],
            // call [rax*8+0x500000]
            &[0xff, 0x14, 0xc5, 0x00, 0x00, 0x50, 0x00],
        ];
        for code in cases {
            assert_eq!(of(code), None, "{code:02x?}");
        }
    }
}

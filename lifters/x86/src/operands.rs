//! What operand access needs to know of an instruction, found once at decoding: the interpreter asks at every execution.
//!
//! It is small, for a program's start goes through more instructions than a cache holds: an instruction with its digest takes one
//! line of it.

use iced_x86::{ConditionCode, Instruction, MemorySize, OpKind, Register};

use crate::emitter::Ty;
use crate::lifter::Cc;

/// The number of a general-purpose register as instructions encode it, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GprNumber(u8);

impl GprNumber {
    pub const NONE: Self = Self(u8::MAX);

    /// Of a 32- or 64-bit register, whatever else gives none.
    fn of(r: Register) -> Self {
        if r.is_gpr64() || r.is_gpr32() { Self(gpr_of(r).0 as u8) } else { Self::NONE }
    }

    /// In terms of what it is used for, so that tier 0's forms, which know that there is one, need no bounds check.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 < 16
    }

    #[inline(always)]
    pub fn get(self) -> Option<usize> {
        self.is_some().then_some(usize::from(self.0))
    }
}

/// The digest of an instruction's general-purpose operands.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// The value of the immediate operand as an `i32`, unless it is `wide`. Bytes, for alignment would take more.
    /// x87 instructions, which have none, keep their opcode here.
    imm: [u8; 4],
    /// An immediate that the instruction itself has to be asked for.
    wide: bool,
    /// Widths of the first operands; an immediate has the first operand's. Meaningless for operands of other kinds.
    pub ty: [Ty; 3],
    /// The width of the memory operand, if it is a scalar.
    pub memory: Option<Ty>,
    /// The base and index register. An address relative to RIP has none: its displacement is the whole offset.
    pub base: GprNumber,
    pub index: GprNumber,
    pub scale: u8,
    /// 32-bit addressing.
    pub narrow: bool,
    /// FS or GS where the memory operand is in one of them, else none.
    pub segment: Register,
    /// The condition of a conditional instruction.
    condition: ConditionCode,
}

impl Operands {
    /// Of an instruction without any.
    pub const NONE: Self = Self {
        imm: [0; 4],
        wide: false,
        ty: [Ty::I64; 3],
        memory: None,
        base: GprNumber::NONE,
        index: GprNumber::NONE,
        scale: 1,
        narrow: false,
        segment: Register::None,
        condition: ConditionCode::None,
    };

    pub fn of(i: &Instruction) -> Self {
        let memory = memory_width(i);
        let mut o = Self { memory, condition: i.condition_code(), ..Self::NONE };
        for n in 0..i.op_count() {
            if n < 3 {
                o.ty[n as usize] = width(i, n, memory);
            }
            match i.op_kind(n) {
                OpKind::Memory => o.address(i),
                kind if is_immediate(kind) => o.immediate(i.immediate(n), o.ty[(n as usize).min(2)]),
                _ => {}
            }
        }
        o
    }

    /// The operands of an x87 instruction, with what FOP has of its bytes: the low three bits of the first opcode byte,
    /// then the second (SDM vol. 1, 8.1.9).
    pub fn with_x87_opcode(self, bytes: &[u8]) -> Self {
        let opcode = bytes.iter().position(|b| b & 0xf8 == 0xd8).and_then(|at| bytes.get(at..at + 2));
        let fop = opcode.map_or(0, |b| u16::from_be_bytes([b[0] & 7, b[1]]));
        Self { imm: i32::from(fop).to_ne_bytes(), ..self }
    }

    /// What FOP has of an x87 instruction.
    pub fn x87_opcode(&self) -> u16 {
        i32::from_ne_bytes(self.imm) as u16
    }

    fn address(&mut self, i: &Instruction) {
        if let r @ (Register::FS | Register::GS) = i.memory_segment() {
            self.segment = r;
        }
        if !i.is_ip_rel_memory_operand() {
            self.base = GprNumber::of(i.memory_base());
            self.index = GprNumber::of(i.memory_index());
            self.scale = i.memory_index_scale() as u8;
            self.narrow = is_narrow_address(i);
        }
    }

    fn immediate(&mut self, value: u64, ty: Ty) {
        self.imm = (value as i32).to_ne_bytes();
        self.wide = (self.sign_extended() ^ value) & ty.mask() != 0;
    }

    #[inline(always)]
    fn sign_extended(&self) -> u64 {
        i64::from(i32::from_ne_bytes(self.imm)) as u64
    }

    /// Whether the immediate operand's value stands here.
    #[inline(always)]
    pub fn has_immediate(&self) -> bool {
        !self.wide
    }

    /// The value of an instruction's immediate operand, sign-extended or meant to be cut to its type.
    #[inline(always)]
    pub fn immediate_of(&self, i: &Instruction, op: u32) -> u64 {
        if self.wide { i.immediate(op) } else { self.sign_extended() }
    }

    /// The condition, and whether it is negated.
    #[inline(always)]
    pub fn condition(&self) -> Option<(Cc, bool)> {
        condition(self.condition)
    }
}

fn width(i: &Instruction, op: u32, memory: Option<Ty>) -> Ty {
    match i.op_kind(op) {
        OpKind::Register => GPRS[i.op_register(op) as usize & 0xff].ty,
        OpKind::Memory => memory.unwrap_or(Ty::I64),
        _ if op > 0 => width(i, 0, memory),
        _ => Ty::I64,
    }
}

fn is_immediate(kind: OpKind) -> bool {
    use OpKind::*;
    matches!(
        kind,
        Immediate8
            | Immediate16
            | Immediate32
            | Immediate64
            | Immediate8to16
            | Immediate8to32
            | Immediate8to64
            | Immediate32to64
    )
}

/// The width of a general-purpose memory operand.
pub fn memory_ty(i: &Instruction) -> Ty {
    memory_width(i).unwrap_or_else(|| panic!("{:?} has no scalar memory operand", i.code()))
}

fn memory_width(i: &Instruction) -> Option<Ty> {
    match i.memory_size() {
        MemorySize::Unknown => Some(Ty::I64),
        size => Ty::from_bytes(size.size()),
    }
}

/// Whether the memory operand uses 32-bit addressing.
fn is_narrow_address(i: &Instruction) -> bool {
    let (base, index) = (i.memory_base(), i.memory_index());
    if base == Register::None && index == Register::None {
        return i.memory_displ_size() == 4;
    }
    base.is_gpr32() || index.is_gpr32()
}

/// A condition, and whether it is negated.
#[inline(always)]
fn condition(code: ConditionCode) -> Option<(Cc, bool)> {
    Some(match code {
        ConditionCode::o => (Cc::O, false),
        ConditionCode::no => (Cc::O, true),
        ConditionCode::b => (Cc::B, false),
        ConditionCode::ae => (Cc::B, true),
        ConditionCode::e => (Cc::E, false),
        ConditionCode::ne => (Cc::E, true),
        ConditionCode::be => (Cc::Be, false),
        ConditionCode::a => (Cc::Be, true),
        ConditionCode::s => (Cc::S, false),
        ConditionCode::ns => (Cc::S, true),
        ConditionCode::p => (Cc::P, false),
        ConditionCode::np => (Cc::P, true),
        ConditionCode::l => (Cc::L, false),
        ConditionCode::ge => (Cc::L, true),
        ConditionCode::le => (Cc::Le, false),
        ConditionCode::g => (Cc::Le, true),
        ConditionCode::None => return None,
    })
}

/// Whether it is one of the 32- or 64-bit registers.
#[inline(always)]
pub fn is_named(r: Register, ty: Ty) -> bool {
    let (first, last) = match ty {
        Ty::I64 => (Register::RAX, Register::R15),
        _ => (Register::EAX, Register::R15D),
    };
    (first as u32..=last as u32).contains(&(r as u32))
}

/// Whether it is the lowest byte of a register.
#[inline(always)]
pub fn is_low_byte(r: Register) -> bool {
    let n = r as u32;
    (Register::AL as u32..=Register::BL as u32).contains(&n)
        || (Register::SPL as u32..=Register::R15L as u32).contains(&n)
}

/// What a general-purpose register's name stands for.
#[derive(Clone, Copy)]
struct Gpr {
    number: u8,
    ty: Ty,
    high: bool,
    valid: bool,
}

/// By the register's number in iced-x86, which lists AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8L…, then the
/// 16-, 32- and 64-bit registers. A table, for the interpreter asks at every operand.
static GPRS: [Gpr; 256] = gpr_table();

const fn gpr_table() -> [Gpr; 256] {
    let none = Gpr { number: 0, ty: Ty::I64, high: false, valid: false };
    let mut table = [none; 256];
    let mut n = 0;
    while n < 16 {
        table[Register::RAX as usize + n] = gpr(n, Ty::I64, false);
        table[Register::EAX as usize + n] = gpr(n, Ty::I32, false);
        table[Register::AX as usize + n] = gpr(n, Ty::I16, false);
        n += 1;
    }
    let mut n = 0;
    while n < 20 {
        let number = if n < 4 { n } else { n - 4 };
        table[Register::AL as usize + n] = gpr(number, Ty::I8, n >= 4 && n < 8);
        n += 1;
    }
    table
}

const fn gpr(number: usize, ty: Ty, high: bool) -> Gpr {
    Gpr { number: number as u8, ty, high, valid: true }
}

/// A general-purpose register's number, width, and whether it is AH, CH, DH or BH.
#[inline(always)]
pub fn gpr_of(r: Register) -> (usize, Ty, bool) {
    // Nearly all are wide, and where tier 0 knows which width, a subtraction is all that is left of this.
    let n = r as usize;
    if is_named(r, Ty::I64) {
        return (n - Register::RAX as usize, Ty::I64, false);
    }
    if is_named(r, Ty::I32) {
        return (n - Register::EAX as usize, Ty::I32, false);
    }
    if is_low_byte(r) {
        let n = n - Register::AL as usize;
        return (if n < 4 { n } else { n - 4 }, Ty::I8, false);
    }
    let g = GPRS[r as usize & 0xff];
    assert!(g.valid, "{r:?} is not a general-purpose register");
    (usize::from(g.number), g.ty, g.high)
}

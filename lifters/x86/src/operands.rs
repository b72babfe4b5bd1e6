//! What operand access needs to know of an instruction, found once at decoding: the interpreter asks at every execution.

use iced_x86::{Code, ConditionCode, Instruction, MemorySize, OpKind, Register};

use crate::emitter::Ty;
use crate::lifter::Cc;

/// The digest of an instruction's general-purpose operands.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// The value of the immediate operand, sign-extended.
    pub imm: u64,
    /// The displacement; for addresses relative to RIP the whole offset.
    pub displacement: i64,
    /// Widths of the first operands; an immediate has the first operand's. Meaningless for operands of other kinds.
    pub ty: [Ty; 3],
    /// The width of the memory operand, if it is a scalar.
    pub memory: Option<Ty>,
    /// The base and index register, by encoding number.
    pub base: Option<u8>,
    pub index: Option<u8>,
    pub scale: u8,
    /// 32-bit addressing.
    pub narrow: bool,
    /// FS or GS where the memory operand is in one of them, else none.
    pub segment: Register,
    /// The condition, and whether it is negated.
    pub condition: Option<(Cc, bool)>,
}

impl Operands {
    /// Of an instruction without any.
    pub const NONE: Self = Self {
        imm: 0,
        displacement: 0,
        ty: [Ty::I64; 3],
        memory: None,
        base: None,
        index: None,
        scale: 1,
        narrow: false,
        segment: Register::None,
        condition: None,
    };

    pub fn of(i: &Instruction) -> Self {
        let memory = memory_width(i);
        let number = |r: Register| (r.is_gpr64() || r.is_gpr32()).then(|| gpr_of(r).0 as u8);
        let segment = match i.memory_segment() {
            r @ (Register::FS | Register::GS) => r,
            _ => Register::None,
        };
        let has_memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
        let mut o = Self { memory, segment, condition: condition_of_code(i.code()), ..Self::NONE };
        o.ty = [0, 1, 2].map(|n| if n < i.op_count() { width(i, n, memory) } else { Ty::I64 });
        if let Some(n) = (0..i.op_count()).rev().find(|n| is_immediate(i.op_kind(*n))) {
            o.imm = i.immediate(n);
        }
        if has_memory {
            o.displacement = i.memory_displacement64() as i64;
            if !i.is_ip_rel_memory_operand() {
                o.base = number(i.memory_base());
                o.index = number(i.memory_index());
                o.scale = i.memory_index_scale() as u8;
                o.narrow = is_narrow_address(i);
            }
            if o.narrow && o.base.is_none() && o.index.is_none() {
                o.displacement &= 0xffff_ffff;
            }
        }
        o
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

/// A conditional instruction's condition, and whether it is negated.
fn condition_of_code(code: Code) -> Option<(Cc, bool)> {
    Some(match code.condition_code() {
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
    let g = GPRS[r as usize & 0xff];
    assert!(g.valid, "{r:?} is not a general-purpose register");
    (usize::from(g.number), g.ty, g.high)
}

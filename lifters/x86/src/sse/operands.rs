//! Operands of vector instructions: XMM registers (YMM and ZMM alike), MMX registers, memory.
//!
//! An MMX value is worked on as a 128-bit vector whose high half is zero, so no engine needs 64-bit vectors;
//! writing an MMX register takes the low half of the result.

use core::mem::offset_of;

use iced_x86::{EncodingKind, Instruction, OpKind, Register};
use xlate_abi::state::{CpuState, X87State};

use crate::emitter::{Bin, Emitter, Fty, Lane, Ty, Upper, VTy};
use crate::lifter::Lifter;

/// Whether this is the old encoding: destructive, aligned, leaving the upper bits alone.
pub fn is_legacy(i: &Instruction) -> bool {
    i.code().encoding() == EncodingKind::Legacy
}

/// What the instruction does to the register bits above its width.
pub fn upper(i: &Instruction) -> Upper {
    if is_legacy(i) { Upper::Keep } else { Upper::Zero }
}

/// The operand numbers of a two-source instruction's sources: the legacy form's destination is its first source.
pub fn sources(i: &Instruction) -> (u32, u32) {
    if is_legacy(i) { (0, 1) } else { (1, 2) }
}

/// The number of the only source, or the last of two.
pub fn last_source(i: &Instruction) -> u32 {
    let immediate = matches!(i.op_kind(i.op_count() - 1), OpKind::Immediate8 | OpKind::Immediate8_2nd);
    i.op_count() - 1 - u32::from(immediate)
}

/// The width an operation on this register works in: 128 for MMX, see the module's head.
pub fn bits_of(r: Register) -> u32 {
    (r.size() as u32 * 8).max(128)
}

/// The working width of an instruction whose first operand is a vector register.
pub fn width(i: &Instruction) -> u32 {
    bits_of(i.op0_register())
}

/// The shape of the first operand, divided into these lanes.
pub fn shape(i: &Instruction, lane: Lane) -> VTy {
    VTy { lane, bits: width(i) }
}

/// Integer lanes of this many bits' type.
pub fn lane_of(ty: Ty) -> Lane {
    match ty {
        Ty::I8 => Lane::I8,
        Ty::I16 => Lane::I16,
        Ty::I32 => Lane::I32,
        Ty::I64 => Lane::I64,
    }
}

/// Float lanes of a format.
pub fn float_lane(ty: Fty) -> Lane {
    match ty {
        Fty::F32 => Lane::F32,
        Fty::F64 => Lane::F64,
    }
}

const fn x87_field(offset: usize) -> usize {
    offset_of!(CpuState, x87) + offset
}

fn mmx_offset(r: Register) -> usize {
    x87_field(offset_of!(X87State, reg)) + r.number() * 16
}

/// TOP, in the x87 status word (SDM vol. 1, 8.1.3).
const TOP_MASK: u64 = 7 << 11;

impl<E: Emitter> Lifter<'_, E> {
    /// A 128-bit vector with `v` in its low element and zeros above.
    pub(super) fn zero_extended(&mut self, lane: Lane, v: E::Val) -> E::Vec {
        let zero = self.zero(128);
        self.e.insert(VTy::x128(lane), zero, 0, v)
    }

    /// All zeros.
    pub(super) fn zero(&mut self, bits: u32) -> E::Vec {
        self.e.vconst(&[0; 64][..bits as usize / 8])
    }

    /// All ones.
    pub(super) fn ones(&mut self, bits: u32) -> E::Vec {
        self.e.vconst(&[0xff; 64][..bits as usize / 8])
    }

    /// Any vector register; MMX registers come zero-extended.
    pub(super) fn vector_register(&mut self, r: Register) -> E::Vec {
        if r.is_mm() {
            let v = self.e.state_load(Ty::I64, mmx_offset(r));
            return self.zero_extended(Lane::I64, v);
        }
        self.vreg(r)
    }

    /// Writes the first operand, a vector register.
    pub(super) fn set_vector(&mut self, i: &Instruction, v: E::Vec) {
        let r = i.op0_register();
        if r.is_mm() {
            let low = self.low(Lane::I64, v);
            return self.set_mmx(r, low);
        }
        self.set_vreg(r, v, upper(i));
    }

    /// Writes an MMX register: the x87 register's sign and exponent become ones (SDM vol. 1, 9.6.2).
    pub(super) fn set_mmx(&mut self, r: Register, v: E::Val) {
        self.enter_mmx();
        let ones = self.imm(Ty::I16, 0xffff);
        self.e.state_store(Ty::I64, mmx_offset(r), v);
        self.e.state_store(Ty::I16, mmx_offset(r) + 8, ones);
    }

    /// What every MMX instruction but EMMS does to the x87 unit: TOP 0, all tags valid (SDM vol. 1, 9.5.1).
    pub(super) fn enter_mmx(&mut self) {
        let fsw = x87_field(offset_of!(X87State, fsw));
        let status = self.e.state_load(Ty::I16, fsw);
        let status = self.bin_imm(Bin::And, Ty::I16, status, !TOP_MASK);
        self.e.state_store(Ty::I16, fsw, status);
        self.set_tags(0xff);
    }

    /// The abridged x87 tags: a bit a register in use.
    pub(super) fn set_tags(&mut self, tags: u64) {
        let tags = self.imm(Ty::I8, tags);
        self.e.state_store(Ty::I8, x87_field(offset_of!(X87State, ftw)), tags);
    }

    /// [`Self::enter_mmx`] if the operand is an MMX register: for instructions that read one and write none.
    pub(super) fn enter_mmx_for(&mut self, i: &Instruction, op: u32) {
        if i.op_kind(op) == OpKind::Register && i.op_register(op).is_mm() {
            self.enter_mmx();
        }
    }

    /// A packed operand. Memory of less than 16 bytes is zero-extended; more has to be aligned in the legacy encoding.
    pub(super) fn vector(&mut self, i: &Instruction, op: u32) -> E::Vec {
        if i.op_kind(op) == OpKind::Register {
            return self.vector_register(i.op_register(op));
        }
        let addr = self.ea(i);
        let bytes = i.memory_size().size();
        if let Some(ty) = Ty::from_bytes(bytes) {
            let v = self.load(ty, addr);
            return self.zero_extended(lane_of(ty), v);
        }
        if is_legacy(i) {
            self.require_alignment(addr, bytes as u64);
        }
        self.vload(bytes as u32 * 8, addr)
    }

    /// Both sources of a two-source instruction.
    pub(super) fn two_vectors(&mut self, i: &Instruction) -> (E::Vec, E::Vec) {
        let (a, b) = sources(i);
        let a = self.vector(i, a);
        (a, self.vector(i, b))
    }

    /// The low element of a vector register, or memory of just that size.
    pub(super) fn scalar(&mut self, i: &Instruction, op: u32, lane: Lane) -> E::Val {
        if i.op_kind(op) == OpKind::Register {
            let v = self.vector_register(i.op_register(op));
            return self.low(lane, v);
        }
        let addr = self.ea(i);
        self.load(lane.ty(), addr)
    }

    /// The low element of a vector.
    pub(super) fn low(&mut self, lane: Lane, v: E::Vec) -> E::Val {
        self.e.extract(VTy::x128(lane), v, 0)
    }

    /// Writes the low element of the first operand, the rest coming from the first source
    /// (the destination itself in the legacy encoding).
    pub(super) fn set_scalar(&mut self, i: &Instruction, lane: Lane, v: E::Val) {
        let rest = self.vector(i, sources(i).0);
        let merged = self.e.insert(VTy::x128(lane), rest, 0, v);
        self.set_vector(i, merged);
    }

    /// Shuffles within each 128 bits alike: element `j` of block `k` of the result is element `pick(k, j)` of
    /// the same block of `a` followed by that of `b`.
    pub(super) fn shuffle_blocks(&mut self, ty: VTy, a: E::Vec, b: E::Vec, pick: impl Fn(u32, u32) -> u32) -> E::Vec {
        let per_block = 128 / ty.lane.ty().bits();
        let mut indices = [0; 64];
        for n in 0..ty.lanes() {
            let (block, j) = (n / per_block, n % per_block);
            let from = pick(block, j);
            let source = if from < per_block { from } else { ty.lanes() + from - per_block };
            indices[n as usize] = (source + block * per_block) as u8;
        }
        self.e.shuffle(ty, a, b, &indices[..ty.lanes() as usize])
    }
}

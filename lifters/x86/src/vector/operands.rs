//! Operands of vector instructions: XMM registers (YMM and ZMM alike), MMX registers, memory.
//!
//! An MMX value is worked on as a 128-bit vector whose high half is zero, so no engine needs 64-bit vectors;
//! writing an MMX register takes the low half of the result.
//!
//! EVEX's write mask comes in at three places: a source in memory is loaded by [`Lifter::masked_vector`] or [`Lifter::scalar`],
//! which access only what the mask names; floating-point sources are made [`Lifter::calm`] where it doesn't; and every result
//! is written by one of the `set_` functions, which merge or zero and clear the register above.

use core::mem::offset_of;

use iced_x86::{EncodingKind, Instruction, MemorySize, OpKind, Register};
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

/// The number of lanes that the first operand has, divided like this.
pub fn lanes(i: &Instruction, lane: Lane) -> u32 {
    shape(i, lane).lanes()
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

/// The lanes of a memory operand's elements, as bits.
pub fn element_lane(i: &Instruction) -> Lane {
    Ty::from_bytes(i.memory_size().element_size()).map_or(Lane::I64, lane_of)
}

/// The width of what an element is broadcast to. iced-x86 lists the shapes by width.
fn broadcast_bits(i: &Instruction) -> u32 {
    match i.memory_size() as u32 {
        n if n >= MemorySize::Broadcast512_Int16 as u32 => 512,
        n if n >= MemorySize::Broadcast256_Int16 as u32 => 256,
        _ => 128,
    }
}

/// The width in which an operand, a vector register or memory, is worked on.
pub fn operand_bits(i: &Instruction, op: u32) -> u32 {
    match i.op_kind(op) {
        OpKind::Register => bits_of(i.op_register(op)),
        _ if i.is_broadcast() => broadcast_bits(i),
        _ => (i.memory_size().size() as u32 * 8).max(128),
    }
}

/// One, or a number that is as harmless: lanes of 16 bits may be halves.
fn calm_number(lane: Lane) -> u64 {
    match lane {
        Lane::F32 => u64::from(1f32.to_bits()),
        Lane::F64 => 1f64.to_bits(),
        Lane::I16 => 0x3c00,
        _ => 1,
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

    /// Writes the first operand, a vector register, whose write mask is by these lanes.
    pub(super) fn set_vector(&mut self, i: &Instruction, lane: Lane, v: E::Vec) {
        let r = i.op0_register();
        if r.is_mm() {
            let low = self.low(Lane::I64, v);
            return self.set_mmx(r, low);
        }
        let v = self.merged(i, shape(i, lane), u32::MAX, v);
        self.set_vreg(r, v, upper(i));
    }

    /// The same with a result of so many lanes, zero above: they are zero there whatever the mask is.
    pub(super) fn set_narrow(&mut self, i: &Instruction, lane: Lane, lanes: u32, v: E::Vec) {
        let v = self.merged(i, shape(i, lane), lanes, v);
        self.set_vreg(i.op0_register(), v, upper(i));
    }

    /// Writes the first operand, a vector register or memory.
    pub(super) fn put_vector(&mut self, i: &Instruction, lane: Lane, v: E::Vec) {
        if i.op0_kind() == OpKind::Register {
            return self.set_vector(i, lane, v);
        }
        let ty = VTy { lane, bits: i.memory_size().size() as u32 * 8 };
        let addr = self.ea(i);
        match self.write_mask(i, ty.lanes()) {
            Some(m) => self.store_masked(ty, m, addr, v),
            None => self.vstore(ty.bits, addr, v),
        }
    }

    /// The register's old lanes, or zeros, where the write mask of the first `lanes` lanes isn't set.
    fn merged(&mut self, i: &Instruction, ty: VTy, lanes: u32, v: E::Vec) -> E::Vec {
        if i.op_mask() == Register::None {
            return v;
        }
        let mut bits = self.e.mask_register(i.op_mask().number());
        if lanes < ty.lanes() {
            bits = self.bin_imm(Bin::Or, Ty::I64, bits, u64::MAX << lanes);
        }
        let m = self.e.mask_of_bits(ty.lanes(), bits);
        let rest = if i.zeroing_masking() { self.zero(ty.bits) } else { self.vreg(i.op0_register()) };
        self.e.vselect(ty, m, v, rest)
    }

    /// The write mask, unless it names all lanes.
    pub(super) fn write_mask(&mut self, i: &Instruction, lanes: u32) -> Option<E::Mask> {
        if i.op_mask() == Register::None {
            return None;
        }
        let bits = self.e.mask_register(i.op_mask().number());
        Some(self.e.mask_of_bits(lanes, bits))
    }

    /// Whether the write mask names the low lane.
    pub(super) fn writes_low(&mut self, i: &Instruction) -> Option<E::Cond> {
        if i.op_mask() == Register::None {
            return None;
        }
        let bits = self.e.mask_register(i.op_mask().number());
        Some(self.bit(Ty::I64, bits, 0))
    }

    /// Writes the first operand, a mask register, with the bits that the write mask names.
    pub(super) fn set_mask(&mut self, i: &Instruction, lanes: u32, m: E::Mask) {
        let bits = self.e.mask_bits(lanes, m);
        self.set_mask_bits(i, bits);
    }

    /// The same with bits.
    pub(super) fn set_mask_bits(&mut self, i: &Instruction, mut bits: E::Val) {
        if i.op_mask() != Register::None {
            let named = self.e.mask_register(i.op_mask().number());
            bits = self.bin(Bin::And, Ty::I64, bits, named);
        }
        self.e.set_mask_register(i.op0_register().number(), bits);
    }

    /// A floating-point source with the number one where the write mask isn't set: no operation raises an exception for it.
    pub(super) fn calm(&mut self, i: &Instruction, ty: VTy, v: E::Vec) -> E::Vec {
        let Some(m) = self.write_mask(i, ty.lanes()) else { return v };
        let one = self.imm(ty.lane.ty(), calm_number(ty.lane));
        let ones = self.e.splat(ty, one);
        self.e.vselect(ty, m, v, ones)
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

    /// A packed operand, all of it. Memory of less than 16 bytes is zero-extended; more has to be aligned in the legacy
    /// encoding; an element to be broadcast is.
    pub(super) fn vector(&mut self, i: &Instruction, op: u32) -> E::Vec {
        if i.op_kind(op) == OpKind::Register {
            return self.vector_register(i.op_register(op));
        }
        let addr = self.ea(i);
        let bytes = i.memory_size().size();
        if i.is_broadcast() {
            let lane = element_lane(i);
            let v = self.load(lane.ty(), addr);
            return self.e.splat(VTy { lane, bits: broadcast_bits(i) }, v);
        }
        if let Some(ty) = Ty::from_bytes(bytes) {
            let v = self.load(ty, addr);
            return self.zero_extended(lane_of(ty), v);
        }
        if is_legacy(i) {
            self.require_alignment(addr, bytes as u64);
        }
        self.vload(bytes as u32 * 8, addr)
    }

    /// A packed operand of an instruction whose result has so many lanes, each made of the same lane of the operand (or of the
    /// one that is repeated there): of memory, only what the write mask names is accessed.
    pub(super) fn masked_vector(&mut self, i: &Instruction, op: u32, lanes: u32) -> E::Vec {
        if i.op_kind(op) == OpKind::Register || i.op_mask() == Register::None {
            return self.vector(i, op);
        }
        // Products of bytes, say, are made of several elements each.
        let size = i.memory_size();
        let count = ((size.size() / size.element_size()) as u32).min(lanes);
        let lane = Ty::from_bytes(size.size() / count as usize).map_or(Lane::I64, lane_of);
        let mut bits = self.e.mask_register(i.op_mask().number());
        // An element is wanted if any lane is that repeats it.
        bits = self.bin_imm(Bin::And, Ty::I64, bits, u64::MAX >> (64 - lanes));
        let mut step = lanes / 2;
        while step >= count {
            let upper = self.bin_imm(Bin::Lshr, Ty::I64, bits, step.into());
            bits = self.bin(Bin::Or, Ty::I64, bits, upper);
            step /= 2;
        }
        let addr = self.ea(i);
        let ty = VTy { lane, bits: count * lane.ty().bits() };
        let m = self.e.mask_of_bits(count, bits);
        let v = self.load_masked(ty, m, addr);
        if !i.is_broadcast() {
            return v;
        }
        let x = self.low(lane, v);
        self.e.splat(VTy { lane, bits: broadcast_bits(i) }, x)
    }

    /// Both sources of a two-source instruction.
    pub(super) fn two_vectors(&mut self, i: &Instruction) -> (E::Vec, E::Vec) {
        let (a, b) = sources(i);
        let a = self.vector(i, a);
        (a, self.vector(i, b))
    }

    /// The same with [`Self::masked_vector`].
    pub(super) fn two_masked_vectors(&mut self, i: &Instruction, lanes: u32) -> (E::Vec, E::Vec) {
        let (a, b) = sources(i);
        let a = self.vector(i, a);
        (a, self.masked_vector(i, b, lanes))
    }

    /// Both floating-point sources of a packed instruction.
    pub(super) fn two_float_vectors(&mut self, i: &Instruction, lane: Lane) -> (E::Vec, E::Vec) {
        let ty = shape(i, lane);
        let (a, b) = self.two_masked_vectors(i, ty.lanes());
        (self.calm(i, ty, a), self.calm(i, ty, b))
    }

    /// The low element of a vector register, or memory of just that size, which is accessed if the write mask names the
    /// lane.
    pub(super) fn scalar(&mut self, i: &Instruction, op: u32, lane: Lane) -> E::Val {
        if i.op_kind(op) == OpKind::Register {
            let v = self.vector_register(i.op_register(op));
            return self.low(lane, v);
        }
        let addr = self.ea(i);
        let Some(named) = self.writes_low(i) else { return self.load(lane.ty(), addr) };
        let [v] = self.if_else(named, [lane.ty()], |l| [l.load(lane.ty(), addr)], |l| [l.imm(lane.ty(), 0)]);
        v
    }

    /// A scalar floating-point source, one where the write mask doesn't name it: see [`Self::calm`].
    pub(super) fn calm_scalar(&mut self, i: &Instruction, op: u32, lane: Lane) -> E::Val {
        let v = self.scalar(i, op, lane);
        let Some(named) = self.writes_low(i) else { return v };
        let one = self.imm(lane.ty(), calm_number(lane));
        self.e.select(lane.ty(), named, v, one)
    }

    /// The low element of a vector.
    pub(super) fn low(&mut self, lane: Lane, v: E::Vec) -> E::Val {
        self.e.extract(VTy::x128(lane), v, 0)
    }

    /// Writes the low element of the first operand, the rest coming from the first source
    /// (the destination itself in the legacy encoding).
    pub(super) fn set_scalar(&mut self, i: &Instruction, lane: Lane, v: E::Val) {
        let rest = self.vector(i, sources(i).0);
        self.set_scalar_over(i, lane, v, rest);
    }

    /// The same with the rest from anywhere.
    pub(super) fn set_scalar_over(&mut self, i: &Instruction, lane: Lane, mut v: E::Val, rest: E::Vec) {
        if let Some(named) = self.writes_low(i) {
            let old = if i.zeroing_masking() {
                self.imm(lane.ty(), 0)
            } else {
                let old = self.vreg(i.op0_register());
                self.low(lane, old)
            };
            v = self.e.select(lane.ty(), named, v, old);
        }
        let r = i.op0_register();
        let merged = self.e.insert(VTy::x128(lane), rest, 0, v);
        if r.is_mm() {
            let low = self.low(Lane::I64, merged);
            return self.set_mmx(r, low);
        }
        self.set_vreg(r, merged, upper(i));
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

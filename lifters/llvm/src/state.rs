//! Guest registers and flags inside a region: one stack slot each, which LLVM turns into SSA values, and the
//! accesses to the CPU state in memory.
//!
//! A general-purpose register that the region uses as an address base lives as a pointer, any other as an
//! integer: LLVM reasons about `getelementptr` from one pointer (it forwards a push to its pop, it strides a
//! loop's base), but not about integer sums that become pointers. A vector register that holds single numbers, of which
//! instructions replace the low one, lives as two of them where the host's instructions would clear the other.
//!
//! A vector register lives in a slot as wide as the widest use that the region makes of it. What is above is only ever
//! cleared, and has slots of its own, so that a narrow write doesn't make a wide value.

use core::mem::offset_of;

use iced_x86::RflagsBits;
use inkwell::types::{BasicTypeEnum, IntType, VectorType};
use inkwell::values::{BasicValue, BasicValueEnum, InstructionOpcode, IntValue, PointerValue, VectorValue};
use xlate_abi::state::{CpuState, ExitReason, FlagBytes, FlagOrigin, Helper, VecReg, origin};
use xlate_x86::decode::Flags;
use xlate_x86::emitter::{Flag, Fty, Ty, Upper};
use xlate_x86::lifter::{self, flag_bit};

use crate::emitter::{Llvm, Val};
use crate::ir::{Likely, quads};

/// A set of guest registers and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub gpr: u16,
    /// [`DF`], and [`STATUS`] for the status flags, which go to the CPU state together.
    pub flags: u8,
    /// Vector registers, as wide as the region uses them.
    pub vec: u32,
    /// Their parts above that: bits 128 to 255, and from 256 on.
    pub above: [u32; 2],
    pub masks: u8,
}

impl Registers {
    pub const ALL: Self = Self { gpr: u16::MAX, flags: u8::MAX, vec: u32::MAX, above: [u32::MAX; 2], masks: u8::MAX };

    /// All registers, and these flags.
    pub fn with_flags(live: Flags) -> Self {
        let bit = |flags, bit| if live & flags != 0 { bit } else { 0 };
        Self { flags: bit(RflagsBits::DF, DF) | bit(lifter::STATUS, STATUS), ..Self::ALL }
    }

    /// All registers, and DF.
    pub const WITHOUT_STATUS: Self = Self { flags: DF, ..Self::ALL };

    pub fn intersection(self, other: Self) -> Self {
        Self {
            gpr: self.gpr & other.gpr,
            flags: self.flags & other.flags,
            vec: self.vec & other.vec,
            above: [0, 1].map(|part| self.above[part] & other.above[part]),
            masks: self.masks & other.masks,
        }
    }

    pub fn union(self, other: Self) -> Self {
        Self {
            gpr: self.gpr | other.gpr,
            flags: self.flags | other.flags,
            vec: self.vec | other.vec,
            above: [0, 1].map(|part| self.above[part] | other.above[part]),
            masks: self.masks | other.masks,
        }
    }

    pub fn gprs(self) -> impl Iterator<Item = usize> {
        (0..16).filter(move |n| self.gpr >> n & 1 != 0)
    }

    pub fn vecs(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |n| self.vec >> n & 1 != 0)
    }

    /// The parts above, with their registers.
    fn parts_above(self) -> impl Iterator<Item = (usize, usize)> {
        let parts = (0..2).flat_map(|part| (0..32).map(move |n| (part, n)));
        parts.filter(move |(part, n)| self.above[*part] >> n & 1 != 0)
    }

    fn mask_registers(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |n| self.masks >> n & 1 != 0)
    }
}

/// In [`Registers::flags`].
const DF: u8 = 1;
const STATUS: u8 = 2;

/// The status flags whose truth values stand in slots, with their bits and places in [`origin::BITS`].
const SINGLE: [(Flag, u32); 5] = [(Flag::Cf, 0), (Flag::Af, 4), (Flag::Zf, 6), (Flag::Sf, 7), (Flag::Of, 11)];

/// Flags held in slots: the six of [`Flag`] as truth values, parity as a byte.
const FLAGS: usize = 7;
const PARITY: usize = 1;

/// The status flags by their numbers.
const NUMBERED: [Flags; FLAGS] =
    [RflagsBits::CF, RflagsBits::PF, RflagsBits::AF, RflagsBits::ZF, RflagsBits::SF, RflagsBits::OF, RflagsBits::DF];

/// A flag's byte in [`xlate_abi::state::FlagBytes`].
fn flag_number(flag: Flag) -> usize {
    match flag {
        Flag::Cf => 0,
        Flag::Af => 2,
        Flag::Zf => 3,
        Flag::Sf => 4,
        Flag::Of => 5,
        Flag::Df => 6,
    }
}

/// The parts of what status flags come from, by offset in the CPU state.
const ORIGIN: [(usize, Ty); 3] = {
    let at = offset_of!(CpuState, origin);
    [
        (at + offset_of!(FlagOrigin, word), Ty::I32),
        (at + offset_of!(FlagOrigin, x), Ty::I64),
        (at + offset_of!(FlagOrigin, y), Ty::I64),
    ]
};

const DF_OFFSET: usize = offset_of!(CpuState, flags) + offset_of!(FlagBytes, df);

fn gpr_offset(n: usize) -> usize {
    offset_of!(CpuState, gpr) + n * 8
}

fn vec_offset(n: usize) -> usize {
    offset_of!(CpuState, vec) + n * size_of::<VecReg>()
}

/// The parts of a vector register above what a region uses, by their first bit and width.
const ABOVE: [(u32, u32); 2] = [(128, 128), (256, 256)];

fn above_offset(part: usize, n: usize) -> usize {
    vec_offset(n) + ABOVE[part].0 as usize / 8
}

fn scratch_offset(place: usize) -> usize {
    offset_of!(CpuState, scratch) + place * size_of::<VecReg>()
}

fn mask_offset(n: usize) -> usize {
    offset_of!(CpuState, k) + n * 8
}

/// How the region keeps its registers, known before its first instruction.
#[derive(Clone, Copy, Debug)]
pub struct Facets {
    /// General-purpose registers kept as pointers.
    pub pointers: u16,
    /// Bits kept of each vector register together: the most that an instruction uses.
    pub vec_bits: [u32; 32],
    /// Vector registers, of 128 bits, kept as two numbers of 64.
    pub pairs: u32,
}

/// The slots, made when first used.
pub struct Slots<'c> {
    facets: Facets,
    gpr: [Option<PointerValue<'c>>; 16],
    flags: [Option<PointerValue<'c>>; FLAGS],
    /// The word and the operands of what the status flags come from ([`xlate_abi::state::FlagOrigin`]).
    origin: Option<[PointerValue<'c>; 3]>,
    vec: [Option<PointerValue<'c>>; 32],
    above: [[Option<PointerValue<'c>>; 32]; 2],
    masks: [Option<PointerValue<'c>>; 8],
}

impl Slots<'_> {
    pub fn new(facets: Facets) -> Self {
        Self {
            facets,
            gpr: [None; 16],
            flags: [None; FLAGS],
            origin: None,
            vec: [None; 32],
            above: [[None; 32]; 2],
            masks: [None; 8],
        }
    }

    /// All registers that have a slot: whatever the region reads or writes.
    fn touched(&self) -> Registers {
        let bits = |some: &[Option<PointerValue>]| {
            some.iter().enumerate().fold(0u32, |m, (n, s)| m | u32::from(s.is_some()) << n)
        };
        Registers {
            gpr: bits(&self.gpr) as u16,
            flags: 0,
            vec: bits(&self.vec),
            above: [0, 1].map(|part| bits(&self.above[part])),
            masks: bits(&self.masks) as u8,
        }
    }
}

/// Values of registers, with their numbers.
#[derive(Default)]
pub struct Held<'c> {
    gpr: Vec<(usize, BasicValueEnum<'c>)>,
    vec: Vec<(usize, VectorValue<'c>)>,
}

impl<'c> Held<'c> {
    /// Replaces the values of these vector registers by copies that LLVM doesn't know for such.
    pub fn copy_vectors(&mut self, e: &Llvm<'c>, registers: u32) {
        for (_, v) in self.vec.iter_mut().filter(|(n, _)| registers >> n & 1 != 0) {
            *v = e.copied(*v);
        }
    }
}

impl<'c> Llvm<'c> {
    // ---- slots -------------------------------------------------------------------------------------

    /// A slot of the whole function.
    pub fn alloca(&self, ty: BasicTypeEnum<'c>) -> PointerValue<'c> {
        let here = self.ir.here();
        match self.prologue.get_first_instruction() {
            Some(first) => self.ir.b.position_before(&first),
            None => self.ir.at_end(self.prologue),
        }
        let slot = self.ir.b.build_alloca(ty, "").expect("positioned");
        self.ir.at_end(here);
        slot
    }

    fn gpr_type(&self, n: usize) -> BasicTypeEnum<'c> {
        if self.slots.facets.pointers >> n & 1 != 0 { self.ir.ptr_type().into() } else { self.ir.cx.i64_type().into() }
    }

    fn flag_type(&self, n: usize) -> IntType<'c> {
        if n == PARITY { self.ir.cx.i8_type() } else { self.ir.cx.bool_type() }
    }

    fn vec_type(&self, n: usize) -> VectorType<'c> {
        self.ir.vec_type(quads(self.slots.facets.vec_bits[n]))
    }

    fn is_pair(&self, n: usize) -> bool {
        self.slots.facets.pairs >> n & 1 != 0
    }

    fn gpr_slot(&mut self, n: usize) -> PointerValue<'c> {
        if let Some(slot) = self.slots.gpr[n] {
            return slot;
        }
        let slot = self.alloca(self.gpr_type(n));
        self.slots.gpr[n] = Some(slot);
        slot
    }

    fn flag_slot(&mut self, n: usize) -> PointerValue<'c> {
        if let Some(slot) = self.slots.flags[n] {
            return slot;
        }
        let slot = self.alloca(self.flag_type(n).into());
        self.slots.flags[n] = Some(slot);
        slot
    }

    fn vec_slot(&mut self, n: usize) -> PointerValue<'c> {
        if let Some(slot) = self.slots.vec[n] {
            return slot;
        }
        let slot = self.alloca(self.vec_type(n).into());
        self.slots.vec[n] = Some(slot);
        slot
    }

    fn above_type(&self, part: usize) -> VectorType<'c> {
        self.ir.vec_type(quads(ABOVE[part].1))
    }

    fn above_slot(&mut self, part: usize, n: usize) -> PointerValue<'c> {
        if let Some(slot) = self.slots.above[part][n] {
            return slot;
        }
        let slot = self.alloca(self.above_type(part).into());
        self.slots.above[part][n] = Some(slot);
        slot
    }

    fn mask_slot(&mut self, n: usize) -> PointerValue<'c> {
        if let Some(slot) = self.slots.masks[n] {
            return slot;
        }
        let slot = self.alloca(self.ir.cx.i64_type().into());
        self.slots.masks[n] = Some(slot);
        slot
    }

    /// A vector register's value, in lanes of 64 bits.
    fn load_vec(&self, n: usize, slot: PointerValue<'c>) -> VectorValue<'c> {
        if !self.is_pair(n) {
            return self.ir.load(self.vec_type(n), slot).into_vector_value();
        }
        let pair = self.ir.float_type(Fty::F64).vec_type(2);
        let filled = (0..2).fold(pair.get_poison(), |v, lane| {
            let part = self.ir.load(self.ir.float_type(Fty::F64), self.half(slot, lane));
            self.ir.insert(v, lane, part)
        });
        self.ir.as_vec(filled, self.vec_type(n))
    }

    fn store_vec(&self, n: usize, slot: PointerValue<'c>, v: VectorValue<'c>) {
        if !self.is_pair(n) {
            self.ir.store(slot, v);
            return;
        }
        let v = self.ir.as_vec(v, self.ir.float_type(Fty::F64).vec_type(2));
        for lane in 0..2 {
            self.ir.store(self.half(slot, lane), self.ir.extract(v, lane));
        }
    }

    fn half(&self, slot: PointerValue<'c>, lane: u32) -> PointerValue<'c> {
        self.ir.gep(slot, self.ir.i64(u64::from(lane) * 8))
    }

    // ---- reading and writing registers -------------------------------------------------------------

    pub fn read_gpr(&mut self, n: usize) -> Val<'c> {
        let slot = self.gpr_slot(n);
        match self.ir.load(self.gpr_type(n), slot) {
            BasicValueEnum::PointerValue(p) => Val { int: self.ir.ptr_to_int(p), ptr: Some(p) },
            other => other.into_int_value().into(),
        }
    }

    pub fn write_gpr(&mut self, n: usize, v: Val<'c>) {
        let slot = self.gpr_slot(n);
        let v = if self.slots.facets.pointers >> n & 1 != 0 {
            self.as_pointer(v).as_basic_value_enum()
        } else {
            v.int.as_basic_value_enum()
        };
        self.ir.store(slot, v);
        if self.options.precise {
            self.state_write(gpr_offset(n), v);
        } else {
            self.written.gpr |= 1 << n;
        }
    }

    pub fn read_flag(&mut self, flag: Flag) -> IntValue<'c> {
        let n = flag_number(flag);
        self.consume(flag_bit(flag));
        let slot = self.flag_slot(n);
        self.ir.load(self.flag_type(n), slot).into_int_value()
    }

    pub fn write_flag(&mut self, flag: Flag, c: IntValue<'c>) {
        self.write_flag_number(flag_number(flag), c);
    }

    pub fn read_parity(&mut self) -> IntValue<'c> {
        self.consume(RflagsBits::PF);
        let slot = self.flag_slot(PARITY);
        self.ir.load(self.flag_type(PARITY), slot).into_int_value()
    }

    pub fn write_parity(&mut self, byte: IntValue<'c>) {
        self.write_flag_number(PARITY, byte);
    }

    fn write_flag_number(&mut self, n: usize, v: IntValue<'c>) {
        let slot = self.flag_slot(n);
        self.ir.store(slot, v);
        if n != flag_number(Flag::Df) {
            self.singly = true;
            self.single |= NUMBERED[n];
        } else if self.options.precise {
            self.write_back_df();
        } else {
            self.written.flags |= DF;
        }
    }

    /// Takes note that the block at hand has read status flags of its slots.
    fn consume(&mut self, flags: Flags) {
        if let Some(consumed) = self.consumed.get_mut(self.index) {
            *consumed |= flags;
        }
    }

    // ---- what the status flags come from -----------------------------------------------------------

    fn origin_slots(&mut self) -> [PointerValue<'c>; 3] {
        if let Some(slots) = self.slots.origin {
            return slots;
        }
        let slots = ORIGIN.map(|(_, ty)| self.alloca(self.ir.int_type(ty).into()));
        self.slots.origin = Some(slots);
        slots
    }

    /// The status flags come from this.
    pub fn write_origin(&mut self, word: IntValue<'c>, x: IntValue<'c>, y: Option<IntValue<'c>>) {
        let slots = self.origin_slots();
        let unused = self.ir.cx.i64_type().get_undef();
        for (slot, v) in slots.into_iter().zip([word, x, y.unwrap_or(unused)]) {
            self.ir.store(slot, v);
        }
        (self.singly, self.single) = (false, lifter::STATUS);
        if !self.options.precise {
            self.written.flags |= STATUS;
            return;
        }
        for ((offset, _), v) in ORIGIN.into_iter().zip([Some(word), Some(x), y]) {
            if let Some(v) = v {
                self.state_write(offset, v);
            }
        }
    }

    /// Where status flags were set singly, these make up what all come from.
    pub fn settle_single_flags(&mut self, wanted: Flags) {
        if !core::mem::take(&mut self.singly) {
            return;
        }
        let wanted = wanted & self.single;
        self.consume(wanted);
        let mut bits = self.ir.i64(0);
        let mut add = |e: &Self, v: IntValue<'c>, place: u32| {
            let moved = e.ir.op(InstructionOpcode::Shl, e.ir.zext(v, Ty::I64), e.ir.i64(place.into()));
            bits = e.ir.op(InstructionOpcode::Or, bits, moved);
        };
        for (flag, place) in SINGLE.into_iter().filter(|(flag, _)| wanted & flag_bit(*flag) != 0) {
            let n = flag_number(flag);
            let slot = self.flag_slot(n);
            add(self, self.ir.load(self.flag_type(n), slot).into_int_value(), place);
        }
        if wanted & RflagsBits::PF != 0 {
            let slot = self.flag_slot(PARITY);
            add(self, self.ir.load(self.flag_type(PARITY), slot).into_int_value(), origin::PARITY_PLACE);
        }
        self.write_origin(self.ir.int(Ty::I32, origin::BITS.into()), bits, None);
    }

    /// Has the status flags in their slots that are read from there on; the others needn't be kept on the way.
    fn load_status(&mut self, read: Flags) {
        if let Some(slots) = self.slots.origin {
            for (slot, (offset, ty)) in slots.into_iter().zip(ORIGIN) {
                self.ir.store(slot, self.state_read(self.ir.int_type(ty), offset));
            }
        }
        let bits = if read & lifter::STATUS == 0 { self.ir.i64(0) } else { self.status_bits() };
        for (flag, place) in SINGLE {
            if let Some(slot) = self.slots.flags[flag_number(flag)] {
                let moved = self.ir.op(InstructionOpcode::LShr, bits, self.ir.i64(place.into()));
                self.ir.store(slot, self.ir.cast(InstructionOpcode::Trunc, moved, self.ir.cx.bool_type()));
            }
        }
        if let Some(slot) = self.slots.flags[PARITY] {
            let moved = self.ir.op(InstructionOpcode::LShr, bits, self.ir.i64(origin::PARITY_PLACE.into()));
            self.ir.store(slot, self.ir.trunc(moved, Ty::I8));
        }
    }

    /// The status flags of the CPU state, as [`origin::BITS`] has them.
    fn status_bits(&mut self) -> IntValue<'c> {
        let (at_hand, hidden, join) = (self.ir.block("bits"), self.ir.block("origin"), self.ir.block(""));
        let [(word, _), (x, _), _] = ORIGIN;
        let word = self.state_read(self.ir.cx.i32_type(), word).into_int_value();
        let is_bits = self.ir.icmp(inkwell::IntPredicate::EQ, word, self.ir.int(Ty::I32, origin::BITS.into()));
        self.ir.cond_br(is_bits, at_hand, hidden, Likely::Unknown);
        self.ir.at_end(at_hand);
        let bits = self.state_read(self.ir.cx.i64_type(), x).into_int_value();
        self.ir.br(join);
        self.ir.at_end(hidden);
        let computed = self.helper_call(Helper::StatusBits, &[]).int;
        self.ir.br(join);
        self.ir.at_end(join);
        let phi = self.ir.b.build_phi(self.ir.cx.i64_type(), "").expect("positioned");
        phi.add_incoming(&[(&bits, at_hand), (&computed, hidden)]);
        phi.as_basic_value().into_int_value()
    }

    pub fn read_vec(&mut self, n: usize, bits: u32) -> VectorValue<'c> {
        let slot = self.vec_slot(n);
        let full = self.load_vec(n, slot);
        self.resize_vec(full, bits)
    }

    pub fn write_vec(&mut self, n: usize, v: VectorValue<'c>, upper: Upper) {
        let slot = self.vec_slot(n);
        let kept = self.slots.facets.vec_bits[n];
        let bits = self.vec_bits(v);
        assert!(bits <= kept, "a {bits}-bit write to a register kept in {kept}");
        let v = self.ir.as_vec(v, self.ir.vec_type(quads(bits)));
        let whole = if bits == kept {
            v
        } else if upper == Upper::Zero {
            self.resize_vec(v, kept)
        } else {
            let old = self.load_vec(n, slot);
            self.replace_low(old, v, bits)
        };
        self.store_vec(n, slot, whole);
        if self.options.precise {
            self.state_write(vec_offset(n), whole);
        } else {
            self.written.vec |= 1 << n;
        }
        if upper == Upper::Zero {
            self.clear_above(n, kept);
        }
    }

    /// Clears a vector register's bits from `bits` (128 or more) on.
    pub fn clear_from(&mut self, n: usize, bits: u32) {
        let kept = self.slots.facets.vec_bits[n];
        if bits < kept {
            let low = self.read_vec(n, bits);
            return self.write_vec(n, low, Upper::Zero);
        }
        self.clear_above(n, bits);
    }

    fn clear_above(&mut self, n: usize, bits: u32) {
        for part in (0..2).filter(|part| ABOVE[*part].0 >= bits) {
            let slot = self.above_slot(part, n);
            let zero = self.above_type(part).const_zero();
            self.ir.store(slot, zero);
            if self.options.precise {
                self.state_write(above_offset(part, n), zero);
            } else {
                self.written.above[part] |= 1 << n;
            }
        }
    }

    pub fn read_mask(&mut self, n: usize) -> IntValue<'c> {
        let slot = self.mask_slot(n);
        self.ir.load(self.ir.cx.i64_type(), slot).into_int_value()
    }

    pub fn write_mask(&mut self, n: usize, v: IntValue<'c>) {
        let slot = self.mask_slot(n);
        self.ir.store(slot, v);
        if self.options.precise {
            self.state_write(mask_offset(n), v);
        } else {
            self.written.masks |= 1 << n;
        }
    }

    /// A vector in one of the places for helpers' operands and results.
    pub fn read_scratch(&self, place: usize, bits: u32) -> VectorValue<'c> {
        self.state_read(self.ir.vec_type(quads(bits)), scratch_offset(place)).into_vector_value()
    }

    pub fn write_scratch(&self, place: usize, v: VectorValue<'c>) {
        self.state_write(scratch_offset(place), v);
    }

    /// The low `bits` of a vector in 64-bit lanes, or the vector with zeros above.
    pub fn resize_vec(&self, v: VectorValue<'c>, bits: u32) -> VectorValue<'c> {
        let from = self.vec_bits(v);
        let v = self.ir.as_vec(v, self.ir.vec_type(quads(from)));
        if from == bits {
            return v;
        }
        let lanes = from / 64;
        let zero = v.get_type().const_zero();
        // Lanes beyond the source come from the zero vector.
        self.ir.shuffle(v, zero, (0..bits / 64).map(|i| i.min(lanes)))
    }

    fn replace_low(&self, old: VectorValue<'c>, low: VectorValue<'c>, bits: u32) -> VectorValue<'c> {
        let kept = self.vec_bits(old);
        let low = self.resize_vec(low, kept);
        let (cut, lanes) = (bits / 64, kept / 64);
        self.ir.shuffle(low, old, (0..lanes).map(|i| if i < cut { i } else { lanes + i }))
    }

    /// What these general-purpose and vector registers hold.
    pub fn held(&mut self, registers: Registers) -> Held<'c> {
        let mut held = Held::default();
        for n in registers.gprs() {
            let slot = self.gpr_slot(n);
            held.gpr.push((n, self.ir.load(self.gpr_type(n), slot)));
        }
        for n in registers.vecs() {
            let slot = self.vec_slot(n);
            held.vec.push((n, self.load_vec(n, slot)));
        }
        held
    }

    /// Lets the registers hold that again.
    pub fn hold(&mut self, held: &Held<'c>) {
        for (n, v) in &held.gpr {
            let slot = self.gpr_slot(*n);
            self.ir.store(slot, *v);
        }
        for (n, v) in &held.vec {
            let slot = self.vec_slot(*n);
            self.store_vec(*n, slot, *v);
        }
    }

    // ---- the CPU state in memory -------------------------------------------------------------------

    pub fn state_field(&self, offset: usize) -> PointerValue<'c> {
        self.ir.gep(self.state, self.ir.i64(offset as u64))
    }

    /// Loads from the CPU state at an offset.
    pub fn state_read(&self, ty: impl inkwell::types::BasicType<'c>, offset: usize) -> BasicValueEnum<'c> {
        let v = self.ir.load(ty, self.state_field(offset));
        let i = v.as_instruction_value().expect("a load");
        self.mark_state(i, offset);
        v
    }

    /// Stores to the CPU state; in precise mode in program order with guest memory accesses.
    pub fn state_write(&self, offset: usize, v: impl BasicValue<'c>) {
        let i = self.ir.store(self.state_field(offset), v);
        self.mark_state(i, offset);
        if self.options.precise {
            i.set_volatile(true).expect("a store can be volatile");
        }
    }

    fn mark_state(&self, i: inkwell::values::InstructionValue<'c>, offset: usize) {
        // The state is 64-byte aligned.
        let alignment = 1 << offset.trailing_zeros().min(6);
        i.set_alignment(alignment).expect("a power of two on a memory access");
        self.scopes.mark_state(&self.ir, i);
    }

    // ---- all at once -------------------------------------------------------------------------------

    /// Fills the slots at the builder's position: from the general-purpose registers at hand, else from the CPU state.
    /// Status flags have their own values only if they are among those that are read from there on.
    pub fn load_all(&mut self, at_hand: &[(usize, IntValue<'c>)], read: Flags) {
        self.load_registers(at_hand);
        self.load_status(read);
        if let Some(slot) = self.slots.flags[flag_number(Flag::Df)] {
            let byte = self.state_read(self.ir.cx.i8_type(), DF_OFFSET).into_int_value();
            self.ir.store(slot, self.ir.icmp(inkwell::IntPredicate::NE, byte, self.ir.int(Ty::I8, 0)));
        }
    }

    /// The same without flags.
    pub fn load_registers(&mut self, at_hand: &[(usize, IntValue<'c>)]) {
        let touched = self.slots.touched();
        for n in touched.gprs() {
            let at_hand = at_hand.iter().find(|(r, _)| *r == n).map(|(_, v)| *v);
            let v: BasicValueEnum = match at_hand {
                Some(v) if self.slots.facets.pointers >> n & 1 != 0 => self.ir.int_to_ptr(v).into(),
                Some(v) => v.into(),
                None => self.state_read(self.gpr_type(n), gpr_offset(n)),
            };
            self.ir.store(self.slots.gpr[n].expect("touched"), v);
        }
        for n in touched.vecs() {
            let v = self.state_read(self.vec_type(n), vec_offset(n)).into_vector_value();
            self.store_vec(n, self.slots.vec[n].expect("touched"), v);
        }
        for (part, n) in touched.parts_above() {
            let v = self.state_read(self.above_type(part), above_offset(part, n));
            self.ir.store(self.slots.above[part][n].expect("touched"), v);
        }
        for n in touched.mask_registers() {
            let v = self.state_read(self.ir.cx.i64_type(), mask_offset(n));
            self.ir.store(self.slots.masks[n].expect("touched"), v);
        }
    }

    /// A general-purpose register's value: from its slot if it is dirty, else from the CPU state, which spares the ways
    /// here from keeping it.
    pub fn current(&self, n: usize, dirty: Registers) -> IntValue<'c> {
        if dirty.gpr >> n & 1 == 0 {
            return self.state_read(self.ir.cx.i64_type(), gpr_offset(n)).into_int_value();
        }
        match self.ir.load(self.gpr_type(n), self.slots.gpr[n].expect("dirty")) {
            BasicValueEnum::PointerValue(p) => self.ir.ptr_to_int(p),
            other => other.into_int_value(),
        }
    }

    /// Stores the slots of `registers` to the CPU state, at the builder's position.
    pub fn write_back(&self, registers: Registers) {
        for n in registers.gprs() {
            let slot = self.slots.gpr[n].expect("written");
            let v = self.ir.load(self.gpr_type(n), slot);
            self.state_write(gpr_offset(n), v);
        }
        if registers.flags & STATUS != 0 {
            for (slot, (offset, ty)) in self.slots.origin.expect("written").into_iter().zip(ORIGIN) {
                self.state_write(offset, self.ir.load(self.ir.int_type(ty), slot));
            }
        }
        if registers.flags & DF != 0 {
            self.write_back_df();
        }
        for n in registers.vecs() {
            let v = self.load_vec(n, self.slots.vec[n].expect("written"));
            self.state_write(vec_offset(n), v);
        }
        for (part, n) in registers.parts_above() {
            let v = self.ir.load(self.above_type(part), self.slots.above[part][n].expect("written"));
            self.state_write(above_offset(part, n), v);
        }
        for n in registers.mask_registers() {
            let v = self.ir.load(self.ir.cx.i64_type(), self.slots.masks[n].expect("written"));
            self.state_write(mask_offset(n), v);
        }
    }

    fn write_back_df(&self) {
        let n = flag_number(Flag::Df);
        let v = self.ir.load(self.flag_type(n), self.slots.flags[n].expect("written")).into_int_value();
        self.state_write(DF_OFFSET, self.ir.zext(v, Ty::I8));
    }

    /// Stores `rip`.
    pub fn write_rip(&self, pc: IntValue<'c>) {
        self.state_write(offset_of!(CpuState, rip), pc);
    }

    pub fn write_exit(&self, reason: ExitReason, arg: u32) {
        let i32 = |v| self.ir.int(Ty::I32, u64::from(v));
        self.state_write(offset_of!(CpuState, exit_reason), i32(reason as u32));
        self.state_write(offset_of!(CpuState, exit_arg), i32(arg));
    }
}

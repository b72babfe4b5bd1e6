//! The emitter that records. Its values are where they come from.

use iced_x86::RflagsBits;
use xlate_abi::state::{ExitReason, Helper, Trap};

use super::helper;
use super::{Access, AccessKind, Content, Effects, FloatKind, FloatOperation, Lanes, Origin, VectorUse};
use crate::decode::Flags;
use crate::emitter::*;
use crate::lifter::{STATUS, flag_bit};
use crate::wide::Wide;

/// Records what one instruction does.
#[derive(Default)]
pub struct Recorder {
    pub effects: Effects,
    /// Branches that recording is inside of, and how many of them depend on vector registers.
    branches: u32,
    branches_by_vectors: u32,
    /// There are floating-point operations whose exceptions may still come.
    pending_exceptions: bool,
}

/// A scalar.
#[derive(Clone, Copy)]
pub struct Value {
    origin: Origin,
    by_vectors: bool,
}

/// A truth value.
#[derive(Clone, Copy)]
pub struct Truth {
    by_vectors: bool,
}

/// A vector.
#[derive(Clone, Copy)]
pub struct Vector {
    /// The register that it has bytes of, at their places.
    base: usize,
    /// Which these are, a bit a byte.
    kept: u64,
    low: Content,
}

impl Vector {
    /// One that is calculated.
    const NEW: Self = Self { base: 0, kept: 0, low: Content::UNKNOWN };
}

/// What is written whichever way the instruction takes.
struct Always {
    gprs: u32,
    flags: Flags,
    vectors: [u64; 32],
}

fn bytes(bits: u32) -> u64 {
    u64::MAX >> (64 - bits / 8)
}

fn lane_bytes(ty: VTy, lane: u32) -> u64 {
    let width = ty.lane.ty().bits();
    bytes(width) << (lane * width / 8)
}

fn constant(origin: Origin) -> Value {
    Value { origin, by_vectors: false }
}

fn from_scalars<const N: usize>(values: [Value; N]) -> Value {
    Value { origin: Origin::Other, by_vectors: values.iter().any(|v| v.by_vectors) }
}

fn by_scalars<const N: usize>(values: [Value; N]) -> Truth {
    Truth { by_vectors: values.iter().any(|v| v.by_vectors) }
}

impl Recorder {
    fn vector_use(&mut self, register: usize) -> &mut VectorUse {
        let vectors = &mut self.effects.vectors;
        let at = vectors.iter().position(|v| usize::from(v.register) == register).unwrap_or_else(|| {
            let register = register as u8;
            let low = Content { origin: Origin::Vector(register), bits: 512 };
            vectors.push(VectorUse {
                register,
                bits: 0,
                read: 0,
                written: 0,
                always_written: 0,
                clears_upper: false,
                low,
            });
            vectors.len() - 1
        });
        &mut vectors[at]
    }

    fn read_bytes(&mut self, register: usize, mask: u64) {
        if mask != 0 {
            self.vector_use(register).read |= mask;
        }
    }

    /// Some bytes of a vector are looked at.
    fn look(&mut self, v: Vector, mask: u64) {
        self.read_bytes(v.base, v.kept & mask);
    }

    fn lanes(&mut self, lanes: Lanes) {
        self.effects.lanes = self.effects.lanes.max(lanes);
    }

    /// One lane by itself is used.
    fn one_lane(&mut self, ty: VTy, lane: u32) {
        self.lanes(match (ty.lane, lane) {
            (Lane::F64, 0) => Lanes::Low,
            (Lane::I64, _) => Lanes::Either,
            _ => Lanes::Whole,
        });
    }

    /// A vector calculated of others, all of whose lanes count.
    fn calculated<const N: usize>(&mut self, operands: [Vector; N], lanes: Lanes) -> Vector {
        operands.into_iter().for_each(|v| self.look(v, u64::MAX));
        self.lanes(lanes);
        Vector::NEW
    }

    fn access(&mut self, kind: AccessKind, bits: u32, address: Value) {
        if kind != AccessKind::Load && self.pending_exceptions {
            self.effects.writes_before_exceptions = true;
        }
        self.effects.memory.push(Access {
            kind,
            bytes: bits / 8,
            is_conditional: self.branches > 0,
            by_vectors: address.by_vectors || self.branches_by_vectors > 0,
        });
    }

    fn masked_access(&mut self, kind: AccessKind, ty: VTy, m: Truth, addr: Value) {
        self.branches += 1;
        self.access(kind, ty.bits, Value { by_vectors: addr.by_vectors || m.by_vectors, ..addr });
        self.branches -= 1;
    }

    fn wide_operation(&mut self, op: Wide, ty: VTy, operands: &[(u32, Vector)]) {
        for (bits, v) in operands {
            // A scalar operation looks at the lowest lane alone.
            self.look(*v, bytes(if ty.lanes() == 1 { ty.bits } else { *bits }));
        }
        self.lanes(Lanes::Whole);
        if matches!(op, Wide::Float(_)) {
            self.float(FloatKind::Wide, ty.lane.fty().unwrap_or(Fty::F64), ty.bits, [Origin::Other; 3]);
        }
    }

    fn float(&mut self, kind: FloatKind, format: Fty, bits: u32, operands: [Origin; 3]) -> Origin {
        let operation = FloatOperation { kind, format, bits, operands };
        self.pending_exceptions |= operation.may_raise();
        self.effects.floats.push(operation);
        Origin::Float(self.effects.floats.len() as u16 - 1)
    }

    fn scalar_float<const N: usize>(&mut self, kind: FloatKind, format: Fty, values: [Value; N]) -> Value {
        let mut operands = [Origin::Other; 3];
        operands.iter_mut().zip(values).for_each(|(to, v)| *to = v.origin);
        let origin = self.float(kind, format, format.ty().bits(), operands);
        Value { origin, ..from_scalars(values) }
    }

    fn packed_float<const N: usize>(&mut self, kind: FloatKind, ty: VTy, vectors: [Vector; N]) -> Vector {
        let mut operands = [Origin::Other; 3];
        let whole = |v: Vector| if v.low.bits >= ty.bits { v.low.origin } else { Origin::Other };
        operands.iter_mut().zip(vectors).for_each(|(to, v)| *to = whole(v));
        self.calculated(vectors, Lanes::Whole);
        let format = ty.lane.fty().expect("float lanes");
        let origin = self.float(kind, format, ty.bits, operands);
        Vector { low: Content { origin, bits: ty.bits }, ..Vector::NEW }
    }

    fn read_flags(&mut self, flags: Flags) {
        self.effects.flags.read(flags);
    }

    fn write_flags(&mut self, flags: Flags) {
        self.effects.flags.write(flags);
    }

    fn trap(&mut self, trap: u32) {
        self.effects.traps |= 1 << trap;
    }

    fn always(&self) -> Always {
        let mut vectors = [0; 32];
        self.effects.vectors.iter().for_each(|v| vectors[usize::from(v.register)] = v.always_written);
        Always { gprs: self.effects.gprs.always_written, flags: self.effects.flags.always_written, vectors }
    }

    fn set_always(&mut self, always: &Always) {
        self.effects.gprs.always_written = always.gprs;
        self.effects.flags.always_written = always.flags;
        for v in &mut self.effects.vectors {
            v.always_written = always.vectors[usize::from(v.register)];
        }
    }

    /// The vector registers that a helper loads or stores.
    fn sixteen_vectors(&mut self, kind: AccessKind) {
        for n in 0..16 {
            if kind == AccessKind::Load {
                self.set_vec(n, 128, Vector::NEW, Upper::Keep);
            } else {
                self.read_bytes(n, bytes(128));
            }
        }
    }
}

impl Always {
    fn intersection(&self, other: &Self) -> Self {
        let vectors = core::array::from_fn(|n| self.vectors[n] & other.vectors[n]);
        Self { gprs: self.gprs & other.gprs, flags: self.flags & other.flags, vectors }
    }
}

/// Whether a shuffle's result begins with the lanes of one operand, whose first has number `first`: so many of them.
fn prefix(indices: &[u8], first: u32) -> u32 {
    indices.iter().zip(first..).take_while(|(index, n)| u32::from(**index) == *n).count() as u32
}

impl Emitter for Recorder {
    type Val = Value;
    type Cond = Truth;
    type Vec = Vector;
    type Mask = Truth;

    fn begin_instruction(&mut self, _ip: u64, _next: u64) {}

    fn gpr(&mut self, reg: usize) -> Value {
        let is_old = self.effects.gprs.written >> reg & 1 == 0;
        self.effects.gprs.read(1 << reg);
        constant(if is_old { Origin::Gpr(reg as u8) } else { Origin::Other })
    }

    fn set_gpr(&mut self, reg: usize, v: Value) {
        self.effects.gprs.write(1 << reg);
        if v.by_vectors || self.branches_by_vectors > 0 {
            self.effects.gprs_by_vectors |= 1 << reg;
        }
    }

    fn flag(&mut self, flag: Flag) -> Truth {
        self.read_flags(flag_bit(flag));
        Truth { by_vectors: false }
    }

    fn set_flag(&mut self, flag: Flag, _c: Truth) {
        self.write_flags(flag_bit(flag));
    }

    fn set_single_flags(&mut self, _keep: bool) {}

    fn set_origin(&mut self, _origin: crate::emitter::Origin<Self>) {
        self.write_flags(STATUS);
    }

    fn parity(&mut self) -> Value {
        self.read_flags(RflagsBits::PF);
        constant(Origin::Other)
    }

    fn set_parity(&mut self, _byte: Value) {
        self.write_flags(RflagsBits::PF);
    }

    fn vec(&mut self, reg: usize, bits: u32) -> Vector {
        let used = self.vector_use(reg);
        used.bits = used.bits.max(bits);
        if used.written != 0 || used.clears_upper {
            used.read |= bytes(bits) & !used.always_written;
            return Vector::NEW;
        }
        Vector { base: reg, kept: bytes(bits), low: Content { origin: Origin::Vector(reg as u8), bits } }
    }

    fn set_vec(&mut self, reg: usize, bits: u32, v: Vector, upper: Upper) {
        let certain = self.branches == 0;
        let before = *self.vector_use(reg);
        let first = before.written == 0;
        let same = if v.base == reg && first { v.kept & bytes(bits) } else { 0 };
        self.look(v, bytes(bits) & !same);
        let used = self.vector_use(reg);
        used.bits = used.bits.max(bits);
        used.written |= bytes(bits) & !same;
        used.always_written |= bytes(bits) & !same;
        used.clears_upper |= upper == Upper::Zero;
        used.low = if first && certain { v.low.cut(bits) } else { Content::UNKNOWN };
    }

    fn clear_vec_from(&mut self, reg: usize, bits: u32) {
        let used = self.vector_use(reg);
        used.bits = used.bits.max(bits);
        used.clears_upper = true;
    }

    fn mask_register(&mut self, reg: usize) -> Value {
        self.effects.masks.read(1 << reg);
        constant(Origin::Other)
    }

    fn set_mask_register(&mut self, reg: usize, _v: Value) {
        self.effects.masks.write(1 << reg);
    }

    fn state_load(&mut self, _ty: Ty, _offset: usize) -> Value {
        self.effects.reads_state = true;
        constant(Origin::Other)
    }

    fn state_store(&mut self, _ty: Ty, _offset: usize, _v: Value) {
        self.effects.writes_state = true;
    }

    fn iconst(&mut self, _ty: Ty, bits: u64) -> Value {
        constant(Origin::Constant(bits))
    }

    fn constant(&self, v: Value) -> Option<u64> {
        match v.origin {
            Origin::Constant(bits) => Some(bits),
            _ => None,
        }
    }

    fn bin(&mut self, _op: Bin, _ty: Ty, a: Value, b: Value) -> Value {
        from_scalars([a, b])
    }

    fn un(&mut self, _op: Un, _ty: Ty, a: Value) -> Value {
        from_scalars([a])
    }

    fn mul_wide(&mut self, _signed: bool, _ty: Ty, a: Value, b: Value) -> (Value, Value) {
        (from_scalars([a, b]), from_scalars([a, b]))
    }

    fn zext(&mut self, _from: Ty, _to: Ty, v: Value) -> Value {
        from_scalars([v])
    }

    fn sext(&mut self, _from: Ty, _to: Ty, v: Value) -> Value {
        from_scalars([v])
    }

    fn trunc(&mut self, _from: Ty, _to: Ty, v: Value) -> Value {
        from_scalars([v])
    }

    fn cmp(&mut self, _pred: Pred, _ty: Ty, a: Value, b: Value) -> Truth {
        by_scalars([a, b])
    }

    fn bconst(&mut self, _b: bool) -> Truth {
        Truth { by_vectors: false }
    }

    fn cond_op(&mut self, _op: CondOp, a: Truth, b: Truth) -> Truth {
        Truth { by_vectors: a.by_vectors || b.by_vectors }
    }

    fn cond_not(&mut self, c: Truth) -> Truth {
        c
    }

    fn cond_to_int(&mut self, _ty: Ty, c: Truth) -> Value {
        Value { origin: Origin::Other, by_vectors: c.by_vectors }
    }

    fn select(&mut self, _ty: Ty, c: Truth, a: Value, b: Value) -> Value {
        Value { origin: Origin::Other, by_vectors: c.by_vectors || a.by_vectors || b.by_vectors }
    }

    fn address(&mut self, base: Option<Value>, index: Option<(Value, u32)>, _disp: i64) -> Value {
        let none = constant(Origin::Other);
        from_scalars([base.unwrap_or(none), index.map_or(none, |(v, _)| v)])
    }

    /// Records both sides.
    fn if_else<C: Host<Self>, const N: usize>(
        ctx: &mut C,
        cond: Truth,
        _tys: [Ty; N],
        then: impl FnOnce(&mut C) -> [Value; N],
        otherwise: impl FnOnce(&mut C) -> [Value; N],
    ) -> [Value; N] {
        let e = ctx.emitter();
        e.branches += 1;
        e.branches_by_vectors += u32::from(cond.by_vectors);
        let before = e.always();
        let a = then(ctx);
        let e = ctx.emitter();
        let first = e.always();
        e.set_always(&before);
        let b = otherwise(ctx);
        let e = ctx.emitter();
        let second = e.always();
        e.set_always(&first.intersection(&second));
        e.branches -= 1;
        e.branches_by_vectors -= u32::from(cond.by_vectors);
        let by_vectors = |n: usize| cond.by_vectors || a[n].by_vectors || b[n].by_vectors;
        core::array::from_fn(|n| Value { origin: Origin::Other, by_vectors: by_vectors(n) })
    }

    fn trap_if(&mut self, _cond: Truth, trap: Trap) {
        self.trap(trap as u32);
    }

    fn exit_if(&mut self, _cond: Truth, _reason: ExitReason, _resume: u64) {
        self.effects.may_leave = true;
    }

    fn crc32c(&mut self, _from: Ty, acc: Value, data: Value) -> Value {
        from_scalars([acc, data])
    }

    fn load(&mut self, ty: Ty, addr: Value) -> Value {
        self.access(AccessKind::Load, ty.bits(), addr);
        Value { origin: Origin::Other, by_vectors: addr.by_vectors }
    }

    fn store(&mut self, ty: Ty, addr: Value, _v: Value) {
        self.access(AccessKind::Store, ty.bits(), addr);
    }

    fn vload(&mut self, bits: u32, addr: Value) -> Vector {
        self.access(AccessKind::Load, bits, addr);
        Vector::NEW
    }

    fn vstore(&mut self, bits: u32, addr: Value, v: Vector) {
        self.look(v, bytes(bits));
        self.access(AccessKind::Store, bits, addr);
    }

    fn atomic_rmw(&mut self, _op: Rmw, ty: Ty, addr: Value, _v: Value) -> Value {
        self.access(AccessKind::Atomic, ty.bits(), addr);
        constant(Origin::Other)
    }

    fn cmpxchg(&mut self, ty: Ty, addr: Value, _expected: Value, _new: Value) -> Value {
        self.access(AccessKind::Atomic, ty.bits(), addr);
        constant(Origin::Other)
    }

    fn cmpxchg16(&mut self, addr: Value, _expected: [Value; 2], _new: [Value; 2]) -> [Value; 2] {
        self.access(AccessKind::Atomic, 128, addr);
        [constant(Origin::Other); 2]
    }

    fn fence(&mut self) {
        self.effects.is_fence = true;
    }

    fn vconst(&mut self, _bytes: &[u8]) -> Vector {
        Vector::NEW
    }

    fn vbin(&mut self, op: VBin, _ty: VTy, a: Vector, b: Vector) -> Vector {
        let bitwise = matches!(op, VBin::And | VBin::Or | VBin::Xor | VBin::AndNot);
        self.calculated([a, b], if bitwise { Lanes::Either } else { Lanes::Whole })
    }

    fn vshift(&mut self, _op: VShift, _ty: VTy, a: Vector, _count: Value) -> Vector {
        self.calculated([a], Lanes::Whole)
    }

    fn shuffle(&mut self, ty: VTy, a: Vector, b: Vector, indices: &[u8]) -> Vector {
        self.lanes(if ty.lane.ty() == Ty::I64 { Lanes::Either } else { Lanes::Whole });
        let (lanes, width) = (ty.lanes(), ty.lane.ty().bits());
        let mut kept = 0;
        for (n, index) in (0..).zip(indices) {
            match u32::from(*index) {
                index if index == n => kept |= a.kept & lane_bytes(ty, n),
                index if index < lanes => self.look(a, lane_bytes(ty, index)),
                index => self.look(b, lane_bytes(ty, index - lanes)),
            }
        }
        let low = match (prefix(indices, 0), prefix(indices, lanes)) {
            (0, n) => b.low.cut(n * width),
            (n, _) => a.low.cut(n * width),
        };
        Vector { base: a.base, kept, low }
    }

    fn splat(&mut self, ty: VTy, _v: Value) -> Vector {
        self.lanes(if ty.lane.ty() == Ty::I64 { Lanes::Either } else { Lanes::Whole });
        Vector::NEW
    }

    fn extract(&mut self, ty: VTy, v: Vector, lane: u32) -> Value {
        self.one_lane(ty, lane);
        self.look(v, lane_bytes(ty, lane));
        let is_low = lane == 0 && v.low.bits >= ty.lane.ty().bits();
        Value { origin: if is_low { v.low.origin } else { Origin::Other }, by_vectors: true }
    }

    fn insert(&mut self, ty: VTy, v: Vector, lane: u32, x: Value) -> Vector {
        self.one_lane(ty, lane);
        let width = ty.lane.ty().bits();
        let low = match lane {
            0 => Content { origin: x.origin, bits: width },
            _ => v.low.cut(lane * width),
        };
        Vector { kept: v.kept & !lane_bytes(ty, lane), low, ..v }
    }

    fn movmask(&mut self, ty: VTy, v: Vector) -> Value {
        self.lanes(Lanes::Whole);
        self.look(v, bytes(ty.bits));
        Value { origin: Origin::Other, by_vectors: true }
    }

    fn byte_shuffle(&mut self, _bits: u32, table: Vector, index: Vector) -> Vector {
        self.calculated([table, index], Lanes::Whole)
    }

    fn pack(&mut self, _from: VTy, _to_signed: bool, a: Vector, b: Vector) -> Vector {
        self.calculated([a, b], Lanes::Whole)
    }

    fn mul_even(&mut self, _signed: bool, _bits: u32, a: Vector, b: Vector) -> Vector {
        self.calculated([a, b], Lanes::Whole)
    }

    fn madd_i16(&mut self, _bits: u32, a: Vector, b: Vector) -> Vector {
        self.calculated([a, b], Lanes::Whole)
    }

    fn sad_u8(&mut self, _bits: u32, a: Vector, b: Vector) -> Vector {
        self.calculated([a, b], Lanes::Whole)
    }

    fn vfbin(&mut self, op: FBin, ty: VTy, a: Vector, b: Vector) -> Vector {
        self.packed_float(FloatKind::Binary(op), ty, [a, b])
    }

    fn vfsqrt(&mut self, ty: VTy, a: Vector) -> Vector {
        self.packed_float(FloatKind::Root, ty, [a])
    }

    fn vfma(&mut self, op: Fma, ty: VTy, operands: [Vector; 3]) -> Vector {
        if ty.lane.fty().is_none() {
            return vfma_by_helper(self, op, ty, operands);
        }
        self.packed_float(FloatKind::Fused, ty, operands)
    }

    fn vfcmp(&mut self, _pred: FPred, ty: VTy, a: Vector, b: Vector) -> Vector {
        self.packed_float(FloatKind::Compare, ty, [a, b])
    }

    fn mask_of_bits(&mut self, _lanes: u32, bits: Value) -> Truth {
        by_scalars([bits])
    }

    fn mask_bits(&mut self, _lanes: u32, m: Truth) -> Value {
        Value { origin: Origin::Other, by_vectors: m.by_vectors }
    }

    fn vselect(&mut self, _ty: VTy, _m: Truth, a: Vector, b: Vector) -> Vector {
        self.calculated([a, b], Lanes::Whole)
    }

    fn vcompare(&mut self, _pred: Pred, _ty: VTy, a: Vector, b: Vector) -> Truth {
        self.calculated([a, b], Lanes::Whole);
        Truth { by_vectors: true }
    }

    /// Where the host has no instruction, the runtime does it.
    fn load_masked(&mut self, ty: VTy, m: Truth, addr: Value) -> Vector {
        self.effects.helpers |= 1 << Helper::LoadMasked as u32;
        self.masked_access(AccessKind::Load, ty, m, addr);
        Vector::NEW
    }

    fn store_masked(&mut self, ty: VTy, m: Truth, addr: Value, v: Vector) {
        self.look(v, bytes(ty.bits));
        self.effects.helpers |= 1 << Helper::StoreMasked as u32;
        self.masked_access(AccessKind::Store, ty, m, addr);
    }

    fn resize(&mut self, v: Vector, from: u32, to: u32) -> Vector {
        let narrower = from.min(to);
        Vector { kept: v.kept & bytes(narrower), low: v.low.cut(narrower), ..v }
    }

    fn set_scratch(&mut self, _place: usize, bits: u32, v: Vector) {
        self.look(v, bytes(bits));
    }

    fn scratch(&mut self, _place: usize, _bits: u32) -> Vector {
        Vector::NEW
    }

    fn wide(&mut self, op: Wide, ty: VTy, operands: &[(u32, Vector)], _immediate: u8) -> Vector {
        self.wide_operation(op, ty, operands);
        Vector::NEW
    }

    fn wide_bits(&mut self, op: Wide, ty: VTy, operands: &[(u32, Vector)], _immediate: u8) -> Value {
        self.wide_operation(op, ty, operands);
        Value { origin: Origin::Other, by_vectors: true }
    }

    fn fbin(&mut self, op: FBin, ty: Fty, a: Value, b: Value) -> Value {
        self.scalar_float(FloatKind::Binary(op), ty, [a, b])
    }

    fn fsqrt(&mut self, ty: Fty, a: Value) -> Value {
        self.scalar_float(FloatKind::Root, ty, [a])
    }

    fn fma(&mut self, _op: Fma, ty: Fty, operands: [Value; 3]) -> Value {
        self.scalar_float(FloatKind::Fused, ty, operands)
    }

    fn fcompare(&mut self, _signals: bool, _read: Read, ty: Fty, a: Value, b: Value) -> Compare<Truth> {
        self.scalar_float(FloatKind::Compare, ty, [a, b]);
        let c = by_scalars([a, b]);
        Compare { carry: c, zero: c, unordered: c, above: c }
    }

    fn fmask(&mut self, _pred: FPred, ty: Fty, a: Value, b: Value) -> Value {
        self.scalar_float(FloatKind::Compare, ty, [a, b])
    }

    fn fround(&mut self, _mode: Rounding, _inexact: bool, ty: Fty, v: Value) -> Value {
        self.scalar_float(FloatKind::Round, ty, [v])
    }

    fn int_to_float(&mut self, from: Ty, to: Fty, v: Value) -> Value {
        self.scalar_float(FloatKind::FromInteger(from), to, [v])
    }

    fn float_to_int(&mut self, _round: Round, from: Fty, _to: Ty, v: Value) -> Value {
        self.scalar_float(FloatKind::ToInteger, from, [v])
    }

    fn float_to_float(&mut self, from: Fty, to: Fty, v: Value) -> Value {
        self.scalar_float(FloatKind::FromFloat(from), to, [v])
    }

    fn raise_exceptions(&mut self) {
        self.pending_exceptions = false;
    }

    fn splits_stores(&self, _bits: u32) -> bool {
        false
    }

    fn helper_uses_vector(&mut self, reg: usize, bits: u32, writes: bool) {
        self.read_bytes(reg, bytes(bits));
        if writes {
            self.set_vec(reg, bits, Vector::NEW, Upper::Keep);
        }
    }

    fn call_helper(&mut self, helper: Helper, args: &[Value]) -> Value {
        self.effects.helpers |= 1 << helper as u32;
        let by_vectors = args.iter().any(|v| v.by_vectors);
        if !helper.is_pure() {
            let does = helper::effects(helper);
            (self.effects.reads_state, self.effects.writes_state) = (true, true);
            self.effects.gprs.read(does.gprs_read);
            self.effects.gprs.write(does.gprs_written);
            self.read_flags(does.flags_read);
            for (kind, size) in does.memory {
                self.access(*kind, size * 8, Value { origin: Origin::Other, by_vectors });
            }
            if let Some(kind) = does.vectors {
                self.sixteen_vectors(kind);
            }
        }
        Value { origin: Origin::Other, by_vectors }
    }

    fn jump(&mut self, _target: u64) {
        self.effects.ends_block = true;
    }

    fn branch(&mut self, _cond: Truth, _taken: u64, _otherwise: u64) {
        self.effects.ends_block = true;
    }

    fn jump_indirect(&mut self, _target: Value, _kind: Indirect) {
        self.effects.ends_block = true;
    }

    fn call(&mut self, _target: u64, _return_to: u64) {
        self.effects.ends_block = true;
    }

    fn leave(&mut self, reason: ExitReason, arg: u32, _resume: u64) {
        self.effects.ends_block = true;
        if reason == ExitReason::Trap {
            self.trap(arg);
        }
    }

    fn leave_if_pending(&mut self, _resume: u64) {
        self.effects.may_leave = true;
    }
}

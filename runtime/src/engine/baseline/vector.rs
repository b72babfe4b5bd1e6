//! Vector operations of the baseline emitter.
//!
//! A vector is up to four 128-bit parts, in whatever lane type they came; 64-bit vectors live in the low half of one
//! part, whose high half is unspecified.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use xlate_x86::emitter::{Lane, Ty, VBin, VShift, VTy};

use super::emitter::Baseline;

/// A vector value.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    bits: u32,
    parts: [Option<Value>; 4],
}

impl Wide {
    pub(super) fn new(bits: u32, values: &[Value]) -> Self {
        debug_assert_eq!(values.len(), part_count(bits));
        let mut parts = [None; 4];
        for (part, v) in parts.iter_mut().zip(values) {
            *part = Some(*v);
        }
        Self { bits, parts }
    }

    pub(super) fn part(&self, n: usize) -> Value {
        self.parts[n].expect("the vector has this part")
    }

    /// The same vector with every part replaced.
    pub(super) fn map(self, mut f: impl FnMut(Value) -> Value) -> Self {
        Self { bits: self.bits, parts: self.parts.map(|p| p.map(&mut f)) }
    }

    /// Part by part with another vector.
    pub(super) fn zip(self, other: Self, mut f: impl FnMut(Value, Value) -> Value) -> Self {
        let count = part_count(self.bits);
        let parts = std::array::from_fn(|n| (n < count).then(|| f(self.part(n), other.part(n))));
        Self { bits: self.bits, parts }
    }
}

fn part_count(bits: u32) -> usize {
    bits.div_ceil(128) as usize
}

/// The parts up to a width, zeros where there are none.
pub(super) fn resize(e: &mut Baseline, v: Wide, bits: u32) -> Wide {
    let zero = part_constant(e, [0; 16]);
    let parts = core::array::from_fn(|n| (n < part_count(bits)).then(|| v.parts[n].unwrap_or(zero)));
    Wide { bits, parts }
}

/// A part with all ones in the lanes whose bit is set, from bit `first` on.
fn lanes_of_bits(e: &mut Baseline, lane: Lane, bits: Value, first: u32) -> Value {
    let per_part = 128 / lane.ty().bits();
    let count = e.word(first.into());
    let bits = e.b.ins().ushr(bits, count);
    // Each lane gets the bits and looks at its own. A byte's lane has no room for more than eight.
    let whole = if lane.ty() == Ty::I8 {
        let low = e.b.ins().ireduce(types::I8, bits);
        let eight = e.b.ins().ushr_imm_u(bits, 8);
        let high = e.b.ins().ireduce(types::I8, eight);
        let [low, high] = [low, high].map(|v| e.b.ins().splat(types::I8X16, v));
        part_shuffle(e, low, high, core::array::from_fn(|n| if n < 8 { 0 } else { 16 }))
    } else {
        let v = if lane.ty() == Ty::I64 { bits } else { e.b.ins().ireduce(super::emitter::int_type(lane.ty()), bits) };
        e.b.ins().splat(part_type(lane), v)
    };
    let size = lane.ty().bytes() as usize;
    let mut own = [0; 16];
    for n in 0..per_part as usize {
        let bit = if size == 1 { n % 8 } else { n };
        own[n * size + bit / 8] = 1 << (bit % 8);
    }
    let own = part_constant(e, own);
    let own = cast(e, part_type(lane), own);
    let seen = e.b.ins().band(whole, own);
    e.b.ins().icmp(IntCC::Equal, seen, own)
}

pub(super) fn select(e: &mut Baseline, ty: VTy, mask: Value, a: Wide, b: Wide) -> Wide {
    let lane = int_lane(ty.lane);
    let (t, per_part) = (part_type(lane), 128 / lane.ty().bits());
    let parts = core::array::from_fn(|n| {
        (n < part_count(ty.bits)).then(|| {
            let chosen = lanes_of_bits(e, lane, mask, per_part * n as u32);
            let (a, b) = (cast(e, t, a.part(n)), cast(e, t, b.part(n)));
            e.b.ins().bitselect(chosen, a, b)
        })
    });
    Wide { bits: ty.bits, parts }
}

pub(super) fn compare(e: &mut Baseline, cc: IntCC, ty: VTy, a: Wide, b: Wide) -> Value {
    let t = part_type(int_lane(ty.lane));
    let lanes = a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        e.b.ins().icmp(cc, a, b)
    });
    movmask(e, ty, lanes)
}

/// Reinterprets a part's bits.
const CAST: MemFlagsData = MemFlagsData::new().with_endianness(Endianness::Little);

/// The Cranelift type of a part with these lanes.
pub(super) fn part_type(lane: Lane) -> Type {
    match lane {
        Lane::I8 => types::I8X16,
        Lane::I16 => types::I16X8,
        Lane::I32 => types::I32X4,
        Lane::I64 => types::I64X2,
        Lane::F32 => types::F32X4,
        Lane::F64 => types::F64X2,
    }
}

/// Integer lanes of the same width: integer operations apply to float lanes' bits too.
fn int_lane(lane: Lane) -> Lane {
    match lane {
        Lane::F32 => Lane::I32,
        Lane::F64 => Lane::I64,
        lane => lane,
    }
}

/// The part with these lanes.
pub(super) fn cast(e: &mut Baseline, to: Type, v: Value) -> Value {
    if e.b.func.dfg.value_type(v) == to {
        return v;
    }
    e.b.ins().bitcast(to, CAST, v)
}

pub(super) fn load(e: &mut Baseline, bits: u32, base: Value, offset: i32, flags: MemFlagsData) -> Wide {
    if bits == 64 {
        let low = e.b.ins().load(types::I64, flags, base, offset);
        let v = e.b.ins().scalar_to_vector(types::I64X2, low);
        return Wide::new(64, &[v]);
    }
    let mut parts = [None; 4];
    for (n, part) in parts.iter_mut().enumerate().take(part_count(bits)) {
        let at = offset + 16 * n as i32;
        *part = Some(e.b.ins().load(types::I8X16, flags, base, at));
    }
    Wide { bits, parts }
}

pub(super) fn store(e: &mut Baseline, bits: u32, v: Wide, base: Value, offset: i32, flags: MemFlagsData) {
    if bits == 64 {
        let part = cast(e, types::I64X2, v.part(0));
        let low = e.b.ins().extractlane(part, 0u8);
        e.b.ins().store(flags, low, base, offset);
        return;
    }
    for n in 0..part_count(bits) {
        e.b.ins().store(flags, v.part(n), base, offset + 16 * n as i32);
    }
}

fn part_constant(e: &mut Baseline, bytes: [u8; 16]) -> Value {
    let data = ConstantData::from(bytes.as_slice());
    let handle = e.b.func.dfg.constants.insert(data);
    e.b.ins().vconst(types::I8X16, handle)
}

pub(super) fn constant(e: &mut Baseline, bytes: &[u8]) -> Wide {
    let mut parts = [None; 4];
    for (part, chunk) in parts.iter_mut().zip(bytes.chunks(16)) {
        let mut full = [0; 16];
        full[..chunk.len()].copy_from_slice(chunk);
        *part = Some(part_constant(e, full));
    }
    Wide { bits: bytes.len() as u32 * 8, parts }
}

/// A part with every lane of this type equal to one constant.
pub(super) fn lanes_of(e: &mut Baseline, lane: Lane, bits: u64) -> Value {
    let n = lane.ty().bytes() as usize;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(n) {
        chunk.copy_from_slice(&bits.to_le_bytes()[..n]);
    }
    let v = part_constant(e, bytes);
    cast(e, part_type(lane), v)
}

pub(super) fn bin(e: &mut Baseline, op: VBin, ty: VTy, a: Wide, b: Wide) -> Wide {
    let lane = int_lane(ty.lane);
    let t = part_type(lane);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        part_bin(e, op, lane, a, b)
    })
}

fn part_bin(e: &mut Baseline, op: VBin, lane: Lane, a: Value, b: Value) -> Value {
    // The hosts have no minimum and maximum of 64-bit lanes.
    if lane == Lane::I64 {
        let cc = match op {
            VBin::MinS => Some(IntCC::SignedLessThan),
            VBin::MaxS => Some(IntCC::SignedGreaterThan),
            VBin::MinU => Some(IntCC::UnsignedLessThan),
            VBin::MaxU => Some(IntCC::UnsignedGreaterThan),
            _ => None,
        };
        if let Some(cc) = cc {
            let first = e.b.ins().icmp(cc, a, b);
            return e.b.ins().bitselect(first, a, b);
        }
    }
    match op {
        VBin::MulHiS | VBin::MulHiU => return mul_high(e, op == VBin::MulHiS, a, b),
        // PANDN inverts its first operand, `band_not` its second.
        VBin::AndNot => return e.b.ins().band_not(b, a),
        _ => {}
    }
    let ins = e.b.ins();
    match op {
        VBin::Add => ins.iadd(a, b),
        VBin::Sub => ins.isub(a, b),
        VBin::Mul => ins.imul(a, b),
        VBin::And => ins.band(a, b),
        VBin::Or => ins.bor(a, b),
        VBin::Xor => ins.bxor(a, b),
        VBin::MinS => ins.smin(a, b),
        VBin::MinU => ins.umin(a, b),
        VBin::MaxS => ins.smax(a, b),
        VBin::MaxU => ins.umax(a, b),
        VBin::AddSatS => ins.sadd_sat(a, b),
        VBin::AddSatU => ins.uadd_sat(a, b),
        VBin::SubSatS => ins.ssub_sat(a, b),
        VBin::SubSatU => ins.usub_sat(a, b),
        VBin::AvgU => ins.avg_round(a, b),
        VBin::CmpEq => ins.icmp(IntCC::Equal, a, b),
        VBin::CmpGtS => ins.icmp(IntCC::SignedGreaterThan, a, b),
        VBin::MulHiS | VBin::MulHiU | VBin::AndNot => unreachable!("handled above"),
    }
}

/// Both halves of a part widened to double-width lanes.
fn widen(e: &mut Baseline, signed: bool, v: Value) -> [Value; 2] {
    if signed {
        [e.b.ins().swiden_low(v), e.b.ins().swiden_high(v)]
    } else {
        [e.b.ins().uwiden_low(v), e.b.ins().uwiden_high(v)]
    }
}

/// High halves of the products of 16-bit lanes.
fn mul_high(e: &mut Baseline, signed: bool, a: Value, b: Value) -> Value {
    let (a, b) = (widen(e, signed, a), widen(e, signed, b));
    let low = e.b.ins().imul(a[0], b[0]);
    let high = e.b.ins().imul(a[1], b[1]);
    // Bytes 2 and 3 of each 32-bit product.
    let mut mask = [0u8; 16];
    for (n, pair) in mask.chunks_mut(2).enumerate() {
        pair.copy_from_slice(&[4 * n as u8 + 2, 4 * n as u8 + 3]);
    }
    let v = part_shuffle(e, low, high, mask);
    cast(e, types::I16X8, v)
}

/// The bytes of `a` followed by those of `b`, picked by index.
fn part_shuffle(e: &mut Baseline, a: Value, b: Value, mask: [u8; 16]) -> Value {
    let (a, b) = (cast(e, types::I8X16, a), cast(e, types::I8X16, b));
    let mask = e.b.func.dfg.immediates.push(ConstantData::from(mask.as_slice()));
    e.b.ins().shuffle(a, b, mask)
}

pub(super) fn shuffle(e: &mut Baseline, ty: VTy, a: Wide, b: Wide, indices: &[u8]) -> Wide {
    let size = ty.lane.ty().bytes();
    // The second operand's bytes begin behind the first's parts, however short the vectors are.
    let second = 16 * part_count(ty.bits) as u32;
    let mut bytes = [0; 64];
    for (n, &index) in indices.iter().enumerate() {
        let index = u32::from(index);
        let first = if index < ty.lanes() { index * size } else { second + (index - ty.lanes()) * size };
        for byte in 0..size {
            bytes[n * size as usize + byte as usize] = (first + byte) as u8;
        }
    }
    let parts = core::array::from_fn(|n| {
        (n < part_count(ty.bits)).then(|| {
            let bytes = core::array::from_fn(|byte| bytes[16 * n + byte]);
            shuffle_part(e, a, b, part_count(ty.bits), bytes)
        })
    });
    Wide { bits: ty.bits, parts }
}

/// A part made of the bytes of both vectors, `count` parts each, in a row: by a shuffle of two parts, and another one for each
/// part beyond.
fn shuffle_part(e: &mut Baseline, a: Wide, b: Wide, count: usize, bytes: [u8; 16]) -> Value {
    let part = |n: u8| if usize::from(n) < count { a.part(n.into()) } else { b.part(usize::from(n) - count) };
    let mut sources = bytes.map(|byte| byte / 16).to_vec();
    sources.sort_unstable();
    sources.dedup();
    let (first, second) = (sources[0], sources.get(1).copied());
    if bytes == core::array::from_fn(|n| 16 * first + n as u8) {
        return part(first);
    }
    let mask = bytes.map(|byte| byte % 16 + if Some(byte / 16) == second { 16 } else { 0 });
    let mut r = part_shuffle(e, part(first), part(second.unwrap_or(first)), mask);
    for source in sources.into_iter().skip(2) {
        let from = |n: usize| if bytes[n] / 16 == source { 16 + bytes[n] % 16 } else { n as u8 };
        r = part_shuffle(e, r, part(source), core::array::from_fn(from));
    }
    r
}

pub(super) fn splat(e: &mut Baseline, ty: VTy, v: Value) -> Wide {
    let lane = int_lane(ty.lane);
    let v = e.int(lane.ty(), v);
    let part = e.b.ins().splat(part_type(lane), v);
    let parts = [part; 4];
    Wide::new(ty.bits, &parts[..part_count(ty.bits)])
}

/// Part and lane within it.
fn place(ty: VTy, lane: u32) -> (usize, u8) {
    let per_part = 128 / ty.lane.ty().bits();
    ((lane / per_part) as usize, (lane % per_part) as u8)
}

pub(super) fn extract(e: &mut Baseline, ty: VTy, v: Wide, lane: u32) -> Value {
    let (part, lane) = place(ty, lane);
    let v = cast(e, part_type(int_lane(ty.lane)), v.part(part));
    e.b.ins().extractlane(v, lane)
}

pub(super) fn insert(e: &mut Baseline, ty: VTy, mut v: Wide, lane: u32, x: Value) -> Wide {
    let (part, lane) = place(ty, lane);
    let lanes = int_lane(ty.lane);
    let x = e.int(lanes.ty(), x);
    let old = cast(e, part_type(lanes), v.part(part));
    v.parts[part] = Some(e.b.ins().insertlane(old, x, lane));
    v
}

pub(super) fn movmask(e: &mut Baseline, ty: VTy, v: Wide) -> Value {
    let lane = int_lane(ty.lane);
    let per_part = 128 / lane.ty().bits();
    let mut sum: Option<Value> = None;
    for n in 0..part_count(ty.bits) {
        let part = cast(e, part_type(lane), v.part(n));
        let bits = e.b.ins().vhigh_bits(types::I32, part);
        let mut bits = e.b.ins().uextend(types::I64, bits);
        if n > 0 {
            let shift = e.word(u64::from(per_part) * n as u64);
            bits = e.b.ins().ishl(bits, shift);
        }
        sum = Some(match sum {
            Some(sum) => e.b.ins().bor(sum, bits),
            None => bits,
        });
    }
    let sum = sum.expect("a vector has a part");
    if ty.bits >= 128 {
        return sum;
    }
    let mask = e.word((1 << ty.lanes()) - 1);
    e.b.ins().band(sum, mask)
}

pub(super) fn shift(e: &mut Baseline, op: VShift, ty: VTy, a: Wide, count: Value) -> Wide {
    let lane = int_lane(ty.lane);
    let width = u64::from(lane.ty().bits());
    if let Some(count) = e.known_bits(count) {
        return shift_constant(e, op, lane, a, count);
    }
    // Cranelift takes the count modulo the lane width; x86 lets every bit fall out.
    let last = e.word(width - 1);
    let inside = e.b.ins().umin(count, last);
    let inside = e.b.ins().ireduce(types::I32, inside);
    if op == VShift::Ashr {
        return a.map(|v| part_shift(e, op, lane, v, inside));
    }
    let limit = e.word(width);
    let keeps = e.b.ins().icmp(IntCC::UnsignedLessThan, count, limit);
    let all = e.word(u64::MAX);
    let none = e.word(0);
    let mask = e.b.ins().select(keeps, all, none);
    let mask = e.b.ins().splat(types::I64X2, mask);
    let t = part_type(lane);
    let mask = cast(e, t, mask);
    a.map(|v| {
        let shifted = part_shift(e, op, lane, v, inside);
        e.b.ins().band(shifted, mask)
    })
}

fn shift_constant(e: &mut Baseline, op: VShift, lane: Lane, a: Wide, count: u64) -> Wide {
    let width = u64::from(lane.ty().bits());
    if count >= width && op != VShift::Ashr {
        return a.map(|_| lanes_of(e, lane, 0));
    }
    let count = count.min(width - 1);
    let count = e.b.ins().iconst(types::I32, count as i64);
    a.map(|v| part_shift(e, op, lane, v, count))
}

fn part_shift(e: &mut Baseline, op: VShift, lane: Lane, v: Value, count: Value) -> Value {
    let v = cast(e, part_type(lane), v);
    let ins = e.b.ins();
    match op {
        VShift::Shl => ins.ishl(v, count),
        VShift::Lshr => ins.ushr(v, count),
        VShift::Ashr => ins.sshr(v, count),
    }
}

/// Each 128 bits by themselves.
pub(super) fn pack(e: &mut Baseline, from: VTy, to_signed: bool, a: Wide, b: Wide) -> Wide {
    let t = part_type(from.lane);
    let packed = a.zip(b, |a, b| {
        let (a, b) = (cast(e, t, a), cast(e, t, b));
        if to_signed { e.b.ins().snarrow(a, b) } else { e.b.ins().unarrow(a, b) }
    });
    if from.bits >= 128 {
        return packed;
    }
    // The useful quarters are bytes 0 to 3 of each half.
    let order = core::array::from_fn(|n| if n < 4 { n as u8 } else { 4 + n as u8 % 8 });
    packed.map(|v| part_shuffle(e, v, v, order))
}

pub(super) fn mul_even(e: &mut Baseline, signed: bool, bits: u32, a: Wide, b: Wide) -> Wide {
    debug_assert_eq!(a.bits, bits);
    let even = |e: &mut Baseline, v| {
        let v = cast(e, types::I64X2, v);
        if signed {
            let count = e.b.ins().iconst(types::I32, 32);
            let high = e.b.ins().ishl(v, count);
            e.b.ins().sshr(high, count)
        } else {
            let mask = lanes_of(e, Lane::I64, 0xffff_ffff);
            e.b.ins().band(v, mask)
        }
    };
    a.zip(b, |a, b| {
        let (a, b) = (even(e, a), even(e, b));
        e.b.ins().imul(a, b)
    })
}

pub(super) fn madd_i16(e: &mut Baseline, bits: u32, a: Wide, b: Wide) -> Wide {
    debug_assert_eq!(a.bits, bits);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, types::I16X8, a), cast(e, types::I16X8, b));
        let (a, b) = (widen(e, true, a), widen(e, true, b));
        let low = e.b.ins().imul(a[0], b[0]);
        let high = e.b.ins().imul(a[1], b[1]);
        e.b.ins().iadd_pairwise(low, high)
    })
}

pub(super) fn sad_u8(e: &mut Baseline, bits: u32, a: Wide, b: Wide) -> Wide {
    debug_assert_eq!(a.bits, bits);
    a.zip(b, |a, b| {
        let (a, b) = (cast(e, types::I8X16, a), cast(e, types::I8X16, b));
        let larger = e.b.ins().umax(a, b);
        let smaller = e.b.ins().umin(a, b);
        let distance = e.b.ins().isub(larger, smaller);
        let [low, high] = widen(e, false, distance);
        let pairs = e.b.ins().iadd_pairwise(low, high);
        let fours = e.b.ins().iadd_pairwise(pairs, pairs);
        let eights = e.b.ins().iadd_pairwise(fours, fours);
        // Lane 0 is the low half's sum, lane 1 the high half's.
        let [wide, _] = widen(e, false, eights);
        e.b.ins().uwiden_low(wide)
    })
}

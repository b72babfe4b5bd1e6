//! Narrowing moves, compression and expansion (SDM vol. 1, 5.19).

use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::operands::{bits_of, lane_of, shape};
use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Pred, Ty, Un, Upper, VBin, VTy};
use crate::isa::Semantics;
use crate::wide::Wide;
use crate::wide::permute::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    truncating(code).or_else(|| saturating(code)).or_else(|| by_mask(code))
}

fn truncating<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Lane::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpmovqb => |l, i| narrow(l, i, [I64, I8], Range::Any),
        Vpmovqw => |l, i| narrow(l, i, [I64, I16], Range::Any),
        Vpmovqd => |l, i| narrow(l, i, [I64, I32], Range::Any),
        Vpmovdb => |l, i| narrow(l, i, [I32, I8], Range::Any),
        Vpmovdw => |l, i| narrow(l, i, [I32, I16], Range::Any),
        Vpmovwb => |l, i| narrow(l, i, [I16, I8], Range::Any),
        _ => return None,
    };
    Some(f)
}

fn saturating<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Lane::*;
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpmovsqb => |l, i| narrow(l, i, [I64, I8], Range::Signed),
        Vpmovsqw => |l, i| narrow(l, i, [I64, I16], Range::Signed),
        Vpmovsqd => |l, i| narrow(l, i, [I64, I32], Range::Signed),
        Vpmovsdb => |l, i| narrow(l, i, [I32, I8], Range::Signed),
        Vpmovsdw => |l, i| narrow(l, i, [I32, I16], Range::Signed),
        Vpmovswb => |l, i| narrow(l, i, [I16, I8], Range::Signed),
        Vpmovusqb => |l, i| narrow(l, i, [I64, I8], Range::Unsigned),
        Vpmovusqw => |l, i| narrow(l, i, [I64, I16], Range::Unsigned),
        Vpmovusqd => |l, i| narrow(l, i, [I64, I32], Range::Unsigned),
        Vpmovusdb => |l, i| narrow(l, i, [I32, I8], Range::Unsigned),
        Vpmovusdw => |l, i| narrow(l, i, [I32, I16], Range::Unsigned),
        Vpmovuswb => |l, i| narrow(l, i, [I16, I8], Range::Unsigned),
        _ => return None,
    };
    Some(f)
}

fn by_mask<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpcompressb => |l, i| compress(l, i, Lane::I8),
        Vpcompressw => |l, i| compress(l, i, Lane::I16),
        Vpcompressd | Vcompressps => |l, i| compress(l, i, Lane::I32),
        Vpcompressq | Vcompresspd => |l, i| compress(l, i, Lane::I64),
        Vpexpandb => |l, i| expand(l, i, Lane::I8),
        Vpexpandw => |l, i| expand(l, i, Lane::I16),
        Vpexpandd | Vexpandps => |l, i| expand(l, i, Lane::I32),
        Vpexpandq | Vexpandpd => |l, i| expand(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

/// What becomes of values that the narrow lanes can't hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    /// They lose their high bits.
    Any,
    /// They become the nearest value, signed or unsigned.
    Signed,
    Unsigned,
}

/// The source's lanes made narrow, to the low part of a register or to memory.
fn narrow<E: Emitter>(l: L<E>, i: I, [from, to]: [Lane; 2], range: Range) {
    let source = VTy { lane: from, bits: bits_of(i.op1_register()) };
    let v = l.vreg(i.op1_register());
    let v = saturated(l, source, to, range, v);
    let ratio = from.ty().bytes() / to.ty().bytes();
    let pieces = VTy { lane: to, ..source };
    let zero = l.zero(source.bits);
    let pick = |n: u32| if n < source.lanes() { n * ratio } else { pieces.lanes() };
    let indices: [u8; 64] = core::array::from_fn(|n| pick(n as u32) as u8);
    let r = l.e.shuffle(pieces, v, zero, &indices[..pieces.lanes() as usize]);
    let kept = VTy { lane: to, bits: (source.bits / ratio).max(128) };
    let r = l.e.resize(r, source.bits, kept.bits);
    if i.op0_kind() == OpKind::Register {
        return l.set_narrow(i, to, source.lanes(), r);
    }
    store_lanes(l, i, kept, source.lanes(), r);
}

/// The lanes within the range of narrow ones.
fn saturated<E: Emitter>(l: L<E>, ty: VTy, to: Lane, range: Range, v: E::Vec) -> E::Vec {
    let limit = |l: L<E>, op, x: u64, v| {
        let x = l.imm(ty.lane.ty(), x);
        let x = l.e.splat(ty, x);
        l.e.vbin(op, ty, v, x)
    };
    let max = to.ty().mask() >> 1;
    match range {
        Range::Any => v,
        Range::Unsigned => limit(l, VBin::MinU, to.ty().mask(), v),
        Range::Signed => {
            let v = limit(l, VBin::MinS, max, v);
            limit(l, VBin::MaxS, !max, v)
        }
    }
}

/// Stores the first lanes of a vector, those that the write mask names.
fn store_lanes<E: Emitter>(l: L<E>, i: I, ty: VTy, lanes: u32, v: E::Vec) {
    let addr = l.ea(i);
    if i.op_mask() != Register::None {
        let bits = l.e.mask_register(i.op_mask().number());
        let bits = l.bin_imm(Bin::And, Ty::I64, bits, u64::MAX >> (64 - lanes));
        let m = l.e.mask_of_bits(ty.lanes(), bits);
        return l.store_masked(ty, m, addr, v);
    }
    match Ty::from_bytes((lanes * ty.lane.ty().bytes()) as usize) {
        Some(whole) => {
            let x = l.low(lane_of(whole), v);
            l.store(whole, addr, x);
        }
        None => l.vstore(ty.bits, addr, v),
    }
}

/// The write mask's bits for these lanes as the operand of an operation, and as many bits as are set, from the lowest on.
fn mask_operand<E: Emitter>(l: L<E>, i: I, ty: VTy) -> (E::Vec, E::Val) {
    let lanes = u64::MAX >> (64 - ty.lanes());
    let bits = if i.op_mask() == Register::None {
        l.imm(Ty::I64, lanes)
    } else {
        let bits = l.e.mask_register(i.op_mask().number());
        l.bin_imm(Bin::And, Ty::I64, bits, lanes)
    };
    let operand = l.zero_extended(Lane::I64, bits);
    let count = l.e.un(Un::Popcnt, Ty::I64, bits);
    let all = l.cmp_imm(Pred::Eq, Ty::I64, count, 64);
    let one = l.imm(Ty::I64, 1);
    let within = l.bin_imm(Bin::And, Ty::I64, count, 63);
    let next = l.bin(Bin::Shl, Ty::I64, one, within);
    let low = l.bin_imm(Bin::Sub, Ty::I64, next, 1);
    let ones = l.imm(Ty::I64, u64::MAX);
    (operand, l.e.select(Ty::I64, all, ones, low))
}

/// The lanes that the write mask names, side by side. Above them a register keeps what is there or is cleared; memory isn't
/// accessed.
fn compress<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = VTy { lane, bits: bits_of(i.op1_register()) };
    let v = l.vreg(i.op1_register());
    let (mask, low) = mask_operand(l, i, ty);
    let in_memory = i.op0_kind() == OpKind::Memory;
    let keeps = !in_memory && !i.zeroing_masking() && i.op_mask() != Register::None;
    let rest = if keeps { l.vreg(i.op0_register()) } else { l.zero(ty.bits) };
    let r = l.e.wide(Wide::Permute(Op::Compress), ty, &[(ty.bits, v), (128, mask), (ty.bits, rest)], 0);
    if !in_memory {
        return l.set_vreg(i.op0_register(), r, Upper::Zero);
    }
    let addr = l.ea(i);
    let m = l.e.mask_of_bits(ty.lanes(), low);
    l.store_masked(ty, m, addr, r);
}

/// The opposite: the source's first lanes to the lanes that the write mask names. Of memory, only these are accessed.
fn expand<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let (mask, low) = mask_operand(l, i, ty);
    let v = if i.op1_kind() == OpKind::Memory {
        let addr = l.ea(i);
        let m = l.e.mask_of_bits(ty.lanes(), low);
        l.load_masked(ty, m, addr)
    } else {
        l.vreg(i.op1_register())
    };
    let r = l.e.wide(Wide::Permute(Op::Expand), ty, &[(ty.bits, v), (128, mask)], 0);
    l.set_vector(i, lane, r);
}

//! Broadcasts, and parts of registers: insertion and extraction of 128 and 256 bits (SDM vol. 1, 5.13 and 5.19).

use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::operands::{bits_of, lane_of, shape};
use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Ty, VTy};
use crate::isa::Semantics;
use crate::lifter::gpr_of;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    broadcasts(code).or_else(|| parts(code))
}

fn broadcasts<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpbroadcastb => |l, i| broadcast(l, i, Lane::I8, 8),
        Vpbroadcastw => |l, i| broadcast(l, i, Lane::I16, 16),
        Vpbroadcastd | Vbroadcastss => |l, i| broadcast(l, i, Lane::I32, 32),
        Vpbroadcastq | Vbroadcastsd => |l, i| broadcast(l, i, Lane::I64, 64),
        Vbroadcastf32x2 | Vbroadcasti32x2 => |l, i| broadcast(l, i, Lane::I32, 64),
        Vbroadcastf128 | Vbroadcasti128 | Vbroadcastf64x2 | Vbroadcasti64x2 => |l, i| broadcast(l, i, Lane::I64, 128),
        Vbroadcastf32x4 | Vbroadcasti32x4 => |l, i| broadcast(l, i, Lane::I32, 128),
        Vbroadcastf64x4 | Vbroadcasti64x4 => |l, i| broadcast(l, i, Lane::I64, 256),
        Vbroadcastf32x8 | Vbroadcasti32x8 => |l, i| broadcast(l, i, Lane::I32, 256),
        Vpbroadcastmb2q => |l, i| broadcast_mask(l, i, Lane::I64, 0xff),
        Vpbroadcastmw2d => |l, i| broadcast_mask(l, i, Lane::I32, 0xffff),
        _ => return None,
    };
    Some(f)
}

fn parts<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vinsertf32x4 | Vinserti32x4 | Vinsertf32x8 | Vinserti32x8 => |l, i| insert(l, i, Lane::I32),
        Vinsertf128 | Vinserti128 | Vinsertf64x2 | Vinserti64x2 | Vinsertf64x4 | Vinserti64x4 => {
            |l, i| insert(l, i, Lane::I64)
        }
        Vextractf32x4 | Vextracti32x4 | Vextractf32x8 | Vextracti32x8 => |l, i| extract(l, i, Lane::I32),
        Vextractf128 | Vextracti128 | Vextractf64x2 | Vextracti64x2 | Vextractf64x4 | Vextracti64x4 => {
            |l, i| extract(l, i, Lane::I64)
        }
        _ => return None,
    };
    Some(f)
}

/// The low `bits` bits of anything in all places; `lane` is the write mask's.
fn broadcast<E: Emitter>(l: L<E>, i: I, lane: Lane, bits: u32) {
    let ty = shape(i, lane);
    let r = if bits <= 64 {
        let part = Ty::from_bytes(bits as usize / 8).map_or(Lane::I64, lane_of);
        let x = if i.op1_kind() == OpKind::Register && i.op1_register().is_gpr() {
            let r = i.op1_register();
            let whole = l.reg(r);
            l.zcast(gpr_of(r).1, part.ty(), whole)
        } else {
            let v = l.masked_vector(i, 1, ty.lanes());
            l.low(part, v)
        };
        l.e.splat(VTy { lane: part, ..ty }, x)
    } else {
        let v = l.masked_vector(i, 1, ty.lanes());
        let v = l.e.resize(v, bits, ty.bits);
        let qwords = VTy { lane: Lane::I64, ..ty };
        let indices: [u8; 8] = core::array::from_fn(|n| (n as u32 % (bits / 64)) as u8);
        l.e.shuffle(qwords, v, v, &indices[..qwords.lanes() as usize])
    };
    l.set_vector(i, lane, r);
}

/// A mask register's low bits as a number.
fn broadcast_mask<E: Emitter>(l: L<E>, i: I, lane: Lane, low: u64) {
    let bits = l.e.mask_register(i.op1_register().number());
    let bits = l.bin_imm(Bin::And, Ty::I64, bits, low);
    let x = l.zcast(Ty::I64, lane.ty(), bits);
    let r = l.e.splat(shape(i, lane), x);
    l.set_vector(i, lane, r);
}

/// A part's place, in elements of 64 bits: the immediate names it, of as many as there are in `whole` bits.
fn place(i: I, whole: u32, part: u32) -> u32 {
    let which = i.immediate(i.op_count() - 1) as u32 & (whole / part - 1);
    which * part / 64
}

fn insert<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, Lane::I64);
    let bits =
        if i.op2_kind() == OpKind::Memory { i.memory_size().size() as u32 * 8 } else { bits_of(i.op2_register()) };
    let whole = l.vector(i, 1);
    let part = l.vector(i, 2);
    let part = l.e.resize(part, bits, ty.bits);
    let (first, count) = (place(i, ty.bits, bits), bits / 64);
    let from = |n: u32| if (first..first + count).contains(&n) { ty.lanes() + n - first } else { n };
    let indices: [u8; 8] = core::array::from_fn(|n| from(n as u32) as u8);
    let r = l.e.shuffle(ty, whole, part, &indices[..ty.lanes() as usize]);
    l.set_vector(i, lane, r);
}

fn extract<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let whole = bits_of(i.op1_register());
    let bits =
        if i.op0_kind() == OpKind::Memory { i.memory_size().size() as u32 * 8 } else { bits_of(i.op0_register()) };
    let ty = VTy { lane: Lane::I64, bits: whole };
    let v = l.vector(i, 1);
    let first = place(i, whole, bits);
    let indices: [u8; 8] = core::array::from_fn(|n| ((n as u32 + first) % ty.lanes()) as u8);
    let r = l.e.shuffle(ty, v, v, &indices[..ty.lanes() as usize]);
    let r = l.e.resize(r, whole, bits);
    if i.op0_kind() == OpKind::Memory && i.op_mask() != Register::None {
        // All of it has to be there, whatever the write mask names.
        let addr = l.ea(i);
        l.require_pages(addr, u64::from(bits / 8));
        l.require_writable(addr);
    }
    l.put_vector(i, lane, r);
}

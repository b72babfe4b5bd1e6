//! SSE4A: bit fields of the low quadword, scalar non-temporal stores (AMD APM vol. 4, EXTRQ, INSERTQ, MOVNTSD, MOVNTSS).

use iced_x86::{Code, Mnemonic, OpKind};

use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Ty, VTy};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Extrq => extract_field,
        Insertq => insert_field,
        Movntss => |l, i| store(l, i, Lane::F32),
        Movntsd => |l, i| store(l, i, Lane::F64),
        _ => return None,
    };
    Some(f)
}

const QWORDS: VTy = VTy::x128(Lane::I64);

/// A field's mask at bit 0, and the place it goes to or comes from. A length of zero means 64. The two are immediates, the
/// last operands, or the first two bytes of a quadword of the second operand; fields that don't fit are undefined.
fn field<E: Emitter>(l: L<E>, i: I, quadword: u32) -> (E::Val, E::Val) {
    let [length, place] = if i.op_kind(i.op_count() - 1) == OpKind::Register {
        let v = l.vector(i, 1);
        let v = l.e.extract(QWORDS, v, quadword);
        let place = l.bin_imm(Bin::Lshr, Ty::I64, v, 8);
        [v, place]
    } else {
        [2, 1].map(|back| l.imm(Ty::I64, i.immediate(i.op_count() - back)))
    };
    // All ones shifted right by what is missing to 64.
    let missing = {
        let zero = l.imm(Ty::I64, 0);
        let less = l.bin(Bin::Sub, Ty::I64, zero, length);
        l.bin_imm(Bin::And, Ty::I64, less, 63)
    };
    let ones = l.imm(Ty::I64, u64::MAX);
    let mask = l.bin(Bin::Lshr, Ty::I64, ones, missing);
    let place = l.bin_imm(Bin::And, Ty::I64, place, 63);
    (mask, place)
}

fn extract_field<E: Emitter>(l: L<E>, i: I) {
    let (mask, place) = field(l, i, 0);
    let from = l.scalar(i, 0, Lane::I64);
    let shifted = l.bin(Bin::Lshr, Ty::I64, from, place);
    let r = l.bin(Bin::And, Ty::I64, shifted, mask);
    l.set_scalar(i, Lane::I64, r);
}

fn insert_field<E: Emitter>(l: L<E>, i: I) {
    let (mask, place) = field(l, i, 1);
    let from = l.scalar(i, 1, Lane::I64);
    let from = l.bin(Bin::And, Ty::I64, from, mask);
    let from = l.bin(Bin::Shl, Ty::I64, from, place);
    let mask = l.bin(Bin::Shl, Ty::I64, mask, place);
    let kept = l.bin_imm(Bin::Xor, Ty::I64, mask, u64::MAX);
    let old = l.scalar(i, 0, Lane::I64);
    let old = l.bin(Bin::And, Ty::I64, old, kept);
    let r = l.bin(Bin::Or, Ty::I64, old, from);
    l.set_scalar(i, Lane::I64, r);
}

fn store<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.scalar(i, 1, lane);
    let addr = l.ea(i);
    l.store(lane.ty(), addr, v);
}

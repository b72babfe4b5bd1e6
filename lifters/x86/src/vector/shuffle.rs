//! Shuffles, interleavings, packing, and single elements (SDM vol. 1, 5.4.2, 5.5.1.5, 5.5.3, 5.6.1.5, 5.6.3).

use iced_x86::{Code, Mnemonic, OpKind};

use super::operands::{last_source, shape, sources, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane, Ty, VTy};
use crate::isa::Semantics;
use crate::lifter::gpr_of;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    interleaving(code).or_else(|| elements(code))
}

fn interleaving<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Punpcklbw | Vpunpcklbw => |l, i| unpack(l, i, Lane::I8, false),
        Punpcklwd | Vpunpcklwd => |l, i| unpack(l, i, Lane::I16, false),
        Punpckldq | Unpcklps | Vpunpckldq | Vunpcklps => |l, i| unpack(l, i, Lane::I32, false),
        Punpcklqdq | Unpcklpd | Vpunpcklqdq | Vunpcklpd => |l, i| unpack(l, i, Lane::I64, false),
        Punpckhbw | Vpunpckhbw => |l, i| unpack(l, i, Lane::I8, true),
        Punpckhwd | Vpunpckhwd => |l, i| unpack(l, i, Lane::I16, true),
        Punpckhdq | Unpckhps | Vpunpckhdq | Vunpckhps => |l, i| unpack(l, i, Lane::I32, true),
        Punpckhqdq | Unpckhpd | Vpunpckhqdq | Vunpckhpd => |l, i| unpack(l, i, Lane::I64, true),
        Packsswb | Vpacksswb => |l, i| pack(l, i, Lane::I16, true),
        Packuswb | Vpackuswb => |l, i| pack(l, i, Lane::I16, false),
        Packssdw | Vpackssdw => |l, i| pack(l, i, Lane::I32, true),
        Packusdw | Vpackusdw => |l, i| pack(l, i, Lane::I32, false),
        Pshufd | Vpshufd => |l, i| permute(l, i, Lane::I32, selected),
        Pshuflw | Pshufw | Vpshuflw => |l, i| permute(l, i, Lane::I16, low_half),
        Pshufhw | Vpshufhw => |l, i| permute(l, i, Lane::I16, high_half),
        Shufps | Vshufps => shufps,
        Shufpd | Vshufpd => shufpd,
        Movsldup | Vmovsldup => |l, i| duplicate(l, i, Lane::I32, |j| j & !1),
        Movshdup | Vmovshdup => |l, i| duplicate(l, i, Lane::I32, |j| j | 1),
        Movddup | Vmovddup => |l, i| duplicate(l, i, Lane::I64, |_| 0),
        _ => return None,
    };
    Some(f)
}

fn elements<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pextrw | Vpextrw => |l, i| extract(l, i, Lane::I16),
        Pextrb | Vpextrb => |l, i| extract(l, i, Lane::I8),
        Pextrd | Extractps | Vpextrd | Vextractps => |l, i| extract(l, i, Lane::I32),
        Pextrq | Vpextrq => |l, i| extract(l, i, Lane::I64),
        Pinsrb | Vpinsrb => |l, i| insert(l, i, Lane::I8),
        Pinsrd | Vpinsrd => |l, i| insert(l, i, Lane::I32),
        Pinsrq | Vpinsrq => |l, i| insert(l, i, Lane::I64),
        Pinsrw | Vpinsrw => |l, i| insert(l, i, Lane::I16),
        Insertps | Vinsertps => insertps,
        _ => return None,
    };
    Some(f)
}

/// Interleaves the low or high halves of the sources.
fn unpack<E: Emitter>(l: L<E>, i: I, lane: Lane, high: bool) {
    let (a, b) = l.two_vectors(i);
    let in_block = 128 / lane.ty().bits();
    let in_register = i.op0_register().size() as u32 * 8 / lane.ty().bits();
    let start = if high { in_register.min(in_block) / 2 } else { 0 };
    let r = l.shuffle_blocks(shape(i, lane), a, b, |_, j| start + j / 2 + if j % 2 == 0 { 0 } else { in_block });
    l.set_vector(i, lane, r);
}

/// Narrows both sources' lanes with saturation.
fn pack<E: Emitter>(l: L<E>, i: I, from: Lane, to_signed: bool) {
    let (a, b) = l.two_vectors(i);
    let (a, b) = if i.op0_register().is_mm() {
        let both = l.e.shuffle(VTy::x128(Lane::I64), a, b, &[0, 2]);
        (both, both)
    } else {
        (a, b)
    };
    let r = l.e.pack(shape(i, from), to_signed, a, b);
    let narrow = if from == Lane::I32 { Lane::I16 } else { Lane::I8 };
    l.set_vector(i, narrow, r);
}

/// The element that two bits of a shuffle's order byte select for place `j`.
fn selected(order: u32, j: u32) -> u32 {
    order >> (2 * j) & 3
}

fn low_half(order: u32, j: u32) -> u32 {
    if j < 4 { selected(order, j) } else { j }
}

fn high_half(order: u32, j: u32) -> u32 {
    if j < 4 { j } else { 4 + selected(order, j - 4) }
}

fn order_byte(i: I) -> u32 {
    i.immediate(i.op_count() - 1) as u32
}

/// One source's elements in the order an immediate tells, each 128 bits alike.
fn permute<E: Emitter>(l: L<E>, i: I, lane: Lane, pick: fn(u32, u32) -> u32) {
    let v = l.vector(i, last_source(i));
    let order = order_byte(i);
    let r = l.shuffle_blocks(shape(i, lane), v, v, |_, j| pick(order, j));
    l.set_vector(i, lane, r);
}

fn shufps<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let order = order_byte(i);
    let r = l.shuffle_blocks(shape(i, Lane::I32), a, b, |_, j| selected(order, j) + if j < 2 { 0 } else { 4 });
    l.set_vector(i, Lane::I32, r);
}

fn shufpd<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let order = order_byte(i);
    let r = l.shuffle_blocks(shape(i, Lane::I64), a, b, |block, j| (order >> (2 * block + j) & 1) + 2 * j);
    l.set_vector(i, Lane::I64, r);
}

/// Elements of each 128 bits in their order.
fn duplicate<E: Emitter>(l: L<E>, i: I, lane: Lane, pick: fn(u32) -> u32) {
    let v = l.vector(i, last_source(i));
    let r = l.shuffle_blocks(shape(i, lane), v, v, |_, j| pick(j));
    l.set_vector(i, lane, r);
}

/// The element an immediate names, of as many as the register has.
fn element(i: I, register_op: u32, lane: Lane) -> u32 {
    let lanes = i.op_register(register_op).size() as u32 * 8 / lane.ty().bits();
    i.immediate(i.op_count() - 1) as u32 & (lanes - 1)
}

/// PEXTRW and its like: an element to a general-purpose register (zero-extended) or memory.
fn extract<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.vector(i, 1);
    let n = element(i, 1, lane);
    let ty = lane.ty();
    let bits = width_of(i, 1);
    let x = l.e.extract(VTy { lane, bits }, v, n);
    if i.op0_kind() == OpKind::Memory {
        let addr = l.ea(i);
        return l.store(ty, addr, x);
    }
    l.enter_mmx_for(i, 1);
    let x = l.zcast(ty, gpr_of(i.op0_register()).1, x);
    l.set_reg(i.op0_register(), x);
}

fn width_of(i: I, op: u32) -> u32 {
    super::operands::bits_of(i.op_register(op))
}

/// PINSRW and its like: a general-purpose register's low bits or memory into one element.
fn insert<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = sources(i);
    let ty = lane.ty();
    let x = if i.op_kind(b) == OpKind::Memory {
        let addr = l.ea(i);
        l.load(ty, addr)
    } else {
        let r = i.op_register(b);
        let whole = l.reg(r);
        l.zcast(gpr_of(r).1, ty, whole)
    };
    let v = l.vector(i, a);
    let n = element(i, a, lane);
    let r = l.e.insert(VTy { lane, bits: width(i) }, v, n, x);
    l.set_vector(i, lane, r);
}

/// One single from anywhere to anywhere, and any set to zero.
fn insertps<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = sources(i);
    let order = order_byte(i);
    let singles = VTy::x128(Lane::F32);
    let x = if i.op_kind(b) == OpKind::Memory {
        l.scalar(i, b, Lane::F32)
    } else {
        let v = l.vector(i, b);
        l.e.extract(singles, v, order >> 6 & 3)
    };
    let v = l.vector(i, a);
    let mut r = l.e.insert(singles, v, order >> 4 & 3, x);
    let zero = l.imm(Ty::I32, 0);
    for n in (0..4).filter(|n| order >> n & 1 == 1) {
        r = l.e.insert(singles, r, n, zero);
    }
    l.set_vector(i, Lane::F32, r);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_bytes() {
        // 0b00_01_10_11 reverses.
        assert_eq!([0, 1, 2, 3].map(|j| selected(0x1b, j)), [3, 2, 1, 0]);
        assert_eq!([0, 3, 4, 7].map(|j| low_half(0x1b, j)), [3, 0, 4, 7]);
        assert_eq!([0, 3, 4, 7].map(|j| high_half(0x1b, j)), [0, 3, 7, 4]);
    }
}

//! Permutations across a whole register (SDM vol. 1, 5.13 and 5.19).

use iced_x86::{Code, Mnemonic, OpKind};

use super::operands::{last_source, shape, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane, VTy};
use crate::isa::Semantics;
use crate::wide::Wide;
use crate::wide::permute::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    one_table(code).or_else(|| two_tables(code)).or_else(|| by_immediate(code))
}

fn one_table<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpermb => |l, i| permute(l, i, Lane::I8),
        Vpermw => |l, i| permute(l, i, Lane::I16),
        Vpermd | Vpermps => |l, i| permute(l, i, Lane::I32),
        Vpermq | Vpermpd => |l, i| permute(l, i, Lane::I64),
        Vpermilps => |l, i| permute_in_blocks(l, i, Lane::I32),
        Vpermilpd => |l, i| permute_in_blocks(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn two_tables<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vpermi2b => |l, i| permute_two(l, i, Lane::I8, [1, 0]),
        Vpermi2w => |l, i| permute_two(l, i, Lane::I16, [1, 0]),
        Vpermi2d | Vpermi2ps => |l, i| permute_two(l, i, Lane::I32, [1, 0]),
        Vpermi2q | Vpermi2pd => |l, i| permute_two(l, i, Lane::I64, [1, 0]),
        Vpermt2b => |l, i| permute_two(l, i, Lane::I8, [0, 1]),
        Vpermt2w => |l, i| permute_two(l, i, Lane::I16, [0, 1]),
        Vpermt2d | Vpermt2ps => |l, i| permute_two(l, i, Lane::I32, [0, 1]),
        Vpermt2q | Vpermt2pd => |l, i| permute_two(l, i, Lane::I64, [0, 1]),
        _ => return None,
    };
    Some(f)
}

fn by_immediate<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vperm2f128 | Vperm2i128 => permute_halves,
        Vshuff32x4 | Vshufi32x4 => |l, i| shuffle_blocks(l, i, Lane::I32),
        Vshuff64x2 | Vshufi64x2 => |l, i| shuffle_blocks(l, i, Lane::I64),
        Valignd => |l, i| align(l, i, Lane::I32),
        Valignq => |l, i| align(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

fn immediate(i: I) -> u32 {
    i.immediate(i.op_count() - 1) as u32
}

fn has_immediate(i: I) -> bool {
    i.op_kind(i.op_count() - 1) == OpKind::Immediate8
}

/// The last operand's lanes at the places that the first source names; VPERMQ and VPERMPD also have a form with an order byte
/// that goes for each four lanes.
fn permute<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let table = l.vector(i, last_source(i));
    let r = if has_immediate(i) {
        let order = immediate(i);
        shuffle(l, ty, [table, table], |n| n & !3 | order >> (2 * (n & 3)) & 3)
    } else {
        let index = l.vector(i, 1);
        l.e.wide(Wide::Permute(Op::Permute), ty, &[(ty.bits, table), (ty.bits, index)], 0)
    };
    l.set_vector(i, lane, r);
}

/// VPERMILPS and VPERMILPD: within each 128 bits. Of a lane of 64 bits, bit 1 selects.
fn permute_in_blocks<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = shape(i, lane);
    let table = l.vector(i, 1);
    let r = if has_immediate(i) {
        let order = immediate(i);
        l.shuffle_blocks(ty, table, table, |block, j| match lane {
            Lane::I64 => order >> (2 * block + j) & 1,
            _ => order >> (2 * j) & 3,
        })
    } else {
        let index = l.vector(i, 2);
        let from_bit = u8::from(lane == Lane::I64);
        l.e.wide(Wide::Permute(Op::PermuteInBlocks), ty, &[(ty.bits, table), (ty.bits, index)], from_bit)
    };
    l.set_vector(i, lane, r);
}

/// VPERMI2D and VPERMT2D: the first two operands are the first table and the index in this order.
fn permute_two<E: Emitter>(l: L<E>, i: I, lane: Lane, [table, index]: [u32; 2]) {
    let ty = shape(i, lane);
    let operands = [table, index, 2].map(|op| (ty.bits, l.vector(i, op)));
    let r = l.e.wide(Wide::Permute(Op::PermuteTwo), ty, &operands, 0);
    l.set_vector(i, lane, r);
}

/// Lane `n` of the result is lane `pick(n)` of both operands in a row.
fn shuffle<E: Emitter>(l: L<E>, ty: VTy, [a, b]: [E::Vec; 2], pick: impl Fn(u32) -> u32) -> E::Vec {
    let indices: [u8; 64] = core::array::from_fn(|n| pick(n as u32) as u8);
    l.e.shuffle(ty, a, b, &indices[..ty.lanes() as usize])
}

/// VPERM2F128: any half of the sources, or zeros, to each half.
fn permute_halves<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, Lane::I64);
    let order = immediate(i);
    let field = |n: u32| order >> (4 * (n / 2));
    let r = shuffle(l, ty, [a, b], |n| (field(n) & 3) * 2 + n % 2);
    let zero = l.zero(width(i));
    let r = shuffle(l, ty, [r, zero], |n| n + if field(n) & 8 == 0 { 0 } else { ty.lanes() });
    l.set_vector(i, Lane::I64, r);
}

/// VSHUFF32X4 and its like: blocks of 128 bits, the lower half of the result's from the first source.
fn shuffle_blocks<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, Lane::I64);
    let blocks = ty.bits / 128;
    let order = immediate(i);
    let field = blocks.trailing_zeros();
    let r = shuffle(l, ty, [a, b], |n| {
        let block = n / 2;
        let from = order >> (field * block) & (blocks - 1);
        let source = if block < blocks / 2 { 0 } else { ty.lanes() };
        source + 2 * from + n % 2
    });
    l.set_vector(i, lane, r);
}

/// VALIGND: the sources, the first one high, shifted right by lanes.
fn align<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (high, low) = l.two_vectors(i);
    let ty = shape(i, lane);
    let by = immediate(i) & (ty.lanes() - 1);
    let r = shuffle(l, ty, [low, high], |n| n + by);
    l.set_vector(i, lane, r);
}

//! SSE3 (SDM vol. 1, 5.7): horizontal and alternating arithmetic. LDDQU is with the moves, the duplicating ones with the
//! shuffles.

use iced_x86::{Code, Mnemonic};

use super::operands::shape;
use super::{I, L};
use crate::emitter::{Emitter, FBin, Lane};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Haddps | Vhaddps => |l, i| horizontal(l, i, FBin::Add, Lane::F32),
        Haddpd | Vhaddpd => |l, i| horizontal(l, i, FBin::Add, Lane::F64),
        Hsubps | Vhsubps => |l, i| horizontal(l, i, FBin::Sub, Lane::F32),
        Hsubpd | Vhsubpd => |l, i| horizontal(l, i, FBin::Sub, Lane::F64),
        Addsubps | Vaddsubps => |l, i| add_and_subtract(l, i, Lane::F32),
        Addsubpd | Vaddsubpd => |l, i| add_and_subtract(l, i, Lane::F64),
        _ => return None,
    };
    Some(f)
}

/// Adjacent pairs of the first source, then of the second.
fn horizontal<E: Emitter>(l: L<E>, i: I, op: FBin, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, lane);
    let even = l.shuffle_blocks(ty, a, b, |_, j| 2 * j);
    let odd = l.shuffle_blocks(ty, a, b, |_, j| 2 * j + 1);
    let r = l.e.vfbin(op, ty, even, odd);
    l.set_vector(i, lane, r);
}

/// Subtracts the even elements and adds the odd ones. The elements that an operation isn't for are replaced by
/// copies of those that it is for, so that it raises no flags of theirs.
fn add_and_subtract<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, lane);
    let mut half = |op, pick: fn(u32) -> u32| {
        let a = l.shuffle_blocks(ty, a, a, |_, j| pick(j));
        let b = l.shuffle_blocks(ty, b, b, |_, j| pick(j));
        l.e.vfbin(op, ty, a, b)
    };
    let differences = half(FBin::Sub, |j| j & !1);
    let sums = half(FBin::Add, |j| j | 1);
    let per_block = 128 / lane.ty().bits();
    let r = l.shuffle_blocks(ty, differences, sums, |_, j| if j % 2 == 0 { j } else { per_block + j });
    l.set_vector(i, lane, r);
}

//! Fused multiplication and addition (SDM vol. 1, 14.5). The digits of a name are the operands that are multiplied and the one
//! that is added; they also tell which of several NaNs comes through.

use iced_x86::{Code, Mnemonic};

use super::operands::shape;
use super::special::of_scalars;
use super::{I, L};
use crate::emitter::{Emitter, Fma, Lane};
use crate::isa::Semantics;
use crate::wide::float::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    by_132(code).or_else(|| by_213(code)).or_else(|| by_231(code))
}

/// The numbers of the operands that are multiplied and of the one that is added.
pub(super) type Order = [u32; 3];

pub(super) const BY_132: Order = [0, 2, 1];
pub(super) const BY_213: Order = [1, 0, 2];
pub(super) const BY_231: Order = [1, 2, 0];

fn by_132<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vfmadd132ps => |l, i| packed(l, i, Fma::Add, BY_132, Lane::F32),
        Vfmadd132pd => |l, i| packed(l, i, Fma::Add, BY_132, Lane::F64),
        Vfmadd132ss => |l, i| scalar(l, i, Fma::Add, BY_132, Lane::F32),
        Vfmadd132sd => |l, i| scalar(l, i, Fma::Add, BY_132, Lane::F64),
        Vfmsub132ps => |l, i| packed(l, i, Fma::Sub, BY_132, Lane::F32),
        Vfmsub132pd => |l, i| packed(l, i, Fma::Sub, BY_132, Lane::F64),
        Vfmsub132ss => |l, i| scalar(l, i, Fma::Sub, BY_132, Lane::F32),
        Vfmsub132sd => |l, i| scalar(l, i, Fma::Sub, BY_132, Lane::F64),
        Vfnmadd132ps => |l, i| packed(l, i, Fma::NegatedAdd, BY_132, Lane::F32),
        Vfnmadd132pd => |l, i| packed(l, i, Fma::NegatedAdd, BY_132, Lane::F64),
        Vfnmadd132ss => |l, i| scalar(l, i, Fma::NegatedAdd, BY_132, Lane::F32),
        Vfnmadd132sd => |l, i| scalar(l, i, Fma::NegatedAdd, BY_132, Lane::F64),
        Vfnmsub132ps => |l, i| packed(l, i, Fma::NegatedSub, BY_132, Lane::F32),
        Vfnmsub132pd => |l, i| packed(l, i, Fma::NegatedSub, BY_132, Lane::F64),
        Vfnmsub132ss => |l, i| scalar(l, i, Fma::NegatedSub, BY_132, Lane::F32),
        Vfnmsub132sd => |l, i| scalar(l, i, Fma::NegatedSub, BY_132, Lane::F64),
        Vfmaddsub132ps => |l, i| packed(l, i, Fma::AddSub, BY_132, Lane::F32),
        Vfmaddsub132pd => |l, i| packed(l, i, Fma::AddSub, BY_132, Lane::F64),
        Vfmsubadd132ps => |l, i| packed(l, i, Fma::SubAdd, BY_132, Lane::F32),
        Vfmsubadd132pd => |l, i| packed(l, i, Fma::SubAdd, BY_132, Lane::F64),
        _ => return None,
    };
    Some(f)
}

fn by_213<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vfmadd213ps => |l, i| packed(l, i, Fma::Add, BY_213, Lane::F32),
        Vfmadd213pd => |l, i| packed(l, i, Fma::Add, BY_213, Lane::F64),
        Vfmadd213ss => |l, i| scalar(l, i, Fma::Add, BY_213, Lane::F32),
        Vfmadd213sd => |l, i| scalar(l, i, Fma::Add, BY_213, Lane::F64),
        Vfmsub213ps => |l, i| packed(l, i, Fma::Sub, BY_213, Lane::F32),
        Vfmsub213pd => |l, i| packed(l, i, Fma::Sub, BY_213, Lane::F64),
        Vfmsub213ss => |l, i| scalar(l, i, Fma::Sub, BY_213, Lane::F32),
        Vfmsub213sd => |l, i| scalar(l, i, Fma::Sub, BY_213, Lane::F64),
        Vfnmadd213ps => |l, i| packed(l, i, Fma::NegatedAdd, BY_213, Lane::F32),
        Vfnmadd213pd => |l, i| packed(l, i, Fma::NegatedAdd, BY_213, Lane::F64),
        Vfnmadd213ss => |l, i| scalar(l, i, Fma::NegatedAdd, BY_213, Lane::F32),
        Vfnmadd213sd => |l, i| scalar(l, i, Fma::NegatedAdd, BY_213, Lane::F64),
        Vfnmsub213ps => |l, i| packed(l, i, Fma::NegatedSub, BY_213, Lane::F32),
        Vfnmsub213pd => |l, i| packed(l, i, Fma::NegatedSub, BY_213, Lane::F64),
        Vfnmsub213ss => |l, i| scalar(l, i, Fma::NegatedSub, BY_213, Lane::F32),
        Vfnmsub213sd => |l, i| scalar(l, i, Fma::NegatedSub, BY_213, Lane::F64),
        Vfmaddsub213ps => |l, i| packed(l, i, Fma::AddSub, BY_213, Lane::F32),
        Vfmaddsub213pd => |l, i| packed(l, i, Fma::AddSub, BY_213, Lane::F64),
        Vfmsubadd213ps => |l, i| packed(l, i, Fma::SubAdd, BY_213, Lane::F32),
        Vfmsubadd213pd => |l, i| packed(l, i, Fma::SubAdd, BY_213, Lane::F64),
        _ => return None,
    };
    Some(f)
}

fn by_231<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vfmadd231ps => |l, i| packed(l, i, Fma::Add, BY_231, Lane::F32),
        Vfmadd231pd => |l, i| packed(l, i, Fma::Add, BY_231, Lane::F64),
        Vfmadd231ss => |l, i| scalar(l, i, Fma::Add, BY_231, Lane::F32),
        Vfmadd231sd => |l, i| scalar(l, i, Fma::Add, BY_231, Lane::F64),
        Vfmsub231ps => |l, i| packed(l, i, Fma::Sub, BY_231, Lane::F32),
        Vfmsub231pd => |l, i| packed(l, i, Fma::Sub, BY_231, Lane::F64),
        Vfmsub231ss => |l, i| scalar(l, i, Fma::Sub, BY_231, Lane::F32),
        Vfmsub231sd => |l, i| scalar(l, i, Fma::Sub, BY_231, Lane::F64),
        Vfnmadd231ps => |l, i| packed(l, i, Fma::NegatedAdd, BY_231, Lane::F32),
        Vfnmadd231pd => |l, i| packed(l, i, Fma::NegatedAdd, BY_231, Lane::F64),
        Vfnmadd231ss => |l, i| scalar(l, i, Fma::NegatedAdd, BY_231, Lane::F32),
        Vfnmadd231sd => |l, i| scalar(l, i, Fma::NegatedAdd, BY_231, Lane::F64),
        Vfnmsub231ps => |l, i| packed(l, i, Fma::NegatedSub, BY_231, Lane::F32),
        Vfnmsub231pd => |l, i| packed(l, i, Fma::NegatedSub, BY_231, Lane::F64),
        Vfnmsub231ss => |l, i| scalar(l, i, Fma::NegatedSub, BY_231, Lane::F32),
        Vfnmsub231sd => |l, i| scalar(l, i, Fma::NegatedSub, BY_231, Lane::F64),
        Vfmaddsub231ps => |l, i| packed(l, i, Fma::AddSub, BY_231, Lane::F32),
        Vfmaddsub231pd => |l, i| packed(l, i, Fma::AddSub, BY_231, Lane::F64),
        Vfmsubadd231ps => |l, i| packed(l, i, Fma::SubAdd, BY_231, Lane::F32),
        Vfmsubadd231pd => |l, i| packed(l, i, Fma::SubAdd, BY_231, Lane::F64),
        _ => return None,
    };
    Some(f)
}

pub(super) fn packed<E: Emitter>(l: L<E>, i: I, op: Fma, order: Order, lane: Lane) {
    let ty = shape(i, lane);
    let operands = order.map(|n| {
        let v = l.masked_vector(i, n, ty.lanes());
        l.calm(i, ty, v)
    });
    let r = l.e.vfma(op, ty, operands);
    l.set_vector(i, lane, r);
}

/// The rest of the register stays.
pub(super) fn scalar<E: Emitter>(l: L<E>, i: I, op: Fma, order: Order, lane: Lane) {
    let operands = order.map(|n| l.calm_scalar(i, n, lane));
    let r = match lane.fty() {
        Some(ty) => l.e.fma(op, ty, operands),
        None => of_scalars(l, Op::MultiplyAdd, lane, &operands, op as u8),
    };
    let rest = l.vector(i, 0);
    l.set_scalar_over(i, lane, r, rest);
}

//! Floating-point comparisons (SDM vol. 1, 5.4.1.3, 5.5.1.4).

use iced_x86::{Code, Mnemonic};

use super::operands::{float_lane, shape, sources};
use super::{I, L};
use crate::emitter::{CondOp, Emitter, FPred, Flag, Fty, Lane, Ty};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Cmpps => |l, i| packed(l, i, Lane::F32),
        Cmppd => |l, i| packed(l, i, Lane::F64),
        Cmpss => |l, i| scalar(l, i, Fty::F32),
        Cmpsd if !code.is_string_instruction() => |l, i| scalar(l, i, Fty::F64),
        Comiss => |l, i| comis(l, i, Fty::F32, E::fcmp),
        Comisd => |l, i| comis(l, i, Fty::F64, E::fcmp),
        Ucomiss => |l, i| comis(l, i, Fty::F32, E::fcmp_quiet),
        Ucomisd => |l, i| comis(l, i, Fty::F64, E::fcmp_quiet),
        _ => return None,
    };
    Some(f)
}

/// The legacy forms' predicates, by the immediate's low three bits (SDM vol. 2, table 3-1).
const PREDICATES: [FPred; 8] =
    [FPred::Oeq, FPred::Olt, FPred::Ole, FPred::Uno, FPred::Une, FPred::Uge, FPred::Ugt, FPred::Ord];

fn predicate(i: I) -> FPred {
    PREDICATES[i.immediate(i.op_count() - 1) as usize & 7]
}

fn packed<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let (a, b) = l.two_vectors(i);
    let r = l.e.vfcmp(predicate(i), shape(i, lane), a, b);
    l.set_vector(i, r);
}

fn scalar<E: Emitter>(l: L<E>, i: I, ty: Fty) {
    let lane = float_lane(ty);
    let (a, b) = sources(i);
    let b = l.scalar(i, b, lane);
    let a = l.scalar(i, a, lane);
    let c = l.e.fcmp(predicate(i), ty, a, b);
    let ones = l.imm(ty.ty(), u64::MAX);
    let zero = l.imm(ty.ty(), 0);
    let r = l.e.select(ty.ty(), c, ones, zero);
    l.set_scalar(i, lane, r);
}

/// [`Emitter::fcmp`], with which COMISS raises the invalid flag for any NaN, or [`Emitter::fcmp_quiet`].
type Compare<E> = fn(&mut E, FPred, Fty, <E as Emitter>::Val, <E as Emitter>::Val) -> <E as Emitter>::Cond;

/// COMISS and UCOMISS: ZF, PF, CF = 111 unordered, 000 greater, 001 less, 100 equal; the others clear.
fn comis<E: Emitter>(l: L<E>, i: I, ty: Fty, compare: Compare<E>) {
    let lane = float_lane(ty);
    let b = l.scalar(i, 1, lane);
    let a = l.scalar(i, 0, lane);
    let unordered = l.e.fcmp(FPred::Uno, ty, a, b);
    let equal = l.e.fcmp(FPred::Oeq, ty, a, b);
    let zf = l.e.cond_op(CondOp::Or, unordered, equal);
    // Less or unordered: b is not less than or equal to a.
    let cf = compare(l.e, FPred::Ugt, ty, b, a);
    let ordered = l.e.cond_not(unordered);
    let odd = l.e.cond_to_int(Ty::I8, ordered);
    let clear = l.e.bconst(false);
    l.set_flag(Flag::Zf, zf);
    l.set_parity(odd);
    l.set_flag(Flag::Cf, cf);
    for flag in [Flag::Of, Flag::Sf, Flag::Af] {
        l.set_flag(flag, clear);
    }
}

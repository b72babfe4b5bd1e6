//! Floating-point comparisons (SDM vol. 1, 5.4.1.3, 5.5.1.4).

use iced_x86::{Code, Mnemonic, RflagsBits};

use super::operands::{float_lane, shape, sources};
use super::{I, L};
use crate::emitter::{Emitter, FPred, Fty, Lane, Read};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Cmpps => |l, i| packed(l, i, Lane::F32),
        Cmppd => |l, i| packed(l, i, Lane::F64),
        Cmpss => |l, i| scalar(l, i, Fty::F32),
        Cmpsd if !code.is_string_instruction() => |l, i| scalar(l, i, Fty::F64),
        Comiss => |l, i| comis(l, i, Fty::F32, true),
        Comisd => |l, i| comis(l, i, Fty::F64, true),
        Ucomiss => |l, i| comis(l, i, Fty::F32, false),
        Ucomisd => |l, i| comis(l, i, Fty::F64, false),
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
    l.set_vector(i, lane, r);
}

fn scalar<E: Emitter>(l: L<E>, i: I, ty: Fty) {
    let lane = float_lane(ty);
    let (a, b) = sources(i);
    let b = l.scalar(i, b, lane);
    let a = l.scalar(i, a, lane);
    let r = l.e.fmask(predicate(i), ty, a, b);
    l.set_scalar(i, lane, r);
}

/// COMISS, and UCOMISS, which doesn't signal.
fn comis<E: Emitter>(l: L<E>, i: I, ty: Fty, signals: bool) {
    let lane = float_lane(ty);
    let b = l.scalar(i, 1, lane);
    let a = l.scalar(i, 0, lane);
    let [carry, zero, parity] = [RflagsBits::CF, RflagsBits::ZF, RflagsBits::PF].map(|flag| l.is_live(flag));
    let read = match (carry, parity) {
        (true, false) if !zero => Read::Carry,
        (false, true) => Read::Unordered,
        _ => Read::Above,
    };
    let compare = l.e.fcompare(signals, read, ty, a, b);
    l.set_flags_compare(compare);
}

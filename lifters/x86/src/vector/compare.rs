//! Floating-point comparisons (SDM vol. 1, 5.4.1.3, 5.5.1.4).

use iced_x86::{Code, EncodingKind, Mnemonic, RflagsBits};

use super::operands::{bits_of, float_lane, is_legacy, shape, sources};
use super::{I, L};
use crate::emitter::{Bin, Emitter, FPred, Fty, Lane, Read, Ty, VTy};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vcmpps if is_evex(code) => |l, i| packed_to_mask(l, i, Lane::F32),
        Vcmppd if is_evex(code) => |l, i| packed_to_mask(l, i, Lane::F64),
        Vcmpss if is_evex(code) => |l, i| scalar_to_mask(l, i, Fty::F32),
        Vcmpsd if is_evex(code) => |l, i| scalar_to_mask(l, i, Fty::F64),
        Cmpps | Vcmpps => |l, i| packed(l, i, Lane::F32),
        Cmppd | Vcmppd => |l, i| packed(l, i, Lane::F64),
        Cmpss | Vcmpss => |l, i| scalar(l, i, Fty::F32),
        Cmpsd if code.is_string_instruction() => return None,
        Cmpsd | Vcmpsd => |l, i| scalar(l, i, Fty::F64),
        Comiss | Vcomiss => |l, i| comis(l, i, Fty::F32, true),
        Comisd | Vcomisd => |l, i| comis(l, i, Fty::F64, true),
        Ucomiss | Vucomiss => |l, i| comis(l, i, Fty::F32, false),
        Ucomisd | Vucomisd => |l, i| comis(l, i, Fty::F64, false),
        _ => return None,
    };
    Some(f)
}

fn is_evex(code: Code) -> bool {
    code.encoding() == EncodingKind::EVEX
}

/// The legacy forms know the first eight.
pub(super) fn predicate(i: I) -> FPred {
    let n = i.immediate(i.op_count() - 1) as u8;
    FPred::of_number(if is_legacy(i) { n % 8 } else { n })
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

fn packed_to_mask<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let ty = VTy { lane, bits: bits_of(i.op1_register()) };
    let (a, b) = l.two_masked_vectors(i, ty.lanes());
    let (a, b) = (l.calm(i, ty, a), l.calm(i, ty, b));
    let m = l.e.vfcompare(predicate(i), ty, a, b);
    l.set_mask(i, ty.lanes(), m);
}

fn scalar_to_mask<E: Emitter>(l: L<E>, i: I, ty: Fty) {
    let lane = float_lane(ty);
    let b = l.calm_scalar(i, 2, lane);
    let a = l.calm_scalar(i, 1, lane);
    let r = l.e.fmask(predicate(i), ty, a, b);
    let r = l.zcast(ty.ty(), Ty::I64, r);
    let bit = l.bin_imm(Bin::And, Ty::I64, r, 1);
    l.set_mask_bits(i, bit);
}

/// COMISS, and UCOMISS, which doesn't signal.
fn comis<E: Emitter>(l: L<E>, i: I, ty: Fty, signals: bool) {
    let lane = float_lane(ty);
    let b = l.scalar(i, 1, lane);
    let a = l.scalar(i, 0, lane);
    let read = read(l);
    let compare = l.e.fcompare(signals, read, ty, a, b);
    l.set_flags_compare(compare);
}

/// What is probably read of a comparison's flags.
pub(super) fn read<E: Emitter>(l: L<E>) -> Read {
    let [carry, zero, parity] = [RflagsBits::CF, RflagsBits::ZF, RflagsBits::PF].map(|flag| l.is_live(flag));
    match (carry, parity) {
        (true, false) if !zero => Read::Carry,
        (false, true) => Read::Unordered,
        _ => Read::Above,
    }
}

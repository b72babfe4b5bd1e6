//! Rounding to integral values and dot products of floats (SDM vol. 1, 5.10.3 and 5.10.4; SDM vol. 2, VRNDSCALEPS).

use iced_x86::{Code, EncodingKind, Mnemonic};

use super::float::one_float_vector;
use super::operands::{float_lane, last_source, shape};
use super::special;
use super::{I, L};
use crate::emitter::{Emitter, FBin, Fty, Rounding, VBin, VTy};
use crate::isa::Semantics;
use crate::wide::float::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Roundps | Vroundps | Vrndscaleps => |l, i| packed(l, i, Fty::F32),
        Roundpd | Vroundpd | Vrndscalepd => |l, i| packed(l, i, Fty::F64),
        Roundss | Vroundss | Vrndscaless => |l, i| scalar(l, i, Fty::F32),
        Roundsd | Vroundsd | Vrndscalesd => |l, i| scalar(l, i, Fty::F64),
        Dpps | Vdpps => |l, i| dot_product(l, i, Fty::F32),
        Dppd | Vdppd => |l, i| dot_product(l, i, Fty::F64),
        _ => return None,
    };
    Some(f)
}

fn immediate(i: I) -> u32 {
    i.immediate(i.op_count() - 1) as u32
}

/// ROUNDPS's immediate: bit 2 selects MXCSR's mode, bits 0 and 1 another one.
fn rounding(i: I) -> Rounding {
    match immediate(i) & 7 {
        0 => Rounding::Nearest,
        1 => Rounding::Down,
        2 => Rounding::Up,
        3 => Rounding::Zero,
        _ => Rounding::Current,
    }
}

fn raises_inexact(i: I) -> bool {
    immediate(i) & 8 == 0
}

/// Whether digits behind the point remain, as VRNDSCALEPS has it.
fn keeps_digits(i: I) -> bool {
    i.code().encoding() == EncodingKind::EVEX && immediate(i) >> 4 & 15 != 0
}

fn packed<E: Emitter>(l: L<E>, i: I, f: Fty) {
    let lane = float_lane(f);
    if keeps_digits(i) {
        return special::packed(l, i, Op::RoundScaled, lane);
    }
    let v = one_float_vector(l, i, lane);
    let r = l.e.vfround(rounding(i), raises_inexact(i), shape(i, lane), v);
    l.set_vector(i, lane, r);
}

fn scalar<E: Emitter>(l: L<E>, i: I, f: Fty) {
    let lane = float_lane(f);
    if keeps_digits(i) {
        return special::scalar(l, i, Op::RoundScaled, lane);
    }
    let v = l.calm_scalar(i, last_source(i), lane);
    let r = l.e.fround(rounding(i), raises_inexact(i), f, v);
    l.set_scalar(i, lane, r);
}

/// The immediate's high bits tell which products are summed up, pairwise, its low bits where the sum goes; each 128 bits by
/// themselves. Which of several NaNs comes through isn't specified: the order of the sums is that of Intel's processors.
fn dot_product<E: Emitter>(l: L<E>, i: I, f: Fty) {
    let (a, b) = l.two_vectors(i);
    let ty = shape(i, float_lane(f));
    // Zeros are multiplied instead of what isn't wanted, which raises no flag.
    let wanted = lanes_of_bits(l, ty, immediate(i) >> 4);
    let [a, b] = [a, b].map(|v| l.e.vbin(VBin::And, ty, v, wanted));
    let terms = l.e.vfbin(FBin::Mul, ty, a, b);
    l.e.raise_exceptions();
    let others = l.shuffle_blocks(ty, terms, terms, |_, j| j ^ 1);
    let sums = if f == Fty::F64 {
        l.e.vfbin(FBin::Add, ty, terms, others)
    } else {
        let pairs = l.e.vfbin(FBin::Add, ty, others, terms);
        l.e.raise_exceptions();
        let others = l.shuffle_blocks(ty, pairs, pairs, |_, j| j ^ 2);
        l.e.vfbin(FBin::Add, ty, pairs, others)
    };
    let target = lanes_of_bits(l, ty, immediate(i));
    let r = l.e.vbin(VBin::And, ty, sums, target);
    l.set_vector(i, float_lane(f), r);
}

/// All ones in the lanes of each 128 bits whose bit is set.
fn lanes_of_bits<E: Emitter>(l: L<E>, ty: VTy, bits: u32) -> E::Vec {
    let (width, per_block) = (ty.lane.ty().bytes(), 128 / ty.lane.ty().bits());
    let byte = |n: u32| if bits >> (n / width % per_block) & 1 == 1 { 0xff } else { 0 };
    let bytes: [u8; 64] = core::array::from_fn(|n| byte(n as u32));
    l.e.vconst(&bytes[..ty.bits as usize / 8])
}

//! AES, carry-less products, SHA and Galois fields (SDM vol. 1, 5.10.4, 5.18, 5.24 and 5.26).

use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::operands::{lanes, last_source, shape, width};
use super::{I, L};
use crate::emitter::{Emitter, Lane};
use crate::isa::Semantics;
use crate::wide::Wide;
use crate::wide::crypto::Op;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    ciphers(code).or_else(|| hashes(code)).or_else(|| galois_fields(code))
}

fn ciphers<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Aesenc | Vaesenc => |l, i| two(l, i, Op::AesEncrypt),
        Aesenclast | Vaesenclast => |l, i| two(l, i, Op::AesEncryptLast),
        Aesdec | Vaesdec => |l, i| two(l, i, Op::AesDecrypt),
        Aesdeclast | Vaesdeclast => |l, i| two(l, i, Op::AesDecryptLast),
        Aesimc | Vaesimc => |l, i| one(l, i, Op::AesInverseMixColumns),
        Aeskeygenassist | Vaeskeygenassist => |l, i| one(l, i, Op::AesKeyAssist),
        Pclmulqdq | Vpclmulqdq => |l, i| two(l, i, Op::CarrylessMultiply),
        _ => return None,
    };
    Some(f)
}

fn hashes<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Sha1nexte => |l, i| two(l, i, Op::Sha1NextE),
        Sha1msg1 => |l, i| two(l, i, Op::Sha1Schedule1),
        Sha1msg2 => |l, i| two(l, i, Op::Sha1Schedule2),
        Sha1rnds4 => |l, i| two(l, i, Op::Sha1Rounds),
        Sha256msg1 => |l, i| two(l, i, Op::Sha256Schedule1),
        Sha256msg2 => |l, i| two(l, i, Op::Sha256Schedule2),
        Sha256rnds2 => sha256_rounds,
        _ => return None,
    };
    Some(f)
}

fn galois_fields<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Gf2p8mulb | Vgf2p8mulb => galois_multiply,
        Gf2p8affineqb | Vgf2p8affineqb => |l, i| two(l, i, Op::GaloisAffine),
        Gf2p8affineinvqb | Vgf2p8affineinvqb => |l, i| two(l, i, Op::GaloisAffineInverse),
        _ => return None,
    };
    Some(f)
}

/// The last operand, if it is an immediate.
fn immediate(i: I) -> u8 {
    let n = i.op_count() - 1;
    if i.op_kind(n) == OpKind::Immediate8 { i.immediate(n) as u8 } else { 0 }
}

fn one<E: Emitter>(l: L<E>, i: I, op: Op) {
    let v = l.vector(i, last_source(i));
    let r = l.e.wide(Wide::Crypto(op), shape(i, Lane::I8), &[(width(i), v)], immediate(i));
    l.set_vector(i, Lane::I8, r);
}

fn two<E: Emitter>(l: L<E>, i: I, op: Op) {
    let (a, b) = l.two_vectors(i);
    let operands = [a, b].map(|v| (width(i), v));
    let r = l.e.wide(Wide::Crypto(op), shape(i, Lane::I8), &operands, immediate(i));
    l.set_vector(i, Lane::I8, r);
}

/// The third source is always XMM0.
fn sha256_rounds<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_vectors(i);
    let words = l.vreg(Register::XMM0);
    let operands = [a, b, words].map(|v| (128, v));
    let r = l.e.wide(Wide::Crypto(Op::Sha256Rounds), shape(i, Lane::I8), &operands, 0);
    l.set_vector(i, Lane::I8, r);
}

fn galois_multiply<E: Emitter>(l: L<E>, i: I) {
    let (a, b) = l.two_masked_vectors(i, lanes(i, Lane::I8));
    let operands = [a, b].map(|v| (width(i), v));
    let r = l.e.wide(Wide::Crypto(Op::GaloisMultiply), shape(i, Lane::I8), &operands, 0);
    l.set_vector(i, Lane::I8, r);
}

//! PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (SDM vol. 1, 5.10.1 and vol. 2, 4.1), by a helper: they are
//! rare, and long in any other instruction set.

use core::mem::offset_of;

use iced_x86::{Code, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, Helper};

use super::operands::upper;
use super::{I, L};
use crate::emitter::{Emitter, Flag, Lane, Ty, VTy};
use crate::isa::Semantics;
use crate::string_compare::{CF, EXPLICIT, INDEX_SHIFT, OF, SF, ZF};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pcmpestri | Pcmpestri64 => |l, i| index(l, i, true),
        Pcmpistri => |l, i| index(l, i, false),
        Pcmpestrm | Pcmpestrm64 => |l, i| mask(l, i, true),
        Pcmpistrm => |l, i| mask(l, i, false),
        _ => return None,
    };
    Some(f)
}

const fn scratch(vector: usize, half: u32) -> usize {
    offset_of!(CpuState, scratch) + 64 * vector + 8 * half as usize
}

const QWORDS: VTy = VTy::x128(Lane::I64);

/// Compares, sets the flags, and gives the helper's answer.
fn compare<E: Emitter>(l: L<E>, i: I, explicit: bool) -> E::Val {
    let a = l.vector(i, 0);
    // Memory may be misaligned here (SDM vol. 2, PCMPESTRI).
    let b = if i.op1_kind() == OpKind::Memory {
        let addr = l.ea(i);
        l.vload(128, addr)
    } else {
        l.vector(i, 1)
    };
    for (n, v) in [a, b].into_iter().enumerate() {
        for half in 0..2 {
            let x = l.e.extract(QWORDS, v, half);
            l.e.state_store(Ty::I64, scratch(n, half), x);
        }
    }
    let control = i.immediate8() as u64 | if explicit { EXPLICIT } else { 0 };
    let control = l.imm(Ty::I64, control);
    let first = length(l, i, Register::EAX, Register::RAX);
    let second = length(l, i, Register::EDX, Register::RDX);
    let answer = l.call_helper(Helper::StringCompare, &[control, first, second]);
    for (flag, bit) in [(Flag::Cf, CF), (Flag::Zf, ZF), (Flag::Sf, SF), (Flag::Of, OF)] {
        let c = l.bit(Ty::I64, answer, bit);
        l.set_flag(flag, c);
    }
    let clear = l.e.bconst(false);
    l.set_flag(Flag::Af, clear);
    let odd = l.imm(Ty::I8, 1);
    l.set_parity(odd);
    answer
}

/// A length register, sign-extended.
fn length<E: Emitter>(l: L<E>, i: I, narrow: Register, wide: Register) -> E::Val {
    if matches!(i.mnemonic(), Mnemonic::Pcmpestri64 | Mnemonic::Pcmpestrm64) {
        return l.reg(wide);
    }
    let v = l.reg(narrow);
    l.scast(Ty::I32, Ty::I64, v)
}

fn index<E: Emitter>(l: L<E>, i: I, explicit: bool) {
    let answer = compare(l, i, explicit);
    let index = l.bin_imm(crate::emitter::Bin::Lshr, Ty::I64, answer, INDEX_SHIFT);
    l.e.set_gpr(xlate_abi::state::RCX, index);
}

/// The mask goes to XMM0; the helper leaves it in the scratch area.
fn mask<E: Emitter>(l: L<E>, i: I, explicit: bool) {
    compare(l, i, explicit);
    let low = l.e.state_load(Ty::I64, scratch(2, 0));
    let high = l.e.state_load(Ty::I64, scratch(2, 1));
    let v = l.zero_extended(Lane::I64, low);
    let v = l.e.insert(QWORDS, v, 1, high);
    l.set_vreg(Register::XMM0, v, upper(i));
}

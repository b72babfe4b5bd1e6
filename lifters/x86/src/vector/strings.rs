//! PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (SDM vol. 1, 5.10.1 and vol. 2, 4.1).
//!
//! Where the host has the instruction, comparisons up to a zero are one. Otherwise lengths are masks of valid elements.
//! "Equal each", with which the C library compares strings, is three vector comparisons in line then; the other
//! aggregations are rarer, and a helper's.

use iced_x86::{Code, Mnemonic, OpKind, Register};
use xlate_abi::state::{Helper, RCX};

use super::operands::upper;
use super::{I, L};
use crate::emitter::{Bin, Compared, Emitter, Flag, Lane, Pred, Ty, Un, VBin, VTy};
use crate::isa::Semantics;
use crate::string_compare::{FIRST_VALID, Format, SECOND_VALID};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Pcmpestri | Pcmpestri64 | Vpcmpestri | Vpcmpestri64 => |l, i| index(l, i, true),
        Pcmpistri | Vpcmpistri => |l, i| index(l, i, false),
        Pcmpestrm | Pcmpestrm64 | Vpcmpestrm | Vpcmpestrm64 => |l, i| mask(l, i, true),
        Pcmpistrm | Vpcmpistrm => |l, i| mask(l, i, false),
        _ => return None,
    };
    Some(f)
}

const QWORDS: VTy = VTy::x128(Lane::I64);

impl Format {
    fn of(i: I) -> Self {
        Self { control: i.immediate8() }
    }

    fn shape(self) -> VTy {
        VTy::x128(if self.words() { Lane::I16 } else { Lane::I8 })
    }

    /// A bit an element.
    fn all(self) -> u64 {
        (1 << self.elements()) - 1
    }
}

fn operands<E: Emitter>(l: L<E>, i: I) -> [E::Vec; 2] {
    let a = l.vector(i, 0);
    // Memory may be misaligned here (SDM vol. 2, PCMPESTRI).
    let b = if i.op1_kind() == OpKind::Memory {
        let addr = l.ea(i);
        l.vload(128, addr)
    } else {
        l.vector(i, 1)
    };
    [a, b]
}

/// Compares by the host's instruction, if it has one, and sets the flags.
fn by_host<E: Emitter>(l: L<E>, i: I, explicit: bool, [a, b]: [E::Vec; 2]) -> Option<Compared<E>> {
    if explicit {
        return None;
    }
    let compared = l.e.compare_strings(i.immediate8(), a, b)?;
    set_flags(l, compared.flags);
    Some(compared)
}

/// Compares and sets the flags; gives IntRes2.
fn compare<E: Emitter>(l: L<E>, i: I, explicit: bool, [a, b]: [E::Vec; 2]) -> E::Val {
    let format = Format::of(i);
    let valid = if explicit {
        [(Register::EAX, Register::RAX), (Register::EDX, Register::RDX)].map(|(n, w)| given(l, i, n, w))
    } else {
        [a, b].map(|v| before_zero(l, format, v))
    };
    let raw = if format.equal_each() { equal_each(l, format, [a, b], valid) } else { helper(l, format, [a, b], valid) };
    let bits = match format.control >> 4 & 3 {
        1 => l.bin_imm(Bin::Xor, Ty::I64, raw, format.all()),
        // Masked: only valid elements are inverted.
        3 => l.bin(Bin::Xor, Ty::I64, raw, valid[1]),
        _ => raw,
    };
    let some = l.cmp_imm(Pred::Ne, Ty::I64, bits, 0);
    let lowest = l.bit(Ty::I64, bits, 0);
    let [ends_first, ends_second] = valid.map(|v| l.cmp_imm(Pred::Ne, Ty::I64, v, format.all()));
    set_flags(l, [some, ends_second, ends_first, lowest]);
    bits
}

/// CF, ZF, SF and OF are given, the others constant.
fn set_flags<E: Emitter>(l: L<E>, given: [E::Cond; 4]) {
    for (flag, c) in [Flag::Cf, Flag::Zf, Flag::Sf, Flag::Of].into_iter().zip(given) {
        l.set_flag(flag, c);
    }
    let clear = l.e.bconst(false);
    l.set_flag(Flag::Af, clear);
    let odd = l.imm(Ty::I8, 1);
    l.set_parity(odd);
}

/// The elements before the first zero.
fn before_zero<E: Emitter>(l: L<E>, format: Format, v: E::Vec) -> E::Val {
    let zero = l.zero(128);
    let zeros = l.e.vbin(VBin::CmpEq, format.shape(), v, zero);
    let zeros = l.e.movmask(format.shape(), zeros);
    // The bits below the lowest one; all if there is none.
    let below = l.bin_imm(Bin::Sub, Ty::I64, zeros, 1);
    let others = l.e.un(Un::Not, Ty::I64, zeros);
    let below = l.bin(Bin::And, Ty::I64, below, others);
    l.bin_imm(Bin::And, Ty::I64, below, format.all())
}

/// As many elements as a length register's magnitude says, at most all.
fn given<E: Emitter>(l: L<E>, i: I, narrow: Register, wide: Register) -> E::Val {
    let format = Format::of(i);
    use Mnemonic::{Pcmpestri64, Pcmpestrm64, Vpcmpestri64, Vpcmpestrm64};
    let length = if matches!(i.mnemonic(), Pcmpestri64 | Pcmpestrm64 | Vpcmpestri64 | Vpcmpestrm64) {
        l.reg(wide)
    } else {
        let v = l.reg(narrow);
        l.scast(Ty::I32, Ty::I64, v)
    };
    let sign = l.bin_imm(Bin::Ashr, Ty::I64, length, 63);
    let magnitude = l.bin(Bin::Xor, Ty::I64, length, sign);
    let magnitude = l.bin(Bin::Sub, Ty::I64, magnitude, sign);
    let most = l.imm(Ty::I64, u64::from(format.elements()));
    let fits = l.e.cmp(Pred::Ult, Ty::I64, magnitude, most);
    let length = l.e.select(Ty::I64, fits, magnitude, most);
    let one = l.imm(Ty::I64, 1);
    let above = l.bin(Bin::Shl, Ty::I64, one, length);
    l.bin_imm(Bin::Sub, Ty::I64, above, 1)
}

/// Equal elements, where both are valid; what is behind both ends counts as equal.
fn equal_each<E: Emitter>(l: L<E>, format: Format, [a, b]: [E::Vec; 2], [first, second]: [E::Val; 2]) -> E::Val {
    let equal = l.e.vbin(VBin::CmpEq, format.shape(), a, b);
    let equal = l.e.movmask(format.shape(), equal);
    let both = l.bin(Bin::And, Ty::I64, first, second);
    let equal = l.bin(Bin::And, Ty::I64, equal, both);
    let either = l.bin(Bin::Or, Ty::I64, first, second);
    let neither = l.bin_imm(Bin::Xor, Ty::I64, either, format.all());
    l.bin(Bin::Or, Ty::I64, equal, neither)
}

fn helper<E: Emitter>(l: L<E>, format: Format, [a, b]: [E::Vec; 2], [first, second]: [E::Val; 2]) -> E::Val {
    let first = l.bin_imm(Bin::Shl, Ty::I64, first, FIRST_VALID.into());
    let second = l.bin_imm(Bin::Shl, Ty::I64, second, SECOND_VALID.into());
    let valid = l.bin(Bin::Or, Ty::I64, first, second);
    let control = l.bin_imm(Bin::Or, Ty::I64, valid, format.control.into());
    let [a0, a1, b0, b1] = [(a, 0), (a, 1), (b, 0), (b, 1)].map(|(v, half)| l.e.extract(QWORDS, v, half));
    l.call_helper(Helper::StringCompare, &[control, a0, a1, b0, b1])
}

/// The lowest or highest set bit goes to RCX, or the number of elements.
fn index<E: Emitter>(l: L<E>, i: I, explicit: bool) {
    let format = Format::of(i);
    let operands = operands(l, i);
    if let Some(compared) = by_host(l, i, explicit, operands) {
        l.e.set_gpr(RCX, compared.index);
        return;
    }
    let bits = compare(l, i, explicit, operands);
    let index = if format.control & 0x40 == 0 {
        let bits = l.bin_imm(Bin::Or, Ty::I64, bits, 1 << format.elements());
        l.e.un(Un::Ctz, Ty::I64, bits)
    } else {
        let none = l.cmp_imm(Pred::Eq, Ty::I64, bits, 0);
        let above = l.e.un(Un::Clz, Ty::I64, bits);
        let highest = l.bin_imm(Bin::Xor, Ty::I64, above, 63);
        let elements = l.imm(Ty::I64, format.elements().into());
        l.e.select(Ty::I64, none, elements, highest)
    };
    l.e.set_gpr(RCX, index);
}

/// The bits themselves go to XMM0, or a mask of elements.
fn mask<E: Emitter>(l: L<E>, i: I, explicit: bool) {
    let format = Format::of(i);
    let operands = operands(l, i);
    if let Some(compared) = by_host(l, i, explicit, operands) {
        l.set_vreg(Register::XMM0, compared.mask, upper(i));
        return;
    }
    let bits = compare(l, i, explicit, operands);
    let mut v = l.zero_extended(Lane::I64, bits);
    if format.control & 0x40 != 0 {
        // In each element the eight bits that its own is among, then that bit alone.
        let spread: &[u8] = if format.words() { &[0; 8] } else { &[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1] };
        let all = l.e.shuffle(format.shape(), v, v, spread);
        let width = 16 / format.elements() as usize;
        let own: [u8; 16] = core::array::from_fn(|n| if n % width == 0 { 1 << (n / width % 8) } else { 0 });
        let own = l.e.vconst(&own);
        let set = l.e.vbin(VBin::And, format.shape(), all, own);
        v = l.e.vbin(VBin::CmpEq, format.shape(), set, own);
    }
    l.set_vreg(Register::XMM0, v, upper(i));
}

//! Tier 0's shortcuts: the meaning of the commonest instructions, compiled once for each form of their operands.
//!
//! The meanings stay the ones of their chapters. A form only tells the compiler what the decoder knows of an
//! instruction (which operand is a register, which is in memory, how wide they are, which condition is tested), so
//! that the questions about it, asked at every execution otherwise, are answered when xlate is built.

use core::hint::assert_unchecked;

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind, Register};

use super::Interpreter;
use crate::emitter::{Bin, Rmw, Ty};
use crate::isa::Semantics;
use crate::lifter::{Cc, FlagOp, Lifter};
use crate::operands::{Operands, gpr_of, is_low_byte, is_named};
use crate::{arithmetic, control, data_movement, logic, shift};

type Tier0 = Interpreter;

/// What is known of an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole or low part of a general-purpose register.
    Register,
    Immediate,
    /// In memory at a known address.
    Fixed,
    /// In memory at a register's value plus a displacement.
    Based,
    /// The same with a scaled index.
    Indexed,
}

const KINDS: [Kind; 5] = [Kind::Register, Kind::Immediate, Kind::Fixed, Kind::Based, Kind::Indexed];
const TYPES: [Ty; 4] = [Ty::I8, Ty::I16, Ty::I32, Ty::I64];

/// A meaning that has forms.
trait Meaning {
    fn execute(l: &mut Lifter<'_, Tier0>, i: &Instruction);
}

macro_rules! meanings {
    ($l:ident, $i:ident: $($name:ident => $meaning:expr;)*) => {
        $(struct $name;
        impl Meaning for $name {
            #[inline(always)]
            fn execute($l: &mut Lifter<'_, Tier0>, $i: &Instruction) {
                $meaning;
            }
        })*
    };
}

meanings! {
    l, i:
    Mov => data_movement::mov(l, i);
    Add => arithmetic::add_sub(l, i, FlagOp::Add, false);
    Sub => arithmetic::add_sub(l, i, FlagOp::Sub, false);
    Cmp => arithmetic::cmp(l, i);
    And => logic::logic(l, i, Bin::And, Rmw::And);
    Or => logic::logic(l, i, Bin::Or, Rmw::Or);
    Xor => logic::logic(l, i, Bin::Xor, Rmw::Xor);
    Test => logic::test(l, i);
    Push => data_movement::push(l, i);
    Pop => data_movement::pop(l, i);
    Lea => data_movement::lea(l, i);
    Movzx => data_movement::movzx(l, i);
    Movsx => data_movement::movsx(l, i);
    Cmovcc => data_movement::cmovcc(l, i);
    Shl => shift::shift(l, i, Bin::Shl);
    Shr => shift::shift(l, i, Bin::Lshr);
    Sar => shift::shift(l, i, Bin::Ashr);
    Jump => control::jmp(l, i);
    Call => control::call(l, i);
    Ret => control::ret(l, i);
}

/// The instruction's form, if its meaning has forms and this is one of them.
pub fn of(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    if i.has_lock_prefix() {
        return None;
    }
    match i.mnemonic() {
        Mnemonic::Mov => two_operands::<Mov>(i, o),
        Mnemonic::Add => two_operands::<Add>(i, o),
        Mnemonic::Sub => two_operands::<Sub>(i, o),
        Mnemonic::Cmp => two_operands::<Cmp>(i, o),
        Mnemonic::And => two_operands::<And>(i, o),
        Mnemonic::Or => two_operands::<Or>(i, o),
        Mnemonic::Xor => two_operands::<Xor>(i, o),
        Mnemonic::Test => two_operands::<Test>(i, o),
        Mnemonic::Push if is(i, o, 0, Kind::Register, Ty::I64) => Some(one_register::<Push>),
        Mnemonic::Pop if is(i, o, 0, Kind::Register, Ty::I64) => Some(one_register::<Pop>),
        Mnemonic::Lea => to_register::<Lea>(i, o, &[Ty::I64]),
        Mnemonic::Movzx => to_register::<Movzx>(i, o, &[Ty::I8, Ty::I16]),
        Mnemonic::Movsx => to_register::<Movsx>(i, o, &[Ty::I8, Ty::I16]),
        Mnemonic::Movsxd => to_register::<Movsx>(i, o, &[Ty::I32]),
        Mnemonic::Shl => by_immediate::<Shl>(i, o),
        Mnemonic::Shr => by_immediate::<Shr>(i, o),
        Mnemonic::Sar => by_immediate::<Sar>(i, o),
        _ if i.code().is_jcc_short_or_near() => jcc(o),
        _ if is_conditional_move(i) => conditional_move(i, o),
        _ => transfer(i.code()),
    }
}

/// Unconditional transfers, which need no form but to be one function.
fn transfer(code: Code) -> Option<Semantics<Tier0>> {
    match code {
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => Some(Jump::execute),
        Code::Call_rel32_64 => Some(Call::execute),
        Code::Retnq => Some(plain_return),
        _ => None,
    }
}

/// Whether this is what is known of an operand. Never true of one in FS or GS, with a 32-bit address, or of AH.
#[inline(always)]
fn is(i: &Instruction, o: &Operands, operand: u32, kind: Kind, ty: Ty) -> bool {
    let is_kind = match kind {
        Kind::Register => i.op_kind(operand) == OpKind::Register && is_low_part(i.op_register(operand), ty),
        Kind::Immediate => !matches!(i.op_kind(operand), OpKind::Register | OpKind::Memory) && o.has_immediate(),
        _ => {
            i.op_kind(operand) == OpKind::Memory
                && o.memory == Some(ty)
                && o.segment == Register::None
                && !o.narrow
                && o.base.is_some() == (kind != Kind::Fixed)
                && o.index.is_some() == (kind == Kind::Indexed)
        }
    };
    is_kind && o.ty[operand as usize] == ty
}

#[inline(always)]
fn is_low_part(r: Register, ty: Ty) -> bool {
    match ty {
        Ty::I8 => is_low_byte(r),
        Ty::I16 => is_gpr(r) && gpr_of(r).1 == Ty::I16,
        Ty::I32 | Ty::I64 => is_named(r, ty),
    }
}

/// iced-x86 lists the general-purpose registers first, from AL to R15.
#[inline(always)]
fn is_gpr(r: Register) -> bool {
    (Register::AL as u32..=Register::R15 as u32).contains(&(r as u32))
}

/// A meaning with both operands known.
///
/// Tier 0 calls it for instructions only for which [`of`] gave it.
fn known<M: Meaning, const FIRST: usize, const SECOND: usize, const TY: usize>(
    l: &mut Lifter<'_, Tier0>,
    i: &Instruction,
) {
    // SAFETY: `of` found this to hold for the instruction when it was decoded, and neither it nor its operands have
    // changed since: tier 0 takes all three from one `Insn`.
    unsafe {
        assert_unchecked(is(i, l.operands, 0, KINDS[FIRST], TYPES[TY]));
        assert_unchecked(is(i, l.operands, 1, KINDS[SECOND], TYPES[TY]));
        assert_unchecked(!i.has_lock_prefix());
    }
    M::execute(l, i);
}

fn two_operands<M: Meaning>(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    match o.ty[0] {
        Ty::I8 => of_type::<M, 0>(i, o),
        Ty::I16 => None,
        Ty::I32 => of_type::<M, 2>(i, o),
        Ty::I64 => of_type::<M, 3>(i, o),
    }
}

fn of_type<M: Meaning, const TY: usize>(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    let kind = |operand| KINDS.iter().position(|kind| is(i, o, operand, *kind, TYPES[TY]));
    Some(match (kind(0)?, kind(1)?) {
        (0, 0) => known::<M, 0, 0, TY>,
        (0, 1) => known::<M, 0, 1, TY>,
        (0, 2) => known::<M, 0, 2, TY>,
        (0, 3) => known::<M, 0, 3, TY>,
        (0, 4) => known::<M, 0, 4, TY>,
        (2, 0) => known::<M, 2, 0, TY>,
        (3, 0) => known::<M, 3, 0, TY>,
        (4, 0) => known::<M, 4, 0, TY>,
        (2, 1) => known::<M, 2, 1, TY>,
        (3, 1) => known::<M, 3, 1, TY>,
        (4, 1) => known::<M, 4, 1, TY>,
        _ => return None,
    })
}

/// Where a narrower or any operand goes to a wide register: the destination's type, the source's kind and type.
fn widening<M: Meaning, const TO: usize, const KIND: usize, const FROM: usize>(
    l: &mut Lifter<'_, Tier0>,
    i: &Instruction,
) {
    // SAFETY: as in `known`.
    unsafe {
        assert_unchecked(is(i, l.operands, 0, Kind::Register, TYPES[TO]));
        assert_unchecked(is(i, l.operands, 1, KINDS[KIND], TYPES[FROM]));
    }
    M::execute(l, i);
}

fn to_register<M: Meaning>(i: &Instruction, o: &Operands, sources: &[Ty]) -> Option<Semantics<Tier0>> {
    if !sources.contains(&o.ty[1]) {
        return None;
    }
    match o.ty[0] {
        Ty::I32 => widening_to::<M, 2>(i, o),
        Ty::I64 => widening_to::<M, 3>(i, o),
        _ => None,
    }
}

fn widening_to<M: Meaning, const TO: usize>(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    match o.ty[1] {
        Ty::I8 => widening_from::<M, TO, 0>(i, o),
        Ty::I16 => widening_from::<M, TO, 1>(i, o),
        Ty::I32 => widening_from::<M, TO, 2>(i, o),
        Ty::I64 => widening_from::<M, TO, 3>(i, o),
    }
}

fn widening_from<M: Meaning, const TO: usize, const FROM: usize>(
    i: &Instruction,
    o: &Operands,
) -> Option<Semantics<Tier0>> {
    if !is(i, o, 0, Kind::Register, TYPES[TO]) {
        return None;
    }
    Some(match KINDS.iter().position(|kind| is(i, o, 1, *kind, TYPES[FROM]))? {
        0 => widening::<M, TO, 0, FROM>,
        2 => widening::<M, TO, 2, FROM>,
        3 => widening::<M, TO, 3, FROM>,
        4 => widening::<M, TO, 4, FROM>,
        _ => return None,
    })
}

/// A shift of a register by a known count.
fn shift_register<M: Meaning, const TY: usize>(l: &mut Lifter<'_, Tier0>, i: &Instruction) {
    // SAFETY: as in `known`.
    unsafe {
        assert_unchecked(is(i, l.operands, 0, Kind::Register, TYPES[TY]));
        assert_unchecked(i.op1_kind() == OpKind::Immediate8);
    }
    M::execute(l, i);
}

fn by_immediate<M: Meaning>(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    if i.op1_kind() != OpKind::Immediate8 {
        return None;
    }
    match o.ty[0] {
        Ty::I32 if is(i, o, 0, Kind::Register, Ty::I32) => Some(shift_register::<M, 2>),
        Ty::I64 if is(i, o, 0, Kind::Register, Ty::I64) => Some(shift_register::<M, 3>),
        _ => None,
    }
}

fn is_conditional_move(i: &Instruction) -> bool {
    use Mnemonic::*;
    i.condition_code() != ConditionCode::None
        && matches!(
            i.mnemonic(),
            Cmova
                | Cmovae
                | Cmovb
                | Cmovbe
                | Cmove
                | Cmovg
                | Cmovge
                | Cmovl
                | Cmovle
                | Cmovne
                | Cmovno
                | Cmovnp
                | Cmovns
                | Cmovo
                | Cmovp
                | Cmovs
        )
}

/// CMOVcc between registers.
fn conditional_move(i: &Instruction, o: &Operands) -> Option<Semantics<Tier0>> {
    match o.ty[0] {
        Ty::I32 if [0, 1].into_iter().all(|n| is(i, o, n, Kind::Register, Ty::I32)) => Some(known::<Cmovcc, 0, 0, 2>),
        Ty::I64 if [0, 1].into_iter().all(|n| is(i, o, n, Kind::Register, Ty::I64)) => Some(known::<Cmovcc, 0, 0, 3>),
        _ => None,
    }
}

/// RET without an operand.
fn plain_return(l: &mut Lifter<'_, Tier0>, i: &Instruction) {
    // SAFETY: as in `known`.
    unsafe { assert_unchecked(i.code() == Code::Retnq && i.op_count() == 0) };
    Ret::execute(l, i);
}

/// A meaning of one 64-bit register.
fn one_register<M: Meaning>(l: &mut Lifter<'_, Tier0>, i: &Instruction) {
    // SAFETY: as in `known`.
    unsafe { assert_unchecked(is(i, l.operands, 0, Kind::Register, Ty::I64)) };
    M::execute(l, i);
}

const CONDITIONS: [Cc; 8] = [Cc::O, Cc::B, Cc::E, Cc::Be, Cc::S, Cc::P, Cc::L, Cc::Le];

/// Jcc with its condition known.
fn jcc_if<const CC: usize, const NEGATED: bool>(l: &mut Lifter<'_, Tier0>, i: &Instruction) {
    // SAFETY: as in `known`.
    unsafe { assert_unchecked(l.operands.condition() == Some((CONDITIONS[CC], NEGATED))) };
    control::jcc(l, i);
}

fn jcc(o: &Operands) -> Option<Semantics<Tier0>> {
    let (cc, negated) = o.condition()?;
    macro_rules! form {
        ($cc:literal) => {
            if negated { jcc_if::<$cc, true> } else { jcc_if::<$cc, false> }
        };
    }
    Some(match cc {
        Cc::O => form!(0),
        Cc::B => form!(1),
        Cc::E => form!(2),
        Cc::Be => form!(3),
        Cc::S => form!(4),
        Cc::P => form!(5),
        Cc::L => form!(6),
        Cc::Le => form!(7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn has_form(bytes: &[u8]) -> bool {
        let i = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
        of(&i, &Operands::of(&i)).is_some()
    }

    #[test]
    fn common_forms_have_shortcuts() {
        // mov rax, rbx; mov eax, [rip+8]; cmp byte [rdi+rcx*2+1], 5; xor eax, eax; push rbp; jne
        assert!(has_form(&[0x48, 0x89, 0xd8]));
        assert!(has_form(&[0x8b, 0x05, 8, 0, 0, 0]));
        assert!(has_form(&[0x80, 0x7c, 0x4f, 1, 5]));
        assert!(has_form(&[0x31, 0xc0]));
        assert!(has_form(&[0x55]));
        assert!(has_form(&[0x75, 0xfe]));
        // lea rax, [rdi+rcx*2+1]; lea eax, [rip+8]; movzx eax, byte [rdi]; movsx rax, bx; movsxd rax, [rdi]; shl eax, 3;
        // cmovne rax, rbx; jmp; call; ret
        assert!(has_form(&[0x48, 0x8d, 0x44, 0x4f, 1]));
        assert!(has_form(&[0x8d, 0x05, 8, 0, 0, 0]));
        assert!(has_form(&[0x0f, 0xb6, 0x07]));
        assert!(has_form(&[0x48, 0x0f, 0xbf, 0xc3]));
        assert!(has_form(&[0x48, 0x63, 0x07]));
        assert!(has_form(&[0xc1, 0xe0, 3]));
        assert!(has_form(&[0x48, 0x0f, 0x45, 0xc3]));
        assert!(has_form(&[0xeb, 0xfe]));
        assert!(has_form(&[0xe8, 0, 0, 0, 0]));
        assert!(has_form(&[0xc3]));
    }

    #[test]
    fn what_needs_more_than_a_form_knows_has_none() {
        // lock add [rdi], eax; mov ah, bl; mov rax, fs:[0]; mov eax, [edi]; mov ax, bx; mov eax, ds; mov rax, cr0
        assert!(!has_form(&[0xf0, 0x01, 0x07]));
        assert!(!has_form(&[0x88, 0xdc]));
        assert!(!has_form(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]));
        assert!(!has_form(&[0x67, 0x8b, 0x07]));
        assert!(!has_form(&[0x66, 0x89, 0xd8]));
        assert!(!has_form(&[0x8c, 0xd8]));
        assert!(!has_form(&[0x0f, 0x20, 0xc0]));
        // movzx ax, bl; movzx eax, bh; lea eax, [edi]; shl eax, cl; shl dword [rdi], 3; cmovne rax, [rdi]; ret 8; jmp rax
        assert!(!has_form(&[0x66, 0x0f, 0xb6, 0xc3]));
        assert!(!has_form(&[0x0f, 0xb6, 0xc7]));
        assert!(!has_form(&[0x67, 0x8d, 0x07]));
        assert!(!has_form(&[0xd3, 0xe0]));
        assert!(!has_form(&[0xc1, 0x27, 3]));
        assert!(!has_form(&[0x48, 0x0f, 0x45, 0x07]));
        assert!(!has_form(&[0xc2, 8, 0]));
        assert!(!has_form(&[0xff, 0xe0]));
    }
}

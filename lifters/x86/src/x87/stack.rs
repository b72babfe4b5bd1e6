//! The instructions on the register stack: loads, stores, arithmetic, comparison (SDM vol. 1, 5.2.1 to 5.2.6 but
//! for transcendental and decimal ones). Memory is accessed here, the rest is the helper's.

use core::mem::offset_of;

use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, Helper};

use super::unit::{Op, Request, STATUS_IN_SCRATCH, Source};
use crate::emitter::{Emitter, Flag, Ty};
use crate::isa::Semantics;
use crate::lifter::{Cc, Lifter};

type L<'a, 'e, E> = &'a mut Lifter<'e, E>;
type I<'a> = &'a Instruction;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    movement(code).or_else(|| arithmetic(code)).or_else(|| comparison(code)).or_else(|| others(code))
}

fn movement<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Fld => |l, i| from_operand(l, i, Request::new(Op::Load), 0),
        Fild => |l, i| from_operand(l, i, Request::new(Op::Load), 0),
        Fld1 => |l, _| constant(l, 0),
        Fldl2t => |l, _| constant(l, 1),
        Fldl2e => |l, _| constant(l, 2),
        Fldpi => |l, _| constant(l, 3),
        Fldlg2 => |l, _| constant(l, 4),
        Fldln2 => |l, _| constant(l, 5),
        Fldz => |l, _| constant(l, 6),
        Fst => |l, i| store(l, i, 0),
        Fstp => |l, i| store(l, i, 1),
        Fist => |l, i| store_integer(l, i, 0, [Op::StoreInt16, Op::StoreInt32, Op::StoreInt64]),
        Fistp => |l, i| store_integer(l, i, 1, [Op::StoreInt16, Op::StoreInt32, Op::StoreInt64]),
        Fisttp => |l, i| store_integer(l, i, 1, [Op::CutInt16, Op::CutInt32, Op::CutInt64]),
        Fxch => |l, i| on_register(l, i, Op::Exchange, 0),
        Ffree => |l, i| on_register(l, i, Op::Free, 0),
        Fincstp => |l, _| plain(l, Op::Increment),
        Fdecstp => |l, _| plain(l, Op::Decrement),
        Fnop => |_, _| {},
        Fcmovb => |l, i| move_if(l, i, Cc::B, false),
        Fcmovnb => |l, i| move_if(l, i, Cc::B, true),
        Fcmove => |l, i| move_if(l, i, Cc::E, false),
        Fcmovne => |l, i| move_if(l, i, Cc::E, true),
        Fcmovbe => |l, i| move_if(l, i, Cc::Be, false),
        Fcmovnbe => |l, i| move_if(l, i, Cc::Be, true),
        Fcmovu => |l, i| move_if(l, i, Cc::P, false),
        Fcmovnu => |l, i| move_if(l, i, Cc::P, true),
        _ => return None,
    };
    Some(f)
}

fn arithmetic<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Fadd | Fiadd => |l, i| arithmetic_on(l, i, Op::Add, 0),
        Faddp => |l, i| arithmetic_on(l, i, Op::Add, 1),
        Fmul | Fimul => |l, i| arithmetic_on(l, i, Op::Mul, 0),
        Fmulp => |l, i| arithmetic_on(l, i, Op::Mul, 1),
        Fsub | Fisub => |l, i| arithmetic_on(l, i, Op::Sub, 0),
        Fsubp => |l, i| arithmetic_on(l, i, Op::Sub, 1),
        Fsubr | Fisubr => |l, i| arithmetic_on(l, i, Op::SubReversed, 0),
        Fsubrp => |l, i| arithmetic_on(l, i, Op::SubReversed, 1),
        Fdiv | Fidiv => |l, i| arithmetic_on(l, i, Op::Div, 0),
        Fdivp => |l, i| arithmetic_on(l, i, Op::Div, 1),
        Fdivr | Fidivr => |l, i| arithmetic_on(l, i, Op::DivReversed, 0),
        Fdivrp => |l, i| arithmetic_on(l, i, Op::DivReversed, 1),
        _ => return None,
    };
    Some(f)
}

fn comparison<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Fcom | Ficom => |l, i| compare(l, i, Op::Compare, 0),
        Fcomp | Ficomp => |l, i| compare(l, i, Op::Compare, 1),
        Fcompp => |l, i| compare(l, i, Op::Compare, 2),
        Fucom => |l, i| compare(l, i, Op::CompareQuiet, 0),
        Fucomp => |l, i| compare(l, i, Op::CompareQuiet, 1),
        Fucompp => |l, i| compare(l, i, Op::CompareQuiet, 2),
        Fcomi => |l, i| compare_flags(l, i, Op::CompareFlags, 0),
        Fcomip => |l, i| compare_flags(l, i, Op::CompareFlags, 1),
        Fucomi => |l, i| compare_flags(l, i, Op::CompareFlagsQuiet, 0),
        Fucomip => |l, i| compare_flags(l, i, Op::CompareFlagsQuiet, 1),
        _ => return None,
    };
    Some(f)
}

fn others<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Ftst => |l, _| plain(l, Op::Test),
        Fxam => |l, _| plain(l, Op::Examine),
        Fchs => |l, _| plain(l, Op::Negate),
        Fabs => |l, _| plain(l, Op::Abs),
        Fsqrt => |l, _| plain(l, Op::Sqrt),
        Frndint => |l, _| plain(l, Op::RoundToInt),
        Fscale => |l, _| plain(l, Op::Scale),
        Fxtract => |l, _| plain(l, Op::Extract),
        Fprem => |l, _| plain(l, Op::Remainder),
        Fprem1 => |l, _| plain(l, Op::RemainderNearest),
        _ => return None,
    };
    Some(f)
}

fn ask<E: Emitter>(l: L<E>, request: Request, operand: &[E::Val]) -> E::Val {
    let request = l.imm(Ty::I64, request.encode());
    let zero = l.imm(Ty::I64, 0);
    let low = operand.first().copied().unwrap_or(zero);
    let high = operand.get(1).copied().unwrap_or(zero);
    l.call_helper(Helper::X87, &[request, low, high])
}

fn plain<E: Emitter>(l: L<E>, op: Op) {
    ask(l, Request::new(op), &[]);
}

fn constant<E: Emitter>(l: L<E>, n: u64) {
    let n = l.imm(Ty::I64, n);
    ask(l, Request::new(Op::Constant), &[n]);
}

/// i of a register operand ST(i).
fn index(r: Register) -> u8 {
    r.number() as u8
}

fn on_register<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    // FXCH has ST(0) as its first operand.
    let r = i.op_register(i.op_count() - 1);
    ask(l, Request { index: index(r), pops, ..Request::new(op) }, &[]);
}

fn move_if<E: Emitter>(l: L<E>, i: I, cc: Cc, negated: bool) {
    let c = l.condition(cc, negated);
    let c = l.e.cond_to_int(Ty::I64, c);
    ask(l, Request { index: index(i.op1_register()), ..Request::new(Op::MoveIf) }, &[c]);
}

/// A request whose source is the operand `op`: a register, or memory of any format.
fn from_operand<E: Emitter>(l: L<E>, i: I, request: Request, op: u32) {
    if i.op_kind(op) == OpKind::Register {
        ask(l, Request { index: index(i.op_register(op)), ..request }, &[]);
        return;
    }
    let addr = l.ea(i);
    let (source, ty) = match i.memory_size() {
        MemorySize::Float32 => (Source::F32, Ty::I32),
        MemorySize::Float64 => (Source::F64, Ty::I64),
        MemorySize::Float80 => (Source::F80, Ty::I64),
        MemorySize::Int16 => (Source::Int, Ty::I16),
        MemorySize::Int32 => (Source::Int, Ty::I32),
        _ => (Source::Int, Ty::I64),
    };
    let low = l.load(ty, addr);
    let low = if source == Source::Int { l.scast(ty, Ty::I64, low) } else { l.zcast(ty, Ty::I64, low) };
    let high = if source == Source::F80 {
        let at = l.e.address(Some(addr), None, 8);
        let high = l.load(Ty::I16, at);
        l.zcast(Ty::I16, Ty::I64, high)
    } else {
        l.imm(Ty::I64, 0)
    };
    ask(l, Request { source, ..request }, &[low, high]);
}

/// Stores what a request answers, then pops: a fault leaves the stack as it was.
fn store_answer<E: Emitter>(l: L<E>, i: I, op: Op, ty: Ty, pops: u8) {
    let addr = l.ea(i);
    let v = ask(l, Request::new(op), &[]);
    let v = l.zcast(Ty::I64, ty, v);
    if op == Op::StoreF80 {
        let top = l.e.state_load(Ty::I16, offset_of!(CpuState, scratch));
        let at = l.e.address(Some(addr), None, 8);
        l.store(Ty::I16, at, top);
    }
    l.store(ty, addr, v);
    let status = l.e.state_load(Ty::I16, offset_of!(CpuState, scratch) + STATUS_IN_SCRATCH);
    l.e.state_store(Ty::I16, super::FSW, status);
    if pops != 0 {
        ask(l, Request { pops, ..Request::new(Op::Pop) }, &[]);
    }
}

fn store<E: Emitter>(l: L<E>, i: I, pops: u8) {
    if i.op0_kind() == OpKind::Register {
        ask(l, Request { index: index(i.op0_register()), pops, ..Request::new(Op::StoreRegister) }, &[]);
        return;
    }
    match i.memory_size() {
        MemorySize::Float32 => store_answer(l, i, Op::StoreF32, Ty::I32, pops),
        MemorySize::Float64 => store_answer(l, i, Op::StoreF64, Ty::I64, pops),
        _ => store_answer(l, i, Op::StoreF80, Ty::I64, pops),
    }
}

fn store_integer<E: Emitter>(l: L<E>, i: I, pops: u8, [word, dword, qword]: [Op; 3]) {
    match i.memory_size() {
        MemorySize::Int16 => store_answer(l, i, word, Ty::I16, pops),
        MemorySize::Int32 => store_answer(l, i, dword, Ty::I32, pops),
        _ => store_answer(l, i, qword, Ty::I64, pops),
    }
}

/// ST(0) op memory, ST(0) op ST(i), or ST(i) op ST(0).
fn arithmetic_on<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    let request = Request { pops, ..Request::new(op) };
    if i.op0_kind() == OpKind::Memory {
        return from_operand(l, i, request, 0);
    }
    // `D8 C0+i` names ST(0) first, `DC C0+i` and the popping forms ST(i).
    let to_register = i.op0_register() != Register::ST0;
    let r = i.op_register(u32::from(!to_register));
    ask(l, Request { index: index(r), to_register, ..request }, &[]);
}

/// The other operand is memory, ST(i), or ST(1) where none is named.
fn compare<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    let request = Request { pops, ..Request::new(op) };
    match i.op_count() {
        0 => {
            ask(l, Request { index: 1, ..request }, &[]);
        }
        n => from_operand(l, i, request, n - 1),
    }
}

fn compare_flags<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    let request = Request { index: index(i.op1_register()), pops, ..Request::new(op) };
    let answer = ask(l, request, &[]);
    let zf = l.bit(Ty::I64, answer, 6);
    let cf = l.bit(Ty::I64, answer, 0);
    let pf = l.bit(Ty::I64, answer, 2);
    let ordered = l.e.cond_not(pf);
    let odd = l.e.cond_to_int(Ty::I8, ordered);
    l.set_flag(Flag::Zf, zf);
    l.set_flag(Flag::Cf, cf);
    l.set_parity(odd);
    let clear = l.e.bconst(false);
    for flag in [Flag::Of, Flag::Sf, Flag::Af] {
        l.set_flag(flag, clear);
    }
}

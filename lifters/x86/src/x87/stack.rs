//! The instructions on the register stack: loads, stores, arithmetic, comparison, transcendental functions (SDM vol. 1,
//! 5.2.1 to 5.2.6). Memory is accessed here; the helper does the rest.

use core::mem::offset_of;

use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, Helper};

use super::unit::{Op, Request, Source, answer};
use super::wait;
use crate::emitter::{Emitter, Flag, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::{Cc, Lifter};

type L<'a, 'e, E> = &'a mut Lifter<'e, E>;
type I<'a> = &'a Instruction;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    movement(code)
        .or_else(|| arithmetic(code))
        .or_else(|| comparison(code))
        .or_else(|| others(code))
        .or_else(|| transcendental(code))
}

fn movement<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Fld => |l, i| from_operand(l, i, Request::new(Op::Load), 0),
        Fild => |l, i| from_operand(l, i, Request::new(Op::Load), 0),
        Fbld => |l, i| from_operand(l, i, Request::new(Op::Load), 0),
        Fbstp => |l, i| store_answer(l, i, Op::StoreDecimal, Ty::I64, 1),
        Fld1 => |l, _| constant(l, 0),
        Fldl2t => |l, _| constant(l, 1),
        Fldl2e => |l, _| constant(l, 2),
        Fldpi => |l, _| constant(l, 3),
        Fldlg2 => |l, _| constant(l, 4),
        Fldln2 => |l, _| constant(l, 5),
        Fldz => |l, _| constant(l, 6),
        Fst => |l, i| store(l, i, 0),
        Fstp => |l, i| store(l, i, 1),
        Fstpnce => |l, i| on_operand(l, i, 0, Op::StoreUnchecked, 1),
        Fist => |l, i| store_integer(l, i, 0, [Op::StoreInt16, Op::StoreInt32, Op::StoreInt64]),
        Fistp => |l, i| store_integer(l, i, 1, [Op::StoreInt16, Op::StoreInt32, Op::StoreInt64]),
        Fisttp => |l, i| store_integer(l, i, 1, [Op::CutInt16, Op::CutInt32, Op::CutInt64]),
        Fxch => |l, i| on_register(l, i, Op::Exchange, 0),
        Ffree => |l, i| on_register(l, i, Op::Free, 0),
        Ffreep => |l, i| on_register(l, i, Op::Free, 1),
        Fincstp => |l, _| plain(l, Op::Increment),
        Fdecstp => |l, _| plain(l, Op::Decrement),
        Fnop => |l, _| plain(l, Op::Nothing),
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

fn transcendental<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        F2xm1 => |l, _| plain(l, Op::Exp2MinusOne),
        Fyl2x => |l, _| plain_popping(l, Op::TimesLog2),
        Fyl2xp1 => |l, _| plain_popping(l, Op::TimesLog2OnePlus),
        Fpatan => |l, _| plain_popping(l, Op::AngleOf),
        Fsin => |l, _| plain(l, Op::Sine),
        Fcos => |l, _| plain(l, Op::Cosine),
        Fsincos => |l, _| plain(l, Op::SineAndCosine),
        Fptan => |l, _| plain(l, Op::Tangent),
        _ => return None,
    };
    Some(f)
}

/// Where an operand in memory is: its address, and its offset for FDP.
#[derive(Clone, Copy)]
struct InMemory<V> {
    addr: V,
    offset: V,
}

fn in_memory<E: Emitter>(l: L<E>, i: I) -> InMemory<E::Val> {
    let addr = l.ea(i);
    let offset = if l.operands.segment == Register::None { addr } else { l.offset(i) };
    InMemory { addr, offset }
}

/// Asks the helper; the instruction has waited.
fn ask<E: Emitter>(l: L<E>, request: Request, operand: &[E::Val], offset: Option<E::Val>) -> E::Val {
    let request = Request { opcode: l.operands.x87_opcode(), in_memory: offset.is_some(), ..request };
    let request = l.imm(Ty::I64, request.encode());
    let zero = l.imm(Ty::I64, 0);
    let low = operand.first().copied().unwrap_or(zero);
    let high = operand.get(1).copied().unwrap_or(zero);
    l.call_helper(Helper::X87, &[request, low, high, offset.unwrap_or(zero)])
}

/// A request that needs no memory.
fn wait_and_ask<E: Emitter>(l: L<E>, request: Request, operand: &[E::Val]) -> E::Val {
    wait(l);
    ask(l, request, operand, None)
}

fn plain<E: Emitter>(l: L<E>, op: Op) {
    wait_and_ask(l, Request::new(op), &[]);
}

fn plain_popping<E: Emitter>(l: L<E>, op: Op) {
    wait_and_ask(l, Request { pops: 1, ..Request::new(op) }, &[]);
}

fn constant<E: Emitter>(l: L<E>, n: u64) {
    let n = l.imm(Ty::I64, n);
    wait_and_ask(l, Request::new(Op::Constant), &[n]);
}

/// i of a register operand ST(i).
fn index(r: Register) -> u8 {
    r.number() as u8
}

/// With the last operand: FXCH has ST(0) as its first.
fn on_register<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    on_operand(l, i, i.op_count() - 1, op, pops);
}

fn on_operand<E: Emitter>(l: L<E>, i: I, operand: u32, op: Op, pops: u8) {
    let r = i.op_register(operand);
    wait_and_ask(l, Request { index: index(r), pops, ..Request::new(op) }, &[]);
}

fn move_if<E: Emitter>(l: L<E>, i: I, cc: Cc, negated: bool) {
    wait(l);
    let c = l.condition(cc, negated);
    let c = l.e.cond_to_int(Ty::I64, c);
    ask(l, Request { index: index(i.op1_register()), ..Request::new(Op::MoveIf) }, &[c], None);
}

/// A request whose source is the operand `op`: a register, or memory of any format.
fn from_operand<E: Emitter>(l: L<E>, i: I, request: Request, op: u32) {
    if i.op_kind(op) == OpKind::Register {
        wait_and_ask(l, Request { index: index(i.op_register(op)), ..request }, &[]);
        return;
    }
    wait(l);
    let at = in_memory(l, i);
    let (source, ty) = match i.memory_size() {
        MemorySize::Float32 => (Source::F32, Ty::I32),
        MemorySize::Float64 => (Source::F64, Ty::I64),
        MemorySize::Float80 => (Source::F80, Ty::I64),
        MemorySize::Bcd => (Source::Decimal, Ty::I64),
        MemorySize::Int16 => (Source::Int, Ty::I16),
        MemorySize::Int32 => (Source::Int, Ty::I32),
        _ => (Source::Int, Ty::I64),
    };
    let low = l.load(ty, at.addr);
    let low = if source == Source::Int { l.scast(ty, Ty::I64, low) } else { l.zcast(ty, Ty::I64, low) };
    let high = if matches!(source, Source::F80 | Source::Decimal) {
        let at = l.e.address(Some(at.addr), None, 8);
        let high = l.load(Ty::I16, at);
        l.zcast(Ty::I16, Ty::I64, high)
    } else {
        l.imm(Ty::I64, 0)
    };
    ask(l, Request { source, ..request }, &[low, high], Some(at.offset));
}

/// A field of `scratch[0]`, which has the rest of the helper's answer.
fn answered<E: Emitter>(l: L<E>, ty: Ty, at: usize) -> E::Val {
    l.e.state_load(ty, offset_of!(CpuState, scratch) + at)
}

/// Stores the upper word of 80 bits.
fn store_upper<E: Emitter>(l: L<E>, addr: E::Val) {
    let upper = answered(l, Ty::I16, answer::UPPER);
    let at = l.e.address(Some(addr), None, 8);
    l.store(Ty::I16, at, upper);
}

/// Stores what a request answers, then sets the state: a fault leaves it as it was.
fn store_answer<E: Emitter>(l: L<E>, i: I, op: Op, ty: Ty, pops: u8) {
    wait(l);
    let at = in_memory(l, i);
    let v = ask(l, Request { pops, ..Request::new(op) }, &[], Some(at.offset));
    let refused = answered(l, Ty::I8, answer::REFUSED);
    let refused = l.cmp_imm(Pred::Ne, Ty::I8, refused, 0);
    l.if_else(
        refused,
        [],
        |_| [],
        |l| {
            // Which part faults first is the processors'.
            if op == Op::StoreF80 {
                store_upper(l, at.addr);
            }
            let v = l.zcast(Ty::I64, ty, v);
            l.store(ty, at.addr, v);
            if op == Op::StoreDecimal {
                store_upper(l, at.addr);
            }
            []
        },
    );
    for n in 0..answer::CONTROL_WORDS {
        let word = answered(l, Ty::I64, answer::CONTROL + 8 * n);
        l.e.state_store(Ty::I64, super::FCW + 8 * n, word);
    }
}

fn store<E: Emitter>(l: L<E>, i: I, pops: u8) {
    if i.op0_kind() == OpKind::Register {
        let request = Request { index: index(i.op0_register()), pops, ..Request::new(Op::StoreRegister) };
        wait_and_ask(l, request, &[]);
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
    wait_and_ask(l, Request { index: index(r), to_register, ..request }, &[]);
}

/// The other operand is memory, ST(i), or ST(1) where none is named.
fn compare<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    let request = Request { pops, ..Request::new(op) };
    match i.op_count() {
        0 => {
            wait_and_ask(l, Request { index: 1, ..request }, &[]);
        }
        n => from_operand(l, i, request, n - 1),
    }
}

fn compare_flags<E: Emitter>(l: L<E>, i: I, op: Op, pops: u8) {
    let request = Request { index: index(i.op1_register()), pops, ..Request::new(op) };
    let answer = wait_and_ask(l, request, &[]);
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

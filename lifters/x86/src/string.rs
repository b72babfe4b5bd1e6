//! String instructions (Intel SDM vol. 1, 5.1.8): MOVS, CMPS, SCAS, LODS, STOS, alone and repeated.
//!
//! A repeated instruction is a block of its own that does one step and branches to itself or onward, so that a
//! fault or a signal finds the registers as hardware leaves them between two steps. REP MOVS and REP STOS first hand
//! what they can to a bulk helper.

use iced_x86::{Code, Instruction, OpKind, Register};
use xlate_abi::state::Helper;

use crate::decode::repeats;
use crate::emitter::{Bin, Emitter, Flag, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::{Cc, FlagOp, Lifter, STATUS, memory_ty};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Code::*;
    Some(match code {
        Movsb_m8_m8 | Movsw_m16_m16 | Movsd_m32_m32 | Movsq_m64_m64 => |l, i| repeat(l, i, Some(Helper::RepMovs), movs),
        Stosb_m8_AL | Stosw_m16_AX | Stosd_m32_EAX | Stosq_m64_RAX => |l, i| repeat(l, i, Some(Helper::RepStos), stos),
        Lodsb_AL_m8 | Lodsw_AX_m16 | Lodsd_EAX_m32 | Lodsq_RAX_m64 => |l, i| repeat(l, i, None, lods),
        Cmpsb_m8_m8 | Cmpsw_m16_m16 | Cmpsd_m32_m32 | Cmpsq_m64_m64 => |l, i| repeat_while_equal(l, i, cmps),
        Scasb_AL_m8 | Scasw_AX_m16 | Scasd_EAX_m32 | Scasq_RAX_m64 => |l, i| repeat_while_equal(l, i, scas),
        _ => return None,
    })
}

/// One step of an instruction.
type Step<E> = fn(&mut Lifter<'_, E>, &Instruction);

/// The width of an element.
fn element(i: &Instruction) -> Ty {
    memory_ty(i)
}

/// Whether the operand is addressed by a 32-bit register.
fn narrow(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| matches!(i.op_kind(n), OpKind::MemorySegESI | OpKind::MemoryESEDI))
}

/// The source index, destination index and count registers in the instruction's address size.
fn index_registers(i: &Instruction) -> (Ty, [Register; 3]) {
    if narrow(i) {
        (Ty::I32, [Register::ESI, Register::EDI, Register::ECX])
    } else {
        (Ty::I64, [Register::RSI, Register::RDI, Register::RCX])
    }
}

/// The address in the source index, with its segment.
fn source<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> E::Val {
    let (ty, [si, ..]) = index_registers(i);
    let offset = l.reg(si);
    let offset = l.zcast(ty, Ty::I64, offset);
    l.add_segment(i.memory_segment(), offset)
}

/// The address in the destination index, whose segment is always ES.
fn destination<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> E::Val {
    let (ty, [_, di, _]) = index_registers(i);
    let offset = l.reg(di);
    l.zcast(ty, Ty::I64, offset)
}

/// Moves an index register by one element in the direction DF gives.
fn advance<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, register: Register) {
    let (ty, _) = index_registers(i);
    let size = u64::from(element(i).bytes());
    let down = l.flag(Flag::Df);
    let (up, back) = (l.imm(ty, size), l.imm(ty, size.wrapping_neg()));
    let delta = l.e.select(ty, down, back, up);
    let old = l.reg(register);
    let new = l.bin(Bin::Add, ty, old, delta);
    l.set_reg(register, new);
}

fn accumulator(ty: Ty) -> Register {
    match ty {
        Ty::I8 => Register::AL,
        Ty::I16 => Register::AX,
        Ty::I32 => Register::EAX,
        Ty::I64 => Register::RAX,
    }
}

fn movs<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = element(i);
    let from = source(l, i);
    let v = l.load(ty, from);
    let to = destination(l, i);
    l.store(ty, to, v);
    let (_, [si, di, _]) = index_registers(i);
    advance(l, i, si);
    advance(l, i, di);
}

fn stos<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = element(i);
    let v = l.reg(accumulator(ty));
    let to = destination(l, i);
    l.store(ty, to, v);
    let (_, [_, di, _]) = index_registers(i);
    advance(l, i, di);
}

fn lods<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = element(i);
    let from = source(l, i);
    let v = l.load(ty, from);
    l.set_reg(accumulator(ty), v);
    let (_, [si, ..]) = index_registers(i);
    advance(l, i, si);
}

fn cmps<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = element(i);
    // In this order where both fault: so do processors.
    let to = destination(l, i);
    let b = l.load(ty, to);
    let from = source(l, i);
    let a = l.load(ty, from);
    let (_, [si, di, _]) = index_registers(i);
    advance(l, i, si);
    advance(l, i, di);
    compare(l, ty, a, b);
}

fn scas<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = element(i);
    let to = destination(l, i);
    let b = l.load(ty, to);
    let a = l.reg(accumulator(ty));
    let (_, [_, di, _]) = index_registers(i);
    advance(l, i, di);
    compare(l, ty, a, b);
}

fn compare<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, a: E::Val, b: E::Val) {
    let r = l.bin(Bin::Sub, ty, a, b);
    l.set_flags(FlagOp::Sub, ty, [a, b, r], None, STATUS);
}

/// The bulk helper reads RSI, RDI and RCX as they are.
fn bulk_applies(i: &Instruction) -> bool {
    !narrow(i) && !matches!(i.memory_segment(), Register::FS | Register::GS)
}

/// With 32-bit addresses, processors clear the upper half of the count before they look at it, and of MOVS's and STOS's index
/// registers, too: whether there is anything to do or not, and even if the first step faults.
fn cut_registers<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, indices: bool) {
    if !narrow(i) {
        return;
    }
    let kinds = [(OpKind::MemorySegESI, Register::ESI), (OpKind::MemoryESEDI, Register::EDI)];
    let used = kinds.into_iter().filter(|(kind, _)| indices && (0..i.op_count()).any(|n| i.op_kind(n) == *kind));
    for register in used.map(|(_, register)| register).chain([Register::ECX]) {
        let v = l.reg(register);
        l.set_reg(register, v);
    }
}

/// MOVS, STOS, LODS: while the count lasts.
fn repeat<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, bulk: Option<Helper>, step: Step<E>) {
    if !repeats(i) {
        return step(l, i);
    }
    cut_registers(l, i, bulk.is_some());
    if let Some(helper) = bulk.filter(|_| bulk_applies(i)) {
        let size = l.imm(Ty::I64, u64::from(element(i).bytes()));
        l.call_helper(helper, &[size]);
    }
    let (ty, [.., counter]) = index_registers(i);
    let count = l.reg(counter);
    let some = l.cmp_imm(Pred::Ne, ty, count, 0);
    let [left] = l.if_else(
        some,
        [ty],
        |l| {
            step(l, i);
            [count_down(l, ty, counter, count)]
        },
        |_| [count],
    );
    let more = l.cmp_imm(Pred::Ne, ty, left, 0);
    l.branch(more, i.ip(), i.next_ip());
}

fn count_down<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, counter: Register, count: E::Val) -> E::Val {
    let left = l.bin_imm(Bin::Sub, ty, count, 1);
    l.set_reg(counter, left);
    left
}

/// CMPS and SCAS: while the count lasts and ZF is as REPE or REPNE want it.
fn repeat_while_equal<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, step: Step<E>) {
    if !repeats(i) {
        return step(l, i);
    }
    cut_registers(l, i, false);
    let (ty, [.., counter]) = index_registers(i);
    let count = l.reg(counter);
    let some = l.cmp_imm(Pred::Ne, ty, count, 0);
    let [again] = l.if_else(
        some,
        [Ty::I8],
        |l| {
            step(l, i);
            // Before the count is down, for the flags are still those of the comparison.
            let wanted = l.condition(Cc::E, i.has_repne_prefix());
            let left = count_down(l, ty, counter, count);
            let more = l.cmp_imm(Pred::Ne, ty, left, 0);
            let again = l.e.cond_op(crate::emitter::CondOp::And, more, wanted);
            [l.e.cond_to_int(Ty::I8, again)]
        },
        |l| [l.imm(Ty::I8, 0)],
    );
    let again = l.cmp_imm(Pred::Ne, Ty::I8, again, 0);
    l.branch(again, i.ip(), i.next_ip());
}

//! Control transfer (Intel SDM vol. 1, 5.1.7) and what leaves to the runtime: system calls and software interrupts.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, ExitReason, RSP, Trap};

use crate::emitter::{Bin, CondOp, Emitter, Indirect, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::{Cc, Lifter};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Code::*;
    Some(match code {
        _ if code.is_jcc_short_or_near() => jcc,
        Jmp_rel8_64 | Jmp_rel32_64 => jmp,
        Jmp_rm64 => jmp_indirect,
        Call_rel32_64 => call,
        Call_rm64 => call_indirect,
        Retnq | Retnq_imm16 => ret,
        Loop_rel8_64_RCX | Loop_rel8_64_ECX => |l, i| loop_while(l, i, None),
        Loope_rel8_64_RCX | Loope_rel8_64_ECX => |l, i| loop_while(l, i, Some(false)),
        Loopne_rel8_64_RCX | Loopne_rel8_64_ECX => |l, i| loop_while(l, i, Some(true)),
        Jrcxz_rel8_64 | Jecxz_rel8_64 => jrcxz,
        Syscall => |l, i| l.leave(ExitReason::Syscall, 0, i.next_ip()),
        Int3 => |l, i| trap(l, Trap::Breakpoint, i.next_ip()),
        Int1 => |l, i| trap(l, Trap::Debug, i.next_ip()),
        Int_imm8 => int,
        _ if matches!(code.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2) => {
            |l, i| trap(l, Trap::InvalidOpcode, i.ip())
        }
        _ => return None,
    })
}

/// Raises an exception with `rip` at `resume`.
pub fn trap<E: Emitter>(l: &mut Lifter<'_, E>, trap: Trap, resume: u64) {
    l.leave(ExitReason::Trap, trap as u32, resume);
}

#[inline(always)]
pub fn jcc<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let c = l.condition_of(i);
    l.branch(c, i.near_branch_target(), i.next_ip());
}

#[inline(always)]
pub fn jmp<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    l.jump(i.near_branch_target());
}

fn jmp_indirect<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let target = l.read(i, 0);
    l.require_canonical(target);
    l.jump_indirect(target, Indirect::Jump);
}

#[inline(always)]
pub fn call<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let return_to = l.imm(Ty::I64, i.next_ip());
    l.push(Ty::I64, return_to);
    l.call(i.near_branch_target(), i.next_ip());
}

fn call_indirect<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let target = l.read(i, 0);
    l.require_canonical(target);
    let return_to = l.imm(Ty::I64, i.next_ip());
    l.push(Ty::I64, return_to);
    l.jump_indirect(target, Indirect::Call { return_to: i.next_ip() });
}

#[inline(always)]
pub fn ret<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let rsp = l.e.gpr(RSP);
    let target = l.load(Ty::I64, rsp);
    l.require_canonical(target);
    let dropped = if i.op_count() > 0 { i64::from(i.immediate16()) } else { 0 };
    let new = l.e.address(Some(rsp), None, i64::from(Ty::I64.bytes()) + dropped);
    l.e.set_gpr(RSP, new);
    l.jump_indirect(target, Indirect::Ret);
}

/// LOOP: counts RCX (or ECX) down and branches unless it is zero, LOOPE and LOOPNE only while ZF is as wanted.
fn loop_while<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, zf_negated: Option<bool>) {
    use Code::*;
    let narrow = matches!(i.code(), Loop_rel8_64_ECX | Loope_rel8_64_ECX | Loopne_rel8_64_ECX);
    let (ty, counter) = counter(narrow);
    let old = l.reg(counter);
    let new = l.bin_imm(Bin::Sub, ty, old, 1);
    l.set_reg(counter, new);
    let mut c = l.cmp_imm(Pred::Ne, ty, new, 0);
    if let Some(negated) = zf_negated {
        let zf = l.condition(Cc::E, negated);
        c = l.e.cond_op(CondOp::And, c, zf);
    }
    l.branch(c, i.near_branch_target(), i.next_ip());
}

fn counter(narrow: bool) -> (Ty, Register) {
    if narrow { (Ty::I32, Register::ECX) } else { (Ty::I64, Register::RCX) }
}

fn jrcxz<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (ty, counter) = counter(i.code() == Code::Jecxz_rel8_64);
    let v = l.reg(counter);
    let c = l.cmp_imm(Pred::Eq, ty, v, 0);
    l.branch(c, i.near_branch_target(), i.next_ip());
}

/// `int n`: Linux lets user mode use the gates of #BP, #OF and of 32-bit system calls (arch/x86/kernel/idt.c); every other
/// vector is #GP, whose error code names the gate (SDM vol. 3, 6.13).
fn int<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    debug_assert_eq!(i.op0_kind(), OpKind::Immediate8);
    match i.immediate8() {
        3 => trap(l, Trap::Breakpoint, i.next_ip()),
        4 => trap(l, Trap::Overflow, i.next_ip()),
        0x80 => l.leave(ExitReason::LegacySyscall, 0, i.next_ip()),
        n => {
            const IN_IDT: u64 = 2;
            let code = l.imm(Ty::I32, u64::from(n) << 3 | IN_IDT);
            l.e.state_store(Ty::I32, core::mem::offset_of!(CpuState, error_code), code);
            trap(l, Trap::GeneralProtection, i.ip());
        }
    }
}

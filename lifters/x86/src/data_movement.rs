//! Data movement: MOV and its extensions, stack, LEA, conversions (Intel SDM vol. 1, 5.1.1).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use xlate_abi::state::{CpuState, ExitReason, FlagBytes, RAX, RBP, RBX, RDX, RSP};

use crate::emitter::{Bin, Emitter, Flag, Pred, Ty, Un};
use crate::isa::Semantics;
use crate::lifter::Lifter;
use crate::segments::read_selector;
use crate::system;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Mov if general_purpose(code) => mov,
        Mov if reads_segment(code) => mov_from_segment,
        Movzx => movzx,
        Movsx | Movsxd => movsx,
        Movbe => movbe,
        Movdiri => movdiri,
        Movdir64b => movdir64b,
        Bswap => bswap,
        Cmova | Cmovae | Cmovb | Cmovbe | Cmove | Cmovg | Cmovge | Cmovl | Cmovle | Cmovne | Cmovno | Cmovnp
        | Cmovns | Cmovo | Cmovp | Cmovs => cmovcc,
        Lea => lea,
        Push => push,
        Pop if !pops_segment(code) => pop,
        Pushf | Pushfq => pushf,
        Popf | Popfq => popf,
        Enter => enter,
        Leave => leave,
        Cbw => |l, _| extend_accumulator(l, Register::AL, Register::AX),
        Cwde => |l, _| extend_accumulator(l, Register::AX, Register::EAX),
        Cdqe => |l, _| extend_accumulator(l, Register::EAX, Register::RAX),
        Cwd => |l, _| sign_into_dx(l, Ty::I16, Register::DX),
        Cdq => |l, _| sign_into_dx(l, Ty::I32, Register::EDX),
        Cqo => |l, _| sign_into_dx(l, Ty::I64, Register::RDX),
        Xlatb => xlat,
        _ => return None,
    })
}

/// MOV between general-purpose registers, memory and immediates.
fn general_purpose(code: Code) -> bool {
    let writes_segment = matches!(code, Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16);
    !writes_segment && !reads_segment(code) && !system::moves_control_register(code)
}

fn reads_segment(code: Code) -> bool {
    matches!(code, Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg)
}

fn pops_segment(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Popw_ES
            | Popd_ES
            | Popw_SS
            | Popd_SS
            | Popw_DS
            | Popd_DS
            | Popw_FS
            | Popd_FS
            | Popq_FS
            | Popw_GS
            | Popd_GS
            | Popq_GS
    )
}

#[inline(always)]
pub fn mov<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let v = l.read(i, 1);
    l.write(i, 0, v);
}

/// Where the state has the selector of a segment register.
pub fn selector_of(number: usize) -> usize {
    core::mem::offset_of!(CpuState, selectors) + 2 * number
}

fn mov_from_segment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    // A register takes the selector zero-extended to the operand size; memory always 16 bits of it.
    let ty = match i.op0_kind() {
        OpKind::Register => l.ty(i, 0),
        _ => Ty::I16,
    };
    let v = read_selector(l, i.op1_register());
    let v = l.zcast(Ty::I16, ty, v);
    if i.op0_kind() == OpKind::Register {
        l.set_reg(i.op0_register(), v);
    } else {
        let addr = l.ea(i);
        l.store(ty, addr, v);
    }
}

#[inline(always)]
pub fn movzx<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (from, to) = (l.ty(i, 1), l.ty(i, 0));
    let v = l.read(i, 1);
    let v = l.zcast(from, to, v);
    l.write(i, 0, v);
}

#[inline(always)]
pub fn movsx<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (from, to) = (l.ty(i, 1), l.ty(i, 0));
    let v = l.read(i, 1);
    let v = l.scast(from, to, v);
    l.write(i, 0, v);
}

fn movbe<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let v = l.read(i, 1);
    let v = l.e.un(Un::Bswap, ty, v);
    l.write(i, 0, v);
}

/// A store that goes past the caches, which nothing here shows.
fn movdiri<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let v = l.read(i, 1);
    l.write(i, 0, v);
}

/// 64 bytes to an aligned address in a register (SDM vol. 2, MOVDIR64B): no store of them faults if the first one doesn't.
fn movdir64b<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let r = i.op0_register();
    let to = l.reg(r);
    let to = l.zcast(if r.size() == 4 { Ty::I32 } else { Ty::I64 }, Ty::I64, to);
    let from = l.ea(i);
    let words: [E::Val; 8] = core::array::from_fn(|n| {
        let at = l.e.address(Some(from), None, 8 * n as i64);
        l.load(Ty::I64, at)
    });
    l.require_alignment(to, 64);
    for (n, word) in words.into_iter().enumerate() {
        let at = l.e.address(Some(to), None, 8 * n as i64);
        l.store(Ty::I64, at, word);
    }
}

fn bswap<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let v = l.read(i, 0);
    let v = match ty {
        // Undefined; processors give zero.
        Ty::I16 => l.imm(ty, 0),
        _ => l.e.un(Un::Bswap, ty, v),
    };
    l.write(i, 0, v);
}

/// The source is read, and a 32-bit destination zero-extended, whatever the condition (SDM vol. 2, CMOVcc).
#[inline(always)]
pub fn cmovcc<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let new = l.read(i, 1);
    let old = l.read(i, 0);
    let c = l.condition_of(i);
    let v = l.e.select(ty, c, new, old);
    l.write(i, 0, v);
}

#[inline(always)]
pub fn lea<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let v = l.offset(i);
    let v = l.zcast(Ty::I64, ty, v);
    l.write(i, 0, v);
}

/// The width of a stack slot that PUSH or POP moves.
pub fn stack_ty(i: &Instruction) -> Ty {
    match i.stack_pointer_increment().unsigned_abs() {
        2 => Ty::I16,
        _ => Ty::I64,
    }
}

#[inline(always)]
pub fn push<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    if i.op0_kind() == OpKind::Register && !i.op0_register().is_segment_register() {
        let v = l.read(i, 0);
        return l.push(l.ty(i, 0), v);
    }
    let ty = stack_ty(i);
    let v = match i.op0_kind() {
        OpKind::Register => {
            let v = read_selector(l, i.op0_register());
            l.zcast(Ty::I16, ty, v)
        }
        OpKind::Memory => l.read(i, 0),
        _ => l.imm(ty, i.immediate(0)),
    };
    l.push(ty, v);
}

/// A memory destination addressed through RSP sees it already incremented (SDM vol. 2, POP).
#[inline(always)]
pub fn pop<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    if i.op0_kind() == OpKind::Register {
        let v = l.pop(l.ty(i, 0));
        return l.set_reg(i.op0_register(), v);
    }
    let ty = stack_ty(i);
    let rsp = l.e.gpr(RSP);
    let v = l.load(ty, rsp);
    let popped = i64::from(ty.bytes());
    let through_rsp = i.memory_base().full_register() == Register::RSP;
    let shift = l.imm(Ty::I64, if through_rsp { popped as u64 } else { 0 });
    let addr = l.ea_plus(i, shift);
    l.store(ty, addr, v);
    let new = l.e.address(Some(rsp), None, popped);
    l.e.set_gpr(RSP, new);
}

pub const OTHER_FLAGS: usize = core::mem::offset_of!(CpuState, flags) + core::mem::offset_of!(FlagBytes, other);

/// Where RFLAGS holds the flags that are conditions here.
const PLACES: [(Flag, u64); 6] =
    [(Flag::Cf, 0), (Flag::Af, 4), (Flag::Zf, 6), (Flag::Sf, 7), (Flag::Df, 10), (Flag::Of, 11)];

/// AC, ID, TF and NT: their bits in [`FlagBytes::other`] and in RFLAGS.
const OTHERS: [(u64, u64); 4] = [(0, 18), (1, 21), (2, 8), (3, 14)];

fn pushf<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    use xlate_abi::state::rflags;
    let mut v = l.imm(Ty::I64, rflags::RESERVED_ONE | rflags::IF);
    for (flag, place) in PLACES {
        let c = l.flag(flag);
        v = or_bit(l, v, c, place);
    }
    let parity = l.parity_flag();
    v = or_bit(l, v, parity, 2);
    let other = l.e.state_load(Ty::I8, OTHER_FLAGS);
    for (from, to) in OTHERS {
        let c = l.bit(Ty::I8, other, from as u32);
        v = or_bit(l, v, c, to);
    }
    let ty = stack_ty(i);
    let v = l.zcast(Ty::I64, ty, v);
    l.push(ty, v);
}

/// Sets bit `place` of a 64-bit value where the condition holds.
fn or_bit<E: Emitter>(l: &mut Lifter<'_, E>, v: E::Val, c: E::Cond, place: u64) -> E::Val {
    let bit = l.e.cond_to_int(Ty::I64, c);
    let bit = l.bin_imm(Bin::Shl, Ty::I64, bit, place);
    l.bin(Bin::Or, Ty::I64, v, bit)
}

/// With TF or AC set, the dispatcher goes on instruction by instruction.
fn popf<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = stack_ty(i);
    let v = l.pop(ty);
    let v = l.zcast(ty, Ty::I64, v);
    let other = load_flags(l, ty, v);
    let watched = l.bin_imm(Bin::And, Ty::I8, other, FlagBytes::WATCHED.into());
    let watched = l.cmp_imm(Pred::Ne, Ty::I8, watched, 0);
    l.exit_if(watched, ExitReason::Continue, i.next_ip());
}

/// Takes the flags over from a 64-bit value, as an operand of type `ty` has them; gives [`FlagBytes::other`]. User mode changes
/// neither IF nor IOPL; the 16-bit form doesn't reach AC and ID (SDM vol. 2, POPF).
pub fn load_flags<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, v: E::Val) -> E::Val {
    for (flag, place) in PLACES {
        let c = l.bit(Ty::I64, v, place as u32);
        l.set_flag(flag, c);
    }
    let even = l.bit(Ty::I64, v, 2);
    l.set_parity_flag(even);
    let old = l.e.state_load(Ty::I8, OTHER_FLAGS);
    let kept = if ty == Ty::I16 { 0b011 } else { 0 };
    let mut other = l.bin_imm(Bin::And, Ty::I8, old, kept);
    for (to, from) in OTHERS.into_iter().filter(|(to, _)| kept >> to & 1 == 0) {
        let c = l.bit(Ty::I64, v, from as u32);
        let bit = l.e.cond_to_int(Ty::I8, c);
        let bit = l.bin_imm(Bin::Shl, Ty::I8, bit, to);
        other = l.bin(Bin::Or, Ty::I8, other, bit);
    }
    l.e.state_store(Ty::I8, OTHER_FLAGS, other);
    other
}

/// Makes a stack frame with `level - 1` copied frame pointers (SDM vol. 2, ENTER).
fn enter<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = if i.code() == Code::Enterw_imm16_imm8 { Ty::I16 } else { Ty::I64 };
    let slot = i64::from(ty.bytes());
    let (size, level) = (i64::from(i.immediate16()), i64::from(i.immediate8_2nd()) % 32);
    let (rsp, rbp) = (l.e.gpr(RSP), l.e.gpr(RBP));
    let store_slot = |l: &mut Lifter<'_, E>, n: i64, v: E::Val| {
        let addr = l.e.address(Some(rsp), None, -slot * n);
        l.store(ty, addr, v);
    };
    let low = l.zcast(Ty::I64, ty, rbp);
    store_slot(l, 1, low);
    let frame = l.e.address(Some(rsp), None, -slot);
    for n in 1..level {
        let from = l.e.address(Some(rbp), None, -slot * n);
        let v = l.load(ty, from);
        store_slot(l, n + 1, v);
    }
    if level > 0 {
        let v = l.zcast(Ty::I64, ty, frame);
        store_slot(l, level + 1, v);
    }
    let pushed = if level > 0 { level + 1 } else { 1 };
    let top = l.e.address(Some(rsp), None, -slot * pushed - size);
    // The new top must be writable.
    l.require_writable(top);
    let frame = l.zcast(Ty::I64, ty, frame);
    l.set_reg(if ty == Ty::I16 { Register::BP } else { Register::RBP }, frame);
    l.e.set_gpr(RSP, top);
}

fn leave<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (ty, frame) = match i.code() {
        Code::Leavew => (Ty::I16, Register::BP),
        _ => (Ty::I64, Register::RBP),
    };
    let rbp = l.e.gpr(RBP);
    let v = l.load(ty, rbp);
    let top = l.e.address(Some(rbp), None, i64::from(ty.bytes()));
    l.e.set_gpr(RSP, top);
    l.set_reg(frame, v);
}

fn extend_accumulator<E: Emitter>(l: &mut Lifter<'_, E>, from: Register, to: Register) {
    let ty = |r: Register| crate::lifter::gpr_of(r).1;
    let v = l.reg(from);
    let v = l.scast(ty(from), ty(to), v);
    l.set_reg(to, v);
}

fn sign_into_dx<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, dx: Register) {
    let full = l.e.gpr(RAX);
    let a = l.zcast(Ty::I64, ty, full);
    let sign = l.bin_imm(Bin::Ashr, ty, a, u64::from(ty.bits()) - 1);
    debug_assert_eq!(dx.full_register().number(), RDX);
    l.set_reg(dx, sign);
}

fn xlat<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let index = l.reg(Register::AL);
    let index = l.zcast(Ty::I8, Ty::I64, index);
    let table = l.e.gpr(RBX);
    let mut addr = l.e.address(Some(table), Some((index, 1)), 0);
    if i.memory_base() == Register::EBX {
        addr = l.truncate_address(addr);
    }
    let addr = l.add_segment(i.memory_segment(), addr);
    let v = l.load(Ty::I8, addr);
    l.set_reg(Register::AL, v);
}

//! x87: control, status and environment (Intel SDM vol. 1, 5.2.7 and 8.1); the register stack is in [`stack`].

mod soft;
mod stack;
pub mod unit;

use core::mem::offset_of;

use iced_x86::{Code, Instruction, Mnemonic};
use xlate_abi::state::{CpuState, X87State};

use crate::emitter::{Bin, CondOp, Emitter, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Fnstcw => |l, i| store_word(l, i, FCW),
        Fldcw => |l, i| {
            let v = l.read(i, 0);
            set_control(l, v);
        },
        Fnstsw => |l, i| store_word(l, i, FSW),
        Fnclex => fnclex,
        Fninit => fninit,
        Fnstenv if code == Code::Fnstenv_m28byte => fnstenv,
        Fldenv if code == Code::Fldenv_m28byte => fldenv,
        // Exceptions are only raised where they happen, so there is never one to wait for.
        Wait => |_, _| {},
        _ => return stack::lookup(code),
    })
}

const FCW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fcw);
const FSW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fsw);
const FTW: usize = offset_of!(CpuState, x87) + offset_of!(X87State, ftw);
const FOP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fop);
const FIP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fip);
const FDP: usize = offset_of!(CpuState, x87) + offset_of!(X87State, fdp);

/// Reserved bits of the control word (SDM vol. 1, 8.1.5): bit 6 reads as one, the others as zero.
const RESERVED_ONE: u64 = 1 << 6;
const RESERVED_ZERO: u64 = 0xe080;

fn set_control<E: Emitter>(l: &mut Lifter<'_, E>, v: E::Val) {
    let v = l.bin_imm(Bin::And, Ty::I16, v, !RESERVED_ZERO);
    let v = l.bin_imm(Bin::Or, Ty::I16, v, RESERVED_ONE);
    l.e.state_store(Ty::I16, FCW, v);
}

fn store_word<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, field: usize) {
    let v = l.e.state_load(Ty::I16, field);
    l.write(i, 0, v);
}

/// Clears the exception flags, SF, ES and B.
fn fnclex<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let v = l.e.state_load(Ty::I16, FSW);
    let v = l.bin_imm(Bin::And, Ty::I16, v, 0x7f00);
    l.e.state_store(Ty::I16, FSW, v);
}

/// All registers empty, all exceptions masked, 64-bit precision, round to nearest (SDM vol. 2, FINIT).
fn fninit<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    for (ty, field, value) in [
        (Ty::I16, FCW, 0x037f),
        (Ty::I16, FSW, 0),
        (Ty::I8, FTW, 0),
        (Ty::I16, FOP, 0),
        (Ty::I64, FIP, 0),
        (Ty::I64, FDP, 0),
    ] {
        let v = l.imm(ty, value);
        l.e.state_store(ty, field, v);
    }
}

/// Offsets in the 32-bit protected-mode environment (SDM vol. 1, figure 8-9), which 64-bit mode uses too.
mod env {
    pub const FCW: i64 = 0;
    pub const FSW: i64 = 4;
    pub const FTW: i64 = 8;
    pub const FIP: i64 = 12;
    /// Code segment selector below, opcode above.
    pub const FCS: i64 = 16;
    pub const FDP: i64 = 20;
    pub const FDS: i64 = 24;
}

/// Tag of an empty register.
const EMPTY: u64 = 3;

fn reg_field(n: usize) -> usize {
    offset_of!(CpuState, x87) + offset_of!(X87State, reg) + 16 * n
}

fn at<E: Emitter>(l: &mut Lifter<'_, E>, base: E::Val, offset: i64) -> E::Val {
    l.e.address(Some(base), None, offset)
}

/// Stores the environment, then masks all exceptions.
fn fnstenv<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let base = l.ea(i);
    let fcw = l.e.state_load(Ty::I16, FCW);
    let fsw = l.e.state_load(Ty::I16, FSW);
    let ftw = full_tag(l);
    // The reserved halves read as ones.
    for (offset, v) in [(env::FCW, fcw), (env::FSW, fsw), (env::FTW, ftw)] {
        let wide = l.zcast(Ty::I16, Ty::I32, v);
        let wide = l.bin_imm(Bin::Or, Ty::I32, wide, 0xffff_0000);
        let addr = at(l, base, offset);
        l.store(Ty::I32, addr, wide);
    }
    for (offset, field) in [(env::FIP, FIP), (env::FDP, FDP)] {
        let v = l.e.state_load(Ty::I32, field);
        let addr = at(l, base, offset);
        l.store(Ty::I32, addr, v);
    }
    let fop = l.e.state_load(Ty::I16, FOP);
    let fop = l.zcast(Ty::I16, Ty::I32, fop);
    let fop = l.bin_imm(Bin::Shl, Ty::I32, fop, 16);
    let addr = at(l, base, env::FCS);
    l.store(Ty::I32, addr, fop);
    let reserved = l.imm(Ty::I32, 0xffff_0000);
    let addr = at(l, base, env::FDS);
    l.store(Ty::I32, addr, reserved);
    let masked = l.bin_imm(Bin::Or, Ty::I16, fcw, 0x3f);
    l.e.state_store(Ty::I16, FCW, masked);
}

/// The two-bit tags, which the hardware too computes from the registers' contents only when asked (SDM vol. 1, 8.1.7).
fn full_tag<E: Emitter>(l: &mut Lifter<'_, E>) -> E::Val {
    let used = l.e.state_load(Ty::I8, FTW);
    let mut tags = l.imm(Ty::I16, 0);
    for n in 0..8 {
        let tag = tag_of(l, n);
        let in_use = l.bit(Ty::I8, used, n as u32);
        let empty = l.imm(Ty::I16, EMPTY);
        let tag = l.e.select(Ty::I16, in_use, tag, empty);
        let tag = l.bin_imm(Bin::Shl, Ty::I16, tag, 2 * n as u64);
        tags = l.bin(Bin::Or, Ty::I16, tags, tag);
    }
    tags
}

/// 0 valid, 1 zero, 2 special (NaN, infinity, denormal, unsupported).
fn tag_of<E: Emitter>(l: &mut Lifter<'_, E>, n: usize) -> E::Val {
    let significand = l.e.state_load(Ty::I64, reg_field(n));
    let exponent = l.e.state_load(Ty::I16, reg_field(n) + 8);
    let exponent = l.bin_imm(Bin::And, Ty::I16, exponent, 0x7fff);
    let no_exponent = l.cmp_imm(Pred::Eq, Ty::I16, exponent, 0);
    let no_significand = l.cmp_imm(Pred::Eq, Ty::I64, significand, 0);
    let zero = l.e.cond_op(CondOp::And, no_exponent, no_significand);
    let largest = l.cmp_imm(Pred::Eq, Ty::I16, exponent, 0x7fff);
    let integer_bit = l.bit(Ty::I64, significand, 63);
    let unnormal = l.e.cond_not(integer_bit);
    let special = l.e.cond_op(CondOp::Or, largest, unnormal);
    let [valid, one, two] = [0, 1, 2].map(|tag| l.imm(Ty::I16, tag));
    let tag = l.e.select(Ty::I16, special, two, valid);
    l.e.select(Ty::I16, zero, one, tag)
}

fn fldenv<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let base = l.ea(i);
    let fields = [(Ty::I16, env::FCW), (Ty::I16, env::FSW), (Ty::I16, env::FTW), (Ty::I32, env::FIP)];
    let [fcw, fsw, ftw, fip] = fields.map(|(ty, offset)| {
        let addr = at(l, base, offset);
        l.load(ty, addr)
    });
    let addr = at(l, base, env::FCS + 2);
    let fop = l.load(Ty::I16, addr);
    let addr = at(l, base, env::FDP);
    let fdp = l.load(Ty::I32, addr);
    set_control(l, fcw);
    l.e.state_store(Ty::I16, FSW, fsw);
    let fop = l.bin_imm(Bin::And, Ty::I16, fop, 0x7ff);
    l.e.state_store(Ty::I16, FOP, fop);
    for (field, v) in [(FIP, fip), (FDP, fdp)] {
        let wide = l.zcast(Ty::I32, Ty::I64, v);
        l.e.state_store(Ty::I64, field, wide);
    }
    let mut used = l.imm(Ty::I8, 0);
    for n in 0..8 {
        let tag = l.bin_imm(Bin::Lshr, Ty::I16, ftw, 2 * n);
        let tag = l.bin_imm(Bin::And, Ty::I16, tag, EMPTY);
        let in_use = l.cmp_imm(Pred::Ne, Ty::I16, tag, EMPTY);
        let bit = l.e.cond_to_int(Ty::I8, in_use);
        let bit = l.bin_imm(Bin::Shl, Ty::I8, bit, n);
        used = l.bin(Bin::Or, Ty::I8, used, bit);
    }
    l.e.state_store(Ty::I8, FTW, used);
}

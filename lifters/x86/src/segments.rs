//! Segment registers, what selectors stand for, transfers between segments, and the system registers' dummies
//! (Intel SDM vol. 1, 5.1.7, 5.1.13; vol. 3, 3.4 and 3.5).
//!
//! Programs see Linux's descriptor table (arch/x86/include/asm/segment.h) and no other: no local one, and nothing in the
//! places for thread-local storage. Transfers stay in 64-bit code; those to 32-bit code are refused by name.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register, RflagsBits};
use xlate_abi::state::{CpuState, ExitReason, Helper, RSP, Trap, segment};

use crate::data_movement::{load_flags, selector_of, stack_ty};
use crate::emitter::{Bin, Emitter, Flag, Indirect, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Code::*;
    Some(match code {
        Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 => mov_to_segment,
        Popw_FS | Popq_FS | Popw_GS | Popq_GS => pop_segment,
        Lfs_r16_m1616 | Lfs_r32_m1632 | Lfs_r64_m1664 => |l, i| load_far_pointer(l, i, segment::FS),
        Lgs_r16_m1616 | Lgs_r32_m1632 | Lgs_r64_m1664 => |l, i| load_far_pointer(l, i, segment::GS),
        Lss_r16_m1616 | Lss_r32_m1632 | Lss_r64_m1664 => |l, i| load_far_pointer(l, i, segment::SS),
        Retfw | Retfd | Retfq | Retfw_imm16 | Retfd_imm16 | Retfq_imm16 => far_return,
        Iretw | Iretd | Iretq => iret,
        Jmp_m1616 | Jmp_m1632 | Jmp_m1664 => far_jump,
        Call_m1616 | Call_m1632 | Call_m1664 => far_call,
        _ => match code.mnemonic() {
            Mnemonic::Lar => |l, i| look_up(l, i, Request::Rights),
            Mnemonic::Lsl => |l, i| look_up(l, i, Request::Limit),
            Mnemonic::Verr => |l, i| verify(l, i, Request::Readable),
            Mnemonic::Verw => |l, i| verify(l, i, Request::Writable),
            Mnemonic::Sgdt => |l, i| store_table(l, i, GDT_BASE),
            Mnemonic::Sidt => |l, i| store_table(l, i, IDT_BASE),
            Mnemonic::Smsw => |l, i| store_dummy(l, i, MACHINE_STATUS),
            Mnemonic::Sldt => |l, i| store_dummy(l, i, 0),
            Mnemonic::Str => |l, i| store_dummy(l, i, TASK_SELECTOR),
            _ => return None,
        },
    })
}

/// Whether Linux carries the instruction out for the program (arch/x86/kernel/umip.c): its faults are the kernel's.
pub fn is_emulated_by_linux(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Sgdt | Mnemonic::Sidt | Mnemonic::Smsw | Mnemonic::Sldt | Mnemonic::Str)
}

/// Whether it loads SS, after which no debug exception comes before the next instruction has ended (SDM vol. 3, 6.8.3).
pub fn loads_stack_segment(i: &Instruction) -> bool {
    i.op_count() > 0
        && i.op0_kind() == OpKind::Register
        && i.op0_register() == Register::SS
        && i.mnemonic() == Mnemonic::Mov
}

// ---- what a selector stands for ------------------------------------------------------------------------

/// What [`Helper::Segment`] is asked for. A load's number is that of the segment register behind [`Request::LOAD`].
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// LAR's result; 0 where the program sees no descriptor.
    Rights,
    /// LSL's result and bit 32 beside it; 0 likewise.
    Limit,
    /// Whether VERR and VERW say so.
    Readable,
    Writable,
    /// Whether a transfer may go to that code segment: one of [`Transfer`]'s numbers.
    Transfer,
}

impl Request {
    /// The first of the loads into segment registers: they give non-zero for #GP, the error code of which is in the state.
    pub const LOAD: u64 = 8;
}

/// What comes of a transfer to a code segment.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    Allowed,
    /// #GP, with its error code in the state.
    Fault,
    /// 32-bit code.
    Refused,
}

/// A descriptor as programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    /// As LAR gives them: type, S, DPL and P in the second byte, AVL, L, D and G in the third.
    rights: u32,
    /// The segment of the per-CPU number, whose limit that number is.
    counts_processors: bool,
}

const IS_CODE: u32 = 1 << 11;
/// Of data: writable; of code: readable.
const SECOND_TYPE_BIT: u32 = 1 << 9;

impl Descriptor {
    /// The descriptors of privilege level 3 (arch/x86/kernel/cpu/common.c: `gdt_page`; vdso/vma.c for the last one).
    fn of(selector: u16) -> Option<Self> {
        const LOCAL: u16 = 4;
        if selector & LOCAL != 0 {
            return None;
        }
        let rights = match selector >> 3 {
            4 => 0x00cf_fb00,
            5 => 0x00cf_f300,
            6 => 0x00af_fb00,
            15 => 0x0040_f500,
            _ => return None,
        };
        Some(Self { rights, counts_processors: selector >> 3 == 15 })
    }

    fn is_code(self) -> bool {
        self.rights & IS_CODE != 0
    }

    /// All code here is readable.
    fn is_writable(self) -> bool {
        !self.is_code() && self.rights & SECOND_TYPE_BIT != 0
    }
}

/// [`Helper::Segment`]: `processor` gives the number of the processor and its node, as the kernel has them in a limit.
pub fn answer(state: &mut CpuState, request: u64, selector: u16, processor: impl FnOnce() -> u32) -> u64 {
    let descriptor = Descriptor::of(selector);
    let is = |request: Request, n: u64| request as u64 == n;
    match request {
        n if is(Request::Rights, n) => descriptor.map_or(0, |d| d.rights.into()),
        n if is(Request::Limit, n) => descriptor.map_or(0, |d| {
            let limit = if d.counts_processors { processor() } else { u32::MAX };
            1 << 32 | u64::from(limit)
        }),
        n if is(Request::Readable, n) => u64::from(descriptor.is_some()),
        n if is(Request::Writable, n) => u64::from(descriptor.is_some_and(Descriptor::is_writable)),
        n if is(Request::Transfer, n) => transfer(state, selector) as u64,
        n => u64::from(!load(state, (n - Request::LOAD) as usize, selector)),
    }
}

/// A selector's error code: without its privilege level (SDM vol. 3, 6.13).
fn refuse(state: &mut CpuState, selector: u16) {
    state.error_code = u32::from(selector & !3);
}

fn transfer(state: &mut CpuState, selector: u16) -> Transfer {
    let same_level = selector & 3 == 3;
    match Descriptor::of(selector) {
        Some(_) if same_level && selector == segment::USER_CS => Transfer::Allowed,
        Some(d) if same_level && d.is_code() => Transfer::Refused,
        _ => {
            refuse(state, selector);
            Transfer::Fault
        }
    }
}

/// Loads a segment register; false for #GP. FS and GS get the base zero with any selector that there is.
fn load(state: &mut CpuState, register: usize, selector: u16) -> bool {
    let is_null = selector & !3 == 0;
    let allowed = match Descriptor::of(selector) {
        Some(d) if register == segment::SS => selector & 3 == 3 && d.is_writable(),
        Some(_) => true,
        None => is_null && register != segment::SS,
    };
    if !allowed {
        refuse(state, selector);
        return false;
    }
    state.selectors[register] = selector;
    match register {
        segment::FS => state.fs_base = 0,
        segment::GS => state.gs_base = 0,
        _ => {}
    }
    true
}

/// Asks the helper about a selector of type I16.
fn ask<E: Emitter>(l: &mut Lifter<'_, E>, request: u64, selector: E::Val) -> E::Val {
    let request = l.imm(Ty::I64, request);
    let selector = l.zcast(Ty::I16, Ty::I64, selector);
    l.call_helper(Helper::Segment, &[request, selector])
}

/// The selector operand, 16 bits of it whatever the operand size.
fn selector_operand<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: u32) -> E::Val {
    if i.op_kind(op) == OpKind::Register {
        let r = i.op_register(op);
        let v = l.reg(r);
        return l.zcast(crate::lifter::gpr_of(r).1, Ty::I16, v);
    }
    let addr = l.ea(i);
    l.load(Ty::I16, addr)
}

/// ZF, which is all that LAR, LSL, VERR and VERW change of the flags.
fn set_zf<E: Emitter>(l: &mut Lifter<'_, E>, c: E::Cond) {
    if l.is_live(RflagsBits::ZF) {
        l.set_flag(Flag::Zf, c);
    }
}

/// LAR and LSL: the destination changes only where the descriptor can be seen.
fn look_up<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, request: Request) {
    let selector = selector_operand(l, i, 1);
    let answer = ask(l, request as u64, selector);
    let seen = l.cmp_imm(Pred::Ne, Ty::I64, answer, 0);
    let (r, ty) = (i.op0_register(), crate::lifter::gpr_of(i.op0_register()).1);
    let n = r.full_register().number();
    let before = l.e.gpr(n);
    let value = l.bin_imm(Bin::And, Ty::I64, answer, Ty::I32.mask());
    let value = l.zcast(Ty::I64, ty, value);
    l.set_reg(r, value);
    let after = l.e.gpr(n);
    let v = l.e.select(Ty::I64, seen, after, before);
    l.e.set_gpr(n, v);
    set_zf(l, seen);
}

fn verify<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, request: Request) {
    let selector = selector_operand(l, i, 0);
    let answer = ask(l, request as u64, selector);
    let yes = l.cmp_imm(Pred::Ne, Ty::I64, answer, 0);
    set_zf(l, yes);
}

// ---- loads of segment registers ------------------------------------------------------------------------

/// Loads a selector, or raises #GP.
fn load_segment<E: Emitter>(l: &mut Lifter<'_, E>, register: usize, selector: E::Val) {
    let refused = ask(l, Request::LOAD + register as u64, selector);
    let refused = l.cmp_imm(Pred::Ne, Ty::I64, refused, 0);
    l.trap_if(refused, Trap::GeneralProtection);
}

/// The number of a segment register.
pub fn number_of(r: Register) -> usize {
    r as usize - Register::ES as usize
}

fn mov_to_segment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let selector = selector_operand(l, i, 1);
    load_segment(l, number_of(i.op0_register()), selector);
}

fn pop_segment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let rsp = l.e.gpr(RSP);
    let selector = l.load(Ty::I16, rsp);
    load_segment(l, number_of(i.op0_register()), selector);
    let new = l.e.address(Some(rsp), None, i64::from(stack_ty(i).bytes()));
    l.e.set_gpr(RSP, new);
}

/// The operand size of an instruction with a far pointer in memory, which is as long as an offset and a selector.
fn offset_ty(i: &Instruction) -> Ty {
    match i.memory_size().size() {
        4 => Ty::I16,
        6 => Ty::I32,
        _ => Ty::I64,
    }
}

/// Offset and selector of the far pointer in memory.
fn far_pointer<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> (Ty, E::Val, E::Val) {
    let ty = offset_ty(i);
    let addr = l.ea(i);
    let behind = l.e.address(Some(addr), None, i64::from(ty.bytes()));
    let offset = l.load(ty, addr);
    let selector = l.load(Ty::I16, behind);
    (ty, offset, selector)
}

/// LFS, LGS, LSS.
fn load_far_pointer<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, register: usize) {
    let (_, offset, selector) = far_pointer(l, i);
    load_segment(l, register, selector);
    l.set_reg(i.op0_register(), offset);
}

// ---- transfers between segments ------------------------------------------------------------------------

/// Lets a transfer to 64-bit code pass.
fn check_code_segment<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, selector: E::Val) {
    let answer = ask(l, Request::Transfer as u64, selector);
    let fault = l.cmp_imm(Pred::Eq, Ty::I64, answer, Transfer::Fault as u64);
    l.trap_if(fault, Trap::GeneralProtection);
    let refused = l.cmp_imm(Pred::Eq, Ty::I64, answer, Transfer::Refused as u64);
    l.exit_if(refused, ExitReason::Unimplemented, i.ip());
}

/// The value in the stack's slot `n` of this width, zero-extended.
fn stack_slot<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, n: i64) -> E::Val {
    let rsp = l.e.gpr(RSP);
    let addr = l.e.address(Some(rsp), None, n * i64::from(ty.bytes()));
    let v = l.load(ty, addr);
    l.zcast(ty, Ty::I64, v)
}

/// RETF within 64-bit code.
fn far_return<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    use Code::*;
    let ty = match i.code() {
        Retfw | Retfw_imm16 => Ty::I16,
        Retfd | Retfd_imm16 => Ty::I32,
        _ => Ty::I64,
    };
    let target = stack_slot(l, ty, 0);
    let selector = stack_slot(l, ty, 1);
    let selector = l.zcast(Ty::I64, Ty::I16, selector);
    check_code_segment(l, i, selector);
    l.require_canonical(target);
    let dropped = if i.op_count() > 0 { i64::from(i.immediate16()) } else { 0 };
    let rsp = l.e.gpr(RSP);
    let new = l.e.address(Some(rsp), None, 2 * i64::from(ty.bytes()) + dropped);
    l.e.set_gpr(RSP, new);
    l.jump_indirect(target, Indirect::Jump);
}

/// IRET to 64-bit code of the same level. Its end is a safepoint, because the dispatcher has to see whether TF is set now.
fn iret<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = match i.code() {
        Code::Iretw => Ty::I16,
        Code::Iretd => Ty::I32,
        _ => Ty::I64,
    };
    refuse_nested_task(l);
    let [target, cs, flags, rsp, ss] = [0, 1, 2, 3, 4].map(|n| stack_slot(l, ty, n));
    let cs = l.zcast(Ty::I64, Ty::I16, cs);
    check_code_segment(l, i, cs);
    l.require_canonical(target);
    let ss = l.zcast(Ty::I64, Ty::I16, ss);
    load_segment(l, segment::SS, ss);
    l.e.set_gpr(RSP, rsp);
    load_flags(l, ty, flags);
    let yes = l.imm(Ty::I32, 1);
    l.e.state_store(Ty::I32, core::mem::offset_of!(CpuState, pending), yes);
    l.jump_indirect(target, Indirect::Jump);
}

/// #GP with NT set (SDM vol. 2, IRET).
fn refuse_nested_task<E: Emitter>(l: &mut Lifter<'_, E>) {
    const NESTED_TASK: u32 = 3;
    let other = l.e.state_load(Ty::I8, crate::data_movement::OTHER_FLAGS);
    let nested = l.bit(Ty::I8, other, NESTED_TASK);
    l.trap_if(nested, Trap::GeneralProtection);
}

fn far_jump<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let target = far_target(l, i).1;
    l.jump_indirect(target, Indirect::Jump);
}

/// The address that a far jump or call goes to, once that is known to be allowed.
fn far_target<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> (Ty, E::Val) {
    let (ty, offset, selector) = far_pointer(l, i);
    let target = l.zcast(ty, Ty::I64, offset);
    check_code_segment(l, i, selector);
    l.require_canonical(target);
    (ty, target)
}

/// Pushes CS and the address behind, in slots of the operand size. No near return pairs up with it.
fn far_call<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (ty, target) = far_target(l, i);
    let slot = i64::from(ty.bytes());
    let rsp = l.e.gpr(RSP);
    let [cs, back] = [1, 2].map(|n| l.e.address(Some(rsp), None, -n * slot));
    let (selector, return_to) = (l.imm(ty, segment::USER_CS.into()), l.imm(ty, i.next_ip()));
    l.store(ty, cs, selector);
    l.store(ty, back, return_to);
    l.e.set_gpr(RSP, back);
    l.jump_indirect(target, Indirect::Jump);
}

// ---- the system registers' dummies ---------------------------------------------------------------------

/// What Linux shows where the processor keeps programs from looking (UMIP; arch/x86/kernel/umip.c).
const GDT_BASE: u64 = 0xffff_ffff_fffe_0000;
const IDT_BASE: u64 = 0xffff_ffff_ffff_0000;
/// CR0: PE, MP, ET, NE, WP, AM, PG.
const MACHINE_STATUS: u64 = 0x8005_0033;
const TASK_SELECTOR: u64 = 0x40;

/// SGDT and SIDT: a limit of zero and a base.
fn store_table<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, base: u64) {
    let addr = l.ea(i);
    let base_at = l.e.address(Some(addr), None, 2);
    let (limit, base) = (l.imm(Ty::I16, 0), l.imm(Ty::I64, base));
    l.store(Ty::I16, addr, limit);
    l.store(Ty::I64, base_at, base);
}

/// SMSW, SLDT and STR: 16 bits to memory; a 32-bit register keeps its upper half, because Linux copies as many bytes as the
/// operand has.
fn store_dummy<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, value: u64) {
    if i.op0_kind() != OpKind::Register {
        let addr = l.ea(i);
        let v = l.imm(Ty::I16, value);
        return l.store(Ty::I16, addr, v);
    }
    let r = i.op0_register();
    let (n, ty, _) = crate::lifter::gpr_of(r);
    let old = l.e.gpr(n);
    let kept = l.bin_imm(Bin::And, Ty::I64, old, !ty.mask());
    let v = l.bin_imm(Bin::Or, Ty::I64, kept, value & ty.mask());
    l.e.set_gpr(n, v);
}

/// MOV from a segment register and PUSH of one read the selector.
pub fn read_selector<E: Emitter>(l: &mut Lifter<'_, E>, r: Register) -> E::Val {
    l.e.state_load(Ty::I16, selector_of(number_of(r)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut CpuState, request: u64, selector: u16) -> u64 {
        answer(state, request, selector, || 7)
    }

    #[test]
    fn descriptors_are_those_of_linux() {
        let mut state = CpuState::default();
        // What a processor under Linux says.
        for (selector, rights, limit, writable) in [
            (0x23, 0xcf_fb00, u32::MAX, 0),
            (0x28, 0xcf_f300, u32::MAX, 1),
            (0x33, 0xaf_fb00, u32::MAX, 0),
            (0x7b, 0x40_f500, 7, 0),
        ] {
            assert_eq!(ask(&mut state, Request::Rights as u64, selector), rights);
            assert_eq!(ask(&mut state, Request::Limit as u64, selector), 1 << 32 | u64::from(limit));
            assert_eq!(ask(&mut state, Request::Readable as u64, selector), 1);
            assert_eq!(ask(&mut state, Request::Writable as u64, selector), writable);
        }
        for hidden in [0, 3, 0x10, 0x40, 0x63, 0x2f, 0xfff8] {
            assert_eq!(ask(&mut state, Request::Rights as u64, hidden), 0, "{hidden:#x}");
        }
    }

    #[test]
    fn loads_are_refused_with_the_selector() {
        let mut state = CpuState { gs_base: 5, ..CpuState::default() };
        let to = |n: usize| Request::LOAD + n as u64;
        assert_eq!(ask(&mut state, to(segment::DS), 0x11), 1);
        assert_eq!(state.error_code, 0x10);
        assert_eq!(ask(&mut state, to(segment::SS), 0), 1);
        assert_eq!(state.error_code, 0);
        assert_eq!(ask(&mut state, to(segment::SS), 0x28), 1, "its level must be the program's");
        assert_eq!(ask(&mut state, to(segment::SS), 0x2b), 0);
        assert_eq!((ask(&mut state, to(segment::GS), 0x29), state.gs_base, state.selectors[segment::GS]), (0, 0, 0x29));
    }

    #[test]
    fn only_64_bit_code_is_gone_to() {
        let mut state = CpuState::default();
        let mut goes = |selector| ask(&mut state, Request::Transfer as u64, selector);
        assert_eq!(goes(0x33), Transfer::Allowed as u64);
        assert_eq!(goes(0x23), Transfer::Refused as u64);
        assert_eq!([0, 0x30, 0x2b, 0x10].map(goes), [Transfer::Fault as u64; 4]);
    }
}

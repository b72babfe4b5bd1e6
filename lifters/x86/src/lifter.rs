//! What semantics stand on: operand access, effective addresses and lazily computed flags, over any [`Emitter`].

use iced_x86::{Instruction, OpKind, Register, RflagsBits};
use xlate_abi::state::{CpuState, ExitReason, Trap, origin};

use crate::decode::{Block, BlockEnd, Flags, Insn, ends_block, flags_killed};
use crate::emitter::{Bin, Compare, CondOp, Emitter, Flag, Host, Indirect, Origin, Pred, Rmw, Ty, Un, Upper, VTy};
use crate::isa;
use crate::operands::Operands;
pub use crate::operands::{gpr_of, memory_ty};

/// The size of the smallest page.
const PAGE: u64 = 4096;

/// Condition codes by their encoding (Intel SDM vol. 2, table B-10), without the inverting low bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cc {
    O,
    B,
    E,
    Be,
    S,
    P,
    L,
    Le,
}

/// The operation whose result the flags describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    /// `r = a + b (+ carry)`.
    Add,
    /// `r = a - b (- carry)`.
    Sub,
    /// Carry and overflow clear, ZF, SF and PF by the result; AF (undefined) clear.
    Logic,
    /// A floating-point comparison: bytes of 0 or 1, `a` CF, `b` ZF, `r` the parity byte; `carry` tells whether the first
    /// operand is greater. The other flags are clear.
    Compare,
}

/// Where an operand is: a general-purpose register, or memory at an effective address.
pub enum Place<E: Emitter> {
    Reg(Register),
    Mem(Ty, E::Val),
}

impl<E: Emitter> Clone for Place<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Emitter> Copy for Place<E> {}

/// Flags as an operation and its operands, computed only where something reads them.
struct LazyFlags<E: Emitter> {
    op: FlagOp,
    ty: Ty,
    a: E::Val,
    b: E::Val,
    r: E::Val,
    /// What goes into the operation beside the operands.
    carry: Option<E::Cond>,
    /// CF where it isn't the operation's.
    own_carry: Option<E::Cond>,
}

impl<E: Emitter> Clone for LazyFlags<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Emitter> Copy for LazyFlags<E> {}

/// The context an instruction's semantics run in.
///
/// Semantics use its methods where they exist and go to `e` only for pure values: memory accesses, traps and
/// exits must pass through here, for pending flags have to be settled before them.
pub struct Lifter<'e, E: Emitter> {
    pub e: &'e mut E,
    /// Flags that something behind the current instruction may read.
    live: Flags,
    /// Flags have to be in the state at every access that may fault.
    precise: bool,
    /// The operation that has set flags last.
    lazy: Option<LazyFlags<E>>,
    /// Flags that are still its.
    valid: Flags,
    /// Those of them that aren't written to the emitter yet.
    pending: Flags,
    /// The current instruction.
    current: Option<&'e Insn>,
    pub(crate) operands: &'e Operands,
}

impl<E: Emitter> Host<E> for Lifter<'_, E> {
    fn emitter(&mut self) -> &mut E {
        self.e
    }
}

/// Emits a whole block, its end included. Instructions without semantics can't be in it: [`crate::decode_block`]
/// ends a block before them.
pub fn lift_block<'e, E: Emitter>(e: &'e mut E, block: &'e Block, precise: bool) {
    let mut l = Lifter::new(e, precise);
    l.begin(block);
    l.instructions(&block.insns);
    l.finish(block);
}

impl<'e, E: Emitter> Lifter<'e, E> {
    pub fn new(e: &'e mut E, precise: bool) -> Self {
        Self { e, live: 0, precise, lazy: None, valid: 0, pending: 0, current: None, operands: &Operands::NONE }
    }

    /// Emits what comes before a block's first instruction: where its instructions may have been changed, what has
    /// come here may have done so.
    pub fn begin(&mut self, block: &Block) {
        if block.mutable {
            self.poll(block.pc);
        }
    }

    /// Emits instructions of a block, in order.
    pub fn instructions(&mut self, insns: &'e [Insn]) {
        for insn in insns {
            let semantics = isa::semantics::<E>(&insn.raw);
            self.instruction(semantics.expect("decode_block admits only implemented instructions"), insn);
            if insn.polls() && !ends_block(&insn.raw) {
                self.poll(insn.raw.next_ip());
            }
        }
    }

    /// Leaves if something waits, to go on at `resume`.
    pub fn poll(&mut self, resume: u64) {
        self.flush_flags();
        self.e.leave_if_pending(resume);
    }

    /// Emits one instruction.
    #[inline]
    pub fn instruction(&mut self, semantics: isa::Semantics<E>, insn: &'e Insn) {
        self.e.begin_instruction(insn.raw.ip(), insn.raw.next_ip());
        self.drop_dead_flags();
        self.live = insn.live();
        self.current = Some(insn);
        self.operands = &insn.operands;
        semantics(self, &insn.raw);
    }

    /// Emits the end of a block whose last instruction doesn't transfer control itself.
    pub fn finish(&mut self, block: &Block) {
        match block.exit {
            // Such as LDMXCSR: ends a block, but control goes on behind it.
            BlockEnd::Terminator => {
                let falls_through = block.insns.last().is_some_and(|i| crate::decode::falls_through(&i.raw));
                if falls_through {
                    self.jump(block.end());
                }
            }
            BlockEnd::FallThrough => self.jump(block.end()),
            BlockEnd::Unimplemented => self.leave(ExitReason::Unimplemented, 0, block.end()),
            BlockEnd::Invalid => self.leave(ExitReason::Trap, Trap::InvalidOpcode as u32, block.end()),
            BlockEnd::FetchFault => self.leave(ExitReason::FetchFault, 0, block.end()),
        }
    }

    // ---- constants and small sums ------------------------------------------------------------------

    #[inline]
    pub fn imm(&mut self, ty: Ty, bits: u64) -> E::Val {
        self.e.iconst(ty, bits & ty.mask())
    }

    #[inline]
    pub fn bin(&mut self, op: Bin, ty: Ty, a: E::Val, b: E::Val) -> E::Val {
        self.e.bin(op, ty, a, b)
    }

    /// `a op constant`.
    #[inline]
    pub fn bin_imm(&mut self, op: Bin, ty: Ty, a: E::Val, b: u64) -> E::Val {
        let b = self.imm(ty, b);
        self.e.bin(op, ty, a, b)
    }

    /// `a pred constant`.
    #[inline]
    pub fn cmp_imm(&mut self, pred: Pred, ty: Ty, a: E::Val, b: u64) -> E::Cond {
        let b = self.imm(ty, b);
        self.e.cmp(pred, ty, a, b)
    }

    /// Bit `n` of a value.
    pub fn bit(&mut self, ty: Ty, v: E::Val, n: u32) -> E::Cond {
        let masked = self.bin_imm(Bin::And, ty, v, 1 << n);
        self.cmp_imm(Pred::Ne, ty, masked, 0)
    }

    /// Zero-extends or truncates.
    #[inline(always)]
    pub fn zcast(&mut self, from: Ty, to: Ty, v: E::Val) -> E::Val {
        match from.cmp(&to) {
            core::cmp::Ordering::Less => self.e.zext(from, to, v),
            core::cmp::Ordering::Equal => v,
            core::cmp::Ordering::Greater => self.e.trunc(from, to, v),
        }
    }

    /// Sign-extends or truncates.
    #[inline]
    pub fn scast(&mut self, from: Ty, to: Ty, v: E::Val) -> E::Val {
        match from.cmp(&to) {
            core::cmp::Ordering::Less => self.e.sext(from, to, v),
            core::cmp::Ordering::Equal => v,
            core::cmp::Ordering::Greater => self.e.trunc(from, to, v),
        }
    }

    // ---- registers ---------------------------------------------------------------------------------

    /// A general-purpose register in its own width.
    #[inline(always)]
    pub fn reg(&mut self, r: Register) -> E::Val {
        let (n, ty, high) = gpr_of(r);
        let full = self.e.gpr(n);
        if high {
            let shifted = self.bin_imm(Bin::Lshr, Ty::I64, full, 8);
            return self.e.trunc(Ty::I64, Ty::I8, shifted);
        }
        self.zcast(Ty::I64, ty, full)
    }

    /// Writes a register of any width: 32 bits clear the upper half, 8 and 16 leave the rest (SDM vol. 1, 3.4.1.1).
    #[inline(always)]
    pub fn set_reg(&mut self, r: Register, v: E::Val) {
        let (n, ty, high) = gpr_of(r);
        let wide = self.zcast(ty, Ty::I64, v);
        if matches!(ty, Ty::I64 | Ty::I32) {
            return self.e.set_gpr(n, wide);
        }
        let shift = if high { 8 } else { 0 };
        let old = self.e.gpr(n);
        let kept = self.bin_imm(Bin::And, Ty::I64, old, !(ty.mask() << shift));
        let placed = if high { self.bin_imm(Bin::Shl, Ty::I64, wide, 8) } else { wide };
        let merged = self.bin(Bin::Or, Ty::I64, kept, placed);
        self.e.set_gpr(n, merged);
    }

    // ---- operands ----------------------------------------------------------------------------------

    /// The width of a general-purpose operand of the current instruction; an immediate has the first operand's.
    #[inline]
    pub fn ty(&self, i: &Instruction, op: u32) -> Ty {
        debug_assert!(op < i.op_count());
        self.operands.ty[op as usize]
    }

    /// The width of the memory operand.
    #[inline]
    pub fn memory_ty(&self, i: &Instruction) -> Ty {
        self.operands.memory.unwrap_or_else(|| panic!("{:?} has no scalar memory operand", i.code()))
    }

    /// The condition of a conditional instruction.
    #[inline(always)]
    pub fn condition_of(&mut self, i: &Instruction) -> E::Cond {
        let (cc, negated) = self.operands.condition().unwrap_or_else(|| panic!("{:?} has no condition", i.code()));
        self.condition(cc, negated)
    }

    /// A general-purpose operand's value in the width [`Self::ty`] gives.
    #[inline(always)]
    pub fn read(&mut self, i: &Instruction, op: u32) -> E::Val {
        match i.op_kind(op) {
            OpKind::Register => self.reg(i.op_register(op)),
            OpKind::Memory => self.read_memory(i),
            _ => self.imm(self.ty(i, op), self.operands.immediate_of(i, op)),
        }
    }

    #[inline(always)]
    fn read_memory(&mut self, i: &Instruction) -> E::Val {
        let addr = self.ea(i);
        self.load(self.memory_ty(i), addr)
    }

    /// A destination that is read and written, its address computed once.
    #[inline(always)]
    pub fn place(&mut self, i: &Instruction, op: u32) -> Place<E> {
        if i.op_kind(op) == OpKind::Register {
            Place::Reg(i.op_register(op))
        } else {
            let addr = self.ea(i);
            Place::Mem(self.memory_ty(i), addr)
        }
    }

    #[inline(always)]
    pub fn get(&mut self, place: Place<E>) -> E::Val {
        match place {
            Place::Reg(r) => self.reg(r),
            Place::Mem(ty, addr) => self.load(ty, addr),
        }
    }

    #[inline(always)]
    pub fn put(&mut self, place: Place<E>, v: E::Val) {
        match place {
            Place::Reg(r) => self.set_reg(r, v),
            Place::Mem(ty, addr) => self.store(ty, addr, v),
        }
    }

    /// Writes a register or memory operand.
    #[inline(always)]
    pub fn write(&mut self, i: &Instruction, op: u32, v: E::Val) {
        if i.op_kind(op) == OpKind::Register {
            self.set_reg(i.op_register(op), v);
        } else {
            let addr = self.ea(i);
            self.store(self.memory_ty(i), addr, v);
        }
    }

    /// The effective address of the memory operand, segment base included (SDM vol. 1, 3.7.5).
    #[inline(always)]
    pub fn ea(&mut self, i: &Instruction) -> E::Val {
        let addr = self.offset(i);
        self.add_segment(self.operands.segment, addr)
    }

    /// The effective address with a signed displacement added to its offset: it wraps where the address does.
    pub fn ea_plus(&mut self, i: &Instruction, displacement: E::Val) -> E::Val {
        let offset = self.offset(i);
        let mut sum = self.e.address(Some(offset), Some((displacement, 1)), 0);
        if self.operands.narrow {
            sum = self.truncate_address(sum);
        }
        self.add_segment(i.memory_segment(), sum)
    }

    /// The effective address without its segment base, as LEA gives it, 64 bits.
    #[inline(always)]
    pub fn offset(&mut self, i: &Instruction) -> E::Val {
        debug_assert!(i.op_count() > 0);
        let o = self.operands;
        let displacement = i.memory_displacement64();
        if !o.base.is_some() && !o.index.is_some() {
            let mask = if o.narrow { Ty::I32.mask() } else { Ty::I64.mask() };
            return self.imm(Ty::I64, displacement & mask);
        }
        let base = o.base.get().map(|n| self.e.gpr(n));
        let index = o.index.get().map(|n| (self.e.gpr(n), u32::from(o.scale)));
        let sum = self.e.address(base, index, displacement as i64);
        if o.narrow { self.truncate_address(sum) } else { sum }
    }

    /// 32-bit addressing: the sum modulo 2^32.
    pub fn truncate_address(&mut self, addr: E::Val) -> E::Val {
        let low = self.e.trunc(Ty::I64, Ty::I32, addr);
        self.e.zext(Ty::I32, Ty::I64, low)
    }

    /// Adds the base of FS or GS; the others are zero in 64-bit mode.
    #[inline(always)]
    pub fn add_segment(&mut self, segment: Register, addr: E::Val) -> E::Val {
        let field = match segment {
            Register::FS => core::mem::offset_of!(CpuState, fs_base),
            Register::GS => core::mem::offset_of!(CpuState, gs_base),
            _ => return addr,
        };
        let base = self.e.state_load(Ty::I64, field);
        self.e.address(Some(base), Some((addr, 1)), 0)
    }

    // ---- memory ------------------------------------------------------------------------------------

    /// To be called before anything that may fault.
    #[inline(always)]
    pub fn fault_point(&mut self) {
        if self.precise {
            self.flush_flags();
            self.e.publish_flags();
        }
    }

    #[inline(always)]
    pub fn load(&mut self, ty: Ty, addr: E::Val) -> E::Val {
        self.fault_point();
        self.e.load(ty, addr)
    }

    #[inline(always)]
    pub fn store(&mut self, ty: Ty, addr: E::Val, v: E::Val) {
        self.fault_point();
        self.e.store(ty, addr, v);
    }

    /// [`Emitter::atomic_rmw`].
    pub fn atomic_rmw(&mut self, op: Rmw, ty: Ty, addr: E::Val, v: E::Val) -> E::Val {
        self.fault_point();
        self.e.atomic_rmw(op, ty, addr, v)
    }

    /// Faults unless the byte can be written; it stays as it is.
    pub fn require_writable(&mut self, addr: E::Val) {
        let nothing = self.e.state_load(Ty::I8, core::mem::offset_of!(CpuState, zero));
        self.atomic_rmw(Rmw::Or, Ty::I8, addr, nothing);
    }

    /// [`Emitter::cmpxchg`].
    pub fn cmpxchg(&mut self, ty: Ty, addr: E::Val, expected: E::Val, new: E::Val) -> E::Val {
        self.fault_point();
        self.e.cmpxchg(ty, addr, expected, new)
    }

    /// [`Emitter::cmpxchg16`]; #GP unless the address is aligned.
    pub fn cmpxchg16(&mut self, addr: E::Val, expected: [E::Val; 2], new: [E::Val; 2]) -> [E::Val; 2] {
        self.require_alignment(addr, 16);
        self.e.cmpxchg16(addr, expected, new)
    }

    pub fn vload(&mut self, bits: u32, addr: E::Val) -> E::Vec {
        self.fault_point();
        self.e.vload(bits, addr)
    }

    pub fn vstore(&mut self, bits: u32, addr: E::Val, v: E::Vec) {
        if bits >= 128 && self.e.splits_stores(bits) {
            self.require_pages(addr, u64::from(bits / 8));
        }
        self.fault_point();
        self.e.vstore(bits, addr, v);
    }

    /// Makes sure that so many bytes can be written if they are in two pages: the instruction stores all or none. In a single
    /// one, the first store tells.
    pub(crate) fn require_pages(&mut self, addr: E::Val, size: u64) {
        let in_page = self.bin_imm(Bin::And, Ty::I64, addr, PAGE - 1);
        let crosses = self.cmp_imm(Pred::Ugt, Ty::I64, in_page, PAGE - size);
        self.if_else(
            crosses,
            [],
            |l| {
                let last = l.e.address(Some(addr), None, size as i64 - 1);
                let page = l.bin_imm(Bin::And, Ty::I64, last, !(PAGE - 1));
                // Of two pages that can't be written the first raises the exception, unless the other isn't canonical.
                let noncanonical = l.is_noncanonical(page);
                let first = l.e.select(Ty::I64, noncanonical, page, addr);
                l.require_writable(first);
                l.require_writable(page);
                []
            },
            |_| [],
        );
    }

    /// The same for the bytes that are `selected` by a bit each. In the first page, the first store tells.
    pub(crate) fn require_second_page(&mut self, addr: E::Val, selected: E::Val, size: u64) {
        let in_page = self.bin_imm(Bin::And, Ty::I64, addr, PAGE - 1);
        let crosses = self.cmp_imm(Pred::Ugt, Ty::I64, in_page, PAGE - size);
        self.if_else(
            crosses,
            [],
            |l| {
                let page = l.imm(Ty::I64, PAGE);
                let room = l.bin(Bin::Sub, Ty::I64, page, in_page);
                let beyond = l.bin(Bin::Lshr, Ty::I64, selected, room);
                let any = l.cmp_imm(Pred::Ne, Ty::I64, beyond, 0);
                l.if_else(
                    any,
                    [],
                    |l| {
                        let first = l.e.un(Un::Ctz, Ty::I64, beyond);
                        let offset = l.bin(Bin::Add, Ty::I64, first, room);
                        let at = l.e.address(Some(addr), Some((offset, 1)), 0);
                        l.require_writable(at);
                        []
                    },
                    |_| [],
                );
                []
            },
            |_| [],
        );
    }

    /// [`Emitter::load_masked`].
    pub fn load_masked(&mut self, ty: VTy, m: E::Mask, addr: E::Val) -> E::Vec {
        self.flush_flags();
        self.fault_point();
        self.e.load_masked(ty, m, addr)
    }

    /// [`Emitter::store_masked`].
    pub fn store_masked(&mut self, ty: VTy, m: E::Mask, addr: E::Val, v: E::Vec) {
        self.flush_flags();
        self.fault_point();
        self.e.store_masked(ty, m, addr, v);
    }

    pub fn trap_if(&mut self, cond: E::Cond, trap: Trap) {
        // Its handler may let the guest go on behind it.
        self.flush_flags();
        self.e.trap_if(cond, trap);
    }

    /// [`Emitter::exit_if`].
    pub fn exit_if(&mut self, cond: E::Cond, reason: ExitReason, resume: u64) {
        self.flush_flags();
        self.e.exit_if(cond, reason, resume);
    }

    /// Whether an address isn't canonical: bits 63 to 47 aren't equal (SDM vol. 1, 3.3.7.1).
    pub fn is_noncanonical(&mut self, addr: E::Val) -> E::Cond {
        let shifted = self.bin_imm(Bin::Shl, Ty::I64, addr, 16);
        let canonical = self.bin_imm(Bin::Ashr, Ty::I64, shifted, 16);
        self.e.cmp(Pred::Ne, Ty::I64, addr, canonical)
    }

    /// #GP at a transfer whose target isn't canonical (SDM vol. 2, JMP, CALL, RET). Where no handler looks at the registers,
    /// the dispatcher finds such targets as it finds all that have no code.
    #[inline(always)]
    pub fn require_canonical(&mut self, target: E::Val) {
        if self.precise {
            let bad = self.is_noncanonical(target);
            self.trap_if(bad, Trap::GeneralProtection);
        }
    }

    /// #GP unless the address is a multiple of `bytes`, as for MOVAPS (SDM vol. 1, 4.1.1 and vol. 3, table 6-7).
    pub fn require_alignment(&mut self, addr: E::Val, bytes: u64) {
        let low = self.bin_imm(Bin::And, Ty::I64, addr, bytes - 1);
        let misaligned = self.cmp_imm(Pred::Ne, Ty::I64, low, 0);
        self.trap_if(misaligned, Trap::GeneralProtection);
    }

    /// Pushes a value of `ty` (I16 or I64).
    #[inline(always)]
    pub fn push(&mut self, ty: Ty, v: E::Val) {
        let rsp = self.e.gpr(xlate_abi::state::RSP);
        let new = self.e.address(Some(rsp), None, -i64::from(ty.bytes()));
        self.store(ty, new, v);
        self.e.set_gpr(xlate_abi::state::RSP, new);
    }

    /// Pops a value of `ty`.
    #[inline(always)]
    pub fn pop(&mut self, ty: Ty) -> E::Val {
        let rsp = self.e.gpr(xlate_abi::state::RSP);
        let v = self.load(ty, rsp);
        let new = self.e.address(Some(rsp), None, i64::from(ty.bytes()));
        self.e.set_gpr(xlate_abi::state::RSP, new);
        v
    }

    // ---- vector registers --------------------------------------------------------------------------

    /// An XMM, YMM or ZMM register in its own width.
    pub fn vreg(&mut self, r: Register) -> E::Vec {
        self.e.vec(r.full_register().number(), r.size() as u32 * 8)
    }

    /// Writes one, as legacy SSE does (the bits above stay) or as VEX does.
    pub fn set_vreg(&mut self, r: Register, v: E::Vec, upper: Upper) {
        self.e.set_vec(r.full_register().number(), r.size() as u32 * 8, v, upper);
    }

    // ---- control -----------------------------------------------------------------------------------

    /// [`Emitter::if_else`] with settled flags on both sides.
    pub fn if_else<const N: usize>(
        &mut self,
        cond: E::Cond,
        tys: [Ty; N],
        then: impl FnOnce(&mut Self) -> [E::Val; N],
        otherwise: impl FnOnce(&mut Self) -> [E::Val; N],
    ) -> [E::Val; N] {
        self.flush_flags();
        let before = (self.lazy, self.valid);
        let settle = |l: &mut Self, r: [E::Val; N]| {
            l.flush_flags();
            r
        };
        let r = E::if_else(
            self,
            cond,
            tys,
            |l| {
                let r = then(l);
                settle(l, r)
            },
            |l| {
                (l.lazy, l.valid) = before;
                let r = otherwise(l);
                settle(l, r)
            },
        );
        // Which operation it was depends on the way.
        self.valid = 0;
        r
    }

    pub fn jump(&mut self, target: u64) {
        self.settle_flags();
        self.e.jump(target);
    }

    pub fn branch(&mut self, cond: E::Cond, taken: u64, otherwise: u64) {
        self.settle_flags();
        self.e.branch(cond, taken, otherwise);
    }

    pub fn jump_indirect(&mut self, target: E::Val, kind: Indirect) {
        self.settle_flags();
        self.e.jump_indirect(target, kind);
    }

    pub fn call(&mut self, target: u64, return_to: u64) {
        self.settle_flags();
        self.e.call(target, return_to);
    }

    pub fn leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        self.settle_flags();
        self.e.leave(reason, arg, resume);
    }

    /// Calls a helper that sees the CPU state (or a pure one).
    pub fn call_helper(&mut self, helper: xlate_abi::state::Helper, args: &[E::Val]) -> E::Val {
        if !helper.is_pure() {
            self.flush_flags();
            self.fault_point();
        }
        self.e.call_helper(helper, args)
    }

    // ---- flags -------------------------------------------------------------------------------------

    /// The flags are those of `op`; `defined` are the ones it writes. Others that are still pending are settled.
    #[inline(always)]
    pub fn set_flags(&mut self, op: FlagOp, ty: Ty, [a, b, r]: [E::Val; 3], carry: Option<E::Cond>, defined: Flags) {
        self.retire(defined);
        self.lazy = Some(LazyFlags { op, ty, a, b, r, carry, own_carry: None });
        self.valid = defined;
        self.pending = defined & self.live;
    }

    /// All flags are those of `op`, but for CF, which has a rule of its own.
    #[inline(always)]
    pub fn set_flags_but_carry(
        &mut self,
        op: FlagOp,
        ty: Ty,
        [a, b, r]: [E::Val; 3],
        carry: impl FnOnce(&mut Self) -> E::Cond,
    ) {
        let own_carry = self.is_live(RflagsBits::CF).then(|| carry(self));
        self.set_flags(op, ty, [a, b, r], None, STATUS);
        if let Some(lazy) = &mut self.lazy {
            lazy.own_carry = own_carry;
        }
    }

    /// ZF, SF and PF by the result, CF and OF clear, AF (undefined) clear.
    #[inline(always)]
    pub fn set_flags_logic(&mut self, ty: Ty, r: E::Val) {
        self.set_flags(FlagOp::Logic, ty, [r, r, r], None, STATUS);
    }

    /// The flags are what a floating-point comparison found.
    pub fn set_flags_compare(&mut self, c: Compare<E::Cond>) {
        let ordered = self.e.cond_not(c.unordered);
        let bytes = [c.carry, c.zero, ordered].map(|c| self.e.cond_to_int(Ty::I8, c));
        self.set_flags(FlagOp::Compare, Ty::I8, bytes, Some(c.above), STATUS);
    }

    /// Whether anything reads this flag; for flags that are costly to compute.
    pub fn is_live(&self, flags: Flags) -> bool {
        self.live & flags != 0
    }

    /// Writes one flag by itself.
    pub fn set_flag(&mut self, flag: Flag, c: E::Cond) {
        self.retire_only(flag_bit(flag));
        if self.live & flag_bit(flag) != 0 {
            self.set_single(flag_bit(flag));
            self.e.set_flag(flag, c);
        }
    }

    /// Has the emitter ready for single flags.
    fn set_single(&mut self, flags: Flags) {
        if flags & STATUS == 0 {
            return;
        }
        let elsewhere = self.live & STATUS & !flags & !self.pending;
        // The instruction may set them in its turn.
        let keep = elsewhere != 0 && elsewhere & !self.current.map_or(0, |insn| flags_killed(&insn.raw)) != 0;
        self.e.set_single_flags(keep);
    }

    /// Writes PF by the even parity of a byte.
    pub fn set_parity(&mut self, byte: E::Val) {
        self.retire_only(RflagsBits::PF);
        if self.live & RflagsBits::PF != 0 {
            self.set_single(RflagsBits::PF);
            self.e.set_parity(byte);
        }
    }

    /// Writes PF itself.
    pub fn set_parity_flag(&mut self, even: E::Cond) {
        if self.is_live(RflagsBits::PF) {
            let odd = self.e.cond_not(even);
            let byte = self.e.cond_to_int(Ty::I8, odd);
            self.set_parity(byte);
        } else {
            self.retire_only(RflagsBits::PF);
        }
    }

    /// `c ? a : b` on conditions.
    pub fn cond_select(&mut self, c: E::Cond, a: E::Cond, b: E::Cond) -> E::Cond {
        let not_c = self.e.cond_not(c);
        let a = self.e.cond_op(CondOp::And, c, a);
        let b = self.e.cond_op(CondOp::And, not_c, b);
        self.e.cond_op(CondOp::Or, a, b)
    }

    /// The carry out of `r = a + b + carry`.
    pub fn carry_out(&mut self, ty: Ty, a: E::Val, r: E::Val, carry: E::Cond) -> E::Cond {
        let below = self.e.cmp(Pred::Ult, ty, r, a);
        let equal = self.e.cmp(Pred::Eq, ty, r, a);
        let wrapped = self.e.cond_op(CondOp::And, equal, carry);
        self.e.cond_op(CondOp::Or, below, wrapped)
    }

    /// One flag's value, from the last operation where that still defines it.
    pub fn flag(&mut self, flag: Flag) -> E::Cond {
        match self.lazy {
            Some(lazy) if self.valid & flag_bit(flag) != 0 => self.compute(&lazy, flag),
            _ => self.e.flag(flag),
        }
    }

    /// The byte whose even parity is PF.
    pub fn parity_byte(&mut self) -> E::Val {
        match self.lazy {
            Some(lazy) if self.valid & RflagsBits::PF != 0 => self.zcast(lazy.ty, Ty::I8, lazy.r),
            _ => self.e.parity(),
        }
    }

    /// PF.
    pub fn parity_flag(&mut self) -> E::Cond {
        let byte = self.parity_byte();
        let ones = self.e.un(crate::emitter::Un::Popcnt, Ty::I8, byte);
        let odd = self.bit(Ty::I8, ones, 0);
        self.e.cond_not(odd)
    }

    /// A condition code; compares directly where the flags come from a subtraction or a logical operation.
    #[inline(always)]
    pub fn condition(&mut self, cc: Cc, negated: bool) -> E::Cond {
        let c = match self.lazy {
            Some(lazy) if (lazy.carry.is_none() || lazy.op == FlagOp::Compare) && needs(cc) & !self.valid == 0 => {
                self.direct_condition(&lazy, cc).unwrap_or_else(|| condition_from_flags(self, cc))
            }
            _ => condition_from_flags(self, cc),
        };
        if negated { self.e.cond_not(c) } else { c }
    }

    #[inline(always)]
    fn direct_condition(&mut self, lazy: &LazyFlags<E>, cc: Cc) -> Option<E::Cond> {
        if lazy.own_carry.is_some() && needs(cc) & RflagsBits::CF != 0 {
            return None;
        }
        if let (FlagOp::Compare, Some(above)) = (lazy.op, lazy.carry) {
            return (cc == Cc::Be).then(|| self.e.cond_not(above));
        }
        let pred = match (lazy.op, cc) {
            (FlagOp::Sub, Cc::B) | (FlagOp::Logic, Cc::B) => Pred::Ult,
            (_, Cc::E) => Pred::Eq,
            (FlagOp::Sub, Cc::Be) | (FlagOp::Logic, Cc::Be) => Pred::Ule,
            (FlagOp::Sub, Cc::L) | (FlagOp::Logic, Cc::L) => Pred::Slt,
            (FlagOp::Sub, Cc::Le) | (FlagOp::Logic, Cc::Le) => Pred::Sle,
            (_, Cc::S) => return Some(self.cmp_imm(Pred::Slt, lazy.ty, lazy.r, 0)),
            _ => return None,
        };
        Some(match lazy.op {
            FlagOp::Sub => self.e.cmp(pred, lazy.ty, lazy.a, lazy.b),
            // With CF and OF clear every condition is a comparison of the result with zero.
            _ => self.cmp_imm(pred, lazy.ty, lazy.r, 0),
        })
    }

    /// Forgets `defined` and settles the rest: a new operation is about to define them.
    #[inline(always)]
    fn retire(&mut self, defined: Flags) {
        self.retire_only(defined);
        self.flush_flags();
    }

    #[inline(always)]
    fn retire_only(&mut self, defined: Flags) {
        self.valid &= !defined;
        self.pending &= !defined;
    }

    /// Forgets pending flags that nothing behind the current instruction reads.
    #[inline(always)]
    fn drop_dead_flags(&mut self) {
        self.pending &= self.live;
    }

    /// Writes what is read behind the block, where the current instruction, its last, is done with the flags.
    #[inline(always)]
    fn settle_flags(&mut self) {
        self.drop_dead_flags();
        if self.pending != 0 {
            self.write_flags(self.live, true);
        }
    }

    /// Writes all pending flags to the emitter.
    #[inline(always)]
    pub fn flush_flags(&mut self) {
        if self.pending != 0 {
            let read = if self.current.is_none_or(|insn| insn.reads_flags()) { STATUS } else { 0 };
            self.write_flags(self.live | read, false);
        }
    }

    #[inline(never)]
    fn write_flags(&mut self, live: Flags, at_end: bool) {
        let (pending, Some(lazy)) = (core::mem::take(&mut self.pending), self.lazy) else {
            unreachable!("an operation left pending flags")
        };
        let live = live & STATUS;
        // Comparisons of floating-point numbers aren't kept: they would have to be made again.
        let is_kept = lazy.op != FlagOp::Compare;
        let has_origin = is_kept && live & !self.valid == 0 && live.count_ones() > MOST_SINGLE;
        if !has_origin || self.e.wants_single_flags(at_end) {
            self.e.set_single_flags(live & !pending != 0);
            self.write_single_flags(&lazy, pending);
        }
        if has_origin {
            let origin = self.origin(&lazy);
            self.e.set_origin(origin);
        }
    }

    fn write_single_flags(&mut self, lazy: &LazyFlags<E>, flags: Flags) {
        for flag in [Flag::Cf, Flag::Af, Flag::Zf, Flag::Sf, Flag::Of] {
            if flags & flag_bit(flag) != 0 {
                let c = self.compute(lazy, flag);
                self.e.set_flag(flag, c);
            }
        }
        if flags & RflagsBits::PF != 0 {
            let byte = self.zcast(lazy.ty, Ty::I8, lazy.r);
            self.e.set_parity(byte);
        }
    }

    /// The operation as the CPU state keeps it.
    fn origin(&mut self, lazy: &LazyFlags<E>) -> Origin<E> {
        let (operation, x, y) = match lazy.op {
            FlagOp::Add => (origin::ADD, lazy.r, Some(lazy.b)),
            FlagOp::Sub => (origin::SUB, lazy.a, Some(lazy.b)),
            FlagOp::Logic => (origin::LOGIC, lazy.r, None),
            FlagOp::Compare => unreachable!("its flags are single ones"),
        };
        let mut word = operation | lazy.ty.bytes().ilog2() << origin::WIDTH_PLACE;
        let immediate = y.and_then(|y| self.e.constant(y)).and_then(|y| {
            let unused = 64 - lazy.ty.bits();
            origin::immediate((y << unused) as i64 >> unused)
        });
        word |= immediate.unwrap_or(0);
        let bit = match (lazy.carry, lazy.own_carry) {
            (Some(carry), _) => Some((carry, origin::CARRY_PLACE)),
            (None, Some(own)) => {
                word |= origin::HAS_OWN_CF;
                Some((own, origin::OWN_CF_PLACE))
            }
            (None, None) => None,
        };
        Origin { word, bit, ty: lazy.ty, x, y: y.filter(|_| immediate.is_none()) }
    }

    fn compute(&mut self, lazy: &LazyFlags<E>, flag: Flag) -> E::Cond {
        if lazy.op == FlagOp::Compare {
            return match flag {
                Flag::Cf => self.cmp_imm(Pred::Ne, Ty::I8, lazy.a, 0),
                Flag::Zf => self.cmp_imm(Pred::Ne, Ty::I8, lazy.b, 0),
                _ => self.e.bconst(false),
            };
        }
        match flag {
            Flag::Zf => self.cmp_imm(Pred::Eq, lazy.ty, lazy.r, 0),
            Flag::Sf => self.cmp_imm(Pred::Slt, lazy.ty, lazy.r, 0),
            Flag::Cf => self.carry(lazy),
            Flag::Of => self.overflow(lazy),
            Flag::Af => self.auxiliary(lazy),
            Flag::Df => unreachable!("no operation defines DF lazily"),
        }
    }

    fn carry(&mut self, l: &LazyFlags<E>) -> E::Cond {
        if let Some(own) = l.own_carry {
            return own;
        }
        let (below, tie) = match l.op {
            FlagOp::Logic | FlagOp::Compare => return self.e.bconst(false),
            FlagOp::Add => (self.e.cmp(Pred::Ult, l.ty, l.r, l.a), (l.r, l.a)),
            FlagOp::Sub => (self.e.cmp(Pred::Ult, l.ty, l.a, l.b), (l.a, l.b)),
        };
        let Some(carry) = l.carry else { return below };
        let equal = self.e.cmp(Pred::Eq, l.ty, tie.0, tie.1);
        let wrapped = self.e.cond_op(CondOp::And, equal, carry);
        self.e.cond_op(CondOp::Or, below, wrapped)
    }

    /// Signed overflow: the result's sign differs from what the operands' signs allow.
    fn overflow(&mut self, l: &LazyFlags<E>) -> E::Cond {
        let (x, y) = match l.op {
            FlagOp::Logic | FlagOp::Compare => return self.e.bconst(false),
            FlagOp::Add => (self.bin(Bin::Xor, l.ty, l.a, l.r), self.bin(Bin::Xor, l.ty, l.b, l.r)),
            FlagOp::Sub => (self.bin(Bin::Xor, l.ty, l.a, l.b), self.bin(Bin::Xor, l.ty, l.a, l.r)),
        };
        let both = self.bin(Bin::And, l.ty, x, y);
        self.cmp_imm(Pred::Slt, l.ty, both, 0)
    }

    /// Carry out of bit 3.
    fn auxiliary(&mut self, l: &LazyFlags<E>) -> E::Cond {
        if l.op == FlagOp::Logic {
            return self.e.bconst(false);
        }
        let ab = self.bin(Bin::Xor, l.ty, l.a, l.b);
        let abr = self.bin(Bin::Xor, l.ty, ab, l.r);
        self.bit(l.ty, abr, 4)
    }
}

/// A condition from single flags.
fn condition_from_flags<E: Emitter>(l: &mut Lifter<'_, E>, cc: Cc) -> E::Cond {
    let two = |l: &mut Lifter<'_, E>, op, a, b| {
        let a = l.flag(a);
        let b = l.flag(b);
        l.e.cond_op(op, a, b)
    };
    match cc {
        Cc::O => l.flag(Flag::Of),
        Cc::B => l.flag(Flag::Cf),
        Cc::E => l.flag(Flag::Zf),
        Cc::Be => two(l, CondOp::Or, Flag::Cf, Flag::Zf),
        Cc::S => l.flag(Flag::Sf),
        Cc::P => l.parity_flag(),
        Cc::L => two(l, CondOp::Xor, Flag::Sf, Flag::Of),
        Cc::Le => {
            let less = two(l, CondOp::Xor, Flag::Sf, Flag::Of);
            let zero = l.flag(Flag::Zf);
            l.e.cond_op(CondOp::Or, less, zero)
        }
    }
}

/// The six status flags.
pub const STATUS: Flags =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Where so few are read, they are written by themselves: what reads them finds them sooner.
const MOST_SINGLE: u32 = 2;

/// The flags a condition reads.
#[inline(always)]
fn needs(cc: Cc) -> Flags {
    match cc {
        Cc::O => RflagsBits::OF,
        Cc::B => RflagsBits::CF,
        Cc::E => RflagsBits::ZF,
        Cc::Be => RflagsBits::CF | RflagsBits::ZF,
        Cc::S => RflagsBits::SF,
        Cc::P => RflagsBits::PF,
        Cc::L => RflagsBits::SF | RflagsBits::OF,
        Cc::Le => RflagsBits::SF | RflagsBits::OF | RflagsBits::ZF,
    }
}

/// A flag's bit in [`Flags`].
pub fn flag_bit(flag: Flag) -> Flags {
    match flag {
        Flag::Cf => RflagsBits::CF,
        Flag::Af => RflagsBits::AF,
        Flag::Zf => RflagsBits::ZF,
        Flag::Sf => RflagsBits::SF,
        Flag::Of => RflagsBits::OF,
        Flag::Df => RflagsBits::DF,
    }
}

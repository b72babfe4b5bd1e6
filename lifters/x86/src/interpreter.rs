//! Tier 0: the emitter whose values are the bits themselves.
//!
//! It works on the CPU state in place; `rip` in the state is the current instruction's at any moment, so a host
//! fault inside it needs no further bookkeeping. An exception that the semantics raise unwinds out of the
//! instruction ([`run_block`] catches it).

pub mod float;
pub(crate) mod forms;
mod vector;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use xlate_abi::state::{CpuState, ExitReason, FlagBytes, FlagOrigin, Helper, Trap, VecReg, X87Reg, mxcsr};

use crate::decode::{self, Block, BlockEnd};
use crate::effects;
use crate::emitter::*;
use crate::lifter::Lifter;
use crate::vector::memory;
use crate::wide::{self, Wide};
pub use vector::V;

/// The interpreter: one guest thread's state as an emitter.
#[repr(transparent)]
pub struct Interpreter {
    state: CpuState,
}

impl Interpreter {
    /// Works on this state.
    #[inline(always)]
    pub fn on(state: &mut CpuState) -> &mut Self {
        // SAFETY: `repr(transparent)` over the state, and nothing more is promised of it.
        unsafe { &mut *core::ptr::from_mut(state).cast() }
    }
}

/// Payload of the unwinding that ends an instruction by an exception.
struct Raised;

/// Runs what executes instructions, until it ends or an instruction raises an exception; `exit_reason` and `exit_arg` in the
/// state tell which.
pub fn until_raised(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run))
        && !payload.is::<Raised>()
    {
        resume_unwind(payload);
    }
}

/// Whether something remains to be done after a block's last instruction.
pub fn has_open_end(block: &Block) -> bool {
    block.exit != BlockEnd::Terminator || block.insns.last().is_some_and(|i| decode::falls_through(&i.raw))
}

/// Runs one block on the state. Afterwards `rip`, `exit_reason` and `exit_arg` tell how to go on.
///
/// # Safety
/// As for [`execute`].
pub unsafe fn run_block(state: &mut CpuState, block: &Block) {
    state.exit_reason = ExitReason::Continue as u32;
    // SAFETY: the caller's contract.
    until_raised(|| unsafe { execute(state, block, has_open_end(block)) });
}

/// The instructions of a block, and its end if that is open. To be called within [`until_raised`].
///
/// # Safety
/// Guest addresses are host addresses: the block's memory accesses happen as they are. The caller answers for
/// what the guest may touch, and has a fault handler where accesses may fault. `state.helpers` must point at a
/// valid helper table if the block calls helpers.
#[inline(always)]
pub unsafe fn execute(state: &mut CpuState, block: &Block, open_end: bool) {
    state.interpreted += block.insns.len() as u64;
    // Precise: flags that something reads later are in the state wherever a fault can leave.
    let mut l = Lifter::new(Interpreter::on(state), true);
    if block.mutable {
        execute_mutable(&mut l, block);
    } else {
        for insn in block.insns.iter() {
            l.instruction(insn.execute, insn);
        }
    }
    if open_end {
        l.finish(block);
    }
}

/// The same where each instruction may change those behind it.
#[inline(never)]
fn execute_mutable<'b>(l: &mut Lifter<'b, Interpreter>, block: &'b Block) {
    for insn in block.insns.iter() {
        l.instruction(insn.execute, insn);
        if insn.polls() && !decode::ends_block(&insn.raw) {
            l.poll(insn.raw.next_ip());
        }
    }
}

/// [`execute`] while the guest has SSE exceptions unmasked: an instruction that raises one leaves nothing but its flags
/// (Intel SDM vol. 1, 11.5.3). The host's exceptions stay masked; its flags are looked at after each instruction.
///
/// # Safety
/// As for [`execute`]. The host's exception flags are clear.
pub unsafe fn execute_carefully(state: &mut CpuState, block: &Block, open_end: bool) {
    state.interpreted += block.insns.len() as u64;
    let mut l = Lifter::new(Interpreter::on(state), true);
    for insn in block.insns.iter() {
        if effects::raises_float_flags(insn) {
            l.flush_flags();
            let before = Registers::of(&l.e.state);
            l.instruction(insn.execute, insn);
            l.e.raise_unmasked(&before);
        } else {
            l.instruction(insn.execute, insn);
        }
        if block.mutable && insn.polls() && !decode::ends_block(&insn.raw) {
            l.poll(insn.raw.next_ip());
        }
    }
    if open_end {
        l.finish(block);
    }
}

/// What an instruction that raises floating-point exceptions may write.
struct Registers {
    gpr: [u64; 16],
    flags: FlagBytes,
    origin: FlagOrigin,
    vec: [VecReg; 32],
    k: [u64; 8],
    x87: [X87Reg; 8],
}

impl Registers {
    fn of(s: &CpuState) -> Self {
        Self { gpr: s.gpr, flags: s.flags, origin: s.origin, vec: s.vec, k: s.k, x87: s.x87.reg }
    }

    fn restore(&self, s: &mut CpuState) {
        (s.gpr, s.flags, s.origin) = (self.gpr, self.flags, self.origin);
        (s.vec, s.k) = (self.vec, self.k);
        s.x87.reg = self.x87;
    }
}

#[inline(always)]
pub(crate) fn signed(ty: Ty, v: u64) -> i64 {
    let shift = 64 - ty.bits();
    ((v << shift) as i64) >> shift
}

impl Interpreter {
    fn raise(&mut self, reason: ExitReason, arg: u32) -> ! {
        self.state.exit_reason = reason as u32;
        self.state.exit_arg = arg;
        resume_unwind(Box::new(Raised))
    }

    /// Takes over the exception flags that an instruction has raised, and raises #XM with the state of before it if one of
    /// them isn't masked. What is found before the calculation (invalid operation, denormal operand, division by zero) comes
    /// first: if that raises the exception, there was no calculation (Intel SDM vol. 1, 11.5.3.2).
    fn raise_unmasked(&mut self, before: &Registers) {
        const BEFORE_CALCULATION: u32 = mxcsr::IE | mxcsr::DE | mxcsr::ZE;
        let raised = float::take_flags(self.state.mxcsr);
        let unmasked = raised & !(self.state.mxcsr >> mxcsr::MASKS_FROM);
        let seen = if unmasked & BEFORE_CALCULATION != 0 { raised & BEFORE_CALCULATION } else { raised };
        self.state.mxcsr |= seen;
        if unmasked != 0 {
            // TOP and the tags stay: an instruction with an MMX operand has begun to use the x87 registers as such.
            before.restore(&mut self.state);
            self.raise(ExitReason::Trap, Trap::Simd as u32);
        }
    }

    fn set_exit(&mut self, reason: ExitReason, arg: u32, rip: u64) {
        self.state.exit_reason = reason as u32;
        self.state.exit_arg = arg;
        self.state.rip = rip;
    }

    #[inline(always)]
    fn settle_flags(&mut self) {
        if self.state.origin.word != 0 {
            self.state.settle_flags();
        }
    }

    #[inline]
    fn flag_byte(&mut self, flag: Flag) -> &mut u8 {
        let f = &mut self.state.flags;
        match flag {
            Flag::Cf => &mut f.cf,
            Flag::Af => &mut f.af,
            Flag::Zf => &mut f.zf,
            Flag::Sf => &mut f.sf,
            Flag::Of => &mut f.of,
            Flag::Df => &mut f.df,
        }
    }
}

impl Emitter for Interpreter {
    type Val = u64;
    type Cond = bool;
    type Vec = V;
    type Mask = u64;

    #[inline(always)]
    fn begin_instruction(&mut self, ip: u64, _next: u64) {
        self.state.rip = ip;
    }

    #[inline(always)]
    fn gpr(&mut self, reg: usize) -> u64 {
        self.state.gpr[reg]
    }

    #[inline(always)]
    fn set_gpr(&mut self, reg: usize, v: u64) {
        self.state.gpr[reg] = v;
    }

    #[inline(always)]
    fn flag(&mut self, flag: Flag) -> bool {
        self.settle_flags();
        *self.flag_byte(flag) != 0
    }

    #[inline(always)]
    fn set_flag(&mut self, flag: Flag, c: bool) {
        *self.flag_byte(flag) = u8::from(c);
    }

    #[inline(always)]
    fn set_single_flags(&mut self, keep: bool) {
        if keep {
            self.settle_flags();
        } else {
            self.state.origin.word = 0;
        }
    }

    #[inline(always)]
    fn set_origin(&mut self, origin: Origin<Self>) {
        let bit = origin.bit.map_or(0, |(c, place)| u32::from(c) << place);
        self.state.origin.word = origin.word | bit;
        self.state.origin.x = origin.x;
        if let Some(y) = origin.y {
            self.state.origin.y = y;
        }
    }

    #[inline(always)]
    fn parity(&mut self) -> u64 {
        self.settle_flags();
        u64::from(self.state.flags.parity)
    }

    #[inline(always)]
    fn set_parity(&mut self, byte: u64) {
        self.state.flags.parity = byte as u8;
    }

    fn vec(&mut self, reg: usize, bits: u32) -> V {
        V::from_bytes(&self.state.vec[reg][..bits as usize / 8])
    }

    fn set_vec(&mut self, reg: usize, bits: u32, v: V, upper: Upper) {
        let n = bits as usize / 8;
        let target = &mut self.state.vec[reg];
        target[..n].copy_from_slice(&v.0[..n]);
        if upper == Upper::Zero {
            target[n..].fill(0);
        }
    }

    fn clear_vec_from(&mut self, reg: usize, bits: u32) {
        self.state.vec[reg][bits as usize / 8..].fill(0);
    }

    fn mask_register(&mut self, reg: usize) -> u64 {
        self.state.k[reg]
    }

    fn set_mask_register(&mut self, reg: usize, v: u64) {
        self.state.k[reg] = v;
    }

    fn state_load(&mut self, ty: Ty, offset: usize) -> u64 {
        assert!(offset + ty.bytes() as usize <= size_of::<CpuState>());
        let at = &raw const self.state as u64 + offset as u64;
        self.load(ty, at)
    }

    fn state_store(&mut self, ty: Ty, offset: usize, v: u64) {
        assert!(offset + ty.bytes() as usize <= size_of::<CpuState>());
        let at = &raw mut self.state as u64 + offset as u64;
        self.store(ty, at, v);
    }

    #[inline(always)]
    fn iconst(&mut self, ty: Ty, bits: u64) -> u64 {
        bits & ty.mask()
    }

    #[inline(always)]
    fn bin(&mut self, op: Bin, ty: Ty, a: u64, b: u64) -> u64 {
        let width = ty.bits();
        let r = match op {
            Bin::Add => a.wrapping_add(b),
            Bin::Sub => a.wrapping_sub(b),
            Bin::Mul => a.wrapping_mul(b),
            Bin::And => a & b,
            Bin::Or => a | b,
            Bin::Xor => a ^ b,
            Bin::Shl => a << b,
            Bin::Lshr => a >> b,
            Bin::Ashr => (signed(ty, a) >> b) as u64,
            Bin::RotL | Bin::RotR if b == 0 => a,
            Bin::RotL => a << b | a >> (u64::from(width) - b),
            Bin::RotR => a >> b | a << (u64::from(width) - b),
            Bin::Udiv => a / b,
            Bin::Urem => a % b,
            Bin::Sdiv => signed(ty, a).wrapping_div(signed(ty, b)) as u64,
            Bin::Srem => signed(ty, a).wrapping_rem(signed(ty, b)) as u64,
        };
        r & ty.mask()
    }

    #[inline(always)]
    fn un(&mut self, op: Un, ty: Ty, a: u64) -> u64 {
        let spare = 64 - ty.bits();
        let r = match op {
            Un::Not => !a,
            Un::Neg => a.wrapping_neg(),
            Un::Bswap => a.swap_bytes() >> spare,
            Un::Clz => u64::from(a.leading_zeros() - spare),
            Un::Ctz => u64::from(a.trailing_zeros().min(ty.bits())),
            Un::Popcnt => u64::from(a.count_ones()),
        };
        r & ty.mask()
    }

    fn mul_wide(&mut self, is_signed: bool, ty: Ty, a: u64, b: u64) -> (u64, u64) {
        let product = if is_signed {
            (i128::from(signed(ty, a)) * i128::from(signed(ty, b))) as u128
        } else {
            u128::from(a) * u128::from(b)
        };
        (product as u64 & ty.mask(), (product >> ty.bits()) as u64 & ty.mask())
    }

    #[inline(always)]
    fn zext(&mut self, _from: Ty, _to: Ty, v: u64) -> u64 {
        v
    }

    #[inline(always)]
    fn sext(&mut self, from: Ty, to: Ty, v: u64) -> u64 {
        signed(from, v) as u64 & to.mask()
    }

    #[inline(always)]
    fn trunc(&mut self, _from: Ty, to: Ty, v: u64) -> u64 {
        v & to.mask()
    }

    #[inline(always)]
    fn cmp(&mut self, pred: Pred, ty: Ty, a: u64, b: u64) -> bool {
        let (sa, sb) = (signed(ty, a), signed(ty, b));
        match pred {
            Pred::Eq => a == b,
            Pred::Ne => a != b,
            Pred::Ult => a < b,
            Pred::Ule => a <= b,
            Pred::Ugt => a > b,
            Pred::Uge => a >= b,
            Pred::Slt => sa < sb,
            Pred::Sle => sa <= sb,
            Pred::Sgt => sa > sb,
            Pred::Sge => sa >= sb,
        }
    }

    #[inline(always)]
    fn bconst(&mut self, b: bool) -> bool {
        b
    }

    #[inline(always)]
    fn cond_op(&mut self, op: CondOp, a: bool, b: bool) -> bool {
        match op {
            CondOp::And => a & b,
            CondOp::Or => a | b,
            CondOp::Xor => a ^ b,
        }
    }

    #[inline(always)]
    fn cond_not(&mut self, c: bool) -> bool {
        !c
    }

    #[inline(always)]
    fn cond_to_int(&mut self, _ty: Ty, c: bool) -> u64 {
        u64::from(c)
    }

    #[inline(always)]
    fn select(&mut self, _ty: Ty, c: bool, a: u64, b: u64) -> u64 {
        if c { a } else { b }
    }

    #[inline(always)]
    fn address(&mut self, base: Option<u64>, index: Option<(u64, u32)>, disp: i64) -> u64 {
        let index = index.map_or(0, |(v, scale)| v.wrapping_mul(u64::from(scale)));
        base.unwrap_or(0).wrapping_add(index).wrapping_add(disp as u64)
    }

    #[inline(always)]
    fn if_else<C: Host<Self>, const N: usize>(
        ctx: &mut C,
        cond: bool,
        _tys: [Ty; N],
        then: impl FnOnce(&mut C) -> [u64; N],
        otherwise: impl FnOnce(&mut C) -> [u64; N],
    ) -> [u64; N] {
        if cond { then(ctx) } else { otherwise(ctx) }
    }

    #[inline(always)]
    fn trap_if(&mut self, cond: bool, trap: Trap) {
        if cond {
            self.raise(ExitReason::Trap, trap as u32);
        }
    }

    fn exit_if(&mut self, cond: bool, reason: ExitReason, resume: u64) {
        if cond {
            self.state.rip = resume;
            self.raise(reason, 0);
        }
    }

    #[inline(always)]
    fn load(&mut self, ty: Ty, addr: u64) -> u64 {
        let v = match ty {
            // SAFETY: `run_block`'s contract: guest accesses happen as they are.
            Ty::I8 => u64::from(unsafe { (addr as *const u8).read_unaligned() }),
            // SAFETY: likewise.
            Ty::I16 => u64::from(unsafe { (addr as *const u16).read_unaligned() }),
            // SAFETY: likewise.
            Ty::I32 => u64::from(unsafe { (addr as *const u32).read_unaligned() }),
            // SAFETY: likewise.
            Ty::I64 => unsafe { (addr as *const u64).read_unaligned() },
        };
        // Nothing, but a use: a load whose value isn't wanted may still fault.
        // SAFETY: no instruction.
        unsafe { core::arch::asm!("/* {0} */", in(reg) v, options(nomem, nostack, preserves_flags)) };
        v
    }

    #[inline(always)]
    fn store(&mut self, ty: Ty, addr: u64, v: u64) {
        match ty {
            // SAFETY: as for `load`.
            Ty::I8 => unsafe { (addr as *mut u8).write_unaligned(v as u8) },
            // SAFETY: as for `load`.
            Ty::I16 => unsafe { (addr as *mut u16).write_unaligned(v as u16) },
            // SAFETY: as for `load`.
            Ty::I32 => unsafe { (addr as *mut u32).write_unaligned(v as u32) },
            // SAFETY: as for `load`.
            Ty::I64 => unsafe { (addr as *mut u64).write_unaligned(v) },
        }
    }

    fn vload(&mut self, bits: u32, addr: u64) -> V {
        let mut v = V::ZERO;
        // SAFETY: as for `load`; the destination holds 64 bytes and `bits` is at most 512.
        unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, v.0.as_mut_ptr(), bits as usize / 8) };
        v
    }

    fn vstore(&mut self, bits: u32, addr: u64, v: V) {
        // By the host's own stores of that width, because a store over two pages writes all or nothing.
        if bits == 64 {
            return self.store(Ty::I64, addr, v.lane(VTy { lane: Lane::I64, bits }, 0));
        }
        for (n, part) in v.0[..bits as usize / 8].as_chunks().0.iter().enumerate() {
            // SAFETY: as for `vload`.
            unsafe { vector::store16(addr.wrapping_add(16 * n as u64) as *mut u8, part) };
        }
    }

    fn atomic_rmw(&mut self, op: Rmw, ty: Ty, addr: u64, v: u64) -> u64 {
        loop {
            let old = self.load(ty, addr);
            let new = match op {
                Rmw::Add => old.wrapping_add(v),
                Rmw::Sub => old.wrapping_sub(v),
                Rmw::And => old & v,
                Rmw::Or => old | v,
                Rmw::Xor => old ^ v,
                Rmw::Xchg => v,
            } & ty.mask();
            if self.cmpxchg(ty, addr, old, new) == old {
                return old;
            }
        }
    }

    fn cmpxchg(&mut self, ty: Ty, addr: u64, expected: u64, new: u64) -> u64 {
        if !addr.is_multiple_of(u64::from(ty.bytes())) {
            // A split lock. Nothing on these hosts makes it atomic short of stopping all threads.
            let old = self.load(ty, addr);
            self.store(ty, addr, if old == expected { new } else { old });
            return old;
        }
        macro_rules! exchange {
            ($atomic:ty, $int:ty) => {{
                // SAFETY: as for `load`, and the address is aligned.
                let cell = unsafe { <$atomic>::from_ptr(addr as *mut $int) };
                let r = cell.compare_exchange(expected as $int, new as $int, Ordering::SeqCst, Ordering::SeqCst);
                u64::from(r.unwrap_or_else(|old| old))
            }};
        }
        match ty {
            Ty::I8 => exchange!(AtomicU8, u8),
            Ty::I16 => exchange!(AtomicU16, u16),
            Ty::I32 => exchange!(AtomicU32, u32),
            Ty::I64 => exchange!(AtomicU64, u64),
        }
    }

    fn cmpxchg16(&mut self, addr: u64, expected: [u64; 2], new: [u64; 2]) -> [u64; 2] {
        // SAFETY: as for `load`; the semantics have tested the alignment.
        unsafe { vector::cmpxchg16(addr as *mut u64, expected, new) }
    }

    fn fence(&mut self) {
        fence(Ordering::SeqCst);
    }

    fn vconst(&mut self, bytes: &[u8]) -> V {
        V::from_bytes(bytes)
    }

    fn vbin(&mut self, op: VBin, ty: VTy, a: V, b: V) -> V {
        vector::bin(op, ty, &a, &b)
    }

    fn vshift(&mut self, op: VShift, ty: VTy, a: V, count: u64) -> V {
        vector::shift(op, ty, &a, count)
    }

    fn shuffle(&mut self, ty: VTy, a: V, b: V, indices: &[u8]) -> V {
        vector::shuffle(ty, &a, &b, indices)
    }

    fn splat(&mut self, ty: VTy, v: u64) -> V {
        V::from_lanes(ty, |_| v)
    }

    fn extract(&mut self, ty: VTy, v: V, lane: u32) -> u64 {
        v.lane(ty, lane)
    }

    fn insert(&mut self, ty: VTy, mut v: V, lane: u32, x: u64) -> V {
        v.set_lane(ty, lane, x);
        v
    }

    fn movmask(&mut self, ty: VTy, v: V) -> u64 {
        let width = ty.lane.ty().bits();
        (0..ty.lanes()).map(|i| (v.lane(ty, i) >> (width - 1) & 1) << i).sum()
    }

    fn byte_shuffle(&mut self, bits: u32, table: V, index: V) -> V {
        vector::byte_shuffle(bits, &table, &index)
    }

    fn pack(&mut self, from: VTy, to_signed: bool, a: V, b: V) -> V {
        vector::pack(from, to_signed, &a, &b)
    }

    fn mul_even(&mut self, is_signed: bool, bits: u32, a: V, b: V) -> V {
        vector::mul_even(is_signed, bits, &a, &b)
    }

    fn madd_i16(&mut self, bits: u32, a: V, b: V) -> V {
        vector::madd_i16(bits, &a, &b)
    }

    fn sad_u8(&mut self, bits: u32, a: V, b: V) -> V {
        vector::sad_u8(bits, &a, &b)
    }

    fn vfbin(&mut self, op: FBin, ty: VTy, a: V, b: V) -> V {
        let (mode, f) = (self.state.mxcsr, ty.lane.fty().expect("float lanes"));
        V::from_lanes(ty, |i| float::bin(mode, op, f, a.lane(ty, i), b.lane(ty, i)))
    }

    fn vfsqrt(&mut self, ty: VTy, a: V) -> V {
        let (mode, f) = (self.state.mxcsr, ty.lane.fty().expect("float lanes"));
        V::from_lanes(ty, |i| float::sqrt(mode, f, a.lane(ty, i)))
    }

    fn vfcmp(&mut self, pred: FPred, ty: VTy, a: V, b: V) -> V {
        let (mode, f) = (self.state.mxcsr, ty.lane.fty().expect("float lanes"));
        V::from_lanes(ty, |i| float::mask(mode, pred, f, a.lane(ty, i), b.lane(ty, i)))
    }

    fn mask_of_bits(&mut self, lanes: u32, bits: u64) -> u64 {
        bits & u64::MAX >> (64 - lanes)
    }

    fn mask_bits(&mut self, _lanes: u32, m: u64) -> u64 {
        m
    }

    fn vselect(&mut self, ty: VTy, m: u64, a: V, b: V) -> V {
        vector::select(ty, m, &a, &b)
    }

    fn vcompare(&mut self, pred: Pred, ty: VTy, a: V, b: V) -> u64 {
        let lane = ty.lane.ty();
        (0..ty.lanes()).map(|n| u64::from(self.cmp(pred, lane, a.lane(ty, n), b.lane(ty, n))) << n).sum()
    }

    fn load_masked(&mut self, ty: VTy, m: u64, addr: u64) -> V {
        // SAFETY: as for `load`.
        unsafe { memory::load_lanes(ty, m, addr) }
    }

    fn store_masked(&mut self, ty: VTy, m: u64, addr: u64, v: V) {
        // SAFETY: as for `load`.
        unsafe { memory::store_lanes(ty, m, addr, &v) };
    }

    fn resize(&mut self, v: V, _from: u32, bits: u32) -> V {
        V::from_bytes(&v.0[..bits as usize / 8])
    }

    fn set_scratch(&mut self, place: usize, bits: u32, v: V) {
        self.state.scratch[place][..bits as usize / 8].copy_from_slice(&v.0[..bits as usize / 8]);
    }

    fn scratch(&mut self, place: usize, bits: u32) -> V {
        V::from_bytes(&self.state.scratch[place][..bits as usize / 8])
    }

    fn wide(&mut self, op: Wide, ty: VTy, operands: &[(u32, V)], immediate: u8) -> V {
        let v = core::array::from_fn(|n| operands.get(n).map_or(&V::ZERO, |(_, v)| v));
        let (r, raised) = op.perform(&wide::Operands { ty, mxcsr: self.state.mxcsr, v, immediate });
        float::raise_in(&mut self.state.mxcsr, raised);
        r
    }

    fn wide_bits(&mut self, op: Wide, ty: VTy, operands: &[(u32, V)], immediate: u8) -> u64 {
        let v = self.wide(op, ty, operands, immediate);
        v.lane(VTy::x128(Lane::I64), 0)
    }

    fn fbin(&mut self, op: FBin, ty: Fty, a: u64, b: u64) -> u64 {
        float::bin(self.state.mxcsr, op, ty, a, b)
    }

    fn fsqrt(&mut self, ty: Fty, a: u64) -> u64 {
        float::sqrt(self.state.mxcsr, ty, a)
    }

    fn fma(&mut self, op: Fma, ty: Fty, operands: [u64; 3]) -> u64 {
        float::fma(self.state.mxcsr, op, 0, ty, operands)
    }

    fn keep_exceptions(&mut self) {
        if self.state.mxcsr & mxcsr::MASKS != mxcsr::MASKS {
            self.state.mxcsr |= float::take_flags(self.state.mxcsr);
        }
    }

    fn raise_exceptions(&mut self) {
        if self.state.mxcsr & mxcsr::MASKS == mxcsr::MASKS {
            return;
        }
        let before = Registers::of(&self.state);
        self.raise_unmasked(&before);
    }

    fn fcompare(&mut self, signals: bool, _read: Read, ty: Fty, a: u64, b: u64) -> Compare<bool> {
        float::compare(self.state.mxcsr, signals, ty, a, b)
    }

    fn fmask(&mut self, pred: FPred, ty: Fty, a: u64, b: u64) -> u64 {
        float::mask(self.state.mxcsr, pred, ty, a, b)
    }

    fn fround(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: u64) -> u64 {
        float::round(self.state.mxcsr, mode, inexact, ty, v)
    }

    fn int_to_float(&mut self, from: Ty, to: Fty, v: u64) -> u64 {
        float::from_int(from, to, v)
    }

    fn float_to_int(&mut self, round: Round, from: Fty, to: Ty, v: u64) -> u64 {
        float::to_int(self.state.mxcsr, round, from, to, v)
    }

    fn float_to_float(&mut self, from: Fty, to: Fty, v: u64) -> u64 {
        float::convert(self.state.mxcsr, from, to, v)
    }

    fn call_helper(&mut self, helper: Helper, args: &[u64]) -> u64 {
        type Entry = extern "C" fn(*mut CpuState, u64, u64, u64, u64, u64) -> u64;
        let mut all = [0; 5];
        all[..args.len()].copy_from_slice(args);
        // SAFETY: `run_block`'s contract: the table holds every helper's entry point, of this type.
        let entry: Entry = unsafe {
            let slot = (self.state.helpers as usize + helper.table_offset()) as *const u64;
            core::mem::transmute::<u64, Entry>(*slot)
        };
        entry(&raw mut self.state, all[0], all[1], all[2], all[3], all[4])
    }

    #[inline(always)]
    fn jump(&mut self, target: u64) {
        self.state.rip = target;
    }

    #[inline(always)]
    fn branch(&mut self, cond: bool, taken: u64, otherwise: u64) {
        self.state.rip = if cond { taken } else { otherwise };
    }

    #[inline(always)]
    fn jump_indirect(&mut self, target: u64, _kind: Indirect) {
        self.state.rip = target;
    }

    #[inline(always)]
    fn call(&mut self, target: u64, _return_to: u64) {
        self.state.rip = target;
    }

    fn leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        self.set_exit(reason, arg, resume);
    }

    fn leave_if_pending(&mut self, resume: u64) {
        // SAFETY: a valid reference; volatile because signal handlers write behind the compiler's back.
        let pending = unsafe { (&raw const self.state.pending).read_volatile() };
        if pending != 0 {
            self.state.rip = resume;
            self.raise(ExitReason::Safepoint, 0);
        }
    }
}

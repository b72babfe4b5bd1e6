//! Tier 0: the emitter whose values are the bits themselves.
//!
//! It works on the CPU state in place; `rip` in the state is the current instruction's at any moment, so a host
//! fault inside it needs no further bookkeeping. An exception that the semantics raise unwinds out of the
//! instruction ([`run_block`] catches it).

pub mod float;
pub(crate) mod forms;
mod vector;

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use xlate_abi::state::{CpuState, ExitReason, FlagBytes, FlagOrigin, Helper, Trap, VecReg, X87Reg, mxcsr};

use crate::decode::{self, Block, BlockEnd, Insn};
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

/// A block as tier 0 runs it. With the two counts of an [`std::rc::Rc`] before it, it takes two lines of the cache (the
/// runtime's allocator aligns powers of two to their size): in the second stands what is needed to run it, in the first what
/// may come behind it.
#[repr(C)]
pub struct DecodedBlock {
    /// The block that follows at its end, and the one that followed elsewhere the last time; null where none is known.
    followers: [Cell<Follower>; 2],
    /// When these were found; what that means is the finder's business.
    epoch: Cell<u64>,
    /// The entry of the code that has taken its place for good; 0 while there is none.
    pub native: Cell<u64>,
    /// Executions, for whoever decides about its next tier, and after how many that is.
    pub runs: Cell<u64>,
    pub turn: Cell<u64>,
    pub block: Block,
    /// Where the indirect jump or call at its end was seen to lead.
    seen: OnceCell<Box<RefCell<Vec<u64>>>>,
    /// Which of the followers came last.
    last: Cell<u8>,
    /// Whether the block's end remains to be done behind the last instruction.
    open_end: bool,
    /// Whether it ends with an indirect jump or call.
    leads_anywhere: bool,
}

const _: () = assert!(size_of::<DecodedBlock>() + 2 * size_of::<usize>() == 128);

/// Targets that are remembered of one indirect jump.
const MOST_SEEN: usize = 40;

/// A block that followed another one.
#[derive(Clone, Copy)]
struct Follower {
    block: *const DecodedBlock,
    /// Its instructions, to have them fetched before the block itself has come.
    insns: *const Insn,
}

impl Follower {
    const NONE: Self = Self { block: core::ptr::null(), insns: core::ptr::null() };
}

impl DecodedBlock {
    pub fn new(block: Block) -> Self {
        let open_end =
            block.exit != BlockEnd::Terminator || block.insns.last().is_some_and(|i| decode::falls_through(&i.raw));
        let leads_anywhere = block.insns.last().is_some_and(|i| decode::leads_anywhere(&i.raw));
        Self {
            followers: [const { Cell::new(Follower::NONE) }; 2],
            epoch: Cell::new(0),
            native: Cell::new(0),
            runs: Cell::new(0),
            turn: Cell::new(u64::MAX),
            block,
            seen: OnceCell::new(),
            last: Cell::new(0),
            open_end,
            leads_anywhere,
        }
    }

    /// The follower that a block at `pc` would be.
    #[inline(always)]
    fn place_of(&self, pc: u64) -> usize {
        usize::from(pc != self.block.end())
    }

    /// The block at `pc` if it has followed this one in the same epoch.
    ///
    /// # Safety
    /// What was made a follower in this epoch lives.
    #[inline(always)]
    pub unsafe fn follower(&self, pc: u64, epoch: u64) -> Option<*const DecodedBlock> {
        if self.epoch.get() != epoch {
            return None;
        }
        let place = self.place_of(pc);
        let block = self.followers[place].get().block;
        // SAFETY: the caller's contract.
        if block.is_null() || unsafe { (*block).block.pc } != pc {
            return None;
        }
        self.last.set(place as u8);
        Some(block)
    }

    /// Remembers a block that has followed this one; what was found in other epochs is forgotten.
    pub fn set_follower(&self, follower: &DecodedBlock, epoch: u64) {
        if self.epoch.replace(epoch) != epoch {
            self.followers.iter().for_each(|place| place.set(Follower::NONE));
        }
        let place = self.place_of(follower.block.pc);
        self.followers[place].set(Follower { block: follower, insns: follower.block.insns.as_ptr() });
        self.last.set(place as u8);
    }

    /// Remembers where the block led, if it is one that may lead anywhere.
    pub fn saw(&self, pc: u64) {
        if !self.leads_anywhere {
            return;
        }
        let mut seen = self.seen.get_or_init(Box::default).borrow_mut();
        if seen.len() < MOST_SEEN && !seen.contains(&pc) {
            seen.push(pc);
        }
    }

    /// Where the indirect jump or call at its end was seen to lead.
    pub fn seen(&self) -> Vec<u64> {
        self.seen.get().map_or_else(Vec::new, |seen| seen.borrow().clone())
    }

    /// Whether the block ends with an indirect jump or call.
    pub fn leads_anywhere(&self) -> bool {
        self.leads_anywhere
    }
}

/// Cache lines of a block's instructions that are fetched ahead; the processor sees by itself where more are wanted.
const LINES_AHEAD: usize = 4;

impl DecodedBlock {
    /// Has the block that will probably be next on its way from memory while this one is executed: a program's start
    /// goes through more blocks than a cache holds.
    #[inline(always)]
    fn fetch_follower(&self) {
        let next = self.followers[usize::from(self.last.get() & 1)].get();
        prefetch(next.block.cast());
        prefetch(next.block.cast::<u8>().wrapping_add(64));
        for line in 0..LINES_AHEAD {
            prefetch(next.insns.cast::<u8>().wrapping_add(64 * line));
        }
    }
}

/// Asks for a cache line; any address is allowed.
#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: likewise.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// Payload of the unwinding that ends an instruction by an exception.
struct Raised;

/// Runs one block on the state. Afterwards `rip`, `exit_reason` and `exit_arg` tell how to go on.
///
/// # Safety
/// Guest addresses are host addresses: the block's memory accesses happen as they are. The caller answers for
/// what the guest may touch, and has a fault handler where accesses may fault. `state.helpers` must point at a
/// valid helper table if the block calls helpers.
pub unsafe fn run_block(state: &mut CpuState, decoded: &DecodedBlock) {
    // SAFETY: the caller's contract.
    unsafe { run_blocks(state, decoded, |_, _| None) };
}

/// Runs a block and then, as long as none leaves, the ones that `next` names for each and the state behind it.
///
/// # Safety
/// As for [`run_block`]; blocks that `next` gives live until it is asked again.
pub unsafe fn run_blocks(
    state: &mut CpuState,
    first: *const DecodedBlock,
    mut next: impl FnMut(&DecodedBlock, &CpuState) -> Option<*const DecodedBlock>,
) {
    state.exit_reason = ExitReason::Continue as u32;
    let state: *mut CpuState = state;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut block = first;
        loop {
            // SAFETY: the caller keeps the block.
            unsafe { (*block).fetch_follower() };
            // SAFETY: the pointers come from the exclusive borrow above, which nothing else uses meanwhile, and from
            // the caller, who keeps the block.
            unsafe { execute(&mut *state, &*block) };
            // SAFETY: as above.
            let (state, decoded) = unsafe { (&mut *state, &*block) };
            if state.exit_reason != ExitReason::Continue as u32 {
                break;
            }
            match next(decoded, state) {
                Some(following) => block = following,
                None => break,
            }
        }
    }));
    if let Err(payload) = outcome
        && !payload.is::<Raised>()
    {
        resume_unwind(payload);
    }
}

/// The instructions of a block, and its end.
#[inline(always)]
fn execute(state: &mut CpuState, decoded: &DecodedBlock) {
    state.interpreted += decoded.block.insns.len() as u64;
    // Precise: flags that something reads later are in the state wherever a fault can leave.
    let mut l = Lifter::new(Interpreter::on(state), true);
    if decoded.block.mutable {
        execute_mutable(&mut l, &decoded.block);
    } else {
        for insn in decoded.block.insns.iter() {
            l.instruction(insn.execute, insn);
        }
    }
    if decoded.open_end {
        l.finish(&decoded.block);
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

/// Runs one block while the guest has SSE exceptions unmasked: an instruction that raises one leaves nothing but its flags
/// (Intel SDM vol. 1, 11.5.3). The host's exceptions stay masked; its flags are looked at after each instruction.
///
/// # Safety
/// As for [`run_block`]. The host's exception flags are clear.
pub unsafe fn run_block_carefully(state: &mut CpuState, decoded: &DecodedBlock) {
    state.exit_reason = ExitReason::Continue as u32;
    let state: *mut CpuState = state;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the exclusive borrow above, which nothing else uses meanwhile.
        execute_carefully(unsafe { &mut *state }, decoded);
    }));
    if let Err(payload) = outcome
        && !payload.is::<Raised>()
    {
        resume_unwind(payload);
    }
}

fn execute_carefully(state: &mut CpuState, decoded: &DecodedBlock) {
    state.interpreted += decoded.block.insns.len() as u64;
    let mut l = Lifter::new(Interpreter::on(state), true);
    for insn in decoded.block.insns.iter() {
        if effects::raises_float_flags(insn) {
            l.flush_flags();
            let before = Registers::of(&l.e.state);
            l.instruction(insn.execute, insn);
            l.e.raise_unmasked(&before);
        } else {
            l.instruction(insn.execute, insn);
        }
        if decoded.block.mutable && insn.polls() && !decode::ends_block(&insn.raw) {
            l.poll(insn.raw.next_ip());
        }
    }
    if decoded.open_end {
        l.finish(&decoded.block);
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

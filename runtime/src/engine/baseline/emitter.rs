//! The Cranelift emitter: one basic block becomes one function.
//!
//! Registers and flags are written through to the CPU state at once and their values kept for later reads in the
//! same block. So the state is precise at every access that may fault (only `rip` comes from the pc map), exits need
//! no write-back code, and nothing has to be merged where two ways through an instruction meet.
//!
//! A scalar is a Cranelift value of the operation's width, as an integer or a float, whichever it came as; the
//! accessors convert on demand. A condition is an I8 of 0 or 1.

use core::mem::offset_of;

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{
    AbiParam, AtomicRmwOp, Block as ClifBlock, BlockArg, ExternalName, GlobalValueData, InstBuilder, InstructionData,
    MemFlagsData, Opcode, SigRef, Signature, SourceLoc, StackSlotData, StackSlotKind, Type, Value, ValueDef, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;
use xlate_abi::state::{
    CpuState, ExitReason, FlagBytes, FlagOrigin, Helper, LOOKUP_ENTRIES, LinkSlot, LookupEntry, RETURNED, Trap,
};
use xlate_x86::emitter::*;

use super::runtime_calls::Function;
use super::symbol::Symbol;
use super::vector::Wide;
use super::{float, vector};

/// The target's facts that change what is emitted.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The host's floating point *is* x86's: no NaN repair. Misaligned atomic accesses work.
    pub x86: bool,
}

/// What is known to equal the CPU state at this point of the block.
#[derive(Clone, Default)]
struct Cache {
    gpr: [Option<Value>; 16],
    /// XMM parts only: 128 bits.
    vec: [Option<Value>; 32],
    flags: [Option<Value>; 6],
    parity: Option<Value>,
    /// Whether the state is known to have the status flags in their bytes.
    single_flags: bool,
}

impl Cache {
    /// Keeps what both sides agree on. A value that both hold was there before they parted.
    fn meet(&mut self, other: &Cache) {
        fn keep(a: &mut [Option<Value>], b: &[Option<Value>]) {
            for (a, b) in a.iter_mut().zip(b) {
                if a != b {
                    *a = None;
                }
            }
        }
        keep(&mut self.gpr, &other.gpr);
        keep(&mut self.vec, &other.vec);
        keep(&mut self.flags, &other.flags);
        keep(core::slice::from_mut(&mut self.parity), core::slice::from_ref(&other.parity));
        self.single_flags &= other.single_flags;
    }
}

/// Emits one basic block.
pub struct Baseline<'f> {
    pub(super) b: FunctionBuilder<'f>,
    pub(super) host: Host,
    /// Where the link slots made so far lead to.
    slots: Vec<u64>,
    state: Value,
    tail: SigRef,
    /// Helper signatures by number of arguments.
    helper_sigs: [Option<SigRef>; 6],
    cache: Cache,
    /// The block's own address.
    pc: u64,
    /// The current instruction's.
    ip: u64,
}

/// Guest accesses: may fault, any alignment.
const GUEST: MemFlagsData = MemFlagsData::new();
/// Accesses to the CPU state and the engine's tables.
const OWN: MemFlagsData = MemFlagsData::trusted();

/// The integer type of a width.
pub(super) fn int_type(ty: Ty) -> Type {
    match ty {
        Ty::I8 => types::I8,
        Ty::I16 => types::I16,
        Ty::I32 => types::I32,
        Ty::I64 => types::I64,
    }
}

/// The float type of a format.
pub(super) fn float_type(ty: Fty) -> Type {
    match ty {
        Fty::F32 => types::F32,
        Fty::F64 => types::F64,
    }
}

fn int_cc(pred: Pred) -> IntCC {
    match pred {
        Pred::Eq => IntCC::Equal,
        Pred::Ne => IntCC::NotEqual,
        Pred::Ult => IntCC::UnsignedLessThan,
        Pred::Ule => IntCC::UnsignedLessThanOrEqual,
        Pred::Ugt => IntCC::UnsignedGreaterThan,
        Pred::Uge => IntCC::UnsignedGreaterThanOrEqual,
        Pred::Slt => IntCC::SignedLessThan,
        Pred::Sle => IntCC::SignedLessThanOrEqual,
        Pred::Sgt => IntCC::SignedGreaterThan,
        Pred::Sge => IntCC::SignedGreaterThanOrEqual,
    }
}

fn flag_offset(flag: Flag) -> i32 {
    let within = match flag {
        Flag::Cf => offset_of!(FlagBytes, cf),
        Flag::Af => offset_of!(FlagBytes, af),
        Flag::Zf => offset_of!(FlagBytes, zf),
        Flag::Sf => offset_of!(FlagBytes, sf),
        Flag::Of => offset_of!(FlagBytes, of),
        Flag::Df => offset_of!(FlagBytes, df),
    };
    (offset_of!(CpuState, flags) + within) as i32
}

fn gpr_offset(reg: usize) -> i32 {
    (offset_of!(CpuState, gpr) + 8 * reg) as i32
}

fn mask_offset(reg: usize) -> i32 {
    (offset_of!(CpuState, k) + 8 * reg) as i32
}

fn scratch_offset(place: usize) -> i32 {
    (offset_of!(CpuState, scratch) + 64 * place) as i32
}

fn vec_offset(reg: usize, byte: u32) -> i32 {
    (offset_of!(CpuState, vec) + 64 * reg) as i32 + byte as i32
}

const PARITY: i32 = (offset_of!(CpuState, flags) + offset_of!(FlagBytes, parity)) as i32;

const ORIGIN: i32 = (offset_of!(CpuState, origin) + offset_of!(FlagOrigin, word)) as i32;

/// The signature of the block ABI: state and slot; it returns the guest address that a guest return goes to and the guest
/// registers of [`RETURNED`].
pub(super) fn tail_signature() -> Signature {
    let mut sig = Signature::new(CallConv::Tail);
    sig.params = vec![AbiParam::new(types::I64); 2];
    sig.returns = vec![AbiParam::new(types::I64); 1 + RETURNED.len()];
    sig
}

impl<'f> Baseline<'f> {
    /// Starts the function of the block at `pc`.
    pub(super) fn new(mut b: FunctionBuilder<'f>, host: Host, pc: u64) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let state = b.block_params(entry)[0];
        let tail = b.import_signature(tail_signature());
        Self { b, host, slots: Vec::new(), state, tail, helper_sigs: [None; 6], cache: Cache::default(), pc, ip: pc }
    }

    /// Goes to the dispatcher instead if the block's bytes in guest memory are no longer these.
    pub(super) fn check_bytes(&mut self, bytes: &[u8]) {
        // They may be gone: a fault here is one at the block's address.
        self.b.set_srcloc(SourceLoc::new(0));
        let start = self.word(self.pc);
        let mut difference = self.word(0);
        let mut at = 0;
        while at < bytes.len() {
            let size = match bytes.len() - at {
                8.. => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let ty = Ty::from_bytes(size).expect("one of the four sizes");
            let mut word = [0; 8];
            word[..size].copy_from_slice(&bytes[at..at + size]);
            let was = self.word(u64::from_le_bytes(word));
            let is = self.b.ins().load(int_type(ty), GUEST, start, at as i32);
            let is = self.widen(ty, is);
            let differs = self.b.ins().bxor(was, is);
            difference = self.b.ins().bor(difference, differs);
            at += size;
        }
        let stale = self.b.create_block();
        let go_on = self.b.create_block();
        self.b.set_cold_block(stale);
        self.b.ins().brif(difference, stale, [], go_on, []);
        self.b.switch_to_block(stale);
        let pc = self.word(self.pc);
        self.leave_through(Symbol::Continue, pc);
        self.b.switch_to_block(go_on);
    }

    /// Completes the function; gives the targets of its link slots.
    pub(super) fn finish(mut self, isa: &dyn cranelift_codegen::isa::TargetIsa) -> Vec<u64> {
        self.b.seal_all_blocks();
        self.b.finalize(isa.frontend_config());
        self.slots
    }

    /// An address that is filled in when the code is put in its place.
    fn address(&mut self, symbol: Symbol) -> Value {
        let name = self.b.func.declare_imported_user_function(symbol.name());
        let symbol = GlobalValueData::Symbol {
            name: ExternalName::user(name),
            offset: 0.into(),
            // It may be anywhere: all eight bytes of it are in the code.
            colocated: false,
            tls: false,
        };
        let symbol = self.b.func.create_global_value(symbol);
        self.b.ins().symbol_value(types::I64, symbol)
    }

    pub(super) fn word(&mut self, bits: u64) -> Value {
        self.b.ins().iconst(types::I64, bits as i64)
    }

    fn load_state(&mut self, ty: Type, offset: i32) -> Value {
        self.b.ins().load(ty, OWN, self.state, offset)
    }

    fn store_state(&mut self, v: Value, offset: i32) {
        self.b.ins().store(OWN, v, self.state, offset);
    }

    /// The value as an integer of this width.
    pub(super) fn int(&mut self, ty: Ty, v: Value) -> Value {
        let want = int_type(ty);
        if self.b.func.dfg.value_type(v) == want {
            return v;
        }
        self.b.ins().bitcast(want, MemFlagsData::new(), v)
    }

    /// The value as a float of this format.
    pub(super) fn float(&mut self, ty: Fty, v: Value) -> Value {
        let want = float_type(ty);
        if self.b.func.dfg.value_type(v) == want {
            return v;
        }
        self.b.ins().bitcast(want, MemFlagsData::new(), v)
    }

    /// The value of a constant.
    pub(super) fn known_bits(&self, v: Value) -> Option<u64> {
        let ValueDef::Result(inst, 0) = self.b.func.dfg.value_def(v) else {
            return None;
        };
        match self.b.func.dfg.insts[inst] {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits() as u64),
            _ => None,
        }
    }

    /// Has the status flags in their bytes of the state.
    fn settle_flags(&mut self) {
        if core::mem::replace(&mut self.cache.single_flags, true) {
            return;
        }
        let origin = self.load_state(types::I32, ORIGIN);
        let (settle, settled) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(settle);
        self.b.ins().brif(origin, settle, [], settled, []);
        self.switch(settle);
        self.pure_helper(Helper::SettleFlags, &[]);
        self.b.ins().jump(settled, &[]);
        self.switch(settled);
    }

    // ---- exits -------------------------------------------------------------------------------------

    fn store_rip(&mut self, pc: u64) {
        let pc = self.word(pc);
        self.store_state(pc, offset_of!(CpuState, rip) as i32);
    }

    /// Leaves to the dispatcher; `rip` is set already.
    fn exit_with(&mut self, reason: ExitReason, arg: u32) {
        let reason = self.b.ins().iconst(types::I32, i64::from(reason as u32));
        self.store_state(reason, offset_of!(CpuState, exit_reason) as i32);
        if arg != 0 {
            let arg = self.b.ins().iconst(types::I32, i64::from(arg));
            self.store_state(arg, offset_of!(CpuState, exit_arg) as i32);
        }
        let stub = self.load_state(types::I64, offset_of!(CpuState, exit_stub) as i32);
        let none = self.word(0);
        self.b.ins().return_call_indirect(self.tail, stub, &[self.state, none]);
    }

    fn exit(&mut self, reason: ExitReason, arg: u32, pc: u64) {
        self.store_rip(pc);
        if arg == 0 {
            // `exit_with` leaves a zero argument out; a trap's number may be zero and must be there.
            let zero = self.b.ins().iconst(types::I32, 0);
            self.store_state(zero, offset_of!(CpuState, exit_arg) as i32);
        }
        self.exit_with(reason, arg);
    }

    /// Leaves to the dispatcher if the condition holds, which is unlikely.
    fn leave_if(&mut self, cond: Value, reason: ExitReason, arg: u32, pc: u64) {
        let leave = self.b.create_block();
        let go_on = self.b.create_block();
        self.b.set_cold_block(leave);
        self.b.ins().brif(cond, leave, [], go_on, []);
        self.switch(leave);
        self.exit(reason, arg, pc);
        self.switch(go_on);
    }

    /// Leaves to the dispatcher through a stub that sets `rip` and the reason: most blocks have several such exits, and
    /// the stubs' work in each of them would cost more to compile than the block's own.
    fn leave_through(&mut self, stub: Symbol, resume: Value) {
        let stub = self.address(stub);
        self.b.ins().return_call_indirect(self.tail, stub, &[self.state, resume]);
    }

    /// Leaves if something waits, to go on at the address that `resume` gives.
    fn safepoint(&mut self, resume: impl FnOnce(&mut Self) -> Value) {
        let pending = self.load_state(types::I32, offset_of!(CpuState, pending) as i32);
        let waits = self.b.create_block();
        let go_on = self.b.create_block();
        self.b.set_cold_block(waits);
        self.b.ins().brif(pending, waits, [], go_on, []);
        self.b.switch_to_block(waits);
        let resume = resume(self);
        self.leave_through(Symbol::Safepoint, resume);
        self.b.switch_to_block(go_on);
    }

    /// Goes on at a known address through a link slot.
    fn link_exit(&mut self, target: u64) {
        if target <= self.pc {
            self.safepoint(|e| e.word(target));
        }
        let (code, slot) = self.link(target);
        self.b.ins().return_call_indirect(self.tail, code, &[self.state, slot]);
    }

    /// A fresh link slot: the code it leads to, and its address.
    fn link(&mut self, target: u64) -> (Value, Value) {
        let slot = self.address(Symbol::Slot(self.slots.len() as u32));
        self.slots.push(target);
        let code = self.b.ins().load(types::I64, OWN, slot, offset_of!(LinkSlot, code) as i32);
        (code, slot)
    }

    /// Finds the code for an address in the table of indirect branches, or else what looks further.
    fn look_up(&mut self, target: Value) -> Value {
        // The index of `xlate_abi::state::lookup_index`, scaled to the entry's size.
        let twelve = self.word(12);
        let high = self.b.ins().ushr(target, twelve);
        let mixed = self.b.ins().bxor(target, high);
        let mask = self.word(LOOKUP_ENTRIES as u64 - 1);
        let index = self.b.ins().band(mixed, mask);
        let shift = self.word(u64::from(size_of::<LookupEntry>().trailing_zeros()));
        let offset = self.b.ins().ishl(index, shift);
        let table = self.load_state(types::I64, offset_of!(CpuState, lookup) as i32);
        let entry = self.b.ins().iadd(table, offset);
        let pc_field = offset_of!(LookupEntry, guest_pc) as i32;
        let known = self.b.ins().load(types::I64, OWN, entry, pc_field);
        let hit = self.b.ins().icmp(IntCC::Equal, known, target);
        let (found, not_found, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let code = self.b.append_block_param(join, types::I64);
        self.b.set_cold_block(not_found);
        self.b.ins().brif(hit, found, [], not_found, []);
        self.switch(not_found);
        self.store_state(target, offset_of!(CpuState, rip) as i32);
        let reason = self.b.ins().iconst(types::I32, i64::from(ExitReason::Continue as u32));
        self.store_state(reason, offset_of!(CpuState, exit_reason) as i32);
        let stub = self.load_state(types::I64, offset_of!(CpuState, missed_stub) as i32);
        self.b.ins().jump(join, &[stub.into()]);
        self.switch(found);
        let known_code = self.b.ins().load(types::I64, OWN, entry, offset_of!(LookupEntry, code) as i32);
        self.b.ins().jump(join, &[known_code.into()]);
        self.switch(join);
        code
    }

    /// Has the dispatcher go on at an address.
    fn go_on_at(&mut self, target: Value) {
        self.leave_through(Symbol::Continue, target);
    }

    /// Leaves in the way `exit` emits, unless the condition holds.
    fn unless(&mut self, cond: Value, exit: impl FnOnce(&mut Self)) {
        let held = self.b.create_block();
        let failed = self.b.create_block();
        self.b.set_cold_block(failed);
        self.b.ins().brif(cond, held, [], failed, []);
        self.switch(failed);
        exit(self);
        self.switch(held);
    }

    /// Leaves for `target` if calls have filled the host's stack.
    fn check_stack(&mut self, target: Value) {
        let sp = self.b.ins().get_stack_pointer(types::I64);
        let limit = self.load_state(types::I64, offset_of!(CpuState, stack_limit) as i32);
        let room = self.b.ins().icmp(IntCC::UnsignedGreaterThan, sp, limit);
        self.unless(room, |e| e.go_on_at(target));
    }

    /// Returns as tier 2's functions do: LLVM has the results in rax, rdx and rcx, Cranelift in rax, rcx and rdx; on AArch64
    /// both in x2, x3 and x4.
    fn return_to(&mut self, target: Value, [first, second]: [Value; RETURNED.len()]) {
        let results = if self.host.x86 { [target, second, first] } else { [target, first, second] };
        self.b.ins().return_(&results);
    }

    /// Calls the code that a slot or an entry leads to, and goes on behind the call if it returns there.
    fn call_code(&mut self, code: Value, slot: Value, return_to: u64) {
        // Cranelift takes the C convention's registers for preserved by the callee; tier 2 preserves none but the frame
        // pointer. So nothing from before the call is used behind it: the state's address goes over the stack.
        let saved = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8, 3));
        self.b.ins().stack_store(types::I64, self.state, saved, 0);
        let call = self.b.ins().call_indirect(self.tail, code, &[self.state, slot]);
        let returned = self.b.inst_results(call)[0];
        self.state = self.b.ins().stack_load(types::I64, types::I64, saved, 0);
        let expected = self.word(return_to);
        let same = self.b.ins().icmp(IntCC::Equal, returned, expected);
        self.unless(same, |e| e.go_on_at(returned));
        let (code, slot) = self.link(return_to);
        self.b.ins().return_call_indirect(self.tail, code, &[self.state, slot]);
    }

    // ---- calls -------------------------------------------------------------------------------------

    fn helper_signature(&mut self, arguments: usize) -> SigRef {
        if let Some(sig) = self.helper_sigs[arguments] {
            return sig;
        }
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params = vec![AbiParam::new(types::I64); arguments + 1];
        sig.returns.push(AbiParam::new(types::I64));
        let sig = self.b.import_signature(sig);
        self.helper_sigs[arguments] = Some(sig);
        sig
    }

    /// Calls `fn(state, args…) -> u64` at an address.
    fn call_function(&mut self, code: Value, args: &[Value]) -> Value {
        let sig = self.helper_signature(args.len());
        let mut all = vec![self.state];
        all.extend_from_slice(args);
        let call = self.b.ins().call_indirect(sig, code, &all);
        self.b.inst_results(call)[0]
    }

    /// Calls a function of [`runtime_calls`], which accesses guest memory: `rip` is set for the case of a fault.
    fn call_runtime(&mut self, function: Function, args: &[Value]) -> Value {
        self.store_rip(self.ip);
        let code = self.address(Symbol::Function(function.number()));
        self.call_function(code, args)
    }

    pub(super) fn pure_helper(&mut self, helper: Helper, args: &[Value]) -> Value {
        let table = self.load_state(types::I64, offset_of!(CpuState, helpers) as i32);
        let code = self.b.ins().load(types::I64, OWN, table, helper.table_offset() as i32);
        self.call_function(code, args)
    }

    /// Two ways to one value; `cold` is unlikely. Neither touches guest registers.
    pub(super) fn either(
        &mut self,
        ty: Type,
        cold: Value,
        unlikely: impl FnOnce(&mut Self) -> Value,
        likely: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let slow = self.b.create_block();
        let fast = self.b.create_block();
        let join = self.b.create_block();
        self.b.set_cold_block(slow);
        let result = self.b.append_block_param(join, ty);
        self.b.ins().brif(cold, slow, [], fast, []);
        for (block, way) in
            [(slow, Box::new(unlikely) as Box<dyn FnOnce(&mut Self) -> Value>), (fast, Box::new(likely))]
        {
            self.b.switch_to_block(block);
            let v = way(self);
            self.b.ins().jump(join, &[BlockArg::Value(v)]);
        }
        self.b.switch_to_block(join);
        result
    }

    /// An atomic access, by `misaligned` (a runtime call) where the host can't do it at any alignment.
    fn any_alignment(
        &mut self,
        ty: Ty,
        addr: Value,
        misaligned: impl FnOnce(&mut Self) -> Value,
        aligned: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        if self.host.x86 || ty == Ty::I8 {
            return aligned(self);
        }
        let mask = self.word(u64::from(ty.bytes()) - 1);
        let low = self.b.ins().band(addr, mask);
        self.either(
            int_type(ty),
            low,
            |e| {
                let wide = misaligned(e);
                e.narrow(ty, wide)
            },
            aligned,
        )
    }

    fn narrow(&mut self, ty: Ty, v: Value) -> Value {
        match ty {
            Ty::I64 => v,
            _ => self.b.ins().ireduce(int_type(ty), v),
        }
    }

    pub(super) fn widen(&mut self, ty: Ty, v: Value) -> Value {
        match ty {
            Ty::I64 => v,
            _ => self.b.ins().uextend(types::I64, v),
        }
    }

    // ---- small integer operations on 8 and 16 bits --------------------------------------------------

    /// Counts bits of narrow types in 32 bits.
    fn count_bits(&mut self, op: Un, ty: Ty, a: Value) -> Value {
        let narrow = matches!(ty, Ty::I8 | Ty::I16);
        let wide = if narrow { self.b.ins().uextend(types::I32, a) } else { a };
        let spare = i64::from(32 - ty.bits().min(32));
        let r = match op {
            Un::Clz => {
                let r = self.b.ins().clz(wide);
                if !narrow {
                    return r;
                }
                let spare = self.b.ins().iconst(types::I32, spare);
                self.b.ins().isub(r, spare)
            }
            Un::Ctz if narrow => {
                // A sentinel bit behind the value ends the count for zero.
                let stop = self.b.ins().iconst(types::I32, 1 << ty.bits());
                let stopped = self.b.ins().bor(wide, stop);
                self.b.ins().ctz(stopped)
            }
            Un::Ctz => self.b.ins().ctz(wide),
            _ => self.b.ins().popcnt(wide),
        };
        if narrow { self.b.ins().ireduce(int_type(ty), r) } else { r }
    }

    fn switch(&mut self, block: ClifBlock) {
        self.b.switch_to_block(block);
    }
}

impl Emitter for Baseline<'_> {
    type Val = Value;
    type Cond = Value;
    type Vec = Wide;
    /// An I64 with a bit for each lane, the others zero.
    type Mask = Value;

    fn begin_instruction(&mut self, ip: u64, _next: u64) {
        self.ip = ip;
        self.b.set_srcloc(SourceLoc::new(ip.wrapping_sub(self.pc) as u32));
    }

    fn gpr(&mut self, reg: usize) -> Value {
        if let Some(v) = self.cache.gpr[reg] {
            return v;
        }
        let v = self.load_state(types::I64, gpr_offset(reg));
        self.cache.gpr[reg] = Some(v);
        v
    }

    fn set_gpr(&mut self, reg: usize, v: Value) {
        let v = self.int(Ty::I64, v);
        self.store_state(v, gpr_offset(reg));
        self.cache.gpr[reg] = Some(v);
    }

    fn flag(&mut self, flag: Flag) -> Value {
        if let Some(v) = self.cache.flags[flag as usize] {
            return v;
        }
        if flag != Flag::Df {
            self.settle_flags();
        }
        let v = self.load_state(types::I8, flag_offset(flag));
        self.cache.flags[flag as usize] = Some(v);
        v
    }

    fn set_flag(&mut self, flag: Flag, c: Value) {
        self.store_state(c, flag_offset(flag));
        self.cache.flags[flag as usize] = Some(c);
    }

    fn set_single_flags(&mut self, keep: bool) {
        if keep {
            self.settle_flags();
        } else if !self.cache.single_flags {
            let none = self.b.ins().iconst(types::I32, 0);
            self.store_state(none, ORIGIN);
            self.cache.single_flags = true;
        }
    }

    fn set_origin(&mut self, origin: Origin<Self>) {
        let mut word = self.b.ins().iconst(types::I32, i64::from(origin.word));
        if let Some((c, place)) = origin.bit {
            let c = self.b.ins().uextend(types::I32, c);
            let place = self.b.ins().iconst(types::I32, i64::from(place));
            let bit = self.b.ins().ishl(c, place);
            word = self.b.ins().bor(word, bit);
        }
        self.store_state(word, ORIGIN);
        let operands = [(Some(origin.x), offset_of!(FlagOrigin, x)), (origin.y, offset_of!(FlagOrigin, y))];
        for (v, field) in operands.into_iter().filter_map(|(v, field)| Some((v?, field))) {
            let v = self.int(origin.ty, v);
            self.store_state(v, (offset_of!(CpuState, origin) + field) as i32);
        }
        let df = self.cache.flags[Flag::Df as usize];
        self.cache.flags = [None; 6];
        self.cache.flags[Flag::Df as usize] = df;
        self.cache.parity = None;
        self.cache.single_flags = false;
    }

    fn parity(&mut self) -> Value {
        if let Some(v) = self.cache.parity {
            return v;
        }
        self.settle_flags();
        let v = self.load_state(types::I8, PARITY);
        self.cache.parity = Some(v);
        v
    }

    fn set_parity(&mut self, byte: Value) {
        self.store_state(byte, PARITY);
        self.cache.parity = Some(byte);
    }

    fn vec(&mut self, reg: usize, bits: u32) -> Wide {
        if bits <= 128
            && let Some(v) = self.cache.vec[reg]
        {
            return Wide::new(bits, &[v]);
        }
        let base = vec_offset(reg, 0);
        let v = vector::load(self, bits, self.state, base, OWN);
        if bits == 128 {
            self.cache.vec[reg] = Some(v.part(0));
        }
        v
    }

    fn set_vec(&mut self, reg: usize, bits: u32, v: Wide, upper: Upper) {
        vector::store(self, bits, v, self.state, vec_offset(reg, 0), OWN);
        self.cache.vec[reg] = (bits >= 128).then(|| v.part(0));
        if upper == Upper::Zero {
            let zero = self.word(0);
            for byte in (bits / 8..64).step_by(8) {
                self.store_state(zero, vec_offset(reg, byte));
            }
        }
    }

    fn clear_vec_from(&mut self, reg: usize, bits: u32) {
        let zero = vector::constant(self, &[0; 16]);
        for byte in (bits / 8..64).step_by(16) {
            vector::store(self, 128, zero, self.state, vec_offset(reg, byte), OWN);
        }
    }

    fn mask_register(&mut self, reg: usize) -> Value {
        self.load_state(types::I64, mask_offset(reg))
    }

    fn set_mask_register(&mut self, reg: usize, v: Value) {
        let v = self.int(Ty::I64, v);
        self.store_state(v, mask_offset(reg));
    }

    fn state_load(&mut self, ty: Ty, offset: usize) -> Value {
        self.load_state(int_type(ty), offset as i32)
    }

    fn state_store(&mut self, ty: Ty, offset: usize, v: Value) {
        let v = self.int(ty, v);
        self.store_state(v, offset as i32);
    }

    fn iconst(&mut self, ty: Ty, bits: u64) -> Value {
        self.b.ins().iconst(int_type(ty), (bits & ty.mask()) as i64)
    }

    fn constant(&self, v: Value) -> Option<u64> {
        self.known_bits(v)
    }

    fn bin(&mut self, op: Bin, ty: Ty, a: Value, b: Value) -> Value {
        let (a, b) = (self.int(ty, a), self.int(ty, b));
        let ins = self.b.ins();
        match op {
            Bin::Add => ins.iadd(a, b),
            Bin::Sub => ins.isub(a, b),
            Bin::Mul => ins.imul(a, b),
            Bin::And => ins.band(a, b),
            Bin::Or => ins.bor(a, b),
            Bin::Xor => ins.bxor(a, b),
            Bin::Shl => ins.ishl(a, b),
            Bin::Lshr => ins.ushr(a, b),
            Bin::Ashr => ins.sshr(a, b),
            Bin::RotL => ins.rotl(a, b),
            Bin::RotR => ins.rotr(a, b),
            Bin::Udiv => ins.udiv(a, b),
            Bin::Urem => ins.urem(a, b),
            Bin::Sdiv => ins.sdiv(a, b),
            Bin::Srem => ins.srem(a, b),
        }
    }

    fn un(&mut self, op: Un, ty: Ty, a: Value) -> Value {
        let a = self.int(ty, a);
        match op {
            Un::Not => self.b.ins().bnot(a),
            Un::Neg => self.b.ins().ineg(a),
            Un::Bswap if ty == Ty::I8 => a,
            Un::Bswap => self.b.ins().bswap(a),
            Un::Clz | Un::Ctz | Un::Popcnt => self.count_bits(op, ty, a),
        }
    }

    fn mul_wide(&mut self, signed: bool, ty: Ty, a: Value, b: Value) -> (Value, Value) {
        let (a, b) = (self.int(ty, a), self.int(ty, b));
        if ty == Ty::I64 {
            let low = self.b.ins().imul(a, b);
            let high = if signed { self.b.ins().smulhi(a, b) } else { self.b.ins().umulhi(a, b) };
            return (low, high);
        }
        let wide = |e: &mut Self, v| {
            if signed { e.b.ins().sextend(types::I64, v) } else { e.b.ins().uextend(types::I64, v) }
        };
        let (a, b) = (wide(self, a), wide(self, b));
        let product = self.b.ins().imul(a, b);
        let count = self.word(u64::from(ty.bits()));
        let high = self.b.ins().ushr(product, count);
        (self.narrow(ty, product), self.narrow(ty, high))
    }

    fn zext(&mut self, from: Ty, to: Ty, v: Value) -> Value {
        let v = self.int(from, v);
        if from == to {
            return v;
        }
        self.b.ins().uextend(int_type(to), v)
    }

    fn sext(&mut self, from: Ty, to: Ty, v: Value) -> Value {
        let v = self.int(from, v);
        if from == to {
            return v;
        }
        self.b.ins().sextend(int_type(to), v)
    }

    fn trunc(&mut self, from: Ty, to: Ty, v: Value) -> Value {
        let v = self.int(from, v);
        if from == to {
            return v;
        }
        self.b.ins().ireduce(int_type(to), v)
    }

    fn cmp(&mut self, pred: Pred, ty: Ty, a: Value, b: Value) -> Value {
        let (a, b) = (self.int(ty, a), self.int(ty, b));
        self.b.ins().icmp(int_cc(pred), a, b)
    }

    fn bconst(&mut self, b: bool) -> Value {
        self.b.ins().iconst(types::I8, i64::from(b))
    }

    fn cond_op(&mut self, op: CondOp, a: Value, b: Value) -> Value {
        let ins = self.b.ins();
        match op {
            CondOp::And => ins.band(a, b),
            CondOp::Or => ins.bor(a, b),
            CondOp::Xor => ins.bxor(a, b),
        }
    }

    fn cond_not(&mut self, c: Value) -> Value {
        // An inverted comparison still fuses with the branch behind it.
        if let ValueDef::Result(inst, 0) = self.b.func.dfg.value_def(c)
            && let InstructionData::IntCompare { opcode: Opcode::Icmp, args: [x, y], cond } =
                self.b.func.dfg.insts[inst]
        {
            return self.b.ins().icmp(cond.complement(), x, y);
        }
        let one = self.b.ins().iconst(types::I8, 1);
        self.b.ins().bxor(c, one)
    }

    fn cond_to_int(&mut self, ty: Ty, c: Value) -> Value {
        match ty {
            Ty::I8 => c,
            _ => self.b.ins().uextend(int_type(ty), c),
        }
    }

    fn select(&mut self, ty: Ty, c: Value, a: Value, b: Value) -> Value {
        let (a, b) = (self.int(ty, a), self.int(ty, b));
        self.b.ins().select(c, a, b)
    }

    fn address(&mut self, base: Option<Value>, index: Option<(Value, u32)>, disp: i64) -> Value {
        // base + (index << scale) + displacement, in the shape that instruction selection folds into addressing modes.
        let scaled = index.map(|(index, scale)| match scale {
            1 => index,
            _ => {
                let shift = self.word(u64::from(scale.trailing_zeros()));
                self.b.ins().ishl(index, shift)
            }
        });
        let sum = match (base, scaled) {
            (Some(base), Some(scaled)) => self.b.ins().iadd(base, scaled),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return self.word(disp as u64),
        };
        if disp == 0 {
            return sum;
        }
        let disp = self.word(disp as u64);
        self.b.ins().iadd(sum, disp)
    }

    fn if_else<C: xlate_x86::emitter::Host<Self>, const N: usize>(
        ctx: &mut C,
        cond: Value,
        tys: [Ty; N],
        then: impl FnOnce(&mut C) -> [Value; N],
        otherwise: impl FnOnce(&mut C) -> [Value; N],
    ) -> [Value; N] {
        let e = ctx.emitter();
        let yes = e.b.create_block();
        let no = e.b.create_block();
        let join = e.b.create_block();
        let results = tys.map(|ty| e.b.append_block_param(join, int_type(ty)));
        e.b.ins().brif(cond, yes, [], no, []);
        let before = e.cache.clone();
        e.switch(yes);
        let values = then(ctx);
        let e = ctx.emitter();
        e.join(join, tys, values);
        let after_then = core::mem::replace(&mut e.cache, before);
        e.switch(no);
        let values = otherwise(ctx);
        let e = ctx.emitter();
        e.join(join, tys, values);
        e.cache.meet(&after_then);
        e.switch(join);
        results
    }

    fn trap_if(&mut self, cond: Value, trap: Trap) {
        self.leave_if(cond, ExitReason::Trap, trap as u32, self.ip);
    }

    fn exit_if(&mut self, cond: Value, reason: ExitReason, resume: u64) {
        self.leave_if(cond, reason, 0, resume);
    }

    fn load(&mut self, ty: Ty, addr: Value) -> Value {
        self.b.ins().load(int_type(ty), GUEST, addr, 0)
    }

    fn store(&mut self, ty: Ty, addr: Value, v: Value) {
        let v = self.int(ty, v);
        self.b.ins().store(GUEST, v, addr, 0);
    }

    fn vload(&mut self, bits: u32, addr: Value) -> Wide {
        vector::load(self, bits, addr, 0, GUEST)
    }

    fn vstore(&mut self, bits: u32, addr: Value, v: Wide) {
        vector::store(self, bits, v, addr, 0, GUEST);
    }

    fn splits_stores(&self, bits: u32) -> bool {
        bits > 128 || !self.host.x86
    }

    fn atomic_rmw(&mut self, op: Rmw, ty: Ty, addr: Value, v: Value) -> Value {
        let v = self.int(ty, v);
        self.any_alignment(
            ty,
            addr,
            |e| {
                let code = Function::misaligned_rmw(op, ty);
                let v = e.widen(ty, v);
                e.call_runtime(code, &[addr, v])
            },
            |e| {
                let op = match op {
                    Rmw::Add => AtomicRmwOp::Add,
                    Rmw::Sub => AtomicRmwOp::Sub,
                    Rmw::And => AtomicRmwOp::And,
                    Rmw::Or => AtomicRmwOp::Or,
                    Rmw::Xor => AtomicRmwOp::Xor,
                    Rmw::Xchg => AtomicRmwOp::Xchg,
                };
                e.b.ins().atomic_rmw(int_type(ty), GUEST, op, addr, v)
            },
        )
    }

    fn cmpxchg(&mut self, ty: Ty, addr: Value, expected: Value, new: Value) -> Value {
        let (expected, new) = (self.int(ty, expected), self.int(ty, new));
        self.any_alignment(
            ty,
            addr,
            |e| {
                let code = Function::misaligned_cmpxchg(ty);
                let (expected, new) = (e.widen(ty, expected), e.widen(ty, new));
                e.call_runtime(code, &[addr, expected, new])
            },
            |e| e.b.ins().atomic_cas(GUEST, addr, expected, new),
        )
    }

    fn cmpxchg16(&mut self, addr: Value, expected: [Value; 2], new: [Value; 2]) -> [Value; 2] {
        let scratch = |n: usize| scratch_offset(0) + 8 * n as i32;
        for (n, v) in expected.into_iter().chain(new).enumerate() {
            let v = self.int(Ty::I64, v);
            self.store_state(v, scratch(n));
        }
        self.call_runtime(Function::CMPXCHG16, &[addr]);
        [0, 1].map(|n| self.load_state(types::I64, scratch(n)))
    }

    fn fence(&mut self) {
        self.b.ins().fence();
    }

    fn vconst(&mut self, bytes: &[u8]) -> Wide {
        vector::constant(self, bytes)
    }

    fn vbin(&mut self, op: VBin, ty: VTy, a: Wide, b: Wide) -> Wide {
        vector::bin(self, op, ty, a, b)
    }

    fn vshift(&mut self, op: VShift, ty: VTy, a: Wide, count: Value) -> Wide {
        vector::shift(self, op, ty, a, count)
    }

    fn shuffle(&mut self, ty: VTy, a: Wide, b: Wide, indices: &[u8]) -> Wide {
        vector::shuffle(self, ty, a, b, indices)
    }

    fn splat(&mut self, ty: VTy, v: Value) -> Wide {
        vector::splat(self, ty, v)
    }

    fn extract(&mut self, ty: VTy, v: Wide, lane: u32) -> Value {
        vector::extract(self, ty, v, lane)
    }

    fn insert(&mut self, ty: VTy, v: Wide, lane: u32, x: Value) -> Wide {
        vector::insert(self, ty, v, lane, x)
    }

    fn movmask(&mut self, ty: VTy, v: Wide) -> Value {
        vector::movmask(self, ty, v)
    }

    fn pack(&mut self, from: VTy, to_signed: bool, a: Wide, b: Wide) -> Wide {
        vector::pack(self, from, to_signed, a, b)
    }

    fn mul_even(&mut self, signed: bool, bits: u32, a: Wide, b: Wide) -> Wide {
        vector::mul_even(self, signed, bits, a, b)
    }

    fn madd_i16(&mut self, bits: u32, a: Wide, b: Wide) -> Wide {
        vector::madd_i16(self, bits, a, b)
    }

    fn sad_u8(&mut self, bits: u32, a: Wide, b: Wide) -> Wide {
        vector::sad_u8(self, bits, a, b)
    }

    fn vfbin(&mut self, op: FBin, ty: VTy, a: Wide, b: Wide) -> Wide {
        float::vector_bin(self, op, ty, a, b)
    }

    fn vfsqrt(&mut self, ty: VTy, a: Wide) -> Wide {
        float::vector_sqrt(self, ty, a)
    }

    fn vfcmp(&mut self, pred: FPred, ty: VTy, a: Wide, b: Wide) -> Wide {
        float::vector_mask(self, pred, ty, a, b)
    }

    fn mask_of_bits(&mut self, lanes: u32, bits: Value) -> Value {
        if lanes == 64 {
            return bits;
        }
        let all = self.word((1 << lanes) - 1);
        self.b.ins().band(bits, all)
    }

    fn mask_bits(&mut self, _lanes: u32, m: Value) -> Value {
        m
    }

    fn vselect(&mut self, ty: VTy, m: Value, a: Wide, b: Wide) -> Wide {
        vector::select(self, ty, m, a, b)
    }

    fn vcompare(&mut self, pred: Pred, ty: VTy, a: Wide, b: Wide) -> Value {
        vector::compare(self, int_cc(pred), ty, a, b)
    }

    fn resize(&mut self, v: Wide, _from: u32, bits: u32) -> Wide {
        vector::resize(self, v, bits)
    }

    fn set_scratch(&mut self, place: usize, bits: u32, v: Wide) {
        vector::store(self, bits, v, self.state, scratch_offset(place), OWN);
    }

    fn scratch(&mut self, place: usize, bits: u32) -> Wide {
        vector::load(self, bits, self.state, scratch_offset(place), OWN)
    }

    fn fbin(&mut self, op: FBin, ty: Fty, a: Value, b: Value) -> Value {
        float::bin(self, op, ty, a, b)
    }

    fn fsqrt(&mut self, ty: Fty, a: Value) -> Value {
        float::sqrt(self, ty, a)
    }

    fn fcompare(&mut self, signals: bool, _read: Read, ty: Fty, a: Value, b: Value) -> Compare<Value> {
        float::compare(self, signals, ty, a, b)
    }

    fn fmask(&mut self, pred: FPred, ty: Fty, a: Value, b: Value) -> Value {
        float::mask(self, pred, ty, a, b)
    }

    fn fround(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: Value) -> Value {
        float::round(self, mode, inexact, ty, v)
    }

    fn int_to_float(&mut self, from: Ty, to: Fty, v: Value) -> Value {
        float::from_int(self, from, to, v)
    }

    fn float_to_int(&mut self, round: Round, from: Fty, to: Ty, v: Value) -> Value {
        float::to_int(self, round, from, to, v)
    }

    fn float_to_float(&mut self, from: Fty, to: Fty, v: Value) -> Value {
        float::convert(self, from, to, v)
    }

    fn call_helper(&mut self, helper: Helper, args: &[Value]) -> Value {
        if !helper.is_pure() {
            self.store_rip(self.ip);
        }
        let result = self.pure_helper(helper, args);
        if !helper.is_pure() {
            self.cache = Cache::default();
        }
        result
    }

    fn jump(&mut self, target: u64) {
        self.link_exit(target);
    }

    fn branch(&mut self, cond: Value, taken: u64, otherwise: u64) {
        let yes = self.b.create_block();
        let no = self.b.create_block();
        self.b.ins().brif(cond, yes, [], no, []);
        for (block, target) in [(yes, taken), (no, otherwise)] {
            self.switch(block);
            self.link_exit(target);
        }
    }

    fn jump_indirect(&mut self, target: Value, kind: Indirect) {
        let target = self.int(Ty::I64, target);
        match kind {
            Indirect::Ret => {
                self.safepoint(|_| target);
                let registers = RETURNED.map(|r| self.gpr(r));
                self.return_to(target, registers);
            }
            Indirect::Jump => {
                self.safepoint(|_| target);
                let code = self.look_up(target);
                // No slot leads there.
                self.b.ins().return_call_indirect(self.tail, code, &[self.state, target]);
            }
            Indirect::Call { return_to } => {
                self.check_stack(target);
                let code = self.look_up(target);
                self.call_code(code, target, return_to);
            }
        }
    }

    fn call(&mut self, target: u64, return_to: u64) {
        // Recursion has a backward call somewhere, or an indirect one.
        if target <= self.pc {
            let target = self.word(target);
            self.check_stack(target);
        }
        let (code, slot) = self.link(target);
        self.call_code(code, slot, return_to);
    }

    fn leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        self.exit(reason, arg, resume);
    }

    fn leave_if_pending(&mut self, resume: u64) {
        self.safepoint(|e| e.word(resume));
    }
}

impl Baseline<'_> {
    /// Ends one side of an [`Emitter::if_else`].
    fn join<const N: usize>(&mut self, join: ClifBlock, tys: [Ty; N], values: [Value; N]) {
        let mut args = [BlockArg::Value(self.state); N];
        for n in 0..N {
            args[n] = BlockArg::Value(self.int(tys[n], values[n]));
        }
        self.b.ins().jump(join, &args);
    }
}

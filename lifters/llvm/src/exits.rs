//! Edges of the region: branches inside, and the ways out of it.
//!
//! What a way out has to write back is known only when the whole region is lifted, so exits and helper calls
//! are recorded as blocks and filled in at the end ([`Llvm::finish`]).

use core::mem::offset_of;

use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, IntValue, LLVMTailCallKind, PointerValue,
};
use xlate_abi::protocol::Arch;
use xlate_abi::state::{CpuState, ExitReason, Helper, LOOKUP_ENTRIES, LinkSlot, LookupEntry, Trap};
use xlate_x86::emitter::{Indirect, Ty};

use crate::emitter::{Llvm, Val};
use crate::ir::Likely;
use crate::state::Registers;

/// LLVM's number of the calling convention `preserve_none`.
pub const PRESERVE_NONE: u32 = 21;

/// Arguments in front of the state pointer: with `preserve_none` they take the registers up to the one that
/// the block ABI has it in (x86-64: r12 to r15, then rdi and rsi; AArch64: x20 to x28, x0 and x1, then x2 and x3,
/// where Cranelift's `Tail` convention has its first two).
pub fn leading_arguments(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 4,
        Arch::Aarch64 => 11,
    }
}

/// What code returns: a guest address in rax, or in x2, where Cranelift's `Tail` convention begins with its results, too.
/// LLVM returns the fields of a structure in x0, x1 and x2.
pub fn return_type<'c>(cx: &'c inkwell::context::Context, arch: Arch) -> BasicTypeEnum<'c> {
    let word = cx.i64_type();
    match arch {
        Arch::X86_64 => word.into(),
        Arch::Aarch64 => cx.struct_type(&[word.into(); 3], false).into(),
    }
}

/// A place where the slots' values have to go to the CPU state, or come from it.
pub struct Site<'c> {
    block: BasicBlock<'c>,
    /// Index of the guest block it belongs to, and what that had written so far.
    from: usize,
    written: Registers,
    /// Nothing needs to be written back.
    bare: bool,
    kind: SiteKind<'c>,
}

enum SiteKind<'c> {
    /// Leaves through the link slot of this index.
    Link(usize),
    /// Leaves to an address that is looked up.
    Indirect(IntValue<'c>),
    /// Returns to the host's caller with the guest's return address.
    Return(IntValue<'c>),
    /// Leaves to the runtime.
    Leave { reason: ExitReason, arg: u32, resume: IntValue<'c> },
    /// Writes back and goes on.
    Sync(BasicBlock<'c>),
    /// Loads everything and goes on.
    Reload(BasicBlock<'c>),
}

impl<'c> Llvm<'c> {
    fn site(&mut self, kind: SiteKind<'c>, name: &str) -> BasicBlock<'c> {
        let block = self.ir.block(name);
        self.sites.push(Site { block, from: self.index, written: self.written, bare: false, kind });
        block
    }

    /// A way out where the CPU state holds everything already.
    fn bare_site(&mut self, kind: SiteKind<'c>, name: &str) -> BasicBlock<'c> {
        let block = self.site(kind, name);
        self.sites.last_mut().expect("just recorded").bare = true;
        block
    }

    /// Writes back what is dirty and goes on.
    fn sync(&mut self) {
        let next = self.ir.block("");
        let sync = self.site(SiteKind::Sync(next), "sync");
        self.ir.br(sync);
        self.ir.at_end(next);
    }

    // ---- direct edges ------------------------------------------------------------------------------

    /// The block to branch to for going on at `target`.
    fn edge(&mut self, target: u64) -> BasicBlock<'c> {
        let to = self.direct(target);
        if target > self.block_pc {
            return to;
        }
        let here = self.ir.here();
        let poll = self.ir.block("poll");
        self.ir.at_end(poll);
        self.poll(self.ir.i64(target), to);
        self.ir.at_end(here);
        poll
    }

    fn direct(&mut self, target: u64) -> BasicBlock<'c> {
        match self.blocks.get(&target) {
            // Float operations must not be moved across a change of their mode, which ends its block.
            Some(&(index, block)) if !self.changes_mode => {
                self.edges.push((self.index, index));
                block
            }
            _ => {
                let slot = self.slot_of(target);
                self.site(SiteKind::Link(slot), "exit")
            }
        }
    }

    fn slot_of(&mut self, target: u64) -> usize {
        if let Some(n) = self.link_slots.iter().position(|pc| *pc == target) {
            return n;
        }
        self.link_slots.push(target);
        self.link_slots.len() - 1
    }

    /// Leaves at a safepoint if the runtime asks for it, else goes on in `next`. Ends the current block.
    fn poll(&mut self, resume: IntValue<'c>, next: BasicBlock<'c>) {
        let pending = self.state_read(self.ir.cx.i32_type(), offset_of!(CpuState, pending)).into_int_value();
        // The signal's handler writes it behind LLVM's back.
        let load = inkwell::values::BasicValue::as_instruction_value(&pending).expect("a load");
        load.set_volatile(true).expect("a load can be volatile");
        let asked = self.ir.icmp(IntPredicate::NE, pending, self.ir.int(Ty::I32, 0));
        let leave = self.site(SiteKind::Leave { reason: ExitReason::Safepoint, arg: 0, resume }, "safepoint");
        self.ir.cond_br(asked, leave, next, Likely::Never);
    }

    /// Instructions behind a block's end are unreachable; they still need a place.
    fn end(&mut self) {
        self.ended = true;
        let dead = self.ir.block("dead");
        self.ir.at_end(dead);
    }

    pub fn end_jump(&mut self, target: u64) {
        let to = self.edge(target);
        self.ir.br(to);
        self.end();
    }

    pub fn end_branch(&mut self, cond: IntValue<'c>, taken: u64, otherwise: u64) {
        let likely = self.likely(taken, otherwise);
        let taken = self.edge(taken);
        let otherwise = self.edge(otherwise);
        self.ir.cond_br(cond, taken, otherwise, likely);
        self.end();
    }

    /// By the profile: a side inside the region has its block's count, one outside what is left of this block's.
    fn likely(&self, taken: u64, otherwise: u64) -> Likely {
        let own = self.counts[self.index];
        if own == 0 {
            return Likely::Unknown;
        }
        let count = |pc| self.blocks.get(&pc).map(|(i, _)| self.counts[*i].min(own));
        match (count(taken), count(otherwise)) {
            (Some(a), Some(b)) => Likely::Weights(a, b),
            (Some(a), None) => Likely::Weights(a, own - a),
            (None, Some(b)) => Likely::Weights(own - b, b),
            (None, None) => Likely::Unknown,
        }
    }

    // ---- indirect edges, calls and returns ---------------------------------------------------------

    pub fn end_indirect(&mut self, target: Val<'c>, kind: Indirect) {
        let pc = target.int;
        match kind {
            Indirect::Jump => {
                let go = self.site(SiteKind::Indirect(pc), "lookup");
                self.poll(pc, go);
            }
            Indirect::Ret => {
                let go = self.site(SiteKind::Return(pc), "return");
                self.poll(pc, go);
            }
            Indirect::Call { return_to } => {
                self.sync();
                self.check_stack(pc);
                let (code, entry) = self.look_up(pc);
                self.call(code, entry, return_to);
            }
        }
        self.end();
    }

    /// A guest call to a known address.
    pub fn end_call(&mut self, target: u64, return_to: u64) {
        self.sync();
        // Recursion has a backward call somewhere, or an indirect one.
        if target <= self.block_pc {
            self.check_stack(self.ir.i64(target));
        }
        let slot = self.slot_of(target);
        let (code, slot) = self.link(slot);
        self.call(code, slot, return_to);
        self.end();
    }

    /// Calls code as the guest calls, everything being in the CPU state; goes on behind the call if it returns there.
    fn call(&mut self, code: PointerValue<'c>, slot: PointerValue<'c>, return_to: u64) {
        let call = self.block_abi_call(code, slot);
        let returned = self.returned_address(call);
        let same = self.ir.icmp(IntPredicate::EQ, returned, self.ir.i64(return_to));
        let back = match self.blocks.get(&return_to) {
            Some(&(_, block)) => self.site(SiteKind::Reload(block), "back"),
            None => {
                let slot = self.slot_of(return_to);
                self.bare_site(SiteKind::Link(slot), "back")
            }
        };
        let elsewhere = self.bare_site(SiteKind::Indirect(returned), "elsewhere");
        self.ir.cond_br(same, back, elsewhere, Likely::Always);
    }

    /// Leaves for `target` if calls have filled the host's stack. Everything is in the CPU state.
    fn check_stack(&mut self, target: IntValue<'c>) {
        let sp = self.ir.stack_pointer(self.arch);
        let limit = self.state_read(self.ir.cx.i64_type(), offset_of!(CpuState, stack_limit)).into_int_value();
        let full = self.ir.icmp(IntPredicate::ULE, sp, limit);
        let kind = SiteKind::Leave { reason: ExitReason::Continue, arg: 0, resume: target };
        let leave = self.bare_site(kind, "full");
        let next = self.ir.block("");
        self.ir.cond_br(full, leave, next, Likely::Never);
        self.ir.at_end(next);
    }

    // ---- leaving -----------------------------------------------------------------------------------

    pub fn end_leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        let resume = self.ir.i64(resume);
        let exit = self.site(SiteKind::Leave { reason, arg, resume }, "leave");
        self.ir.br(exit);
        self.end();
    }

    pub fn leave_if(&mut self, cond: IntValue<'c>, trap: Trap) {
        let resume = self.ir.i64(self.ip);
        let exit = self.site(SiteKind::Leave { reason: ExitReason::Trap, arg: trap as u32, resume }, "trap");
        let next = self.ir.block("");
        self.ir.cond_br(cond, exit, next, Likely::Never);
        self.ir.at_end(next);
    }

    // ---- helpers -----------------------------------------------------------------------------------

    pub fn helper(&mut self, helper: Helper, args: &[Val<'c>]) -> Val<'c> {
        if helper.is_pure() {
            return self.helper_call(helper, args);
        }
        self.sync();
        self.write_rip(self.ir.i64(self.ip));
        let result = self.helper_call(helper, args);
        let next = self.ir.block("");
        let reload = self.site(SiteKind::Reload(next), "reload");
        self.ir.br(reload);
        self.ir.at_end(next);
        result
    }

    fn helper_call(&mut self, helper: Helper, args: &[Val<'c>]) -> Val<'c> {
        let ptr = self.ir.ptr_type();
        let table = self.state_read(ptr, offset_of!(CpuState, helpers)).into_pointer_value();
        let entry = self.ir.gep(table, self.ir.i64(helper.table_offset() as u64));
        let entry = self.ir.load(ptr, entry).into_pointer_value();
        let word = self.ir.cx.i64_type();
        let mut types = vec![ptr.into()];
        types.resize(args.len() + 1, word.into());
        let mut values: Vec<BasicMetadataValueEnum> = vec![self.state.into()];
        values.extend(args.iter().map(|a| BasicMetadataValueEnum::from(a.int)));
        let call = self
            .ir
            .b
            .build_indirect_call(word.fn_type(&types, false), entry, &values, "")
            .expect("the types are the arguments' own");
        if helper.is_pure() {
            call.add_attribute(inkwell::attributes::AttributeLoc::Function, self.no_memory_attribute());
        }
        call.try_as_basic_value().basic().expect("helpers give a word").into_int_value().into()
    }

    /// `memory(none)`.
    fn no_memory_attribute(&self) -> inkwell::attributes::Attribute {
        let kind = inkwell::attributes::Attribute::get_named_enum_kind_id("memory");
        self.ir.cx.create_enum_attribute(kind, 0)
    }

    // ---- filling in --------------------------------------------------------------------------------

    /// Fills the prologue and all recorded sites, once every block is lifted.
    pub fn finish(&mut self, entry: BasicBlock<'c>) {
        self.ir.at_end(self.prologue);
        self.load_registers();
        self.ir.br(entry);
        let dirty = self.dirty_at_entry();
        for site in core::mem::take(&mut self.sites) {
            let registers = if site.bare { Registers::default() } else { dirty[site.from].union(site.written) };
            self.ir.at_end(site.block);
            self.fill(site.kind, registers);
        }
        self.close_dead_blocks();
    }

    fn fill(&mut self, kind: SiteKind<'c>, registers: Registers) {
        match kind {
            SiteKind::Reload(next) => {
                self.load_registers();
                self.ir.br(next);
            }
            SiteKind::Sync(next) => {
                self.write_back(registers);
                self.ir.br(next);
            }
            SiteKind::Link(n) => {
                self.write_back(registers);
                self.link_exit(n);
            }
            SiteKind::Indirect(pc) => {
                self.write_back(registers);
                self.lookup_exit(pc);
            }
            SiteKind::Return(pc) => {
                self.write_back(registers);
                self.return_address(pc);
            }
            SiteKind::Leave { reason, arg, resume } => {
                self.write_back(registers);
                self.stub_exit(reason, arg, resume);
            }
        }
    }

    /// What may differ from the CPU state at each guest block's entry: all that any path there has written.
    fn dirty_at_entry(&self) -> Vec<Registers> {
        let mut dirty = vec![Registers::default(); self.counts.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for &(from, to) in &self.edges {
                let merged = dirty[to].union(dirty[from]).union(self.block_written[from]);
                changed |= merged != dirty[to];
                dirty[to] = merged;
            }
        }
        dirty
    }

    fn close_dead_blocks(&self) {
        for block in self.ir.function.get_basic_blocks() {
            if block.get_terminator().is_none() {
                self.ir.at_end(block);
                self.ir.b.build_unreachable().expect("positioned");
            }
        }
    }

    /// The code that a link slot leads to, and the slot's address.
    fn link(&self, n: usize) -> (PointerValue<'c>, PointerValue<'c>) {
        let at = self.ir.i64((n * size_of::<LinkSlot>() + offset_of!(LinkSlot, code)) as u64);
        let slot = self.ir.gep(self.slots_global, at);
        let code = self.ir.load(self.ir.ptr_type(), slot).into_pointer_value();
        (code, slot)
    }

    fn link_exit(&self, n: usize) {
        let (code, slot) = self.link(n);
        self.tail_call(code, slot);
    }

    /// Probes the table of indirect branch targets ([`xlate_abi::state::lookup_index`]), else asks the runtime. Gives
    /// the code and a slot's place holder. Everything is in the CPU state.
    fn look_up(&mut self, pc: IntValue<'c>) -> (PointerValue<'c>, PointerValue<'c>) {
        use inkwell::values::InstructionOpcode::{And, LShr, Shl, Xor};
        let ir = &self.ir;
        let ptr = ir.ptr_type();
        let folded = ir.op(Xor, pc, ir.op(LShr, pc, ir.i64(12)));
        let index = ir.op(And, folded, ir.i64(LOOKUP_ENTRIES as u64 - 1));
        let size = size_of::<LookupEntry>().trailing_zeros();
        let offset = ir.op(Shl, index, ir.i64(u64::from(size)));
        let table = self.state_read(ptr, offset_of!(CpuState, lookup)).into_pointer_value();
        let entry = ir.gep(table, offset);
        let key = ir.load(ir.cx.i64_type(), entry).into_int_value();
        let hit = ir.icmp(IntPredicate::EQ, key, pc);
        let (found, missed) = (ir.block("hit"), ir.block("miss"));
        ir.cond_br(hit, found, missed, Likely::Always);
        ir.at_end(missed);
        self.stub_exit(ExitReason::Continue, 0, pc);
        self.ir.at_end(found);
        let code = self.ir.gep(entry, self.ir.i64(offset_of!(LookupEntry, code) as u64));
        (self.ir.load(ptr, code).into_pointer_value(), ptr.get_poison())
    }

    fn lookup_exit(&mut self, pc: IntValue<'c>) {
        let (code, slot) = self.look_up(pc);
        self.tail_call(code, slot);
    }

    fn stub_exit(&self, reason: ExitReason, arg: u32, resume: IntValue<'c>) {
        self.write_rip(resume);
        self.write_exit(reason, arg);
        let ptr = self.ir.ptr_type();
        let stub = self.state_read(ptr, offset_of!(CpuState, exit_stub)).into_pointer_value();
        self.tail_call(stub, ptr.get_poison());
    }

    /// The guest address that called code has returned to.
    fn returned_address(&self, call: CallSiteValue<'c>) -> IntValue<'c> {
        match call.try_as_basic_value().basic().expect("code gives an address") {
            BasicValueEnum::StructValue(all) => self.ir.extract_field(all, all.get_type().count_fields() - 1),
            address => address.into_int_value(),
        }
    }

    /// Returns to the host's caller with a guest address, in the register that the block ABI has it in.
    fn return_address(&self, pc: IntValue<'c>) {
        match self.ir.function.get_type().get_return_type() {
            Some(BasicTypeEnum::StructType(t)) => {
                let all = self.ir.insert_field(t.get_poison(), t.count_fields() - 1, pc);
                self.ir.b.build_return(Some(&all)).expect("positioned");
            }
            _ => {
                self.ir.b.build_return(Some(&pc)).expect("positioned");
            }
        }
    }

    fn block_abi_call(&self, code: PointerValue<'c>, slot: PointerValue<'c>) -> CallSiteValue<'c> {
        let mut args: Vec<BasicMetadataValueEnum> =
            vec![self.ir.cx.i64_type().get_poison().into(); leading_arguments(self.arch)];
        args.extend([self.state, slot].map(BasicMetadataValueEnum::from));
        let call = self.ir.b.build_indirect_call(self.ir.function.get_type(), code, &args, "").expect("positioned");
        call.set_call_convention(PRESERVE_NONE);
        call
    }

    fn tail_call(&self, code: PointerValue<'c>, slot: PointerValue<'c>) {
        let call = self.block_abi_call(code, slot);
        call.set_tail_call_kind(LLVMTailCallKind::LLVMTailCallKindMustTail);
        let returned = call.try_as_basic_value().basic().expect("code gives an address");
        self.ir.b.build_return(Some(&returned)).expect("positioned");
    }
}

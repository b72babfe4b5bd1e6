//! Edges of the region: branches inside, and the ways out of it.
//!
//! What a way out has to write back is known only when the whole region is lifted, so exits and helper calls
//! are recorded as blocks and filled in at the end ([`Llvm::finish`]).

use core::mem::offset_of;

use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, InstructionOpcode, IntValue, PointerValue,
};
use xlate_abi::state::{CpuState, ExitReason, Helper, LOOKUP_ENTRIES, LinkSlot, LookupEntry, PASSED, RETURNED, Trap};
use xlate_x86::emitter::{Indirect, Ty};

use crate::abi;
use crate::emitter::{Llvm, Val};
use crate::ir::Likely;
use crate::perfect::PerfectHash;
use crate::state::Registers;

/// A place where the slots' values have to go to the CPU state, or come from it.
pub struct Site<'c> {
    block: BasicBlock<'c>,
    /// Index of the guest block it belongs to, and what that had written so far.
    from: usize,
    written: Registers,
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
    /// Calls, and goes on at this address if it returns there.
    Call(Callee<'c>, u64),
    /// Writes back and goes on.
    Sync(BasicBlock<'c>),
    /// Loads everything and goes on.
    Reload(BasicBlock<'c>),
}

/// What a guest call calls.
enum Callee<'c> {
    /// The code that the link slot of this index leads to.
    Linked { slot: usize, target: u64, backward: bool },
    /// The code at an address that is looked up.
    Found(IntValue<'c>),
}

/// Code to go to: its address, and that of the slot that led there.
type Code<'c> = (PointerValue<'c>, PointerValue<'c>);

impl<'c> Llvm<'c> {
    fn site(&mut self, kind: SiteKind<'c>, name: &str) -> BasicBlock<'c> {
        let block = self.ir.block(name);
        self.sites.push(Site { block, from: self.index, written: self.written, kind });
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
                let outside = self.site(SiteKind::Indirect(pc), "lookup");
                let go = self.ir.block("indirect");
                self.poll(pc, go);
                self.ir.at_end(go);
                self.jump_inside(pc, outside);
            }
            Indirect::Ret => {
                let go = self.site(SiteKind::Return(pc), "return");
                self.poll(pc, go);
            }
            Indirect::Call { return_to } => self.end_in(SiteKind::Call(Callee::Found(pc), return_to), "call"),
        }
        self.end();
    }

    /// Goes to the block at `pc` if it is one of those in the region that indirect jumps may lead to, else outside: by a
    /// table over a hash that tells them apart.
    fn jump_inside(&mut self, pc: IntValue<'c>, outside: BasicBlock<'c>) {
        let Some(hash) = PerfectHash::of(&self.indirect) else {
            self.ir.br(outside);
            return;
        };
        let cases: Vec<_> = (0..hash.size()).map(|n| (n, self.case_of(pc, hash.key(n), outside))).collect();
        let product = self.ir.op(InstructionOpcode::Mul, pc, self.ir.i64(hash.factor));
        let index = self.ir.op(InstructionOpcode::LShr, product, self.ir.i64(64 - u64::from(hash.bits)));
        self.ir.switch(index, hash.bits, &cases, outside);
    }

    /// The block for one value of the hash.
    fn case_of(&mut self, pc: IntValue<'c>, key: Option<u64>, outside: BasicBlock<'c>) -> BasicBlock<'c> {
        let inside = key.and_then(|key| Some((key, *self.blocks.get(&key)?)));
        let Some((key, (index, block))) = inside else { return outside };
        self.edges.push((self.index, index));
        let here = self.ir.here();
        let case = self.ir.block("case");
        self.ir.at_end(case);
        let same = self.ir.icmp(IntPredicate::EQ, pc, self.ir.i64(key));
        self.ir.cond_br(same, block, outside, Likely::Always);
        self.ir.at_end(here);
        case
    }

    /// A guest call to a known address.
    pub fn end_call(&mut self, target: u64, return_to: u64) {
        let callee = Callee::Linked { slot: self.slot_of(target), target, backward: target <= self.block_pc };
        self.end_in(SiteKind::Call(callee, return_to), "call");
        self.end();
    }

    fn end_in(&mut self, kind: SiteKind<'c>, name: &str) {
        let site = self.site(kind, name);
        self.ir.br(site);
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
        self.load_registers(&self.passed_values());
        self.ir.br(entry);
        let dirty = self.dirty_at_entry();
        for site in core::mem::take(&mut self.sites) {
            let registers = dirty[site.from].union(site.written);
            self.ir.at_end(site.block);
            // A reload follows something that has changed the state.
            if !matches!(site.kind, SiteKind::Reload(_)) {
                self.write_back(registers);
            }
            self.fill(site.kind, registers);
        }
        self.close_dead_blocks();
    }

    /// Ends the current block; `dirty` registers have just been written to the CPU state.
    fn fill(&mut self, kind: SiteKind<'c>, dirty: Registers) {
        match kind {
            SiteKind::Reload(next) => {
                self.load_registers(&[]);
                self.ir.br(next);
            }
            SiteKind::Sync(next) => self.ir.br(next),
            SiteKind::Link(n) => {
                let code = self.link(n);
                self.tail_call(code, dirty);
            }
            SiteKind::Indirect(pc) => {
                let code = self.look_up(pc, ExitReason::Continue);
                self.tail_call(code, dirty);
            }
            SiteKind::Call(callee, return_to) => self.fill_call(callee, return_to, dirty),
            SiteKind::Return(pc) => self.fill_return(pc, dirty),
            SiteKind::Leave { reason, arg, resume } => self.stub_exit(reason, arg, resume),
        }
    }

    fn fill_return(&self, pc: IntValue<'c>, dirty: Registers) {
        let registers = RETURNED.map(|r| self.current(r, dirty));
        let unused = vec![self.ir.cx.i64_type().get_poison(); abi::result_index(self.arch)];
        let values: Vec<_> = unused.into_iter().chain([pc]).chain(registers).map(BasicValueEnum::from).collect();
        self.ir.b.build_aggregate_return(&values).expect("positioned");
    }

    fn fill_call(&mut self, callee: Callee<'c>, return_to: u64, dirty: Registers) {
        let code = match callee {
            Callee::Linked { slot, target, backward } => {
                // Recursion has a backward call somewhere, or an indirect one.
                if backward {
                    self.check_stack(self.ir.i64(target));
                }
                self.link(slot)
            }
            Callee::Found(pc) => {
                self.check_stack(pc);
                self.look_up(pc, ExitReason::Crossed)
            }
        };
        let call = self.block_abi_call(code, dirty);
        let result = call.try_as_basic_value().basic().expect("code gives an address").into_struct_value();
        let part = |n: usize| {
            let at = (abi::result_index(self.arch) + n) as u32;
            let part = self.ir.b.build_extract_value(result, at, "").expect("the address and two registers");
            part.into_int_value()
        };
        let returned = part(0);
        let registers: Vec<_> = RETURNED.iter().enumerate().map(|(n, r)| (*r, part(n + 1))).collect();
        let same = self.ir.icmp(IntPredicate::EQ, returned, self.ir.i64(return_to));
        let (back, elsewhere) = (self.ir.block("back"), self.ir.block("elsewhere"));
        self.ir.cond_br(same, back, elsewhere, Likely::Always);
        self.ir.at_end(elsewhere);
        let code = self.look_up(returned, ExitReason::Crossed);
        self.tail_call(code, Registers::default());
        self.ir.at_end(back);
        match self.blocks.get(&return_to) {
            Some(&(_, block)) => {
                self.load_registers(&registers);
                self.ir.br(block);
            }
            None => {
                let slot = self.slot_of(return_to);
                self.tail_call(self.link(slot), Registers::default());
            }
        }
    }

    /// Leaves for `target` if calls have filled the host's stack. Everything is in the CPU state.
    fn check_stack(&self, target: IntValue<'c>) {
        let sp = self.ir.stack_pointer(self.arch);
        let limit = self.state_read(self.ir.cx.i64_type(), offset_of!(CpuState, stack_limit)).into_int_value();
        let full = self.ir.icmp(IntPredicate::ULE, sp, limit);
        let (leave, next) = (self.ir.block("full"), self.ir.block(""));
        self.ir.cond_br(full, leave, next, Likely::Never);
        self.ir.at_end(leave);
        self.stub_exit(ExitReason::Continue, 0, target);
        self.ir.at_end(next);
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

    fn link(&self, n: usize) -> Code<'c> {
        let at = self.ir.i64((n * size_of::<LinkSlot>() + offset_of!(LinkSlot, code)) as u64);
        let slot = self.ir.gep(self.slots_global, at);
        let code = self.ir.load(self.ir.ptr_type(), slot).into_pointer_value();
        (code, slot)
    }

    /// Probes the table of indirect branch targets ([`xlate_abi::state::lookup_index`]), else asks the runtime, with this
    /// reason. Everything is in the CPU state.
    fn look_up(&self, pc: IntValue<'c>, missed_for: ExitReason) -> Code<'c> {
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
        self.stub_exit(missed_for, 0, pc);
        ir.at_end(found);
        let code = ir.gep(entry, ir.i64(offset_of!(LookupEntry, passed) as u64));
        (ir.load(ptr, code).into_pointer_value(), ptr.get_poison())
    }

    fn stub_exit(&self, reason: ExitReason, arg: u32, resume: IntValue<'c>) {
        self.write_rip(resume);
        self.write_exit(reason, arg);
        let ptr = self.ir.ptr_type();
        let stub = self.state_read(ptr, offset_of!(CpuState, exit_stub)).into_pointer_value();
        let word = self.ir.cx.i64_type();
        self.ir.tail_call(stub, &self.arguments(ptr.get_poison(), [word.get_poison(); PASSED.len()]));
    }

    fn tail_call(&self, (code, slot): Code<'c>, dirty: Registers) {
        let registers = PASSED.map(|r| self.current(r, dirty));
        self.ir.tail_call(code, &self.arguments(slot, registers));
    }

    fn block_abi_call(&self, (code, slot): Code<'c>, dirty: Registers) -> CallSiteValue<'c> {
        let registers = PASSED.map(|r| self.current(r, dirty));
        self.ir.call(code, &self.arguments(slot, registers))
    }

    fn arguments(
        &self,
        slot: PointerValue<'c>,
        registers: [IntValue<'c>; PASSED.len()],
    ) -> Vec<BasicMetadataValueEnum<'c>> {
        abi::arguments(&self.ir, self.arch, self.state, slot, registers)
    }

    /// Guest registers that were passed to this function, by number.
    fn passed_values(&self) -> Vec<(usize, IntValue<'c>)> {
        let parameter = |n: usize| {
            let at = abi::passed_index(self.arch, n) as u32;
            self.ir.function.get_nth_param(at).expect("declared").into_int_value()
        };
        PASSED.iter().enumerate().map(|(n, r)| (*r, parameter(n))).collect()
    }
}

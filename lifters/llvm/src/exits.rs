//! Edges of the region: branches inside, and the ways out of it.
//!
//! What a way out has to write back is known only when the whole region is lifted, so exits and helper calls
//! are recorded as blocks and filled in at the end ([`Llvm::finish`]).

use core::mem::offset_of;
use std::collections::HashMap;

use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, InstructionOpcode, IntValue, PointerValue,
};
use xlate_abi::state::{CpuState, ExitReason, Helper, LOOKUP_ENTRIES, LinkSlot, LookupEntry, PASSED, RETURNED};
use xlate_x86::decode::Flags;
use xlate_x86::emitter::{Indirect, Ty};
use xlate_x86::lifter::STATUS;

use crate::abi;
use crate::emitter::{Llvm, Val};
use crate::ir::Likely;
use crate::perfect::{Mix, PerfectHash};
use crate::state::Registers;
use crate::{Call, Frames, KnownTable};

/// A place where the slots' values have to go to the CPU state, or come from it.
pub struct Site<'c> {
    block: BasicBlock<'c>,
    /// Index of the guest block it belongs to, and what that had written so far.
    from: usize,
    /// The frame that is left.
    frame: usize,
    written: Registers,
    /// What anything behind may read.
    needed: Registers,
    kind: SiteKind<'c>,
}

enum SiteKind<'c> {
    /// Leaves through the link slot of this index; backwards with a safepoint.
    Link { slot: usize, backward: bool },
    /// Leaves to an address that is looked up, with a safepoint.
    Indirect(IntValue<'c>),
    /// Returns to the host's caller with the guest's return address, with a safepoint.
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

impl SiteKind<'_> {
    /// Whether it is the end of its guest block.
    fn ends_block(&self) -> bool {
        matches!(self, Self::Link { .. } | Self::Indirect(_) | Self::Return(_) | Self::Call(..))
    }
}

/// What a guest call calls.
enum Callee<'c> {
    /// The code that the link slot of this index leads to.
    Linked { slot: usize, backward: bool },
    /// The code at an address that is looked up.
    Found(IntValue<'c>),
}

/// How an indirect jump finds its way inside the region.
#[derive(Clone, Debug)]
pub enum Dispatch<'c> {
    /// By comparing its target with those that are likely.
    Compared,
    /// By the index of the entry that it reads from a table whose content is known; the index is at hand from there on.
    Table { table: KnownTable, index: Option<IntValue<'c>> },
    /// Not at all: it leads outside.
    Outside,
}

/// What a region does rarely, in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shared {
    /// Goes on where a return led that isn't behind its call.
    Elsewhere,
    /// Leaves because calls have filled the host's stack.
    Full,
    /// Leaves because the runtime asks for it.
    Safepoint,
}

/// Most probable targets that are compared with one after the other.
const MOST_COMPARED: usize = 3;

/// Code to go to: its address, and that of the slot that led there.
type Code<'c> = (PointerValue<'c>, PointerValue<'c>);

impl<'c> Llvm<'c> {
    fn site(&mut self, kind: SiteKind<'c>, name: &str) -> BasicBlock<'c> {
        self.site_in(self.frame, kind, name)
    }

    fn site_in(&mut self, frame: usize, kind: SiteKind<'c>, name: &str) -> BasicBlock<'c> {
        assert!(self.unmended.is_none(), "the instruction at {:#x} can't be in a stretch", self.ip);
        let block = self.ir.block(name);
        let needed = match kind {
            // No helper looks at the status flags.
            SiteKind::Sync(_) => Registers::WITHOUT_STATUS,
            _ if kind.ends_block() => self.needed_behind,
            _ => Registers::ALL,
        };
        self.sites.push(Site { block, from: self.index, frame, written: self.written, needed, kind });
        block
    }

    /// The guest block at an address in a frame, where the region has it: its index and first block.
    fn inside(&self, frame: usize, pc: u64) -> Option<(usize, BasicBlock<'c>)> {
        let index = self.places.from(self.index, frame, pc)?;
        Some((index, self.starts[index]))
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
        self.edge_into(self.frame, target)
    }

    /// The same in another frame, as behind a call or a return. Every loop has a way back in one frame; there its
    /// safepoint is.
    fn edge_into(&mut self, frame: usize, target: u64) -> BasicBlock<'c> {
        let backward = frame == self.frame && target <= self.block_pc;
        match self.inside(frame, target) {
            // Float operations must not be moved across a change of their mode, which ends its block.
            Some((index, block)) if !self.changes_mode => {
                self.edges.push((self.index, index));
                if backward { self.polled(index, target, block) } else { block }
            }
            _ => {
                let slot = self.slot_of(target);
                self.site_in(frame, SiteKind::Link { slot, backward }, "exit")
            }
        }
    }

    /// The safepoint before a guest block of the region that loops come back to.
    fn polled(&mut self, index: usize, pc: u64, block: BasicBlock<'c>) -> BasicBlock<'c> {
        if let Some(poll) = self.polls.get(&index) {
            return *poll;
        }
        let here = self.ir.here();
        let (poll, leave) = (self.ir.block("poll"), self.ir.block("safepoint"));
        self.polls.insert(index, poll);
        self.ir.at_end(poll);
        self.poll(leave, block);
        // All that any way to the block has written, and something there may read.
        let kind = SiteKind::Leave { reason: ExitReason::Safepoint, arg: 0, resume: self.ir.i64(pc) };
        let (written, needed) = (Registers::default(), Registers::with_flags(self.live_at[index]));
        self.sites.push(Site { block: leave, from: index, frame: self.frame, written, needed, kind });
        self.ir.at_end(here);
        poll
    }

    fn slot_of(&mut self, target: u64) -> usize {
        if let Some(n) = self.link_slots.iter().position(|pc| *pc == target) {
            return n;
        }
        self.link_slots.push(target);
        self.link_slots.len() - 1
    }

    /// Ends the current block: in `leave` if the runtime asks for a safepoint, else in `next`.
    fn poll(&self, leave: BasicBlock<'c>, next: BasicBlock<'c>) {
        let pending = self.state_read(self.ir.cx.i32_type(), offset_of!(CpuState, pending)).into_int_value();
        // The signal's handler writes it behind LLVM's back.
        let load = inkwell::values::BasicValue::as_instruction_value(&pending).expect("a load");
        load.set_volatile(true).expect("a load can be volatile");
        let asked = self.ir.icmp(IntPredicate::NE, pending, self.ir.int(Ty::I32, 0));
        self.ir.cond_br(asked, leave, next, Likely::Never);
    }

    /// A safepoint on the way out to `resume`; everything is in the CPU state.
    fn poll_outside(&mut self, resume: IntValue<'c>) {
        let (leave, next) = (self.shared(Shared::Safepoint, resume), self.ir.block(""));
        self.poll(leave, next);
        self.ir.at_end(next);
    }

    /// A safepoint inside a guest block, before the instruction at `resume`.
    pub fn poll_inside(&mut self, resume: u64) {
        let kind = SiteKind::Leave { reason: ExitReason::Safepoint, arg: 0, resume: self.ir.i64(resume) };
        let (leave, next) = (self.site(kind, "changed"), self.ir.block(""));
        self.poll(leave, next);
        self.ir.at_end(next);
    }

    /// Instructions behind a block's end are unreachable; they still need a place.
    fn end(&mut self) {
        self.ended = true;
        let dead = self.ir.block("dead");
        self.ir.at_end(dead);
    }

    pub fn end_jump(&mut self, target: u64) {
        self.settle_single_flags(self.live_behind);
        let to = self.edge(target);
        self.ir.br(to);
        self.end();
    }

    pub fn end_branch(&mut self, cond: IntValue<'c>, taken: u64, otherwise: u64) {
        self.settle_single_flags(self.live_behind);
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
        let count = |pc| self.inside(self.frame, pc).map(|(i, _)| self.counts[i].min(own));
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
        self.settle_single_flags(self.live_behind);
        match kind {
            Indirect::Jump => {
                let outside = self.site(SiteKind::Indirect(pc), "lookup");
                match core::mem::replace(&mut self.dispatch, Dispatch::Compared) {
                    Dispatch::Table { table, index: Some(index) } => self.go_by_table(&table, index, outside),
                    Dispatch::Outside => self.ir.br(outside),
                    _ => self.go_inside(pc, self.frame, outside),
                }
            }
            Indirect::Ret => self.end_return(pc),
            Indirect::Call { return_to } => {
                let outside = self.site(SiteKind::Call(Callee::Found(pc), return_to), "call");
                match self.frames.callee(self.frame, return_to) {
                    Some(frame) => self.go_inside(pc, frame, outside),
                    None => self.ir.br(outside),
                }
            }
        }
        self.end();
    }

    /// Goes to the block at `pc` in a frame if it is one of those that this guest block's end probably leads to, else
    /// outside: by comparison with each, or by a table over a hash that tells them apart. Backwards with a safepoint.
    fn go_inside(&mut self, pc: IntValue<'c>, frame: usize, outside: BasicBlock<'c>) {
        let likely = self.indirect.get(&self.block_pc).cloned().unwrap_or_default();
        let likely: Vec<u64> = likely.into_iter().filter(|pc| self.inside(frame, *pc).is_some()).collect();
        if frame == self.frame && likely.iter().any(|pc| *pc <= self.block_pc) {
            let go = self.ir.block("indirect");
            let leave = SiteKind::Leave { reason: ExitReason::Safepoint, arg: 0, resume: pc };
            let leave = self.site(leave, "safepoint");
            self.poll(leave, go);
            self.ir.at_end(go);
        }
        if likely.len() <= MOST_COMPARED {
            let last = likely.iter().rev().fold(outside, |otherwise, key| self.case_of(pc, *key, frame, otherwise));
            self.ir.br(last);
            return;
        }
        let Some(hash) = PerfectHash::of(&likely) else {
            self.ir.br(outside);
            return;
        };
        let case = |e: &mut Self, n| hash.key(n).map_or(outside, |key| e.case_of(pc, key, frame, outside));
        let cases: Vec<_> = (0..hash.size()).map(|n| (n, case(self, n))).collect();
        let (mixed, low) = match hash.mix {
            Mix::Shift(low) => (pc, u64::from(low)),
            Mix::Product(factor) => {
                (self.ir.op(InstructionOpcode::Mul, pc, self.ir.i64(factor)), 64 - u64::from(hash.bits))
            }
        };
        let index = self.ir.op(InstructionOpcode::LShr, mixed, self.ir.i64(low));
        // Every value has its case, which spares a comparison with the last one.
        let never = self.ir.block("never");
        self.ir.switch(index, hash.bits, &cases, never);
    }

    /// Branches on whether a general-purpose register holds this, and goes on where it doesn't; gives the block where it
    /// does.
    pub fn branch_on_base(&mut self, register: usize, expected: u64) -> BasicBlock<'c> {
        let holds = self.read_gpr(register).int;
        let same = self.ir.icmp(IntPredicate::EQ, holds, self.ir.i64(expected));
        let (yes, no) = (self.ir.block("table"), self.ir.block("elsewhere"));
        self.ir.cond_br(same, yes, no, Likely::Always);
        self.ir.at_end(no);
        yes
    }

    /// Keeps the index of a table's entry if the instruction at hand is the one that reads it.
    pub fn look_for_table_index(&mut self) {
        let Dispatch::Table { table, .. } = &self.dispatch else { return };
        if table.jump.read_at != self.ip {
            return;
        }
        let at_hand = self.read_gpr(table.jump.index).int;
        if let Dispatch::Table { index, .. } = &mut self.dispatch {
            *index = Some(at_hand);
        }
    }

    /// Goes where the entry of a known table leads, if the region has that, else outside. Neither the guest's table nor the
    /// target is looked at on the ways inside.
    fn go_by_table(&mut self, table: &KnownTable, index: IntValue<'c>, outside: BasicBlock<'c>) {
        let mut ways = HashMap::new();
        let cases: Vec<_> = (0..)
            .zip(&table.targets)
            .map(|(n, target)| {
                let way = *ways.entry(*target).or_insert_with(|| self.way_of_entry(table, *target).unwrap_or(outside));
                (n, way)
            })
            .collect();
        self.ir.switch(index, u64::BITS, &cases, outside);
    }

    /// A block that goes to the guest block at `target` with that address in the registers that hold it.
    fn way_of_entry(&mut self, table: &KnownTable, target: u64) -> Option<BasicBlock<'c>> {
        self.inside(self.frame, target)?;
        let (here, way) = (self.ir.here(), self.ir.block("entry"));
        self.ir.at_end(way);
        for n in (0..16).filter(|n| table.jump.holds >> n & 1 != 0) {
            self.write_gpr(n, self.ir.i64(target).into());
        }
        let to = self.edge(target);
        self.ir.br(to);
        self.ir.at_end(here);
        Some(way)
    }

    /// A block that goes to the guest block at `key` if that is `pc`, else elsewhere.
    fn case_of(&mut self, pc: IntValue<'c>, key: u64, frame: usize, otherwise: BasicBlock<'c>) -> BasicBlock<'c> {
        let Some((index, block)) = self.inside(frame, key) else { return otherwise };
        self.edges.push((self.index, index));
        let here = self.ir.here();
        let case = self.ir.block("case");
        self.ir.at_end(case);
        let same = self.ir.icmp(IntPredicate::EQ, pc, self.ir.i64(key));
        self.ir.cond_br(same, block, otherwise, Likely::Always);
        self.ir.at_end(here);
        case
    }

    /// A guest return: from a call that is followed, to the block behind it; else to the host's caller.
    fn end_return(&mut self, pc: IntValue<'c>) {
        let outside = self.site(SiteKind::Return(pc), "return");
        let Some(call) = self.frames.call(self.frame) else {
            self.ir.br(outside);
            return;
        };
        let same = self.ir.icmp(IntPredicate::EQ, pc, self.ir.i64(call.return_to));
        let back = self.edge_into(call.caller, call.return_to);
        self.ir.cond_br(same, back, outside, Likely::Always);
    }

    /// A guest call to a known address.
    pub fn end_call(&mut self, target: u64, return_to: u64) {
        self.settle_single_flags(self.live_behind);
        let followed = self.frames.callee(self.frame, return_to).filter(|f| self.inside(*f, target).is_some());
        match followed {
            Some(frame) => {
                let callee = self.edge_into(frame, target);
                self.ir.br(callee);
            }
            None => {
                let callee = Callee::Linked { slot: self.slot_of(target), backward: target <= self.block_pc };
                self.end_in(SiteKind::Call(callee, return_to), "call");
            }
        }
        self.end();
    }

    fn end_in(&mut self, kind: SiteKind<'c>, name: &str) {
        let site = self.site(kind, name);
        self.ir.br(site);
    }

    // ---- leaving -----------------------------------------------------------------------------------

    pub fn end_leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        self.settle_single_flags(self.live_behind);
        let resume = self.ir.i64(resume);
        let exit = self.site(SiteKind::Leave { reason, arg, resume }, "leave");
        self.ir.br(exit);
        self.end();
    }

    /// Leaves if the condition holds, with the state as it is here and `rip` at `resume`.
    pub fn leave_if(&mut self, cond: IntValue<'c>, reason: ExitReason, arg: u32, resume: u64) {
        let exit = match &self.unmended {
            // Where the registers are right, it leaves.
            Some(unmended) => unmended.redo,
            None => {
                self.settle_single_flags(STATUS);
                let resume = self.ir.i64(resume);
                self.site(SiteKind::Leave { reason, arg, resume }, "leave")
            }
        };
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

    pub fn helper_call(&mut self, helper: Helper, args: &[Val<'c>]) -> Val<'c> {
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
        if helper.is_pure() && !helper.raises_flags() && !helper.has_effects() {
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
    pub fn finish(&mut self, entry: usize) {
        // From no block of the guest's.
        self.index = usize::MAX;
        self.read_from = self.flags_read_from();
        self.ir.at_end(self.prologue);
        self.load_all(&self.passed_values(), self.read_from[entry]);
        self.ir.br(self.starts[entry]);
        let dirty = self.dirty_at_entry();
        for site in core::mem::take(&mut self.sites) {
            let registers = dirty[site.from].union(site.written).intersection(site.needed);
            self.ir.at_end(site.block);
            // A reload follows something that has changed the state.
            if !matches!(site.kind, SiteKind::Reload(_)) {
                self.write_back(registers);
            }
            self.fill(site.kind, registers, site.frame);
        }
        self.close_dead_blocks();
    }

    /// Ends the current block; `dirty` registers have just been written to the CPU state.
    fn fill(&mut self, kind: SiteKind<'c>, dirty: Registers, frame: usize) {
        match kind {
            SiteKind::Reload(next) => {
                self.load_registers(&[]);
                self.ir.br(next);
            }
            SiteKind::Sync(next) => self.ir.br(next),
            SiteKind::Link { slot, backward } => {
                if backward {
                    self.poll_outside(self.ir.i64(self.link_slots[slot]));
                }
                self.leave_by_link(slot, dirty, frame);
            }
            SiteKind::Indirect(pc) => {
                self.poll_outside(pc);
                self.check_stack_in(frame, pc);
                let code = self.look_up(pc);
                self.leave_for(code, dirty, frame);
            }
            SiteKind::Call(callee, return_to) => {
                let code = self.callee(callee);
                self.call_and_return(code, dirty, Call { caller: frame, return_to });
            }
            SiteKind::Return(pc) => {
                self.poll_outside(pc);
                self.fill_return(pc, dirty);
            }
            SiteKind::Leave { reason, arg, resume } => self.stub_exit(reason, arg, resume),
        }
    }

    /// Leaves a frame for other code: by a jump from the region's own, by a call from one that has none on the host's
    /// stack yet.
    fn leave_for(&mut self, code: Code<'c>, dirty: Registers, frame: usize) {
        match self.frames.call(frame) {
            None => self.tail_call(code, dirty),
            Some(call) => {
                let (returned, _) = self.call_code(code, dirty);
                let landing = self.landing(call);
                self.go_if_returned(returned, call.return_to, landing);
            }
        }
    }

    fn leave_by_link(&mut self, slot: usize, dirty: Registers, frame: usize) {
        self.check_stack_in(frame, self.ir.i64(self.link_slots[slot]));
        let code = self.link(slot);
        self.leave_for(code, dirty, frame);
    }

    /// [`Self::check_stack`] where leaving the frame takes a call.
    fn check_stack_in(&mut self, frame: usize, target: IntValue<'c>) {
        if frame != Frames::OWN {
            self.check_stack(target);
        }
    }

    fn fill_return(&self, pc: IntValue<'c>, dirty: Registers) {
        let registers = RETURNED.map(|r| self.current(r, dirty));
        let unused = vec![self.ir.cx.i64_type().get_poison(); abi::result_index(self.arch)];
        let values: Vec<_> = unused.into_iter().chain([pc]).chain(registers).map(BasicValueEnum::from).collect();
        self.ir.b.build_aggregate_return(&values).expect("positioned");
    }

    /// The code that a call goes to.
    fn callee(&mut self, callee: Callee<'c>) -> Code<'c> {
        match callee {
            Callee::Linked { slot, backward } => {
                // Recursion has a backward call somewhere, or an indirect one.
                if backward {
                    self.check_stack(self.ir.i64(self.link_slots[slot]));
                }
                self.link(slot)
            }
            Callee::Found(pc) => {
                self.check_stack(pc);
                self.look_up(pc)
            }
        }
    }

    /// Calls code by a call of the host's, and goes on behind the guest's call.
    fn call_and_return(&mut self, code: Code<'c>, dirty: Registers, call: Call) {
        let (returned, registers) = self.call_code(code, dirty);
        let Some((index, block)) = self.inside(call.caller, call.return_to) else {
            let landing = self.landing(call);
            self.go_if_returned(returned, call.return_to, landing);
            return;
        };
        let back = self.ir.block("back");
        self.go_if_returned(returned, call.return_to, back);
        self.ir.at_end(back);
        self.load_all(&registers, self.read_from[index]);
        self.ir.br(block);
    }

    /// Calls code; gives where the guest returned to, and the registers that came along.
    fn call_code(&mut self, code: Code<'c>, dirty: Registers) -> (IntValue<'c>, Vec<(usize, IntValue<'c>)>) {
        let result = self.block_abi_call(code, dirty).try_as_basic_value().basic();
        let result = result.expect("code gives an address").into_struct_value();
        let part = |n: usize| {
            let at = (abi::result_index(self.arch) + n) as u32;
            let part = self.ir.b.build_extract_value(result, at, "").expect("the address and two registers");
            part.into_int_value()
        };
        (part(0), RETURNED.iter().enumerate().map(|(n, r)| (*r, part(n + 1))).collect())
    }

    /// Ends the current block behind a call of the host's: in `back` if the guest returned to behind its call, else with
    /// a jump to where it did.
    fn go_if_returned(&mut self, returned: IntValue<'c>, return_to: u64, back: BasicBlock<'c>) {
        let same = self.ir.icmp(IntPredicate::EQ, returned, self.ir.i64(return_to));
        let elsewhere = self.shared(Shared::Elsewhere, returned);
        self.ir.cond_br(same, back, elsewhere, Likely::Always);
    }

    /// The block that does something rare for the whole region; the address it is about goes there through a slot.
    fn shared(&mut self, what: Shared, address: IntValue<'c>) -> BasicBlock<'c> {
        let (slot, block) = match self.shared_blocks.get(&what) {
            Some(known) => *known,
            None => self.make_shared(what),
        };
        self.ir.store(slot, address);
        block
    }

    fn make_shared(&mut self, what: Shared) -> (PointerValue<'c>, BasicBlock<'c>) {
        let here = self.ir.here();
        let (slot, block) = (self.alloca(self.ir.cx.i64_type().into()), self.ir.block("shared"));
        self.shared_blocks.insert(what, (slot, block));
        self.ir.at_end(block);
        let address = self.ir.load(self.ir.cx.i64_type(), slot).into_int_value();
        match what {
            Shared::Elsewhere => {
                let code = self.look_up(address);
                self.tail_call(code, Registers::default());
            }
            Shared::Full => self.stub_exit(ExitReason::Continue, 0, address),
            Shared::Safepoint => self.stub_exit(ExitReason::Safepoint, 0, address),
        }
        self.ir.at_end(here);
        (slot, block)
    }

    /// Where control comes back to the frame's caller from code that the frame has left for: everything is in the CPU state.
    fn landing(&mut self, call: Call) -> BasicBlock<'c> {
        if let Some(block) = self.landings.get(&call) {
            return *block;
        }
        let here = self.ir.here();
        let landing = self.ir.block("landing");
        self.landings.insert(call, landing);
        self.ir.at_end(landing);
        match self.inside(call.caller, call.return_to) {
            Some((index, block)) => {
                self.load_all(&[], self.read_from[index]);
                self.ir.br(block);
            }
            None => {
                let slot = self.slot_of(call.return_to);
                self.leave_by_link(slot, Registers::default(), call.caller);
            }
        }
        self.ir.at_end(here);
        landing
    }

    /// Leaves for `target` if calls have filled the host's stack. Everything is in the CPU state.
    fn check_stack(&mut self, target: IntValue<'c>) {
        let sp = self.ir.stack_pointer(self.arch);
        let limit = self.state_read(self.ir.cx.i64_type(), offset_of!(CpuState, stack_limit)).into_int_value();
        let full = self.ir.icmp(IntPredicate::ULE, sp, limit);
        let (leave, next) = (self.shared(Shared::Full, target), self.ir.block(""));
        self.ir.cond_br(full, leave, next, Likely::Never);
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

    /// The status flags that are read of the slots from each guest block's entry on.
    fn flags_read_from(&self) -> Vec<Flags> {
        let mut read: Vec<Flags> = self.consumed.iter().zip(&self.live_at).map(|(read, live)| read & live).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for &(from, to) in self.edges.iter().rev() {
                let merged = read[from] | read[to] & self.passed_on[from];
                changed |= merged != read[from];
                read[from] = merged;
            }
        }
        read
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

    /// Probes the table of indirect branch targets ([`xlate_abi::state::lookup_index`]); where it hasn't this one, the code is
    /// what looks further, and asks the runtime in the end. Everything is in the CPU state.
    fn look_up(&self, pc: IntValue<'c>) -> Code<'c> {
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
        let (found, missed, join) = (ir.block("hit"), ir.block("miss"), ir.block(""));
        ir.cond_br(hit, found, missed, Likely::Always);
        ir.at_end(missed);
        self.write_rip(pc);
        self.write_exit(ExitReason::Continue, 0);
        let further = self.state_read(ptr, offset_of!(CpuState, missed_stub)).into_pointer_value();
        ir.br(join);
        ir.at_end(found);
        let code = ir.load(ptr, ir.gep(entry, ir.i64(offset_of!(LookupEntry, passed) as u64))).into_pointer_value();
        ir.br(join);
        ir.at_end(join);
        let phi = ir.b.build_phi(ptr, "").expect("positioned");
        phi.add_incoming(&[(&code, found), (&further, missed)]);
        (phi.as_basic_value().into_pointer_value(), ptr.get_poison())
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

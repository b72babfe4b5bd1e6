//! The functions of a region: its code, with guest registers passed to it, and the entry for those who don't pass them
//! ([`crate::abi`]).

use core::mem::offset_of;
use std::collections::HashMap;

use iced_x86::{FlowControl, Instruction, OpKind, Register};
use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::values::GlobalValue;
use inkwell::{AddressSpace, GlobalVisibility};
use xlate_abi::protocol::{Arch, CodeOptions, Target};
use xlate_abi::state::{CpuState, PASSED, RSP};
use xlate_x86::decode::{ALL_FLAGS, Flags, Insn, calls_directly, falls_through, flags_killed};
use xlate_x86::effects::Lanes;
use xlate_x86::lifter::STATUS;
use xlate_x86::vector::rounds_statically;
use xlate_x86::{Block, BlockEnd, Effects};

use crate::abi;
use crate::emitter::{Llvm, Scopes};
use crate::exits::Dispatch;
use crate::ir::Ir;
use crate::state::{Facets, Registers, Slots};
use crate::{CompileError, Frames, KnownTable, Places, Region, RegionBlock, stretch};

/// Names in the object file.
pub const FUNCTION: &str = "region";
pub const ENTRY: &str = "entry";
pub const SLOTS: &str = "link_slots";

/// A region's module and the guest addresses of its link slots.
pub struct Built<'c> {
    pub module: Module<'c>,
    pub slots: Vec<u64>,
}

/// Lifts the region.
pub fn build<'c>(
    cx: &'c Context,
    region: &Region,
    target: &Target,
    options: CodeOptions,
) -> Result<Built<'c>, CompileError> {
    build_with(cx, region, facets(region, target.arch), target, options, stretch::lift)
}

/// The same with a free choice of what is emitted for each block.
pub fn build_with<'c>(
    cx: &'c Context,
    region: &Region,
    facets: Facets,
    target: &Target,
    options: CodeOptions,
    lift: impl Fn(&mut Llvm<'c>, &Block),
) -> Result<Built<'c>, CompileError> {
    let mut e = emitter(cx, region, facets, target, options);
    e.places = Places::of(&region.blocks)?;
    e.starts = region.blocks.iter().map(|_| e.ir.block("guest")).collect();
    let entry = e.places.shared(Frames::OWN, region.entry).ok_or(CompileError::NoEntry(region.entry))?;
    for (index, b) in region.blocks.iter().enumerate() {
        begin(&mut e, index, b);
        match &b.table {
            Some(table) => lift_with_table(&mut e, &b.block, table, &lift),
            None => lift_as(&mut e, &b.block, Dispatch::Compared, &lift),
        }
        e.block_written.push(e.written);
    }
    e.finish(entry);
    build_entry(cx, &e, target.arch);
    e.ir.module.verify().map_err(|m| CompileError::InvalidIr { entry: region.entry, message: m.to_string() })?;
    Ok(Built { module: e.ir.module, slots: e.link_slots })
}

/// Lifts a block that jumps through a known table. Where the table's place depends on a register there is another
/// version for the case that it is elsewhere: one alone would have two ways out of the region, and what only
/// these need (the target, flags) would be computed always.
fn lift_with_table<'c>(e: &mut Llvm<'c>, block: &Block, table: &KnownTable, lift: &impl Fn(&mut Llvm<'c>, &Block)) {
    if let Some(base) = table.jump.base() {
        let expected = e.branch_on_base(base, table.base);
        lift_as(e, block, Dispatch::Outside, lift);
        e.ir.at_end(expected);
    }
    lift_as(e, block, Dispatch::Table { table: table.clone(), index: None }, lift);
}

fn lift_as<'c>(e: &mut Llvm<'c>, block: &Block, dispatch: Dispatch<'c>, lift: &impl Fn(&mut Llvm<'c>, &Block)) {
    e.ip = block.pc;
    e.written = Registers::default();
    e.ended = false;
    e.singly = false;
    e.single = STATUS;
    e.dispatch = dispatch;
    lift(e, block);
    assert!(e.ended, "the block at {:#x} has an end", block.pc);
}

/// The function for callers that haven't the passed registers at hand: it loads them.
fn build_entry<'c>(cx: &'c Context, e: &Llvm<'c>, arch: Arch) {
    let function = abi::declare(cx, &e.ir.module, arch, ENTRY);
    let state = abi::state(function, arch);
    let slot = cx.ptr_type(AddressSpace::default()).get_poison();
    e.ir.at_end(cx.append_basic_block(function, "entry"));
    let registers = PASSED.map(|r| {
        let field = e.ir.gep(state, e.ir.i64((offset_of!(CpuState, gpr) + 8 * r) as u64));
        e.ir.load(cx.i64_type(), field).into_int_value()
    });
    let region = e.ir.function.as_global_value().as_pointer_value();
    e.ir.tail_call(region, &abi::arguments(&e.ir, arch, state, slot, registers));
}

fn begin(e: &mut Llvm<'_>, index: usize, RegionBlock { block, frame, .. }: &RegionBlock) {
    e.index = index;
    e.frame = *frame;
    e.block_pc = block.pc;
    e.live_behind = block.insns.last().map_or(ALL_FLAGS, Insn::live);
    e.needed_behind = Registers::with_flags(e.live_behind);
    e.leaves_frame = leaves_frame(e, block);
    e.consumed.push(0);
    e.passed_on.push(block.insns.iter().rev().fold(ALL_FLAGS, |flags, i| flags & !flags_killed(&i.raw)));
    e.changes_mode = block.exit == BlockEnd::Terminator && block.insns.last().is_some_and(|i| falls_through(&i.raw));
    e.ir.at_end(e.starts[index]);
}

/// Whether a block ends with a return to the host's caller or a call that isn't followed.
fn leaves_frame(e: &Llvm<'_>, block: &Block) -> bool {
    let Some(last) = block.insns.last().filter(|_| block.exit == BlockEnd::Terminator) else { return false };
    match last.raw.flow_control() {
        FlowControl::Return => e.frame == Frames::OWN,
        FlowControl::IndirectCall => e.frames.callee(e.frame, block.end()).is_none(),
        FlowControl::Call => calls_directly(&last.raw) && e.frames.callee(e.frame, block.end()).is_none(),
        _ => false,
    }
}

fn emitter<'c>(cx: &'c Context, region: &Region, facets: Facets, target: &Target, options: CodeOptions) -> Llvm<'c> {
    let module = cx.create_module("");
    let function = abi::declare(cx, &module, target.arch, FUNCTION);
    let slots_global = declare_slots(cx, &module);
    let state = abi::state(function, target.arch);
    let ir = Ir::new(cx, module, function);
    let prologue = ir.block("prologue");
    Llvm {
        ir,
        arch: target.arch,
        features: target.features.clone(),
        options,
        mutable: region.blocks.iter().any(|b| b.block.mutable),
        static_rounding: region.blocks.iter().flat_map(|b| &b.block.insns).any(|i| rounds_statically(&i.raw)),
        scopes: Scopes::new(cx),
        state,
        slots_global: slots_global.as_pointer_value(),
        slots: Slots::new(facets),
        prologue,
        places: Places::default(),
        starts: Vec::new(),
        live_at: region.blocks.iter().map(|b| live_at(&b.block)).collect(),
        counts: region.blocks.iter().map(|b| b.count).collect(),
        indirect: region.indirect.clone(),
        frames: region.frames.clone(),
        link_slots: Vec::new(),
        sites: Vec::new(),
        shared_blocks: HashMap::new(),
        polls: HashMap::new(),
        landings: HashMap::new(),
        edges: Vec::new(),
        block_written: Vec::new(),
        consumed: Vec::new(),
        passed_on: Vec::new(),
        read_from: Vec::new(),
        index: 0,
        frame: Frames::OWN,
        block_pc: 0,
        changes_mode: false,
        written: Registers::default(),
        needed_behind: Registers::ALL,
        live_behind: ALL_FLAGS,
        leaves_frame: false,
        singly: false,
        single: STATUS,
        dispatch: Dispatch::Compared,
        unmended: None,
        ip: 0,
        ended: false,
    }
}

fn live_at(block: &Block) -> Flags {
    block.insns.first().map_or(ALL_FLAGS, Insn::live_before)
}

/// The link slots stand behind the code ([`xlate_abi::protocol::Blob`]); their number isn't known yet, and
/// nobody asks for their type.
fn declare_slots<'c>(cx: &'c Context, module: &Module<'c>) -> GlobalValue<'c> {
    let slots = module.add_global(cx.i64_type().array_type(0), None, SLOTS);
    slots.set_linkage(Linkage::External);
    slots.set_visibility(GlobalVisibility::Hidden);
    slots
}

/// Chooses how registers are kept, from the instructions that use them.
fn facets(region: &Region, arch: Arch) -> Facets {
    let mut facets = Facets { pointers: 0, vec_bits: [128; 32], pairs: 0 };
    let mut whole = 0;
    for insn in region.blocks.iter().flat_map(|b| &b.block.insns) {
        let effects = Effects::of(insn);
        facets.pointers |= pointers(&insn.raw, &effects);
        whole |= effects.wide_vectors();
        match effects.lanes {
            Lanes::Whole => whole |= effects.vectors_touched(),
            Lanes::Low => facets.pairs |= effects.vectors_touched(),
            Lanes::Either => {}
        }
        for used in &effects.vectors {
            let kept = &mut facets.vec_bits[usize::from(used.register)];
            *kept = used.bits.max(*kept);
        }
    }
    // SSE's scalar instructions leave the upper half alone by themselves.
    facets.pairs &= if arch == Arch::X86_64 { 0 } else { !whole };
    facets
}

/// Whether an instruction reads or writes mask registers.
pub fn uses_masks(i: &Instruction) -> bool {
    i.op_mask() != Register::None || (0..i.op_count()).any(|n| i.op_register(n).is_k())
}

/// The registers that an instruction takes as pointers.
fn pointers(i: &Instruction, effects: &Effects) -> u16 {
    let stack = u16::from(i.is_stack_instruction()) << RSP;
    let has_memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    if has_memory && i.memory_base().is_gpr64() && !effects.memory.is_empty() {
        return stack | 1 << i.memory_base().number();
    }
    stack
}

//! Keeps accesses that change nothing, because they may fault: a load whose value nothing uses (Go tests pointers so), and a
//! store of what was just loaded from the same place (GCC's -fstack-clash-protection tests the stack so). The optimiser would
//! take them away. Here they become volatile, once registers are values and before anything else has been optimised.

use std::collections::HashMap;

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::llvm_sys::core::{LLVMGetMaskValue, LLVMGetNumMaskElements, LLVMGetNumOperands, LLVMGetOperand};
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module;
use inkwell::values::{
    AnyValue, AnyValueEnum, AsValueRef, BasicValue, BasicValueEnum, CallSiteValue, FunctionValue, InstructionOpcode,
    InstructionValue, PointerValue,
};

/// How many operations that change nothing, and how deep an address, are looked through.
const DEPTH: u32 = 8;

/// Makes such accesses volatile. Those of the guest have metadata of this kind.
pub fn keep(module: &Module<'_>, guest_kind: u32) {
    for function in module.get_functions() {
        keep_in(function, guest_kind);
    }
}

fn keep_in(function: FunctionValue<'_>, guest_kind: u32) {
    let instructions: Vec<_> = function.get_basic_blocks().into_iter().flat_map(|b| b.get_instructions()).collect();
    let used = used(&instructions);
    for (i, is_used) in instructions.iter().zip(used) {
        if i.get_metadata(guest_kind).is_none() {
            continue;
        }
        let changes_nothing = match i.get_opcode() {
            InstructionOpcode::Load => !is_used || is_used_by_lanes(*i),
            InstructionOpcode::Store => stores_back(*i),
            _ => false,
        };
        if changes_nothing {
            i.set_volatile(true).expect("an access can be volatile");
        }
    }
}

/// Of each instruction, whether something that has an effect needs it.
fn used(instructions: &[InstructionValue<'_>]) -> Vec<bool> {
    let number: HashMap<LLVMValueRef, usize> =
        instructions.iter().enumerate().map(|(n, i)| (i.as_value_ref(), n)).collect();
    let mut used: Vec<bool> = instructions.iter().map(|i| has_effect(*i)).collect();
    let mut open: Vec<usize> = (0..used.len()).filter(|n| used[*n]).collect();
    while let Some(n) = open.pop() {
        for operand in needed_operands(instructions[n]) {
            if let Some(&needed) = number.get(&operand)
                && !used[needed]
            {
                used[needed] = true;
                open.push(needed);
            }
        }
    }
    used
}

/// The operands that matter. A constant may make another operand indifferent: a factor of zero, a known choice.
fn needed_operands(i: InstructionValue<'_>) -> Vec<LLVMValueRef> {
    let all = operands(i);
    match i.get_opcode() {
        InstructionOpcode::Select => match operand(i, 0).and_then(constant) {
            Some(chosen) => vec![all[if chosen == 1 { 1 } else { 2 }]],
            None => all,
        },
        InstructionOpcode::Mul | InstructionOpcode::And => {
            let by_zero = (0..2).any(|n| operand(i, n).is_some_and(|v| zeros(v, DEPTH) == u64::MAX));
            if by_zero { Vec::new() } else { all }
        }
        InstructionOpcode::ShuffleVector => {
            lanes_taken(i).into_iter().zip(all).filter(|(taken, _)| *taken).map(|(_, v)| v).collect()
        }
        _ => all,
    }
}

/// Of each of the two operands of a shuffle, whether it gives any lane.
fn lanes_taken(shuffle: InstructionValue<'_>) -> [bool; 2] {
    let Some(BasicValueEnum::VectorValue(first)) = operand(shuffle, 0) else { return [true; 2] };
    let lanes = first.get_type().get_size() as i32;
    let i = shuffle.as_value_ref();
    // SAFETY: a shuffle of a module that lives; its mask has so many elements.
    let taken: Vec<i32> = unsafe { (0..LLVMGetNumMaskElements(i)).map(|n| LLVMGetMaskValue(i, n)).collect() };
    [taken.iter().any(|n| (0..lanes).contains(n)), taken.iter().any(|n| *n >= lanes)]
}

/// All operands. inkwell's own iterator can't pass those that are metadata or assembly.
fn operands(i: InstructionValue<'_>) -> Vec<LLVMValueRef> {
    let i = i.as_value_ref();
    // SAFETY: an instruction of a module that lives; it has operands of all these numbers.
    unsafe { (0..LLVMGetNumOperands(i) as u32).map(|n| LLVMGetOperand(i, n)).collect() }
}

/// Whether only some lanes of a vector are used, each by itself: the optimiser would load those alone.
fn is_used_by_lanes(load: InstructionValue<'_>) -> bool {
    let is_vector = matches!(load.as_any_value_enum(), AnyValueEnum::VectorValue(_));
    let mut users = std::iter::successors(load.get_first_use(), |u| u.get_next_use()).map(|u| u.get_user());
    is_vector
        && users.all(|user| match user {
            AnyValueEnum::VectorValue(v) => {
                v.as_instruction().is_some_and(|i| i.get_opcode() == InstructionOpcode::BitCast && is_used_by_lanes(i))
            }
            AnyValueEnum::IntValue(v) => {
                v.as_instruction().is_some_and(|i| i.get_opcode() == InstructionOpcode::ExtractElement)
            }
            _ => false,
        })
}

fn has_effect(i: InstructionValue<'_>) -> bool {
    use InstructionOpcode::*;
    match i.get_opcode() {
        Store | Fence | AtomicRMW | AtomicCmpXchg | Return | Br | Switch | Unreachable => true,
        Load => i.get_volatile().unwrap_or(true),
        Call => CallSiteValue::try_from(i).map_or(true, |call| !accesses_no_memory(call)),
        _ => false,
    }
}

/// Whether LLVM knows of a call that only its result matters.
fn accesses_no_memory(call: CallSiteValue<'_>) -> bool {
    let memory = Attribute::get_named_enum_kind_id("memory");
    let own = call.get_enum_attribute(AttributeLoc::Function, memory);
    let of_function = || call.get_called_fn_value()?.get_enum_attribute(AttributeLoc::Function, memory);
    own.or_else(of_function).is_some_and(|attribute| attribute.get_enum_value() == 0)
}

fn stores_back(store: InstructionValue<'_>) -> bool {
    match (operand(store, 0), operand(store, 1)) {
        (Some(v @ BasicValueEnum::IntValue(stored)), Some(BasicValueEnum::PointerValue(to))) => {
            is_loaded_from(v, to, low(stored.get_type().get_bit_width()), DEPTH)
        }
        (Some(v), Some(BasicValueEnum::PointerValue(to))) => is_loaded_from(v, to, u64::MAX, DEPTH),
        _ => false,
    }
}

/// An operand, which must be neither metadata nor assembly.
fn operand<'c>(i: InstructionValue<'c>, n: u32) -> Option<BasicValueEnum<'c>> {
    i.get_operand(n)?.value()
}

/// So many of the lowest bits.
fn low(bits: u32) -> u64 {
    u64::MAX >> (64 - bits.clamp(1, 64))
}

/// Whether some bits of a value are as they were loaded from a place, after operations that change nothing, such as an
/// addition of zero.
fn is_loaded_from<'c>(v: BasicValueEnum<'c>, place: PointerValue<'c>, bits: u64, depth: u32) -> bool {
    use InstructionOpcode::*;
    let Some(i) = v.as_instruction_value().filter(|_| depth > 0) else { return false };
    let is_zero = |n| operand(i, n).is_some_and(|v| zeros(v, depth) & bits == bits);
    let kept = match i.get_opcode() {
        Load => return operand(i, 0).is_some_and(|from| is_same(from, place.into(), DEPTH)),
        Call if is_funnel_shift(i) && is_zero(2) => 0,
        Or | Xor | Add | Sub | Shl | LShr | AShr if is_zero(1) => 0,
        Or | Xor | Add if is_zero(0) => 1,
        And if operand(i, 1).and_then(constant).is_some_and(|c| c & bits == bits) => 0,
        Trunc | ZExt | SExt | BitCast => 0,
        _ => return false,
    };
    operand(i, kept).is_some_and(|v| is_loaded_from(v, place, bits, depth - 1))
}

fn is_funnel_shift(i: InstructionValue<'_>) -> bool {
    let called = CallSiteValue::try_from(i).ok().and_then(CallSiteValue::get_called_fn_value);
    called.is_some_and(|f| f.get_name().to_bytes().starts_with(b"llvm.fshl."))
}

/// The bits of a value that are known to be zero.
fn zeros(v: BasicValueEnum<'_>, depth: u32) -> u64 {
    use InstructionOpcode::*;
    if let Some(c) = constant(v) {
        return !c;
    }
    let Some(i) = v.as_instruction_value().filter(|_| depth > 0) else { return 0 };
    let of = |n| operand(i, n).map_or(0, |v| zeros(v, depth - 1));
    match i.get_opcode() {
        Trunc => of(0),
        ZExt => match operand(i, 0) {
            Some(BasicValueEnum::IntValue(v)) => of(0) | !low(v.get_type().get_bit_width()),
            _ => 0,
        },
        And => of(0) | of(1),
        _ => 0,
    }
}

fn constant(v: BasicValueEnum<'_>) -> Option<u64> {
    match v {
        BasicValueEnum::IntValue(v) => v.get_zero_extended_constant(),
        _ => None,
    }
}

/// Whether two values are computed in the same way from the same ones.
fn is_same<'c>(a: BasicValueEnum<'c>, b: BasicValueEnum<'c>, depth: u32) -> bool {
    if a == b {
        return true;
    }
    let (Some(i), Some(j)) = (a.as_instruction_value(), b.as_instruction_value()) else { return false };
    let repeatable = matches!(
        i.get_opcode(),
        InstructionOpcode::IntToPtr
            | InstructionOpcode::GetElementPtr
            | InstructionOpcode::Add
            | InstructionOpcode::Shl
    );
    depth > 0
        && repeatable
        && i.get_opcode() == j.get_opcode()
        && i.get_num_operands() == j.get_num_operands()
        && (0..i.get_num_operands()).all(|n| match (operand(i, n), operand(j, n)) {
            (Some(a), Some(b)) => is_same(a, b, depth - 1),
            _ => false,
        })
}

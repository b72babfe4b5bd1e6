//! The functions of a blob and how they are called: which parameter is in which host register.
//!
//! All have the type `{i64, i64, i64} f(…)` and the convention `preserve_none`, whose arguments are, on x86-64, in r12 to
//! r15, then rdi, rsi, rdx and so on; on AArch64 in x20 to x28, x0 and x1, then x2, x3 and so on. The block ABI has
//! the state pointer in rdi / x2 and the link slot's address in rsi / x3, where Cranelift's `Tail` convention has its
//! first two arguments. The registers around them take the guest registers of [`PASSED`]; whoever doesn't know of these (tier 1,
//! the runtime's stubs) finds the same values in the CPU state.
//!
//! A function returns the guest address that a guest return goes to, and the guest registers of [`RETURNED`]: in rax, rdx
//! and rcx; on AArch64 in x2, x3 and x4, where Cranelift's `Tail` convention begins with its results, too.

use inkwell::AddressSpace;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::context::Context;
use inkwell::module::Module;
use inkwell::types::{BasicMetadataTypeEnum, BasicTypeEnum, FunctionType};
use inkwell::values::{BasicMetadataValueEnum, FunctionValue, IntValue, PointerValue};
use xlate_abi::protocol::Arch;
use xlate_abi::state::{CpuState, PASSED, RETURNED};

use crate::ir::Ir;

/// LLVM's number of the calling convention `preserve_none`.
pub const PRESERVE_NONE: u32 = 21;

/// Index of the state pointer's parameter; the slot's is the next.
pub fn state_index(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 4,
        Arch::Aarch64 => 11,
    }
}

/// Index of the parameter with the `n`th register of [`PASSED`].
pub fn passed_index(arch: Arch, n: usize) -> usize {
    if n < state_index(arch) { n } else { n + 2 }
}

fn parameters(arch: Arch) -> usize {
    (state_index(arch)).max(PASSED.len()) + 2
}

/// The type of all functions.
pub fn function_type(cx: &Context, arch: Arch) -> FunctionType<'_> {
    let word = cx.i64_type();
    let ptr = cx.ptr_type(AddressSpace::default());
    let mut params: Vec<BasicMetadataTypeEnum> = vec![word.into(); parameters(arch)];
    let state = state_index(arch);
    params[state] = ptr.into();
    params[state + 1] = ptr.into();
    let results: Vec<BasicTypeEnum> = vec![word.into(); result_index(arch) + 1 + RETURNED.len()];
    cx.struct_type(&results, false).fn_type(&params, false)
}

/// Index of the first result, the address: LLVM returns a structure's fields in x0 and what follows.
pub fn result_index(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::Aarch64 => 2,
    }
}

/// The arguments in their order.
pub fn arguments<'c>(
    ir: &Ir<'c>,
    arch: Arch,
    state: PointerValue<'c>,
    slot: PointerValue<'c>,
    registers: [IntValue<'c>; PASSED.len()],
) -> Vec<BasicMetadataValueEnum<'c>> {
    let poison: BasicMetadataValueEnum = ir.cx.i64_type().get_poison().into();
    let mut values = vec![poison; parameters(arch)];
    values[state_index(arch)] = state.into();
    values[state_index(arch) + 1] = slot.into();
    for (n, value) in registers.into_iter().enumerate() {
        values[passed_index(arch, n)] = value.into();
    }
    values
}

/// Declares a function of a blob.
pub fn declare<'c>(cx: &'c Context, module: &Module<'c>, arch: Arch, name: &str) -> FunctionValue<'c> {
    let function = module.add_function(name, function_type(cx, arch), None);
    function.set_call_conventions(PRESERVE_NONE);
    let flag = |name| cx.create_enum_attribute(Attribute::get_named_enum_kind_id(name), 0);
    // Guests may map page 0; library functions don't exist here; the guest chooses how denormals are treated.
    for attribute in [
        flag("nounwind"),
        flag("noinline"),
        flag("null_pointer_is_valid"),
        cx.create_string_attribute("no-builtins", ""),
        cx.create_string_attribute("denormal-fp-math", "dynamic,dynamic"),
    ] {
        function.add_attribute(AttributeLoc::Function, attribute);
    }
    let number = |name, value| cx.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value);
    for attribute in [
        flag("noundef"),
        number("align", align_of::<CpuState>() as u64),
        number("dereferenceable", size_of::<CpuState>() as u64),
    ] {
        function.add_attribute(AttributeLoc::Param(state_index(arch) as u32), attribute);
    }
    function
}

/// The state's parameter.
pub fn state<'c>(function: FunctionValue<'c>, arch: Arch) -> PointerValue<'c> {
    function.get_nth_param(state_index(arch) as u32).expect("declared").into_pointer_value()
}

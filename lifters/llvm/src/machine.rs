//! LLVM's side of a target: target machines (one a thread and target), the pass pipeline, code generation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::Once;

use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{FileType, InitializationConfig, Target as LlvmTarget, TargetMachine, TargetTriple};
use xlate_abi::protocol::{Arch, OptLevel, Target};

use crate::emitter::PC_METADATA;
use crate::{CompileError, kept_faults, mask_registers, sign_masks};

/// inkwell's `TargetMachine` lacks the code model "tiny", so it is made through LLVM's C interface.
use inkwell::llvm_sys::target_machine::{LLVMCodeGenOptLevel, LLVMCodeModel, LLVMCreateTargetMachine, LLVMRelocMode};

thread_local! {
    static MACHINES: RefCell<HashMap<(Target, OptLevel), TargetMachine>> = RefCell::default();
}

/// The target of the machine this runs on, with all its features.
pub fn host_target() -> Target {
    let cpu = TargetMachine::get_host_cpu_name();
    let features = TargetMachine::get_host_cpu_features();
    let mut features: Vec<&str> =
        features.to_str().unwrap_or_default().split(',').filter(|f| f.starts_with('+')).collect();
    features.sort_unstable();
    Target {
        arch: if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 },
        cpu: cpu.to_str().unwrap_or_default().to_owned(),
        features: features.join(","),
    }
}

fn triple(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64-unknown-linux-gnu",
        Arch::Aarch64 => "aarch64-unknown-linux-gnu",
    }
}

/// Features that every machine we translate for has, beyond LLVM's base CPU. A 16-byte compare-and-exchange
/// would otherwise become a call into a library.
fn features(target: &Target) -> String {
    match target.arch {
        Arch::X86_64 if target.features.is_empty() => "+cx16".to_owned(),
        Arch::X86_64 => format!("{},+cx16", target.features),
        Arch::Aarch64 => target.features.clone(),
    }
}

/// Prepares LLVM, once. Compiling does it where it hasn't been done; earlier it costs no region time.
pub fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        LlvmTarget::initialize_x86(&InitializationConfig::default());
        LlvmTarget::initialize_aarch64(&InitializationConfig::default());
        set_options();
    });
}

/// Options that LLVM has only on its command line. Loop strength reduction is off: the guest's compiler has
/// chosen the addressing already, and with the values that side exits need LLVM's choice is worse.
///
/// Three more are off because they are wrong here. Two make a branch of a conditional move from memory, and then a load that
/// must fault may not happen. "fixup-byte-word-insts" makes `movw (%rax), %ax` a `movzwl`, and forgets that the rest of the
/// register lives on (LLVM 22).
fn set_options() {
    let options = [
        c"xlate",
        c"-disable-lsr",
        c"-disable-cgp-select2branch",
        c"-x86-cmov-converter-force-mem-operand=false",
        c"-fixup-byte-word-insts=false",
    ];
    let arguments = options.map(CStr::as_ptr);
    // SAFETY: NUL-terminated strings; called once, before any compilation.
    unsafe {
        inkwell::llvm_sys::support::LLVMParseCommandLineOptions(
            arguments.len() as i32,
            arguments.as_ptr(),
            c"".as_ptr(),
        );
    }
}

fn create(target: &Target, opt: OptLevel) -> Option<TargetMachine> {
    initialize();
    let triple = TargetTriple::create(triple(target.arch));
    let llvm = LlvmTarget::from_triple(&triple).ok()?;
    let cpu = CString::new(target.cpu.as_str()).ok()?;
    let features = CString::new(features(target)).ok()?;
    let level = match opt {
        OptLevel::O0 | OptLevel::O1 => LLVMCodeGenOptLevel::LLVMCodeGenLevelLess,
        OptLevel::O2 => LLVMCodeGenOptLevel::LLVMCodeGenLevelDefault,
        OptLevel::O3 => LLVMCodeGenOptLevel::LLVMCodeGenLevelAggressive,
    };
    // A blob is far below 1 MiB, so on AArch64 one `adr` or literal load reaches everything in it, and its
    // place in memory needs no page alignment (as ADRP's would).
    let model = match target.arch {
        Arch::X86_64 => LLVMCodeModel::LLVMCodeModelSmall,
        Arch::Aarch64 => LLVMCodeModel::LLVMCodeModelTiny,
    };
    // SAFETY: all strings are NUL-terminated and outlive the call; a null result is handled; the machine
    // made is owned by the wrapper alone.
    unsafe {
        let raw = LLVMCreateTargetMachine(
            llvm.as_mut_ptr(),
            triple.as_ptr(),
            cpu.as_ptr(),
            features.as_ptr(),
            level,
            LLVMRelocMode::LLVMRelocPIC,
            model,
        );
        (!raw.is_null()).then(|| TargetMachine::new(raw))
    }
}

fn with_machine<R>(
    target: &Target,
    opt: OptLevel,
    f: impl FnOnce(&TargetMachine) -> Result<R, CompileError>,
) -> Result<R, CompileError> {
    MACHINES.with_borrow_mut(|machines| {
        let key = (target.clone(), opt);
        if !machines.contains_key(&key) {
            let machine = create(target, opt).ok_or_else(|| CompileError::Target {
                arch: target.arch,
                cpu: target.cpu.clone(),
                features: target.features.clone(),
            })?;
            machines.insert(key.clone(), machine);
        }
        f(&machines[&key])
    })
}

/// AVX-512, with comparisons that give a mask of bytes, or of doublewords.
fn has_mask_registers(target: &Target) -> bool {
    target.features.split(',').any(|f| f == "+avx512vl")
}

/// The pass that comes first, in LLVM's textual form.
const REGISTERS_TO_VALUES: &str = "function(sroa)";

/// The passes of each level after it.
fn passes(opt: OptLevel) -> &'static str {
    match opt {
        OptLevel::O0 | OptLevel::O1 => {
            "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,gvn,dse,instcombine<no-verify-fixpoint>,adce)"
        }
        OptLevel::O2 => {
            "function(early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,\
             loop-mssa(loop-rotate,licm),gvn,instcombine<no-verify-fixpoint>,\
             loop-mssa(licm),dse,adce,simplifycfg,instcombine<no-verify-fixpoint>)"
        }
        OptLevel::O3 => "default<O3>",
    }
}

fn optimise(module: &Module<'_>, target: &Target, machine: &TargetMachine, opt: OptLevel) -> Result<(), CompileError> {
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    let run = |passes| {
        let done = module.run_passes(passes, machine, PassBuilderOptions::create());
        done.map_err(|e| CompileError::Passes(e.to_string()))
    };
    run(REGISTERS_TO_VALUES)?;
    kept_faults::keep(module, module.get_context().get_kind_id(PC_METADATA));
    run(passes(opt))?;
    match target.arch {
        Arch::Aarch64 => mask_registers::spread(module),
        Arch::X86_64 if has_mask_registers(target) => sign_masks::replace(module),
        Arch::X86_64 => {}
    }
    Ok(())
}

/// Optimises the module and gives its object file.
pub fn generate(module: &Module<'_>, target: &Target, opt: OptLevel) -> Result<MemoryBuffer<'static>, CompileError> {
    with_machine(target, opt, |machine| {
        optimise(module, target, machine, opt)?;
        machine.write_to_memory_buffer(module, FileType::Object).map_err(|e| CompileError::CodeGen(e.to_string()))
    })
}

/// Optimised IR and assembly.
pub fn explain(module: &Module<'_>, target: &Target, opt: OptLevel) -> Result<(String, String), CompileError> {
    with_machine(target, opt, |machine| {
        optimise(module, target, machine, opt)?;
        let ir = module.print_to_string().to_string();
        let assembly = machine
            .write_to_memory_buffer(module, FileType::Assembly)
            .map_err(|e| CompileError::CodeGen(e.to_string()))?;
        let assembly = String::from_utf8_lossy(assembly.as_slice()).into_owned();
        Ok((ir, assembly))
    })
}

//! Tier 1: basic blocks through Cranelift, compiled in microseconds.
//!
//! The code holds addresses of this process (its link slots, its counter, the runtime's functions), which are filled in when
//! it is put in its place ([`symbol`]), and follows the block ABI ([`super::entry`]): Cranelift's `tail` convention, where every exit is a tail call.

mod counting;
mod emitter;
mod float;
mod runtime_calls;
pub mod symbol;
mod vector;

#[cfg(test)]
mod tests;

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExternalName, Function};
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, CompiledCode, Context, FinalizedMachReloc, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use serde::{Deserialize, Serialize};
use target_lexicon::Triple;
use xlate_abi::protocol::PcMapRow;
use xlate_x86::{Block, lift_block};

use emitter::{Baseline, Host};
use symbol::{Relocation, Symbol};

/// Why a block has no baseline code.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("Cranelift doesn't know this host ({triple}): {reason}")]
    Host { triple: String, reason: String },
    #[error("Cranelift setting: {0}")]
    Setting(#[from] settings::SetError),
    #[error("Cranelift refuses the block at {pc:#x}: {reason}")]
    Compile { pc: u64, reason: String },
    #[error("the block at {pc:#x} needs a function that this build of Cranelift would call")]
    Relocation { pc: u64 },
}

/// Machine code of one block, not yet at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Position-independent, but for what is to be relocated.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    pub align: u32,
    pub pc_map: Vec<PcMapRow>,
    pub relocations: Vec<Relocation>,
    /// Where its link slots lead to.
    pub slots: Vec<u64>,
}

/// How a block is to be compiled.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Flags are in the state at every access that may fault.
    pub precise: bool,
    /// The block counts a cell down at its entry; at zero it asks for promotion.
    pub counted: bool,
    /// The block's bytes, to be compared with guest memory at every entry.
    pub check: Option<&'a [u8]>,
}

/// The baseline compiler for this host.
pub struct Compiler {
    isa: OwnedTargetIsa,
    host: Host,
    context: Context,
    builder: FunctionBuilderContext,
}

impl Compiler {
    pub fn new() -> Result<Self, BaselineError> {
        Ok(Self {
            isa: host_isa()?,
            host: Host { x86: cfg!(target_arch = "x86_64") },
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
        })
    }

    /// Compiles a block.
    pub fn compile(&mut self, block: &Block, options: Options<'_>) -> Result<Code, BaselineError> {
        // Cleared, not made anew: the function's tables keep their memory.
        self.context.clear();
        self.context.func.signature = emitter::tail_signature();
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let mut e = Baseline::new(builder, self.host, block.pc);
        if let Some(bytes) = options.check {
            e.check_bytes(bytes);
        }
        lift_block(&mut e, block, options.precise);
        let slots = e.finish(&*self.isa);
        let compiled = self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|e| refused(block.pc, &e.inner, &e.func.display().to_string()))?;
        let (bytes, align) = (compiled.code_buffer().to_vec(), compiled.buffer.alignment);
        let pc_map = pc_map(block.pc, compiled);
        let relocations = relocations(&self.context.func, self.context.compiled_code())
            .ok_or(BaselineError::Relocation { pc: block.pc })?;
        let mut code = Code { bytes, align: align.max(16), pc_map, relocations, slots };
        if options.counted {
            counting::add(&mut code, block.pc, align as usize);
        }
        Ok(code)
    }
}

/// What is to be filled in; `None` if something is that isn't a symbol's address.
fn relocations(function: &Function, compiled: Option<&CompiledCode>) -> Option<Vec<Relocation>> {
    let names = function.params.user_named_funcs();
    let relocation = |r: &FinalizedMachReloc| match &r.target {
        FinalizedRelocTarget::ExternalName(ExternalName::User(name)) if r.kind == Reloc::Abs8 && r.addend == 0 => {
            Some(Relocation { offset: r.offset, symbol: Symbol::of(&names[*name])? })
        }
        _ => None,
    };
    compiled?.buffer.relocs().iter().map(relocation).collect()
}

fn refused(pc: u64, error: &CodegenError, function: &str) -> BaselineError {
    tracing::debug!(%function, "refused by Cranelift");
    BaselineError::Compile { pc, reason: format!("{error:?}") }
}

/// Host offset to guest pc, from the source locations (offsets from the block's address).
fn pc_map(pc: u64, compiled: &CompiledCode) -> Vec<PcMapRow> {
    compiled
        .buffer
        .get_srclocs_sorted()
        .iter()
        .filter(|row| !row.loc.is_default())
        .map(|row| PcMapRow { host_offset: row.start, guest_pc: pc + u64::from(row.loc.bits()) })
        .collect()
}

fn host_isa() -> Result<OwnedTargetIsa, BaselineError> {
    let triple = Triple::host();
    let unknown = |reason: String| BaselineError::Host { triple: Triple::host().to_string(), reason };
    let mut flags = settings::builder();
    // Compile time before code quality: this is the tier whose code is made for every block that runs a few times. But
    // the single-pass allocator, which takes a sixth off that time, makes code of twice the size (it goes round all
    // registers, and each block saves and restores those that a function has to): warm starts take a quarter longer.
    for (name, value) in [
        ("opt_level", "none"),
        ("regalloc_algorithm", "backtracking"),
        ("is_pic", "false"),
        // Tail calls on x86-64 are built on them.
        ("preserve_frame_pointers", if cfg!(target_arch = "x86_64") { "true" } else { "false" }),
        ("enable_verifier", if cfg!(test) { "true" } else { "false" }),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
    ] {
        flags.set(name, value)?;
    }
    let mut builder = isa::lookup(triple).map_err(|e| unknown(e.to_string()))?;
    for feature in host_features() {
        builder.enable(feature)?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| unknown(e.to_string()))
}

/// Cranelift's names of the instruction sets this processor has.
#[cfg(target_arch = "x86_64")]
fn host_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($feature:tt => $name:literal),* $(,)?) => {
            [$((std::arch::is_x86_feature_detected!($feature), $name)),*]
        };
    }
    present! {
        "sse3" => "has_sse3",
        "ssse3" => "has_ssse3",
        "sse4.1" => "has_sse41",
        "sse4.2" => "has_sse42",
        "avx" => "has_avx",
        "avx2" => "has_avx2",
        "popcnt" => "has_popcnt",
        "bmi1" => "has_bmi1",
        "bmi2" => "has_bmi2",
        "lzcnt" => "has_lzcnt",
    }
    .into_iter()
    .filter_map(|(on, name)| on.then_some(name))
    .collect()
}

/// Cranelift's names of the instruction sets this processor has.
#[cfg(target_arch = "aarch64")]
fn host_features() -> Vec<&'static str> {
    if std::arch::is_aarch64_feature_detected!("lse") { vec!["has_lse"] } else { Vec::new() }
}

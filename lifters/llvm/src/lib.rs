//! Tier 2: a region of x86-64 code through LLVM to an optimised, position-independent [`Blob`].
//!
//! The way of a region: [`region`] makes one function of it, over the operations in [`emitter`]; [`machine`]
//! optimises it and has LLVM write an object file; [`blob`] lays that out and resolves its relocations, so
//! that the result needs nothing from outside but the CPU state. Which blocks make up a region is the
//! caller's choice.

mod abi;
mod blob;
mod emitter;
mod exits;
mod float;
mod frames;
mod host_instructions;
mod ir;
mod kept_faults;
mod machine;
mod mask_registers;
mod masked;
mod memory;
mod perfect;
mod places;
mod region;
mod sign_masks;
mod state;
mod stretch;
mod vector;
mod wide;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Instant;

use iced_x86::EncodingKind;
use inkwell::context::Context;
use xlate_abi::protocol::{Arch, Blob, CodeOptions, Target};
use xlate_x86::{Block, TableJump};

pub use frames::{Call, Frames};
pub use machine::{host_target, initialize};
pub use places::Places;

/// A basic block of a region with its profile.
#[derive(Clone, Debug)]
pub struct RegionBlock {
    pub block: Block,
    /// How often it ran, relative to the region's other blocks; 0 when unknown.
    pub count: u64,
    /// The activation it belongs to.
    pub frame: usize,
    /// Where it is a copy of another block: the index of the block that alone goes to it.
    pub copy_for: Option<usize>,
    /// The table that its last jump reads its target from, if that is known.
    pub table: Option<KnownTable>,
}

/// A jump table whose content is known.
#[derive(Clone, Debug)]
pub struct KnownTable {
    pub jump: TableJump,
    /// What the jump's base register, if it has one, presumably holds: code makes sure of it.
    pub base: u64,
    /// Where its entries lead, from the first on.
    pub targets: Vec<u64>,
}

impl KnownTable {
    /// Where it is, as (address, length).
    fn place(&self) -> (u64, u32) {
        (self.jump.table.at(self.base), (self.targets.len() * self.jump.entry_size()) as u32)
    }
}

/// The blocks that become one function. Direct edges between them stay inside; all others are exits.
#[derive(Clone, Debug)]
pub struct Region {
    /// The address of the block that is entered; it has to be among `blocks`.
    pub entry: u64,
    pub blocks: Vec<RegionBlock>,
    /// Where the indirect jump or call at a block's end probably leads, by the block's address: those that are among
    /// the blocks are reached inside.
    pub indirect: HashMap<u64, Vec<u64>>,
    /// The calls that are followed.
    pub frames: Frames,
}

impl Region {
    /// A region of these blocks, without a profile, that follows no call.
    pub fn of(entry: u64, blocks: impl IntoIterator<Item = Block>) -> Self {
        let plain = |block| RegionBlock { block, count: 0, frame: Frames::OWN, copy_for: None, table: None };
        Self {
            entry,
            blocks: blocks.into_iter().map(plain).collect(),
            indirect: HashMap::new(),
            frames: Frames::default(),
        }
    }

    /// Guest code it is made from, as (address, length), each block once.
    fn source(&self) -> Vec<(u64, u32)> {
        let mut source: Vec<_> = self.blocks.iter().map(|b| (b.block.pc, b.block.len)).collect();
        source.sort_unstable();
        source.dedup();
        source
    }

    /// Guest data it is made from, likewise.
    fn data(&self) -> Vec<(u64, u32)> {
        let mut data: Vec<_> = self.blocks.iter().filter_map(|b| b.table.as_ref()).map(KnownTable::place).collect();
        data.sort_unstable();
        data.dedup();
        data
    }

    /// Guest instructions in all blocks.
    pub fn instructions(&self) -> usize {
        self.blocks.iter().map(|b| b.block.insns.len()).sum()
    }
}

/// Why a region has no code. It stays in tier 1 then.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("the region has no block at its entry {0:#x}")]
    NoEntry(u64),
    #[error("the region has two blocks at {0:#x} in one frame")]
    DuplicateBlock(u64),
    #[error("LLVM can't compile for {arch:?} with cpu \"{cpu}\" and features \"{features}\"")]
    Target { arch: xlate_abi::protocol::Arch, cpu: String, features: String },
    #[error("the region at {entry:#x} became invalid IR: {message}")]
    InvalidIr { entry: u64, message: String },
    #[error("the optimiser failed: {0}")]
    Passes(String),
    #[error("the code generator failed: {0}")]
    CodeGen(String),
    #[error("LLVM wrote an object that can't be read: {0}")]
    Object(#[from] object::Error),
    #[error("the code needs \"{0}\" from outside, which a blob can't have")]
    UndefinedSymbol(String),
    #[error("the object has writable data in section {0}, but a region's only data are its link slots")]
    Data(String),
    #[error("relocation type {kind} at {offset:#x} is none of those a blob can resolve")]
    Relocation { kind: u32, offset: u64 },
    #[error("relocation type {kind} at {offset:#x} doesn't reach its target ({distance} bytes)")]
    OutOfReach { kind: u32, offset: u64, distance: i64 },
}

/// The part of a target that a region's code is made for: AVX-512 where the guest uses it. Elsewhere LLVM would make masked
/// moves of loads whose value is selected lane by lane, which don't fault in every lane.
fn target_of(region: &Region, target: &Target) -> Target {
    let mut insns = region.blocks.iter().flat_map(|b| &b.block.insns);
    if target.arch != Arch::X86_64
        || insns.any(|i| i.raw.encoding() == EncodingKind::EVEX || region::uses_masks(&i.raw))
    {
        return target.clone();
    }
    let kept = target.features.split(',').filter(|f| !f.starts_with("+avx512"));
    Target { features: kept.collect::<Vec<_>>().join(","), ..target.clone() }
}

/// Compiles one region for a target.
pub fn compile_region(region: &Region, target: &Target, options: CodeOptions) -> Result<Blob, CompileError> {
    let target = &target_of(region, target);
    let started = Instant::now();
    let context = Context::create();
    let built = region::build(&context, region, target, options)?;
    let mut blob = generate(&built, target, options)?;
    blob.entry_pc = region.entry;
    blob.guest_instructions = region.instructions() as u32;
    blob.source = region.source();
    blob.data = region.data();
    blob.compile_micros = started.elapsed().as_micros() as u64;
    Ok(blob)
}

fn generate(built: &region::Built<'_>, target: &Target, options: CodeOptions) -> Result<Blob, CompileError> {
    let object = machine::generate(&built.module, target, options.opt)?;
    blob::from_object(object.as_slice(), &built.slots)
}

/// Lifts a region to LLVM IR and no further: what lifting alone costs. Gives the number of IR instructions.
pub fn lift_region(region: &Region, target: &Target, options: CodeOptions) -> Result<usize, CompileError> {
    let target = &target_of(region, target);
    let context = Context::create();
    let built = region::build(&context, region, target, options)?;
    let blocks = built.module.get_functions().flat_map(|f| f.get_basic_block_iter());
    Ok(blocks.map(|b| b.get_instructions().count()).sum())
}

/// The region's function as LLVM IR before the optimiser: for people.
pub fn lifted_region(region: &Region, target: &Target, options: CodeOptions) -> Result<String, CompileError> {
    let target = &target_of(region, target);
    let context = Context::create();
    let built = region::build(&context, region, target, options)?;
    Ok(built.module.print_to_string().to_string())
}

/// The region's function as LLVM IR after the optimiser, and as assembly: for people.
pub fn explain_region(
    region: &Region,
    target: &Target,
    options: CodeOptions,
) -> Result<(String, String), CompileError> {
    let target = &target_of(region, target);
    let context = Context::create();
    let built = region::build(&context, region, target, options)?;
    machine::explain(&built.module, target, options.opt)
}

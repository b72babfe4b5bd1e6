//! From a runtime's request to a blob: which blocks make up the region, what its flags need, and the compiler.

mod form;
mod liveness;
mod size;
mod tails;

use xlate_abi::protocol::{Blob, CodeBytes, CompileRequest};
use xlate_llvm::{CompileError, Region, compile_region};
use xlate_x86::CodeSource;
use xlate_x86::decode::SliceSource;

pub use form::form_region;
pub use size::RegionSize;

/// Why a request has no blob. The region stays in tier 1.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("no code can be translated at {0:#x}")]
    NoCode(u64),
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// The stretches of guest code that came with a request.
pub struct RequestCode<'a>(pub &'a [CodeBytes]);

impl CodeSource for RequestCode<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let covers = |c: &&CodeBytes| pc.wrapping_sub(c.address) < c.bytes.len() as u64;
        self.0.iter().find(covers).map_or(0, |c| SliceSource { address: c.address, bytes: &c.bytes }.fetch(pc, buffer))
    }
}

/// Forms and compiles the region a request asks for, no larger than `most`. `formed` is told its size in between.
pub fn translate(
    request: &CompileRequest,
    most: RegionSize,
    formed: impl FnOnce(RegionSize),
) -> Result<Blob, TranslateError> {
    let region = form_region(request, most).ok_or(TranslateError::NoCode(request.entry))?;
    let size = RegionSize { blocks: region.blocks.len(), instructions: region.instructions() };
    log_region(request, &region, size);
    formed(size);
    let mut blob = compile_region(&region, &request.target, request.options)?;
    blob.formed = form::formed(request, &region);
    Ok(blob)
}

fn log_region(request: &CompileRequest, region: &Region, size: RegionSize) {
    tracing::debug!(
        entry = format_args!("{:#x}", region.entry),
        %size,
        opt = ?request.options.opt,
        "region formed"
    );
}

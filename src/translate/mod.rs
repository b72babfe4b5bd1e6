//! From a runtime's request to a blob: which blocks make up the region, what its flags need, and the compiler.

mod form;
mod liveness;

use std::panic::{AssertUnwindSafe, catch_unwind};

use xlate_abi::protocol::{Blob, CodeBytes, CompileRequest};
use xlate_llvm::{CompileError, Region, compile_region};
use xlate_x86::CodeSource;
use xlate_x86::decode::SliceSource;

pub use form::form_region;

/// Why a request has no blob. The region stays in tier 1.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("no code can be translated at {0:#x}")]
    NoCode(u64),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the compiler failed on the region at {entry:#x}: {message}")]
    Panic { entry: u64, message: String },
}

/// The stretches of guest code that came with a request.
pub struct RequestCode<'a>(pub &'a [CodeBytes]);

impl CodeSource for RequestCode<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let covers = |c: &&CodeBytes| pc.wrapping_sub(c.address) < c.bytes.len() as u64;
        self.0.iter().find(covers).map_or(0, |c| SliceSource { address: c.address, bytes: &c.bytes }.fetch(pc, buffer))
    }
}

/// Forms and compiles the region a request asks for. A panic inside costs only this region.
pub fn translate(request: &CompileRequest) -> Result<Blob, TranslateError> {
    let attempt = || {
        let region = form_region(request).ok_or(TranslateError::NoCode(request.entry))?;
        log_region(request, &region);
        Ok(compile_region(&region, &request.target, request.options)?)
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|payload| {
        Err(TranslateError::Panic { entry: request.entry, message: panic_message(payload.as_ref()) })
    })
}

fn log_region(request: &CompileRequest, region: &Region) {
    tracing::debug!(
        entry = format_args!("{:#x}", region.entry),
        blocks = region.blocks.len(),
        instructions = region.instructions(),
        opt = ?request.options.opt,
        "region formed"
    );
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

//! The `xlate` command: one module a subcommand, and the translator service behind `xlate serve`.
//!
//! A library so that tests reach the parts; `main.rs` (the command) and `bin/xlate-compile.rs` (the compiler) only
//! parse the command line and report. Only the compiler may lead to `translate`, which needs LLVM: loading that takes
//! some ten milliseconds.

pub mod bench;
pub mod cache;
#[cfg(target_arch = "x86_64")]
pub mod capture;
#[cfg(target_arch = "x86_64")]
pub mod checkpoint;
pub mod compiler;
pub mod inspect;
pub mod isa;
pub mod logging;
pub mod run;
pub mod serve;
pub mod status;
pub mod translate;
mod wire;

//! The `xlate` command: one module a subcommand, and the translator service behind `xlate serve`.
//!
//! A library so that tests reach the parts; `main.rs` (the command) and `bin/xlate-serve.rs` (the service) only parse
//! the command line and report. Only the service may lead to `serve` and `translate`: they need LLVM.

pub mod bench;
pub mod cache;
#[cfg(target_arch = "x86_64")]
pub mod capture;
#[cfg(target_arch = "x86_64")]
pub mod checkpoint;
pub mod inspect;
pub mod isa;
pub mod logging;
pub mod run;
pub mod serve;
pub mod service;
pub mod status;
pub mod translate;

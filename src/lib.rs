//! The `xlate` command: one module a subcommand, and the translator service behind `xlate serve`.
//!
//! A library so that tests reach the parts; `main.rs` only parses the command line and reports.

pub mod bench;
#[cfg(target_arch = "x86_64")]
pub mod capture;
#[cfg(target_arch = "x86_64")]
pub mod checkpoint;
pub mod inspect;
pub mod isa;
pub mod run;
pub mod serve;
pub mod status;
pub mod translate;

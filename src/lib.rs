//! The `xlate` command: one module a subcommand, and the translator service behind `xlate serve`.
//!
//! A library so that tests reach the parts; `main.rs` only parses the command line and reports.

pub mod bench;
pub mod run;
pub mod status;

//! What our processes are called: they look for each other, and the benchmark for them, by these names.

use core::ffi::CStr;

/// The program that compiles regions; it stands beside the command.
pub const COMPILER: &str = "xlate-compile";
/// The process that keeps a run's code.
pub const KEEPER: &CStr = c"xlate-keep";
/// The process that compiles tier 1's blocks for a guest.
pub const TIER1: &CStr = c"xlate-tier1";

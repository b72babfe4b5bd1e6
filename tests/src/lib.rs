//! What the whole-path tests share; most of it is the native differential verification of the semantics ([`isa`]).

pub mod arm_cost;
pub mod flags_programs;
#[cfg(feature = "llvm")]
pub mod golden;
pub mod guest;
pub mod isa;
#[cfg(target_arch = "x86_64")]
pub mod native;

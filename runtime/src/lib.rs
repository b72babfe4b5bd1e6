//! Everything that happens in the guest's process, as a library: the `xlate-runtime` binary is a thin shell
//! around [`guest::Guest`], and the tests reach the parts through here.

pub mod build_id;
pub mod config;
pub mod engine;
pub mod errno;
pub mod guarded;
pub mod guest;
pub mod layout;
pub mod linux;
pub mod load;
pub mod memory;
pub mod processor;
pub mod restore;
pub mod signal;
mod vdso;
pub mod xstate;

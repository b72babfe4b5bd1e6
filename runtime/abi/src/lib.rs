//! What the guest's process, the translator service and the command must agree on.
//! Each fact stands here once: the CPU state's layout, the helper table, link slots,
//! checkpoint images, the service's protocol, the form of a compiled blob and of the files that keep them.

pub mod blocks;
pub mod cache;
pub mod image;
pub mod marker;
pub mod names;
pub mod protocol;
pub mod start;
pub mod state;

//! What the guest's process, the translator service and the command must agree on.
//! Each fact stands here once: the CPU state's layout, the helper table, link slots,
//! checkpoint images, the service's protocol and the form of a compiled blob.

pub mod image;
pub mod protocol;
pub mod state;

//! Support for the whole-path tests and the native differential verification.
pub mod guest;

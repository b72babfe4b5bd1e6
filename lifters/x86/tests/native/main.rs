//! Instructions in the interpreter against the CPU itself, form by form, from random and edge-case states.
#![cfg(target_arch = "x86_64")]

mod integer;
mod machine;
mod sse;
mod x87;

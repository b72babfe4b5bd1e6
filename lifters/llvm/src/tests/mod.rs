//! Unit tests: compiled code runs in this process and is compared with the interpreter.

mod blocks;
mod harness;
mod operations;
mod tables;

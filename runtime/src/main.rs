//! The `xlate-runtime` command.

fn main() {}

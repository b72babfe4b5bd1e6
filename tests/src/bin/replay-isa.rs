//! Replays a record of `verify-isa --record` on this host's engines: for AArch64, where there is no CPU to compare with.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use xlate_tests::isa::replay;

/// Compares this host's engines with recorded results of an x86-64 CPU.
#[derive(Parser)]
struct Arguments {
    record: PathBuf,
}

fn main() -> Result<ExitCode> {
    let path = Arguments::parse().record;
    let file = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
    let summary = replay::replay(&mut BufReader::new(file))?;
    print!("{summary}");
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! Where each piece of translated code lies, in the format in which `perf` looks for it under the name
//! `/tmp/perf-PID.map`: a line `START SIZE NAME` for each, in hexadecimal (perf's documentation, "jit-interface.txt").
//!
//! Written when the guest ends. Where the code cache was emptied meanwhile, a later line is right about an address
//! that two of them hold.

use std::fmt::Write;
use std::path::PathBuf;

/// Which tier made a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Baseline,
    Optimized,
}

#[derive(Debug)]
struct Piece {
    tier: Tier,
    address: u64,
    len: u64,
    guest_pc: u64,
}

/// The pieces so far.
#[derive(Debug)]
pub struct PerfMap {
    directory: PathBuf,
    pieces: Vec<Piece>,
}

impl PerfMap {
    /// A map that will be written to this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, pieces: Vec::new() }
    }

    /// Code of `len` bytes for the block or region that begins at `guest_pc`.
    pub fn add(&mut self, tier: Tier, address: u64, len: u64, guest_pc: u64) {
        self.pieces.push(Piece { tier, address, len, guest_pc });
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for p in &self.pieces {
            let tier = match p.tier {
                Tier::Baseline => "tier1",
                Tier::Optimized => "tier2",
            };
            let _ = writeln!(text, "{:x} {:x} {tier}:{:x}", p.address, p.len, p.guest_pc);
        }
        text
    }

    /// Writes `perf-PID.map`; without it the guest has lost nothing.
    pub fn write(&self) {
        let path = self.directory.join(format!("perf-{}.map", std::process::id()));
        if let Err(e) = std::fs::write(&path, self.text()) {
            eprintln!("xlate: can't write the map of translated code to {}: {e}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_piece_in_the_order_of_making() {
        let mut map = PerfMap::new(PathBuf::new());
        map.add(Tier::Baseline, 0x7000, 0x40, 0x40_1000);
        map.add(Tier::Optimized, 0x7040, 0x100, 0x40_1000);
        assert_eq!(map.text(), "7000 40 tier1:401000\n7040 100 tier2:401000\n");
    }
}

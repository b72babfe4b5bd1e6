//! Shows what LLVM makes of a piece of code: for people who chase a mismatch.

use anyhow::{Context, Result, ensure};
use xlate_abi::protocol::{CodeOptions, OptLevel};
use xlate_llvm::{Region, explain_region};
use xlate_runtime::engine::host_target;

use super::arena;
use super::case::Program;
use super::engines::reachable;

/// Prints listing, optimised IR and assembly of code given in hexadecimal.
pub fn print(hexadecimal: &str) -> Result<()> {
    let digits: Vec<char> = hexadecimal.chars().filter(|c| !c.is_whitespace()).collect();
    ensure!(digits.len().is_multiple_of(2), "an odd number of hexadecimal digits: {hexadecimal}");
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    let bytes = digits.chunks(2).map(byte).collect::<Result<Vec<_>, _>>().context("--explain takes hexadecimal")?;
    let program = Program::new(arena::CODE, bytes).context("these bytes aren't whole, valid instructions")?;
    println!("{}", program.listing());
    for precise in [false, true] {
        let region = Region::of(program.address, reachable(&program, precise));
        let options = CodeOptions { opt: OptLevel::O2, precise, tso: false };
        let (ir, assembly) = explain_region(&region, &host_target(), options)?;
        println!("precise: {precise}\n{ir}\n{assembly}");
    }
    Ok(())
}

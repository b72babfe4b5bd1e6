//! Shows what tier 2 makes of code in an executable: `region FILE SYMBOL|0xADDRESS [x86-64|aarch64] [--lifted|--ir]`.
//!
//! The region is formed as if all that can be reached from there had run equally often.

use std::collections::{HashSet, VecDeque};
use std::process::ExitCode;

use object::{Object, ObjectSegment, ObjectSymbol};
use xlate::translate::{RegionSize, form_region};
use xlate_abi::protocol::{Arch, BlockProfile, CodeBytes, CodeOptions, CompileRequest, OptLevel, Target};
use xlate_llvm::{compile_region, explain_region, host_target, lifted_region};
use xlate_x86::decode::{MAX_BLOCK, SliceSource, decode_block};

/// Most blocks in the profile.
const MAX_BLOCKS: usize = 160;

/// The blocks that can be reached from `entry` by direct edges and behind calls.
fn reachable(code: &[CodeBytes], entry: u64) -> Vec<BlockProfile> {
    let mut profile = Vec::new();
    let mut seen = HashSet::from([entry]);
    let mut todo = VecDeque::from([entry]);
    while let Some(pc) = todo.pop_front().filter(|_| profile.len() < MAX_BLOCKS) {
        let Some(part) = code.iter().find(|c| pc.wrapping_sub(c.address) < c.bytes.len() as u64) else { continue };
        let block = decode_block(&SliceSource { address: part.address, bytes: &part.bytes }, pc, MAX_BLOCK, true);
        profile.push(BlockProfile { pc, count: 1000 });
        let next = block.successors().into_iter().chain([block.end()]);
        todo.extend(next.filter(|pc| seen.insert(*pc)));
    }
    profile
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, place, rest @ ..] = args.as_slice() else {
        eprintln!("usage: region FILE SYMBOL|0xADDRESS [x86-64|aarch64] [--lifted|--ir]");
        return ExitCode::from(125);
    };
    match show(file, place, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("region: {e}");
            ExitCode::from(126)
        }
    }
}

fn show(file: &str, place: &str, rest: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let object = object::File::parse(&*bytes)?;
    let entry = match place.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16)?,
        None => object.symbol_by_name(place).ok_or_else(|| format!("{file} has no symbol {place}"))?.address(),
    };
    let segments = object.segments();
    let code: Vec<CodeBytes> =
        segments.filter_map(|s| Some(CodeBytes { address: s.address(), bytes: s.data().ok()?.to_vec() })).collect();
    let target = if rest.iter().any(|a| a == "aarch64") {
        Target { arch: Arch::Aarch64, cpu: String::new(), features: "+lse".to_owned() }
    } else {
        host_target()
    };
    let options = CodeOptions { opt: OptLevel::O2, precise: false, tso: false };
    let profile = reachable(&code, entry);
    let request = CompileRequest {
        id: 0,
        entry,
        target: target.clone(),
        options,
        grows: false,
        mutable: false,
        profile,
        indirect: Vec::new(),
        code,
        data: Vec::new(),
    };
    let region = form_region(&request, RegionSize::MOST).ok_or_else(|| format!("{file} has no code at {entry:#x}"))?;
    let blob = compile_region(&region, &target, options)?;
    if rest.iter().any(|a| a == "--lifted") {
        println!("{}", lifted_region(&region, &target, options)?);
        return Ok(());
    }
    let (ir, assembly) = explain_region(&region, &target, options)?;
    if rest.iter().any(|a| a == "--ir") {
        println!("{ir}");
    }
    println!("{assembly}");
    println!(
        "# {} guest instructions in {} blocks, {} bytes, {} us",
        blob.guest_instructions,
        region.blocks.len(),
        blob.code.len(),
        blob.compile_micros
    );
    Ok(())
}

//! Shows what tier 2 makes of code in an executable: `region FILE SYMBOL|0xADDRESS [x86-64|aarch64] [--ir]`.
//!
//! The region is everything reachable from there by direct edges, up to 64 blocks.

use std::process::ExitCode;

use iced_x86::FlowControl;
use object::{Object, ObjectSegment, ObjectSymbol};
use xlate_abi::protocol::{Arch, CodeOptions, FlagRule, OptLevel, Target};
use xlate_llvm::{Region, RegionBlock, compile_region, explain_region, host_target};
use xlate_x86::decode::{MAX_BLOCK, decode_block_by};
use xlate_x86::{Block, CodeSource};

const MAX_BLOCKS: usize = 64;

struct Image(Vec<(u64, Vec<u8>)>);

impl CodeSource for Image {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let inside = |(base, bytes): &&(u64, Vec<u8>)| pc.wrapping_sub(*base) < bytes.len() as u64;
        let Some((base, bytes)) = self.0.iter().find(inside) else { return 0 };
        let rest = &bytes[(pc - base) as usize..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        n
    }
}

fn region(image: &Image, entry: u64) -> Region {
    let mut region = Region { entry, blocks: Vec::new(), indirect: Vec::new() };
    let mut todo = std::collections::VecDeque::from([entry]);
    while let Some(pc) = todo.pop_front() {
        if region.blocks.len() == MAX_BLOCKS || region.blocks.iter().any(|b| b.block.pc == pc) {
            continue;
        }
        let block = decode_block_by(FlagRule::Convention, image, pc, MAX_BLOCK, false);
        if block.is_empty() {
            continue;
        }
        todo.extend(continuations(&block));
        region.blocks.push(RegionBlock { block, count: 0 });
    }
    region
}

/// A call is a call of the host's: the region goes on behind it.
fn continuations(block: &Block) -> Vec<u64> {
    match block.insns.last().map(|i| (i.raw.flow_control(), i.raw.next_ip())) {
        Some((FlowControl::Call | FlowControl::IndirectCall, next)) => vec![next],
        _ => block.successors(),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, place, rest @ ..] = args.as_slice() else {
        eprintln!("usage: region FILE SYMBOL|0xADDRESS [x86-64|aarch64] [--ir]");
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
    let segments = object.segments().filter_map(|s| Some((s.address(), s.data().ok()?.to_vec())));
    let region = region(&Image(segments.collect()), entry);
    let target = if rest.iter().any(|a| a == "aarch64") {
        Target { arch: Arch::Aarch64, cpu: String::new(), features: "+lse".to_owned() }
    } else {
        host_target()
    };
    let options = CodeOptions { opt: OptLevel::O2, precise: false, flags: FlagRule::Exact, tso: false };
    let blob = compile_region(&region, &target, options)?;
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

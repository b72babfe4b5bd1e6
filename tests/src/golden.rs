//! What tier 2 makes of idioms of compiled code (`tests/golden/idioms.s`), for both hosts, with the number of instructions.
//! The listings are kept beside the idioms, so that every change shows what it costs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use xlate_abi::protocol::{Arch, CodeOptions, OptLevel, Target};
use xlate_llvm::{Region, explain_region};

use crate::isa::case::Program;
use crate::isa::engines::reachable;

/// A function of the idioms.
pub struct Idiom {
    pub name: String,
    program: Program,
}

/// Where the idioms stand.
const ADDRESS: u64 = 0x40_0000;

/// The folder of idioms and listings.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// A processor of either kind, with the features that a listing is for.
pub fn targets() -> [(&'static str, Target); 2] {
    let x86 = [
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "crc32",
        "popcnt",
        "cx16",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "bmi",
        "bmi2",
        "lzcnt",
        "movbe",
        "adx",
        "aes",
        "pclmul",
        "sha",
        "vaes",
        "vpclmulqdq",
        "gfni",
        "avx512f",
        "avx512vl",
        "avx512bw",
        "avx512dq",
        "avx512cd",
        "avx512ifma",
        "avx512vbmi",
        "avx512vbmi2",
        "avx512vnni",
        "avx512bitalg",
        "avx512vpopcntdq",
    ];
    let arm = ["lse", "crc", "aes", "sha2", "rcpc", "fullfp16", "dotprod"];
    let target = |arch, features: &[&str]| {
        let mut features: Vec<_> = features.iter().map(|f| format!("+{f}")).collect();
        features.sort_unstable();
        Target { arch, cpu: String::new(), features: features.join(",") }
    };
    [("x86-64", target(Arch::X86_64, &x86)), ("aarch64", target(Arch::Aarch64, &arm))]
}

/// Assembles the idioms.
pub fn idioms() -> Result<Vec<Idiom>> {
    let folder_of_object = tempfile::tempdir()?;
    let file = folder_of_object.path().join("idioms.o");
    let source = folder().join("idioms.s");
    let status = Command::new("as").arg("--64").arg("-o").arg(&file).arg(&source).status();
    ensure!(
        status.context("as, the assembler of binutils, can't be run")?.success(),
        "{} isn't assembled",
        source.display()
    );
    let bytes = std::fs::read(&file)?;
    let object = object::File::parse(bytes.as_slice())?;
    let text = object.section_by_name(".text").context("the object has no code")?;
    let code = text.data()?;
    let mut starts: Vec<_> = object
        .symbols()
        .filter(|s| s.section_index() == Some(text.index()) && s.kind() != SymbolKind::Section)
        .map(|s| (s.address() as usize, s.name().unwrap_or_default().to_owned()))
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([code.len()]);
    let idiom = |((at, name), end): ((usize, String), usize)| {
        let bytes = code[at..end].to_vec();
        let program = Program::new(ADDRESS + at as u64, bytes).with_context(|| format!("{name} doesn't decode"))?;
        Ok(Idiom { name, program })
    };
    starts.clone().into_iter().zip(ends).map(idiom).collect()
}

/// The listing of all idioms for a target.
pub fn listing(target: &Target) -> Result<String> {
    let mut text = String::new();
    let mut sum = 0;
    for idiom in idioms()? {
        let lines = code(&idiom, target).with_context(|| idiom.name.clone())?;
        let count = lines.iter().filter(|line| !line.ends_with(':')).count();
        sum += count;
        writeln!(text, "{}: {count} instructions", idiom.name)?;
        for line in lines {
            writeln!(text, "    {line}")?;
        }
        text.push('\n');
    }
    writeln!(text, "all: {sum} instructions")?;
    Ok(text)
}

/// The assembly of an idiom's region: instructions and labels.
fn code(idiom: &Idiom, target: &Target) -> Result<Vec<String>> {
    let blocks = reachable(&idiom.program, false);
    let decoded: usize = blocks.iter().map(|b| b.insns.len()).sum();
    ensure!(decoded > 0 && blocks.iter().all(|b| b.exit != xlate_x86::BlockEnd::Unimplemented), "not implemented");
    let options = CodeOptions { opt: OptLevel::O2, precise: false, tso: false };
    let (_, assembly) = explain_region(&Region::of(idiom.program.address, blocks), target, options)?;
    let function = assembly.lines().skip_while(|line| !line.starts_with("region:"));
    let body = function.skip(1).take_while(|line| !line.starts_with(".Lfunc_end"));
    let lines: Vec<_> = body.filter_map(|line| instruction_or_label(line, target.arch)).collect();
    Ok(renumbered(&lines))
}

/// A line without comments and spaces, if it is one of the two.
fn instruction_or_label(line: &str, arch: Arch) -> Option<String> {
    let comment = if arch == Arch::X86_64 { "#" } else { "//" };
    let line = line.split(comment).next().unwrap_or_default().trim();
    let is_label = line.starts_with(".LBB") && line.ends_with(':');
    let is_instruction = !line.is_empty() && !line.starts_with('.') && !line.ends_with(':');
    (is_label || is_instruction).then(|| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same with labels by their order, so that a block more doesn't change all.
fn renumbered(lines: &[String]) -> Vec<String> {
    let labels: Vec<_> = lines.iter().filter_map(|line| line.strip_suffix(':')).collect();
    let rename = |line: &String| {
        let mut line = line.clone();
        // Longer names first: one may begin with another.
        let mut by_length: Vec<_> = labels.iter().enumerate().collect();
        by_length.sort_by_key(|(_, label)| core::cmp::Reverse(label.len()));
        for (n, label) in by_length {
            line = line.replace(*label, &format!("L{}", n + 1));
        }
        line
    };
    lines.iter().map(rename).collect()
}

//! Says where an engine's outcome differs from the CPU's, and what may differ.

mod approximations;
mod imprecise;
mod nans;

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, RflagsBits};
use xlate_abi::state::{mxcsr, rflags};
use xlate_x86::decode::flags_killed;

use super::arena::DATA;
use super::case::{Case, End, Fault, Outcome, Program, X87};
use super::engines::{AtFaults, Kind};
use super::states::operand_address;
use super::x87_states::near_enough as near_enough_x87;

pub use approximations::is_approximate_code;
pub use nans::{chooses, meets_two};

const NAMES: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Brings the CPU's end of a run into the engines' terms: the breakpoint behind the program, or nothing executable
/// there, means that the program was left.
pub fn normalise(native: &mut Outcome, program: &Program) {
    let rip = native.state.rip;
    match native.end {
        End::Fault(Fault::Breakpoint) if !program.contains(rip.wrapping_sub(1)) => {
            native.state.rip = rip.wrapping_sub(1);
            native.end = End::Left;
        }
        End::Fault(Fault::Page(address)) if address == rip && !program.contains(rip) => native.end = End::Left,
        _ => {}
    }
}

/// All differences, one line each; empty if there are none.
pub fn differences(case: &Case, native: (&Outcome, &[u8]), engine: (&Outcome, &[u8]), kind: Kind) -> Vec<String> {
    let mut found = Vec::new();
    let (cpu, ours) = (native.0, engine.0);
    if spurious_fault(case, &cpu.end, &ours.end) {
        return found;
    }
    let same = same_end(&cpu.end, &ours.end, &case.program);
    let imprecise = kind.at_faults() == AtFaults::Kind;
    let is_licensed = imprecise && imprecise::may_end(case, cpu, &ours.end);
    if !same && !is_licensed {
        found.push(format!("end: native {:?}, engine {:?}", cpu.end, ours.end));
    }
    // What was stored before a fault is there whatever else is, and nothing that comes after it.
    if !stores_in_parts(case, cpu) {
        let open = if imprecise && imprecise::applies(cpu) { imprecise::stored(case) } else { Vec::new() };
        memory(case, &open, (native.1, engine.1), &mut found);
    }
    let compared = strictness(case, cpu, kind);
    if compared == AtFaults::Kind {
        return found;
    }
    if cpu.state.rip != ours.state.rip {
        found.push(format!("rip: native {:#x}, engine {:#x}", cpu.state.rip, ours.state.rip));
    }
    if compared == AtFaults::Address {
        return found;
    }
    for (n, name) in NAMES.iter().enumerate() {
        let (a, b) = (cpu.state.gpr[n], ours.state.gpr[n]);
        if a != b {
            found.push(format!("{name}: native {a:#x}, engine {b:#x}"));
        }
    }
    if compared == AtFaults::Everything {
        flags(case, cpu, ours, &mut found);
    }
    vectors(case, cpu, ours, kind, &mut found);
    for n in 0..8 {
        let (a, b) = (cpu.state.k[n], ours.state.k[n]);
        if a != b {
            found.push(format!("k{n}: native {a:#x}, engine {b:#x}"));
        }
    }
    for (name, a, b) in
        [("fs base", cpu.state.fs_base, ours.state.fs_base), ("gs base", cpu.state.gs_base, ours.state.gs_base)]
    {
        if a != b {
            found.push(format!("{name}: native {a:#x}, engine {b:#x}"));
        }
    }
    let x87_differs =
        cpu.state.x87 != ours.state.x87 && !near_enough_x87(&case.program, &cpu.state.x87, &ours.state.x87);
    if x87_differs && !only_top_is_cleared(case, cpu, ours) {
        found.push(format!("x87: native {:x?}, engine {:x?}", cpu.state.x87, ours.state.x87));
    }
    let (a, b) = (cpu.state.mxcsr, ours.state.mxcsr);
    if a != b && !(kind.adds_and_misses_flags() && only_licensed_flags(&case.program, a, b)) {
        found.push(format!("mxcsr: native {a:#x}, engine {b:#x}"));
    }
    found
}

/// Names each register that differs and its lowest part of 128 bits that does.
fn vectors(case: &Case, cpu: &Outcome, ours: &Outcome, kind: Kind, found: &mut Vec<String>) {
    for (n, (a, b)) in cpu.state.vec.iter().zip(&ours.state.vec).enumerate() {
        let Some(word) = (0..8).find(|w| a[*w] != b[*w]) else { continue };
        if approximations::near_enough(case, n, a, b) || kind.picks_nan() && nans::either(case, n, a, b) {
            continue;
        }
        let part = word / 2;
        let [a, b] = [a, b].map(|v| format!("{:016x}{:016x}", v[part * 2 + 1], v[part * 2]));
        found.push(format!("zmm{n} bits {} on: native {a}, engine {b}", part * 128));
    }
}

/// Whether the end was a fault of an instruction such as FXSAVE, which may have stored a part. So may x87's stores of
/// 80 bits: of an access larger than a quadword, "some of the accesses may complete (writing to memory) while another
/// causes the operation to fault" (Intel SDM vol. 3, 9.1.1).
fn stores_in_parts(case: &Case, cpu: &Outcome) -> bool {
    matches!(cpu.end, End::Fault(Fault::Page(_))) && faulting(case, cpu).is_some_and(accesses_in_parts)
}

fn accesses_in_parts(i: &Instruction) -> bool {
    is_save_restore(i) || matches!(i.memory_size().size(), 10 | 14 | 28 | 94 | 108)
}

/// FXSAVE, XSAVE, FNSAVE and what reads such areas.
fn is_save_restore(i: &Instruction) -> bool {
    i.code().op_code().is_save_restore()
}

/// The instruction that faulted.
fn faulting<'c>(case: &'c Case, cpu: &Outcome) -> Option<&'c Instruction> {
    case.program.insns.iter().find(|i| i.ip() == cpu.state.rip)
}

fn compares_repeatedly(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Scasb | Scasw | Scasd | Scasq | Cmpsb | Cmpsw | Cmpsd | Cmpsq)
        && i.is_string_instruction()
        && (i.has_rep_prefix() || i.has_repne_prefix())
}

/// Whether the CPU has TOP cleared already by an MMX instruction whose access faulted, and nothing else of the unit differs.
fn only_top_is_cleared(case: &Case, cpu: &Outcome, ours: &Outcome) -> bool {
    const TOP: u16 = 7 << 11;
    let is_mmx = |i: &Instruction| (0..i.op_count()).any(|n| i.op_register(n).is_mm());
    let without_top = X87 { status: ours.state.x87.status & !TOP, ..ours.state.x87 };
    matches!(cpu.end, End::Fault(Fault::Page(_) | Fault::GeneralProtection))
        && faulting(case, cpu).is_some_and(is_mmx)
        && cpu.state.x87 == without_top
}

/// How much of the state counts, after this end.
fn strictness(case: &Case, cpu: &Outcome, kind: Kind) -> AtFaults {
    let single = case.program.insns.len() == 1;
    match cpu.end {
        // The CPU puts the flags of before the first comparison back (Intel SDM vol. 2, REP), the engines don't.
        End::Fault(_) if faulting(case, cpu).is_some_and(compares_repeatedly) => {
            kind.at_faults().min(AtFaults::Registers)
        }
        End::Fault(Fault::Page(_) | Fault::GeneralProtection) if single => kind.at_faults(),
        // Where SSE's exceptions aren't masked, all engines are tier 0.
        End::Fault(Fault::Simd) if !single => AtFaults::Registers,
        // In the middle of a block, flags that nothing in it reads any more need not be there.
        End::Fault(_) if !single && kind == Kind::Interpreter => AtFaults::Registers,
        End::Fault(_) if !single => kind.at_faults(),
        _ => AtFaults::Everything,
    }
}

/// Whether the CPU faulted on an access that stores nothing: "exceptions [...] may still be signaled" for an all-zero
/// mask, depending on the implementation (Intel SDM vol. 2, MASKMOVDQU).
fn spurious_fault(case: &Case, native: &End, engine: &End) -> bool {
    const SIGNS: u64 = 0x8080_8080_8080_8080;
    let i = &case.program.insns[0];
    let mask = match i.mnemonic() {
        Mnemonic::Maskmovq => case.state.x87.reg[i.op2_register().number()] as u64,
        Mnemonic::Maskmovdqu => {
            let [low, high, ..] = case.state.vec[i.op2_register().number()];
            low | high
        }
        _ => return false,
    };
    matches!((native, engine), (End::Fault(Fault::Page(_)), End::Left)) && mask & SIGNS == 0
}

fn same_end(native: &End, engine: &End, program: &Program) -> bool {
    match (native, engine) {
        // FXSAVE, x87's stores of 80 bits and their like go through their operand in any order.
        (End::Fault(Fault::Page(a)), End::Fault(Fault::Page(b))) if accesses_in_parts(&program.insns[0]) => {
            a.abs_diff(*b) < 4096
        }
        // An XRSTOR whose header is refused (#GP) and whose area isn't all there (#PF). Which fault comes first depends on the
        // processor (Intel SDM vol. 3, 6.9: faults on executing an instruction).
        (End::Fault(Fault::GeneralProtection), End::Fault(Fault::Page(_)))
        | (End::Fault(Fault::Page(_)), End::Fault(Fault::GeneralProtection))
            if matches!(program.insns[0].mnemonic(), Mnemonic::Xrstor | Mnemonic::Xrstor64) =>
        {
            true
        }
        // Without non-canonical addresses, such as one is just not mapped.
        #[cfg(not(target_arch = "x86_64"))]
        (End::Fault(Fault::GeneralProtection), End::Fault(Fault::Page(_))) => true,
        // Which of two operands is read first isn't architectural.
        (
            End::Fault(Fault::Page(_) | Fault::GeneralProtection),
            End::Fault(Fault::Page(_) | Fault::GeneralProtection),
        ) if compares_memory(program) => true,
        // Which byte of an access across two pages is named depends on how the access is made.
        (End::Fault(Fault::Page(a)), End::Fault(Fault::Page(b))) => a >> 12 == b >> 12,
        _ => native == engine,
    }
}

fn compares_memory(program: &Program) -> bool {
    use Mnemonic::*;
    matches!(program.insns[0].mnemonic(), Cmpsb | Cmpsw | Cmpsq)
        || program.insns[0].mnemonic() == Cmpsd && program.insns[0].is_string_instruction()
}

fn flags(case: &Case, cpu: &Outcome, ours: &Outcome, found: &mut Vec<String>) {
    let last = match cpu.end {
        End::Fault(_) => cpu.state.rip,
        _ => case.program.end(),
    };
    let tracked = rflags::STATUS | rflags::DF | rflags::AC | rflags::ID;
    let mask = tracked & !architectural(undefined_flags(&case.program, last));
    let (a, b) = (cpu.state.rflags & mask, ours.state.rflags & mask);
    if a != b {
        found.push(format!("flags: native {}, engine {} (compared: {})", show(a), show(b), show(mask)));
    }
}

/// Flags left undefined by the instructions before `last`.
fn undefined_flags(program: &Program, last: u64) -> u32 {
    let before = program.insns.iter().take_while(|i| i.ip() < last);
    before.fold(0, |undefined, i| undefined_after(i, undefined))
}

/// Flags that are undefined behind an instruction, given those before it.
pub fn undefined_after(i: &Instruction, before: u32) -> u32 {
    before & !flags_killed(i) | i.rflags_undefined()
}

/// A mask of iced-x86's flag bits as bits of RFLAGS.
pub fn architectural(bits: u32) -> u64 {
    const PAIRS: [(u32, u64); 8] = [
        (RflagsBits::CF, rflags::CF),
        (RflagsBits::PF, rflags::PF),
        (RflagsBits::AF, rflags::AF),
        (RflagsBits::ZF, rflags::ZF),
        (RflagsBits::SF, rflags::SF),
        (RflagsBits::DF, rflags::DF),
        (RflagsBits::OF, rflags::OF),
        (RflagsBits::AC, rflags::AC),
    ];
    PAIRS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).sum()
}

fn show(flags: u64) -> String {
    const NAMES: [(u64, &str); 9] = [
        (rflags::CF, "CF"),
        (rflags::PF, "PF"),
        (rflags::AF, "AF"),
        (rflags::ZF, "ZF"),
        (rflags::SF, "SF"),
        (rflags::DF, "DF"),
        (rflags::OF, "OF"),
        (rflags::AC, "AC"),
        (rflags::ID, "ID"),
    ];
    let set: Vec<_> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    format!("[{}]", set.join(" "))
}

/// `open`: bytes that may differ.
fn memory(case: &Case, open: &[Range<u64>], (native, engine): (&[u8], &[u8]), found: &mut Vec<String>) {
    if native == engine {
        return;
    }
    let model = model_specific(case);
    let differs = |i: &usize| {
        let at = DATA + *i as u64;
        native[*i] != engine[*i] && !model.contains(&at) && !open.iter().any(|range| range.contains(&at))
    };
    let differing: Vec<_> = (0..native.len()).filter(differs).collect();
    let (Some(first), Some(last)) = (differing.first(), differing.last()) else { return };
    let end = (*last + 1).min(first + 32);
    found.push(format!(
        "memory: {} bytes differ from {:#x} on: native {:02x?}, engine {:02x?}",
        differing.len(),
        DATA + *first as u64,
        &native[*first..end],
        &engine[*first..end]
    ));
}

/// Bytes that tell the CPU's model: MXCSR_MASK in the areas of FXSAVE and XSAVE (Intel SDM vol. 1, 11.6.6).
fn model_specific(case: &Case) -> Range<u64> {
    use Mnemonic::*;
    let first = case.program.insns.first();
    let saves = |i: &&Instruction| {
        matches!(i.mnemonic(), Fxsave | Fxsave64 | Xsave | Xsave64 | Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64)
    };
    match first.filter(saves).and_then(|i| operand_address(i, &case.state)) {
        Some(at) => at.wrapping_add(28)..at.wrapping_add(32),
        None => 0..0,
    }
}

/// Whether an engine's MXCSR lacks no flag but the one for denormal operands, and has no other one too many than that for
/// underflow, and after fused operations that for invalid ones.
fn only_licensed_flags(program: &Program, native: u32, engine: u32) -> bool {
    let (missing, extra) = (native & !engine, engine & !native);
    let fused = if program.insns.iter().any(is_fused) { mxcsr::IE } else { 0 };
    missing & !mxcsr::DE == 0 && extra & !(mxcsr::UE | fused) == 0
}

/// VFMADD231PS and its like, not of halves.
fn is_fused(i: &Instruction) -> bool {
    let name = format!("{:?}", i.mnemonic());
    (name.starts_with("Vfm") || name.starts_with("Vfnm")) && !name.ends_with('h')
}

//! Makes a failing case small: what can be simplified without the failure going away is.

use super::case::Case;
use super::generate::{assemble, is_well_defined};

/// Repeats simplifications while `fails` still holds.
pub fn shrink(case: Case, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut best = case;
    let mut attempt = |best: &mut Case, change: &dyn Fn(&mut Case)| {
        let mut candidate = best.clone();
        change(&mut candidate);
        if fails(&candidate) {
            *best = candidate;
        }
    };
    for n in (0..best.program.insns.len()).rev() {
        if best.program.insns.len() > 1 {
            attempt(&mut best, &|c| drop_instruction(c, n));
        }
    }
    for n in 0..16 {
        attempt(&mut best, &|c| c.state.gpr[n] = 0);
        attempt(&mut best, &|c| c.state.gpr[n] &= 0xffff_ffff);
    }
    attempt(&mut best, &|c| c.state.vec = [[0; 8]; 32]);
    attempt(&mut best, &|c| c.state.k = [0; 8]);
    for n in (0..32).filter(|n| best.state.vec[*n] != [0; 8]).collect::<Vec<_>>() {
        for words in [0, 4, 2, 1] {
            attempt(&mut best, &|c| c.state.vec[n][words..].fill(0));
        }
        attempt(&mut best, &|c| c.state.vec[n][0] &= u64::from(u32::MAX));
    }
    for n in 0..8 {
        attempt(&mut best, &|c| c.state.k[n] = 0);
    }
    attempt(&mut best, &|c| c.state.rflags = 0x202);
    attempt(&mut best, &|c| c.state.mxcsr = xlate_abi::state::MXCSR_DEFAULT);
    attempt(&mut best, &|c| c.state.x87 = super::case::X87::INITIAL);
    attempt(&mut best, &|c| c.memory.background = [0; 64]);
    attempt(&mut best, &|c| c.memory.patches.clear());
    for bit in [0, 2, 4, 6, 7, 10, 11] {
        attempt(&mut best, &|c| c.state.rflags &= !(1 << bit));
    }
    best
}

/// Removes an instruction, unless one behind it would then read an undefined flag.
fn drop_instruction(case: &mut Case, n: usize) {
    let mut insns = case.program.insns.clone();
    insns.remove(n);
    if is_well_defined(&insns)
        && let Some(program) = assemble(case.program.address, &insns)
    {
        case.program = program;
    }
}

//! Makes a failing case small: what can be simplified without the failure going away is.

use super::case::Case;

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
    for n in 0..16 {
        attempt(&mut best, &|c| c.state.gpr[n] = 0);
        attempt(&mut best, &|c| c.state.gpr[n] &= 0xffff_ffff);
        attempt(&mut best, &|c| c.state.xmm[n] = 0);
        attempt(&mut best, &|c| c.state.xmm[n] &= u128::from(u64::MAX));
        attempt(&mut best, &|c| c.state.xmm[n] &= u128::from(u32::MAX));
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

//! The guest's MXCSR in the host's floating-point control and status registers (Intel SDM vol. 1, 10.2.3;
//! Arm ARM C5.2.8 FPCR, C5.2.10 FPSR).

use xlate_abi::state::MXCSR_DEFAULT;

#[cfg(target_arch = "x86_64")]
use xlate_abi::state::mxcsr::UM;
use xlate_abi::state::mxcsr::{DAZ, FLAGS, FTZ, MASKS};

/// Bits that exist: everything but bit 17 (MISALIGNSSE) and above.
pub const MASK: u32 = 0xffff;

/// Whether this mode is tier 0's, which looks at the exception flags after each instruction: translated code knows
/// masked exceptions only, and on AArch64 it can't flush operands and not results, or the other way round.
pub fn wants_care(mxcsr: u32) -> bool {
    let halfway = cfg!(target_arch = "aarch64") && (mxcsr & DAZ != 0) != (mxcsr & FTZ != 0);
    mxcsr & MASKS != MASKS || halfway
}

/// Puts the guest's modes and flags into the host's registers. They mostly hold them already, and writing them takes
/// longer than reading. All exceptions are masked: tier 0 finds those that the guest wants; an unmasked underflow keeps
/// results from being flushed (Intel SDM vol. 1, 10.2.3.3).
#[cfg(target_arch = "x86_64")]
pub fn load(mxcsr: u32) {
    let flushes = if mxcsr & UM == 0 { !FTZ } else { !0 };
    let value = mxcsr & MASK & flushes | MASKS;
    if host() != value {
        // SAFETY: reads four bytes; reserved bits are masked away, so no #GP.
        unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, readonly)) };
    }
}

#[cfg(target_arch = "x86_64")]
fn host() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: writes four bytes.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
    mxcsr
}

/// The guest's MXCSR with the flags that the host's registers have gathered; `control` is what [`load`] was last given.
#[cfg(target_arch = "x86_64")]
pub fn store(control: u32) -> u32 {
    control | host() & FLAGS
}

/// Puts the guest's modes into the host's registers, unless they hold them already: writing takes longer than reading.
/// Flags are gathered from none on, because some of the host's mean other ones depending on the mode. Only if operands
/// and results are both to be flushed, and all exceptions are masked, the host does it.
#[cfg(target_arch = "aarch64")]
pub fn load(mxcsr: u32) {
    // RC: nearest, down, up, zero; RMode: nearest, up, down, zero.
    let rmode = [0u64, 2, 1, 3][(mxcsr >> 13 & 3) as usize];
    let flush = u64::from(xlate_x86::interpreter::float::flushes(mxcsr));
    let fpcr = rmode << 22 | flush << 24;
    let (held_fpcr, held_fpsr): (u64, u64);
    // SAFETY: FPCR and FPSR are user-mode registers of the floating-point unit.
    unsafe { core::arch::asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) held_fpcr, out(reg) held_fpsr) };
    if (held_fpcr, held_fpsr) != (fpcr, 0) {
        // SAFETY: as above.
        unsafe { core::arch::asm!("msr fpcr, {}", "msr fpsr, xzr", in(reg) fpcr) };
    }
}

/// The guest's MXCSR with the flags that the host's registers have gathered; `control` is what [`load`] was last given.
#[cfg(target_arch = "aarch64")]
pub fn store(control: u32) -> u32 {
    control | xlate_x86::interpreter::float::flags(control)
}

/// The guest's MXCSR when its code doesn't run any more, as [`store`] gives it. Afterwards the modes are those that Rust
/// code expects, to which the exception flags are the same as any others.
pub fn leave_guest(control: u32) -> u32 {
    let mxcsr = store(control);
    if mxcsr & !FLAGS != MXCSR_DEFAULT {
        load(MXCSR_DEFAULT);
    }
    mxcsr
}

/// Before tier 0 looks at the flags itself: the guest's MXCSR as [`store`] gives it, the host's flags being clear afterwards.
pub fn gather(control: u32) -> u32 {
    let mxcsr = store(control);
    load(mxcsr & !FLAGS);
    mxcsr
}

/// The host's floating-point registers for control and status, to be put back by [`resume`].
#[cfg(target_arch = "x86_64")]
pub fn suspend() -> [u32; 2] {
    [host(), 0]
}

/// Puts them back.
#[cfg(target_arch = "x86_64")]
pub fn resume([held, _]: [u32; 2]) {
    // SAFETY: reads four bytes; they come from the register, so no bit is reserved.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &held, options(nostack, readonly)) };
}

/// The host's floating-point registers for control and status, to be put back by [`resume`].
#[cfg(target_arch = "aarch64")]
pub fn suspend() -> [u32; 2] {
    let (fpcr, fpsr): (u64, u64);
    // SAFETY: FPCR and FPSR are user-mode registers of the floating-point unit.
    unsafe { core::arch::asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) fpcr, out(reg) fpsr) };
    [fpcr as u32, fpsr as u32]
}

/// Puts them back.
#[cfg(target_arch = "aarch64")]
pub fn resume([fpcr, fpsr]: [u32; 2]) {
    // SAFETY: as above; the values come from the registers.
    unsafe { core::arch::asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) u64::from(fpcr), in(reg) u64::from(fpsr)) };
}

#[cfg(test)]
mod tests {
    use core::hint::black_box;

    use super::*;

    #[test]
    fn rounding_and_sticky_bits_travel() {
        load(MXCSR_DEFAULT & !FLAGS | 2 << 13);
        let third = black_box(black_box(1.0f64) / black_box(3.0));
        let after = leave_guest(MXCSR_DEFAULT | 2 << 13);
        assert_eq!(host() & !FLAGS, MXCSR_DEFAULT);
        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5556);
        assert_eq!(after & FLAGS, 0x20, "inexact and nothing else");
        assert_eq!(after & !FLAGS, MXCSR_DEFAULT | 2 << 13);
    }
}

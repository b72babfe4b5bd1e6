//! The guest's MXCSR in the host's floating-point control and status registers (Intel SDM vol. 1, 10.2.3;
//! Arm ARM C5.2.8 FPCR, C5.2.10 FPSR).

use xlate_abi::state::MXCSR_DEFAULT;

/// The exception flags, MXCSR bits 0 to 5.
pub const STICKY: u32 = 0x3f;
/// Bits that exist: everything but bit 17 (MISALIGNSSE) and above.
pub const MASK: u32 = 0xffff;

/// Puts the guest's modes and flags into the host's registers. They mostly hold them already, and writing them takes
/// longer than reading.
#[cfg(target_arch = "x86_64")]
pub fn load(mxcsr: u32) {
    let value = mxcsr & MASK;
    if store(value) != value {
        // SAFETY: reads four bytes; reserved bits are masked away, so no #GP.
        unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, readonly)) };
    }
}

/// The guest's MXCSR as the host's registers hold it; `control` is what [`load`] was last given.
#[cfg(target_arch = "x86_64")]
pub fn store(control: u32) -> u32 {
    let mut mxcsr = control;
    // SAFETY: writes four bytes.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
    mxcsr
}

/// Puts the guest's modes and flags into the host's registers, unless they hold them already: writing takes longer than
/// reading. Exceptions can't be unmasked here, and flushing to zero covers operands and results alike.
#[cfg(target_arch = "aarch64")]
pub fn load(mxcsr: u32) {
    // RC: nearest, down, up, zero; RMode: nearest, up, down, zero.
    let rmode = [0u64, 2, 1, 3][(mxcsr >> 13 & 3) as usize];
    let flush = u64::from(mxcsr & 0x8040 != 0);
    let fpcr = rmode << 22 | flush << 24;
    let fpsr = MXCSR_TO_FPSR.iter().filter(|(from, _)| mxcsr & from != 0).map(|(_, to)| to).sum::<u64>();
    let (held_fpcr, held_fpsr): (u64, u64);
    // SAFETY: FPCR and FPSR are user-mode registers of the floating-point unit.
    unsafe { core::arch::asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) held_fpcr, out(reg) held_fpsr) };
    if (held_fpcr, held_fpsr) != (fpcr, fpsr) {
        // SAFETY: as above.
        unsafe { core::arch::asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) fpcr, in(reg) fpsr) };
    }
}

/// The guest's MXCSR as the host's registers hold it; `control` is what [`load`] was last given.
#[cfg(target_arch = "aarch64")]
pub fn store(control: u32) -> u32 {
    let fpsr: u64;
    // SAFETY: as in `load`.
    unsafe { core::arch::asm!("mrs {}, fpsr", out(reg) fpsr) };
    MXCSR_TO_FPSR.iter().filter(|(_, from)| fpsr & from != 0).fold(control & !STICKY, |sum, (to, _)| sum | to)
}

/// MXCSR flag and FPSR flag: invalid, denormal operand, divide by zero, overflow, underflow, inexact.
#[cfg(target_arch = "aarch64")]
const MXCSR_TO_FPSR: [(u32, u64); 6] =
    [(1 << 0, 1 << 0), (1 << 1, 1 << 7), (1 << 2, 1 << 1), (1 << 3, 1 << 2), (1 << 4, 1 << 3), (1 << 5, 1 << 4)];

/// The guest's MXCSR when its code doesn't run any more, as [`store`] gives it. Afterwards the modes are those that Rust
/// code expects, to which the exception flags are the same as any others.
pub fn leave_guest(control: u32) -> u32 {
    let mxcsr = store(control);
    if mxcsr & !STICKY != MXCSR_DEFAULT {
        load(MXCSR_DEFAULT);
    }
    mxcsr
}

#[cfg(test)]
mod tests {
    use core::hint::black_box;

    use super::*;

    #[test]
    fn rounding_and_sticky_bits_travel() {
        load(MXCSR_DEFAULT & !STICKY | 2 << 13);
        let third = black_box(black_box(1.0f64) / black_box(3.0));
        let after = leave_guest(MXCSR_DEFAULT | 2 << 13);
        assert_eq!(store(MXCSR_DEFAULT) & !STICKY, MXCSR_DEFAULT);
        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5556);
        assert_eq!(after & STICKY, 0x20, "inexact and nothing else");
        assert_eq!(after & !STICKY, MXCSR_DEFAULT | 2 << 13);
    }
}

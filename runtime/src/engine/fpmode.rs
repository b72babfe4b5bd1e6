//! The guest's MXCSR in the host's floating-point control and status registers (Intel SDM vol. 1, 10.2.3;
//! Arm ARM C5.2.8 FPCR, C5.2.10 FPSR).

use xlate_abi::state::MXCSR_DEFAULT;

/// The exception flags, MXCSR bits 0 to 5.
pub const STICKY: u32 = 0x3f;
/// Bits that exist: everything but bit 17 (MISALIGNSSE) and above.
pub const MASK: u32 = 0xffff;

/// Puts the guest's modes and flags into the host's registers.
#[cfg(target_arch = "x86_64")]
pub fn load(mxcsr: u32) {
    // SAFETY: reads four bytes; reserved bits are masked away, so no #GP.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &(mxcsr & MASK), options(nostack, readonly)) };
}

/// The guest's MXCSR as the host's registers hold it; `control` is what [`load`] was last given.
#[cfg(target_arch = "x86_64")]
pub fn store(control: u32) -> u32 {
    let mut mxcsr = control;
    // SAFETY: writes four bytes.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
    mxcsr
}

/// Puts the guest's modes and flags into the host's registers. Exceptions can't be unmasked here, and flushing to
/// zero covers operands and results alike.
#[cfg(target_arch = "aarch64")]
pub fn load(mxcsr: u32) {
    // RC: nearest, down, up, zero; RMode: nearest, up, down, zero.
    let rmode = [0u64, 2, 1, 3][(mxcsr >> 13 & 3) as usize];
    let flush = u64::from(mxcsr & 0x8040 != 0);
    let fpcr = rmode << 22 | flush << 24;
    let fpsr = MXCSR_TO_FPSR.iter().filter(|(from, _)| mxcsr & from != 0).map(|(_, to)| to).sum::<u64>();
    // SAFETY: FPCR and FPSR are user-mode registers of the floating-point unit.
    unsafe { core::arch::asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) fpcr, in(reg) fpsr) };
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

/// The modes Rust code expects.
pub fn load_default() {
    load(MXCSR_DEFAULT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_sticky_bits_travel() {
        load(MXCSR_DEFAULT & !STICKY | 2 << 13);
        let third = core::hint::black_box(1.0f64) / core::hint::black_box(3.0);
        let after = store(MXCSR_DEFAULT | 2 << 13);
        load_default();
        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5556);
        assert_eq!(after & STICKY, 0x20, "inexact and nothing else");
        assert_eq!(after & !STICKY, MXCSR_DEFAULT | 2 << 13);
    }
}

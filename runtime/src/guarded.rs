//! Memory copies and system calls that a signal handler can break off.
//!
//! Two stretches of assembly with known bounds: a copy whose fault is turned into a short count instead of a
//! signal, and a system call that is not begun once a guest signal waits. The host's signal handlers ask
//! [`fixup_fault`] and [`fixup_interrupt`] where to go on when they find the program counter inside.

use core::sync::atomic::AtomicU32;

/// What [`syscall`] returns when a signal came before the call was begun: nothing has happened and the call is
/// to be made again. The number is Linux's own internal one and never reaches the guest.
pub const NOT_BEGUN: i64 = -512;

// SAFETY: the assembly of this module defines them so.
unsafe extern "C" {
    fn xlate_guarded_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn xlate_guarded_syscall(pending: *const AtomicU32, number: i64, args: *const u64) -> i64;
    static xlate_guarded_copy_start: u8;
    static xlate_guarded_copy_end: u8;
    static xlate_guarded_copy_fixup: u8;
    static xlate_guarded_syscall_start: u8;
    static xlate_guarded_syscall_end: u8;
    static xlate_guarded_syscall_fixup: u8;
}

// Copy: returns how many bytes were *not* copied. A fault leaves the remaining count in the counter
// register, exact because `rep movsb` and the byte loop commit byte by byte.
// System call: between `start` and `end` no system call has been made yet (the `syscall` instruction itself
// has not retired while the program counter points at it).
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl xlate_guarded_copy, xlate_guarded_copy_start, xlate_guarded_copy_end, xlate_guarded_copy_fixup",
    ".globl xlate_guarded_syscall, xlate_guarded_syscall_start, xlate_guarded_syscall_end, xlate_guarded_syscall_fixup",
    "xlate_guarded_copy:",
    "    mov rcx, rdx",
    "xlate_guarded_copy_start:",
    "    rep movsb",
    "xlate_guarded_copy_end:",
    "xlate_guarded_copy_fixup:",
    "    mov rax, rcx",
    "    ret",
    "xlate_guarded_syscall:",
    "    push rbx",
    "    mov rbx, rdi",
    "    mov rax, rsi",
    "    mov r11, rdx",
    "    mov rdi, [r11]",
    "    mov rsi, [r11 + 8]",
    "    mov rdx, [r11 + 16]",
    "    mov r10, [r11 + 24]",
    "    mov r8, [r11 + 32]",
    "    mov r9, [r11 + 40]",
    "xlate_guarded_syscall_start:",
    "    cmp dword ptr [rbx], 0",
    "    jne xlate_guarded_syscall_fixup",
    "    syscall",
    "xlate_guarded_syscall_end:",
    "    pop rbx",
    "    ret",
    "xlate_guarded_syscall_fixup:",
    "    mov rax, -512",
    "    pop rbx",
    "    ret",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl xlate_guarded_copy, xlate_guarded_copy_start, xlate_guarded_copy_end, xlate_guarded_copy_fixup",
    ".globl xlate_guarded_syscall, xlate_guarded_syscall_start, xlate_guarded_syscall_end, xlate_guarded_syscall_fixup",
    "xlate_guarded_copy:",
    "xlate_guarded_copy_start:",
    "    cmp x2, #8",
    "    b.lo 2f",
    "1:",
    "    ldr x3, [x1]",
    "    str x3, [x0]",
    "    add x1, x1, #8",
    "    add x0, x0, #8",
    "    sub x2, x2, #8",
    "    cmp x2, #8",
    "    b.hs 1b",
    "2:",
    "    cbz x2, xlate_guarded_copy_end",
    "    ldrb w3, [x1], #1",
    "    strb w3, [x0], #1",
    "    sub x2, x2, #1",
    "    b 2b",
    "xlate_guarded_copy_end:",
    "xlate_guarded_copy_fixup:",
    "    mov x0, x2",
    "    ret",
    "xlate_guarded_syscall:",
    "    mov x9, x0",
    "    mov x8, x1",
    "    mov x10, x2",
    "    ldp x0, x1, [x10]",
    "    ldp x2, x3, [x10, #16]",
    "    ldp x4, x5, [x10, #32]",
    "xlate_guarded_syscall_start:",
    "    ldr w11, [x9]",
    "    cbnz w11, xlate_guarded_syscall_fixup",
    "    svc #0",
    "xlate_guarded_syscall_end:",
    "    ret",
    "xlate_guarded_syscall_fixup:",
    "    mov x0, #-512",
    "    ret",
);

/// Copies `len` bytes and returns how many could not be copied because an access faulted.
///
/// # Safety
/// The side that is the translator's own memory must be valid for `len` bytes; the guest's side may be any
/// address, but a write there must not hit the translator's own memory.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    // SAFETY: the caller vouches for one side; faults on the other end in the fix-up.
    unsafe { xlate_guarded_copy(to, from, len) }
}

/// Makes a host system call unless `pending` is or becomes non-zero before it is begun; returns the kernel's
/// raw result (negative error number), or [`NOT_BEGUN`].
///
/// # Safety
/// As for the system call itself.
pub unsafe fn syscall(pending: &AtomicU32, number: i64, args: &[u64; 6]) -> i64 {
    // SAFETY: the caller vouches for the call; the pointers are valid for its duration.
    unsafe { xlate_guarded_syscall(pending, number, args.as_ptr()) }
}

fn address(symbol: &u8) -> u64 {
    core::ptr::from_ref(symbol) as u64
}

/// Where a memory fault at host address `pc` goes on, if it happened in [`copy`].
pub fn fixup_fault(pc: u64) -> Option<u64> {
    // SAFETY: the symbols are labels in the code above; only their addresses are taken.
    unsafe {
        (address(&xlate_guarded_copy_start)..address(&xlate_guarded_copy_end))
            .contains(&pc)
            .then(|| address(&xlate_guarded_copy_fixup))
    }
}

/// Where a signal that interrupted host address `pc` has to go on so that the system call isn't begun.
pub fn fixup_interrupt(pc: u64) -> Option<u64> {
    // SAFETY: as above.
    unsafe {
        (address(&xlate_guarded_syscall_start)..address(&xlate_guarded_syscall_end))
            .contains(&pc)
            .then(|| address(&xlate_guarded_syscall_fixup))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn copies_whole_buffers() {
        for len in [0usize, 1, 7, 8, 9, 100] {
            let from: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
            let mut to = vec![0u8; len];
            // SAFETY: both buffers are `len` bytes long.
            let left = unsafe { copy(to.as_mut_ptr(), from.as_ptr(), len) };
            assert_eq!(left, 0);
            assert_eq!(to, from);
        }
    }

    #[test]
    fn call_is_not_begun_once_a_signal_waits() {
        let pending = AtomicU32::new(0);
        // SAFETY: getpid has no arguments.
        let pid = unsafe { syscall(&pending, libc::SYS_getpid, &[0; 6]) };
        assert_eq!(pid, i64::from(std::process::id()));
        pending.store(1, Ordering::Relaxed);
        // SAFETY: as above.
        let result = unsafe { syscall(&pending, libc::SYS_getpid, &[0; 6]) };
        assert_eq!(result, NOT_BEGUN);
    }
}

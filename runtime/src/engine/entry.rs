//! The doors between Rust and translated code: entry trampoline, exit stub, link stub and the bridge into tier 0.
//!
//! Block ABI: the state pointer is in rdi / x2, the address of the link slot just taken in rsi / x3 (on AArch64 where
//! Cranelift's `tail` convention puts its first two arguments), every other register but the frame pointer is dead,
//! and the stack pointer is as at a function's entry. Code jumps to other code or to the exit stub.
//!
//! A guest call is a host call and a guest return a host return, so that the host predicts both. Code that returns
//! gives the guest's return address in rax / x2, with all guest registers in the state. The caller compares it with the one that
//! it pushed: whatever the guest has done to its stack, only speed depends on whether they are equal. So the frames on the host
//! stack hold nothing of the guest, and whoever leaves by the exit stub drops them all. A return below the first
//! frame comes to the trampoline, which looks the address up as for an indirect jump.

use core::mem::offset_of;

use xlate_abi::state::{CpuState, ExitReason, LOOKUP_ENTRIES, LookupEntry};

use super::interpreter::Run;

// SAFETY: the assembly below defines them so.
unsafe extern "C" {
    fn xlate_enter(state: *mut CpuState, code: u64, slot: u64);
    fn xlate_exit_stub();
    fn xlate_missed_stub();
    fn xlate_link_stub();
    fn xlate_interpret_stub();
    fn xlate_promote_stub();
    fn xlate_safepoint_stub();
    fn xlate_continue_stub();
}

// The trampoline pushes an odd number of words on x86-64 so that rsp ≡ 0 (mod 16) at the call, as the psABI (3.2.2)
// wants it. The look-ups are those of `xlate_abi::state::lookup_index` and `second_place`.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl xlate_enter, xlate_exit_stub, xlate_missed_stub, xlate_link_stub, xlate_interpret_stub",
    ".p2align 4",
    "xlate_enter:",
    "    push rbp",
    "    push rbx",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    mov [rdi + {host_sp}], rsp",
    "    push rdi",
    "    mov rax, rsi",
    "    mov rsi, rdx",
    "2:",
    "    call rax",
    "    mov rdi, [rsp]",
    "    mov rcx, rax",
    "    shr rcx, 12",
    "    xor rcx, rax",
    "    and ecx, {mask}",
    "    shl ecx, {shift}",
    "    add rcx, [rdi + {lookup}]",
    "    cmp [rcx + {key}], rax",
    "    jne 3f",
    "    mov rax, [rcx + {code}]",
    "    jmp 2b",
    "3:",
    "    mov [rdi + {rip}], rax",
    "    mov dword ptr [rdi + {exit_reason}], {go_on}",
    "    lea rax, [rip + xlate_missed_stub]",
    "    jmp 2b",
    ".p2align 4",
    "xlate_missed_stub:",
    "    mov rax, [rdi + {rip}]",
    "    mov rcx, rax",
    "    shr rcx, 12",
    "    xor rcx, rax",
    "    xor ecx, 1",
    "    and ecx, {mask}",
    "    shl ecx, {shift}",
    "    add rcx, [rdi + {lookup}]",
    "    cmp [rcx + {key}], rax",
    "    jne xlate_exit_stub",
    "    jmp [rcx + {code}]",
    ".p2align 4",
    "xlate_link_stub:",
    "    mov [rdi + {link_slot}], rsi",
    "    mov dword ptr [rdi + {exit_reason}], {link}",
    "xlate_exit_stub:",
    "    mov rsp, [rdi + {host_sp}]",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbx",
    "    pop rbp",
    "    ret",
    ".p2align 4",
    "xlate_interpret_stub:",
    "    mov rbx, rdi",
    "    sub rsp, 8",
    "    call {interpret}",
    "    mov rdi, rbx",
    "    jmp xlate_exit_stub",
    host_sp = const offset_of!(CpuState, host_sp),
    rip = const offset_of!(CpuState, rip),
    lookup = const offset_of!(CpuState, lookup),
    mask = const LOOKUP_ENTRIES - 1,
    shift = const size_of::<LookupEntry>().trailing_zeros(),
    key = const offset_of!(LookupEntry, guest_pc),
    code = const offset_of!(LookupEntry, code),
    link_slot = const offset_of!(CpuState, link_slot),
    exit_reason = const offset_of!(CpuState, exit_reason),
    link = const ExitReason::Link as u32,
    go_on = const ExitReason::Continue as u32,
    interpret = sym interpret,
);

// AAPCS64 6.1: x19-x28, the frame pointer, the link register and the low halves of v8-v15 belong to the caller.
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl xlate_enter, xlate_exit_stub, xlate_missed_stub, xlate_link_stub, xlate_interpret_stub",
    ".p2align 4",
    "xlate_enter:",
    "    stp x29, x30, [sp, #-176]!",
    "    stp x19, x20, [sp, #16]",
    "    stp x21, x22, [sp, #32]",
    "    stp x23, x24, [sp, #48]",
    "    stp x25, x26, [sp, #64]",
    "    stp x27, x28, [sp, #80]",
    "    stp d8, d9, [sp, #96]",
    "    stp d10, d11, [sp, #112]",
    "    stp d12, d13, [sp, #128]",
    "    stp d14, d15, [sp, #144]",
    "    str x0, [sp, #160]",
    "    mov x9, sp",
    "    str x9, [x0, #{host_sp}]",
    "    mov x9, x1",
    "    mov x3, x2",
    "    mov x2, x0",
    "2:",
    "    blr x9",
    "    mov x0, x2",
    "    ldr x2, [sp, #160]",
    "    eor x9, x0, x0, lsr #12",
    "    and x9, x9, #{mask}",
    "    ldr x10, [x2, #{lookup}]",
    "    add x10, x10, x9, lsl #{shift}",
    "    ldr x11, [x10, #{key}]",
    "    cmp x11, x0",
    "    b.ne 3f",
    "    ldr x9, [x10, #{code}]",
    "    b 2b",
    "3:",
    "    str x0, [x2, #{rip}]",
    "    mov w9, #{go_on}",
    "    str w9, [x2, #{exit_reason}]",
    "    adr x9, xlate_missed_stub",
    "    b 2b",
    ".p2align 4",
    "xlate_missed_stub:",
    "    ldr x0, [x2, #{rip}]",
    "    eor x9, x0, x0, lsr #12",
    "    eor x9, x9, #1",
    "    and x9, x9, #{mask}",
    "    ldr x10, [x2, #{lookup}]",
    "    add x10, x10, x9, lsl #{shift}",
    "    ldr x11, [x10, #{key}]",
    "    cmp x11, x0",
    "    b.ne xlate_exit_stub",
    "    ldr x9, [x10, #{code}]",
    "    br x9",
    ".p2align 4",
    "xlate_link_stub:",
    "    str x3, [x2, #{link_slot}]",
    "    mov w9, #{link}",
    "    str w9, [x2, #{exit_reason}]",
    "xlate_exit_stub:",
    "    ldr x9, [x2, #{host_sp}]",
    "    mov sp, x9",
    "    ldp x19, x20, [sp, #16]",
    "    ldp x21, x22, [sp, #32]",
    "    ldp x23, x24, [sp, #48]",
    "    ldp x25, x26, [sp, #64]",
    "    ldp x27, x28, [sp, #80]",
    "    ldp d8, d9, [sp, #96]",
    "    ldp d10, d11, [sp, #112]",
    "    ldp d12, d13, [sp, #128]",
    "    ldp d14, d15, [sp, #144]",
    "    ldp x29, x30, [sp], #176",
    "    ret",
    ".p2align 4",
    "xlate_interpret_stub:",
    "    mov x19, x2",
    "    mov x0, x2",
    "    mov x1, x3",
    "    bl {interpret}",
    "    mov x2, x19",
    "    b xlate_exit_stub",
    host_sp = const offset_of!(CpuState, host_sp),
    rip = const offset_of!(CpuState, rip),
    lookup = const offset_of!(CpuState, lookup),
    mask = const LOOKUP_ENTRIES - 1,
    shift = const size_of::<LookupEntry>().trailing_zeros(),
    key = const offset_of!(LookupEntry, guest_pc),
    code = const offset_of!(LookupEntry, code),
    link_slot = const offset_of!(CpuState, link_slot),
    exit_reason = const offset_of!(CpuState, exit_reason),
    link = const ExitReason::Link as u32,
    go_on = const ExitReason::Continue as u32,
    interpret = sym interpret,
);

// The rare exits of baseline code: the address to go on at comes where a link slot's would.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl xlate_promote_stub, xlate_safepoint_stub, xlate_continue_stub",
    ".p2align 4",
    "xlate_promote_stub:",
    "    mov eax, {promote}",
    "    jmp 2f",
    "xlate_safepoint_stub:",
    "    mov eax, {safepoint}",
    "    jmp 2f",
    "xlate_continue_stub:",
    "    mov eax, {go_on}",
    "2:",
    "    mov [rdi + {exit_reason}], eax",
    "    mov [rdi + {rip}], rsi",
    "    jmp xlate_exit_stub",
    rip = const offset_of!(CpuState, rip),
    exit_reason = const offset_of!(CpuState, exit_reason),
    promote = const ExitReason::Promote as u32,
    safepoint = const ExitReason::Safepoint as u32,
    go_on = const ExitReason::Continue as u32,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl xlate_promote_stub, xlate_safepoint_stub, xlate_continue_stub",
    ".p2align 4",
    "xlate_promote_stub:",
    "    mov w9, #{promote}",
    "    b 2f",
    "xlate_safepoint_stub:",
    "    mov w9, #{safepoint}",
    "    b 2f",
    "xlate_continue_stub:",
    "    mov w9, #{go_on}",
    "2:",
    "    str w9, [x2, #{exit_reason}]",
    "    str x3, [x2, #{rip}]",
    "    b xlate_exit_stub",
    rip = const offset_of!(CpuState, rip),
    exit_reason = const offset_of!(CpuState, exit_reason),
    promote = const ExitReason::Promote as u32,
    safepoint = const ExitReason::Safepoint as u32,
    go_on = const ExitReason::Continue as u32,
);

/// Tier 0 as code of the block ABI's kind: it runs on the trampoline's frame, so a fault inside it can leave as
/// from translated code. What to run travels where a link slot's address would.
extern "C" fn interpret(state: *mut CpuState, run: *mut Run<'_>) {
    // SAFETY: `enter_interpreter` passes exclusive references that outlive the call; its caller answers for the
    // guest's accesses.
    unsafe { (*run).run(&mut *state) };
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident => $symbol:ident;)*) => {
        $($(#[$doc])*
        pub fn $name() -> u64 {
            $symbol as *const () as u64
        })*
    };
}

addresses! {
    /// Address of the code that leaves translated code; its value for [`CpuState::exit_stub`].
    exit_stub => xlate_exit_stub;
    /// Address that looks at the second place of the table for indirect branches; its value for [`CpuState::missed_stub`].
    missed_stub => xlate_missed_stub;
    /// Address that unlinked slots point at; its value for [`CpuState::link_stub`].
    link_stub => xlate_link_stub;
    /// Address that asks for the promotion of the block at the second argument.
    promote_stub => xlate_promote_stub;
    /// Address that leaves because something waits, to go on at the second argument.
    safepoint_stub => xlate_safepoint_stub;
    /// Address that has the dispatcher go on at the second argument.
    continue_stub => xlate_continue_stub;
}

/// Runs translated code until it leaves.
///
/// # Safety
/// `code` is the entry of valid code of the block ABI; `state`'s stubs, lookup table and helpers are set
/// ([`super::prepare_state`]); guest accesses happen as they are.
pub unsafe fn enter(state: &mut CpuState, code: u64) {
    // SAFETY: the caller's contract.
    unsafe { xlate_enter(state, code, 0) };
}

/// Stays in tier 0.
///
/// # Safety
/// As for [`Run::run`]; `state.helpers` is set.
pub unsafe fn enter_interpreter(state: &mut CpuState, run: &mut Run<'_>) {
    let stub = xlate_interpret_stub as *const () as u64;
    let run = core::ptr::from_mut(run) as u64;
    // SAFETY: the stub takes exactly these; the caller's contract for the rest.
    unsafe { xlate_enter(state, stub, run) };
}

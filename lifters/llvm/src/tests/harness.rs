//! Runs blobs on the host by the block ABI: a trampoline in, a stub out, and code in memory of its own.

use core::mem::offset_of;

use xlate_abi::protocol::{Blob, CodeOptions, OptLevel, Target};
use xlate_abi::state::{CpuState, ExitReason, HELPER_COUNT, Helper, LOOKUP_ENTRIES, LinkSlot, LookupEntry};
use xlate_x86::interpreter::float::Operation;

use crate::host_target;

/// Ordinary options at a level.
pub fn options(opt: OptLevel) -> CodeOptions {
    CodeOptions { opt, precise: false, tso: false }
}

/// An AArch64 target with the features of a current server.
pub fn arm_target() -> Target {
    Target { arch: xlate_abi::protocol::Arch::Aarch64, cpu: "neoverse-n1".to_owned(), features: String::new() }
}

// enter(state, code): saves what the C convention preserves, leaves its stack pointer in the state and
// goes into the block with the stack as at a function's entry. The exit stub undoes it. A return comes back here.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".global xlate_llvm_test_enter, xlate_llvm_test_exit, xlate_llvm_test_link",
    "xlate_llvm_test_enter:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov [rdi + {host_sp}], rsp",
    "push rdi",
    "call rsi",
    "pop rdi",
    "mov [rdi + {rip}], rax",
    "mov dword ptr [rdi + {exit_reason}], {go_on}",
    "jmp xlate_llvm_test_exit",
    "xlate_llvm_test_link:",
    "mov [rdi + {link_slot}], rsi",
    "mov dword ptr [rdi + {exit_reason}], {link}",
    "xlate_llvm_test_exit:",
    "mov rsp, [rdi + {host_sp}]",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    host_sp = const offset_of!(CpuState, host_sp),
    rip = const offset_of!(CpuState, rip),
    go_on = const ExitReason::Continue as u32,
    link_slot = const offset_of!(CpuState, link_slot),
    exit_reason = const offset_of!(CpuState, exit_reason),
    link = const ExitReason::Link as u32,
);

// SAFETY: the assembly above defines them so.
unsafe extern "C" {
    fn xlate_llvm_test_enter(state: *mut CpuState, code: u64);
    fn xlate_llvm_test_exit();
    fn xlate_llvm_test_link();
}

/// A blob in executable memory.
pub struct Installed {
    base: *mut u8,
    len: usize,
    entry: u64,
}

impl Installed {
    pub fn new(blob: &Blob) -> Self {
        let align = blob.data_align as usize;
        let data = blob.code.len().next_multiple_of(align);
        let len = (data + blob.data_len as usize).next_multiple_of(4096);
        // SAFETY: an anonymous mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let base = base.cast::<u8>();
        // SAFETY: code and slots lie within the mapping, which is ours alone.
        unsafe {
            base.copy_from_nonoverlapping(blob.code.as_ptr(), blob.code.len());
            for slot in &blob.slots {
                let at = base.add(data + slot.offset as usize).cast::<LinkSlot>();
                at.write(LinkSlot { code: xlate_llvm_test_link as *const () as u64, guest_pc: slot.guest_pc });
            }
            let protection = libc::PROT_READ | libc::PROT_EXEC;
            assert_eq!(libc::mprotect(base.cast(), data.max(1), protection), 0);
        }
        Self { base, len, entry: base as u64 + u64::from(blob.entry_offset) }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing runs in it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

extern "C" fn crc32c(_: *mut CpuState, a: u64, b: u64, c: u64) -> u64 {
    a.wrapping_mul(3) ^ b.rotate_left(c as u32)
}

/// Stands for any helper that sees and changes the state.
extern "C" fn cpuid(state: *mut CpuState) -> u64 {
    // SAFETY: translated code and the interpreter hand in the state of the running guest.
    let state = unsafe { &mut *state };
    let seen = state.gpr[0] ^ state.gpr[3].rotate_left(8) ^ state.rip;
    state.gpr[0] = seen.wrapping_mul(5);
    state.gpr[1] = !state.gpr[1];
    state.vec[0][3] ^= 0xff;
    seen
}

extern "C" fn float(state: *mut CpuState, request: u64, a: u64, b: u64) -> u64 {
    // SAFETY: translated code and the interpreter hand in the state of the running guest.
    let mode = unsafe { (*state).mxcsr };
    Operation::of_request(request).expect("one of its own requests").perform(mode, a, b)
}

extern "C" fn settle_flags(state: *mut CpuState) -> u64 {
    // SAFETY: the code under test passes its state.
    unsafe { (*state).settle_flags() };
    0
}

extern "C" fn status_bits(state: *const CpuState) -> u64 {
    // SAFETY: as above.
    unsafe { (*state).status_bits() }
}

extern "C" fn no_helper() -> u64 {
    panic!("a helper that the tests don't have was called")
}

/// A table with the helpers that tests call.
pub fn helpers() -> [u64; HELPER_COUNT] {
    let mut table = [no_helper as *const () as u64; HELPER_COUNT];
    table[Helper::Crc32c as usize] = crc32c as *const () as u64;
    table[Helper::Float as usize] = float as *const () as u64;
    table[Helper::Cpuid as usize] = cpuid as *const () as u64;
    table[Helper::Wide as usize] = xlate_x86::wide::execute as *const () as u64;
    table[Helper::SettleFlags as usize] = settle_flags as *const () as u64;
    table[Helper::StatusBits as usize] = status_bits as *const () as u64;
    table
}

/// Runs a blob on a state until it leaves; `rip` is set for a link exit as the dispatcher would.
pub fn run(blob: &Blob, state: &mut CpuState) {
    let installed = Installed::new(blob);
    let lookup = vec![LookupEntry { guest_pc: u64::MAX, ..LookupEntry::default() }; LOOKUP_ENTRIES];
    let table = helpers();
    state.lookup = lookup.as_ptr() as u64;
    state.helpers = table.as_ptr() as u64;
    state.exit_stub = xlate_llvm_test_exit as *const () as u64;
    state.missed_stub = state.exit_stub;
    in_mode(state.mxcsr, || {
        // SAFETY: the blob keeps to the block ABI, and all it reaches through the state lives until it has left.
        unsafe { xlate_llvm_test_enter(state, installed.entry) }
    });
    if state.exit_reason == ExitReason::Link as u32 {
        // SAFETY: the link stub has just stored the address of a slot in the blob's data.
        state.rip = unsafe { (*(state.link_slot as *const LinkSlot)).guest_pc };
        state.exit_reason = ExitReason::Continue as u32;
    }
}

/// Runs something with the guest's rounding and flush modes in the host's control register, as guest code does.
pub fn in_mode<R>(mxcsr: u32, f: impl FnOnce() -> R) -> R {
    let mut host = 0u32;
    // SAFETY: STMXCSR and LDMXCSR access four bytes; the guest's word has no reserved bits.
    unsafe { core::arch::asm!("stmxcsr [{}]", "ldmxcsr [{}]", in(reg) &raw mut host, in(reg) &mxcsr) };
    let result = f();
    // SAFETY: as above; the host's own value comes back.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &host) };
    result
}

/// The host with all its features, without any beyond the base, and without AVX-512.
pub fn hosts() -> Vec<Target> {
    let base = Target { cpu: "x86-64".to_owned(), features: String::new(), ..host_target() };
    let host = host_target();
    let features =
        ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt"];
    let features = features.map(|f| format!("+{f}"));
    let has_all = features.iter().all(|f| host.features.split(',').any(|g| g == f));
    let older = Target { cpu: "x86-64-v3".to_owned(), features: features.join(","), ..host_target() };
    [host, base].into_iter().chain(has_all.then_some(older)).collect()
}

/// What the guest can see of a state.
pub fn visible(state: &CpuState) -> CpuState {
    CpuState {
        lookup: 0,
        helpers: 0,
        exit_stub: 0,
        missed_stub: 0,
        host_sp: 0,
        stack_limit: 0,
        link_slot: 0,
        interpreted: 0,
        ..state.clone()
    }
}

/// Panics with the first difference between two states.
pub fn assert_same(expected: &CpuState, got: &CpuState, what: &str) {
    let (e, g) = (visible(expected), visible(got));
    assert_eq!(e.gpr, g.gpr, "{what}: general-purpose registers");
    assert_eq!(e.rip, g.rip, "{what}: rip");
    assert_eq!(e.rflags(), g.rflags(), "{what}: flags");
    assert_eq!((e.exit_reason, e.exit_arg), (g.exit_reason, g.exit_arg), "{what}: exit");
    for n in 0..32 {
        assert_eq!(e.vec[n], g.vec[n], "{what}: vector register {n}");
    }
    assert_eq!(e.x87, g.x87, "{what}: x87 state");
    assert_eq!((e.fs_base, e.gs_base), (g.fs_base, g.gs_base), "{what}");
}

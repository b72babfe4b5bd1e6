//! Signal frames of x86-64 Linux (struct rt_sigframe; the FP part is an XSAVE image whose software bytes tell its size).

use libc::{siginfo_t, ucontext_t};
use xlate_abi::state::MXCSR_DEFAULT;

use super::super::case::{Fault, State, X87};

#[path = "xsave.rs"]
pub mod xsave;

/// Registers by encoding number, as `ucontext_t` numbers them.
const GPR: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Offsets in the FXSAVE image (Intel SDM vol. 1, table 10-2) and in Linux's `fpx_sw_bytes` behind it.
const FX_MXCSR: usize = 24;
const FX_ST: usize = 32;
const FX_LEN: usize = 512;
const SW_MAGIC: usize = 464;
const SW_XSTATE_SIZE: usize = 480;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// More than any image: AVX-512's has 2,696 bytes, AMX adds 8 KiB.
const MAX_FRAME: usize = 16 << 10;

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;

/// The verifier's own FS base, which thread-local data hangs on.
static mut HOST_FS: u64 = 0;
/// The FS base that the last signal found.
static mut FOUND_FS: u64 = 0;

/// The context to come back to.
pub struct Saved {
    gregs: [i64; 23],
    fp: [u8; MAX_FRAME],
    len: usize,
}

/// The context to go to.
pub struct Wanted {
    state: State,
    /// A guest: it has segment bases of its own.
    guest: bool,
}

/// The context that the signal at the end found.
pub struct Captured {
    pub state: State,
    pub fault: Fault,
}

/// Remembers what the handler must restore before anything else.
pub fn prepare() {
    xsave::prepare();
    let mut base = 0u64;
    // SAFETY: ARCH_GET_FS stores one word; HOST_FS is written here only, before any handler runs.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, ARCH_GET_FS, &raw mut base);
        HOST_FS = base;
    }
}

/// The handler's address for sigaction.
pub fn entry() -> usize {
    on_signal as *const () as usize
}

/// Keeps the FS base and restores the verifier's, without touching anything that needs it, and goes on in Rust.
#[unsafe(naked)]
unsafe extern "C" fn on_signal(signal: i32, info: *mut siginfo_t, context: *mut ucontext_t) {
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx",
        "mov eax, {arch_prctl}",
        "mov edi, {get_fs}",
        "lea rsi, [rip + {found_fs}]",
        "syscall",
        "mov eax, {arch_prctl}",
        "mov edi, {set_fs}",
        "mov rsi, [rip + {host_fs}]",
        "syscall",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp {handler}",
        arch_prctl = const libc::SYS_arch_prctl,
        get_fs = const ARCH_GET_FS,
        set_fs = const ARCH_SET_FS,
        found_fs = sym FOUND_FS,
        host_fs = sym HOST_FS,
        handler = sym handler,
    )
}

unsafe extern "C" fn handler(signal: i32, info: *mut siginfo_t, context: *mut ucontext_t) {
    // SAFETY: the kernel's own arguments.
    unsafe { super::handle(signal, &*info, &mut *context) };
    // SAFETY: only reads the control block.
    let control = unsafe { &*super::CONTROL.0.get() };
    if control.phase == super::Phase::Away && control.wanted.guest {
        let state = &control.wanted.state;
        set_base(ARCH_SET_GS, state.gs_base);
        // Last: from here on thread-local data is out of reach.
        set_base(ARCH_SET_FS, state.fs_base);
    }
}

#[inline(always)]
fn set_base(which: i32, base: u64) {
    // SAFETY: a system call that changes nothing but the base; errno isn't touched.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") libc::SYS_arch_prctl => _, in("rdi") which, in("rsi") base,
            out("rcx") _, out("r11") _, options(nostack));
    }
}

/// The segment bases that the signal found.
fn bases() -> (u64, u64) {
    let mut gs = 0u64;
    // SAFETY: ARCH_GET_GS stores one word; FOUND_FS is written by `on_signal` only, which called this.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut gs);
        (FOUND_FS, gs)
    }
}

/// The floating-point image of a frame.
fn fp(context: &mut ucontext_t) -> &mut [u8] {
    let start = context.uc_mcontext.fpregs.cast::<u8>();
    // SAFETY: the kernel always writes an FXSAVE image, and a longer one if the software bytes say so.
    unsafe {
        let word = |at: usize| start.add(at).cast::<u32>().read_unaligned();
        let len = if word(SW_MAGIC) == FP_XSTATE_MAGIC1 { word(SW_XSTATE_SIZE) as usize } else { FX_LEN };
        assert!(len <= MAX_FRAME, "a signal frame of unknown components");
        std::slice::from_raw_parts_mut(start, len)
    }
}

impl Saved {
    pub const EMPTY: Self = Self { gregs: [0; 23], fp: [0; MAX_FRAME], len: 0 };

    pub fn save(&mut self, context: &mut ucontext_t) {
        self.gregs = context.uc_mcontext.gregs;
        let image = fp(context);
        self.len = image.len();
        self.fp[..image.len()].copy_from_slice(image);
    }

    pub fn restore(&self, context: &mut ucontext_t) {
        context.uc_mcontext.gregs = self.gregs;
        fp(context).copy_from_slice(&self.fp[..self.len]);
    }
}

impl Wanted {
    pub const EMPTY: Self = Self { state: State::EMPTY, guest: false };

    pub fn guest(state: &State) -> Self {
        Self { state: state.clone(), guest: true }
    }

    /// A call of `f` with one argument on a stack that ends at `top` (a multiple of 16).
    pub fn call<T>(f: extern "C" fn(*mut T) -> !, argument: u64, top: u64) -> Self {
        let mut state = State::EMPTY;
        state.rip = f as *const () as u64;
        state.gpr[7] = argument;
        // As behind a CALL (psABI 3.2.2).
        state.gpr[4] = top - 8;
        state.rflags = 0x202;
        state.mxcsr = MXCSR_DEFAULT;
        Self { state, guest: false }
    }

    pub fn load_into(&self, context: &mut ucontext_t) {
        for (value, greg) in self.state.gpr.iter().zip(GPR) {
            context.uc_mcontext.gregs[greg as usize] = *value as i64;
        }
        context.uc_mcontext.gregs[libc::REG_RIP as usize] = self.state.rip as i64;
        context.uc_mcontext.gregs[libc::REG_EFL as usize] = self.state.rflags as i64;
        let image = fp(context);
        let x87 = &self.state.x87;
        image[..FX_MXCSR].fill(0);
        image[..2].copy_from_slice(&x87.control.to_le_bytes());
        image[2..4].copy_from_slice(&x87.status.to_le_bytes());
        image[4] = x87.tag;
        image[6..8].copy_from_slice(&x87.opcode.to_le_bytes());
        image[8..16].copy_from_slice(&x87.instruction.to_le_bytes());
        image[16..24].copy_from_slice(&x87.operand.to_le_bytes());
        // The image holds the registers from the stack's top on.
        for i in 0..8 {
            let value = x87.reg[(x87.top() + i) % 8];
            image[FX_ST + i * 16..][..16].copy_from_slice(&value.to_le_bytes());
        }
        image[FX_MXCSR..FX_MXCSR + 4].copy_from_slice(&self.state.mxcsr.to_le_bytes());
        xsave::store(image, &self.state, self.guest);
    }
}

impl Captured {
    pub const EMPTY: Self = Self { state: State::EMPTY, fault: Fault::Other(0) };

    pub fn capture(&mut self, _signal: i32, _info: &siginfo_t, context: &mut ucontext_t) {
        let gregs = context.uc_mcontext.gregs;
        self.state.gpr = GPR.map(|greg| gregs[greg as usize] as u64);
        self.state.rip = gregs[libc::REG_RIP as usize] as u64;
        self.state.rflags = gregs[libc::REG_EFL as usize] as u64;
        self.fault = fault(gregs[libc::REG_TRAPNO as usize] as u32, gregs[libc::REG_CR2 as usize] as u64);
        (self.state.fs_base, self.state.gs_base) = bases();
        let image = fp(context);
        self.state.x87 = if xsave::x87_in_use(image) { x87(image) } else { X87::INITIAL };
        self.state.mxcsr = u32::from_le_bytes(image[FX_MXCSR..FX_MXCSR + 4].try_into().expect("four bytes"));
        xsave::load(image, &mut self.state);
    }
}

fn x87(image: &[u8]) -> X87 {
    let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"));
    let mut x87 = X87 {
        reg: [0; 8],
        control: word(0),
        status: word(2),
        tag: image[4],
        opcode: word(6),
        instruction: quad(8),
        operand: quad(16),
    };
    let top = x87.top();
    for i in 0..8 {
        let bytes = image[FX_ST + i * 16..][..16].try_into().expect("sixteen bytes");
        x87.reg[(top + i) % 8] = u128::from_le_bytes(bytes) & MASK80;
    }
    x87
}

/// The bits of an x87 register.
const MASK80: u128 = (1 << 80) - 1;

/// The exception by its vector (Intel SDM vol. 3, table 6-1).
fn fault(vector: u32, cr2: u64) -> Fault {
    match vector {
        0 => Fault::Divide,
        1 => Fault::SingleStep,
        3 => Fault::Breakpoint,
        6 => Fault::InvalidOpcode,
        12 | 13 => Fault::GeneralProtection,
        14 => Fault::Page(cr2),
        16 => Fault::X87,
        17 => Fault::Alignment,
        19 => Fault::Simd,
        n => Fault::Other(n),
    }
}

/// Clears RFLAGS.ID: a signal's return leaves it as it is, so a POPF of a former case may have set it.
pub fn clear_id_flag() {
    // SAFETY: changes a flag that does nothing; the stack is balanced.
    unsafe { core::arch::asm!("pushfq", "and dword ptr [rsp], {}", "popfq", const !(1 << 21)) };
}

#[inline(always)]
pub fn breakpoint() {
    // NT goes first: a program may have set it by POPF, and the kernel's signal return leaves it as it is.
    // SAFETY: the handler is installed; it comes back here with every register as it was.
    unsafe { core::arch::asm!("pushfq", "btr qword ptr [rsp], 14", "popfq", "int3") };
}

//! The guest's CPU state as all three engines see it, and the tables translated code reaches through it.
//!
//! Translated code addresses fields by their byte offsets from the state pointer (`core::mem::offset_of!`),
//! so the layout is `repr(C)` and identical on both hosts.

/// Guest general-purpose registers in the order of their encoding (Intel SDM vol. 2, table 2-2..2-8).
pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RBX: usize = 3;
pub const RSP: usize = 4;
pub const RBP: usize = 5;
pub const RSI: usize = 6;
pub const RDI: usize = 7;
pub const R8: usize = 8;
pub const R9: usize = 9;
pub const R10: usize = 10;
pub const R11: usize = 11;

/// Bit positions in RFLAGS (Intel SDM vol. 1, 3.4.3).
pub mod rflags {
    pub const CF: u64 = 1 << 0;
    /// Bit 1 always reads as one.
    pub const RESERVED_ONE: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    /// Nested task: user code may set it, and nothing happens before an IRET.
    pub const NT: u64 = 1 << 14;
    /// Resume flag: set in what a fault saves, so that the instruction is tried again without a debug exception.
    pub const RF: u64 = 1 << 16;
    /// Alignment check: misaligned accesses raise #AC.
    pub const AC: u64 = 1 << 18;
    /// Programs toggle it to find out whether there is CPUID; nothing else happens.
    pub const ID: u64 = 1 << 21;
    pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;
}

/// Status and direction flags, each in a byte of its own (0 or 1), but for parity: `parity` holds the
/// result byte whose even parity *is* PF, because computing it costs more than it is ever used. The status flags are
/// here only where [`CpuState::origin`] says so.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagBytes {
    pub cf: u8,
    pub parity: u8,
    pub af: u8,
    pub zf: u8,
    pub sf: u8,
    pub of: u8,
    pub df: u8,
    /// Bit 0: AC, bit 1: ID, bit 2: TF, bit 3: NT, as last loaded by POPF.
    pub other: u8,
}

/// What the status flags come from, where nothing has computed them: code that doesn't see what follows (at a return, an
/// indirect branch, a call of code that it doesn't know) leaves an operation and its operands, and who reads a flag first
/// computes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagOrigin {
    /// The operation ([`origin`]); zero where the flags are in [`FlagBytes`].
    pub word: u32,
    pub _pad: u32,
    /// The operands. Bits above the operation's width mean nothing.
    pub x: u64,
    pub y: u64,
}

/// The fields of [`FlagOrigin::word`].
pub mod origin {
    /// The operation: these bits.
    pub const OPERATION: u32 = 7;
    /// `x` is the sum of a first operand, `y` and the carry.
    pub const ADD: u32 = 1;
    /// `x` less `y` and the carry.
    pub const SUB: u32 = 2;
    /// ZF, SF and PF by `x`; CF, OF and AF are clear.
    pub const LOGIC: u32 = 3;
    /// `x` has the flags at their places in RFLAGS, but for PF: from [`PARITY_PLACE`] on stands the byte whose even parity
    /// it is.
    pub const BITS: u32 = 4;
    pub const PARITY_PLACE: u32 = 16;
    /// The binary logarithm of the width in bytes: two bits from here on.
    pub const WIDTH_PLACE: u32 = 3;
    /// A carry goes into the operation.
    pub const CARRY_PLACE: u32 = 5;
    /// CF isn't the operation's but the next bit: INC and DEC leave it, shifts have a rule of their own.
    pub const HAS_OWN_CF: u32 = 1 << 6;
    pub const OWN_CF_PLACE: u32 = 7;
    /// The second operand is the word's upper bits from [`IMMEDIATE_PLACE`] on, sign-extended, and `y` means nothing.
    pub const IMMEDIATE: u32 = 1 << 8;
    pub const IMMEDIATE_PLACE: u32 = 12;

    /// The bits of a second operand in the word, where it fits.
    pub const fn immediate(v: i64) -> Option<u32> {
        let bits = (v as u32) << IMMEDIATE_PLACE;
        if (bits as i32 >> IMMEDIATE_PLACE) as i64 == v { Some(bits | IMMEDIATE) } else { None }
    }
}

impl FlagOrigin {
    /// The flags as [`origin::BITS`] has them; `None` where they are in bytes.
    pub fn bits(&self) -> Option<u64> {
        use origin::*;
        use rflags::{CF, OF, SF, ZF};
        let operation = self.word & OPERATION;
        if self.word == 0 || operation == BITS {
            return (self.word != 0).then_some(self.x);
        }
        let width = 8u32 << (self.word >> WIDTH_PLACE & 3);
        let mask = u64::MAX >> (64 - width);
        let sign = 1 << (width - 1);
        let y = if self.word & IMMEDIATE != 0 { (self.word as i32 >> IMMEDIATE_PLACE) as u64 } else { self.y };
        let (x, y, carry) = (self.x & mask, y & mask, u64::from(self.word >> CARRY_PLACE & 1));
        // The carry out of each bit (Intel SDM vol. 1, 3.4.3.1: CF is that of the highest, OF differs from that of the one
        // below it, AF is that of bit 3).
        let (r, carries) = match operation {
            ADD => {
                let a = x.wrapping_sub(y).wrapping_sub(carry) & mask;
                (x, a & y | (a | y) & !x)
            }
            SUB => {
                let r = x.wrapping_sub(y).wrapping_sub(carry) & mask;
                (r, !x & y | (!x | y) & r)
            }
            _ => (x, 0),
        };
        let bit = |on: u64, flag: u64| if on != 0 { flag } else { 0 };
        let cf = match self.word & HAS_OWN_CF {
            0 => carries & sign,
            _ => u64::from(self.word >> OWN_CF_PLACE & 1),
        };
        Some(
            bit(cf, CF)
                | (carries >> 3 & 1) << 4
                | bit(u64::from(r == 0), ZF)
                | bit(r & sign, SF)
                | bit((carries ^ carries << 1) & sign, OF)
                | (r & 0xff) << PARITY_PLACE,
        )
    }
}

impl FlagBytes {
    /// The bits of [`Self::other`] with which each instruction has to be looked at by itself: AC and TF.
    pub const WATCHED: u8 = 0b101;
    /// AC in [`Self::other`].
    pub const AC: u8 = 0b001;
    /// TF in [`Self::other`].
    pub const TRAP: u8 = 0b100;

    /// Whether TF or AC is set: code runs instruction by instruction then.
    #[inline]
    pub fn are_watched(&self) -> bool {
        self.other & Self::WATCHED != 0
    }
}

/// Numbers of the segment registers as instructions encode them (Intel SDM vol. 2, table 2-8 and B-8).
pub mod segment {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
    /// The code and the stack segment of 64-bit programs under Linux (arch/x86/include/asm/segment.h: `__USER_CS`,
    /// `__USER_DS`).
    pub const USER_CS: u16 = 0x33;
    pub const USER_DS: u16 = 0x2b;
}

/// One x87 register as FXSAVE stores it: 80 significant bits in 16 bytes.
pub type X87Reg = [u8; 16];

/// x87 and MMX state; registers in *physical* order (MMX `mmN` is `reg[N]`'s low 8 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X87State {
    pub reg: [X87Reg; 8],
    /// Control word.
    pub fcw: u16,
    /// Status word; TOP in bits 11..13.
    pub fsw: u16,
    /// Abridged tag, as in FXSAVE: bit N set means physical register N is in use.
    pub ftw: u8,
    pub _pad: u8,
    pub fop: u16,
    pub fip: u64,
    pub fdp: u64,
}

impl X87State {
    /// The exception flags in the status word, and the masks in the control word (Intel SDM vol. 1, 8.1.3.3 and 8.1.5).
    pub const EXCEPTIONS: u16 = 0x3f;
    /// The status word's summary: ES, and B, which only follows it (8.1.3.3).
    pub const SUMMARY: u16 = 0x8080;
    /// What FOP has of an instruction: the low three bits of the first opcode byte, and the second (8.1.9).
    pub const OPCODE: u16 = 0x7ff;

    /// Takes over a control word. Of its reserved bits, bit 6 is always set and the others never (8.1.5).
    pub fn set_control(&mut self, fcw: u16) {
        self.fcw = fcw & 0x1f7f | 1 << 6;
        self.summarise();
    }

    /// Sets ES and B if a flag is set that the control word doesn't mask, and clears them otherwise: whoever loads one of
    /// the two words does that, whatever the loaded ES is.
    pub fn summarise(&mut self) {
        let pending = self.fsw & !self.fcw & Self::EXCEPTIONS != 0;
        self.fsw = self.fsw & !Self::SUMMARY | if pending { Self::SUMMARY } else { 0 };
    }
}

impl Default for X87State {
    /// The state after FNINIT (Intel SDM vol. 1, 8.1.8 and table 11-1).
    fn default() -> Self {
        Self { reg: [[0; 16]; 8], fcw: 0x037f, fsw: 0, ftw: 0, _pad: 0, fop: 0, fip: 0, fdp: 0 }
    }
}

/// A vector register, little-endian, 512 bits; XMM is its low 16 bytes, YMM its low 32.
pub type VecReg = [u8; 64];

/// Bits of MXCSR (Intel SDM vol. 1, 10.2.3).
pub mod mxcsr {
    /// Invalid operation, and the other exception flags.
    pub const IE: u32 = 1 << 0;
    /// Denormal operand.
    pub const DE: u32 = 1 << 1;
    /// Division by zero.
    pub const ZE: u32 = 1 << 2;
    /// Overflow.
    pub const OE: u32 = 1 << 3;
    /// Underflow.
    pub const UE: u32 = 1 << 4;
    /// Inexact result.
    pub const PE: u32 = 1 << 5;
    /// All flags.
    pub const FLAGS: u32 = 0x3f;
    /// Denormal operands are taken for zeros.
    pub const DAZ: u32 = 1 << 6;
    /// The first of the masks, in the flags' order.
    pub const MASKS_FROM: u32 = 7;
    /// All masks.
    pub const MASKS: u32 = FLAGS << MASKS_FROM;
    /// The mask of overflow.
    pub const OM: u32 = OE << MASKS_FROM;
    /// The mask of underflow.
    pub const UM: u32 = UE << MASKS_FROM;
    /// Tiny results become zeros.
    pub const FTZ: u32 = 1 << 15;
}

/// MXCSR after reset: all exceptions masked, round to nearest (Intel SDM vol. 1, 11.6.4).
pub const MXCSR_DEFAULT: u32 = 0x1f80;

/// A direct exit of a translated block or region: translated code jumps to `*code` with the slot's own
/// address in the second argument register. Unlinked slots point at the runtime's link stub, which
/// asks the dispatcher for `guest_pc` and then patches `code`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LinkSlot {
    pub code: u64,
    pub guest_pc: u64,
}

/// One entry of the in-line table for indirect branches: guest pc to host code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupEntry {
    /// Guest address; one whose index is another when the entry is empty.
    pub guest_pc: u64,
    /// The block-ABI entry.
    pub code: u64,
    /// The same for callers that have the [`PASSED`] registers at hand.
    pub passed: u64,
    pub _pad: u64,
}

/// Guest registers that tier 2 passes to tier 2 in host registers, besides having them in the state: who is entered needs
/// not load them, and the chain of stack pointers doesn't go through memory.
pub const PASSED: [usize; 4] = [RSP, RDI, RSI, RBX];

/// Guest registers that come back from a guest return in host registers, behind the guest address, and in the state as well.
pub const RETURNED: [usize; 2] = [RAX, RSP];

/// Entries of the per-thread indirect-branch table; index of a target is [`lookup_index`]. What isn't there may be in the
/// second place, at [`second_place`], where [`CpuState::missed_stub`] looks.
pub const LOOKUP_ENTRIES: usize = 1 << 14;

/// Table index of a guest pc. Emitted in line by the back ends, so it stays this simple:
/// `(pc ^ pc >> 12) & (LOOKUP_ENTRIES - 1)`.
pub const fn lookup_index(pc: u64) -> usize {
    ((pc ^ (pc >> 12)) & (LOOKUP_ENTRIES as u64 - 1)) as usize
}

/// The other place for what belongs at an index: its neighbour, in the same line of the host's cache.
pub const fn second_place(index: usize) -> usize {
    index ^ 1
}

/// Why translated code (or the interpreter) came back to the dispatcher.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Go on at `rip`; nothing special.
    Continue = 0,
    /// An unlinked [`LinkSlot`] was taken; its address is in `link_slot`; `rip` is set by the dispatcher.
    Link = 1,
    /// `syscall`: `rip` is behind it; rcx and r11 are written by the runtime.
    Syscall = 2,
    /// A hot tier-1 block asks for promotion; `rip` is its entry, `exit_arg` its block id.
    Promote = 3,
    /// `pending` was seen non-zero at a safepoint; `rip` is where to go on.
    Safepoint = 4,
    /// A synchronous exception; `exit_arg` is a [`Trap`] and `rip` the faulting instruction
    /// (for `Breakpoint` and `Debug`, the next one, as on hardware).
    Trap = 5,
    /// An instruction that isn't implemented, at `rip`; the runtime names it and delivers SIGILL.
    Unimplemented = 6,
    /// Code at `rip` can't be fetched (unmapped or not executable): SIGSEGV at the fetch.
    FetchFault = 7,
    /// `int 0x80`, a system call of 32-bit programs; `rip` is behind it.
    LegacySyscall = 8,
}

impl ExitReason {
    /// By number.
    pub const ALL: [Self; 9] = [
        Self::Continue,
        Self::Link,
        Self::Syscall,
        Self::Promote,
        Self::Safepoint,
        Self::Trap,
        Self::Unimplemented,
        Self::FetchFault,
        Self::LegacySyscall,
    ];

    /// The reason with this number, as translated code stores it.
    #[inline]
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.get(n as usize).copied()
    }
}

/// x86 exceptions that guest code raises by itself (vectors of Intel SDM vol. 3, 6.3.1).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// #DE: SIGFPE, FPE_INTDIV.
    Divide = 0,
    /// #DB by `int1`: SIGTRAP. (Single steps are the dispatcher's.)
    Debug = 1,
    /// #BP, `int3`: SIGTRAP.
    Breakpoint = 3,
    /// #OF by `int 4`: SIGSEGV, SI_KERNEL, address 0, with `rip` behind it.
    Overflow = 4,
    /// #UD, `ud2`: SIGILL, ILL_ILLOPN.
    InvalidOpcode = 6,
    /// #SS: SIGBUS, SI_KERNEL, address 0 (a non-canonical address in the stack segment).
    StackFault = 12,
    /// #GP: SIGSEGV, SI_KERNEL, address 0 (misaligned `movaps`, privileged instructions, non-canonical addresses). Its
    /// error code is in [`CpuState::error_code`].
    GeneralProtection = 13,
    /// #MF: x87 exception, SIGFPE.
    X87 = 16,
    /// #AC: SIGBUS, BUS_ADRALN.
    Alignment = 17,
    /// #XM: unmasked SSE exception, SIGFPE.
    Simd = 19,
}

impl Trap {
    pub const ALL: [Self; 10] = [
        Self::Divide,
        Self::Debug,
        Self::Breakpoint,
        Self::Overflow,
        Self::InvalidOpcode,
        Self::StackFault,
        Self::GeneralProtection,
        Self::X87,
        Self::Alignment,
        Self::Simd,
    ];

    /// The trap with this vector number.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u32 == n)
    }
}

/// The state of one guest thread, and its doors to the runtime.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct CpuState {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub flags: FlagBytes,
    pub origin: FlagOrigin,
    pub fs_base: u64,
    pub gs_base: u64,
    /// The guest's MXCSR *control* bits are live in the host's FP control register while guest code runs;
    /// its sticky exception bits are collected by the `StoreMxcsr` helper.
    pub mxcsr: u32,
    /// Non-zero when a safepoint must leave translated code (signal arrived, code invalidated).
    pub pending: u32,
    /// [`ExitReason`] of the last exit.
    pub exit_reason: u32,
    /// Argument of the exit: a [`Trap`] or a block id.
    pub exit_arg: u32,
    /// The error code of a #GP, zero but while the exception is on its way to the runtime.
    pub error_code: u32,
    /// Always zero: for accesses that change nothing and that no compiler may leave out because it sees so.
    pub zero: u32,
    /// Selectors, by [`segment`]'s numbers. The bases of FS and GS are apart.
    pub selectors: [u16; 8],
    /// Address of the [`LinkSlot`] that was taken unlinked.
    pub link_slot: u64,
    /// Address of `[LookupEntry; LOOKUP_ENTRIES]`.
    pub lookup: u64,
    /// Address where translated code leaves to the dispatcher (block ABI: state pointer in the first argument register).
    pub exit_stub: u64,
    /// Address where code goes on that hasn't found its target at its index of the table for indirect branches: `rip` and
    /// `exit_reason` are as for leaving, which it does if the second place hasn't the target either.
    pub missed_stub: u64,
    /// Address that unlinked slots point at.
    pub link_stub: u64,
    /// Address of the [`crate::state::HELPER_COUNT`] helper entry points, in the order of [`Helper`].
    pub helpers: u64,
    /// The host stack pointer to return to; owned by the runtime's entry trampoline.
    pub host_sp: u64,
    /// Host stack pointers below this one are too deep for another call: code leaves instead, which empties the stack.
    pub stack_limit: u64,
    /// Counts the instructions of tier 0, for `--stats`.
    pub interpreted: u64,
    /// MXCSR, and the host's floating-point registers for control and status, while an instruction runs in a mode of its
    /// own ([`Helper::BeginStaticRounding`]).
    pub suspended_mxcsr: u32,
    pub suspended_host: [u32; 2],
    pub x87: X87State,
    /// AVX-512 mask registers.
    pub k: [u64; 8],
    pub vec: [VecReg; 32],
    /// Operands and results too wide for a helper's argument registers.
    pub scratch: [VecReg; 4],
    /// Address of the runtime's description of the processor that the guest sees; zero for one with all that is implemented.
    pub processor: u64,
    /// What is added to the host's time stamps: those of a captured process go on.
    pub timestamp_offset: u64,
}

impl Default for CpuState {
    fn default() -> Self {
        Self {
            gpr: [0; 16],
            rip: 0,
            flags: FlagBytes { parity: 1, ..FlagBytes::default() },
            origin: FlagOrigin::default(),
            fs_base: 0,
            gs_base: 0,
            mxcsr: MXCSR_DEFAULT,
            pending: 0,
            exit_reason: 0,
            exit_arg: 0,
            error_code: 0,
            zero: 0,
            selectors: {
                let mut selectors = [0; 8];
                selectors[segment::CS] = segment::USER_CS;
                selectors[segment::SS] = segment::USER_DS;
                selectors
            },
            link_slot: 0,
            lookup: 0,
            exit_stub: 0,
            missed_stub: 0,
            link_stub: 0,
            helpers: 0,
            host_sp: 0,
            stack_limit: 0,
            interpreted: 0,
            suspended_mxcsr: 0,
            suspended_host: [0; 2],
            x87: X87State::default(),
            k: [0; 8],
            vec: [[0; 64]; 32],
            scratch: [[0; 64]; 4],
            processor: 0,
            timestamp_offset: 0,
        }
    }
}

impl CpuState {
    /// The status flags, as [`origin::BITS`] has them.
    pub fn status_bits(&self) -> u64 {
        let f = &self.flags;
        self.origin.bits().unwrap_or_else(|| {
            let bits = [(f.cf, 0), (f.af, 4), (f.zf, 6), (f.sf, 7), (f.of, 11)];
            let parity = u64::from(f.parity) << origin::PARITY_PLACE;
            bits.into_iter().fold(parity, |all, (on, place)| all | u64::from(on & 1) << place)
        })
    }

    /// Has the status flags in their bytes.
    pub fn settle_flags(&mut self) {
        let Some(bits) = self.origin.bits() else { return };
        let bit = |place: u32| (bits >> place & 1) as u8;
        self.flags = FlagBytes {
            cf: bit(0),
            parity: (bits >> origin::PARITY_PLACE) as u8,
            af: bit(4),
            zf: bit(6),
            sf: bit(7),
            of: bit(11),
            ..self.flags
        };
        self.origin.word = 0;
    }

    /// RFLAGS as PUSHF would push it in user mode (IF and the reserved bit set).
    pub fn rflags(&self) -> u64 {
        use rflags::*;
        let (f, status) = (&self.flags, self.status_bits());
        let parity = (status >> origin::PARITY_PLACE) as u8;
        let bit = |on: bool, mask: u64| if on { mask } else { 0 };
        RESERVED_ONE
            | IF
            | status & STATUS & !PF
            | bit(parity.count_ones().is_multiple_of(2), PF)
            | bit(f.df != 0, DF)
            | bit(f.other & 1 != 0, AC)
            | bit(f.other & 2 != 0, ID)
            | bit(f.other & 4 != 0, TF)
            | bit(f.other & 8 != 0, NT)
    }

    /// Takes over what user mode may change of RFLAGS.
    pub fn set_rflags(&mut self, value: u64) {
        use rflags::*;
        let on = |mask: u64| u8::from(value & mask != 0);
        self.origin = FlagOrigin::default();
        self.flags = FlagBytes {
            cf: on(CF),
            parity: 1 - on(PF),
            af: on(AF),
            zf: on(ZF),
            sf: on(SF),
            of: on(OF),
            df: on(DF),
            other: on(AC) | on(ID) << 1 | on(TF) << 2 | on(NT) << 3,
        };
    }
}

/// Functions of the runtime that translated code calls through [`CpuState::helpers`], with the C calling
/// convention `fn(state, a0, a1, a2, a3) -> u64` (unused arguments may be left out by the caller's signature).
/// A *pure* helper reads and writes no guest register, flag or memory; the others see the whole state in memory,
/// `rip` at the instruction, and may change it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Helper {
    /// CPUID by eax and ecx; writes eax, ebx, ecx, edx.
    Cpuid,
    /// XGETBV by ecx; writes edx:eax. Returns 1 for #GP (no such register).
    Xgetbv,
    /// RDTSC; writes edx:eax.
    Rdtsc,
    /// LDMXCSR with the new value as a0; returns 0, 1 for #GP (reserved bits), or 2 if other code than now has to go on
    /// after the instruction.
    LoadMxcsr,
    /// STMXCSR: returns the guest's MXCSR with the sticky bits the host has gathered.
    StoreMxcsr,
    /// FXSAVE to the guest address a0; a1 non-zero for the REX.W form.
    Fxsave,
    /// FXRSTOR from the guest address a0; a1 non-zero for the REX.W form; returns what `LoadMxcsr` does.
    Fxrstor,
    /// Pure. Unsigned (a1:a0) / a2 for 64-bit operands when the quotient is known to fit; returns the quotient.
    /// Used only where the high half isn't a plain extension.
    UdivWide,
    /// Pure. Remainder of the same.
    UremWide,
    /// Pure. Signed forms of the two.
    SdivWide,
    SremWide,
    /// Pure, but for the exception flags. A floating-point operation by MXCSR's modes: a0 says which
    /// (`xlate_x86::interpreter::float::Operation`), a1 and a2 are its operands' bits; returns the result's.
    Float,
    /// Pure. CRC32C step: a0 the accumulator, a1 the data, a2 its size in bytes.
    Crc32c,
    /// REP MOVS in bulk: a0 = element size in bytes. Moves as many of the rcx elements as it can prove to be
    /// equal to the element-wise meaning, updating rsi, rdi, rcx as it goes; the caller's loop does the rest.
    RepMovs,
    /// REP STOS in bulk: a0 = element size in bytes; as above with rax, rdi, rcx.
    RepStos,
    /// RDRAND/RDSEED: returns 64 random bits; never fails.
    Random,
    /// RDPID/RDTSCP's processor number.
    ProcessorId,
    /// Pure. The comparisons of PCMPxSTRx: a0 is the immediate and the valid elements, a1 and a2 are the first
    /// operand, a3 and a4 the second one; returns IntRes1 (see `xlate_x86::string_compare`).
    StringCompare,
    /// An instruction on the x87 register stack: a0 is the request, a1 and a2 its operand, a3 the operand's offset in
    /// memory (see `xlate_x86::x87::unit`).
    X87,
    /// Has the status flags in their bytes ([`CpuState::settle_flags`]). It changes nothing else.
    SettleFlags,
    /// Returns the status flags ([`CpuState::status_bits`]). It changes nothing.
    StatusBits,
    /// What a segment selector stands for, or its load into a segment register: a0 is the request, a1 the selector (see
    /// `xlate_x86::segments`).
    Segment,
    /// FNSTENV and FNSAVE to the guest address a0; a1 is the form (see `xlate_x86::x87::environment`).
    X87Store,
    /// FLDENV and FRSTOR from the guest address a0; a1 is the form.
    X87Load,
    /// An operation on whole vectors: a0 is the request (see `xlate_x86::wide`), a1 an immediate; the operands are in
    /// [`CpuState::scratch`] from its first place on, the resulting vector is in the first; returns the resulting bits where
    /// there is no vector. It touches nothing else but the floating-point exception flags.
    Wide,
    /// Loads the lanes that a mask names: a0 is the guest address, a1 the mask, a2 the lanes' size in bytes; the result, zero
    /// in the other lanes, is in the first place of [`CpuState::scratch`]. Only those lanes are accessed.
    LoadMasked,
    /// Stores the lanes of the first place of [`CpuState::scratch`] that a mask names, all or none: arguments as above.
    StoreMasked,
    /// Gathers and scatters lane by lane, with the registers as they are after the last lane done if one faults: a0 is the
    /// request (see `xlate_x86::vector::gather`), a1 the address without indexes and segment base, a2 the segment base.
    Gather,
    Scatter,
    /// The instruction at hand rounds as a0 says (`xlate_x86::emitter::Rounding`), and raises no exceptions: until
    /// `EndStaticRounding` MXCSR and the host's mode are others.
    BeginStaticRounding,
    EndStaticRounding,
    /// XSAVE, XSAVEOPT or XSAVEC by edx:eax to the guest address a0; a1 is the form ([`xsave`]).
    Xsave,
    /// XRSTOR by edx:eax from the guest address a0; a1 is the form. Returns what `LoadMxcsr` does.
    Xrstor,
}

/// The forms of [`Helper::Xsave`] and [`Helper::Xrstor`].
pub mod xsave {
    /// The x87 unit's pointers have 64 bits (REX.W).
    pub const WIDE: u64 = 1;
    /// Components in their initial state may be left out (XSAVEOPT).
    pub const OPTIMISED: u64 = 2;
    /// They are left out, and the others stand one after the other (XSAVEC).
    pub const COMPACTED: u64 = 4;
}

impl Helper {
    pub const ALL: [Self; HELPER_COUNT] = [
        Self::Cpuid,
        Self::Xgetbv,
        Self::Rdtsc,
        Self::LoadMxcsr,
        Self::StoreMxcsr,
        Self::Fxsave,
        Self::Fxrstor,
        Self::UdivWide,
        Self::UremWide,
        Self::SdivWide,
        Self::SremWide,
        Self::Float,
        Self::Crc32c,
        Self::RepMovs,
        Self::RepStos,
        Self::Random,
        Self::ProcessorId,
        Self::StringCompare,
        Self::X87,
        Self::SettleFlags,
        Self::StatusBits,
        Self::Segment,
        Self::X87Store,
        Self::X87Load,
        Self::Wide,
        Self::LoadMasked,
        Self::StoreMasked,
        Self::Gather,
        Self::Scatter,
        Self::BeginStaticRounding,
        Self::EndStaticRounding,
        Self::Xsave,
        Self::Xrstor,
    ];

    /// Byte offset of the entry point in the helper table.
    pub const fn table_offset(self) -> usize {
        self as usize * 8
    }

    /// Whether calling it raises floating-point exception flags, so that it has to be called wherever it stands.
    pub const fn raises_flags(self) -> bool {
        matches!(self, Self::Float)
    }

    /// Whether the helper reads or writes [`CpuState::scratch`] or the floating-point mode, so that it can't be moved.
    pub const fn has_effects(self) -> bool {
        matches!(self, Self::Wide | Self::BeginStaticRounding | Self::EndStaticRounding)
    }

    /// Whether the helper touches no guest register, flag or memory, so that the caller need not write back registers.
    pub const fn is_pure(self) -> bool {
        matches!(
            self,
            Self::UdivWide
                | Self::UremWide
                | Self::SdivWide
                | Self::SremWide
                | Self::Float
                | Self::Crc32c
                | Self::StringCompare
                | Self::Wide
                | Self::BeginStaticRounding
                | Self::EndStaticRounding
        )
    }
}

/// Number of [`Helper`]s.
pub const HELPER_COUNT: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helper_numbers_follow_the_table() {
        for (i, h) in Helper::ALL.iter().enumerate() {
            assert_eq!(*h as usize, i);
        }
    }

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        for reason in ExitReason::ALL {
            assert_eq!(ExitReason::from_u32(reason as u32), Some(reason));
        }
        assert_eq!(ExitReason::from_u32(ExitReason::ALL.len() as u32), None);
    }

    /// RFLAGS where the status flags come from this.
    fn status(word: u32, x: u64, y: u64) -> u64 {
        let state = CpuState { origin: FlagOrigin { word, _pad: 0, x, y }, ..CpuState::default() };
        let mut settled = state.clone();
        settled.settle_flags();
        assert_eq!((settled.rflags(), settled.origin.word), (state.rflags(), 0));
        state.rflags() & rflags::STATUS
    }

    #[test]
    fn flags_come_from_an_operation() {
        use origin::*;
        use rflags::*;
        let (bytes, longs) = (0, 2 << WIDTH_PLACE);
        // 0xff + 1, whatever stands above a byte.
        assert_eq!(status(ADD | bytes, 0x5500, 0x6601), CF | PF | AF | ZF);
        assert_eq!(status(ADD | bytes, 0x80, 0x01), SF | OF | AF);
        // 0x7f + 0x7f + 1 and 0 + 0xff + 1
        assert_eq!(status(ADD | bytes | 1 << CARRY_PLACE, 0xff, 0x7f), PF | AF | SF | OF);
        assert_eq!(status(ADD | bytes | 1 << CARRY_PLACE, 0, 0xff), CF | PF | AF | ZF);
        assert_eq!(status(SUB | longs, 1, 2), CF | PF | AF | SF);
        assert_eq!(status(SUB | longs, 0x8000_0000, 1), OF | PF | AF);
        // 3 - 2 - 1 and 0 - 0xffff_ffff - 1
        assert_eq!(status(SUB | longs | 1 << CARRY_PLACE, 3, 2), PF | ZF);
        assert_eq!(status(SUB | longs | 1 << CARRY_PLACE, 0, 0xffff_ffff), CF | PF | AF | ZF);
        assert_eq!(status(LOGIC | longs, 0x8000_0003, 0), SF | PF);
        let decremented = SUB | longs | HAS_OWN_CF | immediate(1).expect("it is small");
        assert_eq!(status(decremented, 0, 77), SF | PF | AF);
        assert_eq!(status(decremented | 1 << OWN_CF_PLACE, 1, 77), CF | ZF | PF);
        assert_eq!(status(BITS, CF | OF | 1 << PARITY_PLACE, 0), CF | OF);
    }

    #[test]
    fn small_operands_stand_in_the_word() {
        use origin::*;
        for v in [0, 1, -1, 0x7_ffff, -0x8_0000] {
            let word = immediate(v).expect("it fits");
            assert_eq!((word as i32 >> IMMEDIATE_PLACE, word & 0xfff), (v as i32, IMMEDIATE));
        }
        assert_eq!([0x8_0000, -0x8_0001, 1 << 40].map(immediate), [None; 3]);
    }

    #[test]
    fn a_loaded_control_word_decides_what_is_pending() {
        let mut x = X87State { fsw: 0xe4ca, ..X87State::default() };
        x.set_control(0xe33f);
        assert_eq!((x.fcw, x.fsw), (0x037f, 0x644a));
        x.set_control(0x037d);
        assert_eq!(x.fsw, 0xe4ca);
    }

    #[test]
    fn rflags_round_trip() {
        let mut s = CpuState::default();
        for v in [0u64, rflags::STATUS, rflags::DF | rflags::CF, rflags::PF, rflags::AC | rflags::ID, rflags::NT] {
            s.set_rflags(v);
            assert_eq!(s.rflags(), v | rflags::RESERVED_ONE | rflags::IF);
        }
    }
}

//! Runs one instruction on the CPU and in the interpreter, from the same state, and compares what they leave.

use core::arch::asm;

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind, Register};
use xlate_abi::state::{CpuState, ExitReason, HELPER_COUNT, Helper, rflags};
use xlate_x86::decode::{SliceSource, decode_block};
use xlate_x86::interpreter::run_block;
use xlate_x86::string_compare::string_compare;
use xlate_x86::x87::unit;

/// SplitMix64: small, and the same on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const SINGLES: [u32; 22] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_1234,
    0x7f80_0001,
    0xffa0_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x4f00_0000,
    0xcf00_0000,
    0x4eff_ffff,
    0x5f00_0000,
    0x3f00_0000,
    0x4020_0000,
    0xc060_0000,
];
const DOUBLES: [u64; 22] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_1234,
    0x7ff0_0000_0000_0001,
    0xfff4_0000_2000_0000,
    1,
    0x8000_0000_0000_0001,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x41df_ffff_ffe0_0000,
    0x41e0_0000_0000_0000,
    0xc1e0_0000_0020_0000,
    0x43e0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x4004_0000_0000_0000,
    0x36a0_0000_0000_0001,
];

/// Any register of the kind, none that the native runner or the memory operand needs (r15, rsp, rsi, rdi).
fn register(kind: OpCodeOperandKind, rng: &mut Rng) -> Option<Register> {
    use OpCodeOperandKind as K;
    const GPR: [u32; 12] = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14];
    let base = match kind {
        K::xmm_reg | K::xmm_rm | K::xmm_or_mem => {
            return Some(Register::XMM0 + rng.below(16) as u32);
        }
        K::mm_reg | K::mm_rm | K::mm_or_mem => return Some(Register::MM0 + rng.below(8) as u32),
        K::r32_reg | K::r32_rm | K::r32_or_mem => Register::EAX,
        K::r64_reg | K::r64_rm | K::r64_or_mem => Register::RAX,
        K::st0 => return Some(Register::ST0),
        K::sti_opcode => return Some(Register::ST0 + rng.below(8) as u32),
        _ => return None,
    };
    Some(base + GPR[rng.below(GPR.len() as u64) as usize])
}

/// A random instruction of this code; memory operands are at [rsi], string-like ones at [rdi].
pub fn generate(code: Code, rng: &mut Rng) -> Instruction {
    use OpCodeOperandKind as K;
    let mut i = Instruction::new();
    i.set_code(code);
    let info = code.op_code();
    for n in 0..info.op_count() {
        let kind = info.op_kind(n);
        let may_be_memory = matches!(kind, K::mem | K::xmm_or_mem | K::mm_or_mem | K::r32_or_mem | K::r64_or_mem);
        if kind == K::imm8 {
            i.set_op_kind(n, OpKind::Immediate8);
            i.set_immediate8(rng.next() as u8 >> (4 * rng.below(2)));
        } else if kind == K::seg_rDI {
            i.set_op_kind(n, OpKind::MemorySegRDI);
        } else if may_be_memory && (kind == K::mem || rng.below(3) == 0) {
            i.set_op_kind(n, OpKind::Memory);
            let at = MemoryOperand::with_base_displ(Register::RSI, 16 * rng.below(3) as i64);
            i.set_memory_base(at.base);
            i.set_memory_displacement64(at.displacement as u64);
            i.set_memory_displ_size(1);
        } else {
            let r = register(kind, rng).unwrap_or_else(|| panic!("{code:?}: operand {kind:?}"));
            i.set_op_kind(n, OpKind::Register);
            i.set_op_register(n, r);
        }
    }
    i
}

/// Eight bytes: noise, float edge cases, floats of moderate size, small integers.
fn word(rng: &mut Rng, kind: u64) -> u64 {
    let single = |rng: &mut Rng| rng.next() as u32 & 0x81ff_ffff | 0x3e00_0000;
    match kind {
        0 => rng.next(),
        1 => u64::from(rng.pick(&SINGLES)) | u64::from(rng.pick(&SINGLES)) << 32,
        2 => rng.pick(&DOUBLES),
        3 => u64::from(single(rng)) | u64::from(single(rng)) << 32,
        4 => rng.next() & 0x80ff_ffff_ffff_ffff | 0x3f80_0000_0000_0000,
        5 => rng.below(80),
        6 => rng.next() & rng.next() & 0xff00_ff80_80ff_7f00,
        _ => (rng.below(200_000) as f64 / 8.0 - 10_000.0).to_bits(),
    }
}

/// An 80-bit value: moderate, integral, extreme, special, or of a kind the unit doesn't support.
fn extended(rng: &mut Rng) -> [u8; 10] {
    let integer_bit = 1u64 << 63;
    let (top, mantissa) = match rng.below(8) {
        0 => (rng.next() as u16, rng.next()),
        1 => (rng.pick(&[0, 0x8000, 0x3fff, 0xc000]), rng.pick(&[0, 1, integer_bit, u64::MAX])),
        2 => (rng.pick(&[0x7fff, 0xffff]), rng.pick(&[integer_bit, integer_bit | 7, 3 << 62 | 9, u64::MAX, 5])),
        3 => (0x3fff + 62 - rng.below(8) as u16, rng.next() | integer_bit),
        4 => (0x403e - rng.below(70) as u16, integer_bit | rng.next() << 40),
        5 => (0x3c00 + rng.below(0x800) as u16, rng.next() | integer_bit),
        _ => {
            ((0x3ff0 + rng.below(32) as u16) | rng.next() as u16 & 0x8000, integer_bit | rng.next() & rng.next() << 20)
        }
    };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
    bytes[8..].copy_from_slice(&top.to_le_bytes());
    bytes
}

fn fill(rng: &mut Rng, bytes: &mut [u8]) {
    let kind = rng.below(8);
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&word(rng, kind).to_le_bytes());
    }
}

/// What the native runner loads and stores; the code addresses it by these offsets.
#[repr(C, align(64))]
#[derive(Clone)]
struct Frame {
    fx_in: [u8; 512],
    fx_out: [u8; 512],
    gpr: [u64; 16],
    flags: u64,
    default_mxcsr: u32,
}

const GPR_OFFSET: i32 = 1024;
const FLAGS_OFFSET: i32 = GPR_OFFSET + 128;
const MXCSR_OFFSET: i32 = FLAGS_OFFSET + 8;

/// Registers the runner exchanges: all but rsp and r15, which holds the frame.
fn exchanged() -> impl Iterator<Item = usize> {
    (0..15).filter(|n| *n != 4)
}

/// An executable page and a data buffer.
pub struct Machine {
    page: *mut u8,
    data: Box<Data>,
}

const PAGE: usize = 4096;

#[repr(align(64))]
#[derive(Clone, PartialEq)]
struct Data([u8; 128]);

/// The mmap system call (number 9): this crate has no libc.
fn map_executable() -> *mut u8 {
    let at: *mut u8;
    // SAFETY: a fresh private anonymous mapping disturbs nothing.
    unsafe {
        asm!("syscall", inlateout("rax") 9usize => at, in("rdi") 0, in("rsi") PAGE, in("rdx") 7, in("r10") 0x22,
            in("r8") -1, in("r9") 0, out("rcx") _, out("r11") _);
    }
    assert!((at as isize) > 0, "mmap: {}", at as isize);
    at
}

impl Machine {
    pub fn new() -> Self {
        Self { page: map_executable(), data: Box::new(Data([0; 128])) }
    }

    /// Loads the frame, runs the instruction, stores the frame.
    fn run(&mut self, frame: &mut Frame, instruction: &[u8]) {
        let mut code = Vec::new();
        // push rbx rbp r12 r13 r14 r15; mov r15, rdi; fxrstor64 [r15]; push [r15+flags]; popfq
        code.extend([0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]);
        code.extend([0x49, 0x89, 0xff, 0x49, 0x0f, 0xae, 0x0f, 0x41, 0xff, 0xb7]);
        code.extend(FLAGS_OFFSET.to_le_bytes());
        code.push(0x9d);
        for n in exchanged() {
            mov_register(&mut code, 0x8b, n);
        }
        code.extend(instruction);
        for n in exchanged() {
            mov_register(&mut code, 0x89, n);
        }
        // pushfq; pop [r15+flags]; fxsave64 [r15+512]; fninit; ldmxcsr [r15+mxcsr]; cld
        code.extend([0x9c, 0x41, 0x8f, 0x87]);
        code.extend(FLAGS_OFFSET.to_le_bytes());
        code.extend([0x49, 0x0f, 0xae, 0x87, 0, 2, 0, 0, 0xdb, 0xe3, 0x41, 0x0f, 0xae, 0x97]);
        code.extend(MXCSR_OFFSET.to_le_bytes());
        code.extend([0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        assert!(code.len() < PAGE);
        // SAFETY: the page is ours, writable and executable, and the code keeps the C calling convention.
        unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), self.page, code.len());
            let run: extern "C" fn(*mut Frame) = core::mem::transmute(self.page);
            run(frame);
        }
    }
}

/// mov r64, [r15+8n] or the reverse.
fn mov_register(code: &mut Vec<u8>, opcode: u8, n: usize) {
    let rex = 0x49 | if n >= 8 { 4 } else { 0 };
    code.extend([rex, opcode, 0x87 | ((n as u8 & 7) << 3)]);
    code.extend((GPR_OFFSET + 8 * n as i32).to_le_bytes());
}

fn mxcsr() -> u32 {
    let mut v = 0u32;
    // SAFETY: stores four bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut v) };
    v
}

fn set_mxcsr(v: u32) {
    // SAFETY: all exceptions are masked in the values used here.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &v) };
}

/// One instruction and the state it starts from.
pub struct Case {
    instruction: Instruction,
    bytes: Vec<u8>,
    state: CpuState,
    data: Data,
}

/// MXCSR: the rounding modes, FTZ, DAZ, and both, all exceptions masked.
const MODES: [u32; 8] = [0x1f80, 0x1f80, 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9f80, 0x9fc0];

impl Case {
    pub fn random(instruction: Instruction, rng: &mut Rng) -> Self {
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, 0x1000).unwrap_or_else(|e| panic!("{:?}: {e}", instruction.code()));
        let mut state = CpuState::default();
        for r in state.vec.iter_mut() {
            fill(rng, r);
        }
        for r in state.x87.reg.iter_mut() {
            fill(rng, &mut r[..8]);
            r[8..10].copy_from_slice(&[0xff, 0xff]);
        }
        for r in state.gpr.iter_mut() {
            let kind = rng.pick(&[0, 0, 1, 5]);
            *r = word(rng, kind);
        }
        state.set_rflags(rng.next() & rflags::STATUS);
        state.mxcsr = rng.pick(&MODES);
        let mut data = Data([0; 128]);
        fill(rng, &mut data.0[..64]);
        fill(rng, &mut data.0[64..]);
        Self { instruction, bytes: encoder.take_buffer(), state, data }
    }

    /// A case with x87 values in the registers, any TOP, some registers empty, any rounding and precision control.
    pub fn random_x87(instruction: Instruction, rng: &mut Rng) -> Self {
        let mut case = Self::random(instruction, rng);
        let x = &mut case.state.x87;
        for r in x.reg.iter_mut() {
            *r = [0; 16];
            r[..10].copy_from_slice(&extended(rng));
        }
        x.fsw = rng.next() as u16 & 0x3800;
        x.ftw = if rng.below(3) == 0 { rng.next() as u8 } else { 0xff };
        x.fcw = 0x7f | (rng.next() as u16 & 0xc00) | rng.pick(&[0x300, 0x300, 0x200, 0]);
        fill(rng, &mut case.data.0[..16]);
        if rng.below(2) == 0 {
            for n in 0..4 {
                case.data.0[16 * n..][..10].copy_from_slice(&extended(rng));
            }
        }
        case.keep_defined();
        case
    }

    /// Keeps operands where the instruction is defined (SDM vol. 2, F2XM1, FYL2XP1, FBLD).
    fn keep_defined(&mut self) {
        let most = match self.instruction.mnemonic() {
            Mnemonic::F2xm1 => 0x3ffe,
            Mnemonic::Fyl2xp1 => 0x3ffc,
            Mnemonic::Fbld => {
                self.data.0.iter_mut().for_each(|b| *b &= 0x77);
                return;
            }
            _ => return,
        };
        let n = physical(&self.state, 0);
        let top = &mut self.state.x87.reg[n][8..10];
        let word = u16::from_le_bytes([top[0], top[1]]);
        if (most + 1..0x7fff).contains(&(word & 0x7fff)) {
            top.copy_from_slice(&(word & 0x8000 | most).to_le_bytes());
        }
    }

    /// Runs both; the error tells the difference.
    pub fn check(mut self, machine: &mut Machine) -> Result<(), String> {
        let data = &raw mut machine.data.0 as u64;
        self.state.gpr[6] = data;
        self.state.gpr[7] = data + 5;
        let (native, native_data) = self.run_native(machine);
        let (own, own_data) = self.run_interpreter(machine);
        let mut all = self.differences(&native, &own);
        if native_data != own_data {
            all.push(format!("memory: {:02x?} not {:02x?}", own_data.0, native_data.0));
        }
        if all.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{:?} {:02x?} (mxcsr {:x}, fcw {:x}, ftw {:x}, fsw {:x}):\n  {}\n  before: {}",
            self.instruction.code(),
            self.bytes,
            self.state.mxcsr,
            self.state.x87.fcw,
            self.state.x87.ftw,
            self.state.x87.fsw,
            all.join("\n  "),
            self.inputs()
        ))
    }

    fn inputs(&self) -> String {
        (0..self.instruction.op_count())
            .map(|n| self.instruction.op_register(n))
            .filter(|r| r.is_xmm())
            .map(|r| format!("{r:?} {:032x} ", low128(&self.state, r.number())))
            .chain((0..2).map(|n| {
                let r = &self.state.x87.reg[physical(&self.state, n)];
                let (top, mantissa) = (u16::from_le_bytes([r[8], r[9]]), &r[..8]);
                format!("st{n} {top:04x} {:016x} ", u64::from_le_bytes(mantissa.try_into().expect("8 bytes")))
            }))
            .chain([format!("memory {:02x?}", &self.data.0[..64])])
            .collect()
    }

    fn run_native(&self, machine: &mut Machine) -> (CpuState, Data) {
        let mut frame = Frame {
            fx_in: fx_image(&self.state),
            fx_out: [0; 512],
            gpr: self.state.gpr,
            flags: self.state.rflags(),
            default_mxcsr: mxcsr(),
        };
        *machine.data = self.data.clone();
        machine.run(&mut frame, &self.bytes);
        let mut after = self.state.clone();
        for n in exchanged() {
            after.gpr[n] = frame.gpr[n];
        }
        after.set_rflags(frame.flags);
        from_fx_image(&mut after, &frame.fx_out);
        (after, (*machine.data).clone())
    }

    fn run_interpreter(&self, machine: &mut Machine) -> (CpuState, Data) {
        *machine.data = self.data.clone();
        let source = SliceSource { address: 0x1000, bytes: &self.bytes };
        let block = decode_block(&source, 0x1000, 1, true);
        let mut state = self.state.clone();
        let mut helpers = [0; HELPER_COUNT];
        helpers[Helper::StringCompare as usize] = string_compare as *const () as u64;
        helpers[Helper::X87 as usize] = unit::execute as *const () as u64;
        state.helpers = helpers.as_ptr() as u64;
        let host = mxcsr();
        set_mxcsr(state.mxcsr);
        // SAFETY: memory operands are inside the machine's buffer, and no other helper is called.
        unsafe { run_block(&mut state, &block) };
        state.mxcsr = mxcsr();
        set_mxcsr(host);
        assert_eq!(state.exit_reason, ExitReason::Continue as u32);
        (state, (*machine.data).clone())
    }

    fn differences(&self, native: &CpuState, own: &CpuState) -> Vec<String> {
        let mut all = Vec::new();
        for n in 0..16 {
            let (want, got) = (low128(native, n), low128(own, n));
            if want != got && !self.approximates(want, got) {
                all.push(format!("xmm{n}: {got:032x} not {want:032x}"));
            }
            if own.vec[n][16..] != self.state.vec[n][16..] {
                all.push(format!("the upper bits of xmm{n} changed"));
            }
        }
        for n in exchanged().filter(|n| native.gpr[*n] != own.gpr[*n]) {
            all.push(format!("gpr {n}: {:x} not {:x}", own.gpr[n], native.gpr[n]));
        }
        for n in 0..8 {
            let value = |s: &CpuState| u128::from_le_bytes(s.x87.reg[n]) & ((1 << 80) - 1);
            let (want, got) = (value(native), value(own));
            if want != got && !(self.is_transcendental() && place(want).abs_diff(place(got)) <= 1) {
                all.push(format!("mm{n}: {got:020x} not {want:020x}"));
            }
        }
        // C1 tells how a result was rounded.
        let told = if self.is_transcendental() { !(1 << 9) } else { !0 };
        let words = |s: &CpuState| (s.x87.ftw, s.x87.fsw & told);
        if words(native) != words(own) {
            all.push(format!("ftw, fsw: {:x?} not {:x?}", words(own), words(native)));
        }
        let undefined = undefined_flags(&self.instruction);
        let flags = |s: &CpuState| s.rflags() & rflags::STATUS & !undefined;
        if flags(native) != flags(own) {
            all.push(format!("flags: {:x} not {:x}", flags(own), flags(native)));
        }
        if own.mxcsr != native.mxcsr {
            all.push(format!("mxcsr: {:x} not {:x}", own.mxcsr, native.mxcsr));
        }
        all
    }

    /// The results of transcendental instructions are within one unit in the last place (SDM vol. 1, 8.3.10).
    fn is_transcendental(&self) -> bool {
        use Mnemonic::*;
        matches!(self.instruction.mnemonic(), F2xm1 | Fyl2x | Fyl2xp1 | Fpatan | Fsin | Fcos | Fsincos | Fptan)
    }

    /// RCPPS and RSQRTPS are approximations with a relative error of 1.5 * 2^-12 (SDM vol. 2, RCPPS).
    fn approximates(&self, want: u128, got: u128) -> bool {
        use Mnemonic::*;
        let approximation = matches!(self.instruction.mnemonic(), Rcpps | Rcpss | Rsqrtps | Rsqrtss);
        approximation
            && (0..4).all(|n| {
                let lane = |v: u128| f32::from_bits((v >> (32 * n)) as u32);
                let (w, g) = (lane(want), lane(got));
                w.to_bits() == g.to_bits() || ((w - g) / w).abs() <= 2.0 * 1.5 / 4096.0
            })
    }
}

/// The place of an 80-bit number among its neighbours: the integer bit is left out.
fn place(v: u128) -> u128 {
    (v >> 64) << 63 | v & u128::from(u64::MAX >> 1)
}

fn low128(s: &CpuState, n: usize) -> u128 {
    u128::from_le_bytes(s.vec[n][..16].try_into().expect("16 bytes"))
}

/// The physical register that is ST(n).
fn physical(s: &CpuState, n: usize) -> usize {
    (usize::from(s.x87.fsw >> 11) + n) & 7
}

/// The FXSAVE image (SDM vol. 1, table 10-2).
fn fx_image(s: &CpuState) -> [u8; 512] {
    let mut fx = [0; 512];
    fx[0..2].copy_from_slice(&s.x87.fcw.to_le_bytes());
    fx[2..4].copy_from_slice(&s.x87.fsw.to_le_bytes());
    fx[4] = s.x87.ftw;
    fx[24..28].copy_from_slice(&s.mxcsr.to_le_bytes());
    for n in 0..8 {
        fx[32 + 16 * n..][..16].copy_from_slice(&s.x87.reg[physical(s, n)]);
    }
    for n in 0..16 {
        fx[160 + 16 * n..][..16].copy_from_slice(&s.vec[n][..16]);
    }
    fx
}

fn from_fx_image(s: &mut CpuState, fx: &[u8; 512]) {
    s.x87.fsw = u16::from_le_bytes([fx[2], fx[3]]);
    s.x87.ftw = fx[4];
    s.mxcsr = u32::from_le_bytes(fx[24..28].try_into().expect("4 bytes"));
    for n in 0..8 {
        let r = physical(s, n);
        s.x87.reg[r].copy_from_slice(&fx[32 + 16 * n..][..16]);
    }
    for n in 0..16 {
        s.vec[n][..16].copy_from_slice(&fx[160 + 16 * n..][..16]);
    }
}

/// The status flags, as RFLAGS bits, that the manual leaves undefined behind the instruction.
fn undefined_flags(i: &Instruction) -> u64 {
    use iced_x86::RflagsBits as B;
    let bits = [
        (B::CF, rflags::CF),
        (B::PF, rflags::PF),
        (B::AF, rflags::AF),
        (B::ZF, rflags::ZF),
        (B::SF, rflags::SF),
        (B::OF, rflags::OF),
    ];
    let undefined = i.rflags_undefined();
    bits.into_iter().filter(|(bit, _)| undefined & bit != 0).map(|(_, flag)| flag).sum()
}

//! Every operation of the emitter, compiled and interpreted on the same operands: edge cases and random ones.
//!
//! A program reads its operands from registers and writes results to a buffer whose address is in `r15`.

use inkwell::context::Context;
use xlate_abi::protocol::{CodeOptions, OptLevel, Target};
use xlate_abi::state::{CpuState, ExitReason, Helper, RAX, RBX, RCX, Trap};
use xlate_x86::emitter::*;
use xlate_x86::wide::Wide;
use xlate_x86::wide::float::{self, Conversion, Element};
use xlate_x86::{Block, BlockEnd, Emitter, Interpreter};

use super::harness::*;
use crate::state::Facets;
use crate::{Region, generate, region};

/// Bytes of a program's results.
const OUT: usize = 16384;
const OUT_REGISTER: usize = 15;
const PC: u64 = 0x1000;

/// Something to run on every engine.
trait Program {
    fn emit<E: Emitter>(&self, e: &mut E);
}

/// Writes results one behind another.
struct Out<V> {
    base: V,
    at: i64,
}

impl<V: Copy> Out<V> {
    fn new<E: Emitter<Val = V>>(e: &mut E) -> Self {
        Self { base: e.gpr(OUT_REGISTER), at: 0 }
    }

    fn int<E: Emitter<Val = V>>(&mut self, e: &mut E, ty: Ty, v: V) {
        let to = e.address(Some(self.base), None, self.at);
        e.store(ty, to, v);
        self.at += 8;
    }

    fn cond<E: Emitter<Val = V>>(&mut self, e: &mut E, c: E::Cond) {
        let v = e.cond_to_int(Ty::I8, c);
        self.int(e, Ty::I8, v);
    }

    fn vec<E: Emitter<Val = V>>(&mut self, e: &mut E, bits: u32, v: E::Vec) {
        let to = e.address(Some(self.base), None, self.at);
        e.vstore(bits, to, v);
        self.at += 64;
    }
}

/// The first operands, cut to a type.
fn operands<E: Emitter>(e: &mut E, ty: Ty) -> (E::Val, E::Val) {
    let (a, b) = (e.gpr(RAX), e.gpr(RBX));
    if ty == Ty::I64 { (a, b) } else { (e.trunc(Ty::I64, ty, a), e.trunc(Ty::I64, ty, b)) }
}

fn region_of_program() -> Region {
    Region::of(PC, [Block { pc: PC, insns: Box::default(), len: 1, exit: BlockEnd::FallThrough, mutable: false }])
}

fn compile(program: &impl Program, target: &Target, options: CodeOptions) -> xlate_abi::protocol::Blob {
    let context = Context::create();
    let facets = Facets { pointers: 1 << OUT_REGISTER, vec_bits: [512; 32], pairs: 0 };
    let region = region_of_program();
    let built = region::build_with(&context, &region, facets, target, options, |e, _| {
        e.begin_instruction(PC, PC + 1);
        program.emit(e);
        if !e.ended {
            e.jump(PC + 1);
        }
    });
    let built = built.unwrap_or_else(|e| panic!("{e}"));
    generate(&built, target, options).unwrap_or_else(|e| panic!("{target:?} {options:?}: {e}"))
}

fn interpret(program: &impl Program, state: &mut CpuState) {
    let table = helpers();
    state.helpers = table.as_ptr() as u64;
    state.exit_reason = ExitReason::Continue as u32;
    let raised = in_mode(state.mxcsr, || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let e = Interpreter::on(state);
            e.begin_instruction(PC, PC + 1);
            program.emit(e);
        }))
    });
    if raised.is_ok() && state.rip == PC {
        state.rip = PC + 1;
    }
}

/// Compiles the program in several ways and compares what it does to each state and to its buffer.
fn check(program: impl Program, states: &[CpuState]) {
    let mut expected = Vec::new();
    for state in states {
        let mut buffer = vec![0x5au8; OUT];
        let mut s = state.clone();
        s.gpr[OUT_REGISTER] = buffer.as_mut_ptr() as u64;
        interpret(&program, &mut s);
        expected.push((s, buffer));
    }
    let combinations = [
        (OptLevel::O1, false, false),
        (OptLevel::O2, false, false),
        (OptLevel::O2, true, false),
        (OptLevel::O2, false, true),
    ];
    for (opt, precise, tso) in combinations {
        let options = CodeOptions { opt, precise, tso };
        for target in hosts() {
            let blob = compile(&program, &target, options);
            for (state, (want, want_buffer)) in states.iter().zip(&expected) {
                let mut buffer = vec![0x5au8; OUT];
                let mut s = state.clone();
                s.gpr[OUT_REGISTER] = buffer.as_mut_ptr() as u64;
                run(&blob, &mut s);
                let what =
                    format!("{options:?} on {} from {:x?}, mxcsr {:#x}", target.cpu, &state.gpr[..4], state.mxcsr);
                for at in (0..OUT).step_by(8) {
                    let word = |b: &[u8]| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
                    assert_eq!(
                        word(want_buffer),
                        word(&buffer),
                        "{what}: result at {at} ({:#x} {:#x})",
                        word(want_buffer),
                        word(&buffer)
                    );
                }
                s.gpr[OUT_REGISTER] = want.gpr[OUT_REGISTER];
                assert_same(want, &s, &what);
            }
        }
        compile(&program, &arm_target(), options);
    }
}

/// xorshift64*: the tests only need variety.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
    0x0123_4567_89ab_cdef,
];

/// States with pairs of edge cases in the first operands, random bits everywhere else.
fn integer_states() -> Vec<CpuState> {
    let mut random = Random(42);
    let mut states = Vec::new();
    for a in EDGES {
        for b in EDGES {
            let mut s = random_state(&mut random);
            s.gpr[RAX] = a;
            s.gpr[RBX] = b;
            states.push(s);
        }
    }
    states
}

fn random_state(random: &mut Random) -> CpuState {
    let mut s = CpuState { rip: PC, ..CpuState::default() };
    s.gpr.iter_mut().for_each(|r| *r = random.next());
    for byte in s.vec.iter_mut().flatten() {
        // Lanes with extreme values are common.
        *byte = match random.next() % 4 {
            0 => 0,
            1 => 0xff,
            2 => 0x80,
            _ => random.next() as u8,
        };
    }
    s.flags.cf = random.next() as u8 & 1;
    s.flags.zf = random.next() as u8 & 1;
    s.flags.parity = random.next() as u8;
    s
}

const TYPES: [Ty; 4] = [Ty::I8, Ty::I16, Ty::I32, Ty::I64];

struct Binary(Ty);

impl Program for Binary {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let ty = self.0;
        let mut out = Out::new(e);
        let (a, b) = operands(e, ty);
        for op in [Bin::Add, Bin::Sub, Bin::Mul, Bin::And, Bin::Or, Bin::Xor] {
            let r = e.bin(op, ty, a, b);
            out.int(e, ty, r);
        }
        let mask = e.iconst(ty, u64::from(ty.bits()) - 1);
        let count = e.bin(Bin::And, ty, b, mask);
        for op in [Bin::Shl, Bin::Lshr, Bin::Ashr, Bin::RotL, Bin::RotR] {
            let r = e.bin(op, ty, a, count);
            out.int(e, ty, r);
        }
        let (three, one) = (e.iconst(ty, 3), e.iconst(ty, 1));
        let divisor = e.bin(Bin::And, ty, b, three);
        let divisor = e.bin(Bin::Or, ty, divisor, one);
        for op in [Bin::Udiv, Bin::Urem, Bin::Sdiv, Bin::Srem] {
            let r = e.bin(op, ty, a, divisor);
            out.int(e, ty, r);
        }
        for signed in [false, true] {
            let (low, high) = e.mul_wide(signed, ty, a, b);
            out.int(e, ty, low);
            out.int(e, ty, high);
        }
    }
}

struct UnaryAndCompare(Ty);

impl Program for UnaryAndCompare {
    fn emit<E: Emitter>(&self, e: &mut E) {
        use Pred::*;
        let ty = self.0;
        let mut out = Out::new(e);
        let (a, b) = operands(e, ty);
        for op in [Un::Not, Un::Neg, Un::Clz, Un::Ctz, Un::Popcnt] {
            let r = e.un(op, ty, a);
            out.int(e, ty, r);
        }
        if ty != Ty::I8 {
            let r = e.un(Un::Bswap, ty, a);
            out.int(e, ty, r);
        }
        for pred in [Eq, Ne, Ult, Ule, Ugt, Uge, Slt, Sle, Sgt, Sge] {
            let c = e.cmp(pred, ty, a, b);
            out.cond(e, c);
            let not = e.cond_not(c);
            let r = e.select(ty, not, a, b);
            out.int(e, ty, r);
        }
        let (less, equal) = (e.cmp(Slt, ty, a, b), e.cmp(Eq, ty, a, b));
        for op in [CondOp::And, CondOp::Or, CondOp::Xor] {
            let c = e.cond_op(op, less, equal);
            out.cond(e, c);
        }
        let on = e.bconst(true);
        out.cond(e, on);
        for wide in TYPES.into_iter().filter(|t| *t > ty) {
            let (z, s) = (e.zext(ty, wide, a), e.sext(ty, wide, a));
            out.int(e, wide, z);
            out.int(e, wide, s);
            let t = e.trunc(wide, ty, s);
            out.int(e, ty, t);
        }
    }
}

#[test]
fn scalar_integers() {
    for ty in TYPES {
        check(Binary(ty), &integer_states());
        check(UnaryAndCompare(ty), &integer_states());
    }
}

struct Memory(Ty, i64);

impl Program for Memory {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let Memory(ty, skew) = *self;
        let mut out = Out::new(e);
        let base = out.base;
        let (a, b) = operands(e, ty);
        let index = e.iconst(Ty::I64, 16);
        let cell = e.address(Some(base), Some((index, 8)), 2048 + skew);
        e.store(ty, cell, a);
        let v = e.load(ty, cell);
        out.int(e, ty, v);
        for op in [Rmw::Add, Rmw::Sub, Rmw::And, Rmw::Or, Rmw::Xor, Rmw::Xchg] {
            let old = e.atomic_rmw(op, ty, cell, b);
            out.int(e, ty, old);
        }
        e.fence();
        let now = e.load(ty, cell);
        for (expected, new) in [(a, now), (now, a)] {
            let old = e.cmpxchg(ty, cell, expected, new);
            out.int(e, ty, old);
        }
        let last = e.load(ty, cell);
        out.int(e, ty, last);
    }
}

struct Memory16;

impl Program for Memory16 {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        let (a, b) = operands(e, Ty::I64);
        // The buffer's alignment isn't ours to choose: round up inside it.
        let cell = e.address(Some(out.base), None, 4096 + 15);
        let mask = e.iconst(Ty::I64, !15);
        let cell = e.bin(Bin::And, Ty::I64, cell, mask);
        let above = e.address(Some(cell), None, 8);
        e.store(Ty::I64, cell, a);
        e.store(Ty::I64, above, b);
        for expected in [[b, a], [a, b]] {
            let old = e.cmpxchg16(cell, expected, [b, b]);
            out.int(e, Ty::I64, old[0]);
            out.int(e, Ty::I64, old[1]);
        }
        let low = e.load(Ty::I64, cell);
        out.int(e, Ty::I64, low);
        // Leave nothing behind that depends on the buffer's address.
        let zero = e.iconst(Ty::I64, 0);
        e.store(Ty::I64, cell, zero);
        e.store(Ty::I64, above, zero);
    }
}

#[test]
fn memory_and_atomics() {
    for ty in TYPES {
        for skew in [0, 1, 3] {
            check(Memory(ty, skew), &integer_states()[..40]);
        }
    }
    // Where zeros end up in the buffer depends on its address; a static offset suffices for both engines.
    let states: Vec<_> = integer_states().into_iter().take(40).collect();
    check(Memory16, &states);
}

struct Control;

impl Program for Control {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        let (a, b) = operands(e, Ty::I64);
        let c = e.cmp(Pred::Ult, Ty::I64, a, b);
        let [x, y] = E::if_else(
            e,
            c,
            [Ty::I64, Ty::I64],
            |e| {
                e.set_gpr(RCX, b);
                let sum = e.bin(Bin::Add, Ty::I64, a, b);
                [sum, a]
            },
            |e| {
                let on = e.bconst(true);
                e.set_flag(Flag::Of, on);
                [b, a]
            },
        );
        out.int(e, Ty::I64, x);
        out.int(e, Ty::I64, y);
        for flag in [Flag::Cf, Flag::Af, Flag::Zf, Flag::Sf, Flag::Of, Flag::Df] {
            let f = e.flag(flag);
            out.cond(e, f);
        }
        let p = e.parity();
        out.int(e, Ty::I8, p);
        e.set_parity(p);
        let offset = core::mem::offset_of!(CpuState, gs_base);
        e.state_store(Ty::I64, offset, x);
        let back = e.state_load(Ty::I32, offset);
        out.int(e, Ty::I32, back);
        let size = e.iconst(Ty::I64, 4);
        let r = e.call_helper(Helper::Crc32c, &[a, b, size]);
        out.int(e, Ty::I64, r);
        e.set_gpr(RBX, r);
        let seen = e.call_helper(Helper::Cpuid, &[]);
        out.int(e, Ty::I64, seen);
        let changed = e.gpr(RCX);
        out.int(e, Ty::I64, changed);
        let v = e.vec(0, 128);
        out.vec(e, 128, v);
        let three = e.iconst(Ty::I64, 3);
        let low = e.bin(Bin::And, Ty::I64, a, three);
        let trap = e.cmp(Pred::Eq, Ty::I64, low, three);
        e.trap_if(trap, Trap::Divide);
        e.set_gpr(RAX, low);
    }
}

#[test]
fn control_flags_helpers_and_traps() {
    check(Control, &integer_states());
}

/// One of the ways a block ends.
struct End(u32);

impl Program for End {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let (a, b) = operands(e, Ty::I64);
        let sum = e.bin(Bin::Add, Ty::I64, a, b);
        // The address of an empty table entry is none of the guest's code.
        let canonical = e.iconst(Ty::I64, 0x7fff_ffff_ffff);
        let sum = e.bin(Bin::And, Ty::I64, sum, canonical);
        e.set_gpr(RCX, sum);
        let c = e.cmp(Pred::Slt, Ty::I64, a, b);
        match self.0 {
            0 => e.jump(0x1234_5678_9abc),
            1 => e.branch(c, 0x2000, 0x800),
            2 => e.jump_indirect(sum, Indirect::Jump),
            3 => e.jump_indirect(sum, Indirect::Ret),
            4 => e.call(0x800, PC + 1),
            5 => e.leave(ExitReason::Syscall, 0, PC + 2),
            _ => e.leave(ExitReason::Trap, Trap::Breakpoint as u32, PC + 1),
        }
    }
}

#[test]
fn ends_of_blocks() {
    for kind in 0..7 {
        check(End(kind), &integer_states());
    }
}

const INT_LANES: [Lane; 4] = [Lane::I8, Lane::I16, Lane::I32, Lane::I64];

struct Lanes(VTy);

impl Program for Lanes {
    fn emit<E: Emitter>(&self, e: &mut E) {
        use VBin::*;
        let ty = self.0;
        let bits = ty.bits;
        let mut out = Out::new(e);
        let (a, b) = (e.vec(1, bits), e.vec(2, bits));
        for op in [Add, Sub, And, Or, Xor, AndNot, MinS, MinU, MaxS, MaxU, CmpEq, CmpGtS] {
            let r = e.vbin(op, ty, a, b);
            out.vec(e, bits, r);
        }
        if ty.lane != Lane::I64 {
            for op in [AddSatS, AddSatU, SubSatS, SubSatU, AvgU] {
                let r = e.vbin(op, ty, a, b);
                out.vec(e, bits, r);
            }
        }
        if matches!(ty.lane, Lane::I16 | Lane::I32) {
            for op in [Mul, MulHiS, MulHiU] {
                let r = e.vbin(op, ty, a, b);
                out.vec(e, bits, r);
            }
            for to_signed in [false, true] {
                let r = e.pack(ty, to_signed, a, b);
                out.vec(e, bits, r);
            }
        }
        let count = e.gpr(RAX);
        let five = e.iconst(Ty::I64, 5);
        for op in [VShift::Shl, VShift::Lshr, VShift::Ashr] {
            for count in [count, five] {
                let r = e.vshift(op, ty, a, count);
                out.vec(e, bits, r);
            }
        }
        let m = e.movmask(ty, a);
        out.int(e, Ty::I64, m);
        self.emit_moves(e, &mut out, a, b);
    }
}

impl Lanes {
    fn emit_moves<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>, a: E::Vec, b: E::Vec) {
        let ty = self.0;
        let (bits, n) = (ty.bits, ty.lanes());
        let indices: Vec<u8> = (0..n).map(|i| ((i * 7 + 3) % (2 * n)) as u8).collect();
        let r = e.shuffle(ty, a, b, &indices);
        out.vec(e, bits, r);
        let x = e.extract(ty, a, n - 1);
        out.int(e, ty.lane.ty(), x);
        let r = e.splat(ty, x);
        out.vec(e, bits, r);
        let r = e.insert(ty, b, n / 2, x);
        out.vec(e, bits, r);
        e.set_vec(3, bits, r, Upper::Keep);
        e.set_vec(4, bits, r, Upper::Zero);
        let low = e.vec(3, 64);
        out.vec(e, 64, low);
        let to = e.address(Some(out.base), None, OUT as i64 - 65);
        e.vstore(bits, to, r);
        let back = e.vload(bits, to);
        out.vec(e, bits, back);
    }
}

struct Sums(u32);

impl Program for Sums {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let bits = self.0;
        let mut out = Out::new(e);
        let (a, b) = (e.vec(1, bits), e.vec(2, bits));
        for signed in [false, true] {
            let r = e.mul_even(signed, bits, a, b);
            out.vec(e, bits, r);
        }
        if bits >= 128 {
            let r = e.byte_shuffle(bits, a, b);
            out.vec(e, bits, r);
        }
        let r = e.madd_i16(bits, a, b);
        out.vec(e, bits, r);
        let r = e.sad_u8(bits, a, b);
        out.vec(e, bits, r);
        let bytes: Vec<u8> = (0..bits / 8).map(|i| (i * 3) as u8).collect();
        let r = e.vconst(&bytes);
        out.vec(e, bits, r);
    }
}

fn vector_states() -> Vec<CpuState> {
    let mut random = Random(7);
    let mut states: Vec<_> = (0..60).map(|_| random_state(&mut random)).collect();
    for (s, count) in states.iter_mut().zip([0, 1, 7, 8, 15, 16, 31, 32, 63, 64, 65, 1 << 32]) {
        s.gpr[RAX] = count;
    }
    states
}

#[test]
fn vectors() {
    for bits in [64, 128, 256, 512] {
        for lane in INT_LANES {
            check(Lanes(VTy { lane, bits }), &vector_states());
        }
        if bits < 512 {
            check(Sums(bits), &vector_states());
        }
    }
}

const FBINS: [FBin; 6] = [FBin::Add, FBin::Sub, FBin::Mul, FBin::Div, FBin::Min, FBin::Max];

fn predicates() -> impl Iterator<Item = FPred> {
    (0..FPred::COUNT).map(FPred::of_number)
}

struct Floats<'a>(Fty, &'a [FBin]);

impl Program for Floats<'_> {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let f = self.0;
        let ty = f.ty();
        let mut out = Out::new(e);
        let (a, b) = operands(e, ty);
        for &op in self.1 {
            let r = e.fbin(op, f, a, b);
            out.int(e, ty, r);
        }
        let r = e.fsqrt(f, a);
        out.int(e, ty, r);
        for op in &Fma::ALL[..4] {
            let r = e.fma(*op, f, [a, b, a]);
            out.int(e, ty, r);
        }
        for pred in predicates() {
            let r = e.fmask(pred, f, a, b);
            out.int(e, ty, r);
        }
        for signals in [false, true] {
            let c = e.fcompare(signals, Read::Above, f, a, b);
            for c in [c.carry, c.zero, c.unordered, c.above] {
                out.cond(e, c);
            }
        }
        for to in [Ty::I32, Ty::I64] {
            for round in [Round::Current, Round::Truncate] {
                let r = e.float_to_int(round, f, to, a);
                out.int(e, to, r);
            }
        }
        for mode in Rounding::ALL {
            let r = e.fround(mode, false, f, a);
            out.int(e, ty, r);
        }
        let other = if f == Fty::F32 { Fty::F64 } else { Fty::F32 };
        let r = e.float_to_float(f, other, a);
        out.int(e, other.ty(), r);
        let whole = e.gpr(RCX);
        let half = e.trunc(Ty::I64, Ty::I32, whole);
        for (from, v) in [(Ty::I64, whole), (Ty::I32, half)] {
            let r = e.int_to_float(from, f, v);
            out.int(e, ty, r);
        }
    }
}

struct FloatLanes<'a>(VTy, &'a [FBin]);

impl Program for FloatLanes<'_> {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let ty = self.0;
        let mut out = Out::new(e);
        let (a, b) = (e.vec(1, ty.bits), e.vec(2, ty.bits));
        for &op in self.1 {
            let r = e.vfbin(op, ty, a, b);
            out.vec(e, ty.bits, r);
        }
        let r = e.vfsqrt(ty, a);
        out.vec(e, ty.bits, r);
        for op in Fma::ALL {
            let r = e.vfma(op, ty, [a, b, a]);
            out.vec(e, ty.bits, r);
        }
        for pred in predicates() {
            let r = e.vfcmp(pred, ty, a, b);
            out.vec(e, ty.bits, r);
            let m = e.vfcompare(pred, ty, a, b);
            let bits = e.mask_bits(ty.lanes(), m);
            out.int(e, Ty::I64, bits);
        }
        for mode in Rounding::ALL {
            let r = e.vfround(mode, true, ty, a);
            out.vec(e, ty.bits, r);
        }
        let x = e.extract(ty, a, 1);
        out.int(e, ty.lane.ty(), x);
        let r = e.insert(ty, b, 0, x);
        out.vec(e, ty.bits, r);
    }
}

/// Zeros, infinities, NaNs of both kinds, denormals, limits of integers, and ordinary numbers.
fn special(f: Fty) -> Vec<u64> {
    let doubles = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f64::INFINITY,
        f64::NEG_INFINITY,
        2_147_483_647.5,
        -2_147_483_648.5,
        9.3e18,
        0.5,
        2.5,
        1e-310,
    ];
    match f {
        Fty::F64 => {
            let nans = [0x7ff8_0000_0000_1234, 0xfff0_0000_0000_0001, 0x7ff0_0000_0000_0077];
            doubles.iter().map(|d| d.to_bits()).chain(nans).collect()
        }
        Fty::F32 => {
            let nans = [0x7fc0_1234, 0xff80_0001, 0x7f80_0077, 0x0000_1000];
            doubles.iter().map(|d| u64::from((*d as f32).to_bits())).chain(nans).collect()
        }
    }
}

/// The licence of the emitter's contract: where both operands of a multiplication are NaNs, either's payload may come out.
fn both_nan(f: Fty, a: u64, b: u64) -> bool {
    match f {
        Fty::F32 => f32::from_bits(a as u32).is_nan() && f32::from_bits(b as u32).is_nan(),
        Fty::F64 => f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan(),
    }
}

fn with_one_nan(f: Fty) -> Vec<CpuState> {
    float_states(f).into_iter().filter(|s| !both_nan(f, s.gpr[RAX], s.gpr[RBX])).collect()
}

fn float_states(f: Fty) -> Vec<CpuState> {
    let mut random = Random(99);
    let values = special(f);
    let bytes = f.ty().bytes() as usize;
    let mut states = Vec::new();
    for &a in &values {
        for &b in &values {
            let mut s = random_state(&mut random);
            s.gpr[RAX] = a;
            s.gpr[RBX] = b;
            s.gpr[RCX] = random.next() >> (random.next() % 64);
            for lane in 0..64 / bytes {
                let (x, y) = if lane % 2 == 0 { (a, b) } else { (values[lane % 12], values[(lane + 5) % 12]) };
                s.vec[1][lane * bytes..][..bytes].copy_from_slice(&x.to_le_bytes()[..bytes]);
                s.vec[2][lane * bytes..][..bytes].copy_from_slice(&y.to_le_bytes()[..bytes]);
            }
            states.push(s);
        }
    }
    states
}

#[test]
fn floats() {
    let without_product: Vec<_> = FBINS.into_iter().filter(|op| *op != FBin::Mul).collect();
    for f in [Fty::F32, Fty::F64] {
        let states = float_states(f);
        let one_nan = with_one_nan(f);
        let lane = if f == Fty::F32 { Lane::F32 } else { Lane::F64 };
        for (ops, states) in [(&FBINS[..], &one_nan), (&without_product, &states)] {
            check(Floats(f, ops), states);
            for bits in [128, 256, 512] {
                check(FloatLanes(VTy { lane, bits }, ops), states);
            }
        }
    }
}

/// Conversions of whole vectors, and operations that have a body which all engines share.
struct Shared(u32);

const ELEMENTS: [Element; 9] = [
    Element::I16,
    Element::U16,
    Element::I32,
    Element::U32,
    Element::I64,
    Element::U64,
    Element::Half,
    Element::Single,
    Element::Double,
];

/// Whether an instruction makes the one of the other.
fn converts(from: Element, to: Element) -> bool {
    let (short, floats) = ([Element::I16, Element::U16], [from, to].map(|e| e.format().is_some()));
    let other = if short.contains(&from) { to } else { from };
    let fits = !short.contains(&from) && !short.contains(&to) || other == Element::Half;
    from != to && fits && floats != [false, false]
}

impl Shared {
    fn conversions<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>) {
        let pairs = ELEMENTS.iter().flat_map(|from| ELEMENTS.map(|to| (*from, to)));
        for (from, to) in pairs.filter(|(from, to)| converts(*from, *to)) {
            for round in [Round::Current, Round::Truncate] {
                if round == Round::Truncate && to.format().is_some() {
                    continue;
                }
                let lanes = self.0 / from.ty().bits().max(to.ty().bits());
                let bits = (lanes * from.ty().bits()).max(128);
                let v = e.vec(1, bits);
                let r = e.vconvert(Conversion { from, to, round }, lanes, (bits, v));
                out.vec(e, (lanes * to.ty().bits()).max(128), r);
            }
        }
    }

    fn operations<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>, lane: Lane) {
        use float::Op::*;
        let ty = VTy { lane, bits: self.0 };
        let mut v = [1, 2, 3, 4].map(|n| (self.0, e.vec(n, self.0)));
        // VFIXUPIMM's exceptions: results in other lanes are anybody's.
        v[3].1 = e.vconst(&[0xff; 64][..ty.bits as usize / 8]);
        for immediate in [0, 0x13, 0x4e] {
            for op in [RoundScaled, Reduce, Exponent, Significand, Scale, Range, Reciprocal, ReciprocalRoot, FixUp] {
                // Halves have no ranges and no repairs.
                if lane.fty().is_some() || !matches!(op, Range | FixUp) {
                    let r = e.wide(Wide::Float(op), ty, &v, immediate);
                    out.vec(e, ty.bits, r);
                }
            }
            let r = e.wide_bits(Wide::Float(Classify), ty, &v[..1], immediate);
            out.int(e, Ty::I64, r);
        }
    }
}

impl Program for Shared {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        self.conversions(e, &mut out);
        for lane in [Lane::I16, Lane::F32, Lane::F64] {
            self.operations(e, &mut out, lane);
        }
    }
}

#[test]
fn shared_operations_are_the_same_by_instruction() {
    let states: Vec<_> = [Fty::F32, Fty::F64].into_iter().flat_map(float_states).step_by(7).collect();
    for bits in [128, 256, 512] {
        check(Shared(bits), &states);
    }
}

/// Operations on constants that LLVM knows: it would fold them as in round-to-nearest. The constants are bits, as
/// this code, too, runs in the guest's mode.
struct Constants;

impl Constants {
    fn scalars<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>, f: Fty) {
        let ty = f.ty();
        let (third, tenth) = match f {
            Fty::F32 => (0x3eaa_aaab, 0x3dcc_cccd),
            Fty::F64 => (0x3fd5_5555_5555_5555, 0x3fb9_9999_9999_999a),
        };
        for (a, b) in [(third, tenth), (tenth, third), (third | 1 << (ty.bits() - 1), tenth)] {
            let (a, b) = (e.iconst(ty, a), e.iconst(ty, b));
            for op in FBINS {
                let r = e.fbin(op, f, a, b);
                out.int(e, ty, r);
            }
            let r = e.fsqrt(f, b);
            out.int(e, ty, r);
            for mode in Rounding::ALL {
                let r = e.fround(mode, false, f, a);
                out.int(e, ty, r);
            }
            for to in [Ty::I32, Ty::I64] {
                let r = e.float_to_int(Round::Current, f, to, a);
                out.int(e, to, r);
            }
        }
        for n in [1, u64::MAX, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211] {
            for from in [Ty::I32, Ty::I64] {
                let n = e.iconst(from, n);
                let r = e.int_to_float(from, f, n);
                out.int(e, ty, r);
                // What the constant became goes on to other operations.
                let r = e.fbin(FBin::Mul, f, r, r);
                out.int(e, ty, r);
            }
        }
    }

    fn lanes<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>, ty: VTy) {
        let lane = |n: u32| match ty.lane {
            Lane::F32 => (0x3eaa_aaab + n * 0x0012_3457).to_le_bytes().to_vec(),
            _ => (0x3fd5_5555_5555_5555 + u64::from(n) * 0x0001_2345_6789_abcd).to_le_bytes().to_vec(),
        };
        let constant = |from| (from..from + ty.lanes()).flat_map(lane).collect::<Vec<u8>>();
        let (a, b) = (e.vconst(&constant(0)), e.vconst(&constant(20)));
        for op in FBINS {
            let r = e.vfbin(op, ty, a, b);
            out.vec(e, ty.bits, r);
        }
        let r = e.vfsqrt(ty, a);
        out.vec(e, ty.bits, r);
        for op in Fma::ALL {
            let r = e.vfma(op, ty, [a, b, a]);
            out.vec(e, ty.bits, r);
        }
    }
}

impl Program for Constants {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        for f in [Fty::F32, Fty::F64] {
            self.scalars(e, &mut out, f);
        }
        let third = e.iconst(Ty::I64, 0x3fd5_5555_5555_5555);
        let r = e.float_to_float(Fty::F64, Fty::F32, third);
        out.int(e, Ty::I32, r);
        for bits in [128, 256, 512] {
            for lane in [Lane::F32, Lane::F64] {
                self.lanes(e, &mut out, VTy { lane, bits });
            }
        }
    }
}

/// MXCSR with all exceptions masked, rounding to nearest, down, up and towards zero (SDM vol. 1, figure 10-3).
const MODES: [u32; 4] = [0x1f80, 0x3f80, 0x5f80, 0x7f80];

#[test]
fn constants_are_rounded_as_the_guest_wants() {
    let states = MODES.map(|mxcsr| CpuState { mxcsr, rip: PC, ..CpuState::default() });
    check(Constants, &states);
}

/// Operations whose one operand LLVM knows, or knows for a negated one: it may take the other operand as the result, or
/// another operation for this one, only where no NaN and no rounding mode shows it.
struct KnownOperands(Fty);

impl KnownOperands {
    /// Zeros, ones, powers of two, an infinity; and a NaN, all ones as comparisons give it, for all but multiplication.
    fn known(f: Fty) -> impl Iterator<Item = (u64, FBin)> {
        let values = [0.0f64, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, f64::INFINITY];
        let numbers = values.map(|x| match f {
            Fty::F32 => u64::from((x as f32).to_bits()),
            Fty::F64 => x.to_bits(),
        });
        let nan = u64::MAX >> (64 - f.ty().bits());
        let with = |k| FBINS.into_iter().map(move |op| (k, op));
        numbers.into_iter().flat_map(with).chain(with(nan).filter(|(_, op)| *op != FBin::Mul))
    }

    fn scalars<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>) {
        let f = self.0;
        let ty = f.ty();
        let (x, y) = operands(e, ty);
        let sign = e.iconst(ty, 1 << (ty.bits() - 1));
        let (minus_x, minus_y) = (e.bin(Bin::Xor, ty, x, sign), e.bin(Bin::Xor, ty, y, sign));
        for (k, op) in Self::known(f) {
            let k = e.iconst(ty, k);
            for (a, b) in [(x, k), (k, x), (k, k)] {
                let r = e.fbin(op, f, a, b);
                out.int(e, ty, r);
            }
        }
        for (a, b) in [(x, minus_y), (minus_x, y), (minus_x, minus_y), (x, x), (x, minus_x)] {
            for op in FBINS {
                let r = e.fbin(op, f, a, b);
                out.int(e, ty, r);
            }
        }
        let signalling = e.iconst(ty, if f == Fty::F32 { 0xff80_0077 } else { 0x7ff0_0000_0000_0077 });
        for mode in Rounding::ALL {
            let r = e.fround(mode, false, f, signalling);
            out.int(e, ty, r);
        }
        let r = e.fsqrt(f, signalling);
        out.int(e, ty, r);
        let other = if f == Fty::F32 { Fty::F64 } else { Fty::F32 };
        let r = e.float_to_float(f, other, signalling);
        out.int(e, other.ty(), r);
        // There and back again loses nothing but that a NaN signals.
        let wide = e.float_to_float(f, Fty::F64, x);
        let back = e.float_to_float(Fty::F64, f, wide);
        out.int(e, ty, back);
    }

    fn lanes<E: Emitter>(&self, e: &mut E, out: &mut Out<E::Val>) {
        let bits = 128;
        let (lane, bytes) = (if self.0 == Fty::F32 { Lane::F32 } else { Lane::F64 }, self.0.ty().bytes() as usize);
        let ty = VTy { lane, bits };
        let x = e.vec(1, bits);
        for (k, op) in Self::known(self.0) {
            let k = e.vconst(&k.to_le_bytes()[..bytes].repeat(ty.lanes() as usize));
            for (a, b) in [(x, k), (k, x), (k, k)] {
                let r = e.vfbin(op, ty, a, b);
                out.vec(e, bits, r);
            }
        }
    }
}

impl Program for KnownOperands {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        self.scalars(e, &mut out);
        self.lanes(e, &mut out);
    }
}

#[test]
fn a_known_operand_changes_no_result() {
    for f in [Fty::F32, Fty::F64] {
        for mxcsr in MODES {
            let states: Vec<_> = with_one_nan(f).into_iter().map(|s| CpuState { mxcsr, ..s }).collect();
            check(KnownOperands(f), &states);
        }
    }
}

/// Sums of any two of sixteen values, so that most host registers take part.
struct AllSums;

impl Program for AllSums {
    fn emit<E: Emitter>(&self, e: &mut E) {
        let mut out = Out::new(e);
        let ty = VTy { lane: Lane::F64, bits: 128 };
        let values: Vec<_> = (0..16).map(|n| e.vec(n, ty.bits)).collect();
        for (n, &a) in values.iter().enumerate() {
            for &b in &values[..n] {
                let r = e.vfbin(FBin::Add, ty, a, b);
                out.vec(e, ty.bits, r);
            }
        }
    }
}

/// LLVM's assembler swaps operands where that makes the instruction shorter.
#[test]
fn of_two_nans_a_sum_is_the_first() {
    let mut state = random_state(&mut Random(5));
    for (n, v) in state.vec.iter_mut().enumerate() {
        v[..8].copy_from_slice(&(0x7ff0_0000_0000_0001 + n as u64).to_le_bytes());
        v[8..16].copy_from_slice(&(0xfff8_0000_0000_0001 + n as u64).to_le_bytes());
    }
    check(AllSums, &[state]);
}

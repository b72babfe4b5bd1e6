//! Every emitter operation in tier 1 against tier 0: random operands through tiny hand-driven blocks.

use xlate_abi::state::{CpuState, ExitReason, MXCSR_DEFAULT};
use xlate_x86::Emitter;
use xlate_x86::emitter::*;
use xlate_x86::interpreter::Interpreter;

use super::emitter::Baseline;
use super::symbol::relocate;
use super::{Compiler, FunctionBuilder, emitter};
use crate::engine::cache::CodeCache;
use crate::engine::table::Table;
use crate::engine::{entry, fpmode, helpers};

/// xorshift64*, for operands that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Now and then a value where operations have their edges.
    fn operand(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            u64::MAX,
            i64::MAX as u64,
            i64::MIN as u64,
            0x8000_0000_7fff_ffff,
            0x7fff_ffff_8000_0000,
            0x7ff8_0000_0000_0001,
            0xfff0_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0x7fc0_0001_ff80_0001,
            0x3ff8_0000_3fc0_0000,
            0x8000_8000_7fff_7fff,
            0x41df_ffff_ffe0_0000,
            0x43e0_0000_0000_0000,
            0x8080_7f7f_00ff_0100,
        ];
        let n = self.next();
        match n >> 62 {
            0 => EDGES[(n & 15) as usize],
            1 => n as i32 as u64,
            _ => self.next(),
        }
    }
}

/// An operation on the first registers; results go to registers from 4 on.
trait Case {
    fn emit<E: Emitter>(&self, e: &mut E);
}

struct Bench {
    compiler: Compiler,
    cache: CodeCache,
    table: Table,
    random: Random,
}

impl Bench {
    fn new() -> Self {
        Self {
            compiler: Compiler::new().unwrap(),
            cache: CodeCache::new(1 << 22).unwrap(),
            table: Table::default(),
            random: Random(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn compile<C: Case>(&mut self, case: &C) -> u64 {
        let c = &mut self.compiler;
        c.context.clear();
        c.context.func.signature = emitter::tail_signature();
        let builder = FunctionBuilder::new(&mut c.context.func, &mut c.builder);
        let mut e = Baseline::new(builder, c.host, 0x1000);
        case.emit(&mut e);
        e.leave(ExitReason::Syscall, 0, 0x2000);
        e.finish(&*c.isa);
        let code = c
            .context
            .compile(&*c.isa, &mut super::ControlPlane::default())
            .unwrap_or_else(|e| panic!("{:?}\n{}", e.inner, e.func.display()));
        let mut bytes = code.code_buffer().to_vec();
        let relocations = super::relocations(&c.context.func, c.context.compiled_code()).unwrap();
        assert!(relocate(&mut bytes, relocations.into_iter().map(Some), &[], None));
        let place = self.cache.reserve(bytes.len(), 64).unwrap();
        self.cache.write(place, &bytes).unwrap();
        place.address
    }

    fn random_state(&mut self) -> Box<CpuState> {
        let mut state = Box::<CpuState>::default();
        for reg in &mut state.gpr {
            *reg = self.random.operand();
        }
        for reg in &mut state.vec {
            for chunk in reg.chunks_mut(8) {
                chunk.copy_from_slice(&self.random.operand().to_le_bytes());
            }
        }
        state.helpers = helpers::table().as_ptr() as u64;
        state.lookup = self.table.lookup_address();
        state.exit_stub = entry::exit_stub();
        state.missed_stub = entry::missed_stub();
        state.link_stub = entry::link_stub();
        state
    }

    /// Compares both tiers on random states.
    fn check<C: Case>(&mut self, name: &str, case: C) {
        let code = self.compile(&case);
        for round in 0..200 {
            let before = self.random_state();
            let mut want = before.clone();
            let mut got = before.clone();
            // SAFETY: code compiled for the block ABI just now; it touches nothing but the state and what the case
            // itself names.
            unsafe { entry::enter(&mut got, code) };
            case.emit(Interpreter::on(&mut want));
            for n in 0..16 {
                assert_eq!(
                    got.gpr[n],
                    want.gpr[n],
                    "{name}, round {round}, gpr {n}: {:#x} for {:#x}; operands {:#x?}",
                    got.gpr[n],
                    want.gpr[n],
                    &before.gpr[..4]
                );
            }
            for n in 0..16 {
                assert_eq!(
                    got.vec[n],
                    want.vec[n],
                    "{name}, round {round}, vector {n}; operands {:x?} {:x?}",
                    &before.vec[0][..16],
                    &before.vec[1][..16]
                );
            }
            assert_eq!(got.rflags(), want.rflags(), "{name}, round {round}, flags");
        }
        fpmode::leave_guest(MXCSR_DEFAULT);
    }
}

/// Cases as closures can't be generic; this makes a unit type of each.
macro_rules! case {
    ($bench:expr, $name:expr, |$e:ident| $body:block, $($captured:ident: $ty:ty),*) => {{
        struct Local { $($captured: $ty),* }
        impl Case for Local {
            fn emit<E: Emitter>(&self, $e: &mut E) {
                $(let $captured = self.$captured;)*
                $body
            }
        }
        let name = format!("{} {:?}", $name, ($($captured,)*));
        $bench.check(&name, Local { $($captured),* });
    }};
}

const TYS: [Ty; 4] = [Ty::I8, Ty::I16, Ty::I32, Ty::I64];

/// Register `n` in a width.
fn operand<E: Emitter>(e: &mut E, ty: Ty, n: usize) -> E::Val {
    let v = e.gpr(n);
    e.trunc(Ty::I64, ty, v)
}

fn result<E: Emitter>(e: &mut E, ty: Ty, n: usize, v: E::Val) {
    let wide = e.zext(ty, Ty::I64, v);
    e.set_gpr(n, wide);
}

#[test]
fn scalar_integers() {
    let mut bench = Bench::new();
    for ty in TYS {
        for op in [Bin::Add, Bin::Sub, Bin::Mul, Bin::And, Bin::Or, Bin::Xor] {
            case!(bench, "bin", |e| {
                let (a, b) = (operand(e, ty, 0), operand(e, ty, 1));
                let r = e.bin(op, ty, a, b);
                result(e, ty, 4, r);
            }, op: Bin, ty: Ty);
        }
        for op in [Bin::Shl, Bin::Lshr, Bin::Ashr, Bin::RotL, Bin::RotR] {
            case!(bench, "shift", |e| {
                let (a, b) = (operand(e, ty, 0), operand(e, ty, 1));
                let mask = e.iconst(ty, u64::from(ty.bits()) - 1);
                let count = e.bin(Bin::And, ty, b, mask);
                let r = e.bin(op, ty, a, count);
                result(e, ty, 4, r);
            }, op: Bin, ty: Ty);
        }
        for op in [Bin::Udiv, Bin::Urem, Bin::Sdiv, Bin::Srem] {
            case!(bench, "divide", |e| {
                let (a, b) = (operand(e, ty, 0), operand(e, ty, 1));
                // A divisor between 1 and 63 fits every precondition.
                let mask = e.iconst(ty, 62);
                let b = e.bin(Bin::And, ty, b, mask);
                let one = e.iconst(ty, 1);
                let b = e.bin(Bin::Or, ty, b, one);
                let r = e.bin(op, ty, a, b);
                result(e, ty, 4, r);
            }, op: Bin, ty: Ty);
        }
        for op in [Un::Not, Un::Neg, Un::Clz, Un::Ctz, Un::Popcnt, Un::Bswap] {
            if op == Un::Bswap && ty == Ty::I8 {
                continue;
            }
            case!(bench, "un", |e| {
                let a = operand(e, ty, 0);
                let r = e.un(op, ty, a);
                result(e, ty, 4, r);
            }, op: Un, ty: Ty);
        }
        for signed in [false, true] {
            case!(bench, "mul_wide", |e| {
                let (a, b) = (operand(e, ty, 0), operand(e, ty, 1));
                let (low, high) = e.mul_wide(signed, ty, a, b);
                result(e, ty, 4, low);
                result(e, ty, 5, high);
            }, signed: bool, ty: Ty);
        }
    }
}

#[test]
fn conditions_and_extensions() {
    use Pred::*;
    let mut bench = Bench::new();
    for ty in TYS {
        for pred in [Eq, Ne, Ult, Ule, Ugt, Uge, Slt, Sle, Sgt, Sge] {
            case!(bench, "cmp", |e| {
                let (a, b) = (operand(e, ty, 0), operand(e, ty, 1));
                let c = e.cmp(pred, ty, a, b);
                let n = e.cond_not(c);
                e.set_flag(Flag::Cf, c);
                e.set_flag(Flag::Of, n);
                let n = e.cond_not(n);
                let r = e.select(ty, n, a, b);
                result(e, ty, 4, r);
                let i = e.cond_to_int(ty, c);
                result(e, ty, 5, i);
            }, pred: Pred, ty: Ty);
        }
        for to in TYS.into_iter().filter(|to| *to > ty) {
            case!(bench, "extend", |e| {
                let a = operand(e, ty, 0);
                let z = e.zext(ty, to, a);
                let s = e.sext(ty, to, a);
                result(e, to, 4, z);
                result(e, to, 5, s);
            }, ty: Ty, to: Ty);
        }
    }
    for op in [CondOp::And, CondOp::Or, CondOp::Xor] {
        case!(bench, "cond_op", |e| {
            let (a, b) = (operand(e, Ty::I8, 0), operand(e, Ty::I8, 1));
            let zero = e.iconst(Ty::I8, 0);
            let a = e.cmp(Pred::Slt, Ty::I8, a, zero);
            let b = e.cmp(Pred::Slt, Ty::I8, b, zero);
            let c = e.cond_op(op, a, b);
            e.set_flag(Flag::Zf, c);
            let z = e.flag(Flag::Zf);
            let z = e.cond_not(z);
            e.set_flag(Flag::Sf, z);
        }, op: CondOp);
    }
}

#[test]
fn control_inside_an_instruction() {
    let mut bench = Bench::new();
    case!(bench, "if_else", |e| {
        let (a, b) = (operand(e, Ty::I64, 0), operand(e, Ty::I64, 1));
        let c = e.cmp(Pred::Slt, Ty::I64, a, b);
        let [r] = E::if_else(
            e,
            c,
            [Ty::I64],
            |e| {
                let old = e.gpr(2);
                e.set_gpr(5, old);
                [b]
            },
            |e| {
                let one = e.iconst(Ty::I64, 1);
                e.set_gpr(0, one);
                [a]
            },
        );
        e.set_gpr(4, r);
        let after = e.gpr(0);
        e.set_gpr(6, after);
        let other = e.gpr(2);
        e.set_gpr(7, other);
    },);
    case!(bench, "address", |e| {
        let (a, b) = (e.gpr(0), e.gpr(1));
        let x = e.address(Some(a), Some((b, 8)), -24);
        let y = e.address(None, Some((b, 2)), 0);
        let z = e.address(None, None, 0x1234);
        let sum = e.bin(Bin::Add, Ty::I64, x, y);
        let sum = e.bin(Bin::Xor, Ty::I64, sum, z);
        e.set_gpr(4, sum);
    },);
}

#[test]
fn memory_and_atomics() {
    let mut bench = Bench::new();
    // Both tiers use the same memory in turn; each case first stores what it then works on.
    let mut buffer = vec![0u64; 8];
    let base = buffer.as_mut_ptr() as u64;
    for ty in TYS {
        for op in [Rmw::Add, Rmw::Sub, Rmw::And, Rmw::Or, Rmw::Xor, Rmw::Xchg] {
            for at in [0, 3] {
                case!(bench, "rmw", |e| {
                    let addr = e.iconst(Ty::I64, base + at);
                    let start = operand(e, ty, 0);
                    e.store(ty, addr, start);
                    let v = operand(e, ty, 1);
                    let old = e.atomic_rmw(op, ty, addr, v);
                    result(e, ty, 4, old);
                    let new = e.load(ty, addr);
                    result(e, ty, 5, new);
                }, op: Rmw, ty: Ty, base: u64, at: u64);
            }
        }
        for (at, hit) in [(0, true), (0, false), (5, true), (5, false)] {
            case!(bench, "cmpxchg", |e| {
                let addr = e.iconst(Ty::I64, base + at);
                let start = operand(e, ty, 0);
                e.store(ty, addr, start);
                let expected = operand(e, ty, if hit { 0 } else { 1 });
                let v = operand(e, ty, 2);
                let old = e.cmpxchg(ty, addr, expected, v);
                result(e, ty, 4, old);
                let new = e.load(ty, addr);
                result(e, ty, 5, new);
            }, ty: Ty, base: u64, at: u64, hit: bool);
        }
    }
    let base = base.next_multiple_of(16);
    for hit in [false, true] {
        case!(bench, "cmpxchg16", |e| {
            let addr = e.iconst(Ty::I64, base);
            let v = e.vec(0, 128);
            e.vstore(128, addr, v);
            let lanes = VTy::x128(Lane::I64);
            let v = e.vec(if hit { 0 } else { 1 }, 128);
            let expected = [0, 1].map(|n| e.extract(lanes, v, n));
            let new = [0, 1].map(|n| e.gpr(n));
            let old = e.cmpxchg16(addr, expected, new);
            e.set_gpr(4, old[0]);
            e.set_gpr(5, old[1]);
            e.fence();
            let v = e.vload(128, addr);
            e.set_vec(6, 128, v, Upper::Keep);
        }, base: u64, hit: bool);
    }
}

const INT_LANES: [Lane; 4] = [Lane::I8, Lane::I16, Lane::I32, Lane::I64];

/// Which lanes each operation is asked for.
fn vbin_lanes(op: VBin) -> &'static [Lane] {
    use VBin::*;
    match op {
        Mul => &INT_LANES[1..3],
        MulHiS | MulHiU => &INT_LANES[1..2],
        AddSatS | AddSatU | SubSatS | SubSatU | AvgU => &INT_LANES[..2],
        _ => &INT_LANES,
    }
}

#[test]
fn vector_integers() {
    use VBin::*;
    let mut bench = Bench::new();
    for op in [
        Add, Sub, Mul, MulHiS, MulHiU, And, Or, Xor, AndNot, MinS, MinU, MaxS, MaxU, AddSatS, AddSatU, SubSatS,
        SubSatU, AvgU, CmpEq, CmpGtS,
    ] {
        for &lane in vbin_lanes(op) {
            for bits in [64, 128] {
                case!(bench, "vbin", |e| {
                    let (a, b) = (e.vec(0, bits), e.vec(1, bits));
                    let r = e.vbin(op, VTy { lane, bits }, a, b);
                    e.set_vec(4, bits, r, Upper::Keep);
                    let again = e.vec(4, bits);
                    e.set_vec(5, bits, again, Upper::Zero);
                }, op: VBin, lane: Lane, bits: u32);
            }
        }
    }
    for op in [VShift::Shl, VShift::Lshr, VShift::Ashr] {
        for lane in [Lane::I16, Lane::I32, Lane::I64] {
            for bits in [64, 128] {
                case!(bench, "vshift", |e| {
                    let a = e.vec(0, bits);
                    let ty = VTy { lane, bits };
                    let wild = e.gpr(0);
                    let r = e.vshift(op, ty, a, wild);
                    e.set_vec(4, bits, r, Upper::Keep);
                    let count = e.gpr(1);
                    let mask = e.iconst(Ty::I64, 63);
                    let count = e.bin(Bin::And, Ty::I64, count, mask);
                    let r = e.vshift(op, ty, a, count);
                    e.set_vec(5, bits, r, Upper::Keep);
                    for (n, fixed) in [0, 7, 16, 33, 64].into_iter().enumerate() {
                        let count = e.iconst(Ty::I64, fixed);
                        let r = e.vshift(op, ty, a, count);
                        e.set_vec(6 + n, bits, r, Upper::Keep);
                    }
                }, op: VShift, lane: Lane, bits: u32);
            }
        }
    }
}

#[test]
fn vector_lanes() {
    let mut bench = Bench::new();
    for lane in [Lane::I8, Lane::I16, Lane::I32, Lane::I64, Lane::F32, Lane::F64] {
        for bits in [64, 128] {
            case!(bench, "lanes", |e| {
                let ty = VTy { lane, bits };
                let (a, b) = (e.vec(0, bits), e.vec(1, bits));
                let n = ty.lanes();
                let indices: Vec<u8> = (0..n).map(|i| ((i * 7 + 3) % (2 * n)) as u8).collect();
                let r = e.shuffle(ty, a, b, &indices);
                e.set_vec(4, bits, r, Upper::Keep);
                let x = operand(e, lane.ty(), 0);
                let r = e.splat(ty, x);
                e.set_vec(5, bits, r, Upper::Keep);
                let r = e.insert(ty, a, n - 1, x);
                e.set_vec(6, bits, r, Upper::Keep);
                let y = e.extract(ty, b, n - 1);
                result(e, lane.ty(), 4, y);
                let m = e.movmask(ty, a);
                e.set_gpr(5, m);
            }, lane: Lane, bits: u32);
        }
    }
    for bits in [64, 128] {
        case!(bench, "special", |e| {
            let (a, b) = (e.vec(0, bits), e.vec(1, bits));
            let words = VTy { lane: Lane::I16, bits };
            let doubles = VTy { lane: Lane::I32, bits };
            let r = [
                e.pack(words, true, a, b),
                e.pack(words, false, a, b),
                e.pack(doubles, true, a, b),
                e.mul_even(false, bits, a, b),
                e.mul_even(true, bits, a, b),
                e.madd_i16(bits, a, b),
                e.sad_u8(bits, a, b),
            ];
            for (n, r) in r.into_iter().enumerate() {
                e.set_vec(4 + n, bits, r, Upper::Keep);
            }
            let bytes: Vec<u8> = (0..bits as u8 / 8).collect();
            let c = e.vconst(&bytes);
            e.set_vec(12, bits, c, Upper::Keep);
        }, bits: u32);
    }
}

#[test]
fn scalar_floats() {
    use FBin::*;
    let mut bench = Bench::new();
    for ty in [Fty::F32, Fty::F64] {
        for op in [Add, Sub, Mul, Div, Min, Max] {
            case!(bench, "fbin", |e| {
                let (a, b) = (operand(e, ty.ty(), 0), operand(e, ty.ty(), 1));
                let r = e.fbin(op, ty, a, b);
                result(e, ty.ty(), 4, r);
            }, op: FBin, ty: Fty);
        }
        for pred in (0..FPred::COUNT).map(FPred::of_number) {
            case!(bench, "fmask", |e| {
                let (a, b) = (operand(e, ty.ty(), 0), operand(e, ty.ty(), 1));
                let r = e.fmask(pred, ty, a, b);
                result(e, ty.ty(), 4, r);
            }, pred: FPred, ty: Fty);
        }
        for signals in [false, true] {
            case!(bench, "fcompare", |e| {
                let (a, b) = (operand(e, ty.ty(), 0), operand(e, ty.ty(), 1));
                let c = e.fcompare(signals, Read::Above, ty, a, b);
                e.set_flag(Flag::Cf, c.carry);
                e.set_flag(Flag::Zf, c.zero);
                e.set_flag(Flag::Of, c.unordered);
                e.set_flag(Flag::Sf, c.above);
            }, signals: bool, ty: Fty);
        }
        for int in [Ty::I32, Ty::I64] {
            for round in [Round::Truncate, Round::Current] {
                case!(bench, "convert", |e| {
                    let a = operand(e, ty.ty(), 0);
                    let i = e.float_to_int(round, ty, int, a);
                    result(e, int, 4, i);
                    let v = operand(e, int, 1);
                    let f = e.int_to_float(int, ty, v);
                    result(e, ty.ty(), 5, f);
                    // A float in the integers' range, too.
                    let half = e.iconst(ty.ty(), match ty { Fty::F32 => 0x3f00_0000, Fty::F64 => 0x3fe0_0000_0000_0000 });
                    let small = e.fbin(FBin::Mul, ty, f, half);
                    let i = e.float_to_int(round, ty, int, small);
                    result(e, int, 6, i);
                }, ty: Fty, int: Ty, round: Round);
            }
        }
        case!(bench, "sqrt", |e| {
            let a = operand(e, ty.ty(), 0);
            let r = e.fsqrt(ty, a);
            result(e, ty.ty(), 4, r);
        }, ty: Fty);
    }
    for (from, to) in [(Fty::F32, Fty::F64), (Fty::F64, Fty::F32)] {
        case!(bench, "float_to_float", |e| {
            let a = operand(e, from.ty(), 0);
            let r = e.float_to_float(from, to, a);
            result(e, to.ty(), 4, r);
        }, from: Fty, to: Fty);
    }
}

#[test]
fn vector_floats() {
    use FBin::*;
    let mut bench = Bench::new();
    for lane in [Lane::F32, Lane::F64] {
        for op in [Add, Sub, Mul, Div, Min, Max] {
            case!(bench, "vfbin", |e| {
                let (a, b) = (e.vec(0, 128), e.vec(1, 128));
                let r = e.vfbin(op, VTy::x128(lane), a, b);
                e.set_vec(4, 128, r, Upper::Keep);
            }, op: FBin, lane: Lane);
        }
        for pred in (0..FPred::COUNT).map(FPred::of_number) {
            case!(bench, "vfcmp", |e| {
                let (a, b) = (e.vec(0, 128), e.vec(1, 128));
                let r = e.vfcmp(pred, VTy::x128(lane), a, b);
                e.set_vec(4, 128, r, Upper::Keep);
            }, pred: FPred, lane: Lane);
        }
        case!(bench, "vfsqrt", |e| {
            let a = e.vec(0, 128);
            let r = e.vfsqrt(VTy::x128(lane), a);
            e.set_vec(4, 128, r, Upper::Keep);
        }, lane: Lane);
    }
}

//! Vector operations by integer lanes, each as one LLVM value of the whole width, in the patterns that LLVM
//! turns into the host's own instructions; x86's by intrinsic where the pattern is longer than the thing.

use inkwell::IntPredicate;
use inkwell::types::{BasicTypeEnum, IntType};
use inkwell::values::{InstructionOpcode as Op, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Lane, Ty, VBin, VShift, VTy};

use crate::emitter::Llvm;

/// The integer lane of twice the width.
fn wider(ty: VTy) -> VTy {
    let lane = match ty.lane.ty() {
        Ty::I8 => Lane::I16,
        Ty::I16 => Lane::I32,
        Ty::I32 => Lane::I64,
        Ty::I64 => panic!("no lane is wider than 64 bits"),
    };
    VTy { lane, bits: ty.bits * 2 }
}

impl<'c> Llvm<'c> {
    fn int_lanes(&self, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.as_vec(v, self.ir.int_vec_type(ty))
    }

    pub fn lanes_bin(&self, op: VBin, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let (a, b) = (self.int_lanes(ty, a), self.int_lanes(ty, b));
        let ir = &self.ir;
        match op {
            VBin::Add => ir.vop(Op::Add, a, b),
            VBin::Sub => ir.vop(Op::Sub, a, b),
            VBin::Mul => ir.vop(Op::Mul, a, b),
            VBin::MulHiS => self.high_product(ty, Op::SExt, a, b),
            VBin::MulHiU => self.high_product(ty, Op::ZExt, a, b),
            VBin::And => ir.vop(Op::And, a, b),
            VBin::Or => ir.vop(Op::Or, a, b),
            VBin::Xor => ir.vop(Op::Xor, a, b),
            VBin::AndNot => ir.vop(Op::And, self.inverted(a), b),
            VBin::MinS => self.same_shape("llvm.smin", a, b),
            VBin::MinU => self.same_shape("llvm.umin", a, b),
            VBin::MaxS => self.same_shape("llvm.smax", a, b),
            VBin::MaxU => self.same_shape("llvm.umax", a, b),
            VBin::AddSatS => self.same_shape("llvm.sadd.sat", a, b),
            VBin::AddSatU => self.same_shape("llvm.uadd.sat", a, b),
            VBin::SubSatS => self.same_shape("llvm.ssub.sat", a, b),
            VBin::SubSatU => self.same_shape("llvm.usub.sat", a, b),
            VBin::AvgU => self.average(ty, a, b),
            VBin::CmpEq => self.lanes_mask(ty, ir.vicmp(IntPredicate::EQ, a, b)),
            VBin::CmpGtS => self.lanes_mask(ty, ir.vicmp(IntPredicate::SGT, a, b)),
        }
    }

    fn inverted(&self, v: VectorValue<'c>) -> VectorValue<'c> {
        let ones = v.get_type().const_zero();
        let ones = self.ir.b.build_not(ones, "").expect("positioned");
        self.ir.vop(Op::Xor, v, ones)
    }

    fn same_shape(&self, name: &str, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.vintrinsic(name, &[BasicTypeEnum::from(a.get_type())], a, b)
    }

    /// All ones in the lanes where a comparison holds.
    pub fn lanes_mask(&self, ty: VTy, c: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.vcast(Op::SExt, c, self.ir.int_vec_type(ty))
    }

    fn high_product(&self, ty: VTy, extend: Op, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let ir = &self.ir;
        let wide = wider(ty);
        let t = ir.int_vec_type(wide);
        let product = ir.vop(Op::Mul, ir.vcast(extend, a, t), ir.vcast(extend, b, t));
        let count = ir.splat_const(wide, u64::from(ty.lane.ty().bits()));
        let high = ir.vop(Op::LShr, product, count);
        ir.vcast(Op::Trunc, high, ir.int_vec_type(ty))
    }

    fn average(&self, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let ir = &self.ir;
        let wide = wider(ty);
        let t = ir.int_vec_type(wide);
        let one = ir.splat_const(wide, 1);
        let sum = ir.vop(Op::Add, ir.vcast(Op::ZExt, a, t), ir.vcast(Op::ZExt, b, t));
        let half = ir.vop(Op::LShr, ir.vop(Op::Add, sum, one), one);
        ir.vcast(Op::Trunc, half, ir.int_vec_type(ty))
    }

    pub fn lanes_splat(&self, ty: VTy, v: IntValue<'c>) -> VectorValue<'c> {
        let t = self.ir.int_vec_type(ty);
        let first = self.ir.insert(t.get_poison(), 0, v);
        self.ir.shuffle(first, t.get_poison(), (0..ty.lanes()).map(|_| 0))
    }

    /// LLVM's shifts are undefined from the lane's width on, x86's give zeros or the sign.
    pub fn lanes_shift(&self, op: VShift, ty: VTy, a: VectorValue<'c>, count: IntValue<'c>) -> VectorValue<'c> {
        let a = self.int_lanes(ty, a);
        let ir = &self.ir;
        let lane = ty.lane.ty();
        let width = u64::from(lane.bits());
        let last = ir.i64(width - 1);
        let in_range = ir.icmp(IntPredicate::ULE, count, last);
        let clamped = ir.select(in_range, count, last);
        let clamped = if lane == Ty::I64 { clamped } else { ir.trunc(clamped, lane) };
        let counts = self.lanes_splat(ty, clamped);
        let opcode = match op {
            VShift::Shl => Op::Shl,
            VShift::Lshr => Op::LShr,
            VShift::Ashr => return ir.vop(Op::AShr, a, counts),
        };
        let shifted = ir.vop(opcode, a, counts);
        ir.b.build_select(in_range, shifted, a.get_type().const_zero(), "").expect("positioned").into_vector_value()
    }

    pub fn lanes_movmask(&self, ty: VTy, v: VectorValue<'c>) -> IntValue<'c> {
        let v = self.int_lanes(ty, v);
        let zero = v.get_type().const_zero();
        self.bits_of_lanes(self.ir.vicmp(IntPredicate::SLT, v, zero))
    }

    fn bits_type(&self, lanes: u32) -> IntType<'c> {
        let bits = std::num::NonZeroU32::new(lanes).expect("a vector has lanes");
        self.ir.cx.custom_width_int_type(bits).expect("LLVM has integers of this width")
    }

    /// Lanes of one bit as an I64.
    pub fn bits_of_lanes(&self, mask: VectorValue<'c>) -> IntValue<'c> {
        let lanes = mask.get_type().get_size();
        let bits = self.ir.bitcast(mask, self.bits_type(lanes)).into_int_value();
        if lanes == 64 { bits } else { self.ir.zext(bits, Ty::I64) }
    }

    /// The low bits of an I64 as lanes.
    pub fn lanes_of_bits(&self, lanes: u32, bits: IntValue<'c>) -> VectorValue<'c> {
        let low =
            if lanes == 64 { bits } else { self.ir.cast(Op::Trunc, bits, self.bits_type(lanes)).into_int_value() };
        self.ir.bitcast(low, self.ir.cx.bool_type().vec_type(lanes)).into_vector_value()
    }

    pub fn lanes_byte_shuffle(&self, bits: u32, table: VectorValue<'c>, index: VectorValue<'c>) -> VectorValue<'c> {
        let shape = |bits| VTy { lane: Lane::I8, bits };
        let (table, index) = (self.int_lanes(shape(bits), table), self.int_lanes(shape(bits), index));
        let ir = &self.ir;
        if bits < 128 {
            // The MMX form names one of eight bytes.
            let index = ir.vop(Op::And, index, ir.splat_const(shape(bits), 0x87));
            let widen = |v: VectorValue<'c>| ir.shuffle(v, v.get_type().const_zero(), 0..16);
            let r = self.shuffle16(widen(table), widen(index));
            return ir.shuffle(r, r, 0..8);
        }
        let names = ["llvm.x86.ssse3.pshuf.b.128", "llvm.x86.avx2.pshuf.b", "llvm.x86.avx512.pshuf.b.512"];
        if let Some(name) = self.by_width(bits, names).filter(|_| self.has("ssse3")) {
            return ir.vintrinsic(name, &[], table, index);
        }
        let part = |v: VectorValue<'c>, n: u32| ir.shuffle(v, v, 16 * n..16 * n + 16);
        let whole = ir.int_vec_type(shape(bits)).const_zero();
        (0..bits / 128).fold(whole, |sum, n| {
            let r = self.shuffle16(part(table, n), part(index, n));
            let r = ir.shuffle(r, r, (0..bits / 8).map(|i| i % 16));
            ir.shuffle(sum, r, (0..bits / 8).map(|i| if i / 16 == n { bits / 8 + i } else { i }))
        })
    }

    /// PSHUFB on 16 bytes.
    fn shuffle16(&self, table: VectorValue<'c>, index: VectorValue<'c>) -> VectorValue<'c> {
        let ir = &self.ir;
        let bytes = VTy { lane: Lane::I8, bits: 128 };
        match self.arch {
            Arch::X86_64 if self.has("ssse3") => ir.vintrinsic("llvm.x86.ssse3.pshuf.b.128", &[], table, index),
            // TBL gives zero for every index of 16 and above (Arm ARM, C7.2.391).
            Arch::Aarch64 => {
                let index = ir.vop(Op::And, index, ir.splat_const(bytes, 0x8f));
                let overload = [BasicTypeEnum::from(table.get_type())];
                ir.vintrinsic("llvm.aarch64.neon.tbl1", &overload, table, index)
            }
            Arch::X86_64 => (0..16).fold(table, |sum, n| {
                let i = ir.extract(index, n).into_int_value();
                let low = ir.op(Op::And, i, ir.int(Ty::I8, 15));
                let byte = ir.b.build_extract_element(table, low, "").expect("positioned").into_int_value();
                let zero = ir.int(Ty::I8, 0);
                let clear = ir.icmp(IntPredicate::SLT, i, zero);
                ir.insert(sum, n, ir.select(clear, zero, byte))
            }),
        }
    }

    pub fn lanes_pack(&self, from: VTy, to_signed: bool, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let (a, b) = (self.int_lanes(from, a), self.int_lanes(from, b));
        if let Some(name) = self.pack_intrinsic(from, to_signed) {
            return self.ir.vintrinsic(name, &[], a, b);
        }
        let ir = &self.ir;
        let (both, lanes) = (VTy { bits: from.bits * 2, ..from }, from.lanes());
        // Each 128 bits by themselves.
        let block = from.bits.min(128) / from.lane.ty().bits();
        let place = |n: u32| n / (2 * block) * block + n % block + if n % (2 * block) < block { 0 } else { lanes };
        let joined = ir.shuffle(a, b, (0..both.lanes()).map(place));
        let half = from.lane.ty().bits() / 2;
        let (low, high): (i64, i64) =
            if to_signed { (-(1 << (half - 1)), (1 << (half - 1)) - 1) } else { (0, (1 << half) - 1) };
        let above = self.same_shape("llvm.smax", joined, ir.splat_const(both, low as u64));
        let clamped = self.same_shape("llvm.smin", above, ir.splat_const(both, high as u64));
        let narrow = VTy { lane: if half == 8 { Lane::I8 } else { Lane::I16 }, bits: from.bits };
        ir.vcast(Op::Trunc, clamped, ir.int_vec_type(narrow))
    }

    /// The one of an instruction's intrinsics that the target has for a width.
    fn by_width(&self, bits: u32, names: [&'static str; 3]) -> Option<&'static str> {
        let (has, name) = match bits {
            128 => (true, names[0]),
            256 => (self.has("avx2"), names[1]),
            512 => (self.has("avx512bw"), names[2]),
            _ => return None,
        };
        (self.arch == Arch::X86_64 && has).then_some(name)
    }

    /// x86's own packs; the one from 32 bits with unsigned results came with SSE4.1.
    fn pack_intrinsic(&self, from: VTy, to_signed: bool) -> Option<&'static str> {
        let names = match (from.lane.ty(), to_signed) {
            (Ty::I16, true) => ["llvm.x86.sse2.packsswb.128", "llvm.x86.avx2.packsswb", "llvm.x86.avx512.packsswb.512"],
            (Ty::I16, false) => {
                ["llvm.x86.sse2.packuswb.128", "llvm.x86.avx2.packuswb", "llvm.x86.avx512.packuswb.512"]
            }
            (_, true) => ["llvm.x86.sse2.packssdw.128", "llvm.x86.avx2.packssdw", "llvm.x86.avx512.packssdw.512"],
            (_, false) if from.bits == 128 && !self.has("sse4.1") => return None,
            (_, false) => ["llvm.x86.sse41.packusdw", "llvm.x86.avx2.packusdw", "llvm.x86.avx512.packusdw.512"],
        };
        self.by_width(from.bits, names)
    }

    pub fn lanes_mul_even(&self, signed: bool, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let wide = VTy { lane: Lane::I64, bits };
        let ir = &self.ir;
        let even = |v| {
            let v = self.int_lanes(wide, v);
            if signed {
                let up = ir.vop(Op::Shl, v, ir.splat_const(wide, 32));
                ir.vop(Op::AShr, up, ir.splat_const(wide, 32))
            } else {
                ir.vop(Op::And, v, ir.splat_const(wide, u64::from(u32::MAX)))
            }
        };
        let (a, b) = (even(a), even(b));
        ir.vop(Op::Mul, a, b)
    }

    pub fn lanes_madd(&self, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let narrow = VTy { lane: Lane::I16, bits };
        let (a, b) = (self.int_lanes(narrow, a), self.int_lanes(narrow, b));
        let ir = &self.ir;
        let names = ["llvm.x86.sse2.pmadd.wd", "llvm.x86.avx2.pmadd.wd", "llvm.x86.avx512.pmaddw.d.512"];
        if let Some(name) = self.by_width(bits, names) {
            return ir.vintrinsic(name, &[], a, b);
        }
        let t = ir.int_vec_type(wider(narrow));
        let product = ir.vop(Op::Mul, ir.vcast(Op::SExt, a, t), ir.vcast(Op::SExt, b, t));
        let half = bits / 32;
        let even = ir.shuffle(product, t.get_poison(), (0..half).map(|i| 2 * i));
        let odd = ir.shuffle(product, t.get_poison(), (0..half).map(|i| 2 * i + 1));
        ir.vop(Op::Add, even, odd)
    }

    pub fn lanes_sad(&self, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let bytes = VTy { lane: Lane::I8, bits };
        let (a, b) = (self.int_lanes(bytes, a), self.int_lanes(bytes, b));
        let ir = &self.ir;
        let names = ["llvm.x86.sse2.psad.bw", "llvm.x86.avx2.psad.bw", "llvm.x86.avx512.psad.bw.512"];
        if let Some(name) = self.by_width(bits, names) {
            return ir.vintrinsic(name, &[], a, b);
        }
        let difference = ir.vop(Op::Sub, self.same_shape("llvm.umax", a, b), self.same_shape("llvm.umin", a, b));
        let t = ir.int_vec_type(wider(bytes));
        let wide = ir.vcast(Op::ZExt, difference, t);
        let quads = ir.cx.i64_type().vec_type(bits / 64);
        (0..bits / 64).fold(quads.const_zero(), |sums, n| {
            let eight = ir.shuffle(wide, t.get_poison(), 8 * n..8 * n + 8);
            let sum = ir
                .intrinsic("llvm.vector.reduce.add", &[eight.get_type().into()], &[eight.into()])
                .expect("a sum")
                .into_int_value();
            ir.insert(sums, n, ir.zext(sum, Ty::I64))
        })
    }
}

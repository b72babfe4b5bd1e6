//! Operations by integer lanes. LLVM makes good code of the generic form of most; x86's own instructions are asked for where
//! the generic form is longer than the thing.

use inkwell::IntPredicate;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{InstructionOpcode, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Ty, VTy};
use xlate_x86::wide::integer::Op;

use super::{overload, vector};
use crate::emitter::Llvm;

impl<'c> Llvm<'c> {
    pub(super) fn wide_integer(
        &self,
        op: Op,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<VectorValue<'c>> {
        if let Some(name) = self.x86_integer(op, ty, immediate) {
            return Some(self.ir.intrinsic_on_bits(&name, &[], operands, immediate));
        }
        let lanes: Vec<_> = operands.iter().map(|v| self.as_lanes(ty, *v)).collect();
        let funnel = |name, [high, low, count]: [VectorValue<'c>; 3]| {
            vector(self.ir.intrinsic(name, &overload(high), &[high.into(), low.into(), count.into()]))
        };
        Some(match (op, &lanes[..]) {
            (Op::ShiftLeft | Op::ShiftRight | Op::ShiftRightSigned, [v, counts]) => {
                self.shift_each(op, ty, *v, *counts)
            }
            (Op::RotateLeft, [v, counts]) => funnel("llvm.fshl", [*v, *v, *counts]),
            (Op::RotateRight, [v, counts]) => funnel("llvm.fshr", [*v, *v, *counts]),
            (Op::FunnelLeft, [v, other, counts]) => funnel("llvm.fshl", [*v, *other, *counts]),
            (Op::FunnelRight, [v, other, counts]) => funnel("llvm.fshr", [*other, *v, *counts]),
            (Op::LeadingZeros, [v]) => {
                let of_zero_is_poison = self.ir.bool(false);
                vector(self.ir.intrinsic("llvm.ctlz", &overload(*v), &[(*v).into(), of_zero_is_poison.into()]))
            }
            (Op::Ones, [v]) => vector(self.ir.intrinsic("llvm.ctpop", &overload(*v), &[(*v).into()])),
            _ => return None,
        })
    }

    /// The intrinsic for an operation, if the host has the instruction. Its immediate tells what a product is of.
    fn x86_integer(&self, op: Op, ty: VTy, immediate: u8) -> Option<String> {
        const SATURATED_BYTES: u8 = Op::SECOND_SIGNED | Op::SATURATED;
        const SATURATED_WORDS: u8 = Op::FIRST_SIGNED | Op::SECOND_SIGNED | Op::SATURATED;
        let lane = ty.lane.ty();
        let (extension, name) = match op {
            Op::ShiftLeft => return self.x86_shift("psllv", ty),
            Op::ShiftRight => return self.x86_shift("psrlv", ty),
            Op::ShiftRightSigned => return self.x86_shift("psrav", ty),
            Op::UnalignedBytes => ("avx512vbmi", "pmultishift.qb"),
            Op::Conflicts if lane == Ty::I32 => ("avx512cd", "conflict.d"),
            Op::Conflicts => ("avx512cd", "conflict.q"),
            Op::SlidingDifferences => ("avx512bw", "dbpsadbw"),
            Op::DotProduct if lane == Ty::I8 && immediate == SATURATED_BYTES => ("avx512vnni", "vpdpbusds"),
            Op::DotProduct if lane == Ty::I16 && immediate == SATURATED_WORDS => ("avx512vnni", "vpdpwssds"),
            Op::MultiplyAdd52 if immediate == Op::UPPER_PRODUCT => ("avx512ifma", "vpmadd52h.uq"),
            Op::MultiplyAdd52 => ("avx512ifma", "vpmadd52l.uq"),
            _ => return None,
        };
        self.has_avx512(extension, ty.bits).then(|| format!("llvm.x86.avx512.{name}.{}", ty.bits))
    }

    /// AVX2 has all but those of words, VPSRAVQ, and 512 bits.
    fn x86_shift(&self, name: &str, ty: VTy) -> Option<String> {
        let lane = match ty.lane.ty() {
            Ty::I8 => return None,
            Ty::I16 => "w",
            Ty::I32 => "d",
            Ty::I64 => "q",
        };
        let newer = lane == "w" || name == "psrav" && lane == "q" || ty.bits == 512;
        let extension = if lane == "w" { "avx512bw" } else { "avx512f" };
        if newer {
            return self.has_avx512(extension, ty.bits).then(|| format!("llvm.x86.avx512.{name}.{lane}.{}", ty.bits));
        }
        let width = if ty.bits == 256 { ".256" } else { "" };
        let has = self.arch == Arch::X86_64 && self.has("avx2");
        has.then(|| format!("llvm.x86.avx2.{name}.{lane}{width}"))
    }

    /// LLVM's shifts are undefined from the lane's width on.
    fn shift_each(&self, op: Op, ty: VTy, v: VectorValue<'c>, counts: VectorValue<'c>) -> VectorValue<'c> {
        let ir = &self.ir;
        let width = u64::from(ty.lane.ty().bits());
        let most = if op == Op::ShiftRightSigned { width - 1 } else { width };
        let counts = ir.vintrinsic("llvm.umin", &overload(v), counts, ir.splat_const(ty, most));
        if self.arch == Arch::Aarch64 {
            return self.arm_shift_each(op, ty, v, counts);
        }
        if op == Op::ShiftRightSigned {
            return ir.vop(InstructionOpcode::AShr, v, counts);
        }
        let opcode = if op == Op::ShiftLeft { InstructionOpcode::Shl } else { InstructionOpcode::LShr };
        let in_range = ir.vicmp(IntPredicate::ULT, counts, ir.splat_const(ty, width));
        let zero = v.get_type().const_zero();
        let counts = ir.vselect(in_range, counts, zero);
        ir.vselect(in_range, ir.vop(opcode, v, counts), zero)
    }

    /// By the signed count in each lane's low byte, to the right if it is negative; beyond the width nothing is left (Arm ARM,
    /// USHL and SSHL).
    fn arm_shift_each(&self, op: Op, ty: VTy, v: VectorValue<'c>, counts: VectorValue<'c>) -> VectorValue<'c> {
        let zero = v.get_type().const_zero();
        let counts = if op == Op::ShiftLeft { counts } else { self.ir.vop(InstructionOpcode::Sub, zero, counts) };
        let name = if op == Op::ShiftRightSigned { "llvm.aarch64.neon.sshl" } else { "llvm.aarch64.neon.ushl" };
        let block = self.ir.int_vec_type(VTy { bits: 128, ..ty });
        self.by_blocks(ty.bits, &[v, counts], |operands| {
            self.ir.intrinsic_on_bits(name, &[BasicTypeEnum::from(block)], operands, 0)
        })
    }
}

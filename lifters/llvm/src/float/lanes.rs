//! Operations on all lanes of a vector.

use inkwell::IntPredicate;
use inkwell::values::{BasicValueEnum, InstructionOpcode as Op, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{FBin, FPred, VTy};
use xlate_x86::interpreter::float::Operation;

use super::{VECTOR_REGISTER, name};
use crate::emitter::Llvm;

impl<'c> Llvm<'c> {
    pub fn float_lanes_bin(&mut self, op: FBin, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let (a, b) = (self.float_lanes(ty, a), self.float_lanes(ty, b));
        let name = name(op);
        match op {
            FBin::Min | FBin::Max if self.arch == Arch::Aarch64 => {
                self.in_registers(&[a, b], &|parts| self.arm_extremum(op, parts))
            }
            _ if self.arch == Arch::Aarch64 => {
                let r = self.in_registers(&[a, b], &|parts| self.arm_instruction(name, parts));
                self.lanes_with_x86_nan(ty, r, &[a, b])
            }
            FBin::Mul | FBin::Div if !self.static_rounding => {
                let a = self.in_registers(&[a], &|parts| self.ir.empty_asm(parts[0], VECTOR_REGISTER));
                let r = self.ir.constrained(&format!("f{name}"), &[a.get_type().into()], &[a.into(), b.into()]);
                r.into_vector_value()
            }
            _ => self.in_registers(&[a, b], &|parts| self.x86_instruction(name, parts)),
        }
    }

    pub fn float_lanes_sqrt(&mut self, ty: VTy, a: VectorValue<'c>) -> VectorValue<'c> {
        let a = self.float_lanes(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.in_registers(&[a], &|parts| self.arm_instruction("sqrt", parts));
            return self.lanes_with_x86_nan(ty, r, &[a]);
        }
        if self.static_rounding {
            return self.in_registers(&[a], &|parts| self.x86_root(parts[0]));
        }
        self.ir.constrained("sqrt", &[a.get_type().into()], &[a.into()]).into_vector_value()
    }

    pub fn float_lanes_cmp(&mut self, pred: FPred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        if !self.compares(pred) {
            return self.float_lanes_cmp_by_helper(pred, ty, a, b);
        }
        let (a, b) = (self.float_lanes(ty, a), self.float_lanes(ty, b));
        if self.arch == Arch::X86_64 {
            let by = format!("$${}, ", pred.number());
            let register = self.register_bits().min(256);
            return self.in_parts(register, &[a, b], &|parts| self.vex_instruction("cmp", &by, parts));
        }
        let ints = self.ir.int_vec_type(ty);
        let mask = |pred, a, b| {
            let mask = self.in_registers(&[a, b], &|parts| self.arm_mask(pred, parts[0], parts[1]).0);
            self.ir.as_vec(mask, ints)
        };
        let ones = self.ir.splat_const(ty, u64::MAX);
        let r = match pred {
            FPred::UNO | FPred::ORD => self.ir.vop(Op::And, mask(FPred::OEQ, a, a), mask(FPred::OEQ, b, b)),
            _ => mask(pred, a, b),
        };
        let inverted = matches!(pred, FPred::UNO | FPred::UNE | FPred::UGE | FPred::UGT | FPred::ULE | FPred::ULT);
        if inverted { self.ir.vop(Op::Xor, r, ones) } else { r }
    }

    /// [`xlate_x86::Emitter::vfcompare`].
    pub fn float_lanes_compare(
        &mut self,
        pred: FPred,
        ty: VTy,
        a: VectorValue<'c>,
        b: VectorValue<'c>,
    ) -> VectorValue<'c> {
        if self.has_avx512("avx512f", ty.bits) {
            let operands = [a, b].map(|v| self.float_lanes(ty, v).into());
            let text = format!("vcmp{} $${}, $2, $1, $0", self.x86_suffix(operands[0]), pred.number());
            return self.x86_mask(ty.lanes(), &text, "v,v", &operands);
        }
        let mask = self.float_lanes_cmp(pred, ty, a, b);
        let mask = self.ir.as_vec(mask, self.ir.int_vec_type(ty));
        self.ir.vicmp(IntPredicate::SLT, mask, mask.get_type().const_zero())
    }

    pub(super) fn float_lanes_cmp_by_helper(
        &mut self,
        pred: FPred,
        ty: VTy,
        a: VectorValue<'c>,
        b: VectorValue<'c>,
    ) -> VectorValue<'c> {
        let f = ty.lane.fty().expect("float lanes");
        let ints = self.ir.int_vec_type(ty);
        let (a, b) = (self.ir.as_vec(a, ints), self.ir.as_vec(b, ints));
        (0..ty.lanes()).fold(a, |r, n| {
            let operands = [a, b].map(|v| self.ir.extract(v, n).into_int_value());
            let mask = self.float_helper(Operation::Mask(pred, f), f.ty(), operands);
            self.ir.insert(r, n, BasicValueEnum::from(mask))
        })
    }
}

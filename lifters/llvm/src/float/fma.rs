//! Fused multiplication and addition, scalars and vectors.
//!
//! AArch64's instructions raise the invalid flag where the product of zero and infinity has a quiet NaN added to it, x86's don't
//! (Arm ARM, FPMulAdd; SDM vol. 1, 14.5.2). Looking at every third operand before would double the cost, so that flag may be one
//! too many there.

use inkwell::types::VectorType;
use inkwell::values::{BasicValueEnum, InstructionOpcode as Op, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Fma, Fty, VTy, fma_by_helper, vfma_by_helper};

use crate::emitter::Llvm;

/// The name of a fused multiplication and addition in x86's instructions.
fn x86_name(op: Fma) -> &'static str {
    match op {
        Fma::Add => "fmadd",
        Fma::Sub => "fmsub",
        Fma::NegatedAdd => "fnmadd",
        Fma::NegatedSub => "fnmsub",
        Fma::AddSub => "fmaddsub",
        Fma::SubAdd => "fmsubadd",
    }
}

/// The name of an operation on scalars in AArch64's instructions, which negate the third operand and the sum in theirs.
fn arm_name(op: Fma) -> &'static str {
    match op {
        Fma::Add => "madd",
        Fma::Sub => "nmsub",
        Fma::NegatedAdd => "msub",
        Fma::NegatedSub => "nmadd",
        Fma::AddSub | Fma::SubAdd => unreachable!("a scalar has no odd lanes"),
    }
}

impl<'c> Llvm<'c> {
    /// [`xlate_x86::Emitter::fma`].
    pub fn float_fma(&mut self, op: Fma, ty: Fty, operands: [IntValue<'c>; 3]) -> IntValue<'c> {
        if !self.fuses() {
            return fma_by_helper(self, op, ty, operands.map(Into::into)).int;
        }
        let operands @ [x, y, z] = operands.map(|v| self.float(ty, v));
        if self.arch == Arch::Aarch64 {
            let r = self.arm_instruction(arm_name(op), &operands.map(Into::into));
            return self.with_x86_nan(ty, r.into_float_value(), &operands);
        }
        let r = self.x86_fma(op, &[z, x, y].map(Into::into));
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::vfma`].
    pub fn float_lanes_fma(&mut self, op: Fma, ty: VTy, operands: [VectorValue<'c>; 3]) -> VectorValue<'c> {
        // Scalars in a vector have a shape of their own, and halves are lanes of integers.
        if !self.fuses() || ty.bits < 128 || ty.lane.fty().is_none() {
            return vfma_by_helper(self, op, ty, operands);
        }
        let operands @ [x, y, z] = operands.map(|v| self.float_lanes(ty, v));
        if self.arch == Arch::Aarch64 {
            let [negates_product, _] = op.negates(0);
            let z = self.addend(op, ty, z);
            let r = self.in_registers(&[z, x, y], &|parts| self.arm_fma(negates_product, parts));
            return self.lanes_with_x86_nan(ty, r, &operands);
        }
        self.in_registers(&[z, x, y], &|parts| self.x86_fma(op, parts))
    }

    /// Whether the host has an instruction for it.
    fn fuses(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has("fma")
    }

    /// The second operand times the third is added to the first; scalars or vectors that fit into a register. The form of the
    /// instruction decides between NaNs, so it is the same for all of the guest's.
    fn x86_fma(&self, op: Fma, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        self.x86_fma_of(op, &self.x86_suffix(operands[0]), operands)
    }

    /// The same for the format of this suffix.
    pub fn x86_fma_of(&self, op: Fma, suffix: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let text = format!("v{}231{suffix} $3, $2, $0", x86_name(op));
        self.ir.raising_asm(operands[0].get_type(), &text, "=v,0,v,v", operands)
    }

    /// The same of AArch64's on vectors, which may negate the product.
    fn arm_fma(&self, negates_product: bool, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let form = self.arm_form(operands[0]);
        let place = |n: &str| form.replace('N', n);
        let name = if negates_product { "fmls" } else { "fmla" };
        let text = format!("{name} {}, {}, {}", place("0"), place("2"), place("3"));
        self.ir.raising_asm(operands[0].get_type(), &text, "=w,0,w,w", operands)
    }

    /// The third operand, negated in the lanes where the operation wants that.
    fn addend(&self, op: Fma, ty: VTy, z: VectorValue<'c>) -> VectorValue<'c> {
        let ir = &self.ir;
        match op {
            Fma::Add | Fma::NegatedAdd => z,
            Fma::Sub | Fma::NegatedSub => ir.b.build_float_neg(z, "").expect("positioned"),
            Fma::AddSub | Fma::SubAdd => {
                let lane = ty.lane.ty();
                let sign = |n| if op.negates(n)[1] { 1 << (lane.bits() - 1) } else { 0 };
                let signs: Vec<_> = (0..ty.lanes()).map(|n| ir.int(lane, sign(n))).collect();
                let ints = ir.as_vec(z, ir.int_vec_type(ty));
                ir.as_vec(ir.vop(Op::Xor, ints, VectorType::const_vector(&signs)), z.get_type())
            }
        }
    }
}

//! Fused multiplication and addition.

use inkwell::values::{BasicValueEnum, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Fma, Fty, VTy, fma_by_helper, vfma_by_helper};

use crate::emitter::Llvm;

/// The name of a fused multiplication and addition in x86's instructions.
fn fused_name(op: Fma) -> &'static str {
    match op {
        Fma::Add => "fmadd",
        Fma::Sub => "fmsub",
        Fma::NegatedAdd => "fnmadd",
        Fma::NegatedSub => "fnmsub",
        Fma::AddSub => "fmaddsub",
        Fma::SubAdd => "fmsubadd",
    }
}

impl<'c> Llvm<'c> {
    /// [`xlate_x86::Emitter::fma`].
    pub fn float_fma(&mut self, op: Fma, ty: Fty, operands: [IntValue<'c>; 3]) -> IntValue<'c> {
        if !self.fuses() {
            return fma_by_helper(self, op, ty, operands.map(Into::into)).int;
        }
        let [x, y, z] = operands.map(|v| self.float(ty, v).into());
        let r = self.x86_fma(op, &[z, x, y]);
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::vfma`].
    pub fn float_lanes_fma(&mut self, op: Fma, ty: VTy, operands: [VectorValue<'c>; 3]) -> VectorValue<'c> {
        // Scalars in a vector have a shape of their own, and halves are lanes of integers.
        if !self.fuses() || ty.bits < 128 || ty.lane.fty().is_none() {
            return vfma_by_helper(self, op, ty, operands);
        }
        let [x, y, z] = operands.map(|v| self.float_lanes(ty, v));
        self.in_registers(&[z, x, y], &|parts| self.x86_fma(op, parts))
    }

    /// Whether the host has the guest's instructions.
    pub(super) fn fuses(&self) -> bool {
        self.arch == Arch::X86_64 && self.has("fma")
    }

    /// The second operand times the third is added to the first; scalars or vectors that fit into a register. The form of the
    /// instruction decides between NaNs, so it is the same for all of the guest's.
    pub(super) fn x86_fma(&self, op: Fma, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let text = format!("v{}231{} $3, $2, $0", fused_name(op), self.x86_suffix(operands[0]));
        self.ir.raising_asm(operands[0].get_type(), &text, "=x,0,x,x", operands)
    }
}

//! NaNs as x86 makes them, on a host that makes others.

use inkwell::FloatPredicate;
use inkwell::values::{BasicValueEnum, FloatValue, InstructionOpcode as Op, IntValue, VectorValue};
use xlate_x86::emitter::{Fty, VTy};

use crate::emitter::Llvm;
use crate::ir::Likely;

/// The bit that makes a NaN quiet, and the NaN that an invalid operation gives.
fn quiet_and_indefinite(ty: Fty) -> (u64, u64) {
    match ty {
        Fty::F32 => (1 << 22, 0xffc0_0000),
        Fty::F64 => (1 << 51, 0xfff8_0000_0000_0000),
    }
}

impl<'c> Llvm<'c> {
    /// The bits of AArch64's result; a NaN as x86 makes it of these operands.
    pub(super) fn with_x86_nan(&mut self, ty: Fty, r: FloatValue<'c>, operands: &[FloatValue<'c>]) -> IntValue<'c> {
        let ir = &self.ir;
        if let Some(unmended) = &mut self.unmended {
            unmended.result(self.ip, r.into());
            return ir.float_to_int_bits(r, ty);
        }
        let (redo, join) = (ir.block("nan"), ir.block(""));
        let is_nan = ir.fcmp(FloatPredicate::UNO, r, r);
        ir.cond_br(is_nan, redo, join, Likely::Never);
        let from = ir.here();
        ir.at_end(redo);
        let (quiet, indefinite) = quiet_and_indefinite(ty);
        // Opaque, so that this stays off the way of ordinary results instead of becoming a chain of selections there.
        let quiet = ir.empty_asm(ir.int(ty.ty(), quiet), "=r,0").into_int_value();
        let nan = operands.iter().rev().fold(ir.int(ty.ty(), indefinite), |other, &f| {
            let is_nan = ir.fcmp(FloatPredicate::UNO, f, f);
            ir.select(is_nan, ir.op(Op::Or, ir.float_to_int_bits(f, ty), quiet), other)
        });
        let nan = self.float(ty, nan);
        ir.br(join);
        ir.at_end(join);
        let phi = ir.b.build_phi(r.get_type(), "").expect("positioned");
        phi.add_incoming(&[(&r, from), (&nan, redo)]);
        ir.float_to_int_bits(phi.as_basic_value().into_float_value(), ty)
    }

    /// As for scalars: when any lane is a NaN, all such lanes are redone.
    pub(super) fn lanes_with_x86_nan(
        &mut self,
        ty: VTy,
        r: VectorValue<'c>,
        operands: &[VectorValue<'c>],
    ) -> VectorValue<'c> {
        let ir = &self.ir;
        if let Some(unmended) = &mut self.unmended {
            unmended.result(self.ip, r.into());
            return r;
        }
        let (redo, join) = (ir.block("nan"), ir.block(""));
        let is_nan = |v| ir.vfcmp(FloatPredicate::UNO, v, v);
        let largest = self.largest(r);
        let any = ir.fcmp(FloatPredicate::UNO, largest, largest);
        ir.cond_br(any, redo, join, Likely::Never);
        let from = ir.here();
        ir.at_end(redo);
        let nans = is_nan(r);
        let f = ty.lane.fty().expect("float lanes");
        let (quiet, indefinite) = quiet_and_indefinite(f);
        let ints = ir.int_vec_type(ty);
        // As for scalars.
        let quiet = ir.empty_asm(ir.int(f.ty(), quiet), "=r,0").into_int_value();
        let quiet = ir.as_vec(self.lanes_splat(ty, quiet), ints);
        let nan = operands.iter().rev().fold(ir.splat_const(ty, indefinite), |other, &v| {
            let quieted = ir.vop(Op::Or, ir.as_vec(v, ints), quiet);
            ir.vselect(is_nan(v), quieted, other)
        });
        let nan = ir.as_vec(nan, ir.vec_type(ty));
        let fixed = ir.vselect(nans, nan, r);
        ir.br(join);
        ir.at_end(join);
        let phi = ir.b.build_phi(r.get_type(), "").expect("positioned");
        phi.add_incoming(&[(&r, from), (&fixed, redo)]);
        phi.as_basic_value().into_vector_value()
    }

    /// Whether there is a NaN among results, scalars and lanes.
    pub fn any_nan(&self, results: &[BasicValueEnum<'c>]) -> IntValue<'c> {
        let mut scalars = Vec::new();
        let mut vectors: Vec<VectorValue<'c>> = Vec::new();
        for result in results {
            match result {
                BasicValueEnum::VectorValue(v) => match vectors.iter_mut().find(|w| w.get_type() == v.get_type()) {
                    Some(w) => *w = self.ir.vintrinsic("llvm.maximum", &[v.get_type().into()], *w, *v),
                    None => vectors.push(*v),
                },
                scalar => scalars.push(scalar.into_float_value()),
            }
        }
        scalars.extend(vectors.into_iter().map(|v| self.largest(v)));
        // A comparison looks at two.
        scalars.sort_by_key(|x| x.get_type().get_bit_width());
        let of_one_type = scalars.chunk_by(|a, b| a.get_type() == b.get_type());
        let pairs = of_one_type.flat_map(|xs| xs.chunks(2));
        let nan = |pair: &[FloatValue<'c>]| self.ir.fcmp(FloatPredicate::UNO, pair[0], pair[pair.len() - 1]);
        let any = pairs.map(nan).reduce(|a, b| self.ir.op(Op::Or, a, b));
        any.expect("a chain has an end")
    }

    /// The largest lane; a NaN if any is one. One instruction finds it (Arm ARM, FMAXV and FMAXP).
    pub(super) fn largest(&self, v: VectorValue<'c>) -> FloatValue<'c> {
        let largest = self.ir.intrinsic("llvm.vector.reduce.fmaximum", &[v.get_type().into()], &[v.into()]);
        largest.expect("a float").into_float_value()
    }
}

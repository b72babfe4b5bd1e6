//! Operations that move lanes. AArch64 looks bytes up in tables of up to 64.

use inkwell::types::BasicTypeEnum;
use inkwell::values::{InstructionOpcode, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Ty, VTy};
use xlate_x86::wide::permute::Op;

use super::{bytes, overload};
use crate::emitter::Llvm;
use crate::ir::quads;

impl<'c> Llvm<'c> {
    pub(super) fn wide_permute(
        &self,
        op: Op,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<VectorValue<'c>> {
        if self.arch == Arch::Aarch64 {
            return self.arm_permute(op, ty, operands, immediate);
        }
        match (op, operands) {
            (Op::Permute, _) => {
                let name = self.x86_permutation(ty)?;
                Some(self.ir.intrinsic_on_bits(&name, &[], operands, 0))
            }
            (Op::PermuteTwo, _) => {
                let lane = match ty.lane.ty() {
                    Ty::I8 => "qi",
                    Ty::I16 => "hi",
                    Ty::I32 => "d",
                    Ty::I64 => "q",
                };
                let has = self.has_avx512(extension_of_permutes(ty), ty.bits);
                has.then(|| {
                    self.ir.intrinsic_on_bits(
                        &format!("llvm.x86.avx512.vpermi2var.{lane}.{}", ty.bits),
                        &[],
                        operands,
                        0,
                    )
                })
            }
            (Op::PermuteInBlocks, _) => {
                let lane = if ty.lane.ty() == Ty::I32 { "ps" } else { "pd" };
                let (has, name) = match ty.bits {
                    128 => (self.has("avx"), format!("llvm.x86.avx.vpermilvar.{lane}")),
                    256 => (self.has("avx"), format!("llvm.x86.avx.vpermilvar.{lane}.256")),
                    _ => (self.has("avx512f"), format!("llvm.x86.avx512.vpermilvar.{lane}.512")),
                };
                has.then(|| self.ir.intrinsic_on_bits(&name, &[], operands, 0))
            }
            (Op::Compress, [v, mask, above]) => {
                self.x86_by_mask("llvm.x86.avx512.mask.compress", ty, *v, *above, *mask)
            }
            (Op::Expand, [v, mask]) => {
                let zero = v.get_type().const_zero();
                self.x86_by_mask("llvm.x86.avx512.mask.expand", ty, *v, zero, *mask)
            }
            _ => None,
        }
    }

    /// VPERMB, VPERMW, VPERMD and VPERMQ.
    fn x86_permutation(&self, ty: VTy) -> Option<String> {
        let lane = match (ty.lane.ty(), ty.bits) {
            (Ty::I32, 256) => return self.has("avx2").then(|| "llvm.x86.avx2.permd".to_owned()),
            (Ty::I8, _) => "qi",
            (Ty::I16, _) => "hi",
            (Ty::I32, 512) => "si",
            (Ty::I64, 256 | 512) => "di",
            _ => return None,
        };
        let has = self.has_avx512(extension_of_permutes(ty), ty.bits);
        has.then(|| format!("llvm.x86.avx512.permvar.{lane}.{}", ty.bits))
    }

    /// Compression or expansion; `mask` has the bits in its low lane.
    fn x86_by_mask(
        &self,
        name: &str,
        ty: VTy,
        v: VectorValue<'c>,
        others: VectorValue<'c>,
        mask: VectorValue<'c>,
    ) -> Option<VectorValue<'c>> {
        let extension = if matches!(ty.lane.ty(), Ty::I8 | Ty::I16) { "avx512vbmi2" } else { "avx512f" };
        if !self.has_avx512(extension, ty.bits) {
            return None;
        }
        let bits = self.ir.as_vec(mask, self.ir.vec_type(quads(self.vec_bits(mask))));
        let bits = self.ir.extract(bits, 0).into_int_value();
        let mask = self.lanes_of_bits(ty.lanes(), bits);
        let [v, others] = [v, others].map(|v| self.as_lanes(ty, v));
        let r = self.ir.intrinsic(name, &overload(v), &[v.into(), others.into(), mask.into()]);
        Some(super::vector(r))
    }

    fn arm_permute(&self, op: Op, ty: VTy, operands: &[VectorValue<'c>], from_bit: u8) -> Option<VectorValue<'c>> {
        let lanes = ty.lanes();
        match (op, operands) {
            (Op::Permute, [table, index]) => {
                let places = self.places_of_bytes(ty, *index, lanes - 1, 0);
                Some(self.arm_look_up(ty.bits, &[*table], places))
            }
            (Op::PermuteTwo, [low, index, high]) => {
                let places = self.places_of_bytes(ty, *index, 2 * lanes - 1, 0);
                Some(self.arm_look_up(ty.bits, &[*low, *high], places))
            }
            (Op::PermuteInBlocks, [table, index]) => {
                let in_block = 128 / ty.lane.ty().bits() - 1;
                let places = self.places_of_bytes(ty, *index, in_block, from_bit);
                Some(self.lanes_byte_shuffle(ty.bits, *table, places))
            }
            _ => None,
        }
    }

    /// The bytes of the lanes that an index names, by the bits of its lanes that are in `mask` after a shift to the right.
    fn places_of_bytes(&self, ty: VTy, index: VectorValue<'c>, mask: u32, shift: u8) -> VectorValue<'c> {
        let ir = &self.ir;
        let width = ty.lane.ty().bits() / 8;
        let shape = bytes(ty.bits);
        let index = self.as_lanes(shape, index);
        // Each byte of a lane gets the low one.
        let low = ir.shuffle(index, index, (0..shape.lanes()).map(|n| n / width * width));
        let low = ir.vop(InstructionOpcode::LShr, low, ir.splat_const(shape, shift.into()));
        let low = ir.vop(InstructionOpcode::And, low, ir.splat_const(shape, mask.into()));
        let first = ir.vop(InstructionOpcode::Shl, low, ir.splat_const(shape, width.trailing_zeros().into()));
        ir.vop(InstructionOpcode::Or, first, self.const_bytes(ty.bits, |n| n % width))
    }

    /// Bytes of a table of one or two vectors. An index beyond a table of the host's gives zero (TBL), or leaves what was
    /// there (TBX; Arm ARM).
    fn arm_look_up(&self, bits: u32, table: &[VectorValue<'c>], places: VectorValue<'c>) -> VectorValue<'c> {
        const LARGEST: usize = 4;
        let ir = &self.ir;
        let block = ir.int_vec_type(bytes(128));
        let blocks: Vec<VectorValue<'c>> = table.iter().flat_map(|v| self.blocks_of(bits, *v)).collect();
        self.by_blocks(bits, &[places], |places| {
            let places = ir.as_vec(places[0], block);
            let parts = blocks.chunks(LARGEST).zip(0u64..);
            let r = parts.fold(None, |before, (part, n)| {
                let skipped = ir.splat_const(bytes(128), n * 16 * LARGEST as u64);
                let index = ir.vop(InstructionOpcode::Sub, places, skipped);
                let kind = if before.is_some() { "tbx" } else { "tbl" };
                let operands = before.iter().chain(part).chain([&index]).map(|v: &VectorValue<'c>| (*v).into());
                let name = format!("llvm.aarch64.neon.{kind}{}", part.len());
                let r = ir.intrinsic(&name, &[BasicTypeEnum::from(block)], &operands.collect::<Vec<_>>());
                Some(super::vector(r))
            });
            r.expect("a table has a part")
        })
    }

    fn blocks_of(&self, bits: u32, v: VectorValue<'c>) -> Vec<VectorValue<'c>> {
        let v = self.as_lanes(bytes(bits), v);
        (0..bits / 8).step_by(16).map(|from| self.ir.shuffle(v, v, from..from + 16)).collect()
    }
}

/// The extension that VPERMD and VPERMI2D are of, and their like.
fn extension_of_permutes(ty: VTy) -> &'static str {
    match ty.lane.ty() {
        Ty::I8 => "avx512vbmi",
        Ty::I16 => "avx512bw",
        Ty::I32 | Ty::I64 => "avx512f",
    }
}

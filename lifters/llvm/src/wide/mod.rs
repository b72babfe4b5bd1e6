//! Operations on whole vectors ([`xlate_x86::wide`]) by the host's own instructions, where it has some for them. The others
//! run as the body in Rust that all engines share.

mod crypto;
mod float;
mod integer;
mod permute;

use inkwell::types::BasicTypeEnum;
use inkwell::values::{BasicValueEnum, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Lane, VTy};
use xlate_x86::wide::{Wide, integer::Op};

use crate::emitter::Llvm;
use crate::ir::quads;

impl<'c> Llvm<'c> {
    /// The result has [`Wide::result_bits`]. `None`: the host has nothing better than the body in Rust.
    pub fn wide_natively(
        &self,
        op: Wide,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<VectorValue<'c>> {
        match op {
            Wide::Float(op) => self.wide_float(op, ty, operands, immediate),
            _ if ty.bits < 128 => None,
            Wide::Integer(op) => self.wide_integer(op, ty, operands, immediate),
            Wide::Permute(op) => self.wide_permute(op, ty, operands, immediate),
            Wide::Crypto(op) => self.wide_crypto(op, ty.bits, operands, immediate),
        }
    }

    /// The same for an operation that gives bits, as an I64.
    pub fn wide_bits_natively(
        &self,
        op: Wide,
        ty: VTy,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<IntValue<'c>> {
        match op {
            Wide::Float(op) => self.wide_float_bits(op, ty, operands, immediate),
            Wide::Integer(Op::SelectBits) if self.has_avx512("avx512bitalg", ty.bits) => {
                let name = format!("llvm.x86.avx512.vpshufbitqmb.{}", ty.bits);
                Some(self.bits_of_lanes(self.ir.intrinsic_on_bits(&name, &[], operands, 0)))
            }
            _ => None,
        }
    }

    /// Whether the host has the instructions of an AVX-512 extension for this width.
    pub fn has_avx512(&self, extension: &str, bits: u32) -> bool {
        self.arch == Arch::X86_64 && self.has(extension) && (bits == 512 || self.has("avx512vl"))
    }

    /// An operation on each 128 bits by themselves.
    fn by_blocks(
        &self,
        bits: u32,
        operands: &[VectorValue<'c>],
        operation: impl Fn(&[VectorValue<'c>]) -> VectorValue<'c>,
    ) -> VectorValue<'c> {
        let (whole, lanes) = (self.ir.vec_type(quads(bits)), bits / 64);
        let operands: Vec<_> = operands.iter().map(|v| self.ir.as_vec(*v, whole)).collect();
        (0..lanes).step_by(2).fold(whole.get_poison(), |sum, first| {
            let block: Vec<_> = operands.iter().map(|v| self.ir.shuffle(*v, *v, first..first + 2)).collect();
            let r = self.ir.as_vec(operation(&block), self.ir.vec_type(quads(128)));
            let r = self.ir.shuffle(r, r, (0..lanes).map(|n| n % 2));
            let of_block = |n: u32| if n / 2 == first / 2 { lanes + n } else { n };
            self.ir.shuffle(sum, r, (0..lanes).map(of_block))
        })
    }

    fn as_lanes(&self, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        self.ir.as_vec(v, self.ir.int_vec_type(ty))
    }

    /// Bytes, such as an index of a table.
    fn const_bytes(&self, bits: u32, byte: impl Fn(u32) -> u32) -> VectorValue<'c> {
        let t = self.ir.cx.i8_type();
        let bytes: Vec<_> = (0..bits / 8).map(|n| t.const_int(byte(n).into(), false)).collect();
        inkwell::types::VectorType::const_vector(&bytes)
    }
}

/// The type that the name of an intrinsic on this vector leaves open.
fn overload(v: VectorValue<'_>) -> [BasicTypeEnum<'_>; 1] {
    [v.get_type().into()]
}

fn bytes(bits: u32) -> VTy {
    VTy { lane: Lane::I8, bits }
}

/// The vector that an intrinsic gives.
fn vector(v: Option<BasicValueEnum<'_>>) -> VectorValue<'_> {
    v.expect("it gives a vector").into_vector_value()
}

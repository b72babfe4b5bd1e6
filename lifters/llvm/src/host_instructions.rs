//! Guest instructions that a host may have as its own, and that are put together of other operations elsewhere.

use inkwell::IntPredicate;
use inkwell::values::{IntValue, VectorValue};
use xlate_x86::emitter::{Compared, Lane, Ty, VTy};

use crate::emitter::Llvm;
use crate::ir::quads;

impl<'c> Llvm<'c> {
    /// A part of SSE4.2 that LLVM has a name of its own for, "crc32".
    pub fn x86_crc32c(&self, from: Ty, acc: IntValue<'c>, data: IntValue<'c>) -> IntValue<'c> {
        let crc = |name, acc: IntValue<'c>| {
            let r = self.ir.intrinsic(name, &[], &[acc.into(), data.into()]);
            r.expect("an integer").into_int_value()
        };
        match from {
            Ty::I8 => crc("llvm.x86.sse42.crc32.32.8", acc),
            Ty::I16 => crc("llvm.x86.sse42.crc32.32.16", acc),
            Ty::I32 => crc("llvm.x86.sse42.crc32.32.32", acc),
            Ty::I64 => self.ir.trunc(crc("llvm.x86.sse42.crc32.64.64", self.ir.zext(acc, Ty::I64)), Ty::I32),
        }
    }

    /// The extension "crc".
    pub fn arm_crc32c(&self, from: Ty, acc: IntValue<'c>, data: IntValue<'c>) -> IntValue<'c> {
        let (name, data) = match from {
            Ty::I8 => ("llvm.aarch64.crc32cb", self.ir.zext(data, Ty::I32)),
            Ty::I16 => ("llvm.aarch64.crc32ch", self.ir.zext(data, Ty::I32)),
            Ty::I32 => ("llvm.aarch64.crc32cw", data),
            Ty::I64 => ("llvm.aarch64.crc32cx", data),
        };
        self.ir.intrinsic(name, &[], &[acc.into(), data.into()]).expect("an integer").into_int_value()
    }

    /// SSE4.2; one instruction where one gives all that is used of it.
    pub fn x86_compare_strings(&self, control: u8, a: VectorValue<'c>, b: VectorValue<'c>) -> Compared<Self> {
        let ir = &self.ir;
        let bytes = ir.vec_type(VTy::x128(Lane::I8));
        let [a, b] = [a, b].map(|v| ir.as_vec(v, bytes).into());
        let control = ir.cx.i8_type().const_int(control.into(), false);
        let part = |name: &str| {
            let name = format!("llvm.x86.sse42.pcmpist{name}128");
            ir.intrinsic(&name, &[], &[a, b, control.into()]).expect("it gives something")
        };
        let flag = |name| ir.icmp(IntPredicate::NE, part(name).into_int_value(), ir.int(Ty::I32, 0));
        Compared {
            index: ir.zext(part("ri").into_int_value(), Ty::I64).into(),
            mask: ir.as_vec(part("rm").into_vector_value(), ir.vec_type(quads(128))),
            flags: ["ric", "riz", "ris", "rio"].map(flag),
        }
    }
}

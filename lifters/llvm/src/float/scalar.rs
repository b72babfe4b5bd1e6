//! Operations on scalars.

use inkwell::values::{BasicValueEnum, FloatValue, InstructionOpcode as Op, IntValue};
use inkwell::{FloatPredicate, IntPredicate};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Compare, FBin, FPred, Fty, Read, Ty};
use xlate_x86::interpreter::float::Operation;

use super::{VECTOR_REGISTER, name};
use crate::emitter::Llvm;

impl<'c> Llvm<'c> {
    pub fn float_bin(&mut self, op: FBin, ty: Fty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let (x, y) = (self.float(ty, a), self.float(ty, b));
        let name = name(op);
        if self.arch == Arch::Aarch64 {
            if matches!(op, FBin::Min | FBin::Max) {
                let r = self.arm_extremum(op, &[x.into(), y.into()]);
                return self.ir.float_to_int_bits(r.into_float_value(), ty);
            }
            let r = self.arm_instruction(name, &[x.into(), y.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x, y]);
        }
        let r = match op {
            FBin::Mul | FBin::Div if !self.static_rounding => {
                let x = self.ir.empty_asm(x, VECTOR_REGISTER);
                self.ir.constrained(&format!("f{name}"), &[x.get_type()], &[x, y.into()])
            }
            _ => self.x86_instruction(name, &[x.into(), y.into()]),
        };
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    pub fn float_sqrt(&mut self, ty: Fty, a: IntValue<'c>) -> IntValue<'c> {
        let x = self.float(ty, a);
        if self.arch == Arch::Aarch64 {
            let r = self.arm_instruction("sqrt", &[x.into()]).into_float_value();
            return self.with_x86_nan(ty, r, &[x]);
        }
        if self.static_rounding {
            return self.float_helper(Operation::Sqrt(ty), ty.ty(), [a, a]);
        }
        let r = self.ir.constrained("sqrt", &[x.get_type().into()], &[x.into()]);
        self.ir.float_to_int_bits(r.into_float_value(), ty)
    }

    /// [`xlate_x86::Emitter::fcompare`].
    pub fn float_compare(
        &self,
        signals: bool,
        read: Read,
        ty: Fty,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> Compare<IntValue<'c>> {
        let (x, y) = (self.float(ty, a), self.float(ty, b));
        match self.arch {
            Arch::X86_64 => self.x86_compare(signals, read, x, y),
            Arch::Aarch64 => self.arm_compare(signals, x, y),
        }
    }

    /// One comparison is made in any case: that of what is probably read. The other ones are if they are read, and raise
    /// no flag that it hasn't raised.
    pub(super) fn x86_compare(
        &self,
        signals: bool,
        read: Read,
        x: FloatValue<'c>,
        y: FloatValue<'c>,
    ) -> Compare<IntValue<'c>> {
        let compare = |which: Option<Read>, predicate| {
            if which == Some(read) {
                self.ir.constrained_fcmp(signals, predicate, "fpexcept.strict", x, y)
            } else {
                self.ir.constrained_fcmp(false, predicate, "fpexcept.maytrap", x, y)
            }
        };
        Compare {
            carry: compare(Some(Read::Carry), "ult"),
            zero: compare(None, "ueq"),
            unordered: compare(Some(Read::Unordered), "uno"),
            above: compare(Some(Read::Above), "ogt"),
        }
    }

    /// An instruction for the exception flags; and LLVM's comparisons, which it makes as it likes.
    pub(super) fn arm_compare(&self, signals: bool, x: FloatValue<'c>, y: FloatValue<'c>) -> Compare<IntValue<'c>> {
        let form = self.arm_form(x.into());
        let e = if signals { "e" } else { "" };
        let text = format!("fcmp{e} {}, {}", form.replace('N', "0"), form.replace('N', "1"));
        self.ir.raise_by_asm(&text, "w,w,~{cc}", &[x.into(), y.into()]);
        let compare = |p| self.arm_holds(p, x, y);
        Compare {
            carry: compare(FloatPredicate::ULT),
            zero: compare(FloatPredicate::UEQ),
            unordered: compare(FloatPredicate::UNO),
            above: compare(FloatPredicate::OGT),
        }
    }

    /// Whether a comparison holds. LLVM moves its own ones, and makes vectors of them that raise the flag for quiet NaNs, too:
    /// where the mode changes in a region, that may be where the flags aren't forgotten any more.
    pub(super) fn arm_holds(&self, p: FloatPredicate, x: FloatValue<'c>, y: FloatValue<'c>) -> IntValue<'c> {
        if !self.static_rounding {
            return self.ir.fcmp(p, x, y);
        }
        let [set, unordered] = ["cset ${0:w}, ", "\n\tcsinc ${0:w}, ${0:w}, wzr, vc"];
        let condition = match p {
            FloatPredicate::OLT => format!("{set}mi"),
            FloatPredicate::OGT => format!("{set}gt"),
            FloatPredicate::OGE => format!("{set}ge"),
            FloatPredicate::ULT => format!("{set}lt"),
            FloatPredicate::UNO => format!("{set}vs"),
            FloatPredicate::UEQ => format!("{set}eq{unordered}"),
            other => unreachable!("nothing asks whether {other:?} holds"),
        };
        let form = self.arm_form(x.into());
        let text = format!("fcmp {}, {}\n\t{condition}", form.replace('N', "1"), form.replace('N', "2"));
        let word = self.ir.int_type(Ty::I32);
        let holds = self.ir.raising_asm(word, &text, "=r,w,w,~{cc}", &[x.into(), y.into()]).into_int_value();
        self.ir.icmp(IntPredicate::NE, holds, word.const_zero())
    }

    /// [`xlate_x86::Emitter::fmask`].
    pub fn float_mask(&mut self, pred: FPred, ty: Fty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        if !self.compares(pred) {
            return self.float_helper(Operation::Mask(pred, ty), ty.ty(), [a, b]);
        }
        let (x, y) = (self.float(ty, a).into(), self.float(ty, b).into());
        let bits = |mask: BasicValueEnum<'c>| self.ir.float_to_int_bits(mask.into_float_value(), ty);
        if self.arch == Arch::X86_64 {
            let by = format!("$${}, ", pred.number());
            return bits(self.vex_instruction("cmp", &by, &[x, y]));
        }
        if matches!(pred, FPred::UNO | FPred::ORD) {
            let [x, y] = [x, y].map(|v| bits(self.arm_mask(FPred::OEQ, v, v).0));
            let ordered = self.ir.op(Op::And, x, y);
            return if pred == FPred::ORD { ordered } else { self.int_inverted(ty, ordered) };
        }
        let (mask, inverted) = self.arm_mask(pred, x, y);
        if inverted { self.int_inverted(ty, bits(mask)) } else { bits(mask) }
    }

    pub(super) fn int_inverted(&self, ty: Fty, v: IntValue<'c>) -> IntValue<'c> {
        self.ir.op(Op::Xor, v, self.ir.int(ty.ty(), u64::MAX))
    }
}

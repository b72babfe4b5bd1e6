//! The LLVM builder as the emitter uses it: without names and results, by the emitter's own types.
//!
//! inkwell's builder fails only when it stands nowhere or is handed operands of different types; both would
//! be this crate's own mistakes, so they panic here (the module's verifier looks again behind everything).

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{
    BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FloatType, FunctionType, IntType, PointerType, VectorType,
};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, CallSiteValue, FloatValue, FunctionValue, InstructionOpcode,
    InstructionValue, IntValue, LLVMTailCallKind, MetadataValue, PointerValue, VectorValue,
};
use inkwell::{AddressSpace, FloatPredicate, IntPredicate};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Fty, Lane, Ty, VTy};

use crate::abi::PRESERVE_NONE;

const BUILT: &str = "the builder has a position and operands of one type";

/// How likely a condition is to hold, for block placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likely {
    Unknown,
    Never,
    Always,
    /// Weights of the two sides, from the profile.
    Weights(u64, u64),
}

/// The attribute `memory` of a function that accesses none.
const NO_MEMORY: u64 = 0;
/// Of one that reads and writes memory that nothing else can name, such as the processor's exception flags (LLVM's
/// `IRMemLocation`: two bits a place, this one's are the second).
const INACCESSIBLE_MEMORY: u64 = 3 << 2;

fn types_of<'c>(operands: &[BasicValueEnum<'c>]) -> Vec<BasicMetadataTypeEnum<'c>> {
    operands.iter().map(|x| x.get_type().into()).collect()
}

/// One function under construction.
pub struct Ir<'c> {
    pub cx: &'c Context,
    pub module: Module<'c>,
    pub b: Builder<'c>,
    pub function: FunctionValue<'c>,
    prof: u32,
}

impl<'c> Ir<'c> {
    pub fn new(cx: &'c Context, module: Module<'c>, function: FunctionValue<'c>) -> Self {
        Self { cx, module, b: cx.create_builder(), function, prof: cx.get_kind_id("prof") }
    }

    // ---- types and constants -----------------------------------------------------------------------

    pub fn int_type(&self, ty: Ty) -> IntType<'c> {
        match ty {
            Ty::I8 => self.cx.i8_type(),
            Ty::I16 => self.cx.i16_type(),
            Ty::I32 => self.cx.i32_type(),
            Ty::I64 => self.cx.i64_type(),
        }
    }

    pub fn float_type(&self, ty: Fty) -> FloatType<'c> {
        match ty {
            Fty::F32 => self.cx.f32_type(),
            Fty::F64 => self.cx.f64_type(),
        }
    }

    pub fn ptr_type(&self) -> PointerType<'c> {
        self.cx.ptr_type(AddressSpace::default())
    }

    pub fn vec_type(&self, ty: VTy) -> VectorType<'c> {
        match ty.lane.fty() {
            Some(f) => self.float_type(f).vec_type(ty.lanes()),
            None => self.int_vec_type(ty),
        }
    }

    /// The shape with integer lanes of the same width.
    pub fn int_vec_type(&self, ty: VTy) -> VectorType<'c> {
        self.int_type(ty.lane.ty()).vec_type(ty.lanes())
    }

    pub fn int(&self, ty: Ty, bits: u64) -> IntValue<'c> {
        self.int_type(ty).const_int(bits & ty.mask(), false)
    }

    pub fn i64(&self, bits: u64) -> IntValue<'c> {
        self.int(Ty::I64, bits)
    }

    pub fn bool(&self, b: bool) -> IntValue<'c> {
        self.cx.bool_type().const_int(u64::from(b), false)
    }

    /// A vector with the same integer in every lane.
    pub fn splat_const(&self, ty: VTy, bits: u64) -> VectorValue<'c> {
        let lane = self.int(ty.lane.ty(), bits);
        VectorType::const_vector(&vec![lane; ty.lanes() as usize])
    }

    // ---- functions of the blob's kind --------------------------------------------------------------

    /// Calls code by the type and convention of [`crate::abi`].
    pub fn call(&self, code: PointerValue<'c>, args: &[BasicMetadataValueEnum<'c>]) -> CallSiteValue<'c> {
        let call = self.b.build_indirect_call(self.function.get_type(), code, args, "").expect(BUILT);
        call.set_call_convention(PRESERVE_NONE);
        call
    }

    /// Jumps there and ends the block.
    pub fn tail_call(&self, code: PointerValue<'c>, args: &[BasicMetadataValueEnum<'c>]) {
        let call = self.call(code, args);
        call.set_tail_call_kind(LLVMTailCallKind::LLVMTailCallKindMustTail);
        let returned = call.try_as_basic_value().basic().expect("functions of this kind return");
        self.b.build_return(Some(&returned)).expect(BUILT);
    }

    /// The host's stack pointer.
    pub fn stack_pointer(&self, arch: Arch) -> IntValue<'c> {
        let name = match arch {
            Arch::X86_64 => "rsp",
            Arch::Aarch64 => "sp",
        };
        let register = self.cx.metadata_node(&[self.cx.metadata_string(name).into()]);
        self.intrinsic("llvm.read_register", &[self.cx.i64_type().into()], &[register.into()])
            .expect("a register has a value")
            .into_int_value()
    }

    // ---- blocks ------------------------------------------------------------------------------------

    pub fn block(&self, name: &str) -> BasicBlock<'c> {
        self.cx.append_basic_block(self.function, name)
    }

    pub fn at_end(&self, block: BasicBlock<'c>) {
        self.b.position_at_end(block);
    }

    /// The block instructions go to at the moment.
    pub fn here(&self) -> BasicBlock<'c> {
        self.b.get_insert_block().expect(BUILT)
    }

    pub fn br(&self, to: BasicBlock<'c>) {
        self.b.build_unconditional_branch(to).expect(BUILT);
    }

    /// Branches by the low `bits` of a value, each of which is one of the cases.
    pub fn switch(&self, value: IntValue<'c>, bits: u32, cases: &[(u64, BasicBlock<'c>)], never: BasicBlock<'c>) {
        let width = std::num::NonZeroU32::new(bits).expect("a switch has cases");
        let ty = self.cx.custom_width_int_type(width).expect("LLVM has integers of this width");
        let value = self.b.build_int_truncate(value, ty, "").expect(BUILT);
        let cases: Vec<_> = cases.iter().map(|(n, block)| (ty.const_int(*n, false), *block)).collect();
        self.b.build_switch(value, never, &cases).expect(BUILT);
    }

    pub fn cond_br(&self, cond: IntValue<'c>, then: BasicBlock<'c>, otherwise: BasicBlock<'c>, likely: Likely) {
        let branch = self.b.build_conditional_branch(cond, then, otherwise).expect(BUILT);
        let (yes, no) = match likely {
            Likely::Unknown => return,
            Likely::Never => (1, 1 << 20),
            Likely::Always => (1 << 20, 1),
            Likely::Weights(yes, no) => scaled_weights(yes, no),
        };
        let weights = self.cx.metadata_node(&[
            self.cx.metadata_string("branch_weights").into(),
            self.cx.i32_type().const_int(yes, false).into(),
            self.cx.i32_type().const_int(no, false).into(),
        ]);
        branch.set_metadata(weights, self.prof).expect("it is a node");
    }

    // ---- operations --------------------------------------------------------------------------------

    pub fn op(&self, op: InstructionOpcode, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.b.build_binop(op, a, b, "").expect(BUILT).into_int_value()
    }

    pub fn vop(&self, op: InstructionOpcode, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.b.build_binop(op, a, b, "").expect(BUILT).into_vector_value()
    }

    pub fn icmp(&self, p: IntPredicate, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.b.build_int_compare(p, a, b, "").expect(BUILT)
    }

    pub fn vicmp(&self, p: IntPredicate, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.b.build_int_compare(p, a, b, "").expect(BUILT)
    }

    pub fn fcmp(&self, p: FloatPredicate, a: FloatValue<'c>, b: FloatValue<'c>) -> IntValue<'c> {
        self.b.build_float_compare(p, a, b, "").expect(BUILT)
    }

    pub fn vfcmp(&self, p: FloatPredicate, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.b.build_float_compare(p, a, b, "").expect(BUILT)
    }

    pub fn select(&self, c: IntValue<'c>, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.b.build_select(c, a, b, "").expect(BUILT).into_int_value()
    }

    /// Lane by lane when the condition is a vector.
    pub fn vselect(&self, c: VectorValue<'c>, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.b.build_select(c, a, b, "").expect(BUILT).into_vector_value()
    }

    pub fn zext(&self, v: IntValue<'c>, to: Ty) -> IntValue<'c> {
        self.b.build_int_z_extend(v, self.int_type(to), "").expect(BUILT)
    }

    pub fn sext(&self, v: IntValue<'c>, to: Ty) -> IntValue<'c> {
        self.b.build_int_s_extend(v, self.int_type(to), "").expect(BUILT)
    }

    pub fn trunc(&self, v: IntValue<'c>, to: Ty) -> IntValue<'c> {
        self.b.build_int_truncate(v, self.int_type(to), "").expect(BUILT)
    }

    /// A conversion of vectors, lane by lane.
    pub fn vcast(&self, op: InstructionOpcode, v: VectorValue<'c>, to: VectorType<'c>) -> VectorValue<'c> {
        self.b.build_cast(op, v, to, "").expect(BUILT).into_vector_value()
    }

    pub fn cast<T: BasicType<'c>>(&self, op: InstructionOpcode, v: impl BasicValue<'c>, to: T) -> BasicValueEnum<'c> {
        self.b.build_cast(op, v, to, "").expect(BUILT)
    }

    pub fn bitcast<T: BasicType<'c>>(&self, v: impl BasicValue<'c>, to: T) -> BasicValueEnum<'c> {
        self.b.build_bit_cast(v, to, "").expect(BUILT)
    }

    pub fn as_vec(&self, v: VectorValue<'c>, to: VectorType<'c>) -> VectorValue<'c> {
        if v.get_type() == to {
            return v;
        }
        self.bitcast(v, to).into_vector_value()
    }

    pub fn int_to_float_bits(&self, v: IntValue<'c>, ty: Fty) -> FloatValue<'c> {
        self.bitcast(v, self.float_type(ty)).into_float_value()
    }

    pub fn float_to_int_bits(&self, v: FloatValue<'c>, ty: Fty) -> IntValue<'c> {
        self.bitcast(v, self.int_type(ty.ty())).into_int_value()
    }

    pub fn int_to_ptr(&self, v: IntValue<'c>) -> PointerValue<'c> {
        self.b.build_int_to_ptr(v, self.ptr_type(), "").expect(BUILT)
    }

    pub fn ptr_to_int(&self, v: PointerValue<'c>) -> IntValue<'c> {
        self.b.build_ptr_to_int(v, self.cx.i64_type(), "").expect(BUILT)
    }

    /// `base + offset` bytes; wrapping, without any claim about bounds.
    pub fn gep(&self, base: PointerValue<'c>, offset: IntValue<'c>) -> PointerValue<'c> {
        // SAFETY: a byte offset into an i8 is a well-typed index list.
        unsafe { self.b.build_gep(self.cx.i8_type(), base, &[offset], "").expect(BUILT) }
    }

    pub fn shuffle(
        &self,
        a: VectorValue<'c>,
        b: VectorValue<'c>,
        indices: impl IntoIterator<Item = u32>,
    ) -> VectorValue<'c> {
        let mask: Vec<_> = indices.into_iter().map(|i| self.cx.i32_type().const_int(u64::from(i), false)).collect();
        self.b.build_shuffle_vector(a, b, VectorType::const_vector(&mask), "").expect(BUILT)
    }

    pub fn extract(&self, v: VectorValue<'c>, lane: u32) -> BasicValueEnum<'c> {
        let lane = self.int(Ty::I32, u64::from(lane));
        self.b.build_extract_element(v, lane, "").expect(BUILT)
    }

    pub fn insert(&self, v: VectorValue<'c>, lane: u32, x: impl BasicValue<'c>) -> VectorValue<'c> {
        let lane = self.int(Ty::I32, u64::from(lane));
        self.b.build_insert_element(v, x, lane, "").expect(BUILT)
    }

    pub fn load<T: BasicType<'c>>(&self, ty: T, from: PointerValue<'c>) -> BasicValueEnum<'c> {
        self.b.build_load(ty, from, "").expect(BUILT)
    }

    pub fn store(&self, to: PointerValue<'c>, v: impl BasicValue<'c>) -> InstructionValue<'c> {
        self.b.build_store(to, v).expect(BUILT)
    }

    /// Calls an intrinsic; `overloads` are the types its name leaves open.
    pub fn intrinsic(
        &self,
        name: &str,
        overloads: &[BasicTypeEnum<'c>],
        args: &[BasicMetadataValueEnum<'c>],
    ) -> Option<BasicValueEnum<'c>> {
        self.intrinsic_call(name, overloads, args).try_as_basic_value().basic()
    }

    /// The same, as the call.
    pub fn intrinsic_call(
        &self,
        name: &str,
        overloads: &[BasicTypeEnum<'c>],
        args: &[BasicMetadataValueEnum<'c>],
    ) -> CallSiteValue<'c> {
        self.b.build_call(self.declaration(name, overloads), args, "").expect(BUILT)
    }

    /// Calls an intrinsic that gives a vector. Its operands are cast to the lanes that it wants; the immediate is for one whose
    /// last parameter is an integer.
    ///
    /// # Panics
    /// If it takes vectors of other widths.
    pub fn intrinsic_on_bits(
        &self,
        name: &str,
        overloads: &[BasicTypeEnum<'c>],
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> VectorValue<'c> {
        let parameters = self.declaration(name, overloads).get_type().get_param_types();
        let mut operands = operands.iter();
        let arguments = parameters.into_iter().map(|t| match t {
            BasicMetadataTypeEnum::VectorType(t) => self.as_vec(*operands.next().expect("an operand each"), t).into(),
            other => other.into_int_type().const_int(immediate.into(), false).into(),
        });
        let arguments: Vec<BasicMetadataValueEnum<'c>> = arguments.collect();
        self.intrinsic(name, overloads, &arguments).expect("it gives a vector").into_vector_value()
    }

    fn declaration(&self, name: &str, overloads: &[BasicTypeEnum<'c>]) -> FunctionValue<'c> {
        let intrinsic = Intrinsic::find(name).unwrap_or_else(|| panic!("LLVM has no intrinsic {name}"));
        intrinsic.get_declaration(&self.module, overloads).unwrap_or_else(|| panic!("{name} needs its types named"))
    }

    /// A floating-point operation that LLVM folds, or takes another one for, only where no rounding mode and no NaN
    /// would show it (LLVM's Language Reference, "Constrained Floating-Point Intrinsics"). With "maytrap" in place
    /// of "strict" a known NaN would be the result, which it isn't if the other operand comes first and is one.
    pub fn constrained(
        &self,
        name: &str,
        overloads: &[BasicTypeEnum<'c>],
        operands: &[BasicValueEnum<'c>],
    ) -> BasicValueEnum<'c> {
        // Widening doesn't round.
        let environment: &[&str] =
            if name == "fpext" { &["fpexcept.strict"] } else { &["round.dynamic", "fpexcept.strict"] };
        let mut args: Vec<_> = operands.iter().map(|x| BasicMetadataValueEnum::from(*x)).collect();
        args.extend(environment.iter().map(|text| BasicMetadataValueEnum::from(self.cx.metadata_string(text))));
        let name = format!("llvm.experimental.constrained.{name}");
        self.intrinsic(&name, overloads, &args).expect("it gives a number")
    }

    /// A comparison that raises the invalid flag for any NaN if it signals, else for signalling ones. By `exceptions` it is
    /// made in any case ("fpexcept.strict"), or where its result is used ("fpexcept.maytrap").
    pub fn constrained_fcmp(
        &self,
        signals: bool,
        predicate: &str,
        exceptions: &str,
        a: FloatValue<'c>,
        b: FloatValue<'c>,
    ) -> IntValue<'c> {
        let [predicate, exceptions] = [predicate, exceptions].map(|text| self.cx.metadata_string(text).into());
        let name = format!("llvm.experimental.constrained.{}", if signals { "fcmps" } else { "fcmp" });
        let r = self.intrinsic(&name, &[a.get_type().into()], &[a.into(), b.into(), predicate, exceptions]);
        r.expect("it gives a truth value").into_int_value()
    }

    /// Empty assembly that takes a value in a register and gives it back there.
    pub fn empty_asm(&self, x: impl BasicValue<'c>, constraints: &str) -> BasicValueEnum<'c> {
        self.asm("", constraints, &[x.as_basic_value_enum()])
    }

    /// Assembly that does nothing but compute a value of its operands' type.
    pub fn asm(&self, text: &str, constraints: &str, operands: &[BasicValueEnum<'c>]) -> BasicValueEnum<'c> {
        let call = self.call_asm(
            operands[0].get_type().fn_type(&types_of(operands), false),
            text,
            constraints,
            operands,
            false,
        );
        call.try_as_basic_value().basic().expect("it gives a value")
    }

    /// Assembly that also raises floating-point exception flags: it is executed exactly where and as often as the guest's
    /// instruction is, whether anything uses its result or not.
    pub fn raising_asm(
        &self,
        result: impl BasicType<'c>,
        text: &str,
        constraints: &str,
        operands: &[BasicValueEnum<'c>],
    ) -> BasicValueEnum<'c> {
        let call = self.call_asm(result.fn_type(&types_of(operands), false), text, constraints, operands, true);
        call.try_as_basic_value().basic().expect("it gives a value")
    }

    /// Assembly of which nothing but the exception flags is wanted.
    pub fn raise_by_asm(&self, text: &str, constraints: &str, operands: &[BasicValueEnum<'c>]) {
        let ty = self.cx.void_type().fn_type(&types_of(operands), false);
        self.call_asm(ty, text, constraints, operands, true);
    }

    /// Assembly that accesses the guest's memory.
    pub fn accessing_asm(
        &self,
        result: Option<BasicTypeEnum<'c>>,
        text: &str,
        constraints: &str,
        operands: &[BasicValueEnum<'c>],
    ) -> Option<BasicValueEnum<'c>> {
        let ty = match result {
            Some(result) => result.fn_type(&types_of(operands), false),
            None => self.cx.void_type().fn_type(&types_of(operands), false),
        };
        let asm = self.cx.create_inline_asm(ty, text.to_owned(), constraints.to_owned(), true, false, None, false);
        let operands: Vec<_> = operands.iter().map(|x| BasicMetadataValueEnum::from(*x)).collect();
        self.b.build_indirect_call(ty, asm, &operands, "").expect(BUILT).try_as_basic_value().basic()
    }

    fn call_asm(
        &self,
        ty: FunctionType<'c>,
        text: &str,
        constraints: &str,
        operands: &[BasicValueEnum<'c>],
        raises: bool,
    ) -> CallSiteValue<'c> {
        let asm = self.cx.create_inline_asm(ty, text.to_owned(), constraints.to_owned(), raises, false, None, false);
        let operands: Vec<_> = operands.iter().map(|x| BasicMetadataValueEnum::from(*x)).collect();
        let call = self.b.build_indirect_call(ty, asm, &operands, "").expect(BUILT);
        // Without them LLVM takes assembly for something that may access all memory.
        let memory = if raises { INACCESSIBLE_MEMORY } else { NO_MEMORY };
        for (name, value) in [("memory", memory), ("nounwind", 0), ("willreturn", 0), ("nosync", 0), ("nofree", 0)] {
            let attribute = self.cx.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value);
            call.add_attribute(AttributeLoc::Function, attribute);
        }
        call
    }

    /// An intrinsic with two vector operands and a result of its first overload's type.
    pub fn vintrinsic(
        &self,
        name: &str,
        overloads: &[BasicTypeEnum<'c>],
        a: VectorValue<'c>,
        b: VectorValue<'c>,
    ) -> VectorValue<'c> {
        self.intrinsic(name, overloads, &[a.into(), b.into()]).expect("it gives a vector").into_vector_value()
    }

    pub fn set_metadata(&self, i: InstructionValue<'c>, kind: u32, node: MetadataValue<'c>) {
        i.set_metadata(node, kind).expect("it is a node");
    }
}

/// Branch weights are 32 bits wide; a side never seen still gets a one.
fn scaled_weights(yes: u64, no: u64) -> (u64, u64) {
    let shift = (64 - yes.max(no).leading_zeros()).saturating_sub(31);
    ((yes >> shift).max(1), (no >> shift).max(1))
}

/// The vector shape of `bits` bits in lanes of 64 (the form in which registers are kept).
pub fn quads(bits: u32) -> VTy {
    VTy { lane: Lane::I64, bits }
}

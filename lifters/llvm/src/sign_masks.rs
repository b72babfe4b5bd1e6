//! The signs of lanes as a mask, on x86-64 with AVX-512.
//!
//! LLVM translates such a comparison to VPMOVB2M or its like, and to KMOV if the mask becomes an integer. A later pass of LLVM 22
//! replaces the two by one VPMOVMSKB. It is wrong if the mask is used again, or if the vector is in one of the registers from
//! 16 on (issues 198197 and 191304 of llvm-project). The pass can't be turned off. So this module changes the comparisons
//! after the optimiser: VPMOVMSKB makes the integer, and a comparison with a zero that LLVM doesn't know makes the mask.

use inkwell::IntPredicate;
use inkwell::builder::Builder;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{AnyTypeEnum, BasicTypeEnum, VectorType};
use inkwell::values::{
    AnyValue, AnyValueEnum, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue, VectorValue,
};

const BUILT: &str = "the builder has a position and operands of one type";

/// Replaces each test of signs that LLVM would make VPMOVB2M, VPMOVD2M or VPMOVQ2M of 128 or 256 bits of.
pub fn replace(module: &Module<'_>) {
    for function in module.get_functions() {
        let instructions = function.get_basic_blocks().into_iter().flat_map(|block| block.get_instructions());
        let tests: Vec<_> = instructions.filter_map(SignTest::of).collect();
        for test in tests {
            test.replace_uses(module);
        }
    }
}

/// An instruction whose result is a mask of lanes' signs, or of their lowest bits.
struct SignTest<'c> {
    instruction: InstructionValue<'c>,
    lanes: VectorValue<'c>,
    /// The test is of the lowest bit.
    lowest: bool,
}

impl<'c> SignTest<'c> {
    fn of(i: InstructionValue<'c>) -> Option<Self> {
        let lowest = match i.get_opcode() {
            InstructionOpcode::ICmp if i.get_icmp_predicate() == Some(IntPredicate::SLT) => false,
            InstructionOpcode::Trunc => true,
            _ => return None,
        };
        let Some(BasicValueEnum::VectorValue(lanes)) = i.get_operand(0)?.value() else { return None };
        let is_mask = match i.as_any_value_enum().get_type() {
            AnyTypeEnum::VectorType(t) => width(t) == t.get_size(),
            _ => false,
        };
        let ty = lanes.get_type();
        let lane = width(ty) / ty.get_size();
        let compared_with_zero = lowest || i.get_operand(1)?.value()?.into_vector_value().is_null();
        let is_replaced =
            is_mask && compared_with_zero && matches!(width(ty), 128 | 256) && matches!(lane, 8 | 32 | 64);
        is_replaced.then_some(Self { instruction: i, lanes, lowest })
    }

    fn replace_uses(&self, module: &Module<'c>) {
        let b = module.get_context().create_builder();
        if !self.lowest {
            for cast in
                users(self.instruction).into_iter().filter(|user| user.get_opcode() == InstructionOpcode::BitCast)
            {
                b.position_before(&cast);
                let bits = move_mask(module, &b, self.lanes);
                match cast.as_any_value_enum().get_type() {
                    // Lanes of several bits.
                    AnyTypeEnum::VectorType(lanes) => {
                        replace_by(cast, b.build_bit_cast(bits, lanes, "").expect(BUILT).into_vector_value());
                    }
                    _ => replace_by(cast, bits),
                }
            }
        }
        // LLVM makes blends and shifts of the others.
        let as_mask = |user: &InstructionValue<'_>| {
            !matches!(user.get_opcode(), InstructionOpcode::Select | InstructionOpcode::SExt)
        };
        if users(self.instruction).iter().any(as_mask) {
            b.position_before(&self.instruction);
            replace_by(self.instruction, self.comparison(module, &b));
        }
    }

    /// The same by a comparison with a zero that LLVM doesn't know, or by a test of bits.
    fn comparison(&self, module: &Module<'c>, b: &Builder<'c>) -> VectorValue<'c> {
        let ty = self.lanes.get_type();
        if !self.lowest {
            let zero = unknown_zero(module, b, ty);
            return b.build_int_compare(IntPredicate::SLT, self.lanes, zero, "").expect(BUILT);
        }
        let one = ty.get_element_type().into_int_type().const_int(1, false);
        let ones = VectorType::const_vector(&vec![one; ty.get_size() as usize]);
        let lowest = b.build_and(self.lanes, ones, "").expect(BUILT);
        b.build_int_compare(IntPredicate::NE, lowest, ty.const_zero(), "").expect(BUILT)
    }
}

fn users<'c>(i: InstructionValue<'c>) -> Vec<InstructionValue<'c>> {
    let uses = std::iter::successors(i.get_first_use(), |u| u.get_next_use());
    uses.map(|u| as_instruction(&u.get_user())).collect()
}

fn as_instruction<'c>(value: &impl AnyValue<'c>) -> InstructionValue<'c> {
    let value = value.as_any_value_enum();
    let instruction = match value {
        AnyValueEnum::IntValue(v) => v.as_instruction(),
        AnyValueEnum::VectorValue(v) => v.as_instruction(),
        AnyValueEnum::FloatValue(v) => v.as_instruction(),
        AnyValueEnum::PointerValue(v) => v.as_instruction(),
        AnyValueEnum::StructValue(v) => v.as_instruction(),
        AnyValueEnum::PhiValue(v) => Some(v.as_instruction()),
        AnyValueEnum::InstructionValue(v) => Some(v),
        _ => None,
    };
    instruction.expect("lanes that aren't constant are used by instructions, and give them")
}

fn replace_by<'c>(i: InstructionValue<'c>, by: impl AnyValue<'c>) {
    i.replace_all_uses_with(&as_instruction(&by));
    i.erase_from_basic_block();
}

/// The bits of a vector.
fn width(ty: VectorType<'_>) -> u32 {
    let BasicTypeEnum::IntType(lane) = ty.get_element_type() else { return 0 };
    lane.get_bit_width() * ty.get_size()
}

/// VPMOVMSKB, VMOVMSKPS or VMOVMSKPD, in an integer with a bit for each lane.
fn move_mask<'c>(module: &Module<'c>, b: &Builder<'c>, lanes: VectorValue<'c>) -> IntValue<'c> {
    let cx = module.get_context();
    let ty = lanes.get_type();
    let count = ty.get_size();
    let (name, operand) = match (width(ty), count) {
        (128, 16) => ("llvm.x86.sse2.pmovmskb.128", ty),
        (128, 4) => ("llvm.x86.sse.movmsk.ps", cx.f32_type().vec_type(count)),
        (128, _) => ("llvm.x86.sse2.movmsk.pd", cx.f64_type().vec_type(count)),
        (_, 32) => ("llvm.x86.avx2.pmovmskb", ty),
        (_, 8) => ("llvm.x86.avx.movmsk.ps.256", cx.f32_type().vec_type(count)),
        _ => ("llvm.x86.avx.movmsk.pd.256", cx.f64_type().vec_type(count)),
    };
    let function = Intrinsic::find(name).and_then(|i| i.get_declaration(module, &[]));
    let function = function.unwrap_or_else(|| panic!("LLVM has no intrinsic {name}"));
    let operand = b.build_bit_cast(lanes, operand, "").expect(BUILT);
    let call = b.build_call(function, &[operand.into()], "").expect(BUILT);
    let mask = call.try_as_basic_value().basic().expect("it gives an integer").into_int_value();
    let bits = cx.custom_width_int_type(std::num::NonZeroU32::new(count).expect("a vector has lanes"));
    let bits = bits.expect("LLVM has integers of this width");
    if count == 32 { mask } else { b.build_int_truncate(mask, bits, "").expect(BUILT) }
}

/// A zero in a register, by assembly that says nothing of it.
fn unknown_zero<'c>(module: &Module<'c>, b: &Builder<'c>, ty: VectorType<'c>) -> VectorValue<'c> {
    let function = ty.fn_type(&[ty.into()], false);
    let asm = module.get_context().create_inline_asm(function, String::new(), "=v,0".into(), false, false, None, false);
    let call = b.build_indirect_call(function, asm, &[ty.const_zero().into()], "").expect(BUILT);
    call.try_as_basic_value().basic().expect("it gives a vector").into_vector_value()
}

#[cfg(test)]
mod tests {
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;
    use xlate_abi::protocol::{Arch, OptLevel, Target};

    use crate::machine;

    /// The mask is an integer, a mask, and what its lowest lane alone decides.
    const MASK_USED_TWICE: &str = "
        define void @f(<8 x i32> %v, <4 x i32> %a, ptr %p) {
            %signs = icmp slt <8 x i32> %v, zeroinitializer
            %bits = bitcast <8 x i1> %signs to i8
            %long = zext i8 %bits to i64
            store volatile i64 %long, ptr %p
            %tested = icmp ne <4 x i32> %a, zeroinitializer
            %short = bitcast <4 x i1> %tested to i4
            %extended = zext i4 %short to i64
            %both = and i64 %extended, %long
            store volatile i64 %both, ptr %p
            %first = extractelement <8 x i1> %signs, i64 0
            %byte = zext i1 %first to i8
            store volatile i8 %byte, ptr %p
            ret void
        }";
    const LOWEST_BITS: &str = "
        define void @f(<16 x i8> %v, ptr %p) {
            %mask = trunc <16 x i8> %v to <16 x i1>
            %bits = bitcast <16 x i1> %mask to i16
            store volatile i16 %bits, ptr %p
            %not = xor <16 x i1> %mask, splat (i1 true)
            %others = bitcast <16 x i1> %not to i16
            store volatile i16 %others, ptr %p
            ret void
        }";

    const LANES_OF_TWO_BITS: &str = "
        define void @f(<16 x i8> %v, ptr %p) {
            %signs = icmp slt <16 x i8> %v, zeroinitializer
            %pairs = bitcast <16 x i1> %signs to <8 x i2>
            %first = extractelement <8 x i2> %pairs, i64 0
            %byte = zext i2 %first to i8
            store volatile i8 %byte, ptr %p
            ret void
        }";

    fn assembly(ir: &str) -> String {
        let context = Context::create();
        let text = MemoryBuffer::create_from_memory_range_copy(format!("{ir}\0").as_bytes(), "test");
        let module = context.create_module_from_ir(text).expect("it is LLVM's language");
        let features = "+avx512bw,+avx512dq,+avx512f,+avx512vl".to_owned();
        let target = Target { arch: Arch::X86_64, cpu: String::new(), features };
        machine::explain(&module, &target, OptLevel::O2).expect("it compiles").1
    }

    /// Where LLVM has taken the mask away, its name is gone, too: so each test looks for what is there in its place.
    #[test]
    fn no_mask_is_made_of_signs_that_llvm_would_take_away() {
        for (ir, instructions) in [
            (MASK_USED_TWICE, ["vmovmskps", "vpcmpgtd"]),
            (LOWEST_BITS, ["vptestmb", "kmov"]),
            (LANES_OF_TWO_BITS, ["vpmovmskb", "$3"]),
        ] {
            let text = assembly(ir);
            assert!(instructions.iter().all(|name| text.contains(name)) && !text.contains("2m\t"), "{text}");
        }
    }
}

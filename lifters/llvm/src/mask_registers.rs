//! Masks on a host without registers for them. LLVM casts the bits of a mask to lanes one lane after the other, which is slow.
//! So each such cast is replaced by a test of bits. This is done after the optimiser has run, because the optimiser removes most
//! casts: a comparison's lanes, cast to bits and back, are the comparison's lanes.

use inkwell::IntPredicate;
use inkwell::builder::Builder;
use inkwell::module::Module;
use inkwell::types::{AnyTypeEnum, BasicTypeEnum, VectorType};
use inkwell::values::{
    AnyValue, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue, IntValue, VectorValue,
};

/// The widest vector of the host's, in bits.
const HOST_VECTOR: u32 = 128;

/// Replaces each cast of an integer to lanes of one bit by a test of each lane's bit.
pub fn spread(module: &Module<'_>) {
    for function in module.get_functions() {
        for cast in casts(function) {
            replace(module, cast);
        }
    }
}

fn casts<'c>(function: FunctionValue<'c>) -> Vec<InstructionValue<'c>> {
    let instructions = function.get_basic_blocks().into_iter().flat_map(|block| block.get_instructions());
    instructions.filter(|i| bits_of(*i).is_some()).collect()
}

/// The integer whose bits an instruction makes lanes of.
fn bits_of<'c>(i: InstructionValue<'c>) -> Option<IntValue<'c>> {
    if i.get_opcode() != InstructionOpcode::BitCast {
        return None;
    }
    let AnyTypeEnum::VectorType(to) = i.as_any_value_enum().get_type() else { return None };
    let BasicTypeEnum::IntType(lane) = to.get_element_type() else { return None };
    match i.get_operand(0)?.value()? {
        BasicValueEnum::IntValue(bits) if lane.get_bit_width() == 1 => Some(bits),
        _ => None,
    }
}

fn replace<'c>(module: &Module<'c>, cast: InstructionValue<'c>) {
    let bits = bits_of(cast).expect("it was chosen for that");
    let lanes = bits.get_type().get_bit_width();
    let b = module.get_context().create_builder();
    b.position_before(&cast);
    let spread = lanes_of_bits(module, &b, bits, lanes, lane_width(cast, lanes));
    let spread = spread.as_instruction().expect("a comparison of what isn't constant");
    cast.replace_all_uses_with(&spread);
    cast.erase_from_basic_block();
}

/// That of the lanes that the first use selects, or of a vector of the host's that is full.
fn lane_width(cast: InstructionValue<'_>, lanes: u32) -> u32 {
    let user = cast.get_first_use().map(|u| u.get_user().as_any_value_enum().get_type());
    match user {
        Some(AnyTypeEnum::VectorType(t)) if t.get_size() == lanes => match t.get_element_type() {
            BasicTypeEnum::IntType(lane) if lane.get_bit_width() >= 8 => lane.get_bit_width(),
            BasicTypeEnum::FloatType(lane) => lane.get_bit_width(),
            _ => full(lanes),
        },
        _ => full(lanes),
    }
}

fn full(lanes: u32) -> u32 {
    (HOST_VECTOR / lanes).clamp(8, 64)
}

/// Tests in each lane of so many bits its own one of them.
fn lanes_of_bits<'c>(
    module: &Module<'c>,
    b: &Builder<'c>,
    bits: IntValue<'c>,
    lanes: u32,
    width: u32,
) -> VectorValue<'c> {
    const BUILT: &str = "the builder has a position and operands of one type";
    let cx = module.get_context();
    let (word, index) = (cx.i64_type(), cx.i32_type());
    let bits = if lanes < 64 { b.build_int_z_extend(bits, word, "").expect(BUILT) } else { bits };
    let words = word.vec_type(HOST_VECTOR / 64);
    let first = b.build_insert_element(words.get_poison(), bits, index.const_zero(), "").expect(BUILT);
    let places = |of: &dyn Fn(u32) -> u32, count: u32| {
        let places: Vec<_> = (0..count).map(|n| index.const_int(of(n).into(), false)).collect();
        VectorType::const_vector(&places)
    };
    let repeated = b.build_shuffle_vector(first, words.get_poison(), places(&|_| 0, HOST_VECTOR / 64), "");
    let lane = cx.custom_width_int_type(std::num::NonZeroU32::new(width).expect("a lane has bits"));
    let lane = lane.expect("LLVM has integers of this width");
    let parts = b.build_bit_cast(repeated.expect(BUILT), lane.vec_type(HOST_VECTOR / width), "").expect(BUILT);
    let parts = parts.into_vector_value();
    let own_part = b.build_shuffle_vector(parts, parts, places(&|n| n / width, lanes), "").expect(BUILT);
    let own_bits: Vec<_> = (0..lanes).map(|n| lane.const_int(1 << (n % width), false)).collect();
    let named = b.build_and(own_part, VectorType::const_vector(&own_bits), "").expect(BUILT);
    b.build_int_compare(IntPredicate::NE, named, named.get_type().const_zero(), "").expect(BUILT)
}

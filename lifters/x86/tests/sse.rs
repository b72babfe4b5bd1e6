//! Every implemented MMX and SSE form in the interpreter against the CPU itself: random and edge-case registers,
//! memory, rounding modes; all vector, x87 and general-purpose registers, status flags and memory are compared.
#![cfg(target_arch = "x86_64")]

mod native;

use iced_x86::{
    Code, CpuidFeature, EncodingKind, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind, Register,
};
use native::{Case, Machine, Rng};
use xlate_x86::{Interpreter, isa};

/// Cases for each instruction code; rarely-taken paths (all NaN operands and the like) need some hundreds.
const CASES: u32 = 400;

const FEATURES: [CpuidFeature; 7] = [
    CpuidFeature::MMX,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
];

/// Instructions that need the runtime's helpers.
fn needs_runtime(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, Ldmxcsr | Stmxcsr | Fxsave | Fxsave64 | Fxrstor | Fxrstor64 | Crc32)
}

fn codes() -> impl Iterator<Item = Code> {
    Code::values().filter(|c| {
        c.encoding() == EncodingKind::Legacy
            && c.op_code().mode64()
            && c.cpuid_features().iter().any(|f| FEATURES.contains(f))
            && isa::lookup::<Interpreter<'_>>(*c).is_some()
            && !needs_runtime(c.mnemonic())
    })
}

/// Any register of the kind, none that the native runner or the memory operand needs (r15, rsp, rsi, rdi).
fn register(kind: OpCodeOperandKind, rng: &mut Rng) -> Option<Register> {
    use OpCodeOperandKind as K;
    const GPR: [u32; 12] = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14];
    let base = match kind {
        K::xmm_reg | K::xmm_rm | K::xmm_or_mem => {
            return Some(Register::XMM0 + rng.below(16) as u32);
        }
        K::mm_reg | K::mm_rm | K::mm_or_mem => return Some(Register::MM0 + rng.below(8) as u32),
        K::r32_reg | K::r32_rm | K::r32_or_mem => Register::EAX,
        K::r64_reg | K::r64_rm | K::r64_or_mem => Register::RAX,
        _ => return None,
    };
    Some(base + GPR[rng.below(GPR.len() as u64) as usize])
}

/// A random instruction of this code; memory operands are at [rsi], string-like ones at [rdi].
fn generate(code: Code, rng: &mut Rng) -> Instruction {
    use OpCodeOperandKind as K;
    let mut i = Instruction::new();
    i.set_code(code);
    let info = code.op_code();
    for n in 0..info.op_count() {
        let kind = info.op_kind(n);
        let may_be_memory = matches!(kind, K::mem | K::xmm_or_mem | K::mm_or_mem | K::r32_or_mem | K::r64_or_mem);
        if kind == K::imm8 {
            i.set_op_kind(n, OpKind::Immediate8);
            i.set_immediate8(rng.next() as u8 >> (4 * rng.below(2)));
        } else if kind == K::seg_rDI {
            i.set_op_kind(n, OpKind::MemorySegRDI);
        } else if may_be_memory && (kind == K::mem || rng.below(3) == 0) {
            i.set_op_kind(n, OpKind::Memory);
            let at = MemoryOperand::with_base_displ(Register::RSI, 16 * rng.below(3) as i64);
            i.set_memory_base(at.base);
            i.set_memory_displacement64(at.displacement as u64);
            i.set_memory_displ_size(1);
        } else {
            let r = register(kind, rng).unwrap_or_else(|| panic!("{code:?}: operand {kind:?}"));
            i.set_op_kind(n, OpKind::Register);
            i.set_op_register(n, r);
        }
    }
    i
}

#[test]
fn every_form_does_what_the_cpu_does() {
    let mut machine = Machine::new();
    let mut rng = Rng::new(0x5e5e);
    let mut wrong = Vec::new();
    let mut tested = 0;
    for code in codes() {
        tested += 1;
        let failure = (0..CASES).find_map(|_| {
            let i = generate(code, &mut rng);
            Case::random(i, &mut rng).check(&mut machine).err()
        });
        if let Some(f) = failure {
            wrong.push(f);
        }
    }
    assert!(tested > 400, "only {tested} codes are implemented");
    assert!(wrong.is_empty(), "{} of {tested} codes differ:\n{}", wrong.len(), wrong.join("\n"));
}

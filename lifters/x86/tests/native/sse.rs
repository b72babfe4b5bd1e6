//! Every implemented MMX and SSE form in the interpreter against the CPU itself: random and edge-case registers,
//! memory, rounding modes; all vector, x87 and general-purpose registers, status flags and memory are compared.

use crate::machine::{Case, Machine, Rng, generate};
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};
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
            && isa::lookup::<Interpreter>(*c).is_some()
            && !needs_runtime(c.mnemonic())
    })
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

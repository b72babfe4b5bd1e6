//! Every implemented x87 form in the interpreter against the CPU itself.

use crate::machine::{Case, Machine, Rng, generate};
use iced_x86::{Code, CpuidFeature, Mnemonic};
use xlate_x86::{Interpreter, isa};

const CASES: u32 = 1500;

/// Whether results may be wrong in the last place, and flags where they are at a limit of the format: the verifier compares
/// these.
fn is_approximate(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, F2xm1 | Fyl2x | Fyl2xp1 | Fpatan | Fptan | Fsin | Fcos | Fsincos)
}

/// Control instructions are tested where their memory layouts are known.
fn is_data(m: Mnemonic) -> bool {
    use Mnemonic::*;
    !matches!(m, Fnstenv | Fldenv | Fnstsw | Fnstcw | Fldcw | Fnclex | Fninit | Wait | Fnsave | Frstor)
}

#[test]
fn every_form_does_what_the_cpu_does() {
    let mut machine = Machine::new();
    let mut rng = Rng::new(0x8087);
    let codes: Vec<Code> = Code::values()
        .filter(|c| {
            let x87 = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387, CpuidFeature::SSE3];
            c.mnemonic() != Mnemonic::INVALID
                && c.op_code().mode64()
                && format!("{c:?}").starts_with('F')
                && c.cpuid_features().iter().any(|f| x87.contains(f) || *f == CpuidFeature::CMOV)
                && isa::lookup::<Interpreter>(*c).is_some()
                && is_data(c.mnemonic())
                && !is_approximate(c.mnemonic())
        })
        .collect();
    let wrong: Vec<String> = codes
        .iter()
        .filter_map(|code| {
            (0..CASES).find_map(|_| {
                let i = generate(*code, &mut rng);
                Case::random_x87(i, &mut rng).check(&mut machine).err()
            })
        })
        .collect();
    assert!(codes.len() > 80, "only {} codes are implemented", codes.len());
    assert!(wrong.is_empty(), "{} of {} codes differ:\n{}", wrong.len(), codes.len(), wrong.join("\n"));
}

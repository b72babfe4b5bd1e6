//! The extended state as a whole: XSAVE and its kin (Intel SDM vol. 1, chapter 13). The helpers do it.

use iced_x86::{Code, Instruction, Mnemonic};
use xlate_abi::state::{ExitReason, Helper, Trap, xsave};

use crate::emitter::{Emitter, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Xsave => |l, i| save(l, i, 0),
        Xsave64 => |l, i| save(l, i, xsave::WIDE),
        Xsaveopt => |l, i| save(l, i, xsave::OPTIMISED),
        Xsaveopt64 => |l, i| save(l, i, xsave::OPTIMISED | xsave::WIDE),
        Xsavec => |l, i| save(l, i, xsave::COMPACTED),
        Xsavec64 => |l, i| save(l, i, xsave::COMPACTED | xsave::WIDE),
        Xrstor => |l, i| restore(l, i, 0),
        Xrstor64 => |l, i| restore(l, i, xsave::WIDE),
        _ => return None,
    })
}

/// The area's address and the form, as the helpers take them.
fn area<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, form: u64) -> [E::Val; 2] {
    let addr = l.ea(i);
    l.require_alignment(addr, 64);
    [addr, l.imm(Ty::I64, form)]
}

fn save<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, form: u64) {
    let args = area(l, i, form);
    l.call_helper(Helper::Xsave, &args);
}

/// #GP for an area that can't be restored. The code that goes on may be other code than now, as after LDMXCSR.
fn restore<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, form: u64) {
    let args = area(l, i, form);
    let answer = l.call_helper(Helper::Xrstor, &args);
    let refused = l.cmp_imm(Pred::Eq, Ty::I64, answer, 1);
    l.trap_if(refused, Trap::GeneralProtection);
    let other_code = l.cmp_imm(Pred::Ne, Ty::I64, answer, 0);
    l.exit_if(other_code, ExitReason::Continue, i.next_ip());
}

//! Control and status: MXCSR, the saved state, EMMS, VZEROUPPER (SDM vol. 1, 5.4.8, 5.5.2, 10.5, 14.3).

use iced_x86::{Code, Mnemonic};
use xlate_abi::state::{ExitReason, Helper, Trap};

use super::{I, L};
use crate::emitter::{Emitter, Pred, Ty, Upper};
use crate::isa::Semantics;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Ldmxcsr | Vldmxcsr => ldmxcsr,
        Stmxcsr | Vstmxcsr => stmxcsr,
        Fxsave => |l, i| fxsave(l, i, false),
        Fxsave64 => |l, i| fxsave(l, i, true),
        Fxrstor => |l, i| fxrstor(l, i, false),
        Fxrstor64 => |l, i| fxrstor(l, i, true),
        Emms => emms,
        Vzeroupper => |l, _| (0..16).for_each(|n| l.e.clear_vec_from(n, 128)),
        Vzeroall => vzeroall,
        _ => return None,
    };
    Some(f)
}

/// All x87 registers empty, TOP 0 (SDM vol. 3, table 13-1).
fn emms<E: Emitter>(l: L<E>, _: I) {
    l.enter_mmx();
    l.set_tags(0);
}

/// All of the first sixteen registers.
fn vzeroall<E: Emitter>(l: L<E>, _: I) {
    let zero = l.zero(128);
    for n in 0..16 {
        l.e.set_vec(n, 128, zero, Upper::Zero);
    }
}

/// Raises #GP or leaves to the dispatcher if a helper's answer says so.
fn check<E: Emitter>(l: L<E>, i: I, answer: E::Val) {
    let refused = l.cmp_imm(Pred::Eq, Ty::I64, answer, 1);
    l.trap_if(refused, Trap::GeneralProtection);
    let other_code = l.cmp_imm(Pred::Ne, Ty::I64, answer, 0);
    l.exit_if(other_code, ExitReason::Continue, i.next_ip());
}

fn ldmxcsr<E: Emitter>(l: L<E>, i: I) {
    let v = l.read(i, 0);
    let v = l.zcast(Ty::I32, Ty::I64, v);
    let answer = l.call_helper(Helper::LoadMxcsr, &[v]);
    check(l, i, answer);
}

fn stmxcsr<E: Emitter>(l: L<E>, i: I) {
    let v = l.call_helper(Helper::StoreMxcsr, &[]);
    let v = l.zcast(Ty::I64, Ty::I32, v);
    l.write(i, 0, v);
}

/// The save area's address and the form, as the helpers take them.
fn area<E: Emitter>(l: L<E>, i: I, wide: bool) -> [E::Val; 2] {
    let addr = l.ea(i);
    l.require_alignment(addr, 16);
    [addr, l.imm(Ty::I64, u64::from(wide))]
}

fn fxsave<E: Emitter>(l: L<E>, i: I, wide: bool) {
    let args = area(l, i, wide);
    l.call_helper(Helper::Fxsave, &args);
}

fn fxrstor<E: Emitter>(l: L<E>, i: I, wide: bool) {
    let args = area(l, i, wide);
    let answer = l.call_helper(Helper::Fxrstor, &args);
    check(l, i, answer);
}

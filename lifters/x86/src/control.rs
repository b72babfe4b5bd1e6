//! Control transfer (Intel SDM vol. 1, 5.1.7).

use iced_x86::{Code, ConditionCode, Instruction};

use crate::emitter::Emitter;
use crate::isa::Semantics;
use crate::lifter::{Cc, Lifter};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    Some(match code {
        _ if code.is_jcc_short_or_near() => jcc,
        _ => return None,
    })
}

/// An instruction's condition and whether it is negated.
pub fn condition_of(i: &Instruction) -> (Cc, bool) {
    match i.condition_code() {
        ConditionCode::o => (Cc::O, false),
        ConditionCode::no => (Cc::O, true),
        ConditionCode::b => (Cc::B, false),
        ConditionCode::ae => (Cc::B, true),
        ConditionCode::e => (Cc::E, false),
        ConditionCode::ne => (Cc::E, true),
        ConditionCode::be => (Cc::Be, false),
        ConditionCode::a => (Cc::Be, true),
        ConditionCode::s => (Cc::S, false),
        ConditionCode::ns => (Cc::S, true),
        ConditionCode::p => (Cc::P, false),
        ConditionCode::np => (Cc::P, true),
        ConditionCode::l => (Cc::L, false),
        ConditionCode::ge => (Cc::L, true),
        ConditionCode::le => (Cc::Le, false),
        ConditionCode::g => (Cc::Le, true),
        ConditionCode::None => unreachable!("only conditional instructions come here"),
    }
}

fn jcc<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (cc, negated) = condition_of(i);
    let c = l.condition(cc, negated);
    l.branch(c, i.near_branch_target(), i.next_ip());
}

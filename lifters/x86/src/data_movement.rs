//! Data movement: MOV and its extensions, exchanges, stack, LEA (Intel SDM vol. 1, 5.1.1).

use iced_x86::{Code, Instruction, Mnemonic};

use crate::emitter::Emitter;
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    Some(match code.mnemonic() {
        Mnemonic::Mov if general_purpose(code) => mov,
        _ => return None,
    })
}

/// MOV forms of control, debug and test registers are privileged.
fn general_purpose(code: Code) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    let info = code.op_code();
    (0..info.op_count()).all(|n| !matches!(info.op_kind(n), K::cr_reg | K::dr_reg | K::tr_reg | K::seg_reg))
}

fn mov<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let v = l.read(i, 1);
    l.write(i, 0, v);
}

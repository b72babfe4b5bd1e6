//! Flag control: CLC, STC, CMC, CLD, STD, LAHF, SAHF (Intel SDM vol. 1, 5.1.10).

use iced_x86::{Code, Instruction, Register};

use crate::emitter::{Bin, Emitter, Flag, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    Some(match code {
        Code::Clc => |l, _| set_constant(l, Flag::Cf, false),
        Code::Stc => |l, _| set_constant(l, Flag::Cf, true),
        Code::Cmc => cmc,
        Code::Cld => |l, _| set_constant(l, Flag::Df, false),
        Code::Std => |l, _| set_constant(l, Flag::Df, true),
        Code::Lahf => lahf,
        Code::Sahf => sahf,
        _ => return None,
    })
}

/// Places of the flags in AH; PF, bit 2, is apart.
const PLACES: [(Flag, u32); 4] = [(Flag::Cf, 0), (Flag::Af, 4), (Flag::Zf, 6), (Flag::Sf, 7)];

fn set_constant<E: Emitter>(l: &mut Lifter<'_, E>, flag: Flag, value: bool) {
    let c = l.e.bconst(value);
    l.set_flag(flag, c);
}

fn cmc<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let c = l.flag(Flag::Cf);
    let c = l.e.cond_not(c);
    l.set_flag(Flag::Cf, c);
}

fn lahf<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let mut v = l.imm(Ty::I8, 0b10);
    let pf = l.parity_flag();
    let flags = PLACES.map(|(flag, place)| (l.flag(flag), place));
    for (c, place) in flags.into_iter().chain([(pf, 2)]) {
        let bit = l.e.cond_to_int(Ty::I8, c);
        let bit = l.bin_imm(Bin::Shl, Ty::I8, bit, u64::from(place));
        v = l.bin(Bin::Or, Ty::I8, v, bit);
    }
    l.set_reg(Register::AH, v);
}

fn sahf<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let v = l.reg(Register::AH);
    for (flag, place) in PLACES {
        let c = l.bit(Ty::I8, v, place);
        l.set_flag(flag, c);
    }
    let even = l.bit(Ty::I8, v, 2);
    l.set_parity_flag(even);
}

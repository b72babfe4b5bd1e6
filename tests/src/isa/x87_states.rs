//! States of the x87 unit for programs that use it: any control word, stack, tags and flags, with an exception pending
//! now and then, and registers full of the values where something happens.

use iced_x86::{Instruction, Mnemonic};
use xlate_abi::state::X87State;
use xlate_x86::isa;

use super::case::{Memory, Program, X87};
use super::values::{self, Rng};

/// Whether a program has instructions of the x87 unit's own.
pub fn uses_x87(program: &Program) -> bool {
    program.insns.iter().any(|i| isa::is_x87(i.code()))
}

/// Any state; in some cases an unmasked exception is pending.
pub fn unit(rng: &mut Rng) -> X87 {
    let control = control(rng);
    let mut x = X87 {
        reg: std::array::from_fn(|_| extended(rng)),
        control,
        // TOP and the condition codes.
        status: rng.next_u64() as u16 & 0x7f00,
        tag: if rng.chance(65) { 0xff } else { rng.next_u64() as u8 },
        opcode: rng.next_u64() as u16 & 0x7ff,
        instruction: rng.next_u64() >> 17,
        operand: rng.next_u64() >> 17,
    };
    if rng.chance(40) {
        let flags = rng.next_u64() as u16 & 0x7f;
        x.status |= if rng.chance(15) { flags } else { flags & (control | !X87State::EXCEPTIONS) };
    }
    summarised(x)
}

/// With ES and B as any load of the words makes them.
fn summarised(mut x: X87) -> X87 {
    let mut state = X87State { fcw: x.control, fsw: x.status, ..X87State::default() };
    state.summarise();
    x.status = state.fsw;
    x
}

/// Every rounding and precision control; often with all exceptions masked, or all but one.
fn control(rng: &mut Rng) -> u16 {
    let masks = match rng.below(8) {
        0..=3 => 0x3f,
        4 | 5 => 0x3f & !(1 << rng.below(6)),
        6 => 0,
        _ => rng.next_u64() as u16 & 0x3f,
    };
    let precision = rng.pick(&[0x300, 0x300, 0x300, 0x200, 0x200, 0, 0x100]);
    let rounding = if rng.chance(50) { (rng.below(4) as u16) << 10 } else { 0 };
    masks | precision | rounding | 1 << 6 | (rng.below(2) as u16) << 12
}

/// Instructions whose results are approximations.
pub fn is_transcendental(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, F2xm1 | Fyl2x | Fyl2xp1 | Fpatan | Fsin | Fcos | Fsincos | Fptan)
}

/// Whether an engine's state differs only by what is left to a processor: the last place of a transcendental function's
/// result (Intel SDM vol. 1, 8.3.10), and C1, which tells how it was rounded.
pub fn near_enough(program: &Program, native: &X87, engine: &X87) -> bool {
    const C1: u16 = 1 << 9;
    let [i] = program.insns.as_slice() else { return false };
    // Without the integer bit, neighbours are neighbours across powers of two, too.
    let place = |v: u128| (v >> 64) << 63 | v & u128::from(u64::MAX >> 1);
    is_transcendental(i.mnemonic())
        && native.reg.iter().zip(&engine.reg).all(|(a, b)| place(*a).abs_diff(place(*b)) <= 1)
        && X87 { reg: native.reg, status: engine.status & !C1 | native.status & C1, ..*engine } == *native
}

/// Keeps the operand where the function is defined.
pub fn tame(i: &Instruction, x: &mut X87) {
    const EXPONENT: u128 = 0x7fff << 64;
    let most = match i.mnemonic() {
        Mnemonic::F2xm1 => 0x3ffe,
        Mnemonic::Fyl2xp1 => 0x3ffc,
        _ => return,
    };
    let st0 = &mut x.reg[usize::from(x.status >> 11 & 7)];
    let exponent = (*st0 & EXPONENT) >> 64;
    if exponent > most && exponent != 0x7fff {
        *st0 = *st0 & !EXPONENT | most << 64;
    }
}

/// The bits of a double extended number, special and invalid ones often.
pub fn extended(rng: &mut Rng) -> u128 {
    const INTEGER: u64 = 1 << 63;
    let exponent = match rng.below(12) {
        0 => 0,
        1 => 0x7fff,
        2 => 1 + rng.below(80) as u16,
        3 => 0x7ffe - rng.below(80) as u16,
        4 => rng.next_u64() as u16 & 0x7fff,
        // About the limits of the narrower formats.
        5 => rng.pick(&[0x3c01, 0x43fe, 0x3f81, 0x407e]) - 30 + rng.below(60) as u16,
        _ => 0x3fff - 40 + rng.below(110) as u16,
    };
    let mantissa = match rng.below(8) {
        0 => INTEGER,
        1 => INTEGER | INTEGER >> rng.below(64),
        2 => u64::MAX,
        3 => u64::MAX << rng.below(64),
        4 => INTEGER | values::integer(rng),
        5 => values::integer(rng),
        6 if exponent == 0 => 0,
        _ => INTEGER | rng.next_u64(),
    };
    let sign = rng.next_u64() & 0x8000;
    u128::from(sign | u64::from(exponent)) << 64 | u128::from(mantissa)
}

/// 18 decimal digits and a sign.
fn decimal(rng: &mut Rng) -> u128 {
    let digits = if rng.chance(30) { rng.below(18) } else { 18 };
    let value = (0..digits).fold(0, |v, _| v << 4 | u128::from(rng.below(10)));
    value | u128::from(rng.next_u64() & 0xff00) << 64
}

/// Gives the operand at an address what the instruction may take it for.
pub fn operand(i: &Instruction, at: u64, memory: &mut Memory, rng: &mut Rng) {
    match i.mnemonic() {
        // Other digits are undefined (Intel SDM vol. 2, FBLD).
        Mnemonic::Fbld => patch(memory, at, &decimal(rng).to_le_bytes()[..10]),
        Mnemonic::Fldcw => patch(memory, at, &(rng.next_u64() as u16 & 0xe0bf | control(rng)).to_le_bytes()),
        Mnemonic::Fldenv | Mnemonic::Frstor => environment(i, at, memory, rng),
        _ if i.memory_size().size() == 10 && rng.chance(90) => patch(memory, at, &extended(rng).to_le_bytes()[..10]),
        _ => {}
    }
}

/// An environment that leaves anything at all pending, and registers behind it.
fn environment(i: &Instruction, at: u64, memory: &mut Memory, rng: &mut Rng) {
    let size = i.memory_size().size();
    let x = unit(rng);
    let word = if matches!(size, 14 | 94) { 2 } else { 4 };
    let noise: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
    patch(memory, at, &noise);
    patch(memory, at, &x.control.to_le_bytes());
    patch(memory, at.wrapping_add(word), &x.status.to_le_bytes());
    for n in 0..8 {
        let register = extended(rng).to_le_bytes();
        if size > 90 {
            patch(memory, at.wrapping_add(7 * word + 10 * n), &register[..10]);
        }
    }
}

fn patch(memory: &mut Memory, at: u64, bytes: &[u8]) {
    memory.patches.push((at, bytes.to_vec()));
}

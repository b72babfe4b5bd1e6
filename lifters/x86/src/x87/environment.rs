//! The environment and the whole state in memory, as FNSTENV, FLDENV, FNSAVE and FRSTOR have them: the protected-mode
//! formats, which 64-bit mode uses too (Intel SDM vol. 1, 8.1.10, figures 8-9 and 8-11).

use xlate_abi::state::X87State;

use super::soft::{Class, F80};

/// Which of the four instructions' formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// With an operand-size prefix: words of 16 bits, and no opcode.
    pub narrow: bool,
    /// The registers follow the environment.
    pub registers: bool,
}

/// The size of the largest format: FNSAVE's.
pub const MOST: usize = 108;

/// Bytes of a register.
const REGISTER: usize = 10;

/// Tag of an empty register.
const EMPTY: u16 = 3;

impl Form {
    /// The helpers' second argument.
    pub const fn encode(self) -> u64 {
        self.narrow as u64 | (self.registers as u64) << 1
    }

    pub const fn decode(bits: u64) -> Self {
        Self { narrow: bits & 1 != 0, registers: bits & 2 != 0 }
    }

    /// Bytes of a word of the environment.
    const fn word(self) -> usize {
        if self.narrow { 2 } else { 4 }
    }

    const fn environment(self) -> usize {
        7 * self.word()
    }

    /// Bytes in memory.
    pub const fn size(self) -> usize {
        self.environment() + if self.registers { 8 * REGISTER } else { 0 }
    }
}

/// What FNSTENV or FNSAVE stores: as many bytes as the form has.
pub fn image(x: &X87State, form: Form) -> [u8; MOST] {
    let mut m = [0; MOST];
    // The reserved halves of the words of 32 bits are ones. There are no selectors (CPUID.7:EBX[13]).
    const RESERVED: u32 = 0xffff_0000;
    let words = [
        u32::from(x.fcw) | RESERVED,
        u32::from(x.fsw) | RESERVED,
        u32::from(full_tag(x)) | RESERVED,
        x.fip as u32,
        u32::from(x.fop) << 16,
        x.fdp as u32,
        if form.narrow { 0 } else { RESERVED },
    ];
    let size = form.word();
    for (n, word) in words.into_iter().enumerate() {
        m[size * n..][..size].copy_from_slice(&word.to_le_bytes()[..size]);
    }
    if form.registers {
        for st in 0..8 {
            let at = form.environment() + REGISTER * st;
            m[at..at + REGISTER].copy_from_slice(&x.reg[physical(x, st)][..REGISTER]);
        }
    }
    m
}

/// What FNSTENV and FNSAVE do after their store: all exceptions are masked, or the unit is initialised.
pub fn stored(x: &mut X87State, form: Form) {
    if form.registers {
        *x = X87State { reg: x.reg, ..X87State::default() };
    } else {
        x.set_control(x.fcw | X87State::EXCEPTIONS);
    }
}

/// Takes the state over from the bytes of a form.
pub fn load(x: &mut X87State, m: &[u8; MOST], form: Form) {
    let size = form.word();
    let word = |n: usize| {
        let mut bytes = [0; 4];
        bytes[..size].copy_from_slice(&m[size * n..][..size]);
        u32::from_le_bytes(bytes)
    };
    x.fsw = word(1) as u16;
    x.set_control(word(0) as u16);
    x.ftw = abridged(word(2) as u16);
    x.fip = word(3).into();
    x.fop = (word(4) >> 16) as u16 & X87State::OPCODE;
    x.fdp = word(5).into();
    if form.registers {
        for st in 0..8 {
            let n = physical(x, st);
            x.reg[n] = [0; 16];
            x.reg[n][..REGISTER].copy_from_slice(&m[form.environment() + REGISTER * st..][..REGISTER]);
        }
    }
}

fn physical(x: &X87State, st: usize) -> usize {
    (usize::from(x.fsw >> 11) + st) & 7
}

/// The two-bit tags, which the hardware too computes from the registers' contents only when asked (SDM vol. 1, 8.1.7).
fn full_tag(x: &X87State) -> u16 {
    (0..8).fold(0, |tags, n| {
        let tag = if x.ftw >> n & 1 == 0 { EMPTY } else { tag_of(F80::from_register(&x.reg[n])) };
        tags | tag << (2 * n)
    })
}

/// 0 valid, 1 zero, 2 special (NaN, infinity, denormal, unsupported).
fn tag_of(v: F80) -> u16 {
    match v.class() {
        Class::Zero => 1,
        Class::Finite if v.exponent != 0 => 0,
        _ => 2,
    }
}

/// A bit for each register in use.
fn abridged(tags: u16) -> u8 {
    (0..8).fold(0, |used, n| used | u8::from(tags >> (2 * n) & 3 != EMPTY) << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Form; 4] = [form(false, false), form(true, false), form(false, true), form(true, true)];

    const fn form(narrow: bool, registers: bool) -> Form {
        Form { narrow, registers }
    }

    fn sample() -> X87State {
        let mut x = X87State { fsw: 5 << 11 | 0x41, ftw: 0b0110_0001, fop: 0x435, ..X87State::default() };
        (x.fip, x.fdp) = (0x1234_5678, 0x9abc_def0);
        for (n, reg) in x.reg.iter_mut().enumerate() {
            reg[..REGISTER].copy_from_slice(&[n as u8; REGISTER]);
        }
        x
    }

    #[test]
    fn sizes_are_the_manuals() {
        assert_eq!(FORMS.map(Form::size), [28, 14, 108, 94]);
        for form in FORMS {
            assert_eq!(Form::decode(form.encode()), form);
        }
    }

    #[test]
    fn what_is_stored_can_be_loaded() {
        for form in FORMS {
            let x = sample();
            let mut back = X87State::default();
            load(&mut back, &image(&x, form), form);
            assert_eq!((back.fcw, back.fsw, back.ftw), (x.fcw, x.fsw, x.ftw));
            assert_eq!(back.reg == x.reg, form.registers);
            let pointers = if form.narrow { (0, 0x5678, 0xdef0) } else { (x.fop, x.fip, x.fdp) };
            assert_eq!((back.fop, back.fip, back.fdp), pointers);
        }
    }

    #[test]
    fn a_loaded_control_word_decides_what_is_pending() {
        let form = FORMS[0];
        let x = X87State { fcw: 0x37e, fsw: 0x01, ..sample() };
        let mut back = X87State::default();
        load(&mut back, &image(&x, form), form);
        assert_eq!(back.fsw, 0x8081);
        stored(&mut back, form);
        assert_eq!((back.fcw, back.fsw), (0x37f, 0x01));
    }
}

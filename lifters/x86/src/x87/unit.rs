//! The register stack and its instructions, behind one helper (SDM vol. 1, 8.1 and 8.3; vol. 2).
//!
//! All exceptions are handled as masked ones: flags and the masked response. An unmasked exception is not raised.

use core::cmp::Ordering;

use xlate_abi::state::{CpuState, X87State};

use super::soft::{Class, Env, F80, Mode, flag};

/// Status word: stack fault, condition codes, TOP.
const STACK_FAULT: u16 = 1 << 6;
const C0: u16 = 1 << 8;
const C1: u16 = 1 << 9;
const C2: u16 = 1 << 10;
const C3: u16 = 1 << 14;
const TOP_SHIFT: u32 = 11;

/// What the helper does; the number is the low byte of its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Pushes the source.
    Load,
    /// Pushes the constant whose number is the operand.
    Constant,
    /// Returns ST(0) in a format; the upper word of an F80 goes to `scratch[0]`. The status word is left as it is, for
    /// the store may fault; the one to set behind the store goes to `scratch[0]` at [`STATUS_IN_SCRATCH`].
    StoreF32,
    StoreF64,
    StoreF80,
    StoreInt16,
    StoreInt32,
    StoreInt64,
    /// FISTTP's.
    CutInt16,
    CutInt32,
    CutInt64,
    /// Copies ST(0) to ST(i).
    StoreRegister,
    /// Arithmetic on ST(0) and the source, or with [`Request::to_register`] on ST(i) and ST(0).
    Add,
    Mul,
    Sub,
    SubReversed,
    Div,
    DivReversed,
    /// ST(0) with the source, into C0, C2, C3.
    Compare,
    /// The same, with only signalling NaNs being invalid.
    CompareQuiet,
    /// ST(0) with ST(i); returns ZF, PF and CF as bits 6, 2 and 0.
    CompareFlags,
    CompareFlagsQuiet,
    Test,
    Examine,
    Negate,
    Abs,
    Sqrt,
    RoundToInt,
    Scale,
    Extract,
    Remainder,
    RemainderNearest,
    Exchange,
    /// ST(i) to ST(0) if the operand isn't zero.
    MoveIf,
    Free,
    Increment,
    Decrement,
    Pop,
}

impl Op {
    const ALL: [Op; 38] = {
        use Op::*;
        [
            Load,
            Constant,
            StoreF32,
            StoreF64,
            StoreF80,
            StoreInt16,
            StoreInt32,
            StoreInt64,
            CutInt16,
            CutInt32,
            CutInt64,
            StoreRegister,
            Add,
            Mul,
            Sub,
            SubReversed,
            Div,
            DivReversed,
            Compare,
            CompareQuiet,
            CompareFlags,
            CompareFlagsQuiet,
            Test,
            Examine,
            Negate,
            Abs,
            Sqrt,
            RoundToInt,
            Scale,
            Extract,
            Remainder,
            RemainderNearest,
            Exchange,
            MoveIf,
            Free,
            Increment,
            Decrement,
            Pop,
        ]
    };
}

impl Op {
    /// Whether the answer is for memory, and the state must not change before it is there.
    fn stores_to_memory(self) -> bool {
        use Op::*;
        matches!(
            self,
            StoreF32 | StoreF64 | StoreF80 | StoreInt16 | StoreInt32 | StoreInt64 | CutInt16 | CutInt32 | CutInt64
        )
    }
}

/// Where the source comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// ST(i).
    Register,
    /// The operand, in a format. Integers come sign-extended.
    F32,
    F64,
    F80,
    Int,
}

impl Source {
    const ALL: [Source; 5] = [Source::Register, Source::F32, Source::F64, Source::F80, Source::Int];
}

/// The helper's first argument.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub op: Op,
    pub source: Source,
    /// i of ST(i).
    pub index: u8,
    /// How often to pop afterwards.
    pub pops: u8,
    /// The result goes to ST(i) instead of ST(0).
    pub to_register: bool,
}

impl Request {
    pub const fn new(op: Op) -> Self {
        Self { op, source: Source::Register, index: 0, pops: 0, to_register: false }
    }

    pub const fn encode(self) -> u64 {
        self.op as u64
            | (self.source as u64) << 8
            | (self.index as u64) << 16
            | (self.pops as u64) << 24
            | (self.to_register as u64) << 32
    }

    fn decode(bits: u64) -> Self {
        let byte = |n: u32| (bits >> (8 * n)) as u8;
        Self {
            op: Op::ALL[usize::from(byte(0))],
            source: Source::ALL[usize::from(byte(1))],
            index: byte(2),
            pops: byte(3),
            to_register: byte(4) != 0,
        }
    }
}

/// Where in `scratch[0]` the store requests leave the new status word.
pub const STATUS_IN_SCRATCH: usize = 8;

/// [`xlate_abi::state::Helper::X87`]: a request and its operand (two words for the 80-bit format).
pub extern "C" fn execute(state: &mut CpuState, request: u64, low: u64, high: u64) -> u64 {
    let request = Request::decode(request);
    let before = state.x87.fsw;
    let mut unit = Unit { env: Env::new(state.x87.fcw), x: &mut state.x87 };
    let (answer, second) = unit.run(request, low, high);
    state.scratch[0][..8].copy_from_slice(&second.to_le_bytes());
    if request.op.stores_to_memory() {
        let after = std::mem::replace(&mut state.x87.fsw, before);
        state.scratch[0][STATUS_IN_SCRATCH..STATUS_IN_SCRATCH + 2].copy_from_slice(&after.to_le_bytes());
    }
    answer
}

struct Unit<'s> {
    env: Env,
    x: &'s mut X87State,
}

impl Unit<'_> {
    fn top(&self) -> u16 {
        self.x.fsw >> TOP_SHIFT & 7
    }

    fn set_top(&mut self, top: u16) {
        self.x.fsw = self.x.fsw & !(7 << TOP_SHIFT) | (top & 7) << TOP_SHIFT;
    }

    fn physical(&self, st: u8) -> usize {
        usize::from(self.top() + u16::from(st)) & 7
    }

    fn is_empty(&self, st: u8) -> bool {
        self.x.ftw >> self.physical(st) & 1 == 0
    }

    fn get(&self, st: u8) -> F80 {
        F80::from_register(&self.x.reg[self.physical(st)])
    }

    fn set(&mut self, st: u8, v: F80) {
        let n = self.physical(st);
        self.x.reg[n] = v.to_register();
        self.x.ftw |= 1 << n;
    }

    fn free(&mut self, st: u8) {
        self.x.ftw &= !(1 << self.physical(st));
    }

    fn pop(&mut self) {
        self.free(0);
        self.set_top(self.top() + 1);
    }

    /// Stack overflow or underflow; C1 tells which (SDM vol. 1, 8.5.1.1).
    fn stack_fault(&mut self, overflow: bool) {
        self.x.fsw |= STACK_FAULT | flag::INVALID;
        self.env.rounded_up = overflow;
    }

    fn push(&mut self, v: F80) {
        self.set_top(self.top().wrapping_sub(1));
        if self.is_empty(0) {
            return self.set(0, v);
        }
        self.stack_fault(true);
        self.env.flags = 0;
        self.set(0, F80::INDEFINITE);
    }

    /// Condition codes: those of `mask` become `codes`.
    fn set_codes(&mut self, mask: u16, codes: u16) {
        self.x.fsw = self.x.fsw & !mask | codes;
    }

    fn run(&mut self, r: Request, low: u64, high: u64) -> (u64, u64) {
        use Op::*;
        let mut answer = (0, 0);
        let underflow = self.is_empty(0) || self.is_empty(r.index);
        match r.op {
            Load => self.load(r, low, high),
            Constant => self.push(constant(low as usize, self.env.mode)),
            op if op.stores_to_memory() => answer = self.store(op),
            StoreRegister => self.store_register(r),
            Add | Mul | Sub | SubReversed | Div | DivReversed => self.arithmetic(r, low, high),
            Compare | CompareQuiet | CompareFlags | CompareFlagsQuiet | Test => answer.0 = self.compare(r, low, high),
            Examine => self.examine(),
            Negate | Abs => self.sign(r.op),
            Sqrt | RoundToInt => self.unary(r.op),
            Scale | Extract | Remainder | RemainderNearest => self.binary(r.op),
            Exchange => self.exchange(r.index),
            MoveIf => self.move_if(r.index, low != 0),
            Free => self.free(r.index),
            Increment => self.set_top(self.top() + 1),
            Decrement => self.set_top(self.top().wrapping_sub(1)),
            // Pop; the stores have been matched above.
            _ => {}
        }
        let keeps_c1 = match r.op {
            Pop | Examine => true,
            // Only a stack underflow touches C1 (SDM vol. 2, FCMOVcc).
            MoveIf => !underflow,
            // Likewise on AMD's processors; Intel's manual has FCOMI clear C1.
            CompareFlags | CompareFlagsQuiet => !underflow,
            _ => false,
        };
        if !keeps_c1 {
            self.set_codes(C1, if self.env.rounded_up { C1 } else { 0 });
        }
        self.x.fsw |= self.env.flags;
        (0..r.pops).for_each(|_| self.pop());
        answer
    }

    /// The source's value; `None` if its register is empty.
    fn source(&mut self, r: Request, low: u64, high: u64) -> Option<F80> {
        Some(match r.source {
            Source::Register if self.is_empty(r.index) => return None,
            Source::Register => self.get(r.index),
            Source::F32 => F80::from_f32(&mut self.env, low as u32),
            Source::F64 => F80::from_f64(&mut self.env, low),
            Source::F80 => F80::from_words(low, high as u16),
            Source::Int => F80::from_int(low as i64),
        })
    }

    fn load(&mut self, r: Request, low: u64, high: u64) {
        match self.source(r, low, high) {
            Some(v) if matches!(r.source, Source::F32 | Source::F64) => {
                let v = v.loaded(&mut self.env);
                self.push(v);
            }
            Some(v) => self.push(v),
            None => {
                self.stack_fault(false);
                self.set_top(self.top().wrapping_sub(1));
                self.set(0, F80::INDEFINITE);
            }
        }
    }

    fn store(&mut self, op: Op) -> (u64, u64) {
        let v = if self.is_empty(0) {
            self.stack_fault(false);
            F80::INDEFINITE
        } else {
            self.get(0)
        };
        let cut = matches!(op, Op::CutInt16 | Op::CutInt32 | Op::CutInt64);
        if cut {
            self.env.mode = Mode::Zero;
        }
        let env = &mut self.env;
        match op {
            Op::StoreF32 => (v.to_f32(env).into(), 0),
            Op::StoreF64 => (v.to_f64(env), 0),
            Op::StoreInt16 | Op::CutInt16 => (v.to_int(env, 16) as u64, 0),
            Op::StoreInt32 | Op::CutInt32 => (v.to_int(env, 32) as u64, 0),
            Op::StoreInt64 | Op::CutInt64 => (v.to_int(env, 64) as u64, 0),
            _ => (v.mantissa, v.top().into()),
        }
    }

    fn store_register(&mut self, r: Request) {
        if self.is_empty(0) {
            self.stack_fault(false);
            return self.set(r.index, F80::INDEFINITE);
        }
        let v = self.get(0);
        self.set(r.index, v);
    }

    fn arithmetic(&mut self, r: Request, low: u64, high: u64) {
        let target = if r.to_register { r.index } else { 0 };
        if self.is_empty(0) || r.source == Source::Register && self.is_empty(r.index) {
            self.stack_fault(false);
            return self.set(target, F80::INDEFINITE);
        }
        let Some(other) = self.source(r, low, high) else { return };
        let (a, b) = if r.to_register { (other, self.get(0)) } else { (self.get(0), other) };
        let env = &mut self.env;
        let result = match r.op {
            Op::Add => a.add(env, b),
            Op::Mul => a.mul(env, b),
            Op::Sub => a.sub(env, b),
            Op::SubReversed => b.sub(env, a),
            Op::Div => a.div(env, b),
            _ => b.div(env, a),
        };
        // A NaN operand hides that the other one is denormal.
        if result.is_nan() && env.flags & flag::DENORMAL != 0 {
            env.flags &= !flag::DENORMAL;
        }
        self.set(target, result);
    }

    fn compare(&mut self, r: Request, low: u64, high: u64) -> u64 {
        let other = match r.op {
            _ if self.is_empty(0) => None,
            Op::Test => Some(F80::zero(false)),
            _ => self.source(r, low, high),
        };
        let mut order = None;
        match other {
            Some(b) => order = self.order(self.get(0), b, r.op),
            None => self.stack_fault(false),
        }
        let codes = match order {
            Some(Ordering::Greater) => 0,
            Some(Ordering::Less) => C0,
            Some(Ordering::Equal) => C3,
            None => C0 | C2 | C3,
        };
        if matches!(r.op, Op::CompareFlags | Op::CompareFlagsQuiet) {
            // ZF, PF and CF stand where C3, C2 and C0 do, eight bits lower.
            return u64::from(codes >> 8);
        }
        self.set_codes(C0 | C2 | C3, codes);
        0
    }

    fn order(&mut self, a: F80, b: F80, op: Op) -> Option<Ordering> {
        let quiet = matches!(op, Op::CompareQuiet | Op::CompareFlagsQuiet);
        let order = a.compare(b);
        let tolerated = |v: F80| !matches!(v.class(), Class::Signalling | Class::Unsupported);
        if order.is_none() {
            self.env.flags &= !flag::DENORMAL;
            if !(quiet && tolerated(a) && tolerated(b)) {
                self.env.flags |= flag::INVALID;
            }
        } else if a.is_denormal() || b.is_denormal() {
            self.env.flags |= flag::DENORMAL;
        }
        order
    }

    /// FXAM: class and sign of ST(0), even if it is empty (SDM vol. 2, FXAM).
    fn examine(&mut self) {
        let v = self.get(0);
        let class = match v.class() {
            _ if self.is_empty(0) => C3 | C0,
            Class::Unsupported => 0,
            Class::Quiet | Class::Signalling => C0,
            Class::Infinity => C2 | C0,
            Class::Zero => C3,
            Class::Finite if v.is_denormal() => C3 | C2,
            Class::Finite => C2,
        };
        let sign = if v.negative { C1 } else { 0 };
        self.set_codes(C0 | C1 | C2 | C3, class | sign);
    }

    /// ST(0), or the indefinite after a stack fault.
    fn operand(&mut self) -> Option<F80> {
        if self.is_empty(0) {
            self.stack_fault(false);
            self.set(0, F80::INDEFINITE);
            return None;
        }
        Some(self.get(0))
    }

    fn sign(&mut self, op: Op) {
        let Some(v) = self.operand() else { return };
        self.set(0, F80 { negative: op == Op::Negate && !v.negative, ..v });
    }

    fn unary(&mut self, op: Op) {
        let Some(v) = self.operand() else { return };
        let r = if op == Op::Sqrt { v.sqrt(&mut self.env) } else { v.round_to_integral(&mut self.env) };
        self.set(0, r);
    }

    fn binary(&mut self, op: Op) {
        if op == Op::Extract {
            let Some(v) = self.operand() else {
                self.set_top(self.top().wrapping_sub(1));
                return self.set(0, F80::INDEFINITE);
            };
            if !self.is_empty(7) {
                self.set(0, F80::INDEFINITE);
                return self.push(F80::INDEFINITE);
            }
            let (exponent, significand) = v.extract(&mut self.env);
            self.set(0, exponent);
            return self.push(significand);
        }
        if self.is_empty(0) || self.is_empty(1) {
            self.stack_fault(false);
            if op != Op::Scale {
                self.set_codes(C2, 0);
            }
            return self.set(0, F80::INDEFINITE);
        }
        let (a, b) = (self.get(0), self.get(1));
        if op == Op::Scale {
            let r = a.scale(&mut self.env, b);
            return self.set(0, r);
        }
        let (r, quotient) = a.remainder(&mut self.env, b, op == Op::RemainderNearest);
        let bit = |n: u32, code: u16| if quotient.unwrap_or(0) >> n & 1 == 1 { code } else { 0 };
        let more = if quotient.is_none() { C2 } else { 0 };
        // Without a quotient there is nothing for C0 and C3 to tell: processors leave them alone.
        let mask = if r.is_nan() { C2 } else { C0 | C2 | C3 };
        self.set_codes(mask, bit(2, C0) | bit(1, C3) | more);
        self.env.rounded_up = bit(0, C1) != 0;
        self.set(0, r);
    }

    /// An empty register takes part as the indefinite.
    fn exchange(&mut self, index: u8) {
        for st in [0, index] {
            if self.is_empty(st) {
                self.stack_fault(false);
                self.set(st, F80::INDEFINITE);
            }
        }
        let (a, b) = (self.get(0), self.get(index));
        self.set(0, b);
        self.set(index, a);
    }

    fn move_if(&mut self, index: u8, holds: bool) {
        if self.is_empty(0) || self.is_empty(index) {
            self.stack_fault(false);
            self.set(0, F80::INDEFINITE);
        } else if holds {
            let v = self.get(index);
            self.set(0, v);
        }
    }
}

/// Constants by number, FLD1 first, in the order of their opcodes: one, log2(10), log2(e), pi, log10(2), ln(2), zero.
/// The irrational ones are rounded by the rounding control (SDM vol. 2, FLD1 ff.).
fn constant(n: usize, mode: Mode) -> F80 {
    /// Exponent, the mantissa cut off, and whether rounding to nearest adds one.
    const IRRATIONAL: [(u16, u64, bool); 5] = [
        (0x4000, 0xd49a_784b_cd1b_8afe, false),
        (0x3fff, 0xb8aa_3b29_5c17_f0bb, true),
        (0x4000, 0xc90f_daa2_2168_c234, true),
        (0x3ffd, 0x9a20_9a84_fbcf_f798, true),
        (0x3ffe, 0xb172_17f7_d1cf_79ab, true),
    ];
    match n {
        0 => F80::new(false, 0x3fff, 1 << 63),
        1..=5 => {
            let (exponent, mantissa, nearest_is_up) = IRRATIONAL[n - 1];
            let up = match mode {
                Mode::Nearest => nearest_is_up,
                Mode::Up => true,
                Mode::Down | Mode::Zero => false,
            };
            F80::new(false, exponent, mantissa + u64::from(up))
        }
        _ => F80::zero(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_encoding() {
        for (n, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, n);
            let r = Request { op, source: Source::F64, index: 5, pops: 2, to_register: true };
            let back = Request::decode(r.encode());
            assert_eq!((back.op, back.source, back.index, back.pops, back.to_register), (op, Source::F64, 5, 2, true));
        }
    }

    #[test]
    fn a_store_request_leaves_the_status_word_for_later() {
        let mut s = CpuState::default();
        execute(&mut s, Request::new(Op::StoreF64).encode(), 0, 0);
        assert_eq!(s.x87.fsw, 0, "the store may yet fault");
        assert_eq!(s.scratch[0][STATUS_IN_SCRATCH], (STACK_FAULT | flag::INVALID) as u8);
    }

    #[test]
    fn an_invalid_remainder_leaves_c0_and_c3() {
        let mut s = CpuState::default();
        let load = Request { source: Source::Int, ..Request::new(Op::Load) }.encode();
        execute(&mut s, load, 0, 0);
        execute(&mut s, load, 1, 0);
        s.x87.fsw |= C0 | C2 | C3;
        execute(&mut s, Request::new(Op::Remainder).encode(), 0, 0);
        assert_eq!(s.x87.fsw & (C0 | C2 | C3 | flag::INVALID), C0 | C3 | flag::INVALID);
    }

    #[test]
    fn pushing_onto_a_full_stack_gives_the_indefinite() {
        let mut s = CpuState::default();
        let load = Request { source: Source::Int, ..Request::new(Op::Load) }.encode();
        for n in 0..8 {
            execute(&mut s, load, n, 0);
        }
        assert_eq!((s.x87.ftw, s.x87.fsw & STACK_FAULT), (0xff, 0));
        execute(&mut s, load, 8, 0);
        assert_eq!(s.x87.fsw & (STACK_FAULT | C1 | flag::INVALID), STACK_FAULT | C1 | flag::INVALID);
        assert_eq!(execute(&mut s, Request::new(Op::StoreF64).encode(), 0, 0), 0xfff8_0000_0000_0000);
    }
}

//! The register stack and its instructions, all done by one helper (SDM vol. 1, 8.1 and 8.3; vol. 2).
//!
//! Operations give the masked response to every exception. With exceptions unmasked, what they did is taken back where
//! it must not happen ([`Unit::run_unmasked`]); the exception is raised by the next instruction that waits.

use core::cmp::Ordering;

use xlate_abi::state::{CpuState, X87State};

use super::soft::{Class, Env, F80, Mode, flag};
use super::transcendental::Angle;

/// Status word: condition codes, TOP.
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
    /// Returns ST(0) in a format, for memory; more of the answer is in `scratch[0]` ([`answer`]). The state is left as it
    /// is, for the store may fault.
    StoreF32,
    StoreF64,
    StoreF80,
    StoreInt16,
    StoreInt32,
    StoreInt64,
    StoreDecimal,
    /// FISTTP's.
    CutInt16,
    CutInt32,
    CutInt64,
    /// Copies ST(0) to ST(i).
    StoreRegister,
    /// The same, or nothing if ST(0) is empty: FSTPNCE.
    StoreUnchecked,
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
    /// FNOP.
    Nothing,
    Exp2MinusOne,
    /// These three have ST(1) and ST(0) as operands; the result goes to ST(1), to be popped to.
    TimesLog2,
    TimesLog2OnePlus,
    AngleOf,
    Sine,
    Cosine,
    /// The sine in ST(0), then pushes the cosine.
    SineAndCosine,
    /// The tangent in ST(0), then pushes one.
    Tangent,
}

impl Op {
    const ALL: [Op; 48] = {
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
            StoreDecimal,
            CutInt16,
            CutInt32,
            CutInt64,
            StoreRegister,
            StoreUnchecked,
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
            Nothing,
            Exp2MinusOne,
            TimesLog2,
            TimesLog2OnePlus,
            AngleOf,
            Sine,
            Cosine,
            SineAndCosine,
            Tangent,
        ]
    };
}

impl Op {
    /// Whether the answer is for memory, and the state must not change before it is there.
    fn stores_to_memory(self) -> bool {
        use Op::*;
        matches!(
            self,
            StoreF32
                | StoreF64
                | StoreF80
                | StoreInt16
                | StoreInt32
                | StoreInt64
                | StoreDecimal
                | CutInt16
                | CutInt32
                | CutInt64
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
    Decimal,
}

impl Source {
    const ALL: [Source; 6] = [Source::Register, Source::F32, Source::F64, Source::F80, Source::Int, Source::Decimal];
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
    /// There is an operand in memory, and the helper's last argument is its offset.
    pub in_memory: bool,
    /// The instruction's opcode, as FOP has it.
    pub opcode: u16,
}

impl Request {
    pub const fn new(op: Op) -> Self {
        Self { op, source: Source::Register, index: 0, pops: 0, to_register: false, in_memory: false, opcode: 0 }
    }

    pub const fn encode(self) -> u64 {
        self.op as u64
            | (self.source as u64) << 8
            | (self.index as u64) << 16
            | (self.pops as u64) << 24
            | (self.to_register as u64) << 32
            | (self.in_memory as u64) << 33
            | (self.opcode as u64) << 40
    }

    fn decode(bits: u64) -> Self {
        let byte = |n: u32| (bits >> (8 * n)) as u8;
        Self {
            op: Op::ALL[usize::from(byte(0))],
            source: Source::ALL[usize::from(byte(1))],
            index: byte(2),
            pops: byte(3),
            to_register: byte(4) & 1 != 0,
            in_memory: byte(4) & 2 != 0,
            opcode: (bits >> 40) as u16,
        }
    }
}

/// Where in `scratch[0]` the answer to a store request is.
pub mod answer {
    /// The upper word of 80 bits.
    pub const UPPER: usize = 0;
    /// Not zero: an unmasked exception keeps the store from happening.
    pub const REFUSED: usize = 8;
    /// What the state's words from the control word to FDP are to be after the store.
    pub const CONTROL: usize = 16;
    /// How many words of 64 bits that is.
    pub const CONTROL_WORDS: usize = 3;
}

/// [`xlate_abi::state::Helper::X87`]: a request, its operand (two words for the 80-bit format), and the operand's offset
/// in memory or zero.
pub extern "C" fn execute(state: &mut CpuState, request: u64, low: u64, high: u64, offset: u64) -> u64 {
    let request = Request::decode(request);
    let before = control(&state.x87);
    let mut unit = Unit { env: Env::new(state.x87.fcw), refused: false, x: &mut state.x87 };
    // Opcode and operand are set at unmasked exceptions only (CPUID.7:EBX[6]; SDM vol. 1, 8.1.9.1).
    unit.x.fip = state.rip;
    let (low, upper) = if unit.env.unmasked == 0 {
        unit.run(request, low, high)
    } else {
        unit.run_unmasked(request, [low, high], offset)
    };
    let refused = unit.refused;
    if request.op.stores_to_memory() {
        let scratch = &mut state.scratch[0];
        scratch[answer::UPPER..][..8].copy_from_slice(&upper.to_le_bytes());
        scratch[answer::REFUSED] = refused.into();
        for (n, word) in control(&state.x87).into_iter().enumerate() {
            scratch[answer::CONTROL + 8 * n..][..8].copy_from_slice(&word.to_le_bytes());
        }
        set_control(&mut state.x87, before);
    }
    low
}

/// The words from the control word to FDP as they are in memory.
fn control(x: &X87State) -> [u64; answer::CONTROL_WORDS] {
    let first = u64::from(x.fcw) | u64::from(x.fsw) << 16 | u64::from(x.ftw) << 32 | u64::from(x.fop) << 48;
    [first, x.fip, x.fdp]
}

fn set_control(x: &mut X87State, [first, fip, fdp]: [u64; answer::CONTROL_WORDS]) {
    (x.fcw, x.fsw, x.ftw, x.fop) = (first as u16, (first >> 16) as u16, (first >> 32) as u8, (first >> 48) as u16);
    (x.fip, x.fdp) = (fip, fdp);
}

struct Unit<'s> {
    env: Env,
    /// An unmasked exception has kept the instruction from being carried out.
    refused: bool,
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
        // It comes before all other exceptions (SDM vol. 1, 4.9.2).
        self.env.flags = flag::STACK | flag::INVALID;
        self.env.rounded_up = overflow;
    }

    fn push(&mut self, v: F80) {
        self.set_top(self.top().wrapping_sub(1));
        if self.is_empty(0) {
            return self.set(0, v);
        }
        self.stack_fault(true);
        self.set(0, F80::INDEFINITE);
    }

    /// Condition codes: those of `mask` become `codes`.
    fn set_codes(&mut self, mask: u16, codes: u16) {
        self.x.fsw = self.x.fsw & !mask | codes;
    }

    /// Runs a request with exceptions unmasked. Those that are found before the operation leave all as it was but the
    /// flags, and so do over- and underflow of a result for memory (SDM vol. 1, 8.5 and 8.6). A denormal that is loaded is
    /// pushed all the same, as the processors have it.
    fn run_unmasked(&mut self, r: Request, [low, high]: [u64; 2], offset: u64) -> (u64, u64) {
        let before = *self.x;
        let answer = self.run(r, low, high);
        let raised = self.env.flags;
        let trapping = raised & self.env.unmasked;
        let for_memory = if r.op.stores_to_memory() { flag::OVERFLOW | flag::UNDERFLOW } else { 0 };
        let before_it = if r.op == Op::Load { flag::BEFORE & !flag::DENORMAL } else { flag::BEFORE };
        self.refused = trapping & (before_it | for_memory) != 0;
        if self.refused {
            let kept = if trapping & flag::BEFORE != 0 { flag::BEFORE } else { flag::BEFORE | for_memory };
            let (codes, changed) = self.codes_when_refused(r.op);
            *self.x = before;
            self.x.fsw |= raised & kept;
            self.set_codes(changed, codes);
        }
        if trapping != 0 {
            self.x.fop = r.opcode;
            if r.in_memory {
                self.x.fdp = offset;
            }
        }
        self.x.summarise();
        answer
    }

    /// The condition codes that are set even if the instruction is refused, and a mask of them: comparisons give their
    /// result, and remainders and angles say that they are complete, as the processors do it (the manual is silent).
    fn codes_when_refused(&self, op: Op) -> (u16, u16) {
        let stack = self.env.flags & flag::STACK != 0;
        let c1 = if stack { self.x.fsw & C1 } else { 0 };
        match op {
            Op::Compare | Op::CompareQuiet | Op::Test => (c1 | self.x.fsw & (C0 | C2 | C3), C0 | C1 | C2 | C3),
            // Only a stack underflow touches C1.
            Op::CompareFlags | Op::CompareFlagsQuiet => (0, if stack { C1 } else { 0 }),
            Op::Remainder | Op::RemainderNearest | Op::Sine | Op::Cosine | Op::SineAndCosine | Op::Tangent => {
                (c1, C1 | C2)
            }
            _ => (c1, C1),
        }
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
            StoreUnchecked => self.store_unchecked(r.index),
            Add | Mul | Sub | SubReversed | Div | DivReversed => self.arithmetic(r, low, high),
            Compare | CompareQuiet | CompareFlags | CompareFlagsQuiet | Test => answer.0 = self.compare(r, low, high),
            Examine => self.examine(),
            Negate | Abs => self.sign(r.op),
            Sqrt | RoundToInt => self.unary(r.op),
            Scale | Extract | Remainder | RemainderNearest => self.binary(r.op),
            Exp2MinusOne => self.exp2_minus_one(),
            TimesLog2 | TimesLog2OnePlus | AngleOf => self.of_two(r.op),
            Sine | Cosine => self.of_angle(r.op),
            SineAndCosine | Tangent => self.two_of_angle(r.op),
            Exchange => self.exchange(r.index),
            MoveIf => self.move_if(r.index, low != 0),
            Free => self.free(r.index),
            Increment => self.set_top(self.top() + 1),
            Decrement => self.set_top(self.top().wrapping_sub(1)),
            // The stores have been matched above.
            _ => {}
        }
        let keeps_c1 = match r.op {
            Examine | Nothing => true,
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
            Source::Decimal => F80::from_decimal(low, high as u16),
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
            Op::StoreDecimal => {
                let (low, upper) = v.to_decimal(env);
                (low, upper.into())
            }
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

    fn store_unchecked(&mut self, index: u8) {
        if !self.is_empty(0) {
            let v = self.get(0);
            self.set(index, v);
        }
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

    fn exp2_minus_one(&mut self) {
        let Some(v) = self.operand() else { return };
        let r = v.exp2_minus_one(&mut self.env);
        self.set(0, r);
    }

    fn of_two(&mut self, op: Op) {
        if self.is_empty(0) || self.is_empty(1) {
            self.stack_fault(false);
            return self.set(1, F80::INDEFINITE);
        }
        let (x, y) = (self.get(0), self.get(1));
        let r = match op {
            Op::TimesLog2 => y.times_log2(&mut self.env, x),
            Op::TimesLog2OnePlus => y.times_log2_one_plus(&mut self.env, x),
            _ => y.angle_of(&mut self.env, x),
        };
        self.set(1, r);
    }

    /// C2 tells that the angle is too large, and nothing has been done.
    fn of_angle(&mut self, op: Op) {
        self.set_codes(C2, 0);
        let Some(v) = self.operand() else { return };
        let which = if op == Op::Sine { Angle::Sine } else { Angle::Cosine };
        match v.of_angle(&mut self.env, which) {
            Some(r) => self.set(0, r),
            None => self.set_codes(C2, C2),
        }
    }

    fn two_of_angle(&mut self, op: Op) {
        self.set_codes(C2, 0);
        let first = if op == Op::Tangent { Angle::Tangent } else { Angle::Sine };
        let Some(v) = self.operand() else {
            self.set_top(self.top().wrapping_sub(1));
            return self.set(0, F80::INDEFINITE);
        };
        if !self.is_empty(7) {
            self.set(0, F80::INDEFINITE);
            return self.push(F80::INDEFINITE);
        }
        let Some(r) = v.of_angle(&mut self.env, first) else { return self.set_codes(C2, C2) };
        let second = match first {
            _ if r.is_nan() => r,
            Angle::Tangent => F80::new(false, 0x3fff, 1 << 63),
            _ => v.of_angle(&mut self.env, Angle::Cosine).unwrap_or(r),
        };
        self.set(0, r);
        self.push(second);
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
            let (source, opcode) = (Source::F64, 0x7ff);
            let r = Request { op, source, index: 5, pops: 2, to_register: true, in_memory: false, opcode };
            let back = Request::decode(r.encode());
            assert_eq!((back.op, back.source, back.index, back.pops), (op, Source::F64, 5, 2));
            assert_eq!((back.to_register, back.in_memory, back.opcode), (true, false, 0x7ff));
        }
    }

    fn load_int() -> u64 {
        Request { source: Source::Int, ..Request::new(Op::Load) }.encode()
    }

    #[test]
    fn a_store_request_leaves_the_state_for_later() {
        let mut s = CpuState { rip: 0x1234, ..CpuState::default() };
        let pop = Request { pops: 1, ..Request::new(Op::StoreF64) };
        execute(&mut s, pop.encode(), 0, 0, 0);
        assert_eq!(s.x87, X87State::default(), "the store may yet fault");
        let word = |n: usize| u64::from_le_bytes(s.scratch[0][answer::CONTROL + 8 * n..][..8].try_into().expect("8"));
        let mut after = X87State::default();
        set_control(&mut after, [word(0), word(1), word(2)]);
        assert_eq!(after.fsw, 1 << TOP_SHIFT | flag::STACK | flag::INVALID);
        assert_eq!(after.fip, 0x1234);
    }

    #[test]
    fn an_unmasked_exception_leaves_all_but_the_flags() {
        let mut s = CpuState::default();
        execute(&mut s, load_int(), 0, 0, 0);
        execute(&mut s, load_int(), 1, 0, 0);
        s.x87.set_control(0x37f & !flag::ZERO_DIVIDE);
        let before = s.x87;
        let divide = Request { index: 1, pops: 1, opcode: 0x6f9, ..Request::new(Op::Div) };
        execute(&mut s, divide.encode(), 0, 0, 0);
        assert_eq!(s.x87.fsw, before.fsw | flag::ZERO_DIVIDE | X87State::SUMMARY);
        assert_eq!((s.x87.reg, s.x87.ftw, s.x87.fop), (before.reg, before.ftw, 0x6f9));
    }

    #[test]
    fn an_unmasked_overflow_changes_the_exponent() {
        let mut s = CpuState::default();
        let extended = |op| Request { source: Source::F80, ..Request::new(op) }.encode();
        execute(&mut s, extended(Op::Load), 1 << 63, 0x7ffe, 0);
        s.x87.set_control(0x37f & !flag::OVERFLOW);
        execute(&mut s, extended(Op::Mul), 1 << 63, 0x4001, 0);
        assert_eq!(s.x87.fsw & 0xff, flag::OVERFLOW | 0x80);
        assert_eq!(s.x87.reg[7][8..10], (0x8000u16 - 24576).to_le_bytes());
    }

    #[test]
    fn decimals_go_both_ways() {
        let mut s = CpuState::default();
        let load = Request { source: Source::Decimal, ..Request::new(Op::Load) }.encode();
        execute(&mut s, load, 0x3456_7890_1234_5678, 0x8012, 0);
        let low = execute(&mut s, Request::new(Op::StoreDecimal).encode(), 0, 0, 0);
        assert_eq!((low, s.scratch[0][..2].to_vec()), (0x3456_7890_1234_5678, vec![0x12, 0x80]));
    }

    #[test]
    fn an_invalid_remainder_leaves_c0_and_c3() {
        let mut s = CpuState::default();
        execute(&mut s, load_int(), 0, 0, 0);
        execute(&mut s, load_int(), 1, 0, 0);
        s.x87.fsw |= C0 | C2 | C3;
        execute(&mut s, Request::new(Op::Remainder).encode(), 0, 0, 0);
        assert_eq!(s.x87.fsw & (C0 | C2 | C3 | flag::INVALID), C0 | C3 | flag::INVALID);
    }

    #[test]
    fn pushing_onto_a_full_stack_gives_the_indefinite() {
        let mut s = CpuState::default();
        for n in 0..8 {
            execute(&mut s, load_int(), n, 0, 0);
        }
        assert_eq!((s.x87.ftw, s.x87.fsw & flag::STACK), (0xff, 0));
        execute(&mut s, load_int(), 8, 0, 0);
        assert_eq!(s.x87.fsw & (flag::STACK | C1 | flag::INVALID), flag::STACK | C1 | flag::INVALID);
        assert_eq!(execute(&mut s, Request::new(Op::StoreF64).encode(), 0, 0, 0), 0xfff8_0000_0000_0000);
    }
}

//! What an instruction touches and calculates with: found by running its meaning over an emitter that records.
//!
//! So nothing has to be listed for an instruction but its meaning. All that may happen is here, whichever way the
//! instruction takes: both sides of its branches, its traps, and all flags, whether anything reads them or not.

mod helper;
mod recorder;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use iced_x86::Code;
use smallvec::SmallVec;
use xlate_abi::state::{Helper, Trap};

use crate::decode::{ALL_FLAGS, Flags, Insn};
use crate::emitter::{FBin, Fty, Ty};
use crate::isa;
use crate::lifter::Lifter;
use recorder::Recorder;

/// All that an instruction may do.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// General-purpose registers, a bit each.
    pub gprs: Touched,
    /// General-purpose registers that get what was calculated from vector registers.
    pub gprs_by_vectors: u16,
    /// Flags, as [`Flags`] has them.
    pub flags: Touched,
    pub vectors: SmallVec<[VectorUse; 3]>,
    /// Mask registers, a bit each.
    pub masks: Touched,
    /// How the lanes of vector registers are used.
    pub lanes: Lanes,
    pub memory: SmallVec<[Access; 2]>,
    pub floats: SmallVec<[FloatOperation; 1]>,
    /// Helpers that are called, a bit each.
    helpers: u64,
    /// Exceptions that are raised by a test, a bit each; an access may fault besides.
    traps: u32,
    /// Other fields of the CPU state, MMX and x87 registers among them.
    pub reads_state: bool,
    pub writes_state: bool,
    /// It may leave to the runtime.
    pub may_leave: bool,
    /// It transfers control by itself.
    pub ends_block: bool,
    /// It orders memory accesses.
    pub is_fence: bool,
    /// It writes memory before the exceptions of the floating-point operations that come before that.
    pub writes_before_exceptions: bool,
}

/// What becomes of a set of registers or flags, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// What they were before may count.
    pub read: u32,
    /// They may change.
    pub written: u32,
    /// They are written whichever way the instruction takes.
    pub always_written: u32,
}

impl Touched {
    fn read(&mut self, bits: u32) {
        self.read |= bits & !self.always_written;
    }

    fn write(&mut self, bits: u32) {
        self.written |= bits;
        self.always_written |= bits;
    }
}

/// What becomes of a vector register. Its parts are masks with a bit a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorUse {
    pub register: u8,
    /// So many bits of it are asked for or written.
    pub bits: u32,
    /// Bytes whose old values may count.
    pub read: u64,
    /// Bytes that may change, but for those that are cleared.
    pub written: u64,
    /// Bytes that are written whichever way the instruction takes.
    pub always_written: u64,
    /// What is above the written operand is cleared; otherwise it stays.
    pub clears_upper: bool,
    /// What its lowest bytes are afterwards.
    pub low: Content,
}

/// What stands in the lowest bits of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub origin: Origin,
    pub bits: u32,
}

impl Content {
    const UNKNOWN: Self = Self { origin: Origin::Other, bits: 0 };

    /// The same of fewer bits.
    fn cut(self, bits: u32) -> Self {
        if bits == 0 { Self::UNKNOWN } else { Self { bits: self.bits.min(bits), ..self } }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Constant(u64),
    /// A general-purpose register, as it was before the instruction.
    Gpr(u8),
    /// The lowest bits of a vector register, as they were before the instruction.
    Vector(u8),
    /// The result of a floating-point operation, by its number in [`Effects::floats`].
    Float(u16),
    Other,
}

/// How an instruction's vectors are divided into lanes. The greatest of what its operations need counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lanes {
    /// It is as good on parts of 64 bits.
    #[default]
    Either,
    /// The lowest 64 bits are a number by themselves.
    Low,
    Whole,
}

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub kind: AccessKind,
    /// 0 where that depends.
    pub bytes: u32,
    /// It may be left out.
    pub is_conditional: bool,
    /// Where it is, or whether it happens, depends on vector registers.
    pub by_vectors: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Load,
    Store,
    /// An atomic read-modify-write operation.
    Atomic,
}

/// A floating-point operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatOperation {
    pub kind: FloatKind,
    /// The format calculated with; of a conversion to a float format, the result's.
    pub format: Fty,
    /// The format's width for a scalar operation, the vector's for a packed one.
    pub bits: u32,
    pub operands: [Origin; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatKind {
    Binary(FBin),
    Root,
    /// A fused multiplication and addition.
    Fused,
    /// With flags or a mask as the result.
    Compare,
    Round,
    FromInteger(Ty),
    ToInteger,
    FromFloat(Fty),
    /// One of [`crate::wide::float`]'s.
    Wide,
}

impl FloatOperation {
    /// Whether it makes a NaN of every NaN (IEEE 754-2019, 6.2.3).
    pub fn keeps_nans(&self) -> bool {
        match self.kind {
            FloatKind::Binary(op) => !matches!(op, FBin::Min | FBin::Max),
            FloatKind::Root | FloatKind::Fused => true,
            _ => false,
        }
    }

    /// Whether it may raise an exception flag of MXCSR.
    fn may_raise(&self) -> bool {
        // 32 bits fit into a double.
        (self.kind, self.format) != (FloatKind::FromInteger(Ty::I32), Fty::F64)
    }
}

impl Effects {
    /// Of an instruction that has a meaning.
    pub fn of(insn: &Insn) -> Self {
        let mut insn = *insn;
        insn.set_live(ALL_FLAGS);
        let meaning = isa::semantics::<Recorder>(&insn.raw).expect("blocks hold only implemented instructions");
        let mut recorder = Recorder::default();
        let mut l = Lifter::new(&mut recorder, true);
        l.instruction(meaning, &insn);
        l.flush_flags();
        recorder.effects
    }

    /// Whether it calls this helper.
    pub fn calls(&self, helper: Helper) -> bool {
        self.helpers >> helper as u32 & 1 != 0
    }

    /// Whether a test of its own may raise this exception.
    pub fn may_trap(&self, trap: Trap) -> bool {
        self.traps >> trap as u32 & 1 != 0
    }

    /// Whether it may raise floating-point exception flags of MXCSR.
    pub fn raises_float_flags(&self) -> bool {
        self.floats.iter().any(FloatOperation::may_raise)
            || Helper::ALL.into_iter().any(|helper| helper.raises_flags() && self.calls(helper))
    }

    /// Whether it changes the modes of MXCSR, so that floating-point operations must not be moved across it.
    pub fn changes_float_mode(&self) -> bool {
        Helper::ALL.into_iter().any(|helper| helper::loads_mxcsr(helper) && self.calls(helper))
    }

    /// Whether it may write to memory.
    pub fn writes_memory(&self) -> bool {
        self.memory.iter().any(|access| access.kind != AccessKind::Load)
    }

    /// Flags that it may change.
    pub fn flags_written(&self) -> Flags {
        self.flags.written
    }

    /// Whether it changes nothing but general-purpose and vector registers and flags. It may fault or trap.
    pub fn changes_only_registers(&self) -> bool {
        let pure = Helper::ALL.into_iter().all(|helper| helper.is_pure() || !self.calls(helper));
        pure && !self.writes_memory() && !self.writes_state && !self.may_leave && !self.ends_block && !self.is_fence
    }

    /// Whether something that isn't in a vector register depends on one: another register, a mask, or an access.
    pub fn leads_out_of_vectors(&self) -> bool {
        self.gprs_by_vectors != 0 || self.masks.written != 0 || self.memory.iter().any(|access| access.by_vectors)
    }

    /// Vector registers that may change, a bit each.
    pub fn vectors_written(&self) -> u32 {
        let written = |v: &&VectorUse| v.written != 0 || v.clears_upper;
        self.vectors.iter().filter(written).fold(0, |all, v| all | 1 << v.register)
    }

    /// Vector registers that are touched, a bit each.
    pub fn vectors_touched(&self) -> u32 {
        self.vectors.iter().fold(0, |all, v| all | 1 << v.register)
    }

    /// The vector registers of which more than the lowest 128 bits are touched, a bit each.
    pub fn wide_vectors(&self) -> u32 {
        let wide = |v: &&VectorUse| v.bits > 128 || v.clears_upper;
        self.vectors.iter().filter(wide).fold(0, |all, v| all | 1 << v.register)
    }
}

/// [`Effects::raises_float_flags`], which depends on nothing but the instruction's code, for those who ask at every execution.
pub fn raises_float_flags(insn: &Insn) -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static KNOWN: OnceLock<Vec<AtomicU8>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| Code::values().map(|_| AtomicU8::new(UNKNOWN)).collect());
    let known = &known[insn.raw.code() as usize];
    if known.load(Ordering::Relaxed) == UNKNOWN {
        let raises = Effects::of(insn).raises_float_flags();
        known.store(if raises { YES } else { NO }, Ordering::Relaxed);
    }
    known.load(Ordering::Relaxed) == YES
}

#[cfg(test)]
mod tests;

//! The operations in which an instruction's meaning is written, once, for every engine.
//!
//! Semantics are generic functions over [`Emitter`] (finally-tagless style). The interpreter's values are the
//! bits themselves, so for it emitting *is* executing; Cranelift's and LLVM's values are SSA names.
//!
//! Conventions, binding for all implementations:
//! - A `Val` is a bit pattern of the width the operation's [`Ty`] says. Operations that take a `ty` require
//!   their operands to be values of that width; implementations may hold a value in several *facets*
//!   (integer, pointer, float) and convert lazily.
//! - Shift counts are smaller than the width unless an operation says otherwise; divisors are non-zero and
//!   the quotient fits: the semantics test first and trap.
//! - Floating-point results are x86's to the bit, NaN payloads and signs included (Intel SDM vol. 1, 4.8.3.5).
//!   A licence: an optimising emitter may return either operand's (quieted) payload where *both*
//!   operands of a multiplication are NaNs.
//! - Floating-point operations raise the exception flags of MXCSR that x86's raise, each exactly where it stands, whether
//!   anything uses its result or not (but for what ARCHITECTURE.md licenses on AArch64). Exceptions are masked wherever
//!   code of an optimising emitter runs.
//! - A `Vec` has the width that made it; an operation's shape is that of its operands. A `Mask` has one bit a lane.
//! - Memory addresses are guest addresses, equal to host addresses; accesses may be misaligned and may fault.
//!   An instruction performs all accesses that may fault before it changes guest registers or flags.

use xlate_abi::state::{ExitReason, Helper, Trap};

use crate::wide::float::{Conversion, Element};
use crate::wide::{Wide, float};

/// Width of a scalar value. `F32`/`F64` bits travel as `I32`/`I64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ty {
    I8,
    I16,
    I32,
    I64,
}

impl Ty {
    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Ty::I8 => 8,
            Ty::I16 => 16,
            Ty::I32 => 32,
            Ty::I64 => 64,
        }
    }

    /// Width in bytes.
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// All ones in this width.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The type of this many bytes: 1, 2, 4 or 8.
    pub const fn from_bytes(bytes: usize) -> Option<Ty> {
        match bytes {
            1 => Some(Ty::I8),
            2 => Some(Ty::I16),
            4 => Some(Ty::I32),
            8 => Some(Ty::I64),
            _ => None,
        }
    }
}

/// A floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fty {
    F32,
    F64,
}

impl Fty {
    /// The integer type its bits travel in.
    pub const fn ty(self) -> Ty {
        match self {
            Fty::F32 => Ty::I32,
            Fty::F64 => Ty::I64,
        }
    }
}

/// What a vector's lanes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Lane {
    /// The scalar type of one lane.
    pub const fn ty(self) -> Ty {
        match self {
            Lane::I8 => Ty::I8,
            Lane::I16 => Ty::I16,
            Lane::I32 | Lane::F32 => Ty::I32,
            Lane::I64 | Lane::F64 => Ty::I64,
        }
    }

    /// The float format of one lane, if it is one.
    pub const fn fty(self) -> Option<Fty> {
        match self {
            Lane::F32 => Some(Fty::F32),
            Lane::F64 => Some(Fty::F64),
            _ => None,
        }
    }
}

/// A vector's shape: lane type and width in bits (64 for MMX, 128, 256 or 512).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VTy {
    pub lane: Lane,
    pub bits: u32,
}

impl VTy {
    /// A 128-bit vector of these lanes.
    pub const fn x128(lane: Lane) -> Self {
        Self { lane, bits: 128 }
    }

    /// Number of lanes.
    pub const fn lanes(self) -> u32 {
        self.bits / self.lane.ty().bits()
    }
}

/// Two-operand scalar integer operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bin {
    Add,
    Sub,
    /// Low half of the product.
    Mul,
    And,
    Or,
    Xor,
    /// Shifts and rotates: the count is a value of the same type, smaller than the width.
    Shl,
    Lshr,
    Ashr,
    RotL,
    RotR,
    /// Truncating division; the divisor is non-zero and the quotient fits.
    Udiv,
    Urem,
    Sdiv,
    Srem,
}

/// One-operand scalar integer operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Un {
    Not,
    Neg,
    /// Byte reversal (I16 and wider).
    Bswap,
    /// Leading zeros; the width for 0.
    Clz,
    /// Trailing zeros; the width for 0.
    Ctz,
    Popcnt,
}

/// Integer comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pred {
    Eq,
    Ne,
    Ult,
    Ule,
    Ugt,
    Uge,
    Slt,
    Sle,
    Sgt,
    Sge,
}

/// Operations on conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CondOp {
    And,
    Or,
    Xor,
}

/// Two-operand floating-point operations, with x86's meaning for NaNs and signed zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FBin {
    Add,
    Sub,
    Mul,
    Div,
    /// MINSS: the second operand if either is NaN or both are zero (Intel SDM vol. 2, MINSS).
    Min,
    /// MAXSS, likewise.
    Max,
}

/// A floating-point comparison, by its number in VCMPPS (SDM vol. 2, table 3-1); CMPPS has the first eight. Those whose names
/// begin with `U` are also true when unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FPred(u8);

impl FPred {
    /// Ordered and equal.
    pub const OEQ: Self = Self(0);
    pub const OLT: Self = Self(1);
    pub const OLE: Self = Self(2);
    /// Either is a NaN.
    pub const UNO: Self = Self(3);
    /// Unordered or not equal.
    pub const UNE: Self = Self(4);
    /// Not less-than (unordered, greater or equal).
    pub const UGE: Self = Self(5);
    pub const UGT: Self = Self(6);
    /// Neither is a NaN.
    pub const ORD: Self = Self(7);
    pub const ULT: Self = Self(9);
    pub const ULE: Self = Self(10);
    pub const OGE: Self = Self(13);
    pub const OGT: Self = Self(14);
    /// How many there are.
    pub const COUNT: u8 = 32;

    /// The comparison of a number, modulo their count.
    pub const fn of_number(n: u8) -> Self {
        Self(n % Self::COUNT)
    }

    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether CMPPS has it, too.
    pub const fn is_legacy(self) -> bool {
        self.0 < 8
    }

    /// Whether it raises the invalid flag for any NaN, not only for signalling ones. The upper half of the numbers means what
    /// the lower half does with this the other way round.
    pub const fn signals(self) -> bool {
        matches!(self.0 % 4, 1 | 2) != (self.0 >= 16)
    }

    /// Whether it holds for two operands, of which at most one of these can be said.
    pub const fn holds(self, less: bool, equal: bool, unordered: bool) -> bool {
        let greater = !(less || equal || unordered);
        // The upper eight of each half: negations that take the unordered case the other way.
        match self.0 % 16 {
            0 => equal,
            1 => less,
            2 => less || equal,
            3 => unordered,
            4 => !equal,
            5 => !less,
            6 => !(less || equal),
            7 => !unordered,
            8 => equal || unordered,
            9 => less || unordered,
            10 => !greater,
            11 => false,
            12 => less || greater,
            13 => equal || greater,
            14 => greater,
            _ => true,
        }
    }
}

/// A fused multiplication and addition: which of the product and the third operand are negated, by lane (SDM vol. 1, 14.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fma {
    Add,
    Sub,
    /// The product is negated.
    NegatedAdd,
    NegatedSub,
    /// Adds in odd lanes, subtracts in even ones.
    AddSub,
    /// The other way round.
    SubAdd,
}

impl Fma {
    /// In the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Add, Self::Sub, Self::NegatedAdd, Self::NegatedSub, Self::AddSub, Self::SubAdd];

    /// Whether the product and the third operand are negated in this lane.
    pub const fn negates(self, lane: u32) -> [bool; 2] {
        let odd = lane % 2 == 1;
        match self {
            Self::Add => [false, false],
            Self::Sub => [false, true],
            Self::NegatedAdd => [true, false],
            Self::NegatedSub => [true, true],
            Self::AddSub => [false, !odd],
            Self::SubAdd => [false, odd],
        }
    }
}

/// What COMISS finds out about two operands (SDM vol. 2, COMISS): the flags CF, ZF and PF, and whether neither CF nor ZF
/// is set, which the first operand being greater means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<C> {
    /// Less or unordered.
    pub carry: C,
    /// Equal or unordered.
    pub zero: C,
    pub unordered: C,
    pub above: C,
}

/// The condition of a [`Compare`] that is probably read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Carry,
    Unordered,
    Above,
}

/// How a float becomes an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// By the rounding mode in the guest's MXCSR.
    Current,
    Truncate,
}

/// How a float is rounded to an integral value, in the order of ROUNDSD's immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    Down,
    Up,
    Zero,
    /// By the rounding mode in the guest's MXCSR.
    Current,
}

impl Rounding {
    pub const ALL: [Self; 5] = [Self::Nearest, Self::Down, Self::Up, Self::Zero, Self::Current];
}

/// Two-operand vector operations by integer lanes (floats go through [`Emitter::vfbin`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VBin {
    Add,
    Sub,
    /// Low half of the product (I16 and wider).
    Mul,
    /// High half of the signed / unsigned 16-bit product.
    MulHiS,
    MulHiU,
    And,
    Or,
    Xor,
    /// `!a & b`, in the operand order of PANDN.
    AndNot,
    MinS,
    MinU,
    MaxS,
    MaxU,
    AddSatS,
    AddSatU,
    SubSatS,
    SubSatU,
    /// Rounded average, `(a + b + 1) >> 1`.
    AvgU,
    /// All ones where true.
    CmpEq,
    CmpGtS,
}

/// Vector shifts of every lane by one count; counts beyond the lane width give zero (or the sign).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VShift {
    Shl,
    Lshr,
    Ashr,
}

/// Atomic read-modify-write operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rmw {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Xchg,
}

/// Flags that are held as conditions (parity is held as a byte, see [`xlate_abi::state::FlagBytes`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    Cf,
    Af,
    Zf,
    Sf,
    Of,
    Df,
}

/// What becomes of a vector register's bits above the written width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upper {
    /// Legacy SSE leaves them.
    Keep,
    /// VEX and EVEX clear them.
    Zero,
}

/// Kinds of indirect control transfer, for return prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Indirect {
    Jump,
    /// The return address has been pushed already.
    Call {
        return_to: u64,
    },
    Ret,
}

/// Something that leads to an emitter: the emitter itself, or the lifter that drives it.
/// Lets branches of [`Emitter::if_else`] use the caller's own context.
pub trait Host<E> {
    fn emitter(&mut self) -> &mut E;
}

impl<E: Emitter> Host<E> for E {
    fn emitter(&mut self) -> &mut E {
        self
    }
}

/// [`Emitter::crc32c`] for a host without an instruction for it.
pub fn crc32c_by_helper<E: Emitter>(e: &mut E, from: Ty, acc: E::Val, data: E::Val) -> E::Val {
    let data = if from == Ty::I64 { data } else { e.zext(from, Ty::I64, data) };
    let (acc, size) = (e.zext(Ty::I32, Ty::I64, acc), e.iconst(Ty::I64, from.bytes().into()));
    let r = e.call_helper(Helper::Crc32c, &[acc, data, size]);
    e.trunc(Ty::I64, Ty::I32, r)
}

/// [`Emitter::byte_shuffle`] out of shifts of the table's two halves.
fn byte_shuffle_by_bytes<E: Emitter>(e: &mut E, bits: u32, table: E::Vec, index: E::Vec) -> E::Vec {
    let bytes = VTy { lane: Lane::I8, bits };
    let qwords = VTy { lane: Lane::I64, bits };
    let mut r = table;
    for n in 0..bytes.lanes() {
        let low = e.extract(qwords, table, n / 16 * 2);
        let high = e.extract(qwords, table, n / 16 * 2 + 1);
        let which = e.extract(bytes, index, n);
        let which = e.zext(Ty::I8, Ty::I64, which);
        let [seven, eight, three, zero, cleared] = [7, 8, 3, 0, 0x80].map(|c| e.iconst(Ty::I64, c));
        let upper = e.bin(Bin::And, Ty::I64, which, eight);
        let upper = e.cmp(Pred::Ne, Ty::I64, upper, zero);
        let half = e.select(Ty::I64, upper, high, low);
        let place = e.bin(Bin::And, Ty::I64, which, seven);
        let place = e.bin(Bin::Shl, Ty::I64, place, three);
        let byte = e.bin(Bin::Lshr, Ty::I64, half, place);
        let clear = e.cmp(Pred::Uge, Ty::I64, which, cleared);
        let byte = e.select(Ty::I64, clear, zero, byte);
        let byte = e.trunc(Ty::I64, Ty::I8, byte);
        r = e.insert(bytes, r, n, byte);
    }
    r
}

/// [`Emitter::load_masked`] by the runtime.
pub fn load_masked_by_helper<E: Emitter>(e: &mut E, ty: VTy, m: E::Mask, addr: E::Val) -> E::Vec {
    let args = masked_access(e, ty, m, addr);
    e.call_helper(Helper::LoadMasked, &args);
    e.scratch(0, ty.bits.max(128))
}

/// [`Emitter::store_masked`] by the runtime.
pub fn store_masked_by_helper<E: Emitter>(e: &mut E, ty: VTy, m: E::Mask, addr: E::Val, v: E::Vec) {
    e.set_scratch(0, ty.bits.max(128), v);
    let args = masked_access(e, ty, m, addr);
    e.call_helper(Helper::StoreMasked, &args);
}

/// The arguments of the helpers for masked accesses.
fn masked_access<E: Emitter>(e: &mut E, ty: VTy, m: E::Mask, addr: E::Val) -> [E::Val; 3] {
    let bits = e.mask_bits(ty.lanes(), m);
    [addr, bits, e.iconst(Ty::I64, ty.lane.ty().bytes().into())]
}

/// [`Emitter::fma`] for a host without an instruction for it.
pub fn fma_by_helper<E: Emitter>(e: &mut E, op: Fma, ty: Fty, operands: [E::Val; 3]) -> E::Val {
    let lane = match ty {
        Fty::F32 => Lane::F32,
        Fty::F64 => Lane::F64,
    };
    let operands = operands.map(|v| {
        let zero = e.vconst(&[0; 16]);
        e.insert(VTy::x128(lane), zero, 0, v)
    });
    let r = vfma_by_helper(e, op, VTy { lane, bits: ty.ty().bits() }, operands);
    e.extract(VTy::x128(lane), r, 0)
}

/// [`Emitter::vfma`] likewise.
pub fn vfma_by_helper<E: Emitter>(e: &mut E, op: Fma, ty: VTy, operands: [E::Vec; 3]) -> E::Vec {
    let operands = operands.map(|v| (ty.bits.max(128), v));
    e.wide(Wide::Float(float::Op::MultiplyAdd), ty, &operands, op as u8)
}

/// What signed integer of two widths holds an element's values, if one does.
fn signed(e: Element) -> Option<Ty> {
    match e {
        Element::I32 => Some(Ty::I32),
        Element::I64 => Some(Ty::I64),
        _ => None,
    }
}

/// One element; by a conversion of scalars, if there is one.
pub fn convert_element<E: Emitter>(e: &mut E, c: Conversion, v: E::Val) -> E::Val {
    let Conversion { from, to, round } = c;
    match (from.lane().fty(), to.lane().fty(), signed(from), signed(to)) {
        (Some(from), Some(to), ..) => e.float_to_float(from, to, v),
        (Some(from), _, _, Some(to)) => e.float_to_int(round, from, to, v),
        (_, Some(to), Some(from), _) => e.int_to_float(from, to, v),
        // Always exact. Of what is rounded, LLVM moves the conversion of an extended integer across a change of the mode.
        (_, Some(to), ..) if (from, to) == (Element::U32, Fty::F64) => {
            let v = e.zext(Ty::I32, Ty::I64, v);
            e.int_to_float(Ty::I64, to, v)
        }
        _ => {
            let zero = e.vconst(&[0; 16]);
            let v = e.insert(VTy::x128(from.lane()), zero, 0, v);
            let r = convert_by_body(e, c, 1, (128, v));
            e.extract(VTy::x128(to.lane()), r, 0)
        }
    }
}

/// Whether there is a conversion of scalars.
fn is_direct(c: Conversion) -> bool {
    let is_known = |e: Element| e.lane().fty().is_some() || signed(e).is_some();
    is_known(c.to) && is_known(c.from) || (c.from, c.to) == (Element::U32, Element::Double)
}

/// [`Emitter::vconvert`] out of operations on scalars, or by the body that all engines share.
pub fn convert_by_lanes<E: Emitter>(e: &mut E, c: Conversion, lanes: u32, (bits, v): (u32, E::Vec)) -> E::Vec {
    if !is_direct(c) {
        return convert_by_body(e, c, lanes, (bits, v));
    }
    let from = VTy { lane: c.from.lane(), bits };
    let to = VTy { lane: c.to.lane(), bits: (lanes * c.to.ty().bits()).max(128) };
    let zero = e.vconst(&[0; 64][..to.bits as usize / 8]);
    (0..lanes).fold(zero, |r, n| {
        let x = e.extract(from, v, n);
        let y = convert_element(e, c, x);
        e.insert(to, r, n, y)
    })
}

fn convert_by_body<E: Emitter>(e: &mut E, c: Conversion, lanes: u32, v: (u32, E::Vec)) -> E::Vec {
    let (op, immediate) = c.operation();
    let ty = VTy { lane: c.to.lane(), bits: lanes * c.to.ty().bits() };
    e.wide(Wide::Float(op), ty, &[v], immediate)
}

/// [`Emitter::vfround`] out of operations on scalars.
pub fn round_by_lanes<E: Emitter>(e: &mut E, mode: Rounding, inexact: bool, ty: VTy, v: E::Vec) -> E::Vec {
    let f = ty.lane.fty().expect("float lanes");
    (0..ty.lanes()).fold(v, |r, n| {
        let x = e.extract(ty, v, n);
        let x = e.fround(mode, inexact, f, x);
        e.insert(ty, r, n, x)
    })
}

/// Has the runtime perform an operation on vectors.
pub fn wide_by_helper<E: Emitter>(e: &mut E, op: Wide, ty: VTy, operands: &[(u32, E::Vec)], immediate: u8) -> E::Val {
    for (place, (bits, v)) in operands.iter().enumerate() {
        e.set_scratch(place, *bits, *v);
    }
    let [request, immediate] = [op.request(ty), immediate.into()].map(|word| e.iconst(Ty::I64, word));
    e.call_helper(Helper::Wide, &[request, immediate])
}

/// All that a comparison of strings up to their zeros gives (SDM vol. 2, PCMPISTRI and PCMPISTRM).
pub struct Compared<E: Emitter> {
    /// The element found or the number of elements, as an I64.
    pub index: E::Val,
    /// 128 bits.
    pub mask: E::Vec,
    /// CF, ZF, SF and OF.
    pub flags: [E::Cond; 4],
}

/// What all status flags come from ([`xlate_abi::state::FlagOrigin`]).
pub struct Origin<E: Emitter> {
    /// All of the word that is known.
    pub word: u32,
    /// The rest of it: whether the bits are set that begin at this place (one bit each).
    pub bit: Option<(E::Cond, u32)>,
    /// The width of the operands.
    pub ty: Ty,
    pub x: E::Val,
    pub y: Option<E::Val>,
}

/// One way of giving instructions their meaning. See the module's conventions.
pub trait Emitter: Sized {
    /// A scalar of up to 64 bits.
    type Val: Copy;
    /// A truth value.
    type Cond: Copy;
    /// A vector of up to 512 bits.
    type Vec: Copy;
    /// A truth value for each lane of a vector.
    type Mask: Copy;

    // ---- guest state -------------------------------------------------------------------------------

    /// Called before each instruction; `next` is the address behind it.
    fn begin_instruction(&mut self, ip: u64, next: u64);
    /// A 64-bit general-purpose register, by encoding number.
    fn gpr(&mut self, reg: usize) -> Self::Val;
    fn set_gpr(&mut self, reg: usize, v: Self::Val);
    fn flag(&mut self, flag: Flag) -> Self::Cond;
    /// For status flags, [`Emitter::set_single_flags`] comes before.
    fn set_flag(&mut self, flag: Flag, c: Self::Cond);
    /// Some status flags are about to be set by themselves; `keep`: others that are here already may be read later.
    fn set_single_flags(&mut self, keep: bool);
    /// Keeps the status flags as what they come from.
    fn set_origin(&mut self, origin: Origin<Self>);
    /// The status flags are to be where a fault shows them, single ones included.
    fn publish_flags(&mut self) {}
    /// Whether flags that have an origin are to be set singly as well; `at_end`: behind the last instruction of a block.
    fn wants_single_flags(&self, _at_end: bool) -> bool {
        false
    }
    /// The byte whose even parity is PF.
    fn parity(&mut self) -> Self::Val;
    fn set_parity(&mut self, byte: Self::Val);
    /// The low `bits` bits of a vector register.
    fn vec(&mut self, reg: usize, bits: u32) -> Self::Vec;
    fn set_vec(&mut self, reg: usize, bits: u32, v: Self::Vec, upper: Upper);
    /// Clears a vector register's bits from `bits` (128 or more) on.
    fn clear_vec_from(&mut self, reg: usize, bits: u32) {
        let low = self.vec(reg, bits);
        self.set_vec(reg, bits, low, Upper::Zero);
    }
    /// A mask register, all its 64 bits.
    fn mask_register(&mut self, reg: usize) -> Self::Val;
    fn set_mask_register(&mut self, reg: usize, v: Self::Val);
    /// Any other field of the CPU state, by byte offset (segment bases, x87 state, …).
    /// Not for general-purpose and vector registers or flags: those may be held elsewhere.
    fn state_load(&mut self, ty: Ty, offset: usize) -> Self::Val;
    fn state_store(&mut self, ty: Ty, offset: usize, v: Self::Val);

    // ---- scalars -----------------------------------------------------------------------------------

    fn iconst(&mut self, ty: Ty, bits: u64) -> Self::Val;
    /// The bits of a value that is a constant, where the code is made.
    fn constant(&self, _v: Self::Val) -> Option<u64> {
        None
    }
    fn bin(&mut self, op: Bin, ty: Ty, a: Self::Val, b: Self::Val) -> Self::Val;
    fn un(&mut self, op: Un, ty: Ty, a: Self::Val) -> Self::Val;
    /// Full product as (low, high).
    fn mul_wide(&mut self, signed: bool, ty: Ty, a: Self::Val, b: Self::Val) -> (Self::Val, Self::Val);
    fn zext(&mut self, from: Ty, to: Ty, v: Self::Val) -> Self::Val;
    fn sext(&mut self, from: Ty, to: Ty, v: Self::Val) -> Self::Val;
    fn trunc(&mut self, from: Ty, to: Ty, v: Self::Val) -> Self::Val;
    fn cmp(&mut self, pred: Pred, ty: Ty, a: Self::Val, b: Self::Val) -> Self::Cond;
    fn bconst(&mut self, b: bool) -> Self::Cond;
    fn cond_op(&mut self, op: CondOp, a: Self::Cond, b: Self::Cond) -> Self::Cond;
    fn cond_not(&mut self, c: Self::Cond) -> Self::Cond;
    /// 1 or 0.
    fn cond_to_int(&mut self, ty: Ty, c: Self::Cond) -> Self::Val;
    fn select(&mut self, ty: Ty, c: Self::Cond, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `base + index * scale + displacement`, 64-bit. Kept apart from [`Bin::Add`] so that optimising
    /// emitters can keep addresses as pointers into what the base register points at.
    fn address(&mut self, base: Option<Self::Val>, index: Option<(Self::Val, u32)>, disp: i64) -> Self::Val {
        let mut sum = self.iconst(Ty::I64, disp as u64);
        if let Some((index, scale)) = index {
            let shift = self.iconst(Ty::I64, u64::from(scale.trailing_zeros()));
            let scaled = self.bin(Bin::Shl, Ty::I64, index, shift);
            sum = self.bin(Bin::Add, Ty::I64, scaled, sum);
        }
        match base {
            Some(base) => self.bin(Bin::Add, Ty::I64, base, sum),
            None => sum,
        }
    }

    // ---- control inside one instruction ------------------------------------------------------------

    /// Runs one of two branches, each giving `N` values of the types `tys`; `ctx` is handed to the branch taken.
    /// Guest registers and flags may be written inside.
    fn if_else<C: Host<Self>, const N: usize>(
        ctx: &mut C,
        cond: Self::Cond,
        tys: [Ty; N],
        then: impl FnOnce(&mut C) -> [Self::Val; N],
        otherwise: impl FnOnce(&mut C) -> [Self::Val; N],
    ) -> [Self::Val; N];
    /// Raises the exception, with the state as it was before this instruction, if the condition holds (it is unlikely).
    fn trap_if(&mut self, cond: Self::Cond, trap: Trap);
    /// Leaves to the runtime with the state as it is now and `rip` at `resume`, if the condition holds (it is unlikely).
    fn exit_if(&mut self, cond: Self::Cond, reason: ExitReason, resume: u64);

    /// CRC32: an I32 carried on by a value of type `from`. To be overridden where the host has an instruction for it.
    fn crc32c(&mut self, from: Ty, acc: Self::Val, data: Self::Val) -> Self::Val {
        crc32c_by_helper(self, from, acc, data)
    }

    // ---- memory ------------------------------------------------------------------------------------

    fn load(&mut self, ty: Ty, addr: Self::Val) -> Self::Val;
    fn store(&mut self, ty: Ty, addr: Self::Val, v: Self::Val);
    /// A vector of `bits` bits (64, 128, 256, 512), at any alignment.
    fn vload(&mut self, bits: u32, addr: Self::Val) -> Self::Vec;
    fn vstore(&mut self, bits: u32, addr: Self::Val, v: Self::Vec);
    /// Whether a store of so many bits, 128 or more, may have been done in part when it faults, and somebody may see that. On
    /// x86-64 one of 128 bits is all or nothing; elsewhere not even that.
    fn splits_stores(&self, bits: u32) -> bool {
        bits > 128 || !cfg!(target_arch = "x86_64")
    }
    /// Sequentially consistent read-modify-write at any alignment; gives the old value.
    fn atomic_rmw(&mut self, op: Rmw, ty: Ty, addr: Self::Val, v: Self::Val) -> Self::Val;
    /// Sequentially consistent compare-and-exchange at any alignment; gives the old value.
    fn cmpxchg(&mut self, ty: Ty, addr: Self::Val, expected: Self::Val, new: Self::Val) -> Self::Val;
    /// The same on 16 bytes, 16-byte aligned, as [low, high].
    fn cmpxchg16(&mut self, addr: Self::Val, expected: [Self::Val; 2], new: [Self::Val; 2]) -> [Self::Val; 2];
    /// MFENCE.
    fn fence(&mut self);

    // ---- vectors -----------------------------------------------------------------------------------

    /// A constant from its little-endian bytes; `bytes.len() * 8` is its width.
    fn vconst(&mut self, bytes: &[u8]) -> Self::Vec;
    fn vbin(&mut self, op: VBin, ty: VTy, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// Every lane by the same 64-bit count, of any size.
    fn vshift(&mut self, op: VShift, ty: VTy, a: Self::Vec, count: Self::Val) -> Self::Vec;
    /// Lane `i` of the result is lane `indices[i]` of `a` followed by `b`.
    fn shuffle(&mut self, ty: VTy, a: Self::Vec, b: Self::Vec, indices: &[u8]) -> Self::Vec;
    fn splat(&mut self, ty: VTy, v: Self::Val) -> Self::Vec;
    fn extract(&mut self, ty: VTy, v: Self::Vec, lane: u32) -> Self::Val;
    fn insert(&mut self, ty: VTy, v: Self::Vec, lane: u32, x: Self::Val) -> Self::Vec;
    /// The lanes' sign bits, lane 0 in bit 0, as an I64.
    fn movmask(&mut self, ty: VTy, v: Self::Vec) -> Self::Val;
    /// PSHUFB: byte `n` of each 128 bits of the result is the byte of the same 128 bits of `table` that the low
    /// four bits of `index`'s byte `n` name, or zero if its bit 7 is set. To be overridden where there is better.
    fn byte_shuffle(&mut self, bits: u32, table: Self::Vec, index: Self::Vec) -> Self::Vec {
        byte_shuffle_by_bytes(self, bits, table, index)
    }
    /// Narrows the lanes of `a` (low half of each 128 bits of the result) and `b` with saturation; lanes of `from` are
    /// read as signed. PACKSSWB, PACKUSWB, PACKSSDW, PACKUSDW.
    fn pack(&mut self, from: VTy, to_signed: bool, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// PMULUDQ (unsigned) or PMULDQ (signed): products of the even 32-bit lanes as 64-bit lanes.
    fn mul_even(&mut self, signed: bool, bits: u32, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// PMADDWD: products of signed 16-bit lanes, adjacent ones added, as 32-bit lanes.
    fn madd_i16(&mut self, bits: u32, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// PSADBW: sums of absolute differences of each eight bytes, in 64-bit lanes.
    fn sad_u8(&mut self, bits: u32, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// PCMPISTRI and PCMPISTRM with this control byte, where the host has an instruction for it; otherwise it is put
    /// together of other operations.
    fn compare_strings(&mut self, _control: u8, _a: Self::Vec, _b: Self::Vec) -> Option<Compared<Self>> {
        None
    }
    /// Lanewise floating-point operation; every lane by the rules of [`Emitter::fbin`].
    fn vfbin(&mut self, op: FBin, ty: VTy, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    fn vfsqrt(&mut self, ty: VTy, a: Self::Vec) -> Self::Vec;
    /// Every lane by the rules of [`Emitter::fma`].
    fn vfma(&mut self, op: Fma, ty: VTy, operands: [Self::Vec; 3]) -> Self::Vec {
        vfma_by_helper(self, op, ty, operands)
    }
    /// CMPPS; every lane by the rules of [`Emitter::fmask`].
    fn vfcmp(&mut self, pred: FPred, ty: VTy, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// The same as a mask. To be overridden where the host has an instruction for it.
    fn vfcompare(&mut self, pred: FPred, ty: VTy, a: Self::Vec, b: Self::Vec) -> Self::Mask {
        let r = self.vfcmp(pred, ty, a, b);
        let bits = self.movmask(ty, r);
        self.mask_of_bits(ty.lanes(), bits)
    }
    /// The first `lanes` elements of a vector of so many bits as other ones, zeros above them; the result has 128 bits or more.
    /// To be overridden where the host has instructions for it.
    fn vconvert(&mut self, c: Conversion, lanes: u32, (bits, v): (u32, Self::Vec)) -> Self::Vec {
        convert_by_lanes(self, c, lanes, (bits, v))
    }
    /// Every lane by the rules of [`Emitter::fround`]. To be overridden where the host has an instruction for it.
    fn vfround(&mut self, mode: Rounding, inexact: bool, ty: VTy, v: Self::Vec) -> Self::Vec {
        round_by_lanes(self, mode, inexact, ty, v)
    }

    // ---- masks -------------------------------------------------------------------------------------

    /// Lane `n` is set where bit `n` of an I64 is.
    fn mask_of_bits(&mut self, lanes: u32, bits: Self::Val) -> Self::Mask;
    /// The opposite; the bits above are zero.
    fn mask_bits(&mut self, lanes: u32, m: Self::Mask) -> Self::Val;
    /// The lanes of `a` where the mask is set, those of `b` elsewhere.
    fn vselect(&mut self, ty: VTy, m: Self::Mask, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// Compares integer lanes.
    fn vcompare(&mut self, pred: Pred, ty: VTy, a: Self::Vec, b: Self::Vec) -> Self::Mask;

    /// The lanes that the mask names, zero in the others; nothing else is accessed. The result has 128 bits or more.
    fn load_masked(&mut self, ty: VTy, m: Self::Mask, addr: Self::Val) -> Self::Vec {
        load_masked_by_helper(self, ty, m, addr)
    }
    /// Stores the lanes that the mask names, all or none; nothing else is accessed. The vector has 128 bits or more.
    fn store_masked(&mut self, ty: VTy, m: Self::Mask, addr: Self::Val, v: Self::Vec) {
        store_masked_by_helper(self, ty, m, addr, v);
    }

    // ---- operations on whole vectors -----------------------------------------------------------------

    /// The low 128 bits or more of a vector as one of `bits` bits, zeros above if it has fewer.
    fn resize(&mut self, v: Self::Vec, from: u32, bits: u32) -> Self::Vec;
    /// One of the places for helpers' operands and results ([`xlate_abi::state::CpuState::scratch`]); `bits` is 128, 256 or 512.
    fn set_scratch(&mut self, place: usize, bits: u32, v: Self::Vec);
    fn scratch(&mut self, place: usize, bits: u32) -> Self::Vec;
    /// An operation that has a body in Rust ([`crate::wide`]), which all engines may call. Operands are 128 bits or more wide,
    /// and so is the result, by [`Wide::result_bits`]. To be overridden where there is better.
    fn wide(&mut self, op: Wide, ty: VTy, operands: &[(u32, Self::Vec)], immediate: u8) -> Self::Vec {
        wide_by_helper(self, op, ty, operands, immediate);
        self.scratch(0, op.result_bits(ty))
    }
    /// The same for an operation that gives bits, as an I64.
    fn wide_bits(&mut self, op: Wide, ty: VTy, operands: &[(u32, Self::Vec)], immediate: u8) -> Self::Val {
        wide_by_helper(self, op, ty, operands, immediate)
    }

    // ---- scalar floating point ---------------------------------------------------------------------

    fn fbin(&mut self, op: FBin, ty: Fty, a: Self::Val, b: Self::Val) -> Self::Val;
    fn fsqrt(&mut self, ty: Fty, a: Self::Val) -> Self::Val;
    /// The first operand times the second, plus the third, rounded once. Of several NaNs the first comes through, with its own
    /// sign. To be overridden where the host has an instruction for it.
    fn fma(&mut self, op: Fma, ty: Fty, operands: [Self::Val; 3]) -> Self::Val {
        fma_by_helper(self, op, ty, operands)
    }
    /// COMISS, which raises the invalid flag for any NaN, or UCOMISS, which does so for signalling ones only.
    /// `read` is what a later instruction probably reads.
    fn fcompare(&mut self, signals: bool, read: Read, ty: Fty, a: Self::Val, b: Self::Val) -> Compare<Self::Cond>;
    /// CMPSS: all ones if the comparison holds, else zero.
    fn fmask(&mut self, pred: FPred, ty: Fty, a: Self::Val, b: Self::Val) -> Self::Val;
    /// Rounds to an integral value; NaNs are quieted. `inexact`: raises the inexact flag.
    fn fround(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: Self::Val) -> Self::Val;
    /// Signed integer to float, rounded by MXCSR.
    fn int_to_float(&mut self, from: Ty, to: Fty, v: Self::Val) -> Self::Val;
    /// Float to signed integer (I32 or I64); the integer indefinite (only the sign bit set) for NaN and overflow.
    fn float_to_int(&mut self, round: Round, from: Fty, to: Ty, v: Self::Val) -> Self::Val;
    /// Between the float formats, rounded by MXCSR; signalling NaNs are quieted.
    fn float_to_float(&mut self, from: Fty, to: Fty, v: Self::Val) -> Self::Val;

    /// What the instruction does from here on comes after the exceptions of what it has done so far: one of them that isn't
    /// masked ends it. Only tier 0 runs where one isn't.
    fn raise_exceptions(&mut self) {}
    /// The exceptions of what the instruction has done so far are never raised, only their flags are.
    fn keep_exceptions(&mut self) {}

    // ---- helpers -----------------------------------------------------------------------------------

    /// The helper that is called next reads or writes a vector register in the state: for whoever asks what an instruction does.
    fn helper_uses_vector(&mut self, _reg: usize, _bits: u32, _writes: bool) {}
    /// Calls a function of the runtime with up to five I64 arguments; the result is an I64.
    /// For helpers that aren't pure, guest registers are in the CPU state around the call and `rip` is this instruction's.
    fn call_helper(&mut self, helper: Helper, args: &[Self::Val]) -> Self::Val;

    // ---- the end of a block ------------------------------------------------------------------------

    /// Goes on at a known address.
    fn jump(&mut self, target: u64);
    fn branch(&mut self, cond: Self::Cond, taken: u64, otherwise: u64);
    fn jump_indirect(&mut self, target: Self::Val, kind: Indirect);
    /// Calls a known address; the return address has been pushed already.
    fn call(&mut self, target: u64, return_to: u64);
    /// Leaves to the runtime with `rip` at `resume`; `arg` goes to `exit_arg` (a [`Trap`] number for traps).
    fn leave(&mut self, reason: ExitReason, arg: u32, resume: u64);
    /// Leaves to the runtime with `rip` at `resume` if something waits there; otherwise code goes on right here. What the
    /// guest has stored to memory before is there then.
    fn leave_if_pending(&mut self, resume: u64);
}

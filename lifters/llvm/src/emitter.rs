//! The LLVM emitter: each operation of [`Emitter`] as IR. Registers are in [`crate::state`], edges in
//! [`crate::exits`], memory in [`crate::memory`], vectors and floats in modules of their own.

use std::collections::HashMap;

use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{
    BasicValue, InstructionOpcode, InstructionValue, IntValue, MetadataValue, PointerValue, VectorValue,
};
use xlate_abi::protocol::{Arch, CodeOptions};
use xlate_abi::state::{ExitReason, Helper, Trap};
use xlate_x86::Emitter;
use xlate_x86::decode::Flags;
use xlate_x86::emitter::*;
use xlate_x86::lifter::STATUS;
use xlate_x86::wide::Wide;
use xlate_x86::wide::float::Conversion;

use crate::exits::{Dispatch, Shared, Site};
use crate::ir::{Ir, Likely};
use crate::state::{Registers, Slots};
use crate::stretch::Unmended;
use crate::{Call, Frames, Places};

/// A scalar, and the pointer it is where it came to be as one.
#[derive(Clone, Copy, Debug)]
pub struct Val<'c> {
    pub int: IntValue<'c>,
    pub ptr: Option<PointerValue<'c>>,
}

impl<'c> From<IntValue<'c>> for Val<'c> {
    fn from(int: IntValue<'c>) -> Self {
        Self { int, ptr: None }
    }
}

/// Section of the object file with the map from code to guest addresses.
pub const PC_SECTION: &str = "xlate_pc";
/// The kind of metadata that has LLVM list it. Guest accesses of imprecise code have it, and nothing else.
pub const PC_METADATA: &str = "pcsections";

/// Metadata of memory accesses.
///
/// Alias scopes: the CPU state and the guest's memory never overlap.
pub struct Scopes<'c> {
    state: MetadataValue<'c>,
    guest: MetadataValue<'c>,
    scope_kind: u32,
    noalias_kind: u32,
    pc_kind: u32,
    pc_section: MetadataValue<'c>,
}

impl<'c> Scopes<'c> {
    pub fn new(cx: &'c inkwell::context::Context) -> Self {
        let domain = cx.metadata_node(&[cx.metadata_string("xlate").into()]);
        let list = |name| {
            let scope = cx.metadata_node(&[cx.metadata_string(name).into(), domain.into()]);
            cx.metadata_node(&[scope.into()])
        };
        Self {
            state: list("state"),
            guest: list("guest"),
            scope_kind: cx.get_kind_id("alias.scope"),
            noalias_kind: cx.get_kind_id("noalias"),
            pc_kind: cx.get_kind_id(PC_METADATA),
            pc_section: cx.metadata_string(PC_SECTION),
        }
    }

    pub fn mark_state(&self, ir: &Ir<'c>, access: InstructionValue<'c>) {
        ir.set_metadata(access, self.scope_kind, self.state);
        ir.set_metadata(access, self.noalias_kind, self.guest);
    }

    /// Has the access's place and this guest address listed in the object file's [`PC_SECTION`].
    pub fn mark_pc(&self, ir: &Ir<'c>, access: InstructionValue<'c>, pc: u64) {
        // In two halves: LLVM's C interface takes a node of one constant for the constant itself.
        let half = |v: u64| ir.int(Ty::I32, v & 0xffff_ffff).into();
        let pc = ir.cx.metadata_node(&[half(pc), half(pc >> 32)]);
        let node = ir.cx.metadata_node(&[self.pc_section.into(), pc.into()]);
        ir.set_metadata(access, self.pc_kind, node);
    }

    pub fn mark_guest(&self, ir: &Ir<'c>, access: InstructionValue<'c>) {
        ir.set_metadata(access, self.scope_kind, self.guest);
        ir.set_metadata(access, self.noalias_kind, self.state);
    }
}

/// The emitter for one region.
pub struct Llvm<'c> {
    pub ir: Ir<'c>,
    pub arch: Arch,
    /// The target's features, as in [`xlate_abi::protocol::Target`].
    pub features: String,
    pub options: CodeOptions,
    /// The guest's stores may change the region's instructions.
    pub mutable: bool,
    /// Some of them round by modes of their own.
    pub static_rounding: bool,
    pub scopes: Scopes<'c>,
    /// The CPU state's address.
    pub state: PointerValue<'c>,
    /// The array of link slots in the blob's data.
    pub slots_global: PointerValue<'c>,
    pub slots: Slots<'c>,
    /// Makes the slots and fills them; the function's first block.
    pub prologue: BasicBlock<'c>,
    /// Guest blocks by where they stand, and the first block of each.
    pub places: Places,
    pub starts: Vec<BasicBlock<'c>>,
    /// Flags that may be read from each guest block's start on.
    pub live_at: Vec<Flags>,
    /// Each guest block's count in the profile.
    pub counts: Vec<u64>,
    /// Where indirect jumps and calls probably lead, by their block.
    pub indirect: HashMap<u64, Vec<u64>>,
    /// The calls that are followed.
    pub frames: Frames,
    /// Guest addresses of the link slots.
    pub link_slots: Vec<u64>,
    pub sites: Vec<Site<'c>>,
    pub shared_blocks: HashMap<Shared, (PointerValue<'c>, BasicBlock<'c>)>,
    /// The safepoints before guest blocks, by the block's index.
    pub polls: HashMap<usize, BasicBlock<'c>>,
    pub landings: HashMap<Call, BasicBlock<'c>>,
    /// Edges between guest blocks by index.
    pub edges: Vec<(usize, usize)>,
    /// What each finished block has written.
    pub block_written: Vec<Registers>,
    /// Status flags that each block reads of its slots, and those that it leaves as they were.
    pub consumed: Vec<Flags>,
    pub passed_on: Vec<Flags>,
    /// Those that are read from each block's entry on, once all blocks are lifted.
    pub read_from: Vec<Flags>,

    // The guest block at hand.
    pub index: usize,
    pub frame: usize,
    pub block_pc: u64,
    /// Its last instruction changes MXCSR.
    pub changes_mode: bool,
    pub written: Registers,
    /// What may be read behind it.
    pub needed_behind: Registers,
    pub live_behind: Flags,
    /// No block of the region follows without a load of its registers.
    pub leaves_frame: bool,
    /// Status flags were set singly since what they come from was written last, and which may be read later.
    pub singly: bool,
    pub single: Flags,
    /// How the indirect jump at its end finds its way.
    pub dispatch: Dispatch<'c>,
    /// Set while a stretch is lifted without mending NaNs.
    pub unmended: Option<Unmended<'c>>,
    pub ip: u64,
    pub ended: bool,
}

impl<'c> Llvm<'c> {
    /// Whether the target has a feature of LLVM's name.
    pub fn has(&self, feature: &str) -> bool {
        self.features.split(',').any(|f| f.strip_prefix('+') == Some(feature))
    }

    /// The width of the host's vector registers.
    pub fn register_bits(&self) -> u32 {
        match self.arch {
            Arch::X86_64 if self.has("avx512f") => 512,
            Arch::X86_64 if self.has("avx") => 256,
            _ => 128,
        }
    }

    pub fn as_pointer(&self, v: Val<'c>) -> PointerValue<'c> {
        v.ptr.unwrap_or_else(|| self.ir.int_to_ptr(v.int))
    }

    pub fn vec_bits(&self, v: VectorValue<'c>) -> u32 {
        let ty = v.get_type();
        let lane = match ty.get_element_type() {
            inkwell::types::BasicTypeEnum::IntType(t) => t.get_bit_width(),
            inkwell::types::BasicTypeEnum::FloatType(t) => t.get_bit_width(),
            other => unreachable!("no vector has lanes of {other:?}"),
        };
        ty.get_size() * lane
    }

    /// The pointer that an addition or subtraction gives, where one operand is one.
    fn moved_pointer(&self, op: Bin, a: Val<'c>, b: Val<'c>) -> Option<PointerValue<'c>> {
        match (op, a.ptr, b.ptr) {
            (Bin::Add, Some(p), _) => Some(self.ir.gep(p, b.int)),
            (Bin::Add, None, Some(p)) => Some(self.ir.gep(p, a.int)),
            (Bin::Sub, Some(p), _) if b.int.is_constant_int() => Some(self.ir.gep(p, b.int.const_neg())),
            _ => None,
        }
    }

    fn rotate(&self, name: &str, ty: Ty, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let overload = self.ir.int_type(ty).into();
        self.ir
            .intrinsic(name, &[overload], &[a.into(), a.into(), b.into()])
            .expect("a rotate gives a value")
            .into_int_value()
    }

    fn count(&self, name: &str, ty: Ty, a: IntValue<'c>, zero_is_poison: Option<bool>) -> Val<'c> {
        let overload = self.ir.int_type(ty).into();
        let mut args: Vec<inkwell::values::BasicMetadataValueEnum> = vec![a.into()];
        if let Some(poison) = zero_is_poison {
            args.push(self.ir.bool(poison).into());
        }
        self.ir.intrinsic(name, &[overload], &args).expect("a count gives a value").into_int_value().into()
    }
}

fn predicate(p: Pred) -> IntPredicate {
    match p {
        Pred::Eq => IntPredicate::EQ,
        Pred::Ne => IntPredicate::NE,
        Pred::Ult => IntPredicate::ULT,
        Pred::Ule => IntPredicate::ULE,
        Pred::Ugt => IntPredicate::UGT,
        Pred::Uge => IntPredicate::UGE,
        Pred::Slt => IntPredicate::SLT,
        Pred::Sle => IntPredicate::SLE,
        Pred::Sgt => IntPredicate::SGT,
        Pred::Sge => IntPredicate::SGE,
    }
}

fn opcode(op: Bin) -> InstructionOpcode {
    match op {
        Bin::Add => InstructionOpcode::Add,
        Bin::Sub => InstructionOpcode::Sub,
        Bin::Mul => InstructionOpcode::Mul,
        Bin::And => InstructionOpcode::And,
        Bin::Or => InstructionOpcode::Or,
        Bin::Xor => InstructionOpcode::Xor,
        Bin::Shl => InstructionOpcode::Shl,
        Bin::Lshr => InstructionOpcode::LShr,
        Bin::Ashr => InstructionOpcode::AShr,
        Bin::Udiv => InstructionOpcode::UDiv,
        Bin::Urem => InstructionOpcode::URem,
        Bin::Sdiv => InstructionOpcode::SDiv,
        Bin::Srem => InstructionOpcode::SRem,
        Bin::RotL | Bin::RotR => unreachable!("rotates are intrinsics"),
    }
}

impl<'c> Emitter for Llvm<'c> {
    type Val = Val<'c>;
    type Cond = IntValue<'c>;
    type Vec = VectorValue<'c>;
    /// Lanes of one bit.
    type Mask = VectorValue<'c>;

    // ---- guest state -------------------------------------------------------------------------------

    fn begin_instruction(&mut self, ip: u64, _next: u64) {
        self.ip = ip;
        self.look_for_table_index();
    }

    fn gpr(&mut self, reg: usize) -> Val<'c> {
        self.read_gpr(reg)
    }

    fn set_gpr(&mut self, reg: usize, v: Val<'c>) {
        self.write_gpr(reg, v);
    }

    fn flag(&mut self, flag: Flag) -> IntValue<'c> {
        self.read_flag(flag)
    }

    fn set_flag(&mut self, flag: Flag, c: IntValue<'c>) {
        self.write_flag(flag, c);
    }

    fn set_single_flags(&mut self, keep: bool) {
        if keep {
            self.single = STATUS;
        } else if !self.singly {
            self.single = 0;
        }
    }

    fn set_origin(&mut self, origin: Origin<Self>) {
        let mut word = self.ir.int(Ty::I32, origin.word.into());
        if let Some((c, place)) = origin.bit {
            let bit = self.ir.op(InstructionOpcode::Shl, self.ir.zext(c, Ty::I32), self.ir.int(Ty::I32, place.into()));
            word = self.ir.op(InstructionOpcode::Or, word, bit);
        }
        let wide = |e: &Self, v: Val<'c>| if origin.ty == Ty::I64 { v.int } else { e.ir.zext(v.int, Ty::I64) };
        let (x, y) = (wide(self, origin.x), origin.y.map(|y| wide(self, y)));
        self.write_origin(word, x, y);
    }

    fn publish_flags(&mut self) {
        if self.options.precise {
            self.settle_single_flags(STATUS);
        }
    }

    fn wants_single_flags(&self, at_end: bool) -> bool {
        !at_end || !self.leaves_frame
    }

    fn parity(&mut self) -> Val<'c> {
        self.read_parity().into()
    }

    fn set_parity(&mut self, byte: Val<'c>) {
        self.write_parity(byte.int);
    }

    fn vec(&mut self, reg: usize, bits: u32) -> VectorValue<'c> {
        self.read_vec(reg, bits)
    }

    fn set_vec(&mut self, reg: usize, bits: u32, v: VectorValue<'c>, upper: Upper) {
        debug_assert_eq!(bits, self.vec_bits(v));
        self.write_vec(reg, v, upper);
    }

    fn clear_vec_from(&mut self, reg: usize, bits: u32) {
        self.clear_from(reg, bits);
    }

    fn mask_register(&mut self, reg: usize) -> Val<'c> {
        self.read_mask(reg).into()
    }

    fn set_mask_register(&mut self, reg: usize, v: Val<'c>) {
        self.write_mask(reg, v.int);
    }

    fn state_load(&mut self, ty: Ty, offset: usize) -> Val<'c> {
        self.state_read(self.ir.int_type(ty), offset).into_int_value().into()
    }

    fn state_store(&mut self, _ty: Ty, offset: usize, v: Val<'c>) {
        self.state_write(offset, v.int);
    }

    // ---- scalars -----------------------------------------------------------------------------------

    fn iconst(&mut self, ty: Ty, bits: u64) -> Val<'c> {
        self.ir.int(ty, bits).into()
    }

    fn constant(&self, v: Val<'c>) -> Option<u64> {
        v.int.get_zero_extended_constant()
    }

    fn bin(&mut self, op: Bin, ty: Ty, a: Val<'c>, b: Val<'c>) -> Val<'c> {
        let int = match op {
            Bin::RotL => self.rotate("llvm.fshl", ty, a.int, b.int),
            Bin::RotR => self.rotate("llvm.fshr", ty, a.int, b.int),
            _ => self.ir.op(opcode(op), a.int, b.int),
        };
        Val { int, ptr: self.moved_pointer(op, a, b) }
    }

    fn un(&mut self, op: Un, ty: Ty, a: Val<'c>) -> Val<'c> {
        let ones = self.ir.int(ty, u64::MAX);
        let zero = self.ir.int(ty, 0);
        match op {
            Un::Not => self.ir.op(InstructionOpcode::Xor, a.int, ones).into(),
            Un::Neg => self.ir.op(InstructionOpcode::Sub, zero, a.int).into(),
            Un::Bswap => self.count("llvm.bswap", ty, a.int, None),
            Un::Clz => self.count("llvm.ctlz", ty, a.int, Some(false)),
            Un::Ctz => self.count("llvm.cttz", ty, a.int, Some(false)),
            Un::Popcnt => self.count("llvm.ctpop", ty, a.int, None),
        }
    }

    fn mul_wide(&mut self, signed: bool, ty: Ty, a: Val<'c>, b: Val<'c>) -> (Val<'c>, Val<'c>) {
        let wide =
            self.ir.cx.custom_width_int_type(std::num::NonZeroU32::new(ty.bits() * 2).expect("widths are positive"));
        let wide = wide.expect("LLVM has integers of this width");
        let extend = if signed { InstructionOpcode::SExt } else { InstructionOpcode::ZExt };
        let a = self.ir.cast(extend, a.int, wide).into_int_value();
        let b = self.ir.cast(extend, b.int, wide).into_int_value();
        let product = self.ir.op(InstructionOpcode::Mul, a, b);
        let count = wide.const_int(u64::from(ty.bits()), false);
        let high = self.ir.op(InstructionOpcode::LShr, product, count);
        (self.ir.trunc(product, ty).into(), self.ir.trunc(high, ty).into())
    }

    fn zext(&mut self, _from: Ty, to: Ty, v: Val<'c>) -> Val<'c> {
        self.ir.zext(v.int, to).into()
    }

    fn sext(&mut self, _from: Ty, to: Ty, v: Val<'c>) -> Val<'c> {
        self.ir.sext(v.int, to).into()
    }

    fn trunc(&mut self, _from: Ty, to: Ty, v: Val<'c>) -> Val<'c> {
        self.ir.trunc(v.int, to).into()
    }

    fn cmp(&mut self, pred: Pred, _ty: Ty, a: Val<'c>, b: Val<'c>) -> IntValue<'c> {
        self.ir.icmp(predicate(pred), a.int, b.int)
    }

    fn bconst(&mut self, b: bool) -> IntValue<'c> {
        self.ir.bool(b)
    }

    fn cond_op(&mut self, op: CondOp, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let op = match op {
            CondOp::And => InstructionOpcode::And,
            CondOp::Or => InstructionOpcode::Or,
            CondOp::Xor => InstructionOpcode::Xor,
        };
        self.ir.op(op, a, b)
    }

    fn cond_not(&mut self, c: IntValue<'c>) -> IntValue<'c> {
        self.ir.op(InstructionOpcode::Xor, c, self.ir.bool(true))
    }

    fn cond_to_int(&mut self, ty: Ty, c: IntValue<'c>) -> Val<'c> {
        self.ir.zext(c, ty).into()
    }

    fn select(&mut self, _ty: Ty, c: IntValue<'c>, a: Val<'c>, b: Val<'c>) -> Val<'c> {
        self.ir.select(c, a.int, b.int).into()
    }

    fn address(&mut self, base: Option<Val<'c>>, index: Option<(Val<'c>, u32)>, disp: i64) -> Val<'c> {
        let disp = self.ir.i64(disp as u64);
        let mut offset = disp;
        let scaled = index.map(|(index, scale)| {
            let shift = self.ir.i64(u64::from(scale.trailing_zeros()));
            self.ir.op(InstructionOpcode::Shl, index.int, shift)
        });
        if let Some(scaled) = scaled {
            offset = self.ir.op(InstructionOpcode::Add, scaled, disp);
        }
        let Some(base) = base else {
            // An absolute table: its start is the pointer.
            let ptr = scaled.map(|scaled| self.ir.gep(self.ir.int_to_ptr(disp), scaled));
            return Val { int: offset, ptr };
        };
        let ptr = base.ptr.map(|p| {
            let p = scaled.map_or(p, |scaled| self.ir.gep(p, scaled));
            if disp.is_null() { p } else { self.ir.gep(p, disp) }
        });
        Val { int: self.ir.op(InstructionOpcode::Add, base.int, offset), ptr }
    }

    // ---- control inside one instruction ------------------------------------------------------------

    fn if_else<C: Host<Self>, const N: usize>(
        ctx: &mut C,
        cond: IntValue<'c>,
        _tys: [Ty; N],
        then: impl FnOnce(&mut C) -> [Val<'c>; N],
        otherwise: impl FnOnce(&mut C) -> [Val<'c>; N],
    ) -> [Val<'c>; N] {
        // What the flags come from is known by then on both sides, or on none.
        ctx.emitter().settle_single_flags(STATUS);
        let ir = &ctx.emitter().ir;
        let (yes, no, join) = (ir.block("then"), ir.block("else"), ir.block("join"));
        ir.cond_br(cond, yes, no, Likely::Unknown);
        ir.at_end(yes);
        let from_yes = then(ctx);
        ctx.emitter().settle_single_flags(STATUS);
        let ir = &ctx.emitter().ir;
        let yes_end = ir.here();
        ir.br(join);
        ir.at_end(no);
        let from_no = otherwise(ctx);
        ctx.emitter().settle_single_flags(STATUS);
        let ir = &ctx.emitter().ir;
        let no_end = ir.here();
        ir.br(join);
        ir.at_end(join);
        std::array::from_fn(|n| {
            let (a, b) = (from_yes[n].int, from_no[n].int);
            let phi = ir.b.build_phi(a.get_type(), "").expect("positioned");
            phi.add_incoming(&[(&a, yes_end), (&b, no_end)]);
            phi.as_basic_value().into_int_value().into()
        })
    }

    fn trap_if(&mut self, cond: IntValue<'c>, trap: Trap) {
        self.leave_if(cond, ExitReason::Trap, trap as u32, self.ip);
    }

    fn exit_if(&mut self, cond: IntValue<'c>, reason: ExitReason, resume: u64) {
        self.leave_if(cond, reason, 0, resume);
    }

    fn crc32c(&mut self, from: Ty, acc: Val<'c>, data: Val<'c>) -> Val<'c> {
        match self.arch {
            Arch::X86_64 if self.has("crc32") => self.x86_crc32c(from, acc.int, data.int).into(),
            Arch::Aarch64 if self.has("crc") => self.arm_crc32c(from, acc.int, data.int).into(),
            _ => crc32c_by_helper(self, from, acc, data),
        }
    }

    // ---- memory ------------------------------------------------------------------------------------

    fn load(&mut self, ty: Ty, addr: Val<'c>) -> Val<'c> {
        self.guest_load(ty, addr).into()
    }

    fn store(&mut self, ty: Ty, addr: Val<'c>, v: Val<'c>) {
        self.guest_store(ty, addr, v.int);
    }

    fn vload(&mut self, bits: u32, addr: Val<'c>) -> VectorValue<'c> {
        self.guest_vload(bits, addr)
    }

    fn vstore(&mut self, bits: u32, addr: Val<'c>, v: VectorValue<'c>) {
        debug_assert_eq!(bits, self.vec_bits(v));
        self.guest_vstore(addr, v);
    }

    fn load_masked(&mut self, ty: VTy, m: VectorValue<'c>, addr: Val<'c>) -> VectorValue<'c> {
        self.guest_load_masked(ty, m, addr)
    }

    fn store_masked(&mut self, ty: VTy, m: VectorValue<'c>, addr: Val<'c>, v: VectorValue<'c>) {
        self.guest_store_masked(ty, m, addr, v);
    }

    fn splits_stores(&self, bits: u32) -> bool {
        // A store of a register's width is one, on x86-64; who dies of the fault doesn't see what the others did.
        let whole = self.arch == Arch::X86_64 && bits <= self.register_bits();
        !whole && (self.options.precise || self.options.tso)
    }

    fn atomic_rmw(&mut self, op: Rmw, ty: Ty, addr: Val<'c>, v: Val<'c>) -> Val<'c> {
        self.guest_rmw(op, ty, addr, v.int).into()
    }

    fn cmpxchg(&mut self, ty: Ty, addr: Val<'c>, expected: Val<'c>, new: Val<'c>) -> Val<'c> {
        self.guest_cmpxchg(ty, addr, expected.int, new.int).into()
    }

    fn cmpxchg16(&mut self, addr: Val<'c>, expected: [Val<'c>; 2], new: [Val<'c>; 2]) -> [Val<'c>; 2] {
        self.guest_cmpxchg16(addr, expected.map(|v| v.int), new.map(|v| v.int)).map(Val::from)
    }

    fn fence(&mut self) {
        self.full_fence();
    }

    // ---- vectors -----------------------------------------------------------------------------------

    fn vconst(&mut self, bytes: &[u8]) -> VectorValue<'c> {
        let lanes: Vec<_> = bytes.iter().map(|b| self.ir.int(Ty::I8, u64::from(*b))).collect();
        inkwell::types::VectorType::const_vector(&lanes)
    }

    fn vbin(&mut self, op: VBin, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_bin(op, ty, a, b)
    }

    fn vshift(&mut self, op: VShift, ty: VTy, a: VectorValue<'c>, count: Val<'c>) -> VectorValue<'c> {
        self.lanes_shift(op, ty, a, count.int)
    }

    fn shuffle(&mut self, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>, indices: &[u8]) -> VectorValue<'c> {
        let t = self.ir.vec_type(ty);
        let (a, b) = (self.ir.as_vec(a, t), self.ir.as_vec(b, t));
        self.ir.shuffle(a, b, indices.iter().map(|i| u32::from(*i)))
    }

    fn splat(&mut self, ty: VTy, v: Val<'c>) -> VectorValue<'c> {
        let splat = self.lanes_splat(ty, v.int);
        self.opaque_part(splat, v.int)
    }

    fn extract(&mut self, ty: VTy, v: VectorValue<'c>, lane: u32) -> Val<'c> {
        let v = self.ir.as_vec(v, self.ir.vec_type(ty));
        let x = self.ir.extract(v, lane);
        match ty.lane.fty() {
            Some(f) => self.ir.float_to_int_bits(x.into_float_value(), f).into(),
            None => x.into_int_value().into(),
        }
    }

    fn insert(&mut self, ty: VTy, v: VectorValue<'c>, lane: u32, x: Val<'c>) -> VectorValue<'c> {
        let v = self.ir.as_vec(v, self.ir.vec_type(ty));
        let inserted = match ty.lane.fty() {
            Some(f) => {
                let x = self.ir.int_to_float_bits(x.int, f);
                self.ir.insert(v, lane, x.as_basic_value_enum())
            }
            None => self.ir.insert(v, lane, x.int.as_basic_value_enum()),
        };
        self.opaque_part(inserted, x.int)
    }

    fn movmask(&mut self, ty: VTy, v: VectorValue<'c>) -> Val<'c> {
        self.lanes_movmask(ty, v).into()
    }

    fn byte_shuffle(&mut self, bits: u32, table: VectorValue<'c>, index: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_byte_shuffle(bits, table, index)
    }

    fn pack(&mut self, from: VTy, to_signed: bool, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_pack(from, to_signed, a, b)
    }

    fn mul_even(&mut self, signed: bool, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_mul_even(signed, bits, a, b)
    }

    fn madd_i16(&mut self, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_madd(bits, a, b)
    }

    fn sad_u8(&mut self, bits: u32, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.lanes_sad(bits, a, b)
    }

    fn compare_strings(&mut self, control: u8, a: VectorValue<'c>, b: VectorValue<'c>) -> Option<Compared<Self>> {
        (self.arch == Arch::X86_64 && self.has("sse4.2")).then(|| self.x86_compare_strings(control, a, b))
    }

    fn vfbin(&mut self, op: FBin, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.float_lanes_bin(op, ty, a, b)
    }

    fn vfsqrt(&mut self, ty: VTy, a: VectorValue<'c>) -> VectorValue<'c> {
        self.float_lanes_sqrt(ty, a)
    }

    fn vfma(&mut self, op: Fma, ty: VTy, operands: [VectorValue<'c>; 3]) -> VectorValue<'c> {
        self.float_lanes_fma(op, ty, operands)
    }

    fn vfcmp(&mut self, pred: FPred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.float_lanes_cmp(pred, ty, a, b)
    }

    fn vfcompare(&mut self, pred: FPred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        self.float_lanes_compare(pred, ty, a, b)
    }

    fn vconvert(&mut self, c: Conversion, lanes: u32, (bits, v): (u32, VectorValue<'c>)) -> VectorValue<'c> {
        self.float_lanes_convert(c, lanes, v).unwrap_or_else(|| convert_by_lanes(self, c, lanes, (bits, v)))
    }

    fn vfround(&mut self, mode: Rounding, inexact: bool, ty: VTy, v: VectorValue<'c>) -> VectorValue<'c> {
        self.float_lanes_round(mode, inexact, ty, v)
    }

    // ---- masks, and operations on whole vectors -------------------------------------------------------

    fn mask_of_bits(&mut self, lanes: u32, bits: Val<'c>) -> VectorValue<'c> {
        self.lanes_of_bits(lanes, bits.int)
    }

    fn mask_bits(&mut self, _lanes: u32, m: VectorValue<'c>) -> Val<'c> {
        self.bits_of_lanes(m).into()
    }

    fn vselect(&mut self, ty: VTy, m: VectorValue<'c>, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let t = self.ir.vec_type(ty);
        self.ir.vselect(m, self.ir.as_vec(a, t), self.ir.as_vec(b, t))
    }

    fn vcompare(&mut self, pred: Pred, ty: VTy, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let t = self.ir.int_vec_type(ty);
        self.ir.vicmp(predicate(pred), self.ir.as_vec(a, t), self.ir.as_vec(b, t))
    }

    fn resize(&mut self, v: VectorValue<'c>, _from: u32, bits: u32) -> VectorValue<'c> {
        self.resize_vec(v, bits)
    }

    fn set_scratch(&mut self, place: usize, bits: u32, v: VectorValue<'c>) {
        debug_assert_eq!(bits, self.vec_bits(v));
        self.write_scratch(place, v);
    }

    fn scratch(&mut self, place: usize, bits: u32) -> VectorValue<'c> {
        self.read_scratch(place, bits)
    }

    fn wide(&mut self, op: Wide, ty: VTy, operands: &[(u32, VectorValue<'c>)], immediate: u8) -> VectorValue<'c> {
        let vectors: Vec<_> = operands.iter().map(|(_, v)| *v).collect();
        self.wide_natively(op, ty, &vectors, immediate).unwrap_or_else(|| {
            wide_by_helper(self, op, ty, operands, immediate);
            self.scratch(0, op.result_bits(ty))
        })
    }

    fn wide_bits(&mut self, op: Wide, ty: VTy, operands: &[(u32, VectorValue<'c>)], immediate: u8) -> Val<'c> {
        let vectors: Vec<_> = operands.iter().map(|(_, v)| *v).collect();
        match self.wide_bits_natively(op, ty, &vectors, immediate) {
            Some(bits) => bits.into(),
            None => wide_by_helper(self, op, ty, operands, immediate),
        }
    }

    // ---- scalar floating point ---------------------------------------------------------------------

    fn fbin(&mut self, op: FBin, ty: Fty, a: Val<'c>, b: Val<'c>) -> Val<'c> {
        self.float_bin(op, ty, a.int, b.int).into()
    }

    fn fsqrt(&mut self, ty: Fty, a: Val<'c>) -> Val<'c> {
        self.float_sqrt(ty, a.int).into()
    }

    fn fcompare(&mut self, signals: bool, read: Read, ty: Fty, a: Val<'c>, b: Val<'c>) -> Compare<IntValue<'c>> {
        self.float_compare(signals, read, ty, a.int, b.int)
    }

    fn fma(&mut self, op: Fma, ty: Fty, operands: [Val<'c>; 3]) -> Val<'c> {
        self.float_fma(op, ty, operands.map(|v| v.int)).into()
    }

    fn fmask(&mut self, pred: FPred, ty: Fty, a: Val<'c>, b: Val<'c>) -> Val<'c> {
        self.float_mask(pred, ty, a.int, b.int).into()
    }

    fn fround(&mut self, mode: Rounding, inexact: bool, ty: Fty, v: Val<'c>) -> Val<'c> {
        self.float_round(mode, inexact, ty, v.int).into()
    }

    fn int_to_float(&mut self, from: Ty, to: Fty, v: Val<'c>) -> Val<'c> {
        self.float_from_int(from, to, v.int).into()
    }

    fn float_to_int(&mut self, round: Round, from: Fty, to: Ty, v: Val<'c>) -> Val<'c> {
        self.float_convert_to_int(round, from, to, v.int).into()
    }

    fn float_to_float(&mut self, from: Fty, to: Fty, v: Val<'c>) -> Val<'c> {
        self.float_resize(from, to, v.int).into()
    }

    // ---- helpers and the end of a block ------------------------------------------------------------

    fn call_helper(&mut self, helper: Helper, args: &[Val<'c>]) -> Val<'c> {
        self.helper(helper, args)
    }

    fn jump(&mut self, target: u64) {
        self.end_jump(target);
    }

    fn branch(&mut self, cond: IntValue<'c>, taken: u64, otherwise: u64) {
        self.end_branch(cond, taken, otherwise);
    }

    fn jump_indirect(&mut self, target: Val<'c>, kind: Indirect) {
        self.end_indirect(target, kind);
    }

    fn call(&mut self, target: u64, return_to: u64) {
        self.end_call(target, return_to);
    }

    fn leave(&mut self, reason: ExitReason, arg: u32, resume: u64) {
        self.end_leave(reason, arg, resume);
    }

    fn leave_if_pending(&mut self, resume: u64) {
        self.poll_inside(resume);
    }
}

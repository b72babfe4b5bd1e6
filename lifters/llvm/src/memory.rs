//! Guest memory accesses, ordered as the options ask.
//!
//! Total store order (`tso`): an x86-64 host has it by itself, so it is enough that LLVM keeps the accesses
//! in program order (volatile). On AArch64 (Arm ARM, B2.3) a naturally aligned load becomes `ldar`/`ldapr`, a
//! store `stlr`; at other alignments those fault, so `ld; dmb ishld` and `dmb ishst; st` serve there.

use inkwell::values::InstructionOpcode;
use inkwell::values::{BasicValue, BasicValueEnum, InstructionValue, IntValue, PointerValue, VectorValue};
use inkwell::{AtomicOrdering, AtomicRMWBinOp, IntPredicate};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Rmw, Ty};

use crate::emitter::{Llvm, Val};
use crate::ir::{Likely, quads};

/// `dmb ishld` and `dmb ishst` by their CRm field (Arm ARM, C6.2.93).
const ISHLD: u64 = 9;
const ISHST: u64 = 10;

impl<'c> Llvm<'c> {
    /// To be called in front of whatever may fault.
    pub fn fault_point(&self) {
        if self.options.precise {
            self.write_rip(self.ir.i64(self.ip));
        }
    }

    fn mark_guest(&self, i: InstructionValue<'c>) {
        let reads = i.get_opcode() == InstructionOpcode::Load;
        assert!(reads || self.unmended.is_none(), "the instruction at {:#x} can't be in a stretch", self.ip);
        self.scopes.mark_guest(&self.ir, i);
        // In precise mode `rip` is in the CPU state.
        if !self.options.precise {
            self.scopes.mark_pc(&self.ir, i, self.ip);
        }
    }

    /// Whether LLVM must keep the order of an access and of others, writes to the state, and safepoints. What a store
    /// may have changed is looked at behind it.
    fn ordered(&self, access: InstructionValue<'c>) -> bool {
        let stores = access.get_opcode() != InstructionOpcode::Load;
        self.options.precise || self.options.tso || self.mutable && stores
    }

    fn barriers(&self) -> bool {
        self.options.tso && self.arch == Arch::Aarch64
    }

    fn guest_access(&self, i: InstructionValue<'c>) {
        i.set_alignment(1).expect("one is a power of two");
        self.mark_guest(i);
        if self.ordered(i) {
            i.set_volatile(true).expect("an access can be volatile");
        }
    }

    fn plain_load(&self, ty: impl inkwell::types::BasicType<'c>, from: PointerValue<'c>) -> BasicValueEnum<'c> {
        let v = self.ir.load(ty, from);
        self.guest_access(v.as_instruction_value().expect("a load"));
        v
    }

    fn plain_store(&self, to: PointerValue<'c>, v: impl BasicValue<'c>) {
        let i = self.ir.store(to, v);
        self.guest_access(i);
    }

    fn barrier(&self, kind: u64) {
        let kind = self.ir.int(Ty::I32, kind);
        self.ir.intrinsic("llvm.aarch64.dmb", &[], &[kind.into()]);
    }

    /// Whether the address is a multiple of the width; a byte's always is.
    fn aligned(&self, ty: Ty, addr: IntValue<'c>) -> IntValue<'c> {
        let low = self.ir.op(InstructionOpcode::And, addr, self.ir.i64(u64::from(ty.bytes()) - 1));
        self.ir.icmp(IntPredicate::EQ, low, self.ir.i64(0))
    }

    /// Runs one of two pieces by whether the address is aligned, which it mostly is.
    fn by_alignment(
        &self,
        ty: Ty,
        addr: IntValue<'c>,
        aligned: impl FnOnce() -> Option<IntValue<'c>>,
        misaligned: impl FnOnce() -> Option<IntValue<'c>>,
    ) -> Option<IntValue<'c>> {
        if ty == Ty::I8 {
            return aligned();
        }
        let ir = &self.ir;
        let cond = self.aligned(ty, addr);
        let (yes, no, join) = (ir.block("aligned"), ir.block("misaligned"), ir.block(""));
        ir.cond_br(cond, yes, no, Likely::Weights(1 << 20, 1));
        ir.at_end(yes);
        let a = aligned();
        let yes = ir.here();
        ir.br(join);
        ir.at_end(no);
        let b = misaligned();
        let no = ir.here();
        ir.br(join);
        ir.at_end(join);
        let (a, b) = (a?, b?);
        let phi = ir.b.build_phi(a.get_type(), "").expect("positioned");
        phi.add_incoming(&[(&a, yes), (&b, no)]);
        Some(phi.as_basic_value().into_int_value())
    }

    fn make_atomic(&self, i: InstructionValue<'c>, ty: Ty, ordering: AtomicOrdering) {
        i.set_alignment(ty.bytes()).expect("a power of two");
        i.set_atomic_ordering(ordering).expect("loads and stores of integers can be atomic");
        self.mark_guest(i);
        if self.ordered(i) {
            i.set_volatile(true).expect("an access can be volatile");
        }
    }

    pub fn guest_load(&self, ty: Ty, addr: Val<'c>) -> IntValue<'c> {
        self.fault_point();
        let p = self.as_pointer(addr);
        let t = self.ir.int_type(ty);
        if !self.barriers() {
            return self.plain_load(t, p).into_int_value();
        }
        let acquire = || {
            let v = self.ir.load(t, p);
            let i = v.as_instruction_value().expect("a load");
            self.make_atomic(i, ty, AtomicOrdering::Acquire);
            Some(v.into_int_value())
        };
        let fenced = || {
            let v = self.plain_load(t, p).into_int_value();
            self.barrier(ISHLD);
            Some(v)
        };
        self.by_alignment(ty, addr.int, acquire, fenced).expect("both sides give a value")
    }

    pub fn guest_store(&self, ty: Ty, addr: Val<'c>, v: IntValue<'c>) {
        self.fault_point();
        let p = self.as_pointer(addr);
        if !self.barriers() {
            return self.plain_store(p, v);
        }
        let release = || {
            let i = self.ir.store(p, v);
            self.make_atomic(i, ty, AtomicOrdering::Release);
            None
        };
        let fenced = || {
            // Earlier loads are ordered by their own acquire or `dmb ishld`.
            self.barrier(ISHST);
            self.plain_store(p, v);
            None
        };
        self.by_alignment(ty, addr.int, release, fenced);
    }

    pub fn guest_vload(&self, bits: u32, addr: Val<'c>) -> VectorValue<'c> {
        self.fault_point();
        let v = self.load_in_parts(bits, self.as_pointer(addr));
        if self.barriers() {
            self.barrier(ISHLD);
        }
        v
    }

    /// Where somebody may see which page a load faults on, parts as wide as the host's registers are loaded one after the other,
    /// because LLVM splits a wider load into loads of any order.
    fn load_in_parts(&self, bits: u32, p: PointerValue<'c>) -> VectorValue<'c> {
        if bits <= self.register_bits() || !self.options.precise {
            let v = self.plain_load(self.ir.vec_type(quads(bits)), p).into_vector_value();
            return self.opaque_load(v);
        }
        let low = self.load_in_parts(bits / 2, p);
        let high = self.load_in_parts(bits / 2, self.ir.gep(p, self.ir.i64(u64::from(bits / 16))));
        self.ir.shuffle(low, high, 0..bits / 64)
    }

    pub fn guest_vstore(&self, addr: Val<'c>, v: VectorValue<'c>) {
        self.fault_point();
        let p = self.as_pointer(addr);
        if self.barriers() {
            self.barrier(ISHST);
        }
        self.plain_store(p, v);
    }

    // ---- read-modify-write -------------------------------------------------------------------------

    /// Runs an atomic operation where the host has it: at any alignment on x86-64, whose LOCK prefix takes
    /// split accesses; on AArch64 only aligned. There nothing short of stopping all threads makes a split
    /// one atomic, so it is done in steps, as the interpreter does.
    fn atomically(
        &self,
        ty: Ty,
        addr: IntValue<'c>,
        atomic: impl FnOnce() -> IntValue<'c>,
        in_steps: impl FnOnce() -> IntValue<'c>,
    ) -> IntValue<'c> {
        self.fault_point();
        if self.arch == Arch::X86_64 {
            return atomic();
        }
        self.by_alignment(ty, addr, || Some(atomic()), || Some(in_steps())).expect("both sides give a value")
    }

    fn mark_atomic(&self, v: impl BasicValue<'c>) {
        let i = v.as_instruction_value().expect("an atomic operation is an instruction");
        self.mark_guest(i);
        if self.ordered(i) {
            i.set_volatile(true).expect("an access can be volatile");
        }
    }

    pub fn guest_rmw(&self, op: Rmw, ty: Ty, addr: Val<'c>, v: IntValue<'c>) -> IntValue<'c> {
        let p = self.as_pointer(addr);
        let v = if is_neutral(op, v) { self.unknown(ty, v) } else { v };
        let atomic = || {
            let old = self
                .ir
                .b
                .build_atomicrmw(rmw(op), p, v, AtomicOrdering::SequentiallyConsistent)
                .expect("integers of 8 to 64 bits");
            self.mark_atomic(old);
            old
        };
        let in_steps = || {
            self.full_fence();
            let old = self.plain_load(v.get_type(), p).into_int_value();
            let new = match op {
                Rmw::Xchg => v,
                Rmw::Add => self.ir.op(InstructionOpcode::Add, old, v),
                Rmw::Sub => self.ir.op(InstructionOpcode::Sub, old, v),
                Rmw::And => self.ir.op(InstructionOpcode::And, old, v),
                Rmw::Or => self.ir.op(InstructionOpcode::Or, old, v),
                Rmw::Xor => self.ir.op(InstructionOpcode::Xor, old, v),
            };
            self.plain_store(p, new);
            self.full_fence();
            old
        };
        self.atomically(ty, addr.int, atomic, in_steps)
    }

    /// The same value, hidden from LLVM. It would make a fence of an operation that changes nothing, and a fence never faults.
    fn unknown(&self, ty: Ty, v: IntValue<'c>) -> IntValue<'c> {
        let bits = v.get_sign_extended_constant().expect("a constant") as u64;
        let hidden = self.ir.empty_asm(self.ir.i64(bits), "=r,0").into_int_value();
        if ty == Ty::I64 { hidden } else { self.ir.trunc(hidden, ty) }
    }

    pub fn guest_cmpxchg(&self, ty: Ty, addr: Val<'c>, expected: IntValue<'c>, new: IntValue<'c>) -> IntValue<'c> {
        let p = self.as_pointer(addr);
        let atomic = || self.exchange(p, expected, new);
        let in_steps = || {
            self.full_fence();
            let old = self.plain_load(new.get_type(), p).into_int_value();
            let same = self.ir.icmp(IntPredicate::EQ, old, expected);
            self.plain_store(p, self.ir.select(same, new, old));
            self.full_fence();
            old
        };
        self.atomically(ty, addr.int, atomic, in_steps)
    }

    fn exchange(&self, p: PointerValue<'c>, expected: IntValue<'c>, new: IntValue<'c>) -> IntValue<'c> {
        let pair = self
            .ir
            .b
            .build_cmpxchg(
                p,
                expected,
                new,
                AtomicOrdering::SequentiallyConsistent,
                AtomicOrdering::SequentiallyConsistent,
            )
            .expect("two integers of one type");
        self.mark_atomic(pair);
        self.ir.b.build_extract_value(pair, 0, "").expect("the old value is the first part").into_int_value()
    }

    pub fn guest_cmpxchg16(
        &self,
        addr: Val<'c>,
        expected: [IntValue<'c>; 2],
        new: [IntValue<'c>; 2],
    ) -> [IntValue<'c>; 2] {
        self.fault_point();
        let p = self.as_pointer(addr);
        if self.arch == Arch::Aarch64 && !self.has("lse") {
            return self.exclusive_cmpxchg16(p, expected, new);
        }
        let wide = self.ir.cx.i128_type();
        let shift = wide.const_int(64, false);
        let join = |[low, high]: [IntValue<'c>; 2]| {
            let low = self.ir.cast(InstructionOpcode::ZExt, low, wide).into_int_value();
            let high = self.ir.cast(InstructionOpcode::ZExt, high, wide).into_int_value();
            let high = self.ir.op(InstructionOpcode::Shl, high, shift);
            self.ir.op(InstructionOpcode::Or, high, low)
        };
        let old = self.exchange(p, join(expected), join(new));
        let high = self.ir.op(InstructionOpcode::LShr, old, shift);
        [self.ir.trunc(old, Ty::I64), self.ir.trunc(high, Ty::I64)]
    }

    /// 16 bytes by exclusive accesses. LLVM's own loop compares without telling that it changes the condition flags (LLVM
    /// 22: `CMP_SWAP_128` has no such effect), and a comparison made before it is taken to hold behind it.
    ///
    /// The old value is stored back where it isn't the expected one: only a store that succeeds shows that the pair
    /// was read as one (Arm ARM, B2.9.2).
    fn exclusive_cmpxchg16(
        &self,
        p: PointerValue<'c>,
        expected: [IntValue<'c>; 2],
        new: [IntValue<'c>; 2],
    ) -> [IntValue<'c>; 2] {
        // Faults here, if it does, with this instruction's row in the map of addresses.
        let probe = self.plain_load(self.ir.cx.i64_type(), p);
        let probe = probe.as_instruction_value().expect("a load");
        probe.set_volatile(true).expect("a load can be volatile");
        let word = self.ir.cx.i64_type();
        let result = self.ir.cx.struct_type(&[word.into(); 3], false);
        let ty = result.fn_type(&[p.get_type().into(), word.into(), word.into(), word.into(), word.into()], false);
        let asm = "1: ldaxp $0, $1, [$3]\n cmp $0, $4\n ccmp $1, $5, #0, eq\n b.ne 2f\n \
                   stlxp ${2:w}, $6, $7, [$3]\n cbnz ${2:w}, 1b\n b 3f\n \
                   2: stlxp ${2:w}, $0, $1, [$3]\n cbnz ${2:w}, 1b\n 3:";
        let constraints = "=&r,=&r,=&r,r,r,r,r,r,~{memory},~{cc}";
        let asm = self.ir.cx.create_inline_asm(ty, asm.to_owned(), constraints.to_owned(), true, false, None, false);
        let arguments = [p.into(), expected[0].into(), expected[1].into(), new[0].into(), new[1].into()];
        let call = self.ir.b.build_indirect_call(ty, asm, &arguments, "").expect("the types are the arguments' own");
        let pair = call.try_as_basic_value().basic().expect("it gives values").into_struct_value();
        [0, 1].map(|n| self.ir.b.build_extract_value(pair, n, "").expect("one of three").into_int_value())
    }

    /// A full barrier, also against the compiler.
    pub fn full_fence(&self) {
        self.ir.b.build_fence(AtomicOrdering::SequentiallyConsistent, false, "").expect("positioned");
    }
}

fn rmw(op: Rmw) -> AtomicRMWBinOp {
    match op {
        Rmw::Add => AtomicRMWBinOp::Add,
        Rmw::Sub => AtomicRMWBinOp::Sub,
        Rmw::And => AtomicRMWBinOp::And,
        Rmw::Or => AtomicRMWBinOp::Or,
        Rmw::Xor => AtomicRMWBinOp::Xor,
        Rmw::Xchg => AtomicRMWBinOp::Xchg,
    }
}

/// Whether an operation leaves memory as it is.
fn is_neutral(op: Rmw, v: IntValue<'_>) -> bool {
    let neutral = match op {
        Rmw::Add | Rmw::Sub | Rmw::Or | Rmw::Xor => 0,
        Rmw::And => -1,
        Rmw::Xchg => return false,
    };
    v.get_sign_extended_constant() == Some(neutral)
}

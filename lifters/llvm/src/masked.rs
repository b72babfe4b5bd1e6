//! Memory accesses of the lanes that a mask names. A lane that isn't named must not fault, one that is must.
//!
//! An x86-64 host with AVX-512 has instructions for them. Elsewhere a load takes the whole vector where that can fault only if a
//! named lane does: within one page, if any lane is named. What is left is for the runtime.
//!
//! The other way round, LLVM makes a load whose value is selected by a mask a masked one, which doesn't fault where the guest's
//! load has to. So where code is made for AVX-512 a whole vector that is loaded passes through assembly, which LLVM doesn't look
//! into. For AArch64, it loads no more than the lane of which it makes all lanes of a vector, even if the load is volatile.

use inkwell::IntPredicate;
use inkwell::types::VectorType;
use inkwell::values::{InstructionOpcode as Op, IntValue, PointerValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Ty, VTy, load_masked_by_helper, store_masked_by_helper};

use crate::emitter::{Llvm, Val};
use crate::ir::{Likely, quads};

const PAGE: u64 = 4096;

/// Constraints of assembly for a value that stays in a vector register of x86-64's.
const ANY_VECTOR_REGISTER: &str = "=v,0";

impl<'c> Llvm<'c> {
    /// Whether the host has masked moves of these lanes.
    fn has_masked_moves(&self, ty: VTy) -> bool {
        let narrow = matches!(ty.lane.ty(), Ty::I8 | Ty::I16);
        self.arch == Arch::X86_64
            && self.has("avx512f")
            && (ty.bits >= 512 || self.has("avx512vl"))
            && (!narrow || self.has("avx512bw"))
            && ty.bits >= 128
    }

    /// Keeps LLVM from making a load of the guest's one that is masked or narrower.
    pub fn opaque_load(&self, v: VectorValue<'c>) -> VectorValue<'c> {
        let constraints = match self.arch {
            Arch::X86_64 if self.has("avx512f") && self.vec_bits(v) >= 128 => ANY_VECTOR_REGISTER,
            Arch::Aarch64 if self.options.precise => "=w,0",
            _ => return v,
        };
        self.ir.empty_asm(v, constraints).into_vector_value()
    }

    /// Keeps LLVM from making a masked one of a load of the guest's, whose scalar has become a part of a vector.
    pub fn opaque_part(&self, v: VectorValue<'c>, part: IntValue<'c>) -> VectorValue<'c> {
        let is_load = part.as_instruction().is_some_and(|i| i.get_opcode() == Op::Load);
        if is_load && self.arch == Arch::X86_64 { self.opaque_load(v) } else { v }
    }

    pub fn guest_load_masked(&mut self, ty: VTy, m: VectorValue<'c>, addr: Val<'c>) -> VectorValue<'c> {
        if self.has_masked_moves(ty) {
            let v = self.masked_move(ty, m, addr, None).expect("a load gives a vector");
            // LLVM 22 makes one masked load of it and a selection by the same mask, where that stands: behind stores.
            return self.opaque_load(self.ir.as_vec(v, self.ir.vec_type(quads(ty.bits))));
        }
        let ir = &self.ir;
        let (whole, lanes, join) = (ir.block("whole"), ir.block("lanes"), ir.block(""));
        let t = ir.vec_type(quads(ty.bits.max(128)));
        let can = self.faults_alike(ty, m, addr.int);
        self.ir.cond_br(can, whole, lanes, Likely::Always);
        self.ir.at_end(whole);
        let loaded = self.load_whole(ty, m, addr);
        let whole = self.ir.here();
        self.ir.br(join);
        self.ir.at_end(lanes);
        let by_lanes = load_masked_by_helper(self, ty, m, addr);
        let lanes = self.ir.here();
        self.ir.br(join);
        self.ir.at_end(join);
        let phi = self.ir.b.build_phi(t, "").expect("positioned");
        phi.add_incoming(&[(&loaded, whole), (&self.ir.as_vec(by_lanes, t), lanes)]);
        phi.as_basic_value().into_vector_value()
    }

    /// Whether a load of the whole vector faults if and only if a named lane does.
    fn faults_alike(&self, ty: VTy, m: VectorValue<'c>, addr: IntValue<'c>) -> IntValue<'c> {
        let ir = &self.ir;
        let bits = self.bits_of_lanes(m);
        let any = ir.icmp(IntPredicate::NE, bits, ir.i64(0));
        ir.op(Op::And, any, self.is_in_one_page(ty, addr))
    }

    fn is_in_one_page(&self, ty: VTy, addr: IntValue<'c>) -> IntValue<'c> {
        let within = self.ir.op(Op::And, addr, self.ir.i64(PAGE - 1));
        self.ir.icmp(IntPredicate::ULE, within, self.ir.i64(PAGE - u64::from(ty.bits / 8)))
    }

    /// The whole vector, with zeros in the lanes that aren't named.
    fn load_whole(&mut self, ty: VTy, m: VectorValue<'c>, addr: Val<'c>) -> VectorValue<'c> {
        let t = self.ir.int_vec_type(ty);
        let v = if ty.bits >= 64 {
            self.ir.as_vec(self.guest_vload(ty.bits, addr), t)
        } else {
            let narrow = if ty.bits == 32 { Ty::I32 } else { Ty::I16 };
            let narrow = if ty.bits == 8 { Ty::I8 } else { narrow };
            let v = self.guest_load(narrow, addr);
            self.ir.bitcast(v, t).into_vector_value()
        };
        let named = self.ir.vselect(m, v, t.const_zero());
        let least = ty.bits.max(128);
        let lanes = least / ty.lane.ty().bits();
        // Lanes beyond the vector come from the zeros.
        let wide = self.ir.shuffle(named, t.const_zero(), (0..lanes).map(|n| n.min(ty.lanes())));
        self.ir.as_vec(wide, self.ir.vec_type(quads(least)))
    }

    pub fn guest_store_masked(&mut self, ty: VTy, m: VectorValue<'c>, addr: Val<'c>, v: VectorValue<'c>) {
        if self.has_masked_moves(ty) {
            self.masked_move(ty, m, addr, Some(v));
            return;
        }
        // A smaller shape is held in a vector of 128 bits, and a store of that would write too much.
        if ty.bits < 128 {
            return store_masked_by_helper(self, ty, m, addr, v);
        }
        // Most masks name all lanes, such as those of a loop before its tail.
        let ir = &self.ir;
        let (whole, lanes, join) = (ir.block("whole"), ir.block("lanes"), ir.block(""));
        let bits = self.bits_of_lanes(m);
        let all = ir.icmp(IntPredicate::EQ, bits, ir.i64(u64::MAX >> (64 - ty.lanes())));
        let can = ir.op(Op::And, all, self.is_in_one_page(ty, addr.int));
        ir.cond_br(can, whole, lanes, Likely::Unknown);
        ir.at_end(whole);
        self.guest_vstore(addr, self.ir.as_vec(v, self.ir.vec_type(quads(ty.bits))));
        self.ir.br(join);
        self.ir.at_end(lanes);
        store_masked_by_helper(self, ty, m, addr, v);
        self.ir.br(join);
        self.ir.at_end(join);
    }

    /// A load (of zeros where the mask isn't set) or store by the host's instruction.
    fn masked_move(
        &mut self,
        ty: VTy,
        m: VectorValue<'c>,
        addr: Val<'c>,
        stored: Option<VectorValue<'c>>,
    ) -> Option<VectorValue<'c>> {
        self.fault_point();
        let p = self.as_pointer(addr);
        let t: VectorType<'c> = self.ir.int_vec_type(ty);
        let v = stored.map(|v| self.ir.as_vec(v, t));
        // LLVM has no volatile one.
        if self.options.precise || self.options.tso || self.mutable {
            return self.masked_assembly(ty, m, p, v);
        }
        let overloads = [t.into(), self.ir.ptr_type().into()];
        let call = match v {
            Some(v) => self.ir.intrinsic_call("llvm.masked.store", &overloads, &[v.into(), p.into(), m.into()]),
            None => {
                let zero = t.const_zero();
                self.ir.intrinsic_call("llvm.masked.load", &overloads, &[p.into(), m.into(), zero.into()])
            }
        };
        let result = call.try_as_basic_value();
        let loaded = result.basic().map(|v| v.into_vector_value());
        let access = loaded.map_or_else(|| result.instruction(), |v| v.as_instruction()).expect("a call");
        self.scopes.mark_guest(&self.ir, access);
        self.scopes.mark_pc(&self.ir, access, self.ip);
        loaded
    }

    fn masked_assembly(
        &self,
        ty: VTy,
        m: VectorValue<'c>,
        p: PointerValue<'c>,
        stored: Option<VectorValue<'c>>,
    ) -> Option<VectorValue<'c>> {
        let name = format!("vmovdqu{}", ty.lane.ty().bits());
        // The registers of masks hold integers of 16 bits and more.
        let width = match ty.lanes() {
            0..=16 => Ty::I16,
            32 => Ty::I32,
            _ => Ty::I64,
        };
        let bits = self.bits_of_lanes(m);
        let m = if width == Ty::I64 { bits } else { self.ir.trunc(bits, width) };
        match stored {
            Some(v) => {
                let text = format!("{name} $2, ($0) {{$1}}");
                self.ir.accessing_asm(None, &text, "r,^Yk,v,~{memory}", &[p.into(), m.into(), v.into()]);
                None
            }
            None => {
                let text = format!("{name} ($1), $0 {{$2}} {{z}}");
                let result = Some(self.ir.int_vec_type(ty).into());
                let v = self.ir.accessing_asm(result, &text, "=v,r,^Yk,~{memory}", &[p.into(), m.into()]);
                v.map(|v| v.into_vector_value())
            }
        }
    }
}

//! Moves between vector registers, memory and general-purpose registers (SDM vol. 1, 5.4.1, 5.5.1.1, 5.6.1.1, 5.6.3).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use xlate_abi::state::Trap;

use super::operands::{bits_of, lane_of, last_source, sources};
use super::{I, L};
use crate::emitter::{Bin, CondOp, Emitter, Lane, Pred, Ty, VTy};
use crate::isa::Semantics;
use crate::lifter::{Lifter, gpr_of};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    packed(code).or_else(|| elements(code)).or_else(|| masked(code))
}

fn packed<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Movaps | Movapd | Movdqa | Movntps | Movntpd | Movntdq | Movntdqa | Vmovapd | Vmovdqa | Vmovdqa64
        | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa => |l, i| mov_packed(l, i, Lane::I64, true),
        Vmovaps | Vmovdqa32 => |l, i| mov_packed(l, i, Lane::I32, true),
        Movups | Movupd | Movdqu | Lddqu | Vmovupd | Vmovdqu | Vlddqu | Vmovdqu64 => {
            |l, i| mov_packed(l, i, Lane::I64, false)
        }
        Vmovups | Vmovdqu32 => |l, i| mov_packed(l, i, Lane::I32, false),
        Vmovdqu16 => |l, i| mov_packed(l, i, Lane::I16, false),
        Vmovdqu8 => |l, i| mov_packed(l, i, Lane::I8, false),
        _ => return None,
    };
    Some(f)
}

fn elements<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Vmovsh => |l, i| mov_scalar(l, i, Lane::I16),
        Movss | Vmovss => |l, i| mov_scalar(l, i, Lane::F32),
        Movsd if !code.is_string_instruction() => |l, i| mov_scalar(l, i, Lane::F64),
        Vmovsd => |l, i| mov_scalar(l, i, Lane::F64),
        Movlps | Movlpd | Vmovlps | Vmovlpd => |l, i| mov_half(l, i, 0),
        Movhps | Movhpd | Vmovhps | Vmovhpd => |l, i| mov_half(l, i, 1),
        Movhlps | Vmovhlps => |l, i| mov_half_register(l, i, [3, 1]),
        Movlhps | Vmovlhps => |l, i| mov_half_register(l, i, [0, 2]),
        Movd | Movq | Movntq | Movq2dq | Movdq2q | Vmovd | Vmovq => mov_element,
        Vmovw => mov_word,
        Movnti => movnti,
        Movmskps | Vmovmskps => |l, i| movmask(l, i, Lane::I32),
        Movmskpd | Vmovmskpd => |l, i| movmask(l, i, Lane::I64),
        Pmovmskb | Vpmovmskb => |l, i| movmask(l, i, Lane::I8),
        _ => return None,
    };
    Some(f)
}

fn masked<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Maskmovdqu | Maskmovq | Vmaskmovdqu => maskmov,
        Vmaskmovps | Vpmaskmovd => |l, i| mov_by_signs(l, i, Lane::I32),
        Vmaskmovpd | Vpmaskmovq => |l, i| mov_by_signs(l, i, Lane::I64),
        _ => return None,
    };
    Some(f)
}

/// A whole register from or to anywhere, the write mask by these lanes.
fn mov_packed<E: Emitter>(l: L<E>, i: I, lane: Lane, aligned: bool) {
    if i.op_kind(0) == i.op_kind(1) {
        let v = l.vreg(i.op1_register());
        return l.set_vector(i, lane, v);
    }
    let ty = VTy { lane, bits: i.memory_size().size() as u32 * 8 };
    let addr = l.ea(i);
    let mask = l.write_mask(i, ty.lanes());
    match mask {
        _ if !aligned => {}
        None => l.require_alignment(addr, (ty.bits / 8).into()),
        Some(m) => require_masked_alignment(l, ty, m, addr),
    }
    if i.op0_kind() == OpKind::Memory {
        let v = l.vreg(i.op1_register());
        return match mask {
            Some(m) => l.store_masked(ty, m, addr, v),
            None => l.vstore(ty.bits, addr, v),
        };
    }
    let v = match mask {
        Some(m) => l.load_masked(ty, m, addr),
        None => l.vload(ty.bits, addr),
    };
    l.set_vector(i, lane, v);
}

/// #GP unless the address of a masked access is aligned, which isn't checked where no lane is accessed.
fn require_masked_alignment<E: Emitter>(l: L<E>, ty: VTy, m: E::Mask, addr: E::Val) {
    let bits = l.e.mask_bits(ty.lanes(), m);
    let any = l.cmp_imm(Pred::Ne, Ty::I64, bits, 0);
    let low = l.bin_imm(Bin::And, Ty::I64, addr, (ty.bits / 8 - 1).into());
    let misaligned = l.cmp_imm(Pred::Ne, Ty::I64, low, 0);
    let refused = l.e.cond_op(CondOp::And, any, misaligned);
    l.trap_if(refused, Trap::GeneralProtection);
}

/// MOVSS and MOVSD: a load clears the rest of the register, a move between registers leaves it.
fn mov_scalar<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.scalar(i, last_source(i), lane);
    if i.op0_kind() == OpKind::Memory {
        store_scalar(l, i, lane, v);
    } else if i.op1_kind() == OpKind::Memory {
        let rest = l.zero(128);
        l.set_scalar_over(i, lane, v, rest);
    } else {
        l.set_scalar(i, lane, v);
    }
}

/// Stores one element if the write mask names it.
fn store_scalar<E: Emitter>(l: L<E>, i: I, lane: Lane, v: E::Val) {
    let addr = l.ea(i);
    let Some(named) = l.writes_low(i) else { return l.store(lane.ty(), addr, v) };
    l.if_else(
        named,
        [],
        |l| {
            l.store(lane.ty(), addr, v);
            []
        },
        |_| [],
    );
}

const QWORDS: VTy = VTy::x128(Lane::I64);

/// MOVLPS, MOVHPS and their double forms: one 64-bit half from or to memory.
fn mov_half<E: Emitter>(l: L<E>, i: I, half: u32) {
    let addr = l.ea(i);
    if i.op0_kind() == OpKind::Memory {
        let v = l.vreg(i.op1_register());
        let v = l.e.extract(QWORDS, v, half);
        return l.store(Ty::I64, addr, v);
    }
    let v = l.load(Ty::I64, addr);
    let rest = l.vector(i, sources(i).0);
    let merged = l.e.insert(QWORDS, rest, half, v);
    l.set_vector(i, Lane::I64, merged);
}

/// MOVHLPS and MOVLHPS, as 64-bit elements of the two sources.
fn mov_half_register<E: Emitter>(l: L<E>, i: I, pick: [u8; 2]) {
    let (a, b) = l.two_vectors(i);
    let v = l.e.shuffle(QWORDS, a, b, &pick);
    l.set_vector(i, Lane::I64, v);
}

/// MOVD, MOVQ, MOVNTQ, MOVQ2DQ and MOVDQ2Q: the low element to or from anywhere; vector registers are zero-extended.
fn mov_element<E: Emitter>(l: L<E>, i: I) {
    let (ty, v) = low_element(l, i);
    match i.op0_kind() {
        OpKind::Memory => {
            let addr = l.ea(i);
            l.store(ty, addr, v);
        }
        _ if is_vector(i.op0_register()) => {
            let v = l.zero_extended(lane_of(ty), v);
            l.set_vector(i, lane_of(ty), v);
        }
        _ => l.set_reg(i.op0_register(), v),
    }
    l.enter_mmx_for(i, 1);
}

/// The moved element: as wide as the operand that isn't a vector register, 64 bits between two of them.
fn low_element<E: Emitter>(l: L<E>, i: I) -> (Ty, E::Val) {
    if i.op1_kind() == OpKind::Register && !is_vector(i.op1_register()) {
        let r = i.op1_register();
        return (gpr_of(r).1, l.reg(r));
    }
    let ty = if i.op0_kind() == OpKind::Memory || i.op1_kind() == OpKind::Memory {
        crate::lifter::memory_ty(i)
    } else if is_vector(i.op0_register()) {
        Ty::I64
    } else {
        gpr_of(i.op0_register()).1
    };
    (ty, l.scalar(i, 1, lane_of(ty)))
}

fn is_vector(r: Register) -> bool {
    r.is_vector_register() || r.is_mm()
}

/// VMOVW: the low word, zero-extended in registers of either kind.
fn mov_word<E: Emitter>(l: L<E>, i: I) {
    let v = match i.op1_kind() {
        OpKind::Register if !is_vector(i.op1_register()) => {
            let r = i.op1_register();
            let whole = l.reg(r);
            l.zcast(gpr_of(r).1, Ty::I16, whole)
        }
        _ => l.scalar(i, 1, Lane::I16),
    };
    match i.op0_kind() {
        OpKind::Memory => {
            let addr = l.ea(i);
            l.store(Ty::I16, addr, v);
        }
        _ if is_vector(i.op0_register()) => {
            let v = l.zero_extended(Lane::I16, v);
            l.set_vector(i, Lane::I16, v);
        }
        _ => {
            let v = l.zcast(Ty::I16, gpr_of(i.op0_register()).1, v);
            l.set_reg(i.op0_register(), v);
        }
    }
}

fn movnti<E: Emitter>(l: L<E>, i: I) {
    let v = l.read(i, 1);
    l.write(i, 0, v);
}

/// VMASKMOVPS and its like: lanes from or to memory where the first source, a mask, has its sign bit set.
fn mov_by_signs<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let bits = i.memory_size().size() as u32 * 8;
    let ty = VTy { lane, bits };
    let mask = l.vreg(i.op1_register());
    let mask = l.e.movmask(ty, mask);
    let mask = l.e.mask_of_bits(ty.lanes(), mask);
    let addr = l.ea(i);
    if i.op0_kind() == OpKind::Memory {
        let v = l.vreg(i.op2_register());
        return l.store_masked(ty, mask, addr, v);
    }
    let v = l.load_masked(ty, mask, addr);
    l.set_vector(i, lane, v);
}

/// MOVMSKPS, MOVMSKPD, PMOVMSKB.
fn movmask<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let r = i.op1_register();
    let v = l.vector_register(r);
    let bits = bits_of(r);
    let mask = l.e.movmask(VTy { lane, bits }, v);
    l.enter_mmx_for(i, 1);
    let mask = l.zcast(Ty::I64, gpr_of(i.op0_register()).1, mask);
    l.set_reg(i.op0_register(), mask);
}

/// MASKMOVDQU and MASKMOVQ: stores the bytes of the first register whose mask byte has its high bit set, at rDI.
fn maskmov<E: Emitter>(l: L<E>, i: I) {
    let v = l.vector(i, 1);
    let mask = l.vector(i, 2);
    let addr = maskmov_address(l, i);
    let bytes = VTy::x128(Lane::I8);
    let selected = l.e.movmask(bytes, mask);
    // Before the stores: processors do it even if they fault.
    l.enter_mmx_for(i, 1);
    let size = i.op1_register().size();
    l.require_second_page(addr, selected, size as u64);
    for n in 0..size as u32 {
        let byte = l.e.extract(bytes, v, n);
        let at = l.e.address(Some(addr), None, i64::from(n));
        let store = l.bit(Ty::I64, selected, n);
        l.if_else(
            store,
            [],
            |l| {
                l.store(Ty::I8, at, byte);
                []
            },
            |_| [],
        );
    }
}

fn maskmov_address<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) -> E::Val {
    let rdi = match i.op0_kind() {
        OpKind::MemorySegEDI => {
            let edi = l.reg(Register::EDI);
            l.zcast(Ty::I32, Ty::I64, edi)
        }
        _ => l.reg(Register::RDI),
    };
    l.add_segment(i.memory_segment(), rdi)
}

//! Moves between vector registers, memory and general-purpose registers (SDM vol. 1, 5.4.1, 5.5.1.1, 5.6.1.1, 5.6.3).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::operands::{bits_of, is_legacy, lane_of, last_source, sources};
use super::{I, L};
use crate::emitter::{Bin, Emitter, Lane, Pred, Ty, Un, VTy};
use crate::isa::Semantics;
use crate::lifter::{Lifter, gpr_of};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    let f: Semantics<E> = match code.mnemonic() {
        Movaps | Movapd | Movdqa | Movntps | Movntpd | Movntdq | Movntdqa => mov_aligned,
        Movups | Movupd | Movdqu | Lddqu => mov_unaligned,
        Movss => |l, i| mov_scalar(l, i, Lane::F32),
        Movsd if !code.is_string_instruction() => |l, i| mov_scalar(l, i, Lane::F64),
        Movlps | Movlpd => |l, i| mov_half(l, i, 0),
        Movhps | Movhpd => |l, i| mov_half(l, i, 1),
        Movhlps => |l, i| mov_half_register(l, i, [3, 1]),
        Movlhps => |l, i| mov_half_register(l, i, [0, 2]),
        Movd | Movq | Movntq | Movq2dq | Movdq2q => mov_element,
        Movnti => movnti,
        Movmskps => |l, i| movmask(l, i, Lane::I32),
        Movmskpd => |l, i| movmask(l, i, Lane::I64),
        Pmovmskb => |l, i| movmask(l, i, Lane::I8),
        Maskmovdqu | Maskmovq => maskmov,
        _ => return None,
    };
    Some(f)
}

fn mov_aligned<E: Emitter>(l: L<E>, i: I) {
    if i.op0_kind() == OpKind::Memory {
        return store_vector(l, i, is_legacy(i));
    }
    let v = l.vector(i, 1);
    l.set_vector(i, Lane::I64, v);
}

fn mov_unaligned<E: Emitter>(l: L<E>, i: I) {
    if i.op0_kind() == OpKind::Memory {
        return store_vector(l, i, false);
    }
    let v = if i.op1_kind() == OpKind::Memory {
        let addr = l.ea(i);
        l.vload(bits_of(i.op0_register()), addr)
    } else {
        l.vreg(i.op1_register())
    };
    l.set_vector(i, Lane::I64, v);
}

fn store_vector<E: Emitter>(l: L<E>, i: I, aligned: bool) {
    let r = i.op1_register();
    let v = l.vreg(r);
    let addr = l.ea(i);
    if aligned {
        l.require_alignment(addr, r.size() as u64);
    }
    l.vstore(r.size() as u32 * 8, addr, v);
}

/// MOVSS and MOVSD: a load clears the rest of the register, a move between registers leaves it.
fn mov_scalar<E: Emitter>(l: L<E>, i: I, lane: Lane) {
    let v = l.scalar(i, last_source(i), lane);
    if i.op0_kind() == OpKind::Memory {
        let addr = l.ea(i);
        l.store(lane.ty(), addr, v);
    } else if i.op1_kind() == OpKind::Memory {
        let v = l.zero_extended(lane, v);
        l.set_vector(i, lane, v);
    } else {
        l.set_scalar(i, lane, v);
    }
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

fn movnti<E: Emitter>(l: L<E>, i: I) {
    let v = l.read(i, 1);
    l.write(i, 0, v);
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
    require_second_page(l, addr, selected, size as u64);
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

/// Makes sure that the selected bytes in a second page can be written, before the first store: the instruction stores all or
/// none. In the first page, the first store tells.
fn require_second_page<E: Emitter>(l: L<E>, addr: E::Val, selected: E::Val, size: u64) {
    const PAGE: u64 = 4096;
    let in_page = l.bin_imm(Bin::And, Ty::I64, addr, PAGE - 1);
    let crosses = l.cmp_imm(Pred::Ugt, Ty::I64, in_page, PAGE - size);
    l.if_else(
        crosses,
        [],
        |l| {
            let page = l.imm(Ty::I64, PAGE);
            let room = l.bin(Bin::Sub, Ty::I64, page, in_page);
            let beyond = l.bin(Bin::Lshr, Ty::I64, selected, room);
            let any = l.cmp_imm(Pred::Ne, Ty::I64, beyond, 0);
            l.if_else(
                any,
                [],
                |l| {
                    let first = l.e.un(Un::Ctz, Ty::I64, beyond);
                    let offset = l.bin(Bin::Add, Ty::I64, first, room);
                    let at = l.e.address(Some(addr), Some((offset, 1)), 0);
                    l.require_writable(at);
                    []
                },
                |_| [],
            );
            []
        },
        |_| [],
    );
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

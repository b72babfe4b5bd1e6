//! Effects of some instructions of each kind, and of all against what iced-x86 knows of them.

mod all;

use iced_x86::RflagsBits;
use iced_x86::code_asm::*;
use xlate_abi::state::{RAX, RBX, RCX, RDX, RSP};

use super::*;
use crate::decode::{SliceSource, decode_block};
use crate::lifter::STATUS;

fn effects(f: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Effects {
    let mut a = CodeAssembler::new(64).expect("64 bits");
    f(&mut a).expect("operands that fit");
    let bytes = a.assemble(0x1000).expect("no labels");
    let block = decode_block(&SliceSource { address: 0x1000, bytes: &bytes }, 0x1000, 1, false);
    Effects::of(&block.insns[0])
}

fn vector(e: &Effects, register: u8) -> VectorUse {
    *e.vectors.iter().find(|v| v.register == register).expect("it is touched")
}

fn gprs<const N: usize>(registers: [usize; N]) -> u32 {
    registers.into_iter().fold(0, |all, n| all | 1 << n)
}

#[test]
fn integer_arithmetic() {
    let e = effects(|a| a.add(eax, dword_ptr(rbx + rcx * 2)));
    assert_eq!((e.gprs.read, e.gprs.written), (gprs([RAX, RBX, RCX]), gprs([RAX])));
    assert_eq!(e.flags, Touched { read: 0, written: STATUS, always_written: STATUS });
    let load = Access { kind: AccessKind::Load, bytes: 4, is_conditional: false, by_vectors: false };
    assert_eq!(e.memory.as_slice(), [load]);
    assert!(e.changes_only_registers() && e.floats.is_empty());
    // A part of a register leaves the rest.
    let e = effects(|a| a.mov(ah, bl));
    assert_eq!((e.gprs.read, e.gprs.written), (gprs([RAX, RBX]), gprs([RAX])));
    let e = effects(|a| a.adc(dword_ptr(rax), ebx));
    assert_eq!((e.flags.read, e.writes_memory()), (RflagsBits::CF, true));
    assert!(!e.changes_only_registers());
    let e = effects(|a| a.div(rcx));
    assert_eq!(e.gprs.written, gprs([RAX, RDX]));
    assert!(e.may_trap(Trap::Divide) && !e.may_trap(Trap::GeneralProtection));
}

#[test]
fn what_depends_on_the_way_is_not_always_written() {
    // One step of REP CMPSB, which there may be none of.
    let e = effects(|a| a.repe().cmpsb());
    assert_eq!((e.flags.written, e.flags.always_written), (STATUS, 0));
    assert!(e.ends_block && e.memory.iter().all(|access| access.is_conditional));
    let e = effects(|a| a.maskmovdqu(xmm0, xmm1));
    assert!(e.memory.iter().all(|access| access.is_conditional && access.by_vectors));
    assert_eq!(vector(&e, 1).read, 0xffff);
}

#[test]
fn control_and_the_stack() {
    let e = effects(|a| a.push(rbx));
    assert_eq!((e.gprs.read, e.gprs.written), (gprs([RBX, RSP]), gprs([RSP])));
    assert!(e.writes_memory() && !e.ends_block);
    let e = effects(|a| a.jne(0x1234u64));
    assert!(e.ends_block && e.flags.read == RflagsBits::ZF);
    assert!(effects(|a| a.ud2()).may_trap(Trap::InvalidOpcode));
    assert!(effects(|a| a.mfence()).is_fence);
}

#[test]
fn modes_and_helpers() {
    let e = effects(|a| a.ldmxcsr(dword_ptr(rax)));
    assert!(e.changes_float_mode() && e.calls(Helper::LoadMxcsr) && e.may_leave);
    assert!(!effects(|a| a.stmxcsr(dword_ptr(rax))).changes_float_mode());
    let e = effects(|a| a.cpuid());
    assert_eq!((e.gprs.read, e.gprs.written), (gprs([RAX, RCX]), gprs([RAX, RBX, RCX, RDX])));
    assert!(!e.changes_only_registers());
}

#[test]
fn scalar_floats_leave_the_rest_of_their_register() {
    let e = effects(|a| a.mulsd(xmm3, xmm5));
    let operands = [Origin::Vector(3), Origin::Vector(5), Origin::Other];
    let kind = FloatKind::Binary(FBin::Mul);
    assert_eq!(e.floats.as_slice(), [FloatOperation { kind, format: Fty::F64, bits: 64, operands }]);
    let v = vector(&e, 3);
    assert_eq!((v.read, v.written, v.clears_upper), (0xff, 0xff, false));
    assert_eq!(v.low, Content { origin: Origin::Float(0), bits: 64 });
    assert_eq!((vector(&e, 5).read, vector(&e, 5).written), (0xff, 0));
    assert_eq!((e.lanes, e.raises_float_flags()), (Lanes::Low, true));
    // The lane that it calculates with, of memory.
    let e = effects(|a| a.sqrtss(xmm1, dword_ptr(rax)));
    assert_eq!((e.floats[0].kind, e.floats[0].operands[0], e.floats[0].bits), (FloatKind::Root, Origin::Other, 32));
    assert_eq!((vector(&e, 1).read, vector(&e, 1).written, e.lanes), (0, 0xf, Lanes::Whole));
}

#[test]
fn packed_floats() {
    let e = effects(|a| a.addps(xmm2, xmm4));
    let operands = [Origin::Vector(2), Origin::Vector(4), Origin::Other];
    assert_eq!((e.floats[0].operands, e.floats[0].bits, e.floats[0].format), (operands, 128, Fty::F32));
    assert_eq!(vector(&e, 2).low, Content { origin: Origin::Float(0), bits: 128 });
    assert!(e.floats[0].keeps_nans() && !effects(|a| a.minps(xmm2, xmm4)).floats[0].keeps_nans());
    let e = effects(|a| a.vfmadd231pd(ymm1, ymm3, ymm5));
    let operands = [Origin::Vector(3), Origin::Vector(5), Origin::Vector(1)];
    let fused = FloatOperation { kind: FloatKind::Fused, format: Fty::F64, bits: 256, operands };
    assert_eq!((e.floats.as_slice(), fused.keeps_nans()), ([fused].as_slice(), true));
    // Of lanes in another order.
    let e = effects(|a| a.haddps(xmm2, xmm4));
    assert_eq!((e.floats.len(), e.floats[0].operands), (1, [Origin::Other; 3]));
    let e = effects(|a| a.addsubpd(xmm2, xmm4));
    assert_eq!(e.floats.len(), 2);
    assert!(vector(&e, 2).low.bits < 128);
}

#[test]
fn only_what_calculates_inexactly_raises_flags() {
    assert!(effects(|a| a.cvtsi2sd(xmm0, rax)).raises_float_flags());
    assert!(!effects(|a| a.cvtsi2sd(xmm0, eax)).raises_float_flags());
    assert!(effects(|a| a.comisd(xmm0, xmm1)).raises_float_flags());
    assert!(effects(|a| a.cmpps(xmm0, xmm1, 0)).raises_float_flags());
    assert!(effects(|a| a.roundsd(xmm0, xmm1, 8)).raises_float_flags());
    assert!(!effects(|a| a.rcpps(xmm0, xmm1)).raises_float_flags());
    assert!(!effects(|a| a.movaps(xmm0, xmm1)).raises_float_flags());
    assert!(!effects(|a| a.paddd(xmm0, xmm1)).raises_float_flags());
}

#[test]
fn moves_between_vectors() {
    let low = |f: fn(&mut CodeAssembler) -> Result<(), IcedError>| vector(&effects(f), 1).low;
    let copy = |register, bits| Content { origin: Origin::Vector(register), bits };
    assert_eq!(low(|a| a.movaps(xmm1, xmm2)), copy(2, 128));
    assert_eq!(low(|a| a.movss(xmm1, xmm2)), copy(2, 32));
    assert_eq!(low(|a| a.movsd_2(xmm1, xmm2)), copy(2, 64));
    // The low half stays where the other one comes in above it.
    assert_eq!(low(|a| a.unpcklpd(xmm1, xmm2)), copy(1, 64));
    assert_eq!(low(|a| a.movhpd(xmm1, qword_ptr(rax))), copy(1, 64));
    assert_eq!(low(|a| a.movhlps(xmm1, xmm2)).origin, Origin::Other);
    assert_eq!(low(|a| a.xorps(xmm1, xmm1)).origin, Origin::Other);
    let v = vector(&effects(|a| a.movss(xmm1, xmm2)), 1);
    assert_eq!((v.read, v.written), (0, 0xf));
    let v = vector(&effects(|a| a.movss(xmm1, dword_ptr(rax))), 1);
    assert_eq!((v.read, v.written), (0, 0xffff), "a load clears the rest");
    let e = effects(|a| a.movlhps(xmm1, xmm2));
    assert_eq!((vector(&e, 1).written, vector(&e, 2).read), (0xff00, 0xff));
}

#[test]
fn halves_and_numbers() {
    let lanes = |f: fn(&mut CodeAssembler) -> Result<(), IcedError>| effects(f).lanes;
    assert_eq!(lanes(|a| a.movapd(xmm1, xmm2)), Lanes::Either);
    assert_eq!(lanes(|a| a.pand(xmm1, xmm2)), Lanes::Either);
    assert_eq!(lanes(|a| a.movq(xmm1, qword_ptr(rax))), Lanes::Either);
    assert_eq!(lanes(|a| a.movsd_2(xmm1, qword_ptr(rax))), Lanes::Low);
    assert_eq!(lanes(|a| a.cvttsd2si(eax, xmm1)), Lanes::Low);
    assert_eq!(lanes(|a| a.cvtsd2ss(xmm1, xmm2)), Lanes::Whole);
    assert_eq!(lanes(|a| a.pshufd(xmm1, xmm2, 0)), Lanes::Whole);
    assert_eq!(lanes(|a| a.addpd(xmm1, xmm2)), Lanes::Whole);
}

#[test]
fn what_leads_out_of_vectors() {
    assert!(effects(|a| a.movq(rax, xmm0)).leads_out_of_vectors());
    assert!(effects(|a| a.pmovmskb(eax, xmm0)).leads_out_of_vectors());
    assert!(!effects(|a| a.movq(xmm0, rax)).leads_out_of_vectors());
    assert!(!effects(|a| a.movdqu(xmm0, xmmword_ptr(rax))).leads_out_of_vectors());
}

#[test]
fn flags_before_a_system_call_or_an_exception_are_kept() {
    for code in [&[0xf9, 0x0f, 0x05][..], &[0xf9, 0x0f, 0x01, 0xd4]] {
        // stc, and syscall or vmfunc
        let block = decode_block(&SliceSource { address: 0x1000, bytes: code }, 0x1000, 2, false);
        assert!(block.insns[0].live() & RflagsBits::CF != 0, "{}", block.insns[1].raw);
    }
}

//! Bit and byte instructions: BT*, scans and counts, BMI1, BMI2's PDEP, PEXT and BZHI, CRC32, SETcc
//! (Intel SDM vol. 1, 5.1.6 and 5.1.16).

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind, RflagsBits};

use crate::emitter::{Bin, Emitter, Flag, Pred, Rmw, Ty, Un};
use crate::isa::Semantics;
use crate::lifter::{FlagOp, Lifter, Place, STATUS};

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Bt => |l, i| bit_test(l, i, None),
        Bts => |l, i| bit_test(l, i, Some(Rmw::Or)),
        Btr => |l, i| bit_test(l, i, Some(Rmw::And)),
        Btc => |l, i| bit_test(l, i, Some(Rmw::Xor)),
        Bsf => |l, i| scan(l, i, false),
        Bsr => |l, i| scan(l, i, true),
        // Knights Corner has the next three in an encoding of its own.
        Tzcnt | Lzcnt | Popcnt if code.encoding() != EncodingKind::Legacy => return None,
        Tzcnt => |l, i| count_zeros(l, i, Un::Ctz),
        Lzcnt => |l, i| count_zeros(l, i, Un::Clz),
        Popcnt => popcnt,
        Blsi => blsi,
        Blsmsk => |l, i| with_lowest(l, i, Bin::Xor),
        Blsr => |l, i| with_lowest(l, i, Bin::And),
        Bextr if is_bmi_bextr(code) => bextr,
        Bzhi => bzhi,
        Pdep => pdep,
        Pext => pext,
        Crc32 => crc32,
        Seta | Setae | Setb | Setbe | Sete | Setg | Setge | Setl | Setle | Setne | Setno | Setnp | Setns | Seto
        | Setp | Sets => setcc,
        _ => return None,
    })
}

/// TBM's BEXTR, with an immediate control operand, shares the name of BMI1's.
fn is_bmi_bextr(code: Code) -> bool {
    matches!(code, Code::VEX_Bextr_r32_rm32_r32 | Code::VEX_Bextr_r64_rm64_r64)
}

fn setcc<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let c = l.condition_of(i);
    let v = l.e.cond_to_int(Ty::I8, c);
    l.write(i, 0, v);
}

/// BT, and BTS, BTR, BTC by the operation that changes the bit. With memory and a bit offset from a register the
/// bit lies anywhere, the offset being signed (SDM vol. 2, BT); an immediate offset is taken modulo the width.
fn bit_test<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, change: Option<Rmw>) {
    let ty = l.ty(i, 0);
    let offset = l.read(i, 1);
    let place = if i.op0_kind() == OpKind::Memory && i.op1_kind() == OpKind::Register {
        bit_string_place(l, i, ty, offset)
    } else {
        l.place(i, 0)
    };
    let n = l.bin_imm(Bin::And, ty, offset, u64::from(ty.bits()) - 1);
    let locked = i.has_lock_prefix();
    let a = match (change, place) {
        (Some(op), Place::Mem(ty, addr)) if locked => {
            let operand = change_operand(l, ty, op, n);
            l.atomic_rmw(op, ty, addr, operand)
        }
        (None, _) => l.get(place),
        (Some(op), _) => {
            let a = l.get(place);
            let operand = change_operand(l, ty, op, n);
            let r = l.bin(bin_of(op), ty, a, operand);
            l.put(place, r);
            a
        }
    };
    if l.is_live(RflagsBits::CF) {
        let bit = l.bin(Bin::Lshr, ty, a, n);
        let c = l.bit(ty, bit, 0);
        l.set_flag(Flag::Cf, c);
    }
}

/// The element of a bit string in memory that holds the bit.
fn bit_string_place<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, ty: Ty, offset: E::Val) -> Place<E> {
    let wide = l.scast(ty, Ty::I64, offset);
    let element = l.bin_imm(Bin::Ashr, Ty::I64, wide, u64::from(ty.bits().ilog2()));
    let bytes = l.bin_imm(Bin::Shl, Ty::I64, element, u64::from(ty.bytes().ilog2()));
    Place::Mem(ty, l.ea_plus(i, bytes))
}

/// The operand by which OR sets, AND resets or XOR complements bit `n`.
fn change_operand<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, op: Rmw, n: E::Val) -> E::Val {
    let one = l.imm(ty, 1);
    let mask = l.bin(Bin::Shl, ty, one, n);
    match op {
        Rmw::And => l.e.un(Un::Not, ty, mask),
        _ => mask,
    }
}

fn bin_of(op: Rmw) -> Bin {
    match op {
        Rmw::And => Bin::And,
        Rmw::Or => Bin::Or,
        Rmw::Xor => Bin::Xor,
        Rmw::Add | Rmw::Sub | Rmw::Xchg => unreachable!("bit instructions only"),
    }
}

/// BSF and BSR: ZF by the source, whose zero leaves the whole destination register, as processors do and AMD's
/// manual says (vol. 3, BSF).
fn scan<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, reverse: bool) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let found = if reverse {
        let zeros = l.e.un(Un::Clz, ty, a);
        let top = l.imm(ty, u64::from(ty.bits()) - 1);
        l.bin(Bin::Sub, ty, top, zeros)
    } else {
        l.e.un(Un::Ctz, ty, a)
    };
    let zero = l.cmp_imm(Pred::Eq, ty, a, 0);
    let n = i.op0_register().full_register().number();
    let before = l.e.gpr(n);
    l.write(i, 0, found);
    let after = l.e.gpr(n);
    let v = l.e.select(Ty::I64, zero, before, after);
    l.e.set_gpr(n, v);
    // Only ZF is defined, by the source.
    l.set_flags_logic(ty, a);
}

/// TZCNT and LZCNT: CF where the source is zero, ZF where the count is.
fn count_zeros<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Un) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let r = l.e.un(op, ty, a);
    l.write(i, 0, r);
    set_flags_with_carry(l, ty, r, |l| l.cmp_imm(Pred::Eq, ty, a, 0));
}

/// ZF and SF by the result, OF clear, CF by its own rule; AF and PF are undefined.
fn set_flags_with_carry<E: Emitter>(
    l: &mut Lifter<'_, E>,
    ty: Ty,
    r: E::Val,
    carry: impl FnOnce(&mut Lifter<'_, E>) -> E::Cond,
) {
    l.set_flags_but_carry(FlagOp::Logic, ty, [r, r, r], carry);
}

/// All flags are clear but for ZF (SDM vol. 2, POPCNT); PF too, which then isn't the result's parity.
fn popcnt<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let r = l.e.un(Un::Popcnt, ty, a);
    l.write(i, 0, r);
    let others = STATUS & !RflagsBits::PF;
    l.set_flags(FlagOp::Logic, ty, [r, r, r], None, others);
    let odd = l.imm(Ty::I8, 1);
    l.set_parity(odd);
}

fn blsi<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let negated = l.e.un(Un::Neg, ty, a);
    let r = l.bin(Bin::And, ty, a, negated);
    l.write(i, 0, r);
    set_flags_with_carry(l, ty, r, |l| l.cmp_imm(Pred::Ne, ty, a, 0));
}

/// BLSMSK and BLSR: the source combined with the source less one.
fn with_lowest<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, op: Bin) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let less = l.bin_imm(Bin::Sub, ty, a, 1);
    let r = l.bin(op, ty, a, less);
    l.write(i, 0, r);
    set_flags_with_carry(l, ty, r, |l| l.cmp_imm(Pred::Eq, ty, a, 0));
}

/// A byte of a control operand, and whether it is below the operand width.
fn control_byte<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, control: E::Val, shift: u64) -> (E::Val, E::Cond) {
    let v = l.bin_imm(Bin::Lshr, ty, control, shift);
    let v = l.bin_imm(Bin::And, ty, v, 0xff);
    let inside = l.cmp_imm(Pred::Ult, ty, v, u64::from(ty.bits()));
    (v, inside)
}

/// The low `n` bits of `a`, all of them where `n` isn't below the width.
fn low_bits<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, a: E::Val, n: E::Val, inside: E::Cond) -> E::Val {
    let ones = l.imm(ty, u64::MAX);
    let shift = l.bin_imm(Bin::And, ty, n, u64::from(ty.bits()) - 1);
    let above = l.bin(Bin::Shl, ty, ones, shift);
    let mask = l.e.un(Un::Not, ty, above);
    let cut = l.bin(Bin::And, ty, a, mask);
    l.e.select(ty, inside, cut, a)
}

fn bextr<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let control = l.read(i, 2);
    let (start, start_inside) = control_byte(l, ty, control, 0);
    let (len, len_inside) = control_byte(l, ty, control, 8);
    let shift = l.bin_imm(Bin::And, ty, start, u64::from(ty.bits()) - 1);
    let moved = l.bin(Bin::Lshr, ty, a, shift);
    let zero = l.imm(ty, 0);
    let moved = l.e.select(ty, start_inside, moved, zero);
    let r = low_bits(l, ty, moved, len, len_inside);
    l.write(i, 0, r);
    l.set_flags_logic(ty, r);
}

fn bzhi<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let control = l.read(i, 2);
    let (n, inside) = control_byte(l, ty, control, 0);
    let r = low_bits(l, ty, a, n, inside);
    l.write(i, 0, r);
    set_flags_with_carry(l, ty, r, |l| l.e.cond_not(inside));
}

/// The moves of a parallel-suffix compression by `mask` (Warren, Hacker's Delight, 7-4): step `k` moves the
/// selected bits by 2^k where an odd number of such moves is due. Also the compressed-away mask's remainder.
fn compress_moves<E: Emitter>(l: &mut Lifter<'_, E>, ty: Ty, mask: E::Val) -> Vec<E::Val> {
    let mut moves = Vec::new();
    let mut mask = mask;
    // Counts, in each bit, the unselected bits to its right, modulo two after the prefix XOR.
    let inverted = l.e.un(Un::Not, ty, mask);
    let mut counted = l.bin_imm(Bin::Shl, ty, inverted, 1);
    for k in 0..ty.bits().ilog2() {
        let mut parity = counted;
        for j in 0..ty.bits().ilog2() {
            let shifted = l.bin_imm(Bin::Shl, ty, parity, 1 << j);
            parity = l.bin(Bin::Xor, ty, parity, shifted);
        }
        let moved = l.bin(Bin::And, ty, parity, mask);
        let stay = l.bin(Bin::Xor, ty, mask, moved);
        let lower = l.bin_imm(Bin::Lshr, ty, moved, 1 << k);
        mask = l.bin(Bin::Or, ty, stay, lower);
        let not_parity = l.e.un(Un::Not, ty, parity);
        counted = l.bin(Bin::And, ty, counted, not_parity);
        moves.push(moved);
    }
    moves
}

fn pext<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let mask = l.read(i, 2);
    let moves = compress_moves(l, ty, mask);
    let mut x = l.bin(Bin::And, ty, a, mask);
    for (k, moved) in moves.into_iter().enumerate() {
        let t = l.bin(Bin::And, ty, x, moved);
        let stay = l.bin(Bin::Xor, ty, x, t);
        let lower = l.bin_imm(Bin::Lshr, ty, t, 1 << k);
        x = l.bin(Bin::Or, ty, stay, lower);
    }
    l.write(i, 0, x);
}

/// The moves of the compression, undone in reverse order.
fn pdep<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let ty = l.ty(i, 0);
    let a = l.read(i, 1);
    let mask = l.read(i, 2);
    let moves = compress_moves(l, ty, mask);
    let mut x = a;
    for (k, moved) in moves.into_iter().enumerate().rev() {
        let upper = l.bin_imm(Bin::Shl, ty, x, 1 << k);
        let from_below = l.bin(Bin::And, ty, upper, moved);
        let not_moved = l.e.un(Un::Not, ty, moved);
        let stay = l.bin(Bin::And, ty, x, not_moved);
        x = l.bin(Bin::Or, ty, stay, from_below);
    }
    let x = l.bin(Bin::And, ty, x, mask);
    l.write(i, 0, x);
}

fn crc32<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let (to, from) = (l.ty(i, 0), l.ty(i, 1));
    let data = l.read(i, 1);
    let acc = l.read(i, 0);
    let acc = l.zcast(to, Ty::I32, acc);
    let r = l.e.crc32c(from, acc, data);
    let r = l.zcast(Ty::I32, to, r);
    l.write(i, 0, r);
}

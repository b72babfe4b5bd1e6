//! Integer instructions in the interpreter against the CPU itself, one line a form. Stack, control and faults are in
//! `interpreter.rs`; encodings in bulk are the differential verification's.

use crate::machine::{Case, Machine, Rng};
use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// States for each form.
const STATES: u32 = 300;

type Form = fn(&mut CodeAssembler) -> Result<(), IcedError>;

fn instruction(form: Form) -> Instruction {
    let mut a = CodeAssembler::new(64).expect("64-bit");
    form(&mut a).expect("an encodable form");
    let bytes = a.assemble(0x1000).expect("encodes");
    Decoder::with_ip(64, &bytes, 0x1000, DecoderOptions::NONE).decode()
}

fn check(forms: &[Form]) {
    let mut machine = Machine::new();
    let mut failures = Vec::new();
    for (n, form) in forms.iter().enumerate() {
        let instruction = instruction(*form);
        let mut rng = Rng::new(n as u64);
        let failure = (0..STATES).find_map(|_| Case::random(instruction, &mut rng).check(&mut machine).err());
        failures.extend(failure);
    }
    assert!(failures.is_empty(), "{} of {} forms\n{}", failures.len(), forms.len(), failures.join("\n"));
}

#[test]
fn moves() {
    check(&[
        |a| a.mov(al, bh),
        |a| a.mov(r8b, cl),
        |a| a.mov(ax, bx),
        |a| a.mov(eax, r9d),
        |a| a.mov(rax, r9),
        |a| a.mov(ah, byte_ptr(rsi + 3)),
        |a| a.mov(word_ptr(rsi + 3), dx),
        |a| a.mov(qword_ptr(rsi + 3), -5),
        |a| a.mov(ebx, ss),
        |a| a.mov(word_ptr(rsi), cs),
        |a| a.movzx(eax, bh),
        |a| a.movzx(r9, word_ptr(rsi + 1)),
        |a| a.movsx(ax, bl),
        |a| a.movsx(rbx, word_ptr(rsi + 1)),
        |a| a.movsxd(rbx, dword_ptr(rsi + 1)),
        |a| a.movbe(ax, word_ptr(rsi + 1)),
        |a| a.movbe(qword_ptr(rsi + 1), rdx),
        |a| a.bswap(ebx),
        |a| a.bswap(r10),
        |a| a.cmova(eax, dword_ptr(rsi)),
        |a| a.cmovl(ax, bx),
        |a| a.cmovnp(r9, rax),
        |a| a.cmovo(r9d, eax),
        |a| a.cmovge(r9d, eax),
        |a| a.lea(ax, rsi + rbx * 4 + 17),
        |a| a.lea(eax, rsi + rbx * 8 - 17),
        |a| a.lea(rax, ebx + ecx * 2 + 1),
        |a| a.lea(rax, rbx + rcx * 2 + 1),
        |a| a.cbw(),
        |a| a.cwde(),
        |a| a.cdqe(),
        |a| a.cwd(),
        |a| a.cdq(),
        |a| a.cqo(),
    ]);
}

#[test]
fn exchanges() {
    check(&[
        |a| a.xchg(al, ah),
        |a| a.xchg(eax, ebx),
        |a| a.xchg(qword_ptr(rsi + 8), rbx),
        |a| a.xchg(word_ptr(rsi + 9), bx),
        |a| a.xadd(al, bl),
        |a| a.xadd(rax, rax),
        |a| a.xadd(dword_ptr(rsi + 4), eax),
        |a| a.lock().xadd(dword_ptr(rsi + 4), eax),
        |a| a.cmpxchg(bl, cl),
        |a| a.cmpxchg(ebx, ecx),
        |a| a.cmpxchg(eax, ecx),
        |a| a.cmpxchg(rbx, rax),
        |a| a.cmpxchg(dword_ptr(rsi + 4), ebx),
        |a| a.lock().cmpxchg(dword_ptr(rsi + 4), ebx),
        |a| a.lock().cmpxchg(qword_ptr(rsi + 8), rbx),
        |a| a.cmpxchg8b(qword_ptr(rsi + 8)),
        |a| a.lock().cmpxchg8b(qword_ptr(rsi + 8)),
        |a| a.lock().cmpxchg16b(xmmword_ptr(rsi + 16)),
    ]);
}

#[test]
fn additions() {
    check(&[
        |a| a.add(al, bl),
        |a| a.add(ah, 0x7f),
        |a| a.add(ax, bx),
        |a| a.add(eax, ebx),
        |a| a.add(qword_ptr(rsi + 8), rbx),
        |a| a.lock().add(word_ptr(rsi + 8), bx),
        |a| a.adc(al, bl),
        |a| a.adc(rax, rbx),
        |a| a.adc(dword_ptr(rsi + 8), ebx),
        |a| a.lock().adc(dword_ptr(rsi + 8), ebx),
        |a| a.sub(ah, al),
        |a| a.sub(eax, dword_ptr(rsi)),
        |a| a.lock().sub(dword_ptr(rsi), ecx),
        |a| a.sbb(al, bl),
        |a| a.sbb(rax, rax),
        |a| a.sbb(word_ptr(rsi), dx),
        |a| a.lock().sbb(word_ptr(rsi), dx),
        |a| a.inc(bl),
        |a| a.inc(dword_ptr(rsi)),
        |a| a.lock().inc(dword_ptr(rsi)),
        |a| a.dec(r8),
        |a| a.lock().dec(byte_ptr(rsi)),
        |a| a.neg(al),
        |a| a.neg(qword_ptr(rsi)),
        |a| a.lock().neg(qword_ptr(rsi)),
        |a| a.cmp(al, 0x80u32 as i32),
        |a| a.cmp(rbx, qword_ptr(rsi)),
        |a| a.adcx(eax, ebx),
        |a| a.adcx(rax, qword_ptr(rsi)),
        |a| a.adox(eax, ebx),
        |a| a.adox(rax, qword_ptr(rsi)),
    ]);
}

#[test]
fn multiplications() {
    check(&[
        |a| a.mul(bl),
        |a| a.mul(bx),
        |a| a.mul(ebx),
        |a| a.mul(qword_ptr(rsi)),
        |a| a.imul(bh),
        |a| a.imul(bx),
        |a| a.imul(ebx),
        |a| a.imul(rbx),
        |a| a.imul_2(ax, bx),
        |a| a.imul_2(eax, dword_ptr(rsi)),
        |a| a.imul_2(rax, rbx),
        |a| a.imul_3(rax, rbx, -77),
        |a| a.imul_3(ax, word_ptr(rsi), 1000),
        |a| a.mulx(eax, ebx, ecx),
        |a| a.mulx(rax, rbx, rcx),
        |a| a.mulx(rax, rax, rcx),
    ]);
}

#[test]
fn logic() {
    check(&[
        |a| a.and(al, bl),
        |a| a.and(eax, 0x7f0),
        |a| a.and(qword_ptr(rsi), -2),
        |a| a.lock().and(qword_ptr(rsi), rbx),
        |a| a.or(ax, bx),
        |a| a.lock().or(byte_ptr(rsi), 0x81u32 as i32),
        |a| a.xor(eax, ebx),
        |a| a.xor(eax, eax),
        |a| a.xor(ah, ah),
        |a| a.lock().xor(dword_ptr(rsi), ebx),
        |a| a.not(ah),
        |a| a.not(dword_ptr(rsi)),
        |a| a.lock().not(dword_ptr(rsi)),
        |a| a.test(al, bl),
        |a| a.test(rax, rax),
        |a| a.test(dword_ptr(rsi), 0x8000),
        |a| a.andn(eax, ebx, ecx),
        |a| a.andn(rax, rbx, qword_ptr(rsi)),
    ]);
}

#[test]
fn shifts() {
    check(&[
        |a| a.shl(al, 1),
        |a| a.shl(al, 0),
        |a| a.shl(eax, 0),
        |a| a.shl(bl, 9),
        |a| a.shl(ax, cl),
        |a| a.shl(eax, cl),
        |a| a.shl(rax, cl),
        |a| a.shl(rax, 33),
        |a| a.shl(dword_ptr(rsi), cl),
        |a| a.shr(al, 1),
        |a| a.shr(al, cl),
        |a| a.shr(eax, 1),
        |a| a.shr(eax, 31),
        |a| a.shr(rax, cl),
        |a| a.sar(bh, cl),
        |a| a.sar(ax, 3),
        |a| a.sar(eax, cl),
        |a| a.sar(rax, 63),
        |a| a.shld(ax, bx, 5),
        |a| a.shld(eax, ebx, cl),
        |a| a.shld(rax, rbx, cl),
        |a| a.shld(rax, rbx, 1),
        |a| a.shrd(ax, bx, 5),
        |a| a.shrd(eax, ebx, cl),
        |a| a.shrd(qword_ptr(rsi), rbx, cl),
        |a| a.shrd(rax, rbx, 1),
        |a| a.shlx(eax, ebx, ecx),
        |a| a.shrx(rax, rbx, rcx),
        |a| a.sarx(rax, qword_ptr(rsi), rcx),
        |a| a.rorx(eax, ebx, 7),
    ]);
}

#[test]
fn rotates() {
    check(&[
        |a| a.rol(al, 1),
        |a| a.rol(al, 8),
        |a| a.rol(ax, cl),
        |a| a.rol(eax, cl),
        |a| a.rol(rax, 13),
        |a| a.ror(al, cl),
        |a| a.ror(ax, 1),
        |a| a.ror(eax, cl),
        |a| a.ror(qword_ptr(rsi), cl),
        |a| a.rcl(al, 1),
        |a| a.rcl(al, cl),
        |a| a.rcl(ax, cl),
        |a| a.rcl(eax, cl),
        |a| a.rcl(rax, cl),
        |a| a.rcl(rax, 1),
        |a| a.rcl(rax, 17),
        |a| a.rcr(al, cl),
        |a| a.rcr(al, 1),
        |a| a.rcr(ax, cl),
        |a| a.rcr(eax, cl),
        |a| a.rcr(eax, 1),
        |a| a.rcr(rax, cl),
        |a| a.rcr(rax, 64),
        |a| a.rcr(rax, 17),
    ]);
}

#[test]
fn bits() {
    check(&[
        |a| a.bt(eax, ebx),
        |a| a.bt(rax, 67),
        |a| a.bts(ax, bx),
        |a| a.btr(rax, rbx),
        |a| a.btc(eax, 35),
        |a| a.bts(dword_ptr(rsi), 35),
        |a| a.lock().btr(dword_ptr(rsi), 7),
        |a| a.lock().btc(qword_ptr(rsi), 7),
        |a| a.bsf(ax, bx),
        |a| a.bsf(eax, ebx),
        |a| a.bsf(rax, qword_ptr(rsi)),
        |a| a.bsr(ax, bx),
        |a| a.bsr(eax, ebx),
        |a| a.bsr(rax, qword_ptr(rsi)),
        |a| a.tzcnt(ax, bx),
        |a| a.tzcnt(rax, rbx),
        |a| a.lzcnt(ax, bx),
        |a| a.lzcnt(eax, ebx),
        |a| a.popcnt(ax, bx),
        |a| a.popcnt(rax, rbx),
        |a| a.blsi(eax, ebx),
        |a| a.blsmsk(rax, rbx),
        |a| a.blsr(rax, qword_ptr(rsi)),
        |a| a.bextr(eax, ebx, ecx),
        |a| a.bextr(rax, rbx, rcx),
        |a| a.bzhi(eax, ebx, ecx),
        |a| a.bzhi(rax, rbx, rcx),
        |a| a.pdep(eax, ebx, ecx),
        |a| a.pdep(rax, rbx, rcx),
        |a| a.pext(eax, ebx, ecx),
        |a| a.pext(rax, rbx, rcx),
        |a| a.seta(al),
        |a| a.setle(ah),
        |a| a.setnp(byte_ptr(rsi)),
    ]);
}

#[test]
fn flag_control() {
    check(&[|a| a.clc(), |a| a.stc(), |a| a.cmc(), |a| a.lahf(), |a| a.sahf(), |a| a.nop()]);
}

#[test]
fn strings() {
    check(&[
        |a| a.movsb(),
        |a| a.movsq(),
        |a| a.stosw(),
        |a| a.stosd(),
        |a| a.lodsb(),
        |a| a.lodsq(),
        |a| a.cmpsb(),
        |a| a.cmpsd(),
        |a| a.scasb(),
        |a| a.scasq(),
    ]);
}

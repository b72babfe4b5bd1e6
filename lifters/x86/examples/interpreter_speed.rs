//! What the interpreter costs for each guest instruction, on loops of common instructions.
//! `cargo run --release -p xlate-x86 --example interpreter_speed [ROUNDS]`

use iced_x86::code_asm::*;
use xlate_abi::state::CpuState;
use xlate_x86::decode::SliceSource;
use xlate_x86::decode_block;
use xlate_x86::interpreter::run_block;

const PC: u64 = 0x1000;

type Body = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// This thread's time on a processor, so that a busy machine doesn't count.
fn cpu_nanoseconds() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells the time on CPU");
    stat.split(' ').next().and_then(|n| n.parse().ok()).expect("schedstat starts with nanoseconds")
}

fn measure(rounds: u64, name: &str, body: Body) -> Result<(), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    body(&mut a)?;
    a.sub(rcx, 1)?;
    a.jne(top)?;
    // What follows a loop soon sets the flags again.
    a.xor(eax, eax)?;
    let bytes = a.assemble(PC)?;
    let block = decode_block(&SliceSource { address: PC, bytes: &bytes }, PC, 64, false);
    let count = block.insns.len() as u64;
    let mut memory = vec![0u64; 64];
    let mut state = CpuState { rip: PC, ..CpuState::default() };
    state.gpr[1] = rounds;
    state.gpr[4] = memory[32..].as_mut_ptr() as u64;
    state.gpr[6] = memory.as_mut_ptr() as u64;
    let start = cpu_nanoseconds();
    while state.rip == PC {
        // SAFETY: the loops touch only `memory`, through rsi and rsp.
        unsafe { run_block(&mut state, &block) };
    }
    let ns = (cpu_nanoseconds() - start) as f64 / (rounds * count) as f64;
    println!("{name:10} {ns:5.1} ns an instruction ({count} in the loop)");
    Ok(())
}

fn main() -> Result<(), IcedError> {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2_000_000);
    measure(rounds, "empty", |_| Ok(()))?;
    measure(rounds, "registers", |a| {
        a.mov(rax, rbx)?;
        a.add(rax, rdx)?;
        a.lea(rdx, rax + rbx * 4 + 8)?;
        a.xor(eax, eax)?;
        a.and(edi, 0x7f)?;
        a.shl(rdx, 3)?;
        a.movzx(r8d, dl)?;
        a.or(r9, r8)
    })?;
    measure(rounds, "memory", |a| {
        a.mov(rax, qword_ptr(rsi))?;
        a.add(rax, qword_ptr(rsi + 8))?;
        a.mov(qword_ptr(rsi + 16), rax)?;
        a.movzx(edx, byte_ptr(rsi + 3))?;
        a.inc(dword_ptr(rsi + 24))?;
        a.push(rax)?;
        a.pop(rbx)?;
        a.cmp(qword_ptr(rsi), 5)
    })?;
    measure(rounds, "conditions", |a| {
        a.cmp(rax, rbx)?;
        a.setl(dl)?;
        a.test(rdx, rdx)?;
        a.cmove(rax, rbx)?;
        a.cmp(eax, 7)?;
        a.cmova(ebx, r8d)
    })
}

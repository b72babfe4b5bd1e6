//! Stack, control transfer, exceptions and repetition in the interpreter: what a single instruction between loads and
//! stores of all registers can't show.

use iced_x86::code_asm::*;
use xlate_abi::state::{CpuState, ExitReason, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Trap, rflags};
use xlate_x86::decode::{ALL_FLAGS, SliceSource, live_in};
use xlate_x86::interpreter::run_block;
use xlate_x86::{Block, BlockEnd, decode_block};

const PC: u64 = 0x1000;

type Code = fn(&mut CodeAssembler) -> Result<(), IcedError>;

fn assemble(code: Code) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("64-bit");
    code(&mut a).and_then(|()| a.assemble(PC)).expect("encodes")
}

fn block(bytes: &[u8]) -> Block {
    decode_block(&SliceSource { address: PC, bytes }, PC, 64, false)
}

/// A guest with a stack: 64 words, rsp in the middle.
struct Guest {
    state: Box<CpuState>,
    stack: Box<[u64; 64]>,
}

const MIDDLE: usize = 32;

impl Guest {
    fn new() -> Self {
        let mut stack = Box::new([0; 64]);
        let mut state = Box::new(CpuState { rip: PC, ..CpuState::default() });
        state.gpr[RSP] = stack[MIDDLE..].as_mut_ptr() as u64;
        Self { state, stack }
    }

    fn with(mut self, register: usize, value: u64) -> Self {
        self.state.gpr[register] = value;
        self
    }

    /// Where `rsp` points, in words of the stack.
    fn top(&self) -> usize {
        ((self.state.gpr[RSP] - self.stack.as_ptr() as u64) / 8) as usize
    }

    /// Runs the one block that the code is.
    fn run(mut self, code: Code) -> Self {
        let block = block(&assemble(code));
        // SAFETY: the code accesses only the stack, and calls no helper.
        unsafe { run_block(&mut self.state, &block) };
        self
    }

    fn trap(&self) -> Option<Trap> {
        let trapped = self.state.exit_reason == ExitReason::Trap as u32;
        trapped.then(|| Trap::from_u32(self.state.exit_arg).expect("a trap"))
    }
}

#[test]
fn push_and_pop_of_the_stack_pointer() {
    let g = Guest::new();
    let before = g.state.gpr[RSP];
    let g = g.run(|a| a.push(rsp));
    assert_eq!((g.top(), g.stack[MIDDLE - 1]), (MIDDLE - 1, before), "PUSH RSP stores the old value");
    let mut g = Guest::new();
    g.stack[MIDDLE] = 77;
    assert_eq!(g.run(|a| a.pop(rsp)).state.gpr[RSP], 77);
}

#[test]
fn pop_to_memory_addresses_with_the_new_stack_pointer() {
    let mut g = Guest::new();
    g.stack[MIDDLE] = 5;
    let g = g.run(|a| a.pop(qword_ptr(rsp + 8)));
    assert_eq!((g.top(), g.stack[MIDDLE + 2]), (MIDDLE + 1, 5));
}

#[test]
fn sixteen_bit_stack_slots() {
    let g = Guest::new().with(RAX, 0x1234).run(|a| {
        a.push(ax)?;
        a.pop(bx)
    });
    assert_eq!((g.top(), g.state.gpr[RBX]), (MIDDLE, 0x1234));
}

#[test]
fn call_and_return() {
    let g = Guest::new().run(|a| a.call(0x2000u64));
    assert_eq!((g.state.rip, g.top(), g.stack[MIDDLE - 1]), (0x2000, MIDDLE - 1, PC + 5));
    let mut g = Guest::new();
    g.stack[MIDDLE] = 0x3000;
    let g = g.run(|a| a.ret_1(16));
    assert_eq!((g.state.rip, g.top()), (0x3000, MIDDLE + 3));
    let g = Guest::new().with(RAX, 0x4000).run(|a| a.call(rax));
    assert_eq!((g.state.rip, g.stack[MIDDLE - 1]), (0x4000, PC + 2));
}

#[test]
fn a_call_through_the_stack_pointer_reads_before_it_pushes() {
    let mut g = Guest::new();
    g.stack[MIDDLE] = 0x5000;
    assert_eq!(g.run(|a| a.call(qword_ptr(rsp))).state.rip, 0x5000);
}

#[test]
fn frames() {
    let g = Guest::new().with(RBP, 9).run(|a| {
        a.enter(32, 0)?;
        a.leave()
    });
    assert_eq!((g.top(), g.state.gpr[RBP], g.stack[MIDDLE - 1]), (MIDDLE, 9, 9));
}

#[test]
fn flags_through_the_stack() {
    let g = Guest::new().with(RAX, rflags::STATUS | rflags::DF | rflags::NT | rflags::ID).run(|a| {
        a.push(rax)?;
        a.popfq()?;
        a.pushfq()?;
        a.pop(rbx)
    });
    let fixed = rflags::RESERVED_ONE | rflags::IF;
    assert_eq!(g.state.gpr[RBX], rflags::STATUS | rflags::DF | rflags::NT | rflags::ID | fixed);
}

#[test]
fn division_errors_change_nothing() {
    let by_zero = Guest::new().with(RAX, 7).run(|a| a.div(ebx));
    assert_eq!((by_zero.trap(), by_zero.state.rip, by_zero.state.gpr[RAX]), (Some(Trap::Divide), PC, 7));
    let too_big = Guest::new().with(RDX, 5).with(RBX, 5).run(|a| a.div(rbx));
    assert_eq!(too_big.trap(), Some(Trap::Divide));
    let smallest = Guest::new().with(RAX, 1 << 63).with(RDX, u64::MAX).with(RBX, u64::MAX);
    assert_eq!(smallest.run(|a| a.idiv(rbx)).trap(), Some(Trap::Divide));
    let smallest = Guest::new().with(RAX, 0x8000_0000).with(RDX, 0xffff_ffff).with(RBX, 0xffff_ffff);
    assert_eq!(smallest.run(|a| a.idiv(ebx)).trap(), Some(Trap::Divide));
    let byte = Guest::new().with(RAX, 0x8000).with(RBX, 0xff);
    assert_eq!(byte.run(|a| a.idiv(bl)).trap(), Some(Trap::Divide));
}

#[test]
fn divisions() {
    let g = Guest::new().with(RAX, 1000).with(RBX, 7).run(|a| a.div(rbx));
    assert_eq!((g.trap(), g.state.gpr[RAX], g.state.gpr[RDX]), (None, 142, 6));
    let g = Guest::new().with(RAX, -1000i64 as u64).with(RBX, 7).run(|a| {
        a.cqo()?;
        a.idiv(rbx)
    });
    assert_eq!((g.state.gpr[RAX] as i64, g.state.gpr[RDX] as i64), (-142, -6));
    let g = Guest::new().with(RAX, -1000i64 as u64).with(RBX, 7).run(|a| {
        a.cdq()?;
        a.idiv(ebx)
    });
    assert_eq!((g.state.gpr[RAX] as i32, g.state.gpr[RDX] as i32), (-142, -6));
}

#[test]
fn exceptions() {
    let cases: [(Code, Trap, u64); 6] = [
        (|a| a.int3(), Trap::Breakpoint, PC + 1),
        (|a| a.int1(), Trap::Debug, PC + 1),
        (|a| a.int(4), Trap::Overflow, PC + 2),
        (|a| a.int(5), Trap::GeneralProtection, PC),
        (|a| a.ud2(), Trap::InvalidOpcode, PC),
        (|a| a.hlt(), Trap::GeneralProtection, PC),
    ];
    for (code, trap, rip) in cases {
        let g = Guest::new().run(code);
        assert_eq!((g.trap(), g.state.rip), (Some(trap), rip), "{:02x?}", assemble(code));
    }
}

#[test]
fn leaving_for_the_kernel() {
    let g = Guest::new().run(|a| a.syscall());
    assert_eq!((g.state.exit_reason, g.state.rip), (ExitReason::Syscall as u32, PC + 2));
    let g = Guest::new().run(|a| a.int(0x80));
    assert_eq!((g.state.exit_reason, g.state.rip), (ExitReason::LegacySyscall as u32, PC + 2));
}

#[test]
fn error_codes_name_the_gate() {
    let g = Guest::new().run(|a| a.int(5));
    assert_eq!(g.state.error_code, 5 << 3 | 2);
}

#[test]
fn transfers_to_no_address_fault_by_themselves() {
    const BAD: u64 = 1 << 63;
    for code in [(|a| a.jmp(rax)) as Code, |a| a.call(rax)] {
        let g = Guest::new().with(RAX, BAD).run(code);
        assert_eq!((g.trap(), g.state.rip), (Some(Trap::GeneralProtection), PC));
        assert_eq!(g.state.gpr[RSP], g.stack[MIDDLE..].as_ptr() as u64, "nothing is pushed");
    }
    let g = Guest::new().with(RAX, BAD).run(|a| {
        a.push(rax)?;
        a.ret()
    });
    assert_eq!((g.trap(), g.state.rip), (Some(Trap::GeneralProtection), PC + 1));
}

#[test]
fn flags_that_want_every_instruction_watched_leave() {
    let load = |flags: u64| {
        Guest::new().with(RAX, flags).run(|a| {
            a.push(rax)?;
            a.popfq()?;
            a.nop()
        })
    };
    for (flags, leaves) in [(rflags::TF, true), (rflags::AC, true), (rflags::CF | rflags::ID, false)] {
        let g = load(flags);
        assert_eq!(g.state.rip == PC + 2, leaves, "{flags:#x}");
        assert_eq!(g.state.flags.are_watched(), leaves);
    }
}

#[test]
fn misaligned_cmpxchg16b() {
    let g = Guest::new();
    let address = g.stack.as_ptr() as u64 + 8;
    let aligned = address & !15;
    let g = g.with(RSI, aligned + 8).run(|a| a.cmpxchg16b(xmmword_ptr(rsi)));
    assert_eq!(g.trap(), Some(Trap::GeneralProtection));
}

#[test]
fn counted_loops() {
    let mut g = Guest::new().with(RCX, 5);
    let mut rounds = 0;
    loop {
        g = g.run(|a| {
            a.inc(eax)?;
            a.loop_(PC)
        });
        rounds += 1;
        if g.state.rip != PC {
            break;
        }
    }
    assert_eq!((rounds, g.state.gpr[RAX], g.state.gpr[RCX]), (5, 5, 0));
    let g = Guest::new().with(RCX, 1 << 32).run(|a| a.db(&[0x67, 0xe3, 0x0d]));
    assert_eq!(g.state.rip, PC + 0x10, "JECXZ looks at 32 bits");
}

/// Runs until control goes on behind the code.
fn run_through(mut g: Guest, code: Code) -> (Guest, u32) {
    let end = PC + assemble(code).len() as u64;
    let mut steps = 0;
    while g.state.rip != end {
        g = g.run(code);
        steps += 1;
        assert!(steps < 100, "the instruction goes on for ever");
    }
    (g, steps)
}

#[test]
fn repeated_comparison_stops_at_a_difference() {
    let mut g = Guest::new();
    g.stack[..4].copy_from_slice(&[1, 2, 3, 4]);
    g.stack[8..12].copy_from_slice(&[1, 2, 9, 4]);
    let (from, to) = (g.stack.as_ptr() as u64, g.stack[8..].as_ptr() as u64);
    let (g, steps) = run_through(g.with(RSI, from).with(RDI, to).with(RCX, 4), |a| a.repe().cmpsq());
    assert_eq!((steps, g.state.gpr[RCX], g.state.gpr[RSI]), (3, 1, from + 24));
    assert_eq!(g.state.rflags() & (rflags::ZF | rflags::CF), rflags::CF);
}

#[test]
fn repeated_scan_finds_and_counts_down_backwards() {
    let mut g = Guest::new();
    g.stack[3] = 42;
    let last = g.stack[6..].as_ptr() as u64;
    g.state.flags.df = 1;
    let (g, steps) = run_through(g.with(RDI, last).with(RAX, 42).with(RCX, 10), |a| a.repne().scasq());
    assert_eq!((steps, g.state.gpr[RCX], g.state.rflags() & rflags::ZF), (4, 6, rflags::ZF));
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut g = Guest::new();
    g.state.flags.zf = 1;
    let (g, steps) = run_through(g, |a| a.repe().cmpsb());
    assert_eq!((steps, g.state.rflags() & rflags::ZF), (1, rflags::ZF), "not even the flags change");
}

#[test]
fn bit_strings_reach_beyond_their_operand() {
    let mut g = Guest::new();
    g.stack[2] = 1 << 5;
    let base = g.stack[4..].as_ptr() as u64;
    let g = g.with(RSI, base).with(RBX, (-128i64 + 5) as u64).run(|a| a.btr(qword_ptr(rsi), rbx));
    assert_eq!((g.state.rflags() & rflags::CF, g.stack[2]), (rflags::CF, 0));
}

#[test]
fn where_blocks_end() {
    let ends: [(Code, BlockEnd, usize, &[u64]); 6] = [
        (|a| a.nop(), BlockEnd::FetchFault, 1, &[]),
        (|a| a.jne(0x2000u64), BlockEnd::Terminator, 1, &[0x2000, PC + 6]),
        (|a| a.call(0x2000u64), BlockEnd::Terminator, 1, &[0x2000]),
        (|a| a.rep().movsb(), BlockEnd::Terminator, 1, &[PC, PC + 2]),
        (|a| a.lock().neg(dword_ptr(rax)), BlockEnd::Terminator, 1, &[PC, PC + 3]),
        (|a| a.cli(), BlockEnd::Terminator, 1, &[]),
    ];
    for (code, exit, count, successors) in ends {
        let b = block(&assemble(code));
        assert_eq!((b.exit, b.insns.len(), &b.successors()[..]), (exit, count, successors), "{:02x?}", assemble(code));
    }
    assert_eq!(block(&[0x06; 15]).exit, BlockEnd::Invalid, "PUSH ES is no instruction in 64-bit mode");
    assert_eq!(block(&[0x90; 100]).exit, BlockEnd::FallThrough);
}

#[test]
fn flags_are_dead_where_they_are_overwritten() {
    use iced_x86::RflagsBits as B;
    let live = |code: Code| {
        let bytes = assemble(code);
        live_in(&SliceSource { address: PC, bytes: &bytes }, PC)
    };
    assert_eq!(live(|a| a.test(eax, eax)), B::DF);
    assert_eq!(live(|a| a.jl(PC)) & (B::SF | B::OF), B::SF | B::OF);
    assert_eq!(
        live(|a| {
            a.cld()?;
            a.adc(eax, ebx)
        }),
        B::CF
    );
    assert_eq!(
        live(|a| {
            a.adc(eax, ebx)?;
            a.cld()
        }),
        B::CF | B::DF,
        "the look ends with the status flags"
    );
    assert_eq!(live(|a| a.shl(eax, cl)), ALL_FLAGS, "a count of zero keeps them");
    assert_eq!(live(|a| a.shl(eax, 3)), B::DF);
    assert_eq!(live(|a| a.ret()), ALL_FLAGS, "whoever is returned to may read them");
    assert_eq!(live(|a| a.jmp(rax)), ALL_FLAGS);
    let called: Code = |a| {
        let mut function = a.create_label();
        a.call(function)?;
        a.adc(eax, ebx)?;
        a.set_label(&mut function)?;
        a.xor(eax, eax)
    };
    assert_eq!(live(called), B::DF, "the function is what comes next");
}

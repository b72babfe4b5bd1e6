use xlate_abi::state::{RAX, RDI, RDX, RSI, RSP};

use super::*;
use crate::memory::{GUEST_PAGE, MapRequest};
use crate::xstate;

/// A stack of one page for a frame, away from everything.
fn stack(memory: &mut Memory, at: u64) -> u64 {
    catch_faults();
    memory
        .mmap(&MapRequest {
            addr: at,
            len: 4 * GUEST_PAGE,
            prot: libc::PROT_READ | libc::PROT_WRITE,
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            fd: -1,
            ..MapRequest::default()
        })
        .unwrap();
    at + 4 * GUEST_PAGE
}

fn sample(sp: u64) -> CpuState {
    let mut state = CpuState::default();
    for (i, reg) in state.gpr.iter_mut().enumerate() {
        *reg = 0x1111_0000 + i as u64;
    }
    state.gpr[RSP] = sp;
    state.rip = 0x40_1234;
    state.set_rflags(0x400 | 0x41);
    state.mxcsr = 0x1f82;
    state.vec[3][..16].copy_from_slice(&[9; 16]);
    state.vec[3][16..32].copy_from_slice(&[8; 16]);
    state.x87.fsw = 5 << 11;
    state.x87.reg[5][..10].copy_from_slice(&[1; 10]);
    state
}

fn action(flags: u64) -> Action {
    Action { handler: 0x40_5000, flags: flags | sa::RESTORER | sa::SIGINFO, restorer: 0x40_6000, mask: 0 }
}

fn fault() -> Fault {
    Fault { err: 6, cr2: 0xdead, ..Fault::exception(libc::SIGSEGV, 1, 0xdead, 14) }
}

fn float(components: u64) -> FloatFormat {
    FloatFormat { components, ..FloatFormat::PLAIN }
}

fn push(
    state: &mut CpuState,
    memory: &Memory,
    action: &Action,
    altstack: &mut AltStack,
    components: u64,
) -> Result<(), FrameError> {
    let fault = fault();
    let mut exception = LastException::default();
    exception.note(&fault);
    frame::Frame { fault: &fault, action, mask: 0x8000_0001, altstack, float: float(components), exception }
        .push(state, memory)
}

/// Names of the fields and how C writes them, relative to the stack pointer at the handler's entry.
const FIELDS: &[&str] = &[
    "uc.uc_flags",
    "uc.uc_stack.ss_sp",
    "uc.uc_stack.ss_flags",
    "uc.uc_stack.ss_size",
    "uc.uc_mcontext.gregs[REG_R8]",
    "uc.uc_mcontext.gregs[REG_R15]",
    "uc.uc_mcontext.gregs[REG_RDI]",
    "uc.uc_mcontext.gregs[REG_RSI]",
    "uc.uc_mcontext.gregs[REG_RBP]",
    "uc.uc_mcontext.gregs[REG_RBX]",
    "uc.uc_mcontext.gregs[REG_RDX]",
    "uc.uc_mcontext.gregs[REG_RAX]",
    "uc.uc_mcontext.gregs[REG_RCX]",
    "uc.uc_mcontext.gregs[REG_RSP]",
    "uc.uc_mcontext.gregs[REG_RIP]",
    "uc.uc_mcontext.gregs[REG_EFL]",
    "uc.uc_mcontext.gregs[REG_CSGSFS]",
    "uc.uc_mcontext.gregs[REG_ERR]",
    "uc.uc_mcontext.gregs[REG_TRAPNO]",
    "uc.uc_mcontext.gregs[REG_OLDMASK]",
    "uc.uc_mcontext.gregs[REG_CR2]",
    "uc.uc_mcontext.fpregs",
    "uc.uc_sigmask",
    "info.si_signo",
    "info.si_code",
    "info.si_addr",
];

/// What the C library's headers say where these fields are.
fn offsets_by_the_compiler() -> Vec<usize> {
    let dir = std::env::temp_dir().join(format!("xlate-frame-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let lines: String = FIELDS.iter().map(|f| format!("printf(\"%zu\\n\", offsetof(struct frame, {f}));\n")).collect();
    // The C library's ucontext_t is longer than the kernel's, which ends after a mask of 8 bytes.
    let source = format!(
        "#define _GNU_SOURCE\n#include <signal.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <ucontext.h>\n\
         struct frame {{ void *ret; union {{ ucontext_t uc; struct {{ char before[304]; siginfo_t info; }}; }}; }};\n\
         _Static_assert(offsetof(ucontext_t, uc_sigmask) + 8 == 304, \"kernel part\");\n\
         int main(void) {{ {lines} return 0; }}\n"
    );
    let (c, program) = (dir.join("f.c"), dir.join("f"));
    std::fs::write(&c, source).unwrap();
    let status = std::process::Command::new("gcc").arg("-o").args([&program, &c]).status().unwrap();
    assert!(status.success());
    let output = std::process::Command::new(&program).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse().unwrap()).collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn frame_is_where_the_headers_say() {
    let mut memory = Memory::new();
    let sp = stack(&mut memory, 0x1100_0000_0000);
    let before = sample(sp);
    let mut state = before.clone();
    let mut alt = AltStack { sp: 0x5000, flags: 0, _pad: 0, size: 0x3000 };
    push(&mut state, &memory, &action(0), &mut alt, 0).unwrap();
    let frame = state.gpr[RSP];
    assert_eq!(frame % 16, 8, "as after a call");
    assert_eq!(memory.read::<u64>(frame), Ok(0x40_6000), "returns to the restorer");
    let gpr = |n: usize| before.gpr[n];
    let float_area = memory.read::<u64>(frame + 232).unwrap();
    assert_eq!(float_area % 64, 0);
    assert!(float_area + 512 <= sp - 128, "the red zone is spared");
    let expected = [
        6,
        alt.sp,
        0,
        alt.size,
        gpr(8),
        gpr(15),
        gpr(7),
        gpr(6),
        gpr(5),
        gpr(3),
        gpr(2),
        gpr(0),
        gpr(1),
        sp,
        before.rip,
        before.rflags() | xlate_abi::state::rflags::RF,
        0x002b_0000_0000_0033,
        6,
        14,
        0x8000_0001,
        0xdead,
        float_area,
        0x8000_0001,
        libc::SIGSEGV as u64,
        1,
        0xdead,
    ];
    for ((field, offset), expected) in FIELDS.iter().zip(offsets_by_the_compiler()).zip(expected) {
        let wide = !field.ends_with("ss_flags") && !field.ends_with("signo") && !field.ends_with("code");
        let at = frame + offset as u64;
        let value = if wide { memory.read::<u64>(at).unwrap() } else { memory.read::<u32>(at).unwrap().into() };
        assert_eq!(value, expected, "{field}");
    }
    assert_eq!(
        [state.gpr[RDI], state.gpr[RSI], state.gpr[RDX], state.gpr[RAX], state.rip],
        [libc::SIGSEGV as u64, frame + 312, frame + 8, 0, 0x40_5000]
    );
    assert_eq!(state.rflags() & 0x400, 0, "DF is clear in a handler");
    assert_eq!(state.mxcsr, xlate_abi::state::MXCSR_DEFAULT);
}

#[test]
fn what_is_pushed_comes_back() {
    for (components, at) in [(0, 0x1101_0000_0000), (7, 0x1102_0000_0000), (xstate::component::ALL, 0x1103_0000_0000)] {
        let mut memory = Memory::new();
        let sp = stack(&mut memory, at);
        let mut before = CpuState { k: [5; 8], ..sample(sp) };
        before.vec[3][32..].fill(6);
        before.vec[31] = [4; 64];
        let mut state = before.clone();
        let mut alt = AltStack::default();
        push(&mut state, &memory, &action(0), &mut alt, components).unwrap();
        assert_eq!((state.vec, state.k), (CpuState::default().vec, [0; 8]), "a handler starts with the initial state");
        // The handler's `ret` takes the return address.
        state.gpr[RSP] += 8;
        let restored = frame::pop(&mut state, &memory, &float(components)).unwrap();
        assert_eq!(restored.mask, 0x8000_0001);
        assert_eq!(state.gpr, before.gpr);
        assert_eq!((state.rip, state.rflags(), state.mxcsr), (before.rip, before.rflags(), before.mxcsr));
        assert_eq!(state.x87, before.x87);
        assert_eq!(state.vec[3][..16], before.vec[3][..16]);
        let upper = if components == 0 { [0; 16] } else { [8; 16] };
        assert_eq!(state.vec[3][16..32], upper);
        if components == xstate::component::ALL {
            assert_eq!((state.vec, state.k), (before.vec, before.k));
        }
    }
}

/// A frame by a processor with other places and components, as a captured process has it on its stack.
#[test]
fn frames_of_another_processor_come_back() {
    use xstate::component::{ALL, PKRU};
    let amd = xstate::Layout { opmask: 832, zmm_hi256: 896, hi16_zmm: 1408 };
    let format = FloatFormat { components: ALL, layout: amd, largest: 2440, tolerated: PKRU };
    let mut memory = Memory::new();
    let sp = stack(&mut memory, 0x1107_0000_0000);
    let before = CpuState { k: [7; 8], ..sample(sp) };
    let there = |format: FloatFormat, in_frame: u64| {
        let mut state = before.clone();
        state.vec[20] = [3; 64];
        let frame = frame::Frame {
            fault: &fault(),
            action: &action(0),
            mask: 0,
            altstack: &mut AltStack::default(),
            float: FloatFormat { components: ALL, layout: amd, ..FloatFormat::PLAIN },
            exception: LastException::default(),
        };
        frame.push(&mut state, &memory).unwrap();
        let fp = memory.read::<u64>(state.gpr[RSP] + 232).unwrap();
        // PKRU lies behind all the others.
        memory.write(fp + 464, &[0x4650_5853u32, 2444]).unwrap();
        memory.write(fp + 472, &(ALL | PKRU)).unwrap();
        memory.write(fp + 480, &2440u32).unwrap();
        memory.write(fp + 2432, &[0x5555_5554u32, 0, 0x4650_5845]).unwrap();
        memory.write(fp + 512, &in_frame).unwrap();
        state.gpr[RSP] += 8;
        let restored = frame::pop(&mut state, &memory, &format).unwrap();
        (restored.refused.is_none(), state.vec[3][16], state.vec[20][0], state.k[0])
    };
    assert_eq!(there(format, ALL | PKRU), (true, 8, 3, 7));
    assert_eq!(there(format, 7), (true, 8, 0, 0), "initial state isn't in the area");
    // XTILEDATA, and what a processor without protection keys says.
    assert!(!there(format, ALL | 1 << 18).0);
    assert!(!there(FloatFormat { tolerated: 0, ..format }, ALL | PKRU).0);
    let own = FloatFormat { largest: 0, tolerated: 0, ..format };
    assert_eq!(there(own, ALL), (true, 0, 0, 0), "an area that is too large counts as FXSAVE's");
}

#[test]
fn alternate_stack_is_used_once() {
    let mut memory = Memory::new();
    let sp = stack(&mut memory, 0x1104_0000_0000);
    let base = 0x1104_1000_0000;
    let top = stack(&mut memory, base);
    let mut alt = AltStack { sp: base, flags: 0, _pad: 0, size: top - base };
    let mut state = sample(sp);
    push(&mut state, &memory, &action(sa::ONSTACK), &mut alt, 0).unwrap();
    let first = state.gpr[RSP];
    assert!(first > base && first < top);
    push(&mut state, &memory, &action(sa::ONSTACK), &mut alt, 0).unwrap();
    assert!(state.gpr[RSP] < first && state.gpr[RSP] > base, "nested on the same stack");
    state.gpr[RSP] = base + 600;
    assert!(push(&mut state, &memory, &action(sa::ONSTACK), &mut alt, 0).is_err(), "no room left");
}

#[test]
fn frames_need_a_stack_and_a_restorer() {
    let memory = Memory::new();
    catch_faults();
    let mut state = sample(0x1105_0000_0000);
    assert!(push(&mut state, &memory, &action(0), &mut AltStack::default(), 0).is_err());
    assert_eq!(state.rip, 0x40_1234, "nothing has changed");
    let mut memory = Memory::new();
    let mut state = sample(stack(&mut memory, 0x1106_0000_0000));
    let no_restorer = Action { flags: 0, ..action(0) };
    assert!(push(&mut state, &memory, &no_restorer, &mut AltStack::default(), 0).is_err());
}

#[test]
fn alternate_stacks_are_checked() {
    let mut signals = Signals::inherited();
    let new = |flags, size| Some(AltStack { sp: 0x10000, flags, _pad: 0, size });
    assert_eq!(signals.set_altstack(new(0, 100), 0), Err(Errno(libc::ENOMEM)));
    assert_eq!(signals.set_altstack(new(8, 8192), 0), Err(Errno(libc::EINVAL)));
    assert_eq!(signals.set_altstack(new(0, 8192), 0).map(|s| s.flags), Ok(SS_DISABLE));
    assert_eq!(signals.set_altstack(None, 0x10100).map(|s| s.flags), Ok(SS_ONSTACK));
    assert_eq!(signals.set_altstack(new(0, 8192), 0x10100), Err(Errno(libc::EPERM)));
    assert_eq!(signals.set_altstack(new(SS_DISABLE, 0), 0).map(|s| s.size), Ok(8192));
}

#[test]
fn actions_are_checked() {
    let mut signals = Signals::inherited();
    assert_eq!(signals.set_action(0, None), Err(Errno(libc::EINVAL)));
    assert_eq!(signals.set_action(65, None), Err(Errno(libc::EINVAL)));
    assert_eq!(signals.set_action(libc::SIGKILL, Some(action(0))), Err(Errno(libc::EINVAL)));
    assert!(signals.set_action(libc::SIGKILL, None).is_ok());
    assert!(!signals.needs_precision());
    signals.set_action(libc::SIGSEGV, Some(action(0))).unwrap();
    assert!(signals.needs_precision());
    signals.set_action(libc::SIGSEGV, Some(Action::default())).unwrap();
    assert!(!signals.needs_precision());
}

#[test]
fn faults_kill_where_no_handler_can_run() {
    let memory = Memory::new();
    catch_faults();
    let mut signals = Signals::inherited();
    let mut state = CpuState::default();
    let trap = Fault::trap(Trap::Divide, &state);
    assert_eq!((trap.info.signal(), trap.info.code()), (libc::SIGFPE, 1));
    assert_eq!(signals.raise(trap, &mut state, &memory), Delivery::Death(libc::SIGFPE));
    // A handler whose frame doesn't fit dies of SIGSEGV.
    signals.actions[libc::SIGFPE as usize] = action(0);
    assert_eq!(signals.raise(trap, &mut state, &memory), Delivery::Death(libc::SIGSEGV));
}

#[test]
fn exceptions_have_linux_codes() {
    let mut state = CpuState { rip: 0x1000, ..CpuState::default() };
    let of = |trap: Trap, state: &CpuState| {
        let fault = Fault::trap(trap, state);
        (fault.info.signal(), fault.info.code(), fault.info.addr(), fault.trapno)
    };
    assert_eq!(of(Trap::Breakpoint, &state), (libc::SIGTRAP, 0x80, 0, 3));
    assert_eq!(of(Trap::InvalidOpcode, &state), (libc::SIGILL, 2, 0x1000, 6));
    assert_eq!(of(Trap::GeneralProtection, &state), (libc::SIGSEGV, 0x80, 0, 13));
    // Division by zero, unmasked.
    state.mxcsr = 0x1f80 & !(1 << 9) | 4;
    assert_eq!(of(Trap::Simd, &state), (libc::SIGFPE, 3, 0x1000, 19));
    let memory = Memory::new();
    let fetch = View { state: &state, memory: &memory, precise: true }.fetch();
    assert_eq!((fetch.info.code(), fetch.err, fetch.cr2), (1, 0x14, 0x1000));
}

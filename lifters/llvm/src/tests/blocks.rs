//! Guest code through decoding, lifting and compilation, against the interpreter.

use iced_x86::code_asm::*;
use xlate_abi::protocol::{CodeOptions, OptLevel};
use xlate_abi::state::{CpuState, ExitReason, RAX, RBX, RCX, RDI, RDX, RSP};
use xlate_x86::decode::{SliceSource, decode_mutable};
use xlate_x86::interpreter::run_block;
use xlate_x86::{Block, decode_block};

use super::harness::*;
use crate::{Frames, Region, compile_region, explain_region};

const BASE: u64 = 0x40_0000;

fn assemble(f: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("64-bit mode exists");
    f(&mut a);
    a.assemble(BASE).expect("the test's code is valid")
}

/// All blocks reachable by direct edges from the start of the code, and from where its indirect jumps lead.
fn region_of(code: &[u8], indirect: &[u64], precise: bool) -> Region {
    let source = SliceSource { address: BASE, bytes: code };
    let mut blocks: Vec<Block> = Vec::new();
    let mut todo = [&[BASE], indirect].concat();
    while let Some(pc) = todo.pop() {
        let known = blocks.iter().any(|b| b.pc == pc);
        let inside = pc >= BASE && pc < BASE + code.len() as u64;
        if known || !inside {
            continue;
        }
        let block = decode_block(&source, pc, 64, precise);
        todo.extend(block.successors());
        blocks.push(block);
    }
    let mut region = Region::of(BASE, blocks);
    region.indirect = region.blocks.iter().map(|b| (b.block.pc, indirect.to_vec())).collect();
    region
}

fn goes_on(state: &CpuState) -> bool {
    state.exit_reason == ExitReason::Continue as u32
}

/// Interprets from the state's `rip` until it leaves the code or isn't simply to be continued.
fn interpret(code: &[u8], state: &mut CpuState) {
    let source = SliceSource { address: BASE, bytes: code };
    let table = helpers();
    state.helpers = table.as_ptr() as u64;
    loop {
        let block = decode_block(&source, state.rip, 64, false);
        // SAFETY: the tests' code accesses only memory of theirs, and the helper table is complete.
        unsafe { run_block(state, &block) };
        let inside = state.rip >= BASE && state.rip < BASE + code.len() as u64;
        if !goes_on(state) || !inside {
            return;
        }
    }
}

/// Runs the code compiled, in every level and mode, and interpreted, and compares.
fn check(code: &[u8], state: &CpuState) -> CpuState {
    check_jumping(code, &[], state)
}

/// The same for code with indirect jumps to these places.
fn check_jumping(code: &[u8], indirect: &[u64], state: &CpuState) -> CpuState {
    let mut expected = state.clone();
    expected.rip = BASE;
    interpret(code, &mut expected);
    for target in hosts() {
        for opt in [OptLevel::O1, OptLevel::O2, OptLevel::O3] {
            for (precise, tso) in [(false, false), (true, false), (false, true)] {
                let options = xlate_abi::protocol::CodeOptions { opt, precise, tso };
                let blob = compile_region(&region_of(code, indirect, precise), &target, options)
                    .unwrap_or_else(|e| panic!("{options:?} for {target:?}: {e}"));
                let mut got = state.clone();
                got.rip = BASE;
                run(&blob, &mut got);
                assert_same(&expected, &got, &format!("{options:?} on {}", target.cpu));
            }
        }
    }
    compile_for_arm(code, indirect);
    expected
}

/// There is no such host here, but the code must come out whole.
fn compile_for_arm(code: &[u8], indirect: &[u64]) {
    for (precise, tso) in [(false, false), (true, false), (false, true)] {
        let options = xlate_abi::protocol::CodeOptions { opt: OptLevel::O2, precise, tso };
        compile_region(&region_of(code, indirect, precise), &arm_target(), options)
            .unwrap_or_else(|e| panic!("AArch64, {options:?}: {e}"));
    }
}

#[test]
fn indirect_jumps_stay_inside_where_the_target_is() {
    let code = assemble(|a| {
        a.jmp(rax).unwrap();
        a.add(ebx, 1).unwrap();
        a.mov(rax, rcx).unwrap();
        a.jmp(BASE).unwrap();
        a.add(ebx, 100).unwrap();
        a.mov(rax, rdx).unwrap();
        a.jmp(BASE).unwrap();
    });
    let (first, second) = (BASE + 2, BASE + 10);
    let mut state = CpuState::default();
    state.gpr[RAX] = first;
    state.gpr[RCX] = second;
    state.gpr[RDX] = BASE + 0x1000;
    let end = check_jumping(&code, &[first, second], &state);
    assert_eq!((end.gpr[RBX], end.rip), (101, BASE + 0x1000));
}

#[test]
fn a_block_of_integer_code_leaves_through_its_link_slot() {
    let code = assemble(|a| {
        a.add(eax, ebx).unwrap();
        a.mov(rcx, rax).unwrap();
        a.cmp(eax, 10).unwrap();
        a.jb(BASE + 0x1000).unwrap();
    });
    let mut state = CpuState::default();
    state.gpr[RAX] = 0xffff_ffff_0000_0003;
    state.gpr[RBX] = 4;
    let end = check(&code, &state);
    assert_eq!((end.gpr[RCX], end.rip), (7, BASE + 0x1000));
}

#[test]
fn a_loop_stays_inside_and_polls() {
    let code = assemble(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top).unwrap();
        a.add(rax, qword_ptr(rdi)).unwrap();
        a.add(rdi, 8).unwrap();
        a.cmp(rdi, rbx).unwrap();
        a.jne(top).unwrap();
    });
    let data: Vec<u64> = (0..1000).map(|i| i * i).collect();
    let mut state = CpuState::default();
    state.gpr[RDI] = data.as_ptr() as u64;
    state.gpr[RBX] = data.as_ptr() as u64 + 8000;
    let end = check(&code, &state);
    assert_eq!(end.gpr[RAX], data.iter().sum::<u64>());

    state.pending = 1;
    let blob = compile_region(&region_of(&code, &[], false), &hosts()[0], options(OptLevel::O2)).unwrap();
    run(&blob, &mut state);
    assert_eq!(state.exit_reason, ExitReason::Safepoint as u32);
    assert_eq!((state.rip, state.gpr[RDI]), (BASE, data.as_ptr() as u64 + 8));
}

#[test]
fn accesses_are_in_the_map_of_addresses() {
    let code = assemble(|a| {
        a.mov(rax, qword_ptr(rdi)).unwrap();
        a.add(rax, 5).unwrap();
        a.mov(qword_ptr(rdi + 4096), rax).unwrap();
        a.ret().unwrap();
    });
    for target in [hosts()[0].clone(), arm_target()] {
        let region = region_of(&code, &[], false);
        let blob = compile_region(&region, &target, options(OptLevel::O2)).unwrap();
        let pcs: Vec<u64> = blob.pc_map.iter().map(|r| r.guest_pc).collect();
        let at = |n: usize| region.blocks[0].block.insns[n].raw.ip();
        assert_eq!(pcs, [at(0), at(2), at(3)], "load, store and the load of the return address");
        assert!(blob.pc_map.is_sorted_by_key(|r| r.host_offset));
        assert!(blob.pc_map.iter().all(|r| (r.host_offset as usize) < blob.code.len()));
    }
}

/// `pxor; divsd` is how C libraries raise an invalid operation: its NaN is x86's, not that of a folded constant.
#[test]
fn zero_by_zero_of_constants_is_the_indefinite() {
    let code = assemble(|a| {
        a.pxor(xmm0, xmm0).unwrap();
        a.divsd(xmm0, xmm0).unwrap();
        a.movq(rax, xmm0).unwrap();
        a.mov(ecx, -4i32).unwrap();
        a.cvtsi2sd(xmm1, ecx).unwrap();
        a.sqrtsd(xmm1, xmm1).unwrap();
        a.movq(rbx, xmm1).unwrap();
    });
    let after = check(&code, &CpuState::default());
    assert_eq!((after.gpr[RAX], after.gpr[RBX]), (0xfff8_0000_0000_0000, 0xfff8_0000_0000_0000));
}

/// A region of a call and its callee, of a return that goes elsewhere, and of a callee that leaves the region.
#[test]
fn followed_calls_return_where_the_guest_says() {
    let code = assemble(|a| {
        let (mut callee, mut leaves) = (a.create_label(), a.create_label());
        a.call(callee).unwrap();
        a.add(eax, 100).unwrap();
        a.jmp(BASE + 0x1000).unwrap();
        a.set_label(&mut callee).unwrap();
        a.add(eax, 1).unwrap();
        a.test(edi, edi).unwrap();
        a.jnz(leaves).unwrap();
        a.add(qword_ptr(rsp), rbx).unwrap();
        a.ret().unwrap();
        a.set_label(&mut leaves).unwrap();
        a.jmp(BASE + 0x2000).unwrap();
    });
    let source = SliceSource { address: BASE, bytes: &code };
    let blocks = |pcs: &[u64]| pcs.iter().map(|pc| decode_block(&source, *pc, 64, false)).collect::<Vec<_>>();
    let call = &blocks(&[BASE])[0];
    let (behind, callee) = (call.end(), call.successors()[0]);
    let jump = blocks(&[behind])[0].insns[1].raw.ip();
    let leaves = blocks(&[callee])[0].successors();
    let mut region = Region::of(BASE, blocks(&[BASE, behind, callee, leaves[0], leaves[1]]));
    let frame = region.frames.follow(Frames::OWN, behind);
    region.blocks[2..].iter_mut().for_each(|b| b.frame = frame);

    let mut stack = [0u64; 16];
    // Register values, the address it ends at, and the sum in RAX.
    for (leave, skip, end, sum) in [(0, 0, BASE + 0x1000, 101), (0, jump - behind, jump, 1), (1, 0, BASE + 0x2000, 1)] {
        for target in hosts() {
            let blob = compile_region(&region, &target, options(OptLevel::O2)).unwrap();
            let mut state = CpuState { rip: BASE, ..CpuState::default() };
            (state.gpr[RDI], state.gpr[RBX]) = (leave, skip);
            state.gpr[RSP] = stack.as_mut_ptr() as u64 + 64;
            run(&blob, &mut state);
            assert_eq!((state.rip, state.gpr[RAX]), (end, sum), "edi {leave}, rbx {skip} on {}", target.cpu);
        }
    }
    compile_region(&region, &arm_target(), options(OptLevel::O2)).unwrap();
}

/// A loop that stores makes something wait in its fourth round: it is left right behind that store, whatever LLVM might do
/// with stores to one place.
#[test]
fn what_a_store_makes_wait_is_seen_behind_it() {
    let code = assemble(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top).unwrap();
        a.add(eax, 1).unwrap();
        a.mov(ebx, eax).unwrap();
        a.shr(ebx, 2).unwrap();
        a.mov(dword_ptr(rdi), ebx).unwrap();
        a.add(ecx, 10).unwrap();
        a.cmp(eax, 100).unwrap();
        a.jne(top).unwrap();
        a.ret().unwrap();
    });
    let source = SliceSource { address: BASE, bytes: &code };
    let blocks = [BASE, BASE + code.len() as u64 - 1].map(|pc| decode_mutable(&source, pc, 64, false));
    let behind = blocks[0].insns[3].raw.next_ip();
    let region = Region::of(BASE, blocks);
    for target in hosts() {
        for opt in [OptLevel::O1, OptLevel::O2, OptLevel::O3] {
            let blob = compile_region(&region, &target, options(opt)).unwrap();
            let mut state = CpuState { rip: BASE, ..CpuState::default() };
            state.gpr[RDI] = &raw mut state.pending as u64;
            run(&blob, &mut state);
            let left = (state.exit_reason, state.rip, state.gpr[RAX], state.gpr[RCX]);
            assert_eq!(left, (ExitReason::Safepoint as u32, behind, 4, 30), "{opt:?} on {}", target.cpu);
        }
    }
    compile_region(&region, &arm_target(), options(OptLevel::O2)).unwrap();
}

/// Bytes that nothing uses may lie in a page that can't be read.
#[test]
fn a_precise_load_is_as_wide_as_the_instructions() {
    let code = assemble(|a| {
        a.vpermilps(ymm0, ymmword_ptr(rdi), 0).unwrap();
        a.ret().unwrap();
    });
    let options = CodeOptions { precise: true, ..options(OptLevel::O2) };
    let (_, assembly) = explain_region(&region_of(&code, &[], true), &arm_target(), options).unwrap();
    assert!(!assembly.contains("ld1r"), "{assembly}");
}

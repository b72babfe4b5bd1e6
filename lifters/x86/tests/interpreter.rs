//! The interpreter on hand-written blocks.

use xlate_abi::state::{CpuState, ExitReason, RAX, RBX, RDI};
use xlate_x86::decode::{ALL_FLAGS, SliceSource, decode_mutable};
use xlate_x86::interpreter::run_block;
use xlate_x86::{BlockEnd, decode_block};

#[test]
fn a_compare_and_branch_loop() {
    // add eax, ebx; cmp eax, 10; jb 0x1000
    let bytes = [0x01, 0xd8, 0x83, 0xf8, 0x0a, 0x72, 0xf9];
    let source = SliceSource { address: 0x1000, bytes: &bytes };
    let block = decode_block(&source, 0x1000, 64, false);
    assert_eq!(block.exit, BlockEnd::Terminator);
    assert_eq!(block.successors(), [0x1000, 0x1007]);
    let mut state = CpuState { rip: 0x1000, ..CpuState::default() };
    state.gpr[RAX] = 0xffff_ffff_0000_0000;
    state.gpr[RBX] = 3;
    let mut rounds = 0;
    while state.rip == 0x1000 {
        // SAFETY: the block accesses no memory and calls no helper.
        unsafe { run_block(&mut state, &block) };
        rounds += 1;
    }
    assert_eq!((rounds, state.gpr[RAX], state.rip), (4, 12, 0x1007));
}

/// mov [rdi], ebx; add eax, 1; push rax; ret, in memory that the guest can write to
const WRITES: SliceSource = SliceSource { address: 0x1000, bytes: &[0x89, 0x1f, 0x83, 0xc0, 0x01, 0x50, 0xc3] };

#[test]
fn a_block_that_may_change_looks_behind_each_store() {
    let block = decode_mutable(&WRITES, 0x1000, 64, false);
    let polls: Vec<bool> = block.insns.iter().map(|insn| insn.polls()).collect();
    assert_eq!((polls, block.exit, block.mutable), (vec![true, false, true, false], BlockEnd::Terminator, true));
    assert!(block.insns.iter().all(|insn| insn.live() == ALL_FLAGS), "another instruction may come behind each");
    let ends = [(0x1000, 2), (0x1002, 4)].map(|(pc, len)| {
        let cut = decode_mutable(&WRITES, pc, 64, true);
        (cut.exit, cut.len) == (BlockEnd::FallThrough, len)
    });
    assert_eq!(ends, [true; 2], "or ends there");
}

#[test]
fn what_a_store_makes_wait_is_seen_behind_it() {
    let block = decode_mutable(&WRITES, 0x1000, 3, false);
    let mut state = CpuState { rip: 0x1000, ..CpuState::default() };
    let mut stack = [0u64; 8];
    for (waits, end) in [(1, 0x1002), (0, 0x1006)] {
        state.gpr[RBX] = waits;
        state.gpr[RDI] = &raw mut state.pending as u64;
        state.gpr[xlate_abi::state::RSP] = stack[8 - 1..].as_mut_ptr() as u64;
        // SAFETY: the block writes to the state and the stack, and calls no helper.
        unsafe { run_block(&mut state, &block) };
        let reason = if waits == 1 { ExitReason::Safepoint } else { ExitReason::Continue };
        assert_eq!((state.rip, state.gpr[RAX], state.exit_reason), (end, 1 - waits, reason as u32));
    }
}

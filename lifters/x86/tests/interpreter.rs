//! The interpreter on hand-written blocks.

use xlate_abi::state::{CpuState, RAX, RBX};
use xlate_x86::decode::SliceSource;
use xlate_x86::interpreter::{DecodedBlock, run_block};
use xlate_x86::{BlockEnd, decode_block};

#[test]
fn a_compare_and_branch_loop() {
    // add eax, ebx; cmp eax, 10; jb 0x1000
    let bytes = [0x01, 0xd8, 0x83, 0xf8, 0x0a, 0x72, 0xf9];
    let source = SliceSource { address: 0x1000, bytes: &bytes };
    let block = decode_block(&source, 0x1000, 64, false);
    assert_eq!(block.exit, BlockEnd::Terminator);
    assert_eq!(block.successors(), [0x1000, 0x1007]);
    let block = DecodedBlock::new(block);
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

//! The basic blocks of a program, as the runtime finds them.

use xlate_x86::decode::{MAX_BLOCK, SliceSource};
use xlate_x86::{Block, decode_block};

use crate::isa::case::Program;

/// The block at an address inside the program. Nothing behind the program is executable, as far as engines know.
pub fn block_at(program: &Program, pc: u64, precise: bool) -> Block {
    let source = SliceSource { address: program.address, bytes: &program.bytes };
    decode_block(&source, pc, MAX_BLOCK, precise)
}

/// All blocks that can be reached from the program's start through direct edges, the first one first.
pub fn reachable(program: &Program, precise: bool) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut wanted = vec![program.address];
    while let Some(pc) = wanted.pop() {
        if !program.contains(pc) || blocks.iter().any(|b| b.pc == pc) {
            continue;
        }
        let block = block_at(program, pc, precise);
        wanted.extend(block.successors());
        blocks.push(block);
    }
    blocks
}

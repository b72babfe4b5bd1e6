//! Tail duplication: where several ways through a region join only to part again at an indirect jump, as after each
//! case of an interpreter's `switch`, each gets a copy of what they share. That saves the jumps to it, and the host
//! predicts where a copy's jump leads from the case that it belongs to.

use std::cmp::Reverse;

use iced_x86::FlowControl;
use xlate_llvm::{Places, Region, RegionBlock};
use xlate_x86::{Block, BlockEnd};

use super::RegionSize;

/// Most instructions of the shared part: a test of the index, the jump, and a little more.
const LONGEST: usize = 16;
/// Most copies of one shared part: each has branches to all the cases, which cost time to compile.
const MOST_COPIES: usize = 16;
/// A way gets no copy if the shared part runs so many times as often.
const RARE: u64 = 64;

/// Gives the most frequent ways to the region's indirect jumps copies of what they share, as long as there is room.
pub fn duplicate(region: &mut Region, most: RegionSize) {
    for jump in 0..region.blocks.len() {
        if leads_to_many(region, &region.blocks[jump].block) {
            let ways = ways(region);
            if let Some(tail) = tail(region, &ways, jump) {
                copy(region, &ways[tail[0]], &tail, most);
            }
        }
    }
}

/// Whether a block ends with an indirect jump that has several targets.
fn leads_to_many(region: &Region, block: &Block) -> bool {
    let last = block.insns.last().filter(|_| block.exit == BlockEnd::Terminator);
    let jumps = last.is_some_and(|i| i.raw.flow_control() == FlowControl::IndirectBranch);
    jumps && region.indirect.get(&block.pc).is_some_and(|targets| targets.len() > 1)
}

/// By index: the blocks that go there directly.
fn ways(region: &Region) -> Vec<Vec<usize>> {
    let places = Places::of(&region.blocks).unwrap_or_default();
    let mut ways = vec![Vec::new(); region.blocks.len()];
    for (n, b) in region.blocks.iter().enumerate().filter(|(_, b)| stays(&b.block)) {
        for to in b.block.successors().into_iter().filter_map(|pc| places.from(n, b.frame, pc)) {
            // Both sides of a branch may lead there.
            if ways[to].last() != Some(&n) {
                ways[to].push(n);
            }
        }
    }
    ways
}

/// Whether a block's known successors are in its own function.
fn stays(block: &Block) -> bool {
    block.insns.last().is_some_and(|i| i.raw.flow_control() != FlowControl::Call)
}

/// The blocks that lead to a jump, each only to the next one, from a block on where ways join.
fn tail(region: &Region, ways: &[Vec<usize>], jump: usize) -> Option<Vec<usize>> {
    let mut tail = vec![jump];
    loop {
        let length: usize = tail.iter().map(|n| region.blocks[*n].block.insns.len()).sum();
        match ways[tail[tail.len() - 1]][..] {
            _ if length > LONGEST => return None,
            [before] if !tail.contains(&before) => tail.push(before),
            [] | [_] => return None,
            _ => break,
        }
    }
    tail.reverse();
    Some(tail)
}

/// Copies a tail for the ways that lead to it.
fn copy(region: &mut Region, ways: &[usize], tail: &[usize], most: RegionSize) {
    let entered = region.blocks[tail[0]].count;
    let weight = |region: &Region, from: usize| region.blocks[from].count.min(entered);
    let mut ways: Vec<usize> = ways.iter().copied().filter(|from| !tail.contains(from)).collect();
    ways.retain(|from| weight(region, *from) > entered / RARE);
    ways.sort_by_key(|from| Reverse(weight(region, *from)));
    let length: usize = tail.iter().map(|n| region.blocks[*n].block.insns.len()).sum();
    for from in ways.into_iter().take(MOST_COPIES) {
        if region.instructions() + length > most.instructions || region.blocks.len() + tail.len() > most.blocks {
            return;
        }
        let share = weight(region, from) as f64 / entered.max(1) as f64;
        copy_for(region, from, tail, share);
    }
}

/// One copy of a tail, with this share of the counts.
fn copy_for(region: &mut Region, mut from: usize, tail: &[usize], share: f64) {
    for n in tail {
        let original = &mut region.blocks[*n];
        let count = (original.count as f64 * share) as u64;
        let copy = RegionBlock { count, copy_for: Some(from), ..original.clone() };
        from = region.blocks.len();
        region.blocks.push(copy);
    }
}

#[cfg(test)]
mod tests {
    use xlate_x86::decode::{SliceSource, decode_block};

    use super::*;

    const TOP: u64 = 0x1000;
    const JUMP: u64 = TOP + 4;
    const FIRST: u64 = TOP + 7;
    const SECOND: u64 = TOP + 11;

    /// A loop of a test, an indirect jump, and two cases that go back to the test.
    const LOOP: [u8; 15] = [
        0x3c, 0x02, 0x77, 0x0b, // cmp al, 2; ja (behind all)
        0x90, 0xff, 0xe1, // nop; jmp rcx
        0xff, 0xc0, 0xeb, 0xf5, // inc eax; jmp TOP
        0xff, 0xc8, 0xeb, 0xf1, // dec eax; jmp TOP
    ];

    fn region(counts: [u64; 4]) -> Region {
        let source = SliceSource { address: TOP, bytes: &LOOP };
        let block = |pc| decode_block(&source, pc, 64, false);
        let mut region = Region::of(TOP, [TOP, JUMP, FIRST, SECOND].map(block));
        region.blocks.iter_mut().zip(counts).for_each(|(b, count)| b.count = count);
        region.indirect.insert(JUMP, vec![FIRST, SECOND]);
        region
    }

    fn copies(region: &Region) -> Vec<(u64, u64, usize)> {
        region.blocks.iter().filter_map(|b| Some((b.block.pc, b.count, b.copy_for?))).collect()
    }

    #[test]
    fn each_frequent_way_gets_its_own_test_and_jump() {
        let mut region = region([1000, 900, 600, 300]);
        duplicate(&mut region, RegionSize::MOST);
        let expected = [(TOP, 600, 2), (JUMP, 540, 4), (TOP, 300, 3), (JUMP, 270, 6)];
        assert_eq!(copies(&region), expected);
    }

    #[test]
    fn rare_ways_share_and_so_do_all_where_there_is_no_room() {
        let mut rare = region([1000, 900, 600, 10]);
        duplicate(&mut rare, RegionSize::MOST);
        assert_eq!(copies(&rare), [(TOP, 600, 2), (JUMP, 540, 4)]);
        let mut full = region([1000, 900, 600, 300]);
        duplicate(&mut full, RegionSize { blocks: 6, instructions: 640 });
        assert_eq!(copies(&full).len(), 2);
        let mut fuller = region([1000, 900, 600, 300]);
        let most = RegionSize { instructions: fuller.instructions(), ..RegionSize::MOST };
        duplicate(&mut fuller, most);
        assert_eq!(copies(&fuller), []);
    }

    #[test]
    fn a_branch_with_both_sides_the_same_is_one_way() {
        // 0x1000: jne +0; 0x1002: jmp rcx; 0x1004: nop; jmp 0x1002
        let source = SliceSource { address: TOP, bytes: &[0x75, 0x00, 0xff, 0xe1, 0x90, 0xeb, 0xfb] };
        let mut region = Region::of(TOP, [TOP, TOP + 2, TOP + 4].map(|pc| decode_block(&source, pc, 64, false)));
        region.blocks.iter_mut().for_each(|b| b.count = 1000);
        region.indirect.insert(TOP + 2, vec![TOP, TOP + 4]);
        duplicate(&mut region, RegionSize::MOST);
        assert_eq!(copies(&region), [(TOP + 2, 1000, 0), (TOP + 2, 1000, 2)]);
    }

    #[test]
    fn a_jump_with_one_way_to_it_or_one_target_stays_alone() {
        let mut single = region([1000, 900, 600, 300]);
        single.indirect.insert(JUMP, vec![FIRST]);
        duplicate(&mut single, RegionSize::MOST);
        assert_eq!(copies(&single), []);
        let mut straight = region([1000, 900, 600, 300]);
        straight.blocks.remove(3);
        duplicate(&mut straight, RegionSize::MOST);
        assert_eq!(copies(&straight), []);
    }
}

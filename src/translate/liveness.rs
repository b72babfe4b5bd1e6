//! Flags over a whole region: a block's own look ahead ends after a few instructions, here edges inside the
//! region are followed to the end.

use std::collections::HashMap;

use iced_x86::RflagsBits;
use xlate_abi::protocol::FlagRule;
use xlate_llvm::{Places, Region};
use xlate_x86::Block;
use xlate_x86::decode::{ALL_FLAGS, CodeSource, Flags, before, crosses, live_in};

/// Narrows what each instruction's flags are needed for. Both estimates, the block's and the region's, err on the
/// side of "needed", so what one of them rules out is not needed.
pub fn refine(region: &mut Region, code: &dyn CodeSource, rule: FlagRule) {
    let out = live_out(region, code, rule);
    for (b, out) in region.blocks.iter_mut().zip(out) {
        let mut live = out;
        for insn in b.block.insns.iter_mut().rev() {
            insn.set_live(insn.live() & live);
            live = before(&insn.raw, live);
        }
    }
}

/// The least solution of the usual backward equations, for each block. Through a known table flags are kept for the
/// targets inside only: the runtime has seen that its targets don't read them.
fn live_out(region: &Region, code: &dyn CodeSource, rule: FlagRule) -> Vec<Flags> {
    // What stands in one place twice is the compiler's to refuse.
    let places = Places::of(&region.blocks).unwrap_or_default();
    let mut at_entry = vec![0; region.blocks.len()];
    let mut at_exit = at_entry.clone();
    let mut outside = HashMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for (n, b) in region.blocks.iter().enumerate().rev() {
            let inside = |pc| places.from(n, b.frame, pc).map(|successor| at_entry[successor]);
            let out = if rule == FlagRule::Convention && b.table.is_some() {
                let targets = region.indirect.get(&b.block.pc).into_iter().flatten();
                targets.filter_map(|pc| inside(*pc)).fold(RflagsBits::DF, |live, needed| live | needed)
            } else {
                let mut outside = |pc| *outside.entry(pc).or_insert_with(|| live_in(rule, code, pc));
                successors_need(rule, &b.block, |pc| inside(pc).unwrap_or_else(|| outside(pc)))
            };
            at_exit[n] = out;
            let entry = b.block.insns.iter().rev().fold(out, |live, i| before(&i.raw, live));
            changed |= core::mem::replace(&mut at_entry[n], entry) != entry;
        }
    }
    at_exit
}

/// A block whose successors aren't all known needs everything.
fn successors_need(rule: FlagRule, block: &Block, mut need: impl FnMut(u64) -> Flags) -> Flags {
    if rule == FlagRule::Convention && block.insns.last().is_some_and(|i| crosses(&i.raw)) {
        return RflagsBits::DF;
    }
    let successors = block.successors();
    if successors.is_empty() {
        return ALL_FLAGS;
    }
    successors.into_iter().fold(0, |live, pc| live | need(pc))
}

#[cfg(test)]
mod tests {
    use iced_x86::RflagsBits;
    use xlate_llvm::KnownTable;
    use xlate_x86::TableJump;
    use xlate_x86::decode::{SliceSource, decode_block};

    use super::*;

    const JUMP: u64 = 0x1000;
    const CASE: u64 = JUMP + 11;

    /// Flags live behind the addition of a region: `add rbx, 1; jmp [rax*8]`, and a case that begins so.
    fn live_before_jump(case: &[u8], table: bool, rule: FlagRule) -> Flags {
        let code = [&[0x48, 0x83, 0xc3, 0x01, 0xff, 0x24, 0xc5, 0, 0x20, 0, 0][..], case, &[0xc3]].concat();
        let code = SliceSource { address: JUMP, bytes: &code };
        let blocks = [JUMP, CASE].map(|pc| decode_block(&code, pc, 64, false));
        let jump = TableJump::of(&blocks[0]);
        let mut region = Region::of(JUMP, blocks);
        region.indirect.insert(JUMP, vec![CASE]);
        if let Some(jump) = jump.filter(|_| table) {
            region.blocks[0].table = Some(KnownTable { jump, base: 0, targets: vec![CASE] });
        }
        refine(&mut region, &code, rule);
        region.blocks[0].block.insns[0].live()
    }

    #[test]
    fn a_known_table_keeps_the_flags_that_its_cases_inside_read() {
        // add ecx, ecx, or adc ecx, ecx
        let (writes, reads) = ([0x01, 0xc9], [0x11, 0xc9]);
        let kept = |case, table, rule| live_before_jump(case, table, rule) & !RflagsBits::DF;
        assert_eq!(kept(&writes, true, FlagRule::Convention), 0);
        assert_eq!(kept(&reads, true, FlagRule::Convention), RflagsBits::CF);
        let all = ALL_FLAGS & !RflagsBits::DF;
        assert_eq!(kept(&writes, false, FlagRule::Convention), all);
        assert_eq!(kept(&writes, true, FlagRule::Exact), all);
    }
}

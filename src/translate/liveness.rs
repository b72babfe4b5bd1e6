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

/// The least solution of the usual backward equations, for each block.
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
            let out = successors_need(rule, &b.block, |pc| match places.from(n, b.frame, pc) {
                Some(successor) => at_entry[successor],
                None => *outside.entry(pc).or_insert_with(|| live_in(rule, code, pc)),
            });
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

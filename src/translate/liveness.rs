//! Flags over a whole region: a block's own look ahead ends after a few instructions, here edges inside the
//! region are followed to the end.

use std::collections::HashMap;

use xlate_llvm::{Places, Region};
use xlate_x86::Block;
use xlate_x86::decode::{ALL_FLAGS, CodeSource, Flags, before, live_in};

/// Narrows what each instruction's flags are needed for. Both estimates, the block's and the region's, err on the
/// side of "needed", so what one of them rules out is not needed.
pub fn refine(region: &mut Region, code: &dyn CodeSource) {
    let out = live_out(region, code);
    for (b, out) in region.blocks.iter_mut().zip(out) {
        let mut live = out;
        for insn in b.block.insns.iter_mut().rev() {
            insn.set_live(insn.live() & live);
            live = before(&insn.raw, live);
        }
    }
}

/// The least solution of the usual backward equations, for each block.
fn live_out(region: &Region, code: &dyn CodeSource) -> Vec<Flags> {
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
            let mut outside = |pc| *outside.entry(pc).or_insert_with(|| live_in(code, pc));
            let out = successors_need(&b.block, |pc| inside(pc).unwrap_or_else(|| outside(pc)));
            at_exit[n] = out;
            let entry = b.block.insns.iter().rev().fold(out, |live, i| before(&i.raw, live));
            changed |= core::mem::replace(&mut at_entry[n], entry) != entry;
        }
    }
    at_exit
}

/// A block whose successors aren't all known needs everything.
fn successors_need(block: &Block, mut need: impl FnMut(u64) -> Flags) -> Flags {
    let successors = block.successors();
    if successors.is_empty() {
        return ALL_FLAGS;
    }
    successors.into_iter().fold(0, |live, pc| live | need(pc))
}

#[cfg(test)]
mod tests {
    use iced_x86::RflagsBits;
    use xlate_x86::decode::{SliceSource, decode_block};

    use super::*;

    const ENTRY: u64 = 0x1000;

    /// Flags live behind the addition of a region that begins `add rbx, 1; jmp` to this code, which it has or not.
    fn live_before_jump(code: &[u8], inside: bool) -> Flags {
        let code = [&[0x48, 0x83, 0xc3, 0x01, 0xeb, 0x00][..], code].concat();
        let code = SliceSource { address: ENTRY, bytes: &code };
        let blocks: &[u64] = if inside { &[ENTRY, ENTRY + 6] } else { &[ENTRY] };
        let mut region = Region::of(ENTRY, blocks.iter().map(|pc| decode_block(&code, *pc, 64, false)));
        refine(&mut region, &code);
        region.blocks[0].block.insns[0].live() & !RflagsBits::DF
    }

    #[test]
    fn what_is_overwritten_before_it_is_read_is_not_needed() {
        let all = ALL_FLAGS & !RflagsBits::DF;
        for inside in [false, true] {
            // add ecx, ecx; ret
            assert_eq!(live_before_jump(&[0x01, 0xc9, 0xc3], inside), 0);
            // adc ecx, ecx; ret
            assert_eq!(live_before_jump(&[0x11, 0xc9, 0xc3], inside), RflagsBits::CF);
            // ret
            assert_eq!(live_before_jump(&[0xc3], inside), all);
            // jmp rax
            assert_eq!(live_before_jump(&[0xff, 0xe0], inside), all);
        }
    }
}

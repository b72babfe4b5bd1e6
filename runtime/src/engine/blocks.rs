//! The blocks the dispatcher knows, by guest address and by page.

use std::collections::HashMap;
use std::rc::Rc;

use xlate_x86::interpreter::DecodedBlock;

const PAGE_SHIFT: u32 = 12;

/// Decoded blocks by entry address.
#[derive(Default)]
pub struct Blocks {
    by_pc: HashMap<u64, Rc<DecodedBlock>>,
    /// Entry addresses of the blocks that have bytes in a page.
    by_page: HashMap<u64, Vec<u64>>,
}

fn pages(start: u64, end: u64) -> impl Iterator<Item = u64> {
    (start >> PAGE_SHIFT)..=(end.saturating_sub(1).max(start) >> PAGE_SHIFT)
}

impl Blocks {
    pub fn get(&self, pc: u64) -> Option<Rc<DecodedBlock>> {
        self.by_pc.get(&pc).cloned()
    }

    pub fn insert(&mut self, block: Rc<DecodedBlock>) {
        let (pc, end) = (block.block.pc, block.block.end);
        for page in pages(pc, end) {
            self.by_page.entry(page).or_default().push(pc);
        }
        self.by_pc.insert(pc, block);
    }

    /// Forgets the blocks that have bytes in a range.
    pub fn remove_range(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        let touched: Vec<u64> = self
            .by_page
            .iter()
            .filter(|(page, _)| (start >> PAGE_SHIFT..=(end - 1) >> PAGE_SHIFT).contains(*page))
            .flat_map(|(_, pcs)| pcs.iter().copied())
            .collect();
        for pc in touched {
            let overlaps = self.by_pc.get(&pc).is_some_and(|b| pc < end && b.block.end > start);
            if overlaps {
                self.remove(pc);
            }
        }
    }

    fn remove(&mut self, pc: u64) {
        let Some(block) = self.by_pc.remove(&pc) else {
            return;
        };
        for page in pages(pc, block.block.end) {
            if let Some(pcs) = self.by_page.get_mut(&page) {
                pcs.retain(|p| *p != pc);
            }
        }
    }
}

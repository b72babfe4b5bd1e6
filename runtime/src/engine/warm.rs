//! `--warm`: before the process ends, everything that ran often is compiled and kept for later runs, not only what
//! was hot enough to pay within this one.

use std::collections::HashSet;
use std::time::Duration;

use super::{Engine, GuestCode};

/// Executions that make a block worth a region in later runs. Below, tier 1 does as well, and its code is kept, too.
const WORTH: u64 = 512;
/// Requests that wait at a time: few, for an answer shows which blocks need none of their own any more.
const WINDOW: usize = 2;

impl Engine {
    /// Waits for what was asked for, and asks for the rest, the most often executed first.
    pub fn warm_up(&mut self, memory: &dyn GuestCode) {
        self.warm_up_blocks(memory);
        let mut left: Vec<(u64, u64)> = Vec::new();
        for pc in self.table.block_addresses() {
            let count = self.count(pc);
            if count >= WORTH {
                left.push((count, pc));
            }
        }
        left.sort_unstable();
        let mut covered = HashSet::new();
        while let Some((count, pc)) = left.pop() {
            self.wait_for_answers(WINDOW);
            covered.extend(self.table.region_parts());
            let refused = self.table.block(pc).is_none_or(|e| e.no_region || e.snapshot.is_some());
            if !refused && !covered.contains(&pc) && self.asks_for_regions() {
                let grows = self.table.region_to_grow(pc, count);
                self.request_region(grows.unwrap_or(pc), grows.is_some(), memory);
                if grows.is_some() {
                    // Should the block not fit in, it gets its own.
                    left.push((count, pc));
                    self.wait_for_answers(1);
                }
            }
        }
        self.wait_for_answers(1);
    }

    /// Waits until fewer than `most` requests have no answer.
    fn wait_for_answers(&mut self, most: usize) {
        loop {
            self.collect_answers();
            match &self.tier2 {
                Some(tier2) if tier2.waiting() >= most => tier2.wait(Duration::from_millis(100)),
                _ => return,
            }
        }
    }
}

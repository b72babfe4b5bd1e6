//! Region formation: which basic blocks are compiled together.
//!
//! O1 takes the entry's block alone. O2 and above grow the region from the entry along direct edges, hottest
//! block first, as the profile has counted them: that takes in whole loops, hot sides of branches, and direct
//! calls with the code behind them. What the profile hasn't seen, or hardly, stays outside as an exit. Without
//! a profile (tier 2 from the first execution) a few blocks along the edges make the region.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;

use iced_x86::FlowControl;
use xlate_abi::protocol::{CodeOptions, CompileRequest, OptLevel};
use xlate_llvm::{Region, RegionBlock};
use xlate_x86::decode::{MAX_BLOCK, decode_block_by};
use xlate_x86::{Block, BlockEnd, decode_block};

use super::RequestCode;
use super::liveness;

/// Most instructions in one region. LLVM's time grows a little faster than linearly; at this size a region takes
/// some tens of milliseconds.
const MAX_INSTRUCTIONS: usize = 256;

/// Most blocks, for regions of very short ones.
const MAX_BLOCKS: usize = 96;

/// Most blocks where there is no profile to tell hot from cold.
const MAX_UNPROFILED: usize = 6;

/// A block belongs inside if it ran at least this fraction of the entry's count.
const COLD_FRACTION: u64 = 64;

/// Chooses the region's blocks; `None` when there is no translatable instruction at the entry.
pub fn form_region(request: &CompileRequest) -> Option<Region> {
    let code = RequestCode(&request.code);
    let mut growth = Growth::new(request, &code);
    growth.add(request.entry);
    if request.options.opt >= OptLevel::O2 {
        growth.grow();
    }
    let mut region = growth.region;
    let inside: HashSet<u64> = region.blocks.iter().map(|b| b.block.pc).collect();
    region.indirect = growth.indirect.iter().copied().filter(|pc| inside.contains(pc)).collect();
    if region.blocks.is_empty() {
        return None;
    }
    if !request.options.precise {
        liveness::refine(&mut region, &code, request.options.flags);
    }
    Some(region)
}

struct Growth<'a> {
    code: &'a RequestCode<'a>,
    options: CodeOptions,
    counts: HashMap<u64, u64>,
    threshold: u64,
    profiled: bool,
    instructions: usize,
    seen: HashSet<u64>,
    /// Candidates by (count, earlier ones first).
    candidates: BinaryHeap<(u64, std::cmp::Reverse<usize>, u64)>,
    /// Where indirect jumps may lead.
    indirect: Rc<[u64]>,
    region: Region,
}

impl<'a> Growth<'a> {
    fn new(request: &CompileRequest, code: &'a RequestCode<'a>) -> Self {
        let counts: HashMap<u64, u64> = request.profile.iter().map(|b| (b.pc, b.count)).collect();
        let called = if request.indirect.is_empty() { HashSet::new() } else { called(request, code) };
        let indirect = request.indirect.iter().copied().filter(|pc| !called.contains(pc)).collect();
        let entry_count = counts.get(&request.entry).copied().unwrap_or(0);
        Self {
            code,
            options: request.options,
            threshold: (entry_count / COLD_FRACTION).max(1),
            profiled: counts.iter().any(|(pc, count)| *pc != request.entry && *count > 0),
            counts,
            instructions: 0,
            seen: HashSet::new(),
            candidates: BinaryHeap::new(),
            indirect,
            region: Region { entry: request.entry, blocks: Vec::new(), indirect: Vec::new() },
        }
    }

    fn count(&self, pc: u64) -> u64 {
        self.counts.get(&pc).copied().unwrap_or(0)
    }

    fn grow(&mut self) {
        while let Some((_, _, pc)) = self.candidates.pop() {
            if self.full() {
                return;
            }
            self.add(pc);
        }
    }

    fn full(&self) -> bool {
        let blocks = if self.profiled { MAX_BLOCKS } else { MAX_UNPROFILED };
        self.region.blocks.len() >= blocks || self.instructions >= MAX_INSTRUCTIONS
    }

    /// Takes a block in, if there is one, and its successors as candidates.
    fn add(&mut self, pc: u64) {
        if !self.seen.insert(pc) {
            return;
        }
        let room = MAX_INSTRUCTIONS.saturating_sub(self.instructions).clamp(1, MAX_BLOCK);
        let mut block = decode_block_by(self.options.flags, self.code, pc, room, self.options.precise);
        if block.is_empty() {
            return;
        }
        if block.exit == BlockEnd::FetchFault {
            // The request's bytes end here, which says nothing about the guest's memory.
            block.exit = BlockEnd::FallThrough;
        }
        self.instructions += block.insns.len();
        for next in continuations(&block) {
            self.propose(next);
        }
        if block.jumps_indirectly() {
            let indirect = Rc::clone(&self.indirect);
            indirect.iter().for_each(|next| self.propose(*next));
        }
        let count = self.count(pc);
        self.region.blocks.push(RegionBlock { block, count });
    }

    fn propose(&mut self, pc: u64) {
        let count = self.count(pc);
        if !self.profiled || count >= self.threshold {
            let order = std::cmp::Reverse(self.candidates.len() + self.seen.len());
            self.candidates.push((count, order, pc));
        }
    }
}

/// Addresses that the request's code calls directly: functions are called, jumps don't lead there.
fn called(request: &CompileRequest, code: &RequestCode<'_>) -> HashSet<u64> {
    let blocks = request.profile.iter().map(|b| decode_block(code, b.pc, MAX_BLOCK, true));
    let calls = blocks.filter(|b| b.insns.last().is_some_and(|i| i.raw.flow_control() == FlowControl::Call));
    calls.flat_map(|b| b.successors()).collect()
}

/// Where control may go on inside a region: direct successors; behind a call, which is a call of the host's, the
/// address that it returns to.
fn continuations(block: &Block) -> Vec<u64> {
    match block.insns.last().map(|i| (i.raw.flow_control(), i.raw.next_ip())) {
        Some((FlowControl::Call | FlowControl::IndirectCall, next)) if block.exit == BlockEnd::Terminator => vec![next],
        _ => block.successors(),
    }
}

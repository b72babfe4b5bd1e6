//! Region formation: which basic blocks are compiled together.
//!
//! O1 takes the entry's block alone. O2 and above grow the region from the entry along direct edges, hottest
//! block first, as the profile has counted them: that takes in whole loops, hot sides of branches, and the code
//! behind calls. Then the hottest calls are followed ([`xlate_llvm::Frames`]) as long as there is room: callees
//! whose hot part is short stand in place of their call, recursion a few levels deep. What the profile hasn't seen, or
//! hardly, stays outside as an exit. Without a profile (tier 2 from the first execution) a few blocks along the
//! edges make the region.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use iced_x86::FlowControl;
use xlate_abi::protocol::{COLD_FRACTION, CodeBytes, CodeOptions, CompileRequest, Formed, IndirectTargets, OptLevel};
use xlate_llvm::{Frames, KnownTable, Region, RegionBlock};
use xlate_x86::decode::{MAX_BLOCK, decode_block, decode_mutable};
use xlate_x86::{Block, BlockEnd, TableJump};

use super::{RegionSize, RequestCode, liveness, tails};

/// Most blocks where there is no profile to tell hot from cold.
const MAX_UNPROFILED: usize = 6;

/// Most instructions in the hot part of a callee that is compiled in place.
const MAX_CALLEE: usize = 80;

/// Most calls inside one another.
const MAX_DEPTH: usize = 6;

/// Chooses the region's blocks, no more than `most`; `None` when there is no translatable instruction at the entry.
pub fn form_region(request: &CompileRequest, most: RegionSize) -> Option<Region> {
    let code = RequestCode(&request.code);
    let mut growth = Growth::new(request, &code, most);
    growth.add(Place { frame: Frames::OWN, pc: request.entry });
    if request.options.opt >= OptLevel::O2 {
        growth.grow();
    }
    let mut region = growth.region;
    if region.blocks.is_empty() {
        return None;
    }
    if growth.profiled {
        tails::duplicate(&mut region, most);
    }
    if !request.options.precise && !request.mutable {
        liveness::refine(&mut region, &code);
    }
    Some(region)
}

/// Where a block stands in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    frame: usize,
    pc: u64,
}

/// What might be taken in: the heaviest first, among equals the first found.
type Candidates<T> = BinaryHeap<(u64, Reverse<usize>, T)>;

/// A call that might be followed: the caller's frame, where it returns to, what it calls.
type FollowableCall = (usize, u64, u64);

struct Growth<'a> {
    code: &'a RequestCode<'a>,
    options: CodeOptions,
    mutable: bool,
    most: RegionSize,
    counts: HashMap<u64, u64>,
    /// The tables' bytes, and what their base registers hold by the block that jumps through them.
    data: &'a [CodeBytes],
    table_bases: HashMap<u64, u64>,
    threshold: u64,
    profiled: bool,
    instructions: usize,
    seen: HashSet<Place>,
    blocks: Candidates<Place>,
    calls: Candidates<FollowableCall>,
    /// By frame: what its blocks' counts are to be multiplied by, for a function is called from elsewhere as well.
    shares: Vec<f64>,
    region: Region,
}

impl<'a> Growth<'a> {
    fn new(request: &'a CompileRequest, code: &'a RequestCode<'a>, most: RegionSize) -> Self {
        let counts: HashMap<u64, u64> = request.profile.iter().map(|b| (b.pc, b.count)).collect();
        let entry_count = counts.get(&request.entry).copied().unwrap_or(0);
        let indirect = request.indirect.iter().map(|i| (i.from, i.to.clone())).collect();
        Self {
            code,
            options: request.options,
            mutable: request.mutable,
            most,
            threshold: (entry_count / COLD_FRACTION).max(1),
            profiled: counts.iter().any(|(pc, count)| *pc != request.entry && *count > 0),
            counts,
            data: &request.data,
            table_bases: request.indirect.iter().filter_map(|i| Some((i.from, i.table_base?))).collect(),
            instructions: 0,
            seen: HashSet::new(),
            blocks: BinaryHeap::new(),
            calls: BinaryHeap::new(),
            shares: vec![1.0],
            region: Region { indirect, ..Region::of(request.entry, []) },
        }
    }

    /// How often the profile has seen the code at `pc`.
    fn counted(&self, pc: u64) -> u64 {
        self.counts.get(&pc).copied().unwrap_or(0)
    }

    /// How often it presumably ran in this frame.
    fn weight(&self, place: Place) -> u64 {
        (self.counted(place.pc) as f64 * self.shares[place.frame]) as u64
    }

    fn grow(&mut self) {
        loop {
            while let Some((_, _, place)) = self.blocks.pop() {
                if self.full() {
                    return;
                }
                self.add(place);
            }
            match self.calls.pop() {
                Some((weight, _, call)) if !self.full() => self.follow(weight, call),
                _ => return,
            }
        }
    }

    fn full(&self) -> bool {
        let blocks = if self.profiled { self.most.blocks } else { self.most.blocks.min(MAX_UNPROFILED) };
        self.region.blocks.len() >= blocks || self.instructions >= self.most.instructions
    }

    fn decode(&self, pc: u64, most: usize) -> Block {
        if self.mutable {
            return decode_mutable(self.code, pc, most, false);
        }
        let mut block = decode_block(self.code, pc, most, self.options.precise);
        if block.exit == BlockEnd::FetchFault && !block.is_empty() {
            // The request's bytes end here, which says nothing about the guest's memory.
            block.exit = BlockEnd::FallThrough;
        }
        block
    }

    /// Takes a block in, if there is one, and its successors as candidates.
    fn add(&mut self, place: Place) {
        if !self.seen.insert(place) {
            return;
        }
        let room = self.most.instructions.saturating_sub(self.instructions).clamp(1, MAX_BLOCK);
        let block = self.decode(place.pc, room);
        if block.is_empty() {
            return;
        }
        self.instructions += block.insns.len();
        for next in continuations(&block, self.likely(&block)) {
            self.propose(Place { pc: next, ..place });
        }
        let count = self.weight(place);
        for callee in self.callees(&block) {
            self.propose_call(count, (place.frame, block.end(), callee));
        }
        let table = self.known_table(&block);
        self.region.blocks.push(RegionBlock { block, count, frame: place.frame, copy_for: None, table });
    }

    /// What is known of the table that a block jumps through. A block that was cut short of its jump has none.
    fn known_table(&self, block: &Block) -> Option<KnownTable> {
        let base = *self.table_bases.get(&block.pc)?;
        let jump = TableJump::of(block)?;
        let address = jump.table.at(base);
        let data = self.data.iter().find(|d| d.address == address)?;
        let targets = jump.targets(base, &data.bytes);
        Some(KnownTable { jump, base, targets })
    }

    fn propose(&mut self, place: Place) {
        let weight = self.weight(place);
        if !self.profiled || weight >= self.threshold {
            let order = Reverse(self.blocks.len() + self.seen.len());
            self.blocks.push((weight, order, place));
        }
    }

    fn propose_call(&mut self, weight: u64, call: FollowableCall) {
        if !self.profiled || weight >= self.threshold {
            let order = Reverse(self.calls.len() + self.seen.len());
            self.calls.push((weight, order, call));
        }
    }

    /// Compiles a callee in place if there is room for its hot part.
    fn follow(&mut self, weight: u64, (caller, return_to, callee): FollowableCall) {
        let room = self.most.instructions.saturating_sub(self.instructions).min(MAX_CALLEE);
        let share = if self.profiled { weight as f64 / self.counted(callee).max(1) as f64 } else { 1.0 };
        let fits = (1..=room).contains(&self.hot_size(callee, share, room));
        if !fits || self.region.frames.depth(caller) >= MAX_DEPTH {
            return;
        }
        let frame = self.region.frames.follow(caller, return_to);
        if frame == self.shares.len() {
            self.shares.push(share);
        }
        self.propose(Place { frame, pc: callee });
    }

    /// Instructions of a function's hot blocks, counted up to a little more than `enough`.
    fn hot_size(&self, function: u64, share: f64, enough: usize) -> usize {
        let mut size = 0;
        let mut seen = HashSet::from([function]);
        let mut todo = vec![function];
        while let Some(pc) = todo.pop() {
            let hot = (self.counted(pc) as f64 * share) as u64 >= self.threshold;
            if self.profiled && !hot {
                continue;
            }
            let block = self.decode(pc, MAX_BLOCK);
            size += block.insns.len();
            if size > enough {
                break;
            }
            todo.extend(continuations(&block, self.likely(&block)).into_iter().filter(|next| seen.insert(*next)));
        }
        size
    }

    /// What the call at a block's end calls, as far as is known.
    fn callees(&self, block: &Block) -> Vec<u64> {
        match ended_by(block) {
            Some(FlowControl::Call) => block.successors(),
            Some(FlowControl::IndirectCall) => self.likely(block).to_vec(),
            _ => Vec::new(),
        }
    }

    fn likely(&self, block: &Block) -> &[u64] {
        self.region.indirect.get(&block.pc).map_or(&[], Vec::as_slice)
    }
}

/// Where control may go on inside a frame: direct successors, and where an indirect jump leads; behind a call, the
/// address that it returns to.
fn continuations(block: &Block, jumps_to: &[u64]) -> Vec<u64> {
    match ended_by(block) {
        Some(FlowControl::Call | FlowControl::IndirectCall) => vec![block.end()],
        Some(FlowControl::IndirectBranch) => jumps_to.to_vec(),
        _ => block.successors(),
    }
}

/// What the region was formed by.
pub fn formed(request: &CompileRequest, region: &Region) -> Formed {
    let inside: HashSet<u64> = region.blocks.iter().map(|b| b.block.pc).collect();
    let of_block = |pc: u64| inside.contains(&pc);
    let of_table = |targets: &IndirectTargets| {
        let said = if targets.table_base.is_some() { 1 } else { targets.to.len() };
        IndirectTargets { to: targets.to[..said].to_vec(), ..targets.clone() }
    };
    let leads_to = |b: &RegionBlock| {
        let listed = region.indirect.get(&b.block.pc).map_or(&[][..], Vec::as_slice);
        continuations(&b.block, b.table.as_ref().map_or(listed, |table| &table.targets))
    };
    let exits: BTreeSet<u64> = region.blocks.iter().flat_map(leads_to).filter(|pc| !of_block(*pc)).collect();
    Formed {
        grown: request.grows,
        profile: request.profile.iter().filter(|b| of_block(b.pc)).copied().collect(),
        indirect: request.indirect.iter().filter(|i| of_block(i.from)).map(of_table).collect(),
        exits: exits.into_iter().collect(),
    }
}

/// The kind of the instruction that ends a block by itself.
fn ended_by(block: &Block) -> Option<FlowControl> {
    let last = block.insns.last().filter(|_| block.exit == BlockEnd::Terminator)?;
    // iced-x86 counts system calls as calls: the block's end is their only successor.
    Some(last.raw.flow_control()).filter(|_| last.raw.op_count() > 0 || last.raw.flow_control() == FlowControl::Return)
}

#[cfg(test)]
mod tests {
    use xlate_abi::protocol::BlockProfile;
    use xlate_llvm::Call;

    use super::*;

    const CALLER: u64 = 0x1000;
    const CALLEE: u64 = 0x1100;

    /// A request for a region from `CALLER` on, of code at its place and at `CALLEE`'s.
    fn request(caller: &[u8], callee: &[u8], counts: &[(u64, u64)]) -> CompileRequest {
        CompileRequest {
            id: 1,
            entry: CALLER,
            target: xlate_llvm::host_target(),
            options: CodeOptions { opt: OptLevel::O2, precise: false, tso: false },
            grows: false,
            mutable: false,
            profile: counts.iter().map(|&(pc, count)| BlockProfile { pc, count }).collect(),
            indirect: Vec::new(),
            code: [(CALLER, caller), (CALLEE, callee)]
                .map(|(address, bytes)| CodeBytes { address, bytes: bytes.to_vec() })
                .to_vec(),
            data: Vec::new(),
        }
    }

    fn region(caller: &[u8], callee: &[u8], counts: &[(u64, u64)], indirect: Vec<IndirectTargets>) -> Region {
        let request = CompileRequest { indirect, ..request(caller, callee, counts) };
        form_region(&request, RegionSize::MOST).expect("there is code")
    }

    fn places(region: &Region) -> Vec<(usize, u64, u64)> {
        region.blocks.iter().map(|b| (b.frame, b.block.pc, b.count)).collect()
    }

    /// call CALLEE; ret
    const CALLS: [u8; 6] = [0xe8, 0xfb, 0, 0, 0, 0xc3];
    /// add eax, 1; ret
    const SMALL: [u8; 4] = [0x83, 0xc0, 0x01, 0xc3];

    #[test]
    fn a_hot_call_is_followed_with_its_share_of_the_callees_count() {
        let counts = [(CALLER, 1000), (CALLER + 5, 1000), (CALLEE, 50_000)];
        let region = region(&CALLS, &SMALL, &counts, Vec::new());
        assert_eq!(places(&region), [(0, CALLER, 1000), (0, CALLER + 5, 1000), (1, CALLEE, 1000)]);
        assert_eq!(region.frames.call(1), Some(Call { caller: 0, return_to: CALLER + 5 }));
    }

    #[test]
    fn a_callee_that_is_long_or_never_ran_stays_outside() {
        let long = [&[0x90].repeat(MAX_CALLEE), &SMALL[..]].concat();
        for (callee, count) in [(&long[..], 1000), (&SMALL[..], 0)] {
            let cut = CALLEE + MAX_BLOCK as u64;
            let counts = [(CALLER, 1000), (CALLER + 5, 1000), (CALLEE, count), (cut, count)];
            let region = region(&CALLS, callee, &counts, Vec::new());
            assert_eq!(places(&region), [(0, CALLER, 1000), (0, CALLER + 5, 1000)]);
        }
    }

    #[test]
    fn recursion_is_followed_a_few_levels_deep() {
        // call CALLER; ret
        let region = region(&[0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3], &[], &[(CALLER, 1000), (CALLER + 5, 1000)], vec![]);
        let deepest = region.blocks.iter().map(|b| region.frames.depth(b.frame)).max();
        assert_eq!((deepest, region.blocks.len()), (Some(MAX_DEPTH), 2 * (MAX_DEPTH + 1)));
    }

    #[test]
    fn a_table_comes_along_where_its_bytes_do() {
        // add eax, 1; jmp [rax*8+0x2000]
        let jump = [0x83, 0xc0, 0x01, 0xff, 0x24, 0xc5, 0x00, 0x20, 0, 0];
        let data = |address| CodeBytes { address, bytes: CALLEE.to_le_bytes().to_vec() };
        let short = RegionSize { instructions: 1, ..RegionSize::MOST };
        for (address, most, found) in
            [(0x2000, RegionSize::MOST, true), (0x2008, RegionSize::MOST, false), (0x2000, short, false)]
        {
            let request = CompileRequest {
                indirect: vec![IndirectTargets { from: CALLER, to: vec![CALLEE], table_base: Some(0) }],
                data: vec![data(address)],
                ..request(&jump, &SMALL, &[(CALLER, 1000), (CALLEE, 1000)])
            };
            let region = form_region(&request, most).expect("there is code");
            let table = region.blocks[0].table.as_ref();
            assert_eq!(table.map(|t| t.targets.clone()), found.then(|| vec![CALLEE]));
        }
    }

    #[test]
    fn a_region_says_what_it_was_formed_by_and_leaves_for() {
        // jne +0x10; jmp [0x2000]
        let code = [0x75, 0x10, 0xff, 0x24, 0x25, 0x00, 0x20, 0, 0];
        let jump = CALLER + 2;
        let table = [CALLEE, 0x3000].map(u64::to_le_bytes).concat();
        let request = CompileRequest {
            grows: true,
            mutable: false,
            indirect: vec![IndirectTargets { from: jump, to: vec![CALLEE, 0x3000], table_base: Some(0) }],
            data: vec![CodeBytes { address: 0x2000, bytes: table }],
            ..request(&code, &SMALL, &[(CALLER, 1000), (jump, 900), (CALLEE, 800), (0x3000, 1), (0x5000, 1000)])
        };
        let region = form_region(&request, RegionSize::MOST).expect("there is code");
        let formed = formed(&request, &region);
        let counts: Vec<_> = formed.profile.iter().map(|b| (b.pc, b.count)).collect();
        assert_eq!(counts, [(CALLER, 1000), (jump, 900), (CALLEE, 800)]);
        assert_eq!((formed.exits, formed.grown), (vec![CALLER + 0x12, 0x3000], true));
        let target = IndirectTargets { from: jump, to: vec![CALLEE], table_base: Some(0) };
        assert_eq!(formed.indirect, [target]);
    }

    #[test]
    fn an_indirect_call_is_followed_to_where_it_led() {
        // call rax; ret
        let targets = vec![IndirectTargets { from: CALLER, to: vec![CALLEE], table_base: None }];
        let counts = [(CALLER, 1000), (CALLER + 2, 1000), (CALLEE, 1000)];
        let region = region(&[0xff, 0xd0, 0xc3], &SMALL, &counts, targets);
        assert_eq!(places(&region), [(0, CALLER, 1000), (0, CALLER + 2, 1000), (1, CALLEE, 1000)]);
    }
}

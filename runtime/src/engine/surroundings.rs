//! What a request for a region tells the service: the code around its entry, how often it ran, and where its indirect
//! jumps and calls lead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use iced_x86::FlowControl;
use xlate_abi::protocol::{BlockProfile, COLD_FRACTION, CodeBytes, IndirectTargets};
use xlate_x86::decode::calls_directly;
use xlate_x86::{Block, BlockEnd, TableJump};

use super::table::{AddressMap, AddressSet, LONGEST_FUNCTION, Table};
use super::{Engine, GuestCode};

/// Blocks that a request describes at most.
const MAX_BLOCKS: usize = 320;
/// The same where a region is to grow.
const MAX_GROWN_BLOCKS: usize = 1000;
/// Blocks among them that have never run: they are sent for the look behind a region's exits, or because there is no
/// profile yet.
const MAX_UNKNOWN: usize = 48;
/// Most targets of one indirect jump that are taken along.
const MAX_TARGETS: usize = 32;
/// Most entries of a jump table that are looked at.
const MOST_ENTRIES: usize = 1024;
/// Most bytes of guest code in a region whose entry is compiled once more as a part of another one.
const MAX_REPEATED: u64 = 400;
/// Bytes of code that are sent of each block behind those.
const AHEAD: usize = 48;

/// The code around an entry.
#[derive(Default)]
pub(super) struct Surroundings {
    pub profile: Vec<BlockProfile>,
    pub blocks: AddressSet,
    /// The guest's stores may change the code: all of it, or none.
    pub mutable: bool,
    ranges: Vec<(u64, u64)>,
    /// What indirect jumps and calls probably lead to.
    pub indirect: Vec<IndirectTargets>,
    /// The tables among these.
    pub data: Vec<CodeBytes>,
    compiled: Compiled,
}

/// A table of constants that a jump reads its target from.
struct JumpTable {
    /// What the register holds that it is addressed by.
    base: u64,
    /// The entries that are probably used, in order.
    likely: Vec<u64>,
    data: CodeBytes,
}

/// What the regions near an address were formed by. Their blocks aren't counted any more.
#[derive(Default)]
struct Compiled {
    counts: AddressMap<u64>,
    /// By the address of the block.
    indirect: AddressMap<IndirectTargets>,
}

impl Compiled {
    /// Of the regions that may be in the same function.
    fn near(pc: u64, table: &Table) -> Self {
        let mut compiled = Self::default();
        for formed in table.formed_near(pc, LONGEST_FUNCTION) {
            for block in &formed.profile {
                let count = compiled.counts.entry(block.pc).or_default();
                *count = block.count.max(*count);
            }
            compiled.indirect.extend(formed.indirect.iter().map(|targets| (targets.from, targets.clone())));
        }
        compiled
    }
}

/// Blocks that were come upon.
#[derive(Default)]
struct Found {
    seen: AddressSet,
    /// By how often they ran; among equals the first.
    hottest: BinaryHeap<(u64, Reverse<usize>, u64)>,
}

impl Found {
    fn push(&mut self, pc: u64, count: u64) {
        if self.seen.insert(pc) {
            self.hottest.push((count, Reverse(self.seen.len()), pc));
        }
    }
}

impl Surroundings {
    fn take(&mut self, block: &Block, count: u64) {
        self.blocks.insert(block.pc);
        self.ranges.push((block.pc, block.end()));
        if count > 0 {
            self.profile.push(BlockProfile { pc: block.pc, count });
        }
    }

    /// Takes code along by which it is seen what flags are needed: only such as the guest can't write to, because a store of
    /// the region's may come in between. What may change tells nothing.
    fn look_at(&mut self, pc: u64, memory: &dyn GuestCode) {
        let there = if self.mutable { 0 } else { memory.fetch_fixed(pc, &mut [0; AHEAD]) };
        if there > 0 {
            self.ranges.push((pc, pc + there as u64));
        }
    }

    /// Takes a table along, or more of it.
    fn take_data(&mut self, data: CodeBytes) {
        match self.data.iter_mut().find(|known| known.address == data.address) {
            Some(known) if known.bytes.len() >= data.bytes.len() => {}
            Some(known) => *known = data,
            None => self.data.push(data),
        }
    }

    /// The ranges in order, joined where they touch.
    pub fn joined(&self) -> Vec<(u64, u64)> {
        let mut ranges = self.ranges.clone();
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        joined
    }
}

/// Addresses at which execution may go on behind a block, the return from a call included.
fn continuations(block: &Block) -> Vec<u64> {
    let mut next = block.successors();
    if calls(block) {
        next.push(block.end());
    }
    next
}

/// Whether a block ends with a call of a function.
fn calls(block: &Block) -> bool {
    block.exit == BlockEnd::Terminator
        && block
            .insns
            .last()
            .is_some_and(|i| i.raw.flow_control() == FlowControl::IndirectCall || calls_directly(&i.raw))
}

impl Engine {
    /// The blocks that can be reached from `pc` and aren't cold beside it, hottest first, with their counts. For a region
    /// that grows they are more, and what is compiled already in its function is among them.
    pub(super) fn surroundings(&mut self, pc: u64, grows: bool, memory: &dyn GuestCode) -> Surroundings {
        let most = if grows { MAX_GROWN_BLOCKS } else { MAX_BLOCKS };
        let mutable = self.decoded(pc, memory).is_some_and(|entry| entry.block.mutable);
        let compiled = Compiled::near(pc, &self.table);
        let mut around = Surroundings { compiled, mutable, ..Surroundings::default() };
        let mut unknown = 0;
        let mut found = Found::default();
        let cold = self.heat(pc, &around) / COLD_FRACTION;
        found.push(pc, u64::MAX);
        while around.blocks.len() < most
            && let Some((ran, _, at)) = found.hottest.pop()
        {
            if ran < cold || at != pc && self.is_gone_to(at, grows) {
                around.look_at(at, memory);
                continue;
            }
            let known = self.decoded(at, memory);
            let decoded;
            let block = match &known {
                Some(known) => &known.block,
                None if unknown == MAX_UNKNOWN => {
                    around.look_at(at, memory);
                    continue;
                }
                None => {
                    unknown += 1;
                    (decoded, _) = self.decode_block(memory, at);
                    &decoded
                }
            };
            let unfit = block.mutable != mutable || mutable && !self.can_watch(memory, at, block.end());
            if block.is_empty() || unfit {
                continue;
            }
            around.take(block, self.heat(at, &around));
            let seen = known.as_ref().map_or_else(Vec::new, |k| k.observed_targets());
            let targets = self.take_targets(block, seen, &mut around, memory);
            for next in continuations(block).into_iter().chain(targets) {
                found.push(next, self.heat(next, &around));
            }
        }
        // For the look at what flags the code behind the region's exits needs.
        let rest = found.hottest.into_iter().take(MAX_BLOCKS);
        rest.for_each(|(_, _, pc)| around.look_at(pc, memory));
        around
    }

    /// Whether a region jumps to a block instead of having it inside, for it is large and compiled already. One that grows
    /// takes such regions in, if they aren't functions.
    fn is_gone_to(&self, pc: u64, grows: bool) -> bool {
        let repeats = grows && !self.table.is_function(pc);
        !repeats && self.table.region_size(pc) > MAX_REPEATED
    }

    /// Takes along where the indirect jump or call at a block's end probably leads, if it ends with one; gives it, too.
    fn take_targets(
        &self,
        block: &Block,
        mut seen: Vec<u64>,
        around: &mut Surroundings,
        memory: &dyn GuestCode,
    ) -> Vec<u64> {
        let before = around.compiled.indirect.get(&block.pc);
        seen.extend(before.into_iter().flat_map(|before| &before.to));
        let mut to = self.likely_targets(block, seen, around);
        let table = self.jump_table(block, &to, around, memory);
        let table_base = table.as_ref().map(|table| table.base);
        if let Some(table) = table {
            to = table.likely;
            around.take_data(table.data);
        }
        if !to.is_empty() {
            around.indirect.push(IndirectTargets { from: block.pc, to: to.clone(), table_base });
        }
        to
    }

    /// Where a block's indirect jump or call probably leads: to where it was seen to lead. A jump that tier 0 never ran may
    /// lead to what runs often near it, for the cases of a switch stand beside it. Too many cost time to compile, too few
    /// lead out of the region; neither makes it wrong.
    fn likely_targets(&self, block: &Block, seen: Vec<u64>, around: &Surroundings) -> Vec<u64> {
        let jumps = block.insns.last().is_some_and(|i| i.raw.flow_control() == FlowControl::IndirectBranch);
        let mut likely = if seen.is_empty() && jumps { self.table.blocks_near(block.pc) } else { seen };
        let count = self.heat(block.pc, around);
        likely.retain(|next| self.heat(*next, around) > count / COLD_FRACTION);
        likely.sort_unstable_by_key(|next| (Reverse(self.heat(*next, around)), *next));
        likely.dedup();
        likely.truncate(MAX_TARGETS);
        likely
    }

    /// The table that a block's end jumps through, and what its base register holds, if the table leads where the jump
    /// does: the last block that was promoted must tell what registers hold.
    fn jump_table(
        &self,
        block: &Block,
        seen: &[u64],
        around: &Surroundings,
        memory: &dyn GuestCode,
    ) -> Option<JumpTable> {
        let jump = TableJump::of(block)?;
        let before = around.compiled.indirect.get(&block.pc).and_then(|before| before.table_base);
        let base = before.unwrap_or_else(|| jump.base().map_or(0, |n| self.registers[n]));
        let address = jump.table.at(base);
        let mut bytes = vec![0; MOST_ENTRIES * jump.entry_size()];
        let read = memory.constants(address, &mut bytes);
        bytes.truncate(read);
        let targets = jump.targets(base, &bytes);
        if seen.is_empty() || !seen.iter().all(|to| targets.contains(to)) {
            return None;
        }
        // Tier 0 has seen the first ones only; counted were all. Behind the table there may be those of other functions.
        let least = self.heat(block.pc, around) / COLD_FRACTION;
        let near = |target: u64| target.abs_diff(block.pc) < LONGEST_FUNCTION;
        let hot = |target: &u64| seen.contains(target) || near(*target) && self.heat(*target, around) > least;
        let needed = targets.iter().rposition(hot)? + 1;
        let mut likely: Vec<u64> = targets[..needed].iter().copied().filter(hot).collect();
        likely.sort_unstable();
        likely.dedup();
        // A mask of the index, as that of a byte, makes a check of it superfluous.
        bytes.truncate(needed.next_power_of_two() * jump.entry_size());
        Some(JumpTable { base, likely, data: CodeBytes { address, bytes } })
    }

    /// How often a block was run in tiers 0 and 1, or had been when a region was formed with it.
    fn heat(&self, pc: u64, around: &Surroundings) -> u64 {
        self.count(pc).max(around.compiled.counts.get(&pc).copied().unwrap_or(0))
    }

    /// How often a block was run in tiers 0 and 1.
    pub(super) fn count(&self, pc: u64) -> u64 {
        let Some(entry) = self.table.known_block(pc) else {
            return 0;
        };
        let counter = entry.native.as_ref().and_then(|n| n.counter.as_ref());
        let counted = counter.map(|c| c.count());
        entry.runs() + counted.unwrap_or(0)
    }
}

/// The code in a range: only such as the guest can write to, or none of it.
pub(super) fn read_code(memory: &dyn GuestCode, start: u64, end: u64, mutable: bool) -> CodeBytes {
    let mut bytes = vec![0; (end - start) as usize];
    let n = if mutable { memory.fetch(start, &mut bytes) } else { memory.fetch_fixed(start, &mut bytes) };
    bytes.truncate(n);
    CodeBytes { address: start, bytes }
}

#[cfg(test)]
mod tests {
    use xlate_x86::decode::{SliceSource, decode_block};

    use super::*;
    use crate::config::Config;

    /// `mov rax, [rdx+rdi*8]; jmp rax`, and a table of constants.
    struct Switch {
        table: Vec<u64>,
    }

    const JUMP: SliceSource = SliceSource { address: 0x1000, bytes: &[0x48, 0x8b, 0x04, 0xfa, 0xff, 0xe0] };
    const TABLE: u64 = 0x8000;
    /// `setc al; ret`
    const READER: SliceSource = SliceSource { address: 0x60, bytes: &[0x0f, 0x92, 0xc0, 0xc3] };

    impl GuestCode for Switch {
        fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
            use xlate_x86::CodeSource;
            READER.fetch(addr, buffer)
        }

        fn constants(&self, addr: u64, buffer: &mut [u8]) -> usize {
            let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            let there = bytes.get(addr.wrapping_sub(TABLE) as usize..).unwrap_or_default();
            let n = there.len().min(buffer.len());
            buffer[..n].copy_from_slice(&there[..n]);
            n
        }
    }

    #[test]
    fn a_table_is_one_that_leads_where_the_jump_does() {
        let mut engine = Engine::new(&Config::default());
        let block = decode_block(&JUMP, 0x1000, 64, false);
        let memory = Switch { table: vec![0x10, 0x20, 0x30, 0x40, 0x50, 0x60] };
        let mut around = Surroundings::default();
        let entries = |engine: &Engine, seen: &[u64]| {
            let table = engine.jump_table(&block, seen, &Surroundings::default(), &memory);
            table.map(|table| (table.base, table.data.address, table.data.bytes.len() / 8))
        };
        assert_eq!(entries(&engine, &[0x20]), None, "the register is elsewhere");
        engine.registers[2] = TABLE;
        assert_eq!(entries(&engine, &[0x20]), Some((TABLE, TABLE, 2)));
        assert_eq!(entries(&engine, &[0x30, 0x10]), Some((TABLE, TABLE, 4)));
        assert_eq!(entries(&engine, &[0x50]), Some((TABLE, TABLE, 6)), "no more than there is");
        assert_eq!(entries(&engine, &[0x20, 0x21]), None);
        assert_eq!(entries(&engine, &[0x60]), Some((TABLE, TABLE, 6)), "whatever flags a case reads");
        around.compiled.counts.extend([(0x40, 10), (0x70, 10)]);
        let known =
            engine.jump_table(&block, &[0x20], &around, &memory).map(|table| (table.likely, table.data.bytes.len()));
        assert_eq!(known, Some((vec![0x20, 0x40], 4 * 8)), "what ran often is known to be a target");
        engine.registers[2] = TABLE + 8;
        assert_eq!(entries(&engine, &[0x20]), Some((TABLE + 8, TABLE + 8, 1)));
    }

    #[test]
    fn a_table_is_sent_once_as_far_as_needed() {
        let mut around = Surroundings::default();
        let data = |address, len| CodeBytes { address, bytes: vec![0; len] };
        [data(1, 8), data(1, 24), data(2, 8), data(1, 16)].into_iter().for_each(|d| around.take_data(d));
        assert_eq!(around.data, [data(1, 24), data(2, 8)]);
    }

    #[test]
    fn ranges_that_touch_are_joined() {
        let around = Surroundings {
            ranges: vec![(0x20, 0x30), (0x10, 0x20), (0x40, 0x50), (0x28, 0x2c)],
            ..Surroundings::default()
        };
        assert_eq!(around.joined(), [(0x10, 0x30), (0x40, 0x50)]);
    }
}

//! From tier 1 to tier 2: which code a hot block's region may be made of, and what becomes of the answers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use iced_x86::FlowControl;
use xlate_abi::protocol::{
    Blob, BlockProfile, COLD_FRACTION, CodeBytes, CodeOptions, CompileRequest, FlagRule, IndirectTargets, KeepIn,
    OptLevel, Response, Target,
};
use xlate_x86::decode::crosses;
use xlate_x86::{Block, BlockEnd, TableJump};

use super::compile::CompileError;
use super::table::{AddressSet, Code, LONGEST_FUNCTION, Region};
use super::tier2::{Client, Event, host_target};
use super::{Engine, GuestCode};
use crate::config::{Config, EngineChoice};

/// Blocks that a request describes at most.
const MAX_BLOCKS: usize = 320;
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
const AHEAD: u64 = 48;
/// How long the guest waits for one answer where it has to.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request without an answer.
struct Pending {
    entry: u64,
    /// Blocks it describes: they aren't requested by themselves meanwhile.
    blocks: AddressSet,
    /// Guest code it was made from.
    ranges: Vec<(u64, u64)>,
    /// The code has changed since.
    outdated: bool,
}

/// Tier 2 as seen from the engine.
pub struct Tier2 {
    client: Client,
    target: Target,
    opt: OptLevel,
    /// The guest waits for every answer (`--engine=optimized`).
    synchronous: bool,
    /// It waits for what it asks for by hotness, too (`--wait`).
    waits: bool,
    pending: HashMap<u64, Pending>,
    next_id: u64,
}

impl Tier2 {
    /// Tier 2, if the options want it and name a service or the means to start one.
    pub fn new(config: &Config) -> Option<Self> {
        let wanted = matches!(config.engine, EngineChoice::Auto | EngineChoice::Optimized);
        if !wanted || config.opt == OptLevel::O0 {
            return None;
        }
        Some(Self {
            client: Client::new(config)?,
            target: host_target(),
            opt: config.opt,
            synchronous: config.engine == EngineChoice::Optimized,
            waits: config.wait,
            pending: HashMap::new(),
            next_id: 1,
        })
    }

    /// How regions are made now.
    pub fn options(&self, precise: bool, flags: FlagRule) -> CodeOptions {
        CodeOptions { opt: self.opt, precise, flags, tso: false }
    }

    /// Whether the guest waits for every answer.
    pub fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    /// Requests without an answer.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Waits a while for something to come.
    pub fn wait(&self, timeout: Duration) {
        self.client.wait(timeout);
    }

    /// Lets the service keep what it compiles for this process.
    pub fn keep_in(&mut self, place: KeepIn) {
        self.client.keep_in(place);
    }

    /// Guest code has changed: answers made from it are worth nothing.
    pub fn outdate(&mut self, start: u64, end: u64) {
        for p in self.pending.values_mut() {
            p.outdated |= p.ranges.iter().any(|&(from, to)| from < end && to > start);
        }
    }

    /// Requests were made under options that no longer hold: their answers will be ignored.
    pub fn forget_requests(&mut self) {
        self.pending.clear();
    }

    /// In the child of a fork.
    pub fn forget_connection(&mut self) {
        self.pending.clear();
        self.client.forget_connection();
    }

    fn is_pending(&self, pc: u64) -> bool {
        self.pending.values().any(|p| p.blocks.contains(&pc))
    }
}

/// A function's entry stands for a block inside that ran at most so many times as often.
const ENTERED_FRACTION: u64 = 8;

/// The code around an entry.
#[derive(Default)]
struct Surroundings {
    profile: Vec<BlockProfile>,
    blocks: AddressSet,
    ranges: Vec<(u64, u64)>,
    /// What indirect jumps and calls probably lead to.
    indirect: Vec<IndirectTargets>,
    /// The tables among these.
    data: Vec<CodeBytes>,
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

    /// Takes a table along, or more of it.
    fn take_data(&mut self, data: CodeBytes) {
        match self.data.iter_mut().find(|known| known.address == data.address) {
            Some(known) if known.bytes.len() >= data.bytes.len() => {}
            Some(known) => *known = data,
            None => self.data.push(data),
        }
    }

    /// The ranges in order, joined where they touch.
    fn joined(&self) -> Vec<(u64, u64)> {
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
        && block.insns.last().is_some_and(|i| i.raw.flow_control() != FlowControl::Return && crosses(&i.raw))
}

impl Engine {
    /// Whether requests make sense.
    pub(super) fn asks_for_regions(&self) -> bool {
        self.tier2.as_ref().is_some_and(|t| t.client.is_on())
    }

    /// A hot block's counter has reached zero.
    pub(super) fn promote(&mut self, pc: u64, memory: &dyn GuestCode) {
        let native = self.table.block(pc).and_then(|e| e.native.as_mut());
        if let Some(counter) = native.and_then(|n| n.counter.as_mut()) {
            counter.restart();
        }
        self.collect_answers();
        let entry = self.entry_for(pc, memory);
        let wanted = !self.table.has_region(entry)
            && self.table.block(entry).is_some_and(|e| !e.no_region)
            && self.tier2.as_ref().is_some_and(|t| t.client.is_on() && !t.is_pending(entry));
        if wanted {
            let id = self.request_region(entry, memory);
            match id.filter(|_| self.tier2.as_ref().is_some_and(|t| t.waits)) {
                Some(id) => self.wait_for_region(entry, id),
                None => self.collect_answers(),
            }
        }
    }

    /// Where a region for a hot block is best entered, what can be said of it first: at the entry of its function, if that
    /// runs about as often, or else at what runs much oftener there, as a loop's head does. The blocks inside would all
    /// get regions of their own that overlap. A block that is still run by itself later on gets its own.
    fn entry_for(&mut self, pc: u64, memory: &dyn GuestCode) -> u64 {
        let Some(block) = self.table.block(pc).filter(|block| !block.deferred) else { return pc };
        block.deferred = true;
        let Some(function) = self.table.function_of(pc) else { return pc };
        let count = self.count(pc);
        if self.count(function) >= count / ENTERED_FRACTION {
            return function;
        }
        let around = self.surroundings(pc, memory);
        let inside = around.profile.iter().filter(|b| b.pc.wrapping_sub(function) < LONGEST_FUNCTION);
        let hottest = inside.max_by_key(|b| b.count).filter(|b| b.count / 2 >= count);
        hottest.map_or(pc, |b| b.pc)
    }

    /// Looks for answers now and then.
    pub(super) fn poll_tier2(&mut self) {
        let Some(tier2) = &mut self.tier2 else { return };
        if tier2.pending.is_empty() {
            return;
        }
        self.collect_answers();
    }

    /// Tier 2 code for a block before its first execution (`--engine=optimized`).
    pub(super) fn region_at_once(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<Code> {
        let tier2 = self.tier2.as_ref()?;
        if !tier2.synchronous || !tier2.client.is_on() {
            return None;
        }
        let volatile = self.table.block(pc).is_some_and(|e| e.snapshot.is_some());
        if volatile || self.table.block(pc).is_some_and(|e| e.no_region) {
            return None;
        }
        let id = self.request_region(pc, memory)?;
        self.wait_for_region(pc, id);
        self.table.has_region(pc).then(|| self.table.code(pc)).flatten()
    }

    fn wait_for_region(&mut self, pc: u64, id: u64) {
        let start = Instant::now();
        loop {
            self.collect_answers();
            let Some(tier2) = self.tier2.as_ref().filter(|t| t.pending.contains_key(&id)) else { break };
            if start.elapsed() > PATIENCE {
                self.region_failed(pc, "no answer in time");
                break;
            }
            tier2.client.wait(Duration::from_millis(100));
        }
        self.stats.region_wait += start.elapsed();
    }

    pub(super) fn request_region(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<u64> {
        let around = self.surroundings(pc, memory);
        let ranges = around.joined();
        let code: Vec<CodeBytes> = ranges
            .iter()
            .map(|&(start, end)| {
                memory.watch_code(start, end - start);
                read_code(memory, start, end)
            })
            .collect();
        let data = around.data.iter().map(|d| (d.address, d.address + d.bytes.len() as u64));
        let ranges = ranges.into_iter().chain(data).collect();
        let (precise, flags) = (self.precise, self.flags);
        let tier2 = self.tier2.as_mut()?;
        let id = tier2.next_id;
        tier2.next_id += 1;
        tier2.client.send(CompileRequest {
            id,
            entry: pc,
            target: tier2.target.clone(),
            options: tier2.options(precise, flags),
            profile: around.profile,
            indirect: around.indirect,
            code,
            data: around.data,
        });
        let pending = Pending { entry: pc, blocks: around.blocks, ranges, outdated: false };
        tier2.pending.insert(id, pending);
        self.stats.regions_requested += 1;
        Some(id)
    }

    /// The blocks that can be reached from `pc` and aren't cold beside it, hottest first, with their counts.
    fn surroundings(&mut self, pc: u64, memory: &dyn GuestCode) -> Surroundings {
        let mut around = Surroundings::default();
        let mut unknown = 0;
        let mut found = Found::default();
        let cold = self.count(pc) / COLD_FRACTION;
        found.push(pc, u64::MAX);
        while around.blocks.len() < MAX_BLOCKS
            && let Some((ran, _, at)) = found.hottest.pop()
        {
            if ran < cold {
                around.ranges.push((at, at + AHEAD));
                continue;
            }
            // What is large and compiled already is gone to by a jump.
            if at != pc && self.table.region_size(at) > MAX_REPEATED {
                around.ranges.push((at, at + AHEAD));
                continue;
            }
            let known = self.decoded(at, memory);
            let decoded;
            let block = match &known {
                Some(known) => &known.block,
                None if unknown == MAX_UNKNOWN => {
                    around.ranges.push((at, at + AHEAD));
                    continue;
                }
                None => {
                    unknown += 1;
                    decoded = self.decode_block(memory, at);
                    &decoded
                }
            };
            // A block that shows that flags must be kept everywhere is the dispatcher's to find.
            let shows = || known.is_none() && self.needs_all_flags(block, memory);
            if block.is_empty() || self.pages.is_volatile(at, block.end()) || shows() {
                continue;
            }
            let count = self.count(at);
            around.take(block, count);
            let led_to = known.as_ref().map_or_else(Vec::new, |k| k.seen());
            let likely = self.likely_targets(block, count, led_to);
            for &next in continuations(block).iter().chain(&likely) {
                found.push(next, self.count(next));
            }
            if !likely.is_empty() {
                let table = self.jump_table(block, &likely, memory);
                let table_base = table.as_ref().map(|(base, _)| *base);
                table.into_iter().for_each(|(_, bytes)| around.take_data(bytes));
                around.indirect.push(IndirectTargets { from: at, to: likely, table_base });
            }
        }
        // For the look at what flags the code behind the region's exits needs.
        let rest = found.hottest.into_iter().take(MAX_BLOCKS);
        around.ranges.extend(rest.map(|(_, _, pc)| (pc, pc + AHEAD)));
        around
    }

    /// Where the indirect jump or call of a block that ran so often probably leads: to where it was seen to lead. A jump
    /// that tier 0 never ran may lead to what runs often near it, for the cases of a switch stand beside it. Too
    /// many cost time to compile, too few lead out of the region; neither makes it wrong.
    fn likely_targets(&mut self, block: &Block, count: u64, seen: Vec<u64>) -> Vec<u64> {
        let jumps = block.insns.last().is_some_and(|i| i.raw.flow_control() == FlowControl::IndirectBranch);
        let mut likely = if seen.is_empty() && jumps { self.table.blocks_near(block.pc) } else { seen };
        likely.retain(|next| self.count(*next) > count / COLD_FRACTION);
        likely.sort_unstable_by_key(|next| (Reverse(self.count(*next)), *next));
        likely.truncate(MAX_TARGETS);
        likely
    }

    /// The table that a block's end jumps through, and what its base register holds, if the table leads where the jump
    /// does: the last block that was promoted must tell what registers hold.
    fn jump_table(&self, block: &Block, likely: &[u64], memory: &dyn GuestCode) -> Option<(u64, CodeBytes)> {
        let jump = TableJump::of(block)?;
        let base = jump.base().map_or(0, |n| self.registers[n]);
        let address = jump.table.at(base);
        let mut bytes = vec![0; MOST_ENTRIES * jump.entry_size()];
        let read = memory.constants(address, &mut bytes);
        bytes.truncate(read);
        let targets = jump.targets(base, &bytes);
        let places: Option<Vec<_>> = likely.iter().map(|to| targets.iter().position(|target| target == to)).collect();
        let needed = places?.into_iter().max()? + 1;
        // By convention a switch keeps no flags, and regions take that for granted.
        let by_convention = self.flags == FlagRule::Convention;
        if by_convention && targets[..needed].iter().any(|target| self.reads_flags(*target, memory)) {
            return None;
        }
        // A mask of the index, as that of a byte, makes a check of it superfluous.
        bytes.truncate(needed.next_power_of_two() * jump.entry_size());
        Some((base, CodeBytes { address, bytes }))
    }

    /// How often a block was run in tiers 0 and 1.
    pub(super) fn count(&mut self, pc: u64) -> u64 {
        let Some(entry) = self.table.block(pc) else {
            return 0;
        };
        let counter = entry.native.as_ref().and_then(|n| n.counter.as_ref());
        let counted = counter.map(|c| c.count());
        entry.runs() + counted.unwrap_or(0)
    }

    // ---- answers -----------------------------------------------------------------------------------

    pub(super) fn collect_answers(&mut self) {
        let Some(tier2) = &mut self.tier2 else { return };
        if tier2.pending.is_empty() {
            return;
        }
        let (answers, event) = tier2.client.poll();
        for answer in answers {
            self.take_answer(answer);
        }
        if event == Some(Event::Lost) {
            self.drop_pending("the service died or can't be reached");
        }
    }

    fn drop_pending(&mut self, reason: &str) {
        let Some(tier2) = &mut self.tier2 else { return };
        for _ in tier2.pending.drain() {
            self.stats.region_failed(reason);
        }
    }

    fn take_answer(&mut self, answer: Response) {
        let Some(tier2) = &mut self.tier2 else { return };
        let (id, result) = match answer {
            Response::Compiled { id, blob, splits } => {
                self.stats.regions_split += u64::from(splits > 0);
                (id, Ok(blob))
            }
            Response::Failed { id, reason } => (id, Err(reason)),
        };
        let Some(pending) = tier2.pending.remove(&id) else {
            return;
        };
        match result {
            _ if pending.outdated => self.stats.region_failed("its code has changed meanwhile"),
            Err(reason) => self.region_failed(pending.entry, &reason),
            Ok(blob) => {
                if let Err(error) = self.install_region(pending.entry, &blob) {
                    self.region_failed(pending.entry, &error.to_string());
                }
            }
        }
    }

    fn region_failed(&mut self, pc: u64, reason: &str) {
        tracing::debug!(pc = format_args!("{pc:#x}"), reason, "no region");
        self.stats.region_failed(reason);
        if let Some(entry) = self.table.block(pc) {
            entry.no_region = true;
        }
    }

    /// Installs a region: everything that leads to its entry leads to it from now on.
    fn install_region(&mut self, pc: u64, blob: &Blob) -> Result<(), CompileError> {
        self.add_region(pc, blob)?;
        self.stats.regions_installed += 1;
        self.stats.region_instructions += u64::from(blob.guest_instructions);
        self.stats.region_bytes += blob.code.len() as u64;
        self.stats.region_time += Duration::from_micros(blob.compile_micros);
        Ok(())
    }

    /// Puts a region's code in its place.
    pub(super) fn add_region(&mut self, pc: u64, blob: &Blob) -> Result<(), CompileError> {
        if blob.entry_pc != pc {
            return Err(CompileError::Blob("it is for another entry"));
        }
        self.make_room()?;
        let code = self.place_blob(blob)?;
        let source = blob.source.iter().chain(&blob.data).copied().collect();
        let region = Region { code, source, size: blob.source.iter().map(|&(_, len)| u64::from(len)).sum() };
        self.table.insert_region(pc, region);
        Ok(())
    }
}

fn read_code(memory: &dyn GuestCode, start: u64, end: u64) -> CodeBytes {
    let mut bytes = vec![0; (end - start) as usize];
    let n = memory.fetch(start, &mut bytes);
    bytes.truncate(n);
    CodeBytes { address: start, bytes }
}

#[cfg(test)]
mod tests {
    use xlate_x86::decode::{SliceSource, decode_block};

    use super::*;

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

        fn watch_code(&self, _start: u64, _len: u64) {}

        fn unwatch_code(&self, _addr: u64) -> bool {
            false
        }
    }

    #[test]
    fn a_table_is_one_that_leads_where_the_jump_does() {
        let mut engine = Engine::new(&Config::default());
        let block = decode_block(&JUMP, 0x1000, 64, false);
        let memory = Switch { table: vec![0x10, 0x20, 0x30, 0x40, 0x50, 0x60] };
        let entries = |engine: &Engine, likely: &[u64]| {
            engine.jump_table(&block, likely, &memory).map(|(base, data)| (base, data.address, data.bytes.len() / 8))
        };
        assert_eq!(entries(&engine, &[0x20]), None, "the register is elsewhere");
        engine.registers[2] = TABLE;
        assert_eq!(entries(&engine, &[0x20]), Some((TABLE, TABLE, 2)));
        assert_eq!(entries(&engine, &[0x30, 0x10]), Some((TABLE, TABLE, 4)));
        assert_eq!(entries(&engine, &[0x50]), Some((TABLE, TABLE, 6)), "no more than there is");
        assert_eq!(entries(&engine, &[0x20, 0x21]), None);
        assert_eq!(entries(&engine, &[0x60]), None, "flags are kept for a case");
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

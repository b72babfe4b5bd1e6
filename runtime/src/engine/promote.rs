//! From tier 1 to tier 2: which code a hot block's region may be made of, and what becomes of the answers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use xlate_abi::protocol::{Blob, CodeBytes, CodeOptions, CompileRequest, KeepIn, OptLevel, Response, Target};

use super::compile::CompileError;
use super::surroundings::read_code;
use super::table::{AddressSet, Code, LONGEST_FUNCTION, Region};
use super::tier2::{Client, Event, host_target};
use super::{Engine, GuestCode};
use crate::config::{Config, EngineChoice};

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
    pub fn options(&self, precise: bool) -> CodeOptions {
        CodeOptions { opt: self.opt, precise, tso: false }
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
        if self.tier2.as_ref().is_none_or(|t| !t.client.is_on() || t.is_pending(pc)) {
            return;
        }
        let Some((entry, grows)) = self.wanted_region(pc, memory) else { return };
        let lacks_one = !self.table.has_region(entry) && self.table.block(entry).is_some_and(|e| !e.no_region);
        if (grows || lacks_one) && self.tier2.as_ref().is_some_and(|t| !t.is_pending(entry)) {
            let id = self.request_region(entry, grows, memory);
            match id.filter(|_| self.tier2.as_ref().is_some_and(|t| t.waits)) {
                Some(id) => self.wait_for_region(entry, id),
                None => self.collect_answers(),
            }
        }
    }

    /// The entry of the region that a hot block wants, and whether that is to grow. A region that leaves for the block grows,
    /// but only once the block is hot for the second time, for others will be by then. What is said of it for the first
    /// time otherwise goes for the code around it; a block that is still run by itself later on gets a region of its own.
    fn wanted_region(&mut self, pc: u64, memory: &dyn GuestCode) -> Option<(u64, bool)> {
        let block = self.table.block(pc)?;
        let first_time = !core::mem::replace(&mut block.deferred, true);
        match self.table.region_to_grow(pc, self.count(pc)) {
            Some(_) if first_time => None,
            Some(region) => Some((region, true)),
            None if first_time => Some((self.entry_for(pc, memory), false)),
            None => Some((pc, false)),
        }
    }

    /// Where a region for a hot block is best entered, what can be said of it first: at the entry of its function, if that
    /// runs about as often, or else at what runs much oftener there, as a loop's head does. The blocks inside would all
    /// get regions of their own that overlap.
    fn entry_for(&mut self, pc: u64, memory: &dyn GuestCode) -> u64 {
        let Some(function) = self.table.function_of(pc) else { return pc };
        let count = self.count(pc);
        if self.count(function) >= count / ENTERED_FRACTION {
            return function;
        }
        let around = self.surroundings(pc, false, memory);
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
        let id = self.request_region(pc, false, memory)?;
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

    /// Asks for a region, or for a larger one in its place.
    pub(super) fn request_region(&mut self, pc: u64, grows: bool, memory: &dyn GuestCode) -> Option<u64> {
        let around = self.surroundings(pc, grows, memory);
        if around.blocks.is_empty() {
            self.table.block(pc)?.no_region = true;
            return None;
        }
        let ranges = around.joined();
        let watched = ranges.iter().all(|&(start, end)| !around.mutable || memory.watch_code(start, end - start));
        if !watched {
            return None;
        }
        let mutable = around.mutable;
        let code: Vec<CodeBytes> = ranges.iter().map(|&(start, end)| read_code(memory, start, end, mutable)).collect();
        let data = around.data.iter().map(|d| (d.address, d.address + d.bytes.len() as u64));
        let ranges = ranges.into_iter().chain(data).collect();
        tracing::debug!(
            entry = format_args!("{pc:#x}"),
            grows,
            blocks = around.profile.len(),
            jumps = around.indirect.len(),
            tables = around.indirect.iter().filter(|targets| targets.table_base.is_some()).count(),
            "asks for a region"
        );
        let precise = self.precise;
        let tier2 = self.tier2.as_mut()?;
        let id = tier2.next_id;
        tier2.next_id += 1;
        tier2.client.send(CompileRequest {
            id,
            entry: pc,
            target: tier2.target.clone(),
            options: tier2.options(precise),
            grows,
            mutable,
            profile: around.profile,
            indirect: around.indirect,
            code,
            data: around.data,
        });
        let pending = Pending { entry: pc, blocks: around.blocks, ranges, outdated: false };
        tier2.pending.insert(id, pending);
        self.stats.regions_requested += 1;
        if grows {
            self.stats.regions_to_grow += 1;
            self.table.has_grown(pc);
        }
        Some(id)
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
        let size = blob.source.iter().map(|&(_, len)| u64::from(len)).sum();
        let region = Region { code, source, size, formed: blob.formed.clone() };
        self.table.insert_region(pc, region);
        Ok(())
    }
}

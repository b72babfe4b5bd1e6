//! Tier 1 in the background: blocks that get hot are compiled by another process while the guest goes on in tier 0.
//!
//! It is no thread, because the guest would see that: fork, unshare and the credentials' system calls tell processes with
//! threads from others. It is a worker of the translator service ([`super::workers`]) that takes blocks from a socket, and
//! ends when the socket does. It is started when there is enough to do for it, so that short programs never have one.
//!
//! It is a help and nothing more: a block whose code hasn't come in time is compiled by the guest's own process. A program's
//! start makes more work than it can do, so it is told little at a time, and what has run most first.

mod queue;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use xlate_x86::decode::{SliceSource, decode_block, decode_mutable};
use xlate_x86::{Block, BlockEnd};

use super::baseline::{Code, Compiler, Options};
use super::interpreter::DecodedBlock;
use super::workers::{Work, Workers};
use super::{Engine, GuestCode};
use crate::linux::descriptors::Own;
use queue::Queue;

/// A block's code is asked for after this part of the executions that make the guest's own process compile it.
const EARLIER: u64 = 8;
/// While that process lives, the guest's own waits for so many times the executions.
const PATIENCE: u64 = 4;
/// Blocks that wait before the process is started.
const ENOUGH: usize = 16;
/// Blocks that it is told of at a time: enough to be busy until the guest looks again, few for urgent ones to come soon.
const IN_FLIGHT: usize = 24;
/// Blocks answered in one message: as many as take about as long as the guest lets pass between two looks.
const ANSWERS: usize = 8;
/// No message is longer: a block has 64 instructions at most.
const LONGEST: usize = 1 << 18;

/// A block to be compiled.
#[derive(Serialize, Deserialize)]
struct Request {
    id: u64,
    pc: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    /// The flags live behind each instruction.
    live: Vec<u32>,
    /// Its end, by its place in [`ENDS`].
    end: u8,
    mutable: bool,
    precise: bool,
    counted: bool,
}

const ENDS: [BlockEnd; 5] =
    [BlockEnd::Terminator, BlockEnd::FallThrough, BlockEnd::Unimplemented, BlockEnd::Invalid, BlockEnd::FetchFault];

#[derive(Serialize, Deserialize)]
struct Answer {
    id: u64,
    /// None: tier 1 refuses the block.
    code: Option<Code>,
}

/// A block that was asked for.
struct Asked {
    pc: u64,
    decoded: Rc<DecodedBlock>,
    precise: bool,
    counted: bool,
}

enum Link {
    /// Not started yet.
    Down,
    Up(Own<OwnedFd>),
    /// It couldn't be started, or died.
    Off,
}

/// The other process, as the engine sees it.
pub struct Background {
    /// Executions after which a block is asked for.
    after: u64,
    /// Who starts it; nobody where there is no service.
    workers: Option<Workers>,
    link: Link,
    asked: HashMap<u64, Asked>,
    /// By address. What runs on while it waits gets more urgent.
    waiting: Queue<Request>,
    /// Requests that were sent and have no answer.
    in_flight: usize,
    /// A message that the socket has had no room for yet.
    unsent: Option<Vec<u8>>,
    /// For a message that comes; empty before the first one.
    buffer: Vec<u8>,
    next_id: u64,
}

impl Background {
    /// With blocks asked for in time for the guest's own process not to need to compile them. None if it does so at once.
    pub fn new(baseline: u64, workers: Option<Workers>) -> Option<Self> {
        let after = baseline / EARLIER;
        (after > 0 && baseline != u64::MAX).then(|| Self {
            after,
            workers,
            link: Link::Down,
            asked: HashMap::new(),
            waiting: Queue::default(),
            in_flight: 0,
            unsent: None,
            buffer: Vec::new(),
            next_id: 0,
        })
    }

    /// Executions after which a block is asked for.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// In the child of a fork: the other process works for the parent.
    pub fn after_fork_child(&mut self) {
        self.link = Link::Down;
        self.forget();
    }

    fn forget(&mut self) {
        self.asked.clear();
        self.waiting.clear();
        self.in_flight = 0;
        self.unsent = None;
    }

    fn is_on(&self) -> bool {
        !matches!(self.link, Link::Off)
    }

    fn ask(&mut self, asked: Asked, bytes: Vec<u8>) {
        let block = &asked.decoded.block;
        let request = Request {
            id: self.next_id,
            pc: asked.pc,
            bytes,
            live: block.insns.iter().map(|insn| insn.live()).collect(),
            end: ENDS.iter().position(|end| *end == block.exit).expect("all ends are listed") as u8,
            mutable: block.mutable,
            precise: asked.precise,
            counted: asked.counted,
        };
        // What is asked for again was dropped and decoded anew.
        if let Some(outdated) = self.waiting.push(asked.pc, request) {
            self.asked.remove(&outdated.id);
        }
        self.asked.insert(self.next_id, asked);
        self.next_id += 1;
    }

    /// Sends what can be sent without waiting.
    fn send(&mut self) {
        let Link::Up(socket) = &self.link else { return };
        let socket = socket.as_raw_fd();
        while let Some(message) = self.unsent.take().map(Ok).or_else(|| self.next_message()) {
            match message.and_then(|bytes| try_send(socket, &bytes).map(|sent| (!sent).then_some(bytes))) {
                Ok(None) => {}
                Ok(unsent) => {
                    self.unsent = unsent;
                    return;
                }
                Err(error) => return self.give_up(&error),
            }
        }
    }

    fn next_message(&mut self) -> Option<io::Result<Vec<u8>>> {
        let room = IN_FLIGHT.saturating_sub(self.in_flight);
        let batch: Vec<Request> = core::iter::from_fn(|| self.waiting.pop()).take(room).collect();
        self.in_flight += batch.len();
        (!batch.is_empty()).then(|| postcard::to_stdvec(&batch).map_err(io::Error::other))
    }

    /// The next answers that have come; none if there are none yet.
    fn receive(&mut self) -> Vec<Answer> {
        let Link::Up(socket) = &self.link else { return Vec::new() };
        self.buffer.resize(LONGEST, 0);
        receive(socket.as_raw_fd(), &mut self.buffer).unwrap_or_else(|error| {
            self.give_up(&error);
            Vec::new()
        })
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "tier 1 works in the foreground from here on");
        self.link = Link::Off;
        self.forget();
    }

    /// Starts the other process if there is enough to do for it, and a processor to do it.
    fn start_if_worth_it(&mut self) {
        if !matches!(self.link, Link::Down) || self.waiting.len() < ENOUGH {
            return;
        }
        if processors() < 2 {
            tracing::info!("tier 1 works in the foreground: there is one processor");
            self.link = Link::Off;
            return self.forget();
        }
        let Some(workers) = &self.workers else {
            tracing::info!("tier 1 works in the foreground: there is no service");
            self.link = Link::Off;
            return self.forget();
        };
        let started = pair().and_then(|[ours, theirs]| {
            workers.start(Work::Tier1, None, theirs.as_fd())?;
            Own::new(ours)
        });
        match started {
            Ok(socket) => self.link = Link::Up(socket),
            // The service is being started: to be tried again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.give_up(&error),
        }
    }
}

/// Processors this process may run on.
fn processors() -> usize {
    // SAFETY: a plain bit set, and the system call that fills it.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return 1;
        }
        libc::CPU_COUNT(&set) as usize
    }
}

/// Two connected sockets that keep messages apart.
fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were made just now, and nobody else knows them.
    Ok(ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }))
}

/// The worker's work: ends when the guest closes its end of the socket.
pub fn work(socket: &OwnedFd) -> io::Result<()> {
    let socket = socket.as_raw_fd();
    let mut compiler = Compiler::new().map_err(io::Error::other)?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = match transfer(|| {
            // SAFETY: a valid buffer.
            unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) }
        }) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => return Err(error),
        };
        let requests: Vec<Request> = postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
        for some in requests.chunks(ANSWERS) {
            let answers: Vec<Answer> =
                some.iter().map(|r| Answer { id: r.id, code: compile(&mut compiler, r) }).collect();
            let bytes = postcard::to_stdvec(&answers).map_err(io::Error::other)?;
            // A guest that has gone is no signal.
            let flags = libc::MSG_NOSIGNAL;
            // SAFETY: a valid buffer.
            let sent = transfer(|| unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) });
            if sent.is_err() {
                // The guest has ended.
                return Ok(());
            }
        }
    }
}

fn compile(compiler: &mut Compiler, request: &Request) -> Option<Code> {
    let source = SliceSource { address: request.pc, bytes: &request.bytes };
    let most = request.live.len();
    let mut block = match request.mutable {
        true => decode_mutable(&source, request.pc, most, false),
        false => decode_block(&source, request.pc, most, true),
    };
    if block.insns.len() != request.live.len() {
        return None;
    }
    block.exit = *ENDS.get(usize::from(request.end))?;
    for (insn, live) in block.insns.iter_mut().zip(&request.live) {
        insn.set_live(*live);
    }
    let options = Options { precise: request.precise, counted: request.counted, check: None };
    compiler.compile(&block, options).ok()
}

/// A system call that moves bytes, made again if it was interrupted.
fn transfer(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends a message, if there is room for it.
fn try_send(socket: RawFd, bytes: &[u8]) -> io::Result<bool> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: a valid buffer.
    match transfer(|| unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) }) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// A message of answers, if there is one.
fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Vec<Answer>> {
    // SAFETY: a valid buffer.
    match transfer(|| unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) }) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => postcard::from_bytes(&buffer[..length]).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// A block's bytes in guest memory.
fn bytes_of(block: &Block, memory: &dyn GuestCode) -> Option<Vec<u8>> {
    let mut bytes = vec![0; block.len as usize];
    (memory.fetch(block.pc, &mut bytes) == bytes.len()).then_some(bytes)
}

impl Engine {
    /// Executions after which a block is looked at first.
    pub(super) fn first_turn(&self) -> u64 {
        self.background.as_ref().map_or(self.thresholds.baseline, |b| b.after())
    }

    /// Has the block at `pc` compiled in the background, if that can be, the sooner the more it has run already. False
    /// when the time has come for the guest's own process to compile it.
    pub(super) fn ask_for_baseline(&mut self, pc: u64, memory: &dyn GuestCode) -> bool {
        let (precise, counted) = (self.precise, self.counts());
        let Some(entry) = self.table.block(pc) else { return false };
        let Some(decoded) = entry.decoded.clone() else { return false };
        let changes = entry.snapshot.is_some();
        let background = self.background.as_mut().filter(|b| b.is_on() && !changes);
        let is_up = background.as_ref().is_some_and(|b| matches!(b.link, Link::Up(_)));
        let limit = self.thresholds.baseline.saturating_mul(if is_up { PATIENCE } else { 1 });
        let runs = decoded.executions.get();
        if runs >= limit {
            return false;
        }
        let Some(background) = background else {
            decoded.next_promotion.set(limit);
            return true;
        };
        let is_new = decoded.next_promotion.get() <= background.after();
        decoded.next_promotion.set(limit.min(2 * runs));
        if !is_new {
            background.waiting.urge(pc);
        } else if let Some(bytes) = bytes_of(&decoded.block, memory) {
            background.ask(Asked { pc, decoded, precise, counted }, bytes);
            background.start_if_worth_it();
        }
        true
    }

    /// Puts code that has come into its place, and asks for more. Only while no translated code runs.
    pub(super) fn poll_background(&mut self) {
        let Some(background) = self.background.as_mut().filter(|b| !b.asked.is_empty()) else { return };
        let mut come = background.receive();
        while !come.is_empty() {
            come.into_iter().for_each(|answer| self.take_background(answer));
            come = self.background.as_mut().map_or_else(Vec::new, Background::receive);
        }
        if let Some(background) = &mut self.background {
            background.send();
        }
    }

    fn take_background(&mut self, answer: Answer) {
        let asked = self.background.as_mut().and_then(|background| {
            background.in_flight = background.in_flight.saturating_sub(1);
            background.asked.remove(&answer.id)
        });
        if let (Some(asked), Some(code)) = (asked, answer.code) {
            self.take_baseline(&asked, code);
        }
    }

    fn take_baseline(&mut self, asked: &Asked, code: Code) {
        // What was dropped meanwhile has been decoded again, or not at all.
        let is_for_it = self.table.block(asked.pc).is_some_and(|entry| {
            entry.decoded.as_ref().is_some_and(|decoded| Rc::ptr_eq(decoded, &asked.decoded))
                && entry.native.is_none()
                && entry.snapshot.is_none()
        });
        if !is_for_it {
            return;
        }
        let block: &Block = &asked.decoded.block;
        let options = Options { precise: asked.precise, counted: asked.counted, check: None };
        self.keep_code(&asked.decoded, options, &code);
        self.note_baseline(block, &code);
        self.stats.baseline_background += 1;
        let placed = self.make_room().and_then(|()| self.place(asked.pc, code, self.thresholds.optimized));
        match placed {
            Ok(native) => self.table.block(asked.pc).expect("looked at above").run_by(native),
            Err(error) => tracing::warn!(pc = format_args!("{:#x}", asked.pc), %error, "baseline code ignored"),
        }
    }
}

#[cfg(test)]
#[path = "background/tests.rs"]
mod tests;

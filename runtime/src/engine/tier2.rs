//! The client of the translator service.
//!
//! Everything is non-blocking and happens when the dispatcher comes by: the guest's process has no thread of ours.
//! A service that can't be reached or has died costs the guest nothing but tier 2; it is started (again) through the
//! `xlate` command where that is known.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use xlate_abi::protocol::{Arch, CompileRequest, KeepIn, Request, Response, Target};

use super::launch;
use crate::config::Config;
use crate::linux::descriptors::Own;

/// How often a service is started before tier 2 is given up.
const MAX_STARTS: u32 = 3;
/// How long a service that was just started may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How often a service that was just started is tried.
const RETRY: Duration = Duration::from_millis(5);

enum Link {
    /// Not tried yet, or lost: to be connected at the next request.
    Down,
    /// A service was started and doesn't listen yet.
    Starting {
        since: Instant,
        tried: Instant,
    },
    Up(Own<UnixStream>),
    /// Given up.
    Off,
}

/// The connection to the service.
pub struct Client {
    socket: Option<PathBuf>,
    /// The `xlate` command, which starts the service.
    program: Option<PathBuf>,
    link: Link,
    starts: u32,
    warned: bool,
    outgoing: VecDeque<u8>,
    incoming: Vec<u8>,
    /// For a piece of it; empty before the first one.
    buffer: Vec<u8>,
    /// What every connection begins with.
    keep: Option<KeepIn>,
}

/// What happened to the connection, beside answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Requests without an answer will never have one.
    Lost,
}

impl Client {
    /// A client, if the options name a service or the means to start one.
    pub fn new(config: &Config) -> Option<Self> {
        let socket = config.service.clone();
        let program = config.xlate.clone();
        if socket.is_none() && program.is_none() {
            return None;
        }
        Some(Self {
            socket,
            program,
            link: Link::Down,
            starts: 0,
            warned: false,
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            buffer: Vec::new(),
            keep: None,
        })
    }

    /// Whether requests make sense.
    pub fn is_on(&self) -> bool {
        !matches!(self.link, Link::Off)
    }

    /// Queues a request.
    pub fn send(&mut self, request: CompileRequest) {
        match message(&Request::Compile(request)) {
            Ok(bytes) => self.outgoing.extend(bytes),
            Err(error) => self.give_up(&format!("a request can't be encoded: {error}")),
        }
    }

    /// Has everything kept that is compiled on connections from now on.
    pub fn keep_in(&mut self, place: KeepIn) {
        self.keep = Some(place);
    }

    /// Puts the wish to keep regions in front of what waits for the new connection.
    fn greet(&mut self) {
        let Some(keep) = &self.keep else { return };
        match message(&Request::Keep(keep.clone())) {
            Ok(bytes) => bytes.into_iter().rev().for_each(|byte| self.outgoing.push_front(byte)),
            Err(error) => tracing::warn!(%error, "regions won't be kept"),
        }
    }

    /// Moves what can be moved without waiting; gives the answers that are complete.
    pub fn poll(&mut self) -> (Vec<Response>, Option<Event>) {
        let mut answers = Vec::new();
        if !self.connect() {
            let lost = matches!(self.link, Link::Off).then_some(Event::Lost);
            return (answers, lost);
        }
        let outcome = self.exchange();
        loop {
            match self.next_answer() {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break,
                Err(error) => {
                    self.lost(&error);
                    return (answers, Some(Event::Lost));
                }
            }
        }
        if let Err(error) = outcome {
            self.lost(&error);
            return (answers, Some(Event::Lost));
        }
        (answers, None)
    }

    /// Waits a while for the connection to have something to do.
    pub fn wait(&self, timeout: Duration) {
        let Link::Up(stream) = &self.link else {
            std::thread::sleep(RETRY.min(timeout));
            return;
        };
        let mut events = libc::POLLIN;
        if !self.outgoing.is_empty() {
            events |= libc::POLLOUT;
        }
        let mut fd = libc::pollfd { fd: stream.as_raw_fd(), events, revents: 0 };
        // SAFETY: one valid entry. An interruption is as good as an event: the caller looks again.
        unsafe { libc::poll(&mut fd, 1, timeout.as_millis() as i32) };
    }

    /// In the child of a fork: the connection stays the parent's.
    pub fn forget_connection(&mut self) {
        if !matches!(self.link, Link::Off) {
            self.link = Link::Down;
        }
        self.outgoing.clear();
        self.incoming.clear();
    }

    // ---- connecting --------------------------------------------------------------------------------

    fn connect(&mut self) -> bool {
        match self.link {
            Link::Up(_) => return true,
            Link::Off => return false,
            Link::Starting { tried, .. } if tried.elapsed() < RETRY => return false,
            Link::Down | Link::Starting { .. } => {}
        }
        let Some(path) = self.socket_path() else {
            return false;
        };
        match UnixStream::connect(&path).and_then(own) {
            Ok(stream) => {
                self.link = Link::Up(stream);
                self.greet();
                true
            }
            Err(error) => {
                self.not_connected(&error);
                false
            }
        }
    }

    fn socket_path(&mut self) -> Option<PathBuf> {
        if self.socket.is_none() {
            match launch::socket_path(self.program.as_deref()?) {
                Ok(path) => self.socket = Some(path),
                Err(error) => self.give_up(&format!("it can't be found: {error}")),
            }
        }
        self.socket.clone()
    }

    fn not_connected(&mut self, error: &io::Error) {
        match self.link {
            Link::Starting { since, .. } if since.elapsed() < START_PATIENCE => {
                self.link = Link::Starting { since, tried: Instant::now() };
            }
            _ => self.start(error),
        }
    }

    fn start(&mut self, error: &io::Error) {
        let (Some(program), Some(socket)) = (self.program.clone(), self.socket.clone()) else {
            return self.give_up(&format!("can't connect: {error}"));
        };
        if self.starts == MAX_STARTS {
            return self.give_up(&format!("{MAX_STARTS} starts didn't help: {error}"));
        }
        self.starts += 1;
        match launch::start_service(&program, &socket, None) {
            Ok(()) => {}
            // Somebody else has just started one.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return self.give_up(&format!("can't start {}: {error}", program.display())),
        }
        let now = Instant::now();
        self.link = Link::Starting { since: now, tried: now };
    }

    fn lost(&mut self, error: &io::Error) {
        self.warn(&format!("the connection broke: {error}"));
        self.link = Link::Down;
        self.outgoing.clear();
        self.incoming.clear();
    }

    fn give_up(&mut self, reason: &str) {
        self.warn(reason);
        self.link = Link::Off;
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// Says once that tier 2 is (for now) not to be had.
    fn warn(&mut self, reason: &str) {
        if self.warned {
            tracing::debug!(reason, "translator service");
        } else {
            self.warned = true;
            eprintln!("xlate: no translator service ({reason}); the program goes on in the baseline tier");
        }
    }

    // ---- transfer ----------------------------------------------------------------------------------

    fn exchange(&mut self) -> io::Result<()> {
        let Link::Up(stream) = &mut self.link else {
            return Ok(());
        };
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match send(&stream.handle(), front) {
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer.resize(1 << 16, 0);
        loop {
            match stream.handle().read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.incoming.extend_from_slice(&self.buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn next_answer<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.incoming.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let answer = postcard::from_bytes(body).map_err(|e| io::Error::new(ErrorKind::InvalidData, e.to_string()))?;
        self.incoming.drain(..4 + length);
        Ok(Some(answer))
    }
}

/// A message as the service takes it.
pub(super) fn message(request: &Request) -> Result<Vec<u8>, postcard::Error> {
    let body = postcard::to_stdvec(request)?;
    Ok([&(body.len() as u32).to_le_bytes(), &body[..]].concat())
}

/// Moves a connection out of the guest's descriptors' way, and makes it non-blocking.
fn own(stream: UnixStream) -> io::Result<Own<UnixStream>> {
    let stream = Own::new(stream)?;
    stream.handle().set_nonblocking(true)?;
    Ok(stream)
}

/// Sends without SIGPIPE, which would be the guest's.
fn send(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: a valid descriptor and buffer.
    let n = unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// What code is to be made for: this processor.
pub fn host_target() -> Target {
    let mut features = host_features();
    features.sort_unstable();
    Target {
        arch: if cfg!(target_arch = "x86_64") { Arch::X86_64 } else { Arch::Aarch64 },
        cpu: String::new(),
        features: features.join(","),
    }
}

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as detected;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as detected;

macro_rules! present {
    ($($feature:tt => $name:literal),* $(,)?) => {
        [$((detected!($feature), $name)),*]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect()
    };
}

/// LLVM's names of the instruction sets this processor has.
#[cfg(target_arch = "x86_64")]
fn host_features() -> Vec<&'static str> {
    present!(
        "sse3" => "+sse3", "ssse3" => "+ssse3", "sse4.1" => "+sse4.1", "sse4.2" => "+sse4.2", "sse4.2" => "+crc32",
        "avx" => "+avx", "avx2" => "+avx2", "popcnt" => "+popcnt", "bmi1" => "+bmi", "bmi2" => "+bmi2",
        "lzcnt" => "+lzcnt", "movbe" => "+movbe", "adx" => "+adx", "cmpxchg16b" => "+cx16",
        "fma" => "+fma", "f16c" => "+f16c", "aes" => "+aes", "pclmulqdq" => "+pclmul", "sha" => "+sha",
        "vaes" => "+vaes", "vpclmulqdq" => "+vpclmulqdq", "gfni" => "+gfni", "avx512f" => "+avx512f",
        "avx512vl" => "+avx512vl", "avx512bw" => "+avx512bw", "avx512dq" => "+avx512dq", "avx512cd" => "+avx512cd",
        "avx512ifma" => "+avx512ifma", "avx512vbmi" => "+avx512vbmi", "avx512vbmi2" => "+avx512vbmi2",
        "avx512vnni" => "+avx512vnni", "avx512bitalg" => "+avx512bitalg", "avx512vpopcntdq" => "+avx512vpopcntdq",
        "avx512bf16" => "+avx512bf16",
    )
}

/// LLVM's names of the instruction sets this processor has.
#[cfg(target_arch = "aarch64")]
fn host_features() -> Vec<&'static str> {
    present!(
        "lse" => "+lse", "rcpc" => "+rcpc", "crc" => "+crc", "aes" => "+aes", "sha2" => "+sha2",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    fn client(socket: PathBuf) -> Client {
        let config = Config { service: Some(socket), ..Config::default() };
        Client::new(&config).unwrap()
    }

    fn failed(id: u64) -> Vec<u8> {
        let reason = "no".to_owned();
        let body = postcard::to_stdvec(&Response::Failed { id, reason }).unwrap();
        [&(body.len() as u32).to_le_bytes(), &body[..]].concat()
    }

    fn socket(name: &str) -> PathBuf {
        let name = format!("xlate-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn answers_come_whole_however_they_are_cut() {
        let path = socket("cut");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = client(path.clone());
        assert!(client.poll().0.is_empty());
        let (mut service, _) = listener.accept().unwrap();
        let bytes = [failed(7), failed(8)].concat();
        service.write_all(&bytes[..5]).unwrap();
        assert!(client.poll().0.is_empty());
        service.write_all(&bytes[5..]).unwrap();
        let (answers, event) = client.poll();
        let ids = answers.iter().map(|a| match a {
            Response::Failed { id, .. } | Response::Compiled { id, .. } => *id,
        });
        assert_eq!(ids.collect::<Vec<_>>(), [7, 8]);
        assert_eq!(event, None);
        drop(service);
        assert_eq!(client.poll().1, Some(Event::Lost));
        std::fs::remove_file(path).unwrap();
        drop(listener);
        // Nobody listens and nothing can start one: given up.
        client.poll();
        assert!(!client.is_on());
    }
}

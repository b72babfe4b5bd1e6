//! The processes that compile, and what bounds them: one that takes too long for a region, or dies of it, is replaced,
//! and the region is tried again at half its size.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{AccessFlags, Pid, access};
use xlate_abi::names::COMPILER;
use xlate_abi::protocol::{Blob, CompileRequest};

use super::lock;
use crate::compiler::{Order, Report};
use crate::translate::RegionSize;
use crate::wire;

/// A region that a compiler died of is tried again so many times: what LLVM can't do with half of it, it seldom can
/// with a quarter.
const RETRIES_AFTER_DEATH: u32 = 1;

/// The shortest look at a compiler's clock.
const TICK: Duration = Duration::from_millis(1);

/// Compilers that wait for work, and the means to start more.
pub struct Compilers {
    /// Opened once: after an installation of another build, this service goes on with its own.
    program: File,
    log: Option<String>,
    /// CPU time a compiler may take for one attempt at a region.
    limit: Duration,
    idle: Mutex<Vec<Compiler>>,
    prepared: Once,
}

/// A region's code.
#[derive(Debug)]
pub struct Compiled {
    pub blob: Box<Blob>,
    /// How often the region was made smaller.
    pub splits: u32,
}

/// Why a compiler has no answer.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("it took the compiler more than {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("the compiler {}", ended(*.0))]
    Died(ExitStatus),
    #[error("talking to the compiler failed: {0}")]
    Lost(#[from] io::Error),
    #[error("the compiler spoke out of turn; {COMPILER} is of another build")]
    OutOfTurn,
}

fn ended(status: ExitStatus) -> String {
    match status.signal().map(Signal::try_from) {
        Some(Ok(signal)) => format!("died of {signal}"),
        _ => format!("ended with {status}"),
    }
}

/// An attempt without an answer.
struct Stopped {
    why: Stop,
    /// The region's size, if it came so far.
    size: Option<RegionSize>,
}

impl Compilers {
    /// No compiler is started yet: a service may be there for workers only.
    pub fn new(program: &Path, log: Option<&str>, limit: Duration) -> anyhow::Result<Self> {
        let executed = || format!("{} can't be executed; `cargo build --release` builds it", program.display());
        let file = File::open(program).with_context(executed)?;
        access(program, AccessFlags::X_OK).with_context(executed)?;
        Ok(Self { program: file, log: log.map(str::to_owned), limit, idle: Mutex::default(), prepared: Once::new() })
    }

    /// Starts the first compiler before there is a request, because LLVM takes a while to load.
    pub fn prepare(&self) {
        self.prepared.call_once(|| match self.start() {
            Ok(first) => lock(&self.idle).push(first),
            Err(error) => tracing::warn!(%error, "no compiler can be started"),
        });
    }

    /// Compiles a region, a smaller one if need be; the error is for the client.
    pub fn compile(&self, request: &CompileRequest) -> Result<Compiled, String> {
        let started = Instant::now();
        let mut order = Order { request: Cow::Borrowed(request), most: RegionSize::for_request(request) };
        let (mut splits, mut deaths) = (0, 0);
        loop {
            let Stopped { why, size } = match self.attempt(&order) {
                Ok(Ok(mut blob)) if splits > 0 => {
                    blob.compile_micros = started.elapsed().as_micros() as u64;
                    return Ok(Compiled { blob, splits });
                }
                Ok(outcome) => return outcome.map(|blob| Compiled { blob, splits }),
                Err(stopped) => stopped,
            };
            let region = Tried { entry: request.entry, size };
            tracing::warn!("{region} isn't compiled: {why}");
            deaths += u32::from(!matches!(why, Stop::Slow(_)));
            let smaller = size.unwrap_or(order.most).halved().filter(|_| deaths <= RETRIES_AFTER_DEATH);
            order.most = smaller.ok_or_else(|| format!("{why} for {region}"))?;
            splits += 1;
        }
    }

    /// Has a compiler try; the inner error is its own answer.
    fn attempt(&self, order: &Order<'_>) -> Result<Result<Box<Blob>, String>, Stopped> {
        let mut compiler = self.take().map_err(|e| Stopped { why: Stop::Lost(e), size: None })?;
        let mut size = None;
        let outcome = compiler.compile(order, self.limit, &mut size).map_err(|why| Stopped { why, size })?;
        lock(&self.idle).push(compiler);
        Ok(outcome)
    }

    /// The compiler that was used last, or a new one.
    fn take(&self) -> io::Result<Compiler> {
        loop {
            let Some(mut compiler) = lock(&self.idle).pop() else {
                return self.start();
            };
            if compiler.process.try_wait()?.is_none() {
                return Ok(compiler);
            }
            tracing::warn!("a compiler died while it had nothing to do");
        }
    }

    fn start(&self) -> io::Result<Compiler> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(COMPILER).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(filter) = &self.log {
            command.arg("--log").arg(filter);
        }
        let mut process = command.spawn()?;
        let (Some(orders), Some(reports)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both are pipes");
        };
        Ok(Compiler { process, orders, reports, ready: false })
    }
}

/// A region as messages name it.
struct Tried {
    entry: u64,
    size: Option<RegionSize>,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the region at {:#x}", self.entry)?;
        self.size.map_or(Ok(()), |size| write!(f, " ({size})"))
    }
}

/// A process that compiles. It ends with this.
struct Compiler {
    process: Child,
    orders: ChildStdin,
    reports: ChildStdout,
    /// Whether LLVM is loaded.
    ready: bool,
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // It fails only for one that is dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Compiler {
    /// Compiles one region. After an error nothing more can be had from this process.
    fn compile(
        &mut self,
        order: &Order<'_>,
        limit: Duration,
        size: &mut Option<RegionSize>,
    ) -> Result<Result<Box<Blob>, String>, Stop> {
        if !self.ready {
            self.get_ready()?;
        }
        // The processor's time, not the clock's: the machine may have other things to do.
        let clock = clock_getcpuclockid(Pid::from_raw(self.process.id() as i32)).map_err(io::Error::from)?;
        let end = cpu_time(clock)? + limit;
        if let Err(error) = wire::send(&mut self.orders, order) {
            return Err(if error.kind() == io::ErrorKind::BrokenPipe { self.death()? } else { error.into() });
        }
        loop {
            if !self.reports_by(clock, end)? {
                return Err(Stop::Slow(limit));
            }
            match wire::receive(&mut self.reports)? {
                Some(Report::Formed(formed)) => *size = Some(formed),
                Some(Report::Done(outcome)) => return Ok(outcome),
                Some(Report::Ready) => return Err(Stop::OutOfTurn),
                None => return Err(self.death()?),
            }
        }
    }

    /// Waits until LLVM is loaded, which is no region's fault.
    fn get_ready(&mut self) -> Result<(), Stop> {
        match wire::receive(&mut self.reports)? {
            Some(Report::Ready) => self.ready = true,
            Some(_) => return Err(Stop::OutOfTurn),
            None => return Err(self.death()?),
        }
        Ok(())
    }

    /// Waits for a report; false if the compiler's clock comes to `end` before.
    fn reports_by(&self, clock: ClockId, end: Duration) -> io::Result<bool> {
        loop {
            let left = end.saturating_sub(cpu_time(clock)?);
            if left.is_zero() {
                return Ok(false);
            }
            // Its clock doesn't run faster than ours: only one thread works.
            let timeout = PollTimeout::try_from(left.max(TICK)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.reports.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// How the process ended that has closed its side.
    fn death(&mut self) -> io::Result<Stop> {
        self.process.wait().map(Stop::Died)
    }
}

fn cpu_time(clock: ClockId) -> io::Result<Duration> {
    Ok(clock.now()?.into())
}

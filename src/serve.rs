//! `xlate serve`, the translator service. Runtimes start it, connect to its socket and ask for regions' code; it has
//! several compiled at a time, the hottest first, and ends by itself when its last client has gone.
//!
//! One thread a client reads requests; a pool of threads works them off, each with a compiler in a process of its own.
//! Should the service die, runtimes start it again while their guests go on in tier 1.

mod compilers;
mod queue;

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xlate_abi::protocol::Request;

use crate::status::CommandResult;
use crate::wire;
use compilers::Compilers;
use queue::{Client, Queue};

/// Compiles hot regions for runtimes (`xlate run` starts it as needed).
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Unix socket to listen on; made here, removed at the end.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Compilations at a time (default: one less than there are processors, for the guest runs, too).
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Ends when there has been no client for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    idle: u64,
    /// Milliseconds of CPU time a region may take; one that takes longer is tried again at half its size, down to a
    /// single block.
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    compile_limit: u64,
}

/// How often the listening loop looks whether it is still needed.
const TICK: u16 = 200;

/// A client that takes no answer for so long is dropped: it must not hold up a compiling thread.
const PATIENCE: Duration = Duration::from_secs(10);

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1))
}

/// A panic elsewhere doesn't make what the lock guards invalid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until idle.
pub fn run(args: &Args, log: Option<&str>) -> CommandResult {
    let listener = listen(&args.socket)?;
    let outcome = serve(args, log, &listener);
    // Somebody else may have removed it already.
    let _ = std::fs::remove_file(&args.socket);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: &Args, log: Option<&str>, listener: &UnixListener) -> anyhow::Result<()> {
    let program =
        std::env::current_exe().context("this command's own path")?.with_file_name(xlate_abi::names::COMPILER);
    let compilers = Compilers::new(&program, log, Duration::from_millis(args.compile_limit))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or_else(default_jobs))
        .thread_name(|n| format!("compile-{n}"))
        .build()
        .context("can't start the compiling threads")?;
    let service = Arc::new(Service { queue: Queue::new(pool, compilers), clients: AtomicUsize::new(0) });
    tracing::info!(socket = %args.socket.display(), "serving");
    Ok(service.accept_until_idle(listener, Duration::from_secs(args.idle))?)
}

/// Binds the socket; the remains of a service that died are replaced, a living one is not.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let taken = match UnixListener::bind(path) {
        Ok(listener) => return Ok(listener),
        Err(e) if e.kind() == ErrorKind::AddrInUse => e,
        Err(e) => return Err(e).with_context(|| format!("can't listen on {}", path.display())),
    };
    if UnixStream::connect(path).is_ok() {
        return Err(taken).with_context(|| format!("a service listens on {} already", path.display()));
    }
    std::fs::remove_file(path).with_context(|| format!("can't replace the dead socket {}", path.display()))?;
    UnixListener::bind(path).with_context(|| format!("can't listen on {}", path.display()))
}

struct Service {
    queue: Queue,
    clients: AtomicUsize,
}

impl Service {
    fn accept_until_idle(self: &Arc<Self>, listener: &UnixListener, idle: Duration) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut alone_since = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream)?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => wait(listener)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if self.clients.load(Ordering::Acquire) > 0 || self.queue.is_busy() {
                alone_since = Instant::now();
            } else if alone_since.elapsed() >= idle {
                tracing::info!("no client left");
                return Ok(());
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        self.clients.fetch_add(1, Ordering::AcqRel);
        let service = Arc::clone(self);
        std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            service.attend(stream);
            service.clients.fetch_sub(1, Ordering::AcqRel);
        })?;
        Ok(())
    }

    /// Takes a client's requests until it goes.
    fn attend(&self, mut stream: UnixStream) {
        let client = match stream.try_clone() {
            Ok(writer) => Arc::new(Client::new(writer)),
            Err(e) => return tracing::warn!("a client is turned away: {e}"),
        };
        loop {
            match wire::receive(&mut stream) {
                Ok(Some(Request::Compile(request))) => self.queue.push(Arc::clone(&client), request),
                Ok(Some(Request::Keep(place))) => client.keep_in(place),
                Ok(None) => break,
                Err(e) => {
                    tracing::warn!("a client is dropped: {e}");
                    break;
                }
            }
        }
        client.leave();
    }
}

/// Waits for a connection, at most a tick.
fn wait(listener: &UnixListener) -> io::Result<()> {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(TICK)) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

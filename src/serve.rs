//! `xlate serve`, the translator service. Runtimes start it, connect to its socket and ask for regions' code; it has
//! several compiled at a time, the hottest first, and ends by itself when its last client has gone.
//!
//! It is also the parent of the processes that work for guests ([`workers`]).
//!
//! One thread a client reads requests; a pool of threads works them off, each with a compiler in a process of its own.
//! Should the service die, runtimes start it again while their guests go on in tier 1.

mod compilers;
mod queue;
mod receiver;
mod workers;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xlate_abi::protocol::{Request, Worker};

use crate::status::CommandResult;
use crate::wire;
use compilers::Compilers;
use queue::{Client, Queue};
use receiver::Receiver;
use workers::Workers;

/// Compiles hot regions for runtimes (`xlate run` starts it as needed).
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Unix socket to listen on; made here, removed at the end.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Compilations at a time (default: one less than the number of processors, because the guest needs one).
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Ends when there has been no client for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    idle: u64,
    /// An inherited descriptor of the lock that says that a service is there. It is held as long as the service lives.
    #[arg(long, hide = true, value_name = "FD")]
    lock: Option<RawFd>,
    /// The first worker's key.
    #[arg(long, hide = true, requires = "work")]
    key: Option<u64>,
    /// The first worker's command line; its input is the standard input.
    #[arg(last = true, hide = true, value_name = "WORK")]
    work: Vec<OsString>,
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
    let _lock = args.lock.map(own_lock).transpose().context("the service's lock")?;
    let work = first_work(args).context("the first worker's input")?;
    let listener = match listen(&args.socket) {
        Ok(listener) => listener,
        Err(error) => {
            // Another one was started at the same time. The worker is this one's all the same.
            let Some((worker, input)) = work else { return Err(error.into()) };
            Workers::default().run(&worker, input);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let outcome = serve(args, log, &listener, work);
    // Somebody else may have removed it already.
    let _ = std::fs::remove_file(&args.socket);
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the lock from the service's children.
fn own_lock(lock: RawFd) -> io::Result<OwnedFd> {
    if lock <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: who names it has left it to this process.
    let lock = unsafe { OwnedFd::from_raw_fd(lock) };
    fcntl(&lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(lock)
}

/// The worker that the service is started with.
fn first_work(args: &Args) -> io::Result<Option<(Worker, OwnedFd)>> {
    if args.work.is_empty() {
        return Ok(None);
    }
    let command = args.work.iter().map(|word| word.as_bytes().to_vec()).collect();
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    // The service itself has no use for it, and the worker looks for its end.
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some((Worker { command, key: args.key }, input)))
}

fn serve(
    args: &Args,
    log: Option<&str>,
    listener: &UnixListener,
    work: Option<(Worker, OwnedFd)>,
) -> anyhow::Result<()> {
    let program =
        std::env::current_exe().context("this command's own path")?.with_file_name(xlate_abi::names::COMPILER);
    let compilers = Compilers::new(&program, log, Duration::from_millis(args.compile_limit))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or_else(default_jobs))
        .thread_name(|n| format!("compile-{n}"))
        .build()
        .context("can't start the compiling threads")?;
    let (queue, workers) = (Queue::new(pool, compilers), Workers::default());
    let service = Arc::new(Service { queue, workers, clients: AtomicUsize::new(0) });
    tracing::info!(socket = %args.socket.display(), "serving");
    if let Some((worker, input)) = work {
        service.attend_to("worker", move |service| service.workers.run(&worker, input))?;
    }
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
    workers: Workers,
    /// Clients, and workers that were started without one.
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
        self.attend_to("client", move |service| service.attend(stream))
    }

    /// Does something in a thread of its own; the service lasts until that has ended.
    fn attend_to(self: &Arc<Self>, name: &str, work: impl FnOnce(&Self) + Send + 'static) -> io::Result<()> {
        self.clients.fetch_add(1, Ordering::AcqRel);
        let service = Arc::clone(self);
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            work(&service);
            service.clients.fetch_sub(1, Ordering::AcqRel);
        });
        started.map(drop)
    }

    /// Takes a client's requests until it goes.
    fn attend(&self, stream: UnixStream) {
        let client = match stream.try_clone() {
            Ok(writer) => Arc::new(Client::new(writer)),
            Err(e) => return tracing::warn!("a client is turned away: {e}"),
        };
        let mut stream = Receiver::new(stream);
        loop {
            match wire::receive(&mut stream) {
                Ok(Some(Request::Work(worker))) => match stream.descriptor() {
                    Some(input) => self.workers.run(&worker, input),
                    None => tracing::warn!("a worker's order came without its input"),
                },
                Ok(Some(Request::Compile(request))) => self.queue.push(Arc::clone(&client), request),
                Ok(Some(Request::Keep(place))) => {
                    self.queue.prepare();
                    client.keep_in(place);
                }
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

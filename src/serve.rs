//! The translator service, `xlate-serve`'s work. Runtimes connect to its socket and ask for regions' code; it compiles
//! several at a time, the hottest first, and ends by itself when its last client has gone.
//!
//! One thread a client reads requests; a pool compiles. A compiler that panics costs one region, one that aborts
//! (LLVM's fatal errors) costs the service, which runtimes start again while their guests go on in tier 1.

mod queue;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xlate_abi::protocol::Request;

use crate::service::Args;
use crate::status::CommandResult;
use queue::{Client, Queue};

/// The largest request taken; a region's code and profile are far smaller.
const MAX_MESSAGE: u32 = 64 << 20;

/// How often the listening loop looks whether it is still needed.
const TICK: u16 = 200;

/// LLVM recurses deeply over large functions.
const COMPILER_STACK: usize = 16 << 20;

/// A client that takes no answer for so long is dropped: it must not hold up a compiling thread.
const PATIENCE: Duration = Duration::from_secs(10);

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1))
}

/// Serves until idle.
pub fn run(args: &Args) -> CommandResult {
    let listener = listen(&args.socket)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or_else(default_jobs))
        .stack_size(COMPILER_STACK)
        .thread_name(|n| format!("compile-{n}"))
        .build()
        .context("can't start the compiling threads")?;
    let service = Arc::new(Service { queue: Queue::new(pool), clients: AtomicUsize::new(0) });
    tracing::info!(socket = %args.socket.display(), "serving");
    let outcome = service.accept_until_idle(&listener, Duration::from_secs(args.idle));
    // Somebody else may have removed it already.
    let _ = std::fs::remove_file(&args.socket);
    outcome?;
    Ok(ExitCode::SUCCESS)
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
            match receive(&mut stream) {
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

/// One message, or nothing at the end of the stream.
fn receive(stream: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(invalid(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    postcard::from_bytes(&body).map(Some).map_err(|e| invalid(format!("a message makes no sense: {e}")))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// Writes one message.
fn send(stream: &mut UnixStream, message: &impl serde::Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(|e| invalid(e.to_string()))?;
    let length = u32::try_from(body.len()).map_err(|_| invalid("an answer is too long".to_owned()))?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&body)
}

#[cfg(test)]
mod tests;

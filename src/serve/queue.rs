//! Requests waiting for a compiler, the hottest in front, and the way back to who asked.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xlate_abi::protocol::{CompileRequest, Response};

use crate::translate::translate;

/// Where a client's answers go.
pub struct Client {
    writer: Mutex<UnixStream>,
    gone: AtomicBool,
}

impl Client {
    pub fn new(writer: UnixStream) -> Self {
        Self { writer: Mutex::new(writer), gone: AtomicBool::new(false) }
    }

    /// Its waiting requests are dropped from now on.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    fn answer(&self, response: &Response) {
        if let Err(e) = super::send(&mut lock(&self.writer), response) {
            tracing::debug!("an answer found no reader: {e}");
            self.leave();
        }
    }
}

/// A panic elsewhere doesn't make what the lock guards invalid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Job {
    heat: u64,
    number: u64,
    client: Arc<Client>,
    request: CompileRequest,
}

impl Job {
    /// Hotter first, then first come.
    fn rank(&self) -> (u64, std::cmp::Reverse<u64>) {
        (self.heat, std::cmp::Reverse(self.number))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    fn cmp(&self, other: &Self) -> Order {
        self.rank().cmp(&other.rank())
    }
}

/// The waiting requests and the threads that serve them.
pub struct Queue {
    jobs: Arc<Mutex<BinaryHeap<Job>>>,
    pool: rayon::ThreadPool,
    numbers: AtomicU64,
}

impl Queue {
    pub fn new(pool: rayon::ThreadPool) -> Self {
        Self { jobs: Arc::default(), pool, numbers: AtomicU64::new(0) }
    }

    /// Queues a request; some thread of the pool takes the hottest one each time.
    pub fn push(&self, client: Arc<Client>, request: CompileRequest) {
        let heat = request.profile.iter().find(|b| b.pc == request.entry).map_or(0, |b| b.count);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.jobs).push(Job { heat, number, client, request });
        let jobs = Arc::clone(&self.jobs);
        self.pool.spawn(move || {
            let job = lock(&jobs).pop();
            if let Some(job) = job {
                work(&job);
            }
        });
    }
}

fn work(job: &Job) {
    if job.client.gone.load(Ordering::Acquire) {
        return;
    }
    let id = job.request.id;
    let response = match translate(&job.request) {
        Ok(blob) => {
            tracing::debug!(
                entry = format_args!("{:#x}", blob.entry_pc),
                micros = blob.compile_micros,
                bytes = blob.code.len(),
                "compiled"
            );
            Response::Compiled { id, blob }
        }
        Err(e) => {
            tracing::warn!(entry = format_args!("{:#x}", job.request.entry), "not compiled: {e}");
            Response::Failed { id, reason: e.to_string() }
        }
    };
    job.client.answer(&response);
}

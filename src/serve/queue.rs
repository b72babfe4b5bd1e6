//! Requests waiting for a compiler, the hottest in front, and the way back to who asked.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use xlate_abi::protocol::{CompileRequest, KeepIn, Response};

use super::compilers::{Compiled, Compilers};
use super::lock;
use crate::cache::Keeper;
use crate::wire;

/// Where a client's answers go.
pub struct Client {
    writer: Mutex<UnixStream>,
    gone: AtomicBool,
    /// Where its regions are kept for later runs.
    keep: OnceLock<KeepIn>,
}

impl Client {
    pub fn new(writer: UnixStream) -> Self {
        Self { writer: Mutex::new(writer), gone: AtomicBool::new(false), keep: OnceLock::new() }
    }

    /// What is compiled for it is kept there from now on.
    pub fn keep_in(&self, place: KeepIn) {
        // Created only here. If the user deletes it later, we don't create it again.
        if let Err(error) = crate::cache::store::make_folder(&place) {
            tracing::warn!(%error, "regions won't be kept");
        }
        if self.keep.set(place).is_err() {
            tracing::warn!("a client named a second place to keep its regions in; the first one counts");
        }
    }

    /// Its waiting requests are dropped from now on, unless they are of use for later runs.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn answer(&self, response: &Response) {
        if let Err(e) = wire::send(&mut *lock(&self.writer), response) {
            tracing::debug!("an answer found no reader: {e}");
            self.leave();
        }
    }
}

struct Job {
    heat: u64,
    number: u64,
    client: Arc<Client>,
    request: CompileRequest,
}

impl Job {
    fn new(number: u64, client: Arc<Client>, request: CompileRequest) -> Self {
        let heat = request.profile.iter().find(|b| b.pc == request.entry).map_or(0, |b| b.count);
        Self { heat, number, client, request }
    }

    /// Whether anybody has use for the result.
    fn is_wanted(&self) -> bool {
        !self.client.is_gone() || self.client.keep.get().is_some()
    }

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

/// The waiting requests. Those of clients that are gone come after all others: they only serve later runs.
#[derive(Default)]
struct Waiting {
    jobs: BinaryHeap<Job>,
    of_gone: BinaryHeap<Job>,
}

impl Waiting {
    fn take(&mut self) -> Option<Job> {
        while let Some(job) = self.jobs.pop() {
            if !job.client.is_gone() {
                return Some(job);
            }
            self.of_gone.push(job);
        }
        self.of_gone.pop()
    }
}

/// The waiting requests and the threads that serve them.
pub struct Queue {
    shared: Arc<Shared>,
    pool: rayon::ThreadPool,
    numbers: AtomicU64,
}

/// What the queue and its threads share.
struct Shared {
    waiting: Mutex<Waiting>,
    /// Jobs waiting or worked on.
    open: AtomicUsize,
    compilers: Compilers,
    keeper: Keeper,
}

impl Queue {
    pub fn new(pool: rayon::ThreadPool, compilers: Compilers) -> Self {
        let (waiting, open, keeper) = (Mutex::default(), AtomicUsize::new(0), Keeper::default());
        Self { shared: Arc::new(Shared { waiting, open, compilers, keeper }), pool, numbers: AtomicU64::new(0) }
    }

    /// A client has come that will want regions. A compiler ends with the thread that started it (prctl(2),
    /// PR_SET_PDEATHSIG), so that must be one of the pool's, which live as long as the service.
    pub fn prepare(&self) {
        let shared = Arc::clone(&self.shared);
        self.pool.spawn(move || shared.compilers.prepare());
    }

    /// Queues a request; some thread of the pool takes the first one ([`Waiting::take`]) each time.
    pub fn push(&self, client: Arc<Client>, request: CompileRequest) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        lock(&self.shared.waiting).jobs.push(Job::new(number, client, request));
        let shared = Arc::clone(&self.shared);
        self.pool.spawn(move || {
            let job = lock(&shared.waiting).take();
            if let Some(job) = job.filter(Job::is_wanted) {
                shared.work(&job);
            }
            shared.open.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Whether something waits or is worked on.
    pub fn is_busy(&self) -> bool {
        self.shared.open.load(Ordering::Acquire) > 0
    }
}

impl Shared {
    fn work(&self, job: &Job) {
        let id = job.request.id;
        let response = match self.compilers.compile(&job.request) {
            Ok(Compiled { blob, splits }) => {
                tracing::debug!(
                    entry = format_args!("{:#x}", blob.entry_pc),
                    micros = blob.compile_micros,
                    bytes = blob.code.len(),
                    splits,
                    "compiled"
                );
                // Before the answer: who has it may rely on the next run's having it, too.
                // What the guest writes by itself is hardly the same in another run.
                if let Some(place) = job.client.keep.get().filter(|_| !job.request.mutable) {
                    self.keeper.keep(place, &job.request, job.heat > 0, &blob);
                }
                Response::Compiled { id, blob, splits }
            }
            Err(reason) => {
                tracing::warn!(entry = format_args!("{:#x}", job.request.entry), "not compiled: {reason}");
                Response::Failed { id, reason }
            }
        };
        if !job.client.is_gone() {
            job.client.answer(&response);
        }
    }
}

#[cfg(test)]
mod tests {
    use xlate_abi::protocol::{Arch, BlockProfile, CodeOptions, OptLevel, Target};

    use super::*;

    fn client() -> Arc<Client> {
        let (writer, _reader) = UnixStream::pair().expect("a pair of sockets");
        Arc::new(Client::new(writer))
    }

    fn job(id: u64, client: &Arc<Client>, count: u64) -> Job {
        let request = CompileRequest {
            id,
            entry: 1,
            target: Target { arch: Arch::X86_64, cpu: String::new(), features: String::new() },
            options: CodeOptions { opt: OptLevel::O2, precise: false, tso: false },
            grows: false,
            mutable: false,
            profile: vec![BlockProfile { pc: 1, count }],
            indirect: Vec::new(),
            code: Vec::new(),
            data: Vec::new(),
        };
        Job::new(id, Arc::clone(client), request)
    }

    #[test]
    fn those_of_clients_that_are_gone_come_last_and_the_hottest_first() {
        let (stays, leaves) = (client(), client());
        let mut waiting = Waiting::default();
        for (id, client, count) in [(1, &leaves, 90), (2, &stays, 0), (3, &leaves, 80), (4, &stays, 7), (5, &stays, 7)]
        {
            waiting.jobs.push(job(id, client, count));
        }
        leaves.leave();
        let order: Vec<u64> = std::iter::from_fn(|| waiting.take()).map(|job| job.request.id).collect();
        assert_eq!(order, [4, 5, 2, 1, 3]);
    }
}

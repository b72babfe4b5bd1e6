//! Starts workers, one a job, follows their reports, and survives their deaths.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Summary;
use super::worker::Assignment;
use super::{Message, Options, Plan};

/// A worker that says nothing while it computes for so long hangs; and so does one that says nothing for much longer
/// whatever it does: a busy machine may keep it from computing.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the whole campaign with `program --worker ASSIGNMENT` as the workers.
pub fn run(program: &Path, options: &Options) -> Result<Summary> {
    let plan = Plan::new(options);
    let (sender, receiver) = channel();
    let mut threads = Vec::new();
    for job in 0..options.jobs {
        let follower = Follower {
            program: program.to_owned(),
            options: options.clone(),
            end: options.rounds.map(|r| plan.tasks(r)),
            started: Instant::now(),
            job,
        };
        let sender = sender.clone();
        threads.push(std::thread::spawn(move || {
            follower.follow(&mut |event| {
                // The receiver lives until all threads have ended.
                let _ = sender.send(event);
            })
        }));
    }
    drop(sender);
    let mut summary = Summary::new(plan, options);
    for event in receiver {
        summary.record(event);
    }
    for thread in threads {
        thread.join().expect("followers don't panic")?;
    }
    Ok(summary)
}

/// What the summary is made of.
pub enum Event {
    Done(u64, super::TaskReport),
    /// The worker died or hung in this task; what it last said it would do.
    Lost(u64, String),
}

/// The processor time that a child has used: fields 14 and 15 of its line (proc(5)).
fn computed(child: &Child) -> Duration {
    const TICKS: u64 = 100;
    let line = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields = line.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

struct Follower {
    program: PathBuf,
    options: Options,
    end: Option<u64>,
    started: Instant,
    job: u64,
}

/// A running worker and its messages.
struct Worker {
    child: Child,
    messages: Receiver<Message>,
}

impl Follower {
    fn follow(&self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let mut next = self.job;
        loop {
            let worker = self.start(&self.assignment(next, false))?;
            let Some((lost, how)) = self.listen(worker, tell)? else { return Ok(()) };
            let last = self.retrace(lost)?;
            tell(Event::Lost(lost, format!("{how}; last step: {last}")));
            next = lost + self.options.jobs;
        }
    }

    fn assignment(&self, first: u64, trace: bool) -> Assignment {
        let left = |s: u64| (s as f64 - self.started.elapsed().as_secs_f64()).max(0.0);
        Assignment {
            options: self.options.clone(),
            first,
            stride: self.options.jobs,
            end: if trace { Some(first + 1) } else { self.end },
            seconds: if trace { None } else { self.options.seconds.map(left) },
            trace,
        }
    }

    fn start(&self, assignment: &Assignment) -> Result<Worker> {
        let mut child = Command::new(&self.program)
            .arg("--worker")
            .arg(serde_json::to_string(assignment)?)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", self.program.display()))?;
        let output = child.stdout.take().expect("piped");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str(&line) else { break };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { child, messages })
    }

    /// Passes reports on until the worker ends; a task it didn't finish is given back with the manner of its end.
    fn listen(&self, mut worker: Worker, tell: &mut dyn FnMut(Event)) -> Result<Option<(u64, String)>> {
        let mut current = None;
        let mut heard = (Instant::now(), computed(&worker.child));
        loop {
            let message = worker.messages.recv_timeout(PATIENCE);
            if message.is_ok() {
                heard = (Instant::now(), computed(&worker.child));
            }
            match message {
                Ok(Message::Start(n)) => current = Some(n),
                Ok(Message::Done(n, report)) => {
                    current = None;
                    tell(Event::Done(n, report));
                }
                Ok(Message::Step(_)) => {}
                Err(RecvTimeoutError::Timeout)
                    if heard.0.elapsed() < LIMIT && computed(&worker.child) < heard.1 + PATIENCE => {}
                Err(RecvTimeoutError::Timeout) => {
                    worker.child.kill().context("can't end a worker that hangs")?;
                    worker.child.wait()?;
                    return Ok(current.map(|n| (n, "the worker hung".to_owned())));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = worker.child.wait()?;
                    return match current {
                        Some(n) => Ok(Some((n, format!("the worker ended with {status}")))),
                        None if status.success() => Ok(None),
                        None => anyhow::bail!("a worker ended between two tasks with {status}"),
                    };
                }
            }
        }
    }

    /// Runs one task again with a trace, to see how far it comes.
    fn retrace(&self, task: u64) -> Result<String> {
        let mut worker = self.start(&self.assignment(task, true))?;
        let mut last = "none".to_owned();
        loop {
            match worker.messages.recv_timeout(PATIENCE * 2) {
                Ok(Message::Step(text)) => last = text,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // Already gone, unless it hangs again.
        let _ = worker.child.kill();
        worker.child.wait()?;
        Ok(last)
    }
}

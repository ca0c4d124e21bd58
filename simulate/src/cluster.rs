//! Clusters that exist in the books only: what an executor starts runs for as long as its template
//! says, by the simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use muster_api::bus::{Exit, RunStatus};
use muster_core::time::Timestamp;
use muster_executor::backend::{
    Adopted, ClusterBackend, Error, Event, Grace, Node, NodeChange, Piece, Start,
};
use muster_executor::runs::RunKey;
use muster_runtime::Clock;
use tokio::sync::mpsc;

use crate::books::{Books, Job};

/// What all clusters of a simulation share.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    clock: Clock,
    /// Things are noticed at whole multiples of it.
    step: Duration,
}

pub(crate) struct Inner {
    pub(crate) books: Books,
    runs: BTreeMap<RunKey, Run>,
    /// Runs by the time of their end; those that were stopped stay in it.
    ends: BinaryHeap<Reverse<(Duration, RunKey)>>,
    /// The moment of the simulation's beginning, by the clock.
    origin: Duration,
}

/// A run that was started and is not over.
struct Run {
    job: Job,
    events: mpsc::Sender<Event>,
    /// How it ends, if it fails.
    failure: Option<Exit>,
}

/// A run that is over, of which its executor does not know.
pub(crate) struct Ended {
    event: Event,
    events: mpsc::Sender<Event>,
}

/// One cluster, as its executor sees it.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    events: mpsc::Sender<Event>,
    world: World,
}

impl World {
    pub(crate) fn new(books: Books, clock: Clock, step: Duration) -> Self {
        let (runs, ends) = (BTreeMap::new(), BinaryHeap::new());
        let inner = Inner { books, runs, ends, origin: Duration::ZERO };
        Self { inner: Arc::new(Mutex::new(inner)), clock, step }
    }

    /// Time begins now.
    pub(crate) fn begin(&self) {
        self.lock().origin = self.clock.monotonic();
    }

    /// The time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.lock().origin)
    }

    /// Waits until so long after the beginning.
    pub(crate) async fn sleep_until(&self, moment: Duration) {
        let origin = self.lock().origin;
        self.clock.sleep_until(origin + moment).await;
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    /// The cluster of these nodes.
    pub(crate) fn cluster(&self, nodes: Vec<Node>, events: mpsc::Sender<Event>) -> Cluster {
        Cluster { nodes, events, world: self.clone() }
    }

    /// Takes what is over by `moment` into the books; the executors are to be told.
    pub(crate) fn over(&self, moment: Duration) -> Vec<Ended> {
        let mut inner = self.lock();
        let mut ended = Vec::new();
        while let Some((key, run)) = inner.next_end(moment) {
            inner.books.ended(&run.job, moment, run.failure.is_none());
            let (status, exit) = match run.failure {
                Some(exit) => (RunStatus::Failed, exit),
                None => (RunStatus::Succeeded, exit(0, "Completed")),
            };
            let event = Event { key, status, at: self.clock.now(), exit, addresses: Vec::new() };
            ended.push(Ended { event, events: run.events });
        }
        ended
    }

    /// Tells the executors what has ended.
    pub(crate) async fn tell(&self, ended: Vec<Ended>) {
        for Ended { event, events } in ended {
            // Who does not listen any more has ended, and the simulation with it.
            let _ = events.send(event).await;
        }
    }
}

impl Inner {
    /// Takes out the next run that is over by `moment`.
    fn next_end(&mut self, moment: Duration) -> Option<(RunKey, Run)> {
        while self.ends.peek().is_some_and(|Reverse((at, _))| *at <= moment) {
            let Reverse((_, key)) = self.ends.pop()?;
            if let Some(run) = self.runs.remove(&key) {
                return Some((key, run));
            }
        }
        None
    }

    /// How many runs there are.
    pub(crate) fn running(&self) -> usize {
        self.runs.len()
    }
}

#[async_trait]
impl ClusterBackend for Cluster {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        Ok(self.nodes.clone())
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        std::future::pending().await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        Ok(Vec::new())
    }

    async fn start(&self, start: Start) {
        let key = start.key;
        let at = self.world.clock.now();
        let event = |status, exit| Event { key, status, at, exit, addresses: Vec::new() };
        let moment = floor(self.world.elapsed(), self.world.step);
        let event = {
            let mut inner = self.world.lock();
            match inner.books.job_of(key.job, &start.payload.annotations) {
                // Nothing else submits jobs.
                None => event(RunStatus::Failed, exit(1, "Unknown")),
                Some(job) => {
                    let (runtime, failure) = inner.books.fate(&job);
                    inner.books.started(&job, moment);
                    inner.ends.push(Reverse((moment + runtime, key)));
                    let events = self.events.clone();
                    inner.runs.insert(key, Run { job, events, failure });
                    event(RunStatus::Running, Exit::default())
                }
            }
        };
        // As above.
        let _ = self.events.send(event).await;
    }

    async fn stop(&self, run: RunKey, _grace: Grace) {
        let moment = floor(self.world.elapsed(), self.world.step);
        let stopped = {
            let mut inner = self.world.lock();
            let stopped = inner.runs.remove(&run);
            if let Some(run) = &stopped {
                inner.books.stopped(&run.job, moment);
            }
            stopped
        };
        if stopped.is_some() {
            let exit = Exit { code: None, signal: Some(15), ..exit(0, "Stopped") };
            let at: Timestamp = self.world.clock.now();
            // As above.
            let (status, addresses) = (RunStatus::Failed, Vec::new());
            let _ = self.events.send(Event { key: run, status, at, exit, addresses }).await;
        }
    }

    async fn settle(&self, _run: RunKey) {}

    async fn logs(
        &self,
        run: RunKey,
        _offset: u64,
        _limit: usize,
        _wait: Duration,
    ) -> Result<Piece, Error> {
        Err(Error::NoOutput { job: run.job, attempt: run.attempt })
    }
}

fn exit(code: i32, reason: &str) -> Exit {
    Exit { code: Some(code), reason: Some(reason.to_owned()), ..Exit::default() }
}

/// The last multiple of `step` up to a time.
pub(crate) fn floor(time: Duration, step: Duration) -> Duration {
    let (time, step) = (time.as_millis(), step.as_millis().max(1));
    Duration::from_millis(u64::try_from(time - time % step).unwrap_or(u64::MAX))
}

/// The first multiple of `step` from a time on.
pub(crate) fn ceil(time: Duration, step: Duration) -> Duration {
    let floor = floor(time, step);
    if floor == time { time } else { floor + step }
}

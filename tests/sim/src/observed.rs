//! Watches what executors tell their clusters: which pods exist at each moment, and whether nodes
//! hold what was put on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use muster_api::bus::RunStatus;
use muster_core::Name;
use muster_core::id::JobRef;
use muster_core::resources::Resources;
use muster_executor::backend::{
    Adopted, ClusterBackend, Error, Grace, Node, NodeChange, Opened, Piece, Start,
};
use muster_executor::limits::EVENTS_MAX;
use muster_executor::runs::RunKey;
use muster_runtime::Supervisor;
use muster_runtime::tasks::{BoxError, Policy};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Starts of pods, as clusters were told. Clones are the same books.
#[derive(Clone)]
pub(crate) struct Pods {
    began: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// How often each run was started, by cluster.
    starts: BTreeMap<(JobRef, u32), Vec<(String, Duration)>>,
    /// When runs were over.
    ended: BTreeMap<RunKey, Duration>,
    /// Runs that each cluster said it has or had.
    had: BTreeSet<(String, RunKey)>,
    /// Clusters that were built anew, and know nothing of what they had.
    rebuilt: BTreeSet<String>,
    findings: Vec<String>,
}

impl Pods {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    /// How many pods were started.
    pub(crate) fn started(&self) -> u64 {
        self.lock().starts.len() as u64
    }

    /// Every run that was started on a cluster that never lost one.
    pub(crate) fn runs_started(&self) -> BTreeSet<(JobRef, u32)> {
        let inner = self.lock();
        let is_kept = |(cluster, _): &(String, Duration)| !inner.rebuilt.contains(cluster);
        let kept = inner.starts.iter().filter(|(_, starts)| starts.iter().all(is_kept));
        kept.map(|(run, _)| *run).collect()
    }

    /// Every start: of what, where, when.
    pub(crate) fn starts(&self) -> Vec<(RunKey, String, Duration)> {
        let inner = self.lock();
        let starts = inner.starts.iter().flat_map(|(&(job, attempt), starts)| {
            let key = RunKey { job, attempt };
            starts.iter().map(move |(cluster, at)| (key, cluster.clone(), *at))
        });
        starts.collect()
    }

    /// When each run was over that is.
    pub(crate) fn ended(&self) -> BTreeMap<RunKey, Duration> {
        self.lock().ended.clone()
    }

    fn on_end(&self, key: RunKey) {
        let at = self.began.elapsed();
        self.lock().ended.entry(key).or_insert(at);
    }

    /// A cluster is built anew: what it had is gone.
    pub(crate) fn rebuilt(&self, cluster: &str) {
        let mut inner = self.lock();
        inner.rebuilt.insert(cluster.to_owned());
        inner.had.retain(|(of, _)| of != cluster);
    }

    fn on_event(&self, cluster: &str, key: RunKey) {
        self.lock().had.insert((cluster.to_owned(), key));
    }

    /// What was wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.lock().findings.clone()
    }

    fn find(&self, what: String) {
        self.lock().findings.push(what);
    }

    fn on_start(&self, cluster: &str, key: RunKey) {
        let mut inner = self.lock();
        if inner.had.contains(&(cluster.to_owned(), key)) {
            let RunKey { job, attempt } = key;
            let what = format!("attempt {attempt} of {job} starts: {cluster} had it already");
            inner.findings.push(what);
        }
        let starts = inner.starts.entry((key.job, key.attempt)).or_default();
        starts.push((cluster.to_owned(), self.began.elapsed()));
        let clusters: Vec<String> = starts.iter().map(|(cluster, _)| cluster.clone()).collect();
        if clusters.iter().any(|other| *other != clusters[0]) {
            let RunKey { job, attempt } = key;
            inner.findings.push(format!("attempt {attempt} of {job} was started on {clusters:?}"));
        }
    }
}

/// A back end, and the books.
struct Observed {
    inner: Arc<dyn ClusterBackend>,
    cluster: String,
    pods: Pods,
    running: Arc<Mutex<Running>>,
}

/// What runs on the nodes, by what the cluster said.
#[derive(Default)]
struct Running {
    nodes: BTreeMap<Name, Resources>,
    placed: BTreeMap<RunKey, (Name, Resources)>,
    /// Runs that are over: their end may be told before they are adopted.
    over: BTreeSet<RunKey>,
    /// Runs that this executor started.
    started: BTreeSet<RunKey>,
    /// Runs that it stopped.
    stopped: BTreeSet<RunKey>,
}

impl Running {
    /// What is wrong with starting a run now, beside the room for it.
    fn is_wrong(&mut self, key: RunKey) -> Option<String> {
        if !self.started.insert(key) {
            return Some("it was started before".to_owned());
        }
        let older = self.placed.range(RunKey { attempt: 0, ..key }..key);
        let mut unstopped = older.map(|(older, _)| older).filter(|k| !self.stopped.contains(k));
        unstopped.next().map(|older| format!("attempt {} runs, and was not stopped", older.attempt))
    }

    /// A resource of which more is placed on a node than it has.
    fn overfull(&self, node: &Name) -> Option<String> {
        let has = self.nodes.get(node)?;
        let mut used = Resources::new();
        for (_, request) in self.placed.values().filter(|(placed, _)| placed == node) {
            used.add(request);
        }
        let over = used.iter().find(|(name, quantity)| *quantity > has.get(name));
        over.map(|(name, quantity)| {
            format!("node {node} has {} {name}, {quantity} are in use", has.get(name))
        })
    }
}

/// Puts the books between an executor and its back end.
pub(crate) fn observe(opened: Opened, cluster: String, pods: Pods, tasks: &Supervisor) -> Opened {
    let Opened { backend, mut events } = opened;
    let running: Arc<Mutex<Running>> = Arc::default();
    let (sender, observed) = mpsc::channel(EVENTS_MAX);
    let ended = Arc::clone(&running);
    let (books, of) = (pods.clone(), cluster.clone());
    tasks.spawn_once("observed events", Policy::DETACHED, move |_| async move {
        while let Some(event) = events.recv().await {
            books.on_event(&of, event.key);
            if matches!(event.status, RunStatus::Pending | RunStatus::Running) {
                // It goes on.
            } else {
                books.on_end(event.key);
                let mut running = lock(&ended);
                running.placed.remove(&event.key);
                running.over.insert(event.key);
            }
            if sender.send(event).await.is_err() {
                break;
            }
        }
        Ok::<(), BoxError>(())
    });
    let backend = Observed { inner: backend, cluster, pods, running };
    Opened { backend: Arc::new(backend), events: observed }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().expect("no code panics while it holds this lock")
}

#[async_trait]
impl ClusterBackend for Observed {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let nodes = self.inner.nodes().await?;
        let known = nodes.iter().map(|node| (node.name.clone(), node.allocatable.clone()));
        lock(&self.running).nodes = known.collect();
        Ok(nodes)
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        // Simulated nodes do not change.
        self.inner.node_changes().await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        let adopted = self.inner.adopt().await?;
        let mut running = lock(&self.running);
        for run in &adopted {
            let lives = matches!(run.report.status, RunStatus::Pending | RunStatus::Running);
            if lives && !running.over.contains(&run.key) {
                running.placed.insert(run.key, (run.node.clone(), run.shape.request.clone()));
            }
        }
        drop(running);
        Ok(adopted)
    }

    async fn start(&self, start: Start) {
        self.pods.on_start(&self.cluster, start.key);
        let wrong = {
            let mut running = lock(&self.running);
            let wrong = running.is_wrong(start.key);
            let place = (start.node.clone(), start.shape.request.clone());
            running.placed.insert(start.key, place);
            wrong.into_iter().chain(running.overfull(&start.node)).collect::<Vec<_>>()
        };
        for what in wrong {
            let RunKey { job, attempt } = start.key;
            self.pods.find(format!("attempt {attempt} of {job} starts: {what}"));
        }
        self.inner.start(start).await;
    }

    async fn stop(&self, run: RunKey, grace: Grace) {
        lock(&self.running).stopped.insert(run);
        self.inner.stop(run, grace).await;
    }

    async fn settle(&self, run: RunKey) {
        self.inner.settle(run).await;
    }

    async fn logs(
        &self,
        run: RunKey,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error> {
        self.inner.logs(run, offset, limit, wait).await
    }
}

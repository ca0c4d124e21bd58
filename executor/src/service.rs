//! The executor's one task: it owns the [`Runs`], feeds them what comes in, and carries out what
//! they want.
//!
//! Every request that is under way is a future in one set; each shard has at most one report, one
//! fetch of payloads and one comparison in flight. Level-triggered: what failed is found due again
//! on the next turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use muster_api::bus::{self, Heartbeat, StopRuns, subject};
use muster_core::Name;
use muster_core::id::ShardId;
use muster_core::shape::POOL_LABEL;
use muster_runtime::bus::{Bus, Message, Subscription};
use muster_runtime::config::Problems;
use muster_runtime::http::Health;
use muster_runtime::owners::Owners;
use muster_runtime::tasks::Supervisor;
use muster_runtime::{Blocking, Clock, Random};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{
    self, ClusterBackend, Event, Grace, NodeChange, Opened, journal, kubernetes, local, simulated,
};
use crate::config::{BackendKind, Config};
use crate::limits;
use crate::metrics::{ClusterLabels, EndLabels, Metrics, StatusLabel};
use crate::runs::{Effect, Now, RunKey, Runs, is_final};

mod lease;
mod logs;
mod shard;

use lease::{LeaseOutcome, LeaseWork};
use shard::{ShardOutcome, ShardWork};

/// How far ahead the task looks when nothing is due.
const IDLE: Duration = Duration::from_secs(10);

/// What an executor works with.
#[derive(Clone)]
pub struct Deps {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Clock,
    /// Ids and jitter are drawn from it.
    pub random: Random,
    /// The back end's task runs under it.
    pub tasks: Supervisor,
    /// Where files are read and written.
    pub blocking: Blocking,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it says whether it can do its work.
    pub health: Health,
}

/// Why an executor ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are wrong.
    #[error("settings are wrong: {0}")]
    Config(Problems),
    /// The bus takes no subscription.
    #[error("bus cannot be listened to: {0}")]
    Bus(#[from] muster_runtime::bus::Error),
    /// The back end failed.
    #[error("back end failed: {0}")]
    Backend(#[from] backend::Error),
    /// The back end's task ended before the executor did.
    #[error("back end ended by itself")]
    BackendEnded,
}

/// Something that was under way has come to its end.
enum Done {
    Lease(LeaseOutcome),
    Shard(ShardOutcome),
    Nodes(Result<Vec<backend::Node>, backend::Error>),
    NodeChanges(Result<Vec<NodeChange>, backend::Error>),
    Logs,
    Effect,
    Other,
}

struct Executor {
    config: Config,
    deps: Deps,
    backend: Arc<dyn ClusterBackend>,
    instance: String,
    runs: Runs,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// By pool.
    leases: BTreeMap<Name, LeaseWork>,
    began: Duration,
    shards: Vec<ShardWork>,
    owners: Owners,
    logs_in_flight: usize,
    effects_in_flight: usize,
    heartbeat_at: Duration,
    nodes_at: Duration,
    is_ready: bool,
}

/// Runs an executor until `cancel`; then hands in what is left to report.
///
/// # Errors
/// When the settings are wrong, the bus cannot be listened to, or the back end fails.
pub async fn run(config: Config, deps: Deps, cancel: CancellationToken) -> Result<(), Error> {
    run_through(|opened| opened, config, deps, cancel).await
}

/// As [`run`], with `wrap` around the back end: for simulations and tests that watch what it is
/// told and what it says.
///
/// # Errors
/// As [`run`].
pub async fn run_through(
    wrap: impl FnOnce(Opened) -> Opened,
    config: Config,
    deps: Deps,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let tasks = deps.tasks.child();
    let opening = {
        let (config, deps, tasks) = (config.clone(), deps.clone(), tasks.clone());
        async move { Ok(wrap(open(&config, &deps, tasks).await?)) }
    };
    let (cluster, limit) = (config.cluster.clone(), config.shutdown_timeout.0);
    let result = run_with(opening, config, deps, cancel).await;
    if let Err(failure) = tasks.shutdown(limit).await {
        tracing::error!(%cluster, %failure, "back end ended badly");
    }
    result
}

/// As [`run`], on a back end that the caller has, whatever the settings say of one: for
/// simulations.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    opened: Opened,
    config: Config,
    deps: Deps,
    cancel: CancellationToken,
) -> Result<(), Error> {
    run_with(std::future::ready(Ok(opened)), config, deps, cancel).await
}

async fn run_with(
    opening: impl Future<Output = Result<Opened, backend::Error>>,
    config: Config,
    deps: Deps,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut problems = Problems::default();
    config.validate(&mut problems);
    if !problems.list().is_empty() {
        return Err(Error::Config(problems));
    }
    deps.health.not_ready(&part(&config.cluster), "the back end is not open yet");
    let mut inbox = Inbox {
        stops: deps.bus.subscribe(&subject::cluster_stop(&config.cluster), None).await?,
        logs: deps.bus.subscribe(&subject::cluster_logs(&config.cluster), None).await?,
        owners: deps.bus.subscribe(subject::OWNERS, None).await?,
        leaders: deps.bus.subscribe(subject::LEADERS, None).await?,
    };
    let begin = async {
        let Opened { backend, events } = opening.await?;
        let nodes = backend.nodes().await?;
        let adopted = backend.adopt().await?;
        Ok::<_, backend::Error>((backend, events, nodes, adopted))
    };
    // A cluster may keep it waiting for long.
    let (backend, mut events, nodes, adopted) = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        begun = begin => begun?,
    };
    let mut executor = Executor::new(config, deps, backend);
    executor.on_nodes(nodes);
    executor.runs.on_adopted(adopted);
    let health = executor.deps.health.clone();
    let why = "its runs have not been compared with the shards yet";
    health.not_ready(&part(&executor.config.cluster), why);
    executor.watch_nodes();
    executor.work_until(&cancel, &mut events, &mut inbox).await?;
    executor.finish(&mut events).await;
    Ok(())
}

/// The executor's name among the parts of its process that must be ready.
fn part(cluster: &str) -> String {
    format!("executor {cluster}")
}

async fn open(config: &Config, deps: &Deps, tasks: Supervisor) -> Result<Opened, backend::Error> {
    let (cluster, state_dir) = (config.cluster.clone(), config.state_dir.clone());
    let (clock, blocking) = (deps.clock.clone(), deps.blocking.clone());
    let supervisor = tasks.clone();
    let opened = match config.backend {
        BackendKind::Local => {
            let config = config.local.clone();
            local::open(local::Params { cluster, config, state_dir, clock, tasks }).await
        }
        BackendKind::Simulated => {
            let config = config.simulated.clone();
            let params = simulated::Params { cluster, config, state_dir, clock, blocking, tasks };
            simulated::open(params).await
        }
        BackendKind::Kubernetes => {
            let (config, part) = (config.kubernetes.clone(), part(&cluster));
            let (random, health) = (deps.random.fork(), deps.health.clone());
            let metrics = deps.metrics.kubernetes.clone();
            let params =
                kubernetes::Params { cluster, config, clock, random, tasks, metrics, health, part };
            kubernetes::open(params).await
        }
    }?;
    if !config.record_runs {
        return Ok(opened);
    }
    let path = journal::path(&config.state_dir, &config.cluster);
    journal::record(opened, path, deps.clock.clone(), &supervisor).await
}

/// What others say on the bus without being asked.
struct Inbox {
    stops: Subscription,
    logs: Subscription,
    owners: Subscription,
    leaders: Subscription,
}

impl Executor {
    fn new(config: Config, deps: Deps, backend: Arc<dyn ClusterBackend>) -> Self {
        let now = deps.clock.monotonic();
        let shards = (0..config.shards).map(|n| ShardWork::new(ShardId(n), now)).collect();
        Self {
            instance: format!("{:032x}", deps.random.u128()),
            runs: Runs::new(config.pool.as_str().into()),
            work: FuturesUnordered::new(),
            leases: BTreeMap::new(),
            began: now,
            shards,
            owners: Owners::new(config.shards),
            logs_in_flight: 0,
            effects_in_flight: 0,
            heartbeat_at: now,
            nodes_at: now + config.sync_interval.0,
            is_ready: false,
            config,
            deps,
            backend,
        }
    }

    async fn work_until(
        &mut self,
        cancel: &CancellationToken,
        events: &mut mpsc::Receiver<Event>,
        inbox: &mut Inbox,
    ) -> Result<(), Error> {
        let clock = self.deps.clock.clone();
        let mut batch = Vec::new();
        loop {
            let wake = self.turn();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                count = events.recv_many(&mut batch, limits::EVENTS_MAX) => {
                    if count == 0 {
                        return Err(Error::BackendEnded);
                    }
                    self.on_events(&mut batch);
                }
                Some(message) = inbox.stops.next() => self.on_stop(&message),
                Some(message) = inbox.owners.next() => self.on_owner(&message),
                Some(message) = inbox.leaders.next() => self.on_leader(&message),
                Some(done) = self.work.next() => self.on_done(done),
                Some(message) = inbox.logs.next() => self.on_logs(message),
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    /// Starts everything that is due; gives the next moment when something may be.
    fn turn(&mut self) -> Duration {
        let now = self.now();
        self.carry_out();
        let mut wake = now.monotonic + IDLE;
        wake = wake.min(self.beat(now)).min(self.look_at_nodes(now));
        for place in 0..self.shards.len() {
            wake = wake.min(self.turn_shard(place, now));
        }
        wake = wake.min(self.turn_leases(now));
        self.carry_out();
        wake
    }

    /// Hands in the last reports, after stopping what is to be stopped.
    async fn finish(&mut self, events: &mut mpsc::Receiver<Event>) {
        let clock = self.deps.clock.clone();
        let limit = self.config.shutdown_timeout.0;
        let deadline = clock.monotonic() + limit;
        if self.config.stop_runs_on_exit {
            for run in self.runs.on_backend() {
                let backend = Arc::clone(&self.backend);
                self.work.push(Box::pin(async move {
                    backend.stop(run, Grace::AtMost(limit / 2)).await;
                    Done::Other
                }));
            }
        }
        let mut batch = Vec::new();
        self.carry_out();
        while clock.monotonic() < deadline && !self.is_finished() {
            let now = self.now();
            let mut wake = deadline;
            for place in 0..self.shards.len() {
                wake = wake.min(self.turn_reports(place, now));
            }
            tokio::select! {
                biased;
                Some(done) = self.work.next() => self.on_done(done),
                count = events.recv_many(&mut batch, limits::EVENTS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.on_events(&mut batch);
                }
                () = clock.sleep_until(wake) => {}
            }
            self.carry_out();
        }
        if !self.is_finished() {
            let cluster = &self.config.cluster;
            tracing::warn!(%cluster, "executor ends before all reports are handed in");
        }
    }

    fn is_finished(&self) -> bool {
        let is_quiet = !self.config.stop_runs_on_exit || self.runs.on_backend().next().is_none();
        is_quiet && self.runs.is_flushed() && self.effects_in_flight == 0
    }

    fn now(&self) -> Now {
        Now { wall: self.deps.clock.now(), monotonic: self.deps.clock.monotonic() }
    }

    fn cluster_labels(&self) -> ClusterLabels {
        ClusterLabels { cluster: self.config.cluster.clone() }
    }

    /// Half a message: what is estimated may be off by as much.
    fn bytes_max(&self) -> usize {
        self.deps.bus.payload_bytes_max() / 2
    }

    fn carry_out(&mut self) {
        for effect in self.runs.take_effects() {
            let backend = Arc::clone(&self.backend);
            if let Effect::Start(_) = &effect {
                self.deps.metrics.starts.get_or_create(&self.cluster_labels()).inc();
            }
            self.effects_in_flight += 1;
            self.work.push(Box::pin(async move {
                match effect {
                    Effect::Start(start) => backend.start(start).await,
                    Effect::Stop(run) => backend.stop(run, Grace::OfPod).await,
                    Effect::Settle(run) => backend.settle(run).await,
                }
                Done::Effect
            }));
        }
    }

    fn beat(&mut self, now: Now) -> Duration {
        if now.monotonic < self.heartbeat_at {
            return self.heartbeat_at;
        }
        let interval = self.config.heartbeat_interval.0;
        self.heartbeat_at = now.monotonic + self.deps.random.jitter(interval, 0.1);
        self.deps.metrics.set_runs(&self.config.cluster, self.runs.counts());
        let (cluster, instance) = (self.config.cluster.clone(), self.instance.clone());
        let pools = self.runs.pools().map(ToString::to_string).collect();
        let bus = Arc::clone(&self.deps.bus);
        self.work.push(Box::pin(async move {
            let beat = bus::encode(&Heartbeat { cluster, instance, pools });
            if let Err(error) = bus.publish(subject::HEARTBEATS, beat).await {
                tracing::debug!(%error, "heartbeat was not sent");
            }
            Done::Other
        }));
        self.heartbeat_at
    }

    fn look_at_nodes(&mut self, now: Now) -> Duration {
        if now.monotonic >= self.nodes_at {
            self.nodes_at = now.monotonic + self.config.sync_interval.0;
            let backend = Arc::clone(&self.backend);
            self.work.push(Box::pin(async move { Done::Nodes(backend.nodes().await) }));
        }
        self.nodes_at
    }

    /// Listens for changes of nodes, which are told at once; what that misses is made good when all
    /// are looked at.
    fn watch_nodes(&mut self) {
        let backend = Arc::clone(&self.backend);
        self.work.push(Box::pin(async move { Done::NodeChanges(backend.node_changes().await) }));
    }

    fn on_nodes(&mut self, nodes: Vec<backend::Node>) {
        let misplaced = self.runs.on_nodes(nodes);
        self.on_pools(misplaced);
    }

    fn on_node_changes(&mut self, changes: Vec<NodeChange>) {
        let misplaced = self.runs.on_node_changes(changes);
        self.on_pools(misplaced);
        self.watch_nodes();
    }

    /// Nodes have changed, and with them perhaps the pools that there are.
    fn on_pools(&mut self, misplaced: Vec<Name>) {
        for node in misplaced {
            let cluster = &self.config.cluster;
            tracing::warn!(%cluster, %node, "its label {POOL_LABEL} names no pool, or one too many: it takes no runs");
        }
        let now = self.deps.clock.monotonic();
        for pool in self.runs.pools() {
            if !self.leases.contains_key(pool) {
                self.leases.insert(pool.clone(), LeaseWork::new(now));
            }
        }
    }

    fn on_events(&mut self, events: &mut Vec<Event>) {
        let now = self.now();
        for event in events.drain(..) {
            if is_final(event.status) {
                let status = StatusLabel::of(event.status);
                let labels = EndLabels { cluster: self.config.cluster.clone(), status };
                self.deps.metrics.ends.get_or_create(&labels).inc();
            }
            self.runs.on_event(event, now);
        }
    }

    fn on_stop(&mut self, message: &Message) {
        let now = self.now();
        let orders: StopRuns = match bus::decode(&message.payload) {
            Ok(orders) => orders,
            Err(error) => {
                tracing::warn!(%error, "stop orders are ignored");
                return;
            }
        };
        self.on_stops(orders.runs, now);
    }

    fn on_stops(&mut self, runs: Vec<(String, u32)>, now: Now) {
        for (job, attempt) in runs {
            match job.parse() {
                Ok(job) => self.runs.on_stop(RunKey { job, attempt }, now),
                Err(error) => tracing::warn!(%error, "stop order is ignored"),
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Lease(outcome) => self.on_lease(outcome),
            Done::Shard(outcome) => self.on_shard(outcome),
            Done::Nodes(Ok(nodes)) => self.on_nodes(nodes),
            Done::NodeChanges(Ok(changes)) => self.on_node_changes(changes),
            // The back end has ended, which its events say too.
            Done::NodeChanges(Err(error)) => tracing::debug!(%error, "nodes are not watched"),
            Done::Nodes(Err(error)) => tracing::warn!(%error, "nodes cannot be looked at"),
            Done::Logs => self.logs_in_flight -= 1,
            Done::Effect => self.effects_in_flight -= 1,
            Done::Other => {}
        }
    }
}

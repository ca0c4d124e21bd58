//! The worker: keeps its leases, and runs an owner for each shard and a leader for each pool that
//! it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use muster_api::bus::{self, Heartbeat, subject};
use muster_core::id::ShardId;
use muster_runtime::bus::{KeyValue, Subscription};
use muster_runtime::history::History;
use muster_runtime::http::Health;
use muster_runtime::store::Store;
use muster_runtime::store::control::ControlView;
use muster_runtime::tasks::{BoxError, OnCancel, OnError, Policy, Supervisor, Task};
use muster_runtime::{Blocking, Bus, Clock, Random};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::lease::{Ask, Asker, KEPT_TTLS, Leases, Won};
use crate::metrics::Metrics;
use crate::{leader, owner};

/// The worker's name among the parts of its process that must be ready.
const PART: &str = "shard worker";
/// Owners that may ask at the same time; others wait for their turn.
const ASKS_MAX: usize = 64;
/// How long owners may take to finish what is under way when the worker stops.
const DRAIN: Duration = Duration::from_secs(20);

/// What a worker works with.
#[derive(Clone)]
pub struct Deps {
    /// Settings.
    pub config: Config,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The object store.
    pub store: Store,
    /// The queues, kept up to date by whoever runs the worker.
    pub control: ControlView,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where tasks run.
    pub tasks: Supervisor,
    /// Where CPU work runs.
    pub blocking: Blocking,
    /// Where the worker says whether it can do its work.
    pub health: Health,
    pub(crate) history: History,
    pub(crate) metrics: Metrics,
    pub(crate) rounds: Option<RoundWatch>,
}

/// Told of each round that a leader has solved: how long that took.
pub type RoundWatch = Arc<dyn Fn(Duration) + Send + Sync>;

impl Deps {
    /// Everything together; metrics go into `registry`.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, named by its type")]
    pub fn new(
        config: Config,
        bus: Arc<dyn Bus>,
        store: Store,
        control: ControlView,
        clock: Clock,
        random: Random,
        tasks: Supervisor,
        blocking: Blocking,
        health: Health,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let history = History::new(store.clone(), blocking.clone());
        Self {
            config,
            bus,
            store,
            control,
            clock,
            random,
            tasks,
            blocking,
            health,
            history,
            metrics,
            rounds: None,
        }
    }

    /// The same, telling `watch` of each round: for simulations.
    #[must_use]
    pub fn watching_rounds(mut self, watch: RoundWatch) -> Self {
        self.rounds = Some(watch);
        self
    }
}

/// Why a worker stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bus failed for good.
    #[error(transparent)]
    Bus(#[from] muster_runtime::bus::Error),
    /// The bus was closed.
    #[error("the bus was closed")]
    Closed,
}

/// What runs under a lease.
struct Running {
    task: Task,
    cancel: CancellationToken,
}

struct Worker {
    deps: Deps,
    leases: Leases,
    running: BTreeMap<String, Running>,
    pools: BTreeSet<String>,
    /// For the owners, to ask whether their leases are still their own.
    asks: mpsc::Sender<Ask>,
    /// What is to be answered by the next renewal.
    asked: Vec<Ask>,
}

/// What a worker needs of the bus before it can take a lease.
async fn register(
    deps: &Deps,
    kept: Duration,
) -> Result<(Arc<dyn KeyValue>, Subscription), muster_runtime::bus::Error> {
    let bucket = deps.bus.key_value(subject::LEASES_BUCKET, Some(kept)).await?;
    let heartbeats = deps.bus.subscribe(subject::HEARTBEATS, None).await?;
    Ok((bucket, heartbeats))
}

/// Runs a worker until cancelled; then what is under way is finished and the leases are given back.
/// A bus that is not there yet, or has no buckets for the moment, is waited for.
///
/// # Errors
/// When the bus cannot be used at all.
pub async fn run(deps: Deps, cancel: CancellationToken) -> Result<(), Error> {
    deps.health.not_ready(PART, "is not registered yet");
    let ttl = deps.config.lease_ttl.0;
    let name = format!("{:016x}", deps.random.u64());
    let (bucket, mut heartbeats) = loop {
        match register(&deps, ttl * KEPT_TTLS).await {
            Ok(registered) => break registered,
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the worker cannot register, and tries again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            () = deps.clock.sleep(deps.random.jitter(ttl / 5, 0.2)) => {}
        }
    };
    let leases = Leases::new(bucket, deps.clock.clone(), name.clone(), ttl);
    let (asks, mut asking) = mpsc::channel(ASKS_MAX);
    let (running, pools, asked) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut worker = Worker { deps, leases, running, pools, asks, asked };
    tracing::info!(worker = %name, shards = worker.deps.config.shards, "worker started");
    while !cancel.is_cancelled() {
        worker.turn().await;
        let pause = worker.deps.random.jitter(ttl / 5, 0.2);
        let clock = worker.deps.clock.clone();
        let pause = clock.sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                message = heartbeats.next() => {
                    let message = message.ok_or(Error::Closed)?;
                    if worker.on_heartbeat(&message.payload) {
                        break;
                    }
                }
                Some(ask) = asking.recv() => {
                    worker.asked.push(ask);
                    while let Ok(ask) = asking.try_recv() {
                        worker.asked.push(ask);
                    }
                    break;
                }
                () = &mut pause => break,
            }
        }
    }
    drain(&mut heartbeats);
    worker.stop().await;
    tracing::info!(worker = %name, "worker stopped");
    Ok(())
}

/// Nobody listens to what still lies in the subscription.
fn drain(heartbeats: &mut Subscription) {
    while let Some(Some(_)) = heartbeats.next().now_or_never() {}
}

impl Worker {
    /// Learns of pools; `true` when one is new.
    fn on_heartbeat(&mut self, payload: &[u8]) -> bool {
        match bus::decode::<Heartbeat>(payload) {
            Ok(heartbeat) => {
                let before = self.pools.len();
                self.pools.extend(heartbeat.pools);
                self.pools.len() > before
            }
            Err(error) => {
                tracing::warn!(%error, "a heartbeat cannot be read");
                false
            }
        }
    }

    async fn turn(&mut self) {
        match self.leases.renew().await {
            Ok(()) => {
                self.deps.health.ready(PART);
                self.answer_asks();
            }
            Err(error) => {
                self.deps.health.not_ready(PART, format!("cannot renew its leases: {error}"));
                tracing::warn!(%error, "leases could not be renewed");
            }
        }
        for name in self.leases.take_lost() {
            tracing::warn!(lease = %name, "lease lost");
            if let Some(running) = self.running.get(&name) {
                running.cancel.cancel();
            }
        }
        self.reap().await;
        self.hand_over();
        self.take().await;
        let owned = self.running.keys().filter(|name| name.starts_with("shard.")).count();
        self.deps.metrics.shards_owned.set(i64::try_from(owned).unwrap_or(i64::MAX));
        let led = self.running.len() - owned;
        self.deps.metrics.pools_led.set(i64::try_from(led).unwrap_or(i64::MAX));
    }

    /// Answers the owners whose leases were just renewed. Those of the others are cancelled.
    fn answer_asks(&mut self) {
        for Ask { lease, answer } in std::mem::take(&mut self.asked) {
            if self.leases.holds(&lease) {
                // An owner that has ended meanwhile does not wait for it.
                let _ = answer.send(());
            }
        }
    }

    /// Gives back the leases of what has ended.
    async fn reap(&mut self) {
        let ended: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| running.task.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            self.running.remove(&name);
            if let Err(error) = self.leases.give_back(&name).await {
                tracing::warn!(lease = %name, %error, "a lease was not given back and has to run out");
            }
        }
    }

    /// Begins to hand one lease over, if another worker is the one to have it.
    fn hand_over(&mut self) {
        let give = self.leases.held().into_iter().find(|name| self.leases.should_give(name));
        if let Some(running) = give.and_then(|name| self.running.get(&name)) {
            running.cancel.cancel();
        }
    }

    async fn take(&mut self) {
        let shards = (0..self.deps.config.shards).map(|n| format!("shard.{n}"));
        let pools = self.pools.iter().map(|pool| format!("pool.{pool}"));
        let names: Vec<String> = shards.chain(pools).collect();
        for name in names {
            // What ran under it may still be ending.
            if self.running.contains_key(&name) || !self.leases.should_take(&name) {
                continue;
            }
            match self.leases.take(&name).await {
                Ok(Some(won)) => self.start(name, won),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(lease = %name, %error, "a lease could not be taken");
                    return;
                }
            }
        }
    }

    fn start(&mut self, name: String, won: Won) {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let deps = self.deps.clone();
        let policy = Policy { on_error: OnError::Log, on_cancel: OnCancel::Drain };
        let lease = name.clone();
        let asker = Asker { lease: name.clone(), asks: self.asks.clone() };
        let task = self.deps.tasks.spawn_once(name.clone(), policy, move |_| async move {
            match lease.split_once('.') {
                Some(("shard", number)) => {
                    let shard = ShardId(number.parse().expect("it was made from a number"));
                    owner::run(shard, won, asker, deps, token).await.map_err(BoxError::from)
                }
                Some(("pool", pool)) => {
                    leader::run(pool, &won.trust, &deps, token).await.map_err(BoxError::from)
                }
                Some(_) | None => Err(BoxError::from("no such lease")),
            }
        });
        self.running.insert(name, Running { task, cancel });
    }

    /// Ends everything and gives the leases back.
    async fn stop(mut self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
        let ends = self.running.values_mut().map(|running| running.task.finished());
        let all = futures::future::join_all(ends);
        let mut renewals = Vec::new();
        tokio::select! {
            biased;
            _ = all => {}
            () = self.deps.clock.sleep(DRAIN) => renewals.push("owners did not end in time"),
        }
        for late in renewals {
            tracing::warn!("{late}");
        }
        self.reap().await;
        if let Err(error) = self.leases.leave().await {
            tracing::debug!(%error, "the worker's key was not deleted and has to run out");
        }
    }
}

//! The system under simulation: a gateway, a shard worker (which leads the pools) and an executor
//! for each cluster, as they ship, on a bus and a store in memory.
//!
//! One shard, one worker: how jobs are spread over shards does not change what a leader decides.
//! What only costs requests in a simulation, and decides nothing, is done less often than in a
//! deployment, or not at all: heartbeats, comparisons, history, checkpoints, records of rounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_api::bus::subject;
use muster_core::time::Timestamp;
use muster_executor::backend::Opened;
use muster_executor::config::BackendKind;
use muster_executor::limits::EVENTS_MAX;
use muster_runtime::bus::Bus as _;
use muster_runtime::config::HumanDuration;
use muster_runtime::http::Health;
use muster_runtime::store::control::ControlStore;
use muster_runtime::store::{Kind, Store};
use muster_runtime::tasks::{BoxError, Policy};
use muster_runtime::{Blocking, Clock, Metrics, Random, Supervisor};
use muster_shard::RoundWatch;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::World;
use crate::gateway::Gateway;
use crate::hold::Holding;
use crate::scenario::{Cluster, Scenario};

/// When simulated time begins: an arbitrary day.
pub(crate) const EPOCH: Timestamp = Timestamp(1_800_000_000_000);
/// Least time between two offers of the shard.
pub(crate) const OFFER_INTERVAL: Duration = Duration::from_millis(50);
/// So long the system may take to come up, by its own clock: its leader makes no room for anybody
/// in its first seconds.
const WARM_UP: Duration = Duration::from_secs(30);

/// What the roles stand on.
pub(crate) struct Site {
    pub(crate) clock: Clock,
    pub(crate) tasks: Supervisor,
    random: Random,
    pub(crate) bus: Holding,
    store: Store,
    directory: PathBuf,
}

impl Site {
    /// A site whose roles draw from a seed; `directory` is for executors, which keep nothing there.
    pub(crate) fn new(seed: u64, directory: PathBuf) -> Self {
        let random = Random::seeded(seed);
        Self {
            clock: Clock::starting_at(EPOCH),
            tasks: Supervisor::new(random.fork()),
            random,
            bus: Holding::default(),
            store: Store::over(Arc::new(InMemory::new()), Kind::Memory, "memory://"),
            directory,
        }
    }

    fn control(&self) -> ControlStore {
        ControlStore::new(self.store.clone(), self.random.fork())
    }

    /// Starts all roles, with the queues and classes of the scenario, and waits until they are at
    /// work.
    pub(crate) async fn start(
        &self,
        scenario: &Scenario,
        world: &World,
        watch: RoundWatch,
    ) -> anyhow::Result<Gateway> {
        self.start_worker(scenario, watch).await?;
        let gateway = self.start_gateway();
        for (name, settings) in &scenario.classes {
            gateway.put_class(name, settings).await?;
        }
        for queue in &scenario.queues {
            gateway.put_queue(&queue.name, &queue.settings).await?;
        }
        for cluster in &scenario.clusters {
            self.start_executor(cluster, world);
        }
        self.clock.sleep(WARM_UP).await;
        self.is_well()?;
        Ok(gateway)
    }

    /// Fails when a role has.
    pub(crate) fn is_well(&self) -> anyhow::Result<()> {
        match self.tasks.failure() {
            None => Ok(()),
            Some(failure) => Err(failure).context("a part of the simulated system failed"),
        }
    }

    async fn start_worker(&self, scenario: &Scenario, watch: RoundWatch) -> anyhow::Result<()> {
        let control = self.control();
        control.load_latest().await?;
        let wake_ups = self.bus.subscribe(subject::CONTROL, None).await?;
        let (following, clock) = (control.clone(), self.clock.clone());
        self.tasks.spawn_once("control", Policy::DETACHED, move |_| async move {
            following.follow(wake_ups, &clock).await;
            Ok::<(), BoxError>(())
        });
        let mut config = muster_shard::Config {
            shards: 1,
            exclusive: true,
            lease_ttl: HumanDuration::secs(20),
            commit_interval: HumanDuration::millis(20),
            checkpoint_records: u64::MAX,
            checkpoint_objects: u64::MAX,
            checkpoint_bytes: muster_runtime::config::ByteSize::mib(1 << 20),
            history_interval: HumanDuration::secs(3_600),
            history_rows: 100_000,
            cluster_timeout: HumanDuration::secs(600),
            offer_interval: HumanDuration(OFFER_INTERVAL),
            deletes_per_second: 0,
            rounds_interval: HumanDuration::millis(0),
            ..muster_shard::Config::default()
        };
        if let Some(share) = scenario.protected_share {
            config.protected_share = share;
        }
        let deps = muster_shard::Deps::new(
            config,
            Arc::new(self.bus.clone()),
            self.store.clone(),
            control.view(),
            self.clock.clone(),
            self.random.fork(),
            self.tasks.clone(),
            Blocking::inline(),
            Health::new(),
            &mut Registry::default(),
        );
        let deps = deps.watching_rounds(watch);
        self.tasks.spawn_once("shard worker", Policy::VITAL, move |cancel| {
            muster_shard::run(deps, cancel)
        });
        Ok(())
    }

    fn start_gateway(&self) -> Gateway {
        let deps = muster_gateway::Deps {
            bus: Arc::new(self.bus.clone()),
            control: self.control(),
            clock: self.clock.clone(),
            random: self.random.fork(),
            tasks: self.tasks.clone(),
            blocking: Blocking::inline(),
            metrics: Metrics::new(),
            health: Health::new(),
        };
        let config = muster_gateway::Config { shards: 1, ..muster_gateway::Config::default() };
        let gateway = muster_gateway::Gateway::start(config, deps);
        Gateway::new(muster_gateway::router(gateway))
    }

    fn start_executor(&self, cluster: &Cluster, world: &World) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let backend = Arc::new(world.cluster(cluster.nodes.clone(), sender));
        let config = muster_executor::Config {
            cluster: cluster.name.clone(),
            pool: cluster.pool.clone(),
            shards: 1,
            state_dir: self.directory.join(&cluster.name),
            backend: BackendKind::Simulated,
            lease_wait: HumanDuration::secs(20),
            heartbeat_interval: HumanDuration::secs(60),
            sync_interval: HumanDuration::secs(300),
            ..muster_executor::Config::default()
        };
        let deps = muster_executor::Deps {
            bus: Arc::new(self.bus.clone()),
            clock: self.clock.clone(),
            random: self.random.fork(),
            tasks: self.tasks.clone(),
            blocking: Blocking::inline(),
            metrics: muster_executor::Metrics::default(),
            health: Health::new(),
        };
        let name = format!("executor of {}", cluster.name);
        self.tasks.spawn_once(name, Policy::VITAL, move |cancel: CancellationToken| {
            muster_executor::run_on(Opened { backend, events }, config, deps, cancel)
        });
    }
}

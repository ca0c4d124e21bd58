//! The processes of a simulated deployment: gateways, shard workers and executors as they ship,
//! each behind a gate by which it is stopped, continued and killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use muster_api::bus::subject;
use muster_core::time::Timestamp;
use muster_runtime::bus::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::http::Health;
use muster_runtime::store::control::ControlStore;
use muster_runtime::store::{self, Store};
use muster_runtime::tasks::{BoxError, Gate, Policy};
use muster_runtime::{Blocking, Clock, Metrics, Random, Supervisor};
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::background::spawn;
use crate::faults::{Faults, Peer};
use crate::observed::{Pods, observe};
use crate::plan::Plan;
use crate::store::Landings;
use crate::trace::{Trace, note};
use crate::{net, store as sim_store};

/// When the simulated time begins: an arbitrary day.
pub(crate) const EPOCH: Timestamp = Timestamp(1_800_000_000_000);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Worker,
    Executor,
}

/// What all processes share: the world outside.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) plan: Arc<Plan>,
    pub(crate) bus: Memory,
    pub(crate) objects: Arc<InMemory>,
    pub(crate) landings: Landings,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) random: Random,
    pub(crate) pods: Pods,
    pub(crate) directory: PathBuf,
    pub(crate) began: Instant,
}

/// One process, alive or between two lives.
pub(crate) struct Process {
    site: Site,
    pub(crate) role: Role,
    pub(crate) number: usize,
    pub(crate) peer: Peer,
    /// Milliseconds that its clock is off.
    skew: i64,
    life: Option<Life>,
}

/// From a start to the next end.
struct Life {
    gate: Gate,
    tasks: Supervisor,
    clock: Clock,
    stop: CancellationToken,
    router: Option<Router>,
    has_ended: Arc<AtomicBool>,
}

/// What one life stands on.
#[derive(Clone)]
struct Parts {
    bus: Arc<dyn Bus>,
    store: Store,
    clock: Clock,
    random: Random,
    tasks: Supervisor,
    blocking: Blocking,
}

impl Process {
    pub(crate) fn new(site: Site, role: Role, number: usize, peer: Peer) -> Self {
        Self { site, role, number, peer, skew: 0, life: None }
    }

    pub(crate) fn name(&self) -> String {
        match self.role {
            Role::Gateway => format!("gateway-{}", self.number),
            Role::Worker => format!("worker-{}", self.number),
            Role::Executor => format!("cluster-{}", self.number),
        }
    }

    /// Whether it lives. A process whose vital task failed, or that left, has ended.
    pub(crate) fn is_alive(&self) -> bool {
        let lives = |life: &Life| !life.has_ended.load(Ordering::Relaxed) && !life.gate.is_killed();
        self.life.as_ref().is_some_and(lives)
    }

    /// Starts it with nothing in memory.
    pub(crate) fn start(&mut self) {
        self.kill();
        note!(self.site.trace, "{} starts as p{}", self.name(), self.peer.0);
        let random = self.site.random.fork();
        let now = EPOCH.plus(self.site.began.elapsed());
        let clock = Clock::starting_at(Timestamp(now.0 + self.skew));
        let gate = Gate::default();
        let tasks = Supervisor::behind(gate.clone(), random.fork());
        let endpoint = net::Endpoint {
            peer: self.peer,
            bus: self.site.bus.clone(),
            faults: self.site.faults.clone(),
            trace: self.site.trace.clone(),
        };
        let objects = sim_store::Endpoint {
            peer: self.peer,
            objects: Arc::clone(&self.site.objects),
            landings: self.site.landings.clone(),
            faults: self.site.faults.clone(),
            trace: self.site.trace.clone(),
        };
        let parts = Parts {
            bus: Arc::new(endpoint),
            store: objects.store(),
            clock: clock.clone(),
            random,
            tasks: tasks.clone(),
            blocking: Blocking::inline(),
        };
        let stop = CancellationToken::new();
        let has_ended = Arc::new(AtomicBool::new(false));
        let router = self.run(parts, stop.clone(), Arc::clone(&has_ended));
        self.life = Some(Life { gate, tasks, clock, stop, router, has_ended });
    }

    /// Starts what this role is; a gateway is asked through its router.
    fn run(
        &self,
        parts: Parts,
        stop: CancellationToken,
        has_ended: Arc<AtomicBool>,
    ) -> Option<Router> {
        let tasks = parts.tasks.clone();
        let (site, name) = (self.site.clone(), self.name());
        let mut router = None;
        let main = match self.role {
            Role::Gateway => {
                let (gateway, work) = gateway(&site, parts, stop);
                router = Some(gateway);
                tasks.spawn_once("main", Policy::VITAL, move |_| work)
            }
            Role::Worker => {
                tasks.spawn_once("main", Policy::VITAL, move |_| worker(site, parts, stop))
            }
            Role::Executor => {
                let cluster = name.clone();
                tasks.spawn_once("main", Policy::VITAL, move |_| {
                    executor(site, cluster, parts, stop)
                })
            }
        };
        // As the process's own main function: a failed task or the end of the role ends it.
        let (trace, mut main, watched) = (self.site.trace.clone(), main, tasks.clone());
        spawn(async move {
            tokio::select! {
                biased;
                _ = main.finished() => {}
                () = watched.cancelled() => {}
            }
            note!(trace, "{name} has ended: {:?}", watched.failure());
            has_ended.store(true, Ordering::Relaxed);
        });
        router
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            note!(self.site.trace, "{} is gone", self.name());
            life.gate.kill();
        }
    }

    /// SIGKILL, after so many more turns of its tasks.
    pub(crate) fn kill_after(&self, turns: u64) {
        if let Some(life) = &self.life {
            note!(self.site.trace, "{} has {turns} turns left", self.name());
            life.gate.kill_after(turns);
        }
    }

    /// Loses what it keeps on its machine.
    pub(crate) fn lose_data(&self) {
        note!(self.site.trace, "{} loses its data", self.name());
        let directory = self.site.directory.join(self.name());
        if directory.exists() {
            std::fs::remove_dir_all(directory).expect("it is the simulation's own directory");
            self.site.pods.rebuilt(&self.name());
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        if let Some(life) = &self.life {
            note!(self.site.trace, "{} is asked to end", self.name());
            life.stop.cancel();
        }
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        if let Some(life) = &self.life {
            note!(self.site.trace, "{} is frozen", self.name());
            life.gate.freeze();
        }
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        if let Some(life) = &self.life {
            note!(self.site.trace, "{} goes on", self.name());
            life.gate.thaw();
        }
    }

    /// Sets its clock.
    pub(crate) fn jump(&mut self, millis: i64) {
        note!(self.site.trace, "the clock of {} jumps by {millis} ms", self.name());
        self.skew += millis;
        if let Some(life) = &self.life {
            life.clock.set_by(millis);
        }
    }

    /// A gateway's router, and whose tasks its requests are.
    pub(crate) fn serving(&self) -> Option<(Router, Supervisor)> {
        let life = self.life.as_ref().filter(|life| !life.gate.is_killed())?;
        Some((life.router.clone()?, life.tasks.clone()))
    }
}

/// A gateway, and the work of its main task.
fn gateway(
    site: &Site,
    parts: Parts,
    stop: CancellationToken,
) -> (Router, impl Future<Output = Result<(), BoxError>> + Send + use<>) {
    let control = ControlStore::new(parts.store.clone(), parts.random.fork());
    let deps = muster_gateway::Deps {
        bus: parts.bus,
        control,
        clock: parts.clock,
        random: parts.random,
        tasks: parts.tasks,
        blocking: parts.blocking,
        metrics: Metrics::new(),
        health: Health::new(),
    };
    let gateway = muster_gateway::Gateway::start(site.plan.gateway.clone(), deps);
    let router = muster_gateway::router(gateway.clone());
    let work = async move {
        stop.cancelled().await;
        gateway.drain();
        Ok(())
    };
    (router, work)
}

async fn worker(site: Site, parts: Parts, stop: CancellationToken) -> Result<(), BoxError> {
    store::probe::probe(&parts.store, &parts.random).await?;
    let control = ControlStore::new(parts.store.clone(), parts.random.fork());
    control.load_latest().await?;
    let wake_ups = parts.bus.subscribe(subject::CONTROL, None).await?;
    let (following, clock) = (control.clone(), parts.clock.clone());
    parts.tasks.spawn_once("control", Policy::DETACHED, move |_| async move {
        following.follow(wake_ups, &clock).await;
        Ok::<(), BoxError>(())
    });
    let deps = muster_shard::Deps::new(
        site.plan.shard.clone(),
        parts.bus,
        parts.store,
        control.view(),
        parts.clock,
        parts.random,
        parts.tasks,
        parts.blocking,
        Health::new(),
        &mut Registry::default(),
    );
    muster_shard::run(deps, stop).await?;
    Ok(())
}

async fn executor(
    site: Site,
    cluster: String,
    parts: Parts,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let state_dir = site.directory.join(&cluster);
    let config = muster_executor::Config {
        cluster: cluster.clone(),
        state_dir,
        ..site.plan.executor.clone()
    };
    let deps = muster_executor::Deps {
        bus: parts.bus,
        clock: parts.clock,
        random: parts.random,
        tasks: parts.tasks,
        blocking: parts.blocking,
        metrics: muster_executor::Metrics::default(),
        health: Health::new(),
    };
    let (pods, tasks) = (site.pods.clone(), deps.tasks.clone());
    let wrap = |opened| observe(opened, cluster, pods, &tasks);
    muster_executor::run_through(wrap, config, deps, stop).await?;
    Ok(())
}

/// How long an orchestrator takes to start a process again that ended.
pub(crate) const RESTART_DELAY: Duration = Duration::from_millis(1_500);

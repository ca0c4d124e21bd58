//! What every server process of Muster is made of, whichever roles it runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_runtime::bus::{self, Bus};
use muster_runtime::http::{self, Health, admin};
use muster_runtime::store::control::{ControlStore, ControlView};
use muster_runtime::store::{self, Store};
use muster_runtime::tasks::{OnCancel, OnError, Policy};
use muster_runtime::{Blocking, Clock, Metrics, Random, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// The store's name among the parts that must be ready.
const STORE: &str = "store";

/// What a process has before it is connected to anything.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Supervisor,
    pub(crate) metrics: Metrics,
    pub(crate) blocking: Blocking,
    pub(crate) health: Health,
}

/// The parts that roles share in one process.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) base: Base,
    pub(crate) bus: Arc<dyn Bus>,
}

impl std::ops::Deref for Parts {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

/// What the roles that keep data need beside.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) store: Store,
    pub(crate) control: ControlStore,
    pub(crate) view: ControlView,
}

impl Base {
    /// A process that is not ready.
    pub(crate) fn new() -> Self {
        let random = Random::from_os();
        let health = Health::new();
        health.await_bus();
        Self {
            clock: Clock::system(),
            tasks: Supervisor::new(random.clone()),
            metrics: Metrics::new(),
            blocking: Blocking::per_core(),
            health,
            random,
        }
    }

    /// Serves health and metrics on an address of their own, before anything else is there.
    pub(crate) async fn serve_admin(&self, config: &admin::Config) -> anyhow::Result<Role> {
        let listener = http::bind(config.listen, config.insecure).await?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
        let base = self.clone();
        let run = move |stop| {
            admin::run(listener, base.health, base.metrics, base.clock, base.tasks, stop)
        };
        Ok(Role::start(&self.tasks, "admin", run))
    }
}

impl Parts {
    /// Connects to the bus.
    pub(crate) async fn connect(
        base: Base,
        settings: &Settings,
        name: &str,
    ) -> anyhow::Result<Self> {
        let options = bus::Options {
            name: name.to_owned(),
            replicas: settings.bus.replicas,
            tls_ca_file: settings.bus.tls_ca_file.clone(),
            ..bus::Options::default()
        };
        let bus =
            bus::open(&settings.bus.url, &options).await.context("the bus cannot be opened")?;
        base.health.follow_bus(&bus);
        Ok(Self { base, bus })
    }

    /// Opens the store, refuses an unsafe one, reads the control data, and refuses a number of
    /// shards that is not the deployment's.
    pub(crate) async fn data(&self, settings: &Settings) -> anyhow::Result<Data> {
        self.health.not_ready(STORE, "has not been probed yet");
        let store = store::open(&settings.store)
            .with_context(|| format!("store `{}` cannot be opened", settings.store.url))?;
        store::probe::probe(&store, &self.random)
            .await
            .with_context(|| format!("store `{}` was not accepted", settings.store.url))?;
        self.health.ready(STORE);
        self.metrics.register("store", |registry| store.register(registry));
        let control = ControlStore::new(store.clone(), self.random.clone());
        control.load_latest().await.context("the control data cannot be read")?;
        control
            .keep_shards(settings.shards)
            .await
            .with_context(|| format!("store `{}` was not accepted", settings.store.url))?;
        let view = control.view();
        Ok(Data { store, control, view })
    }

    /// Refreshes the control data, in a process without a gateway, which does it too: when a
    /// message tells of a change, and every few minutes anyway.
    pub(crate) async fn follow_control(&self, control: &ControlStore) -> anyhow::Result<()> {
        let changes = self.bus.subscribe(muster_api::bus::subject::CONTROL, None).await?;
        let (control, clock) = (control.clone(), self.clock.clone());
        let policy = Policy { on_error: OnError::Shutdown, on_cancel: OnCancel::Abort };
        self.tasks.spawn_once("control", policy, move |_| async move {
            control.follow(changes, &clock).await;
            Err::<(), _>(anyhow::anyhow!("the bus was closed"))
        });
        Ok(())
    }
}

/// A role that runs as a task and is stopped in its turn.
pub(crate) struct Role {
    pub(crate) stop: CancellationToken,
    pub(crate) task: muster_runtime::tasks::Task,
}

impl Role {
    /// Starts a role; its failure stops the process.
    pub(crate) fn start<F, E>(
        tasks: &Supervisor,
        name: &str,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<muster_runtime::tasks::BoxError> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let token = stop.clone();
        // Its token is cancelled in its turn, not with all the others.
        let task = tasks.spawn_once(name.to_owned(), Policy::VITAL, move |_| run(token));
        Self { stop, task }
    }

    /// Asks it to end and waits for that.
    pub(crate) async fn end(mut self, deadline: Duration) {
        self.stop.cancel();
        // Its failure is recorded by the supervisor, and said there.
        let ended = tokio::time::timeout(deadline, self.task.finished()).await;
        if ended.is_err() {
            tracing::warn!(role = self.task.name(), ?deadline, "did not end in time");
        }
    }
}

/// Waits until the process is asked to stop or a task fails; then ends the roles in this order.
pub(crate) async fn run_until_stopped(
    parts: &Parts,
    roles: Vec<Role>,
    stop: CancellationToken,
    deadline: Duration,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = parts.tasks.cancelled() => {}
    }
    parts.health.drain();
    for role in roles {
        role.end(deadline).await;
    }
    parts.tasks.shutdown(deadline).await?;
    Ok(())
}

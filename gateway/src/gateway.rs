//! What all operations share.

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::subject;
use muster_api::http::ErrorCode;
use muster_core::control::{Control, Queue};
use muster_core::id::{CommandId, ShardId};
use muster_core::route::shard_of_queue;
use muster_runtime::bus::{Bus, KeyValue};
use muster_runtime::http::Health;
use muster_runtime::owners::Owners;
use muster_runtime::store::control::{ControlStore, ControlView};
use muster_runtime::tasks::Policy;
use muster_runtime::{Blocking, Clock, Metrics, Random, Supervisor};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Place};
use crate::config::Config;
use crate::control::unreadable;
use crate::limits;
use crate::metrics::Metrics as Counted;
use crate::problem::{Answer, Failure};

/// What a gateway needs from its process.
#[derive(Clone)]
pub struct Deps {
    /// The way to shards and executors.
    pub bus: Arc<dyn Bus>,
    /// The queues.
    pub control: ControlStore,
    /// The time.
    pub clock: Clock,
    /// Ids of commands and requests, and jitter.
    pub random: Random,
    /// Where its tasks run.
    pub tasks: Supervisor,
    /// Where CPU work runs.
    pub blocking: Blocking,
    /// Where its metrics go, and what `/metrics` shows.
    pub metrics: Metrics,
    /// What `/health/ready` shows.
    pub health: Health,
}

/// A gateway; clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    deps: Deps,
    control: ControlView,
    owners: Owners,
    counted: Counted,
    pools: OnceCell<Arc<dyn KeyValue>>,
    submissions: Admission,
    /// Requests with a small body.
    requests: Admission,
    streams: Arc<Semaphore>,
    /// In units of [`BYTES_PER_PERMIT`].
    submit_bytes: Arc<Semaphore>,
    draining: CancellationToken,
}

const BYTES_PER_PERMIT: usize = 1024;
/// Its name among the parts that must be ready.
const PART: &str = "gateway";

impl Gateway {
    /// A gateway that has read no control data yet.
    #[must_use]
    pub fn new(config: Config, deps: Deps) -> Self {
        let counted = deps.metrics.register("gateway", Counted::register);
        deps.health.follow_bus(&deps.bus);
        deps.health.not_ready(PART, "the control data has not been read yet");
        let permits = config.submit_bytes_max.as_usize() / BYTES_PER_PERMIT;
        let shared = Shared {
            control: deps.control.view(),
            owners: Owners::new(config.shards),
            counted,
            pools: OnceCell::new(),
            submissions: Admission::new(config.submissions_max, deps.clock.clone()),
            requests: Admission::new(config.submissions_max, deps.clock.clone()),
            streams: Arc::new(Semaphore::new(config.streams_max)),
            submit_bytes: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            draining: CancellationToken::new(),
            config,
            deps,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A gateway with the tasks that follow what happens elsewhere.
    #[must_use]
    pub fn start(config: Config, deps: Deps) -> Self {
        let gateway = Self::new(config, deps);
        let following = gateway.clone();
        let policy = Policy::restarting();
        gateway.deps().tasks.spawn("gateway control data", policy, move |cancel| {
            let following = following.clone();
            async move { following.follow_control(cancel).await }
        });
        let (following, policy) = (gateway.clone(), Policy::restarting());
        gateway.deps().tasks.spawn("gateway owners", policy, move |cancel| {
            let following = following.clone();
            async move { following.follow_owners(cancel).await }
        });
        gateway
    }

    /// Keeps the control data fresh: reads it, then again with each wake-up and now and then
    /// without. Ends when `cancel` says so.
    ///
    /// # Errors
    /// When the bus or the store fails; the caller starts it again.
    pub async fn follow_control(
        &self,
        cancel: CancellationToken,
    ) -> Result<(), muster_runtime::tasks::BoxError> {
        let wake_ups = self.bus().subscribe(subject::CONTROL, None).await?;
        self.deps().control.load_latest().await?;
        self.deps().health.ready(PART);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            () = self.deps().control.follow(wake_ups, self.clock()) => {
                Err("the bus is closed".into())
            }
        }
    }

    /// Hears of new owners of shards. Ends when `cancel` says so.
    async fn follow_owners(
        &self,
        cancel: CancellationToken,
    ) -> Result<(), muster_runtime::tasks::BoxError> {
        let mut said = self.bus().subscribe(subject::OWNERS, None).await?;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                message = said.next() => {
                    self.owners().heard(&message.ok_or("the bus is closed")?);
                }
            }
        }
    }

    /// Says that it is about to stop: it is not ready any more, and endless streams end.
    pub fn drain(&self) {
        self.deps().health.drain();
        self.shared.draining.cancel();
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn deps(&self) -> &Deps {
        &self.shared.deps
    }

    pub(crate) fn bus(&self) -> &Arc<dyn Bus> {
        &self.shared.deps.bus
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.deps.clock
    }

    pub(crate) fn random(&self) -> &Random {
        &self.shared.deps.random
    }

    pub(crate) fn owners(&self) -> &Owners {
        &self.shared.owners
    }

    pub(crate) fn counted(&self) -> &Counted {
        &self.shared.counted
    }

    pub(crate) fn blocking(&self) -> &Blocking {
        &self.shared.deps.blocking
    }

    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        self.shared.control.latest()
    }

    /// The queue; where it is unknown, after a look whether it is new.
    pub(crate) async fn queue(&self, name: &str) -> Answer<Queue> {
        if let Some(queue) = self.control().queues.get(name) {
            return Ok(queue.clone());
        }
        let control = self.newest_control().await?;
        control.queues.get(name).cloned().ok_or_else(|| Failure::no_queue(name))
    }

    /// The control data as it stands in the store.
    pub(crate) async fn newest_control(&self) -> Answer<Arc<Control>> {
        self.deps().control.refresh().await.map_err(|error| unreadable(&error))
    }

    pub(crate) fn shard_of(&self, queue: &str) -> ShardId {
        shard_of_queue(queue, self.config().shards)
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.config().shards).map(ShardId)
    }

    pub(crate) fn command_id(&self) -> CommandId {
        CommandId(self.random().u128())
    }

    /// What the pool leaders publish.
    pub(crate) async fn pools(&self) -> Answer<&Arc<dyn KeyValue>> {
        let open = || self.bus().key_value(subject::POOLS_BUCKET, None);
        self.shared.pools.get_or_try_init(open).await.map_err(|error| {
            tracing::warn!(%error, "pools cannot be read");
            Failure::unavailable("the pools cannot be read at the moment")
        })
    }

    /// The right to take one more submission in.
    pub(crate) fn admit(&self) -> Answer<Place> {
        let place = self.place_among(&self.shared.submissions);
        place.ok_or_else(|| {
            self.counted().refused.inc();
            let max = self.config().submissions_max;
            Failure::new(ErrorCode::Overloaded, format!("{max} submissions are being taken in"))
        })
    }

    /// The right to read the small body of one more request.
    pub(crate) fn admit_request(&self) -> Answer<Place> {
        let place = self.place_among(&self.shared.requests);
        place.ok_or_else(|| {
            let max = self.config().submissions_max;
            Failure::new(ErrorCode::Overloaded, format!("the bodies of {max} requests are read"))
        })
    }

    fn place_among(&self, admission: &Admission) -> Option<Place> {
        let (place, gave_way) = admission.admit()?;
        if gave_way {
            self.counted().bodies_displaced.inc();
        }
        Some(place)
    }

    /// The right to one more answer that goes on for as long as its reader likes.
    pub(crate) fn admit_stream(&self) -> Answer<OpenStream> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            let max = self.config().streams_max;
            Failure::new(ErrorCode::Overloaded, format!("{max} streams are being read"))
        })?;
        let open = self.counted().streams.clone();
        open.inc();
        Ok(OpenStream { open, _permit: permit })
    }

    /// The right to hold so many bytes of a submission; waits until there is room. Whoever holds
    /// some already does not wait for more: see [`Gateway::hold`].
    pub(crate) async fn admit_bytes(&self, bytes: usize) -> OwnedSemaphorePermit {
        Arc::clone(&self.shared.submit_bytes)
            .acquire_many_owned(self.permits(bytes))
            .await
            .expect("the semaphore is never closed")
    }

    /// More of that right, up to `bytes` in all. Whoever holds some is not kept waiting for more
    /// without end: others may wait for what it holds.
    pub(crate) async fn admit_more_bytes(
        &self,
        held: &mut OwnedSemaphorePermit,
        bytes: usize,
    ) -> Answer<()> {
        let wanted = self.permits(bytes);
        let more = wanted.saturating_sub(u32::try_from(held.num_permits()).unwrap_or(u32::MAX));
        if more == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.shared.submit_bytes).acquire_many_owned(more);
        tokio::select! {
            biased;
            more = more => held.merge(more.expect("the semaphore is never closed")),
            () = self.clock().sleep(limits::OVERLOAD_WAIT) => {
                self.counted().refused.inc();
                let max = self.config().submit_bytes_max;
                let detail = format!("submissions of {max} are being taken in");
                return Err(Failure::new(ErrorCode::Overloaded, detail));
            }
        }
        Ok(())
    }

    /// What stands for so many bytes: for more than there may be at all, everything.
    fn permits(&self, bytes: usize) -> u32 {
        let all = self.config().submit_bytes_max.as_usize() / BYTES_PER_PERMIT;
        u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT).min(all)).unwrap_or(u32::MAX)
    }

    /// A request that may change something.
    pub(crate) fn write_timeout(&self) -> Duration {
        self.config().write_timeout.0
    }

    /// A request that only asks.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.config().read_timeout.0
    }
}

/// The right to an answer without an end of its own.
pub(crate) struct OpenStream {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

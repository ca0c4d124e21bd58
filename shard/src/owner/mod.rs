//! Owning a shard: one task that holds its state, commits to its log, and answers.
//!
//! Commands are applied to the state at once and collect in the open commit; a reply leaves when
//! the commit that holds everything it speaks of is durable. A failed commit is never undone: the
//! owner stops, its state is dropped with all that it had not acknowledged, and whoever owns the
//! shard next reads the log.

mod background;
mod commit;
mod damaged;
mod durable;
mod events;
mod garbage;
mod offers;
mod pace;
mod preempt;
mod questions;
mod reads;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::FutureExt;
use muster_api::bus::{self, Heartbeat, subject};
use muster_core::Name;
use muster_core::command::{Command, Outcome};
use muster_core::id::{CommandId, ShardId};
use muster_core::mutant::{self, Mutant};
use muster_core::shard::Shard;
use muster_runtime::bus::Subscription;
use muster_runtime::log::{Log, TakenOver};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::lease::{Asker, Trust, Won};
use crate::worker::Deps;
use background::{Background, Done};
use commit::{Flight, Open};
use durable::Durable;
use events::Recent;
use pace::Pace;

/// Requests taken in before a commit is sealed, so that one commit serves them all.
const DRAIN_MAX: usize = 512;
/// How often the owner looks after what is due by time.
const TICK: Duration = Duration::from_millis(500);
/// Runs of a silent cluster given up in one step.
const EXPIRE_MAX: usize = 5_000;

/// Why a shard is no longer owned by this task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] muster_runtime::bus::Error),
    /// The log could not be taken over.
    #[error(transparent)]
    TakeOver(#[from] muster_runtime::log::TakeOverError),
    /// The log takes no commit any more.
    #[error(transparent)]
    Append(muster_runtime::log::AppendError),
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] muster_runtime::codec::Error),
    /// CPU work failed.
    #[error(transparent)]
    Blocking(#[from] muster_runtime::blocking::Error),
    /// The bus was closed.
    #[error("the bus was closed")]
    Closed,
}

struct Owner {
    deps: Deps,
    state: Shard,
    log: Arc<Log>,
    trust: Trust,
    /// Who this owner is to those who read its offers.
    name: String,
    epoch: u64,
    open: Open,
    flight: Option<Flight>,
    pace: Pace,
    /// The last sequence that is durable.
    durable: Durable,
    recent: Arc<Recent>,
    /// When each cluster was last heard of.
    contacts: BTreeMap<Name, Duration>,
    /// The version of the control data by which retries are decided.
    policies_of: Option<u64>,
    /// When it was last looked after what is due by time.
    ticked_at: Duration,
    offers: offers::Publisher,
    background: Background,
    /// From which log object on none was let go, when readers last looked for it.
    whole_from: Arc<AtomicU64>,
    /// Stop orders that could not be sent: cluster, (job, attempt).
    stops_unsent: Vec<(Name, Vec<(String, u32)>)>,
}

/// Everything that the owner listens to.
struct Inbox {
    requests: Subscription,
    heartbeats: Subscription,
    offers_wanted: Subscription,
    done: mpsc::Receiver<Done>,
}

/// Takes a shard over and owns it until cancelled, or until another owner has taken it.
pub(crate) async fn run(
    shard: ShardId,
    won: Won,
    lease: Asker,
    deps: Deps,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let began = deps.clock.monotonic();
    let Some((state, taken)) = take_over(shard, &won.trust, &deps, &cancel).await? else {
        return Ok(());
    };
    let read_in = deps.clock.monotonic().saturating_sub(began);
    let (epoch, behind) = (taken.epoch, taken.behind);
    // The first object of a log has nobody before it.
    let must_wait = !deps.config.exclusive && !mutant::is(Mutant::TakesOverAtOnce);
    if !taken.released_by_previous && epoch > 1 && must_wait {
        // The owner before may still believe in its lease, and answer reads from a state that is
        // old.
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = deps.clock.sleep_until(won.clear_at) => {}
        }
    }
    if !deps.config.exclusive {
        // Where the lease's key was lost, another may have taken it and set its fence before this
        // one: it would answer reads beside this owner, and know nothing of what is committed here.
        // Who still holds the lease now that its fence stands has its fence behind those of all who
        // held it before, and before those of all who will.
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = lease.renewed() => {}
        }
    }
    deps.metrics.takeovers.inc();
    let took = deps.clock.monotonic().saturating_sub(began);
    let (jobs, objects) = (state.table_len(), behind.objects);
    tracing::info!(%shard, epoch, jobs, objects, ?read_in, ?took, "shard taken over");
    let (mut owner, done) = Owner::new(deps, state, taken, won.trust);
    let mut inbox = Inbox {
        requests: owner.deps.bus.subscribe(&subject::shard(shard), None).await?,
        heartbeats: owner.deps.bus.subscribe(subject::HEARTBEATS, None).await?,
        offers_wanted: owner.deps.bus.subscribe(subject::OFFERS_WANTED, None).await?,
        done,
    };
    // Who asked the owner before, and got no answer, asks again at once. Who does not hear this
    // does so in time.
    if let Err(error) = owner.deps.bus.publish(&subject::owner(shard), bytes::Bytes::new()).await {
        tracing::debug!(%shard, %error, "nobody was told of the new owner");
    }
    let mut end = owner.serve(&mut inbox, &cancel).await;
    if let Ok(End::Cancelled) = end {
        drop(inbox.requests);
        end = owner.release().await;
    }
    // The counterpart of the line above: between both stands all that this owner acknowledged, none
    // of it behind `durable`.
    let (durable, fenced) = (owner.durable.get(), matches!(end, Ok(End::Fenced)));
    tracing::info!(%shard, epoch, durable, fenced, "shard no longer owned");
    end.map(|_| ())
}

/// Takes the shard over, however long it is held with a damaged object before; `None` when
/// cancelled.
async fn take_over(
    shard: ShardId,
    trust: &Trust,
    deps: &Deps,
    cancel: &CancellationToken,
) -> Result<Option<(Shard, TakenOver)>, Error> {
    let mut held = None;
    loop {
        let taken = tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            taken = commit::take_over(shard, deps) => taken,
        };
        let error = match taken {
            Ok(taken) => return Ok(Some(taken)),
            Err(Error::TakeOver(error)) if error.damaged().is_some() => error,
            Err(error) => return Err(error),
        };
        let held = held.get_or_insert_with(|| damaged::Held::new(shard, deps.clone()));
        if held.until_worth_a_try(&error, trust, cancel).await? == End::Cancelled {
            return Ok(None);
        }
    }
}

/// How an ownership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cancelled,
    Fenced,
}

impl Owner {
    fn new(
        deps: Deps,
        state: Shard,
        taken: TakenOver,
        trust: Trust,
    ) -> (Self, mpsc::Receiver<Done>) {
        let (background, done) = Background::new(&deps, &state, &taken);
        let now = deps.clock.monotonic();
        let contacts = state.clusters().map(|cluster| (cluster.clone(), now)).collect();
        let owner = Self {
            name: format!("{:016x}", deps.random.u64()),
            epoch: taken.epoch,
            open: Open::default(),
            flight: None,
            pace: Pace::new(deps.config.commit_interval.0),
            durable: Durable::new(taken.log.next_sequence() - 1),
            recent: Arc::new(Recent::default()),
            contacts,
            policies_of: None,
            ticked_at: now,
            offers: offers::Publisher::default(),
            background,
            whole_from: Arc::default(),
            stops_unsent: Vec::new(),
            log: Arc::new(taken.log),
            trust,
            state,
            deps,
        };
        (owner, done)
    }

    async fn serve(&mut self, inbox: &mut Inbox, cancel: &CancellationToken) -> Result<End, Error> {
        self.offers.tell_all();
        let mut tick = self.deps.clock.monotonic();
        loop {
            self.seal_if_due()?;
            self.publish_offers().await?;
            let now = self.deps.clock.monotonic();
            let wake = [Some(tick), self.commit_due(), self.offers_due()];
            let wake = wake.into_iter().flatten().min().unwrap_or(tick);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(End::Cancelled),
                landed = commit::landed(&mut self.flight) => {
                    if self.on_landed(landed).await? == End::Fenced {
                        return Ok(End::Fenced);
                    }
                }
                done = inbox.done.recv() => self.on_done(done.ok_or(Error::Closed)?),
                message = inbox.requests.next() => {
                    self.on_request(message.ok_or(Error::Closed)?).await;
                    self.drain(&mut inbox.requests).await?;
                }
                message = inbox.heartbeats.next() => {
                    self.on_heartbeat(&message.ok_or(Error::Closed)?.payload);
                }
                message = inbox.offers_wanted.next() => {
                    message.ok_or(Error::Closed)?;
                    self.offers.tell_all();
                }
                () = self.deps.clock.sleep_until(wake) => {}
            }
            if now >= tick {
                tick = now + TICK;
                self.on_tick();
                self.send_stops_again().await;
            }
        }
    }

    async fn drain(&mut self, requests: &mut Subscription) -> Result<(), Error> {
        for _ in 0..DRAIN_MAX {
            match requests.next().now_or_never() {
                Some(message) => self.on_request(message.ok_or(Error::Closed)?).await,
                None => break,
            }
        }
        Ok(())
    }

    /// Carries out a command of the owner's own.
    fn execute(&mut self, command: Command) -> Outcome {
        let id = CommandId(self.deps.random.u128());
        self.execute_as(id, command)
    }

    fn on_heartbeat(&mut self, payload: &[u8]) {
        match bus::decode::<Heartbeat>(payload) {
            Ok(heartbeat) => self.heard_of(&heartbeat.cluster),
            Err(error) => tracing::warn!(%error, "a heartbeat cannot be read"),
        }
    }

    fn heard_of(&mut self, cluster: &str) {
        let now = self.deps.clock.monotonic();
        match self.contacts.get_mut(cluster) {
            Some(at) => *at = now,
            None => {
                self.contacts.insert(cluster.into(), now);
            }
        }
    }

    fn on_tick(&mut self) {
        let now = self.deps.clock.monotonic();
        // Who was not awake heard nobody: that time is no silence of theirs.
        let asleep = now.saturating_sub(self.ticked_at).saturating_sub(TICK);
        self.contacts.values_mut().for_each(|at| *at += asleep);
        self.ticked_at = now;
        // Without a lease that certainly holds, somebody else may be the one to decide.
        if !self.trust.holds() {
            return;
        }
        let timeout = self.deps.config.cluster_timeout.0;
        let silent: Vec<Name> = self
            .state
            .clusters()
            .filter(|cluster| {
                let at = self.contacts.get(*cluster).copied().unwrap_or_default();
                now.saturating_sub(at) > timeout
            })
            .cloned()
            .collect();
        for cluster in silent {
            let command = Command::ExpireCluster { cluster: cluster.clone(), runs_max: EXPIRE_MAX };
            if let Outcome::Expired(runs) = self.execute(command) {
                tracing::warn!(%cluster, runs, "cluster is silent, its runs are given up");
                self.deps.metrics.expired_runs.inc_by(runs as u64);
            }
        }
        self.contacts.retain(|_, at| now.saturating_sub(*at) <= timeout * 2);
        if self.state.is_rest_over(self.deps.clock.now()) {
            self.execute(Command::Tick);
        }
        self.plan_history();
        self.collect_garbage();
    }
}

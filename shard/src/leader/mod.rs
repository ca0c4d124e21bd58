//! Leading a pool: holds the executors' requests until there is work, decides who gets what, and
//! has the shards commit it before an executor hears of it.

mod round;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use muster_api::bus::{self, LeaseReply, ShardReply, ShardRequest, subject};
use muster_api::http::{ErrorCode, time_text};
use muster_core::Name;
use muster_core::id::{CommandId, ShardId};
use muster_runtime::bus::{KeyValue, Message, ReplyTo, Subscription};
use tokio_util::sync::CancellationToken;

use crate::worker::Deps;
use round::{Picks, Round};
use table::{Table, Taken};

/// How long a shard may take to commit leases.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages taken in before a round is solved, so that one round serves them all.
const DRAIN_MAX: usize = 256;
/// How often the pool's figures are published when something changed.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How often they are published when nothing did.
const STATUS_INTERVAL_IDLE: Duration = Duration::from_secs(15);
/// Least time between two wishes that shards tell everything.
const WANT_INTERVAL: Duration = Duration::from_millis(250);
/// How long a cluster that does not ask any more counts as part of the pool.
const CLUSTER_SILENT: Duration = Duration::from_secs(30);

/// Why a pool is no longer led by this task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] muster_runtime::bus::Error),
    /// The bus was closed.
    #[error("the bus was closed")]
    Closed,
}

struct Leader<'a> {
    deps: &'a Deps,
    table: Table,
    session: String,
    held: BTreeMap<Name, Held>,
    /// Whether a round might place something that the last one could not.
    dirty: bool,
    status_due: Duration,
    status_changed: bool,
    wanted_at: Option<Duration>,
    pools: std::sync::Arc<dyn KeyValue>,
}

/// A request that waits for work.
struct Held {
    reply: ReplyTo,
    until: Duration,
    leases_max: u64,
}

/// Leads a pool until cancelled.
pub(crate) async fn run(pool: &str, deps: &Deps, cancel: CancellationToken) -> Result<(), Error> {
    let mut offers = deps.bus.subscribe(subject::OFFERS, None).await?;
    let mut requests = deps.bus.subscribe(&subject::pool(pool), None).await?;
    let mut leader = Leader {
        deps,
        table: Table::new(pool),
        session: format!("{:016x}", deps.random.u64()),
        held: BTreeMap::new(),
        dirty: false,
        status_due: Duration::ZERO,
        status_changed: true,
        wanted_at: None,
        pools: deps.bus.key_value(subject::POOLS_BUCKET, None).await?,
    };
    tracing::info!(pool, session = %leader.session, "leading pool");
    leader.want_offers().await?;
    while !cancel.is_cancelled() {
        let wake = leader.next_wake();
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            message = offers.next() => leader.on_offers(&message.ok_or(Error::Closed)?).await?,
            message = requests.next() => leader.on_request(message.ok_or(Error::Closed)?).await,
            () = deps.clock.sleep_until(wake) => {}
        }
        leader.drain(&mut offers, &mut requests).await?;
        leader.round().await;
        leader.release_overdue().await;
        leader.publish_status().await;
    }
    leader.release_all().await;
    tracing::info!(pool, "no longer leading pool");
    Ok(())
}

impl Leader<'_> {
    fn next_wake(&self) -> Duration {
        let held = self.held.values().map(|held| held.until).min();
        held.map_or(self.status_due, |until| until.min(self.status_due))
    }

    /// Takes in what has arrived meanwhile.
    async fn drain(
        &mut self,
        offers: &mut Subscription,
        requests: &mut Subscription,
    ) -> Result<(), Error> {
        for _ in 0..DRAIN_MAX {
            if let Some(message) = offers.next().now_or_never() {
                self.on_offers(&message.ok_or(Error::Closed)?).await?;
            } else if let Some(message) = requests.next().now_or_never() {
                self.on_request(message.ok_or(Error::Closed)?).await;
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn on_offers(&mut self, message: &Message) -> Result<(), Error> {
        let offers: bus::Offers = match bus::decode(&message.payload) {
            Ok(offers) => offers,
            Err(error) => {
                tracing::warn!(%error, "an offer cannot be read");
                return Ok(());
            }
        };
        let empty = offers.queues.is_empty();
        match self.table.offers(offers) {
            Taken::Yes => {
                self.dirty |= !empty;
                self.status_changed |= !empty;
            }
            Taken::Stale => {}
            Taken::Gap => self.want_offers().await?,
        }
        Ok(())
    }

    async fn want_offers(&mut self) -> Result<(), Error> {
        let now = self.deps.clock.monotonic();
        if self.wanted_at.is_some_and(|at| now.saturating_sub(at) < WANT_INTERVAL) {
            return Ok(());
        }
        self.wanted_at = Some(now);
        self.deps.bus.publish(subject::OFFERS_WANTED, bytes::Bytes::new()).await?;
        Ok(())
    }

    async fn on_request(&mut self, message: Message) {
        let Some(reply) = message.reply else { return };
        let request: bus::LeaseRequest = match bus::decode(&message.payload) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a lease request cannot be read");
                return;
            }
        };
        let now = self.deps.clock.monotonic();
        self.status_changed |= !request.nodes.nodes.is_empty() || !request.nodes.removed.is_empty();
        if !self.table.request(&request, now, self.deps.clock.now()) {
            self.answer(&reply, &LeaseReply::TellAll).await;
            return;
        }
        let name = Name::from(request.cluster.as_str());
        let Some(cluster) = self.table.clusters.get_mut(&name) else { return };
        let seen = request.seen.is_some_and(|(s, n)| s == self.session && n == cluster.answer);
        if seen {
            cluster.unseen.clear();
        }
        if !cluster.unseen.is_empty() {
            // Its nodes do not know of these leases yet: nothing more is placed before it does.
            let again = self.answer_of(&name);
            self.answer(&reply, &again).await;
            return;
        }
        let held = Held {
            reply,
            until: now + Duration::from_millis(request.wait_ms.min(60_000)),
            leases_max: u64::from(request.leases_max),
        };
        self.dirty = true;
        self.held.insert(name, held);
    }

    fn answer_of(&self, cluster: &Name) -> LeaseReply {
        let known = self.table.clusters.get(cluster);
        LeaseReply::Answer(bus::LeaseAnswer {
            session: self.session.clone(),
            answer: known.map_or(0, |known| known.answer),
            version: known.map_or(0, |known| known.version),
            leases: known.map(|known| known.unseen.clone()).unwrap_or_default(),
        })
    }

    async fn answer(&self, to: &ReplyTo, reply: &LeaseReply) {
        // An answer that does not arrive is asked for again.
        if let Err(error) = self.deps.bus.respond(to, bus::encode(reply)).await {
            tracing::debug!(%error, "a lease answer was not sent");
        }
    }

    /// Solves for everybody who waits, has the shards commit it, and answers.
    async fn round(&mut self) {
        if !self.dirty || self.held.is_empty() {
            return;
        }
        self.dirty = false;
        let clusters: BTreeMap<Name, u64> =
            self.held.iter().map(|(name, held)| (name.clone(), held.leases_max)).collect();
        let control = self.deps.control.latest();
        let jobs_max = self.deps.config.round_jobs_max;
        let Some(round) = Round::new(&self.table, &control, &clusters, jobs_max) else { return };
        let began = self.deps.clock.monotonic();
        let solved = self.deps.blocking.run(move || {
            let plan = round.solve();
            (round, plan)
        });
        let (round, plan) = match solved.await {
            Ok(solved) => solved,
            Err(error) => {
                tracing::error!(%error, "a round could not be solved");
                return;
            }
        };
        let took = self.deps.clock.monotonic().saturating_sub(began);
        self.deps.metrics.rounds.inc();
        self.deps.metrics.round_seconds.observe(took.as_secs_f64());
        let picks = round.picks(&plan, &clusters);
        if picks.is_empty() {
            return;
        }
        self.commit(picks).await;
        self.status_changed = true;
        self.answer_leased().await;
    }

    async fn commit(&mut self, picks: Picks) {
        let asked = picks.into_iter().map(|((shard, cluster), picks)| {
            let request = ShardRequest::Lease(bus::Lease {
                command: CommandId(self.deps.random.u128()),
                pool: self.table.pool.clone(),
                cluster: cluster.to_string(),
                picks,
            });
            let bus = &self.deps.bus;
            async move {
                let to = subject::shard(ShardId(shard));
                let reply = bus.request(&to, bus::encode(&request), LEASE_TIMEOUT).await;
                (shard, cluster, reply)
            }
        });
        for (shard, cluster, reply) in join_all(asked).await {
            let reply = match reply {
                Ok(bytes) => bus::decode::<ShardReply>(&bytes).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match reply {
                Ok(ShardReply::Leased(leased)) => self.leased(&cluster, leased),
                Ok(ShardReply::Error(problem)) if problem.code == ErrorCode::Overloaded => {
                    self.dirty = true;
                }
                Ok(other) => {
                    tracing::warn!(shard, ?other, "a shard gave a strange answer to a lease");
                    self.table.unreachable(shard);
                }
                Err(error) => {
                    // What it may have leased all the same, the executor finds when it compares
                    // notes.
                    tracing::debug!(shard, %error, "a shard did not answer a lease");
                    self.table.unreachable(shard);
                }
            }
        }
    }

    fn leased(&mut self, cluster: &Name, leased: bus::Leased) {
        self.deps.metrics.leases.inc_by(leased.runs.len() as u64);
        self.table.offers_of_reply(leased.offers);
        if let Some(known) = self.table.clusters.get_mut(cluster) {
            known.unseen.extend(leased.runs);
        }
    }

    async fn answer_leased(&mut self) {
        let mut answers = Vec::new();
        for (name, cluster) in &mut self.table.clusters {
            if !cluster.unseen.is_empty() && self.held.contains_key(name) {
                cluster.answer += 1;
                answers.push(name.clone());
            }
        }
        for name in answers {
            if let Some(held) = self.held.remove(&name) {
                let answer = self.answer_of(&name);
                self.answer(&held.reply, &answer).await;
            }
        }
    }

    async fn release_overdue(&mut self) {
        let now = self.deps.clock.monotonic();
        let over = self.held.iter().filter(|(_, held)| held.until <= now);
        let over: Vec<Name> = over.map(|(name, _)| name.clone()).collect();
        self.release(over).await;
    }

    async fn release_all(&mut self) {
        let all: Vec<Name> = self.held.keys().cloned().collect();
        self.release(all).await;
    }

    async fn release(&mut self, clusters: Vec<Name>) {
        for name in clusters {
            if let Some(held) = self.held.remove(&name) {
                let answer = self.answer_of(&name);
                self.answer(&held.reply, &answer).await;
            }
        }
    }

    async fn publish_status(&mut self) {
        let now = self.deps.clock.monotonic();
        if now < self.status_due {
            return;
        }
        self.status_due = now + STATUS_INTERVAL;
        self.table.forget_clusters(now, CLUSTER_SILENT);
        if !self.status_changed && !now.as_secs().is_multiple_of(STATUS_INTERVAL_IDLE.as_secs()) {
            return;
        }
        self.status_changed = false;
        let at = time_text(self.deps.clock.now());
        let status = round::status(&self.table, &self.deps.control.latest(), &at);
        let value = serde_json::to_vec(&status).expect("a pool's status is plain data");
        if let Err(error) = self.pools.put(&self.table.pool, value.into()).await {
            tracing::debug!(%error, "the pool's figures were not published");
            self.status_changed = true;
        }
    }
}

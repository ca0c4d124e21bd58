//! Leading a pool: holds the executors' requests until there is work, decides who gets what, and
//! has the shards commit it before an executor hears of it.

mod absent;
mod amounts;
mod avoid;
mod away;
mod caps;
mod commit;
mod explain;
mod fading;
mod held;
mod keyed;
mod order;
mod pace;
mod past;
mod pending;
mod preempt;
mod questions;
mod records;
pub(crate) mod rehearsal;
mod round;
mod search;
mod settle;
mod status;
mod table;
mod taken_out;
#[cfg(test)]
mod testing;
pub(crate) mod tree;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use muster_api::bus::{self, LeaseReply, subject};
use muster_api::http::{ErrorCode, Problem, time_text};
use muster_core::Name;
use muster_core::solve::Plan;
use muster_core::time::Timestamp;
use muster_runtime::bus::{KeyValue, Message, ReplyTo, Subscription};
use muster_runtime::clock::Stopwatch;
use muster_runtime::rounds::Kind;
use tokio_util::sync::CancellationToken;

use crate::lease::Trust;
use crate::metrics::Unsent;
use crate::send;
use crate::worker::Deps;
use held::Held;
use pace::Paces;
use questions::Questions;
use records::Records;
use round::{About, Claims, Cost, Kept, Round, Terms};
use search::Stuck;
use table::{Heard, Table, Taken};
use usage::Usage;

/// Messages taken in before a round is solved, so that one round serves them all: as many as lie
/// in full subscriptions. What is left lies longer, and is told again when it is dropped.
const DRAIN_MAX: usize = 4 * muster_runtime::bus::SUBSCRIPTION_MESSAGES_MAX;
/// How often the pool's figures are published when something changed.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How often they are published when nothing did.
const STATUS_INTERVAL_IDLE: Duration = Duration::from_secs(15);
/// How long it waits after they could not be published.
const STATUS_INTERVAL_FAILED: Duration = Duration::from_secs(5);
/// Least time between two wishes that shards tell everything.
const WANT_INTERVAL: Duration = Duration::from_millis(250);
/// How long a cluster that does not ask any more counts as part of the pool.
const CLUSTER_SILENT: Duration = Duration::from_secs(30);
/// Least time between two rounds for what rates had held back.
const RATE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a new leader makes no room for anybody: it does not know all clusters yet.
const PREEMPT_DELAY: Duration = Duration::from_secs(10);

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
    began: Duration,
    held: BTreeMap<Name, Held>,
    /// Whether a round might place something that the last one could not.
    dirty: bool,
    status_due: Duration,
    status_changed: bool,
    wanted_at: Option<Duration>,
    /// What the last round could not place, until it was looked behind.
    stuck: Option<Stuck>,
    search_due: Duration,
    /// The queue that was looked behind last.
    searched: Name,
    /// Whether a round left jobs for which there was no room, since room was last made.
    is_short: bool,
    preempt_due: Duration,
    /// On which clusters room is kept for overdue jobs.
    kept: Kept,
    /// What queues are charged for the past.
    usage: Usage,
    /// What rates of queues leave, and when one leaves more than now.
    rates: caps::Rates,
    rate_due: Option<Duration>,
    /// When queues that are away need not be waited for any more.
    absent_due: Option<Duration>,
    /// Rises whenever there may be more room than before.
    chance: u64,
    /// For which jobs the last round makes room.
    claims: Claims,
    paces: Paces,
    questions: Questions,
    records: Records,
    pools: Arc<dyn KeyValue>,
}

/// Leads a pool until cancelled, or until its lease of the pool is not sure to hold any more:
/// another may lead then, and what both give away is given away twice.
pub(crate) async fn run(
    pool: &str,
    trust: &Trust,
    deps: &Deps,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut offers = deps.bus.subscribe(subject::OFFERS, None).await?;
    let mut requests = deps.bus.subscribe(&subject::pool(pool), None).await?;
    let mut stops = deps.bus.subscribe(subject::CLUSTER_STOPS, None).await?;
    let mut questions = deps.bus.subscribe(&subject::pool_questions(pool), None).await?;
    let pools = deps.bus.key_value(subject::POOLS_BUCKET, None).await?;
    let mut leader = Leader::new(pool, deps, pools);
    tracing::info!(pool, session = %leader.session, "leading pool");
    leader.remember().await?;
    leader.want_offers().await?;
    // Who does not hear this finds it out in time.
    if let Err(error) = deps.bus.publish(&subject::leader(pool), bytes::Bytes::new()).await {
        tracing::debug!(pool, %error, "nobody was told of the new leader");
    }
    while !cancel.is_cancelled() {
        let wake = leader.next_wake();
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            message = offers.next() => leader.on_offers(&message.ok_or(Error::Closed)?).await?,
            message = requests.next() => leader.on_request(message.ok_or(Error::Closed)?).await,
            message = stops.next() => leader.on_stops(&message.ok_or(Error::Closed)?),
            message = questions.next() => {
                leader.on_question(message.ok_or(Error::Closed)?).await;
            }
            () = deps.clock.sleep_until(wake) => {}
        }
        leader.drain(&mut offers, &mut requests, &mut stops).await?;
        if !trust.holds() {
            tracing::warn!(pool, "the lease of the pool ran out before it was renewed");
            break;
        }
        leader.tell_again().await;
        leader.judge_nodes();
        leader.lend().await?;
        leader.round().await;
        if leader.search().await {
            leader.round().await;
        }
        leader.preempt().await;
        leader.release_overdue().await;
        leader.answer_questions().await;
        leader.write_records();
        leader.publish_status().await;
    }
    leader.release_all().await;
    leader.flush_records().await;
    tracing::info!(pool, "no longer leading pool");
    Ok(())
}

impl<'a> Leader<'a> {
    fn new(pool: &str, deps: &'a Deps, pools: Arc<dyn KeyValue>) -> Self {
        Leader {
            deps,
            table: Table::new(pool),
            session: format!("{:016x}", deps.random.u64()),
            began: deps.clock.monotonic(),
            held: BTreeMap::new(),
            dirty: false,
            status_due: Duration::ZERO,
            status_changed: true,
            wanted_at: None,
            stuck: None,
            search_due: Duration::ZERO,
            searched: Name::default(),
            is_short: false,
            preempt_due: deps.clock.monotonic() + PREEMPT_DELAY,
            kept: Kept::new(),
            usage: Usage::default(),
            rates: caps::Rates::default(),
            rate_due: None,
            absent_due: None,
            chance: 0,
            claims: Claims::new(),
            paces: Paces::new(deps.clock.monotonic()),
            questions: Questions::default(),
            records: Records::default(),
            pools,
        }
    }
}

impl Leader<'_> {
    fn next_wake(&self) -> Duration {
        let held = self.held.values().map(|held| held.until).min();
        let questions = self.questions.is_any().then_some(Duration::ZERO);
        let search = self.stuck.as_ref().map(|_| self.search_due);
        let settled = self.settles_until();
        let dues = [self.rate_due, self.absent_due, self.preempt_wake(), self.records_due()];
        [held, search, settled, questions]
            .into_iter()
            .chain(dues)
            .flatten()
            .fold(self.status_due, Duration::min)
    }

    /// Takes in what has arrived meanwhile.
    async fn drain(
        &mut self,
        offers: &mut Subscription,
        requests: &mut Subscription,
        stops: &mut Subscription,
    ) -> Result<(), Error> {
        for _ in 0..DRAIN_MAX {
            if let Some(message) = stops.next().now_or_never() {
                self.on_stops(&message.ok_or(Error::Closed)?);
            } else if let Some(message) = offers.next().now_or_never() {
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

    /// A shard tells a cluster what to stop. The order may be lost, so it is repeated with the next
    /// answer.
    fn on_stops(&mut self, message: &Message) {
        let cluster = subject::stopped_cluster(&message.subject);
        let Some(cluster) = cluster.and_then(|name| self.table.clusters.get_mut(name)) else {
            return;
        };
        match bus::decode::<bus::StopRuns>(&message.payload) {
            Ok(orders) => cluster.pending.stop(orders.runs),
            Err(error) => tracing::warn!(%error, "stop orders cannot be read"),
        }
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
                let problem = Problem::new(ErrorCode::BadRequest, error.to_string());
                self.answer(&reply, &LeaseReply::Error(problem)).await;
                return;
            }
        };
        let now = self.deps.clock.monotonic();
        self.status_changed |= !request.nodes.nodes.is_empty() || !request.nodes.removed.is_empty();
        let heard = self.table.request(&request, now, self.deps.clock.now());
        match heard {
            Heard::Yes | Heard::Gap => {}
            Heard::Unknown => return self.answer(&reply, &LeaseReply::TellAll).await,
            Heard::Overtaken => return,
        }
        let name = Name::from(request.cluster.as_str());
        let Some(cluster) = self.table.clusters.get_mut(&name) else { return };
        if let Some((_, number)) = request.seen.filter(|(session, _)| *session == self.session) {
            cluster.pending.seen(number);
        }
        if cluster.pending.is_empty() {
            // It has heard of every stop, and told what comes free by it.
            cluster.stopping.clear();
        }
        if heard == Heard::Gap {
            // The answer says which version is known.
            self.held.remove(&name);
            return self.tell(&name, &reply).await;
        }
        let lags = !cluster.pending.is_empty();
        self.dirty |= !lags;
        self.chance += u64::from(!lags);
        let until = now + Duration::from_millis(request.wait_ms.min(60_000));
        let leases_max = u64::from(request.leases_max);
        self.held.insert(name, Held { reply, until, leases_max, lags });
    }

    /// Answers a cluster with what it is still to be told, as much as fits.
    async fn tell(&mut self, cluster: &Name, to: &ReplyTo) {
        let Some(known) = self.table.clusters.get_mut(cluster) else { return };
        let next = known.pending.answer(self.deps.bus.payload_bytes_max());
        let answer = LeaseReply::Answer(bus::LeaseAnswer {
            session: self.session.clone(),
            answer: next.number,
            version: known.version,
            leases: next.leases,
            stops: next.stops,
        });
        self.answer(to, &answer).await;
    }

    async fn answer(&self, to: &ReplyTo, reply: &LeaseReply) {
        let refuse = |problem| bus::encode(&LeaseReply::Error(problem));
        let (deps, reply) = (self.deps, bus::encode(reply));
        send::respond(&*deps.bus, &deps.metrics, to, reply, Unsent::LeaseAnswer, refuse).await;
    }

    /// Solves for everybody who waits, has the shards commit it, and answers.
    async fn round(&mut self) {
        let now = self.deps.clock.monotonic();
        if self.rate_due.is_some_and(|due| due <= now) {
            self.rate_due = None;
            self.dirty = true;
        }
        if self.absent_due.is_some_and(|due| due <= now) {
            self.absent_due = None;
            self.dirty = true;
        }
        if !self.dirty || self.held.is_empty() || self.settles_until().is_some() {
            return;
        }
        self.dirty = false;
        let clusters: BTreeMap<Name, u64> =
            self.held.iter().map(|(name, held)| (name.clone(), held.leases_max)).collect();
        let control = self.deps.control.latest();
        let jobs_max = self.deps.config.round_jobs_max;
        let rates = self.rates.left(&control, now);
        let (overdue, kept) = (self.overdue(), &self.kept);
        let rate_of_pool = control.pools.get(&self.table.pool).and_then(|pool| pool.rate);
        let paced = self.rates.left_in_pool(rate_of_pool, now);
        let at = self.deps.clock.now();
        let (absent, until) = self.absent(&control, now);
        self.absent_due = until;
        let terms =
            Terms { jobs_max, paced, rates: &rates, overdue, kept, absent: &absent, now: at };
        let round = Round::new(&self.table, &control, &clusters, &terms);
        let Some(mut round) = round else { return };
        self.charge(&mut round);
        let Some((round, plan, cost)) = self.solved(round).await else { return };
        let about = self.about(at, Kind::Lease);
        self.keep_record(round.record(&plan, cost, about));
        self.stuck = round.stuck(&plan);
        self.is_short |= round.is_short(&plan);
        self.claims = round.claims(&plan, at);
        for (queue, jobs) in round.placed_jobs(&plan) {
            self.rates.placed(&queue, jobs);
            self.paces.placed(&queue, jobs, now);
        }
        let is_paced = paced.is_some_and(|left| plan.figures.placed >= left);
        let wait_of_pool = self.rates.wait_of_pool(rate_of_pool).filter(|_| is_paced);
        let wait = self.rates.wait(&control, &round.held_back(&plan));
        let wait = wait.into_iter().chain(wait_of_pool).min();
        self.rate_due = wait.map(|wait| now + wait.max(RATE_INTERVAL));
        let picks = round.picks(&plan, &clusters);
        if picks.is_empty() {
            return;
        }
        self.table.placed(round.placed(&plan));
        self.commit(picks).await;
        self.status_changed = true;
        self.answer_leased().await;
    }

    /// What a record says of a round beside what was decided.
    fn about(&self, at: Timestamp, kind: Kind) -> About<'_> {
        About { pool: &self.table.pool, at, kind, fair: &self.records.fair }
    }

    /// A round with what was decided, and what that took.
    async fn solved(&self, round: Round) -> Option<(Round, Plan, Cost)> {
        let began = Stopwatch::start();
        let is_kept = self.keeps_records();
        let solved = self.deps.blocking.run(move || {
            let plan = round.solve();
            let digest = if is_kept { round.digest() } else { 0 };
            (round, plan, digest)
        });
        let (round, plan, digest) = match solved.await {
            Ok(solved) => solved,
            Err(error) => {
                tracing::error!(%error, "a round could not be solved");
                return None;
            }
        };
        let took = began.elapsed();
        self.deps.metrics.rounds.inc();
        self.deps.metrics.round_seconds.observe(took.as_secs_f64());
        if let Some(watch) = &self.deps.rounds {
            watch(took);
        }
        Some((round, plan, Cost { digest, took }))
    }

    async fn publish_status(&mut self) {
        let now = self.deps.clock.monotonic();
        if now < self.status_due {
            return;
        }
        self.status_due = now + STATUS_INTERVAL;
        if self.is_half_known(now) {
            return;
        }
        self.table.forget_clusters(now, CLUSTER_SILENT);
        let half_life = self.deps.config.usage_half_life.0;
        self.usage.advance(&self.table, self.deps.clock.now(), half_life);
        self.paces.sweep(now);
        if !self.status_changed && !now.as_secs().is_multiple_of(STATUS_INTERVAL_IDLE.as_secs()) {
            return;
        }
        self.status_changed = false;
        let at = time_text(self.deps.clock.now());
        let control = self.deps.control.latest();
        let told = (&self.usage, &self.paces, now);
        let status =
            status::status(&self.table, &control, told, &self.absent(&control, now).0, &at);
        self.records.published(&status.queues);
        for (key, value) in bus::pool_parts(status, self.deps.bus.payload_bytes_max()) {
            if let Err(error) = self.pools.put(&key, value.into()).await {
                send::unsent(&self.deps.metrics, Unsent::PoolStatus, &error);
                self.status_changed = true;
                self.status_due = now + STATUS_INTERVAL_FAILED;
                return;
            }
        }
    }
}

//! Asking the leader of each pool for leases.
//!
//! A leader holds a request until there is work; a newer one replaces it. So a new request goes
//! out as soon as something about the nodes has changed, and older ones are still listened to for a
//! while: an answer that was already on its way is not lost. What tells of all nodes is answered at
//! once, and nothing is sent before it is: a leader that has just begun hears it from every
//! cluster, and would be the later for every repetition.

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{self, LeaseAnswer, LeaseReply, LeaseRequest, subject};
use muster_core::Name;
use muster_runtime::bus::Message;
use muster_runtime::retry;
use tokio_util::sync::CancellationToken;

use super::{Done, Executor};
use crate::limits;
use crate::metrics::RequestLabel;
use crate::runs::Now;

/// The state of the asking in one pool.
pub(super) struct LeaseWork {
    /// Requests that wait for an answer, oldest first.
    in_flight: Vec<(u64, CancellationToken)>,
    sent: u64,
    sent_at: Option<Duration>,
    /// The version of the nodes that the newest request told.
    told: Option<u64>,
    /// Whether the newest request told of all nodes.
    tells_all: bool,
    retry_at: Duration,
    delays: Option<retry::Delays>,
    /// How many are in the last answer: told once, for the log.
    is_leader_known: bool,
}

/// What became of a request.
pub(super) struct LeaseOutcome {
    pool: Name,
    id: u64,
    /// The version of the nodes that it told.
    version: u64,
    reply: Result<LeaseReply, Failure>,
}

enum Failure {
    Superseded,
    Failed(String),
}

impl LeaseWork {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            in_flight: Vec::new(),
            sent: 0,
            sent_at: None,
            told: None,
            tells_all: false,
            retry_at: now,
            delays: None,
            is_leader_known: false,
        }
    }

    /// What was asked before does not count: everything may be asked now.
    fn begin_anew(&mut self, now: Duration) {
        (self.told, self.tells_all, self.sent_at) = (None, false, None);
        (self.delays, self.retry_at) = (None, now);
    }

    fn is_newest_in_flight(&self) -> bool {
        self.in_flight.last().is_some_and(|(id, _)| *id == self.sent)
    }
}

impl Executor {
    /// Sends the requests that are due; gives when one may be.
    pub(super) fn turn_leases(&mut self, now: Now) -> Duration {
        let open_at = self.began + self.config.sync_first_timeout.0;
        let is_synced = self.shards.iter().all(super::shard::ShardWork::is_synced);
        if !is_synced && now.monotonic < open_at {
            return open_at;
        }
        self.opened();
        let pools: Vec<Name> = self.leases.keys().cloned().collect();
        let wakes = pools.iter().map(|pool| self.turn_lease(pool, now));
        wakes.min().unwrap_or(now.monotonic + super::IDLE)
    }

    fn turn_lease(&mut self, pool: &Name, now: Now) -> Duration {
        let far = now.monotonic + super::IDLE;
        let Some(lease) = self.leases.get(pool) else { return far };
        let is_news = lease.told != Some(self.runs.nodes_version(pool));
        if lease.is_newest_in_flight() && (!is_news || lease.tells_all) {
            return far;
        }
        let mut interval = self.config.lease_interval_min.0;
        if lease.is_newest_in_flight() {
            interval = interval.max(limits::LEASE_CHANGE_INTERVAL);
        }
        let paced = lease.sent_at.map_or(now.monotonic, |at| at + interval);
        let due = paced.max(lease.retry_at);
        if now.monotonic < due {
            return due;
        }
        self.send_lease_request(pool, now);
        far
    }

    /// It asks for leases from now on, which is what it is there for.
    fn opened(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.deps.health.ready(&super::part(&self.config.cluster));
        }
    }

    /// A pool has another leader, or so it was said. It knows nothing of the cluster; what was
    /// asked of the one before may not be answered any more, and what that one had leased last may
    /// not have been told: shards know of it.
    pub(super) fn on_leader(&mut self, message: &Message) {
        let now = self.now();
        let pool = subject::led_pool(&message.subject);
        let Some((pool, lease)) = pool.and_then(|pool| Some((pool, self.leases.get_mut(pool)?)))
        else {
            return;
        };
        lease.begin_anew(now.monotonic);
        self.runs.on_tell_all(pool);
        self.compare_soon(now);
    }

    pub(super) fn on_lease(&mut self, outcome: LeaseOutcome) {
        let LeaseOutcome { pool, id, version, reply } = outcome;
        let now = self.now();
        let Some(lease) = self.leases.get_mut(&pool) else { return };
        let is_newest = id == lease.sent;
        lease.in_flight.retain(|(other, _)| *other != id);
        match reply {
            Ok(LeaseReply::Answer(answer)) => {
                if answer.version < version {
                    // What the request built on was lost on the way.
                    self.runs.on_lost(&pool);
                    lease.told = None;
                }
                self.on_answer(&pool, answer, now);
            }
            Ok(LeaseReply::TellAll) if is_newest => self.runs.on_tell_all(&pool),
            // It was asked again since, and answers again.
            Ok(LeaseReply::TellAll) | Err(Failure::Superseded) => {}
            Ok(LeaseReply::Error(problem)) if is_newest => {
                self.back_off(&pool, &problem.detail, now);
            }
            Err(Failure::Failed(reason)) if is_newest => self.back_off(&pool, &reason, now),
            Ok(LeaseReply::Error(_)) | Err(Failure::Failed(_)) => {}
        }
    }

    fn on_answer(&mut self, pool: &Name, mut answer: LeaseAnswer, now: Now) {
        let Some(lease) = self.leases.get_mut(pool) else { return };
        if !lease.is_leader_known {
            lease.is_leader_known = true;
            tracing::info!(cluster = %self.config.cluster, %pool, "leader answers");
        }
        (lease.delays, lease.retry_at) = (None, now.monotonic);
        let stops = std::mem::take(&mut answer.stops);
        let new = self.runs.on_answer(pool, answer, now);
        // Behind the leases: what is leased and stopped in one answer is stopped.
        self.on_stops(stops, now);
        let leases = self.deps.metrics.leases.get_or_create(&self.cluster_labels()).clone();
        leases.inc_by(new as u64);
    }

    fn back_off(&mut self, pool: &Name, reason: &str, now: Now) {
        let cluster = &self.config.cluster;
        let Some(lease) = self.leases.get_mut(pool) else { return };
        if std::mem::take(&mut lease.is_leader_known) {
            tracing::warn!(%cluster, %pool, %reason, "leader does not answer");
        }
        self.deps.metrics.retried(cluster, RequestLabel::Lease);
        let random = &self.deps.random;
        let delays = lease.delays.get_or_insert_with(|| policy().delays(random.clone()));
        let delay = delays.next().expect("the policy never gives up");
        lease.retry_at = now.monotonic + delay;
        self.runs.on_lost(pool);
    }

    fn send_lease_request(&mut self, pool: &Name, now: Now) {
        let ask = self.runs.ask(pool, self.config.leases_max, self.bytes_max());
        let tells_all = ask.nodes.base.is_none();
        let is_answered_at_once = ask.more || tells_all;
        let wait = if is_answered_at_once { Duration::ZERO } else { self.config.lease_wait.0 };
        let extra = if tells_all { limits::TELL_TIMEOUT } else { limits::LEASE_TIMEOUT_EXTRA };
        let Some(lease) = self.leases.get_mut(pool) else { return };
        lease.tells_all = tells_all;
        // A partly told version is not told: the next request follows at once.
        lease.told = (!ask.more).then(|| self.runs.nodes_version(pool));
        lease.sent_at = Some(now.monotonic);
        lease.sent += 1;
        let id = lease.sent;
        let request = LeaseRequest {
            cluster: self.config.cluster.clone(),
            instance: self.instance.clone(),
            seen: ask.seen,
            nodes: ask.nodes,
            leases_max: ask.leases_max,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let superseded = CancellationToken::new();
        let version = request.nodes.version;
        lease.in_flight.push((id, superseded.clone()));
        while lease.in_flight.len() > limits::LEASE_REQUESTS_IN_FLIGHT_MAX {
            lease.in_flight.remove(0).1.cancel();
        }
        let bus = Arc::clone(&self.deps.bus);
        let (pool, subject) = (pool.clone(), subject::pool(pool));
        let timeout = wait + extra;
        self.work.push(Box::pin(async move {
            let request = bus.request(&subject, bus::encode(&request), timeout);
            let reply = tokio::select! {
                biased;
                () = superseded.cancelled() => Err(Failure::Superseded),
                reply = request => match reply {
                    Ok(bytes) => bus::decode(&bytes).map_err(|e| Failure::Failed(e.to_string())),
                    Err(error) => Err(Failure::Failed(error.to_string())),
                },
            };
            Done::Lease(LeaseOutcome { pool, id, version, reply })
        }));
    }
}

fn policy() -> retry::Policy {
    retry::Policy {
        delay_first: muster_runtime::config::HumanDuration::millis(50),
        delay_max: muster_runtime::config::HumanDuration::secs(2),
        ..retry::Policy::default()
    }
}

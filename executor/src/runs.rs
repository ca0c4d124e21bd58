//! The runs of a cluster and every decision about them, without IO, clock or randomness: what comes
//! in is told with the time, what is to be done comes out as [`Effect`]s, reports and requests.
//!
//! A run is known from its lease until the shard has confirmed its end. It is believed as long as
//! the shard has not refused a report of it; one that is not believed is stopped and keeps its
//! place on its node until it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{BelievedRun, Exit, JobPayload, LeaseAnswer, LeasedRun, Report, RunStatus};
use muster_core::Name;
use muster_core::id::{CommandId, JobId, JobRef, ShardId};
use muster_core::mutant::{self, Mutant};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;

use crate::backend::{Adopted, Event, Node, NodeChange, Start};
use crate::limits;

mod failures;
mod leasing;
mod nodes;
mod outbox;
mod payloads;
mod phase;
mod recent;
mod table;
#[cfg(test)]
mod tests;

pub use leasing::{Ask, Leasing};
use nodes::Nodes;
use outbox::Outbox;
use payloads::Payloads;
pub use phase::Counts;
use phase::Phase;
use recent::Recent;

/// An attempt at a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The job or task.
    pub job: JobRef,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// The time by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// What reports carry.
    pub wall: Timestamp,
    /// What ages are measured by.
    pub monotonic: Duration,
}

/// Something the back end is to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Start a run.
    Start(Start),
    /// Stop a run.
    Stop(RunKey),
    /// The end of a run is known to its shard, or of no interest to it.
    Settle(RunKey),
}

/// What the cluster claims to have of a shard's runs, and the runs that were meant.
#[derive(Debug, Clone)]
pub struct Claim {
    /// How many runs.
    pub count: u64,
    /// The exclusive or of their digests.
    pub digest: u64,
    /// Those that the shard has not listed yet.
    unlisted: BTreeSet<RunKey>,
    /// Differences found so far.
    repairs: usize,
}

/// The runs of a cluster.
#[derive(Debug)]
pub struct Runs {
    nodes: Nodes,
    runs: BTreeMap<RunKey, Run>,
    counts: Counts,
    believed: BTreeMap<ShardId, (u64, u64)>,
    outboxes: BTreeMap<ShardId, Outbox>,
    payloads: Payloads,
    recent: Recent,
    /// By pool.
    leasing: BTreeMap<Name, Leasing>,
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Run {
    node: Name,
    shape: Arc<Shape>,
    /// Known once its payload came.
    queue: Option<Name>,
    phase: Phase,
    /// Whether it was told to stop, and holds its place until it is gone.
    is_stopping: bool,
}

impl Run {
    fn new(node: Name, shape: Arc<Shape>, phase: Phase) -> Self {
        Self { node, shape, queue: None, phase, is_stopping: false }
    }
}

impl Runs {
    /// No runs, no nodes; nodes that name no pool will belong to `pool`.
    #[must_use]
    pub fn new(pool: Name) -> Self {
        Self {
            nodes: Nodes::new(pool),
            runs: BTreeMap::new(),
            counts: Counts::default(),
            believed: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            payloads: Payloads::default(),
            recent: Recent::default(),
            leasing: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// What the back end is to do, in order; each is given out once.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How many runs are in which phase.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Every run that the back end has or is being given.
    pub fn on_backend(&self) -> impl Iterator<Item = RunKey> {
        let is_there = |run: &Run| match run.phase {
            Phase::Starting | Phase::Live(_) | Phase::Condemned => true,
            Phase::Wanted | Phase::Ended => false,
        };
        self.runs.iter().filter(move |(_, run)| is_there(run)).map(|(key, _)| *key)
    }

    /// The back end's nodes, all of them. Gives those, of what has changed, whose label names no
    /// pool that they can belong to: they take no runs.
    pub fn on_nodes(&mut self, nodes: Vec<Node>) -> Vec<Name> {
        self.nodes.set(nodes)
    }

    /// Those of the back end's nodes that have changed. Gives as [`Runs::on_nodes`].
    pub fn on_node_changes(&mut self, changes: Vec<NodeChange>) -> Vec<Name> {
        self.nodes.change(changes)
    }

    /// The pools whose leaders are to be asked.
    pub fn pools(&self) -> impl Iterator<Item = &Name> {
        self.nodes.pools()
    }

    /// Rises whenever a node of this pool, or what is free on it, changes.
    #[must_use]
    pub fn nodes_version(&self, pool: &str) -> u64 {
        self.nodes.version(pool)
    }

    /// Takes over what the back end still has from before a restart. Each is reported, the shard
    /// decides.
    pub fn on_adopted(&mut self, adopted: Vec<Adopted>) {
        for run in adopted {
            let key = run.key;
            let is_final = is_final(run.report.status);
            if !is_final {
                self.nodes.take(&run.node, &run.shape.request);
            }
            let phase = if is_final { Phase::Ended } else { Phase::Live(run.report.clone()) };
            self.insert(key, Run::new(run.node, run.shape, phase));
            self.report(key, run.report);
        }
    }

    /// The answer of a pool's leader: runs to start. Gives how many were new.
    pub fn on_answer(&mut self, pool: &Name, answer: LeaseAnswer, now: Now) -> usize {
        let leasing = self.leasing.entry(pool.clone()).or_default();
        leasing.answered(answer.session, answer.answer, answer.version);
        answer.leases.into_iter().filter(|lease| self.lease(lease, Some(pool), now)).count()
    }

    /// The leader of a pool does not know what the last update builds on.
    pub fn on_tell_all(&mut self, pool: &str) {
        if let Some(leasing) = self.leasing.get_mut(pool) {
            leasing.forgotten();
        }
    }

    /// What was sent to the leader of a pool did not arrive, or may not have.
    pub fn on_lost(&mut self, pool: &str) {
        if let Some(leasing) = self.leasing.get_mut(pool) {
            leasing.lost();
        }
    }

    /// What to ask the leader of a pool: the part of its nodes that it was not sent yet, in at most
    /// about `bytes_max` bytes. It counts as sent.
    pub fn ask(&mut self, pool: &Name, leases_max: u32, bytes_max: usize) -> Ask {
        let starting = self.counts.wanted + self.counts.starting;
        let starting = u32::try_from(starting).unwrap_or(u32::MAX);
        let leasing = self.leasing.entry(pool.clone()).or_default();
        let told = self.nodes.update(pool, leasing.base(), bytes_max);
        leasing.sent(told.update.version);
        Ask {
            seen: leasing.seen(),
            nodes: told.update,
            // A leader that knows a part of the nodes only would place badly.
            leases_max: if told.more { 0 } else { leases_max.saturating_sub(starting) },
            more: told.more,
        }
    }

    /// Jobs of `shard` whose payloads are to be fetched now.
    pub fn payloads_wanted(&mut self, shard: ShardId) -> Vec<JobId> {
        self.payloads.take_wanted(shard)
    }

    /// Payloads came for some of the jobs that were `asked` for.
    pub fn on_payloads(&mut self, asked: Vec<JobId>, got: Vec<JobPayload>) {
        for payload in got {
            let payload = Arc::new(payload);
            for key in self.payloads.arrived(&payload) {
                if payload.found {
                    self.start(key, Arc::clone(&payload));
                } else {
                    // The job is over, or its shard is of another mind than when it leased it: the
                    // next comparison tells.
                    self.remove(&key);
                }
            }
        }
        self.payloads.want_again(asked);
    }

    /// No payloads came.
    pub fn on_payloads_failed(&mut self, asked: Vec<JobId>) {
        self.payloads.want_again(asked);
    }

    /// The back end says what a run has come to.
    pub fn on_event(&mut self, event: Event, now: Now) {
        let key = event.key;
        let is_final = is_final(event.status);
        let Some(run) = self.runs.get(&key) else {
            let effect = if is_final { Effect::Settle(key) } else { Effect::Stop(key) };
            self.effects.push(effect);
            return;
        };
        match (&run.phase, is_final) {
            (Phase::Starting | Phase::Live(_), true) => {
                self.judge(&key, &event);
                self.set_phase(&key, Phase::Ended);
                self.report(key, event.into_report());
            }
            (Phase::Starting | Phase::Live(_), false) => {
                let report = event.into_report();
                self.set_phase(&key, Phase::Live(report.clone()));
                self.report(key, report);
            }
            (Phase::Condemned, true) => self.settle(key, now),
            (Phase::Condemned, false) | (Phase::Wanted | Phase::Ended, _) => {}
        }
    }

    /// Somebody asks for a run to be stopped. Its end is reported like any other.
    pub fn on_stop(&mut self, key: RunKey, now: Now) {
        match self.runs.get(&key).map(|run| &run.phase) {
            Some(Phase::Wanted) => {
                self.end(key, RunStatus::Returned, "Stopped", "it was stopped early".into(), now);
            }
            Some(Phase::Starting | Phase::Live(_)) => {
                self.stopping(&key);
                self.effects.push(Effect::Stop(key));
            }
            // Unknown: a lease that is still on its way is settled by its first report.
            Some(Phase::Condemned | Phase::Ended) | None => {}
        }
    }

    /// The message to send to `shard`, if there is anything to say: the same until it is answered.
    pub fn message(
        &mut self,
        shard: ShardId,
        command: impl FnOnce() -> CommandId,
        bytes_max: usize,
    ) -> Option<(CommandId, Vec<Report>)> {
        self.outboxes.get_mut(&shard)?.message(command, bytes_max)
    }

    /// Whether every report was answered.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outboxes.values().all(Outbox::is_empty)
    }

    /// The shard's verdict on each report of the message. Gives how many it refused.
    pub fn on_verdicts(&mut self, shard: ShardId, verdicts: &[bool], now: Now) -> usize {
        let Some(outbox) = self.outboxes.get_mut(&shard) else { return 0 };
        let reports = outbox.answered();
        let mut refused = 0;
        for (place, report) in reports.into_iter().enumerate() {
            let key = RunKey { job: report.job, attempt: report.attempt };
            match verdicts.get(place) {
                Some(true) if is_final(report.status) => self.settle(key, now),
                Some(true) => {}
                Some(false) => {
                    refused += 1;
                    self.disbelieve(key, now);
                }
                None => self.report(key, report),
            }
        }
        refused
    }

    /// What the cluster has of `shard`'s runs at this moment, to be compared with what the shard
    /// believes.
    #[must_use]
    pub fn claim(&self, shard: ShardId) -> Claim {
        let (count, digest) = self.believed.get(&shard).copied().unwrap_or_default();
        let is_meant =
            |(key, run): &(&RunKey, &Run)| key.job.job.shard() == shard && run.phase.is_believed();
        let unlisted = self.runs.iter().filter(is_meant).map(|(key, _)| *key).collect();
        Claim { count, digest, unlisted, repairs: 0 }
    }

    /// A page of what the shard believes.
    pub fn on_believed(&mut self, claim: &mut Claim, page: Vec<BelievedRun>, now: Now) {
        for BelievedRun { run, state } in page {
            let key = RunKey { job: run.job, attempt: run.attempt };
            claim.unlisted.remove(&key);
            if self.runs.contains_key(&key) || self.recent.contains(&key) {
                continue;
            }
            claim.repairs += 1;
            if state == "leased" {
                self.lease(&run, None, now);
            } else {
                self.insert(key, Run::new(run.node.into(), run.shape.0, Phase::Ended));
                let message = "its cluster's executor does not have it".to_owned();
                self.report(key, outcome(key, RunStatus::Lost, "NotFound", message, now));
            }
        }
    }

    /// The shard has listed all that it believes: what it did not list is reported again, and the
    /// verdict decides. Gives the number of differences that were found.
    pub fn on_believed_all(&mut self, claim: Claim, now: Now) -> usize {
        let mut repairs = claim.repairs;
        for key in claim.unlisted {
            let report = match self.runs.get(&key).map(|run| &run.phase) {
                Some(Phase::Wanted | Phase::Starting) => report_of(key, RunStatus::Pending, now),
                Some(Phase::Live(report)) => report.clone(),
                // The report of an end waits already.
                Some(Phase::Condemned | Phase::Ended) | None => continue,
            };
            repairs += 1;
            self.report(key, report);
        }
        repairs
    }

    /// Registers one lease; says whether it was new.
    fn lease(&mut self, lease: &LeasedRun, pool: Option<&Name>, now: Now) -> bool {
        let key = RunKey { job: lease.job, attempt: lease.attempt };
        if self.runs.contains_key(&key) || self.recent.contains(&key) {
            return false;
        }
        self.stop_older_attempts(key, now);
        let (node, shape) = (Name::from(lease.node.as_str()), Arc::clone(&lease.shape.0));
        let refusal = self.nodes.refusal(&node, &shape, pool);
        if let Some(why) = refusal.filter(|_| !mutant::is(Mutant::StartsWithoutRoom)) {
            self.insert(key, Run::new(node, shape, Phase::Ended));
            self.report(key, outcome(key, RunStatus::Returned, "DoesNotFit", why, now));
            return true;
        }
        self.nodes.take(&node, &shape.request);
        self.insert(key, Run::new(node, shape, Phase::Wanted));
        if let Some(payload) = self.payloads.get_or_wait(key) {
            self.start(key, payload);
        }
        true
    }

    /// A newer attempt was leased, so nobody believes in those before it.
    fn stop_older_attempts(&mut self, key: RunKey, now: Now) {
        if mutant::is(Mutant::KeepsOlderAttempt) {
            return;
        }
        let older: Vec<RunKey> =
            self.runs.range(RunKey { attempt: 0, ..key }..key).map(|(key, _)| *key).collect();
        for key in older {
            self.disbelieve(key, now);
        }
    }

    fn start(&mut self, key: RunKey, payload: Arc<JobPayload>) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        run.queue = Some(payload.queue.as_str().into());
        let (node, shape) = (run.node.clone(), Arc::clone(&run.shape));
        self.set_phase(&key, Phase::Starting);
        self.effects.push(Effect::Start(Start { key, node, shape, payload }));
    }

    /// Its shard does not believe in this run.
    fn disbelieve(&mut self, key: RunKey, now: Now) {
        match self.runs.get(&key).map(|run| &run.phase) {
            Some(Phase::Starting | Phase::Live(_)) => {
                self.stopping(&key);
                self.set_phase(&key, Phase::Condemned);
                self.forget_report(&key);
                self.effects.push(Effect::Stop(key));
            }
            Some(Phase::Wanted | Phase::Ended) => self.settle(key, now),
            Some(Phase::Condemned) | None => {}
        }
    }

    /// The run is over for good.
    fn settle(&mut self, key: RunKey, now: Now) {
        self.remove(&key);
        if !mutant::is(Mutant::StartsAgain) {
            self.recent.insert(key, now.monotonic);
        }
        self.effects.push(Effect::Settle(key));
    }

    fn end(&mut self, key: RunKey, status: RunStatus, reason: &str, message: String, now: Now) {
        self.payloads.forget(&key);
        self.set_phase(&key, Phase::Ended);
        self.report(key, outcome(key, status, reason, message, now));
    }

    fn report(&mut self, key: RunKey, mut report: Report) {
        if let Some(message) = &mut report.exit.message {
            message.truncate(message.floor_char_boundary(limits::MESSAGE_BYTES_MAX));
        }
        self.outboxes.entry(key.job.job.shard()).or_default().push(key, report);
    }

    fn forget_report(&mut self, key: &RunKey) {
        if let Some(outbox) = self.outboxes.get_mut(&key.job.job.shard()) {
            outbox.forget(key);
        }
    }
}

/// Whether nothing comes after this status.
#[must_use]
pub fn is_final(status: RunStatus) -> bool {
    match status {
        RunStatus::Pending | RunStatus::Running => false,
        RunStatus::Succeeded | RunStatus::Failed | RunStatus::Returned | RunStatus::Lost => true,
    }
}

fn report_of(key: RunKey, status: RunStatus, now: Now) -> Report {
    let RunKey { job, attempt } = key;
    let (exit, addresses) = (Exit::default(), Vec::new());
    Report { job, attempt, status, at_ms: now.wall.0, exit, addresses }
}

fn outcome(key: RunKey, status: RunStatus, reason: &str, message: String, now: Now) -> Report {
    let exit = Exit { reason: Some(reason.into()), message: Some(message), ..Exit::default() };
    Report { exit, ..report_of(key, status, now) }
}

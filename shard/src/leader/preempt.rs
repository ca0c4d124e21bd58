//! Making room: when jobs wait for which there is none, some of what runs is told to stop, where
//! classes or shares say so, and room is kept for those that have waited too long. What comes free
//! is kept for whom it was made by the lease rounds, since they know what is coming: from the
//! executors, and until these have heard of it, from here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use muster_api::bus::{self, GetRunning, ShardReply, ShardRequest};
use muster_core::Name;
use muster_core::control::Control;
use muster_core::id::CommandId;
use muster_core::shape::DEFAULT_CLASS;
use muster_core::solve::Cause;
use muster_core::time::Timestamp;
use muster_runtime::rounds::Kind;

use super::commit::ask;
use super::keyed::Keyed;
use super::round::{Limits, Round};
use super::{Leader, away};
use crate::config::Config;

/// How long a shard may take to tell a page of what runs.
const RUNNING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may take to commit preemptions.
const PREEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often room is looked for that is to be kept for overdue jobs, where nobody is preempted.
const RESERVE_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is asked to, under one id.
const PREEMPT_TRIES: usize = 2;
/// Pages that are read of one shard, at most: what it does not come to tell is safe for the moment.
const PAGES_MAX: usize = 64;

/// Jobs that run and may be preempted.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) cluster: Name,
    pub(super) node: Name,
    pub(super) queue: Name,
    pub(super) shape: Arc<Keyed>,
    pub(super) count: u64,
    pub(super) age: u64,
}

/// Jobs that are to make room.
#[derive(Debug, Clone)]
pub(super) struct Victims {
    pub(super) told: bus::Victims,
    pub(super) shape: Arc<Keyed>,
    pub(super) cause: Cause,
}

/// Who is to make room, by shard and cluster.
pub(super) type AllVictims = BTreeMap<(u16, Name), Vec<Victims>>;

impl Leader<'_> {
    /// When room is to be made next, if somebody waits for it.
    pub(super) fn preempt_wake(&self) -> Option<Duration> {
        let Config { preempt_interval, reserve_after, .. } = &self.deps.config;
        let is_asked_for = !preempt_interval.0.is_zero() || !reserve_after.0.is_zero();
        (self.is_short && is_asked_for).then_some(self.preempt_due)
    }

    /// Jobs that were submitted before are overdue.
    pub(super) fn overdue(&self) -> Timestamp {
        let after = self.deps.config.reserve_after.0;
        if after.is_zero() { Timestamp(0) } else { self.deps.clock.now().minus(after) }
    }

    /// Makes room for what found none, if it is time.
    pub(super) async fn preempt(&mut self) {
        let now = self.deps.clock.monotonic();
        if self.preempt_wake().is_none_or(|due| due > now) {
            return;
        }
        self.is_short = false;
        let interval = self.deps.config.preempt_interval.0;
        self.preempt_due = now + if interval.is_zero() { RESERVE_INTERVAL } else { interval };
        let control = self.deps.control.latest();
        let running = match interval.is_zero() {
            true => Vec::new(),
            false => [self.running(&control).await, self.running_away().await].concat(),
        };
        let overdue = self.overdue();
        let has_overdue = self.table.has_waiting(overdue);
        if running.is_empty() && !has_overdue {
            self.kept.clear();
            return;
        }
        let ending = if has_overdue { self.ending().await } else { Vec::new() };
        let limits = Limits {
            picks_max: self.deps.config.round_jobs_max,
            preemptions_max: self.deps.config.preemptions_max,
            protected: self.deps.config.protected_thousandths(),
            overdue,
            kept_max: self.deps.config.reserved_thousandths(),
        };
        let round = Round::to_preempt(&self.table, &control, &running, limits);
        let Some(mut round) = round else { return };
        round.ending(&ending);
        self.charge(&mut round);
        let at = self.deps.clock.now();
        let Some((round, plan, cost)) = self.solved(round).await else { return };
        let about = self.about(at, Kind::Preempt);
        self.keep_record(round.record(&plan, cost, about));
        let kept = round.kept(&plan, at);
        self.dirty |= kept != self.kept;
        self.kept = kept;
        let victims = round.victims(&plan);
        if !victims.is_empty() {
            self.give_up(victims).await;
            self.answer_stopped().await;
        }
    }

    /// What runs in the pool of classes that may be preempted.
    async fn running(&mut self, control: &Control) -> Vec<Row> {
        let classes = control.all_classes().into_iter();
        let classes: BTreeMap<String, bool> =
            classes.map(|(name, class)| (name.to_owned(), class.preemptible)).collect();
        // A class that is gone counts as the default one.
        let others = control.class_in_effect(DEFAULT_CLASS).preemptible;
        if !others && !classes.values().any(|is_preemptible| *is_preemptible) {
            return Vec::new();
        }
        let pool = self.table.pool.clone();
        self.rows(&GetRunning { pool, classes, others, ending: false, after: None }).await
    }

    /// What runs of other pools' jobs on nodes of this one: all of it may be preempted.
    async fn running_away(&mut self) -> Vec<Row> {
        let mut running = Vec::new();
        for pool in self.table.lends_to.clone() {
            let shards = self.table.shards_that_hold_away(&pool);
            let (classes, of_pool) = (BTreeMap::new(), pool.to_string());
            let get =
                GetRunning { pool: of_pool, classes, others: true, ending: false, after: None };
            let rows = self.rows_of(shards, &get).await.into_iter();
            running.extend(rows.map(|row| Row { queue: away::name(&row.queue, &pool), ..row }));
        }
        running
    }

    /// What runs in the pool and is sure to end.
    async fn ending(&mut self) -> Vec<Row> {
        let (pool, classes) = (self.table.pool.clone(), BTreeMap::new());
        self.rows(&GetRunning { pool, classes, others: false, ending: true, after: None }).await
    }

    /// Asks all shards that hold something.
    async fn rows(&mut self, first: &GetRunning) -> Vec<Row> {
        self.rows_of(self.table.shards_that_hold(), first).await
    }

    async fn rows_of(&mut self, shards: BTreeSet<u16>, first: &GetRunning) -> Vec<Row> {
        let deps = self.deps;
        let asked = shards.into_iter().map(|shard| {
            let mut get = first.clone();
            async move {
                let mut rows = Vec::new();
                for _ in 0..PAGES_MAX {
                    let request = ShardRequest::Running(get.clone());
                    match ask(&*deps.bus, shard, request, RUNNING_TIMEOUT).await {
                        Ok(ShardReply::Running(mut page)) => {
                            get.after = page.next.take();
                            rows.extend(rows_of(page));
                        }
                        other => return (shard, rows, Some(other)),
                    }
                    if get.after.is_none() {
                        break;
                    }
                }
                (shard, rows, None)
            }
        });
        let mut running = Vec::new();
        for (shard, rows, strange) in join_all(asked).await {
            running.extend(rows);
            if let Some(reply) = strange {
                self.no_answer(shard, "question", reply);
            }
        }
        running
    }

    /// Has the shards give up what is to make room, and remembers what comes free by it.
    async fn give_up(&mut self, victims: AllVictims) {
        let bytes_max = self.deps.bus.payload_bytes_max();
        let mut requests = Vec::new();
        let home = self.table.pool.clone();
        let by_pool = victims.into_iter().flat_map(|(key, victims)| {
            let by_pool = away::by_pool(&home, victims, away::of_victims);
            by_pool.into_iter().map(move |(pool, victims)| (key.clone(), pool, victims))
        });
        for ((shard, cluster), pool, victims) in by_pool {
            let mut rest = victims.as_slice();
            let told: Vec<_> = victims.iter().map(|victims| victims.told.clone()).collect();
            for chunk in bus::chunks(told, bytes_max) {
                let (of_chunk, others) = rest.split_at(chunk.len());
                rest = others;
                let request = ShardRequest::Preempt(bus::Preempt {
                    command: CommandId(self.deps.random.u128()),
                    pool: pool.clone(),
                    cluster: cluster.to_string(),
                    victims: chunk,
                });
                requests.push((shard, cluster.clone(), (pool.clone(), of_chunk.to_vec()), request));
            }
        }
        let deps = self.deps;
        let asked = requests.into_iter().map(|(shard, cluster, victims, request)| async move {
            let mut reply = ask(&*deps.bus, shard, request.clone(), PREEMPT_TIMEOUT).await;
            for _ in 1..PREEMPT_TRIES {
                if reply.is_err() {
                    reply = ask(&*deps.bus, shard, request.clone(), PREEMPT_TIMEOUT).await;
                }
            }
            (shard, cluster, victims, reply)
        });
        for (shard, cluster, victims, reply) in join_all(asked).await {
            match reply {
                Ok(ShardReply::Preempted(preempted)) => {
                    self.given_up(&cluster, &victims, preempted);
                }
                // What it may have given up all the same, the executor tells as room that comes.
                other => self.no_answer(shard, "preemption", other),
            }
        }
    }

    fn given_up(
        &mut self,
        cluster: &Name,
        (pool, victims): &(String, Vec<Victims>),
        preempted: bus::Preempted,
    ) {
        let now = self.deps.clock.monotonic();
        self.table.offers_of_reply(pool, preempted.offers);
        self.dirty = true;
        self.status_changed = true;
        let Some(known) = self.table.clusters.get_mut(cluster) else { return };
        let mut stops = Vec::with_capacity(preempted.runs.len());
        for bus::PreemptedRun(place, job, attempt) in preempted.runs {
            let Some(victims) = victims.get(place as usize) else { continue };
            self.deps.metrics.preempted(victims.cause);
            self.paces.preempted(&Name::from(victims.told.queue.as_str()), 1, now);
            let node = Name::from(victims.told.node.as_str());
            known.stopping.entry(node).or_default().add(&victims.shape.request);
            stops.push((job.to_string(), attempt));
        }
        // The shard tells the executor too; by this order it is known when that has heard of it.
        known.pending.stop(stops);
    }

    /// Answers clusters that have something to stop.
    async fn answer_stopped(&mut self) {
        let told = self.table.clusters.iter().filter(|(_, cluster)| !cluster.pending.is_empty());
        let told: Vec<Name> = told.map(|(name, _)| name.clone()).collect();
        self.release(told).await;
    }
}

fn rows_of(page: bus::Running) -> Vec<Row> {
    let shapes = Keyed::listed(page.shapes);
    // A shape that is not listed is a broken message: what names it is left out.
    let row = |row: bus::RunningRow| {
        Some(Row {
            cluster: row.cluster.into(),
            node: row.node.into(),
            queue: row.queue.into(),
            shape: Arc::clone(shapes.get(row.shape as usize)?),
            count: row.count,
            age: row.age,
        })
    };
    page.rows.into_iter().filter_map(row).collect()
}

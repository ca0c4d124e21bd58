//! Why a job waits, by what the leader knows. No IO, no clock.
//!
//! What is named as keeping a job is true by itself: whatever else were different, the job would
//! not be placed with it. And it is all: without it, the job is placed by the next round that
//! serves its cluster. The properties in `explain/tests.rs` hold it to that, against the solver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::GetWhy;
use muster_api::http::{
    Blocker, ClusterFit, Estimate, LinePlace, PoolWhy, QueueBefore, RuledOut, ShareWhy, time_text,
};
use muster_core::Name;
use muster_core::control::{Control, PoolSettings};
use muster_core::fit::{Fit, Node, Nodes, Obstacle, OfCluster};
use muster_core::quantity::Quantity;
use muster_core::resources::{Resources, dense, from_dense};
use muster_core::shape::Shape;
use muster_core::solve;
use muster_core::time::Timestamp;

use super::absent::Absent;
use super::pace::{Pace, Paces};
use super::round::{Claimed, Claims, Numbers, total};
use super::status::thousandths;
use super::table::{ClusterState, NodeState, QueueState, Table};
use super::usage::Usage;
use super::{avoid, caps, tree};

mod absent;
mod gang;

/// Queues that go before another and are named.
const NAMED_MAX: usize = 10;

/// What is known when questions are answered.
pub(super) struct Known<'a> {
    pub(super) table: &'a Table,
    pub(super) control: &'a Control,
    pub(super) claims: &'a Claims,
    pub(super) paces: &'a Paces,
    /// How many jobs of each queue with a rate may be placed.
    pub(super) rates: BTreeMap<Name, u64>,
    /// How many jobs may be placed by the rate of the pool, if it has one.
    pub(super) paced: Option<u64>,
    pub(super) now: Duration,
    shares: Shares,
    /// What absent queues leave to each, and how many they are.
    absent: (BTreeMap<&'a Name, Vec<i64>>, u64),
}

/// What was counted, and is charged, by queue.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) claims: &'a Claims,
    pub(super) paces: &'a Paces,
    pub(super) usage: &'a Usage,
    /// How much usage counts, in thousandths.
    pub(super) usage_weight: u64,
    /// Queues that are away.
    pub(super) absent: &'a Absent,
}

/// What each queue has of the pool.
struct Shares {
    total: Vec<i64>,
    resources: Vec<Name>,
    queues: BTreeMap<Name, ShareWhy>,
    /// By whom queues are served: the lowest first.
    levels: BTreeMap<Name, f64>,
}

impl<'a> Known<'a> {
    pub(super) fn new(
        table: &'a Table,
        control: &'a Control,
        past: Past<'a>,
        (rates, paced): (BTreeMap<Name, u64>, Option<u64>),
        now: Duration,
    ) -> Self {
        let shares = Shares::of(table, control, past);
        let Past { claims, paces, absent, .. } = past;
        let absent = (shares.left(table, control, absent), absent.len() as u64);
        Self { table, control, claims, paces, rates, paced, now, shares, absent }
    }

    /// How the nodes of the pool stand to jobs of a shape, by cluster.
    pub(super) fn fit(&self, shape: &Shape) -> Vec<ClusterFit> {
        let fit = fit(self.table, self.control, shape);
        self.clusters(&fit)
    }

    /// Why a job waits.
    pub(super) fn explain(&self, asked: &GetWhy, at: Timestamp) -> PoolWhy {
        let (queue, shape) = (asked.queue.as_str(), &*asked.shape.0);
        let fit = fit(self.table, self.control, shape);
        let mut blockers = self.certain(queue, shape, &fit);
        let is_open = blockers.is_empty();
        // Nodes that are taken out come back by themselves.
        let passes = |blocker: &Blocker| {
            matches!(blocker, Blocker::NodesClosed { .. }) && fit.taken_out() > 0
        };
        let is_lasting = blockers.iter().any(|blocker| is_lasting(blocker) && !passes(blocker));
        let claimed = self.claimed(queue, &asked.place);
        blockers.extend(claimed.map(room_for_it));
        let (line, before) = self.before(queue, shape, &asked.place);
        let is_first = line == Blocker::Line { jobs: 0, higher_queues: 0, lower_queues: 0 };
        blockers.extend(Some(line).filter(|_| !is_first));
        blockers.extend(self.of_gang(queue, shape));
        if is_open {
            blockers.extend(self.kept_for_others(queue));
        }
        if blockers.is_empty() {
            blockers.push(Blocker::NextRound);
        }
        let pace = self.paces.of(queue, self.now);
        PoolWhy {
            blockers,
            share: self.shares.queues.get(queue).copied().unwrap_or_default(),
            before,
            clusters: self.clusters(&fit),
            estimate: claimed
                .filter(|_| !is_lasting)
                .and_then(|claimed| when_sure(claimed, at))
                .unwrap_or_else(|| estimate(&asked.place, pace, is_lasting)),
            at: time_text(at),
        }
    }

    /// What keeps jobs of the queue and shape, whoever else waits.
    fn certain(&self, queue: &str, shape: &Shape, fit: &Fit) -> Vec<Blocker> {
        let pool = || self.table.pool.clone();
        let mut found = Vec::new();
        let state = self.table.queues.get(queue);
        if state.is_none_or(|state| !self.table.is_reachable(state.shard)) {
            found.push(Blocker::NotOffered { pool: pool() });
        }
        let settings = self.control.queues.get(queue);
        if settings.is_some_and(|settings| settings.cordoned) {
            found.push(Blocker::QueueCordoned { queue: queue.to_owned() });
        }
        if let Some(state) = state {
            found.extend(self.limits(queue, state, shape));
        }
        if let Some(rate) = settings.and_then(|settings| settings.rate)
            && self.rates.get(queue) == Some(&0)
        {
            let per_second = thousandths(rate.per_second_millis);
            found.push(Blocker::Rate { per_second, burst: rate.burst });
        }
        found.extend(self.floating(shape));
        found.extend(self.kept_for_absent(queue, shape));
        if let Some(rate) = self.settings().and_then(|pool| pool.rate)
            && self.paced == Some(0)
        {
            let per_second = thousandths(rate.per_second_millis);
            found.push(Blocker::PoolRate { pool: pool(), per_second, burst: rate.burst });
        }
        if fit.nodes() == 0 {
            found.push(Blocker::NoCluster { pool: pool() });
        } else if fit.ever() == 0 && fit.closed() == 0 {
            found.push(Blocker::NeverFits { pool: pool() });
        } else if fit.ever() == 0 {
            found.push(Blocker::NodesClosed { nodes: fit.closed() });
        } else if fit.room() == 0 {
            found.push(Blocker::NoRoom { nodes: fit.ever() });
        }
        found
    }

    /// Limits of the queue that leave no room for one more job.
    fn limits(&self, queue: &str, state: &QueueState, shape: &Shape) -> Vec<Blocker> {
        let Some(settings) = self.control.queues.get(queue) else { return Vec::new() };
        let pool = caps::Pool {
            name: &self.table.pool,
            resources: &self.shares.resources,
            total: &self.shares.total,
        };
        let bound = caps::binding(state, &settings.limits, &pool, shape);
        let limit = |bound: caps::Binding| Blocker::Limit {
            class: bound.class,
            resource: bound.resource.to_string(),
            limit: bound.limit.to_string(),
            held: bound.held.to_string(),
            requested: bound.requested.to_string(),
        };
        bound.into_iter().map(limit).collect()
    }

    /// What is set for the pool.
    fn settings(&self) -> Option<&PoolSettings> {
        self.control.pools.get(&self.table.pool)
    }

    /// What belongs to no node, and of which nothing is left for one more job.
    fn floating(&self, shape: &Shape) -> Vec<Blocker> {
        let floating = self.settings().into_iter().flat_map(|pool| &pool.floating);
        let mut found = Vec::new();
        for (name, amount) in floating {
            let mut held = Resources::new();
            self.table.queues.values().for_each(|queue| held.add(&queue.holds));
            let (held, asked) = (held.get(name), dense(name, shape.request.get(name)));
            if asked > 0 && dense(name, *amount).saturating_sub(dense(name, held)) < asked {
                found.push(Blocker::Floating {
                    resource: name.clone(),
                    limit: amount.to_string(),
                    held: held.to_string(),
                    requested: from_dense(name, asked).to_string(),
                });
            }
        }
        found
    }

    /// Whether the last round kept room for overdue jobs of others.
    fn kept_for_others(&self, queue: &str) -> Option<Blocker> {
        let others = self.claims.iter().filter(|(name, _)| ***name != *queue);
        let kept = others.filter(|(_, claims)| claims.iter().any(|claim| !claim.is_preempting));
        let queues = kept.count() as u64;
        (queues > 0).then_some(Blocker::RoomKept { queues })
    }

    /// Whether the last round makes room for the job.
    fn claimed(&self, queue: &str, place: &LinePlace) -> Option<&'a Claimed> {
        let state = self.table.queues.get(queue)?;
        // Where the order is known in parts only, it is not known which job a place means.
        let is_whole = state.classes.values().all(|class| class.search.runs.is_empty());
        let ahead = place.ahead_max.is_none().then_some(place.ahead).filter(|_| is_whole)?;
        let claims = self.claims.get(queue)?;
        claims.iter().find(|c| (c.first..c.first + c.count).contains(&ahead))
    }

    /// Who goes before it: in numbers, and the first queues by name.
    fn before(&self, queue: &str, shape: &Shape, place: &LinePlace) -> (Blocker, Vec<QueueBefore>) {
        let priority = self.control.class_in_effect(&shape.class).priority;
        let level = (self.level(queue), queue);
        let (mut higher, mut lower, mut named) = (0, 0, Vec::new());
        for (name, state) in self.table.queues.iter().filter(|(name, _)| ***name != *queue) {
            let asks = self.control.queues.get(&**name).is_some_and(|queue| !queue.cordoned);
            if !asks || !self.table.is_reachable(state.shard) {
                continue;
            }
            let of = |class: &Name| self.control.class_in_effect(class).priority;
            let waiting = state.classes.iter().filter(|(_, class)| class.runs().next().is_some());
            let highest = waiting.map(|(class, _)| (of(class), class)).max_by_key(|(p, _)| *p);
            let Some((of_highest, class)) = highest else { continue };
            let class = if of_highest > priority {
                higher += 1;
                Some(class.to_string())
            } else if of_highest == priority && (self.level(name), &**name) < level {
                lower += 1;
                None
            } else {
                continue;
            };
            if named.len() < NAMED_MAX {
                let actual = self.shares.queues.get(name).map_or(0.0, |share| share.actual);
                named.push(QueueBefore { queue: name.to_string(), class, actual });
            }
        }
        let (higher_queues, lower_queues) = (higher, lower);
        (Blocker::Line { jobs: place.ahead, higher_queues, lower_queues }, named)
    }

    /// A queue's share by its weight, with what it is charged for the past.
    fn level(&self, queue: &str) -> f64 {
        self.shares.levels.get(queue).copied().unwrap_or_default()
    }

    fn clusters(&self, fit: &Fit) -> Vec<ClusterFit> {
        let cordons = &self.control.cordons.clusters;
        let cordoned = |name: &Name| {
            let cordon = cordons.get(&**name)?;
            Some(cordon.reason.clone().unwrap_or_default())
        };
        let shown = |(name, of): (&Name, &OfCluster)| ClusterFit {
            cluster: name.to_string(),
            nodes: of.nodes,
            room: of.room,
            ever: of.ever,
            cordoned: cordoned(name),
            ruled_out: of.obstacles.iter().map(ruled_out).collect(),
        };
        fit.clusters.iter().map(shown).collect()
    }
}

impl Shares {
    fn of(table: &Table, control: &Control, past: Past<'_>) -> Self {
        let numbers = Numbers::new(table);
        let mut total = total(table, &numbers);
        if let Some(settings) = control.pools.get(&table.pool) {
            for (name, total) in numbers.resources.iter().zip(&mut total) {
                let floating = settings.floating.get(&**name);
                *total = floating.map_or(*total, |amount| dense(name, *amount));
            }
        }
        let known = table.queues.iter();
        let known: Vec<_> = known
            .filter_map(|(name, queue)| {
                Some((name, control.queues.get(&**name)?.weight_millis, queue))
            })
            .collect();
        let demands = known.iter().map(|(name, _, queue)| {
            let mut demand = queue.holds.clone();
            demand.add(&queue.demand);
            (*name, numbers.amounts(&demand))
        });
        let demands: Vec<_> = demands.collect();
        // As the rounds compare them.
        let in_tree = tree::weights(control, &total, demands.clone());
        let flat = || known.iter().map(|(_, weight, _)| *weight).collect();
        let weights: Vec<u64> = in_tree.unwrap_or_else(flat);
        let fair = tree::shares(control, &total, demands);
        let shares = known.iter().zip(fair).map(|((name, weight, queue), share)| {
            let actual = solve::dominant_share(&total, &numbers.amounts(&queue.holds));
            let weight = thousandths(*weight);
            let share = ShareWhy { weight, demand: share.demand, fair: share.ideal, actual };
            (Arc::clone(name), share)
        });
        let queues: BTreeMap<Name, ShareWhy> = shares.collect();
        let level = |((name, _, queue), weight): (&(&Name, u64, &QueueState), u64)| {
            let mut counted = queue.holds.clone();
            counted.add(&past.usage.of(name, past.usage_weight));
            let counted = solve::dominant_share(&total, &numbers.amounts(&counted));
            (Arc::clone(*name), counted / thousandths(weight))
        };
        let levels = known.iter().zip(weights).map(level).collect();
        Self { total, resources: numbers.resources, queues, levels }
    }
}

/// Whether it is there until somebody changes something.
fn is_lasting(blocker: &Blocker) -> bool {
    match blocker {
        Blocker::QueueCordoned { .. }
        | Blocker::NoCluster { .. }
        | Blocker::NeverFits { .. }
        | Blocker::NodesClosed { .. }
        | Blocker::NotOffered { .. }
        | Blocker::HeldBack { .. }
        | Blocker::GangWaiting { .. } => true,
        Blocker::Limit { .. }
        | Blocker::Floating { .. }
        | Blocker::Rate { .. }
        | Blocker::PoolRate { .. }
        | Blocker::GangRoom { .. }
        | Blocker::RoomKept { .. }
        | Blocker::SharesKept { .. }
        | Blocker::NoRoom { .. }
        | Blocker::Claimed { .. }
        | Blocker::Line { .. }
        | Blocker::NextRound
        | Blocker::NoLeader { .. }
        | Blocker::Starting { .. }
        | Blocker::Unknown => false,
    }
}

/// What makes room for a job.
fn room_for_it(claimed: &Claimed) -> Blocker {
    Blocker::Claimed {
        cluster: claimed.cluster.to_string(),
        node: claimed.node.to_string(),
        preempting: claimed.is_preempting,
        by: claimed.by.map(time_text),
    }
}

/// When a job starts for which room is kept that is sure to come.
fn when_sure(claimed: &Claimed, now: Timestamp) -> Option<Estimate> {
    let seconds = claimed.by?.since(now).as_secs();
    let Claimed { cluster, node, .. } = claimed;
    let basis = format!(
        "at the latest: by then what runs on node `{node}` of cluster `{cluster}` has reached its \
         deadlines, as far as it is in the way"
    );
    Some(Estimate { seconds: Some(seconds), basis })
}

/// When it starts, if its queue goes on as in the last minutes.
fn estimate(place: &LinePlace, pace: Pace, is_lasting: bool) -> Estimate {
    let none = |basis: String| Estimate { seconds: None, basis };
    if is_lasting {
        return none(
            "none can be given while it is kept by what does not pass by itself".to_owned(),
        );
    }
    let Pace { jobs, time } = pace;
    let seconds = time.as_secs().max(1);
    if jobs == 0 {
        let basis =
            format!("none can be given: none of its queue's jobs was placed in {seconds} s");
        return none(basis);
    }
    let ahead = place.ahead_max.unwrap_or(place.ahead);
    let wait = u128::from(ahead + 1) * u128::from(seconds) / u128::from(jobs);
    Estimate {
        seconds: Some(u64::try_from(wait).unwrap_or(u64::MAX)),
        basis: format!(
            "{ahead} jobs of its queue stand before it, and {jobs} were placed in the last \
             {seconds} s"
        ),
    }
}

/// How the nodes of the pool stand to a job of that shape.
fn fit(table: &Table, control: &Control, shape: &Shape) -> Fit {
    let mut fit = Fit::default();
    let shape = &of_nodes(table, control, shape);
    let avoids = avoid::has_another(table, control, shape);
    for (cluster, state) in &table.clusters {
        let frees = frees(state, shape);
        let nodes = state.nodes.iter().zip(&frees).map(|((name, node), free)| Node {
            cluster,
            name,
            labels: &node.labels,
            taints: &node.taints,
            allocatable: &node.allocatable,
            free,
            is_avoided: avoids && shape.keeps_away(cluster, name),
            is_open: node.schedulable && !control.cordons.hold(cluster, name),
            is_taken_out: table.is_taken_out(cluster, name),
        });
        fit.clusters.extend(Fit::of(shape, nodes).clusters);
    }
    fit
}

/// A shape without what belongs to no node.
fn of_nodes(table: &Table, control: &Control, shape: &Shape) -> Shape {
    let mut shape = shape.clone();
    let settings = control.pools.get(&table.pool);
    for name in settings.into_iter().flat_map(|pool| pool.floating.keys()) {
        shape.request.set(Name::from(name.as_str()), Quantity::ZERO);
    }
    shape
}

/// What nodes have free of what a job asks for, as rounds see it: leases that the executor has not
/// heard of are taken off.
fn frees(state: &ClusterState, shape: &Shape) -> Vec<Resources> {
    let untold = state.pending.leased();
    let none = Resources::new();
    let free = |(name, node): (&Name, &NodeState)| {
        let untold = untold.get(&**name).unwrap_or(&none);
        let asked = shape.request.iter();
        let left = asked.map(|(resource, _)| {
            let free = dense(resource, node.free.get(resource));
            let left = free.saturating_sub(dense(resource, untold.get(resource)));
            (Arc::clone(resource), from_dense(resource, left))
        });
        left.collect()
    };
    state.nodes.iter().map(free).collect()
}

fn ruled_out((obstacle, nodes): (&Obstacle, &Nodes)) -> RuledOut {
    let (reason, what, is_amount) = match obstacle {
        Obstacle::Label(key, value) => ("label", Some(format!("{key}={value}")), false),
        Obstacle::Affinity => ("affinity", None, false),
        Obstacle::Taint(taint) => {
            let value = if taint.value.is_empty() { "" } else { "=" };
            let text = format!("{}{value}{}:{}", taint.key, taint.value, taint.effect);
            ("taint", Some(text), false)
        }
        Obstacle::Avoided => ("avoided", None, false),
        Obstacle::TooSmall(resource) => ("tooSmall", Some(resource.to_string()), true),
        Obstacle::Closed => ("closed", None, false),
        Obstacle::TakenOut => ("takenOut", None, false),
        Obstacle::Lacks(resource) => ("noRoom", Some(resource.to_string()), true),
    };
    let amount = |amount: Quantity| is_amount.then(|| amount.to_string());
    RuledOut {
        reason: reason.to_owned(),
        what,
        nodes: nodes.count,
        nearest: nodes.nearest.node.to_string(),
        has: amount(nodes.nearest.has),
        lacks: amount(nodes.nearest.lacks),
    }
}

#[cfg(test)]
mod gang_tests;
#[cfg(test)]
mod tests;

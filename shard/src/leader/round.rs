//! One round: the table as a problem for the solver, its plan as lease commands. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use muster_api::bus;
use muster_api::convert;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::quantity::Quantity;
use muster_core::resources::{PODS, Resources, dense, from_dense};
use muster_core::shape::{Placement, ShapeKey};
use muster_core::solve::{self, Cause, ClassIn, Plan, Problem, Reason, RunningIn, ShapeIn};
use muster_core::time::Timestamp;

use self::gangs::Gangs;
use self::nodes::Nodes;
use self::queues::Queues;
use super::absent::Absent;
use super::amounts::Places;
use super::keyed::Keyed;
use super::preempt::{AllVictims, Row, Victims};
use super::search::Stuck;
use super::table::{QueueState, Table};
use super::tree;
use super::{absent, avoid, away, caps};

mod claims;
mod gangs;
mod kept;
mod nodes;
mod queues;
mod record;

pub(super) use claims::{Claimed, Claims};
pub(super) use kept::Kept;
pub(super) use record::{About, Cost};

/// A problem with the names behind its numbers.
pub(super) struct Round {
    problem: Problem,
    resources: Vec<Name>,
    queues: Vec<Name>,
    shards: Vec<u16>,
    /// (cluster, node).
    nodes: Vec<(Name, Name)>,
    shapes: Vec<Arc<Keyed>>,
    /// Priorities of each queue's runs.
    priorities: Vec<Vec<u32>>,
}

/// What one cluster is to be leased by one shard, in parts that are leased as a whole or not at
/// all: a gang, or jobs of a run.
pub(super) type Picks = BTreeMap<(u16, Name), Vec<Vec<bus::Pick>>>;

/// How much a round may do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) picks_max: u64,
    pub(super) preemptions_max: u64,
    /// How much of its fair share a queue keeps, in thousandths.
    pub(super) protected: u64,
    /// Jobs that were submitted before are overdue.
    pub(super) overdue: Timestamp,
    /// How much of the pool may be kept for them beyond one of each queue, in thousandths.
    pub(super) kept_max: u64,
}

/// What a lease round goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// At most so many jobs are placed.
    pub(super) jobs_max: u64,
    /// So many by the rate of the pool.
    pub(super) paced: Option<u64>,
    /// How many jobs of each queue with a rate.
    pub(super) rates: &'a BTreeMap<Name, u64>,
    /// Jobs that were submitted before are overdue.
    pub(super) overdue: Timestamp,
    /// Where room is kept for them.
    pub(super) kept: &'a Kept,
    /// Queues that are away.
    pub(super) absent: &'a Absent,
    pub(super) now: Timestamp,
}

/// Everything that counts in a round, as numbers.
pub(super) struct Numbers {
    pub(super) resources: Vec<Name>,
    /// Where nodes' amounts have them.
    places: Places,
    shapes: Vec<Arc<Keyed>>,
    by_key: HashMap<ShapeKey, u32>,
}

impl Numbers {
    pub(super) fn new(table: &Table) -> Self {
        let resources = resources(table);
        let places = table.numbering.places(&resources);
        Self { resources, places, shapes: Vec::new(), by_key: HashMap::new() }
    }

    fn shape(&mut self, shape: &Arc<Keyed>) -> u32 {
        let next = u32::try_from(self.shapes.len()).expect("fewer than 2^32 shapes");
        let number = *self.by_key.entry(shape.key()).or_insert(next);
        if number == next {
            self.shapes.push(Arc::clone(shape));
        }
        number
    }

    /// The classes that shapes name, in the order of their numbers.
    pub(super) fn class_names(&self) -> Vec<&Name> {
        let names: BTreeSet<&Name> = self.shapes.iter().map(|shape| &shape.class).collect();
        names.into_iter().collect()
    }

    /// The classes that shapes name, and the shapes.
    fn classes_and_shapes(
        &self,
        (pool, control): (&str, &Control),
        gangs: &Gangs<'_>,
    ) -> (Vec<ClassIn>, Vec<ShapeIn>) {
        let of_pool = control.pools.get(pool).and_then(|pool| pool.placement);
        let placement = of_pool.unwrap_or(Placement::Pack);
        let names = self.class_names();
        // Jobs of other pools are below all others.
        let classes = names.iter().map(|name| control.class_in_effect(name).priority);
        let classes = classes.map(|priority| priority.max(i32::MIN + 1)).chain([i32::MIN]);
        let away = u32::try_from(names.len()).expect("fewer than 2^32 classes");
        let shapes = self.shapes.iter().map(|shape| ShapeIn {
            request: self.amounts(&shape.request),
            class: if *shape.pool == *pool { ordinal(&names, &shape.class) } else { away },
            gang: shape.gang.as_ref().map(|gang| gangs.number(gang)),
            spreads: shape.placement.unwrap_or(placement) == Placement::Spread,
            lasts: kept::lasts(shape),
        });
        (classes.map(|priority| ClassIn { priority }).collect(), shapes.collect())
    }

    pub(super) fn amounts(&self, resources: &Resources) -> Vec<i64> {
        self.resources.iter().map(|name| dense(name, resources.get(name))).collect()
    }
}

/// What is available.
pub(super) fn total(table: &Table, numbers: &Numbers) -> Vec<i64> {
    numbers.places.total(table.clusters.values().map(|cluster| &cluster.allocatable))
}

/// Names of all resources that a pool's nodes have, or jobs ask for, cpu, memory and pods always
/// among them.
fn resources(table: &Table) -> Vec<Name> {
    let mut all: BTreeSet<Name> = ["cpu", "memory", PODS].map(Name::from).into();
    let had = table.clusters.values().flat_map(|of| table.numbering.names_in(&of.allocatable));
    all.extend(had.map(Arc::clone));
    let queues = table.queues.values().chain(table.away.values());
    let mut known = HashSet::new();
    for (_, shape, ..) in queues.flat_map(QueueState::runs) {
        if known.insert(shape.key()) {
            let asked = shape.request.iter().map(|(name, _)| name);
            asked.for_each(|name| {
                if !all.contains(name) {
                    all.insert(Arc::clone(name));
                }
            });
        }
    }
    all.into_iter().collect()
}

impl Round {
    /// The problem of leasing to these clusters; `None` when nothing waits or nothing is free.
    pub(super) fn new(
        table: &Table,
        control: &Control,
        clusters: &BTreeMap<Name, u64>,
        terms: &Terms<'_>,
    ) -> Option<Self> {
        let picks_max = terms.jobs_max.min(clusters.values().sum());
        // How much is kept was decided where all clusters were seen.
        let kept_max = 1_000;
        let limits = Limits { picks_max, overdue: terms.overdue, kept_max, ..Limits::default() };
        let takes_part = |cluster: &Name| clusters.contains_key(cluster);
        // Room is kept in some places: elsewhere an overdue job is one like others.
        let keeps = |queue: &Name, shape: &Keyed| {
            let kept = terms.kept.get(&(Arc::clone(queue), shape.key()));
            kept.is_some_and(|rooms| rooms.iter().any(|room| takes_part(&room.cluster)))
        };
        let mut round = Self::of(table, control, takes_part, keeps, &[], limits)?;
        // A gang may have more jobs than a round may place; then it is leased by itself.
        let picks_max = picks_max + gangs::largest(&round.problem);
        round.problem.picks_max = picks_max.min(terms.paced.unwrap_or(u64::MAX));
        for (name, input) in round.queues.iter().zip(&mut round.problem.queues) {
            input.picks_max = terms.rates.get(name).copied();
        }
        let rooms = terms
            .kept
            .iter()
            .flat_map(|((queue, _), rooms)| rooms.iter().map(move |room| (queue, room)));
        for (queue, room) in rooms.filter(|(_, room)| takes_part(&room.cluster)) {
            if let Ok(place) = round.queues.binary_search(queue) {
                round.problem.queues[place].keeps_max += room.count;
            }
        }
        round.tell_kept(terms.kept, terms.now);
        let amounts =
            |of: &Resources| round.resources.iter().map(|r| dense(r, of.get(r))).collect();
        let absent = terms.absent.iter().map(|(name, gone)| (name, amounts(&gone.demand)));
        let absent = absent.collect();
        absent::put_caps(control, absent, &round.queues, &mut round.problem);
        Some(round)
    }

    /// The problem of making room where there is none: on the nodes of all clusters, for one that
    /// does not ask at the moment may have room and ask in the next.
    pub(super) fn to_preempt(
        table: &Table,
        control: &Control,
        running: &[Row],
        limits: Limits,
    ) -> Option<Self> {
        let mut round = Self::of(table, control, |_| true, |_, _| true, running, limits)?;
        round.problem.queues.iter_mut().for_each(|queue| queue.keeps_max = u64::MAX);
        Some(round)
    }

    fn of(
        table: &Table,
        control: &Control,
        takes_part: impl Fn(&Name) -> bool,
        keeps: impl Fn(&Name, &Keyed) -> bool,
        running: &[Row],
        limits: Limits,
    ) -> Option<Self> {
        let mut numbers = Numbers::new(table);
        let Queues { names: queues, shards, mut inputs, priorities } =
            Queues::of(table, control, (limits.overdue, keeps), &mut numbers);
        if inputs.iter().all(|queue| queue.runs.is_empty()) {
            return None;
        }
        let Nodes { names: nodes, inputs: node_inputs, groups } =
            Nodes::of(table, control, takes_part, &numbers);
        if nodes.is_empty() {
            return None;
        }
        let running = running_inputs(running, &queues, &nodes, &mut numbers);
        let gangs = Gangs::of(&numbers.shapes);
        let (classes, shape_inputs) = numbers.classes_and_shapes((&table.pool, control), &gangs);
        let total = total(table, &numbers);
        let caps = caps::put_under(table, control, &numbers, &total, (&queues, &mut inputs));
        let mut problem = Problem {
            total,
            caps,
            classes,
            gangs: gangs.inputs(),
            labels: gangs.labels(&groups),
            shapes: shape_inputs,
            groups: u32::try_from(groups.len()).expect("fewer than 2^32 groups"),
            admits: numbers
                .shapes
                .iter()
                .map(|shape| {
                    let avoids = avoid::has_another(table, control, shape);
                    groups.iter().map(|group| group.admits(shape, avoids)).collect()
                })
                .collect(),
            queues: inputs,
            nodes: node_inputs,
            running,
            kept: Vec::new(),
            picks_max: limits.picks_max,
            preemptions_max: limits.preemptions_max,
            protected: limits.protected,
            kept_max: limits.kept_max,
        };
        caps::put_floating(table, control, &numbers.resources, &mut problem);
        let is_home = |(name, _): &(&Name, _)| away::parts(name).is_none();
        let asked = problem.queues.iter().map(|queue| queue.demand.clone());
        let asked = queues.iter().zip(asked).filter(|(name, _)| away::parts(name).is_none());
        if let Some(weights) = tree::weights(control, &problem.total, asked.collect()) {
            let inputs = queues.iter().zip(&mut problem.queues).filter(is_home).zip(weights);
            inputs.for_each(|((_, queue), weight)| queue.weight = weight);
        }
        let Numbers { resources, shapes, .. } = numbers;
        Some(Self { problem, resources, queues, shards, nodes, shapes, priorities })
    }

    /// Charges queues for what they used before.
    pub(super) fn charge(&mut self, used: impl Fn(&Name) -> Resources) {
        for (name, input) in self.queues.iter().zip(&mut self.problem.queues) {
            let used = used(name);
            let amounts = self.resources.iter().map(|name| dense(name, used.get(name)));
            input.charged = amounts.collect();
        }
    }

    /// Decides it.
    pub(super) fn solve(&self) -> Plan {
        solve::solve(&self.problem)
    }

    /// The queues of which nothing more could be placed, though there was room for some job; `None`
    /// when the round ended before that was known, or nothing is free.
    pub(super) fn stuck(&self, plan: &Plan) -> Option<Stuck> {
        if plan.figures.placed >= self.problem.picks_max {
            return None;
        }
        let resources = self.resources.len();
        let mut nodes = Vec::with_capacity(self.problem.nodes.len() * resources);
        self.problem.nodes.iter().for_each(|node| nodes.extend_from_slice(&node.free));
        for pick in &plan.picks {
            let request = &self.problem.shapes[pick.shape as usize].request;
            let times = i64::try_from(pick.count).unwrap_or(i64::MAX);
            let node = &mut nodes[pick.node as usize * resources..][..resources];
            for (free, asked) in node.iter_mut().zip(request) {
                *free = free.saturating_sub(asked.saturating_mul(times));
            }
        }
        let mut most = vec![0; resources];
        for node in nodes.chunks_exact(resources) {
            most.iter_mut().zip(node).for_each(|(most, free)| *most = i64::max(*most, *free));
        }
        let free = self.resources.iter().zip(most);
        let free: Resources =
            free.map(|(name, most)| (Arc::clone(name), from_dense(name, most))).collect();
        let asking = self.queues.iter().zip(&self.problem.queues);
        let queues = asking.filter(|(_, input)| !input.runs.is_empty());
        let queues = queues.map(|(name, _)| Arc::clone(name)).collect();
        (free.get(PODS) > Quantity::ZERO).then_some(Stuck { free, queues })
    }

    /// How many jobs of each queue are placed.
    pub(super) fn placed_jobs(&self, plan: &Plan) -> BTreeMap<Name, u64> {
        let mut placed = BTreeMap::new();
        for pick in &plan.picks {
            let queue = Arc::clone(&self.queues[pick.queue as usize]);
            *placed.entry(queue).or_default() += pick.count;
        }
        placed
    }

    /// The queues that have more to place than their rates allow.
    pub(super) fn held_back(&self, plan: &Plan) -> Vec<Name> {
        let held_back = plan.unplaced.iter().filter(|rest| rest.reason == Reason::Rate);
        held_back.map(|rest| Arc::clone(&self.queues[rest.queue as usize])).collect()
    }

    /// Whether a job was left for which there was no room, and is none to come. For jobs of other
    /// pools nobody makes any.
    pub(super) fn is_short(&self, plan: &Plan) -> bool {
        let is_home = |queue: u32| away::parts(&self.queues[queue as usize]).is_none();
        let no_room = |rest: &solve::Unplaced| rest.reason == Reason::NoRoomNow;
        plan.unplaced.iter().any(|rest| no_room(rest) && is_home(rest.queue))
    }

    /// The orders, by queue and class, of which something is placed.
    pub(super) fn placed(&self, plan: &Plan) -> BTreeSet<(Name, Name)> {
        let of = |pick: &solve::Pick| {
            let (queue, shape) =
                (&self.queues[pick.queue as usize], &self.shapes[pick.shape as usize]);
            (Arc::clone(queue), Arc::clone(&shape.class))
        };
        plan.picks.iter().map(of).collect()
    }

    /// The plan as lease commands by shard and cluster, no more for a cluster than it takes: gangs
    /// first, since these go as a whole. One of more jobs than a cluster takes at once goes alone.
    pub(super) fn picks(&self, plan: &Plan, clusters: &BTreeMap<Name, u64>) -> Picks {
        let mut left = clusters.clone();
        let mut picks: Picks = BTreeMap::new();
        let (gangs, singles) = gangs::units(&self.problem, plan);
        for unit in gangs.into_iter().chain(singles) {
            let Some(first) = unit.first() else { continue };
            let is_gang = self.problem.shapes[first.shape as usize].gang.is_some();
            let cluster = &self.nodes[first.node as usize].0;
            let Some(room) = left.get_mut(cluster) else { continue };
            let all = unit.iter().map(|pick| pick.count).sum::<u64>();
            let is_alone = clusters.get(cluster) == Some(room);
            if *room == 0 || is_gang && all > *room && !is_alone {
                continue;
            }
            let count = |pick: &solve::Pick| if is_gang { pick.count } else { all.min(*room) };
            let told = unit.iter().map(|pick| self.told(pick, count(pick))).collect();
            *room -= all.min(*room);
            let key = (self.shards[first.queue as usize], Arc::clone(cluster));
            picks.entry(key).or_default().push(told);
        }
        picks
    }

    fn told(&self, pick: &solve::Pick, count: u64) -> bus::Pick {
        let queue = pick.queue as usize;
        bus::Pick {
            queue: self.queues[queue].to_string(),
            priority: self.priorities[queue][pick.run as usize],
            shape: convert::shape_key(self.shapes[pick.shape as usize].key()),
            node: self.nodes[pick.node as usize].1.to_string(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }

    /// Who is to make room, by shard and cluster.
    pub(super) fn victims(&self, plan: &Plan) -> AllVictims {
        let mut all = AllVictims::new();
        for preemption in &plan.preemptions {
            let running = self.problem.running[preemption.running as usize];
            let claim = plan.claims[preemption.claim as usize];
            let run = self.problem.queues[claim.queue as usize].runs[claim.run as usize];
            let (claimant, wanted) =
                (&self.queues[claim.queue as usize], &self.shapes[run.shape as usize]);
            let reason = match preemption.cause {
                Cause::Urgency => {
                    format!("for a job of class `{}` of queue `{claimant}`", wanted.class)
                }
                Cause::Fairness => {
                    format!("for queue `{claimant}`, which has less than its fair share")
                }
            };
            let queue = running.queue as usize;
            let (cluster, node) = &self.nodes[running.node as usize];
            let told = bus::Victims {
                queue: self.queues[queue].to_string(),
                shape: convert::shape_key(self.shapes[running.shape as usize].key()),
                node: node.to_string(),
                count: u32::try_from(preemption.count).unwrap_or(u32::MAX),
                reason,
            };
            let shape = Arc::clone(&self.shapes[running.shape as usize]);
            let victims = Victims { told, shape, cause: preemption.cause };
            let key = (self.shards[queue], Arc::clone(cluster));
            push(all.entry(key).or_default(), victims);
        }
        all
    }
}

/// Adds victims, to the last ones where they are of the same kind.
fn push(all: &mut Vec<Victims>, victims: Victims) {
    if let Some(last) = all.last_mut() {
        let told = bus::Victims { count: last.told.count, ..victims.told.clone() };
        if told == last.told {
            last.told.count = told.count.saturating_add(victims.told.count);
            return;
        }
    }
    all.push(victims);
}

/// The place of a name that is among those, which are in order.
pub(super) fn ordinal(names: &[&Name], name: &Name) -> u32 {
    let place = names.binary_search(&name).expect("it is one of them");
    u32::try_from(place).expect("fewer than 2^32 names")
}

/// What runs, as far as queue and node take part.
fn running_inputs(
    rows: &[Row],
    queues: &[Name],
    nodes: &[(Name, Name)],
    numbers: &mut Numbers,
) -> Vec<RunningIn> {
    let by_name: BTreeMap<&(Name, Name), u32> = nodes.iter().zip(0..).collect();
    let input = |row: &Row| {
        let queue = u32::try_from(queues.binary_search(&row.queue).ok()?).ok()?;
        let node = *by_name.get(&(Arc::clone(&row.cluster), Arc::clone(&row.node)))?;
        let (shape, count, age) = (numbers.shape(&row.shape), row.count, row.age);
        Some(RunningIn { queue, shape, node, count, age })
    };
    rows.iter().filter_map(input).collect()
}

#[cfg(test)]
mod gang_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

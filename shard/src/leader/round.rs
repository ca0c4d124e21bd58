//! One round: the table as a problem for the solver, its plan as lease commands. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_api::bus;
use muster_api::convert;
use muster_api::http;
use muster_core::Name;
use muster_core::control::Control;
use muster_core::quantity::Quantity;
use muster_core::resources::{PODS, Resources, dense, from_dense};
use muster_core::shape::{Affinity, Shape, ShapeKey, Taint};
use muster_core::solve::{self, ClassIn, NodeIn, Plan, Problem, QueueIn, RunIn, ShapeIn};

use super::order::ordered;
use super::search::Stuck;
use super::table::{ClusterState, Table};

/// A problem with the names behind its numbers.
pub(super) struct Round {
    problem: Problem,
    resources: Vec<Name>,
    queues: Vec<Name>,
    shards: Vec<u16>,
    /// (cluster, node).
    nodes: Vec<(Name, Name)>,
    shapes: Vec<ShapeKey>,
    /// The class of each shape.
    classes: Vec<Name>,
    /// Priorities of each queue's runs.
    priorities: Vec<Vec<u32>>,
}

/// What one cluster is to be leased by one shard.
pub(super) type Picks = BTreeMap<(u16, Name), Vec<bus::Pick>>;

/// Everything that counts in a round, as numbers.
struct Numbers {
    resources: Vec<Name>,
    shapes: Vec<Arc<Shape>>,
    by_key: BTreeMap<ShapeKey, u32>,
    by_pointer: BTreeMap<usize, u32>,
}

impl Numbers {
    fn shape(&mut self, shape: &Arc<Shape>) -> u32 {
        let pointer = Arc::as_ptr(shape) as usize;
        if let Some(number) = self.by_pointer.get(&pointer) {
            return *number;
        }
        let next = u32::try_from(self.shapes.len()).expect("fewer than 2^32 shapes");
        let number = *self.by_key.entry(shape.key()).or_insert(next);
        if number == next {
            self.shapes.push(Arc::clone(shape));
        }
        self.by_pointer.insert(pointer, number);
        number
    }

    /// The classes that shapes name, and the shapes.
    fn classes_and_shapes(&self, control: &Control) -> (Vec<ClassIn>, Vec<ShapeIn>) {
        let names: BTreeSet<&Name> = self.shapes.iter().map(|shape| &shape.class).collect();
        let names: Vec<&Name> = names.into_iter().collect();
        let classes = names.iter().map(|name| control.class_in_effect(name).priority);
        let shapes = self.shapes.iter().map(|shape| ShapeIn {
            request: self.amounts(&shape.request),
            class: ordinal(&names, &shape.class),
            gang: None,
        });
        (classes.map(|priority| ClassIn { priority }).collect(), shapes.collect())
    }

    fn amounts(&self, resources: &Resources) -> Vec<i64> {
        self.resources.iter().map(|name| dense(name, resources.get(name))).collect()
    }
}

/// What is available, rounded down where requests are rounded up: dense units are whole for both.
fn total(table: &Table, numbers: &Numbers) -> Vec<i64> {
    let mut total = Resources::new();
    let nodes = table.clusters.values().flat_map(|cluster| cluster.nodes.values());
    nodes.for_each(|node| total.add(&node.allocatable));
    numbers.amounts(&total)
}

/// Names of all resources that a pool's nodes have, cpu, memory and pods always among them.
fn resources(table: &Table) -> Vec<Name> {
    let mut all: BTreeMap<Name, ()> = ["cpu", "memory", PODS].map(|n| (Name::from(n), ())).into();
    let nodes = table.clusters.values().flat_map(|cluster| cluster.nodes.values());
    let shapes = table.queues.values().flat_map(|queue| queue.runs().map(|(_, shape, _)| shape));
    let names = nodes.flat_map(|node| node.allocatable.iter());
    all.extend(names.map(|(name, _)| (Arc::clone(name), ())));
    all.extend(shapes.flat_map(|s| s.request.iter()).map(|(name, _)| (Arc::clone(name), ())));
    all.into_keys().collect()
}

fn weight(control: &Control, queue: &str) -> Option<u64> {
    control.queues.get(queue).map(|queue| queue.weight_millis)
}

impl Round {
    /// The problem of leasing to these clusters; `None` when nothing waits or nothing is free.
    pub(super) fn new(
        table: &Table,
        control: &Control,
        clusters: &BTreeMap<Name, u64>,
        jobs_max: u64,
    ) -> Option<Self> {
        let mut numbers = Numbers {
            resources: resources(table),
            shapes: Vec::new(),
            by_key: BTreeMap::new(),
            by_pointer: BTreeMap::new(),
        };
        let (mut queues, mut shards, mut priorities, mut inputs) = (vec![], vec![], vec![], vec![]);
        for (name, queue) in &table.queues {
            let Some(settings) = control.queues.get(&**name) else { continue };
            // A queue that gets nothing now still counts for nobody: shares are compared only among
            // those that ask.
            let ask = !settings.cordoned && table.is_reachable(queue.shard);
            let known = if ask { ordered(queue, control) } else { Vec::new() };
            let runs = known.iter().map(|(_, s, n)| RunIn {
                shape: numbers.shape(s),
                count: *n,
                is_overdue: false,
            });
            inputs.push(QueueIn {
                weight: settings.weight_millis,
                runs: runs.collect(),
                allocated: numbers.amounts(&queue.holds),
                ..QueueIn::default()
            });
            priorities.push(known.iter().map(|(priority, _, _)| *priority).collect());
            queues.push(Arc::clone(name));
            shards.push(queue.shard);
        }
        if inputs.iter().all(|queue| queue.runs.is_empty()) {
            return None;
        }
        let (nodes, node_inputs, groups) = nodes(table, clusters, &numbers);
        if nodes.is_empty() {
            return None;
        }
        let asked: u64 = clusters.values().sum();
        let (classes, shape_inputs) = numbers.classes_and_shapes(control);
        let problem = Problem {
            total: total(table, &numbers),
            classes,
            shapes: shape_inputs,
            groups: u32::try_from(groups.len()).expect("fewer than 2^32 groups"),
            admits: numbers
                .shapes
                .iter()
                .map(|shape| groups.iter().map(|group| group.admits(shape)).collect())
                .collect(),
            queues: inputs,
            nodes: node_inputs,
            picks_max: jobs_max.min(asked),
            ..Problem::default()
        };
        let shapes = numbers.shapes.iter().map(|shape| shape.key()).collect();
        let classes = numbers.shapes.iter().map(|shape| shape.class.clone()).collect();
        let resources = numbers.resources;
        Some(Self { problem, resources, queues, shards, nodes, shapes, classes, priorities })
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
        let mut nodes: Vec<Vec<i64>> = self.problem.nodes.iter().map(|n| n.free.clone()).collect();
        for pick in &plan.picks {
            let request = &self.problem.shapes[pick.shape as usize].request;
            let times = i64::try_from(pick.count).unwrap_or(i64::MAX);
            for (free, asked) in nodes[pick.node as usize].iter_mut().zip(request) {
                *free = free.saturating_sub(asked.saturating_mul(times));
            }
        }
        let mut free = Resources::new();
        for (place, name) in self.resources.iter().enumerate() {
            let most = nodes.iter().map(|node| node[place]).max().unwrap_or_default();
            free.set(Arc::clone(name), from_dense(name, most.max(0)));
        }
        let asking = self.queues.iter().zip(&self.problem.queues);
        let queues = asking.filter(|(_, input)| !input.runs.is_empty());
        let queues = queues.map(|(name, _)| Arc::clone(name)).collect();
        (free.get(PODS) > Quantity::ZERO).then_some(Stuck { free, queues })
    }

    /// The orders, by queue and class, of which something is placed.
    pub(super) fn placed(&self, plan: &Plan) -> BTreeSet<(Name, Name)> {
        let of = |pick: &solve::Pick| {
            let (queue, class) =
                (&self.queues[pick.queue as usize], &self.classes[pick.shape as usize]);
            (Arc::clone(queue), Arc::clone(class))
        };
        plan.picks.iter().map(of).collect()
    }

    /// The plan as lease commands by shard and cluster, no more for a cluster than it takes.
    pub(super) fn picks(&self, plan: &Plan, clusters: &BTreeMap<Name, u64>) -> Picks {
        let mut left = clusters.clone();
        let mut picks: Picks = BTreeMap::new();
        for pick in &plan.picks {
            let (cluster, node) = &self.nodes[pick.node as usize];
            let Some(room) = left.get_mut(cluster) else { continue };
            let count = pick.count.min(*room);
            *room -= count;
            if count == 0 {
                continue;
            }
            let queue = pick.queue as usize;
            let key = (self.shards[queue], Arc::clone(cluster));
            picks.entry(key).or_default().push(bus::Pick {
                queue: self.queues[queue].to_string(),
                priority: self.priorities[queue][pick.run as usize],
                shape: convert::shape_key(self.shapes[pick.shape as usize]),
                node: node.to_string(),
                count: u32::try_from(count).unwrap_or(u32::MAX),
            });
        }
        picks
    }
}

/// The place of a name that is among those, which are in order.
fn ordinal(names: &[&Name], name: &Name) -> u32 {
    let place = names.binary_search(&name).expect("it is one of them");
    u32::try_from(place).expect("fewer than 2^32 names")
}

/// Nodes that are equal to every shape, resources aside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    labels: BTreeMap<Name, Name>,
    taints: Vec<Taint>,
    /// The name of its only node, where a shape speaks of that.
    name: Option<Name>,
}

impl Group {
    fn admits(&self, shape: &Shape) -> bool {
        shape.admits(self.name.as_deref().unwrap_or_default(), &self.labels, &self.taints)
    }
}

/// The nodes of the clusters that ask, and the groups of equal ones among them.
fn nodes(
    table: &Table,
    clusters: &BTreeMap<Name, u64>,
    numbers: &Numbers,
) -> (Vec<(Name, Name)>, Vec<NodeIn>, Vec<Group>) {
    let mut names = Vec::new();
    let mut inputs = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<Group, u32> = BTreeMap::new();
    let affinities = numbers.shapes.iter().filter_map(|shape| shape.affinity.as_ref());
    let named: BTreeSet<&Name> = affinities.flat_map(Affinity::names).collect();
    let asking = table.clusters.iter().filter(|(name, _)| clusters.contains_key(*name));
    for (cluster, state) in asking {
        for (name, node) in state.nodes.iter().filter(|(_, node)| node.schedulable) {
            let key = Group {
                labels: node.labels.clone(),
                taints: node.taints.clone(),
                name: named.get(name).map(|name| Name::clone(name)),
            };
            let next = u32::try_from(groups.len()).expect("fewer than 2^32 groups");
            let group = *known.entry(key.clone()).or_insert(next);
            if group == next {
                groups.push(key);
            }
            let free = numbers.amounts(&node.free);
            inputs.push(NodeIn { group, free, ..NodeIn::default() });
            names.push((Arc::clone(cluster), Arc::clone(name)));
        }
    }
    (names, inputs, groups)
}

/// The pool as it is shown: capacity, shares, clusters.
pub(super) fn status(table: &Table, control: &Control, at: &str) -> http::Pool {
    let resources = resources(table);
    let numbers = Numbers {
        resources,
        shapes: Vec::new(),
        by_key: BTreeMap::new(),
        by_pointer: BTreeMap::new(),
    };
    let total = total(table, &numbers);
    let mut all_held = Resources::new();
    let mut rows = Vec::new();
    let mut demands = Vec::new();
    for (name, queue) in &table.queues {
        let Some(weight) = weight(control, name) else { continue };
        let held = &queue.holds;
        let mut demand = held.clone();
        demand.add(&queue.demand);
        all_held.add(held);
        demands.push((weight, numbers.amounts(&demand)));
        rows.push(http::QueueShare {
            queue: name.to_string(),
            weight: thousandths(weight),
            queued: queue.waiting,
            running: queue.held,
            actual_share: solve::dominant_share(&total, &numbers.amounts(held)),
            allocated: convert::quantities(held),
            demand: convert::quantities(&demand),
            ideal_share: 0.0,
        });
    }
    for (row, share) in rows.iter_mut().zip(solve::fair_shares(&total, &demands)) {
        row.ideal_share = share.ideal;
    }
    let clusters = table.clusters.iter().map(|(name, c)| cluster_status(&table.pool, name, c));
    http::Pool {
        name: table.pool.clone(),
        capacity: quantities(&numbers.resources, &total),
        allocated: convert::quantities(&all_held),
        nodes: table.clusters.values().map(|cluster| cluster.nodes.len() as u64).sum(),
        clusters: clusters.collect(),
        queues: rows,
        at: at.to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights are at most 10^9 thousandths")]
fn thousandths(weight: u64) -> f64 {
    weight as f64 / 1000.0
}

fn quantities(names: &[Name], amounts: &[i64]) -> BTreeMap<String, String> {
    let pairs = names.iter().zip(amounts).filter(|(_, amount)| **amount != 0);
    pairs.map(|(name, amount)| (name.to_string(), from_dense(name, *amount).to_string())).collect()
}

fn cluster_status(pool: &str, name: &Name, cluster: &ClusterState) -> http::Cluster {
    let mut capacity = Resources::new();
    let mut free = Resources::new();
    for node in cluster.nodes.values() {
        capacity.add(&node.allocatable);
        free.add(&node.free);
    }
    http::Cluster {
        name: name.to_string(),
        pool: pool.to_owned(),
        nodes: cluster.nodes.len() as u64,
        runs: cluster.nodes.values().map(|node| u64::from(node.runs)).sum(),
        capacity: convert::quantities(&capacity),
        free: convert::quantities(&free),
        last_contact: http::time_text(cluster.contact),
    }
}

#[cfg(test)]
mod group_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_core::time::Timestamp;

    use super::*;

    fn amounts(cpu: &str) -> BTreeMap<String, String> {
        [("cpu", cpu), ("memory", "64Gi"), ("pods", "100")]
            .map(|(name, amount)| (name.to_owned(), amount.to_owned()))
            .into()
    }

    /// A cluster of one node that is free.
    fn with_node(table: &mut Table, cpu: &str) {
        let node = bus::Node {
            name: "n".into(),
            labels: BTreeMap::new(),
            taints: vec![],
            allocatable: amounts(cpu),
            free: amounts(cpu),
            freeing: BTreeMap::new(),
            runs: 0,
            schedulable: true,
        };
        let nodes = bus::NodeUpdate { base: None, version: 1, nodes: vec![node], removed: vec![] };
        let request = bus::LeaseRequest {
            cluster: "c".into(),
            instance: "i".into(),
            seen: None,
            nodes,
            leases_max: 100,
            wait_ms: 0,
        };
        assert!(table.request(&request, Duration::from_secs(1), Timestamp(0)));
    }

    /// Queues with jobs of one cpu: (queue, class, count).
    fn with_jobs(table: &mut Table, jobs: &[(&str, &str, u64)]) {
        let request: Resources =
            [("cpu".into(), Quantity::from_units(1)), (PODS.into(), Quantity::from_units(1))]
                .into_iter()
                .collect();
        let shape = |class: &str| {
            let shape = Shape { class: class.into(), ..Shape::of_request(request.clone()) };
            muster_api::shape::ShapeText(Arc::new(shape))
        };
        let head = |class: &str, number: u32, count: u64| bus::Head {
            class: class.to_owned(),
            runs: vec![(0, number, count)],
            behind: None,
        };
        let queues = (0..).zip(jobs).map(|(number, (queue, class, count))| bus::QueueOffer {
            queue: (*queue).to_owned(),
            further: false,
            pools: vec![bus::PoolOffer {
                pool: "default".into(),
                heads: vec![head(class, number, *count)],
                waiting: *count,
                demand: BTreeMap::new(),
                held: 0,
                holds: BTreeMap::new(),
            }],
        });
        table.offers(bus::Offers {
            shard: 1,
            owner: "w".into(),
            epoch: 1,
            version: 1,
            previous: 0,
            full: true,
            shapes: jobs.iter().map(|(_, class, _)| shape(class)).collect(),
            queues: queues.collect(),
        });
    }

    fn control(queues: &[&str], classes: &[(&str, i32)]) -> Control {
        let mut control = Control::default();
        for name in queues {
            let queue = muster_core::control::Queue::default();
            control = control.with_queue(name, queue).unwrap();
        }
        for (name, priority) in classes {
            let class =
                muster_core::control::PriorityClass { priority: *priority, preemptible: false };
            control = control.with_class(name, class).unwrap();
        }
        control
    }

    #[test]
    fn the_highest_class_of_all_queues_is_leased_first() {
        let mut table = Table::new("default");
        with_node(&mut table, "4");
        with_jobs(&mut table, &[("a", "default", 9), ("b", "urgent", 3)]);
        let leased = |urgent: i32| {
            let control = control(&["a", "b"], &[("urgent", urgent)]);
            let clusters = [("c".into(), 100)].into();
            let round = Round::new(&table, &control, &clusters, 1000).unwrap();
            let picks = round.picks(&round.solve(), &clusters);
            let picks = picks.into_values().flatten();
            picks.map(|pick| (pick.queue, pick.count)).collect::<BTreeMap<String, u32>>()
        };
        assert_eq!(leased(5_000), [("a".into(), 1), ("b".into(), 3)].into());
        assert_eq!(leased(-1), [("a".into(), 4)].into());
        // Of equal priority they share.
        let default = control(&[], &[]).class_in_effect("default").priority;
        assert_eq!(leased(default), [("a".into(), 2), ("b".into(), 2)].into());
    }

    #[test]
    fn a_cluster_is_shown_with_the_time_at_which_it_asked_last() {
        let mut table = Table::new("default");
        let request = bus::LeaseRequest {
            cluster: "c".into(),
            instance: "i".into(),
            seen: None,
            nodes: bus::NodeUpdate { base: None, version: 1, nodes: vec![], removed: vec![] },
            leases_max: 1,
            wait_ms: 0,
        };
        assert!(table.request(&request, Duration::from_secs(1), Timestamp(5_000)));
        let shown = status(&table, &Control::default(), &http::time_text(Timestamp(9_000)));
        assert_eq!(shown.clusters[0].last_contact, http::time_text(Timestamp(5_000)));
    }
}

//! The nodes of a round, and what tells them apart beside what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::Name;
use muster_core::control::Control;
use muster_core::resources::Resources;
use muster_core::shape::{Affinity, Shape, Taint};
use muster_core::solve::NodeIn;

use super::super::keyed::Keyed;
use super::super::table::{NodeState, Table};
use super::Numbers;

/// Nodes that are equal to every shape, resources aside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    /// Those that any shape speaks of: many nodes have some that only they have.
    pub(super) labels: BTreeMap<Name, Name>,
    taints: Vec<Taint>,
    /// The name of its only node, where a shape speaks of that.
    name: Option<Name>,
    /// Cluster and name of its only node, where a shape keeps away from that.
    avoided: Option<(Name, Name)>,
}

impl Group {
    /// `avoids` says whether the shape gets its way with the nodes that it keeps away from.
    pub(super) fn admits(&self, shape: &Shape, avoids: bool) -> bool {
        let is_avoided = |(cluster, node): &(Name, Name)| avoids && shape.keeps_away(cluster, node);
        shape.admits(self.name.as_deref().unwrap_or_default(), &self.labels, &self.taints)
            && !self.avoided.as_ref().is_some_and(is_avoided)
    }
}

/// The nodes that take part, (cluster, node) each, and the groups of equal ones among them.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) names: Vec<(Name, Name)>,
    pub(super) inputs: Vec<NodeIn>,
    pub(super) groups: Vec<Group>,
}

impl Nodes {
    pub(super) fn of(
        table: &Table,
        control: &Control,
        takes_part: impl Fn(&Name) -> bool,
        numbers: &Numbers,
    ) -> Self {
        let mut nodes = Self::default();
        let mut known = Known::default();
        let spoken_of = spoken_of(&numbers.shapes);
        let affinities = numbers.shapes.iter().filter_map(|shape| shape.affinity.as_ref());
        let named: BTreeSet<&Name> = affinities.flat_map(Affinity::names).collect();
        let avoided: BTreeSet<&(Name, Name)> =
            numbers.shapes.iter().flat_map(|shape| &shape.avoid).collect();
        let clusters = table.clusters.iter().filter(|(name, _)| takes_part(name));
        for (number, (cluster, state)) in (0..).zip(clusters) {
            let untold = state.pending.leased();
            let open = |name: &Name, node: &NodeState| {
                node.schedulable
                    && !control.cordons.hold(cluster, name)
                    && !table.is_taken_out(cluster, name)
            };
            for (name, node) in state.nodes.iter().filter(|(name, node)| open(name, node)) {
                let group = known.number(Group {
                    labels: of_interest(&node.labels, &spoken_of),
                    taints: node.taints.clone(),
                    name: named.get(name).map(|name| Name::clone(name)),
                    avoided: (!avoided.is_empty())
                        .then(|| (Name::clone(cluster), Name::clone(name)))
                        .filter(|place| avoided.contains(place)),
                });
                let stopping = state.stopping.get(name);
                let input = node_input(node, untold.get(&**name), stopping, numbers);
                nodes.inputs.push(NodeIn { group, cluster: number, ..input });
                nodes.names.push((Arc::clone(cluster), Arc::clone(name)));
            }
        }
        nodes.groups = known.groups;
        nodes
    }
}

/// Groups by number.
#[derive(Default)]
struct Known {
    groups: Vec<Group>,
    numbers: BTreeMap<Group, u32>,
    /// That of the last node: the next is of the same, more often than not.
    last: u32,
}

impl Known {
    fn number(&mut self, group: Group) -> u32 {
        if self.groups.get(self.last as usize) == Some(&group) {
            return self.last;
        }
        let next = u32::try_from(self.groups.len()).expect("fewer than 2^32 groups");
        self.last = *self.numbers.entry(group.clone()).or_insert(next);
        if self.last == next {
            self.groups.push(group);
        }
        self.last
    }
}

/// The labels that shapes speak of.
fn spoken_of(shapes: &[Arc<Keyed>]) -> BTreeSet<&Name> {
    let mut labels = BTreeSet::new();
    for shape in shapes {
        labels.extend(shape.node_selector.keys());
        labels.extend(shape.affinity.iter().flat_map(Affinity::labels));
        labels.extend(shape.gang.iter().filter_map(|gang| gang.uniformity.as_ref()));
    }
    labels
}

fn of_interest(labels: &BTreeMap<Name, Name>, spoken_of: &BTreeSet<&Name>) -> BTreeMap<Name, Name> {
    let of_interest = spoken_of.iter().filter_map(|name| labels.get_key_value(*name));
    of_interest.map(|(name, value)| (Arc::clone(name), Arc::clone(value))).collect()
}

/// What a node has: of what is free, leases are taken off that its executor has not heard of; what
/// was told to stop and its executor has not heard of comes free beside what that tells.
fn node_input(
    node: &NodeState,
    untold: Option<&Resources>,
    stopping: Option<&Resources>,
    numbers: &Numbers,
) -> NodeIn {
    let capacity = numbers.places.of(&node.amounts.allocatable);
    let mut free = numbers.places.of(&node.amounts.free);
    for (free, taken) in free.iter_mut().zip(untold.map_or(vec![], |u| numbers.amounts(u))) {
        *free = free.saturating_sub(taken);
    }
    let mut coming = node.freeing.clone();
    stopping.into_iter().for_each(|stopping| coming.add(stopping));
    let mut freeing = Vec::new();
    if coming.iter().next().is_some() {
        // The executor may have heard of it in the meantime: it is one room all the same.
        let most = capacity.iter().zip(&free).map(|(capacity, free)| (capacity - free).max(0));
        freeing = numbers.amounts(&coming).into_iter().zip(most).map(|(a, b)| a.min(b)).collect();
    }
    NodeIn { free, freeing, capacity, runs: node.runs, ..NodeIn::default() }
}

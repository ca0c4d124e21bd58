//! How the nodes of a pool stand to a job: how many could take it, and what keeps it from the
//! others, the nearest miss with it.
//!
//! Amounts are compared as the solver compares them, in dense units.

use std::collections::BTreeMap;

use crate::Name;
use crate::quantity::Quantity;
use crate::resources::{Resources, dense, from_dense};
use crate::shape::{Mismatch, Shape, Taint};

/// A node that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its cluster.
    pub cluster: &'a Name,
    /// Its name.
    pub name: &'a Name,
    /// Its labels.
    pub labels: &'a BTreeMap<Name, Name>,
    /// Its taints.
    pub taints: &'a [Taint],
    /// What it has when nothing runs there.
    pub allocatable: &'a Resources,
    /// What is free.
    pub free: &'a Resources,
    /// Whether the job keeps away from it.
    pub is_avoided: bool,
    /// Whether anything new is placed there.
    pub is_open: bool,
    /// Whether it was taken out for a while, because jobs of several queues failed there.
    pub is_taken_out: bool,
}

/// What keeps a job from a node: the first of these that does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The node lacks this label with this value.
    Label(Name, Name),
    /// The node does not meet the affinity.
    Affinity,
    /// The job does not tolerate this taint.
    Taint(Taint),
    /// The job keeps away from the node, because attempts of it failed there.
    Avoided,
    /// Even empty, the node has too little of this resource.
    TooSmall(Name),
    /// Nothing new is placed there: it is cordoned, draining or not ready.
    Closed,
    /// Nothing new is placed there for a while: jobs of several queues failed there.
    TakenOut,
    /// The node has too little of this resource free.
    Lacks(Name),
}

/// Nodes that something keeps a job from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// How many.
    pub count: u64,
    /// The one of them that is nearest to taking it: any one, where nearness means nothing.
    pub nearest: Miss,
}

/// By how much a node misses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The node.
    pub node: Name,
    /// How much it has of the resource that is named: free, or in all. Nothing where none is.
    pub has: Quantity,
    /// How much more a job needs.
    pub lacks: Quantity,
}

/// How the nodes of one cluster stand to a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfCluster {
    /// How many nodes it has.
    pub nodes: u64,
    /// How many could take the job now.
    pub room: u64,
    /// How many could hold it when nothing else runs there, those that are closed left out.
    pub ever: u64,
    /// What keeps it from the others.
    pub obstacles: BTreeMap<Obstacle, Nodes>,
}

/// How nodes stand to a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// By cluster.
    pub clusters: BTreeMap<Name, OfCluster>,
}

/// What a node lacks of the resource of which it lacks the largest part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lack {
    resource: Name,
    has: i64,
    asked: i64,
}

impl Fit {
    /// Looks at nodes for a job of that shape.
    pub fn of<'a>(shape: &Shape, nodes: impl IntoIterator<Item = Node<'a>>) -> Self {
        let mut fit = Self::default();
        for node in nodes {
            let cluster = fit.clusters.entry(node.cluster.clone()).or_default();
            cluster.add(shape, &node);
        }
        fit
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.clusters.values().map(|cluster| cluster.nodes).sum()
    }

    /// How many nodes could take the job now.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.clusters.values().map(|cluster| cluster.room).sum()
    }

    /// How many nodes could hold it when nothing else runs there.
    #[must_use]
    pub fn ever(&self) -> u64 {
        self.clusters.values().map(|cluster| cluster.ever).sum()
    }

    /// How many nodes could hold it and are closed, or taken out for a while.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.kept_by(&Obstacle::Closed) + self.taken_out()
    }

    /// How many nodes could hold it and are taken out for a while.
    #[must_use]
    pub fn taken_out(&self) -> u64 {
        self.kept_by(&Obstacle::TakenOut)
    }

    fn kept_by(&self, obstacle: &Obstacle) -> u64 {
        let nodes = |cluster: &OfCluster| cluster.obstacles.get(obstacle).map(|n| n.count);
        self.clusters.values().filter_map(nodes).sum()
    }
}

impl OfCluster {
    fn add(&mut self, shape: &Shape, node: &Node<'_>) {
        self.nodes += 1;
        let (obstacle, lack) = match obstacle(shape, node) {
            None => {
                self.room += 1;
                self.ever += 1;
                return;
            }
            Some(found) => found,
        };
        self.ever += u64::from(matches!(obstacle, Obstacle::Lacks(_)));
        let miss = Miss::new(node.name, lack.as_ref());
        match self.obstacles.get_mut(&obstacle) {
            None => {
                self.obstacles.insert(obstacle, Nodes { count: 1, nearest: miss });
            }
            Some(nodes) => {
                nodes.count += 1;
                // Of one job the same is asked everywhere: who lacks less is nearer.
                if miss.lacks < nodes.nearest.lacks {
                    nodes.nearest = miss;
                }
            }
        }
    }
}

impl Miss {
    fn new(node: &Name, lack: Option<&Lack>) -> Self {
        let (has, lacks) = match lack {
            Some(Lack { resource, has, asked }) => {
                let has = (*has).max(0);
                (from_dense(resource, has), from_dense(resource, asked - has))
            }
            None => (Quantity::ZERO, Quantity::ZERO),
        };
        Self { node: node.clone(), has, lacks }
    }
}

/// What keeps a job from a node, if anything does.
fn obstacle(shape: &Shape, node: &Node<'_>) -> Option<(Obstacle, Option<Lack>)> {
    if let Some(mismatch) = shape.mismatch(node.name, node.labels, node.taints) {
        let obstacle = match mismatch {
            Mismatch::Label { key, value } => Obstacle::Label(key.clone(), value.clone()),
            Mismatch::Affinity => Obstacle::Affinity,
            Mismatch::Taint(taint) => Obstacle::Taint(taint.clone()),
        };
        return Some((obstacle, None));
    }
    if node.is_avoided {
        return Some((Obstacle::Avoided, None));
    }
    if let Some(lack) = largest_lack(&shape.request, node.allocatable) {
        return Some((Obstacle::TooSmall(lack.resource.clone()), Some(lack)));
    }
    if !node.is_open {
        return Some((Obstacle::Closed, None));
    }
    if node.is_taken_out {
        return Some((Obstacle::TakenOut, None));
    }
    let lack = largest_lack(&shape.request, node.free)?;
    Some((Obstacle::Lacks(lack.resource.clone()), Some(lack)))
}

/// The resource of which the largest part of what is asked is not there.
fn largest_lack(request: &Resources, there: &Resources) -> Option<Lack> {
    let lack = |(name, asked): (&Name, Quantity)| {
        let (asked, has) = (dense(name, asked), dense(name, there.get(name)));
        (asked > 0 && has < asked).then(|| Lack { resource: name.clone(), has, asked })
    };
    // The part that is there is the smaller: has / asked, compared without division.
    let part = |a: &Lack, b: &Lack| {
        let product = |has: i64, asked: i64| i128::from(has.max(0)) * i128::from(asked);
        product(a.has, b.asked).cmp(&product(b.has, a.asked))
    };
    request.iter().filter_map(lack).min_by(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(cpu: i64, memory: i64) -> Resources {
        [("cpu", cpu), ("memory", memory)]
            .map(|(name, amount)| (Name::from(name), Quantity::from_units(amount)))
            .into_iter()
            .collect()
    }

    #[test]
    fn nodes_are_counted_by_what_keeps_a_job_from_them_and_the_nearest_is_named() {
        let (cluster, none) = (Name::from("c"), BTreeMap::new());
        let taints =
            [Taint { key: "gpu".into(), value: "true".into(), effect: "NoSchedule".into() }];
        let names: Vec<Name> = (0..9).map(|n| Name::from(format!("n{n}").as_str())).collect();
        let (large, small) = (amounts(16, 64), amounts(4, 64));
        let free = [amounts(2, 64), amounts(7, 64), amounts(16, 3), amounts(0, 0)];
        let node = |name: usize, free, allocatable| Node {
            cluster: &cluster,
            name: &names[name],
            labels: &none,
            taints: &[],
            allocatable,
            free,
            is_avoided: false,
            is_open: true,
            is_taken_out: false,
        };
        let nodes = [
            node(0, &free[0], &large),
            node(1, &free[1], &large),
            node(2, &free[2], &large),
            node(3, &free[3], &small),
            Node { taints: &taints, ..node(4, &large, &large) },
            Node { is_open: false, ..node(5, &free[3], &large) },
            node(6, &large, &large),
            Node { is_avoided: true, ..node(7, &large, &large) },
            Node { is_taken_out: true, ..node(8, &large, &large) },
        ];
        let shape = Shape::of_request(amounts(8, 8));
        let fit = Fit::of(&shape, nodes);
        let found = &fit.clusters["c"];
        assert_eq!((found.nodes, found.room, found.ever), (9, 1, 4));
        assert_eq!((fit.nodes(), fit.room(), fit.ever(), fit.closed()), (9, 1, 4, 2));
        assert_eq!(fit.taken_out(), 1);
        let of = |obstacle: &Obstacle| {
            let nodes = &found.obstacles[obstacle];
            let Miss { node, has, lacks } = &nodes.nearest;
            (nodes.count, node.to_string(), has.to_string(), lacks.to_string())
        };
        let miss = |count: u64, node: &str, has: &str, lacks: &str| {
            (count, node.to_owned(), has.to_owned(), lacks.to_owned())
        };
        assert_eq!(of(&Obstacle::Lacks("cpu".into())), miss(2, "n1", "7", "1"));
        assert_eq!(of(&Obstacle::Lacks("memory".into())), miss(1, "n2", "3", "5"));
        assert_eq!(of(&Obstacle::TooSmall("cpu".into())), miss(1, "n3", "4", "4"));
        assert_eq!(of(&Obstacle::Taint(taints[0].clone())), miss(1, "n4", "0", "0"));
        assert_eq!(of(&Obstacle::Closed), miss(1, "n5", "0", "0"));
        assert_eq!(of(&Obstacle::Avoided), miss(1, "n7", "0", "0"));
        assert_eq!(of(&Obstacle::TakenOut), miss(1, "n8", "0", "0"));
        assert_eq!(found.obstacles.len(), 7);
    }
}

//! The cluster's nodes: what each has free once the runs that the executor knows are taken off, and
//! what of it the pool's leader has not been told yet.
//!
//! Each node belongs to one pool, by its label, and is told to that pool's leader only. Every
//! change of a node gets the next version, so that "the leader holds version v" says of each node
//! whether it is known: an update may stop anywhere and go on later.

use std::collections::BTreeMap;

use muster_api::bus::{self, NodeUpdate};
use muster_core::Name;
use muster_core::names;
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::shape::{POOL_LABEL, Shape};
use muster_core::time::Timestamp;

use super::failures::Failures;
use crate::backend::{Node, NodeChange};
use crate::limits;

/// Bytes of a node on the wire beside its texts, generously.
const NODE_BYTES: usize = 130;
/// Bytes of a name beside its text.
const NAME_BYTES: usize = 5;

/// Nodes by name.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The pool of nodes that name none.
    pool: Name,
    version: u64,
    nodes: BTreeMap<Name, Entry>,
    /// The version of the last change in each pool that ever had a node.
    pools: BTreeMap<Name, u64>,
    /// (pool, node) by the version in which the pool lost the node.
    removed: BTreeMap<u64, (Name, Name)>,
    /// What leaders must be at to be told changes only: versions before it have lost removals.
    base_min: u64,
    /// Runs on nodes that the back end does not list (any more).
    homeless: BTreeMap<Name, Taken>,
}

/// What runs take of a node.
#[derive(Debug, Clone, Default)]
struct Taken {
    used: Resources,
    /// The part of it that runs hold which were told to stop.
    freeing: Resources,
    runs: u32,
}

#[derive(Debug)]
struct Entry {
    node: Node,
    pool: Name,
    taken: Taken,
    failures: Failures,
    changed: u64,
}

impl Entry {
    fn free(&self) -> Resources {
        difference(&self.node.allocatable, &self.taken.used)
    }
}

/// An update for the leader.
pub(super) struct Update {
    pub(super) update: NodeUpdate,
    /// Whether more must follow before the leader knows all.
    pub(super) more: bool,
}

impl Nodes {
    /// No nodes; those that name no pool will belong to `pool`.
    pub(super) fn new(pool: Name) -> Self {
        Self {
            pool,
            version: 0,
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            removed: BTreeMap::new(),
            base_min: 0,
            homeless: BTreeMap::new(),
        }
    }

    /// Takes the nodes as the back end sees them; runs stay where they are. Gives those, of what
    /// has changed, whose label names no pool that they can belong to: they take no runs.
    pub(super) fn set(&mut self, nodes: Vec<Node>) -> Vec<Name> {
        let mut gone: BTreeMap<Name, Entry> = std::mem::take(&mut self.nodes);
        let mut misplaced = Vec::new();
        for node in nodes {
            let known = gone.remove(&node.name);
            misplaced.extend(self.place(node, known));
        }
        for (name, entry) in gone {
            self.lose(name, entry);
        }
        self.bound();
        if self.pools.is_empty() {
            // So that somebody hears of the cluster.
            self.touch(&self.pool.clone());
        }
        misplaced
    }

    /// Takes the nodes that have changed; all others are as they were. Gives as [`Nodes::set`].
    pub(super) fn change(&mut self, changes: Vec<NodeChange>) -> Vec<Name> {
        let mut misplaced = Vec::new();
        for NodeChange { name, node } in changes {
            match (node, self.nodes.remove(&name)) {
                (Some(node), known) => misplaced.extend(self.place(node, known)),
                (None, Some(known)) => self.lose(name, known),
                (None, None) => {}
            }
        }
        self.bound();
        misplaced
    }

    /// Takes a node that is there, and may have been known before; gives its name if it is news
    /// that its label names no pool that it can belong to.
    fn place(&mut self, mut node: Node, known: Option<Entry>) -> Option<Name> {
        let pool = self.pool_of(&node);
        let is_misplaced = pool.is_none();
        node.schedulable &= !is_misplaced;
        let pool = pool.unwrap_or_else(|| self.pool.clone());
        let name = node.name.clone();
        let (entry, is_news) = match known {
            Some(entry) if entry.node == node => (entry, false),
            known => (self.changed(node, pool, known), true),
        };
        self.nodes.insert(name.clone(), entry);
        (is_misplaced && is_news).then_some(name)
    }

    /// A node is gone.
    fn lose(&mut self, name: Name, entry: Entry) {
        self.leave(&entry.pool, &name);
        if entry.taken.runs > 0 {
            self.homeless.insert(name, entry.taken);
        }
    }

    /// Forgets who was removed first, where they are too many.
    fn bound(&mut self) {
        while self.removed.len() > limits::REMOVED_NODES_MAX {
            if let Some((version, _)) = self.removed.pop_first() {
                self.base_min = version;
            }
        }
    }

    /// The pool that a node belongs to; none when its label names none, or one too many.
    fn pool_of(&self, node: &Node) -> Option<Name> {
        let Some(pool) = node.labels.get(POOL_LABEL) else { return Some(self.pool.clone()) };
        let has_room = self.pools.contains_key(pool) || self.pools.len() < limits::POOLS_MAX;
        (has_room && names::pool(pool).is_ok()).then(|| pool.clone())
    }

    /// A node that is new, or not as it was.
    fn changed(&mut self, node: Node, pool: Name, known: Option<Entry>) -> Entry {
        let (taken, failures) = match known {
            Some(known) => {
                if known.pool != pool {
                    self.leave(&known.pool, &node.name);
                }
                (known.taken, known.failures)
            }
            None => (self.homeless.remove(&node.name).unwrap_or_default(), Failures::default()),
        };
        let changed = self.touch(&pool);
        Entry { node, pool, taken, failures, changed }
    }

    fn leave(&mut self, pool: &Name, node: &Name) {
        let version = self.touch(pool);
        self.removed.insert(version, (pool.clone(), node.clone()));
    }

    /// The next version, which changes something in this pool.
    fn touch(&mut self, pool: &Name) -> u64 {
        self.version += 1;
        self.pools.insert(pool.clone(), self.version);
        self.version
    }

    /// The pools that ever had a node: leaders of those that have none any more have to be told.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Name> {
        self.pools.keys()
    }

    /// Why a run of this shape cannot start on the node now. `pool` is that whose leader leased it
    /// there, where that is known: the job may be of another, to which it lends its nodes.
    pub(super) fn refusal(&self, node: &str, shape: &Shape, pool: Option<&Name>) -> Option<String> {
        let Some(entry) = self.nodes.get(node) else {
            return Some(format!("node `{node}` is gone"));
        };
        if pool.is_some_and(|pool| entry.pool != *pool) {
            return Some(format!("node `{node}` belongs to pool `{}`", entry.pool));
        }
        if !entry.node.schedulable {
            return Some(format!("node `{node}` takes no runs"));
        }
        if !shape.admits(node, &entry.node.labels, &entry.node.taints) {
            return Some(format!("labels, taints or the name of node `{node}` keep it away"));
        }
        let free = entry.free();
        let short = shape.request.iter().find(|(name, asked)| *asked > free.get(name));
        short.map(|(name, asked)| {
            let free = free.get(name);
            format!("it asks for {asked} of `{name}`, node `{node}` has {free} free")
        })
    }

    /// Takes a run off the node's free resources, whether it fits or not.
    pub(super) fn take(&mut self, node: &Name, request: &Resources) {
        let taken = self.taken(node);
        taken.used.add(request);
        taken.runs += 1;
    }

    /// A run that takes so much was told to stop.
    pub(super) fn stopping(&mut self, node: &Name, request: &Resources) {
        self.taken(node).freeing.add(request);
    }

    /// Gives back what a run took; of one that was told to stop, that it was.
    pub(super) fn release(&mut self, node: &Name, request: &Resources, was_stopping: bool) {
        let taken = self.taken(node);
        taken.used = difference(&taken.used, request);
        taken.runs = taken.runs.saturating_sub(1);
        if was_stopping {
            taken.freeing = difference(&taken.freeing, request);
        }
        if taken.runs == 0 {
            self.homeless.remove(node);
        }
    }

    /// A job of a queue failed on a node, whose fault it may be.
    pub(super) fn failed(&mut self, node: &Name, queue: &Name, at: Timestamp) {
        self.change_failures(node, |failures| failures.failed(queue, at));
    }

    /// A job ended well on a node: what failed there before is not held against it.
    pub(super) fn did_well(&mut self, node: &Name) {
        if self.nodes.get(node).is_some_and(|entry| !entry.failures.is_empty()) {
            self.change_failures(node, |failures| *failures = Failures::default());
        }
    }

    fn change_failures(&mut self, node: &Name, change: impl FnOnce(&mut Failures)) {
        if let Some(entry) = self.nodes.get_mut(node) {
            self.version += 1;
            self.pools.insert(entry.pool.clone(), self.version);
            entry.changed = self.version;
            change(&mut entry.failures);
        }
    }

    /// What is taken of a node, to be changed.
    fn taken(&mut self, node: &Name) -> &mut Taken {
        match self.nodes.get_mut(node) {
            Some(entry) => {
                self.version += 1;
                self.pools.insert(entry.pool.clone(), self.version);
                entry.changed = self.version;
                &mut entry.taken
            }
            None => self.homeless.entry(node.clone()).or_default(),
        }
    }

    /// Rises with every change of a node of this pool.
    pub(super) fn version(&self, pool: &str) -> u64 {
        self.pools.get(pool).copied().unwrap_or_default()
    }

    /// What the leader of `pool`, which holds version `base` (or nothing), does not know, up to
    /// `bytes_max`.
    pub(super) fn update(&self, pool: &str, base: Option<u64>, bytes_max: usize) -> Update {
        let base = base.filter(|base| (self.base_min..=self.version).contains(base));
        // Where the names of those that are gone are too many, telling what is there says as much.
        let base = base.filter(|base| self.removed_bytes(*base) <= bytes_max / 2);
        let behind = |version: u64| base.is_none_or(|base| version > base);
        let mut changed: Vec<&Entry> =
            self.nodes.values().filter(|e| *e.pool == *pool && behind(e.changed)).collect();
        changed.sort_by_key(|entry| entry.changed);
        let (mut nodes, mut bytes, mut version, mut more) = (Vec::new(), 0, self.version, false);
        for entry in changed {
            bytes += size(entry);
            if bytes > bytes_max && !nodes.is_empty() {
                more = true;
                break;
            }
            version = entry.changed;
            nodes.push(wire(entry));
        }
        let version = if more { version } else { self.version };
        let removed = match base {
            Some(base) => self.removed.range(base + 1..=version.max(base + 1)),
            // Who is told everything knows of no node that is gone.
            None => self.removed.range(0..0),
        };
        // A node that came back is not gone.
        let is_here = |node: &Name| self.nodes.get(node).is_some_and(|entry| *entry.pool == *pool);
        let removed = removed
            .map(|(_, (from, node))| (from, node))
            .filter(|(from, node)| ***from == *pool && !is_here(node))
            .map(|(_, node)| node)
            .map(ToString::to_string)
            .collect();
        Update { update: NodeUpdate { base, version, nodes, removed }, more }
    }

    fn removed_bytes(&self, base: u64) -> usize {
        self.removed.range(base + 1..).map(|(_, (_, name))| name.len() + NAME_BYTES).sum()
    }
}

/// `a - b`, below zero where `b` is more.
fn difference(a: &Resources, b: &Resources) -> Resources {
    let mut rest = a.clone();
    let negated =
        b.iter().filter_map(|(n, q)| Some((n.clone(), Quantity::from_nanos(-q.nanos())?)));
    rest.add(&negated.collect());
    rest
}

fn size(entry: &Entry) -> usize {
    let labels: usize = entry.node.labels.iter().map(|(n, v)| n.len() + v.len() + 6).sum();
    let taints: usize =
        entry.node.taints.iter().map(|t| t.key.len() + t.value.len() + t.effect.len() + 9).sum();
    let resources = entry.node.allocatable.iter().map(|(name, _)| 3 * (name.len() + 24));
    let failing: usize = entry.failures.iter().map(|(queue, _)| queue.len() + 15).sum();
    let rest = labels + taints + failing;
    NODE_BYTES + entry.node.name.len() + rest + resources.sum::<usize>()
}

fn wire(entry: &Entry) -> bus::Node {
    let node = &entry.node;
    let texts = |resources: &Resources| {
        let shown = resources.iter().filter(|(_, q)| !q.is_negative());
        shown.map(|(name, q)| (name.to_string(), q.to_string())).collect()
    };
    let text = |name: &Name| name.to_string();
    bus::Node {
        name: node.name.to_string(),
        labels: node.labels.iter().map(|(name, value)| (text(name), text(value))).collect(),
        taints: node
            .taints
            .iter()
            .map(|taint| (text(&taint.key), text(&taint.value), text(&taint.effect)))
            .collect(),
        allocatable: texts(&node.allocatable),
        free: texts(&entry.free()),
        freeing: texts(&entry.taken.freeing),
        runs: entry.taken.runs,
        schedulable: node.schedulable,
        failing: entry.failures.iter().map(|(queue, at)| (text(queue), at.0)).collect(),
    }
}

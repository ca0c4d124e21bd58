//! Room that is not there yet: what jobs hold that were told to stop. Who is next may claim it, so
//! that others do not take it away piece by piece.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::fill::add;
use super::nodes::Nodes;
use super::order::{Rank, holds};
use super::{EndIn, Problem};

/// What will be free, beyond what is.
pub(super) struct Later {
    /// `[node][resource]`
    coming: Vec<i64>,
    /// Nodes that have such room, in the order in which it was found: a node for which something
    /// was preempted comes again.
    nodes: Vec<u32>,
    /// `[shape]`: so many of `nodes`, from the first on, hold no job of it any more.
    passed: Vec<usize>,
    /// By shape, the nodes that could hold a job of it, the nearest on top.
    nearest: BTreeMap<u32, BinaryHeap<Nearness>>,
}

/// What a node will have of a resource, how many jobs run there, and which it is. One that has
/// fallen since it was put here is not in its place.
type Nearness = (i64, u32, Reverse<u32>);

/// Shapes, at most, for which the nearest nodes are looked for in a round: for each, all nodes are
/// looked at.
const NEAREST_SHAPES_MAX: usize = 64;

impl Later {
    pub(super) fn new(problem: &Problem) -> Later {
        let resources = problem.total.len();
        let is_freeing = |node: u32| problem.nodes[node as usize].freeing.iter().any(|a| *a > 0);
        let nodes: Vec<u32> = (0..problem.nodes.len() as u32).filter(|n| is_freeing(*n)).collect();
        let mut coming = Vec::new();
        if !nodes.is_empty() || problem.preemptions_max > 0 {
            coming = vec![0; problem.nodes.len() * resources];
        }
        for &node in &nodes {
            let start = node as usize * resources;
            coming[start..start + resources].copy_from_slice(&problem.nodes[node as usize].freeing);
        }
        Later { coming, nodes, passed: vec![0; problem.shapes.len()], nearest: BTreeMap::new() }
    }

    /// What a node will have free of each resource.
    pub(super) fn soon<'a>(
        &'a self,
        nodes: &'a Nodes,
        node: u32,
    ) -> impl Iterator<Item = i64> + 'a {
        let free = nodes.free_of(node);
        let start = node as usize * free.len();
        let coming = &self.coming[start..start + free.len()];
        free.iter().zip(coming).map(|(free, coming)| free.saturating_add(*coming))
    }

    /// Whether some node has such room.
    pub(super) fn is_any(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// What is preempted on a node will be free.
    pub(super) fn add(&mut self, node: u32, request: &[i64], count: u64) {
        let start = node as usize * request.len();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        for (coming, request) in self.coming[start..].iter_mut().zip(request) {
            *coming = coming.saturating_add(request.saturating_mul(count));
        }
        // The only way in which a node gets nearer.
        self.nearest.clear();
    }

    /// Whether something was preempted on a node since it was last found.
    pub(super) fn is_news(&self, node: u32) -> bool {
        self.nodes.last() != Some(&node)
    }

    /// Something was preempted on a node: it is to be looked at again.
    pub(super) fn found(&mut self, node: u32) {
        self.nodes.push(node);
    }

    /// The node that will hold one job of the shape and has the least free of `resource` then.
    pub(super) fn best_fit(
        &mut self,
        problem: &Problem,
        nodes: &Nodes,
        shape: u32,
        resource: usize,
    ) -> Option<u32> {
        if self.nodes.is_empty() {
            return None;
        }
        let request = problem.request_of(shape);
        let rank = |node: u32| {
            let mut soon = self.soon(nodes, node).zip(request);
            let holds =
                admits(problem, shape, node) && soon.all(|(soon, asked)| *asked <= 0.max(soon));
            holds.then(|| Rank::at(self.soon_of(nodes, node, resource), node))
        };
        let passed = self.passed[shape as usize];
        let mut in_vain = true;
        let (mut best, mut now_passed) = (None, passed);
        for &node in &self.nodes[passed..] {
            let found = rank(node);
            in_vain &= found.is_none();
            now_passed += usize::from(in_vain);
            best = match (best, found) {
                (Some(best), Some(found)) => Some(Rank::min(best, found)),
                (best, found) => best.or(found),
            };
        }
        self.passed[shape as usize] = now_passed;
        best.map(Rank::node)
    }

    /// The node that could hold a job of the shape and is nearest to it: that will have the most of
    /// `resource`, and of equals the one on which the most jobs run, of which one ends the sooner.
    pub(super) fn nearest(
        &mut self,
        problem: &Problem,
        nodes: &Nodes,
        shape: u32,
        resource: usize,
    ) -> Option<u32> {
        let nearness = |this: &Later, node: u32| {
            let runs = problem.nodes[node as usize].runs;
            (this.soon_of(nodes, node, resource), runs, Reverse(node))
        };
        let mut heap = match self.nearest.remove(&shape) {
            Some(heap) => heap,
            None if self.nearest.len() == NEAREST_SHAPES_MAX => return None,
            None => {
                let all = 0..problem.nodes.len() as u32;
                let could_hold = |node: &u32| could_hold(problem, shape, *node);
                all.filter(could_hold).map(|node| nearness(self, node)).collect()
            }
        };
        // What a node will have falls as others claim it: it is put where it belongs when its turn
        // comes.
        let found = loop {
            let Some(top) = heap.peek().copied() else { break None };
            let (.., Reverse(node)) = top;
            let now = nearness(self, node);
            if now == top {
                break Some(node);
            }
            heap.pop();
            heap.push(now);
        };
        self.nearest.insert(shape, heap);
        found
    }

    fn soon_of(&self, nodes: &Nodes, node: u32, resource: usize) -> i64 {
        let free = nodes.free_of(node);
        let coming = self.coming.get(node as usize * free.len() + resource).copied();
        let free = free.get(resource).copied().unwrap_or_default();
        free.saturating_add(coming.unwrap_or_default())
    }
}

/// The node that could hold a job of the shape and is sure to do so first, by what is sure to end
/// there, and within how many seconds; of equals the one that has the most of `resource`.
pub(super) fn soonest(
    problem: &Problem,
    nodes: &Nodes,
    shape: u32,
    resource: usize,
) -> Option<(u32, Option<u64>)> {
    let request = problem.request_of(shape);
    let all = (0..).zip(&problem.nodes).filter(|(_, input)| !input.ends.is_empty());
    let all = all.map(|(node, _)| node).filter(|node| could_hold(problem, shape, *node));
    let sure = all.filter_map(|node| Some((within(problem, nodes, node, request)?, node)));
    let free = |node: u32| nodes.free_of(node).get(resource).copied();
    let found = sure.min_by_key(|(within, node)| (*within, Reverse(free(*node)), *node));
    found.map(|(within, node)| (node, Some(within)))
}

/// Within how many seconds a node is sure to have so much, by what is sure to end there.
pub(super) fn within(problem: &Problem, nodes: &Nodes, node: u32, request: &[i64]) -> Option<u64> {
    // Nobody knows when that is gone which was told to stop: it is not counted.
    let mut free = nodes.free_of(node).to_vec();
    let holds = |free: &[i64]| {
        let mut amounts = request.iter().zip(free);
        amounts.all(|(asked, free)| *asked == 0 || asked <= free)
    };
    if holds(&free) {
        return Some(0);
    }
    let mut ends: Vec<&EndIn> = problem.nodes[node as usize].ends.iter().collect();
    ends.sort_by_key(|end| end.within);
    let mut ends = ends.into_iter();
    let enough = ends.find(|end| {
        add(&mut free, &end.amounts, 1);
        holds(&free)
    });
    enough.map(|end| end.within)
}

/// Whether a node could hold a job of the shape, were there nothing else on it.
pub(super) fn could_hold(problem: &Problem, shape: u32, node: u32) -> bool {
    let request = problem.request_of(shape);
    let capacity = &problem.nodes[node as usize].capacity;
    let is_known = capacity.len() == request.len();
    admits(problem, shape, node) && is_known && holds(request, capacity)
}

fn admits(problem: &Problem, shape: u32, node: u32) -> bool {
    problem.admits[shape as usize][problem.nodes[node as usize].group as usize]
}

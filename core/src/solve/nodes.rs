//! What is free on the nodes, indexed for best fit.
//!
//! For every zone (nodes that admit the same shapes) and every resource that is dominant for some
//! shape, the nodes stand in order of how much of it they have free, in blocks. A block knows an
//! upper bound of what its nodes have free of every resource, so that a search passes over nodes
//! which have enough of one resource but are short of another without looking at each of them.

use super::{NodeIn, fits};

/// Nodes per block after a block was split or built; a block holds at most twice as many.
const BLOCK_NODES: usize = 16;

/// A node's place in an order: how much it has free, then its ordinal.
type Rank = (i64, u32);

/// The free amounts of all nodes, and their orders.
pub(super) struct Nodes {
    resources: usize,
    /// `[node][resource]`
    free: Vec<i64>,
    zone_of: Vec<u32>,
    /// The resources by which nodes are ordered.
    ordered_by: Vec<usize>,
    /// `[zone][position in ordered_by]`
    orders: Vec<Order>,
    /// Nodes looked at by searches.
    pub(super) looked_at: u64,
}

impl Nodes {
    /// Indexes `nodes`, whose zones are `zone_of[group]`, by each of `ordered_by`, which is not
    /// empty.
    pub(super) fn new(
        nodes: &[NodeIn],
        resources: usize,
        zone_of_group: &[u32],
        zones: usize,
        ordered_by: Vec<usize>,
    ) -> Nodes {
        let free: Vec<i64> = nodes.iter().flat_map(|node| node.free.iter().copied()).collect();
        let zone_of: Vec<u32> =
            nodes.iter().map(|node| zone_of_group[node.group as usize]).collect();
        let mut members = vec![Vec::new(); zones];
        for (node, &zone) in zone_of.iter().enumerate() {
            members[zone as usize].push(node as u32);
        }
        let mut this =
            Nodes { resources, free, zone_of, ordered_by, orders: Vec::new(), looked_at: 0 };
        for members in &members {
            for by in 0..this.ordered_by.len() {
                let ranks = members.iter().map(|&node| this.rank(node, by)).collect();
                this.orders.push(Order::new(ranks, &this.free, resources));
            }
        }
        this
    }

    /// The node in one of `zones` that holds one `request` and has the least free of `resource`,
    /// which is one of those that the nodes are ordered by; the lowest ordinal of equals.
    pub(super) fn best_fit(
        &mut self,
        zones: &[u32],
        request: &[i64],
        resource: usize,
    ) -> Option<u32> {
        let by = self
            .ordered_by
            .iter()
            .position(|&ordered_by| ordered_by == resource)
            .expect("every shape's dominant resource was named when the nodes were indexed");
        let mut best: Option<Rank> = None;
        for &zone in zones {
            let order = &mut self.orders[zone as usize * self.ordered_by.len() + by];
            let (found, looked_at) =
                order.first_that_holds(&self.free, self.resources, request, resource);
            self.looked_at += looked_at;
            best = match (best, found) {
                (Some(best), Some(found)) => Some(best.min(found)),
                (best, found) => best.or(found),
            };
        }
        best.map(|(_, node)| node)
    }

    /// How many of `request` the node holds with what it has free.
    pub(super) fn room_for(&self, node: u32, request: &[i64]) -> u64 {
        self.row(node)
            .iter()
            .zip(request)
            .filter(|(_, request)| **request > 0)
            .map(|(free, request)| u64::try_from(free / request).unwrap_or(0))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Takes `count` times `request`, for which the node has room.
    pub(super) fn take(&mut self, node: u32, request: &[i64], count: u64) {
        let count = i64::try_from(count).expect("a step is bounded by what fits an i64");
        let asked = |by: &usize| request.get(*by).is_some_and(|amount| *amount > 0);
        let zone = self.zone_of[node as usize] as usize * self.ordered_by.len();
        for by in 0..self.ordered_by.len() {
            if asked(&self.ordered_by[by]) {
                let from = self.rank(node, by);
                self.orders[zone + by].remove(from);
            }
        }
        let start = node as usize * self.resources;
        for (free, request) in self.free[start..start + self.resources].iter_mut().zip(request) {
            *free -= request * count;
            assert!(*request == 0 || *free >= 0, "node {node} would be over-committed");
        }
        for by in 0..self.ordered_by.len() {
            if asked(&self.ordered_by[by]) {
                let to = self.rank(node, by);
                self.orders[zone + by].insert(to, &self.free, self.resources);
            }
        }
    }

    fn row(&self, node: u32) -> &[i64] {
        row(&self.free, self.resources, node)
    }

    fn rank(&self, node: u32, by: usize) -> Rank {
        // Without any resource all nodes are equal and the ordinal decides.
        (self.row(node).get(self.ordered_by[by]).copied().unwrap_or(0), node)
    }
}

/// The nodes of one zone in the order of one resource: ascending, in blocks, no block empty.
struct Order {
    blocks: Vec<Block>,
}

struct Block {
    ranks: Vec<Rank>,
    /// By resource: no node of the block has more free than this. Exact after `tighten`.
    most: Vec<i64>,
}

impl Order {
    fn new(mut ranks: Vec<Rank>, free: &[i64], resources: usize) -> Order {
        ranks.sort_unstable();
        let blocks =
            ranks.chunks(BLOCK_NODES).map(|ranks| Block::new(ranks.to_vec(), free, resources));
        Order { blocks: blocks.collect() }
    }

    /// The first node that holds `request`, and how many nodes were looked at.
    fn first_that_holds(
        &mut self,
        free: &[i64],
        resources: usize,
        request: &[i64],
        resource: usize,
    ) -> (Option<Rank>, u64) {
        let least = request.get(resource).copied().filter(|&amount| amount > 0).unwrap_or(i64::MIN);
        let start = self.block_of((least, 0));
        let mut looked_at = 0;
        for block in &mut self.blocks[start..] {
            if !fits(request, &block.most) {
                continue;
            }
            let found =
                block.ranks.iter().position(|&(_, node)| fits(request, row(free, resources, node)));
            if let Some(position) = found {
                return (Some(block.ranks[position]), looked_at + position as u64 + 1);
            }
            looked_at += block.ranks.len() as u64;
            block.tighten(free, resources);
        }
        (None, looked_at)
    }

    fn remove(&mut self, rank: Rank) {
        let index = self.block_of(rank);
        let block = &mut self.blocks[index];
        let position = block.ranks.binary_search(&rank).expect("a node stands where its rank says");
        block.ranks.remove(position);
        if block.ranks.is_empty() {
            self.blocks.remove(index);
        }
    }

    /// Puts a node in its place; `free` holds its amounts already.
    fn insert(&mut self, rank: Rank, free: &[i64], resources: usize) {
        if self.blocks.is_empty() {
            self.blocks.push(Block::new(vec![rank], free, resources));
            return;
        }
        let index = self.block_of(rank).min(self.blocks.len() - 1);
        let block = &mut self.blocks[index];
        let position = block.ranks.partition_point(|other| *other < rank);
        block.ranks.insert(position, rank);
        block.widen(row(free, resources, rank.1));
        if block.ranks.len() > 2 * BLOCK_NODES {
            let upper = block.ranks.split_off(BLOCK_NODES);
            block.tighten(free, resources);
            self.blocks.insert(index + 1, Block::new(upper, free, resources));
        }
    }

    /// The first block whose last node does not stand before `rank`.
    fn block_of(&self, rank: Rank) -> usize {
        self.blocks.partition_point(|block| block.ranks.last().is_some_and(|last| *last < rank))
    }
}

impl Block {
    fn new(ranks: Vec<Rank>, free: &[i64], resources: usize) -> Block {
        let mut this = Block { ranks, most: vec![i64::MIN; resources] };
        this.tighten(free, resources);
        this
    }

    fn widen(&mut self, free: &[i64]) {
        for (most, free) in self.most.iter_mut().zip(free) {
            *most = (*most).max(*free);
        }
    }

    fn tighten(&mut self, free: &[i64], resources: usize) {
        self.most.fill(i64::MIN);
        for &(_, node) in &self.ranks {
            for (most, free) in self.most.iter_mut().zip(row(free, resources, node)) {
                *most = (*most).max(*free);
            }
        }
    }
}

fn row(free: &[i64], resources: usize, node: u32) -> &[i64] {
    let start = node as usize * resources;
    &free[start..start + resources]
}

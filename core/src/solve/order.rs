//! The nodes of one zone in the order of what they have free of one resource.
//!
//! Nodes stand in blocks. A block knows an upper bound of what its nodes have free of every
//! resource, so that a search passes over nodes which have enough of one resource but are short of
//! another without looking at each of them. A node that can take none of the shapes that look here
//! is not in the order: what is free only falls, so it never will.

/// Nodes per block after a block was split or built; a block holds at most twice as many.
const BLOCK_NODES: usize = 16;

/// A node's place in an order: how much it has free, then its ordinal. In one number, so that a
/// comparison is no branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(i128);

/// Ascending by rank, no block empty.
pub(super) struct Order {
    by: usize,
    resources: usize,
    /// By resource: the least that any of the shapes that look here needs.
    least: Option<Vec<i64>>,
    blocks: Vec<Vec<Rank>>,
    /// `[block]`: its last rank.
    last: Vec<Rank>,
    /// `[block][resource]`: no node of the block has more free than this.
    most: Vec<i64>,
}

impl Rank {
    /// Stands behind every node.
    pub(super) const AFTER_ALL: Rank = Rank(i128::MAX);

    /// The place of a node that has `free`. Without any resource all nodes are equal and the
    /// ordinal decides.
    pub(super) fn of(node: u32, free: &[i64], by: usize) -> Rank {
        Rank::at(free.get(by).copied().unwrap_or(0), node)
    }

    /// The first place behind this one.
    fn next(self) -> Rank {
        Rank(self.0 + 1)
    }

    /// The node.
    pub(super) fn node(self) -> u32 {
        self.0 as u32
    }

    /// The place of a node that has so much.
    pub(super) fn at(amount: i64, node: u32) -> Rank {
        Rank((i128::from(amount) << 32) | i128::from(node))
    }
}

impl Order {
    /// An order by one resource, without shapes and nodes.
    pub(super) fn new(by: usize, resources: usize) -> Order {
        let (blocks, last, most) = (Vec::new(), Vec::new(), Vec::new());
        Order { by, resources, least: None, blocks, last, most }
    }

    /// The resource.
    pub(super) fn by(&self) -> usize {
        self.by
    }

    /// Has a shape look here that needs so much; to be called before nodes are put in.
    pub(super) fn admit(&mut self, needed: &[i64]) {
        match &mut self.least {
            None => self.least = Some(needed.to_vec()),
            Some(least) => {
                least.iter_mut().zip(needed).for_each(|(least, need)| *least = (*need).min(*least));
            }
        }
    }

    /// Puts those of `nodes` in that can take one of the shapes.
    pub(super) fn fill(&mut self, nodes: &[u32], free: &[i64]) {
        let ranks = nodes.iter().filter_map(|&node| {
            let free = row(free, self.resources, node);
            self.is_of_use(free).then(|| Rank::of(node, free, self.by))
        });
        let mut ranks: Vec<Rank> = ranks.collect();
        ranks.sort_unstable();
        for (index, ranks) in ranks.chunks(BLOCK_NODES).enumerate() {
            let mut block = Vec::with_capacity(2 * BLOCK_NODES + 1);
            block.extend_from_slice(ranks);
            self.insert_block(index, block, free);
        }
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Raises `most` to what some node has free of each resource, at most.
    pub(super) fn raise_to_most(&self, most: &mut [i64]) {
        for index in 0..self.blocks.len() {
            most.iter_mut()
                .zip(self.most_of(index))
                .for_each(|(most, of)| *most = (*of).max(*most));
        }
    }

    /// The first node behind `after` and before `end` that has what is `needed`, and how many
    /// nodes were looked at.
    pub(super) fn first_that_holds(
        &mut self,
        free: &[i64],
        needed: &[i64],
        (after, end): (Option<Rank>, Rank),
    ) -> (Option<Rank>, u64) {
        let mut looked_at = 0;
        let enough = Rank::at(needed.get(self.by).copied().unwrap_or(i64::MIN), 0);
        let start = after.map_or(enough, |after| Rank::max(enough, after.next()));
        let mut index = self.block_of(start);
        while index < self.blocks.len() {
            if holds(needed, self.most_of(index)) {
                for &rank in &self.blocks[index] {
                    if rank >= end {
                        return (None, looked_at);
                    }
                    if after.is_some_and(|after| rank <= after) {
                        continue;
                    }
                    looked_at += 1;
                    if holds(needed, row(free, self.resources, rank.node())) {
                        return (Some(rank), looked_at);
                    }
                }
                self.tighten(index, free);
            }
            if self.last[index] >= end {
                break;
            }
            index += 1;
        }
        (None, looked_at)
    }

    /// The last node behind `after` and not behind `end` that has what is `needed`, and how many
    /// nodes were looked at.
    pub(super) fn last_that_holds(
        &mut self,
        free: &[i64],
        needed: &[i64],
        (after, end): (Option<Rank>, Rank),
    ) -> (Option<Rank>, u64) {
        let mut looked_at = 0;
        let enough = Rank::at(needed.get(self.by).copied().unwrap_or(i64::MIN), 0);
        let start = after.map_or(enough, |after| Rank::max(enough, after.next()));
        let mut behind = (self.block_of(end) + 1).min(self.blocks.len());
        while behind > 0 {
            let index = behind - 1;
            if self.last[index] < start {
                break;
            }
            if holds(needed, self.most_of(index)) {
                for &rank in self.blocks[index].iter().rev() {
                    if rank > end {
                        continue;
                    }
                    if rank < start {
                        return (None, looked_at);
                    }
                    looked_at += 1;
                    if holds(needed, row(free, self.resources, rank.node())) {
                        return (Some(rank), looked_at);
                    }
                }
                self.tighten(index, free);
            }
            behind = index;
        }
        (None, looked_at)
    }

    /// Moves a node that had `before` free to its new place, or out; `free` holds what it has.
    pub(super) fn fallen(&mut self, node: u32, before: &[i64], free: &[i64]) {
        if !self.is_of_use(before) {
            return;
        }
        let now = row(free, self.resources, node);
        let stays = self.is_of_use(now);
        let (from, to) = (Rank::of(node, before, self.by), Rank::of(node, now, self.by));
        if stays && from == to {
            return;
        }
        self.remove(from);
        if stays {
            self.insert(to, free);
        }
    }

    fn is_of_use(&self, free: &[i64]) -> bool {
        self.least.as_deref().is_some_and(|least| holds(least, free))
    }

    fn remove(&mut self, rank: Rank) {
        let index = self.block_of(rank);
        let block = &mut self.blocks[index];
        let position = block.binary_search(&rank).expect("a node stands where its rank says");
        block.remove(position);
        match block.last() {
            Some(&last) => self.last[index] = last,
            None => {
                self.blocks.remove(index);
                self.last.remove(index);
                self.most.drain(index * self.resources..(index + 1) * self.resources);
            }
        }
    }

    /// Puts a node in its place; `free` holds its amounts already.
    fn insert(&mut self, rank: Rank, free: &[i64]) {
        if self.blocks.is_empty() {
            return self.insert_block(0, vec![rank], free);
        }
        let index = self.block_of(rank).min(self.blocks.len() - 1);
        let block = &mut self.blocks[index];
        let position = block.partition_point(|other| *other < rank);
        block.insert(position, rank);
        self.last[index] = self.last[index].max(rank);
        let start = index * self.resources;
        let most = &mut self.most[start..start + self.resources];
        for (most, free) in most.iter_mut().zip(row(free, self.resources, rank.node())) {
            *most = (*most).max(*free);
        }
        if self.blocks[index].len() > 2 * BLOCK_NODES {
            let upper = self.blocks[index].split_off(BLOCK_NODES);
            self.last[index] = self.blocks[index][BLOCK_NODES - 1];
            self.tighten(index, free);
            self.insert_block(index + 1, upper, free);
        }
    }

    fn insert_block(&mut self, index: usize, block: Vec<Rank>, free: &[i64]) {
        self.last.insert(index, *block.last().expect("no block is empty"));
        self.blocks.insert(index, block);
        let start = index * self.resources;
        self.most.splice(start..start, std::iter::repeat_n(i64::MIN, self.resources));
        self.tighten(index, free);
    }

    /// Makes a block's bound exact.
    fn tighten(&mut self, index: usize, free: &[i64]) {
        let start = index * self.resources;
        let most = &mut self.most[start..start + self.resources];
        most.fill(i64::MIN);
        for rank in &self.blocks[index] {
            for (most, free) in most.iter_mut().zip(row(free, self.resources, rank.node())) {
                *most = (*most).max(*free);
            }
        }
    }

    /// The first block whose last node does not stand before `rank`.
    fn block_of(&self, rank: Rank) -> usize {
        self.last.partition_point(|last| *last < rank)
    }

    fn most_of(&self, index: usize) -> &[i64] {
        &self.most[index * self.resources..(index + 1) * self.resources]
    }
}

/// What a node has free.
pub(super) fn row(free: &[i64], resources: usize, node: u32) -> &[i64] {
    let start = node as usize * resources;
    &free[start..start + resources]
}

/// Whether nothing that is `needed` is more than what is `free`.
pub(super) fn holds(needed: &[i64], free: &[i64]) -> bool {
    needed.iter().zip(free).all(|(needed, free)| needed <= free)
}

/// How many of `request` there are in `row`.
pub(super) fn times(row: &[i64], request: &[i64]) -> u64 {
    let asked = row.iter().zip(request).filter(|(_, request)| **request > 0);
    let times = asked.map(|(row, request)| u64::try_from(row / request).unwrap_or(0));
    times.min().unwrap_or(u64::MAX)
}

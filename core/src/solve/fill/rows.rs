//! What several nodes have, while it is tried out what goes there: one allocation for all.

/// What nodes have, by resource.
pub(super) struct Rows {
    pub(super) nodes: Vec<u32>,
    resources: usize,
    /// `[place of the node][resource]`
    amounts: Vec<i64>,
}

impl Rows {
    pub(super) fn new(resources: usize) -> Rows {
        Rows { nodes: Vec::new(), resources, amounts: Vec::new() }
    }

    pub(super) fn push(&mut self, node: u32, amounts: impl Iterator<Item = i64>) {
        self.nodes.push(node);
        self.amounts.extend(amounts);
    }

    pub(super) fn of(&self, place: usize) -> &[i64] {
        &self.amounts[place * self.resources..][..self.resources]
    }

    pub(super) fn of_mut(&mut self, place: usize) -> &mut [i64] {
        &mut self.amounts[place * self.resources..][..self.resources]
    }
}

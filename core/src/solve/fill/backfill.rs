//! Room that is kept for overdue jobs, and what may use it until they start: jobs that are sure to
//! have ended by the time at which the room is sure to be there.

use std::collections::BTreeMap;

use super::{Place, Round, Turn, take};
use crate::solve::order::holds;

/// What is free on nodes where room is kept.
#[derive(Default)]
pub(super) struct KeptRoom {
    by_node: BTreeMap<u32, Kept>,
}

struct Kept {
    /// What is free there and nobody took yet; what is kept is not taken off.
    free: Vec<i64>,
    /// Within so many seconds the room is sure to be there. None where that is not known: then
    /// nothing else uses it.
    within: Option<u64>,
}

impl KeptRoom {
    /// Room is kept on a node that has `free` besides.
    pub(super) fn keep(&mut self, node: u32, free: &[i64], within: Option<u64>) {
        let kept = self.by_node.entry(node).or_insert_with(|| Kept { free: free.to_vec(), within });
        // Of several for whom room is kept there, nobody is to wait longer.
        kept.within = kept.within.zip(within).map(|(a, b)| a.min(b));
    }

    /// Jobs took room on a node.
    pub(super) fn taken(&mut self, node: u32, request: &[i64], count: u64) {
        if let Some(kept) = self.by_node.get_mut(&node) {
            take(&mut kept.free, request, count);
        }
    }
}

impl Round<'_> {
    /// Places one job that is sure to end in time on room that is kept; says whether it did.
    pub(super) fn backfill(&mut self, turn: Turn, shape: u32) -> bool {
        let Some(lasts) = self.problem.shapes[shape as usize].lasts else { return false };
        let (problem, request) = (self.problem, self.problem.request_of(shape));
        // What is not requested is not looked at.
        let needed: Vec<i64> =
            request.iter().map(|amount| if *amount == 0 { i64::MIN } else { *amount }).collect();
        let dominant = self.shapes[shape as usize].dominant();
        let takes_it = |(node, kept): &(&u32, &Kept)| {
            let input = &problem.nodes[**node as usize];
            kept.within.is_some_and(|within| lasts <= within)
                && !input.is_closed
                && problem.admits[shape as usize][input.group as usize]
                && holds(&needed, &kept.free)
        };
        let left = |(node, kept): &(&u32, &Kept)| (kept.free.get(dominant).copied(), **node);
        let found = self.kept.by_node.iter().filter(takes_it).min_by_key(left);
        let Some(node) = found.map(|(node, _)| *node) else { return false };
        self.nodes.set_aside(node, request, 1);
        self.placed(turn.queue, &Place { shape, node }, 1);
        true
    }
}

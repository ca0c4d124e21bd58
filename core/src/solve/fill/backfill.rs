//! Room that is kept for overdue jobs, and what may use it until they start: jobs, and gangs as a
//! whole, that are sure to have ended by the time at which the room is sure to be there.

use std::collections::BTreeMap;

use super::gangs::Member;
use super::{Place, Round, Turn, take};
use crate::solve::order::holds;

/// Gangs, at most, for which room that is kept is looked through in vain: for each, whole domains
/// are looked at.
const GANGS_IN_VAIN_MAX: usize = 64;

/// What is free on nodes where room is kept.
#[derive(Default)]
pub(super) struct KeptRoom {
    by_node: BTreeMap<u32, Kept>,
    gangs_in_vain: usize,
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

    /// Whether room is kept on some node.
    pub(super) fn is_any(&self) -> bool {
        !self.by_node.is_empty()
    }

    /// Whether room is kept on a node.
    pub(super) fn is_on(&self, node: u32) -> bool {
        self.by_node.contains_key(&node)
    }

    /// What is free on a node, where room is kept, for what lasts so long.
    pub(super) fn free_for(&self, node: u32, lasts: u64) -> Option<&[i64]> {
        let kept = self.by_node.get(&node)?;
        kept.is_free_for(lasts).then_some(kept.free.as_slice())
    }
}

impl Kept {
    fn is_free_for(&self, lasts: u64) -> bool {
        self.within.is_some_and(|within| lasts <= within)
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
            kept.is_free_for(lasts)
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

    /// Places a gang, all of which is sure to end in time, with the help of room that is kept; says
    /// whether it did.
    pub(super) fn backfill_gang(&mut self, turn: Turn, gang: u32, members: &[Member]) -> bool {
        let is_any = self.kept.by_node.values().any(|kept| kept.within.is_some());
        if !is_any || self.kept.gangs_in_vain == GANGS_IN_VAIN_MAX {
            return false;
        }
        let lasts = members.iter().map(|member| self.problem.shapes[member.shape as usize].lasts);
        let Some(lasts) = lasts.collect::<Option<Vec<u64>>>() else { return false };
        // It is gone when the last of its members is.
        let lasts = lasts.into_iter().max().unwrap_or_default();
        let uniform = self.problem.gangs[gang as usize].uniform;
        let Some(places) = self.best_domain(uniform, members, Some(lasts)) else {
            self.kept.gangs_in_vain += 1;
            return false;
        };
        self.take_places(turn, &places, None);
        true
    }
}

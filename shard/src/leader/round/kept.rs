//! Room that is kept for overdue jobs: where, and by when it is sure to be there.
//!
//! It is sure to be there when what runs there has lasted as long as it may. What is sure to have
//! ended by then may use the room in the meantime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::Name;
use muster_core::shape::{Shape, ShapeKey};
use muster_core::solve::{ClaimedFrom, EndIn, KeptIn, Plan};
use muster_core::time::Timestamp;

use super::super::preempt::Row;
use super::Round;

/// How long it may take from a lease to the beginning of the run, which is what a deadline counts
/// from, and from its end until that is known.
const START_SECONDS: u64 = 60;

/// Room that is kept on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leader) struct KeptRoom {
    pub(in crate::leader) cluster: Name,
    pub(super) node: Name,
    pub(super) count: u64,
    /// When it is sure to be there, if that is known.
    pub(super) by: Option<Timestamp>,
}

/// Where room is kept for a queue's overdue jobs of a shape.
pub(in crate::leader) type Kept = BTreeMap<(Name, ShapeKey), Vec<KeptRoom>>;

/// How many seconds a job lasts at most, from its lease on.
pub(super) fn lasts(shape: &Shape) -> Option<u64> {
    Some(u64::from(shape.lasts_max?) + START_SECONDS)
}

impl Round {
    /// Says what is sure to end on the nodes.
    pub(in crate::leader) fn ending(&mut self, rows: &[Row]) {
        let by_name = self.by_name();
        for row in rows {
            let place = (Arc::clone(&row.cluster), Arc::clone(&row.node));
            // What should have ended is not sure to.
            let left = lasts(&row.shape).and_then(|lasts| lasts.checked_sub(row.age));
            let Some((node, within)) = by_name.get(&place).copied().zip(left) else { continue };
            let count = i64::try_from(row.count).unwrap_or(i64::MAX);
            let one = self
                .resources
                .iter()
                .map(|name| muster_core::resources::dense(name, row.shape.request.get(name)));
            let amounts = one.map(|amount| amount.saturating_mul(count)).collect();
            self.problem.nodes[node as usize].ends.push(EndIn { within, amounts });
        }
    }

    /// Says where room was kept for overdue jobs before, and is sure to come.
    pub(super) fn tell_kept(&mut self, kept: &Kept, now: Timestamp) {
        if kept.is_empty() {
            return;
        }
        let by_name = self.by_name();
        let mut told = Vec::new();
        for (queue, (name, input)) in (0..).zip(self.queues.iter().zip(&self.problem.queues)) {
            for (run, of) in (0..).zip(&input.runs).filter(|(_, run)| run.is_overdue) {
                let key = (Arc::clone(name), self.shapes[of.shape as usize].key());
                for room in kept.get(&key).into_iter().flatten() {
                    // Where nobody knows when the room is there, the nearest node is as good.
                    let Some(by) = room.by else { continue };
                    let place = (Arc::clone(&room.cluster), Arc::clone(&room.node));
                    let Some(node) = by_name.get(&place).copied() else { continue };
                    let within = Some(by.since(now).as_secs());
                    told.push(KeptIn { queue, run, node, count: room.count, within });
                }
            }
        }
        self.problem.kept = told;
    }

    /// Where room is to be kept for overdue jobs.
    pub(in crate::leader) fn kept(&self, plan: &Plan, now: Timestamp) -> Kept {
        let mut kept = Kept::new();
        for claim in plan.claims.iter().filter(|claim| claim.from == ClaimedFrom::Keeping) {
            let queue = claim.queue as usize;
            let shape = self.problem.queues[queue].runs[claim.run as usize].shape;
            let (cluster, node) = &self.nodes[claim.node as usize];
            let key = (Arc::clone(&self.queues[queue]), self.shapes[shape as usize].key());
            kept.entry(key).or_default().push(KeptRoom {
                cluster: Arc::clone(cluster),
                node: Arc::clone(node),
                count: claim.count,
                by: claim.within.map(|within| now.plus(Duration::from_secs(within))),
            });
        }
        kept
    }

    fn by_name(&self) -> BTreeMap<(Name, Name), u32> {
        self.nodes.iter().cloned().zip(0..).collect()
    }
}

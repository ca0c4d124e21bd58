//! For which jobs a round makes room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::Name;
use muster_core::solve::{ClaimedFrom, Plan};
use muster_core::time::Timestamp;

use super::Round;

/// Jobs of one queue for which room is made on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leader) struct Claimed {
    /// How many jobs of the queue go before the first of them, as far as they are known.
    pub(in crate::leader) first: u64,
    pub(in crate::leader) count: u64,
    pub(in crate::leader) cluster: Name,
    pub(in crate::leader) node: Name,
    /// Whether jobs were told to stop for them; otherwise what ends there is waited for.
    pub(in crate::leader) is_preempting: bool,
    /// When the room is sure to be there, if that is known.
    pub(in crate::leader) by: Option<Timestamp>,
}

/// Claims by queue.
pub(in crate::leader) type Claims = BTreeMap<Name, Vec<Claimed>>;

impl Round {
    /// For which jobs room is being made.
    pub(in crate::leader) fn claims(&self, plan: &Plan, now: Timestamp) -> Claims {
        let mut claims = Claims::new();
        if plan.claims.is_empty() {
            return claims;
        }
        let mut placed: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for pick in &plan.picks {
            *placed.entry((pick.queue, pick.run)).or_default() += pick.count;
        }
        let mut claimed: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for claim in &plan.claims {
            let (queue, run) = (claim.queue, claim.run);
            let runs = &self.problem.queues[queue as usize].runs;
            // What was placed does not wait any more.
            let left = (0..).zip(runs).take(run as usize).map(|(number, run)| {
                run.count.saturating_sub(placed.get(&(queue, number)).copied().unwrap_or_default())
            });
            let before = claimed.entry((queue, run)).or_default();
            let first = left.sum::<u64>() + *before;
            *before += claim.count;
            let (cluster, node) = &self.nodes[claim.node as usize];
            let is_preempting = match claim.from {
                ClaimedFrom::Stopping | ClaimedFrom::Preempting => true,
                ClaimedFrom::Keeping => false,
            };
            claims.entry(Arc::clone(&self.queues[queue as usize])).or_default().push(Claimed {
                first,
                count: claim.count,
                cluster: Arc::clone(cluster),
                node: Arc::clone(node),
                is_preempting,
                by: claim.within.map(|within| now.plus(Duration::from_secs(within))),
            });
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;
    use muster_core::solve::{ClassIn, NodeIn, Problem, QueueIn, RunIn, ShapeIn};

    use super::*;
    use crate::leader::keyed::Keyed;

    /// Two nodes, of which so much is free and will be, and runs of jobs of one cpu.
    fn claims(nodes: [(i64, i64); 2], runs: &[u64]) -> Vec<(u64, u64, String)> {
        let node = |(free, freeing): (i64, i64)| NodeIn {
            free: vec![free],
            freeing: vec![freeing],
            capacity: vec![10],
            ..NodeIn::default()
        };
        let run = |count: &u64| RunIn { shape: 0, count: *count, is_overdue: false };
        let problem = Problem {
            total: vec![20],
            classes: vec![ClassIn { priority: 0 }],
            shapes: vec![ShapeIn { request: vec![1], ..ShapeIn::default() }],
            groups: 1,
            admits: vec![vec![true]],
            queues: vec![QueueIn {
                weight: 1_000,
                allocated: vec![0],
                runs: runs.iter().map(run).collect(),
                ..QueueIn::default()
            }],
            nodes: nodes.map(node).into(),
            picks_max: 100,
            ..Problem::default()
        };
        let shape = Arc::new(Shape::of_request(Resources::new()));
        let round = Round {
            problem,
            resources: vec!["cpu".into()],
            queues: vec!["a".into()],
            shards: vec![0],
            nodes: ["m", "n"].map(|node| ("c".into(), node.into())).into(),
            shapes: vec![Keyed::new(shape)],
            priorities: vec![(0..).take(runs.len()).collect()],
        };
        let mut claims = round.claims(&round.solve(), Timestamp(0));
        let claims = claims.remove("a").unwrap_or_default();
        assert!(claims.iter().all(|claim| claim.is_preempting && &*claim.cluster == "c"));
        claims.iter().map(|c| (c.first, c.count, c.node.to_string())).collect()
    }

    #[test]
    fn it_is_told_which_jobs_of_a_queue_get_the_room_that_comes() {
        let of = |first: u64, count: u64, node: &str| (first, count, node.to_owned());
        assert_eq!(claims([(2, 0), (0, 0)], &[5]), []);
        assert_eq!(claims([(0, 2), (0, 0)], &[5]), [of(0, 1, "m"), of(1, 1, "m")]);
        // What is placed by the same round waits no more.
        assert_eq!(claims([(1, 0), (0, 1)], &[5]), [of(0, 1, "n")]);
        assert_eq!(
            claims([(0, 1), (0, 2)], &[1, 1, 9]),
            [of(0, 1, "m"), of(1, 1, "n"), of(2, 1, "n")]
        );
    }
}

//! What a round came to, for the record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::Name;
use muster_core::solve::{self, Plan, Reason};
use muster_core::time::Timestamp;
use muster_runtime::rounds::{Kind, Reasons, Row};

use super::Round;

/// What deciding a round took.
#[derive(Debug, Clone, Copy)]
pub(in crate::leader) struct Cost {
    /// See [`muster_core::solve::Problem::digest`].
    pub(in crate::leader) digest: u64,
    pub(in crate::leader) took: Duration,
}

/// What a record says beside what was decided.
#[derive(Debug, Clone, Copy)]
pub(in crate::leader) struct About<'a> {
    pub(in crate::leader) pool: &'a str,
    pub(in crate::leader) at: Timestamp,
    pub(in crate::leader) kind: Kind,
    /// Fair shares by queue, as they were published last.
    pub(in crate::leader) fair: &'a BTreeMap<Name, f64>,
}

/// What a round came to for one queue.
#[derive(Default)]
struct Figures {
    placed: u64,
    preempted: u64,
    waiting: u64,
    reasons: Reasons,
}

impl Round {
    /// A digest of what it is decided by.
    pub(in crate::leader) fn digest(&self) -> u64 {
        self.problem.digest()
    }

    /// What it came to: as a whole, and for each queue of which something was placed or has to go;
    /// nothing where there is no such queue.
    pub(in crate::leader) fn record(&self, plan: &Plan, cost: Cost, about: About<'_>) -> Vec<Row> {
        let queues = self.figures(plan, about.kind);
        let (mut whole, mut of_queues) = (Figures::default(), Vec::new());
        for (queue, figures) in (0..).zip(&queues) {
            whole.placed += figures.placed;
            whole.preempted += figures.preempted;
            whole.waiting += figures.waiting;
            whole.reasons.add(&figures.reasons);
            if figures.placed + figures.preempted > 0 {
                of_queues.push((queue, figures));
            }
        }
        if of_queues.is_empty() {
            return Vec::new();
        }
        let row = |figures: &Figures| Row {
            pool: about.pool.into(),
            at: about.at,
            kind: about.kind,
            digest: cost.digest,
            took_us: u64::try_from(cost.took.as_micros()).unwrap_or(u64::MAX),
            queue: None,
            placed: figures.placed,
            preempted: figures.preempted,
            waiting: figures.waiting,
            share: None,
            fair_share: None,
            reasons: figures.reasons,
        };
        let of_queue = |(queue, figures): (usize, &Figures)| {
            let (name, input) = (&self.queues[queue], &self.problem.queues[queue]);
            Row {
                queue: Some(Arc::clone(name)),
                share: Some(solve::dominant_share(&self.problem.total, &input.allocated)),
                fair_share: about.fair.get(name).copied(),
                ..row(figures)
            }
        };
        std::iter::once(row(&whole)).chain(of_queues.into_iter().map(of_queue)).collect()
    }

    /// By queue.
    fn figures(&self, plan: &Plan, kind: Kind) -> Vec<Figures> {
        let mut queues: Vec<Figures> = self.queues.iter().map(|_| Figures::default()).collect();
        // What a round places that makes room, the next one leases, if that is still so.
        let picks = plan.picks.iter().filter(|_| kind == Kind::Lease);
        for pick in picks {
            queues[pick.queue as usize].placed += pick.count;
        }
        for preemption in &plan.preemptions {
            let running = self.problem.running[preemption.running as usize];
            queues[running.queue as usize].preempted += preemption.count;
        }
        for rest in &plan.unplaced {
            let figures = &mut queues[rest.queue as usize];
            figures.waiting += rest.count;
            let reasons = &mut figures.reasons;
            *match rest.reason {
                Reason::NeverFits => &mut reasons.never_fits,
                Reason::NoRoomNow => &mut reasons.no_room,
                Reason::Budget => &mut reasons.budget,
                Reason::Rate => &mut reasons.rate,
                Reason::Cap(_) => &mut reasons.limit,
                Reason::Claimed => &mut reasons.claimed,
                Reason::GangIncomplete(_) => &mut reasons.gang,
            } += rest.count;
        }
        queues
    }
}

#[cfg(test)]
mod tests {
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;
    use muster_core::solve::{ClassIn, NodeIn, Problem, QueueIn, RunIn, ShapeIn};

    use super::*;
    use crate::leader::keyed::Keyed;

    /// One node of so many cpus, and queues with so many jobs of one cpu.
    fn round(cpus: i64, jobs: &[(&str, u64)]) -> Round {
        let queue = |(_, count): &(&str, u64)| QueueIn {
            weight: 1_000,
            allocated: vec![2],
            runs: vec![RunIn { shape: 0, count: *count, is_overdue: false }],
            ..QueueIn::default()
        };
        let problem = Problem {
            total: vec![10],
            classes: vec![ClassIn { priority: 0 }],
            shapes: vec![ShapeIn { request: vec![1], ..ShapeIn::default() }],
            groups: 1,
            admits: vec![vec![true]],
            queues: jobs.iter().map(queue).collect(),
            nodes: vec![NodeIn { free: vec![cpus], ..NodeIn::default() }],
            picks_max: 100,
            ..Problem::default()
        };
        let shape = Arc::new(Shape::of_request(Resources::new()));
        Round {
            problem,
            resources: vec!["cpu".into()],
            queues: jobs.iter().map(|(name, _)| Name::from(*name)).collect(),
            shards: vec![0; jobs.len()],
            nodes: vec![("c".into(), "n".into())],
            shapes: vec![Keyed::new(shape)],
            priorities: vec![vec![0]; jobs.len()],
        }
    }

    fn recorded(round: &Round, kind: Kind) -> Vec<Row> {
        let cost = Cost { digest: round.digest(), took: Duration::from_micros(1_234) };
        let fair = BTreeMap::from([(Name::from("a"), 0.5)]);
        let about = About { pool: "p", at: Timestamp(77), kind, fair: &fair };
        round.record(&round.solve(), cost, about)
    }

    #[test]
    fn a_record_has_the_round_as_a_whole_and_the_queues_that_got_something() {
        let one = round(3, &[("a", 2), ("b", 3), ("idle", 0)]);
        let rows = recorded(&one, Kind::Lease);
        let of: Vec<_> = rows
            .iter()
            .map(|row| (row.queue.as_deref(), row.placed, row.waiting, row.reasons.no_room))
            .collect();
        assert_eq!(of, [(None, 3, 2, 2), (Some("a"), 2, 0, 0), (Some("b"), 1, 2, 2)]);
        assert_eq!((rows[1].share, rows[1].fair_share), (Some(0.2), Some(0.5)));
        assert_eq!((rows[2].share, rows[2].fair_share), (Some(0.2), None));
        let first = &rows[0];
        assert_eq!((&*first.pool, first.at, first.took_us), ("p", Timestamp(77), 1_234));
        let digests = [3, 4].map(|cpus| recorded(&round(cpus, &[("a", 9)]), Kind::Lease)[0].digest);
        assert_ne!(digests[0], digests[1]);
    }

    #[test]
    fn a_round_that_did_nothing_leaves_no_record() {
        assert_eq!(recorded(&round(0, &[("a", 2)]), Kind::Lease), []);
        // What it places to see whether room has to be made is not placed by it.
        assert_eq!(recorded(&round(3, &[("a", 2)]), Kind::Preempt), []);
    }
}

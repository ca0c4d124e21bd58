//! Claims: room for a job that finds none.

use super::{Round, Turn, add, take};
use crate::solve::later::{could_hold, soonest};
use crate::solve::ratio::Part;
use crate::solve::victims::{Claimant, SLACK};
use crate::solve::{Claim, ClaimedFrom, Preemption, Problem, fair_shares};

/// Overdue jobs, at most, for which room is kept at a time, one of each queue.
const FIRST_MAX: usize = 64;
/// Jobs beyond these, at most.
const MORE_MAX: usize = 1_024;

/// For which jobs more room may be kept.
pub(super) struct Keeps {
    /// Queues with a first one.
    pub(super) first_left: usize,
    /// Jobs beyond the first of their queue.
    more_left: usize,
    /// What is kept for these.
    more: Vec<i64>,
    /// `[queue]`: its fair share; made when it is asked for.
    fair: Option<Vec<Part>>,
}

impl Keeps {
    pub(super) fn new(problem: &Problem) -> Keeps {
        let more = vec![0; problem.total.len()];
        Keeps { first_left: FIRST_MAX, more_left: MORE_MAX, more, fair: None }
    }

    /// Whether a queue that would hold so much is within its fair share.
    fn is_within_share(&mut self, problem: &Problem, queue: u32, held: Vec<i64>) -> bool {
        let fair = self.fair.get_or_insert_with(|| {
            let demands = problem.queues.iter().map(|queue| (queue.weight, queue.demand.clone()));
            let shares = fair_shares(&problem.total, &demands.collect::<Vec<_>>());
            shares.into_iter().map(|share| Part::about(share.ideal, SLACK)).collect()
        });
        let held = Part::dominant(&problem.total, held.into_iter());
        !held.is_more_than(fair[queue as usize])
    }
}

impl Round<'_> {
    /// Claims room for one job of a queue, on a node that will have it or is made to.
    pub(super) fn claim(&mut self, turn: Turn, shape: u32) -> bool {
        let dominant = self.shapes[shape as usize].dominant();
        let stopping = self.later.best_fit(self.problem, &self.nodes, shape, dominant);
        let found = stopping
            .map(|node| (node, ClaimedFrom::Stopping, None))
            .or_else(|| self.make_room(turn, shape).map(|(node, from)| (node, from, None)))
            .or_else(|| {
                let (node, within) = self.keep_room(turn, shape)?;
                Some((node, ClaimedFrom::Keeping, within))
            });
        let Some((node, from, within)) = found else { return false };
        let request = self.problem.request_of(shape);
        let free = self.nodes.free_of(node).to_vec();
        self.nodes.set_aside(node, request, 1);
        self.took(turn.queue, shape, node, 1);
        if from == ClaimedFrom::Keeping {
            self.kept.keep(node, &free, within);
        }
        let at = &mut self.queues[turn.queue as usize];
        at.claimed += 1;
        let (queue, run) = (turn.queue, at.run as u32);
        self.plan.claims.push(Claim { queue, run, node, count: 1, from, within });
        true
    }

    /// The node on which room is kept for a queue's overdue job, and within what time it is sure to
    /// be there, if that is known.
    fn keep_room(&mut self, turn: Turn, shape: u32) -> Option<(u32, Option<u64>)> {
        let at = &self.queues[turn.queue as usize];
        let is_overdue = self.problem.queues[turn.queue as usize].runs[at.run].is_overdue;
        let is_first = at.keeps == 0;
        let may = match (is_overdue, is_first) {
            (false, _) => false,
            (true, true) => self.keeps.first_left > 0,
            (true, false) => self.keeps_more(turn.queue, shape),
        };
        if !may {
            return None;
        }
        let sure = if is_first { self.sure_room(turn.queue, shape) } else { None };
        let found = sure.or_else(|| {
            let dominant = self.shapes[shape as usize].dominant();
            let node = self.later.nearest(self.problem, &self.nodes, shape, dominant)?;
            Some((node, None))
        })?;
        self.queues[turn.queue as usize].keeps += 1;
        if is_first {
            self.keeps.first_left -= 1;
        } else {
            self.keeps.more_left -= 1;
            add(&mut self.keeps.more, self.problem.request_of(shape), 1);
        }
        Some(found)
    }

    /// Where room for the job was kept before, or is sure to be there first.
    fn sure_room(&self, queue: u32, shape: u32) -> Option<(u32, Option<u64>)> {
        let of_run = (queue, self.queues[queue as usize].run as u32);
        let mut told = self.problem.kept.iter().filter(|kept| (kept.queue, kept.run) == of_run);
        let told = told.find(|kept| could_hold(self.problem, shape, kept.node));
        let told = told.map(|kept| (kept.node, kept.within));
        let dominant = self.shapes[shape as usize].dominant();
        told.or_else(|| soonest(self.problem, &self.nodes, shape, dominant))
    }

    /// Whether room is kept for another job of a queue for which some is kept already: it has less
    /// than its fair share, and others have taken the room before it came to be enough for one of
    /// its jobs.
    fn keeps_more(&mut self, queue: u32, shape: u32) -> bool {
        let (problem, request) = (self.problem, self.problem.request_of(shape));
        let (input, at) = (&problem.queues[queue as usize], &self.queues[queue as usize]);
        let knows_demand = input.demand.len() == problem.total.len();
        if at.keeps >= input.keeps_max || self.keeps.more_left == 0 || !knows_demand {
            return false;
        }
        let mut kept = self.keeps.more.clone();
        add(&mut kept, request, 1);
        let most = Part::thousandths(problem.kept_max);
        if Part::dominant(&problem.total, kept.into_iter()).is_more_than(most) {
            return false;
        }
        let mut held = at.held(input);
        add(&mut held, request, 1);
        self.keeps.is_within_share(problem, queue, held)
    }

    /// Preempts what makes room for one job.
    fn make_room(&mut self, turn: Turn, shape: u32) -> Option<(u32, ClaimedFrom)> {
        let claimant = Claimant { queue: turn.queue, shape, priority: turn.class.0 };
        let (problem, queues) = (self.problem, &self.queues);
        let held = |queue: u32| queues[queue as usize].held(&problem.queues[queue as usize]);
        let victims = self.victims.as_mut()?;
        let (node, chosen) =
            victims.make_room(claimant, &self.nodes, &self.later, &self.zones, &held)?;
        if chosen.is_empty() {
            return Some((node, ClaimedFrom::Stopping));
        }
        let claim = self.plan.claims.len() as u32;
        for (running, count, cause) in chosen {
            self.gave_up(running, count);
            self.plan.preemptions.push(Preemption { running, count, claim, cause });
        }
        Some((node, ClaimedFrom::Preempting))
    }

    /// Running jobs count as gone.
    pub(super) fn gave_up(&mut self, running: u32, count: u64) {
        let input = &self.problem.running[running as usize];
        let request = self.problem.request_of(input.shape);
        self.later.add(input.node, request, count);
        if self.later.is_news(input.node) {
            self.later.found(input.node);
        }
        take(&mut self.queues[input.queue as usize].counted, request, count);
    }
}

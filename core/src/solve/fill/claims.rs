//! Claims: room for a job that finds none.

use super::{Round, Turn, take};
use crate::solve::victims::Claimant;
use crate::solve::{Claim, ClaimedFrom, Preemption};

impl Round<'_> {
    /// Claims room for one job of a queue, on a node that will have it or is made to.
    pub(super) fn claim(&mut self, turn: Turn, shape: u32) -> bool {
        let dominant = self.shapes[shape as usize].dominant;
        let stopping = self.later.best_fit(self.problem, &self.nodes, shape, dominant);
        let found = stopping
            .map(|node| (node, ClaimedFrom::Stopping))
            .or_else(|| self.make_room(turn, shape))
            .or_else(|| Some((self.keep_room(turn, shape)?, ClaimedFrom::Keeping)));
        let Some((node, from)) = found else { return false };
        let request = self.problem.request_of(shape);
        self.nodes.set_aside(node, request, 1);
        self.took(turn.queue, shape, node, 1);
        let at = &mut self.queues[turn.queue as usize];
        at.claimed += 1;
        let (queue, run) = (turn.queue, at.run as u32);
        self.plan.claims.push(Claim { queue, run, node, count: 1, from });
        true
    }

    /// The node on which room is kept for a queue's overdue job: one at a time of each queue.
    fn keep_room(&mut self, turn: Turn, shape: u32) -> Option<u32> {
        let run = self.queues[turn.queue as usize].run;
        let is_overdue = self.problem.queues[turn.queue as usize].runs[run].is_overdue;
        if !is_overdue || self.queues[turn.queue as usize].keeps_room || self.keeps_left == 0 {
            return None;
        }
        let dominant = self.shapes[shape as usize].dominant;
        let node = self.later.nearest(self.problem, &self.nodes, shape, dominant)?;
        self.queues[turn.queue as usize].keeps_room = true;
        self.keeps_left -= 1;
        Some(node)
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

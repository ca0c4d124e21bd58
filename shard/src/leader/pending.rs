//! What a cluster is still to be told, in answers that fit a message. No IO, no clock.

use std::collections::{BTreeMap, VecDeque};

use muster_api::bus::{LeasedRun, Room};
use muster_core::resources::Resources;

/// Stop orders kept for one cluster. Beyond it the oldest go: the cluster finds what it has too
/// many when it compares notes.
const STOPS_MAX: usize = 100_000;
/// The part of a message that stop orders may take.
const STOPS_PART: usize = 4;

/// Leases and stop orders that are not known to have arrived, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    /// The number of the last answer.
    number: u64,
    leases: VecDeque<LeasedRun>,
    stops: VecDeque<(String, u32)>,
    /// How many of each were in that answer.
    told: (usize, usize),
}

/// An answer, or what it is made of.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) leases: Vec<LeasedRun>,
    pub(super) stops: Vec<(String, u32)>,
}

impl Pending {
    /// Nothing is to be told any more; numbers go on rising.
    pub(super) fn clear(&mut self) {
        *self = Self { number: self.number, ..Self::default() };
    }

    pub(super) fn lease(&mut self, runs: Vec<LeasedRun>) {
        self.leases.extend(runs);
    }

    pub(super) fn stop(&mut self, runs: Vec<(String, u32)>) {
        self.stops.extend(runs);
        let over = self.stops.len().saturating_sub(STOPS_MAX);
        self.stops.drain(..over);
        self.told.1 = self.told.1.saturating_sub(over);
    }

    /// An answer arrived. Only the last one counts: what was in one before it is in it as well.
    pub(super) fn seen(&mut self, number: u64) {
        if number == self.number {
            let (leases, stops) = std::mem::take(&mut self.told);
            self.leases.drain(..leases);
            self.stops.drain(..stops);
        }
    }

    /// Whether leases are not known to have arrived.
    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// What leases take that are not known to have arrived, by node.
    pub(super) fn leased(&self) -> BTreeMap<&str, Resources> {
        let mut leased: BTreeMap<&str, Resources> = BTreeMap::new();
        for run in &self.leases {
            leased.entry(&run.node).or_default().add(&run.shape.0.request);
        }
        leased
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.stops.is_empty()
    }

    /// The next answer: the first of what is to be told, as much as fits. The same again has the
    /// same number.
    pub(super) fn answer(&mut self, bytes_max: usize) -> Answer {
        let all = Room::of_message(bytes_max).left();
        let mut room = Room::of_bytes(all / STOPS_PART);
        let stops = self.stops.iter().take_while(|stop| room.take_item(stop)).count();
        let mut room = Room::of_bytes(all - all / STOPS_PART);
        let leases = self.leases.iter().take_while(|run| room.take_run(run)).count();
        if self.told != (leases, stops) {
            self.told = (leases, stops);
            self.number += 1;
        }
        Answer {
            number: self.number,
            leases: self.leases.iter().take(leases).cloned().collect(),
            stops: self.stops.iter().take(stops).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_api::bus::{LeaseAnswer, encode};
    use muster_api::shape::ShapeText;
    use muster_core::id::{JobId, JobRef};
    use muster_core::shape::Shape;

    use super::*;

    fn runs(count: u32) -> Vec<LeasedRun> {
        let shape = ShapeText(Arc::new(Shape::of_request(Resources::new())));
        let run = |n| LeasedRun {
            job: JobRef::task(JobId::MAX, n),
            attempt: 1,
            node: format!("node-{n}"),
            shape: shape.clone(),
        };
        (0..count).map(run).collect()
    }

    fn stops(count: u32) -> Vec<(String, u32)> {
        (0..count).map(|n| (JobRef::task(JobId::MAX, n).to_string(), 1)).collect()
    }

    #[test]
    fn leases_that_do_not_fit_one_answer_follow_in_the_next_once_it_was_seen() {
        let mut pending = Pending::default();
        pending.lease(runs(5_000));
        pending.stop(stops(3_000));
        let (mut leases, mut stopped, mut answers) = (Vec::new(), Vec::new(), 0);
        while !pending.is_empty() {
            let answer = pending.answer(64 * 1024);
            assert_eq!(answer, pending.answer(64 * 1024), "a lost answer comes again as it was");
            answers += 1;
            assert_eq!(answer.number, answers);
            let message = encode(&LeaseAnswer {
                session: "0123456789abcdef".into(),
                answer: answer.number,
                version: u64::MAX,
                leases: answer.leases.clone(),
                stops: answer.stops.clone(),
            });
            assert!(message.len() <= 64 * 1024, "{} bytes", message.len());
            leases.extend(answer.leases);
            stopped.extend(answer.stops);
            pending.seen(answer.number - 1);
            assert!(!pending.is_empty());
            pending.seen(answer.number);
        }
        assert!(answers > 3);
        assert!(leases == runs(5_000) && stopped == stops(3_000));
    }

    #[test]
    fn what_is_added_before_an_answer_was_seen_makes_another_answer() {
        let mut pending = Pending::default();
        pending.stop(stops(1));
        let first = pending.answer(64 * 1024);
        pending.lease(runs(1));
        let second = pending.answer(64 * 1024);
        assert!(second.number > first.number && second.stops == first.stops);
        pending.seen(first.number);
        assert!(pending.has_leases());
        pending.seen(second.number);
        assert!(pending.is_empty());
    }

    #[test]
    fn stop_orders_are_bounded_and_the_newest_stay() {
        let mut pending = Pending::default();
        pending.stop(stops(10));
        pending.answer(64 * 1024);
        pending.stop(stops(u32::try_from(STOPS_MAX).unwrap()));
        pending.seen(1);
        assert_eq!(pending.stops.len(), STOPS_MAX);
    }
}

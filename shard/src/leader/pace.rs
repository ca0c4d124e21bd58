//! What became of jobs in the last minutes, by queue. No IO, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_core::Name;

/// Counts of the last while, in slots of equal length: as old ones leave, new ones come.
#[derive(Debug, Clone)]
pub(super) struct Window {
    slot: Duration,
    slots: usize,
    queues: BTreeMap<Name, VecDeque<(u64, u64)>>,
}

/// How many jobs, in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) jobs: u64,
    pub(super) time: Duration,
}

/// What a leader counts.
#[derive(Debug)]
pub(super) struct Paces {
    /// When it began to count.
    since: Duration,
    placed: Window,
    preempted: Window,
}

impl Window {
    fn new(slot: Duration, slots: usize) -> Self {
        Self { slot, slots, queues: BTreeMap::new() }
    }

    fn number(&self, at: Duration) -> u64 {
        u64::try_from(at.as_millis() / self.slot.as_millis().max(1)).unwrap_or(u64::MAX)
    }

    fn add(&mut self, queue: &Name, count: u64, now: Duration) {
        let (number, slots) = (self.number(now), self.slots as u64);
        let counts = self.queues.entry(queue.clone()).or_default();
        match counts.back_mut() {
            Some((last, sum)) if *last == number => *sum += count,
            Some(_) | None => counts.push_back((number, count)),
        }
        while counts.front().is_some_and(|(first, _)| first + slots <= number) {
            counts.pop_front();
        }
    }

    fn sum(&self, queue: &str, now: Duration) -> u64 {
        let (number, slots) = (self.number(now), self.slots as u64);
        let counts = self.queues.get(queue).into_iter().flatten();
        counts.filter(|(slot, _)| slot + slots > number).map(|(_, count)| *count).sum()
    }

    /// Forgets queues of which nothing is left.
    fn sweep(&mut self, now: Duration) {
        let (number, slots) = (self.number(now), self.slots as u64);
        self.queues
            .retain(|_, counts| counts.back().is_some_and(|(last, _)| last + slots > number));
    }

    fn length(&self) -> Duration {
        self.slot * u32::try_from(self.slots).unwrap_or(u32::MAX)
    }
}

impl Paces {
    /// Nothing was counted yet.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            placed: Window::new(Duration::from_secs(10), 30),
            preempted: Window::new(Duration::from_secs(60), 60),
        }
    }

    pub(super) fn placed(&mut self, queue: &Name, jobs: u64, now: Duration) {
        self.placed.add(queue, jobs, now);
    }

    pub(super) fn preempted(&mut self, queue: &Name, jobs: u64, now: Duration) {
        self.preempted.add(queue, jobs, now);
    }

    /// How many jobs of a queue were placed in the last minutes.
    pub(super) fn of(&self, queue: &str, now: Duration) -> Pace {
        let time = now.saturating_sub(self.since).min(self.placed.length());
        Pace { jobs: self.placed.sum(queue, now), time }
    }

    /// How many of its jobs were preempted in the last hour.
    pub(super) fn preempted_of(&self, queue: &str, now: Duration) -> u64 {
        self.preempted.sum(queue, now)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.placed.sweep(now);
        self.preempted.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let at = Duration::from_secs;
        let mut paces = Paces::new(at(100));
        let queue = Name::from("a");
        paces.placed(&queue, 3, at(105));
        paces.placed(&queue, 4, at(131));
        paces.preempted(&queue, 2, at(131));
        let pace = |jobs, time| Pace { jobs, time: at(time) };
        assert_eq!(paces.of("a", at(140)), pace(7, 40));
        assert_eq!(paces.of("b", at(140)), pace(0, 40));
        assert_eq!(paces.of("a", at(405)), pace(4, 300));
        assert_eq!(paces.of("a", at(500)), pace(0, 300));
        assert_eq!(paces.preempted_of("a", at(3_600)), 2);
        assert_eq!(paces.preempted_of("a", at(3_800)), 0);
        paces.sweep(at(500));
        assert!(paces.placed.queues.is_empty() && !paces.preempted.queues.is_empty());
    }
}

//! A live job in memory: small, because there are millions.

use super::ranges::Ranges;
use crate::Name;
use crate::id::Position;
use crate::job::{Counts, JobState};
use crate::mutant::{self, Mutant};
use crate::record::{Next, Run, Task};
use crate::terms::{Dependency, HeldBack, Terms};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A live job, or an array with live tasks. Texts and shape are numbers of interners.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) queue: u32,
    pub(super) job_set: u32,
    pub(super) shape: u32,
    pub(super) priority: u32,
    pub(super) spec_sequence: u64,
    pub(super) spec_row: u32,
    /// Attempts so far, of a job that is no array.
    pub(super) attempts: u32,
    pub(super) body: Body,
    /// What few jobs have.
    pub(super) extra: Option<Box<Extra>>,
}

#[derive(Debug)]
pub(super) enum Body {
    Queued,
    Active(Box<Active>),
    Array(Box<Array>),
}

/// The run that the system believes in.
#[derive(Debug, Clone)]
pub(super) struct Active {
    pub(super) state: JobState,
    pub(super) run: Run,
}

#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) client_id: Option<Name>,
    pub(super) at_most_once: bool,
    pub(super) past: Vec<Run>,
    /// What it depends on and has not ended yet, and all other terms.
    pub(super) terms: Option<Box<Terms>>,
    /// What is different with the next attempt, of a job that is no array; `shape` says if the
    /// shape is.
    pub(super) next: Next,
    /// The shape that it was submitted with, if that of its attempts is another by now.
    pub(super) submitted_shape: Option<u32>,
}

/// The live tasks of an array.
#[derive(Debug, Default)]
pub(super) struct Array {
    pub(super) count: u32,
    /// Tasks that wait, but for those of `apart` and `resting`.
    pub(super) queued: Ranges,
    /// Tasks that wait with a shape of their own, by its number.
    pub(super) apart: BTreeMap<u32, BTreeSet<u32>>,
    /// Tasks that are tried again, and not at once.
    pub(super) resting: BTreeSet<u32>,
    /// Live tasks that were leased at least once.
    pub(super) touched: BTreeMap<u32, Task>,
    pub(super) counts: Counts,
}

impl Array {
    /// A task begins to wait: not at once, or with a shape of its own, or like most.
    pub(super) fn enter(&mut self, index: u32, shape: Option<u32>, rests: bool) {
        match shape {
            _ if rests => {
                self.resting.insert(index);
            }
            Some(shape) => {
                self.apart.entry(shape).or_default().insert(index);
            }
            None => {
                self.queued.insert(index);
            }
        }
    }

    /// A task waits no longer.
    pub(super) fn leave(&mut self, index: u32) {
        if self.queued.remove(index) || self.resting.remove(&index) {
            return;
        }
        self.apart.retain(|_, tasks| {
            tasks.remove(&index);
            !tasks.is_empty()
        });
    }

    /// How many tasks before that one wait, but for those that rest.
    pub(super) fn standing_below(&self, index: u32) -> u64 {
        let below = |(start, end): (u32, u32)| u64::from(end.min(index) - start.min(index));
        let apart = self.apart.values().map(|tasks| tasks.range(..index).count() as u64);
        self.queued.iter().map(below).chain(apart).sum()
    }

    /// The first task that waits.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        let apart = self.apart.values().filter_map(BTreeSet::first);
        let first = [self.queued.first(), self.resting.first().copied()];
        apart.copied().chain(first.into_iter().flatten()).min()
    }

    /// The first task that stands in the order with that shape, none for that of most.
    pub(super) fn first(&self, shape: Option<u32>) -> Option<u32> {
        match shape {
            None => self.queued.first(),
            Some(shape) => self.apart.get(&shape)?.first().copied(),
        }
    }

    /// How many tasks stand in the order that have the shape of most, and how many of each other
    /// shape, if clusters take no more than `room`. Those that were tried before come first.
    pub(super) fn standing(&self, mut room: u64) -> (u64, Vec<(u32, u64)>) {
        let mut sets: Vec<(&u32, &BTreeSet<u32>)> = self.apart.iter().collect();
        sets.sort_by_key(|(_, tasks)| tasks.first());
        let mut take = |waiting: u64| {
            let taken = waiting.min(room);
            room -= taken;
            taken
        };
        let apart: u64 = sets.iter().map(|(_, tasks)| tasks.len() as u64).sum();
        let plain = self.counts[JobState::Queued] - self.resting.len() as u64 - apart;
        let sets = sets.into_iter().map(|(shape, tasks)| (*shape, take(tasks.len() as u64)));
        let sets = sets.filter(|(_, jobs)| *jobs > 0).collect();
        (take(plain), sets)
    }
}

impl Job {
    pub(super) fn spec(&self) -> Position {
        Position { sequence: self.spec_sequence, row: self.spec_row }
    }

    pub(super) fn at_most_once(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.at_most_once)
    }

    /// The shape that it was submitted with.
    pub(super) fn submitted_shape(&self) -> u32 {
        self.extra.as_ref().and_then(|extra| extra.submitted_shape).unwrap_or(self.shape)
    }

    pub(super) fn client_id(&self) -> Option<&Name> {
        self.extra.as_ref()?.client_id.as_ref()
    }

    /// How many of its tasks wait; 1 or 0 for a job that is no array.
    pub(super) fn waiting(&self) -> u64 {
        match &self.body {
            Body::Queued => 1,
            Body::Active(_) => 0,
            Body::Array(array) => array.counts[JobState::Queued],
        }
    }

    /// Why it, a task of it, or nothing of an array as a whole stands in the order of its queue
    /// though it waits.
    pub(super) fn held_back(&self, index: Option<u32>) -> Option<HeldBack> {
        if !self.after().is_empty() {
            return Some(HeldBack::After(self.after().to_vec()));
        }
        if let Some(until) = self.next(index).and_then(|next| next.not_before) {
            return Some(HeldBack::Until(until));
        }
        let running_max = self.terms()?.running_max?;
        (self.room() == 0).then_some(HeldBack::ArrayFull { running_max })
    }

    /// What is different with the next attempt, or with the one at hand.
    pub(super) fn next(&self, index: Option<u32>) -> Option<&Next> {
        match (&self.body, index) {
            (Body::Array(array), Some(index)) => Some(&array.touched.get(&index)?.next),
            (Body::Array(_), None) => None,
            (Body::Queued | Body::Active(_), _) => Some(&self.extra.as_ref()?.next),
        }
    }

    pub(super) fn terms(&self) -> Option<&Terms> {
        self.extra.as_ref()?.terms.as_deref()
    }

    pub(super) fn terms_mut(&mut self) -> Option<&mut Terms> {
        self.extra.as_mut()?.terms.as_deref_mut()
    }

    /// What it depends on and has not ended yet.
    pub(super) fn after(&self) -> &[Dependency] {
        self.terms().map_or(&[], |terms| &terms.after)
    }

    /// How many more of its tasks clusters may hold.
    pub(super) fn room(&self) -> u64 {
        let max = self.terms().and_then(|terms| terms.running_max);
        let Some(max) = max.filter(|_| !mutant::is(Mutant::RunsAllTasks)) else { return u64::MAX };
        let Body::Array(array) = &self.body else { return u64::MAX };
        let on_clusters = JobState::ALL.into_iter().filter(|state| state.is_on_cluster());
        u64::from(max).saturating_sub(on_clusters.map(|state| array.counts[state]).sum())
    }

    /// How many of its tasks live.
    pub(super) fn live(&self) -> u64 {
        match &self.body {
            Body::Queued | Body::Active(_) => 1,
            Body::Array(array) => array.counts.live(),
        }
    }

    /// The state of the job or of one of its tasks; `None` for what has finished, does not exist,
    /// or is an array as a whole.
    pub(super) fn state(&self, index: Option<u32>) -> Option<JobState> {
        match (&self.body, index) {
            (Body::Queued, None) => Some(JobState::Queued),
            (Body::Active(active), None) => Some(active.state),
            (Body::Array(array), Some(index)) if array.queued.contains(index) => {
                Some(JobState::Queued)
            }
            (Body::Array(array), Some(index)) => {
                let active = array.touched.get(&index)?.active.as_ref();
                Some(active.map_or(JobState::Queued, |(state, _)| *state))
            }
            (Body::Queued | Body::Active(_), Some(_)) | (Body::Array(_), None) => None,
        }
    }

    /// The run of the job or task that the system believes in, with its state.
    pub(super) fn active(&self, index: Option<u32>) -> Option<(JobState, &Run)> {
        match (&self.body, index) {
            (Body::Active(active), None) => Some((active.state, &active.run)),
            (Body::Array(array), Some(index)) => {
                array.touched.get(&index)?.active.as_ref().map(|(state, run)| (*state, run))
            }
            (Body::Queued, _) | (Body::Active(_), Some(_)) | (Body::Array(_), None) => None,
        }
    }

    /// Runs of the job or task that ended, the oldest first.
    pub(super) fn past(&self, index: Option<u32>) -> &[Run] {
        match (&self.body, index) {
            (Body::Array(array), Some(index)) => {
                array.touched.get(&index).map_or(&[], |task| &task.past)
            }
            _ => self.extra.as_ref().map_or(&[], |extra| &extra.past),
        }
    }

    /// How many of the last runs of the job or task, with the one at hand, never started.
    pub(super) fn unstarted(&self, index: Option<u32>) -> u32 {
        let runs = self.past(index).iter().chain(self.active(index).map(|(_, run)| run));
        let unstarted = runs.rev().take_while(|run| run.started_at.is_none());
        unstarted.fold(0, |count, _| count + 1)
    }

    /// Until when it rests; an array, until the last of its tasks has rested.
    pub(super) fn rests_until(&self) -> Option<Timestamp> {
        let Body::Array(array) = &self.body else { return self.next(None)?.not_before };
        let tasks = array.resting.iter().filter_map(|index| array.touched.get(index));
        tasks.filter_map(|task| task.next.not_before).max()
    }

    /// The number of the next attempt at the job or task.
    pub(super) fn next_attempt(&self, index: Option<u32>) -> u32 {
        let attempts = match (&self.body, index) {
            (Body::Array(array), Some(index)) => {
                array.touched.get(&index).map_or(0, |task| task.attempts)
            }
            (Body::Queued | Body::Active(_), _) | (Body::Array(_), None) => self.attempts,
        };
        attempts + 1
    }

    #[cfg(test)]
    pub(super) fn for_table_tests(priority: u32) -> Self {
        Self {
            queue: 0,
            job_set: 0,
            shape: 0,
            priority,
            spec_sequence: 0,
            spec_row: 0,
            attempts: 0,
            body: Body::Queued,
            extra: None,
        }
    }
}

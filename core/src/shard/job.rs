//! A live job in memory: small, because there are millions.

use super::ranges::Ranges;
use crate::Name;
use crate::id::Position;
use crate::job::{Counts, JobState};
use crate::record::{Run, Task};
use std::collections::BTreeMap;

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
}

/// The live tasks of an array.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) count: u32,
    pub(super) queued: Ranges,
    /// Live tasks that were leased at least once.
    pub(super) touched: BTreeMap<u32, Task>,
    pub(super) counts: Counts,
}

impl Job {
    pub(super) fn spec(&self) -> Position {
        Position { sequence: self.spec_sequence, row: self.spec_row }
    }

    pub(super) fn at_most_once(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.at_most_once)
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

    /// How many of its tasks stand in the order of its queue: of those that wait, all that nothing
    /// holds back.
    pub(super) fn ready(&self) -> u64 {
        self.waiting()
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
                array.touched.get(&index)?.active.as_ref().map(|(state, _)| *state)
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

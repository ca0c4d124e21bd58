//! Which log objects the state still points into, and for which jobs.

use super::Shard;
use super::job::Body;
use crate::id::{JobId, Position};

/// A job or array in memory, as an account has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub job: JobId,
    /// Tasks of the array; 1 for a job.
    pub submitted: u64,
    /// How many of them live.
    pub live: u64,
    /// Where its payload lies in the log.
    pub spec: Position,
}

impl Shard {
    /// The log objects, ascending, that hold the payload of a job that lives, or that has finished
    /// and is not in the history yet.
    ///
    /// A log object behind a checkpoint that is not among them never will be again: nothing but a
    /// new job points into the log, and it points to the end. So what an owner concludes from this
    /// stays right however late it acts on it, as long as the state that it asked was durable.
    #[must_use]
    pub fn log_in_use(&self) -> Vec<u64> {
        let live = self.jobs.iter_from(JobId::default()).map(|(_, job)| job.spec_sequence);
        let finished = self.finished.values().map(|finished| finished.spec.sequence);
        let mut sequences: Vec<u64> = Vec::new();
        for sequence in live.chain(finished) {
            // Jobs of one commit stand together.
            if sequences.last() != Some(&sequence) {
                sequences.push(sequence);
            }
        }
        sequences.sort_unstable();
        sequences.dedup();
        sequences
    }
    /// Every job and array in memory; one that is done is there until the history has it.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        self.jobs.iter_from(JobId::default()).map(|(id, job)| Account {
            job: id,
            submitted: match &job.body {
                Body::Array(array) => array.count.into(),
                Body::Queued | Body::Active(_) => 1,
            },
            live: job.live(),
            spec: job.spec(),
        })
    }
}

//! Which log objects the state still points into.

use super::Shard;
use crate::id::JobId;

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
}

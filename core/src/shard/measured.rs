//! What running jobs were seen to use so far, as clusters tell it now and then. It is shown, and
//! goes into the record of a run's end of which the cluster was not asked: of one that is
//! cancelled, or makes room for others. No part of the state: another owner begins without.

use std::collections::BTreeMap;

use crate::id::JobRef;
use crate::job::{JobState, Usage};
use crate::record::Changed;

/// What running jobs and tasks were seen to use.
#[derive(Debug, Default)]
pub(super) struct Measured(BTreeMap<JobRef, Usage>);

impl Measured {
    /// The run of a job or task was seen to use so much.
    pub(super) fn note(&mut self, job: JobRef, used: Usage) {
        let known = self.0.entry(job).or_insert(used);
        *known = known.most(used);
    }

    /// What the run of a job or task was seen to use.
    pub(super) fn of(&self, job: JobRef) -> Option<Usage> {
        self.0.get(&job).copied()
    }

    /// Has a run's end say it, and forgets it.
    pub(super) fn tell(&mut self, changed: &mut Changed) {
        let is_end = changed.change.state().is_some_and(|state| !JobState::is_on_cluster(state));
        if is_end && let Some(used) = self.0.remove(&changed.job) {
            changed.change.tell_usage(used);
        }
    }
}

//! Job sets: how many of their jobs are in each state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Shard;
use super::job::Body;
use crate::id::{JobId, Position};
use crate::job::{Counts, JobState};
use crate::time::Timestamp;

/// How long a job set is remembered after its last change, once nothing of it lives.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Job sets by the numbers of their queue and name.
#[derive(Debug, Default)]
pub(super) struct JobSets(pub(super) BTreeMap<(u32, u32), JobSet>);

#[derive(Debug, Clone, Copy)]
pub(super) struct JobSet {
    pub(super) first: Position,
    pub(super) changed_at: Timestamp,
    pub(super) counts: Counts,
}

impl JobSets {
    /// Moves jobs of a set from one state to another.
    pub(super) fn shift(
        &mut self,
        set: (u32, u32),
        from: JobState,
        to: JobState,
        n: u64,
        at: Timestamp,
    ) {
        let set = self.0.get_mut(&set).expect("a job's set is known while the job lives");
        set.counts.shift(from, to, n);
        set.changed_at = set.changed_at.max(at);
    }
}

/// Forgets job sets of which nothing lives and nothing happened for long, and their finished
/// arrays.
pub(super) fn forget(shard: &mut Shard, now: Timestamp) {
    let old: Vec<(u32, u32)> = shard
        .sets
        .0
        .iter()
        .filter(|(_, set)| set.counts.live() == 0 && now.since(set.changed_at) > REMEMBERED)
        .map(|(key, _)| *key)
        .collect();
    if old.is_empty() {
        return;
    }
    let arrays: Vec<JobId> = shard
        .jobs
        .iter_from(JobId::default())
        .filter(|(_, job)| matches!(job.body, Body::Array(_)))
        .filter(|(_, job)| old.binary_search(&(job.queue, job.job_set)).is_ok())
        .map(|(id, _)| id)
        .collect();
    for id in arrays {
        super::apply::drop_job(shard, id);
    }
    for key in old {
        shard.sets.0.remove(&key);
        shard.names.give_back(key.0, 1);
        shard.names.give_back(key.1, 1);
    }
}

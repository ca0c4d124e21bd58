//! Finished jobs, from their end until the history has them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::job::Body;
use super::{Shard, apply};
use crate::Name;
use crate::history::Finished;
use crate::id::{JobId, JobRef, Position};
use crate::job::JobState;
use crate::record::{Change, Changed, Run};

/// What becomes of a job that ends as `changed` says; `count` tasks from `first` on.
pub(super) fn of(
    shard: &Shard,
    position: Position,
    changed: &Changed,
    state: JobState,
    first: JobRef,
    count: u32,
    runs: Vec<Run>,
) -> Finished {
    let job = shard.jobs.get(first.job).expect("it is dropped later");
    let reason: Option<Name> = match &changed.change {
        Change::Cancelled { reason, .. } => reason.clone(),
        _ => None,
    };
    Finished {
        job: first,
        count,
        queue: changed.queue.clone(),
        job_set: changed.job_set.clone(),
        client_id: job.client_id().cloned(),
        priority: job.priority,
        shape: shard.shapes.value(job.submitted_shape()).clone(),
        state,
        finished_at: changed.at,
        reason,
        runs,
        spec: job.spec(),
        at: position,
    }
}

/// Keeps a finished job until the history has it.
///
/// Ids rise also when clocks go back, and history is searched from the day of a job's id on: a job
/// does not finish before its id says that it came.
pub(super) fn keep(shard: &mut Shard, mut finished: Finished) {
    finished.finished_at = finished.finished_at.max(finished.job.job.submitted_at());
    shard.finished_at.insert((finished.at, finished.job));
    shard.finished.insert(finished.job, Arc::new(finished));
}

/// The history has everything up to there: it leaves memory, and with it the arrays that are done.
pub(super) fn written(shard: &mut Shard, through: Position) {
    shard.history_planned = None;
    shard.history_through = shard.history_through.max(through);
    let mut arrays: BTreeSet<JobId> = BTreeSet::new();
    while let Some(&(at, job)) = shard.finished_at.first()
        && at <= through
    {
        shard.finished_at.pop_first();
        shard.finished.remove(&job);
        if job.index.is_some() {
            arrays.insert(job.job);
        }
    }
    for array in arrays {
        let is_done = shard.jobs.get(array).is_some_and(|job| match &job.body {
            Body::Array(array) => array.counts.live() == 0,
            Body::Queued | Body::Active(_) => false,
        });
        if is_done && !any_task(shard, array) {
            apply::drop_job(shard, array);
        }
    }
}

/// Whether a finished task of an array waits for the history.
pub(super) fn any_task(shard: &Shard, array: JobId) -> bool {
    let tasks = JobRef::task(array, 0)..=JobRef::task(array, u32::MAX);
    shard.finished.range(tasks).next().is_some()
}

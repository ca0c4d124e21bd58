//! The state as records: what a checkpoint holds, and what makes the same state again.

use std::sync::Arc;

use super::job::{Active, Array, Body, Job};
use super::ranges::Ranges;
use super::sets::JobSet;
use super::{Shard, apply, attempts, finished, gangs, standing};
use crate::id::{JobId, JobRef, Position, run_digest};
use crate::mutant::{self, Mutant};
use crate::record::{ArrayTasks, HistorySpan, JobSetTotals, LiveJob, Payload, Record, Submitted};
use crate::record::{Next, Run, Task};
use crate::time::Timestamp;

impl Shard {
    /// The records that make this state when they are applied to an empty shard.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let sets = self.sets.by_key.iter().map(|(&(queue, job_set), set)| {
            Record::JobSet(JobSetTotals {
                queue: self.names.value(queue).clone(),
                job_set: self.names.value(job_set).clone(),
                first: set.first,
                changed_at: set.changed_at,
                counts: set.counts,
            })
        });
        let lost = usize::from(mutant::is(Mutant::CheckpointLosesJob));
        let jobs = self.jobs.iter_from(JobId::default()).skip(lost);
        let jobs = jobs.map(|(id, job)| Record::Job(Box::new(self.live_job(id, job))));
        let closed = self.closed.iter().map(|(queue, &incarnation)| Record::QueueClosed {
            queue: queue.clone(),
            incarnation,
            at: Timestamp(0),
        });
        let finished = self.finished.values().map(|f| Record::Finished(Box::new((**f).clone())));
        let through = self.history_through;
        let written = Record::HistoryWritten(HistorySpan { after: through, through });
        let planned = self.history_planned.map(Record::HistoryPlanned);
        let last = Record::LastJob(self.last_id);
        let ends = self.dependencies.ends();
        let ends = (!ends.is_empty()).then_some(Record::Ends(ends));
        let history = [last, written].into_iter().chain(planned).chain(ends);
        history
            .chain(sets)
            .chain(closed)
            .chain(self.commands.records())
            .chain(finished)
            .chain(jobs)
            .collect()
    }

    fn live_job(&self, id: JobId, job: &Job) -> LiveJob {
        let count = match &job.body {
            Body::Array(array) => Some(array.count),
            Body::Queued | Body::Active(_) => None,
        };
        let terms = job.terms().filter(|_| !mutant::is(Mutant::CheckpointForgetsTerms));
        let submitted = Submitted {
            job: id,
            queue: self.names.value(job.queue).clone(),
            job_set: self.names.value(job.job_set).clone(),
            client_id: job.client_id().cloned(),
            priority: job.priority,
            count,
            at_most_once: job.at_most_once(),
            terms: terms.filter(|terms| !terms.is_empty()).cloned().map(Arc::new),
            shape: self.shapes.value(job.submitted_shape()).clone(),
            payload: Payload::default(),
        };
        let spec: Position = job.spec();
        let past = job.extra.as_ref().map(|extra| extra.past.clone()).unwrap_or_default();
        let (active, array) = match &job.body {
            Body::Queued => (None, None),
            Body::Active(active) => (Some((active.state, active.run.clone())), None),
            Body::Array(array) => {
                let tasks = ArrayTasks {
                    queued: array.queued.iter().collect(),
                    touched: array.touched.iter().map(|(i, task)| (*i, task.clone())).collect(),
                    counts: array.counts,
                };
                (None, Some(tasks))
            }
        };
        let is_forgetful = mutant::is(Mutant::CheckpointForgetsAttempts);
        let attempts = if is_forgetful { 0 } else { job.attempts };
        let next = job.next(None).cloned().unwrap_or_default();
        LiveJob { submitted, spec, task: Task { attempts, active, past, next }, array }
    }
}

/// Puts a live job back as it stood.
pub(super) fn restore(shard: &mut Shard, live: &LiveJob) {
    let submitted = &live.submitted;
    let id = submitted.job;
    let body = match (&live.array, &live.task.active) {
        (Some(tasks), _) => Body::Array(Box::new(Array {
            count: submitted.count.unwrap_or(0),
            queued: Ranges::from_pairs(&tasks.queued).unwrap_or_default(),
            touched: tasks.touched.iter().cloned().collect(),
            counts: tasks.counts,
            ..Array::default()
        })),
        (None, Some((state, run))) => {
            Body::Active(Box::new(Active { state: *state, run: run.clone() }))
        }
        (None, None) => Body::Queued,
    };
    shard.last_id = shard.last_id.max(id);
    // Older versions kept arrays in memory that are done and that the history has whole.
    let is_done = live.array.as_ref().is_some_and(|tasks| tasks.counts.live() == 0);
    if is_done && !finished::any_task(shard, id) {
        return;
    }
    let task = &live.task;
    apply::insert(shard, submitted, live.spec, task.attempts, body, task.past.clone());
    restore_next(shard, live);
    let whole = live.task.active.iter().map(|(_, run)| (JobRef::whole(id), run));
    let touched = live.array.iter().flat_map(|tasks| &tasks.touched);
    let tasks = touched.filter_map(|(index, task): &(u32, Task)| {
        task.active.as_ref().map(|(_, run)| (JobRef::task(id, *index), run))
    });
    let runs: Vec<(JobRef, &Run)> = whole.chain(tasks).collect();
    for (target, run) in runs {
        let job = shard.jobs.get(id).expect("it was just put in");
        let (queue, shape) = (job.queue, attempts::shape_of(shard, job, target.index));
        let queue = shard.queues.get_mut(&queue).expect("a job's queue is known");
        *queue.held.entry((run.cluster.clone(), shape)).or_default() += 1;
        let cluster = shard.clusters.entry(run.cluster.clone()).or_default();
        cluster.runs.insert(target);
        cluster.digest ^= run_digest(target, run.attempt);
    }
}

/// What is different with the next attempts at a job or its tasks, and where it stands by that.
fn restore_next(shard: &mut Shard, live: &LiveJob) {
    let id = live.submitted.job;
    let Some(before) = shard.jobs.get(id).map(Job::standings) else { return };
    let tasks = live.array.iter().flat_map(|tasks| &tasks.touched);
    let tasks = tasks.map(|(index, task)| (JobRef::task(id, *index), task));
    let whole = live.array.is_none().then_some((JobRef::whole(id), &live.task));
    for (target, task) in tasks.chain(whole).filter(|(_, task)| task.next != Next::default()) {
        // What `insert` put in by itself did not count its shape.
        if let Some(Body::Array(array)) = shard.jobs.get_mut(id).map(|job| &mut job.body)
            && let Some(task) = target.index.and_then(|index| array.touched.get_mut(&index))
        {
            task.next = Next::default();
        }
        let begin = task.past.last().and_then(|run| run.ended.as_ref()).map(|(at, _)| *at);
        attempts::set(shard, target, task.next.clone(), begin.unwrap_or_default());
        let Some(job) = shard.jobs.get(id) else { return };
        let own = attempts::own_shape(shard, job, target.index);
        let waits = task.active.is_none();
        let Some(Body::Array(array)) = shard.jobs.get_mut(id).map(|job| &mut job.body) else {
            continue;
        };
        if let Some(index) = target.index.filter(|index| waits && !array.queued.contains(*index)) {
            array.enter(index, own, task.next.not_before.is_some());
        }
    }
    let after = shard.jobs.get(id).map(Job::standings).unwrap_or_default();
    standing::settle(shard, id, &before, &after);
    if shard.jobs.get(id).and_then(Job::rests_until).is_some()
        && let Some(gang) = gangs::key_of(shard, id)
    {
        gangs::update(shard, gang, id);
    }
}

/// Puts a job set back as it stood.
pub(super) fn restore_set(shard: &mut Shard, totals: &JobSetTotals) {
    let queue = shard.names.take(&totals.queue, 1);
    let name = shard.names.take(&totals.job_set, 1);
    let set = JobSet { first: totals.first, changed_at: totals.changed_at, counts: totals.counts };
    shard.sets.insert((queue, name), set);
}

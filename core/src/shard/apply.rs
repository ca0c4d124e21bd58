//! Applying records: the only thing that changes a shard's state.

use super::commands::client_key;
use super::decide::is_to_be_stopped;
use super::job::{Active, Array, Body, Extra, Job};
use super::ranges::Ranges;
use super::sets::JobSet;
use super::standing::{self, Standings};
use super::{Shard, Stop, checkpoint, finished, gangs, sets};
use crate::history::Finished;
use crate::id::{JobId, JobRef, Position, run_digest};
use crate::job::{Counts, Exit, JobState};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Change, Changed, Record, Run, Submitted};

pub(super) fn apply(shard: &mut Shard, position: Position, record: &Record) {
    match record {
        Record::Submitted(submitted) => submit(shard, position, submitted),
        Record::Changed(changed) => change(shard, position, changed),
        Record::Command(done) => shard.commands.remember(done),
        Record::QueueClosed { queue, incarnation, .. } => {
            let closed = shard.closed.entry(queue.clone()).or_default();
            *closed = (*closed).max(*incarnation);
        }
        Record::Forgotten { at } => {
            let jobs = &shard.jobs;
            shard.commands.forget(*at, |id| jobs.get(id).is_some_and(|job| job.live() > 0));
            sets::forget(shard, *at);
        }
        Record::HistoryPlanned(span) => shard.history_planned = Some(*span),
        Record::HistoryWritten(span) => finished::written(shard, span.through),
        Record::Job(live) => checkpoint::restore(shard, live),
        Record::LastJob(id) => shard.last_id = shard.last_id.max(*id),
        Record::JobSet(totals) => checkpoint::restore_set(shard, totals),
        Record::Finished(finished) => finished::keep(shard, Finished::clone(finished)),
    }
}

fn submit(shard: &mut Shard, position: Position, submitted: &Submitted) {
    let body = match submitted.count {
        None => Body::Queued,
        Some(count) => {
            let mut counts = Counts::default();
            counts[JobState::Queued] = u64::from(count);
            let queued = Ranges::up_to(count);
            Body::Array(Box::new(Array { count, queued, touched: Default::default(), counts }))
        }
    };
    let waiting = u64::from(submitted.count.unwrap_or(1));
    let key = insert(shard, submitted, position, 0, body, Vec::new());
    let at = submitted.job.submitted_at();
    if !shard.sets.by_key.contains_key(&key) {
        shard.names.take(&submitted.queue, 1);
        shard.names.take(&submitted.job_set, 1);
        let set = JobSet { first: position, changed_at: at, counts: Counts::default() };
        shard.sets.insert(key, set);
    }
    shard.sets.add(key, waiting, at);
    shard.last_id = shard.last_id.max(submitted.job);
    if let Some(client_id) = &submitted.client_id {
        let key = client_key(&submitted.queue, client_id);
        shard.commands.remember_client(key, submitted.job, at);
    }
}

/// Puts a job into the table and, as far as it waits, into its queue's order.
pub(super) fn insert(
    shard: &mut Shard,
    submitted: &Submitted,
    spec: Position,
    attempts: u32,
    body: Body,
    past: Vec<Run>,
) -> (u32, u32) {
    let queue = shard.names.take(&submitted.queue, 1);
    let job_set = shard.names.take(&submitted.job_set, 1);
    let shape = match shard.shapes.number(&submitted.shape) {
        Some(_) => shard.shapes.take(&submitted.shape, 1),
        None => {
            let number = shard.shapes.take(&submitted.shape, 1);
            shard.shape_keys.insert(submitted.shape.key(), number);
            number
        }
    };
    let plain = submitted.client_id.is_none() && !submitted.at_most_once && past.is_empty();
    let extra = (!plain).then(|| {
        let client_id = submitted.client_id.clone();
        Box::new(Extra { client_id, at_most_once: submitted.at_most_once, past })
    });
    let job = Job {
        queue,
        job_set,
        shape,
        priority: submitted.priority,
        spec_sequence: spec.sequence,
        spec_row: spec.row,
        attempts,
        body,
        extra,
    };
    let (live, standings) = (job.live(), job.standings());
    let entry = shard.queues.entry(queue).or_insert_with(|| {
        // A queue stays known as long as the shard lives: its name is used by it.
        shard.names.take(&submitted.queue, 1);
        super::Queue::default()
    });
    entry.live += live;
    shard.changed.insert(queue);
    shard.jobs.insert(submitted.job, job);
    standing::settle(shard, submitted.job, &Standings::NONE, &standings);
    if let Some(gang) = gangs::key_of(shard, submitted.job) {
        gangs::update(shard, gang, submitted.job);
    }
    (queue, job_set)
}

/// Takes a job out of the table and gives back what it used.
pub(super) fn drop_job(shard: &mut Shard, id: JobId) {
    if let Some(job) = shard.jobs.remove(id) {
        shard.names.give_back(job.queue, 1);
        shard.names.give_back(job.job_set, 1);
        let shape = shard.shapes.value(job.shape).clone();
        if shard.shapes.give_back(job.shape, 1) {
            shard.shape_keys.remove(&shape.key());
        }
    }
}

fn change(shard: &mut Shard, position: Position, changed: &Changed) {
    let target = changed.job;
    let gang = gangs::key_of(shard, target.job);
    match &changed.change {
        Change::Leased { attempt, cluster, node } => {
            let run = Run {
                attempt: *attempt,
                cluster: cluster.clone(),
                node: node.clone(),
                leased_at: changed.at,
                started_at: None,
                ended: None,
            };
            lease(shard, changed, run);
        }
        Change::Pending { .. } => advance(shard, changed, JobState::Pending),
        Change::Running { .. } => advance(shard, changed, JobState::Running),
        Change::Succeeded { exit, .. } => {
            end_run(shard, position, changed, JobState::Succeeded, Some(exit));
        }
        Change::Failed { exit, .. } => {
            if is_to_be_stopped(exit) {
                stop(shard, target);
            }
            end_run(shard, position, changed, JobState::Failed, Some(exit))
        }
        Change::Requeued { exit, .. } => {
            end_run(shard, position, changed, JobState::Queued, Some(exit));
        }
        Change::Preempted { reason, .. } => {
            stop(shard, target);
            let exit = Exit::preempted(reason);
            end_run(shard, position, changed, JobState::Queued, Some(&exit));
        }
        Change::Cancelled { .. } => cancel(shard, position, changed),
        Change::Reprioritized { priority } => reprioritize(shard, target.job, *priority),
    }
    if let Some(gang) = gang {
        gangs::update(shard, gang, target.job);
    }
}

fn lease(shard: &mut Shard, changed: &Changed, run: Run) {
    let target = changed.job;
    let job = shard.jobs.get(target.job).expect("only live jobs are leased");
    let set = (job.queue, job.job_set);
    let key = (run.cluster.clone(), job.shape);
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    *queue.held.entry(key).or_default() += 1;
    let cluster = shard.clusters.entry(run.cluster.clone()).or_default();
    cluster.runs.insert(target);
    cluster.digest ^= run_digest(target, run.attempt);
    standing::change(shard, target.job, |job| match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.queued.remove(index);
            array.counts.shift(JobState::Queued, JobState::Leased, 1);
            let task = array.touched.entry(index).or_default();
            task.attempts = run.attempt;
            task.active = Some((JobState::Leased, run));
        }
        (body, _) => {
            job.attempts = run.attempt;
            *body = Body::Active(Box::new(Active { state: JobState::Leased, run }));
        }
    });
    shard.sets.shift(set, JobState::Queued, JobState::Leased, 1, changed.at);
}

fn advance(shard: &mut Shard, changed: &Changed, to: JobState) {
    let target = changed.job;
    let job = shard.jobs.get_mut(target.job).expect("only live jobs report");
    let set = (job.queue, job.job_set);
    let (state, run) = match (&mut job.body, target.index) {
        (Body::Active(active), None) => (&mut active.state, &mut active.run),
        (Body::Array(array), Some(index)) => {
            let task = array.touched.get_mut(&index).and_then(|task| task.active.as_mut());
            let (state, run) = task.expect("only active tasks report");
            array.counts.shift(*state, to, 1);
            (state, run)
        }
        (Body::Queued | Body::Active(_), _) | (Body::Array(_), None) => {
            panic!("`{target}` has no run that could report")
        }
    };
    let from = std::mem::replace(state, to);
    if to == JobState::Running {
        run.started_at = Some(changed.at);
    }
    shard.sets.shift(set, from, to, 1, changed.at);
}

/// The pod of the active run is to be stopped, if there is one; says whether.
fn stop(shard: &mut Shard, target: JobRef) -> bool {
    let job = shard.jobs.get(target.job).expect("only live jobs have pods");
    let Some((_, run)) = job.active(target.index) else { return false };
    let (cluster, attempt) = (run.cluster.clone(), run.attempt);
    shard.stops.push(Stop { cluster, job: target, attempt });
    true
}

/// The active run of a job or task ends, and the job goes to `to`: a final state, or back to the
/// queue.
fn end_run(
    shard: &mut Shard,
    position: Position,
    changed: &Changed,
    to: JobState,
    exit: Option<&Exit>,
) {
    let target = changed.job;
    let job = shard.jobs.get_mut(target.job).expect("only live jobs have runs");
    let (set, before) = ((job.queue, job.job_set), job.standings());
    let (from, mut run) = match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            let task = array.touched.get_mut(&index).and_then(|task| task.active.take());
            task.expect("only an active task's run ends")
        }
        (body, _) => match std::mem::replace(body, Body::Queued) {
            Body::Active(active) => (active.state, active.run),
            Body::Queued | Body::Array(_) => panic!("`{target}` has no run that could end"),
        },
    };
    run.ended = Some((changed.at, exit.cloned().unwrap_or_default()));
    release(shard, target, &run);
    let job = shard.jobs.get_mut(target.job).expect("it was there a moment ago");
    let runs = past_runs(job, target.index, run);
    let mut after = Standings::NONE;
    match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.counts.shift(from, to, 1);
            if !to.is_final() {
                array.queued.insert(index);
            }
            after = job.standings();
        }
        _ if !to.is_final() => after = job.standings(),
        _ => {}
    }
    standing::settle(shard, target.job, &before, &after);
    shard.sets.shift(set, from, to, 1, changed.at);
    if to.is_final() {
        let finished = finished::of(shard, position, changed, to, target, 1, runs);
        finished::keep(shard, finished);
        finish(shard, target, 1);
    } else {
        keep_past(shard, target, runs);
    }
}

/// Every run of a job or task so far, the one that just ended last.
fn past_runs(job: &mut Job, index: Option<u32>, run: Run) -> Vec<Run> {
    let mut runs = match (&mut job.body, index) {
        (Body::Array(array), Some(index)) => {
            array.touched.get_mut(&index).map(|task| std::mem::take(&mut task.past))
        }
        _ => job.extra.as_mut().map(|extra| std::mem::take(&mut extra.past)),
    }
    .unwrap_or_default();
    runs.push(run);
    if runs.len() > limits::PAST_RUNS_MAX {
        runs.remove(0);
    }
    runs
}

fn keep_past(shard: &mut Shard, target: JobRef, runs: Vec<Run>) {
    let job = shard.jobs.get_mut(target.job).expect("a queued job is live");
    match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => array.touched.entry(index).or_default().past = runs,
        _ => job.extra.get_or_insert_default().past = runs,
    }
}

/// A run ended: its cluster and queue hold it no longer.
fn release(shard: &mut Shard, target: JobRef, run: &Run) {
    let job = shard.jobs.get(target.job).expect("a run's job is live");
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    shard.changed.insert(job.queue);
    let key = (run.cluster.clone(), job.shape);
    let held = queue.held.get_mut(&key).expect("what is released was held");
    *held -= 1;
    if *held == 0 {
        queue.held.remove(&key);
    }
    let cluster = shard.clusters.get_mut(&run.cluster).expect("a run's cluster is known");
    cluster.runs.remove(&target);
    cluster.digest ^= run_digest(target, run.attempt);
    if cluster.runs.is_empty() {
        shard.clusters.remove(&run.cluster);
    }
}

fn cancel(shard: &mut Shard, position: Position, changed: &Changed) {
    let target = changed.job;
    let job = shard.jobs.get(target.job).expect("only live jobs are cancelled");
    if matches!(job.body, Body::Array(_)) && target.index.is_none() {
        cancel_waiting_tasks(shard, position, changed);
        return;
    }
    let set = (job.queue, job.job_set);
    if stop(shard, target) {
        end_run(shard, position, changed, JobState::Cancelled, None);
        return;
    }
    if mutant::is(Mutant::LeasesCancelled) {
        return;
    }
    let job = shard.jobs.get_mut(target.job).expect("it was there a moment ago");
    let (before, mut after) = (job.standings(), Standings::NONE);
    let runs = match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.queued.remove(index);
            array.counts.shift(JobState::Queued, JobState::Cancelled, 1);
            let runs = array.touched.get_mut(&index).map(|task| std::mem::take(&mut task.past));
            after = job.standings();
            runs
        }
        _ => job.extra.as_mut().map(|extra| std::mem::take(&mut extra.past)),
    };
    standing::settle(shard, target.job, &before, &after);
    shard.sets.shift(set, JobState::Queued, JobState::Cancelled, 1, changed.at);
    let runs = runs.unwrap_or_default();
    let finished = finished::of(shard, position, changed, JobState::Cancelled, target, 1, runs);
    finished::keep(shard, finished);
    finish(shard, target, 1);
}

/// Cancels every task of an array that waits.
fn cancel_waiting_tasks(shard: &mut Shard, position: Position, changed: &Changed) {
    let id = changed.job.job;
    let waiting = shard.jobs.get(id).map_or(0, Job::waiting);
    if waiting == 0 {
        return;
    }
    let job = shard.jobs.get_mut(id).expect("it was there a moment ago");
    let (set, before) = ((job.queue, job.job_set), job.standings());
    let Body::Array(array) = &mut job.body else { return };
    let queued = std::mem::take(&mut array.queued);
    array.counts.shift(JobState::Queued, JobState::Cancelled, waiting);
    // Tasks that ran before have a story of their own; the others go by ranges.
    let mut parts: Vec<(u32, u32, Vec<Run>)> = Vec::new();
    for (start, end) in queued.iter() {
        let mut from = start;
        for (&index, task) in array.touched.range_mut(start..end) {
            if from < index {
                parts.push((from, index - from, Vec::new()));
            }
            parts.push((index, 1, std::mem::take(&mut task.past)));
            from = index + 1;
        }
        if from < end {
            parts.push((from, end - from, Vec::new()));
        }
    }
    array.touched.retain(|_, task| task.active.is_some());
    let after = job.standings();
    standing::settle(shard, id, &before, &after);
    shard.sets.shift(set, JobState::Queued, JobState::Cancelled, waiting, changed.at);
    for (first, count, runs) in parts {
        let task = JobRef::task(id, first);
        let state = JobState::Cancelled;
        let finished = finished::of(shard, position, changed, state, task, count, runs);
        finished::keep(shard, finished);
    }
    finish(shard, changed.job, waiting);
}

fn reprioritize(shard: &mut Shard, id: JobId, priority: u32) {
    standing::change(shard, id, |job| job.priority = priority);
}

/// `n` jobs or tasks are done: a job leaves the table, a task its array.
fn finish(shard: &mut Shard, target: JobRef, n: u64) {
    let job = shard.jobs.get_mut(target.job).expect("what finishes was live");
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    queue.live -= n;
    shard.changed.insert(job.queue);
    let is_done = match &job.body {
        Body::Array(array) => array.counts.live() == 0,
        Body::Queued | Body::Active(_) => true,
    };
    if is_done && let Some(client_id) = job.client_id() {
        let key = client_key(shard.names.value(job.queue), client_id);
        shard.commands.finished(key, target.job);
    }
    match (&mut job.body, target.index) {
        // An array stays until history has all of it, so that it can be read as a whole; see
        // `finished::written`.
        (Body::Array(array), Some(index)) => {
            array.touched.remove(&index);
        }
        (Body::Array(_), None) => {}
        (Body::Queued | Body::Active(_), _) => drop_job(shard, target.job),
    }
}

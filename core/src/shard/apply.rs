//! Applying records: the only thing that changes a shard's state.

use super::commands::client_key;
use super::decide::is_to_be_stopped;
use super::job::{Active, Array, Body, Extra, Job};
use super::ranges::Ranges;
use super::sets::JobSet;
use super::standing::{self, Standings};
use super::{Shard, Stop, attempts, checkpoint, dependencies, finished, gangs, sets};
use crate::history::Finished;
use crate::id::{JobId, JobRef, Position, run_digest};
use crate::job::{Address, Counts, Exit, JobState, Usage};
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::record::{Change, Changed, Next, Record, Run, Submitted};

pub(super) fn apply(shard: &mut Shard, position: Position, record: &Record) {
    match record {
        Record::Submitted(submitted) => submit(shard, position, submitted),
        Record::Changed(changed) => change(shard, position, changed),
        Record::Command(done) => shard.commands.remember(done),
        Record::QueueClosed { queue, incarnation, .. } => {
            let closed = shard.closed.entry(queue.clone()).or_default();
            *closed = (*closed).max(*incarnation);
        }
        Record::Rested { at } => attempts::rested(shard, *at),
        Record::Forgotten { at } => {
            let jobs = &shard.jobs;
            shard.commands.forget(*at, |id| jobs.get(id).is_some_and(|job| job.live() > 0));
            sets::forget(shard, *at);
        }
        Record::HistoryPlanned(span) => shard.history_planned = Some(*span),
        Record::HistoryWritten(span) => finished::written(shard, span.through),
        Record::Job(live) => checkpoint::restore(shard, live),
        Record::Ends(ends) => {
            ends.iter().for_each(|(id, end)| shard.dependencies.remember(*id, *end));
        }
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
            Body::Array(Box::new(Array { count, queued, counts, ..Array::default() }))
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
    let shape = attempts::take_shape(shard, &submitted.shape);
    let plain = submitted.client_id.is_none()
        && !submitted.at_most_once
        && submitted.terms.is_none()
        && past.is_empty();
    let extra = (!plain).then(|| {
        let client_id = submitted.client_id.clone();
        let terms = submitted.terms.as_ref().map(|terms| Box::new((**terms).clone()));
        let at_most_once = submitted.at_most_once;
        Box::new(Extra { client_id, at_most_once, past, terms, ..Extra::default() })
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
    dependencies::wait(shard, submitted.job);
    (queue, job_set)
}

/// Takes a job out of the table and gives back what it used.
pub(super) fn drop_job(shard: &mut Shard, id: JobId) {
    if let Some(job) = shard.jobs.remove(id) {
        shard.names.give_back(job.queue, 1);
        shard.names.give_back(job.job_set, 1);
        let submitted = job.extra.as_ref().and_then(|extra| extra.submitted_shape);
        for shape in [Some(job.shape), submitted].into_iter().flatten() {
            attempts::give_back_shape(shard, shape);
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
                addresses: Vec::new(),
                ended: None,
            };
            lease(shard, changed, run);
        }
        Change::Pending { .. } => advance(shard, changed, JobState::Pending, &[]),
        Change::Running { addresses, .. } => {
            advance(shard, changed, JobState::Running, addresses);
        }
        Change::Succeeded { exit, .. } => {
            end_run(shard, position, changed, JobState::Succeeded, exit);
        }
        Change::Failed { exit, .. } => {
            // Runs that made room, or that go with their gang, do not know yet.
            if is_to_be_stopped(exit) || exit.is_preempted() {
                stop(shard, target);
            }
            end_run(shard, position, changed, JobState::Failed, exit)
        }
        Change::Requeued { exit, .. } => {
            end_run(shard, position, changed, JobState::Queued, exit);
        }
        Change::Preempted { reason, usage, .. } => {
            stop(shard, target);
            let exit = Exit { usage: *usage, ..Exit::preempted(reason) };
            end_run(shard, position, changed, JobState::Queued, &exit);
        }
        Change::Cancelled { usage, .. } => cancel(shard, position, changed, *usage),
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
    let key = (run.cluster.clone(), attempts::shape_of(shard, job, target.index));
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    *queue.held.entry(key).or_default() += 1;
    let cluster = shard.clusters.entry(run.cluster.clone()).or_default();
    cluster.runs.insert(target);
    cluster.digest ^= run_digest(target, run.attempt);
    standing::change(shard, target.job, |job| match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.leave(index);
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

fn advance(shard: &mut Shard, changed: &Changed, to: JobState, addresses: &[Address]) {
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
        run.addresses = addresses.to_vec();
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
fn end_run(shard: &mut Shard, position: Position, changed: &Changed, to: JobState, exit: &Exit) {
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
    run.ended = Some((changed.at, exit.clone()));
    release(shard, target, &run);
    let job = shard.jobs.get_mut(target.job).expect("it was there a moment ago");
    let runs = past_runs(job, target.index, run);
    if !to.is_final() {
        let next = next(job, target.index, &changed.change);
        attempts::set(shard, target, next, changed.at);
    }
    let own =
        shard.jobs.get(target.job).and_then(|job| attempts::own_shape(shard, job, target.index));
    let job = shard.jobs.get_mut(target.job).expect("it was there a moment ago");
    let rests = job.next(target.index).is_some_and(|next| next.not_before.is_some());
    let mut after = Standings::NONE;
    match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.counts.shift(from, to, 1);
            if !to.is_final() {
                array.enter(index, own, rests);
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
        finish(shard, target, 1, to);
    } else {
        keep_past(shard, target, runs);
    }
}

/// What is different with the next attempt: as the change says, or as it was with the one before.
fn next(job: &Job, index: Option<u32>, change: &Change) -> Next {
    match change {
        Change::Requeued { next, .. } => next.clone(),
        _ => Next { not_before: None, ..job.next(index).cloned().unwrap_or_default() },
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
    let key = (run.cluster.clone(), attempts::shape_of(shard, job, target.index));
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    shard.changed.insert(job.queue);
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

fn cancel(shard: &mut Shard, position: Position, changed: &Changed, usage: Option<Usage>) {
    let target = changed.job;
    let job = shard.jobs.get(target.job).expect("only live jobs are cancelled");
    if matches!(job.body, Body::Array(_)) && target.index.is_none() {
        cancel_waiting_tasks(shard, position, changed);
        return;
    }
    let set = (job.queue, job.job_set);
    if stop(shard, target) {
        let exit = Exit { usage, ..Exit::default() };
        end_run(shard, position, changed, JobState::Cancelled, &exit);
        return;
    }
    if mutant::is(Mutant::LeasesCancelled) && !waits(shard, target.job) {
        return;
    }
    let job = shard.jobs.get_mut(target.job).expect("it was there a moment ago");
    let (before, mut after) = (job.standings(), Standings::NONE);
    let runs = match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.leave(index);
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
    finish(shard, target, 1, JobState::Cancelled);
}

/// Whether a job waits for others: one of which it is known that it cannot start is cancelled until
/// it is.
fn waits(shard: &Shard, id: JobId) -> bool {
    shard.jobs.get(id).is_some_and(|job| !job.after().is_empty())
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
    let mut queued = std::mem::take(&mut array.queued);
    let apart = std::mem::take(&mut array.apart).into_values().flatten();
    let rest: Vec<u32> = apart.chain(std::mem::take(&mut array.resting)).collect();
    for index in rest {
        queued.insert(index);
    }
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
    let over = array.touched.iter().filter(|(_, task)| task.active.is_none());
    let over: Vec<u32> = over.map(|(index, _)| *index).collect();
    let after = job.standings();
    standing::settle(shard, id, &before, &after);
    for index in over {
        attempts::forget(shard, JobRef::task(id, index));
        if let Some(Body::Array(array)) = shard.jobs.get_mut(id).map(|job| &mut job.body) {
            array.touched.remove(&index);
        }
    }
    shard.sets.shift(set, JobState::Queued, JobState::Cancelled, waiting, changed.at);
    for (first, count, runs) in parts {
        let task = JobRef::task(id, first);
        let state = JobState::Cancelled;
        let finished = finished::of(shard, position, changed, state, task, count, runs);
        finished::keep(shard, finished);
    }
    finish(shard, changed.job, waiting, JobState::Cancelled);
}

fn reprioritize(shard: &mut Shard, id: JobId, priority: u32) {
    standing::change(shard, id, |job| job.priority = priority);
}

/// `n` jobs or tasks ended in that state: a job leaves the table, a task its array.
fn finish(shard: &mut Shard, target: JobRef, n: u64, end: JobState) {
    attempts::forget(shard, target);
    let job = shard.jobs.get_mut(target.job).expect("what finishes was live");
    let queue = shard.queues.get_mut(&job.queue).expect("a job's queue is known");
    queue.live -= n;
    shard.changed.insert(job.queue);
    let (is_done, end) = match &job.body {
        Body::Array(array) => (array.counts.live() == 0, JobState::of_array(&array.counts)),
        Body::Queued | Body::Active(_) => (true, end),
    };
    if is_done && let Some(client_id) = job.client_id() {
        let key = client_key(shard.names.value(job.queue), client_id);
        shard.commands.finished(key, target.job);
    }
    // An array stays until history has all of it, so that it can be read as a whole; see
    // `finished::written`.
    let stays = match (&mut job.body, target.index) {
        (Body::Array(array), Some(index)) => {
            array.touched.remove(&index);
            true
        }
        (Body::Array(_), None) => true,
        (Body::Queued | Body::Active(_), _) => false,
    };
    if is_done {
        dependencies::leave(shard, target.job);
        if !stays {
            drop_job(shard, target.job);
        }
        dependencies::ended(shard, target.job, end);
    }
}

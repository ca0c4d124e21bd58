//! Cancelling and reprioritizing: by id, or all of a job set.

use std::collections::BTreeSet;

use super::{Context, Shard, Writer, gangs};
use crate::Name;
use crate::command::{Outcome, Target};
use crate::id::{JobId, JobRef};
use crate::job::{JobState, StateSet};
use crate::record::{Change, Changed, Record};
use crate::shard::job::{Body, Job};

pub(super) fn cancel(
    shard: &mut Shard,
    target: Target,
    reason: Option<&Name>,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut result = Result::default();
    let states = match &target {
        Target::Jobs(_) => StateSet::ALL,
        Target::JobSet { states, .. } => *states,
    };
    for job in wanted(shard, target, &mut result) {
        let change = Change::Cancelled { reason: reason.cloned(), usage: None };
        let parts = live_parts(shard, job, states);
        let others = if parts.is_empty() { Vec::new() } else { gangs::others(shard, job, &change) };
        for (part, count) in parts {
            result.changed += u64::from(count);
            write(shard, part, count, change.clone(), ctx, writer);
        }
        for (other, change) in others {
            for (part, count) in live_parts(shard, other, StateSet::ALL) {
                result.changed += u64::from(count);
                write(shard, part, count, change.clone(), ctx, writer);
            }
        }
    }
    result.outcome()
}

/// Cancels the jobs that wait for what can no longer be, those that wait for them, and so on.
pub(in crate::shard) fn cancel_doomed(shard: &mut Shard, ctx: Context, writer: &mut Writer<'_>) {
    while let Some((id, reason)) = shard.dependencies.next_doomed() {
        cancel_waiting(shard, id, &reason, ctx, writer);
    }
}

/// Cancels a job that never ran.
pub(super) fn cancel_waiting(
    shard: &mut Shard,
    id: JobId,
    reason: &Name,
    ctx: Context,
    writer: &mut Writer<'_>,
) {
    let change = Change::Cancelled { reason: Some(reason.clone()), usage: None };
    for (part, count) in live_parts(shard, JobRef::whole(id), StateSet::ALL) {
        write(shard, part, count, change.clone(), ctx, writer);
    }
}

pub(super) fn reprioritize(
    shard: &mut Shard,
    target: Target,
    priority: u32,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut result = Result::default();
    let states = match &target {
        Target::Jobs(_) => StateSet::ALL,
        Target::JobSet { states, .. } => *states,
    };
    let mut done: BTreeSet<JobId> = BTreeSet::new();
    for job in wanted(shard, target, &mut result) {
        // A task has its array's priority.
        if job.index.is_some() {
            result.missing.push(job);
            continue;
        }
        if live_parts(shard, job, states).is_empty() || done.contains(&job.job) {
            continue;
        }
        // A gang has one priority.
        let members = gangs::with_members(shard, job.job);
        if members.len() > 1 {
            done.extend(members.iter().copied());
        }
        for member in members {
            let live = shard.jobs.get(member).map_or(0, Job::live);
            let count = u32::try_from(live).unwrap_or(u32::MAX);
            result.changed += u64::from(count);
            let change = Change::Reprioritized { priority };
            write(shard, JobRef::whole(member), count, change, ctx, writer);
        }
    }
    result.outcome()
}

#[derive(Default)]
struct Result {
    changed: u64,
    finished: Vec<JobRef>,
    missing: Vec<JobRef>,
}

impl Result {
    fn outcome(self) -> Outcome {
        Outcome::Applied { changed: self.changed, finished: self.finished, missing: self.missing }
    }
}

/// The live jobs (or tasks) that a target names; what it names in vain goes to `result`.
fn wanted(shard: &Shard, target: Target, result: &mut Result) -> Vec<JobRef> {
    match target {
        Target::Jobs(jobs) => {
            let mut live = Vec::with_capacity(jobs.len());
            for job in jobs {
                match shard.jobs.get(job.job) {
                    Some(found) if is_live(found, job.index) => live.push(job),
                    Some(found) if exists(found, job.index) => result.finished.push(job),
                    Some(_) => result.missing.push(job),
                    // History may know it: whoever asks looks there.
                    None if shard.finished_of(job).is_some() => result.finished.push(job),
                    None => result.missing.push(job),
                }
            }
            live
        }
        Target::JobSet { queue, job_set, .. } => {
            let numbers = (shard.names.number(&queue), shard.names.number(&job_set));
            let (Some(queue), Some(job_set)) = numbers else { return Vec::new() };
            shard
                .jobs
                .iter_from(JobId::default())
                .filter(|(_, job)| job.queue == queue && job.job_set == job_set)
                .map(|(id, _)| JobRef::whole(id))
                .collect()
        }
    }
}

fn is_live(job: &Job, index: Option<u32>) -> bool {
    match (&job.body, index) {
        (Body::Array(array), None) => array.counts.live() > 0,
        (_, index) => job.state(index).is_some(),
    }
}

fn exists(job: &Job, index: Option<u32>) -> bool {
    match (&job.body, index) {
        (Body::Array(array), Some(index)) => index < array.count,
        (_, index) => index.is_none(),
    }
}

/// The live parts of a job in one of the states: itself, or an array's tasks on clusters one by one
/// and its waiting tasks together.
fn live_parts(shard: &Shard, target: JobRef, states: StateSet) -> Vec<(JobRef, u32)> {
    let Some(job) = shard.jobs.get(target.job) else { return Vec::new() };
    let Body::Array(array) = &job.body else {
        let wanted = job.state(target.index).filter(|state| states.contains(*state));
        return wanted.map(|_| (target, 1)).into_iter().collect();
    };
    if target.index.is_some() {
        let wanted = job.state(target.index).filter(|state| states.contains(*state));
        return wanted.map(|_| (target, 1)).into_iter().collect();
    }
    let mut parts: Vec<(JobRef, u32)> = array
        .touched
        .iter()
        .filter(|(_, task)| task.active.as_ref().is_some_and(|(s, _)| states.contains(*s)))
        .map(|(index, _)| (JobRef::task(target.job, *index), 1))
        .collect();
    let waiting = u32::try_from(array.counts[JobState::Queued]).unwrap_or(u32::MAX);
    if waiting > 0 && states.contains(JobState::Queued) {
        parts.push((target, waiting));
    }
    parts
}

fn write(
    shard: &mut Shard,
    job: JobRef,
    count: u32,
    change: Change,
    ctx: Context,
    writer: &mut Writer<'_>,
) {
    let Some((queue, job_set)) = shard.names_of(job.job) else { return };
    let changed = Changed { job, queue, job_set, at: ctx.now, count, change };
    writer.write(shard, Record::Changed(changed));
}

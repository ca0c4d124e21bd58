//! Taking jobs in. A job that came before, by its key and line or by its client id, keeps its id.

use super::{Context, Shard, Writer, cancel, gangs, resolve};
use crate::Name;
use crate::command::{IdRun, NewJob, Outcome, Refusal, Submit};
use crate::id::{CommandId, JobId, JobRef};
use crate::mutant::{self, Mutant};
use crate::record::{Done, Record, Submitted};
use crate::shard::commands::client_key;

pub(super) fn submit(
    shard: &mut Shard,
    id: CommandId,
    submit: Submit,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    if let Some(refusal) = refusal(shard, &submit, 0) {
        return Outcome::Refused(refusal);
    }
    let Submit { queue, job_set, key, jobs, .. } = submit;
    let mut runs: Vec<IdRun> = Vec::new();
    for job in jobs {
        let line = job.line;
        let before = known(shard, key, &queue, &job);
        let job_id = before.unwrap_or_else(|| next_id(shard, ctx));
        if before.is_none() {
            let (terms, doom) = resolve::resolve(shard, &queue, job.terms);
            let submitted = Submitted {
                job: job_id,
                queue: queue.clone(),
                job_set: job_set.clone(),
                client_id: job.client_id,
                priority: job.priority,
                count: job.count,
                at_most_once: job.at_most_once,
                terms,
                shape: job.shape,
                payload: job.payload,
            };
            writer.write(shard, Record::Submitted(Box::new(submitted)));
            if let Some(reason) = doom {
                cancel::cancel_waiting(shard, job_id, &reason, ctx, writer);
            }
        }
        extend(&mut runs, line, job_id);
    }
    let outcome = Outcome::Submitted(runs);
    if writer.records.len() > writer.base {
        let done = Done { id, at: ctx.now, key, outcome: outcome.clone() };
        writer.write(shard, Record::Command(done));
    }
    outcome
}

/// Why these jobs are not taken in, where `before` others of the same submission would be in before
/// them.
pub(in crate::shard) fn refusal(shard: &Shard, submit: &Submit, before: u64) -> Option<Refusal> {
    let Submit { queue, job_set, key, jobs, queued_max, incarnation } = submit;
    if shard.closed.get(queue).is_some_and(|closed| closed >= incarnation) {
        return Some(Refusal::QueueClosed { queue: queue.clone() });
    }
    let reused = key.and_then(|key| reused(shard, key, queue, job_set, jobs));
    let full = || full(shard, *key, queue, (jobs, before), (*queued_max)?);
    let misfit = || {
        let new = jobs.iter().filter(|job| known(shard, *key, queue, job).is_none());
        gangs::misfit(shard, queue, new)
    };
    let unmet = || {
        let is_new = |job: &NewJob| known(shard, *key, queue, job).is_none();
        resolve::refuse_unknown(shard, queue, jobs, is_new)
    };
    reused.or_else(full).or_else(misfit).or_else(unmet)
}

/// How many jobs of a submission, tasks one by one, did not come before.
pub(in crate::shard) fn new_jobs(
    shard: &Shard,
    key: Option<u128>,
    queue: &Name,
    jobs: &[NewJob],
) -> u64 {
    let new = jobs.iter().filter(|job| known(shard, key, queue, job).is_none());
    new.map(|job| u64::from(job.count.unwrap_or(1))).sum()
}

fn known(shard: &Shard, key: Option<u128>, queue: &str, job: &NewJob) -> Option<JobId> {
    let by_line = key.and_then(|key| shard.commands.line(key, job.line));
    by_line.or_else(|| {
        let client_id = job.client_id.as_ref()?;
        shard.commands.client(client_key(queue, client_id))
    })
}

/// More jobs would wait than may. Those that came before do not count: they are in, or were.
fn full(
    shard: &Shard,
    key: Option<u128>,
    queue: &Name,
    (jobs, before): (&[NewJob], u64),
    max: u64,
) -> Option<Refusal> {
    let more = new_jobs(shard, key, queue, jobs);
    let number = shard.names.number(queue);
    let waiting = number.and_then(|number| shard.queues.get(&number));
    let queued = waiting.map_or(0, |queue| queue.waiting()).saturating_add(before);
    let is_full = more > 0 && queued.saturating_add(more) > max;
    is_full.then(|| Refusal::QueueFull { queue: queue.clone(), queued, more, max })
}

/// A line that came before under the key as a job that cannot be the same; told from what is in
/// memory of a job that lives or has just finished.
fn reused(
    shard: &Shard,
    key: u128,
    queue: &str,
    job_set: &Name,
    jobs: &[NewJob],
) -> Option<Refusal> {
    jobs.iter().find_map(|new| {
        let job = shard.commands.line(key, new.line)?;
        // A client id stands for its job, whatever is said of it.
        let by_client_id = new.client_id.as_deref().map(|id| client_key(queue, id));
        if by_client_id.is_some_and(|key| shard.commands.client(key) == Some(job)) {
            return None;
        }
        let whole = JobRef::whole(job);
        let is_same = if let Some(live) = shard.job(whole) {
            let known = shard.jobs.get(job);
            let at_most_once = known.is_some_and(|job| job.at_most_once());
            let shape = known.map(|job| shard.shapes.value(job.submitted_shape()));
            live.job_set == *job_set
                && live.client_id == new.client_id
                && shape == Some(&new.shape)
                && live.array.map(|(count, _)| count) == new.count
                && at_most_once == new.at_most_once
        } else if let Some(done) = shard.finished_of(whole) {
            done.job_set == *job_set && done.client_id == new.client_id && done.shape == new.shape
        } else {
            true
        };
        (!is_same).then_some(Refusal::KeyReused { line: new.line + 1, job })
    })
}

/// The next id: of this moment if the clock moved on, else right behind the last one.
fn next_id(shard: &Shard, ctx: Context) -> JobId {
    // Half of the range is room to count up from where the random number starts.
    let fresh = JobId::new(ctx.now, shard.id, ctx.random >> 1);
    let last = shard.last_id;
    let moved = ctx.now > last.submitted_at();
    if moved || (mutant::is(Mutant::IdsGoBack) && ctx.now < last.submitted_at()) {
        fresh
    } else if last.room() > 0 {
        last.plus(1)
    } else {
        JobId::new(crate::time::Timestamp(last.submitted_at().0 + 1), shard.id, ctx.random >> 1)
    }
}

fn extend(runs: &mut Vec<IdRun>, line: u64, id: JobId) {
    if let Some(last) = runs.last_mut()
        && last.line + u64::from(last.count) == line
        && last.first.room() >= u64::from(last.count)
        && last.first.plus(u64::from(last.count)) == id
        && last.count < u32::MAX
    {
        last.count += 1;
        return;
    }
    runs.push(IdRun { line, first: id, count: 1 });
}

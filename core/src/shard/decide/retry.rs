//! What becomes of a job whose run did not end well, by its policy or that of its queue.

use std::sync::Arc;

use super::{Shard, gangs};
use crate::Name;
use crate::id::JobRef;
use crate::job::Exit;
use crate::mutant::{self, Mutant};
use crate::record::{Change, Next};
use crate::resources::MEMORY;
use crate::retry::{self, Ending, Fate, Growth, Policy, Retry};
use crate::shape::Shape;
use crate::shard::attempts;
use crate::shard::gangs::AtMostOnce;
use crate::time::Timestamp;

/// The change of a job whose run ended so.
pub(super) fn ended(
    shard: &Shard,
    target: JobRef,
    attempt: u32,
    (ending, mut exit): (Ending, Exit),
    now: Timestamp,
) -> Change {
    let job = shard.jobs.get(target.job);
    let once = AtMostOnce::default().is(shard, target.job) && !mutant::is(Mutant::TriesAgain);
    let policy = policy(shard, target);
    let before = job.and_then(|job| job.next(target.index)).cloned().unwrap_or_default();
    let used = if mutant::is(Mutant::RetriesForEver) { 0 } else { before.retries };
    let unstarted =
        job.filter(|_| ending == Ending::Returned).map(|job| job.unstarted(target.index));
    let not_before = unstarted.and_then(retry::rest).map(|rest| now.plus(rest));
    let again = Next { not_before, ..before };
    // The members of a gang have their places together.
    let is_of_node = retry::blames_node(ending, &exit) && !is_of_gang(shard, target);
    let members = gangs::with_members(shard, target.job).len();
    // Of a gang others may have started, and may not run again.
    let is_over = members > 1 && once;
    match retry::fate(policy.as_deref(), ending, &exit, used, once) {
        Fate::WaitsAgain if is_over => Change::Failed { attempt, exit },
        Fate::Fails => Change::Failed { attempt, exit },
        Fate::UsedUp(limit) => {
            let said = exit.message.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
            let message = format!("retries are used up, {used} of {limit}{said}");
            exit.message = Some(message.into());
            Change::Failed { attempt, exit }
        }
        Fate::WaitsAgain => {
            let next = Next { shape: shape(shard, target, None, is_of_node), ..again };
            Change::Requeued { attempt, exit, next }
        }
        Fate::Retried(retry) => {
            let avoids = retry.other_node || is_of_node;
            let shape = shape(shard, target, retry.memory, avoids);
            let next = next(retry, Next { shape, ..again }, now);
            Change::Requeued { attempt, exit, next }
        }
    }
}

/// The change of a job whose run makes room for others.
pub(super) fn preempted(shard: &Shard, target: JobRef, attempt: u32, reason: &Name) -> Change {
    let exit = Exit::preempted(reason);
    let policy = policy(shard, target);
    match retry::fate(policy.as_deref(), Ending::Preempted, &exit, 0, false) {
        Fate::Fails | Fate::UsedUp(_) => Change::Failed { attempt, exit },
        Fate::WaitsAgain | Fate::Retried(_) => {
            Change::Preempted { attempt, reason: reason.clone(), usage: None }
        }
    }
}

fn is_of_gang(shard: &Shard, target: JobRef) -> bool {
    shard.jobs.get(target.job).is_some_and(|job| shard.shapes.value(job.shape).gang.is_some())
}

/// The policy of a job: its own, or that of its queue. Gangs have none.
fn policy(shard: &Shard, target: JobRef) -> Option<Arc<Policy>> {
    let job = shard.jobs.get(target.job).filter(|_| !is_of_gang(shard, target))?;
    let own = job.terms().and_then(|terms| terms.retry.clone());
    own.or_else(|| shard.policies.get(shard.names.value(job.queue)).cloned())
}

/// When the next attempt may come, by the rule that lets it be, and not before it may anyway.
fn next(retry: &Retry, before: Next, now: Timestamp) -> Next {
    let wait = retry.backoff.map(|backoff| backoff.after(before.retries));
    let wait = wait.filter(|wait| !wait.is_zero()).map(|wait| now.plus(wait));
    let not_before = before.not_before.max(wait);
    Next { retries: before.retries.saturating_add(1), not_before, shape: before.shape }
}

/// The shape of the next attempt, if that is another than it was submitted with: with more memory,
/// away from the node of the run at hand.
fn shape(
    shard: &Shard,
    target: JobRef,
    memory: Option<Growth>,
    avoids: bool,
) -> Option<Arc<Shape>> {
    let job = shard.jobs.get(target.job)?;
    let (_, run) = job.active(target.index)?;
    let before = shard.shapes.value(attempts::shape_of(shard, job, target.index));
    let mut next = Shape::clone(before);
    if let Some(growth) = memory {
        next.request.set(MEMORY.into(), growth.of(next.request.get(MEMORY)));
    }
    if avoids {
        next.keep_away(&run.cluster, &run.node);
    }
    let is_submitted = next == **shard.shapes.value(job.submitted_shape());
    (!is_submitted).then(|| if next == **before { Arc::clone(before) } else { Arc::new(next) })
}

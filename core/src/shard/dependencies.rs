//! Who depends on whom: jobs that wait for others to end, and how those ended that did so last.
//!
//! When a job ends, what waits for it is told: a dependency that is met is struck off, and who has
//! none left stands in the order of its queue. Who waits for what can no longer be is *doomed*: the
//! command at hand cancels it before it is done, so that no command finds one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{Body, Job};
use super::{Shard, standing};
use crate::Name;
use crate::id::{JobId, JobRef};
use crate::job::JobState;
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::terms::{Dependency, On};

/// What is known of dependencies.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// Jobs that wait for a job.
    waiting: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs that cannot run any more, and why.
    doomed: BTreeMap<JobId, Name>,
    /// How jobs ended, of those that did so last.
    ends: BTreeMap<JobId, JobState>,
    /// The same in the order in which they did.
    ended: VecDeque<JobId>,
}

impl Dependencies {
    /// One that is doomed and not cancelled yet.
    pub(super) fn next_doomed(&self) -> Option<(JobId, Name)> {
        self.doomed.first_key_value().map(|(id, reason)| (*id, reason.clone()))
    }

    /// How the jobs ended that did so last, the oldest first.
    pub(super) fn ends(&self) -> Vec<(JobId, JobState)> {
        self.ended.iter().filter_map(|id| Some((*id, *self.ends.get(id)?))).collect()
    }

    /// Remembers how a job ended.
    pub(super) fn remember(&mut self, id: JobId, end: JobState) {
        if self.ends.insert(id, end).is_none() {
            self.ended.push_back(id);
        }
        while self.ended.len() > limits::ENDS_REMEMBERED_MAX {
            let oldest = self.ended.pop_front();
            oldest.and_then(|oldest| self.ends.remove(&oldest));
        }
    }
}

/// A job that depends on others begins to wait for them.
pub(super) fn wait(shard: &mut Shard, id: JobId) {
    let Some(job) = shard.jobs.get(id) else { return };
    for on in ids(job.after()) {
        shard.dependencies.waiting.entry(on).or_default().insert(id);
    }
}

/// A job is over, whoever it waited for: nobody has to tell it any more.
pub(super) fn leave(shard: &mut Shard, id: JobId) {
    shard.dependencies.doomed.remove(&id);
    let Some(terms) = shard.jobs.get_mut(id).and_then(Job::terms_mut) else { return };
    for on in ids(&std::mem::take(&mut terms.after)) {
        if let Some(waiting) = shard.dependencies.waiting.get_mut(&on) {
            waiting.remove(&id);
            if waiting.is_empty() {
                shard.dependencies.waiting.remove(&on);
            }
        }
    }
}

/// A job, or all of an array, has ended: those that wait for it are told.
pub(super) fn ended(shard: &mut Shard, id: JobId, end: JobState) {
    shard.dependencies.remember(id, end);
    let is_it = |dependency: &Dependency| dependency.on == On::Job(id);
    for waiting in shard.dependencies.waiting.remove(&id).unwrap_or_default() {
        let Some(job) = shard.jobs.get(waiting) else { continue };
        let is_missed =
            |dependency: &&Dependency| is_it(dependency) && !dependency.when.is_met_by(end);
        let missed = job.after().iter().find(is_missed).cloned();
        if let Some(missed) = missed.filter(|_| !mutant::is(Mutant::StartsAfterFailure)) {
            let reason = reason(id, &missed, end);
            shard.dependencies.doomed.entry(waiting).or_insert(reason);
        } else {
            standing::change(shard, waiting, |job| {
                if let Some(terms) = job.terms_mut() {
                    terms.after.retain(|dependency| !is_it(dependency));
                }
            });
        }
    }
}

/// Why a job is cancelled that waited for another to end in another way.
pub(super) fn reason(on: JobId, missed: &Dependency, end: JobState) -> Name {
    let verb = missed.when.verb();
    let ended = if end == JobState::Cancelled { "was cancelled" } else { end.name() };
    format!("it waited for job `{on}` to {verb}, which {ended}").into()
}

/// How a job ended that others may depend on: `Ok(None)` when it lives, `Err` when it is not known
/// in that queue.
pub(super) fn end_of(shard: &Shard, queue: &str, id: JobId) -> Result<Option<JobState>, ()> {
    if let Some(job) = shard.jobs.get(id) {
        let is_of_queue = **shard.names.value(job.queue) == *queue;
        return if is_of_queue { Ok(final_state(job)) } else { Err(()) };
    }
    if let Some(done) = shard.finished_of(JobRef::whole(id)) {
        return if *done.queue == *queue { Ok(Some(done.state)) } else { Err(()) };
    }
    shard.dependencies.ends.get(&id).copied().map(Some).ok_or(())
}

/// The state of a job in the table that is over: only an array stays there.
fn final_state(job: &Job) -> Option<JobState> {
    match &job.body {
        Body::Array(array) if array.counts.live() == 0 => Some(JobState::of_array(&array.counts)),
        Body::Queued | Body::Active(_) | Body::Array(_) => None,
    }
}

fn ids(after: &[Dependency]) -> Vec<JobId> {
    let id = |dependency: &Dependency| match dependency.on {
        On::Job(id) => Some(id),
        On::Client(_) => None,
    };
    after.iter().filter_map(id).collect()
}

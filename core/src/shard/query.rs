//! Reading a shard: jobs, job sets, runs of a cluster.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::job::{Body, Job};
use super::{Shard, attempts};
use crate::Name;
use crate::history::Finished;
use crate::id::{JobId, JobRef, Position};
use crate::job::{Counts, JobState, StateSet, Usage};
use crate::record::{HistorySpan, Run};
use crate::shape::{Shape, ShapeKey};
use crate::terms::HeldBack;

/// A live job, task or array.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Which.
    pub job: JobRef,
    /// Its queue.
    pub queue: Name,
    /// Its job set.
    pub job_set: Name,
    /// What the submitter called it.
    pub client_id: Option<Name>,
    /// Its state; an array's is described by `counts`.
    pub state: JobState,
    /// Its priority.
    pub priority: u32,
    /// Its shape.
    pub shape: Arc<Shape>,
    /// Its runs, the active one last.
    pub runs: Vec<Run>,
    /// What the active run was seen to use so far, where its cluster measures that.
    pub used: Option<Usage>,
    /// Tasks, and how many are in each state, of an array as a whole.
    pub array: Option<(u32, Counts)>,
    /// Why it is not in the order of its queue though it waits, if that is so.
    pub held_back: Option<HeldBack>,
    /// Where its payload lies in the log.
    pub spec: Position,
}

/// A job set.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSetView {
    /// Its name.
    pub job_set: Name,
    /// The first record that spoke of it.
    pub first: Position,
    /// How many of its jobs are in each state.
    pub counts: Counts,
}

/// A run that the shard believes in.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The job or task.
    pub job: JobRef,
    /// Its state.
    pub state: JobState,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: Name,
    /// The job's shape.
    pub shape: Arc<Shape>,
}

/// Which live jobs a listing wants.
#[derive(Debug, Clone)]
pub struct JobFilter {
    /// Only of this queue.
    pub queue: Option<Name>,
    /// Only of this job set.
    pub job_set: Option<Name>,
    /// Only in one of these states.
    pub states: StateSet,
}

impl Shard {
    /// A live job, task or array; an array also when it is done.
    #[must_use]
    pub fn job(&self, job: JobRef) -> Option<JobView> {
        let found = self.jobs.get(job.job)?;
        match (&found.body, job.index) {
            (Body::Array(array), None) => {
                Some(self.view(job, found, JobState::of_array(&array.counts), Vec::new()))
            }
            (_, index) => Some(self.view(job, found, found.state(index)?, runs_of(found, index))),
        }
    }

    /// A finished job or task that is still in memory; its `job` and `count` are those of what was
    /// asked.
    #[must_use]
    pub fn finished_of(&self, job: JobRef) -> Option<Finished> {
        if let Some(found) = self.finished.get(&job) {
            return Some(Finished { count: 1, ..(**found).clone() });
        }
        let index = job.index?;
        let (first, found) = self.finished.range(..=job).next_back()?;
        let start = first.index?;
        let inside = first.job == job.job && index - start < found.count;
        inside.then(|| Finished { job, count: 1, ..(**found).clone() })
    }

    /// Live jobs, and live tasks one by one, behind `after` in the order of ids and indices.
    #[must_use]
    pub fn live_jobs(
        &self,
        filter: &JobFilter,
        after: Option<JobRef>,
        limit: usize,
    ) -> Vec<JobView> {
        let Some(matches) = self.matcher(filter) else { return Vec::new() };
        let mut found = Vec::new();
        let from = after.map_or(JobId::default(), |after| after.job);
        for (id, job) in self.jobs.iter_from(from) {
            if !matches(job) {
                continue;
            }
            let whole = JobRef::whole(id);
            match &job.body {
                Body::Array(_) => self.push_tasks(id, job, filter.states, after, limit, &mut found),
                Body::Queued | Body::Active(_) => {
                    let state = job.state(None).expect("a job that is no array has a state");
                    if filter.states.contains(state) && after.is_none_or(|after| whole > after) {
                        found.push(self.view(whole, job, state, runs_of(job, None)));
                    }
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        found
    }

    fn matcher(&self, filter: &JobFilter) -> Option<impl Fn(&Job) -> bool + use<>> {
        let number = |name: &Option<Name>| match name {
            Some(name) => self.names.number(name).map(Some),
            None => Some(None),
        };
        let (queue, job_set) = (number(&filter.queue)?, number(&filter.job_set)?);
        Some(move |job: &Job| {
            queue.is_none_or(|queue| job.queue == queue)
                && job_set.is_none_or(|job_set| job.job_set == job_set)
        })
    }

    fn push_tasks(
        &self,
        id: JobId,
        job: &Job,
        states: StateSet,
        after: Option<JobRef>,
        limit: usize,
        found: &mut Vec<JobView>,
    ) {
        let Body::Array(array) = &job.body else { return };
        let from = match after {
            Some(after) if after.job == id => after.index.map_or(0, |index| index + 1),
            Some(_) | None => 0,
        };
        let room = limit.saturating_sub(found.len());
        let queued = array
            .queued
            .iter()
            .filter(|_| states.contains(JobState::Queued))
            .flat_map(|(start, end)| start.max(from)..end.max(from))
            .take(room);
        let touched = array.touched.range(from..).filter_map(|(index, task)| {
            let state = task.active.as_ref().map_or(JobState::Queued, |(state, _)| *state);
            (states.contains(state) && !array.queued.contains(*index)).then_some(*index)
        });
        let mut indices: Vec<u32> = queued.chain(touched.take(room)).collect();
        indices.sort_unstable();
        for index in indices.into_iter().take(room) {
            let state = job.state(Some(index)).expect("it was found by its state");
            found.push(self.view(JobRef::task(id, index), job, state, runs_of(job, Some(index))));
        }
    }

    fn view(&self, job: JobRef, found: &Job, state: JobState, runs: Vec<Run>) -> JobView {
        let array = match (&found.body, job.index) {
            (Body::Array(array), None) => Some((array.count, array.counts)),
            _ => None,
        };
        JobView {
            job,
            queue: self.names.value(found.queue).clone(),
            job_set: self.names.value(found.job_set).clone(),
            client_id: found.client_id().cloned(),
            state,
            priority: found.priority,
            shape: self.shapes.value(attempts::shape_of(self, found, job.index)).clone(),
            runs,
            used: self.measured.of(job),
            array,
            held_back: Some(found)
                .filter(|_| state == JobState::Queued)
                .and_then(|found| found.held_back(job.index).or_else(|| self.rest_of_gang(found))),
            spec: found.spec(),
        }
    }

    /// Finished jobs that are still in memory, tasks by ranges, in the order of ids.
    pub fn finished(&self) -> impl Iterator<Item = &Arc<Finished>> {
        self.finished.values()
    }

    /// Where the history that is written ends.
    #[must_use]
    pub fn history_through(&self) -> Position {
        self.history_through
    }

    /// History that was planned and is not known to be written.
    #[must_use]
    pub fn history_planned(&self) -> Option<HistorySpan> {
        self.history_planned
    }

    /// Jobs that finished within a span of the log, in its order.
    #[must_use]
    pub fn finished_in(&self, span: HistorySpan) -> Vec<Arc<Finished>> {
        let from = Bound::Excluded((span.after, JobRef::task(LAST, u32::MAX)));
        let through = Bound::Included((span.through, JobRef::task(LAST, u32::MAX)));
        let keys = self.finished_at.range((from, through)).map(|(_, job)| job);
        keys.filter_map(|job| self.finished.get(job).cloned()).collect()
    }

    /// How many finished jobs (ranges of tasks count once) wait for history.
    #[must_use]
    pub fn finished_len(&self) -> usize {
        self.finished.len()
    }

    /// Job sets of a queue by name.
    #[must_use]
    pub fn job_sets(&self, queue: &str) -> Vec<JobSetView> {
        let Some(queue) = self.names.number(&queue.into()) else { return Vec::new() };
        let sets = self.sets.by_key.range((queue, 0)..=(queue, u32::MAX));
        let mut found: Vec<JobSetView> = sets
            .map(|(&(_, name), set)| JobSetView {
                job_set: self.names.value(name).clone(),
                first: set.first,
                counts: set.counts,
            })
            .collect();
        found.sort_unstable_by(|a, b| a.job_set.cmp(&b.job_set));
        found
    }

    /// One job set.
    #[must_use]
    pub fn job_set(&self, queue: &str, job_set: &str) -> Option<JobSetView> {
        let key = (self.names.number(&queue.into())?, self.names.number(&job_set.into())?);
        let set = self.sets.by_key.get(&key)?;
        Some(JobSetView { job_set: job_set.into(), first: set.first, counts: set.counts })
    }

    /// How many runs the shard believes a cluster has, and the digest of them.
    #[must_use]
    pub fn cluster_runs(&self, cluster: &str) -> (u64, u64) {
        self.clusters.get(cluster).map_or((0, 0), |known| (known.runs.len() as u64, known.digest))
    }

    /// Clusters that the shard believes to have runs.
    pub fn clusters(&self) -> impl Iterator<Item = &Name> {
        self.clusters.keys()
    }

    /// Runs that the shard believes a cluster has, behind `after`.
    #[must_use]
    pub fn runs(&self, cluster: &str, after: Option<JobRef>, limit: usize) -> Vec<RunView> {
        let Some(known) = self.clusters.get(cluster) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = known.runs.range((from, Bound::Unbounded)).take(limit);
        jobs.filter_map(|&job| {
            let found = self.jobs.get(job.job)?;
            let (state, run) = found.active(job.index)?;
            let shape = self.shapes.value(attempts::shape_of(self, found, job.index)).clone();
            Some(RunView { job, state, attempt: run.attempt, node: run.node.clone(), shape })
        })
        .collect()
    }

    /// Where the payload of a live job lies, with its queue, job set and number of tasks.
    #[must_use]
    pub fn payload_place(&self, job: JobId) -> Option<(Position, Name, Name, Option<u32>)> {
        let found = self.jobs.get(job)?;
        let (queue, job_set) = self.names_of(job)?;
        let count = match &found.body {
            Body::Array(array) => Some(array.count),
            Body::Queued | Body::Active(_) => None,
        };
        Some((found.spec(), queue, job_set, count))
    }

    /// How many jobs live, tasks one by one.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.queues.values().map(|queue| queue.live).sum()
    }

    /// How many entries the table of live jobs has: jobs and arrays.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn names_of(&self, job: JobId) -> Option<(Name, Name)> {
        let found = self.jobs.get(job)?;
        Some((self.names.value(found.queue).clone(), self.names.value(found.job_set).clone()))
    }

    pub(super) fn shape_number(&self, key: ShapeKey) -> Option<u32> {
        self.shape_keys.get(&key).copied()
    }

    /// Every live job's state, for checks: jobs and tasks one by one would be too many, so by job
    /// set.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<(Name, Name), Counts> {
        let name = |number: u32| self.names.value(number).clone();
        self.sets.by_key.iter().map(|((q, s), set)| ((name(*q), name(*s)), set.counts)).collect()
    }
}

/// Above every id of a shard.
const LAST: JobId = JobId::MAX;

fn runs_of(job: &Job, index: Option<u32>) -> Vec<Run> {
    let mut runs = job.past(index).to_vec();
    runs.extend(job.active(index).map(|(_, run)| run.clone()));
    runs
}

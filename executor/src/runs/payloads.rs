//! Which runs wait for the payload of their job, which payloads are being fetched, and the payloads
//! of arrays, kept because more of their tasks will come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_api::bus::JobPayload;
use muster_core::id::{JobId, ShardId};

use super::RunKey;
use crate::limits;

/// Payloads that are wanted or kept.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    waiting: BTreeMap<JobId, BTreeSet<RunKey>>,
    wanted: BTreeMap<ShardId, BTreeSet<JobId>>,
    arrays: BTreeMap<JobId, (u64, Arc<JobPayload>)>,
    used: BTreeMap<u64, JobId>,
    uses: u64,
}

impl Payloads {
    /// The payload of an array's task, if it is at hand; otherwise the run waits for it.
    pub(super) fn get_or_wait(&mut self, key: RunKey) -> Option<Arc<JobPayload>> {
        let job = key.job.job;
        if let Some((_, payload)) = self.arrays.get(&job) {
            let payload = Arc::clone(payload);
            self.keep(job, Arc::clone(&payload));
            return Some(payload);
        }
        let waiting = self.waiting.entry(job).or_default();
        if waiting.is_empty() {
            self.wanted.entry(job.shard()).or_default().insert(job);
        }
        waiting.insert(key);
        None
    }

    /// The run waits no longer.
    pub(super) fn forget(&mut self, key: &RunKey) {
        let job = key.job.job;
        let Some(waiting) = self.waiting.get_mut(&job) else { return };
        waiting.remove(key);
        if waiting.is_empty() {
            self.waiting.remove(&job);
            if let Some(wanted) = self.wanted.get_mut(&job.shard()) {
                wanted.remove(&job);
            }
        }
    }

    /// Jobs to ask `shard` about; they count as asked from now on.
    pub(super) fn take_wanted(&mut self, shard: ShardId) -> Vec<JobId> {
        let Some(wanted) = self.wanted.get_mut(&shard) else { return Vec::new() };
        let mut jobs = Vec::new();
        while jobs.len() < limits::PAYLOADS_PER_REQUEST_MAX {
            let Some(job) = wanted.pop_first() else { break };
            jobs.push(job);
        }
        jobs
    }

    /// Jobs that were asked about in vain.
    pub(super) fn want_again(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        for job in jobs {
            if self.waiting.contains_key(&job) {
                self.wanted.entry(job.shard()).or_default().insert(job);
            }
        }
    }

    /// A payload came, or the word that there is none: the runs that waited for it.
    pub(super) fn arrived(&mut self, payload: &Arc<JobPayload>) -> BTreeSet<RunKey> {
        if payload.found && payload.count.is_some() {
            self.keep(payload.job, Arc::clone(payload));
        }
        if let Some(wanted) = self.wanted.get_mut(&payload.job.shard()) {
            wanted.remove(&payload.job);
        }
        self.waiting.remove(&payload.job).unwrap_or_default()
    }

    fn keep(&mut self, job: JobId, payload: Arc<JobPayload>) {
        self.uses += 1;
        if let Some((before, _)) = self.arrays.insert(job, (self.uses, payload)) {
            self.used.remove(&before);
        }
        self.used.insert(self.uses, job);
        while self.arrays.len() > limits::ARRAYS_CACHED_MAX {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            self.arrays.remove(&oldest);
        }
    }
}

//! Job sets: how many of their jobs are in each state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Shard;
use crate::id::Position;
use crate::job::{Counts, JobState};
use crate::limits;
use crate::time::Timestamp;

/// How long a job set is remembered after its last change, once nothing of it lives.
const REMEMBERED: Duration = Duration::from_secs(limits::JOB_SET_DAYS * 24 * 3600);

/// Job sets by the numbers of their queue and name.
#[derive(Debug, Default)]
pub(super) struct JobSets {
    pub(super) by_key: BTreeMap<(u32, u32), JobSet>,
    /// Those of which nothing lives, by their last change.
    idle: BTreeSet<(Timestamp, (u32, u32))>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct JobSet {
    pub(super) first: Position,
    pub(super) changed_at: Timestamp,
    pub(super) counts: Counts,
}

impl JobSets {
    /// A set that is not known yet.
    pub(super) fn insert(&mut self, key: (u32, u32), set: JobSet) {
        if set.counts.live() == 0 {
            self.idle.insert((set.changed_at, key));
        }
        self.by_key.insert(key, set);
    }

    /// Jobs are submitted to a set.
    pub(super) fn add(&mut self, key: (u32, u32), n: u64, at: Timestamp) {
        self.change(key, at, |counts| counts[JobState::Queued] += n);
    }

    /// Moves jobs of a set from one state to another.
    pub(super) fn shift(
        &mut self,
        key: (u32, u32),
        from: JobState,
        to: JobState,
        n: u64,
        at: Timestamp,
    ) {
        self.change(key, at, |counts| counts.shift(from, to, n));
    }

    fn change(&mut self, key: (u32, u32), at: Timestamp, how: impl FnOnce(&mut Counts)) {
        let set = self.by_key.get_mut(&key).expect("a job's set is known while the job lives");
        if set.counts.live() == 0 {
            self.idle.remove(&(set.changed_at, key));
        }
        how(&mut set.counts);
        set.changed_at = set.changed_at.max(at);
        if set.counts.live() == 0 {
            self.idle.insert((set.changed_at, key));
        }
    }

    /// Whether a set has been remembered for longer than it must be by `slack`.
    pub(super) fn is_forgetting_due(&self, now: Timestamp, slack: Duration) -> bool {
        self.idle.first().is_some_and(|(at, _)| now.since(*at) > REMEMBERED + slack)
    }
}

/// Forgets job sets of which nothing lives and nothing happened for long. Their arrays that are not
/// in the history yet stay until they are.
pub(super) fn forget(shard: &mut Shard, now: Timestamp) {
    while let Some(&(at, key)) = shard.sets.idle.first()
        && now.since(at) > REMEMBERED
    {
        shard.sets.idle.pop_first();
        shard.sets.by_key.remove(&key);
        shard.names.give_back(key.0, 1);
        shard.names.give_back(key.1, 1);
    }
}

//! How many jobs of a queue stand before one of its jobs.

use super::{Order, Orders, Place};
use crate::Name;
use crate::id::JobId;

/// Jobs that are looked at one by one, at most, to tell how many stand before another.
const LOOKED_AT_MAX: usize = 20_000;

/// A number of jobs, or between which numbers it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// So many at least.
    pub least: u64,
    /// So many at most.
    pub most: u64,
}

/// A queue's jobs of one class that wait for a pool, as a job of a certain priority sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassLine {
    /// The class.
    pub class: Name,
    /// Jobs of lower priority numbers.
    pub before: u64,
    /// Jobs of the same.
    pub same: u64,
    /// All of them.
    pub all: u64,
}

impl Bound {
    /// Exactly so many.
    #[must_use]
    pub fn exactly(jobs: u64) -> Self {
        Self { least: jobs, most: jobs }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }
}

impl Orders {
    /// What waits for a pool, class by class.
    pub(in crate::shard) fn lines(&self, pool: &str, priority: u32) -> Vec<ClassLine> {
        let line = |(class, order): (&Name, &Order)| {
            let before = order.buckets.range(..priority).flat_map(|(_, shapes)| shapes.values());
            let same = order.buckets.get(&priority).into_iter().flatten().map(|(_, b)| b.jobs);
            ClassLine {
                class: class.clone(),
                before: before.map(|bucket| bucket.jobs).sum(),
                same: same.sum(),
                all: order.waiting().map(|(_, jobs)| jobs).sum(),
            }
        };
        let of_pool = self.iter().filter(|(of, _, _)| ***of == *pool);
        of_pool.map(|(_, class, order)| line((class, order))).collect()
    }
}

impl Order {
    /// How many jobs of the place's priority stand before a job. The jobs of a gang stand where the
    /// first of them does, which `gang` tells of a gang's shape. What has to be looked at one by
    /// one is bounded: beyond that it is told between which numbers it is.
    pub(in crate::shard) fn ahead_of(
        &self,
        place: Place,
        id: JobId,
        stands: impl Fn(JobId, Place) -> u64,
        gang: impl Fn(u32) -> Option<JobId>,
    ) -> Bound {
        let (mut ahead, mut left) = (Bound::default(), LOOKED_AT_MAX);
        for (&shape, bucket) in self.buckets.get(&place.priority).into_iter().flatten() {
            if let Some(first) = gang(shape) {
                let jobs = if first < id { bucket.jobs } else { 0 };
                ahead = ahead.plus(Bound::exactly(jobs));
                continue;
            }
            let before = bucket.ids.partition_point(|other| *other < id);
            if before <= left {
                left -= before;
                let here = Place { shape, ..place };
                let jobs = bucket.ids.iter().take(before).map(|id| stands(*id, here));
                ahead = ahead.plus(Bound::exactly(jobs.sum()));
                continue;
            }
            // Each entry that is not out stands for one job at least.
            let behind = (bucket.ids.len() - before).saturating_sub(bucket.out) as u64;
            let least = before.saturating_sub(bucket.out) as u64;
            ahead = ahead.plus(Bound { least, most: bucket.jobs.saturating_sub(behind) });
        }
        ahead
    }
}

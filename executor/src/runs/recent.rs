//! Runs that were settled a short while ago: a lease or listing that still names one is out of
//! date.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::RunKey;
use crate::limits;

/// The memory of settled runs, bounded by age and number.
#[derive(Debug, Default)]
pub(super) struct Recent {
    settled_at: BTreeMap<RunKey, Duration>,
    order: VecDeque<(Duration, RunKey)>,
}

impl Recent {
    pub(super) fn insert(&mut self, key: RunKey, now: Duration) {
        self.settled_at.insert(key, now);
        self.order.push_back((now, key));
        self.shrink(now);
    }

    pub(super) fn contains(&self, key: &RunKey) -> bool {
        self.settled_at.contains_key(key)
    }

    fn shrink(&mut self, now: Duration) {
        while let Some(&(at, key)) = self.order.front() {
            let is_old = now.saturating_sub(at) > limits::RECENT_AGE_MAX;
            if !is_old && self.order.len() <= limits::RECENT_RUNS_MAX {
                return;
            }
            self.order.pop_front();
            // A run that was settled again later is remembered from then on.
            if self.settled_at.get(&key) == Some(&at) {
                self.settled_at.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::id::{JobId, JobRef};

    use super::*;

    fn key(n: u32) -> RunKey {
        RunKey { job: JobRef::task(JobId::default(), n), attempt: 1 }
    }

    #[test]
    fn old_runs_are_forgotten_and_young_ones_kept() {
        let mut recent = Recent::default();
        recent.insert(key(1), Duration::ZERO);
        recent.insert(key(2), limits::RECENT_AGE_MAX);
        assert!(recent.contains(&key(1)));
        recent.insert(key(3), limits::RECENT_AGE_MAX + Duration::from_secs(1));
        assert!(!recent.contains(&key(1)));
        assert!(recent.contains(&key(2)) && recent.contains(&key(3)));
    }

    #[test]
    fn the_number_is_bounded() {
        let mut recent = Recent::default();
        for n in 0..=u32::try_from(limits::RECENT_RUNS_MAX).unwrap() {
            recent.insert(key(n), Duration::ZERO);
        }
        assert!(!recent.contains(&key(0)) && recent.contains(&key(1)));
    }
}

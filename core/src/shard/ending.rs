//! What is sure to end, and when: runs that may last so long at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{RunningJobs, Shard, attempts};
use crate::Name;
use crate::time::Timestamp;

impl Shard {
    /// What clusters hold of a pool's jobs of which it is known how long a run lasts at most, by
    /// cluster, queue, shape and node.
    #[must_use]
    pub fn ending(&self, pool: &str) -> Vec<RunningJobs> {
        let shape = |number: u32| self.shapes.value(number);
        let ends = |number: u32| *shape(number).pool == *pool && shape(number).lasts_max.is_some();
        let held = self.queues.values().flat_map(|queue| queue.held.keys());
        // Most of the time there is nothing of the kind, and then no run is looked at.
        if !held.into_iter().any(|(_, number)| ends(*number)) {
            return Vec::new();
        }
        let mut counts: BTreeMap<(&Name, u32, u32, &Name), (u64, Timestamp)> = BTreeMap::new();
        for (cluster, runs) in self.clusters.iter().map(|(name, cluster)| (name, &cluster.runs)) {
            for target in runs {
                let Some(job) = self.jobs.get(target.job) else { continue };
                let number = attempts::shape_of(self, job, target.index);
                let Some((_, run)) = job.active(target.index).filter(|_| ends(number)) else {
                    continue;
                };
                let key = (cluster, job.queue, number, &run.node);
                let (count, youngest) = counts.entry(key).or_insert((0, run.leased_at));
                *count += 1;
                *youngest = run.leased_at.max(*youngest);
            }
        }
        let row = |((cluster, queue, number, node), (count, youngest)): (_, _)| RunningJobs {
            cluster: Name::clone(cluster),
            queue: self.names.value(queue).clone(),
            shape: Arc::clone(shape(number)),
            node: Name::clone(node),
            count,
            youngest,
        };
        let mut rows: Vec<RunningJobs> = counts.into_iter().map(row).collect();
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        rows
    }
}

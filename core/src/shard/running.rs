//! What runs and may be preempted, in counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gangs::AtMostOnce;
use super::{Shard, attempts};
use crate::Name;
use crate::shape::{Shape, ShapeKey};
use crate::time::Timestamp;

/// Jobs of one queue and shape that a node has.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningJobs {
    /// The cluster.
    pub cluster: Name,
    /// The queue.
    pub queue: Name,
    /// The shape.
    pub shape: Arc<Shape>,
    /// The node.
    pub node: Name,
    /// How many.
    pub count: u64,
    /// When the youngest of them was leased.
    pub youngest: Timestamp,
}

impl RunningJobs {
    /// What makes it one row, and its place among the rows.
    #[must_use]
    pub fn key(&self) -> (&Name, &Name, ShapeKey, &Name) {
        (&self.cluster, &self.queue, self.shape.key(), &self.node)
    }
}

impl Shard {
    /// What clusters hold of a pool's jobs whose class may be preempted, by cluster, queue, shape
    /// and node. Jobs that may run at most once are left out: they would be over, and with one of
    /// them its whole gang.
    #[must_use]
    pub fn preemptible(
        &self,
        pool: &str,
        is_preemptible: impl Fn(&str) -> bool,
    ) -> Vec<RunningJobs> {
        let (mut rows, mut once) = (Vec::new(), AtMostOnce::default());
        // Most of the time there is nothing of the kind, and then no run is looked at.
        for (cluster, shapes) in self.held(pool, is_preemptible) {
            let mut counts: BTreeMap<(u32, u32, &Name), (u64, Timestamp)> = BTreeMap::new();
            let runs = self.clusters.get(cluster).map(|cluster| &cluster.runs);
            for target in runs.into_iter().flatten() {
                let Some(job) = self.jobs.get(target.job) else { continue };
                let shape = attempts::shape_of(self, job, target.index);
                if !shapes.contains(&shape) || once.is(self, target.job) {
                    continue;
                }
                let Some((_, run)) = job.active(target.index) else { continue };
                let key = (job.queue, shape, &run.node);
                let (count, youngest) = counts.entry(key).or_insert((0, run.leased_at));
                *count += 1;
                *youngest = run.leased_at.max(*youngest);
            }
            let row = |((queue, shape, node), (count, youngest)): ((_, _, &Name), _)| RunningJobs {
                cluster: cluster.clone(),
                queue: self.names.value(queue).clone(),
                shape: Arc::clone(self.shapes.value(shape)),
                node: node.clone(),
                count,
                youngest,
            };
            rows.extend(counts.into_iter().map(row));
        }
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        rows
    }

    /// The shapes of a pool's preemptible jobs that each cluster holds.
    fn held(
        &self,
        pool: &str,
        is_preemptible: impl Fn(&str) -> bool,
    ) -> BTreeMap<&Name, BTreeSet<u32>> {
        let mut held: BTreeMap<&Name, BTreeSet<u32>> = BTreeMap::new();
        for (cluster, number) in self.queues.values().flat_map(|queue| queue.held.keys()) {
            let shape = self.shapes.value(*number);
            if *shape.pool == *pool && is_preemptible(&shape.class) {
                held.entry(cluster).or_default().insert(*number);
            }
        }
        held
    }
}

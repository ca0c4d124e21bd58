//! Preempting: of the runs that are meant, those that were leased last wait again.

use std::collections::BTreeMap;

use super::{Context, Shard, Writer, retry};
use crate::Name;
use crate::command::{Outcome, Preempt, PreemptedRun, Victims};
use crate::id::JobRef;
use crate::record::{Changed, Record};
use crate::shard::attempts;
use crate::shard::job::Job;
use crate::time::Timestamp;

/// Runs by when they were leased: of one queue, shape and node.
type Young = Vec<(Timestamp, JobRef, u32)>;

pub(super) fn preempt(
    shard: &mut Shard,
    preempt: Preempt,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut young = candidates(shard, &preempt);
    let mut runs = Vec::new();
    for (place, victims) in (0..).zip(&preempt.victims) {
        let Some(young) = key(shard, victims).and_then(|key| young.get_mut(&key)) else { continue };
        for _ in 0..victims.count {
            let Some((_, job, attempt)) = young.pop() else { break };
            let Some((queue, job_set)) = shard.names_of(job.job) else { break };
            let change = retry::preempted(shard, job, attempt, &victims.reason);
            let changed = Changed { job, queue, job_set, at: ctx.now, count: 1, change };
            writer.write(shard, Record::Changed(changed));
            runs.push(PreemptedRun { victims: place, job, attempt });
        }
    }
    Outcome::Preempted(runs)
}

/// What a cluster runs of what is meant, the youngest last.
fn candidates(shard: &Shard, preempt: &Preempt) -> BTreeMap<(u32, u32, Name), Young> {
    let keys = preempt.victims.iter().filter_map(|victims| key(shard, victims));
    let mut found: BTreeMap<_, Young> = keys.map(|key| (key, Young::new())).collect();
    let runs = shard.clusters.get(&preempt.cluster).map(|cluster| &cluster.runs);
    for &target in runs.into_iter().flatten() {
        let stays = |job: &Job| job.at_most_once() || shard.shapes.value(job.shape).gang.is_some();
        let Some(job) = shard.jobs.get(target.job).filter(|job| !stays(job)) else { continue };
        let Some((_, run)) = job.active(target.index) else { continue };
        let shape = attempts::shape_of(shard, job, target.index);
        if let Some(young) = found.get_mut(&(job.queue, shape, run.node.clone())) {
            young.push((run.leased_at, target, run.attempt));
        }
    }
    found.values_mut().for_each(|young| young.sort_unstable());
    found
}

fn key(shard: &Shard, victims: &Victims) -> Option<(u32, u32, Name)> {
    let queue = shard.names.number(&victims.queue)?;
    Some((queue, shard.shape_number(victims.shape)?, victims.node.clone()))
}

//! Preempting: of the runs that are meant, those that were leased last wait again; of a gang, all.

use std::collections::BTreeMap;

use super::{Context, Shard, Writer, gangs, retry};
use crate::Name;
use crate::command::{Outcome, Preempt, PreemptedRun, Victims};
use crate::id::JobRef;
use crate::record::{Change, Run};
use crate::shard::attempts;
use crate::shard::gangs::AtMostOnce;
use crate::time::Timestamp;

/// Runs by when they were leased: of one queue, shape and node.
type Young = Vec<(Timestamp, JobRef, u32)>;
/// Queue, shape and node.
type Kind = (u32, u32, Name);

pub(super) fn preempt(
    shard: &mut Shard,
    preempt: Preempt,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut young = candidates(shard, &preempt);
    let kinds = (0..).zip(&preempt.victims);
    let places = kinds.filter_map(|(place, victims)| Some((key(shard, victims)?, place)));
    let places: BTreeMap<Kind, u32> = places.collect();
    let mut runs = Vec::new();
    for (place, victims) in (0..).zip(&preempt.victims) {
        let Some(young) = key(shard, victims).and_then(|key| young.get_mut(&key)) else { continue };
        for _ in 0..victims.count {
            let Some((_, job, attempt)) = young.pop() else { break };
            // It may have gone with another of its gang.
            if !is_run(shard, job, attempt) {
                continue;
            }
            let change = retry::preempted(shard, job, attempt, &victims.reason);
            runs.push(PreemptedRun { victims: place, job, attempt });
            runs.extend(gone_with(shard, job, &change, &places));
            gangs::write(shard, job, ctx.now, change, ctx, writer);
        }
    }
    Outcome::Preempted(runs)
}

/// Whether a job or task has this run.
fn is_run(shard: &Shard, target: JobRef, attempt: u32) -> bool {
    let active = shard.jobs.get(target.job).and_then(|job| job.active(target.index));
    active.is_some_and(|(_, run)| run.attempt == attempt)
}

/// The other runs of its gang that go with one, as far as it was said of theirs that they are to
/// go: whoever said so counts with their room.
fn gone_with(
    shard: &Shard,
    target: JobRef,
    change: &Change,
    places: &BTreeMap<Kind, u32>,
) -> Vec<PreemptedRun> {
    let others = gangs::others(shard, target, change).into_iter();
    let gone = others.filter_map(|(other, _)| {
        let (kind, run) = kind_of(shard, other)?;
        let victims = *places.get(&kind)?;
        Some(PreemptedRun { victims, job: other, attempt: run.attempt })
    });
    gone.collect()
}

/// What a cluster runs of what is meant, the youngest last.
fn candidates(shard: &Shard, preempt: &Preempt) -> BTreeMap<Kind, Young> {
    let keys = preempt.victims.iter().filter_map(|victims| key(shard, victims));
    let mut found: BTreeMap<_, Young> = keys.map(|key| (key, Young::new())).collect();
    let runs = shard.clusters.get(&preempt.cluster).map(|cluster| &cluster.runs);
    let mut once = AtMostOnce::default();
    for &target in runs.into_iter().flatten() {
        if once.is(shard, target.job) {
            continue;
        }
        let Some((kind, run)) = kind_of(shard, target) else { continue };
        if let Some(young) = found.get_mut(&kind) {
            young.push((run.leased_at, target, run.attempt));
        }
    }
    found.values_mut().for_each(|young| young.sort_unstable());
    found
}

/// What a job's or task's run counts as.
fn kind_of(shard: &Shard, target: JobRef) -> Option<(Kind, &Run)> {
    let job = shard.jobs.get(target.job)?;
    let (_, run) = job.active(target.index)?;
    let shape = attempts::shape_of(shard, job, target.index);
    Some(((job.queue, shape, run.node.clone()), run))
}

fn key(shard: &Shard, victims: &Victims) -> Option<Kind> {
    let queue = shard.names.number(&victims.queue)?;
    Some((queue, shard.shape_number(victims.shape)?, victims.node.clone()))
}

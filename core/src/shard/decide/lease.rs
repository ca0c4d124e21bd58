//! Leasing the head of queues to nodes of a cluster.

use super::{Context, Shard, Writer};
use crate::command::{Lease, LeasedRun, Outcome, Pick};
use crate::id::JobRef;
use crate::record::{Change, Changed, Record};
use crate::shard::job::Body;
use crate::shard::order::Place;

pub(super) fn lease(
    shard: &mut Shard,
    lease: Lease,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut runs = Vec::new();
    for pick in &lease.picks {
        for _ in 0..pick.count {
            let Some((job, place)) = next(shard, pick) else { break };
            let Some(leased) = lease_one(shard, job, place, &lease, pick, ctx, writer) else {
                break;
            };
            runs.push(leased);
        }
    }
    Outcome::Leased(runs)
}

/// The first waiting job that a pick means; what was offered may be gone or have another priority
/// by now.
fn next(shard: &Shard, pick: &Pick) -> Option<(JobRef, Place)> {
    let queue = shard.queues.get(&shard.names.number(&pick.queue)?)?;
    let shape = shard.shape_number(pick.shape)?;
    let order = queue.orders.of(shard.shapes.value(shape))?;
    let place = Place { priority: order.first_priority(shape)?, shape };
    let id = order.first(place, |id| shard.stands(id, place) > 0)?;
    let job = shard.jobs.get(id)?;
    let target = match &job.body {
        Body::Array(array) => JobRef::task(id, array.queued.first()?),
        Body::Queued | Body::Active(_) => JobRef::whole(id),
    };
    Some((target, place))
}

fn lease_one(
    shard: &mut Shard,
    job: JobRef,
    place: Place,
    lease: &Lease,
    pick: &Pick,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Option<LeasedRun> {
    let attempt = shard.jobs.get(job.job)?.next_attempt(job.index);
    let (queue, job_set) = shard.names_of(job.job)?;
    let shape = shard.shapes.value(place.shape).clone();
    let (cluster, node) = (lease.cluster.clone(), pick.node.clone());
    let change = Change::Leased { attempt, cluster, node };
    let changed = Changed { job, queue, job_set, at: ctx.now, count: 1, change };
    writer.write(shard, Record::Changed(changed));
    Some(LeasedRun { job, attempt, node: pick.node.clone(), shape })
}

//! Leasing the head of queues to nodes of a cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Context, Shard, Writer};
use crate::command::{Lease, LeasedRun, Outcome, Pick};
use crate::id::JobRef;
use crate::mutant::{self, Mutant};
use crate::record::{Change, Changed, Record};
use crate::shard::attempts;
use crate::shard::gangs::Key;
use crate::shard::job::Body;
use crate::shard::order::Place;

pub(super) fn lease(
    shard: &mut Shard,
    lease: Lease,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Outcome {
    let mut runs = Vec::new();
    let mut gangs = whole_gangs(shard, &lease);
    for pick in &lease.picks {
        let gang = gang_of(shard, pick);
        for _ in 0..pick.count {
            let next = match &gang {
                Some(gang) => gangs.get_mut(gang).and_then(VecDeque::pop_front),
                None => next(shard, pick, lease.is_away),
            };
            let Some(leased) =
                next.and_then(|job| lease_one(shard, job, &lease, pick, ctx, writer))
            else {
                break;
            };
            runs.push(leased);
        }
    }
    Outcome::Leased(runs)
}

/// Jobs of a gang of one shape.
type Part = (Key, u32);

/// The waiting jobs, by shape, of the gangs that are picked as a whole. Of others, which the leader
/// knew otherwise, nothing is leased.
fn whole_gangs(shard: &Shard, lease: &Lease) -> BTreeMap<Part, VecDeque<JobRef>> {
    let mut picked: BTreeMap<Part, u64> = BTreeMap::new();
    for pick in &lease.picks {
        if let Some(part) = gang_of(shard, pick) {
            *picked.entry(part).or_default() += u64::from(pick.count);
        }
    }
    let gangs: BTreeSet<&Key> = picked.keys().map(|(gang, _)| gang).collect();
    let mut whole = BTreeMap::new();
    for key in gangs {
        let Some(gang) = shard.gangs.get(key).filter(|gang| gang.is_in_order()) else { continue };
        let mut waiting: BTreeMap<Part, VecDeque<JobRef>> = BTreeMap::new();
        for (id, job) in gang.members().filter_map(|id| Some((id, shard.jobs.get(id)?))) {
            let jobs = waiting.entry((key.clone(), job.shape)).or_default();
            match &job.body {
                Body::Array(array) => {
                    let tasks = array.queued.iter().flat_map(|(start, end)| start..end);
                    jobs.extend(tasks.map(|index| JobRef::task(id, index)));
                }
                Body::Queued => jobs.push_back(JobRef::whole(id)),
                Body::Active(_) => {}
            }
        }
        let of_gang = picked.iter().filter(|((gang, _), _)| gang == key);
        let counts = waiting.iter().map(|(part, jobs)| (part, jobs.len() as u64));
        if of_gang.map(|(part, count)| (part, *count)).eq(counts) {
            if mutant::is(Mutant::LeasesPartOfGang) {
                waiting.last_entry().and_then(|mut last| last.get_mut().pop_back());
            }
            whole.extend(waiting);
        }
    }
    whole
}

/// The gang whose jobs a pick means, and their shape.
fn gang_of(shard: &Shard, pick: &Pick) -> Option<Part> {
    let shape = shard.shape_number(pick.shape)?;
    let gang = shard.shapes.value(shape).gang.as_ref()?;
    Some(((shard.names.number(&pick.queue)?, gang.id.clone()), shape))
}

/// The first waiting job that a pick means; what was offered may be gone or have another priority
/// by now.
fn next(shard: &Shard, pick: &Pick, is_away: bool) -> Option<JobRef> {
    let queue = shard.queues.get(&shard.names.number(&pick.queue)?)?;
    let shape = shard.shape_number(pick.shape)?;
    let order = queue.orders.of(shard.shapes.value(shape))?;
    let place = Place { priority: order.first_priority(shape)?, shape };
    let may_go = |id| !is_away || shard.jobs.get(id).is_some_and(|job| !job.at_most_once());
    let id = order.first(place, |id| shard.stands(id, place) > 0 && may_go(id))?;
    let job = shard.jobs.get(id)?;
    Some(match &job.body {
        Body::Array(array) => {
            let own = Some(shape).filter(|shape| *shape != job.shape);
            JobRef::task(id, array.first(own)?)
        }
        Body::Queued | Body::Active(_) => JobRef::whole(id),
    })
}

fn lease_one(
    shard: &mut Shard,
    job: JobRef,
    lease: &Lease,
    pick: &Pick,
    ctx: Context,
    writer: &mut Writer<'_>,
) -> Option<LeasedRun> {
    let live = shard.jobs.get(job.job)?;
    let attempt = live.next_attempt(job.index);
    let shape = attempts::shape_of(shard, live, job.index);
    let (queue, job_set) = shard.names_of(job.job)?;
    let shape = shard.shapes.value(shape).clone();
    let (cluster, node) = (lease.cluster.clone(), pick.node.clone());
    let change = Change::Leased { attempt, cluster, node };
    let changed = Changed { job, queue, job_set, at: ctx.now, count: 1, change };
    writer.write(shard, Record::Changed(changed));
    Some(LeasedRun { job, attempt, node: pick.node.clone(), shape })
}

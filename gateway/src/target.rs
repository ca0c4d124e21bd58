//! Changes of jobs that are named by id, or by queue and job set: one command for each shard
//! concerned.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use muster_api::bus::{ShardReply, ShardRequest, Target};
use muster_api::convert;
use muster_api::http::{Applied, ErrorCode};
use muster_core::id::{CommandId, JobRef, ShardId};
use muster_core::job::JobState;
use muster_core::limits::IDS_PER_REQUEST_MAX;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::shards::unexpected;

/// Jobs as a request names them.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) job_ids: Vec<String>,
    pub(crate) queue: Option<String>,
    pub(crate) job_set: Option<String>,
    pub(crate) states: Vec<String>,
}

/// Sends the command to every shard that has some of the jobs. Where one shard fails the whole
/// request does; sent again, it finds done what was done.
pub(crate) async fn apply(
    gateway: &Gateway,
    named: Named,
    command: impl Fn(CommandId, Target) -> ShardRequest,
) -> Answer<Applied> {
    let (targets, mut applied) = targets(gateway, named)?;
    let requests = targets.into_iter().map(|(shard, target)| {
        let request = command(gateway.command_id(), target);
        async move {
            match gateway.change(shard, &request).await? {
                ShardReply::Applied(applied) => Ok(applied),
                other => Err(unexpected(&other)),
            }
        }
    });
    for part in try_join_all(requests).await? {
        applied.changed += part.changed;
        applied.finished.extend(part.finished);
        applied.missing.extend(part.missing);
    }
    Ok(applied)
}

/// What to ask of which shard, and the ids that no shard can have.
fn targets(gateway: &Gateway, named: Named) -> Answer<(Vec<(ShardId, Target)>, Applied)> {
    let Named { job_ids, queue, job_set, states } = named;
    match (job_ids.is_empty(), queue, job_set) {
        (false, None, None) if states.is_empty() => by_id(gateway, &job_ids),
        (true, Some(queue), Some(job_set)) => {
            convert::states(&states)?;
            let live = JobState::ALL.into_iter().filter(|state| !state.is_final());
            let states = if states.is_empty() {
                live.map(|state| state.name().to_owned()).collect()
            } else {
                states
            };
            let shard = gateway.shard_of(&queue);
            let target = Target::JobSet { queue, job_set, states };
            Ok((vec![(shard, target)], Applied::default()))
        }
        _ => Err(Failure::bad_request("name either `jobIds`, or `queue` and `jobSet`")),
    }
}

fn by_id(gateway: &Gateway, ids: &[String]) -> Answer<(Vec<(ShardId, Target)>, Applied)> {
    if ids.len() > IDS_PER_REQUEST_MAX {
        let detail = format!("{} ids, limit is {IDS_PER_REQUEST_MAX}", ids.len());
        return Err(Failure::new(ErrorCode::PayloadTooLarge, detail));
    }
    let mut by_shard: BTreeMap<ShardId, Vec<JobRef>> = BTreeMap::new();
    let mut applied = Applied::default();
    for id in ids {
        let job: JobRef = id
            .parse()
            .map_err(|error: muster_core::id::ParseIdError| Failure::bad_request(error))?;
        let shard = job.job.shard();
        if shard.0 < gateway.config().shards {
            by_shard.entry(shard).or_default().push(job);
        } else {
            applied.missing.push(id.clone());
        }
    }
    let targets = by_shard.into_iter().map(|(shard, jobs)| (shard, Target::Jobs(jobs)));
    Ok((targets.collect(), applied))
}

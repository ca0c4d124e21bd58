//! `GET /queues/{queue}/job-sets/{jobSet}`.

use axum::Json;
use axum::extract::State;
use muster_api::bus::{ListJobSets, ShardReply, ShardRequest};
use muster_api::http::JobSet;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::Segments;
use crate::shards::unexpected;

pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Segments((queue, job_set)): Segments<(String, String)>,
) -> Answer<Json<JobSet>> {
    let shard = gateway.shard_of(&queue);
    let missing = format!("queue `{queue}` has no job set `{job_set}`");
    let request = ListJobSets { queue, only: Some(job_set), after: None, limit: 1 };
    match gateway.question(shard, &ShardRequest::JobSets(request)).await? {
        ShardReply::JobSets(page) => {
            page.job_sets.into_iter().next().map(Json).ok_or_else(|| Failure::not_found(missing))
        }
        other => Err(unexpected(&other)),
    }
}

//! `GET /jobs/{id}`.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use muster_api::bus::{GetJob, ShardReply, ShardRequest};
use muster_api::http::Job;
use muster_core::id::JobRef;
use serde::Deserialize;

use super::parse_id;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::{Segments, query};
use crate::shards::unexpected;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    spec: bool,
}

pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Segments(id): Segments<String>,
    uri: Uri,
) -> Answer<Json<Job>> {
    let Parameters { spec } = query(&uri)?;
    find(&gateway, parse_id(&id)?, spec).await.map(Json)
}

/// The job as its shard knows it.
pub(super) async fn find(gateway: &Gateway, job: JobRef, spec: bool) -> Answer<Job> {
    let missing = || Failure::not_found(format!("there is no job `{job}`"));
    let shard = job.job.shard();
    if shard.0 >= gateway.config().shards {
        return Err(missing());
    }
    match gateway.question(shard, &ShardRequest::Job(GetJob { job, spec })).await? {
        ShardReply::Job(job) => job.map(|job| *job).ok_or_else(missing),
        other => Err(unexpected(&other)),
    }
}

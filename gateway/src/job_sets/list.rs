//! `GET /queues/{queue}/job-sets`.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use muster_api::bus::{ListJobSets, ShardReply, ShardRequest};
use muster_api::http::JobSetPage;
use serde::Deserialize;

use crate::gateway::Gateway;
use crate::problem::Answer;
use crate::routes::{Segments, page_size, query};
use crate::shards::unexpected;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(crate) async fn list(
    State(gateway): State<Gateway>,
    Segments(queue): Segments<String>,
    uri: Uri,
) -> Answer<Json<JobSetPage>> {
    let Parameters { limit, cursor } = query(&uri)?;
    let shard = gateway.shard_of(&queue);
    let mut page = JobSetPage { job_sets: Vec::new(), cursor };
    let mut left = page_size(limit)?;
    // In the pieces that the bus carries.
    while left > 0 {
        let (queue, after) = (queue.clone(), page.cursor.take());
        let request = ListJobSets { queue, only: None, after, limit: left };
        let piece = match gateway.question(shard, &ShardRequest::JobSets(request)).await? {
            ShardReply::JobSets(piece) => piece,
            other => return Err(unexpected(&other)),
        };
        left -= piece.job_sets.len().min(left);
        page.job_sets.extend(piece.job_sets);
        page.cursor = piece.cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    Ok(Json(page))
}

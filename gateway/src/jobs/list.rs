//! `GET /jobs`: of one queue from its shard, of all from every shard, merged by id.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use futures::future::try_join_all;
use muster_api::bus::{ListJobs, ShardReply, ShardRequest};
use muster_api::convert;
use muster_api::http::{Job, JobPage};
use muster_core::id::{JobRef, ShardId};
use serde::Deserialize;

use crate::gateway::Gateway;
use crate::limits;
use crate::problem::{Answer, Failure};
use crate::routes::{names, page_size, query};
use crate::shards::unexpected;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    queue: Option<String>,
    job_set: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(crate) async fn list(State(gateway): State<Gateway>, uri: Uri) -> Answer<Json<JobPage>> {
    let parameters: Parameters = query(&uri)?;
    let after: Option<JobRef> = parameters
        .cursor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure::bad_request(format!("parameter cursor: {error}")))?;
    if parameters.job_set.is_some() && parameters.queue.is_none() {
        return Err(Failure::bad_request("parameter jobSet: only beside `queue`"));
    }
    let request = ListJobs {
        states: names(parameters.state.as_deref()),
        job_set: parameters.job_set,
        limit: page_size(parameters.limit)?,
        queue: parameters.queue,
        after,
    };
    convert::states(&request.states)?;
    let shards: Vec<ShardId> = match &request.queue {
        Some(queue) => vec![gateway.shard_of(queue)],
        None => gateway.shards().collect(),
    };
    let limit = request.limit;
    let pages = shards.into_iter().map(|shard| page(&gateway, shard, request.clone()));
    Ok(Json(merge(try_join_all(pages).await?, limit)))
}

/// A page of one shard, in the pieces that the bus carries. It is shorter than wanted, and has a
/// cursor, where the shard had to search long.
async fn page(gateway: &Gateway, shard: ShardId, mut request: ListJobs) -> Answer<JobPage> {
    let mut page = JobPage::default();
    for _ in 0..limits::PIECES_PER_PAGE_MAX {
        let piece = match gateway.question(shard, &ShardRequest::Jobs(request.clone())).await? {
            ShardReply::Jobs(piece) => piece,
            other => return Err(unexpected(&other)),
        };
        let is_empty = piece.jobs.is_empty();
        request.limit -= piece.jobs.len().min(request.limit);
        page.jobs.extend(piece.jobs);
        page.cursor = piece.cursor;
        request.after = page.cursor.as_deref().and_then(|cursor| cursor.parse().ok());
        if request.after.is_none() || request.limit == 0 || is_empty {
            break;
        }
    }
    Ok(page)
}

/// One page out of one page a shard. A shard that has more of its own than it sent bounds the page:
/// beyond its last job nothing is known of it.
fn merge(pages: Vec<JobPage>, limit: usize) -> JobPage {
    let place = |id: &str| id.parse::<JobRef>().ok();
    let bound = pages
        .iter()
        .filter(|page| page.cursor.is_some())
        .filter_map(|page| page.cursor.as_deref().and_then(place))
        .min();
    let has_more = bound.is_some();
    let mut jobs: Vec<(Option<JobRef>, Job)> =
        pages.into_iter().flat_map(|page| page.jobs).map(|job| (place(&job.job_id), job)).collect();
    let all = jobs.len();
    if let Some(bound) = bound {
        jobs.retain(|(place, _)| place.is_none_or(|place| place <= bound));
    }
    jobs.sort_by_key(|(place, _)| *place);
    jobs.truncate(limit);
    let is_last = !has_more && jobs.len() == all;
    let last = jobs.last().and_then(|(place, _)| *place).or(bound);
    let cursor = if is_last { None } else { last.map(|place| place.to_string()) };
    JobPage { jobs: jobs.into_iter().map(|(_, job)| job).collect(), cursor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::id::JobId;
    use muster_core::time::Timestamp;

    fn job(unique: u64, shard: u16) -> Job {
        let id = JobId::new(Timestamp(unique as i64), ShardId(shard), 1);
        let json = format!(
            r#"{{"jobId":"{id}","queue":"q","jobSet":"s","state":"queued","priority":0,
            "submittedAt":"","resources":{{}},"runs":[]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn page(jobs: &[Job], from: usize, limit: usize) -> JobPage {
        let end = (from + limit).min(jobs.len());
        let cursor = (end < jobs.len()).then(|| jobs[end - 1].job_id.clone());
        JobPage { jobs: jobs[from..end].to_vec(), cursor }
    }

    #[test]
    fn pages_of_all_shards_show_every_job_once_and_in_order() {
        let shards: Vec<Vec<Job>> =
            (0..3u16).map(|s| (0..20).map(|n| job(n * (u64::from(s) + 2), s)).collect()).collect();
        for limit in 1..25 {
            let (mut seen, mut cursor): (Vec<String>, Option<String>) = (Vec::new(), None);
            loop {
                let pages = shards.iter().map(|jobs| {
                    let after = cursor.clone().unwrap_or_default();
                    let from = jobs.iter().filter(|job| job.job_id <= after).count();
                    page(jobs, from, limit)
                });
                let merged = merge(pages.collect(), limit);
                assert!(merged.jobs.len() <= limit);
                seen.extend(merged.jobs.iter().map(|job| job.job_id.clone()));
                cursor = merged.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let mut expected: Vec<String> =
                shards.iter().flatten().map(|job| job.job_id.clone()).collect();
            expected.sort();
            assert_eq!(seen, expected, "limit {limit}");
        }
    }
}

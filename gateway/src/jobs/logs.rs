//! `GET /jobs/{id}/logs`: the output of a run, asked of the executor that has it, piece by piece.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_api::bus::{GetLogs, LogsReply, decode, encode, subject};
use muster_api::http::{ErrorCode, Job};
use muster_core::id::JobRef;
use serde::Deserialize;

use super::get::find;
use super::parse_id;
use crate::gateway::Gateway;
use crate::limits;
use crate::problem::{Answer, Failure};
use crate::routes::{Segments, query};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    follow: bool,
    attempt: Option<u32>,
}

/// How far the output was read.
struct Reader {
    gateway: Gateway,
    cluster: String,
    job: JobRef,
    attempt: u32,
    offset: u64,
    follow: bool,
    is_done: bool,
}

pub(crate) async fn logs(
    State(gateway): State<Gateway>,
    Segments(id): Segments<String>,
    uri: Uri,
) -> Answer {
    let Parameters { follow, attempt } = query(&uri)?;
    let job = parse_id(&id)?;
    let found = find(&gateway, job, false).await?;
    let (cluster, attempt) = run(&found, attempt)?;
    let admitted = gateway.admit_stream()?;
    let mut reader = Reader { gateway, cluster, job, attempt, offset: 0, follow, is_done: false };
    // The first piece decides whether there is anything to answer with.
    let first = reader.next().await?;
    let rest = stream::unfold((reader, admitted), |(mut reader, admitted)| async move {
        loop {
            if reader.is_done || reader.gateway.draining().is_cancelled() {
                return None;
            }
            match reader.next().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Some((Ok(piece), (reader, admitted))),
                Err(failure) => {
                    reader.is_done = true;
                    // Cutting the body off tells the reader that this is not the end of the output.
                    let cut = std::io::Error::other(failure.0.detail);
                    return Some((Err(cut), (reader, admitted)));
                }
            }
        }
    });
    let mut response = Response::new(Body::from_stream(stream::iter([Ok(first)]).chain(rest)));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The cluster and attempt of the run asked for; of the latest if none was.
fn run(job: &Job, attempt: Option<u32>) -> Answer<(String, u32)> {
    let missing = |detail| Failure::new(ErrorCode::LogsUnavailable, detail);
    if job.count.is_some() {
        let detail =
            format!("`{0}` is an array: ask for one of its tasks, like `{0}-0`", job.job_id);
        return Err(missing(detail));
    }
    let run = match attempt {
        Some(attempt) => job.runs.iter().find(|run| run.attempt == attempt),
        None => job.runs.last(),
    };
    let run = run.ok_or_else(|| missing(format!("job `{}` has no such run yet", job.job_id)))?;
    Ok((run.cluster.clone(), run.attempt))
}

impl Reader {
    async fn next(&mut self) -> Answer<Bytes> {
        let wait = if self.follow { limits::LONG_POLL } else { std::time::Duration::ZERO };
        let request = encode(&GetLogs {
            job: self.job,
            attempt: self.attempt,
            offset: self.offset,
            limit: limits::LOG_PIECE_BYTES,
            wait_ms: u64::try_from(wait.as_millis()).expect("it is seconds"),
        });
        let subject = subject::cluster_logs(&self.cluster);
        let timeout = wait + self.gateway.read_timeout();
        let missing = |detail| Failure::new(ErrorCode::LogsUnavailable, detail);
        let answer =
            self.gateway.bus().request(&subject, request, timeout).await.map_err(|error| {
                missing(format!("cluster `{}` does not answer: {error}", self.cluster))
            })?;
        let reply = decode(&answer)
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        match reply {
            LogsReply::Piece { data, end } => {
                self.offset += data.len() as u64;
                self.is_done = end || (!self.follow && data.is_empty());
                Ok(data)
            }
            LogsReply::Missing(why) => Err(missing(why)),
        }
    }
}

//! `POST /queues/{queue}/jobs`: jobs in, in one of three forms.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use muster_api::http::ErrorCode;
use muster_core::id::{CommandId, ShardId};
use muster_core::names;
use serde::Deserialize;
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_128;

use crate::control;
use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::routes::{Segments, query};

mod answers;
mod before;
pub(crate) mod body;
mod classes;
mod commands;
mod dry;
pub mod lines;
mod pump;
mod whole;

/// The parameters of the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    job_set: Option<String>,
    #[serde(default)]
    ids: Ids,
    /// Whether it is only tried out.
    #[serde(default)]
    dry_run: bool,
}

/// Whether every job is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ids {
    /// A line each.
    #[default]
    All,
    /// Only a summary.
    None,
}

/// Where a submission goes.
#[derive(Debug)]
struct Target {
    shard: ShardId,
    queue: String,
    /// Of the queue, as far as it is known; see `commands::submit`.
    incarnation: AtomicU64,
    job_set: String,
    key: Option<String>,
    /// Done once the control data was read anew for a class that was not known here.
    looked: OnceCell<()>,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Whole,
    Arrow,
}

/// Takes jobs in.
pub(crate) async fn submit(
    State(gateway): State<Gateway>,
    Segments(queue): Segments<String>,
    request: Request<Body>,
) -> Answer {
    let (head, body) = request.into_parts();
    let form = form(&head.headers)?;
    let parameters: Parameters = parameters(&head.uri)?;
    let place = Arc::new(gateway.admit()?);
    let settings = gateway.queue(&queue).await?;
    let target = Target {
        shard: gateway.shard_of(&queue),
        incarnation: AtomicU64::new(settings.incarnation),
        key: key(&head.headers)?,
        job_set: parameters.job_set.clone().unwrap_or_default(),
        queue,
        looked: OnceCell::new(),
    };
    if form == Form::Whole {
        return whole::submit(&gateway, target, &head.headers, body, parameters, place).await;
    }
    names::job_set(&target.job_set)
        .map_err(|error| Failure::bad_request(format!("parameter jobSet: {error}")))?;
    let bytes_max = muster_core::limits::BODY_BYTES_MAX;
    let pieces = body::open(&head.headers, body, bytes_max, Arc::clone(&place))?;
    let work = match form {
        Form::Lines => pump::Source::lines(pieces, gateway.bus().payload_bytes_max()),
        Form::Whole | Form::Arrow => pump::Source::arrow(pieces),
    };
    if parameters.dry_run {
        return dry::of_stream(&gateway, &target, work).await;
    }
    let answered = pump::start(&gateway, Arc::new(target), work, place);
    answers::respond(&gateway, answered, parameters.ids).await
}

fn parameters(uri: &Uri) -> Answer<Parameters> {
    query(uri)
}

fn form(headers: &HeaderMap) -> Answer<Form> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.unwrap_or_default();
    match given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-ndjson" => Ok(Form::Lines),
        "application/json" => Ok(Form::Whole),
        "application/vnd.apache.arrow.stream" => Ok(Form::Arrow),
        _ => Err(Failure::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "content type `{given}` is not `application/x-ndjson`, `application/json` or \
                 `application/vnd.apache.arrow.stream`"
            ),
        )),
    }
}

impl Target {
    /// Looks, once, whether there is newer control data: a class that is not known here may have
    /// been set through another gateway whose word of it did not arrive.
    async fn look(&self, gateway: &Gateway) -> Answer<()> {
        self.looked.get_or_try_init(|| control::refresh(gateway)).await.copied()
    }

    /// The hash of queue, job set and `Idempotency-Key`: the same key for two job sets is two keys.
    fn key(&self) -> Option<CommandId> {
        let key = self.key.as_ref()?;
        let parts = [&self.queue, "\0", &self.job_set, "\0", key];
        Some(CommandId(xxh3_128(parts.concat().as_bytes())))
    }
}

fn key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = std::str::from_utf8(key.as_bytes())
        .map_err(|_| Failure::bad_request("header Idempotency-Key is not UTF-8"))?;
    names::idempotency_key(key).map_err(Failure::bad_request)?;
    Ok(Some(key.to_owned()))
}

/// An answer with that kind of body.
fn response(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let kind = axum::http::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_something_else_in_another_queue_or_job_set() {
        let of = |queue: &str, job_set: &str, key: Option<&str>| {
            let target = Target {
                shard: ShardId(0),
                queue: queue.to_owned(),
                incarnation: AtomicU64::new(1),
                job_set: job_set.to_owned(),
                key: key.map(str::to_owned),
                looked: OnceCell::new(),
            };
            target.key()
        };
        let key = of("a", "s", Some("k"));
        assert!(key.is_some());
        assert_eq!(of("a", "s", Some("k")), key);
        let others = [("b", "s", "k"), ("a", "t", "k"), ("a", "s", "l")];
        for (queue, job_set, other) in others {
            assert_ne!(of(queue, job_set, Some(other)), key, "{queue} {job_set} {other}");
        }
        assert_eq!(of("a", "s", None), None);
    }

    #[test]
    fn a_key_is_taken_at_the_limit_and_refused_one_past_it() {
        let of = |bytes: usize| {
            let value = "k".repeat(bytes).parse().unwrap();
            let headers: HeaderMap =
                [("idempotency-key".parse().unwrap(), value)].into_iter().collect();
            key(&headers)
        };
        assert!(of(muster_core::limits::IDEMPOTENCY_KEY_BYTES_MAX).is_ok());
        assert!(of(muster_core::limits::IDEMPOTENCY_KEY_BYTES_MAX + 1).is_err());
    }
}

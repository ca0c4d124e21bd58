//! `GET /queues/{queue}/job-sets/{jobSet}/events`: pages of events, asked of the shard one behind
//! the other. The cursor alone says where to go on, so a change of the shard's owner is only a
//! pause.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use muster_api::bus::{ListEvents, ShardReply, ShardRequest};
use muster_api::http::{ErrorCode, EventPage, Problem};
use muster_api::text::Cursor;
use serde::Deserialize;

use crate::gateway::Gateway;
use crate::limits;
use crate::problem::{Answer, Failure};
use crate::routes::{Segments, query};
use crate::shards::unexpected;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    after: Option<String>,
    #[serde(default)]
    watch: bool,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON object a line; an empty line is a sign of life.
    Lines,
    /// Server-Sent Events with the cursor as id.
    ServerSent,
}

/// How far a job set was read.
struct Reader {
    gateway: Gateway,
    queue: String,
    job_set: String,
    after: Option<Cursor>,
    watch: bool,
    form: Form,
    is_done: bool,
}

pub(crate) async fn watch(
    State(gateway): State<Gateway>,
    Segments((queue, job_set)): Segments<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let Parameters { after, watch } = query(&uri)?;
    let form = form(&headers);
    // A browser that reconnects says where it was, and means it more than the URL it began with.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = last.filter(|_| form == Form::ServerSent).or(after.as_deref());
    let after = after
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure::bad_request(format!("parameter after: {error}")))?;
    let admitted = gateway.admit_stream()?;
    let mut reader = Reader { gateway, queue, job_set, after, watch, form, is_done: false };
    // The first page is at hand before the answer begins, so that a refusal has its status.
    let first = reader.page(false).await?;
    let first = reader.text(&first);
    let rest = stream::unfold((reader, admitted), |(mut reader, admitted)| async move {
        Some((reader.next().await?, (reader, admitted)))
    });
    let all = stream::iter([first]).chain(rest).map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(all));
    let kind = match form {
        Form::Lines => "application/x-ndjson",
        Form::ServerSent => "text/event-stream",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn form(headers: &HeaderMap) -> Form {
    let accepts = headers.get_all(header::ACCEPT);
    let wants =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/event-stream"));
    if accepts.iter().any(wants) { Form::ServerSent } else { Form::Lines }
}

impl Reader {
    /// What to write next; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let draining = self.gateway.draining().clone();
        if self.is_done || (self.watch && draining.is_cancelled()) {
            return None;
        }
        let page = tokio::select! {
            biased;
            () = draining.cancelled(), if self.watch => return None,
            page = self.page(self.watch) => page,
        };
        match page {
            Ok(page) => Some(self.text(&page)),
            Err(failure) if self.watch && failure.0.code.is_retryable() => {
                Some(self.sign_of_life())
            }
            Err(failure) => {
                self.is_done = true;
                Some(self.failure(&failure.0))
            }
        }
    }

    async fn page(&self, wait: bool) -> Answer<EventPage> {
        let held = if wait {
            limits::LONG_POLL.min(self.gateway.config().keep_alive.0)
        } else {
            std::time::Duration::ZERO
        };
        let request = ShardRequest::Events(ListEvents {
            queue: self.queue.clone(),
            job_set: self.job_set.clone(),
            after: self.after,
            limit: limits::EVENTS_PER_PAGE,
            wait_ms: u64::try_from(held.as_millis()).expect("it is seconds"),
        });
        let shard = self.gateway.shard_of(&self.queue);
        match self.gateway.long_question(shard, &request, held).await? {
            ShardReply::Events(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// The text of a page; the reader is behind it then.
    fn text(&mut self, page: &EventPage) -> String {
        if let Some(cursor) = page.cursor.as_deref().and_then(|cursor| cursor.parse().ok()) {
            self.after = Some(cursor);
        }
        self.is_done = !self.watch && !page.more;
        let mut text = String::new();
        for event in &page.events {
            let data = serde_json::to_string(event).expect("an event is plain data");
            let wrote = match self.form {
                Form::Lines => writeln!(text, "{data}"),
                Form::ServerSent => {
                    write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.cursor, event.event)
                }
            };
            wrote.expect("a string takes everything");
        }
        if text.is_empty() && self.watch { self.sign_of_life() } else { text }
    }

    fn sign_of_life(&self) -> String {
        match self.form {
            Form::Lines => "\n".to_owned(),
            Form::ServerSent => ": alive\n\n".to_owned(),
        }
    }

    fn failure(&self, problem: &Problem) -> String {
        if problem.code == ErrorCode::Internal {
            tracing::warn!(detail = problem.detail, "a stream of events ends with an error");
        }
        let data = serde_json::json!({ "error": problem }).to_string();
        match self.form {
            Form::Lines => data + "\n",
            Form::ServerSent => format!("event: error\ndata: {data}\n\n"),
        }
    }
}

//! Talking to the gateway of a simulation: its own router, without a network.

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use muster_api::http::{ErrorCode, JobSetPage, PriorityClassSettings, Problem, QueueSettings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

/// Job sets read at a time.
const PAGE: usize = 1_000;

/// What was refused of a submission.
pub(crate) type Refused = Vec<(usize, Problem)>;

/// A gateway.
#[derive(Clone)]
pub(crate) struct Gateway {
    router: Router,
}

/// The answer to one line.
#[derive(Deserialize)]
struct Line {
    error: Option<Problem>,
}

impl Gateway {
    pub(crate) fn new(router: Router) -> Self {
        Self { router }
    }

    pub(crate) async fn put_queue(
        &self,
        name: &str,
        settings: &QueueSettings,
    ) -> anyhow::Result<()> {
        let path = format!("/queues/{}", escaped(name));
        self.put(&path, serde_json::to_vec(settings)?.into()).await
    }

    pub(crate) async fn put_class(
        &self,
        name: &str,
        settings: &PriorityClassSettings,
    ) -> anyhow::Result<()> {
        let path = format!("/priority-classes/{}", escaped(name));
        self.put(&path, serde_json::to_vec(settings)?.into()).await
    }

    /// Submits jobs, one a line; gives the lines that were refused.
    pub(crate) async fn submit(
        &self,
        queue: &str,
        job_set: &str,
        lines: String,
    ) -> anyhow::Result<Refused> {
        let path = format!("/queues/{}/jobs?jobSet={}", escaped(queue), escaped(job_set));
        let kind = "application/x-ndjson";
        let (status, body) = self.ask(Method::POST, &path, Some(kind), lines.into()).await?;
        ensure!(status == StatusCode::OK, "jobs were not taken: {}", problem(&body));
        let text = std::str::from_utf8(&body)?;
        let mut refused = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let Some(problem) = line.error else { continue };
            match problem.code {
                ErrorCode::Unavailable => bail!("jobs were not taken: {}", problem.detail),
                _ => refused.push((number, problem)),
            }
        }
        Ok(refused)
    }

    /// How many jobs of a queue have not ended.
    pub(crate) async fn live(&self, queue: &str) -> anyhow::Result<u64> {
        const ENDS: [&str; 3] = ["succeeded", "failed", "cancelled"];
        let (mut live, mut cursor) = (0, None::<String>);
        loop {
            let behind = cursor.map(|cursor| format!("&cursor={}", escaped(&cursor)));
            let behind = behind.unwrap_or_default();
            let path = format!("/queues/{}/job-sets?limit={PAGE}{behind}", escaped(queue));
            let page: JobSetPage = self.get(&path).await?;
            let counts = page.job_sets.iter().flat_map(|job_set| &job_set.counts);
            let lives = counts.filter(|(state, _)| !ENDS.contains(&state.as_str()));
            live += lives.map(|(_, n)| n).sum::<u64>();
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(live);
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (status, body) = self.ask(Method::GET, path, None, Bytes::new()).await?;
        ensure!(status == StatusCode::OK, "{path}: {}", problem(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    async fn put(&self, path: &str, body: Bytes) -> anyhow::Result<()> {
        let kind = "application/json";
        let (status, body) = self.ask(Method::PUT, path, Some(kind), body).await?;
        ensure!(status == StatusCode::OK, "{path}: {}", problem(&body));
        Ok(())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let uri = format!("{}{path}", muster_gateway::API_PREFIX);
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let Ok(response) = self.router.clone().oneshot(request.body(Body::from(body))?).await;
        let (head, body) = response.into_parts();
        Ok((head.status, body.collect().await?.to_bytes()))
    }
}

fn problem(body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// A part of a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

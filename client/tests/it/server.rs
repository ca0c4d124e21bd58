//! A server that gives prepared answers in order and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use muster_api::http::ErrorCode;
use muster_runtime::random::Random;
use muster_runtime::tasks::{Policy, Supervisor};

/// A prepared answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    end: End,
}

/// What comes behind the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Tidy,
    CutOff,
    Never,
}

impl Reply {
    pub(crate) fn ok(body: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_owned(), end: End::Tidy }
    }

    /// The connection breaks behind `body`.
    pub(crate) fn cut_off(body: &str) -> Self {
        Self { end: End::CutOff, ..Self::ok(body) }
    }

    /// Nothing comes behind `body`; without one, nothing at all.
    pub(crate) fn silent(body: &str) -> Self {
        Self { end: End::Never, ..Self::ok(body) }
    }

    pub(crate) fn problem(status: u16, code: ErrorCode) -> Self {
        let code = serde_json::to_string(&code).unwrap();
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"t\",\"status\":{status},\"code\":{code},\
             \"detail\":\"d\"}}"
        );
        Self { status, ..Self::ok(&body) }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What was asked.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    script: Script,
    tasks: Supervisor,
}

impl Server {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let replies = Arc::new(Mutex::new(replies.into()));
        let script = Script { replies, seen: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(script.clone());
        let tasks = Supervisor::new(Random::seeded(1));
        tasks.spawn_once("server", Policy::DETACHED, async move |_| {
            axum::serve(listener, app).await
        });
        Self { url, script, tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let target = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = headers.collect();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    script.seen.lock().unwrap().push(Seen { target, headers, body });

    let reply = script.replies.lock().unwrap().pop_front().expect("one more request than replies");
    if reply.end == End::Never && reply.body.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let first = futures::stream::iter([Ok(Bytes::from(reply.body))]);
    let end = futures::stream::iter((reply.end != End::Tidy).then_some(reply.end));
    let end = end.then(async |end| {
        if end == End::Never {
            std::future::pending::<()>().await;
        }
        // hyper sends what it has when a body is not ready, and drops it when a body fails.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut off"))
    });
    let body = Body::from_stream(first.chain(end));
    Ok(response.body(body).expect("status and headers of a prepared answer are sound"))
}

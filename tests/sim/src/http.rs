//! HTTP without a network: requests go to a gateway's router as tasks of that gateway, so that they
//! stop, wait and die with it. A connection can be cut at any moment, in a body's middle too.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use muster_runtime::tasks::{BoxError, Policy};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::world::Shared;

/// Pieces of a body under way.
const PIECES_MAX: usize = 64;

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) is_whole: bool,
}

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'a str, String)>,
    /// Pieces of the body; a small one is one piece.
    pub(crate) body: Vec<Bytes>,
    /// The body is cut off behind its last piece.
    pub(crate) is_cut: bool,
    /// How long the client waits for the next piece of the answer.
    pub(crate) patience: Duration,
    /// How long it reads at most: for streams without an end.
    pub(crate) reads_for: Duration,
}

impl Ask<'_> {
    pub(crate) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: Vec::new(),
            is_cut: false,
            patience: Duration::from_secs(40),
            reads_for: Duration::from_secs(120),
        }
    }

    pub(crate) fn post(path: String, body: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            headers: vec![("content-type", "application/json".to_owned())],
            body: vec![Bytes::from(body.to_string())],
            ..Self::get(path)
        }
    }
}

enum Part {
    Head(StatusCode),
    Data(Bytes),
    End,
}

/// Asks one of the gateways; `None` when the connection broke before there was a status.
pub(crate) async fn ask(shared: &Shared, gateway: usize, ask: Ask<'_>) -> Option<Answer> {
    let (router, tasks) = shared.serving(gateway)?;
    let body = body(&ask, shared);
    let mut request = Request::builder().method(ask.method).uri(ask.path);
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(body).expect("the simulation asks well-formed questions");
    let (parts, mut answer) = mpsc::channel::<Part>(PIECES_MAX);
    tasks.spawn_once("connection", Policy::DETACHED, move |_| async move {
        let gone = parts.clone();
        let serve = async {
            let Ok(response) = router.oneshot(request).await;
            let (head, mut body) = response.into_parts();
            // A send fails when the client has gone, which ends this task too.
            let _ = parts.send(Part::Head(head.status)).await;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return };
                if let Ok(data) = frame.into_data() {
                    let _ = parts.send(Part::Data(data)).await;
                }
            }
            let _ = parts.send(Part::End).await;
        };
        tokio::select! {
            biased;
            () = gone.closed() => {}
            () = serve => {}
        }
        Ok::<(), BoxError>(())
    });

    let deadline = tokio::time::Instant::now() + ask.reads_for;
    let next = async |answer: &mut mpsc::Receiver<Part>| {
        let until = deadline.min(tokio::time::Instant::now() + ask.patience);
        tokio::time::timeout_at(until, answer.recv()).await.ok().flatten()
    };
    let Some(Part::Head(status)) = next(&mut answer).await else { return None };
    let mut got = Answer { status, body: Vec::new(), is_whole: false };
    while let Some(part) = next(&mut answer).await {
        match part {
            Part::Head(_) => {}
            Part::Data(data) => got.body.extend_from_slice(&data),
            Part::End => {
                got.is_whole = true;
                break;
            }
        }
    }
    Some(got)
}

/// The body as a stream whose pieces take their time.
fn body(ask: &Ask<'_>, shared: &Shared) -> Body {
    let pieces = ask.body.clone();
    if pieces.len() == 1 && !ask.is_cut {
        return Body::from(pieces[0].clone());
    }
    let faults = shared.site.faults.clone();
    let data = futures::stream::iter(pieces).then(move |piece| {
        let delay = faults.delay();
        async move {
            tokio::time::sleep(delay).await;
            Ok::<_, std::io::Error>(piece)
        }
    });
    let end = ask.is_cut.then(|| Err(std::io::Error::other("the connection was cut")));
    Body::from_stream(data.chain(futures::stream::iter(end)))
}

//! What pods have written, and the server that the API server asks for it, as it asks a real
//! kubelet.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::tracked::Tracked;
use crate::kubernetes::tls;

/// What one pod has written.
#[derive(Debug, Clone, Default)]
struct Written {
    text: String,
    ended: bool,
}

/// What all have written that are there, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<HashMap<(String, String), watch::Sender<Written>>>);

impl Logs {
    pub(super) fn begin(&self, pod: &Tracked) {
        let log = pod.behaviour.as_ref().ok().and_then(|behaviour| behaviour.log.as_deref());
        let written = Written { text: line(log), ended: false };
        self.lock().insert(key(pod), watch::Sender::new(written));
    }

    pub(super) fn end(&self, pod: &Tracked) {
        let last = pod.behaviour.as_ref().ok().and_then(|behaviour| behaviour.last_log.as_deref());
        // What is killed does not come to its last line.
        let last = line(last.filter(|_| !pod.dying));
        if let Some(log) = self.lock().get(&key(pod)) {
            log.send_if_modified(|written| {
                if !written.ended {
                    written.text += &last;
                }
                !std::mem::replace(&mut written.ended, true)
            });
        }
    }

    pub(super) fn remove(&self, pod: &Tracked) {
        // Who follows it sees the end of it.
        self.lock().remove(&key(pod));
    }

    fn of(&self, namespace: &str, name: &str) -> Option<watch::Receiver<Written>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().get(&key).map(watch::Sender::subscribe)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), watch::Sender<Written>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &Tracked) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}

fn line(text: Option<&str>) -> String {
    text.map(|text| format!("{text}\n")).unwrap_or_default()
}

/// Answers the API server, until the runtime ends.
pub(super) fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
) -> io::Result<()> {
    tls::serve(runtime, listener, acceptor, move |request| {
        let answer = answer(&shared, &request);
        async move { answer }
    })
}

type Body =
    StreamBody<std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// `GET /containerLogs/{namespace}/{pod}/{container}`.
fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    let path: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let found = match path[..] {
        ["containerLogs", namespace, name, _container] => shared.logs.of(namespace, name),
        _ => None,
    };
    let Some(log) = found else {
        let mut response = Response::new(once("there is no such log\n".to_owned()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let query: BTreeMap<&str, &str> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let written = log.borrow().clone();
    let from = number("tailLines").map_or(0, |lines| start_of_tail(&written.text, lines));
    if query.get("follow") == Some(&"true") {
        return Response::new(StreamBody::new(Box::pin(follow(log, from))));
    }
    let mut text = written.text[from..].to_owned();
    if let Some(limit) = number("limitBytes") {
        text.truncate(text.floor_char_boundary(limit));
    }
    Response::new(once(text))
}

fn once(text: String) -> Body {
    let frame = Frame::data(Bytes::from(text));
    StreamBody::new(Box::pin(stream::iter([Ok(frame)])))
}

/// Where the last lines begin.
fn start_of_tail(text: &str, lines: usize) -> usize {
    let ends: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let skipped = ends.len().saturating_sub(lines);
    if skipped == 0 { 0 } else { ends[skipped - 1] }
}

/// What is there and what comes, until the pod's end.
fn follow(
    log: watch::Receiver<Written>,
    from: usize,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    stream::unfold((log, from), async |(mut log, from)| {
        loop {
            let written = log.borrow_and_update().clone();
            if written.text.len() > from {
                let frame = Frame::data(Bytes::from(written.text[from..].to_owned()));
                return Some((Ok(frame), (log, written.text.len())));
            }
            if written.ended || log.changed().await.is_err() {
                return None;
            }
        }
    })
}

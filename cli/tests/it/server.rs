//! A server that gives prepared answers and remembers what it was asked; it runs on a thread of its
//! own because the tests wait for processes.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::sync::oneshot;

/// A prepared answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    body: String,
}

pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply { status, body: body.to_owned() }
}

/// What was asked.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    in_order: Mutex<VecDeque<Reply>>,
    by_target: BTreeMap<String, Reply>,
    seen: Mutex<Vec<Seen>>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    script: Arc<Script>,
    /// Dropped to stop it.
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Gives these answers, one after the other.
    pub(crate) fn start(replies: Vec<Reply>) -> Self {
        Self::with(Script { in_order: Mutex::new(replies.into()), ..Script::default() })
    }

    /// Gives each request the answer to it.
    pub(crate) fn by_target(replies: Vec<(&str, Reply)>) -> Self {
        let by_target =
            replies.into_iter().map(|(target, reply)| (target.to_owned(), reply)).collect();
        Self::with(Script { by_target, ..Script::default() })
    }

    fn with(script: Script) -> Self {
        let script = Arc::new(script);
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::clone(&script);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let app = axum::Router::new().fallback(answer).with_state(state);
                tokio::select! {
                    served = axum::serve(listener, app) => served.unwrap(),
                    // Dropping the sender is the signal.
                    _ = stopped => {}
                }
            });
        });
        Self { url, script, _stop: stop }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    request: Request,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let target = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let body = String::from_utf8(body).unwrap();
    let known = script.by_target.get(&target).cloned();
    script.seen.lock().unwrap().push(Seen { target, body });
    let reply = known
        .or_else(|| script.in_order.lock().unwrap().pop_front())
        .expect("there is a reply to each request");
    let response = Response::builder().status(reply.status);
    Ok(response.body(Body::from(reply.body)).unwrap())
}

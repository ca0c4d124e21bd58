//! A way to the API server on which requests go wrong: refused, slow, cut, done without an answer.
//! It counts what passes. It shows a certificate of the cluster's authority, like the server behind
//! it, or one that has run out.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::kubeconfig;
use crate::connections;
use crate::s3::Effect;

mod clock;

/// What a request is about, in the words of RBAC: a verb, and a resource such as `pods` or
/// `pods/status`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; `watch-list` for a watch that
    /// begins with a list.
    pub verb: &'static str,
    /// Plural, with the part of it that is spoken to.
    pub resource: String,
}

/// An effect and the requests that it falls on: all of them, until narrowed.
#[derive(Debug, Clone)]
pub struct ApiFault {
    effect: Effect,
    verb: Option<&'static str>,
    resource: Option<String>,
    skip: u64,
    times: u64,
}

impl ApiFault {
    /// An effect on every request.
    pub fn new(effect: Effect) -> Self {
        Self { effect, verb: None, resource: None, skip: 0, times: u64::MAX }
    }

    /// Only on requests of this verb about this resource.
    pub fn on(mut self, verb: &'static str, resource: &str) -> Self {
        self.verb = Some(verb);
        self.resource = Some(resource.to_owned());
        self
    }

    /// Leaves alone the first so many requests that it would fall on.
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Is spent when it fell on so many requests.
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    fn falls_on(&self, target: &Target) -> bool {
        self.times > 0
            && self.verb.is_none_or(|verb| verb == target.verb)
            && self.resource.as_ref().is_none_or(|resource| *resource == target.resource)
    }
}

/// The way. It ends when dropped, and cuts what is on it.
#[derive(Debug)]
pub struct ApiProxy {
    address: SocketAddr,
    authority: PathBuf,
    shared: Arc<Shared>,
    running: Option<Runtime>,
}

/// What the way shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// One that holds.
    Valid,
    /// One that ran out long ago.
    Expired,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    state: Mutex<State>,
    /// By certificate: what holds, and what ran out.
    acceptors: [TlsAcceptor; 2],
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<ApiFault>,
    injected: u64,
    requests: BTreeMap<Target, u64>,
    /// By how many seconds the API server's clock is ahead.
    ahead: i64,
    is_expired: bool,
    /// Tells of each [`ApiProxy::clear`].
    clears: watch::Sender<()>,
    /// Tells of each [`ApiProxy::cut`].
    cuts: watch::Sender<()>,
}

impl ApiProxy {
    pub(super) fn start(plane: &super::ControlPlane) -> Result<Self> {
        let authority = plane.authority();
        let acceptors = [
            authority.server("proxy")?.acceptor()?,
            authority.expired_server("proxy-expired")?.acceptor()?,
        ];
        let certificate = reqwest::Certificate::from_pem(&std::fs::read(authority.file())?)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate])
            .http1_only()
            .build()?;
        let (upstream, state) = (plane.url(), Mutex::default());
        let shared = Arc::new(Shared { upstream, client, state, acceptors });
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("api-proxy")
            .enable_all()
            .build()?;
        let known = Arc::clone(&shared);
        connections::serve(&runtime, listener, move |stream| carry(stream, Arc::clone(&known)))?;
        let authority = authority.file().to_owned();
        Ok(Self { address, authority, shared, running: Some(runtime) })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Writes beside a kubeconfig one for the same user that leads through here.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn kubeconfig(&self, direct: &Path) -> Result<PathBuf> {
        let path = direct.with_extension("proxied.kubeconfig");
        kubeconfig::write_through(direct, &path, &self.url(), &self.authority)?;
        Ok(path)
    }

    /// Adds a fault to those that stand.
    pub fn add(&self, fault: ApiFault) {
        self.shared.state().faults.push(fault);
    }

    /// Removes all faults, and lets go of the replies that they hold.
    pub fn clear(&self) {
        let mut state = self.shared.state();
        state.faults.clear();
        state.clears.send_replace(());
    }

    /// Sets the API server's clock so many seconds before everybody else's, or behind, as far as
    /// the objects tell that pass from now on.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.state().ahead = seconds;
        // What is watched already as well.
        self.cut();
    }

    /// Cuts every connection, with the requests and the watches on it.
    pub fn cut(&self) {
        self.shared.state().cuts.send_replace(());
    }

    /// Shows another certificate to connections that are made from now on, and cuts the others.
    pub fn show(&self, certificate: Certificate) {
        self.shared.state().is_expired = certificate == Certificate::Expired;
        self.cut();
    }

    /// How many effects fell on requests so far.
    pub fn injected(&self) -> u64 {
        self.shared.state().injected
    }

    /// How many requests came so far, those that went wrong included.
    pub fn requests(&self) -> BTreeMap<Target, u64> {
        self.shared.state().requests.clone()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under the lock, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a new connection is shown, and what tells when it is cut.
    fn connection(&self) -> (TlsAcceptor, watch::Receiver<()>) {
        let state = self.state();
        (self.acceptors[usize::from(state.is_expired)].clone(), state.cuts.subscribe())
    }

    /// Counts a request, and says what befalls it, and when no more.
    fn befalling(&self, target: Target) -> (Vec<Effect>, watch::Receiver<()>) {
        let state = &mut *self.state();
        let mut effects = Vec::new();
        for fault in state.faults.iter_mut().filter(|fault| fault.falls_on(&target)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            state.injected += 1;
            effects.push(fault.effect);
        }
        *state.requests.entry(target).or_default() += 1;
        (effects, state.clears.subscribe())
    }

    /// Sends it on, and befalls it. An error cuts the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<reqwest::Body>> {
        let (effects, mut cleared) = self.befalling(target(request.method(), request.uri()));
        for effect in &effects {
            match effect {
                Effect::Refuse(status) => return refusal(*status),
                Effect::Disconnect => return Err(anyhow!("cut")),
                Effect::Delay(time) => sleep(*time).await,
                _ => {}
            }
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let sent = self
            .client
            .request(parts.method, format!("{}{path}", self.upstream))
            .headers(parts.headers)
            .body(reqwest::Body::wrap(body))
            .send()
            .await
            .context("the server behind")?;
        for effect in effects {
            match effect {
                Effect::RefuseAfter(status) => return refusal(status),
                Effect::LoseReply => return Err(anyhow!("lost")),
                Effect::DelayReply(time) => sleep(time).await,
                // The faults go with the proxy, and nobody waits for a reply then.
                Effect::HoldReply => drop(cleared.changed().await),
                Effect::Refuse(_) | Effect::Disconnect | Effect::Delay(_) => {}
            }
        }
        let ahead = self.state().ahead;
        let sent: Response<reqwest::Body> = sent.into();
        Ok(if ahead == 0 { sent } else { sent.map(|body| clock::moved(body, ahead)) })
    }
}

/// As the API server says it.
fn refusal(status: u16) -> Result<Response<reqwest::Body>> {
    let said = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "refused on purpose", "code": status,
        "reason": if status == 429 { "TooManyRequests" } else { "InternalError" },
    });
    let mut response = Response::new(reqwest::Body::from(said.to_string()));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    *response.status_mut() = StatusCode::from_u16(status)?;
    if status == 429 {
        response.headers_mut().insert(hyper::header::RETRY_AFTER, "1".parse()?);
    }
    Ok(response)
}

fn carry(stream: TcpStream, shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    // What holds when it is taken, not when it comes to speak.
    let (acceptor, mut cut) = shared.connection();
    async move {
        // Who does not like the certificate says so itself.
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let answer = service_fn(|request| shared.answer(request));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::select! {
            biased;
            _ = cut.changed() => {}
            // An error is a client that went away, or a connection cut on purpose.
            _ = http.serve_connection(TokioIo::new(stream), answer) => {}
        }
    }
}

/// `/api/v1/…` or `/apis/{group}/{version}/…`, then maybe `namespaces/{namespace}/`, then
/// `{resource}/{name}/{part}`.
fn target(method: &Method, uri: &hyper::Uri) -> Target {
    let path: Vec<_> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let rest = match path[..] {
        ["api", _, ref rest @ ..] | ["apis", _, _, ref rest @ ..] => rest,
        _ => &path[..],
    };
    let rest = match *rest {
        ["namespaces", _, ref rest @ ..] if !rest.is_empty() => rest,
        _ => rest,
    };
    let resource = match *rest {
        [resource, _, part, ..] => format!("{resource}/{part}"),
        [resource, ..] => resource.to_owned(),
        [] => String::new(),
    };
    let says = |text: &str| uri.query().is_some_and(|query| query.split('&').any(|it| it == text));
    let verb = match *method {
        Method::GET if says("watch=true") && says("sendInitialEvents=true") => "watch-list",
        Method::GET if says("watch=true") => "watch",
        Method::GET if rest.len() == 1 => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    Target { verb, resource }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_as_by_rbac() {
        let named = |method: Method, path: &str| {
            let Target { verb, resource } = target(&method, &path.parse().unwrap());
            format!("{verb} {resource}")
        };
        let pods = "/api/v1/namespaces/default/pods";
        assert_eq!(named(Method::POST, pods), "create pods");
        assert_eq!(named(Method::GET, pods), "list pods");
        assert_eq!(named(Method::GET, "/api/v1/pods?limit=5&watch=true"), "watch pods");
        let streamed = "/api/v1/pods?watch=true&sendInitialEvents=true&timeoutSeconds=9";
        assert_eq!(named(Method::GET, streamed), "watch-list pods");
        assert_eq!(named(Method::GET, &format!("{pods}/a")), "get pods");
        assert_eq!(named(Method::PATCH, &format!("{pods}/a/status?x=y")), "patch pods/status");
        assert_eq!(named(Method::GET, "/api/v1/namespaces/default"), "get namespaces");
        assert_eq!(named(Method::GET, "/api/v1/nodes"), "list nodes");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases/b";
        assert_eq!(named(Method::PUT, lease), "update leases");
        assert_eq!(named(Method::GET, "/version"), "list version");
    }
}

//! A server that a cluster's API server turns to: with the requests of an API that is not its own
//! (aggregation, as of a metrics server), and with objects that somebody else has to admit
//! (webhooks).

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Cluster, READY_TIMEOUT, tls};
use crate::authority::Authority;
use crate::wait::eventually;

/// Where the services stand by which the API server finds it.
const NAMESPACE: &str = "kube-system";

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct Extension {
    port: u16,
    authority: String,
    shared: Arc<Mutex<State>>,
    running: Option<Runtime>,
}

/// What it says of objects that it is asked about.
#[derive(Debug, Clone)]
pub enum Admission {
    /// They are refused, for this reason.
    Refuses(String),
    /// They are admitted, but so many answers before are errors of its own.
    AdmitsAfter(u64),
}

#[derive(Debug, Default)]
struct State {
    /// What there is to be read, by path.
    objects: BTreeMap<String, Value>,
    /// What was asked for by each reader who was given something, by path and query.
    reads: Vec<String>,
    admissions: BTreeMap<String, Admission>,
    /// How often it was asked to admit something.
    asked: u64,
}

impl Extension {
    pub(super) fn start(authority: &Authority) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let acceptor = authority.server("extension")?.acceptor()?;
        let authority = std::fs::read_to_string(authority.file())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("extension")
            .enable_all()
            .build()?;
        let shared = Arc::new(Mutex::new(State::default()));
        let known = Arc::clone(&shared);
        tls::serve(&runtime, listener, acceptor, move |request| {
            let shared = Arc::clone(&known);
            async move { answer(&shared, request).await }
        })?;
        Ok(Self { port, authority, shared, running: Some(runtime) })
    }

    /// Has the API server send it what is asked of a resource of that API, and waits until it does.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn offer(
        &self,
        cluster: &Cluster,
        (group, version): (&str, &str),
        (resource, kind): (&str, &str),
    ) -> Result<()> {
        let path = format!("/apis/{group}/{version}");
        self.serve(
            &path,
            &json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
            "resources": [{ "name": resource, "singularName": "", "namespaced": true,
                "kind": kind, "verbs": ["list"] }] }),
        );
        let name = group.replace('.', "-");
        let service = json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": { "type": "ExternalName", "externalName": "localhost" } });
        let offered = json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": format!("{version}.{group}") },
            "spec": { "group": group, "version": version, "insecureSkipTLSVerify": true,
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": { "name": name, "namespace": NAMESPACE, "port": self.port } } });
        cluster.apply(&format!("{service}\n---\n{offered}\n")).await?;
        let client = cluster.client();
        eventually(READY_TIMEOUT, &format!("{path} is served"), async || {
            let request = Request::get(&path).body(Vec::new())?;
            let said = client.request_text(request).await?;
            ensure!(said.contains(kind), "{said}");
            Ok(())
        })
        .await
    }

    /// What is read under a path from now on. Of a list each reader is given what has the labels
    /// that the reader asks for.
    pub fn serve(&self, path: &str, body: &Value) {
        let state = &mut *lock(&self.shared);
        state.objects.insert(path.to_owned(), body.clone());
        state.reads.clear();
    }

    /// The requests that were answered with something since what is served was changed last.
    pub fn reads(&self) -> Vec<String> {
        lock(&self.shared).reads.clone()
    }

    /// Has the API server ask it about new pods of that namespace that have a label, and answers
    /// so. A webhook counts some time after it was made.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn admit(
        &self,
        cluster: &Cluster,
        namespace: &str,
        (label, value): (&str, &str),
        admission: Admission,
    ) -> Result<()> {
        let path = format!("/admit/{value}");
        lock(&self.shared).admissions.insert(path.clone(), admission);
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let authority = k8s_openapi::ByteString(self.authority.clone().into_bytes());
        let webhook = json!({ "name": format!("{value}.muster.test"), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": { "url": url, "caBundle": authority },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "objectSelector": { "matchLabels": { label: value } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"] }] });
        let webhooks = json!({ "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": format!("{value}.muster.test") }, "webhooks": [webhook] });
        cluster.apply(&webhooks.to_string()).await
    }

    /// How often it was asked about objects.
    pub fn asked(&self) -> u64 {
        lock(&self.shared).asked
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing is left half done under the lock, so a panic elsewhere spoils nothing.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(shared: &Mutex<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answered = match *request.method() {
        Method::GET => Ok(read(shared, request.uri())),
        _ => admit(shared, request).await,
    };
    let (status, body) = match answered {
        Ok(Some(body)) => (StatusCode::OK, body),
        Ok(None) => (StatusCode::NOT_FOUND, json!({ "kind": "Status", "code": 404 })),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, json!({ "message": format!("{error:#}") }))
        }
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn read(shared: &Mutex<State>, uri: &hyper::Uri) -> Option<Value> {
    let state = &mut *lock(shared);
    let mut body = state.objects.get(uri.path())?.clone();
    let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) else {
        return Some(body);
    };
    let query = uri.query().unwrap_or_default();
    let wanted = url_decoded(query.split('&').find_map(|it| it.strip_prefix("labelSelector=")));
    let wanted = wanted.split(',').filter_map(|term| term.split_once('='));
    let wanted: Vec<(&str, &str)> = wanted.collect();
    items.retain(|item| {
        wanted.iter().all(|(label, value)| item["metadata"]["labels"][*label] == *value)
    });
    if !items.is_empty() {
        state.reads.push(uri.to_string());
    }
    Some(body)
}

/// What stands in a query of a selector: of signs that stand for others it has `,`, `/` and `=`.
fn url_decoded(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    [("%2C", ","), ("%2F", "/"), ("%3D", "=")]
        .iter()
        .fold(text.to_owned(), |text, (sign, meant)| text.replace(sign, meant))
}

async fn admit(shared: &Mutex<State>, request: Request<Incoming>) -> Result<Option<Value>> {
    let path = request.uri().path().to_owned();
    let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let uid = review["request"]["uid"].as_str().context("nothing is to be admitted")?;
    let state = &mut *lock(shared);
    state.asked += 1;
    let response = match state.admissions.get_mut(&path) {
        None => return Ok(None),
        Some(Admission::Refuses(why)) => {
            json!({ "uid": uid, "allowed": false, "status": { "message": why } })
        }
        Some(Admission::AdmitsAfter(errors)) => {
            let left = *errors;
            *errors = left.saturating_sub(1);
            ensure!(left == 0, "{left} errors are to come");
            json!({ "uid": uid, "allowed": true })
        }
    };
    let answer = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": response });
    Ok(Some(answer))
}

//! A gateway that is not to be trusted: it passes reads on to a real one, and changes what that
//! answers. It shows that an audit looks: a sound deployment gives it nothing to find.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Result;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::connections;

/// What is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The events of job sets.
    Events,
    /// The jobs of listings.
    Jobs,
}

/// What becomes of one event or job: as many as are returned.
pub type Change = fn(Value) -> Vec<Value>;

/// The gateway. It ends when dropped.
#[derive(Debug)]
pub struct Tampering {
    address: SocketAddr,
    running: Option<Runtime>,
}

#[derive(Debug)]
struct Between {
    target: String,
    client: reqwest::Client,
    told: Told,
    change: Change,
}

impl Tampering {
    /// Starts one before the gateway at `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: &str, told: Told, change: Change) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tampering")
            .enable_all()
            .build()?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let between = Arc::new(Between { target: target.to_owned(), client, told, change });
        connections::serve(&runtime, listener, move |stream| carry(stream, Arc::clone(&between)))?;
        Ok(Self { address, running: Some(runtime) })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

async fn carry(stream: TcpStream, between: Arc<Between>) {
    let answer = service_fn(|request| between.answer(request));
    let http = hyper::server::conn::http1::Builder::new();
    // An error is a client that went away.
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

impl Between {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<reqwest::Body>, Infallible> {
        Ok(match self.passed_on(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                let mut answer = Response::new(reqwest::Body::from(error.to_string()));
                *answer.status_mut() = hyper::StatusCode::BAD_GATEWAY;
                answer
            }
        })
    }

    async fn passed_on(&self, request: &Request<Incoming>) -> Result<Response<reqwest::Body>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let url = [&self.target, path].concat();
        let given = self.client.request(request.method().clone(), url).send().await?;
        let mut answer = Response::builder().status(given.status());
        if let Some(kind) = given.headers().get("content-type") {
            answer = answer.header("content-type", kind);
        }
        let is_ok = given.status().is_success();
        let body = String::from_utf8(given.bytes().await?.to_vec())?;
        let body = if is_ok { self.changed(request.uri().path(), body)? } else { body };
        Ok(answer.body(body.into())?)
    }

    fn changed(&self, path: &str, body: String) -> Result<String> {
        match self.told {
            Told::Events if path.ends_with("/events") => {
                let mut text = String::new();
                for line in body.lines().filter(|line| !line.is_empty()) {
                    for event in (self.change)(serde_json::from_str(line)?) {
                        text += &event.to_string();
                        text.push('\n');
                    }
                }
                Ok(text)
            }
            Told::Jobs if path.ends_with("/jobs") => {
                let mut page: Value = serde_json::from_str(&body)?;
                let jobs = page["jobs"].as_array().cloned().unwrap_or_default();
                page["jobs"] = jobs.into_iter().flat_map(self.change).collect();
                Ok(page.to_string())
            }
            Told::Events | Told::Jobs => Ok(body),
        }
    }
}

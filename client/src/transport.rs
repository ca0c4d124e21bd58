//! Requests and their repetition: every call of this API means the same when it comes twice (a
//! submission by its key), so each is sent again when that may help.

use std::time::Duration;

use bytes::Bytes;
use muster_api::http::Problem;
use muster_runtime::clock::Clock;
use muster_runtime::random::Random;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::Error;

/// Bytes of a foreign answer that an error repeats.
const FOREIGN_TEXT_BYTES_MAX: usize = 300;
/// No `Retry-After` is obeyed for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How patient a client is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often a call is sent again before its error is returned.
    pub retries_max: u32,
    /// The wait after the first failure; each later one is twice as long, with jitter.
    pub delay_first: Duration,
    /// No wait is longer, unless the deployment asks for it.
    pub delay_max: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take, streams excepted.
    pub answer_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retries_max: 8,
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(120),
        }
    }
}

/// Speaks to one deployment. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    options: Options,
    clock: Clock,
    random: Random,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`Options::answer_timeout`].
    Answer,
    /// As long as it goes on.
    Stream,
}

/// A request, whole, so that it can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<Bytes>,
    pub(crate) patience: Patience,
}

impl Client {
    /// A client of the deployment at `base` (`http://127.0.0.1:8080`).
    ///
    /// # Errors
    /// When `base` is not an HTTP URL.
    pub fn new(base: &str, options: Options) -> Result<Self, Error> {
        let fail = |reason: String| Error::BadUrl { url: base.to_owned(), reason };
        let base_url = Url::parse(base).map_err(|error| fail(error.to_string()))?;
        if !matches!(base_url.scheme(), "http" | "https") || base_url.host().is_none() {
            return Err(fail("it does not begin with `http://HOST`".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .tcp_keepalive(Duration::from_secs(15))
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| fail(chain(&error)))?;
        let (clock, random) = (Clock::system(), Random::from_os());
        Ok(Self { http, base: base_url, options, clock, random })
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A key that no other submission has.
    #[must_use]
    pub fn new_key(&self) -> String {
        format!("{:032x}", self.random.u128())
    }

    pub(crate) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("HTTP URLs have a path")
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let request = Request::new(Method::GET, self.url(path, query));
        self.call(&request).await
    }

    pub(crate) async fn get_text(&self, path: &[&str]) -> Result<String, Error> {
        let request = Request::new(Method::GET, self.url(path, &[]));
        let body = self.answered(&request).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn with_json<T: DeserializeOwned, B: Serialize + Sync>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> Result<T, Error> {
        let mut request = Request::new(method, self.url(path, &[]));
        let text = serde_json::to_vec(body)
            .map_err(|error| Error::Unsendable { reason: error.to_string() })?;
        request.body = vec![text.into()];
        request.header(CONTENT_TYPE.as_str(), "application/json")?;
        request.header("idempotency-key", &self.new_key())?;
        self.call(&request).await
    }

    async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        parse(&request.url, &self.answered(request).await?)
    }

    async fn answered(&self, request: &Request) -> Result<Bytes, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.answer(request).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            self.pause_or_fail(&mut attempt, error).await?;
        }
    }

    async fn answer(&self, request: &Request) -> Result<Bytes, Failure> {
        let response = self.send_once(request).await?;
        response.bytes().await.map_err(|error| Failure::network(&request.url, &error))
    }

    /// Sends until an answer begins.
    pub(crate) async fn open(&self, request: &Request) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            match self.send_once(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => self.pause_or_fail(&mut attempt, failure).await?,
            }
        }
    }

    /// Sends once.
    pub(crate) async fn send_once(&self, request: &Request) -> Result<Response, Failure> {
        let mut builder = self
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        match request.body.as_slice() {
            [] => {}
            [whole] => builder = builder.body(whole.clone()),
            chunks => builder = builder.body(stream_of(chunks.to_vec())),
        }
        self.send_builder(builder, &request.url, request.patience).await
    }

    /// Sends a body that cannot be sent again.
    pub(crate) async fn send_body(
        &self,
        request: &Request,
        body: reqwest::Body,
    ) -> Result<Response, Error> {
        let builder = self
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(body);
        let sent = self.send_builder(builder, &request.url, request.patience).await;
        sent.map_err(|failure| failure.error)
    }

    async fn send_builder(
        &self,
        builder: reqwest::RequestBuilder,
        url: &Url,
        patience: Patience,
    ) -> Result<Response, Failure> {
        let builder = match patience {
            Patience::Answer => builder.timeout(self.options.answer_timeout),
            Patience::Stream => builder,
        };
        let response = builder.send().await.map_err(|error| Failure::network(url, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Failure::of_answer(url, response).await)
    }

    /// Waits before the next attempt, or gives the error back when there is none.
    pub(crate) async fn pause_or_fail(
        &self,
        attempt: &mut u32,
        failure: Failure,
    ) -> Result<(), Error> {
        if !failure.error.is_unavailable() || *attempt >= self.options.retries_max {
            return Err(failure.error);
        }
        self.pause(*attempt, failure.retry_after).await;
        *attempt += 1;
        Ok(())
    }

    /// Waits as long as is right after that many failures in a row.
    pub(crate) async fn pause(&self, attempt: u32, retry_after: Option<Duration>) {
        let doubled = self.options.delay_first.saturating_mul(1 << attempt.min(16));
        let delay = self.random.jitter(doubled.min(self.options.delay_max), 0.2);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.clock.sleep(delay.max(asked)).await;
    }
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
            patience: Patience::Answer,
        }
    }

    pub(crate) fn header(&mut self, name: &'static str, value: &str) -> Result<(), Error> {
        let value = value.parse().map_err(|_| Error::Unsendable {
            reason: format!("`{value}` cannot stand in the header `{name}`"),
        })?;
        self.headers.insert(name, value);
        Ok(())
    }
}

/// What one attempt failed with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn network(url: &Url, error: &reqwest::Error) -> Self {
        let (url, reason) = (url.to_string(), chain(error));
        if error.is_builder() {
            return Self { error: Error::Unsendable { reason }, retry_after: None };
        }
        Self { error: Error::Unreachable { url, reason }, retry_after: None }
    }

    /// The connection was fine until the answer ended too early or made no sense.
    pub(crate) fn lost(url: &Url, reason: impl Into<String>) -> Self {
        let error = Error::Unreachable { url: url.to_string(), reason: reason.into() };
        Self { error, retry_after: None }
    }

    async fn of_answer(url: &Url, response: Response) -> Self {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Self::network(url, &error),
        };
        let error = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Refused { status, problem },
            Err(_) => foreign(url, status, &body),
        };
        Self { error, retry_after }
    }
}

fn foreign(url: &Url, status: u16, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(&body[..body.len().min(FOREIGN_TEXT_BYTES_MAX)]);
    Error::Foreign { url: url.to_string(), status, text: text.trim().to_owned() }
}

pub(crate) fn parse<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::Unreadable { url: url.to_string(), reason: error.to_string() })
}

fn stream_of(chunks: Vec<Bytes>) -> reqwest::Body {
    let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(futures::stream::iter(chunks))
}

/// The last cause is what people can act on: `connection refused`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

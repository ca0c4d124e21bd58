//! Requests and their repetition: every call of this API means the same when it comes twice (a
//! submission by its key), so each is sent again when that may help, to the next gateway first.

use std::sync::Arc;
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
use crate::gateways::{Attempts, Gateways, Next, Target};

/// Bytes of a foreign answer that an error repeats.
const FOREIGN_TEXT_BYTES_MAX: usize = 300;
/// No `Retry-After` is obeyed for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// A stream that ended tidily is opened again after the pause of this round.
const REOPEN_ROUND: u32 = 3;

/// How patient a client is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often a call is sent again, to every gateway, before its error is returned.
    pub retries_max: u32,
    /// The wait after every gateway has failed for the first time; each later one is twice as
    /// long, with jitter.
    pub delay_first: Duration,
    /// No wait is longer, unless the deployment asks for it.
    pub delay_max: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take. Of streams that give signs of life: how long they may be
    /// silent.
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

/// Speaks to one deployment, through one of its gateways at a time. Cheap to clone; clones share
/// their connections, and which gateway they ask.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    gateways: Arc<Gateways>,
    options: Options,
    clock: Clock,
    random: Random,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`Options::answer_timeout`].
    Answer,
    /// As long as it goes on, without being silent for [`Options::answer_timeout`].
    Lines,
    /// As long as it goes on.
    Stream,
}

/// A request, whole, so that it can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<Bytes>,
    pub(crate) patience: Patience,
}

impl Client {
    /// A client of the deployment whose gateways are at `urls`, separated by commas
    /// (`http://one:8080,http://two:8080`). The first is asked until it fails, then the next.
    ///
    /// # Errors
    /// When one of them is not an HTTP URL.
    pub fn new(urls: &str, options: Options) -> Result<Self, Error> {
        let gateways = Arc::new(Gateways::parse(urls)?);
        let http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .tcp_keepalive(Duration::from_secs(15))
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| Error::BadUrl { url: urls.to_owned(), reason: chain(&error) })?;
        let (clock, random) = (Clock::system(), Random::from_os());
        Ok(Self { http, gateways, options, clock, random })
    }

    /// The base URL of the gateway that is asked at the moment, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.gateways.base().as_str().trim_end_matches('/')
    }

    /// A key that no other submission has.
    #[must_use]
    pub fn new_key(&self) -> String {
        format!("{:032x}", self.random.u128())
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let request = Request::new(Method::GET, Target::new(path, query));
        self.call(&request).await
    }

    pub(crate) async fn get_text(&self, path: &[&str]) -> Result<String, Error> {
        let request = Request::new(Method::GET, Target::new(path, &[]));
        let (_, body) = self.answered(&request).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn with_json<T: DeserializeOwned, B: Serialize + Sync>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> Result<T, Error> {
        let mut request = Request::new(method, Target::new(path, &[]));
        let text = serde_json::to_vec(body)
            .map_err(|error| Error::Unsendable { reason: error.to_string() })?;
        request.body = vec![text.into()];
        request.header(CONTENT_TYPE.as_str(), "application/json")?;
        request.header("idempotency-key", &self.new_key())?;
        self.call(&request).await
    }

    async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let (url, body) = self.answered(request).await?;
        parse(&url, &body)
    }

    async fn answered(&self, request: &Request) -> Result<(Url, Bytes), Error> {
        let mut attempts = self.attempts();
        loop {
            let failure = match self.answer(request, attempts).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.try_again(&mut attempts, failure).await?;
        }
    }

    async fn answer(&self, request: &Request, to: Attempts) -> Result<(Url, Bytes), Failure> {
        let response = self.send_once(request, to).await?;
        let url = response.url().clone();
        let body = response.bytes().await.map_err(|error| Failure::network(&url, &error))?;
        Ok((url, body))
    }

    /// Sends until an answer begins.
    pub(crate) async fn open(&self, request: &Request) -> Result<Response, Error> {
        let mut attempts = self.attempts();
        loop {
            match self.send_once(request, attempts).await {
                Ok(response) => return Ok(response),
                Err(failure) => self.try_again(&mut attempts, failure).await?,
            }
        }
    }

    /// Sends once.
    pub(crate) async fn send_once(
        &self,
        request: &Request,
        to: Attempts,
    ) -> Result<Response, Failure> {
        let body = match request.body.as_slice() {
            [] => None,
            [whole] => Some(whole.clone().into()),
            chunks => Some(stream_of(chunks.to_vec())),
        };
        self.send(request, to, body).await
    }

    /// Sends a body that cannot be sent again.
    pub(crate) async fn send_body(
        &self,
        request: &Request,
        body: reqwest::Body,
    ) -> Result<Response, Error> {
        let sent = self.send(request, self.attempts(), Some(body)).await;
        sent.map_err(|failure| failure.error)
    }

    async fn send(
        &self,
        request: &Request,
        to: Attempts,
        body: Option<reqwest::Body>,
    ) -> Result<Response, Failure> {
        let url = self.gateways.url(to.gateway, &request.target);
        let mut builder =
            self.http.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let patience = self.options.answer_timeout;
        let sent = match request.patience {
            Patience::Answer => builder.timeout(patience).send().await,
            Patience::Lines => match tokio::time::timeout(patience, builder.send()).await {
                Ok(sent) => sent,
                Err(_) => return Err(Failure::silent(&url, patience)),
            },
            Patience::Stream => builder.send().await,
        };
        let response = sent.map_err(|error| Failure::network(&url, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Failure::of_answer(&url, response).await)
    }

    /// The attempts of a call that begins.
    pub(crate) fn attempts(&self) -> Attempts {
        self.gateways.attempts()
    }

    /// Turns to the next gateway, or waits before the next round; gives the error back when there
    /// is none.
    pub(crate) async fn try_again(
        &self,
        attempts: &mut Attempts,
        failure: Failure,
    ) -> Result<(), Error> {
        if !failure.error.is_unavailable() {
            return Err(failure.error);
        }
        let next = if failure.error.is_overload() {
            attempts.round()
        } else {
            self.gateways.failed(attempts)
        };
        match next {
            Next::Elsewhere => Ok(()),
            Next::Round(round) if round > self.options.retries_max => Err(failure.error),
            Next::Round(round) => {
                self.pause(round, failure.retry_after).await;
                Ok(())
            }
        }
    }

    /// A stream ended tidily, though it should go on: its gateway is about to stop.
    pub(crate) async fn reopen(&self, attempts: &mut Attempts) {
        self.gateways.leave(attempts.gateway);
        *attempts = self.attempts();
        self.pause(REOPEN_ROUND, None).await;
    }

    /// How long nothing may come of an answer that has begun.
    pub(crate) fn silence_max(&self, patience: Patience) -> Option<Duration> {
        match patience {
            Patience::Lines => Some(self.options.answer_timeout),
            // The one has a limit as a whole, the other none.
            Patience::Answer | Patience::Stream => None,
        }
    }

    /// Waits as long as is right after that many rounds in which everybody failed.
    async fn pause(&self, round: u32, retry_after: Option<Duration>) {
        let doublings = round.saturating_sub(1).min(16);
        let doubled = self.options.delay_first.saturating_mul(1 << doublings);
        let delay = self.random.jitter(doubled.min(self.options.delay_max), 0.2);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.clock.sleep(delay.max(asked)).await;
    }
}

impl Request {
    pub(crate) fn new(method: Method, target: Target) -> Self {
        Self {
            method,
            target,
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

    /// Nothing came for too long.
    pub(crate) fn silent(url: &Url, patience: Duration) -> Self {
        let reason = format!("silent for {patience:?}");
        Self { error: Error::Unreachable { url: url.to_string(), reason }, retry_after: None }
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

//! A plain client of the HTTP API: each call is one request, and what comes back is kept as it is.
//! Tests of the API use it instead of the project's own client, which repeats and repairs.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// No answer that these tests wait for takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Http {
    base: String,
    client: reqwest::Client,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Http {
    /// A client of the gateway at `base`, for example `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When the system gives no client.
    pub fn new(base: &str) -> Result<Self> {
        // A connection for each request: an idle one may be closed at the moment it is used again.
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { base: base.to_owned(), client })
    }

    /// `GET {path}`, the path with everything behind the host.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// `DELETE {path}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// `PUT {path}` with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.send(Method::PUT, path, &headers, body.to_string()).await
    }

    /// `POST {path}` with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, body.to_string()).await
    }

    /// Any request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer> {
        let response = self.open(method, path, headers, body).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("the body of {path}"))?;
        Ok(Answer { status, headers, body })
    }

    /// The same, but the body is read by the caller as it comes.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<reqwest::Response> {
        let mut request = self.client.request(method, [&self.base, path].concat()).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.with_context(|| path.chars().take(200).collect::<String>())
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body's lines as JSON.
    ///
    /// # Errors
    /// When a line is none.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let text = std::str::from_utf8(&self.body)?;
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Status and code of a problem document; an empty code where it is none.
    pub fn problem(&self) -> (u16, String) {
        let is_problem =
            self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let code =
            self.json()["code"].as_str().filter(|_| is_problem).unwrap_or_default().to_owned();
        (self.status, code)
    }
}

//! Settings of the object store.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{HumanDuration, Problems};

/// How to reach the object store. What is not set here comes from the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …) or from the
/// machine's role. All but the URL concerns S3 only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the objects are: `s3://bucket/prefix`, `file:///directory` or `memory:///`.
    pub url: String,
    /// The service's URL; that of AWS when there is none.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The id of the access key.
    pub access_key_id: Option<String>,
    /// The access key's secret; better given in the environment.
    #[serde(skip_serializing)]
    pub secret_access_key: Option<Secret>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
    /// Whether the bucket stands in the host name (`bucket.endpoint/key`) instead of in the path
    /// (`endpoint/bucket/key`).
    pub virtual_hosted_style: bool,
    /// How long one request may take, its retries included.
    pub request_timeout: HumanDuration,
    /// How long connecting may take.
    pub connect_timeout: HumanDuration,
    /// How often the client repeats a request that the service answered with an error, before the
    /// caller hears of it.
    pub retries_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            virtual_hosted_style: false,
            request_timeout: HumanDuration::secs(30),
            connect_timeout: HumanDuration::secs(5),
            retries_max: 2,
        }
    }
}

impl Config {
    /// The store at `url`, everything else by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Adds what is wrong with the settings beyond the type of each. A missing URL is none: not
    /// every process uses a store.
    pub fn validate(&self, problems: &mut Problems) {
        if self.url.is_empty() {
            return;
        }
        if let Err(error) = super::parse(&self.url) {
            problems.add("url", error.to_string());
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

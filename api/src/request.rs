//! The JSON that clients send to the public API, and the answers to submissions and lists.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http::{Cluster, Cordon, Pool, Problem, ShapeFit};

/// `POST /queues/{queue}/jobs` as `application/json`: all of it, or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitRequest {
    /// The job set; the `jobSet` of the URL stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_set: Option<String>,
    /// Jobs as text; see [`crate::job_text`].
    pub jobs: Vec<Box<RawValue>>,
}

/// The answer to one job: the lines of an NDJSON answer, in order, and the items of a JSON one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SubmitAnswer {
    /// It is kept.
    Accepted {
        /// Its id.
        #[serde(rename = "jobId")]
        job_id: String,
    },
    /// It is not.
    Rejected {
        /// Why.
        error: Problem,
    },
}

/// The answer to `application/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitAnswers {
    /// In the order of the jobs.
    pub jobs: Vec<SubmitAnswer>,
}

/// The answer to a submission with `ids=none`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitSummary {
    /// Jobs that are kept; an array is one.
    pub accepted: u64,
    /// Jobs that are not.
    pub rejected: u64,
    /// The first few refusals, and the first retryable one: the line, from 1, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<LineError>,
}

/// One line that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// From 1.
    pub line: u64,
    /// Why.
    pub error: Problem,
}

/// The answer to a submission with `dryRun=true`: what it would come to. Nothing is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Jobs that would be kept; an array is one.
    pub accepted: u64,
    /// Jobs that would not.
    pub rejected: u64,
    /// The first few refusals: the line, from 1, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<LineError>,
    /// The jobs that would be kept, by what they ask for and their priority, and where they could
    /// run: the first few.
    pub shapes: Vec<ShapeFit>,
    /// How many jobs, tasks one by one, are of none of these.
    pub others: u64,
}

/// `POST /cancel`: `jobIds`, or `queue` and `jobSet`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CancelRequest {
    /// These jobs, tasks or arrays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_ids: Vec<String>,
    /// The jobs of this queue …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// … and this job set …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_set: Option<String>,
    /// … that are in one of these states; none named means every live one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /reprioritize`: `jobIds`, or `queue` and `jobSet`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReprioritizeRequest {
    /// These jobs, tasks or arrays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_ids: Vec<String>,
    /// The jobs of this queue …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// … and this job set …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_set: Option<String>,
    /// … that are in one of these states; none named means every live one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// The new priority; lower runs earlier.
    pub priority: u32,
}

/// `GET /pools`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolList {
    /// By name.
    pub pools: Vec<Pool>,
}

/// `GET /clusters`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterList {
    /// By name and pool.
    pub clusters: Vec<Cluster>,
    /// Clusters and nodes on which nothing new is placed, those that are not there now too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cordons: Vec<Cordon>,
}

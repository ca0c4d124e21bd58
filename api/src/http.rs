//! The JSON of the public API (`/api/v1`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod control;
mod held_back;
mod spec;
mod why;

pub use control::{
    Cordon, CordonSettings, NodeTakenOut, PoolSettings, PriorityClass, PriorityClassList,
    PriorityClassSettings, Queue, QueueLimit, QueueList, QueueSettings, Rate,
};
pub use why::{
    Blocker, ClusterFit, Estimate, LinePlace, PoolWhy, QueueBefore, RuledOut, ShapeFit, ShareWhy,
    Why,
};

pub use held_back::{HeldBack, HeldBackKind};
pub use spec::JobSpec;

/// An error: RFC 9457 problem details with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable code; see [`ErrorCode`].
    pub code: ErrorCode,
    /// What is wrong, where, and the limit.
    pub detail: String,
}

impl Problem {
    /// A problem of that kind.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// What kind of error it is. The names are part of the API, the texts beside them are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request says something that it may not say.
    BadRequest,
    /// A job of a priority class that is not there.
    ClassUnknown,
    /// Another change came between; read and try again.
    Conflict,
    /// The events behind the cursor are no longer kept.
    CursorExpired,
    /// A job that depends on one that is not known.
    DependencyUnknown,
    /// Something that should be impossible happened here.
    Internal,
    /// A job that is not allowed.
    InvalidJob,
    /// The logs are not there.
    LogsUnavailable,
    /// Not understood by this resource.
    MethodNotAllowed,
    /// No such thing.
    NotFound,
    /// Too much is waiting; try again later.
    Overloaded,
    /// More than the limit.
    PayloadTooLarge,
    /// As many jobs wait in the queue as may.
    QueueFull,
    /// The queue has live jobs.
    QueueInUse,
    /// No such queue.
    QueueNotFound,
    /// An object of the shard's log is damaged; somebody has to put it right.
    ShardDamaged,
    /// The shard, bus or store cannot be reached; try again later.
    Unavailable,
    /// A body of a kind that this call does not take.
    UnsupportedMediaType,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::ClassUnknown,
        Self::Conflict,
        Self::CursorExpired,
        Self::DependencyUnknown,
        Self::Internal,
        Self::InvalidJob,
        Self::LogsUnavailable,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::Overloaded,
        Self::PayloadTooLarge,
        Self::QueueFull,
        Self::QueueInUse,
        Self::QueueNotFound,
        Self::ShardDamaged,
        Self::Unavailable,
        Self::UnsupportedMediaType,
    ];

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::ClassUnknown | Self::DependencyUnknown | Self::InvalidJob => {
                400
            }
            Self::Conflict | Self::QueueFull | Self::QueueInUse => 409,
            Self::CursorExpired => 410,
            Self::Internal => 500,
            Self::LogsUnavailable | Self::NotFound | Self::QueueNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Overloaded => 429,
            Self::PayloadTooLarge => 413,
            Self::ShardDamaged | Self::Unavailable => 503,
            Self::UnsupportedMediaType => 415,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Overloaded | Self::ShardDamaged | Self::Unavailable => true,
            Self::BadRequest
            | Self::ClassUnknown
            | Self::Conflict
            | Self::CursorExpired
            | Self::DependencyUnknown
            | Self::Internal
            | Self::InvalidJob
            | Self::LogsUnavailable
            | Self::MethodNotAllowed
            | Self::NotFound
            | Self::PayloadTooLarge
            | Self::QueueFull
            | Self::QueueInUse
            | Self::QueueNotFound
            | Self::UnsupportedMediaType => false,
        }
    }
}

/// A job, a task of an array, or an array as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// `A`, or `A-i` for a task.
    pub job_id: String,
    /// Its queue.
    pub queue: String,
    /// Its job set.
    pub job_set: String,
    /// What the submitter called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its state; an array's is `queued` while all of it waits, `running` while any of it lives,
    /// and then the worst that befell a task.
    pub state: String,
    /// Lower runs earlier.
    pub priority: u32,
    /// When it was submitted, RFC 3339 UTC.
    pub submitted_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it asks for, as quantities by resource.
    pub resources: BTreeMap<String, String>,
    /// Attempts, the first one first.
    pub runs: Vec<Run>,
    /// Tasks of the array, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How many of its tasks are in each state, if it is an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<BTreeMap<String, u64>>,
    /// Why it is not in the order of its queue though it is queued, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// The job as submitted, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<JobSpec>,
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// From 1.
    pub attempt: u32,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// When it was leased, RFC 3339 UTC.
    pub leased_at: String,
    /// When its containers began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Where its ports can be reached from outside of the cluster, or could be while it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// A word for why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The most memory that it was seen to use at once, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The cpu time that it was seen to use, in milliseconds of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<u64>,
}

/// Where a port of a run can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The port of the container.
    pub port: u32,
    /// A host, or a host and a port.
    pub address: String,
}

/// A page of jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobPage {
    /// By rising id.
    pub jobs: Vec<Job>,
    /// What to send as `cursor` for the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A job set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSet {
    /// Its queue.
    pub queue: String,
    /// Its name.
    pub job_set: String,
    /// How many of its jobs are in each state, tasks one by one.
    pub counts: BTreeMap<String, u64>,
}

/// A page of job sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSetPage {
    /// By name.
    pub job_sets: Vec<JobSet>,
    /// What to send as `cursor` for the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A change of a job that its job set's watchers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its place: send it as `after` to go on behind it.
    pub cursor: String,
    /// The job, task or array.
    pub job_id: String,
    /// `submitted`, `leased`, `pending`, `running`, `succeeded`, `failed`, `requeued`,
    /// `preempted`, `cancelled` or `reprioritized`.
    pub event: String,
    /// When, RFC 3339 UTC.
    pub at: String,
    /// How many jobs it concerns, when more than one: an array that was submitted or cancelled as a
    /// whole.
    #[serde(default = "single", skip_serializing_if = "is_single")]
    pub count: u32,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where ports of the run can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// The priority, where it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn single() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_single(count: &u32) -> bool {
    *count == 1
}

/// A page of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// In order.
    pub events: Vec<Event>,
    /// Where to go on, also when nothing was found; none when nothing was searched.
    pub cursor: Option<String>,
    /// Whether there may be more right now.
    pub more: bool,
}

/// What `POST /cancel` and `POST /reprioritize` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Jobs that changed, tasks one by one.
    pub changed: u64,
    /// Named ones that had finished before.
    pub finished: Vec<String>,
    /// Named ones that are unknown.
    pub missing: Vec<String>,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// What its clusters have in all, as quantities by resource.
    pub capacity: BTreeMap<String, String>,
    /// What queues hold of it.
    pub allocated: BTreeMap<String, String>,
    /// Nodes in it.
    pub nodes: u64,
    /// Its clusters.
    pub clusters: Vec<Cluster>,
    /// Its queues' shares.
    pub queues: Vec<QueueShare>,
    /// When this was, RFC 3339 UTC.
    pub at: String,
}

/// A queue's share of a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueShare {
    /// The queue.
    pub queue: String,
    /// Its weight.
    pub weight: f64,
    /// Jobs that wait.
    pub queued: u64,
    /// Jobs that clusters hold.
    pub running: u64,
    /// What it holds, as quantities by resource.
    pub allocated: BTreeMap<String, String>,
    /// What it holds and waits for.
    pub demand: BTreeMap<String, String>,
    /// The part of the pool that it would have if everything were shared ideally, 0 to 1, by its
    /// dominant resource.
    pub ideal_share: f64,
    /// The part that it has.
    pub actual_share: f64,
    /// What it used in the past, with less weight the longer ago, as quantities by resource; empty
    /// where the past does not count (`shard.usage_half_life`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decayed_usage: BTreeMap<String, String>,
    /// The part that all it holds and waits for would take: above 1 when the pool is too small for
    /// it.
    #[serde(default)]
    pub demand_share: f64,
    /// Jobs of it that were told to make room for others, in the last hour that the pool's leader
    /// has seen.
    #[serde(default)]
    pub preempted_last_hour: u64,
}

/// A cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Nodes in that pool.
    pub nodes: u64,
    /// Runs that it has.
    pub runs: u64,
    /// What it has in all.
    pub capacity: BTreeMap<String, String>,
    /// What of it is free.
    pub free: BTreeMap<String, String>,
    /// When it was last heard of, RFC 3339 UTC.
    pub last_contact: String,
    /// Nodes on which nothing new is placed for a while, since jobs of several queues failed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_out: Vec<NodeTakenOut>,
}

/// A time as the API writes it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn time_text(at: muster_core::time::Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => format!("{time:.3}"),
        // Beyond the years that RFC 3339 knows.
        Err(_) => at.0.to_string(),
    }
}

/// The time behind a text that [`time_text`] wrote.
#[must_use]
pub fn time_from_text(text: &str) -> Option<muster_core::time::Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(muster_core::time::Timestamp(time.as_millisecond()))
}

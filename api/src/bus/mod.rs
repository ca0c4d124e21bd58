//! The messages on the bus: subjects, requests, replies. MessagePack maps, field names as written
//! here.

use bytes::Bytes;
use muster_core::id::{CommandId, JobId, JobRef};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::http;
use crate::shape::ShapeText;
use crate::text::{self, Cursor};

mod cluster;
mod fit;
mod lease;
mod offer;
mod pool;
mod preempt;
mod question;
pub(crate) mod runs;
pub mod subject;

pub use cluster::{GetLogs, Heartbeat, LogsReply, StopRuns};
pub use fit::{Room, chunks, cut};
pub use lease::{LeaseAnswer, LeaseReply, LeaseRequest, Node, NodeUpdate};
pub use offer::{Behind, GetWindows, Head, Offers, PoolOffer, QueueOffer, QueueWindow, Windows};
pub use pool::{pool_from_parts, pool_parts};
pub use preempt::{
    GetRunning, Preempt, Preempted, PreemptedRun, Running, RunningKey, RunningRow, Victims,
};
pub use question::{
    ClassLine, GetPlace, GetWhy, JobPlace, PoolReply, PoolRequest, Tried, TriedKind, TrySubmit,
};

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("message of {bytes} bytes on the bus cannot be read: {source}")]
pub struct DecodeError {
    /// Its size.
    bytes: usize,
    source: rmp_serde::decode::Error,
}

/// A message's bytes.
///
/// # Panics
/// Never: the messages of this module hold nothing that MessagePack cannot say.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    rmp_serde::to_vec_named(message).expect("bus messages are plain data").into()
}

/// The message behind bytes.
///
/// # Errors
/// When they are none of `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|source| DecodeError { bytes: bytes.len(), source })
}

/// A request to the owner of a shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShardRequest {
    /// Take jobs in; answered with [`ShardReply::Submitted`].
    Submit(Submit),
    /// Cancel jobs; answered with [`ShardReply::Applied`].
    Cancel(Cancel),
    /// Change priorities; answered with [`ShardReply::Applied`].
    Reprioritize(Reprioritize),
    /// Close a queue; answered with [`ShardReply::Done`].
    CloseQueue(CloseQueue),
    /// One job, task or array; answered with [`ShardReply::Job`].
    Job(GetJob),
    /// A page of jobs by rising id; answered with [`ShardReply::Jobs`].
    Jobs(ListJobs),
    /// A page of a queue's job sets by name; answered with [`ShardReply::JobSets`].
    JobSets(ListJobSets),
    /// A page of a job set's events; answered with [`ShardReply::Events`].
    Events(ListEvents),
    /// Lease jobs to a cluster; answered with [`ShardReply::Leased`].
    Lease(Lease),
    /// What became of runs; answered with [`ShardReply::Reported`].
    Report(ReportRuns),
    /// The runs that the shard believes a cluster has; answered with [`ShardReply::Runs`].
    Sync(Sync),
    /// What executors need to start jobs; answered with [`ShardReply::Payloads`].
    Payloads(GetPayloads),
    /// What waits behind the offers of queues; answered with [`ShardReply::Windows`].
    Windows(GetWindows),
    /// What runs and may be preempted; answered with [`ShardReply::Running`].
    Running(GetRunning),
    /// Give up runs to make room; answered with [`ShardReply::Preempted`].
    Preempt(Preempt),
    /// Where a job stands in its queue's line; answered with [`ShardReply::Place`].
    Place(GetPlace),
    /// What a submission would come to; answered with [`ShardReply::Tried`].
    Try(TrySubmit),
}

/// The answer of the owner of a shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShardReply {
    /// The ids of the jobs taken in.
    Submitted(Vec<IdRun>),
    /// What was cancelled or reprioritized.
    Applied(http::Applied),
    /// It is done.
    Done,
    /// The job, if the shard knows it.
    Job(Option<Box<http::Job>>),
    /// Jobs.
    Jobs(http::JobPage),
    /// Job sets.
    JobSets(http::JobSetPage),
    /// Events.
    Events(http::EventPage),
    /// Leased runs, no more than fit a message.
    Leased(Leased),
    /// A verdict for each report, in order: whether the system believes in that attempt.
    Reported(Vec<bool>),
    /// Runs.
    Runs(RunPage),
    /// Payloads, from the first asked for on, as many as fit a message.
    Payloads(Vec<JobPayload>),
    /// Windows into queues.
    Windows(Windows),
    /// A page of what runs.
    Running(Running),
    /// The runs that were given up.
    Preempted(Preempted),
    /// Where the job stands, if it waits.
    Place(Option<Box<JobPlace>>),
    /// What the submission would come to.
    Tried(Tried),
    /// It was refused or failed.
    Error(http::Problem),
}

/// See [`ShardRequest::Submit`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submit {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// The queue.
    pub queue: String,
    /// The queue's incarnation as the gateway knows it.
    pub incarnation: u64,
    /// The job set.
    pub job_set: String,
    /// The hash of queue and `Idempotency-Key`, in the form of a command id.
    #[serde(with = "text::option", default)]
    pub key: Option<CommandId>,
    /// The jobs: an Arrow IPC stream of one batch with the columns of [`crate::batch`].
    pub batch: Bytes,
}

/// See [`ShardRequest::Cancel`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancel {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// Which jobs.
    pub target: Target,
    /// Why.
    pub reason: Option<String>,
}

/// See [`ShardRequest::Reprioritize`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reprioritize {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// Which jobs.
    pub target: Target,
    /// The new priority.
    pub priority: u32,
}

/// Which jobs a request means.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Target {
    /// These, all of the shard that is asked.
    Jobs(#[serde(with = "text::list")] Vec<JobRef>),
    /// Those of a job set that are in one of these states.
    JobSet {
        /// The queue.
        queue: String,
        /// The job set.
        job_set: String,
        /// The states by name.
        states: Vec<String>,
    },
}

/// See [`ShardRequest::CloseQueue`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloseQueue {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// The queue.
    pub queue: String,
    /// Its incarnation.
    pub incarnation: u64,
}

/// See [`ShardRequest::Job`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetJob {
    /// Which.
    #[serde(with = "text")]
    pub job: JobRef,
    /// Whether the payload is wanted too.
    pub spec: bool,
}

/// See [`ShardRequest::Jobs`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ListJobs {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only of this job set.
    pub job_set: Option<String>,
    /// Only in these states; empty means any.
    pub states: Vec<String>,
    /// Only behind this one, in the order of ids (and index).
    #[serde(with = "text::option", default)]
    pub after: Option<JobRef>,
    /// At most so many.
    pub limit: usize,
}

/// See [`ShardRequest::JobSets`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListJobSets {
    /// The queue.
    pub queue: String,
    /// Exactly this one, if named.
    pub only: Option<String>,
    /// Only behind this name.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// See [`ShardRequest::Events`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListEvents {
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// Only behind this place; from the beginning if none.
    #[serde(with = "text::option", default)]
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// How long to wait for one when there is none yet, in milliseconds.
    pub wait_ms: u64,
}

/// See [`ShardRequest::Lease`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// The pool of the jobs.
    pub pool: String,
    /// Whether the nodes are of another pool, which lends them.
    #[serde(default)]
    pub is_away: bool,
    /// The cluster.
    pub cluster: String,
    /// What goes where.
    pub picks: Vec<Pick>,
}

/// So many jobs of one shape from the head of a queue to one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pick {
    /// The queue.
    pub queue: String,
    /// The priority that was offered.
    pub priority: u32,
    /// The shape's key, in the form of a command id.
    #[serde(with = "text")]
    pub shape: CommandId,
    /// The node.
    pub node: String,
    /// How many.
    pub count: u32,
}

/// Consecutive lines of a submission with consecutive ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdRun {
    /// The first line.
    pub line: u64,
    /// The id of that line's job.
    #[serde(with = "text")]
    pub first: JobId,
    /// How many.
    pub count: u32,
}

/// See [`ShardReply::Leased`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leased {
    /// The runs.
    #[serde(with = "runs::leased")]
    pub runs: Vec<LeasedRun>,
    /// What the touched queues offer to the pool after it, as far as it fits.
    pub offers: Offers,
}

/// A job that was leased. Lists of them name each shape once.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedRun {
    /// The job or task.
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: String,
    /// Its shape.
    pub shape: ShapeText,
}

/// See [`ShardRequest::Report`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportRuns {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// The cluster.
    pub cluster: String,
    /// In the order in which it happened.
    pub reports: Vec<Report>,
}

/// What a cluster says of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The job or task.
    #[serde(with = "text")]
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
    /// What it has come to.
    pub status: RunStatus,
    /// When, in milliseconds since the epoch by the cluster's clock.
    pub at_ms: i64,
    /// How it ended, if it did.
    #[serde(default)]
    pub exit: Exit,
    /// Where its ports can be reached, if it runs and has services or ingresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<http::Address>,
}

/// See [`muster_core::command::RunStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunStatus {
    /// The cluster has it.
    Pending,
    /// Its containers run.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// It never started here and may start elsewhere.
    Returned,
    /// It was running and nobody knows how it ended.
    Lost,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code.
    pub code: Option<i32>,
    /// Signal.
    pub signal: Option<i32>,
    /// A word for why.
    pub reason: Option<String>,
    /// A sentence for people.
    pub message: Option<String>,
    /// What it was seen to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What a run was seen to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The most memory at once, in bytes.
    pub memory_peak_bytes: u64,
    /// Cpu time, in milliseconds of one core.
    pub cpu_time_ms: u64,
}

/// See [`ShardRequest::Sync`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sync {
    /// The cluster.
    pub cluster: String,
    /// How many runs of this shard the cluster knows.
    pub count: u64,
    /// The exclusive or of [`muster_core::id::run_digest`] over them.
    pub digest: u64,
    /// Only runs behind this one.
    #[serde(with = "text::option", default)]
    pub after: Option<JobRef>,
}

/// Runs that a shard believes in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunPage {
    /// Whether count and digest agreed, in which case no runs are listed.
    pub agreed: bool,
    /// The runs in the order of jobs.
    #[serde(with = "runs::believed")]
    pub runs: Vec<BelievedRun>,
    /// Whether more follow.
    pub more: bool,
}

/// A run that a shard believes in.
#[derive(Debug, Clone, PartialEq)]
pub struct BelievedRun {
    /// The run.
    pub run: LeasedRun,
    /// The state: `leased`, `pending` or `running`.
    pub state: String,
}

/// See [`ShardRequest::Payloads`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetPayloads {
    /// Live jobs or arrays of the shard.
    #[serde(with = "text::list")]
    pub jobs: Vec<JobId>,
}

/// What an executor needs to start a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobPayload {
    /// The job or array.
    #[serde(with = "text")]
    pub job: JobId,
    /// Whether the shard still had it; all else is empty if not.
    pub found: bool,
    /// Its queue.
    pub queue: String,
    /// Its job set.
    pub job_set: String,
    /// Its namespace.
    pub namespace: String,
    /// Tasks of the array, if it is one.
    pub count: Option<u32>,
    /// Labels as a JSON object, or empty.
    pub labels: Bytes,
    /// Annotations as a JSON object, or empty.
    pub annotations: Bytes,
    /// Services and ingresses as a JSON object, or empty; see [`crate::job_text::Network`].
    #[serde(default)]
    pub network: Bytes,
    /// The pod spec as JSON, as submitted.
    pub pod_spec: Bytes,
}

/// A wake-up: the control data has this version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ControlChanged {
    /// The version.
    pub version: u64,
}

/// Who holds a lease, as the bucket's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The worker's id.
    pub worker: String,
}

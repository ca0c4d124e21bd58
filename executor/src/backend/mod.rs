//! The seam to what runs jobs: a cluster behind one trait.
//!
//! A back end is told to start and stop runs and says through a bounded channel what becomes of
//! them: every started run gets exactly one final [`Event`], also when it could not be started.
//! What it keeps must outlive the process, so that [`ClusterBackend::adopt`] can tell after a
//! restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_api::bus::{Exit, JobPayload, Report, RunStatus};
use muster_api::http::Address;
use muster_core::Name;
use muster_core::resources::Resources;
use muster_core::shape::{Shape, Taint};
use muster_core::time::Timestamp;
use tokio::sync::mpsc;

use crate::runs::RunKey;

mod handle;
pub mod journal;
pub mod kubernetes;
pub mod local;
pub mod pod;
pub mod simulated;

/// The name of the resource of a node's disk, in bytes.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// A cluster.
#[async_trait]
pub trait ClusterBackend: Send + Sync + 'static {
    /// All nodes of the pool.
    async fn nodes(&self) -> Result<Vec<Node>, Error>;

    /// The nodes that have changed since they were told last, once there are some. A back end whose
    /// nodes stay as they are has no answer.
    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error>;

    /// The runs that exist from before a restart, ended ones that were not settled among them.
    /// Called once, before anything else; the back end watches them from then on.
    async fn adopt(&self) -> Result<Vec<Adopted>, Error>;

    /// Starts a run. Whatever comes of it comes as events, a refusal too.
    async fn start(&self, start: Start);

    /// Stops a run, if it runs.
    async fn stop(&self, run: RunKey, grace: Grace);

    /// The end of a run is known to its shard: only its output is of interest from now on.
    async fn settle(&self, run: RunKey);

    /// A piece of a run's output from `offset` on, at most `limit` bytes; waits up to `wait` for
    /// there to be any.
    async fn logs(
        &self,
        run: RunKey,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error>;
}

/// An open back end.
pub struct Opened {
    /// The back end.
    pub backend: Arc<dyn ClusterBackend>,
    /// What becomes of its runs. It ends only with the back end.
    pub events: mpsc::Receiver<Event>,
}

/// A back end that cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation failed.
    #[error("{what} failed: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no output of that run.
    #[error("no output of run {attempt} of `{job}` is kept here")]
    NoOutput {
        /// The job or task.
        job: muster_core::id::JobRef,
        /// The attempt.
        attempt: u32,
    },
    /// What an earlier process left behind cannot be read.
    #[error("state in `{path}` cannot be read: {reason}")]
    State {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cluster's API server does not do what it was asked.
    #[error("{what} failed: {reason}")]
    Kubernetes {
        /// What was tried.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The back end has stopped.
    #[error("back end has stopped")]
    Stopped,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Labels that may be selected.
    pub labels: BTreeMap<Name, Name>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// What Muster's jobs may use in all.
    pub allocatable: Resources,
    /// Whether new runs may be placed.
    pub schedulable: bool,
}

/// A node that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChange {
    /// Its name.
    pub name: Name,
    /// As it is now; none when it is gone.
    pub node: Option<Node>,
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The run.
    pub key: RunKey,
    /// Its node.
    pub node: Name,
    /// Its shape.
    pub shape: Arc<Shape>,
    /// Its job.
    pub payload: Arc<JobPayload>,
}

/// A run that outlived a restart.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The run.
    pub key: RunKey,
    /// Its node.
    pub node: Name,
    /// Its shape.
    pub shape: Arc<Shape>,
    /// What it has come to.
    pub report: Report,
}

/// What a run has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The run.
    pub key: RunKey,
    /// The status.
    pub status: RunStatus,
    /// When.
    pub at: Timestamp,
    /// How it ended, if it did.
    pub exit: Exit,
    /// Where its ports can be reached, if it runs and has services or ingresses.
    pub addresses: Vec<Address>,
}

impl Event {
    /// The report to the shard that says it.
    #[must_use]
    pub fn into_report(self) -> Report {
        let RunKey { job, attempt } = self.key;
        Report {
            job,
            attempt,
            status: self.status,
            at_ms: self.at.0,
            exit: self.exit,
            addresses: self.addresses,
        }
    }
}

/// How long a run may take to end once it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// As its pod spec says.
    OfPod,
    /// As its pod spec says, but no longer than this.
    AtMost(Duration),
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub data: Bytes,
    /// Whether the run has ended and this is all.
    pub end: bool,
}

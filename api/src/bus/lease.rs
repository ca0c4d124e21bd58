//! The messages between executors and the leader of a pool.

use serde::{Deserialize, Serialize};

use super::LeasedRun;
use crate::http::Problem;

/// An executor's request to the leader of a pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The cluster.
    pub cluster: String,
    /// The executor's process: another one means that everything is told anew.
    pub instance: String,
    /// The leader's session and the number of the last answer that arrived, if any did.
    pub seen: Option<(String, u64)>,
    /// The nodes of the pool in this cluster.
    pub nodes: NodeUpdate,
    /// How many more jobs it takes in one answer.
    pub leases_max: u32,
    /// How long the leader may hold the request when there is nothing to lease, in milliseconds.
    pub wait_ms: u64,
}

/// The state of a cluster's nodes: all, or what changed since a version that the leader was told,
/// whether it has answered or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeUpdate {
    /// The version that this is a change of; none means that all nodes are told.
    pub base: Option<u64>,
    /// The version of it.
    pub version: u64,
    /// Nodes, whole.
    pub nodes: Vec<Node>,
    /// Names of nodes that are gone.
    pub removed: Vec<String>,
}

/// A node as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Labels that may be selected.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Taints: (key, value, effect).
    pub taints: Vec<(String, String, String)>,
    /// What Muster's jobs may use in all, as quantities by resource.
    pub allocatable: std::collections::BTreeMap<String, String>,
    /// What of it is free: runs that the executor knows are taken off.
    pub free: std::collections::BTreeMap<String, String>,
    /// What of it runs hold that were told to stop and are not gone yet.
    #[serde(default)]
    pub freeing: std::collections::BTreeMap<String, String>,
    /// How many runs it has.
    pub runs: u32,
    /// Whether new runs may be placed.
    pub schedulable: bool,
    /// The queues of which jobs failed there since one ended well, and when the last of each did,
    /// in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<(String, i64)>,
}

/// The leader's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LeaseReply {
    /// Leases.
    Answer(LeaseAnswer),
    /// The leader knows nothing of the cluster, and the update is a change: tell all nodes.
    TellAll,
    /// It was refused or failed.
    Error(Problem),
}

/// Leases for a cluster, as many as fit a message; an answer that was not seen is sent again with
/// the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// The leader's session.
    pub session: String,
    /// The number of this answer in it.
    pub answer: u64,
    /// The node version that the leader holds.
    pub version: u64,
    /// Runs to start.
    #[serde(with = "super::runs::leased")]
    pub leases: Vec<LeasedRun>,
    /// Runs to stop: (job, attempt). They were ordered to before, each order may have been lost.
    pub stops: Vec<(String, u32)>,
}

//! The messages between a cluster's executor and everybody: signs of life, stop orders, output.

use bytes::Bytes;
use muster_core::id::JobRef;
use serde::{Deserialize, Serialize};

use crate::text;

/// Runs that a cluster is to stop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StopRuns {
    /// Runs: (job, attempt).
    pub runs: Vec<(String, u32)>,
}

/// An executor's sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The cluster.
    pub cluster: String,
    /// The executor's process.
    pub instance: String,
    /// The pools that its nodes belong to.
    pub pools: Vec<String>,
}

/// A request for a piece of a run's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetLogs {
    /// The job or task.
    #[serde(with = "text")]
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
    /// From this byte on.
    pub offset: u64,
    /// At most so many bytes.
    pub limit: u32,
    /// How long to wait for more, in milliseconds.
    pub wait_ms: u64,
}

/// A piece of a run's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LogsReply {
    /// Bytes of it.
    Piece {
        /// The bytes.
        data: Bytes,
        /// Whether the run has ended and this is all.
        end: bool,
    },
    /// There is none, and why.
    Missing(String),
}

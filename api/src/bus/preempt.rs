//! The messages by which the leader of a pool makes room: what runs, and what of it is to give way.

use std::collections::BTreeMap;

use muster_core::id::{CommandId, JobRef};
use serde::{Deserialize, Serialize};

use super::Offers;
use crate::shape::ShapeText;
use crate::text;

/// See [`super::ShardRequest::Running`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRunning {
    /// The pool.
    pub pool: String,
    /// The priority classes that are known, and whether their jobs may be preempted.
    pub classes: BTreeMap<String, bool>,
    /// Whether jobs of any other class may be.
    pub others: bool,
    /// Whether not these are asked for, but what is sure to end, whatever its class.
    #[serde(default)]
    pub ending: bool,
    /// Only behind this row.
    pub after: Option<RunningKey>,
}

/// What makes a row one: rows come in the order of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunningKey {
    /// The cluster.
    pub cluster: String,
    /// The queue.
    pub queue: String,
    /// The shape's key, in the form of a command id.
    #[serde(with = "text")]
    pub shape: CommandId,
    /// The node.
    pub node: String,
}

/// See [`super::ShardReply::Running`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Running {
    /// Shapes that rows name by position.
    #[serde(with = "text::list")]
    pub shapes: Vec<ShapeText>,
    /// The rows.
    pub rows: Vec<RunningRow>,
    /// The last row of this page, if more follow.
    pub next: Option<RunningKey>,
}

/// Jobs of one queue and shape that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRow {
    /// The cluster.
    pub cluster: String,
    /// The queue.
    pub queue: String,
    /// The shape by position in [`Running::shapes`].
    pub shape: u32,
    /// The node.
    pub node: String,
    /// How many.
    pub count: u64,
    /// How long ago the youngest of them was leased, in seconds.
    pub age: u64,
}

/// See [`super::ShardRequest::Preempt`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preempt {
    /// The command's id.
    #[serde(with = "text")]
    pub command: CommandId,
    /// The pool whose leader asks.
    pub pool: String,
    /// The cluster.
    pub cluster: String,
    /// Who is to give way.
    pub victims: Vec<Victims>,
}

/// So many jobs of one queue and shape on one node, the youngest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victims {
    /// The queue.
    pub queue: String,
    /// The shape's key, in the form of a command id.
    #[serde(with = "text")]
    pub shape: CommandId,
    /// The node.
    pub node: String,
    /// At most how many.
    pub count: u32,
    /// For whom, and why they and not others.
    pub reason: String,
}

/// See [`super::ShardReply::Preempted`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preempted {
    /// The runs.
    pub runs: Vec<PreemptedRun>,
    /// What the touched queues offer to the pool after it, as far as it fits.
    pub offers: Offers,
}

/// A run that was given up: which of the victims it is one of, the job or task, the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreemptedRun(pub u32, #[serde(with = "text")] pub JobRef, pub u32);

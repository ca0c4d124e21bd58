//! Questions to the leader of a pool, and to the owner of a shard about a job's place.

use muster_core::id::JobRef;
use serde::{Deserialize, Serialize};

use super::Submit;
use crate::http::{Blocker, ClusterFit, LinePlace, PoolWhy, Problem};
use crate::shape::ShapeText;
use crate::text;

/// See [`super::ShardRequest::Place`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetPlace {
    /// The job or task; of an array its first waiting task is meant.
    #[serde(with = "text")]
    pub job: JobRef,
}

/// See [`super::ShardRequest::Try`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrySubmit {
    /// What would be asked.
    pub submit: Submit,
    /// Jobs of the same submission, tasks one by one, that would be in before it.
    pub before: u64,
}

/// What a submission would come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// How many jobs, tasks one by one, would begin to wait: those that came before do not.
    pub new: u64,
    /// The jobs by shape and priority, as many kinds as fit.
    pub kinds: Vec<TriedKind>,
    /// How many jobs, tasks one by one, are of none of these.
    pub others: u64,
}

/// Jobs of one shape and priority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriedKind {
    /// The shape.
    #[serde(with = "text")]
    pub shape: ShapeText,
    /// The priority.
    pub priority: u32,
    /// How many, tasks one by one.
    pub jobs: u64,
    /// What the queue has waiting for their pool.
    pub classes: Vec<ClassLine>,
}

/// Where a waiting job stands in its queue's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPlace {
    /// Its shape.
    #[serde(with = "text")]
    pub shape: ShapeText,
    /// Its priority.
    pub priority: u32,
    /// What its queue has waiting for the pool, by class.
    pub classes: Vec<ClassLine>,
    /// How many jobs of its class stand before it: at least, at most.
    pub ahead: (u64, u64),
    /// What keeps it from the line, if it waits and does not stand there.
    pub held: Vec<Blocker>,
}

/// A queue's jobs of one class that wait for a pool, as a job of a certain priority sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLine {
    /// The class.
    pub class: String,
    /// Jobs of lower priority numbers.
    pub before: u64,
    /// Jobs of the same.
    pub same: u64,
    /// All of them.
    pub all: u64,
}

/// A question to the leader of a pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PoolRequest {
    /// Why a job waits; answered with [`PoolReply::Why`].
    Why(GetWhy),
    /// Where jobs of a shape could be placed; answered with [`PoolReply::Fit`].
    Fit(#[serde(with = "text")] ShapeText),
}

/// The leader's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PoolReply {
    /// Why it waits.
    Why(Box<PoolWhy>),
    /// How the nodes of the pool stand to it, by cluster.
    Fit(Vec<ClusterFit>),
    /// It was refused or failed.
    Error(Problem),
}

/// See [`PoolRequest::Why`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetWhy {
    /// The queue.
    pub queue: String,
    /// The job's shape.
    #[serde(with = "text")]
    pub shape: ShapeText,
    /// Where the job stands.
    pub place: LinePlace,
}

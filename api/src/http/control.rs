//! What is set for a deployment: queues and priority classes.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::control;
use serde::{Deserialize, Serialize};

use crate::job_text::{RetryRule, retry};

/// A queue as it is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueSettings {
    /// Weight, > 0.
    #[serde(default = "one")]
    pub weight: f64,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether its queued jobs are kept from being leased.
    #[serde(default)]
    pub cordoned: bool,
    /// What its jobs may hold together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<QueueLimit>,
    /// How many of its jobs may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_queued_max: Option<u64>,
    /// How fast its jobs are placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What becomes of its jobs when their runs do not end well, where they do not say it
    /// themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry: Vec<RetryRule>,
    /// The queue that it stands below: what that has is shared by those below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            weight: one(),
            labels: BTreeMap::new(),
            cordoned: false,
            limits: Vec::new(),
            jobs_queued_max: None,
            rate: None,
            retry: Vec::new(),
            parent: None,
        }
    }
}

impl From<&control::Queue> for QueueSettings {
    fn from(queue: &control::Queue) -> Self {
        let limit = |limit: &control::Limit| QueueLimit {
            class: limit.class.clone(),
            pool: limit.pool.clone(),
            resources: limit
                .resources
                .iter()
                .map(|(name, amount)| (name.clone(), amount.to_string()))
                .collect(),
        };
        Self {
            weight: thousandths(queue.weight_millis),
            labels: queue.labels.clone(),
            cordoned: queue.cordoned,
            limits: queue.limits.iter().map(limit).collect(),
            jobs_queued_max: queue.jobs_queued_max,
            rate: queue.rate.map(Rate::from),
            retry: queue.retry.as_deref().map(retry::rules).unwrap_or_default(),
            parent: queue.parent.clone(),
        }
    }
}

impl From<control::Rate> for Rate {
    fn from(rate: control::Rate) -> Self {
        Self { per_second: thousandths(rate.per_second_millis), burst: rate.burst }
    }
}

fn thousandths(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

fn one() -> f64 {
    1.0
}

/// What jobs of a queue may hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueLimit {
    /// Of this priority class; none for all jobs of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// In this pool; none for each pool by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// By resource a quantity, or a percentage of what the pool has.
    pub resources: BTreeMap<String, String>,
}

/// How fast jobs are placed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Jobs a second, in the long run.
    pub per_second: f64,
    /// Jobs at once.
    pub burst: u32,
}

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its settings.
    #[serde(flatten)]
    pub settings: QueueSettings,
}

/// A list of queues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<Queue>,
}

/// A priority class as it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriorityClassSettings {
    /// Higher goes first.
    pub priority: i32,
    /// Whether its jobs may be told to stop so that others run.
    #[serde(default)]
    pub preemptible: bool,
}

/// A priority class as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorityClass {
    /// Its name.
    pub name: String,
    /// Higher goes first.
    pub priority: i32,
    /// Whether its jobs may be told to stop so that others run.
    pub preemptible: bool,
    /// Whether it is there without being set, and nothing was set for it.
    pub built_in: bool,
}

/// What is set for a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSettings {
    /// How fast jobs are placed in it, all queues together; none for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What jobs may ask for that belongs to no node (licences), and how much of it the pool's jobs
    /// may hold together, as quantities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floating_resources: BTreeMap<String, String>,
    /// Which of the nodes that have room is chosen for jobs that do not say it: `pack` (the one on
    /// which the least is left, as without it) or `spread` (the one on which the most is left).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Pools whose jobs may use what this one's jobs leave idle, until these need it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lends_to: BTreeSet<String>,
}

/// A node on which nothing new is placed for a while, since jobs of several queues failed there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTakenOut {
    /// The node.
    pub node: String,
    /// The queues whose jobs failed there.
    pub queues: Vec<String>,
    /// Since when, RFC 3339 UTC.
    pub since: String,
    /// Until when, RFC 3339 UTC.
    pub until: String,
}

/// A list of priority classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorityClassList {
    /// By name.
    pub priority_classes: Vec<PriorityClass>,
}

/// The cordon of a cluster or node as it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CordonSettings {
    /// Why, in the words of who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A cluster or node on which nothing new is placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cordon {
    /// The cluster.
    pub cluster: String,
    /// The node; none for all of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why, in the words of who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

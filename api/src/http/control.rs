//! What is set for a deployment: queues and priority classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
}

fn one() -> f64 {
    1.0
}

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Weight.
    pub weight: f64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its queued jobs are kept from being leased.
    pub cordoned: bool,
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

/// A list of priority classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorityClassList {
    /// By name.
    pub priority_classes: Vec<PriorityClass>,
}

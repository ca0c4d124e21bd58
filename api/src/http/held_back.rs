//! Why a job that is queued does not stand in the order of its queue.

use serde::{Deserialize, Serialize};

use crate::job_text::Dependency;

/// Why a job that is queued does not stand in the order of its queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldBack {
    /// What holds it back.
    pub kind: HeldBackKind,
    /// The same as a sentence for people.
    pub detail: String,
    /// What it depends on and has not ended yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// How many tasks of its array may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// When it is tried again, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
}

/// What holds a job back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldBackKind {
    /// It is tried again, and not at once.
    Backoff,
    /// Jobs that it depends on.
    #[default]
    Dependency,
    /// As many tasks of its array run as may.
    ArrayLimit,
}

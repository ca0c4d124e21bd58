//! Finished jobs: what a row of the history says.

use crate::Name;
use crate::id::{JobRef, Position};
use crate::job::JobState;
use crate::record::Run;
use crate::shape::Shape;
use crate::time::Timestamp;
use std::sync::Arc;

/// A finished job, or several tasks of one array that finished alike without ever running.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The job; for an array's tasks, the first of them.
    pub job: JobRef,
    /// How many tasks from that one on: 1 for a job or a task that ran.
    pub count: u32,
    /// Its queue.
    pub queue: Name,
    /// Its job set.
    pub job_set: Name,
    /// What the submitter called it.
    pub client_id: Option<Name>,
    /// Its priority at the end.
    pub priority: u32,
    /// Its shape.
    pub shape: Arc<Shape>,
    /// How it ended: a final state.
    pub state: JobState,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it was cancelled, where it was.
    pub reason: Option<Name>,
    /// Every run, the last one last.
    pub runs: Vec<Run>,
    /// Where its payload lies in the log.
    pub spec: Position,
    /// Where the log says that it finished.
    pub at: Position,
}

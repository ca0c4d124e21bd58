//! The pods of a simulated cluster, as its file tells of them while and after its executor runs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pod {
    /// The job, or task, that it is a run of.
    pub job: String,
    /// Which run.
    pub attempt: u32,
    /// `pending`, `running`, `succeeded` or `failed`.
    pub phase: String,
}

#[derive(Deserialize)]
struct File {
    pods: Vec<Pod>,
}

/// The pods in the file of a cluster, which is at most a second old while its executor runs. A
/// cluster that never had a pod has none.
///
/// # Errors
/// When it cannot be read.
pub fn read(state_dir: &Path, cluster: &str) -> Result<Vec<Pod>> {
    let path = state_dir.join(format!("simulated-{cluster}.json"));
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let file: File = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    Ok(file.pods)
}

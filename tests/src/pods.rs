//! The pods of a simulated cluster, as its files tell of them while and after its executor runs.

use std::collections::BTreeMap;
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

/// A line of the log that stands beside the file.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Pod(Pod),
    Settled { job: String, attempt: u32 },
}

/// The pods of a cluster by its files; the phases of those that ran on are at most a second old
/// while its executor runs. A cluster that never had a pod has none.
///
/// # Errors
/// When they cannot be read.
pub fn read(state_dir: &Path, cluster: &str) -> Result<Vec<Pod>> {
    // The log first: it is cut once the file holds what it says.
    let log = text(&state_dir.join(format!("simulated-{cluster}.jsonl")))?;
    let path = state_dir.join(format!("simulated-{cluster}.json"));
    let whole = text(&path)?;
    let mut pods = BTreeMap::new();
    if !whole.is_empty() {
        let file: File =
            serde_json::from_str(&whole).with_context(|| path.display().to_string())?;
        pods.extend(file.pods.into_iter().map(|pod| ((pod.job.clone(), pod.attempt), pod)));
    }
    for line in log.lines() {
        match serde_json::from_str(line).with_context(|| line.to_owned())? {
            // The file has come further with it, or as far.
            Line::Pod(pod) if pod.phase == "pending" => {
                pods.entry((pod.job.clone(), pod.attempt)).or_insert(pod);
            }
            Line::Pod(pod) => {
                pods.insert((pod.job.clone(), pod.attempt), pod);
            }
            Line::Settled { job, attempt } => {
                pods.remove(&(job, attempt));
            }
        }
    }
    Ok(pods.into_values().collect())
}

fn text(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("read {}", path.display())),
    }
}

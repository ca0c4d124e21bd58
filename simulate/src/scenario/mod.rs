//! What is to be simulated: clusters, queues, and jobs with the times at which they come.
//!
//! The files are those of Armada's simulator; `docs/simulate.md` says field by field what is taken.
//! Everything is checked when it is read: a scenario that was read can be run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::Exit;
use muster_api::http::{PriorityClassSettings, QueueSettings};
use muster_core::shape::Shape;
use muster_executor::backend::Node;

mod clusters;
mod config;
pub mod history;
mod jobs;
mod tree;
mod workload;

pub use tree::duration;

pub(crate) use jobs::GANG_ID;

use config::Config;

/// Why a scenario cannot be used: the file, the place in it, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Error {
    /// The file.
    pub file: String,
    /// The place, `queues[0].jobTemplates[2].number`; empty for the whole file.
    pub path: String,
    /// What is wrong, and what is expected.
    pub reason: String,
}

impl Error {
    fn new(file: &str, path: &str, reason: String) -> Self {
        Self { file: file.to_owned(), path: path.to_owned(), reason }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// A time that is at least `minimum`; what lies beyond is distributed exponentially around a mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shifted {
    pub(crate) minimum: Duration,
    pub(crate) tail_mean: Duration,
}

/// A cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) nodes: Vec<Node>,
}

/// A queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) settings: QueueSettings,
}

/// A gang to which so many jobs of a template belong.
#[derive(Debug, Clone)]
pub(crate) struct Gang {
    pub(crate) cardinality: u32,
    pub(crate) uniformity: String,
}

/// Jobs that are alike and come at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) id: String,
    /// The place of its queue.
    pub(crate) queue: usize,
    pub(crate) job_set: String,
    pub(crate) number: u32,
    pub(crate) gang: Option<Gang>,
    /// One of its jobs as it is submitted.
    pub(crate) job: serde_json::Map<String, serde_json::Value>,
    pub(crate) shape: Arc<Shape>,
    pub(crate) runtime: Shifted,
    /// The part of its jobs that fail, and how long these run.
    pub(crate) failures: (f64, Shifted),
    /// How their runs end.
    pub(crate) failure: Exit,
    /// Not before this time since the beginning.
    pub(crate) earliest: Duration,
    /// The places of templates all of whose jobs have to be over before.
    pub(crate) after: Vec<usize>,
    /// How long after the last of them.
    pub(crate) pause: Duration,
}

/// How a run ends that fails, where nothing else is known.
fn failed() -> Exit {
    Exit { code: Some(1), reason: Some("Error".to_owned()), ..Exit::default() }
}

/// Everything that is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub(crate) clusters_name: String,
    pub(crate) workload_name: String,
    pub(crate) clusters: Vec<Cluster>,
    /// How long pods take from their creation until they run.
    pub(crate) pending: Shifted,
    pub(crate) queues: Vec<Queue>,
    pub(crate) templates: Vec<Template>,
    pub(crate) classes: BTreeMap<String, PriorityClassSettings>,
    pub(crate) protected_share: Option<f64>,
    /// What the files name as a seed.
    pub(crate) seed: Option<u64>,
    /// What was noticed: fields that have no effect, and the like.
    pub notes: Vec<String>,
}

/// The files of a scenario, or what stands for them.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The clusters.
    pub clusters: &'a Path,
    /// Queues and jobs.
    pub workload: Workload<'a>,
    /// Priority classes and the like.
    pub config: Option<&'a Path>,
}

/// Where queues and jobs come from.
#[derive(Debug, Clone)]
pub enum Workload<'a> {
    /// From a file.
    File(&'a Path),
    /// From what a deployment has done.
    History(&'a history::Taken),
}

/// Reads a scenario.
///
/// # Errors
/// When a file cannot be read, or says what cannot be simulated.
pub fn read(sources: &Sources<'_>) -> Result<Scenario> {
    let file = tree::File::read(sources.clusters)?;
    let clusters = clusters::read(&file)?;
    let mut notes = file.notes();
    let config = match sources.config {
        None => Config::default(),
        Some(path) => {
            let file = tree::File::read(path)?;
            let config = config::read(&file)?;
            notes.extend(file.notes());
            config
        }
    };
    let workload = match sources.workload {
        Workload::File(path) => {
            let file = tree::File::read(path)?;
            let workload = workload::read(&file, &config, &clusters.clusters)?;
            notes.extend(file.notes());
            workload
        }
        Workload::History(taken) => history::workload(taken, &clusters.clusters)?,
    };
    notes.extend(workload.notes);
    let mut queues = workload.queues;
    queues.iter_mut().for_each(|queue| config.apply(&mut queue.settings));
    let mut classes = workload.classes;
    classes.extend(config.classes);
    Ok(Scenario {
        clusters_name: clusters.name,
        workload_name: workload.name,
        clusters: clusters.clusters,
        pending: clusters.pending,
        queues,
        templates: workload.templates,
        classes,
        protected_share: config.protected_share,
        seed: workload.seed,
        notes,
    })
}

/// A workload that was read.
#[derive(Debug, Default)]
struct Read {
    name: String,
    seed: Option<u64>,
    queues: Vec<Queue>,
    templates: Vec<Template>,
    classes: BTreeMap<String, PriorityClassSettings>,
    notes: Vec<String>,
}

#[cfg(test)]
mod tests;

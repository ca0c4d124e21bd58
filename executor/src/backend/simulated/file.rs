//! The file of a simulated cluster: JSON, replaced as a whole by rename.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_api::bus::Exit;
use muster_core::Name;
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use muster_runtime::Blocking;
use serde::{Deserialize, Serialize};

use super::pods::{Pod, PodPhase};
use crate::backend::Error;
use crate::runs::RunKey;

/// Pods by run.
pub(super) type Saved = Vec<(RunKey, Pod)>;

/// The file.
pub(super) struct File {
    path: PathBuf,
    blocking: Blocking,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Canonical texts; pods name them by position.
    shapes: Vec<String>,
    pods: Vec<SavedPod>,
}

#[derive(Serialize, Deserialize)]
struct SavedPod {
    job: String,
    attempt: u32,
    node: String,
    shape: usize,
    running_at: i64,
    ends_at: i64,
    phase: SavedPhase,
    exit: Exit,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

const VERSION: u32 = 1;

impl File {
    pub(super) fn new(path: PathBuf, blocking: Blocking) -> Self {
        Self { path, blocking }
    }

    pub(super) async fn load(&self) -> Result<Saved, Error> {
        let path = self.path.clone();
        self.blocking.run(move || load(&path)).await.unwrap_or_else(|error| Err(lost(error)))
    }

    pub(super) async fn save(&self, pods: &BTreeMap<RunKey, Pod>) -> Result<(), Error> {
        let (path, pods) = (self.path.clone(), pods.clone());
        self.blocking.run(move || save(&path, &pods)).await.unwrap_or_else(|error| Err(lost(error)))
    }
}

fn lost(error: muster_runtime::blocking::Error) -> Error {
    Error::Io { what: "blocking work".to_owned(), source: std::io::Error::other(error) }
}

fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("{what} `{}`", path.display());
    |source| Error::Io { what, source }
}

fn load(path: &Path) -> Result<Saved, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("reading", path)(error)),
    };
    let bad = |reason: String| Error::State { path: path.display().to_string(), reason };
    let content: Content = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if content.version != VERSION {
        return Err(bad(format!("version is {}, not {VERSION}", content.version)));
    }
    let shapes: Option<Vec<Arc<Shape>>> =
        content.shapes.iter().map(|text| Shape::from_canonical(text).map(Arc::new)).collect();
    let shapes = shapes.ok_or_else(|| bad("a shape is malformed".to_owned()))?;
    let mut nodes: BTreeMap<String, Name> = BTreeMap::new();
    let mut saved = Vec::with_capacity(content.pods.len());
    for pod in content.pods {
        let job = pod.job.parse().map_err(|e| bad(format!("{e}")))?;
        let shape = shapes.get(pod.shape).ok_or_else(|| bad("a shape is missing".to_owned()))?;
        let node = nodes.entry(pod.node).or_insert_with_key(|node| node.as_str().into());
        let key = RunKey { job, attempt: pod.attempt };
        let pod = Pod {
            node: node.clone(),
            shape: Arc::clone(shape),
            running_at: Timestamp(pod.running_at),
            ends_at: Timestamp(pod.ends_at),
            phase: match pod.phase {
                SavedPhase::Pending => PodPhase::Pending,
                SavedPhase::Running => PodPhase::Running,
                SavedPhase::Succeeded => PodPhase::Succeeded,
                SavedPhase::Failed => PodPhase::Failed,
            },
            exit: pod.exit,
        };
        saved.push((key, pod));
    }
    Ok(saved)
}

fn save(path: &Path, pods: &BTreeMap<RunKey, Pod>) -> Result<(), Error> {
    let mut content = Content { version: VERSION, ..Content::default() };
    let mut known: BTreeMap<&Shape, usize> = BTreeMap::new();
    for (key, pod) in pods {
        let shape = *known.entry(&pod.shape).or_insert_with(|| {
            content.shapes.push(pod.shape.canonical());
            content.shapes.len() - 1
        });
        content.pods.push(SavedPod {
            job: key.job.to_string(),
            attempt: key.attempt,
            node: pod.node.to_string(),
            shape,
            running_at: pod.running_at.0,
            ends_at: pod.ends_at.0,
            phase: match pod.phase {
                PodPhase::Pending => SavedPhase::Pending,
                PodPhase::Running => SavedPhase::Running,
                PodPhase::Succeeded => SavedPhase::Succeeded,
                PodPhase::Failed => SavedPhase::Failed,
            },
            exit: pod.exit.clone(),
        });
    }
    let text = serde_json::to_vec(&content).map_err(|error| Error::Io {
        what: "encoding the cluster".to_owned(),
        source: error.into(),
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("creating", folder))?;
    }
    let draft = path.with_extension("json.new");
    std::fs::write(&draft, text).map_err(io("writing", &draft))?;
    std::fs::rename(&draft, path).map_err(io("renaming", &draft))
}

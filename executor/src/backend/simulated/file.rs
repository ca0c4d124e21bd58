//! The files of a simulated cluster: all its pods as JSON, replaced as a whole by rename, and a log
//! of what it was told since then. A line of the log is with the operating system before the
//! command counts as done, so the cluster outlives its process like one of machines would.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
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

/// The files.
pub(super) struct File {
    path: PathBuf,
    /// Open for appending.
    log: Arc<fs::File>,
    blocking: Blocking,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Canonical texts; pods name them by position.
    shapes: Vec<String>,
    pods: Vec<SavedPod<usize>>,
}

/// A line of the log.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// A pod is like this from now on; its shape stands here as canonical text.
    Pod(SavedPod<String>),
    /// A pod is forgotten.
    Settled { job: String, attempt: u32 },
}

#[derive(Serialize, Deserialize)]
struct SavedPod<S> {
    job: String,
    attempt: u32,
    node: String,
    shape: S,
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
    /// Opens the files, with the pods that they name.
    pub(super) async fn open(path: PathBuf, blocking: Blocking) -> Result<(Self, Saved), Error> {
        let from = path.clone();
        let opened = blocking.run(move || open(&from)).await;
        let (log, saved) = opened.unwrap_or_else(|error| Err(lost(error)))?;
        Ok((Self { path, log: Arc::new(log), blocking }, saved))
    }

    /// Notes that a pod is like this now.
    pub(super) fn note(&self, key: RunKey, pod: &Pod) -> Result<(), Error> {
        self.append(&Line::Pod(SavedPod::new(key, pod, pod.shape.canonical())))
    }

    /// Notes that a pod is forgotten.
    pub(super) fn note_settled(&self, key: RunKey) -> Result<(), Error> {
        self.append(&Line::Settled { job: key.job.to_string(), attempt: key.attempt })
    }

    /// One write a line: whatever kills the process, no half of it is there.
    fn append(&self, line: &Line) -> Result<(), Error> {
        let mut text = encode(line)?;
        text.push(b'\n');
        (&*self.log).write_all(&text).map_err(io("appending to", &log_path(&self.path)))
    }

    /// Writes all pods anew; the log begins again.
    pub(super) async fn save(&self, pods: &BTreeMap<RunKey, Pod>) -> Result<(), Error> {
        let (path, log, pods) = (self.path.clone(), Arc::clone(&self.log), pods.clone());
        let saved = self.blocking.run(move || save(&path, &log, &pods)).await;
        saved.unwrap_or_else(|error| Err(lost(error)))
    }
}

impl<S> SavedPod<S> {
    fn new(key: RunKey, pod: &Pod, shape: S) -> Self {
        Self {
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
        }
    }

    fn key(&self) -> Result<RunKey, String> {
        key(&self.job, self.attempt)
    }

    fn into_pod(self, node: Name, shape: Arc<Shape>) -> Pod {
        Pod {
            node,
            shape,
            running_at: Timestamp(self.running_at),
            ends_at: Timestamp(self.ends_at),
            phase: match self.phase {
                SavedPhase::Pending => PodPhase::Pending,
                SavedPhase::Running => PodPhase::Running,
                SavedPhase::Succeeded => PodPhase::Succeeded,
                SavedPhase::Failed => PodPhase::Failed,
            },
            exit: self.exit,
        }
    }
}

fn key(job: &str, attempt: u32) -> Result<RunKey, String> {
    let job = job.parse().map_err(|error| format!("{error}"))?;
    Ok(RunKey { job, attempt })
}

/// The log beside a file of pods.
fn log_path(path: &Path) -> PathBuf {
    path.with_extension("jsonl")
}

fn lost(error: muster_runtime::blocking::Error) -> Error {
    Error::Io { what: "blocking work".to_owned(), source: std::io::Error::other(error) }
}

fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("{what} `{}`", path.display());
    |source| Error::Io { what, source }
}

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::State { path: path.display().to_string(), reason: reason.into() }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Io {
        what: "encoding the cluster".to_owned(),
        source: error.into(),
    })
}

/// What a file holds; nothing when it is not there.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        text => text.map_err(io("reading", path)),
    }
}

fn open(path: &Path) -> Result<(fs::File, Saved), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io("creating", folder))?;
    }
    let mut pods = BTreeMap::new();
    load(path, &mut pods)?;
    let log_path = log_path(path);
    let text = read(&log_path)?;
    replay(&text, &mut pods).map_err(|reason| bad(&log_path, reason))?;
    let log = fs::OpenOptions::new().append(true).create(true).open(&log_path);
    let log = log.map_err(io("opening", &log_path))?;
    if !text.is_empty() {
        save(path, &log, &pods)?;
    }
    Ok((log, pods.into_iter().collect()))
}

fn load(path: &Path, pods: &mut BTreeMap<RunKey, Pod>) -> Result<(), Error> {
    let text = read(path)?;
    if text.is_empty() {
        return Ok(());
    }
    let bad = |reason: String| bad(path, reason);
    let content: Content = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if content.version != VERSION {
        return Err(bad(format!("version is {}, not {VERSION}", content.version)));
    }
    let shapes: Option<Vec<Arc<Shape>>> =
        content.shapes.iter().map(|text| Shape::from_canonical(text).map(Arc::new)).collect();
    let shapes = shapes.ok_or_else(|| bad("a shape is malformed".to_owned()))?;
    let mut nodes: BTreeMap<String, Name> = BTreeMap::new();
    for pod in content.pods {
        let shape = shapes.get(pod.shape).ok_or_else(|| bad("a shape is missing".to_owned()))?;
        let node = nodes.entry(pod.node.clone()).or_insert_with_key(|node| node.as_str().into());
        let key = pod.key().map_err(bad)?;
        pods.insert(key, pod.into_pod(node.clone(), Arc::clone(shape)));
    }
    Ok(())
}

/// Does again what the log says was done. Only a crash of the machine can have cut its last line
/// off, and then the command in it was never done.
fn replay(text: &[u8], pods: &mut BTreeMap<RunKey, Pod>) -> Result<(), String> {
    let mut shapes: BTreeMap<String, Arc<Shape>> = BTreeMap::new();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let at = |what: String| format!("line {}: {what}", number + 1);
        match serde_json::from_slice(line).map_err(|error| at(error.to_string()))? {
            Line::Settled { job, attempt } => {
                pods.remove(&key(&job, attempt).map_err(at)?);
            }
            Line::Pod(pod) => {
                let shape = match shapes.get(&pod.shape) {
                    Some(shape) => Arc::clone(shape),
                    None => {
                        let shape = Shape::from_canonical(&pod.shape).map(Arc::new);
                        let shape = shape.ok_or_else(|| at("its shape is malformed".to_owned()))?;
                        shapes.insert(pod.shape.clone(), Arc::clone(&shape));
                        shape
                    }
                };
                let node = pod.node.as_str().into();
                pods.insert(pod.key().map_err(at)?, pod.into_pod(node, shape));
            }
        }
    }
    Ok(())
}

fn save(path: &Path, log: &fs::File, pods: &BTreeMap<RunKey, Pod>) -> Result<(), Error> {
    let mut content = Content { version: VERSION, ..Content::default() };
    let mut known: BTreeMap<&Shape, usize> = BTreeMap::new();
    for (key, pod) in pods {
        let shape = *known.entry(&pod.shape).or_insert_with(|| {
            content.shapes.push(pod.shape.canonical());
            content.shapes.len() - 1
        });
        content.pods.push(SavedPod::new(*key, pod, shape));
    }
    let text = encode(&content)?;
    let draft = path.with_extension("json.new");
    fs::write(&draft, text).map_err(io("writing", &draft))?;
    fs::rename(&draft, path).map_err(io("renaming", &draft))?;
    // Killed here, the next process does again what these pods have behind them already: the same
    // pods come out, as each line says all of its pod, and what only time did is done by time
    // again.
    log.set_len(0).map_err(io("cutting", &log_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_log_is_refused_with_its_line_and_a_cut_off_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("simulated-c.json");
        let log = log_path(&path);
        let settled = r#"{"settled":{"job":"01m89qxqzb0012ettaypcj0yq3","attempt":1}}"#;
        fs::write(&log, format!("{settled}\n{{\"pod\":")).unwrap();
        let (_, saved) = open(&path).unwrap();
        assert!(saved.is_empty());
        assert_eq!(fs::read(&log).unwrap(), b"");
        fs::write(&log, format!("{settled}\n{{\"pod\":3}}\n")).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("simulated-c.jsonl` cannot be read: line 2: "), "{error}");
    }
}

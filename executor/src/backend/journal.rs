//! A diary of what a cluster really ran: a back end behind which every start and every end of a run
//! is written down, to a file that only grows. Whoever doubts the system compares it with what the
//! system says.
//!
//! A line is a JSON object: `{"at":MILLISECONDS,"job":ID,"attempt":N,"what":"started"}`, or with
//! the status that it ended with in place of `started`. `started` is written before the cluster is
//! told to start the run, so that no run is missing; a run has `gone` that was not there after a
//! restart, or had never come there because the executor was killed before it told the cluster.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use muster_api::bus::RunStatus;
use muster_core::id::JobRef;
use muster_core::time::Timestamp;
use muster_runtime::Clock;
use muster_runtime::tasks::{Policy, Supervisor};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Adopted, ClusterBackend, Error, Grace, Node, NodeChange, Opened, Piece, Start};
use crate::limits;
use crate::runs::RunKey;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    at: i64,
    job: String,
    attempt: u32,
    what: String,
}

const STARTED: &str = "started";
const GONE: &str = "gone";

struct Journal {
    file: Mutex<File>,
    path: PathBuf,
    clock: Clock,
}

/// A back end with its diary.
struct Recorded {
    inner: Arc<dyn ClusterBackend>,
    journal: Arc<Journal>,
    /// Runs that an earlier process started and saw no end of.
    unended: BTreeSet<RunKey>,
}

/// The diary of a cluster in the executor's state directory.
#[must_use]
pub fn path(state_dir: &Path, cluster: &str) -> PathBuf {
    state_dir.join(format!("runs-{cluster}.jsonl"))
}

/// The same back end, with everything written to `path`.
///
/// # Errors
/// When the file cannot be read or written.
pub async fn record(
    opened: Opened,
    path: PathBuf,
    clock: Clock,
    tasks: &Supervisor,
) -> Result<Opened, Error> {
    let io = |source| Error::Io { what: format!("opening `{}`", path.display()), source };
    let unended = unended(&path).map_err(io)?;
    let file = OpenOptions::new().append(true).create(true).open(&path).map_err(io)?;
    let journal = Arc::new(Journal { file: Mutex::new(file), path, clock });
    let Opened { backend: inner, events: mut inner_events } = opened;
    let (sender, events) = mpsc::channel(limits::EVENTS_MAX);
    let writer = Arc::clone(&journal);
    // It ends with the back end, whose last events are still to be told when the executor stops.
    tasks.spawn_once("run-journal", Policy::DETACHED, move |_| async move {
        while let Some(event) = inner_events.recv().await {
            writer.ended(event.key, event.status, event.at);
            if sender.send(event).await.is_err() {
                break;
            }
        }
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(Opened { backend: Arc::new(Recorded { inner, journal, unended }), events })
}

/// Runs of a diary that have started and not ended.
fn unended(path: &Path) -> std::io::Result<BTreeSet<RunKey>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        file => file?,
    };
    let mut open = BTreeSet::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        // A line that was cut off by a crash of the machine says nothing.
        let Ok(Line { job, attempt, what, .. }) = serde_json::from_str(&line) else { continue };
        let Ok(job) = job.parse::<JobRef>() else { continue };
        let key = RunKey { job, attempt };
        if what == STARTED {
            open.insert(key);
        } else {
            open.remove(&key);
        }
    }
    Ok(open)
}

impl Journal {
    fn ended(&self, key: RunKey, status: RunStatus, at: Timestamp) {
        let what = match status {
            RunStatus::Pending | RunStatus::Running => return,
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Returned => "returned",
            RunStatus::Lost => "lost",
        };
        self.write(key, what, at);
    }

    fn write(&self, key: RunKey, what: &str, at: Timestamp) {
        let RunKey { job, attempt } = key;
        let line = Line { at: at.0, job: job.to_string(), attempt, what: what.to_owned() };
        let mut text = serde_json::to_vec(&line).expect("a line is plain data");
        text.push(b'\n');
        // One write a line: whatever kills the process, no half of it is there.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&text) {
            tracing::error!(path = %self.path.display(), %error, "the journal of runs has a gap");
        }
    }
}

#[async_trait]
impl ClusterBackend for Recorded {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.inner.nodes().await
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        self.inner.node_changes().await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        let adopted = self.inner.adopt().await?;
        let mut gone = self.unended.clone();
        for run in &adopted {
            if gone.remove(&run.key) {
                self.journal.ended(run.key, run.report.status, Timestamp(run.report.at_ms));
            }
        }
        let now = self.journal.clock.now();
        gone.into_iter().for_each(|key| self.journal.write(key, GONE, now));
        Ok(adopted)
    }

    async fn start(&self, start: Start) {
        self.journal.write(start.key, STARTED, self.journal.clock.now());
        self.inner.start(start).await;
    }

    async fn stop(&self, run: RunKey, grace: Grace) {
        self.inner.stop(run, grace).await;
    }

    async fn settle(&self, run: RunKey) {
        self.inner.settle(run).await;
    }

    async fn logs(
        &self,
        run: RunKey,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error> {
        self.inner.logs(run, offset, limit, wait).await
    }
}

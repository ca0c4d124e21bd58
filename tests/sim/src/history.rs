//! What the clients did and were told, for the check at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_core::id::{JobId, JobRef};

use crate::terms::Wishes;

/// A line of a submission.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Names this line of this submission; an annotation of the job.
    pub(crate) tag: String,
    pub(crate) client_id: Option<String>,
    /// Tasks, for an array.
    pub(crate) count: Option<u32>,
    /// The pod spec as it is sent.
    pub(crate) spec: String,
    /// What it asks for beside what it runs.
    pub(crate) wishes: Wishes,
    /// What it was answered, and when first.
    pub(crate) id: Option<(JobId, Duration)>,
}

/// One submission, sent once or several times.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) queue: String,
    pub(crate) job_set: String,
    pub(crate) key: Option<String>,
    pub(crate) lines: Vec<Line>,
    /// How often it was sent.
    pub(crate) sent: u32,
}

/// A cancellation that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Cancelled {
    pub(crate) ids: Vec<JobId>,
    pub(crate) at: Duration,
}

/// Which jobs a cancellation means.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Jobs(Vec<JobId>),
    /// Of a queue, a job set.
    JobSet(String, String),
}

/// A cancellation that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct CancelAsked {
    pub(crate) target: Target,
    pub(crate) asked: Duration,
    /// When it was acknowledged, if it was.
    pub(crate) answered: Option<Duration>,
}

/// A state that a read was answered with.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) job: JobRef,
    pub(crate) state: String,
    /// When it was asked, and when it was answered.
    pub(crate) asked: Duration,
    pub(crate) answered: Duration,
}

/// An event as a watcher saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) cursor: String,
    pub(crate) job: String,
    pub(crate) event: String,
    pub(crate) count: u32,
    pub(crate) attempt: Option<u32>,
}

/// What one watcher of a job set saw, over all its connections.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watched {
    pub(crate) events: Vec<(Seen, Duration)>,
    /// Before which of them the watcher was told that what came before is no longer kept.
    pub(crate) expired: BTreeSet<usize>,
}

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) cancels: Vec<CancelAsked>,
    pub(crate) cancelled: Vec<Cancelled>,
    pub(crate) reads: Vec<Read>,
    /// By queue, job set and number of the watcher.
    pub(crate) watched: BTreeMap<(String, String, usize), Watched>,
    pub(crate) findings: Vec<String>,
    /// Operations whose outcome was looked at.
    pub(crate) operations: u64,
}

/// The books of all clients. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct History {
    books: Arc<Mutex<Books>>,
}

impl History {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no code panics while it holds this lock")
    }

    /// Notes that something is wrong.
    pub(crate) fn find(&self, what: String) {
        self.lock().findings.push(what);
    }

    /// Counts an operation whose outcome was looked at.
    pub(crate) fn checked(&self) {
        self.lock().operations += 1;
    }
}

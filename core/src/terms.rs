//! The terms of a job: what it asks for beside what it runs and where. Most jobs have none.

use std::fmt;
use std::sync::Arc;

use crate::Name;
use crate::id::JobId;
use crate::job::JobState;
use crate::retry::Policy;
use crate::time::Timestamp;

/// What a job asks for beside what it runs and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How many tasks of the array clusters may hold at once.
    pub running_max: Option<u32>,
    /// What has to end before it stands in the order of its queue.
    pub after: Vec<Dependency>,
    /// What becomes of it when a run does not end well; what its queue says if it says nothing.
    pub retry: Option<Arc<Policy>>,
}

impl Terms {
    /// Whether they say nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Another job of the same queue that has to end first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// Which.
    pub on: On,
    /// How it has to end.
    pub when: When,
}

/// How a dependency names its job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// By its id; an array as a whole.
    Job(JobId),
    /// By what the submitter calls it. A shard keeps the id that it stands for.
    Client(Name),
}

/// How a job has to end for those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Well; of an array each task.
    Success,
    /// In whatever way.
    Finish,
    /// Badly: it failed; of an array at least one task.
    Failure,
}

impl When {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Finish, Self::Failure];

    /// Its name in the API and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Finish => "finish",
            Self::Failure => "failure",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.name() == name)
    }

    /// Whether a job that ended so is what was waited for.
    #[must_use]
    pub fn is_met_by(self, end: JobState) -> bool {
        match self {
            Self::Success => end == JobState::Succeeded,
            Self::Finish => end.is_final(),
            Self::Failure => end == JobState::Failed,
        }
    }

    /// What a job that is waited for has to do.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Success => "succeed",
            Self::Finish => "finish",
            Self::Failure => "fail",
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job `{id}`"),
            Self::Client(name) => write!(f, "client id `{name}`"),
        }
    }
}

/// Why a job that waits does not stand in the order of its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldBack {
    /// Jobs that it depends on have not ended yet.
    After(Vec<Dependency>),
    /// It is tried again, not before that time.
    Until(Timestamp),
    /// Clusters hold as many tasks of its array as may be.
    ArrayFull {
        /// How many that is.
        running_max: u32,
    },
}

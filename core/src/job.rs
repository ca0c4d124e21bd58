//! The life of a job: its states, and how many jobs are in each.

use std::ops::{Index, IndexMut};

/// The state of a job or of one task of an array. It is in exactly one at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Waiting to be leased.
    Queued,
    /// Promised to a cluster, which has not spoken of it yet.
    Leased,
    /// The cluster has it; its containers do not run yet.
    Pending,
    /// Its containers run.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, for good.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Leased,
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state's name in the API, the log and the history: lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// An array's state as one: queued while all of it waits, running while any of it lives, and
    /// then the worst that befell a task.
    #[must_use]
    pub fn of_array(counts: &Counts) -> Self {
        if counts[Self::Queued] == counts.total() {
            Self::Queued
        } else if counts.live() > 0 {
            Self::Running
        } else if counts[Self::Failed] > 0 {
            Self::Failed
        } else if counts[Self::Cancelled] > 0 {
            Self::Cancelled
        } else {
            Self::Succeeded
        }
    }

    /// Whether nothing can happen to the job any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Pending | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Whether a cluster holds the job.
    #[must_use]
    pub fn is_on_cluster(self) -> bool {
        match self {
            Self::Leased | Self::Pending | Self::Running => true,
            Self::Queued | Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }
}

/// A set of states, for filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSet(u8);

impl StateSet {
    /// Every state.
    pub const ALL: Self = Self((1 << JobState::ALL.len()) - 1);

    /// No state.
    pub const NONE: Self = Self(0);

    /// Every state but the final ones.
    #[must_use]
    pub fn live() -> Self {
        JobState::ALL.into_iter().filter(|s| !s.is_final()).collect()
    }

    /// Whether `state` is in it.
    #[must_use]
    pub fn contains(self, state: JobState) -> bool {
        self.0 & (1 << state as u8) != 0
    }

    /// Whether it holds a final state.
    #[must_use]
    pub fn holds_final(self) -> bool {
        JobState::ALL.into_iter().any(|s| s.is_final() && self.contains(s))
    }

    /// Whether it holds a state that is not final.
    #[must_use]
    pub fn holds_live(self) -> bool {
        JobState::ALL.into_iter().any(|s| !s.is_final() && self.contains(s))
    }
}

impl FromIterator<JobState> for StateSet {
    fn from_iter<I: IntoIterator<Item = JobState>>(states: I) -> Self {
        Self(states.into_iter().fold(0, |bits, state| bits | 1 << state as u8))
    }
}

/// How many jobs are in each state; the tasks of an array count one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; JobState::ALL.len()]);

impl Counts {
    /// Jobs in any state.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Jobs in a state that is not final.
    #[must_use]
    pub fn live(&self) -> u64 {
        JobState::ALL.into_iter().filter(|s| !s.is_final()).map(|s| self[s]).sum()
    }

    /// Moves `n` jobs from one state to another.
    ///
    /// # Panics
    /// When fewer than `n` are in `from`: a job would be in two states.
    pub fn shift(&mut self, from: JobState, to: JobState, n: u64) {
        let left = self[from].checked_sub(n);
        self[from] = left.expect("a job leaves only the state that it is in");
        self[to] += n;
    }
}

impl Index<JobState> for Counts {
    type Output = u64;

    fn index(&self, state: JobState) -> &u64 {
        &self.0[state as usize]
    }
}

impl IndexMut<JobState> for Counts {
    fn index_mut(&mut self, state: JobState) -> &mut u64 {
        &mut self.0[state as usize]
    }
}

/// Where a port of a run can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The port of the container.
    pub port: u32,
    /// A host, or a host and a port.
    pub address: crate::Name,
}

/// How a run ended, as the executor saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The container's exit code, where it exited by itself.
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// A word for why: `Completed`, `Error`, `OOMKilled`, `DeadlineExceeded`, `NodeLost`, …
    pub reason: Option<crate::Name>,
    /// One sentence for people.
    pub message: Option<crate::Name>,
    /// What it was seen to use, where its cluster measures that.
    pub usage: Option<Usage>,
}

/// What a run was seen to use; between two looks at it nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most memory at once, in bytes.
    pub memory_peak_bytes: u64,
    /// Cpu time, in milliseconds of one core.
    pub cpu_time_ms: u64,
}

impl Usage {
    /// What both know together: either only rises, and who began anew knows less.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            cpu_time_ms: self.cpu_time_ms.max(other.cpu_time_ms),
        }
    }
}

impl Exit {
    /// Whether it is that of a run that made room for others.
    #[must_use]
    pub fn is_preempted(&self) -> bool {
        self.reason.as_deref() == Some(crate::retry::Reason::Preempted.name())
    }

    /// The end of a run that made room for others.
    #[must_use]
    pub fn preempted(reason: &crate::Name) -> Self {
        Self { reason: Some("Preempted".into()), message: Some(reason.clone()), ..Self::default() }
    }
}

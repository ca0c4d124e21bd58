//! Records: the rows of a shard's log. Applied in order they make the shard's state, and nothing
//! else does.

use std::sync::Arc;

use bytes::Bytes;

use crate::Name;
use crate::command::Outcome;
use crate::id::{CommandId, JobId, JobRef, Position};
use crate::job::{Address, Counts, Exit, JobState, Usage};
use crate::shape::Shape;
use crate::terms::Terms;
use crate::time::Timestamp;

/// One row of the log or of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A job or an array came in.
    Submitted(Box<Submitted>),
    /// A job changed its state, or something that users may see.
    Changed(Changed),
    /// A command was carried out; sent again under the same id it is answered from here.
    Command(Done),
    /// A queue was closed: submissions that mean this incarnation or an older one are refused.
    QueueClosed {
        /// The queue.
        queue: Name,
        /// Its incarnation, see [`crate::control::Queue`].
        incarnation: u64,
        /// When.
        at: Timestamp,
    },
    /// What is kept for a time only was forgotten as far as it was too old at that time: answers to
    /// commands, client ids, job sets of which nothing lives.
    Forgotten {
        /// When.
        at: Timestamp,
    },
    /// Jobs that were to be tried again, not before that time or an earlier one, stand in the
    /// orders of their queues.
    Rested {
        /// When.
        at: Timestamp,
    },
    /// The finished jobs up to a place in the log will be written to history objects with fixed
    /// names.
    HistoryPlanned(HistorySpan),
    /// They have been written.
    HistoryWritten(HistorySpan),
    /// Checkpoints only: a live job as it stood.
    Job(Box<LiveJob>),
    /// Checkpoints only: a job set as it stood.
    JobSet(JobSetTotals),
    /// Checkpoints only: how the jobs ended that finished last, the oldest first.
    Ends(Vec<(JobId, JobState)>),
    /// Checkpoints only: the last id that was given. Ids rise also when clocks go back.
    LastJob(JobId),
    /// Checkpoints only: a finished job that no history object holds yet.
    Finished(Box<crate::history::Finished>),
}

/// A range of the log whose finished jobs go to history together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistorySpan {
    /// Jobs that finished after this place …
    pub after: Position,
    /// … up to and with this one.
    pub through: Position,
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The command's id.
    pub id: CommandId,
    /// When it was carried out.
    pub at: Timestamp,
    /// The hash of queue, job set and `Idempotency-Key` that it came with: its lines keep their
    /// ids.
    pub key: Option<u128>,
    /// What it was answered.
    pub outcome: Outcome,
}

/// A job as submitted. Everything that only the pod needs stays bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// Its id.
    pub job: JobId,
    /// Its queue.
    pub queue: Name,
    /// Its job set.
    pub job_set: Name,
    /// What the submitter calls it, unique in the queue.
    pub client_id: Option<Name>,
    /// Lower runs earlier.
    pub priority: u32,
    /// How many tasks, for an array.
    pub count: Option<u32>,
    /// Whether a lost run means failure, not another attempt.
    pub at_most_once: bool,
    /// What it asks for beside that, if anything. What it depends on is named by ids; in a
    /// checkpoint only what has not ended yet.
    pub terms: Option<Arc<Terms>>,
    /// What the scheduler needs to know.
    pub shape: Arc<Shape>,
    /// What the executor needs to know.
    pub payload: Payload,
}

/// The parts of a job that are kept and handed on byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The namespace of its pod.
    pub namespace: Name,
    /// Labels, as a JSON object; empty where none were given.
    pub labels: Bytes,
    /// Annotations, as a JSON object; empty where none were given.
    pub annotations: Bytes,
    /// Services and ingresses, as a JSON object; empty where none were given.
    pub network: Bytes,
    /// The pod spec, as JSON.
    pub pod_spec: Bytes,
}

impl Payload {
    /// Bytes of it, but for the namespace.
    #[must_use]
    pub fn len(&self) -> usize {
        [&self.labels, &self.annotations, &self.network, &self.pod_spec]
            .into_iter()
            .map(Bytes::len)
            .sum()
    }

    /// Whether it holds nothing, but perhaps the namespace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of one job (or task, or array as a whole).
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// What changed.
    pub job: JobRef,
    /// Its queue.
    pub queue: Name,
    /// Its job set.
    pub job_set: Name,
    /// When.
    pub at: Timestamp,
    /// How many jobs it concerns: more than one only when an array changed as a whole.
    pub count: u32,
    /// How it changed.
    pub change: Change,
}

/// How a job changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Queued → leased.
    Leased {
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The cluster that has it.
        cluster: Name,
        /// The node chosen for it.
        node: Name,
    },
    /// Leased → pending.
    Pending {
        /// The attempt that reports.
        attempt: u32,
    },
    /// Leased or pending → running.
    Running {
        /// The attempt that reports.
        attempt: u32,
        /// Where its ports can be reached, of a job with services or ingresses.
        addresses: Vec<Address>,
    },
    /// On a cluster → succeeded.
    Succeeded {
        /// The attempt that reports.
        attempt: u32,
        /// How the run ended.
        exit: Exit,
    },
    /// On a cluster → failed.
    Failed {
        /// The attempt that failed.
        attempt: u32,
        /// How the run ended.
        exit: Exit,
    },
    /// On a cluster → queued again.
    Requeued {
        /// The attempt that was given up.
        attempt: u32,
        /// How the run ended, as far as it is known.
        exit: Exit,
        /// What is different with the next one.
        next: Next,
    },
    /// On a cluster → queued again, to make room for others; its pod is to be stopped.
    Preempted {
        /// The attempt that was given up.
        attempt: u32,
        /// For whom, and why it and not another.
        reason: Name,
        /// What it was seen to use, where its cluster measures that.
        usage: Option<Usage>,
    },
    /// Live → cancelled. For an array as a whole: every task that was queued, `count` of them.
    Cancelled {
        /// Why, in the words of who asked.
        reason: Option<Name>,
        /// What its run was seen to use, if it had one and its cluster measures that.
        usage: Option<Usage>,
    },
    /// The priority changed; the state did not.
    Reprioritized {
        /// The new priority.
        priority: u32,
    },
}

impl Change {
    /// The state that the job is in after the change; `None` where the state stays.
    #[must_use]
    pub fn state(&self) -> Option<JobState> {
        match self {
            Self::Leased { .. } => Some(JobState::Leased),
            Self::Pending { .. } => Some(JobState::Pending),
            Self::Running { .. } => Some(JobState::Running),
            Self::Succeeded { .. } => Some(JobState::Succeeded),
            Self::Failed { .. } => Some(JobState::Failed),
            Self::Requeued { .. } | Self::Preempted { .. } => Some(JobState::Queued),
            Self::Cancelled { .. } => Some(JobState::Cancelled),
            Self::Reprioritized { .. } => None,
        }
    }

    /// Says what the run that ends was seen to use.
    pub fn tell_usage(&mut self, used: Usage) {
        let usage = match self {
            Self::Succeeded { exit, .. }
            | Self::Failed { exit, .. }
            | Self::Requeued { exit, .. } => &mut exit.usage,
            Self::Preempted { usage, .. } | Self::Cancelled { usage, .. } => usage,
            Self::Leased { .. }
            | Self::Pending { .. }
            | Self::Running { .. }
            | Self::Reprioritized { .. } => return,
        };
        *usage = Some(usage.map_or(used, |known| known.most(used)));
    }
}

/// One attempt at a job on one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The cluster.
    pub cluster: Name,
    /// The node.
    pub node: Name,
    /// When it was leased.
    pub leased_at: Timestamp,
    /// When its containers began to run.
    pub started_at: Option<Timestamp>,
    /// Where its ports can be reached, of a job with services or ingresses.
    pub addresses: Vec<Address>,
    /// When it ended, and how.
    pub ended: Option<(Timestamp, Exit)>,
}

/// A live job in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveJob {
    /// As it was submitted, its priority as it stands, its payload empty.
    pub submitted: Submitted,
    /// Where the payload lies: the log object and row of its submission.
    pub spec: Position,
    /// A single job as it stands; for an array, see `array`.
    pub task: Task,
    /// The tasks of an array.
    pub array: Option<ArrayTasks>,
}

/// A single job, or one task of an array, as it stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Task {
    /// Attempts so far.
    pub attempts: u32,
    /// The run that the system believes in, and its state.
    pub active: Option<(JobState, Run)>,
    /// Runs that ended.
    pub past: Vec<Run>,
    /// What is different with its next run, or with the one that it has.
    pub next: Next,
}

/// What is different with the next attempt at a job or task, if anything is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Next {
    /// How many retries of its policy were used up so far.
    pub retries: u32,
    /// When it stands in the order of its queue again; at once if none is named.
    pub not_before: Option<Timestamp>,
    /// Its shape, if that is another than it was submitted with.
    pub shape: Option<Arc<Shape>>,
}

/// The live tasks of an array.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArrayTasks {
    /// Queued tasks as ranges `[start, end)`, ascending, none touching the next.
    pub queued: Vec<(u32, u32)>,
    /// Tasks that were leased at least once and are live, by index.
    pub touched: Vec<(u32, Task)>,
    /// How many tasks are in each state.
    pub counts: Counts,
}

/// A job set in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSetTotals {
    /// Its queue.
    pub queue: Name,
    /// Its name.
    pub job_set: Name,
    /// The first record that spoke of it.
    pub first: Position,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// How many of its jobs are in each state.
    pub counts: Counts,
}

//! Commands: everything that may change a shard, and what they are answered.

use std::sync::Arc;

use crate::Name;
use crate::id::{JobId, JobRef};
use crate::job::{Exit, StateSet};
use crate::record::{HistorySpan, Payload};
use crate::shape::Shape;
use crate::terms::{On, Terms};

/// A request to change a shard's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take jobs in.
    Submit(Submit),
    /// Cancel live jobs.
    Cancel {
        /// Which.
        target: Target,
        /// Why.
        reason: Option<Name>,
    },
    /// Change the priority of live jobs.
    Reprioritize {
        /// Which.
        target: Target,
        /// To what.
        priority: u32,
    },
    /// Lease the head of queues to nodes of a cluster.
    Lease(Lease),
    /// Take jobs off a cluster again, to make room for others: they wait once more.
    Preempt(Preempt),
    /// What a cluster says of its runs.
    Report {
        /// The cluster.
        cluster: Name,
        /// What it says, in the order in which it happened.
        reports: Vec<Report>,
    },
    /// Give up every run of a cluster that was not heard of for too long.
    ExpireCluster {
        /// The cluster.
        cluster: Name,
        /// At most so many runs at once.
        runs_max: usize,
    },
    /// Nothing but that time passes: what is due by it is done with every command.
    Tick,
    /// Refuse submissions to a queue from now on, unless live jobs stand in it.
    CloseQueue {
        /// The queue.
        queue: Name,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Plan the writing of history objects.
    PlanHistory(HistorySpan),
    /// Note that planned history objects are written.
    NoteHistory(HistorySpan),
}

/// Jobs for one queue and job set.
#[derive(Debug, Clone, PartialEq)]
pub struct Submit {
    /// The queue.
    pub queue: Name,
    /// The queue's incarnation, as the sender knows it.
    pub incarnation: u64,
    /// The job set.
    pub job_set: Name,
    /// The hash of queue, job set and `Idempotency-Key`, where one was given: a line of it that was
    /// accepted before keeps its id.
    pub key: Option<u128>,
    /// How many jobs may wait in the queue once these do; none for any number.
    pub queued_max: Option<u64>,
    /// The jobs, by rising `line`.
    pub jobs: Vec<NewJob>,
}

/// A job to be taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its place in the submission: what makes it the same job when the submission comes again.
    pub line: u64,
    /// What the submitter calls it.
    pub client_id: Option<Name>,
    /// Lower runs earlier.
    pub priority: u32,
    /// How many tasks, for an array.
    pub count: Option<u32>,
    /// Whether a lost run means failure, not another attempt.
    pub at_most_once: bool,
    /// What it asks for beside that, if anything.
    pub terms: Option<Arc<Terms>>,
    /// What the scheduler needs to know.
    pub shape: Arc<Shape>,
    /// What the executor needs to know.
    pub payload: Payload,
}

/// Which jobs a command means.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// These.
    Jobs(Vec<JobRef>),
    /// Every job of a job set that is in one of these states.
    JobSet {
        /// The queue.
        queue: Name,
        /// The job set.
        job_set: Name,
        /// The states.
        states: StateSet,
    },
}

impl Target {
    /// Whether it means the jobs of a job set, whichever these are when the command is carried out.
    #[must_use]
    pub fn is_job_set(&self) -> bool {
        matches!(self, Self::JobSet { .. })
    }
}

/// What the leader wants leased to one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The cluster.
    pub cluster: Name,
    /// Whether its nodes are lent by another pool, which may take them back at any time: a job that
    /// may run at most once is not leased there.
    pub is_away: bool,
    /// What goes where, in order.
    pub picks: Vec<Pick>,
}

/// So many jobs of one shape from the head of a queue to one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// The queue.
    pub queue: Name,
    /// The priority that the head had when it was offered.
    pub priority: u32,
    /// The shape.
    pub shape: crate::shape::ShapeKey,
    /// The node.
    pub node: Name,
    /// How many.
    pub count: u32,
}

/// What is to give way on one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Preempt {
    /// The cluster.
    pub cluster: Name,
    /// Who.
    pub victims: Vec<Victims>,
}

/// So many jobs of one queue and shape on one node, those first that were leased last. Jobs that
/// may run at most once stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Victims {
    /// The queue.
    pub queue: Name,
    /// The shape.
    pub shape: crate::shape::ShapeKey,
    /// The node.
    pub node: Name,
    /// At most how many.
    pub count: u32,
    /// For whom, and why they and not others.
    pub reason: Name,
}

/// What a cluster says of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The job or task.
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
    /// What it has come to.
    pub status: RunStatus,
    /// When, by the cluster's clock.
    pub at: crate::time::Timestamp,
    /// Where its ports can be reached, of one that runs and has services or ingresses.
    pub addresses: Vec<crate::job::Address>,
    /// What it was seen to use so far, of one that runs where that is measured.
    pub used: Option<crate::job::Usage>,
}

/// What has become of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunStatus {
    /// The cluster has it.
    Pending,
    /// Its containers run.
    Running,
    /// It ended well.
    Succeeded(Exit),
    /// It ended badly.
    Failed(Exit),
    /// It never started here and may start elsewhere: the node refused it.
    Returned(Exit),
    /// It was running, and the cluster lost it without knowing how it ended.
    Lost(Exit),
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Jobs were taken in.
    Submitted(Vec<IdRun>),
    /// Jobs were cancelled or reprioritized.
    Applied {
        /// How many jobs changed, tasks one by one.
        changed: u64,
        /// Named ones that had finished before.
        finished: Vec<JobRef>,
        /// Named ones that the shard does not know.
        missing: Vec<JobRef>,
    },
    /// Jobs were leased.
    Leased(Vec<LeasedRun>),
    /// Runs were given up to make room.
    Preempted(Vec<PreemptedRun>),
    /// An answer to each report, in order.
    Reported(Vec<Verdict>),
    /// So many runs were given up.
    Expired(usize),
    /// The queue is closed.
    QueueClosed,
    /// History was planned or noted.
    Noted,
    /// Nothing was done.
    Refused(Refusal),
}

/// Consecutive lines of a submission with consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRun {
    /// The first line.
    pub line: u64,
    /// The id of that line's job.
    pub first: JobId,
    /// How many lines.
    pub count: u32,
}

/// A job that was leased.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedRun {
    /// The job or task.
    pub job: JobRef,
    /// The number of this attempt.
    pub attempt: u32,
    /// The node.
    pub node: Name,
    /// Its shape.
    pub shape: Arc<Shape>,
}

/// A run that was given up to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreemptedRun {
    /// Which of the command's victims it is one of.
    pub victims: u32,
    /// The job or task.
    pub job: JobRef,
    /// The attempt.
    pub attempt: u32,
}

/// What a report is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log.
    Taken,
    /// The system does not believe in that attempt (any more): its pod is to be stopped.
    Stale,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue was deleted.
    #[error("queue `{queue}` was deleted")]
    QueueClosed {
        /// The queue.
        queue: Name,
    },
    /// A line came before under the same key as another job.
    #[error(
        "line {line} came before under this Idempotency-Key as job `{job}`, which is another job: \
         a key stands for one submission"
    )]
    KeyReused {
        /// The line, from 1.
        line: u64,
        /// What it was then.
        job: JobId,
    },
    /// More jobs would wait in the queue than may.
    #[error(
        "{queued} jobs wait in queue `{queue}` and {more} more were submitted at once, limit is {max}"
    )]
    QueueFull {
        /// The queue.
        queue: Name,
        /// Jobs that wait in it, tasks one by one.
        queued: u64,
        /// Jobs that were to wait beside them.
        more: u64,
        /// How many may wait.
        max: u64,
    },
    /// A job cannot be a member of the gang that it names.
    #[error("line {line} cannot be a member of gang `{gang}`: {why}")]
    NoMember {
        /// The line, from 1.
        line: u64,
        /// What its queue calls the gang.
        gang: Name,
        /// What speaks against it.
        why: Name,
    },
    /// A job depends on one that the shard does not know, or that stands behind it.
    #[error("line {line}: dependsOn: {on} is not known in queue `{queue}`: {reason}")]
    DependencyUnknown {
        /// The line, from 1.
        line: u64,
        /// The job that it names.
        on: On,
        /// The queue.
        queue: Name,
        /// Why not.
        reason: Unknown,
    },
    /// The queue cannot be closed.
    #[error("queue `{queue}` has {live} live jobs")]
    QueueInUse {
        /// The queue.
        queue: Name,
        /// Jobs in it that are not finished.
        live: u64,
    },
}

/// Why a job that another depends on is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such job lives or ended recently.
    #[error("there is none, or it ended too long ago")]
    NotThere,
    /// It is a later line of the same submission.
    #[error("it is a later line of the submission, and only earlier ones can be depended on")]
    Later,
}

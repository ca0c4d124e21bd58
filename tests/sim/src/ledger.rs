//! The books that the checker makes of the log alone: what each job went through, by rules that are
//! written here once more, and not taken from the code that is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use muster_core::command::Outcome;
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::record::{Change, Changed, Record, Submitted};
use muster_core::resources::Resources;
use muster_runtime::codec::{self, Columns, Kind};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::client::TAG;
use crate::grants::Grant;
use crate::history::Seen;
use crate::store::Landings;

/// Where a job or task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Queued,
    /// Leased, pending or running.
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

impl Standing {
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Held => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// By the name that the API has for it.
    pub(crate) fn of_state(state: &str) -> Option<Self> {
        match state {
            "queued" => Some(Self::Queued),
            "leased" | "pending" | "running" => Some(Self::Held),
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job or a task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) standing: Standing,
    attempt: u32,
    /// How often it was queued again after a run of it ended by itself.
    pub(crate) retried: u32,
    /// When its last change landed.
    pub(crate) at: Duration,
    /// When it ended, as the number of the change in the order of the log.
    pub(crate) ended: Option<u64>,
    /// Where it stood, and since when, from its submission on.
    stood: Vec<(Standing, Duration)>,
}

impl Task {
    fn new(at: Duration) -> Self {
        let standing = Standing::Queued;
        let stood = vec![(standing, at)];
        Self { standing, attempt: 0, retried: 0, at, ended: None, stood }
    }

    fn go(&mut self, to: Standing, at: Duration) {
        if to != self.standing {
            self.stood.push((to, at));
        }
        (self.standing, self.at) = (to, at);
    }

    /// When it first stood so.
    pub(crate) fn first(&self, so: Standing) -> Option<Duration> {
        self.spans(so).map(|(from, _)| from).next()
    }

    /// From when to when it stood so.
    pub(crate) fn spans(&self, so: Standing) -> impl Iterator<Item = (Duration, Duration)> {
        let ends = self.stood.iter().skip(1).map(|(_, end)| *end).chain([Duration::MAX]);
        let stays = self.stood.iter().zip(ends);
        stays.filter(move |((standing, _), _)| *standing == so).map(|((_, from), to)| (*from, to))
    }

    /// Whether it stood so, durably, at any moment between two.
    pub(crate) fn stood(&self, so: Standing, from: Duration, to: Duration) -> bool {
        self.spans(so).any(|(since, end)| since <= to && end >= from)
    }
}

/// A submitted job or array.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) tag: String,
    pub(crate) queue: String,
    pub(crate) job_set: String,
    pub(crate) submitted_at: Duration,
    /// One for a job, one a task for an array.
    pub(crate) tasks: Vec<Task>,
    pub(crate) is_array: bool,
    pub(crate) at_most_once: bool,
    /// What each task asks a node for.
    pub(crate) request: Resources,
    /// The pod spec, as it was sent.
    pub(crate) spec: Vec<u8>,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Events by queue and job set, in order, and when each landed.
    pub(crate) events: BTreeMap<(String, String), Vec<(Seen, Duration)>>,
    /// Every lease, by task and attempt.
    pub(crate) grants: BTreeMap<(JobRef, u32), Grant>,
    pub(crate) findings: Vec<String>,
    pub(crate) records: u64,
    pub(crate) preempted: u64,
    changes: u64,
    pub(crate) takeovers: u64,
    /// How far each shard's log was read.
    read: BTreeMap<ShardId, Read>,
}

/// How far a log was read.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    objects: usize,
    epoch: u64,
    last_job: Option<JobId>,
}

impl Ledger {
    /// Reads what the logs of all shards have got since the last time.
    pub(crate) async fn read(&mut self, landings: &Landings, shards: u16) -> anyhow::Result<()> {
        for shard in (0..shards).map(ShardId) {
            self.read_shard(landings, shard).await?;
        }
        Ok(())
    }

    async fn read_shard(&mut self, landings: &Landings, shard: ShardId) -> anyhow::Result<()> {
        let objects = landings.archive();
        let folder = Path::from(format!("shards/{shard}/log"));
        let listed: Vec<_> = objects.list(Some(&folder)).try_collect().await?;
        let mut keys: Vec<Path> = listed.into_iter().map(|object| object.location).collect();
        keys.sort_unstable();
        let Read { objects: known, mut epoch, mut last_job } =
            self.read.get(&shard).copied().unwrap_or_default();
        for (place, key) in keys.iter().enumerate().skip(known) {
            let bytes = objects.get(key).await?.bytes().await?;
            let (header, records) = codec::decode(bytes.clone(), Columns::All)
                .with_context(|| format!("object {key} cannot be read"))?;
            let expected = place as u64 + 1;
            if header.sequence != expected {
                self.find(format!("{key} says {}, it is number {expected}", header.sequence));
            }
            if header.kind == Kind::Fence {
                self.takeovers += 1;
                if header.epoch != header.sequence {
                    self.find(format!("fence {key} has epoch {}", header.epoch));
                }
                epoch = header.epoch;
            } else if header.epoch != epoch {
                self.find(format!("{key} has epoch {}, the last fence {epoch}", header.epoch));
            }
            let at = landings.of(key.as_ref()).context("an object that nobody wrote")?;
            self.records += records.len() as u64;
            self.find_halves(key.as_ref(), &records);
            for (row, record) in records.into_iter().enumerate() {
                let cursor = format!("{}-{row}", header.sequence);
                match record {
                    Record::Submitted(submitted) => {
                        if last_job.is_some_and(|last| last >= submitted.job) {
                            self.find(format!("{} does not rise", submitted.job));
                        }
                        last_job = Some(submitted.job);
                        self.submitted(&submitted, cursor, at);
                    }
                    Record::Changed(changed) => self.changed(&changed, cursor, at),
                    _ => {}
                }
            }
        }
        self.read.insert(shard, Read { objects: keys.len(), epoch, last_job });
        Ok(())
    }

    /// A submission and its answer are in one object, or neither is there.
    fn find_halves(&mut self, key: &str, records: &[Record]) {
        let mut answered = BTreeSet::new();
        for record in records {
            let Record::Command(done) = record else { continue };
            let Outcome::Submitted(runs) = &done.outcome else { continue };
            answered.extend(
                runs.iter().flat_map(|run| (0..run.count).map(|n| run.first.plus(n.into()))),
            );
        }
        let submitted = records.iter().filter_map(|record| match record {
            Record::Submitted(submitted) => Some(submitted.job),
            _ => None,
        });
        let submitted: BTreeSet<JobId> = submitted.collect();
        for job in submitted.difference(&answered) {
            self.find(format!("{job} is in {key}, the answer to its submission is not"));
        }
        let is_lost = |job: &&JobId| !submitted.contains(job) && !self.jobs.contains_key(job);
        let lost: Vec<JobId> = answered.iter().filter(is_lost).copied().collect();
        for job in lost {
            self.find(format!("{key} answers a submission with {job}, which is not there"));
        }
    }

    fn find(&mut self, what: String) {
        self.findings.push(what);
    }

    fn submitted(&mut self, submitted: &Submitted, cursor: String, at: Duration) {
        let annotations: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&submitted.payload.annotations).unwrap_or_default();
        let tag = annotations.get(TAG).and_then(|tag| tag.as_str()).unwrap_or_default().to_owned();
        let job = Job {
            tag,
            queue: submitted.queue.to_string(),
            job_set: submitted.job_set.to_string(),
            submitted_at: at,
            tasks: vec![Task::new(at); submitted.count.unwrap_or(1) as usize],
            is_array: submitted.count.is_some(),
            at_most_once: submitted.at_most_once,
            request: submitted.shape.request.clone(),
            spec: submitted.payload.pod_spec.to_vec(),
        };
        let seen = Seen {
            cursor,
            job: submitted.job.to_string(),
            event: "submitted".to_owned(),
            count: submitted.count.unwrap_or(1),
            attempt: None,
        };
        let place = (job.queue.clone(), job.job_set.clone());
        self.events.entry(place).or_default().push((seen, at));
        if self.jobs.insert(submitted.job, job).is_some() {
            self.find(format!("{} was submitted twice", submitted.job));
        }
    }

    fn changed(&mut self, changed: &Changed, cursor: String, at: Duration) {
        let (event, attempt) = describe(&changed.change);
        self.changes += 1;
        self.preempted += u64::from(matches!(changed.change, Change::Preempted { .. }));
        let seen = Seen {
            cursor: cursor.clone(),
            job: changed.job.to_string(),
            event: event.to_owned(),
            count: changed.count,
            attempt,
        };
        let place = (changed.queue.to_string(), changed.job_set.to_string());
        self.events.entry(place).or_default().push((seen, at));
        self.granted(changed, at);
        let Some(job) = self.jobs.get_mut(&changed.job.job) else {
            self.find(format!("{} changed at {cursor} and was not submitted", changed.job));
            return;
        };
        let wrong = if job.is_array && changed.job.index.is_none() {
            cancel_all(job, changed, at)
        } else {
            let index = changed.job.index.unwrap_or(0) as usize;
            match job.tasks.get_mut(index) {
                Some(task) => {
                    let wrong = step(task, &changed.change, at);
                    task.ended = task.standing.is_final().then_some(self.changes);
                    wrong
                }
                None => Some("there is no such task".to_owned()),
            }
        };
        if let Some(what) = wrong {
            self.find(format!("{} {event} at {cursor}: {what}", changed.job));
        }
    }

    /// Notes what is leased, and how long.
    fn granted(&mut self, changed: &Changed, at: Duration) {
        let job = changed.job;
        match &changed.change {
            Change::Leased { attempt, cluster, node } => {
                let grant = Grant { cluster: cluster.clone(), node: node.clone(), at, until: None };
                self.grants.insert((job, *attempt), grant);
            }
            Change::Pending { .. } | Change::Running { .. } | Change::Reprioritized { .. } => {}
            Change::Succeeded { .. }
            | Change::Failed { .. }
            | Change::Requeued { .. }
            | Change::Preempted { .. }
            | Change::Cancelled { .. } => {
                let mut of_job = self.grants.range_mut((job, 0)..=(job, u32::MAX));
                if let Some((_, grant)) = of_job.next_back() {
                    grant.until.get_or_insert(at);
                }
            }
        }
    }

    /// Every job and task with where it stands.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (JobRef, &Job, &Task)> {
        self.jobs.iter().flat_map(|(id, job)| {
            job.tasks.iter().zip(0u32..).map(move |(task, index)| {
                let reference =
                    if job.is_array { JobRef::task(*id, index) } else { JobRef::whole(*id) };
                (reference, job, task)
            })
        })
    }
}

/// An array as a whole is cancelled: each task that is queued.
fn cancel_all(job: &mut Job, changed: &Changed, at: Duration) -> Option<String> {
    match &changed.change {
        Change::Reprioritized { .. } => None,
        Change::Cancelled { .. } => {
            let mut count = 0;
            for task in job.tasks.iter_mut().filter(|task| task.standing == Standing::Queued) {
                task.go(Standing::Cancelled, at);
                count += 1;
            }
            let is_right = count == changed.count;
            (!is_right)
                .then(|| format!("{} tasks by the record, {count} were queued", changed.count))
        }
        _ => Some("an array as a whole".to_owned()),
    }
}

/// One change of one task; what is wrong with it, if anything is.
fn step(task: &mut Task, change: &Change, at: Duration) -> Option<String> {
    use Standing::{Cancelled, Failed, Held, Queued, Succeeded};
    let (from, to, attempt) = match change {
        Change::Leased { attempt, .. } => (Queued, Held, Some(*attempt)),
        Change::Pending { attempt } | Change::Running { attempt, .. } => {
            (Held, Held, Some(*attempt))
        }
        Change::Succeeded { attempt, .. } => (Held, Succeeded, Some(*attempt)),
        Change::Failed { attempt, .. } => (Held, Failed, Some(*attempt)),
        Change::Requeued { attempt, .. } | Change::Preempted { attempt, .. } => {
            (Held, Queued, Some(*attempt))
        }
        Change::Cancelled { .. } => (task.standing, Cancelled, None),
        Change::Reprioritized { .. } => return None,
    };
    if let Change::Requeued { exit, .. } = change {
        task.retried += u32::from(exit.code.is_some());
    }
    let (before, tried) = (task.standing, task.attempt);
    let is_lease = matches!(change, Change::Leased { .. });
    let expected = tried + u32::from(is_lease);
    task.go(to, at);
    task.attempt = expected;
    if before != from || before.is_final() {
        return Some(format!("it was {}", before.name()));
    }
    match attempt {
        Some(attempt) if attempt != expected => {
            Some(format!("attempt {attempt}, expected was {expected}"))
        }
        Some(_) | None => None,
    }
}

fn describe(change: &Change) -> (&'static str, Option<u32>) {
    match change {
        Change::Leased { attempt, .. } => ("leased", Some(*attempt)),
        Change::Pending { attempt } => ("pending", Some(*attempt)),
        Change::Running { attempt, .. } => ("running", Some(*attempt)),
        Change::Succeeded { attempt, .. } => ("succeeded", Some(*attempt)),
        Change::Failed { attempt, .. } => ("failed", Some(*attempt)),
        Change::Requeued { attempt, .. } => ("requeued", Some(*attempt)),
        Change::Preempted { attempt, .. } => ("preempted", Some(*attempt)),
        Change::Cancelled { .. } => ("cancelled", None),
        Change::Reprioritized { .. } => ("reprioritized", None),
    }
}

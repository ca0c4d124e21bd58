//! The `detail` column: MessagePack of what has no column. Mirrors of the domain's types,
//! positional, so that a field may be added at the end (with a default) and nothing else may
//! change.

use std::sync::Arc;

use muster_core::Name;
use muster_core::command::{IdRun, LeasedRun, Outcome, PreemptedRun, Refusal, Unknown, Verdict};
use muster_core::id::{JobId, JobRef, Position};
use muster_core::job::{Address, Counts, Exit, JobState, Usage};
use muster_core::record::{ArrayTasks, HistorySpan, Run, Task};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::columns::Interner;
use super::terms::{NextDetail, OnDetail, TermsDetail};

/// The states in the order in which counts are stored.
pub(super) const STATES: [JobState; 7] = [
    JobState::Queued,
    JobState::Leased,
    JobState::Pending,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
];

type CountsDetail = [u64; STATES.len()];
pub(super) type IdDetail = (u64, u64);
type PositionDetail = (u64, u32);
type RefDetail = (IdDetail, Option<u32>);
type ExitDetail = (Option<i32>, Option<i32>, Option<Name>, Option<Name>);
/// Port and address.
type AddressDetail = (u32, Name);
/// Bytes of memory at the most, and milliseconds of cpu time.
type UsageDetail = (u64, u64);

#[derive(Serialize, Deserialize)]
pub(super) enum OutcomeDetail {
    Submitted(Vec<(u64, IdDetail, u32)>),
    Applied(u64, Vec<RefDetail>, Vec<RefDetail>),
    /// Shapes once each, then (job, attempt, node, place of the shape).
    Leased(Vec<String>, Vec<(RefDetail, u32, Name, u32)>),
    Reported(Vec<bool>),
    Expired(u64),
    QueueClosed,
    Noted,
    RefusedQueueClosed(Name),
    RefusedQueueInUse(Name, u64),
    RefusedKeyReused(u64, IdDetail),
    RefusedQueueFull(Name, u64, u64, u64),
    /// (place of the victims, job, attempt).
    Preempted(Vec<(u32, RefDetail, u32)>),
    RefusedNoMember(u64, Name, Name),
    /// (line, job, queue, whether it is a later line).
    RefusedDependencyUnknown(u64, OnDetail, Name, bool),
}

#[derive(Serialize, Deserialize)]
pub(super) struct RunDetail {
    attempt: u32,
    cluster: Name,
    node: Name,
    leased_at: i64,
    started_at: Option<i64>,
    ended: Option<(i64, ExitDetail)>,
    #[serde(default)]
    addresses: Vec<AddressDetail>,
    #[serde(default)]
    usage: Option<UsageDetail>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TaskDetail {
    attempts: u32,
    active: Option<(Name, RunDetail)>,
    past: Vec<RunDetail>,
    #[serde(default)]
    next: Option<NextDetail>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ArrayDetail {
    queued: Vec<(u32, u32)>,
    touched: Vec<(u32, TaskDetail)>,
    counts: CountsDetail,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LiveDetail {
    pub(super) task: TaskDetail,
    pub(super) array: Option<ArrayDetail>,
    #[serde(default)]
    pub(super) terms: Option<TermsDetail>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct JobSetDetail {
    first: PositionDetail,
    counts: CountsDetail,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SpanDetail {
    after: PositionDetail,
    through: PositionDetail,
}

pub(super) fn to_bytes<T: Serialize>(detail: &T) -> Vec<u8> {
    rmp_serde::to_vec(detail).expect("details are plain data")
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

pub(super) fn id(job: JobId) -> IdDetail {
    let value = u128::from_be_bytes(job.to_bytes());
    ((value >> 64) as u64, value as u64)
}

pub(super) fn from_id((high, low): IdDetail) -> JobId {
    JobId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

fn job_ref(job: &JobRef) -> RefDetail {
    (id(job.job), job.index)
}

fn from_ref((job, index): RefDetail) -> JobRef {
    JobRef { job: from_id(job), index }
}

fn position(at: Position) -> PositionDetail {
    (at.sequence, at.row)
}

fn from_position((sequence, row): PositionDetail) -> Position {
    Position { sequence, row }
}

pub(super) fn addresses(of: &[Address]) -> Vec<AddressDetail> {
    of.iter().map(|at| (at.port, at.address.clone())).collect()
}

pub(super) fn into_addresses(detail: Vec<AddressDetail>) -> Vec<Address> {
    detail.into_iter().map(|(port, address)| Address { port, address }).collect()
}

fn counts(of: &Counts) -> CountsDetail {
    STATES.map(|state| of[state])
}

fn from_counts(detail: CountsDetail) -> Counts {
    let mut counts = Counts::default();
    for (state, count) in STATES.into_iter().zip(detail) {
        counts[state] = count;
    }
    counts
}

impl OutcomeDetail {
    /// The outcome's word for people and its detail.
    pub(super) fn of(outcome: &Outcome) -> (&'static str, Self) {
        let refs = |jobs: &[JobRef]| jobs.iter().map(job_ref).collect();
        match outcome {
            Outcome::Submitted(runs) => {
                let runs = runs.iter().map(|run| (run.line, id(run.first), run.count)).collect();
                ("submitted", Self::Submitted(runs))
            }
            Outcome::Applied { changed, finished, missing } => {
                ("applied", Self::Applied(*changed, refs(finished), refs(missing)))
            }
            Outcome::Leased(runs) => ("leased", Self::of_leases(runs)),
            Outcome::Preempted(runs) => {
                let run = |run: &PreemptedRun| (run.victims, job_ref(&run.job), run.attempt);
                ("preempted", Self::Preempted(runs.iter().map(run).collect()))
            }
            Outcome::Reported(verdicts) => {
                let taken = |verdict: &Verdict| match verdict {
                    Verdict::Taken => true,
                    Verdict::Stale => false,
                };
                ("reported", Self::Reported(verdicts.iter().map(taken).collect()))
            }
            Outcome::Expired(runs) => ("expired", Self::Expired(*runs as u64)),
            Outcome::QueueClosed => ("queue_closed", Self::QueueClosed),
            Outcome::Noted => ("noted", Self::Noted),
            Outcome::Refused(Refusal::QueueClosed { queue }) => {
                ("refused", Self::RefusedQueueClosed(queue.clone()))
            }
            Outcome::Refused(Refusal::QueueInUse { queue, live }) => {
                ("refused", Self::RefusedQueueInUse(queue.clone(), *live))
            }
            Outcome::Refused(Refusal::KeyReused { line, job }) => {
                ("refused", Self::RefusedKeyReused(*line, id(*job)))
            }
            Outcome::Refused(Refusal::QueueFull { queue, queued, more, max }) => {
                ("refused", Self::RefusedQueueFull(queue.clone(), *queued, *more, *max))
            }
            Outcome::Refused(Refusal::NoMember { line, gang, why }) => {
                ("refused", Self::RefusedNoMember(*line, gang.clone(), why.clone()))
            }
            Outcome::Refused(Refusal::DependencyUnknown { line, on, queue, reason }) => {
                let (on, is_later) = (OnDetail::of(on), *reason == Unknown::Later);
                ("refused", Self::RefusedDependencyUnknown(*line, on, queue.clone(), is_later))
            }
        }
    }

    fn of_leases(runs: &[LeasedRun]) -> Self {
        let mut shapes: Vec<&Arc<Shape>> = Vec::new();
        let mut leases = Vec::with_capacity(runs.len());
        for run in runs {
            // Leases come in runs of one shape, so the place is mostly that of the last one.
            let place = shapes.iter().rposition(|shape| Arc::ptr_eq(shape, &run.shape));
            let place = place.unwrap_or_else(|| {
                shapes.push(&run.shape);
                shapes.len() - 1
            });
            leases.push((job_ref(&run.job), run.attempt, run.node.clone(), place as u32));
        }
        Self::Leased(shapes.iter().map(|shape| shape.canonical()).collect(), leases)
    }

    pub(super) fn into_outcome(self, interner: &mut Interner) -> Result<Outcome, String> {
        let refs = |jobs: Vec<RefDetail>| jobs.into_iter().map(from_ref).collect();
        Ok(match self {
            Self::Submitted(runs) => Outcome::Submitted(
                runs.into_iter()
                    .map(|(line, first, count)| IdRun { line, first: from_id(first), count })
                    .collect(),
            ),
            Self::Applied(changed, finished, missing) => {
                Outcome::Applied { changed, finished: refs(finished), missing: refs(missing) }
            }
            Self::Leased(shapes, runs) => {
                let shapes: Vec<_> =
                    shapes.iter().map(|text| interner.shape(text)).collect::<Result<_, _>>()?;
                let lease = |(job, attempt, node, place): (RefDetail, u32, Name, u32)| {
                    let shape = shapes.get(place as usize).ok_or("no such shape")?;
                    let (job, node) = (from_ref(job), interner.name(&node));
                    Ok(LeasedRun { job, attempt, node, shape: Arc::clone(shape) })
                };
                Outcome::Leased(runs.into_iter().map(lease).collect::<Result<_, String>>()?)
            }
            Self::Preempted(runs) => {
                let run =
                    |(victims, job, attempt)| PreemptedRun { victims, job: from_ref(job), attempt };
                Outcome::Preempted(runs.into_iter().map(run).collect())
            }
            Self::Reported(taken) => Outcome::Reported(
                taken
                    .into_iter()
                    .map(|t| if t { Verdict::Taken } else { Verdict::Stale })
                    .collect(),
            ),
            Self::Expired(runs) => {
                Outcome::Expired(usize::try_from(runs).map_err(|error| error.to_string())?)
            }
            Self::QueueClosed => Outcome::QueueClosed,
            Self::Noted => Outcome::Noted,
            Self::RefusedQueueClosed(queue) => Outcome::Refused(Refusal::QueueClosed { queue }),
            Self::RefusedQueueInUse(queue, live) => {
                Outcome::Refused(Refusal::QueueInUse { queue, live })
            }
            Self::RefusedKeyReused(line, job) => {
                Outcome::Refused(Refusal::KeyReused { line, job: from_id(job) })
            }
            Self::RefusedQueueFull(queue, queued, more, max) => {
                Outcome::Refused(Refusal::QueueFull { queue, queued, more, max })
            }
            Self::RefusedNoMember(line, gang, why) => {
                Outcome::Refused(Refusal::NoMember { line, gang, why })
            }
            Self::RefusedDependencyUnknown(line, on, queue, is_later) => {
                let reason = if is_later { Unknown::Later } else { Unknown::NotThere };
                let on = on.into_on();
                Outcome::Refused(Refusal::DependencyUnknown { line, on, queue, reason })
            }
        })
    }
}

impl RunDetail {
    pub(super) fn of(run: &Run) -> Self {
        let usage = run.ended.as_ref().and_then(|(_, exit)| exit.usage);
        let ended = run.ended.as_ref().map(|(at, exit)| {
            (at.0, (exit.code, exit.signal, exit.reason.clone(), exit.message.clone()))
        });
        Self {
            attempt: run.attempt,
            cluster: run.cluster.clone(),
            node: run.node.clone(),
            leased_at: run.leased_at.0,
            started_at: run.started_at.map(|at| at.0),
            ended,
            addresses: addresses(&run.addresses),
            usage: usage.map(|usage| (usage.memory_peak_bytes, usage.cpu_time_ms)),
        }
    }

    pub(super) fn into_run(self, interner: &mut Interner) -> Run {
        let usage = self
            .usage
            .map(|(memory_peak_bytes, cpu_time_ms)| Usage { memory_peak_bytes, cpu_time_ms });
        let ended = self.ended.map(|(at, (code, signal, reason, message))| {
            let reason = reason.map(|reason| interner.name(&reason));
            (Timestamp(at), Exit { code, signal, reason, message, usage })
        });
        Run {
            attempt: self.attempt,
            cluster: interner.name(&self.cluster),
            node: interner.name(&self.node),
            leased_at: Timestamp(self.leased_at),
            started_at: self.started_at.map(Timestamp),
            addresses: into_addresses(self.addresses),
            ended,
        }
    }
}

impl TaskDetail {
    pub(super) fn of(task: &Task) -> Self {
        let active = task.active.as_ref();
        Self {
            attempts: task.attempts,
            active: active.map(|(state, run)| (Name::from(state.name()), RunDetail::of(run))),
            past: task.past.iter().map(RunDetail::of).collect(),
            next: NextDetail::of(&task.next),
        }
    }

    pub(super) fn into_task(self, interner: &mut Interner) -> Result<Task, String> {
        let active = match self.active {
            None => None,
            Some((name, run)) => {
                let state = JobState::from_name(&name).ok_or_else(|| format!("state `{name}`"))?;
                Some((state, run.into_run(interner)))
            }
        };
        let past = self.past.into_iter().map(|run| run.into_run(interner)).collect();
        let next = self.next.unwrap_or_default().into_next(interner)?;
        Ok(Task { attempts: self.attempts, active, past, next })
    }
}

impl ArrayDetail {
    pub(super) fn of(array: &ArrayTasks) -> Self {
        let touched = array.touched.iter().map(|(index, task)| (*index, TaskDetail::of(task)));
        Self {
            queued: array.queued.clone(),
            touched: touched.collect(),
            counts: counts(&array.counts),
        }
    }

    pub(super) fn into_array(self, interner: &mut Interner) -> Result<ArrayTasks, String> {
        let touched = self
            .touched
            .into_iter()
            .map(|(index, task)| Ok((index, task.into_task(interner)?)))
            .collect::<Result<_, String>>()?;
        Ok(ArrayTasks { queued: self.queued, touched, counts: from_counts(self.counts) })
    }
}

impl JobSetDetail {
    pub(super) fn of(first: Position, of: &Counts) -> Self {
        Self { first: position(first), counts: counts(of) }
    }

    pub(super) fn into_parts(self) -> (Position, Counts) {
        (from_position(self.first), from_counts(self.counts))
    }
}

impl SpanDetail {
    pub(super) fn of(span: &HistorySpan) -> Self {
        Self { after: position(span.after), through: position(span.through) }
    }

    pub(super) fn into_span(self) -> HistorySpan {
        HistorySpan { after: from_position(self.after), through: from_position(self.through) }
    }
}

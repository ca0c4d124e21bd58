//! Domain to wire and back. One function a type; nothing here decides anything.

use std::collections::BTreeMap;

use muster_core::Name;
use muster_core::command::{self, Command, Outcome, Refusal, Verdict};
use muster_core::history::Finished;
use muster_core::id::{CommandId, JobRef, Position};
use muster_core::job::{Address, Counts, Exit, JobState, StateSet};
use muster_core::record::{Change, Changed, Record, Run, Submitted};
use muster_core::resources::Resources;
use muster_core::shape::ShapeKey;
use muster_core::shard::{ClassLine, Held, JobSetView, JobView, Place, RunView};
use muster_core::terms::HeldBack;
use muster_core::time::Timestamp;

use crate::bus;
use crate::http::{self, ErrorCode, Problem, time_text};
use crate::job_text;
use crate::shape::ShapeText;
use crate::text::Cursor;

mod report;

pub use report::report;

/// A text as a shared name.
#[must_use]
pub fn name(text: &str) -> Name {
    Name::from(text)
}

/// The states that names stand for; none means any.
///
/// # Errors
/// When a name is no state's.
pub fn states(names: &[String]) -> Result<StateSet, Problem> {
    if names.is_empty() {
        return Ok(StateSet::ALL);
    }
    names
        .iter()
        .map(|name| {
            JobState::from_name(name).ok_or_else(|| {
                let known: Vec<&str> = JobState::ALL.into_iter().map(JobState::name).collect();
                let detail = format!("`{name}` is no state; states are {}", known.join(", "));
                Problem::new(ErrorCode::BadRequest, detail)
            })
        })
        .collect()
}

/// Amounts as quantities by resource.
#[must_use]
pub fn quantities(resources: &Resources) -> BTreeMap<String, String> {
    resources.iter().map(|(name, quantity)| (name.to_string(), quantity.to_string())).collect()
}

/// The amounts behind quantities by resource; one that is none counts as nothing.
#[must_use]
pub fn resources(quantities: &BTreeMap<String, String>) -> Resources {
    let amount = |text: &String| text.parse().unwrap_or_default();
    quantities.iter().map(|(name, text)| (Name::from(name.as_str()), amount(text))).collect()
}

/// Counts by state's name.
#[must_use]
pub fn counts(counts: &Counts) -> BTreeMap<String, u64> {
    JobState::ALL.into_iter().map(|state| (state.name().to_owned(), counts[state])).collect()
}

/// A run as it is shown.
#[must_use]
pub fn run(run: &Run) -> http::Run {
    let (ended_at, exit) = match &run.ended {
        Some((at, exit)) => (Some(time_text(*at)), exit.clone()),
        None => (None, Exit::default()),
    };
    http::Run {
        attempt: run.attempt,
        cluster: run.cluster.to_string(),
        node: run.node.to_string(),
        leased_at: time_text(run.leased_at),
        started_at: run.started_at.map(time_text),
        addresses: run.addresses.iter().map(address).collect(),
        ended_at,
        exit_code: exit.code,
        signal: exit.signal,
        reason: exit.reason.map(|reason| reason.to_string()),
        message: exit.message.map(|message| message.to_string()),
        memory_peak_bytes: exit.usage.map(|usage| usage.memory_peak_bytes),
        cpu_time_ms: exit.usage.map(|usage| usage.cpu_time_ms),
    }
}

fn address(at: &Address) -> http::Address {
    http::Address { port: at.port, address: at.address.to_string() }
}

/// A live job as it is shown.
#[must_use]
pub fn live_job(view: &JobView) -> http::Job {
    let mut runs: Vec<_> = view.runs.iter().map(run).collect();
    if let Some((used, active)) = view.used.zip(runs.last_mut()) {
        active.memory_peak_bytes = Some(used.memory_peak_bytes);
        active.cpu_time_ms = Some(used.cpu_time_ms);
    }
    http::Job {
        job_id: view.job.to_string(),
        queue: view.queue.to_string(),
        job_set: view.job_set.to_string(),
        client_id: view.client_id.as_ref().map(ToString::to_string),
        state: view.state.name().to_owned(),
        priority: view.priority,
        submitted_at: time_text(view.job.job.submitted_at()),
        finished_at: None,
        reason: None,
        resources: quantities(&view.shape.request),
        runs,
        count: view.array.map(|(count, _)| count),
        counts: view.array.map(|(_, by_state)| counts(&by_state)),
        held_back: view.held_back.as_ref().map(held_back),
        spec: None,
    }
}

/// What holds a job back, as it is shown.
#[must_use]
pub fn held_back(held_back: &HeldBack) -> http::HeldBack {
    match held_back {
        HeldBack::After(after) => {
            let names: Vec<String> =
                after.iter().map(|on| format!("{} to {}", on.on, on.when.verb())).collect();
            http::HeldBack {
                kind: http::HeldBackKind::Dependency,
                detail: format!("waiting for {}", names.join(", for ")),
                depends_on: after.iter().map(job_text::Dependency::of).collect(),
                ..http::HeldBack::default()
            }
        }
        HeldBack::Until(at) => http::HeldBack {
            kind: http::HeldBackKind::Backoff,
            detail: format!("it is tried again, not before {}", time_text(*at)),
            not_before: Some(time_text(*at)),
            ..http::HeldBack::default()
        },
        HeldBack::ArrayFull { running_max } => http::HeldBack {
            kind: http::HeldBackKind::ArrayLimit,
            detail: format!("as many tasks of the array run as may at once: {running_max}"),
            max_running: Some(*running_max),
            ..http::HeldBack::default()
        },
    }
}

/// A finished job as it is shown.
#[must_use]
pub fn finished_job(done: &Finished) -> http::Job {
    http::Job {
        job_id: done.job.to_string(),
        queue: done.queue.to_string(),
        job_set: done.job_set.to_string(),
        client_id: done.client_id.as_ref().map(ToString::to_string),
        state: done.state.name().to_owned(),
        priority: done.priority,
        submitted_at: time_text(done.job.job.submitted_at()),
        finished_at: Some(time_text(done.finished_at)),
        reason: done.reason.as_ref().map(ToString::to_string),
        resources: quantities(&done.shape.request),
        runs: done.runs.iter().map(run).collect(),
        count: None,
        counts: None,
        held_back: None,
        spec: None,
    }
}

/// An array that is in the history, as it is shown: by one of its tasks, how many ended in each
/// state, and when the last of them did.
#[must_use]
pub fn finished_array(task: &Finished, by_state: &Counts, finished_at: Timestamp) -> http::Job {
    let whole = Finished {
        job: JobRef::whole(task.job.job),
        state: JobState::of_array(by_state),
        finished_at,
        reason: None,
        runs: Vec::new(),
        ..task.clone()
    };
    http::Job {
        count: u32::try_from(by_state.total()).ok(),
        counts: Some(counts(by_state)),
        ..finished_job(&whole)
    }
}

/// A job set as it is shown.
#[must_use]
pub fn job_set(queue: &str, view: &JobSetView) -> http::JobSet {
    http::JobSet {
        queue: queue.to_owned(),
        job_set: view.job_set.to_string(),
        counts: counts(&view.counts),
    }
}

/// The event that a record is to those who watch a job set; `None` for records that are none.
#[must_use]
pub fn event(position: Position, record: &Record) -> Option<http::Event> {
    match record {
        Record::Submitted(submitted) => Some(submitted_event(position, submitted)),
        Record::Changed(changed) => Some(changed_event(position, changed)),
        Record::Command(_)
        | Record::QueueClosed { .. }
        | Record::Forgotten { .. }
        | Record::HistoryPlanned(_)
        | Record::HistoryWritten(_)
        | Record::Job(_)
        | Record::JobSet(_)
        | Record::Rested { .. }
        | Record::Ends(_)
        | Record::LastJob(_)
        | Record::Finished(_) => None,
    }
}

fn bare_event(position: Position, job: JobRef, name: &str, at: Timestamp) -> http::Event {
    http::Event {
        cursor: Cursor(position).to_string(),
        job_id: job.to_string(),
        event: name.to_owned(),
        at: time_text(at),
        count: 1,
        attempt: None,
        cluster: None,
        node: None,
        addresses: Vec::new(),
        priority: None,
        exit_code: None,
        signal: None,
        reason: None,
        message: None,
    }
}

fn submitted_event(position: Position, submitted: &Submitted) -> http::Event {
    let job = JobRef::whole(submitted.job);
    http::Event {
        count: submitted.count.unwrap_or(1),
        ..bare_event(position, job, "submitted", submitted.job.submitted_at())
    }
}

fn changed_event(position: Position, changed: &Changed) -> http::Event {
    let bare = |name: &str| http::Event {
        count: changed.count,
        ..bare_event(position, changed.job, name, changed.at)
    };
    let ended = |name: &str, attempt: u32, exit: &Exit| http::Event {
        attempt: Some(attempt),
        exit_code: exit.code,
        signal: exit.signal,
        reason: exit.reason.as_ref().map(ToString::to_string),
        message: exit.message.as_ref().map(ToString::to_string),
        ..bare(name)
    };
    match &changed.change {
        Change::Leased { attempt, cluster, node } => http::Event {
            attempt: Some(*attempt),
            cluster: Some(cluster.to_string()),
            node: Some(node.to_string()),
            ..bare("leased")
        },
        Change::Pending { attempt } => http::Event { attempt: Some(*attempt), ..bare("pending") },
        Change::Running { attempt, addresses } => http::Event {
            attempt: Some(*attempt),
            addresses: addresses.iter().map(address).collect(),
            ..bare("running")
        },
        Change::Succeeded { attempt, exit } => ended("succeeded", *attempt, exit),
        Change::Failed { attempt, exit } => ended("failed", *attempt, exit),
        Change::Requeued { attempt, exit, .. } => ended("requeued", *attempt, exit),
        Change::Preempted { attempt, reason, .. } => {
            ended("preempted", *attempt, &Exit::preempted(reason))
        }
        Change::Cancelled { reason, .. } => {
            http::Event { reason: reason.as_ref().map(ToString::to_string), ..bare("cancelled") }
        }
        Change::Reprioritized { priority } => {
            http::Event { priority: Some(*priority), ..bare("reprioritized") }
        }
    }
}

/// Queue and job set that a record speaks of to watchers.
#[must_use]
pub fn job_set_of(record: &Record) -> Option<(&Name, &Name)> {
    match record {
        Record::Submitted(submitted) => Some((&submitted.queue, &submitted.job_set)),
        Record::Changed(changed) => Some((&changed.queue, &changed.job_set)),
        Record::Command(_)
        | Record::QueueClosed { .. }
        | Record::Forgotten { .. }
        | Record::HistoryPlanned(_)
        | Record::HistoryWritten(_)
        | Record::Job(_)
        | Record::JobSet(_)
        | Record::Rested { .. }
        | Record::Ends(_)
        | Record::LastJob(_)
        | Record::Finished(_) => None,
    }
}

/// Which jobs a request means.
///
/// # Errors
/// When a state's name is unknown.
pub fn target(target: bus::Target) -> Result<command::Target, Problem> {
    Ok(match target {
        bus::Target::Jobs(jobs) => command::Target::Jobs(jobs),
        bus::Target::JobSet { queue, job_set, states: names } => command::Target::JobSet {
            queue: queue.into(),
            job_set: job_set.into(),
            states: states(&names)?,
        },
    })
}

/// A lease request as a command.
#[must_use]
pub fn lease(lease: bus::Lease) -> Command {
    let picks = lease.picks.into_iter().map(|pick| command::Pick {
        queue: pick.queue.into(),
        priority: pick.priority,
        shape: ShapeKey(pick.shape.0),
        node: pick.node.into(),
        count: pick.count,
    });
    Command::Lease(command::Lease {
        cluster: lease.cluster.into(),
        is_away: lease.is_away,
        picks: picks.collect(),
    })
}

/// A request to preempt as a command.
#[must_use]
pub fn preempt(request: bus::Preempt) -> Command {
    let victims = request.victims.into_iter().map(|victims| command::Victims {
        queue: victims.queue.into(),
        shape: ShapeKey(victims.shape.0),
        node: victims.node.into(),
        count: victims.count,
        reason: victims.reason.into(),
    });
    let victims = victims.collect();
    Command::Preempt(command::Preempt { cluster: request.cluster.into(), victims })
}

/// What a command was answered, as a reply; leases and preemptions are not answered here, they
/// carry offers.
#[must_use]
pub fn outcome(outcome: Outcome) -> bus::ShardReply {
    let texts = |jobs: Vec<JobRef>| jobs.iter().map(ToString::to_string).collect();
    match outcome {
        Outcome::Submitted(runs) => {
            let runs = runs.into_iter().map(|run| bus::IdRun {
                line: run.line,
                first: run.first,
                count: run.count,
            });
            bus::ShardReply::Submitted(runs.collect())
        }
        Outcome::Applied { changed, finished, missing } => {
            let (finished, missing) = (texts(finished), texts(missing));
            bus::ShardReply::Applied(http::Applied { changed, finished, missing })
        }
        Outcome::Reported(verdicts) => {
            let believed = verdicts.into_iter().map(|verdict| verdict == Verdict::Taken);
            bus::ShardReply::Reported(believed.collect())
        }
        Outcome::Leased(_)
        | Outcome::Preempted(_)
        | Outcome::Expired(_)
        | Outcome::QueueClosed
        | Outcome::Noted => bus::ShardReply::Done,
        Outcome::Refused(refusal) => bus::ShardReply::Error(refused(&refusal)),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let code = match refusal {
        Refusal::QueueClosed { .. } => ErrorCode::QueueNotFound,
        Refusal::QueueInUse { .. } => ErrorCode::QueueInUse,
        Refusal::QueueFull { .. } => ErrorCode::QueueFull,
        Refusal::KeyReused { .. } | Refusal::NoMember { .. } => ErrorCode::Conflict,
        Refusal::DependencyUnknown { .. } => ErrorCode::DependencyUnknown,
    };
    Problem::new(code, refusal.to_string())
}

/// A leased run on the wire.
#[must_use]
pub fn leased_run(run: command::LeasedRun) -> bus::LeasedRun {
    bus::LeasedRun {
        job: run.job,
        attempt: run.attempt,
        node: run.node.to_string(),
        shape: ShapeText(run.shape),
    }
}

/// A run that the shard believes in, on the wire.
#[must_use]
pub fn believed_run(run: RunView) -> bus::BelievedRun {
    let state = run.state.name().to_owned();
    let (job, attempt, node) = (run.job, run.attempt, run.node.to_string());
    bus::BelievedRun {
        run: bus::LeasedRun { job, attempt, node, shape: ShapeText(run.shape) },
        state,
    }
}

/// A job's place on the wire.
#[must_use]
pub fn job_place(place: Place) -> bus::JobPlace {
    bus::JobPlace {
        shape: ShapeText(place.shape),
        priority: place.priority,
        classes: class_lines(place.classes),
        ahead: (place.ahead.least, place.ahead.most),
        held: place.held.into_iter().map(held).collect(),
    }
}

/// What keeps a job from its queue's line, as it is shown.
fn held(held: Held) -> http::Blocker {
    match held {
        Held::Gang { id, live, waiting, cardinality, .. } => {
            http::Blocker::GangWaiting { gang: id.to_string(), live, waiting, cardinality }
        }
        Held::Back(back) => http::Blocker::HeldBack { detail: held_back(&back).detail },
    }
}

/// Lines of classes on the wire.
#[must_use]
pub fn class_lines(lines: Vec<ClassLine>) -> Vec<bus::ClassLine> {
    let line = |line: ClassLine| bus::ClassLine {
        class: line.class.to_string(),
        before: line.before,
        same: line.same,
        all: line.all,
    };
    lines.into_iter().map(line).collect()
}

/// Why a command was refused.
#[must_use]
pub fn refusal(refusal: &Refusal) -> Problem {
    refused(refusal)
}

/// A shape's key on the wire.
#[must_use]
pub fn shape_key(key: ShapeKey) -> CommandId {
    CommandId(key.0)
}

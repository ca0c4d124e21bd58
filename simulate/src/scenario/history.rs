//! A workload made of what a deployment has done: the jobs of its history, at the times at which
//! they came, each running as long as it ran.
//!
//! History has what the scheduler knew of a job, and when it was submitted, started and ended. What
//! it does not have is said: jobs that have not finished, and how long those would have run that
//! never did.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_api::bus;
use muster_api::http::{PriorityClassSettings, QueueSettings};
use muster_core::control::Control;
use muster_core::history::Finished;
use muster_core::id::{JobRef, ShardId};
use muster_core::job::{JobState, StateSet};
use muster_core::retry::{Ending, Reason};
use muster_core::shape::{Affinity, Requirement, Toleration};
use muster_core::time::Timestamp;
use muster_runtime::history::{self, Filter, History};
use muster_runtime::store::Store;
use muster_runtime::store::control::{ControlStore, Error as ControlError};
use muster_runtime::{Blocking, Random};
use serde_json::{Value, json};

use super::jobs::{self, Draft};
use super::{Cluster, Error, Queue, Read, Result, Shifted, Template, failed};

/// Jobs read at a time.
const PAGE: usize = 10_000;
/// Jobs of one simulation.
const JOBS_MAX: usize = 5_000_000;

/// What was taken from a deployment's store.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The store, for messages.
    url: String,
    control: Control,
    jobs: Vec<Finished>,
}

/// Why it could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The history.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The control data.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// There was nothing.
    #[error("there is no finished job in the history of `{0}` in that time")]
    Nothing(String),
    /// There was too much.
    #[error("there are more than {JOBS_MAX} finished jobs: take a shorter time")]
    TooMuch,
}

/// Takes what was submitted from `from` on and before `to`.
///
/// # Errors
/// When the store cannot be read, or there is nothing.
pub async fn take(
    store: &Store,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
) -> std::result::Result<Taken, TakeError> {
    let control = ControlStore::new(store.clone(), Random::seeded(0)).load_latest().await?;
    let shards = control.shards.unwrap_or(muster_shard::Config::default().shards);
    let history = History::new(store.clone(), Blocking::per_core());
    let filter = Filter { queue: None, job_set: None, states: StateSet::ALL };
    let is_meant =
        |at: Timestamp| from.is_none_or(|from| from.0 <= at.0) && to.is_none_or(|to| at.0 < to.0);
    let mut jobs: Vec<Finished> = Vec::new();
    for shard in (0..shards).map(ShardId) {
        let mut after: Option<JobRef> = None;
        loop {
            let page = history.list(shard, &filter, after, PAGE).await?;
            jobs.extend(page.jobs.into_iter().filter(|job| is_meant(job.job.job.submitted_at())));
            if jobs.len() > JOBS_MAX {
                return Err(TakeError::TooMuch);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    if jobs.is_empty() {
        return Err(TakeError::Nothing(store.url().to_owned()));
    }
    jobs.sort_by_key(|job| (job.job.job.submitted_at(), job.job));
    Ok(Taken { url: store.url().to_owned(), control: (*control).clone(), jobs })
}

/// The workload behind it.
pub(super) fn workload(taken: &Taken, clusters: &[Cluster]) -> Result<Read> {
    let mut read = Read { name: format!("history of {}", taken.url), ..Read::default() };
    for (name, class) in &taken.control.classes {
        let settings =
            PriorityClassSettings { priority: class.priority, preemptible: class.preemptible };
        read.classes.insert(name.clone(), settings);
    }
    let began = taken.jobs.iter().map(|job| job.job.job.submitted_at().0).min().unwrap_or(0);
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left_out = Left::default();
    for finished in &taken.jobs {
        let Some(runtime) = runtime(finished, &mut left_out) else { continue };
        let place = *places
            .entry(&finished.queue)
            .or_insert_with(|| place_of(&finished.queue, &taken.control, &mut read));
        let draft = draft(finished, &taken.control, clusters, &mut left_out);
        let wrong = |reason| Error::new(&taken.url, &finished.job.to_string(), reason);
        let (job, shape) = jobs::job(draft, clusters).map_err(wrong)?;
        let runtime = Shifted { minimum: runtime, tail_mean: Duration::ZERO };
        let failure = failure(finished);
        let came = finished.job.job.submitted_at().0.saturating_sub(began);
        read.templates.push(Template {
            id: finished.job.to_string(),
            queue: place,
            job_set: finished.job_set.to_string(),
            number: finished.count,
            gang: None,
            job,
            shape,
            runtime,
            failures: (if failure.is_some() { 1.0 } else { 0.0 }, runtime),
            failure: failure.unwrap_or_else(failed),
            earliest: Duration::from_millis(u64::try_from(came).unwrap_or_default()),
            after: Vec::new(),
            pause: Duration::ZERO,
        });
    }
    if read.templates.is_empty() {
        return Err(Error::new(&taken.url, "", "no job of the history has ever run".to_owned()));
    }
    read.notes.push("history has no jobs that have not finished: none is simulated".to_owned());
    read.notes.extend(left_out.notes());
    Ok(read)
}

/// What could not be taken as it was.
#[derive(Default)]
struct Left {
    never_ran: u64,
    gangs: u64,
    pools: u64,
    classes: u64,
}

impl Left {
    fn notes(self) -> impl Iterator<Item = String> {
        let notes = [
            (
                self.never_ran,
                "jobs were left out: they never ran, so that nobody knows how long they would",
            ),
            (
                self.gangs,
                "jobs of gangs are simulated without their gangs: history does not have all of each",
            ),
            (self.pools, "jobs are of pools that no cluster here belongs to, and get another one"),
            (self.classes, "jobs are of priority classes that are gone, and of `default` here"),
        ];
        notes.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"))
    }
}

/// How the last run of a job ended that failed, if that was its own doing. What becomes of a gang
/// is not known of one of its members.
fn failure(finished: &Finished) -> Option<bus::Exit> {
    let (_, exit) = finished.runs.last()?.ended.as_ref()?;
    let is_own = match Reason::of(Ending::Failed, exit) {
        Reason::DeadlineExceeded | Reason::Error | Reason::OomKilled => true,
        Reason::Evicted
        | Reason::Image
        | Reason::LeaseExpired
        | Reason::Lost
        | Reason::NodeLost
        | Reason::Preempted
        | Reason::Refused => false,
    };
    let is_meant = finished.state == JobState::Failed && is_own && finished.shape.gang.is_none();
    is_meant.then(|| bus::Exit {
        code: exit.code,
        signal: exit.signal,
        reason: exit.reason.as_ref().map(ToString::to_string),
        message: None,
        usage: None,
    })
}

/// How long a job ran in its last run.
fn runtime(finished: &Finished, left: &mut Left) -> Option<Duration> {
    let run = finished.runs.last();
    let times = run.and_then(|run| Some((run.started_at?, run.ended.as_ref()?.0)));
    let Some((started, ended)) = times else {
        left.never_ran += u64::from(finished.count);
        return None;
    };
    Some(Duration::from_millis(u64::try_from(ended.0.saturating_sub(started.0)).unwrap_or(0)))
}

/// The place of a queue, which comes with those that it stands below, before it.
fn place_of(name: &str, control: &Control, read: &mut Read) -> usize {
    let of = |read: &Read, name: &str| read.queues.iter().position(|queue| queue.name == name);
    let above: Vec<&str> = control.above(name).collect();
    for name in above.into_iter().rev().chain([name]) {
        if of(read, name).is_none() {
            let queue = queue(control, name, &mut read.notes);
            read.queues.push(queue);
        }
    }
    of(read, name).expect("it was put there if it was not")
}

fn queue(control: &Control, name: &str, notes: &mut Vec<String>) -> Queue {
    let mut settings = QueueSettings::default();
    match control.queues.get(name) {
        None => notes.push(format!("queue `{name}` is gone, and has weight 1 here")),
        Some(known) => {
            settings = QueueSettings::from(known);
            // What is to run is tried out, whatever is so just now; and who is gone has none below.
            settings.cordoned = false;
            settings.parent = control.above(name).next().map(str::to_owned);
        }
    }
    Queue { name: name.to_owned(), settings }
}

fn draft(finished: &Finished, control: &Control, clusters: &[Cluster], left: &mut Left) -> Draft {
    let shape = &finished.shape;
    left.gangs += u64::from(shape.gang.is_some());
    let mut draft = Draft { priority: finished.priority, ..Draft::default() };
    match control.class(&shape.class) {
        Some(_) => draft.class = Some(shape.class.to_string()),
        None => left.classes += 1,
    }
    if clusters.iter().any(|cluster| *cluster.pool == *shape.pool) {
        let pool = (jobs::POOL.to_owned(), shape.pool.to_string());
        draft.annotations.extend([pool]);
    } else {
        left.pools += 1;
    }
    let requests =
        shape.request.iter().filter(|(name, _)| ***name != *muster_core::resources::PODS);
    draft.requests = requests.map(|(name, n)| (name.to_string(), n.to_string())).collect();
    let selector = shape.node_selector.iter().filter(|(label, _)| ***label != *jobs::POOL);
    draft.node_selector = selector.map(|(l, v)| (l.to_string(), v.to_string())).collect();
    draft.affinity = shape.affinity.as_ref().map(affinity);
    let tolerations: Vec<Value> = shape.tolerations.iter().map(toleration).collect();
    draft.tolerations = (!tolerations.is_empty()).then(|| json!(tolerations));
    draft
}

fn toleration(toleration: &Toleration) -> Value {
    let Toleration { key, value, effect } = toleration;
    let mut json = json!({ "operator": if value.is_some() { "Equal" } else { "Exists" } });
    for (name, part) in [("key", key), ("value", value), ("effect", effect)] {
        if let Some(part) = part {
            json[name] = json!(&**part);
        }
    }
    json
}

fn affinity(affinity: &Affinity) -> Value {
    let terms = affinity.terms.iter().map(|term| {
        let (mut labels, mut fields) = (Vec::new(), Vec::new());
        for requirement in &term.requirements {
            let (into, json) = expression(requirement);
            if into == "name" { fields.push(json) } else { labels.push(json) }
        }
        json!({ "matchExpressions": labels, "matchFields": fields })
    });
    let terms: Vec<Value> = terms.collect();
    let required = json!({ "nodeSelectorTerms": terms });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } })
}

/// A requirement as Kubernetes writes it, and whether it is about a label or the name.
fn expression(requirement: &Requirement) -> (&'static str, Value) {
    let label = |key: &str, operator: &str, values: Vec<String>| {
        ("label", json!({ "key": key, "operator": operator, "values": values }))
    };
    let texts = |values: &std::collections::BTreeSet<muster_core::Name>| {
        values.iter().map(ToString::to_string).collect()
    };
    let name = |operator: &str, name: &str| {
        ("name", json!({ "key": "metadata.name", "operator": operator, "values": [name] }))
    };
    match requirement {
        Requirement::In(key, values) => label(key, "In", texts(values)),
        Requirement::NotIn(key, values) => label(key, "NotIn", texts(values)),
        Requirement::Exists(key) => label(key, "Exists", Vec::new()),
        Requirement::DoesNotExist(key) => label(key, "DoesNotExist", Vec::new()),
        Requirement::Gt(key, than) => label(key, "Gt", vec![than.to_string()]),
        Requirement::Lt(key, than) => label(key, "Lt", vec![than.to_string()]),
        Requirement::Named(node) => name("In", node),
        Requirement::NotNamed(node) => name("NotIn", node),
    }
}

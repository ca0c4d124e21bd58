//! The pods of the executor's runs and every decision about them, without IO and clock: what it is
//! told, what is seen and what the API server answers go in with the time; events and [`Call`]s
//! come out.
//!
//! A run is in the table from when it is to start until its end is settled and its pod is gone. Its
//! final event is given once, and not before its pod has ended or is gone: a run that is given back
//! must not run on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{Exit, JobPayload, Report, RunStatus};
use muster_core::Name;
use muster_core::resources::Resources;
use muster_core::shape::Shape;

use super::checks::{Checks, Findings};
use super::network::Object;
use super::object::Happening;
use super::state::{End, Stage};
use super::usage::Measured;
use crate::backend::{Adopted, Event, Grace, Start};
use crate::config::{Binding, KubernetesConfig};
use crate::runs::{Now, RunKey};

mod create;
mod expose;
mod seen;
mod tend;
#[cfg(test)]
mod tests;

pub(super) use create::Found;
use expose::Access;
pub(super) use tend::{Refusal, Removed};

/// The pods.
pub(super) struct Table {
    config: KubernetesConfig,
    cluster: String,
    checks: Checks,
    pods: BTreeMap<RunKey, Pod>,
    /// Shapes of pods that were found, by their canonical texts.
    shapes: BTreeMap<Box<str>, Arc<Shape>>,
    /// When to look at which pod again.
    timers: BTreeSet<(Duration, RunKey)>,
    /// What is to be asked of the API server: what others wait for, …
    urgent: VecDeque<Task>,
    /// … new pods, …
    creates: VecDeque<RunKey>,
    /// … and what has time.
    cleanups: VecDeque<RunKey>,
    was_create: bool,
    /// Pods that ended and are settled, by the time of their end.
    kept: BTreeSet<(Duration, RunKey)>,
    /// What a list that is under way has not named yet.
    unlisted: BTreeSet<RunKey>,
    /// Nothing is said of pods before the executor has heard of them.
    is_adopted: bool,
    events: Vec<Event>,
    /// Pods that were removed by force so far.
    forced: u64,
}

/// A request to the API server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// Create the pod of a run.
    Create { key: RunKey, node: Name, shape: Arc<Shape>, payload: Arc<JobPayload> },
    /// Create the services and ingresses of a pod.
    Expose { key: RunKey, objects: Arc<[Object]> },
    /// Create a namespace that is missing, for the pod of a run.
    CreateNamespace { key: RunKey, namespace: Name },
    /// Bind a pod to its node.
    Bind { key: RunKey, namespace: Name, node: Name },
    /// Remove a pod, within so many seconds.
    Remove { key: RunKey, namespace: Name, uid: Box<str>, grace: Option<u32> },
    /// Look whether there is a pod of that run.
    Look { key: RunKey, namespace: Name },
    /// Look what has happened to a pod.
    Happenings { key: RunKey, namespace: Name, uid: Box<str> },
}

/// A kind of request that does not wait its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    CreateNamespace(RunKey),
    Expose(RunKey),
    Bind(RunKey),
    Remove(RunKey),
    Look(RunKey),
    Happenings(RunKey),
}

/// A run's pod.
struct Pod {
    node: Name,
    shape: Arc<Shape>,
    namespace: Name,
    body: Body,
    told: Told,
    removal: Option<Removal>,
    findings: Findings,
    happenings: Vec<Happening>,
    is_settled: bool,
    wake: Option<Duration>,
}

/// Where the pod is.
enum Body {
    /// Not created yet, as far as is known.
    Wanted(Wanted),
    /// In the cluster.
    There(There),
    /// Not any more, or never.
    Gone,
}

struct Wanted {
    payload: Arc<JobPayload>,
    since: Duration,
    tries: u32,
    asking: Asking,
    /// Whether an attempt to create it may have succeeded unnoticed.
    may_exist: bool,
    /// Whether its namespace was created for it.
    has_made_namespace: bool,
    /// What was said last to a pod that is given up, unless it turns out to be there.
    given_up: Option<String>,
}

/// How far the request for a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// It waits its turn.
    Queued,
    /// The API server has it.
    InFlight,
    /// It is made again later.
    Resting(Duration),
}

struct There {
    uid: Box<str>,
    container: Box<str>,
    stage: Stage,
    is_bound: bool,
    /// How long it may take to end.
    grace: Duration,
    since: Duration,
    /// When it was seen to have ended.
    ended: Option<Duration>,
    happenings_at: Option<Duration>,
    /// Its services and ingresses, if it has any.
    access: Option<Box<Access>>,
    /// What it was seen to use, if it was looked at.
    measured: Option<Box<Measured>>,
}

/// What the executor was told of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Pending,
    Running,
    End,
}

/// A pod that is to go.
struct Removal {
    why: Why,
    /// When it was to be removed, first.
    since: Duration,
    /// How long it may take to end …
    grace: Duration,
    /// … and what the API server is told of it, if it is not what the pod says itself.
    seconds: Option<u32>,
    /// Whether a request for it is queued or under way.
    is_asked: bool,
    /// Whether the API server has taken it.
    is_taken: bool,
    is_forced: bool,
}

/// Why a pod is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// The executor was told to stop it.
    Stopped,
    /// It does not come to run; how its run ends.
    Stuck { status: RunStatus, reason: String, message: String },
    /// Nobody needs it any more.
    Cleanup,
    /// Somebody else removes it.
    Others,
}

/// Where a pod is, for those who want its output.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: Name,
    pub(super) container: String,
    pub(super) is_over: bool,
    /// Whether any of it has run.
    pub(super) has_run: bool,
}

impl Table {
    pub(super) fn new(config: KubernetesConfig, cluster: String) -> Self {
        Self {
            checks: Checks::new(&config.checks),
            config,
            cluster,
            pods: BTreeMap::new(),
            shapes: BTreeMap::new(),
            timers: BTreeSet::new(),
            urgent: VecDeque::new(),
            creates: VecDeque::new(),
            cleanups: VecDeque::new(),
            was_create: false,
            kept: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            is_adopted: false,
            events: Vec::new(),
            forced: 0,
        }
    }

    /// What there is to say; each is given out once.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Pods removed by force since it was last asked.
    pub(super) fn take_forced(&mut self) -> u64 {
        std::mem::take(&mut self.forced)
    }

    /// Starts a run.
    pub(super) fn start(&mut self, start: Start, now: Now) {
        let Start { key, node, shape, payload } = start;
        if self.pods.contains_key(&key) {
            return;
        }
        let namespace = Name::from(payload.namespace.as_str());
        let is_allowed = self.is_allowed(&namespace);
        let wanted = Wanted {
            payload,
            since: now.monotonic,
            tries: 0,
            asking: Asking::Queued,
            may_exist: false,
            has_made_namespace: false,
            given_up: None,
        };
        self.pods.insert(key, Pod::new(node, shape, namespace.clone(), Body::Wanted(wanted)));
        if is_allowed {
            self.creates.push_back(key);
        } else {
            let message = format!("this cluster takes no jobs of namespace `{namespace}`");
            self.never(key, RunStatus::Failed, "NamespaceForbidden", message, now);
        }
    }

    fn is_allowed(&self, namespace: &str) -> bool {
        let allowed = &self.config.namespaces;
        allowed.is_empty() || allowed.iter().any(|it| crate::config::matches(it, namespace))
    }

    /// Stops a run, if there is one.
    pub(super) fn stop(&mut self, key: RunKey, grace: Grace, now: Now) {
        let most = match grace {
            Grace::OfPod => None,
            Grace::AtMost(most) => Some(most),
        };
        let Some(pod) = self.pods.get_mut(&key) else { return };
        match &mut pod.body {
            Body::Wanted(wanted) => {
                let is_doubtful = wanted.may_exist || wanted.asking == Asking::InFlight;
                if !is_doubtful {
                    let message = "it was stopped before its pod was created".to_owned();
                    self.never(key, RunStatus::Returned, "Stopped", message, now);
                    return;
                }
                pod.removal = Some(Removal::new(Why::Stopped, most, Duration::MAX, now));
                if let Asking::Resting(_) = wanted.asking {
                    wanted.asking = Asking::InFlight;
                    self.urgent.push_back(Task::Look(key));
                }
            }
            Body::There(there) if matches!(there.stage, Stage::Ended(_)) => {}
            Body::There(_) => self.remove(key, Why::Stopped, most, now),
            Body::Gone => {}
        }
    }

    /// The end of a run is known to its shard, or of no interest to it.
    pub(super) fn settle(&mut self, key: RunKey, now: Now) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        pod.is_settled = true;
        match &pod.body {
            Body::Gone => self.forget(&key),
            Body::There(There { ended: Some(ended), .. }) => {
                self.kept.insert((*ended, key));
                self.tend(key, now);
                while self.kept.len() > self.config.ended_pods_max {
                    let Some((_, oldest)) = self.kept.pop_first() else { break };
                    self.remove(oldest, Why::Cleanup, None, now);
                }
            }
            Body::There(_) | Body::Wanted(_) => self.stop(key, Grace::OfPod, now),
        }
    }

    /// The runs that there are. From now on it is said what becomes of them; what is known of ends
    /// already comes as events, behind the beginnings that this gives.
    pub(super) fn adopt(&mut self, now: Now) -> Vec<Adopted> {
        self.is_adopted = true;
        let mut adopted = Vec::new();
        for (key, pod) in &mut self.pods {
            let Body::There(there) = &pod.body else { continue };
            let (status, at) = match &there.stage {
                Stage::Waiting(_) => (RunStatus::Pending, None),
                // It is said again, with its addresses.
                Stage::Running { .. } if there.is_hidden() => (RunStatus::Pending, None),
                Stage::Running { started } => (RunStatus::Running, *started),
                Stage::Ended(End { started: None, .. }) => (RunStatus::Pending, None),
                Stage::Ended(End { started, .. }) => (RunStatus::Running, *started),
            };
            pod.told = if status == RunStatus::Running { Told::Running } else { Told::Pending };
            let RunKey { job, attempt } = *key;
            let at_ms = at.unwrap_or(now.wall).0;
            let (exit, addresses) = (Exit::default(), there.addresses(&pod.node));
            let report = Report { job, attempt, status, at_ms, exit, addresses };
            let (node, shape) = (pod.node.clone(), Arc::clone(&pod.shape));
            adopted.push(Adopted { key: *key, node, shape, report });
        }
        let keys: Vec<RunKey> = self.pods.keys().copied().collect();
        for key in keys {
            self.say(key, now);
            self.tend(key, now);
        }
        adopted
    }

    /// Where the pod of a run is.
    pub(super) fn place(&self, key: RunKey) -> Option<Place> {
        let pod = self.pods.get(&key)?;
        let Body::There(there) = &pod.body else { return None };
        let has_run = match &there.stage {
            Stage::Waiting(hold) => hold.is_initialising,
            Stage::Running { .. } => true,
            Stage::Ended(end) => end.started.is_some(),
        };
        let is_over = matches!(there.stage, Stage::Ended(_));
        let container = there.container.to_string();
        Some(Place { namespace: pod.namespace.clone(), container, is_over, has_run })
    }

    /// How many pods there are or are to be.
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// What pods take of their nodes whose runs are over for the executor.
    pub(super) fn leftover(&self) -> BTreeMap<Name, Resources> {
        let mut all: BTreeMap<Name, Resources> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| pod.told == Told::End) {
            if let Body::There(There { stage: Stage::Waiting(_) | Stage::Running { .. }, .. }) =
                pod.body
            {
                all.entry(pod.node.clone()).or_default().add(&pod.shape.request);
            }
        }
        all
    }

    /// The next request to the API server.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        while let Some(task) = self.urgent.pop_front() {
            if let Some(call) = self.call(task) {
                return Some(call);
            }
        }
        // In turn, so that neither keeps the other away.
        for _ in 0..2 {
            self.was_create = !self.was_create;
            if self.was_create {
                if let Some(call) = self.next_create() {
                    return Some(call);
                }
            } else {
                while let Some(key) = self.cleanups.pop_front() {
                    if let Some(call) = self.call(Task::Remove(key)) {
                        return Some(call);
                    }
                }
            }
        }
        None
    }

    fn call(&mut self, task: Task) -> Option<Call> {
        let (Task::CreateNamespace(key)
        | Task::Expose(key)
        | Task::Bind(key)
        | Task::Remove(key)
        | Task::Look(key)
        | Task::Happenings(key)) = task;
        let pod = self.pods.get(&key)?;
        let namespace = pod.namespace.clone();
        match (task, &pod.body) {
            (Task::CreateNamespace(_), Body::Wanted(_)) => {
                Some(Call::CreateNamespace { key, namespace })
            }
            (Task::Look(_), Body::Wanted(_) | Body::There(_)) => {
                Some(Call::Look { key, namespace })
            }
            (Task::Bind(_), Body::There(there)) if !there.is_bound => {
                Some(Call::Bind { key, namespace, node: pod.node.clone() })
            }
            (Task::Expose(_), Body::There(There { access: Some(access), .. }))
                if pod.removal.is_none() =>
            {
                access.call(key)
            }
            (Task::Happenings(_), Body::There(there)) => {
                Some(Call::Happenings { key, namespace, uid: there.uid.clone() })
            }
            (Task::Remove(_), Body::There(there)) => {
                let removal = pod.removal.as_ref()?;
                let grace = match (&removal.why, removal.is_forced) {
                    (_, true) => Some(0),
                    (Why::Cleanup | Why::Others, false) => None,
                    (Why::Stopped | Why::Stuck { .. }, false) => removal.seconds,
                };
                Some(Call::Remove { key, namespace, uid: there.uid.clone(), grace })
            }
            (
                Task::CreateNamespace(_)
                | Task::Expose(_)
                | Task::Bind(_)
                | Task::Remove(_)
                | Task::Look(_)
                | Task::Happenings(_),
                _,
            ) => None,
        }
    }

    fn is_direct(&self) -> bool {
        self.config.binding == Binding::Direct
    }

    /// The record of a run that is settled, and whose pod is gone, is not needed any more.
    fn forget(&mut self, key: &RunKey) {
        if let Some(pod) = self.pods.remove(key)
            && let Some(wake) = pod.wake
        {
            self.timers.remove(&(wake, *key));
        }
        self.unlisted.remove(key);
    }
}

impl Pod {
    fn new(node: Name, shape: Arc<Shape>, namespace: Name, body: Body) -> Self {
        Self {
            node,
            shape,
            namespace,
            body,
            told: Told::Nothing,
            removal: None,
            findings: Findings::default(),
            happenings: Vec::new(),
            is_settled: false,
            wake: None,
        }
    }
}

impl Removal {
    /// A pod that says that it may take `grace` to end, and is given `most` at most.
    fn new(why: Why, most: Option<Duration>, grace: Duration, now: Now) -> Self {
        let less = most.filter(|most| *most < grace);
        let seconds = less.map(|less| u32::try_from(less.as_secs()).unwrap_or(u32::MAX));
        Self {
            why,
            since: now.monotonic,
            grace: less.unwrap_or(grace),
            seconds,
            is_asked: false,
            is_taken: false,
            is_forced: false,
        }
    }
}

//! What the watch says of pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{Exit, RunStatus};
use muster_core::id::ShardId;
use muster_core::shape::Shape;

use super::{Access, Body, Pod, Removal, Table, Task, There, Told, Why};
use crate::backend::Event;
use crate::backend::kubernetes::labels;
use crate::backend::kubernetes::manifest::NO_SCHEDULER;
use crate::backend::kubernetes::object;
use crate::backend::kubernetes::state::{self, ERROR, End, Stage};
use crate::backend::kubernetes::usage::{Look, Measured};
use crate::runs::{Now, RunKey};

/// The annotation that names the container whose output is meant, where there are several.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// Shapes of adopted pods that are remembered; more are forgotten all at once.
const SHAPES_MAX: usize = 4096;
/// A pod that somebody else removes is given no longer than this to end.
const GRACE_MAX: Duration = Duration::from_hours(24);

impl Table {
    /// A list of all pods begins.
    pub(in crate::backend::kubernetes) fn listing(&mut self) {
        let there = self.pods.iter().filter(|(_, pod)| matches!(pod.body, Body::There(_)));
        self.unlisted = there.map(|(key, _)| *key).collect();
    }

    /// It is at its end. What it did not name may be gone: it is looked for, for a list may be
    /// older than what was created a moment ago.
    pub(in crate::backend::kubernetes) fn listed(&mut self) {
        let unlisted = std::mem::take(&mut self.unlisted);
        self.urgent.extend(unlisted.into_iter().map(Task::Look));
    }

    /// A pod is there, or has changed. Says whether it is one of this executor's.
    pub(in crate::backend::kubernetes) fn seen(&mut self, seen: &object::Pod, now: Now) -> bool {
        let Some(identity) = labels::identity(&seen.metadata, &self.cluster) else { return false };
        let key = identity.key;
        self.unlisted.remove(&key);
        let namespace = seen.metadata.namespace.as_str();
        if !self.pods.contains_key(&key) {
            let Some(shape) = self.shape(identity.shape) else { return false };
            let node = identity.node.into();
            self.pods.insert(key, Pod::new(node, shape, namespace.into(), Body::Gone));
        }
        let Some(pod) = self.pods.get_mut(&key) else { return false };
        if &*pod.namespace != namespace {
            return false;
        }
        let stage = state::stage(seen);
        let is_over = matches!(stage, Stage::Ended(_));
        match &mut pod.body {
            Body::There(there) if *there.uid == *seen.metadata.uid => {
                // An answer may be older than what the watch has said since.
                if stage.rank() >= there.stage.rank() {
                    there.stage = stage;
                }
                there.is_bound |= !seen.spec.node_name.is_empty();
                there.ended = there.ended.or(is_over.then_some(now.monotonic));
                there.is_on(&seen.status.host_ip);
            }
            Body::There(_) | Body::Wanted(_) | Body::Gone => {
                let mut there = there(seen, stage, now);
                there.access = Access::of(key, seen, &self.config);
                pod.body = Body::There(there);
                self.came(key, seen, now);
            }
        }
        self.going(key, seen, now);
        self.say(key, now);
        self.tend(key, now);
        true
    }

    /// The shards whose jobs have pods.
    pub(in crate::backend::kubernetes) fn shards(&self) -> BTreeSet<ShardId> {
        let there = self.pods.iter().filter(|(_, pod)| matches!(pod.body, Body::There(_)));
        there.map(|(key, _)| key.job.job.shard()).collect()
    }

    /// A pod was looked at. What it uses is told also while it runs: whoever ends the run may not
    /// ask.
    pub(in crate::backend::kubernetes) fn looked_at(&mut self, look: &Look, now: Now) {
        let Some(pod) = self.pods.get_mut(&look.key) else { return };
        let Body::There(there) = &mut pod.body else { return };
        // What a look says that came late counts too; of a pod that is settled nobody asks.
        let started = match &there.stage {
            Stage::Running { started } => *started,
            Stage::Ended(end) if pod.told < Told::End => end.started,
            Stage::Waiting(_) | Stage::Ended(_) => return,
        };
        if *look.namespace != *pod.namespace {
            return;
        }
        match &mut there.measured {
            Some(measured) => measured.add(look),
            None => there.measured = Some(Box::new(Measured::first(look, started))),
        }
        if pod.told != Told::Running || there.ended.is_some() {
            return;
        }
        let news = there.measured.as_mut().and_then(|measured| measured.news());
        if news.is_none() {
            return;
        }
        let (key, status, at) = (look.key, RunStatus::Running, started.unwrap_or(now.wall));
        let exit = Exit { usage: news, ..Exit::default() };
        let addresses = there.addresses(&pod.node);
        self.events.push(Event { key, status, at, exit, addresses });
    }

    /// The shape behind a canonical text; pods of one shape share it.
    fn shape(&mut self, text: &str) -> Option<Arc<Shape>> {
        if let Some(known) = self.shapes.get(text) {
            return Some(Arc::clone(known));
        }
        let shape = Arc::new(Shape::from_canonical(text)?);
        if self.shapes.len() >= SHAPES_MAX {
            self.shapes.clear();
        }
        self.shapes.insert(text.into(), Arc::clone(&shape));
        Some(shape)
    }

    /// A pod has come to be there.
    fn came(&mut self, key: RunKey, seen: &object::Pod, now: Now) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &pod.body else { return };
        if pod.told == Told::End {
            // It was given up before it came, and must not run.
            self.remove(key, Why::Cleanup, None, now);
            return;
        }
        let grace = there.grace;
        let is_to_be_exposed = there.is_hidden() && !matches!(there.stage, Stage::Ended(_));
        let needs_node = !there.is_bound && seen.scheduler() == NO_SCHEDULER;
        if let Some(removal) = pod.removal.take() {
            let most = removal.seconds.map(|seconds| Duration::from_secs(seconds.into()));
            self.remove(key, removal.why, most.filter(|most| *most < grace), now);
        } else {
            if needs_node && self.is_direct() {
                self.urgent.push_back(Task::Bind(key));
            }
            if is_to_be_exposed {
                self.urgent.push_back(Task::Expose(key));
            }
        }
    }

    /// Notes that somebody else removes a pod.
    fn going(&mut self, key: RunKey, seen: &object::Pod, now: Now) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        if seen.metadata.deletion_timestamp.is_none() {
            return;
        }
        match &mut pod.removal {
            Some(removal) => removal.is_taken |= !removal.is_forced,
            None => {
                // The moment that is named is of the API server's clock, which may be another one.
                let given = seen.metadata.deletion_grace_period_seconds;
                let given = given.or(seen.spec.termination_grace_period_seconds);
                let grace = crate::backend::pod::grace(given).min(GRACE_MAX);
                let mut removal = Removal::new(Why::Others, None, grace, now);
                removal.is_taken = true;
                pod.removal = Some(removal);
            }
        }
    }

    /// A pod is gone; as it was at last.
    pub(in crate::backend::kubernetes) fn gone(&mut self, seen: &object::Pod, now: Now) {
        let Some(identity) = labels::identity(&seen.metadata, &self.cluster) else { return };
        let Some(pod) = self.pods.get_mut(&identity.key) else { return };
        let Body::There(there) = &mut pod.body else { return };
        if *there.uid != *seen.metadata.uid {
            return;
        }
        let last = state::stage(seen);
        if last.rank() >= there.stage.rank() {
            there.stage = last;
        }
        self.vanished(identity.key, Some(seen), now);
    }

    /// A pod is gone, and nobody has seen it go.
    pub(super) fn gone_unseen(&mut self, key: RunKey, now: Now) {
        self.vanished(key, None, now);
    }

    fn vanished(&mut self, key: RunKey, seen: Option<&object::Pod>, now: Now) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &mut pod.body else { return };
        there.stage = Stage::Ended(state::gone(&there.stage, seen));
        self.say(key, now);
        let Some(pod) = self.pods.get_mut(&key) else { return };
        if let Body::There(There { ended: Some(ended), .. }) = pod.body {
            self.kept.remove(&(ended, key));
        }
        pod.body = Body::Gone;
        // Who has not heard of it yet would ask for it for ever.
        if pod.is_settled || !self.is_adopted {
            self.forget(&key);
        }
    }

    /// Says what has become of a run since it was last said.
    pub(super) fn say(&mut self, key: RunKey, now: Now) {
        if !self.is_adopted {
            return;
        }
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &pod.body else { return };
        let mut events = Vec::new();
        let mut say = |status, at: Option<_>, exit| {
            let is_running = status == RunStatus::Running;
            let addresses = if is_running { there.addresses(&pod.node) } else { Vec::new() };
            events.push(Event { key, status, at: at.unwrap_or(now.wall), exit, addresses });
        };
        let told = match &there.stage {
            // Who hears that it runs may go there.
            Stage::Running { .. } if there.is_hidden() => {
                if pod.told < Told::Pending {
                    say(RunStatus::Pending, None, Exit::default());
                }
                Told::Pending
            }
            Stage::Waiting(_) => {
                if pod.told < Told::Pending {
                    say(RunStatus::Pending, None, Exit::default());
                }
                Told::Pending
            }
            Stage::Running { started } => {
                if pod.told < Told::Running {
                    say(RunStatus::Running, *started, Exit::default());
                }
                Told::Running
            }
            Stage::Ended(end) => {
                if pod.told < Told::Running && end.started.is_some() {
                    say(RunStatus::Running, end.started, Exit::default());
                }
                if pod.told < Told::End {
                    let (status, mut exit) = verdict(end, pod.removal.as_ref());
                    exit.usage = there.measured.as_ref().map(|it| it.usage(end.at));
                    say(status, end.at, exit);
                }
                Told::End
            }
        };
        pod.told = pod.told.max(told);
        self.events.extend(events);
    }
}

/// How a run ended whose pod was perhaps made to end.
fn verdict(end: &End, removal: Option<&Removal>) -> (RunStatus, Exit) {
    let Some(removal) = removal else { return (end.status, end.exit.clone()) };
    let forced = "it did not end within its grace period and was removed by force";
    let mut exit = end.exit.clone();
    if removal.is_forced {
        exit.message = Some(forced.to_owned());
    }
    let has_run = end.started.is_some();
    // Whether it was the removal that ended it.
    let was_killed = matches!(exit.signal, Some(SIGKILL | SIGTERM));
    match (&removal.why, end.status) {
        // Somebody has deleted its pod, and it ended for that and nothing else.
        (Why::Others, RunStatus::Failed) if was_killed && exit.reason.as_deref() == Some(ERROR) => {
            let gone = state::gone(&Stage::Running { started: end.started }, None);
            (gone.status, Exit { code: exit.code, signal: exit.signal, ..gone.exit })
        }
        (Why::Cleanup | Why::Others, _) | (_, RunStatus::Succeeded) => (end.status, exit),
        (Why::Stuck { .. }, _) if has_run && !was_killed => (end.status, exit),
        (Why::Stuck { status, reason, message }, _) => {
            // It began to run after all, so it is not as if it had not been.
            let is_lost = has_run && *status == RunStatus::Returned;
            let status = if is_lost { RunStatus::Lost } else { *status };
            let (reason, message) = (Some(reason.clone()), Some(message.clone()));
            (status, Exit { reason, message, ..exit })
        }
        (Why::Stopped, _) => {
            exit.reason = Some("Stopped".to_owned());
            if !removal.is_forced && exit.code.is_none() {
                exit.message = Some("it was stopped".to_owned());
            }
            (if has_run { RunStatus::Failed } else { RunStatus::Returned }, exit)
        }
    }
}

fn there(seen: &object::Pod, stage: Stage, now: Now) -> There {
    let first = seen.spec.containers.first().map(|container| container.name.as_str());
    let container = seen.metadata.annotations.get(DEFAULT_CONTAINER).map(String::as_str);
    There {
        uid: seen.metadata.uid.as_str().into(),
        container: container.or(first).unwrap_or_default().into(),
        is_bound: !seen.spec.node_name.is_empty(),
        grace: crate::backend::pod::grace(seen.spec.termination_grace_period_seconds),
        since: now.monotonic,
        ended: matches!(stage, Stage::Ended(_)).then_some(now.monotonic),
        happenings_at: None,
        access: None,
        measured: None,
        stage,
    }
}

//! From a run to its pod.

use std::time::Duration;

use muster_api::bus::{Exit, RunStatus};

use super::{Asking, Body, Call, Pod, Table, Task, Told};
use crate::backend::Event;
use crate::backend::kubernetes::answer::{self, Creation};
use crate::backend::kubernetes::labels;
use crate::backend::kubernetes::object;
use crate::runs::{Now, RunKey};

/// The wait before a pod is asked for again …
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// … which doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What was found under the name of a run's pod.
#[derive(Debug, Clone)]
pub(in crate::backend::kubernetes) enum Found {
    /// A pod.
    Pod(Box<object::Pod>),
    /// Nothing.
    Nothing,
    /// Nobody knows; what was said.
    Unknown(String),
}

impl Table {
    /// The next pod to be created.
    pub(super) fn next_create(&mut self) -> Option<Call> {
        while let Some(key) = self.creates.pop_front() {
            let Some(pod) = self.pods.get_mut(&key) else { continue };
            let Body::Wanted(wanted) = &mut pod.body else { continue };
            if wanted.asking != Asking::Queued {
                continue;
            }
            wanted.asking = Asking::InFlight;
            wanted.tries += 1;
            let payload = std::sync::Arc::clone(&wanted.payload);
            let (node, shape) = (pod.node.clone(), std::sync::Arc::clone(&pod.shape));
            return Some(Call::Create { key, node, shape, payload });
        }
        None
    }

    /// The API server has answered to the creation of a pod; with the pod, if it was created.
    pub(in crate::backend::kubernetes) fn created(
        &mut self,
        key: RunKey,
        creation: Creation,
        created: Option<&object::Pod>,
        now: Now,
    ) {
        // The watch may have been quicker, and may even have seen it go.
        let is_news = |pod: &Pod| matches!(pod.body, Body::Wanted(_));
        if let Some(created) = created.filter(|_| self.pods.get(&key).is_some_and(is_news)) {
            self.seen(created, now);
        }
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::Wanted(wanted) = &mut pod.body else { return };
        let is_to_go = pod.removal.is_some();
        match creation {
            Creation::Created | Creation::Exists => self.urgent.push_back(Task::Look(key)),
            Creation::NoNamespace(_)
                if self.config.create_namespaces && !wanted.has_made_namespace && !is_to_go =>
            {
                wanted.has_made_namespace = true;
                self.urgent.push_back(Task::CreateNamespace(key));
            }
            Creation::NoNamespace(message) => {
                self.never(key, RunStatus::Failed, "NamespaceMissing", message, now);
            }
            Creation::Refused { status, reason, message } => {
                self.never(key, status, reason, message, now);
            }
            Creation::Later { message, is_of_pod, may_exist } => {
                wanted.may_exist |= may_exist;
                let waited = now.monotonic - wanted.since;
                if is_to_go && !wanted.may_exist {
                    self.never(key, RunStatus::Returned, "Stopped", message, now);
                } else if is_to_go {
                    self.urgent.push_back(Task::Look(key));
                } else if is_of_pod && waited >= self.config.create_timeout.0 {
                    wanted.given_up = Some(message);
                    if wanted.may_exist {
                        self.urgent.push_back(Task::Look(key));
                    } else {
                        self.give_up(key, now);
                    }
                } else {
                    self.rest(key, now);
                }
            }
        }
    }

    /// The API server has answered to the creation of a namespace.
    pub(in crate::backend::kubernetes) fn namespace_created(
        &mut self,
        key: RunKey,
        result: Result<(), String>,
        now: Now,
    ) {
        match result {
            Ok(()) => self.ask(key),
            Err(message) => self.never(key, RunStatus::Failed, "NamespaceMissing", message, now),
        }
    }

    /// The API server says what is there under the name of a run's pod.
    pub(in crate::backend::kubernetes) fn looked(&mut self, key: RunKey, found: Found, now: Now) {
        if let Found::Pod(found) = &found {
            let identity = labels::identity(&found.metadata, &self.cluster);
            if identity.is_some_and(|identity| identity.key == key) {
                self.seen(found, now);
                return;
            }
        }
        let Some(pod) = self.pods.get_mut(&key) else { return };
        match (found, &mut pod.body) {
            (Found::Pod(_), Body::Wanted(_)) => {
                let name = labels::pod_name(key);
                let message = format!("there is a pod `{name}` that is somebody else's");
                self.never(key, RunStatus::Returned, "NameTaken", message, now);
            }
            (Found::Nothing, Body::Wanted(_)) if pod.removal.is_some() => {
                let message = "it was stopped before its pod was created".to_owned();
                self.never(key, RunStatus::Returned, "Stopped", message, now);
            }
            (Found::Nothing, Body::Wanted(wanted)) if wanted.given_up.is_some() => {
                self.give_up(key, now);
            }
            (Found::Nothing, Body::Wanted(wanted)) => {
                wanted.may_exist = false;
                self.rest(key, now);
            }
            (Found::Unknown(reason), Body::Wanted(_)) => {
                tracing::debug!(job = %key.job, %reason, "a pod cannot be looked for");
                self.rest(key, now);
            }
            (Found::Pod(_) | Found::Nothing, Body::There(_)) => self.gone_unseen(key, now),
            // The next list asks again.
            (Found::Unknown(_), Body::There(_)) | (_, Body::Gone) => {}
        }
    }

    /// The pod of a run was refused for too long.
    fn give_up(&mut self, key: RunKey, now: Now) {
        let Some(Pod { body: Body::Wanted(wanted), .. }) = self.pods.get_mut(&key) else { return };
        let message = wanted.given_up.take().unwrap_or_default();
        let (status, reason) = answer::given_up(&message);
        self.never(key, status, reason, message, now);
    }

    /// Asks for a pod again, after a while.
    fn rest(&mut self, key: RunKey, now: Now) {
        let Some(Pod { body: Body::Wanted(wanted), .. }) = self.pods.get_mut(&key) else { return };
        wanted.asking = Asking::Resting(now.monotonic + delay(wanted.tries));
        self.tend(key, now);
    }

    /// Asks for a pod, or looks for it, if it is to go and may be there.
    pub(super) fn ask(&mut self, key: RunKey) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::Wanted(wanted) = &mut pod.body else { return };
        if pod.removal.is_some() {
            wanted.asking = Asking::InFlight;
            self.urgent.push_back(Task::Look(key));
        } else {
            wanted.asking = Asking::Queued;
            self.creates.push_back(key);
        }
    }

    /// The pod of a run will not come to be.
    pub(super) fn never(
        &mut self,
        key: RunKey,
        status: RunStatus,
        reason: &str,
        message: String,
        now: Now,
    ) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        pod.body = Body::Gone;
        pod.told = Told::End;
        let reason = Some(reason.to_owned());
        let exit = Exit { reason, message: Some(message), ..Exit::default() };
        let addresses = Vec::new();
        self.events.push(Event { key, status, at: now.wall, exit, addresses });
        if pod.is_settled {
            self.forget(&key);
        }
    }
}

/// How long to wait after so many tries.
pub(super) fn delay(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(8);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX)
}

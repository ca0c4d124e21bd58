//! The services and ingresses of a run, which go with its pod. A run is not said to run before they
//! are there: who hears of it may go there.

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::RunStatus;
use muster_api::http::Address;

use super::create::delay;
use super::{Body, Call, Table, Task, There, Why};
use crate::backend::kubernetes::answer::{self, Creation};
use crate::backend::kubernetes::network::{self, Exposed, Object};
use crate::backend::kubernetes::object;
use crate::backend::kubernetes::state::Stage;
use crate::config::KubernetesConfig;
use crate::runs::{Now, RunKey};

/// The services and ingresses of a pod.
pub(super) struct Access {
    state: State,
    tries: u32,
    /// The host that the pod is on, once that is known.
    host: Option<Box<str>>,
}

enum State {
    /// To be made; asked for, or again at that time.
    Wanted { objects: Arc<[Object]>, again: Option<Duration> },
    /// They are there.
    Made(Exposed),
    /// What the pod says of them cannot be read.
    Unread(String),
}

impl Access {
    /// What the pod says that it needs.
    pub(super) fn of(
        key: RunKey,
        seen: &object::Pod,
        config: &KubernetesConfig,
    ) -> Option<Box<Self>> {
        let state = match network::plan(key, seen, config) {
            Ok(planned) => State::Wanted { objects: planned?, again: None },
            Err(reason) => State::Unread(reason),
        };
        let host = Some(seen.status.host_ip.as_str()).filter(|host| !host.is_empty());
        Some(Box::new(Self { state, tries: 0, host: host.map(Into::into) }))
    }

    pub(super) fn call(&self, key: RunKey) -> Option<Call> {
        match &self.state {
            State::Wanted { objects, .. } => {
                Some(Call::Expose { key, objects: Arc::clone(objects) })
            }
            State::Made(_) | State::Unread(_) => None,
        }
    }
}

impl There {
    /// Whether its services and ingresses are still to be made.
    pub(super) fn is_hidden(&self) -> bool {
        let state = self.access.as_ref().map(|access| &access.state);
        matches!(state, Some(State::Wanted { .. } | State::Unread(_)))
    }

    /// Notes the host that it is on.
    pub(super) fn is_on(&mut self, host: &str) {
        if let Some(access) = &mut self.access
            && !host.is_empty()
        {
            access.host = Some(host.into());
        }
    }

    /// Where its ports can be reached, as far as is known; `node` is the name of its node.
    pub(super) fn addresses(&self, node: &str) -> Vec<Address> {
        let Some(access) = &self.access else { return Vec::new() };
        let State::Made(exposed) = &access.state else { return Vec::new() };
        exposed.addresses(access.host.as_deref().unwrap_or(node))
    }
}

impl Table {
    /// The API server has answered to the creation of a pod's services and ingresses.
    pub(in crate::backend::kubernetes) fn exposed(
        &mut self,
        key: RunKey,
        result: Result<Exposed, Creation>,
        now: Now,
    ) {
        let Some(pod) = self.pods.get_mut(&key) else { return };
        let Body::There(there) = &mut pod.body else { return };
        let Some(access) = &mut there.access else { return };
        let State::Wanted { again, .. } = &mut access.state else { return };
        access.tries += 1;
        let said = |why: &str| format!("its services and ingresses cannot be made: {why}");
        match result {
            Ok(exposed) => {
                access.state = State::Made(exposed);
                self.say(key, now);
            }
            Err(Creation::Later { message, is_of_pod, .. }) => {
                let waited = now.monotonic.saturating_sub(there.since);
                if is_of_pod && waited >= self.config.create_timeout.0 {
                    let (status, reason) = answer::given_up(&message);
                    self.hidden(key, status, reason, said(&message), now);
                } else {
                    *again = Some(now.monotonic + delay(access.tries));
                    self.tend(key, now);
                }
            }
            Err(Creation::Refused { status, reason, message }) => {
                self.hidden(key, status, reason, said(&message), now);
            }
            Err(Creation::NoNamespace(message)) => {
                self.hidden(key, RunStatus::Failed, "NamespaceMissing", said(&message), now);
            }
            // The caller has looked at what exists.
            Err(Creation::Created | Creation::Exists) => {}
        }
    }

    /// Asks for services and ingresses again that are due; gives when they are.
    pub(super) fn tend_access(&mut self, key: RunKey, now: Now) -> Option<Duration> {
        let pod = self.pods.get_mut(&key)?;
        let Body::There(there) = &mut pod.body else { return None };
        if pod.removal.is_some() || matches!(there.stage, Stage::Ended(_)) {
            return None;
        }
        match &mut there.access.as_mut()?.state {
            State::Wanted { again, .. } => match again {
                Some(at) if *at <= now.monotonic => {
                    *again = None;
                    self.urgent.push_back(Task::Expose(key));
                    None
                }
                at => *at,
            },
            State::Unread(reason) => {
                let message = format!("its services and ingresses cannot be read: {reason}");
                self.hidden(key, RunStatus::Failed, "InvalidPodSpec", message, now);
                self.pods.get(&key).and_then(|pod| pod.wake)
            }
            State::Made(_) => None,
        }
    }

    /// A pod whose services and ingresses cannot be made is to go.
    fn hidden(&mut self, key: RunKey, status: RunStatus, reason: &str, message: String, now: Now) {
        let reason = reason.to_owned();
        self.remove(key, Why::Stuck { status, reason, message }, None, now);
    }
}

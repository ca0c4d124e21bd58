//! What the kubelet remembers of a pod.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::room::{Amounts, wanted};
use crate::kubernetes::behaviour::Behaviour;

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bound to the node, and not looked at.
    Bound,
    /// Taken in; it waits for something that does not come.
    Waiting,
    /// It runs.
    Running,
    /// It has ended, well or not.
    Ended,
}

/// A pod of a virtual node.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) node_selector: BTreeMap<String, String>,
    /// Names and images.
    pub(super) containers: Vec<(String, String)>,
    /// The same of those that run first.
    pub(super) first: Vec<(String, String)>,
    pub(super) wanted: Amounts,
    pub(super) deadline: Option<Duration>,
    /// What it does, or what is wrong with how it was said.
    pub(super) behaviour: Result<Behaviour, String>,
    pub(super) address: String,
    pub(super) stage: Stage,
    /// It holds room on its node.
    pub(super) admitted: bool,
    /// Somebody has asked for its deletion.
    pub(super) dying: bool,
    /// A report of it is on its way.
    pub(super) busy: bool,
    /// Everybody sees that it runs.
    pub(super) shown: bool,
    /// It has ended, and that is told once it was seen to run.
    pub(super) ends_when_shown: bool,
    pub(super) started: Timestamp,
}

impl Tracked {
    /// A pod that is bound to a node; `number` tells its address from that of others.
    pub(super) fn of(pod: &Pod, number: u64) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let named = |container: &k8s_openapi::api::core::v1::Container| {
            (container.name.clone(), container.image.clone().unwrap_or_default())
        };
        let deadline = spec.active_deadline_seconds.and_then(|seconds| seconds.try_into().ok());
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            node: spec.node_name.clone()?,
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            containers: spec.containers.iter().map(named).collect(),
            first: spec.init_containers.iter().flatten().map(named).collect(),
            wanted: wanted(pod),
            deadline: deadline.map(Duration::from_secs),
            behaviour: match Behaviour::of(&annotations) {
                Ok(behaviour) => Ok(behaviour.of_pod(pod.metadata.name.as_deref()?)),
                Err(error) => Err(format!("{error:#}")),
            },
            address: format!("10.244.{}.{}", number / 250 % 250, number % 250 + 1),
            stage: if has_ended(pod) { Stage::Ended } else { Stage::Bound },
            admitted: false,
            dying: false,
            busy: false,
            shown: false,
            ends_when_shown: false,
            started: Timestamp::now(),
        })
    }
}

/// Whether somebody has said already that a pod is at its end.
pub(super) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

/// Whether a pod is said to run.
pub(super) fn is_running(pod: &Pod) -> bool {
    phase(pod) == Some("Running")
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

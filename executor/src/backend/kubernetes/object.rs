//! The parts of Kubernetes objects that are looked at. All else is skipped while it is read, so
//! that it is never held.

use std::collections::BTreeMap;

use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::time::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) deletion_timestamp: Option<Moment>,
    pub(super) deletion_grace_period_seconds: Option<u64>,
    pub(super) owner_references: Vec<Owner>,
}

/// An object that another one goes with.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) uid: String,
}

/// An object of a kind that is watched.
pub(super) trait Object {
    fn meta(&self) -> &Meta;
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Meta,
    pub(super) spec: PodSpec,
    pub(super) status: PodStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: String,
    pub(super) containers: Vec<Container>,
    pub(super) init_containers: Vec<Container>,
    pub(super) overhead: Amounts,
    pub(super) resources: Requirements,
    pub(super) termination_grace_period_seconds: Option<u64>,
    pub(super) scheduler_name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) resources: Requirements,
    pub(super) restart_policy: String,
    pub(super) ports: Vec<ContainerPort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerPort {
    pub(super) container_port: u32,
    pub(super) protocol: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Requirements {
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
    pub(super) reason: String,
    pub(super) message: String,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) init_container_statuses: Vec<ContainerStatus>,
    pub(super) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) last_transition_time: Option<Moment>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    pub(super) state: ContainerState,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState {
    pub(super) waiting: Option<Waiting>,
    pub(super) running: Option<Running>,
    pub(super) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Running {
    pub(super) started_at: Option<Moment>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub(super) exit_code: i32,
    pub(super) signal: i32,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) started_at: Option<Moment>,
    pub(super) finished_at: Option<Moment>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Meta,
    pub(super) spec: NodeSpec,
    pub(super) status: NodeStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    pub(super) unschedulable: bool,
    pub(super) taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Taint {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) effect: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    pub(super) allocatable: Amounts,
    pub(super) conditions: Vec<Condition>,
}

/// Something that happened to an object, as Kubernetes tells people.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Happening {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Object for Pod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for Node {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Requirements {
    /// What is asked for, with limits standing in for requests that are missing.
    fn effective(&self) -> Resources {
        let mut all = self.requests.0.clone();
        for (name, limit) in self.limits.0.iter() {
            if all.get(name) == Quantity::ZERO {
                all.set(name.clone(), limit);
            }
        }
        all
    }
}

impl Pod {
    /// Whether it has ended, and takes nothing of its node any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Who is to give it a node.
    pub(super) fn scheduler(&self) -> &str {
        &self.spec.scheduler_name
    }

    /// What it takes of its node: the larger of what the containers take together and what any step
    /// of the initialisation takes, where an init container that restarts always runs beside all
    /// that follow it.
    pub(super) fn request(&self) -> Resources {
        let mut beside = Resources::new();
        let mut peak = Resources::new();
        for container in &self.spec.init_containers {
            let request = container.resources.effective();
            if container.restart_policy == "Always" {
                beside.add(&request);
                peak.raise_to(&beside);
            } else {
                let mut step = beside.clone();
                step.add(&request);
                peak.raise_to(&step);
            }
        }
        let mut total = beside;
        self.spec.containers.iter().for_each(|each| total.add(&each.resources.effective()));
        total.raise_to(&peak);
        for (name, amount) in self.spec.resources.effective().iter() {
            total.set(name.clone(), amount);
        }
        total.add(&self.spec.overhead.0);
        total.set(muster_core::resources::PODS.into(), Quantity::from_units(1));
        total
    }
}

/// A moment, as Kubernetes writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Self(Timestamp(moment.as_millisecond())))
    }
}

/// Amounts of resources. One that is no quantity counts as nothing: the API server takes none in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Amounts(pub(super) Resources);

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let amounts = texts.into_iter().filter_map(|(name, text)| {
            let amount: Quantity = text.parse().ok()?;
            (!amount.is_negative()).then(|| (name.into(), amount))
        });
        Ok(Self(amounts.collect()))
    }
}

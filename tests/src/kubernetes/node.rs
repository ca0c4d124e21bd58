//! Nodes, declared by what they have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::json;

/// The extended resource that GPUs are asked for by.
const GPU: &str = "nvidia.com/gpu";

/// A node that shall be there.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    capacity: BTreeMap<String, String>,
    reserved: BTreeMap<String, String>,
}

impl NodeSpec {
    /// One with a name, so much cpu and memory, and room for 110 pods.
    pub fn new(name: &str, cpu: &str, memory: &str) -> Self {
        let capacity = [("cpu", cpu), ("memory", memory), ("pods", "110")];
        let capacity = capacity.map(|(name, quantity)| (name.to_owned(), quantity.to_owned()));
        let labels = [("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            name: name.to_owned(),
            labels: labels.into(),
            taints: Vec::new(),
            capacity: capacity.into(),
            reserved: BTreeMap::new(),
        }
    }

    /// So many of a kind, named `{name}-0`, `{name}-1` and so on.
    pub fn many(count: usize, name: &str, cpu: &str, memory: &str) -> Vec<Self> {
        (0..count).map(|number| Self::new(&format!("{name}-{number}"), cpu, memory)).collect()
    }

    /// With a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a taint: key, value, effect.
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        });
        self
    }

    /// With so much of a resource in place of what it had.
    pub fn resource(mut self, name: &str, quantity: &str) -> Self {
        self.capacity.insert(name.to_owned(), quantity.to_owned());
        self
    }

    /// With GPUs.
    pub fn gpus(self, count: u32) -> Self {
        self.resource(GPU, &count.to_string())
    }

    /// With less of a resource for pods than it has: `quantity` is what is left for them.
    pub fn allocatable(mut self, name: &str, quantity: &str) -> Self {
        self.reserved.insert(name.to_owned(), quantity.to_owned());
        self
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// What it has for pods.
    pub(super) fn for_pods(&self) -> BTreeMap<String, String> {
        let mut allocatable = self.capacity.clone();
        allocatable.extend(self.reserved.clone());
        allocatable
    }

    /// It as a kubelet registers it, which listens on a port of loopback.
    pub(super) fn object(&self, kubelet_port: u16) -> serde_json::Value {
        let condition = |kind: &str, status: &str, reason: &str| {
            let text = "as a virtual node is";
            json!({ "type": kind, "status": status, "reason": reason, "message": text })
        };
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name, "labels": self.labels },
            "spec": { "taints": self.taints, "providerID": format!("virtual://{}", self.name) },
            "status": {
                "capacity": self.capacity,
                "allocatable": self.for_pods(),
                "addresses": [
                    { "type": "InternalIP", "address": "127.0.0.1" },
                    { "type": "Hostname", "address": self.name },
                ],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet_port } },
                "conditions": [
                    condition("Ready", "True", "KubeletReady"),
                    condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                    condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                    condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                ],
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "osImage": "virtual",
                    "kubeletVersion": *super::VERSION, "kubeProxyVersion": "",
                    "containerRuntimeVersion": "virtual://1", "kernelVersion": "6.1",
                    "machineID": self.name, "systemUUID": self.name, "bootID": self.name,
                },
            },
        })
    }
}

/// Whether the scheduler may use it.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    // The API server gives it to every new node, and the controllers take it away.
    let held_back =
        taints.into_iter().flatten().any(|taint| taint.key.starts_with("node.kubernetes.io/"));
    ready && !held_back
}

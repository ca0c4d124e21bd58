//! What a node has for pods and what is taken: a kubelet looks for itself whether a pod fits, since
//! not everybody who binds pods has looked.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use muster_core::quantity::Quantity;

use crate::kubernetes::node::NodeSpec;

/// How much of each resource.
pub(super) type Amounts = BTreeMap<String, i128>;

/// The room of one node, in billionths of the units.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    labels: BTreeMap<String, String>,
    allocatable: Amounts,
    taken: Amounts,
}

impl Room {
    /// An empty node's.
    pub(super) fn of(node: &NodeSpec) -> Result<Self> {
        let mut allocatable = Amounts::new();
        for (name, text) in node.for_pods() {
            let quantity: Quantity = text.parse().with_context(|| format!("{name}: {text}"))?;
            allocatable.insert(name, quantity.nanos());
        }
        Ok(Self { labels: node.labels().clone(), allocatable, taken: Amounts::new() })
    }

    /// Whether the node has these labels.
    pub(super) fn fits_selector(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Takes what a pod asks for, or names a resource of which there is too little.
    pub(super) fn take(&mut self, wanted: &Amounts) -> std::result::Result<(), String> {
        for (name, amount) in wanted {
            let have = self.allocatable.get(name).copied().unwrap_or_default();
            let taken = self.taken.get(name).copied().unwrap_or_default();
            if *amount > 0 && taken + amount > have {
                return Err(name.clone());
            }
        }
        for (name, amount) in wanted {
            *self.taken.entry(name.clone()).or_default() += amount;
        }
        Ok(())
    }

    /// After [`Room::take`].
    pub(super) fn give_back(&mut self, wanted: &Amounts) {
        for (name, amount) in wanted {
            *self.taken.entry(name.clone()).or_default() -= amount;
        }
    }
}

/// What a pod takes of its node: itself, and what its containers ask for, or one of its first ones
/// if that is more.
pub(super) fn wanted(pod: &Pod) -> Amounts {
    let mut amounts = Amounts::from([("pods".to_owned(), Quantity::from_units(1).nanos())]);
    let Some(spec) = &pod.spec else { return amounts };
    let requests = |container: &k8s_openapi::api::core::v1::Container| {
        let resources = container.resources.as_ref();
        resources.and_then(|resources| resources.requests.clone()).unwrap_or_default()
    };
    for container in &spec.containers {
        for (name, text) in requests(container) {
            *amounts.entry(name).or_default() += nanos(&text);
        }
    }
    for container in spec.init_containers.iter().flatten() {
        for (name, text) in requests(container) {
            let amount = amounts.entry(name).or_default();
            *amount = (*amount).max(nanos(&text));
        }
    }
    for (name, text) in spec.overhead.iter().flatten() {
        *amounts.entry(name.clone()).or_default() += nanos(text);
    }
    amounts
}

/// The API server has let no other text pass.
fn nanos(text: &Text) -> i128 {
    text.0.parse::<Quantity>().map_or(0, Quantity::nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_pods_until_one_of_its_resources_is_used_up() {
        let mut room = Room::of(&NodeSpec::new("n", "2", "1Gi").gpus(1)).unwrap();
        let pod = |asked: serde_json::Value| {
            let pod = serde_json::json!({ "spec": { "containers": [
                { "name": "main", "resources": { "requests": asked } },
                { "name": "side", "resources": { "requests": { "cpu": "100m" } } },
            ] } });
            wanted(&serde_json::from_value(pod).unwrap())
        };
        let half = pod(serde_json::json!({ "cpu": "900m", "memory": "100Mi" }));
        assert_eq!(room.take(&half), Ok(()));
        assert_eq!(room.take(&half), Ok(()));
        assert_eq!(room.take(&half), Err("cpu".to_owned()));
        room.give_back(&half);
        let accelerated = pod(serde_json::json!({ "nvidia.com/gpu": "1" }));
        assert_eq!(room.take(&accelerated), Ok(()));
        assert_eq!(room.take(&accelerated), Err("nvidia.com/gpu".to_owned()));
        assert_eq!(room.take(&pod(serde_json::json!({ "a/b": "1" }))), Err("a/b".to_owned()));
    }
}

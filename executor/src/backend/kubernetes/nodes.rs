//! What the cluster has: its nodes, less what pods that are not Muster's ask for. Without IO: what
//! the watches say goes in.
//!
//! What Muster's own runs take is taken off where runs are known (`executor/src/runs`); of its own
//! pods only those count here that are there although their run is over for the executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::Name;
use muster_core::quantity::Quantity;
use muster_core::resources::Resources;
use muster_core::shape::{POOL_LABEL, Taint};

use super::object::{Node, Pod};
use crate::backend;
use crate::config::{KubernetesConfig, matches};

/// The nodes and what others have of them.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    pool_label: String,
    labels: Vec<String>,
    nodes: BTreeMap<Name, backend::Node>,
    /// Nodes that are not as they were told last.
    changed: BTreeSet<Name>,
    /// What others' pods ask for, by their ids.
    foreign: BTreeMap<Box<str>, (Name, Arc<Resources>)>,
    /// Each of these requests once: most pods have many like them.
    requests: BTreeSet<Arc<Resources>>,
    /// The same by node, added up.
    taken: BTreeMap<Name, Resources>,
    /// What a list that is under way has not named yet.
    unlisted_nodes: BTreeSet<Name>,
    unlisted_foreign: BTreeSet<Box<str>>,
}

impl Nodes {
    /// No nodes.
    pub(super) fn new(config: &KubernetesConfig) -> Self {
        Self {
            pool_label: config.pool_label.clone(),
            labels: config.node_labels.clone(),
            ..Self::default()
        }
    }

    /// All nodes, with what Muster's runs may have of each; `leftover` is what pods of its own take
    /// whose runs are over for the executor.
    pub(super) fn all(&self, leftover: &BTreeMap<Name, Resources>) -> Vec<backend::Node> {
        self.nodes.values().map(|node| self.left(node, leftover)).collect()
    }

    /// A node with what Muster's runs may have of it.
    fn left(&self, node: &backend::Node, leftover: &BTreeMap<Name, Resources>) -> backend::Node {
        let mut node = node.clone();
        for taken in [&self.taken, leftover].into_iter().filter_map(|it| it.get(&node.name)) {
            node.allocatable = rest(&node.allocatable, taken);
        }
        node
    }

    /// All nodes were told as they are.
    pub(super) fn told(&mut self) {
        self.changed.clear();
    }

    /// Whether any is not as it was told last.
    pub(super) fn have_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Those that are not as they were told last; they count as told from now on.
    pub(super) fn take_changes(
        &mut self,
        leftover: &BTreeMap<Name, Resources>,
    ) -> Vec<backend::NodeChange> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let change = |name: Name| {
            let node = self.nodes.get(&name).map(|node| self.left(node, leftover));
            backend::NodeChange { name, node }
        };
        changed.map(change).collect()
    }

    /// What a node says for a label, also one that is not sent.
    pub(super) fn label(&self, node: &str, label: &str) -> Option<String> {
        self.nodes.get(node)?.labels.get(label).map(ToString::to_string)
    }

    /// A node is there, or has changed.
    pub(super) fn set_node(&mut self, node: &Node) {
        let node = self.read(node);
        self.unlisted_nodes.remove(&node.name);
        if self.nodes.get(&node.name) != Some(&node) {
            self.changed.insert(node.name.clone());
            self.nodes.insert(node.name.clone(), node);
        }
    }

    /// A node is gone.
    pub(super) fn remove_node(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.changed.insert(name);
        }
    }

    /// A list of all nodes begins.
    pub(super) fn nodes_listing(&mut self) {
        self.unlisted_nodes = self.nodes.keys().cloned().collect();
    }

    /// It is at its end: what it did not name is gone.
    pub(super) fn nodes_listed(&mut self) {
        for name in std::mem::take(&mut self.unlisted_nodes) {
            self.remove_node(&name);
        }
    }

    /// A pod that is not Muster's is there, or has changed.
    pub(super) fn set_foreign(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_str();
        self.unlisted_foreign.remove(uid);
        if pod.is_over() || pod.spec.node_name.is_empty() {
            self.remove_foreign(uid);
            return;
        }
        let (node, request) = (pod.spec.node_name.as_str(), pod.request());
        let is_known = |known: &(Name, Arc<Resources>)| *known.0 == *node && *known.1 == request;
        if self.foreign.get(uid).is_some_and(is_known) {
            return;
        }
        self.remove_foreign(uid);
        let known = self.nodes.get_key_value(node).map(|(name, _)| name.clone());
        let node = known.unwrap_or_else(|| node.into());
        self.taken.entry(node.clone()).or_default().add(&request);
        self.touch(&node);
        let request = match self.requests.get(&request) {
            Some(known) => Arc::clone(known),
            None => {
                let request = Arc::new(request);
                self.requests.insert(Arc::clone(&request));
                request
            }
        };
        self.foreign.insert(uid.into(), (node, request));
    }

    /// What is taken of a node has changed.
    fn touch(&mut self, node: &Name) {
        if self.nodes.contains_key(node) {
            self.changed.insert(node.clone());
        }
    }

    /// A pod that is not Muster's is gone.
    pub(super) fn remove_foreign(&mut self, uid: &str) {
        let Some((node, request)) = self.foreign.remove(uid) else { return };
        self.touch(&node);
        // Beside this one there is that among the requests.
        if Arc::strong_count(&request) <= 2 {
            self.requests.remove(&request);
        }
        let Some(taken) = self.taken.get_mut(&node) else { return };
        *taken = rest(taken, &request);
        if taken.is_empty() {
            self.taken.remove(&node);
        }
    }

    /// A list of all pods that are not Muster's begins.
    pub(super) fn foreign_listing(&mut self) {
        self.unlisted_foreign = self.foreign.keys().cloned().collect();
    }

    /// It is at its end: what it did not name is gone.
    pub(super) fn foreign_listed(&mut self) {
        for uid in std::mem::take(&mut self.unlisted_foreign) {
            self.remove_foreign(&uid);
        }
    }

    fn read(&self, node: &Node) -> backend::Node {
        let name = |text: &str| Name::from(text);
        let is_sent = |key: &str| self.labels.iter().any(|pattern| matches(pattern, key));
        let labels = node.metadata.labels.iter().filter(|(key, _)| is_sent(key));
        let mut labels: BTreeMap<Name, Name> =
            labels.map(|(key, value)| (name(key), name(value))).collect();
        if let Some(pool) = node.metadata.labels.get(&self.pool_label) {
            labels.insert(POOL_LABEL.into(), name(pool));
        }
        let keeps_away = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
        let taints = node.spec.taints.iter().filter(|taint| keeps_away(&taint.effect));
        let taints = taints.map(|taint| Taint {
            key: name(&taint.key),
            value: name(&taint.value),
            effect: name(&taint.effect),
        });
        let is_ready = node
            .status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status == "True");
        backend::Node {
            name: name(&node.metadata.name),
            labels,
            taints: taints.collect(),
            allocatable: node.status.allocatable.0.clone(),
            schedulable: is_ready
                && !node.spec.unschedulable
                && node.metadata.deletion_timestamp.is_none(),
        }
    }
}

/// `all - taken`, nothing where that is more.
fn rest(all: &Resources, taken: &Resources) -> Resources {
    let amounts = all.iter().map(|(name, amount)| {
        let left = (amount.nanos() - taken.get(name).nanos()).max(0);
        (name.clone(), Quantity::from_nanos(left).unwrap_or_default())
    });
    let mut left = Resources::new();
    amounts.for_each(|(name, amount)| left.set(name, amount));
    left
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, more: &Value) -> Node {
        let mut node = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "secret": "x",
                "team/pool": "gpu" } },
            "status": { "allocatable": { "cpu": "8", "memory": "16Gi", "pods": "10",
                "nvidia.com/gpu": "4" }, "conditions": [{ "type": "Ready", "status": "True" }] } });
        for (key, value) in more.as_object().unwrap() {
            node[key] = value.clone();
        }
        serde_json::from_value(node).unwrap()
    }

    fn pod(uid: &str, node: &str, phase: &str, cpu: &str) -> Pod {
        let pod = json!({ "metadata": { "uid": uid }, "spec": { "nodeName": node, "containers": [
            { "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } }] },
            "status": { "phase": phase } });
        serde_json::from_value(pod).unwrap()
    }

    fn nodes() -> Nodes {
        let config = KubernetesConfig { pool_label: "team/pool".into(), ..Default::default() };
        let mut nodes = Nodes::new(&config);
        nodes.set_node(&node("n1", &json!({})));
        nodes
    }

    fn free(nodes: &Nodes, name: &str) -> String {
        nodes.all(&BTreeMap::new())[0].allocatable.get(name).to_string()
    }

    #[test]
    fn what_others_pods_ask_for_is_taken_off_as_long_as_they_are_there() {
        let mut nodes = nodes();
        nodes.set_foreign(&pod("a", "n1", "Running", "1500m"));
        nodes.set_foreign(&pod("b", "n1", "Pending", "2"));
        nodes.set_foreign(&pod("c", "", "Pending", "2"));
        let of = |nodes: &Nodes| (free(nodes, "cpu"), free(nodes, "memory"), free(nodes, "pods"));
        let texts = |cpu: &str, memory: &str, pods: &str| {
            (cpu.to_owned(), memory.to_owned(), pods.to_owned())
        };
        assert_eq!(of(&nodes), texts("4500m", "14Gi", "8"));
        nodes.set_foreign(&pod("a", "n1", "Succeeded", "1500m"));
        assert_eq!(of(&nodes), texts("6", "15Gi", "9"));
        nodes.set_foreign(&pod("b", "n1", "Running", "3"));
        assert_eq!(of(&nodes), texts("5", "15Gi", "9"));
        nodes.remove_foreign("b");
        assert_eq!(of(&nodes), texts("8", "16Gi", "10"));
        let leftover =
            BTreeMap::from([(Name::from("n1"), pod("d", "n1", "Running", "9").request())]);
        assert_eq!(nodes.all(&leftover)[0].allocatable.get("cpu"), Quantity::ZERO);
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let mut nodes = nodes();
        nodes.set_node(&node("n2", &json!({})));
        nodes.set_foreign(&pod("a", "n1", "Running", "1"));
        nodes.set_foreign(&pod("b", "n1", "Running", "1"));
        nodes.foreign_listing();
        nodes.set_foreign(&pod("b", "n1", "Running", "1"));
        nodes.foreign_listed();
        assert_eq!(free(&nodes, "cpu"), "7");
        nodes.nodes_listing();
        nodes.set_node(&node("n1", &json!({})));
        nodes.nodes_listed();
        assert_eq!(nodes.all(&BTreeMap::new()).len(), 1);
    }

    /// The nodes that have changed, and the cpu that is left of each.
    fn changes(nodes: &mut Nodes) -> Vec<(String, Option<String>)> {
        let changes = nodes.take_changes(&BTreeMap::new()).into_iter();
        let cpu = |node: backend::Node| node.allocatable.get("cpu").to_string();
        changes.map(|it| (it.name.to_string(), it.node.map(cpu))).collect()
    }

    #[test]
    fn nodes_that_are_not_as_they_were_told_are_told_once() {
        let mut nodes = nodes();
        nodes.set_node(&node("n2", &json!({})));
        nodes.told();
        assert!(!nodes.have_changed());
        nodes.set_node(&node("n1", &json!({})));
        assert!(!nodes.have_changed(), "it is as it was");
        nodes.set_node(&node("n1", &json!({ "spec": { "unschedulable": true } })));
        nodes.set_foreign(&pod("a", "n2", "Running", "1"));
        nodes.set_foreign(&pod("b", "n9", "Running", "1"));
        let of = |name: &str, cpu: &str| (name.to_owned(), Some(cpu.to_owned()));
        assert_eq!(changes(&mut nodes), [of("n1", "8"), of("n2", "7")]);
        assert_eq!(changes(&mut nodes), []);
        nodes.set_foreign(&pod("a", "n2", "Running", "1"));
        assert!(!nodes.have_changed(), "it takes what it took");
        nodes.set_foreign(&pod("a", "n2", "Succeeded", "1"));
        nodes.set_node(&node("n9", &json!({})));
        nodes.remove_node("n1");
        let expected = [("n1".to_owned(), None), of("n2", "8"), of("n9", "7")];
        assert_eq!(changes(&mut nodes), expected);
        nodes.nodes_listing();
        nodes.set_node(&node("n9", &json!({})));
        nodes.nodes_listed();
        assert_eq!(changes(&mut nodes), [("n2".to_owned(), None)]);
    }

    #[test]
    fn requests_that_are_alike_are_held_once_and_no_longer_than_needed() {
        let mut nodes = nodes();
        for uid in ["a", "b", "c"] {
            nodes.set_foreign(&pod(uid, "n1", "Running", "1"));
        }
        nodes.set_foreign(&pod("d", "n1", "Running", "2"));
        assert_eq!(nodes.requests.len(), 2);
        nodes.set_foreign(&pod("d", "n1", "Running", "1"));
        assert_eq!(nodes.requests.len(), 1);
        for uid in ["a", "b", "c", "d"] {
            nodes.remove_foreign(uid);
        }
        assert!(nodes.requests.is_empty() && nodes.taken.is_empty());
    }

    #[test]
    fn labels_are_chosen_and_nodes_that_take_nothing_say_so() {
        let nodes = nodes();
        let labels = nodes.all(&BTreeMap::new())[0].labels.clone();
        let expected: BTreeMap<Name, Name> =
            [("kubernetes.io/hostname".into(), "n1".into()), (POOL_LABEL.into(), "gpu".into())]
                .into();
        assert_eq!(labels, expected);
        let cases = [
            (json!({}), true),
            (json!({ "spec": { "unschedulable": true } }), false),
            (
                json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }),
                false,
            ),
            (json!({ "status": {} }), false),
        ];
        for (more, expected) in cases {
            assert_eq!(nodes.read(&node("n1", &more)).schedulable, expected, "{more}");
        }
        let tainted = node(
            "n1",
            &json!({ "spec": { "taints": [
            { "key": "gpu", "effect": "NoSchedule" }, { "key": "soft", "effect": "PreferNoSchedule" }] } }),
        );
        let taint = Taint { key: "gpu".into(), value: "".into(), effect: "NoSchedule".into() };
        assert_eq!(nodes.read(&tainted).taints, [taint]);
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_its_widest_init_step() {
        let requests = |cpu: &str| json!({ "requests": { "cpu": cpu } });
        let spec = json!({
            "containers": [{ "resources": requests("1") }, { "resources": requests("500m") }],
            "initContainers": [
                { "resources": requests("250m"), "restartPolicy": "Always" },
                { "resources": requests("3") }],
            "overhead": { "cpu": "100m" } });
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        assert_eq!(pod.request().get("cpu").to_string(), "3350m");
        assert_eq!(pod.request().get("pods").to_string(), "1");
    }
}

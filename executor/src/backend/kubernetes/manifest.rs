//! The pod of a run. The job's spec goes into it as it was submitted, also what is not known here;
//! what is added and taken away is said below, and nowhere else.
//!
//! - Added: name, namespace, labels and annotations, among these the services and ingresses; the
//!   environment variables by which a job knows itself; the node; what Muster counts for containers
//!   that ask for no cpu or memory; how long it may run and may take to end, where it does not say
//!   so; that it runs once.
//! - Taken away: the pool among the labels that its node must have; the priority class, unless it
//!   is to be kept; resources that no node has.

use std::collections::BTreeMap;

use muster_api::bus::JobPayload;
use muster_api::job_text::Network;
use muster_core::quantity::Quantity;
use muster_core::resources::{CPU, MEMORY};
use muster_core::shape::{POOL_LABEL, Shape};
use serde_json::{Map, Value, json};

use super::labels;
use crate::backend::pod;
use crate::config::{Binding, KubernetesConfig};
use crate::runs::RunKey;

/// The scheduler that pods name which the executor binds itself: there is none of that name.
pub(super) const NO_SCHEDULER: &str = "muster";

/// What a run's pod is made of.
pub(super) struct Parts<'a> {
    pub(super) key: RunKey,
    pub(super) node: &'a str,
    pub(super) shape: &'a Shape,
    pub(super) payload: &'a JobPayload,
    pub(super) cluster: &'a str,
    /// The node's value of the label in which all members of its gang agree.
    pub(super) uniformity: Option<String>,
    pub(super) config: &'a KubernetesConfig,
}

/// The pod.
///
/// # Errors
/// A sentence, when the job holds no pod spec.
pub(super) fn manifest(parts: &Parts<'_>) -> Result<Value, String> {
    let payload = parts.payload;
    let read = |error: serde_json::Error| format!("the pod spec cannot be read: {error}");
    let mut spec: Map<String, Value> = serde_json::from_slice(&payload.pod_spec).map_err(read)?;
    let env = variables(parts);
    for list in ["initContainers", "containers"] {
        for container in objects(&mut spec, list) {
            add_environment(container, &env);
            if list == "containers" {
                add_requests(container);
            }
        }
    }
    fit_to_shape(&mut spec, parts.shape);
    place(&mut spec, parts);
    limit(&mut spec, parts.shape);
    let own = labels::labels(parts.key, parts.cluster, &payload.queue);
    let mut labels = strings(&payload.labels)?;
    labels.extend(own);
    let own = labels::annotations(parts.node, parts.shape, &payload.queue, &payload.job_set);
    let mut annotations = strings(&payload.annotations)?;
    annotations.extend(own);
    annotations.remove(labels::NETWORK);
    if !payload.network.is_empty() {
        annotations.insert(labels::NETWORK.to_owned(), network(&payload.network)?);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": labels::pod_name(parts.key),
            "namespace": payload.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
    }))
}

/// The objects of a list of the spec.
fn objects<'a>(
    spec: &'a mut Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    let list = spec.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn strings(text: &[u8]) -> Result<BTreeMap<String, String>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_slice(text).map_err(|error| format!("its labels cannot be read: {error}"))
}

/// The services and ingresses as the pod is to tell of them.
fn network(text: &[u8]) -> Result<String, String> {
    let unread = |error: String| format!("its services and ingresses cannot be read: {error}");
    Network::from_text(text).map_err(unread)?;
    String::from_utf8(text.to_vec()).map_err(|error| unread(error.to_string()))
}

/// The variables by which a job knows itself; Armada's names too, of those that it has.
fn variables(parts: &Parts<'_>) -> Vec<(&'static str, String)> {
    let payload = parts.payload;
    let mut all = vec![
        ("MUSTER_JOB_ID", parts.key.job.to_string()),
        ("ARMADA_JOB_ID", parts.key.job.to_string()),
        ("MUSTER_QUEUE", payload.queue.clone()),
        ("ARMADA_QUEUE", payload.queue.clone()),
        ("MUSTER_JOB_SET", payload.job_set.clone()),
        ("ARMADA_JOB_SET_ID", payload.job_set.clone()),
        ("MUSTER_ATTEMPT", parts.key.attempt.to_string()),
        ("MUSTER_CLUSTER", parts.cluster.to_owned()),
        ("MUSTER_NODE", parts.node.to_owned()),
    ];
    if let Some(index) = parts.key.job.index {
        all.push(("MUSTER_ARRAY_INDEX", index.to_string()));
    }
    if let Some(count) = payload.count {
        all.push(("MUSTER_ARRAY_COUNT", count.to_string()));
    }
    let Some(gang) = &parts.shape.gang else { return all };
    let of_gang = [
        (["MUSTER_GANG_ID", "ARMADA_GANG_ID"], Some(gang.id.to_string())),
        (
            ["MUSTER_GANG_CARDINALITY", "ARMADA_GANG_CARDINALITY"],
            Some(gang.cardinality.to_string()),
        ),
        (
            ["MUSTER_GANG_NODE_UNIFORMITY_LABEL_NAME", "ARMADA_GANG_NODE_UNIFORMITY_LABEL_NAME"],
            gang.uniformity.as_ref().map(ToString::to_string),
        ),
        (
            ["MUSTER_GANG_NODE_UNIFORMITY_LABEL_VALUE", "ARMADA_GANG_NODE_UNIFORMITY_LABEL_VALUE"],
            parts.uniformity.clone(),
        ),
    ];
    for (names, value) in of_gang {
        all.extend(value.iter().flat_map(|value| names.map(|name| (name, value.clone()))));
    }
    all
}

/// Puts the variables before those of the container, which may refer to them, or define them anew.
fn add_environment(container: &mut Map<String, Value>, env: &[(&'static str, String)]) {
    let own = container.remove("env").and_then(|own| match own {
        Value::Array(own) => Some(own),
        _ => None,
    });
    let own = own.unwrap_or_default();
    let is_own = |name: &str| own.iter().any(|variable| variable["name"] == name);
    let added = env.iter().filter(|(name, _)| !is_own(name));
    let mut all: Vec<Value> =
        added.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    all.extend(own);
    container.insert("env".to_owned(), all.into());
}

/// A container that says nothing of cpu or memory asks for what it is counted as.
fn add_requests(container: &mut Map<String, Value>) {
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    for (name, amount) in [(CPU, "1"), (MEMORY, "1Gi")] {
        let is_said = |list: &str| resources[list].get(name).is_some_and(|it| !it.is_null());
        if !is_said("requests") && !is_said("limits") {
            if !resources["requests"].is_object() {
                resources["requests"] = json!({});
            }
            resources["requests"][name] = amount.into();
        }
    }
}

/// Makes the containers ask for what the run was leased with: not for resources that no node has,
/// and for as much more memory as this attempt gets.
fn fit_to_shape(spec: &mut Map<String, Value>, shape: &Shape) {
    let growth = memory_growth(spec, shape);
    let fit = |resources: &mut Value| {
        for list in ["requests", "limits"] {
            let Some(amounts) = resources.get_mut(list).and_then(Value::as_object_mut) else {
                continue;
            };
            amounts.retain(|name, amount| {
                let asked = quantity(amount);
                asked.is_none_or(|it| it == Quantity::ZERO)
                    || shape.request.get(name) > Quantity::ZERO
            });
            if let (Some((to, from)), Some(amount)) = (growth, amounts.get_mut(MEMORY))
                && let Some(asked) = quantity(amount)
            {
                *amount = times(asked, to, from).to_string().into();
            }
        }
    };
    for list in ["initContainers", "containers"] {
        for container in objects(spec, list) {
            container.get_mut("resources").into_iter().for_each(fit);
        }
    }
    spec.get_mut("resources").into_iter().for_each(fit);
}

/// How many times the memory that the spec asks for the run was leased with, as a fraction, if it
/// is more.
fn memory_growth(spec: &Map<String, Value>, shape: &Shape) -> Option<(i128, i128)> {
    let text = serde_json::to_vec(&json!({ "spec": spec })).ok()?;
    let asked = super::object::Pod::request(&serde_json::from_slice(&text).ok()?).get(MEMORY);
    let leased = shape.request.get(MEMORY);
    (leased > asked && asked > Quantity::ZERO).then(|| (leased.nanos(), asked.nanos()))
}

/// Whole bytes.
fn times(amount: Quantity, to: i128, from: i128) -> Quantity {
    const NANOS: i128 = 1_000_000_000;
    let bytes = amount.nanos() / NANOS;
    let grown = bytes.checked_mul(to / NANOS).map(|product| product / (from / NANOS).max(1));
    let grown = grown.and_then(|bytes| Quantity::from_nanos(bytes * NANOS));
    grown.unwrap_or(amount)
}

fn quantity(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        other => other.to_string().parse().ok(),
    }
}

/// Sends it to its node.
fn place(spec: &mut Map<String, Value>, parts: &Parts<'_>) {
    let config = parts.config;
    if let Some(selector) = spec.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        // Which pool a node belongs to Muster knows, whatever the node's labels say.
        selector.remove(POOL_LABEL);
    }
    if !config.keep_priority_class {
        spec.remove("priorityClassName");
        spec.remove("priority");
    }
    let is_unsaid = spec.get("schedulerName").is_none_or(|name| name == "");
    match config.binding {
        Binding::Direct => {
            spec.insert("schedulerName".to_owned(), NO_SCHEDULER.into());
        }
        Binding::Scheduler => {
            if is_unsaid && !config.scheduler_name.is_empty() {
                spec.insert("schedulerName".to_owned(), config.scheduler_name.as_str().into());
            }
            pin(spec, parts.node);
        }
    }
}

/// Adds to every way in which a node may suit the pod that it must be this one.
fn pin(spec: &mut Map<String, Value>, node: &str) {
    let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let mut at = spec.entry("affinity").or_insert_with(|| json!({}));
    for name in ["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"] {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name];
    }
    if !at.is_object() {
        *at = json!({});
    }
    let terms = &mut at["nodeSelectorTerms"];
    match terms.as_array_mut().filter(|terms| !terms.is_empty()) {
        None => *terms = json!([{ "matchFields": [field] }]),
        Some(terms) => {
            for term in terms {
                match term["matchFields"].as_array_mut() {
                    Some(fields) => fields.push(field.clone()),
                    None => term["matchFields"] = json!([field]),
                }
            }
        }
    }
}

/// How long it may run and may take to end, where it does not say so; and that it runs once.
fn limit(spec: &mut Map<String, Value>, shape: &Shape) {
    spec.insert("restartPolicy".to_owned(), "Never".into());
    let seconds = |name: &str| spec.get(name).and_then(Value::as_u64);
    let deadline = pod::deadline(seconds("activeDeadlineSeconds"), shape).as_secs();
    let grace = pod::grace(seconds("terminationGracePeriodSeconds")).as_secs();
    spec.insert("activeDeadlineSeconds".to_owned(), deadline.into());
    spec.insert("terminationGracePeriodSeconds".to_owned(), grace.into());
}

#[cfg(test)]
mod tests;

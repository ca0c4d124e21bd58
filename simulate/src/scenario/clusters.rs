//! The file of clusters: nodes by template, in pools.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::quantity::Quantity;
use muster_core::resources::{PODS, Resources};
use muster_core::shape::{POOL_LABEL, Taint};
use muster_core::{Name, names};
use muster_executor::backend::Node;

use super::tree::{At, File, Object};
use super::{Cluster, Result, Shifted};

/// The label by which Armada's simulator names the cluster of a node.
const CLUSTER_LABEL: &str = "armadaproject.io/clusterName";
/// The pods of a node that does not say how many it holds: as many as its resources allow.
const PODS_OF_NODE: i64 = 1_000_000;
/// Nodes of one template.
const NODES_MAX: u64 = 1_000_000;
/// Why Armada's time until a preempted job is submitted again is not used.
const REQUEUED: &str = "a preempted job waits again by itself, at once";

/// What the file says.
pub(super) struct Clusters {
    pub(super) name: String,
    pub(super) clusters: Vec<Cluster>,
    pub(super) pending: Shifted,
}

/// Reads the file: clusters that name their pools, or, as it was, pools of groups of clusters.
pub(super) fn read(file: &File) -> Result<Clusters> {
    let root = file.root().object()?;
    let name = root.take("name").map(|at| at.word()).transpose()?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| file.stem());
    let mut clusters = Vec::new();
    if let Some(list) = root.take("clusters") {
        for at in list.list()? {
            let object = at.object()?;
            let pool = object.require("pool")?;
            let pool = (pool.word()?, pool);
            clusters.push(cluster(&at, &object, &pool, clusters.len())?);
        }
    }
    if let Some(list) = root.take("pools") {
        for at in list.list()? {
            pool(&at, &mut clusters)?;
        }
    }
    let pending = root.take("pendingDelayDistribution").map(|at| shifted(&at)).transpose()?;
    root.ignore("workflowManagerDelayDistribution", REQUEUED);
    root.finish();
    let mut names = BTreeSet::new();
    if let Some(twice) = clusters.iter().find(|cluster| !names.insert(cluster.name.as_str())) {
        return Err(file.root().wrong(format!("there are two clusters `{}`", twice.name)));
    }
    if clusters.iter().all(|cluster| cluster.nodes.is_empty()) {
        return Err(file.root().wrong("there is no node in it"));
    }
    Ok(Clusters { name, clusters, pending: pending.unwrap_or_default() })
}

fn pool(at: &At<'_>, clusters: &mut Vec<Cluster>) -> Result<()> {
    let object = at.object()?;
    let name = object.require("name")?;
    let name = (name.word()?, name);
    for group in object.require("clusterGroups")?.list()? {
        let group_object = group.object()?;
        for at in group_object.require("clusters")?.list()? {
            let object = at.object()?;
            clusters.push(cluster(&at, &object, &name, clusters.len())?);
        }
        group_object.finish();
    }
    object.finish();
    Ok(())
}

fn cluster(
    at: &At<'_>,
    object: &Object<'_>,
    (pool, pool_at): &(String, At<'_>),
    number: usize,
) -> Result<Cluster> {
    names::pool(pool).map_err(|error| pool_at.wrong(error))?;
    let name = object.take("name").map(|at| at.word()).transpose()?;
    let name = name.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("{pool}-{number}"));
    if muster_runtime::bus::token(&name) != name {
        let allowed = "may hold letters, digits, `-` and `_` only";
        return Err(at.wrong(format!("the name `{name}` {allowed}")));
    }
    let mut nodes = Vec::new();
    for (place, at) in object.require("nodeTemplates")?.list()?.iter().enumerate() {
        nodes.extend(template(at, (&name, pool), place)?);
    }
    object.finish();
    Ok(Cluster { name, pool: pool.clone(), nodes })
}

fn template(at: &At<'_>, (cluster, pool): (&str, &str), place: usize) -> Result<Vec<Node>> {
    let object = at.object()?;
    let number = object.require("number")?.count(NODES_MAX)?;
    let mut allocatable = Resources::new();
    allocatable.set(PODS.into(), Quantity::from_units(PODS_OF_NODE));
    let total = object.require("totalResources")?.object()?;
    for (name, at) in total.require("resources")?.object()?.all() {
        names::resource(name).map_err(|error| at.wrong(error))?;
        allocatable.set(name.into(), at.quantity()?);
    }
    total.finish();
    let mut labels: BTreeMap<Name, Name> = BTreeMap::new();
    for (name, value) in object.words("labels")? {
        labels.insert(name.into(), value.into());
    }
    labels.insert(CLUSTER_LABEL.into(), cluster.into());
    labels.insert(POOL_LABEL.into(), pool.into());
    let taints = object.take("taints").map(|at| at.list()).transpose()?.unwrap_or_default();
    let taints = taints.iter().map(taint).collect::<Result<Vec<_>>>()?;
    object.finish();
    let node = |n: u64| {
        let name: Name = format!("{cluster}-{place}-{n}").into();
        let mut labels = labels.clone();
        labels.insert("kubernetes.io/hostname".into(), name.clone());
        let (taints, allocatable) = (taints.clone(), allocatable.clone());
        Node { name, labels, taints, allocatable, schedulable: true }
    };
    Ok((0..number).map(node).collect())
}

fn taint(at: &At<'_>) -> Result<Taint> {
    const EFFECTS: [&str; 3] = ["NoSchedule", "NoExecute", "PreferNoSchedule"];
    let object = at.object()?;
    let value = object.take("value").map(|at| at.word()).transpose()?.unwrap_or_default();
    let effect = object.require("effect")?;
    let name = effect.text()?;
    if !EFFECTS.contains(&name) {
        return Err(effect.wrong(format!("`{name}` is none of {}", EFFECTS.join(", "))));
    }
    object.take("timeAdded");
    let key = object.require("key")?.word()?;
    object.finish();
    Ok(Taint { key: key.into(), value: value.into(), effect: name.into() })
}

/// A time with a minimum and an exponential tail.
pub(super) fn shifted(at: &At<'_>) -> Result<Shifted> {
    let object = at.object()?;
    let time = |name| {
        let time = object.take(name).map(|at| at.duration()).transpose()?;
        Ok(time.unwrap_or_default())
    };
    let shifted = Shifted { minimum: time("minimum")?, tail_mean: time("tailMean")? };
    object.finish();
    Ok(shifted)
}

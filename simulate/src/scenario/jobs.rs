//! A job as it is submitted, read by the same parser as in a gateway, and the pool that it gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_api::job_text::Parser;
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use serde_json::{Map, Value, json};

use super::{Cluster, Gang};

/// What names the pool of a job: an annotation, or a label in its node selector.
pub(super) use muster_api::job_text::POOL_ANNOTATION as POOL;

/// The annotations of gangs; an id follows when a job is submitted.
pub(crate) const GANG_ID: &str = "muster.dev/gangId";
const GANG_CARDINALITY: &str = "muster.dev/gangCardinality";
const GANG_UNIFORMITY: &str = "muster.dev/gangNodeUniformityLabel";

/// What a job asks for.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) priority: u32,
    pub(super) class: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) gang: Option<Gang>,
    /// Quantities by resource.
    pub(super) requests: BTreeMap<String, String>,
    /// The same of limits; they stand for requests that are missing.
    pub(super) limits: BTreeMap<String, String>,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) affinity: Option<Value>,
    pub(super) tolerations: Option<Value>,
}

/// The job behind a draft, with its shape, in a pool of these clusters; or what is wrong with it.
pub(super) fn job(
    draft: Draft,
    clusters: &[Cluster],
) -> Result<(Map<String, Value>, Arc<Shape>), String> {
    let mut annotations = draft.annotations;
    let has_pool = annotations.contains_key(POOL) || draft.node_selector.contains_key(POOL);
    if let Some(Gang { cardinality, uniformity }) = &draft.gang {
        annotations.insert(GANG_ID.to_owned(), "gang".to_owned());
        annotations.insert(GANG_CARDINALITY.to_owned(), cardinality.to_string());
        annotations.insert(GANG_UNIFORMITY.to_owned(), uniformity.clone());
    }
    let mut requests = draft.requests;
    for resource in ["cpu", "memory"] {
        // Without it the job would get what a gateway gives to those that ask for nothing.
        if !draft.limits.contains_key(resource) {
            requests.entry(resource.to_owned()).or_insert_with(|| "0".to_owned());
        }
    }
    let mut pod = json!({
        "containers": [{
            "name": "main",
            "image": "simulated",
            "resources": { "requests": requests, "limits": draft.limits },
        }],
    });
    let optional = [
        ("priorityClassName", draft.class.map(Value::from)),
        ("nodeSelector", (!draft.node_selector.is_empty()).then(|| json!(draft.node_selector))),
        ("affinity", draft.affinity),
        ("tolerations", draft.tolerations),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            pod[name] = value;
        }
    }
    let read = |annotations: &BTreeMap<String, String>| {
        let job = json!({
            "priority": draft.priority,
            "annotations": annotations,
            "podSpec": pod,
        });
        let mut parser = Parser::new();
        let text = job.to_string();
        let shape = parser.parse(text.as_bytes()).map_err(|error| error.to_string())?.shape.shape;
        Ok::<_, String>((job, shape))
    };
    let (mut job, mut shape) = read(&annotations)?;
    if !has_pool {
        let pool = pool_for(&shape, clusters);
        annotations.insert(POOL.to_owned(), pool.to_owned());
        (job, shape) = read(&annotations)?;
    }
    match job {
        Value::Object(job) => Ok((job, shape)),
        _ => Err("it is not a job".to_owned()),
    }
}

/// The first pool with a node that could hold the job; without any, the first one.
fn pool_for<'a>(shape: &Shape, clusters: &'a [Cluster]) -> &'a str {
    let holds = |has: &Resources| shape.request.iter().all(|(name, n)| n <= has.get(name));
    let could = |cluster: &&Cluster| {
        // Of one template all are alike, so there are few to look at before the answer is yes.
        cluster.nodes.iter().any(|node| {
            holds(&node.allocatable) && shape.admits(&node.name, &node.labels, &node.taints)
        })
    };
    let cluster = clusters.iter().find(could).or_else(|| clusters.first());
    cluster.map_or(muster_core::shape::DEFAULT_POOL, |cluster| &cluster.pool)
}

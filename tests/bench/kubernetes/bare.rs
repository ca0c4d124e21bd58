//! A bare client of the API server: it creates the pods that the executor would create, and deletes
//! each once it has succeeded, with as many requests under way as the executor may have. It knows
//! nothing else, so it shows what the cluster can do.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Request;
use muster_runtime::Clock;
use serde_json::Value;

use crate::watch::{News, Pod, Watch, pods};

/// Requests under way at a time: as many as the executor may have by default.
pub(crate) const REQUESTS: usize = 100;
/// The cluster of these pods: no executor takes them for its own.
const CLUSTER: &str = "bare";
/// What the API server adds to a spec by itself.
const ADDED: [&str; 11] = [
    "volumes",
    "nodeName",
    "serviceAccount",
    "serviceAccountName",
    "tolerations",
    "securityContext",
    "schedulerName",
    "priority",
    "preemptionPolicy",
    "enableServiceLinks",
    "dnsPolicy",
];
const ADDED_TO_CONTAINERS: [&str; 4] =
    ["volumeMounts", "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy"];

/// What becomes of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are scheduled, run and end, and are deleted then.
    Run,
    /// Nobody schedules them, and they are deleted once they are created.
    Idle,
}

/// Pods like one that an executor made.
pub(crate) struct Template {
    text: String,
    job: String,
    node: String,
    nodes: Vec<String>,
    made: u64,
}

impl Template {
    /// From a pod as the API server shows it, for these nodes.
    pub(crate) fn of(pod: &Value, nodes: Vec<String>) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let meta = &pod["metadata"];
        let job = text(&meta["labels"]["muster.dev/job-id"]).context("the job of the pod")?;
        let node = text(&pod["spec"]["nodeName"]).context("the node of the pod")?;
        let mut bare = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "labels": meta["labels"],
                "annotations": meta["annotations"],
            },
            "spec": pod["spec"],
        });
        bare["metadata"]["labels"]["muster.dev/cluster"] = CLUSTER.into();
        let spec = bare["spec"].as_object_mut().context("the spec of the pod")?;
        spec.retain(|name, _| !ADDED.contains(&name.as_str()));
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.retain(|name, _| !ADDED_TO_CONTAINERS.contains(&name.as_str()));
        }
        Ok(Self { text: bare.to_string(), job, node, nodes, made: 0 })
    }

    /// A further pod, as it is sent.
    fn next(&mut self, fate: Fate) -> Result<Vec<u8>> {
        self.made += 1;
        let node = &self.nodes[usize::try_from(self.made)? % self.nodes.len()];
        let job = format!("{:0>26}", self.made);
        let text = self.text.replace(&self.job, &job).replace(&self.node, node);
        if fate == Fate::Run {
            return Ok(text.into_bytes());
        }
        let mut pod: Value = serde_json::from_str(&text)?;
        pod["spec"]["schedulerName"] = "nobody".into();
        Ok(pod.to_string().into_bytes())
    }
}

/// A request that was answered.
enum Done {
    Created(Pod),
    Deleted,
}

/// Creates so many pods and deletes them; gives the watch that saw it.
pub(crate) async fn run(
    client: &Client,
    clock: &Clock,
    template: &mut Template,
    count: usize,
    fate: Fate,
) -> Result<Watch> {
    let mut watch = Watch::open(client, clock, CLUSTER).await?;
    let mut requests: FuturesUnordered<BoxFuture<'_, Result<Done>>> = FuturesUnordered::new();
    let mut ended = VecDeque::new();
    let (mut created, mut is_turn_of_create) = (0, false);
    while watch.gone < count {
        while requests.len() < REQUESTS && (created < count || !ended.is_empty()) {
            // In turn, as the executor does it.
            is_turn_of_create = created < count && (!is_turn_of_create || ended.is_empty());
            if is_turn_of_create {
                created += 1;
                requests.push(Box::pin(create(client, template.next(fate)?)));
            } else if let Some(pod) = ended.pop_front() {
                requests.push(Box::pin(delete(client, pod)));
            }
        }
        tokio::select! {
            biased;
            news = watch.next() => if let News::Ended(pod) = news? {
                ended.push_back(pod);
            },
            Some(done) = requests.next() => match done? {
                Done::Created(pod) if fate == Fate::Idle => ended.push_back(pod),
                Done::Created(_) | Done::Deleted => {}
            }
        }
    }
    Ok(watch)
}

async fn create(client: &Client, pod: Vec<u8>) -> Result<Done> {
    let request = Request::new(pods()).create(&PostParams::default(), pod)?;
    Ok(Done::Created(client.request(request).await.context("create a pod")?))
}

async fn delete(client: &Client, pod: Pod) -> Result<Done> {
    let (name, uid) = (pod.metadata.name, pod.metadata.uid);
    let preconditions = Some(Preconditions { uid: Some(uid), ..Preconditions::default() });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    let request = Request::new(pods()).delete(&name, &params)?;
    client.request_text(request).await.with_context(|| format!("delete {name}"))?;
    Ok(Done::Deleted)
}

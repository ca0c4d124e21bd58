//! What an executor takes of memory in a large cluster: it starts on as many pods of its own as
//! there shall be, each running, and on as many nodes.
//!
//! Nodes and pods are copies of one that was really there, put into the cluster's store behind the
//! API server's back; controllers, scheduler, shards and gateway are ended first. So nobody takes
//! the executor's reports, and it holds each of them too: more than it would in operation.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::time::Timestamp;
use muster_loadtest::measure::submission;
use muster_loadtest::measure::table::{Met, Row, grouped};
use muster_tests::kubernetes::{Behaviour, NodeSpec, Part};
use muster_tests::usage::{self, Memory};
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use crate::plant::{CLUSTER, NAMESPACE, PATIENCE, Plant};
use crate::row;
use crate::store::Store;

const QUEUE: &str = "kept";
/// Labels of a node, each of which is sent.
const LABELS: usize = 20;
/// The name of the node that the others are copies of.
const NODE: &str = "the-first-of-many-nodes";
/// Everything is listed again so often …
const RELIST: &str = "20s";
/// … and the peak of memory is that of so much time after the first list.
const WATCHED: Duration = Duration::from_secs(60);
const GOAL: u64 = 500_000_000;

/// A node and a pod to be copied.
struct Templates {
    node: Value,
    pod: String,
    job: String,
    uid: String,
}

pub(crate) async fn rows(pods: &[usize], nodes: usize) -> Result<Vec<Row>> {
    let mut first = NodeSpec::new(NODE, "64", "256Gi").resource("pods", "1000");
    for number in 0..LABELS - 2 {
        let name = format!("topology.kubernetes.io/an-attribute-{number:02}");
        first = first.label(&name, &format!("a-value-of-the-attribute-{number:02}"));
    }
    let mut plant = Plant::start(vec![first]).await?;
    let templates = templates(&mut plant).await?;
    let plane = plant.cluster.control_plane().context("a cluster of this process")?;
    plane.kill9(Part::Controllers)?;
    plane.kill9(Part::Scheduler)?;
    let store = Store::at(&plane.store_url())?;
    plant.deployment.gateways[0].process().kill9()?;
    plant.deployment.shards[0].process().kill9()?;
    store.put((1..nodes).map(|number| templates.node(number))).await?;
    let (mut there, mut rows) = (1, Vec::new());
    for count in pods {
        store.put((there..*count).map(|number| templates.pod(number, nodes))).await?;
        there = there.max(*count);
        rows.push(measured(&mut plant, there, nodes).await?);
    }
    Ok(rows)
}

/// A job's pod and its node, as the API server shows them.
async fn templates(plant: &mut Plant) -> Result<Templates> {
    let client = plant.cluster.client();
    let kubeconfig = plant.cluster.kubeconfig().to_owned();
    let executor = plant.executor(&kubeconfig, &[]).await?;
    plant.queue(QUEUE, false).await?;
    let behaviour = Behaviour::runs_forever();
    let env: Vec<Value> = (0..10)
        .map(|number| json!({ "name": format!("VARIABLE_{number}"), "value": "0".repeat(40) }))
        .collect();
    let mut spec = behaviour.pod("unnamed")["spec"].take();
    spec["containers"][0]["env"] = env.into();
    let job = json!({ "namespace": NAMESPACE, "annotations": behaviour.annotations(),
        "podSpec": spec });
    let body = format!("{job}\n").into();
    plant.client.submit(&submission(QUEUE, body, "kept".to_owned())).await?;
    let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("muster.dev/cluster={CLUSTER}"));
    let pod = eventually(PATIENCE, "a pod runs", async || {
        let listed = api.list(&ours).await?.items;
        let pod = listed.into_iter().next().context("there is none yet")?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        anyhow::ensure!(phase == Some("Running"), "{phase:?}");
        Ok(pod)
    })
    .await?;
    plant.stop(executor).await?;
    let node = Api::<Node>::all(client).get(NODE).await?;
    let job = pod.labels().get("muster.dev/job-id").context("the job of the pod")?.clone();
    let uid = pod.uid().context("the id of the pod")?;
    let pod = stored(serde_json::to_value(&pod)?, "Pod").to_string();
    Ok(Templates { node: stored(serde_json::to_value(&node)?, "Node"), pod, job, uid })
}

/// An object as the store holds it.
fn stored(mut object: Value, kind: &str) -> Value {
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    object["apiVersion"] = "v1".into();
    object["kind"] = kind.into();
    object
}

/// A name of 60 characters.
fn node_name(number: usize) -> String {
    format!("node-{number:05}-of-a-cluster-with-names-as-long-as-some-clouds-have")
        .chars()
        .take(60)
        .collect()
}

impl Templates {
    fn node(&self, number: usize) -> (String, String) {
        let name = node_name(number);
        let mut node = self.node.clone();
        node["metadata"]["uid"] = format!("00000000-0000-4000-9000-{number:012}").into();
        node["spec"]["taints"] = json!([
            { "key": "example.com/dedicated", "value": "batch", "effect": "PreferNoSchedule" },
            { "key": "example.com/pool", "value": format!("p{}", number % 7),
              "effect": "NoSchedule" },
        ]);
        (format!("/registry/minions/{name}"), node.to_string().replace(NODE, &name))
    }

    fn pod(&self, number: usize, nodes: usize) -> (String, String) {
        let shard = ShardId(u16::try_from(number % 4).unwrap_or_default());
        let job = JobRef::whole(JobId::new(Timestamp(1_700_000_000_000), shard, number as u64));
        let job = job.to_string();
        let node = node_name(1 + number % (nodes - 1).max(1));
        let uid = format!("00000000-0000-4000-8000-{number:012}");
        let pod = self.pod.replace(&self.job, &job).replace(NODE, &node).replace(&self.uid, &uid);
        (format!("/registry/pods/{NAMESPACE}/muster-{job}-1"), pod)
    }
}

async fn measured(plant: &mut Plant, pods: usize, nodes: usize) -> Result<Row> {
    let (kubeconfig, clock) = (plant.cluster.kubeconfig().to_owned(), plant.clock.clone());
    let began = clock.monotonic();
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__RELIST_INTERVAL", RELIST)];
    let mut executor = plant.executor(&kubeconfig, &settings).await?;
    executor.until_logged("pods are adopted", PATIENCE).await?;
    let took = clock.monotonic() - began;
    let log = executor.log()?;
    let told = log.lines().find(|line| line.contains("pods are adopted")).unwrap_or_default();
    anyhow::ensure!(told.contains(&format!("runs={pods}")), "{pods} pods, but {told}");
    let until = clock.monotonic() + WATCHED;
    clock.sleep_until(until).await;
    let spent = usage::cpu_seconds(executor.id())?;
    let Memory { now, peak } = usage::memory(executor.id())?;
    plant.stop(executor).await?;
    let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    Ok(row(
        format!(
            "memory of the executor, {} pods of its own on {} nodes with {LABELS} labels",
            grouped(pods as u64),
            grouped(nodes as u64)
        ),
        format!("{} at most", megabytes(peak)),
        format!(
            "{} after {} s; it knew all after {took:.1?}, and spent {spent:.1} s of processor time in all; everything listed again every {RELIST}; no shard takes its reports",
            megabytes(now),
            WATCHED.as_secs()
        ),
        "< 500 MB",
        Met::at_most(peak as f64, GOAL as f64),
    ))
}

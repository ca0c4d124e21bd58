//! What a cluster has beside pods: services and ingresses of jobs, nodes that change, and what pods
//! use. The executor has the rights of `infra/kubernetes` and no others.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use muster_api::http::{Address, QueueSettings};
use muster_client::{Output, Selection};
use muster_core::id::{JobId, ShardId};
use muster_tests::kubernetes::{ApiFault, Behaviour, Extension, NodeSpec};
use muster_tests::s3::Effect;
use muster_tests::wait::eventually;
use serde_json::json;

use super::executor::{TEAM, World, job};
use super::survives::{Plant, three_nodes};
use super::{WAIT, pods};
use crate::deployment::TURN;

/// Where a metrics API tells what pods use.
const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// The services and ingresses of a job's pods.
async fn of(plant: &Plant, id: &str) -> Result<(Vec<Service>, Vec<Ingress>)> {
    let client = plant.world.cluster.client();
    let own = ListParams::default().labels(&format!("muster.dev/job-id={id}"));
    let services = Api::<Service>::namespaced(client.clone(), TEAM).list(&own).await?;
    let ingresses = Api::<Ingress>::namespaced(client, TEAM).list(&own).await?;
    Ok((services.items, ingresses.items))
}

#[tokio::test]
async fn services_go_with_pods_nodes_are_told_at_once_and_usage_while_and_after() {
    let _turn = TURN.lock().await;
    // All nodes are looked at once: what is known later is what changes of them said.
    let settings = [
        ("MUSTER_EXECUTOR__SYNC_INTERVAL", "1h"),
        ("MUSTER_EXECUTOR__KUBERNETES__USAGE_INTERVAL", "200ms"),
    ];
    let Some(plant) = Plant::start(three_nodes(), &settings).await else { return };
    // Before the first pod, since the API would be looked for again only some time later.
    let metrics = plant.world.cluster.extension().unwrap();
    metrics.serve(METRICS, &json!({ "items": [] }));
    let of_pods = ("pods", "PodMetrics");
    metrics.offer(&plant.world.cluster, ("metrics.k8s.io", "v1beta1"), of_pods).await.unwrap();
    nodes_are_told_when_they_change(&plant).await;
    services_come_and_go_with_their_pods(&plant).await;
    what_runs_used_is_told_while_they_run_and_after(&plant, &metrics).await;
    a_certificate_that_ran_out_is_told_and_another_one_used(&plant).await;
}

/// Jobs wait for a node that there is not yet; one of them does not stand its taint, and waits on.
async fn nodes_are_told_when_they_change(plant: &Plant) {
    let world = &plant.world;
    let mut stands = job(&Behaviour::default());
    stands["podSpec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "spare" });
    let shy = stands.clone();
    stands["podSpec"]["tolerations"] = json!([{ "key": "new", "operator": "Exists" }]);
    let ids = world.submit_jobs(&[stands, shy]).await;
    for id in &ids {
        world.until_state(id, "queued").await;
    }
    let spare = NodeSpec::new("spare", "8", "16Gi").taint("new", "", "NoSchedule");
    world.cluster.add_nodes(&[spare]).await.unwrap();
    world.until_state(&ids[0], "succeeded").await;
    let nodes: Api<Node> = Api::all(world.cluster.client());
    let none = json!({ "spec": { "taints": null } });
    nodes.patch("spare", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    let job = world.until_state(&ids[1], "succeeded").await;
    assert_eq!((job.runs.len(), &*job.runs[0].node), (1, "spare"), "{job:?}");
}

/// Made once whatever goes wrong on the way, told to the user, and gone with the pod.
async fn services_come_and_go_with_their_pods(plant: &Plant) {
    let (client, proxy) = (&plant.world.client, &plant.proxy);
    proxy.add(ApiFault::new(Effect::LoseReply).on("create", "services").times(1));
    proxy.add(ApiFault::new(Effect::Refuse(500)).on("create", "ingresses").times(1));
    let mut reached = job(&Behaviour::runs_forever());
    reached["services"] = json!([{ "type": "NodePort", "ports": [80] },
        { "type": "Headless", "ports": [81], "name": "mine" }]);
    reached["ingress"] = json!([{ "ports": [82], "tlsEnabled": true }]);
    let mut refused = job(&Behaviour::runs_forever());
    refused["ingress"] = json!([{ "ports": [80], "annotations": { "no such name!": "" } }]);
    let ids = plant.world.submit_jobs(&[reached, refused]).await;

    let job = plant.world.until_state(&ids[0], "running").await;
    assert_eq!((job.runs.len(), proxy.injected()), (1, 2), "{job:?}");
    let pod = format!("muster-{}-1", ids[0]);
    let (services, ingresses) = of(plant, &ids[0]).await.unwrap();
    let names: Vec<_> = services.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
    assert_eq!(names, ["mine", &*format!("{pod}-service-0"), &*format!("{pod}-service-1")]);
    assert_eq!(ingresses.len(), 1);
    let ports = services.iter().flat_map(|it| it.spec.iter().flat_map(|spec| spec.ports.iter()));
    let on_node = ports.flatten().find_map(|port| port.node_port).unwrap();
    let expected = [(80, format!("127.0.0.1:{on_node}")), (82, format!("82-{pod}.{TEAM}.svc"))];
    let expected = expected.map(|(port, address)| Address { port, address });
    assert_eq!(job.runs[0].addresses, expected);
    let spec = client.job(&ids[0], Output::StateAndSpec).await.unwrap().spec.unwrap();
    assert!(spec.services.unwrap().get().contains(r#""name":"mine""#));

    let job = plant.world.until_state(&ids[1], "failed").await;
    let run = &job.runs[0];
    assert_eq!(run.reason.as_deref(), Some("Rejected"), "{job:?}");
    assert!(run.message.as_deref().is_some_and(|it| it.contains("no such name!")), "{job:?}");

    client.cancel(Selection::Ids(vec![ids[0].clone()]), None).await.unwrap();
    let gone = eventually(WAIT, "they are gone with their pod", async || {
        let (services, ingresses) = of(plant, &ids[0]).await?;
        ensure!(services.is_empty() && ingresses.is_empty(), "{services:?} {ingresses:?}");
        Ok(())
    });
    gone.await.unwrap();
}

/// What the metrics API tells of two runs, of different shards: one pod is deleted by somebody, the
/// job of the other one cancelled, and of neither its end has anything to say.
async fn what_runs_used_is_told_while_they_run_and_after(plant: &Plant, metrics: &Extension) {
    let world = &plant.world;
    let ids = of_two_shards(world).await;
    let mut started: Vec<Timestamp> = Vec::new();
    for id in &ids {
        let job = world.until_state(id, "running").await;
        started.push(job.runs[0].started_at.as_deref().unwrap().parse().unwrap());
    }
    let api = pods(&world.cluster, TEAM);
    for (seconds, cpu, memory, cpu_time) in [(10, "500m", "64Mi", 5_000), (20, "1", "32Mi", 15_000)]
    {
        let mut items = Vec::new();
        for (id, started) in ids.iter().zip(&started) {
            let name = format!("muster-{id}-1");
            let labels = api.get(&name).await.unwrap().metadata.labels;
            items.push(json!({
                "metadata": { "name": name, "namespace": TEAM, "labels": labels },
                "timestamp": (*started + SignedDuration::from_secs(seconds)).to_string(),
                "containers": [{ "name": "main", "usage": { "cpu": cpu, "memory": memory } }],
            }));
        }
        metrics.serve(METRICS, &json!({ "items": items }));
        for id in &ids {
            let told = eventually(WAIT, "it is told what it uses", async || {
                let job = world.client.job(id, Output::State).await?;
                let run = &job.runs[0];
                let is_told = run.memory_peak_bytes == Some(64 << 20)
                    && run.cpu_time_ms.is_some_and(|time| time >= cpu_time);
                ensure!(job.state == "running" && is_told, "{job:?}\n{}", world.log_end());
                Ok(())
            });
            told.await.unwrap();
        }
    }
    for id in &ids {
        let of_shard = format!("shard%3D{}", shard(id));
        let reads = metrics.reads();
        assert!(reads.iter().any(|read| read.contains(&of_shard)), "{reads:?}");
    }
    api.delete(&format!("muster-{}-1", ids[0]), &DeleteParams::default()).await.unwrap();
    world.client.cancel(Selection::Ids(vec![ids[1].clone()]), None).await.unwrap();
    for id in &ids {
        let job = eventually(WAIT, "its run ends", async || {
            let job = world.client.job(id, Output::State).await?;
            ensure!(job.runs[0].ended_at.is_some(), "{job:?}\n{}", world.log_end());
            Ok(job)
        });
        let job = job.await.unwrap();
        let run = &job.runs[0];
        assert_eq!(run.memory_peak_bytes, Some(64 << 20), "{job:?}");
        // Five seconds' worth in the first ten, ten in the next; and as much since as passed, if
        // the executor was asked.
        assert!(run.cpu_time_ms.is_some_and(|time| time >= 15_000), "{job:?}");
    }
}

fn shard(id: &str) -> ShardId {
    id.parse::<JobId>().unwrap().shard()
}

/// Two jobs that run until they are stopped, of queues of different shards.
async fn of_two_shards(world: &World) -> [String; 2] {
    let lasting = job(&Behaviour::runs_forever());
    let lasting = std::slice::from_ref(&lasting);
    let first = world.submit_jobs(lasting).await.remove(0);
    for n in 0..64 {
        let queue = format!("other-{n}");
        world.client.put_queue(&queue, &QueueSettings::default()).await.unwrap();
        let other = world.submit_to(&queue, lasting).await.remove(0);
        if shard(&other) != shard(&first) {
            return [first, other];
        }
        world.client.cancel(Selection::Ids(vec![other]), None).await.unwrap();
    }
    panic!("all queues are of one shard")
}

/// A second executor, which may do no more than wait: but who it is it has to show for that too.
async fn a_certificate_that_ran_out_is_told_and_another_one_used(plant: &Plant) {
    let (world, cluster) = (&plant.world, &plant.world.cluster);
    let mut second = world.second(&cluster.certified(2020).unwrap());
    second.until_logged("its client certificate ran out at 2020-12-31", WAIT).await.unwrap();
    cluster.certified(2999).unwrap();
    second.until_logged("another executor serves this cluster", WAIT).await.unwrap();
}

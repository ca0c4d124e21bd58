//! Pods that end since something of the cluster makes them, that do not end at all, or that are
//! none of the executor's business; and output that is read while it is written.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use futures::StreamExt as _;
use muster_client::{Follow, Selection};
use muster_core::id::{JobId, ShardId};
use muster_core::time::Timestamp;
use muster_tests::kubernetes::Behaviour;
use muster_tests::wait::eventually;
use serde_json::json;

use super::executor::{TEAM, World, job};
use super::{WAIT, create_as, pods, until_gone, until_phase};

const SECOND: Duration = Duration::from_secs(1);
/// A check by which pods without their volume fail soon.
pub(super) const CHECK: &str = r#"{on="event",reason="FailedMount",after="2s",then="fail"}"#;

/// Only where kubelets obey.
pub(super) async fn whatever_becomes_of_pods_is_told(world: &World) {
    tokio::join!(
        kubelets_make_pods_end(world),
        what_a_kubelet_refuses_goes_to_other_nodes(world),
        output_is_followed_to_its_end(world),
        what_does_not_die_is_removed_by_force(world),
        pods_of_nobody_go_and_those_of_others_stay(world),
    );
}

async fn kubelets_make_pods_end(world: &World) {
    let evicted = job(&Behaviour::runs_for(SECOND).is_evicted());
    let mut late = job(&Behaviour::runs_forever());
    late["podSpec"]["activeDeadlineSeconds"] = json!(1);
    let without_volume = job(&Behaviour::without_volume());
    let ids = world.submit_jobs(&[evicted, late, without_volume]).await;
    let expected = [
        ("Evicted", "low on resource"),
        ("DeadlineExceeded", "longer than the specified deadline"),
        ("FailedMount", "MountVolume.SetUp failed"),
    ];
    for (id, (reason, message)) in ids.iter().zip(expected) {
        let job = world.until_state(id, "failed").await;
        let run = &job.runs[0];
        assert_eq!((job.runs.len(), run.reason.as_deref()), (1, Some(reason)), "{job:?}");
        assert!(run.message.as_deref().is_some_and(|it| it.contains(message)), "{job:?}");
    }
}

/// Its first three attempts are on the three nodes that there are.
async fn what_a_kubelet_refuses_goes_to_other_nodes(world: &World) {
    let ids = world.submit(&[&Behaviour::rejected("UnexpectedAdmissionError")]).await;
    let nodes = eventually(WAIT, "every node refuses it", async || {
        let mut events = world.client.events("q", "s", None, Follow::No);
        let (mut nodes, mut reasons) = (Vec::new(), Vec::new());
        while let Some(event) = events.next().await? {
            if event.job_id == ids[0] && event.event == "leased" {
                nodes.extend(event.node);
            } else if event.job_id == ids[0] && event.event == "requeued" {
                reasons.extend(event.reason);
            }
        }
        ensure!(nodes.len() >= 3 && reasons.len() >= 2, "{nodes:?} {reasons:?}");
        ensure!(reasons[0] == "UnexpectedAdmissionError", "{reasons:?}");
        Ok(nodes)
    });
    let mut nodes = nodes.await.unwrap();
    world.client.cancel(Selection::Ids(ids), None).await.unwrap();
    nodes.truncate(3);
    nodes.sort();
    assert_eq!(nodes, ["n-0", "n-1", "n-2"]);
}

async fn output_is_followed_to_its_end(world: &World) {
    let talks = Behaviour::runs_for(3 * SECOND).logs("first").logs_at_last("last");
    let ids = world.submit(&[&talks]).await;
    world.until_begun(&ids[0]).await;
    let output = world.client.logs(&ids[0], Follow::Yes).await.unwrap();
    let output: Vec<Bytes> = output.map(Result::unwrap).collect().await;
    assert_eq!(String::from_utf8(output.concat()).unwrap(), "first\nlast\n");
    world.until_state(&ids[0], "succeeded").await;
}

async fn what_does_not_die_is_removed_by_force(world: &World) {
    let ids = world.submit(&[&Behaviour::runs_forever().dies_after(None)]).await;
    world.until_state(&ids[0], "running").await;
    world.client.cancel(Selection::Ids(ids.clone()), None).await.unwrap();
    until_gone(&pods(&world.cluster, TEAM), &format!("muster-{}-1", ids[0])).await;
    let log = world.executor.log().unwrap();
    let mut told = log.lines().filter(|line| line.contains("removed by force"));
    assert!(told.any(|line| line.contains(&ids[0])), "{}", world.log_end());
}

/// One that looks in every respect like one of Muster's, but its job is not known to anybody; and
/// one that has Muster's label, and is somebody's.
async fn pods_of_nobody_go_and_those_of_others_stay(world: &World) {
    let known = world.submit(&[&Behaviour::runs_forever()]).await;
    world.until_state(&known[0], "running").await;
    let api = pods(&world.cluster, TEAM);
    let own = api.get(&format!("muster-{}-1", known[0])).await.unwrap();
    let mut pod = Behaviour::runs_forever().pod("of-others");
    pod["metadata"]["labels"] = json!(own.metadata.labels);
    create_as(&api, pod).await;
    until_phase(&api, "of-others", "Running").await;

    let id = JobId::new(Timestamp(1_000_000), ShardId(0), 7).to_string();
    let name = format!("muster-{id}-1");
    let mut pod = Behaviour::runs_forever().pod(&name);
    for (names, own) in [("labels", own.metadata.labels), ("annotations", own.metadata.annotations)]
    {
        pod["metadata"][names] = json!(own);
    }
    pod["metadata"]["labels"]["muster.dev/job-id"] = json!(id);
    create_as(&api, pod).await;
    until_gone(&api, &name).await;
    let others = api.get("of-others").await.unwrap();
    assert_eq!(others.metadata.deletion_timestamp, None);
    assert_eq!(world.until_state(&known[0], "running").await.runs.len(), 1);
    world.client.cancel(Selection::Ids(known), None).await.unwrap();
}

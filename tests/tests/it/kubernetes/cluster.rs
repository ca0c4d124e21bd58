//! The cluster of the harness: what its parts and its virtual nodes promise to the tests.

use std::time::Duration;

use anyhow::ensure;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Node, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams, WatchParams};
use muster_tests::kubernetes::{
    ApiFault, Behaviour, Cluster, NodeSpec, Part, Spec, Target, VERSION,
};
use muster_tests::process::Program;
use muster_tests::s3::Effect;
use muster_tests::wait::eventually;
use serde_json::json;

use super::rights::the_executors_account_may_do_nothing_but_its_work;
use super::{WAIT, create, create_as, pods, state, until, until_gone, until_phase};
use crate::deployment::TURN;
use crate::suite::{Theme, all_hold};

const SECOND: Duration = Duration::from_secs(1);

fn nodes() -> Vec<NodeSpec> {
    let mut nodes = NodeSpec::many(2, "small", "2", "4Gi");
    nodes
        .push(NodeSpec::new("large", "16", "64Gi").label("size", "large").allocatable("cpu", "15"));
    let gpu = NodeSpec::new("gpu", "8", "32Gi").gpus(4).label("accelerator", "a100");
    nodes.push(gpu.taint("nvidia.com/gpu", "present", "NoSchedule"));
    nodes
}

macro_rules! themes {
    ($cluster:ident; $($theme:ident),+ $(,)?) => {
        vec![$((stringify!($theme), Box::pin($theme(&$cluster)))),+]
    };
}

#[tokio::test]
async fn pods_do_on_a_cluster_what_they_say() {
    let _turn = TURN.lock().await;
    let cluster = Cluster::start(Spec::of(nodes())).await.unwrap();
    let mut themes: Vec<Theme<'_>> = themes![cluster;
        a_pod_is_scheduled_and_runs_to_its_end,
        a_pod_fails_with_its_code_and_message,
        a_pod_that_takes_too_much_memory_is_killed,
        a_pod_without_its_image_waits,
        a_pod_that_is_deleted_ends,
        what_a_pod_writes_can_be_read_and_followed,
        an_account_may_do_what_its_roles_say,
    ];
    // The kubelets of a cluster that was given do as they please.
    if cluster.kubelet().is_some() {
        let own: Vec<Theme<'_>> = themes![cluster;
            the_server_is_of_the_pinned_version,
            nodes_have_what_was_declared,
            a_taint_keeps_pods_away_that_do_not_tolerate_it,
            a_pod_that_runs_late_is_stopped,
            a_pod_without_its_volume_waits,
            a_pod_is_evicted,
            a_kubelet_refuses_what_it_has_no_room_for,
            a_pod_that_does_not_die_stays_until_it_is_forced,
            nothing_moves_on_a_silent_node,
            requests_go_wrong_on_their_way_as_told,
            an_account_that_is_replaced_has_lost_its_token,
            the_executors_account_may_do_nothing_but_its_work,
        ];
        themes.extend(own);
    }
    all_hold(themes).await;
}

async fn the_server_is_of_the_pinned_version(cluster: &Cluster) {
    let version = cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, *VERSION);
    assert!(VERSION.starts_with("v1."), "{}", *VERSION);
}

async fn nodes_have_what_was_declared(cluster: &Cluster) {
    let all = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), nodes().len());
    let named = |name: &str| {
        all.items.iter().find(|node| node.metadata.name.as_deref() == Some(name)).unwrap().clone()
    };
    let (large, gpu) = (named("large"), named("gpu"));
    assert_eq!(large.metadata.labels.unwrap()["size"], "large");
    let status = large.status.unwrap();
    assert_eq!(status.capacity.unwrap()["cpu"].0, "16");
    assert_eq!(status.allocatable.unwrap()["cpu"].0, "15");
    assert_eq!(gpu.status.unwrap().allocatable.unwrap()["nvidia.com/gpu"].0, "4");
    assert_eq!(gpu.spec.unwrap().taints.unwrap()[0].effect, "NoSchedule");
}

async fn a_pod_is_scheduled_and_runs_to_its_end(cluster: &Cluster) {
    cluster.namespace("ends").await.unwrap();
    let api = pods(cluster, "ends");
    create(&api, "well", &Behaviour::runs_for(SECOND * 5)).await;
    let status = until(&api, "well", "runs", |status| state(status).running.is_some()).await;
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(api.get("well").await.unwrap().spec.unwrap().node_name.is_some());
    let ended = state(&until_phase(&api, "well", "Succeeded").await).terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    let took = ended.finished_at.unwrap().0.duration_since(ended.started_at.unwrap().0);
    assert!(took.as_secs() >= 4, "{took}");
}

async fn a_pod_fails_with_its_code_and_message(cluster: &Cluster) {
    cluster.namespace("fails").await.unwrap();
    let api = pods(cluster, "fails");
    create(&api, "badly", &Behaviour::default().exits(7).says("no input")).await;
    let ended = state(&until_phase(&api, "badly", "Failed").await).terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (7, Some("Error")));
    assert_eq!(ended.message.as_deref(), Some("no input"));
}

async fn a_pod_that_takes_too_much_memory_is_killed(cluster: &Cluster) {
    cluster.namespace("memory").await.unwrap();
    let api = pods(cluster, "memory");
    create(&api, "greedy", &Behaviour::default().runs_out_of_memory()).await;
    let ended = state(&until_phase(&api, "greedy", "Failed").await).terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("OOMKilled")));
}

async fn a_pod_without_its_image_waits(cluster: &Cluster) {
    cluster.namespace("images").await.unwrap();
    let api = pods(cluster, "images");
    create(&api, "imageless", &Behaviour::without_image()).await;
    until(&api, "imageless", "ImagePullBackOff", |status| {
        let waiting = state(status).waiting.unwrap_or_default();
        waiting.reason.as_deref() == Some("ImagePullBackOff")
            && status.phase.as_deref() == Some("Pending")
    })
    .await;
    until_told(cluster, "images", "imageless", "Failed to pull image").await;
    api.delete("imageless", &DeleteParams::default()).await.unwrap();
    until_gone(&api, "imageless").await;
}

async fn a_pod_that_is_deleted_ends(cluster: &Cluster) {
    cluster.namespace("deleted").await.unwrap();
    let api = pods(cluster, "deleted");
    create(&api, "endless", &Behaviour::runs_forever()).await;
    until_phase(&api, "endless", "Running").await;
    api.delete("endless", &DeleteParams::default()).await.unwrap();
    until_gone(&api, "endless").await;
}

async fn what_a_pod_writes_can_be_read_and_followed(cluster: &Cluster) {
    cluster.namespace("logs").await.unwrap();
    let api = pods(cluster, "logs");
    let talks = Behaviour::runs_for(SECOND * 6).logs("first\nsecond").logs_at_last("third");
    create(&api, "talker", &talks).await;
    until_phase(&api, "talker", "Running").await;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = api.log_stream("talker", &follow).await.unwrap().lines();
    let mut read = Vec::new();
    while let Some(line) = lines.try_next().await.unwrap() {
        read.push(line);
    }
    assert_eq!(read, ["first", "second", "third"]);
    until_phase(&api, "talker", "Succeeded").await;
    let tail = LogParams { tail_lines: Some(2), ..LogParams::default() };
    assert_eq!(api.logs("talker", &tail).await.unwrap(), "second\nthird\n");
    let start = LogParams { limit_bytes: Some(5), ..LogParams::default() };
    assert_eq!(api.logs("talker", &start).await.unwrap(), "first");
}

async fn an_account_may_do_what_its_roles_say(cluster: &Cluster) {
    cluster.namespace("roles").await.unwrap();
    let kubeconfig = cluster.user("roles", "reader").await.unwrap();
    let client = cluster.client_of(&kubeconfig).await.unwrap();
    let api: Api<Pod> = Api::namespaced(client.clone(), "roles");
    let refused = api.list(&ListParams::default()).await.unwrap_err().to_string();
    let who = "system:serviceaccount:roles:reader";
    assert!(refused.contains(who) && refused.contains("cannot list"), "{refused}");
    cluster.apply(READER).await.unwrap();
    // The API server learns of roles by a watch of its own.
    let allowed =
        eventually(WAIT, "the role counts", async || Ok(api.list(&ListParams::default()).await?));
    allowed.await.unwrap();
    let refused = api.delete("any", &DeleteParams::default()).await.unwrap_err().to_string();
    assert!(refused.contains("cannot delete"), "{refused}");
    let elsewhere: Api<Pod> = Api::namespaced(client, "default");
    assert!(elsewhere.list(&ListParams::default()).await.is_err());
}

const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader, namespace: roles }
rules:
  - { apiGroups: [''], resources: [pods], verbs: [get, list] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: reader, namespace: roles }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
subjects:
  - { kind: ServiceAccount, name: reader, namespace: roles }
";

async fn a_taint_keeps_pods_away_that_do_not_tolerate_it(cluster: &Cluster) {
    cluster.namespace("taints").await.unwrap();
    let api = pods(cluster, "taints");
    let wants_gpu = |name: &str| {
        let mut pod = Behaviour::default().pod(name);
        for side in ["requests", "limits"] {
            pod["spec"]["containers"][0]["resources"][side]["nvidia.com/gpu"] = json!("2");
        }
        pod
    };
    create_as(&api, wants_gpu("intolerant")).await;
    until(&api, "intolerant", "unschedulable", |status| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().any(|condition| {
            condition.reason.as_deref() == Some("Unschedulable")
                && condition.message.as_deref().is_some_and(|text| text.contains("taint"))
        })
    })
    .await;
    let mut tolerant = wants_gpu("tolerant");
    tolerant["spec"]["tolerations"] = json!([{ "operator": "Exists", "key": "nvidia.com/gpu" }]);
    create_as(&api, tolerant).await;
    until_phase(&api, "tolerant", "Succeeded").await;
    let node = api.get("tolerant").await.unwrap().spec.unwrap().node_name;
    assert_eq!(node.as_deref(), Some("gpu"));
}

async fn a_pod_that_runs_late_is_stopped(cluster: &Cluster) {
    cluster.namespace("late").await.unwrap();
    let api = pods(cluster, "late");
    let mut pod = Behaviour::runs_forever().pod("slow");
    pod["spec"]["activeDeadlineSeconds"] = json!(1);
    create_as(&api, pod).await;
    let status = until_phase(&api, "slow", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

async fn a_pod_without_its_volume_waits(cluster: &Cluster) {
    cluster.namespace("volumes").await.unwrap();
    let api = pods(cluster, "volumes");
    create(&api, "volumeless", &Behaviour::without_volume()).await;
    until(&api, "volumeless", "ContainerCreating", |status| {
        state(status).waiting.unwrap_or_default().reason.as_deref() == Some("ContainerCreating")
    })
    .await;
    until_told(cluster, "volumes", "volumeless", "MountVolume.SetUp failed").await;
}

async fn a_pod_is_evicted(cluster: &Cluster) {
    cluster.namespace("evicted").await.unwrap();
    let api = pods(cluster, "evicted");
    create(&api, "unlucky", &Behaviour::default().is_evicted()).await;
    let status = until_phase(&api, "unlucky", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    let disrupted = |status: &PodStatus| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "DisruptionTarget")
    };
    assert!(disrupted(&status), "{status:?}");
}

async fn a_kubelet_refuses_what_it_has_no_room_for(cluster: &Cluster) {
    cluster.namespace("room").await.unwrap();
    let api = pods(cluster, "room");
    let bound = |name: &str, cpu: &str| {
        let mut pod = Behaviour::runs_forever().pod(name);
        pod["spec"]["nodeName"] = json!("large");
        for side in ["requests", "limits"] {
            pod["spec"]["containers"][0]["resources"][side]["cpu"] = json!(cpu);
        }
        pod
    };
    create_as(&api, bound("fits", "8")).await;
    until_phase(&api, "fits", "Running").await;
    create_as(&api, bound("does-not", "8")).await;
    let status = until_phase(&api, "does-not", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    api.delete("fits", &DeleteParams::default()).await.unwrap();
    until_gone(&api, "fits").await;
    create_as(&api, bound("fits-now", "8")).await;
    until_phase(&api, "fits-now", "Running").await;
    api.delete("fits-now", &DeleteParams::default()).await.unwrap();
    create(&api, "rejected", &Behaviour::rejected("UnexpectedAdmissionError")).await;
    let status = until_phase(&api, "rejected", "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("UnexpectedAdmissionError"));
}

async fn a_pod_that_does_not_die_stays_until_it_is_forced(cluster: &Cluster) {
    cluster.namespace("stuck").await.unwrap();
    let api = pods(cluster, "stuck");
    create(&api, "undead", &Behaviour::runs_forever().dies_after(None)).await;
    create(&api, "slow", &Behaviour::runs_forever().dies_after(Some(SECOND))).await;
    for name in ["undead", "slow"] {
        until_phase(&api, name, "Running").await;
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_gone(&api, "slow").await;
    let undead = api.get("undead").await.unwrap();
    assert!(undead.metadata.deletion_timestamp.is_some());
    assert_eq!(undead.status.unwrap().phase.as_deref(), Some("Running"));
    let forced = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete("undead", &forced).await.unwrap();
    until_gone(&api, "undead").await;
}

async fn nothing_moves_on_a_silent_node(cluster: &Cluster) {
    cluster.namespace("silent").await.unwrap();
    let api = pods(cluster, "silent");
    let kubelet = cluster.kubelet().unwrap();
    let mut pod = Behaviour::runs_for(SECOND).pod("quiet");
    pod["spec"]["nodeName"] = json!("small-1");
    kubelet.silence("small-1");
    create_as(&api, pod).await;
    create(&api, "marker", &Behaviour::runs_for(SECOND)).await;
    let elsewhere = json!({ "kubernetes.io/hostname": "small-0" });
    let mut marker = Behaviour::runs_for(SECOND).pod("elsewhere");
    marker["spec"]["nodeSelector"] = elsewhere;
    create_as(&api, marker).await;
    until_phase(&api, "elsewhere", "Succeeded").await;
    let quiet = api.get("quiet").await.unwrap().status.unwrap();
    assert_eq!(quiet.phase.as_deref(), Some("Pending"));
    kubelet.resume("small-1");
    until_phase(&api, "quiet", "Succeeded").await;
    until_phase(&api, "marker", "Succeeded").await;
}

async fn requests_go_wrong_on_their_way_as_told(cluster: &Cluster) {
    cluster.namespace("proxied").await.unwrap();
    let proxy = cluster.proxy().unwrap();
    let kubeconfig = proxy.kubeconfig(cluster.kubeconfig()).unwrap();
    let api: Api<Pod> = Api::namespaced(cluster.client_of(&kubeconfig).await.unwrap(), "proxied");
    let make = async |name: &str| {
        let pod: Pod = serde_json::from_value(Behaviour::default().pod(name)).unwrap();
        api.create(&PostParams::default(), &pod).await.map(|_| ())
    };
    proxy.add(ApiFault::new(Effect::Refuse(500)).on("create", "pods").times(1));
    let refused = make("refused").await.unwrap_err().to_string();
    assert!(refused.contains("refused on purpose"), "{refused}");
    assert!(api.get_opt("refused").await.unwrap().is_none());
    proxy.add(ApiFault::new(Effect::LoseReply).on("create", "pods").after(1).times(1));
    make("made").await.unwrap();
    make("lost").await.unwrap_err();
    assert!(api.get_opt("lost").await.unwrap().is_some(), "it is done without an answer");
    assert_eq!(proxy.injected(), 2);

    proxy.add(ApiFault::new(Effect::HoldReply).on("get", "pods"));
    let held = api.get("made");
    let freed = async {
        let held = eventually(WAIT, "a reply is held", async || {
            ensure!(proxy.injected() == 3, "none is");
            Ok(())
        });
        held.await.unwrap();
        proxy.clear();
    };
    let (got, ()) = tokio::join!(held, freed);
    got.unwrap();
    let mut watched = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    watched.try_next().await.unwrap().unwrap();
    let requests = proxy.requests();
    let of = |verb, resource: &str| requests[&Target { verb, resource: resource.to_owned() }];
    assert_eq!((of("create", "pods"), of("get", "pods"), of("watch", "pods")), (3, 3, 1));
}

async fn an_account_that_is_replaced_has_lost_its_token(cluster: &Cluster) {
    cluster.namespace("accounts").await.unwrap();
    let kubeconfig = cluster.user("accounts", "worker").await.unwrap();
    let before = cluster.client_of(&kubeconfig).await.unwrap();
    before.apiserver_version().await.unwrap();
    cluster.replace_user("accounts", "worker").await.unwrap();
    // The API server remembers for some seconds whom it let in.
    let refused = eventually(WAIT, "the old token is refused", async || {
        let refusal = before.list_core_api_versions().await.err();
        ensure!(refusal.is_some_and(|error| error.to_string().contains("Unauthorized")), "no");
        Ok(())
    });
    refused.await.unwrap();
    let after = cluster.client_of(&kubeconfig).await.unwrap();
    after.list_core_api_versions().await.unwrap();
}

/// Waits for an event of a pod.
async fn until_told(cluster: &Cluster, namespace: &str, name: &str, text: &str) {
    let events = Api::<Event>::namespaced(cluster.client(), namespace);
    let params = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let what = format!("{name}: {text}");
    let told = eventually(WAIT, &what, async || {
        let listed = events.list(&params).await?;
        let told = listed
            .items
            .iter()
            .any(|event| event.message.as_deref().is_some_and(|message| message.contains(text)));
        ensure!(told, "{:?}", listed.items);
        Ok(())
    });
    told.await.unwrap();
}

#[tokio::test]
async fn two_clusters_stand_side_by_side_and_parts_of_one_may_die() {
    let _turn = TURN.lock().await;
    let spec = Spec { pods_leave_lost_nodes_after: SECOND, ..Spec::of(nodes()) };
    let started = tokio::join!(Cluster::start(spec.clone()), Cluster::start(spec));
    let (mut broken, whole) = (started.0.unwrap(), started.1.unwrap());
    if broken.kubelet().is_none() {
        return;
    }
    // Who has no Go has a cluster: the tests run on one that they are given.
    let program = Program::at(std::env::current_exe().unwrap());
    let program =
        program.args(["--exact", "kubernetes::cluster::pods_do_on_a_cluster_what_they_say"]);
    let program = program.env("MUSTER_TEST_KUBECONFIG", whole.kubeconfig());
    let mut given = program.spawn("given", whole.directory()).unwrap();

    let (api, other) = (pods(&broken, "default"), pods(&whole, "default"));
    create(&api, "here", &Behaviour::runs_for(SECOND)).await;
    create(&other, "there", &Behaviour::runs_for(SECOND)).await;
    assert!(api.get_opt("there").await.unwrap().is_none());
    until_phase(&api, "here", "Succeeded").await;
    until_phase(&other, "there", "Succeeded").await;

    create(&api, "long", &Behaviour::runs_for(SECOND * 6)).await;
    until_phase(&api, "long", "Running").await;
    let plane = broken.control_plane().unwrap();
    for part in Part::ALL {
        plane.kill9(part).unwrap();
    }
    assert!(api.get("long").await.is_err());
    assert!(plane.process(Part::Etcd).is_err());
    create(&other, "meanwhile", &Behaviour::default()).await;
    until_phase(&other, "meanwhile", "Succeeded").await;
    plane.spawn_all().await.unwrap();
    until_phase(&api, "long", "Succeeded").await;

    let mut pod = Behaviour::runs_forever().pod("lost");
    pod["spec"]["nodeSelector"] = json!({ "size": "large" });
    create_as(&api, pod).await;
    until_phase(&api, "lost", "Running").await;
    let kubelet = broken.kubelet().unwrap();
    kubelet.lose(&broken.client(), "large").await.unwrap();
    let sent_away = eventually(WAIT, "it is sent away", async || {
        let pod = api.get("lost").await?;
        ensure!(pod.metadata.deletion_timestamp.is_some(), "{:?}", pod.status);
        Ok(())
    });
    sent_away.await.unwrap();
    kubelet.find(&broken.client(), "large").await.unwrap();
    until_gone(&api, "lost").await;

    let status = given.wait(2 * WAIT).await.unwrap();
    let said = given.out().unwrap();
    assert!(status.success() && said.contains("1 passed"), "{status}: {said}");
}

//! Muster on a Kubernetes cluster: gateway, shard worker and executor as processes, jobs as pods.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use muster_api::http::{Job, QueueSettings};
use muster_api::request::SubmitAnswer;
use muster_client::{Answers, Client, Follow, Format, Output, Selection, Submission, Submitted};
use muster_tests::deployment::{Deployment, Size};
use muster_tests::kubernetes::{ApiFault, Behaviour, Cluster, NodeSpec, Spec, Target};
use muster_tests::process::{Process, Program};
use muster_tests::s3::Effect;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::armada::files_of_armada_run_as_they_are;
use super::{WAIT, create_as, ends, pods, until_phase};
use crate::deployment::TURN;

/// One gateway and one shard worker; the executor is a program of its own.
const SIZE: Size = Size { gateways: 1, shards: 1, executors: 0 };
/// The namespace of the jobs.
pub(super) const TEAM: &str = "team";
/// How long an executor that was killed is waited for by the next one.
const LEASE: &str = "2s";

/// A deployment with an executor for a cluster.
pub(super) struct World {
    pub(super) executor: Process,
    program: Program,
    pub(super) client: Client,
    pub(super) cluster: Cluster,
    deployment: Deployment,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let cluster = cluster().await;
        let kubeconfig = cluster.kubeconfig().to_owned();
        Self::start_on(cluster, &kubeconfig, settings).await
    }

    /// The same with a cluster that stands, and an executor that is who the kubeconfig says.
    pub(super) async fn start_on(
        cluster: Cluster,
        kubeconfig: &Path,
        settings: &[(&str, &str)],
    ) -> Self {
        let deployment = Deployment::start(SIZE).await.unwrap();
        let client = deployment.client(0).unwrap();
        client.put_queue("q", &QueueSettings::default()).await.unwrap();
        let program = executor(&deployment, kubeconfig).unwrap();
        let program = program.envs(settings.iter().copied());
        let executor = program.spawn("executor", deployment.log_dir()).unwrap();
        Self { executor, program, client, cluster, deployment }
    }

    /// Starts the executor again, which was killed.
    pub(super) fn restart(&mut self) {
        self.executor = self.program.spawn("executor", self.deployment.log_dir()).unwrap();
    }

    /// Starts another executor of the cluster, which is who the kubeconfig says.
    pub(super) fn second(&self, kubeconfig: &Path) -> Process {
        let program = self.program.clone();
        let program = program.env("MUSTER_EXECUTOR__KUBERNETES__KUBECONFIG", kubeconfig);
        program.spawn("second", self.deployment.log_dir()).unwrap()
    }

    /// Waits until a job has ended, well or not.
    pub(super) async fn until_ended(&self, id: &str) -> Job {
        let what = format!("{id} ends");
        let job = eventually(WAIT, &what, async || {
            let job = self.client.job(id, Output::State).await?;
            let ended = ["succeeded", "failed", "cancelled"].contains(&&*job.state);
            ensure!(ended, "{job:?}\n{}", self.log_end());
            Ok(job)
        });
        job.await.unwrap()
    }

    /// Waits until a job has come to a node and run, or is running.
    pub(super) async fn until_begun(&self, id: &str) -> Job {
        let what = format!("{id} begins");
        let job = eventually(WAIT, &what, async || {
            let job = self.client.job(id, Output::State).await?;
            let has_begun = job.runs.last().is_some_and(|run| run.started_at.is_some());
            ensure!(has_begun, "{job:?}\n{}", self.log_end());
            Ok(job)
        });
        job.await.unwrap()
    }

    /// Waits until that attempt of a job runs.
    pub(super) async fn until_run(&self, id: &str, attempt: u32) -> Job {
        let what = format!("{id} runs for the {attempt}. time");
        let job = eventually(WAIT, &what, async || {
            let job = self.client.job(id, Output::State).await?;
            let last = job.runs.last().is_some_and(|run| run.attempt == attempt);
            ensure!(last && job.state == "running", "{job:?}\n{}", self.log_end());
            Ok(job)
        });
        job.await.unwrap()
    }

    /// Submits jobs that do this; gives their ids.
    pub(super) async fn submit(&self, behaviours: &[&Behaviour]) -> Vec<String> {
        let jobs: Vec<Value> = behaviours.iter().map(|behaviour| job(behaviour)).collect();
        self.submit_jobs(&jobs).await
    }

    pub(super) async fn submit_jobs(&self, jobs: &[Value]) -> Vec<String> {
        self.submit_to("q", jobs).await
    }

    /// The same to another queue.
    pub(super) async fn submit_to(&self, queue: &str, jobs: &[Value]) -> Vec<String> {
        let body: Vec<u8> = jobs.iter().flat_map(|job| format!("{job}\n").into_bytes()).collect();
        let submission = Submission {
            queue: queue.into(),
            job_set: "s".into(),
            format: Format::Ndjson,
            answers: Answers::Each,
            body: vec![Bytes::from(body)],
            ..Submission::default()
        };
        let Submitted::Each(answers) = self.client.submit(&submission).await.unwrap() else {
            panic!("each is answered");
        };
        let id = |answer| match answer {
            SubmitAnswer::Accepted { job_id } => job_id,
            SubmitAnswer::Rejected { error } => panic!("{error:?}"),
        };
        answers.into_iter().map(id).collect()
    }

    /// Runs the command line, which has to succeed; gives what it printed.
    pub(super) fn muster(&self, args: &[&str]) -> String {
        let program = Program::built("muster").unwrap().args(args);
        let output = program.env("MUSTER_URL", self.deployment.url(0)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) async fn until_state(&self, id: &str, state: &str) -> Job {
        let what = format!("{id} is {state}");
        let job = eventually(WAIT, &what, async || {
            let job = self.client.job(id, Output::State).await?;
            ensure!(job.state == state, "{job:?}\n{}", self.log_end());
            Ok(job)
        });
        job.await.unwrap()
    }

    pub(super) async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(pods(&self.cluster, TEAM).list(&ListParams::default()).await?.items)
    }

    /// Waits until the pod of a job's attempt is in that phase, which it stays in.
    async fn until_pod(&self, id: &str, attempt: u32, phase: &str) -> Pod {
        self.until_pod_in(id, attempt, &[phase]).await
    }

    /// Waits until the pod of a job's attempt is in one of those phases.
    async fn until_pod_in(&self, id: &str, attempt: u32, phases: &[&str]) -> Pod {
        let name = format!("muster-{id}-{attempt}");
        let api = pods(&self.cluster, TEAM);
        let what = format!("{name} is {phases:?}");
        let pod = eventually(WAIT, &what, async || {
            let pod = api.get(&name).await?;
            let found = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let is_so = found.is_some_and(|phase| phases.contains(&phase));
            ensure!(is_so, "{:?}\n{}", pod.status, self.log_end());
            Ok(pod)
        });
        pod.await.unwrap()
    }

    pub(super) fn log_end(&self) -> String {
        let log = self.executor.log().unwrap_or_default();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start(Spec::of(NodeSpec::many(3, "n", "8", "16Gi"))).await.unwrap();
    cluster.namespace(TEAM).await.unwrap();
    cluster
}

fn executor(deployment: &Deployment, kubeconfig: &Path) -> Result<Program> {
    let state = deployment.log_dir().join("state");
    std::fs::create_dir_all(&state)?;
    Ok(Program::built("muster")?
        .args(["executor", "--backend", "kubernetes", "--cluster", "berlin", "--shards", "4"])
        .args(["--bus", &deployment.nats.url(), "--state-dir"])
        .arg(state)
        .env("MUSTER_EXECUTOR__KUBERNETES__KUBECONFIG", kubeconfig)
        .env("MUSTER_EXECUTOR__KUBERNETES__LEASE_DURATION", LEASE)
        .env("MUSTER_EXECUTOR__SYNC_INTERVAL", "1s"))
}

/// A job that does this.
pub(super) fn job(behaviour: &Behaviour) -> Value {
    let pod = behaviour.pod("unnamed");
    json!({ "namespace": TEAM, "annotations": behaviour.annotations(), "podSpec": pod["spec"] })
}

/// Every end that a pod can come to reaches the job, with what there is to say about it.
#[tokio::test]
async fn jobs_run_as_pods_and_end_as_their_pods_do() {
    let _turn = TURN.lock().await;
    let image = r#"{on="waiting",reason="ErrImage*|ImagePull*",after="1s",then="fail"}"#;
    let checks = format!("[{image},{}]", ends::CHECK);
    let settings = [
        ("MUSTER_EXECUTOR__KUBERNETES__CHECKS", &*checks),
        ("MUSTER_EXECUTOR__KUBERNETES__KILL_TIMEOUT", "1s"),
        ("MUSTER_EXECUTOR__KUBERNETES__RETENTION", "1h"),
    ];
    let world = World::start(&settings).await;
    let second = Duration::from_secs(1);
    let ids = world
        .submit(&[
            &Behaviour::runs_for(second).logs("hello"),
            &Behaviour::default().exits(7).says("it was seven"),
            &Behaviour::default().runs_out_of_memory(),
            &Behaviour::without_image(),
            &Behaviour::runs_forever(),
        ])
        .await;
    let job = world.until_state(&ids[0], "succeeded").await;
    let run = &job.runs[0];
    assert_eq!((run.attempt, &*run.cluster, run.exit_code), (1, "berlin", Some(0)));
    assert!(run.node.starts_with("n-") && run.started_at.is_some(), "{run:?}");
    let end = |job: &Job| {
        let run = &job.runs[0];
        (run.exit_code, run.signal, run.reason.clone().unwrap_or_default())
    };
    let job = world.until_state(&ids[1], "failed").await;
    assert_eq!(end(&job), (Some(7), None, "Error".to_owned()));
    assert_eq!(job.runs[0].message.as_deref(), Some("it was seven"));
    let job = world.until_state(&ids[2], "failed").await;
    assert_eq!(end(&job), (Some(137), Some(9), "OOMKilled".to_owned()));
    let job = world.until_state(&ids[3], "failed").await;
    assert!(job.runs[0].reason.as_deref().is_some_and(|word| word.contains("Image")), "{job:?}");

    let pod = world.until_pod(&ids[0], 1, "Succeeded").await;
    let labels = pod.metadata.labels.unwrap_or_default();
    assert_eq!(labels["muster.dev/job-id"], ids[0]);
    assert_eq!(labels["muster.dev/queue"], "q");
    let logs = world.client.logs(&ids[0], Follow::No).await.unwrap();
    let logs: Vec<Bytes> = logs.map(Result::unwrap).collect().await;
    assert_eq!(String::from_utf8(logs.concat()).unwrap(), "hello\n");

    world.until_state(&ids[4], "running").await;
    world.client.cancel(Selection::Ids(vec![ids[4].clone()]), None).await.unwrap();
    world.until_state(&ids[4], "cancelled").await;
    let what = "the pod of the job that was cancelled is gone";
    let gone = eventually(WAIT, what, async || {
        let name = format!("muster-{}-1", ids[4]);
        ensure!(pods(&world.cluster, TEAM).get_opt(&name).await?.is_none(), "it is there");
        Ok(())
    });
    gone.await.unwrap();
    if world.cluster.kubelet().is_some() {
        ends::whatever_becomes_of_pods_is_told(&world).await;
    }
    files_of_armada_run_as_they_are(&world).await;
}

/// SIGKILL of the executor, and the next one goes on with the pods that are there.
#[tokio::test]
async fn an_executor_that_is_killed_finds_its_pods_again() {
    let _turn = TURN.lock().await;
    let mut world = World::start(&[]).await;
    let lasting = Behaviour::runs_forever();
    let short = Behaviour::runs_for(Duration::from_secs(2));
    let ids = world.submit(&[&lasting, &short, &short, &lasting]).await;
    for id in [&ids[0], &ids[3]] {
        world.until_pod(id, 1, "Running").await;
    }
    // The short ones may be over by the time they are looked at, which is as good.
    for id in &ids[1..3] {
        world.until_pod_in(id, 1, &["Running", "Succeeded"]).await;
    }
    world.executor.kill9().unwrap();
    for id in &ids[1..3] {
        world.until_pod(id, 1, "Succeeded").await;
    }
    pods(&world.cluster, TEAM)
        .delete(&format!("muster-{}-1", ids[3]), &DeleteParams::default())
        .await
        .unwrap();
    world.executor = world.program.spawn("executor", world.deployment.log_dir()).unwrap();
    for id in &ids[1..3] {
        assert_eq!(world.until_state(id, "succeeded").await.runs.len(), 1);
    }
    // Somebody deleted it meanwhile: nobody knows how it ended, so it runs again.
    world.until_pod(&ids[3], 2, "Running").await;
    let job = world.until_state(&ids[0], "running").await;
    assert_eq!(job.runs.len(), 1, "{job:?}");
    let names = world.pods().await.unwrap().into_iter().filter_map(|pod| pod.metadata.name);
    let first = names.filter(|name| name.contains(&*ids[0])).count();
    assert_eq!(first, 1, "the pod that runs is the one that ran");
}

/// A second executor of the same cluster waits, says for whom, and takes over.
#[tokio::test]
async fn of_two_executors_of_a_cluster_one_works_and_the_other_waits() {
    let _turn = TURN.lock().await;
    let mut world = World::start(&[]).await;
    let ids = world.submit(&[&Behaviour::default()]).await;
    world.until_state(&ids[0], "succeeded").await;
    let leases: Api<Lease> = Api::default_namespaced(world.cluster.client());
    let lease = leases.get("muster-executor").await.unwrap();
    let holder = lease.spec.unwrap().holder_identity.unwrap();
    let mut second = world.program.spawn("second", world.deployment.log_dir()).unwrap();
    second.until_logged("another executor serves this cluster", WAIT).await.unwrap();
    assert!(second.log().unwrap().contains(&holder));
    world.executor.terminate().unwrap();
    world.executor.wait(WAIT).await.unwrap();
    second.until_logged("executor serves the cluster", WAIT).await.unwrap();
    let ids = world.submit(&[&Behaviour::default()]).await;
    world.until_state(&ids[0], "succeeded").await;
}

/// A pod is created and removed, and that is all; what goes wrong on the way is made good, and no
/// job has a second attempt for it.
#[tokio::test]
async fn a_pod_costs_two_requests_and_lost_answers_make_none_twice() {
    let _turn = TURN.lock().await;
    let cluster = cluster().await;
    let Ok(proxy) = cluster.proxy() else { return };
    let kubeconfig = proxy.kubeconfig(cluster.kubeconfig()).unwrap();
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__ENDED_PODS_MAX", "0")];
    let world = World::start_on(cluster, &kubeconfig, &settings).await;
    let behaviour = Behaviour::default();
    let run = async |jobs: usize| {
        let ids = world.submit(&vec![&behaviour; jobs]).await;
        for id in &ids {
            let job = world.until_state(id, "succeeded").await;
            assert_eq!(job.runs.len(), 1, "{job:?}");
        }
        let gone = eventually(WAIT, "all pods are removed", async || {
            let left = world.pods().await?.len();
            ensure!(left == 0, "{left} are left\n{}", world.log_end());
            Ok(())
        });
        gone.await.unwrap();
    };
    run(60).await;
    let requests = proxy.requests();
    let of = |verb: &'static str| {
        let target = Target { verb, resource: "pods".to_owned() };
        requests.get(&target).copied().unwrap_or_default()
    };
    let asked = of("create") + of("delete") + of("get");
    assert!((120..=130).contains(&asked), "two requests a pod: {requests:?}");

    for effect in [Effect::LoseReply, Effect::Refuse(500), Effect::Refuse(429)] {
        proxy.add(ApiFault::new(effect).on("create", "pods").after(3).times(3));
        proxy.add(ApiFault::new(effect).on("delete", "pods").after(3).times(3));
    }
    run(40).await;
    assert!(proxy.injected() >= 6, "{} requests went wrong", proxy.injected());
}

/// What the cluster refuses comes back with its reason, and what others use is not given away.
#[tokio::test]
async fn what_kubernetes_refuses_is_told_to_the_user() {
    let _turn = TURN.lock().await;
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__BINDING", "direct")];
    let world = World::start(&settings).await;
    let mut nowhere = job(&Behaviour::default());
    nowhere["namespace"] = json!("nowhere");
    let mut wrong = job(&Behaviour::default());
    wrong["podSpec"]["containers"][0]["name"] = json!("No Name");
    let right = job(&Behaviour::default());
    let ids = world.submit_jobs(&[nowhere, wrong, right]).await;
    let told = |job: &Job| {
        let run = &job.runs[0];
        let message = run.message.clone().unwrap_or_default();
        (run.reason.clone().unwrap_or_default(), message)
    };
    let (reason, message) = told(&world.until_state(&ids[0], "failed").await);
    assert_eq!(reason, "NamespaceMissing");
    assert!(message.contains("\"nowhere\" not found"), "{message}");
    let (reason, message) = told(&world.until_state(&ids[1], "failed").await);
    assert_eq!(reason, "Rejected");
    assert!(message.contains("containers[0].name"), "{message}");
    world.until_state(&ids[2], "succeeded").await;

    let others = pods(&world.cluster, "default");
    for n in 0..3 {
        let mut pod = Behaviour::runs_forever().pod(&format!("other-{n}"));
        pod["spec"]["nodeName"] = json!(format!("n-{n}"));
        pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "6" } });
        create_as(&others, pod).await;
        until_phase(&others, &format!("other-{n}"), "Running").await;
    }
    let of_cpu = |cpu: &str| {
        let mut job = job(&Behaviour::default());
        let resources = json!({ "requests": { "cpu": cpu }, "limits": { "cpu": cpu } });
        job["podSpec"]["containers"][0]["resources"] = resources;
        job
    };
    let ids = world.submit_jobs(&[of_cpu("3"), of_cpu("1")]).await;
    world.until_state(&ids[1], "succeeded").await;
    world.until_state(&ids[0], "queued").await;
    others.delete("other-1", &DeleteParams::default()).await.unwrap();
    let job = world.until_state(&ids[0], "succeeded").await;
    assert_eq!(job.runs.last().map(|run| &*run.node), Some("n-1"), "{job:?}");
}

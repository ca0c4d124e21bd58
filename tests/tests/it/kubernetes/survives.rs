//! What befalls a cluster and its executor, and how little of it jobs notice. The executor has the
//! rights of `infra/kubernetes` and no others, and reaches the API server through a proxy that can
//! fail.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use muster_client::Selection;
use muster_tests::kubernetes::{
    Admission, ApiFault, ApiProxy, Behaviour, Cluster, NodeSpec, Part, Spec,
};
use muster_tests::s3::Effect;
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::WAIT;
use super::executor::{TEAM, World, job};
use super::rights::{ACCOUNT, EXECUTOR, JOBS_NAMESPACE, NAMESPACE};
use crate::deployment::TURN;

const SECOND: Duration = Duration::from_secs(1);

/// A world whose executor may do what the manifests say, through a proxy.
pub(super) struct Plant {
    pub(super) world: World,
    pub(super) proxy: ApiProxy,
}

impl Plant {
    /// None in a cluster that was given: nothing of it shall break.
    pub(super) async fn start(spec: Spec, settings: &[(&str, &str)]) -> Option<Self> {
        let cluster = Cluster::start(spec).await.unwrap();
        cluster.kubelet()?;
        cluster.namespace(TEAM).await.unwrap();
        cluster.apply(EXECUTOR).await.unwrap();
        cluster.apply_in(TEAM, JOBS_NAMESPACE).await.unwrap();
        let direct = cluster.user(NAMESPACE, ACCOUNT).await.unwrap();
        let proxy = cluster.proxy().unwrap();
        let kubeconfig = proxy.kubeconfig(&direct).unwrap();
        let own = [("MUSTER_EXECUTOR__KUBERNETES__LEASE_NAMESPACE", NAMESPACE)];
        let settings = [&own[..], settings].concat();
        let world = World::start_on(cluster, &kubeconfig, &settings).await;
        Some(Self { world, proxy })
    }

    /// Waits until the faults that were added have fallen so often, since `before`.
    pub(super) async fn until_injected(&self, before: u64, times: u64) {
        let injected = eventually(WAIT, "the fault falls", async || {
            let count = self.proxy.injected() - before;
            ensure!(count >= times, "{count} of {times}\n{}", self.world.log_end());
            Ok(())
        });
        injected.await.unwrap();
    }

    /// SIGKILL to the executor while the faults stand; they are gone when the next one starts.
    fn kill_and_heal(&mut self) {
        self.world.executor.kill9().unwrap();
        self.proxy.clear();
        self.world.restart();
    }

    /// How many pods there are of each job.
    async fn pods_of(&self, ids: &[String]) -> Result<BTreeMap<String, usize>> {
        let mut counts: BTreeMap<_, _> = ids.iter().map(|id| (id.clone(), 0)).collect();
        for pod in self.world.pods().await? {
            let labels = pod.metadata.labels.unwrap_or_default();
            let id = labels.get("muster.dev/job-id").context("a pod of nobody")?;
            if let Some(count) = counts.get_mut(id) {
                *count += 1;
            }
        }
        Ok(counts)
    }

    pub(super) async fn all_succeed(&self, ids: &[String]) {
        for id in ids {
            let job = self.world.until_state(id, "succeeded").await;
            assert_eq!(job.runs.len(), 1, "{job:?}");
        }
    }
}

pub(super) fn three_nodes() -> Spec {
    Spec::of(NodeSpec::many(3, "n", "8", "16Gi"))
}

/// Killed with every kind of request under way, done or not done: no pod twice, none forgotten.
#[tokio::test]
async fn an_executor_killed_at_any_request_makes_no_pod_twice_and_forgets_none() {
    let _turn = TURN.lock().await;
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__RETENTION", "1h")];
    let Some(mut plant) = Plant::start(three_nodes(), &settings).await else { return };
    let brief = Behaviour::runs_for(SECOND);

    for (what, effect) in [("done", Effect::HoldReply), ("not done", Effect::Disconnect)] {
        let before = plant.proxy.injected();
        plant.proxy.add(ApiFault::new(effect).on("create", "pods").after(1));
        let ids = plant.world.submit(&[&brief; 4]).await;
        plant.until_injected(before, 3).await;
        plant.kill_and_heal();
        for id in &ids {
            plant.world.until_state(id, "succeeded").await;
        }
        let counts = plant.pods_of(&ids).await.unwrap();
        assert!(counts.values().all(|count| *count == 1), "creation, {what}: {counts:?}");
    }

    for effect in [Effect::HoldReply, Effect::Disconnect] {
        let ids = plant.world.submit(&[&Behaviour::runs_forever(); 2]).await;
        for id in &ids {
            plant.world.until_state(id, "running").await;
        }
        let before = plant.proxy.injected();
        plant.proxy.add(ApiFault::new(effect).on("delete", "pods"));
        plant.world.client.cancel(Selection::Ids(ids.clone()), None).await.unwrap();
        plant.until_injected(before, 2).await;
        plant.kill_and_heal();
        let gone = eventually(WAIT, "pods of cancelled jobs go", async || {
            let counts = plant.pods_of(&ids).await?;
            ensure!(counts.values().all(|count| *count == 0), "{counts:?}");
            Ok(())
        });
        gone.await.unwrap();
        for id in &ids {
            plant.world.until_state(id, "cancelled").await;
        }
    }
}

/// Answers that are late, wrong or lost, and an API server that dies: every job runs once.
#[tokio::test]
async fn jobs_run_once_whatever_the_api_server_does() {
    let _turn = TURN.lock().await;
    let Some(mut plant) = Plant::start(three_nodes(), &[]).await else { return };
    let brief = Behaviour::runs_for(SECOND);
    for (effect, verb, resource, times) in [
        (Effect::Refuse(500), "create", "pods", 4),
        (Effect::Refuse(429), "create", "pods", 4),
        (Effect::RefuseAfter(500), "create", "pods", 4),
        (Effect::LoseReply, "create", "pods", 4),
        (Effect::Disconnect, "watch", "pods", 2),
        (Effect::Refuse(500), "watch", "nodes", 2),
        (Effect::Refuse(500), "update", "leases", 1),
        (Effect::Delay(SECOND), "delete", "pods", 4),
    ] {
        plant.proxy.add(ApiFault::new(effect).on(verb, resource).times(times));
    }
    // The watches as well, which go on for minutes otherwise.
    plant.proxy.cut();
    let ids = plant.world.submit(&[&brief; 20]).await;
    plant.all_succeed(&ids).await;
    assert!(plant.proxy.injected() >= 16, "{}", plant.proxy.injected());
    plant.proxy.clear();

    let lasting = Behaviour::runs_for(12 * SECOND);
    let ids = plant.world.submit(&[&lasting; 4]).await;
    for id in &ids {
        plant.world.until_state(id, "running").await;
    }
    let plane = plant.world.cluster.control_plane().unwrap();
    plane.kill9(Part::ApiServer).unwrap();
    let later = plant.world.submit(&[&brief; 4]).await;
    let plane = plant.world.cluster.control_plane().unwrap();
    plane.spawn(Part::ApiServer).unwrap();
    plane.until_ready().await.unwrap();
    plant.all_succeed(&ids).await;
    plant.all_succeed(&later).await;
}

/// What the cluster's own rules refuse: a quota is waited for, a policy's words reach the user.
#[tokio::test]
async fn quotas_are_waited_for_and_policies_explain_themselves() {
    let _turn = TURN.lock().await;
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__RETENTION", "0s")];
    let Some(plant) = Plant::start(three_nodes(), &settings).await else { return };
    plant.world.cluster.apply(POLICY).await.unwrap();
    plant.world.cluster.apply_in(TEAM, QUOTA).await.unwrap();
    let counted = eventually(WAIT, "the quota counts", async || {
        let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> =
            Api::namespaced(plant.world.cluster.client(), TEAM);
        let status = quotas.get("few").await?.status.unwrap_or_default();
        ensure!(status.hard.is_some(), "{status:?}");
        Ok(())
    });
    counted.await.unwrap();
    let ids = plant.world.submit(&[&Behaviour::runs_for(SECOND); 4]).await;
    plant.all_succeed(&ids).await;

    until_refused(&plant, "nobody", "ask the owners").await;
    webhooks_are_waited_for_and_explain_themselves(&plant).await;
}

fn of_team(team: &str) -> Value {
    let mut job = job(&Behaviour::default());
    job["labels"] = json!({ "team": team });
    job
}

/// Waits until jobs of a team are refused, for that reason. What refuses them counts some seconds
/// after it was made.
async fn until_refused(plant: &Plant, team: &str, why: &str) {
    let what = format!("a job of team {team} is refused");
    let explained = eventually(WAIT, &what, async || {
        let ids = plant.world.submit_jobs(&[of_team(team)]).await;
        let job = plant.world.until_ended(&ids[0]).await;
        let run = job.runs.last().context("no run")?;
        ensure!(job.state == "failed", "{job:?}");
        ensure!(run.reason.as_deref() == Some("Rejected"), "{job:?}");
        ensure!(run.message.as_deref().unwrap_or_default().contains(why), "{job:?}");
        Ok(())
    });
    explained.await.unwrap();
}

/// A webhook that fails is asked again, and one that refuses is believed.
async fn webhooks_are_waited_for_and_explain_themselves(plant: &Plant) {
    let cluster = &plant.world.cluster;
    let extension = cluster.extension().unwrap();
    extension.admit(cluster, TEAM, ("team", "late"), Admission::AdmitsAfter(3)).await.unwrap();
    let refuses = Admission::Refuses("strangers are not let in".to_owned());
    extension.admit(cluster, TEAM, ("team", "strange"), refuses).await.unwrap();
    // When the later one counts, so does the earlier one.
    until_refused(plant, "strange", "strangers are not let in").await;
    let before = extension.asked();
    let ids = plant.world.submit_jobs(&[of_team("late")]).await;
    plant.all_succeed(&ids).await;
    assert!(extension.asked() - before >= 4, "{} times", extension.asked() - before);
}

const QUOTA: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: { name: few }
spec: { hard: { pods: '1' } }
";

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: { name: teams }
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - { apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods] }
  validations:
    - expression: \"!has(object.metadata.labels) || !('team' in object.metadata.labels) || object.metadata.labels['team'] != 'nobody'\"
      message: 'no team of that name: ask the owners of the cluster'
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: { name: teams }
spec: { policyName: teams, validationActions: [Deny] }
";

/// Nodes that are deleted or lost with what runs there: it runs elsewhere. And the executor's own
/// token is replaced meanwhile.
#[tokio::test]
async fn jobs_of_lost_nodes_run_elsewhere_and_a_replaced_token_is_taken_up() {
    let turn = TURN.lock().await;
    let spec = Spec { pods_leave_lost_nodes_after: SECOND, ..three_nodes() };
    let settings = [("MUSTER_EXECUTOR__KUBERNETES__KILL_TIMEOUT", "1s")];
    let Some(plant) = Plant::start(spec, &settings).await else { return };
    let world = &plant.world;
    let large = || {
        let mut job = job(&Behaviour::runs_forever());
        let asked = json!({ "cpu": "5", "memory": "1Gi" });
        let resources = json!({ "requests": asked, "limits": asked });
        job["podSpec"]["containers"][0]["resources"] = resources;
        job
    };
    let ids = world.submit_jobs(&[large(), large()]).await;
    let mut nodes = Vec::new();
    for id in &ids {
        nodes.push(world.until_state(id, "running").await.runs[0].node.clone());
    }
    assert_ne!(nodes[0], nodes[1]);
    // From here on it waits for the most part: Kubernetes gives up pods without a node after 40 s.
    drop(turn);
    let (client, kubelet) = (world.cluster.client(), world.cluster.kubelet().unwrap());
    kubelet.silence(&nodes[0]);
    let all = Api::<Node>::all(client.clone());
    all.delete(&nodes[0], &DeleteParams::default()).await.unwrap();
    // The one node that is left takes one of them.
    world.until_run(&ids[0], 2).await;
    world.cluster.replace_user(NAMESPACE, ACCOUNT).await.unwrap();
    let spare = NodeSpec::new("spare", "8", "16Gi");
    world.cluster.add_nodes(&[spare]).await.unwrap();
    kubelet.lose(&client, &nodes[1]).await.unwrap();
    world.until_run(&ids[1], 2).await;
    for (id, node) in ids.iter().zip(&nodes) {
        let job = world.until_state(id, "running").await;
        assert_ne!(job.runs.last().map(|run| &run.node), Some(node), "{job:?}");
    }
    let first: Vec<_> = ids.iter().map(|id| format!("muster-{id}-1")).collect();
    let gone = eventually(WAIT, "the pods of lost nodes are gone", async || {
        let there = world.pods().await?;
        let names: Vec<_> = there.into_iter().filter_map(|pod| pod.metadata.name).collect();
        ensure!(!names.iter().any(|name| first.contains(name)), "{names:?}");
        Ok(())
    });
    gone.await.unwrap();
}

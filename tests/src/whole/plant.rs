//! A deployment without a cluster, and two Kubernetes clusters beside it: each comes with its
//! executor, is taken away, brought back and removed, and nothing else is told of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::deployment::{Deployment, Member, Size};
use crate::kubernetes::{Cluster, NodeSpec, Part, Spec};
use crate::repo_root;

/// The namespace of the jobs.
pub(super) const NAMESPACE: &str = "team";
/// The label of nodes that says in which cluster they are.
pub(super) const SITE: &str = "muster.dev/site";
/// The label of nodes that have room for small jobs beside the others.
pub(super) const SPARE: &str = "muster.dev/spare";
/// Jobs of one cpu that a node has room for. The first of a cluster has half a cpu beside that, for
/// small ones; if each had, what is left so would be in the way of exact shares.
const SLOTS: usize = 8;
/// Lines of each log that an error quotes.
const LOG_LINES: usize = 20;
/// How long an executor may take to end when it is told to.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the manifests put the executor, and as whom it runs.
const ACCOUNT: (&str, &str) = ("muster", "muster-executor");

const SIZE: Size = Size { gateways: 2, shards: 2, executors: 0 };
/// Of gateways and shard workers.
const SETTINGS: [(&str, &str); 3] = [
    ("MUSTER_SHARD__CLUSTER_TIMEOUT", "10s"),
    ("MUSTER_SHARD__PREEMPT_INTERVAL", "500ms"),
    // Jobs that fail on purpose shall not take nodes out.
    ("MUSTER_SHARD__NODE_FAILING_QUEUES", "0"),
];
/// Of executors.
const EXECUTOR: [(&str, &str); 7] = [
    ("MUSTER_EXECUTOR__BACKEND", "kubernetes"),
    ("MUSTER_EXECUTOR__SYNC_INTERVAL", "2s"),
    ("MUSTER_EXECUTOR__KUBERNETES__LEASE_NAMESPACE", ACCOUNT.0),
    ("MUSTER_EXECUTOR__KUBERNETES__LEASE_DURATION", "5s"),
    ("MUSTER_EXECUTOR__KUBERNETES__RETENTION", "0s"),
    ("MUSTER_EXECUTOR__KUBERNETES__FAILED_RETENTION", "0s"),
    ("MUSTER_EXECUTOR__KUBERNETES__ENDED_PODS_MAX", "100"),
];

/// A cluster and its executor.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: &'static str,
    cluster: Cluster,
    kubeconfig: PathBuf,
    /// Who binds its pods.
    binding: &'static str,
    /// The place of its executor among those of the deployment, once it has one.
    executor: Option<usize>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Plant {
    pub(super) deployment: Deployment,
    pub(super) berlin: Site,
    pub(super) paris: Site,
    nodes: usize,
}

impl Plant {
    /// Starts it, with so many nodes in each cluster and no executor.
    pub(super) async fn start(nodes: usize) -> Result<Self> {
        let (deployment, berlin, paris) = tokio::try_join!(
            Deployment::start_with(SIZE, &SETTINGS),
            // A scheduler that lost its API server for a while is slow to come back.
            Site::start("berlin", nodes, "direct"),
            Site::start("paris", nodes, "scheduler"),
        )?;
        Ok(Self { deployment, berlin, paris, nodes })
    }

    /// Jobs of one cpu that a cluster has room for.
    pub(super) fn slots(&self) -> usize {
        self.nodes * SLOTS
    }

    /// Lines of the processes' logs that speak of a panic.
    pub(super) fn panics(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for member in self.members() {
            let log = member.log()?;
            found.extend(log.lines().filter(|line| line.contains("panic")).map(str::to_owned));
        }
        Ok(found)
    }

    /// How the processes' logs end, for whoever looks for what went wrong.
    pub(super) fn log_ends(&self) -> String {
        let ends = self.members().enumerate().map(|(number, member)| {
            let log = member.log().unwrap_or_else(|error| format!("{error:#}"));
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            format!("--- process {number}\n{end}\n")
        });
        ends.collect()
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        let deployment = &self.deployment;
        [&deployment.gateways, &deployment.shards, &deployment.executors].into_iter().flatten()
    }
}

impl Site {
    async fn start(name: &'static str, nodes: usize, binding: &'static str) -> Result<Self> {
        let node = |number: usize| {
            let (cpu, spare) = if number == 0 { ("8500m", "yes") } else { ("8", "no") };
            let node = NodeSpec::new(&format!("{name}-{number}"), cpu, "64Gi");
            node.label(SITE, name).label(SPARE, spare)
        };
        let nodes = (0..nodes).map(node);
        let cluster = Cluster::start(Spec::of(nodes)).await?;
        ensure!(cluster.kubelet().is_some(), "a cluster that was given cannot be taken away");
        cluster.namespace(NAMESPACE).await?;
        let manifests = repo_root().join("infra/kubernetes");
        cluster.apply(&std::fs::read_to_string(manifests.join("executor.yaml"))?).await?;
        let of_jobs = std::fs::read_to_string(manifests.join("jobs-namespace.yaml"))?;
        cluster.apply_in(NAMESPACE, &of_jobs).await?;
        let kubeconfig = cluster.user(ACCOUNT.0, ACCOUNT.1).await?;
        Ok(Self { name, cluster, kubeconfig, binding, executor: None })
    }

    /// Starts its executor, by which the deployment learns of it.
    pub(super) fn add(&mut self, deployment: &mut Deployment) -> Result<()> {
        let kubeconfig = self.kubeconfig.to_str().context("a path is text")?;
        let own = [
            ("MUSTER_EXECUTOR__KUBERNETES__KUBECONFIG", kubeconfig),
            ("MUSTER_EXECUTOR__KUBERNETES__BINDING", self.binding),
        ];
        let settings = EXECUTOR.into_iter().chain(own);
        let settings: Vec<_> = settings.map(|(key, text)| (key.into(), text.into())).collect();
        self.executor = Some(deployment.executors.len());
        deployment.add_executor(self.name, &settings)
    }

    /// SIGKILL to its API server and its executor. Its pods run on.
    pub(super) fn take_away(&mut self, deployment: &mut Deployment) -> Result<()> {
        self.plane()?.kill9(Part::ApiServer)?;
        deployment.executors[self.place()?].process().kill9()
    }

    /// Starts both again.
    pub(super) async fn bring_back(&mut self, deployment: &mut Deployment) -> Result<()> {
        let plane = self.plane()?;
        plane.spawn(Part::ApiServer)?;
        plane.until_ready().await?;
        let log_dir = deployment.log_dir().to_owned();
        deployment.executors[self.place()?].kill9_and_restart(&log_dir)
    }

    /// Has its executor end. Its pods run on.
    pub(super) async fn remove(&mut self, deployment: &mut Deployment) -> Result<()> {
        let executor = deployment.executors[self.place()?].process();
        executor.terminate()?;
        let status = executor.wait(END_TIMEOUT).await?;
        ensure!(status.success(), "the executor of {} ended with {status}", self.name);
        Ok(())
    }

    /// Pods of Muster that have not ended.
    pub(super) async fn live_pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        let own = ListParams::default().labels(&format!("muster.dev/cluster={}", self.name));
        let listed = pods.list(&own).await?.items.into_iter();
        Ok(listed.filter(|pod| !matches!(phase(pod), "Succeeded" | "Failed")).collect())
    }

    /// How many pods of each queue run, of those that the job set has.
    pub(super) async fn running(&self, job_set: &str) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for pod in self.live_pods().await? {
            let is_going = pod.metadata.deletion_timestamp.is_some();
            if phase(&pod) != "Running" || is_going || job_set_of(&pod) != Some(job_set) {
                continue;
            }
            let queue =
                pod.metadata.labels.and_then(|mut labels| labels.remove("muster.dev/queue"));
            *counts.entry(queue.context("a pod without a queue")?).or_default() += 1;
        }
        Ok(counts)
    }

    fn plane(&mut self) -> Result<&mut crate::kubernetes::ControlPlane> {
        self.cluster.control_plane().context("a cluster that was given is left alone")
    }

    fn place(&self) -> Result<usize> {
        self.executor.with_context(|| format!("{} has no executor", self.name))
    }
}

/// The job set of a pod.
pub(super) fn job_set_of(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get("muster.dev/job-set").map(String::as_str)
}

fn phase(pod: &Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

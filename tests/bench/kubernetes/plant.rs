//! What is measured on: a Kubernetes cluster, a deployment beside it, and an executor that comes
//! and goes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_api::http::QueueSettings;
use muster_client::Client;
use muster_loadtest::measure::{submission, work};
use muster_runtime::{Clock, Random};
use muster_tests::deployment::{Deployment, Size};
use muster_tests::kubernetes::{Cluster, NodeSpec, Part, Spec};
use muster_tests::process::{Process, Program};
use muster_tests::usage;

/// The executor is a program of its own.
const SIZE: Size = Size { gateways: 1, shards: 1, executors: 0 };
/// The name of the cluster for Muster.
pub(crate) const CLUSTER: &str = "bench";
/// The namespace of the pods.
pub(crate) const NAMESPACE: &str = "default";
/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// Seconds of processor time by who spent them.
pub(crate) type Spent = Vec<(&'static str, f64)>;

pub(crate) struct Plant {
    pub(crate) cluster: Cluster,
    pub(crate) deployment: Deployment,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    executors: u32,
}

impl Plant {
    /// Starts all but the executor.
    pub(crate) async fn start(nodes: Vec<NodeSpec>) -> Result<Self> {
        let cluster = Cluster::start(Spec::of(nodes)).await?;
        ensure!(cluster.kubelet().is_some(), "there is nothing to measure on a given cluster");
        let deployment = Deployment::start(SIZE).await?;
        let client = deployment.client(0)?;
        Ok(Self { cluster, deployment, client, clock: Clock::system(), executors: 0 })
    }

    /// Starts an executor who is who the kubeconfig says, and waits until it serves the cluster.
    pub(crate) async fn executor(
        &mut self,
        kubeconfig: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Process> {
        self.executors += 1;
        let state = self.deployment.log_dir().join("state");
        std::fs::create_dir_all(&state)?;
        let program = Program::built("muster")?
            .args(["executor", "--backend", "kubernetes", "--cluster", CLUSTER, "--shards", "4"])
            .args(["--bus", &self.deployment.nats.url(), "--state-dir"])
            .arg(state)
            .env("MUSTER_EXECUTOR__KUBERNETES__KUBECONFIG", kubeconfig)
            .envs(settings.iter().copied());
        let name = format!("executor-{}", self.executors);
        let mut process = program.spawn(&name, self.deployment.log_dir())?;
        process.until_logged("executor serves the cluster", PATIENCE).await?;
        Ok(process)
    }

    /// The same as administrator, waiting for the leader too; pods go as soon as their end is
    /// known.
    pub(crate) async fn leased_executor(&mut self) -> Result<Process> {
        let kubeconfig = self.cluster.kubeconfig().to_owned();
        let mut process = self.executor(&kubeconfig, &CLEANING).await?;
        process.until_logged("leader answers", PATIENCE).await?;
        Ok(process)
    }

    /// Lets an executor end in good order, so that the next need not wait for its lease to run out.
    pub(crate) async fn stop(&self, mut executor: Process) -> Result<()> {
        executor.terminate()?;
        executor.wait(PATIENCE).await?;
        Ok(())
    }

    /// Whether jobs of a queue may be leased.
    pub(crate) async fn queue(&self, name: &str, cordoned: bool) -> Result<()> {
        let settings = QueueSettings { cordoned, ..QueueSettings::default() };
        self.client.put_queue(name, &settings).await.with_context(|| format!("set {name}"))?;
        Ok(())
    }

    /// Submits jobs that end at once, each with a spec of its own of about a kilobyte.
    pub(crate) async fn submit(&self, queue: &str, jobs: usize) -> Result<()> {
        let run = Random::from_os().u64();
        for (number, body) in work::bodies(jobs, jobs).into_iter().enumerate() {
            let key = format!("{run}-{number}");
            self.client.submit(&submission(queue, body, key)).await?;
        }
        Ok(())
    }

    /// Processor time of everybody so far.
    pub(crate) fn spent(&mut self, executor: Option<&Process>) -> Result<Spent> {
        let mut spent = Spent::new();
        let plane = self.cluster.control_plane().context("a cluster of this process")?;
        for part in Part::ALL {
            spent.push((part.name(), usage::cpu_seconds(plane.process(part)?.id())?));
        }
        if let Some(executor) = executor {
            spent.push(("executor", usage::cpu_seconds(executor.id())?));
        }
        let nats = self.deployment.nats.process_id().context("nats-server runs")?;
        spent.push(("shard worker", usage::cpu_seconds(self.deployment.shards[0].process().id())?));
        spent.push(("gateway", usage::cpu_seconds(self.deployment.gateways[0].process().id())?));
        spent.push(("NATS", usage::cpu_seconds(nats)?));
        let kubelet = usage::cpu_seconds_of_threads("kubelet")?;
        spent.push(("virtual kubelet", kubelet));
        let own = usage::cpu_seconds(std::process::id())? - kubelet;
        spent.push(("load generator", own));
        Ok(spent)
    }
}

/// Pods are removed as soon as their end is known to their shard.
pub(crate) const CLEANING: [(&str, &str); 1] =
    [("MUSTER_EXECUTOR__KUBERNETES__ENDED_PODS_MAX", "0")];

/// What was spent between two looks.
pub(crate) fn between(before: &Spent, after: &Spent) -> Spent {
    let since = |name: &str| before.iter().find(|(of, _)| *of == name).map_or(0.0, |(_, it)| *it);
    after.iter().map(|(name, seconds)| (*name, seconds - since(name))).collect()
}

//! A cluster that exists in memory only: nodes that hold what they are said to hold, pods that run
//! for a while and end. One task and one heap of timers, whatever the number of pods.
//!
//! What the cluster is told goes to a log at once, and all its pods to a file at most once a
//! second: a restart finds them, also after SIGKILL. A crash of the machine may lose the end of the
//! log; what is lost is settled with the shards like with any cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_core::Name;
use muster_core::resources::{CPU, MEMORY, PODS, Resources};
use muster_core::shape::Taint;
use muster_runtime::tasks::{Policy, Supervisor};
use muster_runtime::{Blocking, Clock};
use tokio::sync::mpsc;

use crate::backend::handle::{Handle, handle};
use crate::backend::{
    Adopted, ClusterBackend, EPHEMERAL_STORAGE, Error, Grace, Node, NodeChange, Opened, Piece,
    Start,
};
use crate::config::{NodeGroup, SimulatedConfig};
use crate::limits;
use crate::runs::RunKey;

mod file;
mod pods;
mod spec;
mod worker;

pub use spec::{ParseError, RunTime, SimulatedSpec};

use pods::Pods;
use worker::{Command, Worker};

/// How often a waiting reader of output looks again.
const LOGS_POLL: Duration = Duration::from_millis(100);

/// The storage of each node: jobs often ask for some, and none is used.
const NODE_STORAGE: &str = "1Ti";

/// What a simulated cluster is made of.
pub struct Params {
    /// The cluster's name.
    pub cluster: String,
    /// Its settings.
    pub config: SimulatedConfig,
    /// Where its file is kept.
    pub state_dir: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Where its file is read and written.
    pub blocking: Blocking,
    /// Who runs its task.
    pub tasks: Supervisor,
}

struct Simulated {
    nodes: Vec<Node>,
    clock: Clock,
    commands: Handle<Command>,
}

/// Opens the cluster with the pods that its file names.
///
/// # Errors
/// When the file is there but cannot be read, or the settings name no quantities.
pub async fn open(params: Params) -> Result<Opened, Error> {
    let path = params.state_dir.join(format!("simulated-{}.json", params.cluster));
    let nodes = nodes(&params.cluster, &params.config)?;
    let pods = Pods::new(&params.config);
    let (file, saved) = file::File::open(path, params.blocking).await?;
    tracing::info!(cluster = %params.cluster, pods = saved.len(), "simulated cluster opened");
    let (commands, commands_out) = handle();
    let (events, events_out) = mpsc::channel(limits::EVENTS_MAX);
    let worker = Worker::new(pods, saved, file, params.clock.clone(), commands_out, events);
    let name = format!("simulated-cluster-{}", params.cluster);
    params.tasks.spawn_once(name, Policy::VITAL, |cancel| worker.run(cancel));
    let backend = Arc::new(Simulated { nodes, clock: params.clock, commands });
    Ok(Opened { backend, events: events_out })
}

#[async_trait]
impl ClusterBackend for Simulated {
    async fn nodes(&self) -> Result<Vec<Node>, Error> {
        Ok(self.nodes.clone())
    }

    async fn node_changes(&self) -> Result<Vec<NodeChange>, Error> {
        std::future::pending().await
    }

    async fn adopt(&self) -> Result<Vec<Adopted>, Error> {
        self.commands.ask(Command::Adopt).await
    }

    async fn start(&self, start: Start) {
        self.commands.tell(Command::Start(Box::new(start))).await;
    }

    async fn stop(&self, run: RunKey, _grace: Grace) {
        self.commands.tell(Command::Stop(run)).await;
    }

    async fn settle(&self, run: RunKey) {
        self.commands.tell(Command::Settle(run)).await;
    }

    async fn logs(
        &self,
        run: RunKey,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error> {
        let deadline = self.clock.monotonic() + wait;
        loop {
            let output = self.commands.ask(|answer| Command::Output(run, answer)).await?;
            let (text, end) =
                output.ok_or(Error::NoOutput { job: run.job, attempt: run.attempt })?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            let to = from.saturating_add(limit).min(text.len());
            let end = end && to == text.len();
            if to > from || end || self.clock.monotonic() >= deadline {
                return Ok(Piece { data: Bytes::copy_from_slice(&text.as_bytes()[from..to]), end });
            }
            self.clock.sleep(LOGS_POLL).await;
        }
    }
}

fn nodes(cluster: &str, config: &SimulatedConfig) -> Result<Vec<Node>, Error> {
    if config.groups.is_empty() {
        let all = NodeGroup {
            name: "node".to_owned(),
            nodes: config.nodes,
            cpu: None,
            memory: None,
            pods: None,
            resources: BTreeMap::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
        };
        return group(cluster, config, &all);
    }
    let groups = config.groups.iter().map(|each| group(cluster, config, each));
    Ok(groups.collect::<Result<Vec<_>, _>>()?.concat())
}

fn group(cluster: &str, config: &SimulatedConfig, group: &NodeGroup) -> Result<Vec<Node>, Error> {
    let mut allocatable = Resources::new();
    let pods = group.pods.unwrap_or(config.pods).to_string();
    let own = [
        (CPU, group.cpu.as_ref().unwrap_or(&config.cpu).as_str()),
        (MEMORY, group.memory.as_ref().unwrap_or(&config.memory)),
        (PODS, &pods),
        (EPHEMERAL_STORAGE, NODE_STORAGE),
    ];
    let more = group.resources.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    for (name, text) in own.into_iter().chain(more) {
        let quantity = text.parse().map_err(|error| Error::State {
            path: format!("settings of cluster {cluster}"),
            reason: format!("{name}: {error}"),
        })?;
        allocatable.set(name.into(), quantity);
    }
    let name = |text: &String| Name::from(text.as_str());
    let taints = group.taints.iter().map(|taint| Taint {
        key: name(&taint.key),
        value: name(&taint.value),
        effect: taint.effect.name().into(),
    });
    let taints: Vec<Taint> = taints.collect();
    let node = |n: u32| {
        let host: Name = format!("{cluster}-{}-{n}", group.name).into();
        let mut labels: BTreeMap<Name, Name> =
            group.labels.iter().map(|(key, value)| (name(key), name(value))).collect();
        labels.insert("kubernetes.io/hostname".into(), host.clone());
        labels.insert("muster.dev/backend".into(), "simulated".into());
        let (taints, allocatable) = (taints.clone(), allocatable.clone());
        Node { name: host, labels, taints, allocatable, schedulable: true }
    };
    Ok((1..=group.nodes).map(node).collect())
}

#[cfg(test)]
mod tests {
    use muster_core::shape::POOL_LABEL;

    use super::*;

    #[test]
    fn nodes_come_in_groups_with_labels_taints_and_resources() {
        let text = r#"{ "cpu": "8", "groups": [
            { "name": "plain", "nodes": 2 },
            { "name": "gpu", "nodes": 1, "cpu": "64",
              "resources": { "nvidia.com/gpu": "4" },
              "labels": { "muster.dev/pool": "gpu" },
              "taints": [{ "key": "gpu", "effect": "NoSchedule" }] }
        ]}"#;
        let config: SimulatedConfig = serde_json::from_str(text).unwrap();
        let nodes = nodes("c", &config).unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["c-plain-1", "c-plain-2", "c-gpu-1"]);
        let amount = |node: usize, name| nodes[node].allocatable.get(name).to_string();
        assert_eq!((amount(0, CPU), amount(2, CPU)), ("8".to_owned(), "64".to_owned()));
        assert_eq!((amount(0, MEMORY), amount(2, MEMORY)), ("64Gi".to_owned(), "64Gi".to_owned()));
        assert_eq!(amount(2, "nvidia.com/gpu"), "4");
        assert_eq!(nodes[0].labels.get(POOL_LABEL), None);
        assert_eq!(nodes[2].labels[POOL_LABEL], "gpu".into());
        let taint = Taint { key: "gpu".into(), value: "".into(), effect: "NoSchedule".into() };
        assert_eq!((nodes[0].taints.len(), &nodes[2].taints), (0, &vec![taint]));
    }
}

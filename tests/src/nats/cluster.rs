//! A cluster of real NATS servers with JetStream on loopback, whose nodes can be broken one by one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::binary;
use crate::process::{Process, Program, free_port};
use crate::wait::eventually;

/// How long a node may take until its part of JetStream is current.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one look at a node's health may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A cluster. Its nodes end, and their directories go, when dropped.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Node>,
    directory: TempDir,
}

#[derive(Debug)]
struct Node {
    name: String,
    port: u16,
    health_port: u16,
    config: PathBuf,
    process: Option<Process>,
}

impl NatsCluster {
    /// Starts so many nodes, and waits until they have found each other.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::start_in(TempDir::with_prefix("muster-nats-")?, nodes).await
    }

    /// The same in a directory, where node `n` keeps its data in `n{n}`.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start_in(directory: TempDir, nodes: usize) -> Result<Self> {
        let ports = |count| (0..count).map(|_| free_port()).collect::<Result<Vec<_>>>();
        let (clients, routes, health) = (ports(nodes)?, ports(nodes)?, ports(nodes)?);
        let mut cluster = Self { nodes: Vec::new(), directory };
        for number in 0..nodes {
            let name = format!("n{number}");
            let config = cluster.directory.path().join(format!("{name}.conf"));
            let (port, health_port) = (clients[number], health[number]);
            let store = cluster.directory.path().join(&name);
            std::fs::create_dir_all(&store)?;
            let text = settings(&name, (port, routes[number], health_port), &routes, &store);
            std::fs::write(&config, text)?;
            cluster.nodes.push(Node { name, port, health_port, config, process: None });
        }
        for number in 0..nodes {
            cluster.spawn(number)?;
        }
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// How many nodes there are, up or down.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Where the nodes take clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from(([127, 0, 0, 1], node.port))).collect()
    }

    /// All of them as a URL of `bus.url`.
    pub fn url(&self) -> String {
        let addresses = self.addresses().iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        format!("nats://{}", addresses.join(","))
    }

    /// Where a node keeps its data.
    pub fn store_dir(&self, node: usize) -> PathBuf {
        self.directory.path().join(&self.nodes[node].name)
    }

    /// What a node has logged.
    ///
    /// # Errors
    /// When it is down, or its file cannot be read.
    pub fn log(&self, node: usize) -> Result<String> {
        self.nodes[node].process.as_ref().context("the node is down")?.log()
    }

    /// Whether a node runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self, node: usize) -> Result<bool> {
        self.nodes[node].process.as_mut().map_or(Ok(false), Process::is_running)
    }

    /// SIGKILL to a node.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill9(&mut self, node: usize) -> Result<()> {
        self.nodes[node].process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Removes all that a node keeps. Only while it is down.
    ///
    /// # Errors
    /// When it runs, or something cannot be removed.
    pub fn wipe(&mut self, node: usize) -> Result<()> {
        ensure!(self.nodes[node].process.is_none(), "a node is wiped while it is down");
        let store = self.store_dir(node);
        for entry in std::fs::read_dir(&store)? {
            let path = entry?.path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Starts a node that is down; see [`NatsCluster::until_ready`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn(&mut self, node: usize) -> Result<()> {
        let directory = self.directory.path().to_owned();
        let node = &mut self.nodes[node];
        ensure!(node.process.is_none(), "{} runs", node.name);
        let program = Program::at(binary()?).arg("--config").arg(&node.config);
        node.process = Some(program.spawn(&node.name, &directory)?);
        Ok(())
    }

    /// The process of a node that is up, to signal it.
    ///
    /// # Errors
    /// When it is down.
    pub fn process(&mut self, node: usize) -> Result<&mut Process> {
        self.nodes[node].process.as_mut().context("the node is down")
    }

    /// Waits until every node that runs says that its JetStream is current.
    ///
    /// # Errors
    /// When one does not.
    pub async fn until_ready(&self) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(PROBE_TIMEOUT).build()?;
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            let url = format!("http://127.0.0.1:{}/healthz", node.health_port);
            let what = format!("NATS node {} is current", node.name);
            eventually(READY_TIMEOUT, &what, async || {
                let answer = client.get(&url).send().await?;
                let (status, said) = (answer.status(), answer.text().await?);
                ensure!(status.is_success(), "{status}: {said}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

fn settings(
    name: &str,
    (port, route_port, health_port): (u16, u16, u16),
    routes: &[u16],
    store: &Path,
) -> String {
    let routes = routes.iter().map(|port| format!("\"nats-route://127.0.0.1:{port}\""));
    let routes = routes.collect::<Vec<_>>().join(", ");
    // Without `no_advertise` clients learn of the other nodes' own addresses, around their links.
    format!(
        "server_name: {name}\n\
         listen: \"127.0.0.1:{port}\"\n\
         http: \"127.0.0.1:{health_port}\"\n\
         jetstream {{ store_dir: \"{}\" }}\n\
         cluster {{\n  name: muster\n  listen: \"127.0.0.1:{route_port}\"\n  \
         routes: [{routes}]\n  no_advertise: true\n}}\n",
        store.display()
    )
}

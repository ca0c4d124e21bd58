//! A kubelet for every virtual node of a cluster, inside the test process: it registers the nodes,
//! watches the pods bound to them, and reports of them what a real one would, as their annotations
//! say ([`super::Behaviour`]).
//!
//! It takes a pod only when it fits by the requests of the others, as a real one does, and reports
//! the end of a deleted pod before it removes it. Nothing runs.

mod logs;
mod pods;
mod room;
mod status;
mod tracked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::{TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::runtime::Runtime;

use super::node::NodeSpec;
use super::{ControlPlane, kubeconfig};
use logs::Logs;
use pods::Pods;
use room::Room;

/// Nodes that are registered at the same time.
const REGISTRATIONS: usize = 16;

/// What plays the nodes of a cluster. It ends when dropped: then nothing moves any more.
#[derive(Debug)]
pub struct Kubelet {
    shared: Arc<Shared>,
    /// Where the API server asks for logs.
    port: u16,
    running: Option<Runtime>,
}

/// What handle and tasks both know.
#[derive(Debug)]
struct Shared {
    nodes: Mutex<BTreeMap<String, Room>>,
    silent: Mutex<BTreeSet<String>>,
    logs: Logs,
    log: Mutex<File>,
    /// By how many seconds its clock is ahead.
    ahead: AtomicI64,
}

impl Shared {
    fn room<T>(&self, node: &str, look: impl FnOnce(&mut Room) -> T) -> Option<T> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get_mut(node).map(look)
    }

    fn is_silent(&self, node: &str) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    /// The time by its clock.
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    /// A line into its log file. Where even that fails, nobody is there to be told.
    fn log(&self, line: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(log, "{} {line}", Timestamp::now());
    }
}

impl Kubelet {
    /// Starts it, without a node.
    pub(super) async fn start(plane: &ControlPlane) -> Result<Self> {
        let log = File::options().create(true).append(true).open(plane.log_of("kubelet"))?;
        let shared = Arc::new(Shared {
            nodes: Mutex::default(),
            silent: Mutex::default(),
            logs: Logs::default(),
            log: Mutex::new(log),
            ahead: AtomicI64::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        // A runtime of its own: a test that is busy does not hold the pods up.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kubelet")
            .enable_all()
            .build()?;
        let path = plane.kubeconfig("kubelet");
        let client = runtime.spawn(async move { kubeconfig::client(&path).await });
        let client = client.await.context("the kubelet panicked")??;
        let acceptor = plane.authority().server("kubelet")?.acceptor()?;
        logs::serve(&runtime, listener, acceptor, Arc::clone(&shared))?;
        // It ends with the runtime, which the handle owns.
        drop(runtime.spawn(Pods::new(client, Arc::clone(&shared)).run()));
        Ok(Self { shared, port, running: Some(runtime) })
    }

    /// Registers nodes.
    pub(super) async fn add_nodes(&self, client: &Client, nodes: &[NodeSpec]) -> Result<()> {
        let api = Api::<Node>::all(client.clone());
        stream::iter(nodes.iter().map(anyhow::Ok))
            .try_for_each_concurrent(REGISTRATIONS, async |spec| {
                let room = Room::of(spec)?;
                self.lock_nodes().insert(spec.name.clone(), room);
                let node: Node = serde_json::from_value(spec.object(self.port))?;
                let created = api.create(&PostParams::default(), &node).await;
                created.with_context(|| format!("register the node {}", spec.name)).map(|_| ())
            })
            .await
    }

    /// Sets its clock so many seconds before everybody else's, or behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Nothing moves on a node any more: its pods neither start nor end nor die.
    pub fn silence(&self, node: &str) {
        self.silent().insert(node.to_owned());
    }

    /// After [`Kubelet::silence`]: what was due meanwhile happens now.
    pub fn resume(&self, node: &str) {
        self.silent().remove(node);
    }

    /// A node is lost: silent, and not ready as far as anybody knows. The controllers do the rest.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn lose(&self, client: &Client, node: &str) -> Result<()> {
        self.silence(node);
        report(client, node, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
            .await
    }

    /// A lost node is back, with what ran there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn find(&self, client: &Client, node: &str) -> Result<()> {
        self.resume(node);
        report(client, node, "True", "KubeletReady", "kubelet is posting ready status").await
    }

    fn lock_nodes(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Room>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

/// Sets whether a node is ready.
async fn report(
    client: &Client,
    node: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<()> {
    let now = status::time(Timestamp::now());
    let patch = json!({ "status": { "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }] } });
    let api = Api::<Node>::all(client.clone());
    let patched = api.patch_status(node, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.with_context(|| format!("report of the node {node}")).map(|_| ())
}

//! A Kubernetes cluster: a real API server on a real store, with the real controllers and the real
//! scheduler, RBAC on. Only the nodes are virtual: a [`Kubelet`] inside the test process plays all
//! of them, and lets pods start, run and end as their annotations say.
//!
//! With `MUSTER_TEST_KUBECONFIG` set there is nothing to start: the tests run against the cluster
//! that it names, in namespaces and with service accounts that they make there. What needs a
//! kubelet that obeys is left out then; [`Cluster::kubelet`] says so.

mod behaviour;
mod control_plane;
mod extension;
mod kubeconfig;
mod kubelet;
mod manifests;
mod node;
mod proxy;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use tempfile::TempDir;

use crate::wait::eventually;
pub use behaviour::{Behaviour, PREFIX};
pub use control_plane::{ControlPlane, Part, VERSION};
pub use extension::{Admission, Extension};
pub use kubelet::Kubelet;
pub use node::NodeSpec;
pub use proxy::{ApiFault, ApiProxy, Certificate, Target};

/// How long anything of a cluster may take until it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the token of a service account holds: longer than any test.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its nodes.
    pub nodes: Vec<NodeSpec>,
    /// How long pods stay on a node that is not ready or lost, where they do not say.
    pub pods_leave_lost_nodes_after: Duration,
}

impl Default for Spec {
    /// No nodes, and what Kubernetes does by default.
    fn default() -> Self {
        Self { nodes: Vec::new(), pods_leave_lost_nodes_after: Duration::from_secs(300) }
    }
}

impl Spec {
    /// One with such nodes.
    pub fn of(nodes: impl IntoIterator<Item = NodeSpec>) -> Self {
        Self { nodes: nodes.into_iter().collect(), ..Self::default() }
    }
}

/// A cluster. What was started for it ends when dropped; its directory goes, unless the test
/// panics: then it stays, with the logs of all parts.
pub struct Cluster {
    // Before the control plane, that it does not complain when that goes.
    kubelet: Option<Kubelet>,
    control_plane: Option<ControlPlane>,
    kubeconfig: PathBuf,
    client: Client,
    directory: TempDir,
}

impl Cluster {
    /// Starts one and waits until its nodes are ready; or takes the one that
    /// `MUSTER_TEST_KUBECONFIG` names, with the nodes that it has.
    ///
    /// # Errors
    /// When a part does not start, or the nodes do not get ready.
    pub async fn start(spec: Spec) -> Result<Self> {
        let directory = TempDir::with_prefix("muster-kubernetes-")?;
        if let Some(given) = std::env::var_os("MUSTER_TEST_KUBECONFIG") {
            let kubeconfig = PathBuf::from(given);
            let client = kubeconfig::client(&kubeconfig).await?;
            return Ok(Self { kubelet: None, control_plane: None, kubeconfig, client, directory });
        }
        let patience = spec.pods_leave_lost_nodes_after;
        let control_plane = ControlPlane::start(directory.path(), patience).await?;
        let kubeconfig = control_plane.kubeconfig("admin");
        let client = kubeconfig::client(&kubeconfig).await?;
        let kubelet = Some(Kubelet::start(&control_plane).await?);
        let control_plane = Some(control_plane);
        let cluster = Self { kubelet, control_plane, kubeconfig, client, directory };
        cluster.until_account("default").await?;
        cluster.add_nodes(&spec.nodes).await?;
        Ok(cluster)
    }

    /// As the administrator.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What plays the nodes. Not there in a cluster that was given: its kubelets do not obey.
    pub fn kubelet(&self) -> Option<&Kubelet> {
        self.kubelet.as_ref()
    }

    /// What runs the cluster, to be broken. Not there in a cluster that was given.
    pub fn control_plane(&mut self) -> Option<&mut ControlPlane> {
        self.control_plane.as_mut()
    }

    /// A way to the API server on which requests can go wrong.
    ///
    /// # Errors
    /// When the cluster was given, or no port is free.
    pub fn proxy(&self) -> Result<ApiProxy> {
        ApiProxy::start(self.control_plane.as_ref().context("no way leads to a given cluster")?)
    }

    /// A server that the API server can turn to; so far it does not.
    ///
    /// # Errors
    /// When the cluster was given, or no port is free.
    pub fn extension(&self) -> Result<Extension> {
        let plane = self.control_plane.as_ref();
        Extension::start(plane.context("a cluster that was given is not extended")?.authority())
    }

    /// A kubeconfig of an administrator who shows a certificate that holds until the end of that
    /// year. Asked for again, the certificate is replaced.
    ///
    /// # Errors
    /// When the cluster was given, or a file cannot be written.
    pub fn certified(&self, year: i32) -> Result<PathBuf> {
        let plane = self.control_plane.as_ref().context("nobody certifies for a given cluster")?;
        let pair = plane.authority().client_until("certified", &["system:masters"], year)?;
        let path = self.directory.path().join("certified.kubeconfig");
        kubeconfig::write_certified(&self.kubeconfig, &path, &pair)?;
        Ok(path)
    }

    /// Where the logs of all parts stand.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Adds nodes, and waits until all can take pods.
    ///
    /// # Errors
    /// When the cluster was given, or they do not get ready.
    pub async fn add_nodes(&self, nodes: &[NodeSpec]) -> Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let kubelet = self.kubelet.as_ref().context("a cluster that was given keeps its nodes")?;
        kubelet.add_nodes(&self.client, nodes).await?;
        let all = Api::<Node>::all(self.client());
        eventually(READY_TIMEOUT, "the nodes take pods", async || {
            let listed = all.list(&ListParams::default()).await?;
            let there = listed.items.iter().filter(|node| node::is_ready(node)).count();
            let ours: BTreeMap<_, _> =
                nodes.iter().map(|node| (node.name.as_str(), node)).collect();
            let ready = listed.items.iter().filter(|node| {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                ours.contains_key(name) && node::is_ready(node)
            });
            let ready = ready.count();
            ensure!(ready == nodes.len(), "{ready} of {} are ready, {there} in all", nodes.len());
            Ok(())
        })
        .await
    }

    /// Makes a namespace, unless it is there, and waits until pods can be created in it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let created = Api::all(self.client()).create(&PostParams::default(), &namespace).await;
        unless_there(created).with_context(|| format!("create the namespace {name}"))?;
        self.until_account(name).await
    }

    /// Applies a manifest of one or more documents, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// When it cannot be read, or a part of it is refused.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        manifests::apply(&self.client, manifest, None).await
    }

    /// The same into a namespace, as `kubectl apply --namespace` does.
    ///
    /// # Errors
    /// As for [`Cluster::apply`].
    pub async fn apply_in(&self, namespace: &str, manifest: &str) -> Result<()> {
        manifests::apply(&self.client, manifest, Some(namespace)).await
    }

    /// The kubeconfig of a service account, which is made unless it is there. It may do nothing
    /// beyond what roles bound to it say. Its token stands in a file beside; a further call writes
    /// a new one there.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn user(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        unless_there(accounts.create(&PostParams::default(), &account).await)?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        let token = answer.status.and_then(|status| status.token);
        let token = token.context("the answer holds no token")?;
        let token_file = self.directory.path().join(format!("{namespace}.{name}.token"));
        std::fs::write(&token_file, token)?;
        let path = self.directory.path().join(format!("{namespace}.{name}.kubeconfig"));
        kubeconfig::write_beside(&self.kubeconfig, &path, &token_file)?;
        Ok(path)
    }

    /// Deletes a service account and makes it anew: the tokens that it had are void, and a new one
    /// stands where [`Cluster::user`] has written it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn replace_user(&self, namespace: &str, name: &str) -> Result<()> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        accounts.delete(name, &DeleteParams::default()).await?;
        self.user(namespace, name).await.map(|_| ())
    }

    /// A client for a kubeconfig, such as that of [`Cluster::user`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn client_of(&self, kubeconfig: &Path) -> Result<Client> {
        kubeconfig::client(kubeconfig).await
    }

    /// Pods are refused before the account that they run as is there.
    async fn until_account(&self, namespace: &str) -> Result<()> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let what = format!("the namespace {namespace} has its account");
        eventually(READY_TIMEOUT, &what, async || {
            accounts.get("default").await?;
            Ok(())
        })
        .await
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.directory.disable_cleanup(std::thread::panicking());
    }
}

/// What already stands there is as good as made.
fn unless_there<T>(created: kube::Result<T>) -> Result<()> {
    match created {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error.into()),
    }
}

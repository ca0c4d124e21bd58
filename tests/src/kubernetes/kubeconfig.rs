//! Files that say where an API server is and who asks.

use std::path::Path;

use anyhow::{Context, Result};
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::authority::Pair;

/// The name that stands for cluster, user and context alike.
const NAME: &str = "muster-test";

/// A client for what a file says.
pub(super) async fn client(path: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Writes one for the API server there, which the authority certifies.
pub(super) fn write(path: &Path, server: &str, authority: &Path, token_file: &Path) -> Result<()> {
    let cluster = Cluster {
        server: Some(server.to_owned()),
        certificate_authority: authority.to_str().map(str::to_owned),
        ..Cluster::default()
    };
    write_for(path, &cluster, &json!({ "tokenFile": token_file }))
}

/// Writes one for the API server of another, and a user who shows a certificate.
pub(super) fn write_certified(other: &Path, path: &Path, pair: &Pair) -> Result<()> {
    let (cluster, _) = current(other)?;
    let user = json!({ "client-certificate": pair.certificate, "client-key": pair.key });
    write_for(path, &cluster, &user)
}

/// Writes one for the API server of another, and another user.
pub(super) fn write_beside(other: &Path, path: &Path, token_file: &Path) -> Result<()> {
    let (cluster, _) = current(other)?;
    write_for(path, &cluster, &json!({ "tokenFile": token_file }))
}

/// Writes one for the user of another, and a server through which the same one is reached.
pub(super) fn write_through(
    direct: &Path,
    path: &Path,
    server: &str,
    authority: &Path,
) -> Result<()> {
    let (_, user) = current(direct)?;
    let token_file = user.token_file.context("the user has no file with a token")?;
    write(path, server, authority, Path::new(&token_file))
}

/// The cluster and the user of the current context.
fn current(path: &Path) -> Result<(Cluster, AuthInfo)> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let current = file.current_context.context("the kubeconfig has no current context")?;
    let named = file.contexts.into_iter().find(|context| context.name == current);
    let wanted = named.and_then(|context| context.context).context("the context is not there")?;
    let named = file.clusters.into_iter().find(|cluster| cluster.name == wanted.cluster);
    let cluster = named.and_then(|named| named.cluster).context("the cluster is not there")?;
    let named = file.auth_infos.into_iter().find(|user| Some(&user.name) == wanted.user.as_ref());
    let user = named.and_then(|named| named.auth_info).unwrap_or_default();
    Ok((cluster, user))
}

fn write_for(path: &Path, cluster: &Cluster, user: &Value) -> Result<()> {
    // JSON is YAML too.
    let written = serde_json::to_vec_pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": NAME, "cluster": cluster }],
        "users": [{ "name": NAME, "user": user }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME } }],
        "current-context": NAME,
    }))?;
    std::fs::write(path, written).with_context(|| format!("write {}", path.display()))
}

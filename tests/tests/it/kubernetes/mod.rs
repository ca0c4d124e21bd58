//! Kubernetes: the cluster of the harness, and what Muster does on one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerState, Pod, PodStatus};
use kube::Api;
use kube::api::PostParams;
use muster_tests::kubernetes::{Behaviour, Cluster};
use muster_tests::wait::eventually;
use serde_json::Value;

mod armada;
mod cluster;
mod ends;
mod executor;
mod interrupted;
mod reach;
mod rights;
mod survives;
mod whole;

/// How long anything may take that these tests wait for.
const WAIT: Duration = Duration::from_secs(240);

/// The pods of a namespace.
fn pods(cluster: &Cluster, namespace: &str) -> Api<Pod> {
    Api::namespaced(cluster.client(), namespace)
}

/// Creates a pod that does this.
async fn create(api: &Api<Pod>, name: &str, behaviour: &Behaviour) {
    create_as(api, behaviour.pod(name)).await;
}

async fn create_as(api: &Api<Pod>, pod: Value) {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    api.create(&PostParams::default(), &pod).await.unwrap();
}

/// Waits until a look at the status of a pod is content.
async fn until(
    api: &Api<Pod>,
    name: &str,
    what: &str,
    look: impl Fn(&PodStatus) -> bool,
) -> PodStatus {
    let outcome: Result<PodStatus> = eventually(WAIT, &format!("{name}: {what}"), async || {
        let status = api.get(name).await?.status.context("no status")?;
        ensure!(look(&status), "{status:?}");
        Ok(status)
    })
    .await;
    outcome.unwrap()
}

async fn until_phase(api: &Api<Pod>, name: &str, phase: &str) -> PodStatus {
    until(api, name, phase, |status| status.phase.as_deref() == Some(phase)).await
}

/// Waits until a pod is gone.
async fn until_gone(api: &Api<Pod>, name: &str) {
    let what = format!("{name} is gone");
    let gone = eventually(WAIT, &what, async || {
        ensure!(api.get_opt(name).await?.is_none(), "it is there");
        Ok(())
    });
    gone.await.unwrap();
}

/// The state of a pod's first container.
fn state(status: &PodStatus) -> ContainerState {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    containers.first().and_then(|container| container.state.clone()).unwrap_or_default()
}

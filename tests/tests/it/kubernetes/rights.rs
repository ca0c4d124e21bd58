//! The rights of the manifests in `infra/kubernetes`: all that an executor needs, and no more.

use anyhow::ensure;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use muster_tests::kubernetes::Cluster;
use muster_tests::wait::eventually;

use super::WAIT;

/// The manifests that the project gives to administrators.
pub(super) const EXECUTOR: &str = include_str!("../../../../infra/kubernetes/executor.yaml");
pub(super) const JOBS_NAMESPACE: &str =
    include_str!("../../../../infra/kubernetes/jobs-namespace.yaml");
/// Where they put the executor, and as whom it runs.
pub(super) const NAMESPACE: &str = "muster";
pub(super) const ACCOUNT: &str = "muster-executor";

/// A namespace of jobs.
const TEAM: &str = "team-of-rights";

/// Verbs and resources, with their groups behind a dot.
type Rights = &'static [(&'static str, &'static str)];

const WORK: Rights = &[
    ("get", "pods"),
    ("create", "pods"),
    ("delete", "pods"),
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("create", "pods/binding"),
    ("list", "events"),
    ("get", "services"),
    ("create", "services"),
    ("get", "ingresses.networking.k8s.io"),
    ("create", "ingresses.networking.k8s.io"),
    ("list", "pods.metrics.k8s.io"),
    ("list", "nodes"),
    ("watch", "nodes"),
];
const NEVER: Rights = &[
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "pods/exec"),
    ("patch", "pods"),
    ("update", "pods"),
    ("deletecollection", "pods"),
    ("get", "configmaps"),
    ("delete", "services"),
    ("update", "services"),
    ("delete", "ingresses.networking.k8s.io"),
    ("update", "nodes"),
    ("delete", "nodes"),
    ("create", "namespaces"),
    ("create", "serviceaccounts/token"),
];
const NOT_ELSEWHERE: Rights =
    &[("create", "pods"), ("delete", "pods"), ("get", "pods"), ("get", "pods/log")];

pub(super) async fn the_executors_account_may_do_nothing_but_its_work(cluster: &Cluster) {
    for namespace in [TEAM, "others"] {
        cluster.namespace(namespace).await.unwrap();
    }
    cluster.apply(EXECUTOR).await.unwrap();
    cluster.apply_in(TEAM, JOBS_NAMESPACE).await.unwrap();
    let kubeconfig = cluster.user(NAMESPACE, ACCOUNT).await.unwrap();
    let client = cluster.client_of(&kubeconfig).await.unwrap();
    // Roles reach what checks them by a watch.
    let all = eventually(WAIT, "all that is needed is allowed", async || {
        let denied = of(&client, WORK, TEAM, false).await?;
        ensure!(denied.is_empty(), "{denied:?}");
        Ok(())
    });
    all.await.unwrap();
    let nothing: [&str; 0] = [];
    for namespace in [TEAM, "others", NAMESPACE] {
        assert_eq!(of(&client, NEVER, namespace, true).await.unwrap(), nothing, "{namespace}");
    }
    for namespace in ["others", NAMESPACE, "kube-system"] {
        let allowed = of(&client, NOT_ELSEWHERE, namespace, true).await.unwrap();
        assert_eq!(allowed, nothing, "{namespace}");
    }
}

/// Those of the rights that a client has in a namespace, or has not.
async fn of(
    client: &Client,
    rights: Rights,
    namespace: &str,
    allowed: bool,
) -> kube::Result<Vec<String>> {
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let mut found = Vec::new();
    for (verb, resource) in rights {
        let (resource_name, part) = match resource.split_once('/') {
            Some((resource, part)) => (resource, Some(part.to_owned())),
            None => (*resource, None),
        };
        let (resource_name, group) = match resource_name.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (resource_name, None),
        };
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            verb: Some((*verb).to_owned()),
            group: group.map(str::to_owned),
            resource: Some(resource_name.to_owned()),
            subresource: part,
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        if answer.status.is_some_and(|status| status.allowed) == allowed {
            found.push(format!("{verb} {resource}"));
        }
    }
    Ok(found)
}

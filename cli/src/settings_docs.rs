//! What each setting means: the table behind docs/configuration.md.

use std::sync::OnceLock;

use muster_runtime::config::FieldDoc;

const SHARED: &[(&str, &str)] = &[
    (
        "shards",
        "shards of the deployment; the store keeps the number of the first process, and another one is refused",
    ),
    ("shutdown_timeout", "how long each part of the process may take to end tidily"),
    ("log_format", "how the log on standard error looks: `text` or `json`"),
    ("bus.url", "`nats://host:port[,host:port…]`, `tls://…` or `memory://`"),
    (
        "bus.replicas",
        "copies that a NATS cluster keeps of each bucket, the same for every process: 3 where there are three nodes, so that one may be lost",
    ),
    (
        "bus.tls_ca_file",
        "root certificates (PEM) that a server of `tls://` is checked against; those of the system when there are none",
    ),
    ("store.url", "`s3://bucket/prefix`, `file:///dir` or `memory:///`"),
    ("store.endpoint", "URL of the S3 service; that of AWS when there is none"),
    ("store.region", "region of the bucket"),
    ("store.access_key_id", "id of the access key; else `AWS_ACCESS_KEY_ID`"),
    ("store.secret_access_key", "its secret; better given as `AWS_SECRET_ACCESS_KEY`"),
    ("store.allow_http", "whether the endpoint may be plain HTTP"),
    (
        "store.virtual_hosted_style",
        "whether the bucket stands in the host name instead of in the path",
    ),
    ("store.request_timeout", "how long one request to the store may take, its retries included"),
    ("store.connect_timeout", "how long connecting to the store may take"),
    (
        "store.retries_max",
        "how often the client repeats a request that the store answered with an error",
    ),
];

const EXECUTOR: &[(&str, &str)] = &[
    ("executor.cluster", "name of the cluster, unique in the deployment"),
    ("executor.pool", "pool of the nodes that have no label `muster.dev/pool`"),
    ("executor.state_dir", "directory for what must survive a restart of the executor"),
    ("executor.backend", "what runs the jobs: `local`, `simulated` or `kubernetes`"),
    ("executor.leases_max", "jobs that it takes in one answer"),
    (
        "executor.lease_wait",
        "how long the leader may hold a request when there is nothing to lease",
    ),
    (
        "executor.lease_interval_min",
        "least time between two lease requests; 100ms at least while one is held",
    ),
    ("executor.heartbeat_interval", "time between two signs of life"),
    ("executor.sync_interval", "time between two comparisons with each shard of what runs here"),
    ("executor.sync_first_timeout", "how long the first comparison may hold up leasing"),
    (
        "executor.record_runs",
        "whether each real start and end of a run is written to a file in the state directory, for audits",
    ),
    ("executor.shutdown_timeout", "how long reports under way may take when the executor stops"),
    ("executor.stop_runs_on_exit", "whether local processes are stopped with the executor"),
    ("executor.local.cpu", "cpu that is given away; the machine's when empty"),
    ("executor.local.memory", "memory that is given away; the machine's when empty"),
    ("executor.local.pods", "jobs at once"),
    ("executor.local.output_max", "bytes kept of a run's output"),
    ("executor.local.retention", "how long the directory of a run that ended is kept"),
    ("executor.local.ended_runs_max", "directories of ended runs kept at most"),
    ("executor.simulated.nodes", "virtual nodes"),
    ("executor.simulated.cpu", "cpu of each node"),
    ("executor.simulated.memory", "memory of each node"),
    ("executor.simulated.pods", "pods that each node holds"),
    (
        "executor.simulated.groups",
        "nodes that differ, in place of `nodes`: a list of tables (see below)",
    ),
    ("executor.simulated.start_delay", "time from lease to running"),
    (
        "executor.simulated.runtime",
        "how long pods run that do not say so: `2s`, `50ms..200ms`, `exp(1s)`",
    ),
    ("executor.simulated.failure_rate", "part of the pods that fail, 0 to 1, unless they say so"),
    ("executor.simulated.seed", "seed of run times and failures"),
    (
        "executor.kubernetes.kubeconfig",
        "kubeconfig that names the cluster; that of the pod it runs in, else of `KUBECONFIG` or `~/.kube/config`, when empty",
    ),
    ("executor.kubernetes.context", "context of the kubeconfig; its current one when empty"),
    (
        "executor.kubernetes.binding",
        "who binds pods to the chosen node: `scheduler` (the cluster's, which is given that one node) or `direct` (the executor)",
    ),
    (
        "executor.kubernetes.scheduler_name",
        "scheduler of pods whose job names none; the cluster's default one when empty",
    ),
    (
        "executor.kubernetes.keep_priority_class",
        "whether pods keep the priority class that their job names; otherwise they have the cluster's default one",
    ),
    ("executor.kubernetes.pool_label", "label of a node that names its pool"),
    (
        "executor.kubernetes.node_labels",
        "labels of nodes that jobs may select by; `*` stands for anything",
    ),
    (
        "executor.kubernetes.namespaces",
        "namespaces that jobs may have; `*` stands for anything, all when empty",
    ),
    (
        "executor.kubernetes.create_namespaces",
        "whether a namespace that is missing is created; otherwise its jobs fail",
    ),
    (
        "executor.kubernetes.requests_max",
        "requests that change something and may be under way at once; fewer are when the API server has trouble with them",
    ),
    ("executor.kubernetes.request_timeout", "how long the API server may take for a request"),
    (
        "executor.kubernetes.create_timeout",
        "how long a pod may be refused for what may pass (a quota, a webhook that is away) before its run is given up",
    ),
    (
        "executor.kubernetes.relist_interval",
        "time after which everything is listed anew, whatever the watches say",
    ),
    (
        "executor.kubernetes.kill_timeout",
        "how long after its grace period a pod that was told to end is removed by force",
    ),
    ("executor.kubernetes.retention", "how long a pod that ended well is kept"),
    ("executor.kubernetes.failed_retention", "how long a pod that ended badly is kept"),
    ("executor.kubernetes.ended_pods_max", "pods that ended and are kept at most"),
    (
        "executor.kubernetes.checks",
        "what is done with pods that do not come to run, before the built-in checks: a list of tables (see below)",
    ),
    (
        "executor.kubernetes.lease_name",
        "Lease object by which one executor serves the cluster at a time",
    ),
    (
        "executor.kubernetes.lease_namespace",
        "namespace of that object; that of the executor's pod or context when empty",
    ),
    (
        "executor.kubernetes.lease_duration",
        "how long an executor that says nothing is waited for before another takes over",
    ),
    (
        "executor.kubernetes.usage_interval",
        "time between two looks at what pods use, where the cluster has a metrics API; 0 means never",
    ),
    ("executor.kubernetes.ingress_domain", "domain in which ingresses of jobs have their hosts"),
    (
        "executor.kubernetes.ingress_class",
        "class of ingresses of jobs; the cluster's default one when empty",
    ),
    (
        "executor.kubernetes.ingress_cert_suffix",
        "what follows the namespace and a `-` in the name of the secret with the certificate of an ingress that names none",
    ),
];

/// Every setting, by section.
pub(crate) fn all() -> Vec<FieldDoc> {
    static ALL: OnceLock<Vec<FieldDoc>> = OnceLock::new();
    ALL.get_or_init(table).clone()
}

fn table() -> Vec<FieldDoc> {
    let plain = |table: &[(&'static str, &'static str)]| {
        table.iter().map(|(key, what)| FieldDoc::new(key, what)).collect::<Vec<_>>()
    };
    let mut docs = plain(SHARED);
    docs.extend(prefixed("admin", muster_runtime::http::admin::Config::docs()));
    docs.extend(prefixed("gateway", muster_gateway::Config::docs()));
    docs.extend(prefixed("shard", muster_shard::Config::docs()));
    docs.extend(plain(EXECUTOR));
    docs
}

/// A section's table under its name. The table is made once, so that what is leaked here is a few
/// kilobytes.
fn prefixed(section: &str, docs: Vec<FieldDoc>) -> Vec<FieldDoc> {
    docs.into_iter()
        .map(|doc| FieldDoc { key: format!("{section}.{}", doc.key).leak(), what: doc.what })
        .collect()
}

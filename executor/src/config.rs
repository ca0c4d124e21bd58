//! The executor's settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use muster_core::names;
use muster_core::quantity::Quantity;
use muster_core::shape::{DEFAULT_POOL, POOL_LABEL};
use muster_runtime::config::{ByteSize, HumanDuration, Problems};
use serde::{Deserialize, Serialize};

use crate::backend::simulated::RunTime;

mod kubernetes;

pub use kubernetes::{Binding, Check, KubernetesConfig, Remedy, Symptom, matches};

/// Settings of one executor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name of the cluster, unique in the deployment: letters, digits, `-` and `_`.
    pub cluster: String,
    /// The pool of the nodes that have no label `muster.dev/pool`.
    pub pool: String,
    /// The number of shards of the deployment.
    #[serde(skip)]
    pub shards: u16,
    /// Where runs and what is known of them are kept, so that a restart finds them.
    pub state_dir: PathBuf,
    /// What runs the jobs.
    pub backend: BackendKind,
    /// Settings of the `local` back end.
    pub local: LocalConfig,
    /// Settings of the `simulated` back end.
    pub simulated: SimulatedConfig,
    /// Settings of the `kubernetes` back end.
    pub kubernetes: KubernetesConfig,
    /// How many runs may be on their way from the leader to the cluster at the same time.
    pub leases_max: u32,
    /// How long the leader may hold a request for leases when there is nothing to lease.
    pub lease_wait: HumanDuration,
    /// Requests for leases are at least so far apart.
    pub lease_interval_min: HumanDuration,
    /// How often the executor says that it lives.
    pub heartbeat_interval: HumanDuration,
    /// How often the cluster's runs are compared with what the shards believe.
    pub sync_interval: HumanDuration,
    /// How long, at the start, shards that do not answer keep the executor from asking for leases.
    pub sync_first_timeout: HumanDuration,
    /// Whether every real start and end of a run is written to a file in the state directory that
    /// only grows: for tests and audits.
    pub record_runs: bool,
    /// How long the executor may take to hand in its reports when it is told to end.
    pub shutdown_timeout: HumanDuration,
    /// Whether runs are stopped when the executor ends; otherwise they run on and its next start
    /// takes them over.
    pub stop_runs_on_exit: bool,
}

/// What runs the jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Processes on this machine.
    #[default]
    Local,
    /// Nothing: nodes and pods exist in memory only.
    Simulated,
    /// A Kubernetes cluster.
    Kubernetes,
}

/// Settings of the `local` back end. It needs Linux.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Cpu that jobs may use in all, as a quantity; empty means all that the machine has.
    pub cpu: String,
    /// Memory that jobs may use in all, as a quantity; empty means all that the machine has.
    pub memory: String,
    /// How many jobs may run at the same time.
    pub pods: u32,
    /// The output kept of one run; what comes after it is discarded.
    pub output_max: ByteSize,
    /// How long the directory of an ended run, with its output, is kept.
    pub retention: HumanDuration,
    /// How many directories of ended runs are kept at most.
    pub ended_runs_max: usize,
    /// The program that keeps runs, if not the running one: [`crate::keep_run`] is what it does.
    #[serde(skip)]
    pub keeper: Option<PathBuf>,
}

/// Settings of the `simulated` back end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedConfig {
    /// How many nodes.
    pub nodes: u32,
    /// Cpu of each node, as a quantity.
    pub cpu: String,
    /// Memory of each node, as a quantity.
    pub memory: String,
    /// Pods that each node holds.
    pub pods: u32,
    /// Nodes that differ, group by group; when there are any, `nodes` does not count.
    pub groups: Vec<NodeGroup>,
    /// How long a pod takes until its containers run.
    pub start_delay: HumanDuration,
    /// How long a pod runs whose job has no annotation `muster.dev/simulated-runtime`: "2s",
    /// "50ms..200ms" (evenly spread) or "exp(1s)" (exponentially distributed around that mean).
    pub runtime: RunTime,
    /// The part of pods, 0 to 1, that fail, of those whose job has no annotation
    /// `muster.dev/simulated-failure-rate`.
    pub failure_rate: f64,
    /// What run times and failures are drawn from: the same seed gives the same run the same fate.
    pub seed: u64,
}

/// Nodes of a simulated cluster that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeGroup {
    /// Its name, a part of the nodes' names.
    pub name: String,
    /// How many nodes.
    pub nodes: u32,
    /// Cpu of each node, as a quantity; that of the section when it is missing.
    pub cpu: Option<String>,
    /// Memory of each node, as a quantity; that of the section when it is missing.
    pub memory: Option<String>,
    /// Pods that each node holds; those of the section when they are missing.
    pub pods: Option<u32>,
    /// Other resources of each node, as quantities: `nvidia.com/gpu`.
    #[serde(default)]
    pub resources: BTreeMap<String, String>,
    /// Labels; `muster.dev/pool` names the pool.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints.
    #[serde(default)]
    pub taints: Vec<NodeTaint>,
}

/// A taint of simulated nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTaint {
    /// The key.
    pub key: String,
    /// The value, if it has one.
    #[serde(default)]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// It keeps them away.
    NoSchedule,
    /// It keeps them away, and drives away those that run.
    NoExecute,
    /// Nothing here.
    PreferNoSchedule,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::NoExecute => "NoExecute",
            Self::PreferNoSchedule => "PreferNoSchedule",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "local".to_owned(),
            pool: DEFAULT_POOL.to_owned(),
            shards: 4,
            state_dir: PathBuf::from("executor"),
            backend: BackendKind::default(),
            local: LocalConfig::default(),
            simulated: SimulatedConfig::default(),
            kubernetes: KubernetesConfig::default(),
            leases_max: 2000,
            lease_wait: HumanDuration::secs(5),
            lease_interval_min: HumanDuration::millis(20),
            heartbeat_interval: HumanDuration::secs(2),
            sync_interval: HumanDuration::secs(10),
            sync_first_timeout: HumanDuration::secs(10),
            shutdown_timeout: HumanDuration::secs(5),
            stop_runs_on_exit: false,
            record_runs: false,
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            cpu: String::new(),
            memory: String::new(),
            pods: 110,
            output_max: ByteSize::mib(64),
            retention: HumanDuration::secs(3600),
            ended_runs_max: 10_000,
            keeper: None,
        }
    }
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self {
            nodes: 10,
            cpu: "16".to_owned(),
            memory: "64Gi".to_owned(),
            pods: 110,
            groups: Vec::new(),
            start_delay: HumanDuration::millis(0),
            runtime: RunTime::default(),
            failure_rate: 0.0,
            seed: 0,
        }
    }
}

impl Config {
    /// Adds everything that is wrong with the settings beyond the type of each.
    pub fn validate(&self, problems: &mut Problems) {
        if muster_runtime::bus::token(&self.cluster) != self.cluster {
            let name = &self.cluster;
            let reason = format!("`{name}` may hold letters, digits, `-` and `_` only");
            problems.add("cluster", reason);
        }
        if let Err(error) = names::pool(&self.pool) {
            problems.add("pool", error.to_string());
        }
        for (key, is_missing) in
            [("shards", self.shards == 0), ("leases_max", self.leases_max == 0)]
        {
            if is_missing {
                problems.add(key, "is 0, at least 1 is needed");
            }
        }
        let intervals = [
            ("lease_wait", self.lease_wait),
            ("heartbeat_interval", self.heartbeat_interval),
            ("sync_interval", self.sync_interval),
            ("sync_first_timeout", self.sync_first_timeout),
        ];
        for (key, interval) in intervals {
            if interval.0.is_zero() {
                problems.add(key, "is 0, more is needed");
            }
        }
        let counts = [
            ("local.pods", self.local.pods),
            ("simulated.nodes", self.simulated.nodes),
            ("simulated.pods", self.simulated.pods),
        ];
        for (key, count) in counts {
            if count == 0 {
                problems.add(key, "is 0, at least 1 is needed");
            }
        }
        problems.within("local", |problems| {
            for (key, text) in [("cpu", &self.local.cpu), ("memory", &self.local.memory)] {
                if !text.is_empty() {
                    check_quantity(key, text, problems);
                }
            }
        });
        problems.within("simulated", |problems| self.simulated.validate(problems));
        problems.within("kubernetes", |problems| self.kubernetes.validate(problems));
        let is_label = crate::backend::kubernetes::is_label_value(&self.cluster);
        if self.backend == BackendKind::Kubernetes && !is_label {
            let name = &self.cluster;
            let reason = format!(
                "`{name}` cannot be the value of a label: 63 characters at most, the first and the last a letter or digit"
            );
            problems.add("cluster", reason);
        }
    }
}

impl SimulatedConfig {
    fn validate(&self, problems: &mut Problems) {
        check_quantity("cpu", &self.cpu, problems);
        check_quantity("memory", &self.memory, problems);
        if !(0.0..=1.0).contains(&self.failure_rate) {
            problems.add("failure_rate", format!("{} is not from 0 to 1", self.failure_rate));
        }
        let mut names = BTreeSet::new();
        for group in &self.groups {
            if !names.insert(&group.name) {
                problems.add("groups", format!("there are two of the name `{}`", group.name));
            }
            problems.within(&format!("groups.{}", group.name), |problems| group.validate(problems));
        }
    }
}

impl NodeGroup {
    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = names::namespace(&self.name) {
            problems.add("name", error.to_string());
        }
        let more = self.resources.iter().map(|(name, text)| (name.as_str(), text));
        let own = [("cpu", &self.cpu), ("memory", &self.memory)];
        let own = own.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?)));
        for (key, text) in own.chain(more) {
            check_quantity(key, text, problems);
        }
        if let Some(Err(error)) = self.labels.get(POOL_LABEL).map(|pool| names::pool(pool)) {
            problems.add("labels", error.to_string());
        }
    }
}

fn check_quantity(key: &str, text: &str, problems: &mut Problems) {
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity.is_negative() => problems.add(key, format!("{text} is below 0")),
        Ok(_) => {}
        Err(error) => problems.add(key, error.to_string()),
    }
}
